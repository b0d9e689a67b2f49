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

/* To divide by a sum is to subtract its logarithm: z_rk becomes z_rk - a_r - b_k, and a softmax over k knows no a_r. */
tsr_tensor *tsr_distillation__sinkhorn(tsr_tensor *logits, double temperature)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *z = tsr_affine(logits, 1.0 / temperature, 0.0);
    tsr_tensor *b = tsr_logsumexp(z, 0, true);
    for (int i = 1; i < 3; i++) {
        tsr_tensor *a = tsr_logsumexp(tsr_sub(z, b), 1, true);
        b = tsr_logsumexp(tsr_sub(z, a), 0, true);
    }
    return tsr_scope_return(&scope, tsr_affine(b, temperature, 0.0));
}

tsr_soft_target tsr_distillation__target(const tsr_distillation *o, tsr_tensor *logits,
                                         tsr_tensor *center, double temperature)
{
    bool sinkhorn = o->centering == TSR_CENTERING_SINKHORN;
    if (sinkhorn) center = tsr_distillation__sinkhorn(logits, temperature);
    return (tsr_soft_target){logits, tsr_reshape(center, TSR_SHAPE(-1)), temperature};
}

tsr_tensor *tsr_distillation__probabilities(tsr_soft_target t)
{
    return tsr_softmax(tsr_affine(tsr_sub(t.logits, t.center), 1.0 / t.temperature, 0.0), -1);
}

void tsr_distillation__move_center(tsr_tensor *center, double momentum, tsr_tensor *mean)
{
    tsr_tensor *moved =
        tsr_add(tsr_affine(center, momentum, 0.0), tsr_affine(mean, 1.0 - momentum, 0.0));
    if (moved != NULL) tsr_tensor_copy(center, moved);
}

/* ---- the loss ---- */

tsr_tensor *tsr_distillation__class_loss(const tsr_distillation *o, tsr_tensor *student,
                                         tsr_soft_target teacher)
{
    int64_t views = 2 + o->local_crops, images = tsr_tensor_size(teacher.logits, 0) / 2;
    tsr_tensor *pairs = tsr_full(TSR_DTYPE_BOOL, TSR_SHAPE(views, 2), 1.0);
    uint8_t *at = tsr_tensor_data_mut(pairs);
    if (at == NULL) return NULL;
    at[0] = at[3] = false; /* no view answers itself */
    tsr_tensor *losses =
        tsr_distillation_loss(tsr_reshape(student, TSR_SHAPE(views, images, -1)),
                              tsr_reshape(teacher.logits, TSR_SHAPE(2, images, -1)), teacher.center,
                              pairs, o->student_temp, teacher.temperature);
    double n = (double)(2 * views - 2);
    return tsr_affine(tsr_sum(losses, NULL, 0, false), 1.0 / (n * (double)images), 0.0);
}

bool tsr_distillation__trains(const tsr_distillation *o, const char *parameter, int64_t epoch)
{
    return epoch >= o->freeze_last_layer || strstr(parameter, "last_layer") == NULL;
}

void tsr_distillation__look(const tsr_distillation *o, tsr_step *step, tsr_tensor *student,
                            tsr_soft_target teacher)
{
    tsr_monitor *monitor = tsr_step_monitor(step);
    if (monitor == NULL) return;
    bool was = tsr_recording_set(false);
    tsr_tensor *p = tsr_distillation__probabilities(teacher);
    tsr_monitor_distribution(monitor, "cls", p);
    /* The authors' acc: teacher of the first view, student of the second. */
    int64_t images = tsr_tensor_size(p, 0) / 2;
    tsr_monitor_agreement(monitor, "cls", tsr_slice(p, 0, 0, images, 1),
                          tsr_slice(student, 0, images, 2 * images, 1));
    if (o->centering == TSR_CENTERING_CENTER) {
        tsr_tensor *square = tsr_sum(tsr_mul(teacher.center, teacher.center), NULL, 0, false);
        tsr_monitor_number(monitor, "center_norm", tsr_tensor_item(tsr_sqrt(square)));
    }
    tsr_recording_set(was);
}
