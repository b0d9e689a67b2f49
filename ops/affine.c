/* y = x scale + shift; dx = dy scale. */
#include "ops/elementwise.h"
#include "ops/ops.h"
#include "ops/samples.h"

struct affine {
    double scale, shift;
};

static void forward(tsr_tensor *result, tsr_tensor *input, const struct affine *s)
{
    const double scale = s->scale, shift = s->shift;
    const float scale32 = (float)scale, shift32 = (float)shift;
    TSR_UNARY_LOOP(result, input, x * scale32 + shift32, x * scale + shift)
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct affine *s = tsr_node_block(node);
    grad_inputs[0] = tsr_affine(grad_outputs[0], s->scale, 0.0);
}

static const tsr_field fields[] = {
    TSR_FIELD(struct affine, "scale", scale), TSR_FIELD(struct affine, "shift", shift), {0}};

static const tsr_op op = {
    .name = "affine", .block_size = sizeof(struct affine), .backward = backward, .fields = fields};

tsr_tensor *tsr_affine(tsr_tensor *x, double scale, double shift)
{
    tsr_tensor *y = tsr_elementwise__like(op.name, x);
    if (y == NULL) return NULL;
    struct affine s = {scale, shift};
    forward(y, x, &s);
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_affine(in.at[0], -1.7, 0.3);
}

static const tsr_sample samples[] = {
    {"matrix", 1, 1, {{{2, {3, 7}}}}, call},
    {"scalar", 1, 1, {{{0}}}, call},
    {"empty", 1, 1, {{{2, {3, 0}}}}, call},
};
TSR_SAMPLES_BF16(affine, samples);
