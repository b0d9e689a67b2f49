/* Every instruction set gives the bytes of plain scalar code, at any length. */
#include "../../test.h"
#include "recipes/data/loops.h"

enum { N = 3000 };

static uint8_t pixels[3 * N];

static void fill(uint32_t seed)
{
    tsr_rng rng = tsr_rng_make(7, seed, 0, 0);
    for (int i = 0; i < N; i++) {
        /* Grey, nearly grey, saturated, dark and any. */
        int base = (int)tsr_rng_below(&rng, 256), spread = 1 << tsr_rng_below(&rng, 9);
        for (int c = 0; c < 3; c++) {
            int v = base + (int)tsr_rng_below(&rng, spread) - spread / 2;
            pixels[3 * i + c] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
        }
    }
}

static uint8_t plain_blend(int from, int to, float factor)
{
    float x = (float)from + factor * (float)(to - from);
    return x <= 0.0f ? 0 : x >= 255.0f ? 255 : (uint8_t)x;
}

/* Pillow's rgb2hsv and hsv2rgb, a pixel at a time. */
static void plain_hue(uint8_t *p, unsigned shift)
{
    int r = p[0], g = p[1], b = p[2];
    int max = r > g ? r : g, min = r < g ? r : g;
    if (b > max) max = b;
    if (b < min) min = b;
    if (max == min) return;
    float chroma = (float)(max - min), sixths;
    float rc = (float)(max - r) / chroma, gc = (float)(max - g) / chroma;
    float bc = (float)(max - b) / chroma;
    if (r == max) {
        sixths = bc - gc;
    } else if (g == max) {
        sixths = (float)(2.0 + (double)rc - (double)bc);
    } else {
        sixths = (float)(4.0 + (double)gc - (double)rc);
    }
    double turns = (double)sixths / 6.0 + 1.0;
    float h = (float)(turns >= 1.0 ? turns - 1.0 : turns);
    unsigned hue = ((unsigned)((double)h * 255.0) + shift) & 255u;
    int saturation = (int)((double)(chroma / (float)max) * 255.0);
    double x = (double)(float)hue * 6.0 / 255.0;
    int sector = (int)x;
    double f = (double)(float)(x - (double)(float)sector), v = max;
    double fs = (double)(float)(saturation / 255.0);
    uint8_t V = (uint8_t)max, P = (uint8_t)(v * (1.0 - fs) + 0.5);
    uint8_t Q = (uint8_t)(v * (1.0 - fs * f) + 0.5);
    uint8_t T = (uint8_t)(v * (1.0 - fs * (1.0 - f)) + 0.5);
    if (saturation == 0) P = Q = T = V;
    const uint8_t result[6][3] = {{V, T, P}, {Q, V, P}, {P, V, T}, {P, Q, V}, {T, P, V}, {V, P, Q}};
    memcpy(p, result[sector % 6], 3);
}

/* Calls check with the table of each level that this CPU has. */
static void each_level(void (*check)(const tsr_image_loops *loops))
{
    int levels = 0;
    for (int level = TSR_CPU_PORTABLE; level <= (int)tsr_cpu__level(); level++) {
        const tsr_image_loops *loops = tsr_image_loops__at((tsr_cpu)level);
        if (loops == NULL) continue;
        check(loops);
        levels++;
    }
    assert_true(levels >= 1);
}

static const size_t lengths[] = {0, 1, 2, 63, 64, 65, 127, 500, N};
enum { LENGTHS = sizeof lengths / sizeof *lengths };

static void check_hue(const tsr_image_loops *loops)
{
    static uint8_t got[3 * N], wanted[3 * N];
    for (int shift = 0; shift < 256; shift += 5) {
        size_t n = lengths[shift / 5 % LENGTHS];
        fill((uint32_t)shift);
        memcpy(got, pixels, sizeof got);
        memcpy(wanted, pixels, sizeof wanted);
        for (size_t i = 0; i < n; i++) plain_hue(wanted + 3 * i, (unsigned)shift);
        loops->hue(got, n, shift);
        assert_memory_equal(got, wanted, sizeof got);
    }
}

static void check_colours(const tsr_image_loops *loops)
{
    static const float factors[] = {0.0f, 0.6f, 0.99f, 1.0f, 1.2f, 1.4f, 7.5f};
    static uint8_t got[3 * N], wanted[3 * N];
    for (int k = 0; k < 7; k++) {
        for (int l = 0; l < LENGTHS; l++) {
            size_t n = lengths[l];
            fill((uint32_t)(k * LENGTHS + l));
            uint64_t sum = 0;
            memcpy(got, pixels, sizeof got);
            memcpy(wanted, pixels, sizeof wanted);
            for (size_t i = 0; i < n; i++) {
                int grey = (int)tsr_luma(pixels + 3 * i);
                sum += (uint64_t)grey;
                for (size_t c = 0; c < 3; c++) {
                    wanted[3 * i + c] = plain_blend(grey, pixels[3 * i + c], factors[k]);
                }
            }
            assert_int_equal(loops->luma_sum(pixels, n), sum);
            loops->saturation(got, n, factors[k]);
            assert_memory_equal(got, wanted, sizeof got);
            memcpy(got, pixels, sizeof got);
            memcpy(wanted, pixels, sizeof wanted);
            for (size_t i = 0; i < n; i++) wanted[i] = plain_blend(90, pixels[i], factors[k]);
            loops->blend(got, n, 90, factors[k]);
            assert_memory_equal(got, wanted, sizeof got);
        }
    }
}

static void check_normalize(const tsr_image_loops *loops)
{
    static const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};
    static float got[3 * N];
    fill(1);
    for (int l = 0; l < LENGTHS; l++) {
        size_t n = lengths[l];
        loops->normalize(pixels, n, mean, std, got);
        for (size_t i = 0; i < n; i++) {
            for (size_t c = 0; c < 3; c++) {
                float wanted = ((float)pixels[3 * i + c] / 255.0f - mean[c]) / std[c];
                assert_memory_equal(&got[c * n + i], &wanted, sizeof wanted);
            }
        }
    }
}

static void check_resize(const tsr_image_loops *loops)
{
    enum { ROWS = 7, WIDTH = 40 };
    static const int32_t weights[] = {-300000, 1500000, 2600000, 800000, -405696, 100000, 9};
    fill(2);
    for (size_t bytes = 1; bytes < 300; bytes += 13) {
        for (int count = 1; count <= ROWS; count++) {
            uint8_t got[300];
            loops->resize_down(pixels, bytes, weights, count, got);
            for (size_t i = 0; i < bytes; i++) {
                int64_t sum = 1 << (TSR_WEIGHT_BITS - 1);
                for (int k = 0; k < count; k++) {
                    sum += (int64_t)weights[k] * pixels[(size_t)k * bytes + i];
                }
                sum >>= TSR_WEIGHT_BITS;
                assert_int_equal(got[i], sum < 0 ? 0 : sum > 255 ? 255 : sum);
            }
        }
    }
    int first[WIDTH], count[WIDTH];
    int32_t w[WIDTH * ROWS];
    for (int x = 0; x < WIDTH; x++) {
        first[x] = x;
        count[x] = 1 + x % ROWS;
        memcpy(w + x * ROWS, weights, sizeof weights);
    }
    tsr_axis axis = {.taps = ROWS, .first = first, .count = count, .weights = w};
    for (int rows = 1; rows <= TSR_TILE_ROWS; rows++) {
        static uint8_t got[TSR_TILE_ROWS * 3 * WIDTH];
        loops->resize_across(pixels, &axis, rows, WIDTH, got, 3 * WIDTH);
        for (int y = 0; y < rows; y++) {
            for (int i = 0; i < 3 * WIDTH; i++) {
                int x = i / 3;
                int64_t sum = 1 << (TSR_WEIGHT_BITS - 1);
                for (int k = 0; k < count[x]; k++) {
                    sum +=
                        (int64_t)weights[k] * pixels[(first[x] + k) * TSR_TILE_ROW + 3 * y + i % 3];
                }
                sum >>= TSR_WEIGHT_BITS;
                assert_int_equal(got[y * 3 * WIDTH + i], sum < 0 ? 0 : sum > 255 ? 255 : sum);
            }
        }
    }
}

static void check_box(const tsr_image_loops *loops)
{
    enum { BYTES = 500 };
    const uint8_t *before = pixels, *first = pixels + BYTES, *after = pixels + 2 * BYTES;
    fill(3);
    for (size_t bytes = 0; bytes <= BYTES; bytes += 71) {
        uint32_t sums[BYTES], inner = 5592405, outer = 2000000;
        uint8_t got[BYTES];
        for (size_t i = 0; i < bytes; i++) sums[i] = 3;
        loops->box_add(sums, first, bytes);
        loops->box_row(sums, before, first, after, bytes, inner, outer, got);
        for (size_t i = 0; i < bytes; i++) {
            uint32_t edges = (uint32_t)before[i] + after[i], sum = 3u + first[i];
            assert_int_equal(got[i], (sum * inner + edges * outer + (1u << 23)) >> 24 & 255);
            assert_int_equal(sums[i], 3u + after[i]);
        }
    }
}

/* Also those that this machine does not have. */
static void test_loops__every_level_has_a_table(void **state)
{
    (void)state;
#if defined(__x86_64__)
    for (int level = 0; level < TSR_CPU_COUNT; level++)
        assert_non_null(tsr_image_loops__at((tsr_cpu)level));
#endif
}

static void test_loops__hue_is_pillows(void **state)
{
    (void)state;
    each_level(check_hue);
}

static void test_loops__colours_are_pillows(void **state)
{
    (void)state;
    each_level(check_colours);
}

static void test_loops__normalize_rounds_as_written(void **state)
{
    (void)state;
    each_level(check_normalize);
}

static void test_loops__resize_sums_exactly(void **state)
{
    (void)state;
    each_level(check_resize);
}

static void test_loops__boxes_sum_exactly(void **state)
{
    (void)state;
    each_level(check_box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_loops__every_level_has_a_table),
        tsr_test(test_loops__hue_is_pillows),
        tsr_test(test_loops__colours_are_pillows),
        tsr_test(test_loops__normalize_rounds_as_written),
        tsr_test(test_loops__resize_sums_exactly),
        tsr_test(test_loops__boxes_sum_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
