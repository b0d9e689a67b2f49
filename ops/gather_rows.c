/*
 * y[i] = x[index[i]]: x [V, ...], index [n] -> [n, ...]. dx[v] is the sum of the dy[i] with index[i] = v, in the order of
 * i: scatter_rows.
 */
#include "autograd/loop.h"
#include "ops/dims.h"
#include "ops/index.h"
#include "ops/ops.h"
#include "ops/samples.h"

#include <string.h>

struct gather_rows {
    int64_t n;
};

#define COPY_ROW(T)                                                                                \
    do {                                                                                           \
        T *to = (T *)y + i * row + at[0];                                                          \
        const T *from = (const T *)x + rows[i] * stride + at[1];                                   \
        if (sy == 1 && sx == 1) {                                                                  \
            memcpy(to, from, (size_t)n * sizeof(T));                                               \
        } else {                                                                                   \
            for (int64_t k = 0; k < n; k++) to[k * sy] = from[k * sx];                             \
        }                                                                                          \
    } while (0)

static void forward(tsr_tensor *y_, tsr_tensor *x_, tsr_tensor *index)
{
    int64_t numel = tsr_tensor_numel(y_);
    if (numel == 0) return;
    tsr_shape inner = tsr_dims__without(tsr_tensor_shape(x_), 0);
    tsr_loop loop = tsr_loop__make(
        inner, 2, (const int64_t *[]){tsr_tensor_strides(y_) + 1, tsr_tensor_strides(x_) + 1});
    int64_t sy = loop.stride[0][loop.ndim - 1], sx = loop.stride[1][loop.ndim - 1];
    int64_t row = tsr_tensor_strides(y_)[0], stride = tsr_tensor_strides(x_)[0];
    int64_t pieces = tsr_loop__pieces(&loop), count = tsr_tensor_numel(index) * pieces;
    size_t size = tsr_dtype_size(tsr_tensor_dtype(x_));
    const int64_t *rows = tsr_tensor_data(index);
    const void *x = tsr_tensor_data(x_);
    void *y = tsr_tensor_data_mut(y_);
    TSR_PARALLEL_FOR(p, count, numel, {
        int64_t i = p / pieces, at[TSR_LOOP_OPERANDS];
        int64_t n = tsr_loop__piece(&loop, p % pieces, at);
        if (size == 1) {
            COPY_ROW(uint8_t);
        } else if (size == 2) {
            COPY_ROW(uint16_t);
        } else if (size == 4) {
            COPY_ROW(uint32_t);
        } else {
            COPY_ROW(uint64_t);
        }
    });
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct gather_rows *s = tsr_node_block(node);
    grad_inputs[0] = tsr_scatter_rows(grad_outputs[0], tsr_node_saved(node, 0), s->n);
}

static const tsr_op op = {
    .name = "gather_rows", .block_size = sizeof(struct gather_rows), .backward = backward};

tsr_tensor *tsr_gather_rows(tsr_tensor *x, tsr_tensor *index)
{
    if (x == NULL) return NULL;
    tsr_shape shape = tsr_tensor_shape(x);
    if (shape.ndim == 0) {
        tsr_fail(TSR_STATUS_SHAPE, "gather_rows: x has shape [], expected one with rows");
        return NULL;
    }
    struct gather_rows s = {shape.size[0]};
    tsr_tensor *rows = tsr_index__rows("gather_rows", index, -1, s.n);
    if (rows == NULL) return NULL;
    shape.size[0] = tsr_tensor_numel(rows);
    tsr_tensor *y = tsr_empty(tsr_tensor_dtype(x), shape);
    if (y == NULL) return NULL;
    forward(y, x, rows);
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_TENSORS(rows), TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_gather_rows(in.at[0], in.at[1]);
}

static const tsr_sample samples[] = {
    {"repeated rows", 2, 1, {{{2, {4, 3}}}, {.shape = {1, {9}}, .below = 4}}, call},
    {"of a vector", 2, 1, {{{1, {5}}}, {.shape = {1, {3}}, .below = 5}}, call},
    {"of matrices", 2, 1, {{{3, {3, 2, 5}}}, {.shape = {1, {4}}, .below = 3}}, call},
    {"no rows", 2, 1, {{{2, {4, 3}}}, {.shape = {1, {0}}, .below = 1}}, call},
    {"empty rows", 2, 1, {{{2, {4, 0}}}, {.shape = {1, {2}}, .below = 4}}, call},
};
TSR_SAMPLES_BF16(gather_rows, samples);
