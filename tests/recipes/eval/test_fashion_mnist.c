/* All three evaluations on real images: the first 6000 and 2000 of Fashion-MNIST, raw pixels. Skipped where Debian's
 * dataset-fashion-mnist is not installed. The whole set gives 85.6 % (k-NN), 84.5 % and 84.6 %. */
#include "sets.h"
#include "recipes/data/data.h"

#include <unistd.h>

static const char folder[] = "/usr/share/datasets/fashion-mnist";

static tsr_features load(const char *split, int64_t n)
{
    tsr_features set = {tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(n, 784)),
                        tsr_empty(TSR_DTYPE_I64, TSR_SHAPE(n))};
    float *x = tsr_tensor_data_mut(set.x);
    int64_t *labels = tsr_tensor_data_mut(set.labels);
    tsr_dataset *data = tsr_dataset_open(folder, split);
    tsr_image image = {0};
    for (int64_t i = 0; i < n; i++) {
        tsr_dataset_load(data, i, 0, &image, NULL);
        assert_ok();
        for (int j = 0; j < 784; j++) x[i * 784 + j] = (float)image.pixels[3 * j] / 255.0f;
        labels[i] = tsr_dataset_label(data, i);
    }
    tsr_image_free(&image);
    tsr_dataset_close(&data);
    return set;
}

static void test_fashion_mnist__raw_pixels_are_worth_what_they_are(void **state)
{
    (void)state;
    if (access(folder, R_OK) != 0) skip();
    tsr_features train = load("train", 6000), test = load("test", 2000);
    tsr_knn_result knn;
    tsr_knn_evaluate(&train, &test, NULL, &knn);
    assert_ok();
    assert_int_equal(knn.scores[knn.best].k, 10);
    assert_true(knn.scores[0].top1 > 0.80 && knn.scores[0].top1 < 0.84);
    assert_true(knn.scores[0].top5 > 0.94);
    tsr_linear_result linear;
    static const double rates[] = {0.01, 0.03, 0.1};
    tsr_linear_options probe = {.rates = rates, .n_rates = 3, .epochs = 20, .batch = 256};
    tsr_linear_evaluate(&train, &test, &probe, &linear);
    assert_ok();
    assert_true(linear.scores[linear.best].top1 > 0.80 && linear.scores[linear.best].top1 < 0.85);
    tsr_logistic_result logistic;
    tsr_logistic_options regression = {
        .penalties = (double[]){0.1}, .n_penalties = 1, .iterations = 60};
    tsr_logistic_evaluate(&train, &test, &regression, &logistic);
    assert_ok();
    assert_true(logistic.scores[0].top1 > 0.80 && logistic.scores[0].top1 < 0.85);
    print_message("k-NN %.4f, linear %.4f at %g, logistic %.4f\n", knn.scores[0].top1,
                  linear.scores[linear.best].top1, linear.scores[linear.best].rate,
                  logistic.scores[0].top1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_fashion_mnist__raw_pixels_are_worth_what_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
