/* Parts of a data set: by index, by a share of each class, by a list of names. */
#include "tests/recipes/data/files.h"

static tsr_dataset *open_digits(int n, int classes)
{
    write_idx("train", n, classes);
    tsr_dataset *whole = tsr_dataset_open(test_folder, "train");
    assert_ok();
    return whole;
}

static void assert_images(tsr_dataset *subset, tsr_dataset *whole, const int64_t *indices,
                          int64_t n)
{
    tsr_image a = {0}, b = {0};
    assert_non_null(subset);
    assert_int_equal(tsr_dataset_count(subset), n);
    for (int64_t i = 0; i < n; i++) {
        char name_a[TSR_DATASET_NAME], name_b[TSR_DATASET_NAME];
        assert_int_equal(tsr_dataset_label(subset, i), tsr_dataset_label(whole, indices[i]));
        assert_string_equal(tsr_dataset_name(subset, i, name_a),
                            tsr_dataset_name(whole, indices[i], name_b));
        assert_int_equal(tsr_dataset_load(subset, i, 0, &a, NULL), TSR_STATUS_OK);
        assert_int_equal(tsr_dataset_load(whole, indices[i], 0, &b, NULL), TSR_STATUS_OK);
        assert_memory_equal(a.pixels, b.pixels, (size_t)(a.height * a.width * 3));
    }
    tsr_image_free(&a);
    tsr_image_free(&b);
}

static void test_subset__has_the_images_of_its_indices(void **state)
{
    (void)state;
    tsr_dataset *whole = open_digits(20, 3);
    const int64_t indices[] = {19, 0, 7, 7}, outside[] = {3, 20};
    tsr_dataset *subset = tsr_dataset_subset(whole, indices, 4);
    assert_images(subset, whole, indices, 4);
    assert_int_equal(tsr_dataset_classes(subset), 3);
    assert_string_equal(tsr_dataset_class_name(subset, 2), tsr_dataset_class_name(whole, 2));
    assert_string_equal(tsr_dataset_kind(subset), "IDX");
    tsr_dataset_close(&subset);
    assert_null(tsr_dataset_subset(whole, outside, 2));
    assert_failed(TSR_STATUS_ARGUMENT, "image 20 of 20");
    assert_null(tsr_dataset_subset(whole, outside, 0));
    assert_failed(TSR_STATUS_ARGUMENT, "no image");
    tsr_dataset_close(&whole);
}

/* 0, 1, ..: which images of the whole a subset has, by their names "file[i]". */
static void indices_of(const tsr_dataset *subset, int64_t *out)
{
    for (int64_t i = 0; i < tsr_dataset_count(subset); i++) {
        char name[TSR_DATASET_NAME];
        out[i] = atoll(strchr(tsr_dataset_name(subset, i, name), '[') + 1);
    }
}

static void test_subset__a_fraction_takes_its_share_of_each_class(void **state)
{
    (void)state;
    enum { N = 250, CLASSES = 4 };
    static const struct {
        double fraction;
        int64_t share[CLASSES]; /* of 63, 63, 62 and 62 images */
    } cases[] = {{0.1, {6, 6, 6, 6}},
                 {0.5, {32, 32, 31, 31}},
                 {1e-6, {1, 1, 1, 1}},
                 {1.0, {63, 63, 62, 62}}};
    tsr_dataset *whole = open_digits(N, CLASSES);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        tsr_dataset *a = tsr_dataset_label_fraction(whole, cases[k].fraction, 7);
        tsr_dataset *again = tsr_dataset_label_fraction(whole, cases[k].fraction, 7);
        tsr_dataset *other = tsr_dataset_label_fraction(whole, cases[k].fraction, 8);
        int64_t share[CLASSES] = {0}, i_a[N], i_again[N], i_other[N], n = tsr_dataset_count(a);
        assert_ok();
        for (int64_t i = 0; i < n; i++) share[tsr_dataset_label(a, i)]++;
        for (int c = 0; c < CLASSES; c++) assert_int_equal(share[c], cases[k].share[c]);
        indices_of(a, i_a);
        indices_of(again, i_again);
        indices_of(other, i_other);
        assert_int_equal(tsr_dataset_count(again), n);
        assert_memory_equal(i_a, i_again, (size_t)n * sizeof *i_a);
        assert_true((memcmp(i_a, i_other, (size_t)n * sizeof *i_a) == 0) == (k == 3));
        for (int64_t i = 1; i < n; i++) assert_true(i_a[i] > i_a[i - 1]);
        tsr_dataset_close(&a);
        tsr_dataset_close(&again);
        tsr_dataset_close(&other);
    }
    assert_null(tsr_dataset_label_fraction(whole, 0.0, 7));
    assert_failed(TSR_STATUS_ARGUMENT, "more than 0");
    assert_null(tsr_dataset_label_fraction(whole, (double)NAN, 7));
    assert_failed(TSR_STATUS_ARGUMENT, "more than 0");
    tsr_dataset_close(&whole);
}

/* A smaller share of one seed is part of a larger one. */
static void test_subset__smaller_fractions_are_within_larger_ones(void **state)
{
    (void)state;
    tsr_dataset *whole = open_digits(250, 4);
    tsr_dataset *small = tsr_dataset_label_fraction(whole, 0.1, 3);
    tsr_dataset *large = tsr_dataset_label_fraction(whole, 0.3, 3);
    int64_t a[250], b[250], found = 0;
    indices_of(small, a);
    indices_of(large, b);
    for (int64_t i = 0; i < tsr_dataset_count(small); i++) {
        for (int64_t k = 0; k < tsr_dataset_count(large); k++) found += a[i] == b[k];
    }
    assert_int_equal(found, tsr_dataset_count(small));
    tsr_dataset_close(&small);
    tsr_dataset_close(&large);
    tsr_dataset_close(&whole);
}

static void make_birds(void)
{
    make_folder("crow");
    make_folder("wren");
    write_jpeg("crow/a.jpg", 8, 8, 10);
    write_jpeg("crow/b.jpg", 8, 8, 50);
    write_jpeg("wren/b.jpg", 8, 8, 90);
    write_jpeg("wren/c d.jpg", 8, 8, 130);
}

static tsr_dataset *take_list(tsr_dataset *whole, const char *text)
{
    write_file("list.txt", text, strlen(text));
    return tsr_dataset_label_list(whole, file_path("list.txt"));
}

static void test_subset__a_list_names_images_with_or_without_folders(void **state)
{
    (void)state;
    make_birds();
    tsr_dataset *whole = tsr_dataset_open(test_folder, NULL);
    assert_int_equal(tsr_dataset_count(whole), 4);
    static const struct {
        const char *text;
        int64_t n, indices[4];
    } cases[] = {
        {"wren/b.jpg\ncrow/a.jpg\n", 2, {0, 2}},
        {"c d.jpg\r\n\n  a.jpg \t\r\na.jpg\n", 2, {0, 3}},
        {"crow/b.jpg", 1, {1}},
        {"wren/c d.jpg\nwren/b.jpg\ncrow/b.jpg\ncrow/a.jpg", 4, {0, 1, 2, 3}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tsr_dataset *subset = take_list(whole, cases[i].text);
        assert_ok();
        assert_images(subset, whole, cases[i].indices, cases[i].n);
        tsr_dataset_close(&subset);
    }
    tsr_dataset_close(&whole);
}

static void test_subset__bad_lists_are_named(void **state)
{
    (void)state;
    make_birds();
    tsr_dataset *whole = tsr_dataset_open(test_folder, NULL);
    assert_null(take_list(whole, "a.jpg\nwren/a.jpg\n"));
    assert_failed(TSR_STATUS_ARGUMENT, "\"wren/a.jpg\" is the name of no image");
    assert_null(take_list(whole, "b.jpg\n"));
    assert_failed(TSR_STATUS_ARGUMENT, "\"b.jpg\" is the name of several images");
    assert_null(take_list(whole, " \n\r\n"));
    assert_failed(TSR_STATUS_FORMAT, "no names");
    assert_null(take_list(whole, ""));
    assert_failed(TSR_STATUS_FORMAT, "empty file");
    assert_null(tsr_dataset_label_list(whole, file_path("none.txt")));
    assert_failed(TSR_STATUS_IO, "none.txt");
    tsr_dataset_close(&whole);
}

static void test_subset__an_unreadable_image_is_replaced_by_another_of_it(void **state)
{
    (void)state;
    make_birds();
    write_file("crow/b.jpg", "not a picture", 13);
    tsr_dataset *whole = tsr_dataset_open(test_folder, NULL);
    tsr_dataset *subset = take_list(whole, "crow/b.jpg\nwren/c d.jpg\n");
    tsr_image image = {0};
    int64_t loaded;
    assert_int_equal(tsr_dataset_load(subset, 0, 0, &image, &loaded), TSR_STATUS_OK);
    assert_int_equal(loaded, 1);
    assert_in_range(image.pixels[0], 120, 140);
    assert_int_equal(tsr_dataset_problems(whole, NULL, 0, NULL), 1);
    tsr_image_free(&image);
    tsr_dataset_close(&subset);
    tsr_dataset_close(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        files_test(test_subset__has_the_images_of_its_indices),
        files_test(test_subset__a_fraction_takes_its_share_of_each_class),
        files_test(test_subset__smaller_fractions_are_within_larger_ones),
        files_test(test_subset__a_list_names_images_with_or_without_folders),
        files_test(test_subset__bad_lists_are_named),
        files_test(test_subset__an_unreadable_image_is_replaced_by_another_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
