/* The health monitor. It keeps no state beyond its history, so that a resumed run says the same. */
#include "recipes/train/monitor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct tsr_monitor {
    tsr_monitor_look *looks;
    int64_t n, capacity;
};

tsr_monitor *tsr_monitor_create(void)
{
    tsr_monitor *m = tsr_alloc(sizeof *m);
    if (m != NULL) *m = (tsr_monitor){0};
    return m;
}

void tsr_monitor_free(tsr_monitor **monitor)
{
    if (monitor == NULL || *monitor == NULL) return;
    tsr_free((*monitor)->looks);
    tsr_free(*monitor);
    *monitor = NULL;
}

tsr_status tsr_monitor_restore(tsr_monitor *m, const tsr_monitor_look *look)
{
    if (m->n == m->capacity) {
        int64_t capacity = m->capacity == 0 ? 64 : 2 * m->capacity;
        tsr_monitor_look *grown = tsr_alloc((size_t)capacity * sizeof *grown);
        if (grown == NULL) return tsr_status_get();
        if (m->n > 0) memcpy(grown, m->looks, (size_t)m->n * sizeof *grown);
        tsr_free(m->looks);
        m->looks = grown;
        m->capacity = capacity;
    }
    m->looks[m->n++] = *look;
    return TSR_STATUS_OK;
}

void tsr_monitor_begin(tsr_monitor *m, int64_t step)
{
    tsr_monitor_look look = {.step = step};
    tsr_monitor_restore(m, &look);
}

static void note(tsr_monitor *m, const char *name, const char *what, double value)
{
    if (m->n == 0) return;
    tsr_monitor_look *look = &m->looks[m->n - 1];
    if (look->n == TSR_MONITOR_NUMBERS) return;
    snprintf(look->name[look->n], TSR_MONITOR_NAME, "%s%s", name, what);
    look->value[look->n++] = value;
}

void tsr_monitor_number(tsr_monitor *m, const char *name, double value)
{
    note(m, name, "", value);
}

static double at(const tsr_tensor *t, const void *data, int64_t i)
{
    return tsr_tensor_dtype(t) == TSR_DTYPE_F64 ? ((const double *)data)[i]
                                                : (double)((const float *)data)[i];
}

/* t [..., K] as rows: contiguous f32 or f64; false where it is neither, or empty. */
static bool as_rows(tsr_tensor **t, int64_t *rows, int64_t *k)
{
    *t = tsr_tensor_packed(*t);
    tsr_dtype dtype = tsr_tensor_dtype(*t);
    if (*t == NULL || (dtype != TSR_DTYPE_F32 && dtype != TSR_DTYPE_F64)) return false;
    *k = tsr_tensor_size(*t, -1);
    if (*k < 2 || tsr_tensor_numel(*t) == 0) return false;
    *rows = tsr_tensor_numel(*t) / *k;
    return true;
}

static int64_t largest(const tsr_tensor *t, const void *data, int64_t row, int64_t k)
{
    int64_t best = 0;
    for (int64_t j = 1; j < k; j++) {
        if (at(t, data, row * k + j) > at(t, data, row * k + best)) best = j;
    }
    return best;
}

void tsr_monitor_distribution(tsr_monitor *m, const char *name, tsr_tensor *p)
{
    int64_t rows, k;
    tsr_scope scope = tsr_scope_open();
    double *mean = NULL;
    if (as_rows(&p, &rows, &k)) mean = tsr_alloc(2 * (size_t)k * sizeof *mean);
    if (mean != NULL) {
        double *used = mean + k, entropy = 0.0, spread = 0.0, n_used = 0.0;
        memset(mean, 0, 2 * (size_t)k * sizeof *mean);
        const void *data = tsr_tensor_data(p);
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t j = 0; j < k; j++) {
                double x = at(p, data, r * k + j);
                mean[j] += x / (double)rows;
                if (x > 0.0) entropy -= x * log(x);
            }
            used[largest(p, data, r, k)] = 1.0;
        }
        for (int64_t j = 0; j < k; j++) {
            n_used += used[j];
            if (mean[j] > 0.0) spread -= mean[j] * log(mean[j]);
        }
        double most = log((double)k);
        note(m, name, "_entropy", entropy / (double)rows / most);
        note(m, name, "_spread", spread / most);
        note(m, name, "_used", n_used / (double)(rows < k ? rows : k));
    }
    tsr_free(mean);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

void tsr_monitor_agreement(tsr_monitor *m, const char *name, tsr_tensor *a, tsr_tensor *b)
{
    int64_t rows, rows_b, k, k_b;
    tsr_scope scope = tsr_scope_open();
    if (as_rows(&a, &rows, &k) && as_rows(&b, &rows_b, &k_b) && rows == rows_b && k == k_b) {
        const void *da = tsr_tensor_data(a), *db = tsr_tensor_data(b);
        int64_t same = 0;
        for (int64_t r = 0; r < rows; r++) same += largest(a, da, r, k) == largest(b, db, r, k);
        note(m, name, "_agreement", (double)same / (double)rows);
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

void tsr_monitor_features(tsr_monitor *m, tsr_tensor *features)
{
    int64_t rows, d;
    tsr_scope scope = tsr_scope_open();
    double *sums = NULL;
    if (as_rows(&features, &rows, &d)) sums = tsr_alloc(2 * (size_t)d * sizeof *sums);
    if (sums != NULL) {
        double *squares = sums + d, std = 0.0;
        memset(sums, 0, 2 * (size_t)d * sizeof *sums);
        const void *data = tsr_tensor_data(features);
        for (int64_t r = 0; r < rows; r++) {
            double norm = 0.0;
            for (int64_t j = 0; j < d; j++) norm += pow(at(features, data, r * d + j), 2.0);
            norm = fmax(sqrt(norm), 1e-12);
            for (int64_t j = 0; j < d; j++) {
                double x = at(features, data, r * d + j) / norm;
                sums[j] += x / (double)rows;
                squares[j] += x * x / (double)rows;
            }
        }
        for (int64_t j = 0; j < d; j++) std += sqrt(fmax(squares[j] - sums[j] * sums[j], 0.0));
        note(m, "feature_std", "", std / (double)d * sqrt((double)d));
    }
    tsr_free(sums);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

int64_t tsr_monitor_count(const tsr_monitor *m)
{
    return m != NULL ? m->n : 0;
}

const tsr_monitor_look *tsr_monitor_at(const tsr_monitor *m, int64_t i)
{
    return m != NULL && i >= 0 && i < m->n ? &m->looks[i] : NULL;
}

double tsr_monitor_value(const tsr_monitor_look *look, const char *name)
{
    for (int i = 0; look != NULL && i < look->n; i++) {
        if (strcmp(look->name[i], name) == 0) return look->value[i];
    }
    return (double)NAN;
}

/* The number called name that ends in what, of a look; false where there is none left from *i on. */
static bool next_number(const tsr_monitor_look *look, const char *what, int *i)
{
    size_t tail = strlen(what);
    for (; *i < look->n; (*i)++) {
        size_t length = strlen(look->name[*i]);
        if (length > tail && strcmp(look->name[*i] + length - tail, what) == 0) return true;
    }
    return false;
}

const char *tsr_monitor_warning(const tsr_monitor *m, char buffer[TSR_MONITOR_WARNING])
{
    buffer[0] = '\0';
    const tsr_monitor_look *now = tsr_monitor_at(m, tsr_monitor_count(m) - 1);
    const tsr_monitor_look *before = tsr_monitor_at(m, tsr_monitor_count(m) - 2);
    if (now == NULL || before == NULL) return buffer;
    for (int i = 0; next_number(now, "_entropy", &i); i++) {
        int term = (int)(strlen(now->name[i]) - strlen("_entropy"));
        double x = now->value[i];
        if (x > 0.97 && tsr_monitor_value(before, now->name[i]) > 0.97) {
            snprintf(
                buffer, TSR_MONITOR_WARNING,
                "the teacher's %.*s output is almost uniform (entropy %.0f %% of the most "
                "possible): it says nothing. Lower --warmup-teacher-temp or --teacher-temp, or "
                "raise --lr if this is the start",
                term, now->name[i], 100.0 * x);
            return buffer;
        }
    }
    for (int i = 0; next_number(now, "_spread", &i); i++) {
        int term = (int)(strlen(now->name[i]) - strlen("_spread"));
        double x = now->value[i], y = tsr_monitor_value(before, now->name[i]);
        if (x < 0.1 && y < 0.1) {
            snprintf(buffer, TSR_MONITOR_WARNING,
                     "the teacher's %.*s output is the same for all images (spread %.0f %%): "
                     "collapsed. Go back to an earlier checkpoint with a lower --lr or "
                     "--center-momentum, or a higher --teacher-temp",
                     term, now->name[i], 100.0 * x);
            return buffer;
        }
        double most = 0.0;
        for (int64_t k = 0; k < m->n; k++) {
            most = fmax(most, tsr_monitor_value(&m->looks[k], now->name[i]));
        }
        if (x < 0.5 * most && y < 0.5 * most) {
            snprintf(
                buffer, TSR_MONITOR_WARNING,
                "the teacher's %.*s output uses fewer and fewer prototypes (spread %.0f %%, once "
                "%.0f %%): a collapse is near. Lower --lr or --center-momentum, or raise "
                "--momentum-teacher",
                term, now->name[i], 100.0 * x, 100.0 * most);
            return buffer;
        }
    }
    double std = tsr_monitor_value(now, "feature_std");
    if (std < 0.05 && tsr_monitor_value(before, "feature_std") < 0.05) {
        snprintf(
            buffer, TSR_MONITOR_WARNING,
            "all images have almost the same feature (deviation %.3f): collapsed, or not begun. "
            "Lower --lr, lengthen --warmup-epochs, or raise --momentum-teacher",
            std);
    }
    return buffer;
}
