/* The tree of parameters: building it, listing it by name, copying and averaging its values. */
#include "models/models.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum item_kind { PARAMETER, BUFFER, CHILD, KEPT };

struct tsr_module_item {
    char name[TSR_MODULE_NAME];
    enum item_kind kind;
    tsr_init init;
    tsr_tensor *tensor; /* held; NULL for a child */
    tsr_module *child;
};

/* ---- building ---- */

void *tsr_module_new(size_t size, const char *kind, tsr_dtype dtype)
{
    assert(size >= sizeof(tsr_module));
    if (dtype != TSR_DTYPE_F32 && dtype != TSR_DTYPE_F64) {
        tsr_fail(TSR_STATUS_DTYPE, "%s: dtype is %s, expected f32 or f64", kind,
                 tsr_dtype_name(dtype));
        return NULL;
    }
    tsr_module *m = tsr_alloc(size);
    if (m == NULL) return NULL;
    memset(m, 0, size);
    snprintf(m->name, sizeof m->name, "%s", kind);
    m->dtype = m->compute = dtype;
    m->training = true;
    return m;
}

/* A new last item, or NULL. */
static struct tsr_module_item *add_item(tsr_module *m, const char *name, enum item_kind kind)
{
    if (name[0] == '\0' || strlen(name) >= TSR_MODULE_NAME) {
        tsr_fail(TSR_STATUS_ARGUMENT, "%s: name \"%s\" has %zu bytes, expected 1 to %d", m->name,
                 name, strlen(name), TSR_MODULE_NAME - 1);
        return NULL;
    }
    for (int i = 0; i < m->n_items; i++) {
        if (strcmp(m->items[i].name, name) == 0) {
            tsr_fail(TSR_STATUS_ARGUMENT, "%s: there are two items named \"%s\"", m->name, name);
            return NULL;
        }
    }
    if (m->n_items == m->capacity) {
        int capacity = m->capacity == 0 ? 4 : 2 * m->capacity;
        struct tsr_module_item *grown = tsr_alloc((size_t)capacity * sizeof *grown);
        if (grown == NULL) return NULL;
        if (m->n_items > 0) memcpy(grown, m->items, (size_t)m->n_items * sizeof *grown);
        tsr_free(m->items);
        m->items = grown;
        m->capacity = capacity;
    }
    struct tsr_module_item *item = &m->items[m->n_items++];
    *item = (struct tsr_module_item){.kind = kind};
    strcpy(item->name, name);
    return item;
}

static tsr_tensor *add_tensor(tsr_module *m, const char *name, enum item_kind kind, tsr_dtype dtype,
                              tsr_shape shape, tsr_init init)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *t = kind == BUFFER ? tsr_full(dtype, shape, init.value) : tsr_empty(dtype, shape);
    struct tsr_module_item *item = t == NULL ? NULL : add_item(m, name, kind);
    if (item == NULL) {
        m->failed = true;
        t = NULL;
    } else {
        item->init = init;
        item->tensor = tsr_tensor_hold(t);
        if (kind == PARAMETER) tsr_require_grad(t, true);
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return t;
}

tsr_tensor *tsr_module_parameter(tsr_module *m, const char *name, tsr_shape shape, tsr_init init)
{
    if (init.kind != TSR_INIT_CONSTANT && !(init.value > 0.0 && init.value <= 100.0)) {
        tsr_fail(TSR_STATUS_ARGUMENT, "%s: %s starts at random of size %g, expected 0 to 100",
                 m->name, name, init.value);
        m->failed = true;
        return NULL;
    }
    return add_tensor(m, name, PARAMETER, m->dtype, shape, init);
}

tsr_tensor *tsr_module_buffer(tsr_module *m, const char *name, tsr_dtype dtype, tsr_shape shape,
                              double value)
{
    return add_tensor(m, name, BUFFER, dtype, shape, TSR_INIT_CONSTANT(value));
}

tsr_tensor *tsr_module_constant(tsr_module *m, const char *name, tsr_tensor *value)
{
    struct tsr_module_item *item = value == NULL ? NULL : add_item(m, name, BUFFER);
    if (item == NULL) {
        m->failed = true;
        return NULL;
    }
    item->init.kind = TSR_INIT_NOT;
    item->tensor = tsr_tensor_hold(value);
    return value;
}

void tsr_module_keep(tsr_module *m, const char *name, tsr_tensor *t)
{
    struct tsr_module_item *item = t == NULL ? NULL : add_item(m, name, KEPT);
    if (item != NULL) item->tensor = tsr_tensor_hold(t);
}

tsr_tensor *tsr_module_kept(const tsr_module *m, const char *name)
{
    for (int i = 0; i < m->n_items; i++) {
        if (m->items[i].kind == KEPT && strcmp(m->items[i].name, name) == 0)
            return m->items[i].tensor;
    }
    return NULL;
}

void *tsr_module_child(tsr_module *m, const char *name, void *child)
{
    tsr_module *c = child;
    struct tsr_module_item *item = c == NULL ? NULL : add_item(m, name, CHILD);
    if (item == NULL) {
        m->failed = true;
        if (c != NULL && c->owners == 0) tsr_module_destroy(c);
        return NULL;
    }
    item->child = c;
    if (c->dtype != m->dtype) {
        tsr_fail(TSR_STATUS_DTYPE, "%s: child %s is %s, expected %s", m->name, name,
                 tsr_dtype_name(c->dtype), tsr_dtype_name(m->dtype));
        m->failed = true;
    }
    if (c->owners++ == 0) strcpy(c->name, name);
    return c;
}

void *tsr_module_finish(tsr_module *m)
{
    if (!m->failed) return m;
    tsr_module_destroy(m);
    return NULL;
}

void tsr_module_destroy(void *module)
{
    tsr_module *m = module;
    if (m == NULL) return;
    assert(m->owners == 0 && "a module is freed by its parent");
    for (int i = m->n_items - 1; i >= 0; i--) {
        tsr_tensor_release(&m->items[i].tensor);
        tsr_module *child = m->items[i].child;
        if (child != NULL && --child->owners == 0) tsr_module_destroy(child);
    }
    tsr_free(m->items);
    tsr_free(m);
}

/* ---- forward functions ---- */

tsr_scope tsr_module_enter(const tsr_module *m)
{
    tsr_origin_push(m->name);
    return tsr_scope_open();
}

tsr_tensor *tsr_module_leave(tsr_scope *scope, tsr_tensor *result)
{
    tsr_origin_pop();
    return tsr_scope_return(scope, result);
}

void tsr_module_leave_many(tsr_scope *scope, tsr_tensors results)
{
    tsr_origin_pop();
    tsr_scope_close(scope, results);
}

/* ---- listing ---- */

/* Of a full name, as serialization allows. */
enum { PATH_BYTES = 1024 };

/* One walk over a tree: first it counts, then it fills the list. */
struct walk {
    char path[PATH_BYTES];
    tsr_module_list *list; /* NULL while counting */
    char *names;           /* where the next name goes */
    int64_t n;
    size_t name_bytes;
    bool once, buffers; /* each tensor once; buffers too */
};

static bool is_listed(const tsr_module_list *list, const tsr_tensor *t)
{
    for (int64_t i = 0; i < list->n; i++) {
        if (list->at[i].tensor == t) return true;
    }
    return false;
}

static bool walk_tensor(struct walk *w, const struct tsr_module_item *item, size_t length)
{
    size_t bytes = length + strlen(item->name) + 1;
    if (bytes > PATH_BYTES) {
        tsr_fail(TSR_STATUS_ARGUMENT, "module: a name of %zu bytes, expected less than %d", bytes,
                 PATH_BYTES);
        return false;
    }
    if (w->list == NULL) {
        w->n++;
        w->name_bytes += bytes;
        return true;
    }
    if (w->once && is_listed(w->list, item->tensor)) return true;
    tsr_module_entry *e = &w->list->at[w->list->n++];
    *e = (tsr_module_entry){w->names, item->tensor, item->kind == BUFFER, item->init};
    memcpy(w->names, w->path, length);
    memcpy(w->names + length, item->name, bytes - length);
    w->names += bytes;
    return true;
}

/* path[0 .. length) is the module's own name with its dot. */
static bool walk_module(struct walk *w, const tsr_module *m, size_t length)
{
    for (int kind = PARAMETER; kind <= CHILD; kind++) {
        for (int i = 0; i < m->n_items; i++) {
            const struct tsr_module_item *item = &m->items[i];
            if ((int)item->kind != kind || (kind == BUFFER && !w->buffers)) continue;
            if (kind != CHILD) {
                if (!walk_tensor(w, item, length)) return false;
                continue;
            }
            int added = snprintf(w->path + length, PATH_BYTES - length, "%s.", item->name);
            if (length + (size_t)added >= PATH_BYTES) {
                tsr_fail(TSR_STATUS_ARGUMENT, "module: the names of \"%s\" reach %d bytes", m->name,
                         PATH_BYTES);
                return false;
            }
            if (!walk_module(w, item->child, length + (size_t)added)) return false;
        }
    }
    return true;
}

static tsr_module_list *list_tensors(const tsr_module *m, bool once, bool buffers)
{
    if (m == NULL) return NULL;
    struct walk w = {.once = once, .buffers = buffers};
    if (!walk_module(&w, m, 0)) return NULL;
    size_t entries = (size_t)w.n * sizeof(tsr_module_entry);
    w.list = tsr_alloc(sizeof *w.list + entries + w.name_bytes);
    if (w.list == NULL) return NULL;
    w.list->n = 0;
    w.list->at = (tsr_module_entry *)(w.list + 1);
    w.names = (char *)w.list->at + entries;
    walk_module(&w, m, 0);
    return w.list;
}

tsr_module_list *tsr_module_state(const tsr_module *m)
{
    return list_tensors(m, false, true);
}

tsr_module_list *tsr_module_parameters(const tsr_module *m)
{
    return list_tensors(m, true, false);
}

void tsr_module_list_free(tsr_module_list **list)
{
    if (list == NULL) return;
    tsr_free(*list);
    *list = NULL;
}

/* NULL if there is none. Lists of like trees have like orders: the search begins at hint. */
static const tsr_module_entry *find_entry(const tsr_module_list *list, const char *name,
                                          int64_t hint)
{
    for (int64_t k = 0; k < list->n; k++) {
        const tsr_module_entry *e = &list->at[(hint + k) % list->n];
        if (strcmp(e->name, name) == 0) return e;
    }
    return NULL;
}

tsr_tensor *tsr_module_find(const tsr_module *m, const char *name)
{
    tsr_module_list *list = tsr_module_state(m);
    if (list == NULL) return NULL;
    const tsr_module_entry *e = find_entry(list, name, 0);
    tsr_tensor *t = e == NULL ? NULL : e->tensor;
    if (e == NULL) tsr_fail(TSR_STATUS_ARGUMENT, "%s: there is no \"%s\"", m->name, name);
    tsr_module_list_free(&list);
    return t;
}

int64_t tsr_module_count(const tsr_module *m)
{
    tsr_module_list *list = tsr_module_parameters(m);
    int64_t count = 0;
    for (int64_t i = 0; list != NULL && i < list->n; i++) {
        count += tsr_tensor_numel(list->at[i].tensor);
    }
    tsr_module_list_free(&list);
    return count;
}

bool tsr_module_decays(const tsr_module_entry *parameter)
{
    size_t n = strlen(parameter->name), suffix = strlen(".bias");
    bool is_bias = n >= suffix && strcmp(parameter->name + n - suffix, ".bias") == 0;
    return !is_bias && tsr_tensor_ndim(parameter->tensor) != 1;
}

/* ---- values ---- */

/* Elements that a thread takes at once; fewer are not worth waking anybody. */
enum { CHUNK = 32768 };

/* Cannot fail: the tensor is a module's own, and its init was checked when it was registered. */
void tsr_module_entry_initialize(const tsr_module_entry *e, uint64_t seed)
{
    tsr_rng rng = tsr_rng_make(seed, tsr_rng_purpose("init"), 0, tsr_rng_purpose(e->name));
    double v = e->init.value;
    switch (e->init.kind) {
    case TSR_INIT_CONSTANT:
        tsr_tensor_fill(e->tensor, v);
        break;
    case TSR_INIT_UNIFORM:
        tsr_fill_uniform(e->tensor, rng, -v, v);
        break;
    case TSR_INIT_TRUNC_NORMAL:
        tsr_fill_trunc_normal(e->tensor, rng, 0.0, v, -2.0, 2.0);
        break;
    case TSR_INIT_NOT:
        break;
    }
}

tsr_status tsr_module_initialize(tsr_module *m, uint64_t seed)
{
    tsr_module_list *list = list_tensors(m, true, true);
    if (list == NULL) return tsr_fail(TSR_STATUS_ARGUMENT, "module_initialize: module is NULL");
    for (int64_t i = 0; i < list->n; i++) tsr_module_entry_initialize(&list->at[i], seed);
    tsr_module_list_free(&list);
    return TSR_STATUS_OK;
}

void tsr_module_train(tsr_module *m, bool on)
{
    if (m == NULL) return;
    m->training = on;
    for (int i = 0; i < m->n_items; i++) tsr_module_train(m->items[i].child, on);
}

tsr_status tsr_module_compute_in(tsr_module *m, tsr_dtype dtype)
{
    if (m == NULL) return tsr_status_get();
    if (dtype != m->dtype && (dtype != TSR_DTYPE_BF16 || m->dtype != TSR_DTYPE_F32)) {
        return tsr_fail(TSR_STATUS_DTYPE, "compute_in: got %s for %s of %s, expected %s%s",
                        tsr_dtype_name(dtype), m->name, tsr_dtype_name(m->dtype),
                        tsr_dtype_name(m->dtype), m->dtype == TSR_DTYPE_F32 ? " or bf16" : "");
    }
    m->compute = dtype;
    for (int i = 0; i < m->n_items; i++) tsr_module_compute_in(m->items[i].child, dtype);
    return tsr_status_get();
}

tsr_tensor *tsr_module_narrow(const tsr_module *m, tsr_tensor *x)
{
    return m->compute == m->dtype ? x : tsr_cast(x, m->compute);
}

tsr_tensor *tsr_module_widen(const tsr_module *m, tsr_tensor *x)
{
    return m->compute == m->dtype ? x : tsr_cast(x, m->dtype);
}

void tsr_module_freeze(tsr_module *m)
{
    if (m == NULL) return;
    for (int i = 0; i < m->n_items; i++) {
        if (m->items[i].kind == PARAMETER) tsr_require_grad(m->items[i].tensor, false);
        tsr_module_freeze(m->items[i].child);
    }
}

/* Names for a message: how many there are, and the first few. */
struct names {
    int64_t n;
    size_t used;
    char text[120];
};

static void add_name(struct names *names, const char *name)
{
    size_t room = sizeof names->text - names->used, wanted = strlen(name) + sizeof ", , ...";
    if (names->n++ > 0 && room < wanted) {
        if (room > sizeof ", ...") strcpy(names->text + names->used, ", ...");
        names->used = sizeof names->text;
        return;
    }
    const char *comma = names->n > 1 ? ", " : "";
    int added = snprintf(names->text + names->used, room, "%s%s", comma, name);
    names->used += (size_t)added < room ? (size_t)added : room;
}

tsr_status tsr_module_copy(tsr_module *to, const tsr_module *from, tsr_match match)
{
    tsr_module_list *targets = tsr_module_state(to), *sources = tsr_module_state(from);
    struct names missing = {0}, unexpected = {0}, mismatched = {0};
    tsr_status status = TSR_STATUS_OK;
    if (targets == NULL || sources == NULL) {
        status = tsr_fail(TSR_STATUS_ARGUMENT, "module_copy: a module is NULL");
        goto end;
    }
    for (int64_t i = 0; i < targets->n; i++) {
        const tsr_module_entry *to_e = &targets->at[i],
                               *from_e = find_entry(sources, to_e->name, i);
        if (from_e == NULL) {
            if (match == TSR_MATCH_STRICT) add_name(&missing, to_e->name);
        } else if (!tsr_shape_equal(tsr_tensor_shape(to_e->tensor),
                                    tsr_tensor_shape(from_e->tensor))) {
            add_name(&mismatched, to_e->name);
        }
    }
    for (int64_t i = 0; i < sources->n && match == TSR_MATCH_STRICT; i++) {
        const char *name = sources->at[i].name;
        if (find_entry(targets, name, i) == NULL) add_name(&unexpected, name);
    }
    if (missing.n + unexpected.n + mismatched.n > 0) {
        status = tsr_fail(TSR_STATUS_ARGUMENT,
                          "module_copy: %s does not fit %s: %" PRId64 " missing (%s), %" PRId64
                          " unexpected (%s), %" PRId64 " of another shape (%s)",
                          from->name, to->name, missing.n, missing.text, unexpected.n,
                          unexpected.text, mismatched.n, mismatched.text);
        goto end;
    }
    for (int64_t i = 0; i < targets->n && status == TSR_STATUS_OK; i++) {
        const tsr_module_entry *e = find_entry(sources, targets->at[i].name, i);
        if (e != NULL) status = tsr_tensor_copy(targets->at[i].tensor, e->tensor);
    }
end:
    tsr_module_list_free(&targets);
    tsr_module_list_free(&sources);
    return status;
}

/* ---- moving average ---- */

/* A teacher's tensor with its student's, and where its chunks begin in the list of all chunks. */
struct pair {
    void *to;
    const void *from;
    int64_t n, first_chunk;
};

/* PyTorch's teacher.mul_(m).add_((1 - m) * student): each factor rounded to the type first. */
static void average(const struct pair *p, int64_t chunk, tsr_dtype dtype, double momentum)
{
    int64_t begin = chunk * CHUNK;
    int64_t end = begin + CHUNK < p->n ? begin + CHUNK : p->n;
    if (dtype == TSR_DTYPE_F32) {
        float *to = p->to, m = (float)momentum, rest = (float)(1.0 - momentum);
        const float *from = p->from;
        for (int64_t i = begin; i < end; i++) to[i] = to[i] * m + rest * from[i];
    } else {
        double *to = p->to, rest = 1.0 - momentum;
        const double *from = p->from;
        for (int64_t i = begin; i < end; i++) to[i] = to[i] * momentum + rest * from[i];
    }
}

/* One loop over the chunks of all tensors. */
static void average_all(const struct pair *pairs, int64_t n_pairs, tsr_dtype dtype, double momentum)
{
    const struct pair *last = &pairs[n_pairs - 1];
    int64_t chunks = last->first_chunk + (last->n + CHUNK - 1) / CHUNK;
    int threads = chunks < 2 ? 1 : tsr_threads();
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t c = 0; c < chunks; c++) {
        /* The last pair that begins at or before c (an empty tensor begins where the next does). */
        int64_t lo = 0, hi = n_pairs - 1;
        while (lo < hi) {
            int64_t middle = (lo + hi + 1) / 2;
            if (pairs[middle].first_chunk <= c) {
                lo = middle;
            } else {
                hi = middle - 1;
            }
        }
        average(&pairs[lo], c - pairs[lo].first_chunk, dtype, momentum);
    }
}

tsr_status tsr_module_ema(tsr_module *teacher, const tsr_module *student, double momentum)
{
    tsr_module_list *to = tsr_module_parameters(teacher), *from = tsr_module_parameters(student);
    struct pair *pairs = NULL;
    tsr_status status = TSR_STATUS_OK;
    int64_t n = 0, chunks = 0;
    if (to == NULL || from == NULL) {
        status = tsr_fail(TSR_STATUS_ARGUMENT, "module_ema: a module is NULL");
        goto end;
    }
    if (!(momentum >= 0.0 && momentum <= 1.0)) {
        status =
            tsr_fail(TSR_STATUS_ARGUMENT, "module_ema: momentum is %g, expected 0 to 1", momentum);
        goto end;
    }
    if (teacher->dtype != student->dtype) {
        status = tsr_fail(TSR_STATUS_ARGUMENT, "module_ema: teacher is %s, student %s",
                          tsr_dtype_name(teacher->dtype), tsr_dtype_name(student->dtype));
        goto end;
    }
    pairs = tsr_alloc((size_t)to->n * sizeof *pairs + 1);
    if (pairs == NULL) {
        status = tsr_status_get();
        goto end;
    }
    for (int64_t i = 0; i < to->n; i++) {
        const tsr_module_entry *e = find_entry(from, to->at[i].name, i);
        if (e == NULL) continue;
        tsr_tensor *t = to->at[i].tensor;
        tsr_shape shape = tsr_tensor_shape(t), wanted = tsr_tensor_shape(e->tensor);
        if (!tsr_shape_equal(shape, wanted)) {
            char a[TSR_SHAPE_TEXT], b[TSR_SHAPE_TEXT];
            status = tsr_fail(TSR_STATUS_ARGUMENT,
                              "module_ema: %s is %s in the teacher, %s in the "
                              "student",
                              e->name, tsr_shape_text(shape, a), tsr_shape_text(wanted, b));
            goto end;
        }
        /* The handle for now: no data is taken for writing before all shapes are known to fit. */
        pairs[n++] = (struct pair){t, tsr_tensor_data(e->tensor), tsr_tensor_numel(t), chunks};
        chunks += (tsr_tensor_numel(t) + CHUNK - 1) / CHUNK;
    }
    for (int64_t i = 0; i < n; i++) pairs[i].to = tsr_tensor_data_mut(pairs[i].to);
    if (n > 0) average_all(pairs, n, teacher->dtype, momentum);
end:
    tsr_free(pairs);
    tsr_module_list_free(&to);
    tsr_module_list_free(&from);
    return status;
}
