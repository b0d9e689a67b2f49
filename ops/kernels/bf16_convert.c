/* Conversions between f32 and bf16, and sums of bf16. Compiled once for each instruction set; TSR_KERNELS is the name of the table. */
#include "ops/kernels/bf16.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>

/* Bits and rounding are those of tsr_bf16_from_f32, but that vcvtneps2bf16 makes 0 of numbers below 2^-126, which
 * therefore go the long way. */
static void narrow(tsr_bf16 *y, const float *x, int64_t n)
{
    enum { SUBNORMAL = 0x20 };
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m512 v = _mm512_loadu_ps(x + i);
        if (_mm512_fpclass_ps_mask(v, SUBNORMAL) != 0) {
            for (int64_t j = i; j < i + 16; j++) y[j] = tsr_bf16_from_f32(x[j]);
        } else {
            _mm256_storeu_si256((__m256i *)(void *)(y + i), (__m256i)_mm512_cvtneps_pbh(v));
        }
    }
    for (; i < n; i++) y[i] = tsr_bf16_from_f32(x[i]);
}
#else
static void narrow(tsr_bf16 *restrict y, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = tsr_bf16_from_f32(x[i]);
}
#endif

static void widen(float *restrict y, const tsr_bf16 *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = tsr_bf16_to_f32(x[i]);
}

/* Four rows at a time: the sums are loaded and stored once for all four. */
static void column_sums(float *restrict sums, const tsr_bf16 *restrict x, int64_t rows, int64_t d)
{
    for (int64_t j = 0; j < d; j++) sums[j] = 0.0f;
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4, x += 4 * d) {
        for (int64_t j = 0; j < d; j++) {
            sums[j] += (tsr_bf16_to_f32(x[j]) + tsr_bf16_to_f32(x[d + j])) +
                       (tsr_bf16_to_f32(x[2 * d + j]) + tsr_bf16_to_f32(x[3 * d + j]));
        }
    }
    for (; r < rows; r++, x += d) {
        for (int64_t j = 0; j < d; j++) sums[j] += tsr_bf16_to_f32(x[j]);
    }
}

extern const tsr_bf16_kernels TSR_KERNELS;
const tsr_bf16_kernels TSR_KERNELS = {.narrow = narrow, .widen = widen, .column_sums = column_sums};
