/* y = 1 / sqrt(x); dx = -dy y^3 / 2. */
#include "ops/elementwise.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

#include <math.h>

TSR_UNARY(reciprocal_root, 1.0f / sqrtf(x), 1.0 / sqrt(x))

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    tsr_tensor *y = tsr_node_saved(node, 0);
    tsr_tensor *slope = tsr_affine(tsr_mul(y, tsr_mul(y, y)), -0.5, 0.0);
    grad_inputs[0] = tsr_mul(grad_outputs[0], slope);
}

static const tsr_op op = {.name = "rsqrt", .backward = backward};

tsr_tensor *tsr_rsqrt(tsr_tensor *x)
{
    /* Backward would square a rounded y: too coarse in bf16. */
    if (x == NULL || !tsr_rows__is_real(op.name, "x", x)) return NULL;
    tsr_tensor *y = tsr_elementwise__like(op.name, x);
    if (y == NULL) return NULL;
    reciprocal_root(y, x);
    return tsr_record(&op, NULL, TSR_TENSORS(x), TSR_TENSORS(y), TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_rsqrt(in.at[0]);
}

static const tsr_sample samples[] = {
    {"matrix", 1, 1, {{{2, {3, 7}}, 0.2, 3.0}}, call},
    {"scalar", 1, 1, {{{0}, 0.2, 3.0}}, call},
    {"empty", 1, 1, {{{2, {3, 0}}, 0.2, 3.0}}, call},
};
TSR_SAMPLES(rsqrt, samples);
