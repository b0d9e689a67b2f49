/* y = min(max(x, lo), hi), NaN stays NaN; dx = dy where lo <= x <= hi. */
#include "ops/elementwise.h"
#include "ops/ops.h"
#include "ops/samples.h"

#include <math.h>

struct clamp {
    double lo, hi;
};

static void forward(tsr_tensor *result, tsr_tensor *input, const struct clamp *s)
{
    const double lo = s->lo, hi = s->hi;
    const float lo32 = (float)lo, hi32 = (float)hi;
    TSR_UNARY_LOOP(result, input,
                   x > hi32   ? hi32
                   : x < lo32 ? lo32
                              : x,
                   x > hi   ? hi
                   : x < lo ? lo
                            : x)
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct clamp *s = tsr_node_block(node);
    tsr_tensor *x = tsr_node_saved(node, 0), *g = grad_outputs[0];
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_tensor *zero = tsr_scalar(dtype, 0.0);
    tsr_tensor *passed = tsr_where(tsr_le(x, tsr_scalar(dtype, s->hi)), g, zero);
    grad_inputs[0] = tsr_where(tsr_ge(x, tsr_scalar(dtype, s->lo)), passed, zero);
}

static const tsr_field fields[] = {
    TSR_FIELD(struct clamp, "lo", lo), TSR_FIELD(struct clamp, "hi", hi), {0}};

static const tsr_op op = {
    .name = "clamp", .block_size = sizeof(struct clamp), .backward = backward, .fields = fields};

tsr_tensor *tsr_clamp(tsr_tensor *x, double lo, double hi)
{
    if (x != NULL && !(lo <= hi)) {
        tsr_fail(TSR_STATUS_ARGUMENT, "clamp: lo is %g and hi %g, expected lo <= hi", lo, hi);
        return NULL;
    }
    tsr_tensor *y = tsr_elementwise__like(op.name, x);
    if (y == NULL) return NULL;
    struct clamp s = {lo, hi};
    forward(y, x, &s);
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_TENSORS(x), TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_clamp(in.at[0], -0.8, 1.1);
}

static bool near_a_bound(tsr_tensors in, int input, int64_t element, void *user)
{
    (void)user;
    double x = tsr_tensor_get(in.at[input], element);
    return fabs(x + 0.8) < 1e-3 || fabs(x - 1.1) < 1e-3;
}

static const tsr_sample samples[] = {
    {"matrix", 1, 1, {{{2, {5, 7}}}}, call, .kink = near_a_bound},
    {"scalar", 1, 1, {{{0}}}, call, .kink = near_a_bound},
    {"empty", 1, 1, {{{2, {3, 0}}}}, call},
};
TSR_SAMPLES_BF16(clamp, samples);
