#include "tests/ops/images.h"

/* PyTorch 2.13's F.interpolate of reference_input(f64, [1, 1, h, w]), recompute_scale_factor false where a scale is given. */
static const struct golden {
    const char *name;
    int64_t h, w, oh, ow;
    tsr_interpolate_options options;
    double y[32];
} golden[] = {
    {"nearest up", 3, 4, 5, 6, {TSR_INTERPOLATION_NEAREST}, {11,  11, 48, 85,  85, 122, 11,  11,
                                                             48,  85, 85, 122, 32, 32,  69,  106,
                                                             106, 16, 32, 32,  69, 106, 106, 16,
                                                             53,  53, 90, 0,   0,  37}},
    {"nearest down",
     5,
     7,
     3,
     4,
     {TSR_INTERPOLATION_NEAREST},
     {11, 48, 122, 69, 16, 53, 0, 74, 26, 63, 10, 84}},
    {"nearest, scale given",
     4,
     5,
     5,
     6,
     {TSR_INTERPOLATION_NEAREST, .scale = {1.3, 1.25}},
     {11, 11, 48, 85, 122, 32, 11, 11,  48, 85, 122, 32, 69, 69, 106,
      16, 53, 90, 0,  0,   37, 74, 111, 21, 58, 58,  95, 5,  42, 79}},
    {"bilinear up",
     2,
     3,
     3,
     5,
     {TSR_INTERPOLATION_BILINEAR},
     {11, 25.8, 48, 70.2, 85, 66.5, 55.9, 40, 62.2, 77, 122, 86, 32, 54.2, 69}},
    {"bilinear down",
     5,
     7,
     2,
     3,
     {TSR_INTERPOLATION_BILINEAR},
     {39.4166666666667, 30.5, 85.0833333333334, 51.9166666666667, 11.25, 97.5833333333333}},
    {"bilinear, corners",
     3,
     4,
     4,
     3,
     {TSR_INTERPOLATION_BILINEAR, .align_corners = true},
     {11, 66.5, 122, 25, 80.5, 51.3333333333333, 39, 73.3333333333333, 23, 53, 45, 37}},
    {"bilinear, scale given",
     3,
     3,
     4,
     4,
     {TSR_INTERPOLATION_BILINEAR, .scale = {1.4, 1.55}},
     {11, 28.3064516129032, 52.1774193548387, 76.0483870967742, 74.4285714285714, 57.7903225806452,
      43.0345622119816, 66.9055299539171, 117.428571428571, 75.331797235023, 31.6059907834101,
      55.4769585253456, 106, 63.9032258064516, 20.1774193548387, 44.0483870967742}},
    {"bilinear, antialias down",
     6,
     7,
     2,
     3,
     {TSR_INTERPOLATION_BILINEAR, .antialias = true},
     {48.9642857142857, 51.6764705882353, 80.5357142857143, 61.4642857142857, 51.1029411764706,
      81.6964285714286}},
    {"bilinear, antialias up",
     2,
     3,
     3,
     4,
     {TSR_INTERPOLATION_BILINEAR, .antialias = true},
     {11, 34.125, 61.875, 85, 66.5, 49.9375, 53.875, 77, 122, 65.75, 45.875, 69}},
    {"bicubic up",
     3,
     2,
     4,
     3,
     {TSR_INTERPOLATION_BICUBIC},
     {2.47667100694445, 24.1884765625, 45.9002821180556, 60.9449327256945, 82.65673828125,
      104.368543836806, 70.8194444444445, 92.53125, 114.243055555556, 24.9839952256945,
      46.69580078125, 68.4076063368056}},
    {"bicubic down",
     6,
     5,
     3,
     2,
     {TSR_INTERPOLATION_BICUBIC},
     {79.1365966796875, 82.658447265625, 57.714599609375, 74.3984375, 52.0745849609375,
      59.441162109375}},
    {"bicubic, corners",
     4,
     4,
     3,
     5,
     {TSR_INTERPOLATION_BICUBIC, .align_corners = true},
     {11, 35.71484375, 66.5, 97.28515625, 122, 42.5, 73.912109375, 73.3193359375, 41.503662109375,
      14.59375, 74, 112.109375, 66, 19.890625, 58}},
    {"bicubic, scale given",
     4,
     4,
     5,
     5,
     {TSR_INTERPOLATION_BICUBIC, .scale = {1.275, 1.275}},
     {7.26608685573423, 31.2835674062013, 63.3555636870937, 97.5312893632948,  129.762819875203,
      20.8976298708642, 43.3492629335302, 92.9166739749977, 102.232920145267,  44.5549381439866,
      39.4991073851686, 69.9458051220166, 76.9218547947533, 45.8534169810331,  12.1877887391275,
      57.4697585204786, 97.0663716166827, 49.1525053946789, -6.13099622010305, 44.8970735501555,
      72.0544078069522, 110.173754579687, 70.9450317468395, 20.2043828825263,  59.205259006717}},
    {"bicubic, antialias down",
     7,
     6,
     3,
     2,
     {TSR_INTERPOLATION_BICUBIC, .antialias = true},
     {61.0577249575552, 53.6350806451613, 66.8620429278324, 65.3075155838314, 62.2075551782682,
      69.5279074702886}},
    {"bicubic, antialias up",
     3,
     2,
     4,
     3,
     {TSR_INTERPOLATION_BICUBIC, .antialias = true},
     {4.70011783189316, 25.634328358209, 46.5685388845247, 58.6640121116636, 79.5982226379794,
      100.532433164295, 67.9755181921126, 88.9097287184284, 109.843939244744, 26.7971327572663,
      47.7313432835821, 68.6655538098979}},
};

static void test_interpolate__golden(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        const struct golden *g = &golden[i];
        tsr_shape shape = TSR_SHAPE(1, 1, g->oh, g->ow);
        tsr_tensor *x =
            reference_input(TSR_DTYPE_F64, TSR_SHAPE(1, 1, g->h, g->w), REFERENCE_CONTIGUOUS);
        tsr_tensor *x32 =
            reference_input(TSR_DTYPE_F32, TSR_SHAPE(1, 1, g->h, g->w), REFERENCE_CONTIGUOUS);
        tsr_tensor *y = tsr_from(TSR_DTYPE_F64, shape, g->y);
        print_message("%s\n", g->name);
        assert_close(tsr_interpolate(x, g->oh, g->ow, &g->options), y, 1e-12);
        assert_close(tsr_interpolate(x32, g->oh, g->ow, &g->options), y, 2e-6);
    }
}

struct arguments {
    tsr_tensor *x;
    int64_t h, w;
};

static double nearest_at(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    int64_t h = ix[2] * tsr_tensor_size(a->x, 2) / a->h,
            w = ix[3] * tsr_tensor_size(a->x, 3) / a->w;
    return image_get(a->x, ix[0], ix[1], h, w);
}

/* Half-pixel centres, the border repeated. */
static double bilinear_at(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    int64_t in[] = {tsr_tensor_size(a->x, 2), tsr_tensor_size(a->x, 3)}, at[2], next[2];
    double t[2];
    for (int d = 0; d < 2; d++) {
        double step = (double)in[d] / (double)(d == 0 ? a->h : a->w);
        double p = fmax(((double)ix[2 + d] + 0.5) * step - 0.5, 0.0);
        at[d] = (int64_t)p;
        t[d] = p - (double)at[d];
        next[d] = at[d] + 1 < in[d] ? at[d] + 1 : at[d];
    }
    return (1 - t[0]) * ((1 - t[1]) * image_get(a->x, ix[0], ix[1], at[0], at[1]) +
                         t[1] * image_get(a->x, ix[0], ix[1], at[0], next[1])) +
           t[0] * ((1 - t[1]) * image_get(a->x, ix[0], ix[1], next[0], at[1]) +
                   t[1] * image_get(a->x, ix[0], ix[1], next[0], next[1]));
}

static void test_interpolate__every_size(void **state)
{
    (void)state;
    for (int64_t in = 1; in <= 9; in++) {
        for (int64_t out = 1; out <= 12; out++) {
            tsr_scope scope = tsr_scope_open();
            struct arguments a = {.h = out, .w = 13 - out};
            a.x = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(2, 2, in, 10 - in), 1);
            tsr_shape y = TSR_SHAPE(2, 2, a.h, a.w);
            assert_elements(tsr_interpolate(a.x, a.h, a.w, NULL), y, nearest_at, &a);
            assert_elements_close(
                tsr_interpolate(a.x, a.h, a.w,
                                &(tsr_interpolate_options){TSR_INTERPOLATION_BILINEAR}),
                y, bilinear_at, &a, 1e-14);
            tsr_scope_close(&scope, TSR_NO_TENSORS);
        }
    }
}

/* Weights sum to 1: a constant stays what it is, in every mode, far scales too. */
static void test_interpolate__constants_stay(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_full(TSR_DTYPE_F64, TSR_SHAPE(1, 2, 5, 4), 3.0);
    for (int i = 0; i < 48; i++) {
        tsr_interpolate_options options = {(tsr_interpolation)(i % 3)};
        options.align_corners = i % 3 > 0 && i / 3 % 2 > 0;
        options.antialias = i % 3 > 0 && i / 6 % 2 > 0;
        int64_t h = i / 12 % 2 == 0 ? 2 : 11;
        if (i / 24 > 0 && !options.antialias)
            options.scale[0] = options.scale[1] = h == 2 ? 0.01 : 70.0;
        tsr_tensor *y = tsr_interpolate(x, h, 7, &options);
        assert_close(y, tsr_full(TSR_DTYPE_F64, TSR_SHAPE(1, 2, h, 7), 3.0), 1e-14);
    }
}

/* Where sizes do not change, neither does x, also with a scale beside 1 (bicubic alone takes it at its word). */
static void test_interpolate__same_size(void **state)
{
    (void)state;
    tsr_tensor *x = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(1, 2, 5, 4), 1);
    for (int i = 0; i < 6; i++) {
        tsr_interpolate_options options = {(tsr_interpolation)(i % 3), .scale = {1.1, 1.2}};
        options.antialias = i / 3 > 0 && i % 3 > 0;
        tsr_tensor *y = tsr_interpolate(x, 5, 4, &options);
        if (i == TSR_INTERPOLATION_BICUBIC) {
            assert_true(fabs(tsr_tensor_get(y, 0) - tsr_tensor_get(x, 0)) > 1e-3);
        } else {
            assert_close(y, x, 1e-15);
        }
    }
}

static void test_interpolate__large_gradients(void **state)
{
    (void)state;
    for (int mode = 0; mode < 3; mode++) {
        tsr_tensor *x = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(2, 16, 37, 29), 1);
        tsr_require_grad(x, true);
        tsr_tape *tape = tsr_tape_open();
        tsr_tensor *y = tsr_interpolate(
            x, 23, 41, &(tsr_interpolate_options){(tsr_interpolation)mode, .antialias = mode > 1});
        assert_gradients_agree(tape, y, TSR_TENSORS(x), 1e-13);
        tsr_tape_close(&tape);
    }
}

static void test_interpolate__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 4, 5, 6));
    assert_null(tsr_interpolate(x, 5, 0, NULL));
    assert_failed(TSR_STATUS_SHAPE,
                  "interpolate: from 5 x 6 to 5 x 0, expected sizes of 1 or more");
    assert_null(tsr_interpolate(x, 5, 5, &(tsr_interpolate_options){.antialias = true}));
    assert_failed(TSR_STATUS_ARGUMENT,
                  "interpolate: antialias goes with bilinear or bicubic, not with nearest");
    assert_null(tsr_interpolate(x, 5, 5, &(tsr_interpolate_options){.align_corners = true}));
    assert_failed(TSR_STATUS_ARGUMENT, "interpolate: align_corners goes with bilinear or bicubic");
    assert_null(tsr_interpolate(x, 5, 5, &(tsr_interpolate_options){(tsr_interpolation)3}));
    assert_failed(TSR_STATUS_ARGUMENT, "interpolate: mode is 3, expected a tsr_interpolation");
    assert_null(tsr_interpolate(x, 5, 5, &(tsr_interpolate_options){.scale = {1.0, -1.0}}));
    assert_failed(TSR_STATUS_ARGUMENT, "interpolate: scale is -1, expected 0 or a factor above 0");
    assert_null(tsr_interpolate(x, 5, 5, &(tsr_interpolate_options){.scale = {NAN, 1.0}}));
    assert_failed(TSR_STATUS_ARGUMENT, "interpolate: scale is nan");
    assert_null(tsr_interpolate(tsr_zeros(TSR_DTYPE_BF16, TSR_SHAPE(2, 4, 5, 6)), 5, 5, NULL));
    assert_failed(TSR_STATUS_DTYPE, "interpolate: x is bf16, expected f32 or f64");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_interpolate__golden),          tsr_test(test_interpolate__every_size),
        tsr_test(test_interpolate__constants_stay),  tsr_test(test_interpolate__same_size),
        tsr_test(test_interpolate__large_gradients), tsr_test(test_interpolate__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
