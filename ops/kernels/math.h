/*
 * f32 functions without branches or tables, which the compiler vectorizes: libm's are calls. Each states its error, which
 * tests/ops/test_math.c measures. Not installed.
 */
#ifndef TSR_OPS_KERNELS_MATH_H
#define TSR_OPS_KERNELS_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* e^x to 1.5 ulp (half a unit of the smallest number below -87.3, 0 below -104), above 88.7 infinity; NaN stays NaN. */
static inline float tsr_math__expf(float x)
{
    /* x = n ln 2 + r, |r| <= ln 2 / 2; e^r by its Taylor polynomial of degree 7 (remainder below 6e-9). */
    float c = x > 89.0f ? 89.0f : x;
    c = c < -104.0f ? -104.0f : c; /* both comparisons are false for NaN, which passes */
    float t = c * 1.44269504088896341f,
          magic = 12582912.0f; /* 1.5 2^23: adding it rounds to an integer */
    float shifted = t + magic, n = shifted - magic;
    float r = (c - n * 0.693145751953125f) - n * 1.42860682030941723e-6f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    /* 2^n in two factors, since n reaches 128 and -150. */
    union {
        float f;
        int32_t i;
    } bits = {.f = shifted}, a, b;
    int32_t k = bits.i - 0x4b400000, half = k >> 1;
    a.i = (half + 127) << 23;
    b.i = (k - half + 127) << 23;
    float y = p * a.f * b.f;
    return x != x ? x : y;
}

#endif
