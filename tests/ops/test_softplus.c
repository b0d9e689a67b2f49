#include "tests/ops/elementwise.h"

static double reference(double x)
{
    return fmax(x, 0.0) + log1p(exp(-fabs(x)));
}

static void test_softplus__values(void **state)
{
    (void)state;
    assert_unary(tsr_softplus, reference, -30.0, 30.0, 3.0);
}

static void test_softplus__special_points(void **state)
{
    (void)state;
    assert_points(tsr_softplus, 5, {0.0, M_LN2}, {INFINITY, INFINITY}, {-INFINITY, 0.0}, {NAN, NAN},
                  {1000.0, 1000.0});
}

static void test_softplus__slopes(void **state)
{
    (void)state;
    assert_slopes(tsr_softplus, 1, {0.0, 0.5});
}

static void test_softplus__errors(void **state)
{
    (void)state;
    elementwise_refused("softplus", tsr_softplus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_softplus__values),
        tsr_test(test_softplus__special_points),
        tsr_test(test_softplus__slopes),
        tsr_test(test_softplus__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
