/* What a run writes down beside its checkpoints: log.jsonl, a JSON object a line, and TensorBoard event files. */
#ifndef TSR_RECIPES_LOG_H
#define TSR_RECIPES_LOG_H

#include "autograd/autograd.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tsr_run_log tsr_run_log;

typedef struct tsr_run_log_number {
    const char *name;
    double value; /* NaN and infinity are written as null */
} tsr_run_log_number;

/* Opens DIRECTORY/log.jsonl to append, after dropping rows of step `position` and later (they will be written again by a
 * run that resumes there) and a last line that was cut, and a new TensorBoard file in it. NULL: IO. */
TSR_API tsr_run_log *tsr_run_log_open(const char *directory, int64_t position);
/* One row: {"step": ..., "epoch": ..., name: value, ...}, flushed; and a scalar each. */
TSR_API tsr_status tsr_run_log_write(tsr_run_log *log, int64_t step, int64_t epoch,
                                     const tsr_run_log_number *numbers, int n);
TSR_API void tsr_run_log_close(tsr_run_log **log);

#ifdef __cplusplus
}
#endif

#endif
