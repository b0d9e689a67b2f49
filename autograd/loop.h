/*
 * Loops over strided operands of one shape. Dimensions that lie contiguously in every operand are merged; what is left is
 * walked as rows along the last dimension. Not installed; the floors above may use it.
 */
#ifndef TSR_AUTOGRAD_LOOP_H
#define TSR_AUTOGRAD_LOOP_H

#include "autograd/autograd.h"

enum { TSR_LOOP_OPERANDS = 4 };

typedef struct tsr_loop {
    int ndim; /* 1 or more */
    int operands;
    int64_t rows, length; /* rows * length elements; the last dimension has length */
    int64_t size[TSR_MAX_DIMS];
    int64_t stride[TSR_LOOP_OPERANDS][TSR_MAX_DIMS]; /* in elements */
} tsr_loop;

/* strides[k]: of operand k, for each dimension of shape (0 where it is broadcast). */
tsr_loop tsr_loop__make(tsr_shape shape, int operands, const int64_t *const *strides);
/* Over the shape of t[0], which the other operands have or are broadcast to. */
tsr_loop tsr_loop__over(int operands, const tsr_tensor *const *t);

/* The pieces that threads share: rows, long ones cut into parts. */
enum { TSR_LOOP_PART = 16384 };

static inline int64_t tsr_loop__pieces(const tsr_loop *loop)
{
    return loop->rows * ((loop->length + TSR_LOOP_PART - 1) / TSR_LOOP_PART);
}

/* Elements of the given piece; offset[k]: of operand k's first element in it. */
static inline int64_t tsr_loop__piece(const tsr_loop *loop, int64_t piece,
                                      int64_t offset[TSR_LOOP_OPERANDS])
{
    int64_t parts = (loop->length + TSR_LOOP_PART - 1) / TSR_LOOP_PART;
    int64_t row = parts == 1 ? piece : piece / parts;
    int64_t start = parts == 1 ? 0 : piece % parts * TSR_LOOP_PART;
    for (int k = 0; k < loop->operands; k++) offset[k] = start * loop->stride[k][loop->ndim - 1];
    for (int d = loop->ndim - 2; d >= 0 && row > 0; d--) {
        int64_t i = row % loop->size[d];
        row /= loop->size[d];
        for (int k = 0; k < loop->operands; k++) offset[k] += i * loop->stride[k][d];
    }
    int64_t left = loop->length - start;
    return left < TSR_LOOP_PART ? left : TSR_LOOP_PART;
}

/* The strides of x seen in the broadcast shape. */
static inline void tsr_loop__broadcast(tsr_shape x, const int64_t *strides, tsr_shape shape,
                                       int64_t out[TSR_MAX_DIMS])
{
    int lead = shape.ndim - x.ndim;
    for (int d = 0; d < shape.ndim; d++) {
        out[d] = d < lead || x.size[d - lead] == 1 ? 0 : strides[d - lead];
    }
}

/* Threads for a loop of this many elementary operations: few are not worth waking anybody. */
static inline int tsr_loop__threads(int64_t work)
{
    return work < 32768 ? 1 : tsr_threads();
}

/* for (int64_t i = 0; i < n; i++) body, by several threads where `work` elementary operations are worth it. A loop for one
 * is a plain loop: libgomp allocates and frees memory for a region of one thread each time. */
#define TSR_PARALLEL_FOR(i, n, work, ...)                                                          \
    do {                                                                                           \
        const int64_t tsr_loop_n = (n);                                                            \
        const int tsr_loop_threads = tsr_loop__threads(work);                                      \
        if (tsr_loop_threads > 1) {                                                                \
            _Pragma("omp parallel for schedule(static) num_threads(tsr_loop_threads)") for (       \
                int64_t i = 0; i < tsr_loop_n; i++)                                                \
            {                                                                                      \
                __VA_ARGS__;                                                                       \
            }                                                                                      \
        } else {                                                                                   \
            for (int64_t i = 0; i < tsr_loop_n; i++) {                                             \
                __VA_ARGS__;                                                                       \
            }                                                                                      \
        }                                                                                          \
    } while (0)

#endif
