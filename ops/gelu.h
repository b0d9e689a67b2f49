/* What the ops with a GELU share. Not installed. */
#ifndef TSR_OPS_GELU_H
#define TSR_OPS_GELU_H

#include "autograd/autograd.h"

/* y = gelu(x), contiguous; y may be x. */
void tsr_gelu__apply(tsr_dtype dtype, void *y, const void *x, int64_t numel, bool tanh);
/* gelu(x), and g gelu'(x) of the same shape: contiguous; NULL on failure. Not recorded. */
tsr_tensor *tsr_gelu__forward(tsr_tensor *x, bool tanh);
tsr_tensor *tsr_gelu__backward(tsr_tensor *x, tsr_tensor *g, bool tanh);

#endif
