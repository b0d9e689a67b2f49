/*
 * Whole runs on a data set made here: the final checkpoint has the same bytes at any number of threads and workers, and
 * after any number of kills; what stops a run says why and loses nothing. Every run is a process of its own.
 */
#include "tests/test.h"

#include "recipes/recipes.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

/* 40 images of 16 x 16 with labels, as IDX. */
static void make_data(void)
{
    enum { N = 40, SIDE = 16 };
    static uint8_t images[16 + N * SIDE * SIDE] = {0, 0, 8, 3,    0, 0, 0, N,
                                                   0, 0, 0, SIDE, 0, 0, 0, SIDE};
    static uint8_t labels[8 + N] = {0, 0, 8, 1, 0, 0, 0, N};
    tsr_rng rng = tsr_rng_make(1, 0, 0, 0);
    for (int i = 0; i < N; i++) {
        labels[8 + i] = (uint8_t)(i % 4);
        for (int p = 0; p < SIDE * SIDE; p++) {
            int stripes = (p / SIDE * (i % 4 + 1)) % 8 < 4 ? 200 : 40;
            images[16 + i * SIDE * SIDE + p] = (uint8_t)(stripes + tsr_rng_below(&rng, 50));
        }
    }
    write_file("train-images-idx3-ubyte", images, sizeof images);
    write_file("train-labels-idx1-ubyte", labels, sizeof labels);
}

struct setting {
    const char *out;
    int threads, workers;
    bool resume;
    double lr;
    int64_t stop_after;
    const char *init, *dim; /* the run to start from; another --dim */
    bool bf16;
};

static bool begins_with(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static void set(const tsr_option *table, int n, void *options, const char *name, const char *value)
{
    const tsr_option *o = tsr_option_find(table, n, name);
    if (o != NULL) tsr_option_set(o, options, value);
}

enum { DIFFERENT = 98 }; /* a child's exit status beside those of the library */

/* Before the first step: a network of the run sees an image as the checkpoint's backbone does. */
static void compare_backbones(tsr_module *network, const tsr_backbone *wanted)
{
    const tsr_multi_crop *m = (const tsr_multi_crop *)network;
    tsr_scope scope = tsr_scope_open();
    bool was = tsr_recording_set(false), training = network->training;
    tsr_module_train(network, false);
    tsr_tensor *images = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(2, 3, 16, 16));
    tsr_fill_normal(images, tsr_rng_make(2, 0, 0, 0), 0.0, 1.0);
    tsr_tensor *a = tsr_tensor_packed(tsr_backbone_forward(m->backbone, images, NULL));
    tsr_tensor *b = tsr_tensor_packed(tsr_backbone_forward(wanted, images, NULL));
    size_t bytes = (size_t)tsr_tensor_numel(a) * sizeof(float);
    if (a == NULL || b == NULL || !tsr_shape_equal(tsr_tensor_shape(a), tsr_tensor_shape(b)) ||
        memcmp(tsr_tensor_data(a), tsr_tensor_data(b), bytes) != 0) {
        _exit(DIFFERENT);
    }
    tsr_module_train(network, training);
    tsr_recording_set(was);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void compare_with_init(const tsr_trainer *trainer, const tsr_dataset *data, int64_t position,
                              void *user)
{
    (void)data;
    const tsr_run_options *run = user;
    char path[TSR_CHECKPOINT_PATH];
    if (run->init == NULL || position > 0) return;
    tsr_checkpoint *c = tsr_checkpoint_open_run(run->init, path);
    tsr_backbone *wanted = c != NULL ? tsr_backbone_load(c, run->init_weights) : NULL;
    if (wanted == NULL) _exit(DIFFERENT);
    compare_backbones(tsr_trainer_networks(trainer)->student, wanted);
    compare_backbones(tsr_trainer_networks(trainer)->teacher, wanted);
    tsr_module_free(&wanted);
    tsr_checkpoint_close(&c);
}

/* In the child: one run; the exit status is the library's status. */
static void run_child(const struct setting *s, int message_fd)
{
    static const char *const choices[][2] = {
        {"image-size", "16"}, {"patch-size", "4"},    {"dim", "24"},
        {"depth", "2"},       {"heads", "2"},         {"epochs", "3"},
        {"batch", "8"},       {"warmup-epochs", "1"}, {"monitor-every", "4"},
        {"out-dim", "32"},    {"head-hidden", "32"},  {"head-bottleneck", "16"},
        {"local-crops", "2"}, {"local-size", "8"},    {"warmup-teacher-temp-epochs", "1"},
        {"drop-path", "0.2"}, {"micro-batch", "4"},
    };
    const tsr_recipe *recipe = tsr_recipe_find("ibot");
    int n;
    const tsr_option *table = tsr_train_option_table(&n);
    tsr_train_options train = {0};
    void *options = calloc(1, recipe->options_size);
    tsr_options_default(table, n, &train);
    tsr_options_default(recipe->options, recipe->n_options, options);
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        set(table, n, &train, choices[i][0], choices[i][1]);
        set(recipe->options, recipe->n_options, options, choices[i][0], choices[i][1]);
    }
    if (s->lr > 0.0) train.lr = s->lr;
    if (s->dim != NULL) set(table, n, &train, "dim", s->dim);
    if (s->bf16) set(table, n, &train, "precision", "bf16");
    tsr_threads_set(s->threads);
    char out[512], init[512];
    snprintf(out, sizeof out, "%s/%s", folder, s->out);
    snprintf(init, sizeof init, "%s/%s", folder, s->init != NULL ? s->init : "");
    tsr_run_options run = {.data = folder,
                           .out = out,
                           .seed = 7,
                           .workers = s->workers,
                           .save_every = 2,
                           .stop_after = s->stop_after,
                           .init = s->init != NULL ? init : NULL,
                           .resume = s->resume};
    tsr_run_events events = {.started = compare_with_init, .user = &run};
    tsr_status status = tsr_run(recipe, &train, options, &run, &events);
    if (write(message_fd, tsr_message(), strlen(tsr_message())) < 0) _exit(99);
    _exit((int)status);
}

static pid_t start(const struct setting *s, int *message)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) run_child(s, ends[1]);
    close(ends[1]);
    *message = ends[0];
    return child;
}

/* Runs to the end: the status, and the message. */
static tsr_status run(const struct setting *s, char message[512])
{
    int fd, status;
    pid_t child = start(s, &fd);
    ssize_t n, used = 0;
    while ((n = read(fd, message + used, (size_t)(511 - used))) > 0) used += n;
    message[used] = '\0';
    close(fd);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return (tsr_status)WEXITSTATUS(status);
}

static void read_checkpoint(const char *out, int64_t step, char **data, size_t *bytes)
{
    char directory[512], path[TSR_CHECKPOINT_PATH];
    snprintf(directory, sizeof directory, "%s/%s", folder, out);
    FILE *f = fopen(tsr_checkpoint_path(directory, step, path), "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *bytes = (size_t)ftell(f);
    *data = malloc(*bytes);
    rewind(f);
    assert_int_equal(fread(*data, 1, *bytes, f), *bytes);
    fclose(f);
}

enum { STEPS = 15 };

static void assert_same_checkpoint(const char *a, const char *b)
{
    char *da, *db;
    size_t na, nb;
    read_checkpoint(a, STEPS, &da, &na);
    read_checkpoint(b, STEPS, &db, &nb);
    assert_int_equal(na, nb);
    assert_memory_equal(da, db, na);
    free(da);
    free(db);
}

static void test_run__same_bytes_at_any_number_of_threads_and_workers(void **state)
{
    (void)state;
    char message[512];
    assert_int_equal(run(&(struct setting){"one", 1, 1}, message), TSR_STATUS_OK);
    assert_int_equal(run(&(struct setting){"two", 2, 3}, message), TSR_STATUS_OK);
    assert_int_equal(run(&(struct setting){"four", 4, 2}, message), TSR_STATUS_OK);
    assert_same_checkpoint("one", "two");
    assert_same_checkpoint("one", "four");
}

/* Stops in the middle of an epoch; the other options of resuming are the program's. */
static void test_run__same_bytes_after_a_stop(void **state)
{
    (void)state;
    char message[512];
    assert_int_equal(run(&(struct setting){"stopped", 2, 2, .stop_after = 7}, message),
                     TSR_STATUS_OK);
    assert_int_equal(run(&(struct setting){"stopped", 1, 2, .resume = true}, message),
                     TSR_STATUS_OK);
    assert_same_checkpoint("one", "stopped");
}

static void
test_run__bf16_gives_the_same_bytes_at_any_number_of_threads_and_after_a_stop(void **state)
{
    (void)state;
    char message[512];
    struct setting half = {"half", 1, 1, .bf16 = true}, four = {"half4", 4, 2, .bf16 = true};
    struct setting stopped = {"half stopped", 2, 2, .stop_after = 7, .bf16 = true};
    assert_int_equal(run(&half, message), TSR_STATUS_OK);
    assert_int_equal(run(&four, message), TSR_STATUS_OK);
    assert_int_equal(run(&stopped, message), TSR_STATUS_OK);
    stopped.stop_after = 0;
    stopped.resume = true;
    assert_int_equal(run(&stopped, message), TSR_STATUS_OK);
    assert_same_checkpoint("half", "half4");
    assert_same_checkpoint("half", "half stopped");
}

static void test_run__same_bytes_after_kills(void **state)
{
    (void)state;
    char message[512], directory[512];
    snprintf(directory, sizeof directory, "%s/killed", folder);
    tsr_rng rng = tsr_rng_make((uint64_t)time(NULL), 0, 0, 0);
    /* Each attempt is killed within the first half of the time that a whole run takes here; later ones live longer. */
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    assert_int_equal(run(&(struct setting){"timed", 2, 2}, message), TSR_STATUS_OK);
    clock_gettime(CLOCK_MONOTONIC, &end);
    int64_t whole = (end.tv_sec - begin.tv_sec) * 1000000000 + end.tv_nsec - begin.tv_nsec;
    int kills = 0;
    for (int attempt = 0; attempt < 200; attempt++) {
        int64_t step;
        assert_int_equal(tsr_checkpoint_latest(directory, &step), TSR_STATUS_OK);
        if (step == STEPS) break;
        int fd, status;
        pid_t child = start(&(struct setting){"killed", 2, 2, step >= 0}, &fd);
        int64_t wait_ns = tsr_rng_below(&rng, whole / 2) * (1 + attempt / 20);
        nanosleep(&(struct timespec){wait_ns / 1000000000, wait_ns % 1000000000}, NULL);
        kill(child, SIGKILL);
        close(fd);
        assert_int_equal(waitpid(child, &status, 0), child);
        kills += WIFSIGNALED(status);
    }
    assert_true(kills > 0);
    run(&(struct setting){"killed", 2, 2, true}, message);
    assert_same_checkpoint("one", "killed");
}

static void test_run__a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(void **state)
{
    (void)state;
    char message[512];
    assert_int_equal(run(&(struct setting){"wild", 1, 1, .lr = 1e36}, message), TSR_STATUS_NUMERIC);
    assert_non_null(strstr(message, "lower --lr"));
    assert_null(strchr(message, '\n'));
    char directory[512], path[TSR_CHECKPOINT_PATH];
    int64_t step;
    snprintf(directory, sizeof directory, "%s/wild", folder);
    assert_int_equal(tsr_checkpoint_latest(directory, &step), TSR_STATUS_OK);
    assert_true(step >= 2);
    tsr_checkpoint *c = tsr_checkpoint_open(tsr_checkpoint_path(directory, step, path));
    assert_non_null(c);
    assert_int_equal(tsr_checkpoint_verify(c), TSR_STATUS_OK);
    for (int64_t i = 0; i < tsr_checkpoint_count(c); i++) {
        tsr_scope scope = tsr_scope_open();
        const char *name = tsr_checkpoint_at(c, i)->name;
        if (begins_with(name, "student/"))
            assert_true(tsr_tensor_is_finite(tsr_checkpoint_tensor(c, name)));
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
    tsr_checkpoint_close(&c);
}

static void test_run__refuses_a_directory_in_use(void **state)
{
    (void)state;
    char message[512];
    assert_int_equal(run(&(struct setting){"one", 1, 1}, message), TSR_STATUS_ARGUMENT);
    assert_non_null(strstr(message, "--resume"));
}

static void test_run__refuses_to_resume_nothing(void **state)
{
    (void)state;
    char message[512];
    assert_int_equal(run(&(struct setting){"nothing", 1, 1, .resume = true}, message),
                     TSR_STATUS_ARGUMENT);
    assert_non_null(strstr(message, "no checkpoint"));
}

/* Student and teacher begin with the teacher's backbone of the other run; heads are new. */
static void test_run__starts_from_the_backbone_of_a_checkpoint(void **state)
{
    (void)state;
    char message[512];
    tsr_status status =
        run(&(struct setting){"adopted", 1, 1, .stop_after = 1, .init = "one"}, message);
    if (status != TSR_STATUS_OK) fail_msg("%d: %s", (int)status, message);
    status = run(&(struct setting){"wider", 1, 1, .init = "one", .dim = "48"}, message);
    assert_int_equal(status, TSR_STATUS_ARGUMENT);
    assert_non_null(strstr(message, "cls_token [1, 1, 24], this run's [1, 1, 48]: give the "
                                    "options of its shape, --model and the like"));
    status = run(&(struct setting){"lost", 1, 1, .init = "missing"}, message);
    assert_int_equal(status, TSR_STATUS_IO);
}

static int make_folder(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/tessera-run-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(folder) == NULL) return -1;
    make_data();
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_run__same_bytes_at_any_number_of_threads_and_workers),
        tsr_test(test_run__same_bytes_after_a_stop),
        tsr_test(test_run__bf16_gives_the_same_bytes_at_any_number_of_threads_and_after_a_stop),
        tsr_test(test_run__same_bytes_after_kills),
        tsr_test(test_run__a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint),
        tsr_test(test_run__refuses_a_directory_in_use),
        tsr_test(test_run__refuses_to_resume_nothing),
        tsr_test(test_run__starts_from_the_backbone_of_a_checkpoint),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
