/* tessera cluster: the prototypes that images fall to, against their labels. */
#include "recipes/cli/cli.h"

#include <inttypes.h>
#include <stdio.h>

static void print(const tsr_head *head, const tsr_cluster_result *r)
{
    printf("%" PRId64 " of %" PRId64 " prototypes have images, of %" PRId64 " classes\n\n",
           r->clusters, head->config.out_dim, r->classes);
    printf("%-36s %7.2f\n", "accuracy (Hungarian), %", 100.0 * r->accuracy);
    printf("%-36s %7.2f\n", "adjusted Rand index, %", 100.0 * r->ari);
    printf("%-36s %7.2f\n", "normalized mutual information, %", 100.0 * r->nmi);
    printf("%-36s %7.2f\n", "Fowlkes-Mallows index, %", 100.0 * r->fmi);
}

static tsr_status evaluate(tsr_frozen *f, const tsr_head *head, tsr_dataset *data, int64_t limit)
{
    tsr_progress progress = {.what = "features"};
    tsr_extract_options o = tsr_frozen__features(f, 1, TSR_POOLING_CLASS, &progress);
    tsr_features features;
    tsr_cluster_result result;
    o.limit = limit;
    tsr_features_extract(f->backbone, data, &o, &features);
    tsr_progress__end(&progress);
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    tsr_tensor *clusters = tsr_head_assign(head, features.x);
    if (clusters != NULL &&
        tsr_cluster_evaluate(clusters, features.labels, &result) == TSR_STATUS_OK) {
        printf("%" PRId64 " images (%s); ", tsr_tensor_size(clusters, 0), tsr_dataset_kind(data));
        print(head, &result);
    }
    tsr_dataset__report(data);
    return tsr_status_get();
}

static tsr_status run(tsr_frozen *f, const char *checkpoint, const char *folder, const char *split,
                      int64_t limit)
{
    tsr_dataset *data = tsr_dataset_open(folder, split);
    tsr_head *head = NULL;
    if (data != NULL && tsr_dataset_classes(data) == 0) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "%s has no labels: expected a folder for each class, or IDX or CIFAR files",
                 folder);
    }
    if (tsr_status_get() == TSR_STATUS_OK && tsr_frozen__open(f, checkpoint) == TSR_STATUS_OK) {
        head = tsr_head_load(f->checkpoint, f->weights);
    }
    if (head != NULL) {
        tsr_frozen__describe(f);
        evaluate(f, head, data, limit);
    }
    tsr_module_free(&head);
    tsr_dataset_close(&data);
    tsr_frozen__close(f);
    return tsr_status_get();
}

int tsr_command__cluster(int argc, char **argv)
{
    tsr_frozen frozen = TSR_FROZEN_DEFAULT;
    const char *data = NULL, *split = "test";
    int64_t limit = 0;
    const tsr_flag flags[] = {
        {"data", TSR_FLAG_TEXT, &data, "DIR", "labelled images, with a test (or val) part"},
        {"split", TSR_FLAG_TEXT, &split, "NAME", "train, val or test; default: test"},
        {"images", TSR_FLAG_INT, &limit, "N", "use only N images, spread evenly; default: all", 1,
         1e12},
        TSR_WEIGHTS_FLAGS(frozen),
        {"batch", TSR_FLAG_INT, &frozen.batch, "N",
         "images that go through the network at once; default 64", 1, 65536},
        {"workers", TSR_FLAG_INT, &frozen.workers, "N",
         "loader threads; default: as many as --threads", 0, 256},
    };
    tsr_arguments arguments = {
        .usage = "cluster CHECKPOINT --data DIR [options]",
        .example = "cluster RUN --data IMAGES",
        .description =
            "Classifies images without any label: an image's class is the prototype that its class token\n"
            "is nearest to, the largest output of the head. Says how well these clusters agree with the\n"
            "labels: accuracy of the best assignment of prototypes to classes, adjusted Rand index,\n"
            "normalized mutual information, Fowlkes-Mallows index (iBOT, unsupervised classification; there\n"
            "with as many prototypes as classes, pretrain --out-dim). CHECKPOINT is a file, or the directory\n"
            "of a run.",
        .flags = flags,
        .n_flags = sizeof flags / sizeof flags[0],
        .min_positional = 1,
        .max_positional = 1};
    int status = tsr_arguments__parse(&arguments, argc, argv);
    if (status >= 0) return status;
    if (data == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "--data is needed");
        return tsr_arguments__refuse(&arguments);
    }
    tsr_scope scope = tsr_scope_open();
    run(&frozen, arguments.positional[0], data, split, limit);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_program__report();
}
