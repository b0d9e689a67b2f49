/* What this CPU can do, once for all of ops/. Not installed. */
#ifndef TSR_OPS_KERNELS_CPU_H
#define TSR_OPS_KERNELS_CPU_H

/* In rising order: each level includes the ones before it. */
typedef enum tsr_cpu {
    TSR_CPU_PORTABLE = 0,
    TSR_CPU_AVX2,       /* with FMA */
    TSR_CPU_AVX512,     /* F, DQ, BW, VL */
    TSR_CPU_AVX512BF16, /* products of bf16 */
    TSR_CPU_AMX,        /* AMX-TILE and AMX-BF16, with the kernel's permission */
    TSR_CPU_COUNT,
} tsr_cpu;

/* The level in use: what the CPU has, capped by the environment variable TSR_CPU (portable, avx2,
 * avx512, avx512bf16, amx). */
tsr_cpu tsr_cpu__level(void);
const char *tsr_cpu__name(tsr_cpu level);

#endif
