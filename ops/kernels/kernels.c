/* Which table of kernels. */
#include "ops/kernels/kernels.h"

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
