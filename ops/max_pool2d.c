/*
 * y [B, C, OH, OW] = the largest element of x [B, C, H, W] in each window; cells outside never win, NaN always does, the
 * first of equals is taken. y is a choice of x's elements, so dx = dy added to the elements that were chosen.
 */
#include "autograd/loop.h"
#include "ops/ops.h"
#include "ops/samples.h"
#include "ops/windows.h"

#include <math.h>

/* static void name(...): one plane; the winners' places in it go into index unless that is NULL. */
#define PLANE_LOOP(T, name)                                                                        \
    static void name(const tsr_windows *w, const T *x, T *y, int64_t *index)                       \
    {                                                                                              \
        for (int64_t i = 0; i < w->out[0]; i++) {                                                  \
            int64_t top = i * w->stride[0] - w->padding[0], bottom = top + w->kernel[0];           \
            if (top < 0) top = 0;                                                                  \
            if (bottom > w->in[0]) bottom = w->in[0];                                              \
            for (int64_t j = 0; j < w->out[1]; j++) {                                              \
                int64_t left = j * w->stride[1] - w->padding[1], right = left + w->kernel[1];      \
                if (left < 0) left = 0;                                                            \
                if (right > w->in[1]) right = w->in[1];                                            \
                int64_t best = top * w->in[1] + left;                                              \
                for (int64_t r = top; r < bottom; r++) {                                           \
                    for (int64_t c = left; c < right; c++) {                                       \
                        int64_t at = r * w->in[1] + c;                                             \
                        if (x[at] > x[best] || (isnan(x[at]) && !isnan(x[best]))) best = at;       \
                    }                                                                              \
                }                                                                                  \
                y[i * w->out[1] + j] = x[best];                                                    \
                if (index != NULL) index[i * w->out[1] + j] = best;                                \
            }                                                                                      \
        }                                                                                          \
    }

PLANE_LOOP(float, pool32)
PLANE_LOOP(double, pool64)

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const tsr_windows *w = tsr_node_block(node);
    tsr_tensor *index = tsr_node_saved(node, 0); /* [B, C, OH OW] */
    int64_t batch = tsr_tensor_size(index, 0), channels = tsr_tensor_size(index, 1);
    tsr_tensor *dy = tsr_reshape(grad_outputs[0], tsr_tensor_shape(index));
    tsr_tensor *dx = tsr_scatter_add(dy, 2, index, w->in[0] * w->in[1]);
    grad_inputs[0] = tsr_reshape(dx, TSR_SHAPE(batch, channels, w->in[0], w->in[1]));
}

static const tsr_field fields[] = {TSR_FIELD(tsr_windows, "kernel", kernel),
                                   TSR_FIELD(tsr_windows, "stride", stride),
                                   TSR_FIELD(tsr_windows, "padding", padding),
                                   {0}};

static const tsr_op op = {.name = "max_pool2d",
                          .block_size = sizeof(tsr_windows),
                          .backward = backward,
                          .fields = fields};

tsr_tensor *tsr_max_pool2d(tsr_tensor *x, const tsr_pool_options *options)
{
    if (x == NULL || !tsr_windows__is_images(op.name, "x", x)) return NULL;
    tsr_shape shape = tsr_tensor_shape(x);
    tsr_windows w;
    if (!tsr_windows__pool(op.name, options, shape.size[2], shape.size[3], &w)) return NULL;
    int64_t in = w.in[0] * w.in[1], out = w.out[0] * w.out[1];
    tsr_tensor *packed = tsr_tensor_packed(x), *index = NULL;
    tsr_tensor *y =
        tsr_empty(tsr_tensor_dtype(x), TSR_SHAPE(shape.size[0], shape.size[1], w.out[0], w.out[1]));
    if (packed == NULL || y == NULL) return NULL;
    if (tsr_needs_grad(TSR_TENSORS(x))) {
        index = tsr_empty(TSR_DTYPE_I64, TSR_SHAPE(shape.size[0], shape.size[1], out));
        if (index == NULL) return NULL;
    }
    const void *xd = tsr_tensor_data(packed);
    void *yd = tsr_tensor_data_mut(y);
    int64_t *places = index != NULL ? tsr_tensor_data_mut(index) : NULL;
    int64_t planes = shape.size[0] * shape.size[1];
    int64_t work = planes * out * w.kernel[0] * w.kernel[1];
    if (tsr_tensor_dtype(x) == TSR_DTYPE_F32) {
        TSR_PARALLEL_FOR(p, planes, work,
                         pool32(&w, (const float *)xd + p * in, (float *)yd + p * out,
                                places != NULL ? places + p * out : NULL));
    } else {
        TSR_PARALLEL_FOR(p, planes, work,
                         pool64(&w, (const double *)xd + p * in, (double *)yd + p * out,
                                places != NULL ? places + p * out : NULL));
    }
    return tsr_record(&op, &w, TSR_TENSORS(x), TSR_TENSORS(index), TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    out[0] = tsr_max_pool2d(in.at[0], ((const tsr_sample *)user)->args);
}

static const tsr_sample samples[] = {
    {"plain", 1, 1, {{{4, {2, 3, 5, 6}}}}, call, &(const tsr_pool_options){.kernel = {2, 3}}},
    {"stride, padding",
     1,
     1,
     {{{4, {2, 2, 5, 6}}}},
     call,
     &(const tsr_pool_options){.kernel = {3, 2}, .stride = {2, 1}, .padding = {1, 1}}},
    {"no channels", 1, 1, {{{4, {2, 0, 4, 5}}}}, call, &(const tsr_pool_options){.kernel = {2, 2}}},
};
TSR_SAMPLES(max_pool2d, samples);
