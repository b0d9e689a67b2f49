/* --memory-budget: what is chosen stays within the budget, and changes nothing of the result. */
#include "../../test.h"
#include "recipes/train/trial.h"

#include <stdlib.h>
#include <unistd.h>

enum { IMAGES = 32, SIDE = 32, MIB = 1 << 20 };
static const double gib = 1024.0 * MIB;

static char folder[256];

/* What a run said of itself. */
struct heard {
    double loss, gradient;
    int steps, fits;
    double bytes;
    int64_t micro_batch;
    bool recompute;
};

static void progress(const tsr_run_progress *p, void *user)
{
    struct heard *heard = user;
    heard->loss = p->result->loss;
    heard->gradient = p->result->gradient_norm;
    heard->steps++;
}

static void fitted(const tsr_train_options *train, double bytes, void *user)
{
    struct heard *heard = user;
    heard->fits++;
    heard->bytes = bytes;
    heard->micro_batch = train->micro_batch;
    heard->recompute = train->recompute_blocks;
}

static void set(const tsr_option *table, int n, void *options, const char *name, const char *value)
{
    const tsr_option *o = tsr_option_find(table, n, name);
    if (o != NULL) assert_int_equal(tsr_option_set(o, options, value), TSR_STATUS_OK);
}

/* A network small enough for a test, whose activations are many times its parameters. */
static void *options_of(const tsr_recipe *recipe, tsr_train_options *train)
{
    static const char *const choices[][2] = {
        {"image-size", "32"}, {"patch-size", "4"},    {"dim", "48"},
        {"depth", "12"},      {"heads", "3"},         {"epochs", "2"},
        {"batch", "16"},      {"warmup-epochs", "1"}, {"warmup-teacher-temp-epochs", "1"},
        {"out-dim", "32"},    {"head-hidden", "32"},  {"head-bottleneck", "16"},
        {"local-crops", "2"}, {"local-size", "16"},   {"drop-path", "0.2"},
        {"lr", "1e-4"},       {"monitor-every", "0"},
    };
    int n;
    const tsr_option *table = tsr_train_option_table(&n);
    void *options = calloc(1, recipe->options_size);
    tsr_recipe_defaults(recipe, train, options);
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        set(table, n, train, choices[i][0], choices[i][1]);
        set(recipe->options, recipe->n_options, options, choices[i][0], choices[i][1]);
    }
    assert_ok();
    return options;
}

/* A whole run into a directory of its own; the most that tensors took of the system. */
static double run(const char *name, double budget, struct heard *heard)
{
    const tsr_recipe *recipe = tsr_recipe_find("ibot");
    tsr_train_options train;
    void *options = options_of(recipe, &train);
    train.memory_budget = budget;
    char out[512];
    snprintf(out, sizeof out, "%s/%s", folder, name);
    *heard = (struct heard){0};
    tsr_run_options run = {.data = folder, .out = out, .seed = 3, .workers = 1};
    tsr_run_events events = {.user = heard, .fitted = fitted, .progress = progress};
    tsr_pool_trim();
    tsr_run(recipe, &train, options, &run, &events);
    free(options);
    return (double)tsr_pool_stats_get().reserved; /* nothing is given back before the next trim */
}

static void test_budget__a_run_stays_within_it_and_ends_as_without(void **state)
{
    (void)state;
    struct heard free_run, bound;
    double whole = run("free", 0.0, &free_run);
    assert_ok();
    assert_int_equal(free_run.fits, 0);
    assert_int_equal(free_run.steps, 4);
    double budget = 0.5 * whole / gib;
    double taken = run("bound", budget, &bound);
    assert_ok();
    assert_int_equal(bound.fits, 1);
    assert_true(taken < budget * gib);
    assert_true(fabs(taken - bound.bytes) < 0.1 * taken);
    assert_true(bound.micro_batch > 0 && bound.micro_batch < 16);
    assert_int_equal(bound.steps, free_run.steps);
    assert_true(fabs(bound.loss - free_run.loss) < 1e-6 * fabs(free_run.loss));
    assert_true(fabs(bound.gradient - free_run.gradient) < 1e-5 * free_run.gradient);

    char path[512], file[TSR_CHECKPOINT_PATH];
    snprintf(path, sizeof path, "%s/bound", folder);
    tsr_checkpoint *c = tsr_checkpoint_open(tsr_checkpoint_path(path, 4, file));
    const char *text;
    assert_int_equal(tsr_checkpoint_get_string(c, "option.micro-batch", &text), TSR_STATUS_OK);
    assert_int_equal(atoi(text), bound.micro_batch);
    tsr_checkpoint_close(&c);
}

/* From ample to nothing: smaller micro-batches, then blocks recomputed, then a refusal. */
static void test_budget__recomputes_only_where_one_image_does_not_fit(void **state)
{
    (void)state;
    const tsr_recipe *recipe = tsr_recipe_find("ibot");
    tsr_train_options train;
    void *options = options_of(recipe, &train);
    tsr_trial_run of = {.recipe = recipe,
                        .build = {.options = options, .dtype = TSR_DTYPE_F32},
                        .data = tsr_dataset_open(folder, NULL),
                        .workers = 1};
    int64_t last = 17;
    bool recomputed = false;
    int cut = 0, refused = 0;
    double budget = 1.0;
    while (!refused) {
        tsr_train_options fit = train;
        tsr_trial trial;
        fit.memory_budget = budget;
        if (tsr_trial__fit(&of, &fit, &trial) != TSR_STATUS_OK) {
            assert_failed(TSR_STATUS_ARGUMENT, "one image at a time");
            refused++;
            break;
        }
        int64_t micro = fit.micro_batch == 0 ? 16 : fit.micro_batch;
        assert_int_equal(16 % micro, 0);
        assert_true(trial.reserved <= budget * gib);
        if (fit.recompute_blocks == recomputed) assert_true(micro <= last);
        assert_true(fit.recompute_blocks || !recomputed);
        cut += micro < 16 && !fit.recompute_blocks;
        recomputed = fit.recompute_blocks;
        last = micro;
        budget =
            trial.reserved / gib; /* of which 95 % may be taken: too little for what was chosen */
    }
    assert_true(cut > 0 && recomputed && refused);
    tsr_dataset_close(&of.data);
    free(options);
}

static int make_folder(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/tessera-budget-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(folder) == NULL) return -1;
    static uint8_t images[16 + IMAGES * SIDE * SIDE] = {0, 0, 8, 3,    0, 0, 0, IMAGES,
                                                        0, 0, 0, SIDE, 0, 0, 0, SIDE};
    tsr_rng rng = tsr_rng_make(1, 0, 0, 0);
    for (size_t i = 16; i < sizeof images; i++) images[i] = (uint8_t)tsr_rng_below(&rng, 256);
    char path[512];
    snprintf(path, sizeof path, "%s/train-images-idx3-ubyte", folder);
    FILE *f = fopen(path, "wb");
    bool ok = f != NULL && fwrite(images, 1, sizeof images, f) == sizeof images;
    if (f != NULL) fclose(f);
    return ok ? 0 : -1;
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
        tsr_test(test_budget__a_run_stays_within_it_and_ends_as_without),
        tsr_test(test_budget__recomputes_only_where_one_image_does_not_fit),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
