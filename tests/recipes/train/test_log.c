/* log.jsonl: what is written, and what is cut away when a run resumes. */
#include "tests/test.h"

#include "recipes/train/log.h"

#include <stdlib.h>
#include <unistd.h>

static char folder[256], path[512];

static void contents(char *text, size_t size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    text[fread(text, 1, size - 1, f)] = '\0';
    fclose(f);
}

static void test_log__resuming_cuts_later_and_broken_rows(void **state)
{
    (void)state;
    char text[512];
    tsr_run_log *log = tsr_run_log_open(folder, 0);
    assert_ok();
    for (int64_t step = 0; step < 3; step++) {
        tsr_run_log_number numbers[] = {{"loss", 0.5}, {"lr", step == 0 ? NAN : 0.25}};
        assert_int_equal(tsr_run_log_write(log, step, 0, numbers, 2), TSR_STATUS_OK);
    }
    tsr_run_log_close(&log);
    FILE *f = fopen(path, "ab");
    fputs("{\"step\":1,\"lo", f); /* killed while it wrote */
    fclose(f);
    log = tsr_run_log_open(folder, 2);
    assert_ok();
    contents(text, sizeof text);
    assert_string_equal(text, "{\"step\":0,\"epoch\":0,\"loss\":0.5,\"lr\":null}\n"
                              "{\"step\":1,\"epoch\":0,\"loss\":0.5,\"lr\":0.25}\n");
    tsr_run_log_number number = {"loss", 2.0};
    assert_int_equal(tsr_run_log_write(log, 2, 1, &number, 1), TSR_STATUS_OK);
    tsr_run_log_close(&log);
    contents(text, sizeof text);
    assert_non_null(strstr(text, "\n{\"step\":2,\"epoch\":1,\"loss\":2.0}\n"));
}

static void test_log__says_where_it_cannot_write(void **state)
{
    (void)state;
    assert_null(tsr_run_log_open("/nowhere/at/all", 0));
    assert_failed(TSR_STATUS_IO, "/nowhere/at/all/log.jsonl");
}

static int make_folder(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/tessera-log-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(folder) == NULL) return -1;
    snprintf(path, sizeof path, "%s/log.jsonl", folder);
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
        tsr_test(test_log__resuming_cuts_later_and_broken_rows),
        tsr_test(test_log__says_where_it_cannot_write),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
