/*
 * ONNX, writing. The function runs under a trace (autograd.h) once for each set of sizes. The traces are walked side by side:
 *
 *   tensors are known by where their elements lie, so that views and detached handles are found again; one that no step
 *     made is a constant, and must be the same in all traces;
 *   steps that nothing asked for needs are left out; steps on constants alone, with the same result in all traces, are their
 *     result;
 *   any other becomes ONNX nodes by its translation (onnx_ops.c), or else by its definition, which is traced likewise.
 *
 * Then the graph runs (onnx_reader.c) on the inputs of all traces, and its outputs are compared.
 */
#include "serialization/atomic_file.h"
#include "serialization/onnx.h"
#include "serialization/source.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 8, INLINE_BYTES = 1024 };

/* Readers of protobuf refuse more than 2^31 - 1 bytes; nodes and names need some of them. */
static const uint64_t single_file_bytes = UINT64_C(2000000000);

typedef struct chunk {
    struct chunk *next;
    size_t used, size;
} chunk;

typedef struct value {
    tsr_tensor *at[TSR_ONNX_TRACES]; /* held */
    const char *name;                /* NULL: a constant that nothing has used yet */
    bool constant;
} value;

/* A size that was computed: 1-D, one element. */
typedef struct dimension {
    tsr_onnx_int v;
    const char *name;
} dimension;

struct tsr_onnx_graph {
    int n_traces;
    chunk *chunks;
    value *values;
    size_t n_values, values_room;
    dimension *dimensions;
    size_t n_dimensions, dimensions_room;
    Onnx__NodeProto **nodes;
    size_t n_nodes, nodes_room;
    Onnx__TensorProto **tensors;
    size_t n_tensors, tensors_room;
    tsr_tensor **kept; /* hold the initializers' data */
    size_t n_kept, kept_room;
    tsr_module_list *state;  /* names of parameters; NULL: there are none */
    int64_t names;           /* that were made */
    Onnx__NodeProto nowhere; /* what tsr_onnx__node() returns when it failed */
    char *nowhere_output[1];
};

static bool ok(void)
{
    return tsr_status_get() == TSR_STATUS_OK;
}

/* ---- memory ---- */

static void *make(tsr_onnx_graph *g, size_t bytes)
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

static char *copy_text(tsr_onnx_graph *g, const char *text)
{
    char *p = make(g, strlen(text) + 1);
    if (p != NULL) memcpy(p, text, strlen(text) + 1);
    return p;
}

__attribute__((format(printf, 2, 3))) static char *write_text(tsr_onnx_graph *g, const char *format,
                                                              ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return copy_text(g, text);
}

/* Room for one more of n items, in memory of the pool. */
static bool grow(void *list, size_t n, size_t *room, size_t item)
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

static void graph_close(tsr_onnx_graph *g)
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

static const char *new_name(tsr_onnx_graph *g, const char *stem)
{
    return write_text(g, "%s_%" PRId64, stem, ++g->names);
}

Onnx__NodeProto *tsr_onnx__node(const tsr_onnx_call *c, const char *op, const char *out,
                                const char *const *in, int n_in)
{
    tsr_onnx_graph *g = c->graph;
    if (out == NULL) out = new_name(g, op);
    Onnx__NodeProto *node = make(g, sizeof *node);
    char **names = make(g, ((size_t)n_in + 1) * sizeof *names), *type = copy_text(g, op);
    if (!ok() || !grow(&g->nodes, g->n_nodes, &g->nodes_room, sizeof *g->nodes)) return &g->nowhere;
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
    if (node->attribute == NULL) node->attribute = make(g, MOST * sizeof(void *));
    Onnx__AttributeProto *a = make(g, sizeof *a);
    if (!ok() || node->n_attribute == MOST) return NULL;
    onnx__attribute_proto__init(a);
    a->name = copy_text(g, name);
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
    int64_t *copy = make(c->graph, (size_t)n * sizeof *copy);
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
    char *text = copy_text(c->graph, v);
    if (a == NULL || text == NULL) return;
    a->has_s = true;
    a->s = (ProtobufCBinaryData){strlen(v), (uint8_t *)text};
}

/* ---- initializers ---- */

/* t under this name, which may be of a parameter's length. */
static const char *add_initializer(tsr_onnx_graph *g, const char *name, tsr_tensor *t)
{
    tsr_tensor *packed = tsr_tensor_packed(t);
    Onnx__TensorProto *p = make(g, sizeof *p);
    int64_t *dims = make(g, TSR_MAX_DIMS * sizeof *dims);
    if (packed == NULL || !ok() ||
        !grow(&g->tensors, g->n_tensors, &g->tensors_room, sizeof *g->tensors) ||
        !grow(&g->kept, g->n_kept, &g->kept_room, sizeof *g->kept)) {
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
    if (t == NULL || !ok()) return "";
    const char *name = new_name(c->graph, "constant");
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

/* Do both handles show the same elements? */
static bool is_same(const tsr_tensor *a, const tsr_tensor *b)
{
    if (a == b) return true;
    if (tsr_tensor_data(a) != tsr_tensor_data(b) || tsr_tensor_dtype(a) != tsr_tensor_dtype(b) ||
        !tsr_shape_equal(tsr_tensor_shape(a), tsr_tensor_shape(b))) {
        return false;
    }
    size_t n = (size_t)tsr_tensor_ndim(a);
    return memcmp(tsr_tensor_strides(a), tsr_tensor_strides(b), n * sizeof(int64_t)) == 0;
}

static value *find_value(tsr_onnx_graph *g, tsr_tensor *const *at)
{
    for (size_t i = g->n_values; i-- > 0;) {
        bool same = true;
        for (int t = 0; same && t < g->n_traces; t++) same = is_same(g->values[i].at[t], at[t]);
        if (same) return &g->values[i];
    }
    return NULL;
}

static value *add_value(tsr_onnx_graph *g, tsr_tensor *const *at, const char *name, bool constant)
{
    if (!grow(&g->values, g->n_values, &g->values_room, sizeof *g->values)) return NULL;
    value *v = &g->values[g->n_values++];
    *v = (value){.name = name, .constant = constant};
    for (int t = 0; t < g->n_traces; t++) v->at[t] = tsr_tensor_hold(at[t]);
    return v;
}

static bool same_data(tsr_tensor *a, tsr_tensor *b)
{
    if (is_same(a, b)) return true;
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

static bool all_same_data(const tsr_onnx_graph *g, tsr_tensor *const *at)
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

/* A constant of the traces: what no step made. */
static value *new_constant(const tsr_onnx_call *c, tsr_tensor *const *at, const char *what, int i)
{
    tsr_onnx_graph *g = c->graph;
    if (all_same_data(g, at)) return add_value(g, at, NULL, true);
    if (is_uniform(g, at)) {
        tsr_dtype dtype = tsr_tensor_dtype(at[0]);
        tsr_onnx_int v[TSR_MAX_DIMS] = {{{0}}};
        int n = tsr_tensor_ndim(at[0]);
        for (int d = 0; d < n; d++) {
            for (int t = 0; t < g->n_traces; t++) v[d].at[t] = tsr_tensor_size(at[t], d);
        }
        const char *one = tsr_onnx__constant_scalar(c, dtype, tsr_tensor_get(at[0], 0));
        const char *name = TSR_ONNX_VALUE(c, "Expand", one, tsr_onnx__ints(c, v, n));
        return add_value(g, at, name, false);
    }
    tsr_fail(
        TSR_STATUS_ARGUMENT,
        "onnx: %s %d of %s changes from run to run, but no operator computed it from the inputs",
        what, i, c->step[0] != NULL ? c->step[0]->op->name : "the function");
    return NULL;
}

static const char *constant_name(tsr_onnx_graph *g, const value *v)
{
    for (int64_t i = 0; g->state != NULL && i < g->state->n; i++) {
        if (is_same(g->state->at[i].tensor, v->at[0])) return copy_text(g, g->state->at[i].name);
    }
    return new_name(g, "constant");
}

static const char *name_of(tsr_onnx_graph *g, value *v)
{
    if (v == NULL || !ok()) return "";
    if (v->name == NULL) {
        const char *name = constant_name(g, v);
        if (name == NULL) return "";
        v->name = add_initializer(g, name, v->at[0]);
    }
    return v->name;
}

/* The tensor list.at[i] of a step, in each trace. */
static void gather(const tsr_onnx_call *c, size_t list, int i, tsr_tensor **at)
{
    for (int t = 0; t < c->n_traces; t++) {
        at[t] = ((const tsr_tensors *)(const void *)((const char *)c->step[t] + list))->at[i];
    }
}

#define GATHER(c, member, i, at) gather(c, offsetof(tsr_trace_step, member), i, at)

const char *tsr_onnx__saved(const tsr_onnx_call *c, int i)
{
    tsr_tensor *at[TSR_ONNX_TRACES];
    GATHER(c, saved, i, at);
    value *v = find_value(c->graph, at);
    return name_of(c->graph, v != NULL ? v : new_constant(c, at, "the index", i));
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
static int64_t multiple(const tsr_onnx_call *c, tsr_onnx_int v, const value *of, int d)
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
        value *of = &g->values[i];
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
    if (!grow(&g->dimensions, g->n_dimensions, &g->dimensions_room, sizeof *g->dimensions)) {
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

/* ---- steps ---- */

static bool lower(tsr_onnx_graph *g, tsr_trace *const *traces, tsr_tensor *const *const *outputs,
                  int n_outputs, int depth);

/* The same steps in all traces, on as many tensors? */
static bool same_steps(const tsr_onnx_graph *g, tsr_trace *const *traces)
{
    int64_t n = tsr_trace_length(traces[0]);
    for (int t = 1; t < g->n_traces; t++) {
        for (int64_t i = 0; i < n || i < tsr_trace_length(traces[t]); i++) {
            const tsr_trace_step *a = tsr_trace_at(traces[0], i), *b = tsr_trace_at(traces[t], i);
            if (a != NULL && b != NULL && a->op == b->op && a->inputs.n == b->inputs.n &&
                a->outputs.n == b->outputs.n && a->saved.n == b->saved.n) {
                continue;
            }
            tsr_fail(TSR_STATUS_ARGUMENT,
                     "onnx: operator %" PRId64
                     " is %s for one size of the inputs and %s for another: such a graph "
                     "cannot be written; fix that size",
                     i, a != NULL ? a->op->name : "none", b != NULL ? b->op->name : "none");
            return false;
        }
    }
    return true;
}

typedef struct list {
    tsr_tensor **at;
    size_t n, room;
} list;

static bool contains(const list *l, const tsr_tensor *t)
{
    for (size_t i = l->n; i-- > 0;) {
        if (is_same(l->at[i], t)) return true;
    }
    return false;
}

static void ask_for(list *l, tsr_tensors tensors)
{
    for (int i = 0; i < tensors.n; i++) {
        if (tensors.at[i] == NULL || contains(l, tensors.at[i])) continue;
        if (!grow(&l->at, l->n, &l->room, sizeof *l->at)) return;
        l->at[l->n++] = tensors.at[i];
    }
}

/* needed[i]: step i leads to one of the outputs. */
static bool *find_needed(tsr_trace *trace, tsr_tensors outputs)
{
    int64_t n = tsr_trace_length(trace);
    bool *needed = tsr_alloc((size_t)(n > 0 ? n : 1) * sizeof *needed);
    list asked = {0};
    ask_for(&asked, outputs);
    for (int64_t i = n; needed != NULL && i-- > 0;) {
        const tsr_trace_step *s = tsr_trace_at(trace, i);
        needed[i] = false;
        for (int o = 0; o < s->outputs.n; o++) {
            needed[i] = needed[i] || contains(&asked, s->outputs.at[o]);
        }
        if (!needed[i]) continue;
        ask_for(&asked, s->inputs);
        ask_for(&asked, s->saved);
    }
    tsr_free(asked.at);
    return ok() ? needed : (tsr_free(needed), NULL);
}

/* Runs the definition on the recorded inputs, and lowers that; the outputs become known under names of its own. */
static bool lower_definition(const tsr_onnx_call *c, int depth)
{
    const tsr_op *op = c->step[0]->op;
    if (op->definition == NULL || depth == MAX_DEPTH) {
        bool random = strcmp(op->name, "dropout") == 0 || strcmp(op->name, "drop_path") == 0;
        tsr_fail(TSR_STATUS_ARGUMENT, "onnx: %s cannot be written in ONNX%s", op->name,
                 random ? ": it is random; put the network into evaluation mode"
                        : " (it has neither a translation nor a definition)");
        return false;
    }
    tsr_onnx_graph *g = c->graph;
    size_t n = (size_t)c->step[0]->outputs.n;
    tsr_trace *traces[TSR_ONNX_TRACES] = {NULL};
    tsr_tensor **outputs[TSR_ONNX_TRACES] = {NULL};
    tsr_scope scope = tsr_scope_open();
    for (int t = 0; ok() && t < c->n_traces; t++) {
        outputs[t] = tsr_alloc(n * sizeof *outputs[t]);
        traces[t] = outputs[t] != NULL ? tsr_trace_open() : NULL;
        if (traces[t] == NULL) break;
        memset(outputs[t], 0, n * sizeof *outputs[t]);
        op->definition(c->step[t]->block, c->step[t]->inputs, outputs[t]);
        tsr_trace_end(traces[t]);
    }
    if (ok()) lower(g, traces, (tsr_tensor *const *const *)outputs, (int)n, depth + 1);
    for (size_t o = 0; ok() && o < n; o++) {
        tsr_tensor *inner[TSR_ONNX_TRACES], *outer[TSR_ONNX_TRACES];
        for (int t = 0; t < c->n_traces; t++) {
            inner[t] = outputs[t][o];
            outer[t] = c->step[t]->outputs.at[o];
        }
        value *v = find_value(g, inner);
        const char *name = name_of(g, v);
        if (ok()) add_value(g, outer, name, v->constant);
    }
    for (int t = 0; t < c->n_traces; t++) {
        tsr_trace_close(&traces[t]);
        tsr_free(outputs[t]);
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return ok();
}

/* The outputs of a step that is a constant: known by their data. */
static bool fold(const tsr_onnx_call *c)
{
    tsr_tensor *at[TSR_ONNX_TRACES];
    for (int o = 0; o < c->step[0]->outputs.n; o++) {
        GATHER(c, outputs, o, at);
        if (!all_same_data(c->graph, at)) return false;
    }
    for (int o = 0; o < c->step[0]->outputs.n; o++) {
        GATHER(c, outputs, o, at);
        add_value(c->graph, at, NULL, true);
    }
    return true;
}

static bool translate(tsr_onnx_call *c, value *const *in, const char **names, int depth)
{
    tsr_onnx_graph *g = c->graph;
    int n_in = c->step[0]->inputs.n, n_out = c->step[0]->outputs.n;
    const char **out = names + n_in;
    for (int o = 0; o < n_out; o++) out[o] = new_name(g, c->step[0]->op->name);
    for (int i = 0; i < n_in; i++) names[i] = in[i] != NULL ? name_of(g, in[i]) : "";
    if (!ok()) return false;
    c->in = names;
    c->out = out;
    if (!tsr_onnx__translate(c)) return ok() && lower_definition(c, depth);
    for (int o = 0; ok() && o < n_out; o++) {
        tsr_tensor *at[TSR_ONNX_TRACES];
        GATHER(c, outputs, o, at);
        add_value(g, at, out[o], false);
    }
    return ok();
}

static bool lower_step(tsr_onnx_call *c, int depth)
{
    tsr_onnx_graph *g = c->graph;
    const tsr_trace_step *s = c->step[0];
    tsr_tensor *at[TSR_ONNX_TRACES];
    bool known = true, constant = true;
    for (int o = 0; o < s->outputs.n; o++) {
        GATHER(c, outputs, o, at);
        known = known && find_value(g, at) != NULL; /* a view of all of its input */
    }
    if (known) return true;
    size_t n = (size_t)s->inputs.n;
    size_t *in = tsr_alloc((n + 1) * sizeof *in); /* values by number: their list moves */
    value **values = tsr_alloc((n + 1) * sizeof *values);
    const char **names = tsr_alloc((n + (size_t)s->outputs.n + 1) * sizeof *names);
    for (size_t i = 0; ok() && i < n; i++) {
        GATHER(c, inputs, (int)i, at);
        in[i] = SIZE_MAX;
        if (at[0] == NULL) continue;
        value *v = find_value(g, at);
        if (v == NULL) v = new_constant(c, at, "input", (int)i);
        if (v == NULL) break;
        in[i] = (size_t)(v - g->values);
        constant = constant && v->constant;
    }
    if (ok() && !(constant && fold(c))) {
        for (size_t i = 0; i < n; i++) values[i] = in[i] == SIZE_MAX ? NULL : &g->values[in[i]];
        translate(c, values, names, depth);
    }
    tsr_free(in);
    tsr_free(values);
    tsr_free(names);
    return ok();
}

/* Nodes for all steps that lead to the outputs; afterwards each output is a value. */
static bool lower(tsr_onnx_graph *g, tsr_trace *const *traces, tsr_tensor *const *const *outputs,
                  int n_outputs, int depth)
{
    if (!same_steps(g, traces)) return false;
    bool *needed =
        find_needed(traces[0], (tsr_tensors){(tsr_tensor *const *)outputs[0], n_outputs});
    if (needed == NULL) return false;
    tsr_onnx_call c = {.graph = g, .n_traces = g->n_traces};
    for (int64_t i = 0; ok() && i < tsr_trace_length(traces[0]); i++) {
        if (!needed[i]) continue;
        for (int t = 0; t < g->n_traces; t++) c.step[t] = tsr_trace_at(traces[t], i);
        tsr_scope scope = tsr_scope_open();
        lower_step(&c, depth);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
    tsr_free(needed);
    memset(c.step, 0, sizeof c.step);
    for (int o = 0; ok() && o < n_outputs; o++) {
        tsr_tensor *at[TSR_ONNX_TRACES];
        for (int t = 0; t < g->n_traces; t++) at[t] = outputs[t][o];
        if (find_value(g, at) == NULL) new_constant(&c, at, "output", o);
    }
    return ok();
}

/* ---- runs ---- */

typedef struct request {
    tsr_function *f;
    void *user;
    const tsr_onnx_input *inputs;
    int n_inputs;
    const char *const *output_names;
    int n_outputs;
    const tsr_onnx_options *options;
} request;

typedef struct runs {
    int n;
    tsr_trace *traces[TSR_ONNX_TRACES];
    tsr_tensor **inputs[TSR_ONNX_TRACES], **outputs[TSR_ONNX_TRACES];
} runs;

/* The names of sizes that change: the first alone in the second run, the others in the third. */
static int find_symbols(const request *r, const char *symbols[], int most)
{
    int n = 0;
    for (int i = 0; i < r->n_inputs; i++) {
        for (int d = 0; d < tsr_tensor_ndim(r->inputs[i].example); d++) {
            const char *name = r->inputs[i].dynamic[d].name;
            int k = 0;
            while (name != NULL && k < n && strcmp(symbols[k], name) != 0) k++;
            if (name == NULL || k < n) continue;
            if (n == most) {
                tsr_fail(TSR_STATUS_ARGUMENT, "onnx: more than %d names of sizes", most);
                return n;
            }
            symbols[n++] = name;
        }
    }
    return n;
}

/* What input i is in run t: the example, or its elements in another order in another shape. */
static tsr_tensor *make_input(const request *r, int i, int t, const char *const *symbols, int n)
{
    const tsr_onnx_input *in = &r->inputs[i];
    tsr_shape shape = tsr_tensor_shape(in->example);
    if (t == 0) return in->example;
    for (int d = 0; d < shape.ndim; d++) {
        int k = 0;
        if (in->dynamic[d].name == NULL) continue;
        while (k < n && strcmp(symbols[k], in->dynamic[d].name) != 0) k++;
        int64_t step = in->dynamic[d].step != 0 ? in->dynamic[d].step : 1;
        if (t == 1 && k == 0) shape.size[d] += step;
        if (t == 2 && k > 0) shape.size[d] += step * k;
    }
    tsr_tensor *x = tsr_tensor_packed(in->example);
    tsr_tensor *y = tsr_empty(tsr_tensor_dtype(in->example), shape);
    int64_t from = tsr_tensor_numel(x), to = tsr_tensor_numel(y);
    if (y == NULL || x == NULL || from == 0) return y;
    size_t size = tsr_dtype_size(tsr_tensor_dtype(x));
    const char *source = tsr_tensor_data(x);
    char *target = tsr_tensor_data_mut(y);
    tsr_rng rng = tsr_rng_make((uint64_t)t, 0, (uint32_t)i, tsr_rng_purpose("onnx"));
    for (int64_t e = 0; e < to; e++) {
        memcpy(target + (size_t)e * size, source + (size_t)tsr_rng_below(&rng, from) * size, size);
    }
    return y;
}

/* All in the scope that is open. */
static bool run_all(const request *r, runs *all)
{
    const char *symbols[4];
    int n = find_symbols(r, symbols, 4);
    all->n = n < 2 ? 2 : 3; /* at least two: what changes with the values alone is no constant */
    for (int t = 0; ok() && t < all->n; t++) {
        all->inputs[t] = tsr_alloc((size_t)r->n_inputs * sizeof(tsr_tensor *));
        all->outputs[t] = tsr_alloc((size_t)r->n_outputs * sizeof(tsr_tensor *));
        if (all->inputs[t] == NULL || all->outputs[t] == NULL) return false;
        memset(all->outputs[t], 0, (size_t)r->n_outputs * sizeof(tsr_tensor *));
        for (int i = 0; i < r->n_inputs; i++) all->inputs[t][i] = make_input(r, i, t, symbols, n);
        if (!ok()) return false;
        all->traces[t] = tsr_trace_open();
        bool was = tsr_recording_set(false);
        r->f((tsr_tensors){all->inputs[t], r->n_inputs}, all->outputs[t], r->n_outputs, r->user);
        tsr_recording_set(was);
        tsr_trace_end(all->traces[t]);
        for (int o = 0; ok() && o < r->n_outputs; o++) {
            if (all->outputs[t][o] == NULL) {
                tsr_fail(TSR_STATUS_ARGUMENT, "onnx: the function left output %d NULL", o);
            }
        }
    }
    return ok();
}

static void close_runs(runs *all)
{
    for (int t = 0; t < all->n; t++) {
        tsr_trace_close(&all->traces[t]);
        tsr_free(all->inputs[t]);
        tsr_free(all->outputs[t]);
    }
}

/* ---- the model ---- */

/* Sizes that differ between the runs get the name that an input gives them, or one of their own. */
static Onnx__ValueInfoProto *describe(tsr_onnx_graph *g, const request *r, const runs *all,
                                      const char *name, tsr_tensor *const *at)
{
    Onnx__ValueInfoProto *info = make(g, sizeof *info);
    Onnx__TypeProto *type = make(g, sizeof *type);
    Onnx__TypeProto__Tensor *tensor = make(g, sizeof *tensor);
    Onnx__TensorShapeProto *shape = make(g, sizeof *shape);
    if (!ok()) return NULL;
    onnx__value_info_proto__init(info);
    onnx__type_proto__init(type);
    onnx__type_proto__tensor__init(tensor);
    onnx__tensor_shape_proto__init(shape);
    int n = tsr_tensor_ndim(at[0]);
    shape->dim = make(g, (size_t)n * sizeof *shape->dim);
    for (int d = 0; d < n; d++) {
        Onnx__TensorShapeProto__Dimension *dim = make(g, sizeof *dim);
        if (!ok()) return NULL;
        onnx__tensor_shape_proto__dimension__init(dim);
        bool fixed = true;
        for (int t = 1; t < all->n; t++) {
            fixed = fixed && tsr_tensor_size(at[t], d) == tsr_tensor_size(at[0], d);
        }
        dim->value_case = fixed ? ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE
                                : ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
        if (fixed) {
            dim->dim_value = tsr_tensor_size(at[0], d);
        } else {
            dim->dim_param = NULL;
            for (int i = 0; i < r->n_inputs && dim->dim_param == NULL; i++) {
                for (int e = 0; e < tsr_tensor_ndim(all->inputs[0][i]); e++) {
                    bool same = r->inputs[i].dynamic[e].name != NULL;
                    for (int t = 0; same && t < all->n; t++) {
                        same = tsr_tensor_size(all->inputs[t][i], e) == tsr_tensor_size(at[t], d);
                    }
                    if (same) dim->dim_param = copy_text(g, r->inputs[i].dynamic[e].name);
                    if (same) break;
                }
            }
            if (dim->dim_param == NULL) dim->dim_param = write_text(g, "%s_%d", name, d);
        }
        shape->dim[shape->n_dim++] = dim;
    }
    tensor->has_elem_type = true;
    tensor->elem_type = tsr_onnx__type(tsr_tensor_dtype(at[0]));
    tensor->shape = shape;
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = tensor;
    info->name = (char *)name;
    info->type = type;
    if (tensor->elem_type == 0) {
        tsr_fail(TSR_STATUS_DTYPE, "onnx: %s is %s, which is not written", name,
                 tsr_dtype_name(tsr_tensor_dtype(at[0])));
    }
    return info;
}

static bool add_inputs(tsr_onnx_graph *g, const request *r, const runs *all,
                       Onnx__GraphProto *graph)
{
    graph->input = make(g, (size_t)r->n_inputs * sizeof *graph->input);
    for (int i = 0; ok() && i < r->n_inputs; i++) {
        tsr_tensor *at[TSR_ONNX_TRACES];
        for (int t = 0; t < all->n; t++) at[t] = all->inputs[t][i];
        const char *name = copy_text(g, r->inputs[i].name);
        graph->input[graph->n_input++] = describe(g, r, all, name, at);
        add_value(g, at, name, false);
    }
    return ok();
}

static bool add_outputs(tsr_onnx_graph *g, const request *r, const runs *all,
                        Onnx__GraphProto *graph)
{
    tsr_onnx_call c = {.graph = g, .n_traces = g->n_traces};
    graph->output = make(g, (size_t)r->n_outputs * sizeof *graph->output);
    for (int o = 0; ok() && o < r->n_outputs; o++) {
        tsr_tensor *at[TSR_ONNX_TRACES];
        for (int t = 0; t < all->n; t++) at[t] = all->outputs[t][o];
        const char *name = copy_text(g, r->output_names[o]);
        if (name != NULL) TSR_ONNX_NODE(&c, "Identity", name, name_of(g, find_value(g, at)));
        graph->output[graph->n_output++] = describe(g, r, all, name, at);
    }
    return ok();
}

static Onnx__StringStringEntryProto *new_pair(tsr_onnx_graph *g, const char *key, const char *text)
{
    Onnx__StringStringEntryProto *p = make(g, sizeof *p);
    if (p == NULL) return NULL;
    onnx__string_string_entry_proto__init(p);
    p->key = copy_text(g, key);
    p->value = copy_text(g, text);
    return p;
}

/* A constant whose operator was written by its definition may be used by no node. */
static void drop_unused(tsr_onnx_graph *g)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n_tensors; i++) {
        bool used = false;
        for (size_t k = 0; !used && k < g->n_nodes; k++) {
            for (size_t j = 0; j < g->nodes[k]->n_input; j++) {
                used = used || g->nodes[k]->input[j] == g->tensors[i]->name;
            }
        }
        if (used) g->tensors[n++] = g->tensors[i];
    }
    g->n_tensors = n;
}

static Onnx__ModelProto *finish_model(tsr_onnx_graph *g, const tsr_onnx_options *o,
                                      Onnx__GraphProto *graph)
{
    Onnx__ModelProto *model = make(g, sizeof *model);
    Onnx__OperatorSetIdProto *set = make(g, sizeof *set), **sets = make(g, sizeof *sets);
    if (!ok()) return NULL;
    onnx__model_proto__init(model);
    onnx__operator_set_id_proto__init(set);
    set->domain = copy_text(g, "");
    set->has_version = true;
    set->version = TSR_ONNX_OPSET;
    *sets = set;
    model->has_ir_version = true;
    model->ir_version = TSR_ONNX_IR_VERSION;
    model->producer_name = copy_text(g, "Tessera");
    model->n_opset_import = 1;
    model->opset_import = sets;
    drop_unused(g);
    graph->name = copy_text(g, "tessera");
    graph->n_node = g->n_nodes;
    graph->node = g->nodes;
    graph->n_initializer = g->n_tensors;
    graph->initializer = g->tensors;
    model->graph = graph;
    model->metadata_props = make(g, (size_t)o->n_metadata * sizeof *model->metadata_props);
    for (int64_t i = 0; ok() && i < o->n_metadata; i++) {
        model->metadata_props[model->n_metadata_props++] =
            new_pair(g, o->metadata[i].key, o->metadata[i].value);
    }
    return ok() ? model : NULL;
}

/* ---- comparing ---- */

static double difference(tsr_tensor *a, tsr_tensor *b)
{
    double worst = 0.0, largest = 0.0;
    if (!tsr_shape_equal(tsr_tensor_shape(a), tsr_tensor_shape(b))) return INFINITY;
    for (int64_t i = 0; i < tsr_tensor_numel(b); i++) {
        double x = tsr_tensor_get(a, i), y = tsr_tensor_get(b, i);
        if (x == y || (isnan(x) && isnan(y))) continue;
        double d = fabs(x - y);
        if (!(d <= worst)) worst = isnan(d) ? INFINITY : d;
        largest = fmax(largest, fabs(y));
    }
    for (int64_t i = 0; i < tsr_tensor_numel(b); i++) {
        double y = fabs(tsr_tensor_get(b, i));
        if (isfinite(y)) largest = fmax(largest, y);
    }
    return worst == 0.0 ? 0.0 : worst / largest;
}

static tsr_status compare(const request *r, const runs *all, Onnx__ModelProto *model,
                          tsr_onnx_report *report)
{
    double tolerance = r->options->tolerance > 0.0 ? r->options->tolerance : 1e-4;
    tsr_onnx *m = tsr_onnx__of(model, "what was to be written");
    tsr_tensor **outputs = tsr_alloc((size_t)r->n_outputs * sizeof *outputs);
    for (int t = 0; m != NULL && outputs != NULL && ok() && t < all->n; t++) {
        tsr_scope scope = tsr_scope_open();
        tsr_onnx_run(m, (tsr_tensors){all->inputs[t], r->n_inputs}, outputs);
        for (int o = 0; ok() && o < r->n_outputs; o++) {
            double d = difference(outputs[o], all->outputs[t][o]);
            report->difference = fmax(report->difference, d);
            if (d <= tolerance) continue;
            char text[TSR_SHAPE_TEXT];
            tsr_fail(TSR_STATUS_NUMERIC,
                     "onnx: output %s %s of the graph differs from the function's by %.3g of its "
                     "largest value, expected at most %g",
                     r->output_names[o], tsr_shape_text(tsr_tensor_shape(all->outputs[t][o]), text),
                     d, tolerance);
        }
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        report->runs++;
    }
    tsr_free(outputs);
    tsr_onnx_close(&m);
    return tsr_status_get();
}

/* ---- files ---- */

typedef struct sink {
    ProtobufCBuffer base;
    tsr_atomic_file *file;
} sink;

static void append(ProtobufCBuffer *buffer, size_t bytes, const uint8_t *data)
{
    tsr_atomic_file__write(((sink *)(void *)buffer)->file, data, bytes);
}

/* The large initializers to path + ".data", each at a multiple of 64; the model then says where they are. */
static tsr_status write_external(tsr_onnx_graph *g, const char *path)
{
    char name[TSR_CHECKPOINT_PATH];
    if (snprintf(name, sizeof name, "%s.data", path) >= (int)sizeof name) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "onnx: the path %.60s... is too long", path);
    }
    const char *slash = strrchr(name, '/'), *base = slash != NULL ? slash + 1 : name;
    tsr_atomic_file *file = tsr_atomic_file__create("onnx", name);
    if (file == NULL) return tsr_status_get();
    uint64_t at = 0;
    static const uint8_t zeros[64];
    for (size_t i = 0; ok() && i < g->n_tensors; i++) {
        Onnx__TensorProto *t = g->tensors[i];
        uint64_t bytes = t->raw_data.len, gap = -at & 63;
        if (bytes < INLINE_BYTES) continue;
        tsr_atomic_file__write(file, zeros, (size_t)gap);
        tsr_atomic_file__write(file, t->raw_data.data, t->raw_data.len);
        at += gap;
        const char *offset = write_text(g, "%" PRIu64, at);
        const char *length = write_text(g, "%" PRIu64, bytes);
        Onnx__StringStringEntryProto **pairs = make(g, 3 * sizeof *pairs);
        if (!ok()) break;
        pairs[0] = new_pair(g, "location", base);
        pairs[1] = new_pair(g, "offset", offset);
        pairs[2] = new_pair(g, "length", length);
        t->n_external_data = 3;
        t->external_data = pairs;
        t->has_data_location = true;
        t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
        t->has_raw_data = false;
        at += bytes;
    }
    if (ok()) return tsr_atomic_file__commit(&file);
    tsr_atomic_file__abandon(&file);
    return tsr_status_get();
}

static tsr_status write_model(const char *path, const Onnx__ModelProto *model)
{
    sink s = {{append}, tsr_atomic_file__create("onnx", path)};
    if (s.file == NULL) return tsr_status_get();
    protobuf_c_message_pack_to_buffer(&model->base, &s.base);
    return tsr_atomic_file__commit(&s.file);
}

static tsr_status check_arguments(const request *r)
{
    for (int i = 0; i < r->n_inputs + r->n_outputs; i++) {
        bool in = i < r->n_inputs;
        const char *name = in ? r->inputs[i].name : r->output_names[i - r->n_inputs];
        if (name == NULL || !tsr_name__is_valid(name)) {
            return tsr_fail(TSR_STATUS_ARGUMENT, "onnx: %s %d has no name, or one that is not text",
                            in ? "input" : "output", in ? i : i - r->n_inputs);
        }
        for (int k = 0; k < i; k++) {
            const char *other =
                k < r->n_inputs ? r->inputs[k].name : r->output_names[k - r->n_inputs];
            if (strcmp(name, other) != 0) continue;
            return tsr_fail(TSR_STATUS_ARGUMENT, "onnx: two inputs or outputs are named \"%s\"",
                            name);
        }
        if (in && r->inputs[i].example == NULL) {
            return tsr_fail(TSR_STATUS_ARGUMENT, "onnx: input \"%s\" has no example", name);
        }
    }
    if (r->n_inputs < 1 || r->n_outputs < 1) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "onnx: got %d inputs and %d outputs, expected some",
                        r->n_inputs, r->n_outputs);
    }
    return TSR_STATUS_OK;
}

static void export(const char *path, const request *r, tsr_onnx_graph *g, runs *all,
                   tsr_onnx_report *report)
{
    g->nowhere_output[0] = "";
    onnx__node_proto__init(&g->nowhere);
    g->nowhere.output = g->nowhere_output;
    if (!run_all(r, all)) return;
    g->n_traces = all->n;
    if (r->options->module != NULL) g->state = tsr_module_state(r->options->module);
    Onnx__GraphProto *graph = make(g, sizeof *graph);
    if (graph == NULL) return;
    onnx__graph_proto__init(graph);
    if (!add_inputs(g, r, all, graph) ||
        !lower(g, all->traces, (tsr_tensor *const *const *)all->outputs, r->n_outputs, 0) ||
        !add_outputs(g, r, all, graph)) {
        return;
    }
    Onnx__ModelProto *model = finish_model(g, r->options, graph);
    if (model == NULL || compare(r, all, model, report) != TSR_STATUS_OK) return;
    for (size_t i = 0; i < g->n_tensors; i++) report->weight_bytes += g->tensors[i]->raw_data.len;
    report->nodes = (int)g->n_nodes;
    report->initializers = (int)g->n_tensors;
    uint64_t most = r->options->single_file_bytes;
    if (most == 0) most = single_file_bytes;
    report->external = r->options->external || report->weight_bytes > most;
    if (report->external && write_external(g, path) != TSR_STATUS_OK) return;
    write_model(path, model);
}

tsr_status tsr_onnx_export(const char *path, tsr_function *f, void *user,
                           const tsr_onnx_input *inputs, int n_inputs,
                           const char *const *output_names, int n_outputs,
                           const tsr_onnx_options *options, tsr_onnx_report *report)
{
    static const tsr_onnx_options none = {0};
    request r = {
        f, user, inputs, n_inputs, output_names, n_outputs, options != NULL ? options : &none};
    tsr_onnx_report unwanted, *out = report != NULL ? report : &unwanted;
    *out = (tsr_onnx_report){0};
    if (check_arguments(&r) != TSR_STATUS_OK || !ok()) return tsr_status_get();
    tsr_onnx_graph g = {0};
    runs all = {0};
    tsr_scope scope = tsr_scope_open();
    export(path, &r, &g, &all, out);
    close_runs(&all);
    graph_close(&g);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_status_get();
}
