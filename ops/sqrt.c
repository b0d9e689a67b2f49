/* y = sqrt(x); dx = dy / (2 y). */
#include "ops/elementwise.h"
#include "ops/ops.h"
#include "ops/samples.h"

#include <math.h>

TSR_UNARY(root, sqrtf(x), sqrt(x))

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    grad_inputs[0] = tsr_affine(tsr_div(grad_outputs[0], tsr_node_saved(node, 0)), 0.5, 0.0);
}

static const tsr_op op = {.name = "sqrt", .backward = backward};

tsr_tensor *tsr_sqrt(tsr_tensor *x)
{
    tsr_tensor *y = tsr_elementwise__like(op.name, x);
    if (y == NULL) return NULL;
    root(y, x);
    return tsr_record(&op, NULL, TSR_TENSORS(x), TSR_TENSORS(y), TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_sqrt(in.at[0]);
}

static const tsr_sample samples[] = {
    {"matrix", 1, 1, {{{2, {3, 7}}, 0.2, 3.0}}, call},
    {"scalar", 1, 1, {{{0}, 0.2, 3.0}}, call},
    {"empty", 1, 1, {{{2, {3, 0}}, 0.2, 3.0}}, call},
};
TSR_SAMPLES_BF16(sqrt, samples);
