/* What the program's commands share. */
#ifndef TSR_CLI_H
#define TSR_CLI_H

#include "recipes/eval/features.h"
#include "recipes/recipes.h"
#include "recipes/train/trial.h"

/* A command gets the arguments after its name, and returns the exit status: 0, 1 (it failed), 2 (usage). */
typedef struct tsr_command {
    const char *name;
    const char *summary; /* one line of `tessera --help` */
    int (*run)(int argc, char **argv);
} tsr_command;

enum { TSR_EXIT_OK = 0, TSR_EXIT_FAILED = 1, TSR_EXIT_USAGE = 2 };

/* ---- programs (program.c) ---- */

typedef struct tsr_program {
    const char *name;    /* "tessera" */
    const char *about;   /* one line of its --help */
    const char *version; /* NULL: it has none to tell */
    const tsr_command *commands;
    int n_commands;
    const tsr_recipe *const *recipes;
    int n_recipes;
} tsr_program;

/* Runs the command that argv[1] names; returns the exit status. */
int tsr_program__run(const tsr_program *program, int argc, char **argv);
/* Of the program that runs. */
const char *tsr_program__name(void);
const tsr_recipe *const *tsr_program__recipes(int *n);

/* Those that every program with recipes has; they are in the library. */
#define TSR_RECIPE_COMMANDS                                                                        \
    {"pretrain", "train a backbone on images without labels", tsr_command__pretrain},              \
        {"recipes", "list what can be trained, and the presets", tsr_command__recipes},            \
        {"plan", "what a run will take: memory, arithmetic, time", tsr_command__plan},             \
        {"diff-recipe", "in which options two recipes, presets or runs differ",                    \
         tsr_command__diff_recipe},                                                                \
        {"knn", "what features are worth: weighted nearest neighbours", tsr_command__knn},         \
    {                                                                                              \
        "linear", "what features are worth: a linear probe, or logistic regression",               \
            tsr_command__linear                                                                    \
    }

/* ---- arguments (arguments.c) ---- */

/* A flag of a command besides option tables. Text flags point at a const char *, the others at what their type says. */
typedef struct tsr_flag {
    const char *name; /* "out" */
    enum { TSR_FLAG_TEXT, TSR_FLAG_INT, TSR_FLAG_DOUBLE, TSR_FLAG_SWITCH } type;
    void *value;          /* const char ** , int64_t *, double *, bool * */
    const char *argument; /* "DIR": in --help; NULL for a switch */
    const char *meaning;
    double lo, hi; /* bounds of a number, both included; 0, 0: none */
} tsr_flag;

/* A table of options beside the flags, and where it goes. */
typedef struct tsr_arguments_table {
    const char *title; /* "Training" */
    const tsr_option *at;
    int n;
    void *options;
    bool given[96];              /* set for those that the user gave */
    const tsr_default *defaults; /* a recipe's, instead of those in the table; may be NULL */
    int n_defaults;
} tsr_arguments_table;

typedef struct tsr_arguments {
    const char *usage;       /* "knn CHECKPOINT --data DIR [options]": after the program's name */
    const char *example;     /* a command line, after the program's name too */
    const char *description; /* a paragraph of --help */
    const tsr_flag *flags;
    int n_flags;
    tsr_arguments_table *tables;
    int n_tables;
    const char *positional[16]; /* what was given beside flags */
    int n_positional, min_positional, max_positional;
} tsr_arguments;

/* -1: go on; else the exit status (--help was printed, or usage was wrong and said so). `--threads N` is understood everywhere. */
int tsr_arguments__parse(tsr_arguments *arguments, int argc, char **argv);
/* The name that is nearest to one that is not known: offered one by one, name is the best if one is near enough, else NULL. */
typedef struct tsr_nearest {
    const char *given;
    const char *name;
    size_t distance;
} tsr_nearest;
void tsr_nearest__offer(tsr_nearest *n, const char *name);
/* Prints the sticky status, the usage and where to read more, as `tessera: message`; returns TSR_EXIT_USAGE. */
int tsr_arguments__refuse(const tsr_arguments *arguments);
/* Prints the sticky status as `tessera: message`, and returns the exit status that fits it. */
int tsr_program__report(void);

/* ---- recipes on the command line (recipe_arguments.c) ---- */

/* A recipe, the options of it and of training, and what its --help says. */
typedef struct tsr_recipe_arguments {
    const tsr_recipe *recipe;
    tsr_train_options train;
    void *options;
    tsr_arguments_table tables[2]; /* training, the recipe's */
    const char *preset;            /* what --preset gave; for a flag of this name */
    char description[2048];
} tsr_recipe_arguments;

/* argv[1] names the recipe; defaults, then --preset, wherever it stands: single options override it. -1: go on with
 * tsr_arguments__parse(argc - 1, argv + 1); else the exit status, and what was wrong has been said (or the recipes were listed). */
int tsr_recipe_arguments__open(tsr_recipe_arguments *r, const char *command, int argc, char **argv);
/* about and the presets, for --help; r->description is that of the recipe at first. */
const char *tsr_recipe_arguments__describe(tsr_recipe_arguments *r, const char *about);
void tsr_recipe_arguments__close(tsr_recipe_arguments *r);
#define TSR_PRESET_FLAG(r)                                                                         \
    {                                                                                              \
        "preset", TSR_FLAG_TEXT, &(r).preset, "NAME",                                              \
            "a set of options; single ones may still be given"                                     \
    }

/* ---- the terminal (screen.c) ---- */

double tsr_screen__now(void); /* seconds */
/* 3725 -> "1h02m", 65 -> "1m05s"; into text, which it returns. */
enum { TSR_SCREEN_DURATION = 32 };
const char *tsr_screen__duration(double seconds, char text[TSR_SCREEN_DURATION]);

/* A line on a terminal's stderr that says how far something is and when it will end; nothing elsewhere. */
typedef struct tsr_progress {
    const char *what;
    double start, last; /* zero at first */
} tsr_progress;
void tsr_progress__show(tsr_progress *p, int64_t done, int64_t of);
/* The same as a callback of the library: user is a tsr_progress. */
void tsr_progress__of(int64_t done, int64_t of, void *user);
void tsr_progress__end(tsr_progress *p);
/* The images of a data set that could not be read, in one line on stderr. */
void tsr_dataset__report(tsr_dataset *data);

/* ---- frozen backbones on the command line (frozen.c) ---- */

/* What knn, linear, features and attention share: a checkpoint, which weights of it, and which features. */
typedef struct tsr_frozen {
    const char *weights; /* "teacher" or "student"; NULL: what the recipe evaluates */
    int64_t last_blocks; /* 0: the command's default */
    int64_t avgpool;     /* -1: the command's default */
    int64_t batch, workers, size;
    char path[TSR_CHECKPOINT_PATH]; /* of the checkpoint */
    tsr_checkpoint *checkpoint;
    tsr_backbone *backbone;
} tsr_frozen;

#define TSR_FROZEN_DEFAULT                                                                         \
    {                                                                                              \
        .avgpool = -1                                                                              \
    }
#define TSR_WEIGHTS_FLAGS(f)                                                                       \
    {"weights", TSR_FLAG_TEXT, &(f).weights, "WHOSE",                                              \
     "teacher or student; default: the one that the recipe evaluates"},                            \
    {                                                                                              \
        "size", TSR_FLAG_INT, &(f).size, "PIXELS", "a side of the pictures; default: as trained",  \
            1, 4096                                                                                \
    }
#define TSR_FEATURE_FLAGS(f)                                                                               \
    {"last-blocks",                                                                                        \
     TSR_FLAG_INT,                                                                                         \
     &(f).last_blocks,                                                                                     \
     "N",                                                                                                  \
     "concatenate the class tokens of the last N blocks; default 1, of linear 4 below dim 768",            \
     1,                                                                                                    \
     256},                                                                                                 \
        {"avgpool",                                                                                        \
         TSR_FLAG_INT,                                                                                     \
         &(f).avgpool,                                                                                     \
         "MODE",                                                                                           \
         "0: class tokens; 1: the mean of the patch tokens; 2: both; default 0, of linear 2 from dim 768", \
         0,                                                                                                \
         2},                                                                                               \
        {"batch",                                                                                          \
         TSR_FLAG_INT,                                                                                     \
         &(f).batch,                                                                                       \
         "N",                                                                                              \
         "images that go through the network at once; default 64",                                         \
         1,                                                                                                \
         65536},                                                                                           \
    {                                                                                                      \
        "workers", TSR_FLAG_INT, &(f).workers, "N",                                                        \
            "loader threads; default: as many as --threads", 0, 256                                        \
    }

/* Opens the checkpoint (a file, or the directory of a run: its newest) and loads the backbone. */
tsr_status tsr_frozen__open(tsr_frozen *f, const char *checkpoint);
/* One line on what was opened. */
void tsr_frozen__describe(const tsr_frozen *f);
/* What the flags ask for, or the command's own defaults; progress goes to p. */
tsr_extract_options tsr_frozen__features(const tsr_frozen *f, int last_blocks, tsr_pooling pooling,
                                         tsr_progress *p);
void tsr_frozen__close(tsr_frozen *f);

/* ---- evaluations of frozen features: knn, linear (evaluation.c) ---- */

/* A method's row of the table: this checkpoint's features, those of an untrained network, raw pixels. */
typedef struct tsr_evaluation_row {
    const char *method;
    const tsr_backbone *backbone; /* NULL: raw pixels */
    tsr_extract_options extract;
    tsr_dataset *train;
    tsr_features train_features, test_features;
    double start; /* tsr_screen__now() before the features were made */
    int64_t classes;
} tsr_evaluation_row;

typedef struct tsr_evaluation {
    tsr_frozen frozen;
    const char *data, *test_data;
    int64_t train_images, test_images;
    bool no_baselines;
    /* The command's own: */
    int last_blocks;
    tsr_pooling pooling;
    bool small_4_large_both; /* the linear probe's rule instead of the two above */
    uint64_t seed;
    void (*head)(void *user);                                     /* prints the table's head */
    tsr_status (*row)(const tsr_evaluation_row *row, void *user); /* evaluates, and prints a row */
    void *user;
} tsr_evaluation;

#define TSR_EVALUATION_DEFAULT                                                                     \
    {                                                                                              \
        .frozen = TSR_FROZEN_DEFAULT                                                               \
    }
#define TSR_EVALUATION_FLAGS(e)                                                                    \
    {"data", TSR_FLAG_TEXT, &(e).data, "DIR",                                                      \
     "labelled images, with a training and a test (or val) part: folders, shards, IDX, CIFAR"},    \
        {"test-data", TSR_FLAG_TEXT, &(e).test_data, "DIR",                                        \
         "where the test part is, if elsewhere"},                                                  \
        {"train-images",                                                                           \
         TSR_FLAG_INT,                                                                             \
         &(e).train_images,                                                                        \
         "N",                                                                                      \
         "use only N training images, spread evenly; default: all",                                \
         1,                                                                                        \
         1e12},                                                                                    \
        {"test-images",                                                                            \
         TSR_FLAG_INT,                                                                             \
         &(e).test_images,                                                                         \
         "N",                                                                                      \
         "use only N test images; default: all",                                                   \
         1,                                                                                        \
         1e12},                                                                                    \
    {                                                                                              \
        "no-baselines", TSR_FLAG_SWITCH, &(e).no_baselines, NULL,                                  \
            "leave out the untrained network and raw pixels"                                       \
    }

/* Opens everything, and calls head and row. Returns the exit status. */
int tsr_evaluation__run(tsr_evaluation *e, const char *checkpoint);

int tsr_command__attention(int argc, char **argv);
int tsr_command__data_pack(int argc, char **argv); /* pack.c */
int tsr_command__cluster(int argc, char **argv);
int tsr_command__data(int argc, char **argv);
int tsr_command__diff_recipe(int argc, char **argv);
int tsr_command__export(int argc, char **argv);
int tsr_command__features(int argc, char **argv);
int tsr_command__gradcheck(int argc, char **argv);
int tsr_command__import(int argc, char **argv);
int tsr_command__inspect(int argc, char **argv);
int tsr_command__knn(int argc, char **argv);
int tsr_command__linear(int argc, char **argv);
int tsr_command__plan(int argc, char **argv);
/* What a run over so many images will take, from a few steps of it; sets what fits train->memory_budget (plan.c). */
tsr_status tsr_plan__print(const tsr_trial_run *run, tsr_train_options *train, int64_t images);
int tsr_command__pretrain(int argc, char **argv);
int tsr_command__finetune(int argc, char **argv);
int tsr_command__recipes(int argc, char **argv);

#endif
