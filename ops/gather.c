/*
 * y[i, j] = x[i, index[i, j]], j along dim, i in all other dimensions, in which x and index agree. dx is dy added to where
 * it came from: scatter_add.
 */
#include "autograd/loop.h"
#include "ops/dims.h"
#include "ops/index.h"
#include "ops/ops.h"
#include "ops/samples.h"

struct gather {
    int dim;
    int64_t n; /* size of x along dim */
};

#define GATHER_ROW(T)                                                                              \
    for (int64_t k = 0; k < inner; k++) {                                                          \
        ((T *)y)[p * inner + k] = ((const T *)x)[(o * n + at[k]) * inner + k];                     \
    }

static void forward(tsr_tensor *y_, tsr_tensor *x_, tsr_tensor *index, const struct gather *s)
{
    int64_t outer, inner, n = s->n, m = tsr_tensor_size(index, s->dim);
    tsr_index__lanes(tsr_tensor_shape(index), s->dim, &outer, &inner);
    size_t size = tsr_dtype_size(tsr_tensor_dtype(x_));
    const int64_t *indices = tsr_tensor_data(index);
    const void *x = tsr_tensor_data(x_);
    void *y = tsr_tensor_data_mut(y_);
    TSR_PARALLEL_FOR(p, outer * m, outer * m * inner, {
        const int64_t *at = indices + p * inner, o = p / m;
        if (size == 1) {
            GATHER_ROW(uint8_t)
        } else if (size == 2) {
            GATHER_ROW(uint16_t)
        } else if (size == 4) {
            GATHER_ROW(uint32_t)
        } else {
            GATHER_ROW(uint64_t)
        }
    });
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct gather *s = tsr_node_block(node);
    grad_inputs[0] = tsr_scatter_add(grad_outputs[0], s->dim, tsr_node_saved(node, 0), s->n);
}

static const tsr_field fields[] = {TSR_FIELD(struct gather, "dim", dim), {0}};

static const tsr_op op = {
    .name = "gather", .block_size = sizeof(struct gather), .backward = backward, .fields = fields};

tsr_tensor *tsr_gather(tsr_tensor *x, int dim, tsr_tensor *index)
{
    if (x == NULL || index == NULL) return NULL;
    tsr_shape shape = tsr_tensor_shape(index), wanted = tsr_tensor_shape(x);
    struct gather s = {.dim = tsr_dims__index("gather", "dim", dim, wanted.ndim)};
    if (s.dim < 0) return NULL;
    s.n = wanted.size[s.dim];
    wanted.size[s.dim] = tsr_tensor_size(index, s.dim);
    if (!tsr_shape_equal(shape, wanted)) {
        char got[TSR_SHAPE_TEXT], text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE,
                 "gather: index has shape %s, expected that of x, %s, except in dimension %d",
                 tsr_shape_text(shape, got), tsr_shape_text(tsr_tensor_shape(x), text), s.dim);
        return NULL;
    }
    tsr_tensor *checked = tsr_index__checked("gather", index, s.n);
    tsr_tensor *y = tsr_empty(tsr_tensor_dtype(x), shape), *packed = tsr_tensor_packed(x);
    if (checked == NULL || y == NULL || packed == NULL) return NULL;
    forward(y, packed, checked, &s);
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_TENSORS(checked), TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    out[0] = tsr_gather(in.at[0], *(const int *)((const tsr_sample *)user)->args, in.at[1]);
}

static const tsr_sample samples[] = {
    {"columns", 2, 1, {{{2, {3, 5}}}, {.shape = {2, {3, 7}}, .below = 5}}, call, &(const int){-1}},
    {"rows", 2, 1, {{{2, {3, 5}}}, {.shape = {2, {2, 5}}, .below = 3}}, call, &(const int){0}},
    {"tokens",
     2,
     1,
     {{{3, {2, 5, 3}}}, {.shape = {3, {2, 4, 3}}, .below = 5}},
     call,
     &(const int){1}},
    {"vector", 2, 1, {{{1, {5}}}, {.shape = {1, {9}}, .below = 5}}, call, &(const int){0}},
    {"none", 2, 1, {{{2, {3, 5}}}, {.shape = {2, {3, 0}}, .below = 1}}, call, &(const int){1}},
};
TSR_SAMPLES(gather, samples);
