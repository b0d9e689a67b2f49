/* IEEE 754 binary16, which files have and Tessera has not. Internal to serialization. */
#ifndef TSR_SERIALIZATION_HALF_H
#define TSR_SERIALIZATION_HALF_H

#include <stddef.h>

/* data is 4 n bytes whose upper half holds n binary16: they become n binary32, exactly. */
void tsr_half__widen(void *data, size_t n);

#endif
