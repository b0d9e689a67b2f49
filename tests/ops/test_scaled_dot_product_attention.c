#include "tests/ops/fused.h"

/* q [B, H, M, D], k [B, H, N, D], v [B, H, N, E], bias stretched to [B, H, M, N]. */
struct arguments {
    tsr_tensor *q, *k, *v, *bias;
    double scale;
};

static double weight(const struct arguments *s, const int64_t *ix, int64_t n, double most,
                     double *score)
{
    double dot = 0.0;
    for (int64_t d = 0; d < tsr_tensor_size(s->q, 3); d++) {
        dot += reference_get(s->q, (const int64_t[]){ix[0], ix[1], ix[2], d}) *
               reference_get(s->k, (const int64_t[]){ix[0], ix[1], n, d});
    }
    *score = dot * s->scale;
    if (s->bias != NULL) *score += reference_get(s->bias, (const int64_t[]){ix[1], ix[2], n});
    return exp(*score - most);
}

static double attended(const int64_t *ix, const void *args)
{
    const struct arguments *s = args;
    double most = -INFINITY, sum = 0.0, product = 0.0, score;
    int64_t n = tsr_tensor_size(s->k, 2);
    for (int64_t j = 0; j < n; j++) {
        weight(s, ix, j, 0.0, &score);
        most = fmax(most, score);
    }
    for (int64_t j = 0; j < n; j++) {
        double w = weight(s, ix, j, most, &score);
        sum += w;
        product += w * reference_get(s->v, (const int64_t[]){ix[0], ix[1], j, ix[3]});
    }
    return product / sum;
}

static double attention_weight(const int64_t *ix, const void *args)
{
    const struct arguments *s = args;
    double sum = 0.0, score;
    for (int64_t j = 0; j < tsr_tensor_size(s->k, 2); j++) sum += weight(s, ix, j, 0.0, &score);
    return weight(s, ix, ix[3], 0.0, &score) / sum;
}

/* [b, t, h, d] in memory, seen as [b, h, t, d]: what a linear layer leaves of heads. */
static tsr_tensor *head_view(tsr_dtype dtype, int64_t b, int64_t h, int64_t t, int64_t d,
                             uint64_t seed)
{
    tsr_tensor *base = reference_normal(dtype, TSR_SHAPE(b, t, h, d), seed);
    tsr_tensor *view =
        tsr_tensor_view(base, TSR_SHAPE(b, h, t, d), (const int64_t[]){t * h * d, d, h * d, 1}, 0);
    return tsr_require_grad(view, true);
}

static void run(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    out[0] = tsr_scaled_dot_product_attention(in.at[0], in.at[1], in.at[2], in.at[3], user, NULL);
}

static void check(int64_t b, int64_t h, int64_t m, int64_t n, int64_t d, int64_t e, bool biased,
                  double scale)
{
    FUSED_EACH_REAL(dtype)
    {
        tsr_tensor *q = head_view(dtype, b, h, m, d, 1), *k = head_view(dtype, b, h, n, d, 2);
        tsr_tensor *v = head_view(dtype, b, h, n, e, 3);
        tsr_tensor *bias = biased ? fused_leaf(dtype, TSR_SHAPE(h, m, n), 4) : NULL;
        tsr_attention_options options = {.scale = scale};
        struct arguments s = {q, k, v, bias, scale != 0.0 ? scale : 1.0 / sqrt((double)d)};
        tsr_tensor *weights = NULL;
        tsr_tensor *y = tsr_scaled_dot_product_attention(q, k, v, bias, &options, &weights);
        assert_elements_close(y, TSR_SHAPE(b, h, m, e), attended, &s, fused_tolerance(dtype));
        assert_elements_close(weights, TSR_SHAPE(b, h, m, n), attention_weight, &s,
                              fused_tolerance(dtype));
        assert_false(tsr_requires_grad(weights));
        assert_definition(run, &options, TSR_TENSORS(q, k, v, bias), 20.0 * fused_tolerance(dtype));
    }
}

static void test_scaled_dot_product_attention__of_every_shape(void **state)
{
    (void)state;
    check(1, 1, 1, 1, 1, 1, false, 0.0);
    check(2, 3, 5, 7, 4, 6, false, 0.0);
    check(2, 3, 5, 7, 4, 6, true, 0.25);
    check(1, 2, 37, 41, 8, 8, true, 0.0);
    check(2, 2, 1, 17, 16, 16, false, 0.0);
}

/* Enough columns that rows of q are worked on in several blocks. */
static void test_scaled_dot_product_attention__in_blocks(void **state)
{
    (void)state;
    tsr_tensor *q = head_view(TSR_DTYPE_F64, 1, 1, 70, 4, 1);
    tsr_tensor *k = head_view(TSR_DTYPE_F64, 1, 1, 3000, 4, 2);
    tsr_tensor *v = head_view(TSR_DTYPE_F64, 1, 1, 3000, 2, 3);
    tsr_tensor *bias = fused_leaf(TSR_DTYPE_F64, TSR_SHAPE(1, 70, 3000), 4);
    struct arguments s = {q, k, v, bias, 0.5};
    assert_elements_close(tsr_scaled_dot_product_attention(q, k, v, bias, NULL, NULL),
                          TSR_SHAPE(1, 1, 70, 2), attended, &s, 1e-12);
    assert_definition(run, NULL, TSR_TENSORS(q, k, v, bias), 1e-11);
}

static void test_scaled_dot_product_attention__mask(void **state)
{
    (void)state;
    int64_t m = 4, n = 6;
    tsr_tensor *q = head_view(TSR_DTYPE_F32, 1, 2, m, 8, 1),
               *k = head_view(TSR_DTYPE_F32, 1, 2, n, 8, 2);
    tsr_tensor *v = head_view(TSR_DTYPE_F32, 1, 2, n, 8, 3), *weights = NULL;
    tsr_tensor *mask = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(n));
    ((float *)tsr_tensor_data_mut(mask))[1] = -INFINITY;
    ((float *)tsr_tensor_data_mut(mask))[5] = -INFINITY;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *y = tsr_scaled_dot_product_attention(q, k, v, mask, NULL, &weights), *g[2];
    tsr_tensor *ones = tsr_full(TSR_DTYPE_F32, tsr_tensor_shape(y), 1.0);
    tsr_grad(tape, TSR_TENSORS(y), TSR_TENSORS(ones), TSR_TENSORS(k, v), g, NULL);
    assert_ok();
    for (int64_t i = 0; i < tsr_tensor_numel(weights); i++) {
        if (i % n == 1 || i % n == 5) assert_true(tsr_tensor_get(weights, i) == 0.0);
    }
    /* What is masked gets no gradient. */
    for (int64_t h = 0; h < 2; h++) {
        for (int64_t d = 0; d < 8; d++) {
            for (int i = 0; i < 2; i++) {
                assert_true(reference_get(g[i], (const int64_t[]){0, h, 1, d}) == 0.0);
                assert_true(reference_get(g[i], (const int64_t[]){0, h, 5, d}) == 0.0);
                assert_true(isfinite(reference_get(g[i], (const int64_t[]){0, h, 0, d})));
            }
        }
    }
    tsr_tape_close(&tape);
}

/* Dropout drops what tsr_dropout drops of the weights. */
static void test_scaled_dot_product_attention__dropout(void **state)
{
    (void)state;
    tsr_tensor *q = head_view(TSR_DTYPE_F64, 2, 3, 9, 4, 1),
               *k = head_view(TSR_DTYPE_F64, 2, 3, 11, 4, 2);
    tsr_tensor *v = head_view(TSR_DTYPE_F64, 2, 3, 11, 5, 3), *weights = NULL;
    tsr_attention_options options = {.dropout = 0.4, .rng = tsr_rng_make(3, 1, 4, 1)};
    tsr_tensor *y = tsr_scaled_dot_product_attention(q, k, v, NULL, &options, &weights);
    tsr_tensor *dropped = tsr_dropout(weights, options.dropout, options.rng);
    assert_close(y, tsr_matmul(dropped, v), 1e-12);
    double zeros = 0.0;
    for (int64_t i = 0; i < tsr_tensor_numel(dropped); i++)
        zeros += tsr_tensor_get(dropped, i) == 0.0;
    assert_true(zeros > 0.2 * (double)tsr_tensor_numel(dropped));
    assert_definition(run, &options, TSR_TENSORS(q, k, v, NULL), 1e-11);
}

/* Heads that were split off by a permuted view come back without a copy. */
static void test_scaled_dot_product_attention__keeps_the_layout(void **state)
{
    (void)state;
    tsr_tensor *q = head_view(TSR_DTYPE_F32, 2, 3, 5, 4, 1);
    tsr_tensor *y = tsr_scaled_dot_product_attention(q, q, q, NULL, NULL, NULL);
    tsr_tensor *joined = tsr_permute(y, (const int[]){0, 2, 1, 3});
    assert_true(tsr_tensor_is_contiguous(joined));
}

static void test_scaled_dot_product_attention__same_bits_for_any_threads(void **state)
{
    (void)state;
    int before = tsr_threads();
    tsr_tensor *q = head_view(TSR_DTYPE_F32, 2, 3, 101, 16, 1);
    tsr_tensor *k = head_view(TSR_DTYPE_F32, 2, 3, 97, 16, 2);
    tsr_tensor *v = head_view(TSR_DTYPE_F32, 2, 3, 97, 16, 3);
    tsr_tensor *bias = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(1, 97), 4);
    tsr_tensor *one[FUSED_INPUTS] = {0}, *grads[FUSED_INPUTS] = {0};
    tsr_threads_set(1);
    fused_gradients(run, NULL, TSR_TENSORS(q, k, v, bias), false, one);
    for (int threads = 2; threads <= 4; threads++) {
        tsr_threads_set(threads);
        fused_gradients(run, NULL, TSR_TENSORS(q, k, v, bias), false, grads);
        for (int i = 0; i < 4; i++) assert_same(grads[i], one[i]);
    }
    tsr_threads_set(before);
}

/* For backward, only two numbers a row of scores. */
static void test_scaled_dot_product_attention__keeps_no_scores(void **state)
{
    (void)state;
    int64_t n = 1024;
    tsr_tensor *q = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(n, 8), 1);
    tsr_tape *tape = tsr_tape_open();
    size_t before = tsr_pool_stats_get().in_use;
    tsr_tensor *y = tsr_scaled_dot_product_attention(q, q, q, NULL, NULL, NULL);
    size_t kept = tsr_pool_stats_get().in_use - before;
    assert_ok();
    assert_non_null(y);
    assert_true(kept < (size_t)n * (size_t)n * sizeof(float) / 4);
    tsr_tape_close(&tape);
}

static void test_scaled_dot_product_attention__errors(void **state)
{
    (void)state;
    tsr_tensor *q = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 5, 4)), *other;
    other = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 5, 3));
    assert_null(tsr_scaled_dot_product_attention(q, other, q, NULL, NULL, NULL));
    assert_failed(TSR_STATUS_SHAPE,
                  "scaled_dot_product_attention: k has shape [2, 5, 3], expected [2, 5, 4]");
    other = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 6, 4));
    assert_null(tsr_scaled_dot_product_attention(q, q, other, NULL, NULL, NULL));
    assert_failed(TSR_STATUS_SHAPE, "v has shape [2, 6, 4], expected [2, 5, 4]");
    other = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3, 5, 5));
    assert_null(tsr_scaled_dot_product_attention(q, q, q, other, NULL, NULL));
    assert_failed(TSR_STATUS_SHAPE,
                  "bias has shape [3, 5, 5], which does not stretch to [2, 5, 5]");
    other = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4));
    assert_null(tsr_scaled_dot_product_attention(other, other, other, NULL, NULL, NULL));
    assert_failed(TSR_STATUS_SHAPE, "q has shape [4], expected [..., M, D]");
    tsr_tensor *weights = q;
    assert_null(tsr_scaled_dot_product_attention(
        q, q, q, NULL, &(tsr_attention_options){.dropout = 1.0}, &weights));
    assert_failed(TSR_STATUS_ARGUMENT, "dropout is 1, expected 0 to below 1");
    assert_ptr_equal(weights, q);
    other = tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(2, 5, 4));
    assert_null(tsr_scaled_dot_product_attention(q, q, other, NULL, NULL, NULL));
    assert_failed(TSR_STATUS_DTYPE, "v is f64 and q is f32");
}

FUSED_MAIN(tsr_test(test_scaled_dot_product_attention__of_every_shape),
           tsr_test(test_scaled_dot_product_attention__in_blocks),
           tsr_test(test_scaled_dot_product_attention__mask),
           tsr_test(test_scaled_dot_product_attention__dropout),
           tsr_test(test_scaled_dot_product_attention__keeps_the_layout),
           tsr_test(test_scaled_dot_product_attention__same_bits_for_any_threads),
           tsr_test(test_scaled_dot_product_attention__keeps_no_scores),
           tsr_test(test_scaled_dot_product_attention__errors))
