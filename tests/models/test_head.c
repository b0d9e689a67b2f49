#include "autograd/internal.h"
#include "tests/models/golden.h"

static tsr_head *small_head(tsr_patch_layer patch_layer, bool norm_last_layer, tsr_norm norm,
                            tsr_dtype dtype)
{
    bool separate = patch_layer == TSR_PATCH_LAYER_SEPARATE;
    return tsr_head_new(&(tsr_head_config){.dim = 48,
                                           .out_dim = 64,
                                           .patch_out_dim = separate ? 80 : 0,
                                           .hidden = 96,
                                           .bottleneck = 32,
                                           .norm = norm,
                                           .patch_layer = patch_layer,
                                           .norm_last_layer = norm_last_layer,
                                           .dtype = dtype});
}

static void compare_head(const char *name, tsr_patch_layer patch_layer, bool norm_last_layer,
                         tsr_norm norm, tsr_dtype dtype)
{
    tsr_safetensors *file = golden_open(name);
    double tolerance = tolerance_of(dtype);
    tsr_head *head = small_head(patch_layer, norm_last_layer, norm, dtype);
    assert_ok();
    golden_load(&head->module, file, false); /* its buffers are those after its calls */
    tsr_tensor *tokens = tsr_require_grad(golden(file, "in.tokens", dtype), true);
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *cls, *patch;
    tsr_head_forward(head, tokens, &cls, &patch);
    assert_near(cls, golden(file, "out.cls", dtype), tolerance, "cls");
    assert_near(patch, golden(file, "out.patch", dtype), tolerance, "patch");
    tsr_tensor *loss = tsr_add(probe(cls, golden(file, "in.probe_cls", dtype)),
                               probe(patch, golden(file, "in.probe_patch", dtype)));
    tsr_backward(tape, loss, NULL);
    assert_ok();
    tsr_tape_close(&tape);
    golden_gradients(&head->module, file, "grad.", tolerance);
    assert_near(tsr_tensor_grad(tokens), golden(file, "grad.tokens", dtype), tolerance, "tokens");

    tsr_tensor *z = tsr_head_project(head, golden(file, "in.cls_only", dtype));
    assert_near(tsr_head_class_logits(head, z), golden(file, "out.cls_only", dtype), tolerance,
                "cls_only");
    tsr_module_list *state = tsr_module_state(&head->module);
    for (int64_t i = 0; i < state->n; i++) {
        char param[256];
        snprintf(param, sizeof param, "param.%s", state->at[i].name);
        if (!state->at[i].is_buffer) continue;
        assert_near(state->at[i].tensor, golden(file, param, dtype), tolerance, param);
    }
    tsr_module_list_free(&state);
    tsr_module_free(&head);
    tsr_safetensors_close(&file);
}

static void test_head__agrees_with_the_authors(void **state)
{
    (void)state;
    for (tsr_dtype dtype = TSR_DTYPE_F32; dtype <= TSR_DTYPE_F64; dtype++) {
        compare_head("head_shared", TSR_PATCH_LAYER_SHARED, false, TSR_NORM_NONE, dtype);
        compare_head("head_separate", TSR_PATCH_LAYER_SEPARATE, false, TSR_NORM_NONE, dtype);
        compare_head("head_separate_frozen_norm", TSR_PATCH_LAYER_SEPARATE, true, TSR_NORM_NONE,
                     dtype);
    }
}

static void test_head__agrees_with_the_authors_with_batch_norm(void **state)
{
    (void)state;
    compare_head("head_bn", TSR_PATCH_LAYER_SHARED, false, TSR_NORM_BATCH, TSR_DTYPE_F32);
    compare_head("head_bn", TSR_PATCH_LAYER_SHARED, false, TSR_NORM_BATCH, TSR_DTYPE_F64);
}

static void test_head__starts_as_the_authors_do(void **state)
{
    (void)state;
    tsr_head *head = tsr_head_new(&(tsr_head_config){.dim = 48, .out_dim = 128, .hidden = 64});
    tsr_module_initialize(&head->module, 4);
    assert_ok();
    double largest = 0.0;
    for (int64_t i = 0; i < 128 * 256; i++) {
        largest = fmax(largest, fabs(tsr_tensor_get(head->last_layer->v, i)));
    }
    assert_true(largest <= 1.0 / 16.0 && largest > 0.99 / 16.0);
    assert_close(head->last_layer->g, tsr_full(TSR_DTYPE_F32, TSR_SHAPE(128, 1), 1.0), 0.0);
    tsr_module_free(&head);
}

static void test_head__keeps_frozen_norms_out_of_training(void **state)
{
    (void)state;
    tsr_head *head = small_head(TSR_PATCH_LAYER_SEPARATE, true, TSR_NORM_NONE, TSR_DTYPE_F32);
    assert_false(tsr_requires_grad(head->last_layer->g));
    assert_false(tsr_requires_grad(head->last_layer2->g));
    assert_true(tsr_requires_grad(head->last_layer->v));
    tsr_module_free(&head);
}

static void test_head__refuses_what_does_not_fit(void **state)
{
    (void)state;
    tsr_head_config config = {.dim = 48, .out_dim = 64, .patch_out_dim = 80};
    assert_null(tsr_head_new(&config));
    assert_failed(TSR_STATUS_ARGUMENT, "shared last layer has one size, but out_dim is 64 and "
                                       "patch_out_dim 80");
    assert_null(tsr_head_new(&(tsr_head_config){.dim = 48}));
    assert_failed(TSR_STATUS_ARGUMENT, "out_dim 0");
    tsr_head *head = small_head(TSR_PATCH_LAYER_NONE, false, TSR_NORM_LAYER, TSR_DTYPE_F32);
    tsr_module_initialize(&head->module, 1);
    tsr_tensor *cls, *patch;
    tsr_head_forward(head, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 5, 48)), &cls, &patch);
    assert_null(cls);
    assert_failed(TSR_STATUS_ARGUMENT, "head: was built without a layer for patches");
    tsr_module_free(&head);
}

/* ---- multi-crop ---- */

static tsr_multi_crop *small_network(double drop_path)
{
    tsr_vit_config config = {.image_size = 32,
                             .patch_size = 8,
                             .dim = 48,
                             .depth = 2,
                             .heads = 3,
                             .qkv_bias = true,
                             .masked = true,
                             .drop_path = drop_path,
                             .dtype = TSR_DTYPE_F64};
    tsr_multi_crop *m =
        tsr_multi_crop_new(tsr_vit_new(&config), small_head(TSR_PATCH_LAYER_SEPARATE, false,
                                                            TSR_NORM_NONE, TSR_DTYPE_F64));
    tsr_module_initialize(&m->module, 9);
    assert_ok();
    return m;
}

static tsr_tensor *crop(int64_t size, uint32_t number)
{
    tsr_tensor *x = tsr_empty(TSR_DTYPE_F64, TSR_SHAPE(3, 3, size, size));
    tsr_fill_normal(x, tsr_rng_make(1, 0, number, 0), 0.0, 1.0);
    return x;
}

static tsr_tensor *random_mask(void)
{
    tsr_tensor *mask = tsr_empty(TSR_DTYPE_BOOL, TSR_SHAPE(6, 4, 4));
    tsr_fill_bernoulli(mask, tsr_rng_make(1, 0, 0, 1), 0.4);
    return mask;
}

/* Two global crops and three local ones, against each crop alone. */
static void test_multi_crop__equals_each_crop_alone(void **state)
{
    (void)state;
    tsr_multi_crop *m = small_network(0.0);
    tsr_tensor *crops[] = {crop(32, 0), crop(32, 1), crop(16, 2), crop(16, 3), crop(16, 4)};
    tsr_tensor *mask = random_mask();
    tsr_multi_crop_options options = {.mask = mask, .patches = true};
    tsr_multi_crop_output out = tsr_multi_crop_forward(m, (tsr_tensors){crops, 5}, &options);
    assert_ok();
    assert_int_equal(tsr_tensor_size(out.cls, 0), 15);
    for (int i = 0; i < 5; i++) {
        tsr_backbone_options alone = {0};
        if (i < 2) alone.mask = tsr_slice(mask, 0, 3 * i, 3 * i + 3, 1);
        tsr_tensor *tokens = tsr_backbone_forward(m->backbone, crops[i], &alone), *cls, *patch;
        tsr_head_forward(m->head, tokens, &cls, &patch);
        assert_close(tsr_slice(out.cls, 0, 3 * i, 3 * i + 3, 1), cls, 1e-12);
        assert_close(tsr_slice(out.features, 0, 3 * i, 3 * i + 3, 1), tsr_tokens_class(tokens),
                     1e-12);
        if (i >= 2) continue;
        assert_close(tsr_slice(out.patch, 0, 3 * i, 3 * i + 3, 1), patch, 1e-12);
    }
    tsr_module_free(&m);
}

static void test_multi_crop__projects_only_the_rows_asked_for(void **state)
{
    (void)state;
    tsr_multi_crop *m = small_network(0.0);
    tsr_tensor *crops[] = {crop(32, 0), crop(32, 1), crop(16, 2)};
    int64_t numbers[] = {0, 15, 16, 17, 50, 95, 50};
    tsr_tensor *rows = tsr_from(TSR_DTYPE_I64, TSR_SHAPE(7), numbers);
    tsr_multi_crop_options options = {.mask = random_mask(), .patches = true};
    tsr_multi_crop_output all = tsr_multi_crop_forward(m, (tsr_tensors){crops, 3}, &options);
    options.rows = rows;
    tsr_multi_crop_output some = tsr_multi_crop_forward(m, (tsr_tensors){crops, 3}, &options);
    tsr_tensor *flat = tsr_reshape(all.patch, TSR_SHAPE(96, 80));
    assert_close(some.patch, tsr_gather_rows(flat, rows), 1e-12);
    assert_close(some.cls, all.cls, 1e-12);

    options.rows = tsr_full(TSR_DTYPE_I64, TSR_SHAPE(1), 96.0);
    some = tsr_multi_crop_forward(m, (tsr_tensors){crops, 3}, &options);
    assert_null(some.cls);
    assert_null(some.patch);
    assert_null(some.features);
    assert_failed(TSR_STATUS_ARGUMENT, "rows[0] is 96, expected 0 to 95");
    tsr_module_free(&m);
}

static void test_multi_crop__drops_paths_of_each_crop_for_itself(void **state)
{
    (void)state;
    tsr_multi_crop *m = small_network(0.5);
    tsr_tensor *crops[] = {crop(32, 0), crop(16, 1), crop(16, 2)};
    tsr_multi_crop_options options = {.rng = tsr_rng_make(1, 2, 0, 3)};
    tsr_multi_crop_output all = tsr_multi_crop_forward(m, (tsr_tensors){crops, 3}, &options);
    options.rng.sample = 6;
    tsr_multi_crop_output last = tsr_multi_crop_forward(m, TSR_TENSORS(crops[2]), &options);
    assert_close(last.cls, tsr_slice(all.cls, 0, 6, 9, 1), 1e-12);
    tsr_module_free(&m);
}

static void test_multi_crop__frees_the_other_part_when_one_is_missing(void **state)
{
    (void)state;
    tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(1)); /* makes the test's scope allocate */
    size_t before = tsr_pool_stats_get().in_use;
    tsr_head *head = small_head(TSR_PATCH_LAYER_SHARED, false, TSR_NORM_NONE, TSR_DTYPE_F32);
    assert_null(tsr_multi_crop_new(NULL, head));
    assert_failed(TSR_STATUS_ARGUMENT, "multi_crop: the backbone or the head is NULL");
    assert_true(tsr_pool_stats_get().in_use <= before);
}

/* Whichever allocation fails, from the constructor to the gradients: a message, and nothing is
 * lost. */
static void test_multi_crop__survives_every_failing_allocation(void **state)
{
    (void)state;
    tsr_tensor *crops[] = {crop(32, 0), crop(32, 1), crop(16, 2)};
    tsr_tensor *rows = tsr_from(TSR_DTYPE_I64, TSR_SHAPE(2), (int64_t[]){3, 64});
    tsr_multi_crop_options options = {.mask = random_mask(), .patches = true, .rows = rows};
    tsr_vit_config vit = {.image_size = 32, .patch_size = 8, .dim = 8, .depth = 1, .heads = 2};
    vit.masked = true;
    vit.dtype = TSR_DTYPE_F64;
    tsr_head_config head = {.dim = 8, .out_dim = 4, .hidden = 8, .bottleneck = 4};
    head.dtype = TSR_DTYPE_F64;
    bool failed = true;
    for (int64_t n = 0; failed || n == 1; n++) { /* 0: none fails, and workspaces are made */
        size_t before = tsr_pool_stats_get().in_use;
        tsr_pool__fail_at(n);
        tsr_scope scope = tsr_scope_open();
        tsr_tape *tape = tsr_tape_open();
        tsr_multi_crop *m = tsr_multi_crop_new(tsr_vit_new(&vit), tsr_head_new(&head));
        if (m != NULL) tsr_module_initialize(&m->module, 1);
        tsr_multi_crop_output out = tsr_multi_crop_forward(m, (tsr_tensors){crops, 3}, &options);
        tsr_tensor *loss =
            tsr_add(tsr_mean(out.cls, NULL, 0, false), tsr_mean(out.patch, NULL, 0, false));
        tsr_backward(tape, loss, NULL);
        failed = tsr_status_get() != TSR_STATUS_OK;
        tsr_pool__fail_at(0);
        if (failed) assert_failed(TSR_STATUS_MEMORY, "memory");
        tsr_tape_close(&tape);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        tsr_module_free(&m);
        assert_true(n == 0 || tsr_pool_stats_get().in_use <= before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_head__agrees_with_the_authors),
        tsr_test(test_head__agrees_with_the_authors_with_batch_norm),
        tsr_test(test_head__starts_as_the_authors_do),
        tsr_test(test_head__keeps_frozen_norms_out_of_training),
        tsr_test(test_head__refuses_what_does_not_fit),
        tsr_test(test_multi_crop__equals_each_crop_alone),
        tsr_test(test_multi_crop__projects_only_the_rows_asked_for),
        tsr_test(test_multi_crop__drops_paths_of_each_crop_for_itself),
        tsr_test(test_multi_crop__frees_the_other_part_when_one_is_missing),
        tsr_test(test_multi_crop__survives_every_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
