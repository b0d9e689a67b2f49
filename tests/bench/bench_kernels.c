/* The speed of each kernel at each level that this CPU has, on one thread: f32, GB/s of operands read and written. */
#include "ops/kernels/bf16.h"
#include "ops/kernels/kernels.h"
#include "tests/bench/bench.h"
#include "tests/ops/kernel_cases.h"

#include <string.h>

static float *input(tsr_shape shape, uint32_t seed, double lo)
{
    tsr_tensor *t = tsr_empty(TSR_DTYPE_F32, shape);
    tsr_fill_uniform(t, tsr_rng_make(1, 0, seed, 0), lo, 1.0);
    return tsr_tensor_data_mut(t);
}

struct bf16_data {
    int64_t rows, d;
    float *wide, *sums;
    tsr_bf16 *half;
};

static void bf16_narrow(const tsr_bf16_kernels *k, const struct bf16_data *a)
{
    k->narrow(a->half, a->wide, a->rows * a->d);
}

static void bf16_widen(const tsr_bf16_kernels *k, const struct bf16_data *a)
{
    k->widen(a->wide, a->half, a->rows * a->d);
}

static void bf16_column_sums(const tsr_bf16_kernels *k, const struct bf16_data *a)
{
    k->column_sums(a->sums, a->half, a->rows, a->d);
}

/* Those of bf16; bytes: of an element and what it becomes. */
static void bench_bf16(const struct bf16_data *a)
{
    static const struct {
        const char *name;
        void (*call)(const tsr_bf16_kernels *k, const struct bf16_data *a);
        double bytes;
    } cases[] = {
        {"bf16 narrow", bf16_narrow, 6.0},
        {"bf16 widen", bf16_widen, 6.0},
        {"bf16 column_sums", bf16_column_sums, 2.0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        printf("%-34s", cases[i].name);
        for (int l = 0; l <= (int)tsr_cpu__level(); l++) {
            double best;
            BENCH(best, 0.05, cases[i].call(tsr_bf16_kernels__at((tsr_cpu)l), a));
            printf("%12.1f", (double)(a->rows * a->d) * cases[i].bytes / best * 1e-9);
        }
        printf("\n");
    }
}

static void bench(int64_t rows, int64_t d)
{
    tsr_scope scope = tsr_scope_open();
    tsr_shape matrix = TSR_SHAPE(rows, d), vector = TSR_SHAPE(d), sums = TSR_SHAPE(rows + d);
    float *x = input(matrix, 1, -1.0), *y = input(matrix, 2, -1.0);
    int64_t *target = tsr_alloc((size_t)rows * sizeof *target);
    kernel_data a = {.rows = rows,
                     .d = d,
                     .x = x,
                     .g = input(matrix, 3, -1.0),
                     .t = input(matrix, 4, 0.0),
                     .w = input(vector, 5, -1.0),
                     .b = input(vector, 6, -1.0),
                     .c = input(TSR_SHAPE(rows), 7, -1.0),
                     .target = target,
                     .y = y,
                     .stats = input(TSR_SHAPE(3 * rows), 8, 0.5),
                     .sums = input(sums, 9, -1.0),
                     .more = input(sums, 10, -1.0)};
    if (tsr_status_get() == TSR_STATUS_OK) {
        size_t bytes = (size_t)(rows * d) * sizeof(float);
        double best;
        for (int64_t r = 0; r < rows; r++) target[r] = r % d;
        BENCH(best, 0.1, memcpy(y, x, bytes));
        printf("\n[%lld, %lld], memcpy %.1f GB/s\n%-34s", (long long)rows, (long long)d,
               2e-9 * (double)bytes / best, "");
        for (int l = 0; l <= (int)tsr_cpu__level(); l++) printf("%12s", tsr_cpu__name((tsr_cpu)l));
        printf("\n");
        for (int i = 0; i < KERNEL_CASES; i++) {
            const kernel_case *c = &kernel_cases[i];
            printf("%-34s", c->name);
            for (int l = 0; l <= (int)tsr_cpu__level(); l++) {
                const tsr_kernels *k = tsr_kernels__at((tsr_cpu)l, TSR_DTYPE_F32);
                memcpy(y, x, bytes);
                if (c->prepare != NULL) c->prepare(k, &a);
                memcpy(y, x, bytes);
                BENCH(best, 0.05, c->call(k, &a));
                printf("%12.1f", (double)c->passes * (double)bytes / best * 1e-9);
            }
            printf("\n");
        }
        tsr_tensor *half = tsr_zeros(TSR_DTYPE_BF16, matrix);
        if (half != NULL)
            bench_bf16(&(struct bf16_data){rows, d, y, a.sums, tsr_tensor_data_mut(half)});
    }
    tsr_free(target);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

int main(void)
{
    bench(3152, 384); /* tokens of 16 images, ViT-S */
    bench(1182, 197); /* attention of 6 heads */
    bench(256, 8192); /* a projection head's outputs */
    return tsr_status_get() != TSR_STATUS_OK;
}
