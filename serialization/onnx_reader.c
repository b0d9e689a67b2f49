/*
 * ONNX, reading. Opening unpacks the file within a limit of memory, and checks that each name is defined once and before its
 * use, that operators, types and versions are known, and that data has the size of its shape; values then go by number.
 * Running makes the data of initializers when it is first used, and gives everything back after its last use.
 */
#include "serialization/onnx.h"
#include "serialization/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ELEMENTS_MAX_LOG2 = 31 };

typedef struct value {
    const char *name;
    const Onnx__TensorProto *initializer; /* NULL: an input or a node's output */
    uint64_t offset;                      /* of external data */
    int64_t last_use;                     /* the number of the node; INT64_MAX: an output */
    tsr_tensor *tensor;                   /* held, while running */
} value;

struct tsr_onnx {
    Onnx__ModelProto *model;
    bool owned;
    char *name;
    bool has_data;
    tsr_source data; /* external */
    value *values;
    int32_t n_values;
    int32_t *table; /* open addressing: number + 1 */
    int32_t table_size;
    int32_t *node_inputs; /* of all nodes, one after another; -1: absent */
    int32_t *outputs;     /* of the graph */
    int64_t most;         /* elements of a tensor */
    bool weights;         /* initializers alone are looked at: nothing can run */
};

/* ---- memory for unpacking: at most so many bytes ---- */

typedef struct budget {
    ProtobufCAllocator base;
    size_t left;
} budget;

static void *budget_alloc(void *user, size_t bytes)
{
    budget *b = user;
    if (bytes > b->left) return NULL;
    b->left -= bytes;
    return malloc(bytes);
}

static void budget_free(void *user, void *p)
{
    (void)user;
    free(p);
}

/* ---- names ---- */

static uint32_t hash_of(const char *name)
{
    uint32_t h = 2166136261u;
    for (; *name != '\0'; name++) h = (h ^ (uint8_t)*name) * 16777619u;
    return h;
}

static int32_t *entry_of(const tsr_onnx *m, const char *name)
{
    uint32_t mask = (uint32_t)m->table_size - 1, at = hash_of(name) & mask;
    while (m->table[at] != 0 && strcmp(m->values[m->table[at] - 1].name, name) != 0) {
        at = (at + 1) & mask;
    }
    return &m->table[at];
}

static tsr_status fail(const tsr_onnx *m, const char *what, const char *name)
{
    return tsr_fail(TSR_STATUS_FORMAT, "onnx: %s: %s \"%.100s\"", m->name, what, name);
}

/* A new value; -1 where the name is bad or taken. */
static int32_t define(tsr_onnx *m, const char *name)
{
    if (name == NULL || !tsr_name__is_valid(name)) {
        tsr_fail(TSR_STATUS_FORMAT, "onnx: %s: a value has no name, or one that is not text",
                 m->name);
        return -1;
    }
    int32_t *entry = entry_of(m, name);
    if (*entry != 0) {
        fail(m, "two values are named", name);
        return -1;
    }
    m->values[m->n_values] = (value){.name = name, .last_use = -1};
    *entry = ++m->n_values;
    return m->n_values - 1;
}

static int32_t find(const tsr_onnx *m, const char *name)
{
    return *entry_of(m, name) - 1;
}

/* ---- what a file says ---- */

static const char *text_of(size_t n, Onnx__StringStringEntryProto *const *pairs, const char *key)
{
    for (size_t i = 0; i < n; i++) {
        if (pairs[i]->key != NULL && pairs[i]->value != NULL && strcmp(pairs[i]->key, key) == 0) {
            return pairs[i]->value;
        }
    }
    return NULL;
}

/* Decimal digits alone. */
static bool parse_number(const char *text, uint64_t *number)
{
    if (text == NULL || *text == '\0' || strlen(text) > 18) return false;
    *number = 0;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') return false;
        *number = *number * 10 + (uint64_t)(*text - '0');
    }
    return true;
}

static bool shape_of(const Onnx__TensorProto *t, tsr_shape *shape)
{
    *shape = TSR_SHAPE_SCALAR;
    if (t->n_dims > TSR_MAX_DIMS) return false;
    for (size_t d = 0; d < t->n_dims; d++) shape->size[shape->ndim++] = t->dims[d];
    int64_t numel = tsr_shape_numel(*shape);
    return numel >= 0 && numel <= (INT64_C(1) << 40);
}

static tsr_status open_data(tsr_onnx *m, const char *path, const char *location)
{
    char beside[TSR_CHECKPOINT_PATH];
    if (path == NULL || strchr(location, '/') != NULL || !tsr_name__is_valid(location)) {
        return tsr_fail(TSR_STATUS_FORMAT,
                        "onnx: %s: its data is in \"%.100s\", expected a file beside it", m->name,
                        tsr_name__is_valid(location) ? location : "");
    }
    const char *slash = strrchr(path, '/');
    int folder = slash != NULL ? (int)(slash - path) + 1 : 0;
    if (snprintf(beside, sizeof beside, "%.*s%s", folder, path, location) >= (int)sizeof beside) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "onnx: the path %.60s... is too long", path);
    }
    tsr_status status = tsr_source__open(&m->data, "onnx", beside);
    m->has_data = status == TSR_STATUS_OK;
    return status;
}

static tsr_status check_initializer(tsr_onnx *m, const Onnx__TensorProto *t, value *v,
                                    const char *path)
{
    tsr_shape shape;
    tsr_dtype dtype = tsr_onnx__dtype(t->has_data_type ? t->data_type : 0);
    if (dtype == TSR_DTYPE_COUNT) return fail(m, "a type that is not read in", v->name);
    if (!shape_of(t, &shape)) return fail(m, "a shape out of range in", v->name);
    uint64_t bytes = (uint64_t)tsr_shape_numel(shape) * tsr_dtype_size(dtype), length;
    v->initializer = t;
    bool external =
        t->has_data_location && t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    if (external) {
        const char *location = text_of(t->n_external_data, t->external_data, "location");
        if (location == NULL ||
            !parse_number(text_of(t->n_external_data, t->external_data, "offset"), &v->offset) ||
            !parse_number(text_of(t->n_external_data, t->external_data, "length"), &length)) {
            return fail(m, "no place of the data of", v->name);
        }
        if (!m->has_data && open_data(m, path, location) != TSR_STATUS_OK) return tsr_status_get();
        if (v->offset > m->data.size || length > m->data.size - v->offset) {
            return fail(m, "the file of the data ends before that of", v->name);
        }
    } else if (t->has_raw_data || t->n_float_data == 0) {
        length = t->raw_data.len;
    } else {
        length = dtype == TSR_DTYPE_F32 ? 4 * (uint64_t)t->n_float_data : 0;
    }
    if (length == bytes) return TSR_STATUS_OK;
    char text[TSR_SHAPE_TEXT];
    return tsr_fail(
        TSR_STATUS_FORMAT,
        "onnx: %s: \"%.100s\" has %" PRIu64 " bytes of data, expected %" PRIu64 " (%s %s)", m->name,
        v->name, length, bytes, tsr_dtype_name(dtype), tsr_shape_text(shape, text));
}

static tsr_status check_input(const tsr_onnx *m, const Onnx__ValueInfoProto *info)
{
    const Onnx__TypeProto *type = info->type;
    if (type == NULL || type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE ||
        type->tensor_type->shape == NULL || type->tensor_type->shape->n_dim > TSR_MAX_DIMS ||
        tsr_onnx__dtype(type->tensor_type->elem_type) == TSR_DTYPE_COUNT) {
        return fail(m, "an input that is no tensor of a known type and shape:", info->name);
    }
    return TSR_STATUS_OK;
}

static tsr_status check_node(tsr_onnx *m, int64_t number, int32_t **inputs)
{
    const Onnx__NodeProto *node = m->model->graph->node[number];
    const char *type =
        node->op_type != NULL && tsr_name__is_valid(node->op_type) ? node->op_type : "";
    const tsr_onnx_operator *op = tsr_onnx__operator(type);
    if (op == NULL || (node->domain != NULL && node->domain[0] != '\0')) {
        return fail(m, "there is no operator", type);
    }
    if (node->n_input < (size_t)op->least || node->n_input > (size_t)op->most ||
        node->n_output != 1) {
        return tsr_fail(TSR_STATUS_FORMAT,
                        "onnx: %s: node %" PRId64
                        " (%s) has %zu inputs and %zu outputs, expected %d to %d and 1",
                        m->name, number, type, node->n_input, node->n_output, op->least, op->most);
    }
    for (size_t i = 0; i < node->n_input; i++) {
        const char *name = node->input[i];
        int32_t at = -1;
        if (name[0] != '\0' || i < (size_t)op->least) {
            if (!tsr_name__is_valid(name)) return fail(m, "an input without a name of a", type);
            at = find(m, name);
            if (at < 0) return fail(m, "nothing before its use defines", name);
            m->values[at].last_use = number;
        }
        *(*inputs)++ = at;
    }
    for (size_t i = 0; i < node->n_attribute; i++) {
        const char *name = node->attribute[i]->name;
        if (name == NULL || !tsr_name__is_valid(name)) {
            return fail(m, "an attribute without a name of a", type);
        }
    }
    int32_t out = define(m, node->output[0]);
    if (out < 0) return tsr_status_get();
    m->values[out].last_use = number; /* gone at once where nothing uses it */
    return TSR_STATUS_OK;
}

static tsr_status check_versions(const tsr_onnx *m)
{
    const Onnx__ModelProto *p = m->model;
    int64_t opset = -1;
    for (size_t i = 0; i < p->n_opset_import; i++) {
        const Onnx__OperatorSetIdProto *s = p->opset_import[i];
        if (s->domain == NULL || s->domain[0] == '\0') opset = s->version;
    }
    if (opset == TSR_ONNX_OPSET) return TSR_STATUS_OK;
    return tsr_fail(TSR_STATUS_FORMAT, "onnx: %s: operator set %" PRId64 ", expected %d", m->name,
                    opset, TSR_ONNX_OPSET);
}

static tsr_status check_graph(const tsr_onnx *m)
{
    if (m->model->graph != NULL) return TSR_STATUS_OK;
    return tsr_fail(TSR_STATUS_FORMAT, "onnx: %s: no graph: not an ONNX model", m->name);
}

static bool make_tables(tsr_onnx *m)
{
    const Onnx__GraphProto *g = m->model->graph;
    size_t n = g->n_input + g->n_initializer + g->n_node, inputs = 0, table = 16;
    for (size_t i = 0; i < g->n_node; i++) inputs += g->node[i]->n_input;
    if (n > INT32_MAX / 4 || inputs > INT32_MAX / 4 || g->n_output > INT32_MAX / 4) {
        tsr_fail(TSR_STATUS_FORMAT, "onnx: %s: more than %d values", m->name, INT32_MAX / 4);
        return false;
    }
    while (table < 2 * n) table *= 2;
    m->table_size = (int32_t)table;
    m->values = calloc(n + 1, sizeof *m->values);
    m->table = calloc(table, sizeof *m->table);
    m->node_inputs = calloc(inputs + 1, sizeof *m->node_inputs);
    m->outputs = calloc(g->n_output + 1, sizeof *m->outputs);
    if (m->values != NULL && m->table != NULL && m->node_inputs != NULL && m->outputs != NULL) {
        return true;
    }
    tsr_fail(TSR_STATUS_MEMORY, "onnx: out of memory");
    return false;
}

static tsr_status check_initializers(tsr_onnx *m, const char *path)
{
    const Onnx__GraphProto *g = m->model->graph;
    for (size_t i = 0; i < g->n_initializer; i++) {
        int32_t at = define(m, g->initializer[i]->name);
        if (at < 0 ||
            check_initializer(m, g->initializer[i], &m->values[at], path) != TSR_STATUS_OK) {
            return tsr_status_get();
        }
    }
    return TSR_STATUS_OK;
}

static tsr_status check(tsr_onnx *m, const char *path)
{
    if (check_graph(m) != TSR_STATUS_OK) return tsr_status_get();
    if (m->weights) return make_tables(m) ? check_initializers(m, path) : tsr_status_get();
    if (check_versions(m) != TSR_STATUS_OK || !make_tables(m)) return tsr_status_get();
    const Onnx__GraphProto *g = m->model->graph;
    for (size_t i = 0; i < g->n_input; i++) {
        if (define(m, g->input[i]->name) < 0 || check_input(m, g->input[i]) != TSR_STATUS_OK) {
            return tsr_status_get();
        }
    }
    if (check_initializers(m, path) != TSR_STATUS_OK) return tsr_status_get();
    int32_t *inputs = m->node_inputs;
    for (size_t i = 0; i < g->n_node; i++) {
        if (check_node(m, (int64_t)i, &inputs) != TSR_STATUS_OK) return tsr_status_get();
    }
    for (size_t i = 0; i < g->n_output; i++) {
        const char *name = g->output[i]->name;
        if (name == NULL || !tsr_name__is_valid(name)) {
            return fail(m, "an output without a name", "");
        }
        m->outputs[i] = find(m, name);
        if (m->outputs[i] < 0) return fail(m, "nothing defines the output", name);
        m->values[m->outputs[i]].last_use = INT64_MAX;
    }
    return TSR_STATUS_OK;
}

/* ---- opening ---- */

static tsr_onnx *new_model(Onnx__ModelProto *model, bool owned, bool weights, const char *name,
                           const char *path)
{
    tsr_onnx *m = calloc(1, sizeof *m);
    if (m != NULL) {
        *m = (tsr_onnx){.model = model, .owned = owned, .weights = weights, .name = strdup(name)};
    }
    if (m == NULL || m->name == NULL) {
        tsr_fail(TSR_STATUS_MEMORY, "onnx: out of memory");
        if (m == NULL && owned) onnx__model_proto__free_unpacked(model, NULL);
        free(m);
        return NULL;
    }
    m->most = INT64_C(1) << ELEMENTS_MAX_LOG2;
    if (check(m, path) != TSR_STATUS_OK) tsr_onnx_close(&m);
    return m;
}

tsr_onnx *tsr_onnx__of(Onnx__ModelProto *model, const char *name)
{
    return new_model(model, false, false, name, NULL);
}

/* path: beside which external data may be; NULL: it may not. */
static tsr_onnx *unpack(const void *data, size_t bytes, bool weights, const char *name,
                        const char *path)
{
    budget b = {{budget_alloc, budget_free, &b}, 1u << 16};
    b.left += bytes < SIZE_MAX / 64 ? 32 * bytes : bytes;
    Onnx__ModelProto *model = onnx__model_proto__unpack(&b.base, bytes, data);
    if (model == NULL) {
        tsr_fail(TSR_STATUS_FORMAT, "onnx: %s: truncated, or not an ONNX model", name);
        return NULL;
    }
    return new_model(model, true, weights, name, path);
}

tsr_onnx *tsr_onnx_open_memory(const void *data, size_t bytes)
{
    return unpack(data, bytes, false, "(memory)", NULL);
}

static tsr_onnx *open_source(const tsr_source *source, bool weights)
{
    if (source->fd < 0)
        return unpack(source->memory, (size_t)source->size, weights, source->name, NULL);
    if (source->size > INT32_MAX) {
        tsr_fail(TSR_STATUS_FORMAT, "onnx: %s: %" PRIu64 " bytes, expected less than 2 GiB",
                 source->name, source->size);
        return NULL;
    }
    tsr_onnx *m = NULL;
    void *data = malloc(source->size > 0 ? (size_t)source->size : 1);
    if (data == NULL) {
        tsr_fail(TSR_STATUS_MEMORY, "onnx: out of memory");
    } else if (tsr_source__read(source, "onnx", 0, data, (size_t)source->size) == TSR_STATUS_OK) {
        m = unpack(data, (size_t)source->size, weights, source->name, source->name);
    }
    free(data);
    return m;
}

tsr_onnx *tsr_onnx_open(const char *path)
{
    tsr_source source;
    if (tsr_source__open(&source, "onnx", path) != TSR_STATUS_OK) return NULL;
    tsr_onnx *m = open_source(&source, false);
    tsr_source__close(&source);
    return m;
}

tsr_onnx *tsr_onnx__open_weights(const tsr_source *source)
{
    return open_source(source, true);
}

void tsr_onnx_close(tsr_onnx **model)
{
    if (model == NULL || *model == NULL) return;
    tsr_onnx *m = *model;
    if (m->owned) onnx__model_proto__free_unpacked(m->model, NULL); /* it is malloc()'s memory */
    if (m->has_data) tsr_source__close(&m->data);
    free(m->name);
    free(m->values);
    free(m->table);
    free(m->node_inputs);
    free(m->outputs);
    free(m);
    *model = NULL;
}

int tsr_onnx_input_count(const tsr_onnx *m)
{
    return m != NULL ? (int)m->model->graph->n_input : 0;
}

int tsr_onnx_output_count(const tsr_onnx *m)
{
    return m != NULL ? (int)m->model->graph->n_output : 0;
}

const char *tsr_onnx_input_name(const tsr_onnx *m, int i)
{
    return i >= 0 && i < tsr_onnx_input_count(m) ? m->model->graph->input[i]->name : NULL;
}

const char *tsr_onnx_output_name(const tsr_onnx *m, int i)
{
    return i >= 0 && i < tsr_onnx_output_count(m) ? m->model->graph->output[i]->name : NULL;
}

const char *tsr_onnx_metadata(const tsr_onnx *m, const char *key)
{
    if (m == NULL) return NULL;
    return text_of(m->model->n_metadata_props, m->model->metadata_props, key);
}

/* ---- running ---- */

void tsr_onnx_limit(tsr_onnx *m, int64_t elements)
{
    int64_t most = INT64_C(1) << ELEMENTS_MAX_LOG2;
    if (m != NULL) m->most = elements < 1 ? 1 : elements > most ? most : elements;
}

static bool input_fits(const tsr_onnx *m, int i, tsr_tensor *x)
{
    const Onnx__ValueInfoProto *info = m->model->graph->input[i];
    const Onnx__TypeProto__Tensor *type = info->type->tensor_type;
    tsr_dtype dtype = tsr_onnx__dtype(type->elem_type);
    if (x != NULL && tsr_tensor_dtype(x) != dtype) {
        tsr_fail(TSR_STATUS_DTYPE, "onnx: input \"%.100s\" is %s, expected %s", info->name,
                 tsr_dtype_name(tsr_tensor_dtype(x)), tsr_dtype_name(dtype));
        return false;
    }
    bool fits = x != NULL && (size_t)tsr_tensor_ndim(x) == type->shape->n_dim;
    tsr_shape wanted = TSR_SHAPE_SCALAR;
    for (size_t d = 0; d < type->shape->n_dim; d++) {
        const Onnx__TensorShapeProto__Dimension *dim = type->shape->dim[d];
        bool fixed = dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        wanted.size[wanted.ndim++] = fixed ? dim->dim_value : -1;
        fits = fits && (!fixed || tsr_tensor_size(x, (int)d) == dim->dim_value);
    }
    if (fits) return true;
    char got[TSR_SHAPE_TEXT], text[TSR_SHAPE_TEXT];
    tsr_fail(TSR_STATUS_SHAPE, "onnx: input \"%.100s\" has shape %s, expected %s (-1: any)",
             info->name, tsr_shape_text(tsr_tensor_shape(x), got), tsr_shape_text(wanted, text));
    return false;
}

static tsr_tensor *load(const tsr_onnx *m, const value *v)
{
    tsr_shape shape;
    tsr_dtype dtype = tsr_onnx__dtype(v->initializer->data_type);
    shape_of(v->initializer, &shape);
    if (tsr_shape_numel(shape) > m->most) {
        fail(m, "too many elements in", v->name);
        return NULL;
    }
    tsr_tensor *t = tsr_empty(dtype, shape);
    size_t bytes = (size_t)tsr_tensor_numel(t) * tsr_dtype_size(dtype);
    if (t == NULL || bytes == 0) return t;
    char *to = tsr_tensor_data_mut(t);
    if (v->initializer->has_data_location &&
        v->initializer->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) {
        if (tsr_source__read(&m->data, "onnx", v->offset, to, bytes) != TSR_STATUS_OK) return NULL;
    } else {
        memcpy(to,
               v->initializer->has_raw_data ? (const void *)v->initializer->raw_data.data
                                            : v->initializer->float_data,
               bytes);
    }
    for (size_t i = 0; dtype == TSR_DTYPE_BOOL && i < bytes; i++) to[i] = to[i] != 0;
    return t;
}

int64_t tsr_onnx__weights_count(const tsr_onnx *m)
{
    return m->n_values;
}

const char *tsr_onnx__weights_name(const tsr_onnx *m, int64_t i)
{
    return m->values[i].name;
}

tsr_shape tsr_onnx__weights_shape(const tsr_onnx *m, int64_t i)
{
    tsr_shape shape;
    shape_of(m->values[i].initializer, &shape);
    return shape;
}

tsr_tensor *tsr_onnx__weights_tensor(const tsr_onnx *m, int64_t i)
{
    return load(m, &m->values[i]);
}

static bool ready(const tsr_onnx *m, value *v)
{
    if (v->tensor == NULL && v->initializer != NULL) v->tensor = tsr_tensor_hold(load(m, v));
    return v->tensor != NULL;
}

static bool run_node(tsr_onnx *m, int64_t number, const int32_t *inputs)
{
    const Onnx__NodeProto *node = m->model->graph->node[number];
    tsr_tensor *in[TSR_ONNX_INPUTS];
    tsr_onnx_work w = {.op = tsr_onnx__operator(node->op_type),
                       .node = node,
                       .in = in,
                       .n_in = (int)node->n_input,
                       .most = m->most};
    tsr_scope scope = tsr_scope_open();
    bool ok = true;
    for (int i = 0; ok && i < w.n_in; i++) {
        ok = inputs[i] < 0 || ready(m, &m->values[inputs[i]]);
        in[i] = inputs[i] < 0 ? NULL : m->values[inputs[i]].tensor;
    }
    tsr_tensor *y = ok ? tsr_onnx__run_node(&w) : NULL;
    value *out = &m->values[find(m, node->output[0])];
    if (y != NULL && out->last_use > number) out->tensor = tsr_tensor_hold(y);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    for (int i = 0; i < w.n_in; i++) {
        if (inputs[i] >= 0 && m->values[inputs[i]].last_use == number) {
            tsr_tensor_release(&m->values[inputs[i]].tensor);
        }
    }
    return y != NULL;
}

tsr_status tsr_onnx_run(tsr_onnx *m, tsr_tensors inputs, tsr_tensor **outputs)
{
    if (m == NULL) return tsr_fail(TSR_STATUS_ARGUMENT, "onnx: the model is NULL");
    const Onnx__GraphProto *g = m->model->graph;
    for (size_t i = 0; i < g->n_output; i++) outputs[i] = NULL;
    if ((size_t)inputs.n != g->n_input) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "onnx: got %d inputs, expected %zu", inputs.n,
                        g->n_input);
    }
    bool ok = tsr_status_get() == TSR_STATUS_OK, was = tsr_recording_set(false);
    for (int i = 0; ok && i < inputs.n; i++) {
        ok = input_fits(m, i, inputs.at[i]);
        if (ok) m->values[i].tensor = tsr_tensor_hold(inputs.at[i]);
    }
    const int32_t *at = m->node_inputs;
    for (size_t i = 0; ok && i < g->n_node; i++) {
        ok = run_node(m, (int64_t)i, at);
        at += g->node[i]->n_input;
    }
    for (size_t i = 0; ok && i < g->n_output; i++) {
        ok = ready(m, &m->values[m->outputs[i]]);
        if (ok) outputs[i] = tsr_tensor_borrow(m->values[m->outputs[i]].tensor);
    }
    for (size_t i = 0; !ok && i < g->n_output; i++) outputs[i] = NULL;
    for (int32_t i = 0; i < m->n_values; i++) tsr_tensor_release(&m->values[i].tensor);
    tsr_recording_set(was);
    return tsr_status_get();
}
