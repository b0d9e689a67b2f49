/* The health monitor on distributions whose numbers are known, and the warnings of the two collapses. */
#include "tests/test.h"

#include "recipes/train/monitor.h"

enum { ROWS = 8, K = 8 };

/* Rows of K probabilities: all equal, all on prototype 0, or one prototype a row. */
enum kind { UNIFORM, CONSTANT, SPREAD };

static tsr_tensor *rows(enum kind kind)
{
    float p[ROWS * K] = {0};
    for (int r = 0; r < ROWS; r++) {
        for (int k = 0; k < K; k++) {
            bool on = kind == CONSTANT ? k == 0 : k == r;
            p[r * K + k] = kind == UNIFORM ? 1.0f / K : on ? 1.0f : 0.0f;
        }
    }
    return tsr_from(TSR_DTYPE_F32, TSR_SHAPE(ROWS, K), p);
}

static void look(tsr_monitor *m, int64_t step, enum kind kind)
{
    tsr_monitor_begin(m, step);
    tsr_monitor_distribution(m, "cls", rows(kind));
}

static double value(const tsr_monitor *m, const char *name)
{
    return tsr_monitor_value(tsr_monitor_at(m, tsr_monitor_count(m) - 1), name);
}

static void test_monitor__measures_distributions(void **state)
{
    (void)state;
    static const double wanted[][3] = {{1.0, 1.0, 1.0 / 8}, {0.0, 0.0, 1.0 / 8}, {0.0, 1.0, 1.0}};
    tsr_monitor *m = tsr_monitor_create();
    for (int kind = UNIFORM; kind <= SPREAD; kind++) {
        look(m, kind, (enum kind)kind);
        assert_true(fabs(value(m, "cls_entropy") - wanted[kind][0]) < 1e-6);
        assert_true(fabs(value(m, "cls_spread") - wanted[kind][1]) < 1e-6);
        assert_true(fabs(value(m, "cls_used") - wanted[kind][2]) < 1e-6);
    }
    tsr_monitor_agreement(m, "cls", rows(SPREAD), rows(CONSTANT));
    assert_true(fabs(value(m, "cls_agreement") - 1.0 / 8) < 1e-12);
    tsr_monitor_free(&m);
}

static void test_monitor__features_that_are_all_the_same_do_not_deviate(void **state)
{
    (void)state;
    tsr_monitor *m = tsr_monitor_create();
    tsr_monitor_begin(m, 0);
    tsr_monitor_features(m, rows(CONSTANT));
    assert_true(fabs(value(m, "feature_std")) < 1e-9);
    tsr_monitor_begin(m, 1);
    tsr_monitor_features(m, rows(SPREAD)); /* each dimension: mean 1/8, mean square 1/8 */
    assert_true(fabs(value(m, "feature_std") - sqrt(7.0 / 64.0) * sqrt(8.0)) < 1e-6);
    tsr_monitor_free(&m);
}

static void warns(enum kind kind, const char *text)
{
    char buffer[TSR_MONITOR_WARNING];
    tsr_monitor *m = tsr_monitor_create();
    look(m, 0, kind);
    assert_string_equal(tsr_monitor_warning(m, buffer), ""); /* one look alone says nothing */
    look(m, 1, kind);
    tsr_monitor_warning(m, buffer);
    if (text == NULL) {
        assert_string_equal(buffer, "");
    } else {
        assert_non_null(strstr(buffer, text));
    }
    tsr_monitor_free(&m);
}

static void test_monitor__warns_of_both_collapses_and_of_nothing_else(void **state)
{
    (void)state;
    warns(UNIFORM, "--teacher-temp");
    warns(CONSTANT, "--center-momentum");
    warns(SPREAD, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_monitor__measures_distributions),
        tsr_test(test_monitor__features_that_are_all_the_same_do_not_deviate),
        tsr_test(test_monitor__warns_of_both_collapses_and_of_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
