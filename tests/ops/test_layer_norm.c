#include "tests/ops/fused.h"

static const double eps = 1e-6;

struct arguments {
    tsr_tensor *x, *weight, *bias;
};

static double normalized(const int64_t *ix, const void *args)
{
    const struct arguments *s = args;
    int last = tsr_tensor_ndim(s->x) - 1;
    int64_t at[TSR_MAX_DIMS], d = tsr_tensor_size(s->x, -1);
    memcpy(at, ix, sizeof at);
    double mean = 0.0, variance = 0.0;
    for (at[last] = 0; at[last] < d; at[last]++) mean += reference_get(s->x, at) / (double)d;
    for (at[last] = 0; at[last] < d; at[last]++) {
        variance += pow(reference_get(s->x, at) - mean, 2.0) / (double)d;
    }
    double y = (reference_get(s->x, ix) - mean) / sqrt(variance + eps);
    if (s->weight != NULL) y *= tsr_tensor_get(s->weight, ix[last]);
    if (s->bias != NULL) y += tsr_tensor_get(s->bias, ix[last]);
    return y;
}

static void run(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_layer_norm(in.at[0], in.at[1], in.at[2], eps);
}

static void check(tsr_shape shape)
{
    tsr_shape d = TSR_SHAPE(shape.size[shape.ndim - 1]);
    FUSED_EACH_REAL(dtype)
    {
        for (int which = 0; which < 4; which++) {
            tsr_tensor *x = fused_leaf(dtype, shape, 1);
            tsr_tensor *w = which & 1 ? fused_leaf(dtype, d, 2) : NULL;
            tsr_tensor *b = which & 2 ? fused_leaf(dtype, d, 3) : NULL;
            struct arguments s = {x, w, b};
            assert_elements_close(tsr_layer_norm(x, w, b, eps), shape, normalized, &s,
                                  fused_tolerance(dtype));
            if (d.size[0] < 3)
                continue; /* the definition in f32 is of no use on one or two values */
            assert_definition(run, NULL, TSR_TENSORS(x, w, b), 20.0 * fused_tolerance(dtype));
        }
    }
}

static void test_layer_norm__of_every_shape(void **state)
{
    (void)state;
    check(TSR_SHAPE(3, 7));
    check(TSR_SHAPE(5));
    check(TSR_SHAPE(4, 1));
    check(TSR_SHAPE(2, 3, 5, 16));
    check(TSR_SHAPE(17, 193));
    check(TSR_SHAPE(0, 5));
}

/* One pass or two: the same bits, forward and backward. */
static void two_passes(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_cast(tsr_layer_norm(in.at[0], in.at[1], in.at[2], eps), TSR_DTYPE_BF16);
}

static void one_pass(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_layer_norm_cast(in.at[0], in.at[1], in.at[2], eps, TSR_DTYPE_BF16);
}

static void test_layer_norm__of_f32_in_bf16(void **state)
{
    (void)state;
    const tsr_shape shapes[] = {TSR_SHAPE(3, 7), TSR_SHAPE(197, 129), TSR_SHAPE(3, 5000),
                                TSR_SHAPE(0, 5), TSR_SHAPE(3, 0)};
    int before = tsr_threads();
    for (int i = 0; i < (int)(sizeof shapes / sizeof shapes[0]); i++) {
        tsr_shape d = TSR_SHAPE(shapes[i].size[1]);
        tsr_tensor *x = fused_leaf(TSR_DTYPE_F32, shapes[i], 1);
        tsr_tensor *w = fused_leaf(TSR_DTYPE_F32, d, 2), *b = fused_leaf(TSR_DTYPE_F32, d, 3);
        tsr_tensors in = TSR_TENSORS(x, w, b);
        tsr_tensor *y[2], *wanted[FUSED_INPUTS] = {0}, *grads[FUSED_INPUTS] = {0};
        two_passes(in, &y[0], 1, NULL);
        fused_gradients(two_passes, NULL, in, false, wanted);
        for (int threads = 1; threads <= 3; threads++) {
            tsr_threads_set(threads);
            one_pass(in, &y[1], 1, NULL);
            assert_same(y[1], y[0]);
            fused_gradients(one_pass, NULL, in, false, grads);
            for (int g = 0; g < 3; g++) assert_same(grads[g], wanted[g]);
        }
        tsr_threads_set(before);
    }
}

static void test_layer_norm__constant_row_is_the_bias(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_full(TSR_DTYPE_F32, TSR_SHAPE(2, 9), 1000.5);
    tsr_tensor *b = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(9), 1);
    tsr_tensor *w = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(9), 2);
    assert_close(tsr_layer_norm(x, w, b, eps), tsr_expand(b, TSR_SHAPE(2, 9)), 1e-3);
}

/* A mean far above the spread: the variance must not be a difference of large squares. */
static void test_layer_norm__large_mean(void **state)
{
    (void)state;
    float row[64];
    double mean = 0.0, variance = 0.0;
    for (int i = 0; i < 64; i++) {
        row[i] = 10000.0f + (float)(i % 7) * 0.25f;
        mean += (double)row[i] / 64.0;
    }
    for (int i = 0; i < 64; i++) variance += pow((double)row[i] - mean, 2.0) / 64.0;
    tsr_tensor *y = tsr_layer_norm(tsr_from(TSR_DTYPE_F32, TSR_SHAPE(64), row), NULL, NULL, eps);
    for (int i = 0; i < 64; i++) {
        double wanted = ((double)row[i] - mean) / sqrt(variance + eps);
        assert_true(fabs(tsr_tensor_get(y, i) - wanted) < 5e-3);
    }
}

static void test_layer_norm__same_bits_for_any_threads(void **state)
{
    (void)state;
    int before = tsr_threads();
    tsr_tensor *x = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(7, 197, 129), 1);
    tsr_tensor *w = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(129), 2);
    tsr_tensor *b = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(129), 3);
    tsr_tensor *one[FUSED_INPUTS] = {0}, *grads[FUSED_INPUTS] = {0};
    tsr_threads_set(1);
    fused_gradients(run, NULL, TSR_TENSORS(x, w, b), false, one);
    for (int threads = 2; threads <= 4; threads++) {
        tsr_threads_set(threads);
        fused_gradients(run, NULL, TSR_TENSORS(x, w, b), false, grads);
        for (int i = 0; i < 3; i++) assert_same(grads[i], one[i]);
    }
    tsr_threads_set(before);
}

static void test_layer_norm__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 384));
    assert_null(tsr_layer_norm(x, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(768)), NULL, eps));
    assert_failed(TSR_STATUS_SHAPE, "layer_norm: weight has shape [768], expected [384]");
    assert_null(tsr_layer_norm(x, NULL, tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(384)), eps));
    assert_failed(TSR_STATUS_DTYPE, "layer_norm: bias is f64 and x is f32");
    assert_null(tsr_layer_norm(tsr_scalar(TSR_DTYPE_F32, 1.0), NULL, NULL, eps));
    assert_failed(TSR_STATUS_SHAPE, "layer_norm: x is a scalar");
    assert_null(tsr_layer_norm(tsr_zeros(TSR_DTYPE_I32, TSR_SHAPE(3)), NULL, NULL, eps));
    assert_failed(TSR_STATUS_DTYPE, "layer_norm: x is i32, expected f32, f64 or bf16");
    assert_null(tsr_layer_norm_cast(x, NULL, NULL, eps, TSR_DTYPE_F64));
    assert_failed(TSR_STATUS_DTYPE,
                  "layer_norm: f64 of a f32 x, expected its type, or bf16 of f32");
}

FUSED_MAIN(tsr_test(test_layer_norm__of_every_shape), tsr_test(test_layer_norm__of_f32_in_bf16),
           tsr_test(test_layer_norm__constant_row_is_the_bias),
           tsr_test(test_layer_norm__large_mean),
           tsr_test(test_layer_norm__same_bits_for_any_threads), tsr_test(test_layer_norm__errors))
