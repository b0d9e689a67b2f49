/* The projection head of DINO (Caron et al. 2021) and iBOT, as in the iBOT authors'
 * models/head.py. */
#include "models/models.h"

#include <inttypes.h>
#include <stdio.h>

enum { MAX_LAYERS = 64 };

static bool complete(tsr_head_config *c)
{
    if (c->layers == 0) c->layers = 3;
    if (c->hidden == 0) c->hidden = 2048;
    if (c->bottleneck == 0) c->bottleneck = 256;
    if (c->patch_out_dim == 0) c->patch_out_dim = c->out_dim;
    if (c->dim < 1 || c->out_dim < 1 || c->patch_out_dim < 1 || c->hidden < 1 ||
        c->bottleneck < 1 || c->layers < 1 || c->layers > MAX_LAYERS) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "head: dim is %" PRId64 ", out_dim %" PRId64 ", patch_out_dim %" PRId64
                 ", layers %" PRId64 ", hidden %" PRId64 ", bottleneck %" PRId64
                 "; expected 1 or more, and layers up to %d",
                 c->dim, c->out_dim, c->patch_out_dim, c->layers, c->hidden, c->bottleneck,
                 MAX_LAYERS);
        return false;
    }
    if (c->patch_layer == TSR_PATCH_LAYER_SHARED && c->patch_out_dim != c->out_dim) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "head: a shared last layer has one size, but out_dim is %" PRId64
                 " and patch_out_dim %" PRId64,
                 c->out_dim, c->patch_out_dim);
        return false;
    }
    return true;
}

tsr_head *tsr_head_new(const tsr_head_config *config)
{
    tsr_head_config c = *config;
    if (!complete(&c)) return NULL;
    tsr_head *m = tsr_module_new(sizeof *m + (size_t)c.layers * sizeof *m->mlp, "head", c.dtype);
    if (m == NULL) return NULL;
    tsr_module *base = &m->module;
    m->config = c;
    /* Places in the authors' nn.Sequential: linear, norm if any, GELU. */
    int64_t stride = c.norm == TSR_NORM_NONE ? 2 : 3;
    for (int64_t i = 0; i < c.layers; i++) {
        bool last = i == c.layers - 1;
        char name[TSR_MODULE_NAME] = "mlp";
        if (c.layers > 1) snprintf(name, sizeof name, "mlp.%" PRId64, stride * i);
        m->mlp[i] = tsr_module_child(base, name,
                                     tsr_linear_new(i == 0 ? c.dim : c.hidden,
                                                    last ? c.bottleneck : c.hidden, true, c.dtype));
        if (last || c.norm == TSR_NORM_NONE) continue;
        snprintf(name, sizeof name, "mlp.%" PRId64, stride * i + 1);
        /* One norm under all its names, as in the authors' code. */
        if (i == 0) m->norm = tsr_norm_new(c.norm, c.hidden, 1e-5, c.dtype);
        m->norm = tsr_module_child(base, name, m->norm);
    }
    m->last_layer =
        tsr_module_child(base, "last_layer",
                         tsr_weight_norm_new(c.bottleneck, c.out_dim, c.norm_last_layer, c.dtype));
    if (c.patch_layer == TSR_PATCH_LAYER_SHARED) {
        m->last_layer2 = tsr_module_child(base, "last_layer2", m->last_layer);
    } else if (c.patch_layer == TSR_PATCH_LAYER_SEPARATE) {
        m->last_layer2 = tsr_module_child(
            base, "last_layer2",
            tsr_weight_norm_new(c.bottleneck, c.patch_out_dim, c.norm_last_layer, c.dtype));
    }
    return tsr_module_finish(base);
}

tsr_tensor *tsr_head_project(const tsr_head *m, tsr_tensor *x)
{
    if (m == NULL || x == NULL) return NULL;
    const tsr_module *base = &m->module;
    tsr_scope scope = tsr_module_enter(base);
    x = tsr_module_narrow(base, x);
    int64_t last = m->config.layers - 1;
    for (int64_t i = 0; i < last; i++) {
        if (m->norm == NULL) {
            x = tsr_linear_gelu_forward(m->mlp[i], x);
        } else {
            x = tsr_module_widen(base, tsr_linear_forward(m->mlp[i], x));
            x = tsr_gelu(tsr_norm_narrow(m->norm, x), false);
        }
    }
    x = tsr_linear_forward(m->mlp[last], x);
    return tsr_module_leave(&scope, tsr_l2_normalize(tsr_module_widen(base, x), -1, 1e-12));
}

static tsr_tensor *logits(const tsr_head *m, const tsr_weight_norm_layer *layer, tsr_tensor *z)
{
    tsr_scope scope = tsr_module_enter(&m->module);
    return tsr_module_leave(&scope, tsr_weight_norm_forward(layer, z));
}

tsr_tensor *tsr_head_class_logits(const tsr_head *m, tsr_tensor *z)
{
    return m == NULL ? NULL : logits(m, m->last_layer, z);
}

static bool has_patch_layer(const tsr_head *m)
{
    if (m->last_layer2 != NULL) return true;
    tsr_fail(TSR_STATUS_ARGUMENT, "head: was built without a layer for patches");
    return false;
}

tsr_tensor *tsr_head_patch_logits(const tsr_head *m, tsr_tensor *z)
{
    return m == NULL || !has_patch_layer(m) ? NULL : logits(m, m->last_layer2, z);
}

tsr_head_weights tsr_head_weights_make(const tsr_head *m)
{
    tsr_head_weights w = {0};
    if (m == NULL || !has_patch_layer(m)) return w;
    bool shared = m->last_layer2 == m->last_layer;
    tsr_scope scope = tsr_module_enter(&m->module);
    w.cls = w.patch = tsr_weight_norm_weight(m->last_layer);
    if (!shared) w.patch = tsr_weight_norm_weight(m->last_layer2);
    tsr_module_leave_many(&scope, TSR_TENSORS(w.cls, shared ? NULL : w.patch));
    return w;
}

tsr_status tsr_head_forward(const tsr_head *m, tsr_tensor *tokens, tsr_tensor **cls,
                            tsr_tensor **patch)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *z = tsr_head_project(m, tokens);
    tsr_head_weights w = tsr_head_weights_make(m);
    *cls = tsr_linear(tsr_tokens_class(z), w.cls, NULL);
    *patch = tsr_linear(tsr_tokens_patches(z), w.patch, NULL);
    if (*patch == NULL) *cls = NULL;
    tsr_scope_close(&scope, TSR_TENSORS(*cls, *patch));
    return *cls != NULL ? TSR_STATUS_OK : tsr_fail(TSR_STATUS_ARGUMENT, "head: an input is NULL");
}
