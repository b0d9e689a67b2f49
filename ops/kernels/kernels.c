/* Which table of kernels. */
#include "ops/kernels/kernels.h"
#include "ops/kernels/bf16.h"
#include "ops/kernels/product.h"

#include <assert.h>

#define LEVEL(name) extern const tsr_kernels tsr_kernels__##name##_f32, tsr_kernels__##name##_f64;
LEVEL(portable)
#if defined(__x86_64__)
LEVEL(avx2)
LEVEL(avx512)
#endif

static const tsr_kernels *const tables[TSR_CPU_COUNT][2] = {
    [TSR_CPU_PORTABLE] = {&tsr_kernels__portable_f32, &tsr_kernels__portable_f64},
#if defined(__x86_64__)
    [TSR_CPU_AVX2] = {&tsr_kernels__avx2_f32, &tsr_kernels__avx2_f64},
    [TSR_CPU_AVX512] = {&tsr_kernels__avx512_f32, &tsr_kernels__avx512_f64},
    /* What comes after AVX-512 is for bf16 alone. */
    [TSR_CPU_AVX512BF16] = {&tsr_kernels__avx512_f32, &tsr_kernels__avx512_f64},
    [TSR_CPU_AMX] = {&tsr_kernels__avx512_f32, &tsr_kernels__avx512_f64},
#endif
};

const tsr_kernels *tsr_kernels__at(tsr_cpu level, tsr_dtype dtype)
{
    assert(dtype == TSR_DTYPE_F32 || dtype == TSR_DTYPE_F64);
    return tables[level][dtype == TSR_DTYPE_F64];
}

const tsr_kernels *tsr_kernels__get(tsr_dtype dtype)
{
    return tsr_kernels__at(tsr_cpu__level(), dtype);
}

/* ---- bf16 ---- */

extern const tsr_bf16_kernels tsr_bf16_kernels__portable;
#if defined(__x86_64__)
extern const tsr_bf16_kernels tsr_bf16_kernels__avx2, tsr_bf16_kernels__avx512,
    tsr_bf16_kernels__avx512bf16;
#endif

static const tsr_bf16_kernels *const bf16_tables[TSR_CPU_COUNT] = {
    [TSR_CPU_PORTABLE] = &tsr_bf16_kernels__portable,
#if defined(__x86_64__)
    [TSR_CPU_AVX2] = &tsr_bf16_kernels__avx2,
    [TSR_CPU_AVX512] = &tsr_bf16_kernels__avx512,
    [TSR_CPU_AVX512BF16] = &tsr_bf16_kernels__avx512bf16,
    [TSR_CPU_AMX] = &tsr_bf16_kernels__avx512bf16,
#endif
};

const tsr_bf16_kernels *tsr_bf16_kernels__at(tsr_cpu level)
{
    return bf16_tables[level];
}

const tsr_bf16_kernels *tsr_bf16_kernels__get(void)
{
    return tsr_bf16_kernels__at(tsr_cpu__level());
}

/* ---- products ---- */

#if defined(__x86_64__)
extern const tsr_product_kernel tsr_product_kernel__avx512, tsr_product_kernel__avx512bf16,
    tsr_product_kernel__amx;
#endif

static const tsr_product_kernel *const products[TSR_CPU_COUNT][2] = {
#if defined(__x86_64__)
    [TSR_CPU_AVX512] = {&tsr_product_kernel__avx512, NULL},
    [TSR_CPU_AVX512BF16] = {&tsr_product_kernel__avx512, &tsr_product_kernel__avx512bf16},
    [TSR_CPU_AMX] = {&tsr_product_kernel__avx512, &tsr_product_kernel__amx},
#endif
};

const tsr_product_kernel *tsr_product_kernel__at(tsr_cpu level, tsr_dtype dtype)
{
    assert(dtype == TSR_DTYPE_F32 || dtype == TSR_DTYPE_BF16);
    return products[level][dtype == TSR_DTYPE_BF16];
}

const tsr_product_kernel *tsr_product_kernel__get(tsr_dtype dtype)
{
    return tsr_product_kernel__at(tsr_cpu__level(), dtype);
}
