/* Training with labels: the classifier and its numbers by hand, whole runs on small images, what is refused. */
#include "tests/recipes/labelled.h"

#include "ops/ops.h"
#include "recipes/classifier.h"

#include <sys/stat.h>

static tsr_classifier *make_classifier(tsr_classifier_pooling pooling, int64_t hidden,
                                       int64_t classes)
{
    tsr_vit_config vit = {.image_size = 8,
                          .patch_size = 4,
                          .dim = 12,
                          .depth = 2,
                          .heads = 2,
                          .dtype = TSR_DTYPE_F64};
    tsr_vit *backbone = tsr_vit_new(&vit);
    tsr_classifier_config config = {pooling, hidden, classes, TSR_DTYPE_F64};
    tsr_classifier *m = tsr_classifier__new(&backbone->backbone, &config);
    if (m != NULL) tsr_module_initialize(&m->module, 1);
    return m;
}

static tsr_tensor *make_images(int64_t n)
{
    tsr_tensor *x = tsr_empty(TSR_DTYPE_F64, TSR_SHAPE(n, 3, 8, 8));
    tsr_fill_normal(x, tsr_rng_make(4, 0, 0, 0), 0.0, 1.0);
    return x;
}

/* 1 - e + e / K for the label, e / K for the others. */
static void test_supervised__targets_are_smoothed(void **state)
{
    (void)state;
    const int64_t labels[] = {2, 0};
    const double wanted[] = {0.025, 0.025, 0.925, 0.025, 0.925, 0.025, 0.025, 0.025};
    tsr_tensor *t = tsr_classifier__targets(tsr_from(TSR_DTYPE_I64, TSR_SHAPE(2), labels), 4, 0.1,
                                            TSR_DTYPE_F64);
    assert_close(t, tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2, 4), wanted), 1e-15);
}

/* The mean of the last block's patch tokens, normed, then the head; or the class token. */
static void test_supervised__classifies_the_class_token_or_the_mean(void **state)
{
    (void)state;
    tsr_tensor *images = make_images(3);
    tsr_classifier *m = make_classifier(TSR_CLASSIFIER_MEAN, 0, 5);
    tsr_tensor *tokens;
    tsr_backbone_intermediate(m->backbone, images, 1, &(tsr_backbone_options){.no_norm = true},
                              &tokens);
    tsr_tensor *sum = tsr_slice(tokens, 1, 1, 2, 1);
    for (int64_t i = 2; i < 5; i++) sum = tsr_add(sum, tsr_slice(tokens, 1, i, i + 1, 1));
    tsr_tensor *mean = tsr_reshape(tsr_affine(sum, 0.25, 0.0), TSR_SHAPE(3, 12));
    tsr_fill_normal(m->fc_norm->weight, tsr_rng_make(5, 0, 0, 0), 1.0, 0.1);
    tsr_tensor *normed = tsr_layer_norm(mean, m->fc_norm->weight, m->fc_norm->bias, 1e-6);
    assert_close(tsr_classifier__logits(m, images, (tsr_rng){0}),
                 tsr_linear(normed, m->head->weight, m->head->bias), 1e-12);
    tsr_module_free(&m);
    m = make_classifier(TSR_CLASSIFIER_CLASS, 7, 5);
    tsr_tensor *x = tsr_tokens_class(tsr_backbone_forward(m->backbone, images, NULL));
    x = tsr_gelu(tsr_linear(x, m->projection->weight, m->projection->bias), false);
    assert_close(tsr_classifier__logits(m, images, (tsr_rng){0}),
                 tsr_linear(x, m->head->weight, m->head->bias), 1e-12);
    tsr_module_free(&m);
}

static void test_supervised__refuses_images_without_labels(void **state)
{
    (void)state;
    assert_null(make_classifier(TSR_CLASSIFIER_CLASS, 0, 0));
    assert_failed(TSR_STATUS_ARGUMENT, "the images have no labels to train with");
    tsr_status_clear();
    /* A whole run: one line, and no warning beside it. */
    labelled l;
    labelled_open(&l, "supervised", "unlabelled", "");
    char flat[300], path[400];
    snprintf(flat, sizeof flat, "%s/flat", folder);
    assert_int_equal(mkdir(flat, 0777), 0);
    tsr_image image = {0};
    tsr_image_resize_storage(&image, 16, 16);
    memset(image.pixels, 90, 16 * 16 * 3);
    for (int i = 0; i < 8; i++) {
        snprintf(path, sizeof path, "%s/%d.jpg", flat, i);
        tsr_jpeg_write(path, &image, 90);
    }
    tsr_image_free(&image);
    assert_ok();
    l.run.data = flat;
    labelled_run(&l);
    assert_failed(TSR_STATUS_ARGUMENT, "the images have no labels to train with");
    assert_string_equal(l.warning, "");
    labelled_close(&l);
}

/* Learns; every epoch's validation is told and logged. */
static void test_supervised__learns_and_measures_itself(void **state)
{
    (void)state;
    static const char *const poolings[] = {"class", "mean"};
    for (int p = 0; p < 2; p++) {
        labelled l;
        char out[32], options[64];
        snprintf(out, sizeof out, "learnt-%s", poolings[p]);
        snprintf(options, sizeof options, "epochs=12 drop-path=0 pooling=%s", poolings[p]);
        labelled_open(&l, "supervised", out, options);
        labelled_run(&l);
        assert_ok();
        print_message("%s: validation accuracy %.3f, then %.3f\n", poolings[p], l.first, l.last);
        assert_int_equal(l.evaluations, 12);
        assert_true(l.last > 0.9 && l.last > l.first);
        assert_true(labelled_logged(&l, "\"val_accuracy\""));
        assert_true(labelled_logged(&l, "\"val_loss\""));
        assert_false(labelled_logged(&l, "\"val_top5\"")); /* of four classes */
        labelled_close(&l);
    }
}

/* Accuracy by hand over batches of unequal size: each image counts as much. */
static void test_supervised__accuracy_is_that_of_the_checkpoint(void **state)
{
    (void)state;
    labelled l;
    labelled_open(&l, "supervised", "measured", "epochs=2 batch=8 drop-path=0");
    labelled_run(&l);
    assert_ok();
    tsr_build b = {.train = &l.train,
                   .options = l.options,
                   .dtype = TSR_DTYPE_F32,
                   .seed = 3,
                   .classes = LABELLED_CLASSES};
    tsr_trainer *t = tsr_trainer_make(l.recipe, &b, LABELLED_MAX / 8);
    char path[TSR_CHECKPOINT_PATH];
    tsr_checkpoint *c = tsr_checkpoint_open_run(l.out, path);
    tsr_trainer_load(t, c);
    tsr_checkpoint_close(&c);
    const tsr_classifier *m = (const tsr_classifier *)tsr_trainer_networks(t)->student;
    tsr_module_train(tsr_trainer_networks(t)->student, false);
    tsr_dataset *data = tsr_dataset_open(folder, "val");
    tsr_view_spec spec = tsr_view_eval(16);
    tsr_image image = {0};
    tsr_tensor *x = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(1, 3, 16, 16));
    int right = 0;
    for (int64_t i = 0; i < tsr_dataset_count(data); i++) {
        tsr_rng rng = tsr_rng_make(0, 0, 0, 0);
        tsr_dataset_load(data, i, 0, &image, NULL);
        tsr_view_apply(&spec, &image, &rng, tsr_tensor_data_mut(x));
        tsr_tensor *best = tsr_argmax(tsr_classifier__logits(m, x, rng), 1, false);
        right += (int64_t)tsr_tensor_get(best, 0) == tsr_dataset_label(data, i);
    }
    assert_ok();
    assert_true(fabs(l.last - right / 22.0) < 1e-12);
    tsr_image_free(&image);
    tsr_dataset_close(&data);
    tsr_trainer_free(&t);
    labelled_close(&l);
}

static void test_supervised__same_bytes_however_it_runs(void **state)
{
    (void)state;
    labelled one, two;
    int threads = tsr_threads();
    tsr_threads_set(1);
    labelled_open(&one, "supervised", "one", "drop-path=0.2 micro-batch=4");
    labelled_run(&one);
    tsr_threads_set(2);
    labelled_open(&two, "supervised", "two", "drop-path=0.2 micro-batch=4");
    two.run.workers = 3;
    two.run.stop_after = 13;
    labelled_run(&two);
    two.run.stop_after = 0;
    two.run.resume = true;
    labelled_run(&two);
    assert_ok();
    assert_same_runs(&one, &two);
    tsr_threads_set(threads);
    labelled_close(&one);
    labelled_close(&two);
}

/* After epochs 2, 4 and, as the last one, 5. */
static void test_supervised__is_measured_every_few_epochs(void **state)
{
    (void)state;
    labelled l;
    labelled_open(&l, "supervised", "seldom", "epochs=5");
    l.run.evaluate_every = 2;
    labelled_run(&l);
    assert_ok();
    assert_int_equal(l.evaluations, 3);
    labelled_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_supervised__targets_are_smoothed),
        tsr_test(test_supervised__classifies_the_class_token_or_the_mean),
        tsr_test(test_supervised__refuses_images_without_labels),
        tsr_test(test_supervised__learns_and_measures_itself),
        tsr_test(test_supervised__accuracy_is_that_of_the_checkpoint),
        tsr_test(test_supervised__is_measured_every_few_epochs),
        tsr_test(test_supervised__same_bytes_however_it_runs),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
