/*
 * With d = x - y: d^2 / (2 beta) where |d| < beta, else |d| - beta / 2 (Girshick 2015, equation 3, with beta 1); |d| for
 * beta 0. With c = d clamped to [-beta, beta] both are c (d - c / 2) / beta: inside c = d, outside c = +-beta. So it is a chain
 * of primitives, whose gradients are its own.
 */
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

tsr_tensor *tsr_smooth_l1(tsr_tensor *x, tsr_tensor *y, double beta)
{
    if (x == NULL || y == NULL || !tsr_rows__same("smooth_l1", "x", x, "y", y)) return NULL;
    if (!(beta >= 0.0)) {
        tsr_fail(TSR_STATUS_ARGUMENT, "smooth_l1: beta is %g, expected 0 or more", beta);
        return NULL;
    }
    tsr_tensor *d = tsr_sub(x, y);
    if (beta == 0.0) return tsr_abs(d);
    tsr_tensor *c = tsr_clamp(d, -beta, beta);
    return tsr_affine(tsr_mul(c, tsr_sub(d, tsr_affine(c, 0.5, 0.0))), 1.0 / beta, 0.0);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    out[0] = tsr_smooth_l1(in.at[0], in.at[1], *(const double *)((const tsr_sample *)user)->args);
}

static const tsr_sample samples[] = {
    {"matrix", 2, 1, {{{2, {4, 5}}}, {{2, {4, 5}}}}, call, &(const double){1.0}},
    {"narrow", 2, 1, {{{2, {4, 5}}}, {{2, {4, 5}}}}, call, &(const double){0.11}},
    {"absolute", 2, 1, {{{2, {4, 5}}}, {{2, {4, 5}}}}, call, &(const double){0.0}},
    {"empty", 2, 1, {{{2, {0, 5}}}, {{2, {0, 5}}}}, call, &(const double){1.0}},
};
TSR_SAMPLES(smooth_l1, samples);
