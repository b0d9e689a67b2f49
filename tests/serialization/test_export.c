/* Weights under other programs' names, and PyTorch files: what is written is read back by the readers of both. */
#include "serialization/serialization.h"
#include "tests/serialization/files.h"

static void assert_message(const char *wanted)
{
    if (strstr(tsr_message(), wanted) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", wanted, tsr_message());
    }
    tsr_status_clear();
}

static void shake(const tsr_module *m)
{
    tsr_module_list *state = tsr_module_state(m);
    for (int64_t i = 0; i < state->n; i++) {
        if (state->at[i].init.kind == TSR_INIT_NOT) continue;
        tsr_fill_normal(state->at[i].tensor, tsr_rng_make(1, 2, (uint32_t)i, 3), 0.0, 1.0);
    }
    tsr_module_list_free(&state);
}

static tsr_backbone *new_vit(bool layer_scale, bool masked)
{
    tsr_vit_config c = {.image_size = 16,
                        .patch_size = 8,
                        .dim = 12,
                        .depth = 2,
                        .heads = 2,
                        .qkv_bias = true,
                        .masked = masked,
                        .layer_scale = layer_scale ? 0.5 : 0.0};
    tsr_vit *vit = tsr_vit_new(&c);
    assert_non_null(vit);
    shake(&vit->module);
    return &vit->backbone;
}

/* Keys without a bias, as BEiT's. */
static tsr_backbone *new_beit(tsr_vit_relative relative, bool mean_pooling)
{
    tsr_vit_config c = {.image_size = 16,
                        .patch_size = 8,
                        .dim = 12,
                        .depth = 2,
                        .heads = 2,
                        .qkv_bias = true,
                        .layer_scale = 0.5,
                        .relative = relative,
                        .no_position = true,
                        .mean_pooling = mean_pooling};
    tsr_vit *vit = tsr_vit_new(&c);
    assert_non_null(vit);
    shake(&vit->module);
    tsr_scope scope = tsr_scope_open();
    for (int i = 0; i < 2; i++) {
        tsr_tensor *bias = tsr_detach(vit->blocks[i]->attn->qkv->bias);
        tsr_tensor_fill(tsr_slice(bias, 0, 12, 24, 1), 0.0);
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return &vit->backbone;
}

static tsr_backbone *new_swin(void)
{
    tsr_swin_config c = {.image_size = 32,
                         .patch_size = 2,
                         .dim = 8,
                         .stages = 4,
                         .depths = {2, 1, 1, 1},
                         .heads = {1, 2, 4, 8},
                         .window = 2,
                         .mlp_ratio = 2,
                         .qkv_bias = true};
    tsr_swin *swin = tsr_swin_new(&c);
    assert_non_null(swin);
    shake(&swin->module);
    return &swin->backbone;
}

static void assert_same_network(const tsr_backbone *a, const tsr_backbone *b)
{
    tsr_module_list *x = tsr_module_state(&a->module), *y = tsr_module_state(&b->module);
    assert_int_equal(x->n, y->n);
    for (int64_t i = 0; i < x->n; i++) assert_same_tensor(x->at[i].tensor, y->at[i].tensor);
    tsr_module_list_free(&x);
    tsr_module_list_free(&y);
}

static void test_export__pytorch_files_are_read_back(void **state)
{
    tsr_scope scope = tsr_scope_open();
    static const tsr_dtype dtypes[] = {TSR_DTYPE_F32, TSR_DTYPE_F64, TSR_DTYPE_BF16, TSR_DTYPE_I32,
                                       TSR_DTYPE_I64, TSR_DTYPE_U8,  TSR_DTYPE_BOOL};
    enum { N = sizeof dtypes / sizeof *dtypes };
    tsr_named_tensor tensors[N + 3];
    for (int i = 0; i < N; i++) {
        tensors[i] =
            (tsr_named_tensor){tsr_dtype_name(dtypes[i]), numbered(dtypes[i], TSR_SHAPE(3, 100))};
    }
    tsr_tensor *strided = tsr_transpose(tensors[0].tensor, 0, 1);
    tensors[N] = (tsr_named_tensor){"a.strided.w", strided};
    tensors[N + 1] = (tsr_named_tensor){"scalar", numbered(TSR_DTYPE_F32, TSR_SHAPE_SCALAR)};
    tensors[N + 2] = (tsr_named_tensor){"empty", tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(0, 4))};
    char path[512];
    snprintf(path, sizeof path, "%s", in_directory(state, "x.pth"));
    assert_int_equal(tsr_pth_write(path, tensors, N + 3), TSR_STATUS_OK);
    tsr_weights *w = tsr_weights_open(path);
    if (w == NULL) fail_msg("%s", tsr_message());
    assert_string_equal(tsr_weights_format(w), "PyTorch");
    assert_int_equal(tsr_weights_count(w), N + 3);
    for (int i = 0; i < N + 3; i++) {
        int k = 0; /* they come in an order of their own */
        while (k < N + 3 && strcmp(tsr_weights_name(w, k), tensors[i].name) != 0) k++;
        assert_same_tensor(tsr_weights_tensor(w, k), tsr_contiguous(tensors[i].tensor));
    }
    tsr_weights_close(&w);
    /* The same content, the same bytes. */
    size_t a, b;
    uint8_t *first = read_file(path, &a);
    assert_int_equal(tsr_pth_write(path, tensors, N + 3), TSR_STATUS_OK);
    uint8_t *second = read_file(path, &b);
    assert_int_equal(a, b);
    assert_memory_equal(first, second, a);
    free(first);
    free(second);
    tensors[1].name = tensors[0].name;
    assert_int_equal(tsr_pth_write(path, tensors, 2), TSR_STATUS_ARGUMENT);
    assert_message("pth: two tensors are named 'f32'");
    assert_int_equal(tsr_pth_write("/nowhere/x.pth", tensors, 1), TSR_STATUS_IO);
    assert_message("pth: cannot write /nowhere/x.pth");
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void round_trip(void **state, const char *map, const tsr_backbone *vit)
{
    tsr_scope scope = tsr_scope_open();
    const char *path = in_directory(state, "x.safetensors");
    tsr_named_list *list = tsr_name_map_export(tsr_name_map_find(map), &vit->module);
    if (list == NULL) fail_msg("%s: %s", map, tsr_message());
    assert_int_equal(tsr_safetensors_write(path, list->at, list->n, NULL, 0), TSR_STATUS_OK);
    tsr_named_list_free(&list);
    tsr_weights *w = tsr_weights_open(path);
    tsr_import *m = tsr_import_open(w, &(tsr_import_options){.map = map, .heads = 2});
    if (m == NULL || tsr_import_load(m) != TSR_STATUS_OK) fail_msg("%s: %s", map, tsr_message());
    assert_same_network(m->backbone, vit);
    tsr_import_free(&m);
    tsr_weights_close(&w);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_export__names_of_other_programs_lead_back(void **state)
{
    tsr_backbone *plain = new_vit(false, false), *scaled = new_vit(true, false);
    round_trip(state, "ibot", plain);
    round_trip(state, "ibot", scaled);
    round_trip(state, "timm", scaled);
    round_trip(state, "huggingface-vit", plain);
    round_trip(state, "huggingface-vit-5", plain);
    round_trip(state, "huggingface-dinov2", scaled);
    round_trip(state, "torchvision", plain);
    /* DeiT III's class token has no position: ours is zero, timm has none. */
    tsr_scope scope = tsr_scope_open();
    tsr_tensor_fill(tsr_slice(tsr_detach(((tsr_vit *)scaled)->pos_embed), 1, 0, 1, 1), 0.0);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    round_trip(state, "timm", scaled);
    tsr_named_list *bare = tsr_name_map_export(tsr_name_map_find("timm"), &scaled->module);
    for (int64_t i = 0; i < bare->n; i++) {
        if (strcmp(bare->at[i].name, "pos_embed") == 0)
            assert_int_equal(tsr_tensor_size(bare->at[i].tensor, 1), 4);
    }
    tsr_named_list_free(&bare);
    static const char *const beit_names[] = {"ibot", "beit", "huggingface-beit",
                                             "huggingface-beit-5"};
    for (int i = 0; i < 4; i++) {
        tsr_backbone *beit = new_beit(TSR_VIT_RELATIVE_BLOCKS, i % 2 == 0);
        tsr_backbone *shared = new_beit(TSR_VIT_RELATIVE_SHARED, i % 2 == 1);
        round_trip(state, beit_names[i], beit);
        round_trip(state, beit_names[i], shared);
        tsr_module_free(&beit);
        tsr_module_free(&shared);
    }
    static const char *const swin_names[] = {"ibot-swin",          "swin",
                                             "timm-swin",          "huggingface-swin",
                                             "huggingface-swin-5", "torchvision-swin"};
    tsr_backbone *swin = new_swin();
    for (int i = 0; i < 6; i++) round_trip(state, swin_names[i], swin);
    assert_null(tsr_name_map_export(tsr_name_map_find("timm"), &swin->module));
    assert_message("export: the names of timm are for a vit, and this is a swin");
    /* An index that others would not expect is left out; torchvision's is flat. */
    for (int i = 0; i < 6; i++) {
        tsr_named_list *list = tsr_name_map_export(tsr_name_map_find(swin_names[i]), &swin->module);
        int indices = 0, flat = 0;
        for (int64_t k = 0; k < list->n; k++) {
            bool index = strstr(list->at[k].name, "relative_position_index") != NULL;
            indices += index;
            flat += index && tsr_tensor_ndim(list->at[k].tensor) == 1;
        }
        assert_int_equal(indices, i < 2 || i == 5 ? 5 : 0);
        assert_int_equal(flat, i == 5 ? 5 : 0);
        tsr_named_list_free(&list);
    }
    tsr_module_free(&swin);
    /* LayerScale, which ViT has not, and a bias of keys, which BEiT has not. */
    assert_null(tsr_name_map_export(tsr_name_map_find("huggingface-vit"), &scaled->module));
    assert_message("export: blocks.0.gamma_1 has no name among those of huggingface-vit");
    assert_null(tsr_name_map_export(tsr_name_map_find("huggingface-beit"), &plain->module));
    assert_message("they have no bias of keys, and this network's is not 0");
    tsr_module_free(&plain);
    tsr_module_free(&scaled);
}

static void test_export__transformers_get_a_config(void **state)
{
    (void)state;
    tsr_backbone *vit = new_vit(false, true);
    const tsr_name_map *map = tsr_name_map_find("huggingface-vit");
    char *text = tsr_name_map_config(map, vit);
    assert_non_null(text);
    assert_non_null(strstr(text, "\"model_type\": \"vit\""));
    assert_non_null(strstr(text, "\"num_attention_heads\": 2"));
    assert_non_null(strstr(text, "\"intermediate_size\": 48"));
    free(text);
    assert_null(tsr_name_map_config(tsr_name_map_find("timm"), vit));
    tsr_backbone *swin = new_swin(), *beit = new_beit(TSR_VIT_RELATIVE_SHARED, false);
    text = tsr_name_map_config(tsr_name_map_find("huggingface-swin"), swin);
    assert_non_null(strstr(text, "\"model_type\": \"swin\""));
    assert_non_null(strstr(text, "\"window_size\": 2"));
    free(text);
    text = tsr_name_map_config(tsr_name_map_find("huggingface-beit"), beit);
    assert_non_null(strstr(text, "\"use_shared_relative_position_bias\": true"));
    assert_non_null(strstr(text, "\"use_absolute_position_embeddings\": false"));
    free(text);
    tsr_module_free(&swin);
    tsr_module_free(&beit);
    /* Masks are for training. */
    tsr_named_list *list = tsr_name_map_export(map, &vit->module);
    assert_non_null(list);
    for (int64_t i = 0; i < list->n; i++) assert_null(strstr(list->at[i].name, "mask"));
    tsr_named_list_free(&list);
    tsr_module_free(&vit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_directory, close_directory)
        TEST(test_export__pytorch_files_are_read_back),
        TEST(test_export__names_of_other_programs_lead_back),
        TEST(test_export__transformers_get_a_config),
    };
    return cmocka_run_group_tests(tests, NULL, trim_pool);
}
