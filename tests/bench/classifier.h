/* A ViT with a linear classifier and AdamW: the supervised step that the benchmarks time. */
#ifndef TSR_TESTS_BENCH_CLASSIFIER_H
#define TSR_TESTS_BENCH_CLASSIFIER_H

#include "models/models.h"
#include "recipes/train/optimizer.h"

typedef struct classifier {
    tsr_module module;
    tsr_vit *vit;
    tsr_linear_layer *head;
    tsr_optimizer *optimizer;
    tsr_tensor *images, *labels; /* one batch, of noise and of class 0 */
} classifier;

/* 224 pixels, patch 16, 1000 classes, f32; images live in the innermost scope. NULL with a sticky status on failure. */
classifier *classifier_make(const char *model, int64_t batch);
void classifier_free(classifier **m);
/* Forward, backward, AdamW. */
void classifier_step(classifier *m);
/* Class tokens, nothing recorded. */
void classifier_infer(classifier *m);

#endif
