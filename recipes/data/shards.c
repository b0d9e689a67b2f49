/*
 * WebDataset shards: tar archives in which the files of one sample lie side by side and share a basename: an image (.jpg,
 * .jpeg) and perhaps its label (.cls, .txt, .json). An index is made once, from the headers and the small files of labels;
 * images are then read where they lie. Archives are POSIX ustar and pax (IEEE Std 1003.1, "pax") with GNU's long names.
 */
#include "recipes/data/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BLOCK = 512,
    NAME = 4096,      /* bytes of a path in an archive */
    RECORD = 1 << 16, /* of a pax header or a label's file */
    LABEL = 256,
    MAX_CLASS = 1000000,
    MAX_SHARDS = 100000,
};

#define NO_LABEL SIZE_MAX

struct sample {
    int64_t offset, bytes; /* of the image in its shard */
    size_t name, text;     /* in names; text: of the label, or NO_LABEL */
    int32_t shard, label;
};

struct shards {
    tsr_dataset_vtable vtable;
    tsr_names names;
    size_t *paths; /* in names, of the shards */
    int64_t n_paths, paths_room;
    struct sample *samples;
    int64_t count, room;
    size_t *classes; /* in names */
    int64_t n_classes;
};

/* ---- the vtable ---- */

static int64_t shards_count(const void *self)
{
    return ((const struct shards *)self)->count;
}

static int64_t shards_classes(const void *self)
{
    return ((const struct shards *)self)->n_classes;
}

static const char *shards_class_name(const void *self, int64_t c)
{
    const struct shards *s = self;
    return s->names.text + s->classes[c];
}

static int64_t shards_label(const void *self, int64_t i)
{
    return ((const struct shards *)self)->samples[i].label;
}

static const char *path_of(const struct shards *s, int64_t shard)
{
    return s->names.text + s->paths[shard];
}

static void shards_name(const void *self, int64_t i, char *buffer, size_t bytes)
{
    const struct shards *s = self;
    const char *path = path_of(s, s->samples[i].shard), *slash = strrchr(path, '/');
    snprintf(buffer, bytes, "%s:%s", slash != NULL ? slash + 1 : path,
             s->names.text + s->samples[i].name);
}

static tsr_status shards_file(const void *self, int64_t i, void **data, size_t *bytes)
{
    const struct shards *s = self;
    const struct sample *sample = &s->samples[i];
    const char *path = path_of(s, sample->shard);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return tsr_fail(TSR_STATUS_IO, "%s: %s", path, strerror(errno));
    size_t n = (size_t)sample->bytes, got = 0;
    char *buffer = tsr_alloc(n);
    while (buffer != NULL && got < n) {
        ssize_t part = pread(file, buffer + got, n - got, (off_t)(sample->offset + (int64_t)got));
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) break;
        got += (size_t)part;
    }
    int reason = errno;
    close(file);
    if (buffer == NULL) return tsr_status_get();
    if (got < n) {
        tsr_free(buffer);
        return tsr_fail(TSR_STATUS_IO, "%s: cannot read %s: %s", path, s->names.text + sample->name,
                        reason != 0 ? strerror(reason) : "the file is shorter than it was");
    }
    *data = buffer;
    *bytes = n;
    return TSR_STATUS_OK;
}

static tsr_status shards_load(const void *self, int64_t i, int min_short_side, tsr_image *image,
                              const char **warning)
{
    char name[TSR_DATASET_NAME];
    void *data;
    size_t bytes;
    if (shards_file(self, i, &data, &bytes) != TSR_STATUS_OK) return tsr_status_get();
    shards_name(self, i, name, sizeof name);
    tsr_jpeg_info info;
    tsr_jpeg_options options = {.name = name, .min_short_side = min_short_side};
    tsr_status status = tsr_jpeg_decode(data, bytes, &options, image, &info);
    if (status == TSR_STATUS_OK) *warning = info.warning;
    tsr_free(data);
    return status;
}

static void shards_close(void *self)
{
    struct shards *s = self;
    tsr_free(s->names.text);
    tsr_free(s->paths);
    tsr_free(s->samples);
    tsr_free(s->classes);
    tsr_free(s);
}

/* ---- tar ---- */

/* A shard while it is indexed. */
struct tar {
    struct shards *s;
    const char *path;
    int file;
    int64_t size, at; /* of the file; where the next header is */
    /* Of the next file, from headers before its own: */
    char long_name[NAME];
    int64_t long_size; /* -1: none */
    /* The sample that is being collected: */
    char key[NAME];
    struct sample sample; /* bytes 0: no image yet */
};

static tsr_status broken(const struct tar *t, const char *what)
{
    return tsr_fail(TSR_STATUS_FORMAT, "%s: %s at byte %" PRId64, t->path, what, t->at);
}

static bool read_at(const struct tar *t, int64_t at, void *data, size_t n)
{
    for (size_t got = 0; got < n;) {
        ssize_t part = pread(t->file, (char *)data + got, n - got, (off_t)(at + (int64_t)got));
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) {
            tsr_fail(TSR_STATUS_IO, "%s: %s", t->path, part < 0 ? strerror(errno) : "ends early");
            return false;
        }
        got += (size_t)part;
    }
    return true;
}

/* Octal digits, or GNU's base 256; -1: neither, or more than fits. */
static int64_t number(const uint8_t *field, int n)
{
    int64_t value = 0;
    if ((field[0] & 0x80) != 0) {
        value = field[0] & 0x7f;
        for (int i = 1; i < n; i++) {
            if (value > INT64_MAX >> 8) return -1;
            value = value << 8 | field[i];
        }
        return value;
    }
    int i = 0;
    while (i < n && field[i] == ' ') i++;
    for (; i < n && field[i] >= '0' && field[i] <= '7'; i++) {
        if (value > INT64_MAX >> 3) return -1;
        value = value << 3 | (field[i] - '0');
    }
    return i < n && field[i] != '\0' && field[i] != ' ' ? -1 : value;
}

static bool checksum_fits(const uint8_t header[BLOCK])
{
    int64_t sum = 0;
    for (int i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? ' ' : header[i];
    return number(header + 148, 8) == sum;
}

/* Lines "length key=value\n" of a pax header. */
static bool read_pax(struct tar *t, char *text, size_t n)
{
    while (n > 0) {
        char *end, *space = memchr(text, ' ', n);
        if (space == NULL) return false;
        unsigned long length = strtoul(text, &end, 10);
        size_t head = (size_t)(space + 1 - text);
        if (end != space || length > n || length < head + 2 || text[length - 1] != '\n') {
            return false;
        }
        char *key = space + 1;
        text[length - 1] = '\0';
        if (strncmp(key, "path=", 5) == 0) {
            if (strlen(key + 5) >= NAME) return false;
            strcpy(t->long_name, key + 5);
        } else if (strncmp(key, "size=", 5) == 0) {
            errno = 0;
            t->long_size = strtoll(key + 5, &end, 10);
            if (errno != 0 || end == key + 5 || *end != '\0' || t->long_size < 0) return false;
        }
        text += length;
        n -= length;
    }
    return true;
}

/* The path of an entry: GNU's or pax's, else prefix and name of the header. */
static void name_of(const struct tar *t, const uint8_t header[BLOCK], char name[NAME])
{
    if (t->long_name[0] != '\0') {
        strcpy(name, t->long_name);
        return;
    }
    bool ustar = memcmp(header + 257, "ustar\0", 6) == 0;
    int n = 0;
    if (ustar && header[345] != '\0')
        n = snprintf(name, NAME, "%.155s/", (const char *)header + 345);
    snprintf(name + n, (size_t)(NAME - n), "%.100s", (const char *)header);
}

/* ---- samples ---- */

/* What a file of a label says, as a word in `label`; false where it says nothing usable. */
static bool read_label(const struct tar *t, const char *extension, int64_t at, int64_t bytes,
                       char label[LABEL])
{
    if (bytes < 1 || bytes >= RECORD) return false;
    char *text = tsr_alloc((size_t)bytes + 1);
    if (text == NULL || !read_at(t, at, text, (size_t)bytes)) {
        tsr_free(text);
        return false;
    }
    text[bytes] = '\0';
    bool found = false;
    if (strcasecmp(extension, "json") == 0) {
        json_t *root = json_loadb(text, (size_t)bytes, 0, NULL);
        json_t *value = json_object_get(root, "label");
        if (value == NULL) value = json_object_get(root, "cls");
        if (json_is_integer(value)) {
            snprintf(label, LABEL, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
            found = true;
        } else if (json_is_string(value) && json_string_length(value) < LABEL) {
            strcpy(label, json_string_value(value));
            found = label[0] != '\0';
        }
        json_decref(root);
    } else {
        /* One word; several are a caption. */
        char *word = text + strspn(text, " \t\r\n");
        size_t n = strcspn(word, " \t\r\n");
        if (n > 0 && n < LABEL && word[n + strspn(word + n, " \t\r\n")] == '\0') {
            memcpy(label, word, n);
            label[n] = '\0';
            found = true;
        }
    }
    tsr_free(text);
    return found;
}

/* The sample that was collected, if it has an image. */
static bool end_sample(struct tar *t)
{
    struct shards *s = t->s;
    t->key[0] = '\0';
    if (t->sample.bytes == 0) return true;
    void *block = s->samples;
    bool fits = tsr_array__grow(&block, s->count, &s->room, sizeof *s->samples);
    s->samples = block;
    if (fits) s->samples[s->count++] = t->sample;
    t->sample.bytes = 0;
    return fits;
}

/* One regular file of the archive. */
static bool add_file(struct tar *t, const char *name, int64_t bytes)
{
    static const char *const images[] = {"jpg", "jpeg"}, *const labels[] = {"cls", "txt", "json"};
    const char *slash = strrchr(name, '/'), *base = slash != NULL ? slash + 1 : name;
    const char *dot = strchr(base, '.');
    if (dot == NULL || dot == base) return true; /* hidden files are of no sample */
    size_t key = (size_t)(dot - name);
    if (strlen(t->key) != key || memcmp(t->key, name, key) != 0) {
        if (!end_sample(t)) return false;
        memcpy(t->key, name, key);
        t->key[key] = '\0';
        t->sample =
            (struct sample){.shard = (int32_t)t->s->n_paths - 1, .label = -1, .text = NO_LABEL};
    }
    int64_t at = t->at + BLOCK;
    for (int i = 0; i < 2; i++) {
        if (strcasecmp(dot + 1, images[i]) != 0 || t->sample.bytes > 0) continue;
        if (bytes < 1 || bytes > TSR_FILE_MOST) return true;
        t->sample.offset = at;
        t->sample.bytes = bytes;
        if (!tsr_names__add(&t->s->names, name, &t->sample.name)) return false;
    }
    for (int i = 0; i < 3; i++) {
        char label[LABEL];
        if (strcasecmp(dot + 1, labels[i]) != 0 || t->sample.text != NO_LABEL) continue;
        if (read_label(t, dot + 1, at, bytes, label) &&
            !tsr_names__add(&t->s->names, label, &t->sample.text))
            return false;
    }
    return tsr_status_get() == TSR_STATUS_OK;
}

/* The long name or the pax header that stands before an entry. */
static bool read_extra(struct tar *t, char type, int64_t bytes)
{
    if (bytes < 1 || bytes >= RECORD || (type == 'L' && bytes > NAME)) {
        broken(t, "a header of unreasonable size");
        return false;
    }
    char *text = tsr_alloc((size_t)bytes + 1);
    bool ok = text != NULL && read_at(t, t->at + BLOCK, text, (size_t)bytes);
    if (ok) {
        text[bytes] = '\0';
        if (type == 'L') {
            snprintf(t->long_name, NAME, "%s", text);
        } else if (!read_pax(t, text, (size_t)bytes)) {
            broken(t, "a pax header that cannot be read");
            ok = false;
        }
    }
    tsr_free(text);
    return ok;
}

static bool read_entry(struct tar *t, const uint8_t header[BLOCK])
{
    char type = (char)header[156], name[NAME];
    int64_t bytes = number(header + 124, 12);
    bool extra = type == 'L' || type == 'x', has_data = type < '1' || type > '6';
    if (!extra && t->long_size >= 0) bytes = t->long_size;
    if (!has_data) bytes = 0;
    if (bytes < 0 || bytes > t->size - t->at - BLOCK) {
        broken(t, "an entry that is longer than the file");
        return false;
    }
    if (extra) {
        if (!read_extra(t, type, bytes)) return false;
    } else {
        name_of(t, header, name);
        if ((type == '0' || type == '\0' || type == '7') && !add_file(t, name, bytes)) return false;
        t->long_name[0] = '\0';
        t->long_size = -1;
    }
    t->at += BLOCK + (bytes + BLOCK - 1) / BLOCK * BLOCK;
    return true;
}

static bool is_zero(const uint8_t header[BLOCK])
{
    for (int i = 0; i < BLOCK; i++) {
        if (header[i] != 0) return false;
    }
    return true;
}

static bool index_shard(struct shards *s, const char *path)
{
    void *block = s->paths;
    bool fits = tsr_array__grow(&block, s->n_paths, &s->paths_room, sizeof *s->paths);
    s->paths = block;
    if (!fits || !tsr_names__add(&s->names, path, &s->paths[s->n_paths])) return false;
    s->n_paths++;
    struct tar *t = tsr_alloc(sizeof *t);
    if (t == NULL) return false;
    *t = (struct tar){.s = s, .path = path, .long_size = -1};
    t->file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (t->file < 0 || fstat(t->file, &info) != 0) {
        tsr_fail(TSR_STATUS_IO, "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        tsr_fail(TSR_STATUS_IO, "%s: not a regular file", path);
    } else {
        t->size = info.st_size;
    }
    bool ok = tsr_status_get() == TSR_STATUS_OK;
    while (ok && t->at + BLOCK <= t->size) {
        uint8_t header[BLOCK];
        ok = read_at(t, t->at, header, BLOCK);
        if (ok && is_zero(header)) break;
        if (ok && !checksum_fits(header)) {
            broken(t, "no tar header");
            ok = false;
        }
        ok = ok && read_entry(t, header);
    }
    ok = ok && end_sample(t);
    if (t->file >= 0) close(t->file);
    tsr_free(t);
    return ok;
}

/* ---- classes ---- */

/* A whole number without sign; -1: something else. */
static int64_t whole(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return digits > 0 && digits < 10 && text[digits] == '\0' ? atoll(text) : -1;
}

static _Thread_local const char *sorted_text;

static int by_text(const void *a, const void *b)
{
    return strcmp(sorted_text + *(const size_t *)a, sorted_text + *(const size_t *)b);
}

static bool number_classes(struct shards *s, int64_t most)
{
    if (most >= MAX_CLASS) {
        tsr_fail(TSR_STATUS_FORMAT, "shards: a label is %" PRId64 ", expected less than %d", most,
                 MAX_CLASS);
        return false;
    }
    s->classes = tsr_alloc((size_t)(most + 1) * sizeof *s->classes);
    if (s->classes == NULL) return false;
    for (int64_t c = 0; c <= most; c++) {
        char name[24];
        snprintf(name, sizeof name, "%" PRId64, c);
        if (!tsr_names__add(&s->names, name, &s->classes[c])) return false;
    }
    s->n_classes = most + 1;
    for (int64_t i = 0; i < s->count; i++) {
        s->samples[i].label = (int32_t)whole(s->names.text + s->samples[i].text);
    }
    return true;
}

static bool name_classes(struct shards *s)
{
    size_t *all = tsr_alloc((size_t)s->count * sizeof *all);
    if (all == NULL) return false;
    for (int64_t i = 0; i < s->count; i++) all[i] = s->samples[i].text;
    sorted_text = s->names.text;
    qsort(all, (size_t)s->count, sizeof *all, by_text);
    s->classes = all;
    for (int64_t i = 0; i < s->count; i++) {
        if (i == 0 || by_text(&all[s->n_classes - 1], &all[i]) != 0) all[s->n_classes++] = all[i];
    }
    for (int64_t i = 0; i < s->count; i++) {
        const size_t *c =
            bsearch(&s->samples[i].text, all, (size_t)s->n_classes, sizeof *all, by_text);
        s->samples[i].label = (int32_t)(c - all);
    }
    return true;
}

/* Numbers are classes themselves, words by their order. One sample without makes all of them unlabelled. */
static bool find_classes(struct shards *s)
{
    int64_t most = 0;
    bool numbers = true;
    for (int64_t i = 0; i < s->count; i++) {
        if (s->samples[i].text == NO_LABEL) return true;
        int64_t n = whole(s->names.text + s->samples[i].text);
        numbers = numbers && n >= 0;
        if (n > most) most = n;
    }
    return numbers ? number_classes(s, most) : name_classes(s);
}

/* ---- opening ---- */

bool tsr_shards__is_name(const char *path)
{
    size_t n = strlen(path);
    return n > 4 && strcmp(path + n - 4, ".tar") == 0;
}

static int64_t glob_each(struct shards *s, const char *pattern)
{
    glob_t found;
    int result = glob(pattern, GLOB_ERR, NULL, &found);
    if (result == GLOB_NOMATCH) return 0;
    if (result != 0) {
        tsr_fail(TSR_STATUS_IO, "%s: cannot be searched", pattern);
        return 0;
    }
    int64_t n = 0;
    for (; (size_t)n < found.gl_pathc; n++) {
        if (s->n_paths >= MAX_SHARDS) {
            tsr_fail(TSR_STATUS_ARGUMENT, "%s: more than %d shards", pattern, MAX_SHARDS);
        }
        if (tsr_status_get() != TSR_STATUS_OK || !index_shard(s, found.gl_pathv[n])) break;
    }
    globfree(&found);
    return n;
}

/* "a{x,y}b" and "a{000..146}b", braces one after another; then what the shell would find. */
static void expand(struct shards *s, const char *pattern)
{
    if (tsr_status_get() != TSR_STATUS_OK) return;
    const char *open_brace = strchr(pattern, '{');
    const char *end = open_brace != NULL ? strchr(open_brace, '}') : NULL;
    if (end == NULL) {
        if (glob_each(s, pattern) == 0 && tsr_status_get() == TSR_STATUS_OK) {
            tsr_fail(TSR_STATUS_IO, "%s: there is no such file", pattern);
        }
        return;
    }
    char path[TSR_PATH];
    int head = (int)(open_brace - pattern), width = 0, read = 0;
    long long first, last;
    const char *inside = open_brace + 1, *dots = strstr(inside, "..");
    if (dots != NULL && dots < end && strspn(inside, "0123456789") == (size_t)(dots - inside) &&
        sscanf(inside, "%lld..%lld%n", &first, &last, &read) == 2 && inside + read == end) {
        width = (int)(dots - inside);
        if (last < first || last - first >= MAX_SHARDS) {
            tsr_fail(TSR_STATUS_ARGUMENT, "%s: a range of shards from %lld to %lld", pattern, first,
                     last);
        }
        for (; first <= last && tsr_status_get() == TSR_STATUS_OK; first++) {
            int n =
                snprintf(path, sizeof path, "%.*s%0*lld%s", head, pattern, width, first, end + 1);
            if (n >= TSR_PATH) {
                tsr_fail(TSR_STATUS_ARGUMENT, "%.200s...: path too long", path);
            } else {
                expand(s, path);
            }
        }
        return;
    }
    for (const char *at = inside; at <= end && tsr_status_get() == TSR_STATUS_OK;) {
        size_t length = strcspn(at, ",}");
        int n = snprintf(path, sizeof path, "%.*s%.*s%s", head, pattern, (int)length, at, end + 1);
        if (n >= TSR_PATH) {
            tsr_fail(TSR_STATUS_ARGUMENT, "%.200s...: path too long", path);
        } else {
            expand(s, path);
        }
        at += length + 1;
    }
}

tsr_dataset *tsr_shards__open(const char *pattern)
{
    struct shards *s = tsr_alloc(sizeof *s);
    if (s == NULL) return NULL;
    *s = (struct shards){.vtable = {.kind = "shards",
                                    .count = shards_count,
                                    .classes = shards_classes,
                                    .class_name = shards_class_name,
                                    .label = shards_label,
                                    .name = shards_name,
                                    .load = shards_load,
                                    .file = shards_file,
                                    .close = shards_close}};
    expand(s, pattern);
    if (tsr_status_get() == TSR_STATUS_OK && s->count == 0) {
        tsr_fail(TSR_STATUS_FORMAT, "dataset: no .jpg or .jpeg in the shards of %s", pattern);
    }
    if (tsr_status_get() != TSR_STATUS_OK || !find_classes(s)) {
        shards_close(s);
        return NULL;
    }
    return tsr_dataset_make(&s->vtable, s);
}

/* Is there a file folder/prefix*.tar? */
static bool any(const char *folder, const char *prefix, char pattern[TSR_PATH])
{
    char name[64];
    glob_t found = {0};
    snprintf(name, sizeof name, "%s*.tar", prefix);
    /* A folder whose own name would be taken for a pattern cannot be searched so. */
    if (strpbrk(folder, "{*?[\\") != NULL || !tsr_path__join(pattern, folder, name)) {
        tsr_status_clear();
        return false;
    }
    bool is = glob(pattern, GLOB_NOSORT, NULL, &found) == 0;
    globfree(&found);
    return is;
}

bool tsr_shards__find(const char *folder)
{
    char pattern[TSR_PATH];
    return any(folder, "", pattern);
}

tsr_dataset *tsr_shards__open_folder(const char *folder, const char *split)
{
    char pattern[TSR_PATH];
    bool train = split == NULL || strcmp(split, "train") == 0;
    if (train) {
        if (!any(folder, "train", pattern)) any(folder, "", pattern);
        return tsr_shards__open(pattern);
    }
    bool val = strcmp(split, "val") == 0;
    if (any(folder, split, pattern) || any(folder, val ? "test" : "val", pattern)) {
        return tsr_shards__open(pattern);
    }
    tsr_fail(TSR_STATUS_ARGUMENT, "dataset: %s has no split '%s': expected shards %s*.tar in it",
             folder, split, split);
    return NULL;
}
