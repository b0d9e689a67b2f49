/*
 * Extrema along one dimension. x is seen as [outer, n, inner]: each thread walks down blocks of neighbouring columns, so
 * that it reads rows.
 */
#include "ops/extremum.h"
#include "autograd/loop.h"
#include "ops/dims.h"
#include "ops/index.h"
#include "ops/ops.h"
#include "ops/rows.h"

enum { BLOCK = 64 }; /* columns at once */

/* Columns of x [n rows, stride apart]: their extrema and the rows of these. Once NaN, a best stays. */
#define SCAN(T, name, operator)                                                                    \
    static void name(const T *x, int64_t n, int64_t stride, int64_t columns, T *best, int64_t *at) \
    {                                                                                              \
        for (int64_t c = 0; c < columns; c++) {                                                    \
            best[c] = x[c];                                                                        \
            at[c] = 0;                                                                             \
        }                                                                                          \
        for (int64_t i = 1; i < n; i++) {                                                          \
            for (int64_t c = 0; c < columns; c++) {                                                \
                const T v = x[i * stride + c], b = best[c];                                        \
                bool better = (v operator b || v != v) && b == b;                                  \
                best[c] = better ? v : b;                                                          \
                at[c] = better ? i : at[c];                                                        \
            }                                                                                      \
        }                                                                                          \
    }

SCAN(float, largest_f32, >)
SCAN(float, smallest_f32, <)
SCAN(double, largest_f64, >)
SCAN(double, smallest_f64, <)

/* A block of columns: the extrema, or where they stand, to y [to ...]. */
#define DEFINE_BLOCK(T, type)                                                                      \
    static void block_##type(const T *x, int64_t n, int64_t stride, int64_t columns, bool largest, \
                             bool indices, void *y, int64_t to)                                    \
    {                                                                                              \
        T best[BLOCK];                                                                             \
        int64_t at[BLOCK];                                                                         \
        (largest ? largest_##type : smallest_##type)(x, n, stride, columns, best, at);             \
        for (int64_t c = 0; c < columns; c++) {                                                    \
            if (indices) {                                                                         \
                ((int64_t *)y)[to + c] = at[c];                                                    \
            } else {                                                                               \
                ((T *)y)[to + c] = best[c];                                                        \
            }                                                                                      \
        }                                                                                          \
    }

DEFINE_BLOCK(float, f32)
DEFINE_BLOCK(double, f64)

/* Fills y, contiguous, from x, contiguous. */
static void find(tsr_tensor *y, tsr_tensor *x, int dim, bool largest, bool indices)
{
    tsr_shape shape = tsr_tensor_shape(x);
    int64_t outer, inner, n = shape.size[dim];
    tsr_index__lanes(shape, dim, &outer, &inner);
    int64_t blocks = (inner + BLOCK - 1) / BLOCK;
    bool f32 = tsr_tensor_dtype(x) == TSR_DTYPE_F32;
    const void *xd = tsr_tensor_data(x);
    void *yd = tsr_tensor_data_mut(y);
    TSR_PARALLEL_FOR(p, outer * blocks, outer * n * inner, {
        int64_t o = p / blocks, first = p % blocks * BLOCK;
        int64_t columns = inner - first < BLOCK ? inner - first : BLOCK;
        int64_t from = o * n * inner + first, to = o * inner + first;
        if (f32) {
            block_f32((const float *)xd + from, n, inner, columns, largest, indices, yd, to);
        } else {
            block_f64((const double *)xd + from, n, inner, columns, largest, indices, yd, to);
        }
    });
}

tsr_tensor *tsr_extremum__find(const char *op, tsr_tensor *x, int dim, bool keepdim, bool largest,
                               bool indices)
{
    if (x == NULL || !tsr_rows__is_real(op, "x", x)) return NULL;
    tsr_shape shape = tsr_tensor_shape(x), reduced = shape;
    int d = tsr_dims__index(op, "dim", dim, shape.ndim);
    if (d < 0) return NULL;
    reduced.size[d] = 1;
    if (!keepdim) reduced = tsr_dims__without(reduced, d);
    if (shape.size[d] == 0 && tsr_shape_numel(reduced) > 0) {
        char text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE, "%s: x has shape %s, expected elements along dimension %d", op,
                 tsr_shape_text(shape, text), d);
        return NULL;
    }
    tsr_tensor *y = tsr_empty(indices ? TSR_DTYPE_I64 : tsr_tensor_dtype(x), reduced);
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *packed = tsr_tensor_packed(x);
    bool ok = y != NULL && packed != NULL;
    if (ok) find(y, packed, d, largest, indices);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return ok ? y : NULL;
}

tsr_tensor *tsr_extremum__backward(const tsr_node *node, tsr_tensor *dy, int dim)
{
    tsr_tensor *x = tsr_node_saved(node, 0), *y = tsr_node_saved(node, 1);
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_shape kept = tsr_tensor_shape(x);
    kept.size[dim] = 1;
    tsr_tensor *zero = tsr_scalar(dtype, 0.0), *one = tsr_scalar(dtype, 1.0);
    tsr_tensor *equal = tsr_eq(x, tsr_reshape(y, kept));
    tsr_tensor *count = tsr_sum(tsr_where(equal, one, zero), &dim, 1, true);
    return tsr_where(equal, tsr_div(tsr_reshape(dy, kept), count), zero);
}
