/* Networks written under other programs' names, by the tables read in reverse, and read again. */
#include "serialization/serialization.h"
#include "tests/serialization/files.h"

#include <math.h>

enum { MAX = 200 };

/* A file to be: names and tensors of the innermost scope. */
static tsr_named_tensor list[MAX];
static char names[MAX][256];
static int n_list;

static void add(const char *prefix, const char *name, tsr_tensor *t)
{
    assert_true(n_list < MAX);
    snprintf(names[n_list], sizeof names[n_list], "%s%s", prefix, name);
    list[n_list] = (tsr_named_tensor){names[n_list], t};
    n_list++;
}

static bool knows(const tsr_name_map *map, const char *ours)
{
    char name[TSR_NAME_BYTES];
    return tsr_name_to_theirs(map, ours, 0, name) != NULL;
}

/* Random values but for what follows from the shape. */
static void shake(tsr_backbone *m)
{
    tsr_module_list *state = tsr_module_state(&m->module);
    for (int64_t i = 0; i < state->n; i++) {
        if (state->at[i].init.kind == TSR_INIT_NOT) continue;
        tsr_fill_normal(tsr_detach(state->at[i].tensor), tsr_rng_make(7, (uint32_t)i, 0, 1), 0, 1);
    }
    tsr_module_list_free(&state);
}

/* A small network with all that the map has names for. */
static tsr_backbone *make_vit_like(const tsr_name_map *map, tsr_vit_config more)
{
    tsr_vit_config c = {.image_size = 12,
                        .patch_size = 4,
                        .dim = 12,
                        .depth = 3,
                        .heads = 2,
                        .mlp_ratio = 7.0 / 3.0,
                        .gated = more.gated,
                        .registers = more.registers,
                        .qkv_bias = true,
                        .eps = map->eps,
                        .masked = knows(map, "masked_embed"),
                        .layer_scale = knows(map, "blocks.0.gamma_1") ? 0.5 : 0.0,
                        .mean_pooling = more.mean_pooling,
                        .relative = more.relative,
                        .no_position = more.no_position};
    tsr_vit *vit = tsr_vit_new(&c);
    assert_non_null(vit);
    shake(&vit->backbone);
    return &vit->backbone;
}

/* Two windows a side in the first stage, the second block of which shifts them. */
static tsr_backbone *make_swin(const tsr_name_map *map)
{
    tsr_swin_config c = {.image_size = 32,
                         .patch_size = 2,
                         .dim = 8,
                         .stages = 4,
                         .depths = {2, 1, 2, 1},
                         .heads = {1, 2, 4, 8},
                         .window = 2,
                         .mlp_ratio = 1.5,
                         .qkv_bias = true,
                         .eps = map->eps,
                         .masked = knows(map, "masked_embed")};
    tsr_swin *swin = tsr_swin_new(&c);
    assert_non_null(swin);
    shake(&swin->backbone);
    return &swin->backbone;
}

static bool is_swin(const tsr_name_map *map)
{
    return strcmp(map->network, "swin") == 0;
}

static tsr_backbone *make_vit(const tsr_name_map *map)
{
    return make_vit_like(map, (tsr_vit_config){0});
}

static const tsr_vit_config *config_of(const tsr_backbone *m)
{
    assert_string_equal(m->module.name, "vit");
    return &((const tsr_vit *)m)->config;
}

/* The network's tensors under their names, each in the first way that the map has; a part that they have not becomes zero. */
static void put_network(const tsr_backbone *m, const tsr_name_map *map, const char *prefix)
{
    tsr_module_list *state = tsr_module_state(&m->module);
    for (int64_t i = 0; i < state->n; i++) {
        char theirs[TSR_NAME_BYTES];
        bool have[4] = {false};
        const tsr_name_rule *rule;
        tsr_tensor *t = tsr_detach(state->at[i].tensor);
        for (int k = 0; (rule = tsr_name_to_theirs(map, state->at[i].name, k, theirs)) != NULL;
             k++) {
            if (have[0] || have[rule->part] || rule->theirs == NULL) continue;
            have[rule->part] = true;
            tsr_tensor *part = t;
            int64_t rows = rule->part > 0 ? tsr_tensor_size(t, 0) / rule->of : 0;
            if (rule->part > 0)
                part = tsr_slice(t, 0, (rule->part - 1) * rows, rule->part * rows, 1);
            add(prefix, theirs, part);
        }
        if (have[1] && !have[2]) tsr_tensor_fill(tsr_slice(t, 0, 12, 24, 1), 0.0); /* of keys */
        if (!have[0] && !have[1]) fail_msg("%s has no name for %s", map->name, state->at[i].name);
    }
    tsr_module_list_free(&state);
}

static tsr_weights *write_list(void **state)
{
    const char *path = in_directory(state, "x");
    if (tsr_safetensors_write(path, list, n_list, NULL, 0) != TSR_STATUS_OK)
        fail_msg("%s", tsr_message());
    tsr_weights *w = tsr_weights_open(path);
    assert_non_null(w);
    return w;
}

static void assert_same_networks(const tsr_backbone *a, const tsr_backbone *b)
{
    tsr_module_list *x = tsr_module_state(&a->module), *y = tsr_module_state(&b->module);
    assert_int_equal(x->n, y->n);
    for (int64_t i = 0; i < x->n; i++) {
        assert_string_equal(x->at[i].name, y->at[i].name);
        assert_same_tensor(x->at[i].tensor, y->at[i].tensor);
    }
    tsr_module_list_free(&x);
    tsr_module_list_free(&y);
}

/* Each tensor alone is what loading all of them put into the network. */
static void assert_same_one_by_one(const tsr_import *i)
{
    tsr_module_list *state = tsr_module_state(&i->backbone->module);
    for (int64_t k = 0; k < state->n; k++) {
        tsr_tensor *t = tsr_import_tensor(i, &state->at[k]);
        assert_non_null(t);
        assert_same_tensor(tsr_tensor_packed(t), tsr_tensor_packed(state->at[k].tensor));
    }
    tsr_module_list_free(&state);
}

static tsr_import *write_and_import(void **state, const tsr_name_map *map, const tsr_backbone *m,
                                    int64_t heads)
{
    n_list = 0;
    put_network(m, map, "model.");
    tsr_weights *w = write_list(state);
    tsr_import *i = tsr_import_open(w, &(tsr_import_options){.heads = heads});
    if (i == NULL || tsr_import_load(i) != TSR_STATUS_OK)
        fail_msg("%s: %s", map->name, tsr_message());
    /* Two maps may have the same names. */
    if (strcmp(map->name, "swin") != 0) assert_string_equal(i->map->name, map->name);
    assert_string_equal(i->prefix, "model.");
    assert_int_equal(i->counts[TSR_IMPORT_LOADED], i->n);
    assert_same_networks(i->backbone, m);
    assert_same_one_by_one(i);
    tsr_weights_close(&w);
    return i;
}

static void import_vit(void **state, const tsr_name_map *map, tsr_vit_config config)
{
    tsr_scope scope = tsr_scope_open();
    tsr_backbone *m = make_vit_like(map, config);
    tsr_import *i =
        write_and_import(state, map, m, config.relative != TSR_VIT_RELATIVE_NONE ? 0 : 2);
    const tsr_vit_config *c = config_of(i->backbone);
    assert_true(c->eps == map->eps);
    assert_int_equal(c->heads, 2);
    assert_int_equal(c->registers, config.registers);
    assert_int_equal(c->gated, config.gated);
    assert_int_equal(c->relative, config.relative);
    assert_int_equal(c->position, config.registers > 0 ? TSR_POSITION_ANTIALIAS : map->position);
    tsr_import_free(&i);
    assert_null(i);
    tsr_module_free(&m);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void import_swin(void **state, const tsr_name_map *map)
{
    tsr_scope scope = tsr_scope_open();
    tsr_backbone *m = make_swin(map);
    tsr_import *i = write_and_import(state, map, m, 0);
    const tsr_swin_config *c = &((const tsr_swin *)i->backbone)->config;
    assert_string_equal(i->backbone->module.name, "swin");
    assert_int_equal(c->window, 2);
    assert_int_equal(c->image_size, 32);
    assert_int_equal(c->depths[2], 2);
    assert_int_equal(c->heads[3], 8);
    assert_true(c->eps == i->map->eps);
    tsr_import_free(&i);
    tsr_module_free(&m);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_import__every_map_works_both_ways(void **state)
{
    int n_maps;
    const tsr_name_map *maps = tsr_name_maps(&n_maps);
    assert_int_equal(n_maps, 17);
    for (int m = 0; m < n_maps; m++) {
        if (is_swin(&maps[m])) {
            import_swin(state, &maps[m]);
            continue;
        }
        bool pools = knows(&maps[m], "fc_norm.weight");
        bool gates = knows(&maps[m], "blocks.0.mlp.w12.weight");
        bool registers = knows(&maps[m], "register_tokens");
        import_vit(state, &maps[m], (tsr_vit_config){0});
        if (pools) import_vit(state, &maps[m], (tsr_vit_config){.mean_pooling = true});
        if (gates) import_vit(state, &maps[m], (tsr_vit_config){.gated = true});
        if (registers) import_vit(state, &maps[m], (tsr_vit_config){.registers = 3});
        if (!knows(&maps[m], "blocks.0.attn.relative_position_bias_table")) continue;
        import_vit(state, &maps[m],
                   (tsr_vit_config){.relative = TSR_VIT_RELATIVE_BLOCKS, .no_position = true});
        import_vit(state, &maps[m], (tsr_vit_config){.relative = TSR_VIT_RELATIVE_SHARED});
    }
    assert_null(tsr_name_map_find("resnet"));
}

/* Swin's authors keep the masks of shifted windows: they tell the size of pictures, and whose file it is. */
static void test_import__masks_tell_whose_swin_it_is(void **state)
{
    tsr_scope scope = tsr_scope_open();
    const tsr_name_map *map = tsr_name_map_find("swin");
    tsr_backbone *m = make_swin(map);
    n_list = 0;
    put_network(m, map, "");
    add("", "layers.0.blocks.1.attn_mask", tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(16 * 16, 4, 4)));
    tsr_weights *w = write_list(state);
    tsr_import *i = tsr_import_open(w, &(tsr_import_options){0});
    if (i == NULL) fail_msg("%s", tsr_message());
    assert_string_equal(i->map->name, "swin");
    assert_int_equal(i->backbone->image_size, 64);
    assert_true(((const tsr_swin *)i->backbone)->config.eps == 1e-5);
    assert_int_equal(i->counts[TSR_IMPORT_UNUSED], 1);
    tsr_import_free(&i);

    /* Pictures so small that the windows of the last stages shrink: tables are resized. */
    i = tsr_import_open(w, &(tsr_import_options){.image_size = 16});
    if (i == NULL) fail_msg("%s", tsr_message());
    assert_int_equal(((const tsr_swin *)i->backbone)->window[3], 1);
    assert_int_equal(i->counts[TSR_IMPORT_RESIZED], 2);
    tsr_import_free(&i);
    tsr_weights_close(&w);
    tsr_module_free(&m);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* Names of theirs lead to the rule that leads to them. */
static void test_import__names_are_unique(void **state)
{
    (void)state;
    int n_maps;
    const tsr_name_map *maps = tsr_name_maps(&n_maps);
    for (int m = 0; m < n_maps; m++) {
        for (int k = 0; k < maps[m].n; k++) {
            const tsr_name_rule *rule = &maps[m].rules[k];
            char theirs[TSR_NAME_BYTES], ours[TSR_NAME_BYTES];
            if (rule->theirs == NULL || rule->ours == NULL) continue;
            snprintf(theirs, sizeof theirs, "%s", rule->theirs);
            char *mark = strchr(theirs, '#');
            if (mark != NULL) *mark = '7';
            const tsr_name_rule *got = tsr_name_to_ours(&maps[m], theirs, ours);
            assert_non_null(got);
            if (strstr(rule->ours, ".mlp.w") != NULL) { /* timm's have the names of plain MLPs */
                assert_string_equal(got->theirs, rule->theirs);
                continue;
            }
            assert_ptr_equal(got, rule);
            assert_true((strstr(ours, "blocks.7.") != NULL) == (mark != NULL));
            assert_ptr_equal(tsr_name_to_theirs(&maps[m], "head.weight", 0, theirs), NULL);
        }
    }
    char ours[TSR_NAME_BYTES];
    const tsr_name_map *ibot = tsr_name_map_find("ibot");
    assert_non_null(tsr_name_to_ours(ibot, "blocks.11.norm1.weight", ours));
    assert_string_equal(ours, "blocks.11.norm1.weight");
    assert_null(tsr_name_to_ours(ibot, "blocks.01.norm1.weight", ours));
    assert_null(tsr_name_to_ours(ibot, "blocks..norm1.weight", ours));
    assert_null(tsr_name_to_ours(ibot, "blocks.1.norm1.weights", ours));
    assert_null(tsr_name_to_ours(ibot, "head.weight", ours));
}

static void test_import__finds_the_network_among_others(void **state)
{
    tsr_scope scope = tsr_scope_open();
    const tsr_name_map *map = tsr_name_map_find("ibot");
    tsr_backbone *vit = make_vit(map);
    n_list = 0;
    put_network(vit, map, "teacher.backbone.");
    put_network(vit, map, "student.module.backbone.");
    add("teacher.head.", "last_layer.weight", tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2)));
    tsr_weights *w = write_list(state);
    tsr_import *i = tsr_import_open(w, &(tsr_import_options){.heads = 2});
    assert_non_null(i);
    assert_string_equal(i->prefix, "teacher.backbone.");
    assert_int_equal(i->elsewhere, (n_list - 1) / 2 + 1);
    assert_int_equal(i->counts[TSR_IMPORT_UNUSED], 0);
    tsr_import_free(&i);
    i = tsr_import_open(w, &(tsr_import_options){.heads = 2, .prefix = "student.module.backbone."});
    assert_non_null(i);
    assert_string_equal(i->prefix, "student.module.backbone.");
    tsr_import_free(&i);
    assert_null(tsr_import_open(w, &(tsr_import_options){.heads = 2, .prefix = "model."}));
    assert_failed(TSR_STATUS_ARGUMENT, "no network has this prefix; there are: '");
    assert_null(tsr_import_open(w, &(tsr_import_options){.map = "resnet"}));
    assert_failed(TSR_STATUS_ARGUMENT, "there are no names called \"resnet\"");
    assert_null(tsr_import_open(w, &(tsr_import_options){.map = "torchvision"}));
    assert_failed(TSR_STATUS_ARGUMENT, "no network that is known in the file");
    tsr_weights_close(&w);

    n_list = 0;
    put_network(vit, map, "a.");
    put_network(vit, map, "b.");
    w = write_list(state);
    assert_null(tsr_import_open(w, &(tsr_import_options){.heads = 2}));
    assert_failed(TSR_STATUS_ARGUMENT, "several networks; name one by its prefix: 'a.', 'b.'");
    tsr_weights_close(&w);

    tsr_checkpoint_writer *c = tsr_checkpoint_create(in_directory(state, "none"));
    assert_int_equal(tsr_checkpoint_commit(&c), TSR_STATUS_OK);
    w = tsr_weights_open(in_directory(state, "none"));
    assert_null(tsr_import_open(w, &(tsr_import_options){0}));
    assert_failed(TSR_STATUS_ARGUMENT, "the file holds no tensors");
    tsr_weights_close(&w);
    n_list = 0;
    add("", "patch_embed.proj.weight", tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(64, 3, 4, 4)));
    add("", "pos_embed", tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(1, 5, 64)));
    w = write_list(state);
    assert_null(tsr_import_open(w, &(tsr_import_options){0}));
    assert_failed(TSR_STATUS_ARGUMENT, "no blocks in the file");
    tsr_weights_close(&w);
    tsr_module_free(&vit);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static tsr_tensor *position_of(const tsr_backbone *m)
{
    return ((const tsr_vit *)m)->pos_embed;
}

/* Tables of relative positions too; the file's own rows of them for each two tokens must be the right ones. */
static void test_import__resizes_relative_positions(void **state)
{
    tsr_scope scope = tsr_scope_open();
    const tsr_name_map *map = tsr_name_map_find("beit");
    tsr_backbone *m = make_vit_like(
        map, (tsr_vit_config){.relative = TSR_VIT_RELATIVE_BLOCKS, .no_position = true});
    n_list = 0;
    put_network(m, map, "");
    tsr_weights *w = write_list(state);
    tsr_import *i = tsr_import_open(w, &(tsr_import_options){.image_size = 20});
    if (i == NULL || tsr_import_load(i) != TSR_STATUS_OK) fail_msg("%s", tsr_message());
    assert_int_equal(i->counts[TSR_IMPORT_RESIZED], 3 + 3); /* tables, and their indices */
    const tsr_relative_position *to = &((const tsr_vit *)i->backbone)->blocks[2]->attn->position;
    tsr_tensor *from = ((const tsr_vit *)m)->blocks[2]->attn->position.table;
    assert_same_tensor(to->table, tsr_tensor_packed(tsr_relative_position_resize(
                                      tsr_detach(from), TSR_SHAPE(9 * 9 + 3, 2))));
    tsr_import_free(&i);
    assert_null(tsr_import_open(w, &(tsr_import_options){.heads = 3}));
    assert_failed(TSR_STATUS_ARGUMENT, "--heads is 3, and the table of relative positions has 2");
    tsr_weights_close(&w);

    for (int k = 0; k < n_list; k++) {
        if (strcmp(names[k], "blocks.1.attn.relative_position_index") != 0) continue;
        list[k].tensor = tsr_contiguous(list[k].tensor);
        list[k].tensor = tsr_cast(list[k].tensor, TSR_DTYPE_I32);
        ((int32_t *)tsr_tensor_data_mut(list[k].tensor))[5]++;
    }
    w = write_list(state);
    i = tsr_import_open(w, &(tsr_import_options){0});
    assert_non_null(i);
    assert_int_equal(tsr_import_load(i), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT,
                  "'blocks.1.attn.relative_position_index' is not what the network's shape says");
    tsr_import_free(&i);
    tsr_weights_close(&w);
    tsr_module_free(&m);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_import__resizes_the_position_embedding(void **state)
{
    tsr_scope scope = tsr_scope_open();
    const tsr_name_map *map = tsr_name_map_find("ibot");
    tsr_backbone *vit = make_vit(map);
    n_list = 0;
    put_network(vit, map, "");
    tsr_weights *w = write_list(state);
    tsr_import *i = tsr_import_open(w, &(tsr_import_options){.heads = 2, .image_size = 20});
    assert_non_null(i);
    assert_int_equal(i->counts[TSR_IMPORT_RESIZED], 1);
    assert_int_equal(i->backbone->image_size, 20);
    assert_int_equal(i->grid, 3);
    assert_int_equal(tsr_import_load(i), TSR_STATUS_OK);
    tsr_tensor *wanted =
        tsr_vit_resize_position(tsr_detach(position_of(vit)), 3, 5, 5, TSR_POSITION_OFFSET);
    assert_same_tensor(position_of(i->backbone), tsr_tensor_packed(wanted));
    tsr_import_free(&i);
    tsr_weights_close(&w);

    /* Without a row for the class token, as timm's DeiT III: that row is zero. */
    for (int k = 0; k < n_list; k++) {
        if (strcmp(names[k], "pos_embed") == 0)
            list[k].tensor = tsr_slice(tsr_detach(position_of(vit)), 1, 1, 10, 1);
    }
    w = write_list(state);
    i = tsr_import_open(w, &(tsr_import_options){.heads = 2});
    assert_non_null(i);
    assert_int_equal(tsr_import_load(i), TSR_STATUS_OK);
    for (int64_t k = 0; k < 10 * 12; k++) {
        double got = tsr_tensor_get(position_of(i->backbone), k);
        assert_true(got == (k < 12 ? 0.0 : tsr_tensor_get(position_of(vit), k)));
    }
    tsr_import_free(&i);
    tsr_weights_close(&w);
    tsr_module_free(&vit);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_import__accounts_for_every_tensor(void **state)
{
    tsr_scope scope = tsr_scope_open();
    const tsr_name_map *map = tsr_name_map_find("ibot");
    tsr_backbone *vit = make_vit(map);
    n_list = 0;
    put_network(vit, map, "");
    int64_t all = n_list;
    add("", "head.weight", tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3, 12)));
    for (int k = 0; k < n_list; k++) {
        if (strcmp(names[k], "norm.bias") == 0) list[k] = list[--n_list];
    }
    tsr_weights *w = write_list(state);
    tsr_import *i = tsr_import_open(w, &(tsr_import_options){.heads = 2});
    assert_non_null(i);
    assert_int_equal(i->n, all + 1);
    assert_int_equal(i->counts[TSR_IMPORT_LOADED], all - 1);
    assert_int_equal(i->counts[TSR_IMPORT_UNUSED], 1);
    assert_int_equal(i->counts[TSR_IMPORT_MISSING], 1);
    for (int64_t k = 0; k < i->n; k++) {
        if (i->lines[k].kind == TSR_IMPORT_UNUSED)
            assert_string_equal(i->lines[k].theirs, "head.weight");
        if (i->lines[k].kind == TSR_IMPORT_MISSING)
            assert_string_equal(i->lines[k].ours, "norm.bias");
    }
    assert_int_equal(tsr_import_load(i), TSR_STATUS_OK);
    for (int64_t k = 0; k < 12; k++)
        assert_true(tsr_tensor_get(((const tsr_vit *)i->backbone)->norm->bias, k) == 0.0);
    tsr_import_free(&i);
    tsr_weights_close(&w);
    tsr_module_free(&vit);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* A checkpoint of a network, and what it says besides. */
static tsr_weights *write_checkpoint(void **state, double eps, int64_t position, const char *heads)
{
    const char *path = in_directory(state, "x.tsr");
    tsr_checkpoint_writer *c = tsr_checkpoint_create(path);
    tsr_checkpoint_put_double(c, "backbone.eps", eps);
    tsr_checkpoint_put_int(c, "backbone.position", position);
    tsr_checkpoint_put_string(c, "option.heads", heads);
    for (int k = 0; k < n_list; k++) tsr_checkpoint_put_tensor(c, names[k], list[k].tensor);
    assert_int_equal(tsr_checkpoint_commit(&c), TSR_STATUS_OK);
    return tsr_weights_open(path);
}

static void test_import__believes_a_checkpoint_within_bounds(void **state)
{
    tsr_scope scope = tsr_scope_open();
    const tsr_name_map *map = tsr_name_map_find("ibot");
    tsr_backbone *vit = make_vit(map);
    n_list = 0;
    put_network(vit, map, "teacher/backbone.");
    tsr_weights *w = write_checkpoint(state, 0.5, TSR_POSITION_ANTIALIAS, "3");
    tsr_import *i = tsr_import_open(w, &(tsr_import_options){0});
    assert_non_null(i);
    assert_int_equal(config_of(i->backbone)->heads, 3);
    assert_true(config_of(i->backbone)->eps == 0.5);
    assert_int_equal(config_of(i->backbone)->position, TSR_POSITION_ANTIALIAS);
    tsr_import_free(&i);
    tsr_weights_close(&w);
    static const struct {
        double eps;
        int64_t position;
        const char *heads, *message;
        tsr_status status;
    } cases[] = {
        {NAN, 0, "2", "\"backbone.eps\" is nan, expected more than 0", TSR_STATUS_FORMAT},
        {-1.0, 0, "2", "\"backbone.eps\" is -1, expected more than 0", TSR_STATUS_FORMAT},
        {1e-6, -1, "2", "\"backbone.position\" is -1, expected 0 to 2", TSR_STATUS_FORMAT},
        {1e-6, 3, "2", "\"backbone.position\" is 3, expected 0 to 2", TSR_STATUS_FORMAT},
        {1e-6, 0, "5", "give --heads, a divisor of it", TSR_STATUS_ARGUMENT},
        {1e-6, 0, "99999999999", "give --heads, a divisor of it", TSR_STATUS_ARGUMENT},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        w = write_checkpoint(state, cases[k].eps, cases[k].position, cases[k].heads);
        assert_null(tsr_import_open(w, &(tsr_import_options){0}));
        assert_failed(cases[k].status, cases[k].message);
        tsr_weights_close(&w);
    }
    tsr_module_free(&vit);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* The file's network on pictures scale x + shift is the imported one on x. */
static void test_import__colours_go_into_the_patch_embedding(void **state)
{
    tsr_scope scope = tsr_scope_open();
    const tsr_name_map *map = tsr_name_map_find("ibot");
    tsr_backbone *vit = make_vit(map);
    n_list = 0;
    put_network(vit, map, "");
    tsr_weights *w = write_list(state);
    tsr_import *i = tsr_import_open(
        w,
        &(tsr_import_options){.heads = 2, .scale = {0.5, 0.25, 2.0}, .shift = {-0.5, 0.125, 1.0}});
    assert_non_null(i);
    assert_int_equal(tsr_import_load(i), TSR_STATUS_OK);
    tsr_recording_set(false);
    tsr_tensor *x = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(2, 3, 12, 12));
    tsr_fill_normal(x, tsr_rng_make(5, 0, 0, 0), 0.0, 1.0);
    tsr_tensor *scale = tsr_from(TSR_DTYPE_F32, TSR_SHAPE(1, 3, 1, 1), (float[]){0.5f, 0.25f, 2});
    tsr_tensor *shift = tsr_from(TSR_DTYPE_F32, TSR_SHAPE(1, 3, 1, 1), (float[]){-0.5f, 0.125f, 1});
    tsr_tensor *got = tsr_backbone_forward(i->backbone, x, NULL);
    tsr_tensor *wanted = tsr_backbone_forward(vit, tsr_add(tsr_mul(x, scale), shift), NULL);
    tsr_recording_set(true);
    assert_non_null(got);
    assert_non_null(wanted);
    for (int64_t k = 0; k < tsr_tensor_numel(wanted); k++) {
        assert_true(fabs(tsr_tensor_get(got, k) - tsr_tensor_get(wanted, k)) < 1e-5);
    }
    tsr_import_free(&i);
    tsr_weights_close(&w);
    tsr_module_free(&vit);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_import__refuses_what_cannot_be_run(void **state)
{
    static const struct {
        const char *name; /* one more, or one instead */
        tsr_shape shape;
        const char *message;
    } cases[] = {
        {"register_tokens", {3, {1, 4, 11}}, "have shape [1, 4, 11], expected [1, 1 to 1024, 12]"},
        {"register_tokens", {1, {12}}, "the register tokens have shape [12]"},
        {"dist_token", {3, {1, 1, 12}}, "a distillation token"},
        {"blocks.0.attn.relative_position_bias_table",
         {2, {9, 2}},
         "the table of relative positions has shape [9, 2], expected [(2 n - 1)^2 + 3, heads]"},
        {"blocks.0.attn.rel_pos.table", {2, {9, 2}}, "relative position biases of another kind"},
        {"blocks.0.attn.q_bias", {1, {12}}, "biases of queries and values alone"},
        {"rope.freqs", {2, {2, 6}}, "rotary positions"},
        {"blocks.0.mlp.fc1_g.weight", {2, {9, 2}}, "gated MLPs with norms (EVA)"},
        {"blocks.0.mlp.fc1.weight",
         {2, {56, 12}},
         "the first MLP has weights [56, 12] and [12, 28], expected [H, 12] (gated: twice the H)"},
        {"pre_logits.fc.weight", {2, {9, 2}}, "a pre-logits layer"},
        {"norm_pre.weight", {1, {12}}, "a norm before its first block"},
        {"blocks.0.attn.q_norm.weight", {1, {6}}, "norms of queries and keys"},
        {"patch_embed.proj.weight", {4, {12, 3, 4, 5}}, "[12, 3, 4, 5], expected [D, 3, P, P]"},
        {"patch_embed.proj.weight", {4, {12, 1, 4, 4}}, "pictures with three colours"},
        {"pos_embed", {3, {1, 12, 12}}, "[1, 12, 12], expected [1, 1 + N, 12] with a square"},
        {"pos_embed", {3, {1, 10, 11}}, "[1, 10, 11], expected [1, 1 + N, 12] with a square"},
        {"pos_embed", {2, {10, 12}}, "with a square number N"},
        {"blocks.0.mlp.fc2.weight",
         {2, {12, 14}},
         "the first MLP has weights [28, 12] and [12, 14]"},
        {"blocks.1.mlp.fc2.weight",
         {2, {12, 14}},
         "'blocks.1.mlp.fc2.weight' has shape [12, 14], expected [12, 28]"},
        {"cls_token", {3, {1, 2, 12}}, "'cls_token' has shape [1, 2, 12], expected [1, 1, 12]"},
    };
    const tsr_name_map *map = tsr_name_map_find("ibot");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tsr_scope scope = tsr_scope_open();
        tsr_backbone *vit = make_vit(map);
        n_list = 0;
        put_network(vit, map, "");
        int k = 0;
        while (k < n_list && strcmp(names[k], cases[i].name) != 0) k++;
        tsr_tensor *t = tsr_zeros(TSR_DTYPE_F32, cases[i].shape);
        if (k < n_list) {
            list[k].tensor = t;
        } else {
            add("", cases[i].name, t);
        }
        tsr_weights *w = write_list(state);
        tsr_import *import = tsr_import_open(w, &(tsr_import_options){.heads = 2});
        if (import != NULL) fail_msg("imported; wanted '%s'", cases[i].message);
        assert_failed(TSR_STATUS_ARGUMENT, cases[i].message);
        tsr_weights_close(&w);
        tsr_module_free(&vit);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
}

static void test_import__asks_for_heads_and_for_floats(void **state)
{
    tsr_scope scope = tsr_scope_open();
    const tsr_name_map *map = tsr_name_map_find("ibot");
    tsr_backbone *vit = make_vit(map);
    n_list = 0;
    put_network(vit, map, "");
    tsr_weights *w = write_list(state);
    assert_null(tsr_import_open(w, &(tsr_import_options){0}));
    assert_failed(TSR_STATUS_ARGUMENT, "give --heads, a divisor of it");
    assert_null(tsr_import_open(w, &(tsr_import_options){.heads = 5}));
    assert_failed(TSR_STATUS_ARGUMENT, "give --heads, a divisor of it");
    tsr_weights_close(&w);
    for (int k = 0; k < n_list; k++) {
        if (strcmp(names[k], "norm.bias") == 0)
            list[k].tensor = tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(12));
    }
    w = write_list(state);
    tsr_import *i = tsr_import_open(w, &(tsr_import_options){.heads = 2});
    assert_non_null(i);
    assert_int_equal(tsr_import_load(i), TSR_STATUS_DTYPE);
    assert_failed(TSR_STATUS_DTYPE, "'norm.bias' is i64, expected floating point");
    tsr_import_free(&i);
    tsr_weights_close(&w);

    /* A patch embedding that promises far more than the file holds. */
    n_list = 0;
    add("", "patch_embed.proj.weight", tsr_zeros(TSR_DTYPE_U8, TSR_SHAPE(8192, 3, 1, 1)));
    add("", "pos_embed", tsr_zeros(TSR_DTYPE_U8, TSR_SHAPE(1, 2, 8192)));
    add("", "blocks.0.attn.proj.weight", tsr_zeros(TSR_DTYPE_U8, TSR_SHAPE(1)));
    add("", "blocks.0.mlp.fc1.weight", tsr_zeros(TSR_DTYPE_U8, TSR_SHAPE(1, 8192)));
    add("", "blocks.0.mlp.fc2.weight", tsr_zeros(TSR_DTYPE_U8, TSR_SHAPE(8192, 1)));
    w = write_list(state);
    assert_null(tsr_import_open(w, &(tsr_import_options){0}));
    assert_failed(TSR_STATUS_ARGUMENT, "the file holds 0.1 M of the 268.5 M parameters");
    tsr_weights_close(&w);
    tsr_module_free(&vit);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

#define unit(f) cmocka_unit_test_setup_teardown(f, open_directory, close_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        unit(test_import__every_map_works_both_ways),
        unit(test_import__masks_tell_whose_swin_it_is),
        unit(test_import__names_are_unique),
        unit(test_import__finds_the_network_among_others),
        unit(test_import__resizes_relative_positions),
        unit(test_import__resizes_the_position_embedding),
        unit(test_import__accounts_for_every_tensor),
        unit(test_import__believes_a_checkpoint_within_bounds),
        unit(test_import__colours_go_into_the_patch_embedding),
        unit(test_import__refuses_what_cannot_be_run),
        unit(test_import__asks_for_heads_and_for_floats),
    };
    return cmocka_run_group_tests(tests, NULL, trim_pool);
}
