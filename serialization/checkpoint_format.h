/* What the writer and the reader of checkpoints have in common. Internal to serialization. */
#ifndef TSR_SERIALIZATION_CHECKPOINT_FORMAT_H
#define TSR_SERIALIZATION_CHECKPOINT_FORMAT_H

#include "autograd/autograd.h"
#include "checkpoint.pb-c.h"

#define TSR_CHECKPOINT_MAGIC "tessera checkpoint"

enum {
    TSR_CHECKPOINT_VERSION = 1,
    TSR_CHECKPOINT_RECORD_MAX = 64 << 20, /* bytes, by the format's definition */
    TSR_CHECKPOINT_CHUNK_BYTES =
        4 << 20, /* what this writer uses: a reader of any language holds few such chunks */
};

/* DType is the library's own enumeration, one higher: 0 is protobuf's value for "not there". */
_Static_assert((int)TESSERA__CHECKPOINT__DTYPE__F32 == TSR_DTYPE_F32 + 1, "");
_Static_assert((int)TESSERA__CHECKPOINT__DTYPE__F64 == TSR_DTYPE_F64 + 1, "");
_Static_assert((int)TESSERA__CHECKPOINT__DTYPE__BF16 == TSR_DTYPE_BF16 + 1, "");
_Static_assert((int)TESSERA__CHECKPOINT__DTYPE__I32 == TSR_DTYPE_I32 + 1, "");
_Static_assert((int)TESSERA__CHECKPOINT__DTYPE__I64 == TSR_DTYPE_I64 + 1, "");
_Static_assert((int)TESSERA__CHECKPOINT__DTYPE__U8 == TSR_DTYPE_U8 + 1, "");
_Static_assert((int)TESSERA__CHECKPOINT__DTYPE__BOOL == TSR_DTYPE_BOOL + 1, "");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "tensor data is copied as it stands in the file");

#endif
