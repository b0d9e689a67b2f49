#include "tests/ops/images.h"

struct arguments {
    tsr_tensor *x;
    int64_t kh, kw, oh, ow;
    tsr_conv_options options;
};

/* All cells of all windows that lie at ix. */
static double folded_at(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    const tsr_conv_options *o = &a->options;
    double sum = 0.0;
    for (int64_t cell = 0; cell < a->kh * a->kw; cell++) {
        for (int64_t l = 0; l < a->oh * a->ow; l++) {
            int64_t h = l / a->ow * o->stride[0] - o->padding[0] + cell / a->kw * o->dilation[0];
            int64_t w = l % a->ow * o->stride[1] - o->padding[1] + cell % a->kw * o->dilation[1];
            if (h != ix[2] || w != ix[3]) continue;
            sum += reference_get(a->x, (const int64_t[]){ix[0], ix[1] * a->kh * a->kw + cell, l});
        }
    }
    return sum;
}

static int check(tsr_dtype dtype, tsr_shape y, int64_t kh, int64_t kw, tsr_conv_options options)
{
    struct arguments a = {.kh = kh, .kw = kw, .options = options};
    a.oh = window_count(y.size[2], kh, options.stride[0], options.padding[0], options.dilation[0]);
    a.ow = window_count(y.size[3], kw, options.stride[1], options.padding[1], options.dilation[1]);
    if (a.oh < 1 || a.ow < 1) return 0;
    tsr_scope scope = tsr_scope_open();
    a.x = reference_normal(dtype, TSR_SHAPE(y.size[0], y.size[1] * kh * kw, a.oh * a.ow), 1);
    assert_elements_close(tsr_fold(a.x, y.size[2], y.size[3], kh, kw, &options), y, folded_at, &a,
                          dtype == TSR_DTYPE_F64 ? 1e-14 : 2e-6);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return 1;
}

static void test_fold__every_option(void **state)
{
    (void)state;
    int n = 0;
    for (int i = 0; i < 1296; i++) {
        int64_t s = 1 + i % 3, p = i / 3 % 3, d = 1 + i / 9 % 2, kh = 1 + i / 18 % 4;
        int64_t kw = 1 + i / 72 % 3, h = i / 216 % 2 == 0 ? 1 : 7, w = i / 432 % 3 * 2 + 1;
        tsr_conv_options options = {
            .stride = {s, 4 - s}, .padding = {p, 2 - p}, .dilation = {d, 3 - d}};
        n += check(i % 2 == 0 ? TSR_DTYPE_F32 : TSR_DTYPE_F64, TSR_SHAPE(2, 2, h, w), kh, kw,
                   options);
    }
    assert_true(n > 600);
    tsr_conv_options options = {.stride = {1, 2}, .padding = {1, 1}, .dilation = {1, 1}};
    assert_int_equal(check(TSR_DTYPE_F32, TSR_SHAPE(4, 5, 17, 19), 3, 3, options), 1);
}

static void test_fold__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 12, 20));
    assert_null(tsr_fold(tsr_zeros(TSR_DTYPE_I32, TSR_SHAPE(2, 12, 20)), 5, 6, 2, 2, NULL));
    assert_failed(TSR_STATUS_DTYPE, "fold: x is i32, expected f32 or f64");
    assert_null(tsr_fold(x, 5, 7, 2, 2, NULL));
    assert_failed(TSR_STATUS_SHAPE, "fold: x has shape [2, 12, 20], expected [B, C * 4, 24]");
    assert_null(tsr_fold(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 11, 20)), 5, 6, 2, 2, NULL));
    assert_failed(TSR_STATUS_SHAPE, "fold: x has shape [2, 11, 20], expected [B, C * 4, 20]");
    assert_null(tsr_fold(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(12, 20)), 5, 6, 2, 2, NULL));
    assert_failed(TSR_STATUS_SHAPE, "fold: x has shape [12, 20]");
    assert_null(tsr_fold(x, 0, 6, 2, 2, NULL));
    assert_failed(TSR_STATUS_SHAPE, "fold: image is 0 x 6");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_fold__every_option),
        tsr_test(test_fold__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
