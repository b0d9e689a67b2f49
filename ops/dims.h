/* What the ops that move elements share: dimensions counted from the back, and their messages. Not installed. */
#ifndef TSR_OPS_DIMS_H
#define TSR_OPS_DIMS_H

#include "autograd/autograd.h"

/* dim, or dim + ndim where it is negative; -1 with a message where x has no such dimension. */
static inline int tsr_dims__index(const char *op, const char *argument, int dim, int ndim)
{
    int d = dim < 0 ? dim + ndim : dim;
    if (d >= 0 && d < ndim) return d;
    tsr_fail(TSR_STATUS_ARGUMENT, "%s: %s is %d, expected %d to %d (x has %d dimensions)", op,
             argument, dim, -ndim, ndim - 1, ndim);
    return -1;
}

/* shape without dimension dim. */
static inline tsr_shape tsr_dims__without(tsr_shape shape, int dim)
{
    for (int d = dim; d + 1 < shape.ndim; d++) shape.size[d] = shape.size[d + 1];
    shape.ndim--;
    return shape;
}

#endif
