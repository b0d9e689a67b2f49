/* What `knn` and `linear` share: the features of a checkpoint and of two baselines, on a training and a test part. */
#include "recipes/cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PIXELS = 32 }; /* a side of the raw pixels baseline, at most */

static tsr_status check_parts(tsr_dataset *train, tsr_dataset *test, const char *where)
{
    int64_t classes = tsr_dataset_classes(train);
    if (classes == 0) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "%s has no labels: expected a folder for each class in train/ "
                        "and val/, or IDX or CIFAR files",
                        where);
    }
    if (tsr_dataset_classes(test) != classes) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "the training part has %" PRId64 " classes, the test part %" PRId64,
                        classes, tsr_dataset_classes(test));
    }
    for (int64_t c = 0; c < classes; c++) {
        const char *a = tsr_dataset_class_name(train, c), *b = tsr_dataset_class_name(test, c);
        if (strcmp(a, b) != 0) {
            return tsr_fail(TSR_STATUS_ARGUMENT,
                            "class %" PRId64 " is \"%.60s\" in the training part and "
                            "\"%.60s\" in the test part",
                            c, a, b);
        }
    }
    return TSR_STATUS_OK;
}

static int64_t used(const tsr_dataset *data, int64_t limit)
{
    int64_t n = tsr_dataset_count(data);
    return limit > 0 && limit < n ? limit : n;
}

static tsr_status one_row(const tsr_evaluation *e, tsr_evaluation_row *row, tsr_dataset *test)
{
    tsr_scope scope = tsr_scope_open();
    char what[64];
    snprintf(what, sizeof what, "%s, images", row->method);
    tsr_progress progress = {.what = what};
    row->extract.progress = tsr_progress__of;
    row->extract.user = &progress;
    row->start = tsr_screen__now();
    row->extract.limit = e->train_images;
    tsr_extract_options o = row->extract;
    if (tsr_features_extract(row->backbone, row->train, &o, &row->train_features) ==
        TSR_STATUS_OK) {
        tsr_progress__end(&progress);
        o.limit = e->test_images;
        tsr_features_extract(row->backbone, test, &o, &row->test_features);
    }
    tsr_progress__end(&progress);
    if (tsr_status_get() == TSR_STATUS_OK) e->row(row, e->user);
    fflush(stdout);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_status_get();
}

static tsr_status rows(const tsr_evaluation *e, tsr_dataset *train, tsr_dataset *test)
{
    const tsr_frozen *f = &e->frozen;
    int last_blocks = e->last_blocks;
    tsr_pooling pooling = e->pooling;
    if (e->small_4_large_both) {
        /* a class feature that is the mean of the patch tokens has nothing to add to it */
        bool large = f->backbone->class_token && f->backbone->dim >= 768;
        last_blocks = large ? 1 : f->backbone->depth < 4 ? (int)f->backbone->depth : 4;
        pooling = large ? TSR_POOLING_BOTH : TSR_POOLING_CLASS;
    }
    tsr_evaluation_row row = {.method = "this checkpoint",
                              .backbone = f->backbone,
                              .extract = tsr_frozen__features(f, last_blocks, pooling, NULL),
                              .train = train,
                              .classes = tsr_dataset_classes(train)};
    row.extract.seed = e->seed;
    e->head(e->user);
    fflush(stdout);
    if (one_row(e, &row, test) != TSR_STATUS_OK || e->no_baselines) return tsr_status_get();
    tsr_backbone *untrained = tsr_backbone_untrained(f->backbone, e->seed);
    row.method = "untrained network";
    row.backbone = untrained;
    if (untrained != NULL) one_row(e, &row, test);
    tsr_module_free(&untrained);
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    int64_t size = f->size > 0 ? f->size : f->backbone->image_size;
    row.method = "raw pixels";
    row.backbone = NULL;
    row.extract.size = size < PIXELS ? (int)size : PIXELS;
    row.extract.grey = tsr_dataset_is_grey(train) && tsr_dataset_is_grey(test);
    return one_row(e, &row, test);
}

int tsr_evaluation__run(tsr_evaluation *e, const char *checkpoint)
{
    if (e->data == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "--data is needed: labelled images with a training and a test part");
        tsr_program__report();
        return TSR_EXIT_USAGE;
    }
    tsr_scope scope = tsr_scope_open();
    tsr_dataset *train = NULL, *test = NULL;
    if (tsr_frozen__open(&e->frozen, checkpoint) == TSR_STATUS_OK) {
        train = tsr_dataset_open(e->data, "train");
        test = tsr_dataset_open(e->test_data != NULL ? e->test_data : e->data, "test");
    }
    if (tsr_status_get() == TSR_STATUS_OK && check_parts(train, test, e->data) == TSR_STATUS_OK) {
        tsr_frozen__describe(&e->frozen);
        printf("%" PRId64 " training and %" PRId64 " test images, %" PRId64 " classes (%s)\n\n",
               used(train, e->train_images), used(test, e->test_images), tsr_dataset_classes(train),
               tsr_dataset_kind(train));
        rows(e, train, test);
        tsr_dataset__report(train);
        tsr_dataset__report(test);
    }
    tsr_dataset_close(&train);
    tsr_dataset_close(&test);
    tsr_frozen__close(&e->frozen);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_program__report();
}
