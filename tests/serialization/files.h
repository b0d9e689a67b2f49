/* What the tests of serialization share: a temporary directory, whole files, tensors with known content. */
#ifndef TSR_TESTS_SERIALIZATION_FILES_H
#define TSR_TESTS_SERIALIZATION_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/autograd.h"

typedef struct directory {
    char path[200];
    char last[512];
} directory;

/* cmocka setup and teardown: *state is a directory of the test's own. */
static int open_directory(void **state)
{
    static directory d;
    const char *root = getenv("TMPDIR");
    snprintf(d.path, sizeof d.path, "%s/tessera-test-XXXXXX", root != NULL ? root : "/tmp");
    if (mkdtemp(d.path) == NULL) return -1;
    *state = &d;
    tsr_status_clear();
    return 0;
}

static int count_files(const char *path, bool remove_them)
{
    DIR *dir = opendir(path);
    if (dir == NULL) return -1;
    int n = 0;
    for (struct dirent *item; (item = readdir(dir)) != NULL;) {
        if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0) continue;
        n++;
        char name[512];
        snprintf(name, sizeof name, "%.200s/%.255s", path, item->d_name);
        if (remove_them) remove(name);
    }
    closedir(dir);
    return n;
}

static int close_directory(void **state)
{
    directory *d = *state;
    count_files(d->path, true);
    rmdir(d->path);
    return 0;
}

/* Group teardown: what the pool still holds after this is a leak. */
static int trim_pool(void **state)
{
    (void)state;
    tsr_pool_trim();
    return 0;
}

/* The path of a name in the directory; valid until the next call. */
static inline const char *in_directory(void **state, const char *name)
{
    directory *d = *state;
    snprintf(d->last, sizeof d->last, "%s/%s", d->path, name);
    return d->last;
}

static inline void write_file(const char *path, const void *data, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

/* To be freed. A copy of exactly *bytes bytes, so that a sanitizer sees reads past the end. */
static inline uint8_t *read_file(const char *path, size_t *bytes)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    long size = ftell(f);
    rewind(f);
    uint8_t *data = malloc(size > 0 ? (size_t)size : 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, (size_t)size, f), (size_t)size);
    fclose(f);
    *bytes = (size_t)size;
    return data;
}

/* A tensor whose elements tell their place; bools are 0 and 1. */
static inline tsr_tensor *numbered(tsr_dtype dtype, tsr_shape shape)
{
    tsr_tensor *t = tsr_empty(dtype, shape);
    assert_non_null(t);
    size_t bytes = (size_t)tsr_tensor_numel(t) * tsr_dtype_size(dtype);
    uint8_t *data = tsr_tensor_data_mut(t);
    for (size_t i = 0; i < bytes; i++) {
        data[i] = (uint8_t)(dtype == TSR_DTYPE_BOOL ? i % 3 == 0 : (i * 37 + i / 251 + 1) % 120);
    }
    return t;
}

static inline void assert_same_tensor(const tsr_tensor *a, const tsr_tensor *b)
{
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal(tsr_tensor_dtype(a), tsr_tensor_dtype(b));
    assert_true(tsr_shape_equal(tsr_tensor_shape(a), tsr_tensor_shape(b)));
    size_t bytes = (size_t)tsr_tensor_numel(a) * tsr_dtype_size(tsr_tensor_dtype(a));
    if (bytes > 0) assert_int_equal(memcmp(tsr_tensor_data(a), tsr_tensor_data(b), bytes), 0);
}

/* The last call failed so, and its one-line message holds the text. Clears the status. */
static inline void assert_failed(tsr_status status, const char *text)
{
    if (tsr_status_get() != status || strstr(tsr_message(), text) == NULL) {
        fail_msg("got '%s' (%s), wanted '%s' (%s)", tsr_message(),
                 tsr_status_name(tsr_status_get()), text, tsr_status_name(status));
    }
    assert_null(strchr(tsr_message(), '\n'));
    tsr_status_clear();
}

#endif
