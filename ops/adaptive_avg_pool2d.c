/*
 * y [B, C, OH, OW] = the means of x [B, C, H, W] over OH x OW rectangles that cover it: output i takes the rows
 * floor(i H / OH) .. ceil((i + 1) H / OH) - 1, and likewise the columns. So Y = R X C^T with R and C of equal weights in
 * each row, and dX = R^T dY C (ops/resample.h).
 */
#include "ops/ops.h"
#include "ops/resample.h"
#include "ops/samples.h"
#include "ops/windows.h"

#include <inttypes.h>

struct adaptive_avg_pool2d {
    int64_t in[2], out[2];
};

static bool make(const void *block, int d, tsr_taps *taps)
{
    const struct adaptive_avg_pool2d *s = block;
    int64_t in = s->in[d], out = s->out[d], most = in / out + 2;
    if (!tsr_taps__open(in, out, most < in ? most : in, taps)) return false;
    for (int64_t i = 0; i < out; i++) {
        int64_t first = i * in / out, last = ((i + 1) * in + out - 1) / out;
        for (int64_t j = first; j < last; j++) {
            tsr_taps__add(taps, i, j, 1.0 / (double)(last - first));
        }
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

static const tsr_op op = {.name = "adaptive_avg_pool2d",
                          .block_size = sizeof(struct adaptive_avg_pool2d),
                          .backward = backward,
                          .definition = definition};

tsr_tensor *tsr_adaptive_avg_pool2d(tsr_tensor *x, int64_t h, int64_t w)
{
    if (x == NULL || !tsr_windows__is_images(op.name, "x", x)) return NULL;
    struct adaptive_avg_pool2d s = {{tsr_tensor_size(x, 2), tsr_tensor_size(x, 3)}, {h, w}};
    for (int d = 0; d < 2; d++) {
        if (s.in[d] >= 1 && s.in[d] <= INT32_MAX && s.out[d] >= 1 && s.out[d] <= INT32_MAX) {
            continue;
        }
        tsr_fail(TSR_STATUS_SHAPE,
                 "%s: from %" PRId64 " x %" PRId64 " to %" PRId64 " x %" PRId64
                 ", expected sizes of 1 or more",
                 op.name, s.in[0], s.in[1], h, w);
        return NULL;
    }
    tsr_tensor *y = tsr_resample__apply(make, &s, x);
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const int64_t *size = ((const tsr_sample *)user)->args;
    out[0] = tsr_adaptive_avg_pool2d(in.at[0], size[0], size[1]);
}

static const tsr_sample samples[] = {
    {"to one", 1, 1, {{{4, {2, 3, 5, 6}}}}, call, (const int64_t[]){1, 1}},
    {"overlapping", 1, 1, {{{4, {2, 2, 5, 7}}}}, call, (const int64_t[]){3, 4}},
    {"larger", 1, 1, {{{4, {1, 2, 3, 2}}}}, call, (const int64_t[]){5, 6}},
    {"no samples", 1, 1, {{{4, {0, 3, 4, 5}}}}, call, (const int64_t[]){2, 2}},
};
TSR_SAMPLES(adaptive_avg_pool2d, samples);
