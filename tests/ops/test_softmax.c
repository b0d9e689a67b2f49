#include "tests/ops/fused.h"

struct arguments {
    tsr_tensor *x;
    int dim;
    bool logarithm;
};

static double reference(const int64_t *ix, const void *args)
{
    const struct arguments *s = args;
    int64_t at[TSR_MAX_DIMS];
    memcpy(at, ix, sizeof at);
    double most = -INFINITY, sum = 0.0;
    int64_t n = tsr_tensor_size(s->x, s->dim);
    for (at[s->dim] = 0; at[s->dim] < n; at[s->dim]++) most = fmax(most, reference_get(s->x, at));
    for (at[s->dim] = 0; at[s->dim] < n; at[s->dim]++) sum += exp(reference_get(s->x, at) - most);
    double c = reference_get(s->x, ix) - most;
    return s->logarithm ? c - log(sum) : exp(c) / sum;
}

static void run(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const struct arguments *s = user;
    out[0] = (s->logarithm ? tsr_log_softmax : tsr_softmax)(in.at[0], s->dim);
}

static void check(tsr_shape shape, double scale)
{
    FUSED_EACH_REAL(dtype)
    {
        for (int which = 0; which < 2 * shape.ndim; which++) {
            tsr_tensor *x = tsr_detach(tsr_affine(reference_normal(dtype, shape, 1), scale, 0.0));
            tsr_require_grad(x, true);
            struct arguments s = {x, which / 2, which % 2 != 0};
            tsr_tensor *y = NULL;
            run(TSR_TENSORS(x), &y, 1, &s);
            assert_elements_close(y, shape, reference, &s, fused_tolerance(dtype));
            assert_definition(run, &s, TSR_TENSORS(x), 20.0 * fused_tolerance(dtype));
        }
    }
}

static void test_softmax__over_every_dimension(void **state)
{
    (void)state;
    check(TSR_SHAPE(3, 7), 1.0);
    check(TSR_SHAPE(2, 5, 3, 4), 3.0);
    check(TSR_SHAPE(1), 1.0);
    check(TSR_SHAPE(11, 257), 10.0);
}

static void test_softmax__nothing(void **state)
{
    (void)state;
    tsr_tensor *y = tsr_softmax(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(0, 3)), 1);
    assert_ok();
    assert_int_equal(tsr_tensor_numel(y), 0);
}

static void test_softmax__shifted_rows_do_not_overflow(void **state)
{
    (void)state;
    const float x[] = {1e4f, 1e4f - 1.0f, -1e4f};
    tsr_tensor *t = tsr_from(TSR_DTYPE_F32, TSR_SHAPE(3), x), *p = tsr_softmax(t, 0);
    double s = 1.0 + exp(-1.0);
    assert_true(fabs(tsr_tensor_get(p, 0) - 1.0 / s) < 1e-6);
    assert_true(fabs(tsr_tensor_get(p, 1) - exp(-1.0) / s) < 1e-6);
    assert_true(tsr_tensor_get(p, 2) == 0.0);
    assert_true(fabs(tsr_tensor_get(tsr_log_softmax(t, 0), 2) + 2e4 + log(s)) < 1e-2);
}

static void test_softmax__masked_entries_are_zero(void **state)
{
    (void)state;
    const float x[] = {0.5f, -INFINITY, 1.5f, -INFINITY, -INFINITY, 0.0f, NAN, 1.0f, 2.0f};
    tsr_tensor *p = tsr_softmax(tsr_from(TSR_DTYPE_F32, TSR_SHAPE(3, 3), x), -1);
    assert_true(tsr_tensor_get(p, 1) == 0.0);
    assert_true(tsr_tensor_get(p, 3) == 0.0 && tsr_tensor_get(p, 5) == 1.0);
    for (int i = 6; i < 9; i++) assert_true(isnan(tsr_tensor_get(p, i)));
}

static void test_softmax__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_null(tsr_softmax(x, 2));
    assert_failed(TSR_STATUS_ARGUMENT, "softmax: dim is 2, expected -2 to 1");
    assert_null(tsr_log_softmax(x, -3));
    assert_failed(TSR_STATUS_ARGUMENT, "log_softmax: dim is -3, expected -2 to 1");
    assert_null(tsr_softmax(tsr_zeros(TSR_DTYPE_U8, TSR_SHAPE(2)), 0));
    assert_failed(TSR_STATUS_DTYPE, "softmax: x is u8, expected f32, f64 or bf16");
}

FUSED_MAIN(tsr_test(test_softmax__over_every_dimension), tsr_test(test_softmax__nothing),
           tsr_test(test_softmax__shifted_rows_do_not_overflow),
           tsr_test(test_softmax__masked_entries_are_zero), tsr_test(test_softmax__errors))
