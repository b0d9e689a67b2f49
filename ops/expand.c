/*
 * y = x seen in a larger shape: sizes 1, and dimensions that x lacks in front, are repeated with stride 0. dx = dy summed
 * over them.
 */
#include "autograd/loop.h"
#include "ops/ops.h"
#include "ops/samples.h"

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    grad_inputs[0] = tsr_sum_to(grad_outputs[0], tsr_node_input_shape(node, 0));
}

static const tsr_op op = {.name = "expand", .backward = backward};

tsr_tensor *tsr_expand(tsr_tensor *x, tsr_shape shape)
{
    if (x == NULL) return NULL;
    tsr_shape from = tsr_tensor_shape(x), both;
    if (!tsr_shape_broadcast(from, shape, &both) || !tsr_shape_equal(both, shape)) {
        char got[TSR_SHAPE_TEXT], wanted[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE, "expand: x has shape %s, which does not stretch to %s",
                 tsr_shape_text(from, got), tsr_shape_text(shape, wanted));
        return NULL;
    }
    int64_t strides[TSR_MAX_DIMS];
    tsr_loop__broadcast(from, tsr_tensor_strides(x), shape, strides);
    tsr_tensor *y = tsr_tensor_view(x, shape, strides, 0);
    return tsr_record(&op, NULL, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const tsr_sample *sample = user;
    out[0] = tsr_expand(in.at[0], *(const tsr_shape *)sample->args);
}

static const tsr_sample samples[] = {
    {"row", 1, 1, {{{2, {1, 5}}}}, call, &(const tsr_shape){2, {3, 5}}},
    {"new dimensions", 1, 1, {{{2, {3, 1}}}}, call, &(const tsr_shape){3, {2, 3, 4}}},
    {"scalar", 1, 1, {{{0}}}, call, &(const tsr_shape){2, {2, 3}}},
    {"to nothing", 1, 1, {{{2, {1, 3}}}}, call, &(const tsr_shape){2, {0, 3}}},
};
TSR_SAMPLES_BF16(expand, samples);
