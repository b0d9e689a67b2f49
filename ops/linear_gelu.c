/*
 * y = gelu(u), u[..., o] = sum_i x[..., i] W[o, i] + b[o]: linear (ops/linear.c) and gelu (ops/gelu.c), bit for bit.
 *
 * du = dy gelu'(u), and from there on linear's gradients. u is kept for that, y is not: it is gelu(u) again. Where nothing is
 * recorded there is no u: gelu overwrites it.
 */
#include "ops/gelu.h"
#include "ops/linear.h"
#include "ops/ops.h"
#include "ops/samples.h"

struct linear_gelu {
    bool tanh;
};

enum { SAVED_U };

static tsr_tensor *again(const tsr_node *node, int o)
{
    (void)o;
    const struct linear_gelu *s = tsr_node_block(node);
    return tsr_gelu__forward(tsr_node_saved(node, SAVED_U), s->tanh);
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct linear_gelu *s = tsr_node_block(node);
    tsr_tensor *du = tsr_gelu__backward(tsr_node_saved(node, SAVED_U), grad_outputs[0], s->tanh);
    if (du != NULL) tsr_linear__backward(node, du, grad_inputs);
}

static void definition(const void *block, tsr_tensors in, tsr_tensor **outputs)
{
    const struct linear_gelu *s = block;
    outputs[0] = tsr_gelu(tsr_linear(in.at[0], in.at[1], in.at[2]), s->tanh);
}

static const tsr_op op = {.name = "linear_gelu",
                          .block_size = sizeof(struct linear_gelu),
                          .backward = backward,
                          .definition = definition,
                          .again = again};

tsr_tensor *tsr_linear_gelu(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias, bool tanh)
{
    if (x == NULL || weight == NULL || !tsr_linear__takes(op.name, x, weight, bias)) return NULL;
    struct linear_gelu s = {tanh};
    tsr_tensors in = TSR_TENSORS(x, weight, bias);
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *u = tsr_linear__forward(x, weight, bias), *y = u;
    if (u != NULL && tsr_needs_grad(in)) {
        y = tsr_gelu__forward(u, tanh);
    } else if (u != NULL) {
        void *data = tsr_tensor_data_mut(u);
        tsr_gelu__apply(tsr_tensor_dtype(u), data, data, tsr_tensor_numel(u), tanh);
    }
    y = tsr_record(&op, &s, in, TSR_TENSORS(y != u ? u : NULL), TSR_TENSORS(y));
    return tsr_scope_return(&scope, y);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const tsr_sample *sample = user;
    out[0] = tsr_linear_gelu(in.at[0], in.at[1], in.at[2], sample->args != NULL);
}

static const tsr_sample samples[] = {
    {"matrix", 3, 1, {{{2, {3, 5}}}, {{2, {4, 5}}}, {{1, {4}}}}, call},
    {"tanh", 3, 1, {{{2, {3, 5}}}, {{2, {4, 5}}}, {{1, {4}}}}, call, "tanh"},
    {"bias NULL", 3, 1, {{{2, {3, 5}}}, {{2, {4, 5}}, -1.0, 1.0}, {.absent = true}}, call},
    {"batch", 3, 1, {{{3, {2, 3, 7}}}, {{2, {5, 7}}}, {{1, {5}}}}, call},
    {"vector", 3, 1, {{{1, {5}}}, {{2, {3, 5}}}, {{1, {3}}}}, call},
    {"no rows", 3, 1, {{{2, {0, 5}}}, {{2, {4, 5}}}, {{1, {4}}}}, call},
    {"no inputs", 3, 1, {{{2, {3, 0}}}, {{2, {4, 0}}}, {{1, {4}}}}, call},
};
TSR_SAMPLES_BF16(linear_gelu, samples);
