/* The transformer block and its two branches. */
#include "models/models.h"

#include <inttypes.h>

/* The random numbers of a layer's place; NULL without any. */
static const tsr_rng *place(const tsr_rng *rng, uint32_t at, tsr_rng *own)
{
    if (rng == NULL) return NULL;
    *own = *rng;
    own->purpose += at;
    return own;
}

static tsr_mlp *new_mlp(int64_t dim, int64_t hidden, bool gated, double drop, tsr_dtype dtype)
{
    tsr_mlp *m = tsr_module_new(sizeof *m, "mlp", dtype);
    if (m == NULL) return NULL;
    m->gated = gated;
    m->fc1 = tsr_module_child(&m->module, gated ? "w12" : "fc1",
                              tsr_linear_new(dim, gated ? 2 * hidden : hidden, true, dtype));
    m->fc2 = tsr_module_child(&m->module, gated ? "w3" : "fc2",
                              tsr_linear_new(hidden, dim, true, dtype));
    m->drop = tsr_module_child(&m->module, "drop", tsr_dropout_new(drop, dtype));
    return tsr_module_finish(&m->module);
}

tsr_mlp *tsr_mlp_new(int64_t dim, int64_t hidden, double drop, tsr_dtype dtype)
{
    return new_mlp(dim, hidden, false, drop, dtype);
}

tsr_mlp *tsr_mlp_new_gated(int64_t dim, int64_t hidden, double drop, tsr_dtype dtype)
{
    return new_mlp(dim, hidden, true, drop, dtype);
}

static tsr_tensor *gate(tsr_tensor *x)
{
    tsr_tensor *halves[2];
    if (tsr_split(x, -1, 2, halves) != TSR_STATUS_OK) return NULL;
    return tsr_mul(tsr_silu(halves[0]), halves[1]);
}

tsr_tensor *tsr_mlp_forward(const tsr_mlp *m, tsr_tensor *x, const tsr_rng *rng)
{
    if (m == NULL) return NULL;
    tsr_rng own;
    tsr_scope scope = tsr_module_enter(&m->module);
    x = tsr_module_narrow(&m->module, x);
    x = m->gated ? gate(tsr_linear_forward(m->fc1, x)) : tsr_linear_gelu_forward(m->fc1, x);
    x = tsr_dropout_forward(m->drop, x, place(rng, 0, &own));
    x = tsr_linear_forward(m->fc2, x);
    x = tsr_dropout_forward(m->drop, x, place(rng, 1, &own));
    return tsr_module_leave(&scope, tsr_module_widen(&m->module, x));
}

tsr_attention *tsr_attention_new(int64_t dim, int64_t heads, bool qkv_bias, double attn_drop,
                                 double proj_drop, tsr_dtype dtype)
{
    if (heads < 1 || dim < 1 || dim % heads != 0) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "attention: dim is %" PRId64 ", heads %" PRId64 "; heads must divide dim", dim,
                 heads);
        return NULL;
    }
    tsr_attention *m = tsr_module_new(sizeof *m, "attention", dtype);
    if (m == NULL) return NULL;
    m->heads = heads;
    m->qkv = tsr_module_child(&m->module, "qkv", tsr_linear_new(dim, 3 * dim, qkv_bias, dtype));
    m->proj = tsr_module_child(&m->module, "proj", tsr_linear_new(dim, dim, true, dtype));
    m->attn_drop = tsr_module_child(&m->module, "attn_drop", tsr_dropout_new(attn_drop, dtype));
    m->proj_drop = tsr_module_child(&m->module, "proj_drop", tsr_dropout_new(proj_drop, dtype));
    return tsr_module_finish(&m->module);
}

/* [..., T, D] -> [..., heads, T, D / heads], a view. */
static tsr_tensor *split_heads(tsr_tensor *x, int64_t heads)
{
    if (x == NULL) return NULL;
    tsr_shape shape = tsr_tensor_shape(x);
    int last = shape.ndim - 1;
    shape.size[last + 1] = shape.size[last] / heads;
    shape.size[last] = heads;
    shape.ndim++;
    return tsr_transpose(tsr_reshape(x, shape), last - 1, last);
}

/* Attention before its last layer, of x in the type that is computed in. */
static tsr_tensor *attend(const tsr_attention *m, tsr_tensor *x, tsr_tensor *bias,
                          const tsr_attention_options *options, tsr_tensor **weights)
{
    tsr_shape shape = tsr_tensor_shape(x);
    tsr_tensor *qkv[3];
    if (bias != NULL) bias = tsr_module_narrow(&m->module, bias);
    tsr_split(tsr_linear_forward(m->qkv, x), -1, 3, qkv);
    for (int i = 0; i < 3; i++) qkv[i] = split_heads(qkv[i], m->heads);
    x = tsr_scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], bias, options, weights);
    return tsr_reshape(tsr_transpose(x, shape.ndim - 2, shape.ndim - 1), shape);
}

tsr_tensor *tsr_attention_forward(const tsr_attention *m, tsr_tensor *x, tsr_tensor *bias,
                                  const tsr_rng *rng, tsr_tensor **weights)
{
    if (weights != NULL) *weights = NULL;
    if (m == NULL || x == NULL) return NULL;
    if (tsr_tensor_ndim(x) < 3 || tsr_tensor_ndim(x) >= TSR_MAX_DIMS) {
        char text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE, "%s: x has shape %s, expected [..., T, D]", m->module.name,
                 tsr_shape_text(tsr_tensor_shape(x), text));
        return NULL;
    }
    tsr_attention_options options = {0};
    if (m->module.training && m->attn_drop->p > 0.0) {
        if (rng == NULL) {
            tsr_fail(TSR_STATUS_STATE, "%s: dropout in training wants an rng", m->module.name);
            return NULL;
        }
        options.dropout = m->attn_drop->p;
        options.rng = *rng;
    }
    tsr_rng own;
    tsr_scope scope = tsr_module_enter(&m->module);
    x = attend(m, tsr_module_narrow(&m->module, x), bias, &options, weights);
    x = tsr_linear_forward(m->proj, x);
    x = tsr_dropout_forward(m->proj_drop, x, place(rng, 1, &own));
    if (weights != NULL) *weights = tsr_module_widen(&m->module, *weights);
    tsr_module_leave_many(&scope, TSR_TENSORS(x, weights != NULL ? *weights : NULL));
    return x;
}

tsr_transformer_block *tsr_transformer_block_new(const tsr_transformer_block_config *config)
{
    tsr_transformer_block_config c = *config;
    if (c.eps == 0.0) c.eps = 1e-6;
    tsr_transformer_block *m = tsr_module_new(sizeof *m, "block", c.dtype);
    if (m == NULL) return NULL;
    tsr_module *base = &m->module;
    if (c.layer_scale != 0.0) {
        tsr_init init = TSR_INIT_CONSTANT(c.layer_scale);
        m->gamma_1 = tsr_module_parameter(base, "gamma_1", TSR_SHAPE(c.dim), init);
        m->gamma_2 = tsr_module_parameter(base, "gamma_2", TSR_SHAPE(c.dim), init);
    }
    m->norm1 = tsr_module_child(base, "norm1", tsr_norm_new(TSR_NORM_LAYER, c.dim, c.eps, c.dtype));
    m->attn = tsr_module_child(
        base, "attn", tsr_attention_new(c.dim, c.heads, c.qkv_bias, c.attn_drop, c.drop, c.dtype));
    if (c.relative.rows != 0 && m->attn != NULL) {
        m->attn->position =
            tsr_relative_position_new(&m->attn->module, c.relative, c.heads, c.relative_init);
        base->failed |= m->attn->module.failed;
    }
    m->norm2 = tsr_module_child(base, "norm2", tsr_norm_new(TSR_NORM_LAYER, c.dim, c.eps, c.dtype));
    m->mlp = tsr_module_child(base, "mlp", new_mlp(c.dim, c.hidden, c.gated, c.drop, c.dtype));
    m->drop_path = tsr_module_child(base, "drop_path", tsr_drop_path_new(c.drop_path, c.dtype));
    return tsr_module_finish(base);
}

/* The places of a block's random numbers. */
enum { PATH_1, PATH_2, ATTENTION, MLP = ATTENTION + 2 };

/* x + drop_path(gamma y) */
static tsr_tensor *residual(const tsr_transformer_block *m, tsr_tensor *x, tsr_tensor *y,
                            tsr_tensor *gamma, const tsr_rng *rng)
{
    if (gamma != NULL) y = tsr_mul(y, gamma);
    return tsr_add(x, tsr_drop_path_forward(m->drop_path, y, rng));
}

tsr_tensor *tsr_transformer_block_forward(const tsr_transformer_block *m, tsr_tensor *x,
                                          tsr_tensor *bias, const tsr_rng *rng,
                                          tsr_tensor **weights)
{
    if (weights != NULL) *weights = NULL;
    if (m == NULL || x == NULL) return NULL;
    tsr_rng own;
    tsr_scope scope = tsr_module_enter(&m->module);
    tsr_tensor *y = tsr_attention_forward(m->attn, tsr_norm_narrow(m->norm1, x), bias,
                                          place(rng, ATTENTION, &own), weights);
    y = tsr_norm_residual(m->norm2, m->drop_path, x, y, m->gamma_1, place(rng, PATH_1, &own), &x);
    y = tsr_mlp_forward(m->mlp, y, place(rng, MLP, &own));
    x = residual(m, x, y, m->gamma_2, place(rng, PATH_2, &own));
    tsr_module_leave_many(&scope, TSR_TENSORS(x, weights != NULL ? *weights : NULL));
    return x;
}

/* ---- some tokens alone ---- */

/* Rows [from, to) of a layer as a layer of its own. */
static tsr_tensor *part_of_linear(const tsr_linear_layer *m, tsr_tensor *x, int64_t from,
                                  int64_t to)
{
    tsr_tensor *bias = m->bias != NULL ? tsr_slice(m->bias, 0, from, to, 1) : NULL;
    return tsr_linear(x, tsr_slice(m->weight, 0, from, to, 1), bias);
}

/* Attention's result [B, D] for the first token of each sample, first [B, 1, D] of x [B, T, D]: no other asks. */
static tsr_tensor *attention_of_first(const tsr_attention *m, tsr_tensor *first, tsr_tensor *x,
                                      tsr_tensor *bias)
{
    int64_t dim = tsr_tensor_size(x, 2);
    tsr_scope scope = tsr_module_enter(&m->module);
    tsr_tensor *kv[2], *q = split_heads(part_of_linear(m->qkv, first, 0, dim), m->heads);
    tsr_split(part_of_linear(m->qkv, x, dim, 3 * dim), -1, 2, kv);
    for (int i = 0; i < 2; i++) kv[i] = split_heads(kv[i], m->heads);
    if (bias != NULL) bias = tsr_slice(tsr_module_narrow(&m->module, bias), -2, 0, 1, 1);
    x = tsr_scaled_dot_product_attention(q, kv[0], kv[1], bias, NULL, NULL);
    x = tsr_linear_forward(m->proj, tsr_reshape(x, TSR_SHAPE(-1, dim)));
    return tsr_module_leave(&scope, x);
}

/* The same [R, D] for chosen rows of [B T, D]. */
static tsr_tensor *attention_of_rows(const tsr_attention *m, tsr_tensor *x, tsr_tensor *bias,
                                     tsr_tensor *rows)
{
    tsr_scope scope = tsr_module_enter(&m->module);
    x = tsr_flatten(attend(m, x, bias, NULL, NULL), 0, 1);
    x = tsr_linear_forward(m->proj, tsr_gather_rows(x, rows));
    return tsr_module_leave(&scope, x);
}

/* Of each row of [B T, D], which sample it is of. */
static tsr_tensor *samples_of(tsr_tensor *rows, int64_t tokens)
{
    tsr_tensor *samples = tsr_empty(TSR_DTYPE_I64, tsr_tensor_shape(rows));
    int64_t *to = tsr_tensor_data_mut(samples);
    const int64_t *from = tsr_tensor_data(tsr_tensor_packed(rows));
    for (int64_t i = 0; from != NULL && to != NULL && i < tsr_tensor_numel(rows); i++) {
        to[i] = from[i] / tokens;
    }
    return samples;
}

/* As residual(); samples: of each row, whose drop path it takes. */
static tsr_tensor *residual_of_rows(const tsr_transformer_block *m, tsr_tensor *x, tsr_tensor *y,
                                    tsr_tensor *gamma, const tsr_rng *rng, tsr_tensor *samples,
                                    int64_t batch)
{
    if (gamma != NULL) y = tsr_mul(y, gamma);
    if (m->module.training && m->drop_path->p > 0.0) {
        tsr_tensor *ones = tsr_full(tsr_tensor_dtype(y), TSR_SHAPE(batch, 1), 1.0);
        tsr_tensor *kept = tsr_drop_path_forward(m->drop_path, ones, rng);
        y = tsr_mul(y, tsr_gather_rows(kept, samples));
    }
    return tsr_add(x, y);
}

/* For the first token of each sample, [B, D]. */
static tsr_tensor *block_of_first(const tsr_transformer_block *m, tsr_tensor *x, tsr_tensor *bias,
                                  const tsr_rng *rng)
{
    tsr_rng own;
    tsr_tensor *first = tsr_slice(x, 1, 0, 1, 1), *y = tsr_norm_narrow(m->norm1, x);
    y = attention_of_first(m->attn, tsr_norm_narrow(m->norm1, first), y, bias);
    x = tsr_reshape(first, TSR_SHAPE(tsr_tensor_size(x, 0), -1));
    y = tsr_norm_residual(m->norm2, m->drop_path, x, y, m->gamma_1, place(rng, PATH_1, &own), &x);
    y = tsr_mlp_forward(m->mlp, y, place(rng, MLP, &own));
    return residual(m, x, y, m->gamma_2, place(rng, PATH_2, &own));
}

static tsr_tensor *block_of_rows(const tsr_transformer_block *m, tsr_tensor *x, tsr_tensor *bias,
                                 const tsr_rng *rng, tsr_tensor *rows)
{
    tsr_rng own;
    int64_t batch = tsr_tensor_size(x, 0);
    tsr_tensor *samples = samples_of(rows, tsr_tensor_size(x, 1));
    tsr_tensor *y = attention_of_rows(m->attn, tsr_norm_narrow(m->norm1, x), bias, rows);
    y = tsr_module_widen(&m->module, y);
    x = tsr_gather_rows(tsr_flatten(x, 0, 1), rows);
    x = residual_of_rows(m, x, y, m->gamma_1, place(rng, PATH_1, &own), samples, batch);
    y = tsr_mlp_forward(m->mlp, tsr_norm_narrow(m->norm2, x), place(rng, MLP, &own));
    return residual_of_rows(m, x, y, m->gamma_2, place(rng, PATH_2, &own), samples, batch);
}

tsr_tensor *tsr_transformer_block_rows(const tsr_transformer_block *m, tsr_tensor *x,
                                       tsr_tensor *bias, const tsr_rng *rng, tsr_tensor *rows)
{
    if (m == NULL || x == NULL) return NULL;
    tsr_scope scope = tsr_module_enter(&m->module);
    x = rows != NULL ? block_of_rows(m, x, bias, rng, rows) : block_of_first(m, x, bias, rng);
    return tsr_module_leave(&scope, x);
}

/* ---- recomputed ---- */

/* What a block that runs again needs beside x. It is a tensor among the inputs, and so lives as long as the tape's node. */
struct again {
    const tsr_transformer_block *block;
    bool draws;
    tsr_rng rng;
};

static void run(tsr_tensors inputs, tsr_tensor **outputs, int n_outputs, void *user)
{
    (void)n_outputs;
    (void)user;
    const struct again *a = tsr_tensor_data(inputs.at[1]);
    outputs[0] =
        tsr_transformer_block_forward(a->block, inputs.at[0], inputs.n > 2 ? inputs.at[2] : NULL,
                                      a->draws ? &a->rng : NULL, NULL);
}

tsr_tensor *tsr_transformer_block_recomputed(const tsr_transformer_block *m, tsr_tensor *x,
                                             tsr_tensor *bias, const tsr_rng *rng)
{
    if (m == NULL || x == NULL) return NULL;
    if (tsr_tape_current() == NULL) return tsr_transformer_block_forward(m, x, bias, rng, NULL);
    struct again a = {.block = m, .draws = rng != NULL};
    if (rng != NULL) a.rng = *rng;
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *y = NULL, *again = tsr_from(TSR_DTYPE_U8, TSR_SHAPE(sizeof a), &a);
    tsr_tensors inputs = TSR_TENSORS(x, again, bias);
    if (bias == NULL) inputs.n = 2;
    if (again != NULL) tsr_recompute(run, NULL, inputs, &y, 1);
    return tsr_scope_return(&scope, y);
}
