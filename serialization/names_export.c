/* A backbone under another program's names: the tables of names.c, read from our side. */
#include "serialization/serialization.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_zero(const tsr_tensor *t)
{
    for (int64_t i = 0; i < tsr_tensor_numel(t); i++) {
        if (tsr_tensor_get(t, i) != 0.0) return false;
    }
    return true;
}

/* Our tensor, or part 1 .. of of its rows. */
static tsr_tensor *part_of(tsr_tensor *t, int part, int of)
{
    if (part == 0) return t;
    int64_t rows = tsr_tensor_size(t, 0) / of;
    return tsr_slice(t, 0, (part - 1) * rows, part * rows, 1);
}

static bool add(tsr_named_list *list, const char *name, tsr_tensor *t)
{
    tsr_named_tensor *at = &list->at[list->n];
    *at = (tsr_named_tensor){strdup(name), tsr_tensor_hold(t)};
    list->n++;
    if (at->name == NULL) tsr_fail(TSR_STATUS_MEMORY, "export: out of memory");
    return at->name != NULL && t != NULL;
}

static bool begins_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Masks are for training, and indices follow from the shape: which programs have them, in our shape? */
static bool wants(const tsr_name_map *map, const char *name)
{
    if (map == NULL) return true;
    if (strcmp(name, "masked_embed") == 0)
        return begins_with(map->name, "ibot") || begins_with(map->name, "huggingface-dinov2");
    if (strstr(name, "relative_position_index") != NULL)
        return begins_with(map->name, "ibot") || strcmp(map->name, "swin") == 0 ||
               strcmp(map->name, "torchvision-swin") == 0;
    return true;
}

/* torchvision's index is flat. timm's networks with LayerScale whose class token has no position have no row for it. */
static tsr_tensor *in_their_shape(const tsr_name_map *map, const tsr_module_entry *e)
{
    tsr_tensor *t = tsr_detach(e->tensor);
    if (begins_with(map->name, "torchvision") && strstr(e->name, "relative_position_index") != NULL)
        return tsr_flatten(t, 0, 1);
    if (strcmp(map->name, "timm") == 0 && strcmp(e->name, "pos_embed") == 0 &&
        is_zero(tsr_slice(t, 1, 0, 1, 1)))
        return tsr_slice(t, 1, 1, tsr_tensor_size(t, 1), 1);
    return t;
}

/* All rules of one name, the first of each part. */
static bool add_all(tsr_named_list *list, const tsr_name_map *map, const tsr_module_entry *e)
{
    char name[TSR_NAME_BYTES];
    unsigned done = 0;
    const tsr_name_rule *rule;
    for (int k = 0; (rule = tsr_name_to_theirs(map, e->name, k, name)) != NULL; k++) {
        if ((done & (1u << rule->part)) != 0) continue; /* of another version */
        done |= 1u << rule->part;
        tsr_tensor *t = part_of(in_their_shape(map, e), rule->part, rule->of);
        if (rule->theirs != NULL) {
            if (!add(list, name, t)) return false;
        } else if (!is_zero(t)) {
            tsr_fail(TSR_STATUS_ARGUMENT,
                     "export: %s cannot be written under the names of %s: they have no bias of "
                     "keys, and this network's is not 0",
                     e->name, map->name);
            return false;
        }
    }
    if (done != 0) return true;
    tsr_fail(TSR_STATUS_ARGUMENT, "export: %s has no name among those of %s (%s)", e->name,
             map->name, map->about);
    return false;
}

tsr_named_list *tsr_name_map_export(const tsr_name_map *map, const tsr_module *m)
{
    if (map != NULL && strcmp(map->network, m->name) != 0) {
        tsr_fail(TSR_STATUS_ARGUMENT, "export: the names of %s are for a %s, and this is a %s",
                 map->name, map->network, m->name);
        return NULL;
    }
    tsr_module_list *state = tsr_module_state(m);
    tsr_named_list *list = calloc(1, sizeof *list);
    if (list != NULL && state != NULL) {
        list->at = calloc(3 * (size_t)state->n + 1, sizeof *list->at);
    }
    if (state != NULL && (list == NULL || list->at == NULL)) {
        tsr_fail(TSR_STATUS_MEMORY, "export: out of memory");
    }
    tsr_scope scope = tsr_scope_open();
    bool was = tsr_recording_set(false), ok = tsr_status_get() == TSR_STATUS_OK;
    for (int64_t i = 0; ok && i < state->n; i++) {
        if (!wants(map, state->at[i].name)) continue;
        ok = map != NULL ? add_all(list, map, &state->at[i])
                         : add(list, state->at[i].name, state->at[i].tensor);
    }
    tsr_recording_set(was);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    tsr_module_list_free(&state);
    if (!ok) tsr_named_list_free(&list);
    return list;
}

void tsr_named_list_free(tsr_named_list **list)
{
    if (list == NULL || *list == NULL) return;
    for (int64_t i = 0; i < (*list)->n; i++) {
        free((char *)(*list)->at[i].name);
        tsr_tensor_release(&(*list)->at[i].tensor);
    }
    free((*list)->at);
    free(*list);
    *list = NULL;
}

/* ---- transformers' config.json ---- */

/* The kinds of networks that it has models for. */
struct kind {
    const char *type, *model;
};

static struct kind kind_of(const tsr_name_map *map, const tsr_backbone *m)
{
    if (strcmp(map->network, "swin") == 0) return (struct kind){"swin", "SwinModel"};
    if (begins_with(map->name, "huggingface-beit")) return (struct kind){"beit", "BeitModel"};
    if (!begins_with(map->name, "huggingface-dinov2")) return (struct kind){"vit", "ViTModel"};
    if (((const tsr_vit *)m)->register_tokens == NULL)
        return (struct kind){"dinov2", "Dinov2Model"};
    return (struct kind){"dinov2_with_registers", "Dinov2WithRegistersModel"};
}

static void set(json_t *o, const char *key, json_t *value)
{
    if (json_object_set_new(o, key, value) != 0) {
        tsr_fail(TSR_STATUS_MEMORY, "export: out of memory");
    }
}

/* A number, as an integer where it is one: some of their types want that. */
static json_t *number(double x)
{
    return x == floor(x) ? json_integer((json_int_t)x) : json_real(x);
}

static void describe_common(json_t *o, int64_t patch, int64_t channels, double eps, bool qkv_bias)
{
    set(o, "patch_size", json_integer(patch));
    set(o, "num_channels", json_integer(channels));
    set(o, "layer_norm_eps", json_real(eps));
    set(o, "qkv_bias", json_boolean(qkv_bias));
    set(o, "hidden_act", json_string("gelu"));
}

static void describe_swin(json_t *o, const tsr_swin_config *c)
{
    json_t *depths = json_array(), *heads = json_array();
    for (int s = 0; s < c->stages; s++) {
        json_array_append_new(depths, json_integer(c->depths[s]));
        json_array_append_new(heads, json_integer(c->heads[s]));
    }
    set(o, "embed_dim", json_integer(c->dim));
    set(o, "depths", depths);
    set(o, "num_heads", heads);
    set(o, "window_size", json_integer(c->window));
    set(o, "mlp_ratio", number(c->mlp_ratio));
    set(o, "use_absolute_embeddings", json_false());
    set(o, "drop_path_rate", json_real(0.0));
    set(o, "hidden_dropout_prob", json_real(0.0));
    set(o, "attention_probs_dropout_prob", json_real(0.0));
}

static void describe_dinov2(json_t *o, const tsr_vit_config *c)
{
    /* Gated MLPs have two thirds of what this ratio says, rounded up to a multiple of 8. */
    set(o, "mlp_ratio", number(c->gated ? 1.5 * c->mlp_ratio : c->mlp_ratio));
    set(o, "use_swiglu_ffn", json_boolean(c->gated));
    set(o, "layerscale_value", json_real(c->layer_scale > 0.0 ? c->layer_scale : 1.0));
    set(o, "use_mask_token", json_boolean(c->masked));
    if (c->registers > 0) set(o, "num_register_tokens", json_integer(c->registers));
}

static void describe_vit(json_t *o, const char *type, const tsr_vit_config *c)
{
    set(o, "hidden_size", json_integer(c->dim));
    set(o, "num_hidden_layers", json_integer(c->depth));
    set(o, "num_attention_heads", json_integer(c->heads));
    if (begins_with(type, "dinov2")) {
        describe_dinov2(o, c);
        return;
    }
    set(o, "intermediate_size", json_integer((json_int_t)((double)c->dim * c->mlp_ratio)));
    set(o, "hidden_dropout_prob", json_real(0.0));
    set(o, "attention_probs_dropout_prob", json_real(0.0));
    if (strcmp(type, "beit") != 0) return;
    set(o, "use_absolute_position_embeddings", json_boolean(!c->no_position));
    set(o, "use_relative_position_bias", json_boolean(c->relative == TSR_VIT_RELATIVE_BLOCKS));
    set(o, "use_shared_relative_position_bias",
        json_boolean(c->relative == TSR_VIT_RELATIVE_SHARED));
    set(o, "use_mean_pooling", json_boolean(c->mean_pooling));
    set(o, "layer_scale_init_value", json_real(c->layer_scale));
}

char *tsr_name_map_config(const tsr_name_map *map, const tsr_backbone *m)
{
    if (!begins_with(map->name, "huggingface-")) return NULL;
    struct kind kind = kind_of(map, m);
    json_t *o = json_object();
    set(o, "architectures", json_pack("[s]", kind.model));
    set(o, "model_type", json_string(kind.type));
    if (strcmp(kind.type, "swin") == 0) {
        const tsr_swin_config *c = &((const tsr_swin *)m)->config;
        describe_swin(o, c);
        describe_common(o, c->patch_size, c->channels, c->eps, c->qkv_bias);
    } else {
        const tsr_vit_config *c = &((const tsr_vit *)m)->config;
        describe_vit(o, kind.type, c);
        describe_common(o, c->patch_size, c->channels, c->eps, c->qkv_bias);
    }
    set(o, "image_size", json_integer(m->image_size));
    char *text = json_dumps(o, JSON_INDENT(2));
    json_decref(o);
    if (text == NULL) tsr_fail(TSR_STATUS_MEMORY, "export: out of memory");
    return text;
}
