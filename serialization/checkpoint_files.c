/* Directories of numbered checkpoints. */
#include "autograd/autograd.h"
#include "serialization/atomic_file.h"
#include "serialization/serialization.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *tsr_checkpoint_path(const char *directory, int64_t step, char path[TSR_CHECKPOINT_PATH])
{
    int bytes = directory == NULL || step < 0 || step > 999999999999999999
                    ? -1
                    : snprintf(path, TSR_CHECKPOINT_PATH, "%s/checkpoint-%08lld.tsr", directory,
                               (long long)step);
    if (bytes < 0 || bytes >= TSR_CHECKPOINT_PATH) {
        tsr_fail(TSR_STATUS_ARGUMENT, "checkpoint: no path for step %lld in '%.80s'",
                 (long long)step, directory != NULL ? directory : "(null)");
        return NULL;
    }
    return path;
}

/* The step in a name that tsr_checkpoint_path() made, -1 for others. *rest: what stands after the name. */
static int64_t step_of(const char *name, const char **rest)
{
    static const char prefix[] = "checkpoint-", suffix[] = ".tsr";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return -1;
    const char *digits = name + sizeof prefix - 1;
    size_t n = strspn(digits, "0123456789");
    if (n < 8 || n > 18 || (n > 8 && digits[0] == '0')) return -1;
    if (strncmp(digits + n, suffix, sizeof suffix - 1) != 0) return -1;
    *rest = digits + n + sizeof suffix - 1;
    return strtoll(digits, NULL, 10);
}

static tsr_status fail_directory(const char *directory, int error)
{
    return tsr_fail(TSR_STATUS_IO, "checkpoint: cannot read the directory '%s': %s", directory,
                    strerror(error));
}

tsr_status tsr_checkpoint_latest(const char *directory, int64_t *step)
{
    if (directory == NULL || step == NULL)
        return tsr_fail(TSR_STATUS_ARGUMENT, "checkpoint: directory or step is NULL");
    DIR *dir = opendir(directory);
    if (dir == NULL && errno == ENOENT) {
        *step = -1;
        return TSR_STATUS_OK;
    }
    if (dir == NULL) return fail_directory(directory, errno);
    int64_t latest = -1;
    const struct dirent *item;
    errno = 0;
    while ((item = readdir(dir)) != NULL) {
        const char *rest;
        int64_t s = step_of(item->d_name, &rest);
        if (s > latest && rest[0] == '\0') latest = s;
    }
    int error = errno;
    closedir(dir);
    if (error != 0) return fail_directory(directory, error);
    *step = latest;
    return TSR_STATUS_OK;
}

static int descending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static tsr_status remove_file(const char *directory, const char *path)
{
    if (unlink(path) == 0 || errno == ENOENT) return TSR_STATUS_OK;
    return tsr_fail(TSR_STATUS_IO, "checkpoint: cannot remove '%s' from '%s': %s", path, directory,
                    strerror(errno));
}

/* Removes what interrupted writes left and lists the steps of whole checkpoints into *steps (to be freed). */
static tsr_status sweep(const char *directory, DIR *dir, int64_t **steps, size_t *n)
{
    size_t room = 0;
    const struct dirent *item;
    errno = 0;
    while ((item = readdir(dir)) != NULL) {
        const char *rest;
        int64_t step = step_of(item->d_name, &rest);
        if (step >= 0 &&
            strncmp(rest, TSR_ATOMIC_FILE_SUFFIX, sizeof TSR_ATOMIC_FILE_SUFFIX - 1) == 0) {
            char path[TSR_CHECKPOINT_PATH];
            int bytes = snprintf(path, sizeof path, "%s/%s", directory, item->d_name);
            tsr_status status =
                bytes < (int)sizeof path ? remove_file(directory, path) : TSR_STATUS_OK;
            if (status != TSR_STATUS_OK) return status;
        } else if (step >= 0 && rest[0] == '\0') {
            if (*n == room) {
                room = room > 0 ? 2 * room : 64;
                int64_t *more = realloc(*steps, room * sizeof *more);
                if (more == NULL) return tsr_fail(TSR_STATUS_MEMORY, "checkpoint: out of memory");
                *steps = more;
            }
            (*steps)[(*n)++] = step;
        }
        errno = 0;
    }
    return errno != 0 ? fail_directory(directory, errno) : TSR_STATUS_OK;
}

tsr_status tsr_checkpoint_prune(const char *directory, int keep)
{
    if (directory == NULL || keep < 1) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "checkpoint: keep is %d, wanted 1 or more (and a directory)", keep);
    }
    DIR *dir = opendir(directory);
    if (dir == NULL) return fail_directory(directory, errno);
    int64_t *steps = NULL;
    size_t n = 0;
    tsr_status status = sweep(directory, dir, &steps, &n);
    closedir(dir);
    if (n > 0) qsort(steps, n, sizeof *steps, descending);
    for (size_t i = n; i > (size_t)keep && status == TSR_STATUS_OK; i--) { /* the oldest first */
        char path[TSR_CHECKPOINT_PATH];
        status = tsr_checkpoint_path(directory, steps[i - 1], path) == NULL
                     ? tsr_status_get()
                     : remove_file(directory, path);
    }
    free(steps);
    return status;
}
