/* What the files of recipes/data share and nobody else sees. */
#ifndef TSR_RECIPES_DATA_INTERNAL_H
#define TSR_RECIPES_DATA_INTERNAL_H

#include "recipes/data/data.h"

#include <stdio.h>

/* A path of a file below a folder; false (and a sticky status) when it does not fit. */
enum { TSR_PATH = 4096 };
bool tsr_path__join(char buffer[TSR_PATH], const char *folder, const char *name);
bool tsr_path__is_folder(const char *path);
bool tsr_path__is_file(const char *path);

/* The whole of a file into *data from tsr_alloc(); the caller frees. IO, FORMAT beyond `most`
 * bytes. */
tsr_status tsr_file__read(const char *path, size_t most, void **data, size_t *bytes);

/*
 * The kinds of data sets. Each _find returns true when the folder holds its kind; then _open opens
 * the split ("train", "val" or "test"), and val falls back on test.
 */
bool tsr_idx__find(const char *folder);
tsr_dataset *tsr_idx__open(const char *folder, const char *split);
bool tsr_cifar__find(const char *folder);
tsr_dataset *tsr_cifar__open(const char *folder, const char *split);
tsr_dataset *tsr_folder__open(const char *folder);

#endif
