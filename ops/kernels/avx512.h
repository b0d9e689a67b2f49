/* What the packing of both types shares; for files compiled with AVX-512. Not installed. */
#ifndef TSR_OPS_KERNELS_AVX512_H
#define TSR_OPS_KERNELS_AVX512_H

#include <immintrin.h>

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

#endif
