/*
 * r = c ? x : y, all three broadcast. dx = dr where c is set, else 0; dy the other way round; each summed over the
 * dimensions along which its operand was stretched. c is constant.
 */
#include "autograd/loop.h"
#include "ops/elementwise.h"
#include "ops/ops.h"
#include "ops/samples.h"

#define SELECT(T)                                                                                  \
    {                                                                                              \
        T *out = (T *)rd + at[0];                                                                  \
        const uint8_t *c = (const uint8_t *)cd + at[1];                                            \
        const T *x = (const T *)xd + at[2], *y = (const T *)yd + at[3];                            \
        for (int64_t i = 0; i < n; i++) out[i] = c[i * sc] ? x[i * sx] : y[i * sy];                \
    }

static void forward(tsr_tensor *r, tsr_tensor *condition, tsr_tensor *a, tsr_tensor *b)
{
    tsr_loop loop = tsr_loop__over(4, (const tsr_tensor *[]){r, condition, a, b});
    int64_t numel = tsr_tensor_numel(r), pieces = numel > 0 ? tsr_loop__pieces(&loop) : 0;
    void *rd = tsr_tensor_data_mut(r);
    const void *cd = tsr_tensor_data(condition), *xd = tsr_tensor_data(a), *yd = tsr_tensor_data(b);
    size_t size = tsr_dtype_size(tsr_tensor_dtype(r));
    int64_t sc = loop.stride[1][loop.ndim - 1], sx = loop.stride[2][loop.ndim - 1];
    int64_t sy = loop.stride[3][loop.ndim - 1];
    TSR_PARALLEL_FOR(p, pieces, numel, {
        int64_t at[TSR_LOOP_OPERANDS], n = tsr_loop__piece(&loop, p, at);
        if (size == sizeof(uint32_t))
            SELECT(uint32_t)
        else if (size == sizeof(uint64_t))
            SELECT(uint64_t)
        else
            SELECT(uint16_t)
    });
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    tsr_tensor *condition = tsr_node_saved(node, 0), *g = grad_outputs[0];
    tsr_tensor *zero = tsr_scalar(tsr_tensor_dtype(g), 0.0);
    if (tsr_node_wants(node, 1)) {
        grad_inputs[1] = tsr_sum_to(tsr_where(condition, g, zero), tsr_node_input_shape(node, 1));
    }
    if (tsr_node_wants(node, 2)) {
        grad_inputs[2] = tsr_sum_to(tsr_where(condition, zero, g), tsr_node_input_shape(node, 2));
    }
}

static const tsr_op op = {.name = "where", .backward = backward};

static tsr_tensor *result(tsr_tensor *condition, tsr_tensor *a, tsr_tensor *b)
{
    if (condition == NULL || a == NULL || b == NULL) return NULL;
    tsr_dtype tc = tsr_tensor_dtype(condition), ta = tsr_tensor_dtype(a), tb = tsr_tensor_dtype(b);
    if (tc != TSR_DTYPE_BOOL && tc != TSR_DTYPE_U8) {
        tsr_fail(TSR_STATUS_DTYPE, "where: condition is %s, expected bool or u8",
                 tsr_dtype_name(tc));
        return NULL;
    }
    if (ta != tb) {
        tsr_fail(TSR_STATUS_DTYPE, "where: a is %s and b is %s: cast one of them",
                 tsr_dtype_name(ta), tsr_dtype_name(tb));
        return NULL;
    }
    if (!tsr_elementwise__takes("where", "a", a)) return NULL;
    tsr_shape both, shape;
    if (!tsr_shape_broadcast(tsr_tensor_shape(a), tsr_tensor_shape(b), &both) ||
        !tsr_shape_broadcast(both, tsr_tensor_shape(condition), &shape)) {
        char sc[TSR_SHAPE_TEXT], sa[TSR_SHAPE_TEXT], sb[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE,
                 "where: condition has shape %s, a %s and b %s, which do not broadcast",
                 tsr_shape_text(tsr_tensor_shape(condition), sc),
                 tsr_shape_text(tsr_tensor_shape(a), sa), tsr_shape_text(tsr_tensor_shape(b), sb));
        return NULL;
    }
    return tsr_empty(ta, shape);
}

tsr_tensor *tsr_where(tsr_tensor *condition, tsr_tensor *a, tsr_tensor *b)
{
    tsr_tensor *r = result(condition, a, b);
    if (r == NULL) return NULL;
    forward(r, condition, a, b);
    return tsr_record(&op, NULL, TSR_TENSORS(condition, a, b), TSR_TENSORS(condition),
                      TSR_TENSORS(r));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_where(in.at[0], in.at[1], in.at[2]);
}

static const tsr_sample samples[] = {
    {"same shape", 3, 1, {{{2, {3, 5}}, .mask = true}, {{2, {3, 5}}}, {{2, {3, 5}}}}, call},
    {"row and column", 3, 1, {{{1, {7}}, .mask = true}, {{2, {3, 1}}}, {{0}}}, call},
    {"stretched by the condition", 3, 1, {{{2, {4, 3}}, .mask = true}, {{1, {3}}}, {{0}}}, call},
    {"empty", 3, 1, {{{1, {3}}, .mask = true}, {{2, {0, 3}}}, {{0}}}, call},
};
TSR_SAMPLES_BF16(where, samples);
