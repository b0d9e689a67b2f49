/*
 * Where the time of a transformer block goes: ViT-S, 16 images of 197 tokens, f32, forward and backward. Milliseconds, the
 * best of several runs, and the part of them inside matrix products (of several threads' products, their mean).
 */
#include "ops/gemm.h"
#include "ops/ops.h"
#include "tests/bench/bench.h"

#include <omp.h>

enum { BATCH = 16, TOKENS = 197, WIDTH = 384, HEADS = 6, HEAD = WIDTH / HEADS, HIDDEN = 4 * WIDTH };

/* The linker hands calls of tsr__gemm and tsr__gemm_bias to the wrappers. */
void __real_tsr__gemm(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a, tsr_matrix b,
                      double beta, tsr_matrix c);
void __wrap_tsr__gemm(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a, tsr_matrix b,
                      double beta, tsr_matrix c);
void __real_tsr__gemm_bias(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a,
                           tsr_matrix b, double beta, const void *bias, tsr_matrix c);
void __wrap_tsr__gemm_bias(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a,
                           tsr_matrix b, double beta, const void *bias, tsr_matrix c);

static double gemm_seconds;

static void count_from(double start)
{
    double took = (bench_seconds() - start) / (double)omp_get_num_threads();
#pragma omp atomic
    gemm_seconds += took;
}

void __wrap_tsr__gemm(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a, tsr_matrix b,
                      double beta, tsr_matrix c)
{
    double start = bench_seconds();
    __real_tsr__gemm(dtype, m, n, k, a, b, beta, c);
    count_from(start);
}

void __wrap_tsr__gemm_bias(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a,
                           tsr_matrix b, double beta, const void *bias, tsr_matrix c)
{
    double start = bench_seconds();
    __real_tsr__gemm_bias(dtype, m, n, k, a, b, beta, bias, c);
    count_from(start);
}

/* The parameters, in the order in which forward meets them. */
enum {
    NORM1_WEIGHT,
    NORM1_BIAS,
    QKV_WEIGHT,
    QKV_BIAS,
    PROJ_WEIGHT,
    PROJ_BIAS,
    NORM2_WEIGHT,
    NORM2_BIAS,
    FC1_WEIGHT,
    FC1_BIAS,
    FC2_WEIGHT,
    FC2_BIAS,
    PARAMETERS,
};

struct block {
    tsr_tensor *p[PARAMETERS];
};

static tsr_tensor *random_tensor(tsr_shape shape, uint32_t seed, double std)
{
    tsr_tensor *t = tsr_empty(TSR_DTYPE_F32, shape);
    tsr_fill_normal(t, tsr_rng_make(1, 0, seed, 0), 0.0, std);
    return tsr_require_grad(t, true);
}

static struct block make_block(void)
{
    static const tsr_shape shapes[PARAMETERS] = {
        {1, {WIDTH}},     {1, {WIDTH}},         {2, {3 * WIDTH, WIDTH}},
        {1, {3 * WIDTH}}, {2, {WIDTH, WIDTH}},  {1, {WIDTH}},
        {1, {WIDTH}},     {1, {WIDTH}},         {2, {HIDDEN, WIDTH}},
        {1, {HIDDEN}},    {2, {WIDTH, HIDDEN}}, {1, {WIDTH}},
    };
    struct block b;
    for (int i = 0; i < PARAMETERS; i++) b.p[i] = random_tensor(shapes[i], (uint32_t)i, 0.05);
    return b;
}

static tsr_tensor *attend(tsr_tensor *qkv)
{
    tsr_tensor *heads = tsr_reshape(qkv, TSR_SHAPE(BATCH, TOKENS, 3, HEADS, HEAD)), *parts[3] = {0};
    tsr_split(tsr_permute(heads, (const int[]){2, 0, 3, 1, 4}), 0, 3, parts);
    for (int i = 0; i < 3; i++) parts[i] = tsr_squeeze(parts[i], 0);
    tsr_tensor *y =
        tsr_scaled_dot_product_attention(parts[0], parts[1], parts[2], NULL, NULL, NULL);
    return tsr_reshape(tsr_permute(y, (const int[]){0, 2, 1, 3}), TSR_SHAPE(BATCH, TOKENS, WIDTH));
}

static tsr_tensor *run_norm(const struct block *b, tsr_tensor *x)
{
    return tsr_layer_norm(x, b->p[NORM1_WEIGHT], b->p[NORM1_BIAS], 1e-6);
}

static tsr_tensor *run_qkv(const struct block *b, tsr_tensor *x)
{
    return tsr_linear(x, b->p[QKV_WEIGHT], b->p[QKV_BIAS]);
}

static tsr_tensor *run_attend(const struct block *b, tsr_tensor *x)
{
    (void)b;
    return attend(x);
}

static tsr_tensor *run_proj(const struct block *b, tsr_tensor *x)
{
    return tsr_linear(x, b->p[PROJ_WEIGHT], b->p[PROJ_BIAS]);
}

static tsr_tensor *run_fc1(const struct block *b, tsr_tensor *x)
{
    return tsr_linear(x, b->p[FC1_WEIGHT], b->p[FC1_BIAS]);
}

static tsr_tensor *run_gelu(const struct block *b, tsr_tensor *x)
{
    (void)b;
    return tsr_gelu(x, false);
}

static tsr_tensor *run_fc2(const struct block *b, tsr_tensor *x)
{
    return tsr_linear(x, b->p[FC2_WEIGHT], b->p[FC2_BIAS]);
}

static tsr_tensor *run_add(const struct block *b, tsr_tensor *x)
{
    (void)b;
    return tsr_add(x, tsr_detach(x));
}

static tsr_tensor *run_block(const struct block *b, tsr_tensor *x)
{
    tsr_tensor *y = attend(run_qkv(b, run_norm(b, x)));
    x = tsr_add(x, run_proj(b, y));
    y = tsr_layer_norm(x, b->p[NORM2_WEIGHT], b->p[NORM2_BIAS], 1e-6);
    return tsr_add(x, run_fc2(b, tsr_gelu(run_fc1(b, y), false)));
}

struct part {
    const char *name;
    tsr_tensor *(*run)(const struct block *b, tsr_tensor *x);
    int64_t in;
    int first, n; /* its parameters */
};

static const struct part parts[] = {
    {"layer_norm", run_norm, WIDTH, NORM1_WEIGHT, 2}, {"qkv", run_qkv, WIDTH, QKV_WEIGHT, 2},
    {"attention", run_attend, 3 * WIDTH, 0, 0},       {"proj", run_proj, WIDTH, PROJ_WEIGHT, 2},
    {"fc1", run_fc1, WIDTH, FC1_WEIGHT, 2},           {"gelu", run_gelu, HIDDEN, 0, 0},
    {"fc2", run_fc2, HIDDEN, FC2_WEIGHT, 2},          {"add", run_add, WIDTH, 0, 0},
    {"whole block", run_block, WIDTH, 0, PARAMETERS},
};

/* Seconds of forward and backward, and of the products in each, in the run in which both together were fastest. */
static void time_part(const struct block *b, const struct part *p, double best[4])
{
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *x = random_tensor(TSR_SHAPE(BATCH, TOKENS, p->in), 20, 1.0), *v = NULL;
    tsr_tensor *inputs[PARAMETERS + 1] = {x}, *grads[PARAMETERS + 1];
    for (int i = 0; i < p->n; i++) inputs[i + 1] = b->p[p->first + i];
    tsr_tensors leaves = {inputs, p->n + 1};
    double begin = bench_seconds();
    best[0] = best[2] = 1e30;
    for (int run = 0; run < 4 || bench_seconds() - begin < 1.5; run++) {
        tsr_scope inner = tsr_scope_open();
        tsr_tape *tape = tsr_tape_open();
        gemm_seconds = 0.0;
        double start = bench_seconds();
        tsr_tensor *y = p->run(b, x);
        double forward = bench_seconds() - start, forward_gemm = gemm_seconds;
        if (v == NULL) {
            v = tsr_detach(random_tensor(tsr_tensor_shape(y), 21, 1.0));
            tsr_tensor_hold(v);
        }
        gemm_seconds = 0.0;
        start = bench_seconds();
        tsr_grad(tape, TSR_TENSORS(y), TSR_TENSORS(v), leaves, grads, NULL);
        double backward = bench_seconds() - start;
        if (forward + backward < best[0] + best[2]) {
            best[0] = forward;
            best[1] = forward_gemm;
            best[2] = backward;
            best[3] = gemm_seconds;
        }
        tsr_tape_close(&tape);
        tsr_scope_close(&inner, TSR_NO_TENSORS);
    }
    tsr_tensor_release(&v);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

int main(void)
{
    tsr_scope scope = tsr_scope_open();
    struct block b = make_block();
    printf("%d threads\n%-12s%12s%10s%12s%10s\n", tsr_threads(), "", "forward", "products",
           "backward", "products");
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        double t[4] = {0};
        time_part(&b, &parts[i], t);
        printf("%-12s%9.2f ms%9.0f%%%9.2f ms%9.0f%%\n", parts[i].name, t[0] * 1e3,
               100.0 * t[1] / t[0], t[2] * 1e3, 100.0 * t[3] / t[2]);
        if (i + 1 == sizeof parts / sizeof parts[0]) {
            printf("%-12s%9.2f ms, %.0f%% in products\n", "both", (t[0] + t[2]) * 1e3,
                   100.0 * (t[1] + t[3]) / (t[0] + t[2]));
        }
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    if (tsr_status_get() != TSR_STATUS_OK) printf("%s\n", tsr_message());
    return tsr_status_get() != TSR_STATUS_OK;
}
