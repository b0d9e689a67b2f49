/*
 * y[..., o] = sum_i x[..., i] W[o, i] + b[o]: over the rows of all leading dimensions, Y = X W^T + 1 b^T. With G = dY:
 * dX = G W, dW = G^T X, db = the column sums of G.
 *
 * With a bf16 x the factors are bf16 numbers and sums are f32; b is added in f32 and gradients of f32 parameters are not
 * rounded.
 */
#include "ops/linear.h"
#include "ops/elementwise.h"
#include "ops/half.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

bool tsr_linear__takes(const char *op, tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias)
{
    if (!tsr_elementwise__takes(op, "x", x) ||
        !tsr_rows__parameter_fits(op, "weight", weight, "x", tsr_tensor_dtype(x))) {
        return false;
    }
    if (tsr_tensor_ndim(x) < 1 || tsr_tensor_ndim(weight) != 2 ||
        tsr_tensor_size(weight, 1) != tsr_tensor_size(x, -1)) {
        char got[TSR_SHAPE_TEXT], sx[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE, "%s: weight has shape %s, expected [O, %lld] (x is %s)", op,
                 tsr_shape_text(tsr_tensor_shape(weight), got), (long long)tsr_tensor_size(x, -1),
                 tsr_shape_text(tsr_tensor_shape(x), sx));
        return false;
    }
    return tsr_rows__vector_fits(op, "bias", bias, tsr_tensor_dtype(x), tsr_tensor_size(weight, 0));
}

tsr_tensor *tsr_linear__forward(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias)
{
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_shape shape = tsr_tensor_shape(x);
    int64_t outputs = tsr_tensor_size(weight, 0);
    shape.size[shape.ndim - 1] = outputs;
    tsr_tensor *y = tsr_empty(dtype, shape);
    tsr_tensor *b = bias != NULL ? tsr_tensor_packed(tsr_half__widened(bias)) : NULL;
    tsr_factor fx, fw;
    if (y == NULL || (bias != NULL && b == NULL) || !tsr_rows__factor(x, &fx) ||
        !tsr_rows__factor(weight, &fw)) {
        return NULL;
    }
    bool ok = tsr_rows__product(dtype, tsr_rows__of(shape).rows, outputs,
                                tsr_tensor_size(weight, 1), fx, tsr__gemm_transposed(fw), b, y);
    return ok ? y : NULL;
}

void tsr_linear__backward(const tsr_node *node, tsr_tensor *g, tsr_tensor **grad_inputs)
{
    tsr_tensor *x = tsr_node_input(node, 0), *weight = tsr_node_input(node, 1);
    g = tsr_tensor_packed(g);
    if (x == NULL || weight == NULL || g == NULL) return;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    int64_t rows = tsr_rows__of(tsr_tensor_shape(x)).rows;
    int64_t in = tsr_tensor_size(weight, 1), outputs = tsr_tensor_size(weight, 0);
    tsr_factor fg, fx, fw;
    if (!tsr_rows__factor(g, &fg)) return;
    if (tsr_node_wants(node, 0)) {
        tsr_tensor *dx = tsr_empty(dtype, tsr_tensor_shape(x));
        if (dx == NULL || !tsr_rows__factor(weight, &fw) ||
            !tsr_rows__product(dtype, rows, in, outputs, fg, fw, NULL, dx)) {
            return;
        }
        grad_inputs[0] = dx;
    }
    if (tsr_node_wants(node, 1)) {
        tsr_tensor *dw = tsr_empty_like(weight);
        if (dw == NULL || !tsr_rows__factor(x, &fx) ||
            !tsr_rows__product(dtype, outputs, in, rows, tsr__gemm_transposed(fg), fx, NULL, dw)) {
            return;
        }
        grad_inputs[1] = dw;
    }
    if (tsr_node_wants(node, 2)) {
        tsr_dtype of_bias = tsr_tensor_dtype(tsr_node_input(node, 2));
        grad_inputs[2] = tsr_tensor_converted(tsr_rows__column_sums(g), of_bias);
    }
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    tsr_linear__backward(node, grad_outputs[0], grad_inputs);
}

static void definition(const void *block, tsr_tensors in, tsr_tensor **outputs)
{
    (void)block;
    tsr_dtype dtype = tsr_tensor_dtype(in.at[0]);
    tsr_tensor *x = tsr_half__cast(in.at[0]), *y;
    tsr_tensor *w = tsr_transpose(tsr_half__cast(tsr_cast(in.at[1], dtype)), 0, 1);
    tsr_shape shape = tsr_tensor_shape(x);
    if (shape.ndim == 1) {
        y = tsr_reshape(tsr_matmul(tsr_reshape(x, TSR_SHAPE(1, shape.size[0])), w),
                        TSR_SHAPE(tsr_tensor_size(w, 1)));
    } else {
        y = tsr_matmul(x, w);
    }
    if (in.at[2] != NULL) y = tsr_add(y, tsr_half__cast(in.at[2]));
    outputs[0] = tsr_cast(y, dtype);
}

static const tsr_op op = {.name = "linear", .backward = backward, .definition = definition};

tsr_tensor *tsr_linear(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias)
{
    if (x == NULL || weight == NULL || !tsr_linear__takes(op.name, x, weight, bias)) return NULL;
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *y = tsr_linear__forward(x, weight, bias);
    y = tsr_record(&op, NULL, TSR_TENSORS(x, weight, bias), TSR_NO_TENSORS, TSR_TENSORS(y));
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
