/*
 * Products of f32, f64 and bf16 numbers: against sums in f64, at the level in use; the test runs once for each level. The kernel
 * for AMX is tested on any CPU with AVX512-BF16 (for packing), compiled against a model of its instructions.
 */
#include "tests/test.h"

#include "ops/gemm.h"
#include "ops/kernels/bf16.h"
#include "ops/kernels/product.h"

#include <math.h>
#include <stdlib.h>

#define BF16 TSR_DTYPE_BF16
#define F32  TSR_DTYPE_F32
#define F64  TSR_DTYPE_F64

struct shape {
    int64_t m, n, k;
};

static const struct shape shapes[] = {
    {1, 1, 1},    {1, 1, 0},    {3, 5, 2},       {12, 32, 32},   {13, 33, 31},   {11, 64, 65},
    {24, 31, 96}, {100, 17, 7}, {197, 64, 197},  {197, 197, 64}, {50, 96, 1500}, {97, 40, 2048},
    {2, 300, 40}, {500, 3, 33}, {700, 130, 160}, {600, 420, 410}};

enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static tsr_tensor *random_matrix(tsr_dtype dtype, int64_t rows, int64_t columns, uint32_t seed,
                                 bool integers)
{
    tsr_tensor *t = tsr_empty(F32, TSR_SHAPE(rows, columns));
    tsr_fill_uniform(t, tsr_rng_make(3, 0, seed, 0), -1.0, 1.0);
    float *x = tsr_tensor_data_mut(t);
    for (int64_t i = 0; integers && i < rows * columns; i++) x[i] = rintf(x[i] * 4.0f);
    return tsr_tensor_converted(t, dtype);
}

/* As the product of [rows, columns], or of its transpose where the tensor is [columns, rows]. */
static tsr_factor factor(tsr_tensor *t, bool transposed)
{
    int64_t width = tsr_tensor_size(t, 1);
    return (tsr_factor){tsr_tensor_data(t), transposed ? 1 : width, transposed ? width : 1,
                        tsr_tensor_dtype(t)};
}

/* What a product of this type sees of a matrix. */
static const double *seen(tsr_tensor *t, tsr_dtype dtype)
{
    return tsr_tensor_data(tsr_tensor_converted(tsr_tensor_converted(t, dtype), F64));
}

static double rounded(double x)
{
    return (double)tsr_bf16_to_f32(tsr_bf16_from_f32((float)x));
}

/* How a product is made. */
enum way {
    BF16_BY_KERNEL, /* NULL: by f32 products */
    F32_BY_KERNEL,
    ANY_WAY, /* tsr__gemm, which chooses; without bias */
};

struct variant {
    bool ta, tb;
    tsr_dtype a, b, c;
    bool add, bias, integers;
};

static void multiply(enum way way, const tsr_product_kernel *kernel, const struct shape *s,
                     tsr_factor a, tsr_factor b, tsr_product c)
{
    if (way == ANY_WAY) {
        tsr__gemm(c.dtype, s->m, s->n, s->k, (tsr_matrix){(void *)a.data, a.row, a.column},
                  (tsr_matrix){(void *)b.data, b.row, b.column}, c.add ? 1.0 : 0.0,
                  (tsr_matrix){c.data, c.row, 1});
    } else if (way == F32_BY_KERNEL) {
        assert_true(tsr__gemm_packed(kernel, s->m, s->n, s->k, a, b, c));
    } else {
        assert_true(tsr__gemm_bf16_by(kernel, s->m, s->n, s->k, a, b, c));
    }
}

static void check(enum way way, const tsr_product_kernel *kernels, const struct shape *s,
                  const struct variant *v, int threads)
{
    tsr_scope scope = tsr_scope_open();
    int before = tsr_threads();
    tsr_threads_set(threads);
    tsr_tensor *a = random_matrix(v->a, v->ta ? s->k : s->m, v->ta ? s->m : s->k, 1, v->integers);
    tsr_tensor *b = random_matrix(v->b, v->tb ? s->n : s->k, v->tb ? s->k : s->n, 2, v->integers);
    tsr_tensor *bias = random_matrix(F32, 1, s->n, 3, v->integers);
    /* The result has one column more, which must not change. */
    tsr_tensor *c = random_matrix(v->c, s->m, s->n + 1, 4, v->integers);
    tsr_tensor *old =
        tsr_tensor_converted(random_matrix(v->c, s->m, s->n + 1, 4, v->integers), F64);
    tsr_factor fa = factor(a, v->ta), fb = factor(b, v->tb);
    tsr_product product = {tsr_tensor_data_mut(c), s->n + 1, v->c, v->add,
                           v->bias ? tsr_tensor_data(bias) : NULL};
    tsr_dtype dtype = way == BF16_BY_KERNEL ? BF16 : v->a;
    const double *da = seen(a, dtype), *db = seen(b, dtype);
    int64_t counted = tsr__gemm_count();
    multiply(way, kernels, s, fa, fb, product);
    if (way != F32_BY_KERNEL) assert_int_equal(tsr__gemm_count() - counted, s->m * s->n * s->k);
    assert_ok();
    /* Of large products some elements of each row, and the last one. */
    int64_t step = s->m * s->n * s->k > 10000000 ? 29 : 1;
    for (int64_t i = 0; i < s->m; i++) {
        for (int64_t j = i % step; j <= s->n; j += j < s->n && j + step > s->n ? s->n - j : step) {
            double want = tsr_tensor_get(old, i * (s->n + 1) + j), size = 1.0;
            double got = tsr_tensor_get(c, i * (s->n + 1) + j);
            if (j < s->n) {
                double sum = v->bias ? tsr_tensor_get(bias, j) : 0.0;
                for (int64_t p = 0; p < s->k; p++) {
                    double x = da[v->ta ? p * s->m + i : i * s->k + p] *
                               db[v->tb ? j * s->k + p : p * s->n + j];
                    sum += x;
                    size += fabs(x);
                }
                want = v->add ? want + sum : sum;
                if (v->c == BF16) want = v->integers ? rounded(want) : want;
            }
            double tolerance = (v->c == F64 ? 1e-15 : 2e-6) * size;
            if (v->c == BF16) tolerance += fabs(want) / 256.0;
            if (v->integers || j == s->n) tolerance = 0.0;
            if (!(fabs(got - want) <= tolerance)) {
                fail_msg("%lld x %lld x %lld: element %lld, %lld is %.9g, expected %.9g",
                         (long long)s->m, (long long)s->n, (long long)s->k, (long long)i,
                         (long long)j, got, want);
            }
        }
    }
    tsr_threads_set(before);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static const struct variant bf16_variants[] = {
    {false, false, BF16, BF16, BF16},
    {false, true, BF16, BF16, F32},
    {true, false, BF16, BF16, F32, .add = true},
    {true, true, BF16, BF16, BF16, .bias = true},
    {false, true, BF16, F32, BF16, .bias = true},
    {false, false, BF16, F32, F32, .bias = true},
    {true, false, F32, BF16, F32, .add = true, .bias = true},
    {false, true, F32, F32, F32},
};

static const struct variant f32_variants[] = {
    {false, false, F32, F32, F32},
    {false, true, F32, F32, F32, .bias = true},
    {true, false, F32, F32, F32, .add = true},
    {true, true, F32, F32, F32, .add = true, .bias = true},
};

static const struct variant any_variants[] = {
    {false, false, F32, F32, F32}, {false, true, F32, F32, F32, .add = true},
    {true, false, F32, F32, F32},  {true, true, F32, F32, F32, .add = true},
    {false, false, F64, F64, F64}, {true, true, F64, F64, F64, .add = true},
};

#define CHECK_ALL(way, kernel, variants, integers)                                                 \
    check_all(way, kernel, variants, sizeof variants / sizeof *variants, integers)

static void check_all(enum way way, const tsr_product_kernel *kernel,
                      const struct variant *variants, size_t n, bool integers)
{
    for (int i = 0; i < SHAPES; i++) {
        for (size_t v = 0; v < n; v++) {
            struct variant variant = variants[v];
            variant.integers = integers;
            check(way, kernel, &shapes[i], &variant, 1 + (int)v % 2);
        }
    }
}

static void test_gemm__bf16_sums_are_right(void **state)
{
    (void)state;
    CHECK_ALL(BF16_BY_KERNEL, tsr_product_kernel__get(BF16), bf16_variants, false);
}

/* Of small integers every sum is exact, so that every order gives the same bits. */
static void test_gemm__bf16_sums_of_integers_are_exact(void **state)
{
    (void)state;
    CHECK_ALL(BF16_BY_KERNEL, tsr_product_kernel__get(BF16), bf16_variants, true);
}

static void test_gemm__f32_sums_of_our_own_kernel_are_right(void **state)
{
    (void)state;
    const tsr_product_kernel *kernel = tsr_product_kernel__get(F32);
    if (kernel == NULL) skip();
    CHECK_ALL(F32_BY_KERNEL, kernel, f32_variants, false);
    CHECK_ALL(F32_BY_KERNEL, kernel, f32_variants, true);
}

/* More of each factor than is packed at once. */
static void test_gemm__slabs_of_large_factors_come_together(void **state)
{
    (void)state;
    static const struct variant f32 = {true, false, F32, F32, F32, .bias = true, .integers = true};
    static const struct variant bf16 = {true, false, BF16, BF16, BF16, .bias = true};
    const tsr_product_kernel *of_f32 = tsr_product_kernel__get(F32);
    const tsr_product_kernel *of_bf16 = tsr_product_kernel__get(BF16);
    if (of_f32 == NULL) skip();
    check(F32_BY_KERNEL, of_f32, &(struct shape){4400, 1, 1010}, &f32, 2);
    check(F32_BY_KERNEL, of_f32, &(struct shape){1, 4400, 1010}, &f32, 2);
    /* Slabs of A for each chunk of k, which share what is packed of B. */
    check(F32_BY_KERNEL, of_f32, &(struct shape){7700, 1, 1100}, &f32, 2);
    if (of_bf16 == NULL) return;
    check(BF16_BY_KERNEL, of_bf16, &(struct shape){4400, 1, 2100}, &bf16, 2);
    check(BF16_BY_KERNEL, of_bf16, &(struct shape){1, 4400, 2100}, &bf16, 2);
}

static void test_gemm__sums_are_right_whoever_makes_them(void **state)
{
    (void)state;
    CHECK_ALL(ANY_WAY, NULL, any_variants, false);
    CHECK_ALL(ANY_WAY, NULL, any_variants, true);
}

#if defined(TSR_TEST_AMX)
extern const tsr_product_kernel tsr_product_kernel__emulated;

/* Exact sums alone: how a model of the instructions rounds says nothing of theirs. */
static void test_gemm__amx_by_a_model_of_its_instructions(void **state)
{
    (void)state;
    if (tsr_cpu__level() < TSR_CPU_AVX512BF16) skip();
    CHECK_ALL(BF16_BY_KERNEL, &tsr_product_kernel__emulated, bf16_variants, true);
}
#endif

static void check_bits(enum way way, tsr_dtype dtype, const struct shape *s, bool ta, bool tb)
{
    int before = tsr_threads();
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *a = random_matrix(dtype, ta ? s->k : s->m, ta ? s->m : s->k, 1, false);
    tsr_tensor *b = random_matrix(dtype, tb ? s->n : s->k, tb ? s->k : s->n, 2, false);
    tsr_tensor *first = NULL;
    const tsr_product_kernel *kernel = tsr_product_kernel__get(BF16);
    /* BLIS's threads spin where they wait, which takes long where there are more of them than cores. */
    int most = way == ANY_WAY || kernel == NULL ? 2 : 4;
    for (int threads = 1; threads <= most; threads++) {
        tsr_threads_set(threads);
        tsr_tensor *c = tsr_empty(way == BF16_BY_KERNEL ? F32 : dtype, TSR_SHAPE(s->m, s->n));
        tsr_product product = {tsr_tensor_data_mut(c), s->n, tsr_tensor_dtype(c), false, NULL};
        multiply(way, kernel, s, factor(a, ta), factor(b, tb), product);
        if (first == NULL) first = c;
        assert_memory_equal(tsr_tensor_data(c), tsr_tensor_data(first),
                            (size_t)(s->m * s->n) * tsr_dtype_size(product.dtype));
    }
    tsr_threads_set(before);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_gemm__has_the_same_bits_at_any_thread_count(void **state)
{
    (void)state;
    static const struct shape large[] = {
        {411, 200, 2100}, {150, 333, 2100}, {13, 1000, 384}, {1000, 9, 384}, {333, 301, 24}};
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        /* Of the four pairs of transposes two for each shape, in which each factor is seen both ways. */
        for (int half = 0; half < 2; half++) {
            int t = half == 0 ? (int)i % 4 : 3 - (int)i % 4;
            check_bits(BF16_BY_KERNEL, BF16, &large[i], t & 1, t & 2);
            check_bits(ANY_WAY, F32, &large[i], t & 1, t & 2);
            check_bits(ANY_WAY, F64, &large[i], t & 1, t & 2);
        }
    }
}

static void test_gemm__conversions_are_those_of_one_number(void **state)
{
    (void)state;
    enum { N = 1 << 16 };
    static float x[N + 5], back[N + 5];
    static tsr_bf16 y[N + 5];
    for (int l = 0; l <= (int)tsr_cpu__level(); l++) {
        const tsr_bf16_kernels *k = tsr_bf16_kernels__at((tsr_cpu)l);
        /* All signs and exponents; what is cut off is just below, at and just above a half, and other things. */
        static const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff, 0x1234, 0xabcd};
        for (size_t round = 0; round < sizeof low / sizeof low[0]; round++) {
            for (uint32_t i = 0; i < N + 5; i++) {
                uint32_t bits = i << 16 | low[round];
                memcpy(&x[i], &bits, sizeof bits);
            }
            for (int64_t n = N; n <= N + 5; n += 5) {
                k->narrow(y, x, n);
                k->widen(back, y, n);
                for (int64_t i = 0; i < n; i++) {
                    float wide = tsr_bf16_to_f32(y[i]);
                    assert_int_equal(y[i].bits, tsr_bf16_from_f32(x[i]).bits);
                    assert_memory_equal(&back[i], &wide, sizeof wide);
                }
            }
        }
    }
}

static void test_gemm__column_sums_are_right(void **state)
{
    (void)state;
    for (int l = 0; l <= (int)tsr_cpu__level(); l++) {
        for (int64_t rows = 0; rows < 11; rows += 5) {
            enum { D = 37 };
            tsr_tensor *x = random_matrix(BF16, rows, D, 1, false);
            float sums[D];
            tsr_bf16_kernels__at((tsr_cpu)l)->column_sums(sums, tsr_tensor_data(x), rows, D);
            for (int64_t j = 0; j < D; j++) {
                double sum = 0.0;
                for (int64_t r = 0; r < rows; r++) sum += tsr_tensor_get(x, r * D + j);
                assert_true(fabs((double)sums[j] - sum) <= 1e-6 * (double)rows);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_gemm__bf16_sums_are_right),
        tsr_test(test_gemm__bf16_sums_of_integers_are_exact),
#if defined(TSR_TEST_AMX)
        tsr_test(test_gemm__amx_by_a_model_of_its_instructions),
#endif
        tsr_test(test_gemm__f32_sums_of_our_own_kernel_are_right),
        tsr_test(test_gemm__slabs_of_large_factors_come_together),
        tsr_test(test_gemm__sums_are_right_whoever_makes_them),
        tsr_test(test_gemm__has_the_same_bits_at_any_thread_count),
        tsr_test(test_gemm__conversions_are_those_of_one_number),
        tsr_test(test_gemm__column_sums_are_right),
    };
    print_message("level in use: %s\n", tsr_cpu__name(tsr_cpu__level()));
    return cmocka_run_group_tests_name("gemm", tests, NULL, NULL);
}
