/*
 * y[i, index[i, j]] += x[i, j], j along dim, i in all other dimensions; y has size n along dim and zeros where nothing
 * arrives. The transpose of gather, and dx[i, j] = dy[i, index[i, j]] is that.
 *
 * Threads share the lanes i, never j: each element of y is summed by one thread, in the order of j.
 */
#include "autograd/loop.h"
#include "ops/dims.h"
#include "ops/index.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

struct scatter_add {
    int dim;
};

enum { COLUMNS = 64 }; /* that a thread takes at a time: some cache lines */

#define ADD_LANES(T)                                                                               \
    for (int64_t j = 0; j < m; j++) {                                                              \
        int64_t row = (o * m + j) * inner;                                                         \
        for (int64_t k = first; k < end; k++) {                                                    \
            ((T *)y)[(o * n + at[row + k]) * inner + k] += ((const T *)x)[row + k];                \
        }                                                                                          \
    }

static void forward(tsr_tensor *y_, tsr_tensor *x_, tsr_tensor *index, int dim)
{
    int64_t outer, inner, n = tsr_tensor_size(y_, dim), m = tsr_tensor_size(x_, dim);
    tsr_index__lanes(tsr_tensor_shape(x_), dim, &outer, &inner);
    int64_t parts = (inner + COLUMNS - 1) / COLUMNS;
    bool f32 = tsr_tensor_dtype(x_) == TSR_DTYPE_F32;
    const int64_t *at = tsr_tensor_data(index);
    const void *x = tsr_tensor_data(x_);
    void *y = tsr_tensor_data_mut(y_);
    TSR_PARALLEL_FOR(p, outer * parts, outer * m * inner, {
        int64_t o = p / parts, first = p % parts * COLUMNS;
        int64_t end = inner - first < COLUMNS ? inner : first + COLUMNS;
        if (f32) {
            ADD_LANES(float)
        } else {
            ADD_LANES(double)
        }
    });
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct scatter_add *s = tsr_node_block(node);
    grad_inputs[0] = tsr_gather(grad_outputs[0], s->dim, tsr_node_saved(node, 0));
}

static const tsr_op op = {
    .name = "scatter_add", .block_size = sizeof(struct scatter_add), .backward = backward};

tsr_tensor *tsr_scatter_add(tsr_tensor *x, int dim, tsr_tensor *index, int64_t n)
{
    if (x == NULL || index == NULL) return NULL;
    tsr_shape shape = tsr_tensor_shape(x);
    struct scatter_add s = {tsr_dims__index("scatter_add", "dim", dim, shape.ndim)};
    if (s.dim < 0) return NULL;
    if (!tsr_shape_equal(tsr_tensor_shape(index), shape)) {
        char got[TSR_SHAPE_TEXT], text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE, "scatter_add: index has shape %s, expected that of x, %s",
                 tsr_shape_text(tsr_tensor_shape(index), got), tsr_shape_text(shape, text));
        return NULL;
    }
    if (!tsr_rows__is_real("scatter_add", "x", x)) return NULL;
    tsr_tensor *checked = tsr_index__checked("scatter_add", index, n);
    shape.size[s.dim] = n;
    tsr_tensor *y = tsr_zeros(tsr_tensor_dtype(x), shape), *packed = tsr_tensor_packed(x);
    if (checked == NULL || y == NULL || packed == NULL) return NULL;
    forward(y, packed, checked, s.dim);
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_TENSORS(checked), TSR_TENSORS(y));
}

struct arguments {
    int dim;
    int64_t n;
};

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const struct arguments *a = ((const tsr_sample *)user)->args;
    out[0] = tsr_scatter_add(in.at[0], a->dim, in.at[1], a->n);
}

static const tsr_sample samples[] = {
    {"columns",
     2,
     1,
     {{{2, {3, 7}}}, {.shape = {2, {3, 7}}, .below = 4}},
     call,
     &(const struct arguments){-1, 4}},
    {"rows",
     2,
     1,
     {{{2, {4, 3}}}, {.shape = {2, {4, 3}}, .below = 2}},
     call,
     &(const struct arguments){0, 3}},
    {"tokens",
     2,
     1,
     {{{3, {2, 4, 3}}}, {.shape = {3, {2, 4, 3}}, .below = 5}},
     call,
     &(const struct arguments){1, 5}},
    {"nothing",
     2,
     1,
     {{{2, {3, 0}}}, {.shape = {2, {3, 0}}, .below = 1}},
     call,
     &(const struct arguments){1, 2}},
};
TSR_SAMPLES(scatter_add, samples);
