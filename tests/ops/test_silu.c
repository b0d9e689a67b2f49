#include "tests/ops/elementwise.h"

static double reference(double x)
{
    return x / (1.0 + exp(-x));
}

static void test_silu__values(void **state)
{
    (void)state;
    assert_unary(tsr_silu, reference, -30.0, 30.0, 4.0);
}

static void test_silu__special_points(void **state)
{
    (void)state;
    assert_points(tsr_silu, 4, {0.0, 0.0}, {INFINITY, INFINITY}, {NAN, NAN},
                  {-80.0, -80.0 * exp(-80.0)});
}

static void test_silu__slopes(void **state)
{
    (void)state;
    assert_slopes(tsr_silu, 1, {0.0, 0.5});
}

static void test_silu__errors(void **state)
{
    (void)state;
    elementwise_refused("silu", tsr_silu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_silu__values),
        tsr_test(test_silu__special_points),
        tsr_test(test_silu__slopes),
        tsr_test(test_silu__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
