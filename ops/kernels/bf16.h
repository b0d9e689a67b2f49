/*
 * Kernels on bf16 numbers. Conversions and sums exist at every level; matrix products where the CPU has instructions for them.
 * Not installed.
 *
 * Operands of a product are packed:
 * - A in rows of k elements, k a multiple of TSR_BF16_DEPTH; what the matrix does not have is 0;
 * - B in panels of TSR_BF16_WIDTH columns: for each pair of k the panel's columns in order, the two elements of each side by
 *   side, b[k / 2][column][k % 2]; again filled up with zeros.
 * Both instruction sets that multiply bf16 (vdpbf16ps and AMX's tdpbf16ps) read B so, and A as it lies in memory.
 */
#ifndef TSR_OPS_KERNELS_BF16_H
#define TSR_OPS_KERNELS_BF16_H

#include "autograd/autograd.h"
#include "ops/kernels/cpu.h"

enum { TSR_BF16_DEPTH = 32, TSR_BF16_WIDTH = 32, TSR_BF16_MOST_ROWS = 32 /* of any product */ };

/* What becomes of a product's sums, x[i, j] in f32. */
typedef struct tsr_bf16_store {
    void *c;           /* f32 or bf16, rows ld elements apart */
    const float *bias; /* added to x; may be NULL */
    int64_t ld;
    bool is_f32; /* else c is bf16 */
    bool add;    /* c += x; f32 only */
} tsr_bf16_store;

typedef struct tsr_bf16_kernels {
    /* n elements; narrow rounds to nearest even, NaN stays NaN: the bits of tsr_bf16_from_f32. */
    void (*narrow)(tsr_bf16 *y, const float *x, int64_t n);
    void (*widen)(float *y, const tsr_bf16 *x, int64_t n);
    /* sums[j] = sum_r x[r, j] of x [rows, d]. */
    void (*column_sums)(float *sums, const tsr_bf16 *x, int64_t rows, int64_t d);
} tsr_bf16_kernels;

/* What packs and stores for every tsr_bf16_product. An operand's element (i, j) is at data[i * row + j * column], one of
 * the strides being 1; is_f32: it is rounded on its way. */
typedef struct tsr_bf16_packing {
    /* to [rows, ld], ld >= columns: 0 from `columns` on. */
    void (*rows)(tsr_bf16 *to, int64_t ld, const void *data, int64_t row, int64_t column,
                 bool is_f32, int64_t rows, int64_t columns);
    /* One panel [k rounded up to DEPTH] of n <= WIDTH columns of a [k, n]. */
    void (*panel)(tsr_bf16 *to, const void *data, int64_t row, int64_t column, bool is_f32,
                  int64_t k, int64_t n);
    /* x [rows, WIDTH], of which n columns count, to where `s` says, whose pointers are to the first of them. */
    void (*store)(const tsr_bf16_store *s, const float *x, int64_t rows, int64_t n);
} tsr_bf16_packing;

typedef struct tsr_bf16_product {
    /* Around calls of multiply, on each thread; both or neither NULL. */
    void (*begin)(void);
    void (*end)(void);
    /* out [rows, WIDTH] = A [rows, k] B, of packed operands, A's rows lda elements apart, 1 <= rows <= most_rows, k a
     * multiple of `step`. At least the first `columns` of a row are made. */
    void (*multiply)(float *out, const tsr_bf16 *a, int64_t lda, int64_t rows, const tsr_bf16 *b,
                     int64_t k, int64_t columns);
    int64_t most_rows, step;
    const tsr_bf16_packing *packing;
} tsr_bf16_product;

/* Of the level in use. product NULL: this CPU has no products of its own. */
const tsr_bf16_kernels *tsr_bf16_kernels__get(void);
const tsr_bf16_kernels *tsr_bf16_kernels__at(tsr_cpu level);
const tsr_bf16_product *tsr_bf16_product__get(void);
const tsr_bf16_product *tsr_bf16_product__at(tsr_cpu level);

/* y = gelu(x) (or its tanh approximation), rounded once; dx = g gelu'(x), the slope and the product in f32. n elements. */
void tsr_bf16__gelu(tsr_bf16 *y, const tsr_bf16 *x, int64_t n, bool tanh);
void tsr_bf16__gelu_backward(tsr_bf16 *dx, const tsr_bf16 *x, const tsr_bf16 *g, int64_t n,
                             bool tanh);

extern const tsr_bf16_packing tsr_bf16_packing__avx512bf16;

#endif
