/* y = x with a dimension of size 1 put in before x's dimension dim (from the back: after it). A view. */
#include "ops/ops.h"
#include "ops/samples.h"

tsr_tensor *tsr_unsqueeze(tsr_tensor *x, int dim)
{
    if (x == NULL) return NULL;
    tsr_shape from = tsr_tensor_shape(x), shape = {.ndim = from.ndim + 1};
    int at = dim < 0 ? dim + shape.ndim : dim;
    if (at < 0 || at >= shape.ndim || shape.ndim > TSR_MAX_DIMS) {
        char text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "unsqueeze: dim is %d, expected %d to %d, and at most %d "
                 "dimensions (x has shape %s)",
                 dim, -shape.ndim, shape.ndim - 1, TSR_MAX_DIMS, tsr_shape_text(from, text));
        return NULL;
    }
    for (int d = 0; d < shape.ndim; d++) {
        shape.size[d] = d < at ? from.size[d] : d == at ? 1 : from.size[d - 1];
    }
    return tsr_reshape(x, shape);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    out[0] = tsr_unsqueeze(in.at[0], *(const int *)((const tsr_sample *)user)->args);
}

static const tsr_sample samples[] = {
    {"in front", 1, 1, {{{2, {3, 5}}}}, call, &(const int){0}},
    {"at the end", 1, 1, {{{2, {3, 5}}}}, call, &(const int){-1}},
    {"between", 1, 1, {{{2, {3, 5}}}}, call, &(const int){1}},
    {"scalar", 1, 1, {{{0}}}, call, &(const int){0}},
    {"empty", 1, 1, {{{2, {0, 5}}}}, call, &(const int){1}},
};
TSR_SAMPLES_BF16(unsqueeze, samples);
