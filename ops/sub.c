/*
 * r = x - y, broadcast. dx = dr and dy = -dr, each summed over the dimensions along which its operand was stretched.
 */
#include "ops/elementwise.h"
#include "ops/ops.h"
#include "ops/samples.h"

TSR_BINARY(subtract, x - y, x - y)

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    tsr_tensor *g = grad_outputs[0];
    if (tsr_node_wants(node, 0)) grad_inputs[0] = tsr_sum_to(g, tsr_node_input_shape(node, 0));
    if (tsr_node_wants(node, 1)) {
        grad_inputs[1] = tsr_neg(tsr_sum_to(g, tsr_node_input_shape(node, 1)));
    }
}

static const tsr_op op = {.name = "sub", .backward = backward};

tsr_tensor *tsr_sub(tsr_tensor *a, tsr_tensor *b)
{
    tsr_tensor *r = tsr_elementwise__broadcast(op.name, a, b, TSR_DTYPE_COUNT);
    if (r == NULL) return NULL;
    subtract(r, a, b);
    return tsr_record(&op, NULL, TSR_TENSORS(a, b), TSR_NO_TENSORS, TSR_TENSORS(r));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_sub(in.at[0], in.at[1]);
}

static const tsr_sample samples[] = {
    {"same shape", 2, 1, {{{2, {3, 5}}}, {{2, {3, 5}}}}, call},
    {"row and column", 2, 1, {{{2, {1, 7}}}, {{2, {3, 1}}}}, call},
    {"missing dimensions", 2, 1, {{{1, {4}}}, {{3, {2, 3, 4}}}}, call},
    {"scalar", 2, 1, {{{0}}, {{2, {2, 3}}}}, call},
    {"empty", 2, 1, {{{2, {0, 3}}}, {{1, {3}}}}, call},
};
TSR_SAMPLES_BF16(sub, samples);
