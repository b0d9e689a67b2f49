/*
 * ONNX, writing: traces become nodes. The traces of the same function on other sizes are walked side by side:
 *
 *   a tensor that no step made is a constant, and must be the same in all traces;
 *   steps that nothing asked for needs are left out; steps on constants alone, with the same result in all traces, are their
 *     result;
 *   any other becomes ONNX nodes by its translation (onnx_ops.c), or else by its definition, which is traced likewise.
 */
#include "serialization/onnx_graph.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

enum { MAX_DEPTH = 8 }; /* of definitions within definitions */

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
    tsr_onnx_value *v = tsr_onnx__find_value(c->graph, at);
    return tsr_onnx__name_of(c->graph,
                             v != NULL ? v : tsr_onnx__new_constant(c, at, "the index", i));
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
        if (tsr_onnx__same_elements(l->at[i], t)) return true;
    }
    return false;
}

static void ask_for(list *l, tsr_tensors tensors)
{
    for (int i = 0; i < tensors.n; i++) {
        if (tensors.at[i] == NULL || contains(l, tensors.at[i])) continue;
        if (!tsr_onnx__grow(&l->at, l->n, &l->room, sizeof *l->at)) return;
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
    return tsr_onnx__ok() ? needed : (tsr_free(needed), NULL);
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
    for (int t = 0; tsr_onnx__ok() && t < c->n_traces; t++) {
        outputs[t] = tsr_alloc(n * sizeof *outputs[t]);
        traces[t] = outputs[t] != NULL ? tsr_trace_open() : NULL;
        if (traces[t] == NULL) break;
        memset(outputs[t], 0, n * sizeof *outputs[t]);
        op->definition(c->step[t]->block, c->step[t]->inputs, outputs[t]);
        tsr_trace_end(traces[t]);
    }
    if (tsr_onnx__ok()) lower(g, traces, (tsr_tensor *const *const *)outputs, (int)n, depth + 1);
    for (size_t o = 0; tsr_onnx__ok() && o < n; o++) {
        tsr_tensor *inner[TSR_ONNX_TRACES], *outer[TSR_ONNX_TRACES];
        for (int t = 0; t < c->n_traces; t++) {
            inner[t] = outputs[t][o];
            outer[t] = c->step[t]->outputs.at[o];
        }
        tsr_onnx_value *v = tsr_onnx__find_value(g, inner);
        const char *name = tsr_onnx__name_of(g, v);
        if (tsr_onnx__ok()) tsr_onnx__add_value(g, outer, name, v->constant);
    }
    for (int t = 0; t < c->n_traces; t++) {
        tsr_trace_close(&traces[t]);
        tsr_free(outputs[t]);
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_onnx__ok();
}

/* The outputs of a step that is a constant: known by their data. */
static bool fold(const tsr_onnx_call *c)
{
    tsr_tensor *at[TSR_ONNX_TRACES];
    for (int o = 0; o < c->step[0]->outputs.n; o++) {
        GATHER(c, outputs, o, at);
        if (!tsr_onnx__same_data(c->graph, at)) return false;
    }
    for (int o = 0; o < c->step[0]->outputs.n; o++) {
        GATHER(c, outputs, o, at);
        tsr_onnx__add_value(c->graph, at, NULL, true);
    }
    return true;
}

static bool translate(tsr_onnx_call *c, tsr_onnx_value *const *in, const char **names, int depth)
{
    tsr_onnx_graph *g = c->graph;
    int n_in = c->step[0]->inputs.n, n_out = c->step[0]->outputs.n;
    const char **out = names + n_in;
    for (int o = 0; o < n_out; o++) out[o] = tsr_onnx__new_name(g, c->step[0]->op->name);
    for (int i = 0; i < n_in; i++) names[i] = in[i] != NULL ? tsr_onnx__name_of(g, in[i]) : "";
    if (!tsr_onnx__ok()) return false;
    c->in = names;
    c->out = out;
    if (!tsr_onnx__translate(c)) return tsr_onnx__ok() && lower_definition(c, depth);
    for (int o = 0; tsr_onnx__ok() && o < n_out; o++) {
        tsr_tensor *at[TSR_ONNX_TRACES];
        GATHER(c, outputs, o, at);
        tsr_onnx__add_value(g, at, out[o], false);
    }
    return tsr_onnx__ok();
}

static bool lower_step(tsr_onnx_call *c, int depth)
{
    tsr_onnx_graph *g = c->graph;
    const tsr_trace_step *s = c->step[0];
    tsr_tensor *at[TSR_ONNX_TRACES];
    bool known = true, constant = true;
    for (int o = 0; o < s->outputs.n; o++) {
        GATHER(c, outputs, o, at);
        known = known && tsr_onnx__find_value(g, at) != NULL; /* a view of all of its input */
    }
    if (known) return true;
    size_t n = (size_t)s->inputs.n;
    size_t *in = tsr_alloc((n + 1) * sizeof *in); /* values by number: their list moves */
    tsr_onnx_value **values = tsr_alloc((n + 1) * sizeof *values);
    const char **names = tsr_alloc((n + (size_t)s->outputs.n + 1) * sizeof *names);
    for (size_t i = 0; tsr_onnx__ok() && i < n; i++) {
        GATHER(c, inputs, (int)i, at);
        in[i] = SIZE_MAX;
        if (at[0] == NULL) continue;
        tsr_onnx_value *v = tsr_onnx__find_value(g, at);
        if (v == NULL) v = tsr_onnx__new_constant(c, at, "input", (int)i);
        if (v == NULL) break;
        in[i] = (size_t)(v - g->values);
        constant = constant && v->constant;
    }
    if (tsr_onnx__ok() && !(constant && fold(c))) {
        for (size_t i = 0; i < n; i++) values[i] = in[i] == SIZE_MAX ? NULL : &g->values[in[i]];
        translate(c, values, names, depth);
    }
    tsr_free(in);
    tsr_free(values);
    tsr_free(names);
    return tsr_onnx__ok();
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
    for (int64_t i = 0; tsr_onnx__ok() && i < tsr_trace_length(traces[0]); i++) {
        if (!needed[i]) continue;
        for (int t = 0; t < g->n_traces; t++) c.step[t] = tsr_trace_at(traces[t], i);
        tsr_scope scope = tsr_scope_open();
        lower_step(&c, depth);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
    tsr_free(needed);
    memset(c.step, 0, sizeof c.step);
    for (int o = 0; tsr_onnx__ok() && o < n_outputs; o++) {
        tsr_tensor *at[TSR_ONNX_TRACES];
        for (int t = 0; t < g->n_traces; t++) at[t] = outputs[t][o];
        if (tsr_onnx__find_value(g, at) == NULL) tsr_onnx__new_constant(&c, at, "output", o);
    }
    return tsr_onnx__ok();
}

bool tsr_onnx__lower(tsr_onnx_graph *g, tsr_trace *const *traces, tsr_tensor *const *const *outputs,
                     int n_outputs)
{
    return lower(g, traces, outputs, n_outputs, 0);
}
