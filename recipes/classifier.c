/* A backbone with a linear classifier, and how well it does. */
#include "recipes/classifier.h"

#include "ops/ops.h"

#include <math.h>

tsr_classifier *tsr_classifier__new(tsr_backbone *backbone, const tsr_classifier_config *config)
{
    if (backbone != NULL && config->classes < 1) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "the images have no labels to train with: expected a folder for each class in "
                 "train/ and val/, or IDX or CIFAR files");
    }
    tsr_dtype dtype = config->dtype;
    tsr_classifier *m = backbone == NULL || config->classes < 1
                            ? NULL
                            : tsr_module_new(sizeof *m, "classifier", dtype);
    if (m == NULL) {
        tsr_module_free(&backbone);
        return NULL;
    }
    tsr_module *base = &m->module;
    int64_t dim = backbone->dim;
    m->backbone = tsr_module_child(base, "backbone", backbone);
    if (config->pooling == TSR_CLASSIFIER_MEAN) {
        m->fc_norm =
            tsr_module_child(base, "fc_norm", tsr_norm_new(TSR_NORM_LAYER, dim, 1e-6, dtype));
    }
    if (config->hidden > 0) {
        m->projection =
            tsr_module_child(base, "projection", tsr_linear_new(dim, config->hidden, true, dtype));
        dim = config->hidden;
    }
    m->head = tsr_module_child(base, "head", tsr_linear_new(dim, config->classes, true, dtype));
    return tsr_module_finish(base);
}

/* What is classified, [B, D]. */
static tsr_tensor *pooled(const tsr_classifier *m, tsr_tensor *images, tsr_rng rng)
{
    tsr_backbone_options options = {.rng = rng, .no_norm = m->fc_norm != NULL};
    tsr_tensor *tokens;
    if (m->fc_norm == NULL) return tsr_backbone_rows(m->backbone, images, NULL, &options);
    if (tsr_backbone_intermediate(m->backbone, images, 1, &options, &tokens) != TSR_STATUS_OK)
        return NULL;
    tsr_tensor *mean = tsr_mean(tsr_tokens_patches(tokens), (const int[]){1}, 1, false);
    return tsr_norm_forward(m->fc_norm, mean);
}

tsr_tensor *tsr_classifier__logits(const tsr_classifier *m, tsr_tensor *images, tsr_rng rng)
{
    if (images == NULL) return NULL;
    tsr_scope scope = tsr_module_enter(&m->module);
    tsr_tensor *x = pooled(m, images, rng);
    if (m->projection != NULL) x = tsr_linear_gelu_forward(m->projection, x);
    return tsr_module_leave(&scope, tsr_linear_forward(m->head, x));
}

tsr_status tsr_classifier__check_labels(const tsr_dataset *images)
{
    char name[TSR_DATASET_NAME];
    for (int64_t i = 0; i < tsr_dataset_count(images); i++) {
        if (tsr_dataset_label(images, i) >= 0) continue;
        return tsr_fail(TSR_STATUS_ARGUMENT, "the image %s has no label",
                        tsr_dataset_name(images, i, name));
    }
    return TSR_STATUS_OK;
}

tsr_tensor *tsr_classifier__targets(tsr_tensor *labels, int64_t classes, double smoothing,
                                    tsr_dtype dtype)
{
    return tsr_affine(tsr_one_hot(labels, classes, dtype), 1.0 - smoothing,
                      smoothing / (double)classes);
}

/* How many logits are larger than the label's, or equal and before it; K where the label's is NaN, or there is none. */
static int64_t rank_of(const tsr_tensor *logits, int64_t row, int64_t classes, int64_t label)
{
    if (label < 0 || label >= classes) return classes;
    double own = tsr_tensor_get(logits, row * classes + label);
    int64_t rank = 0;
    for (int64_t c = 0; c < classes; c++) {
        double other = tsr_tensor_get(logits, row * classes + c);
        rank += !(other < own) && (other != own || c < label);
    }
    return isnan(own) ? classes : rank;
}

void tsr_classifier__evaluate(const tsr_classifier *m, tsr_step *step, const char *const names[3])
{
    tsr_tensor *labels = tsr_step_input(step, "label");
    tsr_tensor *logits =
        tsr_classifier__logits(m, tsr_step_input(step, "image"), tsr_step_rng(step));
    if (logits == NULL || labels == NULL) return;
    tsr_tensor *loss = tsr_mean(tsr_cross_entropy(logits, labels, -1), NULL, 0, false);
    int64_t n = tsr_tensor_size(logits, 0), classes = tsr_tensor_size(logits, 1), top1 = 0,
            top5 = 0;
    for (int64_t i = 0; loss != NULL && i < n; i++) {
        int64_t rank = rank_of(logits, i, classes, (int64_t)tsr_tensor_get(labels, i));
        top1 += rank < 1;
        top5 += rank < 5;
    }
    tsr_step_log(step, names[0], loss);
    tsr_step_log(step, names[1], tsr_scalar(TSR_DTYPE_F64, (double)top1 / (double)n));
    if (classes > 5)
        tsr_step_log(step, names[2], tsr_scalar(TSR_DTYPE_F64, (double)top5 / (double)n));
}

int tsr_classifier__evaluation_views(const tsr_build *build, tsr_view_spec *specs, int max)
{
    (void)max;
    specs[0] = tsr_view_eval((int)build->train->image_size);
    return 1;
}
