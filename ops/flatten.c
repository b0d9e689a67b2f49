/* y = x with its dimensions start to end (both included) as one. A view where the strides allow it. */
#include "ops/dims.h"
#include "ops/ops.h"
#include "ops/samples.h"

tsr_tensor *tsr_flatten(tsr_tensor *x, int start, int end)
{
    if (x == NULL) return NULL;
    tsr_shape from = tsr_tensor_shape(x), shape = from;
    int first = tsr_dims__index("flatten", "start", start, from.ndim);
    int last = tsr_dims__index("flatten", "end", end, from.ndim);
    if (first < 0 || last < 0) return NULL;
    if (first > last) {
        tsr_fail(TSR_STATUS_ARGUMENT, "flatten: start %d lies behind end %d", start, end);
        return NULL;
    }
    for (int d = last; d > first; d--) {
        shape = tsr_dims__without(shape, d);
        shape.size[first] *= from.size[d];
    }
    return tsr_reshape(x, shape);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const int *dims = ((const tsr_sample *)user)->args;
    out[0] = tsr_flatten(in.at[0], dims[0], dims[1]);
}

static const tsr_sample samples[] = {
    {"pixels", 1, 1, {{{4, {2, 3, 4, 5}}}}, call, (const int[]){2, 3}},
    {"batch", 1, 1, {{{3, {2, 3, 4}}}}, call, (const int[]){0, -2}},
    {"one", 1, 1, {{{2, {3, 5}}}}, call, (const int[]){1, 1}},
    {"empty", 1, 1, {{{3, {2, 0, 5}}}}, call, (const int[]){0, 2}},
};
TSR_SAMPLES_BF16(flatten, samples);
