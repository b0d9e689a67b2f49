/*
 * Gaussian blur by three extended box blurs in each direction: P. Gwosdek, S. Grewenig, A. Bruhn,
 * J. Weickert, "Theoretical foundations of Gaussian convolution by extended box filtering", SSVM
 * 2011. An extended box of radius r + a (r whole, 0 <= a < 1) weighs the 2r + 1 middle samples with
 * w and the two next to them with f, 2f + (2r + 1) w = 1; here in 24-bit fixed point, rounded to
 * bytes after each box, the edge sample repeated outside, as Pillow does.
 */
#include "recipes/data/data.h"
#include "recipes/data/loops.h"

#include <math.h>
#include <string.h>

enum { BOXES = 3 };

/* The paper's equations 7, 11 and 14, in floats. */
static float box_radius(float sigma)
{
    float variance = sigma * sigma / BOXES;
    float length = (float)sqrt(12.0 * (double)variance + 1.0);
    float whole = (float)floor(((double)length - 1.0) / 2.0);
    float part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance);
    part /= 6 * (variance - (whole + 1) * (whole + 1));
    return whole + part;
}

struct box {
    int radius;
    uint32_t inner, outer; /* weights, of 2^24 */
};

static int clamp(int64_t i, int n)
{
    return i < 0 ? 0 : i >= n ? n - 1 : (int)i;
}

/* Blurs down the columns of in [rows, bytes] into out; sums u32 [bytes]. */
static void box_down(const uint8_t *restrict in, int rows, size_t bytes, struct box box,
                     uint32_t *restrict sums, uint8_t *restrict out)
{
    const tsr_image_loops *loops = tsr_image_loops__get();
    memset(sums, 0, bytes * sizeof *sums);
    for (int k = -box.radius; k <= box.radius; k++) {
        const uint8_t *row = in + (size_t)clamp(k, rows) * bytes;
        loops->box_add(sums, row, bytes);
    }
    for (int y = 0; y < rows; y++) {
        const uint8_t *before = in + (size_t)clamp((int64_t)y - box.radius - 1, rows) * bytes;
        const uint8_t *first = in + (size_t)clamp((int64_t)y - box.radius, rows) * bytes;
        const uint8_t *after = in + (size_t)clamp((int64_t)y + box.radius + 1, rows) * bytes;
        loops->box_row(sums, before, first, after, bytes, box.inner, box.outer,
                       out + (size_t)y * bytes);
    }
}

/* out[x][y] = in[y][x], pixels of three bytes. */
static void transpose(const uint8_t *restrict in, int rows, int columns, uint8_t *restrict out)
{
    enum { TILE = 16 };
    for (int y0 = 0; y0 < rows; y0 += TILE) {
        int y1 = y0 + TILE < rows ? y0 + TILE : rows;
        for (int x = 0; x < columns; x++) {
            const uint8_t *p = in + ((size_t)y0 * (size_t)columns + (size_t)x) * 3;
            uint8_t *q = out + ((size_t)x * (size_t)rows + (size_t)y0) * 3;
            for (int y = y0; y < y1; y++, p += (size_t)columns * 3, q += 3) {
                q[0] = p[0];
                q[1] = p[1];
                q[2] = p[2];
            }
        }
    }
}

tsr_status tsr_image_gaussian_blur(tsr_image *image, double sigma)
{
    if (!(sigma >= 0.0 && sigma <= 10000.0)) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "gaussian_blur: sigma is %g, expected 0 to 10000",
                        sigma);
    }
    float radius = box_radius((float)sigma);
    struct box box = {.radius = (int)radius};
    box.inner = (uint32_t)((float)(1 << 24) / (radius * 2 + 1));
    box.outer = ((1u << 24) - (uint32_t)(box.radius * 2 + 1) * box.inner) / 2;

    int rows = image->height, columns = image->width;
    size_t down = (size_t)columns * 3, across = (size_t)rows * 3;
    size_t bytes = (size_t)rows * down, padded = (bytes + 63) & ~(size_t)63;
    size_t longest = down > across ? down : across;
    uint8_t *a = tsr_alloc(2 * padded + longest * sizeof(uint32_t));
    if (a == NULL) return tsr_status_get();
    uint8_t *b = a + padded;
    uint32_t *sums = (uint32_t *)(void *)(b + padded);

    /* Across the rows first: that is down the columns of the transposed picture. */
    transpose(image->pixels, rows, columns, a);
    box_down(a, columns, across, box, sums, b);
    box_down(b, columns, across, box, sums, a);
    box_down(a, columns, across, box, sums, b);
    transpose(b, columns, rows, a);
    box_down(a, rows, down, box, sums, b);
    box_down(b, rows, down, box, sums, a);
    box_down(a, rows, down, box, sums, image->pixels);
    tsr_free(a);
    return TSR_STATUS_OK;
}
