#include "serialization/atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 16, STEP_BYTES = 32 << 20 };

struct tsr_atomic_file {
    const char *writer;
    char *path;
    char *temporary;
    int fd;
    uint64_t written; /* bytes handed to the system */
    uint64_t begun;   /* of these, the disk has begun to write */
    tsr_status failed;
    size_t buffered;
    uint8_t buffer[BUFFER_BYTES];
};

static const char *advice(int error)
{
    switch (error) {
    case ENOSPC:
        return "; free some space there or write to another disk";
    case EDQUOT:
        return "; your quota on that disk is used up";
    case EFBIG:
        return "; raise the limit on file sizes (ulimit -f) or write to another file system";
    case ENOENT:
    case ENOTDIR:
        return "; create its directory first";
    case EACCES:
    case EPERM:
    case EROFS:
        return "; choose a directory that you may write to";
    default:
        return "";
    }
}

static tsr_status fail(tsr_atomic_file *file, const char *verb, int error)
{
    file->failed =
        tsr_fail(TSR_STATUS_IO, "%s: cannot %s '%s' (after %llu bytes): %s%s", file->writer, verb,
                 file->path, (unsigned long long)file->written, strerror(error), advice(error));
    return file->failed;
}

static void destroy(tsr_atomic_file **file)
{
    if ((*file)->fd >= 0) close((*file)->fd);
    free((*file)->temporary);
    free((*file)->path);
    free(*file);
    *file = NULL;
}

/* Where a rename to path has to go: a link is followed to its file, and nothing but a file may be there. */
static char *destination(const char *writer, const char *path)
{
    struct stat about;
    if (stat(path, &about) == 0 && !S_ISREG(about.st_mode)) {
        tsr_fail(TSR_STATUS_IO, "%s: '%s' is %s, wanted a file or a new name", writer, path,
                 S_ISDIR(about.st_mode) ? "a directory" : "not a regular file");
        return NULL;
    }
    if (lstat(path, &about) != 0 || !S_ISLNK(about.st_mode)) {
        char *copy = strdup(path);
        if (copy == NULL) tsr_fail(TSR_STATUS_MEMORY, "%s: out of memory", writer);
        return copy;
    }
    char *target = realpath(path, NULL);
    if (target == NULL)
        tsr_fail(TSR_STATUS_IO, "%s: cannot follow the link '%s': %s", writer, path,
                 strerror(errno));
    return target;
}

tsr_atomic_file *tsr_atomic_file__create(const char *writer, const char *path)
{
    if (path == NULL || path[0] == '\0') {
        tsr_fail(TSR_STATUS_ARGUMENT, "%s: path is %s", writer, path == NULL ? "NULL" : "empty");
        return NULL;
    }
    char *final = destination(writer, path);
    if (final == NULL) return NULL;
    size_t room = strlen(final) + sizeof TSR_ATOMIC_FILE_SUFFIX + 48;
    char *temporary = malloc(room);
    tsr_atomic_file *file = malloc(sizeof *file);
    if (temporary == NULL || file == NULL) {
        tsr_fail(TSR_STATUS_MEMORY, "%s: out of memory", writer);
        free(final);
        free(temporary);
        free(file);
        return NULL;
    }
    memset(file, 0, offsetof(tsr_atomic_file, buffer));
    file->writer = writer;
    file->path = final;
    file->temporary = temporary;
    int tries = 0;
    do {
        snprintf(temporary, room, "%s%s%ld%03d", final, TSR_ATOMIC_FILE_SUFFIX, (long)getpid(),
                 tries);
        file->fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (file->fd < 0 && (errno == EEXIST || errno == EINTR) && ++tries < 1000);
    if (file->fd < 0) {
        fail(file, "create", errno);
        destroy(&file);
    }
    return file;
}

const char *tsr_atomic_file__path(const tsr_atomic_file *file)
{
    return file->path;
}

static tsr_status write_out(tsr_atomic_file *file, const uint8_t *data, size_t bytes)
{
    while (bytes > 0) {
        size_t part = bytes < (1u << 30) ? bytes : (1u << 30);
        ssize_t put = write(file->fd, data, part);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return fail(file, "write", put < 0 ? errno : ENOSPC);
        data += put;
        bytes -= (size_t)put;
        file->written += (uint64_t)put;
    }
    /* So that the disk writes meanwhile, and not all of it while we wait at the end. A wish: only syncing can fail. */
    if (file->written - file->begun >= STEP_BYTES) {
        sync_file_range(file->fd, (off_t)file->begun, (off_t)(file->written - file->begun),
                        SYNC_FILE_RANGE_WRITE);
        file->begun = file->written;
    }
    return TSR_STATUS_OK;
}

static tsr_status flush(tsr_atomic_file *file)
{
    size_t bytes = file->buffered;
    file->buffered = 0;
    return write_out(file, file->buffer, bytes);
}

tsr_status tsr_atomic_file__write(tsr_atomic_file *file, const void *data, size_t bytes)
{
    if (file->failed != TSR_STATUS_OK) return file->failed;
    if (bytes > BUFFER_BYTES - file->buffered) {
        tsr_status status = flush(file);
        if (status != TSR_STATUS_OK) return status;
        if (bytes >= BUFFER_BYTES) return write_out(file, data, bytes);
    }
    if (bytes > 0) memcpy(file->buffer + file->buffered, data, bytes);
    file->buffered += bytes;
    return TSR_STATUS_OK;
}

void tsr_atomic_file__abandon(tsr_atomic_file **file)
{
    if (file == NULL || *file == NULL) return;
    unlink((*file)->temporary);
    destroy(file);
}

/* So that the new name survives a power cut. A file system that cannot sync a directory says EINVAL: nothing more to do. */
static int sync_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *directory = slash == NULL   ? strdup(".")
                      : slash == path ? strdup("/")
                                      : strndup(path, (size_t)(slash - path));
    if (directory == NULL) return ENOMEM;
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0) close(fd);
    free(directory);
    return error == EINVAL || error == EACCES ? 0 : error;
}

tsr_status tsr_atomic_file__commit(tsr_atomic_file **file)
{
    tsr_atomic_file *f = *file;
    tsr_status status = f->failed != TSR_STATUS_OK ? f->failed : flush(f);
    if (status == TSR_STATUS_OK && fsync(f->fd) != 0) status = fail(f, "sync", errno);
    if (status == TSR_STATUS_OK) {
        int fd = f->fd;
        f->fd = -1;
        if (close(fd) != 0) status = fail(f, "close", errno);
    }
    if (status == TSR_STATUS_OK && rename(f->temporary, f->path) != 0)
        status = fail(f, "rename to", errno);
    if (status != TSR_STATUS_OK) {
        tsr_atomic_file__abandon(file);
        return status;
    }
    int error = sync_directory(f->path);
    if (error != 0) status = fail(f, "sync the directory of", error);
    destroy(file);
    return status;
}
