/* y = x with two dimensions exchanged: a permutation, whose gradient is the same exchange. */
#include "ops/dims.h"
#include "ops/ops.h"
#include "ops/samples.h"

tsr_tensor *tsr_transpose(tsr_tensor *x, int dim0, int dim1)
{
    if (x == NULL) return NULL;
    int ndim = tsr_tensor_ndim(x), dims[TSR_MAX_DIMS];
    int a = tsr_dims__index("transpose", "dim0", dim0, ndim);
    int b = tsr_dims__index("transpose", "dim1", dim1, ndim);
    if (a < 0 || b < 0) return NULL;
    for (int d = 0; d < ndim; d++) dims[d] = d == a ? b : d == b ? a : d;
    return tsr_permute(x, dims);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const int *dims = ((const tsr_sample *)user)->args;
    out[0] = tsr_transpose(in.at[0], dims[0], dims[1]);
}

static const tsr_sample samples[] = {
    {"matrix", 1, 1, {{{2, {3, 5}}}}, call, (const int[]){0, 1}},
    {"outer and last", 1, 1, {{{3, {2, 3, 5}}}}, call, (const int[]){0, -1}},
    {"with itself", 1, 1, {{{2, {3, 5}}}}, call, (const int[]){1, 1}},
    {"empty", 1, 1, {{{2, {0, 3}}}}, call, (const int[]){1, 0}},
};
TSR_SAMPLES_BF16(transpose, samples);
