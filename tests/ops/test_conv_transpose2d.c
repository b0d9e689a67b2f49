#include "tests/ops/images.h"

static int64_t size_of(int64_t in, int64_t kernel, const tsr_conv_options *o, int d)
{
    return (in - 1) * o->stride[d] - 2 * o->padding[d] + o->dilation[d] * (kernel - 1) +
           o->output_padding[d] + 1;
}

/* Every place of x spreads over a window of y: what of it reaches ix. */
static double transposed_at(const int64_t *ix, const void *args)
{
    const struct convolution *a = args;
    const tsr_conv_options *o = &a->options;
    int64_t per_group = tsr_tensor_size(a->weight, 1), group = ix[1] / per_group;
    int64_t channels = tsr_tensor_size(a->weight, 0) / o->groups;
    double sum = a->bias != NULL ? tsr_tensor_get(a->bias, ix[1]) : 0.0;
    for (int64_t h = 0; h < tsr_tensor_size(a->x, 2); h++) {
        for (int64_t w = 0; w < tsr_tensor_size(a->x, 3); w++) {
            for (int64_t i = 0; i < tsr_tensor_size(a->weight, 2); i++) {
                for (int64_t j = 0; j < tsr_tensor_size(a->weight, 3); j++) {
                    if (h * o->stride[0] - o->padding[0] + i * o->dilation[0] != ix[2]) continue;
                    if (w * o->stride[1] - o->padding[1] + j * o->dilation[1] != ix[3]) continue;
                    for (int64_t c = group * channels; c < (group + 1) * channels; c++) {
                        sum +=
                            image_get(a->x, ix[0], c, h, w) *
                            reference_get(a->weight, (const int64_t[]){c, ix[1] % per_group, i, j});
                    }
                }
            }
        }
    }
    return sum;
}

static void test_conv_transpose2d__every_option(void **state)
{
    (void)state;
    int n = 0;
    for (int i = 0; i < 768; i++) {
        int64_t stride = 1 + i % 3, padding = i / 3 % 2, dilation = 1 + i / 6 % 2;
        int64_t kh = 1 + i / 12 % 4, kw = 1 + i / 48 % 2, g = 1 + i / 96 % 2;
        int64_t h = i / 192 % 2 == 0 ? 1 : 4, w = 5 - h;
        struct convolution a = {.options = {.stride = {stride, 4 - stride},
                                            .padding = {padding, 1 - padding},
                                            .dilation = {dilation, 3 - dilation},
                                            .output_padding = {stride - 1, 0},
                                            .groups = g}};
        tsr_dtype dtype = i / 384 == 0 ? TSR_DTYPE_F64 : TSR_DTYPE_F32;
        int64_t oh = size_of(h, kh, &a.options, 0), ow = size_of(w, kw, &a.options, 1);
        if (oh < 1 || ow < 1) continue;
        tsr_scope scope = tsr_scope_open();
        a.x = reference_normal(dtype, TSR_SHAPE(2, 2 * g, h, w), 1);
        a.weight = reference_normal(dtype, TSR_SHAPE(2 * g, 3, kh, kw), 2);
        if (i % 2 == 0) a.bias = reference_normal(dtype, TSR_SHAPE(3 * g), 3);
        assert_elements_close(tsr_conv_transpose2d(a.x, a.weight, a.bias, &a.options),
                              TSR_SHAPE(2, 3 * g, oh, ow), transposed_at, &a,
                              dtype == TSR_DTYPE_F64 ? 1e-13 : 1e-5);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        n++;
    }
    assert_true(n > 500);
}

/* <conv2d(x), y> = <x, conv_transpose2d(y)>, also where the columns take several stripes. */
static void test_conv_transpose2d__is_the_transpose_of_conv2d(void **state)
{
    (void)state;
    tsr_conv_options options = {.stride = {2, 1}, .padding = {1, 1}, .output_padding = {1, 0}};
    tsr_tensor *x = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(2, 48, 122, 67), 1);
    tsr_tensor *weight = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(2, 48, 3, 3), 2);
    tsr_tensor *forward = tsr_conv2d(x, weight, NULL, &options);
    tsr_tensor *y = reference_normal(TSR_DTYPE_F64, tsr_tensor_shape(forward), 3);
    tsr_tensor *back = tsr_conv_transpose2d(y, weight, NULL, &options);
    assert_ok();
    assert_true(tsr_shape_equal(tsr_tensor_shape(back), tsr_tensor_shape(x)));
    double left = 0.0, right = 0.0, size = 0.0;
    for (int64_t i = 0; i < tsr_tensor_numel(y); i++) {
        left += tsr_tensor_get(forward, i) * tsr_tensor_get(y, i);
    }
    for (int64_t i = 0; i < tsr_tensor_numel(x); i++) {
        double term = tsr_tensor_get(x, i) * tsr_tensor_get(back, i);
        right += term;
        size += fabs(term);
    }
    assert_true(fabs(left - right) <= 1e-13 * size);
}

static void test_conv_transpose2d__gradients_over_stripes(void **state)
{
    (void)state;
    tsr_conv_options options = {.stride = {2, 2}, .padding = {1, 1}};
    tsr_tensor *x = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(2, 2, 41, 37), 1);
    tsr_tensor *weight = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(2, 48, 4, 3), 2);
    tsr_tensor *all[] = {x, weight, reference_normal(TSR_DTYPE_F64, TSR_SHAPE(48), 3)};
    for (int i = 0; i < 3; i++) tsr_require_grad(all[i], true);
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *y = tsr_conv_transpose2d(x, weight, all[2], &options);
    assert_gradients_agree(tape, y, (tsr_tensors){all, 3}, 1e-12);
    tsr_tape_close(&tape);
}

static void test_conv_transpose2d__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 4, 1, 6));
    tsr_tensor *weight = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4, 3, 1, 2));
    tsr_tensor *other = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3, 4, 1, 2));
    assert_null(tsr_conv_transpose2d(x, other, NULL, NULL));
    assert_failed(TSR_STATUS_SHAPE,
                  "conv_transpose2d: weight has shape [3, 4, 1, 2], expected 4 as its first size");
    assert_null(tsr_conv_transpose2d(x, weight, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4)), NULL));
    assert_failed(TSR_STATUS_SHAPE, "conv_transpose2d: bias has shape [4], expected [3]");
    assert_null(tsr_conv_transpose2d(x, weight, NULL, &(tsr_conv_options){.groups = 3}));
    assert_failed(TSR_STATUS_ARGUMENT, "conv_transpose2d: groups is 3, expected a divisor");
    assert_null(
        tsr_conv_transpose2d(x, weight, NULL, &(tsr_conv_options){.output_padding = {0, 1}}));
    assert_failed(TSR_STATUS_ARGUMENT, "conv_transpose2d: output_padding is [0, 1], expected 0 or "
                                       "more and less than the stride [1, 1]");
    assert_null(tsr_conv_transpose2d(x, weight, NULL, &(tsr_conv_options){.padding = {1, 0}}));
    assert_failed(TSR_STATUS_SHAPE,
                  "conv_transpose2d: x has shape [2, 4, 1, 6], which leaves no output");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_conv_transpose2d__every_option),
        tsr_test(test_conv_transpose2d__is_the_transpose_of_conv2d),
        tsr_test(test_conv_transpose2d__gradients_over_stripes),
        tsr_test(test_conv_transpose2d__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
