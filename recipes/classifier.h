/* A backbone with a linear classifier, for the recipes that train with labels. Not installed. */
#ifndef TSR_RECIPES_CLASSIFIER_H
#define TSR_RECIPES_CLASSIFIER_H

#include "recipes/recipes.h"

/* What is classified: the class token, or fc_norm(mean of the last block's patch tokens). In the order of the choices of
 * --pooling. */
typedef enum tsr_classifier_pooling {
    TSR_CLASSIFIER_CLASS = 0,
    TSR_CLASSIFIER_MEAN,
} tsr_classifier_pooling;

typedef struct tsr_classifier_config {
    tsr_classifier_pooling pooling;
    int64_t hidden;  /* of the projection; 0: none */
    int64_t classes; /* K; 0 is refused (ARGUMENT): the images have no labels */
    tsr_dtype dtype;
} tsr_classifier_config;

/* Children backbone, fc_norm, projection, head. */
typedef struct tsr_classifier {
    tsr_module module;
    tsr_backbone *backbone;
    tsr_norm_layer *fc_norm;      /* NULL with the class token */
    tsr_linear_layer *projection; /* [hidden, D], with a GELU after it; NULL: none */
    tsr_linear_layer *head;       /* [K, D or hidden] */
} tsr_classifier;

/* Owns the backbone (NULL in: NULL out). */
tsr_classifier *tsr_classifier__new(tsr_backbone *backbone, const tsr_classifier_config *config);
/* images [B, C, H, W] -> logits [B, K]; rng: of drop path. */
tsr_tensor *tsr_classifier__logits(const tsr_classifier *m, tsr_tensor *images, tsr_rng rng);
/* ARGUMENT names the first image without a label. */
tsr_status tsr_classifier__check_labels(const tsr_dataset *images);

/* Labels I64 [B] as distributions over K classes [B, K]: 1 - smoothing for the label, and smoothing spread over all
 * (Szegedy et al. 2016, section 7). */
tsr_tensor *tsr_classifier__targets(tsr_tensor *labels, int64_t classes, double smoothing,
                                    tsr_dtype dtype);

/* Logs cross entropy, the share of images whose label has the largest logit, and, where there are more than five classes,
 * of those where it is among the first five, of the fields "image" and "label". Names: of the three numbers. */
void tsr_classifier__evaluate(const tsr_classifier *m, tsr_step *step, const char *const names[3]);

/* tsr_view_eval(), of all recipes here. */
int tsr_classifier__evaluation_views(const tsr_build *build, tsr_view_spec *specs, int max);

#endif
