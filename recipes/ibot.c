/*
 * iBOT: image BERT pre-training with an online tokenizer. Zhou, Wei, Wang, Shen, Xie, Yuille, Kong, ICLR 2022,
 * arXiv 2111.07832; authors' code bytedance/ibot (main_ibot.py, loader.py). docs/ibot.md maps sections to functions and
 * lists what differs.
 *
 * Shapes: B images; V = 2 global and L local crops of each, stacked view by view; N patches of a global crop; K class and
 * P patch prototypes.
 */
#include "ops/ops.h"
#include "recipes/distillation.h"

#include <stddef.h>
#include <string.h>

struct options {
    tsr_distillation shared; /* with DINO */
    int64_t patch_out_dim;
    bool shared_head, shared_head_teacher;
    double warmup_teacher_patch_temp, teacher_patch_temp;
    double center_momentum_patch;
    double lambda1, lambda2;
    tsr_list pred_ratio, pred_ratio_var;
    int pred_shape;
    int64_t pred_start_epoch;
};

#define AT(field) offsetof(struct options, field)

static const tsr_option option_table[] = {
    TSR_DISTILLATION_OPTIONS,
    {"patch-out-dim", TSR_OPTION_INT, AT(patch_out_dim), "8192", 2, 1 << 20, NULL,
     "P: prototypes of patch tokens (out-dim when the head is shared)",
     "main_ibot.py --patch_out_dim"},
    {"shared-head", TSR_OPTION_BOOL, AT(shared_head), "true", 0, 0, NULL,
     "one projection for class and patch tokens", "published recipes; paper, table 9"},
    {"shared-head-teacher", TSR_OPTION_BOOL, AT(shared_head_teacher), "true", 0, 0, NULL,
     "the same of the teacher; always so where the student's is shared",
     "main_ibot.py --shared_head_teacher"},
    {"warmup-teacher-patch-temp", TSR_OPTION_DOUBLE, AT(warmup_teacher_patch_temp), "0.04", 1e-3,
     10, NULL, "the same of the teacher's patch softmax", "main_ibot.py"},
    {"teacher-patch-temp", TSR_OPTION_DOUBLE, AT(teacher_patch_temp), "0.07", 1e-3, 10, NULL,
     "and after the warm-up", "main_ibot.py"},
    {"center-momentum-patch", TSR_OPTION_DOUBLE, AT(center_momentum_patch), "0.9", 0, 1, NULL,
     "moving average of the patch centre", "iBOTLoss"},
    {"lambda1", TSR_OPTION_DOUBLE, AT(lambda1), "1", 0, 1e6, NULL, "weight of the class loss",
     "main_ibot.py --lambda1"},
    {"lambda2", TSR_OPTION_DOUBLE, AT(lambda2), "1", 0, 1e6, NULL, "weight of the patch loss",
     "main_ibot.py --lambda2"},
    {"pred-ratio", TSR_OPTION_LIST, AT(pred_ratio), "0,0.3", 0, 1, NULL,
     "shares of patches to mask; one is picked for each view. 0 among them steadies multi-crop",
     "published recipes; paper, appendix B"},
    {"pred-ratio-var", TSR_OPTION_LIST, AT(pred_ratio_var), "0,0.2", 0, 1, NULL,
     "spread of each share", "published recipes"},
    {"pred-shape", TSR_OPTION_CHOICE, AT(pred_shape), "block", 0, 0, "block rand",
     "masks of blocks or of single patches", "main_ibot.py --pred_shape"},
    {"pred-start-epoch", TSR_OPTION_INT, AT(pred_start_epoch), "0", 0, 1e6, NULL,
     "no masks and no patch loss before this epoch", "main_ibot.py --pred_start_epoch"},
};

/* Small grey pictures of whole things: large crops, strong jitter of brightness, few prototypes, a sharp teacher that
 * Sinkhorn-Knopp keeps from collapse. docs/performance.md has what each of these is worth. */
#define FASHION_MNIST                                                                              \
    "image-size=28 local-size=14 patch-size=7 dim=96 depth=4 heads=3 head-hidden=256 "             \
    "head-bottleneck=64 out-dim=256 local-crops=4 global-scale=0.8,1 local-scale=0.5,1 jitter=2 "  \
    "blur=0.25 centering=sinkhorn warmup-teacher-temp=0.02 teacher-temp=0.02 "                     \
    "warmup-teacher-patch-temp=0.02 teacher-patch-temp=0.02 drop-path=0 freeze-last-layer=0 "      \
    "weight-decay-end=0.04 batch=32 lr=6e-3 momentum-teacher=0.98 "

static const tsr_preset presets[] = {
    {"vit-s", "the published ViT-S/16 run: 800 epochs, batch 1024, on ImageNet-1k",
     "model=vit_small epochs=800 batch=1024 lr=5e-4"},
    {"paper-crops", "the paper's crop scales (split at 0.32, appendix B) in place of the commands'",
     "global-scale=0.32,1 local-scale=0.05,0.32"},
    {"quickstart", "Fashion-MNIST in a few minutes on two cores: a first look",
     FASHION_MNIST "epochs=1 warmup-epochs=0.1 momentum-teacher-end=0.98"},
    {"fashion-mnist", "a larger network for 20 epochs: 40 minutes on two cores that multiply bf16",
     FASHION_MNIST "dim=128 heads=4 pred-ratio=0,0.5 epochs=20 warmup-epochs=0.2 "
                   "momentum-teacher-end=0.998 precision=bf16"},
};

/* The networks and what else the graph needs. */
struct ibot {
    struct options o;
    tsr_multi_crop *student, *teacher;
    tsr_tensor *center, *center_patch; /* C [1, K] and C' [1, 1, P]: buffers of the state module */
    tsr_schedule_warmup teacher_temp, teacher_patch_temp; /* by epoch */
};

/* ---- views: loader.py, DataAugmentationiBOT and ImageFolderMask ---- */

static int views(const tsr_build *build, tsr_view_spec *specs, int max)
{
    const struct options *o = build->options;
    if (o->pred_ratio.n != o->pred_ratio_var.n) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "ibot: --pred-ratio takes as many numbers as --pred-ratio-var");
        return -1;
    }
    if (!o->shared_head && o->shared_head_teacher && o->patch_out_dim != o->shared.out_dim) {
        tsr_fail(
            TSR_STATUS_ARGUMENT,
            "ibot: a teacher with one layer for class and patches needs --patch-out-dim equal to "
            "--out-dim, or --shared-head-teacher false");
        return -1;
    }
    int64_t cell = tsr_train_token_size(build->train);
    int n = cell > 0 ? tsr_distillation__views(build, &o->shared, specs) : -1;
    (void)max;
    for (int v = 0; v < 2 && n > 0; v++) {
        tsr_mask_spec *mask = &specs[v].mask;
        mask->kind = o->pred_shape == 0 ? TSR_MASK_BLOCK : TSR_MASK_RAND;
        mask->patch = (int)cell;
        mask->n_ratios = o->pred_ratio.n;
        memcpy(mask->ratio, o->pred_ratio.at, sizeof mask->ratio);
        memcpy(mask->var, o->pred_ratio_var.at, sizeof mask->var);
        mask->start_epoch = (int)o->pred_start_epoch;
    }
    return n;
}

/* ---- networks: main_ibot.py, train_ibot ---- */

static bool teacher_is_shared(const struct options *o)
{
    return o->shared_head || o->shared_head_teacher;
}

static tsr_multi_crop *make_network(const tsr_build *build, bool is_student)
{
    const struct options *o = build->options;
    bool shared = is_student ? o->shared_head : teacher_is_shared(o);
    tsr_head_config head = {.patch_out_dim = shared ? 0 : o->patch_out_dim,
                            .patch_layer =
                                shared ? TSR_PATCH_LAYER_SHARED : TSR_PATCH_LAYER_SEPARATE};
    return tsr_distillation__network(build, &o->shared, is_student, is_student, head);
}

static tsr_module *make_state(const tsr_build *build, struct ibot *ibot)
{
    const struct options *o = build->options;
    int64_t patch_out = teacher_is_shared(o) ? o->shared.out_dim : o->patch_out_dim;
    tsr_module *m = tsr_module_new(sizeof *m, "ibot_loss", build->dtype);
    if (m == NULL) return NULL;
    ibot->center =
        tsr_module_buffer(m, "center", build->dtype, TSR_SHAPE(1, o->shared.out_dim), 0.0);
    ibot->center_patch =
        tsr_module_buffer(m, "center2", build->dtype, TSR_SHAPE(1, 1, patch_out), 0.0);
    return tsr_module_finish(m);
}

static tsr_status build(const tsr_build *b, tsr_networks *n)
{
    const struct options *o = b->options;
    struct ibot *ibot = tsr_alloc(sizeof *ibot);
    if (ibot == NULL) return tsr_status_get();
    *ibot =
        (struct ibot){.o = *o, .student = make_network(b, true), .teacher = make_network(b, false)};
    ibot->teacher_temp = tsr_distillation__temperature(&o->shared);
    ibot->teacher_patch_temp =
        (tsr_schedule_warmup){.start = o->warmup_teacher_patch_temp,
                              .base = o->teacher_patch_temp,
                              .delay = o->pred_start_epoch,
                              .warmup = o->shared.warmup_teacher_temp_epochs};
    *n = (tsr_networks){.state = make_state(b, ibot), .self = ibot};
    return tsr_distillation__start(b, &o->shared, ibot->student, ibot->teacher, n);
}

static void release(tsr_networks *n)
{
    tsr_free(n->self);
    n->self = NULL;
}

/* ---- the loss: paper, section 3; authors' iBOTLoss ---- */

/* The masked patches of a mask [2B, h, w]: their rows among all patches I64 [R], and each one's weight in the loss [R]:
 * the mean over images of the mean over an image's masked patches. */
static void masked_patches(tsr_tensor *mask, tsr_dtype dtype, tsr_tensor **rows,
                           tsr_tensor **weights)
{
    int64_t images = tsr_tensor_size(mask, 0), all = tsr_tensor_numel(mask), count = 0;
    int64_t patches = all / (images > 0 ? images : 1);
    mask = tsr_tensor_packed(mask);
    const uint8_t *m = tsr_tensor_data(mask);
    for (int64_t i = 0; m != NULL && i < all; i++) count += m[i] != 0;
    *rows = tsr_empty(TSR_DTYPE_I64, TSR_SHAPE(count));
    tsr_tensor *w = tsr_empty(TSR_DTYPE_F64, TSR_SHAPE(count));
    if (*rows == NULL || w == NULL) return;
    int64_t *r = tsr_tensor_data_mut(*rows);
    double *weight = tsr_tensor_data_mut(w);
    for (int64_t b = 0, k = 0; b < images; b++) {
        int64_t first = k;
        for (int64_t i = b * patches; i < (b + 1) * patches; i++) {
            if (m[i] != 0) r[k++] = i;
        }
        for (int64_t i = first; i < k; i++) weight[i] = 1.0 / (double)((k - first) * images);
    }
    *weights = tsr_cast(w, dtype);
}

/* L_MIM, equation 2: the student sees a masked patch's surroundings, the teacher the patch. */
static tsr_tensor *patch_loss(const struct ibot *ibot, tsr_tensor *student, tsr_soft_target teacher,
                              tsr_tensor *weights)
{
    tsr_tensor *losses = tsr_distillation_loss(
        tsr_unsqueeze(student, 0), tsr_unsqueeze(teacher.logits, 0), teacher.center, NULL,
        ibot->o.shared.student_temp, teacher.temperature);
    return tsr_sum(tsr_mul(losses, weights), NULL, 0, false);
}

/* As tsr_multi_crop_forward() with these rows, and the means that move the centres. Only masked patches are asked for
 * their logits; the mean of all is exact all the same, since it is the last layer's answer to their mean. */
static tsr_multi_crop_output answer_with_means(const struct ibot *ibot, tsr_step *step,
                                               tsr_tensor *images, tsr_tensor *rows)
{
    const tsr_head *head = ibot->teacher->head;
    tsr_multi_crop_output out = {0};
    tsr_tensor *tokens = tsr_backbone_forward(ibot->teacher->backbone, images, NULL);
    tsr_tensor *z = tsr_head_project(head, tokens);
    out.features = tsr_tokens_class(tokens);
    tsr_head_weights w = tsr_head_weights_make(head);
    out.cls = tsr_linear(tsr_tokens_class(z), w.cls, NULL);
    tsr_tensor *z_patch = tsr_flatten(tsr_tokens_patches(z), 0, 1);
    if (rows != NULL) out.patch = tsr_linear(tsr_gather_rows(z_patch, rows), w.patch, NULL);
    tsr_tensor *mean = tsr_mean(z_patch, (int[]){0}, 1, true);
    tsr_step_average(step, "center", tsr_mean(out.cls, (int[]){0}, 1, true));
    tsr_step_average(step, "center2", tsr_linear(tsr_unsqueeze(mean, 0), w.patch, NULL));
    return out;
}

/* What the teacher says of the global crops, and of the patches in rows (NULL: of none). */
static void ask_teacher(const struct ibot *ibot, tsr_step *step, tsr_tensor *images,
                        tsr_tensor *rows, tsr_soft_target *cls, tsr_soft_target *patch)
{
    const tsr_distillation *o = &ibot->o.shared;
    int64_t epoch = tsr_step_epoch(step);
    bool was = tsr_recording_set(false);
    tsr_scope scope = tsr_scope_open();
    tsr_multi_crop_options options = {.patches = rows != NULL, .rows = rows};
    tsr_multi_crop_output teacher =
        o->centering == TSR_CENTERING_CENTER
            ? answer_with_means(ibot, step, images, rows)
            : tsr_multi_crop_forward(ibot->teacher, TSR_TENSORS(images), &options);
    *cls = tsr_distillation__target(o, teacher.cls, ibot->center,
                                    tsr_schedule_warmup_at(&ibot->teacher_temp, epoch));
    *patch = (tsr_soft_target){0};
    if (rows != NULL) {
        *patch = tsr_distillation__target(o, teacher.patch, ibot->center_patch,
                                          tsr_schedule_warmup_at(&ibot->teacher_patch_temp, epoch));
    }
    tsr_monitor *monitor = tsr_step_monitor(step);
    if (monitor != NULL) tsr_monitor_features(monitor, teacher.features);
    tsr_scope_close(&scope, TSR_TENSORS(cls->logits, cls->center, patch->logits, patch->center));
    tsr_recording_set(was);
}

static tsr_tensor *loss(const tsr_networks *n, tsr_step *step)
{
    const struct ibot *ibot = n->self;
    const struct options *o = &ibot->o;
    tsr_tensor *global = tsr_step_input(step, "global"), *mask = NULL, *rows = NULL,
               *weights = NULL;
    tsr_tensor *local = o->shared.local_crops > 0 ? tsr_step_input(step, "local") : NULL;
    if (tsr_step_has_input(step, "global.mask")) {
        mask = tsr_step_input(step, "global.mask");
        masked_patches(mask, tsr_tensor_dtype(global), &rows, &weights);
        if (tsr_tensor_numel(rows) == 0) rows = NULL;
    }
    tsr_soft_target teacher, teacher_patch;
    ask_teacher(ibot, step, global, rows, &teacher, &teacher_patch);

    tsr_multi_crop_options options = {
        .mask = mask, .patches = rows != NULL, .rows = rows, .rng = tsr_step_rng(step)};
    tsr_multi_crop_output student = tsr_multi_crop_forward(
        ibot->student, (tsr_tensors){(tsr_tensor *[]){global, local}, local != NULL ? 2 : 1},
        &options);

    tsr_tensor *cls = tsr_distillation__class_loss(&o->shared, student.cls, teacher);
    cls = tsr_affine(cls, o->lambda1, 0.0);
    tsr_tensor *patch = tsr_scalar(tsr_tensor_dtype(global), 0.0);
    if (rows != NULL) {
        patch =
            tsr_affine(patch_loss(ibot, student.patch, teacher_patch, weights), o->lambda2, 0.0);
    }
    tsr_step_log(step, "cls", cls);
    tsr_step_log(step, "patch", patch);
    tsr_distillation__look(&o->shared, step, student.cls, teacher);
    tsr_monitor *monitor = tsr_step_monitor(step);
    if (monitor != NULL && rows != NULL) {
        tsr_monitor_distribution(monitor, "patch", tsr_distillation__probabilities(teacher_patch));
    }
    return tsr_add(cls, patch);
}

static void after_step(const tsr_networks *n, tsr_step *step)
{
    const struct ibot *ibot = n->self;
    const struct options *o = &ibot->o;
    if (o->shared.centering != TSR_CENTERING_CENTER) return;
    tsr_distillation__move_center(ibot->center, o->shared.center_momentum,
                                  tsr_step_averaged(step, "center"));
    tsr_distillation__move_center(ibot->center_patch, o->center_momentum_patch,
                                  tsr_step_averaged(step, "center2"));
}

static bool trains(const tsr_networks *n, const char *parameter, int64_t epoch)
{
    const struct ibot *ibot = n->self;
    return tsr_distillation__trains(&ibot->o.shared, parameter, epoch);
}

const tsr_recipe tsr_recipe__ibot = {
    .name = "ibot",
    .title = "self-distillation on class and masked patch tokens, with an online tokenizer",
    .paper =
        "Zhou et al., iBOT: Image BERT Pre-Training with Online Tokenizer, ICLR 2022, arXiv 2111.07832",
    .options = option_table,
    .n_options = sizeof option_table / sizeof option_table[0],
    .options_size = sizeof(struct options),
    .presets = presets,
    .n_presets = sizeof presets / sizeof presets[0],
    .views = views,
    .build = build,
    .loss = loss,
    .after_step = after_step,
    .trains = trains,
    .release = release,
};
