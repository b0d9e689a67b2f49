/*
 * w = g v / |v| by rows, v [O, I], g [O, 1] (Salimans & Kingma 2016, equation 2). With u = v / |v| (their equation 3):
 * dg = u . dw, dv = g / |v| (dw - u (u . dw)). Backward keeps |v| of each row.
 */
#include "ops/kernels/kernels.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

static bool shape_rule(tsr_tensor *v, tsr_tensor *g)
{
    if (!tsr_rows__is_real("weight_norm", "v", v) ||
        !tsr_rows__dtype_fits("weight_norm", "g", g, "v", tsr_tensor_dtype(v))) {
        return false;
    }
    char got[TSR_SHAPE_TEXT];
    if (tsr_tensor_ndim(v) != 2) {
        tsr_fail(TSR_STATUS_SHAPE, "weight_norm: v has shape %s, expected [O, I]",
                 tsr_shape_text(tsr_tensor_shape(v), got));
        return false;
    }
    if (tsr_shape_equal(tsr_tensor_shape(g), TSR_SHAPE(tsr_tensor_size(v, 0), 1))) return true;
    tsr_fail(TSR_STATUS_SHAPE, "weight_norm: g has shape %s, expected [%lld, 1]",
             tsr_shape_text(tsr_tensor_shape(g), got), (long long)tsr_tensor_size(v, 0));
    return false;
}

static tsr_tensor *forward(tsr_tensor *v, tsr_tensor *gain, tsr_tensor **norms)
{
    tsr_dtype dtype = tsr_tensor_dtype(v);
    tsr_rows r = tsr_rows__of(tsr_tensor_shape(v));
    tsr_tensor *w = tsr_empty(dtype, tsr_tensor_shape(v));
    *norms = tsr_empty(dtype, TSR_SHAPE(r.rows));
    v = tsr_tensor_packed(v);
    gain = tsr_tensor_packed(gain);
    if (w == NULL || *norms == NULL || v == NULL || gain == NULL) return NULL;
    const tsr_kernels *k = tsr_kernels__get(dtype);
    char *wd = tsr_tensor_data_mut(w), *nd = tsr_tensor_data_mut(*norms);
    const char *vd = tsr_tensor_data(v), *gd = tsr_tensor_data(gain);
    size_t size = tsr_dtype_size(dtype);
    TSR_PARALLEL_FOR(c, r.chunks, r.rows * r.d, {
        size_t at = tsr_rows__offset(&r, c, dtype), row = (size_t)(c * r.chunk) * size;
        k->normalize(wd + at, nd + row, vd + at, gd + row, tsr_rows__in_chunk(&r, c), r.d, 0.0);
    });
    return w;
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    tsr_tensor *v = tsr_tensor_packed(tsr_node_input(node, 0));
    tsr_tensor *gain = v != NULL ? tsr_tensor_packed(tsr_node_input(node, 1)) : NULL;
    tsr_tensor *dw = gain != NULL ? tsr_tensor_packed(grad_outputs[0]) : NULL, *d[2] = {0};
    if (dw == NULL) return;
    tsr_dtype dtype = tsr_tensor_dtype(v);
    tsr_rows r = tsr_rows__of(tsr_tensor_shape(v));
    for (int i = 0; i < 2; i++) {
        if (!tsr_node_wants(node, i)) continue;
        d[i] = tsr_empty(dtype, tsr_tensor_shape(i == 0 ? v : gain));
        if (d[i] == NULL) return;
    }
    const tsr_kernels *k = tsr_kernels__get(dtype);
    char *dvd = tsr_tensor_data_mut(d[0]), *dgd = tsr_tensor_data_mut(d[1]);
    const char *dwd = tsr_tensor_data(dw), *vd = tsr_tensor_data(v), *gd = tsr_tensor_data(gain),
               *nd = tsr_tensor_data(tsr_node_saved(node, 0));
    size_t size = tsr_dtype_size(dtype);
    TSR_PARALLEL_FOR(c, r.chunks, r.rows * r.d, {
        size_t at = tsr_rows__offset(&r, c, dtype), row = (size_t)(c * r.chunk) * size;
        k->normalize_backward(dvd != NULL ? dvd + at : NULL, dgd != NULL ? dgd + row : NULL,
                              dwd + at, vd + at, gd + row, nd + row, tsr_rows__in_chunk(&r, c), r.d,
                              0.0);
    });
    grad_inputs[0] = d[0];
    grad_inputs[1] = d[1];
}

static void definition(const void *block, tsr_tensors in, tsr_tensor **outputs)
{
    (void)block;
    tsr_tensor *v = in.at[0], *squares = tsr_sum(tsr_mul(v, v), (const int[]){-1}, 1, true);
    outputs[0] = tsr_mul(in.at[1], tsr_mul(v, tsr_rsqrt(squares)));
}

static const tsr_op op = {.name = "weight_norm", .backward = backward, .definition = definition};

tsr_tensor *tsr_weight_norm(tsr_tensor *v, tsr_tensor *g)
{
    if (v == NULL || g == NULL || !shape_rule(v, g)) return NULL;
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *norms = NULL, *w = forward(v, g, &norms);
    w = tsr_record(&op, NULL, TSR_TENSORS(v, g), TSR_TENSORS(norms), TSR_TENSORS(w));
    return tsr_scope_return(&scope, w);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_weight_norm(in.at[0], in.at[1]);
}

static const tsr_sample samples[] = {
    {"rows", 2, 1, {{{2, {3, 7}}}, {{2, {3, 1}}}}, call},
    {"one row", 2, 1, {{{2, {1, 5}}}, {{2, {1, 1}}}}, call},
    {"constant g", 2, 1, {{{2, {3, 4}}}, {{2, {3, 1}}, .constant = true}}, call},
    {"no rows", 2, 1, {{{2, {0, 4}}}, {{2, {0, 1}}}}, call},
};
TSR_SAMPLES(weight_norm, samples);
