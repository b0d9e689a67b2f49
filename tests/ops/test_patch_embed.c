#include "tests/ops/images.h"

#include <math.h>

static void check(tsr_dtype dtype, int64_t batch, int64_t h, int64_t w, int64_t p, int64_t q,
                  int64_t width, bool bias, int layout)
{
    struct convolution a = {.options = {.stride = {p, q}, .dilation = {1, 1}, .groups = 1}};
    tsr_tensor *values = reference_normal(dtype, TSR_SHAPE(batch, 3, h, w), 1);
    a.x = reference_empty(dtype, tsr_tensor_shape(values), layout);
    tsr_tensor_copy(a.x, values);
    a.weight = reference_normal(dtype, TSR_SHAPE(width, 3, p, q), 2);
    if (bias) a.bias = reference_normal(dtype, TSR_SHAPE(width), 3);
    /* Sums of 3 p q products of normal numbers have this standard deviation. */
    double size = sqrt(3.0 * (double)(p * q));
    assert_elements_close(tsr_patch_embed(a.x, a.weight, a.bias),
                          TSR_SHAPE(batch, width, h / p, w / q), convolution_at, &a,
                          size * (dtype == TSR_DTYPE_F64 ? 1e-13 : 1e-6));
}

static void test_patch_embed__sizes(void **state)
{
    (void)state;
    for (int i = 0; i < 32; i++) {
        tsr_dtype dtype = i % 2 == 0 ? TSR_DTYPE_F64 : TSR_DTYPE_F32;
        bool bias = i / 2 % 2 == 0;
        int layout = i / 4 % 2 == 0 ? REFERENCE_CONTIGUOUS : REFERENCE_REVERSED;
        int64_t rest = i / 8 % 2, batch = i / 16 % 2 == 0 ? 1 : 3;
        check(dtype, batch, 4 + rest, 6, 2, 2, 5, bias, layout);
        check(dtype, batch, 7, 11 + 2 * rest, 7, 3, 1, bias, layout);
        check(dtype, batch, 3, 5, 1, 1, 2, bias, layout);
    }
    check(TSR_DTYPE_F32, 2, 64, 48, 16, 16, 32, true, REFERENCE_CONTIGUOUS);
    check(TSR_DTYPE_F32, 0, 4, 4, 2, 2, 3, true, REFERENCE_CONTIGUOUS);
}

/* A view of part of an image is read where it lies. */
static void test_patch_embed__crop(void **state)
{
    (void)state;
    struct convolution a = {.options = {.stride = {2, 2}, .dilation = {1, 1}, .groups = 1}};
    tsr_tensor *image = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(2, 3, 9, 10), 1);
    a.x = tsr_slice(tsr_slice(image, 2, 1, 7, 1), 3, 3, 7, 1);
    a.weight = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(4, 3, 2, 2), 2);
    assert_elements_close(tsr_patch_embed(a.x, a.weight, NULL), TSR_SHAPE(2, 4, 3, 2),
                          convolution_at, &a, 1e-13);
}

/* [B, D, H', W'] flattened and transposed to tokens [B, N, D] costs no copy. */
static void test_patch_embed__tokens_are_contiguous(void **state)
{
    (void)state;
    tsr_tensor *x = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(2, 3, 8, 12), 1);
    tsr_tensor *y =
        tsr_patch_embed(x, reference_normal(TSR_DTYPE_F32, TSR_SHAPE(5, 3, 4, 4), 2), NULL);
    tsr_tensor *tokens = tsr_transpose(tsr_reshape(y, TSR_SHAPE(2, 5, 6)), 1, 2);
    assert_ok();
    assert_ptr_equal(tsr_tensor_data(tokens), tsr_tensor_data(y));
    assert_true(tsr_tensor_is_contiguous(tokens));
}

static void test_patch_embed__gradients_agree_with_the_definition(void **state)
{
    (void)state;
    tsr_tensor *all[] = {reference_normal(TSR_DTYPE_F64, TSR_SHAPE(2, 3, 35, 50), 1),
                         reference_normal(TSR_DTYPE_F64, TSR_SHAPE(24, 3, 8, 8), 2),
                         reference_normal(TSR_DTYPE_F64, TSR_SHAPE(24), 3)};
    for (int i = 0; i < 3; i++) tsr_require_grad(all[i], true);
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *y = tsr_patch_embed(all[0], all[1], all[2]);
    assert_gradients_agree(tape, y, (tsr_tensors){all, 3}, 1e-12);
    tsr_tape_close(&tape);
}

static void test_patch_embed__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3, 8, 8));
    tsr_tensor *weight = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(5, 3, 4, 4));
    assert_null(tsr_patch_embed(x, tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(5, 3, 4, 4)), NULL));
    assert_failed(TSR_STATUS_DTYPE, "patch_embed: weight is f64 and x is f32");
    assert_null(tsr_patch_embed(x, weight, tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(5))));
    assert_failed(TSR_STATUS_DTYPE, "patch_embed: bias is f64 and x is f32");
    assert_null(tsr_patch_embed(x, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(5, 1, 4, 4)), NULL));
    assert_failed(TSR_STATUS_SHAPE,
                  "patch_embed: weight has shape [5, 1, 4, 4], expected [D, 3, P, Q]");
    assert_null(tsr_patch_embed(x, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(5, 3, 9, 4)), NULL));
    assert_failed(TSR_STATUS_SHAPE, "no larger than x [2, 3, 8, 8]");
    assert_null(tsr_patch_embed(x, weight, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4))));
    assert_failed(TSR_STATUS_SHAPE, "patch_embed: bias has shape [4], expected [5]");
    assert_null(tsr_patch_embed(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3, 8, 8)), weight, NULL));
    assert_failed(TSR_STATUS_SHAPE, "patch_embed: x has shape [3, 8, 8], expected four");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_patch_embed__sizes),
        tsr_test(test_patch_embed__crop),
        tsr_test(test_patch_embed__tokens_are_contiguous),
        tsr_test(test_patch_embed__gradients_agree_with_the_definition),
        tsr_test(test_patch_embed__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
