/*
 * tests/golden/reference.safetensors was written by the format's own Python library (safetensors 0.8.0, torch tensors):
 * one tensor of each type, a scalar, an empty one, a name that is not ASCII, metadata with quotes.
 */
#include "serialization/serialization.h"
#include "tests/serialization/files.h"

#include <math.h>

static tsr_safetensors *open_reference(void)
{
    char path[1024];
    const char *golden = getenv("TSR_GOLDEN");
    snprintf(path, sizeof path, "%s/reference.safetensors",
             golden != NULL ? golden : "tests/golden");
    tsr_safetensors *f = tsr_safetensors_open(path);
    if (f == NULL) fail_msg("%s", tsr_message());
    return f;
}

static void test_safetensors__reads_the_reference_implementation(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        tsr_dtype dtype;
        tsr_shape shape;
        double values[6];
    } wanted[] = {
        {"f32", TSR_DTYPE_F32, {2, {2, 3}}, {-1, -0.75, -0.5, -0.25, 0, 0.25}},
        {"f64", TSR_DTYPE_F64, {1, {2}}, {1.0 / 3, -2.5e300}},
        {"bf16", TSR_DTYPE_BF16, {1, {3}}, {1, -0.5, 3.140625}},
        {"f16", TSR_DTYPE_F32, {1, {6}}, {0, -1.5, 65504, 0x1p-24, INFINITY, -0.0}},
        {"i64", TSR_DTYPE_I64, {2, {1, 1}}, {-0x1p62}},
        {"i32", TSR_DTYPE_I32, {1, {2}}, {7, -8}},
        {"u8", TSR_DTYPE_U8, {1, {3}}, {0, 255, 3}},
        {"bool", TSR_DTYPE_BOOL, {1, {3}}, {1, 0, 1}},
        {"scalar", TSR_DTYPE_F32, {0, {0}}, {2.25}},
        {"empty", TSR_DTYPE_F32, {2, {0, 4}}, {0}},
        {"n\xc3\xa4me", TSR_DTYPE_I32, {1, {1}}, {5}},
    };
    tsr_scope scope = tsr_scope_open();
    tsr_safetensors *f = open_reference();
    assert_int_equal(tsr_safetensors_count(f), 12);
    for (size_t k = 0; k < sizeof wanted / sizeof wanted[0]; k++) {
        tsr_tensor *t = tsr_safetensors_tensor(f, wanted[k].name);
        assert_non_null(t);
        assert_int_equal(tsr_tensor_dtype(t), wanted[k].dtype);
        assert_true(tsr_shape_equal(tsr_tensor_shape(t), wanted[k].shape));
        for (int64_t i = 0; i < tsr_tensor_numel(t); i++) {
            double got = tsr_tensor_get(t, i);
            assert_true(got == wanted[k].values[i] && signbit(got) == signbit(wanted[k].values[i]));
        }
    }
    assert_string_equal(tsr_safetensors_metadata(f, "quote"), "a \"b\" \n \xc3\xbc");
    assert_null(tsr_safetensors_metadata(f, "absent"));
    /* Names are in order, and found where they are. */
    for (int64_t i = 0; i < 12; i++) {
        assert_int_equal(tsr_safetensors_find(f, tsr_safetensors_name(f, i)), i);
        if (i > 0)
            assert_true(strcmp(tsr_safetensors_name(f, i - 1), tsr_safetensors_name(f, i)) < 0);
    }
    assert_null(tsr_safetensors_name(f, 12));
    assert_null(tsr_safetensors_name(f, -1));
    assert_int_equal(tsr_safetensors_find(f, "absent"), -1);

    assert_null(tsr_safetensors_tensor(f, "absent"));
    assert_failed(TSR_STATUS_ARGUMENT, "has no tensor 'absent'; it has 12, the first is 'bf16'");
    assert_null(tsr_safetensors_tensor(f, "i16"));
    assert_failed(TSR_STATUS_DTYPE, "tensor 'i16' is I16");
    assert_null(tsr_safetensors_tensor(NULL, "f32"));
    assert_int_equal(tsr_status_get(), TSR_STATUS_OK);
    tsr_safetensors_close(&f);
    assert_null(f);
    tsr_safetensors_close(&f);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_safetensors__every_type_survives(void **state)
{
    static const tsr_shape shapes[] = {
        {0, {0}}, {1, {0}}, {1, {7}}, {3, {3, 5, 2}}, {8, {1, 2, 1, 2, 1, 2, 1, 3}}};
    enum { SHAPES = sizeof shapes / sizeof shapes[0], N = TSR_DTYPE_COUNT * SHAPES };
    tsr_scope scope = tsr_scope_open();
    tsr_named_tensor list[N];
    char names[N][32];
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "t%d.\"%d\"", i % 7, i);
        list[i] =
            (tsr_named_tensor){names[i], numbered((tsr_dtype)(i / SHAPES), shapes[i % SHAPES])};
    }
    tsr_safetensors_pair metadata[] = {{"b", "2"}, {"a", "line\nline \xc3\xbc"}};
    const char *path = in_directory(state, "x.safetensors");
    assert_int_equal(tsr_safetensors_write(path, list, N, metadata, 2), TSR_STATUS_OK);

    tsr_safetensors *f = tsr_safetensors_open(path);
    assert_non_null(f);
    assert_int_equal(tsr_safetensors_count(f), N);
    for (int i = 0; i < N; i++)
        assert_same_tensor(tsr_safetensors_tensor(f, names[i]), list[i].tensor);
    assert_string_equal(tsr_safetensors_metadata(f, "a"), metadata[1].value);
    assert_string_equal(tsr_safetensors_metadata(f, "b"), "2");
    tsr_safetensors_close(&f);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_safetensors__same_content_same_bytes_in_any_order(void **state)
{
    tsr_scope scope = tsr_scope_open();
    tsr_named_tensor one[] = {{"b", numbered(TSR_DTYPE_U8, TSR_SHAPE(3))},
                              {"a", numbered(TSR_DTYPE_F32, TSR_SHAPE(2))},
                              {"c", numbered(TSR_DTYPE_F64, TSR_SHAPE(2))}};
    tsr_named_tensor two[] = {one[2], one[0], one[1]};
    size_t n, m;
    assert_int_equal(tsr_safetensors_write(in_directory(state, "1"), one, 3, NULL, 0),
                     TSR_STATUS_OK);
    uint8_t *x = read_file(in_directory(state, "1"), &n);
    assert_int_equal(tsr_safetensors_write(in_directory(state, "1"), two, 3, NULL, 0),
                     TSR_STATUS_OK);
    uint8_t *y = read_file(in_directory(state, "1"), &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    assert_int_equal(x[0] % 8, 0); /* data is aligned for the largest element */
    assert_int_equal(count_files(((directory *)*state)->path, false), 1);
    free(x);
    free(y);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_safetensors__writes_views_row_major(void **state)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *t = numbered(TSR_DTYPE_I32, TSR_SHAPE(2, 3));
    tsr_tensor *transposed = tsr_tensor_view(t, TSR_SHAPE(3, 2), (int64_t[]){1, 3}, 0);
    const char *path = in_directory(state, "x");
    assert_int_equal(tsr_safetensors_write(path, &(tsr_named_tensor){"t", transposed}, 1, NULL, 0),
                     TSR_STATUS_OK);
    tsr_safetensors *f = tsr_safetensors_open(path);
    tsr_tensor *back = tsr_safetensors_tensor(f, "t");
    for (int64_t i = 0; i < 3; i++) {
        for (int64_t j = 0; j < 2; j++) {
            assert_true(tsr_tensor_get(back, 2 * i + j) == tsr_tensor_get(t, 3 * j + i));
        }
    }
    tsr_safetensors_close(&f);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* Every one of the 65536 halves, against the definition of the format. */
static void test_safetensors__converts_halves_exactly(void **state)
{
    (void)state;
    static const char header[] =
        "{\"h\":{\"dtype\":\"F16\",\"shape\":[65536],\"data_offsets\":[0,131072]}}";
    uint64_t n = sizeof header - 1;
    uint8_t *file = malloc(8 + n + 131072);
    memcpy(file, &n, 8);
    memcpy(file + 8, header, n);
    for (unsigned h = 0; h < 65536; h++) {
        file[8 + n + 2 * h] = (uint8_t)(h & 0xff);
        file[8 + n + 2 * h + 1] = (uint8_t)(h >> 8);
    }
    tsr_scope scope = tsr_scope_open();
    tsr_safetensors *f = tsr_safetensors_open_memory(file, 8 + n + 131072);
    tsr_tensor *t = tsr_safetensors_tensor(f, "h");
    assert_non_null(t);
    const float *got = tsr_tensor_data(t);
    for (int h = 0; h < 65536; h++) {
        int exponent = h >> 10 & 31, mantissa = h & 1023;
        double size = exponent == 0   ? ldexp(mantissa, -24)
                      : exponent < 31 ? ldexp(1024 + mantissa, exponent - 25)
                      : mantissa == 0 ? (double)INFINITY
                                      : (double)NAN;
        if (isnan(size) ? !isnan(got[h]) : fabs((double)got[h]) != size)
            fail_msg("half %d: got %g", h, (double)got[h]);
        if ((signbit(got[h]) != 0) != (h >= 32768)) fail_msg("half %d: sign", h);
    }
    tsr_safetensors_close(&f);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    free(file);
}

/* ------------------------------------------------------------------ hostile files ----------------------------------- */

static void refuse(const void *data, size_t bytes, const char *text)
{
    uint8_t *copy = malloc(bytes > 0 ? bytes : 1);
    if (bytes > 0) memcpy(copy, data, bytes);
    tsr_safetensors *f = tsr_safetensors_open_memory(copy, bytes);
    if (f != NULL) fail_msg("opened a file that should give '%s'", text);
    assert_failed(TSR_STATUS_FORMAT, text);
    free(copy);
}

static void test_safetensors__bad_headers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data; /* bytes after it */
        const char *text;
    } bad[] = {
        {"", 0, "the header is not a JSON object"},
        {"[]", 0, "the header is not a JSON object"},
        {" {}", 0, "the header is not a JSON object"},
        {"{} {}", 0, "the header is not a JSON object"},
        {"{", 0, "the header is not a JSON object"},
        {"{}", 1, "the tensors end at byte 10, the file at 11"},
        {"{\"__metadata__\":[]}", 0, "__metadata__ is not an object"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "not a string"},
        {"{\"a\":1}", 0, "wanted a dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "wanted a dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", 4, "wanted a dtype"},
        {"{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
         "not one of the format"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,5]}}", 5,
         "do not fit its dtype and shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 4,
         "do not lie inside the file"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4,
         "do not lie inside the file"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4,
         "do not lie inside the file"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0.0,4]}}", 4,
         "do not lie inside the file"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "hole before it"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
         3, "overlaps another"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
         1, "the header is not a JSON object"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4,
         "a size is not a count"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4,
         "more than 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
         "do not fit"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0,
         "do not fit"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,0]}}", 0,
         "not a JSON"},
        {"{\"\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "name is empty"},
        {"{\"a\\n\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0,
         "control characters"},
        {"{\"a\\u0000\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "not a JSON"},
        {"{\"\xff\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "not a JSON"},
    };
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        uint8_t file[512] = {0};
        uint64_t n = strlen(bad[k].header);
        memcpy(file, &n, 8);
        memcpy(file + 8, bad[k].header, n);
        refuse(file, 8 + n + bad[k].data, bad[k].text);
    }
    uint8_t deep[8 + 100000];
    uint64_t n = sizeof deep - 8;
    memcpy(deep, &n, 8);
    memset(deep + 8, '[', n);
    refuse(deep, sizeof deep, "not a JSON object"); /* and not an overflow of the stack */
    for (size_t i = 0; i + 7 <= n; i += 7)
        memcpy(deep + 8 + i, i == 0 ? "{\"a\":[ " : "[],[],  ", 7);
    refuse(deep, sizeof deep, "not a JSON object"); /* and not a hundred times its size */
    uint64_t huge[2] = {UINT64_MAX, 0};
    refuse(huge, sizeof huge, "its header would have 18446744073709551615 bytes");
    uint64_t long_header[2] = {50000000, 0};
    refuse(long_header, sizeof long_header,
           "is truncated at byte 16, inside its header of 50000000 bytes");
}

static void test_safetensors__foreign_files_are_named(void **state)
{
    (void)state;
    refuse("", 0, "an empty file");
    refuse("PK\x03\x04\0\0\0\0\0\0\0\0", 12, "a zip archive, as PyTorch's .pth files are");
    refuse("\x80\x02}q\0X\0\0\0\0\0\0\0\0", 14, "a Python pickle");
    refuse("\xff\xd8\xff\xe0\0\x10JFIF\0\0", 12, "a JPEG picture");
    refuse("\x89PNG\r\n\x1a\n\0\0\0\0", 12, "a PNG picture");
    refuse("{\"a\": 1, \"b\": 2}", 16, "JSON text");
    assert_null(tsr_safetensors_open("/nonexistent/x.safetensors"));
    assert_failed(TSR_STATUS_IO, "cannot open '/nonexistent/x.safetensors': No such file");
    assert_null(tsr_safetensors_open("/"));
    assert_failed(TSR_STATUS_IO, "'/' is a directory");
    assert_null(tsr_safetensors_open("/dev/zero"));
    assert_failed(TSR_STATUS_IO, "not a regular file");
    assert_null(tsr_safetensors_open(NULL));
    assert_failed(TSR_STATUS_ARGUMENT, "path is NULL");
}

static void test_safetensors__bools_are_checked(void **state)
{
    (void)state;
    static const char header[] =
        "{\"a\":{\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[0,2]}}";
    uint8_t file[128] = {0};
    file[0] = sizeof header - 1;
    memcpy(file + 8, header, sizeof header - 1);
    file[8 + sizeof header] = 2;
    tsr_scope scope = tsr_scope_open();
    tsr_safetensors *f = tsr_safetensors_open_memory(file, 8 + sizeof header - 1 + 2);
    assert_non_null(f);
    assert_null(tsr_safetensors_tensor(f, "a"));
    assert_failed(TSR_STATUS_FORMAT, "tensor 'a': a BOOL is neither 0 nor 1");
    tsr_safetensors_close(&f);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* Cut anywhere: an error. A bit turned anywhere: an error, or a file whose tensors can be read. */
static void test_safetensors__damage_gives_errors(void **state)
{
    tsr_scope scope = tsr_scope_open();
    tsr_named_tensor list[] = {{"weight", numbered(TSR_DTYPE_F32, TSR_SHAPE(2, 2))},
                               {"mask", numbered(TSR_DTYPE_BOOL, TSR_SHAPE(3))}};
    tsr_safetensors_pair metadata = {"k", "v"};
    const char *path = in_directory(state, "x");
    assert_int_equal(tsr_safetensors_write(path, list, 2, &metadata, 1), TSR_STATUS_OK);
    size_t bytes;
    uint8_t *file = read_file(path, &bytes);
    for (size_t n = 0; n < bytes; n++) refuse(file, n, "safetensors: ");
    int errors = 0;
    for (size_t bit = 0; bit < 8 * bytes; bit++) {
        tsr_scope inner = tsr_scope_open();
        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
        tsr_safetensors *f = tsr_safetensors_open_memory(file, bytes);
        for (int64_t i = 0; i < tsr_safetensors_count(f); i++)
            tsr_safetensors_tensor(f, tsr_safetensors_name(f, i));
        if (f == NULL) assert_int_equal(tsr_status_get(), TSR_STATUS_FORMAT);
        errors += tsr_status_get() != TSR_STATUS_OK;
        tsr_status_clear();
        tsr_safetensors_close(&f);
        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
        tsr_scope_close(&inner, TSR_NO_TENSORS);
    }
    assert_true(errors > 8 * 8);
    free(file);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* ------------------------------------------------------------------ what writers refuse ----------------------------- */

static void refuse_write(const char *path, const tsr_named_tensor *list, int64_t n,
                         const tsr_safetensors_pair *metadata, int64_t n_metadata,
                         tsr_status status, const char *text)
{
    assert_int_equal(tsr_safetensors_write(path, list, n, metadata, n_metadata), status);
    assert_failed(status, text);
}

static void test_safetensors__bad_lists_are_not_written(void **state)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *t = numbered(TSR_DTYPE_U8, TSR_SHAPE(1));
    const char *path = in_directory(state, "x");
    tsr_status argument = TSR_STATUS_ARGUMENT;
    refuse_write(path, (tsr_named_tensor[]){{"a", t}, {"a", t}}, 2, NULL, 0, argument,
                 "'a' occurs twice");
    refuse_write(path, (tsr_named_tensor[]){{"a", NULL}}, 1, NULL, 0, argument,
                 "tensor 'a' is NULL");
    refuse_write(path, (tsr_named_tensor[]){{"a\n", t}}, 1, NULL, 0, argument,
                 "the name of tensor 0 of 1");
    refuse_write(path, (tsr_named_tensor[]){{NULL, t}}, 1, NULL, 0, argument,
                 "the name of tensor 0 of 1");
    refuse_write(path, (tsr_named_tensor[]){{"__metadata__", t}}, 1, NULL, 0, argument,
                 "the name of tensor 0 of 1");
    refuse_write(path, NULL, 1, NULL, 0, argument, "a list is NULL");
    refuse_write(path, NULL, 0, (tsr_safetensors_pair[]){{"k", NULL}}, 1, argument,
                 "metadata pair 0 is NULL");
    refuse_write(path, NULL, 0, (tsr_safetensors_pair[]){{"k", "1"}, {"k", "2"}}, 2, argument,
                 "'k' occurs twice");
    refuse_write(path, NULL, 0, (tsr_safetensors_pair[]){{"k", "\xff"}}, 1, argument,
                 "metadata pair 0 is NULL or not UTF-8");
    refuse_write(NULL, NULL, 0, NULL, 0, argument, "path is NULL");
    refuse_write("", NULL, 0, NULL, 0, argument, "path is empty");
    refuse_write("/nonexistent/x", NULL, 0, NULL, 0, TSR_STATUS_IO, "create its directory first");
    assert_int_equal(count_files(((directory *)*state)->path, false), 0);

    /* None is a list too. */
    assert_int_equal(tsr_safetensors_write(path, NULL, 0, NULL, 0), TSR_STATUS_OK);
    tsr_safetensors *f = tsr_safetensors_open(path);
    assert_non_null(f);
    assert_int_equal(tsr_safetensors_count(f), 0);
    assert_null(tsr_safetensors_tensor(f, "a"));
    assert_failed(TSR_STATUS_ARGUMENT, "has no tensor 'a'; it has 0");
    tsr_safetensors_close(&f);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, open_directory, close_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(test_safetensors__reads_the_reference_implementation),
        IN_DIRECTORY(test_safetensors__every_type_survives),
        IN_DIRECTORY(test_safetensors__same_content_same_bytes_in_any_order),
        IN_DIRECTORY(test_safetensors__writes_views_row_major),
        IN_DIRECTORY(test_safetensors__converts_halves_exactly),
        IN_DIRECTORY(test_safetensors__bad_headers_are_refused),
        IN_DIRECTORY(test_safetensors__foreign_files_are_named),
        IN_DIRECTORY(test_safetensors__bools_are_checked),
        IN_DIRECTORY(test_safetensors__damage_gives_errors),
        IN_DIRECTORY(test_safetensors__bad_lists_are_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, trim_pool);
}
