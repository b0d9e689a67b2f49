#include "tests/ops/fused.h"
#include "tests/ops/lanes.h"

static void check(const double *x, int64_t n, int64_t lane, tsr_tensor *y, void *user)
{
    const tsr_dtype *dtype = user;
    double m = x[0], sum = 0.0;
    for (int64_t i = 1; i < n; i++) m = fmax(m, x[i]);
    for (int64_t i = 0; i < n; i++) sum += exp(x[i] - m);
    double wanted = m + log(sum), tolerance = *dtype == TSR_DTYPE_F64 ? 1e-14 : 5e-7;
    assert_true(fabs(tsr_tensor_get(y, lane) - wanted) <= tolerance * fmax(1.0, fabs(wanted)));
}

static void test_logsumexp__values(void **state)
{
    (void)state;
    lane_reductions(tsr_logsumexp, check, false);
}

/* Rows of extremes: what e^x alone could not hold, nothing but -infinity, an infinity, a NaN. */
static void test_logsumexp__extremes(void **state)
{
    (void)state;
    const double values[] = {1000,  1000,      -INFINITY, -1000,     -1000,
                             -1000, -INFINITY, -INFINITY, -INFINITY, INFINITY,
                             1,     -INFINITY, NAN,       1,         INFINITY};
    const double wanted[] = {1000 + M_LN2, -1000 + log(3), -INFINITY, INFINITY, NAN};
    for (int t = 0; t < 2; t++) {
        tsr_dtype dtype = t == 0 ? TSR_DTYPE_F32 : TSR_DTYPE_F64;
        tsr_tensor *x = tsr_cast(tsr_from(TSR_DTYPE_F64, TSR_SHAPE(5, 3), values), dtype);
        tsr_tensor *y = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(5), wanted);
        assert_close(tsr_logsumexp(x, 1, false), y, 1e-7);
        assert_close(tsr_logsumexp(tsr_transpose(x, 0, 1), 0, false), y, 1e-7);
    }
}

/* -infinity gets no gradient, also where all of the row is: 0, not NaN. */
static void test_logsumexp__gradient_of_minus_infinity(void **state)
{
    (void)state;
    const double values[] = {0, -INFINITY, 0, -INFINITY, -INFINITY, -INFINITY};
    const double wanted[] = {2, 0, 2, 0, 0, 0}, cotangent[] = {4, 4};
    for (int t = 0; t < 2; t++) {
        tsr_dtype dtype = t == 0 ? TSR_DTYPE_F32 : TSR_DTYPE_F64;
        tsr_tape *tape = tsr_tape_open();
        tsr_tensor *x = tsr_cast(tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2, 3), values), dtype);
        tsr_tensor *y = tsr_logsumexp(tsr_require_grad(x, true), 1, false);
        tsr_tensor *v = tsr_cast(tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2), cotangent), dtype);
        assert_close(reference_gradient(tape, y, v, x),
                     tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2, 3), wanted), 0.0);
        tsr_tape_close(&tape);
    }
}

static void call(tsr_tensors in, tsr_tensor **out, int n, void *user)
{
    (void)n;
    out[0] = tsr_logsumexp(in.at[0], *(const int *)user, false);
}

static void test_logsumexp__backward_is_the_definitions(void **state)
{
    (void)state;
    FUSED_EACH_REAL(dtype)
    {
        for (int dim = 0; dim < 3; dim++) {
            tsr_tensor *x = fused_leaf(dtype, TSR_SHAPE(23, 37, 71), 5);
            assert_definition(call, &dim, TSR_TENSORS(x), fused_tolerance(dtype));
        }
    }
}

static void test_logsumexp__errors(void **state)
{
    (void)state;
    lane_refused("logsumexp", tsr_logsumexp);
}

FUSED_MAIN(tsr_test(test_logsumexp__values), tsr_test(test_logsumexp__extremes),
           tsr_test(test_logsumexp__gradient_of_minus_infinity),
           tsr_test(test_logsumexp__backward_is_the_definitions), tsr_test(test_logsumexp__errors))
