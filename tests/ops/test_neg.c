#include "tests/ops/elementwise.h"

static double reference(double x)
{
    return 0.0 - x;
}

static void test_neg__values(void **state)
{
    (void)state;
    assert_unary(tsr_neg, reference, -3.0, 3.0, 0.0);
}

static void test_neg__special_points(void **state)
{
    (void)state;
    assert_points(tsr_neg, 3, {0.0, 0.0}, {INFINITY, -INFINITY}, {NAN, NAN});
}

static void test_neg__slopes(void **state)
{
    (void)state;
    assert_slopes(tsr_neg, 1, {2.0, -1.0});
}

static void test_neg__errors(void **state)
{
    (void)state;
    elementwise_refused("neg", tsr_neg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_neg__values),
        tsr_test(test_neg__special_points),
        tsr_test(test_neg__slopes),
        tsr_test(test_neg__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
