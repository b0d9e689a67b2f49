/* The loop around the trainer. */
#include "recipes/recipes.h"
#include "recipes/train/log.h"
#include "recipes/train/trial.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { VIEWS = 8, FIELDS = 16, NUMBERS = 64 };

struct run {
    const tsr_recipe *recipe;
    tsr_train_options train_options; /* as given, and fitted to its budget of memory */
    const tsr_train_options *train;
    const void *recipe_options;
    const tsr_run_options *options;
    const tsr_run_events *events;
    tsr_build build;
    tsr_view_spec specs[VIEWS];
    tsr_views views;
    struct tsr_run_data data;
    tsr_view_spec test_specs[VIEWS];
    tsr_views test_views;
    tsr_dataset *test; /* what the recipe evaluates on; NULL: nothing */
    tsr_loader *loader;
    tsr_checkpoint *from; /* what the run goes on with, or takes weights from; NULL: neither */
    tsr_trainer *trainer;
    tsr_run_log *log;
    int64_t steps_per_epoch, steps;
    double seconds_per_step; /* smoothed; 0 at first */
    int64_t looks;           /* of the monitor that were logged */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- checkpoints ---- */

static tsr_status put_options(tsr_checkpoint_writer *w, const tsr_option *table, int n,
                              const void *options)
{
    for (int i = 0; i < n; i++) {
        char key[96], text[TSR_OPTION_TEXT];
        snprintf(key, sizeof key, "option.%s", table[i].name);
        tsr_checkpoint_put_string(w, key, tsr_option_text(&table[i], options, text));
    }
    return tsr_status_get();
}

/* Which part of the images is trained on, where it is not all of them. */
static tsr_status put_part(tsr_checkpoint_writer *w, const tsr_run_options *o)
{
    if (o->label_fraction > 0.0) tsr_checkpoint_put_double(w, "label_fraction", o->label_fraction);
    if (o->label_list != NULL) tsr_checkpoint_put_string(w, "label_list", o->label_list);
    return tsr_status_get();
}

static tsr_status check_part(const tsr_checkpoint *c, const tsr_run_options *o)
{
    double fraction = 0.0;
    const char *list = NULL;
    if (tsr_checkpoint_value_find(c, "label_fraction") != NULL)
        tsr_checkpoint_get_double(c, "label_fraction", &fraction);
    if (tsr_checkpoint_value_find(c, "label_list") != NULL)
        tsr_checkpoint_get_string(c, "label_list", &list);
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    bool same_list = list == NULL || o->label_list == NULL ? list == o->label_list
                                                           : strcmp(list, o->label_list) == 0;
    if (fraction == o->label_fraction && same_list) return TSR_STATUS_OK;
    return tsr_fail(TSR_STATUS_ARGUMENT,
                    "resume: the run has label fraction %g and label list %s, this one %g and %s",
                    fraction, list != NULL ? list : "none", o->label_fraction,
                    o->label_list != NULL ? o->label_list : "none");
}

static tsr_status save(struct run *run)
{
    char path[TSR_CHECKPOINT_PATH];
    int64_t step = tsr_trainer_position(run->trainer);
    int n;
    const tsr_option *table = tsr_train_option_table(&n);
    if (tsr_checkpoint_path(run->options->out, step, path) == NULL) return tsr_status_get();
    tsr_checkpoint_writer *w = tsr_checkpoint_create(path);
    if (w == NULL) return tsr_status_get();
    put_options(w, table, n, run->train);
    put_options(w, run->recipe->options, run->recipe->n_options, run->recipe_options);
    if (tsr_status_get() == TSR_STATUS_OK) tsr_checkpoint_put_string(w, "data", run->options->data);
    if (tsr_status_get() == TSR_STATUS_OK) put_part(w, run->options);
    if (tsr_status_get() == TSR_STATUS_OK) tsr_trainer_save(run->trainer, w);
    if (tsr_status_get() != TSR_STATUS_OK || tsr_checkpoint_commit(&w) != TSR_STATUS_OK) {
        tsr_checkpoint_abandon(&w);
        return tsr_status_get();
    }
    tsr_checkpoint_prune(run->options->out, run->options->keep > 0 ? (int)run->options->keep : 2);
    if (run->events->saved != NULL) run->events->saved(path, run->events->user);
    return tsr_status_get();
}

static tsr_checkpoint *open_latest(const char *out)
{
    char path[TSR_CHECKPOINT_PATH];
    int64_t step;
    if (tsr_checkpoint_latest(out, &step) != TSR_STATUS_OK) return NULL;
    if (step < 0) {
        tsr_fail(TSR_STATUS_ARGUMENT, "resume: no checkpoint in %s", out);
        return NULL;
    }
    return tsr_checkpoint_open(tsr_checkpoint_path(out, step, path));
}

static tsr_status resume(struct run *run)
{
    if (check_part(run->from, run->options) == TSR_STATUS_OK)
        tsr_trainer_load(run->trainer, run->from);
    return tsr_status_get();
}

/* ---- opening ---- */

static tsr_status make_out(const char *out)
{
    if (mkdir(out, 0777) == 0 || errno == EEXIST) return TSR_STATUS_OK;
    return tsr_fail(TSR_STATUS_IO, "--out %s: %s", out, strerror(errno));
}

static tsr_status refuse_used_out(const struct run *run)
{
    int64_t step;
    if (tsr_checkpoint_latest(run->options->out, &step) != TSR_STATUS_OK || step < 0) {
        return tsr_status_get();
    }
    return tsr_fail(TSR_STATUS_ARGUMENT,
                    "--out %s holds a run that stands at step %" PRId64
                    ": give --resume to go on with it, or another --out",
                    run->options->out, step);
}

static tsr_status open_loader(struct run *run)
{
    int64_t position = tsr_trainer_position(run->trainer);
    tsr_loader_options o = {.batch = run->train->batch,
                            .workers = (int)run->options->workers,
                            .seed = run->options->seed,
                            .epoch = position / run->steps_per_epoch,
                            .step = position % run->steps_per_epoch,
                            .end_epoch = run->train->epochs,
                            .min_short_side = tsr_views_min_short_side(&run->views)};
    run->loader = tsr_loader_open_views(run->data.used, &run->views, &o);
    return tsr_status_get();
}

tsr_status tsr_run__open_data(const tsr_run_options *o, struct tsr_run_data *data)
{
    *data = (struct tsr_run_data){0};
    if (o->label_fraction != 0.0 && o->label_list != NULL) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "--label-fraction and --label-list: give one of the two");
    }
    data->whole = data->used = tsr_dataset_open(o->data, NULL);
    if (data->whole == NULL) return tsr_status_get();
    if (o->label_fraction != 0.0) {
        data->used = tsr_dataset_label_fraction(data->whole, o->label_fraction, o->seed);
    } else if (o->label_list != NULL) {
        data->used = tsr_dataset_label_list(data->whole, o->label_list);
    }
    return tsr_status_get();
}

void tsr_run__close_data(struct tsr_run_data *data)
{
    if (data->used != data->whole) tsr_dataset_close(&data->used);
    tsr_dataset_close(&data->whole);
}

/* Without such a part a run goes on without evaluation. */
static tsr_status open_test(struct run *run)
{
    if (run->recipe->evaluate == NULL) return TSR_STATUS_OK;
    run->test_views.at = run->test_specs;
    run->test_views.n = run->recipe->evaluation_views(&run->build, run->test_specs, VIEWS);
    if (run->test_views.n < 0 || tsr_views_check(&run->test_views) != TSR_STATUS_OK) {
        return tsr_status_get();
    }
    run->test = tsr_dataset_open(run->options->data, "val");
    if (run->test != NULL && tsr_dataset_classes(run->test) != run->build.classes) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "--data %s: the training part has %" PRId64 " classes, the validation part "
                        "%" PRId64,
                        run->options->data, run->build.classes, tsr_dataset_classes(run->test));
    }
    if (run->test != NULL || tsr_status_get() != TSR_STATUS_ARGUMENT) return tsr_status_get();
    char text[512];
    snprintf(text, sizeof text, "nothing will be measured at the end of epochs: %.400s",
             tsr_message());
    tsr_status_clear();
    if (run->events->warning != NULL) run->events->warning(text, run->events->user);
    return TSR_STATUS_OK;
}

static tsr_status open_from(struct run *run)
{
    char path[TSR_CHECKPOINT_PATH];
    const tsr_run_options *o = run->options;
    if (o->resume) {
        run->from = open_latest(o->out);
    } else if (o->init != NULL) {
        run->from = tsr_checkpoint_open_run(o->init, path);
    }
    run->build.from = run->from;
    run->build.from_weights = o->resume ? NULL : o->init_weights;
    return tsr_status_get();
}

/* The weights that the run begins with. */
static tsr_status adopt(struct run *run)
{
    const char *weights = run->options->init_weights;
    const tsr_networks *n = tsr_trainer_networks(run->trainer);
    if (run->from == NULL) return TSR_STATUS_OK;
    if (run->recipe->adopt != NULL) {
        run->recipe->adopt(n, run->from, weights);
    } else if (tsr_backbone_adopt(n->student, run->train, run->from, weights) == TSR_STATUS_OK &&
               n->teacher != NULL) {
        tsr_backbone_adopt(n->teacher, run->train, run->from, weights);
    }
    return tsr_status_get();
}

/* A resumed run goes on with what was chosen for it. */
static tsr_status fit_memory(struct run *run)
{
    if (run->train->memory_budget == 0.0) return TSR_STATUS_OK;
    tsr_trial_run of = {.recipe = run->recipe,
                        .build = run->build,
                        .data = run->data.used,
                        .workers = run->options->workers};
    tsr_trial trial;
    if (tsr_trial__fit(&of, &run->train_options, &trial) != TSR_STATUS_OK) return tsr_status_get();
    if (run->events->fitted != NULL) {
        run->events->fitted(&run->train_options, trial.reserved, run->events->user);
    }
    return TSR_STATUS_OK;
}

static tsr_status open_run(struct run *run)
{
    const tsr_run_options *o = run->options;
    if (o->data == NULL || o->out == NULL) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "--data and --out are needed: a folder of images, and a "
                        "directory for checkpoints");
    }
    if (tsr_run__open_data(o, &run->data) != TSR_STATUS_OK || open_from(run) != TSR_STATUS_OK) {
        return tsr_status_get();
    }
    run->build.classes = tsr_dataset_classes(run->data.used);
    run->views.n = run->recipe->views(&run->build, run->specs, VIEWS);
    if (run->views.n < 0 || tsr_views_check(&run->views) != TSR_STATUS_OK) return tsr_status_get();
    if (make_out(o->out) != TSR_STATUS_OK) return tsr_status_get();
    run->steps_per_epoch = tsr_dataset_count(run->data.used) / run->train->batch;
    run->steps = run->steps_per_epoch * run->train->epochs;
    if (!o->resume && fit_memory(run) != TSR_STATUS_OK) return tsr_status_get();
    run->trainer = tsr_trainer_make(run->recipe, &run->build, run->steps_per_epoch);
    if (run->trainer == NULL || open_test(run) != TSR_STATUS_OK) return tsr_status_get();
    if ((o->resume ? resume(run) : refuse_used_out(run)) != TSR_STATUS_OK) return tsr_status_get();
    if (!o->resume && adopt(run) != TSR_STATUS_OK) return tsr_status_get();
    if (!o->resume && run->recipe->start != NULL) {
        run->recipe->start(tsr_trainer_networks(run->trainer), &run->build, run->data.used);
        if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    }
    run->looks = tsr_monitor_count(tsr_trainer_monitor(run->trainer));
    run->log = tsr_run_log_open(o->out, tsr_trainer_position(run->trainer));
    if (run->log == NULL) return tsr_status_get();
    return open_loader(run);
}

static void close_run(struct run *run)
{
    tsr_loader_close(&run->loader);
    tsr_run_log_close(&run->log);
    tsr_trainer_free(&run->trainer);
    tsr_checkpoint_close(&run->from);
    tsr_run__close_data(&run->data);
    tsr_dataset_close(&run->test);
}

/* ---- steps ---- */

static tsr_status log_step(struct run *run, const tsr_step_result *r, double images_per_second)
{
    tsr_run_log_number numbers[NUMBERS] = {
        {"loss", r->loss},
        {"lr", r->lr},
        {"weight_decay", r->weight_decay},
        {"momentum_teacher", r->momentum},
        {"gradient_norm", r->gradient_norm},
        {"images_per_second", images_per_second},
    };
    int n = 6;
    for (int i = 0; i < r->n_numbers; i++) {
        numbers[n++] = (tsr_run_log_number){r->numbers[i].name, r->numbers[i].value};
    }
    const tsr_monitor *m = tsr_trainer_monitor(run->trainer);
    if (tsr_monitor_count(m) > run->looks) {
        run->looks = tsr_monitor_count(m);
        const tsr_monitor_look *look = tsr_monitor_at(m, run->looks - 1);
        for (int i = 0; i < look->n && n < NUMBERS; i++) {
            numbers[n++] = (tsr_run_log_number){look->name[i], look->value[i]};
        }
        char text[TSR_MONITOR_WARNING];
        if (tsr_monitor_warning(m, text)[0] != '\0' && run->events->warning != NULL) {
            run->events->warning(text, run->events->user);
        }
    }
    int64_t step = tsr_trainer_position(run->trainer) - 1;
    return tsr_run_log_write(run->log, step, step / run->steps_per_epoch, numbers, n);
}

static tsr_status one_step(struct run *run, double *clock)
{
    const tsr_batch *batch = tsr_loader_next(run->loader);
    if (batch == NULL) return tsr_status_get();
    tsr_scope scope = tsr_scope_open();
    tsr_input inputs[FIELDS];
    tsr_step_result result;
    int n = 0;
    for (int i = 0; i < tsr_batch_field_count(batch) && n < FIELDS; i++, n++) {
        const char *name = tsr_batch_field_name(batch, i);
        inputs[n] = (tsr_input){name, tsr_batch_tensor(batch, name)};
    }
    tsr_trainer_step(run->trainer, inputs, n, &result);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    double t = now(), seconds = t - *clock;
    *clock = t;
    run->seconds_per_step =
        run->seconds_per_step == 0.0 ? seconds : 0.95 * run->seconds_per_step + 0.05 * seconds;
    int64_t position = tsr_trainer_position(run->trainer);
    tsr_run_progress progress = {
        .step = position,
        .steps = run->steps,
        .epoch = position / run->steps_per_epoch,
        .epochs = run->train->epochs,
        .images_per_second = (double)run->train->batch / run->seconds_per_step,
        .seconds_left = (double)(run->steps - position) * run->seconds_per_step,
        .result = &result};
    if (run->events->progress != NULL) run->events->progress(&progress, run->events->user);
    return log_step(run, &result, (double)run->train->batch / seconds);
}

/* ---- evaluation ---- */

static tsr_status evaluate(struct run *run)
{
    enum { NAME = 64 };
    tsr_loader_options o = {.batch = run->train->micro_batch > 0 ? run->train->micro_batch
                                                                 : run->train->batch,
                            .workers = (int)run->options->workers,
                            .in_order = true,
                            .keep_last = true,
                            .end_epoch = 1,
                            .min_short_side = tsr_views_min_short_side(&run->test_views)};
    tsr_loader *loader = tsr_loader_open_views(run->test, &run->test_views, &o);
    tsr_step_result result;
    if (loader != NULL) tsr_trainer_evaluate(run->trainer, loader, &result);
    tsr_loader_close(&loader);
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    if (run->events->evaluated != NULL) run->events->evaluated(&result, run->events->user);
    char names[TSR_STEP_NUMBERS][NAME];
    tsr_run_log_number numbers[TSR_STEP_NUMBERS];
    for (int i = 0; i < result.n_numbers; i++) {
        snprintf(names[i], NAME, "val_%s", result.numbers[i].name);
        numbers[i] = (tsr_run_log_number){names[i], result.numbers[i].value};
    }
    int64_t step = tsr_trainer_position(run->trainer) - 1;
    return tsr_run_log_write(run->log, step, step / run->steps_per_epoch, numbers,
                             result.n_numbers);
}

static bool is_evaluation_step(const struct run *run, int64_t position)
{
    int64_t every = run->options->evaluate_every > 0 ? run->options->evaluate_every : 1;
    return run->test != NULL &&
           (position % (every * run->steps_per_epoch) == 0 || position == run->steps);
}

static bool is_save_step(const struct run *run, int64_t position)
{
    int64_t every = run->options->save_every > 0 ? run->options->save_every : run->steps_per_epoch;
    return position % every == 0 || position == run->steps;
}

static tsr_status train(struct run *run)
{
    double clock = now();
    int64_t end = run->steps;
    if (run->options->stop_after > 0 && run->options->stop_after < end)
        end = run->options->stop_after;
    while (tsr_trainer_position(run->trainer) < end) {
        if (one_step(run, &clock) != TSR_STATUS_OK) return tsr_status_get();
        int64_t position = tsr_trainer_position(run->trainer);
        if (is_evaluation_step(run, position)) {
            if (evaluate(run) != TSR_STATUS_OK) return tsr_status_get();
            clock = now();
        }
        bool stop = run->events->stop != NULL && run->events->stop(run->events->user);
        if (is_save_step(run, position) || stop || position == end) {
            if (save(run) != TSR_STATUS_OK) return tsr_status_get();
            clock = now();
        }
        if (stop && position < run->steps) {
            return tsr_fail(TSR_STATUS_INTERRUPTED,
                            "stopped at step %" PRId64 " of %" PRId64
                            "; go on with --resume --out %s",
                            position, run->steps, run->options->out);
        }
    }
    return TSR_STATUS_OK;
}

tsr_status tsr_run(const tsr_recipe *recipe, const tsr_train_options *train_options,
                   const void *recipe_options, const tsr_run_options *options,
                   const tsr_run_events *events)
{
    static const tsr_run_events silent = {0};
    struct run run = {.recipe = recipe,
                      .train_options = *train_options,
                      .recipe_options = recipe_options,
                      .options = options,
                      .events = events != NULL ? events : &silent};
    run.train = &run.train_options;
    run.build = (tsr_build){.train = run.train,
                            .options = recipe_options,
                            .dtype = TSR_DTYPE_F32,
                            .seed = options->seed};
    run.views.at = run.specs;
    tsr_scope scope = tsr_scope_open();
    if (open_run(&run) == TSR_STATUS_OK) {
        if (run.events->started != NULL) {
            run.events->started(run.trainer, run.data.used, tsr_trainer_position(run.trainer),
                                run.events->user);
        }
        train(&run);
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    close_run(&run);
    return tsr_status_get();
}
