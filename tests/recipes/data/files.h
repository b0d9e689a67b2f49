/* Files that tests write: a folder of their own, IDX and JPEG files in it. */
#ifndef TSR_TESTS_RECIPES_DATA_FILES_H
#define TSR_TESTS_RECIPES_DATA_FILES_H

#include "tests/test.h"

#include "recipes/data/data.h"

#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char test_folder[64];
static size_t test_in_use; /* bytes of the pool before the test */

static inline int remove_one(const char *path, const struct stat *s, int type, struct FTW *ftw)
{
    (void)s;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* Setup and teardown of a test that may write files below test_folder. It must give all memory
 * back. */
static inline int files_setup(void **state)
{
    strcpy(test_folder, "/tmp/tessera-data-XXXXXX");
    if (mkdtemp(test_folder) == NULL) return 1;
    test_in_use = tsr_pool_stats_get().in_use;
    return tsr_test_setup(state);
}

static inline int files_teardown(void **state)
{
    nftw(test_folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    tsr_test_teardown(state);
    size_t in_use = tsr_pool_stats_get().in_use;
    if (in_use != test_in_use) {
        print_error("the test leaves %zu bytes in use\n", in_use - test_in_use);
        return 1;
    }
    tsr_pool_trim();
    return 0;
}

#define files_test(f) cmocka_unit_test_setup_teardown(f, files_setup, files_teardown)

static inline const char *file_path(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", test_folder, name);
    return path;
}

static inline void make_folder(const char *name)
{
    assert_int_equal(mkdir(file_path(name), 0755), 0);
}

static inline void write_file(const char *name, const void *data, size_t bytes)
{
    FILE *file = fopen(file_path(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

/* A JPEG of one colour; its red byte (to within a step) tells which file it was. */
static inline void write_jpeg(const char *name, int height, int width, int red)
{
    tsr_image image = {0};
    tsr_image_resize_storage(&image, height, width);
    for (int i = 0; i < height * width; i++) {
        image.pixels[3 * i] = (uint8_t)red;
        image.pixels[3 * i + 1] = image.pixels[3 * i + 2] = 100;
    }
    tsr_jpeg_write(file_path(name), &image, 95);
    assert_ok();
    tsr_image_free(&image);
}

/* An IDX pair of n images, 6 x 5, whose bytes are (31 i + k) % 251; labels are i % classes. */
static inline void write_idx(const char *prefix, int n, int classes)
{
    enum { PIXELS = 30 };
    size_t bytes = 16 + (size_t)n * PIXELS;
    uint8_t *data = calloc(bytes, 1);
    assert_non_null(data);
    data[2] = 8, data[3] = 3, data[6] = (uint8_t)(n >> 8), data[7] = (uint8_t)n;
    data[11] = 6, data[15] = 5;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < PIXELS; k++) data[16 + i * PIXELS + k] = (uint8_t)((31 * i + k) % 251);
    }
    char name[64];
    snprintf(name, sizeof name, "%s-images-idx3-ubyte", prefix);
    write_file(name, data, bytes);
    data[3] = 1;
    for (int i = 0; i < n; i++) data[8 + i] = (uint8_t)(i % classes);
    snprintf(name, sizeof name, "%s-labels-idx1-ubyte", prefix);
    write_file(name, data, 8 + (size_t)n);
    free(data);
}

#endif
