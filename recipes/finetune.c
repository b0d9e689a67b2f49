/*
 * Fine-tuning of a pre-trained backbone with labels, as iBOT's authors do with BEiT's code (classification_layer_decay,
 * run_class_finetuning.py; numbers by Bao et al., arXiv 2106.08254, and Zhou et al., arXiv 2111.07832). Mixup (Zhang et al.
 * 2018, arXiv 1710.09412) and CutMix (Yun et al. 2019, arXiv 1905.04899) are those of timm's Mixup in batch mode.
 * docs/finetuning.md maps all of it and lists what differs.
 *
 * Shapes: B images, K classes.
 */
#include "recipes/classifier.h"

#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    int pooling;
    int64_t projection;
    double layer_decay, drop_path, init_scale;
    double smoothing, mixup, cutmix, mix_p, switch_p;
    tsr_list scale;
    double rand_magnitude, erase;
    bool average;
};

#define AT(field) offsetof(struct options, field)

static const tsr_option option_table[] = {
    {"pooling", TSR_OPTION_CHOICE, AT(pooling), "class", 0, 0, "class mean",
     "what is classified: the class token, or the mean of the patch tokens",
     "run_class_finetuning.py --use_cls"},
    {"projection", TSR_OPTION_INT, AT(projection), "0", 0, 1 << 16, NULL,
     "width of the first layer of the pre-trained head, kept before the classifier; 0: it is not "
     "kept",
     "iBOT, section 4.1, semi-supervised: 2048"},
    {"layer-decay", TSR_OPTION_DOUBLE, AT(layer_decay), "0.75", 1e-3, 1, NULL,
     "each block's learning rate is that of the block above times this", "iBOT, appendix: ViT-S"},
    {"drop-path", TSR_OPTION_DOUBLE, AT(drop_path), "0.1", 0, 0.99, NULL,
     "rate of stochastic depth in the last block", "run_class_finetuning.py --drop_path"},
    {"init-scale", TSR_OPTION_DOUBLE, AT(init_scale), "0.001", 0, 1, NULL,
     "the classifier starts with its weights times this", "run_class_finetuning.py --init_scale"},
    {"smoothing", TSR_OPTION_DOUBLE, AT(smoothing), "0.1", 0, 0.999, NULL,
     "share of the target that all classes have equally", "run_class_finetuning.py --smoothing"},
    {"mixup", TSR_OPTION_DOUBLE, AT(mixup), "0.8", 0, 4, NULL,
     "a of the share from Beta(a, a) with which two images are blended; 0: never",
     "run_class_finetuning.py --mixup"},
    {"cutmix", TSR_OPTION_DOUBLE, AT(cutmix), "1", 0, 4, NULL,
     "a of the share from Beta(a, a) of an image that another's rectangle leaves; 0: never",
     "run_class_finetuning.py --cutmix"},
    {"mix-p", TSR_OPTION_DOUBLE, AT(mix_p), "1", 0, 1, NULL, "how often a batch is mixed",
     "run_class_finetuning.py --mixup_prob"},
    {"switch-p", TSR_OPTION_DOUBLE, AT(switch_p), "0.5", 0, 1, NULL,
     "how often by cutmix, where mixup is on too", "run_class_finetuning.py --mixup_switch_prob"},
    {"scale", TSR_OPTION_LIST, AT(scale), "0.08,1", 0, 1, NULL,
     "share of the image that the crop covers, from,to", "datasets.py: timm's create_transform"},
    {"rand-magnitude", TSR_OPTION_DOUBLE, AT(rand_magnitude), "9", 0, 10, NULL,
     "strength of RandAugment's two operations, +- 0.5; 0: none",
     "run_class_finetuning.py --aa rand-m9-mstd0.5-inc1"},
    {"erase", TSR_OPTION_DOUBLE, AT(erase), "0.25", 0, 1, NULL,
     "how often a rectangle of an image becomes noise", "run_class_finetuning.py --reprob"},
    {"average", TSR_OPTION_BOOL, AT(average), "false", 0, 0, NULL,
     "keep a moving average of the weights, by --momentum-teacher, and measure it too",
     "run_class_finetuning.py --model_ema"},
};

static const tsr_default defaults[] = {
    {"epochs", "200", "iBOT, appendix: ViT-S"},
    {"lr", "2.5e-4", "iBOT, appendix: 1e-3 for 1024 images"},
    {"min-lr", "1e-6", "run_class_finetuning.py --min_lr"},
    {"warmup-epochs", "20", "iBOT's fine-tuning command"},
    {"weight-decay", "0.05", "run_class_finetuning.py --weight_decay"},
    {"weight-decay-end", "0.05", "run_class_finetuning.py: constant"},
    {"momentum-teacher", "0.99996", "DeiT's main.py --model-ema-decay"},
    {"momentum-teacher-end", "0.99996", "DeiT's main.py: constant"},
    {"clip", "0", "run_class_finetuning.py --clip_grad: none"},
};

#define QUICKSTART                                                                                 \
    "image-size=28 patch-size=7 dim=96 depth=4 heads=3 drop-path=0 smoothing=0 mixup=0 cutmix=0 "  \
    "scale=0.8,1 rand-magnitude=0 erase=0 init-scale=1 batch=32 lr=8e-3 "

static const tsr_preset presets[] = {
    {"vit-s", "the published run of ViT-S/16 on ImageNet-1k", "batch=1024"},
    {"vit-b", "of ViT-B/16", "batch=1024 epochs=100 layer-decay=0.65 drop-path=0.2"},
    {"vit-l", "of ViT-L/16", "batch=1024 epochs=50 warmup-epochs=5 drop-path=0.4"},
    {"few-labels", "iBOT's semi-supervised run: from the head's first layer, 1000 epochs",
     "projection=2048 epochs=1000 batch=1024 lr=2.5e-6 layer-decay=1 init-scale=1 average=true"},
    {"quickstart", "Fashion-MNIST, from a run of some quickstart: one epoch of all labels",
     QUICKSTART "epochs=1 warmup-epochs=0.05"},
    {"quickstart-10", "with a tenth of the labels (--label-fraction 0.1), 4 epochs",
     QUICKSTART "epochs=4 warmup-epochs=0.4"},
    {"quickstart-1", "with a hundredth of them (--label-fraction 0.01), 20 epochs",
     QUICKSTART "epochs=20 warmup-epochs=2"},
};

struct finetune {
    const struct options *o;
    const tsr_train_options *train;
    tsr_classifier *student, *average; /* average: NULL without */
};

/* ---- views ---- */

static int views(const tsr_build *build, tsr_view_spec *specs, int max)
{
    const struct options *o = build->options;
    (void)max;
    specs[0] = tsr_view_finetune((int)build->train->image_size);
    if (o->rand_magnitude == 0.0) specs[0].rand_layers = 0;
    specs[0].rand_magnitude = o->rand_magnitude;
    specs[0].erase_p = o->erase;
    return tsr_recipe_set_scale(&specs[0], &o->scale) ? 1 : -1;
}

/* build_transform(): from 384 pixels on the whole short side, below it 224 of 256; bilinear. */
static int evaluation_views(const tsr_build *build, tsr_view_spec *specs, int max)
{
    (void)max;
    specs[0] = tsr_view_eval((int)build->train->image_size);
    if (specs[0].size >= 384) specs[0].resize_short = specs[0].size;
    specs[0].interpolation = TSR_RESAMPLE_BILINEAR;
    return 1;
}

/* ---- networks ---- */

/* As that of the weights that it will get. */
static tsr_backbone *make_backbone(const tsr_build *b, double drop_path)
{
    tsr_train_backbone_options options = {.drop_path = drop_path, .dtype = b->dtype};
    char prefix[TSR_BACKBONE_PREFIX];
    if (b->from == NULL) return tsr_train_backbone(b->train, &options);
    if (tsr_backbone_prefix(b->from, b->from_weights, prefix) != TSR_STATUS_OK) return NULL;
    return tsr_train_backbone_like(b->train, &options, b->from, prefix);
}

static tsr_classifier *make_network(const tsr_build *b, double drop_path)
{
    const struct options *o = b->options;
    tsr_classifier_config config = {.pooling = (tsr_classifier_pooling)o->pooling,
                                    .hidden = o->projection,
                                    .classes = b->classes,
                                    .dtype = b->dtype};
    return tsr_classifier__new(make_backbone(b, drop_path), &config);
}

static void scale(tsr_tensor *t, double by)
{
    tsr_tensor *x = tsr_detach(t);
    tsr_tensor_copy(x, tsr_affine(x, by, 0.0));
}

static tsr_status build(const tsr_build *b, tsr_networks *n)
{
    struct finetune *f = tsr_alloc(sizeof *f);
    if (f == NULL) return tsr_status_get();
    const struct options *o = b->options;
    *f = (struct finetune){.o = o, .train = b->train, .student = make_network(b, o->drop_path)};
    *n = (tsr_networks){.feature = "student.backbone", .self = f};
    if (f->student == NULL) return tsr_status_get();
    n->student = &f->student->module;
    tsr_scope scope = tsr_scope_open();
    bool was = tsr_recording_set(false);
    tsr_module_initialize(n->student, b->seed);
    scale(f->student->head->weight, o->init_scale);
    tsr_recording_set(was);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    if (!o->average) return tsr_status_get();
    f->average = make_network(b, 0.0);
    if (f->average == NULL) return tsr_status_get();
    n->teacher = &f->average->module;
    n->feature = "teacher.backbone";
    tsr_module_freeze(n->teacher);
    return tsr_module_copy(n->teacher, n->student, TSR_MATCH_STRICT);
}

static void release(tsr_networks *n)
{
    tsr_free(n->self);
    n->self = NULL;
}

/* ---- what it starts from ---- */

/* The network of the checkpoint whose backbone it is evaluated by: "teacher" of "teacher.backbone". */
static tsr_status find_network(const tsr_checkpoint *from, const char *weights, char network[32])
{
    const char *text = weights;
    if (weights == NULL && tsr_checkpoint_get_string(from, "feature", &text) != TSR_STATUS_OK)
        return tsr_status_get();
    snprintf(network, 32, "%.*s", (int)strcspn(text, "."), text);
    return TSR_STATUS_OK;
}

static tsr_status adopt_projection(const struct finetune *f, tsr_checkpoint *from,
                                   const char *weights)
{
    char network[32], prefix[64], name[80];
    if (find_network(from, weights, network) != TSR_STATUS_OK) return tsr_status_get();
    snprintf(prefix, sizeof prefix, "%s/head.mlp.0.", network);
    snprintf(name, sizeof name, "%sweight", prefix);
    if (tsr_checkpoint_find(from, name) == NULL) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "the checkpoint has no projection head (%s): leave out --projection and "
                        "--from-projection",
                        name);
    }
    return tsr_module_load(from, prefix, &f->student->projection->module);
}

/* run_class_finetuning.py resizes positions by the sizes, where pre-training does by the sizes + 0.1. */
static tsr_status fit_position(const struct finetune *f, tsr_checkpoint *from, const char *weights)
{
    tsr_module_list *state = tsr_module_state(&f->student->backbone->module);
    tsr_tensor *to = NULL;
    for (int64_t i = 0; state != NULL && i < state->n; i++) {
        if (strcmp(state->at[i].name, "pos_embed") == 0) to = state->at[i].tensor;
    }
    tsr_backbone *theirs = to != NULL ? tsr_backbone_load(from, weights) : NULL;
    if (theirs != NULL) {
        tsr_tensor *position = tsr_module_find(&theirs->module, "pos_embed");
        int64_t grid = theirs->image_size / theirs->token_size;
        int64_t side = f->student->backbone->image_size / f->student->backbone->token_size;
        if (grid != side) {
            position = tsr_vit_resize_position(position, grid, side, side, TSR_POSITION_SIZE);
        }
        if (position != NULL) tsr_tensor_copy(tsr_detach(to), position);
    }
    tsr_module_free(&theirs);
    tsr_module_list_free(&state);
    return tsr_status_get();
}

static tsr_status adopt(const tsr_networks *n, tsr_checkpoint *from, const char *weights)
{
    const struct finetune *f = n->self;
    tsr_scope scope = tsr_scope_open();
    bool was = tsr_recording_set(false);
    if (tsr_backbone_adopt(n->student, f->train, from, weights) == TSR_STATUS_OK &&
        fit_position(f, from, weights) == TSR_STATUS_OK && f->student->projection != NULL) {
        adopt_projection(f, from, weights);
    }
    if (tsr_status_get() == TSR_STATUS_OK && n->teacher != NULL)
        tsr_module_copy(n->teacher, n->student, TSR_MATCH_STRICT);
    tsr_recording_set(was);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_status_get();
}

static tsr_status start(const tsr_networks *n, const tsr_build *b, tsr_dataset *images)
{
    (void)n;
    (void)b;
    return tsr_classifier__check_labels(images);
}

/* ---- layer-wise decay: optim_factory.py ---- */

/* get_num_layer_for_vit(): 0 for the embeddings, i + 1 for block i, L + 1 for what is above. */
static int64_t vit_layer(const char *name, int64_t depth)
{
    static const char *const embeddings[] = {"cls_token", "pos_embed", "register_tokens",
                                             "patch_embed."};
    for (size_t i = 0; i < sizeof embeddings / sizeof embeddings[0]; i++) {
        if (strncmp(name, embeddings[i], strlen(embeddings[i])) == 0) return 0;
    }
    return strncmp(name, "blocks.", 7) == 0 ? strtoll(name + 7, NULL, 10) + 1 : depth + 1;
}

/* SimMIM's get_swin_layer(): blocks are counted through all stages, and what merges patches is of the block before it. */
static int64_t swin_layer(const char *name, const tsr_swin_config *c, int64_t depth)
{
    int stage, block;
    int64_t before = 0;
    if (strncmp(name, "patch_embed.", 12) == 0) return 0;
    if (sscanf(name, "layers.%d.", &stage) != 1 || stage >= c->stages) return depth + 1;
    for (int s = 0; s < stage; s++) before += c->depths[s];
    bool is_block = sscanf(name, "layers.%*d.blocks.%d.", &block) == 1;
    return before + (is_block ? block + 1 : c->depths[stage]);
}

static int64_t layer_of(const struct finetune *f, const char *name, int64_t depth)
{
    tsr_swin_config swin;
    if (strncmp(name, "backbone.", 9) != 0) return depth + 1;
    if (!tsr_train_is_swin(f->train)) return vit_layer(name + 9, depth);
    return tsr_train_swin_config(f->train, &swin) == TSR_STATUS_OK
               ? swin_layer(name + 9, &swin, depth)
               : depth + 1;
}

/* no_weight_decay() of the authors' ViT, and no_weight_decay_keywords() of Swin. */
static bool is_spared(const struct finetune *f, const char *name)
{
    if (tsr_train_is_swin(f->train)) return strstr(name, "relative_position_bias_table") != NULL;
    return strcmp(name, "backbone.cls_token") == 0 || strcmp(name, "backbone.pos_embed") == 0;
}

static void group(const tsr_networks *n, tsr_optimizer_parameter *p)
{
    const struct finetune *f = n->self;
    int64_t depth = f->student->backbone->depth, layer = layer_of(f, p->name, depth);
    p->lr_scale = pow(f->o->layer_decay, (double)(depth + 1 - layer));
    if (is_spared(f, p->name)) p->decays = false;
}

/* ---- mixup and CutMix: timm's data/mixup.py, batch mode ---- */

/* Beta(a, a) by Joehnk's method (1964). */
static double draw_beta(double a, tsr_rng *rng)
{
    for (;;) {
        double x = pow(tsr_rng_uniform(rng), 1.0 / a), y = pow(tsr_rng_uniform(rng), 1.0 / a);
        if (x + y > 0.0 && x + y <= 1.0) return x / (x + y);
    }
}

struct mix {
    bool cut;
    double share;                     /* of an image itself; the rest is another's */
    int64_t top, bottom, left, right; /* of the rectangle that is another's */
};

static int64_t clamp(int64_t x, int64_t hi)
{
    return x < 0 ? 0 : x > hi ? hi : x;
}

/* rand_bbox(), and cutmix_bbox_and_lam() with correct_lam. */
static void draw_rectangle(struct mix *m, int64_t h, int64_t w, tsr_rng *rng)
{
    double ratio = sqrt(1.0 - m->share);
    int64_t cut_h = (int64_t)((double)h * ratio), cut_w = (int64_t)((double)w * ratio);
    int64_t y = tsr_rng_below(rng, h), x = tsr_rng_below(rng, w);
    m->top = clamp(y - cut_h / 2, h);
    m->bottom = clamp(y + cut_h / 2, h);
    m->left = clamp(x - cut_w / 2, w);
    m->right = clamp(x + cut_w / 2, w);
    m->share = 1.0 - (double)((m->bottom - m->top) * (m->right - m->left)) / (double)(h * w);
}

/* How a batch of h x w pixels is mixed; share 1: it is not. */
static struct mix draw_mix(const struct options *o, int64_t h, int64_t w, tsr_rng *rng)
{
    struct mix m = {.share = 1.0};
    if ((o->mixup == 0.0 && o->cutmix == 0.0) || tsr_rng_uniform(rng) >= o->mix_p) return m;
    m.cut = o->mixup == 0.0 || (o->cutmix > 0.0 && tsr_rng_uniform(rng) < o->switch_p);
    m.share = draw_beta(m.cut ? o->cutmix : o->mixup, rng);
    if (m.cut) draw_rectangle(&m, h, w, rng);
    return m;
}

/* Image i with image B - 1 - i, [B, 3, h, w]. */
static tsr_tensor *mix_images(tsr_tensor *images, const struct mix *m)
{
    tsr_tensor *others = tsr_flip(images, 0);
    if (!m->cut) {
        return tsr_add(tsr_affine(images, m->share, 0.0), tsr_affine(others, 1.0 - m->share, 0.0));
    }
    tsr_tensor *mask = tsr_zeros(
        TSR_DTYPE_BOOL, TSR_SHAPE(1, 1, tsr_tensor_size(images, 2), tsr_tensor_size(images, 3)));
    uint8_t *at = tsr_tensor_data_mut(mask);
    for (int64_t y = m->top; at != NULL && y < m->bottom; y++) {
        for (int64_t x = m->left; x < m->right; x++) at[y * tsr_tensor_size(images, 3) + x] = 1;
    }
    return tsr_where(mask, others, images);
}

/* Replaces "image", and adds "target" [B, K]. */
static int prepare(const tsr_networks *n, tsr_step *step, tsr_input *inputs, int count, int max)
{
    const struct finetune *f = n->self;
    tsr_tensor *images = tsr_step_input(step, "image"), *labels = tsr_step_input(step, "label");
    if (images == NULL || labels == NULL || count == max) return count;
    tsr_rng rng = tsr_step_rng(step);
    rng.purpose = tsr_rng_purpose("mixup");
    struct mix m = draw_mix(f->o, tsr_tensor_size(images, 2), tsr_tensor_size(images, 3), &rng);
    int64_t classes = tsr_tensor_size(f->student->head->weight, 0);
    tsr_tensor *target = tsr_classifier__targets(labels, classes, f->o->smoothing,
                                                 tsr_tensor_dtype(f->student->head->weight));
    if (m.share < 1.0) {
        images = mix_images(images, &m);
        target = tsr_add(tsr_affine(target, m.share, 0.0),
                         tsr_affine(tsr_flip(target, 0), 1.0 - m.share, 0.0));
    }
    for (int i = 0; i < count; i++) {
        if (strcmp(inputs[i].name, "image") == 0) inputs[i].tensor = images;
    }
    inputs[count] = (tsr_input){"target", target};
    return count + 1;
}

/* ---- the loss: SoftTargetCrossEntropy ---- */

static tsr_tensor *loss(const tsr_networks *n, tsr_step *step)
{
    const struct finetune *f = n->self;
    tsr_tensor *images = tsr_step_input(step, "image");
    tsr_tensor *logits = tsr_classifier__logits(f->student, images, tsr_step_rng(step));
    tsr_tensor *target = tsr_step_input(step, "target");
    return tsr_mean(tsr_cross_entropy_soft(logits, target), NULL, 0, false);
}

static void evaluate(const tsr_networks *n, tsr_step *step)
{
    static const char *const names[] = {"loss", "accuracy", "top5"};
    static const char *const average[] = {"average_loss", "average_accuracy", "average_top5"};
    const struct finetune *f = n->self;
    tsr_classifier__evaluate(f->student, step, names);
    if (f->average != NULL) tsr_classifier__evaluate(f->average, step, average);
}

const tsr_recipe tsr_recipe__finetune = {
    .name = "finetune",
    .title = "fine-tuning of a pre-trained backbone with labels",
    .paper = "Zhou et al., iBOT, ICLR 2022, arXiv 2111.07832; Bao et al., BEiT, ICLR 2022, arXiv "
             "2106.08254",
    .options = option_table,
    .n_options = sizeof option_table / sizeof option_table[0],
    .options_size = sizeof(struct options),
    .defaults = defaults,
    .n_defaults = sizeof defaults / sizeof defaults[0],
    .presets = presets,
    .n_presets = sizeof presets / sizeof presets[0],
    .views = views,
    .build = build,
    .adopt = adopt,
    .start = start,
    .group = group,
    .prepare = prepare,
    .loss = loss,
    .evaluation_views = evaluation_views,
    .evaluate = evaluate,
    .release = release,
};
