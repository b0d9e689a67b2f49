/*
 * y[..., o] = sum_i x[..., i] W[o, i] + b[o]: over the rows of all leading dimensions, Y = X W^T + 1 b^T. With G = dY:
 * dX = G W, dW = G^T X, db = the column sums of G.
 *
 * Y starts as b in every row and the product is added to it, which saves a pass over Y.
 *
 * With a bf16 x the factors are bf16 numbers and sums are f32; b is added in f32 and gradients of f32 parameters are not
 * rounded.
 */
#include "ops/elementwise.h"
#include "ops/gemm.h"
#include "ops/half.h"
#include "ops/kernels/kernels.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

struct linear {
    tsr_dtype dtype; /* of x */
};

static bool shape_rule(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias)
{
    if (!tsr_elementwise__takes("linear", "x", x) ||
        !tsr_rows__parameter_fits("linear", "weight", weight, "x", tsr_tensor_dtype(x))) {
        return false;
    }
    if (tsr_tensor_ndim(x) < 1 || tsr_tensor_ndim(weight) != 2 ||
        tsr_tensor_size(weight, 1) != tsr_tensor_size(x, -1)) {
        char got[TSR_SHAPE_TEXT], sx[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE, "linear: weight has shape %s, expected [O, %lld] (x is %s)",
                 tsr_shape_text(tsr_tensor_shape(weight), got), (long long)tsr_tensor_size(x, -1),
                 tsr_shape_text(tsr_tensor_shape(x), sx));
        return false;
    }
    return tsr_rows__vector_fits("linear", "bias", bias, tsr_tensor_dtype(x),
                                 tsr_tensor_size(weight, 0));
}

static tsr_matrix transposed(tsr_matrix m)
{
    return (tsr_matrix){m.data, m.column, m.row};
}

static void fill_with_bias(tsr_tensor *y, tsr_tensor *bias)
{
    tsr_dtype dtype = tsr_tensor_dtype(y);
    tsr_rows r = tsr_rows__of(tsr_tensor_shape(y));
    const tsr_kernels *k = tsr_kernels__get(dtype);
    char *yd = tsr_tensor_data_mut(y);
    const void *b = tsr_tensor_data(bias);
    TSR_PARALLEL_FOR(c, r.chunks, r.rows * r.d, {
        k->fill_rows(yd + tsr_rows__offset(&r, c, dtype), b, tsr_rows__in_chunk(&r, c), r.d);
    });
}

static tsr_tensor *forward(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias)
{
    if (x == NULL || weight == NULL) return NULL;
    tsr_shape shape = tsr_tensor_shape(x);
    int64_t outputs = tsr_tensor_size(weight, 0);
    shape.size[shape.ndim - 1] = outputs;
    tsr_tensor *y = tsr_empty(tsr_tensor_dtype(x), shape);
    tsr_tensor *b = bias != NULL ? tsr_tensor_packed(bias) : NULL;
    tsr_matrix mx, mw;
    if (y == NULL || (bias != NULL && b == NULL) || !tsr_rows__matrix(x, &mx) ||
        !tsr_rows__matrix(weight, &mw)) {
        return NULL;
    }
    if (b != NULL) fill_with_bias(y, b);
    int64_t rows = tsr_rows__of(shape).rows;
    tsr__gemm(tsr_tensor_dtype(x), rows, outputs, tsr_tensor_size(weight, 1), mx, transposed(mw),
              b != NULL ? 1.0 : 0.0, (tsr_matrix){tsr_tensor_data_mut(y), outputs, 1});
    return y;
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct linear *s = tsr_node_block(node);
    tsr_tensor *x = tsr_node_input(node, 0);
    tsr_tensor *weight = tsr_half__factor(tsr_node_input(node, 1), s->dtype);
    if (x == NULL || weight == NULL) return;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    int64_t rows = tsr_rows__of(tsr_tensor_shape(x)).rows;
    int64_t in = tsr_tensor_size(weight, 1), outputs = tsr_tensor_size(weight, 0);
    tsr_tensor *g = tsr_tensor_packed(grad_outputs[0]);
    if (g == NULL) return;
    tsr_matrix mg = {(void *)tsr_tensor_data(g), outputs, 1}, mx, mw;
    if (tsr_node_wants(node, 0)) {
        tsr_tensor *dx = tsr_empty(dtype, tsr_tensor_shape(x));
        if (dx == NULL || !tsr_rows__matrix(weight, &mw)) return;
        tsr__gemm(dtype, rows, in, outputs, mg, mw, 0.0,
                  (tsr_matrix){tsr_tensor_data_mut(dx), in, 1});
        grad_inputs[0] = dx;
    }
    if (tsr_node_wants(node, 1)) {
        tsr_tensor *dw = tsr_empty(dtype, tsr_tensor_shape(weight));
        if (dw == NULL || !tsr_rows__matrix(x, &mx)) return;
        tsr__gemm(dtype, outputs, in, rows, transposed(mg), mx, 0.0,
                  (tsr_matrix){tsr_tensor_data_mut(dw), in, 1});
        grad_inputs[1] = dw;
    }
    if (tsr_node_wants(node, 2)) grad_inputs[2] = tsr_rows__column_sums(g);
}

static void definition(const void *block, tsr_tensors in, tsr_tensor **outputs)
{
    const struct linear *s = block;
    tsr_tensor *x = tsr_half__cast(in.at[0]), *y;
    tsr_tensor *w = tsr_transpose(tsr_half__cast(tsr_cast(in.at[1], s->dtype)), 0, 1);
    tsr_shape shape = tsr_tensor_shape(x);
    if (shape.ndim == 1) {
        y = tsr_reshape(tsr_matmul(tsr_reshape(x, TSR_SHAPE(1, shape.size[0])), w),
                        TSR_SHAPE(tsr_tensor_size(w, 1)));
    } else {
        y = tsr_matmul(x, w);
    }
    if (in.at[2] != NULL) y = tsr_add(y, tsr_half__cast(in.at[2]));
    outputs[0] = tsr_cast(y, s->dtype);
}

static const tsr_op op = {.name = "linear",
                          .block_size = sizeof(struct linear),
                          .backward = backward,
                          .definition = definition,
                          .widens = true};

tsr_tensor *tsr_linear(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias)
{
    if (x == NULL || weight == NULL || !shape_rule(x, weight, bias)) return NULL;
    tsr_scope scope = tsr_scope_open();
    struct linear s = {tsr_tensor_dtype(x)};
    tsr_tensor *y =
        forward(tsr_half__widened(x), tsr_half__factor(weight, s.dtype), tsr_half__widened(bias));
    y = tsr_tensor_converted(y, s.dtype);
    y = tsr_record(&op, &s, TSR_TENSORS(x, weight, bias), TSR_NO_TENSORS, TSR_TENSORS(y));
    return tsr_scope_return(&scope, y);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_linear(in.at[0], in.at[1], in.at[2]);
}

static const tsr_sample samples[] = {
    {"matrix", 3, 1, {{{2, {3, 5}}}, {{2, {4, 5}}}, {{1, {4}}}}, call},
    {"bias NULL", 3, 1, {{{2, {3, 5}}}, {{2, {4, 5}}}, {.absent = true}}, call},
    {"batch", 3, 1, {{{3, {2, 3, 7}}}, {{2, {5, 7}}}, {{1, {5}}}}, call},
    {"vector", 3, 1, {{{1, {5}}}, {{2, {3, 5}}}, {{1, {3}}}}, call},
    {"one output", 3, 1, {{{2, {3, 2}}}, {{2, {1, 2}}}, {{1, {1}}}}, call},
    {"no rows", 3, 1, {{{2, {0, 5}}}, {{2, {4, 5}}}, {{1, {4}}}}, call},
    {"no inputs", 3, 1, {{{2, {3, 0}}}, {{2, {4, 0}}}, {{1, {4}}}}, call},
};
TSR_SAMPLES_BF16(linear, samples);
