/* A batch cut into micro-batches trains as the whole one, also where paths and elements are dropped. */
#include "tests/test.h"

#include "recipes/recipes.h"

#include <stdlib.h>

enum { BATCH = 8, STEPS = 3 };

/* ---- a recipe with every kind of dropping, on two groups of two crops ---- */

struct rates {
    double drop_path, drop, attn_drop;
};

static int no_views(const tsr_build *build, tsr_view_spec *specs, int max)
{
    (void)build, (void)specs, (void)max;
    return 0;
}

static tsr_status build_dropping(const tsr_build *b, tsr_networks *n)
{
    const struct rates *rates = b->options;
    tsr_vit_config vit;
    if (tsr_train_vit_config(b->train, &vit) != TSR_STATUS_OK) return tsr_status_get();
    vit.drop_path = rates->drop_path;
    vit.drop = rates->drop;
    vit.attn_drop = rates->attn_drop;
    vit.dtype = b->dtype;
    tsr_head_config head = {
        .dim = vit.dim, .out_dim = 16, .hidden = 24, .bottleneck = 8, .dtype = b->dtype};
    tsr_multi_crop *student = tsr_multi_crop_new(tsr_vit_new(&vit), tsr_head_new(&head));
    *n = (tsr_networks){.self = student, .feature = "student.backbone"};
    if (student == NULL) return tsr_status_get();
    n->student = &student->module;
    return tsr_module_initialize(n->student, b->seed);
}

static tsr_tensor *mean_square(tsr_tensor *x)
{
    return tsr_mean(tsr_mul(x, x), NULL, 0, false);
}

static tsr_tensor *dropping_loss(const tsr_networks *n, tsr_step *step)
{
    tsr_multi_crop_options options = {.patches = true, .rng = tsr_step_rng(step)};
    tsr_tensors crops = TSR_TENSORS(tsr_step_input(step, "global"), tsr_step_input(step, "local"));
    tsr_multi_crop_output out = tsr_multi_crop_forward(n->self, crops, &options);
    return tsr_add(mean_square(out.cls), mean_square(out.patch));
}

static const tsr_recipe dropping = {.name = "dropping",
                                    .views = no_views,
                                    .build = build_dropping,
                                    .loss = dropping_loss,
                                    .options_size = sizeof(struct rates)};

/* ---- runs ---- */

static void set(tsr_train_options *train, const tsr_recipe *recipe, void *options, const char *name,
                const char *value)
{
    int n;
    const tsr_option *table = tsr_train_option_table(&n), *o = tsr_option_find(table, n, name);
    if (o != NULL) {
        tsr_option_set(o, train, value);
    } else {
        o = tsr_option_find(recipe->options, recipe->n_options, name);
        if (o != NULL) tsr_option_set(o, options, value);
    }
    assert_ok();
}

struct outcome {
    tsr_trainer *trainer; /* after all steps */
    tsr_train_options train;
    void *options;
    double loss[STEPS];
};

static void release(struct outcome *o)
{
    tsr_trainer_free(&o->trainer);
    free(o->options);
    free(o);
}

static tsr_tensor *noise(tsr_dtype dtype, tsr_shape shape, int step, const char *name)
{
    tsr_tensor *t = tsr_empty(dtype, shape);
    tsr_fill_normal(t, tsr_rng_make(3, (uint32_t)step, 0, tsr_rng_purpose(name)), 0.0, 1.0);
    return t;
}

static struct outcome *train(const tsr_recipe *recipe, const void *rates, tsr_dtype dtype,
                             int64_t micro_batch)
{
    static const char *const choices[][2] = {
        {"image-size", "16"}, {"patch-size", "4"},    {"dim", "12"},
        {"depth", "3"},       {"heads", "2"},         {"epochs", "4"},
        {"batch", "8"},       {"warmup-epochs", "0"}, {"monitor-every", "0"},
        {"out-dim", "16"},    {"head-hidden", "24"},  {"head-bottleneck", "8"},
        {"local-crops", "2"}, {"local-size", "8"},    {"drop-path", "0.2"},
        {"lr", "0.01"},       {"clip", "0"},
    };
    int n;
    const tsr_option *table = tsr_train_option_table(&n);
    struct outcome *out = calloc(1, sizeof *out);
    tsr_train_options *o = &out->train;
    void *options = out->options = calloc(1, recipe->options_size);
    tsr_options_default(table, n, o);
    tsr_options_default(recipe->options, recipe->n_options, options);
    if (rates != NULL) memcpy(options, rates, recipe->options_size);
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        set(o, recipe, options, choices[i][0], choices[i][1]);
    }
    if (dtype == TSR_DTYPE_F32) set(o, recipe, options, "optimizer", "sgd");
    o->micro_batch = micro_batch;
    tsr_build build = {.train = o, .options = options, .dtype = dtype, .seed = 5};
    out->trainer = tsr_trainer_make(recipe, &build, STEPS);
    assert_ok();
    for (int step = 0; step < STEPS; step++) {
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *mask = tsr_empty(TSR_DTYPE_U8, TSR_SHAPE(2 * BATCH, 4, 4));
        tsr_fill_bernoulli(mask, tsr_rng_make(4, (uint32_t)step, 0, 0), 0.4);
        tsr_input inputs[] = {
            {"global", noise(dtype, TSR_SHAPE(2 * BATCH, 3, 16, 16), step, "global")},
            {"local", noise(dtype, TSR_SHAPE(2 * BATCH, 3, 8, 8), step, "local")},
            {"global.mask", mask}};
        tsr_step_result r;
        tsr_trainer_step(out->trainer, inputs, 3, &r);
        assert_ok();
        out->loss[step] = r.loss;
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
    return out;
}

static void assert_equal_runs(const struct outcome *a, const struct outcome *b, double tolerance)
{
    for (int i = 0; i < STEPS; i++) {
        if (!(fabs(a->loss[i] - b->loss[i]) <= tolerance * fabs(b->loss[i]))) {
            fail_msg("step %d: loss %.17g, expected %.17g", i, a->loss[i], b->loss[i]);
        }
    }
    tsr_module_list *x = tsr_module_state(tsr_trainer_networks(a->trainer)->student);
    tsr_module_list *y = tsr_module_state(tsr_trainer_networks(b->trainer)->student);
    for (int64_t i = 0; i < y->n; i++) {
        if (tolerance == 0.0) {
            assert_same(x->at[i].tensor, y->at[i].tensor);
        } else {
            assert_close(x->at[i].tensor, y->at[i].tensor, tolerance);
        }
    }
    tsr_module_list_free(&x);
    tsr_module_list_free(&y);
}

static void compare(const tsr_recipe *recipe, const void *rates, tsr_dtype dtype, double tolerance)
{
    struct outcome *whole = train(recipe, rates, dtype, 0);
    for (int64_t micro = 1; micro <= BATCH / 2; micro *= 2) {
        struct outcome *cut = train(recipe, rates, dtype, micro);
        assert_equal_runs(cut, whole, tolerance);
        release(cut);
    }
    release(whole);
}

static const struct rates all = {0.2, 0.1, 0.15};

static void test_trainer__micro_batches_drop_what_the_batch_drops(void **state)
{
    (void)state;
    compare(&dropping, &all, TSR_DTYPE_F64, 1e-10);
    compare(&dropping, &all, TSR_DTYPE_F32, 1e-6);
    compare(&dropping, &(struct rates){.drop_path = 0.2}, TSR_DTYPE_F64, 1e-10);
}

static void test_trainer__micro_batches_of_ibot_drop_the_batchs_paths(void **state)
{
    (void)state;
    const tsr_recipe *ibot = tsr_recipe_find("ibot");
    compare(ibot, NULL, TSR_DTYPE_F64, 1e-10);
    /* AdamW divides a gradient by its own size: rounding of the smallest ones, where products of other shapes take other
     * kernels, reaches the second step's loss in full. */
    compare(ibot, NULL, TSR_DTYPE_F32, 1e-5);
}

/* Each rate takes part: without it the loss is another. */
static void test_trainer__every_rate_counts(void **state)
{
    (void)state;
    const struct rates others[] = {{0.0, 0.1, 0.15}, {0.2, 0.0, 0.15}, {0.2, 0.1, 0.0}};
    struct outcome *base = train(&dropping, &all, TSR_DTYPE_F64, 0);
    for (int i = 0; i < 3; i++) {
        struct outcome *other = train(&dropping, &others[i], TSR_DTYPE_F64, 0);
        assert_true(fabs(other->loss[0] - base->loss[0]) > 1e-6);
        release(other);
    }
    release(base);
}

static void test_trainer__dropping_does_not_depend_on_threads(void **state)
{
    (void)state;
    int were = tsr_threads();
    tsr_threads_set(1);
    struct outcome *one = train(&dropping, &all, TSR_DTYPE_F32, 2);
    for (int threads = 2; threads <= 4; threads += 2) {
        tsr_threads_set(threads);
        struct outcome *several = train(&dropping, &all, TSR_DTYPE_F32, 2);
        assert_equal_runs(several, one, 0.0);
        release(several);
    }
    tsr_threads_set(were);
    release(one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_trainer__micro_batches_drop_what_the_batch_drops),
        tsr_test(test_trainer__micro_batches_of_ibot_drop_the_batchs_paths),
        tsr_test(test_trainer__every_rate_counts),
        tsr_test(test_trainer__dropping_does_not_depend_on_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
