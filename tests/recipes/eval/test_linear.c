/* The linear probe against a naive training loop in f64. */
#include "sets.h"

enum { N = 23, D = 5, C = 3 };

static tsr_linear_result run(tsr_features train, tsr_features test, tsr_linear_options options)
{
    tsr_linear_result result = {0};
    tsr_linear_evaluate(&train, &test, &options, &result);
    assert_ok();
    return result;
}

static double naive_w[C][D], naive_b[C];

/* Five epochs of batches 8, 8 and 7. */
static void naive(tsr_features train, double rate, uint64_t seed)
{
    const float *x = tsr_tensor_data(train.x);
    const int64_t *labels = tsr_tensor_data(train.labels);
    double mw[C][D] = {0}, mb[C] = {0};
    tsr_tensor *first = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(C, D));
    tsr_fill_normal(first, tsr_rng_make(seed, 0, 0, tsr_rng_purpose("linear probe weights")), 0.0,
                    0.01);
    for (int i = 0; i < C * D; i++) naive_w[i / D][i % D] = tsr_tensor_get(first, i);
    for (int c = 0; c < C; c++) naive_b[c] = 0.0;
    for (uint32_t epoch = 0; epoch < 5; epoch++) {
        int64_t order[N];
        tsr_rng rng = tsr_rng_make(seed, epoch, 0, tsr_rng_purpose("linear probe shuffle"));
        tsr_rng_permutation(&rng, N, order);
        const double lr = rate * 8.0 / 256.0 * 0.5 * (1.0 + cos(acos(-1.0) * epoch / 5.0));
        for (int start = 0; start < N; start += 8) {
            const int n = N - start < 8 ? N - start : 8;
            double gw[C][D] = {0}, gb[C] = {0};
            for (int i = start; i < start + n; i++) {
                const float *row = x + order[i] * D;
                double p[C], sum = 0.0;
                for (int c = 0; c < C; c++) {
                    double logit = naive_b[c];
                    for (int j = 0; j < D; j++) logit += naive_w[c][j] * row[j];
                    p[c] = exp(logit);
                    sum += p[c];
                }
                for (int c = 0; c < C; c++) {
                    const double g = (p[c] / sum - (c == labels[order[i]])) / n;
                    gb[c] += g;
                    for (int j = 0; j < D; j++) gw[c][j] += g * row[j];
                }
            }
            for (int c = 0; c < C; c++) {
                mb[c] = 0.9 * mb[c] + gb[c];
                naive_b[c] -= lr * mb[c];
                for (int j = 0; j < D; j++) {
                    mw[c][j] = 0.9 * mw[c][j] + gw[c][j];
                    naive_w[c][j] -= lr * mw[c][j];
                }
            }
        }
    }
}

static void test_linear__agrees_with_a_naive_loop(void **state)
{
    (void)state;
    tsr_features train = random_set(N, D, C, 0.7, 0);
    static const double rates[] = {0.3, 4.0, 60.0};
    for (int k = 0; k < 3; k++) {
        tsr_linear_options o = {
            .rates = &rates[k], .n_rates = 1, .epochs = 5, .batch = 8, .seed = 9};
        tsr_linear_result r = run(train, train, o);
        naive(train, rates[k], 9);
        assert_close(r.weight, tsr_from(TSR_DTYPE_F64, TSR_SHAPE(C, D), naive_w), 2e-6);
        assert_close(r.bias, tsr_from(TSR_DTYPE_F64, TSR_SHAPE(C), naive_b), 2e-6);
        const float *x = tsr_tensor_data(train.x);
        const int64_t *labels = tsr_tensor_data(train.labels);
        double right = 0.0;
        for (int i = 0; i < N; i++) {
            double logits[C];
            int best = 0;
            for (int c = 0; c < C; c++) {
                logits[c] = naive_b[c];
                for (int j = 0; j < D; j++) logits[c] += naive_w[c][j] * x[i * D + j];
                if (logits[c] > logits[best]) best = c;
            }
            right += best == labels[i];
        }
        assert_true(r.scores[0].top1 == right / N);
        assert_true(r.scores[0].top5 == 1.0);
    }
}

/* A rate gives what it gives alone, whatever the others do: one of them diverges. */
static void test_linear__rates_do_not_touch_each_other(void **state)
{
    (void)state;
    tsr_features train = random_set(200, D, C, 0.7, 0), test = random_set(100, D, C, 0.7, 1);
    static const double rates[] = {1e-3, 1e300, 0.5, 0.5};
    tsr_linear_options o = {.rates = rates, .n_rates = 4, .epochs = 10, .batch = 32};
    tsr_linear_result all = run(train, test, o);
    assert_int_equal(all.n, 4);
    assert_true(all.scores[1].top1 == 0.0 && all.scores[1].top5 == 0.0);
    assert_true(all.scores[2].top1 > 0.6);
    assert_true(all.scores[2].top1 == all.scores[3].top1);
    assert_int_equal(all.best, 2);
    o.rates = &rates[2];
    o.n_rates = 1;
    tsr_linear_result alone = run(train, test, o);
    assert_close(all.weight, alone.weight, 1e-5);
    assert_true(alone.scores[0].rate == 0.5);
}

static void test_linear__sweeps_the_authors_rates(void **state)
{
    (void)state;
    tsr_features train = random_set(20, 2, 2, 0.1, 0);
    tsr_linear_result r = run(train, train, (tsr_linear_options){.epochs = 1});
    assert_int_equal(r.n, 45);
    assert_true(fabs(r.scores[0].rate - 1e-4) < 1e-18);
    assert_true(fabs(r.scores[17].rate - 9e-3) < 1e-15);
    assert_true(fabs(r.scores[44].rate - 9.0) < 1e-12);
}

typedef struct source {
    tsr_tensor *x;
    int64_t calls;
} source;

static tsr_tensor *next_features(int64_t epoch, void *user)
{
    source *s = user;
    assert_int_equal(epoch, s->calls++);
    return s->x;
}

static void test_linear__asks_for_the_features_of_each_epoch(void **state)
{
    (void)state;
    tsr_features train = random_set(N, D, C, 0.7, 0), zeros = train;
    zeros.x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(N, D));
    tsr_linear_options o = {.epochs = 4, .batch = 8};
    tsr_linear_result plain = run(train, train, o);
    source s = {train.x, 0};
    o.epoch_features = next_features;
    o.user = &s;
    tsr_linear_result asked = run(zeros, train, o);
    assert_int_equal(s.calls, 4);
    assert_same(plain.weight, asked.weight);
    s = (source){tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(N, D + 1)), 0};
    tsr_linear_evaluate(&train, &train, &o, &asked);
    assert_failed(TSR_STATUS_SHAPE, "training features have shape [23, 6], expected [23, 5]");
    s = (source){NULL, 0};
    tsr_linear_evaluate(&train, &train, &o, &asked);
    assert_failed(TSR_STATUS_ARGUMENT, "training features are NULL");
}

static void test_linear__tells_of_each_step(void **state)
{
    (void)state;
    tsr_features train = random_set(23, 3, 2, 0.5, 0);
    steps s = {0};
    run(train, train,
        (tsr_linear_options){.epochs = 4, .batch = 8, .progress = count_steps, .user = &s});
    assert_int_equal(s.calls, 12);
    assert_int_equal(s.done, 12);
    assert_int_equal(s.of, 12);
}

/* A test image of a class that training never saw. */
static void test_linear__never_recognises_an_unknown_class(void **state)
{
    (void)state;
    tsr_features train = make_set(2, 1, (float[]){1, -1}, (int64_t[]){0, 1});
    tsr_features test = make_set(2, 1, (float[]){1, -1}, (int64_t[]){0, 2});
    tsr_linear_result r = run(train, test, (tsr_linear_options){.epochs = 20});
    assert_true(r.scores[r.best].top1 == 0.5);
    assert_true(r.scores[r.best].top5 == 0.5);
}

static void test_linear__same_bits_at_any_thread_count(void **state)
{
    (void)state;
    tsr_features train = random_set(900, 70, 7, 1.5, 0), test = random_set(300, 70, 7, 1.5, 1);
    const int before = tsr_threads();
    tsr_linear_result first = {0};
    for (int threads = 1; threads <= 4; threads++) {
        tsr_threads_set(threads);
        tsr_linear_result r = run(train, test, (tsr_linear_options){.epochs = 2, .batch = 256});
        if (threads == 1) first = r;
        assert_memory_equal(first.scores, r.scores, 45 * sizeof r.scores[0]);
        assert_same(first.weight, r.weight);
        assert_same(first.bias, r.bias);
    }
    tsr_threads_set(before);
}

static void test_linear__refuses(void **state)
{
    (void)state;
    tsr_features good = random_set(4, 2, 2, 0.1, 0);
    tsr_linear_result r = {.n = 77};
    tsr_linear_options o = {.rates = (double[]){0.0}, .n_rates = 1};
    tsr_linear_evaluate(&good, &good, &o, &r);
    assert_failed(TSR_STATUS_ARGUMENT, "rate 0 is 0, expected it positive");
    o = (tsr_linear_options){.rates = (double[]){1.0}, .n_rates = 0};
    tsr_linear_evaluate(&good, &good, &o, &r);
    assert_failed(TSR_STATUS_ARGUMENT, "0 rates");
    o = (tsr_linear_options){.batch = -1};
    tsr_linear_evaluate(&good, &good, &o, &r);
    assert_failed(TSR_STATUS_ARGUMENT, "batch -1");
    assert_int_equal(r.n, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_linear__agrees_with_a_naive_loop),
        tsr_test(test_linear__rates_do_not_touch_each_other),
        tsr_test(test_linear__sweeps_the_authors_rates),
        tsr_test(test_linear__asks_for_the_features_of_each_epoch),
        tsr_test(test_linear__tells_of_each_step),
        tsr_test(test_linear__never_recognises_an_unknown_class),
        tsr_test(test_linear__same_bits_at_any_thread_count),
        tsr_test(test_linear__refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
