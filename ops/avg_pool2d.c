/*
 * y [B, C, OH, OW] = the means of x [B, C, H, W] over windows. Cells outside x count as 0, or with exclude_padding not at
 * all. The windows are rectangles, so that Y = R X C^T with R and C of equal weights in each row, and dX = R^T dY C
 * (ops/resample.h).
 */
#include "ops/ops.h"
#include "ops/resample.h"
#include "ops/samples.h"
#include "ops/windows.h"

struct avg_pool2d {
    tsr_windows windows;
    bool exclude_padding;
};

static bool make(const void *block, int d, tsr_taps *taps)
{
    const struct avg_pool2d *s = block;
    const tsr_windows *w = &s->windows;
    int64_t most = w->kernel[d] < w->in[d] ? w->kernel[d] : w->in[d];
    if (!tsr_taps__open(w->in[d], w->out[d], most, taps)) return false;
    for (int64_t i = 0; i < w->out[d]; i++) {
        int64_t first = i * w->stride[d] - w->padding[d], last = first + w->kernel[d];
        if (first < 0) first = 0;
        if (last > w->in[d]) last = w->in[d];
        int64_t cells = s->exclude_padding ? last - first : w->kernel[d];
        for (int64_t j = first; j < last; j++) tsr_taps__add(taps, i, j, 1.0 / (double)cells);
    }
    return true;
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    grad_inputs[0] = tsr_resample__transpose(make, tsr_node_block(node), grad_outputs[0]);
}

static void definition(const void *block, tsr_tensors inputs, tsr_tensor **outputs)
{
    outputs[0] = tsr_resample__definition(make, block, inputs.at[0]);
}

static const tsr_field fields[] = {TSR_FIELD(struct avg_pool2d, "kernel", windows.kernel),
                                   TSR_FIELD(struct avg_pool2d, "stride", windows.stride),
                                   TSR_FIELD(struct avg_pool2d, "padding", windows.padding),
                                   TSR_FIELD(struct avg_pool2d, "exclude_padding", exclude_padding),
                                   {0}};

static const tsr_op op = {.name = "avg_pool2d",
                          .block_size = sizeof(struct avg_pool2d),
                          .backward = backward,
                          .definition = definition,
                          .fields = fields};

tsr_tensor *tsr_avg_pool2d(tsr_tensor *x, const tsr_pool_options *options)
{
    if (x == NULL || !tsr_windows__is_images(op.name, "x", x)) return NULL;
    struct avg_pool2d s = {.exclude_padding = options != NULL && options->exclude_padding};
    if (!tsr_windows__pool(op.name, options, tsr_tensor_size(x, 2), tsr_tensor_size(x, 3),
                           &s.windows)) {
        return NULL;
    }
    tsr_tensor *y = tsr_resample__apply(make, &s, x);
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    out[0] = tsr_avg_pool2d(in.at[0], ((const tsr_sample *)user)->args);
}

static const tsr_sample samples[] = {
    {"plain", 1, 1, {{{4, {2, 3, 5, 6}}}}, call, &(const tsr_pool_options){.kernel = {2, 3}}},
    {"stride, padding",
     1,
     1,
     {{{4, {2, 2, 5, 6}}}},
     call,
     &(const tsr_pool_options){.kernel = {3, 2}, .stride = {2, 1}, .padding = {1, 1}}},
    {"padding excluded",
     1,
     1,
     {{{4, {2, 2, 5, 4}}}},
     call,
     &(const tsr_pool_options){
         .kernel = {3, 4}, .stride = {1, 2}, .padding = {1, 2}, .exclude_padding = true}},
    {"no channels", 1, 1, {{{4, {2, 0, 4, 5}}}}, call, &(const tsr_pool_options){.kernel = {2, 2}}},
};
TSR_SAMPLES(avg_pool2d, samples);
