/*
 * y = xhat w + b over the last dimension, x [..., D], w [D], b [D], with xhat = (x - m) s, m = mean x,
 * s = 1 / sqrt(mean (x - m)^2 + eps).
 *
 * With h = w dy (dy where w is NULL): the mean and the scale both depend on every element of the row. dm / dx_j = 1 / D and
 * ds / dx_j = -s^2 xhat_j / D (the term of dm in it vanishes, since x - m sums to 0), so
 *   dx = s (h - mean h - xhat mean(h xhat)),   dw = sum over rows of dy xhat,   db = sum over rows of dy.
 * Backward needs m and s of each row. The sums over rows run by chunks of rows, which are then summed in order.
 */
#include "ops/elementwise.h"
#include "ops/half.h"
#include "ops/kernels/bf16.h"
#include "ops/kernels/kernels.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

struct layer_norm {
    double eps;
    tsr_dtype dtype; /* of y */
};

/* Elements of y that wait in f32 to be rounded to bf16; more where a row has more. */
enum { PIECE = 4096 };

static bool shape_rule(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias)
{
    if (!tsr_elementwise__takes("layer_norm", "x", x)) return false;
    if (tsr_tensor_ndim(x) < 1) {
        tsr_fail(TSR_STATUS_SHAPE, "layer_norm: x is a scalar, expected [..., D]");
        return false;
    }
    tsr_dtype dtype = tsr_tensor_dtype(x);
    int64_t d = tsr_tensor_size(x, -1);
    return tsr_rows__vector_fits("layer_norm", "weight", weight, dtype, d) &&
           tsr_rows__vector_fits("layer_norm", "bias", bias, dtype, d);
}

/* A chunk of y in bf16: few rows at a time are made in `wide` and rounded while they are in the cache. */
static void forward_narrow(tsr_bf16 *y, float *stats, const float *x, const void *w, const void *b,
                           float *wide, int64_t few, int64_t rows, int64_t d, double eps)
{
    const tsr_kernels *k = tsr_kernels__get(TSR_DTYPE_F32);
    for (int64_t r = 0; r < rows; r += few) {
        int64_t n = rows - r < few ? rows - r : few;
        k->layer_norm(wide, stats + 2 * r, x + r * d, w, b, n, d, eps);
        tsr_bf16_kernels__get()->narrow(y + r * d, wide, n * d);
    }
}

/* x, weight, bias f32 or f64; *stats in their type. */
static tsr_tensor *forward(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias,
                           const struct layer_norm *s, tsr_tensor **stats)
{
    if (x == NULL) return NULL;
    bool ok = true, narrow = s->dtype == TSR_DTYPE_BF16;
    tsr_rows r = tsr_rows__of(tsr_tensor_shape(x));
    tsr_dtype dtype = tsr_tensor_dtype(x);
    int64_t few = r.d < PIECE ? PIECE / (r.d > 0 ? r.d : 1) : 1;
    tsr_tensor *y = tsr_empty(s->dtype, tsr_tensor_shape(x));
    tsr_tensor *wide = narrow ? tsr_empty(dtype, TSR_SHAPE(r.chunks, few * r.d)) : NULL;
    *stats = tsr_empty(dtype, TSR_SHAPE(r.rows, 2));
    x = tsr_rows__packed(x, &ok);
    weight = tsr_rows__packed(weight, &ok);
    bias = tsr_rows__packed(bias, &ok);
    if (!ok || y == NULL || *stats == NULL || (narrow && wide == NULL)) return NULL;
    const tsr_kernels *k = tsr_kernels__get(dtype);
    char *yd = tsr_tensor_data_mut(y), *sd = tsr_tensor_data_mut(*stats);
    char *td = tsr_tensor_data_mut(wide);
    const char *xd = tsr_tensor_data(x);
    const void *wd = tsr_tensor_data(weight), *bd = tsr_tensor_data(bias);
    size_t size = tsr_dtype_size(dtype);
    TSR_PARALLEL_FOR(c, r.chunks, r.rows * r.d, {
        size_t at = tsr_rows__offset(&r, c, dtype);
        void *to = yd + tsr_rows__offset(&r, c, s->dtype);
        void *stat = sd + (size_t)(2 * c * r.chunk) * size;
        int64_t rows = tsr_rows__in_chunk(&r, c);
        if (narrow) {
            float *room = (float *)(void *)td + c * few * r.d;
            forward_narrow(to, stat, (const float *)(const void *)(xd + at), wd, bd, room, few,
                           rows, r.d, s->eps);
        } else {
            k->layer_norm(to, stat, xd + at, wd, bd, rows, r.d, s->eps);
        }
    });
    return y;
}

static tsr_tensor *again(const tsr_node *node, int o)
{
    (void)o;
    tsr_tensor *stats;
    return forward(tsr_node_input(node, 0), tsr_node_input(node, 1), tsr_node_input(node, 2),
                   tsr_node_block(node), &stats);
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    bool ok = true;
    tsr_tensor *x = tsr_rows__packed(tsr_node_input(node, 0), &ok),
               *g = tsr_rows__packed(grad_outputs[0], &ok);
    tsr_tensor *weight = tsr_rows__packed(tsr_node_input(node, 1), &ok),
               *stats = tsr_node_saved(node, 0);
    if (!ok) return;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_rows r = tsr_rows__of(tsr_tensor_shape(x));
    tsr_shape partial = TSR_SHAPE(r.chunks, r.d);
    bool wants[3];
    for (int i = 0; i < 3; i++) wants[i] = tsr_node_wants(node, i);
    tsr_tensor *dx = wants[0] ? tsr_empty(dtype, tsr_tensor_shape(x)) : NULL;
    tsr_tensor *dw = wants[1] ? tsr_zeros(dtype, partial) : NULL;
    tsr_tensor *db = wants[2] ? tsr_zeros(dtype, partial) : NULL;
    if (tsr_status_get() != TSR_STATUS_OK) return;
    const tsr_kernels *k = tsr_kernels__get(dtype);
    char *dxd = tsr_tensor_data_mut(dx), *dwd = tsr_tensor_data_mut(dw),
         *dbd = tsr_tensor_data_mut(db);
    const char *gd = tsr_tensor_data(g), *xd = tsr_tensor_data(x), *sd = tsr_tensor_data(stats);
    const void *wd = tsr_tensor_data(weight);
    size_t size = tsr_dtype_size(dtype);
    TSR_PARALLEL_FOR(c, r.chunks, r.rows * r.d, {
        size_t at = tsr_rows__offset(&r, c, dtype), row = (size_t)(c * r.d) * size;
        k->layer_norm_backward(dxd != NULL ? dxd + at : NULL, dwd != NULL ? dwd + row : NULL,
                               dbd != NULL ? dbd + row : NULL, gd + at, xd + at, wd,
                               sd + (size_t)(c * r.chunk * 2) * size, NULL,
                               tsr_rows__in_chunk(&r, c), r.d);
    });
    grad_inputs[0] = dx;
    grad_inputs[1] = tsr_rows__combine(dw);
    grad_inputs[2] = tsr_rows__combine(db);
}

static void definition(const void *block, tsr_tensors in, tsr_tensor **outputs)
{
    const struct layer_norm *s = block;
    const int last[] = {-1};
    tsr_tensor *x = tsr_half__cast(in.at[0]), *c = tsr_sub(x, tsr_mean(x, last, 1, true));
    tsr_tensor *variance = tsr_mean(tsr_mul(c, c), last, 1, true);
    tsr_tensor *y = tsr_mul(c, tsr_rsqrt(tsr_affine(variance, 1.0, s->eps)));
    if (in.at[1] != NULL) y = tsr_mul(y, tsr_half__cast(in.at[1]));
    if (in.at[2] != NULL) y = tsr_add(y, tsr_half__cast(in.at[2]));
    outputs[0] = tsr_cast(y, s->dtype);
}

static const tsr_field fields[] = {TSR_FIELD(struct layer_norm, "eps", eps), {0}};

static const tsr_op op = {.name = "layer_norm",
                          .block_size = sizeof(struct layer_norm),
                          .backward = backward,
                          .definition = definition,
                          .fields = fields,
                          .widens = true,
                          .again = again};

tsr_tensor *tsr_layer_norm(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias, double eps)
{
    return tsr_layer_norm_cast(x, weight, bias, eps, tsr_tensor_dtype(x));
}

tsr_tensor *tsr_layer_norm_cast(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias, double eps,
                                tsr_dtype dtype)
{
    if (x == NULL || !shape_rule(x, weight, bias)) return NULL;
    tsr_dtype own = tsr_tensor_dtype(x);
    if (dtype != own && (dtype != TSR_DTYPE_BF16 || own != TSR_DTYPE_F32)) {
        tsr_fail(TSR_STATUS_DTYPE, "layer_norm: %s of a %s x, expected its type, or bf16 of f32",
                 tsr_dtype_name(dtype), tsr_dtype_name(own));
        return NULL;
    }
    struct layer_norm s = {eps, dtype};
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *stats = NULL, *y = NULL;
    y = forward(tsr_half__widened(x), tsr_half__widened(weight), tsr_half__widened(bias), &s,
                &stats);
    y = tsr_record(&op, &s, TSR_TENSORS(x, weight, bias), TSR_TENSORS(stats), TSR_TENSORS(y));
    return tsr_scope_return(&scope, y);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_layer_norm(in.at[0], in.at[1], in.at[2], 1e-6);
}

static const tsr_sample samples[] = {
    {"matrix", 3, 1, {{{2, {3, 7}}}, {{1, {7}}}, {{1, {7}}}}, call},
    {"batch", 3, 1, {{{3, {2, 3, 8}}}, {{1, {8}}}, {{1, {8}}}}, call},
    {"no weight", 3, 1, {{{2, {3, 5}}}, {.absent = true}, {{1, {5}}}}, call},
    {"no bias", 3, 1, {{{2, {3, 5}}}, {{1, {5}}}, {.absent = true}}, call},
    {"neither", 3, 1, {{{1, {6}}}, {.absent = true}, {.absent = true}}, call},
    {"no rows", 3, 1, {{{2, {0, 5}}}, {{1, {5}}}, {{1, {5}}}}, call},
    {"empty rows", 3, 1, {{{2, {3, 0}}}, {{1, {0}}}, {{1, {0}}}}, call},
};
TSR_SAMPLES_BF16(layer_norm, samples);
