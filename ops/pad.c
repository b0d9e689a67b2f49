/*
 * y = x with before[d] and after[d] elements of a value around each dimension; negative numbers cut that much away. dx is
 * dy cut (or, where x was cut, padded with zeros): pad with the negative numbers.
 */
#include "ops/ops.h"
#include "ops/samples.h"

struct pad {
    int64_t before[TSR_MAX_DIMS], after[TSR_MAX_DIMS]; /* of the gradient: negative */
    double value;                                      /* which the gradient does not need */
};

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct pad *s = tsr_node_block(node);
    grad_inputs[0] = tsr_pad(grad_outputs[0], s->before, s->after, 0.0);
}

static const tsr_field fields[] = {TSR_FIELD(struct pad, "cut_before", before),
                                   TSR_FIELD(struct pad, "cut_after", after),
                                   TSR_FIELD(struct pad, "value", value),
                                   {0}};

static const tsr_op op = {
    .name = "pad", .block_size = sizeof(struct pad), .backward = backward, .fields = fields};

/* The part of t that lies in the other tensor too, cut[d] elements after t's first. */
static tsr_tensor *common(tsr_tensor *t, tsr_shape shape, const int64_t *cut)
{
    int64_t offset = 0;
    for (int d = 0; d < shape.ndim; d++) {
        if (cut[d] > 0) offset += cut[d] * tsr_tensor_strides(t)[d];
    }
    return tsr_tensor_view(t, shape, tsr_tensor_strides(t), offset);
}

tsr_tensor *tsr_pad(tsr_tensor *x, const int64_t *before, const int64_t *after, double value)
{
    if (x == NULL) return NULL;
    struct pad s = {.value = value};
    tsr_shape from = tsr_tensor_shape(x), shape = from, inside = from;
    for (int d = 0; d < from.ndim; d++) {
        int64_t b = before[d], a = after[d];
        bool fits = !__builtin_add_overflow(from.size[d], b, &shape.size[d]) &&
                    !__builtin_add_overflow(shape.size[d], a, &shape.size[d]);
        if (fits) inside.size[d] = from.size[d] + (b < 0 ? b : 0) + (a < 0 ? a : 0);
        if (!fits || shape.size[d] < 0 || inside.size[d] < 0) {
            char text[TSR_SHAPE_TEXT];
            tsr_fail(TSR_STATUS_SHAPE, "pad: more than all of dimension %d of x %s is cut away", d,
                     tsr_shape_text(from, text));
            return NULL;
        }
        s.before[d] = -b;
        s.after[d] = -a;
    }
    tsr_tensor *y = tsr_full(tsr_tensor_dtype(x), shape, value);
    if (y == NULL) return NULL;
    tsr_tensor *to = common(y, inside, before), *source = common(x, inside, s.before);
    if (to == NULL || source == NULL || tsr_tensor_copy(to, source) != TSR_STATUS_OK) return NULL;
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

struct arguments {
    int64_t before[4], after[4];
    double value;
};

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const struct arguments *a = ((const tsr_sample *)user)->args;
    out[0] = tsr_pad(in.at[0], a->before, a->after, a->value);
}

static const tsr_sample samples[] = {
    {"image border",
     1,
     1,
     {{{4, {2, 1, 3, 4}}}},
     call,
     &(const struct arguments){{0, 0, 1, 2}, {0, 0, 3, 1}, 0.0}},
    {"with a value", 1, 1, {{{1, {3}}}}, call, &(const struct arguments){{2}, {1}, -1.5}},
    {"cut", 1, 1, {{{2, {5, 4}}}}, call, &(const struct arguments){{-1, 0}, {-2, -1}, 0.0}},
    {"cut and padded", 1, 1, {{{2, {5, 4}}}}, call, &(const struct arguments){{-2, 3}, {1, -1}, 7}},
    {"scalar", 1, 1, {{{0}}}, call, &(const struct arguments){{0}, {0}, 1.0}},
    {"empty", 1, 1, {{{2, {0, 3}}}}, call, &(const struct arguments){{2, 0}, {0, 0}, 1.0}},
};
TSR_SAMPLES(pad, samples);
