#include "tests/ops/fused.h"

struct how {
    bool tanh, apart; /* apart: by the two ops */
};

static void run(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const struct how *how = user;
    out[0] = how->apart ? tsr_gelu(tsr_linear(in.at[0], in.at[1], in.at[2]), how->tanh)
                        : tsr_linear_gelu(in.at[0], in.at[1], in.at[2], how->tanh);
}

static tsr_tensor *unrecorded(tsr_tensors in, struct how how)
{
    tsr_tensor *y = NULL;
    bool was = tsr_recording_set(false);
    run(in, &y, 1, &how);
    tsr_recording_set(was);
    assert_ok();
    return y;
}

static tsr_tensor *recorded(tsr_tensors in, struct how how)
{
    tsr_tensor *y = NULL;
    tsr_tape *tape = tsr_tape_open();
    run(in, &y, 1, &how);
    tsr_tape_close(&tape);
    assert_ok();
    return tsr_detach(y);
}

/* Results and gradients are those of the two ops, with one thread and with two, whether or not they are recorded. */
static void check(tsr_dtype dtype, tsr_dtype of_parameters, tsr_shape shape, int64_t outputs,
                  bool biased)
{
    tsr_scope scope = tsr_scope_open();
    int before = tsr_threads();
    int64_t inputs = shape.size[shape.ndim - 1];
    tsr_tensor *b = biased ? fused_leaf(of_parameters, TSR_SHAPE(outputs), 3) : NULL;
    tsr_tensors in = TSR_TENSORS(fused_leaf(dtype, shape, 1),
                                 fused_leaf(of_parameters, TSR_SHAPE(outputs, inputs), 2), b);
    for (int tanh = 0; tanh < 2; tanh++) {
        struct how apart = {tanh != 0, true}, fused = {tanh != 0, false};
        tsr_tensor *want[FUSED_INPUTS] = {0}, *got[FUSED_INPUTS] = {0};
        for (int threads = 1; threads <= 2; threads++) {
            tsr_threads_set(threads);
            tsr_tensor *y = recorded(in, apart);
            fused_gradients(run, &apart, in, false, want);
            assert_same(recorded(in, fused), y);
            assert_same(unrecorded(in, fused), y);
            fused_gradients(run, &fused, in, false, got);
            for (int i = 0; i < 2 + biased; i++) assert_same(got[i], want[i]);
        }
    }
    tsr_threads_set(before);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void check_types(tsr_shape shape, int64_t outputs, bool biased)
{
    check(TSR_DTYPE_F32, TSR_DTYPE_F32, shape, outputs, biased);
    check(TSR_DTYPE_F64, TSR_DTYPE_F64, shape, outputs, biased);
    check(TSR_DTYPE_BF16, TSR_DTYPE_BF16, shape, outputs, biased);
    check(TSR_DTYPE_BF16, TSR_DTYPE_F32, shape, outputs, biased);
}

static void test_linear_gelu__has_the_bits_of_both(void **state)
{
    (void)state;
    check_types(TSR_SHAPE(3, 5), 4, true);
    check_types(TSR_SHAPE(7), 3, true);
    check_types(TSR_SHAPE(2, 3, 4, 5), 6, false);
    check_types(TSR_SHAPE(40, 33), 37, true);
    check_types(TSR_SHAPE(0, 5), 4, true);
    check_types(TSR_SHAPE(3, 5), 0, true);
    check_types(TSR_SHAPE(3, 0), 4, true);
}

/* Several blocks and chunks of a packed product, and several pieces of GELU, all of them with rests. */
static void test_linear_gelu__has_the_bits_of_both_where_products_are_large(void **state)
{
    (void)state;
    check_types(TSR_SHAPE(2, 197, 384), 1000, true);
    check_types(TSR_SHAPE(530, 200), 299, false);
    check(TSR_DTYPE_F32, TSR_DTYPE_F32, TSR_SHAPE(150, 2100), 333, true);
    check(TSR_DTYPE_BF16, TSR_DTYPE_F32, TSR_SHAPE(150, 2100), 333, true);
}

static void test_linear_gelu__is_its_definition(void **state)
{
    (void)state;
    FUSED_EACH_REAL(dtype)
    {
        for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
            tsr_tensor *x = reference_empty(dtype, TSR_SHAPE(3, 13, 17), layout);
            tsr_tensor *w = reference_empty(dtype, TSR_SHAPE(19, 17), layout);
            tsr_tensor_copy(x, reference_normal(dtype, tsr_tensor_shape(x), 1));
            tsr_tensor_copy(w, reference_normal(dtype, tsr_tensor_shape(w), 2));
            tsr_require_grad(x, true);
            tsr_require_grad(w, true);
            tsr_tensor *b = fused_leaf(dtype, TSR_SHAPE(19), 3);
            struct how how = {0};
            assert_definition(run, &how, TSR_TENSORS(x, w, b), 10.0 * fused_tolerance(dtype));
        }
    }
}

/* What is kept is u alone, and nothing where nothing is recorded. */
static void test_linear_gelu__keeps_one_result(void **state)
{
    (void)state;
    enum { ROWS = 64, I = 8, O = 256 };
    tsr_tensor *x = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(ROWS, I), 1);
    tsr_tensor *w = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(O, I), 2);
    tsr_tensor *up = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(1, O), 3);
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *first = tsr_linear(tsr_linear_gelu(x, w, NULL, false), up, NULL);
    assert_non_null(first); /* the tape has its memory */
    size_t before = tsr_pool_stats_get().in_use, result = ROWS * O * sizeof(float);
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *y = tsr_linear(tsr_linear_gelu(x, w, NULL, false), up, NULL);
    assert_non_null(tsr_scope_return(&scope, y));
    size_t kept = tsr_pool_stats_get().in_use - before;
    assert_true(kept >= result && kept < 2 * result);
    tsr_pool_peak_reset();
    before = tsr_pool_stats_get().in_use;
    assert_non_null(unrecorded(TSR_TENSORS(x, w, NULL), (struct how){0}));
    assert_true(tsr_pool_stats_get().peak - before < 2 * result);
    tsr_tape_close(&tape);
}

static void test_linear_gelu__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    tsr_tensor *w = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(5, 3));
    assert_null(tsr_linear_gelu(x, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(5, 4)), NULL, false));
    assert_failed(TSR_STATUS_SHAPE, "linear_gelu: weight has shape [5, 4], expected [O, 3] (x is "
                                    "[2, 3])");
    assert_null(tsr_linear_gelu(x, w, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4)), false));
    assert_failed(TSR_STATUS_SHAPE, "linear_gelu: bias has shape [4], expected [5]");
    assert_null(tsr_linear_gelu(x, tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(5, 3)), NULL, false));
    assert_failed(TSR_STATUS_DTYPE, "linear_gelu: weight is f64 and x is f32");
    assert_null(tsr_linear_gelu(tsr_zeros(TSR_DTYPE_I32, TSR_SHAPE(2, 3)), w, NULL, false));
    assert_failed(TSR_STATUS_DTYPE, "linear_gelu: x is i32, expected f32, f64 or bf16");
}

FUSED_MAIN(tsr_test(test_linear_gelu__has_the_bits_of_both),
           tsr_test(test_linear_gelu__has_the_bits_of_both_where_products_are_large),
           tsr_test(test_linear_gelu__is_its_definition),
           tsr_test(test_linear_gelu__keeps_one_result), tsr_test(test_linear_gelu__errors))
