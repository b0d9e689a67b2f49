/* Files that somebody cut, damaged, or made up. Records are made up with the code that protobuf-c generates. */
#include "checkpoint.pb-c.h"
#include "serialization/serialization.h"
#include "tests/serialization/files.h"

#include <zlib.h>

/* Opens and reads everything from an own copy of exactly these bytes; the status tells what happened. */
static void read_all(const void *data, size_t bytes)
{
    uint8_t *copy = malloc(bytes > 0 ? bytes : 1);
    if (bytes > 0) memcpy(copy, data, bytes);
    tsr_scope scope = tsr_scope_open();
    tsr_checkpoint *c = tsr_checkpoint_open_memory(copy, bytes);
    if (c != NULL) tsr_checkpoint_verify(c);
    for (int64_t i = 0; i < tsr_checkpoint_count(c); i++)
        tsr_checkpoint_tensor(c, tsr_checkpoint_at(c, i)->name);
    tsr_checkpoint_close(&c);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    free(copy);
}

static void refuse(const void *data, size_t bytes, const char *text)
{
    read_all(data, bytes);
    assert_failed(TSR_STATUS_FORMAT, text);
}

/* One of each kind of record. */
static uint8_t *small_checkpoint(void **state, size_t *bytes)
{
    const char *path = in_directory(state, "small.tsr");
    tsr_scope scope = tsr_scope_open();
    tsr_checkpoint_writer *w = tsr_checkpoint_create(path);
    tsr_checkpoint_put_int(w, "step", 120);
    tsr_checkpoint_put_string(w, "recipe", "ibot");
    tsr_checkpoint_put_tensor(w, "student/w", numbered(TSR_DTYPE_F32, TSR_SHAPE(2, 3)));
    tsr_checkpoint_put_tensor(w, "student/none", numbered(TSR_DTYPE_F32, TSR_SHAPE(0)));
    tsr_checkpoint_put_tensor(w, "student/mask", numbered(TSR_DTYPE_BOOL, TSR_SHAPE(5)));
    static const char *const columns[] = {"loss"};
    tsr_checkpoint_put_history(
        w, &(tsr_history){"train", columns, 1, (int64_t[]){1, 2}, (double[]){0.5, 0.25}, 2});
    assert_int_equal(tsr_checkpoint_commit(&w), TSR_STATUS_OK);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    uint8_t *file = read_file(path, bytes);
    read_all(file, *bytes);
    assert_int_equal(tsr_status_get(), TSR_STATUS_OK);
    return file;
}

static void test_checkpoint_hostile__cut_at_any_byte(void **state)
{
    size_t bytes;
    uint8_t *file = small_checkpoint(state, &bytes);
    for (size_t n = 0; n < bytes; n++) {
        char text[80];
        snprintf(text, sizeof text, "is truncated at byte %zu", n);
        refuse(file, n, n >= 30 ? text : "is not a Tessera checkpoint");
    }
    free(file);
}

static void test_checkpoint_hostile__any_bit_turned(void **state)
{
    size_t bytes;
    uint8_t *file = small_checkpoint(state, &bytes);
    for (size_t bit = 0; bit < 8 * bytes; bit++) {
        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
        read_all(file, bytes);
        if (tsr_status_get() != TSR_STATUS_FORMAT || strlen(tsr_message()) < 20) {
            fail_msg("bit %zu of byte %zu: '%s'", bit % 8, bit / 8, tsr_message());
        }
        tsr_status_clear();
        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(file);
}

static void test_checkpoint_hostile__two_bytes_more_or_less(void **state)
{
    size_t bytes;
    uint8_t *file = small_checkpoint(state, &bytes), *other = malloc(bytes + 2);
    for (size_t n = 0; n <= bytes; n++) {
        memcpy(other, file, n);
        other[n] = other[n + 1] = 0x7a;
        memcpy(other + n + 2, file + n, bytes - n);
        refuse(other, bytes + 2, "checkpoint: '(memory)'");
        if (n + 2 > bytes) continue;
        memcpy(other + n, file + n + 2, bytes - n - 2);
        refuse(other, bytes - 2, "checkpoint: '(memory)'");
    }
    free(file);
    free(other);
}

static void test_checkpoint_hostile__foreign_files_are_named(void **state)
{
    (void)state;
    refuse("", 0, "is not a Tessera checkpoint; it looks like an empty file");
    refuse("PK\x03\x04\0\0\0\0", 8, "it looks like a zip archive, as PyTorch's .pth files are");
    refuse("\x80\x02}q\0", 5, "it looks like a Python pickle, as old PyTorch .pth files are");
    refuse("\x10\0\0\0\0\0\0\0{\"a\":", 13, "it looks like a safetensors file");
    refuse("\xff\xd8\xff\xe0", 4, "it looks like a JPEG picture");
    refuse("\0\0\0\0\0\0\0\0", 8, "it looks like a file of zeros");
    refuse("hello, world, how are you?", 26,
           "is not a Tessera checkpoint (or its header is damaged)");
    assert_null(tsr_checkpoint_open("/nonexistent/x.tsr"));
    assert_failed(TSR_STATUS_IO, "cannot open '/nonexistent/x.tsr': No such file");
    assert_null(tsr_checkpoint_open("/"));
    assert_failed(TSR_STATUS_IO, "'/' is a directory");
}

/* ------------------------------------------------------------------ made-up records --------------------------------- */

typedef Tessera__Checkpoint__Entry pb_entry;

typedef struct stream {
    uint8_t data[8192];
    size_t bytes;
} stream;

static void put_bytes(stream *s, const uint8_t *entry, size_t bytes)
{
    Tessera__Checkpoint__Record record = TESSERA__CHECKPOINT__RECORD__INIT;
    record.crc32 = (uint32_t)crc32_z(0, entry, bytes);
    record.entry = (ProtobufCBinaryData){.len = bytes, .data = (uint8_t *)(uintptr_t)entry};
    size_t n = tessera__checkpoint__record__get_packed_size(&record);
    assert_true(n < 16384 && s->bytes + n + 2 <= sizeof s->data);
    s->data[s->bytes++] = (uint8_t)((n & 0x7f) | (n > 0x7f ? 0x80 : 0));
    if (n > 0x7f) s->data[s->bytes++] = (uint8_t)(n >> 7);
    s->bytes += tessera__checkpoint__record__pack(&record, s->data + s->bytes);
}

static void put(stream *s, Tessera__Checkpoint__Entry__KindCase kind, void *content)
{
    pb_entry entry = TESSERA__CHECKPOINT__ENTRY__INIT;
    entry.kind_case = kind;
    entry.header = content; /* a union of pointers */
    uint8_t data[4096];
    put_bytes(s, data, tessera__checkpoint__entry__pack(&entry, data));
}

#define KIND(name) TESSERA__CHECKPOINT__ENTRY__KIND_##name

static stream begin(uint32_t version)
{
    stream s = {.bytes = 0};
    char magic[] = "tessera checkpoint";
    Tessera__Checkpoint__Header header = TESSERA__CHECKPOINT__HEADER__INIT;
    header.magic = magic;
    header.version = version;
    put(&s, KIND(HEADER), &header);
    return s;
}

static void put_end(stream *s, uint64_t records, uint64_t values, uint64_t rows, uint64_t tensors,
                    uint64_t tensor_bytes)
{
    Tessera__Checkpoint__End end = TESSERA__CHECKPOINT__END__INIT;
    end.records = records;
    end.values = values;
    end.rows = rows;
    end.tensors = tensors;
    end.tensor_bytes = tensor_bytes;
    put(s, KIND(END), &end);
}

static void put_tensor(stream *s, const char *name, int dtype, int n_shape, const uint64_t *shape,
                       uint64_t bytes, uint64_t chunk_bytes)
{
    Tessera__Checkpoint__Tensor t = TESSERA__CHECKPOINT__TENSOR__INIT;
    t.name = (char *)(uintptr_t)name;
    t.dtype = (Tessera__Checkpoint__DType)dtype;
    t.n_shape = (size_t)n_shape;
    t.shape = (uint64_t *)(uintptr_t)shape;
    t.bytes = bytes;
    t.chunk_bytes = chunk_bytes;
    put(s, KIND(TENSOR), &t);
}

static void put_chunk(stream *s, uint64_t offset, size_t bytes)
{
    uint8_t data[64] = {0};
    Tessera__Checkpoint__Chunk chunk = TESSERA__CHECKPOINT__CHUNK__INIT;
    chunk.offset = offset;
    chunk.data = (ProtobufCBinaryData){.len = bytes, .data = data};
    put(s, KIND(CHUNK), &chunk);
}

static void test_checkpoint_hostile__newer_versions_are_refused(void **state)
{
    (void)state;
    stream s = begin(2);
    put_end(&s, 1, 0, 0, 0, 0);
    refuse(s.data, s.bytes,
           "has format version 2, this library reads up to 1: use a newer Tessera");
    s = begin(1);
    put_end(&s, 1, 0, 0, 0, 0);
    read_all(s.data, s.bytes);
    assert_int_equal(tsr_status_get(), TSR_STATUS_OK);
}

/* What a later version may add is skipped: a kind of record, a kind of value, fields of known kinds. */
static void test_checkpoint_hostile__unknown_fields_are_skipped(void **state)
{
    (void)state;
    stream s = begin(1);
    static const uint8_t kind[] = {0xa2, 0x01, 0x03, 'n', 'e', 'w'}; /* Entry.20 */
    static const uint8_t value[] = {0x12, 0x08, 0x0a, 0x01, 'k',
                                    0xa2, 0x01, 0x02, 'o',  'k'}; /* Value.20 */
    static const uint8_t field[] = {0x12, 0x08, 0x0a, 0x01, 'v',
                                    0x10, 0x0a, 0xa0, 0x01, 0x07}; /* integer 5, then 20 */
    put_bytes(&s, kind, sizeof kind);
    put_bytes(&s, value, sizeof value);
    put_bytes(&s, field, sizeof field);
    put_end(&s, 4, 2, 0, 0, 0);
    tsr_checkpoint *c = tsr_checkpoint_open_memory(s.data, s.bytes);
    if (c == NULL) fail_msg("%s", tsr_message());
    assert_int_equal(tsr_checkpoint_value_count(c), 1);
    int64_t v = 0;
    assert_int_equal(tsr_checkpoint_get_int(c, "v", &v), TSR_STATUS_OK);
    assert_int_equal(v, 5);
    tsr_checkpoint_close(&c);
}

/* A file of header, the record or records that f puts, and an end that counts n of them. */
#define REFUSE(n, values, rows, tensors, tensor_bytes, text, ...)                                  \
    do {                                                                                           \
        stream s = begin(1);                                                                       \
        __VA_ARGS__;                                                                               \
        put_end(&s, 1 + (n), values, rows, tensors, tensor_bytes);                                 \
        refuse(s.data, s.bytes, text);                                                             \
    } while (0)

static void test_checkpoint_hostile__impossible_tensors_are_refused(void **state)
{
    (void)state;
    const uint64_t one[] = {1, 1, 1, 1, 1, 1, 1, 1, 1}, huge[] = {1ull << 32, 1ull << 32},
                   negative[] = {UINT64_MAX}, wide[] = {1ull << 61}, four[] = {4};
    REFUSE(1, 0, 0, 1, 0, "a tensor's name is not allowed", put_tensor(&s, "", 1, 1, one, 4, 4));
    REFUSE(1, 0, 0, 1, 0, "a tensor's name is not allowed",
           put_tensor(&s, "a\x1b[1m", 1, 1, one, 4, 4));
    REFUSE(1, 0, 0, 1, 0, "tensor 'a' has type 0", put_tensor(&s, "a", 0, 1, one, 4, 4));
    REFUSE(1, 0, 0, 1, 0, "tensor 'a' has type 8", put_tensor(&s, "a", 8, 1, one, 4, 4));
    REFUSE(1, 0, 0, 1, 0, "more than 8 dimensions", put_tensor(&s, "a", 1, 9, one, 4, 4));
    REFUSE(1, 0, 0, 1, 0, "bytes do not fit its shape", put_tensor(&s, "a", 1, 2, huge, 0, 4));
    REFUSE(1, 0, 0, 1, 0, "bytes do not fit its shape", put_tensor(&s, "a", 2, 1, wide, 0, 4));
    REFUSE(1, 0, 0, 1, 0, "shape is too large", put_tensor(&s, "a", 1, 1, negative, 0, 4));
    REFUSE(1, 0, 0, 1, 0, "bytes do not fit its shape", put_tensor(&s, "a", 1, 1, one, 8, 4));
    REFUSE(1, 0, 0, 1, 4, "chunk_bytes are not possible", put_tensor(&s, "a", 1, 1, one, 4, 0));
    REFUSE(1, 0, 0, 1, 4, "chunk_bytes are not possible",
           put_tensor(&s, "a", 1, 1, one, 4, UINT64_MAX));
    REFUSE(1, 0, 0, 1, 1ull << 61, "is truncated at byte",
           put_tensor(&s, "a", 6, 1, wide, 1ull << 61, 1 << 20));
    REFUSE(0, 0, 0, 1, 4, "is truncated at byte", put_tensor(&s, "a", 1, 1, one, 4, 4));
    REFUSE(2, 0, 0, 1, 4, "is not the chunk of 'a' at offset 0",
           put_tensor(&s, "a", 1, 1, one, 4, 4), put_chunk(&s, 4, 4));
    REFUSE(2, 0, 0, 1, 4, "is not the chunk of 'a' at offset 0",
           put_tensor(&s, "a", 1, 1, one, 4, 4), put_chunk(&s, 0, 8));
    REFUSE(2, 0, 0, 1, 4, "is not the chunk of 'a' at offset 0",
           put_tensor(&s, "a", 6, 1, four, 4, 4), put_tensor(&s, "b", 6, 1, four, 4, 4));
    REFUSE(3, 0, 0, 1, 8, "is not the chunk of 'a' at offset 4",
           put_tensor(&s, "a", 2, 1, one, 8, 4), put_chunk(&s, 0, 4), put_chunk(&s, 0, 4));
    REFUSE(4, 0, 0, 2, 8, "has 'a' twice", put_tensor(&s, "a", 1, 1, one, 4, 4),
           put_chunk(&s, 0, 4), put_tensor(&s, "a", 1, 1, one, 4, 4), put_chunk(&s, 0, 4));
    REFUSE(1, 0, 0, 0, 0, "a chunk belongs to no tensor", put_chunk(&s, 0, 4));
    static const uint8_t bad_bool[] = {0x2a, 0x03, 0x12, 0x01, 0x02};
    REFUSE(2, 0, 0, 1, 1, "a bool that is neither 0 nor 1", put_tensor(&s, "a", 7, 1, one, 1, 1),
           put_bytes(&s, bad_bool, sizeof bad_bool));
}

static void put_value(stream *s, const char *key, const char *text)
{
    Tessera__Checkpoint__Value v = TESSERA__CHECKPOINT__VALUE__INIT;
    v.key = (char *)(uintptr_t)key;
    v.value_case = TESSERA__CHECKPOINT__VALUE__VALUE_TEXT;
    v.text = (char *)(uintptr_t)text;
    put(s, KIND(VALUE), &v);
}

static void put_history(stream *s, const char *name, const char *column, size_t n_steps,
                        size_t n_values)
{
    int64_t steps[4] = {0};
    double values[4] = {0};
    Tessera__Checkpoint__History h = TESSERA__CHECKPOINT__HISTORY__INIT;
    h.name = (char *)(uintptr_t)name;
    h.n_columns = 1;
    h.columns = (char **)(uintptr_t)&column;
    h.n_steps = n_steps;
    h.steps = steps;
    h.n_values = n_values;
    h.values = values;
    put(s, KIND(HISTORY), &h);
}

static void test_checkpoint_hostile__impossible_records_are_refused(void **state)
{
    (void)state;
    REFUSE(1, 1, 0, 0, 0, "a value's key is not allowed", put_value(&s, "", "x"));
    REFUSE(1, 1, 0, 0, 0, "a value's key is not allowed", put_value(&s, "\xc0\x80", "x"));
    REFUSE(1, 1, 0, 0, 0, "a string is not UTF-8", put_value(&s, "k", "\xed\xa0\x80"));
    REFUSE(1, 1, 0, 0, 0, "a string is not UTF-8", put_value(&s, "k", "\xe0\x80\x80"));
    REFUSE(1, 1, 0, 0, 0, "a string is not UTF-8", put_value(&s, "k", "\xf4\x90\x80\x80"));
    REFUSE(1, 1, 0, 0, 0, "a string is not UTF-8", put_value(&s, "k", "\xe2\x82"));
    REFUSE(2, 2, 0, 0, 0, "has 'k' twice", put_value(&s, "k", "x"), put_value(&s, "k", "x"));
    REFUSE(1, 0, 1, 0, 0, "a history's name is not allowed", put_history(&s, "\n", "c", 1, 1));
    REFUSE(1, 0, 1, 0, 0, "a column's name is not allowed", put_history(&s, "h", "", 1, 1));
    REFUSE(1, 0, 1, 0, 0, "not one value for each row and column", put_history(&s, "h", "c", 2, 1));
    REFUSE(2, 0, 2, 0, 0, "goes on with other columns", put_history(&s, "h", "c", 1, 1),
           put_history(&s, "h", "d", 1, 1));
    REFUSE(3, 0, 3, 0, 0, "has 'h' twice", put_history(&s, "h", "c", 1, 1),
           put_history(&s, "i", "c", 1, 1), put_history(&s, "h", "c", 1, 1));
    REFUSE(1, 0, 0, 0, 0, "a second header", s = begin(1);
           memcpy(s.data + s.bytes, s.data, s.bytes); s.bytes *= 2);
    REFUSE(1, 0, 0, 0, 0, "is not an Entry", put_bytes(&s, (const uint8_t *)"\x0a\xff", 2));
    REFUSE(0, 0, 0, 0, 0, "has no possible length", s.data[s.bytes++] = 0);
    REFUSE(0, 0, 0, 0, 0, "has no possible length", memset(s.data + s.bytes, 0xff, 4);
           s.bytes += 4);
    REFUSE(0, 0, 0, 0, 0, "has no possible length", memset(s.data + s.bytes, 0xff, 3);
           s.data[s.bytes + 3] = 0x7f; s.bytes += 4);
}

/* The totals catch whole records that are missing, added or repeated. */
static void test_checkpoint_hostile__totals_are_checked(void **state)
{
    (void)state;
    REFUSE(2, 1, 0, 0, 0, "the totals are not those", put_value(&s, "k", "x"));
    REFUSE(1, 0, 0, 0, 0, "the totals are not those", put_value(&s, "k", "x"));
    REFUSE(1, 0, 2, 0, 0, "the totals are not those", put_history(&s, "h", "c", 1, 1));
    REFUSE(1, 0, 0, 2, 0, "the totals are not those",
           put_tensor(&s, "a", 1, 1, (uint64_t[]){0}, 0, 4));
    REFUSE(1, 0, 0, 1, 4, "the totals are not those",
           put_tensor(&s, "a", 1, 1, (uint64_t[]){0}, 0, 4));
    REFUSE(0, 0, 0, 0, 0, "there is something after the end", put_end(&s, 1, 0, 0, 0, 0));
}

#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, open_directory, close_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(test_checkpoint_hostile__cut_at_any_byte),
        IN_DIRECTORY(test_checkpoint_hostile__any_bit_turned),
        IN_DIRECTORY(test_checkpoint_hostile__two_bytes_more_or_less),
        IN_DIRECTORY(test_checkpoint_hostile__foreign_files_are_named),
        IN_DIRECTORY(test_checkpoint_hostile__newer_versions_are_refused),
        IN_DIRECTORY(test_checkpoint_hostile__unknown_fields_are_skipped),
        IN_DIRECTORY(test_checkpoint_hostile__impossible_tensors_are_refused),
        IN_DIRECTORY(test_checkpoint_hostile__impossible_records_are_refused),
        IN_DIRECTORY(test_checkpoint_hostile__totals_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, trim_pool);
}
