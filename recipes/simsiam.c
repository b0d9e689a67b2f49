/*
 * SimSiam: exploring simple siamese representation learning. Chen and He, CVPR 2021, arXiv 2011.10566; authors' code
 * facebookresearch/simsiam (main_simsiam.py, simsiam/builder.py). docs/simsiam.md maps sections to functions and lists what
 * differs.
 *
 * Shapes: B images, two views of each; D: width of the backbone; K: of projections and predictions.
 */
#include "ops/ops.h"
#include "recipes/recipes.h"

#include <stddef.h>

struct options {
    int64_t out_dim, hidden, predictor_hidden;
    tsr_list scale;
    double jitter, blur; /* strengths, relative to the published augmentation */
    double drop_path;
};

#define AT(field) offsetof(struct options, field)

static const tsr_option option_table[] = {
    {"out-dim", TSR_OPTION_INT, AT(out_dim), "2048", 2, 65536, NULL,
     "K: width of projections and predictions", "main_simsiam.py --dim"},
    {"head-hidden", TSR_OPTION_INT, AT(hidden), "2048", 1, 65536, NULL,
     "width of the projector's hidden layers", "paper, section 3"},
    {"predictor-hidden", TSR_OPTION_INT, AT(predictor_hidden), "512", 1, 65536, NULL,
     "width of the predictor's hidden layer: a bottleneck", "main_simsiam.py --pred-dim"},
    {"scale", TSR_OPTION_LIST, AT(scale), "0.2,1", 0, 1, NULL,
     "share of the image that a view covers, from,to", "main_simsiam.py"},
    {"jitter", TSR_OPTION_DOUBLE, AT(jitter), "1", 0, 2, NULL,
     "strength of the colour jitter, relative to the published one", NULL},
    {"blur", TSR_OPTION_DOUBLE, AT(blur), "1", 0, 4, NULL,
     "strength of the blur, relative to the published one; smaller for small images", NULL},
    {"drop-path", TSR_OPTION_DOUBLE, AT(drop_path), "0", 0, 0.99, NULL,
     "rate of stochastic depth in the last block", NULL},
};

static const tsr_default defaults[] = {
    {"epochs", "100", "main_simsiam.py --epochs"},
    {"optimizer", "sgd", "paper, section 4"},
    {"lr", "0.05", "main_simsiam.py --lr"},
    {"min-lr", "0", "main_simsiam.py adjust_learning_rate"},
    {"warmup-epochs", "0", "main_simsiam.py: none"},
    {"weight-decay", "1e-4", "main_simsiam.py --weight-decay"},
    {"weight-decay-end", "1e-4", "main_simsiam.py: constant"},
    {"clip", "0", "main_simsiam.py: none"},
};

static const tsr_preset presets[] = {
    {"published", "the published run, of a ViT in place of ResNet-50: batch 512, on ImageNet-1k",
     "batch=512"},
    {"quickstart", "Fashion-MNIST, with the arithmetic of ibot's quickstart",
     "image-size=28 patch-size=7 dim=96 depth=4 heads=3 head-hidden=256 out-dim=128 "
     "predictor-hidden=64 scale=0.5,1 blur=0.25 optimizer=adamw weight-decay=0.04 "
     "weight-decay-end=0.04 batch=32 epochs=2 warmup-epochs=0.1 lr=6e-3"},
};

/* f, the backbone with its projector, and h, the predictor. */
struct simsiam {
    tsr_module module;
    tsr_backbone *backbone;
    tsr_linear_layer *projector[3], *predictor[2];
    tsr_norm_layer *projector_norm[3], *predictor_norm;
};

/* ---- views: main_simsiam.py, MoCo v2's augmentation ---- */

static int views(const tsr_build *build, tsr_view_spec *specs, int max)
{
    const struct options *o = build->options;
    (void)max;
    specs[0] = (tsr_view_spec){.name = "global",
                               .size = (int)build->train->image_size,
                               .copies = 2,
                               .interpolation = TSR_RESAMPLE_BILINEAR,
                               .flip_p = 0.5,
                               .jitter_p = 0.8,
                               .brightness = 0.4 * o->jitter,
                               .contrast = 0.4 * o->jitter,
                               .saturation = 0.4 * o->jitter,
                               .hue = 0.1 * o->jitter,
                               .gray_p = 0.2,
                               .blur_p = 0.5,
                               .blur_lo = 0.1 * o->blur,
                               .blur_hi = 2.0 * o->blur};
    return tsr_recipe_set_scale(&specs[0], &o->scale) ? 1 : -1;
}

/* ---- networks: simsiam/builder.py, paper, section 3, "Baseline settings" ---- */

static struct simsiam *make_network(const tsr_build *build)
{
    static const char *const fc[] = {"projector.0", "projector.3", "projector.6"};
    static const char *const bn[] = {"projector.1", "projector.4", "projector.7"};
    const struct options *o = build->options;
    tsr_dtype t = build->dtype;
    tsr_train_backbone_options backbone = {.drop_path = o->drop_path, .dtype = t};
    struct simsiam *m = tsr_module_new(sizeof *m, "simsiam", t);
    if (m == NULL) return NULL;
    tsr_module *base = &m->module;
    m->backbone = tsr_module_child(base, "backbone", tsr_train_backbone(build->train, &backbone));
    if (m->backbone == NULL) return tsr_module_finish(base);
    for (int i = 0; i < 3; i++) {
        int64_t in = i == 0 ? m->backbone->dim : o->hidden, out = i == 2 ? o->out_dim : o->hidden;
        m->projector[i] = tsr_module_child(base, fc[i], tsr_linear_new(in, out, false, t));
        m->projector_norm[i] =
            tsr_module_child(base, bn[i], tsr_norm_new(TSR_NORM_BATCH, out, 1e-5, t));
    }
    m->predictor[0] = tsr_module_child(base, "predictor.0",
                                       tsr_linear_new(o->out_dim, o->predictor_hidden, false, t));
    m->predictor_norm = tsr_module_child(
        base, "predictor.1", tsr_norm_new(TSR_NORM_BATCH, o->predictor_hidden, 1e-5, t));
    m->predictor[1] = tsr_module_child(base, "predictor.3",
                                       tsr_linear_new(o->predictor_hidden, o->out_dim, true, t));
    /* The last batch norm of the projector has no scale and shift to learn. */
    if (m->projector_norm[2] != NULL) tsr_module_freeze(&m->projector_norm[2]->module);
    return tsr_module_finish(base);
}

static tsr_status build(const tsr_build *b, tsr_networks *n)
{
    struct simsiam *m = make_network(b);
    if (m == NULL) return tsr_status_get();
    *n = (tsr_networks){.student = &m->module, .feature = "student.backbone", .self = m};
    return tsr_module_initialize(&m->module, b->seed);
}

/* ---- the loss: paper, section 3 ---- */

/* z = f(x) of the backbone's features [B, D]: [B, K]. */
static tsr_tensor *project(const struct simsiam *m, tsr_tensor *x)
{
    tsr_scope scope = tsr_module_enter(&m->module);
    for (int i = 0; i < 3; i++) {
        x = tsr_norm_forward(m->projector_norm[i], tsr_linear_forward(m->projector[i], x));
        if (i < 2) x = tsr_relu(x);
    }
    return tsr_module_leave(&scope, x);
}

/* p = h(z), [B, K]. */
static tsr_tensor *predict(const struct simsiam *m, tsr_tensor *z)
{
    tsr_scope scope = tsr_module_enter(&m->module);
    z = tsr_relu(tsr_norm_forward(m->predictor_norm, tsr_linear_forward(m->predictor[0], z)));
    return tsr_module_leave(&scope, tsr_linear_forward(m->predictor[1], z));
}

/* Equation 1, with the stop-gradient of equation 3: D(p, stopgrad(z)), negative cosine, averaged over the batch. */
static tsr_tensor *distance(tsr_tensor *p, tsr_tensor *z)
{
    p = tsr_l2_normalize(p, -1, 1e-8);
    z = tsr_l2_normalize(tsr_detach(z), -1, 1e-8);
    return tsr_neg(tsr_mean(tsr_sum(tsr_mul(p, z), (const int[]){-1}, 1, false), NULL, 0, false));
}

/* Equation 4: L = D(p1, stopgrad(z2)) / 2 + D(p2, stopgrad(z1)) / 2. */
static tsr_tensor *symmetric(const struct simsiam *m, tsr_tensor *const z[2])
{
    tsr_tensor *d1 = distance(predict(m, z[0]), z[1]);
    tsr_tensor *d2 = distance(predict(m, z[1]), z[0]);
    return tsr_affine(tsr_add(d1, d2), 0.5, 0.0);
}

/* The backbone's features of both views, [2 B, D], view by view; batch norm comes after them. */
static tsr_tensor *embed(const tsr_networks *n, tsr_step *step)
{
    const struct simsiam *m = n->self;
    tsr_backbone_options options = {.rng = tsr_step_rng(step)};
    return tsr_backbone_rows(m->backbone, tsr_step_input(step, "global"), NULL, &options);
}

static tsr_tensor *loss(const tsr_networks *n, tsr_step *step)
{
    const struct simsiam *m = n->self;
    tsr_tensor *x[2], *z[2];
    tsr_split(tsr_step_input(step, "embed"), 0, 2, x);
    for (int v = 0; v < 2; v++) z[v] = project(m, x[v]);
    tsr_tensor *value = symmetric(m, z);
    tsr_step_log(step, "distance", value);
    tsr_monitor *monitor = tsr_step_monitor(step);
    if (monitor != NULL) tsr_monitor_features(monitor, z[0]);
    return value;
}

const tsr_recipe tsr_recipe__simsiam = {
    .name = "simsiam",
    .title = "two views of an image predict each other's projection, with a stop-gradient",
    .paper = "Chen and He, Exploring Simple Siamese Representation Learning, CVPR 2021, arXiv "
             "2011.10566",
    .options = option_table,
    .n_options = sizeof option_table / sizeof option_table[0],
    .options_size = sizeof(struct options),
    .defaults = defaults,
    .n_defaults = sizeof defaults / sizeof defaults[0],
    .presets = presets,
    .n_presets = sizeof presets / sizeof presets[0],
    .views = views,
    .build = build,
    .embed = embed,
    .loss = loss,
};
