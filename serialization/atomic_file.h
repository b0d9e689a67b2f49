/*
 * A file that appears under its name only when it is complete: written beside it under a temporary name, synced, renamed,
 * and the directory synced. Until then, and after any failure, what was there before is untouched. Every writer of
 * serialization uses it. Internal to serialization.
 */
#ifndef TSR_SERIALIZATION_ATOMIC_FILE_H
#define TSR_SERIALIZATION_ATOMIC_FILE_H

#include "autograd/autograd.h"

typedef struct tsr_atomic_file tsr_atomic_file;

/* Temporary names are the final one, this, and digits. */
#define TSR_ATOMIC_FILE_SUFFIX ".partial-"

/* writer is the word that messages begin with: "safetensors"; it must outlive the file. NULL on failure. */
tsr_atomic_file *tsr_atomic_file__create(const char *writer, const char *path);
/* After a failure further writes fail at once and commit reports that first failure. */
tsr_status tsr_atomic_file__write(tsr_atomic_file *file, const void *data, size_t bytes);
/* The path it was created with. */
const char *tsr_atomic_file__path(const tsr_atomic_file *file);
/* Either way *file is NULL afterwards, and on failure the temporary file is gone. NULL is fine for abandon. */
tsr_status tsr_atomic_file__commit(tsr_atomic_file **file);
void tsr_atomic_file__abandon(tsr_atomic_file **file);

#endif
