/*
 * n equal views along one dimension. One node with n outputs, so that dx is their gradients concatenated (zeros where a
 * part got none) instead of a sum of n tensors that are almost all zeros.
 */
#include "ops/dims.h"
#include "ops/ops.h"
#include "ops/samples.h"

#include <inttypes.h>

struct split {
    int dim, n;
    tsr_shape part;
    tsr_dtype dtype;
};

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct split *s = tsr_node_block(node);
    tsr_tensor **parts = tsr_alloc((size_t)s->n * sizeof *parts), *zeros = NULL;
    if (parts == NULL) return;
    for (int i = 0; i < s->n; i++) {
        if (grad_outputs[i] == NULL && zeros == NULL) zeros = tsr_zeros(s->dtype, s->part);
        parts[i] = grad_outputs[i] != NULL ? grad_outputs[i] : zeros;
    }
    grad_inputs[0] = tsr_concat((tsr_tensors){parts, s->n}, s->dim);
    tsr_free(parts);
}

static const tsr_field fields[] = {TSR_FIELD(struct split, "dim", dim), {0}};

static const tsr_op op = {
    .name = "split", .block_size = sizeof(struct split), .backward = backward, .fields = fields};

tsr_status tsr_split(tsr_tensor *x, int dim, int n, tsr_tensor **parts)
{
    for (int i = 0; i < n; i++) parts[i] = NULL;
    if (x == NULL) return tsr_status_get();
    struct split s = {.n = n, .part = tsr_tensor_shape(x), .dtype = tsr_tensor_dtype(x)};
    s.dim = tsr_dims__index("split", "dim", dim, s.part.ndim);
    if (s.dim < 0) return tsr_status_get();
    int64_t size = s.part.size[s.dim];
    if (n < 1 || size % n != 0) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "split: n is %d, which does not divide the %" PRId64
                        " elements of dimension %d",
                        n, size, s.dim);
    }
    s.part.size[s.dim] = size / n;
    const int64_t *strides = tsr_tensor_strides(x);
    for (int i = 0; i < n; i++) {
        parts[i] = tsr_tensor_view(x, s.part, strides, i * (size / n) * strides[s.dim]);
    }
    if (tsr_record(&op, &s, TSR_TENSORS(x), TSR_NO_TENSORS, (tsr_tensors){parts, n}) == NULL) {
        for (int i = 0; i < n; i++) parts[i] = NULL;
    }
    return tsr_status_get();
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    tsr_split(in.at[0], *(const int *)((const tsr_sample *)user)->args, n_out, out);
}

static const tsr_sample samples[] = {
    {"q, k, v", 1, 3, {{{3, {2, 3, 6}}}}, call, &(const int){-1}},
    {"rows", 1, 2, {{{2, {4, 3}}}}, call, &(const int){0}},
    {"one", 1, 1, {{{1, {5}}}}, call, &(const int){0}},
    {"empty", 1, 2, {{{2, {3, 0}}}}, call, &(const int){1}},
};
TSR_SAMPLES_BF16(split, samples);
