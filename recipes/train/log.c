/*
 * log.jsonl and TensorBoard event files. An event file is a sequence of records (tensorflow/core/lib/io/record_writer.h):
 * u64 length, u32 masked CRC-32C of the length, data, u32 masked CRC-32C of the data, all little-endian.
 */
#include "recipes/train/log.h"

#include "event.pb-c.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct tsr_run_log {
    FILE *rows, *events;
    char path[1024];
};

/* CRC-32C (Castagnoli), bit by bit: a record is a few hundred bytes. */
static uint32_t masked_crc(const void *data, size_t n)
{
    const uint8_t *p = data;
    uint32_t crc = ~0u;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0x82F63B78u & (0u - (crc & 1u)));
    }
    crc = ~crc;
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

static void put_little_endian(uint8_t *out, uint64_t x, int bytes)
{
    for (int i = 0; i < bytes; i++) out[i] = (uint8_t)(x >> (8 * i));
}

static tsr_status failed(const tsr_run_log *log)
{
    return tsr_fail(TSR_STATUS_IO, "log %s: %s", log->path, strerror(errno));
}

static tsr_status write_event(tsr_run_log *log, const Tessera__Tensorboard__Event *event)
{
    size_t n = tessera__tensorboard__event__get_packed_size(event);
    uint8_t *record = tsr_alloc(n + 16);
    if (record == NULL) return tsr_status_get();
    put_little_endian(record, n, 8);
    put_little_endian(record + 8, masked_crc(record, 8), 4);
    tessera__tensorboard__event__pack(event, record + 12);
    put_little_endian(record + 12 + n, masked_crc(record + 12, n), 4);
    bool ok = fwrite(record, 1, n + 16, log->events) == n + 16 && fflush(log->events) == 0;
    tsr_free(record);
    return ok ? TSR_STATUS_OK : failed(log);
}

static double wall_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The end of the rows below position: the file is cut there. */
static tsr_status cut(tsr_run_log *log, int64_t position)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    off_t keep = 0;
    rewind(log->rows);
    while ((n = getline(&line, &capacity, log->rows)) > 0 && line[n - 1] == '\n') {
        json_t *row = json_loadb(line, (size_t)n, 0, NULL);
        json_t *step = json_object_get(row, "step");
        bool below = json_is_integer(step) && json_integer_value(step) < position;
        json_decref(row);
        if (!below) break;
        keep += n;
    }
    free(line);
    bool ok = !ferror(log->rows) && ftruncate(fileno(log->rows), keep) == 0 &&
              fseeko(log->rows, keep, SEEK_SET) == 0;
    return ok ? TSR_STATUS_OK : failed(log);
}

tsr_run_log *tsr_run_log_open(const char *directory, int64_t position)
{
    tsr_run_log *log = tsr_alloc(sizeof *log);
    if (log == NULL) return NULL;
    *log = (tsr_run_log){0};
    char events[1024];
    snprintf(log->path, sizeof log->path, "%s/log.jsonl", directory);
    snprintf(events, sizeof events, "%s/events.out.tfevents.%010lld.%08" PRId64, directory,
             (long long)time(NULL), position);
    log->rows = fopen(log->path, "a+e");
    if (log->rows != NULL) log->events = fopen(events, "wbe");
    if (log->rows == NULL || log->events == NULL) {
        failed(log);
    } else if (cut(log, position) == TSR_STATUS_OK) {
        Tessera__Tensorboard__Event event = TESSERA__TENSORBOARD__EVENT__INIT;
        event.wall_time = wall_time();
        event.what_case = TESSERA__TENSORBOARD__EVENT__WHAT_FILE_VERSION;
        event.file_version = (char *)"brain.Event:2";
        write_event(log, &event);
    }
    if (tsr_status_get() != TSR_STATUS_OK) tsr_run_log_close(&log);
    return log;
}

static tsr_status write_row(tsr_run_log *log, int64_t step, int64_t epoch,
                            const tsr_run_log_number *numbers, int n)
{
    json_t *row = json_object();
    bool ok = row != NULL && json_object_set_new(row, "step", json_integer(step)) == 0 &&
              json_object_set_new(row, "epoch", json_integer(epoch)) == 0;
    for (int i = 0; ok && i < n; i++) {
        double x = numbers[i].value;
        ok = json_object_set_new(row, numbers[i].name, isfinite(x) ? json_real(x) : json_null()) ==
             0;
    }
    errno = ENOMEM;
    ok = ok && json_dumpf(row, log->rows, JSON_COMPACT) == 0 && fputc('\n', log->rows) != EOF &&
         fflush(log->rows) == 0;
    json_decref(row);
    return ok ? TSR_STATUS_OK : failed(log);
}

tsr_status tsr_run_log_write(tsr_run_log *log, int64_t step, int64_t epoch,
                             const tsr_run_log_number *numbers, int n)
{
    if (write_row(log, step, epoch, numbers, n) != TSR_STATUS_OK) return tsr_status_get();
    enum { MOST = 64 };
    Tessera__Tensorboard__Value values[MOST], *pointers[MOST];
    Tessera__Tensorboard__Summary summary = TESSERA__TENSORBOARD__SUMMARY__INIT;
    for (int i = 0; i < n && i < MOST; i++) {
        values[i] = (Tessera__Tensorboard__Value)TESSERA__TENSORBOARD__VALUE__INIT;
        values[i].tag = (char *)numbers[i].name;
        values[i].value_case = TESSERA__TENSORBOARD__VALUE__VALUE_SIMPLE_VALUE;
        values[i].simple_value = (float)numbers[i].value;
        pointers[i] = &values[i];
        summary.n_value++;
    }
    summary.value = pointers;
    Tessera__Tensorboard__Event event = TESSERA__TENSORBOARD__EVENT__INIT;
    event.wall_time = wall_time();
    event.step = step;
    event.what_case = TESSERA__TENSORBOARD__EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    return write_event(log, &event);
}

void tsr_run_log_close(tsr_run_log **log)
{
    if (log == NULL || *log == NULL) return;
    if ((*log)->rows != NULL) fclose((*log)->rows);
    if ((*log)->events != NULL) fclose((*log)->events);
    tsr_free(*log);
    *log = NULL;
}
