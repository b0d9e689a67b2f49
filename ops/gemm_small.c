/*
 * Products whose right factor stays in a core's cache. BLIS packs both factors, which takes longer
 * than the product where a network, a head or a local crop is small: 3 microseconds and more a
 * call. Here nothing is packed; a transposed right factor is copied once. Threads share the rows of
 * C. An element of C is summed strip by strip, in the order of k, whoever has its row.
 */
#include "autograd/loop.h"
#include "ops/gemm.h"
#include "ops/kernels/kernels.h"

enum {
    STRIP = 256,      /* rows of B used at once */
    CACHED = 1 << 17, /* elements of B in a strip */
    LONGEST = 2048,   /* k; beyond it BLIS's packing pays */
    ROWS = 24,        /* of C in a thread's piece */
    COLUMNS = 16,     /* of a transposed B in a thread's piece */
    WORTH_A_COPY = 64 /* rows of C that make up for copying B */
};

static bool takes(int64_t m, int64_t n, int64_t k, tsr_matrix b, double beta, tsr_matrix c)
{
    if (n % TSR_PRODUCT_COLUMNS != 0 || k == 0 || k > LONGEST || c.column != 1) return false;
    if (beta != 0.0 && beta != 1.0) return false;
    if (b.column == 1) return n * tsr__gemm_lesser(k, STRIP) <= CACHED;
    return b.row == 1 && m >= WORTH_A_COPY && n * k <= CACHED;
}

bool tsr__gemm_small(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_matrix a, tsr_matrix b,
                     double beta, const void *bias, tsr_matrix c)
{
    if (!takes(m, n, k, b, beta, c)) return false;
    const tsr_kernels *kernels = tsr_kernels__get(dtype);
    int64_t size = (int64_t)tsr_dtype_size(dtype);
    void *copy = NULL;
    if (b.column != 1) {
        copy = tsr_alloc((size_t)(n * k * size));
        if (copy == NULL) return true;
        char *to = copy;
        const char *from = b.data;
        TSR_PARALLEL_FOR(piece, (k + COLUMNS - 1) / COLUMNS, n * k, {
            int64_t p = piece * COLUMNS;
            kernels->transpose(to + p * n * size, n, from + p * size, b.column, 1, n,
                               tsr__gemm_lesser(k - p, COLUMNS));
        });
        b = (tsr_matrix){copy, n, 1};
    }
    char *cd = c.data;
    const char *ad = a.data, *bd = b.data;
    TSR_PARALLEL_FOR(piece, (m + ROWS - 1) / ROWS, m * n * k / TSR_PRODUCT_COLUMNS, {
        int64_t i = piece * ROWS, rows = tsr__gemm_lesser(m - i, ROWS);
        for (int64_t r = i; bias != NULL && r < i + rows; r++) {
            kernels->fill_rows(cd + r * c.row * size, bias, 1, n);
        }
        for (int64_t p = 0; p < k; p += STRIP) {
            kernels->product(cd + i * c.row * size, c.row, ad + (i * a.row + p * a.column) * size,
                             a.row, a.column, bd + p * b.row * size, b.row, rows, n,
                             tsr__gemm_lesser(k - p, STRIP), beta != 0.0 || bias != NULL || p > 0);
        }
    });
    tsr_free(copy);
    return true;
}
