/*
 * y = x Phi(x), Phi the normal distribution's function (Hendrycks & Gimpel 2016, section 2), or with tanh their
 * approximation y = x s, s = (1 + tanh u) / 2 = sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3).
 *
 * dx = dy (Phi(x) + x phi(x)), phi = Phi' the density; with tanh dx = dy (s + x s (1 - s) 2 u').
 */
#include "ops/gelu.h"
#include "ops/elementwise.h"
#include "ops/half.h"
#include "ops/kernels/bf16.h"
#include "ops/kernels/kernels.h"
#include "ops/ops.h"
#include "ops/samples.h"

struct gelu {
    bool tanh;
};

enum { PIECE = 2048 /* elements that a thread takes at a time */ };

static int64_t piece_length(int64_t numel, int64_t at)
{
    return numel - at < PIECE ? numel - at : PIECE;
}

static void forward_piece(tsr_dtype dtype, void *y, const void *x, int64_t n, bool tanh)
{
    if (dtype == TSR_DTYPE_BF16) {
        tsr_bf16__gelu(y, x, n, tanh);
    } else {
        tsr_kernels__get(dtype)->gelu(y, x, n, tanh);
    }
}

static void backward_piece(tsr_dtype dtype, void *dx, const void *x, const void *g, int64_t n,
                           bool tanh)
{
    if (dtype == TSR_DTYPE_BF16) {
        tsr_bf16__gelu_backward(dx, x, g, n, tanh);
    } else {
        tsr_kernels__get(dtype)->gelu_backward(dx, x, g, n, tanh);
    }
}

void tsr_gelu__apply(tsr_dtype dtype, void *y, const void *x, int64_t numel, bool tanh)
{
    int64_t size = (int64_t)tsr_dtype_size(dtype);
    TSR_PARALLEL_FOR(part, (numel + PIECE - 1) / PIECE, numel, {
        int64_t at = part * PIECE;
        forward_piece(dtype, (char *)y + at * size, (const char *)x + at * size,
                      piece_length(numel, at), tanh);
    });
}

tsr_tensor *tsr_gelu__forward(tsr_tensor *x, bool tanh)
{
    x = tsr_tensor_packed(x);
    tsr_tensor *y = tsr_empty_like(x);
    if (y == NULL) return NULL;
    tsr_gelu__apply(tsr_tensor_dtype(x), tsr_tensor_data_mut(y), tsr_tensor_data(x),
                    tsr_tensor_numel(x), tanh);
    return y;
}

static tsr_tensor *again(const tsr_node *node, int o)
{
    (void)o;
    const struct gelu *s = tsr_node_block(node);
    return tsr_gelu__forward(tsr_node_input(node, 0), s->tanh);
}

tsr_tensor *tsr_gelu__backward(tsr_tensor *x, tsr_tensor *g, bool tanh)
{
    x = tsr_tensor_packed(x);
    g = x != NULL ? tsr_tensor_packed(g) : NULL;
    tsr_tensor *dx = g != NULL ? tsr_empty_like(x) : NULL;
    if (dx == NULL) return NULL;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    int64_t numel = tsr_tensor_numel(x), size = (int64_t)tsr_dtype_size(dtype);
    char *dxd = tsr_tensor_data_mut(dx);
    const char *xd = tsr_tensor_data(x), *gd = tsr_tensor_data(g);
    TSR_PARALLEL_FOR(part, (numel + PIECE - 1) / PIECE, numel, {
        int64_t at = part * PIECE;
        backward_piece(dtype, dxd + at * size, xd + at * size, gd + at * size,
                       piece_length(numel, at), tanh);
    });
    return dx;
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct gelu *s = tsr_node_block(node);
    grad_inputs[0] = tsr_gelu__backward(tsr_node_input(node, 0), grad_outputs[0], s->tanh);
}

static void definition(const void *block, tsr_tensors in, tsr_tensor **outputs)
{
    const struct gelu *s = block;
    tsr_tensor *x = tsr_half__cast(in.at[0]), *inner;
    if (s->tanh) {
        tsr_tensor *cube = tsr_mul(tsr_mul(x, x), x);
        tsr_tensor *u = tsr_add(x, tsr_affine(cube, 0.044715, 0.0));
        inner = tsr_tanh(tsr_affine(u, 0.797884560802865355880, 0.0));
    } else {
        inner = tsr_erf(tsr_affine(x, 0.707106781186547524401, 0.0));
    }
    tsr_tensor *y = tsr_mul(x, tsr_affine(inner, 0.5, 0.5));
    outputs[0] = tsr_cast(y, tsr_tensor_dtype(in.at[0]));
}

static const tsr_op op = {.name = "gelu",
                          .block_size = sizeof(struct gelu),
                          .backward = backward,
                          .definition = definition,
                          .again = again};

tsr_tensor *tsr_gelu(tsr_tensor *x, bool tanh)
{
    if (x == NULL || !tsr_elementwise__takes("gelu", "x", x)) return NULL;
    struct gelu s = {tanh};
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *y = tsr_gelu__forward(x, tanh);
    y = tsr_record(&op, &s, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
    return tsr_scope_return(&scope, y);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const tsr_sample *sample = user;
    out[0] = tsr_gelu(in.at[0], sample->args != NULL);
}

static const tsr_sample samples[] = {
    {"matrix", 1, 1, {{{2, {3, 7}}}}, call},
    {"wide range", 1, 1, {{{2, {5, 5}}, -6.0, 6.0}}, call},
    {"tanh", 1, 1, {{{2, {3, 7}}}}, call, "tanh"},
    {"scalar", 1, 1, {{{0}}}, call},
    {"empty", 1, 1, {{{2, {3, 0}}}}, call, "tanh"},
};
TSR_SAMPLES_BF16(gelu, samples);
