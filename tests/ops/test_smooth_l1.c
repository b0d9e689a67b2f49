#include "tests/ops/fused.h"

struct arguments {
    tsr_tensor *x, *y;
    double beta;
};

static double huber(const int64_t *ix, const void *args)
{
    const struct arguments *s = args;
    double d = fabs(reference_get(s->x, ix) - reference_get(s->y, ix));
    return d < s->beta ? 0.5 * d * d / s->beta : d - 0.5 * s->beta;
}

static void test_smooth_l1__of_every_beta(void **state)
{
    (void)state;
    const double betas[] = {0.0, 0.11, 1.0, 10.0};
    const tsr_shape shapes[] = {TSR_SHAPE(3, 5), TSR_SHAPE_SCALAR, TSR_SHAPE(0, 2),
                                TSR_SHAPE(7, 99, 101)};
    FUSED_EACH_REAL(dtype)
    {
        for (size_t i = 0; i < 16; i++) {
            tsr_shape shape = shapes[i / 4];
            struct arguments s = {reference_normal(dtype, shape, 1),
                                  reference_normal(dtype, shape, 2), betas[i % 4]};
            assert_elements_close(tsr_smooth_l1(s.x, s.y, s.beta), shape, huber, &s,
                                  fused_tolerance(dtype));
        }
    }
}

/* The gradient is d / beta inside, the sign outside, and continuous where they meet. */
static void test_smooth_l1__gradient(void **state)
{
    (void)state;
    const double d[] = {-3.0, -2.0, -0.5, 0.0, 0.5, 2.0, 3.0};
    const double wanted[] = {-1.0, -1.0, -0.25, 0.0, 0.25, 1.0, 1.0};
    tsr_tensor *x = tsr_require_grad(tsr_from(TSR_DTYPE_F64, TSR_SHAPE(7), d), true);
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *loss = tsr_smooth_l1(x, tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(7)), 2.0);
    tsr_tensor *g = reference_gradient(tape, loss, tsr_full(TSR_DTYPE_F64, TSR_SHAPE(7), 1.0), x);
    assert_close(g, tsr_from(TSR_DTYPE_F64, TSR_SHAPE(7), wanted), 1e-15);
    tsr_tape_close(&tape);
}

static void test_smooth_l1__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2));
    assert_null(tsr_smooth_l1(x, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3)), 1.0));
    assert_failed(TSR_STATUS_SHAPE, "smooth_l1: y has shape [3], expected [2] as x");
    assert_null(tsr_smooth_l1(x, x, -1.0));
    assert_failed(TSR_STATUS_ARGUMENT, "smooth_l1: beta is -1, expected 0 or more");
    assert_null(tsr_smooth_l1(x, x, NAN));
    assert_failed(TSR_STATUS_ARGUMENT, "expected 0 or more");
}

FUSED_MAIN(tsr_test(test_smooth_l1__of_every_beta), tsr_test(test_smooth_l1__gradient),
           tsr_test(test_smooth_l1__errors))
