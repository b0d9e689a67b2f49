/*
 * BEiT: tokens of every tokenizer against plain computations, the loss against a plain sum, runs that are stopped and resumed,
 * and what is said of a tokenizer's checkpoint that is missing or of another kind.
 */
#include "tests/test.h"

/* The recipe's parts are private to it. */
#include "recipes/beit.c"
#include "recipes/tokenizer.c"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { IMAGES = 48, SIDE = 16 };

static char folder[256];

static void write_file(const char *name, const void *data, size_t n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

/* Noisy stripes, as IDX. */
static void make_data(void)
{
    static uint8_t images[16 + IMAGES * SIDE * SIDE] = {0, 0, 8, 3,    0, 0, 0, IMAGES,
                                                        0, 0, 0, SIDE, 0, 0, 0, SIDE};
    tsr_rng rng = tsr_rng_make(1, 0, 0, 0);
    for (int i = 0; i < IMAGES; i++) {
        for (int p = 0; p < SIDE * SIDE; p++) {
            int stripes = (p / SIDE * (i % 4 + 1)) % 8 < 4 ? 200 : 40;
            images[16 + i * SIDE * SIDE + p] = (uint8_t)(stripes + tsr_rng_below(&rng, 50));
        }
    }
    write_file("train-images-idx3-ubyte", images, sizeof images);
}

/* ---- small runs ---- */

struct setting {
    tsr_train_options train;
    void *options;
    const tsr_recipe *recipe;
};

static void set(struct setting *s, const char *name, const char *value)
{
    int n;
    const tsr_option *table = tsr_train_option_table(&n), *o = tsr_option_find(table, n, name);
    if (o != NULL) tsr_option_set(o, &s->train, value);
    o = tsr_option_find(s->recipe->options, s->recipe->n_options, name);
    if (o != NULL) tsr_option_set(o, s->options, value);
    assert_ok();
}

static struct setting small(const tsr_recipe *recipe)
{
    static const char *const choices[][2] = {
        {"image-size", "16"},  {"patch-size", "4"},      {"dim", "24"},
        {"depth", "2"},        {"heads", "2"},           {"epochs", "2"},
        {"batch", "8"},        {"warmup-epochs", "1"},   {"monitor-every", "4"},
        {"tokens", "12"},      {"out-dim", "20"},        {"patch-out-dim", "20"},
        {"head-hidden", "16"}, {"head-bottleneck", "8"}, {"local-crops", "0"},
        {"drop-path", "0.1"},  {"groups", "2"},          {"hidden", "8"},
        {"embedding", "4"},    {"blocks", "1"},          {"tokenizer-iterations", "3"},
        {"micro-batch", "4"},
    };
    struct setting s = {.recipe = recipe, .options = calloc(1, recipe->options_size)};
    tsr_recipe_defaults(recipe, &s.train, s.options);
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        set(&s, choices[i][0], choices[i][1]);
    }
    return s;
}

static const char *path_of(const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, 512, "%s/%s", folder, name);
    return path;
}

static tsr_status run(const struct setting *s, const char *out, int64_t stop_after, bool resume)
{
    tsr_run_options o = {.data = folder,
                         .out = path_of(out),
                         .seed = 7,
                         .save_every = 4,
                         .stop_after = stop_after,
                         .resume = resume};
    return tsr_run(s->recipe, &s->train, s->options, &o, NULL);
}

enum { STEPS = 2 * IMAGES / 8 };

static void assert_same_checkpoint(const char *a, const char *b)
{
    uint8_t *data[2];
    size_t bytes[2];
    for (int k = 0; k < 2; k++) {
        char path[TSR_CHECKPOINT_PATH];
        FILE *f = fopen(tsr_checkpoint_path(path_of(k == 0 ? a : b), STEPS, path), "rb");
        assert_non_null(f);
        fseek(f, 0, SEEK_END);
        bytes[k] = (size_t)ftell(f);
        rewind(f);
        data[k] = malloc(bytes[k]);
        assert_int_equal(fread(data[k], 1, bytes[k], f), bytes[k]);
        fclose(f);
    }
    assert_int_equal(bytes[0], bytes[1]);
    assert_memory_equal(data[0], data[1], bytes[0]);
    free(data[0]);
    free(data[1]);
}

/* Runs of a step of those recipes that tokenizers come from. */
static void train_tokenizers(void)
{
    static const char *const names[] = {"ibot", "dino", "dvae"};
    for (int i = 0; i < 3; i++) {
        struct setting s = small(tsr_recipe_find(names[i]));
        set(&s, "micro-batch", "0");
        run(&s, names[i], 1, false);
        assert_ok();
        free(s.options);
    }
}

/* ---- tokens ---- */

static tsr_tokenizer *make_tokenizer(const char *kind, const char *checkpoint, tsr_view_spec *view)
{
    struct setting s = small(&tsr_recipe__beit);
    set(&s, "tokenizer", kind);
    set(&s, "tokenizer-checkpoint", checkpoint);
    tsr_build b = {.train = &s.train, .options = s.options, .seed = 7};
    tsr_view_spec specs[2];
    const tsr_tokenizer_options *o = s.options;
    tsr_tokenizer *t = views(&b, specs, 2) < 0 ? NULL : tsr_tokenizer__new(&b, o, 4);
    *view = specs[1];
    view->paired = false;
    free(s.options);
    return t;
}

static void end_tokenizer(tsr_tokenizer *t)
{
    tsr_module *state = tsr_tokenizer__state(t);
    tsr_tokenizer__free(&t);
    tsr_module_free(&state);
}

/* Some images as the tokenizer sees them. */
static tsr_tensor *seen_by(const tsr_view_spec *view, int64_t n)
{
    tsr_views views = {view, 1};
    tsr_dataset *data = tsr_dataset_open(folder, NULL);
    tsr_loader *loader =
        tsr_loader_open_views(data, &views, &(tsr_loader_options){.batch = n, .seed = 1});
    tsr_tensor *x = tsr_batch_tensor(tsr_loader_next(loader), "tokenizer");
    x = tsr_from(TSR_DTYPE_F32, tsr_tensor_shape(x), tsr_tensor_data(x));
    tsr_loader_close(&loader);
    tsr_dataset_close(&data);
    assert_ok();
    return x;
}

static void test_beit__colors_are_means_of_three_bits(void **state)
{
    (void)state;
    tsr_view_spec view;
    tsr_tokenizer *t = make_tokenizer("color", "", &view);
    assert_int_equal(tsr_tokenizer__tokens(t), 512);
    assert_null(tsr_tokenizer__state(t));
    assert_int_equal(view.size, 16);
    float pixels[3 * SIDE * SIDE];
    for (int i = 0; i < SIDE * SIDE; i++) {
        int row = i / SIDE / 4, column = i % SIDE / 4;
        /* The mean of a patch at (0, 0): red 31.5 -> 0, green 32 -> 1, blue 255 -> 7. */
        int red = row == 0 && column == 0 ? i % 2 == 0 ? 31 : 32 : 40 * row;
        int green = row == 0 && column == 0 ? i % 2 == 0 ? 0 : 64 : 0;
        int blue = row == 0 && column == 0 ? 255 : 63 + 64 * column;
        pixels[i] = (float)red / 255.0f;
        pixels[SIDE * SIDE + i] = (float)green / 255.0f;
        pixels[2 * SIDE * SIDE + i] = (float)blue / 255.0f;
    }
    tsr_tensor *images = tsr_from(TSR_DTYPE_F32, TSR_SHAPE(1, 3, SIDE, SIDE), pixels);
    static const int64_t want[16] = {
        0 * 64 + 1 * 8 + 7, 0 * 64 + 3, 0 * 64 + 5, 0 * 64 + 7, /* */
        1 * 64 + 1,         1 * 64 + 3, 1 * 64 + 5, 1 * 64 + 7, /* 40 */
        2 * 64 + 1,         2 * 64 + 3, 2 * 64 + 5, 2 * 64 + 7, /* 80 */
        3 * 64 + 1,         3 * 64 + 3, 3 * 64 + 5, 3 * 64 + 7, /* 120 */
    };
    tsr_tensor *tokens = tsr_tokenizer__encode(t, images);
    assert_same(tokens, tsr_from(TSR_DTYPE_I64, TSR_SHAPE(1, 16), want));
    end_tokenizer(t);
}

/* By a plain search in f64 over pixels picked by hand. */
static void test_beit__kmeans_tokens_are_the_nearest_centers(void **state)
{
    (void)state;
    enum { P = 4, D = 3 * P * P, N = 9 };
    tsr_view_spec view;
    tsr_tokenizer *t = make_tokenizer("kmeans", "", &view);
    tsr_dataset *data = tsr_dataset_open(folder, NULL);
    tsr_train_options train = {0};
    tsr_build b = {.train = &train, .seed = 7};
    tsr_tokenizer__train(t, &b, &view, data);
    tsr_dataset_close(&data);
    tsr_tensor *images = seen_by(&view, N), *tokens = tsr_tokenizer__encode(t, images);
    assert_ok();
    int used[12] = {0};
    for (int i = 0; i < N * 16; i++) {
        double y[D] = {0}, nearest = INFINITY;
        int best = -1, image = i / 16, row = i % 16 / 4, column = i % 4;
        for (int j = 0; j < D; j++) {
            for (int k = 0; k < D; k++) {
                int at = image * 3 * SIDE * SIDE + k / (P * P) * SIDE * SIDE +
                         (row * P + k % (P * P) / P) * SIDE + column * P + k % P;
                y[j] += tsr_tensor_get(t->whitening, j * D + k) *
                        (tsr_tensor_get(images, at) - tsr_tensor_get(t->mean, k));
            }
        }
        for (int c = 0; c < 12; c++) {
            double apart = 0.0;
            for (int j = 0; j < D; j++) {
                apart += pow(y[j] - tsr_tensor_get(t->centers, c * D + j), 2);
            }
            if (apart < nearest) nearest = apart, best = c;
        }
        assert_int_equal((int)tsr_tensor_get(tokens, i), best);
        used[best] = 1;
    }
    int kinds = 0;
    for (int c = 0; c < 12; c++) kinds += used[c];
    assert_true(kinds > 4);
    end_tokenizer(t);
}

/* The likeliest of weight-normed prototypes, from the tensors of the file. */
static void prototypes_equal_plain_products(const char *name, const char *last)
{
    tsr_view_spec view;
    char path[TSR_CHECKPOINT_PATH];
    tsr_tokenizer *t = make_tokenizer("prototypes", path_of(name), &view);
    assert_ok();
    assert_int_equal(tsr_tokenizer__tokens(t), 20);
    assert_int_equal(view.size, 16);
    assert_true(view.std[0] == 0.0f); /* ImageNet's */
    tsr_tensor *images = seen_by(&view, 5), *tokens = tsr_tokenizer__encode(t, images);
    tsr_checkpoint *c = tsr_checkpoint_open_run(path_of(name), path);
    tsr_backbone *backbone = tsr_backbone_load(c, "teacher");
    tsr_tensor *z = tsr_tokens_patches(tsr_backbone_forward(backbone, images, NULL));
    z = tsr_flatten(tsr_head_project(t->teacher->head, z), 0, 1);
    char g[64], v[64];
    snprintf(g, sizeof g, "teacher/head.%s.weight_g", last);
    snprintf(v, sizeof v, "teacher/head.%s.weight_v", last);
    tsr_tensor *norm = tsr_checkpoint_tensor(c, g), *way = tsr_checkpoint_tensor(c, v);
    assert_ok();
    for (int i = 0; i < 5 * 16; i++) {
        double largest = -INFINITY;
        int best = -1;
        for (int k = 0; k < 20; k++) {
            double dot = 0.0, square = 0.0;
            for (int j = 0; j < 8; j++) {
                dot += tsr_tensor_get(z, i * 8 + j) * tsr_tensor_get(way, k * 8 + j);
                square += pow(tsr_tensor_get(way, k * 8 + j), 2);
            }
            double logit = tsr_tensor_get(norm, k) * dot / sqrt(square);
            if (logit > largest) largest = logit, best = k;
        }
        assert_int_equal((int)tsr_tensor_get(tokens, i), best);
    }
    tsr_module_free(&backbone);
    tsr_checkpoint_close(&c);
    end_tokenizer(t);
}

static void test_beit__prototypes_are_the_teachers(void **state)
{
    (void)state;
    prototypes_equal_plain_products("ibot", "last_layer2");
    prototypes_equal_plain_products("dino", "last_layer");
}

static void test_beit__dvae_tokens_are_the_averaged_encoders(void **state)
{
    (void)state;
    tsr_view_spec view;
    char path[TSR_CHECKPOINT_PATH];
    tsr_tokenizer *t = make_tokenizer("dvae", path_of("dvae"), &view);
    assert_ok();
    assert_int_equal(tsr_tokenizer__tokens(t), 12);
    assert_int_equal(view.size, 8); /* 4 x 4 tokens of 2 pixels */
    assert_int_equal(view.interpolation, TSR_RESAMPLE_LANCZOS);
    tsr_tensor *images = seen_by(&view, 6), *tokens = tsr_tokenizer__encode(t, images);
    tsr_checkpoint *c = tsr_checkpoint_open_run(path_of("dvae"), path);
    assert_same(t->encoder->output->weight,
                tsr_checkpoint_tensor(c, "teacher/encoder.output.weight"));
    tsr_checkpoint_close(&c);
    /* Images one by one, and the largest of each place by hand. */
    for (int i = 0; i < 6; i++) {
        tsr_tensor *logits = tsr_dvae__encode(t->encoder, tsr_slice(images, 0, i, i + 1, 1));
        for (int p = 0; p < 16; p++) {
            int best = 0;
            for (int k = 1; k < 12; k++) {
                if (tsr_tensor_get(logits, k * 16 + p) > tsr_tensor_get(logits, best * 16 + p)) {
                    best = k;
                }
            }
            assert_int_equal((int)tsr_tensor_get(tokens, i * 16 + p), best);
        }
    }
    assert_ok();
    end_tokenizer(t);
}

static void test_beit__says_what_is_wrong_with_a_checkpoint(void **state)
{
    (void)state;
    static const struct {
        const char *kind, *checkpoint, *message;
        tsr_status status;
    } cases[] = {
        {"dvae", "", "--tokenizer dvae wants --tokenizer-checkpoint: a checkpoint of dvae",
         TSR_STATUS_ARGUMENT},
        {"prototypes", "", "a checkpoint of dino or ibot", TSR_STATUS_ARGUMENT},
        {"dvae", "nothing", "/nothing", TSR_STATUS_IO},
        {"dvae", "ibot", "is of a run of ibot, expected one of dvae", TSR_STATUS_ARGUMENT},
        {"prototypes", "dvae", "has no teacher/head with prototypes", TSR_STATUS_ARGUMENT},
        {"prototypes", "train-images-idx3-ubyte", "train-images-idx3-ubyte", TSR_STATUS_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct setting s = small(&tsr_recipe__beit);
        const char *checkpoint = cases[i].checkpoint;
        set(&s, "tokenizer", cases[i].kind);
        if (checkpoint[0] != '\0') set(&s, "tokenizer-checkpoint", path_of(checkpoint));
        run(&s, "refused", 0, false);
        assert_null(strchr(tsr_message(), '\n'));
        assert_failed(cases[i].status, cases[i].message);
        free(s.options);
    }
}

/* ---- the loss ---- */

/* The mean over the masked patches of the whole batch of -log p(token), from logits of the same network. */
static void test_beit__the_loss_is_the_mean_over_masked_patches(void **state)
{
    (void)state;
    struct setting s = small(&tsr_recipe__beit);
    set(&s, "tokenizer", "color");
    set(&s, "drop-path", "0");
    set(&s, "micro-batch", "2");
    tsr_build b = {.train = &s.train, .options = s.options, .dtype = TSR_DTYPE_F64, .seed = 7};
    tsr_view_spec specs[2];
    tsr_views v = {specs, views(&b, specs, 2)};
    tsr_dataset *data = tsr_dataset_open(folder, NULL);
    tsr_loader *loader = tsr_loader_open_views(data, &v, &(tsr_loader_options){.batch = 8});
    tsr_trainer *trainer = tsr_trainer_make(&tsr_recipe__beit, &b, 10);
    const tsr_batch *batch = tsr_loader_next(loader);
    assert_ok();
    const struct beit *m = tsr_trainer_networks(trainer)->self;
    static const char *const names[] = {"global", "global.mask", "tokenizer"};
    tsr_input inputs[3];
    for (int i = 0; i < 3; i++) {
        inputs[i] = (tsr_input){names[i], tsr_batch_tensor(batch, names[i])};
    }
    tsr_tensor *mask = inputs[1].tensor;
    tsr_tensor *x = tsr_cast(inputs[0].tensor, TSR_DTYPE_F64);
    bool was = tsr_recording_set(false);
    x = tsr_backbone_forward(m->backbone, x, &(tsr_backbone_options){.mask = mask});
    x = tsr_linear_forward(m->lm_head, tsr_tokens_patches(x));
    tsr_tensor *tokens = tsr_tokenizer__encode(m->tokenizer, inputs[2].tensor);
    tsr_recording_set(was);
    double sum = 0.0, masked = 0.0, right = 0.0;
    for (int i = 0; i < 8 * 16; i++) {
        if (tsr_tensor_get(mask, i) == 0.0) continue;
        double total = 0.0, largest = -INFINITY;
        int best = -1, token = (int)tsr_tensor_get(tokens, i);
        for (int k = 0; k < 512; k++) {
            double logit = tsr_tensor_get(x, i * 512 + k);
            total += exp(logit);
            if (logit > largest) largest = logit, best = k;
        }
        sum += log(total) - tsr_tensor_get(x, i * 512 + token);
        right += best == token;
        masked++;
    }
    assert_true(masked >= 8 && masked <= 8 * 6); /* 0.3827 of 16 is 6 */
    tsr_step_result r;
    tsr_trainer_step(trainer, inputs, 3, &r);
    assert_ok();
    assert_true(fabs(r.loss - sum / masked) < 1e-9);
    assert_string_equal(r.numbers[0].name, "accuracy");
    assert_true(fabs(r.numbers[0].value - right / masked) < 1e-9);
    tsr_trainer_free(&trainer);
    tsr_loader_close(&loader);
    tsr_dataset_close(&data);
    free(s.options);
}

/* 75 of 196 in blocks of 16 or more, as published. */
static void test_beit__masks_as_many_patches_as_published(void **state)
{
    (void)state;
    struct options o;
    tsr_train_options train;
    tsr_recipe_defaults(&tsr_recipe__beit, &train, &o);
    tsr_build b = {.train = &train, .options = &o};
    tsr_view_spec specs[2];
    assert_int_equal(views(&b, specs, 2), 2);
    tsr_views v = {specs, 2};
    assert_int_equal(tsr_views_check(&v), TSR_STATUS_OK);
    double mean = 0.0;
    int most = 0;
    for (uint32_t i = 0; i < 200; i++) {
        uint8_t mask[196];
        tsr_rng rng = tsr_rng_make(0, 0, i, 0);
        int n = (int)tsr_mask_draw(&specs[0].mask, 0, 14, 14, &rng, mask);
        mean += n / 200.0;
        if (n > most) most = n;
    }
    assert_int_equal(most, 75);
    assert_true(mean > 60.0);
    /* An end of the crop that is not given twice would be another crop. */
    assert_true(specs[1].paired && specs[1].size == 224 && specs[0].mask.patch == 16);
    assert_int_equal(train.batch, 2048);
    assert_true(train.lr == 1.5e-3 && !train.scale_lr && train.beta2 == 0.98 && train.clip_global);
    o.mask_ratio = 0.001;
    assert_int_equal(views(&b, specs, 2), -1);
    assert_failed(TSR_STATUS_ARGUMENT, "--mask-ratio 0.001");
}

static void test_beit__starts_as_the_authors_do(void **state)
{
    (void)state;
    struct setting s = small(&tsr_recipe__beit);
    set(&s, "tokenizer", "color");
    tsr_build b = {.train = &s.train, .options = s.options, .seed = 3};
    tsr_networks n;
    build(&b, &n);
    assert_ok();
    static const struct {
        const char *name;
        double bound;
    } weights[] = {{"backbone.blocks.0.attn.proj.weight", 0.02 / 1.4142135623730951},
                   {"backbone.blocks.1.mlp.fc2.weight", 0.01},
                   {"backbone.blocks.1.attn.qkv.weight", 0.02},
                   {"backbone.patch_embed.proj.weight", 0.02},
                   {"backbone.masked_embed", 0.02},
                   {"lm_head.weight", 0.02}};
    for (size_t k = 0; k < sizeof weights / sizeof weights[0]; k++) {
        tsr_tensor *w = tsr_module_find(n.student, weights[k].name);
        double largest = 0.0;
        for (int64_t i = 0; i < tsr_tensor_numel(w); i++) {
            largest = fmax(largest, fabs(tsr_tensor_get(w, i)));
        }
        assert_true(largest <= weights[k].bound * (1 + 1e-6) && largest > 0.85 * weights[k].bound);
    }
    tsr_tensor *gamma = tsr_module_find(n.student, "backbone.blocks.1.gamma_1");
    assert_true(fabs(tsr_tensor_get(gamma, 5) - 0.1) < 1e-7);
    assert_true(tsr_tensor_get(tsr_module_find(n.student, "backbone.patch_embed.proj.bias"), 3) ==
                0.0);
    tsr_optimizer_parameter p = {.name = "backbone.cls_token", .decays = true};
    group(&n, &p);
    assert_false(p.decays);
    p = (tsr_optimizer_parameter){.name = "backbone.masked_embed", .decays = true};
    group(&n, &p);
    assert_true(p.decays);
    release(&n);
    tsr_module_free(&n.student);
    free(s.options);
}

/* ---- runs ---- */

/* Each kind: at other numbers of threads, and stopped and resumed, the same file; it holds the tokenizer. */
static void test_beit__same_bytes_at_any_number_of_threads_and_after_a_stop(void **state)
{
    (void)state;
    static const char *const kinds[][2] = {
        {"kmeans", ""}, {"color", ""}, {"dvae", "dvae"}, {"prototypes", "ibot"}};
    int threads = tsr_threads();
    for (int k = 0; k < 4; k++) {
        struct setting s = small(&tsr_recipe__beit);
        char whole[64], cut[64], path[TSR_CHECKPOINT_PATH];
        snprintf(whole, sizeof whole, "beit-%s", kinds[k][0]);
        snprintf(cut, sizeof cut, "beit-%s-cut", kinds[k][0]);
        set(&s, "tokenizer", kinds[k][0]);
        if (kinds[k][1][0] != '\0') set(&s, "tokenizer-checkpoint", path_of(kinds[k][1]));
        tsr_threads_set(1);
        run(&s, whole, 0, false);
        assert_ok();
        tsr_threads_set(2);
        run(&s, cut, 5, false);
        assert_ok();
        tsr_threads_set(3);
        run(&s, cut, 0, true);
        assert_ok();
        assert_same_checkpoint(whole, cut);
        tsr_checkpoint *c = tsr_checkpoint_open_run(path_of(whole), path);
        static const char *const held[] = {"state/centers", NULL, "state/output.weight",
                                           "state/head.last_layer2.weight_v"};
        if (held[k] != NULL) assert_non_null(tsr_checkpoint_find(c, held[k]));
        const char *text;
        assert_int_equal(tsr_checkpoint_get_string(c, "option.tokenizer", &text), TSR_STATUS_OK);
        assert_string_equal(text, kinds[k][0]);
        /* It is a checkpoint like any other. */
        tsr_backbone *backbone = tsr_backbone_load(c, NULL);
        assert_non_null(backbone);
        tsr_module_free(&backbone);
        tsr_checkpoint_close(&c);
        free(s.options);
    }
    tsr_threads_set(threads);
}

/* Positions of each kind are in the file, and the backbone that is read from it has them and no others. */
static void test_beit__positions_are_as_asked_and_are_read_back(void **state)
{
    (void)state;
    static const struct {
        const char *relative, *absolute;
    } kinds[] = {{"shared", "false"}, {"blocks", "false"}, {"blocks", "true"}, {"none", "true"}};
    for (int k = 0; k < 4; k++) {
        struct setting s = small(&tsr_recipe__beit);
        char out[64], path[TSR_CHECKPOINT_PATH];
        snprintf(out, sizeof out, "positions-%d", k);
        set(&s, "tokenizer", "color");
        set(&s, "relative-position", kinds[k].relative);
        set(&s, "absolute-position", kinds[k].absolute);
        run(&s, out, 3, false);
        tsr_checkpoint *c = tsr_checkpoint_open_run(path_of(out), path);
        tsr_backbone *backbone = tsr_backbone_load(c, NULL);
        assert_ok();
        const tsr_vit_config *config = &((tsr_vit *)backbone)->config;
        assert_int_equal(config->relative, k == 0   ? TSR_VIT_RELATIVE_SHARED
                                           : k == 3 ? TSR_VIT_RELATIVE_NONE
                                                    : TSR_VIT_RELATIVE_BLOCKS);
        assert_int_equal(config->no_position, k < 2);
        static const char *const tables[] = {
            "student/backbone.rel_pos_bias.relative_position_bias_table",
            "student/backbone.blocks.1.attn.relative_position_bias_table",
            "student/backbone.blocks.1.attn.relative_position_bias_table",
            "student/backbone.pos_embed"};
        tsr_tensor *table = tsr_checkpoint_tensor(c, tables[k]);
        double largest = 0.0; /* it began at 0, and has learnt */
        for (int64_t i = 0; i < tsr_tensor_numel(table); i++)
            largest = fmax(largest, fabs(tsr_tensor_get(table, i)));
        assert_true(largest > 0.0);
        tsr_module_free(&backbone);
        tsr_checkpoint_close(&c);
        free(s.options);
    }
    struct setting s = small(&tsr_recipe__beit);
    set(&s, "relative-position", "none");
    run(&s, "refused", 0, false);
    assert_failed(TSR_STATUS_ARGUMENT, "leaves a vit without positions");
    free(s.options);
}

static void test_beit__options_that_are_paths_read_back(void **state)
{
    (void)state;
    struct options o;
    const tsr_option *option =
        tsr_option_find(option_table, tsr_recipe__beit.n_options, "tokenizer-checkpoint");
    char text[TSR_OPTION_TEXT], *long_path = malloc(TSR_OPTION_TEXT + 1);
    tsr_option_set(option, &o, "/a b/c,d");
    assert_string_equal(tsr_option_text(option, &o, text), "/a b/c,d");
    tsr_option_set(option, &o, "");
    assert_string_equal(tsr_option_text(option, &o, text), "");
    memset(long_path, 'x', TSR_OPTION_TEXT);
    long_path[TSR_OPTION_TEXT] = '\0';
    tsr_option_set(option, &o, long_path);
    assert_failed(TSR_STATUS_ARGUMENT, "--tokenizer-checkpoint: the path is longer than 1023");
    free(long_path);
}

static int make_folder(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/tessera-beit-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(folder) == NULL) return -1;
    make_data();
    train_tokenizers();
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_beit__colors_are_means_of_three_bits),
        tsr_test(test_beit__kmeans_tokens_are_the_nearest_centers),
        tsr_test(test_beit__prototypes_are_the_teachers),
        tsr_test(test_beit__dvae_tokens_are_the_averaged_encoders),
        tsr_test(test_beit__says_what_is_wrong_with_a_checkpoint),
        tsr_test(test_beit__the_loss_is_the_mean_over_masked_patches),
        tsr_test(test_beit__masks_as_many_patches_as_published),
        tsr_test(test_beit__starts_as_the_authors_do),
        tsr_test(test_beit__same_bytes_at_any_number_of_threads_and_after_a_stop),
        tsr_test(test_beit__positions_are_as_asked_and_are_read_back),
        tsr_test(test_beit__options_that_are_paths_read_back),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
