/* Weighted k-NN: votes that can be counted by hand, and a naive search in f64. */
#include "sets.h"

#include <stdlib.h>

static tsr_knn_result run(tsr_features train, tsr_features test, const int64_t *k, int n_k)
{
    tsr_knn_result result = {0};
    tsr_knn_evaluate(&train, &test, &(tsr_knn_options){.k = k, .n_k = n_k}, &result);
    assert_ok();
    return result;
}

/* Two images at the test image, of classes 1 and 0, one at a right angle, of class 2. */
static void test_knn__ties_go_to_lower_index_and_lower_class(void **state)
{
    (void)state;
    tsr_features train = make_set(3, 2, (float[]){2, 0, 1, 0, 0, 1}, (int64_t[]){1, 0, 2});
    static const int64_t k[] = {1, 2, 3};
    for (int64_t label = 0; label < 4; label++) {
        tsr_features test = make_set(1, 2, (float[]){3, 0}, &label);
        tsr_knn_result r = run(train, test, k, 3);
        assert_int_equal(r.n, 3);
        /* k = 1: of the two nearest, image 0 (class 1) comes first. */
        assert_true(r.scores[0].top1 == (label == 1));
        assert_true(r.scores[0].top5 == (label == 1));
        /* k = 2: classes 0 and 1 have equal votes, so 0 is first. */
        assert_true(r.scores[1].top1 == (label == 0));
        assert_true(r.scores[1].top5 == (label <= 1));
        /* k = 3: class 2 votes with exp(0), after the two with exp(1 / 0.07). */
        assert_true(r.scores[2].top1 == (label == 0));
        assert_true(r.scores[2].top5 == (label <= 2));
    }
}

/* One near neighbour outvotes two that are farther, or not, by the temperature. */
static void test_knn__weighs_by_the_temperature(void **state)
{
    (void)state;
    /* Similarities 1, 0.6, 0.6: exp(1 / T) against 2 exp(0.6 / T) are equal at T = 0.4 / ln 2 = 0.577. */
    tsr_features train = make_set(3, 2, (float[]){1, 0, 3, 4, 3, -4}, (int64_t[]){0, 1, 1});
    tsr_features test = make_set(1, 2, (float[]){1, 0}, (int64_t[]){0});
    static const double temperatures[] = {1e-5, 0.07, 0.57, 0.585, 10.0};
    for (int t = 0; t < 5; t++) {
        tsr_knn_result r;
        tsr_knn_options options = {.k = (int64_t[]){3}, .n_k = 1, .temperature = temperatures[t]};
        tsr_knn_evaluate(&train, &test, &options, &r);
        assert_ok();
        assert_true(r.scores[0].top1 == (t < 3));
        assert_true(r.scores[0].top5 == 1.0);
    }
}

/* A label that none of the neighbours has is not recognised, although fewer than five classes got votes. */
static void test_knn__classes_without_votes_are_not_ranked(void **state)
{
    (void)state;
    tsr_features train = make_set(4, 1, (float[]){1, 1, 1, -1}, (int64_t[]){0, 0, 0, 1});
    tsr_features test = make_set(1, 1, (float[]){1}, (int64_t[]){1});
    tsr_knn_result r = run(train, test, (int64_t[]){3, 4}, 2);
    assert_true(r.scores[0].top5 == 0.0);
    assert_true(r.scores[1].top5 == 1.0);
    assert_true(r.scores[1].top1 == 0.0);
}

typedef struct pair {
    double similarity;
    int64_t index;
} pair;

static int by_similarity(const void *a, const void *b)
{
    const pair *p = a, *q = b;
    if (p->similarity != q->similarity) return p->similarity > q->similarity ? -1 : 1;
    return p->index < q->index ? -1 : 1;
}

static void naive(tsr_features train, tsr_features test, int64_t classes, int64_t k, double *top1,
                  double *top5)
{
    const int64_t n = tsr_tensor_size(train.x, 0), m = tsr_tensor_size(test.x, 0);
    const int64_t d = tsr_tensor_size(train.x, 1);
    const float *a = tsr_tensor_data(train.x), *b = tsr_tensor_data(test.x);
    const int64_t *la = tsr_tensor_data(train.labels), *lb = tsr_tensor_data(test.labels);
    pair *pairs = malloc((size_t)n * sizeof *pairs);
    double *votes = malloc((size_t)classes * sizeof *votes);
    *top1 = *top5 = 0.0;
    for (int64_t t = 0; t < m; t++) {
        for (int64_t i = 0; i < n; i++) {
            double ab = 0.0, aa = 0.0, bb = 0.0;
            for (int64_t j = 0; j < d; j++) {
                const double x = a[i * d + j], y = b[t * d + j];
                ab += x * y;
                aa += x * x;
                bb += y * y;
            }
            pairs[i] = (pair){ab / sqrt(aa * bb), i};
        }
        qsort(pairs, (size_t)n, sizeof *pairs, by_similarity);
        for (int64_t c = 0; c < classes; c++) votes[c] = 0.0;
        for (int64_t i = 0; i < k; i++) {
            votes[la[pairs[i].index]] += exp(pairs[i].similarity / 0.07);
        }
        int64_t rank = 0;
        for (int64_t c = 0; c < classes; c++) rank += votes[c] > votes[lb[t]];
        *top1 += votes[lb[t]] > 0.0 && rank < 1;
        *top5 += votes[lb[t]] > 0.0 && rank < 5;
    }
    *top1 /= (double)m;
    *top5 /= (double)m;
    free(pairs);
    free(votes);
}

/* More images than a block holds of either, an odd number of features, more classes than 1000 in one of the runs. */
static void test_knn__agrees_with_a_naive_search(void **state)
{
    (void)state;
    static const int64_t k[] = {200, 1, 10};
    static const struct {
        int64_t train, test, d, classes;
    } sizes[] = {{4500, 600, 7, 12}, {1300, 37, 16, 1200}, {3, 2, 5, 2}};
    for (int s = 0; s < 3; s++) {
        tsr_features train = random_set(sizes[s].train, sizes[s].d, sizes[s].classes, 0.9, 0);
        tsr_features test = random_set(sizes[s].test, sizes[s].d, sizes[s].classes, 0.9, 1);
        tsr_knn_result r = run(train, test, k, 3);
        for (int c = 0; c < 3; c++) {
            double top1, top5;
            const int64_t used = k[c] < sizes[s].train ? k[c] : sizes[s].train;
            naive(train, test, sizes[s].classes, used, &top1, &top5);
            assert_int_equal(r.scores[c].k, k[c]);
            assert_int_equal(r.scores[c].used, used);
            assert_true(r.scores[c].top1 == top1);
            assert_true(r.scores[c].top5 == top5);
            assert_true(r.scores[r.best].top1 >= top1);
        }
    }
}

static void test_knn__does_not_see_lengths(void **state)
{
    (void)state;
    tsr_features train = random_set(300, 6, 4, 0.9, 0), test = random_set(50, 6, 4, 0.9, 1);
    tsr_knn_result before = run(train, test, NULL, 0);
    float *x = tsr_tensor_data_mut(train.x), *y = tsr_tensor_data_mut(test.x);
    for (int64_t i = 0; i < 300 * 6; i++) x[i] = ldexpf(x[i], (int)(i / 6 % 40) - 20);
    for (int64_t i = 0; i < 50 * 6; i++) y[i] = ldexpf(y[i], (int)(i / 6 % 9));
    tsr_knn_result after = run(train, test, NULL, 0);
    assert_int_equal(before.n, 4);
    assert_true(before.scores[0].top1 > 0.5);
    assert_memory_equal(before.scores, after.scores, 4 * sizeof before.scores[0]);
}

/* An image of zeros has no direction: similarity 0 to all, not NaN. */
static void test_knn__survives_features_of_zeros(void **state)
{
    (void)state;
    tsr_features train = make_set(2, 2, (float[]){0, 0, -1, 0}, (int64_t[]){1, 0});
    tsr_features test = make_set(2, 2, (float[]){1, 0, 0, 0}, (int64_t[]){1, 1});
    tsr_knn_result r = run(train, test, (int64_t[]){1}, 1);
    assert_true(r.scores[0].top1 == 1.0);
}

static void test_knn__tells_of_each_block(void **state)
{
    (void)state;
    tsr_features train = random_set(40, 3, 2, 0.5, 0), test = random_set(1100, 3, 2, 0.5, 1);
    steps s = {0};
    tsr_knn_result r;
    tsr_knn_evaluate(&train, &test, &(tsr_knn_options){.progress = count_steps, .user = &s}, &r);
    assert_ok();
    assert_int_equal(s.calls, 3);
    assert_int_equal(s.done, 1100);
    assert_int_equal(s.of, 1100);
}

static void test_knn__same_bits_at_any_thread_count(void **state)
{
    (void)state;
    tsr_features train = random_set(5000, 33, 20, 1.5, 0), test = random_set(700, 33, 20, 1.5, 1);
    const int before = tsr_threads();
    tsr_knn_result first = {0};
    for (int threads = 1; threads <= 4; threads++) {
        tsr_threads_set(threads);
        tsr_knn_result r = run(train, test, NULL, 0);
        if (threads == 1) first = r;
        assert_memory_equal(first.scores, r.scores, 4 * sizeof r.scores[0]);
    }
    tsr_threads_set(before);
}

static void test_knn__refuses(void **state)
{
    (void)state;
    tsr_features good = make_set(2, 2, (float[]){1, 2, 3, 4}, (int64_t[]){0, 1});
    tsr_features wide = make_set(1, 3, (float[]){1, 2, 3}, (int64_t[]){0});
    tsr_features unlabelled = make_set(1, 2, (float[]){1, 2}, (int64_t[]){-1});
    tsr_features broken = make_set(1, 2, (float[]){1, NAN}, (int64_t[]){0});
    tsr_features empty = {tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(0, 2)),
                          tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(0))};
    tsr_features typed = {tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(1, 2)), unlabelled.labels};
    tsr_features few = {good.x, unlabelled.labels};
    tsr_features null = {0};
    tsr_knn_result r = {.n = 77};
    tsr_knn_evaluate(&good, &wide, NULL, &r);
    assert_failed(TSR_STATUS_SHAPE, "test features have shape [1, 3], expected [1, 2]");
    tsr_knn_evaluate(&unlabelled, &good, NULL, &r);
    assert_failed(TSR_STATUS_ARGUMENT, "training image 0 has label -1");
    tsr_knn_evaluate(&good, &broken, NULL, &r);
    assert_failed(TSR_STATUS_NUMERIC, "test features are not all finite");
    tsr_knn_evaluate(&empty, &good, NULL, &r);
    assert_failed(TSR_STATUS_SHAPE, "training features have shape [0, 2]");
    tsr_knn_evaluate(&typed, &good, NULL, &r);
    assert_failed(TSR_STATUS_DTYPE, "training features are f64");
    tsr_knn_evaluate(&few, &good, NULL, &r);
    assert_failed(TSR_STATUS_SHAPE, "training labels are i64 [1], expected i64 [2]");
    tsr_knn_evaluate(&good, &null, NULL, &r);
    assert_failed(TSR_STATUS_ARGUMENT, "test features or labels are NULL");
    tsr_knn_evaluate(&good, &good, &(tsr_knn_options){.k = (int64_t[]){0}, .n_k = 1}, &r);
    assert_failed(TSR_STATUS_ARGUMENT, "k is 0, expected 1 to 4096");
    tsr_knn_evaluate(&good, &good, &(tsr_knn_options){.temperature = -1.0}, &r);
    assert_failed(TSR_STATUS_ARGUMENT, "temperature is -1");
    assert_int_equal(r.n, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_knn__ties_go_to_lower_index_and_lower_class),
        tsr_test(test_knn__weighs_by_the_temperature),
        tsr_test(test_knn__classes_without_votes_are_not_ranked),
        tsr_test(test_knn__agrees_with_a_naive_search),
        tsr_test(test_knn__does_not_see_lengths),
        tsr_test(test_knn__survives_features_of_zeros),
        tsr_test(test_knn__tells_of_each_block),
        tsr_test(test_knn__same_bits_at_any_thread_count),
        tsr_test(test_knn__refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
