/*
 * Checkpoints, reading. Opening walks over all records, reads the small ones and skips chunks by their lengths; the
 * totals of the last record say whether the walk saw everything. Chunks are read, checked and copied one at a time.
 */
#include "autograd/autograd.h"
#include "serialization/checkpoint_format.h"
#include "serialization/serialization.h"
#include "serialization/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

typedef Tessera__Checkpoint__Entry pb_entry;

typedef struct tensor_entry {
    tsr_checkpoint_entry about; /* about.name is the message's */
    uint64_t chunk_bytes;
    uint64_t first_record; /* number of its first chunk's record */
} tensor_entry;

typedef struct history_entry {
    tsr_history about; /* its name and columns are the message's */
    int64_t *steps;
    double *values;
} history_entry;

struct tsr_checkpoint {
    tsr_source source;
    /* Unpacked records that own the names and strings below. */
    pb_entry **messages;
    size_t n_messages, messages_room;
    tensor_entry *tensors;
    size_t n_tensors, tensors_room;
    tsr_checkpoint_value *values;
    size_t n_values, values_room;
    history_entry *histories;
    size_t n_histories, histories_room;
    /* Numbers of the above in order of their names. */
    size_t *tensors_by_name, *values_by_name, *histories_by_name;
};

static tsr_status fail_memory(void)
{
    return tsr_fail(TSR_STATUS_MEMORY, "checkpoint: out of memory");
}

/* Room for one more of n items; false when there is no memory. */
static bool grow(void *list, size_t n, size_t *room, size_t item)
{
    if (n < *room) return true;
    size_t more = *room > 0 ? 2 * *room : 16;
    void *old, *bigger;
    memcpy(&old, list, sizeof old);
    bigger = realloc(old, more * item);
    if (bigger == NULL) return false;
    memcpy(list, &bigger, sizeof bigger);
    *room = more;
    return true;
}

/* ------------------------------------------------------------------ records ----------------------------------------- */

/* A place in the file: record number `record` begins at byte `at`. */
typedef struct place {
    uint64_t at, record;
} place;

/* The bounds of the record at p: it has *bytes bytes from *body. */
static tsr_status find_record(const tsr_checkpoint *c, place p, uint64_t *body, size_t *bytes)
{
    uint8_t head[5];
    uint64_t left = c->source.size - p.at;
    size_t have = left < sizeof head ? (size_t)left : sizeof head, used = 0;
    tsr_status status = tsr_source__read(&c->source, "checkpoint", p.at, head, have);
    if (status != TSR_STATUS_OK) return status;
    uint64_t length = 0;
    bool complete = false;
    while (used < have && !complete) {
        length |= (uint64_t)(head[used] & 0x7f) << (7 * used);
        complete = (head[used++] & 0x80) == 0;
    }
    if (!complete && have < sizeof head) {
        return tsr_fail(TSR_STATUS_FORMAT,
                        "checkpoint: '%s' is truncated at byte %llu, where record %llu begins",
                        c->source.name, (unsigned long long)c->source.size,
                        (unsigned long long)p.record);
    }
    if (!complete || length > TSR_CHECKPOINT_RECORD_MAX || length == 0) {
        return tsr_fail(
            TSR_STATUS_FORMAT,
            "checkpoint: '%s' is damaged at byte %llu: record %llu has no possible length",
            c->source.name, (unsigned long long)p.at, (unsigned long long)p.record);
    }
    if (length > left - used) {
        return tsr_fail(
            TSR_STATUS_FORMAT,
            "checkpoint: '%s' is truncated at byte %llu: record %llu at byte %llu has %llu bytes",
            c->source.name, (unsigned long long)c->source.size, (unsigned long long)p.record,
            (unsigned long long)p.at, (unsigned long long)length);
    }
    *body = p.at + used;
    *bytes = (size_t)length;
    return TSR_STATUS_OK;
}

/* Reads and checks the record at *p and moves *p to the next. name: of the tensor that it belongs to, or NULL. */
static pb_entry *read_record(const tsr_checkpoint *c, place *p, const char *name)
{
    uint64_t body;
    size_t bytes;
    if (find_record(c, *p, &body, &bytes) != TSR_STATUS_OK) return NULL;
    uint8_t *data = malloc(bytes);
    if (data == NULL) {
        fail_memory();
        return NULL;
    }
    Tessera__Checkpoint__Record *record = NULL;
    pb_entry *entry = NULL;
    if (tsr_source__read(&c->source, "checkpoint", body, data, bytes) == TSR_STATUS_OK) {
        record = tessera__checkpoint__record__unpack(NULL, bytes, data);
        bool whole = record != NULL &&
                     record->crc32 == (uint32_t)crc32_z(0, record->entry.data, record->entry.len);
        if (!whole) {
            tsr_fail(TSR_STATUS_FORMAT,
                     "checkpoint: '%s' is damaged: checksum mismatch in record %llu (%s%s%s) at "
                     "byte %llu",
                     c->source.name, (unsigned long long)p->record, name != NULL ? "'" : "",
                     name != NULL ? name : "not a tensor's data", name != NULL ? "'" : "",
                     (unsigned long long)p->at);
        } else {
            entry = tessera__checkpoint__entry__unpack(NULL, record->entry.len, record->entry.data);
            if (entry == NULL) {
                tsr_fail(TSR_STATUS_FORMAT,
                         "checkpoint: '%s': record %llu at byte %llu is not an Entry (or memory is "
                         "short)",
                         c->source.name, (unsigned long long)p->record, (unsigned long long)p->at);
            }
        }
    }
    if (record != NULL) tessera__checkpoint__record__free_unpacked(record, NULL);
    free(data);
    p->at = body + bytes;
    p->record++;
    return entry;
}

static void free_entry(pb_entry *entry)
{
    if (entry != NULL) tessera__checkpoint__entry__free_unpacked(entry, NULL);
}

static tsr_status fail_record(const tsr_checkpoint *c, place p, const char *problem)
{
    return tsr_fail(TSR_STATUS_FORMAT, "checkpoint: '%s': record %llu before byte %llu: %s",
                    c->source.name, (unsigned long long)(p.record - 1), (unsigned long long)p.at,
                    problem);
}

/* ------------------------------------------------------------------ opening ----------------------------------------- */

static tsr_status take_header(const tsr_checkpoint *c, place *p)
{
    const char *looks = tsr_source__looks_like(&c->source);
    if (looks == NULL || strcmp(looks, "a Tessera checkpoint") != 0) {
        return tsr_fail(TSR_STATUS_FORMAT, "checkpoint: '%s' is not a Tessera checkpoint%s%s",
                        c->source.name,
                        looks != NULL ? "; it looks like " : " (or its header is damaged)",
                        looks != NULL ? looks : "");
    }
    pb_entry *entry = read_record(c, p, NULL);
    if (entry == NULL) return tsr_status_get();
    tsr_status status = TSR_STATUS_OK;
    if (entry->kind_case != TESSERA__CHECKPOINT__ENTRY__KIND_HEADER ||
        strcmp(entry->header->magic, TSR_CHECKPOINT_MAGIC) != 0) {
        status = fail_record(c, *p, "it is no header");
    } else if (entry->header->version > TSR_CHECKPOINT_VERSION || entry->header->version == 0) {
        status = tsr_fail(TSR_STATUS_FORMAT,
                          "checkpoint: '%s' has format version %u, this library reads up to %d: "
                          "use a newer Tessera",
                          c->source.name, entry->header->version, TSR_CHECKPOINT_VERSION);
    }
    free_entry(entry);
    return status;
}

/* Walks over the chunks of the tensor that was added last. */
static tsr_status skip_chunks(const tsr_checkpoint *c, place *p)
{
    const tensor_entry *t = &c->tensors[c->n_tensors - 1];
    for (uint64_t left = t->about.bytes; left > 0;) {
        uint64_t data = left < t->chunk_bytes ? left : t->chunk_bytes, body;
        size_t bytes;
        tsr_status status = find_record(c, *p, &body, &bytes);
        if (status != TSR_STATUS_OK) return status;
        if (bytes < data) {
            p->record++;
            return fail_record(c, *p, "it is too short for the chunk that it has to hold");
        }
        p->at = body + bytes;
        p->record++;
        left -= data;
    }
    return TSR_STATUS_OK;
}

static tsr_status take_tensor(tsr_checkpoint *c, const Tessera__Checkpoint__Tensor *t, place *p)
{
    if (!tsr_name__is_valid(t->name)) return fail_record(c, *p, "a tensor's name is not allowed");
    if (t->dtype < TESSERA__CHECKPOINT__DTYPE__F32 || t->dtype > TESSERA__CHECKPOINT__DTYPE__BOOL) {
        return tsr_fail(
            TSR_STATUS_FORMAT,
            "checkpoint: '%s': tensor '%s' has type %d, which this library does not know",
            c->source.name, t->name, (int)t->dtype);
    }
    if (t->n_shape > TSR_MAX_DIMS) return fail_record(c, *p, "a tensor has more than 8 dimensions");
    if (!grow(&c->tensors, c->n_tensors, &c->tensors_room, sizeof *c->tensors))
        return fail_memory();
    tsr_shape shape = {.ndim = (int)t->n_shape};
    for (size_t d = 0; d < t->n_shape; d++) {
        if (t->shape[d] > INT64_MAX) return fail_record(c, *p, "a tensor's shape is too large");
        shape.size[d] = (int64_t)t->shape[d];
    }
    tsr_dtype dtype = (tsr_dtype)(t->dtype - 1);
    int64_t numel = tsr_shape_numel(shape);
    uint64_t bytes;
    if (numel < 0 ||
        __builtin_mul_overflow((uint64_t)numel, (uint64_t)tsr_dtype_size(dtype), &bytes) ||
        bytes != t->bytes) {
        return fail_record(c, *p, "a tensor's bytes do not fit its shape and type");
    }
    if (bytes > 0 && (t->chunk_bytes == 0 || t->chunk_bytes > TSR_CHECKPOINT_RECORD_MAX)) {
        return fail_record(c, *p, "a tensor's chunk_bytes are not possible");
    }
    if (bytes > c->source.size - p->at) {
        return tsr_fail(TSR_STATUS_FORMAT,
                        "checkpoint: '%s' is truncated at byte %llu, in tensor '%s'",
                        c->source.name, (unsigned long long)c->source.size, t->name);
    }
    c->tensors[c->n_tensors++] = (tensor_entry){
        .about = {.name = t->name, .dtype = dtype, .shape = shape, .offset = p->at, .bytes = bytes},
        .chunk_bytes = t->chunk_bytes,
        .first_record = p->record,
    };
    return skip_chunks(c, p);
}

static tsr_status take_value(tsr_checkpoint *c, const Tessera__Checkpoint__Value *v, place p)
{
    if (!tsr_name__is_valid(v->key)) return fail_record(c, p, "a value's key is not allowed");
    if (!grow(&c->values, c->n_values, &c->values_room, sizeof *c->values)) return fail_memory();
    tsr_checkpoint_value value = {.key = v->key};
    switch (v->value_case) {
    case TESSERA__CHECKPOINT__VALUE__VALUE_INTEGER:
        value.kind = TSR_VALUE_KIND_INT;
        value.u.as_int = v->integer;
        break;
    case TESSERA__CHECKPOINT__VALUE__VALUE_NATURAL:
        value.kind = TSR_VALUE_KIND_UINT;
        value.u.as_uint = v->natural;
        break;
    case TESSERA__CHECKPOINT__VALUE__VALUE_REAL:
        value.kind = TSR_VALUE_KIND_DOUBLE;
        value.u.as_double = v->real;
        break;
    case TESSERA__CHECKPOINT__VALUE__VALUE_FLAG:
        value.kind = TSR_VALUE_KIND_BOOL;
        value.u.as_bool = v->flag != 0;
        break;
    case TESSERA__CHECKPOINT__VALUE__VALUE_TEXT:
        if (!tsr_text__is_utf8(v->text, strlen(v->text)))
            return fail_record(c, p, "a string is not UTF-8");
        value.kind = TSR_VALUE_KIND_STRING;
        value.u.as_string = v->text;
        break;
    case TESSERA__CHECKPOINT__VALUE__VALUE_DATA:
        value.kind = TSR_VALUE_KIND_BYTES;
        value.u.as_bytes = v->data.data;
        value.bytes = v->data.len;
        break;
    default: /* a kind of value that this version does not know */
        return TSR_STATUS_OK;
    }
    c->values[c->n_values++] = value;
    return TSR_STATUS_OK;
}

static tsr_status append_rows(history_entry *h, const Tessera__Checkpoint__History *more)
{
    size_t rows = (size_t)h->about.n_rows, numbers = rows * (size_t)h->about.n_columns;
    int64_t *steps = realloc(h->steps, (rows + more->n_steps + 1) * sizeof *steps);
    if (steps != NULL) h->steps = steps;
    double *values = realloc(h->values, (numbers + more->n_values + 1) * sizeof *values);
    if (values != NULL) h->values = values;
    if (steps == NULL || values == NULL) return fail_memory();
    if (more->n_steps > 0) memcpy(steps + rows, more->steps, more->n_steps * sizeof *steps);
    if (more->n_values > 0) memcpy(values + numbers, more->values, more->n_values * sizeof *values);
    h->about.steps = steps;
    h->about.values = values;
    h->about.n_rows += (int64_t)more->n_steps;
    return TSR_STATUS_OK;
}

static tsr_status take_history(tsr_checkpoint *c, const Tessera__Checkpoint__History *h, place p)
{
    if (!tsr_name__is_valid(h->name)) return fail_record(c, p, "a history's name is not allowed");
    for (size_t k = 0; k < h->n_columns; k++) {
        if (!tsr_name__is_valid(h->columns[k]))
            return fail_record(c, p, "a column's name is not allowed");
    }
    size_t numbers;
    if (__builtin_mul_overflow(h->n_steps, h->n_columns, &numbers) || numbers != h->n_values) {
        return fail_record(c, p, "a history has not one value for each row and column");
    }
    history_entry *last = c->n_histories > 0 ? &c->histories[c->n_histories - 1] : NULL;
    if (last != NULL && strcmp(last->about.name, h->name) == 0) {
        bool same = last->about.n_columns == (int64_t)h->n_columns;
        for (size_t k = 0; same && k < h->n_columns; k++) {
            same = strcmp(last->about.columns[k], h->columns[k]) == 0;
        }
        return same ? append_rows(last, h)
                    : fail_record(c, p, "a history goes on with other columns");
    }
    if (!grow(&c->histories, c->n_histories, &c->histories_room, sizeof *c->histories))
        return fail_memory();
    c->histories[c->n_histories] =
        (history_entry){.about = {.name = h->name,
                                  .columns = (const char *const *)h->columns,
                                  .n_columns = (int64_t)h->n_columns}};
    return append_rows(&c->histories[c->n_histories++], h);
}

static tsr_status take_end(const tsr_checkpoint *c, const Tessera__Checkpoint__End *end, place p)
{
    uint64_t rows = 0, bytes = 0;
    for (size_t i = 0; i < c->n_histories; i++) rows += (uint64_t)c->histories[i].about.n_rows;
    for (size_t i = 0; i < c->n_tensors; i++) bytes += c->tensors[i].about.bytes;
    /* Values of unknown kinds are in end->values and not here. */
    if (end->records != p.record - 1 || end->values < c->n_values || end->rows != rows ||
        end->tensors != c->n_tensors || end->tensor_bytes != bytes) {
        return fail_record(c, p, "the totals are not those of the records before it");
    }
    if (p.at != c->source.size) return fail_record(c, p, "there is something after the end");
    return TSR_STATUS_OK;
}

/* The record's content goes into the lists; those that lists point into are kept in c->messages. */
static tsr_status take_entry(tsr_checkpoint *c, pb_entry *entry, place *p, bool *ended)
{
    switch (entry->kind_case) {
    case TESSERA__CHECKPOINT__ENTRY__KIND_VALUE:
        return take_value(c, entry->value, *p);
    case TESSERA__CHECKPOINT__ENTRY__KIND_HISTORY:
        return take_history(c, entry->history, *p);
    case TESSERA__CHECKPOINT__ENTRY__KIND_TENSOR:
        return take_tensor(c, entry->tensor, p);
    case TESSERA__CHECKPOINT__ENTRY__KIND_CHUNK:
        return fail_record(c, *p, "a chunk belongs to no tensor");
    case TESSERA__CHECKPOINT__ENTRY__KIND_HEADER:
        return fail_record(c, *p, "a second header");
    case TESSERA__CHECKPOINT__ENTRY__KIND_END:
        *ended = true;
        return take_end(c, entry->end, *p);
    default:
        return TSR_STATUS_OK; /* a kind of record that this version does not know */
    }
}

/* Order of names; context for qsort, which has none, is put beside each number. */
typedef struct named_number {
    const char *name;
    size_t number;
} named_number;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const named_number *)a)->name, ((const named_number *)b)->name);
}

/* Sorts n names (name_at(c, i)) into *order; fails where two are equal. */
static tsr_status sort_names(const tsr_checkpoint *c, size_t n,
                             const char *(*name_at)(const tsr_checkpoint *, size_t), size_t **order)
{
    named_number *names = calloc(n > 0 ? n : 1, sizeof *names);
    *order = calloc(n > 0 ? n : 1, sizeof **order);
    tsr_status status = names == NULL || *order == NULL ? fail_memory() : TSR_STATUS_OK;
    for (size_t i = 0; i < n && status == TSR_STATUS_OK; i++)
        names[i] = (named_number){name_at(c, i), i};
    if (status == TSR_STATUS_OK) qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n && status == TSR_STATUS_OK; i++) {
        (*order)[i] = names[i].number;
        if (i > 0 && strcmp(names[i - 1].name, names[i].name) == 0) {
            status = tsr_fail(TSR_STATUS_FORMAT, "checkpoint: '%s' has '%s' twice", c->source.name,
                              names[i].name);
        }
    }
    free(names);
    return status;
}

static const char *tensor_name(const tsr_checkpoint *c, size_t i)
{
    return c->tensors[i].about.name;
}

static const char *value_key(const tsr_checkpoint *c, size_t i)
{
    return c->values[i].key;
}

static const char *history_name(const tsr_checkpoint *c, size_t i)
{
    return c->histories[i].about.name;
}

static tsr_status read_index(tsr_checkpoint *c)
{
    place p = {0};
    bool ended = false;
    tsr_status status = take_header(c, &p);
    while (status == TSR_STATUS_OK && !ended) {
        if (p.at == c->source.size) {
            return tsr_fail(
                TSR_STATUS_FORMAT,
                "checkpoint: '%s' is truncated at byte %llu: its last record is missing",
                c->source.name, (unsigned long long)c->source.size);
        }
        if (!grow(&c->messages, c->n_messages, &c->messages_room, sizeof *c->messages))
            return fail_memory();
        pb_entry *entry = read_record(c, &p, NULL);
        if (entry == NULL) return tsr_status_get();
        c->messages[c->n_messages++] = entry;
        status = take_entry(c, entry, &p, &ended);
    }
    if (status == TSR_STATUS_OK)
        status = sort_names(c, c->n_tensors, tensor_name, &c->tensors_by_name);
    if (status == TSR_STATUS_OK) status = sort_names(c, c->n_values, value_key, &c->values_by_name);
    if (status == TSR_STATUS_OK)
        status = sort_names(c, c->n_histories, history_name, &c->histories_by_name);
    return status;
}

static tsr_checkpoint *open_source(tsr_source source)
{
    tsr_checkpoint *c = calloc(1, sizeof *c);
    if (c == NULL) {
        tsr_source__close(&source);
        fail_memory();
        return NULL;
    }
    c->source = source;
    if (read_index(c) != TSR_STATUS_OK) tsr_checkpoint_close(&c);
    return c;
}

tsr_checkpoint *tsr_checkpoint_open(const char *path)
{
    tsr_source source;
    return tsr_source__open(&source, "checkpoint", path) == TSR_STATUS_OK ? open_source(source)
                                                                          : NULL;
}

tsr_checkpoint *tsr_checkpoint_open_memory(const void *data, size_t bytes)
{
    tsr_source source;
    return tsr_source__open_memory(&source, "checkpoint", data, bytes) == TSR_STATUS_OK
               ? open_source(source)
               : NULL;
}

void tsr_checkpoint_close(tsr_checkpoint **checkpoint)
{
    if (checkpoint == NULL || *checkpoint == NULL) return;
    tsr_checkpoint *c = *checkpoint;
    for (size_t i = 0; i < c->n_messages; i++) free_entry(c->messages[i]);
    for (size_t i = 0; i < c->n_histories; i++) {
        free(c->histories[i].steps);
        free(c->histories[i].values);
    }
    free(c->messages);
    free(c->tensors);
    free(c->values);
    free(c->histories);
    free(c->tensors_by_name);
    free(c->values_by_name);
    free(c->histories_by_name);
    tsr_source__close(&c->source);
    free(c);
    *checkpoint = NULL;
}

/* ------------------------------------------------------------------ lists ------------------------------------------- */

/* The number of a name among n names in the order given; n when it is not there. */
static size_t find_name(const tsr_checkpoint *c, size_t n,
                        const char *(*name_at)(const tsr_checkpoint *, size_t), const size_t *order,
                        const char *name)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int compared = strcmp(name_at(c, order[middle]), name);
        if (compared == 0) return order[middle];
        if (compared < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return n;
}

int64_t tsr_checkpoint_count(const tsr_checkpoint *c)
{
    return c == NULL ? 0 : (int64_t)c->n_tensors;
}

const tsr_checkpoint_entry *tsr_checkpoint_at(const tsr_checkpoint *c, int64_t i)
{
    return i < 0 || i >= tsr_checkpoint_count(c) ? NULL : &c->tensors[i].about;
}

static const tensor_entry *find_tensor(const tsr_checkpoint *c, const char *name)
{
    if (c == NULL || name == NULL) return NULL;
    size_t i = find_name(c, c->n_tensors, tensor_name, c->tensors_by_name, name);
    return i < c->n_tensors ? &c->tensors[i] : NULL;
}

const tsr_checkpoint_entry *tsr_checkpoint_find(const tsr_checkpoint *c, const char *name)
{
    const tensor_entry *t = find_tensor(c, name);
    return t == NULL ? NULL : &t->about;
}

int64_t tsr_checkpoint_value_count(const tsr_checkpoint *c)
{
    return c == NULL ? 0 : (int64_t)c->n_values;
}

const tsr_checkpoint_value *tsr_checkpoint_value_at(const tsr_checkpoint *c, int64_t i)
{
    return i < 0 || i >= tsr_checkpoint_value_count(c) ? NULL : &c->values[i];
}

const tsr_checkpoint_value *tsr_checkpoint_value_find(const tsr_checkpoint *c, const char *key)
{
    if (c == NULL || key == NULL) return NULL;
    size_t i = find_name(c, c->n_values, value_key, c->values_by_name, key);
    return i < c->n_values ? &c->values[i] : NULL;
}

int64_t tsr_checkpoint_history_count(const tsr_checkpoint *c)
{
    return c == NULL ? 0 : (int64_t)c->n_histories;
}

const tsr_history *tsr_checkpoint_history_at(const tsr_checkpoint *c, int64_t i)
{
    return i < 0 || i >= tsr_checkpoint_history_count(c) ? NULL : &c->histories[i].about;
}

const tsr_history *tsr_checkpoint_history_find(const tsr_checkpoint *c, const char *name)
{
    if (c == NULL || name == NULL) return NULL;
    size_t i = find_name(c, c->n_histories, history_name, c->histories_by_name, name);
    return i < c->n_histories ? &c->histories[i].about : NULL;
}

static const tsr_checkpoint_value *get_value(const tsr_checkpoint *c, const char *key,
                                             tsr_value_kind kind)
{
    static const char *const kinds[] = {"an int", "a uint",   "a double",
                                        "a bool", "a string", "bytes"};
    const tsr_checkpoint_value *v = tsr_checkpoint_value_find(c, key);
    if (v == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "checkpoint: '%s' has no value '%s'",
                 c != NULL ? c->source.name : "(null)", key != NULL ? key : "(null)");
    } else if (v->kind != kind) {
        tsr_fail(TSR_STATUS_DTYPE, "checkpoint: '%s': value '%s' is %s, wanted %s", c->source.name,
                 key, kinds[v->kind], kinds[kind]);
        v = NULL;
    }
    return v;
}

tsr_status tsr_checkpoint_get_int(const tsr_checkpoint *c, const char *key, int64_t *value)
{
    const tsr_checkpoint_value *v = get_value(c, key, TSR_VALUE_KIND_INT);
    if (v == NULL) return tsr_status_get();
    *value = v->u.as_int;
    return TSR_STATUS_OK;
}

tsr_status tsr_checkpoint_get_uint(const tsr_checkpoint *c, const char *key, uint64_t *value)
{
    const tsr_checkpoint_value *v = get_value(c, key, TSR_VALUE_KIND_UINT);
    if (v == NULL) return tsr_status_get();
    *value = v->u.as_uint;
    return TSR_STATUS_OK;
}

tsr_status tsr_checkpoint_get_double(const tsr_checkpoint *c, const char *key, double *value)
{
    const tsr_checkpoint_value *v = get_value(c, key, TSR_VALUE_KIND_DOUBLE);
    if (v == NULL) return tsr_status_get();
    *value = v->u.as_double;
    return TSR_STATUS_OK;
}

tsr_status tsr_checkpoint_get_bool(const tsr_checkpoint *c, const char *key, bool *value)
{
    const tsr_checkpoint_value *v = get_value(c, key, TSR_VALUE_KIND_BOOL);
    if (v == NULL) return tsr_status_get();
    *value = v->u.as_bool;
    return TSR_STATUS_OK;
}

tsr_status tsr_checkpoint_get_string(const tsr_checkpoint *c, const char *key, const char **utf8)
{
    const tsr_checkpoint_value *v = get_value(c, key, TSR_VALUE_KIND_STRING);
    if (v == NULL) return tsr_status_get();
    *utf8 = v->u.as_string;
    return TSR_STATUS_OK;
}

tsr_status tsr_checkpoint_get_bytes(const tsr_checkpoint *c, const char *key, const void **data,
                                    size_t *bytes)
{
    const tsr_checkpoint_value *v = get_value(c, key, TSR_VALUE_KIND_BYTES);
    if (v == NULL) return tsr_status_get();
    *data = v->u.as_bytes;
    *bytes = v->bytes;
    return TSR_STATUS_OK;
}

/* ------------------------------------------------------------------ data -------------------------------------------- */

static bool bools_are_valid(const uint8_t *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (data[i] > 1) return false;
    }
    return true;
}

/* Reads and checks the data of one tensor; to has room for all of it, or is NULL to check only. */
static tsr_status read_data(const tsr_checkpoint *c, const tensor_entry *t, uint8_t *to)
{
    place p = {.at = t->about.offset, .record = t->first_record};
    for (uint64_t at = 0; at < t->about.bytes; at += t->chunk_bytes) {
        uint64_t left = t->about.bytes - at, wanted = left < t->chunk_bytes ? left : t->chunk_bytes;
        pb_entry *entry = read_record(c, &p, t->about.name);
        if (entry == NULL) return tsr_status_get();
        const Tessera__Checkpoint__Chunk *chunk =
            entry->kind_case == TESSERA__CHECKPOINT__ENTRY__KIND_CHUNK ? entry->chunk : NULL;
        tsr_status status = TSR_STATUS_OK;
        if (chunk == NULL || chunk->offset != at || chunk->data.len != wanted) {
            status =
                tsr_fail(TSR_STATUS_FORMAT,
                         "checkpoint: '%s': record %llu is not the chunk of '%s' at offset %llu",
                         c->source.name, (unsigned long long)(p.record - 1), t->about.name,
                         (unsigned long long)at);
        } else if (t->about.dtype == TSR_DTYPE_BOOL &&
                   !bools_are_valid(chunk->data.data, chunk->data.len)) {
            status = tsr_fail(TSR_STATUS_FORMAT,
                              "checkpoint: '%s': tensor '%s' has a bool that is neither 0 nor 1",
                              c->source.name, t->about.name);
        } else if (to != NULL) {
            memcpy(to + at, chunk->data.data, chunk->data.len);
        }
        free_entry(entry);
        if (status != TSR_STATUS_OK) return status;
    }
    return TSR_STATUS_OK;
}

tsr_status tsr_checkpoint_verify(tsr_checkpoint *c)
{
    if (c == NULL) return tsr_fail(TSR_STATUS_ARGUMENT, "checkpoint: the checkpoint is NULL");
    tsr_status status = TSR_STATUS_OK;
    for (size_t i = 0; i < c->n_tensors && status == TSR_STATUS_OK; i++)
        status = read_data(c, &c->tensors[i], NULL);
    return status;
}

tsr_tensor *tsr_checkpoint_tensor(tsr_checkpoint *c, const char *name)
{
    if (c == NULL) return NULL;
    const tensor_entry *t = find_tensor(c, name);
    if (t == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "checkpoint: '%s' has no tensor '%s'; it has %zu%s%s%s",
                 c->source.name, name != NULL ? name : "(null)", c->n_tensors,
                 c->n_tensors > 0 ? ", the first is '" : "",
                 c->n_tensors > 0 ? c->tensors[0].about.name : "", c->n_tensors > 0 ? "'" : "");
        return NULL;
    }
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *result = tsr_empty(t->about.dtype, t->about.shape);
    bool ok = result != NULL && read_data(c, t, tsr_tensor_data_mut(result)) == TSR_STATUS_OK;
    return tsr_scope_return(&scope, ok ? result : NULL);
}

/* ------------------------------------------------------------------ strict loading ---------------------------------- */

/* Names for one line: as many as fit, and how many there are. */
typedef struct name_list {
    char text[112];
    int64_t n;
} name_list;

static void add_name(name_list *list, const char *text)
{
    size_t used = strlen(list->text), bytes = strlen(text);
    const char *comma = list->n++ > 0 ? ", " : "";
    bool cut = used >= 3 && strcmp(list->text + used - 3, "...") == 0;
    if (cut) return;
    if (used + strlen(comma) + bytes + sizeof ", ..." <= sizeof list->text) {
        snprintf(list->text + used, sizeof list->text - used, "%s%s", comma, text);
    } else {
        snprintf(list->text + used, sizeof list->text - used, "%s...", comma);
    }
}

static bool has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* found[k] becomes the entry of target k, or the lists say what is wrong. */
static tsr_status match_targets(const tsr_checkpoint *c, const char *prefix,
                                const tsr_named_tensor *targets, int64_t n,
                                const tensor_entry **found, bool *asked)
{
    name_list missing = {.n = 0}, unexpected = {.n = 0}, mismatched = {.n = 0};
    for (int64_t k = 0; k < n; k++) {
        if (targets[k].name == NULL || targets[k].tensor == NULL) {
            return tsr_fail(TSR_STATUS_ARGUMENT, "checkpoint: target %lld of %lld ('%s') is NULL",
                            (long long)k, (long long)n,
                            targets[k].name != NULL ? targets[k].name : "(null)");
        }
        size_t bytes = strlen(prefix) + strlen(targets[k].name) + 1;
        char *name = malloc(bytes);
        if (name == NULL) return fail_memory();
        snprintf(name, bytes, "%s%s", prefix, targets[k].name);
        found[k] = find_tensor(c, name);
        free(name);
        if (found[k] == NULL) {
            add_name(&missing, targets[k].name);
            continue;
        }
        if (asked[found[k] - c->tensors]) {
            return tsr_fail(TSR_STATUS_ARGUMENT, "checkpoint: target '%s' is given twice",
                            targets[k].name);
        }
        asked[found[k] - c->tensors] = true;
        tsr_shape shape = tsr_tensor_shape(targets[k].tensor);
        tsr_dtype dtype = tsr_tensor_dtype(targets[k].tensor);
        const tsr_checkpoint_entry *e = &found[k]->about;
        if (e->dtype != dtype || !tsr_shape_equal(e->shape, shape)) {
            char a[TSR_SHAPE_TEXT], b[TSR_SHAPE_TEXT], text[2 * TSR_SHAPE_TEXT + TSR_NAME_MAX];
            snprintf(text, sizeof text, "%s is %s %s, wanted %s %s", targets[k].name,
                     tsr_dtype_name(e->dtype), tsr_shape_text(e->shape, a), tsr_dtype_name(dtype),
                     tsr_shape_text(shape, b));
            add_name(&mismatched, text);
        }
    }
    for (size_t i = 0; i < c->n_tensors; i++) {
        const char *name = c->tensors[i].about.name;
        if (!asked[i] && has_prefix(name, prefix)) add_name(&unexpected, name + strlen(prefix));
    }
    if (missing.n + unexpected.n + mismatched.n == 0) return TSR_STATUS_OK;
    return tsr_fail(TSR_STATUS_ARGUMENT,
                    "checkpoint: '%.80s': '%.40s' does not fit: %lld missing (%s), %lld unexpected "
                    "(%s), %lld mismatched (%s)",
                    c->source.name, prefix, (long long)missing.n, missing.text,
                    (long long)unexpected.n, unexpected.text, (long long)mismatched.n,
                    mismatched.text);
}

static tsr_status load_target(const tsr_checkpoint *c, const tensor_entry *entry,
                              tsr_tensor *target)
{
    if (tsr_tensor_is_contiguous(target)) return read_data(c, entry, tsr_tensor_data_mut(target));
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *packed = tsr_empty(entry->about.dtype, entry->about.shape);
    tsr_status status =
        packed == NULL ? tsr_status_get() : read_data(c, entry, tsr_tensor_data_mut(packed));
    if (status == TSR_STATUS_OK) status = tsr_tensor_copy(target, packed);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return status;
}

tsr_status tsr_checkpoint_load(tsr_checkpoint *c, const char *prefix,
                               const tsr_named_tensor *targets, int64_t n)
{
    if (c == NULL || prefix == NULL || n < 0 || (n > 0 && targets == NULL)) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "checkpoint: the checkpoint, the prefix or the list of targets is NULL");
    }
    const tensor_entry **found = calloc(n > 0 ? (size_t)n : 1, sizeof *found);
    bool *asked = calloc(c->n_tensors > 0 ? c->n_tensors : 1, sizeof *asked);
    tsr_status status = found == NULL || asked == NULL
                            ? fail_memory()
                            : match_targets(c, prefix, targets, n, found, asked);
    /* Twice over the data, so that a damaged file leaves the targets as they are. */
    for (int64_t k = 0; k < n && status == TSR_STATUS_OK; k++)
        status = read_data(c, found[k], NULL);
    for (int64_t k = 0; k < n && status == TSR_STATUS_OK; k++)
        status = load_target(c, found[k], targets[k].tensor);
    free(found);
    free(asked);
    return status;
}
