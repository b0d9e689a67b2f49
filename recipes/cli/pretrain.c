/* tessera pretrain RECIPE, tessera finetune CHECKPOINT: options from the recipe's table, a run, and what is said of it. */
#include "recipes/cli/cli.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    if (interrupted) _exit(128 + signal_number); /* twice: at once */
    interrupted = 1;
}

struct screen {
    bool terminal;
    double last; /* when a line was printed */
};

static void started(const tsr_trainer *trainer, const tsr_dataset *data, int64_t position,
                    void *user)
{
    (void)user;
    const tsr_networks *n = tsr_trainer_networks(trainer);
    printf("images: %" PRId64 " (%s)\nparameters: %.1f M\n", tsr_dataset_count(data),
           tsr_dataset_kind(data), (double)tsr_module_count(n->student) / 1e6);
    if (position > 0) printf("resumed at step %" PRId64 "\n", position);
    fflush(stdout);
}

static void fitted(const tsr_train_options *train, double bytes, void *user)
{
    (void)user;
    printf("memory: micro-batch %" PRId64 ", blocks %s: %.3g of %g GiB\n",
           train->micro_batch > 0 ? train->micro_batch : train->batch,
           train->recompute_blocks ? "recomputed" : "kept", bytes / 1073741824.0,
           train->memory_budget);
    fflush(stdout);
}

static void progress(const tsr_run_progress *p, void *user)
{
    struct screen *screen = user;
    double t = tsr_screen__now();
    if (p->step < p->steps && t - screen->last < (screen->terminal ? 0.2 : 10.0)) return;
    screen->last = t;
    char left[TSR_SCREEN_DURATION];
    printf("%sepoch %" PRId64 "/%" PRId64 " step %" PRId64 "/%" PRId64 " loss %.4f",
           screen->terminal ? "\r\033[K" : "", p->epoch, p->epochs, p->step, p->steps,
           p->result->loss);
    for (int i = 0; i < p->result->n_numbers; i++) {
        printf(" %s %.4f", p->result->numbers[i].name, p->result->numbers[i].value);
    }
    printf(" lr %.2e grad %.2f %.1f images/s ETA %s%s", p->result->lr, p->result->gradient_norm,
           p->images_per_second, tsr_screen__duration(p->seconds_left, left),
           screen->terminal && p->step < p->steps ? "" : "\n");
    fflush(stdout);
}

static void saved(const char *path, void *user)
{
    struct screen *screen = user;
    printf("%ssaved %s\n", screen->terminal ? "\r\033[K" : "", path);
    fflush(stdout);
}

static void evaluated(const tsr_step_result *result, void *user)
{
    struct screen *screen = user;
    printf("%svalidation:", screen->terminal ? "\r\033[K" : "");
    for (int i = 0; i < result->n_numbers; i++) {
        printf(" %s %.4f", result->numbers[i].name, result->numbers[i].value);
    }
    printf("\n");
    fflush(stdout);
}

static void warning(const char *text, void *user)
{
    (void)user;
    fprintf(stderr, "\nwarning: %s\n", text);
}

static bool stop(void *user)
{
    (void)user;
    return interrupted != 0;
}

/* Texts of a checkpoint that outlive it. */
struct kept {
    char data[4096], label_list[4096];
};

/* What the user did not give is as the run has it. */
static tsr_status images_of_checkpoint(const tsr_checkpoint *c, tsr_run_options *run,
                                       struct kept *kept)
{
    const char *text;
    if (run->data == NULL && tsr_checkpoint_get_string(c, "data", &text) == TSR_STATUS_OK) {
        snprintf(kept->data, sizeof kept->data, "%s", text);
        run->data = kept->data;
    }
    if (run->label_fraction == 0.0 && tsr_checkpoint_value_find(c, "label_fraction") != NULL)
        tsr_checkpoint_get_double(c, "label_fraction", &run->label_fraction);
    if (run->label_list == NULL && tsr_checkpoint_value_find(c, "label_list") != NULL &&
        tsr_checkpoint_get_string(c, "label_list", &text) == TSR_STATUS_OK) {
        snprintf(kept->label_list, sizeof kept->label_list, "%s", text);
        run->label_list = kept->label_list;
    }
    return tsr_status_get();
}

/* A run of another recipe would only seem to lack options. */
static tsr_status check_recipe(const tsr_checkpoint *c, const char *out, const char *recipe)
{
    const char *theirs;
    if (tsr_checkpoint_get_string(c, "recipe", &theirs) != TSR_STATUS_OK ||
        strcmp(theirs, recipe) == 0) {
        return tsr_status_get();
    }
    return tsr_fail(TSR_STATUS_ARGUMENT, "--resume: the run in %s is of recipe %.40s, not %s", out,
                    theirs, recipe);
}

/* The options of a run, as its checkpoint has them; what the user gave must agree. Options that are newer than the run take
 * their defaults, as no preset that the run was started with had them; they are named on the screen. */
static tsr_status read_options(const tsr_checkpoint *c, const char *out, tsr_recipe_arguments *r,
                               const tsr_recipe_arguments *defaults)
{
    int newer = 0;
    for (int t = 0; t < 2; t++) {
        const tsr_arguments_table *table = &r->tables[t];
        for (int i = 0; i < table->n; i++) {
            const tsr_option *o = &table->at[i];
            char key[96], got[TSR_OPTION_TEXT], usual[TSR_OPTION_TEXT];
            const char *text =
                tsr_option_text(o, t == 0 ? &defaults->train : defaults->options, usual);
            snprintf(key, sizeof key, "option.%s", o->name);
            if (tsr_checkpoint_value_find(c, key) == NULL) {
                printf("%s--%s %s", newer++ == 0 ? "the run is older than these options: " : " ",
                       o->name, text);
            } else if (tsr_checkpoint_get_string(c, key, &text) != TSR_STATUS_OK) {
                return tsr_status_get();
            }
            tsr_option_text(o, table->options, got);
            if (table->given[i] && strcmp(got, text) != 0) {
                return tsr_fail(TSR_STATUS_ARGUMENT,
                                "--%s %s: the run in %s has %s; leave it out, or start another run",
                                o->name, got, out, text);
            }
            if (tsr_option_set(o, table->options, text) != TSR_STATUS_OK) return tsr_status_get();
        }
    }
    if (newer > 0) printf("\n");
    return TSR_STATUS_OK;
}

/* What a run to be resumed was started with: its options, seed and images. */
static tsr_status options_of_checkpoint(tsr_run_options *run, struct kept *kept,
                                        tsr_recipe_arguments *r)
{
    const char *out = run->out;
    char path[TSR_CHECKPOINT_PATH];
    int64_t step = -1;
    if (out == NULL)
        return tsr_fail(TSR_STATUS_ARGUMENT, "--resume wants --out, the directory of the run");
    if (tsr_checkpoint_latest(out, &step) != TSR_STATUS_OK) return tsr_status_get();
    if (step < 0)
        return tsr_fail(TSR_STATUS_ARGUMENT, "--resume: there is no checkpoint in %s", out);
    tsr_checkpoint *c = tsr_checkpoint_open(tsr_checkpoint_path(out, step, path));
    if (c == NULL) return tsr_status_get();
    if (check_recipe(c, out, r->recipe->name) == TSR_STATUS_OK) {
        tsr_recipe_arguments defaults = {.options = calloc(1, r->recipe->options_size)};
        if (defaults.options == NULL) {
            tsr_fail(TSR_STATUS_MEMORY, "--resume: no memory for options");
        } else if (tsr_recipe_defaults(r->recipe, &defaults.train, defaults.options) ==
                   TSR_STATUS_OK) {
            read_options(c, out, r, &defaults);
        }
        tsr_recipe_arguments__close(&defaults);
    }
    if (tsr_status_get() == TSR_STATUS_OK) tsr_checkpoint_get_uint(c, "seed", &run->seed);
    if (tsr_status_get() == TSR_STATUS_OK) images_of_checkpoint(c, run, kept);
    tsr_checkpoint_close(&c);
    return tsr_status_get();
}

static void print_config(const tsr_recipe *recipe, const tsr_arguments_table *tables, int n,
                         const tsr_run_options *run)
{
    printf("%s: %s\n  seed %" PRIu64 " threads %d", recipe->name, recipe->title, run->seed,
           tsr_threads());
    for (int t = 0; t < n; t++) {
        printf("\n ");
        for (int i = 0; i < tables[t].n; i++) {
            char text[TSR_OPTION_TEXT];
            printf(" %s %s", tables[t].at[i].name,
                   tsr_option_text(&tables[t].at[i], tables[t].options, text));
        }
    }
    printf("\n");
    fflush(stdout);
}

/* --projection as wide as the first layer of the head of the network that is taken. */
static tsr_status option_of_head(const tsr_checkpoint *c, const char *network,
                                 tsr_recipe_arguments *r)
{
    char name[64], text[32];
    if (network == NULL && tsr_checkpoint_get_string(c, "feature", &network) != TSR_STATUS_OK)
        return tsr_status_get();
    snprintf(name, sizeof name, "%.20s", network);
    name[strcspn(name, ".")] = '\0';
    strcat(name, "/head.mlp.0.weight");
    const tsr_checkpoint_entry *entry = tsr_checkpoint_find(c, name);
    if (entry == NULL || entry->shape.ndim != 2) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "--from-projection: the checkpoint has no projection head (%s)", name);
    }
    snprintf(text, sizeof text, "%" PRId64, entry->shape.size[0]);
    return tsr_option_set(tsr_option_find(r->recipe->options, r->recipe->n_options, "projection"),
                          r->options, text);
}

/* The shape of the checkpoint's network, where the user gave no other; head: also of the first layer of its head. */
static tsr_status options_of_init(const tsr_run_options *run, bool head, tsr_recipe_arguments *r)
{
    static const char *const shape[] = {"model", "image-size", "patch-size", "window",
                                        "dim",   "depth",      "heads",      "mlp-ratio"};
    char path[TSR_CHECKPOINT_PATH], text[TSR_OPTION_TEXT];
    tsr_train_options theirs;
    const tsr_arguments_table *table = &r->tables[0];
    tsr_checkpoint *c = tsr_checkpoint_open_run(run->init, path);
    if (c != NULL && tsr_backbone_train_options(c, &theirs) == TSR_STATUS_OK) {
        for (size_t i = 0; i < sizeof shape / sizeof shape[0]; i++) {
            const tsr_option *o = tsr_option_find(table->at, table->n, shape[i]);
            if (table->given[o - table->at]) continue;
            tsr_option_set(o, table->options, tsr_option_text(o, &theirs, text));
        }
        if (head) option_of_head(c, run->init_weights, r);
    }
    tsr_checkpoint_close(&c);
    return tsr_status_get();
}

static tsr_status dry_run(tsr_recipe_arguments *r, const tsr_run_options *o)
{
    struct tsr_run_data data;
    tsr_scope scope = tsr_scope_open();
    if (tsr_run__open_data(o, &data) == TSR_STATUS_OK) {
        tsr_trial_run plan = {.recipe = r->recipe,
                              .build = {.options = r->options,
                                        .dtype = TSR_DTYPE_F32,
                                        .classes = tsr_dataset_classes(data.used),
                                        .seed = o->seed},
                              .data = data.used,
                              .workers = o->workers};
        tsr_plan__print(&plan, &r->train, tsr_dataset_count(data.used));
    }
    tsr_run__close_data(&data);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_status_get();
}

static int run_recipe(tsr_recipe_arguments *r, bool finetune, int argc, char **argv)
{
    const tsr_recipe *recipe = r->recipe;
    tsr_run_options run = {0};
    int64_t seed = 0;
    bool from_projection = false, dry = false;
    const tsr_flag init = {
        "init", TSR_FLAG_TEXT, &run.init, "CKPT",
        "start from the backbone of this checkpoint, of tessera import or a run"};
    const tsr_flag weights = {
        "weights", TSR_FLAG_TEXT, &run.init_weights, "NETWORK",
        "of the checkpoint: teacher or student; default: what its recipe evaluates"};
    const tsr_flag flags[] = {
        {"data", TSR_FLAG_TEXT, &run.data, "DIR",
         "images: class folders, a flat folder, shards (*.tar), IDX or CIFAR files"},
        {"out", TSR_FLAG_TEXT, &run.out, "DIR", "where checkpoints and the log go"},
        {"resume", TSR_FLAG_SWITCH, &run.resume, NULL,
         "go on with the run in --out; its options are taken from there"},
        finetune ? weights : init,
        TSR_PRESET_FLAG(*r),
        {"seed", TSR_FLAG_INT, &seed, "N", "of all random numbers; default 0"},
        {"workers", TSR_FLAG_INT, &run.workers, "N",
         "loader threads; default: as many as --threads"},
        {"save-every", TSR_FLAG_INT, &run.save_every, "STEPS",
         "between checkpoints; default: an epoch"},
        {"evaluate-every", TSR_FLAG_INT, &run.evaluate_every, "EPOCHS",
         "between measurements of recipes with labels, and at the end; default 1", 1, 1e9},
        {"keep", TSR_FLAG_INT, &run.keep, "N", "newest checkpoints to keep; default 2"},
        {"stop-after", TSR_FLAG_INT, &run.stop_after, "STEPS",
         "end early, with a checkpoint; the schedules stay"},
        {"dry-run", TSR_FLAG_SWITCH, &dry, NULL,
         "take a few steps, write nothing, and say what memory and time the run will take"},
        {"label-fraction", TSR_FLAG_DOUBLE, &run.label_fraction, "SHARE",
         "train on this share of each class's images, drawn by --seed", 1e-9, 1},
        {"label-list", TSR_FLAG_TEXT, &run.label_list, "FILE",
         "train on the images that this file names, a line each"},
        {"from-projection", TSR_FLAG_SWITCH, &from_projection, NULL,
         "keep the first layer of the checkpoint's head: --projection of its width"},
    };
    char usage[160], example[160];
    struct kept kept;
    if (finetune) {
        snprintf(usage, sizeof usage, "finetune CHECKPOINT --data DIR --out DIR [options]");
        snprintf(example, sizeof example, "finetune RUN --data IMAGES --out TUNED");
    } else {
        snprintf(usage, sizeof usage, "pretrain %s --data DIR --out DIR [options]", recipe->name);
        snprintf(example, sizeof example, "pretrain %s --data IMAGES --out RUN --epochs 100",
                 recipe->name);
    }
    tsr_arguments arguments = {.usage = usage,
                               .example = example,
                               .description = r->description,
                               .flags = flags,
                               .n_flags = (int)(sizeof flags / sizeof flags[0]) - !finetune,
                               .tables = r->tables,
                               .n_tables = 2,
                               .max_positional = finetune};
    int status = tsr_arguments__parse(&arguments, argc, argv);
    if (status >= 0) return status;
    run.seed = (uint64_t)seed;
    if (arguments.n_positional > 0) run.init = arguments.positional[0];
    if (run.resume && run.init != NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "%s: a run that is resumed goes on with its own weights",
                 finetune ? run.init : "--init");
        return tsr_arguments__refuse(&arguments);
    }
    if (finetune && !run.resume && run.init == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "a checkpoint to start from is missing");
        return tsr_arguments__refuse(&arguments);
    }
    const char *w = run.init_weights;
    if (w != NULL && strcmp(w, "teacher") != 0 && strcmp(w, "student") != 0) {
        tsr_fail(TSR_STATUS_ARGUMENT, "--weights: got \"%.60s\", expected teacher or student", w);
        return tsr_arguments__refuse(&arguments);
    }
    if (run.resume && options_of_checkpoint(&run, &kept, r) != TSR_STATUS_OK) {
        return tsr_program__report();
    }
    if (run.data == NULL || (run.out == NULL && !dry)) {
        tsr_fail(TSR_STATUS_ARGUMENT, dry ? "--data is needed" : "--data and --out are needed");
        return tsr_arguments__refuse(&arguments);
    }
    if (finetune && !run.resume && options_of_init(&run, from_projection, r) != TSR_STATUS_OK)
        return tsr_program__report();
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct screen screen = {.terminal = isatty(STDOUT_FILENO)};
    tsr_run_events events = {.user = &screen,
                             .started = started,
                             .fitted = fitted,
                             .progress = progress,
                             .saved = saved,
                             .evaluated = evaluated,
                             .warning = warning,
                             .stop = stop};
    print_config(recipe, r->tables, 2, &run);
    if (dry) {
        dry_run(r, &run);
        return tsr_program__report();
    }
    tsr_run(recipe, &r->train, r->options, &run, &events);
    return tsr_program__report();
}

int tsr_command__pretrain(int argc, char **argv)
{
    tsr_recipe_arguments r;
    int status = tsr_recipe_arguments__open(&r, "pretrain", argc, argv);
    if (status >= 0) return status;
    status = run_recipe(&r, false, argc - 1, argv + 1);
    tsr_recipe_arguments__close(&r);
    return status;
}

int tsr_command__finetune(int argc, char **argv)
{
    enum { ARGUMENTS = 256 };
    char name[] = "finetune", *named[ARGUMENTS + 1] = {argv[0], name};
    if (argc >= ARGUMENTS) {
        tsr_fail(TSR_STATUS_ARGUMENT, "more than %d arguments", ARGUMENTS);
        tsr_program__report();
        return TSR_EXIT_USAGE;
    }
    for (int i = 1; i < argc; i++) named[i + 1] = argv[i];
    tsr_recipe_arguments r;
    int status = tsr_recipe_arguments__open(&r, "finetune", argc + 1, named);
    if (status >= 0) return status;
    status = run_recipe(&r, true, argc, named + 1);
    tsr_recipe_arguments__close(&r);
    return status;
}
