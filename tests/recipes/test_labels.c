/* Runs on a part of the labels: which images are trained on, and that a run goes on with the same ones. */
#include "tests/recipes/labelled.h"

static int64_t images; /* that a run has started with */

static void count_images(const tsr_trainer *trainer, const tsr_dataset *data, int64_t position,
                         void *user)
{
    (void)trainer;
    (void)position;
    (void)user;
    images = tsr_dataset_count(data);
}

static tsr_status run(labelled *l)
{
    const tsr_run_events events = {.user = l, .started = count_images};
    return tsr_run(l->recipe, &l->train, l->options, &l->run, &events);
}

static void open_run(labelled *l, const char *out)
{
    labelled_open(l, "supervised", out, "epochs=2 batch=4 drop-path=0.1");
}

static void test_labels__a_fraction_resumes_to_the_same_bytes(void **state)
{
    (void)state;
    labelled one, two;
    open_run(&one, "fraction-one");
    one.run.label_fraction = 0.25;
    run(&one);
    assert_ok();
    assert_int_equal(images, LABELLED_MAX / 4);
    open_run(&two, "fraction-two");
    two.run.label_fraction = 0.25;
    two.run.workers = 2;
    two.run.stop_after = 7;
    run(&two);
    assert_ok();
    two.run.stop_after = 0;
    two.run.resume = true;
    two.run.label_fraction = 0.0;
    run(&two);
    assert_failed(TSR_STATUS_ARGUMENT, "resume: the run has label fraction 0.25");
    two.run.label_fraction = 0.25;
    run(&two);
    assert_ok();
    assert_same_runs(&one, &two);
    labelled_close(&one);
    labelled_close(&two);
}

static void test_labels__a_list_is_trained_on_alone(void **state)
{
    (void)state;
    labelled l;
    char path[300], list[1024] = "";
    for (int i = 0; i < 12; i++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "train-images-idx3-ubyte[%d]\n", 3 * i);
    }
    write_file("list.txt", list, strlen(list));
    snprintf(path, sizeof path, "%s/list.txt", folder);
    open_run(&l, "list");
    l.run.label_list = path;
    l.run.stop_after = 4;
    run(&l);
    assert_ok();
    assert_int_equal(images, 12);
    l.run.resume = true;
    l.run.stop_after = 0;
    l.run.label_list = "elsewhere.txt";
    run(&l);
    assert_failed(TSR_STATUS_IO, "elsewhere.txt");
    l.run.label_list = path;
    run(&l);
    assert_ok();
    l.run.label_fraction = 0.5;
    run(&l);
    assert_failed(TSR_STATUS_ARGUMENT, "give one of the two");
    labelled_close(&l);
}

static void test_labels__bad_fractions_are_named(void **state)
{
    (void)state;
    static const double bad[] = {-0.1, 1.5};
    for (int i = 0; i < 2; i++) {
        labelled l;
        open_run(&l, "bad");
        l.run.label_fraction = bad[i];
        run(&l);
        assert_failed(TSR_STATUS_ARGUMENT, "label fraction: ");
        labelled_close(&l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_labels__a_fraction_resumes_to_the_same_bytes),
        tsr_test(test_labels__a_list_is_trained_on_alone),
        tsr_test(test_labels__bad_fractions_are_named),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
