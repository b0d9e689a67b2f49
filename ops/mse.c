/* r = (x - y)^2, elementwise. dx = 2 (x - y) dr, dy = -dx. */
#include "ops/elementwise.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

TSR_BINARY(square, (x - y) * (x - y), (x - y) * (x - y))

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    tsr_tensor *d = tsr_sub(tsr_node_saved(node, 0), tsr_node_saved(node, 1));
    tsr_tensor *dx = tsr_mul(grad_outputs[0], tsr_affine(d, 2.0, 0.0));
    if (tsr_node_wants(node, 0)) grad_inputs[0] = dx;
    if (tsr_node_wants(node, 1)) grad_inputs[1] = tsr_neg(dx);
}

static const tsr_op op = {.name = "mse", .backward = backward};

tsr_tensor *tsr_mse(tsr_tensor *x, tsr_tensor *y)
{
    if (x == NULL || y == NULL || !tsr_rows__same(op.name, "x", x, "y", y)) return NULL;
    tsr_tensor *r = tsr_empty_like(x);
    if (r == NULL) return NULL;
    square(r, x, y);
    return tsr_record(&op, NULL, TSR_TENSORS(x, y), TSR_TENSORS(x, y), TSR_TENSORS(r));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_mse(in.at[0], in.at[1]);
}

static const tsr_sample samples[] = {
    {"matrix", 2, 1, {{{2, {3, 5}}}, {{2, {3, 5}}}}, call},
    {"scalar", 2, 1, {{{0}}, {{0}}}, call},
    {"empty", 2, 1, {{{2, {0, 5}}}, {{2, {0, 5}}}}, call},
};
TSR_SAMPLES(mse, samples);
