#include "tests/ops/elementwise.h"

static double reference(double x, double y)
{
    return x * y;
}

static void test_mul__values(void **state)
{
    (void)state;
    assert_binary(tsr_mul, reference, -2.0, 2.0, 1.0);
}

static void test_mul__the_same_tensor_twice(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = tsr_require_grad(tsr_scalar(TSR_DTYPE_F64, 3.0), true), *y = tsr_mul(x, x);
    tsr_tensor *g = reference_gradient(tape, y, tsr_scalar(TSR_DTYPE_F64, 1.0), x);
    assert_true(tsr_tensor_item(y) == 9.0 && tsr_tensor_item(g) == 6.0);
    tsr_tape_close(&tape);
}

static void test_mul__errors(void **state)
{
    (void)state;
    elementwise_binary_refused("mul", tsr_mul);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_mul__values),
        tsr_test(test_mul__the_same_tensor_twice),
        tsr_test(test_mul__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
