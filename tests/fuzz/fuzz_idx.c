/* A folder whose train images, and labels after them in the input, are any bytes, opened. */
#include "recipes/data/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static char folder[64];

static void remove_folder(void)
{
    rmdir(folder);
}

static void write_file(const char *name, const uint8_t *data, size_t bytes, char path[128])
{
    snprintf(path, 128, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) abort();
}

/* The first two bytes say how long the images' file is; the labels' file is the rest. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < 2) return 0;
    if (folder[0] == '\0') {
        strcpy(folder, "/tmp/tessera-fuzz-XXXXXX");
        if (mkdtemp(folder) == NULL) abort();
        atexit(remove_folder);
    }
    size_t n = (size_t)data[0] << 8 | data[1];
    data += 2, bytes -= 2;
    if (n > bytes) n = bytes;
    char images[128], labels[128];
    /* zlib reads plain files under this name too. */
    write_file("train-images-idx3-ubyte.gz", data, n, images);
    write_file("train-labels-idx1-ubyte.gz", data + n, bytes - n, labels);
    tsr_dataset *set = tsr_dataset_open(folder, "train");
    if (set == NULL && (tsr_message()[0] == '\0' || strchr(tsr_message(), '\n') != NULL)) abort();
    tsr_status_clear();
    if (set != NULL) {
        tsr_image image = {0};
        for (int64_t i = 0; i < tsr_dataset_count(set); i++) {
            if (tsr_dataset_load(set, i, 0, &image, NULL) != TSR_STATUS_OK) abort();
            if (tsr_dataset_label(set, i) >= tsr_dataset_classes(set)) abort();
        }
        tsr_image_free(&image);
        tsr_dataset_close(&set);
    }
    remove(images);
    remove(labels);
    tsr_pool_trim();
    return 0;
}
