/* JPEG in and out, by libjpeg-turbo (its libjpeg interface, which tells of markers, colour spaces
 * and warnings). */
#include "recipes/data/internal.h"

#include <errno.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

enum { MAX_SCANS = 500, PIXELS_PER_BYTE = 4096, MAX_FILE_BYTES = 1 << 30, EXIF = JPEG_APP0 + 1 };

/* libjpeg reports errors by calling back and must not return from it. */
struct errors {
    struct jpeg_error_mgr manager; /* first: libjpeg knows only this */
    jmp_buf jump;
    char text[JMSG_LENGTH_MAX];
    const char *warning;
};

static void on_error(j_common_ptr codec)
{
    struct errors *errors = (struct errors *)(void *)codec->err;
    codec->err->format_message(codec, errors->text);
    longjmp(errors->jump, 1);
}

static void on_message(j_common_ptr codec, int level)
{
    struct errors *errors = (struct errors *)(void *)codec->err;
    if (level >= 0) return; /* a trace */
    codec->err->num_warnings++;
    if (codec->err->msg_code == JWRN_JPEG_EOF) {
        errors->warning = "truncated";
    } else if (errors->warning == NULL && codec->err->msg_code != JWRN_EXTRANEOUS_DATA) {
        errors->warning = "corrupt data";
    }
}

static void on_output(j_common_ptr codec)
{
    (void)codec; /* the library never prints */
}

static struct jpeg_error_mgr *errors_init(struct errors *errors)
{
    jpeg_std_error(&errors->manager);
    errors->manager.error_exit = on_error;
    errors->manager.emit_message = on_message;
    errors->manager.output_message = on_output;
    errors->text[0] = '\0';
    errors->warning = NULL;
    return &errors->manager;
}

/* "a PNG", ... from the first bytes; NULL when they say nothing. */
static const char *guess_kind(const uint8_t *data, size_t bytes)
{
    static const struct {
        const char *magic;
        size_t at, bytes;
        const char *what;
    } kinds[] = {
        {"\x89PNG", 0, 4, "a PNG"},
        {"GIF8", 0, 4, "a GIF"},
        {"WEBP", 8, 4, "a WebP"},
        {"BM", 0, 2, "a BMP"},
        {"II*\0", 0, 4, "a TIFF"},
        {"MM\0*", 0, 4, "a TIFF"},
        {"ftypheic", 4, 8, "a HEIC"},
        {"ftypavif", 4, 8, "an AVIF"},
        {"\0\0\0\x0cjP  ", 0, 8, "a JPEG 2000"},
        {"<!DOCTYPE", 0, 9, "an HTML page"},
        {"<html", 0, 5, "an HTML page"},
        {"\x1f\x8b", 0, 2, "a gzip file"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (bytes >= kinds[i].at + kinds[i].bytes &&
            memcmp(data + kinds[i].at, kinds[i].magic, kinds[i].bytes) == 0) {
            return kinds[i].what;
        }
    }
    return NULL;
}

/* -------------------- EXIF -------------------------------------------------------------------- */

struct tiff {
    const uint8_t *data;
    size_t bytes;
    bool big_endian;
};

/* An unsigned number of n bytes; 0 outside of the block. */
static uint32_t tiff_number(const struct tiff *tiff, size_t at, int n)
{
    if (at > tiff->bytes || tiff->bytes - at < (size_t)n) return 0;
    uint32_t value = 0;
    for (int i = 0; i < n; i++) {
        value = value << 8 | tiff->data[at + (size_t)(tiff->big_endian ? i : n - 1 - i)];
    }
    return value;
}

/* The orientation tag of the first directory (EXIF 2.32, section 4.6.4); 1 when there is none that
 * makes sense. */
static int exif_orientation(const uint8_t *data, size_t bytes)
{
    enum { ORIENTATION = 0x0112, SHORT = 3, HEADER = 6, ENTRY = 12 };
    if (bytes < HEADER + 8 || memcmp(data, "Exif\0", HEADER) != 0) return 1;
    struct tiff tiff = {data + HEADER, bytes - HEADER, false};
    if (memcmp(tiff.data, "MM", 2) == 0) {
        tiff.big_endian = true;
    } else if (memcmp(tiff.data, "II", 2) != 0) {
        return 1;
    }
    if (tiff_number(&tiff, 2, 2) != 42) return 1;
    size_t directory = tiff_number(&tiff, 4, 4);
    uint32_t entries = tiff_number(&tiff, directory, 2);
    for (uint32_t i = 0; i < entries; i++) {
        size_t entry = directory + 2 + (size_t)i * ENTRY;
        if (entry + ENTRY > tiff.bytes) return 1;
        if (tiff_number(&tiff, entry, 2) != ORIENTATION) continue;
        uint32_t value = tiff_number(&tiff, entry + 8, 2);
        bool sound = tiff_number(&tiff, entry + 2, 2) == SHORT && value >= 1 && value <= 8;
        return sound ? (int)value : 1;
    }
    return 1;
}

/* Turns the picture as orientation 2 to 8 asks: out[y][x] = in[sy][sx], where x and y step along or
 * across the rows. */
static tsr_status orient(tsr_image *image, int orientation)
{
    bool swap = orientation >= 5; /* rows become columns */
    int h = image->height, w = image->width;
    tsr_image out = {0};
    tsr_status status = tsr_image_resize_storage(&out, swap ? w : h, swap ? h : w);
    if (status != TSR_STATUS_OK) return status;
    out.grey = image->grey;
    bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    ptrdiff_t row = (ptrdiff_t)w * 3;
    ptrdiff_t down = from_bottom ? -row : row, right = from_right ? -3 : 3;
    const uint8_t *start =
        image->pixels + (from_bottom ? (ptrdiff_t)(h - 1) * row : 0) + (from_right ? row - 3 : 0);
    ptrdiff_t along_x = swap ? down : right, along_y = swap ? right : down;
    uint8_t *to = out.pixels;
    for (int y = 0; y < out.height; y++) {
        const uint8_t *from = start + (ptrdiff_t)y * along_y;
        for (int x = 0; x < out.width; x++, from += along_x, to += 3) {
            to[0] = from[0];
            to[1] = from[1];
            to[2] = from[2];
        }
    }
    tsr_image_free(image);
    *image = out;
    return TSR_STATUS_OK;
}

/* -------------------- decoding ---------------------------------------------------------------- */

/* a * b / 255, rounded. */
static inline uint8_t times(unsigned a, unsigned b)
{
    unsigned x = a * b + 128;
    return (uint8_t)(((x >> 8) + x) >> 8);
}

/* Inks stored inverted, as Adobe's programs do and everybody after them: 255 is no ink. */
static void cmyk_to_rgb(const uint8_t *in, int width, uint8_t *out)
{
    for (int x = 0; x < width; x++, in += 4, out += 3) {
        for (int c = 0; c < 3; c++) out[c] = (uint8_t)(in[3] - times(255u - in[c], in[3]));
    }
}

static void grey_to_rgb(const uint8_t *in, int width, uint8_t *out)
{
    for (int x = 0; x < width; x++, out += 3) out[0] = out[1] = out[2] = in[x];
}

static void on_progress(j_common_ptr codec)
{
    j_decompress_ptr decoder = (j_decompress_ptr)codec;
    if (decoder->input_scan_number > MAX_SCANS) ERREXIT(codec, JERR_BAD_PROGRESSION);
}

static unsigned shrink_for(unsigned height, unsigned width, int min_short_side)
{
    unsigned side = height < width ? height : width, shrink = 1;
    if (min_short_side <= 0) return 1;
    /* The decoder rounds sizes up; only whole shrinks count as keeping the side. */
    while (shrink < 8 && side / (2 * shrink) >= (unsigned)min_short_side) shrink *= 2;
    return shrink;
}

struct decoder {
    struct jpeg_decompress_struct codec;
    struct jpeg_progress_mgr progress;
    struct errors errors;
    uint8_t *row; /* of grey or CMYK bytes */
    const char *name;
};

/* Reads the header and settles how to decode. */
static tsr_status begin(struct decoder *d, size_t bytes, int min_short_side, tsr_jpeg_info *info)
{
    struct jpeg_decompress_struct *codec = &d->codec;
    jpeg_read_header(codec, TRUE);
    unsigned h = codec->image_height, w = codec->image_width;
    if (h > TSR_IMAGE_MAX_SIDE || w > TSR_IMAGE_MAX_SIDE ||
        (uint64_t)h * w > TSR_IMAGE_MAX_PIXELS) {
        return tsr_fail(TSR_STATUS_FORMAT, "%s: %u x %u pixels; at most %d a side and %d in all",
                        d->name, w, h, TSR_IMAGE_MAX_SIDE, TSR_IMAGE_MAX_PIXELS);
    }
    if ((uint64_t)h * w / PIXELS_PER_BYTE > bytes) {
        return tsr_fail(TSR_STATUS_FORMAT, "%s: %zu bytes cannot hold %u x %u pixels", d->name,
                        bytes, w, h);
    }
    info->height = (int)h;
    info->width = (int)w;
    info->shrink = (int)shrink_for(h, w, min_short_side);
    for (jpeg_saved_marker_ptr m = codec->marker_list; m != NULL; m = m->next) {
        if (m->marker != EXIF) continue;
        int orientation = exif_orientation(m->data, m->data_length);
        if (orientation != 1) info->orientation = orientation;
    }
    codec->scale_num = 1;
    codec->scale_denom = (unsigned)info->shrink;
    switch (codec->jpeg_color_space) {
    case JCS_GRAYSCALE:
        codec->out_color_space = JCS_GRAYSCALE;
        break;
    case JCS_CMYK:
    case JCS_YCCK:
        codec->out_color_space = JCS_CMYK;
        break;
    default:
        codec->out_color_space = JCS_RGB;
        break; /* an unknown space is refused there */
    }
    return TSR_STATUS_OK;
}

static tsr_status decode_rows(struct decoder *d, tsr_image *image)
{
    struct jpeg_decompress_struct *codec = &d->codec;
    jpeg_start_decompress(codec);
    int height = (int)codec->output_height, width = (int)codec->output_width;
    tsr_status status = tsr_image_resize_storage(image, height, width);
    if (status != TSR_STATUS_OK) return status;
    int components = codec->output_components;
    if (components != 3) {
        d->row = tsr_alloc((size_t)width * (size_t)components);
        if (d->row == NULL) return tsr_status_get();
    }
    while (codec->output_scanline < codec->output_height) {
        uint8_t *out = image->pixels + (size_t)codec->output_scanline * (size_t)width * 3;
        JSAMPROW row = components == 3 ? out : d->row;
        jpeg_read_scanlines(codec, &row, 1);
        if (components == 1) grey_to_rgb(row, width, out);
        if (components == 4) cmyk_to_rgb(row, width, out);
    }
    image->grey = components == 1;
    jpeg_finish_decompress(codec);
    return TSR_STATUS_OK;
}

static tsr_status decode(struct decoder *d, const void *data, size_t bytes, int min_short_side,
                         tsr_image *image, tsr_jpeg_info *info)
{
    d->codec.err = errors_init(&d->errors);
    if (setjmp(d->errors.jump) != 0) {
        return tsr_fail(d->codec.err->msg_code == JERR_OUT_OF_MEMORY ? TSR_STATUS_MEMORY
                                                                     : TSR_STATUS_FORMAT,
                        "%s: %s", d->name, d->errors.text);
    }
    jpeg_create_decompress(&d->codec);
    d->progress.progress_monitor = on_progress;
    d->codec.progress = &d->progress;
    jpeg_mem_src(&d->codec, data, (unsigned long)bytes);
    jpeg_save_markers(&d->codec, EXIF, 0xFFFF);
    tsr_status status = begin(d, bytes, min_short_side, info);
    return status == TSR_STATUS_OK ? decode_rows(d, image) : status;
}

tsr_status tsr_jpeg_decode(const void *data, size_t bytes, const tsr_jpeg_options *options,
                           tsr_image *image, tsr_jpeg_info *info)
{
    tsr_jpeg_info unused;
    if (info == NULL) info = &unused;
    *info = (tsr_jpeg_info){.orientation = 1, .shrink = 1};
    const char *name = options != NULL && options->name != NULL ? options->name : "image";
    const uint8_t *start = data;
    if (bytes < 4 || start[0] != 0xff || start[1] != 0xd8 || start[2] != 0xff) {
        const char *guess = guess_kind(start, bytes);
        return tsr_fail(TSR_STATUS_FORMAT, "%s: not a JPEG%s%s", name,
                        guess != NULL ? "; it looks like " : "", guess != NULL ? guess : "");
    }
    struct decoder d = {.name = name};
    tsr_status status =
        decode(&d, data, bytes, options != NULL ? options->min_short_side : 0, image, info);
    jpeg_destroy_decompress(&d.codec);
    tsr_free(d.row);
    info->warning = d.errors.warning;
    if (status == TSR_STATUS_OK && info->orientation > 1) status = orient(image, info->orientation);
    return status;
}

tsr_status tsr_jpeg_read(const char *path, const tsr_jpeg_options *options, tsr_image *image,
                         tsr_jpeg_info *info)
{
    void *data;
    size_t bytes;
    tsr_status status = tsr_file__read(path, MAX_FILE_BYTES, &data, &bytes);
    if (status != TSR_STATUS_OK) return status;
    tsr_jpeg_options named = {.name = path};
    if (options != NULL) named.min_short_side = options->min_short_side;
    status = tsr_jpeg_decode(data, bytes, &named, image, info);
    tsr_free(data);
    return status;
}

/* -------------------- encoding ---------------------------------------------------------------- */

struct encoder {
    struct jpeg_compress_struct codec;
    struct errors errors;
    unsigned char *data; /* from malloc(), by libjpeg */
    unsigned long bytes;
};

static tsr_status encode(struct encoder *e, const tsr_image *image, int quality)
{
    e->codec.err = errors_init(&e->errors);
    if (setjmp(e->errors.jump) != 0) {
        return tsr_fail(TSR_STATUS_MEMORY, "jpeg: %s", e->errors.text);
    }
    jpeg_create_compress(&e->codec);
    jpeg_mem_dest(&e->codec, &e->data, &e->bytes);
    e->codec.image_width = (unsigned)image->width;
    e->codec.image_height = (unsigned)image->height;
    e->codec.input_components = 3;
    e->codec.in_color_space = JCS_RGB;
    jpeg_set_defaults(&e->codec);
    jpeg_set_quality(&e->codec, quality, TRUE);
    jpeg_start_compress(&e->codec, TRUE);
    while (e->codec.next_scanline < e->codec.image_height) {
        size_t at = (size_t)e->codec.next_scanline * (size_t)image->width * 3;
        JSAMPROW row = image->pixels + at;
        jpeg_write_scanlines(&e->codec, &row, 1);
    }
    jpeg_finish_compress(&e->codec);
    return TSR_STATUS_OK;
}

tsr_status tsr_jpeg_encode(const tsr_image *image, int quality, void **data, size_t *bytes)
{
    if (image->pixels == NULL || quality < 1 || quality > 100) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "jpeg: quality %d of a %d x %d image; expected 1 to 100 and a pixel",
                        quality, image->width, image->height);
    }
    struct encoder e = {.data = NULL};
    tsr_status status = encode(&e, image, quality);
    jpeg_destroy_compress(&e.codec);
    if (status == TSR_STATUS_OK) {
        void *copy = tsr_alloc(e.bytes);
        if (copy == NULL) {
            status = tsr_status_get();
        } else {
            memcpy(copy, e.data, e.bytes);
            *data = copy;
            *bytes = e.bytes;
        }
    }
    free(e.data);
    return status;
}

tsr_status tsr_jpeg_write(const char *path, const tsr_image *image, int quality)
{
    void *data;
    size_t bytes;
    tsr_status status = tsr_jpeg_encode(image, quality, &data, &bytes);
    if (status != TSR_STATUS_OK) return status;
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        status = tsr_fail(TSR_STATUS_IO, "%s: %s", path, strerror(errno));
    } else {
        bool written = fwrite(data, 1, bytes, file) == bytes;
        if (fclose(file) != 0 || !written) {
            status = tsr_fail(TSR_STATUS_IO, "%s: cannot write: %s", path, strerror(errno));
        }
    }
    tsr_free(data);
    return status;
}
