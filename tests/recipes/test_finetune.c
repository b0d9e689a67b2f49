/* Fine-tuning: layer-wise decay, mixup and CutMix by hand and in distribution, what is taken from a checkpoint, whole runs. */
#include "tests/recipes/labelled.h"

/* The recipe's parts are private to it. */
#include "recipes/finetune.c"

#include <sys/stat.h>

#define IBOT                                                                                       \
    "out-dim=16 patch-out-dim=16 head-hidden=20 head-bottleneck=8 local-crops=1 local-size=8 "     \
    "epochs=1 drop-path=0"

/* The run that others start from; made once. */
static const char *pretrained(void)
{
    static labelled l;
    if (l.recipe != NULL) return l.out;
    labelled_open(&l, "ibot", "pretrained", IBOT);
    l.run.stop_after = 3;
    labelled_run(&l);
    assert_ok();
    labelled_close(&l);
    return l.out;
}

static tsr_build build_of(const labelled *l)
{
    return (tsr_build){.train = &l->train,
                       .options = l->options,
                       .dtype = TSR_DTYPE_F32,
                       .seed = 3,
                       .classes = LABELLED_CLASSES};
}

/* ---- layer-wise decay ---- */

struct rate {
    const char *name;
    double scale;
    bool decays;
};

/* Of each parameter that wanted names, in a run with these options. */
static void check_rates(const char *options, const struct rate *wanted, size_t n_wanted)
{
    labelled l;
    labelled_open(&l, "finetune", "none", options);
    tsr_build b = build_of(&l);
    tsr_networks n;
    build(&b, &n);
    assert_ok();
    tsr_module_list *list = tsr_module_parameters(n.student);
    size_t found = 0;
    for (int64_t i = 0; i < list->n; i++) {
        tsr_optimizer_parameter p = {.name = list->at[i].name,
                                     .decays = tsr_module_decays(&list->at[i])};
        group(&n, &p);
        for (size_t k = 0; k < n_wanted; k++) {
            if (strcmp(wanted[k].name, p.name) != 0) continue;
            if (p.lr_scale != wanted[k].scale || p.decays != wanted[k].decays)
                fail_msg("%s: scale %g, decays %d", p.name, p.lr_scale, p.decays);
            found++;
        }
    }
    assert_int_equal(found, n_wanted);
    tsr_module_list_free(&list);
    release(&n);
    tsr_module_free(&n.student);
    labelled_close(&l);
}

static void test_finetune__learning_rates_fall_towards_the_input(void **state)
{
    (void)state;
    static const struct rate vit[] = {
        {"backbone.cls_token", 0.125, false},
        {"backbone.pos_embed", 0.125, false},
        {"backbone.patch_embed.proj.weight", 0.125, true},
        {"backbone.patch_embed.proj.bias", 0.125, false},
        {"backbone.blocks.0.norm1.weight", 0.25, false},
        {"backbone.blocks.0.attn.qkv.weight", 0.25, true},
        {"backbone.blocks.1.mlp.fc2.weight", 0.5, true},
        {"backbone.norm.weight", 1.0, false},
        {"head.weight", 1.0, true},
        {"head.bias", 1.0, false},
        {"projection.weight", 1.0, true},
    };
    check_rates("layer-decay=0.5 projection=6", vit, sizeof vit / sizeof vit[0]);
    /* Blocks 2, 2, 1 and 2 in four stages are layers 1 to 7; 8 is the top. */
    static const struct rate swin[] = {
        {"backbone.patch_embed.proj.weight", 1.0 / 256, true},
        {"backbone.patch_embed.norm.weight", 1.0 / 256, false},
        {"backbone.layers.0.blocks.0.attn.qkv.weight", 1.0 / 128, true},
        {"backbone.layers.0.blocks.1.attn.relative_position_bias_table", 1.0 / 64, false},
        {"backbone.layers.0.downsample.reduction.weight", 1.0 / 64, true},
        {"backbone.layers.0.downsample.norm.bias", 1.0 / 64, false},
        {"backbone.layers.1.blocks.1.mlp.fc1.weight", 1.0 / 16, true},
        {"backbone.layers.2.blocks.0.mlp.fc2.weight", 1.0 / 8, true},
        {"backbone.layers.2.downsample.reduction.weight", 1.0 / 8, true},
        {"backbone.layers.3.blocks.1.attn.proj.weight", 1.0 / 2, true},
        {"backbone.norm.weight", 1.0, false},
        {"head.weight", 1.0, true},
    };
    check_rates("model=swin_tiny patch-size=2 dim=8 depth=7 heads=1 window=2 layer-decay=0.5", swin,
                sizeof swin / sizeof swin[0]);
}

/* From a run of dino, whose network is a small Swin: it is taken, learns, and goes on after a stop. */
static void test_finetune__takes_a_swin(void **state)
{
    (void)state;
#define SWIN "model=swin_tiny patch-size=2 dim=8 depth=7 heads=1 window=2 "
    labelled dino, l;
    labelled_open(&dino, "dino", "swin-dino",
                  SWIN "local-size=16 local-crops=1 out-dim=16 head-hidden=16 head-bottleneck=8");
    dino.run.stop_after = 2;
    labelled_run(&dino);
    assert_ok();
    labelled_open(&l, "finetune", "swin",
                  SWIN "epochs=8 init-scale=1 drop-path=0 rand-magnitude=0 erase=0 mixup=0 "
                       "cutmix=0");
    l.run.init = dino.out;
    l.run.stop_after = 15;
    labelled_run(&l);
    assert_ok();
    l.run.init = NULL;
    l.run.resume = true;
    l.run.stop_after = 0;
    labelled_run(&l);
    assert_ok();
    print_message("validation accuracy %.3f, then %.3f\n", l.first, l.last);
    assert_true(l.last > 0.7);
    labelled_close(&dino);
    labelled_close(&l);
#undef SWIN
}

/* One step of plain gradient descent moves a parameter by lr * scale * gradient: the trainer asks the recipe. */
static void test_finetune__the_trainer_scales_learning_rates(void **state)
{
    (void)state;
    tsr_tensor *moved[2];
    for (int k = 0; k < 2; k++) {
        labelled l;
        labelled_open(
            &l, "finetune", "none",
            "optimizer=sgd lr=1 weight-decay=0 weight-decay-end=0 drop-path=0 warmup-epochs=0 "
            "init-scale=1");
        labelled_set(&l, k == 0 ? "layer-decay=1" : "layer-decay=0.5");
        tsr_build b = build_of(&l);
        tsr_trainer *t = tsr_trainer_make(l.recipe, &b, 10);
        tsr_tensor *images = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(8, 3, 16, 16));
        tsr_fill_normal(images, tsr_rng_make(6, 0, 0, 0), 0.0, 1.0);
        tsr_tensor *labels = tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(8));
        tsr_tensor *w =
            tsr_module_find(tsr_trainer_networks(t)->student, "backbone.blocks.0.mlp.fc1.weight");
        tsr_tensor *before = tsr_affine(tsr_detach(w), 1.0, 0.0);
        tsr_input inputs[] = {{"image", images}, {"label", labels}};
        tsr_step_result r;
        tsr_trainer_step(t, inputs, 2, &r);
        moved[k] = tsr_sub(tsr_detach(w), before);
        assert_ok();
        tsr_trainer_free(&t);
        labelled_close(&l);
    }
    double largest = 0.0;
    for (int64_t i = 0; i < tsr_tensor_numel(moved[0]); i++) {
        double whole = tsr_tensor_get(moved[0], i), scaled = tsr_tensor_get(moved[1], i);
        largest = fmax(largest, fabs(whole));
        assert_true(fabs(scaled - 0.25 * whole) < 1e-7);
    }
    assert_true(largest > 1e-6);
}

/* ---- mixup and CutMix ---- */

/* Of Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)). */
static void test_finetune__shares_are_beta_distributed(void **state)
{
    (void)state;
    enum { N = 40000 };
    static const double as[] = {0.2, 0.8, 1.0, 4.0};
    for (int k = 0; k < 4; k++) {
        double sum = 0.0, square = 0.0;
        tsr_rng rng = tsr_rng_make(1, 0, (uint32_t)k, 0);
        for (int i = 0; i < N; i++) {
            double x = draw_beta(as[k], &rng);
            assert_true(x >= 0.0 && x <= 1.0);
            sum += x - 0.5;
            square += (x - 0.5) * (x - 0.5);
        }
        double variance = 1.0 / (4.0 * (2.0 * as[k] + 1.0));
        assert_true(fabs(sum / N) < 5.0 * sqrt(variance / N));
        assert_true(fabs(square / N / variance - 1.0) < 0.05);
    }
}

/* Half of the batches by CutMix; the share is exactly what the rectangle leaves; sides near sqrt(1 - lambda). */
static void test_finetune__batches_are_mixed_as_asked(void **state)
{
    (void)state;
    enum { N = 20000 };
    struct options o = {.mixup = 0.8, .cutmix = 1.0, .mix_p = 1.0, .switch_p = 0.5};
    tsr_rng rng = tsr_rng_make(2, 0, 0, 0);
    int cut = 0, corners = 0;
    for (int i = 0; i < N; i++) {
        struct mix m = draw_mix(&o, 20, 30, &rng);
        if (!m.cut) continue;
        cut++;
        assert_true(m.top >= 0 && m.top <= m.bottom && m.bottom <= 20);
        assert_true(m.left >= 0 && m.left <= m.right && m.right <= 30);
        int64_t area = (m.bottom - m.top) * (m.right - m.left);
        assert_true(fabs(m.share - (1.0 - (double)area / 600.0)) < 1e-12);
        corners += m.top == 0 && m.left == 0;
    }
    assert_true(abs(cut - N / 2) < 5 * 71);
    assert_true(corners > cut / 20); /* rectangles are cut off at the border */
    o.switch_p = 1.0;
    o.mix_p = 0.25;
    int mixed = 0;
    for (int i = 0; i < N; i++) mixed += draw_mix(&o, 20, 30, &rng).cut;
    assert_true(abs(mixed - N / 4) < 5 * 62);
    o.mix_p = 1.0;
    o.cutmix = 0.0; /* mixup alone, whatever the switch says */
    for (int i = 0; i < 100; i++) assert_false(draw_mix(&o, 20, 30, &rng).cut);
    o.mixup = 0.0;
    for (int i = 0; i < 100; i++) assert_true(draw_mix(&o, 20, 30, &rng).share == 1.0);
}

static void test_finetune__images_meet_those_from_the_other_end(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(3, 3, 4, 5));
    tsr_fill_normal(x, tsr_rng_make(3, 0, 0, 0), 0.0, 1.0);
    tsr_tensor *blended = mix_images(x, &(struct mix){.share = 0.75});
    tsr_tensor *cut = mix_images(
        x, &(struct mix){.cut = true, .share = 0.8, .top = 1, .bottom = 3, .left = 2, .right = 4});
    for (int64_t i = 0; i < 3; i++) {
        for (int64_t k = 0; k < 60; k++) {
            double own = tsr_tensor_get(x, i * 60 + k), other = tsr_tensor_get(x, (2 - i) * 60 + k);
            int64_t row = k / 5 % 4, column = k % 5;
            bool inside = row >= 1 && row < 3 && column >= 2 && column < 4;
            assert_true(fabs(tsr_tensor_get(blended, i * 60 + k) - (0.75 * own + 0.25 * other)) <
                        1e-6);
            assert_true(tsr_tensor_get(cut, i * 60 + k) == (inside ? other : own));
        }
    }
}

/* ---- views ---- */

static void test_finetune__options_reach_the_views(void **state)
{
    (void)state;
    labelled l;
    labelled_open(&l, "finetune", "none", "");
    tsr_build b = build_of(&l);
    tsr_view_spec spec;
    assert_int_equal(views(&b, &spec, 1), 1);
    assert_int_equal(spec.rand_layers, 2);
    assert_true(spec.rand_magnitude == 9.0 && spec.rand_deviation == 0.5 && spec.erase_p == 0.25);
    labelled_set(&l, "rand-magnitude=0 erase=0");
    views(&b, &spec, 1);
    assert_true(spec.rand_layers == 0 && spec.erase_p == 0.0);
    evaluation_views(&b, &spec, 1);
    assert_int_equal(spec.interpolation, TSR_RESAMPLE_BILINEAR);
    labelled_set(&l, "image-size=224");
    evaluation_views(&b, &spec, 1);
    assert_int_equal(spec.resize_short, 256);
    labelled_set(&l, "image-size=384");
    evaluation_views(&b, &spec, 1);
    assert_int_equal(spec.resize_short, 384);
    labelled_close(&l);
}

/* ---- what is taken from a checkpoint ---- */

struct taken {
    labelled l;
    const char *weights;
    bool looked;
};

static void look_at_start(const tsr_trainer *trainer, const tsr_dataset *data, int64_t at,
                          void *user)
{
    (void)data;
    (void)at;
    struct taken *t = user;
    const struct finetune *f = tsr_trainer_networks(trainer)->self;
    const tsr_module *networks[] = {&f->student->module, &f->average->module};
    char path[TSR_CHECKPOINT_PATH], name[128];
    tsr_scope scope = tsr_scope_open();
    tsr_checkpoint *c = tsr_checkpoint_open_run(pretrained(), path);
    for (int k = 0; k < 2; k++) {
        snprintf(name, sizeof name, "%s/backbone.blocks.1.attn.qkv.weight", t->weights);
        assert_same(tsr_module_find(networks[k], "backbone.blocks.1.attn.qkv.weight"),
                    tsr_checkpoint_tensor(c, name));
        snprintf(name, sizeof name, "%s/backbone.pos_embed", t->weights);
        tsr_tensor *position = tsr_checkpoint_tensor(c, name);
        tsr_tensor *mine = tsr_detach(tsr_module_find(networks[k], "backbone.pos_embed"));
        assert_same(mine, tsr_vit_resize_position(position, 4, 6, 6, TSR_POSITION_SIZE));
        tsr_tensor *offset = tsr_vit_resize_position(position, 4, 6, 6, TSR_POSITION_OFFSET);
        assert_true(fabs(tsr_tensor_get(mine, 24 + 24 * 7) - tsr_tensor_get(offset, 24 + 24 * 7)) >
                    1e-7);
        snprintf(name, sizeof name, "%s/head.mlp.0.bias", t->weights);
        assert_same(tsr_module_find(networks[k], "projection.bias"),
                    tsr_checkpoint_tensor(c, name));
        /* N(0, 0.02^2) times 0.001 */
        tsr_tensor *head = tsr_module_find(networks[k], "head.weight");
        double largest = 0.0;
        for (int64_t i = 0; i < tsr_tensor_numel(head); i++)
            largest = fmax(largest, fabs(tsr_tensor_get(head, i)));
        assert_true(largest > 2e-5 && largest < 1e-4);
    }
    assert_ok();
    t->looked = true;
    tsr_checkpoint_close(&c);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_finetune__takes_backbone_and_projection(void **state)
{
    (void)state;
    static const char *const weights[] = {"teacher", "student"};
    for (int k = 0; k < 2; k++) {
        struct taken t = {.weights = weights[k]};
        char out[32];
        snprintf(out, sizeof out, "taken-%s", weights[k]);
        labelled_open(&t.l, "finetune", out, "image-size=24 projection=20 average=true");
        t.l.run.init = pretrained();
        t.l.run.init_weights = k == 0 ? NULL : weights[k]; /* the teacher's by default */
        t.l.run.stop_after = 1;
        const tsr_run_events events = {.user = &t, .started = look_at_start};
        tsr_run(t.l.recipe, &t.l.train, t.l.options, &t.l.run, &events);
        assert_ok();
        assert_true(t.looked);
        labelled_close(&t.l);
    }
}

/* Relative positions, LayerScale and no position embedding, of BEiT: of another size too, and after a stop. */
static void test_finetune__has_the_shape_of_its_checkpoint(void **state)
{
    (void)state;
    static const char *const kinds[][2] = {{"shared", "backbone.rel_pos_bias"},
                                           {"blocks", "backbone.blocks.1.attn"}};
    for (int k = 0; k < 2; k++) {
        labelled beit, l;
        char text[160], name[128], path[TSR_CHECKPOINT_PATH];
        snprintf(text, sizeof text, "tokenizer=color relative-position=%s lr=0.01", kinds[k][0]);
        labelled_open(&beit, "beit", kinds[k][0], text);
        beit.run.stop_after = 3;
        labelled_run(&beit);
        snprintf(name, sizeof name, "tuned-%s", kinds[k][0]);
        labelled_open(&l, "finetune", name, k == 0 ? "" : "image-size=24");
        l.run.init = beit.out;
        l.run.stop_after = 1;
        labelled_run(&l);
        l.run.init = NULL;
        l.run.resume = true;
        l.run.stop_after = 2;
        labelled_run(&l);
        assert_ok();
        tsr_checkpoint *c = tsr_checkpoint_open_run(l.out, path);
        snprintf(name, sizeof name, "student/%s.relative_position_bias_table", kinds[k][1]);
        assert_non_null(tsr_checkpoint_find(c, name));
        assert_non_null(tsr_checkpoint_find(c, "student/backbone.blocks.0.gamma_1"));
        assert_null(tsr_checkpoint_find(c, "student/backbone.pos_embed"));
        tsr_backbone *tuned = tsr_backbone_load(c, NULL);
        assert_ok();
        assert_int_equal(tuned->image_size, k == 0 ? 16 : 24);
        tsr_module_free(&tuned);
        tsr_checkpoint_close(&c);
        labelled_close(&beit);
        labelled_close(&l);
    }
}

static void test_finetune__refuses_what_does_not_fit(void **state)
{
    (void)state;
    static const struct {
        const char *options, *message;
    } cases[] = {
        {"dim=32", "cls_token [1, 1, 24], this run's [1, 1, 32]"},
        {"projection=21", "head.mlp.0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        labelled l;
        labelled_open(&l, "finetune", "refused", cases[i].options);
        l.run.init = pretrained();
        labelled_run(&l);
        assert_failed(tsr_status_get(), cases[i].message);
        labelled_close(&l);
        tsr_status_clear();
    }
    labelled s, l;
    labelled_open(&s, "supervised", "headless", "epochs=1");
    labelled_run(&s);
    labelled_open(&l, "finetune", "refused", "projection=20");
    l.run.init = s.out;
    labelled_run(&l);
    assert_failed(TSR_STATUS_ARGUMENT, "the checkpoint has no projection head");
    labelled_close(&s);
    labelled_close(&l);
}

/* ---- whole runs ---- */

#define CALM "epochs=12 init-scale=1 drop-path=0 rand-magnitude=0 erase=0 "

/* With and without mixing, from either pooling, the average too. */
static void test_finetune__learns_and_measures_itself(void **state)
{
    (void)state;
    static const char *const options[] = {
        CALM "mixup=0 cutmix=0", CALM "pooling=mean",
        CALM "average=true momentum-teacher=0.9 momentum-teacher-end=0.9 projection=20 lr=1e-2 "
             "mixup=0 cutmix=0"};
    for (int i = 0; i < 3; i++) {
        labelled l;
        char out[32];
        snprintf(out, sizeof out, "learnt-%d", i);
        labelled_open(&l, "finetune", out, options[i]);
        l.run.init = pretrained();
        l.watched = i < 2 ? "accuracy" : "average_accuracy";
        labelled_run(&l);
        assert_ok();
        print_message("%d: validation accuracy %.3f, then %.3f\n", i, l.first, l.last);
        assert_int_equal(l.evaluations, 12);
        assert_true(l.last > 0.7);
        assert_true(labelled_logged(&l, "\"val_accuracy\""));
        assert_int_equal(labelled_logged(&l, "\"val_average_accuracy\""), i == 2);
        labelled_close(&l);
    }
}

static void test_finetune__same_bytes_however_it_runs(void **state)
{
    (void)state;
    labelled one, two;
    int threads = tsr_threads();
    const char *options = "average=true micro-batch=4 projection=20";
    tsr_threads_set(1);
    labelled_open(&one, "finetune", "one", options);
    one.run.init = pretrained();
    labelled_run(&one);
    tsr_threads_set(2);
    labelled_open(&two, "finetune", "two", options);
    two.run.init = pretrained();
    two.run.workers = 3;
    two.run.stop_after = 13;
    labelled_run(&two);
    two.run.init = NULL;
    two.run.stop_after = 0;
    two.run.resume = true;
    labelled_run(&two);
    assert_ok();
    assert_same_runs(&one, &two);
    tsr_threads_set(threads);
    labelled_close(&one);
    labelled_close(&two);
}

/* ---- real images: the first of Fashion-MNIST, where Debian's dataset-fashion-mnist is installed ---- */

enum { REAL = 2000, REAL_SIDE = 28 };

static void copy_real(const char *part, const char *to)
{
    static uint8_t images[REAL * REAL_SIDE * REAL_SIDE], labels[REAL];
    tsr_dataset *data = tsr_dataset_open("/usr/share/datasets/fashion-mnist", part);
    tsr_image image = {0};
    for (int i = 0; i < REAL; i++) {
        tsr_dataset_load(data, i, 0, &image, NULL);
        labels[i] = (uint8_t)tsr_dataset_label(data, i);
        for (int p = 0; p < REAL_SIDE * REAL_SIDE; p++)
            images[i * REAL_SIDE * REAL_SIDE + p] = image.pixels[3 * p];
    }
    assert_ok();
    tsr_image_free(&image);
    tsr_dataset_close(&data);
    write_idx_part(to, images, labels, REAL, REAL_SIDE);
}

/* A few epochs of masked autoencoding, then of fine-tuning with mixup and CutMix. */
static void test_finetune__improves_on_real_images(void **state)
{
    (void)state;
    if (access("/usr/share/datasets/fashion-mnist", R_OK) != 0) skip();
    char real[300];
    snprintf(real, sizeof real, "%s/fashion", folder);
    assert_int_equal(mkdir(real, 0777), 0);
    copy_real("train", "fashion/train");
    copy_real("test", "fashion/t10k");
#define REAL_SHAPE "image-size=28 patch-size=7 dim=48 depth=2 heads=3 batch=40 "
    labelled mae, l;
    labelled_open(&mae, "mae", "real-mae",
                  REAL_SHAPE "epochs=3 decoder-dim=16 decoder-depth=1 decoder-heads=2");
    mae.run.data = real;
    labelled_run(&mae);
    labelled_open(&l, "finetune", "real",
                  REAL_SHAPE "epochs=10 drop-path=0 init-scale=1 lr=2e-3 layer-decay=1 "
                             "pooling=mean rand-magnitude=0 erase=0");
    l.run.data = real;
    l.run.init = mae.out;
    labelled_run(&l);
    assert_ok();
    print_message("validation accuracy %.3f after an epoch, then %.3f\n", l.first, l.last);
    assert_true(l.last > l.first + 0.1 && l.last > 0.3); /* chance: 0.1 */
    labelled_close(&mae);
    labelled_close(&l);
#undef REAL_SHAPE
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_finetune__learning_rates_fall_towards_the_input),
        tsr_test(test_finetune__takes_a_swin),
        tsr_test(test_finetune__the_trainer_scales_learning_rates),
        tsr_test(test_finetune__shares_are_beta_distributed),
        tsr_test(test_finetune__batches_are_mixed_as_asked),
        tsr_test(test_finetune__images_meet_those_from_the_other_end),
        tsr_test(test_finetune__options_reach_the_views),
        tsr_test(test_finetune__takes_backbone_and_projection),
        tsr_test(test_finetune__has_the_shape_of_its_checkpoint),
        tsr_test(test_finetune__refuses_what_does_not_fit),
        tsr_test(test_finetune__learns_and_measures_itself),
        tsr_test(test_finetune__same_bytes_however_it_runs),
        tsr_test(test_finetune__improves_on_real_images),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
