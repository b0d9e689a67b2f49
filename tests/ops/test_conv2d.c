#include "tests/ops/images.h"

/* One call against the sum over the windows; skipped where no window fits. */
static int check(tsr_dtype dtype, int64_t h, int64_t w, int64_t kh, int64_t kw,
                 tsr_conv_options options, bool bias)
{
    struct convolution a = {.options = options};
    int64_t g = options.groups;
    tsr_shape y = {4, {2, 3 * g, 0, 0}};
    y.size[2] = window_count(h, kh, options.stride[0], options.padding[0], options.dilation[0]);
    y.size[3] = window_count(w, kw, options.stride[1], options.padding[1], options.dilation[1]);
    if (y.size[2] < 1 || y.size[3] < 1) return 0;
    tsr_scope scope = tsr_scope_open();
    a.x = reference_normal(dtype, TSR_SHAPE(2, 2 * g, h, w), 1);
    a.weight = reference_normal(dtype, TSR_SHAPE(3 * g, 2, kh, kw), 2);
    if (bias) a.bias = reference_normal(dtype, TSR_SHAPE(3 * g), 3);
    assert_elements_close(tsr_conv2d(a.x, a.weight, a.bias, &options), y, convolution_at, &a,
                          dtype == TSR_DTYPE_F64 ? 1e-13 : 1e-5);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return 1;
}

static void test_conv2d__every_option(void **state)
{
    (void)state;
    int n = 0;
    for (int i = 0; i < 1024; i++) {
        int64_t stride = 1 + i % 2, padding = i / 2 % 2, dilation = 1 + i / 4 % 2;
        int64_t kh = 1 + i / 8 % 4, kw = 1 + i / 32 % 2, groups = 1 + i / 64 % 2;
        int64_t h = i / 128 % 2 == 0 ? 1 : 7, w = i / 256 % 2 == 0 ? 3 : 6;
        tsr_conv_options options = {.stride = {stride, 3 - stride},
                                    .padding = {2 * padding, 1 - padding},
                                    .dilation = {dilation, 3 - dilation},
                                    .groups = groups};
        n += check(i / 512 == 0 ? TSR_DTYPE_F64 : TSR_DTYPE_F32, h, w, kh, kw, options, i % 3 == 0);
    }
    assert_true(n > 500);
}

static const tsr_conv_options plain = {.stride = {1, 1}, .dilation = {1, 1}, .groups = 1};

static void test_conv2d__zero_options_are_defaults(void **state)
{
    (void)state;
    struct convolution a = {.options = plain};
    a.x = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(1, 2, 4, 5), 1);
    a.weight = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(3, 2, 2, 3), 2);
    tsr_shape y = TSR_SHAPE(1, 3, 3, 3);
    assert_elements_close(tsr_conv2d(a.x, a.weight, NULL, NULL), y, convolution_at, &a, 1e-13);
    assert_elements_close(tsr_conv2d(a.x, a.weight, NULL, &(tsr_conv_options){0}), y,
                          convolution_at, &a, 1e-13);
}

/* Columns of more than one stripe, and more work than one thread takes alone. */
static void large(struct convolution *a, tsr_dtype dtype, int64_t batch)
{
    a->options = plain;
    a->options.padding[0] = a->options.padding[1] = 1;
    a->x = reference_normal(dtype, TSR_SHAPE(batch, 48, 61, 67), 1);
    a->weight = reference_normal(dtype, TSR_SHAPE(2, 48, 3, 3), 2);
    a->bias = reference_normal(dtype, TSR_SHAPE(2), 3);
}

static void test_conv2d__stripes(void **state)
{
    (void)state;
    struct convolution a;
    large(&a, TSR_DTYPE_F64, 1);
    tsr_tensor *y = tsr_conv2d(a.x, a.weight, a.bias, &a.options);
    assert_elements_close(y, TSR_SHAPE(1, 2, 61, 67), convolution_at, &a, 1e-12);
}

static void test_conv2d__gradients_over_stripes(void **state)
{
    (void)state;
    struct convolution a;
    large(&a, TSR_DTYPE_F64, 2);
    tsr_tensor *all[] = {a.x, a.weight, a.bias};
    for (int i = 0; i < 3; i++) tsr_require_grad(all[i], true);
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *y = tsr_conv2d(a.x, a.weight, a.bias, &a.options);
    assert_gradients_agree(tape, y, (tsr_tensors){all, 3}, 1e-12);
    tsr_tape_close(&tape);
}

static void test_conv2d__same_bits_at_any_thread_count(void **state)
{
    (void)state;
    int before = tsr_threads();
    for (int64_t batch = 1; batch <= 3; batch++) {
        struct convolution a;
        large(&a, TSR_DTYPE_F32, batch);
        tsr_tensor *all[] = {a.x, a.weight, a.bias}, *first[4] = {0};
        for (int i = 0; i < 3; i++) tsr_require_grad(all[i], true);
        for (int threads = 1; threads <= 4; threads++) {
            tsr_threads_set(threads);
            tsr_tape *tape = tsr_tape_open();
            tsr_tensor *y[4] = {tsr_conv2d(a.x, a.weight, a.bias, &a.options)};
            tsr_tensor *v = reference_normal(TSR_DTYPE_F32, tsr_tensor_shape(y[0]), 4);
            tsr_grad(tape, TSR_TENSORS(y[0]), TSR_TENSORS(v), (tsr_tensors){all, 3}, y + 1, NULL);
            assert_ok();
            for (int i = 0; i < 4; i++) {
                if (threads == 1) first[i] = y[i];
                assert_same(y[i], first[i]);
            }
            tsr_tape_close(&tape);
        }
    }
    tsr_threads_set(before);
}

static void test_conv2d__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 4, 5, 6));
    tsr_tensor *weight = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(6, 4, 3, 3));
    assert_null(tsr_conv2d(tsr_zeros(TSR_DTYPE_U8, TSR_SHAPE(2, 4, 5, 6)), weight, NULL, NULL));
    assert_failed(TSR_STATUS_DTYPE, "conv2d: x is u8, expected f32 or f64");
    assert_null(tsr_conv2d(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4, 5, 6)), weight, NULL, NULL));
    assert_failed(TSR_STATUS_SHAPE, "conv2d: x has shape [4, 5, 6], expected four dimensions");
    assert_null(tsr_conv2d(x, tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(6, 4, 3, 3)), NULL, NULL));
    assert_failed(TSR_STATUS_DTYPE, "conv2d: weight is f64 and x is f32");
    assert_null(tsr_conv2d(x, weight, tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(6)), NULL));
    assert_failed(TSR_STATUS_DTYPE, "conv2d: bias is f64 and x is f32");
    assert_null(tsr_conv2d(x, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(6, 3, 3, 3)), NULL, NULL));
    assert_failed(TSR_STATUS_SHAPE,
                  "conv2d: weight has shape [6, 3, 3, 3], expected 4 as its second size");
    assert_null(tsr_conv2d(x, weight, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4)), NULL));
    assert_failed(TSR_STATUS_SHAPE, "conv2d: bias has shape [4], expected [6]");
    assert_null(tsr_conv2d(x, weight, NULL, &(tsr_conv_options){.groups = 4}));
    assert_failed(TSR_STATUS_ARGUMENT, "conv2d: groups is 4, expected a divisor");
    assert_null(tsr_conv2d(x, weight, NULL, &(tsr_conv_options){.groups = -1}));
    assert_failed(TSR_STATUS_ARGUMENT, "conv2d: groups is -1");
    assert_null(tsr_conv2d(x, weight, NULL, &(tsr_conv_options){.stride = {1, -2}}));
    assert_failed(TSR_STATUS_ARGUMENT, "conv2d: stride is [1, -2], expected 1 or more");
    assert_null(tsr_conv2d(x, weight, NULL, &(tsr_conv_options){.padding = {-1, 0}}));
    assert_failed(TSR_STATUS_ARGUMENT, "conv2d: padding is [-1, 0], expected 0 or more");
    assert_null(tsr_conv2d(x, weight, NULL, &(tsr_conv_options){.dilation = {INT64_MAX, 1}}));
    assert_failed(TSR_STATUS_ARGUMENT, "conv2d: dilation is [");
    assert_null(tsr_conv2d(x, weight, NULL, &(tsr_conv_options){.dilation = {3, 1}}));
    assert_failed(TSR_STATUS_SHAPE,
                  "conv2d: image is 5 x 6 with padding [0, 0], smaller than a window of 7 x 3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_conv2d__every_option),
        tsr_test(test_conv2d__zero_options_are_defaults),
        tsr_test(test_conv2d__stripes),
        tsr_test(test_conv2d__gradients_over_stripes),
        tsr_test(test_conv2d__same_bits_at_any_thread_count),
        tsr_test(test_conv2d__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
