/*
 * The n-th allocation of the process fails, for every n: writing and reading end in an error or without one, and give back
 * all that they took. malloc and its family are this file's own here, which sanitizers and other C libraries do not allow:
 * there the test is skipped.
 */
#include "serialization/serialization.h"
#include "tests/serialization/files.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CANNOT_REPLACE_MALLOC
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define CANNOT_REPLACE_MALLOC
#endif

static _Thread_local int64_t fail_at; /* counts down to the one that fails; 0: none */
static _Thread_local bool counting, failed;
static _Thread_local int64_t held;

#ifndef CANNOT_REPLACE_MALLOC
/* TSR_API: the libraries' calls come here too. */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t n, size_t bytes);
void *__libc_realloc(void *p, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *p);

static bool refuse_one(void)
{
    bool now = counting && fail_at > 0 && --fail_at == 0;
    failed = failed || now;
    return now;
}

static void *count(void *p)
{
    held += counting && p != NULL;
    return p;
}

TSR_API void *malloc(size_t bytes)
{
    return refuse_one() ? NULL : count(__libc_malloc(bytes));
}

TSR_API void *calloc(size_t n, size_t bytes)
{
    return refuse_one() ? NULL : count(__libc_calloc(n, bytes));
}

TSR_API void *realloc(void *p, size_t bytes)
{
    if (refuse_one()) return NULL;
    return p == NULL ? count(__libc_realloc(p, bytes)) : __libc_realloc(p, bytes);
}

TSR_API void *aligned_alloc(size_t alignment, size_t bytes)
{
    return refuse_one() ? NULL : count(__libc_memalign(alignment, bytes));
}

TSR_API void free(void *p)
{
    held -= counting && p != NULL;
    __libc_free(p);
}
#endif

static void write_checkpoint(const char *path)
{
    static const char *const columns[] = {"loss"};
    tsr_checkpoint_writer *w = tsr_checkpoint_create(path);
    if (w == NULL) return;
    tsr_checkpoint_put_int(w, "step", 1);
    tsr_checkpoint_put_string(w, "recipe", "ibot");
    tsr_checkpoint_put_tensor(w, "student/a", tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3)));
    tsr_checkpoint_put_history(
        w, &(tsr_history){"train", columns, 1, (int64_t[]){1}, (double[]){2}, 1});
    tsr_checkpoint_commit(&w);
}

static void read_checkpoint(const char *path)
{
    tsr_checkpoint *c = tsr_checkpoint_open(path);
    if (c == NULL) return;
    tsr_checkpoint_verify(c);
    tsr_named_tensor target = {"a", tsr_checkpoint_tensor(c, "student/a")};
    tsr_checkpoint_load(c, "student/", &target, 1);
    tsr_checkpoint_close(&c);
}

static void write_safetensors(const char *path)
{
    tsr_named_tensor list[] = {{"a", tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3))},
                               {"b", tsr_scalar(TSR_DTYPE_F64, 1)}};
    if (list[0].tensor == NULL || list[1].tensor == NULL) return;
    tsr_safetensors_write(path, list, 2, &(tsr_safetensors_pair){"k", "v"}, 1);
}

static void read_safetensors(const char *path)
{
    tsr_safetensors *f = tsr_safetensors_open(path);
    tsr_safetensors_tensor(f, "a");
    tsr_safetensors_close(&f);
}

static void walk(void (*function)(const char *), const char *path, int least)
{
    int64_t n = 1;
    for (;; n++) {
        tsr_pool_trim();
        held = 0;
        failed = false;
        fail_at = n;
        counting = true;
        tsr_scope scope = tsr_scope_open();
        function(path);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        tsr_pool_trim();
        counting = false;
        tsr_status status = tsr_status_get();
        if (held != 0)
            fail_msg("allocation %lld: %lld blocks are lost", (long long)n, (long long)held);
        if (!failed && status != TSR_STATUS_OK) fail_msg("%s", tsr_message());
        tsr_status_clear();
        if (!failed) break;
    }
    assert_true(n > least); /* it did fail that often */
}

static void test_out_of_memory__every_allocation_may_fail(void **state)
{
#ifdef CANNOT_REPLACE_MALLOC
    skip();
#endif
    char path[512];
    snprintf(path, sizeof path, "%s", in_directory(state, "x"));
    walk(write_checkpoint, path, 12);
    walk(read_checkpoint, path, 40);
    assert_int_equal(remove(path), 0);
    walk(write_safetensors, path, 20);
    walk(read_safetensors, path, 20);
    assert_int_equal(count_files(((directory *)*state)->path, false), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_out_of_memory__every_allocation_may_fail,
                                        open_directory, close_directory),
    };
    return cmocka_run_group_tests(tests, NULL, trim_pool);
}
