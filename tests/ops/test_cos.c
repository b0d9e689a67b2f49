#include "tests/ops/elementwise.h"

static void test_cos__values(void **state)
{
    (void)state;
    assert_unary(tsr_cos, cos, -30.0, 30.0, 1.0);
}

static void test_cos__special_points(void **state)
{
    (void)state;
    assert_points(tsr_cos, 3, {0.0, 1.0}, {1000000000.0, cos(1e9)}, {INFINITY, NAN});
}

static void test_cos__slopes(void **state)
{
    (void)state;
    assert_slopes(tsr_cos, 2, {0.0, 0.0}, {2.0, -sin(2.0)});
}

static void test_cos__errors(void **state)
{
    (void)state;
    elementwise_refused("cos", tsr_cos);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_cos__values),
        tsr_test(test_cos__special_points),
        tsr_test(test_cos__slopes),
        tsr_test(test_cos__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
