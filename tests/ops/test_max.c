#include "tests/ops/lanes.h"

static void check(const double *x, int64_t n, int64_t lane, tsr_tensor *y, void *user)
{
    (void)user;
    double best = x[0];
    for (int64_t i = 1; i < n; i++) best = x[i] > best ? x[i] : best;
    assert_true(tsr_tensor_get(y, lane) == best);
}

static void test_max__values(void **state)
{
    (void)state;
    lane_reductions(tsr_max, check, false);
    lane_reductions(tsr_max, check, true);
}

static void test_max__nan_and_infinity(void **state)
{
    (void)state;
    const double values[] = {1, NAN, 3, -INFINITY, 2, INFINITY, -INFINITY, -INFINITY, -INFINITY};
    const double wanted[] = {NAN, INFINITY, -INFINITY};
    for (int t = 0; t < 2; t++) {
        tsr_dtype dtype = t == 0 ? TSR_DTYPE_F32 : TSR_DTYPE_F64;
        tsr_tensor *x = tsr_cast(tsr_from(TSR_DTYPE_F64, TSR_SHAPE(3, 3), values), dtype);
        tsr_tensor *y = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(3), wanted);
        assert_close(tsr_max(x, 1, false), y, 0.0);
        assert_close(tsr_max(tsr_transpose(x, 0, 1), 0, false), y, 0.0);
    }
}

/* Equal extrema share the gradient evenly. */
static void test_max__gradient_of_ties(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    const double values[] = {1, 5, 5, 2, 5, 0, 7, 7, 7, 7, 9, 8}, cotangent[] = {3, 10};
    tsr_tensor *x = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2, 6), values);
    tsr_tensor *v = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2), cotangent);
    tsr_tensor *y = tsr_max(tsr_require_grad(x, true), 1, false);
    const double wanted[] = {0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 10, 0};
    assert_close(reference_gradient(tape, y, v, x),
                 tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2, 6), wanted), 0.0);
    tsr_tape_close(&tape);
}

static void test_max__errors(void **state)
{
    (void)state;
    lane_refused("max", tsr_max);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_max__values),
        tsr_test(test_max__nan_and_infinity),
        tsr_test(test_max__gradient_of_ties),
        tsr_test(test_max__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
