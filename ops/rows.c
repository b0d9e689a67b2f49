/* What the ops that work on rows share: chunks, checks of arguments, sums over rows. */
#include "ops/rows.h"
#include "ops/kernels/bf16.h"
#include "ops/kernels/kernels.h"
#include "ops/ops.h"

/* A chunk has some 32 KiB of work at least; there are no more than 64, so that sums over rows stay cheap to combine. */
enum { CHUNK_ELEMENTS = 8192, MOST_CHUNKS = 64 };

tsr_rows tsr_rows__of(tsr_shape shape)
{
    tsr_rows r = {.d = shape.ndim > 0 ? shape.size[shape.ndim - 1] : 1, .rows = 1};
    for (int i = 0; i < shape.ndim - 1; i++) r.rows *= shape.size[i];
    int64_t least = CHUNK_ELEMENTS / (r.d > 0 ? r.d : 1) + 1;
    r.chunk = (r.rows + MOST_CHUNKS - 1) / MOST_CHUNKS;
    if (r.chunk < least) r.chunk = least;
    r.chunks = (r.rows + r.chunk - 1) / r.chunk;
    return r;
}

bool tsr_rows__is_real(const char *op, const char *argument, const tsr_tensor *t)
{
    tsr_dtype dtype = tsr_tensor_dtype(t);
    if (dtype == TSR_DTYPE_F32 || dtype == TSR_DTYPE_F64) return true;
    tsr_fail(TSR_STATUS_DTYPE, "%s: %s is %s, expected f32 or f64", op, argument,
             tsr_dtype_name(dtype));
    return false;
}

bool tsr_rows__dtype_fits(const char *op, const char *argument, const tsr_tensor *t,
                          const char *like, tsr_dtype dtype)
{
    if (t == NULL || tsr_tensor_dtype(t) == dtype) return true;
    tsr_fail(TSR_STATUS_DTYPE, "%s: %s is %s and %s is %s: cast one of them", op, argument,
             tsr_dtype_name(tsr_tensor_dtype(t)), like, tsr_dtype_name(dtype));
    return false;
}

bool tsr_rows__parameter_fits(const char *op, const char *argument, const tsr_tensor *t,
                              const char *like, tsr_dtype dtype)
{
    bool master = dtype == TSR_DTYPE_BF16 && tsr_tensor_dtype(t) == TSR_DTYPE_F32;
    return master || tsr_rows__dtype_fits(op, argument, t, like, dtype);
}

bool tsr_rows__vector_fits(const char *op, const char *argument, const tsr_tensor *t,
                           tsr_dtype dtype, int64_t d)
{
    if (t == NULL) return true;
    if (tsr_tensor_ndim(t) != 1 || tsr_tensor_size(t, 0) != d) {
        char got[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE, "%s: %s has shape %s, expected [%lld]", op, argument,
                 tsr_shape_text(tsr_tensor_shape(t), got), (long long)d);
        return false;
    }
    return tsr_rows__parameter_fits(op, argument, t, "x", dtype);
}

bool tsr_rows__same(const char *op, const char *x_name, const tsr_tensor *x, const char *y_name,
                    const tsr_tensor *y)
{
    return tsr_rows__is_real(op, x_name, x) &&
           tsr_rows__dtype_fits(op, y_name, y, x_name, tsr_tensor_dtype(x)) &&
           tsr_rows__shapes_equal(op, x_name, x, y_name, y);
}

bool tsr_rows__shapes_equal(const char *op, const char *x_name, const tsr_tensor *x,
                            const char *y_name, const tsr_tensor *y)
{
    if (tsr_shape_equal(tsr_tensor_shape(x), tsr_tensor_shape(y))) return true;
    char got[TSR_SHAPE_TEXT], wanted[TSR_SHAPE_TEXT];
    tsr_fail(TSR_STATUS_SHAPE, "%s: %s has shape %s, expected %s as %s", op, y_name,
             tsr_shape_text(tsr_tensor_shape(y), got), tsr_shape_text(tsr_tensor_shape(x), wanted),
             x_name);
    return false;
}

tsr_tensor *tsr_rows__exchanged(tsr_tensor *x, int dim)
{
    if (x == NULL) return NULL;
    tsr_shape shape = tsr_tensor_shape(x);
    int last = shape.ndim - 1;
    if (dim == last) return x;
    int64_t strides[TSR_MAX_DIMS], size = shape.size[dim];
    for (int d = 0; d <= last; d++) strides[d] = tsr_tensor_strides(x)[d];
    int64_t stride = strides[dim];
    shape.size[dim] = shape.size[last];
    shape.size[last] = size;
    strides[dim] = strides[last];
    strides[last] = stride;
    return tsr_tensor_view(x, shape, strides, 0);
}

tsr_tensor *tsr_rows__along(tsr_tensor *x, int dim)
{
    x = tsr_rows__exchanged(x, dim);
    return x != NULL ? tsr_tensor_packed(x) : NULL;
}

tsr_tensor *tsr_rows__per_channel(tsr_tensor *v, tsr_shape x)
{
    tsr_shape shape = {.ndim = x.ndim - 1};
    for (int d = 0; d < shape.ndim; d++) shape.size[d] = d == 0 ? x.size[1] : 1;
    return tsr_reshape(v, shape);
}

bool tsr_rows__matrix(tsr_tensor *x, tsr_matrix *out)
{
    if (x == NULL) return false;
    tsr_shape shape = tsr_tensor_shape(x), leading = shape;
    const int64_t *strides = tsr_tensor_strides(x);
    leading.ndim--;
    tsr_loop loop = tsr_loop__make(leading, 1, &strides);
    int64_t row = loop.stride[0][0], column = strides[leading.ndim];
    if (loop.ndim > 1 || (row != 1 && column != 1)) {
        x = tsr_tensor_packed(x);
        if (x == NULL) return false;
        row = shape.size[leading.ndim];
        column = 1;
    }
    *out = (tsr_matrix){(void *)tsr_tensor_data(x), row, column};
    return true;
}

bool tsr_rows__factor(tsr_tensor *x, tsr_factor *out)
{
    tsr_matrix m;
    if (!tsr_rows__matrix(x, &m)) return false;
    *out = (tsr_factor){m.data, m.row, m.column, tsr_tensor_dtype(x)};
    return true;
}

bool tsr_rows__product(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_factor a, tsr_factor b,
                       tsr_tensor *bias, tsr_tensor *c)
{
    void *data = tsr_tensor_data_mut(c);
    if (dtype == TSR_DTYPE_BF16) {
        tsr_product result = {data, n, tsr_tensor_dtype(c), false, tsr_tensor_data(bias)};
        return tsr__gemm_bf16(m, n, k, a, b, result);
    }
    tsr_matrix ma = {(void *)a.data, a.row, a.column}, mb = {(void *)b.data, b.row, b.column};
    tsr__gemm_bias(dtype, m, n, k, ma, mb, 0.0, tsr_tensor_data(bias), (tsr_matrix){data, n, 1});
    return true;
}

tsr_tensor *tsr_rows__combine(tsr_tensor *partial)
{
    if (partial == NULL) return NULL;
    int64_t chunks = tsr_tensor_size(partial, 0), d = tsr_tensor_size(partial, 1);
    tsr_tensor *sums = tsr_empty(tsr_tensor_dtype(partial), TSR_SHAPE(d));
    if (sums == NULL) return NULL;
    tsr_kernels__get(tsr_tensor_dtype(partial))
        ->column_sums(tsr_tensor_data_mut(sums), tsr_tensor_data(partial), chunks, d);
    return sums;
}

tsr_tensor *tsr_rows__column_sums(tsr_tensor *x)
{
    if (x == NULL) return NULL;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    bool half = dtype == TSR_DTYPE_BF16;
    tsr_rows r = tsr_rows__of(tsr_tensor_shape(x));
    tsr_dtype of_sums = half ? TSR_DTYPE_F32 : dtype;
    tsr_tensor *partial = tsr_empty(of_sums, TSR_SHAPE(r.chunks, r.d));
    if (partial == NULL) return NULL;
    char *sums = tsr_tensor_data_mut(partial);
    const char *data = tsr_tensor_data(x);
    size_t row = (size_t)r.d * tsr_dtype_size(of_sums);
    TSR_PARALLEL_FOR(c, r.chunks, r.rows * r.d, {
        void *to = sums + (size_t)c * row;
        const void *from = data + tsr_rows__offset(&r, c, dtype);
        int64_t n = tsr_rows__in_chunk(&r, c);
        if (half) {
            tsr_bf16_kernels__get()->column_sums(to, from, n, r.d);
        } else {
            tsr_kernels__get(dtype)->column_sums(to, from, n, r.d);
        }
    });
    return tsr_rows__combine(partial);
}
