/*
 * y = ln sum e^x along one dimension = m + ln sum e^(x - m), m the largest x; -infinity where all x are. dx = dy e^(x - y),
 * 0 where y is -infinity.
 */
#include "autograd/loop.h"
#include "ops/dims.h"
#include "ops/extremum.h"
#include "ops/index.h"
#include "ops/kernels/math.h"
#include "ops/ops.h"
#include "ops/samples.h"

#include <math.h>

struct logsumexp {
    int dim;
    bool keepdim;
};

enum { BLOCK = 64, LANES = 16 }; /* columns at once, and running sums of a row */

static inline float exp_f32(float x)
{
    return tsr_math__expf(x);
}

static inline double exp_f64(double x)
{
    return exp(x);
}

/* x is [outer, n, inner], y [outer, inner]; y comes in holding m. An infinite m is not subtracted: e^x says it all. */
#define DEFINE(T, type)                                                                            \
    static void columns_##type(const T *x, T *y, int64_t n, int64_t inner, int64_t width)          \
    {                                                                                              \
        T m[BLOCK];                                                                                \
        double sum[BLOCK] = {0};                                                                   \
        for (int64_t c = 0; c < width; c++) m[c] = isinf(y[c]) ? 0 : y[c];                         \
        for (int64_t i = 0; i < n; i++) {                                                          \
            for (int64_t c = 0; c < width; c++)                                                    \
                sum[c] += (double)exp_##type(x[i * inner + c] - m[c]);                             \
        }                                                                                          \
        for (int64_t c = 0; c < width; c++) y[c] = (T)((double)m[c] + log(sum[c]));                \
    }                                                                                              \
    static void row_##type(const T *x, T *y, int64_t n)                                            \
    {                                                                                              \
        T m = isinf(*y) ? 0 : *y;                                                                  \
        double lane[LANES] = {0}, sum = 0.0;                                                       \
        int64_t i = 0;                                                                             \
        for (; i + LANES <= n; i += LANES) {                                                       \
            for (int k = 0; k < LANES; k++) lane[k] += (double)exp_##type(x[i + k] - m);           \
        }                                                                                          \
        for (int k = 0; i < n; i++, k++) lane[k] += (double)exp_##type(x[i] - m);                  \
        for (int k = 0; k < LANES; k++) sum += lane[k];                                            \
        *y = (T)((double)m + log(sum));                                                            \
    }                                                                                              \
    static void forward_##type(const T *x, T *y, int64_t outer, int64_t n, int64_t inner)          \
    {                                                                                              \
        int64_t blocks = (inner + BLOCK - 1) / BLOCK;                                              \
        TSR_PARALLEL_FOR(p, outer *blocks, outer *n *inner, {                                      \
            int64_t first = p % blocks * BLOCK;                                                    \
            int64_t o = p / blocks;                                                                \
            int64_t width = inner - first < BLOCK ? inner - first : BLOCK;                         \
            if (inner == 1) {                                                                      \
                row_##type(x + o * n, y + o, n);                                                   \
            } else {                                                                               \
                columns_##type(x + o * n * inner + first, y + o * inner + first, n, inner, width); \
            }                                                                                      \
        });                                                                                        \
    }                                                                                              \
    static void gradient_##type(const T *x, const T *y, const T *dy, T *dx, int64_t outer,         \
                                int64_t n, int64_t inner)                                          \
    {                                                                                              \
        TSR_PARALLEL_FOR(r, outer *n, outer *n *inner, {                                           \
            const T *xp = x + r * inner;                                                           \
            const T *yp = y + r / n * inner;                                                       \
            const T *gp = dy + r / n * inner;                                                      \
            T *dp = dx + r * inner;                                                                \
            for (int64_t c = 0; c < inner; c++) {                                                  \
                T slope = exp_##type(xp[c] - yp[c]);                                               \
                dp[c] = gp[c] * (yp[c] == -(T)INFINITY ? 0 : slope);                               \
            }                                                                                      \
        });                                                                                        \
    }

DEFINE(float, f32)
DEFINE(double, f64)

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct logsumexp *s = tsr_node_block(node);
    tsr_tensor *x = tsr_tensor_packed(tsr_node_input(node, 0)), *y = tsr_node_saved(node, 0);
    tsr_tensor *g = tsr_tensor_packed(grad_outputs[0]);
    tsr_tensor *dx = tsr_empty_like(x);
    if (x == NULL || g == NULL || dx == NULL) return;
    int64_t outer, inner, n = tsr_tensor_size(x, s->dim);
    tsr_index__lanes(tsr_tensor_shape(x), s->dim, &outer, &inner);
    const void *xd = tsr_tensor_data(x), *yd = tsr_tensor_data(y), *gd = tsr_tensor_data(g);
    if (tsr_tensor_dtype(x) == TSR_DTYPE_F32) {
        gradient_f32(xd, yd, gd, tsr_tensor_data_mut(dx), outer, n, inner);
    } else {
        gradient_f64(xd, yd, gd, tsr_tensor_data_mut(dx), outer, n, inner);
    }
    grad_inputs[0] = dx;
}

/* m is a constant here: y does not depend on it. Infinite ones are taken as 0, as above. */
static void definition(const void *block, tsr_tensors in, tsr_tensor **out)
{
    const struct logsumexp *s = block;
    tsr_tensor *x = in.at[0];
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_tensor *m = tsr_max(tsr_detach(x), s->dim, true);
    tsr_tensor *infinite = tsr_eq(tsr_abs(m), tsr_scalar(dtype, (double)INFINITY));
    m = tsr_masked_fill(m, infinite, 0.0);
    tsr_tensor *sum = tsr_sum(tsr_exp(tsr_sub(x, m)), &s->dim, 1, true);
    tsr_tensor *y = tsr_add(tsr_log(sum), m);
    out[0] = s->keepdim ? y : tsr_squeeze(y, s->dim);
}

static const tsr_field fields[] = {TSR_FIELD(struct logsumexp, "dim", dim), {0}};

static const tsr_op op = {.name = "logsumexp",
                          .block_size = sizeof(struct logsumexp),
                          .backward = backward,
                          .definition = definition,
                          .fields = fields};

tsr_tensor *tsr_logsumexp(tsr_tensor *x, int dim, bool keepdim)
{
    tsr_tensor *y = tsr_extremum__find(op.name, x, dim, keepdim, true, false);
    if (y == NULL) return NULL;
    struct logsumexp s = {tsr_dims__index(op.name, "dim", dim, tsr_tensor_ndim(x)), keepdim};
    int64_t outer, inner, n = tsr_tensor_size(x, s.dim);
    tsr_index__lanes(tsr_tensor_shape(x), s.dim, &outer, &inner);
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *packed = tsr_tensor_packed(x);
    bool ok = packed != NULL;
    if (ok && tsr_tensor_dtype(x) == TSR_DTYPE_F32) {
        forward_f32(tsr_tensor_data(packed), tsr_tensor_data_mut(y), outer, n, inner);
    } else if (ok) {
        forward_f64(tsr_tensor_data(packed), tsr_tensor_data_mut(y), outer, n, inner);
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    if (!ok) return NULL;
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_TENSORS(y), TSR_TENSORS(y));
}

struct sample_args {
    int dim;
    bool keepdim;
};

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const tsr_sample *sample = user;
    const struct sample_args *a = sample->args;
    out[0] = tsr_logsumexp(in.at[0], a->dim, a->keepdim);
}

static const tsr_sample samples[] = {
    {"rows", 1, 1, {{{2, {3, 37}}}}, call, &(const struct sample_args){-1, false}},
    {"columns", 1, 1, {{{2, {5, 67}}}}, call, &(const struct sample_args){0, true}},
    {"middle", 1, 1, {{{3, {2, 5, 3}}}}, call, &(const struct sample_args){1, false}},
    {"one element", 1, 1, {{{1, {1}}}}, call, &(const struct sample_args){0, false}},
    {"no rows", 1, 1, {{{2, {0, 3}}}}, call, &(const struct sample_args){1, false}},
};
TSR_SAMPLES(logsumexp, samples);
