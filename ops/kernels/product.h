/*
 * Products of packed operands, for CPUs whose own instructions outdo a library: f32 with AVX-512,
 * bf16 with AVX512-BF16 or AMX. Not installed.
 *
 * Operands have one type, the kernel's:
 * - A in rows of k elements; what the matrix does not have of a kernel's last step is 0;
 * - B in panels of TSR_PRODUCT_WIDTH columns, filled up with zeros. f32: for each k the panel's
 *   columns in order. bf16: for each pair of k the panel's columns in order, the two elements of
 *   each side by side, b[k / 2][column][k % 2], as both vdpbf16ps and AMX's tdpbf16ps read it.
 */
#ifndef TSR_OPS_KERNELS_PRODUCT_H
#define TSR_OPS_KERNELS_PRODUCT_H

#include "autograd/autograd.h"
#include "ops/kernels/cpu.h"

enum {
    TSR_PRODUCT_WIDTH = 32, /* columns of a panel */
    TSR_PRODUCT_LINE = 64,  /* bytes of a cache line: k is packed in whole ones */
};

/* What becomes of a product's sums, x[i, j] in f32. */
typedef struct tsr_product_store {
    void *c;           /* f32 or bf16, rows ld elements apart */
    const float *bias; /* added to x; may be NULL */
    int64_t ld;
    bool is_f32; /* else c is bf16 */
    bool add;    /* c += x; f32 only */
} tsr_product_store;

/* What packs. An operand's element (i, j) is at data[i * row + j * column], one of the strides
 * being 1; is_f32: it is f32, rounded on its way where the kernel's type is bf16. */
typedef struct tsr_packing {
    /* to [rows, ld], ld >= columns in whole lines: 0 from `columns` to the kernel's next step. */
    void (*rows)(void *to, int64_t ld, const void *data, int64_t row, int64_t column, bool is_f32,
                 int64_t rows, int64_t columns);
    /* One panel [k rounded up to a line] of n <= WIDTH columns of a [k, n]. */
    void (*panel)(void *to, const void *data, int64_t row, int64_t column, bool is_f32, int64_t k,
                  int64_t n);
} tsr_packing;

typedef struct tsr_product_kernel {
    /* Around calls of multiply, on each thread; both or neither NULL. */
    void (*begin)(void);
    void (*end)(void);
    /* x [rows, WIDTH] = A [rows, k] B, of packed operands, A's rows lda elements apart, 1 <= rows
     * <= most_rows, k a multiple of `step`. Of x, n columns go to where `s` says, whose pointers
     * are to the first of them. As many bytes as A has are fetched meanwhile from `next` on, which
     * may be any address. */
    void (*multiply)(const tsr_product_store *s, const void *a, int64_t lda, int64_t rows,
                     const void *b, int64_t k, int64_t n, const void *next);
    int64_t most_rows, step;
    tsr_dtype dtype; /* f32 or bf16 */
    const tsr_packing *packing;
} tsr_product_kernel;

/* For operands of this type at the level in use, or at any. NULL: there is none of our own. */
const tsr_product_kernel *tsr_product_kernel__get(tsr_dtype dtype);
const tsr_product_kernel *tsr_product_kernel__at(tsr_cpu level, tsr_dtype dtype);

/* What the kernels with AVX512-BF16 lend to others. store: x [rows, WIDTH], of which n columns
 * count, to where `s` says. */
extern const tsr_packing tsr_packing__avx512bf16;
void tsr_product__store_avx512bf16(const tsr_product_store *s, const float *x, int64_t rows,
                                   int64_t n);

#endif
