/* tessera data pack: the files of a data set as WebDataset shards, the same bytes each time. */
#include "recipes/cli/cli.h"

#include "recipes/data/internal.h"
#include "serialization/atomic_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { BLOCK = 512, FIRST_ROOM = 2 * BLOCK };

struct pack {
    tsr_dataset *data;
    const char *prefix;
    int64_t most; /* bytes of a shard */
    tsr_atomic_file *file;
    int64_t shards, written; /* of the open shard */
};

static tsr_status end_shard(struct pack *p)
{
    static const char zeros[2 * BLOCK];
    if (p->file == NULL) return TSR_STATUS_OK;
    tsr_atomic_file__write(p->file, zeros, sizeof zeros);
    return tsr_atomic_file__commit(&p->file);
}

static tsr_status begin_shard(struct pack *p)
{
    char path[TSR_PATH];
    int n = snprintf(path, sizeof path, "%s-%06" PRId64 ".tar", p->prefix, p->shards++);
    if (n >= TSR_PATH) return tsr_fail(TSR_STATUS_ARGUMENT, "--out: the path is too long");
    p->written = 0;
    p->file = tsr_atomic_file__create("data pack", path);
    return tsr_status_get();
}

/* One entry: a ustar header without owner and time, the bytes, zeros up to a whole block. */
static tsr_status put(struct pack *p, int64_t number, const char *extension, const void *data,
                      size_t bytes)
{
    static const char zeros[BLOCK];
    char header[BLOCK] = {0};
    snprintf(header, 100, "%09" PRId64 ".%s", number, extension);
    memcpy(header + 100, "0000644\0000000000\0000000000", 24);
    snprintf(header + 124, 12, "%011zo", bytes);
    memcpy(header + 136, "00000000000", 12);
    header[156] = '0';
    memcpy(header + 257, "ustar\00000", 8);
    unsigned sum = 8 * ' ';
    for (int i = 0; i < BLOCK; i++) sum += (unsigned char)header[i];
    snprintf(header + 148, 8, "%06o", sum);
    header[155] = ' ';
    tsr_atomic_file__write(p->file, header, BLOCK);
    tsr_atomic_file__write(p->file, data, bytes);
    return tsr_atomic_file__write(p->file, zeros, (BLOCK - bytes % BLOCK) % BLOCK);
}

static int64_t entry_bytes(size_t bytes)
{
    return BLOCK + ((int64_t)bytes + BLOCK - 1) / BLOCK * BLOCK;
}

static tsr_status pack_one(struct pack *p, int64_t i)
{
    void *image;
    size_t bytes;
    char label[24];
    if (tsr_dataset__file(p->data, i, &image, &bytes) != TSR_STATUS_OK) return tsr_status_get();
    int digits = snprintf(label, sizeof label, "%" PRId64, tsr_dataset_label(p->data, i));
    bool labelled = tsr_dataset_classes(p->data) > 0;
    int64_t room = entry_bytes(bytes) + (labelled ? entry_bytes((size_t)digits) : 0);
    if (p->file != NULL && p->written + room + FIRST_ROOM > p->most) end_shard(p);
    if (p->file == NULL && tsr_status_get() == TSR_STATUS_OK) begin_shard(p);
    if (tsr_status_get() == TSR_STATUS_OK) put(p, i, "jpg", image, bytes);
    if (labelled && tsr_status_get() == TSR_STATUS_OK) put(p, i, "cls", label, (size_t)digits);
    p->written += room;
    tsr_free(image);
    return tsr_status_get();
}

static void pack(struct pack *p)
{
    tsr_progress progress = {.what = "packing"};
    int64_t count = tsr_dataset_count(p->data);
    for (int64_t i = 0; i < count && pack_one(p, i) == TSR_STATUS_OK; i++) {
        tsr_progress__show(&progress, i + 1, count);
    }
    tsr_progress__end(&progress);
    if (tsr_status_get() == TSR_STATUS_OK) end_shard(p);
    tsr_atomic_file__abandon(&p->file);
    if (tsr_status_get() != TSR_STATUS_OK) return;
    printf("%s-{000000..%06" PRId64 "}.tar: %" PRId64 " images%s\n", p->prefix, p->shards - 1,
           count, tsr_dataset_classes(p->data) > 0 ? ", their classes by number" : "");
}

int tsr_command__data_pack(int argc, char **argv)
{
    struct pack p = {0};
    const char *data = NULL, *split = NULL;
    int64_t mebibytes = 256;
    const tsr_flag flags[] = {
        {"data", TSR_FLAG_TEXT, &data, "DIR", "images: class folders, a flat folder or shards"},
        {"split", TSR_FLAG_TEXT, &split, "NAME",
         "train, val or test; default: train where there is one, else all"},
        {"out", TSR_FLAG_TEXT, &p.prefix, "PREFIX",
         "shards are PREFIX-000000.tar, PREFIX-000001.tar, ..."},
        {"shard-size", TSR_FLAG_INT, &mebibytes, "MIB", "most of one shard; default 256", 1, 1e6},
    };
    tsr_arguments arguments = {
        .usage = "data pack --data DIR --out PREFIX [--shard-size MIB]",
        .example = "data pack --data IMAGES --out shards/train",
        .description =
            "Writes the JPEG files of a data set as WebDataset shards, in its order, with the number of\n"
            "each image's class beside it. A run on them sees the same images as one on the folder.",
        .flags = flags,
        .n_flags = sizeof flags / sizeof flags[0]};
    int status = tsr_arguments__parse(&arguments, argc, argv);
    if (status >= 0) return status;
    if (data == NULL || p.prefix == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "--data and --out are needed");
        return tsr_arguments__refuse(&arguments);
    }
    p.most = mebibytes << 20;
    p.data = tsr_dataset_open(data, split);
    if (p.data != NULL) pack(&p);
    tsr_dataset_close(&p.data);
    return tsr_program__report();
}
