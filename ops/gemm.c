/*
 * Products of f32 and f64: the fastest way for each shape, and all calls to BLIS. What it takes
 * care of:
 * - BLIS 0.9 reads the CPU's brand string and picks AVX2 kernels on some CPUs with AVX-512, or
 *   generic ones on CPUs younger than itself. It is told the architecture before its first call,
 *   also where the user's environment says something else (0.9 takes a number there; a name is read
 *   as 0, which dies on CPUs without AVX-512).
 * - BLIS's way for small products, without packing, sums in an order that depends on how threads
 *   share C. It is left to those that have one thread.
 * - BLIS aborts the process when OpenMP gives it fewer threads than it asked for. It is asked for
 *   no more than OpenMP will give.
 */
#include "ops/gemm.h"
#include "autograd/loop.h"
#include "ops/kernels/kernels.h"
#include "ops/kernels/product.h"

#include <blis.h>
#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define THREADED_FLOPS 1e6 /* with fewer, threads cost more than they save */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static atomic_int_fast64_t multiply_adds;

int64_t tsr__gemm_count(void)
{
    return atomic_load_explicit(&multiply_adds, memory_order_relaxed);
}

void tsr__gemm_add_count(int64_t n)
{
    atomic_fetch_add_explicit(&multiply_adds, n, memory_order_relaxed);
}

static void start(void)
{
    int arch = BLIS_ARCH_GENERIC;
#if defined(__x86_64__)
    tsr_cpu level = tsr_cpu__level();
    if (level >= TSR_CPU_AVX2 && __builtin_cpu_is("amd")) {
        arch = BLIS_ARCH_ZEN3; /* also with AVX-512, whose units there are no wider */
    } else if (level >= TSR_CPU_AVX512) {
        arch = BLIS_ARCH_SKX;
    } else if (level >= TSR_CPU_AVX2) {
        arch = BLIS_ARCH_HASWELL;
    }
    char number[16];
    snprintf(number, sizeof number, "%d", arch);
    setenv("BLIS_ARCH_TYPE", number, 1);
#endif
    bli_init();
}

int tsr__gemm_threads(double flops)
{
    if (flops < THREADED_FLOPS || omp_in_parallel()) return 1;
    int n = tsr_threads();
    /* With dynamic adjustment OpenMP may give fewer than it is asked for. */
    return omp_get_dynamic() ? 1 : n;
}

enum {
    LEAST = 32,        /* rows, columns and summands; with fewer packing costs more than it saves */
    LARGE = 100000000, /* multiplications, from which on packing beats the way without */
};

/* Our own kernel, where there is one that takes such operands and packing pays; else NULL. */
static const tsr_product_kernel *packing_kernel(tsr_dtype dtype, int64_t m, int64_t n, int64_t k,
                                                tsr_matrix a, tsr_matrix b, double beta,
                                                tsr_matrix c)
{
    if (dtype != TSR_DTYPE_F32 || m < LEAST || n < LEAST || k < LEAST) return NULL;
    if ((a.row != 1 && a.column != 1) || (b.row != 1 && b.column != 1) || c.column != 1)
        return NULL;
    if (beta != 0.0 && beta != 1.0) return NULL;
    return tsr_product_kernel__get(dtype);
}

/* Every row of C = bias. */
static void fill(tsr_dtype dtype, int64_t m, int64_t n, const void *bias, tsr_matrix c)
{
    const tsr_kernels *kernels = tsr_kernels__get(dtype);
    int64_t row = c.row * (int64_t)tsr_dtype_size(dtype);
    TSR_PARALLEL_FOR(i, m, m * n, kernels->fill_rows((char *)c.data + i * row, bias, 1, n));
}

static void by_blis(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a, tsr_matrix b,
                    double beta, tsr_matrix c)
{
    pthread_once(&once, start);
    double flops = 2.0 * (double)m * (double)n * (double)k;
    rntm_t runtime;
    bli_rntm_init(&runtime);
    bli_rntm_set_num_threads(tsr__gemm_threads(flops), &runtime);
    if (flops >= THREADED_FLOPS) bli_rntm_disable_l3_sup(&runtime);
    if (dtype == TSR_DTYPE_F32) {
        float one = 1.0f, beta32 = (float)beta;
        bli_sgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, m, n, k, &one, a.data, a.row, a.column,
                     b.data, b.row, b.column, &beta32, c.data, c.row, c.column, NULL, &runtime);
    } else {
        double one = 1.0;
        bli_dgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, m, n, k, &one, a.data, a.row, a.column,
                     b.data, b.row, b.column, &beta, c.data, c.row, c.column, NULL, &runtime);
    }
}

void tsr__gemm_bias(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a, tsr_matrix b,
                    double beta, const void *bias, tsr_matrix c)
{
    if (m == 0 || n == 0) return;
    tsr__gemm_add_count(m * n * k);
    const tsr_product_kernel *kernel = packing_kernel(dtype, m, n, k, a, b, beta, c);
    bool large = kernel != NULL && m * n * k >= LARGE;
    if (!large && tsr__gemm_small(dtype, m, n, k, a, b, beta, bias, c)) return;
    if (kernel != NULL) {
        /* Where memory is out the sticky status says so. */
        tsr__gemm_packed(kernel, m, n, k, (tsr_factor){a.data, a.row, a.column, dtype},
                         (tsr_factor){b.data, b.row, b.column, dtype},
                         (tsr_product){c.data, c.row, dtype, beta != 0.0, bias});
        return;
    }
    if (bias != NULL) {
        fill(dtype, m, n, bias, c);
        beta = 1.0;
    }
    by_blis(dtype, m, n, k, a, b, beta, c);
}

void tsr__gemm(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a, tsr_matrix b,
               double beta, tsr_matrix c)
{
    tsr__gemm_bias(dtype, m, n, k, a, b, beta, NULL, c);
}
