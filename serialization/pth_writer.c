/*
 * PyTorch files, writing: what torch.save() writes of an OrderedDict of tensors. A zip archive without compression, of
 * archive/data.pkl (a pickle, protocol 2), archive/data/N (the bytes of tensor N) and archive/version.
 */
#include "serialization/serialization.h"
#include "serialization/source.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

typedef struct text {
    uint8_t *data;
    size_t n, room;
    bool failed;
} text;

static void put(text *t, const void *data, size_t bytes)
{
    if (t->room - t->n < bytes) {
        size_t room = 2 * (t->room + bytes);
        uint8_t *grown = realloc(t->data, room);
        if (grown == NULL) {
            t->failed = true;
            return;
        }
        t->data = grown;
        t->room = room;
    }
    memcpy(t->data + t->n, data, bytes);
    t->n += bytes;
}

static void put_text(text *t, const char *s)
{
    put(t, s, strlen(s));
}

/* ---- pickle: opcodes of protocol 2, arguments little-endian ---- */

static void put_little_endian(text *t, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) put(t, &(uint8_t){(uint8_t)(v >> (8 * i))}, 1);
}

/* BINUNICODE */
static void put_string(text *t, const char *s)
{
    put_text(t, "X");
    put_little_endian(t, strlen(s), 4);
    put_text(t, s);
}

/* BININT1, BININT or LONG1 */
static void put_int(text *t, int64_t v)
{
    bool small = v >= 0 && v<256, wide = v> INT32_MAX;
    put_text(t, small ? "K" : wide ? "\x8a\x08" : "J");
    put_little_endian(t, (uint64_t)v, small ? 1 : wide ? 8 : 4);
}

/* MARK ints TUPLE */
static void put_ints(text *t, const int64_t *v, int n)
{
    put_text(t, "(");
    for (int i = 0; i < n; i++) put_int(t, v[i]);
    put_text(t, "t");
}

static const char ordered_dict[] = "ccollections\nOrderedDict\n)R"; /* GLOBAL EMPTY_TUPLE REDUCE */

/* NULL: there is no such storage. */
static const char *storage_of(tsr_dtype dtype)
{
    static const char *const names[TSR_DTYPE_COUNT] = {
        [TSR_DTYPE_F32] = "FloatStorage",     [TSR_DTYPE_F64] = "DoubleStorage",
        [TSR_DTYPE_BF16] = "BFloat16Storage", [TSR_DTYPE_I32] = "IntStorage",
        [TSR_DTYPE_I64] = "LongStorage",      [TSR_DTYPE_U8] = "ByteStorage",
        [TSR_DTYPE_BOOL] = "BoolStorage",
    };
    return names[dtype];
}

/* torch._utils._rebuild_tensor_v2(storage, offset, sizes, strides, requires_grad, hooks) */
static void put_tensor(text *t, tsr_tensor *x, int64_t number)
{
    char key[32];
    tsr_shape shape = tsr_tensor_shape(x);
    int64_t strides[TSR_MAX_DIMS], stride = 1;
    for (int d = shape.ndim - 1; d >= 0; d--) {
        strides[d] = stride;
        stride *= shape.size[d] > 0 ? shape.size[d] : 1;
    }
    snprintf(key, sizeof key, "%" PRId64, number);
    put_text(t, "ctorch._utils\n_rebuild_tensor_v2\n((");
    put_string(t, "storage");
    put_text(t, "ctorch\n");
    put_text(t, storage_of(tsr_tensor_dtype(x)));
    put_text(t, "\n");
    put_string(t, key);
    put_string(t, "cpu");
    put_int(t, tsr_tensor_numel(x));
    put_text(t, "tQ"); /* TUPLE BINPERSID */
    put_int(t, 0);
    put_ints(t, shape.size, shape.ndim);
    put_ints(t, strides, shape.ndim);
    put_text(t, "\x89"); /* NEWFALSE */
    put_text(t, ordered_dict);
    put_text(t, "tR"); /* TUPLE REDUCE */
}

static void put_pickle(text *t, const tsr_named_tensor *tensors, int64_t n)
{
    put_text(t, "\x80\x02");
    put_text(t, ordered_dict);
    put_text(t, "(");
    for (int64_t i = 0; i < n; i++) {
        put_string(t, tensors[i].name);
        put_tensor(t, tensors[i].tensor, i);
    }
    put_text(t, "u."); /* SETITEMS STOP */
}

/* ---- the archive ---- */

static tsr_status fail_zip(const char *path, const char *what)
{
    return tsr_fail(TSR_STATUS_IO, "pth: cannot write %s: %s", path, what);
}

/* data must live until the archive is closed. */
static tsr_status add(zip_t *archive, const char *path, const char *name, const void *data,
                      size_t bytes)
{
    zip_source_t *source = zip_source_buffer(archive, data, bytes, 0);
    zip_int64_t at = source != NULL ? zip_file_add(archive, name, source, ZIP_FL_ENC_UTF_8) : -1;
    if (at < 0) {
        zip_source_free(source);
        return fail_zip(path, zip_error_strerror(zip_get_error(archive)));
    }
    /* The same content gives the same bytes: 1980-01-01, the first day that archives know. */
    if (zip_set_file_compression(archive, (zip_uint64_t)at, ZIP_CM_STORE, 0) != 0 ||
        zip_file_set_dostime(archive, (zip_uint64_t)at, 0, (1 << 5) | 1, 0) != 0) {
        return fail_zip(path, zip_error_strerror(zip_get_error(archive)));
    }
    return TSR_STATUS_OK;
}

static tsr_status check(const tsr_named_tensor *tensors, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (tensors[i].name == NULL || !tsr_name__is_valid(tensors[i].name)) {
            return tsr_fail(TSR_STATUS_ARGUMENT,
                            "pth: tensor %" PRId64 " has no name, or one that is not text", i);
        }
        if (tensors[i].tensor == NULL) {
            return tsr_fail(TSR_STATUS_ARGUMENT, "pth: tensor '%s' is NULL", tensors[i].name);
        }
        for (int64_t k = 0; k < i; k++) {
            if (strcmp(tensors[i].name, tensors[k].name) != 0) continue;
            return tsr_fail(TSR_STATUS_ARGUMENT, "pth: two tensors are named '%s'",
                            tensors[i].name);
        }
    }
    return TSR_STATUS_OK;
}

static tsr_status fill(zip_t *archive, const char *path, const text *pickle,
                       const tsr_named_tensor *tensors, int64_t n)
{
    if (add(archive, path, "archive/data.pkl", pickle->data, pickle->n) != TSR_STATUS_OK ||
        add(archive, path, "archive/byteorder", "little", 6) != TSR_STATUS_OK) {
        return tsr_status_get();
    }
    for (int64_t i = 0; i < n; i++) {
        char name[64];
        tsr_tensor *x = tsr_tensor_packed(tensors[i].tensor);
        size_t bytes = (size_t)tsr_tensor_numel(x) * tsr_dtype_size(tsr_tensor_dtype(x));
        snprintf(name, sizeof name, "archive/data/%" PRId64, i);
        if (x == NULL || add(archive, path, name, tsr_tensor_data(x), bytes) != TSR_STATUS_OK) {
            return tsr_status_get();
        }
    }
    return add(archive, path, "archive/version", "3\n", 2);
}

static tsr_status sync_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) close(fd);
    return synced ? TSR_STATUS_OK : fail_zip(path, "it could not be synced");
}

tsr_status tsr_pth_write(const char *path, const tsr_named_tensor *tensors, int64_t n)
{
    if (check(tensors, n) != TSR_STATUS_OK) return tsr_status_get();
    text pickle = {0};
    put_pickle(&pickle, tensors, n);
    int code;
    tsr_scope scope = tsr_scope_open(); /* packed copies live until the archive is written */
    zip_t *archive = NULL;
    if (pickle.failed) {
        tsr_fail(TSR_STATUS_MEMORY, "pth: out of memory");
    } else if ((archive = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &code)) == NULL) {
        zip_error_t error;
        zip_error_init_with_code(&error, code);
        fail_zip(path, zip_error_strerror(&error));
        zip_error_fini(&error);
    } else if (fill(archive, path, &pickle, tensors, n) != TSR_STATUS_OK) {
        zip_discard(archive);
    } else if (zip_close(archive) != 0) { /* a temporary file, which it renames */
        fail_zip(path, zip_error_strerror(zip_get_error(archive)));
        zip_discard(archive);
    } else {
        sync_file(path);
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    free(pickle.data);
    return tsr_status_get();
}
