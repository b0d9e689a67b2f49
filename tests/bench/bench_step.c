/*
 * A supervised training step at 224 pixels: forward, backward, AdamW. Prints images a second, the arithmetic of its matrix
 * products over the step's time, and that as a share of what this machine makes of the largest product of ViT-S in the same
 * precision, measured between the steps.
 *     bench_step [MODEL [BATCH]]      vit_small, 16
 */
#include "ops/rows.h"
#include "tests/bench/bench.h"
#include "tests/bench/classifier.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 16 * 197, OUTPUTS = 1536, INPUTS = 384, ROUNDS = 5 };

static double step(classifier *m)
{
    double start = bench_seconds();
    classifier_step(m);
    return bench_seconds() - start;
}

/* Of the first fully connected layer's product, FLOP/s. */
static double product_rate(tsr_dtype dtype, tsr_tensor *a, tsr_tensor *b, tsr_tensor *c)
{
    enum { CALLS = 8 };
    tsr_factor fa = {tsr_tensor_data(a), INPUTS, 1, dtype};
    tsr_factor fb = {tsr_tensor_data(b), 1, INPUTS, TSR_DTYPE_F32};
    double start = bench_seconds();
    for (int i = 0; i < CALLS; i++) {
        tsr_rows__product(dtype, ROWS, OUTPUTS, INPUTS, fa, fb, NULL, c);
    }
    return 2.0 * ROWS * OUTPUTS * INPUTS * CALLS / (bench_seconds() - start);
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

static void measure(classifier *m, const char *model, tsr_dtype dtype)
{
    tsr_scope scope = tsr_scope_open();
    int64_t batch = tsr_tensor_size(m->images, 0), arithmetic = 0;
    tsr_tensor *a = tsr_full(dtype, TSR_SHAPE(ROWS, INPUTS), 0.5);
    tsr_tensor *b = tsr_full(TSR_DTYPE_F32, TSR_SHAPE(OUTPUTS, INPUTS), 0.5);
    tsr_tensor *c = tsr_zeros(dtype, TSR_SHAPE(ROWS, OUTPUTS));
    double seconds[ROUNDS], rates[ROUNDS], shares[ROUNDS];
    tsr_module_compute_in(&m->vit->module, dtype);
    if (tsr_status_get() == TSR_STATUS_OK) {
        step(m);
        product_rate(dtype, a, b, c);
    }
    for (int i = 0; i < ROUNDS && tsr_status_get() == TSR_STATUS_OK; i++) {
        rates[i] = product_rate(dtype, a, b, c);
        int64_t before = tsr__gemm_count();
        seconds[i] = step(m);
        arithmetic = 2 * (tsr__gemm_count() - before);
        shares[i] = (double)arithmetic / seconds[i] / rates[i];
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    if (tsr_status_get() != TSR_STATUS_OK) return;
    double s = median(seconds);
    printf("%s, 224 px, batch %lld, %s, %d threads; medians of %d steps\n", model, (long long)batch,
           tsr_dtype_name(dtype), tsr_threads(), ROUNDS);
    printf("step %.0f ms, %.2f images/s, %.1f GFLOP of products an image\n", 1e3 * s,
           (double)batch / s, (double)arithmetic / (double)batch / 1e9);
    printf(
        "products over the whole step %.1f GFLOP/s, one product alone %.1f GFLOP/s, share %.0f %%\n",
        (double)arithmetic / s / 1e9, median(rates) / 1e9, 100.0 * median(shares));
}

int main(int argc, char **argv)
{
    const char *model = argc > 1 ? argv[1] : "vit_small";
    tsr_scope program = tsr_scope_open();
    classifier *m = classifier_make(model, argc > 2 ? atoll(argv[2]) : 16);
    if (m != NULL) {
        measure(m, model, TSR_DTYPE_F32);
        measure(m, model, TSR_DTYPE_BF16);
    }
    if (tsr_status_get() != TSR_STATUS_OK) {
        fprintf(stderr, "bench_step: %s\n", tsr_message());
        return 1;
    }
    classifier_free(&m);
    tsr_scope_close(&program, TSR_NO_TENSORS);
    return 0;
}
