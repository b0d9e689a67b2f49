#include "tests/ops/elementwise.h"

static double reference(double x)
{
    return x > 0.0 ? x : 0.0;
}

static void test_relu__values(void **state)
{
    (void)state;
    assert_unary(tsr_relu, reference, -3.0, 3.0, 0.0);
}

static void test_relu__special_points(void **state)
{
    (void)state;
    assert_points(tsr_relu, 4, {0.0, 0.0}, {INFINITY, INFINITY}, {-INFINITY, 0.0}, {NAN, NAN});
}

static void test_relu__slopes(void **state)
{
    (void)state;
    assert_slopes(tsr_relu, 3, {2.0, 1.0}, {-2.0, 0.0}, {0.0, 0.0});
}

static void test_relu__errors(void **state)
{
    (void)state;
    elementwise_refused("relu", tsr_relu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_relu__values),
        tsr_test(test_relu__special_points),
        tsr_test(test_relu__slopes),
        tsr_test(test_relu__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
