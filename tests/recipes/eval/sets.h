/* Made-up features for the tests of the evaluations. */
#ifndef TSR_TESTS_RECIPES_EVAL_SETS_H
#define TSR_TESTS_RECIPES_EVAL_SETS_H

#include "../../test.h"
#include "recipes/eval/eval.h"

static inline tsr_features make_set(int64_t n, int64_t d, const float *x, const int64_t *labels)
{
    return (tsr_features){tsr_from(TSR_DTYPE_F32, TSR_SHAPE(n, d), x),
                          tsr_from(TSR_DTYPE_I64, TSR_SHAPE(n), labels)};
}

/* Classes that overlap: noise around one random centre for each. stream: 0 training, 1 test. */
static inline tsr_features random_set(int64_t n, int64_t d, int64_t classes, double noise,
                                      uint32_t stream)
{
    tsr_features set = {tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(n, d)),
                        tsr_empty(TSR_DTYPE_I64, TSR_SHAPE(n))};
    tsr_tensor *centres = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(classes, d));
    tsr_fill_normal(centres, tsr_rng_make(1, 0, 0, 0), 0.0, 1.0);
    float *x = tsr_tensor_data_mut(set.x);
    int64_t *labels = tsr_tensor_data_mut(set.labels);
    tsr_rng rng = tsr_rng_make(2, stream, 0, 0);
    for (int64_t i = 0; i < n; i++) {
        labels[i] = tsr_rng_below(&rng, classes);
        for (int64_t j = 0; j < d; j++) {
            x[i * d + j] =
                (float)(tsr_tensor_get(centres, labels[i] * d + j) + noise * tsr_rng_normal(&rng));
        }
    }
    return set;
}

/* A callback that counts, and keeps what it was told last. */
typedef struct steps {
    int64_t calls, done, of;
} steps;

static inline void count_steps(int64_t done, int64_t of, void *user)
{
    steps *s = user;
    assert_true(done > s->done && done <= of);
    *s = (steps){s->calls + 1, done, of};
}

#endif
