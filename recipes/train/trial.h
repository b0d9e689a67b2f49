/* A few steps of a run that leave nothing behind: what it takes here, and what fits a budget of memory. Also which images a
 * run trains on. Not installed. */
#ifndef TSR_RECIPES_TRIAL_H
#define TSR_RECIPES_TRIAL_H

#include "recipes/recipes.h"

/* Whose steps; build.train is the trial's own. */
typedef struct tsr_trial_run {
    const tsr_recipe *recipe;
    tsr_build build;
    tsr_dataset *data;
    int64_t workers;
} tsr_trial_run;

typedef struct tsr_trial {
    int64_t student, teacher; /* parameters */
    double bytes, state;      /* peak; of parameters, gradients, moments and teacher alone */
    double reserved;          /* what tensors took from the system in all, the data set's too */
    double image;             /* bytes of the loader, for an image of the batch */
    double seconds;           /* a step */
    double products;          /* multiply-adds of a step in matrix products */
} tsr_trial;

/* timed: so many more steps that the first one, which fills the pool, does not count in seconds. */
tsr_status tsr_trial__run(const tsr_trial_run *run, const tsr_train_options *train, bool timed,
                          tsr_trial *trial);
/*
 * Sets micro_batch (at most what it is; of 0 the batch) and recompute_blocks (if it is not set) so that a step stays within
 * train->memory_budget: the largest micro-batch, and blocks are recomputed only where a micro-batch of one image does not
 * fit otherwise. trial: of what was chosen, with the whole batch's images in `reserved`. ARGUMENT: nothing fits.
 */
tsr_status tsr_trial__fit(const tsr_trial_run *run, tsr_train_options *train, tsr_trial *trial);

/* The images of a run: used is what it trains on, all of whole or a part of it. To be closed on failure too. */
struct tsr_run_data {
    tsr_dataset *whole, *used;
};
tsr_status tsr_run__open_data(const tsr_run_options *options, struct tsr_run_data *data);
void tsr_run__close_data(struct tsr_run_data *data);

#endif
