/*
 * Traces: what ran, op by op, with all tensors. The tape keeps what backward needs; this keeps what the computation is, and
 * so it also has ops without a derivative and those that only constants went into.
 */
#include "autograd/internal.h"

#include <string.h>

struct tsr_trace {
    tsr_trace *outer;
    tsr_trace_step *steps;
    int64_t n, capacity;
};

static _Thread_local tsr_trace *current_trace;

tsr_trace *tsr_trace_open(void)
{
    tsr_trace *trace = tsr_alloc(sizeof *trace);
    if (trace == NULL) return NULL;
    *trace = (tsr_trace){.outer = current_trace};
    current_trace = trace;
    return trace;
}

void tsr_trace_end(tsr_trace *trace)
{
    for (tsr_trace **at = &current_trace; *at != NULL; at = &(*at)->outer) {
        if (*at != trace) continue;
        *at = trace->outer;
        trace->outer = NULL;
        return;
    }
}

static void release(tsr_tensors list)
{
    for (int i = 0; i < list.n; i++) tsr_tensor_release((tsr_tensor **)&list.at[i]);
}

void tsr_trace_close(tsr_trace **trace)
{
    if (trace == NULL || *trace == NULL) return;
    tsr_trace *t = *trace;
    tsr_trace_end(t);
    for (int64_t i = 0; i < t->n; i++) {
        release(t->steps[i].inputs);
        release(t->steps[i].saved);
        release(t->steps[i].outputs);
        tsr_free((void *)t->steps[i].block);
    }
    tsr_free(t->steps);
    tsr_free(t);
    *trace = NULL;
}

int64_t tsr_trace_length(const tsr_trace *trace)
{
    return trace != NULL ? trace->n : 0;
}

const tsr_trace_step *tsr_trace_at(const tsr_trace *trace, int64_t i)
{
    return trace != NULL && i >= 0 && i < trace->n ? &trace->steps[i] : NULL;
}

static bool grow(tsr_trace *t)
{
    int64_t capacity = t->capacity == 0 ? 256 : 2 * t->capacity;
    tsr_trace_step *steps = tsr_alloc((size_t)capacity * sizeof *steps);
    if (steps == NULL) return false;
    if (t->n > 0) memcpy(steps, t->steps, (size_t)t->n * sizeof *steps);
    tsr_free(t->steps);
    t->steps = steps;
    t->capacity = capacity;
    return true;
}

static tsr_tensors hold(tsr_tensors list, tsr_tensor **at)
{
    for (int i = 0; i < list.n; i++) at[i] = tsr_tensor_hold(list.at[i]);
    return (tsr_tensors){at, list.n};
}

bool tsr_trace__add(const tsr_op *op, const void *block, tsr_tensors inputs, tsr_tensors saved,
                    tsr_tensors outputs)
{
    tsr_trace *t = current_trace;
    if (t == NULL) return true;
    if (t->n == t->capacity && !grow(t)) return false;
    size_t block_bytes = (op->block_size + 15) & ~(size_t)15;
    size_t n = (size_t)inputs.n + (size_t)saved.n + (size_t)outputs.n;
    char *memory = tsr_alloc(block_bytes + n * sizeof(tsr_tensor *));
    if (memory == NULL) return false;
    if (op->block_size > 0) memcpy(memory, block, op->block_size);
    tsr_tensor **at = (tsr_tensor **)(void *)(memory + block_bytes);
    tsr_trace_step *s = &t->steps[t->n++];
    *s = (tsr_trace_step){.op = op, .block = memory};
    s->inputs = hold(inputs, at);
    s->saved = hold(saved, at + inputs.n);
    s->outputs = hold(outputs, at + inputs.n + saved.n);
    return true;
}

/* ---- fields of a block ---- */

/* Element i of the field of this name and one of these kinds; NULL and a message where there is none. */
static const void *find(const tsr_trace_step *step, const char *name, int i,
                        const tsr_field **field)
{
    static const size_t sizes[] = {sizeof(bool), sizeof(int), sizeof(int64_t), sizeof(double),
                                   sizeof(tsr_shape)};
    const tsr_field *f = step->op->fields;
    while (f != NULL && f->name != NULL && strcmp(f->name, name) != 0) f++;
    if (f != NULL && f->name != NULL && i >= 0 && (size_t)i < f->bytes / sizes[f->kind]) {
        *field = f;
        return (const char *)step->block + f->offset + (size_t)i * sizes[f->kind];
    }
    tsr_fail(TSR_STATUS_ARGUMENT, "%s: the operator has no field \"%s\" [%d]", step->op->name, name,
             i);
    return NULL;
}

static void fail_kind(const tsr_trace_step *step, const char *name, const char *wanted)
{
    tsr_fail(TSR_STATUS_DTYPE, "%s: field \"%s\" is not %s", step->op->name, name, wanted);
}

int64_t tsr_trace_step_int(const tsr_trace_step *step, const char *name, int i)
{
    const tsr_field *f;
    const void *at = find(step, name, i, &f);
    if (at == NULL) return 0;
    if (f->kind == TSR_FIELD_KIND_BOOL) return *(const bool *)at;
    if (f->kind == TSR_FIELD_KIND_INT) return *(const int *)at;
    if (f->kind == TSR_FIELD_KIND_INT64) return *(const int64_t *)at;
    fail_kind(step, name, "an integer");
    return 0;
}

double tsr_trace_step_double(const tsr_trace_step *step, const char *name, int i)
{
    const tsr_field *f;
    const void *at = find(step, name, i, &f);
    if (at == NULL) return 0.0;
    if (f->kind == TSR_FIELD_KIND_DOUBLE) return *(const double *)at;
    fail_kind(step, name, "a double");
    return 0.0;
}

tsr_shape tsr_trace_step_shape(const tsr_trace_step *step, const char *name)
{
    const tsr_field *f;
    const void *at = find(step, name, 0, &f);
    if (at == NULL) return TSR_SHAPE_SCALAR;
    if (f->kind == TSR_FIELD_KIND_SHAPE) return *(const tsr_shape *)at;
    fail_kind(step, name, "a shape");
    return TSR_SHAPE_SCALAR;
}
