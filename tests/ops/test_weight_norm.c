#include "tests/ops/fused.h"

struct arguments {
    tsr_tensor *v, *g;
};

static double normalized(const int64_t *ix, const void *args)
{
    const struct arguments *s = args;
    double sum = 0.0;
    for (int64_t i = 0; i < tsr_tensor_size(s->v, 1); i++) {
        sum += pow(reference_get(s->v, (const int64_t[]){ix[0], i}), 2.0);
    }
    return tsr_tensor_get(s->g, ix[0]) * reference_get(s->v, ix) / sqrt(sum);
}

static void run(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_weight_norm(in.at[0], in.at[1]);
}

static void check(int64_t o, int64_t i)
{
    FUSED_EACH_REAL(dtype)
    {
        tsr_tensor *v = fused_leaf(dtype, TSR_SHAPE(o, i), 1);
        tsr_tensor *g = fused_leaf(dtype, TSR_SHAPE(o, 1), 2);
        struct arguments s = {v, g};
        assert_elements_close(tsr_weight_norm(v, g), TSR_SHAPE(o, i), normalized, &s,
                              fused_tolerance(dtype));
        assert_definition(run, NULL, TSR_TENSORS(v, g), 20.0 * fused_tolerance(dtype));
    }
}

static void test_weight_norm__of_every_shape(void **state)
{
    (void)state;
    check(3, 7);
    check(1, 1);
    check(0, 4);
    check(131, 67);
}

/* A gain of 1 is l2_normalize. */
static void test_weight_norm__unit_gain(void **state)
{
    (void)state;
    tsr_tensor *v = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(5, 9), 1);
    tsr_tensor *g = tsr_full(TSR_DTYPE_F32, TSR_SHAPE(5, 1), 1.0);
    assert_same(tsr_weight_norm(v, g), tsr_l2_normalize(v, 1, 0.0));
}

static void test_weight_norm__errors(void **state)
{
    (void)state;
    tsr_tensor *v = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4, 3));
    assert_null(tsr_weight_norm(v, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4))));
    assert_failed(TSR_STATUS_SHAPE, "weight_norm: g has shape [4], expected [4, 1]");
    assert_null(tsr_weight_norm(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4)), v));
    assert_failed(TSR_STATUS_SHAPE, "weight_norm: v has shape [4], expected [O, I]");
    assert_null(tsr_weight_norm(v, tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(4, 1))));
    assert_failed(TSR_STATUS_DTYPE, "weight_norm: g is f64 and v is f32");
}

FUSED_MAIN(tsr_test(test_weight_norm__of_every_shape), tsr_test(test_weight_norm__unit_gain),
           tsr_test(test_weight_norm__errors))
