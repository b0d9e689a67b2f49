/*
 * Files that torch.save() wrote: the zip archive of PyTorch 1.6 and later, and what came before it. Dicts and lists in
 * the file become dotted names: {"teacher": {"norm.weight": t}} holds "teacher.norm.weight". Internal to serialization.
 */
#ifndef TSR_SERIALIZATION_PTH_H
#define TSR_SERIALIZATION_PTH_H

#include "serialization/source.h"

typedef struct tsr_pth tsr_pth;

/*
 * Takes the source, also on failure. Reads names, shapes and places; data is read by tsr_pth__tensor(). NULL: IO, MEMORY,
 * FORMAT: entries that are compressed, encrypted or larger together than the file; big-endian data; a pickle of more than
 * TSR_PICKLE_MAX bytes or that asks for anything but tensors and plain containers; a container that holds itself; storages
 * that are missing or of another size; tensors that reach beyond their storage, overlap themselves, or take more than
 * sixteen times the file's bytes together.
 */
tsr_pth *tsr_pth__open(tsr_source source);
void tsr_pth__close(tsr_pth **file);

/* Tensors in order of their names (bytes compared). */
int64_t tsr_pth__count(const tsr_pth *file);
const char *tsr_pth__name(const tsr_pth *file, int64_t i);
tsr_shape tsr_pth__shape(const tsr_pth *file, int64_t i);
/* Row-major, in the innermost scope; f16 becomes f32, i8 and i16 become i32. NULL on failure. */
tsr_tensor *tsr_pth__tensor(tsr_pth *file, int64_t i);

#endif
