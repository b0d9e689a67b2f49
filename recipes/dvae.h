/* The encoder of a discrete VAE, for the recipe that trains it and for BEiT, whose tokens it makes. Not installed. */
#ifndef TSR_DVAE_H
#define TSR_DVAE_H

#include "recipes/recipes.h"

typedef struct tsr_dvae_config {
    int64_t tokens; /* K */
    int64_t groups; /* of blocks; each but the last halves the picture: f = 2^(groups - 1) */
    int64_t blocks; /* of a group */
    int64_t hidden; /* channels of the first group; doubled with each; a multiple of 4 */
    tsr_dtype dtype;
} tsr_dvae_config;

enum { TSR_DVAE_GROUPS = 6, TSR_DVAE_BLOCKS = 8 };

typedef struct tsr_dvae_block tsr_dvae_block;

/* Children input, group_g.block_b, output. */
typedef struct tsr_dvae_encoder {
    tsr_module module;
    tsr_dvae_config config;
    tsr_conv_layer *input, *output;
    tsr_dvae_block *blocks[TSR_DVAE_GROUPS][TSR_DVAE_BLOCKS];
} tsr_dvae_encoder;

/* f: pixels a side that a token stands for. */
int64_t tsr_dvae__token_size(const tsr_dvae_config *config);
tsr_dvae_encoder *tsr_dvae__encoder_new(const tsr_dvae_config *config);
/* Pixels in 0 .. 1, [B, 3, H, W] -> logits of tokens [B, K, H / f, W / f]. */
tsr_tensor *tsr_dvae__encode(const tsr_dvae_encoder *m, tsr_tensor *pixels);
extern const tsr_recipe tsr_recipe__dvae;
/* What the encoder in a checkpoint looks like. ARGUMENT: it is not of a run of dvae. */
tsr_status tsr_dvae__config_of(const tsr_checkpoint *c, tsr_dvae_config *config);

#endif
