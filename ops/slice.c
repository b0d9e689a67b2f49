/*
 * y[i] = x[start + i step] along one dimension: a view. dx = dy put back to where it came from, zeros elsewhere; that is
 * an op of its own (place), whose gradient is the slice again.
 */
#include "ops/dims.h"
#include "ops/ops.h"
#include "ops/samples.h"

#include <inttypes.h>

struct slice {
    int dim;
    int64_t start, step;
    int64_t n, size; /* elements of y and of x along dim */
};

/* The elements that s names along its dimension of x. */
static tsr_tensor *part(tsr_tensor *x, const struct slice *s)
{
    if (x == NULL) return NULL;
    tsr_shape shape = tsr_tensor_shape(x);
    const int64_t *old = tsr_tensor_strides(x);
    int64_t strides[TSR_MAX_DIMS] = {0};
    for (int d = 0; d < shape.ndim; d++) strides[d] = old[d];
    shape.size[s->dim] = s->n;
    strides[s->dim] *= s->step;
    return tsr_tensor_view(x, shape, strides, s->start * old[s->dim]);
}

static tsr_tensor *slice(tsr_tensor *x, const struct slice *s);

static void place_backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                           tsr_tensor **grad_inputs)
{
    grad_inputs[0] = slice(grad_outputs[0], tsr_node_block(node));
}

static const tsr_op place_op = {
    .name = "slice's place", .block_size = sizeof(struct slice), .backward = place_backward};

static tsr_tensor *place(tsr_tensor *g, const struct slice *s)
{
    tsr_shape shape = tsr_tensor_shape(g);
    shape.size[s->dim] = s->size;
    tsr_tensor *y = tsr_zeros(tsr_tensor_dtype(g), shape), *to = part(y, s);
    if (to == NULL || tsr_tensor_copy(to, g) != TSR_STATUS_OK) return NULL;
    return tsr_record(&place_op, s, TSR_TENSORS(g), TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    grad_inputs[0] = place(grad_outputs[0], tsr_node_block(node));
}

static const tsr_field fields[] = {TSR_FIELD(struct slice, "dim", dim),
                                   TSR_FIELD(struct slice, "start", start),
                                   TSR_FIELD(struct slice, "step", step),
                                   {0}};

static const tsr_op op = {
    .name = "slice", .block_size = sizeof(struct slice), .backward = backward, .fields = fields};

static tsr_tensor *slice(tsr_tensor *x, const struct slice *s)
{
    return tsr_record(&op, s, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(part(x, s)));
}

tsr_tensor *tsr_slice(tsr_tensor *x, int dim, int64_t start, int64_t end, int64_t step)
{
    if (x == NULL) return NULL;
    int d = tsr_dims__index("slice", "dim", dim, tsr_tensor_ndim(x));
    if (d < 0) return NULL;
    int64_t size = tsr_tensor_size(x, d);
    int64_t from = start < 0 ? start + size : start, to = end < 0 ? end + size : end;
    if (from < 0 || to < from || to > size || step < 1) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "slice: [%" PRId64 ", %" PRId64 ") by %" PRId64
                 " does not lie in dimension %d, which has %" PRId64 " elements",
                 start, end, step, d, size);
        return NULL;
    }
    int64_t n = to == from ? 0 : (to - from - 1) / step + 1;
    struct slice s = {.dim = d, .start = from, .step = step, .n = n, .size = size};
    return slice(x, &s);
}

struct arguments {
    int dim;
    int64_t start, end, step;
};

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const struct arguments *a = ((const tsr_sample *)user)->args;
    out[0] = tsr_slice(in.at[0], a->dim, a->start, a->end, a->step);
}

static const tsr_sample samples[] = {
    {"rows", 1, 1, {{{2, {5, 3}}}}, call, &(const struct arguments){0, 1, 4, 1}},
    {"middle by two", 1, 1, {{{3, {2, 7, 3}}}}, call, &(const struct arguments){1, 1, 6, 2}},
    {"all but the last", 1, 1, {{{2, {2, 5}}}}, call, &(const struct arguments){-1, 0, -1, 1}},
    {"last two", 1, 1, {{{1, {5}}}}, call, &(const struct arguments){0, -2, 5, 1}},
    {"step beyond the end", 1, 1, {{{1, {5}}}}, call, &(const struct arguments){0, 3, 5, 9}},
    {"nothing", 1, 1, {{{2, {3, 5}}}}, call, &(const struct arguments){1, 2, 2, 1}},
};
TSR_SAMPLES_BF16(slice, samples);
