/* k-means over whitened rows: planted clusters, fixed points, the same bits at any number of threads. */
#include "tests/test.h"

/* Its parts are private to it. */
#include "recipes/kmeans.c"

enum { N = 600, D = 6 };

/* Rows in memory, given in parts of other sizes. */
struct rows {
    tsr_tensor *x; /* f32 [N, D] */
    int64_t part;
};

static tsr_status walk(const tsr_kmeans_source *source, tsr_kmeans_visit *visit, void *user)
{
    const struct rows *r = source->user;
    int64_t n = tsr_tensor_size(r->x, 0);
    for (int64_t i = 0; i < n && tsr_status_get() == TSR_STATUS_OK; i += r->part) {
        visit(tsr_slice(r->x, 0, i, i + r->part < n ? i + r->part : n, 1), user);
    }
    return tsr_status_get();
}

struct result {
    tsr_tensor *mean, *whitening, *centers;
};

static struct result learn(tsr_tensor *x, int64_t k, tsr_kmeans_options o, int64_t part)
{
    int64_t d = tsr_tensor_size(x, 1);
    struct rows rows = {x, part};
    tsr_kmeans_source source = {walk, &rows};
    struct result r = {tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(d)),
                       tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(d, d)),
                       tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(k, d))};
    tsr_kmeans__train(&source, &o, r.mean, r.whitening, r.centers);
    return r;
}

static tsr_tensor *tokens_of(const struct result *r, tsr_tensor *x)
{
    return tsr_kmeans__assign(tsr_kmeans__whiten(x, r->mean, r->whitening), r->centers);
}

/* `planted` places far apart, and a little noise about them. */
static tsr_tensor *make_rows(int planted, double noise)
{
    tsr_tensor *x = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(N, D));
    float *at = tsr_tensor_data_mut(x);
    for (int i = 0; i < N; i++) {
        tsr_rng place = tsr_rng_make(1, 0, (uint32_t)(i % planted), 0);
        tsr_rng own = tsr_rng_make(2, 0, (uint32_t)i, 0);
        for (int j = 0; j < D; j++) {
            at[i * D + j] = (float)(tsr_rng_normal(&place) + noise * tsr_rng_normal(&own));
        }
    }
    return x;
}

static void test_kmeans__finds_planted_clusters(void **state)
{
    (void)state;
    enum { K = 7 };
    tsr_tensor *x = make_rows(K, 0.01);
    for (uint64_t seed = 0; seed < 5; seed++) {
        tsr_kmeans_options o = {.iterations = 20, .whitening = 1e-3, .seed = seed};
        struct result r = learn(x, K, o, 100);
        const int64_t *t = tsr_tensor_data(tokens_of(&r, x));
        assert_ok();
        for (int i = 0; i < N; i++) assert_int_equal(t[i], t[i % K]);
        for (int i = 0; i < K; i++) {
            for (int j = 0; j < i; j++) assert_int_not_equal(t[i], t[j]);
        }
    }
}

/* Whitened rows have mean 0 and covariance 1; tokens are those of a plain search in f64; centres are the means of theirs. */
static void test_kmeans__ends_where_a_plain_search_stays(void **state)
{
    (void)state;
    enum { K = 12 };
    tsr_tensor *x = make_rows(N, 0.0); /* no clusters at all */
    tsr_kmeans_options o = {.iterations = 500, .whitening = 1e-9, .seed = 3};
    struct result r = learn(x, K, o, 77);
    tsr_tensor *y = tsr_cast(tsr_kmeans__whiten(x, r.mean, r.whitening), TSR_DTYPE_F64);
    tsr_tensor *covariance =
        tsr_affine(tsr_matmul(tsr_transpose(y, 0, 1), y), 1.0 / (double)N, 0.0);
    double eye[D * D] = {0}, zero[D] = {0};
    for (int i = 0; i < D; i++) eye[i * D + i] = 1.0;
    assert_close(covariance, tsr_from(TSR_DTYPE_F64, TSR_SHAPE(D, D), eye), 1e-4);
    assert_close(tsr_mean(y, (const int[]){0}, 1, false),
                 tsr_from(TSR_DTYPE_F64, TSR_SHAPE(D), zero), 1e-5);
    const double *at = tsr_tensor_data(y);
    const float *c = tsr_tensor_data(r.centers);
    const int64_t *t = tsr_tensor_data(tokens_of(&r, x));
    assert_ok();
    double sum[K][D] = {0}, count[K] = {0};
    for (int i = 0; i < N; i++) {
        int best = 0;
        double nearest = INFINITY;
        for (int k = 0; k < K; k++) {
            double apart = 0.0;
            for (int j = 0; j < D; j++) apart += pow(at[i * D + j] - (double)c[k * D + j], 2);
            if (apart < nearest) nearest = apart, best = k;
        }
        assert_int_equal(t[i], best);
        count[best]++;
        for (int j = 0; j < D; j++) sum[best][j] += at[i * D + j];
    }
    for (int k = 0; k < K; k++) {
        assert_true(count[k] > 0.0);
        for (int j = 0; j < D; j++) {
            assert_true(fabs(sum[k][j] / count[k] - (double)c[k * D + j]) < 1e-5);
        }
    }
}

/* Any whitening is the inverse root of the covariance up to a rotation: W^T W is the inverse. */
static void test_kmeans__whitening_is_the_inverse_of_the_covariance(void **state)
{
    (void)state;
    double a[16] = {4, 1, 0.5, 0, 1, 3, 0.2, 0.1, 0.5, 0.2, 2, 0.3, 0, 0.1, 0.3, 1}, l[16], w[16];
    memcpy(l, a, sizeof a);
    cholesky(l, 4);
    invert_lower(l, 4, w);
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 4; j++) {
            double product = 0.0; /* (W^T W A)_ij */
            for (int k = 0; k < 4; k++) {
                for (int m = 0; m < 4; m++) product += w[k * 4 + i] * w[k * 4 + m] * a[m * 4 + j];
            }
            assert_true(fabs(product - (i == j)) < 1e-13);
        }
    }
}

static void test_kmeans__starts_at_rows_of_its_own_choice(void **state)
{
    (void)state;
    enum { K = 40 };
    tsr_tensor *x = make_rows(N, 0.0);
    tsr_kmeans_options o = {.iterations = 0, .whitening = 0.01, .seed = 5};
    struct result a = learn(x, K, o, 600), b = learn(x, K, o, 7);
    o.seed = 6;
    struct result other = learn(x, K, o, 600);
    tsr_tensor *y = tsr_kmeans__whiten(x, a.mean, a.whitening);
    const float *rows = tsr_tensor_data(y), *c = tsr_tensor_data(a.centers);
    assert_ok();
    int seen[N] = {0};
    for (int k = 0; k < K; k++) {
        int at = -1;
        for (int i = 0; i < N && at < 0; i++) {
            if (memcmp(rows + i * D, c + k * D, D * sizeof *c) == 0) at = i;
        }
        assert_true(at >= 0);
        assert_int_equal(seen[at]++, 0);
    }
    /* The parts that rows come in change the order of sums, but not which rows are chosen. */
    assert_close(a.centers, b.centers, 1e-5);
    assert_true(memcmp(c, tsr_tensor_data(other.centers), K * D * sizeof *c) != 0);
}

/* What k-means++ is for: of far clusters each gets a centre at once, a rare one too. */
static void test_kmeans__seeds_are_spread(void **state)
{
    (void)state;
    tsr_tensor *x = make_rows(1, 0.001);
    float *at = tsr_tensor_data_mut(x);
    for (int i = 0; i < N; i++) at[i * D] += i % 100 == 0 ? 5.0f : i % 100 == 1 ? -5.0f : 0.0f;
    for (uint64_t seed = 0; seed < 20; seed++) {
        tsr_kmeans_options o = {.iterations = 0, .whitening = 100.0, .seed = seed};
        struct result r = learn(x, 3, o, 50);
        const int64_t *t = tsr_tensor_data(tokens_of(&r, x));
        assert_ok();
        assert_true(t[0] != t[1] && t[0] != t[2] && t[1] != t[2]);
    }
}

static void test_kmeans__same_bits_at_any_number_of_threads(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(20000, 12));
    tsr_fill_normal(x, tsr_rng_make(4, 0, 0, 0), 0.0, 1.0);
    tsr_kmeans_options o = {.iterations = 3, .whitening = 0.01, .seed = 1};
    int threads = tsr_threads();
    tsr_threads_set(1);
    struct result one = learn(x, 100, o, 4096);
    for (int n = 2; n <= 4; n *= 2) {
        tsr_threads_set(n);
        struct result many = learn(x, 100, o, 4096);
        assert_same(many.mean, one.mean);
        assert_same(many.whitening, one.whitening);
        assert_same(many.centers, one.centers);
    }
    tsr_threads_set(threads);
    assert_ok();
}

/* Two centres in one place leave the second without rows: it must begin again where the rows are far from all centres. */
static void test_kmeans__an_empty_cluster_begins_again(void **state)
{
    (void)state;
    tsr_tensor *x = make_rows(3, 0.001);
    struct rows rows = {x, 100};
    tsr_kmeans_source source = {walk, &rows};
    double apart[N], sums[3 * D];
    int64_t counts[3];
    tsr_tensor *eye = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(D, D));
    for (int i = 0; i < D; i++) ((float *)tsr_tensor_data_mut(eye))[i * D + i] = 1.0f;
    struct training t = {.source = &source,
                         .d = D,
                         .k = 3,
                         .n = N,
                         .m = N,
                         .mean = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(D)),
                         .whitening = eye,
                         .sample = tsr_contiguous(tsr_transpose(x, 0, 1)),
                         .centers = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3, D)),
                         .apart = apart,
                         .sums = sums,
                         .counts = counts};
    const float *at = tsr_tensor_data(x);
    float *c = tsr_tensor_data_mut(t.centers);
    memcpy(c, at, D * sizeof *c); /* rows 0, 0 and 1; none in the third cluster */
    memcpy(c + D, at, D * sizeof *c);
    memcpy(c + 2 * D, at + D, D * sizeof *c);
    for (int i = 0; i < 4; i++) iterate(&t);
    assert_ok();
    const int64_t *token = tsr_tensor_data(tsr_kmeans__assign(x, t.centers));
    assert_true(token[0] != token[1] && token[0] != token[2] && token[1] != token[2]);
    for (int i = 0; i < N; i++) assert_int_equal(token[i], token[i % 3]);
}

static void test_kmeans__refuses_rows_that_are_too_few(void **state)
{
    (void)state;
    tsr_kmeans_options o = {.iterations = 3, .whitening = 0.01};
    tsr_tensor *x = make_rows(3, 0.0);
    learn(x, 3, o, 600);
    assert_ok();
    learn(x, 4, o, 600);
    assert_failed(TSR_STATUS_ARGUMENT, "only 3 differ; lower --tokens");
    learn(x, N + 1, o, 600);
    assert_failed(TSR_STATUS_ARGUMENT, "600 patches for 601 tokens; lower --tokens");
    learn(make_rows(1, 0.0), 2, o, 600);
    assert_failed(TSR_STATUS_ARGUMENT, "all patches of the images are equal");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_kmeans__finds_planted_clusters),
        tsr_test(test_kmeans__ends_where_a_plain_search_stays),
        tsr_test(test_kmeans__whitening_is_the_inverse_of_the_covariance),
        tsr_test(test_kmeans__starts_at_rows_of_its_own_choice),
        tsr_test(test_kmeans__seeds_are_spread),
        tsr_test(test_kmeans__same_bits_at_any_number_of_threads),
        tsr_test(test_kmeans__an_empty_cluster_begins_again),
        tsr_test(test_kmeans__refuses_rows_that_are_too_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
