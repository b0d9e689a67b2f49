#include "tests/ops/elementwise.h"

static void test_abs__values(void **state)
{
    (void)state;
    assert_unary(tsr_abs, fabs, -3.0, 3.0, 0.0);
}

static void test_abs__special_points(void **state)
{
    (void)state;
    assert_points(tsr_abs, 3, {-0.0, 0.0}, {-INFINITY, INFINITY}, {NAN, NAN});
}

static void test_abs__slopes(void **state)
{
    (void)state;
    assert_slopes(tsr_abs, 3, {2.0, 1.0}, {-2.0, -1.0}, {0.0, 0.0});
}

static void test_abs__errors(void **state)
{
    (void)state;
    elementwise_refused("abs", tsr_abs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_abs__values),
        tsr_test(test_abs__special_points),
        tsr_test(test_abs__slopes),
        tsr_test(test_abs__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
