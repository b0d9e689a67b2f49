/*
 * loss[...] = -sum_j t_j log softmax(x)_j, x and t [..., K]. With p = softmax(x), T = sum_j t_j (1 for a distribution):
 * dx = g (T p - t), since d log p_j / dx_i = delta_ij - p_i; dt = -g log p. Backward keeps the maximum and the sum of each
 * row and T, and computes p again from x. Where x or t are bf16 the loss is f32.
 */
#include "ops/elementwise.h"
#include "ops/half.h"
#include "ops/kernels/kernels.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

static bool shape_rule(tsr_tensor *x, tsr_tensor *target)
{
    static const char name[] = "cross_entropy_soft";
    /* Either may be bf16 where the other is f32. */
    tsr_dtype type = tsr_tensor_dtype(x), of_target = tsr_tensor_dtype(target);
    bool mixed = (type == TSR_DTYPE_BF16 && of_target == TSR_DTYPE_F32) ||
                 (type == TSR_DTYPE_F32 && of_target == TSR_DTYPE_BF16);
    if (!tsr_elementwise__takes(name, "logits", x) ||
        (!mixed && !tsr_rows__dtype_fits(name, "target", target, "logits", type)) ||
        !tsr_rows__shapes_equal(name, "logits", x, "target", target)) {
        return false;
    }
    if (tsr_tensor_ndim(x) > 0) return true;
    tsr_fail(TSR_STATUS_SHAPE, "cross_entropy_soft: logits is a scalar, expected [..., K]");
    return false;
}

static tsr_tensor *forward(tsr_tensor *x, tsr_tensor *t, tsr_tensor **stats)
{
    if (x == NULL || t == NULL) return NULL;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_shape shape = tsr_tensor_shape(x);
    tsr_rows r = tsr_rows__of(shape);
    shape.ndim--;
    tsr_tensor *loss = tsr_empty(dtype, shape);
    *stats = tsr_empty(dtype, TSR_SHAPE(r.rows, 3));
    x = tsr_tensor_packed(x);
    t = tsr_tensor_packed(t);
    if (loss == NULL || *stats == NULL || x == NULL || t == NULL) return NULL;
    const tsr_kernels *k = tsr_kernels__get(dtype);
    size_t size = tsr_dtype_size(dtype);
    char *ld = tsr_tensor_data_mut(loss), *sd = tsr_tensor_data_mut(*stats);
    const char *xd = tsr_tensor_data(x), *td = tsr_tensor_data(t);
    TSR_PARALLEL_FOR(c, r.chunks, r.rows * r.d, {
        size_t at = tsr_rows__offset(&r, c, dtype), row = (size_t)(c * r.chunk) * size;
        k->cross_entropy_soft(ld + row, sd + 3 * row, xd + at, td + at, tsr_rows__in_chunk(&r, c),
                              r.d, 1.0);
    });
    return loss;
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    tsr_tensor *x = tsr_tensor_packed(tsr_node_input(node, 0));
    tsr_tensor *t = x != NULL ? tsr_tensor_packed(tsr_node_input(node, 1)) : NULL;
    tsr_tensor *g = t != NULL ? tsr_tensor_packed(grad_outputs[0]) : NULL, *d[2] = {0};
    if (g == NULL) return;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_rows r = tsr_rows__of(tsr_tensor_shape(x));
    for (int i = 0; i < 2; i++) {
        if (!tsr_node_wants(node, i)) continue;
        d[i] = tsr_empty(dtype, tsr_tensor_shape(x));
        if (d[i] == NULL) return;
    }
    const tsr_kernels *k = tsr_kernels__get(dtype);
    size_t size = tsr_dtype_size(dtype);
    char *dxd = tsr_tensor_data_mut(d[0]), *dtd = tsr_tensor_data_mut(d[1]);
    const char *gd = tsr_tensor_data(g), *xd = tsr_tensor_data(x), *td = tsr_tensor_data(t),
               *sd = tsr_tensor_data(tsr_node_saved(node, 0));
    TSR_PARALLEL_FOR(c, r.chunks, r.rows * r.d, {
        size_t at = tsr_rows__offset(&r, c, dtype), row = (size_t)(c * r.chunk) * size;
        k->cross_entropy_soft_backward(dxd != NULL ? dxd + at : NULL, dtd != NULL ? dtd + at : NULL,
                                       gd + row, xd + at, td + at, sd + 3 * row,
                                       tsr_rows__in_chunk(&r, c), r.d, 1.0);
    });
    grad_inputs[0] = d[0];
    grad_inputs[1] = d[1];
}

static void definition(const void *block, tsr_tensors in, tsr_tensor **outputs)
{
    (void)block;
    tsr_tensor *product = tsr_mul(tsr_half__cast(in.at[1]), tsr_log_softmax(in.at[0], -1));
    outputs[0] = tsr_neg(tsr_sum(product, (const int[]){-1}, 1, false));
}

static const tsr_op op = {
    .name = "cross_entropy_soft", .backward = backward, .definition = definition, .widens = true};

tsr_tensor *tsr_cross_entropy_soft(tsr_tensor *logits, tsr_tensor *target)
{
    if (logits == NULL || target == NULL || !shape_rule(logits, target)) return NULL;
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *stats = NULL, *loss = NULL;
    loss = forward(tsr_half__widened(logits), tsr_half__widened(target), &stats);
    loss =
        tsr_record(&op, NULL, TSR_TENSORS(logits, target), TSR_TENSORS(stats), TSR_TENSORS(loss));
    return tsr_scope_return(&scope, loss);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_cross_entropy_soft(in.at[0], in.at[1]);
}

static const tsr_sample samples[] = {
    {"rows", 2, 1, {{{2, {4, 7}}}, {{2, {4, 7}}, 0.0, 1.0}}, call},
    {"batch", 2, 1, {{{3, {2, 3, 5}}}, {{3, {2, 3, 5}}, 0.0, 1.0}}, call},
    {"constant target", 2, 1, {{{2, {3, 5}}}, {{2, {3, 5}}, 0.0, 1.0, .constant = true}}, call},
    {"one row", 2, 1, {{{1, {5}}}, {{1, {5}}, 0.0, 1.0}}, call},
    {"no rows", 2, 1, {{{2, {0, 5}}}, {{2, {0, 5}}}}, call},
};
TSR_SAMPLES_BF16(cross_entropy_soft, samples);
