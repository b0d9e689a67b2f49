#include "tests/ops/fused.h"

static double divergence(const int64_t *ix, const void *args)
{
    tsr_tensor *const *in = args;
    double l = reference_get(in[0], ix), t = reference_get(in[1], ix);
    return t == 0.0 ? 0.0 : t * (log(t) - l);
}

static void test_kl_div__of_every_shape(void **state)
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
            assert_elements_close(tsr_kl_div(in[0], in[1]), shapes[i], divergence, in,
                                  fused_tolerance(dtype));
        }
    }
}

/* Where the target is 0, the loss and both gradients are 0, whatever log_p is. */
static void test_kl_div__zero_target(void **state)
{
    (void)state;
    const double l[] = {-1.0, -INFINITY, -2.0}, t[] = {0.0, 0.0, 0.5};
    tsr_tensor *x = tsr_require_grad(tsr_from(TSR_DTYPE_F64, TSR_SHAPE(3), l), true);
    tsr_tensor *y = tsr_require_grad(tsr_from(TSR_DTYPE_F64, TSR_SHAPE(3), t), true);
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *loss = tsr_kl_div(x, y), *ones = tsr_full(TSR_DTYPE_F64, TSR_SHAPE(3), 1.0);
    const double wanted[] = {0.0, 0.0, 0.5 * (log(0.5) + 2.0)}, of_x[] = {0.0, 0.0, -0.5};
    const double of_y[] = {0.0, 0.0, log(0.5) + 1.0 + 2.0};
    assert_close(loss, tsr_from(TSR_DTYPE_F64, TSR_SHAPE(3), wanted), 1e-15);
    assert_close(reference_gradient(tape, loss, ones, x),
                 tsr_from(TSR_DTYPE_F64, TSR_SHAPE(3), of_x), 1e-15);
    assert_close(reference_gradient(tape, loss, ones, y),
                 tsr_from(TSR_DTYPE_F64, TSR_SHAPE(3), of_y), 1e-15);
    tsr_tape_close(&tape);
}

static void test_kl_div__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_null(tsr_kl_div(x, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3))));
    assert_failed(TSR_STATUS_SHAPE, "kl_div: target has shape [3], expected [2, 3] as log_p");
    assert_null(tsr_kl_div(tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(2, 3)), x));
    assert_failed(TSR_STATUS_DTYPE, "kl_div: log_p is i64, expected f32 or f64");
}

FUSED_MAIN(tsr_test(test_kl_div__of_every_shape), tsr_test(test_kl_div__zero_target),
           tsr_test(test_kl_div__errors))
