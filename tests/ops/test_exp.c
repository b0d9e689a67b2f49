#include "tests/ops/elementwise.h"

static void test_exp__values(void **state)
{
    (void)state;
    assert_unary(tsr_exp, exp, -20.0, 20.0, 1.5);
}

static void test_exp__special_points(void **state)
{
    (void)state;
    assert_points(tsr_exp, 4, {0.0, 1.0}, {-INFINITY, 0.0}, {INFINITY, INFINITY}, {NAN, NAN});
}

static void test_exp__slopes(void **state)
{
    (void)state;
    assert_slopes(tsr_exp, 2, {0.0, 1.0}, {1.0, M_E});
}

static void test_exp__errors(void **state)
{
    (void)state;
    elementwise_refused("exp", tsr_exp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_exp__values),
        tsr_test(test_exp__special_points),
        tsr_test(test_exp__slopes),
        tsr_test(test_exp__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
