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
 * C [m, n] = beta C + A [m, k] B [k, n] with the threads of tsr_threads(); f32 or f64. The same
 * bits at any number of threads. With beta 0, C's old contents are not read. Inside a parallel
 * region it runs on the calling thread alone.
 */
void tsr__gemm(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a, tsr_matrix b,
               double beta, tsr_matrix c);

/* The same with bias [n] added to every row, if it is not NULL; then beta is 0 and C's rows lie
 * together. */
void tsr__gemm_bias(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a, tsr_matrix b,
                    double beta, const void *bias, tsr_matrix c);

/* A factor of a product that is packed; element (i, j) at data[i * row + j * column], one of the
 * strides 1. dtype: that of the product, or f32 in one of bf16 numbers, which sees each element
 * rounded to bf16. */
typedef struct tsr_factor {
    const void *data;
    int64_t row, column;
    tsr_dtype dtype;
} tsr_factor;

/* Its result: row by row, row elements apart; bf16 or f32. */
typedef struct tsr_product {
    void *data;
    int64_t row;
    tsr_dtype dtype;
    bool add;          /* to what is there; f32 only */
    const float *bias; /* [n], added to every row; may be NULL */
} tsr_product;

/*
 * C [m, n] (+)= A [m, k] B [k, n] + bias of bf16 numbers, summed in f32: with the CPU's bf16
 * instructions where it has them, else by f32 products of widened copies. The same bits at any
 * number of threads. Inside a parallel region it runs on the calling thread alone. False with a
 * sticky status where memory is out.
 */
bool tsr__gemm_bf16(int64_t m, int64_t n, int64_t k, tsr_factor a, tsr_factor b, tsr_product c);

struct tsr_product_kernel;

/* The same by one level's kernel (NULL: by f32 products). For their test. */
bool tsr__gemm_bf16_by(const struct tsr_product_kernel *product, int64_t m, int64_t n, int64_t k,
                       tsr_factor a, tsr_factor b, tsr_product c);

/* The same by any kernel of our own, of f32 or bf16 numbers, which is the factors' type. C is f32
 * where that is f32. False with a sticky status where memory is out. Counted by the caller. */
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

/*
 * for (int64_t i = 0; i < n; i++) body, shared by this many threads: pieces of uneven cost, of
 * which the next free thread takes the next, so that no result may depend on who has it. For one
 * thread it is a plain loop: no region is opened, which might lie in another's.
 */
#define TSR__GEMM_SHARE(i, n, threads, ...)                                                        \
    do {                                                                                           \
        const int64_t share_n = (n);                                                               \
        const int share_threads = (threads);                                                       \
        if (share_threads > 1) {                                                                   \
            _Pragma(                                                                               \
                "omp parallel for schedule(dynamic) num_threads(share_threads)") for (int64_t i =  \
                                                                                          0;       \
                                                                                      i < share_n; \
                                                                                      i++)         \
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

/* What tsr__gemm_bias does, for which alone this is: without packing, where that is faster; else
 * false, with nothing done. */
bool tsr__gemm_small(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a, tsr_matrix b,
                     double beta, const void *bias, tsr_matrix c);

/* Multiplications with an addition that the process has asked for so far, of all threads. */
int64_t tsr__gemm_count(void);

#endif
