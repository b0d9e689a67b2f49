/*
 * ONNX, writing, inside: the graph that grows (onnx_graph.c) while traces are lowered into it (onnx_lower.c), until it is a
 * model and a file (onnx_writer.c). What translations of operators need of it is in onnx.h. Internal to serialization.
 */
#ifndef TSR_SERIALIZATION_ONNX_GRAPH_H
#define TSR_SERIALIZATION_ONNX_GRAPH_H

#include "serialization/onnx.h"

/* What was computed, or stands still, by its handle in each trace. */
typedef struct tsr_onnx_value {
    tsr_tensor *at[TSR_ONNX_TRACES]; /* held */
    const char *name;                /* NULL: a constant that nothing has used yet */
    bool constant;
} tsr_onnx_value;

struct tsr_onnx_graph {
    int n_traces;
    struct tsr_onnx_chunk *chunks; /* the memory of all that follows but the lists themselves */
    tsr_onnx_value *values;
    size_t n_values, values_room;
    struct tsr_onnx_dimension *dimensions;
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

static inline bool tsr_onnx__ok(void)
{
    return tsr_status_get() == TSR_STATUS_OK;
}

/* ---- onnx_graph.c; all but opening and closing fail as tsr_status_get() says, and then return NULL, "" or false ---- */

/* An empty graph of a function that was traced n_traces times; module (or NULL) has the names of its parameters. */
void tsr_onnx__graph_open(tsr_onnx_graph *g, int n_traces, const tsr_module *module);
void tsr_onnx__graph_close(tsr_onnx_graph *g);

/* Zeroed memory that lives as long as the graph; a copy of a text; a text of at most 255 bytes. */
void *tsr_onnx__make(tsr_onnx_graph *g, size_t bytes);
char *tsr_onnx__text(tsr_onnx_graph *g, const char *text);
__attribute__((format(printf, 2, 3))) char *tsr_onnx__format(tsr_onnx_graph *g, const char *format,
                                                             ...);
/* Room for one more of n items in *list, which is memory of the pool. */
bool tsr_onnx__grow(void *list, size_t n, size_t *room, size_t item);

/* A name that no other value has. */
const char *tsr_onnx__new_name(tsr_onnx_graph *g, const char *stem);

/* Do both handles show the same elements? Have at[0], at[1], ... the same data? */
bool tsr_onnx__same_elements(const tsr_tensor *a, const tsr_tensor *b);
bool tsr_onnx__same_data(const tsr_onnx_graph *g, tsr_tensor *const *at);

/* NULL: there is none. Pointers to values hold until the next one is added. */
tsr_onnx_value *tsr_onnx__find_value(tsr_onnx_graph *g, tsr_tensor *const *at);
tsr_onnx_value *tsr_onnx__add_value(tsr_onnx_graph *g, tsr_tensor *const *at, const char *name,
                                    bool constant);
/* Of what no step made: the i-th `what` of c's step, for the message where the traces differ in it. */
tsr_onnx_value *tsr_onnx__new_constant(const tsr_onnx_call *c, tsr_tensor *const *at,
                                       const char *what, int i);
/* Its name in the graph, of which it becomes an initializer if it is a constant. */
const char *tsr_onnx__name_of(tsr_onnx_graph *g, tsr_onnx_value *v);

/* ---- onnx_lower.c ---- */

/* Nodes for all steps that lead to the outputs [trace][output]; afterwards each output is a value. */
bool tsr_onnx__lower(tsr_onnx_graph *g, tsr_trace *const *traces, tsr_tensor *const *const *outputs,
                     int n_outputs);

#endif
