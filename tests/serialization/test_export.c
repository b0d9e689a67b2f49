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

static tsr_vit *new_vit(bool layer_scale, bool masked)
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
    tsr_module_list *state = tsr_module_state(&vit->module);
    for (int64_t i = 0; i < state->n; i++) {
        tsr_fill_normal(state->at[i].tensor, tsr_rng_make(1, 2, (uint32_t)i, 3), 0.0, 1.0);
    }
    tsr_module_list_free(&state);
    return vit;
}

static void assert_same_network(const tsr_vit *a, const tsr_vit *b)
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

static void round_trip(void **state, const char *map, const tsr_vit *vit)
{
    tsr_scope scope = tsr_scope_open();
    const char *path = in_directory(state, "x.safetensors");
    tsr_named_list *list = tsr_name_map_export(tsr_name_map_find(map), &vit->module);
    if (list == NULL) fail_msg("%s: %s", map, tsr_message());
    assert_int_equal(tsr_safetensors_write(path, list->at, list->n, NULL, 0), TSR_STATUS_OK);
    tsr_named_list_free(&list);
    tsr_weights *w = tsr_weights_open(path);
    tsr_import *m = tsr_import_open(w, &(tsr_import_options){.map = map, .heads = 2});
    if (m == NULL) fail_msg("%s: %s", map, tsr_message());
    assert_same_network(m->vit, vit);
    tsr_import_free(&m);
    tsr_weights_close(&w);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_export__names_of_other_programs_lead_back(void **state)
{
    tsr_vit *plain = new_vit(false, false), *scaled = new_vit(true, false);
    round_trip(state, "ibot", plain);
    round_trip(state, "ibot", scaled);
    round_trip(state, "timm", scaled);
    round_trip(state, "huggingface-vit", plain);
    round_trip(state, "huggingface-vit-5", plain);
    round_trip(state, "huggingface-dinov2", scaled);
    round_trip(state, "torchvision", plain);
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
    tsr_vit *vit = new_vit(false, true);
    const tsr_name_map *map = tsr_name_map_find("huggingface-vit");
    char *text = tsr_name_map_config(map, &vit->config);
    assert_non_null(text);
    assert_non_null(strstr(text, "\"model_type\": \"vit\""));
    assert_non_null(strstr(text, "\"num_attention_heads\": 2"));
    assert_non_null(strstr(text, "\"intermediate_size\": 48"));
    free(text);
    assert_null(tsr_name_map_config(tsr_name_map_find("timm"), &vit->config));
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
