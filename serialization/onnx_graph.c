/*
 * ONNX, writing: the graph. Values are known by where the elements of tensors lie, in all traces, so that views and detached
 * handles are found again. Nodes, names and initializers are protobuf's structs in memory of the graph. A number that
 * differs between the traces is computed from the size of a value, of which it is the same multiple in all of them.
 */
#include "serialization/onnx_graph.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct tsr_onnx_chunk {
    struct tsr_onnx_chunk *next;
    size_t used, size;
} chunk;

/* A size that was computed: 1-D, one element. */
typedef struct tsr_onnx_dimension {
    tsr_onnx_int v;
    const char *name;
} dimension;

/* ---- memory ---- */

void *tsr_onnx__make(tsr_onnx_graph *g, size_t bytes)
{
    bytes = (bytes + 15) & ~(size_t)15;
    chunk *c = g->chunks;
    if (c == NULL || c->size - c->used < bytes) {
        size_t size = bytes > 65536 ? bytes : 65536, header = 64;
        c = tsr_alloc(header + size);
        if (c == NULL) return NULL;
        *c = (chunk){g->chunks, 0, size};
        g->chunks = c;
    }
    char *p = (char *)c + 64 + c->used;
    c->used += bytes;
    memset(p, 0, bytes);
    return p;
}

char *tsr_onnx__text(tsr_onnx_graph *g, const char *text)
{
    char *p = tsr_onnx__make(g, strlen(text) + 1);
    if (p != NULL) memcpy(p, text, strlen(text) + 1);
    return p;
}

char *tsr_onnx__format(tsr_onnx_graph *g, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return tsr_onnx__text(g, text);
}

bool tsr_onnx__grow(void *list, size_t n, size_t *room, size_t item)
{
    if (n < *room) return true;
    size_t more = *room > 0 ? 2 * *room : 64;
    void *old, *bigger = tsr_alloc(more * item);
    if (bigger == NULL) return false;
    memcpy(&old, list, sizeof old);
    if (n > 0) memcpy(bigger, old, n * item);
    tsr_free(old);
    memcpy(list, &bigger, sizeof bigger);
    *room = more;
    return true;
}

void tsr_onnx__graph_open(tsr_onnx_graph *g, int n_traces, const tsr_module *module)
{
    *g = (tsr_onnx_graph){.n_traces = n_traces, .nowhere_output = {""}};
    onnx__node_proto__init(&g->nowhere);
    g->nowhere.output = g->nowhere_output;
    if (module != NULL) g->state = tsr_module_state(module);
}

void tsr_onnx__graph_close(tsr_onnx_graph *g)
{
    for (size_t i = 0; i < g->n_values; i++) {
        for (int t = 0; t < g->n_traces; t++) tsr_tensor_release(&g->values[i].at[t]);
    }
    for (size_t i = 0; i < g->n_kept; i++) tsr_tensor_release(&g->kept[i]);
    tsr_free(g->values);
    tsr_free(g->dimensions);
    tsr_free(g->nodes);
    tsr_free(g->tensors);
    tsr_free(g->kept);
    tsr_module_list_free(&g->state);
    for (chunk *c = g->chunks; c != NULL;) {
        chunk *next = c->next;
        tsr_free(c);
        c = next;
    }
}

/* ---- types ---- */

static const struct {
    tsr_dtype dtype;
    int onnx;
} types[] = {
    {TSR_DTYPE_F32, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT},
    {TSR_DTYPE_F64, ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE},
    {TSR_DTYPE_I32, ONNX__TENSOR_PROTO__DATA_TYPE__INT32},
    {TSR_DTYPE_I64, ONNX__TENSOR_PROTO__DATA_TYPE__INT64},
    {TSR_DTYPE_U8, ONNX__TENSOR_PROTO__DATA_TYPE__UINT8},
    {TSR_DTYPE_BOOL, ONNX__TENSOR_PROTO__DATA_TYPE__BOOL},
};

int tsr_onnx__type(tsr_dtype dtype)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].dtype == dtype) return types[i].onnx;
    }
    return 0;
}

tsr_dtype tsr_onnx__dtype(int64_t type)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].onnx == type) return types[i].dtype;
    }
    return TSR_DTYPE_COUNT;
}

/* ---- nodes ---- */

const char *tsr_onnx__new_name(tsr_onnx_graph *g, const char *stem)
{
    return tsr_onnx__format(g, "%s_%" PRId64, stem, ++g->names);
}

Onnx__NodeProto *tsr_onnx__node(const tsr_onnx_call *c, const char *op, const char *out,
                                const char *const *in, int n_in)
{
    tsr_onnx_graph *g = c->graph;
    if (out == NULL) out = tsr_onnx__new_name(g, op);
    Onnx__NodeProto *node = tsr_onnx__make(g, sizeof *node);
    char **names = tsr_onnx__make(g, ((size_t)n_in + 1) * sizeof *names),
         *type = tsr_onnx__text(g, op);
    if (!tsr_onnx__ok() ||
        !tsr_onnx__grow(&g->nodes, g->n_nodes, &g->nodes_room, sizeof *g->nodes)) {
        return &g->nowhere;
    }
    onnx__node_proto__init(node);
    for (int i = 0; i < n_in; i++) names[i] = (char *)in[i];
    names[n_in] = (char *)out;
    node->n_input = (size_t)n_in;
    node->input = names;
    node->n_output = 1;
    node->output = names + n_in;
    node->name = (char *)out;
    node->op_type = type;
    g->nodes[g->n_nodes++] = node;
    return node;
}

static Onnx__AttributeProto *new_attribute(tsr_onnx_graph *g, Onnx__NodeProto *node,
                                           const char *name,
                                           Onnx__AttributeProto__AttributeType type)
{
    enum { MOST = 8 };
    if (node == &g->nowhere) return NULL;
    if (node->attribute == NULL) node->attribute = tsr_onnx__make(g, MOST * sizeof(void *));
    Onnx__AttributeProto *a = tsr_onnx__make(g, sizeof *a);
    if (!tsr_onnx__ok() || node->n_attribute == MOST) return NULL;
    onnx__attribute_proto__init(a);
    a->name = tsr_onnx__text(g, name);
    a->has_type = true;
    a->type = type;
    node->attribute[node->n_attribute++] = a;
    return a;
}

void tsr_onnx__attribute_int(const tsr_onnx_call *c, Onnx__NodeProto *node, const char *name,
                             int64_t v)
{
    Onnx__AttributeProto *a =
        new_attribute(c->graph, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
    if (a == NULL) return;
    a->has_i = true;
    a->i = v;
}

void tsr_onnx__attribute_ints(const tsr_onnx_call *c, Onnx__NodeProto *node, const char *name,
                              const int64_t *values, int n)
{
    Onnx__AttributeProto *a =
        new_attribute(c->graph, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    int64_t *copy = tsr_onnx__make(c->graph, (size_t)n * sizeof *copy);
    if (a == NULL || copy == NULL) return;
    if (n > 0) memcpy(copy, values, (size_t)n * sizeof *copy);
    a->n_ints = (size_t)n;
    a->ints = copy;
}

void tsr_onnx__attribute_float(const tsr_onnx_call *c, Onnx__NodeProto *node, const char *name,
                               double v)
{
    Onnx__AttributeProto *a =
        new_attribute(c->graph, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
    if (a == NULL) return;
    a->has_f = true;
    a->f = (float)v;
}

void tsr_onnx__attribute_text(const tsr_onnx_call *c, Onnx__NodeProto *node, const char *name,
                              const char *v)
{
    Onnx__AttributeProto *a =
        new_attribute(c->graph, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING);
    char *text = tsr_onnx__text(c->graph, v);
    if (a == NULL || text == NULL) return;
    a->has_s = true;
    a->s = (ProtobufCBinaryData){strlen(v), (uint8_t *)text};
}

/* ---- initializers ---- */

/* t under this name, which may be of a parameter's length. */
static const char *add_initializer(tsr_onnx_graph *g, const char *name, tsr_tensor *t)
{
    tsr_tensor *packed = tsr_tensor_packed(t);
    Onnx__TensorProto *p = tsr_onnx__make(g, sizeof *p);
    int64_t *dims = tsr_onnx__make(g, TSR_MAX_DIMS * sizeof *dims);
    if (packed == NULL || !tsr_onnx__ok() ||
        !tsr_onnx__grow(&g->tensors, g->n_tensors, &g->tensors_room, sizeof *g->tensors) ||
        !tsr_onnx__grow(&g->kept, g->n_kept, &g->kept_room, sizeof *g->kept)) {
        return "";
    }
    tsr_dtype dtype = tsr_tensor_dtype(t);
    if (tsr_onnx__type(dtype) == 0) {
        tsr_fail(TSR_STATUS_DTYPE, "onnx: %s is %s, which is not written", name,
                 tsr_dtype_name(dtype));
        return "";
    }
    onnx__tensor_proto__init(p);
    tsr_shape shape = tsr_tensor_shape(t);
    for (int d = 0; d < shape.ndim; d++) dims[d] = shape.size[d];
    p->n_dims = (size_t)shape.ndim;
    p->dims = dims;
    p->has_data_type = true;
    p->data_type = tsr_onnx__type(dtype);
    p->name = (char *)name;
    p->has_raw_data = true;
    p->raw_data = (ProtobufCBinaryData){(size_t)tsr_tensor_numel(t) * tsr_dtype_size(dtype),
                                        (uint8_t *)tsr_tensor_data(packed)};
    g->tensors[g->n_tensors++] = p;
    g->kept[g->n_kept++] = tsr_tensor_hold(packed);
    return name;
}

const char *tsr_onnx__constant(const tsr_onnx_call *c, tsr_tensor *t)
{
    if (t == NULL || !tsr_onnx__ok()) return "";
    const char *name = tsr_onnx__new_name(c->graph, "constant");
    return name == NULL ? "" : add_initializer(c->graph, name, t);
}

const char *tsr_onnx__constant_ints(const tsr_onnx_call *c, const int64_t *values, int n)
{
    return tsr_onnx__constant(c, tsr_from(TSR_DTYPE_I64, TSR_SHAPE(n), values));
}

const char *tsr_onnx__constant_scalar(const tsr_onnx_call *c, tsr_dtype dtype, double v)
{
    return tsr_onnx__constant(c, tsr_scalar(dtype, v));
}

/* ---- values ---- */

bool tsr_onnx__same_elements(const tsr_tensor *a, const tsr_tensor *b)
{
    if (a == b) return true;
    if (tsr_tensor_data(a) != tsr_tensor_data(b) || tsr_tensor_dtype(a) != tsr_tensor_dtype(b) ||
        !tsr_shape_equal(tsr_tensor_shape(a), tsr_tensor_shape(b))) {
        return false;
    }
    size_t n = (size_t)tsr_tensor_ndim(a);
    return memcmp(tsr_tensor_strides(a), tsr_tensor_strides(b), n * sizeof(int64_t)) == 0;
}

tsr_onnx_value *tsr_onnx__find_value(tsr_onnx_graph *g, tsr_tensor *const *at)
{
    for (size_t i = g->n_values; i-- > 0;) {
        bool same = true;
        for (int t = 0; same && t < g->n_traces; t++) {
            same = tsr_onnx__same_elements(g->values[i].at[t], at[t]);
        }
        if (same) return &g->values[i];
    }
    return NULL;
}

tsr_onnx_value *tsr_onnx__add_value(tsr_onnx_graph *g, tsr_tensor *const *at, const char *name,
                                    bool constant)
{
    if (!tsr_onnx__grow(&g->values, g->n_values, &g->values_room, sizeof *g->values)) return NULL;
    tsr_onnx_value *v = &g->values[g->n_values++];
    *v = (tsr_onnx_value){.name = name, .constant = constant};
    for (int t = 0; t < g->n_traces; t++) v->at[t] = tsr_tensor_hold(at[t]);
    return v;
}

static bool same_data(tsr_tensor *a, tsr_tensor *b)
{
    if (tsr_onnx__same_elements(a, b)) return true;
    if (tsr_tensor_dtype(a) != tsr_tensor_dtype(b) ||
        !tsr_shape_equal(tsr_tensor_shape(a), tsr_tensor_shape(b))) {
        return false;
    }
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *pa = tsr_tensor_packed(a), *pb = tsr_tensor_packed(b);
    size_t bytes = (size_t)tsr_tensor_numel(a) * tsr_dtype_size(tsr_tensor_dtype(a));
    bool same = pa != NULL && pb != NULL &&
                (bytes == 0 || memcmp(tsr_tensor_data(pa), tsr_tensor_data(pb), bytes) == 0);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return same;
}

bool tsr_onnx__same_data(const tsr_onnx_graph *g, tsr_tensor *const *at)
{
    for (int t = 1; t < g->n_traces; t++) {
        if (!same_data(at[0], at[t])) return false;
    }
    return true;
}

/* One value everywhere: then only the shape may differ. */
static bool is_uniform(const tsr_onnx_graph *g, tsr_tensor *const *at)
{
    double first = tsr_tensor_get(at[0], 0);
    for (int t = 0; t < g->n_traces; t++) {
        if (tsr_tensor_dtype(at[t]) != tsr_tensor_dtype(at[0]) ||
            tsr_tensor_ndim(at[t]) != tsr_tensor_ndim(at[0])) {
            return false;
        }
        for (int64_t i = 0; i < tsr_tensor_numel(at[t]); i++) {
            if (tsr_tensor_get(at[t], i) != first) return false;
        }
    }
    return tsr_tensor_numel(at[0]) > 0;
}

tsr_onnx_value *tsr_onnx__new_constant(const tsr_onnx_call *c, tsr_tensor *const *at,
                                       const char *what, int i)
{
    tsr_onnx_graph *g = c->graph;
    if (tsr_onnx__same_data(g, at)) return tsr_onnx__add_value(g, at, NULL, true);
    if (is_uniform(g, at)) {
        tsr_dtype dtype = tsr_tensor_dtype(at[0]);
        tsr_onnx_int v[TSR_MAX_DIMS] = {{{0}}};
        int n = tsr_tensor_ndim(at[0]);
        for (int d = 0; d < n; d++) {
            for (int t = 0; t < g->n_traces; t++) v[d].at[t] = tsr_tensor_size(at[t], d);
        }
        const char *one = tsr_onnx__constant_scalar(c, dtype, tsr_tensor_get(at[0], 0));
        const char *name = TSR_ONNX_VALUE(c, "Expand", one, tsr_onnx__ints(c, v, n));
        return tsr_onnx__add_value(g, at, name, false);
    }
    tsr_fail(
        TSR_STATUS_ARGUMENT,
        "onnx: %s %d of %s changes from run to run, but no operator computed it from the inputs",
        what, i, c->step[0] != NULL ? c->step[0]->op->name : "the function");
    return NULL;
}

static const char *constant_name(tsr_onnx_graph *g, const tsr_onnx_value *v)
{
    for (int64_t i = 0; g->state != NULL && i < g->state->n; i++) {
        if (tsr_onnx__same_elements(g->state->at[i].tensor, v->at[0])) {
            return tsr_onnx__text(g, g->state->at[i].name);
        }
    }
    return tsr_onnx__new_name(g, "constant");
}

const char *tsr_onnx__name_of(tsr_onnx_graph *g, tsr_onnx_value *v)
{
    if (v == NULL || !tsr_onnx__ok()) return "";
    if (v->name == NULL) {
        const char *name = constant_name(g, v);
        if (name == NULL) return "";
        v->name = add_initializer(g, name, v->at[0]);
    }
    return v->name;
}

/* ---- sizes ---- */

static bool equal_ints(const tsr_onnx_graph *g, tsr_onnx_int a, tsr_onnx_int b)
{
    return memcmp(a.at, b.at, (size_t)g->n_traces * sizeof a.at[0]) == 0;
}

bool tsr_onnx__is_fixed(const tsr_onnx_call *c, tsr_onnx_int v)
{
    for (int t = 1; t < c->n_traces; t++) {
        if (v.at[t] != v.at[0]) return false;
    }
    return true;
}

/* v = k n for a size n of something computed so far; k 0: no. */
static int64_t multiple(const tsr_onnx_call *c, tsr_onnx_int v, const tsr_onnx_value *of, int d)
{
    int64_t n = tsr_tensor_size(of->at[0], d), k = n > 0 ? v.at[0] / n : 0;
    bool varies = false;
    for (int t = 0; t < c->n_traces; t++) {
        int64_t size = tsr_tensor_size(of->at[t], d);
        if (size * k != v.at[t]) return 0;
        varies = varies || size != n;
    }
    return varies ? k : 0;
}

/* A node that computes v as [1]; NULL where nothing explains it. */
static const char *compute_size(const tsr_onnx_call *c, tsr_onnx_int v, bool exact)
{
    tsr_onnx_graph *g = c->graph;
    for (size_t i = 0; i < g->n_values; i++) {
        tsr_onnx_value *of = &g->values[i];
        if (of->constant || of->name == NULL) continue;
        for (int d = 0; d < tsr_tensor_ndim(of->at[0]); d++) {
            int64_t k = multiple(c, v, of, d);
            if (k == 0 || (exact && k != 1)) continue;
            Onnx__NodeProto *node = TSR_ONNX_NODE(c, "Shape", NULL, of->name);
            tsr_onnx__attribute_int(c, node, "start", d);
            tsr_onnx__attribute_int(c, node, "end", d + 1);
            if (k == 1) return node->output[0];
            return TSR_ONNX_VALUE(c, "Mul", node->output[0], tsr_onnx__constant_ints(c, &k, 1));
        }
    }
    return NULL;
}

const char *tsr_onnx__dim(const tsr_onnx_call *c, tsr_onnx_int v)
{
    tsr_onnx_graph *g = c->graph;
    if (tsr_onnx__is_fixed(c, v)) return tsr_onnx__constant_ints(c, &v.at[0], 1);
    for (size_t i = 0; i < g->n_dimensions; i++) {
        if (equal_ints(g, g->dimensions[i].v, v)) return g->dimensions[i].name;
    }
    const char *name = compute_size(c, v, true);
    if (name == NULL) name = compute_size(c, v, false);
    if (name == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "onnx: %s: a number is %" PRId64 " for one size of the inputs and %" PRId64
                 " for another, and is not the size of any tensor",
                 c->step[0] != NULL ? c->step[0]->op->name : "a constant", v.at[0],
                 v.at[1] != v.at[0] ? v.at[1] : v.at[2]);
        return "";
    }
    if (!tsr_onnx__grow(&g->dimensions, g->n_dimensions, &g->dimensions_room,
                        sizeof *g->dimensions)) {
        return "";
    }
    g->dimensions[g->n_dimensions++] = (dimension){v, name};
    return name;
}

const char *tsr_onnx__ints(const tsr_onnx_call *c, const tsr_onnx_int *values, int n)
{
    const char *parts[2 * TSR_MAX_DIMS];
    int n_parts = 0;
    for (int i = 0; i < n;) {
        int64_t run[2 * TSR_MAX_DIMS];
        int fixed = 0;
        while (i + fixed < n && tsr_onnx__is_fixed(c, values[i + fixed])) {
            run[fixed] = values[i + fixed].at[0];
            fixed++;
        }
        parts[n_parts++] =
            fixed > 0 ? tsr_onnx__constant_ints(c, run, fixed) : tsr_onnx__dim(c, values[i]);
        i += fixed > 0 ? fixed : 1;
    }
    if (n_parts == 0) return tsr_onnx__constant_ints(c, NULL, 0);
    if (n_parts == 1) return parts[0];
    Onnx__NodeProto *node = tsr_onnx__node(c, "Concat", NULL, parts, n_parts);
    tsr_onnx__attribute_int(c, node, "axis", 0);
    return node->output[0];
}
