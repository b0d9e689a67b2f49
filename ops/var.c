/*
 * y = sum (x - m)^2 / (n - c), m = sum x / n, over n elements. The derivative through m vanishes, since sum (x - m) = 0:
 * dx = dy 2 (x - m) / (n - c).
 */
#include "ops/ops.h"
#include "ops/reduce.h"
#include "ops/rows.h"
#include "ops/samples.h"

struct var {
    tsr_shape shape, keepdim; /* of y, and of y with the reduced dimensions kept */
    unsigned set;
    double scale; /* 1 / (n - c) */
};

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct var *s = tsr_node_block(node);
    tsr_tensor *g = tsr_affine(tsr_reshape(grad_outputs[0], s->keepdim), 2.0 * s->scale, 0.0);
    tsr_tensor *centered = tsr_sub(tsr_node_input(node, 0), tsr_node_saved(node, 0));
    grad_inputs[0] = tsr_mul(centered, g);
}

static void definition(const void *block, tsr_tensors in, tsr_tensor **out)
{
    const struct var *s = block;
    tsr_tensor *x = in.at[0];
    int dims[TSR_MAX_DIMS], n = 0;
    for (int d = 0; d < tsr_tensor_ndim(x); d++) {
        if ((s->set & (1u << d)) != 0) dims[n++] = d;
    }
    tsr_tensor *centered = tsr_sub(x, tsr_mean(x, dims, n, true));
    tsr_tensor *sum = tsr_sum(tsr_mul(centered, centered), dims, n, true);
    out[0] = tsr_reshape(tsr_affine(sum, s->scale, 0.0), s->shape);
}

static const tsr_op op = {.name = "var",
                          .block_size = sizeof(struct var),
                          .backward = backward,
                          .definition = definition};

tsr_tensor *tsr_var(tsr_tensor *x, const int *dims, int n_dims, int correction, bool keepdim)
{
    struct var s;
    if (x == NULL || !tsr_rows__is_real(op.name, "x", x) ||
        !tsr_reduce__dims(op.name, x, dims, n_dims, &s.set)) {
        return NULL;
    }
    s.shape = tsr_reduce__shape(x, s.set, keepdim);
    s.keepdim = tsr_reduce__shape(x, s.set, true);
    int64_t n = tsr_reduce__count(x, s.set);
    if (n <= correction && tsr_shape_numel(s.shape) > 0) {
        char text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "var: correction is %d, expected less than the %lld elements that each variance "
                 "of x %s has",
                 correction, (long long)n, tsr_shape_text(tsr_tensor_shape(x), text));
        return NULL;
    }
    s.scale = 1.0 / (double)(n - correction);
    tsr_tensor *m = tsr_reduce__sum(op.name, x, s.set, true, 1.0 / (double)n);
    tsr_tensor *y = tsr_reduce__squares(op.name, x, m, s.set, keepdim, s.scale);
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_TENSORS(m), TSR_TENSORS(y));
}

struct sample_args {
    int n, dims[2], correction;
    bool keepdim;
};

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const tsr_sample *sample = user;
    const struct sample_args *a = sample->args;
    out[0] = tsr_var(in.at[0], a->dims, a->n, a->correction, a->keepdim);
}

static const tsr_sample samples[] = {
    {"all", 1, 1, {{{3, {2, 3, 5}}}}, call, &(const struct sample_args){.correction = 1}},
    {"rows", 1, 1, {{{2, {3, 17}}}}, call, &(const struct sample_args){1, {-1}, 0, true}},
    {"columns", 1, 1, {{{2, {131, 3}}}}, call, &(const struct sample_args){1, {0}, 1, false}},
    {"middle", 1, 1, {{{3, {2, 5, 3}}}}, call, &(const struct sample_args){1, {1}, 0, false}},
    {"two of four", 1, 1, {{{4, {2, 3, 2, 3}}}}, call, &(const struct sample_args){2, {0, 2}, 1}},
    {"no rows", 1, 1, {{{2, {0, 3}}}}, call, &(const struct sample_args){1, {1}, 1, false}},
};
TSR_SAMPLES(var, samples);
