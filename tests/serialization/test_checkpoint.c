#include "serialization/serialization.h"
#include "tests/serialization/files.h"

#include <float.h>
#include <math.h>

static tsr_checkpoint *open_whole(const char *path)
{
    tsr_checkpoint *c = tsr_checkpoint_open(path);
    if (c == NULL || tsr_checkpoint_verify(c) != TSR_STATUS_OK) fail_msg("%s", tsr_message());
    return c;
}

static void test_checkpoint__every_type_survives(void **state)
{
    static const tsr_shape shapes[] = {
        {0, {0}}, {1, {0}}, {1, {7}}, {3, {3, 5, 2}}, {8, {1, 2, 1, 2, 1, 2, 1, 3}}};
    enum { SHAPES = sizeof shapes / sizeof shapes[0], N = TSR_DTYPE_COUNT * SHAPES };
    const char *path = in_directory(state, "x.tsr");
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *put[N];
    char names[N][32];
    tsr_checkpoint_writer *w = tsr_checkpoint_create(path);
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "section/%d.%d", 100 - i, i);
        put[i] = numbered((tsr_dtype)(i / SHAPES), shapes[i % SHAPES]);
        assert_int_equal(tsr_checkpoint_put_tensor(w, names[i], put[i]), TSR_STATUS_OK);
    }
    assert_int_equal(tsr_checkpoint_commit(&w), TSR_STATUS_OK);
    assert_null(w);

    tsr_checkpoint *c = open_whole(path);
    assert_int_equal(tsr_checkpoint_count(c), N);
    for (int i = 0; i < N; i++) {
        const tsr_checkpoint_entry *e = tsr_checkpoint_at(c, i);
        assert_string_equal(e->name, names[i]);
        assert_ptr_equal(tsr_checkpoint_find(c, names[i]), e);
        assert_int_equal(e->dtype, tsr_tensor_dtype(put[i]));
        assert_true(tsr_shape_equal(e->shape, tsr_tensor_shape(put[i])));
        assert_same_tensor(tsr_checkpoint_tensor(c, names[i]), put[i]);
    }
    assert_null(tsr_checkpoint_at(c, N));
    assert_null(tsr_checkpoint_at(c, -1));
    assert_null(tsr_checkpoint_find(c, "section/"));
    assert_null(tsr_checkpoint_tensor(c, "absent"));
    assert_failed(TSR_STATUS_ARGUMENT,
                  "has no tensor 'absent'; it has 35, the first is 'section/100.0'");
    tsr_checkpoint_close(&c);
    assert_null(c);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* Over the size of a record, in several chunks; the last one is not full. */
static void test_checkpoint__tensors_over_64_mib_survive(void **state)
{
    const char *path = in_directory(state, "x.tsr");
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *t = numbered(TSR_DTYPE_F32, TSR_SHAPE(17, 1024, 1025));
    tsr_checkpoint_writer *w = tsr_checkpoint_create(path);
    tsr_checkpoint_put_tensor(w, "large", t);
    tsr_checkpoint_put_tensor(w, "exactly one chunk", numbered(TSR_DTYPE_U8, TSR_SHAPE(1 << 20)));
    assert_int_equal(tsr_checkpoint_commit(&w), TSR_STATUS_OK);
    tsr_checkpoint *c = tsr_checkpoint_open(path);
    assert_same_tensor(tsr_checkpoint_tensor(c, "large"), t);
    assert_int_equal(tsr_tensor_numel(tsr_checkpoint_tensor(c, "exactly one chunk")), 1 << 20);
    tsr_checkpoint_close(&c);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_checkpoint__writes_views_row_major(void **state)
{
    const char *path = in_directory(state, "x.tsr");
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *t = numbered(TSR_DTYPE_I64, TSR_SHAPE(2, 3));
    tsr_tensor *transposed = tsr_tensor_view(t, TSR_SHAPE(3, 2), (int64_t[]){1, 3}, 0);
    tsr_checkpoint_writer *w = tsr_checkpoint_create(path);
    tsr_checkpoint_put_tensor(w, "t", transposed);
    assert_int_equal(tsr_checkpoint_commit(&w), TSR_STATUS_OK);
    tsr_checkpoint *c = open_whole(path);
    tsr_tensor *back = tsr_checkpoint_tensor(c, "t");
    for (int64_t i = 0; i < 6; i++)
        assert_true(tsr_tensor_get(back, i) == tsr_tensor_get(t, i % 2 * 3 + i / 2));

    /* And loads into one. */
    tsr_tensor *base = tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(2, 3));
    tsr_tensor *target = tsr_tensor_view(base, TSR_SHAPE(3, 2), (int64_t[]){1, 3}, 0);
    assert_int_equal(tsr_checkpoint_load(c, "", &(tsr_named_tensor){"t", target}, 1),
                     TSR_STATUS_OK);
    assert_same_tensor(base, t);
    tsr_checkpoint_close(&c);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_checkpoint__values_survive(void **state)
{
    const char *path = in_directory(state, "x.tsr");
    static const uint8_t bytes[] = {0, 255, 10, 0};
    tsr_checkpoint_writer *w = tsr_checkpoint_create(path);
    tsr_checkpoint_put_int(w, "int", -5);
    tsr_checkpoint_put_int(w, "int/zero", 0);
    tsr_checkpoint_put_int(w, "int/min", INT64_MIN);
    tsr_checkpoint_put_uint(w, "uint/max", UINT64_MAX);
    tsr_checkpoint_put_double(w, "double", 0.1);
    tsr_checkpoint_put_double(w, "double/-0", -0.0);
    tsr_checkpoint_put_double(w, "double/inf", (double)-INFINITY);
    tsr_checkpoint_put_bool(w, "no", false);
    tsr_checkpoint_put_bool(w, "yes", true);
    tsr_checkpoint_put_string(w, "string", "two\nlines \xe2\x82\xac");
    tsr_checkpoint_put_string(w, "string/empty", "");
    tsr_checkpoint_put_bytes(w, "bytes", bytes, sizeof bytes);
    tsr_checkpoint_put_bytes(w, "bytes/none", NULL, 0);
    assert_int_equal(tsr_checkpoint_commit(&w), TSR_STATUS_OK);

    tsr_checkpoint *c = open_whole(path);
    assert_int_equal(tsr_checkpoint_value_count(c), 13);
    assert_string_equal(tsr_checkpoint_value_at(c, 3)->key, "uint/max");
    assert_null(tsr_checkpoint_value_at(c, 13));
    assert_int_equal(tsr_checkpoint_value_find(c, "yes")->kind, TSR_VALUE_KIND_BOOL);
    assert_null(tsr_checkpoint_value_find(c, "y"));
    int64_t i = 1;
    uint64_t u = 0;
    double d = 0;
    bool b = true;
    const char *s = NULL;
    const void *data = NULL;
    size_t n = 0;
    tsr_checkpoint_get_int(c, "int", &i);
    assert_int_equal(i, -5);
    tsr_checkpoint_get_int(c, "int/zero", &i);
    assert_int_equal(i, 0);
    tsr_checkpoint_get_int(c, "int/min", &i);
    assert_true(i == INT64_MIN);
    tsr_checkpoint_get_uint(c, "uint/max", &u);
    assert_true(u == UINT64_MAX);
    tsr_checkpoint_get_double(c, "double", &d);
    assert_true(d == 0.1);
    tsr_checkpoint_get_double(c, "double/-0", &d);
    assert_true(d == 0 && signbit(d));
    tsr_checkpoint_get_double(c, "double/inf", &d);
    assert_true(isinf(d) && d < 0);
    tsr_checkpoint_get_bool(c, "no", &b);
    assert_false(b);
    tsr_checkpoint_get_bool(c, "yes", &b);
    assert_true(b);
    tsr_checkpoint_get_string(c, "string", &s);
    assert_string_equal(s, "two\nlines \xe2\x82\xac");
    tsr_checkpoint_get_string(c, "string/empty", &s);
    assert_string_equal(s, "");
    tsr_checkpoint_get_bytes(c, "bytes", &data, &n);
    assert_int_equal(n, sizeof bytes);
    assert_memory_equal(data, bytes, n);
    tsr_checkpoint_get_bytes(c, "bytes/none", &data, &n);
    assert_int_equal(n, 0);
    assert_int_equal(tsr_status_get(), TSR_STATUS_OK);

    i = 77;
    assert_int_equal(tsr_checkpoint_get_int(c, "absent", &i), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "has no value 'absent'");
    assert_int_equal(tsr_checkpoint_get_int(c, "string", &i), TSR_STATUS_DTYPE);
    assert_failed(TSR_STATUS_DTYPE, "value 'string' is a string, wanted an int");
    assert_int_equal(i, 77);
    tsr_checkpoint_close(&c);
}

static void test_checkpoint__long_histories_survive(void **state)
{
    enum { ROWS = 9001 };
    static int64_t steps[ROWS];
    static double values[ROWS][2];
    static const char *const columns[] = {"loss", "lr"};
    for (int i = 0; i < ROWS; i++) {
        steps[i] = (int64_t)i * i - 5;
        values[i][0] = 1.0 / (i + 1);
        values[i][1] = i % 2 == 0 ? (double)NAN : i;
    }
    const char *path = in_directory(state, "x.tsr");
    tsr_checkpoint_writer *w = tsr_checkpoint_create(path);
    tsr_checkpoint_put_history(w, &(tsr_history){"train", columns, 2, steps, values[0], ROWS});
    tsr_checkpoint_put_history(w, &(tsr_history){"empty", columns, 1, NULL, NULL, 0});
    tsr_checkpoint_put_history(w, &(tsr_history){"steps only", NULL, 0, steps, NULL, 3});
    assert_int_equal(tsr_checkpoint_commit(&w), TSR_STATUS_OK);

    tsr_checkpoint *c = open_whole(path);
    assert_int_equal(tsr_checkpoint_history_count(c), 3);
    const tsr_history *h = tsr_checkpoint_history_find(c, "train");
    assert_ptr_equal(h, tsr_checkpoint_history_at(c, 0));
    assert_int_equal(h->n_rows, ROWS);
    assert_int_equal(h->n_columns, 2);
    assert_string_equal(h->columns[0], "loss");
    assert_string_equal(h->columns[1], "lr");
    assert_memory_equal(h->steps, steps, sizeof steps);
    assert_memory_equal(h->values, values, sizeof values);
    h = tsr_checkpoint_history_find(c, "empty");
    assert_true(h->n_rows == 0 && h->n_columns == 1);
    h = tsr_checkpoint_history_find(c, "steps only");
    assert_true(h->n_rows == 3 && h->n_columns == 0 && h->steps[2] == -1);
    assert_null(tsr_checkpoint_history_find(c, "absent"));
    assert_null(tsr_checkpoint_history_at(c, 3));
    tsr_checkpoint_close(&c);
}

/* A network, its teacher, and what belongs to them. */
static tsr_status write_networks(const char *path, double first)
{
    tsr_scope scope = tsr_scope_open();
    tsr_checkpoint_writer *w = tsr_checkpoint_create(path);
    tsr_checkpoint_put_uint(w, "rng/seed", 42);
    tsr_checkpoint_put_tensor(w, "student/backbone.a",
                              tsr_full(TSR_DTYPE_F32, TSR_SHAPE(2, 3), first));
    tsr_checkpoint_put_tensor(w, "student/head.b", tsr_full(TSR_DTYPE_F32, TSR_SHAPE(4), 2));
    tsr_checkpoint_put_tensor(w, "teacher/backbone.a", tsr_full(TSR_DTYPE_F32, TSR_SHAPE(2, 3), 3));
    tsr_checkpoint_put_tensor(w, "teacher/backbone.n",
                              tsr_full(TSR_DTYPE_I64, TSR_SHAPE_SCALAR, 4));
    tsr_checkpoint_put_tensor(w, "teacher/head.b", tsr_full(TSR_DTYPE_F32, TSR_SHAPE(4), 5));
    tsr_status status = tsr_checkpoint_commit(&w);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return status;
}

static void test_checkpoint__same_content_same_bytes(void **state)
{
    size_t n[3];
    uint8_t *file[3];
    for (int i = 0; i < 3; i++) {
        const char *path = in_directory(state, i == 1 ? "another name" : "x");
        assert_int_equal(write_networks(path, i == 2 ? 1.5 : 1), TSR_STATUS_OK);
        file[i] = read_file(path, &n[i]);
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(file[0], file[1], n[0]);
    assert_int_equal(n[0], n[2]);
    assert_memory_not_equal(file[0], file[2], n[0]);
    assert_memory_equal(file[0] + 12, "tessera checkpoint", 18); /* where tools look for it */
    for (int i = 0; i < 3; i++) free(file[i]);
}

static void test_checkpoint__loads_a_section_alone(void **state)
{
    const char *path = in_directory(state, "x.tsr");
    assert_int_equal(write_networks(path, 1), TSR_STATUS_OK);
    tsr_scope scope = tsr_scope_open();
    tsr_named_tensor targets[] = {{"n", tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE_SCALAR)},
                                  {"a", tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3))}};
    tsr_checkpoint *c = tsr_checkpoint_open(path);
    assert_int_equal(tsr_checkpoint_load(c, "teacher/backbone.", targets, 2), TSR_STATUS_OK);
    assert_true(tsr_tensor_item(targets[0].tensor) == 4);
    for (int i = 0; i < 6; i++) assert_true(tsr_tensor_get(targets[1].tensor, i) == 3);
    assert_int_equal(tsr_checkpoint_load(c, "nothing is here/", NULL, 0), TSR_STATUS_OK);
    tsr_checkpoint_close(&c);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* Damage in the student does not keep anybody from the teacher. */
static void test_checkpoint__reads_only_what_is_asked_for(void **state)
{
    const char *path = in_directory(state, "x.tsr");
    assert_int_equal(write_networks(path, 1), TSR_STATUS_OK);
    size_t bytes;
    uint8_t *file = read_file(path, &bytes);
    tsr_checkpoint *c = tsr_checkpoint_open_memory(file, bytes);
    assert_non_null(c);
    file[tsr_checkpoint_find(c, "student/backbone.a")->offset + 20] ^= 1;
    tsr_scope scope = tsr_scope_open();
    assert_non_null(tsr_checkpoint_tensor(c, "teacher/backbone.a"));
    assert_null(tsr_checkpoint_tensor(c, "student/backbone.a"));
    assert_failed(TSR_STATUS_FORMAT, "checksum mismatch in record 3 ('student/backbone.a')");
    assert_int_equal(tsr_checkpoint_verify(c), TSR_STATUS_FORMAT);
    assert_failed(TSR_STATUS_FORMAT, "checksum mismatch in record 3 ('student/backbone.a')");

    /* And nothing is loaded in part. */
    tsr_named_tensor targets[] = {{"head.b", tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4))},
                                  {"backbone.a", tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3))}};
    assert_int_equal(tsr_checkpoint_load(c, "student/", targets, 2), TSR_STATUS_FORMAT);
    assert_failed(TSR_STATUS_FORMAT, "checksum mismatch");
    assert_true(tsr_tensor_get(targets[0].tensor, 0) == 0);
    tsr_checkpoint_close(&c);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    free(file);
}

static void test_checkpoint__load_lists_all_that_does_not_fit(void **state)
{
    const char *path = in_directory(state, "x.tsr");
    assert_int_equal(write_networks(path, 1), TSR_STATUS_OK);
    tsr_scope scope = tsr_scope_open();
    tsr_checkpoint *c = tsr_checkpoint_open(path);
    tsr_tensor *n = tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE_SCALAR),
               *f = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE_SCALAR);
    tsr_tensor *a = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3)),
               *r = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3, 2));

    tsr_named_tensor fewer[] = {{"n", n}};
    assert_int_equal(tsr_checkpoint_load(c, "teacher/backbone.", fewer, 1), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "0 missing (), 1 unexpected (a), 0 mismatched ()");
    tsr_named_tensor more[] = {{"n", n}, {"a", a}, {"z", a}};
    assert_int_equal(tsr_checkpoint_load(c, "teacher/backbone.", more, 3), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "1 missing (z), 0 unexpected (), 0 mismatched ()");
    tsr_named_tensor shape[] = {{"n", n}, {"a", r}};
    assert_int_equal(tsr_checkpoint_load(c, "teacher/backbone.", shape, 2), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "1 mismatched (a is f32 [2, 3], wanted f32 [3, 2])");
    tsr_named_tensor dtype[] = {{"n", f}, {"a", a}};
    assert_int_equal(tsr_checkpoint_load(c, "teacher/backbone.", dtype, 2), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "1 mismatched (n is i64 [], wanted f32 [])");
    tsr_named_tensor all[] = {{"backbone.x", n}, {"backbone.a", r}};
    assert_int_equal(tsr_checkpoint_load(c, "teacher/", all, 2), TSR_STATUS_ARGUMENT);
    assert_failed(
        TSR_STATUS_ARGUMENT,
        "'teacher/' does not fit: 1 missing (backbone.x), 2 unexpected (backbone.n, head.b), "
        "1 mismatched (backbone.a is f32 [2, 3], wanted f32 [3, 2])");
    tsr_named_tensor twice[] = {{"n", n}, {"a", a}, {"n", n}};
    assert_int_equal(tsr_checkpoint_load(c, "teacher/backbone.", twice, 3), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "target 'n' is given twice");
    tsr_named_tensor null[] = {{"n", NULL}, {"a", a}};
    assert_int_equal(tsr_checkpoint_load(c, "teacher/backbone.", null, 2), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "target 0 of 2 ('n') is NULL");
    assert_true(tsr_tensor_get(a, 0) == 0); /* none was written */

    /* A list longer than a line ends in dots, and the counts are right. */
    tsr_named_tensor many[200];
    char names[200][40];
    for (int i = 0; i < 200; i++) {
        snprintf(names[i], sizeof names[i], "blocks.%d.attention.weight", i);
        many[i] = (tsr_named_tensor){names[i], a};
    }
    assert_int_equal(tsr_checkpoint_load(c, "student/", many, 200), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT,
                  "blocks.3.attention.weight, ...), 2 unexpected (backbone.a, head.b)");
    tsr_checkpoint_close(&c);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* The first failed put is what commit reports, and there is no file. */
static void test_checkpoint__a_failed_put_fails_the_commit(void **state)
{
    const char *path = in_directory(state, "x.tsr");
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *t = tsr_zeros(TSR_DTYPE_U8, TSR_SHAPE(1));
    static const char *const columns[] = {"a\n"};
    for (int k = 0; k < 9; k++) {
        static const char *const messages[] = {
            "tensor 'a' is NULL", "'a' was put twice",   "'(null)' is no name",
            "is no name",         "not UTF-8",           "the bytes for 'a' are NULL",
            "history 'a'",        "'(null)' is no name", "'a' was put twice",
        };
        tsr_checkpoint_writer *w = tsr_checkpoint_create(path);
        assert_non_null(w);
        if (k == 0) tsr_checkpoint_put_tensor(w, "a", NULL);
        if (k == 1) tsr_checkpoint_put_tensor(w, "a", t);
        if (k == 1) tsr_checkpoint_put_tensor(w, "a", t);
        if (k == 2) tsr_checkpoint_put_int(w, NULL, 1);
        if (k == 3) tsr_checkpoint_put_int(w, "a\nb", 1);
        if (k == 4) tsr_checkpoint_put_string(w, "a", "\xc3");
        if (k == 5) tsr_checkpoint_put_bytes(w, "a", NULL, 1);
        if (k == 6)
            tsr_checkpoint_put_history(
                w, &(tsr_history){.name = "a", .columns = columns, .n_columns = 1});
        if (k == 7) tsr_checkpoint_put_history(w, NULL);
        if (k == 8) tsr_checkpoint_put_int(w, "a", 1);
        if (k == 8) tsr_checkpoint_put_uint(w, "a", 1);
        tsr_checkpoint_put_tensor(w, "later", t);
        assert_int_equal(tsr_checkpoint_commit(&w), TSR_STATUS_ARGUMENT);
        assert_null(w);
        assert_failed(TSR_STATUS_ARGUMENT, messages[k]);
        assert_int_equal(count_files(((directory *)*state)->path, false), 0);
    }
    /* One name for a value, a history and a tensor is fine. */
    tsr_checkpoint_writer *w = tsr_checkpoint_create(path);
    tsr_checkpoint_put_tensor(w, "a", t);
    tsr_checkpoint_put_int(w, "a", 1);
    tsr_checkpoint_put_history(w, &(tsr_history){.name = "a"});
    assert_int_equal(tsr_checkpoint_commit(&w), TSR_STATUS_OK);

    w = tsr_checkpoint_create(in_directory(state, "y.tsr"));
    tsr_checkpoint_put_int(w, "a", 1);
    tsr_checkpoint_abandon(&w);
    assert_null(w);
    tsr_checkpoint_abandon(&w);
    assert_int_equal(count_files(((directory *)*state)->path, false), 1);
    assert_int_equal(tsr_checkpoint_commit(&w), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "the writer is NULL");
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_checkpoint__values_over_a_record_are_refused(void **state)
{
    tsr_checkpoint_writer *w = tsr_checkpoint_create(in_directory(state, "x.tsr"));
    uint8_t *data = calloc(1, 64 << 20);
    tsr_checkpoint_put_bytes(w, "large", data, 64 << 20);
    free(data);
    assert_int_equal(tsr_checkpoint_commit(&w), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "put it as a tensor");
}

/* A run that failed can still save, and the first failure stays what is reported. */
static void test_checkpoint__works_while_an_earlier_failure_is_kept(void **state)
{
    tsr_fail(TSR_STATUS_NUMERIC, "the loss is NaN");
    const char *path = in_directory(state, "x.tsr");
    assert_int_equal(write_networks(path, 1), TSR_STATUS_OK);
    tsr_scope scope = tsr_scope_open();
    tsr_checkpoint *c = tsr_checkpoint_open(path);
    assert_non_null(c);
    assert_non_null(tsr_checkpoint_tensor(c, "teacher/head.b"));
    assert_int_equal(tsr_checkpoint_verify(c), TSR_STATUS_OK);
    tsr_checkpoint_close(&c);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    assert_failed(TSR_STATUS_NUMERIC, "the loss is NaN");
}

#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, open_directory, close_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(test_checkpoint__every_type_survives),
        IN_DIRECTORY(test_checkpoint__tensors_over_64_mib_survive),
        IN_DIRECTORY(test_checkpoint__writes_views_row_major),
        IN_DIRECTORY(test_checkpoint__values_survive),
        IN_DIRECTORY(test_checkpoint__long_histories_survive),
        IN_DIRECTORY(test_checkpoint__same_content_same_bytes),
        IN_DIRECTORY(test_checkpoint__loads_a_section_alone),
        IN_DIRECTORY(test_checkpoint__reads_only_what_is_asked_for),
        IN_DIRECTORY(test_checkpoint__load_lists_all_that_does_not_fit),
        IN_DIRECTORY(test_checkpoint__a_failed_put_fails_the_commit),
        IN_DIRECTORY(test_checkpoint__values_over_a_record_are_refused),
        IN_DIRECTORY(test_checkpoint__works_while_an_earlier_failure_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, trim_pool);
}
