/*
 * -t log sigmoid(x) - (1 - t) log(1 - sigmoid(x)) = (1 - t) x + log(1 + e^-x), which loses nothing where sigmoid(x) rounds
 * to 0 or 1. A chain of primitives, whose gradients are its own: dx = g (sigmoid(x) - t), dt = -g x.
 */
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

tsr_tensor *tsr_binary_cross_entropy(tsr_tensor *logits, tsr_tensor *target)
{
    if (logits == NULL || target == NULL ||
        !tsr_rows__same("binary_cross_entropy", "logits", logits, "target", target)) {
        return NULL;
    }
    tsr_tensor *linear = tsr_mul(tsr_affine(target, -1.0, 1.0), logits);
    return tsr_add(linear, tsr_softplus(tsr_neg(logits)));
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
