/*
 * DINO: emerging properties in self-supervised vision transformers. Caron, Touvron, Misra, Jegou, Mairal, Bojanowski,
 * Joulin, ICCV 2021, arXiv 2104.14294; authors' code facebookresearch/dino (main_dino.py). docs/dino.md maps sections to
 * functions and lists what differs.
 *
 * Shapes: B images; 2 global and L local crops of each, stacked view by view; K prototypes.
 */
#include "ops/ops.h"
#include "recipes/distillation.h"

static const tsr_option option_table[] = {TSR_DISTILLATION_OPTIONS};

static const tsr_default defaults[] = {
    {"out-dim", "65536", "main_dino.py --out_dim"},
    {"head-hidden", "2048", "vision_transformer.py DINOHead"},
    {"head-bottleneck", "256", "vision_transformer.py DINOHead"},
    {"norm-last-layer", "true", "main_dino.py --norm_last_layer"},
    {"local-crops", "8", "main_dino.py --local_crops_number"},
    {"local-size", "96", "main_dino.py DataAugmentationDINO"},
    {"global-scale", "0.4,1", "main_dino.py --global_crops_scale"},
    {"local-scale", "0.05,0.4", "main_dino.py --local_crops_scale"},
    {"student-temp", "0.1", "main_dino.py DINOLoss"},
    {"warmup-teacher-temp", "0.04", "main_dino.py --warmup_teacher_temp"},
    {"teacher-temp", "0.04", "main_dino.py --teacher_temp"},
    {"warmup-teacher-temp-epochs", "0", "main_dino.py --warmup_teacher_temp_epochs"},
    {"centering", "center", "paper, section 3.1; sinkhorn: SwAV, section 3.1, and DINOv2"},
    {"center-momentum", "0.9", "main_dino.py DINOLoss"},
    {"drop-path", "0.1", "main_dino.py --drop_path_rate"},
    {"freeze-last-layer", "1", "main_dino.py --freeze_last_layer"},
};

static const tsr_preset presets[] = {
    {"vit-s", "the published ViT-S/16 run: 100 epochs, batch 512, on ImageNet-1k",
     "model=vit_small batch=512"},
    {"boosted", "the published boosted run: 300 epochs, a warmer teacher, prototypes' norms free",
     "model=vit_small batch=512 epochs=300 teacher-temp=0.07 warmup-teacher-temp-epochs=30 "
     "norm-last-layer=false"},
    {"quickstart", "Fashion-MNIST, with the arithmetic of ibot's quickstart",
     "image-size=28 local-size=14 patch-size=7 dim=96 depth=4 heads=3 head-hidden=256 "
     "head-bottleneck=64 out-dim=256 norm-last-layer=false local-crops=4 global-scale=0.8,1 "
     "local-scale=0.5,1 jitter=2 blur=0.25 centering=sinkhorn warmup-teacher-temp=0.02 "
     "teacher-temp=0.02 drop-path=0 freeze-last-layer=0 weight-decay-end=0.04 batch=32 epochs=1 "
     "warmup-epochs=0.1 lr=6e-3 momentum-teacher=0.98 momentum-teacher-end=0.98"},
};

struct dino {
    tsr_distillation o;
    tsr_multi_crop *student, *teacher;
    tsr_tensor *center; /* C [1, K], a buffer of the state module */
    tsr_schedule_warmup temperature;
};

static int views(const tsr_build *build, tsr_view_spec *specs, int max)
{
    (void)max;
    return tsr_distillation__views(build, build->options, specs);
}

/* ---- networks: main_dino.py, train_dino ---- */

static tsr_module *make_state(const tsr_build *build, struct dino *dino)
{
    tsr_module *m = tsr_module_new(sizeof *m, "dino_loss", build->dtype);
    if (m == NULL) return NULL;
    dino->center = tsr_module_buffer(m, "center", build->dtype, TSR_SHAPE(1, dino->o.out_dim), 0.0);
    return tsr_module_finish(m);
}

static tsr_status build(const tsr_build *b, tsr_networks *n)
{
    const tsr_distillation *o = b->options;
    struct dino *dino = tsr_alloc(sizeof *dino);
    if (dino == NULL) return tsr_status_get();
    tsr_head_config head = {.patch_layer = TSR_PATCH_LAYER_NONE};
    *dino = (struct dino){.o = *o,
                          .student = tsr_distillation__network(b, o, true, false, head),
                          .teacher = tsr_distillation__network(b, o, false, false, head),
                          .temperature = tsr_distillation__temperature(o)};
    *n = (tsr_networks){.state = make_state(b, dino), .self = dino};
    return tsr_distillation__start(b, o, dino->student, dino->teacher, n);
}

static void release(tsr_networks *n)
{
    tsr_free(n->self);
    n->self = NULL;
}

/* ---- the loss: paper, algorithm 1 ---- */

/* What the teacher says of the global crops. */
static tsr_soft_target ask_teacher(const struct dino *dino, tsr_step *step, tsr_tensor *images)
{
    const tsr_head *head = dino->teacher->head;
    bool was = tsr_recording_set(false);
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *x = tsr_backbone_rows(dino->teacher->backbone, images, NULL, NULL);
    tsr_tensor *logits = tsr_head_class_logits(head, tsr_head_project(head, x));
    if (dino->o.centering == TSR_CENTERING_CENTER) {
        tsr_step_average(step, "center", tsr_mean(logits, (const int[]){0}, 1, true));
    }
    double temperature = tsr_schedule_warmup_at(&dino->temperature, tsr_step_epoch(step));
    tsr_soft_target target = tsr_distillation__target(&dino->o, logits, dino->center, temperature);
    tsr_monitor *monitor = tsr_step_monitor(step);
    if (monitor != NULL) tsr_monitor_features(monitor, x);
    tsr_scope_close(&scope, TSR_TENSORS(target.logits, target.center));
    tsr_recording_set(was);
    return target;
}

static tsr_tensor *loss(const tsr_networks *n, tsr_step *step)
{
    const struct dino *dino = n->self;
    tsr_tensor *crops[2] = {tsr_step_input(step, "global")};
    if (dino->o.local_crops > 0) crops[1] = tsr_step_input(step, "local");
    tsr_soft_target teacher = ask_teacher(dino, step, crops[0]);
    tsr_multi_crop_options options = {.rng = tsr_step_rng(step)};
    tsr_tensor *student =
        tsr_multi_crop_forward(dino->student, (tsr_tensors){crops, crops[1] != NULL ? 2 : 1},
                               &options)
            .cls;
    tsr_tensor *cls = tsr_distillation__class_loss(&dino->o, student, teacher);
    tsr_step_log(step, "cls", cls);
    tsr_distillation__look(&dino->o, step, student, teacher);
    return cls;
}

static void after_step(const tsr_networks *n, tsr_step *step)
{
    const struct dino *dino = n->self;
    if (dino->o.centering != TSR_CENTERING_CENTER) return;
    tsr_distillation__move_center(dino->center, dino->o.center_momentum,
                                  tsr_step_averaged(step, "center"));
}

static bool trains(const tsr_networks *n, const char *parameter, int64_t epoch)
{
    const struct dino *dino = n->self;
    return tsr_distillation__trains(&dino->o, parameter, epoch);
}

const tsr_recipe tsr_recipe__dino = {
    .name = "dino",
    .title = "self-distillation on class tokens: small crops answer a teacher of large ones",
    .paper = "Caron et al., Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021, "
             "arXiv 2104.14294",
    .options = option_table,
    .n_options = sizeof option_table / sizeof option_table[0],
    .options_size = sizeof(tsr_distillation),
    .defaults = defaults,
    .n_defaults = sizeof defaults / sizeof defaults[0],
    .presets = presets,
    .n_presets = sizeof presets / sizeof presets[0],
    .views = views,
    .build = build,
    .loss = loss,
    .after_step = after_step,
    .trains = trains,
    .release = release,
};
