/*
 * Python's pickle, as far as torch.save() needs it: tensors and plain containers. Nothing is called or imported: a class or
 * function that is not on a short list is refused, and those of the list that are not tensors or containers become opaque
 * values that hold nothing. Internal to serialization.
 */
#ifndef TSR_SERIALIZATION_PICKLE_H
#define TSR_SERIALIZATION_PICKLE_H

#include "autograd/autograd.h"

typedef enum tsr_pickle_kind {
    TSR_PICKLE_KIND_OPAQUE = 0, /* something that is not looked into: options, dates, None, ... */
    TSR_PICKLE_KIND_INT,        /* bools too */
    TSR_PICKLE_KIND_STR,
    TSR_PICKLE_KIND_GLOBAL, /* a class or function of the list */
    TSR_PICKLE_KIND_LIST,   /* and tuple */
    TSR_PICKLE_KIND_DICT,
    TSR_PICKLE_KIND_STORAGE,
    TSR_PICKLE_KIND_TENSOR,
} tsr_pickle_kind;

/* The element of a torch storage class. */
typedef struct tsr_pickle_type {
    const char *name; /* "FloatStorage" */
    unsigned bytes;
    tsr_dtype dtype; /* of the tensor made from it: f16 becomes f32, i8 and i16 become i32 */
} tsr_pickle_type;

typedef struct tsr_pickle_tensor {
    const struct tsr_pickle_value *storage;
    int64_t offset; /* elements; inside the storage with all that shape and strides reach */
    tsr_shape shape;
    int64_t strides[TSR_MAX_DIMS];
} tsr_pickle_tensor;

typedef struct tsr_pickle_value {
    tsr_pickle_kind kind;
    bool
        visited; /* for who walks over the values: found again while it is set, a value holds itself */
    union {
        int64_t integer;
        struct { /* points into the pickle; no NUL at the end */
            const char *at;
            size_t bytes;
        } text;
        const struct tsr_pickle_global *global;
        struct { /* of a dict: key, value, key, value, ... */
            struct tsr_pickle_value **at;
            size_t n, room;
        } items;
        struct {
            const tsr_pickle_type *type;
            const struct tsr_pickle_value *key; /* a string */
            int64_t numel;
        } storage;
        tsr_pickle_tensor *tensor;
    } u;
} tsr_pickle_value;

/* A pickle that was read, and the memory of its values. */
typedef struct tsr_pickle tsr_pickle;

enum { TSR_PICKLE_MAX = 8 << 20 }; /* bytes: of a large network's pickle it is some ten times */

/*
 * Reads one pickle from the beginning of data, which must outlive it; *used is where it ended. Memory stays within about
 * a hundred times its bytes. name is the file's, for messages. NULL: FORMAT, MEMORY.
 */
tsr_pickle *tsr_pickle__read(const char *name, const void *data, size_t bytes, size_t *used);
void tsr_pickle__free(tsr_pickle **p);
tsr_pickle_value *tsr_pickle__root(const tsr_pickle *p);

/* The value of a dict's key; NULL where it is no dict, or has no such key. */
const tsr_pickle_value *tsr_pickle__get(const tsr_pickle_value *dict, const char *key);
bool tsr_pickle__is_text(const tsr_pickle_value *v, const char *text);

#endif
