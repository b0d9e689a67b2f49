/* tessera features: writes the embeddings of images. */
#include "recipes/cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { NAMES_MAX = 64 << 20 }; /* bytes in the file's header, which may not have more than 100 MB */

/* The names of all images, a line each; NULL when they are too many. */
static char *list_names(const tsr_dataset *data)
{
    size_t bytes = 1;
    char name[TSR_DATASET_NAME];
    for (int64_t i = 0; i < tsr_dataset_count(data) && bytes <= NAMES_MAX; i++) {
        bytes += strlen(tsr_dataset_name(data, i, name)) + 1;
    }
    if (bytes > NAMES_MAX) return NULL;
    char *names = tsr_alloc(bytes);
    size_t used = 0;
    for (int64_t i = 0; i < tsr_dataset_count(data) && names != NULL; i++) {
        used += (size_t)snprintf(names + used, bytes - used, "%s%s", i > 0 ? "\n" : "",
                                 tsr_dataset_name(data, i, name));
    }
    return names;
}

static tsr_status write_features(const tsr_features *features, const tsr_dataset *data,
                                 const char *out)
{
    tsr_named_tensor tensors[] = {{"features", features->x}, {"labels", features->labels}};
    char *names = list_names(data);
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    tsr_safetensors_pair pair = {"names", names};
    tsr_safetensors_write(out, tensors, tsr_dataset_classes(data) > 0 ? 2 : 1, &pair,
                          names != NULL);
    tsr_free(names);
    return tsr_status_get();
}

/* Before hours of work, not after. */
static tsr_status check_out(const char *out)
{
    char folder[4096];
    const char *slash = strrchr(out, '/');
    int length = slash != NULL ? (int)(slash - out) + 1 : 0;
    snprintf(folder, sizeof folder, "%.*s", length, out);
    if (access(length > 0 ? folder : ".", W_OK) == 0) return TSR_STATUS_OK;
    return tsr_fail(TSR_STATUS_IO, "--out %s: its folder: %s", out, strerror(errno));
}

static tsr_status run(tsr_frozen *f, const char *checkpoint, const char *folder, const char *split,
                      const char *out)
{
    tsr_dataset *data = check_out(out) == TSR_STATUS_OK ? tsr_dataset_open(folder, split) : NULL;
    tsr_features features;
    tsr_progress progress = {.what = "features"};
    if (data != NULL && tsr_frozen__open(f, checkpoint) == TSR_STATUS_OK) {
        tsr_frozen__describe(f);
        tsr_extract_options o = tsr_frozen__features(f, 1, TSR_POOLING_CLASS, &progress);
        tsr_features_extract(f->backbone, data, &o, &features);
        tsr_progress__end(&progress);
        if (tsr_status_get() == TSR_STATUS_OK &&
            write_features(&features, data, out) == TSR_STATUS_OK) {
            char shape[TSR_SHAPE_TEXT];
            printf("%s: features %s of %s (%s)\n", out,
                   tsr_shape_text(tsr_tensor_shape(features.x), shape), folder,
                   tsr_dataset_kind(data));
        }
        tsr_dataset__report(data);
    }
    tsr_dataset_close(&data);
    tsr_frozen__close(f);
    return tsr_status_get();
}

int tsr_command__features(int argc, char **argv)
{
    tsr_frozen frozen = TSR_FROZEN_DEFAULT;
    const char *data = NULL, *split = NULL, *out = NULL;
    const tsr_flag flags[] = {
        {"data", TSR_FLAG_TEXT, &data, "DIR",
         "images: class folders, a flat folder, shards (*.tar), IDX or CIFAR files"},
        {"split", TSR_FLAG_TEXT, &split, "NAME",
         "train, val or test; default: train where there is one, else all"},
        {"out", TSR_FLAG_TEXT, &out, "FILE", "the safetensors file to write"},
        TSR_WEIGHTS_FLAGS(frozen),
        TSR_FEATURE_FLAGS(frozen),
    };
    tsr_arguments arguments = {
        .usage = "features CHECKPOINT --data DIR --out FILE [options]",
        .example = "features RUN --data IMAGES --out features.safetensors",
        .description =
            "Writes what the checkpoint's backbone makes of each image: \"features\" f32 [images, size],\n"
            "\"labels\" i64 [images] where there are labels, and the images' names, a line each, as\n"
            "\"names\" in the metadata. CHECKPOINT is a file, or the directory of a run.",
        .flags = flags,
        .n_flags = sizeof flags / sizeof flags[0],
        .min_positional = 1,
        .max_positional = 1};
    int status = tsr_arguments__parse(&arguments, argc, argv);
    if (status >= 0) return status;
    if (data == NULL || out == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "--data and --out are needed");
        return tsr_arguments__refuse(&arguments);
    }
    tsr_scope scope = tsr_scope_open();
    run(&frozen, arguments.positional[0], data, split, out);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_program__report();
}
