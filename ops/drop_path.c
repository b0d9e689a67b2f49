/*
 * Stochastic depth (Huang et al. 2016) as timm's drop_path: x [B, ...], each row kept with probability keep = 1 - p and
 * then divided by it: y = x / keep * floor(keep + u), u uniform in [0, 1) from tsr_rng_row(rng, row). A batch that is cut
 * in parts drops the same rows. y is linear in x, so dx is dy under the same function.
 */
#include "ops/drop_path.h"
#include "autograd/loop.h"
#include "ops/elementwise.h"
#include "ops/ops.h"
#include "ops/samples.h"

struct drop_path {
    double p;
    tsr_rng rng;
};

enum { PART = 16384 };

#define DROP(T, S, read, write)                                                                    \
    for (int64_t k = at; k < at + n; k++) {                                                        \
        ((S *)yd)[k] = write(kept ? read(((const S *)xd)[k]) / (T)keep : (T)0);                    \
    }

static void forward(tsr_tensor *y, tsr_tensor *x, const struct drop_path *s)
{
    int64_t numel = tsr_tensor_numel(x), rows = tsr_tensor_size(x, 0);
    int64_t width = numel > 0 ? numel / rows : 0, parts = (width + PART - 1) / PART;
    double keep = 1.0 - s->p;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    const void *xd = tsr_tensor_data(x);
    void *yd = tsr_tensor_data_mut(y);
    TSR_PARALLEL_FOR(p, rows * parts, numel, {
        int64_t row = p / parts, first = p % parts * PART, at = row * width + first;
        int64_t n = width - first < PART ? width - first : PART;
        bool kept = tsr_drop_path__keeps(s->rng, s->p, row);
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
    const struct drop_path *s = tsr_node_block(node);
    grad_inputs[0] = tsr_drop_path(grad_outputs[0], s->p, s->rng);
}

static const tsr_op op = {
    .name = "drop_path", .block_size = sizeof(struct drop_path), .backward = backward};

tsr_tensor *tsr_drop_path(tsr_tensor *x, double p, tsr_rng rng)
{
    if (x == NULL || p == 0.0) return x;
    if (!(p >= 0.0 && p <= 1.0)) {
        tsr_fail(TSR_STATUS_ARGUMENT, "drop_path: p is %g, expected 0 to 1", p);
        return NULL;
    }
    if (tsr_tensor_ndim(x) == 0) {
        tsr_fail(TSR_STATUS_SHAPE, "drop_path: x has shape [], expected [B, ...]");
        return NULL;
    }
    struct drop_path s = {p, rng};
    tsr_tensor *y = tsr_elementwise__like("drop_path", x), *packed = tsr_tensor_packed(x);
    if (y == NULL || packed == NULL) return NULL;
    forward(y, packed, &s);
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    double p = *(const double *)((const tsr_sample *)user)->args;
    out[0] = tsr_drop_path(in.at[0], p, tsr_rng_make(7, 3, 0, tsr_rng_purpose("drop_path")));
}

static const tsr_sample samples[] = {
    {"half", 1, 1, {{{2, {8, 3}}}}, call, &(const double){0.5}},
    {"few", 1, 1, {{{3, {5, 3, 2}}}}, call, &(const double){0.1}},
    {"none", 1, 1, {{{1, {5}}}}, call, &(const double){0.0}},
    {"all", 1, 1, {{{1, {5}}}}, call, &(const double){1.0}},
    {"empty", 1, 1, {{{2, {0, 3}}}}, call, &(const double){0.5}},
};
TSR_SAMPLES_BF16(drop_path, samples);
