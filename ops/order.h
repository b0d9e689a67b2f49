/* The order of numbers that sort and topk share: NaN is larger than all, equals keep their place. Not installed. */
#ifndef TSR_OPS_ORDER_H
#define TSR_OPS_ORDER_H

#include "autograd/autograd.h"

#include <math.h>

static inline bool tsr_order__less(double a, double b)
{
    return a < b || (isnan(b) && !isnan(a));
}

/* Element i of contiguous f32 or f64 data. */
static inline double tsr_order__value(bool f32, const void *data, int64_t i)
{
    return f32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

/* A sample's kink: two elements of one lane that lie closer than a step of the gradient check may change places. */
static inline bool tsr_order__near_tie(const tsr_tensor *x, int64_t element)
{
    double value = tsr_tensor_get(x, element);
    for (int64_t i = 0; i < tsr_tensor_numel(x); i++) {
        if (i != element && fabs(tsr_tensor_get(x, i) - value) < 1e-3) return true;
    }
    return false;
}

#endif
