/* Masks of patches: the authors' loader.py (bytedance/ibot, ImageFolderMask), section 2.2 and
 * appendix B of arXiv 2111.07832. */
#include "recipes/data/data.h"

#include <math.h>
#include <string.h>

tsr_status tsr_mask_check(const tsr_mask_spec *spec, int size)
{
    if (spec->kind == TSR_MASK_NONE) return TSR_STATUS_OK;
    if (spec->kind != TSR_MASK_BLOCK && spec->kind != TSR_MASK_RAND) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "mask: unknown kind %d", (int)spec->kind);
    }
    if (spec->patch < 1 || size % spec->patch != 0) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "mask: patch %d does not divide the view's size %d",
                        spec->patch, size);
    }
    if (spec->n_ratios < 1 || spec->n_ratios > TSR_MASK_MAX_RATIOS) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "mask: %d ratios, expected 1 to %d", spec->n_ratios,
                        TSR_MASK_MAX_RATIOS);
    }
    for (int i = 0; i < spec->n_ratios; i++) {
        double ratio = spec->ratio[i], var = spec->var[i];
        if (!(var >= 0.0 && ratio - var >= 0.0 && ratio + var <= 1.0)) {
            return tsr_fail(TSR_STATUS_ARGUMENT, "mask: ratio %g +- %g does not lie in 0 to 1",
                            ratio, var);
        }
    }
    return TSR_STATUS_OK;
}

static double draw_ratio(const tsr_mask_spec *spec, tsr_rng *rng)
{
    int64_t i = tsr_rng_below(rng, spec->n_ratios);
    double ratio = spec->ratio[i], var = spec->var[i];
    return var > 0.0 ? tsr_rng_range(rng, ratio - var, ratio + var) : ratio;
}

/* One rectangle that masks at least one new cell and at most `most`; 0 when the draw does not give
 * one. */
static int64_t draw_block(int rows, int columns, double most, tsr_rng *rng, uint8_t *mask)
{
    const double log_aspect = log(1 / 0.3);
    int third = (rows < columns ? rows : columns) / 3;
    double area = tsr_rng_range(rng, third * third, most);
    double aspect = exp(tsr_rng_range(rng, -log_aspect, log_aspect));
    int h = (int)rint(sqrt(area * aspect)), w = (int)rint(sqrt(area / aspect));
    if (w >= columns || h >= rows) return 0;
    int64_t top = tsr_rng_below(rng, rows - h + 1), left = tsr_rng_below(rng, columns - w + 1);
    int64_t fresh = 0;
    for (int64_t y = top; y < top + h; y++) {
        for (int64_t x = left; x < left + w; x++) fresh += mask[y * columns + x] == 0;
    }
    if (fresh == 0 || (double)fresh > most) return 0;
    for (int64_t y = top; y < top + h; y++) memset(mask + y * columns + left, 1, (size_t)w);
    return fresh;
}

int64_t tsr_mask_draw(const tsr_mask_spec *spec, int64_t epoch, int rows, int columns, tsr_rng *rng,
                      uint8_t *mask)
{
    int64_t cells = (int64_t)rows * columns, count = 0;
    memset(mask, 0, (size_t)cells);
    if (spec->kind == TSR_MASK_NONE || epoch < spec->start_epoch) return 0;
    double want = draw_ratio(spec, rng) * (double)cells;
    if (spec->kind == TSR_MASK_RAND) {
        /* Selection sampling (Knuth, 3.4.2, algorithm S): each set of cells is equally likely. */
        for (int64_t i = 0; i < cells; i++) {
            if (tsr_rng_below(rng, cells - i) < (int64_t)want - count) mask[i] = 1, count++;
        }
        return count;
    }
    while ((double)count < want) {
        int64_t fresh = 0;
        for (int tries = 0; tries < 10 && fresh == 0; tries++) {
            fresh = draw_block(rows, columns, want - (double)count, rng, mask);
        }
        if (fresh == 0) break;
        count += fresh;
    }
    return count;
}
