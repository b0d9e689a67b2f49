/*
 * serialization: Tessera's checkpoints and safetensors files. docs/checkpoints.md describes both.
 *
 * Readers treat files as hostile: every length is checked against the file before anything is allocated. Writers write
 * under a temporary name, sync and rename: after a failure what was there before is untouched.
 */
#ifndef TSR_SERIALIZATION_H
#define TSR_SERIALIZATION_H

#include "autograd/autograd.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Names are 1 to 1024 bytes of UTF-8 without control characters. */
typedef struct tsr_named_tensor {
    const char *name;
    tsr_tensor *tensor;
} tsr_named_tensor;

/* ------------------------------------------------------------------ safetensors ------------------------------------- */

/* An open safetensors file (format: github.com/huggingface/safetensors, "Format"). */
typedef struct tsr_safetensors tsr_safetensors;

/*
 * Opens a file and reads its header. NULL on failure: IO, or FORMAT where the header is larger than 100 MB or not JSON, a
 * tensor has more than TSR_MAX_DIMS dimensions or a size that is not that of its shape and type, or the tensors do not
 * cover the data exactly, without overlap.
 */
TSR_API tsr_safetensors *tsr_safetensors_open(const char *path);
/* The same from memory, which must outlive the result. */
TSR_API tsr_safetensors *tsr_safetensors_open_memory(const void *data, size_t bytes);
TSR_API void tsr_safetensors_close(tsr_safetensors **file);

/* Tensors in order of their names (bytes compared). */
TSR_API int64_t tsr_safetensors_count(const tsr_safetensors *file);
TSR_API const char *tsr_safetensors_name(const tsr_safetensors *file,
                                         int64_t i); /* NULL when out of range */
TSR_API int64_t tsr_safetensors_find(const tsr_safetensors *file, const char *name); /* -1: none */
/* The value of a key of __metadata__; NULL if there is none. */
TSR_API const char *tsr_safetensors_metadata(const tsr_safetensors *file, const char *key);

/*
 * Reads one tensor, in its own type: F32, F64, BF16, I32, I64, U8 and BOOL; F16 becomes f32. The handle belongs to the
 * innermost scope. NULL on failure: ARGUMENT (no such name; the message gives names that are there), DTYPE (I8, U16, ...),
 * FORMAT (a BOOL that is neither 0 nor 1), IO. NULL file gives NULL.
 */
TSR_API tsr_tensor *tsr_safetensors_tensor(tsr_safetensors *file, const char *name);

typedef struct tsr_safetensors_pair {
    const char *key, *value;
} tsr_safetensors_pair;

/*
 * Writes n tensors (any strides) and n_metadata pairs. Larger elements come first, then names in order, so that all data
 * is aligned and the same content gives the same bytes. ARGUMENT: a bad or repeated name, a NULL tensor; IO.
 */
TSR_API tsr_status tsr_safetensors_write(const char *path, const tsr_named_tensor *tensors,
                                         int64_t n, const tsr_safetensors_pair *metadata,
                                         int64_t n_metadata);

#ifdef __cplusplus
}
#endif

#endif
