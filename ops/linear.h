/* What the ops that multiply by a weight share: linear, and linear_gelu. Not installed. */
#ifndef TSR_OPS_LINEAR_H
#define TSR_OPS_LINEAR_H

#include "autograd/autograd.h"

/* Do x [..., I], weight [O, I] and bias [O] or NULL fit? Else the sticky status says what does not, of `op`. */
bool tsr_linear__takes(const char *op, tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias);
/* x W^T + b, contiguous; NULL on failure. Not recorded. */
tsr_tensor *tsr_linear__forward(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias);
/* The gradients of x, weight and bias, the node's inputs, from that of y, g. */
void tsr_linear__backward(const tsr_node *node, tsr_tensor *g, tsr_tensor **grad_inputs);

#endif
