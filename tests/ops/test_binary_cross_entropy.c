#include "tests/ops/fused.h"

static double loss(const int64_t *ix, const void *args)
{
    tsr_tensor *const *in = args;
    double x = reference_get(in[0], ix), t = reference_get(in[1], ix);
    return fmax(x, 0.0) - x * t + log1p(exp(-fabs(x)));
}

static void test_binary_cross_entropy__of_every_shape(void **state)
{
    (void)state;
    const tsr_shape shapes[] = {TSR_SHAPE(3, 5), TSR_SHAPE_SCALAR, TSR_SHAPE(0, 2),
                                TSR_SHAPE(7, 99, 101)};
    FUSED_EACH_REAL(dtype)
    {
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            tsr_tensor *t = tsr_empty(dtype, shapes[i]);
            tsr_fill_uniform(t, tsr_rng_make(2, 0, 0, 0), 0.0, 1.0);
            tsr_tensor *in[] = {reference_normal(dtype, shapes[i], 1), t};
            assert_elements_close(tsr_binary_cross_entropy(in[0], in[1]), shapes[i], loss, in,
                                  fused_tolerance(dtype));
        }
    }
}

/* Sure and right costs next to nothing but not NaN, sure and wrong costs the logit. */
static void test_binary_cross_entropy__extremes(void **state)
{
    (void)state;
    const float x[] = {40.0f, -40.0f, 1000.0f, -1000.0f, 1000.0f};
    const float t[] = {1.0f, 0.0f, 0.0f, 1.0f, 1.0f};
    const double wanted[] = {exp(-40.0), exp(-40.0), 1000.0, 1000.0, 0.0};
    tsr_tensor *y = tsr_binary_cross_entropy(tsr_from(TSR_DTYPE_F32, TSR_SHAPE(5), x),
                                             tsr_from(TSR_DTYPE_F32, TSR_SHAPE(5), t));
    for (int i = 0; i < 5; i++) {
        assert_true(fabs(tsr_tensor_get(y, i) - wanted[i]) <= 1e-5 * wanted[i]);
    }
}

/* At 0, where max and |x| have kinks, the gradient is that of the smooth sum. */
static void test_binary_cross_entropy__gradient_at_zero(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_require_grad(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(1)), true);
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *y = tsr_binary_cross_entropy(x, tsr_full(TSR_DTYPE_F32, TSR_SHAPE(1), 0.25));
    tsr_tensor *g = reference_gradient(tape, y, tsr_full(TSR_DTYPE_F32, TSR_SHAPE(1), 1.0), x);
    assert_true(tsr_tensor_item(g) == 0.25);
    tsr_tape_close(&tape);
}

static void test_binary_cross_entropy__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_null(tsr_binary_cross_entropy(x, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3))));
    assert_failed(TSR_STATUS_SHAPE,
                  "binary_cross_entropy: target has shape [3], expected [2, 3] as logits");
    assert_null(tsr_binary_cross_entropy(x, tsr_zeros(TSR_DTYPE_BOOL, TSR_SHAPE(2, 3))));
    assert_failed(TSR_STATUS_DTYPE, "binary_cross_entropy: target is bool and logits is f32");
}

FUSED_MAIN(tsr_test(test_binary_cross_entropy__of_every_shape),
           tsr_test(test_binary_cross_entropy__extremes),
           tsr_test(test_binary_cross_entropy__gradient_at_zero),
           tsr_test(test_binary_cross_entropy__errors))
