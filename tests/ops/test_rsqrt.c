#include "tests/ops/elementwise.h"

static double reference(double x)
{
    return 1.0 / sqrt(x);
}

static void test_rsqrt__values(void **state)
{
    (void)state;
    assert_unary(tsr_rsqrt, reference, 0.01, 5.0, 2.0);
}

static void test_rsqrt__special_points(void **state)
{
    (void)state;
    assert_points(tsr_rsqrt, 4, {4.0, 0.5}, {0.0, INFINITY}, {-1.0, NAN}, {INFINITY, 0.0});
}

static void test_rsqrt__slopes(void **state)
{
    (void)state;
    assert_slopes(tsr_rsqrt, 1, {4.0, -0.0625});
}

static void test_rsqrt__errors(void **state)
{
    (void)state;
    elementwise_refused("rsqrt", tsr_rsqrt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_rsqrt__values),
        tsr_test(test_rsqrt__special_points),
        tsr_test(test_rsqrt__slopes),
        tsr_test(test_rsqrt__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
