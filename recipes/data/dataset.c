/* Data sets: what they all share, and finding out what lies in a folder. */
#include "recipes/data/internal.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PROBLEMS_KEPT = 1000 };

struct tsr_dataset {
    const tsr_dataset_vtable *vtable;
    void *self;
    int64_t count, classes;
    pthread_mutex_t lock; /* of what follows */
    uint8_t *state;       /* of each image: what loading it has shown */
    int64_t n_problems, n_skipped, n_kept;
    tsr_dataset_problem *kept;
};

enum { UNKNOWN = 0, WARNED, UNREADABLE };

tsr_dataset *tsr_dataset_make(const tsr_dataset_vtable *vtable, void *self)
{
    tsr_dataset *data = tsr_alloc(sizeof *data);
    if (data != NULL) {
        *data = (tsr_dataset){.vtable = vtable, .self = self};
        data->count = vtable->count(self);
        data->classes = vtable->classes(self);
        pthread_mutex_init(&data->lock, NULL);
        data->state = tsr_alloc(data->count > 0 ? (size_t)data->count : 1);
        if (data->state != NULL) {
            memset(data->state, UNKNOWN, (size_t)data->count);
            return data;
        }
        data->vtable = NULL;
        tsr_dataset_close(&data);
    }
    if (vtable->close != NULL) vtable->close(self);
    return NULL;
}

void tsr_dataset_close(tsr_dataset **data)
{
    if (data == NULL || *data == NULL) return;
    tsr_dataset *d = *data;
    *data = NULL;
    if (d->vtable != NULL && d->vtable->close != NULL) d->vtable->close(d->self);
    for (int64_t i = 0; i < d->n_kept; i++) tsr_free((void *)(uintptr_t)d->kept[i].text);
    tsr_free(d->kept);
    tsr_free(d->state);
    pthread_mutex_destroy(&d->lock);
    tsr_free(d);
}

const char *tsr_dataset_kind(const tsr_dataset *data)
{
    return data->vtable->kind;
}

bool tsr_dataset_is_grey(const tsr_dataset *data)
{
    return data->vtable->grey;
}

int64_t tsr_dataset_count(const tsr_dataset *data)
{
    return data->count;
}

int64_t tsr_dataset_classes(const tsr_dataset *data)
{
    return data->classes;
}

const char *tsr_dataset_class_name(const tsr_dataset *data, int64_t c)
{
    if (c < 0 || c >= data->classes) return NULL;
    return data->vtable->class_name(data->self, c);
}

int64_t tsr_dataset_label(const tsr_dataset *data, int64_t i)
{
    if (i < 0 || i >= data->count || data->classes == 0) return -1;
    return data->vtable->label(data->self, i);
}

const char *tsr_dataset_name(const tsr_dataset *data, int64_t i, char buffer[TSR_DATASET_NAME])
{
    buffer[0] = '\0';
    if (i >= 0 && i < data->count) data->vtable->name(data->self, i, buffer, TSR_DATASET_NAME);
    return buffer;
}

static void note(tsr_dataset *data, int64_t i, uint8_t state, const char *text)
{
    pthread_mutex_lock(&data->lock);
    if (data->state[i] == UNKNOWN) {
        data->state[i] = state;
        data->n_problems++;
        data->n_skipped += state == UNREADABLE;
        if (data->kept == NULL) data->kept = tsr_alloc(PROBLEMS_KEPT * sizeof *data->kept);
        if (data->kept != NULL && data->n_kept < PROBLEMS_KEPT) {
            char *copy = tsr_alloc(strlen(text) + 1);
            if (copy != NULL) {
                strcpy(copy, text);
                data->kept[data->n_kept++] = (tsr_dataset_problem){i, state == UNREADABLE, copy};
            }
        }
        tsr_status_clear(); /* a lost note is no failure */
    }
    pthread_mutex_unlock(&data->lock);
}

static bool known_unreadable(tsr_dataset *data, int64_t i)
{
    pthread_mutex_lock(&data->lock);
    bool unreadable = data->state[i] == UNREADABLE;
    pthread_mutex_unlock(&data->lock);
    return unreadable;
}

tsr_status tsr_dataset_load(tsr_dataset *data, int64_t i, int min_short_side, tsr_image *image,
                            int64_t *loaded)
{
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    if (i < 0 || i >= data->count) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "dataset: image %lld of %lld", (long long)i,
                        (long long)data->count);
    }
    for (int64_t tries = 0; tries < data->count; tries++) {
        int64_t at = (i + tries) % data->count;
        if (known_unreadable(data, at)) continue;
        const char *warning = NULL;
        tsr_status status = data->vtable->load(data->self, at, min_short_side, image, &warning);
        if (status == TSR_STATUS_OK) {
            if (warning != NULL) {
                char name[TSR_DATASET_NAME], text[TSR_DATASET_NAME + 64];
                tsr_dataset_name(data, at, name);
                snprintf(text, sizeof text, "%s: %s", name, warning);
                note(data, at, WARNED, text);
            }
            if (loaded != NULL) *loaded = at;
            return TSR_STATUS_OK;
        }
        if (status != TSR_STATUS_IO && status != TSR_STATUS_FORMAT) return status;
        char text[512];
        snprintf(text, sizeof text, "%s", tsr_message());
        tsr_status_clear();
        note(data, at, UNREADABLE, text);
    }
    tsr_dataset_problem first = {.text = NULL};
    tsr_dataset_problems(data, &first, 1, NULL);
    bool known = first.text != NULL;
    return tsr_fail(TSR_STATUS_FORMAT, "dataset: none of its %lld images can be read%s%s",
                    (long long)data->count, known ? "; the first: " : "", known ? first.text : "");
}

tsr_status tsr_dataset__file(const tsr_dataset *data, int64_t i, void **bytes, size_t *n)
{
    if (data->vtable->file != NULL) return data->vtable->file(data->self, i, bytes, n);
    return tsr_fail(TSR_STATUS_ARGUMENT, "dataset: %s holds no JPEG files", data->vtable->kind);
}

static int by_index(const void *a, const void *b)
{
    const tsr_dataset_problem *x = a, *y = b;
    return x->index < y->index ? -1 : x->index > y->index;
}

int64_t tsr_dataset_problems(tsr_dataset *data, tsr_dataset_problem *out, int64_t max,
                             int64_t *skipped)
{
    pthread_mutex_lock(&data->lock);
    if (data->n_kept > 0) qsort(data->kept, (size_t)data->n_kept, sizeof *data->kept, by_index);
    for (int64_t i = 0; i < max && i < data->n_kept; i++) out[i] = data->kept[i];
    if (skipped != NULL) *skipped = data->n_skipped;
    int64_t n = data->n_problems;
    pthread_mutex_unlock(&data->lock);
    return n;
}

/* -------------------- growing ------------------------------------------------------------------ */

bool tsr_array__grow(void **block, int64_t used, int64_t *room, size_t element)
{
    if (used < *room) return true;
    int64_t larger = *room > 0 ? 2 * *room : 256;
    void *new_block = tsr_alloc((size_t)larger * element);
    if (new_block == NULL) return false;
    if (used > 0) memcpy(new_block, *block, (size_t)used * element);
    tsr_free(*block);
    *block = new_block;
    *room = larger;
    return true;
}

bool tsr_names__add(tsr_names *names, const char *text, size_t *at)
{
    size_t bytes = strlen(text) + 1;
    if (names->room - names->used < bytes) {
        size_t larger = 2 * names->room + bytes + 4096;
        char *block = tsr_alloc(larger);
        if (block == NULL) return false;
        if (names->used > 0) memcpy(block, names->text, names->used);
        tsr_free(names->text);
        names->text = block;
        names->room = larger;
    }
    *at = names->used;
    memcpy(names->text + names->used, text, bytes);
    names->used += bytes;
    return true;
}

/* -------------------- paths and files --------------------------------------------------------- */

bool tsr_path__join(char buffer[TSR_PATH], const char *folder, const char *name)
{
    int n = snprintf(buffer, TSR_PATH, "%s/%s", folder, name);
    if (n < TSR_PATH) return true;
    tsr_fail(TSR_STATUS_ARGUMENT, "dataset: a path in %.200s is longer than %d bytes", folder,
             TSR_PATH - 1);
    return false;
}

bool tsr_path__is_folder(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

bool tsr_path__is_file(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISREG(s.st_mode);
}

tsr_status tsr_file__read(const char *path, size_t most, void **data, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) return tsr_fail(TSR_STATUS_IO, "%s: %s", path, strerror(errno));
    struct stat s;
    if (fstat(fileno(file), &s) != 0 || !S_ISREG(s.st_mode)) {
        fclose(file);
        return tsr_fail(TSR_STATUS_IO, "%s: not a regular file", path);
    }
    if (s.st_size == 0 || (uint64_t)s.st_size > most) {
        fclose(file);
        if (s.st_size == 0) return tsr_fail(TSR_STATUS_FORMAT, "%s: empty file", path);
        return tsr_fail(TSR_STATUS_FORMAT, "%s: %lld bytes, expected at most %zu", path,
                        (long long)s.st_size, most);
    }
    void *buffer = tsr_alloc((size_t)s.st_size);
    if (buffer == NULL) {
        fclose(file);
        return tsr_status_get();
    }
    setvbuf(file, NULL, _IONBF, 0);
    errno = 0;
    size_t got = fread(buffer, 1, (size_t)s.st_size, file);
    bool failed = ferror(file) != 0;
    int reason = errno;
    fclose(file);
    if (failed || got == 0) {
        tsr_free(buffer);
        return tsr_fail(TSR_STATUS_IO, "%s: cannot read: %s", path,
                        reason != 0 ? strerror(reason) : "no data");
    }
    *data = buffer;
    *bytes = got;
    return TSR_STATUS_OK;
}

/* -------------------- opening ----------------------------------------------------------------- */

/* Names of folders that hold a split, in order of preference. */
static const char *const train_names[] = {"train", "training", NULL};
static const char *const val_names[] = {"val", "valid", "validation", "test", "testing", NULL};
static const char *const test_names[] = {"test", "testing", "val", "valid", "validation", NULL};

static bool find_split(const char *folder, const char *const *names, char found[TSR_PATH])
{
    for (; *names != NULL; names++) {
        if (!tsr_path__join(found, folder, *names)) return false;
        if (tsr_path__is_folder(found)) return true;
    }
    return false;
}

static bool is_split_name(const char *name)
{
    static const char *const *const names[] = {train_names, test_names};
    for (int i = 0; i < 2; i++) {
        for (const char *const *n = names[i]; *n != NULL; n++) {
            if (strcmp(*n, name) == 0) return true;
        }
    }
    return false;
}

/* A folder beside those named after splits: then a lone "train" may be a class, of railways. */
static bool has_other_folders(const char *path)
{
    DIR *stream = opendir(path);
    if (stream == NULL) return false;
    bool found = false;
    struct dirent *item;
    while (!found && (item = readdir(stream)) != NULL) {
        char child[TSR_PATH];
        if (item->d_name[0] == '.' || is_split_name(item->d_name)) continue;
        int n = snprintf(child, sizeof child, "%s/%s", path, item->d_name);
        found = n < TSR_PATH && tsr_path__is_folder(child);
    }
    closedir(stream);
    return found;
}

static tsr_dataset *open_images(const char *folder)
{
    return tsr_shards__find(folder) ? tsr_shards__open_folder(folder, NULL)
                                    : tsr_folder__open(folder);
}

static tsr_dataset *open_folder(const char *path, const char *split)
{
    char train[TSR_PATH], val[TSR_PATH], test[TSR_PATH];
    bool has_train = find_split(path, train_names, train);
    bool has_val = find_split(path, val_names, val);
    bool has_test = find_split(path, test_names, test);
    if (tsr_status_get() != TSR_STATUS_OK) return NULL;
    if (split == NULL) {
        bool is_split = has_train && (has_val || has_test || !has_other_folders(path));
        return open_images(is_split ? train : path);
    }
    if (strcmp(split, "train") == 0) {
        if (has_train) return open_images(train);
        /* Only a folder that is not split at all is one to train on as a whole. */
        if (!has_val && !has_test) return open_images(path);
    } else if (strcmp(split, "val") == 0) {
        if (has_val) return open_images(val);
    } else if (has_test) {
        return open_images(test);
    }
    tsr_fail(TSR_STATUS_ARGUMENT,
             "dataset: %s has no split '%s': expected a folder of that name in it%s", path, split,
             has_train ? "; there is only train" : "");
    return NULL;
}

tsr_dataset *tsr_dataset_open(const char *path, const char *split)
{
    if (tsr_status_get() != TSR_STATUS_OK) return NULL;
    if (path == NULL || path[0] == '\0') {
        tsr_fail(TSR_STATUS_ARGUMENT, "dataset: no path given");
        return NULL;
    }
    if (split != NULL && strcmp(split, "train") != 0 && strcmp(split, "val") != 0 &&
        strcmp(split, "test") != 0) {
        tsr_fail(TSR_STATUS_ARGUMENT, "dataset: split '%s', expected train, val or test", split);
        return NULL;
    }
    struct stat s;
    bool exists = stat(path, &s) == 0;
    if (!exists && strpbrk(path, "{*?[") == NULL) {
        tsr_fail(TSR_STATUS_IO, "dataset: %s: %s", path, strerror(errno));
        return NULL;
    }
    if (!exists || tsr_shards__is_name(path)) {
        if (split == NULL || strcmp(split, "train") == 0) return tsr_shards__open(path);
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "dataset: %s has no split '%s': only a folder of shards has, by their names", path,
                 split);
        return NULL;
    }
    if (!S_ISDIR(s.st_mode)) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "dataset: %s is a file; give the folder that holds the images or data files, or "
                 ".tar shards",
                 path);
        return NULL;
    }
    DIR *folder = opendir(path);
    if (folder == NULL) {
        tsr_fail(TSR_STATUS_IO, "dataset: %s: %s", path, strerror(errno));
        return NULL;
    }
    closedir(folder);
    if (tsr_idx__find(path)) return tsr_idx__open(path, split != NULL ? split : "train");
    if (tsr_cifar__find(path)) return tsr_cifar__open(path, split != NULL ? split : "train");
    if (tsr_shards__find(path)) return tsr_shards__open_folder(path, split);
    return open_folder(path, split);
}
