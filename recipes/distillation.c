/* What DINO and iBOT share; see the header. */
#include "recipes/distillation.h"

#include "ops/ops.h"

#include <string.h>

/* ---- views ---- */

int tsr_distillation__views(const tsr_build *build, const tsr_distillation *o, tsr_view_spec *specs)
{
    if (o->global_scale.n != 2 || o->local_scale.n != 2) {
        tsr_fail(TSR_STATUS_ARGUMENT, "--global-scale and --local-scale take two numbers each");
        return -1;
    }
    int n = 0, size = (int)build->train->image_size;
    specs[n++] = tsr_view_ibot_global1(size);
    specs[n++] = tsr_view_ibot_global2(size);
    if (o->local_crops > 0) {
        specs[n++] = tsr_view_ibot_local((int)o->local_size, (int)o->local_crops);
    }
    for (int v = 0; v < n; v++) {
        const tsr_list *scale = v < 2 ? &o->global_scale : &o->local_scale;
        specs[v].scale_lo = scale->at[0];
        specs[v].scale_hi = scale->at[1];
        specs[v].brightness *= o->jitter;
        specs[v].contrast *= o->jitter;
        specs[v].saturation *= o->jitter;
        specs[v].hue *= o->jitter;
        specs[v].blur_lo *= o->blur;
        specs[v].blur_hi *= o->blur;
    }
    return n;
}

/* ---- networks ---- */

tsr_multi_crop *tsr_distillation__network(const tsr_build *build, const tsr_distillation *o,
                                          bool is_student, bool masked, tsr_head_config head)
{
    tsr_train_backbone_options options = {
        .masked = masked, .drop_path = is_student ? o->drop_path : 0.0, .dtype = build->dtype};
    tsr_backbone *backbone = tsr_train_backbone(build->train, &options);
    if (backbone == NULL) return NULL;
    head.dim = backbone->dim;
    head.out_dim = o->out_dim;
    head.hidden = o->head_hidden;
    head.bottleneck = o->head_bottleneck;
    head.norm_last_layer = o->norm_last_layer;
    head.dtype = build->dtype;
    return tsr_multi_crop_new(backbone, tsr_head_new(&head));
}

tsr_status tsr_distillation__start(const tsr_build *build, const tsr_distillation *o,
                                   tsr_multi_crop *student, tsr_multi_crop *teacher,
                                   tsr_networks *n)
{
    n->feature = "teacher.backbone";
    if (student != NULL) n->student = &student->module;
    if (teacher != NULL) n->teacher = &teacher->module;
    if (o->centering == TSR_CENTERING_SINKHORN) {
        tsr_train_whole_batch(build->train, "--centering sinkhorn");
    }
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    tsr_module_initialize(n->student, build->seed);
    tsr_module_copy(n->teacher, n->student, TSR_MATCH_COMMON);
    tsr_module_freeze(n->teacher);
    return tsr_status_get();
}

tsr_schedule_warmup tsr_distillation__temperature(const tsr_distillation *o)
{
    return (tsr_schedule_warmup){.start = o->warmup_teacher_temp,
                                 .base = o->teacher_temp,
                                 .warmup = o->warmup_teacher_temp_epochs};
}

/* ---- the teacher's targets ---- */

tsr_tensor *tsr_distillation__sinkhorn(tsr_tensor *logits, double temperature)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *q = tsr_affine(logits, 1.0 / temperature, 0.0);
    for (int i = 0; i < 3; i++) {
        q = tsr_log_softmax(q, 0); /* to divide by a sum is to subtract its logarithm; */
        q = tsr_log_softmax(q, 1); /* factors that are the same for all cancel here */
    }
    return tsr_scope_return(&scope, tsr_exp(q));
}

tsr_tensor *tsr_distillation__target(const tsr_distillation *o, tsr_tensor *logits,
                                     tsr_tensor *center, double temperature)
{
    if (o->centering == TSR_CENTERING_SINKHORN) {
        return tsr_distillation__sinkhorn(logits, temperature);
    }
    return tsr_softmax(tsr_affine(tsr_sub(logits, center), 1.0 / temperature, 0.0), -1);
}

void tsr_distillation__move_center(const tsr_distillation *o, tsr_tensor *center, double momentum,
                                   tsr_tensor *mean)
{
    if (o->centering == TSR_CENTERING_SINKHORN) return;
    tsr_tensor *moved =
        tsr_add(tsr_affine(center, momentum, 0.0), tsr_affine(mean, 1.0 - momentum, 0.0));
    if (moved != NULL) tsr_tensor_copy(center, moved);
}

/* ---- the loss ---- */

/* The cross entropy is linear in its target, so a local view, which answers both teacher views, is given their sum. */
tsr_tensor *tsr_distillation__class_loss(const tsr_distillation *o, tsr_tensor *student,
                                         tsr_tensor *teacher)
{
    int64_t locals = o->local_crops, images = tsr_tensor_size(teacher, 0) / 2;
    tsr_tensor *view[2], *target[3];
    tsr_split(teacher, 0, 2, view);
    target[0] = view[1];
    target[1] = view[0];
    tsr_shape stacked = TSR_SHAPE(locals, images, tsr_tensor_size(teacher, 1));
    tsr_shape rows = TSR_SHAPE(locals * images, tsr_tensor_size(teacher, 1));
    target[2] = tsr_reshape(tsr_expand(tsr_add(view[0], view[1]), stacked), rows);
    tsr_tensor *targets = tsr_concat((tsr_tensors){target, locals > 0 ? 3 : 2}, 0);
    tsr_tensor *logits = tsr_affine(student, 1.0 / o->student_temp, 0.0);
    tsr_tensor *sum = tsr_sum(tsr_cross_entropy_soft(logits, targets), NULL, 0, false);
    double pairs = (double)(2 + 2 * locals);
    return tsr_affine(sum, 1.0 / (pairs * (double)images), 0.0);
}

bool tsr_distillation__trains(const tsr_distillation *o, const char *parameter, int64_t epoch)
{
    return epoch >= o->freeze_last_layer || strstr(parameter, "last_layer") == NULL;
}

void tsr_distillation__look(const tsr_distillation *o, tsr_step *step, tsr_tensor *student,
                            tsr_tensor *teacher, tsr_tensor *center)
{
    tsr_monitor *monitor = tsr_step_monitor(step);
    if (monitor == NULL) return;
    bool was = tsr_recording_set(false);
    tsr_monitor_distribution(monitor, "cls", teacher);
    /* The authors' acc: teacher of the first view, student of the second. */
    int64_t images = tsr_tensor_size(teacher, 0) / 2;
    tsr_monitor_agreement(monitor, "cls", tsr_slice(teacher, 0, 0, images, 1),
                          tsr_slice(student, 0, images, 2 * images, 1));
    if (o->centering == TSR_CENTERING_CENTER) {
        tsr_tensor *square = tsr_sum(tsr_mul(center, center), NULL, 0, false);
        tsr_monitor_number(monitor, "center_norm", tsr_tensor_item(tsr_sqrt(square)));
    }
    tsr_recording_set(was);
}
