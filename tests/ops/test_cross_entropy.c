#include "tests/ops/fused.h"

struct arguments {
    tsr_tensor *x, *target;
    int64_t ignore;
};

static double loss(const int64_t *ix, const void *args)
{
    const struct arguments *s = args;
    int last = tsr_tensor_ndim(s->x) - 1;
    int64_t at[TSR_MAX_DIMS] = {0}, t = (int64_t)reference_get(s->target, ix);
    for (int d = 0; d < last; d++) at[d] = ix[d];
    if (t == s->ignore) return 0.0;
    double sum = 0.0, most = -INFINITY;
    int64_t n = tsr_tensor_size(s->x, -1);
    for (at[last] = 0; at[last] < n; at[last]++) most = fmax(most, reference_get(s->x, at));
    for (at[last] = 0; at[last] < n; at[last]++) sum += exp(reference_get(s->x, at) - most);
    at[last] = t;
    return log(sum) + most - reference_get(s->x, at);
}

static void run(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    out[0] = tsr_cross_entropy(in.at[0], in.at[1], ((const struct arguments *)user)->ignore);
}

static void check(tsr_shape shape, int64_t ignore)
{
    tsr_shape rows = shape;
    rows.ndim--;
    FUSED_EACH_REAL(dtype)
    {
        tsr_tensor *x = fused_leaf(dtype, shape, 1);
        tsr_tensor *target = reference_indices(rows, shape.size[rows.ndim], 2);
        struct arguments s = {x, target, ignore};
        assert_elements_close(tsr_cross_entropy(x, target, ignore), rows, loss, &s,
                              fused_tolerance(dtype));
        assert_definition(run, &s, TSR_TENSORS(x, target), fused_tolerance(dtype));
    }
}

static void test_cross_entropy__of_every_shape(void **state)
{
    (void)state;
    check(TSR_SHAPE(5, 7), -100);
    check(TSR_SHAPE(2, 3, 4), -100);
    check(TSR_SHAPE(9), -100);
    check(TSR_SHAPE(4, 1), -100);
    check(TSR_SHAPE(0, 3), -100);
    check(TSR_SHAPE(40, 3), 1);
    check(TSR_SHAPE(67, 1031), -1);
}

static void test_cross_entropy__sure_and_wrong(void **state)
{
    (void)state;
    const float x[] = {1000.0f, 0.0f, 0.0f, 1000.0f};
    tsr_tensor *y = tsr_cross_entropy(tsr_from(TSR_DTYPE_F32, TSR_SHAPE(2, 2), x),
                                      reference_index(TSR_SHAPE(2), 0, 0), -100);
    assert_true(tsr_tensor_get(y, 0) == 0.0);
    assert_true(tsr_tensor_get(y, 1) == 1000.0);
}

/* Rows that are ignored may hold anything. */
static void test_cross_entropy__ignored_rows_do_not_matter(void **state)
{
    (void)state;
    const float x[] = {NAN, 1.0f, INFINITY, 0.5f, 1.0f, 2.0f};
    tsr_tensor *t = tsr_require_grad(tsr_from(TSR_DTYPE_F32, TSR_SHAPE(2, 3), x), true);
    tsr_tensor *target = reference_index(TSR_SHAPE(2), -7, 2), *g[FUSED_INPUTS] = {0};
    struct arguments s = {t, target, -7};
    assert_true(tsr_tensor_get(tsr_cross_entropy(t, target, -7), 0) == 0.0);
    fused_gradients(run, &s, TSR_TENSORS(t, target), false, g);
    for (int i = 0; i < 3; i++) assert_true(tsr_tensor_get(g[0], i) == 0.0);
    assert_true(tsr_tensor_is_finite(g[0]));
}

static void test_cross_entropy__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_null(tsr_cross_entropy(x, reference_index(TSR_SHAPE(2), 1, 3), -100));
    assert_failed(TSR_STATUS_ARGUMENT, "cross_entropy: target 1 is 3, expected 0 to 2");
    assert_null(tsr_cross_entropy(x, reference_index(TSR_SHAPE(2), -1, 0), -100));
    assert_failed(TSR_STATUS_ARGUMENT, "cross_entropy: target 0 is -1, expected 0 to 2");
    assert_null(tsr_cross_entropy(x, reference_index(TSR_SHAPE(3), 0, 0, 0), -100));
    assert_failed(TSR_STATUS_SHAPE, "cross_entropy: target has shape [3]");
    assert_null(tsr_cross_entropy(x, tsr_zeros(TSR_DTYPE_I32, TSR_SHAPE(2)), -100));
    assert_failed(TSR_STATUS_DTYPE, "cross_entropy: target is i32, expected i64");
}

FUSED_MAIN(tsr_test(test_cross_entropy__of_every_shape),
           tsr_test(test_cross_entropy__sure_and_wrong),
           tsr_test(test_cross_entropy__ignored_rows_do_not_matter),
           tsr_test(test_cross_entropy__errors))
