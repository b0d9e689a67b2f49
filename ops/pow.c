/*
 * r = x^y, broadcast. dx = dr y x^(y - 1), 0 for 0^0; dy = dr r ln x, 0 where x is 0; each summed over the dimensions along
 * which its operand was stretched. What is masked is replaced before it is computed: 0 times its infinity would be NaN.
 */
#include "ops/elementwise.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

#include <math.h>

TSR_BINARY(power, powf(x, y), pow(x, y))

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    tsr_tensor *a = tsr_node_saved(node, 0), *b = tsr_node_saved(node, 1);
    tsr_tensor *g = grad_outputs[0], *r = tsr_node_saved(node, 2);
    tsr_tensor *zero = tsr_scalar(tsr_tensor_dtype(g), 0.0);
    tsr_tensor *one = tsr_scalar(tsr_tensor_dtype(g), 1.0);
    tsr_tensor *is_zero = tsr_eq(a, zero);
    tsr_tensor *nonzero = tsr_where(is_zero, one, a);
    if (tsr_node_wants(node, 0)) {
        /* At 0^0, y x^(y - 1) would be 0 times infinity: there the base is 1. */
        tsr_tensor *base = tsr_where(tsr_eq(b, zero), nonzero, a);
        tsr_tensor *slope = tsr_mul(b, tsr_pow(base, tsr_affine(b, 1.0, -1.0)));
        grad_inputs[0] = tsr_sum_to(tsr_mul(g, slope), tsr_tensor_shape(a));
    }
    if (tsr_node_wants(node, 1)) {
        tsr_tensor *slope = tsr_where(is_zero, zero, tsr_mul(r, tsr_log(nonzero)));
        grad_inputs[1] = tsr_sum_to(tsr_mul(g, slope), tsr_tensor_shape(b));
    }
}

static const tsr_op op = {.name = "pow", .backward = backward};

tsr_tensor *tsr_pow(tsr_tensor *a, tsr_tensor *b)
{
    /* Backward would multiply a rounded r by a logarithm: too coarse in bf16. */
    if (a == NULL || b == NULL || !tsr_rows__is_real(op.name, "a", a)) return NULL;
    tsr_tensor *r = tsr_elementwise__broadcast(op.name, a, b, TSR_DTYPE_COUNT);
    if (r == NULL) return NULL;
    power(r, a, b);
    return tsr_record(&op, NULL, TSR_TENSORS(a, b), TSR_TENSORS(a, b, r), TSR_TENSORS(r));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_pow(in.at[0], in.at[1]);
}

static const tsr_sample samples[] = {
    {"same shape", 2, 1, {{{2, {3, 5}}, 0.2, 2.0}, {{2, {3, 5}}}}, call},
    {"row and column", 2, 1, {{{2, {1, 7}}, 0.2, 2.0}, {{2, {3, 1}}}}, call},
    {"missing dimensions", 2, 1, {{{1, {4}}, 0.2, 2.0}, {{3, {2, 3, 4}}}}, call},
    {"scalar", 2, 1, {{{0}, 0.2, 2.0}, {{2, {2, 3}}}}, call},
    {"empty", 2, 1, {{{2, {0, 3}}, 0.2, 2.0}, {{1, {3}}}}, call},
};
TSR_SAMPLES(pow, samples);
