/* The backbone of --model: the one place that knows which there are. */
#include "recipes/train/options.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- what a checkpoint holds ---- */

struct weights {
    const tsr_checkpoint *checkpoint;
    const char *prefix;
};

static const tsr_checkpoint_entry *find(const struct weights *w, const char *name)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", w->prefix, name);
    return tsr_checkpoint_find(w->checkpoint, full);
}

/* Whose tables of relative positions are there. */
static tsr_vit_relative find_relative(const struct weights *w)
{
    if (find(w, "rel_pos_bias.relative_position_bias_table") != NULL)
        return TSR_VIT_RELATIVE_SHARED;
    return find(w, "blocks.0.attn.relative_position_bias_table") != NULL ? TSR_VIT_RELATIVE_BLOCKS
                                                                         : TSR_VIT_RELATIVE_NONE;
}

/* What of a vit is seen by the tensors that there are. */
static void find_vit(const struct weights *w, tsr_vit_config *c)
{
    c->gated = find(w, "blocks.0.mlp.w12.weight") != NULL;
    c->relative = find_relative(w);
    c->no_position = c->relative != TSR_VIT_RELATIVE_NONE && find(w, "pos_embed") == NULL;
    c->masked = find(w, "masked_embed") != NULL;
    c->layer_scale = find(w, "blocks.0.gamma_1") != NULL ? 1.0 : 0.0;
    c->mean_pooling = find(w, "fc_norm.weight") != NULL;
    c->qkv_bias = find(w, "blocks.0.attn.qkv.bias") != NULL;
    const tsr_checkpoint_entry *registers = find(w, "register_tokens");
    if (registers != NULL && registers->shape.ndim == 3) c->registers = registers->shape.size[1];
}

static void find_swin(const struct weights *w, tsr_swin_config *c)
{
    c->masked = find(w, "masked_embed") != NULL;
    c->qkv_bias = find(w, "layers.0.blocks.0.attn.qkv.bias") != NULL;
}

/* ---- a new backbone ---- */

static tsr_backbone *new_swin(const tsr_train_options *train,
                              const tsr_train_backbone_options *options, const struct weights *like)
{
    tsr_swin_config c;
    if (tsr_train_swin_config(train, &c) != TSR_STATUS_OK) return NULL;
    const char *lacks = options->layer_scale != 0.0 ? "LayerScale"
                        : train->recompute_blocks   ? "--recompute-blocks"
                                                    : NULL;
    if (lacks != NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "--model: a swin is without %s, which a vit has", lacks);
        return NULL;
    }
    if (like != NULL) find_swin(like, &c);
    c.masked = options->masked;
    c.drop_path = options->drop_path;
    c.dtype = options->dtype;
    tsr_swin *swin = tsr_swin_new(&c);
    return swin == NULL ? NULL : &swin->backbone;
}

static tsr_backbone *new_vit(const tsr_train_options *train,
                             const tsr_train_backbone_options *options, const struct weights *like)
{
    tsr_vit_config c;
    if (tsr_train_vit_config(train, &c) != TSR_STATUS_OK) return NULL;
    c.layer_scale = options->layer_scale;
    c.relative = options->relative;
    c.no_position = options->no_position;
    if (like != NULL) find_vit(like, &c);
    c.masked = options->masked;
    c.drop_path = options->drop_path;
    c.dtype = options->dtype;
    tsr_vit *vit = tsr_vit_new(&c);
    if (vit == NULL) return NULL;
    tsr_backbone_recompute(&vit->backbone, train->recompute_blocks);
    return &vit->backbone;
}

tsr_backbone *tsr_train_backbone(const tsr_train_options *train,
                                 const tsr_train_backbone_options *options)
{
    return tsr_train_is_swin(train) ? new_swin(train, options, NULL)
                                    : new_vit(train, options, NULL);
}

tsr_backbone *tsr_train_backbone_like(const tsr_train_options *train,
                                      const tsr_train_backbone_options *options,
                                      const tsr_checkpoint *like, const char *prefix)
{
    const struct weights w = {like, prefix};
    return tsr_train_is_swin(train) ? new_swin(train, options, &w) : new_vit(train, options, &w);
}

int64_t tsr_train_token_size(const tsr_train_options *train)
{
    tsr_swin_config swin;
    if (tsr_train_is_swin(train)) {
        if (tsr_train_swin_config(train, &swin) != TSR_STATUS_OK) return 0;
        return swin.patch_size << (swin.stages - 1);
    }
    tsr_vit_config c;
    return tsr_train_vit_config(train, &c) == TSR_STATUS_OK ? c.patch_size : 0;
}

/* ---- the backbone of a checkpoint ---- */

static bool has(const struct weights *w, const char *name, tsr_shape wanted)
{
    const tsr_checkpoint_entry *entry = find(w, name);
    return entry != NULL && tsr_shape_equal(entry->shape, wanted);
}

static tsr_backbone *vit_of_checkpoint(const tsr_train_options *train, const struct weights *w)
{
    tsr_vit_config c;
    if (tsr_train_vit_config(train, &c) != TSR_STATUS_OK) return NULL;
    int64_t grid = c.image_size / c.patch_size, hidden = (int64_t)((double)c.dim * c.mlp_ratio);
    find_vit(w, &c);
    bool fits = c.no_position || has(w, "pos_embed", TSR_SHAPE(1, 1 + grid * grid, c.dim));
    for (int64_t i = 0; i < c.depth && fits; i++) {
        char name[64];
        snprintf(name, sizeof name, "blocks.%" PRId64 ".mlp.%s.weight", i, c.gated ? "w3" : "fc2");
        fits = has(w, name, TSR_SHAPE(c.dim, hidden));
    }
    if (!fits) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "the checkpoint has no backbone %s* of the model that its options describe (dim "
                 "%" PRId64 ", depth %" PRId64 ", %" PRId64 " pixels, patch %" PRId64 ")",
                 w->prefix, c.dim, c.depth, c.image_size, c.patch_size);
        return NULL;
    }
    if (tsr_checkpoint_backbone(w->checkpoint, &c.eps, &c.position) != TSR_STATUS_OK) return NULL;
    tsr_vit *vit = tsr_vit_new(&c);
    return vit == NULL ? NULL : &vit->backbone;
}

static tsr_backbone *swin_of_checkpoint(const tsr_train_options *train, const struct weights *w)
{
    tsr_swin_config c;
    if (tsr_train_swin_config(train, &c) != TSR_STATUS_OK) return NULL;
    bool fits = has(w, "patch_embed.proj.weight", TSR_SHAPE(c.dim, 3, c.patch_size, c.patch_size));
    for (int s = 0; s < c.stages && fits; s++) {
        int64_t dim = c.dim << s, hidden = (int64_t)((double)dim * c.mlp_ratio);
        for (int64_t j = 0; j < c.depths[s] && fits; j++) {
            char name[64];
            snprintf(name, sizeof name, "layers.%d.blocks.%" PRId64 ".mlp.fc2.weight", s, j);
            fits = has(w, name, TSR_SHAPE(dim, hidden));
        }
    }
    if (!fits) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "the checkpoint has no backbone %s* of the swin that its options describe (dim "
                 "%" PRId64 ", %" PRId64 " blocks in the third stage, patch %" PRId64 ")",
                 w->prefix, c.dim, c.depths[2], c.patch_size);
        return NULL;
    }
    find_swin(w, &c);
    tsr_position none; /* a Swin has no position embedding */
    if (tsr_checkpoint_backbone(w->checkpoint, &c.eps, &none) != TSR_STATUS_OK) return NULL;
    tsr_swin *swin = tsr_swin_new(&c);
    return swin == NULL ? NULL : &swin->backbone;
}

tsr_backbone *tsr_train_backbone_of_checkpoint(const tsr_train_options *train,
                                               const tsr_checkpoint *c, const char *prefix)
{
    if (tsr_train_is_swin(train)) return swin_of_checkpoint(train, &(struct weights){c, prefix});
    return vit_of_checkpoint(train, &(struct weights){c, prefix});
}
