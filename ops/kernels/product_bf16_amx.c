/*
 * The inner product of bf16 numbers with AMX: 32 x 32 sums in four tiles, two tiles of A, two of B.
 * tdpbf16ps multiplies a tile of A, 16 rows of 32 elements, by a tile of B, 16 pairs of k for 16
 * columns, and adds to a tile of 16 x 16 sums.
 *
 * Tiles are configured at each entry and released at the end: another library in this process may
 * have left others. B is loaded past the first cache (tileloaddt1), which is left to A.
 *
 * The kernel's test compiles this file once more with TSR_AMX_EMULATED, the header of a C model of
 * these instructions, for CPUs that do not have them.
 */
#include "ops/kernels/product.h"

#include <string.h>

#if defined(TSR_AMX_EMULATED)
#include TSR_AMX_EMULATED
#else
#include <immintrin.h>
#endif

enum { TILE = 16, DEPTH = 2 * TILE, ROW_BYTES = 64, PALETTE = 1 };

/* Tiles: 0 to 3 the sums, upper left, upper right, lower left, lower right; 4 and 5 A; 6 and 7 B.
 * gcc makes register names of these, so that they are no enum. */
#define UPPER 4
#define LOWER 5
#define LEFT  6
#define RIGHT 7
enum { TILES = 8 };

/* What ldtilecfg reads. */
struct configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

_Static_assert(sizeof(struct configuration) == 64, "the format of ldtilecfg");

/* For this many rows of A in the upper and the lower half. */
static void configure(int upper, int lower)
{
    struct configuration c = {.palette = PALETTE};
    for (int i = 0; i < TILES; i++) c.row_bytes[i] = ROW_BYTES;
    c.rows[0] = c.rows[1] = c.rows[UPPER] = (uint8_t)upper;
    c.rows[2] = c.rows[3] = c.rows[LOWER] = (uint8_t)lower;
    c.rows[LEFT] = c.rows[RIGHT] = TILE;
    /* gcc's intrinsic names the first bytes alone as what is read. */
    __asm__ volatile("" : : "r"(&c) : "memory");
    _tile_loadconfig(&c);
}

static void begin(void)
{
    configure(TILE, TILE);
}

static void end(void)
{
    _tile_release();
}

static void multiply_32(float *out, const tsr_bf16 *a, int64_t lda, const tsr_bf16 *b, int64_t k)
{
    const size_t of_a = (size_t)lda * sizeof *a, of_b = TSR_PRODUCT_WIDTH * 2 * sizeof *b;
    const size_t of_out = TSR_PRODUCT_WIDTH * sizeof *out;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t p = 0; p < k; p += DEPTH, b += DEPTH * TSR_PRODUCT_WIDTH) {
        _tile_stream_loadd(LEFT, b, of_b);
        _tile_stream_loadd(RIGHT, b + 2 * TILE, of_b);
        _tile_loadd(UPPER, a + p, of_a);
        _tile_dpbf16ps(0, UPPER, LEFT);
        _tile_dpbf16ps(1, UPPER, RIGHT);
        _tile_loadd(LOWER, a + TILE * lda + p, of_a);
        _tile_dpbf16ps(2, LOWER, LEFT);
        _tile_dpbf16ps(3, LOWER, RIGHT);
    }
    _tile_stored(0, out, of_out);
    _tile_stored(1, out + TILE, of_out);
    _tile_stored(2, out + TILE * TSR_PRODUCT_WIDTH, of_out);
    _tile_stored(3, out + TILE * TSR_PRODUCT_WIDTH + TILE, of_out);
}

static void multiply_16(float *out, const tsr_bf16 *a, int64_t lda, const tsr_bf16 *b, int64_t k)
{
    const size_t of_a = (size_t)lda * sizeof *a, of_b = TSR_PRODUCT_WIDTH * 2 * sizeof *b;
    const size_t of_out = TSR_PRODUCT_WIDTH * sizeof *out;
    _tile_zero(0);
    _tile_zero(1);
    for (int64_t p = 0; p < k; p += DEPTH, b += DEPTH * TSR_PRODUCT_WIDTH) {
        _tile_stream_loadd(LEFT, b, of_b);
        _tile_stream_loadd(RIGHT, b + 2 * TILE, of_b);
        _tile_loadd(UPPER, a + p, of_a);
        _tile_dpbf16ps(0, UPPER, LEFT);
        _tile_dpbf16ps(1, UPPER, RIGHT);
    }
    _tile_stored(0, out, of_out);
    _tile_stored(1, out + TILE, of_out);
}

static void multiply(const tsr_product_store *s, const void *a, int64_t lda, int64_t rows,
                     const void *b, int64_t k, int64_t n, const void *next)
{
    (void)next;
    _Alignas(64) float out[2 * TILE * TSR_PRODUCT_WIDTH];
    const int upper = rows < TILE ? (int)rows : TILE, lower = (int)rows - upper;
    const bool whole = rows == 2 * TILE;
    /* A tile of no rows is none: with 16 rows or fewer the lower ones stay as they are, unused. */
    if (!whole) configure(upper, lower > 0 ? lower : TILE);
    if (lower > 0) {
        multiply_32(out, a, lda, b, k);
    } else {
        multiply_16(out, a, lda, b, k);
    }
    if (!whole) begin();
    tsr_product__store_avx512bf16(s, out, rows, n);
}

extern const tsr_product_kernel TSR_PRODUCT;
const tsr_product_kernel TSR_PRODUCT = {.begin = begin,
                                        .end = end,
                                        .multiply = multiply,
                                        .most_rows = 2 * TILE,
                                        .step = DEPTH,
                                        .dtype = TSR_DTYPE_BF16,
                                        .packing = &tsr_packing__avx512bf16};
