/* y = x in reverse along one dimension. dx = dy in reverse. */
#include "ops/dims.h"
#include "ops/ops.h"
#include "ops/samples.h"

struct flip {
    int dim;
};

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct flip *s = tsr_node_block(node);
    grad_inputs[0] = tsr_flip(grad_outputs[0], s->dim);
}

static const tsr_field fields[] = {TSR_FIELD(struct flip, "dim", dim), {0}};

static const tsr_op op = {
    .name = "flip", .block_size = sizeof(struct flip), .backward = backward, .fields = fields};

tsr_tensor *tsr_flip(tsr_tensor *x, int dim)
{
    if (x == NULL) return NULL;
    tsr_shape shape = tsr_tensor_shape(x);
    struct flip s = {tsr_dims__index("flip", "dim", dim, shape.ndim)};
    if (s.dim < 0) return NULL;
    int64_t strides[TSR_MAX_DIMS], n = shape.size[s.dim];
    for (int d = 0; d < shape.ndim; d++) strides[d] = tsr_tensor_strides(x)[d];
    int64_t last = n > 0 ? (n - 1) * strides[s.dim] : 0;
    strides[s.dim] = -strides[s.dim];
    tsr_tensor *y = tsr_empty(tsr_tensor_dtype(x), shape);
    tsr_tensor *reverse = tsr_tensor_view(x, shape, strides, last);
    if (y == NULL || reverse == NULL || tsr_tensor_copy(y, reverse) != TSR_STATUS_OK) return NULL;
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    out[0] = tsr_flip(in.at[0], *(const int *)((const tsr_sample *)user)->args);
}

static const tsr_sample samples[] = {
    {"mirror", 1, 1, {{{3, {2, 3, 5}}}}, call, &(const int){-1}},
    {"rows", 1, 1, {{{2, {4, 3}}}}, call, &(const int){0}},
    {"one", 1, 1, {{{2, {1, 3}}}}, call, &(const int){0}},
    {"empty", 1, 1, {{{2, {3, 0}}}}, call, &(const int){1}},
};
TSR_SAMPLES(flip, samples);
