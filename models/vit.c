/*
 * Vision transformer: Dosovitskiy et al. 2021, "An image is worth 16x16 words", with the masking
 * and the position interpolation of the iBOT authors' models/vision_transformer.py.
 */
#include "models/renew.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

tsr_status tsr_vit_config_find(const char *name, tsr_vit_config *config)
{
    static const struct {
        const char *name;
        int64_t dim, depth, heads;
    } known[] = {
        {"vit_tiny", 192, 12, 3},
        {"vit_small", 384, 12, 6},
        {"vit_base", 768, 12, 12},
        {"vit_large", 1024, 24, 16},
    };
    for (size_t i = 0; name != NULL && i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].name, name) != 0) continue;
        *config = (tsr_vit_config){.dim = known[i].dim,
                                   .depth = known[i].depth,
                                   .heads = known[i].heads,
                                   .qkv_bias = true};
        return TSR_STATUS_OK;
    }
    return tsr_fail(TSR_STATUS_ARGUMENT,
                    "vit_config: there is no \"%s\"; there are vit_tiny, vit_small, vit_base and "
                    "vit_large",
                    name != NULL ? name : "");
}

enum { MAX_DEPTH = 1024, MAX_REGISTERS = 1024 };

/* Defaults filled in; false with a message where it cannot be built. */
static bool complete(tsr_vit_config *c)
{
    if (c->image_size == 0) c->image_size = 224;
    if (c->patch_size == 0) c->patch_size = 16;
    if (c->channels == 0) c->channels = 3;
    if (c->mlp_ratio == 0.0) c->mlp_ratio = 4.0;
    if (c->eps == 0.0) c->eps = 1e-6;
    if (c->dim < 1 || c->depth < 1 || c->depth > MAX_DEPTH || c->channels < 1) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "vit: dim is %" PRId64 ", depth %" PRId64 ", channels %" PRId64
                 "; expected 1 or more, and depth up to %d",
                 c->dim, c->depth, c->channels, MAX_DEPTH);
        return false;
    }
    if (c->patch_size < 1 || c->image_size < c->patch_size) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "vit: image_size is %" PRId64 ", patch_size %" PRId64
                 "; expected an image of one patch or more",
                 c->image_size, c->patch_size);
        return false;
    }
    if (c->registers < 0 || c->registers > MAX_REGISTERS) {
        tsr_fail(TSR_STATUS_ARGUMENT, "vit: registers is %" PRId64 ", expected 0 to %d",
                 c->registers, MAX_REGISTERS);
        return false;
    }
    if (c->registers > 0 && c->relative != TSR_VIT_RELATIVE_NONE) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "vit: registers have no relative positions; take one of both");
        return false;
    }
    double hidden = (double)c->dim * c->mlp_ratio;
    if (!(hidden >= 1.0 && hidden < 1e9)) {
        tsr_fail(TSR_STATUS_ARGUMENT, "vit: mlp_ratio is %g, which makes an MLP of %g",
                 c->mlp_ratio, hidden);
        return false;
    }
    return true;
}

static const tsr_backbone_methods vit_methods;

static tsr_relative_position_layer *new_shared(tsr_relative_grid grid, int64_t heads,
                                               tsr_dtype dtype)
{
    tsr_relative_position_layer *m = tsr_module_new(sizeof *m, "rel_pos_bias", dtype);
    if (m == NULL) return NULL;
    m->position = tsr_relative_position_new(&m->module, grid, heads, TSR_INIT_CONSTANT(0.0));
    return tsr_module_finish(&m->module);
}

tsr_vit *tsr_vit_new(const tsr_vit_config *config)
{
    tsr_vit_config c = *config;
    if (!complete(&c)) return NULL;
    tsr_vit *m = tsr_module_new(sizeof *m + (size_t)c.depth * sizeof *m->blocks, "vit", c.dtype);
    if (m == NULL) return NULL;
    tsr_module *base = &m->module;
    m->config = c;
    m->backbone.methods = &vit_methods;
    m->backbone.dim = c.dim;
    m->backbone.depth = c.depth;
    m->backbone.image_size = c.image_size;
    m->backbone.token_size = c.patch_size;
    m->backbone.class_token = true;
    int64_t grid = c.image_size / c.patch_size;
    tsr_init init = TSR_INIT_TRUNC_NORMAL(0.02);
    m->cls_token = tsr_module_parameter(base, "cls_token", TSR_SHAPE(1, 1, c.dim), init);
    if (!c.no_position) {
        m->pos_embed =
            tsr_module_parameter(base, "pos_embed", TSR_SHAPE(1, 1 + grid * grid, c.dim), init);
    }
    if (c.masked) {
        m->masked_embed =
            tsr_module_parameter(base, "masked_embed", TSR_SHAPE(1, c.dim), TSR_INIT_CONSTANT(0.0));
    }
    if (c.registers > 0) {
        m->register_tokens = tsr_module_parameter(
            base, "register_tokens", TSR_SHAPE(1, c.registers, c.dim), TSR_INIT_TRUNC_NORMAL(1e-6));
    }
    tsr_conv_options patches = {.stride = {c.patch_size, c.patch_size}};
    m->patch_embed =
        tsr_module_child(base, "patch_embed.proj",
                         tsr_conv_new(c.channels, c.dim, c.patch_size, true, &patches, c.dtype));
    m->pos_drop = tsr_module_child(base, "pos_drop", tsr_dropout_new(c.drop, c.dtype));
    tsr_relative_grid relative = {grid, grid, true};
    if (c.relative == TSR_VIT_RELATIVE_SHARED && !base->failed) {
        m->rel_pos_bias =
            tsr_module_child(base, "rel_pos_bias", new_shared(relative, c.heads, c.dtype));
    }
    if (c.relative != TSR_VIT_RELATIVE_BLOCKS) relative = (tsr_relative_grid){0};
    for (int64_t i = 0; i < c.depth && !base->failed; i++) {
        char name[TSR_MODULE_NAME];
        snprintf(name, sizeof name, "blocks.%" PRId64, i);
        /* linspace(0, drop_path, depth) */
        double rate = c.depth == 1 ? 0.0 : c.drop_path * (double)i / (double)(c.depth - 1);
        m->blocks[i] = tsr_module_child(base, name,
                                        tsr_transformer_block_new(&(tsr_transformer_block_config){
                                            .dim = c.dim,
                                            .heads = c.heads,
                                            .hidden = (int64_t)((double)c.dim * c.mlp_ratio),
                                            .gated = c.gated,
                                            .qkv_bias = c.qkv_bias,
                                            .drop_path = rate,
                                            .drop = c.drop,
                                            .attn_drop = c.attn_drop,
                                            .layer_scale = c.layer_scale,
                                            .eps = c.eps,
                                            .relative = relative,
                                            .dtype = c.dtype}));
    }
    tsr_norm_layer *norm = tsr_norm_new(TSR_NORM_LAYER, c.dim, c.eps, c.dtype);
    if (c.mean_pooling) {
        m->fc_norm = tsr_module_child(base, "fc_norm", norm);
    } else {
        m->norm = tsr_module_child(base, "norm", norm);
    }
    return tsr_module_finish(base);
}

tsr_tensor *tsr_vit_resize_position(tsr_tensor *embedding, int64_t grid, int64_t h, int64_t w,
                                    tsr_position rule)
{
    if (h == grid && w == grid) return embedding;
    tsr_interpolate_options options = {.mode = TSR_INTERPOLATION_BICUBIC,
                                       .antialias = rule == TSR_POSITION_ANTIALIAS};
    if (rule == TSR_POSITION_OFFSET) {
        options.scale[0] = ((double)h + 0.1) / (double)grid;
        options.scale[1] = ((double)w + 0.1) / (double)grid;
    }
    int64_t dim = tsr_tensor_size(embedding, -1);
    tsr_tensor *cls = tsr_slice(embedding, 1, 0, 1, 1);
    tsr_tensor *patches = tsr_slice(embedding, 1, 1, 1 + grid * grid, 1);
    patches = tsr_reshape(patches, TSR_SHAPE(1, grid, grid, dim));
    patches = tsr_permute(patches, (const int[]){0, 3, 1, 2});
    patches = tsr_interpolate(patches, h, w, &options);
    patches = tsr_permute(patches, (const int[]){0, 2, 3, 1});
    patches = tsr_reshape(patches, TSR_SHAPE(1, h * w, dim));
    return tsr_concat(TSR_TENSORS(cls, patches), 1);
}

/* The position embedding for h x w patches: [1, 1 + h w, D]. */
static tsr_tensor *position(const tsr_vit *m, int64_t h, int64_t w)
{
    int64_t grid = m->config.image_size / m->config.patch_size;
    return tsr_vit_resize_position(m->pos_embed, grid, h, w, m->config.position);
}

/* The random numbers of block i, or of what comes after block i - 1; NULL without any. */
static const tsr_rng *place(const tsr_backbone_options *options, int64_t i, tsr_rng *rng)
{
    if (options == NULL) return NULL;
    *rng = options->rng;
    rng->purpose += TSR_BLOCK_PLACES * (uint32_t)i;
    return rng;
}

static tsr_tensor *mask_patches(const tsr_vit *m, tsr_tensor *patches, tsr_tensor *mask,
                                tsr_shape wanted)
{
    if (m->masked_embed == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "vit: got a mask, but was built without masked_embed");
        return NULL;
    }
    if (!tsr_shape_equal(tsr_tensor_shape(mask), wanted)) {
        char a[TSR_SHAPE_TEXT], b[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE, "vit: mask has shape %s, expected %s (images, rows, columns)",
                 tsr_shape_text(tsr_tensor_shape(mask), a), tsr_shape_text(wanted, b));
        return NULL;
    }
    mask = tsr_reshape(mask, TSR_SHAPE(wanted.size[0], wanted.size[1] * wanted.size[2], 1));
    return tsr_where(mask, m->masked_embed, patches);
}

/* Registers go behind the class token: [B, 1 + N, D] -> [B, 1 + R + N, D]. */
static tsr_tensor *add_registers(const tsr_vit *m, tsr_tensor *x)
{
    if (m->register_tokens == NULL || x == NULL) return x;
    int64_t batch = tsr_tensor_size(x, 0);
    tsr_tensor *registers =
        tsr_expand(m->register_tokens, TSR_SHAPE(batch, m->config.registers, m->config.dim));
    return tsr_concat(TSR_TENSORS(tsr_slice(x, 1, 0, 1, 1), registers, tsr_tokens_patches(x)), 1);
}

/* All along a dimension but the registers. */
static tsr_tensor *drop_registers(const tsr_vit *m, tsr_tensor *x, int dimension)
{
    if (m->register_tokens == NULL || x == NULL) return x;
    int64_t first = 1 + m->config.registers, end = tsr_tensor_size(x, dimension);
    return tsr_concat(
        TSR_TENSORS(tsr_slice(x, dimension, 0, 1, 1), tsr_slice(x, dimension, first, end, 1)),
        dimension);
}

/* Images to the tokens that enter the first block: [B, 1 + R + N, D]. */
static tsr_tensor *embed(const tsr_vit *m, tsr_tensor *images, const tsr_backbone_options *options)
{
    tsr_tensor *mask = options != NULL ? options->mask : NULL;
    tsr_rng rng;
    const tsr_vit_config *c = &m->config;
    if (tsr_tensor_ndim(images) != 4 || tsr_tensor_size(images, 1) != c->channels ||
        tsr_tensor_size(images, 2) < c->patch_size || tsr_tensor_size(images, 3) < c->patch_size) {
        char text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE,
                 "vit: images have shape %s, expected [B, %" PRId64
                 ", H, W] with H and W at least %" PRId64,
                 tsr_shape_text(tsr_tensor_shape(images), text), c->channels, c->patch_size);
        return NULL;
    }
    tsr_scope scope = tsr_scope_open();
    int64_t batch = tsr_tensor_size(images, 0), h = tsr_tensor_size(images, 2) / c->patch_size,
            w = tsr_tensor_size(images, 3) / c->patch_size;
    tsr_tensor *x = tsr_module_narrow(&m->module, images);
    x = tsr_patch_embed(x, m->patch_embed->weight, m->patch_embed->bias);
    x = tsr_module_widen(&m->module, x);
    x = tsr_permute(x, (const int[]){0, 2, 3, 1});
    x = tsr_reshape(x, TSR_SHAPE(batch, h * w, c->dim));
    if (mask != NULL) x = mask_patches(m, x, mask, TSR_SHAPE(batch, h, w));
    tsr_tensor *cls = tsr_expand(m->cls_token, TSR_SHAPE(batch, 1, c->dim));
    x = tsr_concat(TSR_TENSORS(cls, x), 1);
    if (m->pos_embed != NULL) x = tsr_add(x, position(m, h, w));
    x = add_registers(m, x);
    x = tsr_dropout_forward(m->pos_drop, x, place(options, c->depth, &rng));
    return tsr_scope_return(&scope, x);
}

/* What attention adds for the places of h x w patches. */
struct bias {
    tsr_tensor *shared; /* NULL unless shared; it outlives the blocks */
    int64_t h, w;
};

static struct bias bias_for(const tsr_vit *m, tsr_tensor *images)
{
    struct bias bias = {NULL, 0, 0};
    if (m->config.relative == TSR_VIT_RELATIVE_NONE || tsr_tensor_ndim(images) != 4) return bias;
    bias.h = tsr_tensor_size(images, 2) / m->config.patch_size;
    bias.w = tsr_tensor_size(images, 3) / m->config.patch_size;
    if (m->rel_pos_bias != NULL && bias.h > 0 && bias.w > 0) {
        bias.shared = tsr_relative_position_bias(&m->rel_pos_bias->position, bias.h, bias.w);
    }
    return bias;
}

/* Of block i; NULL: nothing. */
static tsr_tensor *bias_of(const tsr_vit *m, int64_t i, const struct bias *bias)
{
    if (bias->shared != NULL) return bias->shared;
    return tsr_relative_position_bias(&m->blocks[i]->attn->position, bias->h, bias->w);
}

static tsr_tensor *block(const tsr_vit *m, int64_t i, tsr_tensor *x, const struct bias *relative,
                         const tsr_backbone_options *options)
{
    if (x == NULL) return NULL;
    tsr_rng own;
    tsr_tensor *bias = bias_of(m, i, relative);
    const tsr_rng *rng = place(options, i, &own);
    if (m->backbone.recompute) return tsr_transformer_block_recomputed(m->blocks[i], x, bias, rng);
    return tsr_transformer_block_forward(m->blocks[i], x, bias, rng, NULL);
}

/* Blocks 0 .. n; each block's input dies as soon as nothing needs it. */
static tsr_tensor *blocks(const tsr_vit *m, tsr_scope *scope, int64_t n, tsr_tensor *x,
                          const struct bias *bias, const tsr_backbone_options *options)
{
    for (int64_t i = 0; i < n; i++) x = tsr_scope__renew(scope, block(m, i, x, bias, options));
    return x;
}

tsr_tensor *tsr_vit_forward(const tsr_vit *m, tsr_tensor *images,
                            const tsr_backbone_options *options)
{
    if (m == NULL || images == NULL) return NULL;
    tsr_scope outer = tsr_scope_open();
    struct bias bias = bias_for(m, images);
    tsr_scope scope = tsr_module_enter(&m->module);
    tsr_tensor *x = embed(m, images, options);
    x = drop_registers(m, blocks(m, &scope, m->config.depth, x, &bias, options), 1);
    if (m->norm != NULL) {
        x = tsr_norm_forward(m->norm, x);
    } else {
        tsr_tensor *patches = tsr_tokens_patches(x);
        tsr_tensor *mean = tsr_mean(patches, (const int[]){1}, 1, true);
        x = tsr_concat(TSR_TENSORS(tsr_norm_forward(m->fc_norm, mean), patches), 1);
    }
    return tsr_scope_return(&outer, tsr_module_leave(&scope, x));
}

/* rows of [B (1 + N), D] as rows of [B (1 + R + N), D]. */
static tsr_tensor *among_registers(const tsr_vit *m, tsr_tensor *rows, int64_t batch,
                                   int64_t tokens)
{
    int64_t visible = tokens - m->config.registers;
    if (tsr_tensor_dtype(rows) != TSR_DTYPE_I64 || tsr_tensor_ndim(rows) != 1) {
        char text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE, "vit: rows is %s %s, expected i64 [R]",
                 tsr_dtype_name(tsr_tensor_dtype(rows)),
                 tsr_shape_text(tsr_tensor_shape(rows), text));
        return NULL;
    }
    tsr_tensor *among = tsr_empty(TSR_DTYPE_I64, tsr_tensor_shape(rows));
    const int64_t *from = tsr_tensor_data(tsr_tensor_packed(rows));
    int64_t *to = tsr_tensor_data_mut(among);
    for (int64_t i = 0; from != NULL && to != NULL && i < tsr_tensor_numel(rows); i++) {
        if (from[i] < 0 || from[i] >= batch * visible) {
            tsr_fail(TSR_STATUS_SHAPE,
                     "vit: rows[%" PRId64 "] is %" PRId64 ", expected 0 to %" PRId64, i, from[i],
                     batch * visible - 1);
            return NULL;
        }
        int64_t sample = from[i] / visible, token = from[i] % visible;
        to[i] = sample * tokens + (token == 0 ? 0 : token + m->config.registers);
    }
    return among;
}

tsr_tensor *tsr_vit_rows(const tsr_vit *m, tsr_tensor *images, tsr_tensor *rows,
                         const tsr_backbone_options *options)
{
    if (m == NULL || images == NULL) return NULL;
    bool drops = m->module.training && (m->config.drop > 0.0 || m->config.attn_drop > 0.0);
    if (m->norm == NULL || drops) {
        tsr_scope scope = tsr_scope_open();
        return tsr_scope_return(&scope, tsr_tokens_rows(tsr_vit_forward(m, images, options), rows));
    }
    tsr_rng own;
    tsr_scope outer = tsr_scope_open();
    struct bias bias = bias_for(m, images);
    tsr_scope scope = tsr_module_enter(&m->module);
    int64_t last = m->config.depth - 1;
    tsr_tensor *x = blocks(m, &scope, last, embed(m, images, options), &bias, options);
    if (rows != NULL && x != NULL) {
        rows = among_registers(m, rows, tsr_tensor_size(x, 0), tsr_tensor_size(x, 1));
        if (rows == NULL) x = NULL;
    }
    x = tsr_transformer_block_rows(m->blocks[last], x, bias_of(m, last, &bias),
                                   place(options, last, &own), rows);
    return tsr_scope_return(&outer, tsr_module_leave(&scope, tsr_norm_forward(m->norm, x)));
}

tsr_status tsr_vit_intermediate(const tsr_vit *m, tsr_tensor *images, int n,
                                const tsr_backbone_options *options, tsr_tensor **outputs)
{
    for (int i = 0; i < n; i++) outputs[i] = NULL;
    if (m == NULL || images == NULL) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "vit_intermediate: the model or images are NULL");
    }
    if (n < 1 || n > m->config.depth) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "vit_intermediate: n is %d, expected 1 to %" PRId64 " (the depth)", n,
                        m->config.depth);
    }
    tsr_scope outer = tsr_scope_open();
    struct bias bias = bias_for(m, images);
    tsr_scope scope = tsr_module_enter(&m->module);
    tsr_tensor *x = embed(m, images, options);
    int64_t first = m->config.depth - n;
    bool normed = m->norm != NULL && (options == NULL || !options->no_norm);
    x = blocks(m, &scope, first, x, &bias, options);
    for (int i = 0; i < n; i++) {
        x = block(m, first + i, x, &bias, options);
        tsr_tensor *tokens = drop_registers(m, x, 1);
        outputs[i] = normed ? tsr_norm_forward(m->norm, tokens) : tokens;
    }
    bool failed = outputs[n - 1] == NULL;
    for (int i = 0; i < n && failed; i++) outputs[i] = NULL;
    tsr_module_leave_many(&scope, (tsr_tensors){outputs, n});
    tsr_scope_close(&outer, (tsr_tensors){outputs, n});
    return failed ? tsr_status_get() : TSR_STATUS_OK;
}

tsr_tensor *tsr_vit_last_attention(const tsr_vit *m, tsr_tensor *images)
{
    if (m == NULL || images == NULL) return NULL;
    tsr_scope outer = tsr_scope_open();
    bool was = tsr_recording_set(false);
    struct bias bias = bias_for(m, images);
    tsr_scope scope = tsr_module_enter(&m->module);
    tsr_tensor *x = embed(m, images, NULL), *weights = NULL;
    int64_t last = m->config.depth - 1;
    x = blocks(m, &scope, last, x, &bias, NULL);
    x = tsr_norm_narrow(m->blocks[last]->norm1, x);
    tsr_attention_forward(m->blocks[last]->attn, x, bias_of(m, last, &bias), NULL, &weights);
    weights = drop_registers(m, drop_registers(m, weights, 2), 3);
    tsr_recording_set(was);
    return tsr_scope_return(&outer, tsr_module_leave(&scope, weights));
}

/* ---- as a backbone ---- */

static tsr_tensor *forward(const tsr_backbone *m, tsr_tensor *images,
                           const tsr_backbone_options *options)
{
    return tsr_vit_forward((const tsr_vit *)m, images, options);
}

static tsr_tensor *rows_of(const tsr_backbone *m, tsr_tensor *images, tsr_tensor *rows,
                           const tsr_backbone_options *options)
{
    return tsr_vit_rows((const tsr_vit *)m, images, rows, options);
}

static tsr_status intermediate(const tsr_backbone *m, tsr_tensor *images, int n,
                               const tsr_backbone_options *options, tsr_tensor **outputs)
{
    return tsr_vit_intermediate((const tsr_vit *)m, images, n, options, outputs);
}

static tsr_tensor *last_attention(const tsr_backbone *m, tsr_tensor *images)
{
    return tsr_vit_last_attention((const tsr_vit *)m, images);
}

static tsr_token_grid grid_of(const tsr_backbone *m, int64_t block, int64_t height, int64_t width)
{
    (void)block;
    return (tsr_token_grid){m->dim, height / m->token_size, width / m->token_size};
}

static tsr_backbone *like(const tsr_backbone *m)
{
    tsr_vit *vit = tsr_vit_new(&((const tsr_vit *)m)->config);
    return vit == NULL ? NULL : &vit->backbone;
}

static void describe(const tsr_backbone *m, char text[TSR_BACKBONE_TEXT])
{
    const tsr_vit_config *c = &((const tsr_vit *)m)->config;
    snprintf(text, TSR_BACKBONE_TEXT,
             "dim %" PRId64 ", depth %" PRId64 ", heads %" PRId64 ", patches of %" PRId64
             " in %" PRId64 " pixels",
             c->dim, c->depth, c->heads, c->patch_size, c->image_size);
}

static const tsr_backbone_methods vit_methods = {
    .forward = forward,
    .rows = rows_of,
    .intermediate = intermediate,
    .last_attention = last_attention,
    .grid = grid_of,
    .like = like,
    .describe = describe,
    .recomputes = true,
};
