/* Options as data: one table drives the command line, --help, the documentation and what a checkpoint records. */
#ifndef TSR_RECIPES_OPTIONS_H
#define TSR_RECIPES_OPTIONS_H

#include "models/models.h"
#include "serialization/serialization.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tsr_option_type {
    TSR_OPTION_INT = 0, /* int64_t */
    TSR_OPTION_DOUBLE,  /* double */
    TSR_OPTION_BOOL,    /* bool: true, false */
    TSR_OPTION_CHOICE,  /* int: the index of a word in choices */
    TSR_OPTION_LIST,    /* tsr_list: numbers with commas between, "0,0.3" */
    TSR_OPTION_PATH,    /* char [TSR_OPTION_TEXT]; "" is none */
} tsr_option_type;

enum { TSR_OPTION_TEXT = 1024 }; /* bytes of an option's value as text */
enum { TSR_LIST_MAX = 4 };
typedef struct tsr_list {
    int n;
    double at[TSR_LIST_MAX];
} tsr_list;

typedef struct tsr_option {
    const char *name; /* "out-dim": the flag is --out-dim */
    tsr_option_type type;
    size_t offset;       /* in the struct of options */
    const char *value;   /* the default, as a user would write it */
    double lo, hi;       /* bounds, both included; 0, 0: none. Of every number of a list */
    const char *choices; /* "none adamw sgd" */
    const char *meaning; /* one line for --help */
    const char *source;  /* where the default or the definition comes from; NULL: ours */
} tsr_option;

/* All defaults of a table into options. */
TSR_API tsr_status tsr_options_default(const tsr_option *table, int n, void *options);
/* The entry with this name; NULL without a message when there is none. '_' counts as '-'. */
TSR_API const tsr_option *tsr_option_find(const tsr_option *table, int n, const char *name);
/* Parses text into options. ARGUMENT names the option, what was given and what is accepted. */
TSR_API tsr_status tsr_option_set(const tsr_option *option, void *options, const char *text);
/* The value as a user would write it, into buffer, which it returns: setting it again gives the same value. */
TSR_API const char *tsr_option_text(const tsr_option *option, const void *options,
                                    char buffer[TSR_OPTION_TEXT]);

/* The choices of --precision. */
typedef enum tsr_precision { TSR_PRECISION_F32 = 0, TSR_PRECISION_BF16 } tsr_precision;

/* Options of any training run: model, optimizer, schedules, batch. */
typedef struct tsr_train_options {
    int model; /* index in the choices of --model */
    int64_t image_size, patch_size, window, dim, depth, heads;
    double mlp_ratio;
    int64_t epochs, batch, micro_batch;
    int precision; /* index in the choices of --precision: tsr_precision */
    bool recompute_blocks;
    double memory_budget; /* GiB; 0: none */
    int optimizer;        /* tsr_optimizer_kind */
    double beta1, beta2;
    double lr, min_lr, warmup_epochs;
    bool scale_lr;
    double weight_decay, weight_decay_end;
    double momentum_teacher, momentum_teacher_end;
    double clip;
    bool clip_global;
    int64_t monitor_every;
} tsr_train_options;

TSR_API const tsr_option *tsr_train_option_table(int *n);
/* OK where all images of a batch are in memory at once; else ARGUMENT: `what` ("batch norm") takes its statistics over the
 * whole batch. */
TSR_API tsr_status tsr_train_whole_batch(const tsr_train_options *train, const char *what);
/* The backbone that model, image-size, patch-size, dim, depth, heads and mlp-ratio ask for. ARGUMENT where they do not fit. */
TSR_API tsr_status tsr_train_vit_config(const tsr_train_options *train, tsr_vit_config *config);
/* Is --model one of swin? Then these, and window, ask for this backbone: dim is of the first stage, heads too, and both double
 * from stage to stage; depth is of all stages, of which all but the third have two blocks. */
TSR_API bool tsr_train_is_swin(const tsr_train_options *train);
TSR_API tsr_status tsr_train_swin_config(const tsr_train_options *train, tsr_swin_config *config);

/* What a recipe adds to the options of its backbone. */
typedef struct tsr_train_backbone_options {
    bool masked; /* it takes masks */
    double drop_path;
    double layer_scale;        /* what LayerScale starts from; 0: none */
    tsr_vit_relative relative; /* of a vit; a swin always has a table in each block */
    bool no_position;          /* of a vit: no pos_embed */
    tsr_dtype dtype;
} tsr_train_backbone_options;
/* A new backbone as --model and the options of its shape ask for. NULL: they do not fit (ARGUMENT). */
TSR_API tsr_backbone *tsr_train_backbone(const tsr_train_options *train,
                                         const tsr_train_backbone_options *options);
/* The same, with what options do not say (positions, LayerScale, registers, gated MLPs, biases) as under prefix
 * ("teacher/backbone.") in a checkpoint. relative, no_position and layer_scale of options are not looked at. */
TSR_API tsr_backbone *tsr_train_backbone_like(const tsr_train_options *train,
                                              const tsr_train_backbone_options *options,
                                              const tsr_checkpoint *like, const char *prefix);
/* tsr_backbone.token_size of that backbone, before there is one: pixels a side of a mask's cell. 0 on failure. */
TSR_API int64_t tsr_train_token_size(const tsr_train_options *train);

/* The backbone of a run, its weights not yet set, for those in a checkpoint under prefix ("teacher/backbone."): what options
 * do not say (masked_embed, LayerScale, ...) is as there. ARGUMENT, before memory is taken: they are not of the model that
 * the options describe. */
TSR_API tsr_backbone *tsr_train_backbone_of_checkpoint(const tsr_train_options *train,
                                                       const tsr_checkpoint *c, const char *prefix);

#ifdef __cplusplus
}
#endif

#endif
