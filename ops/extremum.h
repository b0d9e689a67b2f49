/* Largest and smallest elements along one dimension, for max, min, argmax and argmin. Not installed. */
#ifndef TSR_OPS_EXTREMUM_H
#define TSR_OPS_EXTREMUM_H

#include "autograd/autograd.h"

/* The extrema of x along dim, or (indices true) where they stand, as I64: the first of equals. NaN counts as the extremum.
 * A new tensor of x's shape with dim of size 1, or without it; not recorded. */
tsr_tensor *tsr_extremum__find(const char *op, tsr_tensor *x, int dim, bool keepdim, bool largest,
                               bool indices);

/* The backward of max and min, whose nodes save x and y: dy shared evenly by the elements of x that equal y. */
tsr_tensor *tsr_extremum__backward(const tsr_node *node, tsr_tensor *dy, int dim);

#endif
