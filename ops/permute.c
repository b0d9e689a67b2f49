/*
 * y's dimension d is x's dimension dims[d]: a view with reordered strides. dx = dy with the inverse order.
 */
#include "ops/dims.h"
#include "ops/ops.h"
#include "ops/samples.h"

struct permute {
    int inverse[TSR_MAX_DIMS];
};

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct permute *s = tsr_node_block(node);
    grad_inputs[0] = tsr_permute(grad_outputs[0], s->inverse);
}

static const tsr_field fields[] = {TSR_FIELD(struct permute, "inverse", inverse), {0}};

static const tsr_op op = {.name = "permute",
                          .block_size = sizeof(struct permute),
                          .backward = backward,
                          .fields = fields};

tsr_tensor *tsr_permute(tsr_tensor *x, const int *dims)
{
    if (x == NULL) return NULL;
    struct permute s = {{0}};
    tsr_shape from = tsr_tensor_shape(x), shape = {.ndim = from.ndim};
    int64_t strides[TSR_MAX_DIMS] = {0};
    bool seen[TSR_MAX_DIMS] = {false};
    for (int d = 0; d < from.ndim; d++) {
        int source = tsr_dims__index("permute", "an entry of dims", dims[d], from.ndim);
        if (source < 0) return NULL;
        if (seen[source]) {
            tsr_fail(TSR_STATUS_ARGUMENT, "permute: dims names dimension %d twice", source);
            return NULL;
        }
        seen[source] = true;
        s.inverse[source] = d;
        shape.size[d] = from.size[source];
        strides[d] = tsr_tensor_strides(x)[source];
    }
    tsr_tensor *y = tsr_tensor_view(x, shape, strides, 0);
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const tsr_sample *sample = user;
    out[0] = tsr_permute(in.at[0], sample->args);
}

static const tsr_sample samples[] = {
    {"rotation", 1, 1, {{{3, {2, 3, 5}}}}, call, (const int[]){1, 2, 0}},
    {"from the back", 1, 1, {{{3, {2, 3, 5}}}}, call, (const int[]){-1, 0, -2}},
    {"identity", 1, 1, {{{2, {3, 5}}}}, call, (const int[]){0, 1}},
    {"scalar", 1, 1, {{{0}}}, call, (const int[]){0}},
    {"empty", 1, 1, {{{2, {0, 3}}}}, call, (const int[]){1, 0}},
};
TSR_SAMPLES_BF16(permute, samples);
