#include "tests/ops/fused.h"

struct arguments {
    tsr_tensor *x;
    int dim;
    double eps;
};

static double normalized(const int64_t *ix, const void *args)
{
    const struct arguments *s = args;
    int64_t at[TSR_MAX_DIMS];
    memcpy(at, ix, sizeof at);
    double sum = 0.0;
    for (at[s->dim] = 0; at[s->dim] < tsr_tensor_size(s->x, s->dim); at[s->dim]++) {
        sum += pow(reference_get(s->x, at), 2.0);
    }
    return reference_get(s->x, ix) / fmax(sqrt(sum), s->eps);
}

static void run(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const struct arguments *s = user;
    out[0] = tsr_l2_normalize(in.at[0], s->dim, s->eps);
}

static void check(tsr_shape shape, double eps)
{
    FUSED_EACH_REAL(dtype)
    {
        for (int dim = 0; dim < shape.ndim; dim++) {
            tsr_tensor *x = fused_leaf(dtype, shape, 1);
            struct arguments s = {x, dim, eps};
            assert_elements_close(tsr_l2_normalize(x, dim, eps), shape, normalized, &s,
                                  fused_tolerance(dtype));
            assert_definition(run, &s, TSR_TENSORS(x), 10.0 * fused_tolerance(dtype));
        }
    }
}

static void test_l2_normalize__over_every_dimension(void **state)
{
    (void)state;
    check(TSR_SHAPE(3, 7), 1e-12);
    check(TSR_SHAPE(2, 5, 3), 1e-6);
    check(TSR_SHAPE(5), 1e-12);
    check(TSR_SHAPE(0, 4), 1e-12);
    check(TSR_SHAPE(3, 4), 2.0); /* some norms below, some above */
    check(TSR_SHAPE(67, 129), 1e-12);
}

static void test_l2_normalize__zero_stays_zero(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_require_grad(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3)), true);
    struct arguments s = {x, 1, 0.5};
    assert_same(tsr_detach(tsr_l2_normalize(x, 1, 0.5)), tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3)));
    tsr_tensor *g[FUSED_INPUTS] = {0};
    fused_gradients(run, &s, TSR_TENSORS(x), false, g);
    tsr_tensor *v = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(2, 3), 77);
    assert_close(g[0], tsr_affine(v, 2.0, 0.0), 1e-6);
}

static void test_l2_normalize__errors(void **state)
{
    (void)state;
    assert_null(tsr_l2_normalize(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3)), 2, 1e-12));
    assert_failed(TSR_STATUS_ARGUMENT, "l2_normalize: dim is 2, expected -2 to 1");
    assert_null(tsr_l2_normalize(tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(2, 3)), 1, 1e-12));
    assert_failed(TSR_STATUS_DTYPE, "l2_normalize: x is i64, expected f32, f64 or bf16");
}

FUSED_MAIN(tsr_test(test_l2_normalize__over_every_dimension),
           tsr_test(test_l2_normalize__zero_stays_zero), tsr_test(test_l2_normalize__errors))
