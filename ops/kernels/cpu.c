/* Finds out what the CPU can do. */
#include "ops/kernels/cpu.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[TSR_CPU_COUNT] = {"portable", "avx2", "avx512"};
static pthread_once_t once = PTHREAD_ONCE_INIT;
static tsr_cpu level;

static tsr_cpu detect(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return TSR_CPU_PORTABLE;
    bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    return wide ? TSR_CPU_AVX512 : TSR_CPU_AVX2;
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
