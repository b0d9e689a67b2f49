/* y = 1 / (1 + e^-x); dx = dy y (1 - y). */
#include "ops/elementwise.h"
#include "ops/kernels/math.h"
#include "ops/ops.h"
#include "ops/samples.h"

#include <math.h>

TSR_UNARY(logistic, tsr_math__sigmoidf(x), 1.0 / (1.0 + exp(-x)))

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    tsr_tensor *y = tsr_node_saved(node, 0);
    tsr_tensor *slope = tsr_mul(y, tsr_affine(y, -1.0, 1.0));
    grad_inputs[0] = tsr_mul(grad_outputs[0], slope);
}

static const tsr_op op = {.name = "sigmoid", .backward = backward};

tsr_tensor *tsr_sigmoid(tsr_tensor *x)
{
    tsr_tensor *y = tsr_elementwise__like(op.name, x);
    if (y == NULL) return NULL;
    logistic(y, x);
    return tsr_record(&op, NULL, TSR_TENSORS(x), TSR_TENSORS(y), TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_sigmoid(in.at[0]);
}

static const tsr_sample samples[] = {
    {"matrix", 1, 1, {{{2, {3, 7}}}}, call},
    {"scalar", 1, 1, {{{0}}}, call},
    {"empty", 1, 1, {{{2, {3, 0}}}}, call},
};
TSR_SAMPLES_BF16(sigmoid, samples);
