/* y = x[index] along one dimension, which goes: a slice of one element, squeezed. */
#include "ops/dims.h"
#include "ops/ops.h"
#include "ops/samples.h"

#include <inttypes.h>

tsr_tensor *tsr_select(tsr_tensor *x, int dim, int64_t index)
{
    if (x == NULL) return NULL;
    int d = tsr_dims__index("select", "dim", dim, tsr_tensor_ndim(x));
    if (d < 0) return NULL;
    int64_t size = tsr_tensor_size(x, d), i = index < 0 ? index + size : index;
    if (i < 0 || i >= size) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "select: index is %" PRId64 ", dimension %d has %" PRId64 " elements", index, d,
                 size);
        return NULL;
    }
    return tsr_reshape(tsr_slice(x, d, i, i + 1, 1), tsr_dims__without(tsr_tensor_shape(x), d));
}

struct arguments {
    int dim;
    int64_t index;
};

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const struct arguments *a = ((const tsr_sample *)user)->args;
    out[0] = tsr_select(in.at[0], a->dim, a->index);
}

static const tsr_sample samples[] = {
    {"token", 1, 1, {{{3, {2, 3, 5}}}}, call, &(const struct arguments){1, 0}},
    {"last row", 1, 1, {{{2, {3, 5}}}}, call, &(const struct arguments){0, -1}},
    {"column", 1, 1, {{{2, {3, 5}}}}, call, &(const struct arguments){-1, 3}},
    {"element", 1, 1, {{{1, {5}}}}, call, &(const struct arguments){0, 2}},
    {"empty", 1, 1, {{{2, {3, 0}}}}, call, &(const struct arguments){0, 1}},
};
TSR_SAMPLES_BF16(select, samples);
