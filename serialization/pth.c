/*
 * PyTorch's files (torch/serialization.py).
 *
 * Zip: NAME/data.pkl is a pickle whose tensors refer to storages by key; NAME/data/KEY are their bytes, stored without
 * compression; NAME/byteorder says "little" (older ones have none). Before 1.6: five pickles one after another (a magic
 * number, the version 1001, a dict on the machine, the object, the list of keys), then for each key the number of elements
 * in 8 bytes and the elements.
 */
#include "serialization/pth.h"

#include "serialization/half.h"
#include "serialization/pickle.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

enum { DEPTH_MAX = 64, PATH_MAX_BYTES = 1024, TIMES_MAX = 16 };

typedef struct entry {
    char *name;
    const tsr_pickle_tensor *tensor;
    uint64_t at; /* of its storage: the index in the archive, or the first byte in the file */
} entry;

struct tsr_pth {
    tsr_source source;
    zip_t *archive; /* NULL: before 1.6 */
    uint8_t *text;  /* of the pickle: strings point into it */
    tsr_pickle *pickle;
    entry *entries; /* sorted by name */
    size_t n, room;
    size_t budget; /* for the walk: values visited, bytes of names */
};

static tsr_status fail_file(const tsr_pth *f, const char *problem)
{
    return tsr_fail(TSR_STATUS_FORMAT, "pth: '%s': %s", f->source.name, problem);
}

static tsr_status fail_memory(void)
{
    return tsr_fail(TSR_STATUS_MEMORY, "pth: out of memory");
}

/* ---- the archive ---- */

/*
 * libzip makes room for as many entries as the end of the archive announces. The announcement is the last "PK\5\6", or a
 * "PK\6\6" before it: none of them may announce more entries than fit into the file, 46 bytes each.
 */
static tsr_status check_announced_entries(const tsr_pth *f)
{
    enum { TAIL = 65557 + 20 + 4096 };
    static uint8_t const end[4] = "PK\5\6", end64[4] = "PK\6\6";
    size_t bytes = f->source.size < TAIL ? (size_t)f->source.size : TAIL;
    uint8_t *tail = malloc(bytes + 64);
    if (tail == NULL) return fail_memory();
    memset(tail + bytes, 0, 64);
    tsr_status status = tsr_source__read(&f->source, "pth", f->source.size - bytes, tail, bytes);
    for (size_t i = 0; i < bytes && status == TSR_STATUS_OK; i++) {
        uint64_t n = 0;
        if (memcmp(tail + i, end, 4) == 0) {
            n = (uint64_t)tail[i + 10] | (uint64_t)tail[i + 11] << 8;
            if (n == 0xffff) n = 0; /* see the other one */
        } else if (memcmp(tail + i, end64, 4) == 0) {
            memcpy(&n, tail + i + 32, sizeof n);
        }
        if (n > f->source.size / 46) {
            status = fail_file(f, "the archive announces more entries than fit into the file");
        }
    }
    free(tail);
    return status;
}

static tsr_status fail_zip(const tsr_pth *f, zip_error_t *error)
{
    return tsr_fail(TSR_STATUS_FORMAT, "pth: '%s' is a broken zip archive: %s", f->source.name,
                    zip_error_strerror(error));
}

static tsr_status open_archive(tsr_pth *f)
{
    if (check_announced_entries(f) != TSR_STATUS_OK) return tsr_status_get();
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t *source = NULL;
    if (f->source.fd < 0) {
        source = zip_source_buffer_create(f->source.memory, f->source.size, 0, &error);
    } else {
        int fd = dup(f->source.fd);
        FILE *file = fd >= 0 ? fdopen(fd, "rb") : NULL;
        if (file == NULL) {
            if (fd >= 0) close(fd);
            return fail_memory();
        }
        source = zip_source_filep_create(file, 0, -1, &error);
        if (source == NULL) fclose(file);
    }
    if (source != NULL) f->archive = zip_open_from_source(source, ZIP_RDONLY, &error);
    if (f->archive == NULL) {
        if (zip_error_code_zip(&error) ==
            ZIP_ER_NOZIP) { /* the list is at the end, and not found */
            fail_file(f, "it is cut off: the list of entries at the end of its zip archive is "
                         "missing; download or copy it again");
        } else {
            fail_zip(f, &error);
        }
        zip_source_free(source);
    }
    zip_error_fini(&error);
    return tsr_status_get();
}

/* Stored as they are, and together no larger than the file: entries that lie over each other cannot multiply it. */
static tsr_status check_entries(const tsr_pth *f)
{
    zip_int64_t n = zip_get_num_entries(f->archive, 0);
    uint64_t total = 0;
    for (zip_int64_t i = 0; i < n; i++) {
        zip_stat_t s;
        if (zip_stat_index(f->archive, (zip_uint64_t)i, 0, &s) != 0) {
            return fail_zip(f, zip_get_error(f->archive));
        }
        const zip_uint64_t wanted = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
        if ((s.valid & wanted) != wanted || s.comp_method != ZIP_CM_STORE ||
            s.encryption_method != ZIP_EM_NONE || s.size != s.comp_size) {
            return fail_file(
                f, "an entry is compressed or encrypted, which torch.save() does not do; unpack "
                   "it and save it again");
        }
        if (__builtin_add_overflow(total, s.size, &total) || total > f->source.size) {
            return fail_file(f, "the archive's entries are larger together than the file");
        }
    }
    return TSR_STATUS_OK;
}

/* Reads bytes from begin of an entry; its checksum is checked if that is all of it. */
static tsr_status read_entry(const tsr_pth *f, uint64_t index, uint64_t begin, void *to,
                             size_t bytes)
{
    zip_file_t *z = zip_fopen_index(f->archive, index, 0);
    if (z == NULL) return fail_zip(f, zip_get_error(f->archive));
    tsr_status status = TSR_STATUS_OK;
    if (begin > 0 && zip_fseek(z, (zip_int64_t)begin, SEEK_SET) != 0) {
        status = fail_zip(f, zip_file_get_error(z));
    }
    uint8_t *at = to, beyond;
    for (size_t left = bytes; left > 0 && status == TSR_STATUS_OK;) {
        zip_int64_t got = zip_fread(z, at, left < (1u << 30) ? left : (1u << 30));
        if (got <= 0) {
            status = got < 0 ? fail_zip(f, zip_file_get_error(z))
                             : fail_file(f, "an entry of the archive is cut off");
            break;
        }
        at += got;
        left -= (size_t)got;
    }
    /* At the end of an entry that was read from its beginning, this compares checksums. */
    if (status == TSR_STATUS_OK && zip_fread(z, &beyond, 1) < 0) {
        status = fail_zip(f, zip_file_get_error(z));
    }
    zip_fclose(z);
    /* The archive reads through a duplicate of this descriptor, which shares its position. */
    off_t end = f->source.fd >= 0 ? lseek(f->source.fd, 0, SEEK_CUR) : -1;
    if (end >= 0) tsr_source__read_ahead(&f->source, (uint64_t)end, bytes);
    return status;
}

/* The archive's only folder, with its '/', from the first entry's name. */
static tsr_status find_folder(const tsr_pth *f, char folder[PATH_MAX_BYTES])
{
    const char *first = zip_get_name(f->archive, 0, ZIP_FL_ENC_RAW);
    size_t length = first != NULL ? strcspn(first, "/") + 1 : 0;
    if (first == NULL || first[length - 1] != '/' || length > PATH_MAX_BYTES / 2) {
        return fail_file(f, "a zip archive, but not one that torch.save() wrote");
    }
    memcpy(folder, first, length);
    folder[length] = '\0';
    return TSR_STATUS_OK;
}

/* The index of folder + name, -1 where there is none; its size. */
static int64_t locate(const tsr_pth *f, const char *folder, const char *name, uint64_t *size)
{
    char path[PATH_MAX_BYTES];
    int length = snprintf(path, sizeof path, "%s%s", folder, name);
    zip_int64_t i =
        length < PATH_MAX_BYTES ? zip_name_locate(f->archive, path, ZIP_FL_ENC_RAW) : -1;
    zip_stat_t s;
    if (i < 0 || zip_stat_index(f->archive, (zip_uint64_t)i, 0, &s) != 0) return -1;
    *size = s.size;
    return i;
}

static tsr_status check_byte_order(const tsr_pth *f, const char *folder)
{
    uint64_t size;
    char order[8] = "";
    int64_t i = locate(f, folder, "byteorder", &size);
    if (i < 0) return TSR_STATUS_OK;
    if (size < sizeof order && read_entry(f, (uint64_t)i, 0, order, (size_t)size) != TSR_STATUS_OK)
        return tsr_status_get();
    if (strcmp(order, "little") == 0) return TSR_STATUS_OK;
    return fail_file(f, "its data is big-endian; save it on a little-endian machine");
}

static tsr_status read_pickle_entry(tsr_pth *f, const char *folder)
{
    uint64_t size;
    int64_t i = locate(f, folder, "constants.pkl", &size);
    if (i >= 0) return fail_file(f, "a TorchScript program; in Python, save its state_dict()");
    i = locate(f, folder, "data.pkl", &size);
    if (i < 0) return fail_file(f, "a zip archive, but not one that torch.save() wrote");
    if (size > TSR_PICKLE_MAX) return fail_file(f, "its pickle has more than 8 MiB");
    f->text = malloc(size > 0 ? (size_t)size : 1);
    if (f->text == NULL) return fail_memory();
    if (read_entry(f, (uint64_t)i, 0, f->text, (size_t)size) != TSR_STATUS_OK)
        return tsr_status_get();
    size_t used;
    f->pickle = tsr_pickle__read(f->source.name, f->text, (size_t)size, &used);
    return tsr_status_get();
}

/* ---- names ---- */

/* A place in the tree: the names on the way to it, outermost first. */
struct path {
    size_t bytes;
    char text[TSR_NAME_MAX + 1];
};

static tsr_status spend(tsr_pth *f, size_t cost)
{
    if (cost > f->budget) {
        return fail_file(f, "its containers hold each other too often");
    }
    f->budget -= cost;
    return TSR_STATUS_OK;
}

static tsr_status add_entry(tsr_pth *f, const struct path *path, const tsr_pickle_tensor *tensor)
{
    const char *name = path->bytes > 0 ? path->text : "tensor"; /* the file is one tensor */
    if (!tsr_name__is_valid(name)) {
        return fail_file(f, "a tensor's name is empty, not UTF-8, or has control characters in it");
    }
    if (spend(f, strlen(name) + sizeof *f->entries) != TSR_STATUS_OK) return tsr_status_get();
    if (f->n == f->room) {
        size_t room = f->room > 0 ? 2 * f->room : 64;
        entry *grown = realloc(f->entries, room * sizeof *grown);
        if (grown == NULL) return fail_memory();
        f->entries = grown;
        f->room = room;
    }
    char *copy = strdup(name);
    if (copy == NULL) return fail_memory();
    f->entries[f->n++] = (entry){.name = copy, .tensor = tensor};
    return TSR_STATUS_OK;
}

/* Appends a dict's key; false: it is none that a name can have. */
static bool append(struct path *path, const char *text, size_t bytes)
{
    size_t dot = path->bytes > 0;
    if (bytes == 0 || path->bytes + dot + bytes > TSR_NAME_MAX || memchr(text, '\0', bytes) != NULL)
        return false;
    if (dot > 0) path->text[path->bytes] = '.';
    memcpy(path->text + path->bytes + dot, text, bytes);
    path->bytes += dot + bytes;
    path->text[path->bytes] = '\0';
    return true;
}

static tsr_status walk(tsr_pth *f, struct path *path, tsr_pickle_value *v, int depth)
{
    if (spend(f, 1) != TSR_STATUS_OK) return tsr_status_get();
    if (v->kind == TSR_PICKLE_KIND_TENSOR) return add_entry(f, path, v->u.tensor);
    if (v->kind != TSR_PICKLE_KIND_DICT && v->kind != TSR_PICKLE_KIND_LIST) return TSR_STATUS_OK;
    if (v->visited) return fail_file(f, "a container holds itself");
    if (depth == DEPTH_MAX) return fail_file(f, "containers are nested more than 64 deep");
    v->visited = true;
    size_t step = v->kind == TSR_PICKLE_KIND_DICT ? 2 : 1, before = path->bytes;
    for (size_t i = 0; i + step <= v->u.items.n; i += step) {
        tsr_pickle_value *child = v->u.items.at[i + step - 1];
        const tsr_pickle_value *key = v->u.items.at[i];
        if (child->kind < TSR_PICKLE_KIND_LIST || child->kind == TSR_PICKLE_KIND_STORAGE) {
            if (spend(f, 1) != TSR_STATUS_OK) return tsr_status_get();
            continue;
        }
        char number[24];
        bool fits;
        if (step == 2 && key->kind == TSR_PICKLE_KIND_STR) {
            fits = append(path, key->u.text.at, key->u.text.bytes);
        } else if (step == 1 || key->kind == TSR_PICKLE_KIND_INT) {
            int64_t index = step == 1 ? (int64_t)i : key->u.integer;
            snprintf(number, sizeof number, "%" PRId64, index);
            fits = append(path, number, strlen(number));
        } else {
            fits = append(path, "?", 1);
        }
        if (!fits) return fail_file(f, "a tensor's name is empty or longer than 1024 bytes");
        if (walk(f, path, child, depth + 1) != TSR_STATUS_OK) return tsr_status_get();
        path->bytes = before;
        path->text[before] = '\0';
    }
    v->visited = false;
    return TSR_STATUS_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

/* The entries, by name; their bytes together are bounded. */
static tsr_status list_tensors(tsr_pth *f, size_t pickle_bytes)
{
    struct path path = {0};
    f->budget = 4096 + 64 * pickle_bytes;
    if (walk(f, &path, tsr_pickle__root(f->pickle), 0) != TSR_STATUS_OK) return tsr_status_get();
    if (f->n > 0) qsort(f->entries, f->n, sizeof *f->entries, by_name);
    uint64_t total = 0, most;
    if (__builtin_mul_overflow(f->source.size, (uint64_t)TIMES_MAX, &most)) most = UINT64_MAX;
    for (size_t i = 0; i < f->n; i++) {
        const tsr_pickle_tensor *t = f->entries[i].tensor;
        if (i > 0 && strcmp(f->entries[i].name, f->entries[i - 1].name) == 0) {
            return tsr_fail(TSR_STATUS_FORMAT, "pth: '%s': '%s' occurs twice", f->source.name,
                            f->entries[i].name);
        }
        uint64_t numel = (uint64_t)tsr_shape_numel(t->shape), bytes;
        if (__builtin_mul_overflow(numel, (uint64_t)t->storage->u.storage.type->bytes, &bytes) ||
            __builtin_add_overflow(total, bytes, &total) || total > most) {
            return fail_file(f, "its tensors share storages and are far larger than the file");
        }
    }
    return TSR_STATUS_OK;
}

/* ---- storages ---- */

static tsr_status fail_storage(const tsr_pth *f, const entry *e, const char *problem)
{
    return tsr_fail(TSR_STATUS_FORMAT, "pth: '%s': the storage of '%s' %s", f->source.name, e->name,
                    problem);
}

static bool storage_bytes(const tsr_pickle_value *storage, uint64_t *bytes)
{
    return !__builtin_mul_overflow((uint64_t)storage->u.storage.numel,
                                   (uint64_t)storage->u.storage.type->bytes, bytes);
}

static tsr_status find_entries(tsr_pth *f, const char *folder)
{
    for (size_t i = 0; i < f->n; i++) {
        entry *e = &f->entries[i];
        const tsr_pickle_value *storage = e->tensor->storage, *key = storage->u.storage.key;
        uint64_t size, wanted;
        int64_t at = -1;
        if (key->u.text.bytes < 64 && memchr(key->u.text.at, '\0', key->u.text.bytes) == NULL) {
            char name[80];
            snprintf(name, sizeof name, "data/%.*s", (int)key->u.text.bytes, key->u.text.at);
            at = locate(f, folder, name, &size);
        }
        if (at < 0) return fail_storage(f, e, "is not in the archive");
        if (!storage_bytes(storage, &wanted) || wanted != size) {
            return fail_storage(f, e, "has another size than its tensors say");
        }
        e->at = (uint64_t)at;
    }
    return TSR_STATUS_OK;
}

/* Before 1.6: a key of the list at the end, and where its elements begin. */
struct place {
    const tsr_pickle_value *key;
    const tsr_pickle_value *storage; /* one of those that have it */
    uint64_t at;
};

static int by_key(const void *a, const void *b)
{
    const tsr_pickle_value *x = ((const struct place *)a)->key, *y = ((const struct place *)b)->key;
    if (x->u.text.bytes != y->u.text.bytes) return x->u.text.bytes < y->u.text.bytes ? -1 : 1;
    return memcmp(x->u.text.at, y->u.text.at, x->u.text.bytes);
}

static struct place *find_place(struct place *places, size_t n, const tsr_pickle_value *key)
{
    return bsearch(&(struct place){.key = key}, places, n, sizeof *places, by_key);
}

static bool same_storage(const tsr_pickle_value *a, const tsr_pickle_value *b)
{
    return a->u.storage.type == b->u.storage.type && a->u.storage.numel == b->u.storage.numel;
}

static tsr_status find_places(tsr_pth *f, const tsr_pickle_value *keys, uint64_t at)
{
    if (keys->kind != TSR_PICKLE_KIND_LIST) return fail_file(f, "it has no list of storages");
    size_t n = keys->u.items.n;
    struct place *places = calloc(n + 1, sizeof *places), **order = calloc(n + 1, sizeof *order);
    tsr_status status = places != NULL && order != NULL ? TSR_STATUS_OK : fail_memory();
    for (size_t i = 0; i < n && status == TSR_STATUS_OK; i++) {
        places[i].key = keys->u.items.at[i];
        if (places[i].key->kind != TSR_PICKLE_KIND_STR)
            status = fail_file(f, "a storage has no key");
    }
    if (status == TSR_STATUS_OK) {
        qsort(places, n, sizeof *places, by_key);
        for (size_t i = 0; i < n; i++) order[i] = find_place(places, n, keys->u.items.at[i]);
    }
    for (size_t i = 1; i < n && status == TSR_STATUS_OK; i++) {
        if (by_key(&places[i - 1], &places[i]) == 0)
            status = fail_file(f, "two storages have one key");
    }
    for (size_t i = 0; i < f->n && status == TSR_STATUS_OK; i++) {
        const tsr_pickle_value *storage = f->entries[i].tensor->storage;
        struct place *p = find_place(places, n, storage->u.storage.key);
        if (p == NULL) {
            status = fail_storage(f, &f->entries[i], "is not in the file");
        } else if (p->storage != NULL && !same_storage(p->storage, storage)) {
            status = fail_storage(f, &f->entries[i], "has two sizes or types");
        } else {
            p->storage = storage;
        }
    }
    for (size_t i = 0; i < n && status == TSR_STATUS_OK; i++) {
        uint64_t numel, bytes;
        if (order[i]->storage == NULL) { /* how long it is is not known */
            status = fail_file(f, "a storage belongs to no tensor");
            break;
        }
        status = tsr_source__read(&f->source, "pth", at, &numel, sizeof numel);
        if (status != TSR_STATUS_OK) break;
        at += sizeof numel;
        if (numel != (uint64_t)order[i]->storage->u.storage.numel ||
            !storage_bytes(order[i]->storage, &bytes) || bytes > f->source.size - at) {
            status = fail_file(f, "a storage has another size than its tensors say, or is cut off");
            break;
        }
        order[i]->at = at;
        at += bytes;
    }
    for (size_t i = 0; i < f->n && status == TSR_STATUS_OK; i++) {
        entry *e = &f->entries[i];
        e->at = find_place(places, n, e->tensor->storage->u.storage.key)->at;
    }
    free(order);
    free(places);
    return status;
}

/* ---- opening ---- */

static tsr_status open_zip(tsr_pth *f)
{
    char folder[PATH_MAX_BYTES];
    if (open_archive(f) != TSR_STATUS_OK || check_entries(f) != TSR_STATUS_OK ||
        find_folder(f, folder) != TSR_STATUS_OK || check_byte_order(f, folder) != TSR_STATUS_OK ||
        read_pickle_entry(f, folder) != TSR_STATUS_OK) {
        return tsr_status_get();
    }
    uint64_t size = 0;
    locate(f, folder, "data.pkl", &size);
    if (list_tensors(f, (size_t)size) == TSR_STATUS_OK) find_entries(f, folder);
    return tsr_status_get();
}

static const uint8_t legacy_magic[] = {0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46,
                                       0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e};

/* A small pickle at *at, which moves behind it. */
static tsr_pickle *next_pickle(const tsr_pth *f, size_t bytes, size_t *at)
{
    size_t used;
    tsr_pickle *p = tsr_pickle__read(f->source.name, f->text + *at, bytes - *at, &used);
    if (p != NULL) *at += used;
    return p;
}

static tsr_status open_legacy(tsr_pth *f)
{
    size_t bytes = f->source.size < TSR_PICKLE_MAX ? (size_t)f->source.size : TSR_PICKLE_MAX;
    f->text = malloc(bytes);
    if (f->text == NULL) return fail_memory();
    if (tsr_source__read(&f->source, "pth", 0, f->text, bytes) != TSR_STATUS_OK)
        return tsr_status_get();
    size_t at = sizeof legacy_magic;
    tsr_pickle *version = next_pickle(f, bytes, &at);
    tsr_pickle *machine = version != NULL ? next_pickle(f, bytes, &at) : NULL;
    if (machine != NULL) {
        const tsr_pickle_value *v = tsr_pickle__root(version);
        const tsr_pickle_value *little =
            tsr_pickle__get(tsr_pickle__root(machine), "little_endian");
        if (v->kind != TSR_PICKLE_KIND_INT || v->u.integer != 1001) {
            fail_file(f, "its version is not 1001, the only one that there was");
        } else if (little == NULL || little->kind != TSR_PICKLE_KIND_INT || !little->u.integer) {
            fail_file(f, "its data is big-endian; save it on a little-endian machine");
        }
    }
    tsr_pickle__free(&version);
    tsr_pickle__free(&machine);
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    size_t begin = at;
    f->pickle = next_pickle(f, bytes, &at);
    if (f->pickle == NULL || list_tensors(f, at - begin) != TSR_STATUS_OK) return tsr_status_get();
    tsr_pickle *keys = next_pickle(f, bytes, &at);
    if (keys != NULL) find_places(f, tsr_pickle__root(keys), at);
    tsr_pickle__free(&keys);
    return tsr_status_get();
}

tsr_pth *tsr_pth__open(tsr_source source)
{
    tsr_pth *f = calloc(1, sizeof *f);
    if (f == NULL) {
        tsr_source__close(&source);
        fail_memory();
        return NULL;
    }
    f->source = source;
    uint8_t head[sizeof legacy_magic] = {0};
    size_t have = source.size < sizeof head ? (size_t)source.size : sizeof head;
    tsr_status status = tsr_source__read(&f->source, "pth", 0, head, have);
    if (status == TSR_STATUS_OK && memcmp(head, legacy_magic, sizeof head) == 0) {
        status = open_legacy(f);
    } else if (status == TSR_STATUS_OK && memcmp(head, "PK\3\4", 4) == 0) {
        status = open_zip(f);
    } else if (status == TSR_STATUS_OK) {
        const char *looks = tsr_source__looks_like(&f->source);
        status = tsr_fail(TSR_STATUS_FORMAT, "pth: '%s' is not a file of torch.save()%s%s",
                          f->source.name, looks != NULL ? "; it looks like " : "",
                          looks != NULL ? looks : "");
    }
    if (status != TSR_STATUS_OK) tsr_pth__close(&f);
    return f;
}

void tsr_pth__close(tsr_pth **file)
{
    tsr_pth *f = *file;
    if (f == NULL) return;
    for (size_t i = 0; i < f->n; i++) free(f->entries[i].name);
    free(f->entries);
    tsr_pickle__free(&f->pickle);
    free(f->text);
    if (f->archive != NULL) zip_discard(f->archive);
    tsr_source__close(&f->source);
    free(f);
    *file = NULL;
}

/* ---- tensors ---- */

int64_t tsr_pth__count(const tsr_pth *f)
{
    return (int64_t)f->n;
}

const char *tsr_pth__name(const tsr_pth *f, int64_t i)
{
    return f->entries[i].name;
}

tsr_shape tsr_pth__shape(const tsr_pth *f, int64_t i)
{
    return f->entries[i].tensor->shape;
}

/* Narrow types stand in the upper end of data, from where they are widened. */
static tsr_status widen(const tsr_pth *f, const entry *e, void *data, size_t n)
{
    const tsr_pickle_type *type = e->tensor->storage->u.storage.type;
    unsigned wide = (unsigned)tsr_dtype_size(type->dtype);
    const uint8_t *from = (const uint8_t *)data + n * (wide - type->bytes);
    if (type->dtype == TSR_DTYPE_F32 && type->bytes == 2) {
        tsr_half__widen(data, n);
    } else if (type->dtype == TSR_DTYPE_I32 && type->bytes < 4) {
        int32_t *to = data;
        for (size_t k = 0; k < n; k++) {
            int16_t two = 0;
            if (type->bytes == 2) memcpy(&two, from + 2 * k, sizeof two);
            to[k] = type->bytes == 2 ? two : (int8_t)from[k];
        }
    }
    for (size_t k = 0; type->dtype == TSR_DTYPE_BOOL && k < n; k++) {
        if (from[k] > 1) return fail_storage(f, e, "has a bool that is neither 0 nor 1");
    }
    return TSR_STATUS_OK;
}

tsr_tensor *tsr_pth__tensor(tsr_pth *f, int64_t i)
{
    const entry *e = &f->entries[i];
    const tsr_pickle_tensor *t = e->tensor;
    const tsr_pickle_type *type = t->storage->u.storage.type;
    if (tsr_shape_numel(t->shape) == 0) return tsr_empty(type->dtype, t->shape);
    int64_t n = 1; /* elements from its first to its last */
    for (int d = 0; d < t->shape.ndim; d++) n += (t->shape.size[d] - 1) * t->strides[d];
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *flat = tsr_empty(type->dtype, TSR_SHAPE(n));
    uint8_t *data = tsr_tensor_data_mut(flat);
    if (data == NULL) return tsr_scope_return(&scope, NULL);
    size_t bytes = (size_t)n * type->bytes;
    uint8_t *to = data + (size_t)n * (tsr_dtype_size(type->dtype) - type->bytes);
    uint64_t begin = (uint64_t)t->offset * type->bytes;
    tsr_status status = f->archive != NULL
                            ? read_entry(f, e->at, begin, to, bytes)
                            : tsr_source__read(&f->source, "pth", e->at + begin, to, bytes);
    if (status == TSR_STATUS_OK) status = widen(f, e, data, (size_t)n);
    tsr_tensor *result = NULL;
    if (status == TSR_STATUS_OK)
        result = tsr_tensor_packed(tsr_tensor_view(flat, t->shape, t->strides, 0));
    return tsr_scope_return(&scope, result);
}
