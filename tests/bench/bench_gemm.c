/*
 * The rate of matrix products, GFLOP/s, for the shapes of a ViT-S/16 step: 16 images, 197 tokens; in f32, and of bf16
 * activations with f32 weights, as training has them: results are bf16, but for gradients of weights.
 */
#include "ops/gemm.h"
#include "tests/bench/bench.h"

#include <stdint.h>

enum { ROWS = 16 * 197, HEADS = 16 * 6 };

struct product {
    const char *name;
    int64_t m, n, k;
    bool a_transposed, b_transposed;
};

static const struct product products[] = {
    {"qkv forward", ROWS, 1152, 384, false, true}, {"qkv dx", ROWS, 384, 1152, false, false},
    {"qkv dW", 1152, 384, ROWS, true, false},      {"proj forward", ROWS, 384, 384, false, true},
    {"proj dx", ROWS, 384, 384, false, false},     {"proj dW", 384, 384, ROWS, true, false},
    {"fc1 forward", ROWS, 1536, 384, false, true}, {"fc1 dx", ROWS, 384, 1536, false, false},
    {"fc1 dW", 1536, 384, ROWS, true, false},      {"fc2 forward", ROWS, 384, 1536, false, true},
    {"fc2 dx", ROWS, 1536, 384, false, false},     {"fc2 dW", 384, 1536, ROWS, true, false},
};

/* Those of one head, as attention makes them: strided views of qkv [ROWS, 3, 6, 64]. */
static const struct product attention[] = {
    {"q k^T", 197, 197, 64, false, true},
    {"p v", 197, 64, 197, false, false},
    {"p^T g", 197, 64, 197, true, false},
};

static tsr_matrix matrix(tsr_tensor *t, int64_t rows, int64_t columns, bool transposed)
{
    float *data = tsr_tensor_data_mut(t);
    return transposed ? (tsr_matrix){data, 1, rows} : (tsr_matrix){data, columns, 1};
}

static tsr_tensor *random_tensor(int64_t n, uint32_t seed)
{
    tsr_tensor *t = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(n));
    tsr_fill_uniform(t, tsr_rng_make(1, 0, seed, 0), -1.0, 1.0);
    return t;
}

static tsr_factor bf16_factor(tsr_tensor *t, tsr_matrix m, bool weight)
{
    tsr_tensor *half = weight ? t : tsr_tensor_converted(t, TSR_DTYPE_BF16);
    return (tsr_factor){tsr_tensor_data(half), m.row, m.column, tsr_tensor_dtype(half)};
}

static void heads(const struct product *p, float *a, float *b, float *c)
{
#pragma omp parallel for schedule(static) num_threads(tsr_threads())
    for (int64_t h = 0; h < HEADS; h++) {
        /* The 64-wide operand is strided, the 197-wide one is scratch. */
        bool wide_a = p->k == 64;
        tsr_matrix ma = wide_a
                            ? (tsr_matrix){a + h / 6 * 197 * 1152 + h % 6 * 64, 1152, 1}
                            : (tsr_matrix){a, p->a_transposed ? 1 : 197, p->a_transposed ? 197 : 1};
        tsr_matrix mb = {b + h / 6 * 197 * 1152 + h % 6 * 64, 1152, 1};
        if (p->b_transposed) mb = (tsr_matrix){mb.data, 1, 1152};
        tsr_matrix mc = {c + h * 197 * 197, p->n, 1};
        tsr__gemm(TSR_DTYPE_F32, p->m, p->n, p->k, ma, mb, 0.0, mc);
    }
}

int main(void)
{
    tsr_scope scope = tsr_scope_open();
    double flops = 0.0, seconds = 0.0, bf16_seconds = 0.0;
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++) {
        const struct product *p = &products[i];
        tsr_scope inner = tsr_scope_open();
        tsr_tensor *ta = random_tensor(p->m * p->k, 1), *tb = random_tensor(p->k * p->n, 2);
        tsr_tensor *tc = random_tensor(p->m * p->n, 3);
        tsr_matrix a = matrix(ta, p->m, p->k, p->a_transposed);
        tsr_matrix b = matrix(tb, p->k, p->n, p->b_transposed);
        tsr_matrix c = matrix(tc, p->m, p->n, false);
        bool of_weight = p->k == ROWS;
        tsr_factor ha = bf16_factor(ta, a, false), hb = bf16_factor(tb, b, !of_weight);
        tsr_product hc = {c.data, p->n, of_weight ? TSR_DTYPE_F32 : TSR_DTYPE_BF16, false, NULL};
        double best, bf16_best, work = 2.0 * (double)p->m * (double)p->n * (double)p->k;
        BENCH(best, 0.3, tsr__gemm(TSR_DTYPE_F32, p->m, p->n, p->k, a, b, 0.0, c));
        BENCH(bf16_best, 0.3, tsr__gemm_bf16(p->m, p->n, p->k, ha, hb, hc));
        printf("%-14s %5lld x %5lld x %5lld %8.1f GFLOP/s f32 %8.1f bf16\n", p->name,
               (long long)p->m, (long long)p->n, (long long)p->k, work / best * 1e-9,
               work / bf16_best * 1e-9);
        flops += work;
        seconds += best;
        bf16_seconds += bf16_best;
        tsr_scope_close(&inner, TSR_NO_TENSORS);
    }
    printf("%-34s %8.1f GFLOP/s f32 %8.1f bf16\n", "all of a block", flops / seconds * 1e-9,
           flops / bf16_seconds * 1e-9);
    tsr_tensor *a = random_tensor(ROWS * 1152, 4), *c = random_tensor(HEADS * 197 * 197, 5);
    for (size_t i = 0; i < sizeof attention / sizeof attention[0]; i++) {
        const struct product *p = &attention[i];
        double best, work = 2.0 * HEADS * (double)p->m * (double)p->n * (double)p->k;
        float *ad = tsr_tensor_data_mut(a), *cd = tsr_tensor_data_mut(c);
        BENCH(best, 0.3, heads(p, ad, ad, cd));
        printf("%-14s %5lld x %5lld x %5lld %8.1f GFLOP/s, %d heads side by side\n", p->name,
               (long long)p->m, (long long)p->n, (long long)p->k, work / best * 1e-9, HEADS);
    }
    printf("%d threads\n", tsr_threads());
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_status_get() != TSR_STATUS_OK;
}
