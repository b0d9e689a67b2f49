/* Sums over dimensions, the same bits at any number of threads. Not installed. */
#ifndef TSR_OPS_REDUCE_H
#define TSR_OPS_REDUCE_H

#include "autograd/autograd.h"

/* The dimensions of a reduction as a set of bits; n_dims 0: all. False with a message where one is out of range or named
 * twice. */
bool tsr_reduce__dims(const char *op, const tsr_tensor *x, const int *dims, int n_dims,
                      unsigned *set);
/* x's shape with the dimensions in set dropped, or kept with size 1. */
tsr_shape tsr_reduce__shape(const tsr_tensor *x, unsigned set, bool keepdim);
/* Elements of x that each sum adds up. */
int64_t tsr_reduce__count(const tsr_tensor *x, unsigned set);
/* The sum over the dimensions in set, times scale; f32 or f64, a new tensor that is not recorded. */
tsr_tensor *tsr_reduce__sum(const char *op, tsr_tensor *x, unsigned set, bool keepdim,
                            double scale);
/* The same of (x - center)^2; center is a result of tsr_reduce__sum over the same set. */
tsr_tensor *tsr_reduce__squares(const char *op, tsr_tensor *x, tsr_tensor *center, unsigned set,
                                bool keepdim, double scale);

#endif
