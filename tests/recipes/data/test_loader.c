/* The loader: what batches hold does not depend on threads; it starts and ends anywhere; failures
 * reach the consumer. */
#include "tests/recipes/data/files.h"

#include <pthread.h>
#include <stdatomic.h>

static tsr_view_spec specs[3];

/* Two global pipelines with masks, two local crops. */
static tsr_views small_views(void)
{
    specs[0] = tsr_view_ibot_global1(8);
    specs[1] = tsr_view_ibot_global2(8);
    specs[2] = tsr_view_ibot_local(4, 2);
    specs[0].mask = (tsr_mask_spec){TSR_MASK_BLOCK, 2, 2, {0.0, 0.3}, {0.0, 0.2}, 0};
    specs[1].mask = specs[0].mask;
    return (tsr_views){specs, 3};
}

static tsr_dataset *open_idx(int n)
{
    write_idx("train", n, 3);
    tsr_dataset *data = tsr_dataset_open(test_folder, "train");
    assert_ok();
    return data;
}

static uint64_t hash_tensor(uint64_t h, tsr_tensor *t)
{
    assert_ok();
    assert_true(tsr_tensor_is_contiguous(t));
    const uint8_t *p = tsr_tensor_data(t);
    size_t n = (size_t)tsr_tensor_numel(t) * tsr_dtype_size(tsr_tensor_dtype(t));
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 1099511628211u;
    return h;
}

static uint64_t hash_batch(const tsr_batch *batch)
{
    static const char *const names[] = {"global", "global.mask", "local", "label", "index"};
    uint64_t h = 14695981039346656037u;
    tsr_scope scope = tsr_scope_open();
    for (int i = 0; i < 5; i++) h = hash_tensor(h, tsr_batch_tensor(batch, names[i]));
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return h;
}

/* Hashes of the first n batches. */
static void run(tsr_dataset *data, const tsr_views *views, tsr_loader_options options, int n,
                uint64_t *out)
{
    tsr_loader *loader = tsr_loader_open_views(data, views, &options);
    assert_ok();
    for (int i = 0; i < n; i++) {
        const tsr_batch *batch = tsr_loader_next(loader);
        assert_ok();
        assert_non_null(batch);
        out[i] = hash_batch(batch);
    }
    tsr_loader_close(&loader);
    assert_null(loader);
}

static void test_loader__batches_do_not_depend_on_workers_or_prefetch(void **state)
{
    (void)state;
    tsr_dataset *data = open_idx(50);
    tsr_views views = small_views();
    uint64_t want[20], got[20];
    run(data, &views, (tsr_loader_options){.batch = 8, .workers = 1, .prefetch = 1}, 20, want);
    static const int workers[] = {2, 3, 7}, prefetch[] = {1, 2, 9};
    for (int i = 0; i < 3; i++) {
        tsr_loader_options options = {.batch = 8, .workers = workers[i], .prefetch = prefetch[i]};
        run(data, &views, options, 20, got);
        assert_memory_equal(got, want, sizeof want);
    }
    run(data, &views, (tsr_loader_options){.batch = 8, .seed = 1}, 20, got);
    for (int i = 0; i < 20; i++) assert_true(got[i] != want[i]);
    tsr_dataset_close(&data);
}

static void test_loader__starts_at_any_epoch_and_step(void **state)
{
    (void)state;
    tsr_dataset *data = open_idx(50);
    tsr_views views = small_views();
    uint64_t want[20], got[20];
    run(data, &views, (tsr_loader_options){.batch = 8}, 20, want);
    /* Six steps an epoch. */
    run(data, &views, (tsr_loader_options){.batch = 8, .epoch = 1, .step = 3}, 11, got);
    assert_memory_equal(got, want + 9, 11 * sizeof *want);
    run(data, &views, (tsr_loader_options){.batch = 8, .epoch = 1, .step = 6}, 8, got);
    assert_memory_equal(got, want + 12, 8 * sizeof *want);
    tsr_dataset_close(&data);
}

static void test_loader__an_epoch_visits_each_image_once(void **state)
{
    (void)state;
    tsr_dataset *data = open_idx(50);
    tsr_views views = small_views();
    tsr_loader_options options = {.batch = 8, .keep_last = true, .end_epoch = 2, .workers = 2};
    tsr_loader *loader = tsr_loader_open_views(data, &views, &options);
    assert_ok();
    assert_int_equal(tsr_loader_steps(loader), 7);
    int seen[2][50] = {0};
    int64_t first[2][8];
    const tsr_batch *batch;
    int64_t total = 0;
    while ((batch = tsr_loader_next(loader)) != NULL) {
        assert_int_equal(batch->epoch * 7 + batch->step, total++);
        assert_int_equal(batch->n, batch->step == 6 ? 2 : 8);
        tsr_tensor *index = tsr_batch_tensor(batch, "index");
        tsr_tensor *label = tsr_batch_tensor(batch, "label");
        tsr_tensor *global = tsr_batch_tensor(batch, "global");
        assert_int_equal(tsr_tensor_size(index, 0), batch->n);
        assert_true(tsr_shape_equal(tsr_tensor_shape(global), TSR_SHAPE(2 * batch->n, 3, 8, 8)));
        for (int64_t i = 0; i < batch->n; i++) {
            int64_t at = ((const int64_t *)tsr_tensor_data(index))[i];
            assert_int_equal(((const int64_t *)tsr_tensor_data(label))[i], at % 3);
            seen[batch->epoch][at]++;
            if (batch->step == 0) first[batch->epoch][i] = at;
        }
    }
    assert_ok();
    assert_int_equal(total, 14);
    assert_null(tsr_loader_next(loader));
    for (int i = 0; i < 50; i++) assert_true(seen[0][i] == 1 && seen[1][i] == 1);
    assert_memory_not_equal(first[0], first[1], sizeof first[0]);
    tsr_loader_close(&loader);
    tsr_dataset_close(&data);
}

static void test_loader__views_are_stacked_view_by_view(void **state)
{
    (void)state;
    tsr_dataset *data = open_idx(10);
    /* Views without chance: the rows must be the images themselves. */
    tsr_view_spec plain[2] = {tsr_view_eval(5), tsr_view_eval(5)};
    plain[0].copies = 2;
    plain[1].copies = 1;
    plain[1].mask = (tsr_mask_spec){TSR_MASK_RAND, 1, 1, {1.0}, {0.0}, 0};
    tsr_views views = {plain, 2};
    tsr_loader_options options = {.batch = 4, .in_order = true};
    tsr_loader *loader = tsr_loader_open_views(data, &views, &options);
    const tsr_batch *batch = tsr_loader_next(loader);
    tsr_tensor *images = tsr_batch_tensor(batch, "image");
    tsr_tensor *masks = tsr_batch_tensor(batch, "image.mask");
    assert_ok();
    assert_true(tsr_shape_equal(tsr_tensor_shape(images), TSR_SHAPE(12, 3, 5, 5)));
    assert_true(tsr_shape_equal(tsr_tensor_shape(masks), TSR_SHAPE(12, 5, 5)));
    const uint8_t *m = tsr_tensor_data(masks);
    for (int row = 0; row < 12; row++) {
        tsr_image image = {0};
        float want[75];
        tsr_rng rng = tsr_rng_make(0, 0, 0, 0);
        tsr_dataset_load(data, row % 4, 0, &image, NULL);
        tsr_view_apply(&plain[0], &image, &rng, want);
        assert_memory_equal((const float *)tsr_tensor_data(images) + 75 * row, want, sizeof want);
        for (int k = 0; k < 25; k++) assert_int_equal(m[25 * row + k], row >= 8);
        tsr_image_free(&image);
    }
    assert_int_equal(tsr_batch_field_count(batch), 4);
    assert_string_equal(tsr_batch_field_name(batch, 1), "image.mask");
    assert_int_equal(tsr_batch_field_copies(batch, 1), 3);
    assert_int_equal(tsr_batch_field_copies(batch, 2), 1);
    assert_null(tsr_batch_field_name(batch, 4));
    assert_null(tsr_batch_tensor(batch, "images"));
    assert_failed(TSR_STATUS_ARGUMENT, "no field 'images'; there are image, image.mask, label");
    tsr_loader_close(&loader);
    tsr_dataset_close(&data);
}

static void test_loader__paired_views_show_the_same_crop(void **state)
{
    (void)state;
    tsr_dataset *data = open_idx(40);
    /* The first pair has equal settings, so its tensors must be equal; the third view is drawn anew. */
    tsr_view_spec pair[3] = {
        {.name = "a", .size = 6, .scale_lo = 0.2, .scale_hi = 1, .flip_p = 0.5}};
    pair[2] = pair[1] = pair[0];
    pair[1].name = "b";
    pair[1].paired = true;
    pair[2].name = "c";
    tsr_views views = {pair, 3};
    tsr_loader *loader =
        tsr_loader_open_views(data, &views, &(tsr_loader_options){.batch = 40, .seed = 3});
    const tsr_batch *batch = tsr_loader_next(loader);
    assert_same(tsr_batch_tensor(batch, "a"), tsr_batch_tensor(batch, "b"));
    const float *a = tsr_tensor_data(tsr_batch_tensor(batch, "a"));
    const float *c = tsr_tensor_data(tsr_batch_tensor(batch, "c"));
    assert_ok();
    int same = 0;
    for (int i = 0; i < 40; i++) same += memcmp(a + 108 * i, c + 108 * i, 108 * sizeof *a) == 0;
    assert_true(same < 4);
    tsr_loader_close(&loader);
    /* At twice the size, averaged over 2 x 2 pixels, it is nearly the same; flipped it would not be. */
    pair[1].size = 12;
    pair[1].interpolation = TSR_RESAMPLE_LANCZOS;
    loader = tsr_loader_open_views(data, &views, &(tsr_loader_options){.batch = 40, .seed = 3});
    batch = tsr_loader_next(loader);
    a = tsr_tensor_data(tsr_batch_tensor(batch, "a"));
    const float *b = tsr_tensor_data(tsr_batch_tensor(batch, "b"));
    double apart = 0.0, flipped = 0.0;
    for (int i = 0; i < 40 * 3 * 36; i++) {
        int x = i % 6;
        const float *at = b + (size_t)(i / 6) * 24 + 2 * x;
        double mean = 0.25 * ((double)at[0] + (double)at[1] + (double)at[12] + (double)at[13]);
        apart += fabs(mean - (double)a[i]);
        flipped += fabs(mean - (double)a[i - x + 5 - x]);
    }
    assert_true(apart < 0.35 * flipped);
    tsr_loader_close(&loader);
    pair[1].flip_p = 0.0;
    assert_null(tsr_loader_open_views(data, &views, NULL));
    assert_failed(TSR_STATUS_ARGUMENT, "view b: paired");
    tsr_dataset_close(&data);
}

static void test_loader__closes_at_any_time(void **state)
{
    (void)state;
    tsr_dataset *data = open_idx(50);
    tsr_views views = small_views();
    for (int i = 0; i < 30; i++) {
        tsr_loader_options options = {.batch = 8, .workers = 1 + i % 4, .prefetch = 1 + i % 3};
        tsr_loader *loader = tsr_loader_open_views(data, &views, &options);
        assert_ok();
        for (int k = 0; k < i % 5; k++) assert_non_null(tsr_loader_next(loader));
        tsr_loader_close(&loader);
    }
    tsr_loader_close(NULL);
    tsr_dataset_close(&data);
}

static tsr_status fail_on_seven(const tsr_loader_sample *sample, void *user)
{
    (void)user;
    if (sample->index % 10 == 7) {
        return tsr_fail(TSR_STATUS_NUMERIC, "sample %lld is unlucky", (long long)sample->index);
    }
    memcpy(tsr_sample_at(sample, 0, 0), &sample->index, sizeof sample->index);
    return TSR_STATUS_OK;
}

static void test_loader__a_failing_sample_reaches_the_consumer(void **state)
{
    (void)state;
    tsr_dataset *data = open_idx(50);
    tsr_loader_field field = {"x", TSR_DTYPE_I64, 1, TSR_SHAPE_SCALAR};
    for (int workers = 1; workers <= 4; workers++) {
        tsr_loader_options options = {.batch = 12, .in_order = true, .workers = workers};
        tsr_loader *loader = tsr_loader_open(data, &field, 1, fail_on_seven, NULL, &options);
        assert_null(tsr_loader_next(loader));
        assert_failed(TSR_STATUS_NUMERIC, "sample 7 is unlucky");
        assert_null(tsr_loader_next(loader));
        assert_failed(TSR_STATUS_NUMERIC, "sample 7 is unlucky");
        tsr_loader_close(&loader);
        options.step = 1; /* 12 .. 23: the first good batch would be none */
        loader = tsr_loader_open(data, &field, 1, fail_on_seven, NULL, &options);
        assert_null(tsr_loader_next(loader));
        assert_failed(TSR_STATUS_NUMERIC, "sample 17 is unlucky");
        tsr_loader_close(&loader);
    }
    tsr_dataset_close(&data);
}

static void test_loader__errors_of_opening_are_named(void **state)
{
    (void)state;
    tsr_dataset *data = open_idx(10);
    tsr_views views = small_views();
    assert_null(tsr_loader_open_views(data, &views, &(tsr_loader_options){.batch = 11}));
    assert_failed(TSR_STATUS_ARGUMENT, "10 images do not fill one batch of 11");
    assert_null(tsr_loader_open_views(data, &views, &(tsr_loader_options){.batch = 2, .step = 6}));
    assert_failed(TSR_STATUS_ARGUMENT, "step 6 of an epoch of 5");
    assert_null(tsr_loader_open_views(data, &views, &(tsr_loader_options){.workers = -1}));
    assert_failed(TSR_STATUS_ARGUMENT, "out of range");
    assert_null(tsr_loader_open_views(data, &(tsr_views){NULL, 0}, NULL));
    assert_failed(TSR_STATUS_ARGUMENT, "views");
    tsr_dataset_close(&data);
}

static void test_loader__unreadable_images_are_replaced_and_listed(void **state)
{
    (void)state;
    make_folder("a");
    for (int i = 0; i < 8; i++) {
        char name[32];
        snprintf(name, sizeof name, "a/%d.jpg", i);
        if (i == 3 || i == 4) {
            write_file(name, "not a JPEG at all", 17);
        } else {
            write_jpeg(name, 20, 30, 30 * i);
        }
    }
    tsr_dataset *data = tsr_dataset_open(test_folder, NULL);
    assert_ok();
    tsr_view_spec spec = tsr_view_eval(8);
    tsr_views views = {&spec, 1};
    tsr_loader_options options = {.batch = 8, .in_order = true, .workers = 3, .end_epoch = 2};
    tsr_loader *loader = tsr_loader_open_views(data, &views, &options);
    for (int epoch = 0; epoch < 2; epoch++) {
        const tsr_batch *batch = tsr_loader_next(loader);
        assert_ok();
        const int64_t *index = tsr_tensor_data(tsr_batch_tensor(batch, "index"));
        static const int64_t want[8] = {0, 1, 2, 5, 5, 5, 6, 7};
        assert_memory_equal(index, want, sizeof want);
    }
    tsr_dataset_problem problems[4];
    int64_t skipped;
    assert_int_equal(tsr_dataset_problems(data, problems, 4, &skipped), 2);
    assert_int_equal(skipped, 2);
    assert_int_equal(problems[0].index, 3);
    assert_int_equal(problems[1].index, 4);
    assert_true(problems[0].skipped);
    assert_non_null(strstr(problems[0].text, "a/3.jpg: not a JPEG"));
    tsr_loader_close(&loader);
    tsr_dataset_close(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        files_test(test_loader__batches_do_not_depend_on_workers_or_prefetch),
        files_test(test_loader__starts_at_any_epoch_and_step),
        files_test(test_loader__an_epoch_visits_each_image_once),
        files_test(test_loader__views_are_stacked_view_by_view),
        files_test(test_loader__paired_views_show_the_same_crop),
        files_test(test_loader__closes_at_any_time),
        files_test(test_loader__a_failing_sample_reaches_the_consumer),
        files_test(test_loader__errors_of_opening_are_named),
        files_test(test_loader__unreadable_images_are_replaced_and_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
