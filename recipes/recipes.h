/*
 * recipes: what is trained, on what, and how. A recipe is a table of options, the views of an image that it wants, its
 * networks and one function from a batch to a loss; the trainer does the rest and knows no recipe by name.
 * docs/writing-a-recipe.md builds one.
 */
#ifndef TSR_RECIPES_H
#define TSR_RECIPES_H

#include "models/models.h"
#include "recipes/data/data.h"
#include "recipes/eval/eval.h"
#include "recipes/eval/features.h"
#include "recipes/train/monitor.h"
#include "recipes/train/optimizer.h"
#include "recipes/train/options.h"
#include "recipes/train/schedule.h"
#include "serialization/serialization.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ a step ------------------------------------------ */

/* What the trainer tells a recipe about the step it is in. */
typedef struct tsr_step tsr_step;

TSR_API int64_t tsr_step_epoch(const tsr_step *step); /* from 0 */
TSR_API int64_t tsr_step_index(const tsr_step *step); /* of the whole run, from 0 */
/* Random numbers of this step: set purpose for each use. What is drawn by tsr_rng_row() for the rows of a field is what the
 * whole batch draws, however it is cut into micro-batches. */
TSR_API tsr_rng tsr_step_rng(const tsr_step *step);
/* A field of the batch: "global" f32 [copies * B, 3, S, S], copy-major, and the like; of the model's type when floating.
 * ARGUMENT: no such field. */
TSR_API tsr_tensor *tsr_step_input(const tsr_step *step, const char *name);
TSR_API bool tsr_step_has_input(const tsr_step *step, const char *name);

/* Writes down one number of this step for the progress line and the log: the mean over its micro-batches. name lives on. */
TSR_API void tsr_step_log(tsr_step *step, const char *name, tsr_tensor *value);
/*
 * A statistic of the whole batch: the mean over micro-batches (and, once there are several, over workers) of what the loss
 * function hands in here, ready when after_step runs. This and the gradients are all that a batch cut into parts shares.
 */
TSR_API void tsr_step_average(tsr_step *step, const char *name, tsr_tensor *value);
TSR_API tsr_tensor *tsr_step_averaged(const tsr_step *step, const char *name);
/* The health monitor when it looks at this step, else NULL. */
TSR_API tsr_monitor *tsr_step_monitor(const tsr_step *step);

/* ------------------------------------------------------------------ recipes ----------------------------------------- */

/* What a run is made of, for the recipe to build upon. */
typedef struct tsr_build {
    const tsr_train_options *train;
    const void *options; /* the recipe's own, parsed */
    tsr_dtype dtype;
    uint64_t seed;
    int64_t classes; /* of the labels of the images; 0: they have none */
    /* What the run begins or goes on with, for a network whose shape is that of its weights; NULL: nothing. from_weights:
     * of its networks, as tsr_run_options.init_weights. */
    const tsr_checkpoint *from;
    const char *from_weights;
} tsr_build;

/* One field of a batch: tensor [copies * batch, ...], copy-major. */
typedef struct tsr_input {
    const char *name;
    tsr_tensor *tensor;
} tsr_input;

/* A recipe's networks; all of it is saved in checkpoints, under the names of the fields. */
typedef struct tsr_networks {
    tsr_module *student; /* what the optimizer trains */
    tsr_module *teacher; /* the student's moving average; NULL: none */
    tsr_module *state;   /* buffers that are neither: centres, ...; NULL: none */
    const char *feature; /* of a frozen-feature evaluation: "teacher.backbone" */
    void *self;          /* the recipe's own; it owns nothing of the above */
} tsr_networks;

typedef struct tsr_preset {
    const char *name;    /* "fashion-mnist" */
    const char *meaning; /* one line */
    const char *options; /* "epochs=20 batch=64 lr=1e-3": of the run, the training and the recipe */
} tsr_preset;

/* A training option whose published value is another than the default of the table of all runs. */
typedef struct tsr_default {
    const char *option; /* "weight-decay" */
    const char *value;  /* "0.05" */
    const char *source; /* "paper, table 8" */
} tsr_default;

typedef struct tsr_recipe {
    const char *name;  /* "ibot" */
    const char *title; /* one line */
    const char *paper; /* "Zhou et al., iBOT, ICLR 2022, arXiv 2111.07832" */
    const tsr_option *options;
    int n_options;
    size_t options_size;
    const tsr_default *defaults; /* of training; NULL: all as in the table */
    int n_defaults;
    const tsr_preset *presets; /* on top of the defaults */
    int n_presets;
    /* Fills at most max specs; returns how many, or -1 with a sticky status. */
    int (*views)(const tsr_build *build, tsr_view_spec *specs, int max);
    tsr_status (*build)(const tsr_build *build, tsr_networks *networks);
    /* Takes weights of another run, before the first step, from the network of this name ("teacher", "student"; NULL: the
     * one that is evaluated). NULL: the student's backbone and the teacher's take those of the backbone. */
    tsr_status (*adopt)(const tsr_networks *networks, tsr_checkpoint *from, const char *weights);
    /* Learns from the images what must be known before the first step and is saved with the networks; not called when a run
     * is resumed. NULL: nothing. */
    tsr_status (*start)(const tsr_networks *networks, const tsr_build *build, tsr_dataset *images);
    /* What the optimizer does with a parameter of the student: its decays and lr_scale may be changed. NULL: nothing is. */
    void (*group)(const tsr_networks *networks, tsr_optimizer_parameter *parameter);
    /* On the whole batch, before it is cut into micro-batches: replaces fields, adds some (at most max in all), and returns
     * how many there are then. NULL: the batch is taken as it is. */
    int (*prepare)(const tsr_networks *networks, tsr_step *step, tsr_input *inputs, int n, int max);
    /* Where the loss takes statistics over the whole batch, as batch norm does: the part of the graph that looks at each image
     * alone, [copies * n, ...] of n images, copy-major. The loss then sees the batch whole, with this as its field "embed",
     * however the batch is cut: embed runs part by part, and once more for its gradient. It logs nothing. NULL: none. */
    tsr_tensor *(*embed)(const tsr_networks *networks, tsr_step *step);
    /* The graph: a floating scalar, averaged over the samples of the batch. */
    tsr_tensor *(*loss)(const tsr_networks *networks, tsr_step *step);
    /* After the optimizer's and the teacher's update; may be NULL. */
    void (*after_step)(const tsr_networks *networks, tsr_step *step);
    /* Does this parameter take part in this epoch's updates? NULL: all do. */
    bool (*trains)(const tsr_networks *networks, const char *parameter, int64_t epoch);
    /* How well it does on images that it is not trained on, at the end of each epoch: what their views are, and numbers by
     * tsr_step_log() for a batch of them. Networks are in evaluation mode, nothing is recorded. Both NULL: not measured. */
    int (*evaluation_views)(const tsr_build *build, tsr_view_spec *specs, int max);
    void (*evaluate)(const tsr_networks *networks, tsr_step *step);
    void (*release)(tsr_networks *networks); /* frees self; may be NULL */
} tsr_recipe;

/* The recipes of the library: returns them, n is how many. */
TSR_API const tsr_recipe *const *tsr_recipes(int *n);
TSR_API const tsr_recipe *tsr_recipe_find(const char *name); /* NULL and ARGUMENT: unknown */
TSR_API const tsr_recipe *tsr_recipe_find_in(const tsr_recipe *const *recipes, int n,
                                             const char *name);

/* All options of training and of the recipe, as published. options: recipe->options_size bytes. */
TSR_API tsr_status tsr_recipe_defaults(const tsr_recipe *recipe, tsr_train_options *train,
                                       void *options);
/* Then what a preset changes of them. ARGUMENT: no such preset; the message lists those that there are. */
TSR_API tsr_status tsr_recipe_preset(const tsr_recipe *recipe, const char *preset,
                                     tsr_train_options *train, void *options);

/* ------------------------------------------------------------------ training ---------------------------------------- */

/* What a step gave. Numbers by name, in the order in which the recipe logged them. */
enum { TSR_STEP_NUMBERS = 24 };
typedef struct tsr_step_result {
    double loss, lr, weight_decay, momentum, gradient_norm, gradient_norm_sum;
    int n_numbers;
    struct {
        const char *name;
        double value;
    } numbers[TSR_STEP_NUMBERS];
} tsr_step_result;

typedef struct tsr_trainer tsr_trainer;

/*
 * A trainer for recipe with steps_per_epoch optimizer steps an epoch. build's pointers must outlive it. NULL on failure.
 */
TSR_API tsr_trainer *tsr_trainer_make(const tsr_recipe *recipe, const tsr_build *build,
                                      int64_t steps_per_epoch);
TSR_API void tsr_trainer_free(tsr_trainer **trainer);
/*
 * One optimizer step on a batch: micro-batches, loss, backward, clipping, optimizer, teacher, after_step. NUMERIC when the
 * loss or a gradient is not finite: then nothing was changed, and the message names the cause.
 */
TSR_API tsr_status tsr_trainer_step(tsr_trainer *trainer, const tsr_input *inputs, int n_inputs,
                                    tsr_step_result *result);
/* The recipe's numbers over all batches of loader, averaged over images. ARGUMENT: the recipe measures nothing. */
TSR_API tsr_status tsr_trainer_evaluate(tsr_trainer *trainer, tsr_loader *loader,
                                        tsr_step_result *result);
TSR_API const tsr_networks *tsr_trainer_networks(const tsr_trainer *trainer);
TSR_API int64_t tsr_trainer_position(const tsr_trainer *trainer); /* optimizer steps done */
TSR_API tsr_monitor *tsr_trainer_monitor(const tsr_trainer *trainer);
/* Everything that the rest of the run depends on: parameters, moments, centres, position. Options are the caller's. */
TSR_API tsr_status tsr_trainer_save(tsr_trainer *trainer, tsr_checkpoint_writer *writer);
TSR_API tsr_status tsr_trainer_load(tsr_trainer *trainer, tsr_checkpoint *checkpoint);

/* ------------------------------------------------------------------ runs -------------------------------------------- */

/* Zero means the default. */
typedef struct tsr_run_options {
    const char *data; /* folder of images, of IDX or of CIFAR files */
    const char *out;  /* directory of checkpoints and log; made if it is not there */
    uint64_t seed;
    int64_t workers;    /* loader threads */
    int64_t save_every; /* steps between checkpoints; 0: once an epoch */
    int64_t keep;       /* newest checkpoints kept; 0: 2 */
    /* Epochs between the recipe's evaluations, besides that at the end; 0: 1. */
    int64_t evaluate_every;
    int64_t
        stop_after;   /* end (with a checkpoint) after this many steps of the run; 0: at its end */
    bool resume;      /* go on from the newest checkpoint in out */
    const char *init; /* a checkpoint, or the directory of a run, to take weights from */
    const char *init_weights; /* of which network: tsr_recipe.adopt */
    /* Training images: a share of each class, tsr_dataset_label_fraction() by the seed, or those that a file names,
     * tsr_dataset_label_list(). 0, NULL: all. Both are in checkpoints, and must be given again to resume. */
    double label_fraction;
    const char *label_list;
} tsr_run_options;

typedef struct tsr_run_progress {
    int64_t step, steps, epoch, epochs; /* done */
    double images_per_second;           /* of the last steps */
    double seconds_left;                /* by that; NAN at first */
    const tsr_step_result *result;
} tsr_run_progress;

/* What a program hears of a run; NULL members are not called. */
typedef struct tsr_run_events {
    void *user;
    void (*started)(const tsr_trainer *trainer, const tsr_dataset *data, int64_t position,
                    void *user);
    /* micro_batch and recompute_blocks were chosen for memory_budget; bytes: what the run will take */
    void (*fitted)(const tsr_train_options *train, double bytes, void *user);
    void (*progress)(const tsr_run_progress *progress, void *user); /* after each step */
    void (*saved)(const char *path, void *user);
    void (*evaluated)(const tsr_step_result *result, void *user); /* at the end of an epoch */
    void (*warning)(const char *text,
                    void *user); /* of the health monitor, or images that could not be read */
    bool (*stop)(void *user);    /* asked after each step: true ends the run with a checkpoint */
} tsr_run_events;

/*
 * Trains until the end of the run, or until it is stopped: INTERRUPTED then, with a checkpoint written. NUMERIC: the loss or a
 * gradient was not finite; the last checkpoint is untouched. The final checkpoint's bytes depend on the options and the
 * data alone: not on threads, workers, or how often the run was stopped, killed and resumed.
 */
TSR_API tsr_status tsr_run(const tsr_recipe *recipe, const tsr_train_options *train,
                           const void *recipe_options, const tsr_run_options *options,
                           const tsr_run_events *events);

/* ------------------------------------------------------------------ programs ---------------------------------------- */

/*
 * The main() of a program that trains recipes of its own: commands pretrain, recipes, diff-recipe, knn and linear, as those
 * of tessera, with --help, all options, presets, --resume, checkpoints, log and health monitor. Returns the exit status.
 *
 *   int main(int argc, char **argv)
 *   {
 *       static const tsr_recipe *const recipes[] = {&my_recipe};
 *       return tsr_main(argc, argv, recipes, 1);
 *   }
 *
 * Alone in the library this prints, and it starts the program once again with idle threads told to sleep (GOMP_SPINCOUNT, unless
 * that or OMP_WAIT_POLICY is set): call it first. recipes: n of them, which live on.
 */
TSR_API int tsr_main(int argc, char **argv, const tsr_recipe *const *recipes, int n);

/* The crop's share of the image from an option --scale from,to; false and ARGUMENT where it is not two numbers. */
TSR_API bool tsr_recipe_set_scale(tsr_view_spec *spec, const tsr_list *scale);

#ifdef __cplusplus
}
#endif

#endif
