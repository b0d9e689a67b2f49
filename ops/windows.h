/*
 * Windows that slide over images: the geometry that unfold, fold, the convolutions and the poolings share, and the copies
 * between an image and its windows laid out as columns. Not installed.
 *
 * Window (i, j) begins at row i stride[0] - padding[0], column j stride[1] - padding[1]; its cells are dilation apart.
 */
#ifndef TSR_OPS_WINDOWS_H
#define TSR_OPS_WINDOWS_H

#include "ops/ops.h"

/* All in the order (rows, columns). */
typedef struct tsr_windows {
    int64_t kernel[2], stride[2], padding[2], dilation[2];
    int64_t in[2], out[2]; /* sizes of the image, numbers of windows */
} tsr_windows;

/* True for f32 and f64 of shape [B, C, H, W]; else a message that names op and argument. */
bool tsr_windows__is_images(const char *op, const char *argument, const tsr_tensor *x);
/* Has x four dimensions? Else a message that names op and argument. */
bool tsr_windows__has_four_dims(const char *op, const char *argument, const tsr_tensor *x);
/* Sets all but in and out; options may be NULL. False with a message where a value is out of range. */
bool tsr_windows__attributes(const char *op, int64_t kh, int64_t kw,
                             const tsr_conv_options *options, tsr_windows *windows);
/* The same from a pooling's attributes, for [.., h, w], with in and out. */
bool tsr_windows__pool(const char *op, const tsr_pool_options *options, int64_t h, int64_t w,
                       tsr_windows *windows);
/* Sets in and out; false with a message where the image is smaller than a window. */
bool tsr_windows__place(const char *op, int64_t h, int64_t w, tsr_windows *windows);
/* As options for tsr_unfold() and tsr_fold(). */
tsr_conv_options tsr_windows__options(const tsr_windows *windows);

/*
 * The windows of the output rows first .. first + n - 1 as columns [channels KH KW, n OW], of images x [channels, H, W];
 * cells outside are 0. Both contiguous, f32 or f64. parallel: threads may share the work.
 */
void tsr_windows__columns(const tsr_windows *windows, tsr_dtype dtype, int64_t channels,
                          const void *x, int64_t first, int64_t n, void *columns, bool parallel);
/* The transpose: adds columns to the cells of x that they were copied from. */
void tsr_windows__add_columns(const tsr_windows *windows, tsr_dtype dtype, int64_t channels,
                              const void *columns, int64_t first, int64_t n, void *x,
                              bool parallel);

#endif
