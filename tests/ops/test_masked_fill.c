#include "tests/ops/reference.h"

static double filled(const int64_t *ix, const void *args)
{
    tsr_tensor *x = ((tsr_tensor *const *)args)[0], *mask = ((tsr_tensor *const *)args)[1];
    return tsr_tensor_get(mask, tsr_tensor_ndim(mask) == 1 ? ix[1] : ix[0]) != 0.0
               ? (double)-INFINITY
               : reference_get(x, ix);
}

static void test_masked_fill__values(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        tsr_dtype dtype = i % 2 == 0 ? TSR_DTYPE_F32 : TSR_DTYPE_F64;
        tsr_shape shape = i < 4 ? TSR_SHAPE(101, 997) : TSR_SHAPE(3, 5);
        int64_t rows = shape.size[0], columns = shape.size[1];
        tsr_shape stretched = (i / 2) % 2 == 0 ? TSR_SHAPE(columns) : TSR_SHAPE(rows, 1);
        tsr_tensor *x = reference_input(dtype, shape, i % 2);
        tsr_tensor *mask = reference_input(TSR_DTYPE_BOOL, stretched, 0), *both[] = {x, mask};
        assert_elements(tsr_masked_fill(x, mask, (double)-INFINITY), shape, filled, both);
    }
}

static void test_masked_fill__no_gradient_where_filled(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *mask = tsr_from(TSR_DTYPE_U8, TSR_SHAPE(3), (const uint8_t[]){0, 1, 255});
    tsr_tensor *x = tsr_require_grad(tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(3)), true);
    tsr_tensor *v = tsr_full(TSR_DTYPE_F64, TSR_SHAPE(3), 2.0);
    tsr_tensor *g = reference_gradient(tape, tsr_masked_fill(x, mask, (double)NAN), v, x);
    assert_close(g, tsr_from(TSR_DTYPE_F64, TSR_SHAPE(3), (const double[]){2, 0, 0}), 0.0);
    tsr_tape_close(&tape);
}

static void test_masked_fill__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2));
    tsr_tensor *mask = tsr_zeros(TSR_DTYPE_BOOL, TSR_SHAPE(3, 2));
    assert_null(tsr_masked_fill(x, mask, 0.0));
    assert_failed(TSR_STATUS_SHAPE,
                  "masked_fill: mask has shape [3, 2], which does not stretch to x's [2]");
    assert_null(tsr_masked_fill(x, x, 0.0));
    assert_failed(TSR_STATUS_DTYPE, "masked_fill: mask is f32, expected bool or u8");
    assert_null(tsr_masked_fill(mask, mask, 0.0));
    assert_failed(TSR_STATUS_DTYPE, "masked_fill: x is bool, expected f32, f64 or bf16");
    assert_null(tsr_masked_fill(NULL, mask, 0.0));
    assert_null(tsr_masked_fill(x, NULL, 0.0));
    assert_ok();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_masked_fill__values),
        tsr_test(test_masked_fill__no_gradient_where_filled),
        tsr_test(test_masked_fill__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
