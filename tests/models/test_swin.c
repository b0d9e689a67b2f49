#include "tests/models/golden.h"

static tsr_swin_config small_config(tsr_dtype dtype)
{
    return (tsr_swin_config){.image_size = 32,
                             .patch_size = 2,
                             .dim = 12,
                             .stages = 2,
                             .depths = {2, 2},
                             .heads = {2, 4},
                             .window = 4,
                             .qkv_bias = true,
                             .masked = true,
                             .dtype = dtype};
}

static tsr_swin *small_swin(tsr_dtype dtype)
{
    tsr_swin_config config = small_config(dtype);
    tsr_swin *swin = tsr_swin_new(&config);
    assert_ok();
    return swin;
}

static tsr_tensor *noise(tsr_dtype dtype, tsr_shape shape, uint32_t seed)
{
    tsr_tensor *t = tsr_empty(dtype, shape);
    tsr_fill_normal(t, tsr_rng_make(seed, 0, 0, 0), 0.0, 1.0);
    return t;
}

/* Weights large enough for everything to matter. */
static void fill(tsr_swin *swin)
{
    tsr_module_list *list = tsr_module_parameters(&swin->module);
    for (int64_t i = 0; i < list->n; i++) {
        tsr_fill_normal(tsr_detach(list->at[i].tensor), tsr_rng_make(3, (uint32_t)i, 0, 0), 0.0,
                        0.3);
    }
    tsr_module_list_free(&list);
}

static void test_swin__agrees_with_the_authors(void **state)
{
    (void)state;
    for (tsr_dtype dtype = TSR_DTYPE_F32; dtype <= TSR_DTYPE_F64; dtype++) {
        tsr_safetensors *file = golden_open("swin");
        double tolerance = tolerance_of(dtype);
        tsr_swin *swin = small_swin(dtype);
        tsr_backbone *m = &swin->backbone;
        golden_load(&swin->module, file, true);
        tsr_tensor *images = golden(file, "in.images", dtype);
        tsr_tensor *tokens = tsr_backbone_forward(m, images, NULL);
        assert_near(tokens, golden(file, "out.tokens", dtype), tolerance, "tokens");
        tokens = tsr_backbone_forward(m, golden(file, "in.images_small", dtype), NULL);
        assert_near(tokens, golden(file, "out.tokens_small", dtype), tolerance, "tokens_small");

        tsr_backbone_options masked = {.mask = golden(file, "in.mask", dtype)};
        tsr_tape *tape = tsr_tape_open();
        tokens = tsr_backbone_forward(m, images, &masked);
        assert_near(tokens, golden(file, "out.masked_tokens", dtype), tolerance, "masked_tokens");
        tsr_backward(tape, probe(tokens, golden(file, "in.probe", dtype)), NULL);
        assert_ok();
        tsr_tape_close(&tape);
        golden_gradients(&swin->module, file, "grad.", tolerance);
        tsr_module_free(&swin);
        tsr_safetensors_close(&file);
    }
}

static void test_swin__has_the_names_of_the_authors(void **state)
{
    (void)state;
    tsr_swin_config config;
    tsr_swin_config_find("swin_tiny", &config);
    tsr_swin *swin = tsr_swin_new(&config);
    compare_names("swin", &swin->module);
    tsr_module_free(&swin);
}

static void test_swin__has_the_published_number_of_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t count;
    } published[] = {{"swin_tiny", 27519354}, {"swin_small", 48837258}, {"swin_base", 86743224}};
    for (int i = 0; i < 3; i++) {
        tsr_swin_config config;
        tsr_swin_config_find(published[i].name, &config);
        tsr_swin *swin = tsr_swin_new(&config);
        assert_ok();
        assert_int_equal(tsr_module_count(&swin->module), published[i].count);
        tsr_module_free(&swin);
    }
}

static void test_swin__initialize_leaves_the_index_alone(void **state)
{
    (void)state;
    tsr_swin *swin = small_swin(TSR_DTYPE_F32);
    tsr_module_initialize(&swin->module, 1);
    assert_ok();
    tsr_tensor *index = swin->blocks[0]->attn->position.index;
    /* Token 0 to itself: 3 rows and 3 columns into a table of 7 x 7. */
    assert_int_equal((int64_t)tsr_tensor_get(index, 0), 3 * 7 + 3);
    assert_int_equal((int64_t)tsr_tensor_get(index, 15), 0); /* of the last one */
    tsr_module_free(&swin);
}

/* Odd sides everywhere, neither square nor whole windows nor whole tokens. */
static void test_swin__takes_any_size(void **state)
{
    (void)state;
    tsr_swin *swin = small_swin(TSR_DTYPE_F64);
    fill(swin);
    tsr_backbone *m = &swin->backbone;
    tsr_tensor *images = noise(TSR_DTYPE_F64, TSR_SHAPE(2, 3, 23, 38), 2);
    tsr_token_grid first = tsr_backbone_grid(m, 1, 23, 38), last = tsr_backbone_grid(m, 2, 23, 38);
    assert_int_equal(first.dim, 12);
    assert_int_equal(first.rows, 11);
    assert_int_equal(first.columns, 19);
    assert_int_equal(last.dim, 24);
    assert_int_equal(last.rows, 6);
    assert_int_equal(last.columns, 10);
    tsr_tensor *mask = tsr_zeros(TSR_DTYPE_U8, TSR_SHAPE(2, 6, 10));
    tsr_tensor_fill(tsr_slice(mask, 1, 5, 6, 1), 1.0);
    tsr_backbone_options masked = {.mask = mask};
    tsr_tensor *a = tsr_backbone_forward(m, images, &masked);
    assert_ok();
    assert_true(tsr_shape_equal(tsr_tensor_shape(a), TSR_SHAPE(2, 61, 24)));
    /* What is under the mask has no say: rows 20 to 22 of the image. */
    tsr_tensor_fill(tsr_slice(images, 2, 20, 23, 1), 7.0);
    assert_close(tsr_backbone_forward(m, images, &masked), a, 0.0);
    assert_close(tsr_tokens_class(a), tsr_mean(tsr_tokens_patches(a), (const int[]){1}, 1, false),
                 1e-12);
    tsr_module_free(&swin);
}

/* Blocks of several stages, the last stage's normed. */
static void test_swin__gives_the_last_blocks(void **state)
{
    (void)state;
    tsr_swin *swin = small_swin(TSR_DTYPE_F64);
    fill(swin);
    tsr_backbone *m = &swin->backbone;
    tsr_tensor *images = noise(TSR_DTYPE_F64, TSR_SHAPE(2, 3, 32, 32), 2), *out[3], *raw[3];
    assert_int_equal(tsr_backbone_intermediate(m, images, 3, NULL, out), TSR_STATUS_OK);
    assert_true(tsr_shape_equal(tsr_tensor_shape(out[0]), TSR_SHAPE(2, 257, 12)));
    assert_true(tsr_shape_equal(tsr_tensor_shape(out[1]), TSR_SHAPE(2, 65, 24)));
    assert_close(out[2], tsr_backbone_forward(m, images, NULL), 0.0);
    tsr_backbone_options options = {.no_norm = true};
    assert_int_equal(tsr_backbone_intermediate(m, images, 3, &options, raw), TSR_STATUS_OK);
    assert_close(raw[0], out[0], 0.0);
    tsr_tensor *normed = tsr_norm_forward(swin->norm, tsr_tokens_patches(raw[1]));
    assert_close(tsr_tokens_patches(out[1]), normed, 0.0);
    tsr_module_free(&swin);
}

/* A stage no larger than the window is one window: nothing is shifted. */
static void test_swin__shifts_where_there_are_several_windows(void **state)
{
    (void)state;
    tsr_swin_config config;
    tsr_swin_config_find("swin_tiny", &config);
    config.window = 14;
    config.dim = 12;
    tsr_swin *swin = tsr_swin_new(&config);
    const int64_t window[] = {14, 14, 14, 7}, shift[] = {7, 7, 0, 0};
    for (int s = 0; s < 4; s++) {
        assert_int_equal(swin->window[s], window[s]);
        assert_int_equal(swin->shift[s], shift[s]);
    }
    char text[TSR_BACKBONE_TEXT];
    tsr_backbone_describe(&swin->backbone, text);
    assert_string_equal(text, "dim 12, depths 2,2,6,2, heads 3,6,12,24, windows of 14, patches of "
                              "4 in 224 pixels");
    tsr_module_free(&swin);
}

static void test_swin__drops_by_sample_alone(void **state)
{
    (void)state;
    tsr_swin_config config = small_config(TSR_DTYPE_F64);
    config.drop_path = 0.5;
    tsr_swin *swin = tsr_swin_new(&config);
    fill(swin);
    tsr_backbone *m = &swin->backbone;
    tsr_tensor *images = noise(TSR_DTYPE_F64, TSR_SHAPE(6, 3, 16, 16), 2);
    tsr_backbone_options options = {.rng = tsr_rng_make(5, 7, 100, 3)};
    tsr_tensor *all = tsr_backbone_forward(m, images, &options);
    options.rng = tsr_rng_row(options.rng, 2);
    tsr_tensor *some = tsr_backbone_forward(m, tsr_slice(images, 0, 2, 6, 1), &options);
    assert_close(some, tsr_slice(all, 0, 2, 6, 1), 1e-12);
    assert_null(tsr_backbone_forward(m, images, NULL));
    assert_failed(TSR_STATUS_STATE, "in training wants an rng");
    tsr_module_free(&swin);
}

/* Windows, biases and masks of bf16: near the f32 values, and every table learns. */
static void test_swin__computes_in_bf16(void **state)
{
    (void)state;
    tsr_safetensors *file = golden_open("swin");
    tsr_swin *swin = small_swin(TSR_DTYPE_F32);
    golden_load(&swin->module, file, true);
    tsr_module_compute_in(&swin->module, TSR_DTYPE_BF16);
    tsr_backbone_options masked = {.mask = golden(file, "in.mask", TSR_DTYPE_F32)};
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *tokens =
        tsr_backbone_forward(&swin->backbone, golden(file, "in.images", TSR_DTYPE_F32), &masked);
    assert_near(tokens, golden(file, "out.masked_tokens", TSR_DTYPE_F32), 0.05, "masked_tokens");
    tsr_backward(tape, probe(tokens, golden(file, "in.probe", TSR_DTYPE_F32)), NULL);
    assert_ok();
    tsr_tape_close(&tape);
    golden_gradients(&swin->module, file, "grad.", 0.1);
    tsr_module_free(&swin);
    tsr_safetensors_close(&file);
}

static void test_swin__refuses_what_does_not_fit(void **state)
{
    (void)state;
    tsr_swin *swin = small_swin(TSR_DTYPE_F32);
    tsr_backbone *m = &swin->backbone;
    tsr_module_initialize(&swin->module, 1);
    tsr_tensor *images = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3, 32, 32));
    assert_null(tsr_backbone_last_attention(m, images));
    assert_failed(TSR_STATUS_ARGUMENT, "a swin has no attention of a class token");
    assert_int_equal(tsr_backbone_recompute(m, true), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "swin: its blocks cannot be recomputed");
    tsr_backbone_options masked = {.mask = tsr_zeros(TSR_DTYPE_U8, TSR_SHAPE(2, 16, 16))};
    assert_null(tsr_backbone_forward(m, images, &masked));
    assert_failed(TSR_STATUS_SHAPE, "mask has shape [2, 16, 16], expected [2, 8, 8]");
    assert_null(tsr_backbone_forward(m, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 1, 32, 32)), NULL));
    assert_failed(TSR_STATUS_SHAPE, "expected [B, 3, H, W]");
    tsr_module_free(&swin);
    tsr_swin_config config = small_config(TSR_DTYPE_F32);
    config.window = 33;
    assert_null(tsr_swin_new(&config));
    assert_failed(TSR_STATUS_ARGUMENT, "window is 33, expected 1 to 32");
    config = small_config(TSR_DTYPE_F32);
    config.stages = 6;
    assert_null(tsr_swin_new(&config));
    assert_failed(TSR_STATUS_ARGUMENT, "stage 2 has 0 blocks");
    config = small_config(TSR_DTYPE_F32);
    config.heads[1] = 5;
    assert_null(tsr_swin_new(&config));
    assert_failed(TSR_STATUS_ARGUMENT, "heads must divide dim");
    tsr_swin_config_find("swin_huge", &config);
    assert_failed(TSR_STATUS_ARGUMENT, "there is no \"swin_huge\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_swin__agrees_with_the_authors),
        tsr_test(test_swin__has_the_names_of_the_authors),
        tsr_test(test_swin__has_the_published_number_of_parameters),
        tsr_test(test_swin__initialize_leaves_the_index_alone),
        tsr_test(test_swin__takes_any_size),
        tsr_test(test_swin__gives_the_last_blocks),
        tsr_test(test_swin__shifts_where_there_are_several_windows),
        tsr_test(test_swin__drops_by_sample_alone),
        tsr_test(test_swin__computes_in_bf16),
        tsr_test(test_swin__refuses_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
