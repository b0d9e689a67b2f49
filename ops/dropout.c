/*
 * y = x / (1 - p) where an element is kept, 0 where it is dropped, with probability p. Which ones is a function of
 * tsr_rng_row(rng, row of dimension 0) and of the element's place in its row: a batch that is cut in parts drops the same
 * elements. y is linear in x, so dx is dy under the same function.
 */
#include "autograd/loop.h"
#include "ops/elementwise.h"
#include "ops/ops.h"
#include "ops/samples.h"

struct dropout {
    double p;
    tsr_rng rng;
};

enum { PART = 4096 }; /* elements that share one generator: a multiple of Philox's four */

#define DROP(T, S, read, write)                                                                    \
    for (int64_t k = 0; k < n; k++) {                                                              \
        bool kept = (double)tsr_rng_u32(&rng) >= threshold;                                        \
        ((S *)yd)[at + k] = write(kept ? read(((const S *)xd)[at + k]) * (T)scale : (T)0);         \
    }

static void forward(tsr_tensor *y, tsr_tensor *x, const struct dropout *s)
{
    int64_t numel = tsr_tensor_numel(x);
    int64_t rows = tsr_tensor_ndim(x) > 0 ? tsr_tensor_size(x, 0) : 1;
    int64_t width = numel > 0 ? numel / rows : 0, parts = (width + PART - 1) / PART;
    double scale = 1.0 / (1.0 - s->p), threshold = s->p * 0x1p32;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    const void *xd = tsr_tensor_data(x);
    void *yd = tsr_tensor_data_mut(y);
    TSR_PARALLEL_FOR(p, rows * parts, 8 * numel, {
        int64_t row = p / parts, first = p % parts * PART, at = row * width + first;
        int64_t n = width - first < PART ? width - first : PART;
        tsr_rng rng = tsr_rng_row(s->rng, row);
        rng.index += (uint32_t)(first / 4);
        if (dtype == TSR_DTYPE_F32) {
            DROP(float, float, TSR_ELEMENT_AS_IS, TSR_ELEMENT_AS_IS)
        } else if (dtype == TSR_DTYPE_F64) {
            DROP(double, double, TSR_ELEMENT_AS_IS, TSR_ELEMENT_AS_IS)
        } else {
            DROP(float, tsr_bf16, tsr_bf16_to_f32, tsr_bf16_from_f32)
        }
    });
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct dropout *s = tsr_node_block(node);
    grad_inputs[0] = tsr_dropout(grad_outputs[0], s->p, s->rng);
}

static const tsr_op op = {
    .name = "dropout", .block_size = sizeof(struct dropout), .backward = backward};

tsr_tensor *tsr_dropout(tsr_tensor *x, double p, tsr_rng rng)
{
    if (x == NULL || p == 0.0) return x;
    if (!(p >= 0.0 && p <= 1.0)) {
        tsr_fail(TSR_STATUS_ARGUMENT, "dropout: p is %g, expected 0 to 1", p);
        return NULL;
    }
    struct dropout s = {p, rng};
    tsr_tensor *y = tsr_elementwise__like("dropout", x), *packed = tsr_tensor_packed(x);
    if (y == NULL || packed == NULL) return NULL;
    forward(y, packed, &s);
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    double p = *(const double *)((const tsr_sample *)user)->args;
    out[0] = tsr_dropout(in.at[0], p, tsr_rng_make(7, 3, 0, tsr_rng_purpose("dropout")));
}

static const tsr_sample samples[] = {
    {"half", 1, 1, {{{2, {3, 11}}}}, call, &(const double){0.5}},
    {"few", 1, 1, {{{3, {2, 3, 5}}}}, call, &(const double){0.1}},
    {"none", 1, 1, {{{1, {5}}}}, call, &(const double){0.0}},
    {"all", 1, 1, {{{1, {5}}}}, call, &(const double){1.0}},
    {"scalar", 1, 1, {{{0}}}, call, &(const double){0.5}},
    {"empty", 1, 1, {{{2, {0, 3}}}}, call, &(const double){0.5}},
};
TSR_SAMPLES_BF16(dropout, samples);
