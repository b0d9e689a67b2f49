/*
 * y = xhat w[c] + b[c], xhat = (x - m[c]) s[c], s = 1 / sqrt(v + eps), x [B, C, ...] (Ioffe & Szegedy 2015, algorithm 1).
 * m and v are the mean and the biased variance of the channel over the batch and all later dimensions, n values, or in
 * evaluation the running ones.
 *
 * dw = sum dy xhat, db = sum dy. With batch statistics m and s depend on every value of the channel, as in layer_norm:
 * dx = w s (dy - db / n - xhat dw / n); with running ones they are constants: dx = w s dy. Backward keeps m and s.
 */
#include "autograd/loop.h"
#include "ops/kernels/kernels.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

#include <math.h>

struct batch_norm {
    bool batch; /* statistics of the batch, not running ones */
    double eps;
};

/* Channels that a thread takes at once: where nothing follows C they are adjacent in memory. */
enum { GROUP = 16 };

static tsr_channels channels_of(tsr_tensor *x)
{
    int64_t b = tsr_tensor_size(x, 0), c = tsr_tensor_size(x, 1);
    return (tsr_channels){b, c, b * c > 0 ? tsr_tensor_numel(x) / (b * c) : 0, 0, 1};
}

static int64_t work_of(const tsr_channels *n)
{
    return n->b * n->c * n->s;
}

static int64_t group_end(const tsr_channels *n, int64_t first)
{
    return n->c - first < GROUP ? n->c : first + GROUP;
}

static bool shape_rule(tsr_tensor *x, tsr_tensor *const vectors[4], bool training)
{
    static const char *const names[] = {"weight", "bias", "running_mean", "running_var"};
    char text[TSR_SHAPE_TEXT];
    if (!tsr_rows__is_real("batch_norm", "x", x)) return false;
    if (tsr_tensor_ndim(x) < 2) {
        tsr_fail(TSR_STATUS_SHAPE, "batch_norm: x has shape %s, expected [B, C, ...]",
                 tsr_shape_text(tsr_tensor_shape(x), text));
        return false;
    }
    for (int i = 0; i < 4; i++) {
        if (!tsr_rows__vector_fits("batch_norm", names[i], vectors[i], tsr_tensor_dtype(x),
                                   tsr_tensor_size(x, 1))) {
            return false;
        }
    }
    if ((vectors[2] == NULL) != (vectors[3] == NULL)) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "batch_norm: running_mean and running_var: give both or none");
        return false;
    }
    tsr_channels n = channels_of(x);
    if (training && n.b * n.s == 1) {
        tsr_fail(TSR_STATUS_SHAPE,
                 "batch_norm: x %s has one value a channel, training needs two at least",
                 tsr_shape_text(tsr_tensor_shape(x), text));
        return false;
    }
    return true;
}

/* running = (1 - momentum) running + momentum scale value. */
static void update(tsr_tensor *running, tsr_tensor *value, int64_t stride, double scale,
                   double momentum)
{
    int64_t n = tsr_tensor_size(running, 0), to = tsr_tensor_strides(running)[0];
    void *r = tsr_tensor_data_mut(running);
    const void *v = tsr_tensor_data(value);
    for (int64_t j = 0; j < n; j++) {
        if (tsr_tensor_dtype(running) == TSR_DTYPE_F32) {
            float *at = (float *)r + j * to;
            double fresh = (double)((const float *)v)[j * stride];
            *at = (float)((1.0 - momentum) * (double)*at + momentum * scale * fresh);
        } else {
            double *at = (double *)r + j * to;
            *at = (1.0 - momentum) * *at + momentum * scale * ((const double *)v)[j * stride];
        }
    }
}

/* stats [C, 2] of running statistics. */
static void constant_statistics(tsr_tensor *stats, tsr_tensor *mean, tsr_tensor *variance,
                                double eps)
{
    void *s = tsr_tensor_data_mut(stats);
    for (int64_t j = 0; j < tsr_tensor_numel(mean); j++) {
        double m = tsr_tensor_get(mean, j), r = 1.0 / sqrt(tsr_tensor_get(variance, j) + eps);
        if (tsr_tensor_dtype(stats) == TSR_DTYPE_F32) {
            ((float *)s)[2 * j] = (float)m;
            ((float *)s)[2 * j + 1] = (float)r;
        } else {
            ((double *)s)[2 * j] = m;
            ((double *)s)[2 * j + 1] = r;
        }
    }
}

static bool batch_statistics(tsr_tensor *stats, tsr_tensor *x, tsr_tensor *running_mean,
                             tsr_tensor *running_var, double momentum, double eps)
{
    tsr_channels n = channels_of(x);
    tsr_tensor *variance = tsr_empty(tsr_tensor_dtype(x), TSR_SHAPE(n.c));
    if (variance == NULL) return false;
    const tsr_kernels *k = tsr_kernels__get(tsr_tensor_dtype(x));
    void *sd = tsr_tensor_data_mut(stats), *vd = tsr_tensor_data_mut(variance);
    const void *xd = tsr_tensor_data(x);
    TSR_PARALLEL_FOR(part, (n.c + GROUP - 1) / GROUP, work_of(&n), {
        int64_t j = part * GROUP;
        k->channel_statistics(sd, vd, xd, &n, j, group_end(&n, j), eps);
    });
    double count = (double)(n.b * n.s);
    if (running_mean != NULL && count > 1.0) {
        update(running_mean, stats, 2, 1.0, momentum);
        update(running_var, variance, 1, count / (count - 1.0), momentum);
    }
    return true;
}

static tsr_tensor *forward(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias, tsr_tensor *stats)
{
    tsr_channels n = channels_of(x);
    tsr_tensor *y = tsr_empty_like(x);
    if (y == NULL) return NULL;
    const tsr_kernels *k = tsr_kernels__get(tsr_tensor_dtype(x));
    void *yd = tsr_tensor_data_mut(y);
    const void *xd = tsr_tensor_data(x), *sd = tsr_tensor_data(stats);
    const void *wd = tsr_tensor_data(weight), *bd = tsr_tensor_data(bias);
    TSR_PARALLEL_FOR(part, (n.c + GROUP - 1) / GROUP, work_of(&n), {
        int64_t j = part * GROUP;
        k->channel_normalize(yd, xd, sd, wd, bd, &n, j, group_end(&n, j));
    });
    return y;
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct batch_norm *s = tsr_node_block(node);
    bool ok = true;
    tsr_tensor *x = tsr_rows__packed(tsr_node_input(node, 0), &ok);
    tsr_tensor *weight = tsr_rows__packed(tsr_node_input(node, 1), &ok);
    tsr_tensor *g = tsr_rows__packed(grad_outputs[0], &ok), *stats = tsr_node_saved(node, 0);
    if (!ok) return;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_channels n = channels_of(x);
    tsr_tensor *sums = tsr_empty(dtype, TSR_SHAPE(n.c)),
               *products = tsr_empty(dtype, TSR_SHAPE(n.c));
    tsr_tensor *dx = tsr_node_wants(node, 0) ? tsr_empty(dtype, tsr_tensor_shape(x)) : NULL;
    if (tsr_status_get() != TSR_STATUS_OK) return;
    const tsr_kernels *k = tsr_kernels__get(dtype);
    void *dxd = tsr_tensor_data_mut(dx), *ad = tsr_tensor_data_mut(sums),
         *pd = tsr_tensor_data_mut(products);
    const void *gd = tsr_tensor_data(g), *xd = tsr_tensor_data(x), *sd = tsr_tensor_data(stats),
               *wd = tsr_tensor_data(weight);
    TSR_PARALLEL_FOR(part, (n.c + GROUP - 1) / GROUP, work_of(&n), {
        int64_t j = part * GROUP;
        int64_t end = group_end(&n, j);
        k->channel_sums(ad, pd, gd, xd, sd, &n, j, end);
        if (dxd == NULL) continue;
        k->channel_backward(dxd, gd, xd, sd, wd, s->batch ? ad : NULL, s->batch ? pd : NULL, &n, j,
                            end);
    });
    grad_inputs[0] = dx;
    if (tsr_node_wants(node, 1)) grad_inputs[1] = products;
    if (tsr_node_wants(node, 2)) grad_inputs[2] = sums;
}

static void definition(const void *block, tsr_tensors in, tsr_tensor **outputs)
{
    const struct batch_norm *s = block;
    tsr_tensor *x = in.at[0], *c, *variance;
    tsr_shape shape = tsr_tensor_shape(x);
    if (s->batch) {
        int dims[TSR_MAX_DIMS] = {0}, n = 1;
        for (int d = 2; d < shape.ndim; d++) dims[n++] = d;
        c = tsr_sub(x, tsr_mean(x, dims, n, true));
        variance = tsr_mean(tsr_mul(c, c), dims, n, true);
    } else {
        c = tsr_sub(x, tsr_rows__per_channel(in.at[3], shape));
        variance = tsr_rows__per_channel(in.at[4], shape);
    }
    tsr_tensor *y = tsr_mul(c, tsr_rsqrt(tsr_affine(variance, 1.0, s->eps)));
    if (in.at[1] != NULL) y = tsr_mul(y, tsr_rows__per_channel(in.at[1], shape));
    if (in.at[2] != NULL) y = tsr_add(y, tsr_rows__per_channel(in.at[2], shape));
    outputs[0] = y;
}

static const tsr_op op = {.name = "batch_norm",
                          .block_size = sizeof(struct batch_norm),
                          .backward = backward,
                          .definition = definition};

tsr_tensor *tsr_batch_norm(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias,
                           tsr_tensor *running_mean, tsr_tensor *running_var, bool training,
                           double momentum, double eps)
{
    if (x == NULL ||
        !shape_rule(x, (tsr_tensor *const[]){weight, bias, running_mean, running_var}, training)) {
        return NULL;
    }
    struct batch_norm s = {training || running_mean == NULL, eps};
    bool ok = true;
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *stats = tsr_empty(tsr_tensor_dtype(x), TSR_SHAPE(tsr_tensor_size(x, 1), 2));
    tsr_tensor *px = tsr_rows__packed(x, &ok), *pw = tsr_rows__packed(weight, &ok);
    tsr_tensor *pb = tsr_rows__packed(bias, &ok), *y = NULL;
    ok = ok && stats != NULL;
    if (ok && s.batch) {
        ok =
            batch_statistics(stats, px, training ? running_mean : NULL, running_var, momentum, eps);
    } else if (ok) {
        constant_statistics(stats, running_mean, running_var, eps);
    }
    if (ok) y = forward(px, pw, pb, stats);
    /* Running statistics that were not read are no inputs: the next step may change them before this node's backward. */
    tsr_tensor *mean = s.batch ? NULL : running_mean, *variance = s.batch ? NULL : running_var;
    y = tsr_record(&op, &s, TSR_TENSORS(x, weight, bias, mean, variance), TSR_TENSORS(stats),
                   TSR_TENSORS(y));
    return tsr_scope_return(&scope, y);
}

/* Without args: evaluation, with running statistics of its own. */
static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    bool training = ((const tsr_sample *)user)->args != NULL;
    tsr_tensor *x = in.at[0], *mean = NULL, *variance = NULL;
    if (x != NULL && !training) {
        tsr_shape shape = TSR_SHAPE(tsr_tensor_size(x, 1));
        mean = tsr_full(tsr_tensor_dtype(x), shape, 0.25);
        variance = tsr_full(tsr_tensor_dtype(x), shape, 1.5);
        if (mean == NULL || variance == NULL) return;
    }
    out[0] = tsr_batch_norm(x, in.at[1], in.at[2], mean, variance, training, 0.1, 1e-5);
}

static const tsr_sample samples[] = {
    {"rows", 3, 1, {{{2, {5, 3}}}, {{1, {3}}}, {{1, {3}}}}, call, "training"},
    {"images", 3, 1, {{{4, {2, 3, 2, 2}}}, {{1, {3}}}, {{1, {3}}}}, call, "training"},
    {"no weight", 3, 1, {{{3, {2, 3, 4}}}, {.absent = true}, {{1, {3}}}}, call, "training"},
    {"no bias", 3, 1, {{{3, {2, 3, 4}}}, {{1, {3}}}, {.absent = true}}, call, "training"},
    {"running", 3, 1, {{{4, {2, 3, 2, 2}}}, {{1, {3}}}, {{1, {3}}}}, call},
    {"running, plain", 3, 1, {{{2, {1, 3}}}, {.absent = true}, {.absent = true}}, call},
    {"no samples", 3, 1, {{{2, {0, 3}}}, {{1, {3}}}, {{1, {3}}}}, call},
};
TSR_SAMPLES(batch_norm, samples);
