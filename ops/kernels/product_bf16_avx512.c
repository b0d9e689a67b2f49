/*
 * Products of bf16 numbers with AVX512-BF16: what becomes of sums, the inner product, and packing.
 *
 * vdpbf16ps adds two products to each of 16 sums. A tile of 12 x 32 sums takes 24 of the 32
 * registers; each pair of k costs two loads of B and twelve broadcasts of A for 24 instructions, so
 * that loads keep up.
 */
#include "ops/kernels/avx512.h"

#include <string.h>

enum { DEPTH = TSR_PRODUCT_LINE / sizeof(tsr_bf16) };

static inline __attribute__((always_inline)) __m512bh pair(const tsr_bf16 *a)
{
    int32_t bits;
    memcpy(&bits, a, sizeof bits);
    return (__m512bh)_mm512_set1_epi32(bits);
}

static inline __m512i round_pair(__m512 low, __m512 high)
{
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* ---- results ---- */

/* 16 columns from j on, n of them wanted. */
static inline __attribute__((always_inline)) void store_columns(const tsr_product_store *s,
                                                                const float *x, int64_t n_rows,
                                                                int64_t j, const int64_t n)
{
    const __mmask16 mask = first_of_16(n);
    __m512 bias;
    load_bias(&bias, s, j, mask);
    for (int64_t i = 0; i < n_rows; i++) {
        const __m512 v = _mm512_add_ps(_mm512_load_ps(x + i * TSR_PRODUCT_WIDTH + j), bias);
        if (s->is_f32) {
            store_f32((float *)s->c + i * s->ld + j, v, mask, s->add);
        } else {
            tsr_bf16 *c = (tsr_bf16 *)s->c + i * s->ld + j;
            _mm256_mask_storeu_epi16(c, mask, (__m256i)_mm512_cvtneps_pbh(v));
        }
    }
}

/* Masked stores of 16 bits take several times as long as whole ones. */
void tsr_product__store_avx512bf16(const tsr_product_store *s, const float *x, int64_t n_rows,
                                   int64_t n)
{
    for (int64_t j = 0; j < n; j += LANES) {
        if (n - j >= LANES) {
            store_columns(s, x, n_rows, j, LANES);
        } else {
            store_columns(s, x, n_rows, j, n - j);
        }
    }
}

/* The first n columns of a tile's sums to a bf16 C. */
static inline __attribute__((always_inline)) void
store_bf16_tile(const tsr_product_store *s, __m512 sum[TILE_ROWS][2], int64_t n, const int rows)
{
    if (n < TSR_PRODUCT_WIDTH) {
        _Alignas(64) float x[TILE_ROWS * TSR_PRODUCT_WIDTH];
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            _mm512_store_ps(x + i * TSR_PRODUCT_WIDTH, sum[i][0]);
            _mm512_store_ps(x + i * TSR_PRODUCT_WIDTH + LANES, sum[i][1]);
        }
        tsr_product__store_avx512bf16(s, x, rows, n);
        return;
    }
    tsr_bf16 *c = s->c;
    const __mmask16 all = first_of_16(LANES);
    __m512 bias[2];
    load_bias(&bias[0], s, 0, all);
    load_bias(&bias[1], s, LANES, all);
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++, c += s->ld) {
        _mm512_storeu_si512(
            c, round_pair(_mm512_add_ps(sum[i][0], bias[0]), _mm512_add_ps(sum[i][1], bias[1])));
    }
}

/* ---- the inner product ---- */

/* Rows come in threes, so that addresses take four registers and a stride. */
static inline __attribute__((always_inline)) void
multiply_rows(const tsr_product_store *s, const tsr_bf16 *a, int64_t lda, const tsr_bf16 *b,
              int64_t k, int64_t n, const char *next, const int rows)
{
    __m512 sum[TILE_ROWS][2];
    const tsr_bf16 *three[TILE_ROWS / 3];
    for (int i = 0; i < TILE_ROWS / 3; i++) three[i] = 3 * i < rows ? a + 3 * i * lda : a;
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++) sum[i][0] = sum[i][1] = _mm512_setzero_ps();
    for (int64_t p = 0; p < k; p += 2, b += 2 * TSR_PRODUCT_WIDTH, next += 4 * rows) {
        __builtin_prefetch(next, 0, 2);
        const __m512bh left = (__m512bh)_mm512_load_si512(b);
        const __m512bh right = (__m512bh)_mm512_load_si512(b + TSR_PRODUCT_WIDTH);
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            const __m512bh x = pair(three[i / 3] + p + (i % 3) * lda);
            sum[i][0] = _mm512_dpbf16_ps(sum[i][0], x, left);
            sum[i][1] = _mm512_dpbf16_ps(sum[i][1], x, right);
        }
    }
    if (s->is_f32) {
        store_f32_tile(s, sum, n, rows);
    } else {
        store_bf16_tile(s, sum, n, rows);
    }
}

static void multiply(const tsr_product_store *s, const void *a, int64_t lda, int64_t rows,
                     const void *b, int64_t k, int64_t n, const void *next)
{
    BY_ROWS(rows, multiply_rows, s, a, lda, b, k, n, next);
}

/* ---- packing ---- */

/* Elements 0 .. n - 1 (at most 32) of x as bf16, then 0. */
static inline __attribute__((always_inline)) __m512i load_run(const char *x, bool is_f32, int64_t n)
{
    const __mmask32 mask = n >= 32 ? 0xffffffffu : (1u << n) - 1u;
    if (!is_f32) return _mm512_maskz_loadu_epi16(mask, x);
    return round_pair(_mm512_maskz_loadu_ps((__mmask16)mask, x),
                      _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), x + 64));
}

/* Elements 0 .. n - 1 (at most 16) of two runs, those of one place side by side; without second, 0
 * beside the first's. */
static inline __attribute__((always_inline)) __m512i
load_pairs(const char *first, const char *second, bool is_f32, int64_t n)
{
    const __mmask16 mask = first_of_16(n);
    const __mmask16 other = second != NULL ? mask : 0;
    if (!is_f32) {
        const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, first));
        const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(other, second));
        return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
    }
    const __m512i both =
        round_pair(_mm512_maskz_loadu_ps(mask, first), _mm512_maskz_loadu_ps(other, second));
    const __m512i low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(both));
    const __m512i high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(both, 1));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

/* to [16, 32] = the transpose of what lies at data, of which `rows` and `columns` exist; `column`
 * in bytes. The next 32 columns are fetched meanwhile, into the second cache: the hardware sees no
 * stream in lines that far apart. */
static inline __attribute__((always_inline)) void pack_square(tsr_bf16 *to, int64_t ld,
                                                              const char *data, int64_t column,
                                                              const bool is_f32, int64_t rows,
                                                              int64_t columns)
{
    __m512i r[16];
#pragma GCC unroll 16
    for (int p = 0; p < 16; p++) {
        const char *second = data + column;
        __builtin_prefetch(data + 32 * column, 0, 2);
        __builtin_prefetch(second + 32 * column, 0, 2);
        r[p] = 2 * p < columns ? load_pairs(data, 2 * p + 1 < columns ? second : NULL, is_f32, rows)
                               : _mm512_setzero_si512();
        data = second + column;
    }
    transpose16(r);
#pragma GCC unroll 16
    for (int p = 0; p < 16; p++) {
        if (p < rows) _mm512_storeu_si512(to + p * ld, r[p]);
    }
}

/* Functions of their own: gcc would keep each address as a variable of the caller's loops, more
 * than there are registers, and move what both types share, the fetching, in front of all else. */
static __attribute__((noinline)) void pack_whole_square_f32(tsr_bf16 *to, int64_t ld,
                                                            const char *data, int64_t column)
{
    pack_square(to, ld, data, column, true, 16, 32);
}

static __attribute__((noinline)) void pack_whole_square_bf16(tsr_bf16 *to, int64_t ld,
                                                             const char *data, int64_t column)
{
    pack_square(to, ld, data, column, false, 16, 32);
}

static __attribute__((noinline)) void pack_part_of_square(tsr_bf16 *to, int64_t ld,
                                                          const char *data, int64_t column,
                                                          bool is_f32, int64_t rows,
                                                          int64_t columns)
{
    pack_square(to, ld, data, column, is_f32, rows, columns);
}

static inline __attribute__((always_inline)) void pack_rows(tsr_bf16 *to, int64_t ld,
                                                            const char *data, int64_t row,
                                                            int64_t column, const bool is_f32,
                                                            int64_t rows, int64_t columns)
{
    const int64_t size = is_f32 ? 4 : 2;
    if (column == 1) {
        for (int64_t i = 0; i < rows; i++) {
            for (int64_t j = 0; j < ld; j += 32) {
                const int64_t n = columns - j;
                const __m512i v = n > 0 ? load_run(data + (i * row + j) * size, is_f32, n)
                                        : _mm512_setzero_si512();
                _mm512_storeu_si512(to + i * ld + j, v);
            }
        }
        return;
    }
    for (int64_t j = 0; j < ld; j += 32) {
        for (int64_t i = 0; i < rows; i += 16) {
            tsr_bf16 *square = to + i * ld + j;
            const char *from = data + (i + j * column) * size;
            if (rows - i < 16 || columns - j < 32) {
                pack_part_of_square(square, ld, from, column * size, is_f32, rows - i, columns - j);
            } else if (is_f32) {
                pack_whole_square_f32(square, ld, from, column * size);
            } else {
                pack_whole_square_bf16(square, ld, from, column * size);
            }
        }
    }
}

static void rows(void *to, int64_t ld, const void *data, int64_t row, int64_t column, bool is_f32,
                 int64_t n_rows, int64_t columns)
{
    if (is_f32) {
        pack_rows(to, ld, data, row, column, true, n_rows, columns);
    } else {
        pack_rows(to, ld, data, row, column, false, n_rows, columns);
    }
}

static inline __attribute__((always_inline)) void pack_panel(tsr_bf16 *to, const char *data,
                                                             int64_t row, int64_t column,
                                                             const bool is_f32, int64_t k,
                                                             int64_t n)
{
    enum {
        AHEAD = 64,  /* rows, a page and more each: the hardware sees no stream */
        FURTHER = 64 /* numbers in a column */
    };
    const int64_t size = is_f32 ? 4 : 2, depth = (k + DEPTH - 1) & -DEPTH;
    if (column == 1) {
        for (int64_t p = 0; p < depth; p += 2, to += 2 * TSR_PRODUCT_WIDTH) {
            for (int64_t j = 0; j < TSR_PRODUCT_WIDTH; j += 16) {
                const char *first = data + (p * row + j) * size, *second = first + row * size;
                __m512i v = _mm512_setzero_si512();
                __builtin_prefetch(first + AHEAD * row * size, 0, 2);
                __builtin_prefetch(second + AHEAD * row * size, 0, 2);
                if (p < k && j < n) {
                    v = load_pairs(first, p + 1 < k ? second : NULL, is_f32, n - j);
                }
                _mm512_store_si512(to + 2 * j, v);
            }
        }
        return;
    }
    for (int64_t j = 0; j < TSR_PRODUCT_WIDTH; j += 16) {
        for (int64_t p = 0; p < depth; p += 32) {
            const char *from = data + (p + j * column) * size;
            __m512i r[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++, from += column * size) {
                __builtin_prefetch(from + FURTHER * size, 0, 2);
                if (is_f32) __builtin_prefetch(from + FURTHER * size + 64, 0, 2);
                r[i] = j + i < n ? load_run(from, is_f32, k - p) : _mm512_setzero_si512();
            }
            transpose16(r);
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++) {
                _mm512_store_si512(to + p * TSR_PRODUCT_WIDTH + 2 * (i * TSR_PRODUCT_WIDTH + j),
                                   r[i]);
            }
        }
    }
}

static void panel(void *to, const void *data, int64_t row, int64_t column, bool is_f32, int64_t k,
                  int64_t n)
{
    if (is_f32) {
        pack_panel(to, data, row, column, true, k, n);
    } else {
        pack_panel(to, data, row, column, false, k, n);
    }
}

const tsr_packing tsr_packing__avx512bf16 = {.rows = rows, .panel = panel};

extern const tsr_product_kernel tsr_product_kernel__avx512bf16;
const tsr_product_kernel tsr_product_kernel__avx512bf16 = {.multiply = multiply,
                                                           .most_rows = TILE_ROWS,
                                                           .step = 2,
                                                           .dtype = TSR_DTYPE_BF16,
                                                           .packing = &tsr_packing__avx512bf16};
