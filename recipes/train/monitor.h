/*
 * The health monitor: is a self-supervised run learning, or collapsing? Without labels, from the teacher's and student's
 * distributions over prototypes and from the features. The two collapses and their cures are those of Caron et al., DINO
 * (arXiv 2104.14294), section 5.3: centring works against one prototype taking all, sharpening against the uniform one.
 */
#ifndef TSR_RECIPES_MONITOR_H
#define TSR_RECIPES_MONITOR_H

#include "autograd/autograd.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tsr_monitor tsr_monitor;

enum { TSR_MONITOR_NUMBERS = 32, TSR_MONITOR_NAME = 48 };

/* What one look saw: numbers by name. For a distribution called "cls": cls_entropy (mean entropy of a row, as a share of
 * ln K), cls_spread (entropy of the mean row, as a share of ln K), cls_used (prototypes that are some row's largest, as a
 * share of what could be), cls_agreement; for features: feature_std; and what the recipe adds. */
typedef struct tsr_monitor_look {
    int64_t step;
    int n;
    char name[TSR_MONITOR_NUMBERS][TSR_MONITOR_NAME];
    double value[TSR_MONITOR_NUMBERS];
} tsr_monitor_look;

TSR_API tsr_monitor *tsr_monitor_create(void);
TSR_API void tsr_monitor_free(tsr_monitor **monitor);
/* Begins a look at a step: what was noted before is kept in the history. */
TSR_API void tsr_monitor_begin(tsr_monitor *monitor, int64_t step);
/* probabilities [..., K] of rows that sum to 1. */
TSR_API void tsr_monitor_distribution(tsr_monitor *monitor, const char *name,
                                      tsr_tensor *probabilities);
/* How often two sets of rows [..., K] have their largest entry in the same place: name_agreement. */
TSR_API void tsr_monitor_agreement(tsr_monitor *monitor, const char *name, tsr_tensor *a,
                                   tsr_tensor *b);
/* Features [B, D]: the standard deviation over B of each dimension of the L2-normalized features, averaged, times sqrt(D). Near 1
 * for features spread evenly over the sphere, 0 when all are the same. */
TSR_API void tsr_monitor_features(tsr_monitor *monitor, tsr_tensor *features);
TSR_API void tsr_monitor_number(tsr_monitor *monitor, const char *name, double value);

/* The looks so far, oldest first. */
TSR_API int64_t tsr_monitor_count(const tsr_monitor *monitor);
TSR_API const tsr_monitor_look *tsr_monitor_at(const tsr_monitor *monitor, int64_t i);
/* NAN where the look has no such number. */
TSR_API double tsr_monitor_value(const tsr_monitor_look *look, const char *name);
/* Adds a look from a checkpoint to the history. */
TSR_API tsr_status tsr_monitor_restore(tsr_monitor *monitor, const tsr_monitor_look *look);

/*
 * What the latest look means, in words: what is wrong, how that is seen, and which option to turn. "" while all is well.
 * Written into buffer, which it returns. A warning wants two looks in a row.
 */
enum { TSR_MONITOR_WARNING = 400 };
TSR_API const char *tsr_monitor_warning(const tsr_monitor *monitor,
                                        char buffer[TSR_MONITOR_WARNING]);

#ifdef __cplusplus
}
#endif

#endif
