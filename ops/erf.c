/* y = 2 / sqrt(pi) integral of e^(-t^2) over t in [0, x]; dx = dy 2 / sqrt(pi) e^(-x^2). */
#include "ops/elementwise.h"
#include "ops/kernels/math.h"
#include "ops/ops.h"
#include "ops/samples.h"

#include <math.h>

TSR_UNARY(error_function, tsr_math__erff(x), erf(x))

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    tsr_tensor *x = tsr_node_saved(node, 0);
    tsr_tensor *slope = tsr_affine(tsr_exp(tsr_neg(tsr_mul(x, x))), M_2_SQRTPI, 0.0);
    grad_inputs[0] = tsr_mul(grad_outputs[0], slope);
}

static const tsr_op op = {.name = "erf", .backward = backward};

tsr_tensor *tsr_erf(tsr_tensor *x)
{
    tsr_tensor *y = tsr_elementwise__like(op.name, x);
    if (y == NULL) return NULL;
    error_function(y, x);
    return tsr_record(&op, NULL, TSR_TENSORS(x), TSR_TENSORS(x), TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_erf(in.at[0]);
}

static const tsr_sample samples[] = {
    {"matrix", 1, 1, {{{2, {3, 7}}}}, call},
    {"scalar", 1, 1, {{{0}}}, call},
    {"empty", 1, 1, {{{2, {3, 0}}}}, call},
};
TSR_SAMPLES_BF16(erf, samples);
