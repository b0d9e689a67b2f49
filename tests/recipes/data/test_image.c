/* JPEG in and out: colour spaces, orientation, shrinking, and files that are not what they should
 * be. */
#include "tests/recipes/data/files.h"

#include <jpeglib.h>

struct jpeg {
    unsigned char *data;
    unsigned long bytes;
};

/* Encodes rows of `components` bytes a pixel, with an APP1 block first where app1 is not NULL. */
static struct jpeg encode(const uint8_t *pixels, unsigned height, unsigned width, int components,
                          J_COLOR_SPACE in, J_COLOR_SPACE stored, bool progressive,
                          const void *app1, unsigned app1_bytes)
{
    struct jpeg out = {NULL, 0};
    struct jpeg_compress_struct codec;
    struct jpeg_error_mgr errors;
    codec.err = jpeg_std_error(&errors);
    jpeg_create_compress(&codec);
    jpeg_mem_dest(&codec, &out.data, &out.bytes);
    codec.image_height = height;
    codec.image_width = width;
    codec.input_components = components;
    codec.in_color_space = in;
    jpeg_set_defaults(&codec);
    jpeg_set_colorspace(&codec, stored);
    jpeg_set_quality(&codec, 98, TRUE);
    if (progressive) jpeg_simple_progression(&codec);
    jpeg_start_compress(&codec, TRUE);
    if (app1 != NULL) jpeg_write_marker(&codec, JPEG_APP0 + 1, app1, app1_bytes);
    while (codec.next_scanline < height) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(pixels + (size_t)codec.next_scanline * width *
                                                          (unsigned)components);
        jpeg_write_scanlines(&codec, &row, 1);
    }
    jpeg_finish_compress(&codec);
    jpeg_destroy_compress(&codec);
    return out;
}

static void assert_pixel_near(const tsr_image *image, int y, int x, int r, int g, int b)
{
    const uint8_t *p = image->pixels + ((size_t)y * (size_t)image->width + (size_t)x) * 3;
    if (abs(p[0] - r) > 4 || abs(p[1] - g) > 4 || abs(p[2] - b) > 4) {
        fail_msg("pixel (%d, %d) is %d %d %d, expected %d %d %d", y, x, p[0], p[1], p[2], r, g, b);
    }
}

static void test_image__grey_jpegs_get_three_equal_channels(void **state)
{
    (void)state;
    uint8_t pixels[16 * 24];
    for (int i = 0; i < 16 * 24; i++) pixels[i] = (uint8_t)(i % 24 * 10);
    struct jpeg j = encode(pixels, 16, 24, 1, JCS_GRAYSCALE, JCS_GRAYSCALE, false, NULL, 0);
    tsr_image image = {0};
    assert_int_equal(tsr_jpeg_decode(j.data, j.bytes, NULL, &image, NULL), TSR_STATUS_OK);
    assert_true(image.grey);
    for (int x = 0; x < 24; x++) assert_pixel_near(&image, 7, x, x * 10, x * 10, x * 10);
    tsr_image_free(&image);
    free(j.data);
}

static void test_image__cmyk_and_ycck_become_rgb(void **state)
{
    (void)state;
    /* Inverted inks, as Adobe stores them: 255 - cyan, ... */
    static const uint8_t inks[3][4] = {
        {255, 255, 255, 255}, {200, 100, 50, 255}, {200, 100, 50, 128}};
    static const int want[3][3] = {{255, 255, 255}, {200, 100, 50}, {100, 50, 25}};
    for (int ycck = 0; ycck < 2; ycck++) {
        for (int k = 0; k < 3; k++) {
            uint8_t pixels[8 * 8 * 4];
            for (int i = 0; i < 256; i++) pixels[i] = inks[k][i % 4];
            struct jpeg j =
                encode(pixels, 8, 8, 4, JCS_CMYK, ycck ? JCS_YCCK : JCS_CMYK, false, NULL, 0);
            tsr_image image = {0};
            assert_int_equal(tsr_jpeg_decode(j.data, j.bytes, NULL, &image, NULL), TSR_STATUS_OK);
            assert_false(image.grey);
            assert_pixel_near(&image, 3, 4, want[k][0], want[k][1], want[k][2]);
            tsr_image_free(&image);
            free(j.data);
        }
    }
}

/* An EXIF block whose first directory has another tag and then the orientation. */
static unsigned exif_block(uint8_t out[64], int orientation, bool big_endian)
{
    static const uint8_t big[] = {'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0, 42, 0, 0, 0, 8,    0,
                                  2,   1,   0,   0,   3, 0, 0,   0,   1, 0,  9, 0, 0, 0x01, 0x12,
                                  0,   3,   0,   0,   0, 1, 0,   0,   0, 0,  0, 0, 0, 0};
    static const uint8_t little[] = {'E', 'x', 'i', 'f', 0, 0, 'I', 'I', 42, 0, 8, 0, 0, 0,    2,
                                     0,   0,   1,   3,   0, 1, 0,   0,   0,  9, 0, 0, 0, 0x12, 0x01,
                                     3,   0,   1,   0,   0, 0, 0,   0,   0,  0, 0, 0, 0, 0};
    memcpy(out, big_endian ? big : little, sizeof big);
    out[big_endian ? 37 : 36] = (uint8_t)orientation;
    return sizeof big;
}

static void test_image__all_exif_orientations_show_the_same_picture(void **state)
{
    (void)state;
    /* The upright picture, 16 high and 32 wide, has four corners of different colours. Each
     * orientation is the way a camera stores it; EXIF 2.32 says where row 0 and column 0 of what is
     * stored belong. */
    enum { H = 16, W = 32 };
    static const int colours[4][3] = {{250, 20, 20}, {20, 250, 20}, {20, 20, 250}, {240, 240, 240}};
    for (int orientation = 1; orientation <= 8; orientation++) {
        for (int big_endian = 0; big_endian < 2; big_endian++) {
            bool swap = orientation >= 5;
            int h = swap ? W : H, w = swap ? H : W;
            uint8_t pixels[H * W * 3];
            for (int y = 0; y < h; y++) {
                for (int x = 0; x < w; x++) {
                    int uy, ux; /* of the upright picture */
                    switch (orientation) {
                    case 1:
                        uy = y, ux = x;
                        break;
                    case 2:
                        uy = y, ux = W - 1 - x;
                        break;
                    case 3:
                        uy = H - 1 - y, ux = W - 1 - x;
                        break;
                    case 4:
                        uy = H - 1 - y, ux = x;
                        break;
                    case 5:
                        uy = x, ux = y;
                        break; /* row 0 left, column 0 top */
                    case 6:
                        uy = x, ux = W - 1 - y;
                        break; /* row 0 right, column 0 top */
                    case 7:
                        uy = H - 1 - x, ux = W - 1 - y;
                        break; /* right, bottom */
                    default:
                        uy = H - 1 - x, ux = y;
                        break; /* left, bottom */
                    }
                    const int *colour = colours[(uy >= H / 2) * 2 + (ux >= W / 2)];
                    for (int c = 0; c < 3; c++) pixels[(y * w + x) * 3 + c] = (uint8_t)colour[c];
                }
            }
            uint8_t exif[64];
            unsigned n = exif_block(exif, orientation, big_endian != 0);
            struct jpeg j =
                encode(pixels, (unsigned)h, (unsigned)w, 3, JCS_RGB, JCS_YCbCr, false, exif, n);
            tsr_image image = {0};
            tsr_jpeg_info info;
            assert_int_equal(tsr_jpeg_decode(j.data, j.bytes, NULL, &image, &info), TSR_STATUS_OK);
            assert_int_equal(info.orientation, orientation);
            assert_int_equal(info.height, h);
            assert_int_equal(image.height, H);
            assert_int_equal(image.width, W);
            for (int k = 0; k < 4; k++) {
                assert_pixel_near(&image, k / 2 * 11 + 2, k % 2 * 26 + 2, colours[k][0],
                                  colours[k][1], colours[k][2]);
            }
            tsr_image_free(&image);
            free(j.data);
        }
    }
}

static void test_image__broken_exif_blocks_are_passed_over(void **state)
{
    (void)state;
    uint8_t pixels[8 * 8 * 3] = {0}, exif[64];
    unsigned n = exif_block(exif, 6, true);
    for (unsigned cut = 0; cut <= n; cut++) {
        struct jpeg j = encode(pixels, 8, 8, 3, JCS_RGB, JCS_YCbCr, false, exif, cut);
        tsr_image image = {0};
        tsr_jpeg_info info;
        assert_int_equal(tsr_jpeg_decode(j.data, j.bytes, NULL, &image, &info), TSR_STATUS_OK);
        assert_int_equal(info.orientation, cut >= 40 ? 6 : 1);
        tsr_image_free(&image);
        free(j.data);
    }
    exif[10] = exif[11] = exif[12] = exif[13] = 0xff; /* the directory lies far outside */
    struct jpeg j = encode(pixels, 8, 8, 3, JCS_RGB, JCS_YCbCr, false, exif, n);
    tsr_image image = {0};
    assert_int_equal(tsr_jpeg_decode(j.data, j.bytes, NULL, &image, NULL), TSR_STATUS_OK);
    tsr_image_free(&image);
    free(j.data);
}

static uint8_t *noise(int height, int width)
{
    uint8_t *pixels = malloc((size_t)(height * width * 3));
    assert_non_null(pixels);
    tsr_rng rng = tsr_rng_make(1, 0, 0, 0);
    for (int i = 0; i < height * width * 3; i++) pixels[i] = (uint8_t)tsr_rng_below(&rng, 256);
    return pixels;
}

static void test_image__truncated_files_give_what_is_there(void **state)
{
    (void)state;
    uint8_t *pixels = noise(64, 64);
    for (int progressive = 0; progressive < 2; progressive++) {
        struct jpeg j = encode(pixels, 64, 64, 3, JCS_RGB, JCS_YCbCr, progressive != 0, NULL, 0);
        tsr_image whole = {0}, part = {0};
        tsr_jpeg_info info;
        assert_int_equal(tsr_jpeg_decode(j.data, j.bytes, NULL, &whole, &info), TSR_STATUS_OK);
        assert_null(info.warning);
        tsr_jpeg_decode(j.data, j.bytes / 2, NULL, &part, &info);
        assert_ok();
        assert_string_equal(info.warning, "truncated");
        /* The last row of a block is blended with the next one's colours. */
        if (!progressive) assert_memory_equal(part.pixels, whole.pixels, 15 * 64 * 3);
        assert_memory_not_equal(part.pixels, whole.pixels, 64 * 64 * 3);
        /* Any length: a picture with a warning, or an error of one line; never more. */
        for (unsigned long n = 0; n < j.bytes; n += n < 1000 ? 1 : 97) {
            if (tsr_jpeg_decode(j.data, n, NULL, &part, &info) == TSR_STATUS_OK) {
                assert_non_null(info.warning);
            } else {
                assert_failed(TSR_STATUS_FORMAT, "image: ");
            }
        }
        tsr_image_free(&whole);
        tsr_image_free(&part);
        free(j.data);
    }
    free(pixels);
}

static void test_image__corrupt_data_is_flagged(void **state)
{
    (void)state;
    uint8_t *pixels = noise(64, 64);
    struct jpeg j = encode(pixels, 64, 64, 3, JCS_RGB, JCS_YCbCr, false, NULL, 0);
    memset(j.data + j.bytes / 2, 0xff, 40);
    j.data[j.bytes / 2 + 40] = 0xd3; /* a restart marker where none belongs */
    tsr_image image = {0};
    tsr_jpeg_info info;
    tsr_jpeg_decode(j.data, j.bytes, NULL, &image, &info);
    assert_ok();
    assert_string_equal(info.warning, "corrupt data");
    tsr_image_free(&image);
    free(j.data);
    free(pixels);
}

static void test_image__other_files_are_named(void **state)
{
    (void)state;
    tsr_image image = {0};
    tsr_jpeg_options options = {.name = "dog.jpg"};
    static const uint8_t png[] = {0x89, 'P', 'N', 'G', 13, 10, 26, 10, 0, 0, 0, 13};
    tsr_jpeg_decode(png, sizeof png, &options, &image, NULL);
    assert_failed(TSR_STATUS_FORMAT, "dog.jpg: not a JPEG; it looks like a PNG");
    tsr_jpeg_decode("RIFF\x10\0\0\0WEBPVP8 ", 16, &options, &image, NULL);
    assert_failed(TSR_STATUS_FORMAT, "a WebP");
    tsr_jpeg_decode("<html><body>404", 15, &options, &image, NULL);
    assert_failed(TSR_STATUS_FORMAT, "an HTML page");
    tsr_jpeg_decode("hello", 5, NULL, &image, NULL);
    assert_failed(TSR_STATUS_FORMAT, "image: not a JPEG");
    tsr_jpeg_decode(NULL, 0, NULL, &image, NULL);
    assert_failed(TSR_STATUS_FORMAT, "image: not a JPEG");
    tsr_jpeg_decode("\xff\xd8\xff\xd9", 4, NULL, &image, NULL);
    assert_failed(TSR_STATUS_FORMAT, "image: ");
    tsr_jpeg_read(file_path("none.jpg"), NULL, &image, NULL);
    assert_failed(TSR_STATUS_IO, "none.jpg: No such file");
    tsr_jpeg_read(test_folder, NULL, &image, NULL);
    assert_failed(TSR_STATUS_IO, "not a regular file");
    write_file("empty.jpg", "", 0);
    tsr_jpeg_read(file_path("empty.jpg"), NULL, &image, NULL);
    assert_failed(TSR_STATUS_FORMAT, "empty.jpg: empty file");
    tsr_image_free(&image);
}

/* Writes a size into the frame header (marker C0: length 2, precision 1, height 2, width 2). */
static void set_size(struct jpeg *j, unsigned height, unsigned width)
{
    for (unsigned long i = 2; i + 9 < j->bytes; i++) {
        if (j->data[i] != 0xff || j->data[i + 1] != 0xc0) continue;
        j->data[i + 5] = (uint8_t)(height >> 8), j->data[i + 6] = (uint8_t)height;
        j->data[i + 7] = (uint8_t)(width >> 8), j->data[i + 8] = (uint8_t)width;
        return;
    }
    fail();
}

static void test_image__hostile_sizes_allocate_nothing(void **state)
{
    (void)state;
    uint8_t pixels[8 * 8 * 3] = {0};
    struct jpeg j = encode(pixels, 8, 8, 3, JCS_RGB, JCS_YCbCr, false, NULL, 0);
    tsr_image image = {0};
    set_size(&j, 65500, 65500);
    tsr_jpeg_decode(j.data, j.bytes, NULL, &image, NULL);
    assert_failed(TSR_STATUS_FORMAT, "65500 x 65500 pixels");
    set_size(&j, 65535, 8);
    tsr_jpeg_decode(j.data, j.bytes, NULL, &image, NULL);
    assert_failed(TSR_STATUS_FORMAT, "image: ");
    set_size(&j, 13000, 13000);
    tsr_jpeg_decode(j.data, j.bytes, NULL, &image, NULL);
    assert_failed(TSR_STATUS_FORMAT, "cannot hold 13000 x 13000 pixels");
    set_size(&j, 0, 8);
    tsr_jpeg_decode(j.data, j.bytes, NULL, &image, NULL);
    assert_failed(TSR_STATUS_FORMAT, "image: ");
    assert_null(image.pixels);
    free(j.data);
}

static void test_image__shrinking_keeps_the_short_side(void **state)
{
    (void)state;
    uint8_t pixels[100 * 200 * 3];
    memset(pixels, 90, sizeof pixels);
    struct jpeg j = encode(pixels, 100, 200, 3, JCS_RGB, JCS_YCbCr, false, NULL, 0);
    static const int sides[] = {0, 101, 100, 51, 50, 26, 25, 13, 12, 1};
    static const int shrinks[] = {1, 1, 1, 1, 2, 2, 4, 4, 8, 8};
    tsr_image image = {0};
    for (int i = 0; i < 10; i++) {
        tsr_jpeg_options options = {.min_short_side = sides[i]};
        tsr_jpeg_info info;
        tsr_jpeg_decode(j.data, j.bytes, &options, &image, &info);
        assert_ok();
        assert_int_equal(info.shrink, shrinks[i]);
        assert_int_equal(info.height, 100);
        assert_int_equal(image.width, 200 / shrinks[i]);
        assert_int_equal(image.height, (100 + shrinks[i] - 1) / shrinks[i]);
        assert_pixel_near(&image, image.height - 1, image.width - 1, 90, 90, 90);
    }
    tsr_image_free(&image);
    free(j.data);
}

static void test_image__encoding_and_decoding_gives_the_picture_back(void **state)
{
    (void)state;
    tsr_image image = {0}, back = {0};
    tsr_image_resize_storage(&image, 37, 53);
    for (int i = 0; i < 37 * 53; i++) {
        image.pixels[3 * i] = (uint8_t)(i % 53 * 4);
        image.pixels[3 * i + 1] = (uint8_t)(i / 53 * 6);
        image.pixels[3 * i + 2] = 128;
    }
    void *data;
    size_t bytes;
    assert_int_equal(tsr_jpeg_encode(&image, 95, &data, &bytes), TSR_STATUS_OK);
    tsr_jpeg_decode(data, bytes, NULL, &back, NULL);
    assert_ok();
    assert_int_equal(back.height, 37);
    assert_int_equal(back.width, 53);
    assert_pixel_near(&back, 18, 26, 104, 108, 128);
    tsr_free(data);
    tsr_jpeg_write(file_path("a.jpg"), &image, 95);
    tsr_jpeg_read(file_path("a.jpg"), NULL, &back, NULL);
    assert_ok();
    tsr_jpeg_write(file_path("none/a.jpg"), &image, 95);
    assert_failed(TSR_STATUS_IO, "none/a.jpg");
    tsr_jpeg_encode(&image, 0, &data, &bytes);
    assert_failed(TSR_STATUS_ARGUMENT, "quality 0");
    tsr_image_free(&image);
    tsr_image_free(&back);
}

static void test_image__storage_is_reused(void **state)
{
    (void)state;
    tsr_image image = {0};
    tsr_image_resize_storage(&image, 20, 20);
    const uint8_t *before = image.pixels;
    tsr_image_resize_storage(&image, 10, 40);
    assert_ptr_equal(image.pixels, before);
    tsr_image_resize_storage(&image, 0, 5);
    assert_failed(TSR_STATUS_ARGUMENT, "5 x 0 pixels");
    tsr_image_resize_storage(&image, 65500, 65500);
    assert_failed(TSR_STATUS_ARGUMENT, "65500 x 65500 pixels");
    assert_int_equal(image.height, 10);
    tsr_image_free(&image);
    assert_null(image.pixels);
    tsr_image_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        files_test(test_image__grey_jpegs_get_three_equal_channels),
        files_test(test_image__cmyk_and_ycck_become_rgb),
        files_test(test_image__all_exif_orientations_show_the_same_picture),
        files_test(test_image__broken_exif_blocks_are_passed_over),
        files_test(test_image__truncated_files_give_what_is_there),
        files_test(test_image__corrupt_data_is_flagged),
        files_test(test_image__other_files_are_named),
        files_test(test_image__hostile_sizes_allocate_nothing),
        files_test(test_image__shrinking_keeps_the_short_side),
        files_test(test_image__encoding_and_decoding_gives_the_picture_back),
        files_test(test_image__storage_is_reused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
