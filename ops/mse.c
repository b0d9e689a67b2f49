/* (x - y)^2, elementwise: two primitives, whose gradients are its own. */
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

tsr_tensor *tsr_mse(tsr_tensor *x, tsr_tensor *y)
{
    if (x == NULL || y == NULL || !tsr_rows__same("mse", "x", x, "y", y)) return NULL;
    tsr_tensor *d = tsr_sub(x, y);
    return tsr_mul(d, d);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_mse(in.at[0], in.at[1]);
}

static const tsr_sample samples[] = {
    {"matrix", 2, 1, {{{2, {3, 5}}}, {{2, {3, 5}}}}, call},
    {"scalar", 2, 1, {{{0}}, {{0}}}, call},
    {"empty", 2, 1, {{{2, {0, 5}}}, {{2, {0, 5}}}}, call},
};
TSR_SAMPLES(mse, samples);
