/*
 * softmax: y_j = e^(x_j - m) / s over one dimension, m = max x, s = sum_j e^(x_j - m); log_softmax: y_j = x_j - m - log s.
 *
 * With p = softmax(x), dp_j / dx_i = p_j (delta_ij - p_i), so softmax: dx = p (dy - sum dy p); log_softmax:
 * dx = dy - p sum dy. Backward keeps m and s of each row and computes p again from x, as forward did.
 *
 * Of a bf16 x both are f32.
 *
 * Where dim is not the last, rows are those of a packed copy with dim moved to the end, and y is a view of such a tensor.
 */
#include "ops/dims.h"
#include "ops/elementwise.h"
#include "ops/half.h"
#include "ops/kernels/kernels.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

struct softmax {
    int dim; /* 0 .. ndim - 1 */
    bool logarithm;
};

static bool shape_rule(const char *name, tsr_tensor *x, int dim, struct softmax *s)
{
    if (!tsr_elementwise__takes(name, "x", x)) return false;
    s->dim = tsr_dims__index(name, "dim", dim, tsr_tensor_ndim(x));
    return s->dim >= 0;
}

static tsr_tensor *forward(tsr_tensor *x, const struct softmax *s, tsr_tensor **stats)
{
    x = tsr_rows__along(x, s->dim);
    if (x == NULL) return NULL;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_rows r = tsr_rows__of(tsr_tensor_shape(x));
    tsr_tensor *y = tsr_empty(dtype, tsr_tensor_shape(x));
    *stats = tsr_empty(dtype, TSR_SHAPE(r.rows, 2));
    if (y == NULL || *stats == NULL) return NULL;
    const tsr_kernels *k = tsr_kernels__get(dtype);
    char *yd = tsr_tensor_data_mut(y), *sd = tsr_tensor_data_mut(*stats);
    const char *xd = tsr_tensor_data(x);
    size_t stat = 2 * tsr_dtype_size(dtype);
    TSR_PARALLEL_FOR(c, r.chunks, r.rows * r.d, {
        size_t at = tsr_rows__offset(&r, c, dtype);
        k->softmax(yd + at, sd + (size_t)(c * r.chunk) * stat, xd + at, tsr_rows__in_chunk(&r, c),
                   r.d, s->logarithm);
    });
    return tsr_rows__exchanged(y, s->dim);
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct softmax *s = tsr_node_block(node);
    tsr_tensor *x = tsr_rows__along(tsr_node_input(node, 0), s->dim);
    tsr_tensor *g = tsr_rows__along(grad_outputs[0], s->dim), *stats = tsr_node_saved(node, 0);
    if (x == NULL || g == NULL) return;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_rows r = tsr_rows__of(tsr_tensor_shape(x));
    tsr_tensor *dx = tsr_empty(dtype, tsr_tensor_shape(x));
    if (dx == NULL) return;
    const tsr_kernels *k = tsr_kernels__get(dtype);
    char *dxd = tsr_tensor_data_mut(dx);
    const char *xd = tsr_tensor_data(x), *gd = tsr_tensor_data(g), *sd = tsr_tensor_data(stats);
    size_t stat = 2 * tsr_dtype_size(dtype);
    TSR_PARALLEL_FOR(c, r.chunks, r.rows * r.d, {
        size_t at = tsr_rows__offset(&r, c, dtype);
        k->softmax_backward(dxd + at, gd + at, xd + at, sd + (size_t)(c * r.chunk) * stat,
                            tsr_rows__in_chunk(&r, c), r.d, s->logarithm);
    });
    grad_inputs[0] = tsr_rows__exchanged(dx, s->dim);
}

/* The maximum only keeps e^x in range: it is a constant here. */
static void definition(const void *block, tsr_tensors in, tsr_tensor **outputs)
{
    const struct softmax *s = block;
    tsr_tensor *x = tsr_half__cast(in.at[0]);
    tsr_tensor *c = tsr_sub(x, tsr_detach(tsr_max(tsr_detach(x), s->dim, true)));
    tsr_tensor *e = tsr_exp(c), *sum = tsr_sum(e, &s->dim, 1, true);
    outputs[0] = s->logarithm ? tsr_sub(c, tsr_log(sum)) : tsr_div(e, sum);
}

static const tsr_field fields[] = {TSR_FIELD(struct softmax, "dim", dim), {0}};

static const tsr_op softmax_op = {.name = "softmax",
                                  .block_size = sizeof(struct softmax),
                                  .backward = backward,
                                  .definition = definition,
                                  .fields = fields,
                                  .widens = true};
static const tsr_op log_softmax_op = {.name = "log_softmax",
                                      .block_size = sizeof(struct softmax),
                                      .backward = backward,
                                      .definition = definition,
                                      .fields = fields,
                                      .widens = true};

static tsr_tensor *run(const tsr_op *op, tsr_tensor *x, int dim, bool logarithm)
{
    struct softmax s = {.logarithm = logarithm};
    if (x == NULL || !shape_rule(op->name, x, dim, &s)) return NULL;
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *stats = NULL, *y = forward(tsr_half__widened(x), &s, &stats);
    y = tsr_record(op, &s, TSR_TENSORS(x), TSR_TENSORS(stats), TSR_TENSORS(y));
    return tsr_scope_return(&scope, y);
}

tsr_tensor *tsr_softmax(tsr_tensor *x, int dim)
{
    return run(&softmax_op, x, dim, false);
}

tsr_tensor *tsr_log_softmax(tsr_tensor *x, int dim)
{
    return run(&log_softmax_op, x, dim, true);
}

struct call {
    int dim;
    bool logarithm;
};

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const struct call *c = ((const tsr_sample *)user)->args;
    out[0] = (c->logarithm ? tsr_log_softmax : tsr_softmax)(in.at[0], c->dim);
}

static const tsr_sample samples[] = {
    {"rows", 1, 1, {{{2, {3, 7}}}}, call, &(const struct call){-1, false}},
    {"columns", 1, 1, {{{3, {2, 5, 3}}}}, call, &(const struct call){1, false}},
    {"one element", 1, 1, {{{2, {3, 1}}}}, call, &(const struct call){-1, false}},
    {"empty", 1, 1, {{{2, {0, 3}}}}, call, &(const struct call){1, false}},
    {"log rows", 1, 1, {{{2, {3, 7}}}}, call, &(const struct call){-1, true}},
    {"log columns", 1, 1, {{{2, {4, 3}}}}, call, &(const struct call){0, true}},
    {"log vector", 1, 1, {{{1, {9}}, -20.0, 20.0}}, call, &(const struct call){0, true}},
};
TSR_SAMPLES_BF16(softmax, samples);
