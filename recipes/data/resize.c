/*
 * Crop and resize as Pillow does it on bytes. Output sample i of an axis is the weighted mean of
 * the input samples around its centre (i + 0.5) * scale; when shrinking, the filter is stretched by
 * the scale, which is the antialiasing. Weights are rounded to 22-bit fixed point, and the picture
 * is rounded to bytes between the horizontal and the vertical pass.
 */
#include "recipes/data/data.h"
#include "recipes/data/loops.h"

#include <math.h>
#include <string.h>

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static double sinc(double x)
{
    if (x == 0.0) return 1.0;
    x *= M_PI;
    return sin(x) / x;
}

static double lanczos(double x)
{
    return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
}

/* By tsr_resample; support: where the filter ends. */
static const struct {
    double (*filter)(double);
    double support;
} filters[] = {{bicubic, 2.0}, {bilinear, 1.0}, {lanczos, 3.0}};

static size_t axis_bytes(int taps, int out)
{
    return (size_t)out * (2 * sizeof(int) + (size_t)taps * sizeof(int32_t)) +
           (size_t)taps * sizeof(double);
}

static int axis_taps(int in, int out, tsr_resample interpolation)
{
    double scale = (double)in / out, stretch = scale < 1.0 ? 1.0 : scale;
    double support = filters[interpolation].support * stretch;
    return (int)ceil(support) * 2 + 1;
}

/* storage: axis_bytes() */
static tsr_axis axis_make(int in, int out, tsr_resample interpolation, void *storage)
{
    double (*filter)(double) = filters[interpolation].filter;
    double scale = (double)in / out, stretch = scale < 1.0 ? 1.0 : scale;
    double support = filters[interpolation].support * stretch;
    tsr_axis axis = {.taps = axis_taps(in, out, interpolation)};
    double *real = storage;
    axis.first = (int *)(void *)(real + axis.taps);
    axis.count = axis.first + out;
    axis.weights = (int32_t *)(axis.count + out);
    for (int i = 0; i < out; i++) {
        double centre = (i + 0.5) * scale, sum = 0.0;
        int first = (int)(centre - support + 0.5), end = (int)(centre + support + 0.5);
        if (first < 0) first = 0;
        if (end > in) end = in;
        for (int k = 0; k < end - first; k++) {
            real[k] = filter((k + first - centre + 0.5) * (1.0 / stretch));
            sum += real[k];
        }
        int32_t *weights = axis.weights + (size_t)i * (size_t)axis.taps;
        for (int k = 0; k < end - first; k++) {
            double w = (sum != 0.0 ? real[k] / sum : real[k]) * (1 << TSR_WEIGHT_BITS);
            weights[k] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
        }
        axis.first[i] = first;
        axis.count[i] = end - first;
    }
    return axis;
}

/* Turns up to TSR_TILE_ROWS rows of `width` pixels into tile [width, TSR_TILE_ROWS, 3], so that the sums over
 * neighbours in a row run along contiguous bytes of all rows. */
static void fill_tile(const uint8_t *restrict in, size_t in_row, int rows, int width,
                      uint8_t *restrict tile)
{
    for (int x = 0; x < width; x++) {
        const uint8_t *p = in + (size_t)x * 3;
        uint8_t *q = tile + (size_t)x * TSR_TILE_ROW;
        for (int y = 0; y < rows; y++, p += in_row, q += 3) {
            q[0] = p[0];
            q[1] = p[1];
            q[2] = p[2];
        }
    }
}

tsr_status tsr_image_resized_crop(const tsr_image *src, tsr_box box, int height, int width,
                                  tsr_resample interpolation, tsr_image *out)
{
    if (box.top < 0 || box.left < 0 || box.height < 1 || box.width < 1 ||
        box.height > src->height - box.top || box.width > src->width - box.left) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "resized_crop: box %d x %d at (%d, %d) does not lie in the image, %d x %d",
                        box.width, box.height, box.left, box.top, src->width, src->height);
    }
    tsr_status status = tsr_image_resize_storage(out, height, width);
    if (status != TSR_STATUS_OK) return status;
    out->grey = src->grey;
    size_t x_bytes = axis_bytes(axis_taps(box.width, width, interpolation), width);
    size_t y_bytes = axis_bytes(axis_taps(box.height, height, interpolation), height);
    x_bytes = (x_bytes + 63) & ~(size_t)63;
    y_bytes = (y_bytes + 63) & ~(size_t)63;
    size_t row = (size_t)width * 3;
    size_t tile_bytes = (size_t)box.width * TSR_TILE_ROW, in_row = (size_t)src->width * 3;
    char *storage = tsr_alloc(x_bytes + y_bytes + tile_bytes + row * (size_t)box.height);
    if (storage == NULL) return tsr_status_get();
    tsr_axis x_axis = axis_make(box.width, width, interpolation, storage);
    tsr_axis y_axis = axis_make(box.height, height, interpolation, storage + x_bytes);
    uint8_t *tile = (uint8_t *)storage + x_bytes + y_bytes, *between = tile + tile_bytes;

    const tsr_image_loops *loops = tsr_image_loops__get();
    const uint8_t *in = src->pixels + (size_t)box.top * in_row + (size_t)box.left * 3;
    memset(tile, 0, tile_bytes); /* rows that the last tile does not have */
    for (int y = 0; y < box.height; y += TSR_TILE_ROWS) {
        int rows = box.height - y < TSR_TILE_ROWS ? box.height - y : TSR_TILE_ROWS;
        fill_tile(in + (size_t)y * in_row, in_row, rows, box.width, tile);
        loops->resize_across(tile, &x_axis, rows, width, between + (size_t)y * row, row);
    }
    for (int y = 0; y < height; y++) {
        loops->resize_down(between + (size_t)y_axis.first[y] * row, row,
                           y_axis.weights + (size_t)y * (size_t)y_axis.taps, y_axis.count[y],
                           out->pixels + (size_t)y * row);
    }
    tsr_free(storage);
    return TSR_STATUS_OK;
}

tsr_status tsr_image_resize_short(const tsr_image *src, int size, tsr_resample interpolation,
                                  tsr_image *out)
{
    int64_t h = size, w = size;
    if (src->height > src->width) h = (int64_t)size * src->height / src->width;
    if (src->width > src->height) w = (int64_t)size * src->width / src->height;
    if (size < 1 || h > TSR_IMAGE_MAX_SIDE || w > TSR_IMAGE_MAX_SIDE) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "resize_short: %d x %d with short side %d", src->width,
                        src->height, size);
    }
    tsr_box whole = {0, 0, src->height, src->width};
    return tsr_image_resized_crop(src, whole, (int)h, (int)w, interpolation, out);
}
