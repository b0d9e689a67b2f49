/* Clusters against labels: by hand, against all assignments one by one, and against numbers that scikit-learn gave. */
#include "tests/test.h"

#include "recipes/eval/eval.h"

#include <math.h>

enum { MOST = 1024 };

static tsr_status evaluate(const int64_t *clusters, const int64_t *labels, int64_t n,
                           tsr_cluster_result *r)
{
    return tsr_cluster_evaluate(tsr_from(TSR_DTYPE_I64, TSR_SHAPE(n), clusters),
                                tsr_from(TSR_DTYPE_I64, TSR_SHAPE(n), labels), r);
}

static void assert_near(double got, double wanted)
{
    if (!(fabs(got - wanted) < 1e-12)) fail_msg("got %.17g, wanted %.17g", got, wanted);
}

static void test_cluster__by_hand(void **state)
{
    (void)state;
    const int64_t clusters[] = {0, 0, 1, 1, 1, 2}, labels[] = {1, 1, 0, 0, 2, 2};
    tsr_cluster_result r;
    assert_int_equal(evaluate(clusters, labels, 6, &r), TSR_STATUS_OK);
    assert_int_equal(r.clusters, 3);
    assert_int_equal(r.classes, 3);
    assert_near(r.accuracy, 5.0 / 6.0);
    /* Pairs: 2 in both, 4 in one cluster, 3 in one class, of 15. */
    assert_near(r.ari, (2.0 - 4.0 * 3.0 / 15.0) / (3.5 - 4.0 * 3.0 / 15.0));
    assert_near(r.fmi, 2.0 / sqrt(4.0 * 3.0));
    double h_clusters = log(3.0) / 3.0 + log(2.0) / 2.0 + log(6.0) / 6.0, h_classes = log(3.0);
    double h_both = 2.0 * log(3.0) / 3.0 + 2.0 * log(6.0) / 6.0;
    assert_near(r.nmi, (h_clusters + h_classes - h_both) / (0.5 * (h_clusters + h_classes)));
}

static void test_cluster__other_names_change_nothing(void **state)
{
    (void)state;
    const int64_t clusters[] = {70, 70, 8191, 8191, 0}, labels[] = {2, 2, 0, 0, 999};
    tsr_cluster_result r;
    assert_int_equal(evaluate(clusters, labels, 5, &r), TSR_STATUS_OK);
    assert_near(r.accuracy, 1.0);
    assert_near(r.ari, 1.0);
    assert_near(r.nmi, 1.0);
    assert_near(r.fmi, 1.0);
}

static void test_cluster__degenerate_partitions(void **state)
{
    (void)state;
    const int64_t one[] = {0, 0, 0, 0}, own[] = {0, 1, 2, 3}, two[] = {0, 0, 1, 1};
    static const struct {
        const int64_t *clusters, *labels;
        int64_t n;
        double accuracy, ari, nmi, fmi; /* scikit-learn 1.9.1 */
    } cases[4] = {{NULL, NULL, 1, 1.0, 1.0, 1.0, 0.0},
                  {NULL, NULL, 4, 0.5, 0.0, 0.0, 0.57735026918962584},
                  {NULL, NULL, 4, 1.0, 1.0, 1.0, 0.0},
                  {NULL, NULL, 4, 1.0, 1.0, 1.0, 1.0}};
    const int64_t *const sets[4][2] = {{one, one}, {one, two}, {own, own}, {one, one}};
    for (int i = 0; i < 4; i++) {
        tsr_cluster_result r;
        assert_int_equal(evaluate(sets[i][0], sets[i][1], cases[i].n, &r), TSR_STATUS_OK);
        assert_near(r.accuracy, cases[i].accuracy);
        assert_near(r.ari, cases[i].ari);
        assert_near(r.nmi, cases[i].nmi);
        assert_near(r.fmi, cases[i].fmi);
    }
}

/* The most that rows from `row` on can get of columns not yet taken. */
static int64_t try_all(const int64_t *table, int rows, int columns, int row, unsigned taken)
{
    if (row == rows) return 0;
    int64_t best = try_all(table, rows, columns, row + 1, taken); /* this row goes without */
    for (int c = 0; c < columns; c++) {
        if (taken & 1u << c) continue;
        int64_t sum =
            table[row * columns + c] + try_all(table, rows, columns, row + 1, taken | 1u << c);
        if (sum > best) best = sum;
    }
    return best;
}

static void test_cluster__assignment_is_the_best_of_all(void **state)
{
    (void)state;
    static const int sizes[][2] = {{2, 2}, {3, 3}, {5, 5}, {6, 6}, {3, 6}, {6, 3}, {1, 4}, {4, 1}};
    for (uint32_t seed = 0; seed < 160; seed++) {
        int rows = sizes[seed % 8][0], columns = sizes[seed % 8][1];
        int64_t table[36], clusters[MOST], labels[MOST], n = 0;
        tsr_rng rng = tsr_rng_make(seed, 0, 0, 0);
        /* Few distinct counts, so that there are ties. */
        for (int i = 0; i < rows * columns; i++) {
            table[i] = tsr_rng_below(&rng, seed % 3 == 0 ? 3 : 20);
            for (int64_t k = 0; k < table[i]; k++, n++) {
                clusters[n] = i / columns;
                labels[n] = i % columns;
            }
        }
        if (n == 0) continue;
        tsr_scope scope = tsr_scope_open();
        tsr_cluster_result r;
        assert_int_equal(evaluate(clusters, labels, n, &r), TSR_STATUS_OK);
        assert_near(r.accuracy * (double)n, (double)try_all(table, rows, columns, 0, 0));
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
}

static int64_t next(uint32_t *s)
{
    *s = (*s * 1103515245u + 12345u) & 0x7fffffffu;
    return *s >> 8;
}

/* scikit-learn 1.9.1 and scipy 1.17.1 on the same numbers. */
static void test_cluster__scikit_learns_numbers(void **state)
{
    (void)state;
    static const struct {
        int n, k, c, keep, clusters, classes;
        double accuracy, ari, nmi, fmi;
    } cases[] = {
        {1000, 10, 10, 60, 10, 10, 0.653, 0.37722996466712144, 0.40800822037304657,
         0.4392007527418616},
        {1000, 37, 10, 70, 37, 10, 0.714, 0.5947763351602654, 0.5984440973760613,
         0.6422060488943228},
        {1000, 4, 12, 50, 4, 12, 0.227, 0.10292094278914489, 0.1636192241693568,
         0.24803957739485985},
        {500, 20, 20, 0, 20, 20, 0.136, -0.0007684063054817832, 0.1423146136540681,
         0.04900095283537942},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t clusters[MOST], labels[MOST];
        uint32_t s = 12345;
        for (int m = 0; m < cases[i].n; m++) {
            labels[m] = next(&s) % cases[i].c;
            int64_t other = next(&s) % cases[i].k;
            clusters[m] = next(&s) % 100 < cases[i].keep ? (7 * labels[m] + 3) % cases[i].k : other;
        }
        tsr_cluster_result r;
        assert_int_equal(evaluate(clusters, labels, cases[i].n, &r), TSR_STATUS_OK);
        assert_int_equal(r.clusters, cases[i].clusters);
        assert_int_equal(r.classes, cases[i].classes);
        assert_near(r.accuracy, cases[i].accuracy);
        assert_near(r.ari, cases[i].ari);
        assert_near(r.nmi, cases[i].nmi);
        assert_near(r.fmi, cases[i].fmi);
    }
}

static void test_cluster__bad_input_is_named(void **state)
{
    (void)state;
    const int64_t clusters[] = {0, 1, 1}, labels[] = {0, -1, 1};
    tsr_cluster_result r = {.accuracy = 7.0};
    evaluate(clusters, labels, 3, &r);
    assert_failed(TSR_STATUS_ARGUMENT, "image 1 has -1 among labels");
    tsr_cluster_evaluate(tsr_from(TSR_DTYPE_I64, TSR_SHAPE(2), clusters),
                         tsr_from(TSR_DTYPE_I64, TSR_SHAPE(3), clusters), &r);
    assert_failed(TSR_STATUS_SHAPE, "clusters are i64 [2]");
    tsr_cluster_evaluate(NULL, tsr_from(TSR_DTYPE_I64, TSR_SHAPE(3), clusters), &r);
    assert_failed(TSR_STATUS_SHAPE, "clusters are NULL");
    assert_true(r.accuracy == 7.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_cluster__by_hand),
        tsr_test(test_cluster__other_names_change_nothing),
        tsr_test(test_cluster__degenerate_partitions),
        tsr_test(test_cluster__assignment_is_the_best_of_all),
        tsr_test(test_cluster__scikit_learns_numbers),
        tsr_test(test_cluster__bad_input_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
