/*
 * Folders of JPEGs: with a folder for each class, in the order of torchvision's ImageFolder
 * (classes by name; in a class by the path of the folder, then by file name; bytes compared), or
 * flat, without labels.
 */
#include "recipes/data/internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_DEPTH = 32 };

struct entry {
    size_t folder, name; /* in names; folder is "" for the root, else it ends in '/' */
    int32_t label;
};

struct folder {
    tsr_dataset_vtable vtable;
    size_t root; /* in names, without a '/' at the end */
    tsr_names names;
    struct entry *entries;
    int64_t count, room;
    size_t *classes; /* in names */
    int64_t n_classes, classes_room;
    /* For the message when no JPEG is found. */
    int64_t others;
    char other_extension[16];
};

/* -------------------- the vtable -------------------------------------------------------------- */

static int64_t folder_count(const void *self)
{
    return ((const struct folder *)self)->count;
}

static int64_t folder_classes(const void *self)
{
    return ((const struct folder *)self)->n_classes;
}

static const char *folder_class_name(const void *self, int64_t c)
{
    const struct folder *f = self;
    return f->names.text + f->classes[c];
}

static int64_t folder_label(const void *self, int64_t i)
{
    return ((const struct folder *)self)->entries[i].label;
}

static void folder_name(const void *self, int64_t i, char *buffer, size_t bytes)
{
    const struct folder *f = self;
    const struct entry *e = &f->entries[i];
    snprintf(buffer, bytes, "%s%s", f->names.text + e->folder, f->names.text + e->name);
}

static tsr_status path_of(const struct folder *f, int64_t i, char path[TSR_PATH])
{
    const struct entry *e = &f->entries[i];
    int n = snprintf(path, TSR_PATH, "%s/%s%s", f->names.text + f->root, f->names.text + e->folder,
                     f->names.text + e->name);
    if (n < TSR_PATH) return TSR_STATUS_OK;
    return tsr_fail(TSR_STATUS_IO, "%.200s...: path too long", path);
}

static tsr_status folder_file(const void *self, int64_t i, void **data, size_t *bytes)
{
    char path[TSR_PATH];
    if (path_of(self, i, path) != TSR_STATUS_OK) return tsr_status_get();
    return tsr_file__read(path, TSR_FILE_MOST, data, bytes);
}

static tsr_status folder_load(const void *self, int64_t i, int min_short_side, tsr_image *image,
                              const char **warning)
{
    char path[TSR_PATH];
    if (path_of(self, i, path) != TSR_STATUS_OK) return tsr_status_get();
    tsr_jpeg_info info;
    tsr_jpeg_options options = {.min_short_side = min_short_side};
    tsr_status status = tsr_jpeg_read(path, &options, image, &info);
    if (status == TSR_STATUS_OK) *warning = info.warning;
    return status;
}

static void folder_close(void *self)
{
    struct folder *f = self;
    if (f == NULL) return;
    tsr_free(f->names.text);
    tsr_free(f->entries);
    tsr_free(f->classes);
    tsr_free(f);
}

/* -------------------- scanning ---------------------------------------------------------------- */

static bool is_jpeg_name(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot != NULL && (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0);
}

/* Remembers what other pictures there are. */
static void note_other(struct folder *f, const char *name)
{
    static const char *const extensions[] = {".png", ".bmp", ".gif",  ".webp", ".tif", ".tiff",
                                             ".ppm", ".pgm", ".heic", ".avif", ".jp2"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot != NULL && i < sizeof extensions / sizeof *extensions; i++) {
        if (strcasecmp(dot, extensions[i]) != 0) continue;
        if (f->others++ == 0) strcpy(f->other_extension, extensions[i]);
    }
}

static bool add_entry(struct folder *f, size_t folder, const char *name, int32_t label)
{
    void *block = f->entries;
    bool fits = tsr_array__grow(&block, f->count, &f->room, sizeof *f->entries);
    f->entries = block;
    struct entry entry = {.folder = folder, .label = label};
    if (!fits || !tsr_names__add(&f->names, name, &entry.name)) return false;
    f->entries[f->count++] = entry;
    return true;
}

/* Adds the JPEGs of root/below (below is "" or ends in '/') and, when deep, of all folders in it.
 * Hidden names are passed over. */
static tsr_status scan(struct folder *f, const char *root, const char *below, int32_t label,
                       bool deep, int depth)
{
    char path[TSR_PATH];
    if (!tsr_path__join(path, root, below)) return tsr_status_get();
    if (depth > MAX_DEPTH) {
        return tsr_fail(TSR_STATUS_FORMAT,
                        "dataset: %s is more than %d folders deep; is a link leading back?", path,
                        MAX_DEPTH);
    }
    DIR *stream = opendir(path);
    if (stream == NULL) return tsr_fail(TSR_STATUS_IO, "dataset: %s: %s", path, strerror(errno));
    size_t folder_name_at = 0;
    tsr_status status = TSR_STATUS_OK;
    if (!tsr_names__add(&f->names, below, &folder_name_at)) status = tsr_status_get();
    struct dirent *item;
    while (status == TSR_STATUS_OK && (item = readdir(stream)) != NULL) {
        if (item->d_name[0] == '.') continue;
        if (is_jpeg_name(item->d_name)) {
            /* A folder of such a name will be one of the files that cannot be read. */
            if (!add_entry(f, folder_name_at, item->d_name, label)) status = tsr_status_get();
            continue;
        }
        note_other(f, item->d_name);
        char child[TSR_PATH], child_below[TSR_PATH];
        if (!deep || item->d_type == DT_REG) continue;
        if (!tsr_path__join(child, path, item->d_name)) {
            status = tsr_status_get();
        } else if (tsr_path__is_folder(child)) {
            int n = snprintf(child_below, sizeof child_below, "%s%s/", below, item->d_name);
            if (n >= TSR_PATH) {
                status = tsr_fail(TSR_STATUS_ARGUMENT, "dataset: path too long in %.200s", path);
            } else {
                status = scan(f, root, child_below, label, deep, depth + 1);
            }
        }
    }
    closedir(stream);
    return status;
}

/* qsort() hands no context; opening data sets happens once, so a thread's variable will do. */
static _Thread_local const char *sorted_text;

/* The '/' that ends a folder's path does not count. */
static int by_folder(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) a++, b++;
    int x = a[0] == '/' && a[1] == '\0' ? 0 : (unsigned char)*a;
    int y = b[0] == '/' && b[1] == '\0' ? 0 : (unsigned char)*b;
    return x - y;
}

static int by_label_and_path(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->label != y->label) return x->label < y->label ? -1 : 1;
    int order = by_folder(sorted_text + x->folder, sorted_text + y->folder);
    return order != 0 ? order : strcmp(sorted_text + x->name, sorted_text + y->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(sorted_text + *(const size_t *)a, sorted_text + *(const size_t *)b);
}

/* The folders in root, sorted, as classes. */
static tsr_status find_classes(struct folder *f, const char *root)
{
    DIR *stream = opendir(root);
    if (stream == NULL) return tsr_fail(TSR_STATUS_IO, "dataset: %s: %s", root, strerror(errno));
    struct dirent *item;
    tsr_status status = TSR_STATUS_OK;
    while (status == TSR_STATUS_OK && (item = readdir(stream)) != NULL) {
        char child[TSR_PATH];
        if (item->d_name[0] == '.' || item->d_type == DT_REG) continue;
        if (!tsr_path__join(child, root, item->d_name)) break;
        if (!tsr_path__is_folder(child)) continue;
        void *block = f->classes;
        size_t at;
        bool fits = tsr_array__grow(&block, f->n_classes, &f->classes_room, sizeof *f->classes);
        f->classes = block;
        if (!fits || !tsr_names__add(&f->names, item->d_name, &at)) break;
        f->classes[f->n_classes++] = at;
    }
    closedir(stream);
    status = tsr_status_get();
    sorted_text = f->names.text;
    if (f->n_classes > 0) qsort(f->classes, (size_t)f->n_classes, sizeof *f->classes, by_name);
    return status;
}

static tsr_status nothing_found(const struct folder *f, const char *root)
{
    if (f->others > 0) {
        return tsr_fail(
            TSR_STATUS_FORMAT,
            "dataset: %s has %lld pictures as %s but no .jpg or .jpeg; convert them, for "
            "example with: mogrify -format jpg '*%s'",
            root, (long long)f->others, f->other_extension, f->other_extension);
    }
    return tsr_fail(
        TSR_STATUS_FORMAT,
        "dataset: no images in %s; expected JPEG files, a folder of them for each class, "
        "train-images-idx3-ubyte(.gz), CIFAR's .bin files, or .tar shards",
        root);
}

static tsr_status fill(struct folder *f, const char *root)
{
    tsr_status status = find_classes(f, root);
    if (!tsr_names__add(&f->names, root, &f->root)) return tsr_status_get();
    for (int64_t c = 0; c < f->n_classes && status == TSR_STATUS_OK; c++) {
        char below[TSR_PATH];
        int n = snprintf(below, sizeof below, "%s/", f->names.text + f->classes[c]);
        if (n >= TSR_PATH) return tsr_fail(TSR_STATUS_ARGUMENT, "dataset: %s: path too long", root);
        status = scan(f, root, below, (int32_t)c, true, 1);
    }
    if (status == TSR_STATUS_OK && f->count == 0) {
        f->n_classes = 0;
        status = scan(f, root, "", -1, false, 0);
        f->vtable.kind = "flat folder";
    }
    if (status != TSR_STATUS_OK) return status;
    if (f->count == 0) return nothing_found(f, root);
    sorted_text = f->names.text;
    qsort(f->entries, (size_t)f->count, sizeof *f->entries, by_label_and_path);
    return TSR_STATUS_OK;
}

tsr_dataset *tsr_folder__open(const char *path)
{
    struct folder *f = tsr_alloc(sizeof *f);
    if (f == NULL) return NULL;
    *f = (struct folder){.vtable = {.kind = "image folder",
                                    .count = folder_count,
                                    .classes = folder_classes,
                                    .class_name = folder_class_name,
                                    .label = folder_label,
                                    .name = folder_name,
                                    .load = folder_load,
                                    .file = folder_file,
                                    .close = folder_close}};
    if (fill(f, path) != TSR_STATUS_OK) {
        folder_close(f);
        return NULL;
    }
    return tsr_dataset_make(&f->vtable, f);
}
