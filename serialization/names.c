/*
 * Other programs' names for the parameters of tsr_vit and tsr_swin, a table each. Ours are those of the iBOT authors, which
 * are those of DINO, of Swin's authors and, but for LayerScale, of timm.
 */
#include "serialization/serialization.h"

#include <stdio.h>
#include <string.h>

/* weight and bias of one module */
#define BOTH(ours, theirs) PART(ours, theirs, 0, 0)
#define PART(ours, theirs, part, of)                                                               \
    {ours ".weight", theirs ".weight", part, of},                                                  \
    {                                                                                              \
        ours ".bias", theirs ".bias", part, of                                                     \
    }

/* qkv from three modules */
#define JOINED(q, k, v)                                                                            \
    PART("blocks.#.attn.qkv", q, 1, 3), PART("blocks.#.attn.qkv", k, 2, 3),                        \
        PART("blocks.#.attn.qkv", v, 3, 3)

#define OUR_NAMES                                                                                  \
    {"cls_token", "cls_token", 0, 0}, {"pos_embed", "pos_embed", 0, 0},                            \
        BOTH("patch_embed.proj", "patch_embed.proj"), BOTH("blocks.#.norm1", "blocks.#.norm1"),    \
        {"blocks.#.attn.qkv.weight", "blocks.#.attn.qkv.weight", 0, 0},                            \
        BOTH("blocks.#.attn.proj", "blocks.#.attn.proj"),                                          \
        BOTH("blocks.#.norm2", "blocks.#.norm2"), BOTH("blocks.#.mlp.fc1", "blocks.#.mlp.fc1"),    \
        BOTH("blocks.#.mlp.fc2", "blocks.#.mlp.fc2"), BOTH("norm", "norm"),                        \
        BOTH("fc_norm", "fc_norm")
#define QKV_BIAS                                                                                   \
    {                                                                                              \
        "blocks.#.attn.qkv.bias", "blocks.#.attn.qkv.bias", 0, 0                                   \
    }

#define GATED_OR_REGISTERS                                                                         \
    {"register_tokens", "register_tokens", 0, 0}, BOTH("blocks.#.mlp.w12", "blocks.#.mlp.w12"),    \
        BOTH("blocks.#.mlp.w3", "blocks.#.mlp.w3")

/* Relative positions: the table, and the rows of it for each two tokens, which files may lack. */
#define RELATIVE(ours, theirs)                                                                     \
    {ours ".relative_position_bias_table", theirs ".relative_position_bias_table", 0, 0},          \
    {                                                                                              \
        ours ".relative_position_index", theirs ".relative_position_index", 0, 0                   \
    }

static const tsr_name_rule ibot[] = {
    OUR_NAMES,
    QKV_BIAS,
    {"masked_embed", "masked_embed", 0, 0},
    {"blocks.#.gamma_1", "blocks.#.gamma_1", 0, 0},
    {"blocks.#.gamma_2", "blocks.#.gamma_2", 0, 0},
    GATED_OR_REGISTERS,
    RELATIVE("rel_pos_bias", "rel_pos_bias"),
    RELATIVE("blocks.#.attn", "blocks.#.attn"),
};

#define LAYER_SCALE                                                                                \
    {"blocks.#.gamma_1", "blocks.#.ls1.gamma", 0, 0},                                              \
    {                                                                                              \
        "blocks.#.gamma_2", "blocks.#.ls2.gamma", 0, 0                                             \
    }

/* The key has no bias. */
static const tsr_name_rule beit[] = {
    OUR_NAMES,
    {"masked_embed", "mask_token", 0, 0},
    {"blocks.#.gamma_1", "blocks.#.gamma_1", 0, 0},
    {"blocks.#.gamma_2", "blocks.#.gamma_2", 0, 0},
    {"blocks.#.attn.qkv.bias", "blocks.#.attn.q_bias", 1, 3},
    {"blocks.#.attn.qkv.bias", NULL, 2, 3},
    {"blocks.#.attn.qkv.bias", "blocks.#.attn.v_bias", 3, 3},
    RELATIVE("rel_pos_bias", "rel_pos_bias"),
    RELATIVE("blocks.#.attn", "blocks.#.attn"),
};

/* Gated MLPs are GluMlp, whose modules have the names of plain ones. */
static const tsr_name_rule timm[] = {
    OUR_NAMES,
    QKV_BIAS,
    {"register_tokens", "reg_token", 0, 0},
    LAYER_SCALE,
    BOTH("blocks.#.mlp.w12", "blocks.#.mlp.fc1"),
    BOTH("blocks.#.mlp.w3", "blocks.#.mlp.fc2"),
};

static const tsr_name_rule dinov2[] = {
    OUR_NAMES, QKV_BIAS, {"masked_embed", "mask_token", 0, 0}, LAYER_SCALE, GATED_OR_REGISTERS,
};

/* What the models of the transformers library begin with. */
#define HUGGINGFACE                                                                                \
    {"cls_token", "embeddings.cls_token", 0, 0},                                                   \
        {"pos_embed", "embeddings.position_embeddings", 0, 0},                                     \
        {"masked_embed", "embeddings.mask_token", 0, 0},                                           \
        BOTH("patch_embed.proj", "embeddings.patch_embeddings.projection")

/* Parts of a block as save_pretrained() names them, and as state_dict() does since transformers 5. */
#define HUGGINGFACE_FILE(layer)                                                                    \
    JOINED(layer ".attention.attention.query", layer ".attention.attention.key",                   \
           layer ".attention.attention.value"),                                                    \
        BOTH("blocks.#.attn.proj", layer ".attention.output.dense")
#define HUGGINGFACE_5(layer)                                                                       \
    JOINED(layer ".attention.q_proj", layer ".attention.k_proj", layer ".attention.v_proj"),       \
        BOTH("blocks.#.attn.proj", layer ".attention.o_proj")

#define HUGGINGFACE_VIT(layer)                                                                     \
    HUGGINGFACE, BOTH("blocks.#.norm1", layer ".layernorm_before"),                                \
        BOTH("blocks.#.norm2", layer ".layernorm_after"), BOTH("norm", "layernorm")
#define HUGGINGFACE_DINOV2(layer)                                                                  \
    HUGGINGFACE, {"register_tokens", "embeddings.register_tokens", 0, 0},                          \
        BOTH("blocks.#.norm1", layer ".norm1"), BOTH("blocks.#.norm2", layer ".norm2"),            \
        BOTH("blocks.#.mlp.fc1", layer ".mlp.fc1"), BOTH("blocks.#.mlp.fc2", layer ".mlp.fc2"),    \
        {"blocks.#.gamma_1", layer ".layer_scale1.lambda1", 0, 0},                                 \
        {"blocks.#.gamma_2", layer ".layer_scale2.lambda1", 0, 0}, BOTH("norm", "layernorm")
/* The key has no bias; with mean pooling the last norm is the pooler's. */
#define HUGGINGFACE_BEIT(layer)                                                                    \
    HUGGINGFACE_VIT(layer), {"blocks.#.attn.qkv.bias", NULL, 2, 3},                                \
        {"blocks.#.gamma_1", layer ".lambda_1", 0, 0},                                             \
        {"blocks.#.gamma_2", layer ".lambda_2", 0, 0}, BOTH("fc_norm", "pooler.layernorm")
#define MLP_FILE(layer)                                                                            \
    BOTH("blocks.#.mlp.fc1", layer ".intermediate.dense"),                                         \
        BOTH("blocks.#.mlp.fc2", layer ".output.dense")
#define MLP_5(layer)                                                                               \
    BOTH("blocks.#.mlp.fc1", layer ".mlp.fc1"), BOTH("blocks.#.mlp.fc2", layer ".mlp.fc2")

static const tsr_name_rule huggingface_vit[] = {
    HUGGINGFACE_VIT("encoder.layer.#"),
    HUGGINGFACE_FILE("encoder.layer.#"),
    MLP_FILE("encoder.layer.#"),
};
static const tsr_name_rule huggingface_vit_5[] = {
    HUGGINGFACE_VIT("layers.#"),
    HUGGINGFACE_5("layers.#"),
    MLP_5("layers.#"),
};
static const tsr_name_rule huggingface_dinov2[] = {
    HUGGINGFACE_DINOV2("encoder.layer.#"),
    HUGGINGFACE_FILE("encoder.layer.#"),
    BOTH("blocks.#.mlp.w12", "encoder.layer.#.mlp.weights_in"),
    BOTH("blocks.#.mlp.w3", "encoder.layer.#.mlp.weights_out"),
};
static const tsr_name_rule huggingface_dinov2_5[] = {
    HUGGINGFACE_DINOV2("encoder.layer.#"),
    HUGGINGFACE_5("encoder.layer.#"),
    PART("blocks.#.mlp.w12", "encoder.layer.#.mlp.gate_proj", 1, 2),
    PART("blocks.#.mlp.w12", "encoder.layer.#.mlp.up_proj", 2, 2),
    BOTH("blocks.#.mlp.w3", "encoder.layer.#.mlp.down_proj"),
};
static const tsr_name_rule huggingface_beit[] = {
    HUGGINGFACE_BEIT("encoder.layer.#"),
    RELATIVE("rel_pos_bias", "encoder.relative_position_bias"),
    RELATIVE("blocks.#.attn", "encoder.layer.#.attention.attention.relative_position_bias"),
    HUGGINGFACE_FILE("encoder.layer.#"),
    MLP_FILE("encoder.layer.#"),
};
static const tsr_name_rule huggingface_beit_5[] = {
    HUGGINGFACE_BEIT("layers.#"),
    RELATIVE("rel_pos_bias", "shared_position_bias"),
    RELATIVE("blocks.#.attn", "layers.#.relative_position_bias"),
    HUGGINGFACE_5("layers.#"),
    MLP_5("layers.#"),
};

#define TORCHVISION "encoder.layers.encoder_layer_#"
static const tsr_name_rule torchvision[] = {
    {"cls_token", "class_token", 0, 0},
    {"pos_embed", "encoder.pos_embedding", 0, 0},
    BOTH("patch_embed.proj", "conv_proj"),
    BOTH("blocks.#.norm1", TORCHVISION ".ln_1"),
    {"blocks.#.attn.qkv.weight", TORCHVISION ".self_attention.in_proj_weight", 0, 0},
    {"blocks.#.attn.qkv.bias", TORCHVISION ".self_attention.in_proj_bias", 0, 0},
    BOTH("blocks.#.attn.proj", TORCHVISION ".self_attention.out_proj"),
    BOTH("blocks.#.norm2", TORCHVISION ".ln_2"),
    BOTH("blocks.#.mlp.fc1", TORCHVISION ".mlp.0"),
    BOTH("blocks.#.mlp.fc2", TORCHVISION ".mlp.3"),
    /* Files from before torchvision 0.14. */
    BOTH("blocks.#.mlp.fc1", TORCHVISION ".mlp.linear_1"),
    BOTH("blocks.#.mlp.fc2", TORCHVISION ".mlp.linear_2"),
    BOTH("norm", "encoder.ln"),
};

/* ---- Swin: four stages, as all that are published have ---- */

#define SWIN_BLOCK(ours, theirs, fc1, fc2)                                                         \
    BOTH(ours ".norm1", theirs ".norm1"), BOTH(ours ".attn.qkv", theirs ".attn.qkv"),              \
        RELATIVE(ours ".attn", theirs ".attn"), BOTH(ours ".attn.proj", theirs ".attn.proj"),      \
        BOTH(ours ".norm2", theirs ".norm2"), BOTH(ours ".mlp.fc1", theirs fc1),                   \
        BOTH(ours ".mlp.fc2", theirs fc2)
#define OUR_SWIN_BLOCK(block) SWIN_BLOCK(block, block, ".mlp.fc1", ".mlp.fc2")
#define DOWNSAMPLE(ours, theirs)                                                                   \
    {ours ".reduction.weight", theirs ".reduction.weight", 0, 0}, BOTH(ours ".norm", theirs ".norm")
#define PATCHES(conv, normed) BOTH("patch_embed.proj", conv), BOTH("patch_embed.norm", normed)

#define OUR_SWIN_BLOCKS                                                                            \
    PATCHES("patch_embed.proj", "patch_embed.norm"), OUR_SWIN_BLOCK("layers.0.blocks.#"),          \
        OUR_SWIN_BLOCK("layers.1.blocks.#"), OUR_SWIN_BLOCK("layers.2.blocks.#"),                  \
        OUR_SWIN_BLOCK("layers.3.blocks.#"), BOTH("norm", "norm")
#define OUR_SWIN_NAMES                                                                             \
    OUR_SWIN_BLOCKS, DOWNSAMPLE("layers.0.downsample", "layers.0.downsample"),                     \
        DOWNSAMPLE("layers.1.downsample", "layers.1.downsample"),                                  \
        DOWNSAMPLE("layers.2.downsample", "layers.2.downsample")

static const tsr_name_rule ibot_swin[] = {
    OUR_SWIN_NAMES,
    {"masked_embed", "masked_embed", 0, 0},
};

/* Masks of the shifted windows tell their files from iBOT's. */
static const tsr_name_rule swin[] = {
    OUR_SWIN_NAMES,
    {NULL, "layers.0.blocks.#.attn_mask", 0, 0},
    {NULL, "layers.1.blocks.#.attn_mask", 0, 0},
    {NULL, "layers.2.blocks.#.attn_mask", 0, 0},
};

/* A stage begins with what the one before it ends with. */
static const tsr_name_rule timm_swin[] = {
    OUR_SWIN_BLOCKS,
    DOWNSAMPLE("layers.0.downsample", "layers.1.downsample"),
    DOWNSAMPLE("layers.1.downsample", "layers.2.downsample"),
    DOWNSAMPLE("layers.2.downsample", "layers.3.downsample"),
};

#define TORCHVISION_SWIN_BLOCK(ours, theirs) SWIN_BLOCK(ours, theirs, ".mlp.0", ".mlp.3")
static const tsr_name_rule torchvision_swin[] = {
    PATCHES("features.0.0", "features.0.2"),
    TORCHVISION_SWIN_BLOCK("layers.0.blocks.#", "features.1.#"),
    TORCHVISION_SWIN_BLOCK("layers.1.blocks.#", "features.3.#"),
    TORCHVISION_SWIN_BLOCK("layers.2.blocks.#", "features.5.#"),
    TORCHVISION_SWIN_BLOCK("layers.3.blocks.#", "features.7.#"),
    DOWNSAMPLE("layers.0.downsample", "features.2"),
    DOWNSAMPLE("layers.1.downsample", "features.4"),
    DOWNSAMPLE("layers.2.downsample", "features.6"),
    BOTH("norm", "norm"),
};

#define HUGGINGFACE_SWIN_ENDS                                                                      \
    PATCHES("embeddings.patch_embeddings.projection", "embeddings.norm"),                          \
        {"masked_embed", "embeddings.mask_token", 0, 0},                                           \
        DOWNSAMPLE("layers.0.downsample", "encoder.layers.0.downsample"),                          \
        DOWNSAMPLE("layers.1.downsample", "encoder.layers.1.downsample"),                          \
        DOWNSAMPLE("layers.2.downsample", "encoder.layers.2.downsample"),                          \
        BOTH("norm", "layernorm")
#define HUGGINGFACE_SWIN_BLOCK(ours, theirs, q, k, v, proj, table, fc1, fc2)                       \
    BOTH(ours ".norm1", theirs ".layernorm_before"), PART(ours ".attn.qkv", theirs q, 1, 3),       \
        PART(ours ".attn.qkv", theirs k, 2, 3), PART(ours ".attn.qkv", theirs v, 3, 3),            \
        RELATIVE(ours ".attn", theirs table), BOTH(ours ".attn.proj", theirs proj),                \
        BOTH(ours ".norm2", theirs ".layernorm_after"), BOTH(ours ".mlp.fc1", theirs fc1),         \
        BOTH(ours ".mlp.fc2", theirs fc2)
#define HUGGINGFACE_SWIN_FILE(stage)                                                               \
    HUGGINGFACE_SWIN_BLOCK("layers." stage ".blocks.#", "encoder.layers." stage ".blocks.#",       \
                           ".attention.self.query", ".attention.self.key",                         \
                           ".attention.self.value", ".attention.output.dense", ".attention.self",  \
                           ".intermediate.dense", ".output.dense")
#define HUGGINGFACE_SWIN_5(stage)                                                                  \
    HUGGINGFACE_SWIN_BLOCK("layers." stage ".blocks.#", "encoder.layers." stage ".blocks.#",       \
                           ".attention.q_proj", ".attention.k_proj", ".attention.v_proj",          \
                           ".attention.o_proj", ".attention.relative_position_bias", ".mlp.fc1",   \
                           ".mlp.fc2")

static const tsr_name_rule huggingface_swin[] = {
    HUGGINGFACE_SWIN_ENDS,      HUGGINGFACE_SWIN_FILE("0"), HUGGINGFACE_SWIN_FILE("1"),
    HUGGINGFACE_SWIN_FILE("2"), HUGGINGFACE_SWIN_FILE("3"),
};
static const tsr_name_rule huggingface_swin_5[] = {
    HUGGINGFACE_SWIN_ENDS,   HUGGINGFACE_SWIN_5("0"), HUGGINGFACE_SWIN_5("1"),
    HUGGINGFACE_SWIN_5("2"), HUGGINGFACE_SWIN_5("3"),
};

#define VIT(name, about, eps, position, table)                                                     \
    {                                                                                              \
        name, about, "vit", eps, TSR_POSITION_##position, table, sizeof table / sizeof *table      \
    }
#define SWIN(name, about, eps, table)                                                              \
    {                                                                                              \
        name, about, "swin", eps, TSR_POSITION_OFFSET, table, sizeof table / sizeof *table         \
    }

/* Where two know as many names of a file, the first is taken. */
static const tsr_name_map maps[] = {
    VIT("ibot", "the authors' iBOT and DINO, timm's ViT and DeiT", 1e-6, OFFSET, ibot),
    VIT("timm", "timm with LayerScale or registers", 1e-6, ANTIALIAS, timm),
    VIT("dinov2", "the authors' DINOv2", 1e-6, OFFSET, dinov2),
    VIT("beit", "the authors' BEiT, timm's BEiT", 1e-6, SIZE, beit),
    VIT("huggingface-vit", "transformers' ViT and DeiT", 1e-12, SIZE, huggingface_vit),
    VIT("huggingface-vit-5", "transformers' ViT, names of version 5", 1e-12, SIZE,
        huggingface_vit_5),
    VIT("huggingface-dinov2", "transformers' DINOv2", 1e-6, SIZE, huggingface_dinov2),
    VIT("huggingface-dinov2-5", "transformers' DINOv2, names of version 5", 1e-6, SIZE,
        huggingface_dinov2_5),
    VIT("huggingface-beit", "transformers' BEiT", 1e-12, SIZE, huggingface_beit),
    VIT("huggingface-beit-5", "transformers' BEiT, names of version 5", 1e-12, SIZE,
        huggingface_beit_5),
    VIT("torchvision", "torchvision's vit_b_16 and its like", 1e-6, SIZE, torchvision),
    SWIN("ibot-swin", "the authors' iBOT with Swin", 1e-6, ibot_swin),
    SWIN("swin", "the authors' Swin, timm's before 0.9", 1e-5, swin),
    SWIN("timm-swin", "timm's Swin", 1e-5, timm_swin),
    SWIN("huggingface-swin", "transformers' Swin", 1e-5, huggingface_swin),
    SWIN("huggingface-swin-5", "transformers' Swin, names of version 5", 1e-5, huggingface_swin_5),
    SWIN("torchvision-swin", "torchvision's swin_t and its like", 1e-5, torchvision_swin),
};

const tsr_name_map *tsr_name_maps(int *n)
{
    *n = sizeof maps / sizeof *maps;
    return maps;
}

const tsr_name_map *tsr_name_map_find(const char *name)
{
    for (size_t i = 0; name != NULL && i < sizeof maps / sizeof *maps; i++) {
        if (strcmp(maps[i].name, name) == 0) return &maps[i];
    }
    return NULL;
}

/* Is name the pattern, with a number of up to four digits for '#'? The number goes into block (at most 5 bytes). */
static bool matches(const char *pattern, const char *name, char block[8])
{
    block[0] = '\0';
    for (; *pattern != '\0'; pattern++) {
        if (*pattern != '#') {
            if (*pattern != *name++) return false;
            continue;
        }
        size_t digits = strspn(name, "0123456789");
        if (digits == 0 || digits > 4 || (digits > 1 && *name == '0')) return false;
        memcpy(block, name, digits);
        block[digits] = '\0';
        name += digits;
    }
    return *name == '\0';
}

static void fill(const char *pattern, const char *block, char name[TSR_NAME_BYTES])
{
    const char *mark = strchr(pattern, '#');
    int before = mark != NULL ? (int)(mark - pattern) : (int)strlen(pattern);
    snprintf(name, TSR_NAME_BYTES, "%.*s%s%s", before, pattern, mark != NULL ? block : "",
             mark != NULL ? mark + 1 : "");
}

const tsr_name_rule *tsr_name_to_ours(const tsr_name_map *map, const char *theirs,
                                      char name[TSR_NAME_BYTES])
{
    char block[8];
    for (int i = 0; i < map->n; i++) {
        const tsr_name_rule *r = &map->rules[i];
        if (r->theirs == NULL || !matches(r->theirs, theirs, block)) continue;
        name[0] = '\0';
        if (r->ours != NULL) fill(r->ours, block, name);
        return r;
    }
    return NULL;
}

const tsr_name_rule *tsr_name_to_theirs(const tsr_name_map *map, const char *ours, int k,
                                        char name[TSR_NAME_BYTES])
{
    char block[8];
    for (int i = 0; i < map->n; i++) {
        const tsr_name_rule *r = &map->rules[i];
        if (r->ours == NULL || !matches(r->ours, ours, block) || k-- > 0) continue;
        name[0] = '\0';
        if (r->theirs != NULL) fill(r->theirs, block, name);
        return r;
    }
    return NULL;
}
