/* Checking features, and scoring linear classifiers. */
#include "recipes/eval/internal.h"

#include "autograd/loop.h"
#include "ops/gemm.h"

/* ---- checks ---- */

const float *tsr_eval__features(const char *what, const char *name, tsr_tensor *x, int64_t n,
                                int64_t d)
{
    char got[TSR_SHAPE_TEXT];
    if (x == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "%s: %s features are NULL", what, name);
    } else if (tsr_tensor_dtype(x) != TSR_DTYPE_F32) {
        tsr_fail(TSR_STATUS_DTYPE, "%s: %s features are %s, expected f32", what, name,
                 tsr_dtype_name(tsr_tensor_dtype(x)));
    } else if (!tsr_shape_equal(tsr_tensor_shape(x), TSR_SHAPE(n, d))) {
        tsr_fail(TSR_STATUS_SHAPE, "%s: %s features have shape %s, expected [%lld, %lld]", what,
                 name, tsr_shape_text(tsr_tensor_shape(x), got), (long long)n, (long long)d);
    } else if (!tsr_tensor_is_finite(x)) {
        tsr_fail(TSR_STATUS_NUMERIC, "%s: %s features are not all finite", what, name);
    } else {
        return tsr_tensor_data(tsr_tensor_packed(x));
    }
    return NULL;
}

static bool check_set(const char *what, const char *name, const tsr_features *from, int64_t d,
                      tsr_eval_set *set)
{
    char got[TSR_SHAPE_TEXT];
    if (from == NULL || from->x == NULL || from->labels == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "%s: %s features or labels are NULL", what, name);
        return false;
    }
    set->n = tsr_tensor_size(from->x, 0);
    set->d = d > 0 ? d : tsr_tensor_size(from->x, -1);
    if (tsr_tensor_ndim(from->x) != 2 || set->n < 1 || set->d < 1) {
        tsr_fail(TSR_STATUS_SHAPE,
                 "%s: %s features have shape %s, expected [N, D] with N and D of 1 or more", what,
                 name, tsr_shape_text(tsr_tensor_shape(from->x), got));
        return false;
    }
    set->x = tsr_eval__features(what, name, from->x, set->n, set->d);
    if (set->x == NULL) return false;
    if (tsr_tensor_dtype(from->labels) != TSR_DTYPE_I64 ||
        !tsr_shape_equal(tsr_tensor_shape(from->labels), TSR_SHAPE(set->n))) {
        tsr_fail(TSR_STATUS_SHAPE, "%s: %s labels are %s %s, expected i64 [%lld]", what, name,
                 tsr_dtype_name(tsr_tensor_dtype(from->labels)),
                 tsr_shape_text(tsr_tensor_shape(from->labels), got), (long long)set->n);
        return false;
    }
    set->labels = tsr_tensor_data(tsr_tensor_packed(from->labels));
    if (set->labels == NULL) return false;
    for (int64_t i = 0; i < set->n; i++) {
        if (set->labels[i] < 0) {
            tsr_fail(TSR_STATUS_ARGUMENT,
                     "%s: %s image %lld has label %lld, expected 0 or more: images without a label "
                     "cannot be evaluated",
                     what, name, (long long)i, (long long)set->labels[i]);
            return false;
        }
    }
    return true;
}

bool tsr_eval__sets(const char *what, const tsr_features *train, const tsr_features *test,
                    tsr_eval_set *train_set, tsr_eval_set *test_set, int64_t *classes)
{
    enum { MOST = 1 << 24 };
    if (tsr_status_get() != TSR_STATUS_OK || !check_set(what, "training", train, 0, train_set) ||
        !check_set(what, "test", test, train_set->d, test_set)) {
        return false;
    }
    *classes = 0;
    for (int64_t i = 0; i < train_set->n; i++) {
        if (train_set->labels[i] >= *classes) *classes = train_set->labels[i] + 1;
        if (train_set->labels[i] < MOST) continue;
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "%s: training image %lld has label %lld, expected less than %d", what,
                 (long long)i, (long long)train_set->labels[i], (int)MOST);
        return false;
    }
    return true;
}

/* ---- scores ---- */

static int64_t rank_of(const float *logits, const float *bias, int64_t classes, int64_t label)
{
    if (label >= classes) return classes;
    const float own = logits[label] + (bias != NULL ? bias[label] : 0.0f);
    if (own != own) return classes;
    int64_t rank = 0;
    for (int64_t c = 0; c < classes; c++) {
        const float other = logits[c] + (bias != NULL ? bias[c] : 0.0f);
        rank += other > own || (other == own && c < label);
    }
    return rank;
}

bool tsr_eval__score(const tsr_eval_set *set, const float *weight, const float *bias, int64_t m,
                     int64_t classes, double *top1, double *top5)
{
    const int64_t columns = m * classes, most = 4 << 20; /* logits at a time */
    int64_t rows = most / columns < 1 ? 1 : most / columns;
    if (rows > 1024) rows = 1024;
    float *logits = tsr_alloc((size_t)(rows * columns) * sizeof *logits);
    int64_t *ranks = tsr_alloc((size_t)(rows * m) * sizeof *ranks);
    bool ok = logits != NULL && ranks != NULL;
    for (int64_t k = 0; ok && k < m; k++) top1[k] = top5[k] = 0.0;
    for (int64_t start = 0; ok && start < set->n; start += rows) {
        const int64_t n = set->n - start < rows ? set->n - start : rows;
        tsr__gemm(TSR_DTYPE_F32, n, columns, set->d,
                  (tsr_matrix){(void *)(set->x + start * set->d), set->d, 1},
                  (tsr_matrix){(void *)weight, 1, set->d}, 0.0, (tsr_matrix){logits, columns, 1});
#pragma omp parallel for schedule(static) num_threads(tsr_loop__threads(n *columns))
        for (int64_t i = 0; i < n; i++) {
            for (int64_t k = 0; k < m; k++) {
                ranks[i * m + k] = rank_of(logits + i * columns + k * classes,
                                           bias != NULL ? bias + k * classes : NULL, classes,
                                           set->labels[start + i]);
            }
        }
        for (int64_t i = 0; i < n; i++) {
            for (int64_t k = 0; k < m; k++) {
                int64_t rank = ranks[i * m + k];
                top1[k] += rank < 1 && rank < classes;
                top5[k] += rank < 5 && rank < classes;
            }
        }
    }
    for (int64_t k = 0; ok && k < m; k++) {
        top1[k] /= (double)set->n;
        top5[k] /= (double)set->n;
    }
    tsr_free(logits);
    tsr_free(ranks);
    return ok;
}
