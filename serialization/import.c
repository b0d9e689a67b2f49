/*
 * A backbone from named tensors: which map their names follow, what becomes of each tensor, and their values, which are read
 * one at a time.
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
    if (first == NULL) return tsr_fail(TSR_STATUS_ARGUMENT, "import: the file holds no tensors");
    return tsr_fail(TSR_STATUS_ARGUMENT,
                    "import: no network that is known in the file: of its %" PRId64
                    " tensors (the first is '%.100s') none is a patch embedding of a known name",
                    tsr_weights_count(w), first);
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

/* ---- what fits ---- */

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

static bool is_position(const tsr_module_entry *entry)
{
    return strcmp(entry->name, "pos_embed") == 0;
}

static bool is_table(const tsr_module_entry *entry)
{
    static const char tail[] = "relative_position_bias_table";
    size_t a = strlen(entry->name), b = sizeof tail - 1;
    return a >= b && strcmp(entry->name + a - b, tail) == 0;
}

/* What follows from the network's shape. */
static bool is_constant(const tsr_module_entry *entry)
{
    return entry->init.kind == TSR_INIT_NOT;
}

static bool same_count(const tsr_import_reader *r, int64_t at, const tsr_tensor *ours)
{
    return tsr_shape_numel(tsr_weights_shape(r->w, at)) == tsr_tensor_numel(ours);
}

static const tsr_vit_config *vit_config(const tsr_import *m)
{
    return &((const tsr_vit *)m->backbone)->config;
}

/* ---- what becomes of each ---- */

/* A tensor of the file, as ours of this shape or a part of it. */
static tsr_status account_part(const tsr_import *m, const tsr_module_entry *entry, int64_t at,
                               tsr_shape wanted, tsr_import_line *line)
{
    tsr_import_reader *r = m->reader;
    bool resized = false;
    r->used[at] = true;
    if (is_constant(entry)) {
        resized = !same_count(r, at, entry->tensor);
    } else if (is_position(entry)) {
        const tsr_vit_config *c = vit_config(m);
        resized = c->image_size / c->patch_size != m->grid;
    } else if (!same_elements(tsr_weights_shape(r->w, at), wanted)) {
        if (!is_table(entry)) return refuse_shape(r, at, wanted);
        resized = true;
    }
    if (resized) line->kind = TSR_IMPORT_RESIZED;
    return TSR_STATUS_OK;
}

static tsr_status account(tsr_import *m, const tsr_module_entry *entry)
{
    tsr_import_reader *r = m->reader;
    struct source parts[PARTS];
    int n = find_parts(r, entry->name, parts);
    if (n == 0 && is_constant(entry)) return TSR_STATUS_OK;
    tsr_import_line *line = &m->lines[m->n++];
    snprintf(line->ours, sizeof line->ours, "%s", entry->name);
    line->to = tsr_tensor_shape(entry->tensor);
    if (n == 0) {
        line->kind = TSR_IMPORT_MISSING;
        return TSR_STATUS_OK;
    }
    line->theirs = strdup(tsr_weights_name(r->w, parts[0].at));
    if (line->theirs == NULL) return tsr_fail(TSR_STATUS_MEMORY, "import: out of memory");
    line->from = n == 1 ? tsr_weights_shape(r->w, parts[0].at) : line->to;
    tsr_shape shape = line->to;
    shape.size[0] /= n;
    for (int k = 0; k < n; k++) {
        if (parts[k].at < 0) continue;
        tsr_status status = account_part(m, entry, parts[k].at, shape, line);
        if (status != TSR_STATUS_OK) return status;
    }
    return TSR_STATUS_OK;
}

static tsr_status account_unused(tsr_import *m)
{
    const tsr_import_reader *r = m->reader;
    for (int64_t k = 0; k < r->n; k++) {
        int64_t i = r->order[k];
        const char *name = tsr_weights_name(r->w, i);
        if (!begins_with(name, r->prefix)) {
            m->elsewhere++;
            continue;
        }
        if (r->used[i]) continue;
        tsr_import_line *line = &m->lines[m->n++];
        line->kind = TSR_IMPORT_UNUSED;
        line->from = tsr_weights_shape(r->w, i);
        line->theirs = strdup(name);
        if (line->theirs == NULL) return tsr_fail(TSR_STATUS_MEMORY, "import: out of memory");
    }
    return TSR_STATUS_OK;
}

static tsr_status account_all(tsr_import *m)
{
    tsr_module_list *state = tsr_module_state(&m->backbone->module);
    if (state == NULL) return tsr_status_get();
    m->lines = calloc((size_t)(state->n + m->reader->n), sizeof *m->lines);
    if (m->lines == NULL) tsr_fail(TSR_STATUS_MEMORY, "import: out of memory");
    for (int64_t i = 0; i < state->n && tsr_status_get() == TSR_STATUS_OK; i++) {
        account(m, &state->at[i]);
    }
    tsr_module_list_free(&state);
    if (tsr_status_get() == TSR_STATUS_OK) account_unused(m);
    for (int64_t i = 0; i < m->n; i++) m->counts[m->lines[i].kind]++;
    return tsr_status_get();
}

/* ---- values ---- */

/* One tensor of the file in the shape that is wanted, of as many elements; NULL on failure. */
static tsr_tensor *read_part(const tsr_import_reader *r, int64_t at, tsr_shape wanted)
{
    tsr_tensor *t = tsr_weights_tensor(r->w, at);
    if (t == NULL) return NULL;
    if (!tsr_dtype_is_float(tsr_tensor_dtype(t))) {
        tsr_fail(TSR_STATUS_DTYPE, "import: '%.200s' is %s, expected floating point",
                 tsr_weights_name(r->w, at), tsr_dtype_name(tsr_tensor_dtype(t)));
        return NULL;
    }
    return tsr_reshape(t, wanted);
}

/* The position embedding for the network's own size. */
static tsr_tensor *read_position(const tsr_import *m, int64_t at)
{
    const tsr_vit_config *c = vit_config(m);
    int64_t tokens = tsr_weights_shape(m->reader->w, at).size[1],
            side = c->image_size / c->patch_size;
    tsr_tensor *t = read_part(m->reader, at, TSR_SHAPE(1, tokens, c->dim));
    if (t == NULL) return NULL;
    if (tokens == m->grid * m->grid) {
        tsr_tensor *none = tsr_zeros(tsr_tensor_dtype(t), TSR_SHAPE(1, 1, c->dim));
        t = tsr_concat(TSR_TENSORS(none, t), 1);
    }
    if (side != m->grid) t = tsr_cast(t, TSR_DTYPE_F32);
    return tsr_vit_resize_position(t, m->grid, side, side, c->position);
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

/* The file's own is compared, unless it is of another grid. */
static tsr_status check_constant(const tsr_import_reader *r, int64_t at, tsr_tensor *ours)
{
    if (!same_count(r, at, ours)) return TSR_STATUS_OK;
    tsr_tensor *t = tsr_weights_tensor(r->w, at);
    for (int64_t i = 0; t != NULL && i < tsr_tensor_numel(ours); i++) {
        if (tsr_tensor_get(t, i) == tsr_tensor_get(ours, i)) continue;
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "import: '%.200s' is not what the network's shape says: it counts tokens "
                        "in another order",
                        tsr_weights_name(r->w, at));
    }
    return tsr_status_get();
}

static tsr_tensor *read_whole(const tsr_import *m, const tsr_module_entry *entry, int64_t at)
{
    tsr_shape wanted = tsr_tensor_shape(entry->tensor);
    tsr_tensor *t;
    if (is_position(entry)) {
        t = read_position(m, at);
    } else if (is_table(entry) && !same_elements(tsr_weights_shape(m->reader->w, at), wanted)) {
        t = read_table(m->reader, at, wanted);
    } else {
        t = read_part(m->reader, at, wanted);
    }
    return tsr_cast(t, tsr_tensor_dtype(entry->tensor));
}

/* Of n parts, one below the other; of none: as in a new network. */
static tsr_tensor *assemble(const tsr_import *m, const tsr_module_entry *entry,
                            const struct source *parts, int n)
{
    tsr_module_entry whole = *entry;
    tsr_shape shape = tsr_tensor_shape(entry->tensor);
    whole.tensor = tsr_empty(tsr_tensor_dtype(entry->tensor), shape);
    if (whole.tensor == NULL) return NULL;
    if (n == 0) tsr_module_entry_initialize(&whole, 0);
    if (n > 0) shape.size[0] /= n;
    for (int k = 0; k < n; k++) {
        tsr_tensor *to = tsr_slice(whole.tensor, 0, k * shape.size[0], (k + 1) * shape.size[0], 1);
        tsr_tensor *from = parts[k].at < 0 ? NULL : read_part(m->reader, parts[k].at, shape);
        if (parts[k].at < 0) tsr_tensor_fill(to, 0.0);
        if (from != NULL) tsr_tensor_copy(to, from);
        if (tsr_status_get() != TSR_STATUS_OK) return NULL;
    }
    return whole.tensor;
}

/* The patch embedding W, b of colours s x + t as one of x: W s, and b + the sum of W t. */
static tsr_tensor *recolour(const tsr_import *m, const tsr_module_entry *entry, tsr_tensor *t)
{
    static const char weight[] = "patch_embed.proj.weight", bias[] = "patch_embed.proj.bias";
    const tsr_import_reader *r = m->reader;
    bool is_weight = strcmp(entry->name, weight) == 0;
    if (r->scale[0] == 0.0 || (!is_weight && strcmp(entry->name, bias) != 0)) return t;
    tsr_tensor *by =
        tsr_from(TSR_DTYPE_F64, TSR_SHAPE(1, 3, 1, 1), is_weight ? r->scale : r->shift);
    tsr_tensor *w = t;
    if (!is_weight) {
        struct source parts[PARTS];
        if (find_parts(r, weight, parts) == 0) return t;
        w = read_part(r, parts[0].at, tsr_weights_shape(r->w, parts[0].at));
    }
    tsr_tensor *y = tsr_mul(tsr_cast(w, TSR_DTYPE_F64), by);
    if (!is_weight) {
        y = tsr_add(tsr_cast(t, TSR_DTYPE_F64), tsr_sum(y, (const int[]){1, 2, 3}, 3, false));
    }
    return tsr_cast(y, tsr_tensor_dtype(entry->tensor));
}

tsr_tensor *tsr_import_tensor(const tsr_import *m, const tsr_module_entry *entry)
{
    struct source parts[PARTS];
    int n = find_parts(m->reader, entry->name, parts);
    if (is_constant(entry)) {
        bool sound =
            n == 0 || check_constant(m->reader, parts[0].at, entry->tensor) == TSR_STATUS_OK;
        return sound ? entry->tensor : NULL;
    }
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *t = n == 1 ? read_whole(m, entry, parts[0].at) : assemble(m, entry, parts, n);
    return tsr_scope_return(&scope, recolour(m, entry, t));
}

tsr_status tsr_import_load(tsr_import *m)
{
    tsr_module_list *state = tsr_module_state(&m->backbone->module);
    for (int64_t i = 0; state != NULL && i < state->n; i++) {
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *t = tsr_import_tensor(m, &state->at[i]);
        if (t != NULL && t != state->at[i].tensor) tsr_tensor_copy(state->at[i].tensor, t);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        if (tsr_status_get() != TSR_STATUS_OK) break;
    }
    tsr_module_list_free(&state);
    return tsr_status_get();
}

/* ---- the face ---- */

static tsr_import_reader *new_reader(tsr_weights *w, const struct candidate *chosen,
                                     const tsr_import_options *o)
{
    tsr_import_reader *r = calloc(1, sizeof *r);
    if (r == NULL) return NULL;
    r->w = w;
    r->map = chosen->map;
    r->n = tsr_weights_count(w);
    memcpy(r->prefix, chosen->prefix, sizeof r->prefix);
    memcpy(r->scale, o->scale, sizeof r->scale);
    memcpy(r->shift, o->shift, sizeof r->shift);
    r->order = calloc((size_t)r->n, sizeof *r->order);
    r->used = calloc((size_t)r->n, sizeof *r->used);
    for (int64_t i = 0; r->order != NULL && i < r->n; i++) r->order[i] = i;
    if (r->order != NULL) qsort_r(r->order, (size_t)r->n, sizeof *r->order, compare, w);
    return r;
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
    tsr_import *m = calloc(1, sizeof *m);
    tsr_import_reader *r = m != NULL ? m->reader = new_reader(w, &chosen, options) : NULL;
    if (r == NULL || r->order == NULL || r->used == NULL) {
        tsr_fail(TSR_STATUS_MEMORY, "import: out of memory");
    } else {
        m->map = r->map;
        m->prefix = r->prefix;
        m->backbone = tsr_import__network(r, options, &m->grid);
        if (m->backbone != NULL) account_all(m);
    }
    if (tsr_status_get() != TSR_STATUS_OK) tsr_import_free(&m);
    return m;
}

void tsr_import_free(tsr_import **import)
{
    if (import == NULL || *import == NULL) return;
    tsr_import *m = *import;
    for (int64_t i = 0; i < m->n; i++) free(m->lines[i].theirs);
    free(m->lines);
    tsr_module_free(&m->backbone);
    if (m->reader != NULL) {
        free(m->reader->order);
        free(m->reader->used);
    }
    free(m->reader);
    free(m);
    *import = NULL;
}
