/*
 * Other programs' names for the parameters of tsr_vit, a table each. Ours are those of the iBOT authors, which are those of
 * DINO and, but for LayerScale, of timm.
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
        BOTH("blocks.#.attn.qkv", "blocks.#.attn.qkv"),                                            \
        BOTH("blocks.#.attn.proj", "blocks.#.attn.proj"),                                          \
        BOTH("blocks.#.norm2", "blocks.#.norm2"), BOTH("blocks.#.mlp.fc1", "blocks.#.mlp.fc1"),    \
        BOTH("blocks.#.mlp.fc2", "blocks.#.mlp.fc2"), BOTH("norm", "norm"),                        \
        BOTH("fc_norm", "fc_norm")

#define GATED_OR_REGISTERS                                                                         \
    {"register_tokens", "register_tokens", 0, 0}, BOTH("blocks.#.mlp.w12", "blocks.#.mlp.w12"),    \
        BOTH("blocks.#.mlp.w3", "blocks.#.mlp.w3")

static const tsr_name_rule ibot[] = {
    OUR_NAMES,
    {"masked_embed", "masked_embed", 0, 0},
    {"blocks.#.gamma_1", "blocks.#.gamma_1", 0, 0},
    {"blocks.#.gamma_2", "blocks.#.gamma_2", 0, 0},
    GATED_OR_REGISTERS,
};

#define LAYER_SCALE                                                                                \
    {"blocks.#.gamma_1", "blocks.#.ls1.gamma", 0, 0},                                              \
    {                                                                                              \
        "blocks.#.gamma_2", "blocks.#.ls2.gamma", 0, 0                                             \
    }

/* Gated MLPs are GluMlp, whose modules have the names of plain ones. */
static const tsr_name_rule timm[] = {
    OUR_NAMES,
    {"register_tokens", "reg_token", 0, 0},
    LAYER_SCALE,
    BOTH("blocks.#.mlp.w12", "blocks.#.mlp.fc1"),
    BOTH("blocks.#.mlp.w3", "blocks.#.mlp.fc2"),
};

static const tsr_name_rule dinov2[] = {
    OUR_NAMES,
    {"masked_embed", "mask_token", 0, 0},
    LAYER_SCALE,
    GATED_OR_REGISTERS,
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
    HUGGINGFACE_FILE("encoder.layer.#"),
    MLP_FILE("encoder.layer.#"),
};
static const tsr_name_rule huggingface_beit_5[] = {
    HUGGINGFACE_BEIT("layers.#"),
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

#define RULES(table) table, sizeof table / sizeof *table

static const tsr_name_map maps[] = {
    {"ibot", "the authors' iBOT and DINO, timm's ViT and DeiT", 1e-6, TSR_POSITION_OFFSET,
     RULES(ibot)},
    {"timm", "timm with LayerScale or registers", 1e-6, TSR_POSITION_ANTIALIAS, RULES(timm)},
    {"dinov2", "the authors' DINOv2", 1e-6, TSR_POSITION_OFFSET, RULES(dinov2)},
    {"huggingface-vit", "transformers' ViT and DeiT", 1e-12, TSR_POSITION_SIZE,
     RULES(huggingface_vit)},
    {"huggingface-vit-5", "transformers' ViT, names of version 5", 1e-12, TSR_POSITION_SIZE,
     RULES(huggingface_vit_5)},
    {"huggingface-dinov2", "transformers' DINOv2", 1e-6, TSR_POSITION_SIZE,
     RULES(huggingface_dinov2)},
    {"huggingface-dinov2-5", "transformers' DINOv2, names of version 5", 1e-6, TSR_POSITION_SIZE,
     RULES(huggingface_dinov2_5)},
    {"huggingface-beit", "transformers' BEiT", 1e-12, TSR_POSITION_SIZE, RULES(huggingface_beit)},
    {"huggingface-beit-5", "transformers' BEiT, names of version 5", 1e-12, TSR_POSITION_SIZE,
     RULES(huggingface_beit_5)},
    {"torchvision", "torchvision's vit_b_16 and its like", 1e-6, TSR_POSITION_SIZE,
     RULES(torchvision)},
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
        fill(r->ours, block, name);
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
        if (!matches(r->ours, ours, block) || k-- > 0) continue;
        name[0] = '\0';
        if (r->theirs != NULL) fill(r->theirs, block, name);
        return r;
    }
    return NULL;
}
