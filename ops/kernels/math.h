/*
 * f32 functions without branches or tables, which the compiler vectorizes: libm's are calls. Each states its error, which
 * tests/ops/test_math.c measures. Not installed.
 */
#ifndef TSR_OPS_KERNELS_MATH_H
#define TSR_OPS_KERNELS_MATH_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* e^r, where x = n ln 2 + r, |r| <= ln 2 / 2; -150 < n < 130. *k = n; of NaN, NaN and any k. */
static inline float tsr_math__exp_of_rest(float x, int32_t *k)
{
    /* By the Taylor polynomial of degree 7 (remainder below 6e-9). */
    float magic = 12582912.0f; /* 1.5 2^23: adding it rounds to an integer */
    union {
        float f;
        int32_t i;
    } shifted = {.f = x * 1.44269504088896341f + magic};
    float n = shifted.f - magic;
    float r = (x - n * 0.693145751953125f) - n * 1.42860682030941723e-6f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    *k = (int32_t)((uint32_t)shifted.i - 0x4b400000u); /* unsigned: NaN leaves any bits */
    return p;
}

/* 2^k, -127 < k < 128; of -127, 0. */
static inline float tsr_math__power_of_2(int32_t k)
{
    union {
        uint32_t u;
        float f;
    } bits = {.u = ((uint32_t)k + 127u) << 23};
    return bits.f;
}

/* e^x to 1.5 ulp (half a unit of the smallest number below -87.3, 0 below -104), above 88.7 infinity; NaN stays NaN. */
static inline float tsr_math__expf(float x)
{
    float c = x > 89.0f ? 89.0f : x;
    c = c < -104.0f ? -104.0f : c; /* both comparisons are false for NaN, which passes */
    int32_t k;
    float p = tsr_math__exp_of_rest(c, &k);
    /* 2^k in two factors, since k reaches 128 and -150. A NaN has come through p. */
    int32_t half = k >> 1;
    return p * tsr_math__power_of_2(half) * tsr_math__power_of_2(k - half);
}

/* e^x of x <= 0 to 1.5 ulp, below -87 0; NaN stays NaN. */
static inline float tsr_math__expf_nonpositive(float x)
{
    int32_t k;
    float p = tsr_math__exp_of_rest(x < -88.0f ? -88.0f : x, &k);
    p *= tsr_math__power_of_2(k);
    return x < -87.0f ? 0.0f : p;
}

/* ln x to 1 ulp, from the smallest denormal to infinity; ln 0 = -infinity, NaN below 0. */
static inline float tsr_math__logf(float x)
{
    /* x = 2^k m, sqrt(1/2) <= m < sqrt(2). With f = m - 1, s = f / (2 + f), z = s^2:
     * ln m = 2 atanh s = 2 s + 2 s z q(z), q = 1/3 + z/5 + z^2/7 + z^3/9 (remainder below 1e-9), and 2 s = f - s f. */
    bool small = x < 1.17549435e-38f;
    union {
        float f;
        uint32_t u;
    } bits = {.f = small ? x * 8388608.0f : x};
    int32_t k = (int32_t)(bits.u - 0x3f3504f3u) >> 23;
    bits.u -= (uint32_t)k << 23;
    float e = (float)(small ? k - 23 : k);
    float f = bits.f - 1.0f, s = f / (2.0f + f), z = s * s;
    float q = 1.0f / 9.0f;
    q = q * z + 1.0f / 7.0f;
    q = q * z + 1.0f / 5.0f;
    q = q * z + 1.0f / 3.0f;
    float y = e * 0.693145751953125f + (f - (s * (f - 2.0f * z * q) - e * 1.42860682030941723e-6f));
    y = x <= 3.40282347e38f ? y : x; /* infinity, NaN */
    y = x > 0.0f ? y : x == 0.0f ? -INFINITY : NAN;
    return y;
}

/* tanh x to 1.5 ulp. */
static inline float tsr_math__tanhf(float x)
{
    /* Near 0, x p(x^2), p fitted for |x| < 0.648 (error below 6e-9); beyond, 1 - 2 / (e^2|x| + 1). */
    float a = fabsf(x), z = x * x;
    float p = -0.00549677795f;
    p = p * z + 0.0204436829f;
    p = p * z - 0.0536752184f;
    p = p * z + 0.133305562f;
    p = p * z - 0.333332363f;
    p = p * z; /* the constant, 1, is added last and exactly */
    float near = x + x * p;
    float far = copysignf(1.0f - 2.0f / (tsr_math__expf(2.0f * a) + 1.0f), x);
    return a < 0.625f ? near : far;
}

/* erf x to 1.5 ulp. */
static inline float tsr_math__erff(float x)
{
    /* Near 0, x p(x^2), p fitted for |x| < 1 (error below 2e-9); beyond, 1 - e^q(|x|), q fitted to ln(1 - erf) up to 4, where
     * erf is 1. */
    float a = fabsf(x), z = x * x;
    float p = 7.88911961e-05f;
    p = p * z - 0.00080208413f;
    p = p * z + 0.00518953534f;
    p = p * z - 0.0268544446f;
    p = p * z + 0.112836002f;
    p = p * z - 0.376126271f;
    p = p * z + 0.128379167f; /* 2 / sqrt(pi) - 1 */
    float near = x + x * p;
    float c = a > 4.0f ? 4.0f : a;
    float q = 0.000192426076f;
    q = q * c - 0.00300853736f;
    q = q * c + 0.022087642f;
    q = q * c - 0.103640325f;
    q = q * c - 0.637517009f;
    q = q * c - 1.12747499f;
    q = q * c - 0.000244713603f;
    float far = copysignf(1.0f - tsr_math__expf(q), x);
    return a < 0.95f ? near : far;
}

/* 1 / (1 + e^-x) to 2.5 ulp. */
static inline float tsr_math__sigmoidf(float x)
{
    float e = tsr_math__expf(-fabsf(x)), d = 1.0f + e;
    return (x < 0.0f ? e : 1.0f) / d;
}

/* ln(1 + e^x) to 2 ulp. */
static inline float tsr_math__softplusf(float x)
{
    /* max(x, 0) + ln(1 + t), t = e^-|x|. What rounding u = 1 + t loses, r, is put back: ln(u + r) = ln u + r / u. */
    float t = tsr_math__expf(-fabsf(x)), u = 1.0f + t;
    float l = tsr_math__logf(u) + (t - (u - 1.0f)) / u;
    return (x > 0.0f ? x : 0.0f) + l;
}

#endif
