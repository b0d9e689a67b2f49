/*
 * Images resampled along each axis by weights of its own: Y = R X C^T for each plane X [H, W], where every row of
 * R [OH, H] and C [OW, W] has few entries that are not 0, side by side. Interpolation and average pooling are this. The
 * gradient is dX = R^T dY C. Not installed.
 */
#ifndef TSR_OPS_RESAMPLE_H
#define TSR_OPS_RESAMPLE_H

#include "autograd/autograd.h"

/* A matrix [out, in] whose row i has weight[i most ..] in the columns first[i] .. first[i] + count[i] - 1. */
typedef struct tsr_taps {
    int64_t in, out, most;
    int64_t *first, *count;
    double *weight;
} tsr_taps;

/* With counts and weights of 0; false (and a sticky status) when there is no memory. */
bool tsr_taps__open(int64_t in, int64_t out, int64_t most, tsr_taps *taps);
/* Adds to the weight of column j in row i; within a row j must not fall. */
void tsr_taps__add(tsr_taps *taps, int64_t i, int64_t j, double weight);

/* Opens and fills the matrix of one axis (0: R, 1: C) from an op's block; false when there is no memory. */
typedef bool tsr_taps_maker(const void *block, int axis, tsr_taps *taps);

/* None is recorded but what definition calls. */
/* x [B, C, H, W] -> [B, C, OH, OW]. */
tsr_tensor *tsr_resample__apply(tsr_taps_maker *make, const void *block, tsr_tensor *x);
/* [B, C, OH, OW] -> [B, C, H, W]. */
tsr_tensor *tsr_resample__transpose(tsr_taps_maker *make, const void *block, tsr_tensor *dy);
/* As apply, by products with the matrices. */
tsr_tensor *tsr_resample__definition(tsr_taps_maker *make, const void *block, tsr_tensor *x);

#endif
