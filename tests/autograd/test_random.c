/*
 * Known answers: kat_vectors of Random123 1.14 (philox4x32 10), the authors' own. Statistics have fixed seeds; their
 * bounds are those that a good generator misses once in a thousand or more seeds, so that a wrong one does not pass.
 */
#include "tests/test.h"

#include <stdlib.h>

enum { N = 200000 };

static void test_random__philox_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } answers[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (int i = 0; i < 3; i++) {
        const uint32_t *c = answers[i].counter;
        uint64_t seed = (uint64_t)answers[i].key[1] << 32 | answers[i].key[0];
        tsr_rng rng = tsr_rng_make(seed, c[1], c[2], c[3]);
        rng.index = c[0];
        for (int k = 0; k < 4; k++) assert_int_equal(tsr_rng_u32(&rng), answers[i].out[k]);
    }
}

static void test_random__every_part_of_the_counter_matters(void **state)
{
    (void)state;
    tsr_rng base = tsr_rng_make(1, 2, 3, 4);
    const tsr_rng others[] = {tsr_rng_make(0, 2, 3, 4), tsr_rng_make(UINT64_C(1) << 32, 2, 3, 4),
                              tsr_rng_make(1, 0, 3, 4), tsr_rng_make(1, 2, 0, 4),
                              tsr_rng_make(1, 2, 3, 0)};
    uint32_t first = tsr_rng_u32(&base);
    for (int i = 0; i < 5; i++) {
        tsr_rng other = others[i];
        assert_int_not_equal(tsr_rng_u32(&other), first);
    }
    assert_int_not_equal(tsr_rng_purpose("masks"), tsr_rng_purpose("crops"));
    assert_int_equal(tsr_rng_purpose(""), 2166136261u);  /* FNV-1a's offset basis */
    assert_int_equal(tsr_rng_purpose("a"), 0xe40c292cu); /* from FNV's published test vectors */
    assert_int_equal(tsr_rng_purpose("foobar"), 0xbf9cf968u);
}

/* ---- distributions ---- */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Kolmogorov and Smirnov's distance times sqrt(n): above 1.95 once in a thousand. Sorts x. */
static double distance(double *x, int n, double (*cdf)(double))
{
    double worst = 0.0;
    qsort(x, (size_t)n, sizeof *x, compare_doubles);
    for (int i = 0; i < n; i++) {
        double f = cdf(x[i]);
        worst = fmax(worst, fmax(f - (double)i / n, (double)(i + 1) / n - f));
    }
    return worst * sqrt(n);
}

static double moment(const double *x, int n, int order)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++) sum += pow(x[i], order);
    return sum / n;
}

/* Correlation of neighbours: normal with deviation 1 / sqrt(n) where there is none. */
static double serial_correlation(const double *x, int n)
{
    double mean = moment(x, n, 1), both = 0.0, own = 0.0;
    for (int i = 0; i < n; i++) {
        both += (x[i] - mean) * (x[(i + 1) % n] - mean);
        own += (x[i] - mean) * (x[i] - mean);
    }
    return both / own;
}

static double uniform_cdf(double x)
{
    return fmin(fmax(x, 0.0), 1.0);
}

static double normal_cdf(double x)
{
    return 0.5 * erfc(-x * 0.70710678118654752440);
}

/* N(0.5, 2) cut to [-1, 2]. */
static double trunc_cdf(double x)
{
    double lo = normal_cdf((-1.0 - 0.5) / 2.0), hi = normal_cdf((2.0 - 0.5) / 2.0);
    return (normal_cdf((x - 0.5) / 2.0) - lo) / (hi - lo);
}

static const double *filled(tsr_tensor *t)
{
    assert_ok();
    return tsr_tensor_data(t);
}

static double values[N];

static void test_random__uniform(void **state)
{
    (void)state;
    tsr_rng rng = tsr_rng_make(1, 0, 0, 0);
    for (int i = 0; i < N; i++) values[i] = tsr_rng_uniform(&rng);
    for (int i = 0; i < N; i++) assert_true(values[i] >= 0.0 && values[i] < 1.0);
    assert_true(fabs(serial_correlation(values, N)) < 4.0 / sqrt(N));
    assert_true(distance(values, N, uniform_cdf) < 1.95);
    for (int i = 0; i < 1000; i++) {
        double x = tsr_rng_range(&rng, -3.0, -2.5);
        assert_true(x >= -3.0 && x < -2.5);
    }
}

static void test_random__fill_uniform(void **state)
{
    (void)state;
    tsr_tensor *t = tsr_empty(TSR_DTYPE_F64, TSR_SHAPE(N));
    tsr_fill_uniform(t, tsr_rng_make(1, 0, 0, 0), 2.0, 6.0);
    for (int i = 0; i < N; i++) values[i] = (filled(t)[i] - 2.0) / 4.0;
    assert_true(fabs(serial_correlation(values, N)) < 4.0 / sqrt(N));
    assert_true(distance(values, N, uniform_cdf) < 1.95);
}

static void test_random__normal(void **state)
{
    (void)state;
    tsr_rng rng = tsr_rng_make(2, 0, 0, 0);
    for (int i = 0; i < N; i++) values[i] = tsr_rng_normal(&rng);
    assert_true(fabs(moment(values, N, 1)) < 4.0 * sqrt(1.0 / N));
    assert_true(fabs(moment(values, N, 2) - 1.0) < 4.0 * sqrt(2.0 / N));
    assert_true(fabs(moment(values, N, 3)) < 4.0 * sqrt(15.0 / N));
    assert_true(fabs(moment(values, N, 4) - 3.0) < 4.0 * sqrt(96.0 / N));
    assert_true(fabs(serial_correlation(values, N)) < 4.0 / sqrt(N));
    assert_true(distance(values, N, normal_cdf) < 1.95);
}

static void test_random__fill_normal(void **state)
{
    (void)state;
    tsr_tensor *t = tsr_empty(TSR_DTYPE_F64, TSR_SHAPE(N));
    tsr_fill_normal(t, tsr_rng_make(3, 0, 0, 0), -1.0, 0.5);
    for (int i = 0; i < N; i++) values[i] = (filled(t)[i] + 1.0) / 0.5;
    assert_true(fabs(serial_correlation(values, N)) < 4.0 / sqrt(N));
    assert_true(distance(values, N, normal_cdf) < 1.95);
}

static void test_random__fill_trunc_normal(void **state)
{
    (void)state;
    tsr_tensor *t = tsr_empty(TSR_DTYPE_F64, TSR_SHAPE(N));
    tsr_fill_trunc_normal(t, tsr_rng_make(4, 0, 0, 0), 0.5, 2.0, -1.0, 2.0);
    memcpy(values, filled(t), sizeof values);
    for (int i = 0; i < N; i++) assert_true(values[i] >= -1.0 && values[i] <= 2.0);
    assert_true(distance(values, N, trunc_cdf) < 1.95);
    tsr_fill_trunc_normal(t, tsr_rng_make(4, 0, 0, 0), 0.0, 1.0, 9.0, 10.0);
    assert_failed(TSR_STATUS_ARGUMENT,
                  "fill_trunc_normal: [9, 10] holds less than a thousandth of N(0, 1)");
    tsr_fill_trunc_normal(t, tsr_rng_make(4, 0, 0, 0), 0.0, 1.0, 1.0, 1.0);
    assert_failed(TSR_STATUS_ARGUMENT, "fill_trunc_normal");
    tsr_fill_trunc_normal(t, tsr_rng_make(4, 0, 0, 0), 0.0, 0.0, -1.0, 1.0);
    assert_failed(TSR_STATUS_ARGUMENT, "fill_trunc_normal");
    tsr_fill_trunc_normal(t, tsr_rng_make(4, 0, 0, 0), (double)NAN, 1.0, -1.0, 1.0);
    assert_failed(TSR_STATUS_ARGUMENT, "fill_trunc_normal");
}

static void test_random__fill_bernoulli(void **state)
{
    (void)state;
    static const double ps[] = {0.0, 0.01, 0.3, 0.5, 0.99, 1.0};
    for (tsr_dtype dtype = (tsr_dtype)0; dtype < TSR_DTYPE_COUNT; dtype = (tsr_dtype)(dtype + 1)) {
        for (int k = 0; k < 6; k++) {
            tsr_tensor *t = tsr_empty(dtype, TSR_SHAPE(20000));
            tsr_fill_bernoulli(t, tsr_rng_make(5, 0, 0, 0), ps[k]);
            assert_ok();
            double sum = 0.0;
            for (int64_t i = 0; i < 20000; i++) {
                double x = tsr_tensor_get(t, i);
                assert_true(x == 0.0 || x == 1.0);
                sum += x;
            }
            double deviation = sqrt(ps[k] * (1.0 - ps[k]) / 20000);
            assert_true(fabs(sum / 20000 - ps[k]) <= 4.0 * deviation);
        }
    }
}

/* Pearson's statistic of counts that should be equal. */
static double chi_squared(const int *counts, int n, int total)
{
    double sum = 0.0, expected = (double)total / n;
    for (int i = 0; i < n; i++) sum += (counts[i] - expected) * (counts[i] - expected) / expected;
    return sum;
}

static void test_random__below_has_no_bias(void **state)
{
    (void)state;
    tsr_rng rng = tsr_rng_make(6, 0, 0, 0);
    int counts[7] = {0}, high = 0;
    for (int i = 0; i < N; i++) {
        int64_t x = tsr_rng_below(&rng, 7);
        assert_in_range(x, 0, 6);
        counts[x]++;
    }
    assert_true(chi_squared(counts, 7, N) < 22.5); /* 6 degrees of freedom, p = 0.001 */
    /* Of 3/4 of the range of 64 bits, a remainder alone would draw the lower third half the time. */
    int64_t n = INT64_C(3) << 61;
    for (int i = 0; i < 10000; i++) high += tsr_rng_below(&rng, n) >= n / 3;
    assert_true(abs(high - 6667) < 4 * 48);
    assert_int_equal(tsr_rng_below(&rng, 1), 0);
    assert_int_equal(tsr_rng_below(&rng, 0), 0);
    assert_int_equal(tsr_rng_below(&rng, -5), 0);
    assert_true(tsr_rng_below(&rng, INT64_MAX) >= 0);
}

static void test_random__permutation(void **state)
{
    (void)state;
    tsr_rng rng = tsr_rng_make(7, 0, 0, 0);
    int64_t p[1000];
    bool seen[1000] = {false};
    tsr_rng_permutation(&rng, 1000, p);
    for (int i = 0; i < 1000; i++) {
        assert_in_range(p[i], 0, 999);
        assert_false(seen[p[i]]);
        seen[p[i]] = true;
    }
    /* All 24 orders of four, equally often. */
    int counts[24] = {0};
    for (int i = 0; i < 24000; i++) {
        tsr_rng_permutation(&rng, 4, p);
        int64_t rank = 0;
        for (int a = 0; a < 4; a++) {
            int64_t smaller = 0;
            for (int b = a + 1; b < 4; b++) smaller += p[b] < p[a];
            rank = rank * (4 - a) + smaller;
        }
        counts[rank]++;
    }
    assert_true(chi_squared(counts, 24, 24000) < 49.7); /* 23 degrees of freedom, p = 0.001 */
    tsr_rng_permutation(&rng, 0, NULL);
}

/* ---- what a number depends on ---- */

static void test_random__an_element_depends_on_its_index_alone(void **state)
{
    (void)state;
    tsr_tensor *small = tsr_empty(TSR_DTYPE_F64, TSR_SHAPE(7));
    tsr_tensor *large = tsr_empty(TSR_DTYPE_F64, TSR_SHAPE(50, 20));
    tsr_rng rng = tsr_rng_make(8, 1, 2, 3);
    tsr_fill_normal(small, rng, 0.0, 1.0);
    tsr_fill_normal(large, rng, 0.0, 1.0);
    for (int64_t i = 0; i < 7; i++)
        assert_true(tsr_tensor_get(small, i) == tsr_tensor_get(large, i));
    /* The same number in other types, rounded. */
    tsr_tensor *f32 = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(7));
    tsr_fill_normal(f32, rng, 0.0, 1.0);
    for (int64_t i = 0; i < 7; i++) {
        assert_true(tsr_tensor_get(f32, i) == (double)(float)tsr_tensor_get(small, i));
    }
}

static void test_random__streams_are_not_correlated(void **state)
{
    (void)state;
    const tsr_rng rngs[] = {tsr_rng_make(9, 0, 0, 0), tsr_rng_make(9, 1, 0, 0),
                            tsr_rng_make(9, 0, 1, 0), tsr_rng_make(9, 0, 0, 1),
                            tsr_rng_make(10, 0, 0, 0)};
    enum { M = 50000 };
    tsr_tensor *fills[5];
    for (int i = 0; i < 5; i++) {
        fills[i] = tsr_empty(TSR_DTYPE_F64, TSR_SHAPE(M));
        tsr_fill_normal(fills[i], rngs[i], 0.0, 1.0);
    }
    for (int a = 0; a < 5; a++) {
        for (int b = a + 1; b < 5; b++) {
            const double *x = filled(fills[a]), *y = filled(fills[b]);
            double sum = 0.0;
            for (int i = 0; i < M; i++) sum += x[i] * y[i];
            assert_true(fabs(sum / M) < 4.0 / sqrt(M));
        }
    }
}

/* Sizes at and around what a thread takes at once. */
static void test_random__a_fill_has_the_same_bytes_at_any_thread_count(void **state)
{
    (void)state;
    int before = tsr_threads();
    for (int64_t n = 4095; n < 70000; n = 2 * n + 3) {
        tsr_tensor *filled_by[3];
        for (int i = 0; i < 3; i++) {
            tsr_threads_set(1 << i);
            filled_by[i] = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(n));
            tsr_fill_trunc_normal(filled_by[i], tsr_rng_make(3, 1, 4, 1), 0.0, 1.0, -1.0, 2.0);
        }
        assert_same(filled_by[1], filled_by[0]);
        assert_same(filled_by[2], filled_by[0]);
    }
    tsr_threads_set(before);
}

static void test_random__errors(void **state)
{
    (void)state;
    tsr_rng rng = tsr_rng_make(1, 0, 0, 0);
    tsr_tensor *t = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4));
    tsr_tensor *strided = tsr_tensor_view(t, TSR_SHAPE(2), (int64_t[]){2}, 0);
    assert_int_equal(tsr_fill_normal(NULL, rng, 0, 1), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "fill_normal: tensor is NULL");
    tsr_fill_uniform(tsr_zeros(TSR_DTYPE_I32, TSR_SHAPE(2)), rng, 0, 1);
    assert_failed(TSR_STATUS_DTYPE, "fill_uniform: tensor is i32, expected a floating type");
    tsr_fill_bernoulli(strided, rng, 0.5);
    assert_failed(TSR_STATUS_ARGUMENT, "tensor is not contiguous");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_random__philox_known_answers),
        tsr_test(test_random__every_part_of_the_counter_matters),
        tsr_test(test_random__uniform),
        tsr_test(test_random__fill_uniform),
        tsr_test(test_random__normal),
        tsr_test(test_random__fill_normal),
        tsr_test(test_random__fill_trunc_normal),
        tsr_test(test_random__fill_bernoulli),
        tsr_test(test_random__below_has_no_bias),
        tsr_test(test_random__permutation),
        tsr_test(test_random__an_element_depends_on_its_index_alone),
        tsr_test(test_random__streams_are_not_correlated),
        tsr_test(test_random__a_fill_has_the_same_bytes_at_any_thread_count),
        tsr_test(test_random__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
