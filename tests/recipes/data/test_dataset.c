/* Finding out what lies in a folder, and reading it; what is broken is named, skipped, refused. */
#include "tests/recipes/data/files.h"

#include <zlib.h>

static tsr_dataset *open_ok(const char *split)
{
    tsr_dataset *data = tsr_dataset_open(test_folder, split);
    assert_ok();
    assert_non_null(data);
    return data;
}

static void assert_refused(const char *split, tsr_status status, const char *text)
{
    assert_null(tsr_dataset_open(test_folder, split));
    assert_failed(status, text);
}

static void assert_name(const tsr_dataset *data, int64_t i, const char *want)
{
    char name[TSR_DATASET_NAME];
    assert_string_equal(tsr_dataset_name(data, i, name), want);
}

static int red_of(tsr_dataset *data, int64_t i)
{
    tsr_image image = {0};
    tsr_dataset_load(data, i, 0, &image, NULL);
    assert_ok();
    int red = image.pixels[0];
    tsr_image_free(&image);
    return red;
}

static void test_dataset__class_folders_are_sorted_as_torchvision_does(void **state)
{
    (void)state;
    static const char *const folders[] = {"b", "a", "a/x", "a/x-y", "C", ".hidden"};
    for (int i = 0; i < 6; i++) make_folder(folders[i]);
    /* By the folder's path, then by name. '-' comes before '/', but a path has no '/' at its end:
     * a, a/x, a/x-y. */
    static const char *const names[] = {"b/2.JPG",     "b/10.jpeg",   "a/z.jpg",
                                        "a/x/1.jpg",   "a/x-y/0.jpg", "a/.no.jpg",
                                        "b/notes.txt", "loose.jpg",   ".hidden/h.jpg"};
    for (int i = 0; i < 9; i++) write_jpeg(names[i], 9, 9, 25 * i);
    tsr_dataset *data = open_ok(NULL);
    assert_string_equal(tsr_dataset_kind(data), "image folder");
    assert_int_equal(tsr_dataset_classes(data), 3);
    static const char *const classes[] = {"C", "a", "b"};
    for (int c = 0; c < 3; c++) assert_string_equal(tsr_dataset_class_name(data, c), classes[c]);
    assert_null(tsr_dataset_class_name(data, 3));
    assert_int_equal(tsr_dataset_count(data), 5);
    static const char *const want[] = {"a/z.jpg", "a/x/1.jpg", "a/x-y/0.jpg", "b/10.jpeg",
                                       "b/2.JPG"};
    static const int labels[] = {1, 1, 1, 2, 2}, reds[] = {50, 75, 100, 25, 0};
    for (int i = 0; i < 5; i++) {
        assert_name(data, i, want[i]);
        assert_int_equal(tsr_dataset_label(data, i), labels[i]);
        assert_true(abs(red_of(data, i) - reds[i]) <= 3);
    }
    assert_int_equal(tsr_dataset_label(data, 5), -1);
    tsr_dataset_close(&data);
    assert_null(data);
}

static void test_dataset__flat_folders_have_no_labels(void **state)
{
    (void)state;
    write_jpeg("b.jpg", 9, 9, 10);
    write_jpeg("a.jpg", 9, 9, 200);
    make_folder("empty");
    tsr_dataset *data = open_ok("train");
    assert_string_equal(tsr_dataset_kind(data), "flat folder");
    assert_int_equal(tsr_dataset_count(data), 2);
    assert_int_equal(tsr_dataset_classes(data), 0);
    assert_int_equal(tsr_dataset_label(data, 0), -1);
    assert_name(data, 0, "a.jpg");
    tsr_dataset_close(&data);
    assert_refused("val", TSR_STATUS_ARGUMENT, "has no split 'val'");
}

static void test_dataset__splits_are_folders(void **state)
{
    (void)state;
    make_folder("train"), make_folder("train/a"), make_folder("val"), make_folder("val/a");
    write_jpeg("train/a/1.jpg", 9, 9, 10);
    write_jpeg("train/a/2.jpg", 9, 9, 10);
    write_jpeg("val/a/3.jpg", 9, 9, 10);
    static const char *const splits[] = {NULL, "train", "val", "test"};
    static const int counts[] = {2, 2, 1, 1};
    for (int i = 0; i < 4; i++) {
        tsr_dataset *data = open_ok(splits[i]);
        assert_int_equal(tsr_dataset_count(data), counts[i]);
        assert_int_equal(tsr_dataset_classes(data), 1);
        tsr_dataset_close(&data);
    }
    assert_refused("dev", TSR_STATUS_ARGUMENT, "split 'dev', expected train, val or test");
}

static void test_dataset__a_class_named_train_is_a_class(void **state)
{
    (void)state;
    make_folder("train");
    write_jpeg("train/1.jpg", 9, 9, 10);
    tsr_dataset *data = open_ok(NULL);
    assert_string_equal(tsr_dataset_kind(data), "flat folder"); /* alone it is a split */
    tsr_dataset_close(&data);
    make_folder("bus");
    write_jpeg("bus/1.jpg", 9, 9, 10);
    data = open_ok(NULL);
    assert_int_equal(tsr_dataset_classes(data), 2);
    assert_int_equal(tsr_dataset_count(data), 2);
    tsr_dataset_close(&data);
    data = open_ok("train"); /* who asks for it gets it */
    assert_int_equal(tsr_dataset_count(data), 1);
    tsr_dataset_close(&data);
    make_folder("val");
    data = open_ok(NULL);
    assert_int_equal(tsr_dataset_count(data), 1);
    tsr_dataset_close(&data);
}

static void test_dataset__errors_say_what_was_found(void **state)
{
    (void)state;
    assert_refused(NULL, TSR_STATUS_FORMAT, "no images in");
    write_file("a.png", "x", 1);
    write_file("b.png", "x", 1);
    assert_refused(NULL, TSR_STATUS_FORMAT, "2 pictures as .png but no .jpg");
    assert_null(tsr_dataset_open(file_path("a.png"), NULL));
    assert_failed(TSR_STATUS_ARGUMENT, "a.png is a file");
    assert_null(tsr_dataset_open(file_path("none"), NULL));
    assert_failed(TSR_STATUS_IO, "none: No such file");
    assert_null(tsr_dataset_open("", NULL));
    assert_failed(TSR_STATUS_ARGUMENT, "no path");
    make_folder("val"), make_folder("val/a");
    write_jpeg("val/a/1.jpg", 9, 9, 1);
    assert_refused("train", TSR_STATUS_ARGUMENT, "has no split 'train'");
    make_folder("loop");
    assert_int_equal(symlink("..", file_path("loop/back")), 0);
    assert_refused(NULL, TSR_STATUS_FORMAT, "folders deep");
}

static void test_dataset__broken_images_are_replaced_by_the_next(void **state)
{
    (void)state;
    static const char *const names[] = {"0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg"};
    for (int i = 0; i < 3; i++) write_jpeg(names[i], 32, 32, 60 * i + 20);
    make_folder("3.jpg"); /* a folder of that name */
    write_file("4.jpg", "\x89PNG....", 8);
    struct stat whole;
    assert_int_equal(stat(file_path("2.jpg"), &whole), 0);
    assert_int_equal(truncate(file_path("2.jpg"), whole.st_size - 10), 0);
    tsr_image image = {0};
    tsr_dataset *data = open_ok(NULL);
    assert_int_equal(tsr_dataset_count(data), 5);
    int64_t loaded;
    for (int again = 0; again < 2; again++) {
        static const int64_t want[] = {0, 1, 2, 0, 0};
        for (int i = 0; i < 5; i++) {
            assert_int_equal(tsr_dataset_load(data, i, 0, &image, &loaded), TSR_STATUS_OK);
            assert_int_equal(loaded, want[i]);
            assert_ok();
        }
    }
    tsr_dataset_problem problems[3];
    int64_t skipped;
    assert_int_equal(tsr_dataset_problems(data, problems, 3, &skipped), 3);
    assert_int_equal(skipped, 2);
    assert_false(problems[0].skipped);
    assert_string_equal(problems[0].text, "2.jpg: truncated");
    assert_non_null(strstr(problems[1].text, "3.jpg: not a regular file"));
    assert_non_null(strstr(problems[2].text, "4.jpg: not a JPEG; it looks like a PNG"));
    assert_int_equal(problems[2].index, 4);
    tsr_dataset_load(data, 5, 0, &image, NULL);
    assert_failed(TSR_STATUS_ARGUMENT, "image 5 of 5");
    tsr_dataset_close(&data);
    tsr_image_free(&image);
}

static void test_dataset__a_set_without_one_readable_image_is_an_error(void **state)
{
    (void)state;
    write_file("a.jpg", "nothing", 7);
    write_file("b.jpg", "nothing", 7);
    tsr_dataset *data = open_ok(NULL);
    tsr_image image = {0};
    tsr_dataset_load(data, 1, 0, &image, NULL);
    assert_failed(TSR_STATUS_FORMAT, "none of its 2 images can be read; the first: ");
    tsr_dataset_load(data, 0, 0, &image, NULL);
    assert_failed(TSR_STATUS_FORMAT, "a.jpg: not a JPEG");
    tsr_dataset_close(&data);
}

static void test_dataset__idx_pairs_plain_and_gzipped(void **state)
{
    (void)state;
    write_idx("train", 300, 4);
    write_idx("t10k", 7, 3);
    /* The test images compressed, in place of the plain ones. */
    FILE *plain = fopen(file_path("t10k-images-idx3-ubyte"), "rb");
    uint8_t bytes[16 + 7 * 30];
    assert_int_equal(fread(bytes, 1, sizeof bytes, plain), sizeof bytes);
    fclose(plain);
    remove(file_path("t10k-images-idx3-ubyte"));
    gzFile file = gzopen(file_path("t10k-images-idx3-ubyte.gz"), "wb");
    assert_int_equal(gzwrite(file, bytes, sizeof bytes), sizeof bytes);
    gzclose(file);

    tsr_dataset *data = open_ok(NULL);
    assert_string_equal(tsr_dataset_kind(data), "IDX");
    assert_int_equal(tsr_dataset_count(data), 300);
    assert_int_equal(tsr_dataset_classes(data), 4);
    assert_string_equal(tsr_dataset_class_name(data, 3), "3");
    assert_int_equal(tsr_dataset_label(data, 299), 3);
    assert_name(data, 299, "train-images-idx3-ubyte[299]");
    tsr_image image = {0};
    assert_int_equal(tsr_dataset_load(data, 299, 0, &image, NULL), TSR_STATUS_OK);
    assert_true(image.grey && tsr_dataset_is_grey(data));
    assert_int_equal(image.height, 6);
    assert_int_equal(image.width, 5);
    for (int k = 0; k < 30; k++) {
        for (int c = 0; c < 3; c++) assert_int_equal(image.pixels[3 * k + c], (31 * 299 + k) % 251);
    }
    tsr_dataset_close(&data);
    static const char *const splits[] = {"val", "test"};
    for (int i = 0; i < 2; i++) {
        data = open_ok(splits[i]);
        assert_int_equal(tsr_dataset_count(data), 7);
        assert_int_equal(tsr_dataset_classes(data), 3);
        assert_name(data, 6, "t10k-images-idx3-ubyte.gz[6]");
        assert_int_equal(red_of(data, 2), 62);
        tsr_dataset_close(&data);
    }
    tsr_image_free(&image);
}

/* An IDX header with these sizes, and `body` bytes after it. */
static void write_images(uint32_t count, uint32_t rows, uint32_t columns, size_t body)
{
    uint8_t *data = calloc(16 + body, 1);
    assert_non_null(data);
    uint32_t sizes[3] = {count, rows, columns};
    data[2] = 8, data[3] = 3;
    for (int d = 0; d < 3; d++) {
        for (int b = 0; b < 4; b++) data[4 + 4 * d + b] = (uint8_t)(sizes[d] >> (24 - 8 * b));
    }
    write_file("train-images-idx3-ubyte", data, 16 + body);
    free(data);
}

static void test_dataset__hostile_idx_files_are_refused(void **state)
{
    (void)state;
    write_images(10, 5, 5, 249);
    assert_refused(NULL, TSR_STATUS_FORMAT, "249 bytes of data, expected 250");
    /* 16 GiB announced: no more than a few megabytes may be asked for. */
    write_images(1 << 24, 32, 32, 1000);
    tsr_pool_peak_reset();
    assert_refused(NULL, TSR_STATUS_FORMAT, "1000 bytes of data, expected 17179869184");
    assert_true(tsr_pool_stats_get().peak < 8u << 20);
    write_images(0xffffffffu, 4096, 4096, 0);
    assert_refused(NULL, TSR_STATUS_FORMAT, "size 4294967295 in dimension 0");
    write_images(1 << 28, 4096, 4096, 0);
    assert_refused(NULL, TSR_STATUS_FORMAT, "at most 32 GiB");
    write_images(10, 0, 5, 0);
    assert_refused(NULL, TSR_STATUS_FORMAT, "size 0 in dimension 1");
    write_file("train-images-idx3-ubyte", "\0\0\x08\x03\0\0", 6);
    assert_refused(NULL, TSR_STATUS_FORMAT, "ends within its header");
    write_file("train-images-idx3-ubyte", "\0\0\x0d\x03", 4);
    assert_refused(NULL, TSR_STATUS_FORMAT, "IDX type 13");
    write_file("train-images-idx3-ubyte", "hello", 5);
    assert_refused(NULL, TSR_STATUS_FORMAT, "not an IDX file");
    write_file("train-images-idx3-ubyte", "", 0);
    assert_refused(NULL, TSR_STATUS_FORMAT, "not an IDX file");
    write_idx("train", 10, 2);
    write_file("train-labels-idx1-ubyte", "\0\0\x08\x01\0\0\0\x02\0\x01", 10);
    assert_refused(NULL, TSR_STATUS_FORMAT, "2 labels for 10 images");
    remove(file_path("train-labels-idx1-ubyte"));
    tsr_dataset *data = open_ok(NULL);
    assert_int_equal(tsr_dataset_classes(data), 0);
    tsr_dataset_close(&data);
    assert_refused("test", TSR_STATUS_ARGUMENT, "has no test images: expected t10k-images");
    /* A gzip stream that ends too early. */
    remove(file_path("train-images-idx3-ubyte"));
    write_file("train-images-idx3-ubyte.gz", "\x1f\x8b\x08\0\0\0\0\0\0\x03\x63\x60", 12);
    assert_refused(NULL, TSR_STATUS_FORMAT, "train-images-idx3-ubyte.gz");
}

/* n CIFAR records; label i % classes, red plane i, green plane 2 i, blue plane 3 i. */
static void write_cifar(const char *name, int n, int label_bytes, int classes)
{
    size_t record = (size_t)label_bytes + 3072;
    uint8_t *data = calloc((size_t)n, record);
    assert_non_null(data);
    for (int i = 0; i < n; i++) {
        uint8_t *p = data + (size_t)i * record;
        p[label_bytes - 1] = (uint8_t)(i % classes);
        for (int c = 0; c < 3; c++) memset(p + label_bytes + c * 1024, (c + 1) * i, 1024);
    }
    write_file(name, data, (size_t)n * record);
    free(data);
}

static void test_dataset__cifar_binaries(void **state)
{
    (void)state;
    make_folder("cifar-10-batches-bin");
    for (int i = 1; i <= 5; i++) {
        char name[64];
        snprintf(name, sizeof name, "cifar-10-batches-bin/data_batch_%d.bin", i);
        write_cifar(name, 3, 1, 10);
    }
    write_cifar("cifar-10-batches-bin/test_batch.bin", 2, 1, 10);
    write_file("cifar-10-batches-bin/batches.meta.txt", "airplane\nautomobile\r\n\n", 22);
    tsr_dataset *data = open_ok("train");
    assert_string_equal(tsr_dataset_kind(data), "CIFAR-10");
    assert_int_equal(tsr_dataset_count(data), 15);
    assert_int_equal(tsr_dataset_classes(data), 10);
    assert_string_equal(tsr_dataset_class_name(data, 1), "automobile");
    assert_string_equal(tsr_dataset_class_name(data, 2), "2");
    assert_int_equal(tsr_dataset_label(data, 5), 2);
    tsr_image image = {0};
    tsr_dataset_load(data, 14, 0, &image, NULL);
    assert_ok();
    static const uint8_t want[3] = {2, 4, 6};
    assert_memory_equal(image.pixels + 3 * 1023, want, 3);
    assert_false(image.grey || tsr_dataset_is_grey(data));
    tsr_dataset_close(&data);
    data = open_ok("test");
    assert_int_equal(tsr_dataset_count(data), 2);
    tsr_dataset_close(&data);
    tsr_image_free(&image);
    remove(file_path("cifar-10-batches-bin/data_batch_3.bin"));
    assert_refused("train", TSR_STATUS_IO, "data_batch_3.bin: No such file");
    write_file("cifar-10-batches-bin/data_batch_3.bin", "12345", 5);
    assert_refused("train", TSR_STATUS_FORMAT, "5 bytes, not a multiple of CIFAR-10's records");
    write_cifar("cifar-10-batches-bin/data_batch_3.bin", 12, 1, 11);
    assert_refused("train", TSR_STATUS_FORMAT, "label 10 in record 10, expected below 10");
}

static void test_dataset__cifar_100_uses_fine_labels(void **state)
{
    (void)state;
    write_cifar("train.bin", 120, 2, 100);
    write_cifar("test.bin", 4, 2, 100);
    tsr_dataset *data = open_ok(NULL);
    assert_string_equal(tsr_dataset_kind(data), "CIFAR-100");
    assert_int_equal(tsr_dataset_count(data), 120);
    assert_int_equal(tsr_dataset_classes(data), 100);
    assert_int_equal(tsr_dataset_label(data, 99), 99);
    assert_int_equal(red_of(data, 99), 99);
    tsr_dataset_close(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        files_test(test_dataset__class_folders_are_sorted_as_torchvision_does),
        files_test(test_dataset__flat_folders_have_no_labels),
        files_test(test_dataset__splits_are_folders),
        files_test(test_dataset__a_class_named_train_is_a_class),
        files_test(test_dataset__errors_say_what_was_found),
        files_test(test_dataset__broken_images_are_replaced_by_the_next),
        files_test(test_dataset__a_set_without_one_readable_image_is_an_error),
        files_test(test_dataset__idx_pairs_plain_and_gzipped),
        files_test(test_dataset__hostile_idx_files_are_refused),
        files_test(test_dataset__cifar_binaries),
        files_test(test_dataset__cifar_100_uses_fine_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
