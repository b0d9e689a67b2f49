/* The kinds of tokens; see the header. */
#include "recipes/tokenizer.h"

#include "ops/ops.h"
#include "recipes/dvae.h"
#include "recipes/kmeans.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct tsr_tokenizer {
    tsr_tokenizer_options o;
    int64_t side, tokens;
    tsr_module *state;
    /* What of it a kind has. */
    tsr_tensor *mean, *whitening, *centers;
    tsr_dvae_encoder *encoder;
    tsr_multi_crop *teacher;
};

/* ---- checkpoints ---- */

static tsr_checkpoint *open_checkpoint(const tsr_tokenizer_options *o)
{
    char path[TSR_CHECKPOINT_PATH];
    bool dvae = o->kind == TSR_TOKENIZER_DVAE;
    if (o->checkpoint[0] == '\0') {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "--tokenizer %s wants --tokenizer-checkpoint: a checkpoint of %s",
                 dvae ? "dvae" : "prototypes", dvae ? "dvae" : "dino or ibot");
        return NULL;
    }
    return tsr_checkpoint_open_run(o->checkpoint, path);
}

/* Says of whatever was wrong with the checkpoint which one it was. */
static void blame_checkpoint(const tsr_tokenizer_options *o)
{
    tsr_status status = tsr_status_get();
    char text[400];
    if (status == TSR_STATUS_OK || strstr(tsr_message(), o->checkpoint) != NULL) return;
    snprintf(text, sizeof text, "%.390s", tsr_message());
    tsr_status_clear();
    tsr_fail(status, "--tokenizer-checkpoint %.300s: %s", o->checkpoint, text);
}

/* ---- k-means ---- */

static tsr_module *kmeans_new(const tsr_build *build, tsr_tokenizer *t)
{
    int64_t p = build->train->image_size / t->side, d = 3 * p * p;
    tsr_module *m = tsr_module_new(sizeof *m, "kmeans", build->dtype);
    if (m == NULL) return NULL;
    t->mean = tsr_module_buffer(m, "mean", build->dtype, TSR_SHAPE(d), 0.0);
    t->whitening = tsr_module_buffer(m, "whitening", build->dtype, TSR_SHAPE(d, d), 0.0);
    t->centers = tsr_module_buffer(m, "centers", build->dtype, TSR_SHAPE(t->tokens, d), 0.0);
    return tsr_module_finish(m);
}

/* Images [B, 3, S, S] -> their patches' pixels [B N, 3 p p]. */
static tsr_tensor *patches_of(tsr_tensor *images, int64_t side)
{
    int64_t p = tsr_tensor_size(images, 2) / side;
    tsr_tensor *x = tsr_unfold(images, p, p, &(tsr_conv_options){.stride = {p, p}});
    return tsr_flatten(tsr_permute(x, (const int[]){0, 2, 1}), 0, 1);
}

/* The patches of the images that a run begins with, cropped as it will see them. */
struct images {
    tsr_dataset *data;
    const tsr_view_spec *view;
    const tsr_build *build;
    int64_t side, limit;
};

static tsr_status walk(const tsr_kmeans_source *source, tsr_kmeans_visit *visit, void *user)
{
    const struct images *from = source->user;
    tsr_views views = {from->view, 1};
    tsr_loader_options o = {.batch = 32,
                            .seed = from->build->seed,
                            .keep_last = true,
                            .end_epoch = 1,
                            .min_short_side = tsr_views_min_short_side(&views)};
    tsr_loader *loader = tsr_loader_open_views(from->data, &views, &o);
    const tsr_batch *batch;
    int64_t left = from->limit;
    while (loader != NULL && left > 0 && (batch = tsr_loader_next(loader)) != NULL) {
        tsr_scope scope = tsr_scope_open();
        int64_t n = batch->n < left ? batch->n : left;
        tsr_tensor *images = tsr_slice(tsr_batch_tensor(batch, from->view->name), 0, 0, n, 1);
        tsr_tensor *rows = patches_of(images, from->side);
        if (rows != NULL) visit(rows, user);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        if (tsr_status_get() != TSR_STATUS_OK) break;
        left -= n;
    }
    tsr_loader_close(&loader);
    return tsr_status_get();
}

static tsr_tensor *kmeans_encode(const tsr_tokenizer *t, tsr_tensor *images)
{
    tsr_tensor *x = tsr_kmeans__whiten(patches_of(images, t->side), t->mean, t->whitening);
    return tsr_kmeans__assign(x, t->centers);
}

/* ---- dVAE ---- */

static tsr_module *dvae_new(tsr_tokenizer *t, tsr_checkpoint *c)
{
    tsr_dvae_config config;
    if (tsr_dvae__config_of(c, &config) != TSR_STATUS_OK) return NULL;
    t->tokens = config.tokens;
    t->encoder = tsr_dvae__encoder_new(&config);
    return t->encoder != NULL ? &t->encoder->module : NULL;
}

static tsr_tensor *dvae_encode(const tsr_tokenizer *t, tsr_tensor *images)
{
    tsr_tensor *logits = tsr_dvae__encode(t->encoder, tsr_cast(images, TSR_DTYPE_F32));
    return tsr_argmax(logits, 1, false);
}

/* ---- prototypes ---- */

static bool head_shape(const tsr_checkpoint *c, const char *name, tsr_shape *shape)
{
    char full[128];
    snprintf(full, sizeof full, "teacher/head.%s", name);
    const tsr_checkpoint_entry *entry = tsr_checkpoint_find(c, full);
    if (entry == NULL || entry->shape.ndim != 2) return false;
    *shape = entry->shape;
    return true;
}

static tsr_module *prototypes_new(tsr_tokenizer *t, tsr_checkpoint *c)
{
    tsr_train_options train;
    tsr_shape hidden, last, patch;
    if (!head_shape(c, "mlp.0.weight", &hidden) || !head_shape(c, "last_layer.weight_v", &last)) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "the checkpoint has no teacher/head with prototypes, as dino's and ibot's have");
        return NULL;
    }
    if (tsr_backbone_train_options(c, &train) != TSR_STATUS_OK) return NULL;
    /* A layer that both kinds of tokens share is in the file under both names. */
    bool has_patch = head_shape(c, "last_layer2.weight_v", &patch);
    tsr_head_config head = {.dim = hidden.size[1],
                            .hidden = hidden.size[0],
                            .bottleneck = last.size[1],
                            .out_dim = last.size[0],
                            .patch_out_dim = has_patch ? patch.size[0] : 0,
                            .patch_layer =
                                has_patch ? TSR_PATCH_LAYER_SEPARATE : TSR_PATCH_LAYER_NONE};
    tsr_backbone *backbone = tsr_train_backbone_of_checkpoint(&train, c, "teacher/backbone.");
    if (backbone == NULL) return NULL;
    t->tokens = has_patch ? head.patch_out_dim : head.out_dim;
    t->teacher = tsr_multi_crop_new(backbone, tsr_head_new(&head));
    return t->teacher != NULL ? &t->teacher->module : NULL;
}

static tsr_tensor *prototypes_encode(const tsr_tokenizer *t, tsr_tensor *images)
{
    const tsr_head *head = t->teacher->head;
    tsr_tensor *x = tsr_cast(images, TSR_DTYPE_F32);
    x = tsr_tokens_patches(tsr_backbone_forward(t->teacher->backbone, x, NULL));
    x = tsr_head_project(head, x);
    x = head->last_layer2 != NULL ? tsr_head_patch_logits(head, x) : tsr_head_class_logits(head, x);
    return tsr_argmax(x, -1, false);
}

/* ---- colours ---- */

enum { COLORS = 512 };

/* Dosovitskiy et al. 2021, appendix B.1.2: the mean of a patch's bytes in each channel, its highest 3 bits. */
static tsr_tensor *color_encode(const tsr_tokenizer *t, tsr_tensor *images)
{
    tsr_tensor *bytes = tsr_cast(tsr_affine(images, 255.0, 0.0), TSR_DTYPE_I32);
    tsr_tensor *rows = tsr_tensor_packed(patches_of(tsr_cast(bytes, TSR_DTYPE_F32), t->side));
    int64_t n = tsr_tensor_size(rows, 0), cells = tsr_tensor_size(rows, 1) / 3;
    tsr_tensor *tokens = tsr_empty(TSR_DTYPE_I64, TSR_SHAPE(n));
    const float *at = tsr_tensor_data(rows);
    int64_t *out = tsr_tensor_data_mut(tokens);
    for (int64_t i = 0; at != NULL && out != NULL && i < n; i++) {
        out[i] = 0;
        for (int64_t c = 0; c < 3; c++) {
            int64_t sum = 0;
            for (int64_t k = 0; k < cells; k++) sum += (int64_t)at[(3 * i + c) * cells + k];
            out[i] = out[i] * 8 + sum * 8 / (256 * cells);
        }
    }
    return tokens;
}

/* ---- all of them ---- */

tsr_status tsr_tokenizer__view(const tsr_tokenizer_options *o, int64_t side, tsr_view_spec *view)
{
    for (int c = 0; c < 3; c++) { /* pixels in 0 .. 1 */
        view->mean[c] = 0.0f;
        view->std[c] = 1.0f;
    }
    if (o->kind == TSR_TOKENIZER_KMEANS || o->kind == TSR_TOKENIZER_COLOR) return TSR_STATUS_OK;
    tsr_checkpoint *c = open_checkpoint(o);
    if (c != NULL && o->kind == TSR_TOKENIZER_DVAE) {
        tsr_dvae_config config;
        if (tsr_dvae__config_of(c, &config) == TSR_STATUS_OK) {
            view->size = (int)(side * tsr_dvae__token_size(&config));
            view->interpolation = TSR_RESAMPLE_LANCZOS;
        }
    } else if (c != NULL) {
        tsr_train_options train;
        if (tsr_backbone_train_options(c, &train) == TSR_STATUS_OK) {
            view->size = (int)(side * tsr_train_token_size(&train));
            for (int k = 0; k < 3; k++) view->std[k] = 0.0f; /* ImageNet's, as in its own run */
        }
    }
    tsr_checkpoint_close(&c);
    blame_checkpoint(o);
    return tsr_status_get();
}

tsr_tokenizer *tsr_tokenizer__new(const tsr_build *build, const tsr_tokenizer_options *o,
                                  int64_t side)
{
    tsr_tokenizer *t = tsr_alloc(sizeof *t);
    if (t == NULL) return NULL;
    *t = (tsr_tokenizer){.o = *o, .side = side, .tokens = o->tokens};
    if (o->kind == TSR_TOKENIZER_KMEANS) {
        t->state = kmeans_new(build, t);
    } else if (o->kind == TSR_TOKENIZER_COLOR) {
        t->tokens = COLORS;
    } else {
        bool dvae = o->kind == TSR_TOKENIZER_DVAE;
        tsr_checkpoint *c = open_checkpoint(o);
        if (c != NULL) t->state = dvae ? dvae_new(t, c) : prototypes_new(t, c);
        if (t->state != NULL) {
            tsr_module_load(c, dvae ? "teacher/encoder." : "teacher/", t->state);
            tsr_module_train(t->state, false);
            tsr_module_freeze(t->state);
        }
        tsr_checkpoint_close(&c);
        blame_checkpoint(o);
    }
    if (tsr_status_get() != TSR_STATUS_OK) {
        tsr_module_free(&t->state);
        tsr_tokenizer__free(&t);
    }
    return t;
}

void tsr_tokenizer__free(tsr_tokenizer **t)
{
    tsr_free(*t);
    *t = NULL;
}

int64_t tsr_tokenizer__tokens(const tsr_tokenizer *t)
{
    return t->tokens;
}

tsr_module *tsr_tokenizer__state(const tsr_tokenizer *t)
{
    return t->state;
}

tsr_status tsr_tokenizer__train(const tsr_tokenizer *t, const tsr_build *build,
                                const tsr_view_spec *view, tsr_dataset *images)
{
    if (t->o.kind != TSR_TOKENIZER_KMEANS) return TSR_STATUS_OK;
    int64_t limit = t->o.images, all = tsr_dataset_count(images);
    struct images from = {.data = images,
                          .view = view,
                          .build = build,
                          .side = t->side,
                          .limit = limit > 0 && limit < all ? limit : all};
    tsr_kmeans_source source = {walk, &from};
    tsr_kmeans_options o = {
        .iterations = t->o.iterations, .whitening = t->o.whitening, .seed = build->seed};
    return tsr_kmeans__train(&source, &o, t->mean, t->whitening, t->centers);
}

/* Some of the images: I64 [their patches]. */
static tsr_tensor *encode_some(const tsr_tokenizer *t, tsr_tensor *images)
{
    switch (t->o.kind) {
    case TSR_TOKENIZER_KMEANS:
        return kmeans_encode(t, images);
    case TSR_TOKENIZER_DVAE:
        return dvae_encode(t, images);
    case TSR_TOKENIZER_PROTOTYPES:
        return prototypes_encode(t, images);
    default:
        return color_encode(t, images);
    }
}

tsr_tensor *tsr_tokenizer__encode(const tsr_tokenizer *t, tsr_tensor *images)
{
    enum { SCORES = 1 << 23 }; /* of all tokens, in memory at once */
    bool was = tsr_recording_set(false);
    tsr_scope scope = tsr_scope_open();
    int64_t batch = tsr_tensor_size(images, 0), n = t->side * t->side;
    int64_t some = SCORES / (n * t->tokens) > 0 ? SCORES / (n * t->tokens) : 1;
    tsr_tensor *tokens = tsr_empty(TSR_DTYPE_I64, TSR_SHAPE(batch, n));
    for (int64_t b = 0; b < batch && tsr_status_get() == TSR_STATUS_OK; b += some) {
        tsr_scope inner = tsr_scope_open();
        int64_t end = b + some < batch ? b + some : batch;
        tsr_tensor *x = encode_some(t, tsr_slice(images, 0, b, end, 1));
        tsr_tensor *rows = tsr_slice(tokens, 0, b, end, 1);
        x = tsr_reshape(x, TSR_SHAPE(end - b, n));
        if (x != NULL && rows != NULL) tsr_tensor_copy(rows, x);
        tsr_scope_close(&inner, TSR_NO_TENSORS);
    }
    tsr_recording_set(was);
    return tsr_scope_return(&scope, tsr_status_get() == TSR_STATUS_OK ? tokens : NULL);
}
