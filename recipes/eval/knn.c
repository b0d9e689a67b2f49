/*
 * Weighted k-NN. A block of test images, scaled to length 1, times a block of training images; each test image keeps its
 * nearest so far in a heap whose root is the farthest of them, so a similarity costs one comparison with the root unless
 * it belongs among them. Training images are not copied: their similarities are divided by their lengths.
 */
#include "recipes/eval/internal.h"

#include "autograd/loop.h"
#include "ops/gemm.h"

#include <float.h>
#include <math.h>
#include <omp.h>
#include <string.h>

enum { TOP1 = 1, TOP5 = 2 };
enum { TEST_BLOCK = 512, TRAIN_BLOCK = 4096, SCAN = 16 };

typedef struct neighbour {
    float similarity;
    int64_t index; /* of the training image */
} neighbour;

typedef struct search {
    tsr_eval_set train, test;
    int64_t classes, most; /* neighbours that each test image keeps */
    double temperature;
    float *scale;        /* [training images]: 1 / length */
    float *block;        /* [TEST_BLOCK, d]: test images of length 1 */
    float *similarities; /* [TEST_BLOCK, TRAIN_BLOCK] */
    neighbour *nearest;  /* [TEST_BLOCK, most] */
    double *votes;       /* [threads, classes] */
    uint8_t *hits;       /* [TEST_BLOCK, counts]: TOP1, TOP5 */
} search;

/* ---- the heap: its root is the worst ---- */

/* Lower similarity is worse, then a higher index. */
static bool worse(neighbour a, neighbour b)
{
    return a.similarity < b.similarity || (a.similarity == b.similarity && a.index > b.index);
}

static void sift_down(neighbour *heap, int64_t n, int64_t i)
{
    neighbour moved = heap[i];
    for (;;) {
        int64_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && worse(heap[child + 1], heap[child])) child++;
        if (!worse(heap[child], moved)) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moved;
}

/* The nearest first. */
static void sort_heap(neighbour *heap, int64_t n)
{
    for (int64_t last = n - 1; last > 0; last--) {
        neighbour worst = heap[0];
        heap[0] = heap[last];
        heap[last] = worst;
        sift_down(heap, last, 0);
    }
}

/* Offers n similarities of training images start ... to a heap that holds all before them, or starts as all -2. */
static void offer(neighbour *heap, int64_t k, const float *similarities, const float *scale,
                  int64_t n, int64_t start)
{
    for (int64_t i = 0; i < n; i += SCAN) {
        const int64_t end = n - i < SCAN ? n : i + SCAN;
        if (end - i == SCAN) {
            const float root = heap[0].similarity;
            int any = 0;
            for (int j = 0; j < SCAN; j++) any |= similarities[i + j] * scale[i + j] > root;
            if (!any) continue;
        }
        for (int64_t j = i; j < end; j++) {
            const float s = similarities[j] * scale[j];
            if (s > heap[0].similarity) {
                heap[0] = (neighbour){s, start + j};
                sift_down(heap, k, 0);
            }
        }
    }
}

/* ---- votes ---- */

static uint8_t vote(const search *s, const neighbour *nearest, int64_t k, int64_t label,
                    double *votes)
{
    const int64_t *labels = s->train.labels;
    for (int64_t j = 0; j < k; j++) {
        /* Divided by the nearest one's weight, so that no temperature overflows; never 0. */
        double away = (double)nearest[j].similarity - (double)nearest[0].similarity;
        votes[labels[nearest[j].index]] += fmax(exp(away / s->temperature), DBL_MIN);
    }
    const double own = label < s->classes ? votes[label] : 0.0;
    int64_t rank = 0;
    for (int64_t j = 0; j < k; j++) {
        const int64_t c = labels[nearest[j].index];
        rank += votes[c] > own || (votes[c] == own && c < label);
        votes[c] = 0.0; /* counted once, and clean for the next image */
    }
    if (own == 0.0) return 0;
    return (uint8_t)((rank < 1 ? TOP1 : 0) | (rank < (k < 5 ? k : 5) ? TOP5 : 0));
}

/* ---- blocks ---- */

static double length(const float *x, int64_t d)
{
    double sum = 0.0;
    for (int64_t i = 0; i < d; i++) sum += (double)x[i] * (double)x[i];
    return fmax(sqrt(sum), 1e-12);
}

/* Finds the nearest of test images first ... first + n. */
static void find_nearest(search *s, int64_t first, int64_t n)
{
    const int64_t d = s->train.d;
#pragma omp parallel for schedule(static) num_threads(tsr_loop__threads(n *d))
    for (int64_t i = 0; i < n; i++) {
        const float *x = s->test.x + (first + i) * d;
        const double l = length(x, d);
        for (int64_t j = 0; j < d; j++) s->block[i * d + j] = (float)((double)x[j] / l);
        for (int64_t j = 0; j < s->most; j++) {
            s->nearest[i * s->most + j] = (neighbour){-2.0f, INT64_MAX};
        }
    }
    for (int64_t start = 0; start < s->train.n; start += TRAIN_BLOCK) {
        const int64_t left = s->train.n - start, m = left < TRAIN_BLOCK ? left : TRAIN_BLOCK;
        tsr__gemm(TSR_DTYPE_F32, n, m, d, (tsr_matrix){s->block, d, 1},
                  (tsr_matrix){(void *)(s->train.x + start * d), 1, d}, 0.0,
                  (tsr_matrix){s->similarities, TRAIN_BLOCK, 1});
#pragma omp parallel for schedule(static) num_threads(tsr_loop__threads(n *m))
        for (int64_t i = 0; i < n; i++) {
            offer(s->nearest + i * s->most, s->most, s->similarities + i * TRAIN_BLOCK,
                  s->scale + start, m, start);
        }
    }
}

/* Votes on test images first ... first + n, whose nearest are found; adds hits to the result. */
static void count_votes(search *s, int64_t first, int64_t n, tsr_knn_result *result)
{
    const int counts = result->n;
#pragma omp parallel for schedule(static) num_threads(tsr_loop__threads(n * s->most * 32))
    for (int64_t i = 0; i < n; i++) {
        neighbour *nearest = s->nearest + i * s->most;
        double *votes = s->votes + omp_get_thread_num() * s->classes;
        sort_heap(nearest, s->most);
        for (int c = 0; c < counts; c++) {
            s->hits[i * counts + c] =
                vote(s, nearest, result->scores[c].used, s->test.labels[first + i], votes);
        }
    }
    for (int64_t i = 0; i < n; i++) {
        for (int c = 0; c < counts; c++) {
            result->scores[c].top1 += (s->hits[i * counts + c] & TOP1) != 0;
            result->scores[c].top5 += (s->hits[i * counts + c] & TOP5) != 0;
        }
    }
}

static void evaluate(search *s, const tsr_knn_options *o, tsr_knn_result *result)
{
    const int64_t d = s->train.d;
#pragma omp parallel for schedule(static) num_threads(tsr_loop__threads(s->train.n *d))
    for (int64_t i = 0; i < s->train.n; i++) {
        s->scale[i] = (float)(1.0 / length(s->train.x + i * d, d));
    }
    for (int64_t first = 0; first < s->test.n; first += TEST_BLOCK) {
        const int64_t left = s->test.n - first, n = left < TEST_BLOCK ? left : TEST_BLOCK;
        find_nearest(s, first, n);
        count_votes(s, first, n, result);
        if (o->progress != NULL) o->progress(first + n, s->test.n, o->user);
    }
    for (int c = 0; c < result->n; c++) {
        result->scores[c].top1 /= (double)s->test.n;
        result->scores[c].top5 /= (double)s->test.n;
        if (result->scores[c].top1 > result->scores[result->best].top1) result->best = c;
    }
}

static bool start_result(const tsr_knn_options *options, search *s, tsr_knn_result *result)
{
    static const int64_t usual[] = {10, 20, 100, 200};
    const int64_t *k = options->k != NULL ? options->k : usual;
    result->n = options->k != NULL ? options->n_k : (int)(sizeof usual / sizeof *usual);
    if (result->n < 1 || result->n > TSR_KNN_MAX_COUNTS) {
        tsr_fail(TSR_STATUS_ARGUMENT, "knn_evaluate: %d numbers of neighbours, expected 1 to %d",
                 result->n, TSR_KNN_MAX_COUNTS);
        return false;
    }
    for (int c = 0; c < result->n; c++) {
        if (k[c] < 1 || k[c] > TSR_KNN_MAX_K) {
            tsr_fail(TSR_STATUS_ARGUMENT, "knn_evaluate: k is %lld, expected 1 to %d",
                     (long long)k[c], TSR_KNN_MAX_K);
            return false;
        }
        const int64_t used = k[c] < s->train.n ? k[c] : s->train.n;
        result->scores[c] = (tsr_knn_score){.k = k[c], .used = used};
        if (used > s->most) s->most = used;
    }
    s->temperature = options->temperature != 0.0 ? options->temperature : 0.07;
    if (!(s->temperature > 0.0 && isfinite(s->temperature))) {
        tsr_fail(TSR_STATUS_ARGUMENT, "knn_evaluate: temperature is %g, expected a positive number",
                 s->temperature);
        return false;
    }
    return true;
}

static bool allocate(search *s, int counts)
{
    const size_t threads = (size_t)tsr_threads();
    s->scale = tsr_alloc((size_t)s->train.n * sizeof *s->scale);
    s->block = tsr_alloc((size_t)s->train.d * TEST_BLOCK * sizeof *s->block);
    s->similarities = tsr_alloc((size_t)TEST_BLOCK * TRAIN_BLOCK * sizeof *s->similarities);
    s->nearest = tsr_alloc((size_t)s->most * TEST_BLOCK * sizeof *s->nearest);
    s->votes = tsr_alloc(threads * (size_t)s->classes * sizeof *s->votes);
    s->hits = tsr_alloc((size_t)counts * TEST_BLOCK);
    if (s->votes != NULL) memset(s->votes, 0, threads * (size_t)s->classes * sizeof *s->votes);
    return s->scale != NULL && s->block != NULL && s->similarities != NULL && s->nearest != NULL &&
           s->votes != NULL && s->hits != NULL;
}

tsr_status tsr_knn_evaluate(const tsr_features *train, const tsr_features *test,
                            const tsr_knn_options *options, tsr_knn_result *result)
{
    static const tsr_knn_options usual = {0};
    const tsr_knn_options *o = options != NULL ? options : &usual;
    search s = {0};
    tsr_knn_result found = {0};
    tsr_scope scope = tsr_scope_open();
    if (tsr_eval__sets("knn_evaluate", train, test, &s.train, &s.test, &s.classes) &&
        start_result(o, &s, &found) && allocate(&s, found.n)) {
        evaluate(&s, o, &found);
        *result = found;
    }
    tsr_free(s.scale);
    tsr_free(s.block);
    tsr_free(s.similarities);
    tsr_free(s.nearest);
    tsr_free(s.votes);
    tsr_free(s.hits);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_status_get();
}
