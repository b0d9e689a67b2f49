/*
 * loss[...] = -log softmax(x)[target], x [..., K], target I64 [...]; 0 where the target is ignore_index.
 * With p = softmax(x): dx = g (p - onehot(target)), since d log p_t / dx_j = delta_jt - p_j. Backward keeps the maximum and
 * the sum of each row and computes p again from x.
 */
#include "ops/kernels/kernels.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

struct cross_entropy {
    int64_t ignore;
};

static bool shape_rule(tsr_tensor *x, tsr_tensor *target)
{
    if (!tsr_rows__is_real("cross_entropy", "logits", x)) return false;
    if (tsr_tensor_dtype(target) != TSR_DTYPE_I64) {
        tsr_fail(TSR_STATUS_DTYPE, "cross_entropy: target is %s, expected i64",
                 tsr_dtype_name(tsr_tensor_dtype(target)));
        return false;
    }
    tsr_shape rows = tsr_tensor_shape(x);
    rows.ndim--;
    if (rows.ndim >= 0 && tsr_shape_equal(tsr_tensor_shape(target), rows)) return true;
    char got[TSR_SHAPE_TEXT], wanted[TSR_SHAPE_TEXT];
    tsr_fail(TSR_STATUS_SHAPE,
             "cross_entropy: target has shape %s, expected that of logits %s without the last "
             "dimension",
             tsr_shape_text(tsr_tensor_shape(target), got),
             tsr_shape_text(tsr_tensor_shape(x), wanted));
    return false;
}

static bool in_range(tsr_tensor *target, int64_t classes, int64_t ignore)
{
    const int64_t *t = tsr_tensor_data(target);
    for (int64_t i = 0; i < tsr_tensor_numel(target); i++) {
        if (t[i] == ignore || (t[i] >= 0 && t[i] < classes)) continue;
        tsr_fail(TSR_STATUS_ARGUMENT, "cross_entropy: target %lld is %lld, expected 0 to %lld",
                 (long long)i, (long long)t[i], (long long)(classes - 1));
        return false;
    }
    return true;
}

static tsr_tensor *forward(tsr_tensor *x, tsr_tensor *target, int64_t ignore, tsr_tensor **stats)
{
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_rows r = tsr_rows__of(tsr_tensor_shape(x));
    tsr_tensor *loss = tsr_empty(dtype, tsr_tensor_shape(target));
    *stats = tsr_empty(dtype, TSR_SHAPE(r.rows, 2));
    x = tsr_tensor_packed(x);
    target = tsr_tensor_packed(target);
    if (loss == NULL || *stats == NULL || x == NULL || target == NULL ||
        !in_range(target, r.d, ignore)) {
        return NULL;
    }
    const tsr_kernels *k = tsr_kernels__get(dtype);
    size_t size = tsr_dtype_size(dtype);
    char *ld = tsr_tensor_data_mut(loss), *sd = tsr_tensor_data_mut(*stats);
    const char *xd = tsr_tensor_data(x);
    const int64_t *td = tsr_tensor_data(target);
    TSR_PARALLEL_FOR(c, r.chunks, r.rows * r.d, {
        size_t row = (size_t)(c * r.chunk) * size;
        k->cross_entropy(ld + row, sd + 2 * row, xd + tsr_rows__offset(&r, c, dtype),
                         td + c * r.chunk, ignore, tsr_rows__in_chunk(&r, c), r.d);
    });
    return loss;
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct cross_entropy *s = tsr_node_block(node);
    tsr_tensor *x = tsr_tensor_packed(tsr_node_input(node, 0));
    tsr_tensor *target = x != NULL ? tsr_tensor_packed(tsr_node_input(node, 1)) : NULL;
    tsr_tensor *g = target != NULL ? tsr_tensor_packed(grad_outputs[0]) : NULL;
    tsr_tensor *dx = g != NULL ? tsr_empty_like(x) : NULL;
    if (dx == NULL) return;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_rows r = tsr_rows__of(tsr_tensor_shape(x));
    const tsr_kernels *k = tsr_kernels__get(dtype);
    size_t size = tsr_dtype_size(dtype);
    char *dxd = tsr_tensor_data_mut(dx);
    const char *gd = tsr_tensor_data(g), *xd = tsr_tensor_data(x),
               *sd = tsr_tensor_data(tsr_node_saved(node, 0));
    const int64_t *td = tsr_tensor_data(target);
    TSR_PARALLEL_FOR(c, r.chunks, r.rows * r.d, {
        size_t at = tsr_rows__offset(&r, c, dtype), row = (size_t)(c * r.chunk) * size;
        k->cross_entropy_backward(dxd + at, gd + row, xd + at, td + c * r.chunk, s->ignore,
                                  sd + 2 * row, tsr_rows__in_chunk(&r, c), r.d);
    });
    grad_inputs[0] = dx;
}

/* -log softmax gathered at the target; ignored targets read class 0 and are cleared afterwards. */
static void definition(const void *block, tsr_tensors in, tsr_tensor **outputs)
{
    const struct cross_entropy *s = block;
    tsr_tensor *target = tsr_tensor_packed(in.at[1]);
    if (target == NULL) return;
    tsr_shape shape = tsr_tensor_shape(target), column = shape;
    column.size[column.ndim++] = 1;
    tsr_tensor *index = tsr_empty(TSR_DTYPE_I64, column),
               *ignored = tsr_empty(TSR_DTYPE_BOOL, shape);
    if (index == NULL || ignored == NULL) return;
    const int64_t *t = tsr_tensor_data(target);
    int64_t *i = tsr_tensor_data_mut(index);
    uint8_t *mask = tsr_tensor_data_mut(ignored);
    for (int64_t k = 0; k < tsr_tensor_numel(target); k++) {
        mask[k] = t[k] == s->ignore;
        i[k] = mask[k] ? 0 : t[k];
    }
    tsr_tensor *picked = tsr_gather(tsr_log_softmax(in.at[0], -1), -1, index);
    outputs[0] = tsr_masked_fill(tsr_neg(tsr_reshape(picked, shape)), ignored, 0.0);
}

static const tsr_op op = {.name = "cross_entropy",
                          .block_size = sizeof(struct cross_entropy),
                          .backward = backward,
                          .definition = definition};

tsr_tensor *tsr_cross_entropy(tsr_tensor *logits, tsr_tensor *target, int64_t ignore_index)
{
    if (logits == NULL || target == NULL || !shape_rule(logits, target)) return NULL;
    struct cross_entropy s = {ignore_index};
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *stats = NULL, *loss = forward(logits, target, ignore_index, &stats);
    loss = tsr_record(&op, &s, TSR_TENSORS(logits, target), TSR_TENSORS(stats), TSR_TENSORS(loss));
    return tsr_scope_return(&scope, loss);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const int64_t *ignore = ((const tsr_sample *)user)->args;
    out[0] = tsr_cross_entropy(in.at[0], in.at[1], ignore != NULL ? *ignore : -100);
}

static const tsr_sample samples[] = {
    {"rows", 2, 1, {{{2, {4, 7}}}, {{1, {4}}, .below = 7}}, call},
    {"batch", 2, 1, {{{3, {2, 3, 5}}}, {{2, {2, 3}}, .below = 5}}, call},
    {"some ignored", 2, 1, {{{2, {9, 3}}}, {{1, {9}}, .below = 3}}, call, &(const int64_t){1}},
    {"one row", 2, 1, {{{1, {5}}}, {{0}, .below = 5}}, call},
    {"no rows", 2, 1, {{{2, {0, 5}}}, {{1, {0}}, .below = 5}}, call},
};
TSR_SAMPLES(cross_entropy, samples);
