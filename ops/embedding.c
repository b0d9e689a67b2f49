/* y = weight[index]: weight [V, D], index [...] -> [..., D]. The rows that index names, reshaped. */
#include "ops/index.h"
#include "ops/ops.h"
#include "ops/samples.h"

tsr_tensor *tsr_embedding(tsr_tensor *weight, tsr_tensor *index)
{
    if (weight == NULL || index == NULL) return NULL;
    tsr_shape table = tsr_tensor_shape(weight), shape = tsr_tensor_shape(index);
    if (table.ndim != 2 || shape.ndim == TSR_MAX_DIMS) {
        char got[TSR_SHAPE_TEXT], text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE,
                 "embedding: weight has shape %s and index %s, expected [V, D] and less than "
                 "%d dimensions",
                 tsr_shape_text(table, got), tsr_shape_text(shape, text), TSR_MAX_DIMS);
        return NULL;
    }
    tsr_tensor *rows = tsr_index__checked("embedding", index, table.size[0]);
    tsr_tensor *list = tsr_reshape(rows, TSR_SHAPE(tsr_tensor_numel(index)));
    shape.size[shape.ndim++] = table.size[1];
    return tsr_reshape(tsr_gather_rows(weight, list), shape);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_embedding(in.at[0], in.at[1]);
}

static const tsr_sample samples[] = {
    {"table of tokens", 2, 1, {{{2, {5, 3}}}, {.shape = {2, {2, 7}}, .below = 5}}, call},
    {"one token", 2, 1, {{{2, {5, 3}}}, {.shape = {0}, .below = 5}}, call},
    {"no tokens", 2, 1, {{{2, {5, 3}}}, {.shape = {2, {2, 0}}, .below = 5}}, call},
};
TSR_SAMPLES(embedding, samples);
