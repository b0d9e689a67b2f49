#include "tests/ops/elementwise.h"

static double reference(double x, double y)
{
    return x - y;
}

static void test_sub__values(void **state)
{
    (void)state;
    assert_binary(tsr_sub, reference, -2.0, 2.0, 1.0);
}

static void test_sub__the_same_tensor_twice(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = tsr_require_grad(tsr_scalar(TSR_DTYPE_F64, 3.0), true), *y = tsr_sub(x, x);
    tsr_tensor *g = reference_gradient(tape, y, tsr_scalar(TSR_DTYPE_F64, 1.0), x);
    assert_true(tsr_tensor_item(y) == 0.0 && tsr_tensor_item(g) == 0.0);
    tsr_tape_close(&tape);
}

static void test_sub__errors(void **state)
{
    (void)state;
    elementwise_binary_refused("sub", tsr_sub);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_sub__values),
        tsr_test(test_sub__the_same_tensor_twice),
        tsr_test(test_sub__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
