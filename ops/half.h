/*
 * bf16 in ops whose loops know f32 and f64: inputs are widened, the loops run in f32, results are rounded to nearest even.
 * Not installed.
 */
#ifndef TSR_OPS_HALF_H
#define TSR_OPS_HALF_H

#include "ops/ops.h"

/* t, or an f32 copy of a bf16 t. NULL passes. Not recorded. */
static inline tsr_tensor *tsr_half__widened(tsr_tensor *t)
{
    return tsr_tensor_dtype(t) == TSR_DTYPE_BF16 ? tsr_tensor_converted(t, TSR_DTYPE_F32) : t;
}

/* The same, recorded: for definitions. */
static inline tsr_tensor *tsr_half__cast(tsr_tensor *t)
{
    return tsr_tensor_dtype(t) == TSR_DTYPE_BF16 ? tsr_cast(t, TSR_DTYPE_F32) : t;
}

/* A factor of a product with a tensor of dtype, in the type that the product is computed in: with bf16 an f32 master weight
 * counts with the digits of a bf16. Not recorded. */
static inline tsr_tensor *tsr_half__factor(tsr_tensor *t, tsr_dtype dtype)
{
    return tsr_half__widened(tsr_tensor_converted(t, dtype));
}

#endif
