#include "tests/ops/fused.h"

struct arguments {
    tsr_tensor *x, *target;
};

static double loss(const int64_t *ix, const void *args)
{
    const struct arguments *s = args;
    int last = tsr_tensor_ndim(s->x) - 1;
    int64_t at[TSR_MAX_DIMS] = {0}, n = tsr_tensor_size(s->x, -1);
    for (int d = 0; d < last; d++) at[d] = ix[d];
    double sum = 0.0, total = 0.0;
    for (at[last] = 0; at[last] < n; at[last]++) sum += exp(reference_get(s->x, at));
    for (at[last] = 0; at[last] < n; at[last]++) {
        total += reference_get(s->target, at) * (log(sum) - reference_get(s->x, at));
    }
    return total;
}

static void run(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_cross_entropy_soft(in.at[0], in.at[1]);
}

static void check(tsr_shape shape)
{
    tsr_shape rows = shape;
    rows.ndim--;
    FUSED_EACH_REAL(dtype)
    {
        tsr_tensor *x = fused_leaf(dtype, shape, 1);
        tsr_tensor *target = tsr_detach(tsr_softmax(reference_normal(dtype, shape, 2), -1));
        tsr_require_grad(target, true);
        struct arguments s = {x, target};
        assert_elements_close(tsr_cross_entropy_soft(x, target), rows, loss, &s,
                              fused_tolerance(dtype));
        assert_definition(run, NULL, TSR_TENSORS(x, target), fused_tolerance(dtype));
    }
}

static void test_cross_entropy_soft__of_every_shape(void **state)
{
    (void)state;
    check(TSR_SHAPE(5, 7));
    check(TSR_SHAPE(2, 3, 4));
    check(TSR_SHAPE(9));
    check(TSR_SHAPE(4, 1));
    check(TSR_SHAPE(0, 3));
    check(TSR_SHAPE(33, 2053));
}

/* A one-hot target is cross_entropy. */
static void test_cross_entropy_soft__one_hot(void **state)
{
    (void)state;
    tsr_tensor *x = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(6, 5), 1);
    tsr_tensor *index = reference_indices(TSR_SHAPE(6), 5, 2);
    assert_close(tsr_cross_entropy_soft(x, tsr_one_hot(index, 5, TSR_DTYPE_F64)),
                 tsr_cross_entropy(x, index, -100), 1e-12);
}

static void test_cross_entropy_soft__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_null(tsr_cross_entropy_soft(x, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3))));
    assert_failed(TSR_STATUS_SHAPE,
                  "cross_entropy_soft: target has shape [3], expected [2, 3] as logits");
    assert_null(tsr_cross_entropy_soft(x, tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(2, 3))));
    assert_failed(TSR_STATUS_DTYPE, "cross_entropy_soft: target is i64 and logits is f32");
    tsr_tensor *scalar = tsr_scalar(TSR_DTYPE_F32, 1.0);
    assert_null(tsr_cross_entropy_soft(scalar, scalar));
    assert_failed(TSR_STATUS_SHAPE, "cross_entropy_soft: logits is a scalar");
}

FUSED_MAIN(tsr_test(test_cross_entropy_soft__of_every_shape),
           tsr_test(test_cross_entropy_soft__one_hot), tsr_test(test_cross_entropy_soft__errors))
