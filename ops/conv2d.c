/*
 * y [B, O, OH, OW] = weight [O, C / G, KH, KW] over the windows of x [B, C, H, W], plus bias [O].
 *
 * With X the windows of a sample as columns (ops/unfold.c) and W the weight as a matrix, Y = W X + bias for each group, so
 *   dX = W^T dY, added back to the image where the columns came from,
 *   dW = sum over samples of dY X^T,
 *   dbias = dY summed over samples and places.
 */
#include "ops/convolution.h"
#include "ops/samples.h"

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
            !tsr_convolution__transpose(c, tsr_tensor_data(dy), tsr_tensor_data(weight), NULL,
                                        tsr_tensor_data_mut(dx))) {
            return;
        }
        grad_inputs[0] = dx;
    }
    if (tsr_node_wants(node, 1)) {
        tsr_tensor *dweight = tsr_empty(c->dtype, tsr_tensor_shape(weight));
        x = tsr_tensor_packed(x);
        if (dweight == NULL || x == NULL ||
            !tsr_convolution__weight(c, tsr_tensor_data(x), tsr_tensor_data(dy),
                                     tsr_tensor_data_mut(dweight))) {
            return;
        }
        grad_inputs[1] = dweight;
    }
    if (tsr_node_wants(node, 2)) {
        tsr_tensor *sums = tsr_sum_to(dy, TSR_SHAPE(c->filters, 1, 1));
        grad_inputs[2] = tsr_reshape(sums, TSR_SHAPE(c->filters));
    }
}

static void definition(const void *block, tsr_tensors inputs, tsr_tensor **outputs)
{
    const tsr_convolution *c = block;
    const tsr_windows *w = &c->windows;
    tsr_conv_options options = tsr_windows__options(w);
    int64_t cells = c->channels / c->groups * w->kernel[0] * w->kernel[1];
    int64_t filters = c->filters / c->groups, places = w->out[0] * w->out[1];
    tsr_tensor *columns = tsr_unfold(inputs.at[0], w->kernel[0], w->kernel[1], &options);
    columns = tsr_reshape(columns, TSR_SHAPE(c->batch, c->groups, cells, places));
    tsr_tensor *weight = tsr_reshape(inputs.at[1], TSR_SHAPE(c->groups, filters, cells));
    tsr_tensor *y = tsr_reshape(tsr_matmul(weight, columns),
                                TSR_SHAPE(c->batch, c->filters, w->out[0], w->out[1]));
    if (inputs.at[2] != NULL) {
        y = tsr_add(y, tsr_reshape(inputs.at[2], TSR_SHAPE(c->filters, 1, 1)));
    }
    outputs[0] = y;
}

static const tsr_field fields[] = {TSR_FIELD(tsr_convolution, "kernel", windows.kernel),
                                   TSR_FIELD(tsr_convolution, "stride", windows.stride),
                                   TSR_FIELD(tsr_convolution, "padding", windows.padding),
                                   TSR_FIELD(tsr_convolution, "dilation", windows.dilation),
                                   TSR_FIELD(tsr_convolution, "groups", groups),
                                   {0}};

static const tsr_op op = {.name = "conv2d",
                          .block_size = sizeof(tsr_convolution),
                          .backward = backward,
                          .definition = definition,
                          .fields = fields};

tsr_tensor *tsr_conv2d(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias,
                       const tsr_conv_options *options)
{
    if (x == NULL || weight == NULL) return NULL;
    tsr_convolution c;
    if (!tsr_convolution__shape(op.name, x, weight, bias, options, false, &c) ||
        !tsr_windows__attributes(op.name, tsr_tensor_size(weight, 2), tsr_tensor_size(weight, 3),
                                 options, &c.windows) ||
        !tsr_windows__place(op.name, tsr_tensor_size(x, 2), tsr_tensor_size(x, 3), &c.windows)) {
        return NULL;
    }
    tsr_tensor *xp = tsr_tensor_packed(x), *wp = tsr_tensor_packed(weight);
    tsr_tensor *bp = bias != NULL ? tsr_tensor_packed(bias) : NULL;
    tsr_tensor *y =
        tsr_empty(c.dtype, TSR_SHAPE(c.batch, c.filters, c.windows.out[0], c.windows.out[1]));
    if (xp == NULL || wp == NULL || (bias != NULL && bp == NULL) || y == NULL ||
        !tsr_convolution__apply(&c, tsr_tensor_data(xp), tsr_tensor_data(wp),
                                bp != NULL ? tsr_tensor_data(bp) : NULL, tsr_tensor_data_mut(y))) {
        return NULL;
    }
    return tsr_record(&op, &c, TSR_TENSORS(x, weight, bias), TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    out[0] = tsr_conv2d(in.at[0], in.at[1], in.at[2], ((const tsr_sample *)user)->args);
}

static const tsr_sample samples[] = {
    {"plain", 3, 1, {{{4, {2, 3, 5, 6}}}, {{4, {4, 3, 3, 2}}}, {{1, {4}}}}, call},
    {"stride, padding, dilation",
     3,
     1,
     {{{4, {2, 2, 7, 6}}}, {{4, {3, 2, 3, 2}}}, {{1, {3}}}},
     call,
     &(const tsr_conv_options){.stride = {2, 3}, .padding = {2, 1}, .dilation = {2, 1}}},
    {"groups, no bias",
     3,
     1,
     {{{4, {2, 6, 4, 5}}}, {{4, {4, 3, 3, 3}}}, {.absent = true}},
     call,
     &(const tsr_conv_options){.padding = {1, 1}, .groups = 2}},
    {"one filter a channel",
     3,
     1,
     {{{4, {1, 3, 5, 4}}}, {{4, {3, 1, 3, 3}}}, {{1, {3}}}},
     call,
     &(const tsr_conv_options){.padding = {1, 1}, .groups = 3}},
    {"one cell", 3, 1, {{{4, {2, 3, 3, 5}}}, {{4, {2, 3, 1, 1}}}, {{1, {2}}}}, call},
    {"no samples", 3, 1, {{{4, {0, 3, 4, 5}}}, {{4, {2, 3, 2, 2}}}, {{1, {2}}}}, call},
    {"no channels", 3, 1, {{{4, {2, 0, 4, 5}}}, {{4, {2, 0, 2, 2}}}, {{1, {2}}}}, call},
};
TSR_SAMPLES(conv2d, samples);
