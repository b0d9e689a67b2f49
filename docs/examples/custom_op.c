/*
 * An operator in a program of its own: Charbonnier's smooth absolute value, y = sqrt(x^2 + eps^2), any shape.
 * dx = dy x / y. docs/adding-an-op.md explains it part by part.
 */
#include "ops/ops.h"

#include <math.h>
#include <stdio.h>

/* 1. What backward and definition need beside tensors. */
struct charbonnier {
    double eps;
};

/* 2. Forward and backward for f32 and f64. The inputs are contiguous here. */
static void forward(tsr_tensor *y, tsr_tensor *x, double eps)
{
    const void *in = tsr_tensor_data(x);
    void *out = tsr_tensor_data_mut(y);
    bool f32 = tsr_tensor_dtype(x) == TSR_DTYPE_F32;
    for (int64_t i = 0; i < tsr_tensor_numel(x); i++) {
        if (f32) {
            float v = ((const float *)in)[i], e = (float)eps;
            ((float *)out)[i] = sqrtf(v * v + e * e);
        } else {
            double v = ((const double *)in)[i];
            ((double *)out)[i] = sqrt(v * v + eps * eps);
        }
    }
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    if (!tsr_node_wants(node, 0)) return;
    tsr_tensor *x = tsr_tensor_packed(tsr_node_input(node, 0)), *y = tsr_node_saved(node, 0);
    tsr_tensor *dy = tsr_tensor_packed(grad_outputs[0]); /* may come with any strides */
    tsr_tensor *dx = tsr_empty(tsr_tensor_dtype(y), tsr_tensor_shape(y));
    if (x == NULL || dy == NULL || dx == NULL) return; /* out of memory: the status says so */
    bool f32 = tsr_tensor_dtype(y) == TSR_DTYPE_F32;
    const void *xs = tsr_tensor_data(x), *ys = tsr_tensor_data(y), *dys = tsr_tensor_data(dy);
    void *out = tsr_tensor_data_mut(dx);
    for (int64_t i = 0; i < tsr_tensor_numel(y); i++) {
        if (f32) {
            ((float *)out)[i] =
                ((const float *)dys)[i] * ((const float *)xs)[i] / ((const float *)ys)[i];
        } else {
            ((double *)out)[i] =
                ((const double *)dys)[i] * ((const double *)xs)[i] / ((const double *)ys)[i];
        }
    }
    grad_inputs[0] = dx;
}

/* 3. The same function in the library's operators: where second derivatives come from. */
static void definition(const void *block, tsr_tensors inputs, tsr_tensor **outputs)
{
    const struct charbonnier *s = block;
    tsr_tensor *x = inputs.at[0];
    outputs[0] = tsr_sqrt(tsr_affine(tsr_mul(x, x), 1.0, s->eps * s->eps));
}

static const tsr_op op = {
    .name = "charbonnier",
    .block_size = sizeof(struct charbonnier),
    .backward = backward,
    .definition = definition,
};

/* 4. The operator. */
static tsr_tensor *charbonnier(tsr_tensor *x, double eps)
{
    if (x == NULL) return NULL; /* an earlier failure passes through */
    tsr_dtype dtype = tsr_tensor_dtype(x);
    if (dtype != TSR_DTYPE_F32 && dtype != TSR_DTYPE_F64) {
        tsr_fail(TSR_STATUS_DTYPE, "charbonnier: x is %s, expected f32 or f64",
                 tsr_dtype_name(dtype));
        return NULL;
    }
    if (!(eps > 0.0)) {
        tsr_fail(TSR_STATUS_ARGUMENT, "charbonnier: eps is %g, expected more than 0", eps);
        return NULL;
    }
    struct charbonnier s = {eps};
    tsr_tensor *y = tsr_empty(dtype, tsr_tensor_shape(x)), *packed = tsr_tensor_packed(x);
    if (y == NULL || packed == NULL) return NULL;
    forward(y, packed, eps);
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_TENSORS(y), TSR_TENSORS(y));
}

/* 5. Is its gradient right? First order, then second. */
static void call(tsr_tensors inputs, tsr_tensor **outputs, int n_outputs, void *user)
{
    (void)n_outputs, (void)user;
    outputs[0] = charbonnier(inputs.at[0], 0.1);
}

static void check(void)
{
    tsr_tensor *x = tsr_empty(TSR_DTYPE_F64, TSR_SHAPE(4, 7));
    tsr_fill_normal(x, tsr_rng_make(1, 0, 0, 0), 0.0, 1.0);
    tsr_require_grad(x, true);
    tsr_gradcheck_report first, second;
    tsr_gradcheck(call, NULL, TSR_TENSORS(x), 1, NULL, &first);
    tsr_gradgradcheck(call, NULL, TSR_TENSORS(x), 1, NULL, &second);
    if (tsr_status_get() != TSR_STATUS_OK) return;
    printf("worst error: %.1e in the gradient, %.1e in the second\n", first.worst_error,
           second.worst_error);
}

/* 6. In use: the centre of points of which some are far off. The mean is 2.8, the median 1. */
static double centre(void)
{
    const double points[] = {0.9, 1.1, 1.0, 10.0, 1.0};
    tsr_tensor *x = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(5), points);
    tsr_tensor *c = tsr_require_grad(tsr_scalar(TSR_DTYPE_F64, 5.0), true);
    tsr_tape *tape = tsr_tape_open();
    for (int step = 0; step < 1000; step++) {
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *loss = tsr_mean(charbonnier(tsr_sub(x, c), 0.1), NULL, 0, false);
        if (tsr_backward(tape, loss, NULL) == TSR_STATUS_OK) {
            tsr_tensor_fill(c, tsr_tensor_item(c) - 0.02 * tsr_tensor_item(tsr_tensor_grad(c)));
            tsr_tensor_set_grad(c, NULL);
        }
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
    tsr_tape_close(&tape);
    return tsr_tensor_item(c);
}

int main(void)
{
    tsr_scope scope = tsr_scope_open();
    check();
    double c = centre();
    printf("centre %.2f\n", c);
    bool ok = tsr_status_get() == TSR_STATUS_OK && fabs(c - 1.0) < 0.1;
    if (tsr_status_get() != TSR_STATUS_OK) printf("%s\n", tsr_message());
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return ok ? 0 : 1;
}
