/* What the products of both types share; for files compiled with AVX-512. Not installed. */
#ifndef TSR_OPS_KERNELS_AVX512_H
#define TSR_OPS_KERNELS_AVX512_H

#include "ops/kernels/product.h"

#include <immintrin.h>

enum { TILE_ROWS = 12, LANES = 16 };

/* 16 x 16 numbers of 32 bits. */
static inline __attribute__((always_inline)) void transpose16(__m512i r[16])
{
    __m512i t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    /* Of rows 4g to 4g + 3, r[4g + c] gets columns c, 4 + c, 8 + c and 12 + c. */
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    enum { EVEN = 0x88, ODD = 0xdd };
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        const __m512i even0 = _mm512_shuffle_i32x4(r[c], r[4 + c], EVEN);
        const __m512i even1 = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], EVEN);
        const __m512i odd0 = _mm512_shuffle_i32x4(r[c], r[4 + c], ODD);
        const __m512i odd1 = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], ODD);
        r[c] = _mm512_shuffle_i32x4(even0, even1, EVEN);
        r[4 + c] = _mm512_shuffle_i32x4(odd0, odd1, EVEN);
        r[8 + c] = _mm512_shuffle_i32x4(even0, even1, ODD);
        r[12 + c] = _mm512_shuffle_i32x4(odd0, odd1, ODD);
    }
}

/* f(..., rows) with the number of rows, 1 to TILE_ROWS, as a constant: the sums stay in registers
 * only where loops over rows are unrolled. A macro, as gcc does not promise to inline what it is
 * handed as a pointer. */
#define BY_ROWS(rows, f, ...)                                                                      \
    switch (rows) {                                                                                \
        ROWS_ARE(1, f, __VA_ARGS__);                                                               \
        ROWS_ARE(2, f, __VA_ARGS__);                                                               \
        ROWS_ARE(3, f, __VA_ARGS__);                                                               \
        ROWS_ARE(4, f, __VA_ARGS__);                                                               \
        ROWS_ARE(5, f, __VA_ARGS__);                                                               \
        ROWS_ARE(6, f, __VA_ARGS__);                                                               \
        ROWS_ARE(7, f, __VA_ARGS__);                                                               \
        ROWS_ARE(8, f, __VA_ARGS__);                                                               \
        ROWS_ARE(9, f, __VA_ARGS__);                                                               \
        ROWS_ARE(10, f, __VA_ARGS__);                                                              \
        ROWS_ARE(11, f, __VA_ARGS__);                                                              \
        ROWS_ARE(12, f, __VA_ARGS__);                                                              \
    }
#define ROWS_ARE(n, f, ...)                                                                        \
    case n:                                                                                        \
        f(__VA_ARGS__, n);                                                                         \
        break

/* The first n of 16. */
static inline __mmask16 first_of_16(int64_t n)
{
    return (__mmask16)(n >= LANES ? 0xffffu : n > 0 ? (1u << n) - 1u : 0u);
}

/* The biases of columns j to j + 15, those in the mask. No result: a function that returns a vector
 * does not compile without AVX-512, where this header's own test includes it. */
static inline void load_bias(__m512 *to, const tsr_product_store *s, int64_t j, __mmask16 mask)
{
    *to = s->bias != NULL ? _mm512_maskz_loadu_ps(mask, s->bias + j) : _mm512_setzero_ps();
}

/* x to 16 elements of an f32 C, those in the mask. */
static inline void store_f32(float *c, __m512 x, __mmask16 mask, bool add)
{
    if (add) x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, c));
    _mm512_mask_storeu_ps(c, mask, x);
}

/* The first n columns of a tile's sums to an f32 C; in line, so that a constant n costs no
 * masks. */
static inline __attribute__((always_inline)) void
store_f32_columns(const tsr_product_store *s, __m512 sum[TILE_ROWS][2], int64_t n, const int rows)
{
    float *c = s->c;
    const __mmask16 left = first_of_16(n), right = first_of_16(n - LANES);
    __m512 bias[2];
    load_bias(&bias[0], s, 0, left);
    load_bias(&bias[1], s, LANES, right);
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++, c += s->ld) {
        store_f32(c, _mm512_add_ps(sum[i][0], bias[0]), left, s->add);
        store_f32(c + LANES, _mm512_add_ps(sum[i][1], bias[1]), right, s->add);
    }
}

static inline __attribute__((always_inline)) void
store_f32_tile(const tsr_product_store *s, __m512 sum[TILE_ROWS][2], int64_t n, const int rows)
{
    if (n >= TSR_PRODUCT_WIDTH) {
        store_f32_columns(s, sum, TSR_PRODUCT_WIDTH, rows);
    } else {
        store_f32_columns(s, sum, n, rows);
    }
}

#endif
