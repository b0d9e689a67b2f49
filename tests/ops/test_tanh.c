#include "tests/ops/elementwise.h"

static void test_tanh__values(void **state)
{
    (void)state;
    assert_unary(tsr_tanh, tanh, -10.0, 10.0, 2.0);
}

static void test_tanh__special_points(void **state)
{
    (void)state;
    assert_points(tsr_tanh, 5, {0.0, 0.0}, {INFINITY, 1.0}, {-INFINITY, -1.0}, {NAN, NAN},
                  {1e-30, 1e-30});
}

static void test_tanh__slopes(void **state)
{
    (void)state;
    assert_slopes(tsr_tanh, 1, {0.0, 1.0});
}

static void test_tanh__errors(void **state)
{
    (void)state;
    elementwise_refused("tanh", tsr_tanh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_tanh__values),
        tsr_test(test_tanh__special_points),
        tsr_test(test_tanh__slopes),
        tsr_test(test_tanh__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
