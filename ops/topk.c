/*
 * The k largest entries of each lane along dim, in falling order; of equals the one with the lower index is first; NaN is
 * larger than all. x [..., N] -> [..., k]. The values are gathered by the indices found, and gather has the gradient.
 */
#include "autograd/loop.h"
#include "ops/dims.h"
#include "ops/ops.h"
#include "ops/order.h"
#include "ops/rows.h"
#include "ops/samples.h"

#include <inttypes.h>

/* Does entry a come after entry b in the result? */
static bool is_worse(bool f32, const void *x, int64_t a, int64_t b)
{
    double va = tsr_order__value(f32, x, a), vb = tsr_order__value(f32, x, b);
    if (tsr_order__less(va, vb)) return true;
    return !tsr_order__less(vb, va) && a > b;
}

/* heap: indices, the worst on top. */
static void sink(bool f32, const void *x, int64_t *heap, int64_t n)
{
    int64_t entry = heap[0], at = 0;
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && is_worse(f32, x, heap[child + 1], heap[child])) child++;
        if (!is_worse(f32, x, heap[child], entry)) break;
        heap[at] = heap[child];
    }
    heap[at] = entry;
}

static void rise(bool f32, const void *x, int64_t *heap, int64_t at, int64_t entry)
{
    for (; at > 0 && is_worse(f32, x, entry, heap[(at - 1) / 2]); at = (at - 1) / 2) {
        heap[at] = heap[(at - 1) / 2];
    }
    heap[at] = entry;
}

/* The best k of x[0 .. n), best first. */
static void best(bool f32, const void *x, int64_t n, int64_t k, int64_t *out)
{
    for (int64_t i = 0; i < k; i++) rise(f32, x, out, i, i);
    for (int64_t i = k; i < n; i++) {
        /* A later entry that equals the worst so far is worse. */
        if (!is_worse(f32, x, out[0], i)) continue;
        out[0] = i;
        sink(f32, x, out, k);
    }
    for (int64_t left = k - 1; left > 0; left--) {
        int64_t worst = out[0];
        out[0] = out[left];
        sink(f32, x, out, left);
        out[left] = worst;
    }
}

tsr_tensor *tsr_topk(tsr_tensor *x, int64_t k, int dim, tsr_tensor **indices)
{
    if (indices != NULL) *indices = NULL;
    if (x == NULL || !tsr_rows__is_real("topk", "x", x)) return NULL;
    int d = tsr_dims__index("topk", "dim", dim, tsr_tensor_ndim(x));
    if (d < 0) return NULL;
    int64_t n = tsr_tensor_size(x, d);
    if (k < 0 || k > n) {
        tsr_fail(TSR_STATUS_ARGUMENT, "topk: k is %" PRId64 ", expected 0 to %" PRId64, k, n);
        return NULL;
    }
    tsr_tensor *lanes = tsr_transpose(x, d, -1), *packed = tsr_tensor_packed(lanes);
    if (packed == NULL) return NULL;
    tsr_shape shape = tsr_tensor_shape(lanes);
    shape.size[shape.ndim - 1] = k;
    tsr_tensor *found = tsr_empty(TSR_DTYPE_I64, shape);
    if (found == NULL) return NULL;
    bool f32 = tsr_tensor_dtype(x) == TSR_DTYPE_F32;
    int64_t count = k > 0 ? tsr_tensor_numel(found) / k : 0;
    const char *xd = tsr_tensor_data(packed);
    size_t lane = (size_t)n * tsr_dtype_size(tsr_tensor_dtype(x));
    int64_t *out = tsr_tensor_data_mut(found);
    TSR_PARALLEL_FOR(i, count, count * n, best(f32, xd + (size_t)i * lane, n, k, out + i * k));
    tsr_tensor *y = tsr_transpose(tsr_gather(lanes, -1, found), d, -1);
    if (indices != NULL && y != NULL) *indices = tsr_transpose(found, d, -1);
    return y;
}

struct arguments {
    int64_t k;
    int dim;
};

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    const struct arguments *a = ((const tsr_sample *)user)->args;
    out[0] = tsr_topk(in.at[0], a->k, a->dim, n_out > 1 ? &out[1] : NULL);
}

static bool kink(tsr_tensors in, int input, int64_t element, void *user)
{
    (void)user;
    return tsr_order__near_tie(in.at[input], element);
}

static const tsr_sample samples[] = {
    {"rows", 1, 2, {{{2, {3, 7}}}}, call, &(const struct arguments){3, -1}, kink},
    {"columns", 1, 2, {{{2, {7, 3}}}}, call, &(const struct arguments){2, 0}, kink},
    {"all", 1, 2, {{{1, {5}}}}, call, &(const struct arguments){5, 0}, kink},
    {"values only", 1, 1, {{{3, {2, 5, 3}}}}, call, &(const struct arguments){1, 1}, kink},
    {"none", 1, 2, {{{2, {3, 5}}}}, call, &(const struct arguments){0, 1}, kink},
};
TSR_SAMPLES(topk, samples);
