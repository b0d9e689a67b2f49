/*
 * y[index[i]] += x[i]: x [m, ...], index [m] -> y [n, ...], zeros where no row arrives. The transpose of gather_rows, and
 * dx[i] = dy[index[i]] is that.
 *
 * Threads share the columns, never the rows: each element of y is summed by one thread, in the order of i.
 */
#include "autograd/loop.h"
#include "ops/elementwise.h"
#include "ops/half.h"
#include "ops/index.h"
#include "ops/ops.h"
#include "ops/samples.h"

enum { COLUMNS = 64 }; /* that a thread takes at a time: some cache lines */

#define ADD_COLUMNS(T)                                                                             \
    for (int64_t i = 0; i < m; i++) {                                                              \
        T *to = (T *)yd + rows[i] * width + first;                                                 \
        const T *from = (const T *)xd + i * width + first;                                         \
        for (int64_t k = 0; k < n; k++) to[k] += from[k];                                          \
    }

static void forward(tsr_tensor *y, tsr_tensor *x, tsr_tensor *index)
{
    int64_t numel = tsr_tensor_numel(x), m = tsr_tensor_numel(index);
    if (numel == 0) return;
    int64_t width = numel / m, parts = (width + COLUMNS - 1) / COLUMNS;
    bool f32 = tsr_tensor_dtype(x) == TSR_DTYPE_F32;
    const int64_t *rows = tsr_tensor_data(index);
    const void *xd = tsr_tensor_data(x);
    void *yd = tsr_tensor_data_mut(y);
    TSR_PARALLEL_FOR(p, parts, numel, {
        int64_t first = p * COLUMNS, n = width - first < COLUMNS ? width - first : COLUMNS;
        if (f32) {
            ADD_COLUMNS(float)
        } else {
            ADD_COLUMNS(double)
        }
    });
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    grad_inputs[0] = tsr_gather_rows(grad_outputs[0], tsr_node_saved(node, 0));
}

static const tsr_op op = {.name = "scatter_rows", .backward = backward};

tsr_tensor *tsr_scatter_rows(tsr_tensor *x, tsr_tensor *index, int64_t n)
{
    if (x == NULL) return NULL;
    tsr_shape shape = tsr_tensor_shape(x);
    if (!tsr_elementwise__takes("scatter_rows", "x", x)) return NULL;
    if (shape.ndim == 0) {
        tsr_fail(TSR_STATUS_SHAPE, "scatter_rows: x has shape [], expected one with rows");
        return NULL;
    }
    tsr_tensor *rows = tsr_index__rows("scatter_rows", index, shape.size[0], n);
    if (rows == NULL) return NULL;
    shape.size[0] = n;
    tsr_tensor *wide = tsr_half__widened(tsr_tensor_packed(x));
    tsr_tensor *y = wide != NULL ? tsr_zeros(tsr_tensor_dtype(wide), shape) : NULL;
    if (y == NULL) return NULL;
    forward(y, wide, rows);
    y = tsr_tensor_converted(y, tsr_tensor_dtype(x));
    return tsr_record(&op, NULL, TSR_TENSORS(x), TSR_TENSORS(rows), TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    out[0] =
        tsr_scatter_rows(in.at[0], in.at[1], *(const int64_t *)((const tsr_sample *)user)->args);
}

static const tsr_sample samples[] = {
    {"repeated rows",
     2,
     1,
     {{{2, {9, 3}}}, {.shape = {1, {9}}, .below = 4}},
     call,
     &(const int64_t){4}},
    {"rows left out",
     2,
     1,
     {{{3, {2, 2, 3}}}, {.shape = {1, {2}}, .below = 7}},
     call,
     &(const int64_t){7}},
    {"of a vector", 2, 1, {{{1, {5}}}, {.shape = {1, {5}}, .below = 3}}, call, &(const int64_t){3}},
    {"no rows", 2, 1, {{{2, {0, 3}}}, {.shape = {1, {0}}, .below = 1}}, call, &(const int64_t){2}},
};
TSR_SAMPLES_BF16(scatter_rows, samples);
