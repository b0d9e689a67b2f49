/* y = parts of one shape along a new dimension dim: each unsqueezed, then concatenated. */
#include "ops/ops.h"
#include "ops/samples.h"

tsr_tensor *tsr_stack(tsr_tensors parts, int dim)
{
    char got[TSR_SHAPE_TEXT], wanted[TSR_SHAPE_TEXT];
    for (int i = 0; i < parts.n; i++) {
        if (parts.at[i] == NULL) return NULL;
    }
    for (int i = 1; i < parts.n; i++) {
        tsr_shape shape = tsr_tensor_shape(parts.at[i]), first = tsr_tensor_shape(parts.at[0]);
        if (tsr_shape_equal(shape, first)) continue;
        tsr_fail(TSR_STATUS_SHAPE, "stack: part %d has shape %s, expected %s", i,
                 tsr_shape_text(shape, got), tsr_shape_text(first, wanted));
        return NULL;
    }
    if (parts.n < 1) {
        tsr_fail(TSR_STATUS_ARGUMENT, "stack: no parts, expected 1 or more");
        return NULL;
    }
    tsr_tensor **slabs = tsr_alloc((size_t)parts.n * sizeof *slabs);
    if (slabs == NULL) return NULL;
    for (int i = 0; i < parts.n; i++) slabs[i] = tsr_unsqueeze(parts.at[i], dim);
    tsr_tensor *y = tsr_concat((tsr_tensors){slabs, parts.n}, dim);
    tsr_free(slabs);
    return y;
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    out[0] = tsr_stack(in, *(const int *)((const tsr_sample *)user)->args);
}

static const tsr_sample samples[] = {
    {"in front", 2, 1, {{{2, {3, 5}}}, {{2, {3, 5}}}}, call, &(const int){0}},
    {"interleaved", 3, 1, {{{2, {2, 3}}}, {{2, {2, 3}}}, {{2, {2, 3}}}}, call, &(const int){-1}},
    {"scalars", 2, 1, {{{0}}, {{0}}}, call, &(const int){0}},
    {"empty", 2, 1, {{{1, {0}}}, {{1, {0}}}}, call, &(const int){1}},
};
TSR_SAMPLES_BF16(stack, samples);
