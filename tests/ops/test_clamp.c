#include "tests/ops/elementwise.h"

static tsr_tensor *call(tsr_tensor *x)
{
    return tsr_clamp(x, -0.5, 1.25);
}

static double reference(double x)
{
    return fmin(fmax(x, -0.5), 1.25);
}

static void test_clamp__values(void **state)
{
    (void)state;
    assert_unary(call, reference, -3.0, 3.0, 0.0);
}

static void test_clamp__special_points(void **state)
{
    (void)state;
    assert_points(call, 4, {-0.5, -0.5}, {INFINITY, 1.25}, {-INFINITY, -0.5}, {NAN, NAN});
}

static void test_clamp__slopes(void **state)
{
    (void)state;
    assert_slopes(call, 5, {0.0, 1.0}, {-0.5, 1.0}, {1.25, 1.0}, {-0.75, 0.0}, {1.5, 0.0});
}

static void test_clamp__errors(void **state)
{
    (void)state;
    elementwise_refused("clamp", call);
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2));
    assert_null(tsr_clamp(x, 1.0, 0.0));
    assert_failed(TSR_STATUS_ARGUMENT, "clamp: lo is 1 and hi 0, expected lo <= hi");
    assert_null(tsr_clamp(x, (double)NAN, 0.0));
    assert_failed(TSR_STATUS_ARGUMENT, "expected lo <= hi");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_clamp__values),
        tsr_test(test_clamp__special_points),
        tsr_test(test_clamp__slopes),
        tsr_test(test_clamp__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
