/*
 * AMX in C, after Intel's manual (volume 1, chapter 18; volume 2, LDTILECFG, TDPBF16PS, TILELOADD, TILESTORED): tiles are
 * state of a thread, as the CPU's are. What would fault on a CPU ends the test.
 */
#ifndef TSR_TESTS_OPS_AMX_EMULATED_H
#define TSR_TESTS_OPS_AMX_EMULATED_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AMX_TILES = 8, AMX_ROWS = 16, AMX_ROW_BYTES = 64 };

struct amx_tile {
    int rows, row_bytes;
    uint8_t data[AMX_ROWS][AMX_ROW_BYTES];
};

static _Thread_local struct amx_tile amx_tiles[AMX_TILES];
static _Thread_local int amx_configured;

static inline void amx_require(int condition, const char *what)
{
    if (condition) return;
    fprintf(stderr, "AMX would fault: %s\n", what);
    abort();
}

static inline struct amx_tile *amx_tile(int t)
{
    amx_require(amx_configured, "tiles are not configured");
    amx_require(t >= 0 && t < AMX_TILES, "no such tile");
    amx_require(amx_tiles[t].rows > 0 && amx_tiles[t].row_bytes > 0, "a tile of no size");
    return &amx_tiles[t];
}

static inline void _tile_release(void)
{
    memset(amx_tiles, 0, sizeof amx_tiles);
    amx_configured = 0;
}

static inline void _tile_loadconfig(const void *memory)
{
    const uint8_t *m = memory;
    amx_require(m[0] == 1, "a palette other than 1");
    for (int i = 1; i < 16; i++) amx_require(m[i] == 0, "a reserved byte, or a start row");
    _tile_release();
    for (int t = 0; t < 16; t++) {
        int row_bytes = m[16 + 2 * t] | m[17 + 2 * t] << 8, rows = m[48 + t];
        amx_require((rows == 0) == (row_bytes == 0), "a tile with one size of 0");
        amx_require(rows <= AMX_ROWS && row_bytes <= AMX_ROW_BYTES, "a tile too large");
        amx_require(t < AMX_TILES || rows == 0, "a ninth tile");
        if (t >= AMX_TILES) continue;
        amx_tiles[t].rows = rows;
        amx_tiles[t].row_bytes = row_bytes;
    }
    amx_configured = 1;
}

static inline void _tile_zero(int t)
{
    memset(amx_tile(t)->data, 0, sizeof amx_tiles[t].data);
}

static inline void _tile_loadd(int t, const void *base, size_t stride)
{
    struct amx_tile *tile = amx_tile(t);
    memset(tile->data, 0, sizeof tile->data);
    for (int i = 0; i < tile->rows; i++) {
        memcpy(tile->data[i], (const char *)base + (size_t)i * stride, (size_t)tile->row_bytes);
    }
}

static inline void _tile_stream_loadd(int t, const void *base, size_t stride)
{
    _tile_loadd(t, base, stride);
}

static inline void _tile_stored(int t, void *base, size_t stride)
{
    const struct amx_tile *tile = amx_tile(t);
    for (int i = 0; i < tile->rows; i++) {
        memcpy((char *)base + (size_t)i * stride, tile->data[i], (size_t)tile->row_bytes);
    }
}

/* A bf16 as f32; a subnormal counts as 0. */
static inline float amx_bf16(const uint8_t *at)
{
    uint32_t bits = (uint32_t)(at[0] | at[1] << 8) << 16;
    float x;
    if ((bits & 0x7f800000u) == 0) bits &= 0x80000000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* For each row of a and column of b the products of first and of second elements are summed apart, then together, then onto
 * the tile. A product of two bf16 is exact in f32, so that it and a sum round as the CPU's fused ones. */
static inline void _tile_dpbf16ps(int to, int a, int b)
{
    struct amx_tile *c = amx_tile(to);
    const struct amx_tile *x = amx_tile(a), *y = amx_tile(b);
    amx_require(to != a && to != b && a != b, "the same tile twice");
    amx_require(x->rows == c->rows, "rows of the sums and of A differ");
    amx_require(y->row_bytes == c->row_bytes, "columns of the sums and of B differ");
    amx_require(y->rows * 4 == x->row_bytes, "depths of A and B differ");
    for (int m = 0; m < c->rows; m++) {
        for (int n = 0; n < c->row_bytes / 4; n++) {
            float first = 0.0f, second = 0.0f, sum;
            for (int k = 0; k < y->rows; k++) {
                first += amx_bf16(&x->data[m][4 * k]) * amx_bf16(&y->data[k][4 * n]);
                second += amx_bf16(&x->data[m][4 * k + 2]) * amx_bf16(&y->data[k][4 * n + 2]);
            }
            memcpy(&sum, &c->data[m][4 * n], sizeof sum);
            sum += first + second;
            memcpy(&c->data[m][4 * n], &sum, sizeof sum);
        }
    }
}

#endif
