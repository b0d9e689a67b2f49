/* A whole pre-training run: data, trainer, checkpoints, log. */
#ifndef TSR_RECIPES_RUN_H
#define TSR_RECIPES_RUN_H

#include "recipes/recipes.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Zero means the default. */
typedef struct tsr_run_options {
    const char *data;   /* folder of images, of IDX or of CIFAR files */
    const char *out;    /* directory of checkpoints and log; made if it is not there */
    uint64_t seed;
    int64_t workers;    /* loader threads */
    int64_t save_every; /* steps between checkpoints; 0: once an epoch */
    int64_t keep;       /* newest checkpoints kept; 0: 2 */
    int64_t stop_after; /* end (with a checkpoint) after this many steps of the run; 0: at its end */
    bool resume;        /* go on from the newest checkpoint in out */
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
    void (*started)(const tsr_trainer *trainer, const tsr_dataset *data, int64_t position, void *user);
    void (*progress)(const tsr_run_progress *progress, void *user); /* after each step */
    void (*saved)(const char *path, void *user);
    void (*warning)(const char *text, void *user); /* of the health monitor, or images that could not be read */
    bool (*stop)(void *user);                      /* asked after each step: true ends the run with a checkpoint */
} tsr_run_events;

/*
 * Trains until the end of the run, or until it is stopped: INTERRUPTED then, with a checkpoint written. NUMERIC: the loss or a
 * gradient was not finite; the last checkpoint is untouched. The final checkpoint's bytes depend on the options and the
 * data alone: not on threads, workers, or how often the run was stopped, killed and resumed.
 */
TSR_API tsr_status tsr_run(const tsr_recipe *recipe, const tsr_train_options *train, const void *recipe_options,
                           const tsr_run_options *options, const tsr_run_events *events);

#ifdef __cplusplus
}
#endif

#endif
