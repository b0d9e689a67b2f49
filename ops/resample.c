/* Sparse products along the columns and the rows of images. Planes are shared among threads, none is split. */
#include "ops/resample.h"
#include "autograd/loop.h"
#include "ops/ops.h"

#include <omp.h>
#include <string.h>

bool tsr_taps__open(int64_t in, int64_t out, int64_t most, tsr_taps *taps)
{
    *taps = (tsr_taps){.in = in, .out = out, .most = most};
    size_t n = (size_t)out, weights = n * (size_t)most;
    size_t bytes = weights * sizeof(double) + 2 * n * sizeof(int64_t);
    taps->weight = tsr_alloc(bytes);
    if (taps->weight == NULL) return false;
    memset(taps->weight, 0, bytes);
    taps->first = (int64_t *)(void *)(taps->weight + weights);
    taps->count = taps->first + n;
    return true;
}

void tsr_taps__add(tsr_taps *taps, int64_t i, int64_t j, double weight)
{
    if (taps->count[i] == 0) taps->first[i] = j;
    if (j - taps->first[i] >= taps->count[i]) taps->count[i] = j - taps->first[i] + 1;
    taps->weight[i * taps->most + j - taps->first[i]] += weight;
}

static bool make_both(tsr_taps_maker *make, const void *block, tsr_taps taps[2])
{
    if (!make(block, 0, &taps[0])) return false;
    if (make(block, 1, &taps[1])) return true;
    tsr_free(taps[0].weight);
    return false;
}

static void close_both(tsr_taps taps[2])
{
    tsr_free(taps[0].weight);
    tsr_free(taps[1].weight);
}

/*
 * static void apply(...): y [OH, OW] = R x C^T of x [H, W], through between [H, OW]; static void transpose(...): x = R^T y
 * C. The columns' weights are gathered one by one; along the rows, whole rows are scaled and added.
 */
#define PLANE_LOOPS(T, apply, transpose)                                                           \
    static void apply(const tsr_taps *r, const tsr_taps *c, const T *x, T *between, T *y)          \
    {                                                                                              \
        int64_t w = c->in, ow = c->out;                                                            \
        for (int64_t i = 0; i < r->in; i++) {                                                      \
            for (int64_t j = 0; j < ow; j++) {                                                     \
                const double *weight = c->weight + j * c->most;                                    \
                const T *from = x + i * w + c->first[j];                                           \
                T sum = 0;                                                                         \
                for (int64_t k = 0; k < c->count[j]; k++) sum += (T)weight[k] * from[k];           \
                between[i * ow + j] = sum;                                                         \
            }                                                                                      \
        }                                                                                          \
        memset(y, 0, (size_t)(r->out * ow) * sizeof *y);                                           \
        for (int64_t i = 0; i < r->out; i++) {                                                     \
            for (int64_t k = 0; k < r->count[i]; k++) {                                            \
                T weight = (T)r->weight[i * r->most + k], *to = y + i * ow;                        \
                const T *from = between + (r->first[i] + k) * ow;                                  \
                for (int64_t j = 0; j < ow; j++) to[j] += weight * from[j];                        \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    static void transpose(const tsr_taps *r, const tsr_taps *c, const T *y, T *between, T *x)      \
    {                                                                                              \
        int64_t w = c->in, ow = c->out;                                                            \
        memset(between, 0, (size_t)(r->in * ow) * sizeof *between);                                \
        for (int64_t i = 0; i < r->out; i++) {                                                     \
            for (int64_t k = 0; k < r->count[i]; k++) {                                            \
                T weight = (T)r->weight[i * r->most + k], *to = between + (r->first[i] + k) * ow;  \
                const T *from = y + i * ow;                                                        \
                for (int64_t j = 0; j < ow; j++) to[j] += weight * from[j];                        \
            }                                                                                      \
        }                                                                                          \
        memset(x, 0, (size_t)(r->in * w) * sizeof *x);                                             \
        for (int64_t i = 0; i < r->in; i++) {                                                      \
            for (int64_t j = 0; j < ow; j++) {                                                     \
                const double *weight = c->weight + j * c->most;                                    \
                T *to = x + i * w + c->first[j], from = between[i * ow + j];                       \
                for (int64_t k = 0; k < c->count[j]; k++) to[k] += (T)weight[k] * from;            \
            }                                                                                      \
        }                                                                                          \
    }

PLANE_LOOPS(float, apply32, transpose32)
PLANE_LOOPS(double, apply64, transpose64)

/* What the planes of a call share. */
typedef struct call {
    const tsr_taps *taps;
    tsr_dtype dtype;
    bool transposed;
    const void *from;
    void *between, *to;
} call;

static void run_plane(const call *s, int64_t plane)
{
    const tsr_taps *r = &s->taps[0], *c = &s->taps[1];
    int64_t in = plane * r->in * c->in, out = plane * r->out * c->out;
    int64_t from = s->transposed ? out : in, to = s->transposed ? in : out;
    int64_t between = omp_get_thread_num() * r->in * c->out;
    if (s->dtype == TSR_DTYPE_F32) {
        (s->transposed ? transpose32 : apply32)(r, c, (const float *)s->from + from,
                                                (float *)s->between + between, (float *)s->to + to);
    } else {
        (s->transposed ? transpose64 : apply64)(r, c, (const double *)s->from + from,
                                                (double *)s->between + between,
                                                (double *)s->to + to);
    }
}

static tsr_tensor *run(tsr_tensor *from, const tsr_taps taps[2], bool transposed)
{
    const tsr_taps *r = &taps[0], *c = &taps[1];
    tsr_dtype dtype = tsr_tensor_dtype(from);
    tsr_shape shape = tsr_tensor_shape(from);
    shape.size[2] = transposed ? r->in : r->out;
    shape.size[3] = transposed ? c->in : c->out;
    int64_t planes = shape.size[0] * shape.size[1];
    int64_t work = planes * (r->in * c->out * c->most + r->out * c->out * r->most);
    size_t between = (size_t)(r->in * c->out) * tsr_dtype_size(dtype);
    tsr_tensor *packed = tsr_tensor_packed(from), *to = tsr_empty(dtype, shape);
    call s = {taps, dtype, transposed, NULL, NULL, NULL};
    s.between = tsr_alloc((size_t)tsr_loop__threads(work) * between + 1);
    if (s.between == NULL || packed == NULL || to == NULL) {
        tsr_free(s.between);
        return NULL;
    }
    s.from = tsr_tensor_data(packed);
    s.to = tsr_tensor_data_mut(to);
    TSR_PARALLEL_FOR(plane, planes, work, run_plane(&s, plane));
    tsr_free(s.between);
    return to;
}

tsr_tensor *tsr_resample__apply(tsr_taps_maker *make, const void *block, tsr_tensor *x)
{
    tsr_taps taps[2];
    if (!make_both(make, block, taps)) return NULL;
    tsr_tensor *y = run(x, taps, false);
    close_both(taps);
    return y;
}

tsr_tensor *tsr_resample__transpose(tsr_taps_maker *make, const void *block, tsr_tensor *dy)
{
    tsr_taps taps[2];
    if (!make_both(make, block, taps)) return NULL;
    tsr_tensor *dx = run(dy, taps, true);
    close_both(taps);
    return dx;
}

/* The matrix [out, in], or its transpose. */
static tsr_tensor *dense(const tsr_taps *taps, tsr_dtype dtype, bool transposed)
{
    tsr_tensor *m = tsr_zeros(dtype, transposed ? TSR_SHAPE(taps->in, taps->out)
                                                : TSR_SHAPE(taps->out, taps->in));
    void *data = tsr_tensor_data_mut(m);
    for (int64_t i = 0; data != NULL && i < taps->out; i++) {
        for (int64_t k = 0; k < taps->count[i]; k++) {
            int64_t j = taps->first[i] + k, at = transposed ? j * taps->out + i : i * taps->in + j;
            double weight = taps->weight[i * taps->most + k];
            if (dtype == TSR_DTYPE_F32) {
                ((float *)data)[at] = (float)weight;
            } else {
                ((double *)data)[at] = weight;
            }
        }
    }
    return m;
}

tsr_tensor *tsr_resample__definition(tsr_taps_maker *make, const void *block, tsr_tensor *x)
{
    tsr_taps taps[2];
    if (!make_both(make, block, taps)) return NULL;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_tensor *rows = dense(&taps[0], dtype, false), *columns = dense(&taps[1], dtype, true);
    close_both(taps);
    return tsr_matmul(tsr_matmul(rows, x), columns);
}
