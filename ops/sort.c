/*
 * Each lane along dim in rising or falling order; equals keep their order; NaN is larger than all. The values are gathered
 * by the indices found, and gather has the gradient.
 */
#include "autograd/loop.h"
#include "ops/dims.h"
#include "ops/ops.h"
#include "ops/order.h"
#include "ops/rows.h"
#include "ops/samples.h"

#include <string.h>

struct lane {
    bool f32, descending;
    const void *x;
};

/* Must entry b, which stands behind a, move before it? */
static bool is_before(const struct lane *l, int64_t b, int64_t a)
{
    double va = tsr_order__value(l->f32, l->x, a), vb = tsr_order__value(l->f32, l->x, b);
    return l->descending ? tsr_order__less(va, vb) : tsr_order__less(vb, va);
}

static void merge(const struct lane *l, const int64_t *from, int64_t *to, int64_t middle, int64_t n)
{
    int64_t a = 0, b = middle;
    for (int64_t i = 0; i < n; i++) {
        bool second = a == middle || (b < n && is_before(l, from[b], from[a]));
        to[i] = second ? from[b++] : from[a++];
    }
}

/* The order of x[0 .. n) in out: a merge sort from runs of one upward. */
static void order(const struct lane *l, int64_t n, int64_t *out, int64_t *scratch)
{
    int64_t *from = out, *to = scratch;
    for (int64_t i = 0; i < n; i++) out[i] = i;
    for (int64_t run = 1; run < n; run *= 2) {
        for (int64_t i = 0; i < n; i += 2 * run) {
            int64_t both = n - i < 2 * run ? n - i : 2 * run;
            merge(l, from + i, to + i, run < both ? run : both, both);
        }
        int64_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != out) memcpy(out, from, (size_t)n * sizeof *out);
}

tsr_tensor *tsr_sort(tsr_tensor *x, int dim, bool descending, tsr_tensor **indices)
{
    if (indices != NULL) *indices = NULL;
    if (x == NULL || !tsr_rows__is_real("sort", "x", x)) return NULL;
    int d = tsr_dims__index("sort", "dim", dim, tsr_tensor_ndim(x));
    if (d < 0) return NULL;
    tsr_tensor *lanes = tsr_transpose(x, d, -1), *packed = tsr_tensor_packed(lanes);
    if (packed == NULL) return NULL;
    tsr_shape shape = tsr_tensor_shape(lanes);
    tsr_tensor *found = tsr_empty(TSR_DTYPE_I64, shape), *spare = tsr_empty(TSR_DTYPE_I64, shape);
    if (found == NULL || spare == NULL) return NULL;
    int64_t n = tsr_tensor_size(x, d), numel = tsr_tensor_numel(x), count = n > 0 ? numel / n : 0;
    bool f32 = tsr_tensor_dtype(x) == TSR_DTYPE_F32;
    const char *xd = tsr_tensor_data(packed);
    size_t bytes = (size_t)n * tsr_dtype_size(tsr_tensor_dtype(x));
    int64_t *out = tsr_tensor_data_mut(found), *scratch = tsr_tensor_data_mut(spare);
    TSR_PARALLEL_FOR(i, count, 8 * numel, {
        struct lane l = {f32, descending, xd + (size_t)i * bytes};
        order(&l, n, out + i * n, scratch + i * n);
    });
    tsr_tensor *y = tsr_transpose(tsr_gather(lanes, -1, found), d, -1);
    if (indices != NULL && y != NULL) *indices = tsr_transpose(found, d, -1);
    return y;
}

struct arguments {
    int dim;
    bool descending;
};

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    const struct arguments *a = ((const tsr_sample *)user)->args;
    out[0] = tsr_sort(in.at[0], a->dim, a->descending, n_out > 1 ? &out[1] : NULL);
}

static bool kink(tsr_tensors in, int input, int64_t element, void *user)
{
    (void)user;
    return tsr_order__near_tie(in.at[input], element);
}

static const tsr_sample samples[] = {
    {"rising", 1, 2, {{{2, {3, 7}}}}, call, &(const struct arguments){-1, false}, kink},
    {"falling columns", 1, 2, {{{2, {7, 3}}}}, call, &(const struct arguments){0, true}, kink},
    {"values only", 1, 1, {{{3, {2, 5, 2}}}}, call, &(const struct arguments){1, false}, kink},
    {"empty", 1, 2, {{{2, {3, 0}}}}, call, &(const struct arguments){1, false}, kink},
};
TSR_SAMPLES(sort, samples);
