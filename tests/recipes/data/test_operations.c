/*
 * RandAugment's operations against the bytes that Pillow 9.4 gave (golden/operations.safetensors), its draws and those of
 * random erasing against their distributions.
 */
#include "tests/recipes/data/files.h"

#include "serialization/serialization.h"

#include <math.h>

static const uint8_t fill[3] = {124, 116, 104};

static void read_image(tsr_safetensors *file, const char *name, tsr_image *image)
{
    tsr_tensor *t = tsr_safetensors_tensor(file, name);
    assert_ok();
    int h = (int)tsr_tensor_size(t, 0), w = (int)tsr_tensor_size(t, 1);
    assert_int_equal(tsr_image_resize_storage(image, h, w), TSR_STATUS_OK);
    memcpy(image->pixels, tsr_tensor_data(t), (size_t)h * (size_t)w * 3);
}

static void autocontrast(tsr_image *image, double unused)
{
    (void)unused;
    tsr_image_autocontrast(image);
}

static void equalize(tsr_image *image, double unused)
{
    (void)unused;
    tsr_image_equalize(image);
}

static void posterize(tsr_image *image, double bits)
{
    tsr_image_posterize(image, (int)bits);
}

static void solarize(tsr_image *image, double threshold)
{
    tsr_image_solarize(image, (int)threshold);
}

static void solarize_add(tsr_image *image, double add)
{
    tsr_image_solarize_add(image, (int)add, 128);
}

static void sharpness(tsr_image *image, double factor)
{
    assert_int_equal(tsr_image_sharpness(image, factor), TSR_STATUS_OK);
}

static void rotate(tsr_image *image, double degrees)
{
    assert_int_equal(tsr_image_rotate(image, degrees, fill), TSR_STATUS_OK);
}

static void affine(tsr_image *image, int place, double value)
{
    double map[6] = {1, 0, 0, 0, 1, 0};
    map[place] = value;
    assert_int_equal(tsr_image_affine(image, map, fill), TSR_STATUS_OK);
}

static void shear_x(tsr_image *image, double factor)
{
    affine(image, 1, factor);
}

static void shear_y(tsr_image *image, double factor)
{
    affine(image, 3, factor);
}

static void translate_x(tsr_image *image, double share)
{
    affine(image, 2, share * image->width);
}

static void translate_y(tsr_image *image, double share)
{
    affine(image, 5, share * image->height);
}

static void test_operations__bytes_are_pillows(void **state)
{
    (void)state;
    static const struct {
        const char *from, *name;
        void (*f)(tsr_image *, double);
        double value;
    } cases[] = {
        {"image", "autocontrast", autocontrast, 0},
        {"image", "equalize", equalize, 0},
        {"image", "invert", solarize, 0},
        {"image", "posterize_0", posterize, 0},
        {"image", "posterize_1", posterize, 1},
        {"image", "posterize_4", posterize, 4},
        {"image", "solarize_26", solarize, 26},
        {"image", "solarize_add_99", solarize_add, 99},
        {"image", "color_0.19", tsr_image_saturation, 0.19},
        {"image", "color_1.81", tsr_image_saturation, 1.81},
        {"image", "contrast_0.19", tsr_image_contrast, 0.19},
        {"image", "contrast_1.81", tsr_image_contrast, 1.81},
        {"image", "brightness_0.19", tsr_image_brightness, 0.19},
        {"image", "brightness_1.81", tsr_image_brightness, 1.81},
        {"image", "sharpness_0.19", sharpness, 0.19},
        {"image", "sharpness_1.81", sharpness, 1.81},
        {"image", "rotate_27.3", rotate, 27.3},
        {"image", "rotate_-12.5", rotate, -12.5},
        {"image", "shear_x_0.27", shear_x, 0.27},
        {"image", "shear_y_-0.27", shear_y, -0.27},
        {"image", "translate_x_0.405", translate_x, 0.405},
        {"image", "translate_y_-0.405", translate_y, -0.405},
        {"low", "low_autocontrast", autocontrast, 0},
        {"low", "low_equalize", equalize, 0},
        {"flat", "flat_autocontrast", autocontrast, 0},
        {"flat", "flat_equalize", equalize, 0},
        {"flat", "flat_sharpness_1.81", sharpness, 1.81},
    };
    char path[1024];
    snprintf(path, sizeof path, "%s/operations.safetensors", getenv("TSR_GOLDEN"));
    tsr_safetensors *file = tsr_safetensors_open(path);
    assert_ok();
    tsr_image image = {0}, want = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        read_image(file, cases[i].from, &image);
        cases[i].f(&image, cases[i].value);
        read_image(file, cases[i].name, &want);
        int n = want.height * want.width * 3, worst = 0, where = 0;
        assert_int_equal(image.height * image.width * 3, n);
        for (int k = 0; k < n; k++) {
            int d = abs(image.pixels[k] - want.pixels[k]);
            if (d > worst) worst = d, where = k;
        }
        if (worst > 0) fail_msg("%s: differs by up to %d, at byte %d", cases[i].name, worst, where);
    }
    tsr_image_free(&image);
    tsr_image_free(&want);
    tsr_safetensors_close(&file);
}

static tsr_image ramp(int height, int width)
{
    tsr_image image = {0};
    assert_int_equal(tsr_image_resize_storage(&image, height, width), TSR_STATUS_OK);
    for (int i = 0; i < height * width * 3; i++) image.pixels[i] = (uint8_t)(i * 37 % 256);
    return image;
}

static bool same(const tsr_image *a, const tsr_image *b)
{
    return memcmp(a->pixels, b->pixels, (size_t)a->height * (size_t)a->width * 3) == 0;
}

static void test_operations__sizes_of_one_and_two_pixels(void **state)
{
    (void)state;
    for (int h = 1; h <= 2; h++) {
        for (int w = 1; w <= 2; w++) {
            for (uint32_t seed = 0; seed < 200; seed++) {
                tsr_image image = ramp(h, w);
                tsr_rng rng = tsr_rng_make(seed, 0, 0, 0);
                assert_int_equal(tsr_image_randaugment(&image, 2, 9.0, 0.5, fill, &rng),
                                 TSR_STATUS_OK);
                assert_int_equal(image.height, h);
                tsr_image_free(&image);
            }
        }
    }
}

/* An operation runs in half of the layers; 2 of 15 colours-only ones may still leave a picture as it is. */
static void test_operations__randaugment_draws_as_timm(void **state)
{
    (void)state;
    enum { N = 2000 };
    int changed = 0, none = 0;
    for (uint32_t seed = 0; seed < N; seed++) {
        tsr_image image = ramp(12, 16), before = ramp(12, 16);
        tsr_rng rng = tsr_rng_make(seed, 0, 0, 0);
        assert_int_equal(tsr_image_randaugment(&image, 1, 9.0, 0.5, fill, &rng), TSR_STATUS_OK);
        changed += !same(&image, &before);
        tsr_rng again = tsr_rng_make(seed, 0, 0, 0);
        tsr_image copy = ramp(12, 16);
        tsr_image_randaugment(&copy, 1, 9.0, 0.5, fill, &again);
        assert_true(same(&image, &copy));
        rng = tsr_rng_make(seed, 0, 0, 0);
        tsr_image_randaugment(&before, 0, 9.0, 0.5, fill, &rng);
        none += same(&before, &copy);
        tsr_image_free(&image);
        tsr_image_free(&before);
        tsr_image_free(&copy);
    }
    /* This picture already spans 0 .. 255 (autocontrast) evenly (equalize may keep it): 13 to 15 of 15 change it. */
    assert_true(changed > N * 0.5 * 13 / 15 - 100 && changed < N * 0.5 + 100);
    assert_int_equal(none, N - changed);
}

static void test_operations__erasing_covers_the_asked_area(void **state)
{
    (void)state;
    enum { N = 1000, SIZE = 32 };
    static float image[3 * SIZE * SIZE];
    double area = 0.0, sum = 0.0, squares = 0.0;
    int erased = 0, noise = 0;
    for (uint32_t seed = 0; seed < N; seed++) {
        for (int i = 0; i < 3 * SIZE * SIZE; i++) image[i] = 100.0f;
        tsr_rng rng = tsr_rng_make(seed, 0, 0, 0);
        if (!tsr_view_erase(image, 3, SIZE, &rng)) continue;
        int cells = 0;
        for (int i = 0; i < 3 * SIZE * SIZE; i++) {
            if (image[i] == 100.0f) continue;
            cells++;
            noise++;
            sum += image[i];
            squares += image[i] * image[i];
        }
        double share = cells / (3.0 * SIZE * SIZE);
        assert_true(share > 0.01 && share < 0.37);
        area += share;
        erased++;
    }
    assert_true(erased > 0.99 * N);
    /* Uniform in 0.02 .. 1/3, the largest thin ones refused. */
    assert_true(fabs(area / erased - 0.175) < 0.01);
    assert_true(fabs(sum / noise) < 0.02 && fabs(squares / noise - 1.0) < 0.02);
}

static void test_operations__the_view_draws_them(void **state)
{
    (void)state;
    enum { SIZE = 24, N = 300 };
    static float a[3 * SIZE * SIZE], b[3 * SIZE * SIZE];
    tsr_image image = ramp(30, 40);
    tsr_view_spec spec = tsr_view_finetune(SIZE), plain = spec;
    tsr_views views = {&spec, 1};
    assert_int_equal(tsr_views_check(&views), TSR_STATUS_OK);
    plain.erase_p = 0.0;
    int erased = 0;
    for (uint32_t seed = 0; seed < N; seed++) {
        tsr_rng rng = tsr_rng_make(seed, 0, 0, 0), same_rng = rng;
        assert_int_equal(tsr_view_apply(&spec, &image, &rng, a), TSR_STATUS_OK);
        assert_int_equal(tsr_view_apply(&plain, &image, &same_rng, b), TSR_STATUS_OK);
        erased += memcmp(a, b, sizeof a) != 0;
    }
    assert_true(erased > N / 4 - 30 && erased < N / 4 + 30);
    spec.rand_magnitude = 11.0;
    tsr_views_check(&views);
    assert_failed(TSR_STATUS_ARGUMENT, "magnitude 11");
    tsr_image_free(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        files_test(test_operations__bytes_are_pillows),
        files_test(test_operations__sizes_of_one_and_two_pixels),
        files_test(test_operations__randaugment_draws_as_timm),
        files_test(test_operations__erasing_covers_the_asked_area),
        files_test(test_operations__the_view_draws_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
