/*
 * autograd: tensors, the tape, backward, gradient checks and random numbers.
 *
 * The ground floor of Tessera: it knows no operator of its own beyond the sum of two gradients. Operators
 * (ops/ops.h, or a user's own) call tsr_record() after their forward; tsr_backward() walks the tape in reverse.
 *
 *   tsr_tape *tape = tsr_tape_open();               // from here on this thread records
 *   tsr_scope scope = tsr_scope_open();             // handles made from here on die with it
 *   tsr_tensor *loss = f(parameters, batch);        // a chain of ops, no error checks
 *   tsr_backward(tape, loss, NULL);                 // d loss / d leaf is added to tsr_tensor_grad(leaf)
 *   tsr_scope_close(&scope, TSR_NO_TENSORS);
 *   if (tsr_status_get() != TSR_STATUS_OK) puts(tsr_message());
 *   tsr_tape_close(&tape);
 *
 * Threads: every thread has its own scopes, tape, recording switch, status and message. Tensors that nobody modifies may
 * be read by several threads at once; a leaf's gradient belongs to one thread at a time.
 */
#ifndef TSR_AUTOGRAD_H
#define TSR_AUTOGRAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TSR_API __attribute__((visibility("default")))

/* ------------------------------------------------------------------ status ------------------------------------------ */

/* What went wrong. The first failure of a thread is kept, with its message, until tsr_status_clear(). */
typedef enum tsr_status {
    TSR_STATUS_OK = 0,
    TSR_STATUS_ARGUMENT, /* a value outside its range, an unknown name, a NULL that must not be */
    TSR_STATUS_SHAPE,    /* shapes that do not fit */
    TSR_STATUS_DTYPE,    /* a type that the operation does not take */
    TSR_STATUS_STATE, /* called at the wrong time: no open scope, a tape that was already walked, ... */
    TSR_STATUS_MEMORY, /* out of memory */
    TSR_STATUS_IO,     /* the system refused to open, read, write, sync or rename */
    TSR_STATUS_FORMAT, /* a file is not what it claims to be: truncated, corrupt, of another version */
    TSR_STATUS_NUMERIC,     /* NaN or infinity where it must not be */
    TSR_STATUS_INTERRUPTED, /* the user asked to stop */
} tsr_status;

/* The sticky status of this thread and its one-line message ("" when OK; valid until the next failure or clear). */
TSR_API tsr_status tsr_status_get(void);
TSR_API const char *tsr_message(void);
TSR_API void tsr_status_clear(void);
/* "shape", "memory", ...: the status in one word. */
TSR_API const char *tsr_status_name(tsr_status status);
/* Sets status and message unless one is set already, and returns the status that is kept. The message is one line:
 * operation, argument, got, wanted. Whoever detects an error words it; callers only pass it on. */
TSR_API tsr_status tsr_fail(tsr_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ------------------------------------------------------------------ types and shapes -------------------------------- */

enum { TSR_MAX_DIMS = 8 };

typedef enum tsr_dtype {
    TSR_DTYPE_F32 = 0,
    TSR_DTYPE_F64,
    TSR_DTYPE_BF16,
    TSR_DTYPE_I32,
    TSR_DTYPE_I64,
    TSR_DTYPE_U8,
    TSR_DTYPE_BOOL, /* one byte, 0 or 1 */
    TSR_DTYPE_COUNT,
} tsr_dtype;

typedef struct tsr_bf16 {
    uint16_t bits;
} tsr_bf16;

static inline float tsr_bf16_to_f32(tsr_bf16 x)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)x.bits << 16};
    return v.f;
}

/* Rounds to nearest, ties to even; NaN stays NaN. */
static inline tsr_bf16 tsr_bf16_from_f32(float x)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = x};
    const uint32_t rounded = (v.u + 0x7fffu + ((v.u >> 16) & 1u)) >> 16, nan = (v.u >> 16) | 0x40u;
    return (tsr_bf16){(uint16_t)((v.u & 0x7fffffffu) > 0x7f800000u ? nan : rounded)};
}

TSR_API size_t tsr_dtype_size(tsr_dtype dtype);      /* bytes of one element */
TSR_API const char *tsr_dtype_name(tsr_dtype dtype); /* "f32", ... */
TSR_API bool tsr_dtype_is_float(tsr_dtype dtype);    /* f32, f64, bf16 */

/* Sizes, outermost dimension first. ndim 0 is a scalar of one element. */
typedef struct tsr_shape {
    int ndim;
    int64_t size[TSR_MAX_DIMS];
} tsr_shape;

/* TSR_SHAPE(64, 197, 384) */
#define TSR_SHAPE(...)                                                                             \
    ((tsr_shape){.ndim = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                \
                 .size = {__VA_ARGS__}})
#define TSR_SHAPE_SCALAR ((tsr_shape){0})

TSR_API int64_t tsr_shape_numel(tsr_shape shape); /* -1 when it overflows or a size is negative */
TSR_API bool tsr_shape_equal(tsr_shape a, tsr_shape b);
/* "[64, 197, 384]" into buffer, which it returns: for messages. */
enum { TSR_SHAPE_TEXT = 184 };
TSR_API const char *tsr_shape_text(tsr_shape shape, char buffer[TSR_SHAPE_TEXT]);
/* NumPy's rule: sizes are matched from the last dimension; 1 stretches. False when they do not fit. */
TSR_API bool tsr_shape_broadcast(tsr_shape a, tsr_shape b, tsr_shape *out);

/* ------------------------------------------------------------------ scopes ------------------------------------------ */

typedef struct tsr_tensor tsr_tensor;

/* A list of tensors, as arguments: TSR_TENSORS(a, b). Entries may be NULL where an argument is optional. */
typedef struct tsr_tensors {
    tsr_tensor *const *at;
    int n;
} tsr_tensors;

#define TSR_TENSORS(...)                                                                           \
    ((tsr_tensors){(tsr_tensor *const[]){__VA_ARGS__},                                             \
                   (int)(sizeof((tsr_tensor *const[]){__VA_ARGS__}) / sizeof(tsr_tensor *))})
#define TSR_NO_TENSORS ((tsr_tensors){NULL, 0})

/* Every handle is made in the innermost open scope of its thread and dies when that scope closes, unless it is kept: then
 * it moves to the scope outside (a handle that never was in this scope stays where it is). Scopes nest strictly. */
typedef struct tsr_scope {
    size_t mark;
    int depth;
} tsr_scope;

TSR_API tsr_scope tsr_scope_open(void);
TSR_API void tsr_scope_close(tsr_scope *scope, tsr_tensors keep);
/* Closes with one kept handle and returns it: `return tsr_scope_return(&scope, y);` */
TSR_API tsr_tensor *tsr_scope_return(tsr_scope *scope, tsr_tensor *result);

/* For objects that outlive scopes (modules, optimizers): a share of the handle that the object gives back with
 * tsr_tensor_release(). Returns its argument; NULL passes through. */
TSR_API tsr_tensor *tsr_tensor_hold(tsr_tensor *t);
TSR_API void tsr_tensor_release(tsr_tensor **t);
/* The reverse: lends a held tensor to the innermost scope, so that it lives at least as long. */
TSR_API tsr_tensor *tsr_tensor_borrow(tsr_tensor *t);

/* ------------------------------------------------------------------ tensors ----------------------------------------- */

/* New tensors, contiguous, 64-byte aligned. NULL (and a sticky status) on failure or where the shape is NULL's child. */
TSR_API tsr_tensor *tsr_empty(tsr_dtype dtype, tsr_shape shape); /* contents are not set */
TSR_API tsr_tensor *tsr_empty_like(const tsr_tensor *t);         /* of t's type and shape */
TSR_API tsr_tensor *tsr_zeros(tsr_dtype dtype, tsr_shape shape);
TSR_API tsr_tensor *tsr_full(tsr_dtype dtype, tsr_shape shape, double value);
TSR_API tsr_tensor *tsr_scalar(tsr_dtype dtype, double value);
/* Copies numel elements of dtype from data. */
TSR_API tsr_tensor *tsr_from(tsr_dtype dtype, tsr_shape shape, const void *data);

/* All of these take NULL and answer with an empty value, so that a failed chain can be asked too. */
TSR_API tsr_dtype tsr_tensor_dtype(const tsr_tensor *t);
TSR_API tsr_shape tsr_tensor_shape(const tsr_tensor *t);
TSR_API bool tsr_tensor_same_shape(const tsr_tensor *a, const tsr_tensor *b);
TSR_API int tsr_tensor_ndim(const tsr_tensor *t);
TSR_API int64_t tsr_tensor_size(const tsr_tensor *t,
                                int dim); /* dim -1 is the last; 0 when out of range */
TSR_API int64_t tsr_tensor_numel(const tsr_tensor *t);
TSR_API const int64_t *tsr_tensor_strides(const tsr_tensor *t); /* ndim, in elements */
TSR_API bool tsr_tensor_is_contiguous(const tsr_tensor *t);
/* First element. Writing through data_mut counts as a modification: a tape that saved these values then refuses
 * to use them. */
TSR_API const void *tsr_tensor_data(const tsr_tensor *t);
TSR_API void *tsr_tensor_data_mut(tsr_tensor *t);
/* One element as a double, in row-major order; NAN when t is NULL or i is out of range. */
TSR_API double tsr_tensor_get(const tsr_tensor *t, int64_t i);
TSR_API double tsr_tensor_item(const tsr_tensor *t); /* of a tensor with one element */
TSR_API bool tsr_tensor_is_finite(const tsr_tensor *t);

/* Raw building blocks for operators; none of them is recorded. */

/* The same storage seen with another shape and strides (elements), offset elements after t's first. Bounds are checked. */
TSR_API tsr_tensor *tsr_tensor_view(tsr_tensor *t, tsr_shape shape, const int64_t *strides,
                                    int64_t offset);
/* t itself where it is contiguous, else a contiguous copy. */
TSR_API tsr_tensor *tsr_tensor_packed(tsr_tensor *t);
/* t itself where it is of that type, else a converted copy (as tsr_tensor_copy() converts) whose dimensions lie in memory in
 * the order of t's, without gaps. Not recorded. */
TSR_API tsr_tensor *tsr_tensor_converted(tsr_tensor *t, tsr_dtype dtype);
/* Copies src into dst (same shape; any strides; converts between types, f64 -> f32 -> bf16 to nearest; integers saturate,
 * NaN becomes 0 in them; bool: not 0). The two must not overlap. */
TSR_API tsr_status tsr_tensor_copy(tsr_tensor *dst, tsr_tensor *src);
TSR_API tsr_status tsr_tensor_fill(tsr_tensor *dst, double value);
/* The same storage without history: no gradient flows through it. */
TSR_API tsr_tensor *tsr_detach(tsr_tensor *t);

/* ------------------------------------------------------------------ gradients --------------------------------------- */

/* Makes a leaf (a floating tensor without history) collect a gradient in tsr_backward(). Returns t. */
TSR_API tsr_tensor *tsr_require_grad(tsr_tensor *t, bool on);
/* True for such leaves and for all that was recorded from them. */
TSR_API bool tsr_requires_grad(const tsr_tensor *t);
/* The accumulated gradient of a leaf, of its shape and type; NULL if none. The leaf owns it. */
TSR_API tsr_tensor *tsr_tensor_grad(const tsr_tensor *t);
/* Drops the gradient (grad NULL), or replaces it: shape and type must fit. */
TSR_API tsr_status tsr_tensor_set_grad(tsr_tensor *t, tsr_tensor *grad);

/* The record of what ran. A thread records on the tape that it opened last. */
typedef struct tsr_tape tsr_tape;

TSR_API tsr_tape *tsr_tape_open(void);
TSR_API void tsr_tape_close(tsr_tape **tape);
/* Forgets all nodes; tensors recorded so far become constants whose history is gone: using them in a recorded op is an
 * error that says so (tsr_detach them instead). */
TSR_API void tsr_tape_reset(tsr_tape *tape);
TSR_API int64_t tsr_tape_length(const tsr_tape *tape); /* nodes on the tape */
/* The tape this thread records on now; NULL when it records nothing. */
TSR_API tsr_tape *tsr_tape_current(void);
/* Recording on this thread: returns what it was. `bool was = tsr_recording_set(false); ... tsr_recording_set(was);` */
TSR_API bool tsr_recording_set(bool on);
/* Would an op on these inputs be recorded now? Ops ask before they compute what only backward needs. */
TSR_API bool tsr_needs_grad(tsr_tensors inputs);

/* NULL options: all zero. */
typedef struct tsr_backward_options {
    bool retain_graph; /* keep the tape; otherwise it is reset when the walk ends */
    bool create_graph; /* record the gradients' own graph; implies retain_graph */
} tsr_backward_options;

/* Adds d loss / d leaf to the gradient of every leaf. loss is a floating scalar (one element) on this tape. */
TSR_API tsr_status tsr_backward(tsr_tape *tape, tsr_tensor *loss,
                                const tsr_backward_options *options);
/*
 * Vector-Jacobian products: grads[i] = sum_o cotangents[o]^T d outputs[o] / d inputs[i], of inputs[i]'s shape; zeros where
 * nothing connects them. Inputs are any tensors of the tape or leaves. A NULL cotangent means ones, and wants one element.
 * Leaves' own gradients are not touched. On failure grads are all NULL.
 */
TSR_API tsr_status tsr_grad(tsr_tape *tape, tsr_tensors outputs, tsr_tensors cotangents,
                            tsr_tensors inputs, tsr_tensor **grads,
                            const tsr_backward_options *options);

/* Called with the complete gradient of t during a walk; returns its replacement (same shape and type) or NULL to leave it.
 * On a leaf the hook stays for all later walks, elsewhere it goes with the tape's reset. */
typedef tsr_tensor *tsr_grad_hook(tsr_tensor *grad, void *user);
TSR_API tsr_status tsr_grad_hook_add(tsr_tensor *t, tsr_grad_hook *hook, void *user);

/*
 * Activation checkpointing: runs f without recording its inside, and runs it again during backward. f must be a
 * deterministic function of inputs and of leaves (parameters) that it reaches through user.
 */
typedef void tsr_function(tsr_tensors inputs, tsr_tensor **outputs, int n_outputs, void *user);
TSR_API tsr_status tsr_recompute(tsr_function *f, void *user, tsr_tensors inputs,
                                 tsr_tensor **outputs, int n_outputs);

/*
 * Anomaly mode (per thread): every recorded forward and every backward is checked for NaN and infinity; the first one
 * fails with the op's name, its origin and whether it happened forward or backward. Returns what it was.
 */
TSR_API bool tsr_anomaly_set(bool on);
/* Names where ops are called from, for anomaly messages: "blocks.3" > "attn". The string must outlive the tape. */
TSR_API void tsr_origin_push(const char *name);
TSR_API void tsr_origin_pop(void);

/* ------------------------------------------------------------------ operators --------------------------------------- */

/*
 * What an operator is, for the tape. An operator is either a primitive, whose backward is written with other ops (so that
 * it can itself be recorded), or fused: then `definition` is the same function written with primitives, and backward may be
 * a kernel. With create_graph a fused op is differentiated through its definition.
 *
 * A fused op's node keeps its inputs. A primitive's keeps only what is listed as saved.
 */
typedef struct tsr_node tsr_node;

/* A member of an op's block, by the name that it is told under to those who read what ran (traces, below). */
typedef struct tsr_field {
    const char *name; /* NULL ends the list */
    enum {
        TSR_FIELD_KIND_BOOL = 0,
        TSR_FIELD_KIND_INT, /* also enums */
        TSR_FIELD_KIND_INT64,
        TSR_FIELD_KIND_DOUBLE,
        TSR_FIELD_KIND_SHAPE,
    } kind;
    size_t offset, bytes; /* of the member: one element, or an array */
} tsr_field;

/* TSR_FIELD(struct slice, "start", start): the kind is that of the member's type, or of its elements. */
#define TSR_FIELD(block, name, member)                                                               \
    {                                                                                                \
        name,                                                                                      \
            _Generic(((block *)0)->member,                                                         \
                     bool: TSR_FIELD_KIND_BOOL,                                                    \
                     int: TSR_FIELD_KIND_INT,                                                      \
                     int *: TSR_FIELD_KIND_INT,                                                    \
                     unsigned: TSR_FIELD_KIND_INT,                                                 \
                     int64_t: TSR_FIELD_KIND_INT64,                                                \
                     int64_t *: TSR_FIELD_KIND_INT64,                                              \
                     double: TSR_FIELD_KIND_DOUBLE,                                                \
                     double *: TSR_FIELD_KIND_DOUBLE,                                              \
                     tsr_shape: TSR_FIELD_KIND_SHAPE),                                             \
            offsetof(block, member), sizeof(((block *)0)->member) \
    }

typedef struct tsr_op {
    const char *name;
    size_t block_size; /* bytes of the typed block that backward and definition read; 0: none */
    /* Sets grad_inputs[i] (NULL at entry, NULL meaning zero) wherever tsr_node_wants(node, i). grad_outputs[o] is NULL where
     * no gradient reached output o; it may have any strides. NULL backward: the op is not differentiable. */
    void (*backward)(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs);
    /* Fused ops: outputs[o] as a graph of primitives. */
    void (*definition)(const void *block, tsr_tensors inputs, tsr_tensor **outputs);
    /* What of the block is not told by the shapes of inputs and outputs; ends with {0}. NULL: nothing. */
    const tsr_field *fields;
    /* Fused ops: backward computes in f32 where tensors are bf16. It then sees f32 copies of the inputs, of what is saved and
     * of grad_outputs, and each of its results is rounded to the type of its input. */
    bool widens;
    /* Fused ops whose output costs little to compute again and much to keep: output o once more, bit for bit, from the node's
     * inputs. Fused nodes that read that output then do not keep it, unless the node itself saves it. NULL: they keep it. */
    tsr_tensor *(*again)(const tsr_node *node, int o);
    /* Fused ops whose inputs are too large to keep for their definition's sake: their nodes keep what is saved and nothing
     * else, and backward is written with operators wherever a graph of the gradient is asked for (tsr_tape_current() is not
     * NULL then). */
    bool records;
} tsr_op;

/*
 * Called by an op at the end of its forward, always; does nothing where no input needs a gradient. Copies block; keeps
 * `saved` (inputs, outputs, or extra results) until backward. Returns outputs.at[0], or NULL when anything failed.
 */
TSR_API tsr_tensor *tsr_record(const tsr_op *op, const void *block, tsr_tensors inputs,
                               tsr_tensors saved, tsr_tensors outputs);

/* For backward functions. */
TSR_API const void *tsr_node_block(const tsr_node *node);
TSR_API tsr_tensor *tsr_node_saved(const tsr_node *node, int i);
TSR_API tsr_tensor *tsr_node_input(const tsr_node *node, int i); /* fused ops only */
TSR_API bool tsr_node_wants(const tsr_node *node, int i);
TSR_API tsr_shape tsr_node_input_shape(const tsr_node *node, int i); /* of one that is wanted */

/* ------------------------------------------------------------------ traces ------------------------------------------ */

/*
 * All that ran on this thread while the trace was open, whether or not it needs a gradient and whether or not recording is
 * on, in order and with all tensors (kept until the trace is closed). What is not an operator is not in it: a loop over
 * tsr_tensor_data(), a tsr_detach() (whose result is its argument's storage). Traces nest: the innermost gets the steps.
 */
typedef struct tsr_trace tsr_trace;

typedef struct tsr_trace_step {
    const tsr_op *op;
    const void *block;
    tsr_tensors inputs, saved, outputs; /* as they were given to tsr_record() */
} tsr_trace_step;

TSR_API tsr_trace *tsr_trace_open(void);
TSR_API void tsr_trace_end(tsr_trace *trace); /* no more steps are added */
TSR_API void tsr_trace_close(tsr_trace **trace);
TSR_API int64_t tsr_trace_length(const tsr_trace *trace);
TSR_API const tsr_trace_step *tsr_trace_at(const tsr_trace *trace,
                                           int64_t i); /* NULL when out of range */
/* A field of the step's block, element i of it; 0 and ARGUMENT or DTYPE where there is none. Integers, enums and bools. */
TSR_API int64_t tsr_trace_step_int(const tsr_trace_step *step, const char *field, int i);
TSR_API double tsr_trace_step_double(const tsr_trace_step *step, const char *field, int i);
TSR_API tsr_shape tsr_trace_step_shape(const tsr_trace_step *step, const char *field);

/* ------------------------------------------------------------------ checks and derivatives -------------------------- */

typedef struct tsr_gradcheck_options {
    double step;      /* of the central difference, relative to max(1, |x|); 0: 1e-5 */
    double tolerance; /* on |analytic - numeric| / max(1, |numeric|); 0: 1e-6 */
    uint64_t seed;    /* of the cotangents */
    /* Kinks: elements of the inputs for which this returns true are not compared (|x| near 0, equal neighbours, ...). */
    bool (*kink)(tsr_tensors inputs, int input, int64_t element, void *user);
} tsr_gradcheck_options;

typedef struct tsr_gradcheck_report {
    double worst_error; /* of all compared elements */
    int worst_input;
    int64_t worst_element;
    double analytic, numeric; /* there */
    int64_t compared;         /* elements compared: a check that compared nothing fails */
} tsr_gradcheck_report;

/*
 * Compares vector-Jacobian products of f with central differences, in f64, with random cotangents. inputs: f64 tensors; those
 * that require a gradient are checked. OK, or NUMERIC with a message that names the worst element. report may be NULL.
 */
TSR_API tsr_status tsr_gradcheck(tsr_function *f, void *user, tsr_tensors inputs, int n_outputs,
                                 const tsr_gradcheck_options *options,
                                 tsr_gradcheck_report *report);
/* The same for the gradient function itself, (inputs, cotangents) -> gradients: its derivative by create_graph, against
 * differences of the gradients that plain backward gives. So a fused op's definition is compared with its kernel too. */
TSR_API tsr_status tsr_gradgradcheck(tsr_function *f, void *user, tsr_tensors inputs, int n_outputs,
                                     const tsr_gradcheck_options *options,
                                     tsr_gradcheck_report *report);

/* y = f(x); results = J^T v (vjp), of the inputs' shapes. v: one tensor an output. outputs may be NULL. */
TSR_API tsr_status tsr_vjp(tsr_function *f, void *user, tsr_tensors inputs, tsr_tensors v,
                           tsr_tensor **outputs, tsr_tensor **results);
/* results = J v (jvp), of the outputs' shapes; v: one tensor an input. By two reverse passes. */
TSR_API tsr_status tsr_jvp(tsr_function *f, void *user, tsr_tensors inputs, tsr_tensors v,
                           int n_outputs, tsr_tensor **outputs, tsr_tensor **results);
/* J of one output by one input: [numel(output), numel(x)]. One reverse pass a row: for small functions. */
TSR_API tsr_tensor *tsr_jacobian(tsr_function *f, void *user, tsr_tensor *x);
/* H v of a scalar function of x; v and the result have x's shape. */
TSR_API tsr_tensor *tsr_hvp(tsr_function *f, void *user, tsr_tensor *x, tsr_tensor *v);

/* ------------------------------------------------------------------ random numbers ---------------------------------- */

/*
 * Philox4x32-10 (Salmon et al., SC 2011): a number is a function of (seed, step, sample, purpose) and of its index, never
 * of a thread or of what was drawn before. A value: copy it freely.
 */
typedef struct tsr_rng {
    uint32_t key[2];
    uint32_t step, sample, purpose;
    uint32_t index;       /* of the next block of four numbers */
    uint32_t block[4];    /* the current block */
    int left;             /* numbers of it not yet drawn */
    uint32_t part, batch; /* for tsr_rng_row(): samples here, of a batch of so many; part 0: all */
} tsr_rng;

TSR_API tsr_rng tsr_rng_make(uint64_t seed, uint32_t step, uint32_t sample, uint32_t purpose);
/* A stream of its own for each label (FNV-1a of it goes into purpose): tsr_rng_purpose("masks"). */
TSR_API uint32_t tsr_rng_purpose(const char *label);
/*
 * The stream of row r of a tensor [copies * part, ...], copy-major, whose first row is sample rng.sample: that of sample
 * rng.sample + r / part * batch + r % part, so that a part of a batch draws what it draws within the batch. Without parts
 * that is rng.sample + r.
 */
TSR_API tsr_rng tsr_rng_row(tsr_rng rng, int64_t row);
TSR_API uint32_t tsr_rng_u32(tsr_rng *rng);
TSR_API double tsr_rng_uniform(tsr_rng *rng);                     /* [0, 1), 53 bits */
TSR_API double tsr_rng_range(tsr_rng *rng, double lo, double hi); /* [lo, hi) */
TSR_API int64_t tsr_rng_below(tsr_rng *rng, int64_t n); /* 0 .. n-1, no bias; 0 when n < 1 */
TSR_API double tsr_rng_normal(tsr_rng *rng);            /* N(0, 1), Box-Muller */
TSR_API void tsr_rng_permutation(tsr_rng *rng, int64_t n, int64_t *out);

/* Fill a floating tensor in place; element i depends on (rng, i) alone. */
TSR_API tsr_status tsr_fill_uniform(tsr_tensor *t, tsr_rng rng, double lo, double hi);
TSR_API tsr_status tsr_fill_normal(tsr_tensor *t, tsr_rng rng, double mean, double std);
/* Normal, redrawn until it lies in [lo, hi] (absolute bounds, as torch.nn.init.trunc_normal_), which must hold at least a
 * thousandth of the distribution. */
TSR_API tsr_status tsr_fill_trunc_normal(tsr_tensor *t, tsr_rng rng, double mean, double std,
                                         double lo, double hi);
/* 1 with probability p, else 0. Any type. */
TSR_API tsr_status tsr_fill_bernoulli(tsr_tensor *t, tsr_rng rng, double p);

/* ------------------------------------------------------------------ memory and threads ------------------------------ */

/* The storage pool of the process: freed storage stays in it for reuse. */
typedef struct tsr_pool_stats {
    size_t in_use;        /* bytes that tensors and tapes hold */
    size_t peak;          /* the most in_use ever was since the last tsr_pool_peak_reset() */
    size_t reserved;      /* bytes taken from the system */
    int64_t system_calls; /* how often the system was asked for memory or given some back */
} tsr_pool_stats;

TSR_API tsr_pool_stats tsr_pool_stats_get(void);
TSR_API void tsr_pool_peak_reset(void);
/* Gives cached storage back to the system: all but small blocks (up to 4 KiB) that share a slab (64 KiB) with used ones. */
TSR_API void tsr_pool_trim(void);
/* 64-byte aligned memory from the pool, for objects beside tensors; NULL and a sticky status when there is none. */
TSR_API void *tsr_alloc(size_t bytes);
TSR_API void tsr_free(void *p); /* NULL is fine */

/* Threads for loops and products: the value set, else OMP_NUM_THREADS, else the processors this process may use. Results
 * do not depend on it. */
TSR_API void tsr_threads_set(int n);
TSR_API int tsr_threads(void);

#ifdef __cplusplus
}
#endif

#endif
