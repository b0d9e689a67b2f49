/* k-means over whitened rows; see the header. */
#include "recipes/kmeans.h"

#include "autograd/loop.h"
#include "ops/gemm.h"
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- what is used after training too ---- */

tsr_tensor *tsr_kmeans__whiten(tsr_tensor *rows, tsr_tensor *mean, tsr_tensor *whitening)
{
    return tsr_linear(tsr_sub(rows, mean), whitening, NULL);
}

/* |y - c|^2 is smallest where y c - |c|^2 / 2 is largest. */
tsr_tensor *tsr_kmeans__assign(tsr_tensor *whitened, tsr_tensor *centers)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *square = tsr_sum(tsr_mul(centers, centers), (const int[]){1}, 1, false);
    tsr_tensor *score = tsr_linear(whitened, centers, tsr_affine(square, -0.5, 0.0));
    return tsr_scope_return(&scope, tsr_argmax(score, 1, false));
}

/* ---- training ---- */

struct training {
    const tsr_kmeans_source *source;
    tsr_kmeans_options o;
    int64_t d, k, n;                        /* n: rows in all */
    tsr_tensor *sum, *moments;              /* f64 [D], [D, D]: of x and x x^T */
    tsr_tensor *mean, *whitening, *centers; /* f32 */
    /* The sample that centres start from, whitened, a column a row: [D, M]. */
    tsr_tensor *sample;
    int64_t m, seen, taken;
    double *apart; /* [M]: squared distance to the nearest centre */
    tsr_rng rng;
    /* Of one iteration. */
    double *sums; /* [K, D] */
    int64_t *counts;
};

static tsr_status visit_moments(tsr_tensor *rows, void *user)
{
    struct training *t = user;
    tsr_scope scope = tsr_scope_open();
    int64_t r = tsr_tensor_size(rows, 0), d = t->d;
    tsr_tensor *x = tsr_tensor_packed(tsr_cast(rows, TSR_DTYPE_F64));
    double *sum = tsr_tensor_data_mut(t->sum);
    const double *at = tsr_tensor_data(x);
    for (int64_t i = 0; at != NULL && sum != NULL && i < r; i++) {
        for (int64_t j = 0; j < d; j++) sum[j] += at[i * d + j];
    }
    if (x != NULL) {
        void *data = tsr_tensor_data_mut(x);
        tsr__gemm(TSR_DTYPE_F64, d, d, r, (tsr_matrix){data, 1, d}, (tsr_matrix){data, d, 1}, 1.0,
                  (tsr_matrix){tsr_tensor_data_mut(t->moments), d, 1});
    }
    t->n += r;
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_status_get();
}

/* a [D, D], symmetric and positive, becomes L with a = L L^T (its lower half; the rest is left). */
static void cholesky(double *a, int64_t d)
{
    for (int64_t j = 0; j < d; j++) {
        for (int64_t k = 0; k < j; k++) a[j * d + j] -= a[j * d + k] * a[j * d + k];
        a[j * d + j] = sqrt(a[j * d + j]);
        for (int64_t i = j + 1; i < d; i++) {
            double s = a[i * d + j];
            for (int64_t k = 0; k < j; k++) s -= a[i * d + k] * a[j * d + k];
            a[i * d + j] = s / a[j * d + j];
        }
    }
}

/* w = L^-1: row i of it from the rows above. */
static void invert_lower(const double *l, int64_t d, double *w)
{
    memset(w, 0, (size_t)(d * d) * sizeof *w);
    for (int64_t i = 0; i < d; i++) {
        w[i * d + i] = 1.0;
        for (int64_t k = 0; k < i; k++) {
            for (int64_t j = 0; j <= k; j++) w[i * d + j] -= l[i * d + k] * w[k * d + j];
        }
        for (int64_t j = 0; j <= i; j++) w[i * d + j] /= l[i * d + i];
    }
}

/* Mean and whitening, by a walk. */
static tsr_status learn_whitening(struct training *t)
{
    int64_t d = t->d;
    t->sum = tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(d));
    t->moments = tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(d, d));
    tsr_tensor *inverse = tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(d, d));
    if (inverse == NULL || t->source->walk(t->source, visit_moments, t) != TSR_STATUS_OK) {
        return tsr_status_get();
    }
    if (t->n < t->k) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "k-means: %" PRId64 " patches for %" PRId64 " tokens; lower --tokens, or "
                        "give more images",
                        t->n, t->k);
    }
    double *mean = tsr_tensor_data_mut(t->sum), *a = tsr_tensor_data_mut(t->moments);
    double variance = 0.0;
    for (int64_t j = 0; j < d; j++) mean[j] /= (double)t->n;
    for (int64_t i = 0; i < d; i++) {
        for (int64_t j = 0; j < d; j++)
            a[i * d + j] = a[i * d + j] / (double)t->n - mean[i] * mean[j];
        variance += a[i * d + i] / (double)d;
    }
    if (!(variance > 1e-12)) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "k-means: all patches of the images are equal");
    }
    for (int64_t i = 0; i < d; i++) a[i * d + i] += t->o.whitening * variance;
    cholesky(a, d);
    invert_lower(a, d, tsr_tensor_data_mut(inverse));
    if (!tsr_tensor_is_finite(inverse)) {
        return tsr_fail(TSR_STATUS_NUMERIC,
                        "k-means: the patches' covariance cannot be inverted; raise --whitening");
    }
    t->mean = tsr_cast(t->sum, TSR_DTYPE_F32);
    t->whitening = tsr_cast(inverse, TSR_DTYPE_F32);
    return tsr_status_get();
}

/* ---- where centres begin ---- */

/* Selection sampling (Knuth, 3.4.2, algorithm S): M of the n rows, each set of them equally likely. */
static tsr_status visit_sample(tsr_tensor *rows, void *user)
{
    struct training *t = user;
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *x = tsr_tensor_packed(tsr_kmeans__whiten(rows, t->mean, t->whitening));
    const float *at = tsr_tensor_data(x);
    float *out = tsr_tensor_data_mut(t->sample);
    for (int64_t i = 0; at != NULL && out != NULL && i < tsr_tensor_size(rows, 0); i++) {
        if (t->seen == t->n) {
            tsr_fail(TSR_STATUS_STATE, "k-means: a walk gave more rows than the first one");
            break;
        }
        if (tsr_rng_below(&t->rng, t->n - t->seen++) >= t->m - t->taken) continue;
        for (int64_t j = 0; j < t->d; j++) out[j * t->m + t->taken] = at[i * t->d + j];
        t->taken++;
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_status_get();
}

enum { PART = 2048 };

/* apart of one part of the sample becomes what the new centre leaves of it. */
static void measure_part(const struct training *t, const float *center, int64_t part)
{
    const float *sample = tsr_tensor_data(t->sample);
    int64_t first = part * PART, n = t->m - first < PART ? t->m - first : PART;
    float square[PART] = {0};
    for (int64_t j = 0; j < t->d; j++) {
        const float *x = sample + j * t->m + first;
        float c = center[j];
        for (int64_t i = 0; i < n; i++) square[i] += (x[i] - c) * (x[i] - c);
    }
    for (int64_t i = 0; i < n; i++) {
        t->apart[first + i] = fmin(t->apart[first + i], (double)square[i]);
    }
}

static void measure(const struct training *t, const float *center)
{
    int64_t parts = (t->m + PART - 1) / PART, work = t->m * t->d;
    TSR_PARALLEL_FOR(part, parts, work, measure_part(t, center, part));
}

/* k-means++: row i of the sample with probability apart[i] / sum of apart; -1 when all are centres. */
static int64_t draw_far(struct training *t)
{
    double total = 0.0, below = 0.0;
    for (int64_t i = 0; i < t->m; i++) total += t->apart[i];
    double at = tsr_rng_uniform(&t->rng) * total;
    int64_t last = -1;
    for (int64_t i = 0; i < t->m; i++) {
        if (t->apart[i] == 0.0) continue;
        last = i;
        below += t->apart[i];
        if (below > at) break;
    }
    return last;
}

/* Centre c becomes row i of the sample. */
static void start_center(struct training *t, int64_t c, int64_t i)
{
    const float *sample = tsr_tensor_data(t->sample);
    float *center = (float *)tsr_tensor_data_mut(t->centers) + c * t->d;
    for (int64_t j = 0; j < t->d; j++) center[j] = sample[j * t->m + i];
    measure(t, center);
}

static tsr_status start_centers(struct training *t)
{
    if (t->source->walk(t->source, visit_sample, t) != TSR_STATUS_OK) return tsr_status_get();
    if (t->taken != t->m) {
        return tsr_fail(TSR_STATUS_STATE, "k-means: a walk gave fewer rows than the first one");
    }
    for (int64_t i = 0; i < t->m; i++) t->apart[i] = INFINITY;
    start_center(t, 0, tsr_rng_below(&t->rng, t->m));
    for (int64_t c = 1; c < t->k; c++) {
        int64_t i = draw_far(t);
        if (i < 0) {
            return tsr_fail(TSR_STATUS_ARGUMENT,
                            "k-means: of %" PRId64 " patches looked at only %" PRId64
                            " differ; lower --tokens to that",
                            t->m, c);
        }
        start_center(t, c, i);
    }
    return TSR_STATUS_OK;
}

/* ---- Lloyd's iterations ---- */

static tsr_status visit_assign(tsr_tensor *rows, void *user)
{
    struct training *t = user;
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *x = tsr_tensor_packed(tsr_kmeans__whiten(rows, t->mean, t->whitening));
    tsr_tensor *nearest = tsr_kmeans__assign(x, t->centers);
    const float *at = tsr_tensor_data(x);
    const int64_t *c = tsr_tensor_data(nearest);
    for (int64_t i = 0; at != NULL && c != NULL && i < tsr_tensor_size(rows, 0); i++) {
        double *sum = t->sums + c[i] * t->d;
        for (int64_t j = 0; j < t->d; j++) sum[j] += (double)at[i * t->d + j];
        t->counts[c[i]]++;
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_status_get();
}

/* Centres without rows begin again, drawn as at the start from what is far from all others. */
static void start_empty(struct training *t, int64_t empty)
{
    const float *center = tsr_tensor_data(t->centers);
    if (empty == 0) return;
    for (int64_t i = 0; i < t->m; i++) t->apart[i] = INFINITY;
    for (int64_t c = 0; c < t->k; c++) {
        if (t->counts[c] > 0) measure(t, center + c * t->d);
    }
    for (int64_t c = 0; c < t->k; c++) {
        int64_t i = t->counts[c] > 0 ? -1 : draw_far(t);
        if (i >= 0) start_center(t, c, i);
    }
}

/* True when a centre moved. */
static bool iterate(struct training *t)
{
    memset(t->sums, 0, (size_t)(t->k * t->d) * sizeof *t->sums);
    memset(t->counts, 0, (size_t)t->k * sizeof *t->counts);
    if (t->source->walk(t->source, visit_assign, t) != TSR_STATUS_OK) return false;
    float *center = tsr_tensor_data_mut(t->centers);
    bool moved = false;
    int64_t empty = 0;
    for (int64_t c = 0; c < t->k; c++) {
        empty += t->counts[c] == 0;
        for (int64_t j = 0; j < t->d && t->counts[c] > 0; j++) {
            float x = (float)(t->sums[c * t->d + j] / (double)t->counts[c]);
            moved |= x != center[c * t->d + j];
            center[c * t->d + j] = x;
        }
    }
    start_empty(t, empty);
    return moved || empty > 0;
}

static tsr_status train(struct training *t)
{
    if (learn_whitening(t) != TSR_STATUS_OK) return tsr_status_get();
    t->m = 4 * t->k > 16384 ? 4 * t->k : 16384;
    if (t->m > t->n) t->m = t->n;
    t->sample = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(t->d, t->m));
    t->apart = tsr_alloc((size_t)t->m * sizeof *t->apart);
    t->sums = tsr_alloc((size_t)(t->k * t->d) * sizeof *t->sums);
    t->counts = tsr_alloc((size_t)t->k * sizeof *t->counts);
    t->centers = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(t->k, t->d));
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    if (start_centers(t) != TSR_STATUS_OK) return tsr_status_get();
    for (int64_t i = 0; i < t->o.iterations && iterate(t); i++) {}
    return tsr_status_get();
}

tsr_status tsr_kmeans__train(const tsr_kmeans_source *source, const tsr_kmeans_options *options,
                             tsr_tensor *mean, tsr_tensor *whitening, tsr_tensor *centers)
{
    struct training t = {.source = source,
                         .o = *options,
                         .k = tsr_tensor_size(centers, 0),
                         .d = tsr_tensor_size(centers, 1),
                         .rng = tsr_rng_make(options->seed, 0, 0, tsr_rng_purpose("k-means"))};
    bool was = tsr_recording_set(false);
    tsr_scope scope = tsr_scope_open();
    if (train(&t) == TSR_STATUS_OK) {
        tsr_tensor_copy(mean, t.mean);
        tsr_tensor_copy(whitening, t.whitening);
        tsr_tensor_copy(centers, t.centers);
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    tsr_recording_set(was);
    tsr_free(t.apart);
    tsr_free(t.sums);
    tsr_free(t.counts);
    return tsr_status_get();
}
