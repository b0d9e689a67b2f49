/* The discrete VAE: terms of its loss against plain sums, gradients against differences, and that it learns real images. */
#include "tests/test.h"

/* The recipe's parts are private to it. */
#include "recipes/dvae.c"

#include <unistd.h>

static void make_options(tsr_train_options *train, struct options *o, int reconstruction)
{
    tsr_recipe_defaults(&tsr_recipe__dvae, train, o);
    train->image_size = 8;
    train->batch = 2;
    o->tokens = 5;
    o->groups = 2;
    o->blocks = 1;
    o->hidden = 4;
    o->embedding = 3;
    o->reconstruction = reconstruction;
    assert_ok();
}

static tsr_tensor *noise(tsr_shape shape, const char *name, double lo, double hi)
{
    tsr_tensor *t = tsr_empty(TSR_DTYPE_F64, shape);
    tsr_fill_uniform(t, tsr_rng_make(9, 0, 0, tsr_rng_purpose(name)), lo, hi);
    return t;
}

static void test_dvae__terms_equal_plain_sums(void **state)
{
    (void)state;
    enum { B = 2, H = 3, K = 5 };
    tsr_tensor *pixels = noise(TSR_SHAPE(B, 3, H, H), "pixels", 0.0, 1.0);
    tsr_tensor *said = noise(TSR_SHAPE(B, 6, H, H), "said", -3.0, 3.0);
    double sum = 0.0;
    for (int i = 0; i < B * 3 * H * H; i++) {
        int b = i / (3 * H * H), rest = i % (3 * H * H);
        double mu = tsr_tensor_get(said, b * 6 * H * H + rest);
        double raw = tsr_tensor_get(said, b * 6 * H * H + 3 * H * H + rest);
        double scale = exp(log1p(exp(raw + 5.0)) - 5.0), x = 0.8 * tsr_tensor_get(pixels, i) + 0.1;
        double density = exp(-fabs(log(x / (1 - x)) - mu) / scale) / (2 * scale * x * (1 - x));
        sum -= log(density);
    }
    assert_close(laplace(said, pixels), tsr_scalar(TSR_DTYPE_F64, sum / (B * 3 * H * H)), 1e-12);

    tsr_tensor *logits = noise(TSR_SHAPE(B, K, H, H), "logits", -3.0, 3.0);
    double kl = 0.0;
    for (int b = 0; b < B; b++) {
        for (int p = 0; p < H * H; p++) {
            double total = 0.0;
            for (int k = 0; k < K; k++)
                total += exp(tsr_tensor_get(logits, (b * K + k) * H * H + p));
            for (int k = 0; k < K; k++) {
                double q = exp(tsr_tensor_get(logits, (b * K + k) * H * H + p)) / total;
                kl += q * log(q * K);
            }
        }
    }
    assert_close(divergence(logits), tsr_scalar(TSR_DTYPE_F64, kl / (B * H * H)), 1e-12);
    assert_close(divergence(tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(1, 8, 2, 2))),
                 tsr_scalar(TSR_DTYPE_F64, 0.0), 1e-14);
}

/* The density is one: over x in 0.1 .. 0.9, where it lives, it integrates to nearly 1 for a narrow b. */
static void test_dvae__the_density_is_one(void **state)
{
    (void)state;
    enum { N = 20000 };
    double said[6] = {0.3, 0.3, 0.3, -2.0, -2.0, -2.0}, sum = 0.0;
    tsr_tensor *s = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(1, 6, 1, 1), said);
    for (int i = 0; i < N; i++) {
        tsr_scope scope = tsr_scope_open();
        double x = (i + 0.5) / N;
        tsr_tensor *pixel = tsr_full(TSR_DTYPE_F64, TSR_SHAPE(1, 3, 1, 1), x);
        sum += exp(-tsr_tensor_item(laplace(s, pixel))) * 0.8 / N;
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
    assert_true(fabs(sum - 1.0) < 1e-3);
}

static void test_dvae__draws_words_with_their_probabilities(void **state)
{
    (void)state;
    enum { N = 40000 };
    double logits[3] = {0.0, 1.0, -0.5}, total = 0.0, count[3] = {0};
    tsr_tensor *x = tsr_expand(tsr_from(TSR_DTYPE_F64, TSR_SHAPE(1, 3, 1, 1), logits),
                               TSR_SHAPE(2, 3, 1, N / 2));
    tsr_tensor *hot = relax(x, gumbel(x, tsr_rng_make(2, 0, 0, 0)), 1e-3);
    for (int k = 0; k < 3; k++) total += exp(logits[k]);
    tsr_tensor *word = tsr_argmax(hot, 1, false);
    for (int i = 0; i < N; i++) count[(int)tsr_tensor_get(word, i)]++;
    for (int k = 0; k < 3; k++) {
        double p = exp(logits[k]) / total;
        assert_true(fabs(count[k] / N - p) < 4.0 * sqrt(p * (1 - p) / N));
    }
    /* Cold, they are nearly one-hot. */
    assert_true(tsr_tensor_item(tsr_mean(tsr_max(hot, 1, false), NULL, 0, false)) > 0.99);
    assert_ok();
}

static void f_laplace(tsr_tensors in, tsr_tensor **out, int n, void *user)
{
    (void)n, (void)user;
    out[0] = laplace(in.at[0], in.at[1]);
}

static void f_words(tsr_tensors in, tsr_tensor **out, int n, void *user)
{
    (void)n, (void)user;
    out[0] = relax(in.at[0], gumbel(in.at[0], tsr_rng_make(1, 0, 0, 0)), 0.7);
    out[1] = divergence(in.at[0]);
}

static void test_dvae__terms_have_their_gradients(void **state)
{
    (void)state;
    tsr_tensor *said = tsr_require_grad(noise(TSR_SHAPE(1, 6, 3, 3), "said", -3.0, 3.0), true);
    tsr_tensor *pixels = noise(TSR_SHAPE(1, 3, 3, 3), "pixels", 0.0, 1.0);
    assert_int_equal(tsr_gradcheck(f_laplace, NULL, TSR_TENSORS(said, pixels), 1, NULL, NULL),
                     TSR_STATUS_OK);
    tsr_tensor *logits = tsr_require_grad(noise(TSR_SHAPE(2, 4, 2, 2), "logits", -2, 2), true);
    assert_int_equal(tsr_gradcheck(f_words, NULL, TSR_TENSORS(logits), 2, NULL, NULL),
                     TSR_STATUS_OK);
    assert_int_equal(tsr_gradgradcheck(f_words, NULL, TSR_TENSORS(logits), 2, NULL, NULL),
                     TSR_STATUS_OK);
}

static double value_of(const struct dvae *m, tsr_tensor *pixels)
{
    tsr_scope scope = tsr_scope_open();
    struct terms t = terms_of(m, pixels, tsr_rng_make(3, 0, 0, 0), 0.8, 6.6);
    double value = tsr_tensor_item(t.total);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return value;
}

/* Every parameter of encoder and decoder, by central differences of the whole loss, f64. */
static void test_dvae__the_loss_has_its_gradient(void **state)
{
    (void)state;
    for (int reconstruction = LAPLACE; reconstruction <= MSE; reconstruction++) {
        tsr_train_options train;
        struct options o;
        make_options(&train, &o, reconstruction);
        tsr_build b = {.train = &train, .options = &o, .dtype = TSR_DTYPE_F64, .seed = 4};
        tsr_networks n;
        build(&b, &n);
        assert_ok();
        /* With biases of 0 what is dark would lie in the kink of the ReLUs. */
        tsr_module_list *list = tsr_module_parameters(n.student);
        for (int64_t i = 0; i < list->n; i++) {
            if (tsr_tensor_ndim(list->at[i].tensor) > 1) continue;
            tsr_rng rng = tsr_rng_make(6, 0, 0, tsr_rng_purpose(list->at[i].name));
            tsr_fill_uniform(list->at[i].tensor, rng, -0.3, 0.3);
        }
        tsr_tensor *pixels = noise(TSR_SHAPE(2, 3, 8, 8), "pixels", 0.0, 1.0);
        tsr_tape *tape = tsr_tape_open();
        struct terms t = terms_of(n.self, pixels, tsr_rng_make(3, 0, 0, 0), 0.8, 6.6);
        tsr_backward(tape, t.total, NULL);
        tsr_tape_close(&tape);
        assert_ok();
        assert_true(list->n > 20);
        for (int64_t i = 0; i < list->n; i++) {
            tsr_tensor *p = list->at[i].tensor;
            assert_non_null(tsr_tensor_grad(p));
            double *at = tsr_tensor_data_mut(p);
            int64_t elements = tsr_tensor_numel(p), step = elements / 3 > 0 ? elements / 3 : 1;
            for (int64_t k = 0; k < elements; k += step) {
                const double h = 1e-6, was = at[k];
                at[k] = was + h;
                double above = value_of(n.self, pixels);
                at[k] = was - h;
                double below = value_of(n.self, pixels), slope = (above - below) / (2 * h);
                at[k] = was;
                double grad = tsr_tensor_get(tsr_tensor_grad(p), k);
                if (!(fabs(grad - slope) <= 1e-6 * fmax(1.0, fabs(slope)))) {
                    fail_msg("%s[%d]: gradient %.12g, difference %.12g", list->at[i].name, (int)k,
                             grad, slope);
                }
            }
        }
        tsr_module_list_free(&list);
        tsr_module_free(&n.student);
        tsr_module_free(&n.teacher);
    }
}

/* Its pictures come nearer to real ones within a few steps. */
static void test_dvae__reconstruction_falls_on_real_images(void **state)
{
    (void)state;
    static const char folder[] = "/usr/share/datasets/fashion-mnist";
    enum { STEPS = 60 };
    if (access(folder, R_OK) != 0) skip();
    tsr_train_options train;
    struct options o;
    make_options(&train, &o, LAPLACE);
    train.image_size = 28;
    train.batch = 16;
    train.lr = 5e-3;
    o.tokens = 32;
    o.hidden = 8;
    o.kl_weight = 0.1;
    o.kl_steps = STEPS;
    o.temperature_steps = STEPS;
    tsr_build b = {.train = &train, .options = &o, .dtype = TSR_DTYPE_F32, .seed = 1};
    tsr_view_spec spec;
    tsr_views v = {&spec, views(&b, &spec, 1)};
    tsr_dataset *data = tsr_dataset_open(folder, "train");
    tsr_loader *loader = tsr_loader_open_views(data, &v, &(tsr_loader_options){.batch = 16});
    tsr_trainer *trainer = tsr_trainer_make(&tsr_recipe__dvae, &b, 1000);
    assert_ok();
    double first = 0.0, last = 0.0, mse = 0.0;
    for (int step = 0; step < STEPS; step++) {
        tsr_scope scope = tsr_scope_open();
        tsr_input input = {"global", tsr_batch_tensor(tsr_loader_next(loader), "global")};
        tsr_step_result r;
        tsr_trainer_step(trainer, &input, 1, &r);
        assert_ok();
        assert_string_equal(r.numbers[0].name, "reconstruction");
        assert_string_equal(r.numbers[2].name, "mse");
        if (step < 5) first += r.numbers[0].value / 5, mse += r.numbers[2].value / 5;
        if (step >= STEPS - 5) last += r.numbers[0].value / 5, mse -= r.numbers[2].value / 5;
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
    print_message("reconstruction %.3f, then %.3f\n", first, last);
    assert_true(last < first - 0.5);
    assert_true(mse > 0.01);
    tsr_trainer_free(&trainer);
    tsr_loader_close(&loader);
    tsr_dataset_close(&data);
}

static void test_dvae__refuses_sizes_that_do_not_fit(void **state)
{
    (void)state;
    tsr_train_options train;
    struct options o;
    make_options(&train, &o, MSE);
    tsr_build b = {.train = &train, .options = &o};
    tsr_view_spec spec;
    train.image_size = 9;
    assert_int_equal(views(&b, &spec, 1), -1);
    assert_failed(TSR_STATUS_ARGUMENT, "a multiple of the 2 pixels");
    o.hidden = 6;
    tsr_networks n;
    build(&b, &n);
    assert_failed(TSR_STATUS_ARGUMENT, "--hidden 6 is no multiple of 4");
    tsr_module_free(&n.student);
    tsr_module_free(&n.teacher);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_dvae__terms_equal_plain_sums),
        tsr_test(test_dvae__the_density_is_one),
        tsr_test(test_dvae__draws_words_with_their_probabilities),
        tsr_test(test_dvae__terms_have_their_gradients),
        tsr_test(test_dvae__the_loss_has_its_gradient),
        tsr_test(test_dvae__reconstruction_falls_on_real_images),
        tsr_test(test_dvae__refuses_sizes_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
