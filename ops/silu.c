/*
 * y = x s, s = sigmoid(x) = 1 / (1 + e^-x) (Hendrycks & Gimpel 2016; Ramachandran et al. 2017, "swish").
 * dx = dy (s + x s (1 - s)) = dy s (1 + x (1 - s)).
 */
#include "ops/elementwise.h"
#include "ops/half.h"
#include "ops/kernels/math.h"
#include "ops/ops.h"
#include "ops/samples.h"

#include <math.h>

static inline double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static inline float slope32(float x)
{
    float s = tsr_math__sigmoidf(x);
    return s * (1.0f + x * (1.0f - s));
}

static inline double slope64(double x)
{
    double s = sigmoid(x);
    return s * (1.0 + x * (1.0 - s));
}

TSR_UNARY(forward, x *tsr_math__sigmoidf(x), x *sigmoid(x))
TSR_BINARY(gradient, x *slope32(y), x *slope64(y))

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    tsr_tensor *x = tsr_node_input(node, 0);
    tsr_tensor *dx = tsr_empty_like(x);
    if (dx == NULL) return;
    gradient(dx, grad_outputs[0], x);
    grad_inputs[0] = dx;
}

static void definition(const void *block, tsr_tensors in, tsr_tensor **out)
{
    (void)block;
    tsr_tensor *x = tsr_half__cast(in.at[0]);
    out[0] = tsr_cast(tsr_mul(x, tsr_sigmoid(x)), tsr_tensor_dtype(in.at[0]));
}

static const tsr_op op = {.name = "silu", .backward = backward, .definition = definition};

tsr_tensor *tsr_silu(tsr_tensor *x)
{
    tsr_tensor *y = tsr_elementwise__like(op.name, x);
    if (y == NULL) return NULL;
    forward(y, x);
    return tsr_record(&op, NULL, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_silu(in.at[0]);
}

static const tsr_sample samples[] = {
    {"matrix", 1, 1, {{{2, {3, 7}}}}, call},
    {"scalar", 1, 1, {{{0}}}, call},
    {"empty", 1, 1, {{{2, {3, 0}}}}, call},
};
TSR_SAMPLES_BF16(silu, samples);
