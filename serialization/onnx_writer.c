/*
 * ONNX, writing: the face. The function runs under a trace (autograd.h) once for each set of sizes; onnx_lower.c makes a graph
 * of the traces; here it gets inputs, outputs and metadata, runs (onnx_reader.c) on the inputs of all traces, its outputs are
 * compared with the function's, and it becomes a file, or two.
 */
#include "serialization/atomic_file.h"
#include "serialization/onnx_graph.h"
#include "serialization/source.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { INLINE_BYTES = 1024 };

/* Readers of protobuf refuse more than 2^31 - 1 bytes; nodes and names need some of them. */
static const uint64_t single_file_bytes = UINT64_C(2000000000);

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
    for (int t = 0; tsr_onnx__ok() && t < all->n; t++) {
        all->inputs[t] = tsr_alloc((size_t)r->n_inputs * sizeof(tsr_tensor *));
        all->outputs[t] = tsr_alloc((size_t)r->n_outputs * sizeof(tsr_tensor *));
        if (all->inputs[t] == NULL || all->outputs[t] == NULL) return false;
        memset(all->outputs[t], 0, (size_t)r->n_outputs * sizeof(tsr_tensor *));
        for (int i = 0; i < r->n_inputs; i++) all->inputs[t][i] = make_input(r, i, t, symbols, n);
        if (!tsr_onnx__ok()) return false;
        all->traces[t] = tsr_trace_open();
        bool was = tsr_recording_set(false);
        r->f((tsr_tensors){all->inputs[t], r->n_inputs}, all->outputs[t], r->n_outputs, r->user);
        tsr_recording_set(was);
        tsr_trace_end(all->traces[t]);
        for (int o = 0; tsr_onnx__ok() && o < r->n_outputs; o++) {
            if (all->outputs[t][o] == NULL) {
                tsr_fail(TSR_STATUS_ARGUMENT, "onnx: the function left output %d NULL", o);
            }
        }
    }
    return tsr_onnx__ok();
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
    Onnx__ValueInfoProto *info = tsr_onnx__make(g, sizeof *info);
    Onnx__TypeProto *type = tsr_onnx__make(g, sizeof *type);
    Onnx__TypeProto__Tensor *tensor = tsr_onnx__make(g, sizeof *tensor);
    Onnx__TensorShapeProto *shape = tsr_onnx__make(g, sizeof *shape);
    if (!tsr_onnx__ok()) return NULL;
    onnx__value_info_proto__init(info);
    onnx__type_proto__init(type);
    onnx__type_proto__tensor__init(tensor);
    onnx__tensor_shape_proto__init(shape);
    int n = tsr_tensor_ndim(at[0]);
    shape->dim = tsr_onnx__make(g, (size_t)n * sizeof *shape->dim);
    for (int d = 0; d < n; d++) {
        Onnx__TensorShapeProto__Dimension *dim = tsr_onnx__make(g, sizeof *dim);
        if (!tsr_onnx__ok()) return NULL;
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
                    if (same) dim->dim_param = tsr_onnx__text(g, r->inputs[i].dynamic[e].name);
                    if (same) break;
                }
            }
            if (dim->dim_param == NULL) dim->dim_param = tsr_onnx__format(g, "%s_%d", name, d);
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
    graph->input = tsr_onnx__make(g, (size_t)r->n_inputs * sizeof *graph->input);
    for (int i = 0; tsr_onnx__ok() && i < r->n_inputs; i++) {
        tsr_tensor *at[TSR_ONNX_TRACES];
        for (int t = 0; t < all->n; t++) at[t] = all->inputs[t][i];
        const char *name = tsr_onnx__text(g, r->inputs[i].name);
        graph->input[graph->n_input++] = describe(g, r, all, name, at);
        tsr_onnx__add_value(g, at, name, false);
    }
    return tsr_onnx__ok();
}

static bool add_outputs(tsr_onnx_graph *g, const request *r, const runs *all,
                        Onnx__GraphProto *graph)
{
    tsr_onnx_call c = {.graph = g, .n_traces = g->n_traces};
    graph->output = tsr_onnx__make(g, (size_t)r->n_outputs * sizeof *graph->output);
    for (int o = 0; tsr_onnx__ok() && o < r->n_outputs; o++) {
        tsr_tensor *at[TSR_ONNX_TRACES];
        for (int t = 0; t < all->n; t++) at[t] = all->outputs[t][o];
        const char *name = tsr_onnx__text(g, r->output_names[o]);
        if (name != NULL)
            TSR_ONNX_NODE(&c, "Identity", name, tsr_onnx__name_of(g, tsr_onnx__find_value(g, at)));
        graph->output[graph->n_output++] = describe(g, r, all, name, at);
    }
    return tsr_onnx__ok();
}

static Onnx__StringStringEntryProto *new_pair(tsr_onnx_graph *g, const char *key, const char *text)
{
    Onnx__StringStringEntryProto *p = tsr_onnx__make(g, sizeof *p);
    if (p == NULL) return NULL;
    onnx__string_string_entry_proto__init(p);
    p->key = tsr_onnx__text(g, key);
    p->value = tsr_onnx__text(g, text);
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
    Onnx__ModelProto *model = tsr_onnx__make(g, sizeof *model);
    Onnx__OperatorSetIdProto *set = tsr_onnx__make(g, sizeof *set),
                             **sets = tsr_onnx__make(g, sizeof *sets);
    if (!tsr_onnx__ok()) return NULL;
    onnx__model_proto__init(model);
    onnx__operator_set_id_proto__init(set);
    set->domain = tsr_onnx__text(g, "");
    set->has_version = true;
    set->version = TSR_ONNX_OPSET;
    *sets = set;
    model->has_ir_version = true;
    model->ir_version = TSR_ONNX_IR_VERSION;
    model->producer_name = tsr_onnx__text(g, "Tessera");
    model->n_opset_import = 1;
    model->opset_import = sets;
    drop_unused(g);
    graph->name = tsr_onnx__text(g, "tessera");
    graph->n_node = g->n_nodes;
    graph->node = g->nodes;
    graph->n_initializer = g->n_tensors;
    graph->initializer = g->tensors;
    model->graph = graph;
    model->metadata_props =
        tsr_onnx__make(g, (size_t)o->n_metadata * sizeof *model->metadata_props);
    for (int64_t i = 0; tsr_onnx__ok() && i < o->n_metadata; i++) {
        model->metadata_props[model->n_metadata_props++] =
            new_pair(g, o->metadata[i].key, o->metadata[i].value);
    }
    return tsr_onnx__ok() ? model : NULL;
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
    for (int t = 0; m != NULL && outputs != NULL && tsr_onnx__ok() && t < all->n; t++) {
        tsr_scope scope = tsr_scope_open();
        tsr_onnx_run(m, (tsr_tensors){all->inputs[t], r->n_inputs}, outputs);
        for (int o = 0; tsr_onnx__ok() && o < r->n_outputs; o++) {
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
    for (size_t i = 0; tsr_onnx__ok() && i < g->n_tensors; i++) {
        Onnx__TensorProto *t = g->tensors[i];
        uint64_t bytes = t->raw_data.len, gap = -at & 63;
        if (bytes < INLINE_BYTES) continue;
        tsr_atomic_file__write(file, zeros, (size_t)gap);
        tsr_atomic_file__write(file, t->raw_data.data, t->raw_data.len);
        at += gap;
        const char *offset = tsr_onnx__format(g, "%" PRIu64, at);
        const char *length = tsr_onnx__format(g, "%" PRIu64, bytes);
        Onnx__StringStringEntryProto **pairs = tsr_onnx__make(g, 3 * sizeof *pairs);
        if (!tsr_onnx__ok()) break;
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
    if (tsr_onnx__ok()) return tsr_atomic_file__commit(&file);
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
    if (!run_all(r, all)) return;
    tsr_onnx__graph_open(g, all->n, r->options->module);
    Onnx__GraphProto *graph = tsr_onnx__make(g, sizeof *graph);
    if (graph == NULL) return;
    onnx__graph_proto__init(graph);
    if (!add_inputs(g, r, all, graph) ||
        !tsr_onnx__lower(g, all->traces, (tsr_tensor *const *const *)all->outputs, r->n_outputs) ||
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
    if (check_arguments(&r) != TSR_STATUS_OK || !tsr_onnx__ok()) return tsr_status_get();
    tsr_onnx_graph g = {0};
    runs all = {0};
    tsr_scope scope = tsr_scope_open();
    export(path, &r, &g, &all, out);
    close_runs(&all);
    tsr_onnx__graph_close(&g);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_status_get();
}
