#include "tests/test.h"

#include "ops/ops.h"

#include <pthread.h>

/* ---- helpers ---- */

#define vector(...)                                                                                \
    tsr_from(TSR_DTYPE_F64, TSR_SHAPE(sizeof((double[]){__VA_ARGS__}) / sizeof(double)),           \
             (const double[]){__VA_ARGS__})
#define leaf(...)             tsr_require_grad(vector(__VA_ARGS__), true)
#define assert_values(t, ...) assert_same(t, vector(__VA_ARGS__))

static const tsr_backward_options retain = {.retain_graph = true}, create = {.create_graph = true};

static tsr_tensor *total(tsr_tensor *x)
{
    return tsr_sum_to(x, TSR_SHAPE_SCALAR);
}

static tsr_tensor *gradient(tsr_tape *tape, tsr_tensor *y, tsr_tensor *v, tsr_tensor *x,
                            const tsr_backward_options *options)
{
    tsr_tensor *g = NULL;
    tsr_grad(tape, TSR_TENSORS(y), TSR_TENSORS(v), TSR_TENSORS(x), &g, options);
    return g;
}

/* Every test has a tape beside the scope. */
static tsr_tape *tape;

static int setup(void **state)
{
    tsr_test_setup(state);
    tape = tsr_tape_open();
    return 0;
}

static int teardown(void **state)
{
    tsr_tape_close(&tape);
    return tsr_test_teardown(state);
}

#define tape_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* ---- leaves and recording ---- */

static void test_tape__records_only_what_needs_a_gradient(void **state)
{
    (void)state;
    tsr_tensor *a = vector(1, 2), *x = leaf(3, 4);
    assert_false(tsr_requires_grad(tsr_mul(a, a)));
    assert_int_equal(tsr_tape_length(tape), 0);
    assert_false(tsr_needs_grad(TSR_TENSORS(a, NULL)));
    assert_true(tsr_needs_grad(TSR_TENSORS(a, x)));
    tsr_tensor *y = tsr_mul(a, x);
    assert_true(tsr_requires_grad(y));
    assert_int_equal(tsr_tape_length(tape), 1);
    assert_ptr_equal(tsr_tape_current(), tape);
    assert_true(tsr_recording_set(false));
    assert_null(tsr_tape_current());
    assert_false(tsr_requires_grad(tsr_mul(a, x)));
    assert_false(tsr_needs_grad(TSR_TENSORS(x)));
    assert_false(tsr_recording_set(true));
    assert_int_equal(tsr_tape_length(tape), 1);
    assert_false(tsr_requires_grad(tsr_detach(y)));
    tsr_require_grad(x, false);
    assert_false(tsr_requires_grad(tsr_mul(a, x)));
    assert_ok();
}

static void test_tape__leaves_are_floating_and_without_history(void **state)
{
    (void)state;
    assert_null(tsr_require_grad(tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(2)), true));
    assert_failed(TSR_STATUS_DTYPE, "require_grad: tensor is i64, expected a floating type");
    tsr_tensor *x = leaf(1), *y = tsr_exp(x);
    assert_null(tsr_require_grad(y, true));
    assert_failed(TSR_STATUS_STATE, "require_grad: tensor was computed on a tape, not a leaf");
    assert_non_null(tsr_require_grad(tsr_detach(y), true));
}

static void test_tape__backward_accumulates_in_leaves(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(1, 2, 3), *w = leaf(4, 5, 6);
    assert_null(tsr_tensor_grad(x));
    for (int pass = 1; pass <= 3; pass++) {
        assert_int_equal(tsr_backward(tape, total(tsr_mul(tsr_mul(x, x), w)), NULL), TSR_STATUS_OK);
        assert_int_equal(tsr_tape_length(tape), 0);
        assert_values(tsr_tensor_grad(x), pass * 8, pass * 20, pass * 36);
        assert_values(tsr_tensor_grad(w), pass * 1, pass * 4, pass * 9);
    }
    tsr_tensor_set_grad(x, NULL);
    assert_null(tsr_tensor_grad(x));
    tsr_tensor_set_grad(x, vector(1, 1, 1));
    tsr_backward(tape, total(x), NULL);
    tsr_status_clear(); /* total(x) is a node; x itself is not */
    assert_values(tsr_tensor_grad(x), 2, 2, 2);
    assert_int_equal(tsr_tensor_set_grad(x, vector(1, 2)), TSR_STATUS_SHAPE);
    assert_failed(TSR_STATUS_SHAPE, "set_grad: gradient is f64 [2], expected f64 [3]");
}

/* A leaf's gradient is its own: no tensor of the user's shares its storage. */
static void test_tape__leaf_gradients_share_nothing(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(1, 2), *w = leaf(3, 4), *v = vector(5, 6);
    tsr_backward(tape, total(tsr_mul(tsr_add(x, w), v)), NULL);
    tsr_backward(tape, total(tsr_mul(x, v)), NULL);
    assert_values(tsr_tensor_grad(x), 10, 12);
    assert_values(tsr_tensor_grad(w), 5, 6);
    assert_values(v, 5, 6);
}

static void test_tape__a_diamond_sums_its_paths(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(0.5), *y = tsr_exp(x);
    tsr_tensor *z = tsr_mul(tsr_mul(y, y), tsr_add(y, y)); /* 2 e^3x */
    tsr_backward(tape, total(z), NULL);
    tsr_tensor *wanted = vector(6.0 * exp(1.5));
    assert_close(tsr_tensor_grad(x), wanted, 1e-14);
}

/* ---- tsr_grad ---- */

static void test_tape__grad_of_inner_tensors_and_leaves(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(1, 2), *other = leaf(9), *y = tsr_mul(x, x), *z = tsr_mul(y, y);
    tsr_tensor *grads[4];
    tsr_tensor *v = vector(1, 10);
    assert_int_equal(
        tsr_grad(tape, TSR_TENSORS(z), TSR_TENSORS(v), TSR_TENSORS(x, y, z, other), grads, NULL),
        TSR_STATUS_OK);
    assert_values(grads[0], 4, 320);
    assert_values(grads[1], 2, 80);
    assert_values(grads[2], 1, 10);
    assert_values(grads[3], 0);
    assert_null(tsr_tensor_grad(x));
    assert_int_equal(tsr_tape_length(tape), 0);
}

static void test_tape__grad_of_several_outputs(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(2), *y = tsr_mul(x, x), *z = tsr_exp(x), *g = NULL;
    tsr_tensor *v = vector(3);
    /* The second output's cotangent is left out: ones. An output may be listed twice, and may be the input. */
    tsr_grad(tape, TSR_TENSORS(y, z, y, x), TSR_TENSORS(v, NULL, v, NULL), TSR_TENSORS(x), &g,
             NULL);
    tsr_tensor *wanted = vector(3 * 4 + exp(2.0) + 3 * 4 + 1);
    assert_close(g, wanted, 1e-15);
}

static void test_tape__grad_errors(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(1, 2), *y = tsr_mul(x, x), *g = x, *c = vector(1, 2);
    assert_int_equal(tsr_grad(tape, TSR_TENSORS(y), TSR_NO_TENSORS, TSR_TENSORS(x), &g, &retain),
                     TSR_STATUS_SHAPE);
    assert_null(g);
    assert_failed(TSR_STATUS_SHAPE, "output 0 has shape [2], expected one element (or give a");
    gradient(tape, y, vector(1, 2, 3), x, &retain);
    assert_failed(TSR_STATUS_SHAPE, "cotangent 0 is f64 [3], expected f64 [2]");
    gradient(tape, y, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2)), x, &retain);
    assert_failed(TSR_STATUS_SHAPE, "cotangent 0 is f32 [2], expected f64 [2]");
    gradient(tape, y, c, c, &retain);
    assert_failed(TSR_STATUS_ARGUMENT, "grad: input 0 requires no gradient");
    gradient(tape, NULL, c, x, &retain);
    assert_failed(TSR_STATUS_ARGUMENT, "grad: output 0 is NULL");
    gradient(tape, y, c, NULL, &retain);
    assert_failed(TSR_STATUS_ARGUMENT, "grad: input 0 requires no gradient");
    assert_values(gradient(tape, y, c, x, NULL), 2, 8); /* the tape is still whole */
}

static void test_tape__backward_errors(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(1, 2);
    assert_int_equal(tsr_backward(tape, NULL, NULL), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "backward: loss is NULL");
    tsr_backward(tape, vector(1), NULL);
    assert_failed(TSR_STATUS_STATE, "backward: loss was not recorded");
    tsr_backward(tape, tsr_mul(x, x), NULL);
    assert_failed(TSR_STATUS_SHAPE, "has shape [2], expected one element");
    tsr_backward(NULL, total(x), NULL);
    assert_failed(TSR_STATUS_STATE, "backward: the tape is not the one this thread opened last");
    /* A chain that failed: the first message stays, and nothing is walked. */
    tsr_tensor *loss = total(tsr_mul(x, vector(1, 2, 3)));
    assert_null(loss);
    assert_int_equal(tsr_backward(tape, loss, NULL), TSR_STATUS_SHAPE);
    assert_failed(TSR_STATUS_SHAPE, "mul: a has shape [2] and b [3]");
    assert_null(tsr_tensor_grad(x));
}

/* ---- retain, create ---- */

static void test_tape__retained_graphs_walk_again(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(3), *loss = total(tsr_mul(x, x));
    tsr_backward(tape, loss, &retain);
    assert_true(tsr_tape_length(tape) > 0);
    tsr_backward(tape, loss, &retain);
    tsr_backward(tape, loss, NULL);
    assert_values(tsr_tensor_grad(x), 18);
    tsr_backward(tape, loss, NULL);
    assert_failed(TSR_STATUS_STATE, "history is gone");
}

static void test_tape__higher_derivatives(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(2, -1), *ones = vector(1, 1);
    tsr_tensor *y = tsr_mul(tsr_mul(x, x), tsr_mul(x, x)); /* x^4 */
    tsr_tensor *g1 = gradient(tape, y, ones, x, &create);
    assert_values(g1, 32, -4);
    tsr_tensor *g2 = gradient(tape, g1, ones, x, &create);
    assert_values(g2, 48, 12);
    tsr_tensor *g3 = gradient(tape, g2, ones, x, &create);
    assert_values(g3, 48, -24);
    assert_values(gradient(tape, g3, ones, x, NULL), 24, 24);
    assert_ok();
}

/* The gradient penalty: |d f / d x|^2 trained through. */
static void test_tape__backward_through_a_gradient(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(2), *w = leaf(3);
    tsr_tensor *g = gradient(tape, tsr_mul(w, tsr_mul(x, x)), vector(1), x, &create); /* 2 w x */
    tsr_backward(tape, total(tsr_mul(g, g)), NULL); /* 4 w^2 x^2 */
    assert_values(tsr_tensor_grad(w), 8 * 3 * 4);
    assert_values(tsr_tensor_grad(x), 8 * 9 * 2);
}

static void test_tape__create_graph_records_the_gradients_of_leaves(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(2);
    tsr_backward(tape, total(tsr_mul(tsr_mul(x, x), x)), &create);
    tsr_tensor *g = tsr_tensor_grad(x);
    assert_values(g, 12);
    assert_values(gradient(tape, g, vector(1), x, NULL), 12); /* 6 x */
}

/* ---- hooks ---- */

struct seen {
    int calls;
    double value;
    double factor; /* not 0: the gradient is replaced by itself times this */
};

static tsr_tensor *look(tsr_tensor *grad, void *user)
{
    struct seen *seen = user;
    seen->calls++;
    seen->value = tsr_tensor_item(grad);
    return seen->factor == 0.0 ? NULL : tsr_mul(grad, vector(seen->factor));
}

static void test_tape__a_hook_sees_the_complete_gradient_once(void **state)
{
    (void)state;
    struct seen on_leaf = {0}, on_inner = {0};
    tsr_tensor *x = leaf(3);
    assert_int_equal(tsr_grad_hook_add(x, look, &on_leaf), TSR_STATUS_OK);
    tsr_tensor *y = tsr_mul(x, x);
    assert_int_equal(tsr_grad_hook_add(y, look, &on_inner), TSR_STATUS_OK);
    tsr_backward(tape, total(tsr_add(tsr_mul(y, y), tsr_add(y, x))), NULL);
    assert_ok();
    assert_int_equal(on_inner.calls, 1);
    assert_true(on_inner.value == 2 * 9 + 1);
    assert_int_equal(on_leaf.calls, 1);
    assert_true(on_leaf.value == 19 * 6 + 1);
    /* The leaf's hook stays; the inner one went with the tape's nodes. */
    tsr_backward(tape, total(tsr_mul(x, x)), NULL);
    assert_int_equal(on_inner.calls, 1);
    assert_int_equal(on_leaf.calls, 2);
    assert_true(on_leaf.value == 6); /* of this walk, not what has accumulated */
    assert_values(tsr_tensor_grad(x), 121);
}

static void test_tape__hooks_replace_gradients_in_order(void **state)
{
    (void)state;
    struct seen doubled = {.factor = 2}, tripled = {.factor = 3}, after = {0};
    tsr_tensor *x = leaf(5);
    tsr_grad_hook_add(x, look, &doubled);
    tsr_grad_hook_add(x, look, &after);
    tsr_tensor *y = tsr_mul(x, x);
    tsr_grad_hook_add(y, look, &tripled);
    tsr_tensor *loss = total(y);
    assert_values(gradient(tape, y, vector(1), x, &retain), 60);
    assert_true(after.value == 60 && doubled.value == 30);
    tsr_backward(tape, loss, NULL);
    assert_values(tsr_tensor_grad(x), 60);
}

static tsr_tensor *misfit(tsr_tensor *grad, void *user)
{
    (void)grad, (void)user;
    return vector(1, 2, 3);
}

static tsr_tensor *failing(tsr_tensor *grad, void *user)
{
    (void)user;
    tsr_fail(TSR_STATUS_NUMERIC, "hook: no");
    return grad;
}

static tsr_tensor *walking(tsr_tensor *grad, void *user)
{
    tsr_backward(tape, user, NULL);
    return grad;
}

/* ---- inputs that are computed again ---- */

static tsr_tensor *some(int64_t rows, int64_t columns)
{
    tsr_tensor *t = tsr_empty(TSR_DTYPE_F64, TSR_SHAPE(rows, columns));
    tsr_rng rng = tsr_rng_make((uint64_t)(rows * 1000 + columns), 0, 0, 0);
    double *data = tsr_tensor_data_mut(t);
    for (int64_t i = 0; i < rows * columns; i++) data[i] = tsr_rng_uniform(&rng) - 0.5;
    return tsr_require_grad(t, true);
}

/* A linear map of a chain of two cheap ops: gradients as if their results were kept. */
static void test_tape__cheap_results_are_not_kept(void **state)
{
    (void)state;
    enum { ROWS = 64, D = 256 };
    tsr_tensor *x = some(ROWS, D), *w = some(5, D), *h, *y;
    total(x); /* the tape has its memory */
    size_t before = tsr_pool_stats_get().in_use;
    tsr_scope scope = tsr_scope_open();
    h = tsr_gelu(tsr_layer_norm(x, NULL, NULL, 1e-6), false);
    y = tsr_scope_return(&scope, tsr_linear(h, w, NULL));
    assert_true(tsr_pool_stats_get().in_use - before < ROWS * D * sizeof(double));
    tsr_tensor *grads[2];
    tsr_grad(tape, TSR_TENSORS(total(y)), TSR_NO_TENSORS, TSR_TENSORS(x, w), grads, &retain);
    /* dw and dh of the map alone, whose h is a leaf; then dx, whose h nobody reads. */
    h = tsr_gelu(tsr_layer_norm(x, NULL, NULL, 1e-6), false);
    tsr_tensor *own = tsr_require_grad(tsr_detach(h), true), *wanted[2];
    y = tsr_linear(own, w, NULL);
    tsr_grad(tape, TSR_TENSORS(total(y)), TSR_NO_TENSORS, TSR_TENSORS(own, w), wanted, &retain);
    assert_same(grads[1], wanted[1]);
    assert_same(grads[0], gradient(tape, h, wanted[0], x, &retain));
}

static void chain(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    tsr_tensor *normed = tsr_layer_norm(in.at[0], NULL, NULL, 1e-6);
    out[0] = tsr_linear(tsr_gelu(tsr_linear(normed, in.at[1], NULL), false), in.at[2], NULL);
}

static void test_tape__second_derivatives_of_what_is_computed_again(void **state)
{
    (void)state;
    tsr_tensors in = TSR_TENSORS(some(3, 4), some(5, 4), some(2, 5));
    assert_int_equal(tsr_gradcheck(chain, NULL, in, 1, NULL, NULL), TSR_STATUS_OK);
    assert_int_equal(tsr_gradgradcheck(chain, NULL, in, 1, NULL, NULL), TSR_STATUS_OK);
}

/* What is computed again does not notice that its first copy was overwritten; that its own input was is an error. */
static void test_tape__modified_inputs_of_what_is_computed_again(void **state)
{
    (void)state;
    tsr_tensor *x = some(3, 4), *w = some(2, 4), *grads[2];
    tsr_tensor *inner = tsr_affine(x, 2.0, 0.0), *h = tsr_gelu(inner, false);
    tsr_tensor *y = total(tsr_linear(h, w, NULL));
    grads[0] = gradient(tape, y, NULL, w, &retain);
    tsr_tensor_fill(h, 7.0);
    grads[1] = gradient(tape, y, NULL, w, &retain);
    assert_same(grads[1], grads[0]);
    tsr_tensor_fill(inner, 7.0);
    assert_null(gradient(tape, y, NULL, w, &retain));
    assert_failed(TSR_STATUS_STATE, "gelu: a tensor [3, 4] that its backward needs was modified");
}

static void test_tape__hook_errors(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(5), *y = tsr_mul(x, x);
    tsr_grad_hook_add(y, misfit, NULL);
    tsr_backward(tape, total(y), NULL);
    assert_failed(TSR_STATUS_SHAPE, "grad hook: backward gave input 0 a gradient of f64 [3]");
    assert_null(tsr_tensor_grad(x));
    y = tsr_mul(x, x);
    tsr_grad_hook_add(y, failing, NULL);
    tsr_backward(tape, total(y), NULL);
    assert_failed(TSR_STATUS_NUMERIC, "hook: no");
    y = tsr_mul(x, x);
    tsr_tensor *loss = total(y);
    tsr_grad_hook_add(y, walking, loss);
    tsr_backward(tape, loss, NULL);
    assert_failed(TSR_STATUS_STATE, "backward: called from a backward function or a hook");
    tsr_grad_hook_add(vector(1), look, NULL);
    assert_failed(TSR_STATUS_STATE, "grad_hook_add: tensor needs no gradient");
    tsr_grad_hook_add(NULL, look, NULL);
    assert_failed(TSR_STATUS_ARGUMENT, "grad_hook_add: tensor is NULL");
    /* The tape works on after a failed walk. */
    tsr_backward(tape, total(tsr_mul(x, x)), NULL);
    assert_values(tsr_tensor_grad(x), 10);
}

/* ---- recompute ---- */

struct net {
    tsr_tensor *w1, *w2;
    struct net *inside; /* recompute inside recompute */
    int calls;
};

/* y0 = e^(w1 x) w2, y1 = x y0 */
static void net(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    struct net *net_ = user;
    net_->calls++;
    if (net_->inside != NULL) {
        tsr_recompute(net, net_->inside, in, out, n_out);
        return;
    }
    out[0] = tsr_mul(tsr_exp(tsr_mul(net_->w1, in.at[0])), net_->w2);
    if (n_out > 1) out[1] = tsr_mul(in.at[0], out[0]);
}

struct run {
    tsr_tensor *loss, *x, *w1, *w2;
};

/* Loss and gradients of x and the parameters, which net() reaches through its user pointer. */
static struct run run(bool recompute, bool x_wanted, int n_out, struct net *n)
{
    tsr_tensor *x = vector(0.3, -0.7), *out[2] = {NULL, NULL};
    struct run r = {.x = tsr_require_grad(x, x_wanted)};
    r.w1 = leaf(1.1, 0.2);
    r.w2 = leaf(-0.4, 2.0);
    for (struct net *level = n; level != NULL; level = level->inside) {
        *level = (struct net){r.w1, r.w2, level->inside, 0};
    }
    if (recompute) {
        tsr_recompute(net, n, TSR_TENSORS(x), out, n_out);
        assert_int_equal(tsr_tape_length(tape), 1);
    } else {
        net(TSR_TENSORS(x), out, n_out, n);
    }
    r.loss = total(tsr_mul(out[n_out - 1], out[n_out - 1]));
    tsr_backward(tape, r.loss, NULL);
    assert_ok();
    return r;
}

static void test_tape__recompute_equals_plain(void **state)
{
    (void)state;
    for (int x_wanted = 0; x_wanted < 2; x_wanted++) {
        for (int n_out = 1; n_out < 3; n_out++) {
            for (int depth = 0; depth < 3; depth++) {
                struct net n = {0}, levels[3] = {{.inside = &levels[1]}, {.inside = &levels[2]}};
                struct net *m = &levels[2 - depth];
                struct run plain = run(false, x_wanted, n_out, &n);
                struct run again = run(true, x_wanted, n_out, m);
                assert_same(again.loss, plain.loss);
                assert_same(tsr_tensor_grad(again.w1), tsr_tensor_grad(plain.w1));
                assert_same(tsr_tensor_grad(again.w2), tsr_tensor_grad(plain.w2));
                if (x_wanted) assert_same(tsr_tensor_grad(again.x), tsr_tensor_grad(plain.x));
                if (!x_wanted) assert_null(tsr_tensor_grad(again.x));
                assert_int_equal(m->calls, 2);
                assert_int_equal(levels[2].calls, depth + 2);
            }
        }
    }
}

/* A parameter that is used outside too, before and after. */
static void test_tape__recompute_shares_parameters_with_the_rest(void **state)
{
    (void)state;
    tsr_tensor *grads[2];
    for (int pass = 0; pass < 2; pass++) {
        struct net n = {.w1 = leaf(1.5), .w2 = leaf(0.5)};
        tsr_tensor *x = tsr_mul(n.w1, n.w2), *y = NULL;
        if (pass == 0) net(TSR_TENSORS(x), &y, 1, &n);
        if (pass == 1) tsr_recompute(net, &n, TSR_TENSORS(x), &y, 1);
        tsr_backward(tape, total(tsr_mul(y, n.w1)), NULL);
        assert_ok();
        grads[pass] = tsr_add(tsr_tensor_grad(n.w1), tsr_mul(tsr_tensor_grad(n.w2), vector(100)));
    }
    assert_close(grads[1], grads[0], 1e-15);
}

/* Parameters that the tape meets for the first time inside a walk, in two blocks. */
static void test_tape__recompute_twice_with_the_same_parameters(void **state)
{
    (void)state;
    tsr_tensor *grads[2];
    for (int pass = 0; pass < 2; pass++) {
        struct net n = {.w1 = leaf(0.7), .w2 = leaf(0.5)};
        tsr_tensor *y = vector(0.3);
        for (int i = 0; i < 2; i++) {
            tsr_tensor *x = y;
            if (pass == 0) net(TSR_TENSORS(x), &y, 1, &n);
            if (pass == 1) tsr_recompute(net, &n, TSR_TENSORS(x), &y, 1);
        }
        tsr_backward(tape, total(y), NULL);
        assert_ok();
        grads[pass] = tsr_concat(TSR_TENSORS(tsr_tensor_grad(n.w1), tsr_tensor_grad(n.w2)), 0);
    }
    assert_close(grads[1], grads[0], 1e-15);
}

static void test_tape__grad_by_a_parameter_inside_recompute(void **state)
{
    (void)state;
    struct net n = {.w1 = leaf(1.5), .w2 = leaf(0.5)};
    tsr_tensor *x = vector(2), *y = NULL, *g = NULL, *wanted = NULL;
    net(TSR_TENSORS(x), &y, 1, &n);
    wanted = gradient(tape, y, vector(1), n.w1, NULL);
    tsr_recompute(net, &n, TSR_TENSORS(x), &y, 1);
    g = gradient(tape, y, vector(1), n.w1, NULL);
    assert_same(g, wanted);
    assert_null(tsr_tensor_grad(n.w1));
    assert_null(tsr_tensor_grad(n.w2));
}

static void test_tape__second_derivative_through_recompute(void **state)
{
    (void)state;
    tsr_tensor *second[2];
    for (int pass = 0; pass < 2; pass++) {
        struct net n = {.w1 = leaf(1.5), .w2 = leaf(0.5)};
        tsr_tensor *x = leaf(0.25), *y = NULL;
        if (pass == 0) net(TSR_TENSORS(x), &y, 1, &n);
        if (pass == 1) tsr_recompute(net, &n, TSR_TENSORS(x), &y, 1);
        tsr_tensor *g = gradient(tape, y, vector(1), x, &create);
        tsr_backward(tape, total(tsr_mul(g, g)), NULL);
        assert_ok();
        second[pass] = tsr_concat(
            TSR_TENSORS(tsr_tensor_grad(x), tsr_tensor_grad(n.w1), tsr_tensor_grad(n.w2)), 0);
    }
    assert_close(second[1], second[0], 1e-14);
}

static void identity(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = in.at[0];
}

static void broken(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_mul(in.at[0], vector(1, 2, 3));
}

static void test_tape__recompute_of_odd_functions(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(2), *y = x;
    tsr_recompute(identity, NULL, TSR_TENSORS(x), &y, 1);
    assert_ptr_not_equal(y, x);
    assert_values(gradient(tape, tsr_mul(y, y), vector(1), x, NULL), 4);
    tsr_tensor *two = leaf(1, 2);
    assert_int_equal(tsr_recompute(broken, NULL, TSR_TENSORS(two), &y, 1), TSR_STATUS_SHAPE);
    assert_null(y);
    assert_failed(TSR_STATUS_SHAPE, "mul: a has shape [2] and b [3]");
}

/* ---- anomalies ---- */

static void nan_backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                         tsr_tensor **grad_inputs)
{
    (void)node, (void)grad_outputs;
    grad_inputs[0] = vector(NAN);
}

static const tsr_op nan_op = {.name = "nan_backward", .backward = nan_backward};

static void test_tape__anomaly_names_op_and_origin(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(1000);
    assert_false(tsr_anomaly_set(true));
    tsr_origin_push("blocks.3");
    tsr_origin_push("attn");
    assert_null(tsr_exp(x));
    assert_failed(TSR_STATUS_NUMERIC,
                  "anomaly: forward of exp in blocks.3.attn gave NaN or infinity");
    tsr_tensor *y =
        tsr_record(&nan_op, NULL, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(vector(1)));
    tsr_origin_pop();
    tsr_origin_pop();
    tsr_backward(tape, total(y), NULL);
    assert_failed(TSR_STATUS_NUMERIC,
                  "anomaly: backward of nan_backward in blocks.3.attn gave NaN or infinity for "
                  "input 0");
    assert_null(tsr_tensor_grad(x));
    /* What is not recorded is looked at too, and without an origin the message says none. */
    assert_null(tsr_exp(vector(1000)));
    assert_failed(TSR_STATUS_NUMERIC, "anomaly: forward of exp gave NaN or infinity");
    for (int i = 0; i < 100; i++) tsr_origin_push("deep");
    assert_non_null(tsr_exp(leaf(1)));
    for (int i = 0; i < 100; i++) tsr_origin_pop();
    assert_true(tsr_anomaly_set(false));
    assert_non_null(tsr_exp(x));
    assert_ok();
}

/* ---- modification of saved values ---- */

static void test_tape__saved_tensors_must_not_change(void **state)
{
    (void)state;
    for (int how = 0; how < 5; how++) {
        tsr_tensor *x = leaf(1, 2), *loss = total(tsr_mul(x, x));
        if (how == 0) *(double *)tsr_tensor_data_mut(x) = 5.0;
        if (how == 1) tsr_tensor_fill(x, 5.0);
        if (how == 2) tsr_tensor_copy(x, vector(5, 6));
        if (how == 3) tsr_tensor_fill(tsr_tensor_view(x, TSR_SHAPE(1), (int64_t[]){1}, 1), 0.0);
        if (how == 4) tsr_fill_normal(x, tsr_rng_make(1, 0, 0, 0), 0.0, 1.0);
        tsr_backward(tape, loss, NULL);
        assert_failed(TSR_STATUS_STATE,
                      "mul: a tensor [2] that its backward needs was modified since");
        assert_null(tsr_tensor_grad(x));
    }
    /* The sum keeps nothing, so that its operands may change. */
    tsr_tensor *x = leaf(1, 2), *loss = total(tsr_add(x, x));
    tsr_tensor_fill(x, 0.0);
    tsr_backward(tape, loss, NULL);
    assert_values(tsr_tensor_grad(x), 2, 2);
}

static void test_tape__history_that_is_gone(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(1), *y = tsr_mul(x, x);
    tsr_tape_reset(tape);
    assert_int_equal(tsr_tape_length(tape), 0);
    assert_null(tsr_mul(y, x));
    assert_failed(TSR_STATUS_STATE, "history is gone");
    assert_null(gradient(tape, y, NULL, x, NULL));
    assert_failed(TSR_STATUS_STATE, "history is gone");
    assert_int_equal(tsr_grad_hook_add(y, look, NULL), TSR_STATUS_STATE);
    tsr_status_clear();
    tsr_tensor *z = tsr_mul(tsr_detach(y), x); /* the way out that the message names */
    tsr_backward(tape, total(z), NULL);
    assert_values(tsr_tensor_grad(x), 1);
    bool was = tsr_recording_set(false);
    assert_non_null(tsr_mul(y, x)); /* its values are still good */
    tsr_recording_set(was);
    assert_ok();
}

static void wrong_shape_backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                                 tsr_tensor **grad_inputs)
{
    (void)node, (void)grad_outputs;
    grad_inputs[0] = vector(1, 2, 3);
}

static void test_tape__gradients_must_fit(void **state)
{
    (void)state;
    static const tsr_op op = {.name = "wrong_shape", .backward = wrong_shape_backward};
    tsr_tensor *x = leaf(1);
    tsr_tensor *y = tsr_record(&op, NULL, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(vector(1)));
    tsr_backward(tape, total(y), NULL);
    assert_failed(TSR_STATUS_SHAPE,
                  "wrong_shape: backward gave input 0 a gradient of f64 [3], expected f64 [1]");
    assert_null(tsr_tensor_grad(x));
}

/* ---- several tapes, several threads ---- */

static void test_tape__a_second_tape(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(3), *y = tsr_mul(x, x);
    tsr_tape *inner = tsr_tape_open();
    assert_ptr_equal(tsr_tape_current(), inner);
    assert_null(tsr_mul(y, x)); /* y belongs to the tape outside */
    assert_failed(TSR_STATUS_STATE,
                  "history is gone (its tape was reset, walked or is another one)");
    tsr_tensor *z = tsr_mul(tsr_detach(y), x);
    tsr_backward(tape, total(z), NULL);
    assert_failed(TSR_STATUS_STATE, "backward: the tape is not the one this thread opened last");
    assert_values(gradient(inner, z, vector(1), x, NULL), 9);
    assert_int_equal(tsr_tape_length(tape), 1);
    tsr_tape_close(&inner);
    assert_null(inner);
    assert_ptr_equal(tsr_tape_current(), tape);
    assert_values(gradient(tape, y, vector(1), x, NULL), 6);
    tsr_tape_close(&inner); /* NULL is fine */
}

static void test_tape__tapes_close_in_any_order(void **state)
{
    (void)state;
    tsr_tape *a = tsr_tape_open(), *b = tsr_tape_open();
    tsr_tape_close(&a);
    assert_ptr_equal(tsr_tape_current(), b);
    tsr_tensor *x = leaf(3);
    assert_values(gradient(b, tsr_mul(x, x), vector(1), x, NULL), 6);
    tsr_tape_close(&b);
    assert_ptr_equal(tsr_tape_current(), tape);
}

/* A tape of its own, in the middle of a step: a virtual adversary, a meta-learner. */
static void test_tape__jvp_and_friends_leave_the_tape_alone(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(2), *y = tsr_mul(x, x), *one = vector(1), *result = NULL;
    struct net n = {.w1 = vector(1), .w2 = vector(1)};
    tsr_vjp(net, &n, TSR_TENSORS(x), TSR_TENSORS(one), NULL, &result);
    assert_ok();
    assert_int_equal(tsr_tape_length(tape), 1);
    tsr_backward(tape, total(tsr_mul(y, result)), NULL);
    tsr_tensor *wanted = vector(4 * exp(2.0));
    assert_close(tsr_tensor_grad(x), wanted, 1e-14);
}

enum { THREADS = 4, STEPS = 50 };

struct worker {
    tsr_tensor *w1, *w2; /* shared by all threads */
    double grads[STEPS][2];
    bool ok;
};

static void *work(void *user)
{
    struct worker *w = user;
    w->ok = tsr_tape_current() == NULL && tsr_status_get() == TSR_STATUS_OK;
    tsr_tape *own = tsr_tape_open();
    for (int step = 0; step < STEPS; step++) {
        tsr_scope scope = tsr_scope_open();
        struct net n = {.w1 = w->w1, .w2 = w->w2};
        tsr_tensor *x = vector(step / 50.0), *y = NULL, *g[2] = {0};
        if (step % 2 == 0) net(TSR_TENSORS(x), &y, 1, &n);
        if (step % 2 == 1) tsr_recompute(net, &n, TSR_TENSORS(x), &y, 1);
        tsr_grad(own, TSR_TENSORS(y), TSR_NO_TENSORS, TSR_TENSORS(w->w1, w->w2), g, NULL);
        for (int i = 0; i < 2; i++) w->grads[step][i] = tsr_tensor_item(g[i]);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
    w->ok = w->ok && tsr_status_get() == TSR_STATUS_OK;
    tsr_fail(TSR_STATUS_IO, "of this thread alone");
    tsr_tape_close(&own);
    return NULL;
}

static void test_tape__threads_with_shared_parameters(void **state)
{
    (void)state;
    static struct worker workers[THREADS + 1];
    tsr_tensor *w1 = leaf(1.5), *w2 = leaf(0.5);
    pthread_t threads[THREADS];
    for (int t = 0; t <= THREADS; t++) workers[t] = (struct worker){.w1 = w1, .w2 = w2};
    for (int t = 0; t < THREADS; t++) {
        assert_int_equal(pthread_create(&threads[t], NULL, work, &workers[t]), 0);
    }
    for (int t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
    assert_ok(); /* their failures are theirs */
    assert_ptr_equal(tsr_tape_current(), tape);
    pthread_create(&threads[0], NULL, work, &workers[THREADS]);
    pthread_join(threads[0], NULL);
    for (int t = 0; t < THREADS; t++) {
        assert_true(workers[t].ok);
        assert_memory_equal(workers[t].grads, workers[THREADS].grads, sizeof workers[t].grads);
    }
    assert_null(tsr_tensor_grad(w1));
}

/* ---- size ---- */

static void test_tape__many_nodes_and_leaves(void **state)
{
    (void)state;
    enum { LEAVES = 3000 };
    tsr_tensor *leaves[LEAVES], *sum = vector(0);
    for (int i = 0; i < LEAVES; i++) {
        leaves[i] = leaf(i);
        sum = tsr_add(sum, tsr_mul(leaves[i], leaves[i]));
    }
    assert_int_equal(tsr_tape_length(tape), 2 * LEAVES);
    tsr_backward(tape, total(sum), NULL);
    assert_ok();
    for (int i = 0; i < LEAVES; i++) {
        assert_true(tsr_tensor_item(tsr_tensor_grad(leaves[i])) == 2.0 * i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tape_test(test_tape__records_only_what_needs_a_gradient),
        tape_test(test_tape__leaves_are_floating_and_without_history),
        tape_test(test_tape__backward_accumulates_in_leaves),
        tape_test(test_tape__leaf_gradients_share_nothing),
        tape_test(test_tape__a_diamond_sums_its_paths),
        tape_test(test_tape__grad_of_inner_tensors_and_leaves),
        tape_test(test_tape__grad_of_several_outputs),
        tape_test(test_tape__grad_errors),
        tape_test(test_tape__backward_errors),
        tape_test(test_tape__retained_graphs_walk_again),
        tape_test(test_tape__higher_derivatives),
        tape_test(test_tape__backward_through_a_gradient),
        tape_test(test_tape__create_graph_records_the_gradients_of_leaves),
        tape_test(test_tape__a_hook_sees_the_complete_gradient_once),
        tape_test(test_tape__hooks_replace_gradients_in_order),
        tape_test(test_tape__cheap_results_are_not_kept),
        tape_test(test_tape__second_derivatives_of_what_is_computed_again),
        tape_test(test_tape__modified_inputs_of_what_is_computed_again),
        tape_test(test_tape__hook_errors),
        tape_test(test_tape__recompute_equals_plain),
        tape_test(test_tape__recompute_shares_parameters_with_the_rest),
        tape_test(test_tape__recompute_twice_with_the_same_parameters),
        tape_test(test_tape__grad_by_a_parameter_inside_recompute),
        tape_test(test_tape__second_derivative_through_recompute),
        tape_test(test_tape__recompute_of_odd_functions),
        tape_test(test_tape__anomaly_names_op_and_origin),
        tape_test(test_tape__saved_tensors_must_not_change),
        tape_test(test_tape__history_that_is_gone),
        tape_test(test_tape__gradients_must_fit),
        tape_test(test_tape__a_second_tape),
        tape_test(test_tape__tapes_close_in_any_order),
        tape_test(test_tape__jvp_and_friends_leave_the_tape_alone),
        tape_test(test_tape__threads_with_shared_parameters),
        tape_test(test_tape__many_nodes_and_leaves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
