#include "tests/ops/fused.h"

static const double eps = 1e-5;

struct arguments {
    tsr_tensor *x, *weight, *bias, *mean, *variance; /* mean and variance NULL: of the batch */
};

/* Mean and biased variance of channel c, from flat indices: x [B, C, S]. */
static void statistics(tsr_tensor *x, int64_t c, double *mean, double *variance)
{
    int64_t channels = tsr_tensor_size(x, 1), n = tsr_tensor_numel(x);
    int64_t s = n / (tsr_tensor_size(x, 0) * channels), count = n / channels;
    *mean = *variance = 0.0;
    for (int64_t i = 0; i < n; i++) {
        if (i / s % channels == c) *mean += tsr_tensor_get(x, i) / (double)count;
    }
    for (int64_t i = 0; i < n; i++) {
        if (i / s % channels == c) *variance += pow(tsr_tensor_get(x, i) - *mean, 2.0);
    }
    *variance /= (double)count;
}

static double normalized(const int64_t *ix, const void *args)
{
    const struct arguments *s = args;
    double mean, variance;
    if (s->mean != NULL) {
        mean = tsr_tensor_get(s->mean, ix[1]);
        variance = tsr_tensor_get(s->variance, ix[1]);
    } else {
        statistics(s->x, ix[1], &mean, &variance);
    }
    double y = (reference_get(s->x, ix) - mean) / sqrt(variance + eps);
    if (s->weight != NULL) y *= tsr_tensor_get(s->weight, ix[1]);
    if (s->bias != NULL) y += tsr_tensor_get(s->bias, ix[1]);
    return y;
}

static void run(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const struct arguments *s = user;
    out[0] = tsr_batch_norm(in.at[0], in.at[1], in.at[2], s->mean, s->variance, s->mean == NULL,
                            0.1, eps);
}

static void check(tsr_shape shape)
{
    tsr_shape c = TSR_SHAPE(shape.size[1]);
    FUSED_EACH_REAL(dtype)
    {
        for (int which = 0; which < 8; which++) {
            tsr_tensor *x = fused_leaf(dtype, shape, 1);
            tsr_tensor *w = which & 1 ? fused_leaf(dtype, c, 2) : NULL;
            tsr_tensor *b = which & 2 ? fused_leaf(dtype, c, 3) : NULL;
            struct arguments s = {x, w, b, NULL, NULL};
            if (which & 4) {
                s.mean = reference_normal(dtype, c, 4);
                s.variance = tsr_full(dtype, c, 1.75);
            }
            tsr_tensor *y = NULL;
            run(TSR_TENSORS(x, w, b), &y, 1, &s);
            assert_elements_close(y, shape, normalized, &s, fused_tolerance(dtype));
            assert_definition(run, &s, TSR_TENSORS(x, w, b), 50.0 * fused_tolerance(dtype));
        }
    }
}

static void test_batch_norm__of_every_shape(void **state)
{
    (void)state;
    check(TSR_SHAPE(7, 3));
    check(TSR_SHAPE(2, 3, 5));
    check(TSR_SHAPE(2, 19, 4, 3));
    check(TSR_SHAPE(40, 37));
}

static void test_batch_norm__updates_running_statistics(void **state)
{
    (void)state;
    FUSED_EACH_REAL(dtype)
    {
        tsr_tensor *x = reference_normal(dtype, TSR_SHAPE(3, 2, 5), 1);
        tsr_tensor *mean = tsr_full(dtype, TSR_SHAPE(2), 0.5),
                   *variance = tsr_full(dtype, TSR_SHAPE(2), 2.0);
        tsr_batch_norm(x, NULL, NULL, mean, variance, true, 0.25, eps);
        assert_ok();
        for (int64_t c = 0; c < 2; c++) {
            double m, v;
            statistics(x, c, &m, &v);
            assert_true(fabs(tsr_tensor_get(mean, c) - (0.75 * 0.5 + 0.25 * m)) < 1e-6);
            double unbiased = v * 15.0 / 14.0;
            assert_true(fabs(tsr_tensor_get(variance, c) - (0.75 * 2.0 + 0.25 * unbiased)) < 1e-6);
        }
        /* Evaluation leaves them. */
        double before = tsr_tensor_get(mean, 0);
        tsr_batch_norm(x, NULL, NULL, mean, variance, false, 0.25, eps);
        assert_true(tsr_tensor_get(mean, 0) == before);
    }
}

/* Two passes through one module before backward, as with two views of a batch. */
static void test_batch_norm__twice_before_backward(void **state)
{
    (void)state;
    tsr_tensor *x = fused_leaf(TSR_DTYPE_F64, TSR_SHAPE(5, 3), 1), *g = NULL;
    tsr_tensor *mean = tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(3));
    tsr_tensor *variance = tsr_full(TSR_DTYPE_F64, TSR_SHAPE(3), 1.0);
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *a = tsr_batch_norm(x, NULL, NULL, mean, variance, true, 0.1, eps);
    tsr_tensor *b = tsr_batch_norm(x, NULL, NULL, mean, variance, true, 0.1, eps);
    tsr_tensor *v = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(5, 3), 2);
    tsr_grad(tape, TSR_TENSORS(tsr_add(a, b)), TSR_TENSORS(v), TSR_TENSORS(x), &g, NULL);
    assert_ok();
    assert_non_null(g);
    tsr_tape_close(&tape);
}

static void test_batch_norm__same_bits_for_any_threads(void **state)
{
    (void)state;
    int before = tsr_threads();
    tsr_tensor *x = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(8, 45, 17, 13), 1);
    tsr_tensor *w = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(45), 2);
    struct arguments s = {x, w, NULL, NULL, NULL};
    tsr_tensor *one[FUSED_INPUTS] = {0}, *grads[FUSED_INPUTS] = {0};
    tsr_threads_set(1);
    fused_gradients(run, &s, TSR_TENSORS(x, w, NULL), false, one);
    for (int threads = 2; threads <= 4; threads++) {
        tsr_threads_set(threads);
        fused_gradients(run, &s, TSR_TENSORS(x, w, NULL), false, grads);
        for (int i = 0; i < 2; i++) assert_same(grads[i], one[i]);
    }
    tsr_threads_set(before);
}

static void test_batch_norm__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(1, 3)),
               *c = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3));
    assert_null(tsr_batch_norm(x, NULL, NULL, NULL, NULL, true, 0.1, eps));
    assert_failed(TSR_STATUS_SHAPE, "batch_norm: x [1, 3] has one value a channel");
    assert_null(tsr_batch_norm(x, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4)), NULL, NULL, NULL, false,
                               0.1, eps));
    assert_failed(TSR_STATUS_SHAPE, "batch_norm: weight has shape [4], expected [3]");
    assert_null(tsr_batch_norm(x, NULL, NULL, c, NULL, false, 0.1, eps));
    assert_failed(TSR_STATUS_ARGUMENT, "batch_norm: running_mean and running_var");
    assert_null(tsr_batch_norm(c, NULL, NULL, NULL, NULL, true, 0.1, eps));
    assert_failed(TSR_STATUS_SHAPE, "batch_norm: x has shape [3], expected [B, C, ...]");
}

FUSED_MAIN(tsr_test(test_batch_norm__of_every_shape),
           tsr_test(test_batch_norm__updates_running_statistics),
           tsr_test(test_batch_norm__twice_before_backward),
           tsr_test(test_batch_norm__same_bits_for_any_threads), tsr_test(test_batch_norm__errors))
