/* The checks that ops with an index tensor share. Not installed. */
#ifndef TSR_OPS_INDEX_H
#define TSR_OPS_INDEX_H

#include "autograd/autograd.h"

#include <inttypes.h>

/* index, contiguous, where it is I64 and all its entries lie in [0, n); else NULL and a message. */
static inline tsr_tensor *tsr_index__checked(const char *op, tsr_tensor *index, int64_t n)
{
    if (index == NULL) return NULL;
    if (tsr_tensor_dtype(index) != TSR_DTYPE_I64) {
        tsr_fail(TSR_STATUS_DTYPE, "%s: index is %s, expected i64", op,
                 tsr_dtype_name(tsr_tensor_dtype(index)));
        return NULL;
    }
    tsr_tensor *packed = tsr_tensor_packed(index);
    const int64_t *at = tsr_tensor_data(packed);
    for (int64_t i = 0; i < tsr_tensor_numel(packed); i++) {
        if (at[i] >= 0 && at[i] < n) continue;
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "%s: element %" PRId64 " of index is %" PRId64 ", expected 0 to %" PRId64, op, i,
                 at[i], n - 1);
        return NULL;
    }
    return packed;
}

/* The same for a list of rows: index must be [rows] (rows -1: any number). */
static inline tsr_tensor *tsr_index__rows(const char *op, tsr_tensor *index, int64_t rows,
                                          int64_t n)
{
    if (index == NULL) return NULL;
    if (tsr_tensor_ndim(index) != 1 || (rows >= 0 && tsr_tensor_size(index, 0) != rows)) {
        char text[TSR_SHAPE_TEXT];
        tsr_shape_text(tsr_tensor_shape(index), text);
        if (rows < 0) tsr_fail(TSR_STATUS_SHAPE, "%s: index has shape %s, expected [n]", op, text);
        tsr_fail(TSR_STATUS_SHAPE, "%s: index has shape %s, expected [%" PRId64 "]", op, text,
                 rows);
        return NULL;
    }
    return tsr_index__checked(op, index, n);
}

/* shape, which must have dimension dim, as [outer, size of dim, inner]. */
static inline void tsr_index__lanes(tsr_shape shape, int dim, int64_t *outer, int64_t *inner)
{
    *outer = *inner = 1;
    for (int d = 0; d < dim; d++) *outer *= shape.size[d];
    for (int d = dim + 1; d < shape.ndim; d++) *inner *= shape.size[d];
}

#endif
