#include "tests/ops/reference.h"

static tsr_rng rng_of(uint32_t sample)
{
    return tsr_rng_make(11, 2, sample, tsr_rng_purpose("drop_path"));
}

struct arguments {
    tsr_tensor *x;
    double p;
    uint32_t sample;
};

/* x / keep * floor(keep + u) */
static double dropped(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    tsr_rng rng = rng_of(a->sample + (uint32_t)ix[0]);
    double keep = 1.0 - a->p;
    return reference_get(a->x, ix) / keep * floor(keep + tsr_rng_uniform(&rng));
}

static void test_drop_path__keeps_or_drops_whole_rows(void **state)
{
    (void)state;
    static const double ps[] = {0.1, 0.25, 0.5, 0.9};
    for (int k = 0; k < 4; k++) {
        tsr_tensor *x = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(37, 3, 5), 1);
        struct arguments a = {x, ps[k], 5};
        assert_elements_close(tsr_drop_path(x, ps[k], rng_of(5)), TSR_SHAPE(37, 3, 5), dropped, &a,
                              1e-15);
    }
    tsr_tensor *large = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(5, 20011), 1);
    struct arguments a = {large, 0.5, 0};
    assert_elements_close(tsr_drop_path(large, 0.5, rng_of(0)), TSR_SHAPE(5, 20011), dropped, &a,
                          1e-6);
}

static void test_drop_path__does_not_depend_on_how_the_batch_is_cut(void **state)
{
    (void)state;
    tsr_tensor *x = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(32, 7), 1);
    tsr_tensor *whole = tsr_drop_path(x, 0.3, rng_of(0));
    tsr_tensor *first = tsr_drop_path(tsr_slice(x, 0, 0, 13, 1), 0.3, rng_of(0));
    tsr_tensor *second = tsr_drop_path(tsr_slice(x, 0, 13, 32, 1), 0.3, rng_of(13));
    assert_same(tsr_concat(TSR_TENSORS(first, second), 0), whole);
}

static void test_drop_path__drops_p_of_the_rows(void **state)
{
    (void)state;
    enum { N = 100000 };
    tsr_tensor *y = tsr_drop_path(tsr_full(TSR_DTYPE_F32, TSR_SHAPE(N), 1.0), 0.2, rng_of(0));
    assert_ok();
    double n = 0.0;
    for (int64_t k = 0; k < N; k++) n += tsr_tensor_get(y, k) == 0.0;
    assert_true(fabs(n / N - 0.2) < 5.0 * sqrt(0.2 * 0.8 / N));
}

static void test_drop_path__extremes_and_errors(void **state)
{
    (void)state;
    tsr_tensor *x = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(7, 2), 1);
    assert_ptr_equal(tsr_drop_path(x, 0.0, rng_of(0)), x);
    assert_same(tsr_drop_path(x, 1.0, rng_of(0)), tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(7, 2)));
    assert_null(tsr_drop_path(x, -0.1, rng_of(0)));
    assert_failed(TSR_STATUS_ARGUMENT, "drop_path: p is -0.1, expected 0 to 1");
    assert_null(tsr_drop_path(tsr_scalar(TSR_DTYPE_F32, 1.0), 0.5, rng_of(0)));
    assert_failed(TSR_STATUS_SHAPE, "drop_path: x has shape [], expected [B, ...]");
    assert_null(tsr_drop_path(tsr_zeros(TSR_DTYPE_I32, TSR_SHAPE(2)), 0.5, rng_of(0)));
    assert_failed(TSR_STATUS_DTYPE, "drop_path: x is i32, expected f32, f64 or bf16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_drop_path__keeps_or_drops_whole_rows),
        tsr_test(test_drop_path__does_not_depend_on_how_the_batch_is_cut),
        tsr_test(test_drop_path__drops_p_of_the_rows),
        tsr_test(test_drop_path__extremes_and_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
