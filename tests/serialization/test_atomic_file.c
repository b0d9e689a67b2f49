/* Saving on a full disk, being killed while saving: what was there before stays, and nothing else is left behind. */
#include "serialization/serialization.h"
#include "tests/serialization/files.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { LARGE = 1 << 20 }; /* bytes of what does not fit */

static tsr_status save_checkpoint(const char *path, int64_t step, int64_t bytes)
{
    tsr_scope scope = tsr_scope_open();
    tsr_checkpoint_writer *w = tsr_checkpoint_create(path);
    tsr_status status = tsr_status_get();
    if (w != NULL) {
        tsr_checkpoint_put_int(w, "step", step);
        tsr_checkpoint_put_tensor(w, "t", numbered(TSR_DTYPE_U8, TSR_SHAPE(bytes)));
        status = tsr_checkpoint_commit(&w);
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return status;
}

static tsr_status save_safetensors(const char *path, int64_t step, int64_t bytes)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)step);
    tsr_scope scope = tsr_scope_open();
    tsr_named_tensor t = {"t", numbered(TSR_DTYPE_U8, TSR_SHAPE(bytes))};
    tsr_status status =
        tsr_safetensors_write(path, &t, 1, &(tsr_safetensors_pair){"step", text}, 1);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return status;
}

/* The step of a whole checkpoint. */
static int64_t step_in(const char *path)
{
    int64_t step = -1;
    tsr_checkpoint *c = tsr_checkpoint_open(path);
    if (c == NULL || tsr_checkpoint_verify(c) != TSR_STATUS_OK) fail_msg("%s", tsr_message());
    assert_int_equal(tsr_checkpoint_get_int(c, "step", &step), TSR_STATUS_OK);
    tsr_checkpoint_close(&c);
    return step;
}

/* Under a limit on file sizes the system writes a part, and then says EFBIG. */
static void save_under_a_limit(void **state, tsr_status (*save)(const char *, int64_t, int64_t),
                               int64_t bytes, rlim_t limit, const char *message)
{
    const char *path = in_directory(state, "x");
    assert_int_equal(save(path, 1, 10), TSR_STATUS_OK);
    size_t before_bytes, after_bytes;
    uint8_t *before = read_file(path, &before_bytes);

    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){.rlim_cur = limit, .rlim_max = old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    tsr_status status = save(path, 2, bytes);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_DFL);

    assert_int_equal(status, TSR_STATUS_IO);
    assert_failed(TSR_STATUS_IO, message);
    uint8_t *after = read_file(path, &after_bytes);
    assert_int_equal(before_bytes, after_bytes);
    assert_memory_equal(before, after, before_bytes);
    assert_int_equal(count_files(((directory *)*state)->path, false), 1);
    free(before);
    free(after);
}

static void test_atomic_file__a_write_that_fails_keeps_the_old_file(void **state)
{
    static const char message[] =
        "(after 524288 bytes): File too large; raise the limit on file sizes";
    save_under_a_limit(state, save_checkpoint, LARGE, LARGE / 2, message);
    save_under_a_limit(state, save_safetensors, LARGE, LARGE / 2, message);
}

/* Small files are written when they are complete: by the commit. */
static void test_atomic_file__a_commit_that_fails_keeps_the_old_file(void **state)
{
    save_under_a_limit(state, save_checkpoint, 10, 16, "(after 16 bytes): File too large");
    save_under_a_limit(state, save_safetensors, 10, 16, "(after 16 bytes): File too large");
}

/* A disk of 256 KiB of the child's own; exit codes: 0 good, 77 the system does not let us mount one. */
static int fill_a_disk(const char *mount_point)
{
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return 77;
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return 77;
    if (mount("none", mount_point, "tmpfs", 0, "size=256k") != 0) return 77;
    char path[512];
    snprintf(path, sizeof path, "%s/x.tsr", mount_point);
    if (save_checkpoint(path, 1, 10) != TSR_STATUS_OK) return 1;
    if (save_checkpoint(path, 2, LARGE) != TSR_STATUS_IO) return 2;
    if (strstr(tsr_message(), "No space left on device; free some space") == NULL) return 3;
    tsr_status_clear();
    if (step_in(path) != 1) return 4;
    if (count_files(mount_point, false) != 1) return 5;
    return 0;
}

static void test_atomic_file__a_full_disk_keeps_the_old_file(void **state)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(fill_a_disk(((directory *)*state)->path));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* A child saves one checkpoint after the other and is killed at some moment. */
static void test_atomic_file__a_killed_save_keeps_a_whole_file(void **state)
{
    char path[512];
    snprintf(path, sizeof path, "%s", in_directory(state, "checkpoint-00000001.tsr"));
    assert_int_equal(save_checkpoint(path, 0, LARGE), TSR_STATUS_OK);
    for (int k = 0; k < 25; k++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            for (int64_t step = 1;; step++) {
                if (save_checkpoint(path, step, LARGE) != TSR_STATUS_OK) _exit(1);
            }
        }
        usleep((useconds_t)(1000 + 1700 * k));
        assert_int_equal(kill(child, SIGKILL), 0);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        assert_true(step_in(path) >= 0);
    }
    /* What the killed ones left goes when the directory is pruned. */
    assert_int_equal(tsr_checkpoint_prune(((directory *)*state)->path, 1), TSR_STATUS_OK);
    assert_int_equal(count_files(((directory *)*state)->path, false), 1);
}

/* Killed for certain after half of the data. */
static void test_atomic_file__killed_before_the_commit(void **state)
{
    char path[512];
    snprintf(path, sizeof path, "%s", in_directory(state, "checkpoint-00000001.tsr"));
    assert_int_equal(save_checkpoint(path, 7, 10), TSR_STATUS_OK);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        tsr_scope_open();
        tsr_checkpoint_writer *w = tsr_checkpoint_create(path);
        tsr_checkpoint_put_tensor(w, "t", numbered(TSR_DTYPE_U8, TSR_SHAPE(LARGE)));
        raise(SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(count_files(((directory *)*state)->path, false), 2);
    assert_int_equal(step_in(path), 7);
    assert_int_equal(save_checkpoint(path, 8, 10), TSR_STATUS_OK);
    assert_int_equal(step_in(path), 8);
}

static void test_atomic_file__only_files_are_replaced(void **state)
{
    assert_int_equal(save_checkpoint("/dev/full", 1, 10), TSR_STATUS_IO);
    assert_failed(TSR_STATUS_IO, "'/dev/full' is not a regular file");
    assert_int_equal(save_checkpoint("/tmp", 1, 10), TSR_STATUS_IO);
    assert_failed(TSR_STATUS_IO, "'/tmp' is a directory");
    assert_int_equal(save_checkpoint("/nonexistent/x", 1, 10), TSR_STATUS_IO);
    assert_failed(
        TSR_STATUS_IO,
        "cannot create '/nonexistent/x' (after 0 bytes): No such file or directory; create");
    const char *path = in_directory(state, "x");
    write_file(path, "", 0);
    char below[600];
    snprintf(below, sizeof below, "%s/y", path);
    assert_int_equal(save_checkpoint(below, 1, 10), TSR_STATUS_IO);
    assert_failed(TSR_STATUS_IO, "create its directory first");
    if (geteuid() != 0) {
        assert_int_equal(save_checkpoint("/x", 1, 10), TSR_STATUS_IO);
        assert_failed(TSR_STATUS_IO, "choose a directory that you may write to");
    }
}

static void test_atomic_file__links_are_followed(void **state)
{
    char link[512];
    snprintf(link, sizeof link, "%s", in_directory(state, "link"));
    const char *path = in_directory(state, "x");
    assert_int_equal(save_checkpoint(path, 1, 10), TSR_STATUS_OK);
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(save_checkpoint(link, 2, 10), TSR_STATUS_OK);
    struct stat about;
    assert_int_equal(lstat(link, &about), 0);
    assert_true(S_ISLNK(about.st_mode));
    assert_int_equal(step_in(path), 2);
    assert_int_equal(remove(path), 0);
    assert_int_equal(save_checkpoint(link, 3, 10), TSR_STATUS_IO);
    assert_failed(TSR_STATUS_IO, "cannot follow the link");
}

static void test_atomic_file__modes_follow_the_umask(void **state)
{
    const char *path = in_directory(state, "x");
    mode_t old = umask(027);
    assert_int_equal(save_checkpoint(path, 1, 10), TSR_STATUS_OK);
    umask(old);
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0640);
}

#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, open_directory, close_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(test_atomic_file__a_write_that_fails_keeps_the_old_file),
        IN_DIRECTORY(test_atomic_file__a_commit_that_fails_keeps_the_old_file),
        IN_DIRECTORY(test_atomic_file__a_full_disk_keeps_the_old_file),
        IN_DIRECTORY(test_atomic_file__a_killed_save_keeps_a_whole_file),
        IN_DIRECTORY(test_atomic_file__killed_before_the_commit),
        IN_DIRECTORY(test_atomic_file__only_files_are_replaced),
        IN_DIRECTORY(test_atomic_file__links_are_followed),
        IN_DIRECTORY(test_atomic_file__modes_follow_the_umask),
    };
    return cmocka_run_group_tests(tests, NULL, trim_pool);
}
