/* y = cos x; dx = -dy sin x. */
#include "ops/elementwise.h"
#include "ops/ops.h"
#include "ops/samples.h"

#include <math.h>

TSR_UNARY(cosine, cosf(x), cos(x))

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    grad_inputs[0] = tsr_neg(tsr_mul(grad_outputs[0], tsr_sin(tsr_node_saved(node, 0))));
}

static const tsr_op op = {.name = "cos", .backward = backward};

tsr_tensor *tsr_cos(tsr_tensor *x)
{
    tsr_tensor *y = tsr_elementwise__like(op.name, x);
    if (y == NULL) return NULL;
    cosine(y, x);
    return tsr_record(&op, NULL, TSR_TENSORS(x), TSR_TENSORS(x), TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_cos(in.at[0]);
}

static const tsr_sample samples[] = {
    {"matrix", 1, 1, {{{2, {3, 7}}}}, call},
    {"scalar", 1, 1, {{{0}}}, call},
    {"empty", 1, 1, {{{2, {3, 0}}}}, call},
};
TSR_SAMPLES_BF16(cos, samples);
