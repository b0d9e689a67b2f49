#include "tests/ops/elementwise.h"

static double reference(double x, double y)
{
    return x + y;
}

static void test_add__values(void **state)
{
    (void)state;
    assert_binary(tsr_add, reference, -2.0, 2.0, 1.0);
}

static void test_add__the_same_tensor_twice(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = tsr_require_grad(tsr_scalar(TSR_DTYPE_F64, 3.0), true), *y = tsr_add(x, x);
    tsr_tensor *g = reference_gradient(tape, y, tsr_scalar(TSR_DTYPE_F64, 1.0), x);
    assert_true(tsr_tensor_item(y) == 6.0 && tsr_tensor_item(g) == 2.0);
    tsr_tape_close(&tape);
}

static void test_add__errors(void **state)
{
    (void)state;
    elementwise_binary_refused("add", tsr_add);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_add__values),
        tsr_test(test_add__the_same_tensor_twice),
        tsr_test(test_add__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
