/*
 * DINO: the whole training trajectory of the authors' loop, through the trainer's own steps; Sinkhorn-Knopp. In
 * tests/golden/train_dino_f64.safetensors the student's head has a second name for its last layer, which iBOT's code gave
 * it: here it is not looked for.
 */
#include "tests/test.h"

#include "ops/ops.h"
#include "recipes/distillation.h"

#include <stdlib.h>

static tsr_tensor *get(tsr_safetensors *file, int step, const char *name)
{
    char full[128];
    snprintf(full, sizeof full, "%d.%s", step, name);
    tsr_tensor *t = tsr_safetensors_tensor(file, step < 0 ? name : full);
    assert_ok();
    return t;
}

/* |a - b| <= 1e-8 max |b| */
static void assert_relative(tsr_tensor *a, tsr_tensor *b, const char *name)
{
    double largest = 0.0, worst = 0.0;
    assert_ok();
    assert_int_equal(tsr_tensor_numel(a), tsr_tensor_numel(b));
    for (int64_t i = 0; i < tsr_tensor_numel(b); i++) {
        largest = fmax(largest, fabs(tsr_tensor_get(b, i)));
        worst = fmax(worst, fabs(tsr_tensor_get(a, i) - tsr_tensor_get(b, i)));
    }
    if (!(worst <= 1e-8 * largest)) fail_msg("%s: off by %.3g of %.3g", name, worst, largest);
}

/* Copies the file's tensors of prefix into the module's, or compares. */
static void each_tensor(tsr_safetensors *file, const char *prefix, const tsr_module *m,
                        bool compare)
{
    int seen = 0;
    for (int64_t i = 0; i < tsr_safetensors_count(file); i++) {
        const char *name = tsr_safetensors_name(file, i);
        if (strncmp(name, prefix, strlen(prefix)) != 0 || strstr(name, "last_layer2")) continue;
        tsr_tensor *theirs = get(file, -1, name), *ours = tsr_module_find(m, name + strlen(prefix));
        assert_ok();
        if (compare) {
            assert_relative(ours, theirs, name);
        } else {
            tsr_tensor_copy(ours, theirs);
        }
        seen++;
    }
    tsr_module_list *all = tsr_module_state(m);
    assert_int_equal(seen, all->n);
    tsr_module_list_free(&all);
}

/* The file's configuration, as its metadata states it. */
static void make_options(const tsr_recipe *recipe, tsr_train_options *train, tsr_distillation *o)
{
    tsr_recipe_defaults(recipe, train, o);
    train->image_size = 32;
    train->patch_size = 8;
    train->dim = 24;
    train->depth = 2;
    train->heads = 2;
    train->mlp_ratio = 2.0;
    train->epochs = 4;
    train->batch = 3;
    train->lr = 0.0009375;
    train->scale_lr = false;
    train->warmup_epochs = 1;
    train->momentum_teacher = 0.9;
    train->clip = 0.3;
    train->monitor_every = 1;
    o->out_dim = 32;
    o->head_hidden = 40;
    o->head_bottleneck = 16;
    o->norm_last_layer = false;
    o->local_crops = 2;
    o->local_size = 16;
    o->teacher_temp = 0.07;
    o->warmup_teacher_temp_epochs = 2;
    o->drop_path = 0.0;
}

static void test_dino__trajectory_f64(void **state)
{
    (void)state;
    char path[1024];
    snprintf(path, sizeof path, "%s/train_dino_f64.safetensors", getenv("TSR_GOLDEN"));
    tsr_safetensors *file = tsr_safetensors_open(path);
    const tsr_recipe *recipe = tsr_recipe_find("dino");
    assert_ok();
    tsr_train_options train;
    tsr_distillation o;
    make_options(recipe, &train, &o);
    tsr_build b = {.train = &train, .options = &o, .dtype = TSR_DTYPE_F64};
    tsr_trainer *trainer = tsr_trainer_make(recipe, &b, 3);
    assert_ok();
    const tsr_networks *n = tsr_trainer_networks(trainer);
    each_tensor(file, "init.student.", n->student, false);
    each_tensor(file, "init.teacher.", n->teacher, false);
    for (int step = 0; step < 12; step++) {
        tsr_input inputs[] = {{"global", get(file, step, "in.global")},
                              {"local", get(file, step, "in.local")}};
        tsr_step_result r;
        tsr_trainer_step(trainer, inputs, 2, &r);
        assert_ok();
        double wanted = tsr_tensor_get(get(file, -1, "log.loss"), step);
        if (!(fabs(r.loss - wanted) <= 1e-8 * wanted)) {
            fail_msg("step %d: loss %.15g, expected %.15g", step, r.loss, wanted);
        }
        wanted = tsr_tensor_get(get(file, -1, "log.grad_norm_sum"), step);
        assert_true(fabs(r.gradient_norm_sum - wanted) <= 1e-8 * wanted);
    }
    each_tensor(file, "final.student.", n->student, true);
    each_tensor(file, "final.teacher.", n->teacher, true);
    assert_relative(tsr_module_find(n->state, "center"), get(file, -1, "final.center_cls"),
                    "centre");
    tsr_trainer_free(&trainer);
    tsr_safetensors_close(&file);
}

/* main_dino.py's argparse; DINO's README for the boosted run. */
static void test_dino__defaults_are_the_published_ones(void **state)
{
    (void)state;
    tsr_train_options train;
    tsr_distillation o;
    const tsr_recipe *recipe = tsr_recipe_find("dino");
    tsr_recipe_defaults(recipe, &train, &o);
    assert_ok();
    assert_int_equal(o.out_dim, 65536);
    assert_int_equal(o.local_crops, 8);
    assert_true(o.norm_last_layer && o.teacher_temp == 0.04);
    assert_true(o.global_scale.at[0] == 0.4 && o.local_scale.at[1] == 0.4);
    assert_int_equal(o.warmup_teacher_temp_epochs, 0);
    assert_int_equal(train.epochs, 100);
    tsr_recipe_preset(recipe, "boosted", &train, &o);
    assert_ok();
    assert_true(!o.norm_last_layer && o.teacher_temp == 0.07);
    assert_int_equal(o.warmup_teacher_temp_epochs, 30);
    assert_int_equal(train.epochs, 300);
    assert_int_equal(o.out_dim, 65536); /* what the preset does not name stays */
    assert_true(tsr_recipe_preset(recipe, "nosuch", &train, &o) != TSR_STATUS_OK);
    assert_failed(TSR_STATUS_ARGUMENT, "it has: vit-s, boosted");
}

/* ---- Sinkhorn-Knopp ---- */

enum { ROWS = 6, K = 11 };

/* DINOv2's sinkhorn_knopp_teacher, line by line, on columns of samples, in f64. */
static void sinkhorn_reference(const double *logits, double temperature, double *out)
{
    double q[K][ROWS], sum = 0.0;
    for (int k = 0; k < K; k++) {
        for (int r = 0; r < ROWS; r++) sum += q[k][r] = exp(logits[r * K + k] / temperature);
    }
    for (int k = 0; k < K; k++) {
        for (int r = 0; r < ROWS; r++) q[k][r] /= sum;
    }
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < K; k++) {
            double of_prototype = 0.0;
            for (int r = 0; r < ROWS; r++) of_prototype += q[k][r];
            for (int r = 0; r < ROWS; r++) q[k][r] /= of_prototype * K;
        }
        for (int r = 0; r < ROWS; r++) {
            double of_sample = 0.0;
            for (int k = 0; k < K; k++) of_sample += q[k][r];
            for (int k = 0; k < K; k++) q[k][r] /= of_sample * ROWS;
        }
    }
    for (int r = 0; r < ROWS; r++) {
        for (int k = 0; k < K; k++) out[r * K + k] = q[k][r] * ROWS;
    }
}

/* The teacher's probabilities. */
static tsr_tensor *sinkhorn(tsr_tensor *logits, double temperature)
{
    tsr_distillation o = {.centering = TSR_CENTERING_SINKHORN};
    return tsr_distillation__probabilities(tsr_distillation__target(&o, logits, NULL, temperature));
}

static void test_dino__sinkhorn_equals_a_naive_reference(void **state)
{
    (void)state;
    tsr_tensor *logits = tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(ROWS, K));
    tsr_fill_normal(logits, tsr_rng_make(1, 0, 0, 0), 0.0, 0.4);
    double wanted[ROWS * K];
    sinkhorn_reference(tsr_tensor_data(logits), 0.04, wanted);
    tsr_tensor *reference = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(ROWS, K), wanted);
    assert_close(sinkhorn(logits, 0.04), reference, 1e-12);
    tsr_tensor *single = sinkhorn(tsr_cast(logits, TSR_DTYPE_F32), 0.04);
    assert_close(tsr_cast(single, TSR_DTYPE_F64), reference, 1e-4);
}

/* exp(2000) is not an f32. */
static void test_dino__sinkhorn_holds_in_f32(void **state)
{
    (void)state;
    tsr_tensor *logits = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(ROWS, K));
    tsr_fill_normal(logits, tsr_rng_make(2, 0, 0, 0), 80.0, 20.0);
    tsr_tensor *q = sinkhorn(logits, 0.04);
    assert_true(tsr_tensor_is_finite(q));
    assert_close(tsr_sum(q, (const int[]){1}, 1, false),
                 tsr_full(TSR_DTYPE_F32, TSR_SHAPE(ROWS), 1.0), 1e-5);
}

/* A step with it trains, moves no centre, and takes the whole batch or says why not. */
static void test_dino__sinkhorn_takes_the_whole_batch(void **state)
{
    (void)state;
    tsr_train_options train;
    tsr_distillation o;
    const tsr_recipe *recipe = tsr_recipe_find("dino");
    make_options(recipe, &train, &o);
    o.centering = TSR_CENTERING_SINKHORN;
    tsr_build b = {.train = &train, .options = &o, .dtype = TSR_DTYPE_F32};
    tsr_trainer *trainer = tsr_trainer_make(recipe, &b, 3);
    assert_ok();
    tsr_tensor *global = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(6, 3, 32, 32));
    tsr_tensor *local = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(6, 3, 16, 16));
    tsr_fill_normal(global, tsr_rng_make(3, 0, 0, 0), 0.0, 1.0);
    tsr_fill_normal(local, tsr_rng_make(4, 0, 0, 0), 0.0, 1.0);
    tsr_step_result r;
    tsr_trainer_step(trainer, (tsr_input[]){{"global", global}, {"local", local}}, 2, &r);
    assert_ok();
    tsr_tensor *center = tsr_module_find(tsr_trainer_networks(trainer)->state, "center");
    assert_close(center, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(1, 32)), 0.0);
    tsr_trainer_free(&trainer);
    train.micro_batch = 1;
    assert_null(tsr_trainer_make(recipe, &b, 3));
    assert_failed(TSR_STATUS_ARGUMENT,
                  "--centering sinkhorn takes statistics over the whole batch");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_dino__trajectory_f64),
        tsr_test(test_dino__defaults_are_the_published_ones),
        tsr_test(test_dino__sinkhorn_equals_a_naive_reference),
        tsr_test(test_dino__sinkhorn_holds_in_f32),
        tsr_test(test_dino__sinkhorn_takes_the_whole_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
