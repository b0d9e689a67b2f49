#include "tests/ops/elementwise.h"

static void test_sqrt__values(void **state)
{
    (void)state;
    assert_unary(tsr_sqrt, sqrt, 0.0, 5.0, 1.0);
}

static void test_sqrt__special_points(void **state)
{
    (void)state;
    assert_points(tsr_sqrt, 4, {0.0, 0.0}, {4.0, 2.0}, {-1.0, NAN}, {INFINITY, INFINITY});
}

static void test_sqrt__slopes(void **state)
{
    (void)state;
    assert_slopes(tsr_sqrt, 2, {4.0, 0.25}, {0.0, INFINITY});
}

static void test_sqrt__errors(void **state)
{
    (void)state;
    elementwise_refused("sqrt", tsr_sqrt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_sqrt__values),
        tsr_test(test_sqrt__special_points),
        tsr_test(test_sqrt__slopes),
        tsr_test(test_sqrt__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
