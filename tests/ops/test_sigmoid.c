#include "tests/ops/elementwise.h"

static double reference(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static void test_sigmoid__values(void **state)
{
    (void)state;
    assert_unary(tsr_sigmoid, reference, -30.0, 30.0, 3.0);
}

static void test_sigmoid__special_points(void **state)
{
    (void)state;
    assert_points(tsr_sigmoid, 5, {0.0, 0.5}, {INFINITY, 1.0}, {-INFINITY, 0.0}, {NAN, NAN},
                  {-90.0, exp(-90.0)});
}

static void test_sigmoid__slopes(void **state)
{
    (void)state;
    assert_slopes(tsr_sigmoid, 1, {0.0, 0.25});
}

static void test_sigmoid__errors(void **state)
{
    (void)state;
    elementwise_refused("sigmoid", tsr_sigmoid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_sigmoid__values),
        tsr_test(test_sigmoid__special_points),
        tsr_test(test_sigmoid__slopes),
        tsr_test(test_sigmoid__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
