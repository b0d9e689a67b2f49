/* Types and shapes. */
#include "autograd/autograd.h"

#include <inttypes.h>
#include <stdio.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[TSR_DTYPE_COUNT] = {
    [TSR_DTYPE_F32] = {"f32", 4},   [TSR_DTYPE_F64] = {"f64", 8}, [TSR_DTYPE_BF16] = {"bf16", 2},
    [TSR_DTYPE_I32] = {"i32", 4},   [TSR_DTYPE_I64] = {"i64", 8}, [TSR_DTYPE_U8] = {"u8", 1},
    [TSR_DTYPE_BOOL] = {"bool", 1},
};

size_t tsr_dtype_size(tsr_dtype dtype)
{
    return (unsigned)dtype < TSR_DTYPE_COUNT ? dtypes[dtype].size : 0;
}

const char *tsr_dtype_name(tsr_dtype dtype)
{
    return (unsigned)dtype < TSR_DTYPE_COUNT ? dtypes[dtype].name : "unknown";
}

bool tsr_dtype_is_float(tsr_dtype dtype)
{
    return dtype == TSR_DTYPE_F32 || dtype == TSR_DTYPE_F64 || dtype == TSR_DTYPE_BF16;
}

int64_t tsr_shape_numel(tsr_shape shape)
{
    if (shape.ndim < 0 || shape.ndim > TSR_MAX_DIMS) return -1;
    int64_t n = 1;
    for (int d = 0; d < shape.ndim; d++) {
        if (shape.size[d] < 0) return -1;
        if (__builtin_mul_overflow(n, shape.size[d], &n)) return -1;
    }
    return n;
}

bool tsr_shape_equal(tsr_shape a, tsr_shape b)
{
    if (a.ndim != b.ndim) return false;
    for (int d = 0; d < a.ndim; d++) {
        if (a.size[d] != b.size[d]) return false;
    }
    return true;
}

const char *tsr_shape_text(tsr_shape shape, char buffer[TSR_SHAPE_TEXT])
{
    int at = snprintf(buffer, TSR_SHAPE_TEXT, "[");
    for (int d = 0; d < shape.ndim && d < TSR_MAX_DIMS; d++) {
        at += snprintf(buffer + at, TSR_SHAPE_TEXT - (size_t)at, "%s%" PRId64, d > 0 ? ", " : "",
                       shape.size[d]);
    }
    snprintf(buffer + at, TSR_SHAPE_TEXT - (size_t)at, "]");
    return buffer;
}

bool tsr_shape_broadcast(tsr_shape a, tsr_shape b, tsr_shape *out)
{
    tsr_shape r = {.ndim = a.ndim > b.ndim ? a.ndim : b.ndim};
    for (int d = 0; d < r.ndim; d++) {
        int da = d - (r.ndim - a.ndim), db = d - (r.ndim - b.ndim);
        int64_t sa = da >= 0 ? a.size[da] : 1, sb = db >= 0 ? b.size[db] : 1;
        if (sa != sb && sa != 1 && sb != 1) return false;
        r.size[d] = sa == 1 ? sb : sa;
    }
    *out = r;
    return true;
}
