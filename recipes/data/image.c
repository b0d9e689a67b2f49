/* Images: storage, and the transforms that look at one pixel at a time. */
#include "recipes/data/data.h"

#include <math.h>
#include <string.h>

tsr_status tsr_image_resize_storage(tsr_image *image, int height, int width)
{
    if (height < 1 || width < 1 || height > TSR_IMAGE_MAX_SIDE || width > TSR_IMAGE_MAX_SIDE ||
        (int64_t)height * width > TSR_IMAGE_MAX_PIXELS) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "image: %d x %d pixels; sides are 1 to %d, at most %d pixels in all", width,
                        height, TSR_IMAGE_MAX_SIDE, TSR_IMAGE_MAX_PIXELS);
    }
    size_t bytes = (size_t)height * (size_t)width * 3;
    if (bytes > image->capacity) {
        uint8_t *pixels = tsr_alloc(bytes);
        if (pixels == NULL) return tsr_status_get();
        tsr_free(image->pixels);
        image->pixels = pixels;
        image->capacity = bytes;
    }
    image->height = height;
    image->width = width;
    image->grey = false;
    return TSR_STATUS_OK;
}

tsr_status tsr_image_copy(const tsr_image *image, tsr_image *out)
{
    tsr_status status = tsr_image_resize_storage(out, image->height, image->width);
    if (status != TSR_STATUS_OK) return status;
    memcpy(out->pixels, image->pixels, (size_t)image->height * (size_t)image->width * 3);
    out->grey = image->grey;
    return TSR_STATUS_OK;
}

void tsr_image_free(tsr_image *image)
{
    if (image == NULL) return;
    tsr_free(image->pixels);
    *image = (tsr_image){0};
}

static size_t image_bytes(const tsr_image *image)
{
    return (size_t)image->height * (size_t)image->width * 3;
}

tsr_status tsr_image_center_crop(const tsr_image *src, int height, int width, tsr_image *out)
{
    tsr_status status = tsr_image_resize_storage(out, height, width);
    if (status != TSR_STATUS_OK) return status;
    /* Python's round(): halves go to the even number. */
    int top = (int)rint((src->height - height) / 2.0), left = (int)rint((src->width - width) / 2.0);
    int from = left < 0 ? -left : 0; /* first column that src has */
    int to = src->width - left < width ? src->width - left : width;
    for (int y = 0; y < height; y++) {
        uint8_t *row = out->pixels + (size_t)y * (size_t)width * 3;
        int sy = y + top;
        if (sy < 0 || sy >= src->height) {
            memset(row, 0, (size_t)width * 3);
            continue;
        }
        const uint8_t *in = src->pixels + (size_t)sy * (size_t)src->width * 3;
        memset(row, 0, (size_t)from * 3);
        memcpy(row + (size_t)from * 3, in + (size_t)(from + left) * 3, (size_t)(to - from) * 3);
        memset(row + (size_t)to * 3, 0, (size_t)(width - to) * 3);
    }
    out->grey = src->grey;
    return TSR_STATUS_OK;
}

void tsr_image_hflip(tsr_image *image)
{
    for (int y = 0; y < image->height; y++) {
        uint8_t *a = image->pixels + (size_t)y * (size_t)image->width * 3;
        uint8_t *b = a + (size_t)(image->width - 1) * 3;
        for (; a < b; a += 3, b -= 3) {
            for (int c = 0; c < 3; c++) {
                uint8_t t = a[c];
                a[c] = b[c];
                b[c] = t;
            }
        }
    }
}

/* ITU-R 601-2 in 16-bit fixed point. */
static inline uint32_t luma(const uint8_t *p)
{
    return (19595u * p[0] + 38470u * p[1] + 7471u * p[2] + 0x8000u) >> 16;
}

void tsr_image_grayscale(tsr_image *image)
{
    if (image->grey) return;
    uint8_t *end = image->pixels + image_bytes(image);
    for (uint8_t *p = image->pixels; p < end; p += 3) p[0] = p[1] = p[2] = (uint8_t)luma(p);
    image->grey = true;
}

/* from + factor * (to - from) in floats, cut to a byte towards zero. */
static inline uint8_t blend(int from, int to, float factor)
{
    float x = (float)from + factor * (float)(to - from);
    return x <= 0.0f ? 0 : x >= 255.0f ? 255 : (uint8_t)x;
}

/* Blends every byte with the same degenerate value. */
static void blend_with_constant(tsr_image *image, int constant, float factor)
{
    uint8_t table[256];
    for (int v = 0; v < 256; v++) table[v] = blend(constant, v, factor);
    /* A local pointer, since for all the compiler knows a byte written is part of *image. */
    uint8_t *p = image->pixels;
    size_t n = image_bytes(image);
    for (size_t i = 0; i < n; i++) p[i] = table[p[i]];
}

void tsr_image_brightness(tsr_image *image, double factor)
{
    blend_with_constant(image, 0, (float)factor);
}

void tsr_image_contrast(tsr_image *image, double factor)
{
    uint64_t sum = 0;
    const uint8_t *end = image->pixels + image_bytes(image);
    for (const uint8_t *p = image->pixels; p < end; p += 3) sum += luma(p);
    double mean = (double)sum / ((double)image->height * image->width);
    blend_with_constant(image, (int)(mean + 0.5), (float)factor);
}

void tsr_image_saturation(tsr_image *image, double factor)
{
    if (image->grey) return;
    float f = (float)factor;
    uint8_t *end = image->pixels + image_bytes(image);
    for (uint8_t *p = image->pixels; p < end; p += 3) {
        int grey = (int)luma(p);
        for (int c = 0; c < 3; c++) p[c] = blend(grey, p[c], f);
    }
}

/*
 * Hue goes through HSV with a byte for each part, as Pillow has it, so that the rounding is the
 * same: h = (sector + difference) / 6 turns, s = (max - min) / max, v = max.
 */
struct hue_table {
    int sector[256];
    double fraction[256];   /* of the hue in its sector */
    double saturation[256]; /* of 1 */
};

static void hue_pixel(uint8_t *p, unsigned shift, const struct hue_table *table)
{
    int r = p[0], g = p[1], b = p[2];
    int max = r > g ? r : g, min = r < g ? r : g;
    if (b > max) max = b;
    if (b < min) min = b;
    if (max == min) return; /* grey has no hue */
    float chroma = (float)(max - min);
    float rc = (float)(max - r) / chroma, gc = (float)(max - g) / chroma;
    float bc = (float)(max - b) / chroma;
    float sixths;
    if (r == max) {
        sixths = bc - gc;
    } else if (g == max) {
        sixths = (float)(2.0 + (double)rc - (double)bc);
    } else {
        sixths = (float)(4.0 + (double)gc - (double)rc);
    }
    double turns = (double)sixths / 6.0 + 1.0; /* 5/6 .. 11/6 */
    float h = (float)(turns >= 1.0 ? turns - 1.0 : turns);
    unsigned hue = ((unsigned)((double)h * 255.0) + shift) & 255u;
    int saturation = (int)((double)(chroma / (float)max) * 255.0);

    if (saturation == 0) {
        p[0] = p[1] = p[2] = (uint8_t)max;
        return;
    }
    double fs = table->saturation[saturation], v = max, f = table->fraction[hue];
    uint8_t V = (uint8_t)max;
    uint8_t P = (uint8_t)(v * (1.0 - fs) + 0.5);
    uint8_t Q = (uint8_t)(v * (1.0 - fs * f) + 0.5);
    uint8_t T = (uint8_t)(v * (1.0 - fs * (1.0 - f)) + 0.5);
    switch (table->sector[hue]) {
    case 0:
        p[0] = V, p[1] = T, p[2] = P;
        break;
    case 1:
        p[0] = Q, p[1] = V, p[2] = P;
        break;
    case 2:
        p[0] = P, p[1] = V, p[2] = T;
        break;
    case 3:
        p[0] = P, p[1] = Q, p[2] = V;
        break;
    case 4:
        p[0] = T, p[1] = P, p[2] = V;
        break;
    default:
        p[0] = V, p[1] = P, p[2] = Q;
        break;
    }
}

void tsr_image_hue(tsr_image *image, double shift)
{
    /* torchvision adds the byte np.uint8(shift * 255), which cuts towards zero and wraps. A shift
     * by no whole step still passes through HSV and its rounding. */
    if (image->grey) return;
    unsigned steps = (unsigned)(int)(shift * 255.0) & 255u;
    struct hue_table table;
    for (int h = 0; h < 256; h++) {
        double sixths = (double)(float)h * 6.0 / 255.0;
        int sector = (int)sixths;
        table.sector[h] = sector % 6;
        table.fraction[h] = (double)(float)(sixths - (double)(float)sector);
        table.saturation[h] = (double)(float)(h / 255.0);
    }
    uint8_t *end = image->pixels + image_bytes(image);
    for (uint8_t *p = image->pixels; p < end; p += 3) hue_pixel(p, steps, &table);
}

void tsr_image_solarize(tsr_image *image, int threshold)
{
    uint8_t *p = image->pixels;
    size_t n = image_bytes(image);
    if (threshold > 255) return;
    uint8_t from = (uint8_t)(threshold > 0 ? threshold : 0);
    /* 255 - v flips all bits of v. */
    for (size_t i = 0; i < n; i++) p[i] ^= p[i] >= from ? 255 : 0;
}

void tsr_image_normalize(const tsr_image *image, const float mean[3], const float std[3],
                         float *out)
{
    size_t n = (size_t)image->height * (size_t)image->width;
    for (int c = 0; c < 3; c++) {
        float table[256];
        for (int v = 0; v < 256; v++) table[v] = ((float)v / 255.0f - mean[c]) / std[c];
        const uint8_t *in = image->pixels + c;
        for (size_t i = 0; i < n; i++) out[(size_t)c * n + i] = table[in[3 * i]];
    }
}
