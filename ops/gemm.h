/* Matrix products, and the only way to BLIS. Not installed. */
#ifndef TSR_OPS_GEMM_H
#define TSR_OPS_GEMM_H

#include "autograd/autograd.h"

/* A strided matrix: element (i, j) at data[i * row + j * column]. */
typedef struct tsr_matrix {
    void *data;
    int64_t row, column;
} tsr_matrix;

/*
 * C [m, n] = beta C + A [m, k] B [k, n] with the threads of tsr_threads(); f32 or f64. The same bits at any number of
 * threads. With beta 0, C's old contents are not read. Inside a parallel region it runs on the calling thread alone.
 */
void tsr__gemm(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a, tsr_matrix b,
               double beta, tsr_matrix c);

/* The same with bias [n] added to every row, if it is not NULL; then beta is 0 and C's rows lie together. */
void tsr__gemm_bias(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a, tsr_matrix b,
                    double beta, const void *bias, tsr_matrix c);

/* A factor of a bf16 product; element (i, j) at data[i * row + j * column], one of the strides 1. dtype: bf16, or f32, of
 * which the product sees each element rounded to bf16. */
typedef struct tsr_factor {
    const void *data;
    int64_t row, column;
    tsr_dtype dtype;
} tsr_factor;

struct tsr_product_kernel;

/* Its result: row by row, row elements apart; bf16 or f32. */
typedef struct tsr_product {
    void *data;
    int64_t row;
    tsr_dtype dtype;
    bool add;          /* to what is there; f32 only */
    const float *bias; /* [n], added to every row; may be NULL */
} tsr_product;

/*
 * C [m, n] (+)= A [m, k] B [k, n] + bias of bf16 numbers, summed in f32, with the CPU's bf16 instructions where it has them,
 * else by BLIS in f32. The same bits at any number of threads. Inside a parallel region it runs on the calling thread alone.
 * False with a sticky status where memory is out.
 */
bool tsr__gemm_bf16(int64_t m, int64_t n, int64_t k, tsr_factor a, tsr_factor b, tsr_product c);

/* The same by one level's kernels (NULL: by BLIS). For their test. */
bool tsr__gemm_bf16_by(const struct tsr_product_kernel *product, int64_t m, int64_t n, int64_t k,
                       tsr_factor a, tsr_factor b, tsr_product c);

/* The same of factors that suit the kernel: of its type, or f32 for one of bf16. C is f32 where the kernel's type is. False with
 * a sticky status where memory is out. Counted by the caller. */
bool tsr__gemm_packed(const struct tsr_product_kernel *kernel, int64_t m, int64_t n, int64_t k,
                      tsr_factor a, tsr_factor b, tsr_product c);

/* The factor seen as its transpose. */
static inline tsr_factor tsr__gemm_transposed(tsr_factor f)
{
    return (tsr_factor){f.data, f.column, f.row, f.dtype};
}

/* Threads for a product of so many operations: no more than OpenMP will give. */
int tsr__gemm_threads(double flops);

static inline int64_t tsr__gemm_lesser(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t tsr__gemm_pieces(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit;
}

static inline int64_t tsr__gemm_rounded_up(int64_t n, int64_t unit)
{
    return tsr__gemm_pieces(n, unit) * unit;
}

static inline const void *tsr__gemm_element(tsr_factor f, int64_t i, int64_t j)
{
    return (const char *)f.data + (i * f.row + j * f.column) * (int64_t)tsr_dtype_size(f.dtype);
}

/* Pieces of uneven cost: the next free thread takes the next. Without other threads no region is opened, which may lie in
 * another's. */
#define TSR__GEMM_SHARE(i, n, threads, ...)                                                        \
    do {                                                                                           \
        const int64_t share_n = (n);                                                               \
        if ((threads) > 1) {                                                                       \
            _Pragma("omp parallel for schedule(dynamic) num_threads(threads)") for (int64_t i = 0; \
                                                                                    i < share_n;   \
                                                                                    i++)           \
            {                                                                                      \
                __VA_ARGS__;                                                                       \
            }                                                                                      \
        } else {                                                                                   \
            for (int64_t i = 0; i < share_n; i++) {                                                \
                __VA_ARGS__;                                                                       \
            }                                                                                      \
        }                                                                                          \
    } while (0)

/* What tsr__gemm counts (below) of a product made elsewhere. */
void tsr__gemm_add_count(int64_t multiply_adds);

/* The same by the kernels of ops/, where that is faster; else false, with nothing done. Only for tsr__gemm. */
bool tsr__gemm_small(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a, tsr_matrix b,
                     double beta, const void *bias, tsr_matrix c);

/* Multiplications with an addition that the process has asked for so far, of all threads. */
int64_t tsr__gemm_count(void);

#endif
