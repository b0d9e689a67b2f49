/* The transformer block and its two branches. */
#include "models/models.h"

#include <inttypes.h>

tsr_mlp *tsr_mlp_new(int64_t dim, int64_t hidden, tsr_dtype dtype)
{
    tsr_mlp *m = tsr_module_new(sizeof *m, "mlp", dtype);
    if (m == NULL) return NULL;
    m->fc1 = tsr_module_child(&m->module, "fc1", tsr_linear_new(dim, hidden, true, dtype));
    m->fc2 = tsr_module_child(&m->module, "fc2", tsr_linear_new(hidden, dim, true, dtype));
    return tsr_module_finish(&m->module);
}

tsr_tensor *tsr_mlp_forward(const tsr_mlp *m, tsr_tensor *x)
{
    if (m == NULL) return NULL;
    tsr_scope scope = tsr_module_enter(&m->module);
    x = tsr_linear_forward(m->fc1, x);
    x = tsr_gelu(x, false);
    x = tsr_linear_forward(m->fc2, x);
    return tsr_module_leave(&scope, x);
}

tsr_attention *tsr_attention_new(int64_t dim, int64_t heads, bool qkv_bias, tsr_dtype dtype)
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
    return tsr_module_finish(&m->module);
}

/* [B, T, D] -> [B, heads, T, D / heads], a view. */
static tsr_tensor *split_heads(tsr_tensor *x, int64_t heads)
{
    int64_t batch = tsr_tensor_size(x, 0), tokens = tsr_tensor_size(x, 1),
            dim = tsr_tensor_size(x, 2);
    x = tsr_reshape(x, TSR_SHAPE(batch, tokens, heads, dim / heads));
    return tsr_transpose(x, 1, 2);
}

tsr_tensor *tsr_attention_forward(const tsr_attention *m, tsr_tensor *x, tsr_tensor **weights)
{
    if (weights != NULL) *weights = NULL;
    if (m == NULL || x == NULL) return NULL;
    if (tsr_tensor_ndim(x) != 3) {
        char text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE, "%s: x has shape %s, expected [B, T, D]", m->module.name,
                 tsr_shape_text(tsr_tensor_shape(x), text));
        return NULL;
    }
    tsr_scope scope = tsr_module_enter(&m->module);
    tsr_shape shape = tsr_tensor_shape(x);
    tsr_tensor *qkv[3];
    tsr_split(tsr_linear_forward(m->qkv, x), -1, 3, qkv);
    for (int i = 0; i < 3; i++) qkv[i] = split_heads(qkv[i], m->heads);
    x = tsr_scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], NULL, NULL, weights);
    x = tsr_reshape(tsr_transpose(x, 1, 2), shape);
    x = tsr_linear_forward(m->proj, x);
    tsr_module_leave_many(&scope, TSR_TENSORS(x, weights != NULL ? *weights : NULL));
    return x;
}

tsr_transformer_block *tsr_transformer_block_new(const tsr_transformer_block_config *config)
{
    tsr_transformer_block_config c = *config;
    if (c.eps == 0.0) c.eps = 1e-6;
    if (!(c.drop_path >= 0.0 && c.drop_path < 1.0)) {
        tsr_fail(TSR_STATUS_ARGUMENT, "block: drop_path is %g, expected 0 or more, below 1",
                 c.drop_path);
        return NULL;
    }
    tsr_transformer_block *m = tsr_module_new(sizeof *m, "block", c.dtype);
    if (m == NULL) return NULL;
    tsr_module *base = &m->module;
    m->drop_path = c.drop_path;
    if (c.layer_scale != 0.0) {
        tsr_init init = TSR_INIT_CONSTANT(c.layer_scale);
        m->gamma_1 = tsr_module_parameter(base, "gamma_1", TSR_SHAPE(c.dim), init);
        m->gamma_2 = tsr_module_parameter(base, "gamma_2", TSR_SHAPE(c.dim), init);
    }
    m->norm1 = tsr_module_child(base, "norm1", tsr_norm_new(TSR_NORM_LAYER, c.dim, c.eps, c.dtype));
    m->attn =
        tsr_module_child(base, "attn", tsr_attention_new(c.dim, c.heads, c.qkv_bias, c.dtype));
    m->norm2 = tsr_module_child(base, "norm2", tsr_norm_new(TSR_NORM_LAYER, c.dim, c.eps, c.dtype));
    m->mlp = tsr_module_child(base, "mlp", tsr_mlp_new(c.dim, c.hidden, c.dtype));
    return tsr_module_finish(base);
}

/* x + drop_path(gamma y); branch 0 or 1 tells the random numbers of the two apart. */
static tsr_tensor *residual(const tsr_transformer_block *m, tsr_tensor *x, tsr_tensor *y,
                            tsr_tensor *gamma, const tsr_rng *rng, uint32_t branch)
{
    if (gamma != NULL) y = tsr_mul(y, gamma);
    if (m->module.training && m->drop_path > 0.0) {
        tsr_rng own = *rng;
        own.purpose += branch;
        y = tsr_drop_path(y, m->drop_path, own);
    }
    return tsr_add(x, y);
}

tsr_tensor *tsr_transformer_block_forward(const tsr_transformer_block *m, tsr_tensor *x,
                                          const tsr_rng *rng, tsr_tensor **weights)
{
    if (weights != NULL) *weights = NULL;
    if (m == NULL || x == NULL) return NULL;
    if (m->module.training && m->drop_path > 0.0 && rng == NULL) {
        tsr_fail(TSR_STATUS_STATE, "%s: drop path in training wants an rng", m->module.name);
        return NULL;
    }
    tsr_scope scope = tsr_module_enter(&m->module);
    tsr_tensor *y = tsr_attention_forward(m->attn, tsr_norm_forward(m->norm1, x), weights);
    x = residual(m, x, y, m->gamma_1, rng, 0);
    y = tsr_mlp_forward(m->mlp, tsr_norm_forward(m->norm2, x));
    x = residual(m, x, y, m->gamma_2, rng, 1);
    tsr_module_leave_many(&scope, TSR_TENSORS(x, weights != NULL ? *weights : NULL));
    return x;
}
