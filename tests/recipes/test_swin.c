/* iBOT with a small Swin: the same bytes after a stop, and its checkpoint opens for evaluation. */
#include "tests/test.h"

#include "recipes/recipes.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STEPS = 4, N = 16, SIDE = 16 };

static char folder[256];

static void write_file(const char *name, const void *data, size_t n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static int make_folder(void **state)
{
    (void)state;
    static uint8_t images[16 + N * SIDE * SIDE] = {0, 0, 8, 3,    0, 0, 0, N,
                                                   0, 0, 0, SIDE, 0, 0, 0, SIDE};
    static uint8_t labels[8 + N] = {0, 0, 8, 1, 0, 0, 0, N};
    snprintf(folder, sizeof folder, "/tmp/tsr_swin_XXXXXX");
    if (mkdtemp(folder) == NULL) return -1;
    tsr_rng rng = tsr_rng_make(1, 0, 0, 0);
    for (int i = 0; i < N; i++) {
        labels[8 + i] = (uint8_t)(i % 2);
        for (int p = 0; p < SIDE * SIDE; p++) {
            int stripes = (i % 2 == 0 ? p / SIDE : p) % 8 < 4 ? 200 : 40;
            images[16 + i * SIDE * SIDE + p] = (uint8_t)(stripes + tsr_rng_below(&rng, 50));
        }
    }
    write_file("train-images-idx3-ubyte", images, sizeof images);
    write_file("train-labels-idx1-ubyte", labels, sizeof labels);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static void set(const tsr_option *table, int n, void *options, const char *name, const char *value)
{
    const tsr_option *o = tsr_option_find(table, n, name);
    if (o != NULL) assert_int_equal(tsr_option_set(o, options, value), TSR_STATUS_OK);
}

/* Tokens of 8 pixels: images of 2 x 2 of them, local crops of one. */
static tsr_status run(const char *name, int64_t stop_after, bool resume, const char *option,
                      const char *value)
{
    static const char *const choices[][2] = {
        {"model", "swin_tiny"},
        {"image-size", "16"},
        {"patch-size", "1"},
        {"window", "4"},
        {"dim", "6"},
        {"depth", "8"},
        {"heads", "1"},
        {"epochs", "1"},
        {"batch", "4"},
        {"warmup-epochs", "0"},
        {"out-dim", "16"},
        {"head-hidden", "16"},
        {"head-bottleneck", "8"},
        {"local-crops", "1"},
        {"local-size", "8"},
        {"pred-ratio", "0.5"},
        {"pred-ratio-var", "0"},
        {"patch-out-dim", "16"},
        {"warmup-teacher-temp-epochs", "1"},
        {"drop-path", "0.2"},
    };
    const tsr_recipe *recipe = tsr_recipe_find("ibot");
    int n;
    const tsr_option *table = tsr_train_option_table(&n);
    tsr_train_options train = {0};
    void *options = calloc(1, recipe->options_size);
    assert_int_equal(tsr_recipe_defaults(recipe, &train, options), TSR_STATUS_OK);
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        set(table, n, &train, choices[i][0], choices[i][1]);
        set(recipe->options, recipe->n_options, options, choices[i][0], choices[i][1]);
    }
    if (option != NULL) set(table, n, &train, option, value);
    char out[512];
    snprintf(out, sizeof out, "%s/%s", folder, name);
    tsr_run_options run_options = {.data = folder,
                                   .out = out,
                                   .seed = 7,
                                   .workers = 1,
                                   .stop_after = stop_after,
                                   .resume = resume};
    tsr_status status = tsr_run(recipe, &train, options, &run_options, NULL);
    free(options);
    return status;
}

static char *read_last(const char *name, size_t *bytes)
{
    char directory[512], path[TSR_CHECKPOINT_PATH];
    snprintf(directory, sizeof directory, "%s/%s", folder, name);
    FILE *f = fopen(tsr_checkpoint_path(directory, STEPS, path), "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *bytes = (size_t)ftell(f);
    char *data = malloc(*bytes);
    rewind(f);
    assert_int_equal(fread(data, 1, *bytes, f), *bytes);
    fclose(f);
    return data;
}

static void test_swin__same_bytes_after_a_stop(void **state)
{
    (void)state;
    assert_int_equal(run("whole", 0, false, NULL, NULL), TSR_STATUS_OK);
    assert_int_equal(run("stopped", 2, false, NULL, NULL), TSR_STATUS_OK);
    assert_int_equal(run("stopped", 0, true, NULL, NULL), TSR_STATUS_OK);
    size_t na, nb;
    char *a = read_last("whole", &na), *b = read_last("stopped", &nb);
    assert_int_equal(na, nb);
    assert_memory_equal(a, b, na);
    free(a);
    free(b);
}

static void test_swin__is_evaluated_from_its_checkpoint(void **state)
{
    (void)state;
    char directory[512], path[TSR_CHECKPOINT_PATH];
    snprintf(directory, sizeof directory, "%s/whole", folder);
    tsr_checkpoint *c = tsr_checkpoint_open_run(directory, path);
    tsr_backbone *m = c != NULL ? tsr_backbone_load(c, "student") : NULL;
    tsr_dataset *data = tsr_dataset_open(folder, NULL);
    assert_ok();
    /* Two blocks of the third stage (4 x 6), two of the last one (8 x 6). */
    tsr_extract_options extract = {.last_blocks = 4, .size = 16, .workers = 1};
    tsr_features features;
    assert_int_equal(tsr_features_extract(m, data, &extract, &features), TSR_STATUS_OK);
    assert_true(tsr_shape_equal(tsr_tensor_shape(features.x), TSR_SHAPE(N, 2 * 24 + 2 * 48)));
    tsr_knn_options knn = {.k = (const int64_t[]){1}, .n_k = 1};
    tsr_knn_result result;
    assert_int_equal(tsr_knn_evaluate(&features, &features, &knn, &result), TSR_STATUS_OK);
    assert_true(result.scores[0].top1 == 1.0); /* each is its own neighbour */
    tsr_dataset_close(&data);
    tsr_module_free(&m);
    tsr_checkpoint_close(&c);
}

static void test_swin__refuses_what_it_is_without(void **state)
{
    (void)state;
    assert_int_equal(run("a", 1, false, "recompute-blocks", "true"), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "a swin is without --recompute-blocks");
    assert_int_equal(run("a", 1, false, "image-size", "20"), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "--image-size: 20 is no multiple of 8");
    assert_int_equal(run("a", 1, false, "depth", "6"), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "--depth: got 6, expected 7 or more for swin_tiny");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_swin__same_bytes_after_a_stop),
        tsr_test(test_swin__is_evaluated_from_its_checkpoint),
        tsr_test(test_swin__refuses_what_it_is_without),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
