/*
 * Clusters against labels. All four numbers are functions of the table n[k][c], how many images of class c are in cluster
 * k: the assignment by the Hungarian method (Kuhn 1955) in whole numbers, so that it is exact; pairs and entropies in
 * doubles.
 */
#include "recipes/eval/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ---- */

typedef struct table {
    int64_t n, rows, columns; /* images, clusters and classes that occur */
    int64_t *at;              /* [rows, columns] */
    int64_t *row_sum, *column_sum;
} table;

static void *zeros(int64_t n)
{
    int64_t *p = tsr_alloc((size_t)(n > 0 ? n : 1) * sizeof *p);
    if (p != NULL) memset(p, 0, (size_t)n * sizeof *p);
    return p;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* The values that occur among n, in order, in a new array; how many, or -1 when out of memory. */
static int64_t distinct(const int64_t *values, int64_t n, int64_t **out)
{
    *out = zeros(n);
    if (*out == NULL) return -1;
    memcpy(*out, values, (size_t)n * sizeof *values);
    qsort(*out, (size_t)n, sizeof **out, by_value);
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        if (i == 0 || (*out)[i] != (*out)[i - 1]) (*out)[count++] = (*out)[i];
    }
    return count;
}

static int64_t place(const int64_t *sorted, int64_t n, int64_t value)
{
    const int64_t *found = bsearch(&value, sorted, (size_t)n, sizeof value, by_value);
    return found - sorted;
}

static bool count(table *t, const int64_t *clusters, const int64_t *labels)
{
    int64_t *rows = NULL, *columns = NULL;
    t->rows = distinct(clusters, t->n, &rows);
    t->columns = distinct(labels, t->n, &columns);
    if (t->rows > 0 && t->columns > 0) {
        t->at = zeros(t->rows * t->columns);
        t->row_sum = zeros(t->rows);
        t->column_sum = zeros(t->columns);
    }
    bool ok = t->at != NULL && t->row_sum != NULL && t->column_sum != NULL;
    for (int64_t i = 0; ok && i < t->n; i++) {
        int64_t k = place(rows, t->rows, clusters[i]), c = place(columns, t->columns, labels[i]);
        t->at[k * t->columns + c]++;
        t->row_sum[k]++;
        t->column_sum[c]++;
    }
    tsr_free(rows);
    tsr_free(columns);
    return ok;
}

/* ---- the best assignment ---- */

/*
 * Of the smaller side, "workers", to the larger, "jobs": each worker in turn is given a job by the cheapest alternating
 * path, under potentials u and v with cost(i, j) - u[i] - v[j] >= 0, and = 0 where i has j. Index 0 is a job or worker
 * that is not there. O(workers^2 jobs).
 */
typedef struct assignment {
    const table *t;
    bool turned; /* workers are the table's columns */
    int64_t workers, jobs;
    int64_t *u, *v;   /* [workers + 1], [jobs + 1] */
    int64_t *owner;   /* [jobs + 1]: the worker of a job; 0: none */
    int64_t *way;     /* [jobs + 1]: the job before this one on the path */
    int64_t *slack;   /* [jobs + 1]: the least reduced cost from the jobs on the path */
    int64_t *on_path; /* [jobs + 1] */
} assignment;

static int64_t cost(const assignment *a, int64_t worker, int64_t job)
{
    int64_t i = (a->turned ? job : worker) - 1, j = (a->turned ? worker : job) - 1;
    return -a->t->at[i * a->t->columns + j];
}

static void give_job(assignment *a, int64_t worker)
{
    int64_t job = 0;
    a->owner[0] = worker;
    for (int64_t j = 0; j <= a->jobs; j++) a->slack[j] = INT64_MAX, a->on_path[j] = 0;
    do {
        int64_t from = a->owner[job], least = INT64_MAX, next = 0;
        a->on_path[job] = 1;
        for (int64_t j = 1; j <= a->jobs; j++) {
            if (a->on_path[j]) continue;
            int64_t reduced = cost(a, from, j) - a->u[from] - a->v[j];
            if (reduced < a->slack[j]) a->slack[j] = reduced, a->way[j] = job;
            if (a->slack[j] < least) least = a->slack[j], next = j;
        }
        for (int64_t j = 0; j <= a->jobs; j++) {
            if (a->on_path[j]) {
                a->u[a->owner[j]] += least;
                a->v[j] -= least;
            } else {
                a->slack[j] -= least;
            }
        }
        job = next;
    } while (a->owner[job] != 0);
    while (job != 0) {
        int64_t before = a->way[job];
        a->owner[job] = a->owner[before];
        job = before;
    }
}

/* How many images are in the class of their cluster, when each cluster has at most one class and each class at most one
 * cluster, and as many as can be are right; -1 when out of memory. */
static int64_t best_assignment(const table *t)
{
    assignment a = {.t = t, .turned = t->rows > t->columns};
    a.workers = a.turned ? t->columns : t->rows;
    a.jobs = a.turned ? t->rows : t->columns;
    a.u = zeros(a.workers + 1);
    a.v = zeros(a.jobs + 1);
    a.owner = zeros(a.jobs + 1);
    a.way = zeros(a.jobs + 1);
    a.slack = zeros(a.jobs + 1);
    a.on_path = zeros(a.jobs + 1);
    int64_t right = -1;
    if (a.u != NULL && a.v != NULL && a.owner != NULL && a.way != NULL && a.slack != NULL &&
        a.on_path != NULL) {
        for (int64_t i = 1; i <= a.workers; i++) give_job(&a, i);
        right = 0;
        for (int64_t j = 1; j <= a.jobs; j++)
            right -= a.owner[j] != 0 ? cost(&a, a.owner[j], j) : 0;
    }
    tsr_free(a.u);
    tsr_free(a.v);
    tsr_free(a.owner);
    tsr_free(a.way);
    tsr_free(a.slack);
    tsr_free(a.on_path);
    return right;
}

/* ---- pairs and entropies ---- */

static double squares(const int64_t *x, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

static double entropy(const int64_t *x, int64_t n, double all)
{
    double h = 0.0;
    for (int64_t i = 0; i < n; i++) h -= (double)x[i] / all * log((double)x[i] / all);
    return h;
}

static void score_pairs(const table *t, tsr_cluster_result *r)
{
    /* Ordered pairs of different images: in one cluster and one class, in one cluster, in one class, all. */
    double n = (double)t->n, both = squares(t->at, t->rows * t->columns) - n;
    double cluster = squares(t->row_sum, t->rows) - n,
           class = squares(t->column_sum, t->columns) - n;
    double all = n * (n - 1.0), expected = all > 0.0 ? cluster * class / all : 0.0;
    double most = 0.5 * (cluster + class);
    bool same = both == cluster && both == class;
    r->ari = same ? 1.0 : (both - expected) / (most - expected);
    r->fmi = both > 0.0 ? sqrt(both / cluster) * sqrt(both / class) : 0.0;
}

static double mutual_information(const table *t)
{
    double n = (double)t->n, sum = 0.0;
    for (int64_t k = 0; k < t->rows; k++) {
        for (int64_t c = 0; c < t->columns; c++) {
            double x = (double)t->at[k * t->columns + c];
            if (x == 0.0) continue;
            sum += x / n * log(x * n / ((double)t->row_sum[k] * (double)t->column_sum[c]));
        }
    }
    return sum;
}

static void score_information(const table *t, tsr_cluster_result *r)
{
    double n = (double)t->n;
    double h = 0.5 * (entropy(t->row_sum, t->rows, n) + entropy(t->column_sum, t->columns, n));
    double share = h > 0.0 ? mutual_information(t) / h : 1.0;
    r->nmi = fmin(fmax(share, 0.0), 1.0);
}

/* ---- */

static const int64_t *check(const char *what, tsr_tensor *x, int64_t n)
{
    char got[TSR_SHAPE_TEXT];
    if (x == NULL || tsr_tensor_dtype(x) != TSR_DTYPE_I64 || tsr_tensor_ndim(x) != 1 ||
        tsr_tensor_size(x, 0) != n || n < 1) {
        tsr_fail(TSR_STATUS_SHAPE,
                 "cluster_evaluate: %s are %s %s, expected i64 [N], as many as labels", what,
                 x != NULL ? tsr_dtype_name(tsr_tensor_dtype(x)) : "NULL",
                 x != NULL ? tsr_shape_text(tsr_tensor_shape(x), got) : "");
        return NULL;
    }
    const int64_t *values = tsr_tensor_data(tsr_tensor_packed(x));
    for (int64_t i = 0; values != NULL && i < n; i++) {
        if (values[i] >= 0) continue;
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "cluster_evaluate: image %lld has %lld among %s, expected 0 or more", (long long)i,
                 (long long)values[i], what);
        return NULL;
    }
    return values;
}

tsr_status tsr_cluster_evaluate(tsr_tensor *clusters, tsr_tensor *labels,
                                tsr_cluster_result *result)
{
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    tsr_scope scope = tsr_scope_open();
    table t = {.n = tsr_tensor_size(labels, 0)};
    const int64_t *k = check("clusters", clusters, t.n), *c = NULL;
    if (k != NULL) c = check("labels", labels, t.n);
    if (c != NULL && count(&t, k, c)) {
        tsr_cluster_result r = {.clusters = t.rows, .classes = t.columns};
        int64_t right = best_assignment(&t);
        r.accuracy = (double)right / (double)t.n;
        score_pairs(&t, &r);
        score_information(&t, &r);
        if (right >= 0) *result = r;
    }
    tsr_free(t.at);
    tsr_free(t.row_sum);
    tsr_free(t.column_sum);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_status_get();
}
