#include "tests/ops/images.h"

struct arguments {
    tsr_tensor *x;
    tsr_pool_options options;
};

static double pooled_at(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    const tsr_pool_options *o = &a->options;
    double sum = 0.0;
    int64_t inside = 0;
    for (int64_t i = 0; i < o->kernel[0]; i++) {
        for (int64_t j = 0; j < o->kernel[1]; j++) {
            int64_t h = ix[2] * o->stride[0] - o->padding[0] + i;
            int64_t w = ix[3] * o->stride[1] - o->padding[1] + j;
            inside +=
                h >= 0 && h < tsr_tensor_size(a->x, 2) && w >= 0 && w < tsr_tensor_size(a->x, 3);
            sum += image_get(a->x, ix[0], ix[1], h, w);
        }
    }
    return sum / (double)(o->exclude_padding ? inside : o->kernel[0] * o->kernel[1]);
}

static void test_avg_pool2d__every_option(void **state)
{
    (void)state;
    int n = 0;
    for (int i = 0; i < 1152; i++) {
        int64_t kh = 1 + i % 4, kw = 1 + i / 4 % 3, s = 1 + i / 12 % 3, padded = i / 36 % 2;
        int64_t h = i / 72 % 2 == 0 ? 2 : 7, w = i / 144 % 2 == 0 ? 5 : 8;
        struct arguments a = {.options = {.kernel = {kh, kw},
                                          .stride = {s, 4 - s},
                                          .padding = {padded * (kh / 2), padded * (kw / 2)},
                                          .exclude_padding = i / 576 == 0}};
        tsr_dtype dtype = i / 288 % 2 == 0 ? TSR_DTYPE_F64 : TSR_DTYPE_F32;
        tsr_shape y = {4, {2, 3, 0, 0}};
        y.size[2] = window_count(h, kh, s, a.options.padding[0], 1);
        y.size[3] = window_count(w, kw, 4 - s, a.options.padding[1], 1);
        if (y.size[2] < 1) continue;
        tsr_scope scope = tsr_scope_open();
        a.x = reference_normal(dtype, TSR_SHAPE(2, 3, h, w), 1);
        assert_elements_close(tsr_avg_pool2d(a.x, &a.options), y, pooled_at, &a,
                              dtype == TSR_DTYPE_F64 ? 1e-15 : 1e-6);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        n++;
    }
    assert_true(n > 800);
}

static void test_avg_pool2d__large(void **state)
{
    (void)state;
    struct arguments a = {.options = {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}}};
    a.x = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(3, 7, 61, 59), 1);
    assert_elements_close(tsr_avg_pool2d(a.x, &a.options), TSR_SHAPE(3, 7, 31, 30), pooled_at, &a,
                          1e-6);
}

static void test_avg_pool2d__default_stride(void **state)
{
    (void)state;
    struct arguments a = {.options = {.kernel = {2, 3}, .stride = {2, 3}}};
    a.x = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(1, 2, 5, 6), 1);
    tsr_tensor *y = tsr_avg_pool2d(a.x, &(tsr_pool_options){.kernel = {2, 3}});
    assert_elements_close(y, TSR_SHAPE(1, 2, 2, 2), pooled_at, &a, 1e-15);
}

static void test_avg_pool2d__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 4, 5, 6));
    assert_null(tsr_avg_pool2d(x, NULL));
    assert_failed(TSR_STATUS_ARGUMENT, "avg_pool2d: options is NULL");
    assert_null(tsr_avg_pool2d(x, &(tsr_pool_options){.kernel = {2, 2}, .stride = {-1, 1}}));
    assert_failed(TSR_STATUS_ARGUMENT, "avg_pool2d: stride is [-1, 1], expected 1 or more");
    assert_null(tsr_avg_pool2d(x, &(tsr_pool_options){.kernel = {2, 1}, .padding = {1, 1}}));
    assert_failed(TSR_STATUS_ARGUMENT,
                  "avg_pool2d: padding is [1, 1], expected at most half the kernel [2, 1]");
    assert_null(tsr_avg_pool2d(x, &(tsr_pool_options){.kernel = {2, 7}}));
    assert_failed(TSR_STATUS_SHAPE, "avg_pool2d: image is 5 x 6");
    assert_null(tsr_avg_pool2d(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4, 5, 6)),
                               &(tsr_pool_options){.kernel = {2, 2}}));
    assert_failed(TSR_STATUS_SHAPE, "avg_pool2d: x has shape [4, 5, 6]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_avg_pool2d__every_option),
        tsr_test(test_avg_pool2d__large),
        tsr_test(test_avg_pool2d__default_stride),
        tsr_test(test_avg_pool2d__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
