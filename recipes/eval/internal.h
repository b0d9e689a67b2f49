/* What the evaluations share. Not installed. */
#ifndef TSR_RECIPES_EVAL_INTERNAL_H
#define TSR_RECIPES_EVAL_INTERNAL_H

#include "recipes/eval/eval.h"

/* Checked features: x [n, d] packed, labels in [0, INT64_MAX). */
typedef struct tsr_eval_set {
    const float *x;
    const int64_t *labels;
    int64_t n, d;
} tsr_eval_set;

/* Checks both sets and packs them, in the innermost scope; *classes is one more than the largest training label. what: the
 * operation, for messages. */
bool tsr_eval__sets(const char *what, const tsr_features *train, const tsr_features *test,
                    tsr_eval_set *train_set, tsr_eval_set *test_set, int64_t *classes);
/* Checks f32 features [n, d] and packs them. name: "training" or "test". */
const float *tsr_eval__features(const char *what, const char *name, tsr_tensor *x, int64_t n,
                                int64_t d);

/*
 * Scores m stacked classifiers, weight [m * classes, d], bias [m * classes] or NULL: top1[m] and top5[m]. A label's rank is
 * the number of classes with a larger logit, or an equal one and a smaller label; a NaN recognises nothing. False when out
 * of memory.
 */
bool tsr_eval__score(const tsr_eval_set *set, const float *weight, const float *bias, int64_t m,
                     int64_t classes, double *top1, double *top5);

#endif
