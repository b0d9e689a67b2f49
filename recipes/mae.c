/*
 * MAE: masked autoencoders are scalable vision learners. He, Chen, Xie, Li, Dollar, Girshick, CVPR 2022, arXiv 2111.06377;
 * authors' code facebookresearch/mae (models_mae.py, PRETRAIN.md). docs/mae.md maps sections to functions and lists what
 * differs.
 *
 * Shapes: B images of h x w = N patches of p x p pixels; V of an image's patches are visible; R = B (N - V) are masked in
 * all. D and E: widths of encoder and decoder.
 */
#include "ops/ops.h"
#include "recipes/recipes.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct options {
    double mask_ratio;
    bool norm_pix;
    int64_t decoder_dim, decoder_depth, decoder_heads;
    tsr_list scale;
};

#define AT(field) offsetof(struct options, field)

static const tsr_option option_table[] = {
    {"mask-ratio", TSR_OPTION_DOUBLE, AT(mask_ratio), "0.75", 0.01, 0.99, NULL,
     "share of the patches that is masked", "main_pretrain.py --mask_ratio; paper, figure 5"},
    {"norm-pix", TSR_OPTION_BOOL, AT(norm_pix), "true", 0, 0, NULL,
     "the target is a patch's pixels with its own mean and deviation taken out",
     "PRETRAIN.md --norm_pix_loss; paper, table 1d"},
    {"decoder-dim", TSR_OPTION_INT, AT(decoder_dim), "512", 4, 8192, NULL,
     "width of the decoder; a multiple of 4", "models_mae.py; paper, table 1b"},
    {"decoder-depth", TSR_OPTION_INT, AT(decoder_depth), "8", 1, 64, NULL, "blocks of the decoder",
     "models_mae.py; paper, table 1a"},
    {"decoder-heads", TSR_OPTION_INT, AT(decoder_heads), "16", 1, 256, NULL,
     "attention heads of the decoder", "models_mae.py"},
    {"scale", TSR_OPTION_LIST, AT(scale), "0.2,1", 0, 1, NULL,
     "share of the image that the crop covers, from,to", "main_pretrain.py; paper, table 1e"},
};

static const tsr_default defaults[] = {
    {"epochs", "800", "PRETRAIN.md"},
    {"lr", "1.5e-4", "paper, table 8"},
    {"min-lr", "0", "main_pretrain.py --min_lr"},
    {"warmup-epochs", "40", "paper, table 8"},
    {"beta2", "0.95", "paper, table 8"},
    {"weight-decay", "0.05", "paper, table 8"},
    {"weight-decay-end", "0.05", "paper, table 8: constant"},
    {"clip", "0", "main_pretrain.py: none"},
};

static const tsr_preset presets[] = {
    {"vit-l", "the published ViT-L/16 run: 800 epochs, batch 4096, on ImageNet-1k",
     "model=vit_large batch=4096"},
    {"quickstart", "Fashion-MNIST, with the arithmetic of ibot's quickstart",
     "image-size=28 patch-size=7 dim=96 depth=4 heads=3 decoder-dim=48 decoder-depth=2 "
     "decoder-heads=3 scale=0.5,1 batch=32 epochs=9 warmup-epochs=0.5 lr=1e-2"},
};

/* The networks: the encoder is a ViT, the decoder is small and is thrown away after training. */
enum { DECODER_BLOCKS = 64 };
struct mae {
    tsr_module module;
    const struct options *o;
    tsr_vit *encoder;
    tsr_tensor *mask_token, *decoder_pos_embed; /* [1, 1, E], [1, 1 + N, E] */
    tsr_linear_layer *decoder_embed, *decoder_pred;
    tsr_norm_layer *decoder_norm;
    tsr_transformer_block *decoder_blocks[DECODER_BLOCKS];
};

/* ---- views: section 4, "the data augmentation": random resized crops and flips; the mask is random, by patches ---- */

static int views(const tsr_build *build, tsr_view_spec *specs, int max)
{
    const struct options *o = build->options;
    tsr_vit_config vit;
    if (tsr_train_vit_config(build->train, &vit) != TSR_STATUS_OK) return -1;
    int64_t side = vit.image_size / vit.patch_size, n = side * side;
    int64_t visible = (int64_t)((double)n * (1.0 - o->mask_ratio));
    (void)max;
    if (visible < 1 || visible == n) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "mae: --mask-ratio %g must leave between 1 and all but 1 of %" PRId64 " patches",
                 o->mask_ratio, n);
        return -1;
    }
    specs[0] =
        (tsr_view_spec){.name = "global", .size = (int)build->train->image_size, .flip_p = 0.5};
    /* A ratio that makes exactly n - visible masked patches of each image. */
    specs[0].mask = (tsr_mask_spec){.kind = TSR_MASK_RAND,
                                    .patch = (int)vit.patch_size,
                                    .n_ratios = 1,
                                    .ratio = {((double)(n - visible) + 0.5) / (double)n}};
    return tsr_recipe_set_scale(&specs[0], &o->scale) ? 1 : -1;
}

/* ---- networks: models_mae.py ---- */

/* util/pos_embed.py: sine and cosine of the column, then of the row, over frequencies 10000^(-4 i / D); the class token's
 * is 0. position [1, 1 + side^2, D] */
static void fill_positions(tsr_tensor *position, int64_t side)
{
    int64_t dim = tsr_tensor_size(position, 2), quarter = dim / 4;
    tsr_tensor *table = tsr_zeros(TSR_DTYPE_F64, tsr_tensor_shape(position));
    double *at = tsr_tensor_data_mut(table);
    for (int64_t i = 0; at != NULL && i < side * side; i++) {
        double *row = at + (1 + i) * dim;
        for (int64_t k = 0; k < quarter; k++) {
            double omega = pow(10000.0, -(double)k / (double)quarter);
            double x = (double)(i % side) * omega, y = (double)(i / side) * omega;
            row[k] = sin(x);
            row[quarter + k] = cos(x);
            row[2 * quarter + k] = sin(y);
            row[3 * quarter + k] = cos(y);
        }
    }
    tsr_tensor_copy(position, tsr_cast(table, tsr_tensor_dtype(position)));
}

/* initialize_weights: Xavier-uniform matrices, the patch embedding's as one matrix; fixed positions. */
static void initialize(struct mae *m, uint64_t seed)
{
    tsr_scope scope = tsr_scope_open();
    tsr_module_initialize(&m->module, seed);
    tsr_module_list *list = tsr_module_parameters(&m->module);
    for (int64_t i = 0; list != NULL && i < list->n; i++) {
        tsr_tensor *t = list->at[i].tensor;
        const char *dot = strrchr(list->at[i].name, '.');
        if (tsr_tensor_ndim(t) < 2 || dot == NULL || strcmp(dot, ".weight") != 0) continue;
        int64_t out = tsr_tensor_size(t, 0), in = tsr_tensor_numel(t) / out;
        double bound = sqrt(6.0 / (double)(in + out));
        tsr_rng rng = tsr_rng_make(seed, 0, 0, tsr_rng_purpose(list->at[i].name));
        tsr_fill_uniform(t, rng, -bound, bound);
    }
    tsr_module_list_free(&list);
    int64_t side = m->encoder->config.image_size / m->encoder->config.patch_size;
    fill_positions(m->encoder->pos_embed, side);
    fill_positions(m->decoder_pos_embed, side);
    tsr_require_grad(m->encoder->pos_embed, false);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static struct mae *make_network(const tsr_build *build)
{
    const struct options *o = build->options;
    tsr_dtype dtype = build->dtype;
    tsr_vit_config vit;
    if (tsr_train_vit_config(build->train, &vit) != TSR_STATUS_OK) return NULL;
    if (vit.dim % 4 != 0 || o->decoder_dim % 4 != 0 || o->decoder_dim % o->decoder_heads != 0) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "mae: --dim %" PRId64 " and --decoder-dim %" PRId64 " must be multiples of 4, and "
                 "--decoder-heads %" PRId64 " must divide the latter",
                 vit.dim, o->decoder_dim, o->decoder_heads);
        return NULL;
    }
    vit.dtype = dtype;
    int64_t side = vit.image_size / vit.patch_size;
    struct mae *m = tsr_module_new(sizeof *m, "mae", dtype);
    if (m == NULL) return NULL;
    tsr_module *base = &m->module;
    m->o = o;
    m->mask_token = tsr_module_parameter(base, "mask_token", TSR_SHAPE(1, 1, o->decoder_dim),
                                         TSR_INIT_TRUNC_NORMAL(0.02));
    m->decoder_pos_embed = tsr_module_buffer(base, "decoder_pos_embed", dtype,
                                             TSR_SHAPE(1, 1 + side * side, o->decoder_dim), 0.0);
    m->encoder = tsr_module_child(base, "backbone", tsr_vit_new(&vit));
    m->decoder_embed = tsr_module_child(base, "decoder_embed",
                                        tsr_linear_new(vit.dim, o->decoder_dim, true, dtype));
    for (int64_t i = 0; i < o->decoder_depth && !base->failed; i++) {
        char name[TSR_MODULE_NAME];
        snprintf(name, sizeof name, "decoder_blocks.%" PRId64, i);
        tsr_transformer_block_config block = {.dim = o->decoder_dim,
                                              .heads = o->decoder_heads,
                                              .hidden = 4 * o->decoder_dim,
                                              .qkv_bias = true,
                                              .dtype = dtype};
        m->decoder_blocks[i] = tsr_module_child(base, name, tsr_transformer_block_new(&block));
    }
    m->decoder_norm = tsr_module_child(base, "decoder_norm",
                                       tsr_norm_new(TSR_NORM_LAYER, o->decoder_dim, 1e-6, dtype));
    int64_t pixels = 3 * vit.patch_size * vit.patch_size;
    m->decoder_pred =
        tsr_module_child(base, "decoder_pred", tsr_linear_new(o->decoder_dim, pixels, true, dtype));
    return tsr_module_finish(base);
}

static tsr_status build(const tsr_build *b, tsr_networks *n)
{
    struct mae *m = make_network(b);
    if (m == NULL) return tsr_status_get();
    initialize(m, b->seed);
    *n = (tsr_networks){.student = &m->module, .feature = "student.backbone", .self = m};
    return tsr_status_get();
}

/* ---- the loss: paper, section 3 ---- */

/* The patches whose cell of a mask [B, h, w] is `is`: their rows among all patches, I64. */
static tsr_tensor *patches_where(tsr_tensor *mask, uint8_t is)
{
    mask = tsr_tensor_packed(mask);
    const uint8_t *m = tsr_tensor_data(mask);
    int64_t all = tsr_tensor_numel(mask), count = 0;
    for (int64_t i = 0; m != NULL && i < all; i++) count += m[i] == is;
    tsr_tensor *rows = tsr_empty(TSR_DTYPE_I64, TSR_SHAPE(count));
    int64_t *r = tsr_tensor_data_mut(rows);
    for (int64_t i = 0; r != NULL && i < all; i++) {
        if (m[i] == is) *r++ = i;
    }
    return rows;
}

/* "MAE encoder": a ViT, on the visible patches alone: [B, 1 + V, D]. */
static tsr_tensor *encode(const tsr_vit *vit, tsr_tensor *images, tsr_tensor *visible)
{
    tsr_scope scope = tsr_module_enter(&vit->module);
    int64_t batch = tsr_tensor_size(images, 0), dim = vit->config.dim;
    tsr_tensor *x = tsr_patch_embed(images, vit->patch_embed->weight, vit->patch_embed->bias);
    x = tsr_permute(tsr_flatten(x, 2, 3), (const int[]){0, 2, 1});
    x = tsr_add(x, tsr_tokens_patches(vit->pos_embed));
    x = tsr_gather_rows(tsr_flatten(x, 0, 1), visible);
    x = tsr_reshape(x, TSR_SHAPE(batch, -1, dim));
    tsr_tensor *cls = tsr_expand(vit->cls_token, TSR_SHAPE(batch, 1, dim));
    x = tsr_concat(TSR_TENSORS(cls, x), 1);
    for (int64_t i = 0; i < vit->config.depth; i++) {
        x = tsr_transformer_block_forward(vit->blocks[i], x, NULL, NULL, NULL);
    }
    return tsr_module_leave(&scope, tsr_norm_forward(vit->norm, x));
}

/* "MAE decoder": the encoded patches in their places, mask tokens in the others; what it says of the masked patches'
 * pixels, [R, p p 3]. */
static tsr_tensor *decode(const struct mae *m, tsr_tensor *latent, tsr_tensor *mask,
                          tsr_tensor *visible, tsr_tensor *masked)
{
    tsr_scope scope = tsr_module_enter(&m->module);
    int64_t batch = tsr_tensor_size(mask, 0), n = tsr_tensor_numel(mask) / batch;
    tsr_tensor *x = tsr_linear_forward(m->decoder_embed, latent);
    tsr_tensor *patches = tsr_flatten(tsr_tokens_patches(x), 0, 1);
    patches = tsr_scatter_rows(patches, visible, batch * n);
    patches = tsr_reshape(patches, TSR_SHAPE(batch, n, m->o->decoder_dim));
    patches = tsr_where(tsr_reshape(mask, TSR_SHAPE(batch, n, 1)), m->mask_token, patches);
    x = tsr_concat(TSR_TENSORS(tsr_slice(x, 1, 0, 1, 1), patches), 1);
    x = tsr_add(x, m->decoder_pos_embed);
    for (int64_t i = 0; i < m->o->decoder_depth; i++) {
        x = tsr_transformer_block_forward(m->decoder_blocks[i], x, NULL, NULL, NULL);
    }
    x = tsr_norm_forward(m->decoder_norm, x);
    x = tsr_gather_rows(tsr_flatten(tsr_tokens_patches(x), 0, 1), masked);
    return tsr_module_leave(&scope, tsr_linear_forward(m->decoder_pred, x));
}

/* "Reconstruction target": the masked patches' pixels [R, p p 3], each patch with mean 0 and deviation 1. */
static tsr_tensor *target(tsr_tensor *images, int64_t p, tsr_tensor *masked, bool norm_pix)
{
    tsr_scope scope = tsr_scope_open();
    int64_t batch = tsr_tensor_size(images, 0), h = tsr_tensor_size(images, 2) / p,
            w = tsr_tensor_size(images, 3) / p;
    tsr_tensor *x = tsr_reshape(images, TSR_SHAPE(batch, 3, h, p, w, p));
    x = tsr_permute(x, (const int[]){0, 2, 4, 3, 5, 1});
    x = tsr_gather_rows(tsr_reshape(x, TSR_SHAPE(batch * h * w, p * p * 3)), masked);
    if (norm_pix) {
        tsr_tensor *mean = tsr_mean(x, (const int[]){-1}, 1, true);
        tsr_tensor *variance = tsr_var(x, (const int[]){-1}, 1, 1, true);
        x = tsr_mul(tsr_sub(x, mean), tsr_rsqrt(tsr_affine(variance, 1.0, 1e-6)));
    }
    return tsr_scope_return(&scope, x);
}

static tsr_tensor *loss(const tsr_networks *n, tsr_step *step)
{
    const struct mae *m = n->self;
    tsr_tensor *images = tsr_step_input(step, "global");
    tsr_tensor *mask = tsr_step_input(step, "global.mask");
    tsr_tensor *visible = patches_where(mask, 0), *masked = patches_where(mask, 1);

    tsr_tensor *latent = encode(m->encoder, images, visible);
    tsr_tensor *said = decode(m, latent, mask, visible, masked);
    tsr_tensor *wanted = target(images, m->encoder->config.patch_size, masked, m->o->norm_pix);
    tsr_tensor *value = tsr_mean(tsr_mse(said, wanted), NULL, 0, false);

    tsr_step_log(step, "mse", value);
    tsr_monitor *monitor = tsr_step_monitor(step);
    if (monitor != NULL) tsr_monitor_features(monitor, tsr_tokens_class(latent));
    return value;
}

const tsr_recipe tsr_recipe__mae = {
    .name = "mae",
    .title = "a small decoder rebuilds masked patches from an encoder that saw the others",
    .paper = "He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022, arXiv "
             "2111.06377",
    .options = option_table,
    .n_options = sizeof option_table / sizeof option_table[0],
    .options_size = sizeof(struct options),
    .defaults = defaults,
    .n_defaults = sizeof defaults / sizeof defaults[0],
    .presets = presets,
    .n_presets = sizeof presets / sizeof presets[0],
    .views = views,
    .build = build,
    .loss = loss,
};
