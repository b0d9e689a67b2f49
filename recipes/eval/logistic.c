/*
 * Logistic regression by L-BFGS in f64. The training images pass by in blocks, which are converted to f64 and scaled on the
 * way: logits = X W^T, then the gradient adds P^T X, where P holds (softmax - one hot) / n. The losses of the images are
 * summed in order.
 */
#include "recipes/eval/internal.h"

#include "autograd/loop.h"
#include "ops/gemm.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 1024, PAIRS = 10, SEARCH_STEPS = 60 };

typedef struct problem {
    tsr_eval_set train, test;
    int64_t classes, size; /* size: classes * d */
    double penalty;        /* lambda / n */
    double *scale;         /* [train.n]: what each image is multiplied with */
    double *x;             /* [BLOCK, d] */
    double *logits;        /* [BLOCK, classes] */
    double *losses;        /* [BLOCK] */
    /* L-BFGS, vectors of size elements: */
    double *w, *g;             /* the point and its gradient */
    double *new_w, *new_g, *d; /* of the line search, and its direction */
    double *s[PAIRS], *y[PAIRS];
    double rho[PAIRS]; /* 1 / s^T y */
    int pairs, next;   /* how many are kept; where the next one goes */
    float *weight;     /* w in f32 */
} problem;

static double dot(const double *a, const double *b, int64_t n)
{
    double lanes[8] = {0};
    const int64_t whole = n - n % 8;
    for (int64_t i = 0; i < whole; i += 8) {
        for (int k = 0; k < 8; k++) lanes[k] += a[i + k] * b[i + k];
    }
    for (int64_t i = whole; i < n; i++) lanes[i - whole] += a[i] * b[i];
    return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
           ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

/* y += a x */
static void add_scaled(double *y, double a, const double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] += a * x[i];
}

static double largest(const double *x, int64_t n)
{
    double most = 0.0;
    for (int64_t i = 0; i < n; i++) {
        const double a = fabs(x[i]);
        if (!(a <= most)) most = a; /* a NaN stays */
    }
    return most;
}

/* ---- F and its gradient ---- */

/* Returns the cross-entropy of one image; logits become (softmax - one hot) / n. */
static double differentiate(double *logits, int64_t classes, int64_t label, int64_t n)
{
    double most = -INFINITY, sum = 0.0;
    for (int64_t c = 0; c < classes; c++) most = fmax(most, logits[c]);
    const double own = logits[label] - most;
    for (int64_t c = 0; c < classes; c++) {
        logits[c] = exp(logits[c] - most);
        sum += logits[c];
    }
    const double scale = 1.0 / (sum * (double)n);
    for (int64_t c = 0; c < classes; c++) logits[c] *= scale;
    logits[label] -= 1.0 / (double)n;
    return log(sum) - own;
}

/* F(w), and its gradient into g. */
static double objective(problem *p, const double *w, double *g)
{
    const int64_t d = p->train.d, classes = p->classes;
    double loss = 0.0;
    memset(g, 0, (size_t)p->size * sizeof *g);
    for (int64_t start = 0; start < p->train.n; start += BLOCK) {
        const int64_t left = p->train.n - start, n = left < BLOCK ? left : BLOCK;
#pragma omp parallel for schedule(static) num_threads(tsr_loop__threads(n *d))
        for (int64_t i = 0; i < n; i++) {
            const float *from = p->train.x + (start + i) * d;
            const double scale = p->scale[start + i];
            for (int64_t j = 0; j < d; j++) p->x[i * d + j] = (double)from[j] * scale;
        }
        tsr__gemm(TSR_DTYPE_F64, n, classes, d, (tsr_matrix){p->x, d, 1},
                  (tsr_matrix){(void *)w, 1, d}, 0.0, (tsr_matrix){p->logits, classes, 1});
#pragma omp parallel for schedule(static) num_threads(tsr_loop__threads(n *classes * 8))
        for (int64_t i = 0; i < n; i++) {
            p->losses[i] = differentiate(p->logits + i * classes, classes,
                                         p->train.labels[start + i], p->train.n);
        }
        for (int64_t i = 0; i < n; i++) loss += p->losses[i];
        tsr__gemm(TSR_DTYPE_F64, classes, d, n, (tsr_matrix){p->logits, 1, classes},
                  (tsr_matrix){p->x, d, 1}, 1.0, (tsr_matrix){g, d, 1});
    }
    add_scaled(g, p->penalty, w, p->size);
    return loss / (double)p->train.n + 0.5 * p->penalty * dot(w, w, p->size);
}

/* ---- L-BFGS ---- */

/* d = -H g by the two loops over the kept pairs, the latest first and then the oldest. */
static void set_direction(problem *p)
{
    double alpha[PAIRS];
    for (int64_t i = 0; i < p->size; i++) p->d[i] = -p->g[i];
    if (p->pairs == 0) return;
    for (int j = 1; j <= p->pairs; j++) {
        const int k = (p->next - j + PAIRS) % PAIRS;
        alpha[k] = p->rho[k] * dot(p->s[k], p->d, p->size);
        add_scaled(p->d, -alpha[k], p->y[k], p->size);
    }
    const int last = (p->next - 1 + PAIRS) % PAIRS;
    const double h = 1.0 / (p->rho[last] * dot(p->y[last], p->y[last], p->size));
    for (int64_t i = 0; i < p->size; i++) p->d[i] *= h;
    for (int j = p->pairs; j >= 1; j--) {
        const int k = (p->next - j + PAIRS) % PAIRS;
        const double beta = p->rho[k] * dot(p->y[k], p->d, p->size);
        add_scaled(p->d, alpha[k] - beta, p->s[k], p->size);
    }
}

/*
 * Finds t with F(w + t d) <= F(w) + 1e-4 t g^T d and F'(w + t d) >= 0.9 g^T d, starting from t = 1; leaves the point in new_w
 * and new_g and returns its F. NaN when rounding leaves no such point.
 */
static double search(problem *p, double f)
{
    const double slope = dot(p->g, p->d, p->size);
    double low = 0.0, high = INFINITY, t = 1.0;
    for (int i = 0; i < SEARCH_STEPS && slope < 0.0; i++) {
        memcpy(p->new_w, p->w, (size_t)p->size * sizeof *p->w);
        add_scaled(p->new_w, t, p->d, p->size);
        const double new_f = objective(p, p->new_w, p->new_g);
        if (!(new_f <= f + 1e-4 * t * slope)) {
            high = t;
        } else if (dot(p->new_g, p->d, p->size) < 0.9 * slope) {
            low = t;
        } else {
            return new_f;
        }
        t = isinf(high) ? 2.0 * low : 0.5 * (low + high);
    }
    return NAN;
}

static void swap(double **a, double **b)
{
    double *t = *a;
    *a = *b;
    *b = t;
}

/* Takes the point of the line search, and keeps the pair of differences. */
static void accept(problem *p)
{
    double *s = p->s[p->next], *y = p->y[p->next];
    for (int64_t i = 0; i < p->size; i++) {
        s[i] = p->new_w[i] - p->w[i];
        y[i] = p->new_g[i] - p->g[i];
    }
    swap(&p->w, &p->new_w);
    swap(&p->g, &p->new_g);
    const double product = dot(s, y, p->size);
    if (!(product > 0.0)) return;
    p->rho[p->next] = 1.0 / product;
    p->next = (p->next + 1) % PAIRS;
    if (p->pairs < PAIRS) p->pairs++;
}

static int64_t most_iterations(const tsr_logistic_options *o)
{
    return o->iterations > 0 ? o->iterations : 300;
}

/* before, all: iterations of the penalties before this one, and of all at most. */
static void minimize(problem *p, const tsr_logistic_options *o, int64_t before, int64_t all,
                     tsr_logistic_score *score)
{
    const int64_t most = most_iterations(o);
    const double tolerance = o->tolerance > 0.0 ? o->tolerance : 1e-5;
    p->pairs = p->next = 0;
    score->objective = objective(p, p->w, p->g);
    score->gradient = largest(p->g, p->size);
    while (score->gradient > tolerance && score->iterations < most) {
        set_direction(p);
        const double f = search(p, score->objective);
        if (isnan(f)) break;
        accept(p);
        score->objective = f;
        score->gradient = largest(p->g, p->size);
        score->iterations++;
        if (o->progress != NULL) o->progress(before + score->iterations, all, o->user);
    }
    score->converged = score->gradient <= tolerance;
}

/* ---- the evaluation ---- */

static bool start_result(const tsr_logistic_options *o, tsr_logistic_result *result)
{
    static const double usual[] = {0.01, 0.1, 1.0};
    const double *penalties = o->penalties != NULL ? o->penalties : usual;
    result->n = o->penalties != NULL ? o->n_penalties : (int)(sizeof usual / sizeof *usual);
    if (result->n < 1 || result->n > TSR_LOGISTIC_MAX_PENALTIES || o->iterations < 0 ||
        !(o->tolerance >= 0.0)) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "logistic_evaluate: %d penalties, %lld iterations, tolerance %g; expected 1 to %d "
                 "penalties and no negative numbers",
                 result->n, (long long)o->iterations, o->tolerance, TSR_LOGISTIC_MAX_PENALTIES);
        return false;
    }
    for (int k = 0; k < result->n; k++) {
        if (!(penalties[k] > 0.0 && isfinite(penalties[k]))) {
            tsr_fail(TSR_STATUS_ARGUMENT,
                     "logistic_evaluate: penalty %d is %g, expected it positive", k, penalties[k]);
            return false;
        }
        result->scores[k].penalty = penalties[k];
    }
    return true;
}

static bool allocate(problem *p)
{
    p->size = p->classes * p->train.d;
    const size_t size = (size_t)p->size * sizeof(double), d = (size_t)p->train.d;
    p->scale = tsr_alloc((size_t)p->train.n * sizeof *p->scale);
    p->x = tsr_alloc(BLOCK * d * sizeof *p->x);
    p->logits = tsr_alloc(BLOCK * (size_t)p->classes * sizeof *p->logits);
    p->losses = tsr_alloc(BLOCK * sizeof *p->losses);
    p->weight = tsr_alloc((size_t)p->size * sizeof *p->weight);
    double **vectors[] = {&p->w, &p->g, &p->new_w, &p->new_g, &p->d};
    bool ok = p->scale != NULL && p->x != NULL && p->logits != NULL && p->losses != NULL &&
              p->weight != NULL;
    for (int k = 0; k < 5 && ok; k++) ok = (*vectors[k] = tsr_alloc(size)) != NULL;
    for (int k = 0; k < PAIRS && ok; k++) {
        p->s[k] = tsr_alloc(size);
        p->y[k] = tsr_alloc(size);
        ok = p->s[k] != NULL && p->y[k] != NULL;
    }
    if (ok) memset(p->w, 0, size);
    return ok;
}

static void free_problem(problem *p)
{
    void *all[] = {p->scale, p->x, p->logits, p->losses, p->weight,
                   p->w,     p->g, p->new_w,  p->new_g,  p->d};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) tsr_free(all[k]);
    for (int k = 0; k < PAIRS; k++) {
        tsr_free(p->s[k]);
        tsr_free(p->y[k]);
    }
}

static void set_scale(problem *p, bool keep_norms)
{
    const int64_t d = p->train.d;
#pragma omp parallel for schedule(static) num_threads(tsr_loop__threads(p->train.n *d))
    for (int64_t i = 0; i < p->train.n; i++) {
        double sum = 0.0;
        for (int64_t j = 0; j < d; j++) {
            sum += (double)p->train.x[i * d + j] * (double)p->train.x[i * d + j];
        }
        p->scale[i] = keep_norms ? 1.0 : 1.0 / fmax(sqrt(sum), 1e-12);
    }
}

/* Solves for one penalty and scores it on the test images. Their lengths do not matter: without an intercept, all logits of
 * an image scale alike. */
static bool evaluate(problem *p, const tsr_logistic_options *o, int k, tsr_logistic_result *result)
{
    tsr_logistic_score *score = &result->scores[k];
    const int64_t most = most_iterations(o);
    p->penalty = score->penalty / (double)p->train.n;
    minimize(p, o, k * most, result->n * most, score);
    for (int64_t i = 0; i < p->size; i++) p->weight[i] = (float)p->w[i];
    return tsr_eval__score(&p->test, p->weight, NULL, 1, p->classes, &score->top1, &score->top5);
}

tsr_status tsr_logistic_evaluate(const tsr_features *train, const tsr_features *test,
                                 const tsr_logistic_options *options, tsr_logistic_result *result)
{
    static const tsr_logistic_options usual = {0};
    const tsr_logistic_options *o = options != NULL ? options : &usual;
    problem p = {0};
    tsr_logistic_result found = {0};
    tsr_scope scope = tsr_scope_open();
    bool ok = tsr_eval__sets("logistic_evaluate", train, test, &p.train, &p.test, &p.classes) &&
              start_result(o, &found) && allocate(&p);
    if (ok) set_scale(&p, o->keep_norms);
    for (int k = 0; ok && k < found.n; k++) {
        ok = evaluate(&p, o, k, &found);
        if (!ok || (k > 0 && found.scores[k].top1 <= found.scores[found.best].top1)) continue;
        found.best = k;
        found.weight = tsr_from(TSR_DTYPE_F32, TSR_SHAPE(p.classes, p.train.d), p.weight);
        ok = found.weight != NULL;
    }
    if (ok) *result = found;
    free_problem(&p);
    tsr_scope_close(&scope, ok ? TSR_TENSORS(found.weight) : TSR_NO_TENSORS);
    return tsr_status_get();
}
