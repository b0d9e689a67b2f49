/* WebDataset shards: what is a sample, its label, and archives that are damaged or hostile. */
#include "tests/recipes/data/files.h"

/* An archive that grows in memory. */
struct archive {
    uint8_t bytes[1 << 17];
    size_t used;
};

static struct archive tar;

/* A header of any type and size field, then data. */
static void entry(char type, const char *name, const char *size, const void *data, size_t bytes)
{
    uint8_t *h = tar.bytes + tar.used;
    memset(h, 0, 512);
    memcpy(h, name, strnlen(name, 100));
    memcpy(h + 124, size, 12);
    h[156] = (uint8_t)type;
    memcpy(h + 257, "ustar\00000", 8);
    memset(h + 148, ' ', 8);
    unsigned sum = 0;
    for (int i = 0; i < 512; i++) sum += h[i];
    snprintf((char *)h + 148, 8, "%06o", sum);
    memcpy(h + 512, data, bytes);
    size_t padded = (bytes + 511) / 512 * 512;
    memset(h + 512 + bytes, 0, padded - bytes);
    tar.used += 512 + padded;
}

static void add(char type, const char *name, const void *data, size_t bytes)
{
    char size[16];
    snprintf(size, sizeof size, "%011zo", bytes);
    entry(type, name, size, data, bytes);
}

static void add_text(const char *name, const char *text)
{
    add('0', name, text, strlen(text));
}

/* A JPEG whose red byte is given. */
static void add_image(const char *name, int red)
{
    char data[8192];
    write_jpeg("one.jpg", 8, 8, red);
    FILE *f = fopen(file_path("one.jpg"), "rb");
    size_t n = fread(data, 1, sizeof data, f);
    fclose(f);
    remove(file_path("one.jpg"));
    add('0', name, data, n);
}

static void finish(const char *name)
{
    memset(tar.bytes + tar.used, 0, 1024);
    write_file(name, tar.bytes, tar.used + 1024);
    tar.used = 0;
}

static tsr_dataset *open_shards(const char *name)
{
    tsr_dataset *data = tsr_dataset_open(file_path(name), NULL);
    assert_ok();
    assert_string_equal(tsr_dataset_kind(data), "shards");
    return data;
}

static int red_of(tsr_dataset *data, int64_t i)
{
    tsr_image image = {0};
    int64_t loaded;
    assert_int_equal(tsr_dataset_load(data, i, 0, &image, &loaded), TSR_STATUS_OK);
    assert_int_equal(loaded, i);
    int red = image.pixels[0];
    tsr_image_free(&image);
    return red;
}

static void test_shards__files_of_one_basename_are_a_sample(void **state)
{
    (void)state;
    add_text("a/1.cls", "2\n");
    add_image("a/1.jpg", 20);
    add_text("a/1.json", "{\"label\": 0}"); /* the first label counts */
    add_image("a/2.seg.jpg", 99);           /* its extension is "seg.jpg" */
    add_text("a/2.cls", "0");
    add_image("a/2.JPEG", 40);
    add_text("only/words.txt", "no image");
    add_image("a/._hidden.jpg", 60);
    add('5', "a/folder.jpg", "", 0);
    add_image("b/3.jpg", 80);
    add_text("b/3.json", "{\"cls\": 1}");
    finish("s.tar");
    tsr_dataset *data = open_shards("s.tar");
    assert_int_equal(tsr_dataset_count(data), 3);
    assert_int_equal(tsr_dataset_classes(data), 3);
    assert_string_equal(tsr_dataset_class_name(data, 2), "2");
    static const int labels[] = {2, 0, 1}, reds[] = {20, 40, 80};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(tsr_dataset_label(data, i), labels[i]);
        assert_true(abs(red_of(data, i) - reds[i]) <= 3);
    }
    char name[TSR_DATASET_NAME];
    assert_string_equal(tsr_dataset_name(data, 1, name), "s.tar:a/2.JPEG");
    tsr_dataset_close(&data);
}

static void test_shards__labels_are_words_or_missing(void **state)
{
    (void)state;
    add_image("1.jpg", 0);
    add_text("1.txt", " tabby\n");
    add_image("2.jpg", 0);
    add_text("2.json", "{\"label\": \"dog\"}");
    add_image("3.jpg", 0);
    add_text("3.cls", "tabby");
    finish("words.tar");
    tsr_dataset *data = open_shards("words.tar");
    assert_int_equal(tsr_dataset_classes(data), 2);
    assert_string_equal(tsr_dataset_class_name(data, 0), "dog");
    static const int labels[] = {1, 0, 1};
    for (int i = 0; i < 3; i++) assert_int_equal(tsr_dataset_label(data, i), labels[i]);
    tsr_dataset_close(&data);
    add_image("1.jpg", 0);
    add_text("1.txt", "a caption of several words");
    add_image("2.jpg", 0);
    add_text("2.cls", "1");
    finish("words.tar");
    data = open_shards("words.tar");
    assert_int_equal(tsr_dataset_classes(data), 0);
    assert_int_equal(tsr_dataset_label(data, 1), -1);
    tsr_dataset_close(&data);
}

static void test_shards__long_names_are_gnus_and_pax(void **state)
{
    (void)state;
    char name[300], record[400];
    memset(name, 'n', 250);
    strcpy(name + 250, "/1.jpg");
    add('L', "././@LongLink", name, strlen(name) + 1);
    add_image("cut", 30);
    name[0] = 'm';
    snprintf(record, sizeof record, "%d path=%s\n", (int)strlen(name) + 10, name);
    add('x', "PaxHeaders/1", record, strlen(record));
    add_image("cut", 60);
    add_image("short.jpg", 90);
    finish("s.tar");
    tsr_dataset *data = open_shards("s.tar");
    assert_int_equal(tsr_dataset_count(data), 3);
    for (int i = 0; i < 3; i++) assert_true(abs(red_of(data, i) - 30 * (i + 1)) <= 3);
    char got[TSR_DATASET_NAME];
    assert_string_equal(strchr(tsr_dataset_name(data, 1, got), ':') + 1, name);
    tsr_dataset_close(&data);
}

static void test_shards__patterns_name_several(void **state)
{
    (void)state;
    for (int k = 8; k < 11; k++) {
        char name[32];
        add_image("x.jpg", 20 * k);
        snprintf(name, sizeof name, "train-%03d.tar", k);
        finish(name);
    }
    add_image("x.jpg", 5);
    finish("val-0.tar");
    static const struct {
        const char *pattern;
        int n;
    } cases[] = {
        {"train-{008..010}.tar", 3},       {"train-0{08,10}.tar", 2},       {"train-00*.tar", 2},
        {"{train,val}-{000,008}*.tar", 0}, {"{val-0,train-00[89]}.tar", 3}, {"", 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tsr_dataset *data = tsr_dataset_open(file_path(cases[i].pattern), NULL);
        if (cases[i].n == 0) {
            assert_null(data);
            assert_failed(TSR_STATUS_IO, "there is no such file");
            continue;
        }
        assert_ok();
        assert_int_equal(tsr_dataset_count(data), cases[i].n);
        tsr_dataset_close(&data);
    }
    tsr_dataset *val = tsr_dataset_open(file_path(""), "val");
    assert_ok();
    assert_true(abs(red_of(val, 0) - 5) <= 3);
    tsr_dataset_close(&val);
    assert_null(tsr_dataset_open(file_path("train-{0..999999999}.tar"), NULL));
    assert_failed(TSR_STATUS_ARGUMENT, "a range of shards");
    assert_null(tsr_dataset_open(file_path("train-008.tar"), "val"));
    assert_failed(TSR_STATUS_ARGUMENT, "has no split 'val'");
}

static void refuse(const char *what, tsr_status status)
{
    finish("bad.tar");
    assert_null(tsr_dataset_open(file_path("bad.tar"), NULL));
    assert_failed(status, what);
}

static void test_shards__hostile_archives_are_refused(void **state)
{
    (void)state;
    add_text("none.txt", "x");
    refuse("no .jpg or .jpeg in the shards", TSR_STATUS_FORMAT);
    entry('0', "a.jpg", "77777777777", "x", 1);
    refuse("longer than the file", TSR_STATUS_FORMAT);
    entry('0', "a.jpg", "\x80\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "x", 1);
    refuse("longer than the file", TSR_STATUS_FORMAT);
    entry('0', "a.jpg", "12x00000000", "x", 1);
    refuse("longer than the file", TSR_STATUS_FORMAT);
    add('x', "pax", "99 path=a.jpg\n", 14);
    refuse("a pax header that cannot be read", TSR_STATUS_FORMAT);
    add('x', "pax", "23 size=9999999999999\n\n", 23);
    refuse("a pax header that cannot be read", TSR_STATUS_FORMAT);
    add('x', "pax", "22 size=9999999999999\n", 22);
    add_image("a.jpg", 9);
    refuse("longer than the file", TSR_STATUS_FORMAT);
    static char huge[70000];
    memset(huge, 'a', sizeof huge);
    add('L', "long", huge, sizeof huge);
    refuse("a header of unreasonable size", TSR_STATUS_FORMAT);
    add_image("a.jpg", 9);
    tar.bytes[0] ^= 1;
    refuse("no tar header at byte 0", TSR_STATUS_FORMAT);
    add_image("a.jpg", 9);
    add_text("a.cls", "999999999");
    refuse("a label is 999999999", TSR_STATUS_FORMAT);
}

/* A file that shrank since it was indexed, and one that is no JPEG, are problems of one image. */
static void test_shards__a_damaged_image_is_replaced(void **state)
{
    (void)state;
    add_image("1.jpg", 50);
    add_text("2.jpg", "not a JPEG");
    add_image("3.jpg", 70);
    size_t bytes = tar.used;
    finish("s.tar");
    tsr_dataset *data = open_shards("s.tar");
    assert_int_equal(truncate(file_path("s.tar"), (off_t)bytes - 512), 0);
    tsr_image image = {0};
    int64_t loaded, skipped;
    assert_int_equal(tsr_dataset_load(data, 1, 0, &image, &loaded), TSR_STATUS_OK);
    assert_int_equal(loaded, 0);
    assert_int_equal(tsr_dataset_problems(data, NULL, 0, &skipped), 2);
    assert_int_equal(skipped, 2);
    tsr_image_free(&image);
    tsr_dataset_close(&data);
}

/* What training sees does not depend on where the files lie. */
static void test_shards__same_batches_as_the_folder(void **state)
{
    (void)state;
    make_folder("folder");
    make_folder("folder/a");
    make_folder("folder/b");
    for (int i = 0; i < 10; i++) {
        char name[64], entry_name[64], number[8];
        snprintf(name, sizeof name, "folder/%c/%d.jpg", i < 4 ? 'a' : 'b', i);
        write_jpeg(name, 40, 30 + i, 25 * i);
        char data[8192];
        FILE *f = fopen(file_path(name), "rb");
        size_t n = fread(data, 1, sizeof data, f);
        fclose(f);
        snprintf(entry_name, sizeof entry_name, "%03d.jpg", i);
        snprintf(number, sizeof number, "%03d.cls", i);
        add('0', entry_name, data, n);
        add_text(number, i < 4 ? "0" : "1");
        if (i == 6) finish("s-0.tar");
    }
    finish("s-1.tar");
    tsr_dataset *sets[2] = {tsr_dataset_open(file_path("folder"), NULL),
                            tsr_dataset_open(file_path("s-{0..1}.tar"), NULL)};
    assert_ok();
    tsr_view_spec specs[] = {tsr_view_ibot_global1(16), tsr_view_ibot_local(8, 2)};
    tsr_views views = {specs, 2};
    tsr_loader *loaders[2];
    for (int k = 0; k < 2; k++) {
        tsr_loader_options o = {.batch = 4, .workers = 1 + k, .seed = 5, .end_epoch = 2};
        loaders[k] = tsr_loader_open_views(sets[k], &views, &o);
    }
    static const char *const fields[] = {"global", "local", "label", "index"};
    int batches = 0;
    for (;; batches++) {
        const tsr_batch *a = tsr_loader_next(loaders[0]), *b = tsr_loader_next(loaders[1]);
        assert_int_equal(a == NULL, b == NULL);
        if (a == NULL) break;
        for (int f = 0; f < 4; f++) {
            assert_same(tsr_batch_tensor(a, fields[f]), tsr_batch_tensor(b, fields[f]));
        }
    }
    assert_ok();
    assert_int_equal(batches, 4);
    for (int k = 0; k < 2; k++) {
        tsr_loader_close(&loaders[k]);
        tsr_dataset_close(&sets[k]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        files_test(test_shards__files_of_one_basename_are_a_sample),
        files_test(test_shards__labels_are_words_or_missing),
        files_test(test_shards__long_names_are_gnus_and_pax),
        files_test(test_shards__patterns_name_several),
        files_test(test_shards__hostile_archives_are_refused),
        files_test(test_shards__a_damaged_image_is_replaced),
        files_test(test_shards__same_batches_as_the_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
