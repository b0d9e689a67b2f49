/* Compiled once for each instruction set; TSR_LOOPS is the name of the table. */
#include "recipes/data/loops.h"

/* ---- resize ---- */

static inline uint8_t weighted_byte(int32_t x)
{
    x >>= TSR_WEIGHT_BITS;
    return (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x);
}

static void resize_across(const uint8_t *restrict tile, const tsr_axis *axis, int rows,
                          int out_width, uint8_t *restrict out, size_t out_row)
{
    for (int x = 0; x < out_width; x++) {
        const uint8_t *p = tile + (size_t)axis->first[x] * TSR_TILE_ROW;
        const int32_t *w = axis->weights + (size_t)x * (size_t)axis->taps;
        int32_t sum[TSR_TILE_ROW];
        uint8_t bytes[TSR_TILE_ROW];
        for (int i = 0; i < TSR_TILE_ROW; i++) sum[i] = 1 << (TSR_WEIGHT_BITS - 1);
        for (int k = 0; k < axis->count[x]; k++, p += TSR_TILE_ROW) {
            int32_t weight = w[k];
            for (int i = 0; i < TSR_TILE_ROW; i++) sum[i] += weight * p[i];
        }
        for (int i = 0; i < TSR_TILE_ROW; i++) bytes[i] = weighted_byte(sum[i]);
        uint8_t *q = out + (size_t)x * 3;
        for (int y = 0; y < rows; y++, q += out_row) {
            q[0] = bytes[3 * y];
            q[1] = bytes[3 * y + 1];
            q[2] = bytes[3 * y + 2];
        }
    }
}

/* A strip at a time, so that the sums stay in registers or the nearest cache. */
static void resize_down(const uint8_t *restrict in, size_t bytes, const int32_t *restrict w,
                        int count, uint8_t *restrict out)
{
    enum { STRIP = 64 };
    size_t at = 0;
    for (; at + STRIP <= bytes; at += STRIP) {
        int32_t sum[STRIP];
        for (int i = 0; i < STRIP; i++) sum[i] = 1 << (TSR_WEIGHT_BITS - 1);
        for (int k = 0; k < count; k++) {
            const uint8_t *row = in + (size_t)k * bytes + at;
            int32_t weight = w[k];
            for (int i = 0; i < STRIP; i++) sum[i] += weight * row[i];
        }
        for (int i = 0; i < STRIP; i++) out[at + (size_t)i] = weighted_byte(sum[i]);
    }
    for (; at < bytes; at++) {
        int32_t sum = 1 << (TSR_WEIGHT_BITS - 1);
        for (int k = 0; k < count; k++) sum += w[k] * in[(size_t)k * bytes + at];
        out[at] = weighted_byte(sum);
    }
}

/* ---- blur ---- */

static void box_add(uint32_t *restrict sums, const uint8_t *restrict row, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) sums[i] += row[i];
}

static void box_row(uint32_t *restrict sums, const uint8_t *restrict before,
                    const uint8_t *restrict first, const uint8_t *restrict after, size_t bytes,
                    uint32_t inner, uint32_t outer, uint8_t *restrict out)
{
    for (size_t i = 0; i < bytes; i++) {
        uint32_t edges = (uint32_t)before[i] + after[i];
        out[i] = (uint8_t)((sums[i] * inner + edges * outer + (1u << 23)) >> 24);
        sums[i] += (uint32_t)after[i] - first[i];
    }
}

/* ---- colours ---- */

/* from + factor * (to - from) in floats, cut to a byte towards zero. */
static inline uint8_t blended(int from, int to, float factor)
{
    float x = (float)from + factor * (float)(to - from);
    x = x > 0.0f ? x : 0.0f;
    x = x < 255.0f ? x : 255.0f;
    return (uint8_t)(int)x;
}

static void blend(uint8_t *restrict bytes, size_t n, int from, float factor)
{
    for (size_t i = 0; i < n; i++) bytes[i] = blended(from, bytes[i], factor);
}

enum { BLOCK = 64 };

/* A block of pixels by channels, and back. */
typedef struct planes {
    uint8_t c[3][BLOCK];
} planes;

static inline void take(const uint8_t *restrict p, planes *restrict b)
{
    for (int i = 0; i < BLOCK; i++) {
        b->c[0][i] = p[3 * i];
        b->c[1][i] = p[3 * i + 1];
        b->c[2][i] = p[3 * i + 2];
    }
}

static inline void give(const planes *restrict b, uint8_t *restrict p)
{
    for (int i = 0; i < BLOCK; i++) {
        p[3 * i] = b->c[0][i];
        p[3 * i + 1] = b->c[1][i];
        p[3 * i + 2] = b->c[2][i];
    }
}

/* f over blocks; what is left over goes through a block of its own. */
#define BY_BLOCKS(pixels, n, f)                                                                    \
    do {                                                                                           \
        planes b = {0};                                                                            \
        uint8_t *p = (pixels);                                                                     \
        size_t left = (n);                                                                         \
        for (; left >= BLOCK; left -= BLOCK, p += 3 * BLOCK) {                                     \
            take(p, &b);                                                                           \
            f;                                                                                     \
            give(&b, p);                                                                           \
        }                                                                                          \
        if (left > 0) {                                                                            \
            uint8_t rest[3 * BLOCK] = {0};                                                         \
            for (size_t i = 0; i < 3 * left; i++) rest[i] = p[i];                                  \
            take(rest, &b);                                                                        \
            f;                                                                                     \
            give(&b, rest);                                                                        \
            for (size_t i = 0; i < 3 * left; i++) p[i] = rest[i];                                  \
        }                                                                                          \
    } while (0)

static inline void block_saturation(planes *restrict b, float factor)
{
    for (int i = 0; i < BLOCK; i++) {
        uint32_t luma = 19595u * b->c[0][i] + 38470u * b->c[1][i] + 7471u * b->c[2][i];
        int grey = (int)((luma + 0x8000u) >> 16);
        b->c[0][i] = blended(grey, b->c[0][i], factor);
        b->c[1][i] = blended(grey, b->c[1][i], factor);
        b->c[2][i] = blended(grey, b->c[2][i], factor);
    }
}

static void saturation(uint8_t *pixels, size_t n, float factor)
{
    BY_BLOCKS(pixels, n, block_saturation(&b, factor));
}

static uint64_t luma_sum(const uint8_t *restrict p, size_t n)
{
    enum { PART = 1 << 20 }; /* whose sum fits 32 bits */
    uint64_t sum = 0;
    for (size_t at = 0; at < n; at += PART) {
        size_t end = n - at < PART ? n : at + PART;
        uint32_t part = 0;
        for (size_t i = at; i < end; i++) part += tsr_luma(p + 3 * i);
        sum += part;
    }
    return sum;
}

/*
 * Through HSV with a byte for each part, rounded as Pillow does: h = (sector + difference) / 6 turns, s = (max - min) / max,
 * v = max. Grey has s = 0, which gives v in all channels whatever h is.
 */
static inline void block_hue(planes *restrict b, int shift)
{
    float sixths[BLOCK], share[BLOCK];
    int32_t hue[BLOCK], P[BLOCK], Q[BLOCK], T[BLOCK], sector[BLOCK];
    double fs[BLOCK];
    uint8_t V[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
        int32_t r = b->c[0][i], g = b->c[1][i], bl = b->c[2][i];
        int32_t max = r > g ? r : g, min = r < g ? r : g;
        max = bl > max ? bl : max;
        min = bl < min ? bl : min;
        float chroma = (float)(max - min), over = max > min ? chroma : 1.0f;
        float rc = (float)(max - r) / over, gc = (float)(max - g) / over;
        float bc = (float)(max - bl) / over;
        float green = (float)(2.0 + (double)rc - (double)bc);
        float blue = (float)(4.0 + (double)gc - (double)rc);
        sixths[i] = r == max ? bc - gc : g == max ? green : blue;
        share[i] = chroma / (float)(max > 0 ? max : 1);
        V[i] = (uint8_t)max;
    }
    for (int i = 0; i < BLOCK; i++) {
        double turns = (double)sixths[i] / 6.0 + 1.0; /* 5/6 .. 11/6 */
        float h = (float)(turns >= 1.0 ? turns - 1.0 : turns);
        hue[i] = ((int32_t)((double)h * 255.0) + shift) & 255;
        int32_t s = (int32_t)((double)share[i] * 255.0);
        fs[i] = (double)(float)((double)s / 255.0);
    }
    for (int i = 0; i < BLOCK; i++) {
        double x = (double)hue[i] * 6.0 / 255.0, v = V[i];
        int32_t whole = (int32_t)x;
        double f = (double)(float)(x - (double)whole);
        sector[i] = whole;
        P[i] = (int32_t)(v * (1.0 - fs[i]) + 0.5);
        Q[i] = (int32_t)(v * (1.0 - fs[i] * f) + 0.5);
        T[i] = (int32_t)(v * (1.0 - fs[i] * (1.0 - f)) + 0.5);
    }
    for (int i = 0; i < BLOCK; i++) {
        int32_t s = sector[i] == 6 ? 0 : sector[i], v = V[i], p = P[i], q = Q[i], t = T[i];
        int32_t r = s == 1 ? q : s == 4 ? t : p, g = s == 0 ? t : s == 3 ? q : p;
        int32_t bl = s == 2 ? t : s == 5 ? q : p;
        b->c[0][i] = (uint8_t)(s == 0 || s == 5 ? v : r);
        b->c[1][i] = (uint8_t)(s == 1 || s == 2 ? v : g);
        b->c[2][i] = (uint8_t)(s == 3 || s == 4 ? v : bl);
    }
}

static void hue(uint8_t *pixels, size_t n, int shift)
{
    BY_BLOCKS(pixels, n, block_hue(&b, shift));
}

static void normalize(const uint8_t *restrict p, size_t n, const float mean[3], const float std[3],
                      float *restrict out)
{
    for (int c = 0; c < 3; c++) {
        float m = mean[c], s = std[c];
        for (size_t i = 0; i < n; i++) out[i] = ((float)p[3 * i + (size_t)c] / 255.0f - m) / s;
        out += n;
    }
}

extern const tsr_image_loops TSR_LOOPS;
const tsr_image_loops TSR_LOOPS = {
    .resize_across = resize_across,
    .resize_down = resize_down,
    .box_add = box_add,
    .box_row = box_row,
    .blend = blend,
    .saturation = saturation,
    .luma_sum = luma_sum,
    .hue = hue,
    .normalize = normalize,
};
