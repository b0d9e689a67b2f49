/*
 * Where a reader takes its bytes from: a regular file, read with pread() (a mapped file that somebody truncates would kill
 * the process), or memory. Internal to serialization.
 */
#ifndef TSR_SERIALIZATION_SOURCE_H
#define TSR_SERIALIZATION_SOURCE_H

#include "autograd/autograd.h"

typedef struct tsr_source {
    int fd; /* -1: memory */
    const uint8_t *memory;
    uint64_t size; /* bytes */
    char *name;    /* for messages: the path, or "(memory)" */
} tsr_source;

/* reader is the word that messages begin with: "safetensors". On failure there is nothing to close. */
tsr_status tsr_source__open(tsr_source *source, const char *reader, const char *path);
/* data must outlive the source. */
tsr_status tsr_source__open_memory(tsr_source *source, const char *reader, const void *data,
                                   size_t bytes);
void tsr_source__close(tsr_source *source);

/* Copies bytes from offset; both must lie inside size. */
tsr_status tsr_source__read(const tsr_source *source, const char *reader, uint64_t offset,
                            void *buffer, size_t bytes);
/* After a large read of so many bytes, which tensors like it may follow: a wish that the disk reads the 16 MiB from offset on
 * while the caller does something else. tsr_source__read() does it itself. */
void tsr_source__read_ahead(const tsr_source *source, uint64_t offset, size_t after);

/* What the first bytes look like, in words that fit after "it looks like": "a JPEG picture". NULL: no idea. */
const char *tsr_source__looks_like(const tsr_source *source);

/* Names come from files and go into one-line messages and other files: 1 to TSR_NAME_MAX bytes of UTF-8 without control
 * characters. */
enum { TSR_NAME_MAX = 1024 };
bool tsr_name__is_valid(const char *name);
/* Any UTF-8 without NUL. */
bool tsr_text__is_utf8(const char *text, size_t bytes);

#endif
