/* y = value where the mask is set, else x: where(mask, value, x). */
#include "ops/elementwise.h"
#include "ops/ops.h"
#include "ops/samples.h"

tsr_tensor *tsr_masked_fill(tsr_tensor *x, tsr_tensor *mask, double value)
{
    if (x == NULL || mask == NULL) return NULL;
    tsr_dtype dtype = tsr_tensor_dtype(x), dtype_mask = tsr_tensor_dtype(mask);
    if (!tsr_elementwise__takes("masked_fill", "x", x)) return NULL;
    if (dtype_mask != TSR_DTYPE_BOOL && dtype_mask != TSR_DTYPE_U8) {
        tsr_fail(TSR_STATUS_DTYPE, "masked_fill: mask is %s, expected bool or u8",
                 tsr_dtype_name(dtype_mask));
        return NULL;
    }
    tsr_shape shape = tsr_tensor_shape(x), both;
    if (!tsr_shape_broadcast(shape, tsr_tensor_shape(mask), &both) ||
        !tsr_shape_equal(shape, both)) {
        char got[TSR_SHAPE_TEXT], wanted[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE,
                 "masked_fill: mask has shape %s, which does not stretch to x's %s",
                 tsr_shape_text(tsr_tensor_shape(mask), got), tsr_shape_text(shape, wanted));
        return NULL;
    }
    return tsr_where(mask, tsr_scalar(dtype, value), x);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_masked_fill(in.at[0], in.at[1], 0.7);
}

static const tsr_sample samples[] = {
    {"same shape", 2, 1, {{{2, {3, 5}}}, {{2, {3, 5}}, .mask = true}}, call},
    {"a mask of columns", 2, 1, {{{3, {2, 3, 5}}}, {{2, {3, 1}}, .mask = true}}, call},
    {"scalar", 2, 1, {{{0}}, {{0}, .mask = true}}, call},
    {"empty", 2, 1, {{{2, {0, 3}}}, {{1, {3}}, .mask = true}}, call},
};
TSR_SAMPLES_BF16(masked_fill, samples);
