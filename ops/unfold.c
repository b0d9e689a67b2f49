/*
 * y [B, C KH KW, L] = the windows of x [B, C, H, W] as columns, L of them; cells outside x are 0. Each element of y is a
 * copy of one of x, so dx is dy added back to where it came from: fold, which is unfold's transpose.
 */
#include "ops/ops.h"
#include "ops/samples.h"
#include "ops/windows.h"

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const tsr_windows *w = tsr_node_block(node);
    tsr_conv_options options = tsr_windows__options(w);
    grad_inputs[0] =
        tsr_fold(grad_outputs[0], w->in[0], w->in[1], w->kernel[0], w->kernel[1], &options);
}

static const tsr_op op = {
    .name = "unfold", .block_size = sizeof(tsr_windows), .backward = backward};

tsr_tensor *tsr_unfold(tsr_tensor *x, int64_t kh, int64_t kw, const tsr_conv_options *options)
{
    if (x == NULL || !tsr_windows__is_images(op.name, "x", x)) return NULL;
    tsr_windows w;
    if (!tsr_windows__attributes(op.name, kh, kw, options, &w)) return NULL;
    tsr_shape from = tsr_tensor_shape(x);
    if (!tsr_windows__place(op.name, from.size[2], from.size[3], &w)) return NULL;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_tensor *packed = tsr_tensor_packed(x);
    tsr_tensor *y =
        tsr_empty(dtype, TSR_SHAPE(from.size[0], from.size[1] * kh * kw, w.out[0] * w.out[1]));
    if (packed == NULL || y == NULL) return NULL;
    tsr_windows__columns(&w, dtype, from.size[0] * from.size[1], tsr_tensor_data(packed), 0,
                         w.out[0], tsr_tensor_data_mut(y), true);
    return tsr_record(&op, &w, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

struct args {
    int64_t kh, kw;
    tsr_conv_options options;
};

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const struct args *a = ((const tsr_sample *)user)->args;
    out[0] = tsr_unfold(in.at[0], a->kh, a->kw, &a->options);
}

static const tsr_sample samples[] = {
    {"plain", 1, 1, {{{4, {2, 3, 5, 6}}}}, call, &(const struct args){.kh = 2, .kw = 3}},
    {"stride, padding, dilation",
     1,
     1,
     {{{4, {2, 2, 7, 6}}}},
     call,
     &(const struct args){3, 2, {.stride = {2, 3}, .padding = {2, 1}, .dilation = {2, 1}}}},
    {"one cell", 1, 1, {{{4, {1, 3, 4, 5}}}}, call, &(const struct args){.kh = 1, .kw = 1}},
    {"padding beyond the image",
     1,
     1,
     {{{4, {1, 1, 2, 1}}}},
     call,
     &(const struct args){2, 2, {.padding = {3, 4}, .stride = {1, 5}}}},
    {"no samples", 1, 1, {{{4, {0, 3, 4, 5}}}}, call, &(const struct args){.kh = 2, .kw = 2}},
};
TSR_SAMPLES(unfold, samples);
