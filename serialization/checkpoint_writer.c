/* Checkpoints, writing: one record for each call of put, tensors followed by their chunks. */
#include "autograd/autograd.h"
#include "serialization/atomic_file.h"
#include "serialization/checkpoint_format.h"
#include "serialization/serialization.h"
#include "serialization/source.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

struct tsr_checkpoint_writer {
    tsr_atomic_file *file;
    tsr_status failed;
    Tessera__Checkpoint__End totals;
    uint8_t *entry; /* encoded; kept, since fresh memory costs more than the encoding */
    size_t entry_room;
    /* Of all that was put; the first letter is the kind: history, tensor, value. */
    char **names;
    size_t n_names, room;
};

typedef Tessera__Checkpoint__Entry pb_entry;

/* A varint is at most 10 bytes; lengths of records need 4. */
static size_t encode_varint(uint64_t value, uint8_t out[10])
{
    size_t n = 0;
    do {
        out[n++] = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (value > 0);
    return n;
}

static size_t encode_crc(uint32_t crc, uint8_t out[4])
{
    for (int i = 0; i < 4; i++) out[i] = (uint8_t)(crc >> 8 * i);
    return 4;
}

/*
 * A record whose entry is head and then tail, which may be large and is not copied. Its fields as protobuf encodes them: 0x0d
 * is that of the checksum (left out where it is 0, as any proto3 field), 0x12 that of the entry.
 */
static tsr_status write_framed(tsr_checkpoint_writer *w, const uint8_t *head, size_t head_bytes,
                               const uint8_t *tail, size_t tail_bytes, const char *name)
{
    size_t entry_bytes = head_bytes + tail_bytes;
    uLong sum = crc32_z(0, head, head_bytes);
    if (tail_bytes > 0) sum = crc32_z(sum, tail, tail_bytes); /* of NULL zlib returns 0 */
    uint32_t crc = (uint32_t)sum;
    uint8_t frame[32], length[10];
    size_t n = 0;
    if (crc != 0) {
        frame[n++] = 0x0d;
        n += encode_crc(crc, frame + n);
    }
    frame[n++] = 0x12;
    n += encode_varint(entry_bytes, frame + n);
    size_t bytes = n + entry_bytes;
    if (bytes > TSR_CHECKPOINT_RECORD_MAX) {
        return w->failed = tsr_fail(
                   TSR_STATUS_ARGUMENT,
                   "checkpoint: '%s' takes %zu bytes, a record has %d at most: put it as a tensor",
                   name, bytes, TSR_CHECKPOINT_RECORD_MAX);
    }
    tsr_atomic_file__write(w->file, length, encode_varint(bytes, length));
    tsr_atomic_file__write(w->file, frame, n);
    w->failed = tsr_atomic_file__write(w->file, head, head_bytes);
    if (tail_bytes > 0) w->failed = tsr_atomic_file__write(w->file, tail, tail_bytes);
    w->totals.records++;
    return w->failed;
}

static tsr_status write_record(tsr_checkpoint_writer *w, const pb_entry *entry, const char *name)
{
    size_t bytes = tessera__checkpoint__entry__get_packed_size(entry);
    if (bytes > w->entry_room || w->entry == NULL) {
        free(w->entry);
        w->entry = malloc(bytes > 0 ? bytes : 1);
        w->entry_room = w->entry != NULL ? bytes : 0;
        if (w->entry == NULL)
            return w->failed = tsr_fail(TSR_STATUS_MEMORY, "checkpoint: out of memory");
    }
    tessera__checkpoint__entry__pack(entry, w->entry);
    return write_framed(w, w->entry, bytes, NULL, 0, name);
}

/* Whether a put may go on: nothing failed before, and the name is one. */
static tsr_status begin(tsr_checkpoint_writer *w, char kind, const char *name)
{
    if (w == NULL) return tsr_fail(TSR_STATUS_ARGUMENT, "checkpoint: the writer is NULL");
    if (w->failed != TSR_STATUS_OK) return w->failed;
    if (!tsr_name__is_valid(name)) {
        return w->failed = tsr_fail(
                   TSR_STATUS_ARGUMENT,
                   "checkpoint: '%.80s' is no name, wanted 1 to %d bytes of UTF-8, no controls",
                   name != NULL ? name : "(null)", TSR_NAME_MAX);
    }
    if (w->n_names == w->room) {
        size_t room = w->room > 0 ? 2 * w->room : 256;
        char **names = realloc(w->names, room * sizeof *names);
        if (names == NULL)
            return w->failed = tsr_fail(TSR_STATUS_MEMORY, "checkpoint: out of memory");
        w->names = names;
        w->room = room;
    }
    size_t bytes = strlen(name) + 1;
    char *copy = malloc(bytes + 1);
    if (copy == NULL) return w->failed = tsr_fail(TSR_STATUS_MEMORY, "checkpoint: out of memory");
    copy[0] = kind;
    memcpy(copy + 1, name, bytes);
    w->names[w->n_names++] = copy;
    return TSR_STATUS_OK;
}

tsr_checkpoint_writer *tsr_checkpoint_create(const char *path)
{
    tsr_checkpoint_writer *w = calloc(1, sizeof *w);
    if (w == NULL) {
        tsr_fail(TSR_STATUS_MEMORY, "checkpoint: out of memory");
        return NULL;
    }
    tessera__checkpoint__end__init(&w->totals);
    w->file = tsr_atomic_file__create("checkpoint", path);
    if (w->file == NULL) {
        free(w);
        return NULL;
    }
    Tessera__Checkpoint__Header header = TESSERA__CHECKPOINT__HEADER__INIT;
    char magic[] = TSR_CHECKPOINT_MAGIC;
    header.magic = magic;
    header.version = TSR_CHECKPOINT_VERSION;
    pb_entry entry = TESSERA__CHECKPOINT__ENTRY__INIT;
    entry.kind_case = TESSERA__CHECKPOINT__ENTRY__KIND_HEADER;
    entry.header = &header;
    if (write_record(w, &entry, "header") != TSR_STATUS_OK) tsr_checkpoint_abandon(&w);
    return w;
}

/* ------------------------------------------------------------------ tensors ----------------------------------------- */

/*
 * Chunks are most of a file, and are written from where they lie. Entry.chunk is field 5 (0x2a), of which offset is 0x08, left
 * out where it is 0, and data 0x12.
 */
static tsr_status write_chunks(tsr_checkpoint_writer *w, const char *name, const uint8_t *data,
                               uint64_t bytes)
{
    tsr_status status = TSR_STATUS_OK;
    for (uint64_t at = 0; at < bytes && status == TSR_STATUS_OK; at += TSR_CHECKPOINT_CHUNK_BYTES) {
        uint64_t left = bytes - at;
        size_t size =
            (size_t)(left < TSR_CHECKPOINT_CHUNK_BYTES ? left : TSR_CHECKPOINT_CHUNK_BYTES);
        uint8_t inner[24], head[48];
        size_t n_inner = 0, n = 0;
        if (at > 0) {
            inner[n_inner++] = 0x08;
            n_inner += encode_varint(at, inner + n_inner);
        }
        inner[n_inner++] = 0x12;
        n_inner += encode_varint(size, inner + n_inner);
        head[n++] = 0x2a;
        n += encode_varint(n_inner + size, head + n);
        memcpy(head + n, inner, n_inner);
        status = write_framed(w, head, n + n_inner, data + at, size, name);
    }
    return status;
}

tsr_status tsr_checkpoint_put_tensor(tsr_checkpoint_writer *w, const char *name, tsr_tensor *t)
{
    tsr_status status = begin(w, 't', name);
    if (status != TSR_STATUS_OK) return status;
    if (t == NULL)
        return w->failed = tsr_fail(TSR_STATUS_ARGUMENT, "checkpoint: tensor '%s' is NULL", name);

    tsr_scope scope = tsr_scope_open();
    tsr_tensor *packed = tsr_tensor_packed(t);
    if (packed == NULL) {
        w->failed = tsr_status_get();
    } else {
        tsr_shape shape = tsr_tensor_shape(packed);
        uint64_t sizes[TSR_MAX_DIMS];
        for (int d = 0; d < shape.ndim; d++) sizes[d] = (uint64_t)shape.size[d];
        Tessera__Checkpoint__Tensor tensor = TESSERA__CHECKPOINT__TENSOR__INIT;
        tensor.name = w->names[w->n_names - 1] + 1;
        tensor.dtype = (Tessera__Checkpoint__DType)(tsr_tensor_dtype(packed) + 1);
        tensor.n_shape = (size_t)shape.ndim;
        tensor.shape = sizes;
        tensor.bytes =
            (uint64_t)tsr_tensor_numel(packed) * tsr_dtype_size(tsr_tensor_dtype(packed));
        tensor.chunk_bytes = TSR_CHECKPOINT_CHUNK_BYTES;
        pb_entry entry = TESSERA__CHECKPOINT__ENTRY__INIT;
        entry.kind_case = TESSERA__CHECKPOINT__ENTRY__KIND_TENSOR;
        entry.tensor = &tensor;
        if (write_record(w, &entry, name) == TSR_STATUS_OK) {
            write_chunks(w, name, tsr_tensor_data(packed), tensor.bytes);
        }
        w->totals.tensors++;
        w->totals.tensor_bytes += tensor.bytes;
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return w->failed;
}

/* ------------------------------------------------------------------ values ------------------------------------------ */

/* value has all but its key. */
static tsr_status put_value(tsr_checkpoint_writer *w, const char *key,
                            Tessera__Checkpoint__Value *value)
{
    tsr_status status = begin(w, 'v', key);
    if (status != TSR_STATUS_OK) return status;
    value->key = w->names[w->n_names - 1] + 1;
    pb_entry entry = TESSERA__CHECKPOINT__ENTRY__INIT;
    entry.kind_case = TESSERA__CHECKPOINT__ENTRY__KIND_VALUE;
    entry.value = value;
    w->totals.values++;
    return write_record(w, &entry, key);
}

tsr_status tsr_checkpoint_put_int(tsr_checkpoint_writer *w, const char *key, int64_t value)
{
    Tessera__Checkpoint__Value v = TESSERA__CHECKPOINT__VALUE__INIT;
    v.value_case = TESSERA__CHECKPOINT__VALUE__VALUE_INTEGER;
    v.integer = value;
    return put_value(w, key, &v);
}

tsr_status tsr_checkpoint_put_uint(tsr_checkpoint_writer *w, const char *key, uint64_t value)
{
    Tessera__Checkpoint__Value v = TESSERA__CHECKPOINT__VALUE__INIT;
    v.value_case = TESSERA__CHECKPOINT__VALUE__VALUE_NATURAL;
    v.natural = value;
    return put_value(w, key, &v);
}

tsr_status tsr_checkpoint_put_double(tsr_checkpoint_writer *w, const char *key, double value)
{
    Tessera__Checkpoint__Value v = TESSERA__CHECKPOINT__VALUE__INIT;
    v.value_case = TESSERA__CHECKPOINT__VALUE__VALUE_REAL;
    v.real = value;
    return put_value(w, key, &v);
}

tsr_status tsr_checkpoint_put_bool(tsr_checkpoint_writer *w, const char *key, bool value)
{
    Tessera__Checkpoint__Value v = TESSERA__CHECKPOINT__VALUE__INIT;
    v.value_case = TESSERA__CHECKPOINT__VALUE__VALUE_FLAG;
    v.flag = value;
    return put_value(w, key, &v);
}

tsr_status tsr_checkpoint_put_string(tsr_checkpoint_writer *w, const char *key, const char *utf8)
{
    Tessera__Checkpoint__Value v = TESSERA__CHECKPOINT__VALUE__INIT;
    v.value_case = TESSERA__CHECKPOINT__VALUE__VALUE_TEXT;
    v.text = (char *)(uintptr_t)utf8; /* packing only reads it */
    if (w != NULL && w->failed == TSR_STATUS_OK &&
        (utf8 == NULL || !tsr_text__is_utf8(utf8, strlen(utf8)))) {
        w->failed =
            tsr_fail(TSR_STATUS_ARGUMENT, "checkpoint: the string for '%.80s' is NULL or not UTF-8",
                     key != NULL ? key : "(null)");
    }
    return put_value(w, key, &v);
}

tsr_status tsr_checkpoint_put_bytes(tsr_checkpoint_writer *w, const char *key, const void *data,
                                    size_t bytes)
{
    Tessera__Checkpoint__Value v = TESSERA__CHECKPOINT__VALUE__INIT;
    v.value_case = TESSERA__CHECKPOINT__VALUE__VALUE_DATA;
    v.data = (ProtobufCBinaryData){.len = bytes, .data = (uint8_t *)(uintptr_t)data};
    if (w != NULL && w->failed == TSR_STATUS_OK && data == NULL && bytes > 0) {
        w->failed = tsr_fail(TSR_STATUS_ARGUMENT, "checkpoint: the bytes for '%.80s' are NULL",
                             key != NULL ? key : "(null)");
    }
    return put_value(w, key, &v);
}

/* ------------------------------------------------------------------ histories --------------------------------------- */

static bool history_is_valid(const tsr_history *h)
{
    if (h->n_columns < 0 || h->n_columns > 1000 || h->n_rows < 0) return false;
    if ((h->n_columns > 0 && h->columns == NULL) || (h->n_rows > 0 && h->steps == NULL))
        return false;
    if (h->n_rows > 0 && h->n_columns > 0 && h->values == NULL) return false;
    for (int64_t c = 0; c < h->n_columns; c++) {
        if (!tsr_name__is_valid(h->columns[c])) return false;
    }
    return true;
}

tsr_status tsr_checkpoint_put_history(tsr_checkpoint_writer *w, const tsr_history *history)
{
    tsr_status status = begin(w, 'h', history != NULL ? history->name : NULL);
    if (status != TSR_STATUS_OK) return status;
    if (!history_is_valid(history)) {
        return w->failed = tsr_fail(TSR_STATUS_ARGUMENT,
                                    "checkpoint: history '%s': a list is NULL, a name is not "
                                    "allowed or it has over 1000 columns",
                                    history->name);
    }
    /* A step takes at most 10 bytes, a value 8: 4096 rows of 1000 columns stay below the limit of a record. */
    int64_t at = 0;
    do {
        int64_t left = history->n_rows - at, rows = left < 4096 ? left : 4096;
        size_t numbers = (size_t)(rows * history->n_columns);
        Tessera__Checkpoint__History h = TESSERA__CHECKPOINT__HISTORY__INIT;
        h.name = w->names[w->n_names - 1] + 1;
        h.n_columns = (size_t)history->n_columns;
        h.columns = (char **)(uintptr_t)history->columns; /* packing only reads them */
        h.n_steps = (size_t)rows;
        h.steps = rows > 0 ? (int64_t *)(uintptr_t)(history->steps + at) : NULL;
        h.n_values = numbers;
        h.values =
            numbers > 0 ? (double *)(uintptr_t)(history->values + at * history->n_columns) : NULL;
        pb_entry entry = TESSERA__CHECKPOINT__ENTRY__INIT;
        entry.kind_case = TESSERA__CHECKPOINT__ENTRY__KIND_HISTORY;
        entry.history = &h;
        status = write_record(w, &entry, history->name);
        w->totals.rows += (uint64_t)rows;
        at += rows;
    } while (at < history->n_rows && status == TSR_STATUS_OK);
    return status;
}

/* ------------------------------------------------------------------ end --------------------------------------------- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void destroy(tsr_checkpoint_writer **writer)
{
    tsr_checkpoint_writer *w = *writer;
    for (size_t i = 0; i < w->n_names; i++) free(w->names[i]);
    free(w->names);
    free(w->entry);
    free(w);
    *writer = NULL;
}

tsr_status tsr_checkpoint_commit(tsr_checkpoint_writer **writer)
{
    if (writer == NULL || *writer == NULL)
        return tsr_fail(TSR_STATUS_ARGUMENT, "checkpoint: the writer is NULL");
    tsr_checkpoint_writer *w = *writer;
    if (w->n_names > 0) qsort(w->names, w->n_names, sizeof *w->names, by_text);
    for (size_t i = 1; i < w->n_names && w->failed == TSR_STATUS_OK; i++) {
        if (strcmp(w->names[i - 1], w->names[i]) == 0) {
            w->failed =
                tsr_fail(TSR_STATUS_ARGUMENT, "checkpoint: '%s' was put twice", w->names[i] + 1);
        }
    }
    if (w->failed == TSR_STATUS_OK) {
        pb_entry entry = TESSERA__CHECKPOINT__ENTRY__INIT;
        Tessera__Checkpoint__End totals = w->totals;
        entry.kind_case = TESSERA__CHECKPOINT__ENTRY__KIND_END;
        entry.end = &totals;
        write_record(w, &entry, "end");
    }
    tsr_status status = w->failed;
    if (status == TSR_STATUS_OK) {
        status = tsr_atomic_file__commit(&w->file);
    } else {
        tsr_atomic_file__abandon(&w->file);
    }
    destroy(writer);
    return status;
}

void tsr_checkpoint_abandon(tsr_checkpoint_writer **writer)
{
    if (writer == NULL || *writer == NULL) return;
    tsr_atomic_file__abandon(&(*writer)->file);
    destroy(writer);
}
