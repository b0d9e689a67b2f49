#include "serialization/serialization.h"
#include "tests/serialization/files.h"

static void touch(void **state, const char *name)
{
    write_file(in_directory(state, name), "x", 1);
}

static bool is_there(void **state, const char *name)
{
    return access(in_directory(state, name), F_OK) == 0;
}

static void test_checkpoint_files__paths_sort_by_step(void **state)
{
    (void)state;
    char path[TSR_CHECKPOINT_PATH];
    assert_string_equal(tsr_checkpoint_path("out", 120, path), "out/checkpoint-00000120.tsr");
    assert_string_equal(tsr_checkpoint_path(".", 0, path), "./checkpoint-00000000.tsr");
    assert_string_equal(tsr_checkpoint_path("/", 1234567890123, path),
                        "//checkpoint-1234567890123.tsr");
    assert_null(tsr_checkpoint_path("out", -1, path));
    assert_failed(TSR_STATUS_ARGUMENT, "no path for step -1 in 'out'");
    assert_null(tsr_checkpoint_path(NULL, 1, path));
    assert_failed(TSR_STATUS_ARGUMENT, "no path for step 1");
    char *name = calloc(1, TSR_CHECKPOINT_PATH);
    memset(name, 'a', TSR_CHECKPOINT_PATH - 10);
    assert_null(tsr_checkpoint_path(name, 1, path));
    assert_failed(TSR_STATUS_ARGUMENT, "no path for step 1");
    free(name);
}

static void test_checkpoint_files__latest_is_the_highest_whole_one(void **state)
{
    const char *directory_path = ((directory *)*state)->path;
    int64_t step = 5;
    assert_int_equal(tsr_checkpoint_latest(directory_path, &step), TSR_STATUS_OK);
    assert_int_equal(step, -1);
    static const char *const others[] = {
        "checkpoint-00000900.tsr.partial-1", "checkpoint-900.tsr",
        "checkpoint-000000900.tsr",          "checkpoint-00000900.ts",
        "checkpoint-00000900.tsr~",          "checkpoint--0000900.tsr",
        "checkpoint-0000090x.tsr",           "checkpoint-9999999999999999999.tsr",
        "old-checkpoint-00000900.tsr",       "checkpoint-00000900.tsr2",
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) touch(state, others[i]);
    assert_int_equal(tsr_checkpoint_latest(directory_path, &step), TSR_STATUS_OK);
    assert_int_equal(step, -1);
    touch(state, "checkpoint-00000000.tsr");
    assert_int_equal(tsr_checkpoint_latest(directory_path, &step), TSR_STATUS_OK);
    assert_int_equal(step, 0);
    touch(state, "checkpoint-100000000.tsr");
    touch(state, "checkpoint-99999999.tsr");
    assert_int_equal(tsr_checkpoint_latest(directory_path, &step), TSR_STATUS_OK);
    assert_int_equal(step, 100000000);

    assert_int_equal(tsr_checkpoint_latest("/nonexistent/directory", &step), TSR_STATUS_OK);
    assert_int_equal(step, -1);
    assert_int_equal(tsr_checkpoint_latest(in_directory(state, others[0]), &step), TSR_STATUS_IO);
    assert_failed(TSR_STATUS_IO, "cannot read the directory");
    assert_int_equal(tsr_checkpoint_latest(NULL, &step), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "is NULL");
}

static void test_checkpoint_files__prune_keeps_the_newest(void **state)
{
    const char *directory_path = ((directory *)*state)->path;
    touch(state, "checkpoint-00000010.tsr");
    touch(state, "checkpoint-00000009.tsr");
    touch(state, "checkpoint-100000000.tsr");
    touch(state, "checkpoint-00000011.tsr");
    touch(state, "checkpoint-00000012.tsr.partial-77000");
    touch(state, "best.tsr");
    touch(state, "checkpoint-12.tsr");
    assert_int_equal(tsr_checkpoint_prune(directory_path, 4), TSR_STATUS_OK);
    assert_int_equal(count_files(directory_path, false), 6);
    assert_int_equal(tsr_checkpoint_prune(directory_path, 2), TSR_STATUS_OK);
    assert_int_equal(count_files(directory_path, false), 4);
    assert_true(is_there(state, "checkpoint-100000000.tsr"));
    assert_true(is_there(state, "checkpoint-00000011.tsr"));
    assert_true(is_there(state, "best.tsr"));
    assert_true(is_there(state, "checkpoint-12.tsr"));
    assert_int_equal(tsr_checkpoint_prune(directory_path, 0), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "keep is 0, wanted 1 or more");
    assert_int_equal(tsr_checkpoint_prune("/nonexistent/directory", 1), TSR_STATUS_IO);
    assert_failed(TSR_STATUS_IO, "cannot read the directory '/nonexistent/directory'");
}

#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, open_directory, close_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(test_checkpoint_files__paths_sort_by_step),
        IN_DIRECTORY(test_checkpoint_files__latest_is_the_highest_whole_one),
        IN_DIRECTORY(test_checkpoint_files__prune_keeps_the_newest),
    };
    return cmocka_run_group_tests(tests, NULL, trim_pool);
}
