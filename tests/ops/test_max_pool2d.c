#include "tests/ops/images.h"

struct arguments {
    tsr_tensor *x;
    tsr_pool_options options;
};

static double pooled_at(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    const tsr_pool_options *o = &a->options;
    double most = -INFINITY;
    for (int64_t i = 0; i < o->kernel[0]; i++) {
        for (int64_t j = 0; j < o->kernel[1]; j++) {
            int64_t h = ix[2] * o->stride[0] - o->padding[0] + i;
            int64_t w = ix[3] * o->stride[1] - o->padding[1] + j;
            if (h < 0 || h >= tsr_tensor_size(a->x, 2)) continue;
            if (w < 0 || w >= tsr_tensor_size(a->x, 3)) continue;
            most = fmax(most, image_get(a->x, ix[0], ix[1], h, w));
        }
    }
    return most;
}

static void test_max_pool2d__every_option(void **state)
{
    (void)state;
    int n = 0;
    for (int i = 0; i < 576; i++) {
        int64_t kh = 1 + i % 4, kw = 1 + i / 4 % 3, s = 1 + i / 12 % 3, padded = i / 36 % 2;
        int64_t h = i / 72 % 2 == 0 ? 2 : 7, w = i / 144 % 2 == 0 ? 5 : 8;
        struct arguments a = {.options = {.kernel = {kh, kw},
                                          .stride = {s, 4 - s},
                                          .padding = {padded * (kh / 2), padded * (kw / 2)}}};
        tsr_shape y = {4, {2, 3, 0, 0}};
        y.size[2] = window_count(h, kh, s, a.options.padding[0], 1);
        y.size[3] = window_count(w, kw, 4 - s, a.options.padding[1], 1);
        if (y.size[2] < 1) continue;
        tsr_scope scope = tsr_scope_open();
        a.x = reference_normal(i / 288 == 0 ? TSR_DTYPE_F64 : TSR_DTYPE_F32, TSR_SHAPE(2, 3, h, w),
                               1);
        assert_elements(tsr_max_pool2d(a.x, &a.options), y, pooled_at, &a);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        n++;
    }
    assert_true(n > 400);
}

static void test_max_pool2d__large(void **state)
{
    (void)state;
    struct arguments a = {.options = {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}}};
    a.x = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(3, 7, 61, 59), 1);
    assert_elements(tsr_max_pool2d(a.x, &a.options), TSR_SHAPE(3, 7, 31, 30), pooled_at, &a);
}

/* Zero stride is the kernel. */
static void test_max_pool2d__default_stride(void **state)
{
    (void)state;
    struct arguments a = {.options = {.kernel = {2, 3}, .stride = {2, 3}}};
    a.x = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(1, 2, 5, 6), 1);
    tsr_tensor *y = tsr_max_pool2d(a.x, &(tsr_pool_options){.kernel = {2, 3}});
    assert_elements(y, TSR_SHAPE(1, 2, 2, 2), pooled_at, &a);
}

/* The whole gradient goes to the first of equals; padding never wins, however small x is. */
static void test_max_pool2d__ties_and_padding(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x =
        tsr_require_grad(tsr_full(TSR_DTYPE_F64, TSR_SHAPE(1, 1, 2, 2), -INFINITY), true);
    tsr_tensor *y = tsr_max_pool2d(
        x, &(tsr_pool_options){.kernel = {3, 3}, .stride = {1, 1}, .padding = {1, 1}});
    assert_same(y, tsr_full(TSR_DTYPE_F64, TSR_SHAPE(1, 1, 2, 2), -INFINITY));
    tsr_tensor *v = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(1, 1, 2, 2), (const double[]){1, 2, 4, 8});
    tsr_tensor *wanted =
        tsr_from(TSR_DTYPE_F64, TSR_SHAPE(1, 1, 2, 2), (const double[]){15, 0, 0, 0});
    assert_same(reference_gradient(tape, y, v, x), wanted);
    tsr_tape_close(&tape);
}

static void test_max_pool2d__nan_wins(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_from(TSR_DTYPE_F32, TSR_SHAPE(1, 1, 1, 6),
                             (const float[]){1, NAN, 2, 3, INFINITY, NAN});
    tsr_tensor *y = tsr_max_pool2d(x, &(tsr_pool_options){.kernel = {1, 2}});
    assert_true(isnan(tsr_tensor_get(y, 0)) && isnan(tsr_tensor_get(y, 2)));
    assert_true(tsr_tensor_get(y, 1) == 3.0);
}

static void test_max_pool2d__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 4, 5, 6));
    assert_null(tsr_max_pool2d(x, NULL));
    assert_failed(TSR_STATUS_ARGUMENT, "max_pool2d: options is NULL");
    assert_null(tsr_max_pool2d(x, &(tsr_pool_options){.kernel = {2, 0}}));
    assert_failed(TSR_STATUS_ARGUMENT, "max_pool2d: kernel is [2, 0], expected 1 or more");
    assert_null(tsr_max_pool2d(x, &(tsr_pool_options){.kernel = {2, 3}, .padding = {1, 2}}));
    assert_failed(TSR_STATUS_ARGUMENT,
                  "max_pool2d: padding is [1, 2], expected at most half the kernel [2, 3]");
    assert_null(tsr_max_pool2d(x, &(tsr_pool_options){.kernel = {6, 2}}));
    assert_failed(TSR_STATUS_SHAPE, "max_pool2d: image is 5 x 6");
    assert_null(tsr_max_pool2d(tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(2, 4, 5, 6)),
                               &(tsr_pool_options){.kernel = {2, 2}}));
    assert_failed(TSR_STATUS_DTYPE, "max_pool2d: x is i64, expected f32 or f64");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_max_pool2d__every_option),   tsr_test(test_max_pool2d__large),
        tsr_test(test_max_pool2d__default_stride), tsr_test(test_max_pool2d__ties_and_padding),
        tsr_test(test_max_pool2d__nan_wins),       tsr_test(test_max_pool2d__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
