/*
 * y = x / max(|x|, eps) over one dimension. Where |x| > eps, d|x| / dx = x / |x|, so dx = (dy - y (y . dy)) / |x|; elsewhere
 * the divisor is a constant and dx = dy / eps. Backward keeps |x| of each row.
 */
#include "ops/dims.h"
#include "ops/elementwise.h"
#include "ops/half.h"
#include "ops/kernels/kernels.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

struct l2_normalize {
    int dim; /* 0 .. ndim - 1 */
    double eps;
};

static tsr_tensor *forward(tsr_tensor *x, const struct l2_normalize *s, tsr_tensor **norms)
{
    x = tsr_rows__along(x, s->dim);
    if (x == NULL) return NULL;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_rows r = tsr_rows__of(tsr_tensor_shape(x));
    tsr_tensor *y = tsr_empty(dtype, tsr_tensor_shape(x));
    *norms = tsr_empty(dtype, TSR_SHAPE(r.rows));
    if (y == NULL || *norms == NULL) return NULL;
    const tsr_kernels *k = tsr_kernels__get(dtype);
    char *yd = tsr_tensor_data_mut(y), *nd = tsr_tensor_data_mut(*norms);
    const char *xd = tsr_tensor_data(x);
    size_t size = tsr_dtype_size(dtype);
    TSR_PARALLEL_FOR(c, r.chunks, r.rows * r.d, {
        size_t at = tsr_rows__offset(&r, c, dtype);
        k->normalize(yd + at, nd + (size_t)(c * r.chunk) * size, xd + at, NULL,
                     tsr_rows__in_chunk(&r, c), r.d, s->eps);
    });
    return tsr_rows__exchanged(y, s->dim);
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct l2_normalize *s = tsr_node_block(node);
    tsr_tensor *x = tsr_rows__along(tsr_node_input(node, 0), s->dim);
    tsr_tensor *g = x != NULL ? tsr_rows__along(grad_outputs[0], s->dim) : NULL;
    tsr_tensor *dx = g != NULL ? tsr_empty_like(x) : NULL;
    if (dx == NULL) return;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_rows r = tsr_rows__of(tsr_tensor_shape(x));
    const tsr_kernels *k = tsr_kernels__get(dtype);
    char *dxd = tsr_tensor_data_mut(dx);
    const char *gd = tsr_tensor_data(g), *xd = tsr_tensor_data(x),
               *nd = tsr_tensor_data(tsr_node_saved(node, 0));
    size_t size = tsr_dtype_size(dtype);
    TSR_PARALLEL_FOR(c, r.chunks, r.rows * r.d, {
        size_t at = tsr_rows__offset(&r, c, dtype);
        k->normalize_backward(dxd + at, NULL, gd + at, xd + at, NULL,
                              nd + (size_t)(c * r.chunk) * size, tsr_rows__in_chunk(&r, c), r.d,
                              s->eps);
    });
    grad_inputs[0] = tsr_rows__exchanged(dx, s->dim);
}

/* sqrt(max(|x|^2, eps^2)): differentiable at x = 0 too. */
static void definition(const void *block, tsr_tensors in, tsr_tensor **outputs)
{
    const struct l2_normalize *s = block;
    tsr_tensor *x = tsr_half__cast(in.at[0]), *squares = tsr_sum(tsr_mul(x, x), &s->dim, 1, true);
    tsr_tensor *least = tsr_scalar(tsr_tensor_dtype(x), s->eps * s->eps);
    tsr_tensor *y = tsr_div(x, tsr_sqrt(tsr_maximum(squares, least)));
    outputs[0] = tsr_cast(y, tsr_tensor_dtype(in.at[0]));
}

static const tsr_op op = {.name = "l2_normalize",
                          .block_size = sizeof(struct l2_normalize),
                          .backward = backward,
                          .definition = definition,
                          .widens = true};

tsr_tensor *tsr_l2_normalize(tsr_tensor *x, int dim, double eps)
{
    if (x == NULL || !tsr_elementwise__takes(op.name, "x", x)) return NULL;
    struct l2_normalize s = {tsr_dims__index(op.name, "dim", dim, tsr_tensor_ndim(x)), eps};
    if (s.dim < 0) return NULL;
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *norms = NULL, *y = forward(tsr_half__widened(x), &s, &norms);
    y = tsr_tensor_converted(y, tsr_tensor_dtype(x));
    y = tsr_record(&op, &s, TSR_TENSORS(x), TSR_TENSORS(norms), TSR_TENSORS(y));
    return tsr_scope_return(&scope, y);
}

struct call {
    int dim;
    double eps;
};

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const struct call *c = ((const tsr_sample *)user)->args;
    out[0] = tsr_l2_normalize(in.at[0], c->dim, c->eps);
}

static const struct call rows = {-1, 1e-12}, columns = {0, 1e-12}, below = {-1, 100.0};

static const tsr_sample samples[] = {
    {"rows", 1, 1, {{{2, {3, 7}}}}, call, &rows},
    {"first dimension", 1, 1, {{{3, {4, 2, 3}}}}, call, &columns},
    {"shorter than eps", 1, 1, {{{2, {3, 5}}}}, call, &below},
    {"vector", 1, 1, {{{1, {5}}}}, call, &rows},
    {"empty", 1, 1, {{{2, {0, 5}}}}, call, &rows},
};
TSR_SAMPLES_BF16(l2_normalize, samples);
