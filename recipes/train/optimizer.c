/*
 * AdamW, SGD, LARS and clipping. All parameters are cut into chunks of fixed size; a call is one loop over the chunks of all
 * parameters, so that many small ones cost one start of the threads and large ones are shared. Norms are sums of the
 * chunks' sums, in order.
 */
#include "recipes/train/optimizer.h"

#include "autograd/loop.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CHUNK = 16384 };

/* What the kernels read, rounded to the parameter's type where they use it. */
typedef struct constants {
    double lr;           /* SGD, LARS; for ADAMW l / (1 - beta1^t) */
    double keep;         /* ADAMW: 1 - l w */
    double beta1, beta2; /* ADAMW */
    double eps;          /* ADAMW */
    double correction;   /* ADAMW: sqrt(1 - beta2^t) */
    double decay;        /* SGD, LARS: w */
    double momentum;     /* SGD, LARS */
    double clip;         /* of the gradient */
    double factor;       /* SGD, LARS: of the clipped gradient with its decay */
} constants;

typedef struct parameter {
    tsr_tensor *tensor, *first, *second, *step; /* exp_avg or momentum; exp_avg_sq; step */
    tsr_tensor *average;                        /* NULL: none */
    bool decays, f64;
    double lr_scale;
    double clip;      /* of its gradient at the next step */
    int64_t n, chunk; /* elements; its first chunk */
    /* Of the call that runs: */
    tsr_tensor *grad;        /* contiguous; NULL: skipped */
    void *p, *m, *v, *g, *a; /* a: NULL where nothing is averaged */
    constants c;
} parameter;

typedef struct chunk {
    int parameter;
    int64_t start, n; /* elements */
} chunk;

struct tsr_optimizer {
    tsr_optimizer_options options;
    parameter *parameters;
    int n;
    chunk *chunks;
    double *sums; /* two a chunk */
    int64_t n_chunks, numel;
    tsr_named_tensor *state;
    int64_t n_state;
};

/* ---- the kernels, on one chunk ---- */

#define KERNELS(T, SQRT)                                                                           \
    static void adamw_##T(const constants *c, T *restrict p, T *restrict m, T *restrict v,         \
                          const T *restrict g, int64_t n)                                          \
    {                                                                                              \
        const T keep = (T)c->keep, w1 = (T)(1.0 - c->beta1), w2 = (T)(1.0 - c->beta2);             \
        const T beta2 = (T)c->beta2, eps = (T)c->eps, correction = (T)c->correction;               \
        const T lr = (T)c->lr, clip = (T)c->clip;                                                  \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const T gi = g[i] * clip;                                                              \
            const T mi = m[i] + w1 * (gi - m[i]);                                                  \
            const T vi = v[i] * beta2 + w2 * gi * gi;                                              \
            m[i] = mi;                                                                             \
            v[i] = vi;                                                                             \
            p[i] = p[i] * keep - lr * mi / (SQRT(vi) / correction + eps);                          \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    static void sgd_##T(const constants *c, T *restrict p, T *restrict m, const T *restrict g,     \
                        int64_t n)                                                                 \
    {                                                                                              \
        const T decay = (T)c->decay, factor = (T)c->factor, momentum = (T)c->momentum;             \
        const T lr = (T)c->lr, clip = (T)c->clip;                                                  \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const T mi = m[i] * momentum + (g[i] * clip + decay * p[i]) * factor;                  \
            m[i] = mi;                                                                             \
            p[i] = p[i] - lr * mi;                                                                 \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    /* PyTorch's a.mul_(m).add_((1 - m) * p): each factor rounded to the type first. */            \
    static void average_##T(double momentum, T *restrict a, const T *restrict p, int64_t n)        \
    {                                                                                              \
        const T keep = (T)momentum, rest = (T)(1.0 - momentum);                                    \
        for (int64_t i = 0; i < n; i++) a[i] = a[i] * keep + rest * p[i];                          \
    }                                                                                              \
                                                                                                   \
    /* Sums of squares of clip g + decay p and of p (p NULL: of g alone), in eight lanes. */       \
    static void squares_##T(const constants *c, const T *p, const T *g, int64_t n, double sums[2]) \
    {                                                                                              \
        double d[8] = {0}, q[8] = {0};                                                             \
        const T w = (T)c->decay, clip = (T)c->clip;                                                \
        const int64_t whole = n - n % 8;                                                           \
        if (p == NULL) {                                                                           \
            for (int64_t i = 0; i < whole; i += 8) {                                               \
                for (int k = 0; k < 8; k++) d[k] += (double)g[i + k] * (double)g[i + k];           \
            }                                                                                      \
            for (int64_t i = whole; i < n; i++) d[i - whole] += (double)g[i] * (double)g[i];       \
        } else {                                                                                   \
            for (int64_t i = 0; i < n; i++) {                                                      \
                const double x = (double)p[i], y = (double)(g[i] * clip + w * p[i]);               \
                q[i % 8] += x * x;                                                                 \
                d[i % 8] += y * y;                                                                 \
            }                                                                                      \
        }                                                                                          \
        sums[0] = ((d[0] + d[4]) + (d[1] + d[5])) + ((d[2] + d[6]) + (d[3] + d[7]));               \
        sums[1] = ((q[0] + q[4]) + (q[1] + q[5])) + ((q[2] + q[6]) + (q[3] + q[7]));               \
    }

KERNELS(float, sqrtf)
KERNELS(double, sqrt)

/* ---- making and freeing ---- */

static bool valid_options(const tsr_optimizer_options *o)
{
    bool ok = o->beta1 > 0.0 && o->beta1 < 1.0 && o->beta2 > 0.0 && o->beta2 < 1.0;
    if (!ok) {
        tsr_fail(TSR_STATUS_ARGUMENT, "optimizer: betas are %g and %g, expected them in (0, 1)",
                 o->beta1, o->beta2);
    } else if (!(o->momentum > 0.0 && o->momentum < 1.0)) {
        tsr_fail(TSR_STATUS_ARGUMENT, "optimizer: momentum is %g, expected it in (0, 1)",
                 o->momentum);
    } else if (!(o->eps > 0.0 && o->eta > 0.0)) {
        tsr_fail(TSR_STATUS_ARGUMENT, "optimizer: eps is %g and eta %g, expected positive numbers",
                 o->eps, o->eta);
    } else if (o->kind < TSR_OPTIMIZER_ADAMW || o->kind > TSR_OPTIMIZER_LARS) {
        tsr_fail(TSR_STATUS_ARGUMENT, "optimizer: there is no kind %d", (int)o->kind);
    } else {
        return true;
    }
    return false;
}

static bool valid_parameter(const tsr_optimizer_parameter *all, int i)
{
    const tsr_optimizer_parameter *p = &all[i];
    if (p->name == NULL || p->name[0] == '\0') {
        tsr_fail(TSR_STATUS_ARGUMENT, "optimizer: parameter %d has no name", i);
        return false;
    }
    if (p->tensor == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "optimizer: parameter %s is NULL", p->name);
        return false;
    }
    tsr_dtype dtype = tsr_tensor_dtype(p->tensor);
    if (dtype != TSR_DTYPE_F32 && dtype != TSR_DTYPE_F64) {
        tsr_fail(TSR_STATUS_DTYPE, "optimizer: parameter %s is %s, expected f32 or f64", p->name,
                 tsr_dtype_name(dtype));
        return false;
    }
    if (!tsr_tensor_is_contiguous(p->tensor)) {
        tsr_fail(TSR_STATUS_ARGUMENT, "optimizer: parameter %s is a view, not contiguous", p->name);
        return false;
    }
    if (p->average != NULL &&
        (tsr_tensor_dtype(p->average) != dtype || !tsr_tensor_is_contiguous(p->average) ||
         !tsr_shape_equal(tsr_tensor_shape(p->average), tsr_tensor_shape(p->tensor)))) {
        char a[TSR_SHAPE_TEXT], b[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "optimizer: the average of %s is %s %s, expected %s %s, contiguous", p->name,
                 tsr_dtype_name(tsr_tensor_dtype(p->average)),
                 tsr_shape_text(tsr_tensor_shape(p->average), a), tsr_dtype_name(dtype),
                 tsr_shape_text(tsr_tensor_shape(p->tensor), b));
        return false;
    }
    if (!(p->lr_scale >= 0.0 && isfinite(p->lr_scale))) {
        tsr_fail(TSR_STATUS_ARGUMENT, "optimizer: parameter %s has lr_scale %g", p->name,
                 p->lr_scale);
        return false;
    }
    for (int k = 0; k < i; k++) {
        if (strcmp(all[k].name, p->name) == 0) {
            tsr_fail(TSR_STATUS_ARGUMENT, "optimizer: two parameters are named %s", p->name);
            return false;
        }
        if (all[k].tensor == p->tensor) {
            tsr_fail(TSR_STATUS_ARGUMENT, "optimizer: %s and %s are the same tensor", all[k].name,
                     p->name);
            return false;
        }
    }
    return true;
}

static void *zeroed(size_t count, size_t size)
{
    void *p = tsr_alloc(count > 0 ? count * size : size);
    if (p != NULL) memset(p, 0, count > 0 ? count * size : size);
    return p;
}

/* Adds a state tensor "kind/name" of zeros and returns it, held. */
static tsr_tensor *add_state(tsr_optimizer *o, const char *kind, const char *name, tsr_dtype dtype,
                             tsr_shape shape)
{
    size_t bytes = strlen(kind) + strlen(name) + 2;
    char *full = tsr_alloc(bytes);
    tsr_tensor *t = tsr_tensor_hold(tsr_zeros(dtype, shape));
    if (full == NULL || t == NULL) {
        tsr_free(full);
        tsr_tensor_release(&t);
        return NULL;
    }
    snprintf(full, bytes, "%s/%s", kind, name);
    o->state[o->n_state++] = (tsr_named_tensor){full, t};
    return t;
}

static bool add_parameter(tsr_optimizer *o, const tsr_optimizer_parameter *from)
{
    parameter *p = &o->parameters[o->n++];
    p->tensor = tsr_tensor_hold(from->tensor);
    p->average = from->average != NULL ? tsr_tensor_hold(from->average) : NULL;
    p->clip = 1.0;
    p->decays = from->decays;
    p->lr_scale = from->lr_scale == 0.0 ? 1.0 : from->lr_scale;
    p->n = tsr_tensor_numel(p->tensor);
    p->chunk = o->n_chunks;
    o->n_chunks += (p->n + CHUNK - 1) / CHUNK;
    o->numel += p->n;
    tsr_dtype dtype = tsr_tensor_dtype(p->tensor);
    tsr_shape shape = tsr_tensor_shape(p->tensor);
    p->f64 = dtype == TSR_DTYPE_F64;
    if (o->options.kind != TSR_OPTIMIZER_ADAMW) {
        p->first = add_state(o, "momentum", from->name, dtype, shape);
        return p->first != NULL;
    }
    p->first = add_state(o, "exp_avg", from->name, dtype, shape);
    p->second = add_state(o, "exp_avg_sq", from->name, dtype, shape);
    p->step = add_state(o, "step", from->name, TSR_DTYPE_I64, TSR_SHAPE_SCALAR);
    return p->first != NULL && p->second != NULL && p->step != NULL;
}

static bool add_chunks(tsr_optimizer *o)
{
    o->chunks = zeroed((size_t)o->n_chunks, sizeof *o->chunks);
    o->sums = zeroed((size_t)o->n_chunks, 2 * sizeof *o->sums);
    if (o->chunks == NULL || o->sums == NULL) return false;
    chunk *next = o->chunks;
    for (int k = 0; k < o->n; k++) {
        int64_t n = o->parameters[k].n;
        for (int64_t start = 0; start < n; start += CHUNK) {
            *next++ = (chunk){k, start, n - start < CHUNK ? n - start : CHUNK};
        }
    }
    return true;
}

tsr_optimizer *tsr_optimizer_make(const tsr_optimizer_parameter *parameters, int n,
                                  const tsr_optimizer_options *options)
{
    tsr_optimizer_options filled = options != NULL ? *options : (tsr_optimizer_options){0};
    if (filled.beta1 == 0.0) filled.beta1 = 0.9;
    if (filled.beta2 == 0.0) filled.beta2 = 0.999;
    if (filled.eps == 0.0) filled.eps = 1e-8;
    if (filled.momentum == 0.0) filled.momentum = 0.9;
    if (filled.eta == 0.0) filled.eta = 0.001;
    if (!valid_options(&filled)) return NULL;
    if (n < 0 || (n > 0 && parameters == NULL)) {
        tsr_fail(TSR_STATUS_ARGUMENT, "optimizer: %d parameters at %s", n,
                 parameters == NULL ? "NULL" : "an address");
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        if (!valid_parameter(parameters, i)) return NULL;
    }
    tsr_optimizer *o = zeroed(1, sizeof *o);
    if (o == NULL) return NULL;
    o->options = filled;
    o->parameters = zeroed((size_t)n, sizeof *o->parameters);
    o->state = zeroed((size_t)n, 3 * sizeof *o->state);
    bool ok = o->parameters != NULL && o->state != NULL;
    tsr_scope scope = tsr_scope_open();
    for (int i = 0; ok && i < n; i++) ok = add_parameter(o, &parameters[i]);
    ok = ok && add_chunks(o);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    if (!ok) tsr_optimizer_free(&o);
    return o;
}

void tsr_optimizer_free(tsr_optimizer **optimizer)
{
    if (optimizer == NULL || *optimizer == NULL) return;
    tsr_optimizer *o = *optimizer;
    for (int64_t i = 0; i < o->n_state; i++) {
        tsr_free((void *)o->state[i].name);
        tsr_tensor_release(&o->state[i].tensor);
    }
    for (int i = 0; i < o->n; i++) {
        tsr_tensor_release(&o->parameters[i].tensor);
        tsr_tensor_release(&o->parameters[i].average);
    }
    tsr_free(o->state);
    tsr_free(o->parameters);
    tsr_free(o->chunks);
    tsr_free(o->sums);
    tsr_free(o);
    *optimizer = NULL;
}

const tsr_named_tensor *tsr_optimizer_state(const tsr_optimizer *o, int64_t *n)
{
    *n = o->n_state;
    return o->state;
}

tsr_status tsr_optimizer_zero_grad(tsr_optimizer *o)
{
    for (int i = 0; i < o->n; i++) {
        tsr_tensor_set_grad(o->parameters[i].tensor, NULL);
        o->parameters[i].clip = 1.0;
    }
    return tsr_status_get();
}

/* ---- a call over all chunks ---- */

/* Looks up the gradients: packed copies, in the innermost scope, of those that are views. */
static bool find_gradients(tsr_optimizer *o)
{
    for (int k = 0; k < o->n; k++) {
        parameter *p = &o->parameters[k];
        p->grad = tsr_tensor_grad(p->tensor);
        if (p->grad == NULL) continue;
        p->grad = tsr_tensor_packed(p->grad);
        if (p->grad == NULL) return false;
        p->g = (void *)tsr_tensor_data(p->grad);
    }
    return true;
}

/* The sums of squares of the chunks of all gradients. LARS: of g + decay p, and of p. */
static void sum_squares(tsr_optimizer *o, bool lars)
{
#pragma omp parallel for schedule(static) num_threads(tsr_loop__threads(o->numel))
    for (int64_t i = 0; i < o->n_chunks; i++) {
        const chunk *c = &o->chunks[i];
        const parameter *p = &o->parameters[c->parameter];
        if (p->grad == NULL) continue;
        if (p->f64) {
            squares_double(&p->c, lars ? (double *)p->p + c->start : NULL,
                           (double *)p->g + c->start, c->n, o->sums + 2 * i);
        } else {
            squares_float(&p->c, lars ? (float *)p->p + c->start : NULL, (float *)p->g + c->start,
                          c->n, o->sums + 2 * i);
        }
    }
}

static void total(const tsr_optimizer *o, const parameter *p, double sums[2])
{
    sums[0] = sums[1] = 0.0;
    for (int64_t i = p->chunk; i < p->chunk + (p->n + CHUNK - 1) / CHUNK; i++) {
        sums[0] += o->sums[2 * i];
        sums[1] += o->sums[2 * i + 1];
    }
}

static void prepare(const tsr_optimizer *o, parameter *p, double lr, double weight_decay)
{
    const tsr_optimizer_options *options = &o->options;
    constants *c = &p->c;
    lr *= p->lr_scale;
    if (!p->decays) weight_decay = 0.0;
    p->p = tsr_tensor_data_mut(p->tensor);
    p->m = tsr_tensor_data_mut(p->first);
    if (options->kind == TSR_OPTIMIZER_ADAMW) {
        p->v = tsr_tensor_data_mut(p->second);
        int64_t *step = tsr_tensor_data_mut(p->step);
        *step += 1;
        *c = (constants){
            .lr = lr / (1.0 - pow(options->beta1, (double)*step)),
            .keep = 1.0 - lr * weight_decay,
            .beta1 = options->beta1,
            .beta2 = options->beta2,
            .eps = options->eps,
            .correction = sqrt(1.0 - pow(options->beta2, (double)*step)),
            .clip = p->clip,
        };
    } else {
        bool line = options->kind == TSR_OPTIMIZER_LARS && tsr_tensor_ndim(p->tensor) == 1;
        *c = (constants){
            .lr = lr,
            .decay = line ? 0.0 : weight_decay,
            .momentum = options->momentum,
            .clip = p->clip,
            .factor = 1.0,
        };
    }
}

static void set_trust(tsr_optimizer *o)
{
    sum_squares(o, true);
    for (int k = 0; k < o->n; k++) {
        parameter *p = &o->parameters[k];
        if (p->grad == NULL || tsr_tensor_ndim(p->tensor) == 1) continue;
        double sums[2];
        total(o, p, sums);
        if (sums[0] > 0.0 && sums[1] > 0.0) {
            p->c.factor = o->options.eta * sqrt(sums[1]) / sqrt(sums[0]);
        }
    }
}

/* The step of a chunk. */
static void update(const tsr_optimizer *o, const parameter *p, int64_t at, int64_t n)
{
    bool adamw = o->options.kind == TSR_OPTIMIZER_ADAMW;
    if (p->f64 && adamw) {
        adamw_double(&p->c, (double *)p->p + at, (double *)p->m + at, (double *)p->v + at,
                     (double *)p->g + at, n);
    } else if (p->f64) {
        sgd_double(&p->c, (double *)p->p + at, (double *)p->m + at, (double *)p->g + at, n);
    } else if (adamw) {
        adamw_float(&p->c, (float *)p->p + at, (float *)p->m + at, (float *)p->v + at,
                    (float *)p->g + at, n);
    } else {
        sgd_float(&p->c, (float *)p->p + at, (float *)p->m + at, (float *)p->g + at, n);
    }
}

/* A chunk is averaged while the cache still holds it. */
static void update_all(const tsr_optimizer *o, double momentum)
{
#pragma omp parallel for schedule(static) num_threads(tsr_loop__threads(o->numel))
    for (int64_t i = 0; i < o->n_chunks; i++) {
        const chunk *c = &o->chunks[i];
        const parameter *p = &o->parameters[c->parameter];
        int64_t at = c->start;
        if (p->grad != NULL) update(o, p, at, c->n);
        if (p->a == NULL) continue;
        if (p->f64) {
            average_double(momentum, (double *)p->a + at, (double *)p->p + at, c->n);
        } else {
            average_float(momentum, (float *)p->a + at, (float *)p->p + at, c->n);
        }
    }
}

/* average: go on with the averages too. */
static tsr_status step(tsr_optimizer *o, double lr, double weight_decay, bool average,
                       double momentum)
{
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    if (!(lr >= 0.0 && isfinite(lr) && weight_decay >= 0.0 && isfinite(weight_decay))) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "optimizer_step: lr is %g and weight_decay %g, expected finite numbers, "
                        "not negative",
                        lr, weight_decay);
    }
    if (!(momentum >= 0.0 && momentum <= 1.0)) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "optimizer_step: momentum is %g, expected 0 to 1",
                        momentum);
    }
    tsr_scope scope = tsr_scope_open();
    if (find_gradients(o)) {
        for (int k = 0; k < o->n; k++) {
            parameter *p = &o->parameters[k];
            bool averages = average && p->average != NULL;
            if (p->grad != NULL) {
                prepare(o, p, lr, weight_decay);
            } else if (averages) {
                p->p = (void *)tsr_tensor_data(p->tensor);
            }
            p->a = averages ? tsr_tensor_data_mut(p->average) : NULL;
            p->clip = 1.0;
        }
        if (o->options.kind == TSR_OPTIMIZER_LARS) set_trust(o);
        update_all(o, momentum);
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_status_get();
}

tsr_status tsr_optimizer_step(tsr_optimizer *o, double lr, double weight_decay)
{
    return step(o, lr, weight_decay, false, 1.0);
}

tsr_status tsr_optimizer_step_average(tsr_optimizer *o, double lr, double weight_decay,
                                      double momentum)
{
    return step(o, lr, weight_decay, true, momentum);
}

/* ---- clipping ---- */

static double coefficient(double max_norm, double norm)
{
    double c = max_norm / (norm + 1e-6);
    return c < 1.0 || isnan(c) ? c : 1.0;
}

tsr_status tsr_optimizer_clip(tsr_optimizer *o, tsr_clip mode, double max_norm,
                              tsr_gradient_norms *norms)
{
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    if (mode != TSR_CLIP_NONE && !(max_norm > 0.0)) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "optimizer_clip: max_norm is %g, expected a positive number", max_norm);
    }
    tsr_scope scope = tsr_scope_open();
    if (find_gradients(o)) {
        tsr_gradient_norms found = {0};
        for (int k = 0; k < o->n; k++) o->parameters[k].c = (constants){0};
        sum_squares(o, false);
        for (int k = 0; k < o->n; k++) {
            parameter *p = &o->parameters[k];
            if (p->grad == NULL) continue;
            double sums[2];
            total(o, p, sums);
            found.global += sums[0];
            found.sum += sqrt(sums[0]);
            p->clip = mode == TSR_CLIP_EACH ? coefficient(max_norm, sqrt(sums[0])) : 1.0;
        }
        found.global = sqrt(found.global);
        if (mode == TSR_CLIP_GLOBAL) {
            double c = coefficient(max_norm, found.global);
            for (int k = 0; k < o->n; k++) o->parameters[k].clip = c;
        }
        if (norms != NULL) *norms = found;
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_status_get();
}
