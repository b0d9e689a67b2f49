/*
 * y = sum of x over dimensions. dx = dy, the same for every element that was added.
 */
#include "ops/ops.h"
#include "ops/reduce.h"
#include "ops/samples.h"

struct sum {
    tsr_shape keepdim; /* of y with the summed dimensions kept */
};

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct sum *s = tsr_node_block(node);
    tsr_tensor *g = tsr_reshape(grad_outputs[0], s->keepdim);
    grad_inputs[0] = tsr_expand(g, tsr_node_input_shape(node, 0));
}

static const tsr_field fields[] = {TSR_FIELD(struct sum, "keepdim", keepdim), {0}};

static const tsr_op op = {
    .name = "sum", .block_size = sizeof(struct sum), .backward = backward, .fields = fields};

tsr_tensor *tsr_sum(tsr_tensor *x, const int *dims, int n_dims, bool keepdim)
{
    unsigned set;
    if (x == NULL || !tsr_reduce__dims(op.name, x, dims, n_dims, &set)) return NULL;
    struct sum s = {tsr_reduce__shape(x, set, true)};
    tsr_tensor *y = tsr_reduce__sum(op.name, x, set, keepdim, 1.0);
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const tsr_sample *sample = user;
    const int *dims = sample->args; /* how many, which */
    out[0] = tsr_sum(in.at[0], dims + 1, dims[0], dims[4] != 0);
}

static const tsr_sample samples[] = {
    {"all", 1, 1, {{{3, {2, 3, 5}}}}, call, (const int[]){0, 0, 0, 0, 0}},
    {"rows", 1, 1, {{{2, {3, 17}}}}, call, (const int[]){1, -1, 0, 0, 1}},
    {"columns", 1, 1, {{{2, {131, 3}}}}, call, (const int[]){1, 0, 0, 0, 0}},
    {"middle", 1, 1, {{{3, {2, 5, 3}}}}, call, (const int[]){1, 1, 0, 0, 1}},
    {"two of four", 1, 1, {{{4, {2, 3, 2, 3}}}}, call, (const int[]){2, 0, 2, 0, 0}},
    {"scalar", 1, 1, {{{0}}}, call, (const int[]){0, 0, 0, 0, 0}},
    {"empty rows", 1, 1, {{{2, {0, 3}}}}, call, (const int[]){1, 1, 0, 0, 0}},
};
TSR_SAMPLES_BF16(sum, samples);
