/*
 * The three linear maps of a convolution, as matrix products with columns of windows (ops/windows.h): what conv2d and
 * conv_transpose2d, each other's transposes, are made of. Not installed.
 *
 * With groups G, filters of group g see the channels of group g alone. All tensors contiguous, of one type (f32 or f64).
 * Each returns false (and a sticky status) when there is no memory for the columns.
 */
#ifndef TSR_OPS_CONVOLUTION_H
#define TSR_OPS_CONVOLUTION_H

#include "ops/windows.h"

typedef struct tsr_convolution {
    tsr_windows windows;
    tsr_dtype dtype;
    int64_t batch, channels, filters, groups;
} tsr_convolution;

/* y [batch, filters, OH, OW] = weight [filters, channels / G, KH, KW] on x [batch, channels, H, W], plus bias [filters]
 * (or NULL). */
bool tsr_convolution__apply(const tsr_convolution *c, const void *x, const void *weight,
                            const void *bias, void *y);
/* Its transpose: x from y, plus bias [channels] (or NULL). */
bool tsr_convolution__transpose(const tsr_convolution *c, const void *y, const void *weight,
                                const void *bias, void *x);
/* The gradient of weight from x and y's gradient. */
bool tsr_convolution__weight(const tsr_convolution *c, const void *x, const void *dy,
                             void *dweight);

/* Sets dtype, batch, channels, filters, groups (0 means 1) from tensors of the shapes above, `channels` of x's. False
 * with a message where they do not fit; transposed: x stands for y, so that its channels are the filters. */
bool tsr_convolution__shape(const char *op, const tsr_tensor *x, const tsr_tensor *weight,
                            const tsr_tensor *bias, const tsr_conv_options *options,
                            bool transposed, tsr_convolution *c);

#endif
