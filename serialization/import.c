/*
 * A backbone from named tensors: which map their names follow, and each in its place.
 */
#include "serialization/import.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PREFIXES = 16 };

/* ---- names ---- */

static bool begins_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static int compare(const void *a, const void *b, void *weights)
{
    return strcmp(tsr_weights_name(weights, *(const int64_t *)a),
                  tsr_weights_name(weights, *(const int64_t *)b));
}

int64_t tsr_import__find(const tsr_import_reader *r, const char *name)
{
    char full[TSR_IMPORT_PREFIX + TSR_NAME_BYTES];
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
static int find_parts(const tsr_import_reader *r, const char *ours, struct source parts[PARTS])
{
    char theirs[TSR_NAME_BYTES];
    const tsr_name_rule *rule;
    struct source of[PARTS];
    int wanted = 0, have = 0;
    for (int i = 0; i < PARTS; i++) of[i].part = 0;
    for (int k = 0; (rule = tsr_name_to_theirs(r->map, ours, k, theirs)) != NULL; k++) {
        int64_t at = rule->theirs != NULL ? tsr_import__find(r, theirs) : -1;
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

bool tsr_import__holds(const tsr_import_reader *r, const char *ours)
{
    struct source parts[PARTS];
    return find_parts(r, ours, parts) > 0;
}

/* As the first one's says. */
tsr_shape tsr_import__shape(const tsr_import_reader *r, const char *ours)
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
    char prefix[TSR_IMPORT_PREFIX];
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
            if (length < tail || length - tail >= TSR_IMPORT_PREFIX ||
                strcmp(name + length - tail, key) != 0)
                continue;
            length -= tail;
            if (length > 0 && name[length - 1] != '.' && name[length - 1] != '/') continue;
            char prefix[TSR_IMPORT_PREFIX];
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

static tsr_status fail_none(tsr_weights *w)
{
    const char *first = tsr_weights_name(w, 0);
    return tsr_fail(TSR_STATUS_ARGUMENT,
                    "import: no network that is known in the file: of its %" PRId64
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
        fail_none(w);
    } else {
        char list[600] = "";
        size_t used = 0;
        for (int k = 0; k < n && used < sizeof list - TSR_IMPORT_PREFIX - 8; k++) {
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

static tsr_status refuse_shape(const tsr_import_reader *r, int64_t at, tsr_shape wanted)
{
    char a[TSR_SHAPE_TEXT], b[TSR_SHAPE_TEXT];
    return tsr_fail(TSR_STATUS_ARGUMENT, "import: '%.200s' has shape %s, expected %s",
                    tsr_weights_name(r->w, at), tsr_shape_text(tsr_weights_shape(r->w, at), a),
                    tsr_shape_text(wanted, b));
}

/* One tensor of the file in the shape that is wanted; NULL on failure. */
static tsr_tensor *read_part(const tsr_import_reader *r, int64_t at, tsr_shape wanted)
{
    if (!same_elements(tsr_weights_shape(r->w, at), wanted)) {
        refuse_shape(r, at, wanted);
        return NULL;
    }
    tsr_tensor *t = tsr_weights_tensor(r->w, at);
    if (t == NULL) return NULL;
    if (!tsr_dtype_is_float(tsr_tensor_dtype(t))) {
        tsr_fail(TSR_STATUS_DTYPE, "import: '%.200s' is %s, expected floating point",
                 tsr_weights_name(r->w, at), tsr_dtype_name(tsr_tensor_dtype(t)));
        return NULL;
    }
    return tsr_reshape(t, wanted);
}

/* A position embedding of grid x grid patches for the network's own size. */
static tsr_tensor *read_position(const tsr_import_reader *r, int64_t at, const tsr_vit_config *c,
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

static bool ends_with(const char *text, const char *tail)
{
    size_t a = strlen(text), b = strlen(tail);
    return a >= b && strcmp(text + a - b, tail) == 0;
}

/* A table of relative positions for the network's own grid. */
static tsr_tensor *read_table(const tsr_import_reader *r, int64_t at, tsr_shape wanted)
{
    tsr_tensor *t = read_part(r, at, tsr_weights_shape(r->w, at));
    if (t == NULL) return NULL;
    t = tsr_relative_position_resize(tsr_cast(t, TSR_DTYPE_F32), wanted);
    if (t == NULL) refuse_shape(r, at, wanted);
    return t;
}

/* A tensor that follows from the network's shape is compared, unless the file's is of another grid. */
static tsr_status check_constant(const tsr_import_reader *r, int64_t at, tsr_tensor *ours,
                                 tsr_import_line *line)
{
    int64_t n = tsr_tensor_numel(ours);
    if (tsr_shape_numel(tsr_weights_shape(r->w, at)) != n) {
        line->kind = TSR_IMPORT_RESIZED;
        return TSR_STATUS_OK;
    }
    tsr_tensor *t = tsr_weights_tensor(r->w, at);
    for (int64_t i = 0; t != NULL && i < n; i++) {
        if (tsr_tensor_get(t, i) == tsr_tensor_get(ours, i)) continue;
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "import: '%.200s' is not what the network's shape says: it counts tokens "
                        "in another order",
                        tsr_weights_name(r->w, at));
    }
    return tsr_status_get();
}

/* One tensor of the file, or one part of three, into ours. */
static void fill_part(const tsr_import_reader *r, const tsr_import *import, int64_t at,
                      const tsr_module_entry *entry, tsr_tensor *to, tsr_import_line *line)
{
    tsr_shape wanted = tsr_tensor_shape(to), shape = tsr_weights_shape(r->w, at);
    tsr_tensor *t = NULL;
    if (strcmp(entry->name, "pos_embed") == 0) {
        const tsr_vit_config *c = &((const tsr_vit *)import->backbone)->config;
        if (c->image_size / c->patch_size != import->grid) line->kind = TSR_IMPORT_RESIZED;
        t = read_position(r, at, c, import->grid);
    } else if (ends_with(entry->name, "relative_position_bias_table") &&
               !same_elements(shape, wanted)) {
        line->kind = TSR_IMPORT_RESIZED;
        t = read_table(r, at, wanted);
    } else {
        t = read_part(r, at, wanted);
    }
    if (t != NULL) tsr_tensor_copy(to, t);
}

static void fill(tsr_import_reader *r, tsr_import *import, const tsr_module_entry *entry)
{
    struct source parts[PARTS];
    bool constant = entry->init.kind == TSR_INIT_NOT;
    int n = find_parts(r, entry->name, parts);
    if (n == 0 && constant) return;
    tsr_import_line *line = &import->lines[import->n++];
    snprintf(line->ours, sizeof line->ours, "%s", entry->name);
    line->to = tsr_tensor_shape(entry->tensor);
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
        } else if (constant) {
            check_constant(r, parts[k].at, to, line);
        } else {
            fill_part(r, import, parts[k].at, entry, to, line);
        }
        if (parts[k].at >= 0) r->used[parts[k].at] = true;
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
}

static tsr_status fill_all(tsr_import_reader *r, tsr_import *import)
{
    tsr_module_list *state = tsr_module_state(&import->backbone->module);
    if (state == NULL) return tsr_status_get();
    import->lines = calloc((size_t)(state->n + r->n), sizeof *import->lines);
    if (import->lines == NULL) tsr_fail(TSR_STATUS_MEMORY, "import: out of memory");
    bool was = tsr_recording_set(false);
    for (int64_t i = 0; i < state->n && tsr_status_get() == TSR_STATUS_OK; i++) {
        fill(r, import, &state->at[i]);
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
    tsr_import_reader r = {.w = w, .map = chosen.map, .prefix = chosen.prefix, .n = n};
    r.order = calloc((size_t)n, sizeof *r.order);
    r.used = calloc((size_t)n, sizeof *r.used);
    if (import == NULL || r.order == NULL || r.used == NULL ||
        (import->prefix = strdup(chosen.prefix)) == NULL) {
        tsr_fail(TSR_STATUS_MEMORY, "import: out of memory");
    } else {
        import->map = chosen.map;
        for (int64_t i = 0; i < n; i++) r.order[i] = i;
        qsort_r(r.order, (size_t)n, sizeof *r.order, compare, w);
        import->backbone = tsr_import__network(&r, options, &import->grid);
        if (import->backbone != NULL) fill_all(&r, import);
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
    tsr_module_free(&m->backbone);
    free(m->prefix);
    free(m);
    *import = NULL;
}
