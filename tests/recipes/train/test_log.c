/* log.jsonl and event files: what is written, and what is cut away when a run resumes. */
#include "tests/test.h"

#include "recipes/train/log.h"

#include <glob.h>
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

/* ---- event files, read by hand: TFRecord's framing, then protobuf's wire format ---- */

static uint32_t crc32c(const uint8_t *data, size_t n)
{
    static uint32_t table[256];
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) c = (c & 1u) != 0 ? (c >> 1) ^ 0x82F63B78u : c >> 1;
        table[i] = c;
    }
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) crc = table[(crc ^ data[i]) & 255u] ^ (crc >> 8);
    return ~crc;
}

static void assert_masked_crc(const uint8_t *data, size_t n)
{
    uint32_t stored, crc = crc32c(data, n);
    memcpy(&stored, data + n, 4);
    assert_int_equal(stored, (uint32_t)((crc >> 15 | crc << 17) + 0xa282ead8u));
}

/* The bytes of the next record, and past it. */
static const uint8_t *next_record(const uint8_t **at, size_t *n)
{
    uint64_t length;
    memcpy(&length, *at, 8);
    assert_masked_crc(*at, 8);
    const uint8_t *data = *at + 12;
    assert_masked_crc(data, length);
    *at = data + length + 4;
    *n = length;
    return data;
}

static void test_log__event_files_are_records_of_scalars_zero_too(void **state)
{
    (void)state;
    assert_int_equal(crc32c((const uint8_t *)"123456789", 9), 0xE3069283);
    char pattern[512];
    snprintf(pattern, sizeof pattern, "%s/events.out.tfevents.*.00000007", folder);
    tsr_run_log *log = tsr_run_log_open(folder, 7);
    tsr_run_log_number numbers[] = {{"loss", 0.5}, {"lr", 0.0}};
    assert_int_equal(tsr_run_log_write(log, 300, 1, numbers, 2), TSR_STATUS_OK);
    tsr_run_log_close(&log);
    glob_t found;
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    FILE *f = fopen(found.gl_pathv[0], "rb");
    globfree(&found);
    assert_non_null(f);
    uint8_t bytes[512];
    size_t size = fread(bytes, 1, sizeof bytes, f), n;
    fclose(f);
    const uint8_t *at = bytes, *record = next_record(&at, &n);
    /* Event: 1 wall_time (double), 3 file_version. */
    static const uint8_t version[] = "\x1a\x0d"
                                     "brain.Event:2";
    assert_int_equal(n, 9 + 15);
    assert_int_equal(record[0], 1 << 3 | 1);
    assert_memory_equal(record + 9, version, 15);
    /* 1 wall_time, 2 step 300, 5 summary { 1 value { 1 tag, 2 simple_value (float) } }. */
    static const uint8_t scalars[] = "\x10\xac\x02\x2a\x18"
                                     "\x0a\x0b\x0a\x04"
                                     "loss"
                                     "\x15\x00\x00\x00\x3f"
                                     "\x0a\x09\x0a\x02"
                                     "lr"
                                     "\x15\x00\x00\x00\x00";
    record = next_record(&at, &n);
    assert_int_equal(record[0], 1 << 3 | 1);
    assert_int_equal(n, 9 + sizeof scalars - 1);
    assert_memory_equal(record + 9, scalars, sizeof scalars - 1);
    assert_ptr_equal(at, bytes + size);
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
        tsr_test(test_log__event_files_are_records_of_scalars_zero_too),
        tsr_test(test_log__says_where_it_cannot_write),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
