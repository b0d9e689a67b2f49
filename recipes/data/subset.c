/* Some images of another data set: chosen one by one, as a share of each class, or by a list of names. */
#include "recipes/data/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct subset {
    tsr_dataset *whole;
    tsr_dataset_vtable vtable; /* its kind, and whether it is grey, are those of the whole */
    int64_t n;
    int64_t indices[];
};

static int64_t count(const void *self)
{
    return ((const struct subset *)self)->n;
}

static int64_t classes(const void *self)
{
    return tsr_dataset_classes(((const struct subset *)self)->whole);
}

static const char *class_name(const void *self, int64_t c)
{
    return tsr_dataset_class_name(((const struct subset *)self)->whole, c);
}

static int64_t label(const void *self, int64_t i)
{
    const struct subset *s = self;
    return tsr_dataset_label(s->whole, s->indices[i]);
}

static void name(const void *self, int64_t i, char *buffer, size_t bytes)
{
    const struct subset *s = self;
    char text[TSR_DATASET_NAME];
    snprintf(buffer, bytes, "%s", tsr_dataset_name(s->whole, s->indices[i], text));
}

static tsr_status load(const void *self, int64_t i, int min_short_side, tsr_image *image,
                       const char **warning)
{
    const struct subset *s = self;
    int64_t loaded;
    (void)warning; /* the whole data set keeps it */
    tsr_status status = tsr_dataset_load(s->whole, s->indices[i], min_short_side, image, &loaded);
    if (status != TSR_STATUS_OK || loaded == s->indices[i]) return status;
    char text[TSR_DATASET_NAME];
    return tsr_fail(TSR_STATUS_FORMAT, "%s: it cannot be read",
                    tsr_dataset_name(s->whole, s->indices[i], text));
}

tsr_dataset *tsr_dataset_subset(tsr_dataset *whole, const int64_t *indices, int64_t n)
{
    int64_t all = tsr_dataset_count(whole);
    for (int64_t i = 0; i < n; i++) {
        if (indices[i] >= 0 && indices[i] < all) continue;
        tsr_fail(TSR_STATUS_ARGUMENT, "subset: image %lld of %lld", (long long)indices[i],
                 (long long)all);
        return NULL;
    }
    if (n < 1) {
        tsr_fail(TSR_STATUS_ARGUMENT, "subset: it has no image");
        return NULL;
    }
    struct subset *s = tsr_alloc(sizeof *s + (size_t)n * sizeof *indices);
    if (s == NULL) return NULL;
    *s = (struct subset){.whole = whole,
                         .vtable = {.kind = tsr_dataset_kind(whole),
                                    .grey = tsr_dataset_is_grey(whole),
                                    .count = count,
                                    .classes = classes,
                                    .class_name = class_name,
                                    .label = label,
                                    .name = name,
                                    .load = load,
                                    .close = tsr_free},
                         .n = n};
    memcpy(s->indices, indices, (size_t)n * sizeof *indices);
    return tsr_dataset_make(&s->vtable, s);
}

/* ---- a share of each class ---- */

/* The images of class c, in order, into found [count]; how many. */
static int64_t images_of(const tsr_dataset *whole, int64_t c, int64_t *found)
{
    int64_t n = 0;
    for (int64_t i = 0; i < tsr_dataset_count(whole); i++) {
        if (tsr_dataset_label(whole, i) == c) found[n++] = i;
    }
    return n;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

tsr_dataset *tsr_dataset_label_fraction(tsr_dataset *whole, double fraction, uint64_t seed)
{
    int64_t all = tsr_dataset_count(whole), of_classes = tsr_dataset_classes(whole), n = 0;
    if (!(fraction > 0.0 && fraction <= 1.0) || of_classes < 1) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "label fraction: %g of %lld classes; expected more than 0 and at most 1, and "
                 "images with labels",
                 fraction, (long long)of_classes);
        return NULL;
    }
    size_t bytes = (size_t)(all > 0 ? all : 1) * sizeof(int64_t);
    int64_t *chosen = tsr_alloc(bytes), *images = tsr_alloc(bytes), *order = tsr_alloc(bytes);
    tsr_dataset *subset = NULL;
    if (chosen != NULL && images != NULL && order != NULL) {
        for (int64_t c = 0; c < of_classes; c++) {
            int64_t have = images_of(whole, c, images);
            int64_t take = (int64_t)rint(fraction * (double)have);
            if (take < 1 && have > 0) take = 1;
            tsr_rng rng = tsr_rng_make(seed, 0, (uint32_t)c, tsr_rng_purpose("label fraction"));
            tsr_rng_permutation(&rng, have, order);
            for (int64_t i = 0; i < take; i++) chosen[n++] = images[order[i]];
        }
        qsort(chosen, (size_t)n, sizeof *chosen, by_value);
        subset = tsr_dataset_subset(whole, chosen, n);
    }
    tsr_free(chosen);
    tsr_free(images);
    tsr_free(order);
    return subset;
}

/* ---- a list of names ---- */

enum { LIST_MOST = 1 << 28 }; /* bytes of a file */

struct entry {
    const char *name;
    int64_t images; /* that have it */
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

/* Cuts text, which ends with a NUL, into lines without the white space around them; how many are not empty. With entries
 * NULL it only counts, and changes nothing. */
static int64_t lines(char *text, struct entry *entries)
{
    static const char space[] = " \t\r\n";
    int64_t n = 0;
    for (char *p = text; *p != '\0'; n++) {
        p += strspn(p, space);
        if (*p == '\0') break;
        char *end = p + strcspn(p, "\n"), *next = *end != '\0' ? end + 1 : end;
        while (strchr(space, end[-1]) != NULL) end--;
        if (entries != NULL) {
            entries[n] = (struct entry){.name = p};
            *end = '\0';
        }
        p = next;
    }
    return n;
}

static struct entry *find(struct entry *entries, int64_t n, const char *text)
{
    struct entry key = {.name = text};
    return bsearch(&key, entries, (size_t)n, sizeof key, by_name);
}

/* The images on the list, into chosen; -1 where a name has none, or several. */
static int64_t match(const char *path, const tsr_dataset *whole, struct entry *entries, int64_t n,
                     int64_t *chosen)
{
    int64_t count_chosen = 0;
    for (int64_t i = 0; i < tsr_dataset_count(whole); i++) {
        char text[TSR_DATASET_NAME];
        tsr_dataset_name(whole, i, text);
        struct entry *e = find(entries, n, text);
        const char *slash = strrchr(text, '/');
        if (e == NULL && slash != NULL) e = find(entries, n, slash + 1);
        if (e == NULL) continue;
        e->images++;
        chosen[count_chosen++] = i;
    }
    for (int64_t k = 0; k < n; k++) {
        if (entries[k].images == 1) continue;
        tsr_fail(TSR_STATUS_ARGUMENT, "label list %s: \"%.200s\" is the name of %s", path,
                 entries[k].name,
                 entries[k].images == 0 ? "no image of the data set"
                                        : "several images; write their folders too");
        return -1;
    }
    return count_chosen;
}

/* Sorted, each once; how many. */
static int64_t unique(struct entry *entries, int64_t n)
{
    int64_t kept = 0;
    qsort(entries, (size_t)n, sizeof *entries, by_name);
    for (int64_t k = 0; k < n; k++) {
        if (kept == 0 || strcmp(entries[k].name, entries[kept - 1].name) != 0) {
            entries[kept++] = entries[k];
        }
    }
    return kept;
}

tsr_dataset *tsr_dataset_label_list(tsr_dataset *whole, const char *path)
{
    void *data;
    size_t bytes;
    if (tsr_file__read(path, LIST_MOST, &data, &bytes) != TSR_STATUS_OK) return NULL;
    char *text = tsr_alloc(bytes + 1);
    int64_t *chosen = tsr_alloc((size_t)(tsr_dataset_count(whole) + 1) * sizeof *chosen);
    struct entry *entries = NULL;
    tsr_dataset *subset = NULL;
    if (text != NULL && chosen != NULL) {
        memcpy(text, data, bytes);
        text[bytes] = '\0';
        int64_t n = lines(text, NULL);
        entries = tsr_alloc((size_t)(n + 1) * sizeof *entries);
        if (entries != NULL) {
            n = unique(entries, lines(text, entries));
            n = match(path, whole, entries, n, chosen);
            if (n == 0) tsr_fail(TSR_STATUS_FORMAT, "label list %s: it has no names", path);
            if (n > 0) subset = tsr_dataset_subset(whole, chosen, n);
        }
    }
    tsr_free(entries);
    tsr_free(text);
    tsr_free(chosen);
    tsr_free(data);
    return subset;
}
