#include "tests/ops/elementwise.h"

static void test_sin__values(void **state)
{
    (void)state;
    assert_unary(tsr_sin, sin, -30.0, 30.0, 1.0);
}

static void test_sin__special_points(void **state)
{
    (void)state;
    assert_points(tsr_sin, 3, {0.0, 0.0}, {1000000000.0, sin(1e9)}, {INFINITY, NAN});
}

static void test_sin__slopes(void **state)
{
    (void)state;
    assert_slopes(tsr_sin, 2, {0.0, 1.0}, {2.0, cos(2.0)});
}

static void test_sin__errors(void **state)
{
    (void)state;
    elementwise_refused("sin", tsr_sin);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_sin__values),
        tsr_test(test_sin__special_points),
        tsr_test(test_sin__slopes),
        tsr_test(test_sin__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
