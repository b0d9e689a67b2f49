/*
 * Masks against statistics of 20,000 masks that the authors' loader.py drew for each of four
 * settings on a 14 x 14 grid (constants.json of the golden vectors, "mask_statistics").
 */
#include "tests/test.h"

#include "recipes/data/data.h"

#include <stdlib.h>

enum { SIDE = 14, CELLS = SIDE * SIDE, DRAWS = 20000 };

struct statistics {
    tsr_mask_spec spec;
    double mean, std, empty;
    int quantiles[6]; /* .05 .25 .5 .75 .95 1 */
    double centre, corner;
};

static const struct statistics golden[] = {
    {{TSR_MASK_BLOCK, 16, 2, {0.0, 0.3}, {0.0, 0.2}, 0},
     28.9304,
     33.06551460116717,
     0.4983,
     {0, 0, 16, 58, 89, 97},
     0.27915,
     0.0159375},
    {{TSR_MASK_BLOCK, 16, 1, {0.3}, {0.0}, 0},
     57.26485,
     1.1941542938414615,
     0.0,
     {55, 57, 58, 58, 58, 58},
     0.5783125,
     0.0292125},
    {{TSR_MASK_BLOCK, 16, 1, {0.3}, {0.2}, 0},
     57.52175,
     22.95322693952857,
     0.0,
     {21, 38, 58, 78, 93, 97},
     0.5588,
     0.0306625},
    {{TSR_MASK_RAND, 16, 2, {0.0, 0.7}, {0.0, 0.05}, 0},
     68.9358,
     68.51730203649295,
     0.4961,
     {0, 0, 127, 137, 145, 146},
     0.3518875,
     0.3501625},
};

static int by_value(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void assert_near(double got, double want, double tolerance, const char *what, int setting)
{
    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("setting %d: %s is %g, expected %g +- %g", setting, what, got, want, tolerance);
    }
}

static void test_masks__statistics_are_the_authors(void **state)
{
    (void)state;
    static int counts[DRAWS];
    for (int s = 0; s < 4; s++) {
        const struct statistics *want = &golden[s];
        assert_int_equal(tsr_mask_check(&want->spec, 16 * SIDE), TSR_STATUS_OK);
        double sum = 0.0, squares = 0.0, empty = 0.0, centre = 0.0, corner = 0.0;
        for (uint32_t i = 0; i < DRAWS; i++) {
            uint8_t mask[CELLS];
            tsr_rng rng = tsr_rng_make(17, (uint32_t)s, i, 0);
            int64_t count = tsr_mask_draw(&want->spec, 0, SIDE, SIDE, &rng, mask);
            int ones = 0;
            for (int k = 0; k < CELLS; k++) ones += mask[k] == 1;
            assert_int_equal(count, ones);
            counts[i] = ones;
            sum += ones;
            squares += (double)ones * ones;
            empty += ones == 0;
            centre +=
                mask[6 * SIDE + 6] + mask[6 * SIDE + 7] + mask[7 * SIDE + 6] + mask[7 * SIDE + 7];
            corner += mask[0] + mask[SIDE - 1] + mask[CELLS - SIDE] + mask[CELLS - 1];
        }
        double mean = sum / DRAWS, std = sqrt(squares / DRAWS - mean * mean);
        /* Two samples of 20,000: five deviations of their difference, 5 sqrt(2 / 20000) = 0.05 of
         * one draw's. */
        assert_near(mean, want->mean, 0.05 * want->std, "mean", s);
        assert_near(std, want->std, 0.04 * want->std, "std", s);
        assert_near(empty / DRAWS, want->empty, 0.025, "share of empty masks", s);
        assert_near(centre / 4 / DRAWS, want->centre, 0.02, "frequency at the centre", s);
        assert_near(corner / 4 / DRAWS, want->corner, s == 3 ? 0.02 : 0.005,
                    "frequency at the corners", s);
        qsort(counts, DRAWS, sizeof *counts, by_value);
        static const double levels[6] = {0.05, 0.25, 0.5, 0.75, 0.95, 1.0};
        for (int q = 0; q < 6; q++) {
            /* The median of a half-empty setting lies anywhere in its gap. */
            if (levels[q] == 0.5 && want->empty > 0.4) continue;
            int got = counts[(int)(levels[q] * (DRAWS - 1))];
            assert_near(got, want->quantiles[q], levels[q] == 1.0 ? 0 : 2, "quantile", s);
        }
    }
}

static void test_masks__nothing_is_masked_before_the_start_epoch(void **state)
{
    (void)state;
    tsr_mask_spec spec = {TSR_MASK_BLOCK, 16, 1, {0.3}, {0.0}, 50};
    uint8_t mask[CELLS];
    tsr_rng rng = tsr_rng_make(1, 0, 0, 0);
    memset(mask, 7, sizeof mask);
    assert_int_equal(tsr_mask_draw(&spec, 49, SIDE, SIDE, &rng, mask), 0);
    for (int k = 0; k < CELLS; k++) assert_int_equal(mask[k], 0);
    assert_true(tsr_mask_draw(&spec, 50, SIDE, SIDE, &rng, mask) > 0);
}

static void test_masks__never_more_than_asked_on_any_grid(void **state)
{
    (void)state;
    for (int rows = 1; rows <= 9; rows++) {
        for (int columns = 1; columns <= 9; columns++) {
            for (int kind = TSR_MASK_BLOCK; kind <= TSR_MASK_RAND; kind++) {
                for (uint32_t i = 0; i < 50; i++) {
                    double ratio = i / 49.0;
                    tsr_mask_spec spec = {(tsr_mask_kind)kind, 1, 1, {ratio}, {0}, 0};
                    uint8_t mask[81];
                    tsr_rng rng = tsr_rng_make(2, (uint32_t)(rows * 10 + columns), i, 0);
                    int64_t n = tsr_mask_draw(&spec, 0, rows, columns, &rng, mask);
                    assert_true((double)n <= ratio * (double)(rows * columns));
                    if (kind == TSR_MASK_RAND) {
                        assert_int_equal(n, (int64_t)(ratio * (double)(rows * columns)));
                    }
                }
            }
        }
    }
}

static void test_masks__rand_gives_every_cell_the_same_chance(void **state)
{
    (void)state;
    tsr_mask_spec spec = {TSR_MASK_RAND, 1, 1, {0.25}, {0}, 0};
    int seen[16] = {0};
    for (uint32_t i = 0; i < 16000; i++) {
        uint8_t mask[16];
        tsr_rng rng = tsr_rng_make(3, 0, i, 0);
        assert_int_equal(tsr_mask_draw(&spec, 0, 4, 4, &rng, mask), 4);
        for (int k = 0; k < 16; k++) seen[k] += mask[k];
    }
    for (int k = 0; k < 16; k++) assert_true(abs(seen[k] - 4000) < 300); /* 5 deviations of 55 */
}

static void test_masks__bad_specs_are_named(void **state)
{
    (void)state;
    tsr_mask_spec spec = {TSR_MASK_BLOCK, 16, 1, {0.1}, {0.2}, 0};
    tsr_mask_check(&spec, 224);
    assert_failed(TSR_STATUS_ARGUMENT, "ratio 0.1 +- 0.2");
    spec.var[0] = 0.0, spec.n_ratios = 0;
    tsr_mask_check(&spec, 224);
    assert_failed(TSR_STATUS_ARGUMENT, "0 ratios");
    spec.n_ratios = 1, spec.patch = 0;
    tsr_mask_check(&spec, 224);
    assert_failed(TSR_STATUS_ARGUMENT, "patch 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_masks__statistics_are_the_authors),
        tsr_test(test_masks__nothing_is_masked_before_the_start_epoch),
        tsr_test(test_masks__never_more_than_asked_on_any_grid),
        tsr_test(test_masks__rand_gives_every_cell_the_same_chance),
        tsr_test(test_masks__bad_specs_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
