/* tessera pretrain RECIPE: options from the recipe's table, a run, and what is said of it. */
#include "recipes/cli/cli.h"
#include "recipes/train/run.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
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

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* 3725 -> "1h02m", 65 -> "1m05s" */
static const char *duration(double seconds, char text[32])
{
    int64_t s = isfinite(seconds) && seconds < 1e9 ? (int64_t)seconds : 0;
    if (s >= 3600) {
        snprintf(text, 32, "%" PRId64 "h%02" PRId64 "m", s / 3600, s / 60 % 60);
    } else {
        snprintf(text, 32, "%" PRId64 "m%02" PRId64 "s", s / 60, s % 60);
    }
    return text;
}

static void started(const tsr_trainer *trainer, const tsr_dataset *data, int64_t position, void *user)
{
    (void)user;
    const tsr_networks *n = tsr_trainer_networks(trainer);
    printf("images: %" PRId64 " (%s)\nparameters: %.1f M\n", tsr_dataset_count(data),
           tsr_dataset_kind(data), (double)tsr_module_count(n->student) / 1e6);
    if (position > 0) printf("resumed at step %" PRId64 "\n", position);
    fflush(stdout);
}

static void progress(const tsr_run_progress *p, void *user)
{
    struct screen *screen = user;
    double t = now();
    if (p->step < p->steps && t - screen->last < (screen->terminal ? 0.2 : 10.0)) return;
    screen->last = t;
    char left[32];
    printf("%sepoch %" PRId64 "/%" PRId64 " step %" PRId64 "/%" PRId64 " loss %.4f", screen->terminal ? "\r\033[K" : "",
           p->epoch, p->epochs, p->step, p->steps, p->result->loss);
    for (int i = 0; i < p->result->n_numbers; i++) {
        printf(" %s %.4f", p->result->numbers[i].name, p->result->numbers[i].value);
    }
    printf(" lr %.2e grad %.2f %.1f images/s ETA %s%s", p->result->lr, p->result->gradient_norm,
           p->images_per_second, duration(p->seconds_left, left),
           screen->terminal && p->step < p->steps ? "" : "\n");
    fflush(stdout);
}

static void saved(const char *path, void *user)
{
    struct screen *screen = user;
    printf("%ssaved %s\n", screen->terminal ? "\r\033[K" : "", path);
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

/* "a=1 b=2" into whichever table has the option. */
static tsr_status apply_preset(const tsr_preset *preset, cli_table *tables, int n)
{
    char text[512];
    snprintf(text, sizeof text, "%s", preset->options);
    char *rest = NULL;
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(word, '=');
        *value++ = '\0';
        bool found = false;
        for (int t = 0; t < n && !found; t++) {
            const tsr_option *o = tsr_option_find(tables[t].at, tables[t].n, word);
            found = o != NULL;
            if (found && tsr_option_set(o, tables[t].options, value) != TSR_STATUS_OK) return tsr_status_get();
        }
        if (!found) return tsr_fail(TSR_STATUS_ARGUMENT, "preset %s: no option \"%s\"", preset->name, word);
    }
    return TSR_STATUS_OK;
}

static tsr_status use_preset(const tsr_recipe *recipe, const char *name, cli_table *tables, int n)
{
    char known[256] = "none";
    for (int i = 0; i < recipe->n_presets; i++) {
        const tsr_preset *p = &recipe->presets[i];
        if (strcmp(p->name, name) == 0) return apply_preset(p, tables, n);
        size_t used = i == 0 ? 0 : strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i == 0 ? "" : ", ", p->name);
    }
    return tsr_fail(TSR_STATUS_ARGUMENT, "--preset: %s has no preset \"%.40s\"; it has: %s", recipe->name, name,
                    known);
}

/* The options that a checkpoint in out was made with; what the user gave must agree. */
static tsr_status options_of_checkpoint(const char *out, uint64_t *seed, const char **data, char kept_data[4096],
                                        cli_table *tables, int n)
{
    char path[TSR_CHECKPOINT_PATH];
    int64_t step = -1;
    if (out == NULL) return tsr_fail(TSR_STATUS_ARGUMENT, "--resume wants --out, the directory of the run");
    if (tsr_checkpoint_latest(out, &step) != TSR_STATUS_OK) return tsr_status_get();
    if (step < 0) return tsr_fail(TSR_STATUS_ARGUMENT, "--resume: there is no checkpoint in %s", out);
    tsr_checkpoint *c = tsr_checkpoint_open(tsr_checkpoint_path(out, step, path));
    if (c == NULL) return tsr_status_get();
    const char *text;
    for (int t = 0; t < n; t++) {
        for (int i = 0; i < tables[t].n; i++) {
            char key[96], got[TSR_OPTION_TEXT];
            const tsr_option *o = &tables[t].at[i];
            snprintf(key, sizeof key, "option.%s", o->name);
            if (tsr_checkpoint_get_string(c, key, &text) != TSR_STATUS_OK) break;
            tsr_option_text(o, tables[t].options, got);
            if (tables[t].given[i] && strcmp(got, text) != 0) {
                tsr_fail(TSR_STATUS_ARGUMENT, "--%s %s: the run in %s has %s; leave it out, or start another "
                         "run", o->name, got, out, text);
                break;
            }
            tsr_option_set(o, tables[t].options, text);
        }
    }
    if (tsr_status_get() == TSR_STATUS_OK) tsr_checkpoint_get_uint(c, "seed", seed);
    if (*data == NULL && tsr_status_get() == TSR_STATUS_OK &&
        tsr_checkpoint_get_string(c, "data", &text) == TSR_STATUS_OK) {
        snprintf(kept_data, 4096, "%s", text);
        *data = kept_data;
    }
    tsr_checkpoint_close(&c);
    return tsr_status_get();
}

static void print_config(const tsr_recipe *recipe, const cli_table *tables, int n, const tsr_run_options *run)
{
    printf("%s: %s\n  seed %" PRIu64 " threads %d", recipe->name, recipe->title, run->seed, tsr_threads());
    for (int t = 0; t < n; t++) {
        printf("\n ");
        for (int i = 0; i < tables[t].n; i++) {
            char text[TSR_OPTION_TEXT];
            printf(" %s %s", tables[t].at[i].name, tsr_option_text(&tables[t].at[i], tables[t].options, text));
        }
    }
    printf("\n");
    fflush(stdout);
}

static int list_recipes(void)
{
    int n;
    const tsr_recipe *const *recipes = tsr_recipes(&n);
    printf("Usage: tessera pretrain RECIPE --data DIR --out DIR [options] (tessera pretrain RECIPE --help)\n\n"
           "Recipes:\n");
    for (int i = 0; i < n; i++) {
        printf("  %-10s %s\n  %10s %s\n", recipes[i]->name, recipes[i]->title, "", recipes[i]->paper);
    }
    return CLI_OK;
}

/* The value of --preset, wherever it stands: options that the user gives override it, so it is applied first. */
static const char *find_preset(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--preset") == 0 && i + 1 < argc) return argv[i + 1];
        if (strncmp(argv[i], "--preset=", 9) == 0) return argv[i] + 9;
    }
    return NULL;
}

static int run_recipe(const tsr_recipe *recipe, void *recipe_options, int argc, char **argv)
{
    tsr_train_options train;
    tsr_run_options run = {0};
    const char *preset = NULL;
    int64_t seed = 0;
    int n_train;
    const tsr_option *train_table = tsr_train_option_table(&n_train);
    cli_table tables[] = {{"Training", train_table, n_train, &train},
                          {recipe->title, recipe->options, recipe->n_options, recipe_options}};
    const cli_flag flags[] = {
        {"data", CLI_TEXT, &run.data, "DIR", "images: class folders, a flat folder, IDX or CIFAR files"},
        {"out", CLI_TEXT, &run.out, "DIR", "where checkpoints and the log go"},
        {"resume", CLI_SWITCH, &run.resume, NULL, "go on with the run in --out; its options are taken from there"},
        {"preset", CLI_TEXT, &preset, "NAME", "a set of options; single ones may still be given"},
        {"seed", CLI_INT, &seed, "N", "of all random numbers; default 0"},
        {"workers", CLI_INT, &run.workers, "N", "loader threads; default: as many as --threads"},
        {"save-every", CLI_INT, &run.save_every, "STEPS", "between checkpoints; default: an epoch"},
        {"keep", CLI_INT, &run.keep, "N", "newest checkpoints to keep; default 2"},
        {"stop-after", CLI_INT, &run.stop_after, "STEPS", "end early, with a checkpoint; the schedules stay"},
    };
    char usage[160], description[1024], kept_data[4096];
    size_t used = 0;
    snprintf(usage, sizeof usage, "tessera pretrain %s --data DIR --out DIR [options]", recipe->name);
    used += (size_t)snprintf(description, sizeof description, "%s.\n%s.\nPresets:", recipe->title, recipe->paper);
    for (int i = 0; i < recipe->n_presets && used < sizeof description; i++) {
        used += (size_t)snprintf(description + used, sizeof description - used, "\n  %-14s %s",
                                 recipe->presets[i].name, recipe->presets[i].meaning);
    }
    cli_arguments arguments = {.usage = usage,
                               .description = description,
                               .flags = flags,
                               .n_flags = sizeof flags / sizeof flags[0],
                               .tables = tables,
                               .n_tables = 2};
    tsr_options_default(train_table, n_train, &train);
    tsr_options_default(recipe->options, recipe->n_options, recipe_options);
    const char *early = find_preset(argc, argv);
    if (early != NULL && use_preset(recipe, early, tables, 2) != TSR_STATUS_OK) {
        cli_report();
        return CLI_USAGE;
    }
    int status = cli_parse(&arguments, argc, argv);
    if (status >= 0) return status;
    run.seed = (uint64_t)seed;
    if (run.resume && options_of_checkpoint(run.out, &run.seed, &run.data, kept_data, tables, 2) != TSR_STATUS_OK) {
        return cli_report();
    }
    if (run.data == NULL || run.out == NULL) {
        fprintf(stderr, "tessera: --data and --out are needed\nUsage: %s (--help explains)\n", usage);
        return CLI_USAGE;
    }
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct screen screen = {.terminal = isatty(STDOUT_FILENO)};
    tsr_run_events events = {.user = &screen,
                             .started = started,
                             .progress = progress,
                             .saved = saved,
                             .warning = warning,
                             .stop = stop};
    print_config(recipe, tables, 2, &run);
    tsr_run(recipe, &train, recipe_options, &run, &events);
    return cli_report();
}

int cli_pretrain(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "--help") == 0) {
        int status = list_recipes();
        return argc < 2 ? CLI_USAGE : status;
    }
    const tsr_recipe *recipe = tsr_recipe_find(argv[1]);
    if (recipe == NULL) {
        cli_report();
        return CLI_USAGE;
    }
    void *options = calloc(1, recipe->options_size);
    if (options == NULL) return CLI_FAILED;
    int status = run_recipe(recipe, options, argc - 1, argv + 1);
    free(options);
    return status;
}
