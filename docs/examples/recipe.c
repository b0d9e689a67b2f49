/*
 * A recipe in a program of its own: the student's features of one view regress the teacher's of the other (BYOL, Grill et
 * al. 2020, equation 2, without multi-crop). docs/writing-a-recipe.md explains it part by part.
 */
#include "recipes/recipes.h"

#include <stddef.h>

/* 1. Options: a struct, and a table that says what each is. */
struct options {
    int64_t hidden;
    double drop_path;
};

static const tsr_option option_table[] = {
    {"hidden", TSR_OPTION_INT, offsetof(struct options, hidden), "128", 1, 65536, NULL,
     "width of the predictor's hidden layer", "BYOL, section 3.3"},
    {"drop-path", TSR_OPTION_DOUBLE, offsetof(struct options, drop_path), "0", 0, 0.9, NULL,
     "rate of stochastic depth in the student", NULL},
};

/* 2. Views: what the loader makes of each image. */
static int views(const tsr_build *build, tsr_view_spec *specs, int max)
{
    (void)max;
    specs[0] = tsr_view_ibot_global1((int)build->train->image_size);
    specs[1] = tsr_view_ibot_global2((int)build->train->image_size);
    return 2;
}

/* 3. Networks: modules. The student has a predictor on top, the teacher has none. */
struct student {
    tsr_module module;
    tsr_vit *backbone;
    tsr_mlp *predictor;
};

struct byol {
    struct student *student;
    struct student *teacher;
};

static struct student *make_network(const tsr_build *build, bool predicts)
{
    const struct options *o = build->options;
    tsr_vit_config config;
    struct student *m = tsr_module_new(sizeof *m, "byol", build->dtype);
    if (m == NULL || tsr_train_vit_config(build->train, &config) != TSR_STATUS_OK) return m;
    config.dtype = build->dtype;
    config.drop_path = predicts ? o->drop_path : 0.0;
    m->backbone = tsr_module_child(&m->module, "backbone", tsr_vit_new(&config));
    if (predicts) {
        tsr_mlp *mlp = tsr_mlp_new(config.dim, o->hidden, 0.0, build->dtype);
        m->predictor = tsr_module_child(&m->module, "predictor", mlp);
    }
    return tsr_module_finish(&m->module);
}

static tsr_status build(const tsr_build *b, tsr_networks *n)
{
    struct byol *byol = tsr_alloc(sizeof *byol);
    if (byol == NULL) return tsr_status_get();
    *byol = (struct byol){make_network(b, true), make_network(b, false)};
    *n = (tsr_networks){.feature = "teacher.backbone", .self = byol};
    if (byol->student != NULL) n->student = &byol->student->module;
    if (byol->teacher != NULL) n->teacher = &byol->teacher->module;
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    tsr_module_initialize(n->student, b->seed);
    tsr_module_copy(n->teacher, n->student, TSR_MATCH_COMMON);
    tsr_module_freeze(n->teacher);
    return tsr_status_get();
}

static void release(tsr_networks *n)
{
    tsr_free(n->self);
    n->self = NULL;
}

/* 4. The loss: a graph from a batch to a scalar. */
static tsr_tensor *features(const struct student *m, tsr_tensor *images, tsr_rng rng)
{
    tsr_backbone_options options = {.rng = rng};
    return tsr_tokens_class(tsr_vit_forward(m->backbone, images, &options));
}

static tsr_tensor *loss(const tsr_networks *n, tsr_step *step)
{
    const struct byol *byol = n->self;
    tsr_tensor *images = tsr_step_input(step, "global"); /* [2 B, 3, S, S], view by view */
    bool was = tsr_recording_set(false);
    tsr_tensor *view[2], *target = features(byol->teacher, images, tsr_step_rng(step));
    tsr_recording_set(was);
    tsr_split(target, 0, 2, view);
    target = tsr_l2_normalize(tsr_concat(TSR_TENSORS(view[1], view[0]), 0), -1, 1e-12);

    tsr_tensor *q = features(byol->student, images, tsr_step_rng(step));
    q = tsr_l2_normalize(tsr_mlp_forward(byol->student->predictor, q, NULL), -1, 1e-12);
    tsr_tensor *distance = tsr_sum(tsr_mse(q, target), (const int[]){-1}, 1, false);
    tsr_tensor *value = tsr_mean(distance, NULL, 0, false);
    tsr_step_log(step, "distance", value);
    tsr_monitor *monitor = tsr_step_monitor(step);
    if (monitor != NULL) tsr_monitor_features(monitor, view[0]);
    return value;
}

/* 5. The recipe is a value. What differs from the defaults of all runs is said with its source; presets come on top. */
static const tsr_default defaults[] = {
    {"momentum-teacher", "0.996", "BYOL, section 3.3"},
    {"momentum-teacher-end", "1", "BYOL, section 3.3"},
};

static const tsr_preset presets[] = {
    {"tiny", "a small network for Fashion-MNIST",
     "image-size=28 patch-size=7 dim=48 depth=2 heads=3 epochs=1 warmup-epochs=0.1"},
};

static const tsr_recipe byol = {
    .name = "byol",
    .title = "one view's features regress those of the other",
    .paper = "Grill et al., Bootstrap Your Own Latent, NeurIPS 2020, arXiv 2006.07733",
    .options = option_table,
    .n_options = sizeof option_table / sizeof option_table[0],
    .options_size = sizeof(struct options),
    .defaults = defaults,
    .n_defaults = sizeof defaults / sizeof defaults[0],
    .presets = presets,
    .n_presets = sizeof presets / sizeof presets[0],
    .views = views,
    .build = build,
    .loss = loss,
    .release = release,
};

/* 6. The program: recipe pretrain byol --data DIR --out DIR; --help says the rest. */
int main(int argc, char **argv)
{
    static const tsr_recipe *const recipes[] = {&byol};
    return tsr_main(argc, argv, recipes, 1);
}
