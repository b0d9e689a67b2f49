/*
 * The f32 functions of ops/kernels/math.h against libm's in f64: their errors are what the header states, on a walk over all
 * floats. Build flags for vectors, such as contraction to FMA, may not raise them.
 */
#include "tests/test.h"

#include "ops/kernels/math.h"

#include <float.h>

enum { STRIDE = 1009 }; /* of the 2^32 patterns of bits; a prime */

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* |got - wanted| in units of the last place that f32 has at wanted. */
static double error_in_ulps(float got, double wanted)
{
    if (isnan(wanted)) return isnan(got) ? 0.0 : INFINITY;
    if (isinf((float)wanted) || isinf(got)) {
        /* At the edge of overflow either side may be the nearest. */
        double most = (double)FLT_MAX * (1.0 - 1e-6);
        bool edge = fabs(wanted) >= most && fabs((double)got) >= most && (wanted > 0) == (got > 0);
        return got == (float)wanted || edge ? 0.0 : INFINITY;
    }
    int exponent;
    frexp(fmax(fabs(wanted), (double)FLT_MIN), &exponent);
    return fabs((double)got - wanted) / ldexp(1.0, exponent - 24);
}

static void check(const char *name, float (*f)(float), double (*reference)(double), double allowed)
{
    double worst = 0.0;
    float worst_at = 0.0f;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += STRIDE) {
        float x = from_bits((uint32_t)bits);
        double error = error_in_ulps(f(x), reference((double)x));
        if (error > worst) {
            worst = error;
            worst_at = x;
        }
    }
    if (worst <= allowed) return;
    fail_msg("%s: %.3f ulp at %.9g: %.9g, expected %.17g", name, worst, (double)worst_at,
             (double)f(worst_at), reference((double)worst_at));
}

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static double softplus(double x)
{
    return isnan(x) ? x : fmax(x, 0.0) + log1p(exp(-fabs(x)));
}

static float expf_of_minus_abs(float x)
{
    return tsr_math__expf_nonpositive(-fabsf(x));
}

static double exp_of_minus_abs(double x)
{
    return fabs(x) > 87.0 ? 0.0 : exp(-fabs(x));
}

static void test_math__expf_nonpositive_is_within_1_5_ulp(void **state)
{
    (void)state;
    check("expf_nonpositive", expf_of_minus_abs, exp_of_minus_abs, 1.5);
}

static void test_math__expf_is_within_1_5_ulp(void **state)
{
    (void)state;
    check("expf", tsr_math__expf, exp, 1.5);
}

static void test_math__logf_is_within_1_ulp(void **state)
{
    (void)state;
    check("logf", tsr_math__logf, log, 1.0);
}

static void test_math__tanhf_is_within_1_5_ulp(void **state)
{
    (void)state;
    check("tanhf", tsr_math__tanhf, tanh, 1.5);
}

static void test_math__erff_is_within_1_5_ulp(void **state)
{
    (void)state;
    check("erff", tsr_math__erff, erf, 1.5);
}

static void test_math__sigmoidf_is_within_2_5_ulp(void **state)
{
    (void)state;
    check("sigmoidf", tsr_math__sigmoidf, sigmoid, 2.5);
}

static void test_math__softplusf_is_within_2_ulp(void **state)
{
    (void)state;
    check("softplusf", tsr_math__softplusf, softplus, 2.0);
}

/* The checker itself sees an error of a few units, a lost infinity and a lost NaN. */
static float off_by_two(float x)
{
    return nextafterf(nextafterf((float)exp((double)x), INFINITY), INFINITY);
}

static void test_math__errors_are_measured(void **state)
{
    (void)state;
    assert_true(error_in_ulps(off_by_two(0.3f), exp((double)0.3f)) > 1.5);
    assert_true(error_in_ulps(1.0f, (double)NAN) > 1e9);
    assert_true(error_in_ulps(1.0f, (double)INFINITY) > 1e9);
    assert_true(error_in_ulps(INFINITY, 1.0) > 1e9);
    assert_true(error_in_ulps(1.0f, 1.0) == 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_math__expf_is_within_1_5_ulp),
        tsr_test(test_math__expf_nonpositive_is_within_1_5_ulp),
        tsr_test(test_math__logf_is_within_1_ulp),
        tsr_test(test_math__tanhf_is_within_1_5_ulp),
        tsr_test(test_math__erff_is_within_1_5_ulp),
        tsr_test(test_math__sigmoidf_is_within_2_5_ulp),
        tsr_test(test_math__softplusf_is_within_2_ulp),
        tsr_test(test_math__errors_are_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
