/* What the program's commands share. */
#ifndef TSR_CLI_H
#define TSR_CLI_H

#include "recipes/eval/features.h"
#include "recipes/recipes.h"
#include "recipes/train/trial.h"

/* A command gets the arguments after its name, and returns the exit status: 0, 1 (it failed), 2 (usage). */
typedef struct cli_command {
    const char *name;
    const char *summary; /* one line of `tessera --help` */
    int (*run)(int argc, char **argv);
} cli_command;

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* ---- programs (program.c) ---- */

typedef struct cli_program {
    const char *name;    /* "tessera" */
    const char *about;   /* one line of its --help */
    const char *version; /* NULL: it has none to tell */
    const cli_command *commands;
    int n_commands;
    const tsr_recipe *const *recipes;
    int n_recipes;
} cli_program;

/* Runs the command that argv[1] names; returns the exit status. */
int cli_main(const cli_program *program, int argc, char **argv);
/* Of the program that runs. */
const char *cli_program_name(void);
const tsr_recipe *const *cli_program_recipes(int *n);

/* Those that every program with recipes has; they are in the library. */
#define CLI_RECIPE_COMMANDS                                                                        \
    {"pretrain", "train a backbone on images without labels", cli_pretrain},                       \
        {"recipes", "list what can be trained, and the presets", cli_recipes},                     \
        {"plan", "what a run will take: memory, arithmetic, time", cli_plan},                      \
        {"diff-recipe", "in which options two recipes, presets or runs differ", cli_diff_recipe},  \
        {"knn", "what features are worth: weighted nearest neighbours", cli_knn},                  \
    {                                                                                              \
        "linear", "what features are worth: a linear probe, or logistic regression", cli_linear    \
    }

/* ---- arguments (arguments.c) ---- */

/* A flag of a command besides option tables. Text flags point at a const char *, the others at what their type says. */
typedef struct cli_flag {
    const char *name; /* "out" */
    enum { CLI_TEXT, CLI_INT, CLI_DOUBLE, CLI_SWITCH } type;
    void *value;          /* const char ** , int64_t *, double *, bool * */
    const char *argument; /* "DIR": in --help; NULL for a switch */
    const char *meaning;
    double lo, hi; /* bounds of a number, both included; 0, 0: none */
} cli_flag;

/* A table of options beside the flags, and where it goes. */
typedef struct cli_table {
    const char *title; /* "Training" */
    const tsr_option *at;
    int n;
    void *options;
    bool given[96];              /* set for those that the user gave */
    const tsr_default *defaults; /* a recipe's, instead of those in the table; may be NULL */
    int n_defaults;
} cli_table;

typedef struct cli_arguments {
    const char *usage;       /* "knn CHECKPOINT --data DIR [options]": after the program's name */
    const char *example;     /* a command line, after the program's name too */
    const char *description; /* a paragraph of --help */
    const cli_flag *flags;
    int n_flags;
    cli_table *tables;
    int n_tables;
    const char *positional[16]; /* what was given beside flags */
    int n_positional, min_positional, max_positional;
} cli_arguments;

/* -1: go on; else the exit status (--help was printed, or usage was wrong and said so). `--threads N` is understood everywhere. */
int cli_parse(cli_arguments *arguments, int argc, char **argv);
/* The name that is nearest to one that is not known: offered one by one, name is the best if one is near enough, else NULL. */
typedef struct cli_nearest {
    const char *given;
    const char *name;
    size_t distance;
} cli_nearest;
void cli_nearest_offer(cli_nearest *n, const char *name);
/* Prints the sticky status, the usage and where to read more, as `tessera: message`; returns CLI_USAGE. */
int cli_usage_error(const cli_arguments *arguments);
/* Prints the sticky status as `tessera: message`, and returns the exit status that fits it. */
int cli_report(void);

/* ---- recipes on the command line (recipe_arguments.c) ---- */

/* A recipe, the options of it and of training, and what its --help says. */
typedef struct cli_recipe {
    const tsr_recipe *recipe;
    tsr_train_options train;
    void *options;
    cli_table tables[2]; /* training, the recipe's */
    const char *preset;  /* what --preset gave; for a flag of this name */
    char description[2048];
} cli_recipe;

/* argv[1] names the recipe; defaults, then --preset, wherever it stands: single options override it. -1: go on with
 * cli_parse(argc - 1, argv + 1); else the exit status, and what was wrong has been said (or the recipes were listed). */
int cli_recipe_open(cli_recipe *r, const char *command, int argc, char **argv);
/* about and the presets, for --help; r->description is that of the recipe at first. */
const char *cli_recipe_describe(cli_recipe *r, const char *about);
void cli_recipe_close(cli_recipe *r);
#define CLI_PRESET_FLAG(r)                                                                         \
    {                                                                                              \
        "preset", CLI_TEXT, &(r).preset, "NAME",                                                   \
            "a set of options; single ones may still be given"                                     \
    }

/* ---- the terminal (screen.c) ---- */

double cli_now(void); /* seconds */
/* 3725 -> "1h02m", 65 -> "1m05s"; into text, which it returns. */
enum { CLI_DURATION = 32 };
const char *cli_duration(double seconds, char text[CLI_DURATION]);

/* A line on a terminal's stderr that says how far something is and when it will end; nothing elsewhere. */
typedef struct cli_progress {
    const char *what;
    double start, last; /* zero at first */
} cli_progress;
void cli_progress_show(cli_progress *p, int64_t done, int64_t of);
/* The same as a callback of the library: user is a cli_progress. */
void cli_progress_of(int64_t done, int64_t of, void *user);
void cli_progress_end(cli_progress *p);
/* The images of a data set that could not be read, in one line on stderr. */
void cli_report_problems(tsr_dataset *data);

/* ---- frozen backbones on the command line (frozen.c) ---- */

/* What knn, linear, features and attention share: a checkpoint, which weights of it, and which features. */
typedef struct cli_frozen {
    const char *weights; /* "teacher" or "student"; NULL: what the recipe evaluates */
    int64_t last_blocks; /* 0: the command's default */
    int64_t avgpool;     /* -1: the command's default */
    int64_t batch, workers, size;
    char path[TSR_CHECKPOINT_PATH]; /* of the checkpoint */
    tsr_checkpoint *checkpoint;
    tsr_backbone *backbone;
} cli_frozen;

#define CLI_FROZEN_DEFAULT                                                                         \
    {                                                                                              \
        .avgpool = -1                                                                              \
    }
#define CLI_WEIGHTS_FLAGS(f)                                                                       \
    {"weights", CLI_TEXT, &(f).weights, "WHOSE",                                                   \
     "teacher or student; default: the one that the recipe evaluates"},                            \
    {                                                                                              \
        "size", CLI_INT, &(f).size, "PIXELS", "a side of the pictures; default: as trained", 1,    \
            4096                                                                                   \
    }
#define CLI_FEATURE_FLAGS(f)                                                                               \
    {"last-blocks",                                                                                        \
     CLI_INT,                                                                                              \
     &(f).last_blocks,                                                                                     \
     "N",                                                                                                  \
     "concatenate the class tokens of the last N blocks; default 1, of linear 4 below dim 768",            \
     1,                                                                                                    \
     256},                                                                                                 \
        {"avgpool",                                                                                        \
         CLI_INT,                                                                                          \
         &(f).avgpool,                                                                                     \
         "MODE",                                                                                           \
         "0: class tokens; 1: the mean of the patch tokens; 2: both; default 0, of linear 2 from dim 768", \
         0,                                                                                                \
         2},                                                                                               \
        {"batch",                                                                                          \
         CLI_INT,                                                                                          \
         &(f).batch,                                                                                       \
         "N",                                                                                              \
         "images that go through the network at once; default 64",                                         \
         1,                                                                                                \
         65536},                                                                                           \
    {                                                                                                      \
        "workers", CLI_INT, &(f).workers, "N", "loader threads; default: as many as --threads", 0,         \
            256                                                                                            \
    }

/* Opens the checkpoint (a file, or the directory of a run: its newest) and loads the backbone. */
tsr_status cli_frozen_open(cli_frozen *f, const char *checkpoint);
/* One line on what was opened. */
void cli_frozen_describe(const cli_frozen *f);
/* What the flags ask for, or the command's own defaults; progress goes to p. */
tsr_extract_options cli_frozen_features(const cli_frozen *f, int last_blocks, tsr_pooling pooling,
                                        cli_progress *p);
void cli_frozen_close(cli_frozen *f);

/* ---- evaluations of frozen features: knn, linear (evaluation.c) ---- */

/* A method's row of the table: this checkpoint's features, those of an untrained network, raw pixels. */
typedef struct cli_evaluation_row {
    const char *method;
    const tsr_backbone *backbone; /* NULL: raw pixels */
    tsr_extract_options extract;
    tsr_dataset *train;
    tsr_features train_features, test_features;
    double start; /* cli_now() before the features were made */
    int64_t classes;
} cli_evaluation_row;

typedef struct cli_evaluation {
    cli_frozen frozen;
    const char *data, *test_data;
    int64_t train_images, test_images;
    bool no_baselines;
    /* The command's own: */
    int last_blocks;
    tsr_pooling pooling;
    bool small_4_large_both; /* the linear probe's rule instead of the two above */
    uint64_t seed;
    void (*head)(void *user);                                     /* prints the table's head */
    tsr_status (*row)(const cli_evaluation_row *row, void *user); /* evaluates, and prints a row */
    void *user;
} cli_evaluation;

#define CLI_EVALUATION_DEFAULT                                                                     \
    {                                                                                              \
        .frozen = CLI_FROZEN_DEFAULT                                                               \
    }
#define CLI_EVALUATION_FLAGS(e)                                                                    \
    {"data", CLI_TEXT, &(e).data, "DIR",                                                           \
     "labelled images, with a training and a test (or val) part: folders, shards, IDX, CIFAR"},    \
        {"test-data", CLI_TEXT, &(e).test_data, "DIR", "where the test part is, if elsewhere"},    \
        {"train-images",                                                                           \
         CLI_INT,                                                                                  \
         &(e).train_images,                                                                        \
         "N",                                                                                      \
         "use only N training images, spread evenly; default: all",                                \
         1,                                                                                        \
         1e12},                                                                                    \
        {"test-images", CLI_INT, &(e).test_images, "N", "use only N test images; default: all", 1, \
         1e12},                                                                                    \
    {                                                                                              \
        "no-baselines", CLI_SWITCH, &(e).no_baselines, NULL,                                       \
            "leave out the untrained network and raw pixels"                                       \
    }

/* Opens everything, and calls head and row. Returns the exit status. */
int cli_evaluation_run(cli_evaluation *e, const char *checkpoint);

int cli_attention(int argc, char **argv);
int cli_data_pack(int argc, char **argv); /* pack.c */
int cli_cluster(int argc, char **argv);
int cli_data(int argc, char **argv);
int cli_diff_recipe(int argc, char **argv);
int cli_export(int argc, char **argv);
int cli_features(int argc, char **argv);
int cli_gradcheck(int argc, char **argv);
int cli_import(int argc, char **argv);
int cli_inspect(int argc, char **argv);
int cli_knn(int argc, char **argv);
int cli_linear(int argc, char **argv);
int cli_plan(int argc, char **argv);
/* What a run over so many images will take, from a few steps of it; sets what fits train->memory_budget (plan.c). */
tsr_status cli_plan_print(const tsr_trial_run *run, tsr_train_options *train, int64_t images);
int cli_pretrain(int argc, char **argv);
int cli_finetune(int argc, char **argv);
int cli_recipes(int argc, char **argv);

#endif
