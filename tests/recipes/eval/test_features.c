/* Frozen features against what the model and the view give one by one. */
#include "tests/recipes/data/files.h"

#include "recipes/eval/features.h"

enum { SIZE = 8, PATCH = 4, DIM = 16, DEPTH = 3, TRAIN = 20 };

static tsr_vit *make_vit(bool masked, uint64_t seed)
{
    tsr_vit *vit = tsr_vit_new(&(tsr_vit_config){.image_size = SIZE,
                                                 .patch_size = PATCH,
                                                 .dim = DIM,
                                                 .depth = DEPTH,
                                                 .heads = 2,
                                                 .qkv_bias = true,
                                                 .masked = masked});
    tsr_module_initialize(&vit->module, seed);
    assert_ok();
    return vit;
}

static void put_options(tsr_checkpoint_writer *w)
{
    static const char *const options[][2] = {{"model", "vit_tiny"}, {"image-size", "8"},
                                             {"patch-size", "4"},   {"dim", "16"},
                                             {"depth", "3"},        {"heads", "2"}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        char key[64];
        snprintf(key, sizeof key, "option.%s", options[i][0]);
        tsr_checkpoint_put_string(w, key, options[i][1]);
    }
    tsr_checkpoint_put_string(w, "feature", "teacher.backbone");
}

/* All but one (or none, where it is NULL) of a network's tensors. */
static void put_vit(tsr_checkpoint_writer *w, const char *prefix, const tsr_vit *vit,
                    const char *but)
{
    tsr_module_list *state = tsr_module_state(&vit->module);
    for (int64_t i = 0; i < state->n; i++) {
        char name[256];
        snprintf(name, sizeof name, "%s%s", prefix, state->at[i].name);
        if (but == NULL || strcmp(but, state->at[i].name) != 0) {
            tsr_checkpoint_put_tensor(w, name, state->at[i].tensor);
        }
    }
    tsr_module_list_free(&state);
}

/* A checkpoint as a run of iBOT leaves it: the student has masked_embed, the teacher has none. */
static tsr_checkpoint *make_checkpoint(const tsr_vit *student, const tsr_vit *teacher,
                                       const char *but)
{
    tsr_checkpoint_writer *w = tsr_checkpoint_create(file_path("checkpoint-00000001.tsr"));
    put_options(w);
    put_vit(w, "student/backbone.", student, NULL);
    put_vit(w, "teacher/backbone.", teacher, but);
    tsr_checkpoint_put_tensor(w, "teacher/head.mlp.0.weight",
                              tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 2)));
    tsr_checkpoint_commit(&w);
    char path[TSR_CHECKPOINT_PATH];
    tsr_checkpoint *c = tsr_checkpoint_open_run(test_folder, path);
    assert_ok();
    return c;
}

static void assert_equal_backbones(const tsr_backbone *a, const tsr_backbone *b)
{
    tsr_module_list *left = tsr_module_state(&a->module), *right = tsr_module_state(&b->module);
    assert_int_equal(left->n, right->n);
    for (int64_t i = 0; i < left->n; i++) assert_same(left->at[i].tensor, right->at[i].tensor);
    tsr_module_list_free(&left);
    tsr_module_list_free(&right);
}

static void test_features__loads_teacher_and_student(void **state)
{
    (void)state;
    tsr_vit *student = make_vit(true, 1), *teacher = make_vit(false, 2);
    tsr_checkpoint *c = make_checkpoint(student, teacher, NULL);
    tsr_backbone *usual = tsr_backbone_load(c, NULL), *other = tsr_backbone_load(c, "student");
    assert_ok();
    assert_equal_backbones(usual, &teacher->backbone);
    assert_equal_backbones(other, &student->backbone);
    assert_non_null(((tsr_vit *)other)->masked_embed);
    assert_false(usual->module.training);
    assert_false(tsr_requires_grad(((tsr_vit *)usual)->cls_token));
    tsr_backbone *untrained = tsr_backbone_untrained(usual, 2);
    assert_equal_backbones(untrained, &teacher->backbone);
    tsr_module_free(&untrained);
    tsr_module_free(&usual);
    tsr_module_free(&other);
    tsr_checkpoint_close(&c);
    tsr_module_free(&student);
    tsr_module_free(&teacher);
}

static void test_features__refuses_what_is_incomplete(void **state)
{
    (void)state;
    tsr_vit *student = make_vit(true, 1), *teacher = make_vit(false, 2);
    static const char *const missing[][2] = {
        {"norm.bias", "norm.bias"},
        {"pos_embed", "has no backbone teacher/backbone.*"},
        {"blocks.2.mlp.fc1.weight", "1 missing (blocks.2.mlp.fc1.weight)"},
    };
    for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++) {
        tsr_checkpoint *c = make_checkpoint(student, teacher, missing[i][0]);
        assert_null(tsr_backbone_load(c, NULL));
        assert_failed(TSR_STATUS_ARGUMENT, missing[i][1]);
        tsr_checkpoint_close(&c);
    }
    tsr_checkpoint *c = make_checkpoint(student, teacher, NULL);
    assert_null(tsr_backbone_load(c, "nobody"));
    assert_failed(TSR_STATUS_ARGUMENT, "has no backbone nobody/backbone.*");
    tsr_checkpoint_close(&c);
    tsr_module_free(&student);
    tsr_module_free(&teacher);
}

/* Relative positions, of a block or shared, with and without a position embedding, are found by their tensors. */
static void test_features__loads_relative_positions(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        tsr_vit_config config = {.image_size = SIZE,
                                 .patch_size = PATCH,
                                 .dim = DIM,
                                 .depth = DEPTH,
                                 .heads = 2,
                                 .qkv_bias = true,
                                 .no_position = i % 2 == 1,
                                 .relative =
                                     i < 2 ? TSR_VIT_RELATIVE_BLOCKS : TSR_VIT_RELATIVE_SHARED};
        tsr_vit *vit = tsr_vit_new(&config);
        tsr_module_list *all = tsr_module_state(&vit->module);
        for (int64_t k = 0; k < all->n; k++) {
            if (all->at[k].is_buffer) continue;
            tsr_fill_normal(tsr_detach(all->at[k].tensor), tsr_rng_make(7, (uint32_t)k, 0, 1), 0,
                            1);
        }
        tsr_module_list_free(&all);
        tsr_checkpoint *c = make_checkpoint(vit, vit, NULL);
        tsr_backbone *loaded = tsr_backbone_load(c, NULL);
        assert_ok();
        assert_int_equal(((tsr_vit *)loaded)->config.relative, config.relative);
        assert_equal_backbones(loaded, &vit->backbone);

        /* Into a network for pictures of twice the side: its index stays, its tables are resized. */
        config.image_size = 2 * SIZE;
        tsr_vit *larger = tsr_vit_new(&config);
        tsr_head_config head = {.dim = DIM, .out_dim = 4, .hidden = 4, .bottleneck = 2};
        tsr_multi_crop *network = tsr_multi_crop_new(larger, tsr_head_new(&head));
        tsr_module_initialize(&network->module, 2);
        tsr_train_options train;
        tsr_backbone_train_options(c, &train);
        tsr_backbone_adopt(&network->module, &train, c, NULL);
        assert_ok();
        const tsr_relative_position *from = i < 2 ? &vit->blocks[1]->attn->position
                                                  : &vit->rel_pos_bias->position,
                                    *to = i < 2 ? &larger->blocks[1]->attn->position
                                                : &larger->rel_pos_bias->position;
        bool was = tsr_recording_set(false);
        assert_close(tsr_relative_position_bias(to, 4, 4), tsr_relative_position_bias(from, 4, 4),
                     1e-6);
        tsr_recording_set(was);
        tsr_module_free(&network);
        tsr_module_free(&loaded);
        tsr_checkpoint_close(&c);
        tsr_module_free(&vit);
    }
}

/* A head of each kind is what it was, and puts images where its logits are largest. */
static void test_features__loads_heads(void **state)
{
    (void)state;
    static const tsr_head_config configs[] = {
        {.dim = DIM, .out_dim = 24, .hidden = 12, .bottleneck = 6},
        {.dim = DIM,
         .out_dim = 24,
         .hidden = 12,
         .bottleneck = 6,
         .patch_out_dim = 7,
         .patch_layer = TSR_PATCH_LAYER_SEPARATE,
         .norm_last_layer = true},
        {.dim = DIM,
         .out_dim = 24,
         .hidden = 12,
         .bottleneck = 6,
         .layers = 2,
         .norm = TSR_NORM_BATCH,
         .patch_layer = TSR_PATCH_LAYER_NONE},
        {.dim = DIM, .out_dim = 24, .bottleneck = 6, .layers = 1},
        {.dim = DIM,
         .out_dim = 24,
         .hidden = 12,
         .bottleneck = 6,
         .layers = 4,
         .norm = TSR_NORM_LAYER},
    };
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++) {
        tsr_head *head = tsr_head_new(&configs[i]);
        tsr_module_initialize(&head->module, 5);
        tsr_module_train(&head->module, false);
        tsr_checkpoint_writer *w = tsr_checkpoint_create(file_path("checkpoint-00000001.tsr"));
        put_options(w);
        tsr_module_list *all = tsr_module_state(&head->module);
        for (int64_t k = 0; k < all->n; k++) {
            char name[256];
            snprintf(name, sizeof name, "teacher/head.%s", all->at[k].name);
            tsr_checkpoint_put_tensor(w, name, all->at[k].tensor);
        }
        tsr_checkpoint_commit(&w);
        tsr_module_list_free(&all);
        tsr_checkpoint *c = tsr_checkpoint_open(file_path("checkpoint-00000001.tsr"));
        tsr_head *loaded = tsr_head_load(c, NULL);
        assert_ok();
        tsr_tensor *x = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(2050, DIM)); /* more than two parts */
        tsr_fill_normal(x, tsr_rng_make(6, 0, 0, 0), 0.0, 1.0);
        bool was = tsr_recording_set(false);
        tsr_tensor *logits = tsr_head_class_logits(head, tsr_head_project(head, x));
        assert_same(tsr_head_class_logits(loaded, tsr_head_project(loaded, x)), logits);
        assert_same(tsr_head_assign(loaded, x), tsr_argmax(logits, -1, false));
        tsr_recording_set(was);
        assert_null(tsr_head_load(c, "student"));
        assert_failed(TSR_STATUS_ARGUMENT, "no head with prototypes (student/head.");
        tsr_module_free(&loaded);
        tsr_module_free(&head);
        tsr_checkpoint_close(&c);
    }
}

/* Images of the training part by the evaluation view: f32 [n, 3, SIZE, SIZE]. */
static tsr_tensor *images_of(tsr_dataset *data)
{
    int64_t n = tsr_dataset_count(data);
    tsr_tensor *x = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(n, 3, SIZE, SIZE));
    tsr_view_spec view = tsr_view_eval(SIZE);
    tsr_image image = {0};
    for (int64_t i = 0; i < n; i++) {
        tsr_rng rng = tsr_rng_make(9, 9, 9, 9);
        tsr_dataset_load(data, i, 0, &image, NULL);
        tsr_view_apply(&view, &image, &rng, (float *)tsr_tensor_data_mut(x) + i * 3 * SIZE * SIZE);
    }
    tsr_image_free(&image);
    assert_ok();
    return x;
}

static tsr_dataset *make_data(void)
{
    write_idx("train", TRAIN, 4);
    write_idx("t10k", 4, 4);
    tsr_dataset *data = tsr_dataset_open(test_folder, "train");
    assert_ok();
    return data;
}

static tsr_features extract(const tsr_vit *vit, tsr_dataset *data, tsr_extract_options options)
{
    tsr_features features = {0};
    tsr_features_extract(vit != NULL ? &vit->backbone : NULL, data, &options, &features);
    assert_ok();
    return features;
}

static tsr_tensor *columns(tsr_tensor *x, int64_t from, int64_t to)
{
    return tsr_slice(x, 1, from, to, 1);
}

static void test_features__pools_tokens_as_the_authors(void **state)
{
    (void)state;
    tsr_dataset *data = make_data();
    tsr_vit *vit = make_vit(false, 3);
    tsr_module_freeze(&vit->module);
    tsr_tensor *x = images_of(data), *normed[2], *raw[1];
    tsr_vit_intermediate(vit, x, 2, NULL, normed);
    tsr_vit_intermediate(vit, x, 1, &(tsr_backbone_options){.no_norm = true}, raw);
    tsr_tensor *mean = tsr_mean(tsr_tokens_patches(normed[1]), (const int[]){1}, 1, false);
    /* the class token of the last block through the final norm is the model's answer */
    tsr_tensor *answer = tsr_tokens_class(tsr_vit_forward(vit, x, NULL));

    tsr_features f = extract(vit, data, (tsr_extract_options){.batch = 7});
    assert_close(f.x, answer, 1e-6);
    for (int64_t i = 0; i < TRAIN; i++) assert_true(tsr_tensor_get(f.labels, i) == (double)(i % 4));

    f = extract(vit, data, (tsr_extract_options){.last_blocks = 2, .pooling = TSR_POOLING_BOTH});
    assert_int_equal(tsr_tensor_size(f.x, 1), 3 * DIM);
    assert_close(columns(f.x, 0, DIM), tsr_tokens_class(normed[0]), 1e-6);
    assert_close(columns(f.x, DIM, 2 * DIM), answer, 1e-6);
    assert_close(columns(f.x, 2 * DIM, 3 * DIM), mean, 1e-6);

    f = extract(vit, data, (tsr_extract_options){.last_blocks = 2, .pooling = TSR_POOLING_MEAN});
    assert_close(f.x, tsr_mean(tsr_tokens_patches(raw[0]), (const int[]){1}, 1, false), 1e-6);
    /* which is not the normed one */
    assert_true(fabs(tsr_tensor_get(f.x, 0) - tsr_tensor_get(mean, 0)) > 1e-3);
    tsr_module_free(&vit);
    tsr_dataset_close(&data);
}

/* The evaluation view's bytes as values from 0 to 1, in three channels or, where these are equal, in one. */
static void test_features__raw_pixels_are_the_views_bytes(void **state)
{
    (void)state;
    tsr_dataset *data = make_data();
    assert_true(tsr_dataset_is_grey(data));
    tsr_features f = extract(NULL, data, (tsr_extract_options){.size = SIZE});
    tsr_tensor *wanted = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(TRAIN, SIZE * SIZE));
    float *x = tsr_tensor_data_mut(wanted);
    tsr_view_spec view = tsr_view_eval(SIZE);
    tsr_image image = {0}, seen = {0};
    for (int64_t i = 0; i < TRAIN; i++) {
        tsr_rng rng = tsr_rng_make(9, 9, 9, 9);
        tsr_dataset_load(data, i, 0, &image, NULL);
        tsr_view_image(&view, &image, &rng, &seen);
        for (int k = 0; k < SIZE * SIZE; k++) *x++ = (float)seen.pixels[3 * k] / 255.0f;
    }
    tsr_image_free(&image);
    tsr_image_free(&seen);
    for (int c = 0; c < 3; c++)
        assert_close(columns(f.x, c * SIZE * SIZE, (c + 1) * SIZE * SIZE), wanted, 1e-7);
    f = extract(NULL, data, (tsr_extract_options){.size = SIZE, .grey = true});
    assert_close(f.x, wanted, 1e-7);
    tsr_dataset_close(&data);
}

static void test_features__a_part_is_spread_evenly(void **state)
{
    (void)state;
    tsr_dataset *data = make_data();
    tsr_features all = extract(NULL, data, (tsr_extract_options){.size = SIZE});
    tsr_features some = extract(NULL, data, (tsr_extract_options){.size = SIZE, .limit = 7});
    const int64_t wanted[] = {0, 2, 5, 8, 11, 14, 17}; /* floor(20 i / 7) */
    tsr_tensor *rows = tsr_from(TSR_DTYPE_I64, TSR_SHAPE(7), wanted);
    assert_same(some.x, tsr_gather_rows(all.x, rows));
    assert_same(some.labels, tsr_gather_rows(all.labels, rows));
    tsr_dataset_close(&data);
}

/* Fresh crops in each epoch, the same again for the same epoch. */
static void test_features__augmentation_depends_on_the_epoch(void **state)
{
    (void)state;
    tsr_dataset *data = make_data();
    tsr_extract_options o = {.size = SIZE, .augment = true, .seed = 5, .epoch = 3, .workers = 1};
    tsr_features a = extract(NULL, data, o);
    o.workers = 3;
    o.batch = 6;
    assert_same(extract(NULL, data, o).x, a.x);
    o.epoch = 4;
    tsr_features b = extract(NULL, data, o);
    assert_same(b.labels, a.labels);
    assert_true(tsr_tensor_get(a.x, 5) != tsr_tensor_get(b.x, 5) ||
                tsr_tensor_get(a.x, 77) != tsr_tensor_get(b.x, 77));
    tsr_dataset_close(&data);
}

/* An image that cannot be read leaves its row to another, with that one's label. */
static void test_features__unreadable_images_are_replaced(void **state)
{
    (void)state;
    make_folder("a");
    make_folder("b");
    write_jpeg("a/1.jpg", 10, 10, 20);
    write_file("a/2.jpg", "nothing", 7);
    write_jpeg("b/1.jpg", 10, 10, 220);
    tsr_dataset *data = tsr_dataset_open(test_folder, NULL);
    tsr_features f = extract(NULL, data, (tsr_extract_options){.size = SIZE});
    assert_true(tsr_tensor_get(f.labels, 0) == 0 && tsr_tensor_get(f.labels, 1) == 1 &&
                tsr_tensor_get(f.labels, 2) == 1);
    assert_same(tsr_select(f.x, 0, 1), tsr_select(f.x, 0, 2));
    assert_int_equal(tsr_dataset_problems(data, NULL, 0, NULL), 1);
    tsr_dataset_close(&data);
}

static void test_features__asks_for_too_many_blocks(void **state)
{
    (void)state;
    tsr_dataset *data = make_data();
    tsr_vit *vit = make_vit(false, 3);
    tsr_features f = {0};
    tsr_features_extract(&vit->backbone, data, &(tsr_extract_options){.last_blocks = 4}, &f);
    assert_failed(TSR_STATUS_ARGUMENT, "--last-blocks: got 4, the network has 3 blocks");
    assert_null(f.x);
    tsr_features_extract(NULL, data, &(tsr_extract_options){0}, &f);
    assert_failed(TSR_STATUS_ARGUMENT, "raw pixels of no size");
    tsr_module_free(&vit);
    tsr_dataset_close(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        files_test(test_features__loads_teacher_and_student),
        files_test(test_features__refuses_what_is_incomplete),
        files_test(test_features__loads_relative_positions),
        files_test(test_features__loads_heads),
        files_test(test_features__pools_tokens_as_the_authors),
        files_test(test_features__raw_pixels_are_the_views_bytes),
        files_test(test_features__a_part_is_spread_evenly),
        files_test(test_features__augmentation_depends_on_the_epoch),
        files_test(test_features__unreadable_images_are_replaced),
        files_test(test_features__asks_for_too_many_blocks),
    };
    return cmocka_run_group_tests_name("features", tests, NULL, NULL);
}
