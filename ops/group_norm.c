/*
 * y = xhat w[c] + b[c], x [B, C, ...], the C channels in G groups of adjacent ones; xhat = (x - m) s with the mean and the
 * biased variance of each sample's group, s = 1 / sqrt(v + eps) (Wu & He 2018, equations 1 and 7).
 *
 * dw = sum dy xhat, db = sum dy over the batch and all later dimensions. With h = w dy a group is a row of layer_norm without
 * weight: dx = s (h - mean h - xhat mean(h xhat)). Backward keeps m and s of each group.
 */
#include "autograd/loop.h"
#include "ops/kernels/kernels.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

struct group_norm {
    int64_t groups;
    double eps;
};

static tsr_channels channels_of(tsr_tensor *x, int64_t groups)
{
    int64_t b = tsr_tensor_size(x, 0), c = tsr_tensor_size(x, 1);
    int64_t s = b * c > 0 ? tsr_tensor_numel(x) / (b * c) : 0;
    return (tsr_channels){b, c, s, groups, c / groups > 0 ? c / groups : 1};
}

/* Rows, a group of a sample each. */
static tsr_rows rows_of(const tsr_channels *n)
{
    return tsr_rows__of(TSR_SHAPE(n->b * n->stride, n->size * n->s));
}

static bool shape_rule(tsr_tensor *x, int64_t groups, tsr_tensor *weight, tsr_tensor *bias)
{
    char text[TSR_SHAPE_TEXT];
    if (!tsr_rows__is_real("group_norm", "x", x)) return false;
    tsr_shape_text(tsr_tensor_shape(x), text);
    if (tsr_tensor_ndim(x) < 2) {
        tsr_fail(TSR_STATUS_SHAPE, "group_norm: x has shape %s, expected [B, C, ...]", text);
        return false;
    }
    int64_t c = tsr_tensor_size(x, 1);
    if (groups < 1 || c % groups != 0) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "group_norm: groups is %lld, expected a divisor of %lld (x %s)", (long long)groups,
                 (long long)c, text);
        return false;
    }
    tsr_dtype dtype = tsr_tensor_dtype(x);
    return tsr_rows__vector_fits("group_norm", "weight", weight, dtype, c) &&
           tsr_rows__vector_fits("group_norm", "bias", bias, dtype, c);
}

static tsr_tensor *forward(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias,
                           const struct group_norm *s, tsr_tensor **stats)
{
    bool ok = true;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_channels n = channels_of(x, s->groups);
    tsr_rows r = rows_of(&n);
    tsr_tensor *y = tsr_empty(dtype, tsr_tensor_shape(x));
    *stats = tsr_empty(dtype, TSR_SHAPE(r.rows, 2));
    x = tsr_rows__packed(x, &ok);
    weight = tsr_rows__packed(weight, &ok);
    bias = tsr_rows__packed(bias, &ok);
    if (!ok || y == NULL || *stats == NULL) return NULL;
    const tsr_kernels *k = tsr_kernels__get(dtype);
    char *yd = tsr_tensor_data_mut(y), *sd = tsr_tensor_data_mut(*stats);
    const char *xd = tsr_tensor_data(x);
    const void *wd = tsr_tensor_data(weight), *bd = tsr_tensor_data(bias);
    size_t pair = 2 * tsr_dtype_size(dtype);
    TSR_PARALLEL_FOR(c, r.chunks, r.rows * r.d, {
        size_t at = tsr_rows__offset(&r, c, dtype);
        k->layer_norm(yd + at, sd + (size_t)(c * r.chunk) * pair, xd + at, NULL, NULL,
                      tsr_rows__in_chunk(&r, c), r.d, s->eps);
    });
    if (wd == NULL && bd == NULL) return y;
    TSR_PARALLEL_FOR(j, n.c, r.rows * r.d,
                     { k->channel_normalize(yd, xd, sd, wd, bd, &n, j, j + 1); });
    return y;
}

/* h = w g, or g itself where there is no weight. */
static tsr_tensor *weighted(tsr_tensor *g, tsr_tensor *weight, const tsr_channels *n)
{
    if (weight == NULL) return g;
    tsr_dtype dtype = tsr_tensor_dtype(g);
    tsr_tensor *h = tsr_empty(dtype, tsr_tensor_shape(g));
    if (h == NULL) return NULL;
    const tsr_kernels *k = tsr_kernels__get(dtype);
    void *hd = tsr_tensor_data_mut(h);
    const void *gd = tsr_tensor_data(g), *wd = tsr_tensor_data(weight);
    TSR_PARALLEL_FOR(j, n->c, n->b * n->c * n->s,
                     { k->channel_normalize(hd, gd, NULL, wd, NULL, n, j, j + 1); });
    return h;
}

static tsr_tensor *input_gradient(tsr_tensor *h, tsr_tensor *x, tsr_tensor *stats,
                                  const tsr_channels *n)
{
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_rows r = rows_of(n);
    tsr_tensor *dx = h != NULL ? tsr_empty(dtype, tsr_tensor_shape(x)) : NULL;
    if (dx == NULL) return NULL;
    const tsr_kernels *k = tsr_kernels__get(dtype);
    char *dxd = tsr_tensor_data_mut(dx);
    const char *hd = tsr_tensor_data(h), *xd = tsr_tensor_data(x), *sd = tsr_tensor_data(stats);
    size_t pair = 2 * tsr_dtype_size(dtype);
    TSR_PARALLEL_FOR(c, r.chunks, r.rows * r.d, {
        size_t at = tsr_rows__offset(&r, c, dtype);
        k->layer_norm_backward(dxd + at, NULL, NULL, hd + at, xd + at, NULL,
                               sd + (size_t)(c * r.chunk) * pair, NULL, tsr_rows__in_chunk(&r, c),
                               r.d);
    });
    return dx;
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct group_norm *s = tsr_node_block(node);
    bool ok = true;
    tsr_tensor *x = tsr_rows__packed(tsr_node_input(node, 0), &ok);
    tsr_tensor *weight = tsr_rows__packed(tsr_node_input(node, 1), &ok);
    tsr_tensor *g = tsr_rows__packed(grad_outputs[0], &ok), *stats = tsr_node_saved(node, 0);
    if (!ok) return;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_channels n = channels_of(x, s->groups);
    if (tsr_node_wants(node, 0)) {
        grad_inputs[0] = input_gradient(weighted(g, weight, &n), x, stats, &n);
    }
    if (!tsr_node_wants(node, 1) && !tsr_node_wants(node, 2)) return;
    tsr_tensor *sums = tsr_empty(dtype, TSR_SHAPE(n.c)),
               *products = tsr_empty(dtype, TSR_SHAPE(n.c));
    if (sums == NULL || products == NULL) return;
    const tsr_kernels *k = tsr_kernels__get(dtype);
    void *ad = tsr_tensor_data_mut(sums), *pd = tsr_tensor_data_mut(products);
    const void *gd = tsr_tensor_data(g), *xd = tsr_tensor_data(x), *sd = tsr_tensor_data(stats);
    TSR_PARALLEL_FOR(j, n.c, n.b * n.c * n.s,
                     { k->channel_sums(ad, pd, gd, xd, sd, &n, j, j + 1); });
    if (tsr_node_wants(node, 1)) grad_inputs[1] = products;
    if (tsr_node_wants(node, 2)) grad_inputs[2] = sums;
}

static void definition(const void *block, tsr_tensors in, tsr_tensor **outputs)
{
    const struct group_norm *s = block;
    tsr_shape shape = tsr_tensor_shape(in.at[0]);
    tsr_channels n = channels_of(in.at[0], s->groups);
    tsr_tensor *x = tsr_reshape(in.at[0], TSR_SHAPE(n.b, n.stride, n.size * n.s));
    const int last[] = {-1};
    tsr_tensor *c = tsr_sub(x, tsr_mean(x, last, 1, true));
    tsr_tensor *variance = tsr_mean(tsr_mul(c, c), last, 1, true);
    tsr_tensor *y = tsr_mul(c, tsr_rsqrt(tsr_affine(variance, 1.0, s->eps)));
    y = tsr_reshape(y, shape);
    if (in.at[1] != NULL) y = tsr_mul(y, tsr_rows__per_channel(in.at[1], shape));
    if (in.at[2] != NULL) y = tsr_add(y, tsr_rows__per_channel(in.at[2], shape));
    outputs[0] = y;
}

static const tsr_op op = {.name = "group_norm",
                          .block_size = sizeof(struct group_norm),
                          .backward = backward,
                          .definition = definition};

tsr_tensor *tsr_group_norm(tsr_tensor *x, int64_t groups, tsr_tensor *weight, tsr_tensor *bias,
                           double eps)
{
    if (x == NULL || !shape_rule(x, groups, weight, bias)) return NULL;
    struct group_norm s = {groups, eps};
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *stats = NULL, *y = forward(x, weight, bias, &s, &stats);
    y = tsr_record(&op, &s, TSR_TENSORS(x, weight, bias), TSR_TENSORS(stats), TSR_TENSORS(y));
    return tsr_scope_return(&scope, y);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    int64_t groups = *(const int64_t *)((const tsr_sample *)user)->args;
    out[0] = tsr_group_norm(in.at[0], groups, in.at[1], in.at[2], 1e-5);
}

static const tsr_sample samples[] = {
    {"images", 3, 1, {{{4, {2, 6, 2, 2}}}, {{1, {6}}}, {{1, {6}}}}, call, &(const int64_t){3}},
    {"one group", 3, 1, {{{3, {2, 4, 3}}}, {{1, {4}}}, {{1, {4}}}}, call, &(const int64_t){1}},
    {"rows", 3, 1, {{{2, {3, 6}}}, {{1, {6}}}, {{1, {6}}}}, call, &(const int64_t){2}},
    {"no weight",
     3,
     1,
     {{{3, {2, 4, 3}}}, {.absent = true}, {{1, {4}}}},
     call,
     &(const int64_t){2}},
    {"plain",
     3,
     1,
     {{{3, {2, 4, 3}}}, {.absent = true}, {.absent = true}},
     call,
     &(const int64_t){2}},
    {"no samples", 3, 1, {{{2, {0, 4}}}, {{1, {4}}}, {{1, {4}}}}, call, &(const int64_t){2}},
};
TSR_SAMPLES(group_norm, samples);
