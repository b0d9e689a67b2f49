#include "tests/ops/fused.h"

static double squared(const int64_t *ix, const void *args)
{
    tsr_tensor *const *in = args;
    return pow(reference_get(in[0], ix) - reference_get(in[1], ix), 2.0);
}

static void test_mse__of_every_shape(void **state)
{
    (void)state;
    const tsr_shape shapes[] = {TSR_SHAPE(3, 5), TSR_SHAPE_SCALAR, TSR_SHAPE(0, 2),
                                TSR_SHAPE(7, 99, 101)};
    FUSED_EACH_REAL(dtype)
    {
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            tsr_tensor *in[] = {reference_normal(dtype, shapes[i], 1),
                                reference_normal(dtype, shapes[i], 2)};
            assert_elements_close(tsr_mse(in[0], in[1]), shapes[i], squared, in,
                                  fused_tolerance(dtype));
        }
    }
}

static void test_mse__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_null(tsr_mse(x, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3))));
    assert_failed(TSR_STATUS_SHAPE, "mse: y has shape [3], expected [2, 3] as x");
    assert_null(tsr_mse(x, tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(2, 3))));
    assert_failed(TSR_STATUS_DTYPE, "mse: y is f64 and x is f32");
}

FUSED_MAIN(tsr_test(test_mse__of_every_shape), tsr_test(test_mse__errors))
