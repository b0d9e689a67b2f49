/*
 * y = x summed over the dimensions along which a tensor of y's shape is stretched to x's: the transpose of broadcasting.
 * dx = dy expanded.
 */
#include "ops/ops.h"
#include "ops/reduce.h"
#include "ops/samples.h"

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    grad_inputs[0] = tsr_expand(grad_outputs[0], tsr_node_input_shape(node, 0));
}

static const tsr_op op = {.name = "sum_to", .backward = backward};

tsr_tensor *tsr_sum_to(tsr_tensor *x, tsr_shape shape)
{
    if (x == NULL) return NULL;
    tsr_shape from = tsr_tensor_shape(x), both;
    if (tsr_shape_equal(from, shape)) return x;
    if (!tsr_shape_broadcast(from, shape, &both) || !tsr_shape_equal(both, from)) {
        char got[TSR_SHAPE_TEXT], wanted[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE, "sum_to: x has shape %s, to which %s does not stretch",
                 tsr_shape_text(from, got), tsr_shape_text(shape, wanted));
        return NULL;
    }
    unsigned set = 0;
    int lead = from.ndim - shape.ndim;
    for (int d = 0; d < from.ndim; d++) {
        if (d < lead || (shape.size[d - lead] == 1 && from.size[d] != 1)) set |= 1u << d;
    }
    tsr_tensor *sum = tsr_reduce__sum(op.name, x, set, true, 1.0);
    int64_t strides[TSR_MAX_DIMS];
    for (int d = 0; d < shape.ndim; d++) strides[d] = tsr_tensor_strides(sum)[d + lead];
    tsr_tensor *y = tsr_tensor_view(sum, shape, strides, 0);
    return tsr_record(&op, NULL, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const tsr_sample *sample = user;
    out[0] = tsr_sum_to(in.at[0], *(const tsr_shape *)sample->args);
}

static const tsr_sample samples[] = {
    {"rows", 1, 1, {{{2, {3, 5}}}}, call, &(const tsr_shape){2, {1, 5}}},
    {"columns", 1, 1, {{{2, {3, 5}}}}, call, &(const tsr_shape){2, {3, 1}}},
    {"leading", 1, 1, {{{3, {2, 3, 5}}}}, call, &(const tsr_shape){1, {5}}},
    {"all", 1, 1, {{{2, {3, 5}}}}, call, &(const tsr_shape){0}},
    {"empty", 1, 1, {{{2, {0, 5}}}}, call, &(const tsr_shape){2, {1, 5}}},
};
TSR_SAMPLES_BF16(sum_to, samples);
