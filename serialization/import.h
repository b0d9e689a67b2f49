/* Importing, inside: the tensors of a file by our names (import.c), and what network they are of (import_network.c). Internal
 * to serialization. */
#ifndef TSR_SERIALIZATION_IMPORT_H
#define TSR_SERIALIZATION_IMPORT_H

#include "serialization/serialization.h"

enum { TSR_IMPORT_PREFIX = 200 };

typedef struct tsr_import_reader {
    tsr_weights *w;
    const tsr_name_map *map;
    char prefix[TSR_IMPORT_PREFIX];
    int64_t n;
    int64_t *order; /* of the file's tensors, by name */
    bool *used;
    double scale[3], shift[3]; /* of the options */
} tsr_import_reader;

/* The tensor of the file with this name of theirs; -1: there is none. */
int64_t tsr_import__find(const tsr_import_reader *r, const char *theirs);
/* Does the file have all parts of this tensor of ours? Their shape together; a scalar's where it has not. */
bool tsr_import__holds(const tsr_import_reader *r, const char *ours);
tsr_shape tsr_import__shape(const tsr_import_reader *r, const char *ours);

/* The network that the file's tensors are of, with values yet to be set. grid: patches a side of its positions, of a vit.
 * ARGUMENT where it is none that can be run here. */
tsr_backbone *tsr_import__network(const tsr_import_reader *r, const tsr_import_options *o,
                                  int64_t *grid);

/* The checkpoint of ours that the weights are; NULL: they are another file. In weights.c. */
const tsr_checkpoint *tsr_weights__checkpoint(const tsr_weights *w);

#endif
