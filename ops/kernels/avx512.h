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

/* Calls one of the functions that CASE makes of a constant number of rows. */
#define BY_ROWS(rows, CASE)                                                                        \
    switch (rows) {                                                                                \
        CASE(1);                                                                                   \
        CASE(2);                                                                                   \
        CASE(3);                                                                                   \
        CASE(4);                                                                                   \
        CASE(5);                                                                                   \
        CASE(6);                                                                                   \
        CASE(7);                                                                                   \
        CASE(8);                                                                                   \
        CASE(9);                                                                                   \
        CASE(10);                                                                                  \
        CASE(11);                                                                                  \
        CASE(12);                                                                                  \
    }

/* The first n of 16. */
static inline __mmask16 first_of_16(int64_t n)
{
    return (__mmask16)(n >= LANES ? 0xffffu : n > 0 ? (1u << n) - 1u : 0u);
}

/* A tile's sums to an f32 C. */
static inline __attribute__((always_inline)) void
store_f32_tile(const tsr_product_store *s, __m512 sum[TILE_ROWS][2], const int rows)
{
    float *c = s->c;
    const __m512 zero = _mm512_setzero_ps();
    const __m512 bias[2] = {s->bias != NULL ? _mm512_loadu_ps(s->bias) : zero,
                            s->bias != NULL ? _mm512_loadu_ps(s->bias + LANES) : zero};
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++, c += s->ld) {
        __m512 left = _mm512_add_ps(sum[i][0], bias[0]), right = _mm512_add_ps(sum[i][1], bias[1]);
        if (s->add) {
            left = _mm512_add_ps(left, _mm512_loadu_ps(c));
            right = _mm512_add_ps(right, _mm512_loadu_ps(c + LANES));
        }
        _mm512_storeu_ps(c, left);
        _mm512_storeu_ps(c + LANES, right);
    }
}

/* A tile's sums to x [rows, WIDTH]. */
static inline __attribute__((always_inline)) void keep_tile(float *x, __m512 sum[TILE_ROWS][2],
                                                            const int rows)
{
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++) {
        _mm512_store_ps(x + i * TSR_PRODUCT_WIDTH, sum[i][0]);
        _mm512_store_ps(x + i * TSR_PRODUCT_WIDTH + LANES, sum[i][1]);
    }
}

#endif
