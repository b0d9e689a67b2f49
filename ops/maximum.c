/*
 * r = the larger of x and y, broadcast; NaN if either is. dx = dr where x is the larger, dr / 2 where they are equal, and so
 * for y; each summed over the dimensions along which its operand was stretched.
 */
#include "ops/elementwise.h"
#include "ops/ops.h"
#include "ops/samples.h"

TSR_BINARY(pick, x > y || x != x ? x : y, x > y || x != x ? x : y)

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    tsr_tensor *a = tsr_node_saved(node, 0), *b = tsr_node_saved(node, 1), *g = grad_outputs[0];
    tsr_tensor *zero = tsr_scalar(tsr_tensor_dtype(g), 0.0);
    tsr_tensor *shared = tsr_where(tsr_eq(a, b), tsr_affine(g, 0.5, 0.0), zero);
    if (tsr_node_wants(node, 0)) {
        tsr_tensor *da = tsr_where(tsr_gt(a, b), g, shared);
        grad_inputs[0] = tsr_sum_to(da, tsr_tensor_shape(a));
    }
    if (tsr_node_wants(node, 1)) {
        tsr_tensor *db = tsr_where(tsr_gt(b, a), g, shared);
        grad_inputs[1] = tsr_sum_to(db, tsr_tensor_shape(b));
    }
}

static const tsr_op op = {.name = "maximum", .backward = backward};

tsr_tensor *tsr_maximum(tsr_tensor *a, tsr_tensor *b)
{
    tsr_tensor *r = tsr_elementwise__broadcast(op.name, a, b, TSR_DTYPE_COUNT);
    if (r == NULL) return NULL;
    pick(r, a, b);
    return tsr_record(&op, NULL, TSR_TENSORS(a, b), TSR_TENSORS(a, b), TSR_TENSORS(r));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_maximum(in.at[0], in.at[1]);
}

static const tsr_sample samples[] = {
    {"same shape", 2, 1, {{{2, {3, 5}}}, {{2, {3, 5}}}}, call},
    {"row and column", 2, 1, {{{2, {1, 7}}}, {{2, {3, 1}}}}, call},
    {"missing dimensions", 2, 1, {{{1, {4}}}, {{3, {2, 3, 4}}}}, call},
    {"scalar", 2, 1, {{{0}}, {{2, {2, 3}}}}, call},
    {"empty", 2, 1, {{{2, {0, 3}}}, {{1, {3}}}}, call},
};
TSR_SAMPLES_BF16(maximum, samples);
