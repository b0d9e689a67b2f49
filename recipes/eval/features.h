/*
 * Frozen features: the backbone of a checkpoint, and what it makes of the images of a data set (docs/evaluation.md).
 */
#ifndef TSR_RECIPES_FEATURES_H
#define TSR_RECIPES_FEATURES_H

#include "models/models.h"
#include "recipes/data/data.h"
#include "recipes/eval/eval.h"
#include "recipes/train/options.h"
#include "serialization/serialization.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A checkpoint file, or the directory of a run: its newest checkpoint. ARGUMENT: a directory without one. */
TSR_API tsr_checkpoint *tsr_checkpoint_open_run(const char *file_or_directory,
                                                char path[TSR_CHECKPOINT_PATH]);

/* Fills all parameters and buffers of m from those in c named prefix + name, strictly: tsr_checkpoint_load(). */
TSR_API tsr_status tsr_module_load(tsr_checkpoint *c, const char *prefix, tsr_module *m);
/* The training options that a checkpoint records. ARGUMENT: it is not of a training run. */
TSR_API tsr_status tsr_backbone_train_options(const tsr_checkpoint *c, tsr_train_options *options);
/* "teacher/backbone.": what the names of its backbone's tensors begin with; weights as below. */
enum { TSR_BACKBONE_PREFIX = 128 };
TSR_API tsr_status tsr_backbone_prefix(const tsr_checkpoint *c, const char *weights,
                                       char prefix[TSR_BACKBONE_PREFIX]);
/*
 * The backbone of a checkpoint in evaluation mode, without gradients; only its tensors are read. weights: "teacher" or
 * "student"; NULL: what the recipe evaluates, the checkpoint's value "feature". NULL on failure; the caller frees it.
 */
TSR_API tsr_backbone *tsr_backbone_load(tsr_checkpoint *c, const char *weights);
/*
 * Copies a checkpoint's backbone (weights as above) to the parameters "backbone.*" of a network that was built from `train`.
 * Strict: both have the same names, shapes and heads, but for masked_embed, which either may lack, and pos_embed, which is
 * resized. ARGUMENT says what does not fit, and the network is as it was. What shapes do not say stays the network's own: the
 * epsilon of its norms, how it fits positions to other sizes.
 */
TSR_API tsr_status tsr_backbone_adopt(tsr_module *network, const tsr_train_options *train,
                                      tsr_checkpoint *c, const char *weights);
/*
 * The projection head beside that backbone, of its shape in the file, in evaluation mode, without gradients; weights as above.
 * ARGUMENT: there is none (not every recipe has prototypes).
 */
TSR_API tsr_head *tsr_head_load(tsr_checkpoint *c, const char *weights);
/* Which prototype each image's class token is nearest to: x f32 [N, D] -> I64 [N], the largest of the head's K logits, the
 * first of equals. */
TSR_API tsr_tensor *tsr_head_assign(const tsr_head *m, tsr_tensor *x);
/* A network of the same shape as it was before any training: what features are worth that learnt nothing. */
TSR_API tsr_backbone *tsr_backbone_untrained(const tsr_backbone *like, uint64_t seed);

/* The authors' ways to make a feature of tokens (eval_linear.py, --avgpool_patchtokens). */
typedef enum tsr_pooling {
    TSR_POOLING_CLASS =
        0, /* class tokens of the last n blocks, each through the final norm, concatenated */
    TSR_POOLING_MEAN, /* the mean of the last block's patch tokens, without the final norm (BEiT) */
    TSR_POOLING_BOTH, /* class tokens as above, then the mean of the last block's patch tokens, normed */
} tsr_pooling;

typedef struct tsr_extract_options {
    int last_blocks; /* 0: 1 */
    tsr_pooling pooling;
    int size;      /* pixels a side; 0: the backbone's */
    bool grey;     /* raw pixels: one of three equal channels (tsr_dataset_is_grey()) */
    bool augment;  /* tsr_view_linear() instead of tsr_view_eval() */
    uint64_t seed; /* of the augmentation, */
    int64_t epoch; /* which is another for each epoch */
    int64_t limit; /* only so many images, spread evenly over the data set; 0: all */
    int64_t batch; /* images at once; 0: 64 */
    int workers;   /* loader threads; 0: tsr_threads() */
    void (*progress)(int64_t done, int64_t of, void *user); /* may be NULL */
    void *user;
} tsr_extract_options;

/*
 * Features of all images in the order of the data set: out->x f32 [N, F], out->labels I64 [N], in the innermost scope. An
 * image that cannot be read is replaced by another with its label (tsr_dataset_problems() tells). F: the sizes
 * of the last blocks' tokens together, D, or both. backbone NULL: raw pixels, their values divided by 255, F = 3 size^2, or
 * size^2 of grey ones, and size must be given.
 */
TSR_API tsr_status tsr_features_extract(const tsr_backbone *backbone, tsr_dataset *data,
                                        const tsr_extract_options *options, tsr_features *out);

#ifdef __cplusplus
}
#endif

#endif
