/*
 * A supervised training step of ViT-S/16, 224 pixels, batch 16, f32: forward, backward, AdamW. Prints images a second, the
 * arithmetic of its matrix products over the step's time, and that as a share of what this machine's sgemm makes of the
 * step's largest product, measured between the steps.
 */
#include "ops/gemm.h"
#include "tests/bench/bench.h"
#include "tests/bench/classifier.h"

#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 16, ROUNDS = 5 };

/* The linker hands calls of tsr__gemm to the wrapper. */
void __real_tsr__gemm(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a, tsr_matrix b,
                      double beta, tsr_matrix c);
void __wrap_tsr__gemm(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a, tsr_matrix b,
                      double beta, tsr_matrix c);

static double flops;

void __wrap_tsr__gemm(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a, tsr_matrix b,
                      double beta, tsr_matrix c)
{
    __real_tsr__gemm(dtype, m, n, k, a, b, beta, c);
#pragma omp atomic
    flops += 2.0 * (double)m * (double)n * (double)k;
}

static double step(classifier *m)
{
    double start = bench_seconds();
    classifier_step(m);
    return bench_seconds() - start;
}

/* Of the first fully connected layer's product, FLOP/s. */
static double sgemm_rate(tsr_tensor *a, tsr_tensor *b, tsr_tensor *c)
{
    enum { M = BATCH * 197, N = 1536, K = 384, CALLS = 8 };
    tsr_matrix ma = {tsr_tensor_data_mut(a), K, 1}, mb = {tsr_tensor_data_mut(b), 1, K};
    tsr_matrix mc = {tsr_tensor_data_mut(c), N, 1};
    double start = bench_seconds();
    for (int i = 0; i < CALLS; i++) {
        __real_tsr__gemm(TSR_DTYPE_F32, M, N, K, ma, mb, 0.0, mc);
    }
    return 2.0 * M * N * K * CALLS / (bench_seconds() - start);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, ascending);
    return values[ROUNDS / 2];
}

int main(void)
{
    tsr_scope scope = tsr_scope_open();
    classifier *m = classifier_make("vit_small", BATCH);
    tsr_tensor *a = tsr_full(TSR_DTYPE_F32, TSR_SHAPE(BATCH * 197, 384), 0.5);
    tsr_tensor *b = tsr_full(TSR_DTYPE_F32, TSR_SHAPE(1536, 384), 0.5);
    tsr_tensor *c = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(BATCH * 197, 1536));
    double seconds[ROUNDS], rates[ROUNDS], shares[ROUNDS], arithmetic = 0.0;
    if (tsr_status_get() == TSR_STATUS_OK) {
        step(m);
        sgemm_rate(a, b, c);
    }
    for (int i = 0; i < ROUNDS && tsr_status_get() == TSR_STATUS_OK; i++) {
        rates[i] = sgemm_rate(a, b, c);
        flops = 0.0;
        seconds[i] = step(m);
        arithmetic = flops;
        shares[i] = arithmetic / seconds[i] / rates[i];
    }
    if (tsr_status_get() != TSR_STATUS_OK) {
        fprintf(stderr, "bench_step: %s\n", tsr_message());
        return 1;
    }
    double s = median(seconds);
    printf("ViT-S/16, 224 px, batch %d, f32, %d threads; medians of %d steps\n", BATCH,
           tsr_threads(), ROUNDS);
    printf("step %.0f ms, %.2f images/s, %.1f GFLOP of products an image\n", 1e3 * s, BATCH / s,
           arithmetic / BATCH / 1e9);
    printf("products over the whole step %.1f GFLOP/s, sgemm alone %.1f GFLOP/s, share %.0f %%\n",
           arithmetic / s / 1e9, median(rates) / 1e9, 100.0 * median(shares));
    classifier_free(&m);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return 0;
}
