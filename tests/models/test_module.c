#include "models/models.h"
#include "autograd/internal.h"
#include "tests/test.h"

/* A tree by hand: an own parameter, a buffer, two children, one of them under two names. */
struct tree {
    tsr_module module;
    tsr_tensor *scale, *steps;
    tsr_linear_layer *first;
    tsr_mlp *second;
};

static struct tree *make_tree(int64_t dim, tsr_dtype dtype)
{
    struct tree *m = tsr_module_new(sizeof *m, "tree", dtype);
    if (m == NULL) return NULL;
    m->first = tsr_module_child(&m->module, "layers.0", tsr_linear_new(dim, dim, true, dtype));
    m->second = tsr_module_child(&m->module, "mlp", tsr_mlp_new(dim, 2 * dim, 0.0, dtype));
    tsr_module_child(&m->module, "tied", m->first);
    m->steps = tsr_module_buffer(&m->module, "steps", TSR_DTYPE_I64, TSR_SHAPE_SCALAR, 5.0);
    m->scale = tsr_module_parameter(&m->module, "scale", TSR_SHAPE(1, dim), TSR_INIT_CONSTANT(0.5));
    return tsr_module_finish(&m->module);
}

static void assert_names(tsr_module_list *list, const char *const *names, int64_t n)
{
    assert_non_null(list);
    assert_int_equal(list->n, n);
    for (int64_t i = 0; i < n; i++) assert_string_equal(list->at[i].name, names[i]);
    tsr_module_list_free(&list);
    assert_null(list);
}

static void test_module__lists_in_pytorch_order(void **state)
{
    (void)state;
    struct tree *m = make_tree(4, TSR_DTYPE_F32);
    assert_ok();
    static const char *const all[] = {
        "scale",        "steps",          "layers.0.weight", "layers.0.bias", "mlp.fc1.weight",
        "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias",    "tied.weight",   "tied.bias"};
    assert_names(tsr_module_state(&m->module), all, 10);
    static const char *const once[] = {"scale",          "layers.0.weight", "layers.0.bias",
                                       "mlp.fc1.weight", "mlp.fc1.bias",    "mlp.fc2.weight",
                                       "mlp.fc2.bias"};
    assert_names(tsr_module_parameters(&m->module), once, 7);
    assert_int_equal(tsr_module_count(&m->module), 4 + 20 + 40 + 36);
    tsr_module_free(&m);
}

static void test_module__finds_by_name(void **state)
{
    (void)state;
    struct tree *m = make_tree(4, TSR_DTYPE_F32);
    assert_ptr_equal(tsr_module_find(&m->module, "mlp.fc2.bias"), m->second->fc2->bias);
    assert_ptr_equal(tsr_module_find(&m->module, "tied.weight"), m->first->weight);
    assert_ok();
    assert_null(tsr_module_find(&m->module, "mlp.fc3.bias"));
    assert_failed(TSR_STATUS_ARGUMENT, "tree: there is no \"mlp.fc3.bias\"");
    tsr_module_free(&m);
}

static void test_module__groups_as_the_authors_do(void **state)
{
    (void)state;
    struct tree *m = make_tree(4, TSR_DTYPE_F32);
    tsr_module_list *list = tsr_module_parameters(&m->module);
    static const bool decays[] = {true, true, false, true, false, true, false};
    for (int64_t i = 0; i < list->n; i++) {
        assert_int_equal(tsr_module_decays(&list->at[i]), decays[i]);
    }
    tsr_module_entry matrix = {.name = "rows.bias", .tensor = m->scale};
    assert_false(tsr_module_decays(&matrix));
    matrix.name = "bias";
    assert_true(tsr_module_decays(&matrix));
    tsr_module_list_free(&list);
    tsr_module_free(&m);
}

static void test_module__switches_the_whole_tree(void **state)
{
    (void)state;
    struct tree *m = make_tree(4, TSR_DTYPE_F32);
    assert_true(m->module.training && m->second->fc1->module.training);
    assert_true(tsr_requires_grad(m->scale) && tsr_requires_grad(m->second->fc1->bias));
    assert_false(tsr_requires_grad(m->steps));
    tsr_module_train(&m->module, false);
    tsr_module_freeze(&m->module);
    assert_false(m->module.training || m->second->fc1->module.training);
    assert_false(tsr_requires_grad(m->scale) || tsr_requires_grad(m->second->fc1->bias));
    tsr_module_free(&m);
}

static void test_module__starts_alike_whatever_else_there_is(void **state)
{
    (void)state;
    struct tree *m = make_tree(8, TSR_DTYPE_F64);
    tsr_module_initialize(&m->module, 11);
    assert_ok();
    tsr_mlp *alone = tsr_module_new(sizeof *alone, "root", TSR_DTYPE_F64);
    tsr_module_child(&alone->module, "mlp", tsr_mlp_new(8, 16, 0.0, TSR_DTYPE_F64));
    tsr_module_initialize(&alone->module, 11);
    assert_same(tsr_module_find(&alone->module, "mlp.fc1.weight"), m->second->fc1->weight);
    tsr_module_initialize(&alone->module, 12);
    assert_false(tsr_tensor_get(m->second->fc1->weight, 0) ==
                 tsr_tensor_get(tsr_module_find(&alone->module, "mlp.fc1.weight"), 0));
    assert_false(tsr_tensor_get(m->second->fc1->weight, 0) ==
                 tsr_tensor_get(m->second->fc2->weight, 0));
    assert_close(m->scale, tsr_full(TSR_DTYPE_F64, TSR_SHAPE(1, 8), 0.5), 0.0);
    assert_true(tsr_tensor_item(m->steps) == 5.0);
    tsr_module_free(&alone);
    tsr_module_free(&m);
}

static void test_module__starts_alike_on_any_number_of_threads(void **state)
{
    (void)state;
    struct tree *m[3];
    int threads = tsr_threads();
    for (int i = 0; i < 3; i++) {
        tsr_threads_set(1 << i);
        m[i] = make_tree(150, TSR_DTYPE_F32);
        tsr_module_initialize(&m[i]->module, 3);
    }
    tsr_threads_set(threads);
    for (int i = 1; i < 3; i++) {
        assert_same(m[i]->second->fc1->weight, m[0]->second->fc1->weight);
        assert_same(m[i]->second->fc2->weight, m[0]->second->fc2->weight);
    }
    for (int i = 0; i < 3; i++) tsr_module_free(&m[i]);
}

static void test_module__copies_and_converts(void **state)
{
    (void)state;
    struct tree *a = make_tree(4, TSR_DTYPE_F32), *b = make_tree(4, TSR_DTYPE_F64);
    tsr_module_initialize(&a->module, 1);
    tsr_module_initialize(&b->module, 2);
    tsr_tensor_fill(a->steps, 9.0);
    assert_int_equal(tsr_module_copy(&b->module, &a->module, TSR_MATCH_STRICT), TSR_STATUS_OK);
    assert_close(b->second->fc2->weight, a->second->fc2->weight, 0.0);
    assert_close(b->first->weight, a->first->weight, 0.0);
    assert_true(tsr_tensor_item(b->steps) == 9.0);
    tsr_module_free(&a);
    tsr_module_free(&b);
}

static void test_module__says_what_a_copy_lacks(void **state)
{
    (void)state;
    struct tree *m = make_tree(4, TSR_DTYPE_F32), *wide = make_tree(5, TSR_DTYPE_F32);
    tsr_mlp *mlp = tsr_mlp_new(4, 8, 0.0, TSR_DTYPE_F32);
    tsr_module_initialize(&m->module, 1);
    tsr_module_initialize(&wide->module, 1);
    tsr_module_initialize(&mlp->module, 1);
    tsr_tensor *before = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(8, 4));
    tsr_tensor_copy(before, m->second->fc1->weight);

    tsr_module_copy(&m->module, &wide->module, TSR_MATCH_STRICT);
    assert_failed(TSR_STATUS_ARGUMENT,
                  "0 missing (), 0 unexpected (), 9 of another shape (scale, layers.0.weight");
    tsr_module_copy(&m->module, &mlp->module, TSR_MATCH_STRICT);
    assert_failed(TSR_STATUS_ARGUMENT, "4 unexpected (fc1.weight, fc1.bias, fc2.weight, fc2.bias)");
    tsr_module_copy(&m->module, &wide->module, TSR_MATCH_COMMON);
    assert_failed(TSR_STATUS_ARGUMENT, "9 of another shape");
    assert_same(m->second->fc1->weight, before);

    assert_int_equal(tsr_module_copy(&m->second->module, &mlp->module, TSR_MATCH_COMMON),
                     TSR_STATUS_OK);
    assert_same(m->second->fc1->weight, mlp->fc1->weight);
    tsr_module_free(&m);
    tsr_module_free(&wide);
    tsr_module_free(&mlp);
}

/* Longer than a chunk of the average, and not a multiple of it. */
static struct tree *teacher_and_student(tsr_dtype dtype, int64_t dim, uint64_t seed)
{
    struct tree *m = make_tree(dim, dtype);
    tsr_module_initialize(&m->module, seed);
    assert_ok();
    return m;
}

static void test_module__averages_in_the_type_of_the_model(void **state)
{
    (void)state;
    struct tree *teacher = teacher_and_student(TSR_DTYPE_F32, 191, 1);
    struct tree *student = teacher_and_student(TSR_DTYPE_F32, 191, 2);
    int64_t n = tsr_tensor_numel(teacher->second->fc1->weight);
    tsr_tensor *expected = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(2 * 191, 191));
    float *e = tsr_tensor_data_mut(expected);
    const float *t = tsr_tensor_data(teacher->second->fc1->weight),
                *s = tsr_tensor_data(student->second->fc1->weight);
    for (int64_t i = 0; i < n; i++) {
        float kept = t[i] * 0.996f, added = (float)(1.0 - 0.996) * s[i];
        e[i] = kept + added;
    }
    assert_int_equal(tsr_module_ema(&teacher->module, &student->module, 0.996), TSR_STATUS_OK);
    assert_same(teacher->second->fc1->weight, expected);
    assert_true(tsr_tensor_item(teacher->steps) == 5.0);
    tsr_module_free(&teacher);
    tsr_module_free(&student);
}

static void test_module__averages_alike_on_any_number_of_threads(void **state)
{
    (void)state;
    struct tree *student = teacher_and_student(TSR_DTYPE_F64, 150, 2), *teacher[3];
    int threads = tsr_threads();
    for (int i = 0; i < 3; i++) {
        teacher[i] = teacher_and_student(TSR_DTYPE_F64, 150, 1);
        tsr_threads_set(1 << i);
        tsr_module_ema(&teacher[i]->module, &student->module, 0.9);
    }
    tsr_threads_set(threads);
    for (int i = 1; i < 3; i++) {
        assert_same(teacher[i]->second->fc1->weight, teacher[0]->second->fc1->weight);
        assert_same(teacher[i]->first->bias, teacher[0]->first->bias);
    }
    assert_ok();
    for (int i = 0; i < 3; i++) tsr_module_free(&teacher[i]);
    tsr_module_free(&student);
}

static void test_module__averages_common_names(void **state)
{
    (void)state;
    struct tree *teacher = teacher_and_student(TSR_DTYPE_F64, 4, 1);
    tsr_mlp *student = tsr_module_new(sizeof *student, "student", TSR_DTYPE_F64);
    student->fc1 =
        tsr_module_child(&student->module, "layers.0", tsr_linear_new(4, 4, false, TSR_DTYPE_F64));
    tsr_module_initialize(&student->module, 7);
    double scale = tsr_tensor_get(teacher->scale, 0), w = tsr_tensor_get(teacher->first->weight, 3);
    tsr_module_ema(&teacher->module, &student->module, 0.5);
    assert_ok();
    assert_true(tsr_tensor_get(teacher->scale, 0) == scale);
    assert_true(tsr_tensor_get(teacher->first->weight, 3) ==
                0.5 * w + 0.5 * tsr_tensor_get(student->fc1->weight, 3));

    struct tree *wide = teacher_and_student(TSR_DTYPE_F64, 5, 1);
    tsr_module_ema(&wide->module, &teacher->module, 0.5);
    assert_failed(TSR_STATUS_ARGUMENT, "module_ema: scale is [1, 5] in the teacher, [1, 4] in the");
    tsr_module_ema(&teacher->module, &teacher->module, 1.5);
    assert_failed(TSR_STATUS_ARGUMENT, "momentum is 1.5");
    tsr_module_free(&wide);
    tsr_module_free(&student);
    tsr_module_free(&teacher);
}

/* The first tensor of a test makes its scope allocate. */
static size_t bytes_in_use(void)
{
    tsr_scope scope = tsr_scope_open();
    tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(1));
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_pool_stats_get().in_use;
}

static void test_module__fails_as_a_whole(void **state)
{
    (void)state;
    size_t before = bytes_in_use();
    tsr_module *m = tsr_module_new(sizeof *m, "root", TSR_DTYPE_F32);
    tsr_module_child(m, "a", tsr_linear_new(2, 2, true, TSR_DTYPE_F32));
    assert_null(tsr_module_child(m, "a", tsr_linear_new(2, 2, true, TSR_DTYPE_F32)));
    assert_failed(TSR_STATUS_ARGUMENT, "root: there are two items named \"a\"");
    assert_null(tsr_module_parameter(m, "c", TSR_SHAPE(2), TSR_INIT_UNIFORM(INFINITY)));
    assert_failed(TSR_STATUS_ARGUMENT, "root: c starts at random of size inf");
    tsr_module_child(m, "b", tsr_linear_new(2, 2, true, TSR_DTYPE_F64));
    assert_failed(TSR_STATUS_DTYPE, "root: child b is f64, expected f32");
    assert_null(tsr_module_finish(m));
    assert_true(tsr_pool_stats_get().in_use <= before);
}

/* Whichever allocation fails, there is a message, no model, and nothing is lost. */
static void test_module__survives_every_failing_allocation(void **state)
{
    (void)state;
    for (int64_t n = 1;; n++) {
        size_t before = bytes_in_use();
        tsr_pool__fail_at(n);
        struct tree *m = make_tree(4, TSR_DTYPE_F32);
        if (m != NULL) {
            tsr_pool__fail_at(0);
            tsr_module_free(&m);
            assert_true(n > 10);
            break;
        }
        assert_failed(TSR_STATUS_MEMORY, "memory");
        assert_true(tsr_pool_stats_get().in_use <= before);
    }
}

static void test_module__names_itself_in_anomalies(void **state)
{
    (void)state;
    struct tree *m = teacher_and_student(TSR_DTYPE_F32, 4, 1);
    tsr_tensor_fill(m->second->fc2->bias, NAN);
    bool was = tsr_anomaly_set(true);
    tsr_tape *tape = tsr_tape_open();
    assert_null(tsr_mlp_forward(m->second, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3, 4)), NULL));
    tsr_tape_close(&tape);
    tsr_anomaly_set(was);
    assert_failed(TSR_STATUS_NUMERIC, "mlp.fc2");
    tsr_module_free(&m);
}

/* Training drops what the operators drop; evaluation nothing, and then it wants no numbers. */
static void test_module__dropout_and_drop_path(void **state)
{
    (void)state;
    tsr_dropout_layer *drop = tsr_dropout_new(0.3, TSR_DTYPE_F64);
    tsr_drop_path_layer *path = tsr_drop_path_new(0.3, TSR_DTYPE_F64);
    tsr_tensor *x = tsr_full(TSR_DTYPE_F64, TSR_SHAPE(16, 5), 1.0);
    tsr_rng rng = tsr_rng_make(1, 2, 3, 4);
    assert_same(tsr_dropout_forward(drop, x, &rng), tsr_dropout(x, 0.3, rng));
    assert_same(tsr_drop_path_forward(path, x, &rng), tsr_drop_path(x, 0.3, rng));
    assert_null(tsr_dropout_forward(drop, x, NULL));
    assert_failed(TSR_STATUS_STATE, "dropout: a rate of 0.3 in training wants an rng");
    assert_null(tsr_drop_path_forward(path, x, NULL));
    assert_failed(TSR_STATUS_STATE, "drop_path: a rate of 0.3 in training wants an rng");
    tsr_module_train(&drop->module, false);
    tsr_module_train(&path->module, false);
    assert_ptr_equal(tsr_dropout_forward(drop, x, NULL), x);
    assert_ptr_equal(tsr_drop_path_forward(path, x, NULL), x);
    assert_null(tsr_dropout_forward(NULL, x, &rng));
    assert_null(tsr_drop_path_forward(NULL, x, &rng));
    assert_null(tsr_dropout_new(-0.1, TSR_DTYPE_F64));
    assert_failed(TSR_STATUS_ARGUMENT, "dropout: p is -0.1, expected 0 or more, below 1");
    assert_null(tsr_drop_path_new((double)NAN, TSR_DTYPE_F64));
    assert_failed(TSR_STATUS_ARGUMENT, "drop_path: p is");
    tsr_module_free(&drop);
    tsr_module_free(&path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_module__lists_in_pytorch_order),
        tsr_test(test_module__finds_by_name),
        tsr_test(test_module__groups_as_the_authors_do),
        tsr_test(test_module__switches_the_whole_tree),
        tsr_test(test_module__starts_alike_whatever_else_there_is),
        tsr_test(test_module__starts_alike_on_any_number_of_threads),
        tsr_test(test_module__copies_and_converts),
        tsr_test(test_module__says_what_a_copy_lacks),
        tsr_test(test_module__averages_in_the_type_of_the_model),
        tsr_test(test_module__averages_alike_on_any_number_of_threads),
        tsr_test(test_module__averages_common_names),
        tsr_test(test_module__fails_as_a_whole),
        tsr_test(test_module__survives_every_failing_allocation),
        tsr_test(test_module__names_itself_in_anomalies),
        tsr_test(test_module__dropout_and_drop_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
