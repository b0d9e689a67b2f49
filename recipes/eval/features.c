/* Backbones of checkpoints, and the features that they give. */
#include "recipes/eval/features.h"

#include "ops/ops.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- checkpoints ---- */

tsr_checkpoint *tsr_checkpoint_open_run(const char *file_or_directory,
                                        char path[TSR_CHECKPOINT_PATH])
{
    struct stat s;
    if (stat(file_or_directory, &s) == 0 && S_ISDIR(s.st_mode)) {
        int64_t step;
        if (tsr_checkpoint_latest(file_or_directory, &step) != TSR_STATUS_OK) return NULL;
        if (step < 0) {
            tsr_fail(TSR_STATUS_ARGUMENT,
                     "%s: no checkpoint in this directory; give a checkpoint or the --out "
                     "of a run",
                     file_or_directory);
            return NULL;
        }
        if (tsr_checkpoint_path(file_or_directory, step, path) == NULL) return NULL;
    } else if (snprintf(path, TSR_CHECKPOINT_PATH, "%s", file_or_directory) >=
               TSR_CHECKPOINT_PATH) {
        tsr_fail(TSR_STATUS_ARGUMENT, "checkpoint: the path is longer than %d bytes",
                 TSR_CHECKPOINT_PATH - 1);
        return NULL;
    }
    return tsr_checkpoint_open(path);
}

tsr_status tsr_backbone_train_options(const tsr_checkpoint *c, tsr_train_options *options)
{
    int n;
    const tsr_option *table = tsr_train_option_table(&n);
    tsr_train_options read;
    if (tsr_options_default(table, n, &read) != TSR_STATUS_OK) return tsr_status_get();
    if (tsr_checkpoint_value_find(c, "option.model") == NULL) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "the checkpoint records no options of a training run "
                        "(option.model is missing), so its network is not known");
    }
    for (int i = 0; i < n; i++) {
        char key[96];
        const char *text;
        snprintf(key, sizeof key, "option.%s", table[i].name);
        if (tsr_checkpoint_value_find(c, key) == NULL)
            continue; /* it is newer than the checkpoint */
        if (tsr_checkpoint_get_string(c, key, &text) != TSR_STATUS_OK ||
            tsr_option_set(&table[i], &read, text) != TSR_STATUS_OK) {
            return tsr_status_get();
        }
    }
    *options = read;
    return TSR_STATUS_OK;
}

/* "teacher.backbone" -> "teacher/backbone.", or with other weights "student/backbone." */
tsr_status tsr_backbone_prefix(const tsr_checkpoint *c, const char *weights,
                               char prefix[TSR_BACKBONE_PREFIX])
{
    const char *feature;
    if (tsr_checkpoint_get_string(c, "feature", &feature) != TSR_STATUS_OK) return tsr_status_get();
    const char *dot = strchr(feature, '.');
    if (dot == NULL || strlen(feature) > 100) {
        return tsr_fail(TSR_STATUS_FORMAT,
                        "the checkpoint's value \"feature\" is \"%.60s\", expected "
                        "\"network.part\"",
                        feature);
    }
    int length = weights != NULL ? (int)strlen(weights) : (int)(dot - feature);
    snprintf(prefix, TSR_BACKBONE_PREFIX, "%.*s/%s.", length > 20 ? 20 : length,
             weights != NULL ? weights : feature, dot + 1);
    return TSR_STATUS_OK;
}

tsr_status tsr_module_load(tsr_checkpoint *c, const char *prefix, tsr_module *m)
{
    tsr_module_list *state = tsr_module_state(m);
    if (state == NULL) return tsr_status_get();
    tsr_named_tensor *named = tsr_alloc((size_t)state->n * sizeof *named);
    for (int64_t k = 0; named != NULL && k < state->n; k++) {
        named[k] = (tsr_named_tensor){state->at[k].name, state->at[k].tensor};
    }
    if (named != NULL) tsr_checkpoint_load(c, prefix, named, state->n);
    tsr_free(named);
    tsr_module_list_free(&state);
    return tsr_status_get();
}

tsr_backbone *tsr_backbone_load(tsr_checkpoint *c, const char *weights)
{
    tsr_train_options train;
    char prefix[TSR_BACKBONE_PREFIX];
    if (tsr_backbone_train_options(c, &train) != TSR_STATUS_OK ||
        tsr_backbone_prefix(c, weights, prefix) != TSR_STATUS_OK) {
        return NULL;
    }
    tsr_backbone *m = tsr_train_backbone_of_checkpoint(&train, c, prefix);
    if (m == NULL) return NULL;
    if (tsr_module_load(c, prefix, &m->module) != TSR_STATUS_OK) tsr_module_free(&m);
    if (m == NULL) return NULL;
    tsr_module_train(&m->module, false);
    tsr_module_freeze(&m->module);
    return m;
}

/* ---- a backbone for another network ---- */

static tsr_tensor *find_state(const tsr_module_list *list, const char *prefix, const char *name)
{
    size_t length = strlen(prefix);
    for (int64_t i = 0; i < list->n; i++) {
        const char *n = list->at[i].name;
        if (strncmp(n, prefix, length) == 0 && strcmp(n + length, name) == 0)
            return list->at[i].tensor;
    }
    return NULL;
}

/* Of the square grid of a position embedding [1, 1 + N, D]. */
static int64_t side(tsr_shape position)
{
    int64_t n = 0;
    while (n * n < position.size[1] - 1) n++;
    return n;
}

static bool ends_with(const char *text, const char *tail)
{
    size_t a = strlen(text), b = strlen(tail);
    return a >= b && strcmp(text + a - b, tail) == 0;
}

/* from in the shape of to: positions are resized. NULL: they do not fit. */
static tsr_tensor *fit(const char *name, tsr_tensor *to, tsr_tensor *from)
{
    tsr_shape a = tsr_tensor_shape(to), b = tsr_tensor_shape(from);
    if (tsr_shape_equal(a, b)) return from;
    if (ends_with(name, "relative_position_index")) return to; /* follows from the grid */
    if (ends_with(name, "relative_position_bias_table"))
        return tsr_relative_position_resize(tsr_detach(from), a);
    if (strcmp(name, "pos_embed") != 0 || a.ndim != 3 || b.ndim != 3 || a.size[2] != b.size[2])
        return NULL;
    return tsr_vit_resize_position(tsr_detach(from), side(b), side(a), side(a),
                                   TSR_POSITION_OFFSET);
}

static tsr_status refuse_adoption(const char *name, const tsr_tensor *to, const tsr_tensor *from)
{
    char a[TSR_SHAPE_TEXT], b[TSR_SHAPE_TEXT];
    if (to == NULL || from == NULL) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "the checkpoint's backbone %s %s, this run's %s",
                        from != NULL ? "has" : "lacks", name, to != NULL ? "has it" : "does not");
    }
    return tsr_fail(TSR_STATUS_ARGUMENT,
                    "the checkpoint's backbone has %s %s, this run's %s: give the options of its "
                    "shape, --model and the like",
                    name, tsr_shape_text(tsr_tensor_shape(from), b),
                    tsr_shape_text(tsr_tensor_shape(to), a));
}

static const char backbone_prefix[] = "backbone.";
enum { PREFIX = sizeof backbone_prefix - 1 };

static tsr_status copy_backbone(const tsr_module_list *to, const tsr_module_list *from)
{
    int64_t found = 0;
    for (int64_t i = 0; i < to->n; i++) {
        found += strncmp(to->at[i].name, backbone_prefix, PREFIX) == 0;
    }
    if (found == 0) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "this recipe has no backbone that takes weights");
    }
    for (int64_t i = 0; i < from->n; i++) {
        const char *name = from->at[i].name;
        if (find_state(to, backbone_prefix, name) == NULL && strcmp(name, "masked_embed") != 0)
            return refuse_adoption(name, NULL, from->at[i].tensor);
    }
    for (int copying = 0; copying < 2; copying++) {
        for (int64_t i = 0; i < to->n; i++) {
            const char *name = to->at[i].name;
            if (strncmp(name, backbone_prefix, PREFIX) != 0) continue;
            name += PREFIX;
            tsr_tensor *source = find_state(from, "", name);
            if (source == NULL && strcmp(name, "masked_embed") == 0) continue;
            tsr_tensor *t = source != NULL ? fit(name, to->at[i].tensor, source) : NULL;
            if (t == NULL) return refuse_adoption(name, to->at[i].tensor, source);
            if (copying) tsr_tensor_copy(tsr_detach(to->at[i].tensor), t);
        }
    }
    return tsr_status_get();
}

/* Heads are in no shape. */
static tsr_status check_heads(const tsr_checkpoint *c, const tsr_train_options *train)
{
    tsr_train_options theirs;
    tsr_vit_config a, b;
    if (tsr_backbone_train_options(c, &theirs) != TSR_STATUS_OK) return tsr_status_get();
    /* Those of a swin are in the shapes of its tables. */
    if (tsr_train_is_swin(&theirs) || tsr_train_is_swin(train)) return TSR_STATUS_OK;
    if (tsr_train_vit_config(&theirs, &a) != TSR_STATUS_OK ||
        tsr_train_vit_config(train, &b) != TSR_STATUS_OK || a.heads == b.heads) {
        return tsr_status_get();
    }
    return tsr_fail(TSR_STATUS_ARGUMENT,
                    "the checkpoint's backbone has %" PRId64 " heads, this run's %" PRId64
                    ": give --heads %" PRId64,
                    a.heads, b.heads, a.heads);
}

tsr_status tsr_backbone_adopt(tsr_module *network, const tsr_train_options *train,
                              tsr_checkpoint *c, const char *weights)
{
    if (check_heads(c, train) != TSR_STATUS_OK) return tsr_status_get();
    tsr_backbone *backbone = tsr_backbone_load(c, weights);
    tsr_module_list *from = backbone != NULL ? tsr_module_state(&backbone->module) : NULL;
    tsr_module_list *to = tsr_module_state(network);
    tsr_scope scope = tsr_scope_open();
    bool was = tsr_recording_set(false);
    if (from != NULL && to != NULL) copy_backbone(to, from);
    tsr_recording_set(was);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    tsr_module_list_free(&to);
    tsr_module_list_free(&from);
    tsr_module_free(&backbone);
    return tsr_status_get();
}

tsr_backbone *tsr_backbone_untrained(const tsr_backbone *like, uint64_t seed)
{
    tsr_backbone *m = tsr_backbone_like(like);
    if (m == NULL) return NULL;
    if (tsr_module_initialize(&m->module, seed) != TSR_STATUS_OK) tsr_module_free(&m);
    if (m == NULL) return NULL;
    tsr_module_train(&m->module, false);
    tsr_module_freeze(&m->module);
    return m;
}

/* ---- a head, and its prototypes ---- */

/* The shape of a matrix of the checkpoint; all 0 where there is no such matrix. */
static tsr_shape matrix(const tsr_checkpoint *c, const char *prefix, const char *name)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const tsr_checkpoint_entry *e = tsr_checkpoint_find(c, full);
    return e != NULL && e->shape.ndim == 2 ? e->shape : TSR_SHAPE(0, 0);
}

static bool has(const tsr_checkpoint *c, const char *prefix, const char *name)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    return tsr_checkpoint_find(c, full) != NULL;
}

/* What the shapes in the file say of a head; loading compares all of them. */
static tsr_head_config head_of(const tsr_checkpoint *c, const char *prefix)
{
    bool normed = has(c, prefix, "mlp.1.weight"), single = has(c, prefix, "mlp.weight");
    tsr_shape first = matrix(c, prefix, single ? "mlp.weight" : "mlp.0.weight");
    tsr_shape last = matrix(c, prefix, "last_layer.weight_v");
    tsr_shape patch = matrix(c, prefix, "last_layer2.weight_v");
    tsr_head_config config = {.dim = first.size[1],
                              .hidden = first.size[0],
                              .out_dim = last.size[0],
                              .bottleneck = last.size[1],
                              .patch_out_dim = patch.size[0],
                              .layers = single ? 1 : 0,
                              .patch_layer = TSR_PATCH_LAYER_SEPARATE};
    if (normed) {
        config.norm = has(c, prefix, "mlp.1.running_mean") ? TSR_NORM_BATCH : TSR_NORM_LAYER;
    }
    if (patch.size[0] == 0) config.patch_layer = TSR_PATCH_LAYER_NONE;
    while (!single) {
        char name[64];
        snprintf(name, sizeof name, "mlp.%" PRId64 ".weight", (normed ? 3 : 2) * config.layers);
        if (matrix(c, prefix, name).size[0] == 0) break;
        config.layers++;
    }
    return config;
}

tsr_head *tsr_head_load(tsr_checkpoint *c, const char *weights)
{
    char prefix[TSR_BACKBONE_PREFIX];
    if (tsr_backbone_prefix(c, weights, prefix) != TSR_STATUS_OK) return NULL;
    char *slash = strchr(prefix, '/');
    snprintf(slash, sizeof prefix - (size_t)(slash - prefix), "/head.");
    tsr_head_config config = head_of(c, prefix);
    if (config.layers == 0 || config.out_dim == 0) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "the checkpoint has no head with prototypes (%slast_layer.weight_v): recipes ibot "
                 "and dino make one",
                 prefix);
        return NULL;
    }
    tsr_head *m = tsr_head_new(&config);
    if (m == NULL) return NULL;
    if (tsr_module_load(c, prefix, &m->module) != TSR_STATUS_OK) tsr_module_free(&m);
    if (m == NULL) return NULL;
    tsr_module_train(&m->module, false);
    tsr_module_freeze(&m->module);
    return m;
}

tsr_tensor *tsr_head_assign(const tsr_head *m, tsr_tensor *x)
{
    enum { ROWS = 1024 };
    int64_t n = tsr_tensor_size(x, 0);
    tsr_tensor *assigned = tsr_empty(TSR_DTYPE_I64, TSR_SHAPE(n));
    bool was = tsr_recording_set(false);
    for (int64_t at = 0; at < n && assigned != NULL; at += ROWS) {
        int64_t end = at + ROWS < n ? at + ROWS : n;
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *z = tsr_head_project(m, tsr_slice(x, 0, at, end, 1));
        tsr_tensor *largest = tsr_argmax(tsr_head_class_logits(m, z), -1, false);
        tsr_tensor *rows = tsr_slice(assigned, 0, at, end, 1);
        if (largest != NULL && rows != NULL) tsr_tensor_copy(rows, largest);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        if (tsr_status_get() != TSR_STATUS_OK) assigned = NULL;
    }
    tsr_recording_set(was);
    return assigned;
}

/* ---- a few images of a data set, spread evenly over it ---- */

static tsr_dataset *take_part(tsr_dataset *whole, int64_t n)
{
    int64_t count = tsr_dataset_count(whole), *places = tsr_alloc((size_t)n * sizeof *places);
    if (places == NULL) return NULL;
    /* floor(i count / n) without overflow */
    for (int64_t i = 0; i < n; i++) places[i] = i * (count / n) + i * (count % n) / n;
    tsr_dataset *part = tsr_dataset_subset(whole, places, n);
    tsr_free(places);
    return part;
}

/* ---- features ---- */

static int blocks_of(const tsr_extract_options *o)
{
    return o->last_blocks > 0 ? o->last_blocks : 1;
}

static int64_t feature_size(const tsr_backbone *m, const tsr_extract_options *o)
{
    if (m == NULL) return (o->grey ? 1 : 3) * (int64_t)o->size * o->size;
    int64_t size = o->pooling != TSR_POOLING_CLASS ? m->dim : 0;
    if (o->pooling == TSR_POOLING_MEAN) return size;
    for (int i = 1; i <= blocks_of(o); i++) {
        size += tsr_backbone_grid(m, m->depth - i, m->image_size, m->image_size).dim;
    }
    return size;
}

enum { MAX_BLOCKS = 256 };

/* images [B, 3, S, S] -> [B, F] */
static tsr_tensor *features_of(const tsr_backbone *m, tsr_tensor *images,
                               const tsr_extract_options *o)
{
    if (m == NULL) return tsr_flatten(tsr_slice(images, 1, 0, o->grey ? 1 : 3, 1), 1, 3);
    int n = o->pooling != TSR_POOLING_MEAN ? blocks_of(o) : 1;
    if (o->pooling == TSR_POOLING_CLASS && n == 1 && m->class_token) {
        return tsr_backbone_rows(m, images, NULL, NULL);
    }
    tsr_tensor *tokens[MAX_BLOCKS], *parts[MAX_BLOCKS + 1];
    tsr_backbone_options options = {.no_norm = o->pooling == TSR_POOLING_MEAN};
    if (tsr_backbone_intermediate(m, images, n, &options, tokens) != TSR_STATUS_OK) return NULL;
    tsr_tensor *mean = NULL;
    if (o->pooling != TSR_POOLING_CLASS) {
        mean = tsr_mean(tsr_tokens_patches(tokens[n - 1]), (const int[]){1}, 1, false);
    }
    if (o->pooling == TSR_POOLING_MEAN) return mean;
    for (int i = 0; i < n; i++) parts[i] = tsr_tokens_class(tokens[i]);
    if (mean != NULL) parts[n++] = mean;
    return tsr_concat((tsr_tensors){parts, n}, 1);
}

static tsr_status fill(const tsr_backbone *m, tsr_loader *loader, const tsr_extract_options *o,
                       tsr_features *out)
{
    int64_t n = tsr_tensor_size(out->x, 0), done = 0;
    while (done < n) {
        const tsr_batch *batch = tsr_loader_next(loader);
        if (batch == NULL) break;
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *x = features_of(m, tsr_batch_tensor(batch, "image"), o);
        tsr_tensor *rows = tsr_slice(out->x, 0, done, done + batch->n, 1);
        tsr_tensor *labels = tsr_slice(out->labels, 0, done, done + batch->n, 1);
        if (x != NULL && rows != NULL && labels != NULL) {
            tsr_tensor_copy(rows, x);
            tsr_tensor_copy(labels, tsr_batch_tensor(batch, "label"));
        }
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        if (tsr_status_get() != TSR_STATUS_OK) break;
        done += batch->n;
        if (o->progress != NULL) o->progress(done, n, o->user);
    }
    return tsr_status_get();
}

static tsr_status extract(const tsr_backbone *m, tsr_dataset *data, const tsr_extract_options *o,
                          int size, tsr_features *out)
{
    tsr_view_spec spec = o->augment ? tsr_view_linear(size) : tsr_view_eval(size);
    if (m == NULL) spec.std[0] = spec.std[1] = spec.std[2] = 1.0f; /* means stay 0 */
    tsr_views views = {&spec, 1};
    tsr_loader_options options = {.batch = o->batch > 0 ? o->batch : 64,
                                  .workers = o->workers,
                                  .seed = o->seed,
                                  .in_order = true,
                                  .keep_last = true,
                                  .epoch = o->epoch,
                                  .end_epoch = o->epoch + 1,
                                  .min_short_side = tsr_views_min_short_side(&views)};
    int64_t n = tsr_dataset_count(data);
    tsr_features made = {tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(n, feature_size(m, o))),
                         tsr_empty(TSR_DTYPE_I64, TSR_SHAPE(n))};
    if (made.x == NULL || made.labels == NULL) return tsr_status_get();
    tsr_loader *loader = tsr_loader_open_views(data, &views, &options);
    if (loader != NULL && fill(m, loader, o, &made) == TSR_STATUS_OK) *out = made;
    tsr_loader_close(&loader);
    return tsr_status_get();
}

tsr_status tsr_features_extract(const tsr_backbone *m, tsr_dataset *data,
                                const tsr_extract_options *options, tsr_features *out)
{
    tsr_extract_options o = *options;
    if (data == NULL || (m == NULL && o.size < 1)) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "features: no data set, or raw pixels of no size");
    }
    if (m != NULL &&
        (o.last_blocks < 0 || o.last_blocks > m->depth || o.last_blocks > MAX_BLOCKS)) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "--last-blocks: got %d, the network has %" PRId64 " blocks", o.last_blocks,
                        m->depth);
    }
    int size = o.size > 0 ? o.size : (int)m->image_size;
    bool whole = o.limit <= 0 || o.limit >= tsr_dataset_count(data);
    tsr_dataset *part = whole ? NULL : take_part(data, o.limit);
    if (!whole && part == NULL) return tsr_status_get();
    bool was = tsr_recording_set(false);
    extract(m, whole ? data : part, &o, size, out);
    tsr_recording_set(was);
    tsr_dataset_close(&part);
    return tsr_status_get();
}
