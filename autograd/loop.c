/* Loops over strided operands. */
#include "autograd/loop.h"

#include "autograd/internal.h"

tsr_loop tsr_loop__make(tsr_shape shape, int operands, const int64_t *const *strides)
{
    tsr_loop loop;
    loop.operands = operands;
    int n = 0;
    for (int d = 0; d < shape.ndim; d++) {
        if (shape.size[d] == 1) continue;
        bool merges = n > 0;
        for (int k = 0; merges && k < operands; k++) {
            merges = loop.stride[k][n - 1] == strides[k][d] * shape.size[d];
        }
        if (!merges) loop.size[n++] = 1;
        loop.size[n - 1] *= shape.size[d];
        for (int k = 0; k < operands; k++) loop.stride[k][n - 1] = strides[k][d];
    }
    if (n == 0) {
        loop.size[n++] = 1;
        for (int k = 0; k < operands; k++) loop.stride[k][0] = 0;
    }
    loop.ndim = n;
    loop.length = loop.size[n - 1];
    loop.rows = 1;
    for (int d = 0; d < n - 1; d++) loop.rows *= loop.size[d];
    return loop;
}

tsr_loop tsr_loop__over(int operands, const tsr_tensor *const *t)
{
    bool flat = t[0]->contiguous;
    for (int k = 1; flat && k < operands; k++) {
        flat = t[k]->contiguous && tsr_tensor_same_shape(t[0], t[k]);
    }
    if (flat) {
        tsr_loop loop;
        loop.ndim = 1;
        loop.operands = operands;
        loop.rows = 1;
        loop.length = loop.size[0] = t[0]->numel;
        for (int k = 0; k < operands; k++) loop.stride[k][0] = 1;
        return loop;
    }
    int64_t strides[TSR_LOOP_OPERANDS][TSR_MAX_DIMS];
    const int64_t *at[TSR_LOOP_OPERANDS];
    tsr_shape shape = tsr_tensor_shape(t[0]);
    for (int k = 0; k < operands; k++) {
        tsr_loop__broadcast(tsr_tensor_shape(t[k]), tsr_tensor_strides(t[k]), shape, strides[k]);
        at[k] = strides[k];
    }
    return tsr_loop__make(shape, operands, at);
}
