/* y = x without dimension dim, whose size must be 1. A view. */
#include "ops/dims.h"
#include "ops/ops.h"
#include "ops/samples.h"

tsr_tensor *tsr_squeeze(tsr_tensor *x, int dim)
{
    if (x == NULL) return NULL;
    tsr_shape shape = tsr_tensor_shape(x);
    int d = tsr_dims__index("squeeze", "dim", dim, shape.ndim);
    if (d < 0) return NULL;
    if (shape.size[d] != 1) {
        char text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE, "squeeze: x has shape %s, expected size 1 in dimension %d",
                 tsr_shape_text(shape, text), d);
        return NULL;
    }
    return tsr_reshape(x, tsr_dims__without(shape, d));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    out[0] = tsr_squeeze(in.at[0], *(const int *)((const tsr_sample *)user)->args);
}

static const tsr_sample samples[] = {
    {"column", 1, 1, {{{2, {5, 1}}}}, call, &(const int){-1}},
    {"between", 1, 1, {{{3, {2, 1, 3}}}}, call, &(const int){1}},
    {"to a scalar", 1, 1, {{{1, {1}}}}, call, &(const int){0}},
    {"empty", 1, 1, {{{2, {1, 0}}}}, call, &(const int){0}},
};
TSR_SAMPLES_BF16(squeeze, samples);
