#include "tests/ops/elementwise.h"

static void test_erf__values(void **state)
{
    (void)state;
    assert_unary(tsr_erf, erf, -5.0, 5.0, 2.0);
}

static void test_erf__special_points(void **state)
{
    (void)state;
    assert_points(tsr_erf, 4, {0.0, 0.0}, {INFINITY, 1.0}, {-INFINITY, -1.0}, {NAN, NAN});
}

static void test_erf__slopes(void **state)
{
    (void)state;
    assert_slopes(tsr_erf, 2, {0.0, M_2_SQRTPI}, {1.0, M_2_SQRTPI / M_E});
}

static void test_erf__errors(void **state)
{
    (void)state;
    elementwise_refused("erf", tsr_erf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_erf__values),
        tsr_test(test_erf__special_points),
        tsr_test(test_erf__slopes),
        tsr_test(test_erf__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
