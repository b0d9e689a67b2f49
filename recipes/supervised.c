/*
 * Training with labels from scratch: the plainest recipe there is. A vision transformer (Dosovitskiy et al. 2021), cross
 * entropy with label smoothing (Szegedy et al. 2016), random crops and flips. docs/finetuning.md has both recipes with
 * labels; recipes/finetune.c is the other.
 */
#include "ops/ops.h"
#include "recipes/classifier.h"

#include <stddef.h>

struct options {
    int pooling;
    double smoothing, drop_path;
    tsr_list scale;
};

static const tsr_option option_table[] = {
    {"pooling", TSR_OPTION_CHOICE, offsetof(struct options, pooling), "class", 0, 0, "class mean",
     "what is classified: the class token, or the mean of the patch tokens", "Dosovitskiy et al."},
    {"smoothing", TSR_OPTION_DOUBLE, offsetof(struct options, smoothing), "0.1", 0, 0.999, NULL,
     "share of the target that all classes have equally", "Szegedy et al. 2016, section 7"},
    {"drop-path", TSR_OPTION_DOUBLE, offsetof(struct options, drop_path), "0.1", 0, 0.99, NULL,
     "rate of stochastic depth in the last block", "Touvron et al. 2021 (DeiT), table 9"},
    {"scale", TSR_OPTION_LIST, offsetof(struct options, scale), "0.08,1", 0, 1, NULL,
     "share of the image that the crop covers, from,to",
     "DeiT's datasets.py: timm's create_transform"},
};

static const tsr_default defaults[] = {
    {"epochs", "300", "DeiT, table 9"},
    {"min-lr", "1e-5", "DeiT's main.py --min-lr"},
    {"warmup-epochs", "5", "DeiT, table 9"},
    {"weight-decay", "0.05", "DeiT, table 9"},
    {"weight-decay-end", "0.05", "DeiT, table 9"},
    {"clip", "0", "DeiT, table 9"},
};

static const tsr_preset presets[] = {
    {"quickstart", "Fashion-MNIST, with the arithmetic of ibot's quickstart",
     "image-size=28 patch-size=7 dim=96 depth=4 heads=3 drop-path=0 batch=32 epochs=4 "
     "scale=0.8,1 warmup-epochs=0.2 lr=6e-3"},
};

static int views(const tsr_build *build, tsr_view_spec *specs, int max)
{
    const struct options *o = build->options;
    (void)max;
    specs[0] = tsr_view_linear((int)build->train->image_size);
    return tsr_recipe_set_scale(&specs[0], &o->scale) ? 1 : -1;
}

static tsr_status build(const tsr_build *b, tsr_networks *n)
{
    const struct options *o = b->options;
    tsr_train_backbone_options backbone = {.drop_path = o->drop_path, .dtype = b->dtype};
    tsr_classifier_config config = {
        .pooling = (tsr_classifier_pooling)o->pooling, .classes = b->classes, .dtype = b->dtype};
    tsr_classifier *m = tsr_classifier__new(tsr_train_backbone(b->train, &backbone), &config);
    if (m == NULL) return tsr_status_get();
    *n = (tsr_networks){.student = &m->module, .feature = "student.backbone", .self = (void *)o};
    return tsr_module_initialize(n->student, b->seed);
}

static tsr_status start(const tsr_networks *n, const tsr_build *b, tsr_dataset *images)
{
    (void)n;
    (void)b;
    return tsr_classifier__check_labels(images);
}

static tsr_tensor *loss(const tsr_networks *n, tsr_step *step)
{
    const tsr_classifier *m = (const tsr_classifier *)n->student;
    const struct options *o = n->self;
    tsr_tensor *labels = tsr_step_input(step, "label");
    tsr_tensor *logits =
        tsr_classifier__logits(m, tsr_step_input(step, "image"), tsr_step_rng(step));
    if (logits == NULL) return NULL;
    tsr_tensor *targets = tsr_classifier__targets(labels, tsr_tensor_size(logits, 1), o->smoothing,
                                                  tsr_tensor_dtype(logits));
    return tsr_mean(tsr_cross_entropy_soft(logits, targets), NULL, 0, false);
}

static void evaluate(const tsr_networks *n, tsr_step *step)
{
    static const char *const names[] = {"loss", "accuracy", "top5"};
    tsr_classifier__evaluate((const tsr_classifier *)n->student, step, names);
}

const tsr_recipe tsr_recipe__supervised = {
    .name = "supervised",
    .title = "training with labels from scratch",
    .paper = "Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, arXiv 2010.11929",
    .options = option_table,
    .n_options = sizeof option_table / sizeof option_table[0],
    .options_size = sizeof(struct options),
    .defaults = defaults,
    .n_defaults = sizeof defaults / sizeof defaults[0],
    .presets = presets,
    .n_presets = sizeof presets / sizeof presets[0],
    .views = views,
    .build = build,
    .start = start,
    .loss = loss,
    .evaluation_views = tsr_classifier__evaluation_views,
    .evaluate = evaluate,
};
