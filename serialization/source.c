#include "serialization/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

tsr_status tsr_source__open(tsr_source *source, const char *reader, const char *path)
{
    if (path == NULL) return tsr_fail(TSR_STATUS_ARGUMENT, "%s: path is NULL", reader);
    /* O_NONBLOCK: opening a pipe must not wait for a writer. Regular files do not know it. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return tsr_fail(TSR_STATUS_IO, "%s: cannot open '%s': %s", reader, path, strerror(errno));
    }
    struct stat about;
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
        close(fd);
        return tsr_fail(TSR_STATUS_IO, "%s: '%s' is %s, wanted a file", reader, path,
                        S_ISDIR(about.st_mode) ? "a directory" : "not a regular file");
    }
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* read ahead further; a wish */
    char *name = strdup(path);
    if (name == NULL) {
        close(fd);
        return tsr_fail(TSR_STATUS_MEMORY, "%s: out of memory", reader);
    }
    *source = (tsr_source){.fd = fd, .size = (uint64_t)about.st_size, .name = name};
    return TSR_STATUS_OK;
}

tsr_status tsr_source__open_memory(tsr_source *source, const char *reader, const void *data,
                                   size_t bytes)
{
    if (data == NULL && bytes > 0) return tsr_fail(TSR_STATUS_ARGUMENT, "%s: data is NULL", reader);
    char *name = strdup("(memory)");
    if (name == NULL) return tsr_fail(TSR_STATUS_MEMORY, "%s: out of memory", reader);
    *source = (tsr_source){.fd = -1, .memory = data, .size = bytes, .name = name};
    return TSR_STATUS_OK;
}

void tsr_source__close(tsr_source *source)
{
    if (source->name != NULL && source->fd >= 0) close(source->fd);
    free(source->name);
    *source = (tsr_source){.fd = -1};
}

void tsr_source__read_ahead(const tsr_source *source, uint64_t offset, size_t after)
{
    enum { LARGE = 1 << 20, STEP = 128 << 10, STEPS = 128 }; /* the system may cut longer steps */
    for (int i = 0; source->fd >= 0 && after >= LARGE && i < STEPS; i++) {
        posix_fadvise(source->fd, (off_t)offset + (off_t)i * STEP, STEP, POSIX_FADV_WILLNEED);
    }
}

tsr_status tsr_source__read(const tsr_source *source, const char *reader, uint64_t offset,
                            void *buffer, size_t bytes)
{
    if (offset > source->size || bytes > source->size - offset) {
        return tsr_fail(TSR_STATUS_FORMAT,
                        "%s: '%s' ends at byte %llu, wanted %zu bytes from byte %llu", reader,
                        source->name, (unsigned long long)source->size, bytes,
                        (unsigned long long)offset);
    }
    if (source->fd < 0) {
        if (bytes > 0) memcpy(buffer, source->memory + offset, bytes);
        return TSR_STATUS_OK;
    }
    uint8_t *to = buffer;
    size_t all = bytes;
    while (bytes > 0) {
        size_t part = bytes < (1u << 30) ? bytes : (1u << 30);
        ssize_t got = pread(source->fd, to, part, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            return tsr_fail(TSR_STATUS_IO, "%s: cannot read '%s' at byte %llu: %s", reader,
                            source->name, (unsigned long long)offset, strerror(errno));
        }
        if (got == 0) {
            return tsr_fail(TSR_STATUS_IO,
                            "%s: '%s' became shorter while it was read: it ends at byte %llu",
                            reader, source->name, (unsigned long long)offset);
        }
        to += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    tsr_source__read_ahead(source, offset, all);
    return TSR_STATUS_OK;
}

const char *tsr_source__looks_like(const tsr_source *source)
{
    static const struct {
        size_t at, bytes;
        const char *magic;
        const char *words;
    } kinds[] = {
        {0, 4, "PK\x03\x04", "a zip archive, as PyTorch's .pth files are"},
        {0, 2, "\x80\x02", "a Python pickle, as old PyTorch .pth files are"},
        {8, 2, "{\"", "a safetensors file"},
        {10, 20, "\x0a\x12tessera checkpoint", "a Tessera checkpoint"},
        {0, 1, "\x08", "an ONNX model"}, /* its first field, the version */
        {0, 3, "\xff\xd8\xff", "a JPEG picture"},
        {0, 4, "\x89PNG", "a PNG picture"},
        {0, 2, "\x1f\x8b", "a gzip file"},
        {0, 4, "\x89HDF", "an HDF5 file"},
        {0, 6, "\x93NUMPY", "a NumPy array"},
        {0, 4,
         "\x7f"
         "ELF",
         "a program"},
        {0, 1, "{", "JSON text"},
        {0, 4, "\0\0\0\0", "a file of zeros"},
    };
    uint8_t head[64] = {0};
    size_t have = source->size < sizeof head ? (size_t)source->size : sizeof head;
    if (have == 0) return "an empty file";
    if (source->fd < 0) {
        memcpy(head, source->memory, have);
    } else if (pread(source->fd, head, have, 0) != (ssize_t)have) {
        return NULL;
    }
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        if (kinds[k].at + kinds[k].bytes > have) continue;
        if (memcmp(head + kinds[k].at, kinds[k].magic, kinds[k].bytes) == 0) return kinds[k].words;
    }
    return NULL;
}

/* Table 3-7 of the Unicode standard: the second byte's range depends on the first. */
bool tsr_text__is_utf8(const char *text, size_t bytes)
{
    const uint8_t *s = (const uint8_t *)text;
    for (size_t i = 0; i < bytes;) {
        uint8_t c = s[i++];
        if (c == 0) return false;
        if (c < 0x80) continue;
        int more = c >= 0xc2 && c <= 0xdf   ? 1
                   : c >= 0xe0 && c <= 0xef ? 2
                   : c >= 0xf0 && c <= 0xf4 ? 3
                                            : 0;
        if (more == 0 || bytes - i < (size_t)more) return false;
        uint8_t low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
        uint8_t high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
        if (s[i] < low || s[i] > high) return false;
        for (int k = 1; k < more; k++) {
            if ((s[i + (size_t)k] & 0xc0) != 0x80) return false;
        }
        i += (size_t)more;
    }
    return true;
}

bool tsr_name__is_valid(const char *name)
{
    if (name == NULL) return false;
    size_t bytes = strnlen(name, TSR_NAME_MAX + 1);
    if (bytes == 0 || bytes > TSR_NAME_MAX || !tsr_text__is_utf8(name, bytes)) return false;
    for (size_t i = 0; i < bytes; i++) {
        if ((uint8_t)name[i] < 0x20 || name[i] == 0x7f) return false;
    }
    return true;
}
