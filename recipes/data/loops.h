/*
 * The hot loops over pixels, written once (loops.c) and compiled for each instruction set. They compute with integers, or
 * element by element with IEEE operations that are never contracted, so that every version gives the same bytes. The table
 * for this CPU is that of tsr_cpu__level(). Not installed.
 */
#ifndef TSR_RECIPES_DATA_LOOPS_H
#define TSR_RECIPES_DATA_LOOPS_H

#include "ops/kernels/cpu.h"

#include <stddef.h>
#include <stdint.h>

/* Weights of a resize, of 2^22. */
enum { TSR_WEIGHT_BITS = 32 - 8 - 2 };

/* Pixels go through the horizontal pass by columns of so many rows. */
enum { TSR_TILE_ROWS = 16, TSR_TILE_ROW = 3 * TSR_TILE_ROWS };

/* One output sample i reads count[i] input samples from first[i] on, with the weights from weights[i * taps] on. */
typedef struct tsr_axis {
    int taps;
    int *first, *count;
    int32_t *weights;
} tsr_axis;

/* Pixels are three bytes each, n of them. */
typedef struct tsr_image_loops {
    /* The rows of a tile [columns, TSR_TILE_ROW] into rows of out, which are out_row bytes apart. */
    void (*resize_across)(const uint8_t *tile, const tsr_axis *axis, int rows, int out_width,
                          uint8_t *out, size_t out_row);
    /* One output row of `bytes` bytes from count rows. */
    void (*resize_down)(const uint8_t *in, size_t bytes, const int32_t *weights, int count,
                        uint8_t *out);
    /* Starts the sums of a box: sums += row. */
    void (*box_add)(uint32_t *sums, const uint8_t *row, size_t bytes);
    /* out = (inner sums + outer (before + after)) / 2^24, rounded; then the box moves: sums += after - first. */
    void (*box_row)(uint32_t *sums, const uint8_t *before, const uint8_t *first,
                    const uint8_t *after, size_t bytes, uint32_t inner, uint32_t outer,
                    uint8_t *out);
    /* from + factor (byte - from), cut to a byte, of n bytes. */
    void (*blend)(uint8_t *bytes, size_t n, int from, float factor);
    /* The same from each pixel's own luma. */
    void (*saturation)(uint8_t *pixels, size_t n, float factor);
    uint64_t (*luma_sum)(const uint8_t *pixels, size_t n);
    /* Turns the hue by shift / 255 in Pillow's HSV of bytes. */
    void (*hue)(uint8_t *pixels, size_t n, int shift);
    /* out [3, n] = (byte / 255 - mean) / std */
    void (*normalize)(const uint8_t *pixels, size_t n, const float mean[3], const float std[3],
                      float *out);
} tsr_image_loops;

const tsr_image_loops *tsr_image_loops__get(void);
/* Those of one level; NULL where it was not built. For the loops' own test. */
const tsr_image_loops *tsr_image_loops__at(tsr_cpu level);

/* ITU-R 601-2 in 16-bit fixed point. */
static inline uint32_t tsr_luma(const uint8_t *p)
{
    return (19595u * p[0] + 38470u * p[1] + 7471u * p[2] + 0x8000u) >> 16;
}

#endif
