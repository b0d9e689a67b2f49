/*
 * Kernels on bf16 numbers: conversions and sums, which exist at every level. Their products are in
 * product.h. Not installed.
 */
#ifndef TSR_OPS_KERNELS_BF16_H
#define TSR_OPS_KERNELS_BF16_H

#include "autograd/autograd.h"
#include "ops/kernels/cpu.h"

typedef struct tsr_bf16_kernels {
    /* n elements; narrow rounds to nearest even, NaN stays NaN: the bits of tsr_bf16_from_f32. */
    void (*narrow)(tsr_bf16 *y, const float *x, int64_t n);
    void (*widen)(float *y, const tsr_bf16 *x, int64_t n);
    /* sums[j] = sum_r x[r, j] of x [rows, d]. */
    void (*column_sums)(float *sums, const tsr_bf16 *x, int64_t rows, int64_t d);
} tsr_bf16_kernels;

/* Of the level in use, or of any. */
const tsr_bf16_kernels *tsr_bf16_kernels__get(void);
const tsr_bf16_kernels *tsr_bf16_kernels__at(tsr_cpu level);

/* y = gelu(x) (or its tanh approximation), rounded once, y may be x; dx = g gelu'(x), the slope and
 * the product in f32. n elements. */
void tsr_bf16__gelu(tsr_bf16 *y, const tsr_bf16 *x, int64_t n, bool tanh);
void tsr_bf16__gelu_backward(tsr_bf16 *dx, const tsr_bf16 *x, const tsr_bf16 *g, int64_t n,
                             bool tanh);

#endif
