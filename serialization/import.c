/*
 * A vision transformer from named tensors: which map their names follow, what network they are of, each in its place.
 */
#include "serialization/serialization.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PREFIXES = 16,
    PREFIX_BYTES = 200,
    DEPTH_MAX = 1000,
    HIDDEN_MAX = 1 << 20,
    REGISTERS_MAX = 1024
};

/* ---- names ---- */

struct reader {
    tsr_weights *w;
    const tsr_name_map *map;
    const char *prefix;
    int64_t n;
    int64_t *order; /* of the file's tensors, by name */
    bool *used;
};

static bool begins_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static int compare(const void *a, const void *b, void *weights)
{
    return strcmp(tsr_weights_name(weights, *(const int64_t *)a),
                  tsr_weights_name(weights, *(const int64_t *)b));
}

/* The tensor of the file with this name under the prefix; -1: there is none. */
static int64_t find(const struct reader *r, const char *name)
{
    char full[PREFIX_BYTES + TSR_NAME_BYTES];
    snprintf(full, sizeof full, "%s%s", r->prefix, name);
    int64_t lo = 0, hi = r->n;
    while (lo < hi) {
        int64_t middle = lo + (hi - lo) / 2, i = r->order[middle];
        int c = strcmp(full, tsr_weights_name(r->w, i));
        if (c == 0) return i;
        if (c < 0) {
            hi = middle;
        } else {
            lo = middle + 1;
        }
    }
    return -1;
}

/* What stands in the file for part of a tensor of ours, or for all of it (part 0). */
struct source {
    int64_t at; /* -1: zeros */
    int part;
};

enum { PARTS = 3 };

/* The parts in the file of a tensor of ours: how many, 0 where it is not whole. */
static int find_parts(const struct reader *r, const char *ours, struct source parts[PARTS])
{
    char theirs[TSR_NAME_BYTES];
    const tsr_name_rule *rule;
    struct source of[PARTS];
    int wanted = 0, have = 0;
    for (int i = 0; i < PARTS; i++) of[i].part = 0;
    for (int k = 0; (rule = tsr_name_to_theirs(r->map, ours, k, theirs)) != NULL; k++) {
        int64_t at = rule->theirs != NULL ? find(r, theirs) : -1;
        if (rule->theirs != NULL && at < 0) continue;
        if (rule->part == 0) {
            parts[0] = (struct source){at, 0};
            return 1;
        }
        struct source *part = &of[rule->part - 1];
        if (part->part != 0 && at < 0) continue; /* zeros only where there is none */
        wanted = rule->of;
        have += part->part == 0;
        *part = (struct source){at, rule->part};
    }
    if (wanted == 0 || have < wanted || of[0].at < 0) return 0;
    memcpy(parts, of, sizeof of);
    return wanted;
}

static bool holds(const struct reader *r, const char *ours)
{
    struct source parts[PARTS];
    return find_parts(r, ours, parts) > 0;
}

/* The shape of all its parts together, as the first one's says; a scalar's where there is none. */
static tsr_shape shape_of(const struct reader *r, const char *ours)
{
    struct source parts[PARTS];
    int n = find_parts(r, ours, parts);
    if (n == 0) return TSR_SHAPE_SCALAR;
    tsr_shape shape = tsr_weights_shape(r->w, parts[0].at);
    if (n > 1 && shape.ndim > 0) shape.size[0] = shape.size[0] < INT32_MAX ? n * shape.size[0] : 0;
    return shape;
}

/* ---- which network of the file ---- */

struct candidate {
    char prefix[PREFIX_BYTES];
    const tsr_name_map *map;
    int64_t known; /* names that the map knows */
};

static int64_t count_known(tsr_weights *w, const tsr_name_map *map, const char *prefix)
{
    int64_t known = 0;
    char ours[TSR_NAME_BYTES];
    for (int64_t i = 0; i < tsr_weights_count(w); i++) {
        const char *name = tsr_weights_name(w, i);
        if (!begins_with(name, prefix)) continue;
        known += tsr_name_to_ours(map, name + strlen(prefix), ours) != NULL;
    }
    return known;
}

/* Prefixes are what stands before the patch embedding's name. Returns how many. */
static int find_candidates(tsr_weights *w, const tsr_name_map *only,
                           struct candidate found[PREFIXES])
{
    int n_maps, n = 0;
    const tsr_name_map *maps = tsr_name_maps(&n_maps);
    for (int m = 0; m < n_maps; m++) {
        if (only != NULL && only != &maps[m]) continue;
        char key[TSR_NAME_BYTES];
        tsr_name_to_theirs(&maps[m], "patch_embed.proj.weight", 0, key);
        for (int64_t i = 0; i < tsr_weights_count(w); i++) {
            const char *name = tsr_weights_name(w, i);
            size_t length = strlen(name), tail = strlen(key);
            if (length < tail || length - tail >= PREFIX_BYTES ||
                strcmp(name + length - tail, key) != 0)
                continue;
            length -= tail;
            if (length > 0 && name[length - 1] != '.' && name[length - 1] != '/') continue;
            char prefix[PREFIX_BYTES];
            snprintf(prefix, sizeof prefix, "%.*s", (int)length, name);
            int k = 0;
            while (k < n && strcmp(found[k].prefix, prefix) != 0) k++;
            if (k == PREFIXES) continue;
            int64_t known = count_known(w, &maps[m], prefix);
            if (k == n) {
                found[n++].known = -1;
                memcpy(found[k].prefix, prefix, sizeof prefix);
            }
            if (known > found[k].known) {
                found[k].map = &maps[m];
                found[k].known = known;
            }
        }
    }
    return n;
}

/* What tsr_vit cannot run, by parts of the file's names. */
static const struct {
    const char *part, *what;
} foreign[] = {
    {"relative_position", "relative position biases"},
    {"dist_token", "a distillation token"},
    {"distillation_token", "a distillation token"},
    {"mlp.fc1_g.", "gated MLPs with norms (EVA)"},
    {"pre_logits.", "a pre-logits layer"},
    {"norm_pre.", "a norm before its first block"},
    {"attn.q_norm.", "norms of queries and keys"},
    {"patch_embed.backbone.", "a convolutional stem"},
    {"attn.q_bias", "biases of queries and values alone"},
};

static tsr_status refuse_swin(tsr_weights *w)
{
    for (int64_t i = 0; i < tsr_weights_count(w); i++) {
        if (strstr(tsr_weights_name(w, i), "relative_position_bias_table") != NULL) {
            return tsr_fail(TSR_STATUS_ARGUMENT,
                            "import: '%s': a network with relative position biases, as Swin's, "
                            "which the vision transformers here do not have",
                            tsr_weights_name(w, i));
        }
    }
    return TSR_STATUS_OK;
}

static tsr_status fail_none(tsr_weights *w)
{
    const char *first = tsr_weights_name(w, 0);
    return tsr_fail(TSR_STATUS_ARGUMENT,
                    "import: no vision transformer in the file: of its %" PRId64
                    " tensors (the first is '%.100s') none is a patch embedding of a known name",
                    tsr_weights_count(w), first != NULL ? first : "");
}

static tsr_status choose(tsr_weights *w, const tsr_import_options *o, struct candidate *chosen)
{
    struct candidate *found = calloc(PREFIXES, sizeof *found);
    if (found == NULL) return tsr_fail(TSR_STATUS_MEMORY, "import: out of memory");
    int n = find_candidates(w, tsr_name_map_find(o->map), found), best = -1, teachers = 0;
    for (int k = 0; k < n; k++) {
        bool teacher = begins_with(found[k].prefix, "teacher");
        teachers += teacher;
        if (o->prefix != NULL ? strcmp(found[k].prefix, o->prefix) == 0 : teacher) best = k;
    }
    if (o->prefix == NULL && n == 1) best = 0;
    if (best >= 0 && (o->prefix != NULL || teachers < 2)) {
        *chosen = found[best];
    } else if (n == 0) {
        if (refuse_swin(w) == TSR_STATUS_OK) fail_none(w);
    } else {
        char list[600] = "";
        size_t used = 0;
        for (int k = 0; k < n && used < sizeof list - PREFIX_BYTES - 8; k++) {
            used += (size_t)snprintf(list + used, sizeof list - used, "%s'%s'", k > 0 ? ", " : "",
                                     found[k].prefix);
        }
        tsr_fail(TSR_STATUS_ARGUMENT,
                 o->prefix != NULL
                     ? "import: no network has this prefix; there are: %s"
                     : "import: the file has several networks; name one by its prefix: %s",
                 list);
    }
    free(found);
    return tsr_status_get();
}

/* ---- what network it is ---- */

static tsr_status refuse_foreign(const struct reader *r)
{
    for (size_t k = 0; k < sizeof foreign / sizeof *foreign; k++) {
        for (int64_t i = 0; i < r->n; i++) {
            const char *name = tsr_weights_name(r->w, i);
            if (!begins_with(name, r->prefix) ||
                strstr(name + strlen(r->prefix), foreign[k].part) == NULL) {
                continue;
            }
            return tsr_fail(TSR_STATUS_ARGUMENT,
                            "import: '%.200s': this network has %s, which the vision transformers "
                            "here do not have",
                            name, foreign[k].what);
        }
    }
    return TSR_STATUS_OK;
}

/* The side of a square; 0: it is none. */
static int64_t root(int64_t n)
{
    int64_t side = 0;
    while (side * side < n) side++;
    return side * side == n ? side : 0;
}

static tsr_status infer(const struct reader *r, const tsr_import_options *o, tsr_vit_config *c,
                        int64_t *grid)
{
    tsr_shape patch = shape_of(r, "patch_embed.proj.weight");
    tsr_shape position = shape_of(r, "pos_embed");
    char text[TSR_SHAPE_TEXT], text2[TSR_SHAPE_TEXT];
    if (patch.ndim != 4 || patch.size[1] != 3 || patch.size[2] != patch.size[3] ||
        patch.size[2] < 1 || patch.size[2] > 256 || patch.size[0] < 1 || patch.size[0] > 8192) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "import: the patch embedding has shape %s, expected [D, 3, P, P]: square "
                        "patches of pictures with three colours, D at most 8192",
                        tsr_shape_text(patch, text));
    }
    int64_t dim = patch.size[0], tokens = position.ndim == 3 ? position.size[1] : 0;
    *grid = tokens <= 1 + 256 * 256 ? root(tokens - 1) : 0;
    if (*grid == 0 && tokens <= 256 * 256) *grid = root(tokens); /* none for the class token */
    if (*grid < 1 || position.size[0] != 1 || position.size[2] != dim) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "import: the position embedding has shape %s, expected [1, 1 + N, %" PRId64
                        "] with a square number N of patches",
                        tsr_shape_text(position, text), dim);
    }
    int64_t heads = o->heads > 0 ? o->heads : dim / 64;
    if (heads < 1 || dim % heads != 0 || (o->heads == 0 && dim % 64 != 0)) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "import: how many heads a width of %" PRId64
                        " has is not known: give --heads, a divisor of it",
                        dim);
    }
    /* Gated MLPs may have other names, or (timm) the same and twice the rows. */
    bool named = holds(r, "blocks.0.mlp.fc1.weight");
    tsr_shape in = shape_of(r, named ? "blocks.0.mlp.fc1.weight" : "blocks.0.mlp.w12.weight");
    tsr_shape back = shape_of(r, named ? "blocks.0.mlp.fc2.weight" : "blocks.0.mlp.w3.weight");
    bool sound = in.ndim == 2 && in.size[0] >= 1 && in.size[0] <= HIDDEN_MAX && in.size[1] == dim &&
                 back.ndim == 2 && back.size[0] == dim && back.size[1] >= 1;
    bool gated = sound && in.size[0] == 2 * back.size[1] && holds(r, "blocks.0.mlp.w12.weight");
    if (!sound || (!gated && in.size[0] != back.size[1])) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "import: the first MLP has weights %s and %s, expected [H, %" PRId64
                        "] (gated: twice the H) and [%" PRId64 ", H]",
                        tsr_shape_text(in, text), tsr_shape_text(back, text2), dim, dim);
    }
    tsr_shape registers = shape_of(r, "register_tokens");
    if (registers.ndim > 0 && (registers.ndim != 3 || registers.size[1] < 1 ||
                               registers.size[1] > REGISTERS_MAX || registers.size[2] != dim)) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "import: the register tokens have shape %s, expected [1, 1 to %d, %" PRId64
                        "]",
                        tsr_shape_text(registers, text), REGISTERS_MAX, dim);
    }
    *c =
        (tsr_vit_config){.image_size = o->image_size > 0 ? o->image_size : *grid * patch.size[2],
                         .patch_size = patch.size[2],
                         .dim = dim,
                         .heads = heads,
                         .mlp_ratio = (double)back.size[1] / (double)dim,
                         .gated = gated,
                         .registers = registers.ndim > 0 ? registers.size[1] : 0,
                         .qkv_bias = holds(r, "blocks.0.attn.qkv.bias"),
                         .layer_scale = holds(r, "blocks.0.gamma_1") ? 1.0 : 0.0,
                         .mean_pooling = holds(r, "fc_norm.weight") && !holds(r, "norm.weight"),
                         .masked = holds(r, "masked_embed"),
                         .position = registers.ndim > 0 ? TSR_POSITION_ANTIALIAS : r->map->position,
                         .eps = r->map->eps};
    if (c->image_size / c->patch_size > 1024) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "import: more than 1024 patches in a row");
    }
    /* So that dim * mlp_ratio, cut to a whole number, is what it was made from. */
    while ((double)dim * c->mlp_ratio < (double)back.size[1])
        c->mlp_ratio = nextafter(c->mlp_ratio, INFINITY);
    for (char name[64]; c->depth < DEPTH_MAX; c->depth++) {
        snprintf(name, sizeof name, "blocks.%" PRId64 ".attn.proj.weight", c->depth);
        if (!holds(r, name)) break;
    }
    return TSR_STATUS_OK;
}

/* Memory is asked for only when the file holds at least a quarter of the network. */
static tsr_status check_amount(const struct reader *r, const tsr_vit_config *c)
{
    double have = 0.0, dim = (double)c->dim, side = (double)(c->image_size / c->patch_size);
    for (int64_t i = 0; i < r->n; i++) {
        if (!begins_with(tsr_weights_name(r->w, i), r->prefix)) continue;
        have += (double)tsr_shape_numel(tsr_weights_shape(r->w, i));
    }
    double wanted = (double)c->depth * dim * dim * (4.0 + (c->gated ? 3.0 : 2.0) * c->mlp_ratio) +
                    side * side * dim;
    if (wanted <= 4.0 * have + 1e7) return TSR_STATUS_OK;
    return tsr_fail(
        TSR_STATUS_ARGUMENT,
        "import: the file holds %.1f M of the %.1f M parameters that such a network has",
        have / 1e6, wanted / 1e6);
}

/* ---- filling it ---- */

/* Equal but for sizes of 1. */
static bool same_elements(tsr_shape a, tsr_shape b)
{
    int i = 0, k = 0;
    for (;;) {
        while (i < a.ndim && a.size[i] == 1) i++;
        while (k < b.ndim && b.size[k] == 1) k++;
        if (i == a.ndim || k == b.ndim) return i == a.ndim && k == b.ndim;
        if (a.size[i++] != b.size[k++]) return false;
    }
}

/* One tensor of the file in the shape that is wanted; NULL on failure. */
static tsr_tensor *read_part(const struct reader *r, int64_t at, tsr_shape wanted)
{
    tsr_shape shape = tsr_weights_shape(r->w, at);
    const char *name = tsr_weights_name(r->w, at);
    if (!same_elements(shape, wanted)) {
        char a[TSR_SHAPE_TEXT], b[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_ARGUMENT, "import: '%.200s' has shape %s, expected %s", name,
                 tsr_shape_text(shape, a), tsr_shape_text(wanted, b));
        return NULL;
    }
    tsr_tensor *t = tsr_weights_tensor(r->w, at);
    if (t == NULL) return NULL;
    if (!tsr_dtype_is_float(tsr_tensor_dtype(t))) {
        tsr_fail(TSR_STATUS_DTYPE, "import: '%.200s' is %s, expected floating point", name,
                 tsr_dtype_name(tsr_tensor_dtype(t)));
        return NULL;
    }
    return tsr_reshape(t, wanted);
}

/* A position embedding of grid x grid patches for the network's own size. */
static tsr_tensor *read_position(const struct reader *r, int64_t at, const tsr_vit_config *c,
                                 int64_t grid)
{
    int64_t tokens = tsr_weights_shape(r->w, at).size[1], side = c->image_size / c->patch_size;
    tsr_tensor *t = read_part(r, at, TSR_SHAPE(1, tokens, c->dim));
    if (t == NULL) return NULL;
    if (tokens == grid * grid) {
        tsr_tensor *none = tsr_zeros(tsr_tensor_dtype(t), TSR_SHAPE(1, 1, c->dim));
        t = tsr_concat(TSR_TENSORS(none, t), 1);
    }
    if (side != grid) t = tsr_cast(t, TSR_DTYPE_F32);
    return tsr_vit_resize_position(t, grid, side, side, c->position);
}

static void fill(struct reader *r, const tsr_vit_config *c, int64_t grid,
                 const tsr_module_entry *entry, tsr_import_line *line)
{
    struct source parts[PARTS];
    snprintf(line->ours, sizeof line->ours, "%s", entry->name);
    line->to = tsr_tensor_shape(entry->tensor);
    int n = find_parts(r, entry->name, parts);
    if (n == 0) {
        line->kind = TSR_IMPORT_MISSING;
        tsr_module_entry_initialize(entry, 0);
        return;
    }
    line->theirs = strdup(tsr_weights_name(r->w, parts[0].at));
    if (line->theirs == NULL) tsr_fail(TSR_STATUS_MEMORY, "import: out of memory");
    line->from = n == 1 ? tsr_weights_shape(r->w, parts[0].at) : line->to;
    tsr_shape shape = line->to;
    shape.size[0] /= n;
    for (int k = 0; k < n && tsr_status_get() == TSR_STATUS_OK; k++) {
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *to = tsr_detach(entry->tensor);
        if (n > 1) to = tsr_slice(to, 0, k * shape.size[0], (k + 1) * shape.size[0], 1);
        if (parts[k].at < 0) {
            tsr_tensor_fill(to, 0.0);
        } else if (strcmp(entry->name, "pos_embed") == 0) {
            if (c->image_size / c->patch_size != grid) line->kind = TSR_IMPORT_RESIZED;
            tsr_tensor *t = read_position(r, parts[k].at, c, grid);
            if (t != NULL) tsr_tensor_copy(to, t);
        } else {
            tsr_tensor *t = read_part(r, parts[k].at, shape);
            if (t != NULL) tsr_tensor_copy(to, t);
        }
        if (parts[k].at >= 0) r->used[parts[k].at] = true;
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
}

static tsr_status fill_all(struct reader *r, int64_t grid, tsr_import *import)
{
    tsr_module_list *state = tsr_module_state(&import->vit->module);
    if (state == NULL) return tsr_status_get();
    import->lines = calloc((size_t)(state->n + r->n), sizeof *import->lines);
    if (import->lines == NULL) tsr_fail(TSR_STATUS_MEMORY, "import: out of memory");
    bool was = tsr_recording_set(false);
    for (int64_t i = 0; i < state->n && tsr_status_get() == TSR_STATUS_OK; i++) {
        fill(r, &import->vit->config, grid, &state->at[i], &import->lines[import->n++]);
    }
    tsr_recording_set(was);
    tsr_module_list_free(&state);
    for (int64_t k = 0; k < r->n && tsr_status_get() == TSR_STATUS_OK; k++) {
        int64_t i = r->order[k];
        const char *name = tsr_weights_name(r->w, i);
        if (!begins_with(name, r->prefix)) {
            import->elsewhere++;
            continue;
        }
        if (r->used[i]) continue;
        tsr_import_line *line = &import->lines[import->n++];
        line->kind = TSR_IMPORT_UNUSED;
        line->from = tsr_weights_shape(r->w, i);
        line->theirs = strdup(name);
        if (line->theirs == NULL) tsr_fail(TSR_STATUS_MEMORY, "import: out of memory");
    }
    for (int64_t i = 0; i < import->n; i++) import->counts[import->lines[i].kind]++;
    return tsr_status_get();
}

static tsr_status run(struct reader *r, const tsr_import_options *o, tsr_import *import)
{
    tsr_vit_config config;
    int64_t grid = 0;
    if (refuse_foreign(r) != TSR_STATUS_OK || infer(r, o, &config, &grid) != TSR_STATUS_OK ||
        check_amount(r, &config) != TSR_STATUS_OK) {
        return tsr_status_get();
    }
    import->vit = tsr_vit_new(&config);
    if (import->vit == NULL) return tsr_status_get();
    return fill_all(r, grid, import);
}

tsr_import *tsr_import_open(tsr_weights *w, const tsr_import_options *options)
{
    struct candidate chosen = {.known = 0};
    if (w == NULL) return NULL;
    if (options->map != NULL && tsr_name_map_find(options->map) == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "import: there are no names called \"%.60s\"", options->map);
        return NULL;
    }
    if (choose(w, options, &chosen) != TSR_STATUS_OK) return NULL;
    int64_t n = tsr_weights_count(w);
    tsr_import *import = calloc(1, sizeof *import);
    struct reader r = {.w = w, .map = chosen.map, .prefix = chosen.prefix, .n = n};
    r.order = calloc((size_t)n, sizeof *r.order);
    r.used = calloc((size_t)n, sizeof *r.used);
    if (import == NULL || r.order == NULL || r.used == NULL ||
        (import->prefix = strdup(chosen.prefix)) == NULL) {
        tsr_fail(TSR_STATUS_MEMORY, "import: out of memory");
    } else {
        import->map = chosen.map;
        for (int64_t i = 0; i < n; i++) r.order[i] = i;
        qsort_r(r.order, (size_t)n, sizeof *r.order, compare, w);
        run(&r, options, import);
    }
    free(r.order);
    free(r.used);
    if (tsr_status_get() != TSR_STATUS_OK) tsr_import_free(&import);
    return import;
}

void tsr_import_free(tsr_import **import)
{
    if (import == NULL || *import == NULL) return;
    tsr_import *m = *import;
    for (int64_t i = 0; i < m->n; i++) free(m->lines[i].theirs);
    free(m->lines);
    tsr_module_free(&m->vit);
    free(m->prefix);
    free(m);
    *import = NULL;
}
