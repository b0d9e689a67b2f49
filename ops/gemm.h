/* The only way to BLIS. Not installed. */
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

/* Multiplications with an addition that the process has asked for so far, of all threads. */
int64_t tsr__gemm_count(void);

#endif
