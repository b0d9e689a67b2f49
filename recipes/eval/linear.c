/*
 * The linear probe: m classifiers, one a learning rate, trained at once. Their weights lie on top of each other, W [m C, D],
 * so that a step is two products: logits = X W^T, and the momentum buffer M <- 0.9 M + (dlogits)^T X, which the product
 * itself adds up. Then W_k <- W_k - rate_k M_k.
 */
#include "recipes/eval/internal.h"
#include "recipes/train/schedule.h"

#include "autograd/loop.h"
#include "ops/gemm.h"

#include <math.h>
#include <string.h>

static const double momentum = 0.9;
enum { COLUMNS = 64 };

typedef struct probe {
    tsr_eval_set train, test;
    int64_t classes, m, columns; /* columns: m * classes */
    int64_t batch, epochs;
    int64_t steps;                          /* taken */
    float *weight, *bias;                   /* [columns, d], [columns] */
    float *weight_momentum, *bias_momentum; /* the same */
    float *x;                               /* [batch, d]: the images of a step */
    int64_t *labels;                        /* [batch] */
    float *logits;                          /* [batch, columns], then their gradients */
    int64_t *order;                         /* [train.n] */
    double *rates;                          /* [m], of a batch of this size */
} probe;

/* ---- one step ---- */

static void gather(probe *p, const float *features, const int64_t *rows, int64_t n)
{
    const int64_t d = p->train.d;
#pragma omp parallel for schedule(static) num_threads(tsr_loop__threads(n *d))
    for (int64_t i = 0; i < n; i++) {
        memcpy(p->x + i * d, features + rows[i] * d, (size_t)d * sizeof *features);
        p->labels[i] = p->train.labels[rows[i]];
    }
}

/* logits [classes], without bias, become d cross_entropy / d logits / n. */
static void differentiate(float *logits, const float *bias, int64_t classes, int64_t label,
                          int64_t n)
{
    float largest = -INFINITY, sum = 0.0f;
    for (int64_t c = 0; c < classes; c++) {
        logits[c] += bias[c];
        largest = fmaxf(largest, logits[c]);
    }
    for (int64_t c = 0; c < classes; c++) {
        logits[c] = expf(logits[c] - largest);
        sum += logits[c];
    }
    const float scale = 1.0f / (sum * (float)n);
    for (int64_t c = 0; c < classes; c++) logits[c] *= scale;
    logits[label] -= 1.0f / (float)n;
}

static void step_bias(probe *p, int64_t n, double lr_scale)
{
    const int64_t blocks = (p->columns + COLUMNS - 1) / COLUMNS;
#pragma omp parallel for schedule(static) num_threads(tsr_loop__threads(n * p->columns))
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t first = b * COLUMNS, left = p->columns - first;
        const int64_t width = left < COLUMNS ? left : COLUMNS;
        float sums[COLUMNS] = {0};
        for (int64_t i = 0; i < n; i++) {
            const float *row = p->logits + i * p->columns + first;
            for (int64_t c = 0; c < width; c++) sums[c] += row[c];
        }
        for (int64_t c = 0; c < width; c++) {
            const int64_t at = first + c;
            p->bias_momentum[at] = (float)momentum * p->bias_momentum[at] + sums[c];
            p->bias[at] -= (float)(p->rates[at / p->classes] * lr_scale) * p->bias_momentum[at];
        }
    }
}

static void step(probe *p, int64_t n, double lr_scale)
{
    const int64_t d = p->train.d;
    tsr__gemm(TSR_DTYPE_F32, n, p->columns, d, (tsr_matrix){p->x, d, 1},
              (tsr_matrix){p->weight, 1, d}, 0.0, (tsr_matrix){p->logits, p->columns, 1});
#pragma omp parallel for schedule(static) num_threads(tsr_loop__threads(n * p->columns))
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < p->m; k++) {
            differentiate(p->logits + i * p->columns + k * p->classes, p->bias + k * p->classes,
                          p->classes, p->labels[i], n);
        }
    }
    tsr__gemm(TSR_DTYPE_F32, p->columns, d, n, (tsr_matrix){p->logits, 1, p->columns},
              (tsr_matrix){p->x, d, 1}, momentum, (tsr_matrix){p->weight_momentum, d, 1});
    step_bias(p, n, lr_scale);
#pragma omp parallel for schedule(static) num_threads(tsr_loop__threads(p->columns *d))
    for (int64_t c = 0; c < p->columns; c++) {
        const float lr = (float)(p->rates[c / p->classes] * lr_scale);
        float *w = p->weight + c * d;
        const float *m = p->weight_momentum + c * d;
        for (int64_t j = 0; j < d; j++) w[j] -= lr * m[j];
    }
}

/* ---- epochs ---- */

static bool train_epoch(probe *p, const tsr_linear_options *o, int64_t epoch)
{
    const tsr_schedule_cosine cosine = {.base = 1.0, .final = 0.0, .steps = p->epochs};
    tsr_rng rng =
        tsr_rng_make(o->seed, (uint32_t)epoch, 0, tsr_rng_purpose("linear probe shuffle"));
    tsr_scope scope = tsr_scope_open();
    const float *features = p->train.x;
    if (o->epoch_features != NULL) {
        features = tsr_eval__features("linear_evaluate", "training",
                                      o->epoch_features(epoch, o->user), p->train.n, p->train.d);
    }
    if (features != NULL) {
        const int64_t steps = (p->train.n + p->batch - 1) / p->batch;
        tsr_rng_permutation(&rng, p->train.n, p->order);
        for (int64_t at = 0; at < p->train.n; at += p->batch) {
            const int64_t left = p->train.n - at, n = left < p->batch ? left : p->batch;
            gather(p, features, p->order + at, n);
            step(p, n, tsr_schedule_cosine_at(&cosine, epoch));
            if (o->progress != NULL) o->progress(++p->steps, p->epochs * steps, o->user);
        }
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return features != NULL;
}

static bool start_probe(probe *p, const tsr_linear_options *o, tsr_linear_result *result)
{
    const int powers = 5, digits = 9;
    result->n = o->rates != NULL ? o->n_rates : powers * digits;
    if (result->n < 1 || result->n > TSR_LINEAR_MAX_RATES || o->epochs < 0 || o->batch < 0) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "linear_evaluate: %d rates, %lld epochs, batch %lld; expected 1 to %d rates and "
                 "no negative numbers",
                 result->n, (long long)o->epochs, (long long)o->batch, TSR_LINEAR_MAX_RATES);
        return false;
    }
    p->m = result->n;
    p->columns = p->m * p->classes;
    p->epochs = o->epochs > 0 ? o->epochs : 100;
    p->batch = o->batch > 0 ? o->batch : 1024;
    if (p->batch > p->train.n) p->batch = p->train.n;
    for (int k = 0; k < result->n; k++) {
        double rate = o->rates != NULL ? o->rates[k] : (k % digits + 1) * pow(10.0, k / digits - 4);
        if (!(rate > 0.0 && isfinite(rate))) {
            tsr_fail(TSR_STATUS_ARGUMENT, "linear_evaluate: rate %d is %g, expected it positive", k,
                     rate);
            return false;
        }
        result->scores[k].rate = rate;
    }
    return true;
}

static bool allocate(probe *p)
{
    const size_t columns = (size_t)p->columns, d = (size_t)p->train.d, batch = (size_t)p->batch;
    p->weight = tsr_alloc(columns * d * sizeof *p->weight);
    p->bias = tsr_alloc(columns * sizeof *p->bias);
    p->weight_momentum = tsr_alloc(columns * d * sizeof *p->weight_momentum);
    p->bias_momentum = tsr_alloc(columns * sizeof *p->bias_momentum);
    p->x = tsr_alloc(batch * d * sizeof *p->x);
    p->labels = tsr_alloc(batch * sizeof *p->labels);
    p->logits = tsr_alloc(batch * columns * sizeof *p->logits);
    p->order = tsr_alloc((size_t)p->train.n * sizeof *p->order);
    p->rates = tsr_alloc((size_t)p->m * sizeof *p->rates);
    if (p->weight == NULL || p->bias == NULL || p->weight_momentum == NULL ||
        p->bias_momentum == NULL || p->x == NULL || p->labels == NULL || p->logits == NULL ||
        p->order == NULL || p->rates == NULL) {
        return false;
    }
    memset(p->bias, 0, columns * sizeof *p->bias);
    memset(p->weight_momentum, 0, columns * d * sizeof *p->weight_momentum);
    memset(p->bias_momentum, 0, columns * sizeof *p->bias_momentum);
    return true;
}

static bool initialize(probe *p, uint64_t seed, const tsr_linear_result *result)
{
    const size_t bytes = (size_t)(p->classes * p->train.d) * sizeof(float);
    tsr_tensor *first = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(p->classes, p->train.d));
    tsr_fill_normal(first, tsr_rng_make(seed, 0, 0, tsr_rng_purpose("linear probe weights")), 0.0,
                    0.01);
    if (first == NULL) return false;
    for (int64_t k = 0; k < p->m; k++) {
        memcpy((char *)p->weight + (size_t)k * bytes, tsr_tensor_data(first), bytes);
        p->rates[k] = result->scores[k].rate * (double)p->batch / 256.0;
    }
    return true;
}

static bool score(probe *p, tsr_linear_result *result)
{
    double top1[TSR_LINEAR_MAX_RATES], top5[TSR_LINEAR_MAX_RATES];
    if (!tsr_eval__score(&p->test, p->weight, p->bias, p->m, p->classes, top1, top5)) return false;
    for (int k = 0; k < result->n; k++) {
        result->scores[k].top1 = top1[k];
        result->scores[k].top5 = top5[k];
        if (top1[k] > top1[result->best]) result->best = k;
    }
    const int64_t at = result->best * p->classes;
    result->weight =
        tsr_from(TSR_DTYPE_F32, TSR_SHAPE(p->classes, p->train.d), p->weight + at * p->train.d);
    result->bias = tsr_from(TSR_DTYPE_F32, TSR_SHAPE(p->classes), p->bias + at);
    return result->weight != NULL && result->bias != NULL;
}

tsr_status tsr_linear_evaluate(const tsr_features *train, const tsr_features *test,
                               const tsr_linear_options *options, tsr_linear_result *result)
{
    static const tsr_linear_options usual = {0};
    const tsr_linear_options *o = options != NULL ? options : &usual;
    probe p = {0};
    tsr_linear_result found = {0};
    tsr_scope scope = tsr_scope_open();
    bool ok = tsr_eval__sets("linear_evaluate", train, test, &p.train, &p.test, &p.classes) &&
              start_probe(&p, o, &found) && allocate(&p) && initialize(&p, o->seed, &found);
    for (int64_t epoch = 0; ok && epoch < p.epochs; epoch++) ok = train_epoch(&p, o, epoch);
    ok = ok && score(&p, &found);
    if (ok) *result = found;
    tsr_free(p.weight);
    tsr_free(p.bias);
    tsr_free(p.weight_momentum);
    tsr_free(p.bias_momentum);
    tsr_free(p.x);
    tsr_free(p.labels);
    tsr_free(p.logits);
    tsr_free(p.order);
    tsr_free(p.rates);
    tsr_scope_close(&scope, ok ? TSR_TENSORS(found.weight, found.bias) : TSR_NO_TENSORS);
    return tsr_status_get();
}
