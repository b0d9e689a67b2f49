/* A vision transformer under another program's names: the tables of names.c, read from our side. */
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

/* All rules of one name, the first of each part. */
static bool add_all(tsr_named_list *list, const tsr_name_map *map, const tsr_module_entry *e)
{
    char name[TSR_NAME_BYTES];
    unsigned done = 0;
    const tsr_name_rule *rule;
    for (int k = 0; (rule = tsr_name_to_theirs(map, e->name, k, name)) != NULL; k++) {
        if ((done & (1u << rule->part)) != 0) continue; /* of another version */
        done |= 1u << rule->part;
        tsr_tensor *t = part_of(tsr_detach(e->tensor), rule->part, rule->of);
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

/* Masks are for training; which programs have that parameter, in our shape? */
static bool wants_mask_token(const tsr_name_map *map)
{
    return strcmp(map->name, "ibot") == 0 || strncmp(map->name, "huggingface-dinov2", 18) == 0;
}

tsr_named_list *tsr_name_map_export(const tsr_name_map *map, const tsr_module *m)
{
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
        bool mask = strcmp(state->at[i].name, "masked_embed") == 0;
        if (map != NULL && mask && !wants_mask_token(map)) continue;
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

static struct kind kind_of(const tsr_name_map *map, const tsr_vit_config *c)
{
    if (strncmp(map->name, "huggingface-beit", 16) == 0) return (struct kind){"beit", "BeitModel"};
    if (strncmp(map->name, "huggingface-dinov2", 18) != 0) return (struct kind){"vit", "ViTModel"};
    if (c->registers == 0) return (struct kind){"dinov2", "Dinov2Model"};
    return (struct kind){"dinov2_with_registers", "Dinov2WithRegistersModel"};
}

static void set(json_t *o, const char *key, json_t *value)
{
    if (json_object_set_new(o, key, value) != 0) {
        tsr_fail(TSR_STATUS_MEMORY, "export: out of memory");
    }
}

static json_t *describe(const tsr_name_map *map, const tsr_vit_config *c)
{
    struct kind kind = kind_of(map, c);
    double hidden = (double)c->dim * c->mlp_ratio, scale = c->layer_scale;
    json_t *o = json_object();
    set(o, "architectures", json_pack("[s]", kind.model));
    set(o, "model_type", json_string(kind.type));
    set(o, "hidden_size", json_integer(c->dim));
    set(o, "num_hidden_layers", json_integer(c->depth));
    set(o, "num_attention_heads", json_integer(c->heads));
    set(o, "image_size", json_integer(c->image_size));
    set(o, "patch_size", json_integer(c->patch_size));
    set(o, "num_channels", json_integer(c->channels));
    set(o, "layer_norm_eps", json_real(c->eps));
    set(o, "hidden_act", json_string("gelu"));
    set(o, "qkv_bias", json_boolean(c->qkv_bias));
    if (strncmp(kind.type, "dinov2", 6) == 0) {
        /* Gated MLPs have two thirds of what this ratio says, rounded up to a multiple of 8. */
        double ratio = c->gated ? 1.5 * c->mlp_ratio : c->mlp_ratio;
        bool whole = ratio == floor(ratio); /* they want an integer */
        set(o, "mlp_ratio", whole ? json_integer((json_int_t)ratio) : json_real(ratio));
        set(o, "use_swiglu_ffn", json_boolean(c->gated));
        set(o, "layerscale_value", json_real(scale > 0.0 ? scale : 1.0));
        set(o, "use_mask_token", json_boolean(c->masked));
        if (c->registers > 0) set(o, "num_register_tokens", json_integer(c->registers));
        return o;
    }
    set(o, "intermediate_size", json_integer((json_int_t)hidden));
    set(o, "hidden_dropout_prob", json_real(0.0));
    set(o, "attention_probs_dropout_prob", json_real(0.0));
    if (strcmp(kind.type, "beit") == 0) {
        set(o, "use_absolute_position_embeddings", json_true());
        set(o, "use_relative_position_bias", json_false());
        set(o, "use_mean_pooling", json_boolean(c->mean_pooling));
        set(o, "layer_scale_init_value", json_real(scale));
    }
    return o;
}

char *tsr_name_map_config(const tsr_name_map *map, const tsr_vit_config *config)
{
    if (strncmp(map->name, "huggingface-", 12) != 0) return NULL;
    json_t *o = describe(map, config);
    char *text = json_dumps(o, JSON_INDENT(2));
    json_decref(o);
    if (text == NULL) tsr_fail(TSR_STATUS_MEMORY, "export: out of memory");
    return text;
}
