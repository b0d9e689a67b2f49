/*
 * Transforms against the bytes that Pillow 9.4 and torchvision 0.14 gave
 * (golden/augment.safetensors, made by running them on golden/sample.jpg), and the draws of the
 * pipelines against their distributions.
 */
#include "tests/recipes/data/files.h"

#include "serialization/serialization.h"

static const char *golden(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", getenv("TSR_GOLDEN"), name);
    return path;
}

static tsr_safetensors *open_golden(void)
{
    tsr_safetensors *file = tsr_safetensors_open(golden("augment.safetensors"));
    assert_ok();
    return file;
}

static void read_image(tsr_safetensors *file, const char *name, tsr_image *image)
{
    tsr_tensor *t = tsr_safetensors_tensor(file, name);
    assert_ok();
    int h = (int)tsr_tensor_size(t, 0), w = (int)tsr_tensor_size(t, 1);
    assert_int_equal(tsr_image_resize_storage(image, h, w), TSR_STATUS_OK);
    memcpy(image->pixels, tsr_tensor_data(t), (size_t)h * (size_t)w * 3);
}

/* Every byte is the golden one. */
static void assert_image_is(tsr_safetensors *file, const char *name, const tsr_image *image)
{
    tsr_image want = {0};
    read_image(file, name, &want);
    assert_int_equal(image->height, want.height);
    assert_int_equal(image->width, want.width);
    int worst = 0;
    double sum = 0.0;
    int n = want.height * want.width * 3;
    for (int i = 0; i < n; i++) {
        int d = abs(image->pixels[i] - want.pixels[i]);
        if (d > worst) worst = d;
        sum += d;
    }
    if (worst > 0) fail_msg("%s: differs by up to %d, %.4f on average", name, worst, sum / n);
    tsr_image_free(&want);
}

static void test_augment__jpeg_decodes_to_pillows_bytes(void **state)
{
    (void)state;
    tsr_safetensors *file = open_golden();
    tsr_image image = {0};
    tsr_jpeg_info info;
    assert_int_equal(tsr_jpeg_read(golden("sample.jpg"), NULL, &image, &info), TSR_STATUS_OK);
    assert_null(info.warning);
    assert_image_is(file, "decoded", &image);
    tsr_image_free(&image);
    tsr_safetensors_close(&file);
}

static void test_augment__resized_crops_are_pillows(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        tsr_box box;
        int size;
    } cases[] = {
        {"resized_crop_down", {10, 20, 150, 180}, 64},
        {"resized_crop_up", {60, 70, 21, 33}, 64},
        {"resized_crop_full", {0, 0, 197, 263}, 96},
        {"resized_crop_thin", {5, 3, 40, 250}, 48},
    };
    tsr_safetensors *file = open_golden();
    tsr_image image = {0}, out = {0};
    read_image(file, "decoded", &image);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(tsr_image_resized_crop(&image, cases[i].box, cases[i].size, cases[i].size,
                                                TSR_RESAMPLE_BICUBIC, &out),
                         TSR_STATUS_OK);
        assert_image_is(file, cases[i].name, &out);
    }
    tsr_image_resize_short(&image, 128, TSR_RESAMPLE_BICUBIC, &out);
    assert_image_is(file, "resize_256_short_side_bicubic", &out);
    tsr_image_center_crop(&out, 112, 112, &image);
    assert_image_is(file, "center_crop_112", &image);
    assert_ok();
    tsr_image_free(&image);
    tsr_image_free(&out);
    tsr_safetensors_close(&file);
}

static void test_augment__lanczos_is_pillows(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        tsr_box box;
        int size;
    } cases[] = {
        {"lanczos_down", {10, 20, 150, 180}, 40},
        {"lanczos_up", {60, 70, 21, 33}, 48},
        {"lanczos_thin", {5, 3, 40, 250}, 36},
    };
    tsr_safetensors *decoded = open_golden();
    tsr_safetensors *file = tsr_safetensors_open(golden("lanczos.safetensors"));
    assert_ok();
    tsr_image image = {0}, out = {0};
    read_image(decoded, "decoded", &image);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(tsr_image_resized_crop(&image, cases[i].box, cases[i].size, cases[i].size,
                                                TSR_RESAMPLE_LANCZOS, &out),
                         TSR_STATUS_OK);
        assert_image_is(file, cases[i].name, &out);
    }
    tsr_image_free(&image);
    tsr_image_free(&out);
    tsr_safetensors_close(&file);
    tsr_safetensors_close(&decoded);
}

static void blur(tsr_image *image, double sigma)
{
    assert_int_equal(tsr_image_gaussian_blur(image, sigma), TSR_STATUS_OK);
}

static void hflip(tsr_image *image, double unused)
{
    (void)unused;
    tsr_image_hflip(image);
}

static void grayscale(tsr_image *image, double unused)
{
    (void)unused;
    tsr_image_grayscale(image);
}

static void solarize(tsr_image *image, double threshold)
{
    tsr_image_solarize(image, (int)threshold);
}

static void test_augment__pixel_transforms_are_pillows(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        void (*f)(tsr_image *, double);
        double value;
    } cases[] = {
        {"hflip", hflip, 0},
        {"grayscale", grayscale, 0},
        {"solarize_128", solarize, 128},
        {"brightness_0.6", tsr_image_brightness, 0.6},
        {"brightness_1.4", tsr_image_brightness, 1.4},
        {"contrast_0.6", tsr_image_contrast, 0.6},
        {"contrast_1.4", tsr_image_contrast, 1.4},
        {"saturation_0.8", tsr_image_saturation, 0.8},
        {"saturation_1.2", tsr_image_saturation, 1.2},
        {"hue_-0.1", tsr_image_hue, -0.1},
        {"hue_0.05", tsr_image_hue, 0.05},
        {"hue_0.1", tsr_image_hue, 0.1},
        {"gaussian_blur_0.1", blur, 0.1},
        {"gaussian_blur_0.5", blur, 0.5},
        {"gaussian_blur_1.3", blur, 1.3},
        {"gaussian_blur_2.0", blur, 2.0},
    };
    tsr_safetensors *file = open_golden();
    tsr_image image = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        read_image(file, "resized_crop_down", &image);
        cases[i].f(&image, cases[i].value);
        assert_image_is(file, cases[i].name, &image);
    }
    tsr_image_free(&image);
    tsr_safetensors_close(&file);
}

static tsr_image random_image(int height, int width, bool grey, uint64_t seed)
{
    tsr_image image = {0};
    assert_int_equal(tsr_image_resize_storage(&image, height, width), TSR_STATUS_OK);
    tsr_rng rng = tsr_rng_make(seed, 0, 0, 0);
    for (int i = 0; i < height * width; i++) {
        for (int c = 0; c < 3; c++) {
            bool copy = grey && c > 0;
            image.pixels[3 * i + c] =
                copy ? image.pixels[3 * i] : (uint8_t)tsr_rng_below(&rng, 256);
        }
    }
    return image;
}

static bool same_pixels(const tsr_image *a, const tsr_image *b)
{
    return a->height == b->height && a->width == b->width &&
           memcmp(a->pixels, b->pixels, (size_t)a->height * (size_t)a->width * 3) == 0;
}

static void test_augment__the_grey_flag_changes_no_pixel(void **state)
{
    (void)state;
    tsr_image a = random_image(19, 23, true, 5), b = {0};
    tsr_image_copy(&a, &b);
    b.grey = true;
    static void (*const functions[])(tsr_image *, double) = {tsr_image_saturation, tsr_image_hue,
                                                             grayscale};
    for (int i = 0; i < 3; i++) {
        functions[i](&a, 0.3);
        functions[i](&b, 0.3);
        assert_true(same_pixels(&a, &b));
    }
    tsr_image_free(&a);
    tsr_image_free(&b);
}

/* The reference for sizes that the golden file does not have: the mean of one pixel stays, a
 * constant stays constant. */
static void test_augment__resize_keeps_constants_at_any_size(void **state)
{
    (void)state;
    static const int sizes[] = {1, 2, 3, 7, 28, 97};
    tsr_image image = {0}, out = {0};
    for (int a = 0; a < 6; a++) {
        for (int b = 0; b < 6; b++) {
            for (int value = 0; value < 256; value += 51) {
                for (int kind = 0; kind < 2; kind++) {
                    tsr_image_resize_storage(&image, sizes[a], sizes[5 - a]);
                    memset(image.pixels, value, (size_t)sizes[a] * (size_t)sizes[5 - a] * 3);
                    tsr_box box = {0, 0, image.height, image.width};
                    tsr_image_resized_crop(&image, box, sizes[b], sizes[b], (tsr_resample)kind,
                                           &out);
                    assert_ok();
                    for (int i = 0; i < sizes[b] * sizes[b] * 3; i++) {
                        assert_int_equal(out.pixels[i], value);
                    }
                }
            }
        }
    }
    tsr_image_free(&image);
    tsr_image_free(&out);
}

static void test_augment__bilinear_halves_by_a_tent(void **state)
{
    (void)state;
    /* Halving a row of 4: support 2, weights (.5 - .. ) of a stretched tent, computed by hand. */
    tsr_image image = {0}, out = {0};
    tsr_image_resize_storage(&image, 1, 4);
    static const uint8_t row[4] = {0, 80, 160, 240};
    for (int i = 0; i < 12; i++) image.pixels[i] = row[i / 3];
    tsr_image_resized_crop(&image, (tsr_box){0, 0, 1, 4}, 1, 2, TSR_RESAMPLE_BILINEAR, &out);
    assert_ok();
    /* Centre 1: samples at .5, 1.5, 2.5 weigh .75, .75, .25 of 1.75. */
    int want = (int)floor((0.75 * 0 + 0.75 * 80 + 0.25 * 160) / 1.75 + 0.5);
    assert_int_equal(out.pixels[0], want);
    assert_int_equal(out.pixels[3], 240 - want);
    tsr_image_free(&image);
    tsr_image_free(&out);
}

static void test_augment__center_crop_pads_small_images(void **state)
{
    (void)state;
    tsr_image image = random_image(3, 9, false, 1), out = {0};
    tsr_image_center_crop(&image, 7, 5, &out);
    assert_ok();
    for (int y = 0; y < 7; y++) {
        for (int x = 0; x < 15; x++) {
            int want = y < 2 || y >= 5 ? 0 : image.pixels[(y - 2) * 27 + 6 + x];
            assert_int_equal(out.pixels[y * 15 + x], want);
        }
    }
    tsr_image_free(&image);
    tsr_image_free(&out);
}

static void test_augment__bad_boxes_and_sigmas_are_named(void **state)
{
    (void)state;
    tsr_image image = random_image(8, 8, false, 1), out = {0};
    tsr_image_resized_crop(&image, (tsr_box){4, 0, 5, 8}, 4, 4, TSR_RESAMPLE_BICUBIC, &out);
    assert_failed(TSR_STATUS_ARGUMENT, "box 8 x 5 at (0, 4)");
    tsr_image_resized_crop(&image, (tsr_box){0, 0, 0, 8}, 4, 4, TSR_RESAMPLE_BICUBIC, &out);
    assert_failed(TSR_STATUS_ARGUMENT, "box");
    tsr_image_gaussian_blur(&image, -1.0);
    assert_failed(TSR_STATUS_ARGUMENT, "sigma is -1");
    tsr_image_gaussian_blur(&image, (double)NAN);
    assert_failed(TSR_STATUS_ARGUMENT, "sigma");
    tsr_image_free(&image);
    tsr_image_free(&out);
}

static void test_augment__normalize_writes_planes(void **state)
{
    (void)state;
    tsr_image image = random_image(3, 5, false, 9);
    static const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};
    float out[45];
    tsr_image_normalize(&image, mean, std, out);
    for (int c = 0; c < 3; c++) {
        for (int i = 0; i < 15; i++) {
            float x = (float)image.pixels[3 * i + c] / 255.0f;
            assert_true(out[15 * c + i] == (x - mean[c]) / std[c]);
        }
    }
    tsr_image_free(&image);
}

static void test_augment__a_view_is_a_function_of_its_generator(void **state)
{
    (void)state;
    tsr_image image = random_image(40, 50, false, 2);
    tsr_view_spec spec = tsr_view_ibot_global2(24);
    float a[3 * 24 * 24], b[3 * 24 * 24];
    int equal = 0;
    for (uint32_t i = 0; i < 20; i++) {
        tsr_rng x = tsr_rng_make(7, 0, i, 1), y = x, z = tsr_rng_make(7, 1, i, 1);
        tsr_view_apply(&spec, &image, &x, a);
        tsr_view_apply(&spec, &image, &y, b);
        assert_memory_equal(a, b, sizeof a);
        tsr_view_apply(&spec, &image, &z, b);
        equal += memcmp(a, b, sizeof a) == 0;
    }
    assert_ok();
    assert_int_equal(equal, 0);
    tsr_image_free(&image);
}

/* Crops of a square image: inside, of the asked area and ratio; uniform area in the mean. */
static void test_augment__crops_have_the_asked_area_and_ratio(void **state)
{
    (void)state;
    tsr_view_spec spec = tsr_view_ibot_local(96, 1);
    double sum_area = 0.0, sum_log_ratio = 0.0, square_log_ratio = 0.0;
    enum { DRAWS = 20000 };
    for (uint32_t i = 0; i < DRAWS; i++) {
        tsr_rng rng = tsr_rng_make(3, 0, i, 0);
        tsr_box box = tsr_view_crop(&spec, 1000, 1000, &rng);
        assert_true(box.top >= 0 && box.left >= 0 && box.top + box.height <= 1000 &&
                    box.left + box.width <= 1000);
        double area = (double)box.height * box.width / 1e6;
        double ratio = (double)box.width / box.height;
        assert_true(area > 0.05 * 0.99 && area < 0.25 * 1.01);
        assert_true(ratio > 0.75 * 0.99 && ratio < 4.0 / 3.0 * 1.01);
        sum_area += area;
        sum_log_ratio += log(ratio);
        square_log_ratio += log(ratio) * log(ratio);
    }
    /* Deviations of the means: .2 / sqrt(12 * 20000) = 4e-4, and .575 / sqrt(12 * 20000) = 1.2e-3.
     */
    assert_true(fabs(sum_area / DRAWS - 0.15) < 2e-3);
    assert_true(fabs(sum_log_ratio / DRAWS) < 6e-3);
    double width = log(16.0 / 9.0);
    assert_true(fabs(square_log_ratio / DRAWS - width * width / 12.0) < 2e-3);
}

static void test_augment__long_images_fall_back_to_the_centre(void **state)
{
    (void)state;
    tsr_view_spec spec = tsr_view_ibot_global1(32);
    tsr_rng rng = tsr_rng_make(1, 0, 0, 0);
    tsr_box box = tsr_view_crop(&spec, 10, 1000, &rng);
    assert_int_equal(box.height, 10);
    assert_int_equal(box.width, 13); /* 10 * 4/3 */
    assert_int_equal(box.left, (1000 - 13) / 2);
    box = tsr_view_crop(&spec, 1000, 10, &rng);
    assert_int_equal(box.width, 10);
    assert_int_equal(box.height, 13); /* 10 / (3/4) */
    assert_int_equal(box.top, (1000 - 13) / 2);
    box = tsr_view_crop(&spec, 1, 1, &rng);
    assert_int_equal(box.height, 1);
    assert_int_equal(box.width, 1);
}

/* Switches all but one part of a pipeline off and counts how often it changes the image. */
static double share_changed(tsr_view_spec spec)
{
    tsr_image image = random_image(16, 16, false, 4), out = {0};
    spec.scale_lo = spec.scale_hi = 1.0;
    spec.ratio_lo = spec.ratio_hi = 1.0;
    int changed = 0;
    enum { DRAWS = 4000 };
    for (uint32_t i = 0; i < DRAWS; i++) {
        tsr_rng rng = tsr_rng_make(11, 0, i, 0);
        assert_int_equal(tsr_view_image(&spec, &image, &rng, &out), TSR_STATUS_OK);
        changed += !same_pixels(&image, &out);
    }
    tsr_image_free(&image);
    tsr_image_free(&out);
    return (double)changed / DRAWS;
}

static void test_augment__ibot_pipelines_have_the_authors_probabilities(void **state)
{
    (void)state;
    static const struct {
        double blur, solarize;
    } want[3] = {{1.0, 0.0}, {0.1, 0.2}, {0.5, 0.0}};
    for (int i = 0; i < 3; i++) {
        tsr_view_spec spec = i == 0   ? tsr_view_ibot_global1(16)
                             : i == 1 ? tsr_view_ibot_global2(16)
                                      : tsr_view_ibot_local(16, 8);
        assert_string_equal(spec.name, i == 2 ? "local" : "global");
        tsr_view_spec none = spec;
        none.flip_p = none.jitter_p = none.gray_p = none.blur_p = none.solarize_p = 0.0;
        assert_true(share_changed(none) == 0.0);
        tsr_view_spec only = none;
        only.flip_p = spec.flip_p;
        assert_true(fabs(share_changed(only) - 0.5) < 0.04);
        only = none, only.jitter_p = spec.jitter_p;
        assert_true(fabs(share_changed(only) - 0.8) < 0.04);
        only = none, only.gray_p = spec.gray_p;
        assert_true(fabs(share_changed(only) - 0.2) < 0.04);
        /* The smallest blurs round to nothing. */
        only = none, only.blur_p = spec.blur_p, only.blur_lo = 0.5, only.blur_hi = spec.blur_hi;
        assert_true(fabs(share_changed(only) - want[i].blur) < 0.04);
        only = none, only.solarize_p = spec.solarize_p;
        assert_true(fabs(share_changed(only) - want[i].solarize) < 0.04);
    }
}

static void test_augment__eval_view_is_resize_and_centre_crop(void **state)
{
    (void)state;
    tsr_image image = random_image(300, 400, false, 6), resized = {0}, want = {0}, got = {0};
    tsr_view_spec spec = tsr_view_eval(224);
    tsr_rng rng = tsr_rng_make(1, 0, 0, 0);
    tsr_view_image(&spec, &image, &rng, &got);
    tsr_image_resize_short(&image, 256, TSR_RESAMPLE_BICUBIC, &resized);
    tsr_image_center_crop(&resized, 224, 224, &want);
    assert_ok();
    assert_true(same_pixels(&got, &want));
    tsr_image_free(&image);
    tsr_image_free(&resized);
    tsr_image_free(&want);
    tsr_image_free(&got);
}

static void test_augment__min_short_side_covers_every_crop(void **state)
{
    (void)state;
    tsr_view_spec specs[] = {tsr_view_ibot_global1(64), tsr_view_ibot_local(32, 4)};
    tsr_views views = {specs, 2};
    int side = tsr_views_min_short_side(&views);
    for (uint32_t i = 0; i < 2000; i++) {
        for (int v = 0; v < 2; v++) {
            tsr_rng rng = tsr_rng_make(8, 0, i, (uint32_t)v);
            tsr_box box = tsr_view_crop(&specs[v], side, side + (int)(i % 50), &rng);
            /* One pixel of rounding. */
            assert_true(box.height >= specs[v].size - 1 && box.width >= specs[v].size - 1);
        }
    }
    assert_true(side < 200);
}

static void test_augment__bad_specs_are_named(void **state)
{
    (void)state;
    tsr_view_spec specs[2] = {tsr_view_ibot_global1(64), tsr_view_ibot_global2(64)};
    tsr_views views = {specs, 2};
    assert_int_equal(tsr_views_check(&views), TSR_STATUS_OK);
    specs[1].size = 96;
    tsr_views_check(&views);
    assert_failed(TSR_STATUS_ARGUMENT, "sizes 64 and 96");
    specs[1].size = 64, specs[1].blur_p = 1.5;
    tsr_views_check(&views);
    assert_failed(TSR_STATUS_ARGUMENT, "probability");
    specs[1].blur_p = 0.1, specs[1].scale_lo = 0.5, specs[1].scale_hi = 0.4;
    tsr_views_check(&views);
    assert_failed(TSR_STATUS_ARGUMENT, "scale 0.5 to 0.4");
    specs[1].scale_hi = 1.0, specs[1].mask = (tsr_mask_spec){TSR_MASK_BLOCK, 7, 1, {0.3}, {0}, 0};
    tsr_views_check(&views);
    assert_failed(TSR_STATUS_ARGUMENT, "patch 7 does not divide");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        files_test(test_augment__jpeg_decodes_to_pillows_bytes),
        files_test(test_augment__resized_crops_are_pillows),
        files_test(test_augment__lanczos_is_pillows),
        files_test(test_augment__pixel_transforms_are_pillows),
        files_test(test_augment__the_grey_flag_changes_no_pixel),
        files_test(test_augment__resize_keeps_constants_at_any_size),
        files_test(test_augment__bilinear_halves_by_a_tent),
        files_test(test_augment__center_crop_pads_small_images),
        files_test(test_augment__bad_boxes_and_sigmas_are_named),
        files_test(test_augment__normalize_writes_planes),
        files_test(test_augment__a_view_is_a_function_of_its_generator),
        files_test(test_augment__crops_have_the_asked_area_and_ratio),
        files_test(test_augment__long_images_fall_back_to_the_centre),
        files_test(test_augment__ibot_pipelines_have_the_authors_probabilities),
        files_test(test_augment__eval_view_is_resize_and_centre_crop),
        files_test(test_augment__min_short_side_covers_every_crop),
        files_test(test_augment__bad_specs_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
