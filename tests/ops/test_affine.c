#include "tests/ops/elementwise.h"

static tsr_tensor *call(tsr_tensor *x)
{
    return tsr_affine(x, -2.0, 0.75);
}

static double reference(double x)
{
    return x * -2.0 + 0.75;
}

static void test_affine__values(void **state)
{
    (void)state;
    assert_unary(call, reference, 1.0, 3.0, 1.0);
}

static void test_affine__special_points(void **state)
{
    (void)state;
    assert_points(call, 3, {0.0, 0.75}, {INFINITY, -INFINITY}, {NAN, NAN});
}

static void test_affine__slopes(void **state)
{
    (void)state;
    assert_slopes(call, 1, {5.0, -2.0});
}

static void test_affine__errors(void **state)
{
    (void)state;
    elementwise_refused("affine", call);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_affine__values),
        tsr_test(test_affine__special_points),
        tsr_test(test_affine__slopes),
        tsr_test(test_affine__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
