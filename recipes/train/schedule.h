/*
 * Schedules: values as functions of a counter (a step, or an epoch). They have no state; a resumed run needs none of them
 * restored.
 */
#ifndef TSR_RECIPES_TRAIN_SCHEDULE_H
#define TSR_RECIPES_TRAIN_SCHEDULE_H

#include "autograd/autograd.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * iBOT's cosine_scheduler (utils.py), for learning rate, weight decay and teacher momentum. warmup values on a line from
 * start to base, both included, then half a cosine from base towards final (Loshchilov & Hutter 2017, equation 5):
 *
 *     at(i) = start + (base - start) i / (warmup - 1)                                         i < warmup
 *     at(i) = final + (base - final) / 2 (1 + cos(pi (i - warmup) / (steps - warmup)))        warmup <= i < steps
 *     at(i) = final                                                                           i >= steps
 *
 * So base is the value of two steps, warmup - 1 and warmup; final is not reached before steps; a warmup of one is the
 * value start. base = final is a constant.
 */
typedef struct tsr_schedule_cosine {
    double start, base, final;
    int64_t warmup, steps;
} tsr_schedule_cosine;

TSR_API double tsr_schedule_cosine_at(const tsr_schedule_cosine *schedule, int64_t i);

/*
 * iBOT's teacher temperatures (main_ibot.py, iBOTLoss), one value an epoch: start for delay epochs (pred_start_epoch, for the
 * patch temperature), then warmup values on a line from start to base, both included, then base.
 */
typedef struct tsr_schedule_warmup {
    double start, base;
    int64_t delay, warmup;
} tsr_schedule_warmup;

TSR_API double tsr_schedule_warmup_at(const tsr_schedule_warmup *schedule, int64_t i);

#ifdef __cplusplus
}
#endif

#endif
