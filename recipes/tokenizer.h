/*
 * Discrete tokens for BEiT: what a masked patch is called. Every kind gives a number below `tokens` for each patch of an
 * image, and is frozen while the student learns. Not installed.
 *
 * Shapes: B images, side x side = N patches of each; V tokens.
 */
#ifndef TSR_TOKENIZER_H
#define TSR_TOKENIZER_H

#include "recipes/recipes.h"

#include <stddef.h>

enum {
    TSR_TOKENIZER_KMEANS = 0, /* the nearest of V centres of whitened patches */
    TSR_TOKENIZER_DVAE,       /* the likeliest word of a discrete VAE's encoder */
    TSR_TOKENIZER_PROTOTYPES, /* the likeliest prototype of a frozen DINO's or iBOT's teacher */
    TSR_TOKENIZER_COLOR,      /* mean colour of the patch, 3 bits a channel */
};

/* A recipe's struct of options begins with these, and its table with the rows below. */
typedef struct tsr_tokenizer_options {
    int kind;
    char checkpoint[TSR_OPTION_TEXT];
    int64_t tokens, images, iterations;
    double whitening;
} tsr_tokenizer_options;

#define TSR_TOKENIZER_AT(field) offsetof(tsr_tokenizer_options, field)

/* clang-format off */
#define TSR_TOKENIZER_OPTIONS                                                                      \
    {"tokenizer", TSR_OPTION_CHOICE, TSR_TOKENIZER_AT(kind), "kmeans", 0, 0,                       \
     "kmeans dvae prototypes color", "where tokens come from: k-means over patches, a run of dvae, "\
     "the teacher of a run of dino or ibot, or mean colours of 3 bits a channel",                  \
     "iBOT, appendix, table 20; dvae: paper, section 2.1"},                                        \
    {"tokenizer-checkpoint", TSR_OPTION_PATH, TSR_TOKENIZER_AT(checkpoint), "", 0, 0, NULL,        \
     "dvae, prototypes: a checkpoint, or the directory of a run", NULL},                           \
    {"tokens", TSR_OPTION_INT, TSR_TOKENIZER_AT(tokens), "4096", 2, 65536, NULL,                   \
     "kmeans: V, the number of clusters (the other kinds bring their own)",                        \
     "iBOT, appendix, table 20"},                                                                  \
    {"tokenizer-images", TSR_OPTION_INT, TSR_TOKENIZER_AT(images), "4096", 0, 1e9, NULL,           \
     "kmeans: images whose patches it learns from; 0: all", NULL},                                 \
    {"tokenizer-iterations", TSR_OPTION_INT, TSR_TOKENIZER_AT(iterations), "20", 1, 1e6, NULL,     \
     "kmeans: passes over them", NULL},                                                            \
    {"whitening", TSR_OPTION_DOUBLE, TSR_TOKENIZER_AT(whitening), "0.01", 1e-9, 1e9, NULL,         \
     "kmeans: added to the patches' covariance, relative to a pixel's variance: large is nearer to "\
     "plain pixels", NULL}
/* clang-format on */

typedef struct tsr_tokenizer tsr_tokenizer;

/* What it wants to see of a crop that the student sees in side x side patches: sets size, interpolation and
 * normalization of view. ARGUMENT: a checkpoint that is missing or not of the kind asked for. */
tsr_status tsr_tokenizer__view(const tsr_tokenizer_options *o, int64_t side, tsr_view_spec *view);
/* NULL on failure; the caller frees it, but not its state. */
tsr_tokenizer *tsr_tokenizer__new(const tsr_build *build, const tsr_tokenizer_options *o,
                                  int64_t side);
void tsr_tokenizer__free(tsr_tokenizer **t);
int64_t tsr_tokenizer__tokens(const tsr_tokenizer *t); /* V */
/* What a checkpoint must hold, for the caller to own; NULL: nothing. */
tsr_module *tsr_tokenizer__state(const tsr_tokenizer *t);
/* Learns from images, seen by view, what it must know before the first step. */
tsr_status tsr_tokenizer__train(const tsr_tokenizer *t, const tsr_build *build,
                                const tsr_view_spec *view, tsr_dataset *images);
/* Images [B, 3, S, S] of that view -> I64 [B, N]. A few images at a time, without gradient. */
tsr_tensor *tsr_tokenizer__encode(const tsr_tokenizer *t, tsr_tensor *images);

#endif
