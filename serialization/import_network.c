/* What network the tensors of a file are of. */
#include "serialization/import.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEPTH_MAX = 1000,
    DIM_MAX = 8192,
    PATCH_MAX = 256,
    GRID_MAX = 1024, /* patches a side */
    HIDDEN_MAX = 1 << 20,
    REGISTERS_MAX = 1024
};

/* ---- what cannot be run here ---- */

/* By parts of names that the map does not know. */
static const struct {
    const char *part, *what;
} foreign[] = {
    {"relative_position", "relative position biases of another kind"},
    {"rel_pos.", "relative position biases of another kind"},
    {"rope.", "rotary positions"},
    {"logit_scale", "cosine attention (Swin V2)"},
    {"absolute_pos_embed", "absolute positions in a Swin"},
    {"dist_token", "a distillation token"},
    {"distillation_token", "a distillation token"},
    {"mlp.fc1_g.", "gated MLPs with norms (EVA)"},
    {"pre_logits.", "a pre-logits layer"},
    {"norm_pre.", "a norm before its first block"},
    {"attn.q_norm.", "norms of queries and keys"},
    {"patch_embed.backbone.", "a convolutional stem"},
    {"attn.q_bias", "biases of queries and values alone"},
};

static tsr_status refuse_foreign(const tsr_import_reader *r)
{
    size_t before = strlen(r->prefix);
    char ours[TSR_NAME_BYTES];
    for (size_t k = 0; k < sizeof foreign / sizeof *foreign; k++) {
        for (int64_t i = 0; i < r->n; i++) {
            const char *name = tsr_weights_name(r->w, i);
            if (strncmp(name, r->prefix, before) != 0 ||
                strstr(name + before, foreign[k].part) == NULL ||
                tsr_name_to_ours(r->map, name + before, ours) != NULL) {
                continue;
            }
            return tsr_fail(TSR_STATUS_ARGUMENT,
                            "import: '%.200s': this network has %s, which those here do not have",
                            name, foreign[k].what);
        }
    }
    return TSR_STATUS_OK;
}

/* Memory is asked for only when the file holds at least a quarter of the `wanted` numbers. */
static bool has_amount(const tsr_import_reader *r, double wanted)
{
    double have = 0.0;
    for (int64_t i = 0; i < r->n; i++) {
        if (strncmp(tsr_weights_name(r->w, i), r->prefix, strlen(r->prefix)) != 0) continue;
        have += (double)tsr_shape_numel(tsr_weights_shape(r->w, i));
    }
    if (wanted <= 4.0 * have + 1e7) return true;
    tsr_fail(TSR_STATUS_ARGUMENT,
             "import: the file holds %.1f M of the %.1f M parameters that such a network has",
             have / 1e6, wanted / 1e6);
    return false;
}

/* ---- what our checkpoints say besides ---- */

/* An option of the run; 0 where the file says none. */
static int64_t recorded_option(const tsr_import_reader *r, const char *key)
{
    const tsr_checkpoint *c = tsr_weights__checkpoint(r->w);
    const char *text;
    if (c == NULL || tsr_checkpoint_value_find(c, key) == NULL ||
        tsr_checkpoint_get_string(c, key, &text) != TSR_STATUS_OK) {
        return 0;
    }
    long long v = strtoll(text, NULL, 10);
    return v > 0 && v <= DIM_MAX ? v : 0;
}

tsr_status tsr_checkpoint_backbone(const tsr_checkpoint *c, double *eps, tsr_position *position)
{
    double e = 1e-6;
    int64_t p = 0;
    if (tsr_checkpoint_value_find(c, "backbone.eps") != NULL) {
        if (tsr_checkpoint_get_double(c, "backbone.eps", &e) != TSR_STATUS_OK) {
            return tsr_status_get();
        }
        if (!(e > 0.0 && e <= 1.0)) {
            return tsr_fail(TSR_STATUS_FORMAT,
                            "the checkpoint's value \"backbone.eps\" is %g, expected more than 0 "
                            "and at most 1",
                            e);
        }
        *eps = e;
    }
    if (tsr_checkpoint_value_find(c, "backbone.position") != NULL) {
        if (tsr_checkpoint_get_int(c, "backbone.position", &p) != TSR_STATUS_OK) {
            return tsr_status_get();
        }
        if (p < 0 || p > TSR_POSITION_ANTIALIAS) {
            return tsr_fail(TSR_STATUS_FORMAT,
                            "the checkpoint's value \"backbone.position\" is %" PRId64
                            ", expected 0 to %d",
                            p, TSR_POSITION_ANTIALIAS);
        }
        *position = (tsr_position)p;
    }
    return TSR_STATUS_OK;
}

static tsr_status read_recorded(const tsr_import_reader *r, double *eps, tsr_position *position)
{
    const tsr_checkpoint *c = tsr_weights__checkpoint(r->w);
    return c == NULL ? TSR_STATUS_OK : tsr_checkpoint_backbone(c, eps, position);
}

/* ---- what all of them have ---- */

/* The side of a square; 0: it is none. */
static int64_t root(int64_t n)
{
    int64_t side = 0;
    while (side * side < n) side++;
    return side * side == n ? side : 0;
}

/* The side of the grid whose table of relative positions has so many rows besides `extra`; 0: there is none. */
static int64_t grid_of_table(int64_t rows, int64_t extra)
{
    int64_t side = rows <= 4 * GRID_MAX * GRID_MAX ? root(rows - extra) : 0;
    return side % 2 == 1 ? (side + 1) / 2 : 0;
}

/* The patch embedding's shape [D, 3, P, P]; of no dimensions where it is another. */
static tsr_shape patch_shape(const tsr_import_reader *r)
{
    tsr_shape s = tsr_import__shape(r, "patch_embed.proj.weight");
    if (s.ndim == 4 && s.size[1] == 3 && s.size[2] == s.size[3] && s.size[2] >= 1 &&
        s.size[2] <= PATCH_MAX && s.size[0] >= 1 && s.size[0] <= DIM_MAX) {
        return s;
    }
    char text[TSR_SHAPE_TEXT];
    tsr_fail(TSR_STATUS_ARGUMENT,
             "import: the patch embedding has shape %s, expected [D, 3, P, P]: square "
             "patches of pictures with three colours, D at most %d",
             tsr_shape_text(s, text), DIM_MAX);
    return TSR_SHAPE_SCALAR;
}

/* Such that dim * ratio, cut to a whole number, is hidden. */
static double ratio_of(int64_t hidden, int64_t dim)
{
    double ratio = (double)hidden / (double)dim;
    while ((double)dim * ratio < (double)hidden) ratio = nextafter(ratio, INFINITY);
    return ratio;
}

/* Blocks of this name, which has a %d for the number. */
static int64_t count_blocks(const tsr_import_reader *r, const char *before)
{
    int64_t n = 0;
    for (char name[96]; n < DEPTH_MAX; n++) {
        snprintf(name, sizeof name, "%.20sblocks.%" PRId64 ".attn.proj.weight", before, n);
        if (!tsr_import__holds(r, name)) break;
    }
    return n;
}

/* ---- vision transformers ---- */

/* Patches a side, by the position embedding or else by the first table of relative positions. */
static tsr_status find_grid(const tsr_import_reader *r, tsr_vit_config *c, int64_t *grid)
{
    static const char shared[] = "rel_pos_bias.relative_position_bias_table";
    static const char first[] = "blocks.0.attn.relative_position_bias_table";
    char text[TSR_SHAPE_TEXT];
    tsr_shape table = TSR_SHAPE_SCALAR, position = tsr_import__shape(r, "pos_embed");
    if (tsr_import__holds(r, shared)) {
        c->relative = TSR_VIT_RELATIVE_SHARED;
        table = tsr_import__shape(r, shared);
    } else if (tsr_import__holds(r, first)) {
        c->relative = TSR_VIT_RELATIVE_BLOCKS;
        table = tsr_import__shape(r, first);
    }
    if (c->relative != TSR_VIT_RELATIVE_NONE) {
        *grid = table.ndim == 2 ? grid_of_table(table.size[0], 3) : 0;
        if (*grid < 1 || table.size[1] < 1) {
            return tsr_fail(TSR_STATUS_ARGUMENT,
                            "import: the table of relative positions has shape %s, expected "
                            "[(2 n - 1)^2 + 3, heads] for n x n patches",
                            tsr_shape_text(table, text));
        }
        c->heads = table.size[1];
        c->no_position = !tsr_import__holds(r, "pos_embed");
        if (c->no_position) return TSR_STATUS_OK;
    }
    int64_t tokens = position.ndim == 3 ? position.size[1] : 0;
    *grid = tokens <= 1 + 256 * 256 ? root(tokens - 1) : 0;
    if (*grid == 0 && tokens <= 256 * 256) *grid = root(tokens); /* none for the class token */
    if (*grid >= 1 && position.size[0] == 1 && position.size[2] == c->dim) return TSR_STATUS_OK;
    return tsr_fail(TSR_STATUS_ARGUMENT,
                    "import: the position embedding has shape %s, expected [1, 1 + N, %" PRId64
                    "] with a square number N of patches",
                    tsr_shape_text(position, text), c->dim);
}

static tsr_status find_heads(const tsr_import_reader *r, const tsr_import_options *o,
                             tsr_vit_config *c)
{
    if (c->heads > 0 && o->heads > 0 && o->heads != c->heads) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "import: --heads is %" PRId64
                        ", and the table of relative positions has %" PRId64,
                        o->heads, c->heads);
    }
    if (o->heads > 0) c->heads = o->heads;
    if (c->heads == 0) c->heads = recorded_option(r, "option.heads");
    if (c->heads == 0 && c->dim % 64 == 0) c->heads = c->dim / 64;
    if (c->heads > 0 && c->dim % c->heads == 0) return TSR_STATUS_OK;
    return tsr_fail(TSR_STATUS_ARGUMENT,
                    "import: how many heads a width of %" PRId64
                    " has is not known: give --heads, a divisor of it",
                    c->dim);
}

static tsr_status find_mlp(const tsr_import_reader *r, tsr_vit_config *c)
{
    if (c->depth == 0) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "import: no blocks in the file: a patch embedding alone is no network");
    }
    /* Gated MLPs may have other names, or (timm) the same and twice the rows. */
    bool named = tsr_import__holds(r, "blocks.0.mlp.fc1.weight");
    tsr_shape in =
        tsr_import__shape(r, named ? "blocks.0.mlp.fc1.weight" : "blocks.0.mlp.w12.weight");
    tsr_shape back =
        tsr_import__shape(r, named ? "blocks.0.mlp.fc2.weight" : "blocks.0.mlp.w3.weight");
    bool sound = in.ndim == 2 && in.size[0] >= 1 && in.size[0] <= HIDDEN_MAX &&
                 in.size[1] == c->dim && back.ndim == 2 && back.size[0] == c->dim &&
                 back.size[1] >= 1;
    c->gated =
        sound && in.size[0] == 2 * back.size[1] && tsr_import__holds(r, "blocks.0.mlp.w12.weight");
    if (sound && (c->gated || in.size[0] == back.size[1])) {
        c->mlp_ratio = ratio_of(back.size[1], c->dim);
        return TSR_STATUS_OK;
    }
    char a[TSR_SHAPE_TEXT], b[TSR_SHAPE_TEXT];
    return tsr_fail(TSR_STATUS_ARGUMENT,
                    "import: the first MLP has weights %s and %s, expected [H, %" PRId64
                    "] (gated: twice the H) and [%" PRId64 ", H]",
                    tsr_shape_text(in, a), tsr_shape_text(back, b), c->dim, c->dim);
}

static tsr_status find_registers(const tsr_import_reader *r, tsr_vit_config *c)
{
    tsr_shape s = tsr_import__shape(r, "register_tokens");
    if (s.ndim == 0) return TSR_STATUS_OK;
    if (s.ndim == 3 && s.size[1] >= 1 && s.size[1] <= REGISTERS_MAX && s.size[2] == c->dim) {
        c->registers = s.size[1];
        c->position = TSR_POSITION_ANTIALIAS;
        return TSR_STATUS_OK;
    }
    char text[TSR_SHAPE_TEXT];
    return tsr_fail(TSR_STATUS_ARGUMENT,
                    "import: the register tokens have shape %s, expected [1, 1 to %d, %" PRId64 "]",
                    tsr_shape_text(s, text), REGISTERS_MAX, c->dim);
}

static tsr_backbone *new_vit(const tsr_import_reader *r, const tsr_import_options *o, int64_t *grid)
{
    tsr_shape patch = patch_shape(r);
    if (patch.ndim == 0) return NULL;
    tsr_vit_config c = {.patch_size = patch.size[2],
                        .dim = patch.size[0],
                        .qkv_bias = tsr_import__holds(r, "blocks.0.attn.qkv.bias"),
                        .layer_scale = tsr_import__holds(r, "blocks.0.gamma_1") ? 1.0 : 0.0,
                        .mean_pooling = tsr_import__holds(r, "fc_norm.weight") &&
                                        !tsr_import__holds(r, "norm.weight"),
                        .masked = tsr_import__holds(r, "masked_embed"),
                        .position = r->map->position,
                        .eps = r->map->eps,
                        .depth = count_blocks(r, "")};
    if (find_grid(r, &c, grid) != TSR_STATUS_OK || find_heads(r, o, &c) != TSR_STATUS_OK ||
        find_mlp(r, &c) != TSR_STATUS_OK || find_registers(r, &c) != TSR_STATUS_OK ||
        read_recorded(r, &c.eps, &c.position) != TSR_STATUS_OK) {
        return NULL;
    }
    c.image_size = o->image_size > 0 ? o->image_size : *grid * c.patch_size;
    int64_t side = c.image_size / c.patch_size;
    if (side > GRID_MAX) {
        tsr_fail(TSR_STATUS_ARGUMENT, "import: more than %d patches in a row", GRID_MAX);
        return NULL;
    }
    double dim = (double)c.dim, tokens = (double)(side * side),
           wanted = tokens * dim +
                    (double)c.depth * dim * dim * (4.0 + (c.gated ? 3.0 : 2.0) * c.mlp_ratio);
    /* relative_position_index, in numbers of 8 bytes */
    if (c.relative != TSR_VIT_RELATIVE_NONE) {
        wanted +=
            2.0 * tokens * tokens * (c.relative == TSR_VIT_RELATIVE_BLOCKS ? (double)c.depth : 1.0);
    }
    if (!has_amount(r, wanted)) return NULL;
    tsr_vit *vit = tsr_vit_new(&c);
    return vit == NULL ? NULL : &vit->backbone;
}

/* ---- Swin ---- */

/* Pixels a side, by the mask of the first shifted window: one a window of the map. 0: there is none. */
static int64_t size_of_mask(const tsr_import_reader *r, const tsr_swin_config *c)
{
    int64_t at = tsr_import__find(r, "layers.0.blocks.1.attn_mask");
    tsr_shape s = at >= 0 ? tsr_weights_shape(r->w, at) : TSR_SHAPE_SCALAR;
    if (s.ndim != 3 || s.size[0] < 1 || s.size[0] > GRID_MAX * GRID_MAX) return 0;
    return root(s.size[0]) * c->window * c->patch_size;
}

static tsr_status find_stages(const tsr_import_reader *r, tsr_swin_config *c)
{
    char name[96], text[TSR_SHAPE_TEXT];
    for (int s = 0; s < TSR_SWIN_STAGES; s++) {
        snprintf(name, sizeof name, "layers.%d.", s);
        c->depths[s] = count_blocks(r, name);
        if (c->depths[s] == 0) break;
        snprintf(name, sizeof name, "layers.%d.blocks.0.attn.relative_position_bias_table", s);
        tsr_shape table = tsr_import__shape(r, name);
        int64_t window = table.ndim == 2 ? grid_of_table(table.size[0], 0) : 0;
        if (window < 1 || table.size[1] < 1 || (c->dim << s) % table.size[1] != 0) {
            return tsr_fail(TSR_STATUS_ARGUMENT,
                            "import: the table of relative positions of stage %d has shape %s, "
                            "expected [(2 w - 1)^2, heads] for windows of w x w tokens of size "
                            "%" PRId64,
                            s, tsr_shape_text(table, text), c->dim << s);
        }
        c->heads[s] = table.size[1];
        if (s == 0) c->window = window;
        c->stages = s + 1;
    }
    if (c->stages > 0) return TSR_STATUS_OK;
    return tsr_fail(TSR_STATUS_ARGUMENT, "import: no blocks of a Swin in the file");
}

static tsr_backbone *new_swin(const tsr_import_reader *r, const tsr_import_options *o)
{
    tsr_shape patch = patch_shape(r);
    if (patch.ndim == 0) return NULL;
    tsr_swin_config c = {.patch_size = patch.size[2],
                         .dim = patch.size[0],
                         .qkv_bias = tsr_import__holds(r, "layers.0.blocks.0.attn.qkv.bias"),
                         .masked = tsr_import__holds(r, "masked_embed"),
                         .eps = r->map->eps};
    if (find_stages(r, &c) != TSR_STATUS_OK) return NULL;
    tsr_shape hidden = tsr_import__shape(r, "layers.0.blocks.0.mlp.fc1.weight");
    if (hidden.ndim != 2 || hidden.size[0] < 1 || hidden.size[0] > HIDDEN_MAX) {
        char text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "import: the first MLP has a weight %s, expected [H, %" PRId64 "]",
                 tsr_shape_text(hidden, text), c.dim);
        return NULL;
    }
    c.mlp_ratio = ratio_of(hidden.size[0], c.dim);
    tsr_position none; /* a Swin has no position embedding */
    if (read_recorded(r, &c.eps, &none) != TSR_STATUS_OK) return NULL;
    c.image_size = o->image_size > 0 ? o->image_size : size_of_mask(r, &c);
    if (c.image_size == 0) c.image_size = recorded_option(r, "option.image-size");
    if (c.image_size == 0) c.image_size = c.window * (c.patch_size << (c.stages - 1));
    double wanted = 0.0, tokens = (double)(c.window * c.window);
    for (int s = 0; s < c.stages; s++) {
        double dim = (double)(c.dim << s);
        wanted +=
            (double)c.depths[s] * (dim * dim * (4.0 + 2.0 * c.mlp_ratio) + 2.0 * tokens * tokens);
    }
    if (!has_amount(r, wanted)) return NULL;
    tsr_swin *swin = tsr_swin_new(&c);
    return swin == NULL ? NULL : &swin->backbone;
}

tsr_backbone *tsr_import__network(const tsr_import_reader *r, const tsr_import_options *o,
                                  int64_t *grid)
{
    if (refuse_foreign(r) != TSR_STATUS_OK) return NULL;
    return strcmp(r->map->network, "swin") == 0 ? new_swin(r, o) : new_vit(r, o, grid);
}
