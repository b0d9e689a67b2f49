#include "tests/ops/fused.h"

static const double eps = 1e-6;

struct arguments {
    tsr_residual_norm_options options;
    bool norm; /* which output */
};

static void run(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const struct arguments *a = user;
    tsr_tensor *sum;
    out[0] = tsr_residual_layer_norm(in.at[0], in.at[1], in.at[2], in.at[3], in.at[4], &a->options,
                                     &sum);
    /* Both outputs in one, so that gradients arrive at both. */
    if (!a->norm) out[0] = tsr_add(out[0], tsr_affine(sum, 0.5, 0.0));
}

static tsr_rng rng(void)
{
    return tsr_rng_make(5, 1, 2, 3);
}

/* The same by the operators that it stands for. */
static tsr_tensor *by_operators(tsr_tensors in, const tsr_residual_norm_options *o,
                                tsr_tensor **sum)
{
    tsr_tensor *y = tsr_cast(in.at[1], tsr_tensor_dtype(in.at[0]));
    if (in.at[2] != NULL) y = tsr_mul(y, in.at[2]);
    *sum = tsr_add(in.at[0], tsr_drop_path(y, o->p, o->rng));
    return tsr_layer_norm(*sum, in.at[3], in.at[4], o->eps);
}

static void check(tsr_shape shape, double p)
{
    tsr_shape d = TSR_SHAPE(shape.size[shape.ndim - 1]);
    FUSED_EACH_REAL(dtype)
    {
        for (int which = 0; which < 8; which++) {
            tsr_tensor *x = fused_leaf(dtype, shape, 1), *y = fused_leaf(dtype, shape, 2);
            tsr_tensor *gamma = which & 1 ? fused_leaf(dtype, d, 3) : NULL;
            tsr_tensor *w = which & 2 ? fused_leaf(dtype, d, 4) : NULL;
            tsr_tensor *b = which & 4 ? fused_leaf(dtype, d, 5) : NULL;
            tsr_tensors in = TSR_TENSORS(x, y, gamma, w, b);
            struct arguments a = {{.eps = eps, .p = p, .rng = rng()}};
            tsr_tensor *sum, *wanted_sum,
                *norm = tsr_residual_layer_norm(x, y, gamma, w, b, &a.options, &sum),
                *wanted = by_operators(in, &a.options, &wanted_sum);
            assert_close(sum, wanted_sum, fused_tolerance(dtype));
            assert_close(norm, wanted, 5.0 * fused_tolerance(dtype));
            if (d.size[0] < 3) continue; /* a norm of two values is a step */
            for (int only = 0; only < 2; only++) {
                a.norm = only == 1;
                assert_definition(run, &a, in, 50.0 * fused_tolerance(dtype));
            }
        }
    }
}

static void test_residual_layer_norm__of_every_shape(void **state)
{
    (void)state;
    check(TSR_SHAPE(3, 7), 0.0);
    check(TSR_SHAPE(5), 0.0);
    check(TSR_SHAPE(9, 3, 5, 16), 0.3);
    check(TSR_SHAPE(17, 193), 0.5);
    check(TSR_SHAPE(3, 4, 4099), 0.3);
    check(TSR_SHAPE(0, 5), 0.3);
    check(TSR_SHAPE(2, 0, 5), 0.3);
    check(TSR_SHAPE(4, 3, 1), 0.0);
}

/* What drop_path drops, the branch does not reach, whatever it holds. */
static void test_residual_layer_norm__a_dropped_branch_is_not_read(void **state)
{
    (void)state;
    tsr_tensor *x = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(3, 2, 8), 1), *sum;
    tsr_tensor *y = tsr_full(TSR_DTYPE_F32, TSR_SHAPE(3, 2, 8), INFINITY);
    tsr_residual_norm_options o = {.eps = eps, .p = 1.0, .rng = rng()};
    tsr_tensor *norm = tsr_residual_layer_norm(x, y, NULL, NULL, NULL, &o, &sum);
    assert_same(sum, x);
    assert_same(norm, tsr_layer_norm(x, NULL, NULL, eps));
}

/* In a bf16 run: the stream in f32, branch and norm in bf16, and their gradients in their types. */
static void test_residual_layer_norm__of_an_f32_stream_and_a_bf16_branch(void **state)
{
    (void)state;
    tsr_shape shape = TSR_SHAPE(6, 5, 96), d = TSR_SHAPE(96);
    tsr_tensor *x = fused_leaf(TSR_DTYPE_F32, shape, 1), *sum, *wanted_sum;
    tsr_tensor *y =
        tsr_require_grad(tsr_cast(reference_normal(TSR_DTYPE_F32, shape, 2), TSR_DTYPE_BF16), true);
    tsr_tensor *gamma = fused_leaf(TSR_DTYPE_F32, d, 3), *w = fused_leaf(TSR_DTYPE_F32, d, 4),
               *b = fused_leaf(TSR_DTYPE_F32, d, 5);
    tsr_tensors in = TSR_TENSORS(x, y, gamma, w, b);
    struct arguments a = {{.eps = eps, .p = 0.4, .rng = rng(), .narrow = true}, .norm = true};
    tsr_tensor *norm = tsr_residual_layer_norm(x, y, gamma, w, b, &a.options, &sum);
    tsr_tensor *wanted = by_operators(in, &a.options, &wanted_sum);
    assert_int_equal(tsr_tensor_dtype(norm), TSR_DTYPE_BF16);
    assert_int_equal(tsr_tensor_dtype(sum), TSR_DTYPE_F32);
    assert_close(sum, wanted_sum, 1e-6);
    assert_close(tsr_cast(norm, TSR_DTYPE_F32), wanted, 0x1p-7);
    tsr_tensor *kernels[FUSED_INPUTS] = {0}, *operators[FUSED_INPUTS] = {0};
    fused_gradients(run, &a, in, false, kernels);
    fused_gradients(run, &a, in, true, operators);
    for (int i = 0; i < in.n; i++) {
        assert_int_equal(tsr_tensor_dtype(kernels[i]), tsr_tensor_dtype(in.at[i]));
        assert_close(tsr_cast(kernels[i], TSR_DTYPE_F32), tsr_cast(operators[i], TSR_DTYPE_F32),
                     i == 1 ? 0x1p-7 : 2e-4);
    }
}

/* What a linear layer on the norm needs is computed again, bit for bit, and neither the branch nor the norm is kept. */
static void test_residual_layer_norm__keeps_the_sum_alone(void **state)
{
    (void)state;
    tsr_shape shape = TSR_SHAPE(256, 17, 96); /* well above what a tape takes for itself */
    tsr_tensor *x = fused_leaf(TSR_DTYPE_F32, shape, 1), *y = fused_leaf(TSR_DTYPE_F32, shape, 2);
    tsr_tensor *w = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(96), 3);
    tsr_tensor *weight = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(8, 96), 4), *grads[2];
    tsr_residual_norm_options o = {.eps = eps};
    for (int fused = 0; fused < 2; fused++) {
        tsr_tape *tape = tsr_tape_open();
        tsr_scope scope = tsr_scope_open();
        size_t before = tsr_pool_stats_get().in_use;
        tsr_tensor *sum,
            *branch = tsr_affine(y, 1.0, 0.0),
            *norm = fused ? tsr_residual_layer_norm(x, branch, NULL, w, NULL, &o, &sum)
                          : by_operators(TSR_TENSORS(x, branch, NULL, w, NULL), &o, &sum);
        tsr_tensor *out = tsr_linear(norm, weight, NULL);
        tsr_scope_close(&scope, TSR_TENSORS(out));
        size_t kept = tsr_pool_stats_get().in_use - before;
        size_t one = (size_t)tsr_tensor_numel(x) * sizeof(float);
        assert_true(kept >= one && kept < one + one / 2);
        tsr_tensor *v = reference_normal(TSR_DTYPE_F32, tsr_tensor_shape(out), 9);
        tsr_grad(tape, TSR_TENSORS(out), TSR_TENSORS(v), TSR_TENSORS(weight), &grads[fused], NULL);
        assert_ok();
        grads[fused] = tsr_detach(grads[fused]);
        tsr_tape_close(&tape);
    }
    assert_same(grads[0], grads[1]);
}

static void test_residual_layer_norm__same_bits_for_any_threads(void **state)
{
    (void)state;
    int before = tsr_threads();
    tsr_shape shape = TSR_SHAPE(7, 197, 129);
    tsr_tensor *in[5] = {fused_leaf(TSR_DTYPE_F32, shape, 1), fused_leaf(TSR_DTYPE_F32, shape, 2)};
    for (int i = 2; i < 5; i++) in[i] = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(129), (uint64_t)i + 1);
    struct arguments a = {{.eps = eps, .p = 0.3, .rng = rng()}};
    tsr_tensor *one[FUSED_INPUTS] = {0}, *grads[FUSED_INPUTS] = {0}, *y1, *y;
    tsr_threads_set(1);
    run((tsr_tensors){in, 5}, &y1, 1, &a);
    fused_gradients(run, &a, (tsr_tensors){in, 5}, false, one);
    for (int threads = 2; threads <= 4; threads++) {
        tsr_threads_set(threads);
        run((tsr_tensors){in, 5}, &y, 1, &a);
        assert_same(y, y1);
        fused_gradients(run, &a, (tsr_tensors){in, 5}, false, grads);
        for (int i = 0; i < 5; i++) assert_same(grads[i], one[i]);
    }
    tsr_threads_set(before);
}

static void test_residual_layer_norm__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3, 8)), *sum;
    tsr_tensor *d = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(8));
    tsr_residual_norm_options o = {.eps = eps};
    assert_null(tsr_residual_layer_norm(x, d, NULL, NULL, NULL, &o, &sum));
    assert_failed(TSR_STATUS_SHAPE,
                  "residual_layer_norm: y has shape [8], expected [2, 3, 8] as x");
    assert_null(sum);
    assert_null(tsr_residual_layer_norm(x, tsr_cast(x, TSR_DTYPE_F64), NULL, NULL, NULL, &o, &sum));
    assert_failed(TSR_STATUS_DTYPE, "residual_layer_norm: y is f64 and x is f32");
    assert_null(tsr_residual_layer_norm(x, x, x, NULL, NULL, &o, &sum));
    assert_failed(TSR_STATUS_SHAPE, "residual_layer_norm: gamma has shape [2, 3, 8], expected [8]");
    assert_null(tsr_residual_layer_norm(x, x, NULL, tsr_cast(d, TSR_DTYPE_F64), NULL, &o, &sum));
    assert_failed(TSR_STATUS_DTYPE, "residual_layer_norm: weight is f64 and x is f32");
    tsr_tensor *scalar = tsr_scalar(TSR_DTYPE_F32, 1.0);
    assert_null(tsr_residual_layer_norm(scalar, scalar, NULL, NULL, NULL, &o, &sum));
    assert_failed(TSR_STATUS_SHAPE, "residual_layer_norm: x has shape [], expected [..., D]");
    o.p = 0.5;
    assert_null(tsr_residual_layer_norm(d, d, NULL, NULL, NULL, &o, &sum));
    assert_failed(TSR_STATUS_SHAPE, "residual_layer_norm: x has shape [8], expected [B, ..., D]");
    o.p = 1.5;
    assert_null(tsr_residual_layer_norm(x, x, NULL, NULL, NULL, &o, &sum));
    assert_failed(TSR_STATUS_ARGUMENT, "residual_layer_norm: p is 1.5, expected 0 to 1");
    o = (tsr_residual_norm_options){.eps = eps, .narrow = true};
    tsr_tensor *x64 = tsr_cast(x, TSR_DTYPE_F64);
    assert_null(tsr_residual_layer_norm(x64, x64, NULL, NULL, NULL, &o, &sum));
    assert_failed(TSR_STATUS_DTYPE, "residual_layer_norm: narrow with x f64, expected f32");
}

FUSED_MAIN(tsr_test(test_residual_layer_norm__of_every_shape),
           tsr_test(test_residual_layer_norm__a_dropped_branch_is_not_read),
           tsr_test(test_residual_layer_norm__of_an_f32_stream_and_a_bf16_branch),
           tsr_test(test_residual_layer_norm__keeps_the_sum_alone),
           tsr_test(test_residual_layer_norm__same_bits_for_any_threads),
           tsr_test(test_residual_layer_norm__errors))
