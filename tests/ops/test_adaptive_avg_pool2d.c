#include "tests/ops/images.h"

struct arguments {
    tsr_tensor *x;
    int64_t h, w;
};

static double pooled_at(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    double h = (double)tsr_tensor_size(a->x, 2) / (double)a->h, sum = 0.0;
    double w = (double)tsr_tensor_size(a->x, 3) / (double)a->w;
    /* A hair off, so that rounding decides nothing. */
    int64_t top = (int64_t)floor((double)ix[2] * h + 1e-9),
            left = (int64_t)floor((double)ix[3] * w + 1e-9);
    int64_t bottom = (int64_t)ceil((double)(ix[2] + 1) * h - 1e-9);
    int64_t right = (int64_t)ceil((double)(ix[3] + 1) * w - 1e-9);
    for (int64_t i = top; i < bottom; i++) {
        for (int64_t j = left; j < right; j++) sum += image_get(a->x, ix[0], ix[1], i, j);
    }
    return sum / (double)((bottom - top) * (right - left));
}

static void test_adaptive_avg_pool2d__every_size(void **state)
{
    (void)state;
    for (int64_t in = 1; in <= 11; in++) {
        for (int64_t out = 1; out <= 13; out++) {
            tsr_dtype dtype = in % 2 == 0 ? TSR_DTYPE_F32 : TSR_DTYPE_F64;
            tsr_scope scope = tsr_scope_open();
            struct arguments a = {.h = out, .w = 14 - out};
            a.x = reference_normal(dtype, TSR_SHAPE(2, 3, in, 12 - in), 1);
            assert_elements_close(tsr_adaptive_avg_pool2d(a.x, a.h, a.w), TSR_SHAPE(2, 3, a.h, a.w),
                                  pooled_at, &a, dtype == TSR_DTYPE_F64 ? 1e-15 : 1e-6);
            tsr_scope_close(&scope, TSR_NO_TENSORS);
        }
    }
    struct arguments a = {.h = 1, .w = 1};
    a.x = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(8, 32, 14, 14), 1);
    assert_elements_close(tsr_adaptive_avg_pool2d(a.x, 1, 1), TSR_SHAPE(8, 32, 1, 1), pooled_at, &a,
                          1e-6);
}

static void test_adaptive_avg_pool2d__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 4, 5, 6));
    assert_null(tsr_adaptive_avg_pool2d(x, 0, 2));
    assert_failed(TSR_STATUS_SHAPE,
                  "adaptive_avg_pool2d: from 5 x 6 to 0 x 2, expected sizes of 1 or more");
    assert_null(tsr_adaptive_avg_pool2d(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 4, 0, 6)), 1, 1));
    assert_failed(TSR_STATUS_SHAPE, "adaptive_avg_pool2d: from 0 x 6 to 1 x 1");
    assert_null(tsr_adaptive_avg_pool2d(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4, 5, 6)), 1, 1));
    assert_failed(TSR_STATUS_SHAPE, "adaptive_avg_pool2d: x has shape [4, 5, 6]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_adaptive_avg_pool2d__every_size),
        tsr_test(test_adaptive_avg_pool2d__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
