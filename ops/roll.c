/* y[(i + shift) mod n] = x[i] along one dimension. dx = dy rolled back. */
#include "ops/dims.h"
#include "ops/ops.h"
#include "ops/samples.h"

struct roll {
    int dim;
    int64_t back;
};

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct roll *s = tsr_node_block(node);
    grad_inputs[0] = tsr_roll(grad_outputs[0], s->dim, s->back);
}

static const tsr_field fields[] = {
    TSR_FIELD(struct roll, "dim", dim), TSR_FIELD(struct roll, "back", back), {0}};

static const tsr_op op = {
    .name = "roll", .block_size = sizeof(struct roll), .backward = backward, .fields = fields};

/* n entries of x along dim, from x's entry `from` to y's entry `to`. */
static bool move(tsr_tensor *y, int64_t to, tsr_tensor *x, int64_t from, int dim, int64_t n)
{
    tsr_shape shape = tsr_tensor_shape(x);
    const int64_t *sy = tsr_tensor_strides(y), *sx = tsr_tensor_strides(x);
    shape.size[dim] = n;
    tsr_tensor *target = tsr_tensor_view(y, shape, sy, to * sy[dim]);
    tsr_tensor *source = tsr_tensor_view(x, shape, sx, from * sx[dim]);
    return target != NULL && source != NULL && tsr_tensor_copy(target, source) == TSR_STATUS_OK;
}

tsr_tensor *tsr_roll(tsr_tensor *x, int dim, int64_t shift)
{
    if (x == NULL) return NULL;
    struct roll s = {.dim = tsr_dims__index("roll", "dim", dim, tsr_tensor_ndim(x))};
    if (s.dim < 0) return NULL;
    int64_t n = tsr_tensor_size(x, s.dim);
    int64_t ahead = n > 0 ? (shift % n + n) % n : 0;
    s.back = n - ahead;
    tsr_tensor *y = tsr_empty_like(x);
    if (y == NULL || !move(y, ahead, x, 0, s.dim, n - ahead) ||
        !move(y, 0, x, s.back, s.dim, ahead))
        return NULL;
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

struct arguments {
    int dim;
    int64_t shift;
};

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const struct arguments *a = ((const tsr_sample *)user)->args;
    out[0] = tsr_roll(in.at[0], a->dim, a->shift);
}

static const tsr_sample samples[] = {
    {"windows", 1, 1, {{{3, {2, 5, 3}}}}, call, &(const struct arguments){1, -2}},
    {"last", 1, 1, {{{2, {3, 5}}}}, call, &(const struct arguments){-1, 1}},
    {"more than around", 1, 1, {{{1, {5}}}}, call, &(const struct arguments){0, 13}},
    {"by nothing", 1, 1, {{{2, {3, 5}}}}, call, &(const struct arguments){0, 0}},
    {"empty", 1, 1, {{{2, {3, 0}}}}, call, &(const struct arguments){1, 1}},
};
TSR_SAMPLES(roll, samples);
