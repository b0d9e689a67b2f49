/*
 * The checks that every sample of every op must pass: no op is named here, the build's list is what is walked.
 */
#include "tests/test.h"

#include "autograd/internal.h"
#include "ops/samples.h"

#include <stdlib.h>

struct one {
    const tsr_op_samples *op;
    const tsr_sample *sample;
    char name[128];
};

static struct one *under_test(void **state)
{
    return *state;
}

static bool checks_gradient(const struct one *t)
{
    if (t->sample->no_gradient) return false;
    for (int i = 0; i < t->sample->n_inputs; i++) {
        const tsr_sample_input *in = &t->sample->inputs[i];
        if (in->below > 0 || in->mask || in->absent || in->constant) continue;
        if (tsr_shape_numel(in->shape) > 0) return true;
    }
    return false;
}

static int outputs_of(const struct one *t)
{
    return t->sample->n_outputs > 0 ? t->sample->n_outputs : 1;
}

static tsr_tensors make(const struct one *t, tsr_dtype dtype, tsr_tensor **inputs)
{
    assert_true(tsr_samples__inputs(t->sample, dtype, 1, inputs));
    return (tsr_tensors){inputs, t->sample->n_inputs};
}

static void run(const struct one *t, tsr_tensors inputs, tsr_tensor **outputs)
{
    for (int o = 0; o < outputs_of(t); o++) outputs[o] = NULL;
    t->sample->call(inputs, outputs, outputs_of(t), (void *)t->sample);
    assert_ok();
    for (int o = 0; o < outputs_of(t); o++) assert_non_null(outputs[o]);
}

enum { MOST = 8 };

/* Outputs and gradients of all inputs, with cotangents drawn anew from a fixed seed, as numbers of that type. */
static void run_with_gradients_of(const struct one *t, tsr_tensors inputs, tsr_dtype drawn,
                                  tsr_tensor **outputs, tsr_tensor **grads)
{
    tsr_tape *tape = tsr_tape_open();
    run(t, inputs, outputs);
    tsr_tensor *recorded[MOST], *v[MOST], *wanted[MOST], *results[MOST];
    int n = 0, n_wanted = 0;
    for (int o = 0; o < outputs_of(t); o++) {
        if (!tsr_requires_grad(outputs[o])) continue;
        tsr_dtype dtype = tsr_tensor_dtype(outputs[o]);
        v[n] = tsr_empty(drawn == TSR_DTYPE_COUNT ? dtype : drawn, tsr_tensor_shape(outputs[o]));
        tsr_fill_normal(v[n], tsr_rng_make(2, 0, (uint32_t)o, 0), 0.0, 1.0);
        v[n] = tsr_tensor_converted(v[n], dtype);
        recorded[n++] = outputs[o];
    }
    for (int i = 0; i < inputs.n; i++) {
        grads[i] = NULL;
        if (tsr_requires_grad(inputs.at[i])) wanted[n_wanted++] = inputs.at[i];
    }
    tsr_grad(tape, (tsr_tensors){recorded, n}, (tsr_tensors){v, n}, (tsr_tensors){wanted, n_wanted},
             results, NULL);
    assert_ok();
    for (int i = 0, k = 0; i < inputs.n; i++) {
        if (tsr_requires_grad(inputs.at[i])) grads[i] = results[k++];
    }
    tsr_tape_close(&tape);
}

static void run_with_gradients(const struct one *t, tsr_tensors inputs, tsr_tensor **outputs,
                               tsr_tensor **grads)
{
    run_with_gradients_of(t, inputs, TSR_DTYPE_COUNT, outputs, grads);
}

static void test_generic__gradcheck(void **state)
{
    struct one *t = under_test(state);
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *inputs[TSR_SAMPLE_INPUTS];
    tsr_tensors in = make(t, TSR_DTYPE_F64, inputs);
    tsr_gradcheck_options options = {.kink = t->sample->kink};
    tsr_gradcheck(t->sample->call, (void *)t->sample, in, outputs_of(t), &options, NULL);
    assert_ok();
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_generic__gradgradcheck(void **state)
{
    struct one *t = under_test(state);
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *inputs[TSR_SAMPLE_INPUTS];
    tsr_tensors in = make(t, TSR_DTYPE_F64, inputs);
    tsr_gradcheck_options options = {.kink = t->sample->kink};
    tsr_gradgradcheck(t->sample->call, (void *)t->sample, in, outputs_of(t), &options, NULL);
    assert_ok();
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* The floating inputs as f64. */
static tsr_tensors as_f64(tsr_tensors in, tsr_tensor **wide)
{
    for (int i = 0; i < in.n; i++) {
        wide[i] = in.at[i];
        if (in.at[i] == NULL || !tsr_dtype_is_float(tsr_tensor_dtype(in.at[i]))) continue;
        wide[i] = tsr_tensor_converted(in.at[i], TSR_DTYPE_F64);
        if (tsr_requires_grad(in.at[i])) tsr_require_grad(wide[i], true);
    }
    return (tsr_tensors){wide, in.n};
}

/* f32 agrees with f64 on the same values. */
static void test_generic__f32(void **state)
{
    struct one *t = under_test(state);
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *inputs[TSR_SAMPLE_INPUTS], *wide[TSR_SAMPLE_INPUTS], *y[MOST], *y64[MOST];
    tsr_tensors in = make(t, TSR_DTYPE_F32, inputs), in64 = as_f64(in, wide);
    if (!checks_gradient(t)) {
        run(t, in, y);
        run(t, in64, y64);
    } else {
        tsr_tensor *g[TSR_SAMPLE_INPUTS], *g64[TSR_SAMPLE_INPUTS];
        run_with_gradients(t, in, y, g);
        run_with_gradients(t, in64, y64, g64);
        for (int i = 0; i < in.n; i++) {
            if (g[i] != NULL) assert_close(g[i], g64[i], 1e-4);
        }
    }
    for (int o = 0; o < outputs_of(t); o++) assert_close(y[o], y64[o], 2e-5);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* |a - b| <= tolerance * the largest |b|, elementwise; where all of b cancels, of what f32 makes of such sums. */
static void assert_close_to_largest(tsr_tensor *a, tsr_tensor *b, double tolerance)
{
    assert_true(tsr_shape_equal(tsr_tensor_shape(a), tsr_tensor_shape(b)));
    double largest = 0x1p-12, worst = 0.0;
    for (int64_t i = 0; i < tsr_tensor_numel(b); i++) {
        largest = fmax(largest, fabs(tsr_tensor_get(b, i)));
        double error = fabs(tsr_tensor_get(a, i) - tsr_tensor_get(b, i));
        bool both_nan = isnan(tsr_tensor_get(a, i)) && isnan(tsr_tensor_get(b, i));
        if (!(error <= worst) && !both_nan) worst = error; /* also when it is NaN */
    }
    if (worst <= tolerance * largest) return;
    fail_msg("off by %g, the largest element is %g", worst, largest);
}

/* Gradients of a fused op by its definition, on inputs that are copies. */
static void gradients_by_definition(const struct one *t, tsr_tensors in, tsr_tensor **grads)
{
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *y[MOST], *v[MOST], *wanted[TSR_SAMPLE_INPUTS], *results[TSR_SAMPLE_INPUTS];
    int n = 0, n_wanted = 0;
    run(t, in, y);
    for (int o = 0; o < outputs_of(t); o++) {
        if (!tsr_requires_grad(y[o])) continue;
        tsr_tensor *drawn = tsr_empty(TSR_DTYPE_BF16, tsr_tensor_shape(y[o]));
        tsr_fill_normal(drawn, tsr_rng_make(2, 0, (uint32_t)o, 0), 0.0, 1.0);
        v[n] = tsr_tensor_converted(drawn, tsr_tensor_dtype(y[o]));
        y[n++] = y[o];
    }
    for (int i = 0; i < in.n; i++) {
        grads[i] = NULL;
        if (tsr_requires_grad(in.at[i])) wanted[n_wanted++] = in.at[i];
    }
    tsr_grad(tape, (tsr_tensors){y, n}, (tsr_tensors){v, n}, (tsr_tensors){wanted, n_wanted},
             results, &(tsr_backward_options){.create_graph = true});
    assert_ok();
    for (int i = 0, k = 0; i < in.n; i++) {
        if (tsr_requires_grad(in.at[i])) grads[i] = tsr_detach(results[k++]);
    }
    tsr_tape_close(&tape);
}

/* bf16 agrees with f64 on the same values, forward, backward and through the definition; the gradient of an input has its
 * type; the bits are the same with 1, 2 and 4 threads. */
static void test_generic__bf16(void **state)
{
    struct one *t = under_test(state);
    int before = tsr_threads();
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *inputs[TSR_SAMPLE_INPUTS], *wide[TSR_SAMPLE_INPUTS], *y[MOST], *y64[MOST],
        *again[MOST];
    tsr_tensor *g[TSR_SAMPLE_INPUTS] = {0}, *g64[TSR_SAMPLE_INPUTS] = {0};
    tsr_tensor *other[TSR_SAMPLE_INPUTS] = {0};
    tsr_tensors in = make(t, TSR_DTYPE_BF16, inputs), in64 = as_f64(in, wide);
    bool gradient = checks_gradient(t);
    if (gradient) {
        run_with_gradients_of(t, in, TSR_DTYPE_BF16, y, g);
        run_with_gradients_of(t, in64, TSR_DTYPE_BF16, y64, g64);
        gradients_by_definition(t, in, other);
    } else {
        run(t, in, y);
        run(t, in64, y64);
    }
    for (int o = 0; o < outputs_of(t); o++) assert_close_to_largest(y[o], y64[o], 0x1p-7);
    for (int i = 0; i < in.n; i++) {
        if (g[i] == NULL) continue;
        assert_int_equal(tsr_tensor_dtype(g[i]), TSR_DTYPE_BF16);
        assert_close_to_largest(g[i], g64[i], 0x1p-7);
        assert_close_to_largest(other[i], g64[i], 0x1p-6);
    }
    for (int threads = 1; threads <= 4; threads *= 2) {
        tsr_threads_set(threads);
        if (gradient) {
            run_with_gradients_of(t, in, TSR_DTYPE_BF16, again, other);
        } else {
            run(t, in, again);
        }
        for (int o = 0; o < outputs_of(t); o++) assert_same(again[o], y[o]);
        for (int i = 0; i < in.n; i++) {
            if (g[i] != NULL) assert_same(other[i], g[i]);
        }
    }
    tsr_threads_set(before);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* A fused op's forward agrees with its definition. */
static void test_generic__definition(void **state)
{
    struct one *t = under_test(state);
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *inputs[TSR_SAMPLE_INPUTS], *y[MOST], *defined[MOST] = {0};
    tsr_tensors in = make(t, TSR_DTYPE_F64, inputs);
    tsr_tape *tape = tsr_tape_open();
    run(t, in, y);
    const tsr_node *node = tape->n_nodes > 0 ? tape->nodes[tape->n_nodes - 1] : NULL;
    if (node != NULL && node->op->definition != NULL) {
        tsr_recording_set(false);
        /* The node's own inputs, which a sample of several operators does not know. */
        tsr_tensors of = node->op->records ? in : (tsr_tensors){node->kept, node->n_inputs};
        node->op->definition(tsr_node_block(node), of, defined);
        tsr_recording_set(true);
        assert_true(node->n_outputs <= MOST);
        for (int o = 0; o < outputs_of(t); o++) {
            for (int k = 0; k < node->n_outputs; k++) {
                if (y[o]->slot < 0 || y[o]->slot != tsr_node__outputs(node)[k]) continue;
                assert_close(y[o], defined[k], 1e-11);
            }
        }
    }
    tsr_tape_close(&tape);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* The same bits with 1, 2 and 4 threads, forward and backward. */
static void test_generic__threads(void **state)
{
    struct one *t = under_test(state);
    int before = tsr_threads();
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *inputs[TSR_SAMPLE_INPUTS], *y1[MOST], *y[MOST];
    tsr_tensor *g1[TSR_SAMPLE_INPUTS] = {0}, *g[TSR_SAMPLE_INPUTS] = {0};
    tsr_tensors in = make(t, TSR_DTYPE_F32, inputs);
    for (int threads = 1; threads <= 4; threads *= 2) {
        tsr_threads_set(threads);
        if (checks_gradient(t)) {
            run_with_gradients(t, in, threads == 1 ? y1 : y, threads == 1 ? g1 : g);
        } else {
            run(t, in, threads == 1 ? y1 : y);
        }
        for (int o = 0; threads > 1 && o < outputs_of(t); o++) assert_same(y[o], y1[o]);
        for (int i = 0; threads > 1 && i < in.n; i++) {
            if (g1[i] != NULL) assert_same(g[i], g1[i]);
        }
    }
    tsr_threads_set(before);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* x with other strides: padded by one element in the last dimension, and with the dimensions' order in memory reversed. */
static tsr_tensor *strided_copy(tsr_tensor *x)
{
    tsr_shape shape = tsr_tensor_shape(x), room = shape, reversed = {.ndim = shape.ndim};
    if (shape.ndim == 0) return x;
    room.size[shape.ndim - 1]++;
    int64_t strides[TSR_MAX_DIMS], stride = 1;
    for (int d = 0; d < shape.ndim; d++) {
        reversed.size[d] = room.size[shape.ndim - 1 - d];
        strides[d] = stride;
        stride *= room.size[d];
    }
    tsr_tensor *big = tsr_zeros(tsr_tensor_dtype(x), reversed);
    tsr_tensor *view = tsr_tensor_view(big, shape, strides, 0);
    tsr_tensor_copy(view, x);
    return view;
}

/* Views that are not contiguous give the same results as contiguous inputs. */
static void test_generic__strided(void **state)
{
    struct one *t = under_test(state);
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *inputs[TSR_SAMPLE_INPUTS], *strided[TSR_SAMPLE_INPUTS], *y[MOST], *ys[MOST];
    tsr_tensor *g[TSR_SAMPLE_INPUTS] = {0}, *gs[TSR_SAMPLE_INPUTS] = {0};
    tsr_tensors in = make(t, TSR_DTYPE_F64, inputs);
    for (int i = 0; i < in.n; i++) {
        strided[i] = inputs[i] == NULL ? NULL : strided_copy(inputs[i]);
        if (tsr_requires_grad(inputs[i])) tsr_require_grad(strided[i], true);
    }
    if (checks_gradient(t)) {
        run_with_gradients(t, in, y, g);
        run_with_gradients(t, (tsr_tensors){strided, in.n}, ys, gs);
    } else {
        run(t, in, y);
        run(t, (tsr_tensors){strided, in.n}, ys);
    }
    for (int o = 0; o < outputs_of(t); o++) assert_close(ys[o], y[o], 1e-12);
    for (int i = 0; i < in.n; i++) {
        if (g[i] != NULL) assert_close(gs[i], g[i], 1e-12);
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* Each input's gradient is the same when it is the only one wanted. */
static void test_generic__wanted_subsets(void **state)
{
    struct one *t = under_test(state);
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *inputs[TSR_SAMPLE_INPUTS], *y[MOST];
    tsr_tensor *all[TSR_SAMPLE_INPUTS] = {0}, *single[TSR_SAMPLE_INPUTS] = {0};
    tsr_tensors in = make(t, TSR_DTYPE_F64, inputs);
    run_with_gradients(t, in, y, all);
    for (int only = 0; only < in.n; only++) {
        if (all[only] == NULL) continue;
        tsr_tensor *some[TSR_SAMPLE_INPUTS];
        for (int i = 0; i < in.n; i++) some[i] = i == only ? inputs[i] : tsr_detach(inputs[i]);
        run_with_gradients(t, (tsr_tensors){some, in.n}, y, single);
        assert_close(single[only], all[only], 1e-12);
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* NULL in gives NULL out, without a message of its own and without a crash. */
static void test_generic__null_inputs(void **state)
{
    struct one *t = under_test(state);
    tsr_tensor *none[TSR_SAMPLE_INPUTS] = {0}, *y[MOST] = {0};
    t->sample->call((tsr_tensors){none, t->sample->n_inputs}, y, outputs_of(t), (void *)t->sample);
    assert_null(y[0]);
    tsr_status_clear();
}

/* No allocation may fail in a way that crashes, leaks or goes unnoticed. */
TSR_API void tsr_pool__fail_at(int64_t n);

static void test_generic__allocation_failure(void **state)
{
    struct one *t = under_test(state);
    for (int64_t n = 1; n < 2000; n++) {
        size_t before = tsr_pool_stats_get().in_use;
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *inputs[TSR_SAMPLE_INPUTS], *y[MOST] = {0}, *g[TSR_SAMPLE_INPUTS] = {0};
        tsr_tensors in = make(t, TSR_DTYPE_F32, inputs);
        tsr_tape *tape = tsr_tape_open();
        tsr_pool__fail_at(n);
        t->sample->call(in, y, outputs_of(t), (void *)t->sample);
        tsr_tensor *first = y[0];
        if (tsr_requires_grad(first) && tsr_requires_grad(in.at[0])) {
            tsr_tensor *v = tsr_full(tsr_tensor_dtype(first), tsr_tensor_shape(first), 1.0);
            if (v != NULL)
                tsr_grad(tape, TSR_TENSORS(first), TSR_TENSORS(v), TSR_TENSORS(in.at[0]), g, NULL);
        }
        tsr_pool__fail_at(0);
        tsr_status status = tsr_status_get();
        tsr_tape_close(&tape);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        assert_int_equal(tsr_pool_stats_get().in_use, before);
        tsr_status_clear();
        if (status == TSR_STATUS_OK) return;
        assert_int_equal(status, TSR_STATUS_MEMORY);
    }
    fail_msg("no end to the allocations");
}

static int setup(void **state)
{
    tsr_status_clear();
    (void)state;
    return 0;
}

int main(void)
{
    static const struct {
        const char *name;
        CMUnitTestFunction f;
        bool gradient, bf16; /* only where there is one; only of ops that take it */
    } checks[] = {
        {"gradcheck", test_generic__gradcheck, true},
        {"gradgradcheck", test_generic__gradgradcheck, true},
        {"f32", test_generic__f32, false},
        {"bf16", test_generic__bf16, false, true},
        {"definition", test_generic__definition, true},
        {"threads", test_generic__threads, false},
        {"strided", test_generic__strided, false},
        {"wanted_subsets", test_generic__wanted_subsets, true},
        {"null_inputs", test_generic__null_inputs, false},
        {"allocation_failure", test_generic__allocation_failure, false},
    };
    enum { CHECKS = sizeof checks / sizeof checks[0] };
    int n_ops;
    const tsr_op_samples *const *ops = tsr_samples__all(&n_ops);
    size_t n = 0, most = 0;
    for (int i = 0; i < n_ops; i++) most += (size_t)ops[i]->n * CHECKS;
    struct CMUnitTest *tests = calloc(most, sizeof *tests);
    struct one *ones = calloc(most, sizeof *ones);
    if (tests == NULL || ones == NULL) return 1;
    const char *only = getenv("TSR_TEST_OP"); /* one op's checks alone, for whoever works on it */
    for (int i = 0; i < n_ops; i++) {
        if (only != NULL && strcmp(only, ops[i]->op) != 0) continue;
        bool any_gradient = false;
        for (int s = 0; s < ops[i]->n; s++) {
            for (int c = 0; c < CHECKS; c++) {
                struct one *t = &ones[n];
                t->op = ops[i];
                t->sample = &ops[i]->at[s];
                any_gradient = any_gradient || checks_gradient(t) || t->sample->no_gradient;
                if (checks[c].gradient && !checks_gradient(t)) continue;
                if (checks[c].bf16 && !ops[i]->bf16) continue;
                snprintf(t->name, sizeof t->name, "test_%s__%s (%s)", ops[i]->op, checks[c].name,
                         t->sample->name);
                tests[n++] = (struct CMUnitTest){t->name, checks[c].f, setup, NULL, t};
            }
        }
        if (!any_gradient) {
            fprintf(stderr, "%s: no sample is gradient-checked\n", ops[i]->op);
            return 1;
        }
    }
    int failed = _cmocka_run_group_tests("ops", tests, n, NULL, NULL);
    free(tests);
    free(ones);
    return failed;
}
