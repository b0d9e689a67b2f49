/* y = the index of the smallest of x along one dimension, the first of equals, the first NaN if there is one. No gradient. */
#include "ops/dims.h"
#include "ops/extremum.h"
#include "ops/ops.h"
#include "ops/samples.h"

struct argmin {
    int dim;
};

static const tsr_field fields[] = {TSR_FIELD(struct argmin, "dim", dim), {0}};

static const tsr_op op = {.name = "argmin", .block_size = sizeof(struct argmin), .fields = fields};

tsr_tensor *tsr_argmin(tsr_tensor *x, int dim, bool keepdim)
{
    tsr_tensor *y = tsr_extremum__find(op.name, x, dim, keepdim, false, true);
    if (y == NULL) return NULL;
    struct argmin s = {tsr_dims__index(op.name, "dim", dim, tsr_tensor_ndim(x))};
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

struct sample_args {
    int dim;
    bool keepdim;
};

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const tsr_sample *sample = user;
    const struct sample_args *a = sample->args;
    out[0] = tsr_argmin(in.at[0], a->dim, a->keepdim);
}

static const tsr_sample samples[] = {
    {"rows",
     1,
     1,
     {{{2, {5, 11}}}},
     call,
     &(const struct sample_args){-1, false},
     .no_gradient = true},
    {"columns",
     1,
     1,
     {{{2, {7, 67}}}},
     call,
     &(const struct sample_args){0, true},
     .no_gradient = true},
    {"middle",
     1,
     1,
     {{{3, {2, 5, 3}}}},
     call,
     &(const struct sample_args){1, false},
     .no_gradient = true},
};
TSR_SAMPLES(argmin, samples);
