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

/* Of an image's file. */
enum { TSR_FILE_MOST = 1 << 30 };

/* Doubles *block until it has room for one more element after `used`. */
bool tsr_array__grow(void **block, int64_t used, int64_t *room, size_t element);

/* Strings one after another in one growing block, named by where they start. */
typedef struct tsr_names {
    char *text;
    size_t used, room;
} tsr_names;
bool tsr_names__add(tsr_names *names, const char *text, size_t *at);

/* The bytes of image i as they are stored, from tsr_alloc(); the caller frees. ARGUMENT: the data set is not of files. */
tsr_status tsr_dataset__file(const tsr_dataset *data, int64_t i, void **bytes, size_t *n);

/*
 * The kinds of data sets. Each _find returns true when the folder holds its kind; then _open opens
 * the split ("train", "val" or "test"), and val falls back on test.
 */
bool tsr_idx__find(const char *folder);
tsr_dataset *tsr_idx__open(const char *folder, const char *split);
bool tsr_cifar__find(const char *folder);
tsr_dataset *tsr_cifar__open(const char *folder, const char *split);
tsr_dataset *tsr_folder__open(const char *folder);
/* Does the folder hold .tar files; does the name end so? */
bool tsr_shards__find(const char *folder);
bool tsr_shards__is_name(const char *path);
tsr_dataset *tsr_shards__open(const char *pattern);
/* Those whose names begin with the split's where there are such, else (for train and NULL) all. */
tsr_dataset *tsr_shards__open_folder(const char *folder, const char *split);

#endif
