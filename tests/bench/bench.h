/* What the benchmarks share: a clock, and the best of several runs. */
#ifndef TSR_TESTS_BENCH_BENCH_H
#define TSR_TESTS_BENCH_BENCH_H

#include <stdio.h>
#include <time.h>

static inline double bench_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The shortest time of `statement` within about `budget` seconds, 3 runs at least, after one to warm up. */
#define BENCH(result, budget, statement)                                                           \
    do {                                                                                           \
        statement;                                                                                 \
        double bench_start = bench_seconds(), bench_best = 1e30;                                   \
        for (int bench_run = 0; bench_run < 3 || bench_seconds() - bench_start < (budget);         \
             bench_run++) {                                                                        \
            double bench_at = bench_seconds();                                                     \
            statement;                                                                             \
            double bench_took = bench_seconds() - bench_at;                                        \
            if (bench_took < bench_best) bench_best = bench_took;                                  \
        }                                                                                          \
        (result) = bench_best;                                                                     \
    } while (0)

#endif
