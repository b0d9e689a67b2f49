#include "tests/ops/lanes.h"

/* The first of equals. */
static void check(const double *x, int64_t n, int64_t lane, tsr_tensor *y, void *user)
{
    (void)user;
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) best = x[i] > x[best] ? i : best;
    assert_int_equal(tsr_tensor_dtype(y), TSR_DTYPE_I64);
    assert_int_equal((int64_t)tsr_tensor_get(y, lane), best);
}

static void test_argmax__values(void **state)
{
    (void)state;
    lane_reductions(tsr_argmax, check, false);
    lane_reductions(tsr_argmax, check, true);
}

static void test_argmax__first_nan_and_first_infinity(void **state)
{
    (void)state;
    const double values[] = {1, NAN, NAN, INFINITY, 2, INFINITY, -1, INFINITY, NAN};
    const int64_t wanted[] = {1, 0, 2};
    for (int t = 0; t < 2; t++) {
        tsr_dtype dtype = t == 0 ? TSR_DTYPE_F32 : TSR_DTYPE_F64;
        tsr_tensor *x = tsr_cast(tsr_from(TSR_DTYPE_F64, TSR_SHAPE(3, 3), values), dtype);
        assert_same(tsr_argmax(x, 1, false), tsr_from(TSR_DTYPE_I64, TSR_SHAPE(3), wanted));
    }
}

/* Its result is not recorded, whatever its input is. */
static void test_argmax__has_no_gradient(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = tsr_require_grad(reference_normal(TSR_DTYPE_F32, TSR_SHAPE(5), 1), true);
    assert_false(tsr_requires_grad(tsr_argmax(x, 0, false)));
    assert_int_equal(tsr_tape_length(tape), 0);
    tsr_tape_close(&tape);
}

static void test_argmax__errors(void **state)
{
    (void)state;
    lane_refused("argmax", tsr_argmax);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_argmax__values),
        tsr_test(test_argmax__first_nan_and_first_infinity),
        tsr_test(test_argmax__has_no_gradient),
        tsr_test(test_argmax__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
