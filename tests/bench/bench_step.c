/*
 * A supervised training step of ViT-S/16, 224 pixels, batch 16, f32: forward, backward, AdamW. Prints images a second, the
 * arithmetic of its matrix products over the step's time, and that as a share of what this machine's sgemm makes of the
 * step's largest product, measured between the steps.
 */
#include "models/models.h"
#include "ops/gemm.h"
#include "recipes/train/optimizer.h"
#include "tests/bench/bench.h"

#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 16, CLASSES = 1000, ROUNDS = 5 };

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

struct classifier {
    tsr_module module;
    tsr_vit *vit;
    tsr_linear_layer *head;
};

static struct classifier *make_classifier(void)
{
    struct classifier *m = tsr_module_new(sizeof *m, "classifier", TSR_DTYPE_F32);
    tsr_vit_config config;
    if (m == NULL || tsr_vit_config_find("vit_small", &config) != TSR_STATUS_OK) return NULL;
    m->vit = tsr_module_child(&m->module, "vit", tsr_vit_new(&config));
    tsr_linear_layer *head = tsr_linear_new(config.dim, CLASSES, true, TSR_DTYPE_F32);
    m->head = tsr_module_child(&m->module, "head", head);
    return tsr_module_finish(&m->module);
}

static tsr_optimizer *make_optimizer(const struct classifier *m)
{
    tsr_module_list *parameters = tsr_module_parameters(&m->module);
    if (parameters == NULL) return NULL;
    tsr_optimizer_parameter *list = calloc((size_t)parameters->n, sizeof *list);
    for (int64_t i = 0; list != NULL && i < parameters->n; i++) {
        const tsr_module_entry *e = &parameters->at[i];
        list[i] = (tsr_optimizer_parameter){e->name, e->tensor, tsr_module_decays(e), 0.0};
    }
    tsr_optimizer *o = tsr_optimizer_make(list, (int)parameters->n, NULL);
    free(list);
    tsr_module_list_free(&parameters);
    return o;
}

static double step(const struct classifier *m, tsr_optimizer *o, tsr_tensor *images,
                   tsr_tensor *labels)
{
    double start = bench_seconds();
    tsr_scope scope = tsr_scope_open();
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = tsr_vit_class_token(tsr_vit_forward(m->vit, images, NULL));
    tsr_tensor *rows = tsr_cross_entropy(tsr_linear_forward(m->head, x), labels, -100);
    tsr_backward(tape, tsr_mean(rows, NULL, 0, false), NULL);
    tsr_optimizer_step(o, 1e-4, 0.05);
    tsr_optimizer_zero_grad(o);
    tsr_tape_close(&tape);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
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
    struct classifier *m = make_classifier();
    tsr_optimizer *o = m != NULL ? make_optimizer(m) : NULL;
    tsr_tensor *images = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(BATCH, 3, 224, 224));
    tsr_tensor *labels = tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(BATCH));
    tsr_tensor *a = tsr_full(TSR_DTYPE_F32, TSR_SHAPE(BATCH * 197, 384), 0.5);
    tsr_tensor *b = tsr_full(TSR_DTYPE_F32, TSR_SHAPE(1536, 384), 0.5);
    tsr_tensor *c = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(BATCH * 197, 1536));
    if (m != NULL) tsr_module_initialize(&m->module, 1);
    tsr_fill_normal(images, tsr_rng_make(1, 0, 0, 0), 0.0, 1.0);
    double seconds[ROUNDS], rates[ROUNDS], shares[ROUNDS], arithmetic = 0.0;
    if (tsr_status_get() == TSR_STATUS_OK) {
        step(m, o, images, labels);
        sgemm_rate(a, b, c);
    }
    for (int i = 0; i < ROUNDS && tsr_status_get() == TSR_STATUS_OK; i++) {
        rates[i] = sgemm_rate(a, b, c);
        flops = 0.0;
        seconds[i] = step(m, o, images, labels);
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
    tsr_optimizer_free(&o);
    tsr_module_free(&m);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return 0;
}
