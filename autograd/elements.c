/* What tensors themselves need of their elements: reading one, copying, converting, filling, summing two, finiteness. */
#include "autograd/internal.h"
#include "autograd/loop.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static double load(tsr_dtype dtype, const void *data, int64_t i)
{
    switch (dtype) {
    case TSR_DTYPE_F32:
        return (double)((const float *)data)[i];
    case TSR_DTYPE_F64:
        return ((const double *)data)[i];
    case TSR_DTYPE_BF16:
        return (double)tsr_bf16_to_f32(((const tsr_bf16 *)data)[i]);
    case TSR_DTYPE_I32:
        return (double)((const int32_t *)data)[i];
    case TSR_DTYPE_I64:
        return (double)((const int64_t *)data)[i];
    default:
        return (double)((const uint8_t *)data)[i];
    }
}

/* A conversion of what does not fit is defined here: integers saturate, NaN becomes 0. */
static int64_t to_integer(double x, double lo, double hi)
{
    if (isnan(x)) return 0;
    x = fmin(fmax(x, lo), hi);
    return x < 0x1p63 ? (int64_t)x : INT64_MAX;
}

static void store(tsr_dtype dtype, void *data, int64_t i, double x)
{
    switch (dtype) {
    case TSR_DTYPE_F32:
        ((float *)data)[i] = (float)x;
        break;
    case TSR_DTYPE_F64:
        ((double *)data)[i] = x;
        break;
    case TSR_DTYPE_BF16:
        ((tsr_bf16 *)data)[i] = tsr_bf16_from_f32((float)x);
        break;
    case TSR_DTYPE_I32:
        ((int32_t *)data)[i] = (int32_t)to_integer(x, INT32_MIN, INT32_MAX);
        break;
    case TSR_DTYPE_I64:
        ((int64_t *)data)[i] = to_integer(x, -0x1p63, 0x1p63);
        break;
    case TSR_DTYPE_U8:
        ((uint8_t *)data)[i] = (uint8_t)to_integer(x, 0, UINT8_MAX);
        break;
    default:
        ((uint8_t *)data)[i] = x != 0.0;
        break;
    }
}

double tsr_tensor_get(const tsr_tensor *t, int64_t i)
{
    if (t == NULL || i < 0 || i >= t->numel) return (double)NAN;
    int64_t offset = 0;
    const int64_t *strides = tsr_tensor_strides(t);
    for (int d = t->ndim - 1; d >= 0; d--) {
        offset += i % t->sizes[d] * strides[d];
        i /= t->sizes[d];
    }
    return load(t->dtype, t->data, offset);
}

#define COPY_PIECE(T)                                                                              \
    do {                                                                                           \
        T *d = (T *)dst->data + at[0];                                                             \
        const T *s = (const T *)src->data + at[1];                                                 \
        if (ds == 1 && ss == 1) {                                                                  \
            memcpy(d, s, (size_t)n * sizeof(T));                                                   \
        } else {                                                                                   \
            for (int64_t i = 0; i < n; i++) d[i * ds] = s[i * ss];                                 \
        }                                                                                          \
    } while (0)

#define CONVERT_PIECE(D, S, expression)                                                            \
    do {                                                                                           \
        D *d = (D *)dst->data + at[0];                                                             \
        const S *s = (const S *)src->data + at[1];                                                 \
        if (ds == 1 && ss == 1) {                                                                  \
            for (int64_t i = 0; i < n; i++) {                                                      \
                const S x = s[i];                                                                  \
                d[i] = (expression);                                                               \
            }                                                                                      \
        } else {                                                                                   \
            for (int64_t i = 0; i < n; i++) {                                                      \
                const S x = s[i * ss];                                                             \
                d[i * ds] = (expression);                                                          \
            }                                                                                      \
        }                                                                                          \
    } while (0)

/* Between types: the pairs of floating types that training uses have loops of their own. */
static void convert_piece(const tsr_tensor *dst, const tsr_tensor *src, const int64_t *at,
                          int64_t n, int64_t ds, int64_t ss)
{
    tsr_dtype to = dst->dtype, from = src->dtype;
    if (to == TSR_DTYPE_F32 && from == TSR_DTYPE_BF16) {
        CONVERT_PIECE(float, tsr_bf16, tsr_bf16_to_f32(x));
    } else if (to == TSR_DTYPE_BF16 && from == TSR_DTYPE_F32) {
        CONVERT_PIECE(tsr_bf16, float, tsr_bf16_from_f32(x));
    } else if (to == TSR_DTYPE_F32 && from == TSR_DTYPE_F64) {
        CONVERT_PIECE(float, double, (float)x);
    } else if (to == TSR_DTYPE_F64 && from == TSR_DTYPE_F32) {
        CONVERT_PIECE(double, float, (double)x);
    } else {
        for (int64_t i = 0; i < n; i++) {
            store(to, dst->data, at[0] + i * ds, load(from, src->data, at[1] + i * ss));
        }
    }
}

static void copy_piece(const tsr_tensor *dst, const tsr_tensor *src, const tsr_loop *loop,
                       int64_t piece)
{
    int64_t at[TSR_LOOP_OPERANDS], n = tsr_loop__piece(loop, piece, at);
    int64_t ds = loop->stride[0][loop->ndim - 1], ss = loop->stride[1][loop->ndim - 1];
    if (dst->dtype != src->dtype) {
        convert_piece(dst, src, at, n, ds, ss);
        return;
    }
    switch (tsr_dtype_size(dst->dtype)) {
    case 1:
        COPY_PIECE(uint8_t);
        break;
    case 2:
        COPY_PIECE(uint16_t);
        break;
    case 4:
        COPY_PIECE(uint32_t);
        break;
    default:
        COPY_PIECE(uint64_t);
        break;
    }
}

tsr_status tsr_tensor_copy(tsr_tensor *dst, tsr_tensor *src)
{
    if (dst == NULL || src == NULL) return tsr_fail(TSR_STATUS_ARGUMENT, "copy: tensor is NULL");
    if (!tsr_tensor_same_shape(dst, src)) {
        char got[TSR_SHAPE_TEXT], wanted[TSR_SHAPE_TEXT];
        return tsr_fail(TSR_STATUS_SHAPE, "copy: source has shape %s, expected %s",
                        tsr_shape_text(tsr_tensor_shape(src), got),
                        tsr_shape_text(tsr_tensor_shape(dst), wanted));
    }
    dst->block->version++;
    if (dst->numel == 0) return TSR_STATUS_OK;
    tsr_loop loop = tsr_loop__over(2, (const tsr_tensor *[]){dst, src});
    TSR_PARALLEL_FOR(p, tsr_loop__pieces(&loop), dst->numel, copy_piece(dst, src, &loop, p));
    return TSR_STATUS_OK;
}

tsr_status tsr_tensor_fill(tsr_tensor *dst, double value)
{
    if (dst == NULL) return tsr_fail(TSR_STATUS_ARGUMENT, "fill: tensor is NULL");
    dst->block->version++;
    if (dst->numel == 0) return TSR_STATUS_OK;
    if (value == 0.0 && !signbit(value) && dst->contiguous) {
        memset(dst->data, 0, (size_t)dst->numel * tsr_dtype_size(dst->dtype));
        return TSR_STATUS_OK;
    }
    tsr_loop loop = tsr_loop__over(1, (const tsr_tensor *[]){dst});
    int64_t stride = loop.stride[0][loop.ndim - 1];
    for (int64_t p = 0; p < tsr_loop__pieces(&loop); p++) {
        int64_t at[TSR_LOOP_OPERANDS], n = tsr_loop__piece(&loop, p, at);
        for (int64_t i = 0; i < n; i++) {
            store(dst->dtype, dst->data, at[0] + i * stride, value);
        }
    }
    return TSR_STATUS_OK;
}

#define ADD_PIECE(T, sum)                                                                          \
    do {                                                                                           \
        T *d = (T *)dst->data + at[0];                                                             \
        const T *s = (const T *)src->data + at[1];                                                 \
        if (ds == 1 && ss == 1) {                                                                  \
            for (int64_t i = 0; i < n; i++) d[i] = sum(d[i], s[i]);                                \
        } else {                                                                                   \
            for (int64_t i = 0; i < n; i++) d[i * ds] = sum(d[i * ds], s[i * ss]);                 \
        }                                                                                          \
    } while (0)
#define SUM(a, b)      ((a) + (b))
#define SUM_BF16(a, b) tsr_bf16_from_f32(tsr_bf16_to_f32(a) + tsr_bf16_to_f32(b))

static void add_piece(const tsr_tensor *dst, const tsr_tensor *src, const tsr_loop *loop,
                      int64_t piece)
{
    int64_t at[TSR_LOOP_OPERANDS], n = tsr_loop__piece(loop, piece, at);
    int64_t ds = loop->stride[0][loop->ndim - 1], ss = loop->stride[1][loop->ndim - 1];
    if (dst->dtype == TSR_DTYPE_F32) {
        ADD_PIECE(float, SUM);
    } else if (dst->dtype == TSR_DTYPE_F64) {
        ADD_PIECE(double, SUM);
    } else if (dst->dtype == TSR_DTYPE_BF16) {
        ADD_PIECE(tsr_bf16, SUM_BF16);
    } else {
        for (int64_t i = 0; i < n; i++) {
            double x = load(dst->dtype, dst->data, at[0] + i * ds);
            store(dst->dtype, dst->data, at[0] + i * ds,
                  x + load(src->dtype, src->data, at[1] + i * ss));
        }
    }
}

void tsr_tensor__add_in_place(tsr_tensor *dst, const tsr_tensor *src)
{
    dst->block->version++;
    if (dst->numel == 0) return;
    tsr_loop loop = tsr_loop__over(2, (const tsr_tensor *[]){dst, src});
    TSR_PARALLEL_FOR(p, tsr_loop__pieces(&loop), dst->numel, add_piece(dst, src, &loop, p));
}

bool tsr_tensor_is_finite(const tsr_tensor *t)
{
    if (t == NULL || !tsr_dtype_is_float(t->dtype) || t->numel == 0) return true;
    tsr_loop loop = tsr_loop__over(1, &t);
    int64_t stride = loop.stride[0][loop.ndim - 1];
    for (int64_t p = 0; p < tsr_loop__pieces(&loop); p++) {
        int64_t at[TSR_LOOP_OPERANDS], n = tsr_loop__piece(&loop, p, at);
        /* x - x is 0 unless x is NaN or infinite; the sum of zeros shows it without a branch an element. */
        double bad = 0.0;
        if (t->dtype == TSR_DTYPE_F32) {
            const float *x = (const float *)t->data + at[0];
            float sum = 0.0f;
            for (int64_t i = 0; i < n; i++) sum += x[i * stride] - x[i * stride];
            bad = (double)sum;
        } else {
            for (int64_t i = 0; i < n; i++) {
                double x = load(t->dtype, t->data, at[0] + i * stride);
                bad += x - x;
            }
        }
        if (!(bad == 0.0)) return false;
    }
    return true;
}
