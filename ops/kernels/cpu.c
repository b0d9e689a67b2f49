/* Finds out what the CPU can do. */
#include "ops/kernels/cpu.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

static const char *const names[TSR_CPU_COUNT] = {"portable", "avx2", "avx512", "avx512bf16", "amx"};
static pthread_once_t once = PTHREAD_ONCE_INIT;
static tsr_cpu level;

#if defined(__x86_64__)
/* Has the CPU AMX-TILE and AMX-BF16, and does Linux let this process use them? Their 8 KiB of state are not saved for a
 * process that has not asked. */
static bool tiles_permitted(void)
{
#if defined(__linux__)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    const unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24; /* of leaf 7's EDX */
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    if ((d & amx_tile) == 0 || (d & amx_bf16) == 0) return false;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}
#endif

static tsr_cpu detect(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return TSR_CPU_PORTABLE;
    bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    if (!wide) return TSR_CPU_AVX2;
    if (!__builtin_cpu_supports("avx512bf16")) return TSR_CPU_AVX512;
    return tiles_permitted() ? TSR_CPU_AMX : TSR_CPU_AVX512BF16;
#else
    return TSR_CPU_PORTABLE;
#endif
}

static void choose(void)
{
    level = detect();
    const char *cap = getenv("TSR_CPU");
    for (int i = 0; cap != NULL && i < TSR_CPU_COUNT; i++) {
        if (strcmp(cap, names[i]) == 0 && (tsr_cpu)i < level) level = (tsr_cpu)i;
    }
}

tsr_cpu tsr_cpu__level(void)
{
    pthread_once(&once, choose);
    return level;
}

const char *tsr_cpu__name(tsr_cpu l)
{
    return (unsigned)l < TSR_CPU_COUNT ? names[l] : "unknown";
}
