/* What the ops that work on rows, x [..., D], share. Not installed. */
#ifndef TSR_OPS_ROWS_H
#define TSR_OPS_ROWS_H

#include "autograd/loop.h"
#include "ops/gemm.h"

/* x [..., D], D the last dimension, as rows * d elements. */
typedef struct tsr_rows {
    int64_t rows, d;
    int64_t chunk,
        chunks; /* rows of a chunk, the work of one kernel call; depends on the shape alone */
} tsr_rows;

tsr_rows tsr_rows__of(tsr_shape shape);

static inline int64_t tsr_rows__in_chunk(const tsr_rows *r, int64_t c)
{
    int64_t left = r->rows - c * r->chunk;
    return left < r->chunk ? left : r->chunk;
}

/* Bytes from the start of a contiguous [rows, d] to a chunk's. */
static inline size_t tsr_rows__offset(const tsr_rows *r, int64_t c, tsr_dtype dtype)
{
    return (size_t)(c * r->chunk * r->d) * tsr_dtype_size(dtype);
}

/* Is the parameter t NULL, or [d] of a type that fits x's? Else the sticky status says that `argument` of `op` is not. */
bool tsr_rows__vector_fits(const char *op, const char *argument, const tsr_tensor *t,
                           tsr_dtype dtype, int64_t d);
/* Is t of this type, which is that of `like`? */
bool tsr_rows__dtype_fits(const char *op, const char *argument, const tsr_tensor *t,
                          const char *like, tsr_dtype dtype);
/* The same for a parameter, which may also be f32 where `like` is bf16. */
bool tsr_rows__parameter_fits(const char *op, const char *argument, const tsr_tensor *t,
                              const char *like, tsr_dtype dtype);
/* Is t f32 or f64? */
bool tsr_rows__is_real(const char *op, const char *argument, const tsr_tensor *t);

/* Have x and y one shape? */
bool tsr_rows__shapes_equal(const char *op, const char *x_name, const tsr_tensor *x,
                            const char *y_name, const tsr_tensor *y);
/* Are they f32 or f64, of one type and one shape? */
bool tsr_rows__same(const char *op, const char *x_name, const tsr_tensor *x, const char *y_name,
                    const tsr_tensor *y);

/* t packed; NULL for NULL. *ok becomes false where memory is out. */
static inline tsr_tensor *tsr_rows__packed(tsr_tensor *t, bool *ok)
{
    if (t == NULL) return NULL;
    t = tsr_tensor_packed(t);
    if (t == NULL) *ok = false;
    return t;
}

/* x with dim (0 .. ndim - 1) and the last dimension exchanged; x itself where they are one. Not recorded. */
tsr_tensor *tsr_rows__exchanged(tsr_tensor *x, int dim);
/* The same, contiguous: rows along dim. */
tsr_tensor *tsr_rows__along(tsr_tensor *x, int dim);

/* v [C] as [C, 1, ...], which stretches over x [B, C, ...]. An op. */
tsr_tensor *tsr_rows__per_channel(tsr_tensor *v, tsr_shape x);

/* x [..., D] as a matrix [rows, D]: x itself where its strides allow, else a packed copy in the open scope. */
bool tsr_rows__matrix(tsr_tensor *x, tsr_matrix *out);

/* The same as a factor of a product. */
bool tsr_rows__factor(tsr_tensor *x, tsr_factor *out);
/* The contiguous c [m, n] = a [m, k] b [k, n] + bias, computed in dtype: bf16 as tsr__gemm_bf16 does; else f32 or f64, which
 * all are of. bias [n] contiguous, f32 with bf16; may be NULL. False on failure. */
bool tsr_rows__product(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_factor a, tsr_factor b,
                       tsr_tensor *bias, tsr_tensor *c);

/* sums [d] = column sums of the contiguous x, by chunks, then these in order; f32 of a bf16 x. NULL on failure. */
tsr_tensor *tsr_rows__column_sums(tsr_tensor *x);
/* result [d] = the sum of the rows of partial [chunks, d], in order. NULL passes. */
tsr_tensor *tsr_rows__combine(tsr_tensor *partial);

#endif
