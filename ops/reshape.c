/*
 * y = x with its elements, in row-major order, in another shape. dx = dy in x's shape.
 *
 * A view wherever each run of x's dimensions that a run of y's dimensions covers is regular in memory; else x is made
 * contiguous first.
 */
#include "ops/ops.h"
#include "ops/samples.h"

#include <inttypes.h>

/* The shape with -1 replaced by what is left. */
static bool complete(tsr_shape from, tsr_shape *to)
{
    int64_t numel = tsr_shape_numel(from), known = 1;
    tsr_shape wanted = *to;
    int unknown = -1;
    bool fits = to->ndim >= 0 && to->ndim <= TSR_MAX_DIMS;
    for (int d = 0; fits && d < to->ndim; d++) {
        if (to->size[d] == -1 && unknown < 0) {
            unknown = d;
            continue;
        }
        fits = to->size[d] >= 0 && !__builtin_mul_overflow(known, to->size[d], &known);
    }
    if (fits && unknown >= 0) {
        fits = known > 0 && numel % known == 0;
        if (fits) to->size[unknown] = numel / known;
    }
    if (fits && tsr_shape_numel(*to) == numel) return true;
    char got[TSR_SHAPE_TEXT], text[TSR_SHAPE_TEXT];
    tsr_fail(TSR_STATUS_SHAPE, "reshape: x has shape %s (%" PRId64 " elements), which is not %s",
             tsr_shape_text(from, got), numel, tsr_shape_text(wanted, text));
    return false;
}

/* Strides that show x's elements in shape `to`; false where there are none. */
static bool view_strides(tsr_tensor *x, tsr_shape to, int64_t *strides)
{
    tsr_shape from = tsr_tensor_shape(x);
    const int64_t *old = tsr_tensor_strides(x);
    if (tsr_tensor_is_contiguous(x)) {
        int64_t stride = 1;
        for (int d = to.ndim - 1; d >= 0; d--) {
            strides[d] = stride;
            stride *= to.size[d];
        }
        return true;
    }
    int d = to.ndim - 1;
    for (int s = from.ndim - 1; s >= 0;) {
        /* A run of x's dimensions that one stride walks. */
        int64_t run = from.size[s], stride = old[s];
        while (s > 0 && (from.size[s - 1] == 1 || old[s - 1] == stride * run || run == 1)) {
            s--;
            if (run == 1) stride = old[s];
            run *= from.size[s];
        }
        s--;
        for (; d >= 0 && (run > 1 || to.size[d] == 1); d--) {
            if (run % to.size[d] != 0) return false;
            strides[d] = stride;
            stride *= to.size[d];
            run /= to.size[d];
        }
        if (run > 1) return false;
    }
    return true;
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    grad_inputs[0] = tsr_reshape(grad_outputs[0], tsr_node_input_shape(node, 0));
}

static const tsr_op op = {.name = "reshape", .backward = backward};

tsr_tensor *tsr_reshape(tsr_tensor *x, tsr_shape shape)
{
    if (x == NULL) return NULL;
    tsr_shape from = tsr_tensor_shape(x);
    if (!complete(from, &shape)) return NULL;
    if (tsr_shape_equal(from, shape)) return x;
    int64_t strides[TSR_MAX_DIMS] = {0};
    if (!view_strides(x, shape, strides)) {
        x = tsr_contiguous(x);
        if (x == NULL) return NULL;
        view_strides(x, shape, strides);
    }
    tsr_tensor *y = tsr_tensor_view(x, shape, strides, 0);
    return tsr_record(&op, NULL, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const tsr_sample *sample = user;
    out[0] = tsr_reshape(in.at[0], *(const tsr_shape *)sample->args);
}

static const tsr_sample samples[] = {
    {"split and merged", 1, 1, {{{3, {2, 3, 4}}}}, call, &(const tsr_shape){2, {6, 4}}},
    {"what is left", 1, 1, {{{2, {3, 5}}}}, call, &(const tsr_shape){2, {5, -1}}},
    {"same", 1, 1, {{{2, {3, 5}}}}, call, &(const tsr_shape){2, {3, 5}}},
    {"scalar", 1, 1, {{{2, {1, 1}}}}, call, &(const tsr_shape){0}},
    {"ones", 1, 1, {{{1, {7}}}}, call, &(const tsr_shape){4, {1, 7, 1, 1}}},
    {"empty", 1, 1, {{{2, {0, 4}}}}, call, &(const tsr_shape){3, {2, 0, 3}}},
};
TSR_SAMPLES_BF16(reshape, samples);
