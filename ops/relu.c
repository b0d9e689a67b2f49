/* y = max(x, 0), NaN stays NaN; dx = dy where x > 0. */
#include "ops/elementwise.h"
#include "ops/ops.h"
#include "ops/samples.h"

#include <math.h>

TSR_UNARY(rectify, x <= 0.0f ? 0.0f : x, x <= 0.0 ? 0.0 : x)

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    tsr_tensor *g = grad_outputs[0], *zero = tsr_scalar(tsr_tensor_dtype(g), 0.0);
    grad_inputs[0] = tsr_where(tsr_gt(tsr_node_saved(node, 0), zero), g, zero);
}

static const tsr_op op = {.name = "relu", .backward = backward};

tsr_tensor *tsr_relu(tsr_tensor *x)
{
    tsr_tensor *y = tsr_elementwise__like(op.name, x);
    if (y == NULL) return NULL;
    rectify(y, x);
    return tsr_record(&op, NULL, TSR_TENSORS(x), TSR_TENSORS(y), TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_relu(in.at[0]);
}

static bool near_zero(tsr_tensors in, int input, int64_t element, void *user)
{
    (void)user;
    return fabs(tsr_tensor_get(in.at[input], element)) < 1e-3;
}

static const tsr_sample samples[] = {
    {"matrix", 1, 1, {{{2, {3, 7}}}}, call, .kink = near_zero},
    {"scalar", 1, 1, {{{0}}}, call, .kink = near_zero},
    {"empty", 1, 1, {{{2, {3, 0}}}}, call},
};
TSR_SAMPLES_BF16(relu, samples);
