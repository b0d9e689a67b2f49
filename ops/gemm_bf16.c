/*
 * Products of bf16 numbers: by our own kernels where the CPU multiplies bf16, elsewhere by f32
 * products of widened copies of pieces of the factors.
 */
#include "ops/gemm.h"
#include "ops/kernels/bf16.h"
#include "ops/kernels/product.h"

/* x [rows, columns] in f32 in `to`, with unit strides where x has them. */
static tsr_matrix widened(tsr_factor x, int64_t rows, int64_t columns, float *to, int threads)
{
    bool by_rows = x.column == 1;
    int64_t lines = by_rows ? rows : columns, length = by_rows ? columns : rows;
    const tsr_bf16_kernels *k = tsr_bf16_kernels__get();
    TSR__GEMM_SHARE(i, lines, threads, {
        const void *line = by_rows ? tsr__gemm_element(x, i, 0) : tsr__gemm_element(x, 0, i);
        float *y = to + i * length;
        if (x.dtype == TSR_DTYPE_BF16) {
            k->widen(y, line, length);
        } else {
            enum { PIECE = 256 };
            tsr_bf16 rounded[PIECE];
            for (int64_t at = 0; at < length; at += PIECE) {
                int64_t n_piece = tsr__gemm_lesser(PIECE, length - at);
                k->narrow(rounded, (const float *)line + at, n_piece);
                k->widen(y + at, rounded, n_piece);
            }
        }
    });
    return by_rows ? (tsr_matrix){to, columns, 1} : (tsr_matrix){to, 1, rows};
}

static void finish_row(const tsr_product *c, int64_t i, float *sums, int64_t n)
{
    for (int64_t j = 0; c->bias != NULL && j < n; j++) sums[j] += c->bias[j];
    if (c->dtype == TSR_DTYPE_BF16) {
        tsr_bf16_kernels__get()->narrow((tsr_bf16 *)c->data + i * c->row, sums, n);
    }
}

static bool in_f32(int64_t m, int64_t n, int64_t k, tsr_factor a, tsr_factor b, tsr_product c)
{
    int threads = tsr__gemm_threads(2.0 * (double)m * (double)n * (double)k);
    enum { BLAS_CHUNK = 2048, BLAS_ROWS = 512 };
    bool is_f32 = c.dtype == TSR_DTYPE_F32;
    int64_t chunk = is_f32 ? tsr__gemm_lesser(k, BLAS_CHUNK) : k,
            rows = tsr__gemm_lesser(m, BLAS_ROWS);
    float *room = tsr_alloc((size_t)(chunk * n + rows * chunk + rows * n) * sizeof *room);
    if (room == NULL) return false;
    float *wide_a = room + chunk * n, *sums = wide_a + rows * chunk;
    int64_t first = 0;
    do {
        int64_t depth = tsr__gemm_lesser(chunk, k - first);
        tsr_factor part = b;
        part.data = tsr__gemm_element(b, first, 0);
        tsr_matrix mb = widened(part, depth, n, room, threads);
        for (int64_t i = 0; i < m; i += rows) {
            int64_t height = tsr__gemm_lesser(rows, m - i);
            part = a;
            part.data = tsr__gemm_element(a, i, first);
            tsr_matrix ma = widened(part, height, depth, wide_a, threads);
            tsr_matrix mc = {sums, n, 1};
            if (is_f32) mc = (tsr_matrix){(float *)c.data + i * c.row, c.row, 1};
            tsr__gemm(TSR_DTYPE_F32, height, n, depth, ma, mb, is_f32 && c.add ? 1.0 : 0.0, mc);
            if (is_f32 && c.bias == NULL) continue;
            TSR__GEMM_SHARE(r, height, threads,
                            finish_row(&c, i + r, (float *)mc.data + r * mc.row, n));
        }
        c.add = true;
        c.bias = NULL;
        first += chunk;
    } while (first < k);
    tsr_free(room);
    return true;
}

bool tsr__gemm_bf16_by(const tsr_product_kernel *kernel, int64_t m, int64_t n, int64_t k,
                       tsr_factor a, tsr_factor b, tsr_product c)
{
    if (m == 0 || n == 0) return true;
    if (kernel == NULL) return in_f32(m, n, k, a, b, c);
    tsr__gemm_add_count(m * n * k);
    return tsr__gemm_packed(kernel, m, n, k, a, b, c);
}

bool tsr__gemm_bf16(int64_t m, int64_t n, int64_t k, tsr_factor a, tsr_factor b, tsr_product c)
{
    return tsr__gemm_bf16_by(tsr_product_kernel__get(TSR_DTYPE_BF16), m, n, k, a, b, c);
}
