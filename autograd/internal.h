/* What the files of autograd/ share. Not installed. */
#ifndef TSR_AUTOGRAD_INTERNAL_H
#define TSR_AUTOGRAD_INTERNAL_H

#include "autograd/autograd.h"

#include <stdatomic.h>

/* ---- pool.c ---- */

/* Every block of the pool starts with this header; the data follows at a 64-byte boundary, behind what else its user keeps
 * with it: a tensor lies in the block of its data. */
typedef struct tsr_block {
    atomic_int refs; /* tensors that share the block's data; of a view's own block 1 */
    int16_t size_class;
    uint16_t offset;  /* of the data, from here, in bytes */
    uint64_t version; /* counts modifications of the data */
    union {
        size_t bytes; /* of the data, as asked for */
        struct tsr_block *next_free;
    };
    struct tsr_slab *slab; /* of the pool; NULL: a piece of the system's own */
} tsr_block;

/* header: bytes before the data, sizeof(tsr_block) or more; rounded up to 64. refs 1; NULL without a message when memory is
 * out. */
tsr_block *tsr_block__alloc(size_t header, size_t bytes);
void tsr_block__free(tsr_block *block);
/* What lies between the header and the data is dead, the data is not: AddressSanitizer refuses it from now on. */
void tsr_block__bury(tsr_block *block);
/* From now on the n-th allocation (1 is the next one) fails, once; 0 switches that off. For tests. */
TSR_API void tsr_pool__fail_at(int64_t n);
/* Allocations so far, for the walk over failing ones. */
TSR_API int64_t tsr_pool__allocations(void);

static inline void *tsr_block__data(tsr_block *block)
{
    return (char *)block + block->offset;
}

/* ---- tensor.c ---- */

typedef struct tsr_hook {
    tsr_grad_hook *call;
    void *user;
    struct tsr_hook *next;
} tsr_hook;

struct tsr_tensor {
    tsr_block own; /* the memory of this handle, and of its data unless it is a view */
    atomic_int refs;
    int32_t slot; /* history: the variable's number on the tape with this generation; -1: none */
    tsr_dtype dtype;
    int8_t ndim;
    bool contiguous;
    bool leaf_grad; /* a leaf that collects a gradient */
    int64_t numel;
    uint64_t generation;
    tsr_block *block; /* the data's */
    void *data;
    /* Leaves only. */
    tsr_tensor *grad;
    tsr_hook *hooks;
    int64_t sizes[]; /* ndim sizes, then ndim strides */
};

void tsr_tensor__unref(tsr_tensor *t);
bool tsr_tensor__has_shape(const tsr_tensor *t, const tsr_shape *shape);

/* ---- scope.c ---- */

/* Hands the caller's reference to the innermost scope; releases it and returns NULL where that fails. */
tsr_tensor *tsr_scope__add(tsr_tensor *t);

/* ---- elements.c ---- */

/* dst += src, elementwise; same shape and type, dst contiguous. */
void tsr_tensor__add_in_place(tsr_tensor *dst, const tsr_tensor *src);

/* ---- tape.c ---- */

typedef struct tsr_walk tsr_walk;

/* One piece of the tape's arena: after the members, in the order of the functions below, lies what their numbers say. */
struct tsr_node {
    const tsr_op *op;
    const tsr_walk *walk;                     /* the one that is calling backward */
    const char *origin;                       /* anomaly mode only */
    int n_inputs, n_outputs, n_saved, n_kept; /* kept: inputs of a fused op, else 0 */
    tsr_tensor *kept[];                       /* then those saved */
};

static inline tsr_tensor *const *tsr_node__saved(const tsr_node *node)
{
    return node->kept + node->n_kept;
}

/* Of kept: who computes it again; kept is NULL then, but in backward. */
static inline tsr_node **tsr_node__makers(const tsr_node *node)
{
    return (tsr_node **)(node->kept + node->n_kept + node->n_saved);
}

/* Of kept, then of saved, when they were recorded. */
static inline uint64_t *tsr_node__versions(const tsr_node *node)
{
    return (uint64_t *)(tsr_node__makers(node) + node->n_kept);
}

/* Inputs, then outputs; -1: needs no gradient. */
static inline int32_t *tsr_node__inputs(const tsr_node *node)
{
    return (int32_t *)(tsr_node__versions(node) + node->n_kept + node->n_saved);
}

static inline int32_t *tsr_node__outputs(const tsr_node *node)
{
    return tsr_node__inputs(node) + node->n_inputs;
}

/* What the op's block_size says, aligned for any type. */
static inline void *tsr_node__block(const tsr_node *node)
{
    uintptr_t end = (uintptr_t)(tsr_node__outputs(node) + node->n_outputs);
    return (void *)((end + 15) & ~(uintptr_t)15);
}

/* What the gradient of a variable must look like. */
typedef struct tsr_form {
    tsr_dtype dtype;
    tsr_shape shape;
} tsr_form;

typedef struct tsr_variable {
    const tsr_form *form; /* in the tape's arena, as hooks are; neighbours of one form share it */
    tsr_hook *hooks;
    tsr_tensor *leaf; /* held; NULL for the output of a node */
    tsr_node *maker;  /* of an output that can be computed again; else NULL */
} tsr_variable;

typedef struct tsr_arena_chunk tsr_arena_chunk;

struct tsr_tape {
    uint64_t generation;
    tsr_tape *outer; /* the tape that this thread recorded on before */
    tsr_node **nodes;
    int64_t n_nodes, nodes_capacity;
    tsr_variable *variables;
    int32_t n_variables, variables_capacity;
    int32_t *leaf_table; /* open addressing: handle of a leaf -> slot + 1 */
    int32_t leaf_table_size, n_leaves;
    bool walking; /* a backward is under way */
    tsr_arena_chunk *chunks, *current;
};

void *tsr_tape__alloc(tsr_tape *tape, size_t bytes); /* lives until the tape is reset */
/* The slot of t on this tape (a leaf gets one at first use); -1 where it needs no gradient. Sets *ok false on failure. */
int32_t tsr_tape__slot(tsr_tape *tape, tsr_tensor *t, bool *ok);
/* As tsr_record, but outputs need a gradient even where no input does. */
tsr_tensor *tsr_tape__record_always(const tsr_op *op, const void *block, tsr_tensors inputs,
                                    tsr_tensors saved, tsr_tensors outputs);
/* Forgets the nodes from index n on. */
void tsr_tape__truncate(tsr_tape *tape, int64_t n);
void tsr_node__release(tsr_node *node);
/* t as backward of the node's op wants to see it: tsr_op.widens. */
tsr_tensor *tsr_node__widened(const tsr_node *node, tsr_tensor *t);
bool tsr_anomaly__on(void);

/* ---- trace.c ---- */

/* Adds a step to the open trace; true where there is none. */
bool tsr_trace__add(const tsr_op *op, const void *block, tsr_tensors inputs, tsr_tensors saved,
                    tsr_tensors outputs);

/* ---- backward.c ---- */

bool tsr_walk__needs(const tsr_walk *walk, int32_t slot);

#endif
