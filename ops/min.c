/*
 * y = the smallest of x along one dimension; NaN if there is one. dx = dy, shared evenly by the elements that equal y, else 0.
 */
#include "ops/dims.h"
#include "ops/extremum.h"
#include "ops/ops.h"
#include "ops/samples.h"

struct min {
    int dim;
};

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct min *s = tsr_node_block(node);
    grad_inputs[0] = tsr_extremum__backward(node, grad_outputs[0], s->dim);
}

static const tsr_field fields[] = {TSR_FIELD(struct min, "dim", dim), {0}};

static const tsr_op op = {
    .name = "min", .block_size = sizeof(struct min), .backward = backward, .fields = fields};

tsr_tensor *tsr_min(tsr_tensor *x, int dim, bool keepdim)
{
    tsr_tensor *y = tsr_extremum__find(op.name, x, dim, keepdim, false, false);
    if (y == NULL) return NULL;
    struct min s = {tsr_dims__index(op.name, "dim", dim, tsr_tensor_ndim(x))};
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_TENSORS(x, y), TSR_TENSORS(y));
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
    out[0] = tsr_min(in.at[0], a->dim, a->keepdim);
}

static const tsr_sample samples[] = {
    {"rows", 1, 1, {{{2, {5, 11}}}}, call, &(const struct sample_args){-1, false}},
    {"columns", 1, 1, {{{2, {7, 67}}}}, call, &(const struct sample_args){0, true}},
    {"middle", 1, 1, {{{3, {2, 5, 3}}}}, call, &(const struct sample_args){1, false}},
    {"one element", 1, 1, {{{1, {1}}}}, call, &(const struct sample_args){0, false}},
    {"no rows", 1, 1, {{{2, {0, 3}}}}, call, &(const struct sample_args){1, false}},
};
TSR_SAMPLES(min, samples);
