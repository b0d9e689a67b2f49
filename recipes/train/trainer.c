/*
 * The trainer: one optimizer step at a time, for any recipe. It knows schedules, micro-batches, clipping, moving averages
 * and checkpoints, and nothing of what the loss means.
 */
#include "ops/ops.h"
#include "recipes/recipes.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { AVERAGES = 16, FIELDS = 16 };

struct average {
    const char *name;
    tsr_tensor *sum; /* held; over micro-batches */
};

struct tsr_trainer {
    const tsr_recipe *recipe;
    tsr_build build;
    tsr_networks networks;
    tsr_optimizer *optimizer;
    tsr_module_list *parameters; /* of the student, each once */
    tsr_monitor *monitor;
    tsr_schedule_cosine lr, weight_decay, momentum;
    int64_t steps_per_epoch, position;
};

struct tsr_step {
    tsr_trainer *trainer;
    const tsr_input *inputs; /* of this micro-batch */
    int n_inputs;
    int64_t micro, n_micro;
    double share; /* of what is logged now in the result */
    bool monitored;
    struct average averages[AVERAGES];
    int n_averages;
    tsr_step_result *result;
};

/* ---- what a recipe sees of a step ---- */

int64_t tsr_step_epoch(const tsr_step *step)
{
    return step->trainer->position / step->trainer->steps_per_epoch;
}

int64_t tsr_step_index(const tsr_step *step)
{
    return step->trainer->position;
}

tsr_rng tsr_step_rng(const tsr_step *step)
{
    const tsr_trainer *t = step->trainer;
    int64_t batch = t->build.train->batch, part = batch / step->n_micro;
    uint32_t first = (uint32_t)(step->micro * part);
    tsr_rng rng =
        tsr_rng_make(t->build.seed, (uint32_t)t->position, first, tsr_rng_purpose("step"));
    rng.part = (uint32_t)part;
    rng.batch = (uint32_t)batch;
    return rng;
}

static const tsr_input *find_input(const tsr_step *step, const char *name)
{
    for (int i = 0; i < step->n_inputs; i++) {
        if (strcmp(step->inputs[i].name, name) == 0) return &step->inputs[i];
    }
    return NULL;
}

bool tsr_step_has_input(const tsr_step *step, const char *name)
{
    return find_input(step, name) != NULL;
}

tsr_tensor *tsr_step_input(const tsr_step *step, const char *name)
{
    const tsr_input *input = find_input(step, name);
    if (input == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "%s: the batch has no field \"%s\"",
                 step->trainer->recipe->name, name);
        return NULL;
    }
    return input->tensor;
}

void tsr_step_log(tsr_step *step, const char *name, tsr_tensor *value)
{
    if (value == NULL) return;
    tsr_step_result *r = step->result;
    double share = tsr_tensor_item(value) * step->share;
    for (int i = 0; i < r->n_numbers; i++) {
        if (strcmp(r->numbers[i].name, name) == 0) {
            r->numbers[i].value += share;
            return;
        }
    }
    if (r->n_numbers == TSR_STEP_NUMBERS) return;
    r->numbers[r->n_numbers].name = name;
    r->numbers[r->n_numbers++].value = share;
}

static struct average *find_average(const tsr_step *step, const char *name)
{
    for (int i = 0; i < step->n_averages; i++) {
        if (strcmp(step->averages[i].name, name) == 0) return (struct average *)&step->averages[i];
    }
    return NULL;
}

void tsr_step_average(tsr_step *step, const char *name, tsr_tensor *value)
{
    if (value == NULL) return;
    bool was = tsr_recording_set(false);
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *share = tsr_affine(tsr_detach(value), 1.0 / (double)step->n_micro, 0.0);
    struct average *a = find_average(step, name);
    if (a != NULL) {
        tsr_tensor *sum = tsr_tensor_hold(tsr_add(a->sum, share));
        tsr_tensor_release(&a->sum);
        a->sum = sum;
    } else if (step->n_averages == AVERAGES) {
        tsr_fail(TSR_STATUS_ARGUMENT, "step_average: more than %d statistics", AVERAGES);
    } else {
        step->averages[step->n_averages++] = (struct average){name, tsr_tensor_hold(share)};
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    tsr_recording_set(was);
}

tsr_tensor *tsr_step_averaged(const tsr_step *step, const char *name)
{
    const struct average *a = find_average(step, name);
    if (a == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "step_averaged: the loss gave no statistic \"%s\"", name);
        return NULL;
    }
    return tsr_tensor_borrow(a->sum);
}

tsr_monitor *tsr_step_monitor(const tsr_step *step)
{
    return step->monitored && step->micro == 0 ? step->trainer->monitor : NULL;
}

/* ---- making a trainer ---- */

static tsr_schedule_cosine constant_or_cosine(double base, double final, int64_t steps)
{
    return (tsr_schedule_cosine){.base = base, .final = final, .steps = steps};
}

/* The teacher's parameter of this name; NULL if there is none. Both lists have like orders. */
static tsr_tensor *teacher_of(const tsr_module_list *teacher, const char *name, int64_t hint)
{
    for (int64_t k = 0; teacher != NULL && k < teacher->n; k++) {
        const tsr_module_entry *e = &teacher->at[(hint + k) % teacher->n];
        if (strcmp(e->name, name) == 0) return e->tensor;
    }
    return NULL;
}

static bool make_optimizer(tsr_trainer *t)
{
    t->parameters = tsr_module_parameters(t->networks.student);
    if (t->parameters == NULL) return false;
    tsr_module_list *teacher = NULL;
    if (t->networks.teacher != NULL) {
        teacher = tsr_module_parameters(t->networks.teacher);
        if (teacher == NULL) return false;
    }
    size_t n = (size_t)t->parameters->n;
    tsr_optimizer_parameter *list = tsr_alloc(n * sizeof *list);
    for (size_t i = 0; list != NULL && i < n; i++) {
        const tsr_module_entry *e = &t->parameters->at[i];
        list[i] = (tsr_optimizer_parameter){.name = e->name,
                                            .tensor = e->tensor,
                                            .decays = tsr_module_decays(e),
                                            .average = teacher_of(teacher, e->name, (int64_t)i)};
        if (t->recipe->group != NULL) t->recipe->group(&t->networks, &list[i]);
    }
    const tsr_train_options *train = t->build.train;
    tsr_optimizer_options options = {
        .kind = (tsr_optimizer_kind)train->optimizer, .beta1 = train->beta1, .beta2 = train->beta2};
    if (list != NULL) t->optimizer = tsr_optimizer_make(list, (int)n, &options);
    tsr_free(list);
    tsr_module_list_free(&teacher);
    return t->optimizer != NULL;
}

/* Networks compute as --precision says; what they are and hold is the recipe's. */
static bool set_precision(const tsr_trainer *t)
{
    if (t->build.train->precision == TSR_PRECISION_F32) return true;
    return tsr_module_compute_in(t->networks.student, TSR_DTYPE_BF16) == TSR_STATUS_OK &&
           tsr_module_compute_in(t->networks.teacher, TSR_DTYPE_BF16) == TSR_STATUS_OK;
}

static tsr_status check_train(const tsr_train_options *o)
{
    if (o->micro_batch > 0 && o->batch % o->micro_batch != 0) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "--micro-batch: %" PRId64 " does not divide --batch %" PRId64,
                        o->micro_batch, o->batch);
    }
    return TSR_STATUS_OK;
}

tsr_trainer *tsr_trainer_make(const tsr_recipe *recipe, const tsr_build *build,
                              int64_t steps_per_epoch)
{
    const tsr_train_options *o = build->train;
    if (steps_per_epoch < 1) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "trainer: no step in an epoch: fewer images than --batch %" PRId64, o->batch);
    }
    if (check_train(o) != TSR_STATUS_OK || tsr_status_get() != TSR_STATUS_OK) return NULL;
    tsr_trainer *t = tsr_alloc(sizeof *t);
    if (t == NULL) return NULL;
    *t = (tsr_trainer){.recipe = recipe, .build = *build, .steps_per_epoch = steps_per_epoch};
    int64_t steps = o->epochs * steps_per_epoch;
    double scale = o->scale_lr ? (double)o->batch / 256.0 : 1.0;
    t->lr = constant_or_cosine(o->lr * scale, o->min_lr, steps);
    t->lr.warmup = (int64_t)(o->warmup_epochs * (double)steps_per_epoch);
    t->weight_decay = constant_or_cosine(o->weight_decay, o->weight_decay_end, steps);
    t->momentum = constant_or_cosine(o->momentum_teacher, o->momentum_teacher_end, steps);
    t->monitor = tsr_monitor_create();
    if (t->monitor == NULL || recipe->build(build, &t->networks) != TSR_STATUS_OK ||
        !set_precision(t) || !make_optimizer(t)) {
        tsr_trainer_free(&t);
    }
    return t;
}

void tsr_trainer_free(tsr_trainer **trainer)
{
    if (trainer == NULL || *trainer == NULL) return;
    tsr_trainer *t = *trainer;
    tsr_optimizer_free(&t->optimizer);
    tsr_module_list_free(&t->parameters);
    tsr_monitor_free(&t->monitor);
    if (t->recipe->release != NULL) t->recipe->release(&t->networks);
    tsr_module_free(&t->networks.student);
    tsr_module_free(&t->networks.teacher);
    tsr_module_free(&t->networks.state);
    tsr_free(t);
    *trainer = NULL;
}

const tsr_networks *tsr_trainer_networks(const tsr_trainer *t)
{
    return &t->networks;
}

int64_t tsr_trainer_position(const tsr_trainer *t)
{
    return t->position;
}

tsr_monitor *tsr_trainer_monitor(const tsr_trainer *t)
{
    return t->monitor;
}

/* ---- one step ---- */

/* A field whose rows are [copies * samples, ...], copy-major, as [copies, samples, ...]. */
static tsr_tensor *by_copy(tsr_tensor *field, int64_t samples)
{
    tsr_shape shape = tsr_tensor_shape(field), split = {.ndim = shape.ndim + 1};
    split.size[0] = shape.size[0] / samples;
    split.size[1] = samples;
    for (int d = 1; d < shape.ndim; d++) split.size[d + 1] = shape.size[d];
    return tsr_reshape(field, split);
}

/* Samples [first, first + n) of it, [copies * n, ...]. */
static tsr_tensor *micro_rows(tsr_tensor *field, int64_t samples, int64_t first, int64_t n)
{
    tsr_shape shape = tsr_tensor_shape(field);
    shape.size[0] = shape.size[0] / samples * n;
    return tsr_reshape(tsr_slice(by_copy(field, samples), 1, first, first + n, 1), shape);
}

/* The fields of one micro-batch, in the model's type. */
static bool micro_inputs(const tsr_step *step, const tsr_input *all, tsr_input *out)
{
    const tsr_trainer *t = step->trainer;
    int64_t samples = t->build.train->batch, n = samples / step->n_micro;
    for (int i = 0; i < step->n_inputs; i++) {
        tsr_tensor *x = all[i].tensor;
        if (tsr_tensor_size(x, 0) == 0 || tsr_tensor_size(x, 0) % samples != 0) {
            char text[TSR_SHAPE_TEXT];
            tsr_fail(TSR_STATUS_SHAPE,
                     "%s: field \"%s\" has shape %s, expected a multiple of the batch, %" PRId64
                     ", in front",
                     t->recipe->name, all[i].name, tsr_shape_text(tsr_tensor_shape(x), text),
                     samples);
            return false;
        }
        if (step->n_micro > 1) x = micro_rows(x, samples, step->micro * n, n);
        if (tsr_dtype_is_float(tsr_tensor_dtype(x))) x = tsr_cast(x, t->build.dtype);
        out[i] = (tsr_input){all[i].name, x};
        if (x == NULL) return false;
    }
    return true;
}

/* Words the cause of a loss that is NaN or infinite. */
static void blame_loss(const tsr_step *step)
{
    for (int i = 0; i < step->n_inputs; i++) {
        if (tsr_tensor_is_finite(step->inputs[i].tensor)) continue;
        tsr_fail(TSR_STATUS_NUMERIC,
                 "step %" PRId64 ": the batch's field \"%s\" holds NaN or infinity",
                 step->trainer->position, step->inputs[i].name);
        return;
    }
    const tsr_module_list *p = step->trainer->parameters;
    for (int i = 0; i < p->n; i++) {
        if (tsr_tensor_is_finite(p->at[i].tensor)) continue;
        tsr_fail(TSR_STATUS_NUMERIC, "step %" PRId64 ": parameter %s holds NaN or infinity",
                 step->trainer->position, p->at[i].name);
        return;
    }
    const char *term = "the loss";
    for (int i = 0; i < step->result->n_numbers; i++) {
        if (!isfinite(step->result->numbers[i].value)) term = step->result->numbers[i].name;
    }
    tsr_fail(TSR_STATUS_NUMERIC,
             "step %" PRId64 ": %s is NaN or infinite: lower --lr or --clip, or "
             "lengthen --warmup-epochs",
             step->trainer->position, term);
}

/* Backward from a loss that is `share` of the step's. */
static void descend(tsr_step *step, tsr_tape *tape, tsr_tensor *loss, double share)
{
    if (loss == NULL) return;
    double value = tsr_tensor_item(loss);
    step->result->loss += value * share;
    if (!isfinite(value)) blame_loss(step);
    tsr_backward(tape, share < 1.0 ? tsr_affine(loss, share, 0.0) : loss, NULL);
}

static void micro_step(tsr_step *step, const tsr_input *all)
{
    tsr_input inputs[FIELDS];
    const tsr_trainer *t = step->trainer;
    tsr_scope scope = tsr_scope_open();
    tsr_tape *tape = tsr_tape_open();
    step->inputs = inputs;
    if (tape != NULL && micro_inputs(step, all, inputs)) {
        descend(step, tape, t->recipe->loss(&t->networks, step), step->share);
    }
    tsr_tape_close(&tape);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* ---- a step whose loss takes statistics over the whole batch ---- */

/* embed() of this micro-batch. */
static tsr_tensor *embed(tsr_step *step, const tsr_input *all, tsr_input *inputs)
{
    const tsr_trainer *t = step->trainer;
    step->inputs = inputs;
    return micro_inputs(step, all, inputs) ? t->recipe->embed(&t->networks, step) : NULL;
}

/* That of all micro-batches, without history: each [copies * n, ...] is a part of [copies * samples, ...]. */
static tsr_tensor *embed_all(tsr_step *step, const tsr_input *all)
{
    int64_t samples = step->trainer->build.train->batch, n = samples / step->n_micro;
    tsr_tensor *whole = NULL;
    bool was = tsr_recording_set(false);
    for (step->micro = 0; step->micro < step->n_micro; step->micro++) {
        tsr_input inputs[FIELDS];
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *part = embed(step, all, inputs);
        if (whole == NULL && part != NULL) {
            tsr_shape shape = tsr_tensor_shape(part);
            shape.size[0] *= step->n_micro;
            whole = tsr_tensor_hold(tsr_empty(tsr_tensor_dtype(part), shape));
        }
        if (whole != NULL && part != NULL) {
            int64_t first = step->micro * n;
            tsr_tensor *to = tsr_slice(by_copy(whole, samples), 1, first, first + n, 1);
            if (to != NULL) tsr_tensor_copy(to, by_copy(part, n));
        }
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        step->inputs = NULL;
        if (tsr_status_get() != TSR_STATUS_OK) break;
    }
    tsr_recording_set(was);
    return whole;
}

/* The loss of the whole batch, from an embedding of it. */
static void whole_loss(tsr_step *step, tsr_tape *tape, const tsr_input *all, tsr_tensor *embedding)
{
    const tsr_trainer *t = step->trainer;
    tsr_input inputs[FIELDS + 1];
    int n = step->n_inputs;
    step->inputs = inputs;
    if (embedding != NULL && micro_inputs(step, all, inputs)) {
        inputs[n] = (tsr_input){"embed", embedding};
        step->n_inputs = n + 1;
        descend(step, tape, t->recipe->loss(&t->networks, step), 1.0);
        step->n_inputs = n;
    }
    step->inputs = NULL;
}

/* By the chain rule in two parts: the gradient of the embedding first, then that of what makes it, micro-batch by
 * micro-batch. */
static void whole_step(tsr_step *step, const tsr_input *all)
{
    int64_t n_micro = step->n_micro, samples = step->trainer->build.train->batch;
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *whole = n_micro > 1 ? embed_all(step, all) : NULL;
    step->micro = 0;
    step->n_micro = 1;
    step->share = 1.0;
    tsr_tape *tape = tsr_tape_open();
    tsr_input inputs[FIELDS];
    whole_loss(step, tape, all,
               n_micro > 1 ? tsr_require_grad(whole, true) : embed(step, all, inputs));
    tsr_tape_close(&tape);
    step->n_micro = n_micro;
    bool cut = n_micro > 1 && tsr_status_get() == TSR_STATUS_OK;
    tsr_tensor *gradient = cut ? tsr_tensor_grad(whole) : NULL;
    for (; gradient != NULL && step->micro < n_micro; step->micro++) {
        int64_t n = samples / n_micro;
        tsr_scope part = tsr_scope_open();
        tape = tsr_tape_open();
        tsr_tensor *x = embed(step, all, inputs);
        tsr_tensor *g = micro_rows(gradient, samples, step->micro * n, n);
        if (x != NULL) tsr_backward(tape, tsr_sum(tsr_mul(x, g), NULL, 0, false), NULL);
        tsr_tape_close(&tape);
        tsr_scope_close(&part, TSR_NO_TENSORS);
    }
    step->inputs = NULL;
    tsr_tensor_release(&whole);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* Clips, and refuses gradients that are not finite. */
static void prepare_gradients(tsr_step *step)
{
    tsr_trainer *t = step->trainer;
    const tsr_train_options *o = t->build.train;
    tsr_gradient_norms norms = {0};
    tsr_clip mode = o->clip == 0.0   ? TSR_CLIP_NONE
                    : o->clip_global ? TSR_CLIP_GLOBAL
                                     : TSR_CLIP_EACH;
    if (tsr_optimizer_clip(t->optimizer, mode, o->clip, &norms) != TSR_STATUS_OK) return;
    step->result->gradient_norm = norms.global;
    step->result->gradient_norm_sum = norms.sum;
    for (int i = 0; !isfinite(norms.sum) && i < t->parameters->n; i++) {
        const tsr_module_entry *e = &t->parameters->at[i];
        if (tsr_tensor_is_finite(tsr_tensor_grad(e->tensor))) continue;
        tsr_fail(TSR_STATUS_NUMERIC,
                 "step %" PRId64 ": the gradient of %s is NaN or infinite: lower --lr, "
                 "or lengthen --warmup-epochs",
                 t->position, e->name);
        return;
    }
    int64_t epoch = tsr_step_epoch(step);
    for (int i = 0; t->recipe->trains != NULL && i < t->parameters->n; i++) {
        const tsr_module_entry *e = &t->parameters->at[i];
        if (!t->recipe->trains(&t->networks, e->name, epoch)) tsr_tensor_set_grad(e->tensor, NULL);
    }
}

static void update(tsr_step *step)
{
    tsr_trainer *t = step->trainer;
    tsr_step_result *r = step->result;
    bool was = tsr_recording_set(false);
    tsr_scope scope = tsr_scope_open();
    tsr_optimizer_step_average(t->optimizer, r->lr, r->weight_decay, r->momentum);
    if (tsr_status_get() == TSR_STATUS_OK && t->recipe->after_step != NULL) {
        t->recipe->after_step(&t->networks, step);
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    tsr_recording_set(was);
}

tsr_status tsr_trainer_step(tsr_trainer *t, const tsr_input *inputs, int n_inputs,
                            tsr_step_result *result)
{
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    const tsr_train_options *o = t->build.train;
    *result =
        (tsr_step_result){.lr = tsr_schedule_cosine_at(&t->lr, t->position),
                          .weight_decay = tsr_schedule_cosine_at(&t->weight_decay, t->position),
                          .momentum = tsr_schedule_cosine_at(&t->momentum, t->position)};
    if (n_inputs > FIELDS) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "trainer: %d fields, expected at most %d", n_inputs,
                        FIELDS);
    }
    tsr_input whole[FIELDS];
    memcpy(whole, inputs, (size_t)n_inputs * sizeof *inputs);
    tsr_step step = {.trainer = t, .inputs = whole, .n_inputs = n_inputs, .result = result};
    step.n_micro = o->micro_batch > 0 ? o->batch / o->micro_batch : 1;
    step.share = 1.0 / (double)step.n_micro;
    tsr_scope scope = tsr_scope_open();
    step.monitored = o->monitor_every > 0 && t->position % o->monitor_every == 0;
    if (step.monitored) tsr_monitor_begin(t->monitor, t->position);
    tsr_optimizer_zero_grad(t->optimizer);
    if (t->recipe->prepare != NULL) {
        step.n_inputs = t->recipe->prepare(&t->networks, &step, whole, n_inputs, FIELDS);
    }
    if (t->recipe->embed != NULL && tsr_status_get() == TSR_STATUS_OK) {
        whole_step(&step, whole);
    } else {
        for (; step.micro < step.n_micro && tsr_status_get() == TSR_STATUS_OK; step.micro++) {
            micro_step(&step, whole);
        }
    }
    step.inputs = NULL;
    step.n_inputs = 0;
    if (tsr_status_get() == TSR_STATUS_OK) prepare_gradients(&step);
    if (tsr_status_get() == TSR_STATUS_OK) update(&step);
    for (int i = 0; i < step.n_averages; i++) tsr_tensor_release(&step.averages[i].sum);
    for (int i = 0; i < t->parameters->n; i++)
        tsr_tensor_set_grad(t->parameters->at[i].tensor, NULL);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    if (tsr_status_get() == TSR_STATUS_OK) t->position++;
    return tsr_status_get();
}

/* ---- evaluation ---- */

static void evaluate_batch(tsr_step *step, const tsr_batch *batch)
{
    tsr_trainer *t = step->trainer;
    tsr_input inputs[FIELDS];
    tsr_scope scope = tsr_scope_open();
    step->inputs = inputs;
    step->n_inputs = 0;
    for (int i = 0; i < tsr_batch_field_count(batch) && i < FIELDS; i++) {
        const char *name = tsr_batch_field_name(batch, i);
        tsr_tensor *x = tsr_batch_tensor(batch, name);
        if (tsr_dtype_is_float(tsr_tensor_dtype(x))) x = tsr_cast(x, t->build.dtype);
        inputs[step->n_inputs++] = (tsr_input){name, x};
    }
    step->share = (double)batch->n;
    t->recipe->evaluate(&t->networks, step);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* Evaluation mode on or off; the networks' own state is what it was before. */
static void set_training(const tsr_networks *n, bool student, bool teacher)
{
    tsr_module_train(n->student, student);
    if (n->teacher != NULL) tsr_module_train(n->teacher, teacher);
}

tsr_status tsr_trainer_evaluate(tsr_trainer *t, tsr_loader *loader, tsr_step_result *result)
{
    *result = (tsr_step_result){0};
    if (t->recipe->evaluate == NULL) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "evaluate: the recipe %s measures nothing",
                        t->recipe->name);
    }
    const tsr_networks *n = &t->networks;
    bool student = n->student->training, teacher = n->teacher != NULL && n->teacher->training;
    bool was = tsr_recording_set(false);
    set_training(n, false, false);
    tsr_step step = {.trainer = t, .n_micro = 1, .result = result};
    const tsr_batch *batch;
    int64_t images = 0;
    while ((batch = tsr_loader_next(loader)) != NULL && tsr_status_get() == TSR_STATUS_OK) {
        evaluate_batch(&step, batch);
        images += batch->n;
    }
    for (int i = 0; i < result->n_numbers; i++) result->numbers[i].value /= (double)images;
    for (int i = 0; i < step.n_averages; i++) tsr_tensor_release(&step.averages[i].sum);
    set_training(n, student, teacher);
    tsr_recording_set(was);
    return tsr_status_get();
}

/* ---- checkpoints ---- */

static const struct {
    const char *prefix;
    size_t offset;
} trees[] = {
    {"student/", offsetof(tsr_networks, student)},
    {"teacher/", offsetof(tsr_networks, teacher)},
    {"state/", offsetof(tsr_networks, state)},
};
enum { TREES = sizeof trees / sizeof trees[0] };

static tsr_module *tree_of(const tsr_trainer *t, int i)
{
    return *(tsr_module *const *)(const void *)((const char *)&t->networks + trees[i].offset);
}

/* Calls f with each group of tensors that a checkpoint holds. */
static tsr_status each_group(tsr_trainer *t, void *user,
                             tsr_status (*f)(const char *prefix, const tsr_named_tensor *tensors,
                                             int64_t n, void *user))
{
    for (int i = 0; i < TREES; i++) {
        if (tree_of(t, i) == NULL) continue;
        tsr_module_list *state = tsr_module_state(tree_of(t, i));
        if (state == NULL) return tsr_status_get();
        tsr_named_tensor *named = tsr_alloc((size_t)state->n * sizeof *named);
        for (int64_t k = 0; named != NULL && k < state->n; k++) {
            named[k] = (tsr_named_tensor){state->at[k].name, state->at[k].tensor};
        }
        if (named != NULL) f(trees[i].prefix, named, state->n, user);
        tsr_free(named);
        tsr_module_list_free(&state);
        if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    }
    int64_t n;
    const tsr_named_tensor *moments = tsr_optimizer_state(t->optimizer, &n);
    return f("optimizer/", moments, n, user);
}

static tsr_status put_group(const char *prefix, const tsr_named_tensor *tensors, int64_t n,
                            void *user)
{
    for (int64_t i = 0; i < n; i++) {
        char name[512];
        snprintf(name, sizeof name, "%s%s", prefix, tensors[i].name);
        if (tsr_checkpoint_put_tensor(user, name, tensors[i].tensor) != TSR_STATUS_OK) break;
    }
    return tsr_status_get();
}

static tsr_status load_group(const char *prefix, const tsr_named_tensor *tensors, int64_t n,
                             void *user)
{
    return tsr_checkpoint_load(user, prefix, tensors, n);
}

/* The monitor's looks as a table: a column for every name that any look has. */
static tsr_status put_looks(const tsr_monitor *m, tsr_checkpoint_writer *w)
{
    int64_t rows = tsr_monitor_count(m), columns = 0;
    if (rows == 0) return tsr_status_get();
    const char *names[TSR_MONITOR_NUMBERS];
    for (int64_t r = 0; r < rows; r++) {
        const tsr_monitor_look *look = tsr_monitor_at(m, r);
        for (int i = 0; i < look->n; i++) {
            int64_t c = 0;
            while (c < columns && strcmp(names[c], look->name[i]) != 0) c++;
            if (c == columns && columns < TSR_MONITOR_NUMBERS) names[columns++] = look->name[i];
        }
    }
    int64_t *steps = tsr_alloc((size_t)rows * sizeof *steps);
    double *values = tsr_alloc((size_t)(rows * columns) * sizeof *values);
    if (steps != NULL && values != NULL) {
        for (int64_t r = 0; r < rows; r++) {
            const tsr_monitor_look *look = tsr_monitor_at(m, r);
            steps[r] = look->step;
            for (int64_t c = 0; c < columns; c++) {
                values[r * columns + c] = tsr_monitor_value(look, names[c]);
            }
        }
        tsr_history history = {.name = "monitor",
                               .columns = names,
                               .n_columns = columns,
                               .steps = steps,
                               .values = values,
                               .n_rows = rows};
        tsr_checkpoint_put_history(w, &history);
    }
    tsr_free(steps);
    tsr_free(values);
    return tsr_status_get();
}

static tsr_status load_looks(tsr_monitor *m, const tsr_checkpoint *c)
{
    const tsr_history *h = tsr_checkpoint_history_find(c, "monitor");
    for (int64_t r = 0; h != NULL && r < h->n_rows; r++) {
        tsr_monitor_look look = {.step = h->steps[r]};
        for (int64_t k = 0; k < h->n_columns && look.n < TSR_MONITOR_NUMBERS; k++) {
            double value = h->values[r * h->n_columns + k];
            if (isnan(value)) continue;
            snprintf(look.name[look.n], TSR_MONITOR_NAME, "%s", h->columns[k]);
            look.value[look.n++] = value;
        }
        if (tsr_monitor_restore(m, &look) != TSR_STATUS_OK) break;
    }
    return tsr_status_get();
}

tsr_status tsr_trainer_save(tsr_trainer *t, tsr_checkpoint_writer *w)
{
    tsr_checkpoint_put_string(w, "recipe", t->recipe->name);
    tsr_checkpoint_put_string(w, "feature", t->networks.feature);
    tsr_checkpoint_put_int(w, "position", t->position);
    tsr_checkpoint_put_int(w, "steps_per_epoch", t->steps_per_epoch);
    tsr_checkpoint_put_uint(w, "seed", t->build.seed);
    put_looks(t->monitor, w);
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    return each_group(t, w, put_group);
}

tsr_status tsr_trainer_load(tsr_trainer *t, tsr_checkpoint *c)
{
    const char *recipe;
    int64_t position, steps_per_epoch;
    uint64_t seed;
    if (tsr_checkpoint_get_string(c, "recipe", &recipe) != TSR_STATUS_OK ||
        tsr_checkpoint_get_int(c, "position", &position) != TSR_STATUS_OK ||
        tsr_checkpoint_get_uint(c, "seed", &seed) != TSR_STATUS_OK ||
        tsr_checkpoint_get_int(c, "steps_per_epoch", &steps_per_epoch) != TSR_STATUS_OK) {
        return tsr_status_get();
    }
    if (strcmp(recipe, t->recipe->name) != 0 || steps_per_epoch != t->steps_per_epoch ||
        seed != t->build.seed || position < 0) {
        return tsr_fail(
            TSR_STATUS_ARGUMENT,
            "resume: the checkpoint is of another run (recipe %.40s, %" PRId64
            " steps an epoch, seed %" PRIu64 "; this one: %s, %" PRId64 ", %" PRIu64 ")",
            recipe, steps_per_epoch, seed, t->recipe->name, t->steps_per_epoch, t->build.seed);
    }
    if (each_group(t, c, load_group) != TSR_STATUS_OK) return tsr_status_get();
    t->position = position;
    return load_looks(t->monitor, c);
}
