/*
 * r = -t log s - (1 - t) log(1 - s), s = sigmoid(x), written as max(x, 0) - x t + log(1 + e^-|x|), which loses nothing where s
 * rounds to 0 or 1. dx = dr (s - t), dt = -dr x.
 */
#include "ops/elementwise.h"
#include "ops/kernels/math.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

#include <math.h>

/* y is the target. */
TSR_BINARY(entropy, ((x > 0.0f ? x : 0.0f) - x * y) + tsr_math__softplusf(-fabsf(x)),
           ((x > 0.0 ? x : 0.0) - x * y) + log1p(exp(-fabs(x))))

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    tsr_tensor *x = tsr_node_saved(node, 0), *t = tsr_node_saved(node, 1), *g = grad_outputs[0];
    if (tsr_node_wants(node, 0)) grad_inputs[0] = tsr_mul(g, tsr_sub(tsr_sigmoid(x), t));
    if (tsr_node_wants(node, 1)) grad_inputs[1] = tsr_neg(tsr_mul(g, x));
}

static const tsr_op op = {.name = "binary_cross_entropy", .backward = backward};

tsr_tensor *tsr_binary_cross_entropy(tsr_tensor *logits, tsr_tensor *target)
{
    if (logits == NULL || target == NULL ||
        !tsr_rows__same(op.name, "logits", logits, "target", target)) {
        return NULL;
    }
    tsr_tensor *r = tsr_empty_like(logits);
    if (r == NULL) return NULL;
    entropy(r, logits, target);
    return tsr_record(&op, NULL, TSR_TENSORS(logits, target), TSR_TENSORS(logits, target),
                      TSR_TENSORS(r));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_binary_cross_entropy(in.at[0], in.at[1]);
}

static const tsr_sample samples[] = {
    {"matrix", 2, 1, {{{2, {3, 5}}}, {{2, {3, 5}}, 0.0, 1.0}}, call},
    {"sure", 2, 1, {{{1, {7}}, -30.0, 30.0}, {{1, {7}}, 0.0, 1.0}}, call},
    {"scalar", 2, 1, {{{0}}, {{0}, 0.0, 1.0}}, call},
    {"empty", 2, 1, {{{2, {0, 5}}}, {{2, {0, 5}}}}, call},
};
TSR_SAMPLES(binary_cross_entropy, samples);
