/* Which table of loops. */
#include "recipes/data/loops.h"

#define LEVEL(name) extern const tsr_image_loops tsr_image_loops__##name;
LEVEL(portable)
#if defined(__x86_64__)
LEVEL(avx2)
LEVEL(avx512)
#endif

const tsr_image_loops *tsr_image_loops__at(tsr_cpu level)
{
    static const tsr_image_loops *const tables[TSR_CPU_COUNT] = {
        [TSR_CPU_PORTABLE] = &tsr_image_loops__portable,
#if defined(__x86_64__)
        [TSR_CPU_AVX2] = &tsr_image_loops__avx2,
        [TSR_CPU_AVX512] = &tsr_image_loops__avx512,
        /* What comes after AVX-512 is for bf16. */
        [TSR_CPU_AVX512BF16] = &tsr_image_loops__avx512,
        [TSR_CPU_AMX] = &tsr_image_loops__avx512,
#endif
    };
    return tables[level];
}

const tsr_image_loops *tsr_image_loops__get(void)
{
    return tsr_image_loops__at(tsr_cpu__level());
}
