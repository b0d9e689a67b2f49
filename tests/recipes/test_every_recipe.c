/*
 * Every recipe of the library: the same steps when its batch is cut into parts, and the options that several have.
 * A recipe that is added is tested by being in tsr_recipes().
 */
#include "tests/test.h"

#include "recipes/recipes.h"

#include <stdlib.h>

enum { IMAGES = 8, BATCH = 4, STEPS = 3, SIDE = 32, VIEWS = 8, FIELDS = 16 };

/* ---- images of noise, of two classes ---- */

static int64_t count(const void *self)
{
    (void)self;
    return IMAGES;
}

static int64_t classes(const void *self)
{
    (void)self;
    return 2;
}

static int64_t label(const void *self, int64_t i)
{
    (void)self;
    return i % 2;
}

static void name(const void *self, int64_t i, char *buffer, size_t bytes)
{
    (void)self;
    snprintf(buffer, bytes, "noise[%d]", (int)i);
}

static tsr_status load(const void *self, int64_t i, int min_short_side, tsr_image *image,
                       const char **warning)
{
    (void)self;
    (void)min_short_side;
    (void)warning;
    if (tsr_image_resize_storage(image, SIDE, SIDE) != TSR_STATUS_OK) return tsr_status_get();
    tsr_rng rng = tsr_rng_make(7, 0, (uint32_t)i, 0);
    for (int k = 0; k < SIDE * SIDE * 3; k++) image->pixels[k] = (uint8_t)tsr_rng_u32(&rng);
    image->grey = false;
    return TSR_STATUS_OK;
}

static const tsr_dataset_vtable noise = {.kind = "noise",
                                         .count = count,
                                         .classes = classes,
                                         .label = label,
                                         .name = name,
                                         .load = load};

/* ---- a small run of any recipe ---- */

/* What makes it small, where a recipe has the option; the published value of all others. */
static const char *const small[][2] = {
    {"out-dim", "32"},
    {"patch-out-dim", "32"},
    {"head-hidden", "24"},
    {"head-bottleneck", "12"},
    {"local-crops", "2"},
    {"local-size", "16"},
    {"decoder-dim", "16"},
    {"decoder-depth", "1"},
    {"decoder-heads", "2"},
    {"predictor-hidden", "8"},
    {"tokens", "16"},
    {"tokenizer-iterations", "2"},
    {"groups", "2"},
    {"blocks", "1"},
    {"hidden", "8"},
    {"embedding", "6"},
    {"freeze-last-layer", "0"},
    {"warmup-epochs", "0"},
    {"image-size", "32"},
    {"patch-size", "8"},
    {"model", "vit_tiny"},
    {"dim", "24"},
    {"depth", "2"},
    {"heads", "2"},
    {"epochs", "2"},
    {"batch", "4"},
    {"monitor-every", "1"},
};

static void make_options(const tsr_recipe *recipe, tsr_train_options *train, void *options)
{
    int n;
    const tsr_option *table = tsr_train_option_table(&n);
    tsr_recipe_defaults(recipe, train, options);
    for (size_t i = 0; i < sizeof small / sizeof small[0]; i++) {
        const tsr_option *o = tsr_option_find(table, n, small[i][0]);
        if (o != NULL) tsr_option_set(o, train, small[i][1]);
        o = tsr_option_find(recipe->options, recipe->n_options, small[i][0]);
        if (o != NULL) tsr_option_set(o, options, small[i][1]);
    }
    assert_ok();
}

/* A trainer after STEPS steps in f64; NULL where it cannot be made. */
static tsr_trainer *train_small(const tsr_recipe *recipe, tsr_train_options *train,
                                const void *options, double *loss)
{
    tsr_build b = {
        .train = train, .options = options, .dtype = TSR_DTYPE_F64, .seed = 5, .classes = 2};
    tsr_view_spec specs[VIEWS];
    tsr_views views = {specs, recipe->views(&b, specs, VIEWS)};
    tsr_trainer *trainer = tsr_trainer_make(recipe, &b, IMAGES / BATCH);
    if (trainer == NULL) return NULL;
    tsr_dataset *data = tsr_dataset_make(&noise, NULL);
    if (recipe->start != NULL) recipe->start(tsr_trainer_networks(trainer), &b, data);
    tsr_loader *loader = tsr_loader_open_views(
        data, &views, &(tsr_loader_options){.batch = BATCH, .workers = 1, .seed = 5});
    assert_ok();
    for (int step = 0; step < STEPS; step++) {
        const tsr_batch *batch = tsr_loader_next(loader);
        assert_ok();
        tsr_input inputs[FIELDS];
        int n = tsr_batch_field_count(batch);
        for (int i = 0; i < n; i++) {
            const char *field = tsr_batch_field_name(batch, i);
            inputs[i] = (tsr_input){field, tsr_batch_tensor(batch, field)};
        }
        tsr_step_result r;
        tsr_trainer_step(trainer, inputs, n, &r);
        assert_ok();
        loss[step] = r.loss;
    }
    tsr_loader_close(&loader);
    tsr_dataset_close(&data);
    return trainer;
}

static void compare(const char *recipe, const tsr_module *a, const tsr_module *b)
{
    tsr_module_list *x = tsr_module_state(a), *y = tsr_module_state(b);
    for (int64_t i = 0; x != NULL && i < x->n; i++) {
        double largest = 1e-3, worst = 0.0;
        for (int64_t k = 0; k < tsr_tensor_numel(x->at[i].tensor); k++) {
            double p = tsr_tensor_get(x->at[i].tensor, k), q = tsr_tensor_get(y->at[i].tensor, k);
            largest = fmax(largest, fabs(p));
            worst = fmax(worst, fabs(p - q));
        }
        if (!(worst <= 1e-6 * largest)) {
            fail_msg("%s: %s is off by %.3g of %.3g in micro-batches", recipe, x->at[i].name, worst,
                     largest);
        }
    }
    tsr_module_list_free(&x);
    tsr_module_list_free(&y);
}

/* --scale, of every recipe that has it: two numbers, which become the crop's limits. */
static void test_scale__of_every_recipe(void **state)
{
    (void)state;
    int n, with = 0;
    const tsr_recipe *const *recipes = tsr_recipes(&n);
    for (int i = 0; i < n; i++) {
        const tsr_recipe *r = recipes[i];
        const tsr_option *scale = tsr_option_find(r->options, r->n_options, "scale");
        if (scale == NULL) continue;
        tsr_train_options train;
        tsr_view_spec specs[VIEWS];
        void *options = tsr_alloc(r->options_size);
        make_options(r, &train, options);
        tsr_build b = {.train = &train, .options = options, .dtype = TSR_DTYPE_F32, .classes = 2};
        tsr_option_set(scale, options, "0.5,0.75");
        assert_true(r->views(&b, specs, VIEWS) > 0);
        assert_true(specs[0].scale_lo == 0.5 && specs[0].scale_hi == 0.75);
        tsr_option_set(scale, options, "0.5");
        assert_int_equal(r->views(&b, specs, VIEWS), -1);
        assert_failed(TSR_STATUS_ARGUMENT, "--scale is 1 numbers, expected two: from,to");
        tsr_free(options);
        with++;
    }
    assert_int_equal(with, 6);
}

static void test_accumulation__equals_the_batch_for_every_recipe(void **state)
{
    (void)state;
    int n;
    const tsr_recipe *const *recipes = tsr_recipes(&n);
    for (int i = 0; i < n; i++) {
        const tsr_recipe *r = recipes[i];
        tsr_scope scope = tsr_scope_open();
        tsr_train_options train;
        void *options = tsr_alloc(r->options_size);
        make_options(r, &train, options);
        double whole_loss[STEPS], loss[STEPS];
        tsr_trainer *whole = train_small(r, &train, options, whole_loss);
        if (whole == NULL) fail_msg("%s: %s", r->name, tsr_message());
        for (int64_t micro = 1; micro < BATCH; micro *= 2) {
            train.micro_batch = micro;
            tsr_trainer *cut = train_small(r, &train, options, loss);
            if (cut == NULL) fail_msg("%s: %s", r->name, tsr_message());
            for (int step = 0; step < STEPS; step++) {
                if (!(fabs(loss[step] - whole_loss[step]) <= 1e-6 * fabs(whole_loss[step]))) {
                    fail_msg("%s, step %d: loss %.12g, of the batch %.12g", r->name, step,
                             loss[step], whole_loss[step]);
                }
            }
            const tsr_networks *a = tsr_trainer_networks(whole), *b = tsr_trainer_networks(cut);
            compare(r->name, a->student, b->student);
            if (a->teacher != NULL) compare(r->name, a->teacher, b->teacher);
            if (a->state != NULL) compare(r->name, a->state, b->state);
            tsr_trainer_free(&cut);
        }
        tsr_trainer_free(&whole);
        tsr_free(options);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_scale__of_every_recipe),
        tsr_test(test_accumulation__equals_the_batch_for_every_recipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
