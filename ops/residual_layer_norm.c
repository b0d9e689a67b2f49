/*
 * z = x + drop_path(w_1 y) and n = layer_norm(z), x and y [B, ..., D], w_1 = gamma [D]; drop_path divides a sample by
 * keep = 1 - p or makes it 0, so z = x + k w_1 y with k of each sample 1 / keep or 0.
 *
 * The gradient of z is that which arrives at it and layer_norm's, g = dz + dx of ops/layer_norm.c; then dx = g,
 * dy = k w_1 g, dw_1 = sum over rows of k y g, and those of weight and bias are layer_norm's. Forward and backward take
 * one row at a time, which stays in the cache from the first loop over it to the last; bf16 is widened and rounded there.
 *
 * Nothing but z and the statistics of its rows is kept (and y where gamma is), so there is no going through the definition
 * where a graph of the gradient is asked for: backward then writes the same formulas with operators.
 */
#include "ops/drop_path.h"
#include "ops/elementwise.h"
#include "ops/half.h"
#include "ops/kernels/bf16.h"
#include "ops/kernels/kernels.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

#include <string.h>

static const char name[] = "residual_layer_norm";

struct residual_layer_norm {
    double eps, p;
    tsr_rng rng;
    tsr_dtype x, y, norm; /* types */
};

enum { X, Y, GAMMA, WEIGHT, BIAS, INPUTS };
enum { SAVED_Z, SAVED_STATS, SAVED_Y, SAVED_GAMMA, SAVED_WEIGHT, SAVED_BIAS };

static bool shape_rule(tsr_tensor *const in[INPUTS], const tsr_residual_norm_options *o)
{
    tsr_tensor *x = in[X], *y = in[Y];
    tsr_dtype dtype = tsr_tensor_dtype(x), of_y = tsr_tensor_dtype(y);
    if (!tsr_elementwise__takes(name, "x", x)) return false;
    bool mixed = dtype == TSR_DTYPE_F32 && of_y == TSR_DTYPE_BF16;
    if (!mixed && !tsr_rows__dtype_fits(name, "y", y, "x", dtype)) return false;
    if (o->narrow && dtype == TSR_DTYPE_F64) {
        tsr_fail(TSR_STATUS_DTYPE, "%s: narrow with x f64, expected f32", name);
        return false;
    }
    if (!(o->p >= 0.0 && o->p <= 1.0)) {
        tsr_fail(TSR_STATUS_ARGUMENT, "%s: p is %g, expected 0 to 1", name, o->p);
        return false;
    }
    if (tsr_tensor_ndim(x) < (o->p > 0.0 ? 2 : 1)) {
        char text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE, "%s: x has shape %s, expected %s", name,
                 tsr_shape_text(tsr_tensor_shape(x), text),
                 o->p > 0.0 ? "[B, ..., D]" : "[..., D]");
        return false;
    }
    int64_t d = tsr_tensor_size(x, -1);
    return tsr_rows__shapes_equal(name, "x", x, "y", y) &&
           tsr_rows__vector_fits(name, "gamma", in[GAMMA], dtype, d) &&
           tsr_rows__vector_fits(name, "weight", in[WEIGHT], dtype, d) &&
           tsr_rows__vector_fits(name, "bias", in[BIAS], dtype, d);
}

/* ---- rows ---- */

/* [rows, d] in chunks, and in samples for drop_path. */
struct cut {
    tsr_rows r;
    int64_t sample; /* rows */
    const struct residual_layer_norm *s;
};

static struct cut cut_of(tsr_shape shape, const struct residual_layer_norm *s)
{
    struct cut c = {.r = tsr_rows__of(shape), .s = s};
    c.sample = s->p > 0.0 && shape.size[0] > 0 ? c.r.rows / shape.size[0] : c.r.rows;
    return c;
}

/* k of the sample that a row is in: known from its row before on, but at a chunk's first. */
static double scale_at(const struct cut *c, int64_t row, double before)
{
    if (c->s->p == 0.0) return 1.0;
    if (row % c->r.chunk != 0 && row % c->sample != 0) return before;
    return tsr_drop_path__keeps(c->s->rng, c->s->p, row / c->sample) ? 1.0 / (1.0 - c->s->p) : 0.0;
}

/* Element `at` of a contiguous tensor; NULL stays NULL. */
static char *element(const void *data, int64_t at, tsr_dtype dtype)
{
    return data != NULL ? (char *)data + (size_t)at * tsr_dtype_size(dtype) : NULL;
}

/* ---- bf16 ---- */

/* Rows of f32 that a chunk's bf16 is widened to and rounded from; data NULL where all is f32 or f64. */
struct room {
    float *data;
    int64_t rows, d;
};

/* False where memory is out. */
static bool room_open(struct room *room, const struct cut *c, int rows)
{
    bool wanted = c->s->y == TSR_DTYPE_BF16 || c->s->norm == TSR_DTYPE_BF16;
    *room = (struct room){.rows = rows, .d = c->r.d};
    if (!wanted) return true;
    tsr_tensor *t = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(c->r.chunks, rows, c->r.d));
    room->data = tsr_tensor_data_mut(t);
    return t != NULL;
}

static float *room_at(const struct room *room, int64_t chunk, int64_t row)
{
    return room->data != NULL ? room->data + (chunk * room->rows + row) * room->d : NULL;
}

/* n elements, for arithmetic: where they are, or widened. */
static const void *widened(const void *from, tsr_dtype dtype, int64_t n, float *room)
{
    if (from == NULL || dtype != TSR_DTYPE_BF16) return from;
    tsr_bf16_kernels__get()->widen(room, from, n);
    return room;
}

/* Where results of a type go first, and then to their place. */
static void *wide(void *to, tsr_dtype dtype, float *room)
{
    return to != NULL && dtype == TSR_DTYPE_BF16 ? room : to;
}

static void narrow(void *to, tsr_dtype dtype, int64_t n, const float *room)
{
    if (to != NULL && dtype == TSR_DTYPE_BF16) tsr_bf16_kernels__get()->narrow(to, room, n);
}

/* ---- forward ---- */

/* in: contiguous; gamma, weight and bias f32 or f64. Sets out: z, n, stats [rows, 2]. */
static bool forward(tsr_tensor *const in[INPUTS], const struct residual_layer_norm *s,
                    tsr_tensor *out[3])
{
    enum { ROOM_X, ROOM_Y, ROOM_Z, ROOM_N, ROOMS };
    tsr_dtype real = s->x == TSR_DTYPE_F64 ? TSR_DTYPE_F64 : TSR_DTYPE_F32;
    struct cut c = cut_of(tsr_tensor_shape(in[X]), s);
    struct room room;
    out[0] = tsr_empty(s->x, tsr_tensor_shape(in[X]));
    out[1] = tsr_empty(s->norm, tsr_tensor_shape(in[X]));
    out[2] = tsr_empty(real, TSR_SHAPE(c.r.rows, 2));
    if (!room_open(&room, &c, ROOMS) || out[0] == NULL || out[1] == NULL || out[2] == NULL) {
        return false;
    }
    const tsr_kernels *k = tsr_kernels__get(real);
    void *zd = tsr_tensor_data_mut(out[0]), *nd = tsr_tensor_data_mut(out[1]),
         *sd = tsr_tensor_data_mut(out[2]);
    const void *xd = tsr_tensor_data(in[X]), *yd = tsr_tensor_data(in[Y]),
               *gamma = tsr_tensor_data(in[GAMMA]), *w = tsr_tensor_data(in[WEIGHT]),
               *b = tsr_tensor_data(in[BIAS]);
    int64_t d = c.r.d;
    TSR_PARALLEL_FOR(chunk, c.r.chunks, c.r.rows * d, {
        int64_t end = chunk * c.r.chunk + tsr_rows__in_chunk(&c.r, chunk);
        float *f[ROOMS];
        for (int i = 0; i < ROOMS; i++) f[i] = room_at(&room, chunk, i);
        double scale = 1.0;
        for (int64_t row = chunk * c.r.chunk; row < end; row++) {
            int64_t at = row * d;
            scale = scale_at(&c, row, scale);
            void *z = element(zd, at, s->x), *n = element(nd, at, s->norm);
            k->add_scaled(wide(z, s->x, f[ROOM_Z]),
                          widened(element(xd, at, s->x), s->x, d, f[ROOM_X]),
                          widened(element(yd, at, s->y), s->y, d, f[ROOM_Y]), gamma, scale, 1, d);
            narrow(z, s->x, d, f[ROOM_Z]);
            k->layer_norm(wide(n, s->norm, f[ROOM_N]), element(sd, 2 * row, real),
                          widened(z, s->x, d, f[ROOM_Z]), w, b, 1, d, s->eps);
            narrow(n, s->norm, d, f[ROOM_N]);
        }
    });
    return true;
}

/* n once more, from z. */
static tsr_tensor *again(const tsr_node *node, int o)
{
    (void)o;
    const struct residual_layer_norm *s = tsr_node_block(node);
    bool was = tsr_recording_set(false);
    tsr_tensor *n =
        tsr_layer_norm_cast(tsr_node_saved(node, SAVED_Z), tsr_node_saved(node, SAVED_WEIGHT),
                            tsr_node_saved(node, SAVED_BIAS), s->eps, s->norm);
    tsr_recording_set(was);
    return n;
}

/* ---- backward ---- */

/* Contiguous data; NULL where nothing arrived, is there or is wanted. */
struct gradients {
    const void *z, *stats, *y, *gamma, *weight, *dz, *dn;
    void *dx, *dy;                  /* dx is always there */
    void *dgamma, *dweight, *dbias; /* sums of each chunk */
    tsr_dtype real;
};

enum { ROOM_Z, ROOM_Y, ROOM_DZ, ROOM_DN, ROOM_DX, ROOM_DY, BACKWARD_ROOMS };

static void backward_row(const struct cut *c, const struct gradients *t, int64_t chunk, int64_t row,
                         double scale, float *const f[BACKWARD_ROOMS])
{
    const tsr_kernels *k = tsr_kernels__get(t->real);
    const struct residual_layer_norm *s = c->s;
    int64_t d = c->r.d, at = row * d;
    const void *dz = widened(element(t->dz, at, s->x), s->x, d, f[ROOM_DZ]);
    void *dx = element(t->dx, at, s->x), *dy = element(t->dy, at, s->y);
    void *g = wide(dx, s->x, f[ROOM_DX]);
    if (t->dn != NULL) {
        k->layer_norm_backward(g, element(t->dweight, chunk * d, t->real),
                               element(t->dbias, chunk * d, t->real),
                               widened(element(t->dn, at, s->norm), s->norm, d, f[ROOM_DN]),
                               widened(element(t->z, at, s->x), s->x, d, f[ROOM_Z]), t->weight,
                               element(t->stats, 2 * row, t->real), dz, 1, d);
    } else {
        memcpy(g, dz, (size_t)d * tsr_dtype_size(t->real));
    }
    narrow(dx, s->x, d, f[ROOM_DX]);
    if (dy == NULL && t->dgamma == NULL) return;
    k->add_scaled_backward(wide(dy, s->y, f[ROOM_DY]), element(t->dgamma, chunk * d, t->real), g,
                           widened(element(t->y, at, s->y), s->y, d, f[ROOM_Y]), t->gamma, scale, 1,
                           d);
    narrow(dy, s->y, d, f[ROOM_DY]);
}

/* Of a vector's gradient, where it is wanted: a row of sums for each chunk. */
static tsr_tensor *partial(bool wanted, const struct cut *c, tsr_dtype dtype, bool *ok)
{
    tsr_tensor *t = wanted ? tsr_zeros(dtype, TSR_SHAPE(c->r.chunks, c->r.d)) : NULL;
    if (wanted && t == NULL) *ok = false;
    return t;
}

static void backward_by_kernels(const tsr_node *node, tsr_tensor *const *grad_outputs,
                                tsr_tensor **grad_inputs)
{
    const struct residual_layer_norm *s = tsr_node_block(node);
    bool ok = true, wants[INPUTS];
    for (int i = 0; i < INPUTS; i++) wants[i] = tsr_node_wants(node, i);
    tsr_tensor *z = tsr_node_saved(node, SAVED_Z), *stats = tsr_node_saved(node, SAVED_STATS),
               *y = tsr_rows__packed(tsr_node_saved(node, SAVED_Y), &ok),
               *gamma = tsr_half__widened(tsr_node_saved(node, SAVED_GAMMA)),
               *weight = tsr_half__widened(tsr_node_saved(node, SAVED_WEIGHT)),
               *dz = tsr_rows__packed(grad_outputs[0], &ok),
               *dn = tsr_rows__packed(grad_outputs[1], &ok);
    gamma = tsr_rows__packed(gamma, &ok);
    weight = tsr_rows__packed(weight, &ok);
    tsr_dtype real = tsr_tensor_dtype(stats);
    struct cut c = cut_of(tsr_tensor_shape(z), s);
    /* Where y counts as x does, they have one gradient. */
    bool same = s->p == 0.0 && gamma == NULL && s->x == s->y;
    struct room room;
    tsr_tensor *dx = tsr_empty(s->x, tsr_tensor_shape(z));
    tsr_tensor *dy = wants[Y] && !same ? tsr_empty(s->y, tsr_tensor_shape(z)) : NULL;
    tsr_tensor *dgamma = partial(wants[GAMMA], &c, real, &ok);
    tsr_tensor *dweight = partial(wants[WEIGHT] && dn != NULL, &c, real, &ok);
    tsr_tensor *dbias = partial(wants[BIAS] && dn != NULL, &c, real, &ok);
    if (!ok || !room_open(&room, &c, BACKWARD_ROOMS) || dx == NULL ||
        (wants[Y] && !same && dy == NULL)) {
        return;
    }
    struct gradients t = {.z = tsr_tensor_data(z),
                          .stats = tsr_tensor_data(stats),
                          .y = tsr_tensor_data(y),
                          .gamma = tsr_tensor_data(gamma),
                          .weight = tsr_tensor_data(weight),
                          .dz = tsr_tensor_data(dz),
                          .dn = tsr_tensor_data(dn),
                          .dx = tsr_tensor_data_mut(dx),
                          .dy = tsr_tensor_data_mut(dy),
                          .dgamma = tsr_tensor_data_mut(dgamma),
                          .dweight = tsr_tensor_data_mut(dweight),
                          .dbias = tsr_tensor_data_mut(dbias),
                          .real = real};
    TSR_PARALLEL_FOR(chunk, c.r.chunks, c.r.rows * c.r.d, {
        int64_t end = chunk * c.r.chunk + tsr_rows__in_chunk(&c.r, chunk);
        float *f[BACKWARD_ROOMS];
        for (int i = 0; i < BACKWARD_ROOMS; i++) f[i] = room_at(&room, chunk, i);
        double scale = 1.0;
        for (int64_t row = chunk * c.r.chunk; row < end; row++) {
            scale = scale_at(&c, row, scale);
            backward_row(&c, &t, chunk, row, scale, f);
        }
    });
    tsr_tensor *vectors[] = {dgamma, dweight, dbias};
    grad_inputs[X] = dx;
    grad_inputs[Y] = same ? dx : dy;
    for (int i = 0; i < 3; i++) grad_inputs[GAMMA + i] = tsr_rows__combine(vectors[i]);
}

/* a + b; NULL is 0. */
static tsr_tensor *sum_of(tsr_tensor *a, tsr_tensor *b)
{
    return a == NULL ? b : b == NULL ? a : tsr_add(a, b);
}

static void backward_by_operators(const tsr_node *node, tsr_tensor *const *grad_outputs,
                                  tsr_tensor **grad_inputs)
{
    const struct residual_layer_norm *s = tsr_node_block(node);
    const int last[] = {-1};
    tsr_tensor *g = tsr_half__cast(grad_outputs[0]), *dn = tsr_half__cast(grad_outputs[1]);
    if (dn != NULL) {
        tsr_tensor *z = tsr_half__cast(tsr_node_saved(node, SAVED_Z)),
                   *weight = tsr_half__cast(tsr_node_saved(node, SAVED_WEIGHT));
        tsr_tensor *centered = tsr_sub(z, tsr_mean(z, last, 1, true));
        tsr_tensor *variance = tsr_mean(tsr_mul(centered, centered), last, 1, true);
        tsr_tensor *scale = tsr_rsqrt(tsr_affine(variance, 1.0, s->eps));
        tsr_tensor *xhat = tsr_mul(centered, scale), *h = weight != NULL ? tsr_mul(dn, weight) : dn;
        tsr_tensor *along = tsr_mean(tsr_mul(h, xhat), last, 1, true);
        tsr_tensor *rest = tsr_sub(h, tsr_mean(h, last, 1, true));
        tsr_shape vector = TSR_SHAPE(tsr_tensor_size(z, -1));
        g = sum_of(g, tsr_mul(scale, tsr_sub(rest, tsr_mul(xhat, along))));
        if (tsr_node_wants(node, WEIGHT)) {
            grad_inputs[WEIGHT] = tsr_sum_to(tsr_mul(dn, xhat), vector);
        }
        if (tsr_node_wants(node, BIAS)) grad_inputs[BIAS] = tsr_sum_to(dn, vector);
    }
    grad_inputs[X] = g;
    if (!tsr_node_wants(node, Y) && !tsr_node_wants(node, GAMMA)) return;
    tsr_tensor *kept = tsr_drop_path(g, s->p, s->rng),
               *y = tsr_half__cast(tsr_node_saved(node, SAVED_Y)),
               *gamma = tsr_half__cast(tsr_node_saved(node, SAVED_GAMMA));
    grad_inputs[Y] = gamma != NULL ? tsr_mul(kept, gamma) : kept;
    if (tsr_node_wants(node, GAMMA)) {
        grad_inputs[GAMMA] = tsr_sum_to(tsr_mul(kept, y), tsr_tensor_shape(gamma));
    }
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct residual_layer_norm *s = tsr_node_block(node);
    bool graph = tsr_tape_current() != NULL;
    (graph ? backward_by_operators : backward_by_kernels)(node, grad_outputs, grad_inputs);
    static const int saved[] = {
        [GAMMA] = SAVED_GAMMA, [WEIGHT] = SAVED_WEIGHT, [BIAS] = SAVED_BIAS};
    for (int i = 0; i < INPUTS; i++) {
        tsr_dtype dtype = i == X   ? s->x
                          : i == Y ? s->y
                                   : tsr_tensor_dtype(tsr_node_saved(node, saved[i]));
        if (grad_inputs[i] != NULL) grad_inputs[i] = tsr_cast(grad_inputs[i], dtype);
    }
}

static void definition(const void *block, tsr_tensors in, tsr_tensor **outputs)
{
    const struct residual_layer_norm *s = block;
    tsr_tensor *y = tsr_cast(in.at[Y], s->x), *gamma = in.at[GAMMA];
    if (gamma != NULL) y = tsr_mul(y, tsr_cast(gamma, s->x));
    outputs[0] = tsr_add(in.at[X], tsr_drop_path(y, s->p, s->rng));
    outputs[1] = tsr_layer_norm_cast(outputs[0], in.at[WEIGHT], in.at[BIAS], s->eps, s->norm);
}

static const tsr_op op = {.name = name,
                          .block_size = sizeof(struct residual_layer_norm),
                          .backward = backward,
                          .definition = definition,
                          .again = again,
                          .records = true};

tsr_tensor *tsr_residual_layer_norm(tsr_tensor *x, tsr_tensor *y, tsr_tensor *gamma,
                                    tsr_tensor *weight, tsr_tensor *bias,
                                    const tsr_residual_norm_options *options, tsr_tensor **sum)
{
    *sum = NULL;
    tsr_tensor *in[INPUTS] = {x, y, gamma, weight, bias}, *packed[INPUTS], *out[3] = {0};
    if (x == NULL || y == NULL || !shape_rule(in, options)) return NULL;
    struct residual_layer_norm s = {.eps = options->eps,
                                    .p = options->p,
                                    .rng = options->rng,
                                    .x = tsr_tensor_dtype(x),
                                    .y = tsr_tensor_dtype(y)};
    s.norm = options->narrow ? TSR_DTYPE_BF16 : s.x;
    tsr_scope scope = tsr_scope_open();
    bool ok = true;
    for (int i = 0; i < INPUTS; i++) {
        packed[i] = tsr_rows__packed(i < GAMMA ? in[i] : tsr_half__widened(in[i]), &ok);
        if (in[i] != NULL && packed[i] == NULL) ok = false;
    }
    ok = ok && forward(packed, &s, out) &&
         tsr_record(&op, &s, (tsr_tensors){in, INPUTS},
                    TSR_TENSORS(out[0], out[2], gamma != NULL ? y : NULL, gamma, weight, bias),
                    TSR_TENSORS(out[0], out[1])) != NULL;
    if (ok) *sum = out[0];
    tsr_scope_close(&scope, ok ? TSR_TENSORS(out[0], out[1]) : TSR_NO_TENSORS);
    return ok ? out[1] : NULL;
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    tsr_residual_norm_options o = {.eps = 1e-6, .rng = tsr_rng_make(7, 3, 0, 1)};
    const double *p = ((const tsr_sample *)user)->args;
    if (p != NULL) o.p = *p;
    out[1] = tsr_residual_layer_norm(in.at[0], in.at[1], in.at[2], in.at[3], in.at[4], &o, &out[0]);
}

static const tsr_sample samples[] = {
    {"matrix",
     5,
     2,
     {{{2, {3, 7}}}, {{2, {3, 7}}}, {.absent = true}, {{1, {7}}}, {{1, {7}}}},
     call},
    {"gamma", 5, 2, {{{3, {2, 3, 8}}}, {{3, {2, 3, 8}}}, {{1, {8}}}, {{1, {8}}}, {{1, {8}}}}, call},
    {"dropped",
     5,
     2,
     {{{3, {5, 2, 6}}}, {{3, {5, 2, 6}}}, {.absent = true}, {{1, {6}}}, {{1, {6}}}},
     call,
     &(const double){0.4}},
    {"dropped gamma",
     5,
     2,
     {{{3, {5, 2, 6}}}, {{3, {5, 2, 6}}}, {{1, {6}}}, {{1, {6}}}, {{1, {6}}}},
     call,
     &(const double){0.4}},
    {"no weight",
     5,
     2,
     {{{2, {3, 5}}}, {{2, {3, 5}}}, {.absent = true}, {.absent = true}, {{1, {5}}}},
     call},
    {"one row", 5, 2, {{{1, {6}}}, {{1, {6}}}, {{1, {6}}}, {{1, {6}}}, {.absent = true}}, call},
    {"no rows", 5, 2, {{{2, {0, 5}}}, {{2, {0, 5}}}, {{1, {5}}}, {{1, {5}}}, {{1, {5}}}}, call},
};
TSR_SAMPLES_BF16(residual_layer_norm, samples);
