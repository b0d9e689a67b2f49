/* What tsr_record() promises to operators that are written outside the library. */
#include "tests/test.h"

#include "ops/ops.h"

#define vector(...)                                                                                \
    tsr_from(TSR_DTYPE_F64, TSR_SHAPE(sizeof((double[]){__VA_ARGS__}) / sizeof(double)),           \
             (const double[]){__VA_ARGS__})
#define leaf(...) tsr_require_grad(vector(__VA_ARGS__), true)

static const tsr_backward_options retain = {.retain_graph = true}, create = {.create_graph = true};

static tsr_tensor *gradient(tsr_tape *tape, tsr_tensor *y, tsr_tensor *x,
                            const tsr_backward_options *options)
{
    tsr_tensor *g = NULL;
    tsr_tensor *v = tsr_full(TSR_DTYPE_F64, tsr_tensor_shape(y), 1.0);
    tsr_grad(tape, TSR_TENSORS(y), TSR_TENSORS(v), TSR_TENSORS(x), &g, options);
    return g;
}

/* ---- the block ---- */

struct power {
    char odd; /* so that the double behind it shows a wrong alignment */
    double factor;
    long double also_aligned;
};

static void power_backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                           tsr_tensor **grad_inputs)
{
    const struct power *s = tsr_node_block(node);
    assert_int_equal((uintptr_t)s % _Alignof(struct power), 0);
    assert_true(s->odd == 'o' && s->also_aligned == 2.5L);
    grad_inputs[0] = tsr_mul(grad_outputs[0], tsr_scalar(TSR_DTYPE_F64, s->factor));
}

static const tsr_op power_op = {
    .name = "power", .block_size = sizeof(struct power), .backward = power_backward};

static void test_custom_op__the_block_is_copied_and_aligned(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = leaf(1), *y = x;
    for (int i = 0; i < 5; i++) {
        struct power s = {'o', i + 1.0, 2.5L};
        tsr_tensor *next = tsr_detach(y);
        y = tsr_record(&power_op, &s, TSR_TENSORS(y), TSR_NO_TENSORS, TSR_TENSORS(next));
        memset(&s, 0xff, sizeof s);
    }
    assert_same(gradient(tape, y, x, NULL), vector(120));
    tsr_tape_close(&tape);
}

/* ---- many inputs, absent ones, several outputs ---- */

enum { MANY = 40 };

/* y0 = sum of the inputs that are there, y1 = its square; the block counts the calls. */
struct many {
    int *calls;
    bool expect[2]; /* which outputs have a gradient */
};

static void many_backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                          tsr_tensor **grad_inputs)
{
    const struct many *s = tsr_node_block(node);
    tsr_tensor *sum = tsr_node_saved(node, 0), *g = NULL;
    ++*s->calls;
    assert_null(tsr_node_saved(node, 1));
    for (int o = 0; o < 2; o++) assert_int_equal(grad_outputs[o] != NULL, s->expect[o]);
    if (grad_outputs[0] != NULL) g = grad_outputs[0];
    if (grad_outputs[1] != NULL) {
        tsr_tensor *more = tsr_mul(tsr_add(sum, sum), grad_outputs[1]);
        g = g == NULL ? more : tsr_add(g, more);
    }
    for (int i = 0; i < MANY; i++) {
        assert_null(grad_inputs[i]);
        if (tsr_node_wants(node, i)) grad_inputs[i] = g;
    }
}

static const tsr_op many_op = {
    .name = "many", .block_size = sizeof(struct many), .backward = many_backward};

static void many(tsr_tensors in, struct many *s, tsr_tensor *out[3])
{
    bool was = tsr_recording_set(false);
    tsr_tensor *sum = vector(0);
    for (int i = 0; i < in.n; i++) sum = in.at[i] != NULL ? tsr_add(sum, in.at[i]) : sum;
    out[0] = sum;
    out[1] = tsr_mul(sum, sum);
    out[2] = tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(3)); /* indices, say */
    tsr_recording_set(was);
    tsr_record(&many_op, s, in, TSR_TENSORS(out[0], NULL), (tsr_tensors){out, 3});
}

static void test_custom_op__inputs_and_outputs(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *in[MANY] = {NULL}, *out[3], *g[3];
    int calls = 0;
    for (int i = 1; i < MANY; i++) in[i] = i % 2 ? leaf(i) : vector(i);
    tsr_tensor *v = vector(10), *w = vector(1);
    double sum = MANY * (MANY - 1) / 2.0;
    for (int which = 1; which < 4; which++) {
        struct many s = {&calls, {(which & 1) != 0, (which & 2) != 0}};
        many((tsr_tensors){in, MANY}, &s, out);
        assert_true(tsr_requires_grad(out[0]) && tsr_requires_grad(out[1]));
        assert_false(tsr_requires_grad(out[2]));
        tsr_tensor *outputs[2], *cotangents[2];
        int n = 0;
        if (s.expect[0]) outputs[n] = out[0], cotangents[n++] = v;
        if (s.expect[1]) outputs[n] = out[1], cotangents[n++] = w;
        tsr_grad(tape, (tsr_tensors){outputs, n}, (tsr_tensors){cotangents, n},
                 TSR_TENSORS(in[1], in[3], in[39]), g, NULL);
        assert_ok();
        double wanted = (s.expect[0] ? 10.0 : 0.0) + (s.expect[1] ? 2.0 * sum : 0.0);
        for (int i = 0; i < 3; i++) assert_same(g[i], vector(wanted));
    }
    assert_int_equal(calls, 3);
    /* Nobody asks: backward is not called. */
    struct many s = {&calls, {true, false}};
    tsr_tensor *other = leaf(5), *y = tsr_mul(other, other);
    many((tsr_tensors){in, MANY}, &s, out);
    assert_same(gradient(tape, y, other, NULL), vector(10));
    assert_int_equal(calls, 3);
    tsr_tape_close(&tape);
}

static void test_custom_op__the_same_tensor_twice(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *in[MANY] = {NULL}, *out[3];
    int calls = 0;
    struct many s = {&calls, {true, false}};
    in[0] = in[7] = in[21] = leaf(2);
    many((tsr_tensors){in, MANY}, &s, out);
    assert_same(gradient(tape, out[0], in[0], NULL), vector(3));
    tsr_tape_close(&tape);
}

/* ---- no backward, a failing backward, a silent one ---- */

static void test_custom_op__without_backward_nothing_is_recorded(void **state)
{
    (void)state;
    static const tsr_op op = {.name = "rounded"};
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = leaf(1.5), *y = vector(2);
    assert_ptr_equal(tsr_record(&op, NULL, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y)), y);
    assert_false(tsr_requires_grad(y));
    assert_int_equal(tsr_tape_length(tape), 0);
    assert_null(tsr_record(&op, NULL, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(NULL)));
    assert_ok();
    tsr_tape_close(&tape);
}

static void failing_backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                             tsr_tensor **grad_inputs)
{
    (void)node;
    grad_inputs[0] = grad_outputs[0];
    tsr_fail(TSR_STATUS_NUMERIC, "custom: did not converge");
}

static void silent_backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                            tsr_tensor **grad_inputs)
{
    (void)node, (void)grad_outputs, (void)grad_inputs;
}

static void test_custom_op__failing_and_silent_backwards(void **state)
{
    (void)state;
    static const tsr_op failing = {.name = "failing", .backward = failing_backward};
    static const tsr_op silent = {.name = "silent", .backward = silent_backward};
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = leaf(1), *y = vector(2);
    tsr_record(&failing, NULL, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
    assert_null(gradient(tape, y, x, NULL));
    assert_failed(TSR_STATUS_NUMERIC, "custom: did not converge");
    y = vector(2);
    tsr_record(&silent, NULL, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
    assert_same(gradient(tape, y, x, NULL), vector(0)); /* NULL means zero */
    tsr_tape_close(&tape);
}

/* ---- fused ---- */

static int kernel_calls, definition_calls;

static void sixth_backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                           tsr_tensor **grad_inputs)
{
    kernel_calls++;
    assert_null(tsr_tape_current()); /* a kernel runs unrecorded */
    tsr_tensor *x = tsr_node_input(node, 0), *x2 = tsr_mul(x, x);
    tsr_tensor *six = tsr_scalar(TSR_DTYPE_F64, 6.0);
    assert_null(tsr_node_input(node, 1));
    if (!tsr_node_wants(node, 0)) return;
    grad_inputs[0] = tsr_mul(tsr_mul(tsr_mul(x2, x2), tsr_mul(x, six)), grad_outputs[0]);
}

static void sixth_definition(const void *block, tsr_tensors in, tsr_tensor **out)
{
    definition_calls++;
    assert_int_equal(*(const int *)block, 42);
    assert_int_equal(in.n, 2);
    assert_null(in.at[1]);
    tsr_tensor *x3 = tsr_mul(tsr_mul(in.at[0], in.at[0]), in.at[0]);
    out[0] = tsr_mul(x3, x3);
}

static const tsr_op sixth_op = {.name = "sixth",
                                .block_size = sizeof(int),
                                .backward = sixth_backward,
                                .definition = sixth_definition};

static tsr_tensor *sixth(tsr_tensor *x)
{
    double v = tsr_tensor_item(x);
    return tsr_record(&sixth_op, &(int){42}, TSR_TENSORS(x, NULL), TSR_NO_TENSORS,
                      TSR_TENSORS(vector(pow(v, 6))));
}

static void test_custom_op__a_fused_op_is_its_definition_where_it_is_recorded(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = leaf(2), *y = sixth(x);
    assert_same(gradient(tape, y, x, &retain), vector(6 * 32));
    assert_int_equal(kernel_calls, 1);
    assert_int_equal(definition_calls, 0);
    tsr_tensor *g = gradient(tape, y, x, &create);
    assert_same(g, vector(6 * 32));
    assert_int_equal(kernel_calls, 1);
    assert_int_equal(definition_calls, 1);
    tsr_tensor *g2 = gradient(tape, g, x, &create);
    assert_same(g2, vector(30 * 16));
    assert_same(gradient(tape, g2, x, NULL), vector(120 * 8));
    assert_int_equal(kernel_calls, 1);
    tsr_tape_close(&tape);
}

/* Fused inside fused inside a chain: gradients pass through several definitions. */
static void test_custom_op__fused_ops_in_a_chain(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = leaf(1.1), *y = sixth(tsr_mul(sixth(x), x)); /* x^42 */
    tsr_tensor *g = gradient(tape, y, x, &create);
    tsr_tensor *wanted = vector(42 * pow(1.1, 41));
    assert_close(g, wanted, 1e-13);
    tsr_tensor *g2 = gradient(tape, g, x, NULL);
    wanted = vector(42 * 41 * pow(1.1, 40));
    assert_close(g2, wanted, 1e-13);
    tsr_tape_close(&tape);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_custom_op__the_block_is_copied_and_aligned),
        tsr_test(test_custom_op__inputs_and_outputs),
        tsr_test(test_custom_op__the_same_tensor_twice),
        tsr_test(test_custom_op__without_backward_nothing_is_recorded),
        tsr_test(test_custom_op__failing_and_silent_backwards),
        tsr_test(test_custom_op__a_fused_op_is_its_definition_where_it_is_recorded),
        tsr_test(test_custom_op__fused_ops_in_a_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
