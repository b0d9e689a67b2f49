#include "tests/ops/elementwise.h"

static void test_minimum__values(void **state)
{
    (void)state;
    assert_binary(tsr_minimum, fmin, -2.0, 2.0, 0.0);
}

static void test_minimum__shares_the_gradient_of_equals(void **state)
{
    (void)state;
    double dx, dy;
    elementwise_gradients(tsr_minimum, 1.0, 1.0, &dx, &dy);
    assert_true(dx == 0.5 && dy == 0.5);
    elementwise_gradients(tsr_minimum, 1.0, 2.0, &dx, &dy);
    assert_true(dx == 1.0 && dy == 0.0);
}

static void test_minimum__is_nan_if_either_is(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        tsr_tensor *nan = tsr_scalar(elementwise_types[t], (double)NAN);
        tsr_tensor *one = tsr_scalar(elementwise_types[t], 1.0);
        assert_true(isnan(tsr_tensor_item(tsr_minimum(nan, one))));
        assert_true(isnan(tsr_tensor_item(tsr_minimum(one, nan))));
    }
}

static void test_minimum__errors(void **state)
{
    (void)state;
    elementwise_binary_refused("minimum", tsr_minimum);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_minimum__values),
        tsr_test(test_minimum__shares_the_gradient_of_equals),
        tsr_test(test_minimum__is_nan_if_either_is),
        tsr_test(test_minimum__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
