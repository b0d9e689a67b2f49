#include "tests/ops/fused.h"

static const double eps = 1e-5;

struct arguments {
    tsr_tensor *x, *weight, *bias;
    int64_t groups;
};

static double normalized(const int64_t *ix, const void *args)
{
    const struct arguments *s = args;
    int64_t b = tsr_tensor_size(s->x, 0), c = tsr_tensor_size(s->x, 1);
    int64_t n = tsr_tensor_numel(s->x) / (b * s->groups);
    /* A group of a sample is one run of n elements. */
    int64_t first = (ix[0] * s->groups + ix[1] / (c / s->groups)) * n;
    double mean = 0.0, variance = 0.0;
    for (int64_t i = 0; i < n; i++) mean += tsr_tensor_get(s->x, first + i) / (double)n;
    for (int64_t i = 0; i < n; i++) {
        variance += pow(tsr_tensor_get(s->x, first + i) - mean, 2.0) / (double)n;
    }
    double y = (reference_get(s->x, ix) - mean) / sqrt(variance + eps);
    if (s->weight != NULL) y *= tsr_tensor_get(s->weight, ix[1]);
    if (s->bias != NULL) y += tsr_tensor_get(s->bias, ix[1]);
    return y;
}

static void run(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    int64_t groups = ((const struct arguments *)user)->groups;
    out[0] = tsr_group_norm(in.at[0], groups, in.at[1], in.at[2], eps);
}

static void check(tsr_shape shape, int64_t groups)
{
    tsr_shape c = TSR_SHAPE(shape.size[1]);
    FUSED_EACH_REAL(dtype)
    {
        for (int which = 0; which < 4; which++) {
            tsr_tensor *x = fused_leaf(dtype, shape, 1);
            tsr_tensor *w = which & 1 ? fused_leaf(dtype, c, 2) : NULL;
            tsr_tensor *b = which & 2 ? fused_leaf(dtype, c, 3) : NULL;
            struct arguments s = {x, w, b, groups};
            tsr_tensor *y = tsr_group_norm(x, groups, w, b, eps);
            assert_elements_close(y, shape, normalized, &s, fused_tolerance(dtype));
            assert_definition(run, &s, TSR_TENSORS(x, w, b), 50.0 * fused_tolerance(dtype));
        }
    }
}

static void test_group_norm__of_every_shape(void **state)
{
    (void)state;
    check(TSR_SHAPE(3, 8), 2);
    check(TSR_SHAPE(2, 6, 5), 3);
    check(TSR_SHAPE(2, 6, 4, 3), 1);
    check(TSR_SHAPE(2, 6, 4, 3), 6);
    check(TSR_SHAPE(3, 32, 13, 11), 8);
}

/* One group and no spatial extent is layer_norm. */
static void test_group_norm__one_group_is_layer_norm(void **state)
{
    (void)state;
    tsr_tensor *x = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(5, 12), 1);
    tsr_tensor *w = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(12), 2);
    tsr_tensor *b = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(12), 3);
    assert_close(tsr_group_norm(x, 1, w, b, eps), tsr_layer_norm(x, w, b, eps), 1e-13);
}

static void test_group_norm__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 6, 4));
    assert_null(tsr_group_norm(x, 4, NULL, NULL, eps));
    assert_failed(TSR_STATUS_ARGUMENT,
                  "group_norm: groups is 4, expected a divisor of 6 (x [2, 6, 4])");
    assert_null(tsr_group_norm(x, 0, NULL, NULL, eps));
    assert_failed(TSR_STATUS_ARGUMENT, "group_norm: groups is 0");
    assert_null(tsr_group_norm(x, 2, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4)), NULL, eps));
    assert_failed(TSR_STATUS_SHAPE, "group_norm: weight has shape [4], expected [6]");
    assert_null(tsr_group_norm(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(6)), 2, NULL, NULL, eps));
    assert_failed(TSR_STATUS_SHAPE, "group_norm: x has shape [6], expected [B, C, ...]");
}

FUSED_MAIN(tsr_test(test_group_norm__of_every_shape),
           tsr_test(test_group_norm__one_group_is_layer_norm), tsr_test(test_group_norm__errors))
