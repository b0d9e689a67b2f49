/*
 * y [B, C, H, W] = the columns x [B, C KH KW, L] added to the windows that they stand for; what falls outside is dropped.
 * It is unfold's transpose, so dx = unfold(dy).
 */
#include "ops/ops.h"
#include "ops/samples.h"
#include "ops/windows.h"

#include <inttypes.h>

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const tsr_windows *w = tsr_node_block(node);
    tsr_conv_options options = tsr_windows__options(w);
    grad_inputs[0] = tsr_unfold(grad_outputs[0], w->kernel[0], w->kernel[1], &options);
}

static const tsr_op op = {.name = "fold", .block_size = sizeof(tsr_windows), .backward = backward};

static bool shape_fits(const tsr_tensor *x, const tsr_windows *w)
{
    tsr_shape shape = tsr_tensor_shape(x);
    int64_t cells = w->kernel[0] * w->kernel[1], count = w->out[0] * w->out[1];
    if (shape.ndim == 3 && shape.size[1] % cells == 0 && shape.size[2] == count) return true;
    char got[TSR_SHAPE_TEXT];
    tsr_fail(TSR_STATUS_SHAPE,
             "fold: x has shape %s, expected [B, C * %" PRId64 ", %" PRId64 "] (cells of a kernel "
             "%" PRId64 " x %" PRId64 ", windows %" PRId64 " x %" PRId64 " on %" PRId64
             " x %" PRId64 ")",
             tsr_shape_text(shape, got), cells, count, w->kernel[0], w->kernel[1], w->out[0],
             w->out[1], w->in[0], w->in[1]);
    return false;
}

tsr_tensor *tsr_fold(tsr_tensor *x, int64_t h, int64_t w, int64_t kh, int64_t kw,
                     const tsr_conv_options *options)
{
    if (x == NULL) return NULL;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    if (dtype != TSR_DTYPE_F32 && dtype != TSR_DTYPE_F64) {
        tsr_fail(TSR_STATUS_DTYPE, "fold: x is %s, expected f32 or f64", tsr_dtype_name(dtype));
        return NULL;
    }
    tsr_windows windows;
    if (!tsr_windows__attributes(op.name, kh, kw, options, &windows) ||
        !tsr_windows__place(op.name, h, w, &windows) || !shape_fits(x, &windows)) {
        return NULL;
    }
    int64_t batch = tsr_tensor_size(x, 0), channels = tsr_tensor_size(x, 1) / (kh * kw);
    tsr_tensor *packed = tsr_tensor_packed(x);
    tsr_tensor *y = tsr_zeros(dtype, TSR_SHAPE(batch, channels, h, w));
    if (packed == NULL || y == NULL) return NULL;
    tsr_windows__add_columns(&windows, dtype, batch * channels, tsr_tensor_data(packed), 0,
                             windows.out[0], tsr_tensor_data_mut(y), true);
    return tsr_record(&op, &windows, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

struct args {
    int64_t h, w, kh, kw;
    tsr_conv_options options;
};

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const struct args *a = ((const tsr_sample *)user)->args;
    out[0] = tsr_fold(in.at[0], a->h, a->w, a->kh, a->kw, &a->options);
}

static const tsr_sample samples[] = {
    {"plain", 1, 1, {{{3, {2, 18, 16}}}}, call, &(const struct args){5, 6, 2, 3}},
    {"stride, padding, dilation",
     1,
     1,
     {{{3, {2, 12, 12}}}},
     call,
     &(const struct args){7, 6, 3, 2, {.stride = {2, 3}, .padding = {2, 1}, .dilation = {2, 1}}}},
    {"no samples", 1, 1, {{{3, {0, 4, 6}}}}, call, &(const struct args){3, 4, 2, 2}},
};
TSR_SAMPLES(fold, samples);
