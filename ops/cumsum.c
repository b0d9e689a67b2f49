/*
 * y[i] = x[0] + ... + x[i] along one dimension, added up in f64. dx[i] = dy[i] + ... + dy[n - 1]: the same from the back.
 */
#include "autograd/loop.h"
#include "ops/dims.h"
#include "ops/index.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

struct cumsum {
    int dim;
    bool from_the_back;
};

enum { BLOCK = 64 }; /* columns at once */

/* width columns of n rows; step is the distance from a row to the next one added, and may be negative. */
#define DEFINE(T, name)                                                                            \
    static void name(const T *x, T *y, int64_t n, int64_t step, int64_t width)                     \
    {                                                                                              \
        double sum[BLOCK] = {0};                                                                   \
        for (int64_t i = 0; i < n; i++) {                                                          \
            for (int64_t c = 0; c < width; c++) {                                                  \
                sum[c] += (double)x[i * step + c];                                                 \
                y[i * step + c] = (T)sum[c];                                                       \
            }                                                                                      \
        }                                                                                          \
    }

DEFINE(float, columns_f32)
DEFINE(double, columns_f64)

/* y and x contiguous. */
static void forward(tsr_tensor *y, tsr_tensor *x, const struct cumsum *s)
{
    tsr_shape shape = tsr_tensor_shape(x);
    int64_t outer, inner, n = shape.size[s->dim];
    tsr_index__lanes(shape, s->dim, &outer, &inner);
    int64_t blocks = (inner + BLOCK - 1) / BLOCK, step = s->from_the_back ? -inner : inner;
    int64_t lead = s->from_the_back ? (n - 1) * inner : 0;
    bool f32 = tsr_tensor_dtype(x) == TSR_DTYPE_F32;
    const void *xd = tsr_tensor_data(x);
    void *yd = tsr_tensor_data_mut(y);
    TSR_PARALLEL_FOR(p, outer * blocks, outer * n * inner, {
        int64_t first = p % blocks * BLOCK, at = p / blocks * n * inner + first + lead;
        int64_t width = inner - first < BLOCK ? inner - first : BLOCK;
        if (f32) {
            columns_f32((const float *)xd + at, (float *)yd + at, n, step, width);
        } else {
            columns_f64((const double *)xd + at, (double *)yd + at, n, step, width);
        }
    });
}

static tsr_tensor *cumsum(tsr_tensor *x, const struct cumsum *s);

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    struct cumsum s = *(const struct cumsum *)tsr_node_block(node);
    s.from_the_back = !s.from_the_back;
    grad_inputs[0] = cumsum(grad_outputs[0], &s);
}

static const tsr_field fields[] = {
    TSR_FIELD(struct cumsum, "dim", dim), TSR_FIELD(struct cumsum, "reverse", from_the_back), {0}};

static const tsr_op op = {
    .name = "cumsum", .block_size = sizeof(struct cumsum), .backward = backward, .fields = fields};

static tsr_tensor *cumsum(tsr_tensor *x, const struct cumsum *s)
{
    if (x == NULL || !tsr_rows__is_real(op.name, "x", x)) return NULL;
    tsr_tensor *y = tsr_empty_like(x);
    if (y == NULL) return NULL;
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *packed = tsr_tensor_packed(x);
    bool ok = packed != NULL;
    if (ok && tsr_tensor_numel(x) > 0) forward(y, packed, s);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    if (!ok) return NULL;
    return tsr_record(&op, s, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

tsr_tensor *tsr_cumsum(tsr_tensor *x, int dim)
{
    if (x == NULL) return NULL;
    struct cumsum s = {.dim = tsr_dims__index(op.name, "dim", dim, tsr_tensor_ndim(x))};
    return s.dim < 0 ? NULL : cumsum(x, &s);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const tsr_sample *sample = user;
    out[0] = tsr_cumsum(in.at[0], *(const int *)sample->args);
}

static const tsr_sample samples[] = {
    {"rows", 1, 1, {{{2, {3, 17}}}}, call, &(const int){-1}},
    {"columns", 1, 1, {{{2, {5, 67}}}}, call, &(const int){0}},
    {"middle", 1, 1, {{{3, {2, 5, 3}}}}, call, &(const int){1}},
    {"empty", 1, 1, {{{2, {0, 3}}}}, call, &(const int){0}},
};
TSR_SAMPLES(cumsum, samples);
