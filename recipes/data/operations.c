/* The operations of RandAugment that colour jitter does not have, as Pillow does them on bytes. */
#include "recipes/data/data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t image_bytes(const tsr_image *image)
{
    return (size_t)image->height * (size_t)image->width * 3;
}

/* ---- bytes by a table ---- */

static void look_up(tsr_image *image, uint8_t table[3][256])
{
    uint8_t *p = image->pixels, *end = p + image_bytes(image);
    for (; p < end; p += 3) {
        for (int c = 0; c < 3; c++) p[c] = table[c][p[c]];
    }
}

static void look_up_all(tsr_image *image, const uint8_t table[256])
{
    uint8_t *p = image->pixels;
    size_t n = image_bytes(image);
    for (size_t i = 0; i < n; i++) p[i] = table[p[i]];
}

static void count_bytes(const tsr_image *image, int64_t count[3][256])
{
    memset(count, 0, 3 * 256 * sizeof count[0][0]);
    const uint8_t *p = image->pixels, *end = p + image_bytes(image);
    for (; p < end; p += 3) {
        for (int c = 0; c < 3; c++) count[c][p[c]]++;
    }
}

static void identity(uint8_t table[256])
{
    for (int v = 0; v < 256; v++) table[v] = (uint8_t)v;
}

void tsr_image_autocontrast(tsr_image *image)
{
    int64_t count[3][256];
    uint8_t table[3][256];
    count_bytes(image, count);
    for (int c = 0; c < 3; c++) {
        int lo = 0, hi = 255;
        while (lo < 255 && count[c][lo] == 0) lo++;
        while (hi > 0 && count[c][hi] == 0) hi--;
        identity(table[c]);
        if (hi <= lo) continue;
        double scale = 255.0 / (hi - lo), offset = -lo * scale;
        for (int v = 0; v < 256; v++) {
            double x = v * scale + offset;
            table[c][v] = (uint8_t)(x < 0.0 ? 0.0 : x > 255.0 ? 255.0 : x);
        }
    }
    look_up(image, table);
}

void tsr_image_equalize(tsr_image *image)
{
    int64_t count[3][256];
    uint8_t table[3][256];
    count_bytes(image, count);
    for (int c = 0; c < 3; c++) {
        int64_t all = (int64_t)image->height * image->width, last = 0;
        for (int v = 0; v < 256; v++) last = count[c][v] != 0 ? count[c][v] : last;
        int64_t step = (all - last) / 255;
        identity(table[c]);
        if (step == 0) continue; /* also where there is one value only */
        int64_t n = step / 2;
        for (int v = 0; v < 256; v++) {
            table[c][v] = (uint8_t)(n / step > 255 ? 255 : n / step);
            n += count[c][v];
        }
    }
    look_up(image, table);
}

void tsr_image_posterize(tsr_image *image, int bits)
{
    uint8_t table[256], mask = (uint8_t)(bits > 0 ? 0xff00 >> (bits < 8 ? bits : 8) : 0);
    for (int v = 0; v < 256; v++) table[v] = (uint8_t)v & mask;
    look_up_all(image, table);
}

void tsr_image_solarize_add(tsr_image *image, int add, int threshold)
{
    uint8_t table[256];
    for (int v = 0; v < 256; v++) {
        int x = v < threshold ? v + add : v;
        table[v] = (uint8_t)(x > 255 ? 255 : x < 0 ? 0 : x);
    }
    look_up_all(image, table);
}

/* ---- neighbours ---- */

/* The smooth version has weights 1, and 5 in the middle, of 13; the border stays as it is. */
static void smooth(const tsr_image *image, uint8_t *out)
{
    int64_t row = 3 * (int64_t)image->width;
    memcpy(out, image->pixels, image_bytes(image));
    for (int y = 1; y < image->height - 1; y++) {
        const uint8_t *p = image->pixels + y * row;
        for (int64_t i = 3; i < row - 3; i++) {
            int sum = 4 * p[i];
            for (int64_t r = -row; r <= row; r += row) {
                sum += p[i + r - 3] + p[i + r] + p[i + r + 3];
            }
            out[y * row + i] = (uint8_t)((2 * sum + 13) / 26);
        }
    }
}

tsr_status tsr_image_sharpness(tsr_image *image, double factor)
{
    uint8_t *soft = tsr_alloc(image_bytes(image));
    if (soft == NULL) return tsr_status_get();
    smooth(image, soft);
    float f = (float)factor;
    uint8_t *p = image->pixels;
    for (size_t i = 0; i < image_bytes(image); i++) {
        float x = (float)soft[i] + f * (float)(p[i] - soft[i]);
        p[i] = (uint8_t)(x <= 0.0f ? 0.0f : x >= 255.0f ? 255.0f : x);
    }
    tsr_free(soft);
    return TSR_STATUS_OK;
}

/* ---- affine maps ---- */

/* The cubic through v[1] and v[2] with a = -1, at d of the way. */
static double cubic(double v0, double v1, double v2, double v3, double d)
{
    double p2 = -v0 + v2, p3 = 2.0 * (v0 - v1) + v2 - v3, p4 = -v0 + v1 - v2 + v3;
    return v1 + d * (p2 + d * (p3 + d * p4));
}

static int clip(int x, int n)
{
    return x < 0 ? 0 : x < n ? x : n - 1;
}

/* The pixel at (x, y), whole numbers being corners; false outside. Rows below the picture repeat. */
static bool sample(const tsr_image *image, double x, double y, uint8_t out[3])
{
    int w = image->width, h = image->height;
    if (!(x >= 0.0 && x < w && y >= 0.0 && y < h)) return false;
    x -= 0.5, y -= 0.5;
    int x0 = (int)floor(x), y0 = (int)floor(y);
    double dx = x - x0, dy = y - y0;
    size_t column[4];
    for (int k = 0; k < 4; k++) column[k] = 3 * (size_t)clip(x0 - 1 + k, w);
    for (int c = 0; c < 3; c++) {
        double v[4];
        for (int k = 0; k < 4; k++) {
            const uint8_t *p =
                image->pixels + 3 * (size_t)clip(y0 - 1 + k, h) * (size_t)w + (size_t)c;
            v[k] = cubic(p[column[0]], p[column[1]], p[column[2]], p[column[3]], dx);
        }
        double value = cubic(v[0], v[1], v[2], v[3], dy);
        out[c] = (uint8_t)(value <= 0.0 ? 0.0 : value >= 255.0 ? 255.0 : value);
    }
    return true;
}

tsr_status tsr_image_affine(tsr_image *image, const double map[6], const uint8_t fill[3])
{
    tsr_image from = {0};
    if (tsr_image_copy(image, &from) != TSR_STATUS_OK) return tsr_status_get();
    for (int y = 0; y < image->height; y++) {
        uint8_t *p = image->pixels + 3 * (size_t)y * (size_t)image->width;
        for (int x = 0; x < image->width; x++, p += 3) {
            double u = x + 0.5, v = y + 0.5;
            double sx = map[0] * u + map[1] * v + map[2], sy = map[3] * u + map[4] * v + map[5];
            if (!sample(&from, sx, sy, p)) memcpy(p, fill, 3);
        }
    }
    image->grey = image->grey && fill[0] == fill[1] && fill[1] == fill[2];
    tsr_image_free(&from);
    return TSR_STATUS_OK;
}

/* To fifteen decimals, as Pillow rounds its matrices. */
static double rounded(double x)
{
    char text[64];
    snprintf(text, sizeof text, "%.15f", x);
    return strtod(text, NULL);
}

tsr_status tsr_image_rotate(tsr_image *image, double degrees, const uint8_t fill[3])
{
    double turn = fmod(degrees, 360.0);
    if (turn < 0.0) turn += 360.0;
    double angle = -(turn * (M_PI / 180.0)), cx = image->width / 2.0, cy = image->height / 2.0;
    double c = rounded(cos(angle)), s = rounded(sin(angle)), minus = rounded(-sin(angle));
    double map[6] = {c, s, c * -cx + s * -cy, minus, c, minus * -cx + c * -cy};
    map[2] += cx;
    map[5] += cy;
    return tsr_image_affine(image, map, fill);
}

/* ---- RandAugment ---- */

enum { OPERATIONS = 15 };

static double either_sign(double x, tsr_rng *rng)
{
    return tsr_rng_uniform(rng) > 0.5 ? -x : x;
}

/* timm's set of operations whose strength grows with the level, in its order; level in 0 .. 1. */
static tsr_status operate(int operation, double level, tsr_image *image, const uint8_t fill[3],
                          tsr_rng *rng)
{
    double map[6] = {1.0, 0.0, 0.0, 0.0, 1.0, 0.0};
    switch (operation) {
    case 0:
        tsr_image_autocontrast(image);
        return TSR_STATUS_OK;
    case 1:
        tsr_image_equalize(image);
        return TSR_STATUS_OK;
    case 2:
        tsr_image_solarize(image, 0);
        return TSR_STATUS_OK;
    case 3:
        return tsr_image_rotate(image, either_sign(level * 30.0, rng), fill);
    case 4:
        tsr_image_posterize(image, 4 - (int)(level * 4.0));
        return TSR_STATUS_OK;
    case 5:
        tsr_image_solarize(image, 256 - (int)(level * 256.0));
        return TSR_STATUS_OK;
    case 6:
        tsr_image_solarize_add(image, (int)(level * 110.0), 128);
        return TSR_STATUS_OK;
    case 7:
        tsr_image_saturation(image, fmax(0.1, 1.0 + either_sign(level * 0.9, rng)));
        return TSR_STATUS_OK;
    case 8:
        tsr_image_contrast(image, fmax(0.1, 1.0 + either_sign(level * 0.9, rng)));
        return TSR_STATUS_OK;
    case 9:
        tsr_image_brightness(image, fmax(0.1, 1.0 + either_sign(level * 0.9, rng)));
        return TSR_STATUS_OK;
    case 10:
        return tsr_image_sharpness(image, fmax(0.1, 1.0 + either_sign(level * 0.9, rng)));
    case 11:
        map[1] = either_sign(level * 0.3, rng);
        break;
    case 12:
        map[3] = either_sign(level * 0.3, rng);
        break;
    case 13:
        map[2] = either_sign(level * 0.45, rng) * image->width;
        break;
    default:
        map[5] = either_sign(level * 0.45, rng) * image->height;
        break;
    }
    return tsr_image_affine(image, map, fill);
}

tsr_status tsr_image_randaugment(tsr_image *image, int layers, double magnitude, double deviation,
                                 const uint8_t fill[3], tsr_rng *rng)
{
    const double most = 10.0;
    for (int i = 0; i < layers; i++) {
        int operation = (int)tsr_rng_below(rng, OPERATIONS);
        if (tsr_rng_uniform(rng) > 0.5) continue;
        double level = fmax(0.0, fmin(magnitude + deviation * tsr_rng_normal(rng), most)) / most;
        tsr_status status = operate(operation, level, image, fill, rng);
        if (status != TSR_STATUS_OK) return status;
    }
    return TSR_STATUS_OK;
}

/* ---- random erasing ---- */

bool tsr_view_erase(float *image, int channels, int size, tsr_rng *rng)
{
    const double least = 0.02, most = 1.0 / 3.0, ratio = 0.3;
    for (int tries = 0; tries < 10; tries++) {
        double area = (double)size * size * tsr_rng_range(rng, least, most);
        double aspect = exp(tsr_rng_range(rng, log(ratio), log(1.0 / ratio)));
        int h = (int)rint(sqrt(area * aspect)), w = (int)rint(sqrt(area / aspect));
        if (h >= size || w >= size) continue;
        int top = (int)tsr_rng_below(rng, size - h + 1),
            left = (int)tsr_rng_below(rng, size - w + 1);
        for (int c = 0; c < channels; c++) {
            for (int y = top; y < top + h; y++) {
                float *row = image + ((int64_t)c * size + y) * size + left;
                for (int x = 0; x < w; x++) row[x] = (float)tsr_rng_normal(rng);
            }
        }
        return true;
    }
    return false;
}
