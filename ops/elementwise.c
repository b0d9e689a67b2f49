/* The shape rules that elementwise ops share. */
#include "ops/elementwise.h"

bool tsr_elementwise__takes(const char *op, const char *argument, const tsr_tensor *x)
{
    tsr_dtype dtype = tsr_tensor_dtype(x);
    if (tsr_dtype_is_float(dtype)) return true;
    tsr_fail(TSR_STATUS_DTYPE, "%s: %s is %s, expected f32, f64 or bf16", op, argument,
             tsr_dtype_name(dtype));
    return false;
}

tsr_tensor *tsr_elementwise__like(const char *op, tsr_tensor *x)
{
    if (x == NULL || !tsr_elementwise__takes(op, "x", x)) return NULL;
    return tsr_empty_like(x);
}

tsr_tensor *tsr_elementwise__broadcast(const char *op, tsr_tensor *a, tsr_tensor *b,
                                       tsr_dtype dtype)
{
    if (a == NULL || b == NULL) return NULL;
    tsr_dtype ta = tsr_tensor_dtype(a), tb = tsr_tensor_dtype(b);
    if (ta != tb) {
        tsr_fail(TSR_STATUS_DTYPE, "%s: a is %s and b is %s: cast one of them", op,
                 tsr_dtype_name(ta), tsr_dtype_name(tb));
        return NULL;
    }
    if (dtype == TSR_DTYPE_COUNT && !tsr_elementwise__takes(op, "a", a)) return NULL;
    if (dtype == TSR_DTYPE_COUNT && tsr_tensor_same_shape(a, b)) return tsr_empty_like(a);
    tsr_shape shape;
    if (!tsr_shape_broadcast(tsr_tensor_shape(a), tsr_tensor_shape(b), &shape)) {
        char sa[TSR_SHAPE_TEXT], sb[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE, "%s: a has shape %s and b %s, which do not broadcast", op,
                 tsr_shape_text(tsr_tensor_shape(a), sa), tsr_shape_text(tsr_tensor_shape(b), sb));
        return NULL;
    }
    return tsr_empty(dtype == TSR_DTYPE_COUNT ? ta : dtype, shape);
}
