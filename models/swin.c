/*
 * Swin transformer: Liu et al. 2021, "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", arXiv
 * 2103.14030, as in the iBOT authors' models/swin_transformer.py.
 *
 * Shapes: B images; a map of H x W tokens of size C, padded to whole windows of w x w = T tokens, n of them.
 */
#include "models/renew.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

tsr_status tsr_swin_config_find(const char *name, tsr_swin_config *config)
{
    static const struct {
        const char *name;
        int64_t dim, depth, heads; /* depth: of the third stage */
    } known[] = {
        {"swin_tiny", 96, 6, 3},
        {"swin_small", 96, 18, 3},
        {"swin_base", 128, 18, 4},
        {"swin_large", 192, 18, 6},
    };
    for (size_t i = 0; name != NULL && i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].name, name) != 0) continue;
        int64_t heads = known[i].heads;
        *config = (tsr_swin_config){.dim = known[i].dim,
                                    .stages = 4,
                                    .depths = {2, 2, known[i].depth, 2},
                                    .heads = {heads, 2 * heads, 4 * heads, 8 * heads},
                                    .qkv_bias = true};
        return TSR_STATUS_OK;
    }
    return tsr_fail(TSR_STATUS_ARGUMENT,
                    "swin_config: there is no \"%s\"; there are swin_tiny, swin_small, swin_base "
                    "and swin_large",
                    name != NULL ? name : "");
}

enum { MAX_DEPTH = 1024, MAX_WINDOW = 32, MAX_MASKS = 64 };

/* Defaults filled in; false with a message where it cannot be built. */
static bool complete(tsr_swin_config *c, int64_t *depth)
{
    if (c->image_size == 0) c->image_size = 224;
    if (c->patch_size == 0) c->patch_size = 4;
    if (c->channels == 0) c->channels = 3;
    if (c->window == 0) c->window = 7;
    if (c->mlp_ratio == 0.0) c->mlp_ratio = 4.0;
    if (c->eps == 0.0) c->eps = 1e-6;
    if (c->dim < 1 || c->dim > 65536 || c->channels < 1 || c->stages < 1 ||
        c->stages > TSR_SWIN_STAGES) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "swin: dim is %" PRId64 ", channels %" PRId64
                 ", stages %d; expected 1 or more, and stages up to %d",
                 c->dim, c->channels, c->stages, TSR_SWIN_STAGES);
        return false;
    }
    *depth = 0;
    for (int s = 0; s < c->stages; s++) {
        if (c->depths[s] < 1 || c->depths[s] > MAX_DEPTH) {
            tsr_fail(TSR_STATUS_ARGUMENT, "swin: stage %d has %" PRId64 " blocks, expected 1 to %d",
                     s, c->depths[s], MAX_DEPTH);
            return false;
        }
        *depth += c->depths[s];
    }
    if (c->window < 1 || c->window > MAX_WINDOW) {
        tsr_fail(TSR_STATUS_ARGUMENT, "swin: window is %" PRId64 ", expected 1 to %d", c->window,
                 MAX_WINDOW);
        return false;
    }
    if (c->patch_size < 1 || c->image_size >> (c->stages - 1) < c->patch_size) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "swin: image_size is %" PRId64 ", patch_size %" PRId64
                 "; expected an image of one token of the last stage (%" PRId64 " pixels) or more",
                 c->image_size, c->patch_size, c->patch_size << (c->stages - 1));
        return false;
    }
    double hidden = (double)c->dim * c->mlp_ratio;
    if (!(hidden >= 1.0 && hidden < 1e7)) {
        tsr_fail(TSR_STATUS_ARGUMENT, "swin: mlp_ratio is %g, which makes an MLP of %g",
                 c->mlp_ratio, hidden);
        return false;
    }
    return true;
}

static const tsr_backbone_methods swin_methods;

static void make_stage(tsr_swin *m, int s, int64_t first)
{
    const tsr_swin_config *c = &m->config;
    tsr_module *base = &m->module;
    int64_t dim = c->dim << s, side = c->image_size / c->patch_size >> s;
    bool whole = side <= c->window;
    m->window[s] = whole ? side : c->window;
    m->shift[s] = whole ? 0 : c->window / 2;
    char name[TSR_MODULE_NAME];
    for (int64_t j = 0; j < c->depths[s] && !base->failed; j++) {
        int64_t i = first + j, depth = m->backbone.depth;
        /* linspace(0, drop_path, depth) */
        double rate = depth == 1 ? 0.0 : c->drop_path * (double)i / (double)(depth - 1);
        snprintf(name, sizeof name, "layers.%d.blocks.%" PRId64, s, j);
        m->blocks[i] =
            tsr_module_child(base, name,
                             tsr_transformer_block_new(&(tsr_transformer_block_config){
                                 .dim = dim,
                                 .heads = c->heads[s],
                                 .hidden = (int64_t)((double)dim * c->mlp_ratio),
                                 .qkv_bias = c->qkv_bias,
                                 .drop_path = rate,
                                 .eps = c->eps,
                                 .relative = {.rows = m->window[s], .columns = m->window[s]},
                                 .relative_init = TSR_INIT_TRUNC_NORMAL(0.02),
                                 .dtype = c->dtype}));
    }
    if (s == c->stages - 1 || base->failed) return;
    snprintf(name, sizeof name, "layers.%d.downsample.reduction", s);
    m->reduction[s] =
        tsr_module_child(base, name, tsr_linear_new(4 * dim, 2 * dim, false, c->dtype));
    snprintf(name, sizeof name, "layers.%d.downsample.norm", s);
    m->reduction_norm[s] =
        tsr_module_child(base, name, tsr_norm_new(TSR_NORM_LAYER, 4 * dim, c->eps, c->dtype));
}

tsr_swin *tsr_swin_new(const tsr_swin_config *config)
{
    tsr_swin_config c = *config;
    int64_t depth;
    if (!complete(&c, &depth)) return NULL;
    tsr_swin *m = tsr_module_new(sizeof *m + (size_t)depth * sizeof *m->blocks, "swin", c.dtype);
    if (m == NULL) return NULL;
    tsr_module *base = &m->module;
    m->config = c;
    m->backbone.methods = &swin_methods;
    m->backbone.dim = c.dim << (c.stages - 1);
    m->backbone.depth = depth;
    m->backbone.image_size = c.image_size;
    m->backbone.token_size = c.patch_size << (c.stages - 1);
    if (c.masked) {
        m->masked_embed =
            tsr_module_parameter(base, "masked_embed", TSR_SHAPE(1, c.dim), TSR_INIT_CONSTANT(0.0));
    }
    tsr_conv_options patches = {.stride = {c.patch_size, c.patch_size}};
    m->patch_embed =
        tsr_module_child(base, "patch_embed.proj",
                         tsr_conv_new(c.channels, c.dim, c.patch_size, true, &patches, c.dtype));
    m->patch_norm = tsr_module_child(base, "patch_embed.norm",
                                     tsr_norm_new(TSR_NORM_LAYER, c.dim, c.eps, c.dtype));
    int64_t first = 0;
    for (int s = 0; s < c.stages && !base->failed; s++) {
        make_stage(m, s, first);
        first += c.depths[s];
    }
    m->norm = tsr_module_child(base, "norm",
                               tsr_norm_new(TSR_NORM_LAYER, m->backbone.dim, c.eps, c.dtype));
    m->masks = tsr_module_child(base, "masks", tsr_module_new(sizeof *m->masks, "masks", c.dtype));
    return tsr_module_finish(base);
}

/* ---- windows ---- */

/* Tokens of a map, [B, rows columns, C]. */
struct map {
    tsr_tensor *x;
    int64_t rows, columns;
};

/* [B, H, W, C] -> [B, n, T, C] */
static tsr_tensor *cut(tsr_tensor *x, int64_t w)
{
    if (x == NULL) return NULL;
    int64_t b = tsr_tensor_size(x, 0), rows = tsr_tensor_size(x, 1) / w,
            columns = tsr_tensor_size(x, 2) / w, dim = tsr_tensor_size(x, 3);
    x = tsr_reshape(x, TSR_SHAPE(b, rows, w, columns, w, dim));
    x = tsr_permute(x, (const int[]){0, 1, 3, 2, 4, 5});
    return tsr_reshape(x, TSR_SHAPE(b, rows * columns, w * w, dim));
}

/* And back, to a map of rows x columns windows. */
static tsr_tensor *join(tsr_tensor *x, int64_t w, int64_t rows, int64_t columns)
{
    if (x == NULL) return NULL;
    int64_t b = tsr_tensor_size(x, 0), dim = tsr_tensor_size(x, 3);
    x = tsr_reshape(x, TSR_SHAPE(b, rows, columns, w, w, dim));
    x = tsr_permute(x, (const int[]){0, 1, 3, 2, 4, 5});
    return tsr_reshape(x, TSR_SHAPE(b, rows * w, columns * w, dim));
}

/* Which of the parts that a shift brings side by side a row (or column) of a side of n is in. */
static int64_t part(int64_t at, int64_t n, int64_t window, int64_t shift)
{
    return at < n - window ? 0 : at < n - shift ? 1 : 2;
}

/* [n, 1, T, T]: 0 for tokens of one part of the image, -100 for others, on a map of rows x columns tokens. */
static tsr_tensor *make_mask(int64_t rows, int64_t columns, int64_t w, int64_t shift,
                             tsr_dtype dtype)
{
    int64_t across = columns / w, n = rows / w * across, t = w * w;
    tsr_tensor *mask = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(n, 1, t, t));
    float *at = tsr_tensor_data_mut(mask);
    if (at == NULL) return NULL;
    for (int64_t k = 0; k < n; k++) {
        int64_t label[MAX_WINDOW * MAX_WINDOW];
        for (int64_t i = 0; i < t; i++) {
            int64_t y = k / across * w + i / w, x = k % across * w + i % w;
            label[i] = 3 * part(y, rows, w, shift) + part(x, columns, w, shift);
        }
        for (int64_t i = 0; i < t; i++) {
            for (int64_t j = 0; j < t; j++) *at++ = label[i] == label[j] ? 0.0f : -100.0f;
        }
    }
    return tsr_cast(mask, dtype);
}

/* The mask for a size, made when it is first seen. */
static tsr_tensor *mask_of(const tsr_swin *m, int64_t rows, int64_t columns, int64_t w,
                           int64_t shift)
{
    char name[TSR_MODULE_NAME];
    snprintf(name, sizeof name, "%" PRId64 "x%" PRId64 " by %" PRId64, rows, columns, w);
    tsr_tensor *mask = tsr_module_kept(m->masks, name);
    if (mask != NULL) return mask;
    mask = make_mask(rows, columns, w, shift, m->config.dtype);
    if (m->masks->n_items < MAX_MASKS) tsr_module_keep(m->masks, name, mask);
    return mask;
}

/* The attention of a block within windows, these shifted by `shift` against the map. */
static tsr_tensor *attend(const tsr_swin *m, const tsr_attention *attention, struct map map,
                          int64_t w, int64_t shift)
{
    if (map.x == NULL) return NULL;
    tsr_scope scope = tsr_scope_open();
    tsr_shape shape = tsr_tensor_shape(map.x);
    int64_t down = (map.rows + w - 1) / w, across = (map.columns + w - 1) / w;
    int64_t rows = down * w, columns = across * w;
    tsr_tensor *x = tsr_reshape(map.x, TSR_SHAPE(shape.size[0], map.rows, map.columns, -1));
    if (rows != map.rows || columns != map.columns) {
        const int64_t before[4] = {0}, after[4] = {0, rows - map.rows, columns - map.columns, 0};
        x = tsr_pad(x, before, after, 0.0);
    }
    tsr_tensor *bias = tsr_relative_position_bias(&attention->position, w, w);
    if (shift > 0) {
        x = tsr_roll(tsr_roll(x, 1, -shift), 2, -shift);
        bias = tsr_add(bias, mask_of(m, rows, columns, w, shift));
    }
    x = tsr_attention_forward(attention, cut(x, w), bias, NULL, NULL);
    x = tsr_module_widen(&attention->module, x);
    x = join(x, w, down, across);
    if (shift > 0) x = tsr_roll(tsr_roll(x, 1, shift), 2, shift);
    x = tsr_slice(tsr_slice(x, 1, 0, map.rows, 1), 2, 0, map.columns, 1);
    return tsr_scope_return(&scope, tsr_reshape(x, shape));
}

/* ---- blocks and stages ---- */

/* The random numbers of a place; NULL without any. */
static const tsr_rng *place_of(const tsr_backbone_options *options, int64_t place, tsr_rng *own)
{
    if (options == NULL) return NULL;
    *own = options->rng;
    own->purpose += (uint32_t)place;
    return own;
}

/* Block j of stage s, the i-th of all. */
static tsr_tensor *block(const tsr_swin *m, int s, int64_t j, int64_t i, struct map map,
                         const tsr_backbone_options *options)
{
    const tsr_transformer_block *b = m->blocks[i];
    tsr_scope scope = tsr_module_enter(&b->module);
    struct map normed = {tsr_norm_forward(b->norm1, map.x), map.rows, map.columns};
    tsr_tensor *y = attend(m, b->attn, normed, m->window[s], j % 2 == 1 ? m->shift[s] : 0);
    tsr_rng own;
    const tsr_rng *rng = place_of(options, TSR_BLOCK_PLACES * i, &own);
    tsr_tensor *x, *normed2 = tsr_norm_residual(b->norm2, b->drop_path, map.x, y, NULL, rng, &x);
    y = tsr_mlp_forward(b->mlp, normed2, NULL);
    rng = place_of(options, TSR_BLOCK_PLACES * i + 1, &own);
    x = tsr_add(x, tsr_drop_path_forward(b->drop_path, y, rng));
    return tsr_module_leave(&scope, x);
}

/* Patch merging: each 2 x 2 tokens, in the order (0, 0), (1, 0), (0, 1), (1, 1), become one. */
static struct map merge(const tsr_swin *m, int s, struct map map)
{
    struct map half = {NULL, (map.rows + 1) / 2, (map.columns + 1) / 2};
    if (map.x == NULL) return half;
    tsr_scope scope = tsr_module_enter(&m->reduction[s]->module);
    int64_t batch = tsr_tensor_size(map.x, 0), dim = tsr_tensor_size(map.x, 2);
    tsr_tensor *x = tsr_reshape(map.x, TSR_SHAPE(batch, map.rows, map.columns, dim));
    if (map.rows % 2 != 0 || map.columns % 2 != 0) {
        const int64_t before[4] = {0}, after[4] = {0, map.rows % 2, map.columns % 2, 0};
        x = tsr_pad(x, before, after, 0.0);
    }
    x = tsr_reshape(x, TSR_SHAPE(batch, half.rows, 2, half.columns, 2, dim));
    x = tsr_permute(x, (const int[]){0, 1, 3, 4, 2, 5});
    x = tsr_reshape(x, TSR_SHAPE(batch, half.rows * half.columns, 4 * dim));
    x = tsr_linear_forward(m->reduction[s], tsr_norm_forward(m->reduction_norm[s], x));
    half.x = tsr_module_leave(&scope, x);
    return half;
}

/* ---- images to patches ---- */

/* A mask [B, h, w] of tokens of the last stage, for the patches of the first: [B, rows columns, 1]. */
static tsr_tensor *spread_mask(const tsr_swin *m, tsr_tensor *mask, struct map map)
{
    tsr_shape s = tsr_tensor_shape(mask);
    int64_t r = (int64_t)1 << (m->config.stages - 1), b = s.size[0], h = s.size[1], w = s.size[2];
    mask = tsr_reshape(mask, TSR_SHAPE(b, h, 1, w, 1));
    mask = tsr_expand(mask, TSR_SHAPE(b, h, r, w, r));
    mask = tsr_reshape(mask, TSR_SHAPE(b, h * r, w * r));
    mask = tsr_slice(tsr_slice(mask, 1, 0, map.rows, 1), 2, 0, map.columns, 1);
    return tsr_reshape(mask, TSR_SHAPE(b, map.rows * map.columns, 1));
}

static tsr_tensor *mask_patches(const tsr_swin *m, struct map map, tsr_tensor *mask,
                                tsr_shape wanted)
{
    if (m->masked_embed == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "swin: got a mask, but was built without masked_embed");
        return NULL;
    }
    if (!tsr_shape_equal(tsr_tensor_shape(mask), wanted)) {
        char a[TSR_SHAPE_TEXT], b[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE,
                 "swin: mask has shape %s, expected %s (images, rows and columns of cells of "
                 "%" PRId64 " pixels)",
                 tsr_shape_text(tsr_tensor_shape(mask), a), tsr_shape_text(wanted, b),
                 m->backbone.token_size);
        return NULL;
    }
    return tsr_where(spread_mask(m, mask, map), m->masked_embed, map.x);
}

static struct map embed(const tsr_swin *m, tsr_tensor *images, const tsr_backbone_options *options)
{
    const tsr_swin_config *c = &m->config;
    struct map map = {0};
    if (tsr_tensor_ndim(images) != 4 || tsr_tensor_size(images, 1) != c->channels ||
        tsr_tensor_size(images, 2) < c->patch_size || tsr_tensor_size(images, 3) < c->patch_size) {
        char text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE,
                 "swin: images have shape %s, expected [B, %" PRId64
                 ", H, W] with H and W at least %" PRId64,
                 tsr_shape_text(tsr_tensor_shape(images), text), c->channels, c->patch_size);
        return map;
    }
    tsr_scope scope = tsr_scope_open();
    int64_t batch = tsr_tensor_size(images, 0), height = tsr_tensor_size(images, 2),
            width = tsr_tensor_size(images, 3);
    map.rows = height / c->patch_size;
    map.columns = width / c->patch_size;
    tsr_tensor *x = tsr_patch_embed(images, m->patch_embed->weight, m->patch_embed->bias);
    x = tsr_permute(x, (const int[]){0, 2, 3, 1});
    x = tsr_reshape(x, TSR_SHAPE(batch, map.rows * map.columns, c->dim));
    map.x = tsr_norm_forward(m->patch_norm, x);
    if (options != NULL && options->mask != NULL) {
        tsr_token_grid g = tsr_backbone_grid(&m->backbone, m->backbone.depth - 1, height, width);
        map.x = mask_patches(m, map, options->mask, TSR_SHAPE(batch, g.rows, g.columns));
    }
    map.x = tsr_scope_return(&scope, map.x);
    return map;
}

/* ---- as a backbone ---- */

/* [B, N, C] -> [B, 1 + N, C]: the mean comes first. */
static tsr_tensor *with_mean(tsr_tensor *x)
{
    return tsr_concat(TSR_TENSORS(tsr_mean(x, (const int[]){1}, 1, true), x), 1);
}

/* All blocks; outputs, if not NULL, receives the tokens of the last n, and the scope holds them. */
static tsr_tensor *run(const tsr_swin *m, tsr_scope *scope, tsr_tensor *images,
                       const tsr_backbone_options *options, int n, tsr_tensor **outputs)
{
    const tsr_swin_config *c = &m->config;
    struct map map = embed(m, images, options);
    int64_t i = 0, first = m->backbone.depth - n;
    bool normed = options == NULL || !options->no_norm;
    for (int s = 0; s < c->stages; s++) {
        bool last = s == c->stages - 1;
        for (int64_t j = 0; j < c->depths[s]; j++, i++) {
            map.x = block(m, s, j, i, map, options);
            if (outputs == NULL || i < first) {
                map.x = tsr_scope__renew(scope, map.x);
                continue;
            }
            outputs[i - first] =
                with_mean(last && normed ? tsr_norm_forward(m->norm, map.x) : map.x);
        }
        if (!last) map = merge(m, s, map);
    }
    return map.x;
}

static tsr_tensor *forward(const tsr_backbone *backbone, tsr_tensor *images,
                           const tsr_backbone_options *options)
{
    const tsr_swin *m = (const tsr_swin *)backbone;
    tsr_scope scope = tsr_module_enter(&m->module);
    tsr_tensor *x = run(m, &scope, images, options, 0, NULL);
    return tsr_module_leave(&scope, with_mean(tsr_norm_forward(m->norm, x)));
}

static tsr_status intermediate(const tsr_backbone *backbone, tsr_tensor *images, int n,
                               const tsr_backbone_options *options, tsr_tensor **outputs)
{
    const tsr_swin *m = (const tsr_swin *)backbone;
    tsr_scope scope = tsr_module_enter(&m->module);
    run(m, &scope, images, options, n, outputs);
    bool failed = outputs[n - 1] == NULL;
    for (int i = 0; i < n && failed; i++) outputs[i] = NULL;
    tsr_module_leave_many(&scope, (tsr_tensors){outputs, n});
    return failed ? tsr_status_get() : TSR_STATUS_OK;
}

static tsr_token_grid grid_of(const tsr_backbone *backbone, int64_t i, int64_t height,
                              int64_t width)
{
    const tsr_swin_config *c = &((const tsr_swin *)backbone)->config;
    tsr_token_grid g = {c->dim, height / c->patch_size, width / c->patch_size};
    for (int s = 0; s < c->stages - 1 && i >= c->depths[s]; s++) {
        i -= c->depths[s];
        g = (tsr_token_grid){2 * g.dim, (g.rows + 1) / 2, (g.columns + 1) / 2};
    }
    return g;
}

static tsr_backbone *like(const tsr_backbone *backbone)
{
    tsr_swin *swin = tsr_swin_new(&((const tsr_swin *)backbone)->config);
    return swin == NULL ? NULL : &swin->backbone;
}

static void describe(const tsr_backbone *backbone, char text[TSR_BACKBONE_TEXT])
{
    const tsr_swin_config *c = &((const tsr_swin *)backbone)->config;
    char depths[48] = "", heads[48] = "";
    size_t a = 0, b = 0;
    for (int s = 0; s < c->stages && a < sizeof depths && b < sizeof heads; s++) {
        const char *comma = s > 0 ? "," : "";
        a += (size_t)snprintf(depths + a, sizeof depths - a, "%s%" PRId64, comma, c->depths[s]);
        b += (size_t)snprintf(heads + b, sizeof heads - b, "%s%" PRId64, comma, c->heads[s]);
    }
    snprintf(text, TSR_BACKBONE_TEXT,
             "dim %" PRId64 ", depths %s, heads %s, windows of %" PRId64 ", patches of %" PRId64
             " in %" PRId64 " pixels",
             c->dim, depths, heads, c->window, c->patch_size, c->image_size);
}

static const tsr_backbone_methods swin_methods = {
    .forward = forward,
    .intermediate = intermediate,
    .grid = grid_of,
    .like = like,
    .describe = describe,
};
