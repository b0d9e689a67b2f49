#include "tests/ops/images.h"

struct arguments {
    tsr_tensor *x;
    int64_t kh, kw;
    tsr_conv_options options;
};

static double unfolded_at(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    const tsr_conv_options *o = &a->options;
    int64_t columns =
        window_count(tsr_tensor_size(a->x, 3), a->kw, o->stride[1], o->padding[1], o->dilation[1]);
    int64_t cell = ix[1] % (a->kh * a->kw);
    int64_t h = ix[2] / columns * o->stride[0] - o->padding[0] + cell / a->kw * o->dilation[0];
    int64_t w = ix[2] % columns * o->stride[1] - o->padding[1] + cell % a->kw * o->dilation[1];
    return image_get(a->x, ix[0], ix[1] / (a->kh * a->kw), h, w);
}

static int check(tsr_dtype dtype, tsr_shape shape, int64_t kh, int64_t kw, tsr_conv_options options)
{
    int64_t oh =
        window_count(shape.size[2], kh, options.stride[0], options.padding[0], options.dilation[0]);
    int64_t ow =
        window_count(shape.size[3], kw, options.stride[1], options.padding[1], options.dilation[1]);
    if (oh < 1 || ow < 1) return 0;
    tsr_scope scope = tsr_scope_open();
    struct arguments a = {reference_normal(dtype, shape, 1), kh, kw, options};
    assert_elements(tsr_unfold(a.x, kh, kw, &options),
                    TSR_SHAPE(shape.size[0], shape.size[1] * kh * kw, oh * ow), unfolded_at, &a);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return 1;
}

static void test_unfold__every_option(void **state)
{
    (void)state;
    int n = 0;
    for (int i = 0; i < 1296; i++) {
        int64_t s = 1 + i % 3, p = i / 3 % 3, d = 1 + i / 9 % 2, kh = 1 + i / 18 % 4;
        int64_t kw = 1 + i / 72 % 3, h = i / 216 % 2 == 0 ? 1 : 7, w = i / 432 % 3 * 2 + 1;
        tsr_conv_options options = {
            .stride = {s, 4 - s}, .padding = {p, 2 - p}, .dilation = {d, 3 - d}};
        n += check(i % 2 == 0 ? TSR_DTYPE_F32 : TSR_DTYPE_F64, TSR_SHAPE(2, 3, h, w), kh, kw,
                   options);
    }
    assert_true(n > 600);
    /* Enough for several threads. */
    tsr_conv_options options = {.stride = {1, 2}, .padding = {1, 1}, .dilation = {1, 1}};
    assert_int_equal(check(TSR_DTYPE_F32, TSR_SHAPE(2, 5, 31, 37), 3, 3, options), 1);
}

static void test_unfold__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 4, 5, 6));
    assert_null(tsr_unfold(tsr_zeros(TSR_DTYPE_BF16, TSR_SHAPE(2, 4, 5, 6)), 2, 2, NULL));
    assert_failed(TSR_STATUS_DTYPE, "unfold: x is bf16, expected f32 or f64");
    assert_null(tsr_unfold(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(5, 6)), 2, 2, NULL));
    assert_failed(TSR_STATUS_SHAPE, "unfold: x has shape [5, 6], expected four dimensions");
    assert_null(tsr_unfold(x, 0, 2, NULL));
    assert_failed(TSR_STATUS_ARGUMENT, "unfold: kernel is [0, 2], expected 1 or more");
    assert_null(tsr_unfold(x, 2, 7, NULL));
    assert_failed(TSR_STATUS_SHAPE,
                  "unfold: image is 5 x 6 with padding [0, 0], smaller than a window of 2 x 7");
    assert_null(tsr_unfold(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 4, 0, 6)), 1, 1,
                           &(tsr_conv_options){.padding = {1, 1}}));
    assert_failed(TSR_STATUS_SHAPE, "unfold: image is 0 x 6");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_unfold__every_option),
        tsr_test(test_unfold__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
