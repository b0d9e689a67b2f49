#include "tests/ops/fused.h"

struct arguments {
    tsr_tensor *x, *weight, *bias;
};

static double affine(const int64_t *ix, const void *args)
{
    const struct arguments *s = args;
    int last = tsr_tensor_ndim(s->x) - 1;
    int64_t at[TSR_MAX_DIMS];
    memcpy(at, ix, sizeof at);
    double sum = s->bias != NULL ? tsr_tensor_get(s->bias, ix[last]) : 0.0;
    for (int64_t i = 0; i < tsr_tensor_size(s->x, -1); i++) {
        at[last] = i;
        sum += reference_get(s->x, at) * reference_get(s->weight, (const int64_t[]){ix[last], i});
    }
    return sum;
}

static void run(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_linear(in.at[0], in.at[1], in.at[2]);
}

static void check(tsr_shape shape, int64_t outputs, bool biased)
{
    int64_t inputs = shape.size[shape.ndim - 1];
    FUSED_EACH_REAL(dtype)
    {
        for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
            tsr_tensor *x = reference_empty(dtype, shape, layout);
            tsr_tensor *w = reference_empty(dtype, TSR_SHAPE(outputs, inputs), layout);
            tsr_tensor_copy(x, reference_normal(dtype, shape, 1));
            tsr_tensor_copy(w, reference_normal(dtype, tsr_tensor_shape(w), 2));
            tsr_tensor *b = biased ? fused_leaf(dtype, TSR_SHAPE(outputs), 3) : NULL;
            tsr_require_grad(x, true);
            tsr_require_grad(w, true);
            struct arguments s = {x, w, b};
            tsr_shape wanted = shape;
            wanted.size[wanted.ndim - 1] = outputs;
            assert_elements_close(tsr_linear(x, w, b), wanted, affine, &s, fused_tolerance(dtype));
            assert_definition(run, NULL, TSR_TENSORS(x, w, b), 10.0 * fused_tolerance(dtype));
        }
    }
}

static void test_linear__of_every_shape(void **state)
{
    (void)state;
    check(TSR_SHAPE(3, 5), 4, true);
    check(TSR_SHAPE(3, 5), 4, false);
    check(TSR_SHAPE(7), 3, true);
    check(TSR_SHAPE(2, 3, 4, 5), 6, true);
    check(TSR_SHAPE(1, 1), 1, true);
    check(TSR_SHAPE(211, 97), 193, true);
}

static void test_linear__sizes_of_nothing(void **state)
{
    (void)state;
    check(TSR_SHAPE(0, 5), 4, true);
    check(TSR_SHAPE(3, 5), 0, true);
    /* No inputs: the bias is what is left. */
    tsr_tensor *bias = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(4), 1);
    tsr_tensor *y = tsr_linear(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3, 0)),
                               tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4, 0)), bias);
    assert_same(y, tsr_contiguous(tsr_expand(bias, TSR_SHAPE(3, 4))));
}

static void test_linear__same_bits_for_any_threads(void **state)
{
    (void)state;
    int before = tsr_threads();
    tsr_tensor *x = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(4, 301, 67), 1);
    tsr_tensor *w = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(131, 67), 2);
    tsr_tensor *b = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(131), 3);
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

static void test_linear__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(64, 197, 384));
    tsr_tensor *w = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(10, 384));
    assert_null(tsr_linear(x, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(10, 768)), NULL));
    assert_failed(TSR_STATUS_SHAPE, "linear: weight has shape [10, 768], expected [O, 384] (x is "
                                    "[64, 197, 384])");
    assert_null(tsr_linear(x, w, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(11))));
    assert_failed(TSR_STATUS_SHAPE, "linear: bias has shape [11], expected [10]");
    assert_null(tsr_linear(x, w, tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(10))));
    assert_failed(TSR_STATUS_DTYPE, "linear: bias is f64 and x is f32");
    assert_null(tsr_linear(x, tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(10, 384)), NULL));
    assert_failed(TSR_STATUS_DTYPE, "linear: weight is f64 and x is f32");
}

FUSED_MAIN(tsr_test(test_linear__of_every_shape), tsr_test(test_linear__sizes_of_nothing),
           tsr_test(test_linear__same_bits_for_any_threads), tsr_test(test_linear__errors))
