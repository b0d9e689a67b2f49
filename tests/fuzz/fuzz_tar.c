/* A shard of any bytes, opened; then all that it is said to hold. */
#include "recipes/data/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static char folder[64], path[128];

static void remove_all(void)
{
    remove(path);
    rmdir(folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (folder[0] == '\0') {
        strcpy(folder, "/tmp/tessera-fuzz-XXXXXX");
        if (mkdtemp(folder) == NULL) abort();
        snprintf(path, sizeof path, "%s/any.tar", folder);
        atexit(remove_all);
    }
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) abort();
    tsr_dataset *set = tsr_dataset_open(path, NULL);
    if (set == NULL && (tsr_message()[0] == '\0' || strchr(tsr_message(), '\n') != NULL)) abort();
    tsr_status_clear();
    if (set != NULL) {
        tsr_image image = {0};
        for (int64_t i = 0; i < tsr_dataset_count(set); i++) {
            if (tsr_dataset_label(set, i) >= tsr_dataset_classes(set)) abort();
            if (tsr_dataset_load(set, i, 0, &image, NULL) != TSR_STATUS_OK) break;
        }
        tsr_status_clear();
        tsr_image_free(&image);
        tsr_dataset_close(&set);
    }
    tsr_pool_trim();
    return 0;
}
