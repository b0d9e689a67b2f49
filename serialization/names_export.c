/* A vision transformer under another program's names: the tables of names.c, read from our side. */
#include "serialization/serialization.h"

#include <inttypes.h>
#include <jansson.h>
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
        if ((done & (1u << rule->part)) != 0) continue;
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

static json_t *describe(const tsr_name_map *map, const tsr_vit_config *c)
{
    int64_t hidden = (int64_t)((double)c->dim * c->mlp_ratio);
    bool dinov2 = strncmp(map->name, "huggingface-dinov2", 18) == 0;
    bool beit = strncmp(map->name, "huggingface-beit", 16) == 0;
    json_t *o = json_pack("{s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:s, s:b}", //
                          "architectures",
                          dinov2 ? "Dinov2Model"
                          : beit ? "BeitModel"
                                 : "ViTModel",
                          "model_type",
                          dinov2 ? "dinov2"
                          : beit ? "beit"
                                 : "vit",                              //
                          "hidden_size", (json_int_t)c->dim,           //
                          "num_hidden_layers", (json_int_t)c->depth,   //
                          "num_attention_heads", (json_int_t)c->heads, //
                          "image_size", (json_int_t)c->image_size,     //
                          "patch_size", (json_int_t)c->patch_size,     //
                          "num_channels", (json_int_t)c->channels,     //
                          "layer_norm_eps", c->eps,                    //
                          "hidden_act", "gelu",                        //
                          "qkv_bias", c->qkv_bias);
    json_t *more = NULL;
    if (dinov2) {
        more = json_pack("{s:I, s:f, s:b, s:b}", "mlp_ratio", (json_int_t)(hidden / c->dim),
                         "layerscale_value", c->layer_scale > 0.0 ? c->layer_scale : 1.0,
                         "use_swiglu_ffn", 0, "use_mask_token", c->masked);
    } else {
        more = json_pack("{s:I, s:f, s:f}", "intermediate_size", (json_int_t)hidden,
                         "hidden_dropout_prob", 0.0, "attention_probs_dropout_prob", 0.0);
    }
    if (beit) {
        json_t *flags =
            json_pack("{s:b, s:b, s:b, s:f}", "use_absolute_position_embeddings", 1,
                      "use_relative_position_bias", 0, "use_mean_pooling", c->mean_pooling,
                      "layer_scale_init_value", c->layer_scale > 0.0 ? c->layer_scale : 0.0);
        json_object_update(more, flags);
        json_decref(flags);
    }
    if (o != NULL && more != NULL) json_object_update(o, more);
    json_decref(more);
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
