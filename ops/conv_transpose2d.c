/*
 * y [B, O, OH, OW] = the transpose of the convolution that takes O channels to C by weight [C, O / G, KH, KW], on
 * x [B, C, H, W], plus bias [O]; OH = (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1.
 *
 * With W the weight as a matrix, y = fold(W^T X) + bias. So dx is that convolution of dy; its weight's gradient is that of
 * the convolution with x as the gradient of its result and dy as its image; dbias = dy summed over samples and places.
 */
#include "ops/convolution.h"
#include "ops/samples.h"

#include <inttypes.h>

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const tsr_convolution *c = tsr_node_block(node);
    tsr_tensor *x = tsr_node_input(node, 0), *weight = tsr_node_input(node, 1);
    tsr_tensor *dy = tsr_tensor_packed(grad_outputs[0]);
    if (dy == NULL) return;
    if (tsr_node_wants(node, 0)) {
        tsr_tensor *dx = tsr_empty(c->dtype, tsr_tensor_shape(x));
        weight = tsr_tensor_packed(weight);
        if (dx == NULL || weight == NULL ||
            !tsr_convolution__apply(c, tsr_tensor_data(dy), tsr_tensor_data(weight), NULL,
                                    tsr_tensor_data_mut(dx))) {
            return;
        }
        grad_inputs[0] = dx;
    }
    if (tsr_node_wants(node, 1)) {
        tsr_tensor *dweight = tsr_empty(c->dtype, tsr_tensor_shape(weight));
        x = tsr_tensor_packed(x);
        if (dweight == NULL || x == NULL ||
            !tsr_convolution__weight(c, tsr_tensor_data(dy), tsr_tensor_data(x),
                                     tsr_tensor_data_mut(dweight))) {
            return;
        }
        grad_inputs[1] = dweight;
    }
    if (tsr_node_wants(node, 2)) {
        tsr_tensor *sums = tsr_sum_to(dy, TSR_SHAPE(c->channels, 1, 1));
        grad_inputs[2] = tsr_reshape(sums, TSR_SHAPE(c->channels));
    }
}

static void definition(const void *block, tsr_tensors inputs, tsr_tensor **outputs)
{
    const tsr_convolution *c = block;
    const tsr_windows *w = &c->windows;
    tsr_conv_options options = tsr_windows__options(w);
    int64_t cells = c->channels * w->kernel[0] * w->kernel[1];
    int64_t filters = c->filters / c->groups, places = w->out[0] * w->out[1];
    tsr_tensor *x = tsr_reshape(inputs.at[0], TSR_SHAPE(c->batch, c->groups, filters, places));
    tsr_tensor *weight =
        tsr_reshape(inputs.at[1], TSR_SHAPE(c->groups, filters, cells / c->groups));
    tsr_tensor *columns = tsr_matmul(tsr_transpose(weight, 1, 2), x);
    tsr_tensor *y = tsr_fold(tsr_reshape(columns, TSR_SHAPE(c->batch, cells, places)), w->in[0],
                             w->in[1], w->kernel[0], w->kernel[1], &options);
    if (inputs.at[2] != NULL) {
        y = tsr_add(y, tsr_reshape(inputs.at[2], TSR_SHAPE(c->channels, 1, 1)));
    }
    outputs[0] = y;
}

static const tsr_field fields[] = {TSR_FIELD(tsr_convolution, "kernel", windows.kernel),
                                   TSR_FIELD(tsr_convolution, "stride", windows.stride),
                                   TSR_FIELD(tsr_convolution, "padding", windows.padding),
                                   TSR_FIELD(tsr_convolution, "dilation", windows.dilation),
                                   TSR_FIELD(tsr_convolution, "groups", groups),
                                   {0}};

static const tsr_op op = {.name = "conv_transpose2d",
                          .block_size = sizeof(tsr_convolution),
                          .backward = backward,
                          .definition = definition,
                          .fields = fields};

/* The size of the image that x's places are the windows of. */
static bool place(const tsr_tensor *x, const tsr_conv_options *options, tsr_windows *w)
{
    int64_t size[2];
    for (int d = 0; d < 2; d++) {
        int64_t extra = options != NULL ? options->output_padding[d] : 0;
        if (extra < 0 || extra >= w->stride[d]) {
            tsr_fail(TSR_STATUS_ARGUMENT,
                     "%s: output_padding is [%" PRId64 ", %" PRId64
                     "], expected 0 or more and less than the stride [%" PRId64 ", %" PRId64 "]",
                     op.name, options->output_padding[0], options->output_padding[1], w->stride[0],
                     w->stride[1]);
            return false;
        }
        int64_t in = tsr_tensor_size(x, 2 + d);
        size[d] = in < 1 || in > INT32_MAX ? 0
                                           : (in - 1) * w->stride[d] - 2 * w->padding[d] +
                                                 w->dilation[d] * (w->kernel[d] - 1) + extra + 1;
        if (size[d] < 1) {
            char got[TSR_SHAPE_TEXT];
            tsr_fail(TSR_STATUS_SHAPE, "%s: x has shape %s, which leaves no output", op.name,
                     tsr_shape_text(tsr_tensor_shape(x), got));
            return false;
        }
    }
    return tsr_windows__place(op.name, size[0], size[1], w);
}

tsr_tensor *tsr_conv_transpose2d(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias,
                                 const tsr_conv_options *options)
{
    if (x == NULL || weight == NULL) return NULL;
    tsr_convolution c;
    if (!tsr_convolution__shape(op.name, x, weight, bias, options, true, &c) ||
        !tsr_windows__attributes(op.name, tsr_tensor_size(weight, 2), tsr_tensor_size(weight, 3),
                                 options, &c.windows) ||
        !place(x, options, &c.windows)) {
        return NULL;
    }
    tsr_tensor *xp = tsr_tensor_packed(x), *wp = tsr_tensor_packed(weight);
    tsr_tensor *bp = bias != NULL ? tsr_tensor_packed(bias) : NULL;
    tsr_tensor *y =
        tsr_empty(c.dtype, TSR_SHAPE(c.batch, c.channels, c.windows.in[0], c.windows.in[1]));
    if (xp == NULL || wp == NULL || (bias != NULL && bp == NULL) || y == NULL ||
        !tsr_convolution__transpose(&c, tsr_tensor_data(xp), tsr_tensor_data(wp),
                                    bp != NULL ? tsr_tensor_data(bp) : NULL,
                                    tsr_tensor_data_mut(y))) {
        return NULL;
    }
    return tsr_record(&op, &c, TSR_TENSORS(x, weight, bias), TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    out[0] = tsr_conv_transpose2d(in.at[0], in.at[1], in.at[2], ((const tsr_sample *)user)->args);
}

static const tsr_sample samples[] = {
    {"plain", 3, 1, {{{4, {2, 3, 4, 3}}}, {{4, {3, 2, 3, 2}}}, {{1, {2}}}}, call},
    {"stride, padding, dilation, output padding",
     3,
     1,
     {{{4, {2, 2, 3, 4}}}, {{4, {2, 3, 3, 2}}}, {{1, {3}}}},
     call,
     &(const tsr_conv_options){
         .stride = {2, 3}, .padding = {1, 2}, .dilation = {2, 1}, .output_padding = {1, 2}}},
    {"groups, no bias",
     3,
     1,
     {{{4, {2, 4, 3, 3}}}, {{4, {4, 3, 2, 2}}}, {.absent = true}},
     call,
     &(const tsr_conv_options){.stride = {2, 2}, .groups = 2}},
    {"one cell", 3, 1, {{{4, {2, 3, 3, 5}}}, {{4, {3, 2, 1, 1}}}, {{1, {2}}}}, call},
    {"no samples", 3, 1, {{{4, {0, 3, 4, 5}}}, {{4, {3, 2, 2, 2}}}, {{1, {2}}}}, call},
};
TSR_SAMPLES(conv_transpose2d, samples);
