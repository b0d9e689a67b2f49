/*
 * safetensors: 8 bytes little-endian n, n bytes of JSON, then the tensors' data, little-endian and row-major.
 *
 *   {"__metadata__": {"key": "value"}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
 *
 * Offsets count from the end of the header; the tensors cover the data without overlap and without holes.
 */
#include "autograd/autograd.h"
#include "serialization/atomic_file.h"
#include "serialization/half.h"
#include "serialization/serialization.h"
#include "serialization/source.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "tensor data is copied as it stands in the file");

enum { HEADER_MAX = 100 * 1000 * 1000, NOT_READABLE = TSR_DTYPE_COUNT };

/* Every type of the format whose size is a number of bytes, so that files with types that Tessera has not can be listed
 * and their other tensors read. */
static const struct file_type {
    const char *name;
    unsigned bytes;
    unsigned dtype; /* of the tensor made from it */
} file_types[] = {
    {"F64", 8, TSR_DTYPE_F64},    {"F32", 4, TSR_DTYPE_F32},    {"BF16", 2, TSR_DTYPE_BF16},
    {"F16", 2, TSR_DTYPE_F32},    {"I64", 8, TSR_DTYPE_I64},    {"I32", 4, TSR_DTYPE_I32},
    {"U8", 1, TSR_DTYPE_U8},      {"BOOL", 1, TSR_DTYPE_BOOL},  {"U64", 8, NOT_READABLE},
    {"U32", 4, NOT_READABLE},     {"U16", 2, NOT_READABLE},     {"I16", 2, NOT_READABLE},
    {"I8", 1, NOT_READABLE},      {"F8_E4M3", 1, NOT_READABLE}, {"F8_E5M2", 1, NOT_READABLE},
    {"F8_E8M0", 1, NOT_READABLE}, {"C64", 8, NOT_READABLE},
};

typedef struct tsr_safetensors_entry {
    char *name;
    const struct file_type *type;
    tsr_shape shape;
    uint64_t begin, end; /* in the data */
} entry;

struct tsr_safetensors {
    tsr_source source;
    uint64_t data_at;
    json_t *metadata; /* NULL: none */
    entry *entries;   /* sorted by name */
    size_t n;
};

/* ------------------------------------------------------------------ reading ----------------------------------------- */

static tsr_status fail_entry(const tsr_safetensors *f, const char *name, const char *problem)
{
    return tsr_fail(TSR_STATUS_FORMAT, "safetensors: '%s': tensor '%s': %s", f->source.name, name,
                    problem);
}

static bool get_u64(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static tsr_status read_entry(const tsr_safetensors *f, const char *name, const json_t *info,
                             entry *e)
{
    const char *type = json_string_value(json_object_get(info, "dtype"));
    const json_t *shape = json_object_get(info, "shape");
    const json_t *offsets = json_object_get(info, "data_offsets");
    if (type == NULL || !json_is_array(shape) || json_array_size(offsets) != 2) {
        return fail_entry(f, name, "wanted a dtype, a shape and two data_offsets");
    }
    for (size_t k = 0; k < sizeof file_types / sizeof file_types[0]; k++) {
        if (strcmp(type, file_types[k].name) == 0) e->type = &file_types[k];
    }
    if (e->type == NULL) return fail_entry(f, name, "its dtype is not one of the format");
    if (json_array_size(shape) > TSR_MAX_DIMS)
        return fail_entry(f, name, "it has more than 8 dimensions");

    e->shape.ndim = (int)json_array_size(shape);
    for (int d = 0; d < e->shape.ndim; d++) {
        uint64_t size;
        if (!get_u64(json_array_get(shape, (size_t)d), &size))
            return fail_entry(f, name, "a size is not a count");
        e->shape.size[d] = (int64_t)size;
    }
    if (!get_u64(json_array_get(offsets, 0), &e->begin) ||
        !get_u64(json_array_get(offsets, 1), &e->end) || e->begin > e->end ||
        e->end > f->source.size - f->data_at) {
        return fail_entry(f, name, "its data_offsets do not lie inside the file (truncated?)");
    }
    int64_t numel = tsr_shape_numel(e->shape);
    uint64_t bytes;
    if (numel < 0 || __builtin_mul_overflow((uint64_t)numel, (uint64_t)e->type->bytes, &bytes) ||
        bytes != e->end - e->begin) {
        return fail_entry(f, name, "its data_offsets do not fit its dtype and shape");
    }
    e->name = strdup(name);
    if (e->name == NULL) return tsr_fail(TSR_STATUS_MEMORY, "safetensors: out of memory");
    return TSR_STATUS_OK;
}

static int by_offset(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

static tsr_status read_metadata(tsr_safetensors *f, json_t *metadata)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata)) {
        return tsr_fail(TSR_STATUS_FORMAT, "safetensors: '%s': __metadata__ is not an object",
                        f->source.name);
    }
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value)) {
            return tsr_fail(TSR_STATUS_FORMAT,
                            "safetensors: '%s': a value of __metadata__ is not a string",
                            f->source.name);
        }
    }
    f->metadata = json_incref(metadata);
    return TSR_STATUS_OK;
}

static tsr_status read_entries(tsr_safetensors *f, json_t *header)
{
    size_t room = json_object_size(header);
    f->entries = calloc(room > 0 ? room : 1, sizeof *f->entries);
    if (f->entries == NULL) return tsr_fail(TSR_STATUS_MEMORY, "safetensors: out of memory");

    const char *name;
    json_t *info;
    json_object_foreach(header, name, info)
    {
        tsr_status status;
        if (strcmp(name, "__metadata__") == 0) {
            status = read_metadata(f, info);
        } else if (!tsr_name__is_valid(name)) {
            status = tsr_fail(TSR_STATUS_FORMAT,
                              "safetensors: '%s': a tensor's name is empty, over 1024 bytes or has "
                              "control characters",
                              f->source.name);
        } else {
            status = read_entry(f, name, info, &f->entries[f->n]);
            if (status == TSR_STATUS_OK) f->n++;
        }
        if (status != TSR_STATUS_OK) return status;
    }

    qsort(f->entries, f->n, sizeof *f->entries, by_offset);
    uint64_t covered = 0;
    for (size_t i = 0; i < f->n; i++) {
        const entry *e = &f->entries[i];
        if (e->begin != covered) {
            return fail_entry(f, e->name,
                              e->begin < covered ? "it overlaps another"
                                                 : "there is a hole before it");
        }
        covered = e->end;
    }
    if (covered != f->source.size - f->data_at) {
        return tsr_fail(TSR_STATUS_FORMAT,
                        "safetensors: '%s': the tensors end at byte %llu, the file at %llu",
                        f->source.name, (unsigned long long)(f->data_at + covered),
                        (unsigned long long)f->source.size);
    }
    qsort(f->entries, f->n, sizeof *f->entries, by_name);
    return TSR_STATUS_OK;
}

/* An object or array costs the parser hundreds of bytes, and may take two in the file: those that the format needs (an object
 * and two arrays a tensor, three levels deep) stand at least 16 bytes apart on average. */
static bool is_plausible(const char *text, size_t bytes)
{
    size_t depth = 0, opened = 0;
    bool in_string = false;
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\') i++;
            if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            opened++;
            if (++depth > 3) return false;
        } else if (c == '}' || c == ']') {
            if (depth > 0) depth--;
        }
    }
    return opened <= bytes / 16 + 2;
}

static tsr_status read_header(tsr_safetensors *f)
{
    const char *looks = tsr_source__looks_like(&f->source);
    if (looks == NULL || strcmp(looks, "a safetensors file") == 0) looks = "";
    const char *like = looks[0] != '\0' ? "; it looks like " : "";

    uint64_t bytes = 0;
    if (f->source.size < sizeof bytes) {
        return tsr_fail(TSR_STATUS_FORMAT, "safetensors: '%s' has %llu bytes, wanted 8 or more%s%s",
                        f->source.name, (unsigned long long)f->source.size, like, looks);
    }
    tsr_status status = tsr_source__read(&f->source, "safetensors", 0, &bytes, sizeof bytes);
    if (status != TSR_STATUS_OK) return status;
    if (bytes > HEADER_MAX) {
        return tsr_fail(
            TSR_STATUS_FORMAT,
            "safetensors: '%s' is not a safetensors file (its header would have %llu bytes)%s%s",
            f->source.name, (unsigned long long)bytes, like, looks);
    }
    if (bytes > f->source.size - sizeof bytes) {
        return tsr_fail(
            TSR_STATUS_FORMAT,
            "safetensors: '%s' is truncated at byte %llu, inside its header of %llu bytes%s%s",
            f->source.name, (unsigned long long)f->source.size, (unsigned long long)bytes, like,
            looks);
    }
    f->data_at = sizeof bytes + bytes;

    char *text = malloc((size_t)bytes + 1);
    if (text == NULL) return tsr_fail(TSR_STATUS_MEMORY, "safetensors: out of memory");
    status = tsr_source__read(&f->source, "safetensors", sizeof bytes, text, (size_t)bytes);
    json_t *header = NULL;
    json_error_t error = {.position = 0};
    if (status == TSR_STATUS_OK && is_plausible(text, (size_t)bytes)) {
        header = json_loadb(text, (size_t)bytes, JSON_REJECT_DUPLICATES, &error);
    }
    if (status == TSR_STATUS_OK && (!json_is_object(header) || text[0] != '{')) {
        status = tsr_fail(
            TSR_STATUS_FORMAT,
            "safetensors: '%s': the header is not a JSON object of tensors, at byte %d of it%s%s",
            f->source.name, error.position, like, looks);
    }
    free(text);
    if (status == TSR_STATUS_OK) status = read_entries(f, header);
    json_decref(header);
    return status;
}

static tsr_safetensors *open_source(tsr_source source)
{
    tsr_safetensors *f = calloc(1, sizeof *f);
    if (f == NULL) {
        tsr_source__close(&source);
        tsr_fail(TSR_STATUS_MEMORY, "safetensors: out of memory");
        return NULL;
    }
    f->source = source;
    if (read_header(f) != TSR_STATUS_OK) tsr_safetensors_close(&f);
    return f;
}

tsr_safetensors *tsr_safetensors_open(const char *path)
{
    tsr_source source;
    return tsr_source__open(&source, "safetensors", path) == TSR_STATUS_OK ? open_source(source)
                                                                           : NULL;
}

tsr_safetensors *tsr_safetensors_open_memory(const void *data, size_t bytes)
{
    tsr_source source;
    return tsr_source__open_memory(&source, "safetensors", data, bytes) == TSR_STATUS_OK
               ? open_source(source)
               : NULL;
}

void tsr_safetensors_close(tsr_safetensors **file)
{
    if (file == NULL || *file == NULL) return;
    tsr_safetensors *f = *file;
    for (size_t i = 0; i < f->n; i++) free(f->entries[i].name);
    free(f->entries);
    json_decref(f->metadata);
    tsr_source__close(&f->source);
    free(f);
    *file = NULL;
}

int64_t tsr_safetensors_count(const tsr_safetensors *file)
{
    return file == NULL ? 0 : (int64_t)file->n;
}

const char *tsr_safetensors_name(const tsr_safetensors *file, int64_t i)
{
    return i < 0 || i >= tsr_safetensors_count(file) ? NULL : file->entries[i].name;
}

int64_t tsr_safetensors_find(const tsr_safetensors *file, const char *name)
{
    if (file == NULL || name == NULL) return -1;
    /* bsearch compares entries: one that has only a name. */
    char *wanted = (char *)(uintptr_t)name;
    const entry *e =
        bsearch(&(entry){.name = wanted}, file->entries, file->n, sizeof *file->entries, by_name);
    return e == NULL ? -1 : e - file->entries;
}

tsr_shape tsr_safetensors_shape(const tsr_safetensors *file, int64_t i)
{
    return i < 0 || i >= tsr_safetensors_count(file) ? TSR_SHAPE_SCALAR : file->entries[i].shape;
}

const char *tsr_safetensors_metadata(const tsr_safetensors *file, const char *key)
{
    return file == NULL || key == NULL ? NULL
                                       : json_string_value(json_object_get(file->metadata, key));
}

tsr_tensor *tsr_safetensors_tensor(tsr_safetensors *file, const char *name)
{
    if (file == NULL) return NULL;
    int64_t i = tsr_safetensors_find(file, name);
    if (i < 0) {
        const char *first = tsr_safetensors_name(file, 0);
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "safetensors: '%s' has no tensor '%s'; it has %zu, the first is '%s'",
                 file->source.name, name != NULL ? name : "(null)", file->n,
                 first != NULL ? first : "");
        return NULL;
    }
    const entry *e = &file->entries[i];
    if (e->type->dtype == NOT_READABLE) {
        tsr_fail(TSR_STATUS_DTYPE,
                 "safetensors: '%s': tensor '%s' is %s, wanted F32, F64, BF16, F16, I32, I64, U8 "
                 "or BOOL",
                 file->source.name, name, e->type->name);
        return NULL;
    }
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *t = tsr_empty((tsr_dtype)e->type->dtype, e->shape);
    uint8_t *data = tsr_tensor_data_mut(t);
    size_t bytes = (size_t)(e->end - e->begin), numel = bytes / e->type->bytes;
    bool ok = t != NULL;
    if (ok && bytes > 0) {
        bool half = strcmp(e->type->name, "F16") == 0;
        uint8_t *to = half ? data + bytes : data;
        ok = tsr_source__read(&file->source, "safetensors", file->data_at + e->begin, to, bytes) ==
             TSR_STATUS_OK;
        if (ok && half) tsr_half__widen(data, numel);
        for (size_t k = 0; ok && e->type->dtype == TSR_DTYPE_BOOL && k < numel; k++) {
            if (data[k] <= 1) continue;
            fail_entry(file, name, "a BOOL is neither 0 nor 1");
            ok = false;
        }
    }
    return tsr_scope_return(&scope, ok ? t : NULL);
}

/* ------------------------------------------------------------------ writing ----------------------------------------- */

static const char *name_of_dtype(tsr_dtype dtype)
{
    for (size_t k = 0; k < sizeof file_types / sizeof file_types[0]; k++) {
        if (file_types[k].dtype == (unsigned)dtype && strcmp(file_types[k].name, "F16") != 0)
            return file_types[k].name;
    }
    return NULL;
}

/* Sorts pointers into the caller's list. */
static int by_size_then_name(const void *a, const void *b)
{
    const tsr_named_tensor *x = *(const tsr_named_tensor *const *)a,
                           *y = *(const tsr_named_tensor *const *)b;
    size_t p = tsr_dtype_size(tsr_tensor_dtype(x->tensor)),
           q = tsr_dtype_size(tsr_tensor_dtype(y->tensor));
    return p != q ? (p > q ? -1 : 1) : strcmp(x->name, y->name);
}

static tsr_status check_list(const tsr_named_tensor *tensors, int64_t n,
                             const tsr_safetensors_pair *metadata, int64_t n_metadata)
{
    if (n < 0 || n_metadata < 0 || (n > 0 && tensors == NULL) ||
        (n_metadata > 0 && metadata == NULL)) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "safetensors: a list is NULL or its length is negative");
    }
    for (int64_t i = 0; i < n; i++) {
        if (!tsr_name__is_valid(tensors[i].name) || strcmp(tensors[i].name, "__metadata__") == 0) {
            return tsr_fail(TSR_STATUS_ARGUMENT,
                            "safetensors: the name of tensor %lld of %lld is not allowed",
                            (long long)i, (long long)n);
        }
        if (tensors[i].tensor == NULL) {
            return tsr_fail(TSR_STATUS_ARGUMENT, "safetensors: tensor '%s' is NULL",
                            tensors[i].name);
        }
    }
    for (int64_t i = 0; i < n_metadata; i++) {
        const char *key = metadata[i].key, *value = metadata[i].value;
        if (key == NULL || value == NULL || !tsr_text__is_utf8(key, strlen(key)) ||
            !tsr_text__is_utf8(value, strlen(value))) {
            return tsr_fail(TSR_STATUS_ARGUMENT,
                            "safetensors: metadata pair %lld is NULL or not UTF-8", (long long)i);
        }
    }
    return TSR_STATUS_OK;
}

static json_t *make_info(const tsr_named_tensor *named, uint64_t *offset)
{
    tsr_shape shape = tsr_tensor_shape(named->tensor);
    tsr_dtype dtype = tsr_tensor_dtype(named->tensor);
    uint64_t begin = *offset;
    *offset += (uint64_t)tsr_tensor_numel(named->tensor) * tsr_dtype_size(dtype);

    json_t *sizes = json_array();
    for (int d = 0; d < shape.ndim; d++) json_array_append_new(sizes, json_integer(shape.size[d]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", name_of_dtype(dtype), "shape", sizes,
                     "data_offsets", (json_int_t)begin, (json_int_t)*offset);
}

/* Adds what is not there yet; takes the value in any case. */
static tsr_status add_new(json_t *object, const char *key, json_t *value)
{
    if (json_object_get(object, key) != NULL) {
        json_decref(value);
        return tsr_fail(TSR_STATUS_ARGUMENT, "safetensors: '%s' occurs twice", key);
    }
    if (json_object_set_new(object, key, value) == 0) return TSR_STATUS_OK;
    return tsr_fail(TSR_STATUS_MEMORY, "safetensors: out of memory");
}

/* The header's text, padded with spaces so that data begins at a multiple of 8. NULL and a status on failure. */
static char *make_header(const tsr_named_tensor *const *order, int64_t n,
                         const tsr_safetensors_pair *metadata, int64_t n_metadata)
{
    json_t *header = json_object(), *pairs = json_object();
    tsr_status status = TSR_STATUS_OK;
    for (int64_t i = 0; i < n_metadata && status == TSR_STATUS_OK; i++) {
        status = add_new(pairs, metadata[i].key, json_string(metadata[i].value));
    }
    if (n_metadata > 0 && status == TSR_STATUS_OK)
        status = add_new(header, "__metadata__", json_incref(pairs));
    uint64_t offset = 0;
    for (int64_t i = 0; i < n && status == TSR_STATUS_OK; i++) {
        status = add_new(header, order[i]->name, make_info(order[i], &offset));
    }
    char *text = NULL;
    if (status == TSR_STATUS_OK) {
        size_t bytes = json_dumpb(header, NULL, 0, JSON_COMPACT), padded = (bytes + 7) / 8 * 8;
        if (padded > HEADER_MAX) {
            tsr_fail(TSR_STATUS_ARGUMENT,
                     "safetensors: the header would have %zu bytes, the format allows %d", padded,
                     HEADER_MAX);
        } else if (bytes == 0 || (text = malloc(padded + 1)) == NULL ||
                   json_dumpb(header, text, bytes, JSON_COMPACT) != bytes) {
            tsr_fail(TSR_STATUS_MEMORY, "safetensors: out of memory");
            free(text);
            text = NULL;
        } else {
            memset(text + bytes, ' ', padded - bytes);
            text[padded] = '\0';
        }
    }
    json_decref(pairs);
    json_decref(header);
    return text;
}

static tsr_status write_all(tsr_atomic_file *file, const char *header,
                            const tsr_named_tensor *const *order, int64_t n)
{
    uint64_t bytes = strlen(header);
    tsr_atomic_file__write(file, &bytes, sizeof bytes);
    tsr_status status = tsr_atomic_file__write(file, header, (size_t)bytes);
    for (int64_t i = 0; i < n && status == TSR_STATUS_OK; i++) {
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *t = tsr_tensor_packed(order[i]->tensor);
        size_t size = (size_t)tsr_tensor_numel(t) * tsr_dtype_size(tsr_tensor_dtype(t));
        status =
            t == NULL ? tsr_status_get() : tsr_atomic_file__write(file, tsr_tensor_data(t), size);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
    return status;
}

tsr_status tsr_safetensors_write(const char *path, const tsr_named_tensor *tensors, int64_t n,
                                 const tsr_safetensors_pair *metadata, int64_t n_metadata)
{
    tsr_status status = check_list(tensors, n, metadata, n_metadata);
    if (status != TSR_STATUS_OK) return status;
    const tsr_named_tensor **order = calloc(n > 0 ? (size_t)n : 1, sizeof *order);
    if (order == NULL) return tsr_fail(TSR_STATUS_MEMORY, "safetensors: out of memory");
    for (int64_t i = 0; i < n; i++) order[i] = &tensors[i];
    qsort(order, (size_t)n, sizeof *order, by_size_then_name);

    char *header = make_header(order, n, metadata, n_metadata);
    tsr_atomic_file *file = header == NULL ? NULL : tsr_atomic_file__create("safetensors", path);
    if (file == NULL) {
        status = tsr_status_get();
    } else {
        status = write_all(file, header, order, n);
        if (status == TSR_STATUS_OK) {
            status = tsr_atomic_file__commit(&file);
        } else {
            tsr_atomic_file__abandon(&file);
        }
    }
    free(header);
    free(order);
    return status;
}
