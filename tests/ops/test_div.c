#include "tests/ops/elementwise.h"

static double reference(double x, double y)
{
    return x / y;
}

static void test_div__values(void **state)
{
    (void)state;
    assert_binary(tsr_div, reference, 0.5, 2.0, 1.0);
}

static void test_div__the_same_tensor_twice(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = tsr_require_grad(tsr_scalar(TSR_DTYPE_F64, 3.0), true), *y = tsr_div(x, x);
    tsr_tensor *g = reference_gradient(tape, y, tsr_scalar(TSR_DTYPE_F64, 1.0), x);
    assert_true(tsr_tensor_item(y) == 1.0 && tsr_tensor_item(g) == 0.0);
    tsr_tape_close(&tape);
}

static void test_div__by_zero(void **state)
{
    (void)state;
    tsr_tensor *a = tsr_from(TSR_DTYPE_F32, TSR_SHAPE(3), (const float[]){1, -1, 0});
    tsr_tensor *wanted =
        tsr_from(TSR_DTYPE_F32, TSR_SHAPE(3), (const float[]){INFINITY, -INFINITY, NAN});
    assert_close(tsr_div(a, tsr_scalar(TSR_DTYPE_F32, 0.0)), wanted, 0.0);
}

static void test_div__errors(void **state)
{
    (void)state;
    elementwise_binary_refused("div", tsr_div);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_div__values),
        tsr_test(test_div__the_same_tensor_twice),
        tsr_test(test_div__by_zero),
        tsr_test(test_div__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
