/* Images: storage, and the transforms that look at one pixel at a time. */
#include "recipes/data/data.h"
#include "recipes/data/loops.h"

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

void tsr_image_grayscale(tsr_image *image)
{
    if (image->grey) return;
    uint8_t *end = image->pixels + image_bytes(image);
    for (uint8_t *p = image->pixels; p < end; p += 3) p[0] = p[1] = p[2] = (uint8_t)tsr_luma(p);
    image->grey = true;
}

static size_t pixel_count(const tsr_image *image)
{
    return (size_t)image->height * (size_t)image->width;
}

void tsr_image_brightness(tsr_image *image, double factor)
{
    tsr_image_loops__get()->blend(image->pixels, image_bytes(image), 0, (float)factor);
}

void tsr_image_contrast(tsr_image *image, double factor)
{
    const tsr_image_loops *loops = tsr_image_loops__get();
    uint64_t sum = loops->luma_sum(image->pixels, pixel_count(image));
    int mean = (int)((double)sum / (double)pixel_count(image) + 0.5);
    loops->blend(image->pixels, image_bytes(image), mean, (float)factor);
}

void tsr_image_saturation(tsr_image *image, double factor)
{
    if (image->grey) return;
    tsr_image_loops__get()->saturation(image->pixels, pixel_count(image), (float)factor);
}

void tsr_image_hue(tsr_image *image, double shift)
{
    /* torchvision adds the byte np.uint8(shift * 255), which cuts towards zero and wraps. A shift
     * by no whole step still passes through HSV and its rounding. */
    if (image->grey) return;
    tsr_image_loops__get()->hue(image->pixels, pixel_count(image), (int)(shift * 255.0) & 255);
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
    tsr_image_loops__get()->normalize(image->pixels, pixel_count(image), mean, std, out);
}
