/*
 * ONNX, inside: what translations of single operators (onnx_ops.c) see of the graph that is being written, and how graphs are
 * read (onnx_reader.c) and run (onnx_run.c). A function is traced several times, with other sizes; what differs between the traces
 * must be explained by the sizes of tensors. Internal to serialization.
 */
#ifndef TSR_SERIALIZATION_ONNX_H
#define TSR_SERIALIZATION_ONNX_H

#include "onnx.pb-c.h"
#include "serialization/serialization.h"
#include "serialization/source.h"

enum { TSR_ONNX_OPSET = 17, TSR_ONNX_IR_VERSION = 8, TSR_ONNX_TRACES = 3 };

typedef struct tsr_onnx_graph tsr_onnx_graph;

/* An integer as it was in each trace. */
typedef struct tsr_onnx_int {
    int64_t at[TSR_ONNX_TRACES];
} tsr_onnx_int;

/* One operator that ran, in all traces. */
typedef struct tsr_onnx_call {
    tsr_onnx_graph *graph;
    int n_traces;
    const tsr_trace_step *step[TSR_ONNX_TRACES];
    const char *const *in;  /* names of the inputs; "": NULL */
    const char *const *out; /* names that the outputs are to have */
} tsr_onnx_call;

/* The ONNX type of ours; 0: it has none. The reverse; TSR_DTYPE_COUNT: we have none. */
int tsr_onnx__type(tsr_dtype dtype);
tsr_dtype tsr_onnx__dtype(int64_t type);

/* ---- for translations: all take a graph that failed before, and then do nothing that matters ---- */

/* A node that computes `out`, or (NULL) a new name. Attributes are added to what this returns. */
Onnx__NodeProto *tsr_onnx__node(const tsr_onnx_call *c, const char *op, const char *out,
                                const char *const *in, int n_in);
#define TSR_ONNX_NODE(c, op, out, ...)                                                             \
    tsr_onnx__node(c, op, out, (const char *const[]){__VA_ARGS__},                                 \
                   (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)))
/* The same, for the name of its one output. */
#define TSR_ONNX_VALUE(c, op, ...) (TSR_ONNX_NODE(c, op, NULL, __VA_ARGS__)->output[0])
void tsr_onnx__attribute_int(const tsr_onnx_call *c, Onnx__NodeProto *node, const char *name,
                             int64_t value);
void tsr_onnx__attribute_ints(const tsr_onnx_call *c, Onnx__NodeProto *node, const char *name,
                              const int64_t *values, int n);
void tsr_onnx__attribute_float(const tsr_onnx_call *c, Onnx__NodeProto *node, const char *name,
                               double value);
void tsr_onnx__attribute_text(const tsr_onnx_call *c, Onnx__NodeProto *node, const char *name,
                              const char *value);

/* A constant by its name: a tensor (an initializer with its data); integers [n]; a scalar. */
const char *tsr_onnx__constant(const tsr_onnx_call *c, tsr_tensor *t);
const char *tsr_onnx__constant_ints(const tsr_onnx_call *c, const int64_t *values, int n);
const char *tsr_onnx__constant_scalar(const tsr_onnx_call *c, tsr_dtype dtype, double value);
/* The tensor that step->saved.at[i] is, by its name. */
const char *tsr_onnx__saved(const tsr_onnx_call *c, int i);

/* Integers [n], of which those that differ between traces are computed from sizes of tensors. Fails where none fits. */
const char *tsr_onnx__ints(const tsr_onnx_call *c, const tsr_onnx_int *values, int n);
bool tsr_onnx__is_fixed(const tsr_onnx_call *c, tsr_onnx_int value);
/* One of them as an element of a 1-D tensor [1]. */
const char *tsr_onnx__dim(const tsr_onnx_call *c, tsr_onnx_int value);

/* Translates the call with ONNX's own operators; false where there is no translation. Failures are sticky. */
bool tsr_onnx__translate(const tsr_onnx_call *c);

/* ---- reading: onnx_reader.c ---- */

/* A model that is about to be written; it must outlive the result. name: for messages. */
tsr_onnx *tsr_onnx__of(Onnx__ModelProto *model, const char *name);

/* The initializers of any ONNX model, whatever its operators; the source is needed for opening alone. */
tsr_onnx *tsr_onnx__open_weights(const tsr_source *source);
int64_t tsr_onnx__weights_count(const tsr_onnx *model);
const char *tsr_onnx__weights_name(const tsr_onnx *model, int64_t i); /* i within the count */
tsr_shape tsr_onnx__weights_shape(const tsr_onnx *model, int64_t i);
tsr_tensor *tsr_onnx__weights_tensor(const tsr_onnx *model, int64_t i);

/* ---- what a node computes: onnx_run.c ---- */

enum { TSR_ONNX_INPUTS = 512 }; /* most of one node */

typedef struct tsr_onnx_operator tsr_onnx_operator;

/* One node at work. Absent inputs are NULL. */
typedef struct tsr_onnx_work {
    const tsr_onnx_operator *op;
    const Onnx__NodeProto *node;
    tsr_tensor *const *in;
    int n_in;
    int64_t most; /* elements that a tensor may have */
} tsr_onnx_work;

struct tsr_onnx_operator {
    const char *name;
    int least, most; /* inputs */
    tsr_tensor *(*run)(const tsr_onnx_work *w);
    tsr_tensor *(*unary)(tsr_tensor *x);
    tsr_tensor *(*binary)(tsr_tensor *a, tsr_tensor *b);
};

/* NULL: it is not known. */
const tsr_onnx_operator *tsr_onnx__operator(const char *name);
/* The node's output, in the innermost scope. NULL and FORMAT (or what the operator said) on failure. */
tsr_tensor *tsr_onnx__run_node(const tsr_onnx_work *w);

#endif
