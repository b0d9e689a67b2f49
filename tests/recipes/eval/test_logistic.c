/* Logistic regression: optima that are known, and the gradient at those that are not. */
#include "sets.h"

static tsr_logistic_result run(tsr_features train, tsr_features test, tsr_logistic_options options)
{
    tsr_logistic_result result = {0};
    tsr_logistic_evaluate(&train, &test, &options, &result);
    assert_ok();
    return result;
}

/*
 * Two images, x of class 1 and -x of class 0: W = (-w, w) by symmetry, and F = log(1 + exp(-2 w x)) + lambda / 2 w^2 is least
 * where lambda w = 2 x / (1 + exp(2 w x)), which bisection finds.
 */
static void test_logistic__finds_the_known_optimum(void **state)
{
    (void)state;
    for (int keep = 0; keep < 2; keep++) {
        tsr_features set = make_set(2, 1, (float[]){3, -3}, (int64_t[]){1, 0});
        static const double penalties[] = {0.01, 1.0, 30.0};
        tsr_logistic_options o = {
            .penalties = penalties, .n_penalties = 3, .keep_norms = keep, .tolerance = 1e-7};
        tsr_logistic_result all = run(set, set, o);
        for (int k = 0; k < 3; k++) {
            o.penalties = &penalties[k];
            o.n_penalties = 1;
            tsr_logistic_result r = run(set, set, o);
            const double x = keep ? 3.0 : 1.0;
            double low = 0.0, high = 1000.0;
            for (int i = 0; i < 200; i++) {
                const double w = 0.5 * (low + high);
                if (penalties[k] * w < 2.0 * x / (1.0 + exp(2.0 * w * x))) {
                    low = w;
                } else {
                    high = w;
                }
            }
            assert_true(r.scores[0].converged);
            assert_true(r.scores[0].gradient <= 1e-7);
            assert_true(r.scores[0].top1 == 1.0);
            assert_true(fabs(tsr_tensor_get(r.weight, 1) / low - 1.0) < 1e-3);
            assert_true(fabs(tsr_tensor_get(r.weight, 0) + tsr_tensor_get(r.weight, 1)) < 1e-6);
            const double f = log1p(exp(-2.0 * low * x)) + 0.5 * penalties[k] * low * low;
            assert_true(fabs(r.scores[0].objective - f) < 1e-9);
            /* The same minimum after a start at that of another penalty. */
            assert_true(fabs(all.scores[k].objective - f) < 1e-9);
        }
    }
}

/* F and the largest entry of its gradient, naively. */
static double naive(tsr_features set, tsr_tensor *weight, double penalty, double *largest)
{
    const int64_t n = tsr_tensor_size(set.x, 0), d = tsr_tensor_size(set.x, 1);
    const int64_t classes = tsr_tensor_size(weight, 0);
    tsr_tensor *gradient = tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(classes, d));
    double *g = tsr_tensor_data_mut(gradient), f = 0.0, p[16];
    const float *w = tsr_tensor_data(weight);
    for (int64_t i = 0; i < n; i++) {
        const float *x = (const float *)tsr_tensor_data(set.x) + i * d;
        const int64_t label = ((const int64_t *)tsr_tensor_data(set.labels))[i];
        double length = 0.0, sum = 0.0;
        for (int64_t j = 0; j < d; j++) length += (double)x[j] * (double)x[j];
        length = sqrt(length);
        for (int64_t c = 0; c < classes; c++) {
            double logit = 0.0;
            for (int64_t j = 0; j < d; j++) logit += w[c * d + j] * x[j] / length;
            p[c] = exp(logit);
            sum += p[c];
        }
        f -= log(p[label] / sum) / (double)n;
        for (int64_t c = 0; c < classes; c++) {
            const double e = (p[c] / sum - (c == label)) / (double)n;
            for (int64_t j = 0; j < d; j++) g[c * d + j] += e * x[j] / length;
        }
    }
    *largest = 0.0;
    for (int64_t i = 0; i < classes * d; i++) {
        f += 0.5 * penalty / (double)n * w[i] * w[i];
        *largest = fmax(*largest, fabs(g[i] + penalty / (double)n * w[i]));
    }
    return f;
}

static void test_logistic__gradient_vanishes(void **state)
{
    (void)state;
    /* More images than a block holds. */
    tsr_features train = random_set(2500, 9, 6, 1.2, 0), test = random_set(500, 9, 6, 1.2, 1);
    tsr_logistic_options o = {.penalties = (double[]){0.1}, .n_penalties = 1, .tolerance = 1e-9};
    tsr_logistic_result r = run(train, test, o);
    double gradient, f = naive(train, r.weight, 0.1, &gradient);
    assert_true(r.scores[0].converged);
    assert_true(r.scores[0].iterations > 5);
    assert_true(gradient < 1e-6); /* the weights come in f32 */
    assert_true(fabs(f - r.scores[0].objective) < 1e-9);
    assert_true(r.scores[0].top1 > 0.5);
}

/* W lies in the span of what it saw, and a larger penalty means smaller weights. */
static void test_logistic__penalties_shrink(void **state)
{
    (void)state;
    tsr_features train = random_set(300, 4, 3, 1.0, 0);
    static const double penalties[] = {0.01, 1.0, 100.0};
    double before = INFINITY;
    for (int k = 0; k < 3; k++) {
        tsr_logistic_options o = {.penalties = &penalties[k], .n_penalties = 1};
        tsr_tensor *w = run(train, train, o).weight;
        double sum = 0.0;
        for (int64_t i = 0; i < 12; i++) sum += pow(tsr_tensor_get(w, i), 2.0);
        assert_true(sum > 0.0 && sum < before);
        before = sum;
    }
    tsr_logistic_result r = run(train, train, (tsr_logistic_options){0});
    assert_int_equal(r.n, 3);
    assert_true(r.scores[1].penalty == 0.1);
    for (int k = 0; k < 3; k++) assert_true(r.scores[r.best].top1 >= r.scores[k].top1);
}

static void test_logistic__says_when_it_did_not_converge(void **state)
{
    (void)state;
    tsr_features train = random_set(300, 4, 3, 1.0, 0);
    tsr_logistic_result r = run(train, train, (tsr_logistic_options){.iterations = 2});
    assert_false(r.scores[0].converged);
    assert_int_equal(r.scores[0].iterations, 2);
    assert_true(r.scores[0].gradient > 1e-5);
    /* No gradient this small can be had in f64: the line search gives up instead of looping. */
    tsr_logistic_options o = {.penalties = (double[]){1.0}, .n_penalties = 1, .tolerance = 1e-300};
    r = run(train, train, o);
    assert_false(r.scores[0].converged);
    assert_true(r.scores[0].gradient < 1e-9);
    assert_true(r.scores[0].iterations < 300);
}

static void test_logistic__tells_of_each_iteration(void **state)
{
    (void)state;
    tsr_features train = random_set(300, 4, 3, 1.0, 0);
    steps s = {0};
    tsr_logistic_options o = {.iterations = 2, .progress = count_steps, .user = &s};
    run(train, train, o);
    assert_int_equal(s.calls, 6); /* of three penalties */
    assert_int_equal(s.done, 6);
    assert_int_equal(s.of, 6);
}

static void test_logistic__same_bits_at_any_thread_count(void **state)
{
    (void)state;
    tsr_features train = random_set(2500, 40, 11, 2.0, 0), test = random_set(300, 40, 11, 2.0, 1);
    const int before = tsr_threads();
    tsr_logistic_result first = {0};
    for (int threads = 1; threads <= 4; threads++) {
        tsr_threads_set(threads);
        tsr_logistic_result r = run(train, test, (tsr_logistic_options){.iterations = 15});
        if (threads == 1) first = r;
        for (int k = 0; k < 3; k++) {
            assert_true(first.scores[k].objective == r.scores[k].objective);
            assert_true(first.scores[k].top1 == r.scores[k].top1);
        }
        assert_same(first.weight, r.weight);
    }
    tsr_threads_set(before);
}

static void test_logistic__refuses(void **state)
{
    (void)state;
    tsr_features good = random_set(4, 2, 2, 0.1, 0);
    tsr_logistic_result r = {.n = 77};
    tsr_logistic_options o = {.penalties = (double[]){0.1, 0.0}, .n_penalties = 2};
    tsr_logistic_evaluate(&good, &good, &o, &r);
    assert_failed(TSR_STATUS_ARGUMENT, "penalty 1 is 0, expected it positive");
    o = (tsr_logistic_options){.tolerance = NAN};
    tsr_logistic_evaluate(&good, &good, &o, &r);
    assert_failed(TSR_STATUS_ARGUMENT, "tolerance nan");
    assert_int_equal(r.n, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_logistic__finds_the_known_optimum),
        tsr_test(test_logistic__gradient_vanishes),
        tsr_test(test_logistic__penalties_shrink),
        tsr_test(test_logistic__says_when_it_did_not_converge),
        tsr_test(test_logistic__tells_of_each_iteration),
        tsr_test(test_logistic__same_bits_at_any_thread_count),
        tsr_test(test_logistic__refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
