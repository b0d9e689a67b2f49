/*
 * The Tessera side of tests/bench/compare_pytorch.py: does a piece of work once for each line on its standard input and
 * answers with the seconds it took.
 *     bench_compare WORK [FOLDER]
 */
#include "recipes/recipes.h"
#include "tests/bench/bench.h"
#include "tests/bench/classifier.h"

#include <stdlib.h>
#include <string.h>

static classifier *model;

/* ---- a supervised step, inference ---- */

static tsr_status make_vit_s_train(void)
{
    model = classifier_make("vit_small", 16);
    return tsr_status_get();
}

static tsr_status make_vit_b_train(void)
{
    model = classifier_make("vit_base", 8);
    return tsr_status_get();
}

static tsr_status in_bf16(tsr_status made)
{
    return made == TSR_STATUS_OK ? tsr_module_compute_in(&model->vit->module, TSR_DTYPE_BF16)
                                 : made;
}

static tsr_status make_vit_s_train_bf16(void)
{
    return in_bf16(make_vit_s_train());
}

static tsr_status make_vit_b_train_bf16(void)
{
    return in_bf16(make_vit_b_train());
}

static void train(void)
{
    classifier_step(model);
}

static tsr_status make_infer_1(void)
{
    model = classifier_make("vit_small", 1);
    return tsr_status_get();
}

static tsr_status make_infer_32(void)
{
    model = classifier_make("vit_small", 32);
    return tsr_status_get();
}

static void infer(void)
{
    classifier_infer(model);
}

/* ---- a step of iBOT: ViT-S/16, 2 x 224 + 10 x 96, K = 8192, the published options ---- */

static tsr_trainer *trainer;
static tsr_train_options train_options;
static void *recipe_options;
static tsr_build build;
static tsr_tensor *global, *local, *mask;

static tsr_status make_ibot(int64_t batch, int precision)
{
    const tsr_recipe *recipe = tsr_recipe_find("ibot");
    int n;
    const tsr_option *table = tsr_train_option_table(&n);
    tsr_options_default(table, n, &train_options);
    train_options.batch = batch;
    train_options.precision = precision;
    train_options.monitor_every = 0;
    recipe_options = calloc(1, recipe->options_size);
    tsr_options_default(recipe->options, recipe->n_options, recipe_options);
    build = (tsr_build){
        .train = &train_options, .options = recipe_options, .dtype = TSR_DTYPE_F32, .seed = 1};
    trainer = tsr_trainer_make(recipe, &build, 1000);
    global = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(2 * batch, 3, 224, 224));
    local = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(10 * batch, 3, 96, 96));
    mask = tsr_zeros(TSR_DTYPE_U8, TSR_SHAPE(2 * batch, 14, 14));
    tsr_fill_normal(global, tsr_rng_make(1, 0, 0, 0), 0.0, 1.0);
    tsr_fill_normal(local, tsr_rng_make(1, 0, 0, 1), 0.0, 1.0);
    if (mask == NULL) return tsr_status_get();
    /* Every other image is masked, by 30 %: the published recipe's mean. */
    uint8_t *m = tsr_tensor_data_mut(mask);
    for (int64_t image = 0; image < 2 * batch; image += 2) {
        memset(m + image * 196, 1, 59);
    }
    return tsr_status_get();
}

static tsr_status make_ibot_4(void)
{
    return make_ibot(4, TSR_PRECISION_F32);
}

static tsr_status make_ibot_16(void)
{
    return make_ibot(16, TSR_PRECISION_F32);
}

static tsr_status make_ibot_4_bf16(void)
{
    return make_ibot(4, TSR_PRECISION_BF16);
}

static tsr_status make_ibot_16_bf16(void)
{
    return make_ibot(16, TSR_PRECISION_BF16);
}

static void ibot(void)
{
    tsr_step_result result;
    tsr_input inputs[] = {{"global", global}, {"local", local}, {"global.mask", mask}};
    tsr_trainer_step(trainer, inputs, 3, &result);
}

/* ---- a million small ops, forward and backward ---- */

static tsr_tensor *leaf;

static tsr_status make_small_ops(void)
{
    leaf = tsr_full(TSR_DTYPE_F32, TSR_SHAPE(16), 1.0);
    tsr_require_grad(leaf, true);
    return tsr_status_get();
}

static void small_ops(void)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = leaf;
    for (int i = 0; i < 500000; i++) {
        tsr_scope inner = tsr_scope_open();
        x = tsr_mul(tsr_add(x, leaf), leaf);
        tsr_scope_close(&inner, TSR_TENSORS(x));
    }
    tsr_backward(tape, tsr_sum(x, NULL, 0, false), NULL);
    tsr_tensor_set_grad(leaf, NULL);
    tsr_tape_close(&tape);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* ---- iBOT's 2 + 10 crops of each JPEG in a folder, one worker ---- */

static const char *folder;
static tsr_dataset *data;
static tsr_view_spec specs[3];
static tsr_views views = {specs, 3};

static tsr_status make_crops(void)
{
    specs[0] = tsr_view_ibot_global1(224);
    specs[1] = tsr_view_ibot_global2(224);
    specs[2] = tsr_view_ibot_local(96, 10);
    data = tsr_dataset_open(folder, NULL);
    return tsr_status_get();
}

static void crops(void)
{
    tsr_loader_options o = {.batch = 4,
                            .workers = 1,
                            .end_epoch = 1,
                            .min_short_side = tsr_views_min_short_side(&views)};
    tsr_loader *loader = tsr_loader_open_views(data, &views, &o);
    while (tsr_loader_next(loader) != NULL) {}
    tsr_loader_close(&loader);
}

/* ---- what follows backward: clip, AdamW, the teacher's average, ViT-B ---- */

static tsr_module *teacher;

static tsr_status make_update(void)
{
    model = classifier_make("vit_base", 1);
    tsr_vit_config config;
    tsr_vit_config_find("vit_base", &config);
    tsr_vit *vit = tsr_vit_new(&config);
    if (model == NULL || vit == NULL) return tsr_status_get();
    teacher = &vit->module;
    tsr_module_copy(teacher, &model->vit->module, TSR_MATCH_STRICT);
    tsr_module_list *list = tsr_module_parameters(&model->module);
    for (int64_t i = 0; list != NULL && i < list->n; i++) {
        tsr_tensor *t = list->at[i].tensor;
        tsr_tensor_set_grad(t, tsr_full(TSR_DTYPE_F32, tsr_tensor_shape(t), 1e-3));
    }
    tsr_module_list_free(&list);
    return tsr_status_get();
}

static void update(void)
{
    tsr_gradient_norms norms;
    tsr_optimizer_clip(model->optimizer, TSR_CLIP_EACH, 3.0, &norms);
    tsr_optimizer_step(model->optimizer, 1e-4, 0.05);
    tsr_module_ema(teacher, &model->vit->module, 0.996);
}

static const struct work {
    const char *name;
    tsr_status (*make)(void);
    void (*run)(void);
} works[] = {
    {"vit-s-train", make_vit_s_train, train},
    {"vit-b-train", make_vit_b_train, train},
    {"vit-s-train-bf16", make_vit_s_train_bf16, train},
    {"vit-b-train-bf16", make_vit_b_train_bf16, train},
    {"vit-s-train-bf16-compiled", make_vit_s_train_bf16, train},
    {"ibot-4", make_ibot_4, ibot},
    {"ibot-16", make_ibot_16, ibot},
    {"ibot-4-bf16", make_ibot_4_bf16, ibot},
    {"ibot-16-bf16", make_ibot_16_bf16, ibot},
    {"vit-s-infer-1", make_infer_1, infer},
    {"vit-s-infer-32", make_infer_32, infer},
    {"vit-s-infer-1-onnxruntime", make_infer_1, infer},
    {"vit-s-infer-32-onnxruntime", make_infer_32, infer},
    {"small-ops", make_small_ops, small_ops},
    {"crops", make_crops, crops},
    {"update", make_update, update},
};

static int answer(const struct work *work)
{
    char line[16];
    tsr_scope scope = tsr_scope_open();
    if (work->make() == TSR_STATUS_OK) {
        while (tsr_status_get() == TSR_STATUS_OK && fgets(line, sizeof line, stdin) != NULL) {
            double start = bench_seconds();
            work->run();
            printf("%.9f\n", bench_seconds() - start);
            fflush(stdout);
        }
    }
    if (tsr_status_get() != TSR_STATUS_OK) {
        fprintf(stderr, "bench_compare: %s\n", tsr_message());
        return 1;
    }
    classifier_free(&model);
    tsr_trainer_free(&trainer);
    tsr_dataset_close(&data);
    tsr_module_free(&teacher);
    free(recipe_options);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return 0;
}

int main(int argc, char **argv)
{
    folder = argc > 2 ? argv[2] : ".";
    for (size_t i = 0; i < sizeof works / sizeof works[0]; i++) {
        if (argc > 1 && strcmp(argv[1], works[i].name) == 0) return answer(&works[i]);
    }
    fprintf(stderr, "usage: bench_compare WORK [FOLDER]; WORK is one of");
    for (size_t i = 0; i < sizeof works / sizeof works[0]; i++)
        fprintf(stderr, " %s", works[i].name);
    fprintf(stderr, "\n");
    return 2;
}
