/*
 * Sums. Whatever the layout, an element of the result is added up in an order that depends on the shape alone: rows in
 * parts of PART elements with eight running sums each, columns in blocks of ROWS rows; parts and blocks are then added in
 * order.
 */
#include "ops/reduce.h"
#include "autograd/loop.h"

#include <string.h>

enum { LANES = 8, PART = 4096, ROWS = 128 };

bool tsr_reduce__dims(const char *op, const tsr_tensor *x, const int *dims, int n_dims,
                      unsigned *set)
{
    int ndim = tsr_tensor_ndim(x);
    *set = n_dims == 0 ? (1u << ndim) - 1u : 0u;
    for (int i = 0; i < n_dims; i++) {
        int d = dims[i] < 0 ? dims[i] + ndim : dims[i];
        if (d < 0 || d >= ndim || (*set & (1u << d)) != 0) {
            tsr_fail(TSR_STATUS_ARGUMENT,
                     "%s: dimension %d is out of range or named twice (x has %d)", op, dims[i],
                     ndim);
            return false;
        }
        *set |= 1u << d;
    }
    return true;
}

tsr_shape tsr_reduce__shape(const tsr_tensor *x, unsigned set, bool keepdim)
{
    tsr_shape shape = tsr_tensor_shape(x), out = {0};
    for (int d = 0; d < shape.ndim; d++) {
        bool reduced = (set & (1u << d)) != 0;
        if (reduced && !keepdim) continue;
        out.size[out.ndim++] = reduced ? 1 : shape.size[d];
    }
    return out;
}

#define DEFINE(T, suffix)                                                                           \
    static T part_sum_##suffix(const T *x, int64_t n)                                               \
    {                                                                                               \
        T lane[LANES] = {0}, sum = 0;                                                               \
        int64_t i = 0;                                                                              \
        for (; i + LANES <= n; i += LANES) {                                                        \
            for (int k = 0; k < LANES; k++) lane[k] += x[i + k];                                    \
        }                                                                                           \
        for (; i < n; i++) sum += x[i];                                                             \
        for (int k = 0; k < LANES; k++) sum += lane[k];                                             \
        return sum;                                                                                 \
    }                                                                                               \
    /* y [rows] = sums of x [rows, n] */                                                            \
    static void row_sums_##suffix(T *y, const T *x, int64_t rows, int64_t n, T *parts)              \
    {                                                                                               \
        int64_t per_row = (n + PART - 1) / PART;                                                    \
        _Pragma("omp parallel for schedule(static) num_threads(tsr_loop__threads(rows * n))") for ( \
            int64_t p = 0; p < rows * per_row; p++)                                                 \
        {                                                                                           \
            int64_t row = p / per_row, start = p % per_row * PART;                                  \
            int64_t length = n - start < PART ? n - start : PART;                                   \
            parts[p] = part_sum_##suffix(x + row * n + start, length);                              \
        }                                                                                           \
        for (int64_t row = 0; row < rows; row++) {                                                  \
            T sum = 0;                                                                              \
            for (int64_t k = 0; k < per_row; k++) sum += parts[row * per_row + k];                  \
            y[row] = sum;                                                                           \
        }                                                                                           \
    }                                                                                               \
    /* y [n] = sums of the columns of x [rows, n] */                                                \
    static void column_sums_##suffix(T *y, const T *x, int64_t rows, int64_t n, T *parts)           \
    {                                                                                               \
        int64_t blocks = (rows + ROWS - 1) / ROWS;                                                  \
        _Pragma("omp parallel for schedule(static) num_threads(tsr_loop__threads(rows * n))") for ( \
            int64_t b = 0; b < blocks; b++)                                                         \
        {                                                                                           \
            T *sum = parts + b * n;                                                                 \
            int64_t end = (b + 1) * ROWS < rows ? (b + 1) * ROWS : rows;                            \
            for (int64_t i = 0; i < n; i++) sum[i] = 0;                                             \
            for (int64_t r = b * ROWS; r < end; r++) {                                              \
                const T *row = x + r * n;                                                           \
                for (int64_t i = 0; i < n; i++) sum[i] += row[i];                                   \
            }                                                                                       \
        }                                                                                           \
        for (int64_t i = 0; i < n; i++) y[i] = 0;                                                   \
        for (int64_t b = 0; b < blocks; b++) {                                                      \
            for (int64_t i = 0; i < n; i++) y[i] += parts[b * n + i];                               \
        }                                                                                           \
    }

DEFINE(float, f32)
DEFINE(double, f64)

/* x with the reduced dimensions behind the others. */
static tsr_tensor *reduced_last(tsr_tensor *x, unsigned set)
{
    tsr_shape shape = tsr_tensor_shape(x), out = {.ndim = shape.ndim};
    const int64_t *strides = tsr_tensor_strides(x);
    int64_t moved[TSR_MAX_DIMS];
    int n = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int d = 0; d < shape.ndim; d++) {
            if (((set >> d) & 1u) != (unsigned)pass) continue;
            out.size[n] = shape.size[d];
            moved[n++] = strides[d];
        }
    }
    return tsr_tensor_view(x, out, moved, 0);
}

/* All reduced dimensions stand before all others. */
static bool reduces_front(tsr_shape shape, unsigned set)
{
    bool kept = false;
    for (int d = 0; d < shape.ndim; d++) {
        bool reduced = (set & (1u << d)) != 0;
        if (reduced && kept && shape.size[d] != 1) return false;
        kept = kept || (!reduced && shape.size[d] != 1);
    }
    return true;
}

tsr_tensor *tsr_reduce__sum(const char *op, tsr_tensor *x, unsigned set, bool keepdim, double scale)
{
    tsr_dtype dtype = tsr_tensor_dtype(x);
    if (dtype != TSR_DTYPE_F32 && dtype != TSR_DTYPE_F64) {
        tsr_fail(TSR_STATUS_DTYPE, "%s: x is %s, expected f32 or f64", op, tsr_dtype_name(dtype));
        return NULL;
    }
    tsr_tensor *y = tsr_empty(dtype, tsr_reduce__shape(x, set, keepdim));
    if (y == NULL) return NULL;
    int64_t outputs = tsr_tensor_numel(y), all = tsr_tensor_numel(x);
    if (outputs == 0) return y;
    if (all == 0) {
        tsr_tensor_fill(y, 0.0);
        return y;
    }
    tsr_scope scope = tsr_scope_open();
    int64_t n = all / outputs;
    bool columns =
        outputs > 1 && tsr_tensor_is_contiguous(x) && reduces_front(tsr_tensor_shape(x), set);
    tsr_tensor *packed = columns ? x : tsr_tensor_packed(reduced_last(x, set));
    int64_t n_parts = columns ? (n + ROWS - 1) / ROWS * outputs : outputs * ((n + PART - 1) / PART);
    void *parts = tsr_alloc((size_t)n_parts * tsr_dtype_size(dtype));
    bool ok = packed != NULL && parts != NULL;
    if (ok && dtype == TSR_DTYPE_F32) {
        float *yd = tsr_tensor_data_mut(y);
        const float *xd = tsr_tensor_data(packed);
        if (columns) {
            column_sums_f32(yd, xd, n, outputs, parts);
        } else {
            row_sums_f32(yd, xd, outputs, n, parts);
        }
        for (int64_t i = 0; scale != 1.0 && i < outputs; i++) yd[i] *= (float)scale;
    } else if (ok) {
        double *yd = tsr_tensor_data_mut(y);
        const double *xd = tsr_tensor_data(packed);
        if (columns) {
            column_sums_f64(yd, xd, n, outputs, parts);
        } else {
            row_sums_f64(yd, xd, outputs, n, parts);
        }
        for (int64_t i = 0; scale != 1.0 && i < outputs; i++) yd[i] *= scale;
    }
    tsr_free(parts);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return ok ? y : NULL;
}
