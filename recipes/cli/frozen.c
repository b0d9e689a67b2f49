/* The checkpoint that a command looks at. */
#include "recipes/cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

tsr_status tsr_frozen__open(tsr_frozen *f, const char *checkpoint)
{
    const char *w = f->weights;
    if (w != NULL && strcmp(w, "teacher") != 0 && strcmp(w, "student") != 0) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "--weights: got \"%.60s\", expected teacher or student", w);
    }
    f->checkpoint = tsr_checkpoint_open_run(checkpoint, f->path);
    if (f->checkpoint != NULL) f->backbone = tsr_backbone_load(f->checkpoint, w);
    if (f->backbone != NULL && f->size > 0 && f->size < f->backbone->token_size) {
        tsr_fail(TSR_STATUS_ARGUMENT, "--size: %" PRId64 " is smaller than a patch (%" PRId64 ")",
                 f->size, f->backbone->token_size);
    }
    return tsr_status_get();
}

void tsr_frozen__describe(const tsr_frozen *f)
{
    char shape[TSR_BACKBONE_TEXT];
    const char *recipe = "unknown recipe", *feature = "";
    int64_t step = 0;
    tsr_checkpoint_get_string(f->checkpoint, "feature", &feature);
    if (tsr_checkpoint_value_find(f->checkpoint, "recipe") != NULL) {
        tsr_checkpoint_get_string(f->checkpoint, "recipe", &recipe);
    }
    if (tsr_checkpoint_value_find(f->checkpoint, "position") != NULL) {
        tsr_checkpoint_get_int(f->checkpoint, "position", &step);
    }
    if (f->weights != NULL) feature = f->weights;
    tsr_backbone_describe(f->backbone, shape);
    printf("%s: %s, step %" PRId64 "\nbackbone of the %.*s: %s, %.1f M parameters\n", f->path,
           recipe, step, (int)strcspn(feature, "."), feature, shape,
           (double)tsr_module_count(&f->backbone->module) / 1e6);
}

tsr_extract_options tsr_frozen__features(const tsr_frozen *f, int last_blocks, tsr_pooling pooling,
                                         tsr_progress *p)
{
    return (tsr_extract_options){
        .last_blocks = f->last_blocks > 0 ? (int)f->last_blocks : last_blocks,
        .pooling = f->avgpool >= 0 ? (tsr_pooling)f->avgpool : pooling,
        .size = (int)f->size,
        .batch = f->batch,
        .workers = (int)f->workers,
        .progress = p != NULL ? tsr_progress__of : NULL,
        .user = p,
    };
}

void tsr_frozen__close(tsr_frozen *f)
{
    tsr_module_free(&f->backbone);
    tsr_checkpoint_close(&f->checkpoint);
}
