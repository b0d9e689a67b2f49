/*
 * t (log t - l), elementwise, 0 where t is 0 (its limit); l: log-probabilities. A chain of primitives, whose gradients are
 * its own: dl = -g t, dt = g (log t + 1 - l), 0 where t is 0.
 */
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

tsr_tensor *tsr_kl_div(tsr_tensor *log_p, tsr_tensor *target)
{
    if (log_p == NULL || target == NULL ||
        !tsr_rows__same("kl_div", "log_p", log_p, "target", target)) {
        return NULL;
    }
    /* Where t is 0 the logarithm sees 1 and the product is a constant 0, in backward too. */
    tsr_tensor *zero = tsr_eq(target, tsr_scalar(tsr_tensor_dtype(target), 0.0));
    tsr_tensor *t = tsr_masked_fill(target, zero, 1.0);
    return tsr_masked_fill(tsr_mul(t, tsr_sub(tsr_log(t), log_p)), zero, 0.0);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_kl_div(in.at[0], in.at[1]);
}

static const tsr_sample samples[] = {
    {"matrix", 2, 1, {{{2, {3, 5}}, -3.0, 0.0}, {{2, {3, 5}}, 0.1, 1.0}}, call},
    {"scalar", 2, 1, {{{0}, -3.0, 0.0}, {{0}, 0.1, 1.0}}, call},
    {"empty", 2, 1, {{{2, {0, 5}}}, {{2, {0, 5}}}}, call},
};
TSR_SAMPLES(kl_div, samples);
