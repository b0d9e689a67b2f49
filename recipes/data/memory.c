/*
 * Data sets that are a few files, held in memory as a whole.
 *
 * IDX (yann.lecun.com/exdb/mnist): a big-endian magic number 0, 0, type (8: unsigned byte), number
 * of dimensions; then the sizes, 32 bits each; then the data. CIFAR
 * (cs.toronto.edu/~kriz/cifar.html, binary version): records of one label byte (CIFAR-100: coarse,
 * fine) and 32 x 32 red, then green, then blue bytes.
 */
#include "recipes/data/internal.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

enum { CLASS_NAME = 32, CIFAR_SIDE = 32, CIFAR_PIXELS = 3 * CIFAR_SIDE * CIFAR_SIDE };

struct memory {
    tsr_dataset_vtable vtable;
    char file[64]; /* of the images, without its folder */
    int64_t count, classes;
    int height, width, channels; /* 1, or 3 planes */
    uint8_t *pixels;             /* [count, channels, height, width] */
    uint8_t *labels;             /* [count]; NULL: none */
    char class_names[256][CLASS_NAME];
};

static int64_t memory_count(const void *self)
{
    return ((const struct memory *)self)->count;
}

static int64_t memory_classes(const void *self)
{
    return ((const struct memory *)self)->classes;
}

static const char *memory_class_name(const void *self, int64_t c)
{
    return ((const struct memory *)self)->class_names[c];
}

static int64_t memory_label(const void *self, int64_t i)
{
    const struct memory *m = self;
    return m->labels != NULL ? m->labels[i] : -1;
}

static void memory_name(const void *self, int64_t i, char *buffer, size_t bytes)
{
    snprintf(buffer, bytes, "%s[%lld]", ((const struct memory *)self)->file, (long long)i);
}

static tsr_status memory_load(const void *self, int64_t i, int min_short_side, tsr_image *image,
                              const char **warning)
{
    (void)min_short_side;
    (void)warning;
    const struct memory *m = self;
    tsr_status status = tsr_image_resize_storage(image, m->height, m->width);
    if (status != TSR_STATUS_OK) return status;
    size_t n = (size_t)m->height * (size_t)m->width;
    const uint8_t *in = m->pixels + (size_t)i * (size_t)m->channels * n;
    size_t plane = m->channels == 3 ? n : 0;
    uint8_t *out = image->pixels;
    for (size_t k = 0; k < n; k++, out += 3) {
        out[0] = in[k];
        out[1] = in[k + plane];
        out[2] = in[k + 2 * plane];
    }
    image->grey = m->channels == 1;
    return TSR_STATUS_OK;
}

static void memory_close(void *self)
{
    struct memory *m = self;
    if (m == NULL) return;
    tsr_free(m->pixels);
    tsr_free(m->labels);
    tsr_free(m);
}

static struct memory *memory_make(const char *kind)
{
    struct memory *m = tsr_alloc(sizeof *m);
    if (m == NULL) return NULL;
    *m = (struct memory){.vtable = {.kind = kind,
                                    .count = memory_count,
                                    .classes = memory_classes,
                                    .class_name = memory_class_name,
                                    .label = memory_label,
                                    .name = memory_name,
                                    .load = memory_load,
                                    .close = memory_close}};
    return m;
}

/* -------------------- IDX --------------------------------------------------------------------- */

/* Reads up to `bytes`; how many there were, -1 on a read error. */
static int64_t read_some(gzFile file, uint8_t *out, size_t bytes)
{
    size_t got = 0;
    while (got < bytes) {
        size_t want = bytes - got < (1u << 30) ? bytes - got : (1u << 30);
        int n = gzread(file, out + got, (unsigned)want);
        if (n < 0) return -1;
        if (n == 0) break;
        got += (size_t)n;
    }
    return (int64_t)got;
}

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Room grows with what was really read, so that a header cannot ask for more memory than its file
 * fills. */
static tsr_status read_growing(gzFile file, const char *name, size_t bytes, uint8_t **data)
{
    enum { FIRST = 1 << 20 };
    size_t room = bytes < FIRST ? bytes : FIRST, have = 0;
    uint8_t *buffer = tsr_alloc(room);
    while (buffer != NULL) {
        int64_t got = read_some(file, buffer + have, room - have);
        if (got >= 0) have += (size_t)got;
        if (got < 0 || have < room) {
            int code;
            const char *reason = gzerror(file, &code);
            tsr_free(buffer);
            return tsr_fail(TSR_STATUS_FORMAT, "%s: %zu bytes of data, expected %zu%s%s", name,
                            have, bytes, code < 0 ? ": " : "", code < 0 ? reason : "");
        }
        if (have == bytes) {
            *data = buffer;
            return TSR_STATUS_OK;
        }
        size_t larger = bytes - room < room ? bytes : 2 * room;
        uint8_t *grown = tsr_alloc(larger);
        if (grown != NULL) memcpy(grown, buffer, have);
        tsr_free(buffer);
        buffer = grown;
        room = larger;
    }
    return tsr_status_get();
}

/* Parses an IDX file of unsigned bytes with ndim dimensions. *data is from tsr_alloc(). */
static tsr_status idx_parse(gzFile file, const char *name, int ndim, int64_t size[3],
                            uint8_t **data)
{
    uint8_t header[16];
    size_t header_bytes = 4 + 4 * (size_t)ndim;
    int64_t got = read_some(file, header, header_bytes);
    if (got < 4 || header[0] != 0 || header[1] != 0) {
        return tsr_fail(TSR_STATUS_FORMAT, "%s: not an IDX file", name);
    }
    if (header[2] != 8 || header[3] != ndim) {
        return tsr_fail(TSR_STATUS_FORMAT,
                        "%s: IDX type %d with %d dimensions, expected 8 (unsigned byte) with %d",
                        name, header[2], header[3], ndim);
    }
    if (got < (int64_t)header_bytes) {
        return tsr_fail(TSR_STATUS_FORMAT, "%s: ends within its header", name);
    }
    uint64_t total = 1;
    for (int d = 0; d < ndim; d++) {
        uint32_t n = big_endian(header + 4 + 4 * d);
        uint32_t most = d == 0 ? 1u << 28 : 4096;
        if (n == 0 || n > most) {
            return tsr_fail(TSR_STATUS_FORMAT, "%s: size %u in dimension %d, expected 1 to %u",
                            name, n, d, most);
        }
        size[d] = n;
        total *= n;
    }
    if (total > (uint64_t)1 << 35) {
        return tsr_fail(TSR_STATUS_FORMAT, "%s: %llu bytes of data, expected at most 32 GiB", name,
                        (unsigned long long)total);
    }
    return read_growing(file, name, (size_t)total, data);
}

static const char *const idx_train[] = {"train", NULL};
static const char *const idx_test[] = {"t10k", "test", "val", NULL};
static const char *const idx_forms[] = {"%s-%s-idx%d-ubyte.gz", "%s-%s-idx%d-ubyte",
                                        "%s-%s.idx%d-ubyte.gz", "%s-%s.idx%d-ubyte"};

/* The file of a split: prefixes x forms. what: "images" (3 dimensions) or "labels" (1). */
static bool idx_file(const char *folder, const char *const *prefixes, const char *what, int ndim,
                     char path[TSR_PATH])
{
    for (; *prefixes != NULL; prefixes++) {
        for (size_t i = 0; i < sizeof idx_forms / sizeof *idx_forms; i++) {
            char name[64];
            snprintf(name, sizeof name, idx_forms[i], *prefixes, what, ndim);
            if (!tsr_path__join(path, folder, name)) return false;
            if (tsr_path__is_file(path)) return true;
        }
    }
    return false;
}

bool tsr_idx__find(const char *folder)
{
    char path[TSR_PATH];
    return idx_file(folder, idx_train, "images", 3, path) ||
           idx_file(folder, idx_test, "images", 3, path);
}

static tsr_status idx_read(const char *path, int ndim, int64_t size[3], uint8_t **data)
{
    gzFile file = gzopen(path, "rb");
    if (file == NULL) return tsr_fail(TSR_STATUS_IO, "%s: %s", path, strerror(errno));
    gzbuffer(file, 1 << 17);
    tsr_status status = idx_parse(file, path, ndim, size, data);
    gzclose(file);
    return status;
}

static tsr_status idx_fill(struct memory *m, const char *folder, const char *split)
{
    const char *const *prefixes = strcmp(split, "train") == 0 ? idx_train : idx_test;
    char images[TSR_PATH], labels[TSR_PATH];
    if (!idx_file(folder, prefixes, "images", 3, images)) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "dataset: %s has no %s images: expected %s-images-idx3-ubyte.gz", folder,
                        split, prefixes[0]);
    }
    int64_t size[3] = {0}, n_labels[3] = {0};
    tsr_status status = idx_read(images, 3, size, &m->pixels);
    if (status != TSR_STATUS_OK) return status;
    m->count = size[0];
    m->height = (int)size[1];
    m->width = (int)size[2];
    m->channels = 1;
    m->vtable.grey = true;
    snprintf(m->file, sizeof m->file, "%s", strrchr(images, '/') + 1);
    if (!idx_file(folder, prefixes, "labels", 1, labels)) return tsr_status_get();
    status = idx_read(labels, 1, n_labels, &m->labels);
    if (status != TSR_STATUS_OK) return status;
    if (n_labels[0] != m->count) {
        return tsr_fail(TSR_STATUS_FORMAT, "%s: %lld labels for %lld images", labels,
                        (long long)n_labels[0], (long long)m->count);
    }
    for (int64_t i = 0; i < m->count; i++) {
        if (m->labels[i] >= m->classes) m->classes = m->labels[i] + 1;
    }
    for (int64_t c = 0; c < m->classes; c++) {
        snprintf(m->class_names[c], CLASS_NAME, "%lld", (long long)c);
    }
    return TSR_STATUS_OK;
}

tsr_dataset *tsr_idx__open(const char *folder, const char *split)
{
    struct memory *m = memory_make("IDX");
    if (m == NULL) return NULL;
    if (idx_fill(m, folder, split) != TSR_STATUS_OK) {
        memory_close(m);
        return NULL;
    }
    return tsr_dataset_make(&m->vtable, m);
}

/* -------------------- CIFAR ------------------------------------------------------------------- */

struct cifar {
    const char *kind, *subfolder, *names;
    int labels; /* bytes of a record; the last one is the label */
    int64_t classes;
    const char *train[6], *test[2];
};

static const struct cifar cifars[] = {
    {"CIFAR-10",
     "cifar-10-batches-bin",
     "batches.meta.txt",
     1,
     10,
     {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
      "data_batch_5.bin", NULL},
     {"test_batch.bin", NULL}},
    {"CIFAR-100",
     "cifar-100-binary",
     "fine_label_names.txt",
     2,
     100,
     {"train.bin", NULL},
     {"test.bin", NULL}},
};

/* The kind that lies in folder or in the subfolder that its archive makes; path is set to that
 * folder. */
static const struct cifar *cifar_find(const char *folder, char path[TSR_PATH])
{
    for (size_t i = 0; i < sizeof cifars / sizeof *cifars; i++) {
        for (int below = 0; below < 2; below++) {
            const char *name = below ? cifars[i].subfolder : ".";
            char file[TSR_PATH];
            if (!tsr_path__join(path, folder, name)) return NULL;
            if (!tsr_path__join(file, path, cifars[i].train[0])) return NULL;
            if (tsr_path__is_file(file)) return &cifars[i];
            if (!tsr_path__join(file, path, cifars[i].test[0])) return NULL;
            if (tsr_path__is_file(file)) return &cifars[i];
        }
    }
    return NULL;
}

bool tsr_cifar__find(const char *folder)
{
    char path[TSR_PATH];
    return cifar_find(folder, path) != NULL;
}

/* One name a line; missing or short files leave numbers. */
static void cifar_class_names(struct memory *m, const char *folder, const char *name)
{
    for (int64_t c = 0; c < m->classes; c++) {
        snprintf(m->class_names[c], CLASS_NAME, "%lld", (long long)c);
    }
    char path[TSR_PATH], line[CLASS_NAME];
    if (!tsr_path__join(path, folder, name)) return;
    FILE *file = fopen(path, "r");
    if (file == NULL) return;
    for (int64_t c = 0; c < m->classes && fgets(line, sizeof line, file) != NULL;) {
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] == '\0') continue;
        strcpy(m->class_names[c++], line);
    }
    fclose(file);
}

static tsr_status cifar_append(struct memory *m, const struct cifar *kind, const char *path)
{
    void *raw;
    size_t bytes, record = (size_t)kind->labels + CIFAR_PIXELS;
    tsr_status status = tsr_file__read(path, (size_t)1 << 30, &raw, &bytes);
    if (status != TSR_STATUS_OK) return status;
    if (bytes % record != 0) {
        tsr_free(raw);
        return tsr_fail(TSR_STATUS_FORMAT, "%s: %zu bytes, not a multiple of %s's records of %zu",
                        path, bytes, kind->kind, record);
    }
    size_t n = bytes / record, have = (size_t)m->count;
    uint8_t *pixels = tsr_alloc((have + n) * CIFAR_PIXELS);
    uint8_t *labels = tsr_alloc(have + n);
    if (pixels == NULL || labels == NULL) {
        tsr_free(raw);
        tsr_free(pixels);
        tsr_free(labels);
        return tsr_status_get();
    }
    if (have > 0) {
        memcpy(pixels, m->pixels, have * CIFAR_PIXELS);
        memcpy(labels, m->labels, have);
    }
    tsr_free(m->pixels);
    tsr_free(m->labels);
    m->pixels = pixels;
    m->labels = labels;
    const uint8_t *in = raw;
    for (size_t i = 0; i < n && status == TSR_STATUS_OK; i++, in += record) {
        uint8_t label = in[kind->labels - 1];
        if (label >= kind->classes) {
            status = tsr_fail(TSR_STATUS_FORMAT, "%s: label %d in record %zu, expected below %d",
                              path, label, i, (int)kind->classes);
        }
        labels[have + i] = label;
        memcpy(pixels + (have + i) * CIFAR_PIXELS, in + kind->labels, CIFAR_PIXELS);
    }
    tsr_free(raw);
    m->count = (int64_t)(have + n);
    return status;
}

static tsr_status cifar_fill(struct memory *m, const struct cifar *kind, const char *folder,
                             const char *split)
{
    bool train = strcmp(split, "train") == 0;
    snprintf(m->file, sizeof m->file, "%s", train ? "train" : "test");
    m->height = m->width = CIFAR_SIDE;
    m->channels = 3;
    m->classes = kind->classes;
    cifar_class_names(m, folder, kind->names);
    for (const char *const *name = train ? kind->train : kind->test; *name != NULL; name++) {
        char path[TSR_PATH];
        if (!tsr_path__join(path, folder, *name)) return tsr_status_get();
        tsr_status status = cifar_append(m, kind, path);
        if (status != TSR_STATUS_OK) return status;
    }
    return TSR_STATUS_OK;
}

tsr_dataset *tsr_cifar__open(const char *folder, const char *split)
{
    char path[TSR_PATH];
    const struct cifar *kind = cifar_find(folder, path);
    if (kind == NULL) return NULL;
    struct memory *m = memory_make(kind->kind);
    if (m == NULL) return NULL;
    if (cifar_fill(m, kind, path, split) != TSR_STATUS_OK) {
        memory_close(m);
        return NULL;
    }
    return tsr_dataset_make(&m->vtable, m);
}
