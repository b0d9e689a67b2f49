#include "recipes/train/trial.h"

#include "ops/gemm.h"

#include <inttypes.h>
#include <time.h>

enum { VIEWS = 8, FIELDS = 16 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static tsr_status one_step(tsr_trainer *trainer, tsr_loader *loader)
{
    const tsr_batch *batch = tsr_loader_next(loader);
    if (batch == NULL) return tsr_status_get();
    tsr_scope scope = tsr_scope_open();
    tsr_input inputs[FIELDS];
    tsr_step_result result;
    int n = 0;
    for (int i = 0; i < tsr_batch_field_count(batch) && n < FIELDS; i++, n++) {
        const char *name = tsr_batch_field_name(batch, i);
        inputs[n] = (tsr_input){name, tsr_batch_tensor(batch, name)};
    }
    tsr_trainer_step(trainer, inputs, n, &result);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_status_get();
}

/* The first step fills the pool; those after it tell the time, unless it took very long. */
static tsr_status take_steps(tsr_trainer *trainer, tsr_loader *loader, bool timed, tsr_trial *t)
{
    double start = now();
    int64_t products = tsr__gemm_count();
    if (one_step(trainer, loader) != TSR_STATUS_OK) return tsr_status_get();
    t->products = (double)(tsr__gemm_count() - products);
    t->seconds = now() - start;
    if (!timed || t->seconds > 30.0) return TSR_STATUS_OK;
    start = now();
    int steps = 0;
    double elapsed = 0.0;
    while (steps < 4 && (steps == 0 || elapsed < 5.0)) {
        if (one_step(trainer, loader) != TSR_STATUS_OK) return tsr_status_get();
        steps++;
        elapsed = now() - start;
    }
    t->seconds = elapsed / steps;
    return TSR_STATUS_OK;
}

static void count_state(const tsr_networks *n, const tsr_train_options *train, tsr_trial *t)
{
    t->student = tsr_module_count(n->student);
    t->teacher = n->teacher != NULL ? tsr_module_count(n->teacher) : 0;
    int moments = train->optimizer == TSR_OPTIMIZER_ADAMW ? 2 : 1;
    t->state = (double)(t->student * (2 + moments) + t->teacher) * 4.0;
}

/* What the loader holds for each image of a batch: a batch of two against one of one. 0 where there is but one image. */
static double bytes_of_image(const tsr_trial_run *run, const tsr_views *views,
                             const tsr_loader_options *options)
{
    double held[2];
    if (tsr_dataset_count(run->data) < 2) return 0.0;
    for (int k = 0; k < 2; k++) {
        tsr_loader_options o = *options;
        o.batch = k + 1;
        size_t before = tsr_pool_stats_get().in_use;
        tsr_loader *loader = tsr_loader_open_views(run->data, views, &o);
        held[k] = (double)tsr_pool_stats_get().in_use - (double)before;
        tsr_loader_close(&loader);
    }
    return held[1] > held[0] ? held[1] - held[0] : 0.0;
}

tsr_status tsr_trial__run(const tsr_trial_run *run, const tsr_train_options *train, bool timed,
                          tsr_trial *t)
{
    *t = (tsr_trial){0};
    tsr_build build = run->build;
    build.train = train;
    tsr_view_spec specs[VIEWS];
    tsr_views views = {specs, run->recipe->views(&build, specs, VIEWS)};
    if (views.n < 0 || tsr_views_check(&views) != TSR_STATUS_OK) return tsr_status_get();
    tsr_loader_options options = {.batch = train->batch,
                                  .workers = (int)run->workers,
                                  .seed = build.seed,
                                  .min_short_side = tsr_views_min_short_side(&views)};
    tsr_scope scope = tsr_scope_open();
    tsr_pool_trim();
    tsr_pool_peak_reset();
    size_t before = tsr_pool_stats_get().in_use;
    tsr_trainer *trainer = tsr_trainer_make(run->recipe, &build, 1000000);
    t->image = trainer != NULL ? bytes_of_image(run, &views, &options) : 0.0;
    tsr_loader *loader =
        trainer != NULL ? tsr_loader_open_views(run->data, &views, &options) : NULL;
    if (loader != NULL) {
        count_state(tsr_trainer_networks(trainer), train, t);
        take_steps(trainer, loader, timed, t);
        t->bytes = (double)(tsr_pool_stats_get().peak - before);
        t->reserved = (double)tsr_pool_stats_get().reserved;
    }
    tsr_loader_close(&loader);
    tsr_trainer_free(&trainer);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    tsr_pool_trim();
    return tsr_status_get();
}

/* ---- fitting ---- */

/* A step of two micro-batches, so that gradients are added up as they will be, or of the whole batch. What the loader holds
 * of the other images is added. */
static tsr_status try_micro(const tsr_trial_run *run, const tsr_train_options *train, int64_t micro,
                            bool recompute, tsr_trial *t)
{
    tsr_train_options part = *train;
    part.recompute_blocks = recompute;
    part.micro_batch = micro < train->batch ? micro : 0;
    part.batch = micro < train->batch ? 2 * micro : micro;
    if (tsr_trial__run(run, &part, false, t) != TSR_STATUS_OK) return tsr_status_get();
    t->reserved += (double)(train->batch - part.batch) * t->image;
    return TSR_STATUS_OK;
}

/* The largest divisor of n up to most; 1 at least. */
static int64_t divisor(int64_t n, int64_t most)
{
    int64_t d = most < n ? most : n;
    while (d > 1 && n % d != 0) d--;
    return d > 1 ? d : 1;
}

static int64_t next_divisor(int64_t n, int64_t above)
{
    int64_t d = above + 1;
    while (d < n && n % d != 0) d++;
    return d;
}

/* The micro-batch that fits, 0 if none does; *t is of it, or of the smallest. */
static int64_t fit_micro(const tsr_trial_run *run, const tsr_train_options *train, double allowed,
                         bool recompute, tsr_trial *t)
{
    int64_t n = train->batch, most = train->micro_batch > 0 ? train->micro_batch : n;
    if (try_micro(run, train, 1, recompute, t) != TSR_STATUS_OK) {
        /* A recipe whose batch cannot be cut, or a real mistake, which then comes up again. */
        if (n == 1 || most < n || tsr_status_get() != TSR_STATUS_ARGUMENT) return 0;
        tsr_status_clear();
        if (try_micro(run, train, n, recompute, t) != TSR_STATUS_OK) return 0;
        return t->reserved <= allowed ? n : 0;
    }
    if (t->reserved > allowed) return 0;
    tsr_trial two;
    int64_t second = next_divisor(n, 1), fits = 1;
    /* Before a step of many images (a batch with few divisors), what it would come to at most. */
    bool far = second > 4 && t->reserved + (double)(second - 1) * (t->bytes - t->state) > allowed;
    if (second > most || far) return 1;
    if (try_micro(run, train, second, recompute, &two) != TSR_STATUS_OK) return 0;
    if (two.reserved > allowed) return 1;
    double slope = (two.reserved - t->reserved) / (double)(second - 1);
    double room = slope > 0.0 ? (allowed - t->reserved) / slope : (double)most;
    fits = second;
    tsr_trial last = two;
    int64_t guess = divisor(n, room < (double)(most - 1) ? 1 + (int64_t)room : most);
    for (; guess > second; guess = divisor(n, guess - 1)) {
        if (try_micro(run, train, guess, recompute, &last) != TSR_STATUS_OK) return 0;
        if (last.reserved <= allowed) {
            fits = guess;
            break;
        }
    }
    *t = fits > second ? last : two;
    return fits;
}

tsr_status tsr_trial__fit(const tsr_trial_run *run, tsr_train_options *train, tsr_trial *trial)
{
    const double gib = 1024.0 * 1024.0 * 1024.0;
    /* A twentieth is for the program itself and what steps do not do, such as writing checkpoints. */
    double allowed = 0.95 * train->memory_budget * gib;
    bool recompute = train->recompute_blocks;
    int64_t micro = fit_micro(run, train, allowed, recompute, trial);
    if (micro == 0 && tsr_status_get() == TSR_STATUS_OK && !recompute &&
        !tsr_train_is_swin(train)) {
        recompute = true;
        micro = fit_micro(run, train, allowed, recompute, trial);
    }
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    if (micro == 0) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "--memory-budget %g: one image at a time%s wants "
                        "%.3g GiB, of which the images of --batch %" PRId64
                        " take %.3g; take a smaller --model, --batch or larger budget",
                        train->memory_budget, recompute ? ", with blocks recomputed," : "",
                        trial->reserved / 0.95 / gib, train->batch,
                        (double)train->batch * trial->image / gib);
    }
    train->micro_batch = micro < train->batch ? micro : 0;
    train->recompute_blocks = recompute;
    return TSR_STATUS_OK;
}
