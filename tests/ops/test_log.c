#include "tests/ops/elementwise.h"

static void test_log__values(void **state)
{
    (void)state;
    assert_unary(tsr_log, log, 0.0, 5.0, 1.5);
}

static void test_log__special_points(void **state)
{
    (void)state;
    assert_points(tsr_log, 5, {1.0, 0.0}, {0.0, -INFINITY}, {-1.0, NAN}, {INFINITY, INFINITY},
                  {NAN, NAN});
}

static void test_log__slopes(void **state)
{
    (void)state;
    assert_slopes(tsr_log, 1, {4.0, 0.25});
}

static void test_log__errors(void **state)
{
    (void)state;
    elementwise_refused("log", tsr_log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_log__values),
        tsr_test(test_log__special_points),
        tsr_test(test_log__slopes),
        tsr_test(test_log__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
