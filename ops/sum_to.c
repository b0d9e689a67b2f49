/*
 * y = x summed over the dimensions along which a tensor of y's shape is stretched to x's: the transpose of broadcasting.
 * dx = dy expanded.
 */
#include "autograd/loop.h"
#include "ops/elementwise.h"
#include "ops/ops.h"
#include "ops/samples.h"

struct sum_to {
    tsr_shape from;
};

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct sum_to *s = tsr_node_block(node);
    grad_inputs[0] = tsr_expand(grad_outputs[0], s->from);
}

static const tsr_op op = {
    .name = "sum_to", .block_size = sizeof(struct sum_to), .backward = backward};

tsr_tensor *tsr_sum_to(tsr_tensor *x, tsr_shape shape)
{
    if (x == NULL) return NULL;
    struct sum_to s = {tsr_tensor_shape(x)};
    if (tsr_shape_equal(s.from, shape)) return x;
    tsr_tensor *y = tsr_zeros(tsr_tensor_dtype(x), shape);
    if (y == NULL) return NULL;
    int64_t sy[TSR_MAX_DIMS];
    tsr_loop__broadcast(shape, tsr_tensor_strides(y), s.from, sy);
    tsr_loop loop = tsr_loop__make(s.from, 2, (const int64_t *[]){sy, tsr_tensor_strides(x)});
    int64_t a = loop.stride[0][loop.ndim - 1], b = loop.stride[1][loop.ndim - 1];
    void *yd = tsr_tensor_data_mut(y);
    const void *xd = tsr_tensor_data(x);
    int64_t pieces = tsr_tensor_numel(x) > 0 ? tsr_loop__pieces(&loop) : 0;
    for (int64_t p = 0; p < pieces; p++) {
        int64_t at[TSR_LOOP_OPERANDS], n = tsr_loop__piece(&loop, p, at);
        for (int64_t i = 0; i < n; i++) {
            if (tsr_tensor_dtype(x) == TSR_DTYPE_F32) {
                ((float *)yd)[at[0] + i * a] += ((const float *)xd)[at[1] + i * b];
            } else {
                ((double *)yd)[at[0] + i * a] += ((const double *)xd)[at[1] + i * b];
            }
        }
    }
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
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
TSR_SAMPLES(sum_to, samples);
