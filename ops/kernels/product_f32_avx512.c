/*
 * Products of f32 numbers with AVX-512: the inner product, what becomes of its sums, and packing. A
 * tile of 12 x 32 sums takes 24 of the 32 registers; each k costs two loads of B and twelve
 * broadcasts of A for 24 instructions.
 */
#include "ops/kernels/avx512.h"

#include <string.h>

enum { WIDTH = TSR_PRODUCT_WIDTH };

/* Rows come in threes, so that addresses take four registers and a stride. */
static inline __attribute__((always_inline)) void
multiply_rows(const tsr_product_store *s, const float *a, int64_t lda, const float *b, int64_t k,
              int64_t n, const char *next, const int rows)
{
    __m512 sum[TILE_ROWS][2];
    const float *three[TILE_ROWS / 3];
    for (int i = 0; i < TILE_ROWS / 3; i++) three[i] = 3 * i < rows ? a + 3 * i * lda : a;
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++) sum[i][0] = sum[i][1] = _mm512_setzero_ps();
    for (int64_t p = 0; p < k; p++, b += WIDTH, next += 4 * rows) {
        __builtin_prefetch(next, 0, 2);
        const __m512 left = _mm512_load_ps(b), right = _mm512_load_ps(b + LANES);
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            const __m512 x = _mm512_set1_ps(three[i / 3][p + (i % 3) * lda]);
            sum[i][0] = _mm512_fmadd_ps(x, left, sum[i][0]);
            sum[i][1] = _mm512_fmadd_ps(x, right, sum[i][1]);
        }
    }
    store_f32_tile(s, sum, n, rows);
}

static void multiply(const tsr_product_store *s, const void *a, int64_t lda, int64_t rows,
                     const void *b, int64_t k, int64_t n, const void *next)
{
    BY_ROWS(rows, multiply_rows, s, a, lda, b, k, n, next);
}

/* ---- packing ---- */

/* to [16, 16], rows ld apart, = the transpose of 16 lines, `line` apart, of which `lines` exist,
 * with n numbers each; what does not exist is 0. What lies `ahead` numbers further is fetched
 * meanwhile: the hardware does not follow so many lines. */
static inline __attribute__((always_inline)) void pack_square(float *to, int64_t ld, const float *x,
                                                              int64_t line, int64_t lines,
                                                              int64_t n, int64_t ahead)
{
    __m512i r[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++, x += line) {
        __builtin_prefetch(x + ahead, 0, 2);
        r[i] = i < lines ? _mm512_maskz_loadu_epi32(first_of_16(n), x) : _mm512_setzero_si512();
    }
    transpose16(r);
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) _mm512_storeu_si512(to + i * ld, r[i]);
}

static void rows(void *to_, int64_t ld, const void *data, int64_t row, int64_t column, bool is_f32,
                 int64_t n_rows, int64_t columns)
{
    (void)is_f32;
    float *to = to_;
    const float *x = data;
    if (column == 1) {
        for (int64_t i = 0; i < n_rows; i++) {
            memcpy(to + i * ld, x + i * row, (size_t)columns * sizeof *to);
        }
        return;
    }
    for (int64_t j = 0; j < columns; j += LANES) {
        for (int64_t i = 0; i < n_rows; i += LANES) {
            float *square = to + i * ld + j;
            const float *from = x + i + j * column;
            if (n_rows - i >= LANES && columns - j >= LANES) {
                pack_square(square, ld, from, column, LANES, LANES, LANES * column);
            } else {
                float part[LANES * LANES];
                pack_square(part, LANES, from, column, columns - j, n_rows - i, 0);
                for (int64_t r = 0; r < LANES && i + r < n_rows; r++) {
                    memcpy(square + r * ld, part + r * LANES, sizeof part / LANES);
                }
            }
        }
    }
}

static void panel(void *to_, const void *data, int64_t row, int64_t column, bool is_f32, int64_t k,
                  int64_t n)
{
    (void)is_f32;
    enum {
        AHEAD = 64,  /* rows, a page and more each: the hardware sees no stream */
        FURTHER = 64 /* numbers in a column */
    };
    float *to = to_;
    const float *x = data;
    if (column == 1) {
        for (int64_t p = 0; p < k; p++, to += WIDTH, x += row) {
            for (int64_t j = 0; j < WIDTH; j += LANES) {
                __builtin_prefetch(x + AHEAD * row + j, 0, 2);
                _mm512_store_ps(to + j, _mm512_maskz_loadu_ps(first_of_16(n - j), x + j));
            }
        }
        return;
    }
    for (int64_t j = 0; j < WIDTH; j += LANES) {
        for (int64_t p = 0; p < k; p += LANES) {
            const float *from = x + p + j * column;
            if (k - p >= LANES && n - j >= LANES) {
                pack_square(to + p * WIDTH + j, WIDTH, from, column, LANES, LANES, FURTHER);
            } else {
                pack_square(to + p * WIDTH + j, WIDTH, from, column, n - j, k - p, 0);
            }
        }
    }
}

static const tsr_packing packing = {.rows = rows, .panel = panel};

extern const tsr_product_kernel tsr_product_kernel__avx512;
const tsr_product_kernel tsr_product_kernel__avx512 = {.multiply = multiply,
                                                       .most_rows = TILE_ROWS,
                                                       .step = 1,
                                                       .dtype = TSR_DTYPE_F32,
                                                       .packing = &packing};
