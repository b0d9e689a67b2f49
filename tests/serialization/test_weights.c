/*
 * tests/golden/torch_*.pth were made by make_pth.py beside them. Hostile files are made here: pickles in the format from
 * before PyTorch 1.6, which needs no archive around them, and archives with libzip.
 */
#include "serialization/serialization.h"
#include "tests/serialization/files.h"

#include <math.h>
#include <zip.h>
#include <zlib.h>

static const char *golden(const char *name, char path[1024])
{
    const char *folder = getenv("TSR_GOLDEN");
    snprintf(path, 1024, "%s/%s", folder != NULL ? folder : "tests/golden", name);
    return path;
}

static int64_t find(const tsr_weights *w, const char *name)
{
    for (int64_t i = 0; i < tsr_weights_count(w); i++) {
        if (strcmp(tsr_weights_name(w, i), name) == 0) return i;
    }
    fail_msg("there is no '%s'", name);
    return -1;
}

static void check(tsr_weights *w, const char *name, tsr_dtype dtype, tsr_shape shape,
                  const double *values)
{
    int64_t i = find(w, name);
    tsr_tensor *t = tsr_weights_tensor(w, i);
    if (t == NULL) fail_msg("%s: %s", name, tsr_message());
    assert_int_equal(tsr_tensor_dtype(t), dtype);
    assert_true(tsr_shape_equal(tsr_tensor_shape(t), shape));
    assert_true(tsr_shape_equal(tsr_weights_shape(w, i), shape));
    assert_true(tsr_tensor_is_contiguous(t));
    for (int64_t k = 0; k < tsr_tensor_numel(t); k++) {
        double got = tsr_tensor_get(t, k);
        if (got != values[k] || signbit(got) != signbit(values[k])) {
            fail_msg("%s[%d] is %g, wanted %g", name, (int)k, got, values[k]);
        }
    }
}

static void check_content(const char *file)
{
    char path[1024];
    tsr_scope scope = tsr_scope_open();
    tsr_weights *w = tsr_weights_open(golden(file, path));
    if (w == NULL) fail_msg("%s: %s", file, tsr_message());
    assert_string_equal(tsr_weights_format(w), "PyTorch");
    const double f16[] = {0, -1.5, 65504, 0x1p-24, INFINITY}, bf16[] = {1, -0.5, 3.140625};
    const double f32[] = {-1, -0.75, -0.5, -0.25, 0, 0.25}, f64[] = {1.0 / 3, -2.5e300};
    check(w, "types.f16", TSR_DTYPE_F32, TSR_SHAPE(5), f16);
    check(w, "types.bf16", TSR_DTYPE_BF16, TSR_SHAPE(3), bf16);
    check(w, "types.f32", TSR_DTYPE_F32, TSR_SHAPE(2, 3), f32);
    check(w, "types.f64", TSR_DTYPE_F64, TSR_SHAPE(2), f64);
    check(w, "types.i8", TSR_DTYPE_I32, TSR_SHAPE(3), (double[]){-128, 127, 5});
    check(w, "types.i16", TSR_DTYPE_I32, TSR_SHAPE(2), (double[]){-32768, 32767});
    check(w, "types.i32", TSR_DTYPE_I32, TSR_SHAPE(2), (double[]){7, -8});
    check(w, "types.i64", TSR_DTYPE_I64, TSR_SHAPE(1, 1), (double[]){-0x1p62});
    check(w, "types.u8", TSR_DTYPE_U8, TSR_SHAPE(3), (double[]){0, 255, 3});
    check(w, "types.bool", TSR_DTYPE_BOOL, TSR_SHAPE(3), (double[]){1, 0, 1});
    check(w, "types.scalar", TSR_DTYPE_F32, TSR_SHAPE_SCALAR, (double[]){2.25});
    check(w, "types.empty", TSR_DTYPE_F32, TSR_SHAPE(0, 4), NULL);

    double all[24], matrix[24];
    for (int i = 0; i < 24; i++) {
        all[i] = i;
        matrix[i] = i / 6 + i / 3 % 2 * 12 + i % 3 * 4; /* [4, 2, 3] from strides 1, 12, 4 */
    }
    check(w, "views.all", TSR_DTYPE_F32, TSR_SHAPE(24), all);
    check(w, "views.tail", TSR_DTYPE_F32, TSR_SHAPE(4), (double[]){20, 21, 22, 23});
    check(w, "views.matrix", TSR_DTYPE_F32, TSR_SHAPE(4, 2, 3), matrix);
    check(w, "views.column", TSR_DTYPE_F32, TSR_SHAPE(4), (double[]){2, 8, 14, 20});
    check(w, "views.parameter", TSR_DTYPE_F32, TSR_SHAPE(2), (double[]){0, 1});
    check(w, "model.weight", TSR_DTYPE_F32, TSR_SHAPE(2, 2), (double[]){1, 2, 3, 4});
    check(w, "model.bias", TSR_DTYPE_F32, TSR_SHAPE(2), (double[]){5, 6});
    check(w, "optimizer.state.1.step", TSR_DTYPE_F32, TSR_SHAPE_SCALAR, (double[]){1});
    check(w, "list.0", TSR_DTYPE_F32, TSR_SHAPE(1), (double[]){1});
    check(w, "list.1.0", TSR_DTYPE_F32, TSR_SHAPE(1), (double[]){0});
    assert_int_equal(tsr_weights_count(w), 12 + 5 + 2 + 6 + 2);

    assert_null(tsr_weights_name(w, -1));
    assert_null(tsr_weights_tensor(w, 100));
    assert_failed(TSR_STATUS_ARGUMENT, "weights: tensor 100, there are 27");
    tsr_weights_close(&w);
    assert_null(w);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_weights__reads_what_torch_saves(void **state)
{
    (void)state;
    check_content("torch_zip.pth");
}

static void test_weights__reads_the_format_before_zip(void **state)
{
    (void)state;
    check_content("torch_legacy.pth");
}

static void test_weights__refuses_big_endian_data(void **state)
{
    (void)state;
    char path[1024];
    assert_null(tsr_weights_open(golden("torch_big_endian.pth", path)));
    assert_failed(TSR_STATUS_FORMAT, "its data is big-endian");
}

static void test_weights__knows_files_by_their_content(void **state)
{
    tsr_scope scope = tsr_scope_open();
    char path[1024];
    tsr_weights *w = tsr_weights_open(golden("reference.safetensors", path));
    assert_non_null(w);
    assert_string_equal(tsr_weights_format(w), "safetensors");
    check(w, "f32", TSR_DTYPE_F32, TSR_SHAPE(2, 3), (double[]){-1, -0.75, -0.5, -0.25, 0, 0.25});
    tsr_weights_close(&w);

    tsr_checkpoint_writer *c = tsr_checkpoint_create(in_directory(state, "x.pth"));
    tsr_checkpoint_put_tensor(c, "teacher/a", tsr_full(TSR_DTYPE_F32, TSR_SHAPE(2), 3));
    assert_int_equal(tsr_checkpoint_commit(&c), TSR_STATUS_OK);
    w = tsr_weights_open(in_directory(state, "x.pth"));
    assert_non_null(w);
    assert_string_equal(tsr_weights_format(w), "Tessera checkpoint");
    check(w, "teacher/a", TSR_DTYPE_F32, TSR_SHAPE(2), (double[]){3, 3});
    tsr_weights_close(&w);

    /* An ONNX model: version 8, a graph with one initializer "w" [2], as raw data and as numbers. */
    static const char raw[] = "\x08\x08:\x13*\x11\x08\x02\x10\x01"
                              "B\x01wJ\x08\0\0\x80?\0\0\0@";
    static const char numbers[] = "\x08\x08:\x13*\x11\x08\x02\x10\x01\"\x08\0\0\x80?\0\0\0@"
                                  "B\x01w";
    const char *const models[] = {raw, numbers};
    for (int i = 0; i < 2; i++) {
        w = tsr_weights_open_memory(models[i], sizeof raw - 1);
        if (w == NULL) fail_msg("%s", tsr_message());
        assert_string_equal(tsr_weights_format(w), "ONNX");
        check(w, "w", TSR_DTYPE_F32, TSR_SHAPE(2), (double[]){1, 2});
        tsr_weights_close(&w);
    }
    assert_null(tsr_weights_open_memory(raw, sizeof raw - 2));
    assert_failed(TSR_STATUS_FORMAT, "truncated, or not an ONNX model");

    write_file(in_directory(state, "x.pth"), "\x89PNG1234", 8);
    assert_null(tsr_weights_open(in_directory(state, "x.pth")));
    assert_failed(TSR_STATUS_FORMAT, "it looks like a PNG picture");
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* ---- hostile pickles ---- */

/* The file so far. */
static struct {
    uint8_t at[1 << 20];
    size_t n;
} file;

static void put(const void *data, size_t bytes)
{
    assert_true(bytes <= sizeof file.at - file.n);
    memcpy(file.at + file.n, data, bytes);
    file.n += bytes;
}

#define PUT(text) put(text, sizeof(text) - 1)

static void begin(void)
{
    file.n = 0;
    PUT("\x80\x02\x8a\x0al\xfc\x9c"
        "F\xf9 j\xa8P\x19."
        "\x80\x02M\xe9\x03."
        "\x80\x02}X\x0d\0\0\0little_endian\x88s."
        "\x80\x02");
}

/* OrderedDict or dict key, then a tensor of f32 with this storage key. */
#define TENSOR(key, numel, offset, sizes, strides)                                                 \
    "ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0" key \
    "X\x03\0\0\0cpu" numel "NtQ" offset "(" sizes "t(" strides "t\x89}tR"
#define KEYS(key) ".\x80\x02](X\x01\0\0\0" key "e."

static void refuse(const char *message)
{
    uint8_t *exact = malloc(file.n);
    assert_non_null(exact);
    memcpy(exact, file.at, file.n);
    tsr_weights *w = tsr_weights_open_memory(exact, file.n);
    if (w != NULL) fail_msg("opened; wanted '%s'", message);
    assert_failed(TSR_STATUS_FORMAT, message);
    free(exact);
}

static void test_weights__reads_the_least_pickle(void **state)
{
    (void)state;
    begin();
    PUT("}X\x01\0\0\0x" TENSOR("0", "K\x02", "K\x01", "K\x01",
                               "K\x01") "s" KEYS("0") "\x02\0\0\0\0\0\0\0"
                                                      "\0\0\0\0\0\0\x80?");
    tsr_scope scope = tsr_scope_open();
    tsr_weights *w = tsr_weights_open_memory(file.at, file.n);
    if (w == NULL) fail_msg("%s", tsr_message());
    check(w, "x", TSR_DTYPE_F32, TSR_SHAPE(1), (double[]){1});
    tsr_weights_close(&w);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_weights__executes_nothing(void **state)
{
    (void)state;
    begin();
    PUT("cposix\nsystem\nX\x02\0\0\0ls\x85R.");
    refuse("asks for posix.system, which is neither a tensor nor a plain container");
    begin();
    PUT("X\x08\0\0\0builtinsX\x04\0\0\0eval\x93.");
    refuse("asks for builtins.eval");
    begin();
    PUT("ctorch\n\x1b[2J\n.");
    refuse("a class has no proper name");
    begin();
    PUT("(iposix\nsystem\n.");
    refuse("opcode 0x69 is not one that torch.save() writes");
    /* What a listed class is given is not run either, nor looked into. */
    begin();
    PUT("}X\x01\0\0\0xcargparse\nNamespace\n)\x81}X\x01\0\0\0ycos\nabort\ns.");
    refuse("asks for os.abort");
    begin();
    PUT("ctorch\nFloatStorage\n)R.");
    refuse("a storage class is called");
    begin();
    PUT("K\x01)R.");
    refuse("a call of what is no function");
}

static void test_weights__refuses_broken_pickles(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *message;
    } cases[] = {
#define CASE(bytes, message) {bytes, sizeof(bytes) - 1, message}
        CASE(".", "the stack is empty"),
        CASE("s.", "the stack is empty"),
        CASE("(s.", "the stack is empty"),
        CASE("K\x01(\x85.", "the stack is empty"),
        CASE("e.", "there is no mark"),
        CASE("X\xff\xff\xff\xff", "it is cut off"),
        CASE("\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "it is cut off"),
        CASE("ctorch", "it is cut off"),
        CASE("h\x05", "a memo's index is out of range"),
        CASE("Nr\xff\xff\xff\x7f", "a memo's index is out of range"),
        CASE("\x80\x09", "its protocol is newer than 5"),
        CASE("(K\x01K\x02K\x03\x64", "items are put into what is not their container"),
        CASE("]K\x01K\x02s", "items are put into what is not their container"),
        CASE("K\x01Q", "a persistent id is not that of a storage"),
        CASE("(X\x07\0\0\0storageK\x01K\x01K\x01K\x01tQ", "a storage has no class"),
        CASE("]q\0h\0a.", "a container holds itself"),
        CASE("}q\0X\x01\0\0\0xh\0s.", "a container holds itself"),
        CASE(TENSOR("0", "K\x04", "K\x02", "K\x03", "K\x01"), "reaches beyond its storage"),
        CASE(TENSOR("0", "K\x04", "J\xff\xff\xff\xff", "K\x03", "K\x01"),
             "reaches beyond its storage"),
        CASE(TENSOR("0", "K\x04", "K\0", "K\x03", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"),
             "reaches beyond its storage"),
        CASE(TENSOR("0", "K\x04", "K\0", "\x8a\x05\0\0\0\0\x01\x8a\x05\0\0\0\0\x01", "K\0K\0"),
             "reaches beyond its storage"),
        CASE(TENSOR("0", "K\x04", "K\0", "K\x03K\x02", "K\x01"),
             "wants a storage, an offset, a size and strides"),
        CASE(TENSOR("0", "K\x04", "K\0", "K\x03", "K\0"), "a tensor overlaps itself"),
        CASE(TENSOR("0", "K\x04", "K\0", "K\x03K\x02", "K\x01K\x01"), "a tensor overlaps itself"),
        CASE(TENSOR("0", "K\x04", "K\0", "K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01",
                    "K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01"),
             "more than 8 dimensions"),
        CASE("}X\x03\0\0\0a\x1b"
             "b" TENSOR("0", "K\x02", "K\0", "K\x02", "K\x01") "s" KEYS("0"),
             "has control characters"),
        CASE("}X\0\0\0\0" TENSOR("0", "K\x02", "K\0", "K\x02", "K\x01") "s" KEYS("0"),
             "a tensor's name is empty"),
        CASE("}X\x01\0\0\0a" TENSOR("0", "K\x02", "K\0", "K\x02",
                                    "K\x01") "q\x01sX\x01\0\0\0ah\x01s" KEYS("0"),
             "'a' occurs twice"),
        CASE(TENSOR("0", "K\x02", "K\0", "K\x02", "K\x01") KEYS("1"), "is not in the file"),
        CASE(TENSOR("0", "K\x02", "K\0", "K\x02", "K\x01") KEYS("0") "\x02\0\0\0\0\0\0\0abc",
             "is cut off"),
        CASE(TENSOR("0", "K\x02", "K\0", "K\x02", "K\x01") KEYS("0") "\x01\0\0\0\0\0\0\0abcd",
             "another size than its tensors say"),
        CASE(TENSOR("0", "K\x02", "K\0", "K\x02", "K\x01") ".\x80\x02](X\x01\0\0\0"
                                                           "0X\x01\0\0\0"
                                                           "0e.",
             "two storages have one key"),
        CASE(TENSOR("0", "\x8a\x08\0\0\0\0\0\0\0\x40", "K\0", "\x8a\x08\0\0\0\0\0\0\0\x40", "K\x01")
                 KEYS("0"),
             "far larger than the file"),
        /* Sizes of 2^63 - 1, of 2^63 (an integer of nine bytes), and of -2^63. */
        CASE(TENSOR("0", "K\x04", "K\0", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", "K\x01"),
             "reaches beyond its storage"),
        CASE(TENSOR("0", "K\x04", "K\0", "\x8a\x09\0\0\0\0\0\0\0\x80\0", "K\x01"),
             "reaches beyond its storage"),
        CASE(TENSOR("0", "K\x04", "K\0", "\x8a\x08\0\0\0\0\0\0\0\x80", "K\x01"),
             "reaches beyond its storage"),
        CASE("N.K\x01.", "it has no list of storages"),
#undef CASE
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin();
        put(cases[i].bytes, cases[i].n);
        refuse(cases[i].message);
    }
}

static void test_weights__refuses_containers_nested_too_deep(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i < 1000; i++) PUT("]");
    for (int i = 0; i < 999; i++) PUT("a");
    PUT(".");
    refuse("nested more than 64 deep");
    /* Each holds the one before twice: 2^60 of them. */
    begin();
    PUT("]q\0");
    for (int i = 0; i < 60; i++) PUT("0]q\x01h\0ah\0ah\x01q\0");
    PUT(".");
    refuse("its containers hold each other too often");
    /* A list of n items copied n times. */
    begin();
    PUT("(");
    for (int i = 0; i < 10000; i++) PUT("NN\x86");
    PUT("lq\x01"
        "0");
    for (int i = 0; i < 10000; i++) PUT("ccollections\nOrderedDict\nh\x01\x85R");
    PUT(".");
    refuse("its values take more memory");
}

static void test_weights__refuses_every_cut(void **state)
{
    (void)state;
    const char *names[] = {"torch_zip.pth", "torch_legacy.pth"};
    for (int k = 0; k < 2; k++) {
        char path[1024];
        size_t bytes;
        uint8_t *data = read_file(golden(names[k], path), &bytes);
        for (size_t n = 0; n < bytes; n += n < 2000 ? 1 : 7) {
            uint8_t *cut = malloc(n > 0 ? n : 1);
            assert_non_null(cut);
            memcpy(cut, data, n);
            tsr_weights *w = tsr_weights_open_memory(cut, n);
            if (w != NULL) fail_msg("%s opened with %zu of %zu bytes", names[k], n, bytes);
            assert_int_not_equal(tsr_status_get(), TSR_STATUS_OK);
            if (k == 0 && n >= 4)
                assert_non_null(strstr(tsr_message(), ": it is cut off: the list"));
            tsr_status_clear();
            free(cut);
        }
        free(data);
    }
}

/* ---- hostile archives ---- */

struct part {
    const char *name, *data;
    size_t bytes;
    int method;
};

static const char *write_archive(void **state, const struct part *parts, int n)
{
    const char *path = in_directory(state, "x.pth");
    int error;
    zip_t *z = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &error);
    assert_non_null(z);
    for (int i = 0; i < n; i++) {
        zip_source_t *s = zip_source_buffer(z, parts[i].data, parts[i].bytes, 0);
        zip_int64_t at = zip_file_add(z, parts[i].name, s, 0);
        assert_true(at >= 0);
        assert_int_equal(zip_set_file_compression(z, (zip_uint64_t)at, parts[i].method, 0), 0);
    }
    assert_int_equal(zip_close(z), 0);
    return path;
}

#define ONE "\x80\x02" TENSOR("0", "K\x02", "K\0", "K\x02", "K\x01") "."

static void test_weights__refuses_odd_archives(void **state)
{
    static const char zeros[100000];
    const struct part pickle = {"a/data.pkl", ONE, sizeof ONE - 1, ZIP_CM_STORE};
    const struct {
        struct part parts[2];
        int n;
        const char *message;
    } cases[] = {
        {{{"x.txt", "hello", 5, ZIP_CM_STORE}}, 1, "not one that torch.save() wrote"},
        {{{"a/x.txt", "hello", 5, ZIP_CM_STORE}}, 1, "not one that torch.save() wrote"},
        {{pickle}, 1, "the storage of 'tensor' is not in the archive"},
        {{pickle, {"a/data/0", "1234", 4, ZIP_CM_STORE}}, 2, "has another size"},
        {{pickle, {"a/data/0", zeros, sizeof zeros, ZIP_CM_DEFLATE}}, 2, "compressed or encrypted"},
        {{pickle, {"a/constants.pkl", "12345678", 8, ZIP_CM_STORE}}, 2, "a TorchScript program"},
        {{pickle, {"a/byteorder", "big", 3, ZIP_CM_STORE}}, 2, "big-endian"},
        {{pickle, {"a/byteorder", "middle-endian", 13, ZIP_CM_STORE}}, 2, "big-endian"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = write_archive(state, cases[i].parts, cases[i].n);
        tsr_weights *w = tsr_weights_open(path);
        if (w != NULL) fail_msg("opened; wanted '%s'", cases[i].message);
        assert_failed(TSR_STATUS_FORMAT, cases[i].message);
    }
}

static void test_weights__checks_checksums(void **state)
{
    const struct part parts[] = {{"a/data.pkl", ONE, sizeof ONE - 1, ZIP_CM_STORE},
                                 {"a/data/0", "12345678", 8, ZIP_CM_STORE}};
    const char *path = write_archive(state, parts, 2);
    size_t bytes;
    uint8_t *data = read_file(path, &bytes);
    tsr_scope scope = tsr_scope_open();
    for (int broken = 0; broken < 2; broken++) {
        tsr_weights *w = tsr_weights_open_memory(data, bytes);
        assert_non_null(w);
        tsr_tensor *t = tsr_weights_tensor(w, 0);
        if (!broken) {
            assert_non_null(t);
        } else {
            assert_null(t);
            assert_failed(TSR_STATUS_FORMAT, "CRC error");
        }
        tsr_weights_close(&w);
        uint8_t *at = memmem(data, bytes, broken ? "123\x35" : "12345678", 4);
        assert_non_null(at);
        at[3] ^= 1;
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    free(data);
}

static void put_number(uint64_t number, size_t bytes)
{
    put(&number, bytes); /* little-endian, as zip is */
}

/* What a local header and an entry of the directory have in common, from the version on. */
static void put_zip_entry(uint32_t crc, size_t bytes, size_t name_bytes)
{
    put_number(20, 2);            /* version */
    put_number(0, 2 + 2 + 2 + 2); /* flags, stored, time, date */
    put_number(crc, 4);
    put_number(bytes, 4);
    put_number(bytes, 4);
    put_number(name_bytes, 2);
    put_number(0, 2); /* extra */
}

/* Entries that lie over each other, each with all of the data: the file would become larger than it is. */
static void test_weights__refuses_overlapping_entries(void **state)
{
    (void)state;
    enum { BYTES = 10000, ENTRIES = 50 };
    static const uint8_t data[BYTES];
    file.n = 0;
    PUT("PK\3\4");
    put_zip_entry((uint32_t)crc32_z(0, data, BYTES), BYTES, 10);
    PUT("a/data.pkl");
    put(data, BYTES);
    size_t first = file.n;
    for (int i = 0; i < ENTRIES; i++) {
        char name[16];
        snprintf(name, sizeof name, i == 0 ? "a/data.pkl" : "a/data/%03d", i);
        PUT("PK\1\2");
        put_number(20, 2); /* made by */
        put_zip_entry((uint32_t)crc32_z(0, data, BYTES), BYTES, 10);
        put_number(0, 2 + 2 + 2); /* comment, disk, attributes */
        put_number(0, 4 + 4);     /* attributes, offset */
        put(name, 10);
    }
    size_t end = file.n;
    PUT("PK\5\6\0\0\0\0");
    put_number(ENTRIES, 2);
    put_number(ENTRIES, 2);
    put_number(end - first, 4);
    put_number(first, 4);
    put_number(0, 2);
    refuse("the archive's entries are larger together than the file");
}

/* Shapes of 2^62 x 2 and of -1 elements in an ONNX model. */
static void test_weights__bounds_shapes_of_onnx(void **state)
{
    (void)state;
    file.n = 0;
    PUT("\x08\x08:\x15*\x13\x08\x80\x80\x80\x80\x80\x80\x80\x80\x40\x08\x02\x10\x01"
        "B\x01wJ\0");
    refuse("a shape out of range in \"w\"");
    file.n = 0;
    PUT("\x08\x08:\x14*\x12\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x01"
        "B\x01wJ\0");
    refuse("a shape out of range in \"w\"");
    file.n = 0;
    PUT("\x08\x08:\x0b*\x09\x08\x05\x10\x01"
        "B\x01wJ\0");
    refuse("\"w\" has 0 bytes of data, expected 20 (f32 [5])");
}

/* An end that announces 2^28 entries: memory for them is not asked for. */
static void test_weights__bounds_what_an_archive_announces(void **state)
{
    (void)state;
    file.n = 0;
    PUT("PK\3\4");
    for (int i = 0; i < 200; i++) PUT("\0");
    size_t at = file.n;
    uint64_t n = 1u << 28, size = 46 * n;
    PUT("PK\6\6\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
    put(&n, 8);
    put(&n, 8);
    put(&size, 8);
    PUT("\0\0\0\0\0\0\0\0");
    PUT("PK\6\7\0\0\0\0");
    uint64_t where = at;
    put(&where, 8);
    PUT("\1\0\0\0");
    PUT("PK\5\6\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
    refuse("announces more entries than fit into the file");
}

#define unit(f) cmocka_unit_test_setup_teardown(f, open_directory, close_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        unit(test_weights__reads_what_torch_saves),
        unit(test_weights__reads_the_format_before_zip),
        unit(test_weights__refuses_big_endian_data),
        unit(test_weights__knows_files_by_their_content),
        unit(test_weights__reads_the_least_pickle),
        unit(test_weights__executes_nothing),
        unit(test_weights__refuses_broken_pickles),
        unit(test_weights__refuses_containers_nested_too_deep),
        unit(test_weights__refuses_every_cut),
        unit(test_weights__refuses_odd_archives),
        unit(test_weights__checks_checksums),
        unit(test_weights__refuses_overlapping_entries),
        unit(test_weights__bounds_shapes_of_onnx),
        unit(test_weights__bounds_what_an_archive_announces),
    };
    return cmocka_run_group_tests(tests, NULL, trim_pool);
}
