/* y = x, its elements in row-major order in memory. dx = dy. */
#include "ops/ops.h"
#include "ops/samples.h"

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    (void)node;
    grad_inputs[0] = grad_outputs[0];
}

static const tsr_op op = {.name = "contiguous", .backward = backward};

tsr_tensor *tsr_contiguous(tsr_tensor *x)
{
    if (x == NULL || tsr_tensor_is_contiguous(x)) return x;
    tsr_tensor *y = tsr_tensor_packed(x);
    return tsr_record(&op, NULL, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_contiguous(tsr_transpose(in.at[0], 0, -1));
}

static const tsr_sample samples[] = {
    {"transposed", 1, 1, {{{3, {2, 3, 5}}}}, call},
    {"already", 1, 1, {{{1, {5}}}}, call},
    {"empty", 1, 1, {{{2, {0, 3}}}}, call},
};
TSR_SAMPLES_BF16(contiguous, samples);
