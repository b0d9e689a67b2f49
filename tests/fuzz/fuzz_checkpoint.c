/*
 * Any bytes as a checkpoint: an error or content, within memory in proportion to the input. Checksums keep a fuzzer out, so
 * each input is also tried with the checksums of its records made right.
 */
#include "serialization/serialization.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const uint8_t *data, size_t size)
{
    tsr_scope scope = tsr_scope_open();
    tsr_checkpoint *c = tsr_checkpoint_open_memory(data, size);
    if (c == NULL && tsr_status_get() == TSR_STATUS_OK) __builtin_trap();
    tsr_status_clear();
    for (int64_t i = 0; i < tsr_checkpoint_count(c); i++) {
        const tsr_checkpoint_entry *e = tsr_checkpoint_at(c, i);
        if (tsr_checkpoint_find(c, e->name) != e) __builtin_trap();
        tsr_tensor *t = tsr_checkpoint_tensor(c, e->name);
        if (t == NULL && tsr_status_get() == TSR_STATUS_OK) __builtin_trap();
        tsr_status_clear();
    }
    size_t touched = 0;
    for (int64_t i = 0; i < tsr_checkpoint_value_count(c); i++) {
        const tsr_checkpoint_value *v = tsr_checkpoint_value_at(c, i);
        if (tsr_checkpoint_value_find(c, v->key) != v) __builtin_trap();
        if (v->kind == TSR_VALUE_KIND_STRING) touched += strlen(v->u.as_string);
        if (v->kind == TSR_VALUE_KIND_BYTES && v->bytes > 0)
            touched += ((const uint8_t *)v->u.as_bytes)[v->bytes - 1];
    }
    for (int64_t i = 0; i < tsr_checkpoint_history_count(c); i++) {
        const tsr_history *h = tsr_checkpoint_history_at(c, i);
        if (tsr_checkpoint_history_find(c, h->name) != h) __builtin_trap();
        if (h->n_rows > 0) touched += h->steps[h->n_rows - 1] > 0;
        if (h->n_rows * h->n_columns > 0) touched += h->values[h->n_rows * h->n_columns - 1] > 0;
    }
    if (touched == SIZE_MAX) __builtin_trap();
    tsr_checkpoint_close(&c);
    tsr_status_clear();
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    tsr_pool_trim();
}

/* Records as Tessera writes them: length, 0x0d, checksum, 0x12, length of the entry, entry. */
static void repair(uint8_t *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        size_t length[2] = {0, 0};
        for (int k = 0; k < 2; k++) {
            for (int shift = 0; at < size && shift < 28; shift += 7) {
                length[k] |= (size_t)(data[at] & 0x7f) << shift;
                if ((data[at++] & 0x80) == 0) break;
            }
            if (k == 0) at += 6;
        }
        if (at > size || length[1] > size - at) return;
        uint32_t crc = (uint32_t)crc32_z(0, data + at, length[1]);
        size_t header = length[1] < 0x80       ? 1
                        : length[1] < 0x4000   ? 2
                        : length[1] < 0x200000 ? 3
                                               : 4;
        if (at >= header + 5) memcpy(data + at - header - 5, &crc, sizeof crc);
        at += length[1];
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_all(data, size);
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL) return 0;
    if (size > 0) memcpy(copy, data, size);
    repair(copy, size);
    read_all(copy, size);
    free(copy);
    return 0;
}
