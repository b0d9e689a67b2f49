/*
 * y [B, D, H / P, W / Q] = the convolution of x [B, C, H, W] with weight [D, C, P, Q] in steps of P and Q, plus bias [D];
 * rows and columns that fill no patch are left out. The result lies in memory token by token: flattened and transposed to
 * [B, N, D], it is contiguous.
 *
 * With X the patches as rows [B N, C P Q] and W the weight as a matrix [D, C P Q], Y = X W^T + bias, so
 *   dX = dY W, each element going back to its only place in x,
 *   dW = dY^T X,
 *   dbias = dY summed over the rows.
 */
#include "autograd/loop.h"
#include "ops/elementwise.h"
#include "ops/half.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"
#include "ops/windows.h"

#include <inttypes.h>
#include <string.h>

struct patch_embed {
    tsr_dtype dtype;
    int64_t batch, channels, width;  /* width: D */
    int64_t patch[2], rows, columns; /* P and Q; H / P and W / Q */
    int64_t tokens, cells;           /* B N; C P Q */
};

static void copy_patch(const struct patch_embed *s, int64_t token, void *image,
                       const int64_t *strides, void *patches, bool to_image)
{
    size_t size = tsr_dtype_size(s->dtype), run = (size_t)s->patch[1] * size;
    int64_t j = token % s->columns, i = token / s->columns % s->rows;
    int64_t b = token / s->columns / s->rows;
    char *row = (char *)patches + (size_t)(token * s->cells) * size;
    int64_t corner = b * strides[0] + i * s->patch[0] * strides[2] + j * s->patch[1];
    for (int64_t c = 0; c < s->channels; c++) {
        for (int64_t p = 0; p < s->patch[0]; p++, row += run) {
            char *at = (char *)image + (corner + c * strides[1] + p * strides[2]) * (int64_t)size;
            memcpy(to_image ? at : row, to_image ? row : at, run);
        }
    }
}

/* Between the patches as rows [B N, C P Q] and the image, whose rows have unit stride. */
static void copy_patches(const struct patch_embed *s, void *image, const int64_t *strides,
                         void *patches, bool to_image)
{
    TSR_PARALLEL_FOR(token, s->tokens, s->tokens * s->cells,
                     copy_patch(s, token, image, strides, patches, to_image));
}

/* x's patches as rows [B N, C P Q]. */
static tsr_tensor *patches_of(const struct patch_embed *s, tsr_tensor *x)
{
    if (tsr_tensor_strides(x)[3] != 1) x = tsr_tensor_packed(x);
    tsr_tensor *patches = tsr_empty(s->dtype, TSR_SHAPE(s->tokens, s->cells));
    if (x == NULL || patches == NULL) return NULL;
    copy_patches(s, (void *)tsr_tensor_data(x), tsr_tensor_strides(x), tsr_tensor_data_mut(patches),
                 false);
    return patches;
}

/* The matrix [rows, columns] that t holds in row-major order. */
static tsr_factor matrix(tsr_tensor *t, int64_t columns)
{
    return (tsr_factor){tsr_tensor_data(t), columns, 1, tsr_tensor_dtype(t)};
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct patch_embed *s = tsr_node_block(node);
    tsr_tensor *x = tsr_node_input(node, 0), *weight = tsr_tensor_packed(tsr_node_input(node, 1));
    const int64_t *g = tsr_tensor_strides(grad_outputs[0]);
    tsr_tensor *dy = tsr_tensor_packed(
        tsr_tensor_view(grad_outputs[0], TSR_SHAPE(s->batch, s->rows, s->columns, s->width),
                        (const int64_t[]){g[0], g[2], g[3], g[1]}, 0));
    if (dy == NULL || weight == NULL) return;
    tsr_factor fg = matrix(dy, s->width);
    if (tsr_node_wants(node, 0)) {
        tsr_tensor *patches = tsr_empty(s->dtype, TSR_SHAPE(s->tokens, s->cells));
        tsr_tensor *dx = tsr_zeros(s->dtype, tsr_tensor_shape(x));
        if (patches == NULL || dx == NULL ||
            !tsr_rows__product(s->dtype, s->tokens, s->cells, s->width, fg,
                               matrix(weight, s->cells), NULL, patches)) {
            return;
        }
        copy_patches(s, tsr_tensor_data_mut(dx), tsr_tensor_strides(dx),
                     tsr_tensor_data_mut(patches), true);
        grad_inputs[0] = dx;
    }
    if (tsr_node_wants(node, 1)) {
        tsr_tensor *patches = patches_of(s, x);
        tsr_tensor *dweight = tsr_empty_like(weight);
        if (patches == NULL || dweight == NULL ||
            !tsr_rows__product(s->dtype, s->width, s->cells, s->tokens, tsr__gemm_transposed(fg),
                               matrix(patches, s->cells), NULL, dweight)) {
            return;
        }
        grad_inputs[1] = dweight;
    }
    if (tsr_node_wants(node, 2)) {
        tsr_dtype dtype = tsr_tensor_dtype(tsr_node_input(node, 2));
        grad_inputs[2] = tsr_tensor_converted(tsr_rows__column_sums(dy), dtype);
    }
}

static void definition(const void *block, tsr_tensors inputs, tsr_tensor **outputs)
{
    const struct patch_embed *s = block;
    int64_t p = s->patch[0], q = s->patch[1];
    tsr_tensor *x = tsr_slice(tsr_half__cast(inputs.at[0]), 2, 0, s->rows * p, 1);
    x = tsr_slice(x, 3, 0, s->columns * q, 1);
    x = tsr_reshape(x, TSR_SHAPE(s->batch, s->channels, s->rows, p, s->columns, q));
    x = tsr_permute(x, (const int[]){0, 2, 4, 1, 3, 5});
    x = tsr_reshape(x, TSR_SHAPE(s->tokens, s->cells));
    tsr_tensor *weight = tsr_half__cast(tsr_cast(inputs.at[1], s->dtype));
    weight = tsr_reshape(weight, TSR_SHAPE(s->width, s->cells));
    tsr_tensor *y = tsr_matmul(x, tsr_transpose(weight, 0, 1));
    if (inputs.at[2] != NULL) y = tsr_add(y, tsr_half__cast(inputs.at[2]));
    y = tsr_reshape(y, TSR_SHAPE(s->batch, s->rows, s->columns, s->width));
    outputs[0] = tsr_cast(tsr_permute(y, (const int[]){0, 3, 1, 2}), s->dtype);
}

static const tsr_op op = {.name = "patch_embed",
                          .block_size = sizeof(struct patch_embed),
                          .backward = backward,
                          .definition = definition};

static bool shapes_fit(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias, struct patch_embed *s)
{
    if (!tsr_elementwise__takes(op.name, "x", x) || !tsr_windows__has_four_dims(op.name, "x", x) ||
        !tsr_windows__has_four_dims(op.name, "weight", weight)) {
        return false;
    }
    s->dtype = tsr_tensor_dtype(x);
    if (!tsr_rows__parameter_fits(op.name, "weight", weight, "x", s->dtype) ||
        (bias != NULL && !tsr_rows__parameter_fits(op.name, "bias", bias, "x", s->dtype))) {
        return false;
    }
    tsr_shape xs = tsr_tensor_shape(x), ws = tsr_tensor_shape(weight);
    char got[TSR_SHAPE_TEXT], text[TSR_SHAPE_TEXT];
    if (ws.size[1] != xs.size[1] || ws.size[2] < 1 || ws.size[3] < 1 || xs.size[2] < ws.size[2] ||
        xs.size[3] < ws.size[3]) {
        tsr_fail(TSR_STATUS_SHAPE,
                 "%s: weight has shape %s, expected [D, %" PRId64 ", P, Q] with a patch P x Q no "
                 "larger than x %s",
                 op.name, tsr_shape_text(ws, got), xs.size[1], tsr_shape_text(xs, text));
        return false;
    }
    s->batch = xs.size[0];
    s->channels = xs.size[1];
    s->width = ws.size[0];
    s->patch[0] = ws.size[2];
    s->patch[1] = ws.size[3];
    s->rows = xs.size[2] / ws.size[2];
    s->columns = xs.size[3] / ws.size[3];
    s->tokens = s->batch * s->rows * s->columns;
    s->cells = s->channels * ws.size[2] * ws.size[3];
    if (bias == NULL || tsr_shape_equal(tsr_tensor_shape(bias), TSR_SHAPE(s->width))) return true;
    tsr_fail(TSR_STATUS_SHAPE, "%s: bias has shape %s, expected [%" PRId64 "]", op.name,
             tsr_shape_text(tsr_tensor_shape(bias), got), s->width);
    return false;
}

static tsr_tensor *forward(const struct patch_embed *s, tsr_tensor *x, tsr_tensor *weight,
                           tsr_tensor *bias)
{
    tsr_tensor *patches = patches_of(s, x), *packed = tsr_tensor_packed(weight);
    tsr_tensor *rows = tsr_empty(s->dtype, TSR_SHAPE(s->batch, s->rows, s->columns, s->width));
    tsr_tensor *b = bias != NULL ? tsr_tensor_packed(tsr_half__widened(bias)) : NULL;
    if (patches == NULL || packed == NULL || rows == NULL || (bias != NULL && b == NULL) ||
        !tsr_rows__product(s->dtype, s->tokens, s->width, s->cells, matrix(patches, s->cells),
                           tsr__gemm_transposed(matrix(packed, s->cells)), b, rows)) {
        return NULL;
    }
    int64_t row = s->columns * s->width;
    return tsr_tensor_view(rows, TSR_SHAPE(s->batch, s->width, s->rows, s->columns),
                           (const int64_t[]){s->rows * row, 1, row, s->width}, 0);
}

tsr_tensor *tsr_patch_embed(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias)
{
    struct patch_embed s;
    if (x == NULL || weight == NULL || !shapes_fit(x, weight, bias, &s)) return NULL;
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *y = forward(&s, x, weight, bias);
    y = tsr_record(&op, &s, TSR_TENSORS(x, weight, bias), TSR_NO_TENSORS, TSR_TENSORS(y));
    return tsr_scope_return(&scope, y);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_patch_embed(in.at[0], in.at[1], in.at[2]);
}

static const tsr_sample samples[] = {
    {"plain", 3, 1, {{{4, {2, 3, 4, 6}}}, {{4, {5, 3, 2, 2}}}, {{1, {5}}}}, call},
    {"a rest, no bias", 3, 1, {{{4, {2, 2, 5, 7}}}, {{4, {3, 2, 2, 3}}}, {.absent = true}}, call},
    {"one patch", 3, 1, {{{4, {3, 1, 3, 3}}}, {{4, {2, 1, 3, 3}}}, {{1, {2}}}}, call},
    {"no samples", 3, 1, {{{4, {0, 3, 4, 4}}}, {{4, {2, 3, 2, 2}}}, {{1, {2}}}}, call},
};
TSR_SAMPLES_BF16(patch_embed, samples);
