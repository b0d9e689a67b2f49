#include "tests/test.h"

#include "ops/ops.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

TSR_API void tsr_pool__fail_at(int64_t n);

/* ---- what the process asks of the system ----
 *
 * The program's own malloc and mmap count calls and pass them on; they are visible to the shared libraries too.
 * AddressSanitizer has its own, and then there is no count.
 */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS_CALLS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COUNTS_CALLS 0
#endif
#endif
#ifndef COUNTS_CALLS
#define COUNTS_CALLS 1
#endif

static atomic_long system_calls;

#if !COUNTS_CALLS
/* Sanitizers' allocators refuse impossible sizes as the system does. */
TSR_API const char *__asan_default_options(void);
TSR_API const char *__tsan_default_options(void);

TSR_API const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

TSR_API const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}
#endif

#if COUNTS_CALLS
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

TSR_API void *malloc(size_t bytes)
{
    system_calls++;
    return __libc_malloc(bytes);
}

TSR_API void *calloc(size_t n, size_t bytes)
{
    system_calls++;
    return __libc_calloc(n, bytes);
}

TSR_API void *realloc(void *p, size_t bytes)
{
    system_calls++;
    return __libc_realloc(p, bytes);
}

TSR_API void *aligned_alloc(size_t alignment, size_t bytes)
{
    system_calls++;
    return __libc_memalign(alignment, bytes);
}

TSR_API int posix_memalign(void **p, size_t alignment, size_t bytes)
{
    system_calls++;
    *p = __libc_memalign(alignment, bytes);
    return *p == NULL ? 12 : 0;
}

TSR_API void free(void *p)
{
    if (p != NULL) system_calls++;
    __libc_free(p);
}

TSR_API void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    static void *(*next)(void *, size_t, int, int, int, off_t);
    system_calls++;
    if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, "mmap");
    return next(at, bytes, protection, flags, fd, offset);
}

TSR_API int munmap(void *at, size_t bytes)
{
    static int (*next)(void *, size_t);
    system_calls++;
    if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, "munmap");
    return next(at, bytes);
}
#endif

/* ---- blocks ---- */

static void test_pool__memory_is_aligned_and_whole(void **state)
{
    (void)state;
    size_t before = tsr_pool_stats_get().in_use;
    for (size_t bytes = 0; bytes < 100000; bytes = bytes * 9 / 8 + 1) {
        unsigned char *p = tsr_alloc(bytes), *q = tsr_alloc(bytes);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        assert_true(p + bytes <= q || q + bytes <= p);
        memset(p, 1, bytes);
        memset(q, 2, bytes);
        for (size_t i = 0; i < bytes; i++) assert_true(p[i] == 1 && q[i] == 2);
        tsr_free(p);
        tsr_free(q);
    }
    tsr_free(NULL);
    assert_int_equal(tsr_pool_stats_get().in_use, before);
}

/* Whether the kernel was asked for huge pages where p lies: "hg" among the flags of its mapping. */
static bool asks_for_huge_pages(const void *p)
{
    char line[512];
    bool here = false, asked = false;
    FILE *file = fopen("/proc/self/smaps", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            here = (uintptr_t)p >= from && (uintptr_t)p < to;
        if (here && strncmp(line, "VmFlags:", 8) == 0) asked = strstr(line, " hg") != NULL;
    }
    if (file != NULL) fclose(file);
    return asked;
}

/* Large blocks alone, and of them whole pages: a small one, or a rest, would waste one. */
static void test_pool__large_blocks_lie_on_huge_pages(void **state)
{
    (void)state;
    if (access("/sys/kernel/mm/transparent_hugepage/enabled", R_OK) != 0) skip();
    char *large = tsr_alloc((size_t)8 << 20), *small = tsr_alloc(1000);
    char *odd = tsr_alloc((size_t)9 << 18); /* 2.25 MiB */
    assert_true(asks_for_huge_pages(large + (4 << 20)));
    assert_true(asks_for_huge_pages(odd));
    assert_false(asks_for_huge_pages(odd + (17 << 17)));
    assert_false(asks_for_huge_pages(small));
    tsr_free(large);
    tsr_free(odd);
    tsr_free(small);
}

/* An eighth at most, the header and rounding to 64 bytes aside, is not asked for. */
static void test_pool__little_is_wasted(void **state)
{
    (void)state;
    for (size_t bytes = 1; bytes < (size_t)64 << 20; bytes = bytes * 9 / 8 + 1) {
        size_t before = tsr_pool_stats_get().in_use;
        void *p = tsr_alloc(bytes);
        size_t taken = tsr_pool_stats_get().in_use - before;
        assert_true(taken >= bytes + 64);
        assert_true(taken <= (bytes + 64) * 9 / 8 + 128);
        tsr_free(p);
    }
    tsr_pool_trim();
}

static void test_pool__freed_memory_is_used_again(void **state)
{
    (void)state;
    void *p = tsr_alloc(5000);
    tsr_free(p);
    tsr_pool_stats before = tsr_pool_stats_get();
    for (int i = 0; i < 100; i++) {
        void *q = tsr_alloc(5000 - (size_t)i);
        assert_ptr_equal(q, p);
        tsr_free(q);
    }
    tsr_pool_stats after = tsr_pool_stats_get();
    assert_int_equal(after.system_calls, before.system_calls);
    assert_int_equal(after.reserved, before.reserved);
}

static void test_pool__trim_gives_back_what_is_cached(void **state)
{
    (void)state;
    tsr_pool_trim();
    size_t before = tsr_pool_stats_get().reserved;
    void *p = tsr_alloc(3 << 20), *q = tsr_alloc(100);
    assert_true(tsr_pool_stats_get().reserved > before + (3 << 20));
    tsr_free(p);
    assert_true(tsr_pool_stats_get().reserved > before + (3 << 20));
    tsr_pool_trim();
    assert_in_range(tsr_pool_stats_get().reserved, before, before + (64 << 10)); /* q's slab */
    tsr_free(q);
    tsr_pool_trim();
    assert_int_equal(tsr_pool_stats_get().reserved, before);
}

/* Blocks that were freed in any order lie together again when they are taken one after another, slab by slab. */
static void test_pool__small_blocks_stay_together(void **state)
{
    (void)state;
    enum { BLOCKS = 20000, AT_ONCE = 1000 };
    static char *blocks[BLOCKS];
    tsr_rng rng = tsr_rng_make(3, 0, 0, 0);
    static int64_t order[BLOCKS];
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < BLOCKS; i++) blocks[i] = tsr_alloc(128);
        tsr_rng_permutation(&rng, BLOCKS, order);
        for (int i = 0; i < BLOCKS; i++) tsr_free(blocks[order[i]]);
    }
    /* 1000 blocks of 192 bytes fill three slabs and parts of two; 20000 lay in sixty. */
    for (int i = 0; i < AT_ONCE; i++) blocks[i] = tsr_alloc(128);
    int apart = 0;
    for (int i = 1; i < AT_ONCE; i++) apart += labs(blocks[i] - blocks[i - 1]) >= 64 << 10;
    for (int i = 0; i < AT_ONCE; i++) tsr_free(blocks[i]);
    if (COUNTS_CALLS) assert_true(apart <= 4); /* not under AddressSanitizer, which has no slabs */
    tsr_pool_trim();
}

static void test_pool__peak(void **state)
{
    (void)state;
    tsr_pool_peak_reset();
    size_t before = tsr_pool_stats_get().peak;
    assert_int_equal(before, tsr_pool_stats_get().in_use);
    tsr_free(tsr_alloc(1 << 20));
    tsr_free(tsr_alloc(1 << 19));
    assert_in_range(tsr_pool_stats_get().peak, before + (1 << 20), before + (1 << 20) * 9 / 8 + 64);
    tsr_pool_peak_reset();
    assert_int_equal(tsr_pool_stats_get().peak, before);
}

static void test_pool__impossible_sizes(void **state)
{
    (void)state;
    size_t before = tsr_pool_stats_get().in_use;
    assert_null(tsr_alloc(SIZE_MAX));
    assert_failed(TSR_STATUS_MEMORY, "alloc: no memory for 18446744073709551615 bytes");
    assert_null(tsr_alloc((size_t)1 << 45));
    assert_failed(TSR_STATUS_MEMORY, "alloc: no memory for 35184372088832 bytes");
    assert_int_equal(tsr_pool_stats_get().in_use, before);
}

static void *churn(void *user)
{
    unsigned char tag = *(unsigned char *)user;
    unsigned char *held[32] = {NULL};
    tsr_rng rng = tsr_rng_make(tag, 0, 0, 0);
    for (int i = 0; i < 20000; i++) {
        int64_t at = tsr_rng_below(&rng, 32);
        if (held[at] != NULL) {
            for (size_t k = 1; k < held[at][0]; k++) {
                if (held[at][k] != tag) return "another thread wrote here";
            }
            tsr_free(held[at]);
        }
        size_t bytes = (size_t)tsr_rng_below(&rng, 255) + 1;
        held[at] = tsr_alloc(bytes);
        memset(held[at], tag, bytes);
        held[at][0] = (unsigned char)bytes;
    }
    for (int i = 0; i < 32; i++) tsr_free(held[i]);
    return NULL;
}

static void test_pool__threads(void **state)
{
    (void)state;
    pthread_t threads[4];
    unsigned char tags[4] = {1, 2, 3, 4};
    size_t before = tsr_pool_stats_get().in_use;
    for (int t = 0; t < 4; t++) pthread_create(&threads[t], NULL, churn, &tags[t]);
    for (int t = 0; t < 4; t++) {
        void *error;
        pthread_join(threads[t], &error);
        if (error != NULL) fail_msg("%s", (char *)error);
    }
    assert_int_equal(tsr_pool_stats_get().in_use, before);
}

/* ---- storage during a step ---- */

enum { LAYERS = 20, FLOATS = 1 << 18, BYTES = 4 * FLOATS };

/* x -> e^(0.1 x) applied LAYERS times; each layer's handles die with its scope, what backward needs stays on the tape. */
static tsr_tensor *deep(tsr_tensor *x, tsr_tensor **first)
{
    for (int i = 0; i < LAYERS; i++) {
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *tenth = tsr_expand(tsr_scalar(TSR_DTYPE_F32, 0.1), tsr_tensor_shape(x));
        x = tsr_scope_return(&scope, tsr_exp(tsr_mul(x, tenth)));
        if (i == 0) *first = x;
    }
    return x;
}

static tsr_tensor *note_in_use(tsr_tensor *grad, void *user)
{
    (void)grad;
    *(size_t *)user = tsr_pool_stats_get().in_use;
    return NULL;
}

/* What a node kept is free again as soon as backward has passed it. */
static void test_pool__backward_gives_storage_back_as_it_goes(void **state)
{
    (void)state;
    for (int retain = 0; retain < 2; retain++) {
        tsr_tape *tape = tsr_tape_open();
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(FLOATS)), *first = NULL;
        tsr_require_grad(x, true);
        size_t empty = tsr_pool_stats_get().in_use, near_the_end = 0;
        tsr_scope inside = tsr_scope_open();
        tsr_tensor *loss = tsr_sum_to(deep(x, &first), TSR_SHAPE_SCALAR);
        tsr_grad_hook_add(first, note_in_use, &near_the_end);
        loss = tsr_scope_return(&inside, loss);
        size_t forward = tsr_pool_stats_get().in_use;
        /* Each exp keeps its output; neither the products nor their inputs are kept. */
        assert_in_range((forward - empty) / (BYTES / 2), 2 * LAYERS, 2 * LAYERS + 8);
        tsr_pool_peak_reset();
        tsr_backward(tape, loss, &(tsr_backward_options){.retain_graph = retain});
        assert_ok();
        tsr_pool_stats stats = tsr_pool_stats_get();
        assert_true(stats.peak - forward < (size_t)5 * BYTES);
        if (retain) {
            assert_true(near_the_end >= forward);
        } else {
            assert_true(near_the_end - empty < (size_t)6 * BYTES);
            assert_true(stats.in_use - empty < (size_t)2 * BYTES); /* x's gradient */
        }
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        tsr_tape_close(&tape);
    }
}

/* Without a tape nothing is kept: the peak of twenty layers is that of one. */
static void test_pool__inference_keeps_nothing(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(FLOATS)), *first;
    tsr_require_grad(x, true);
    tsr_pool_peak_reset();
    size_t before = tsr_pool_stats_get().in_use;
    tsr_scope scope = tsr_scope_open();
    for (int i = 0; i < LAYERS; i++) {
        tsr_scope one = tsr_scope_open();
        deep(tsr_detach(x), &first);
        tsr_scope_close(&one, TSR_NO_TENSORS);
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    assert_int_equal(tsr_pool_stats_get().in_use, before);
    assert_true(tsr_pool_stats_get().peak - before < (size_t)(LAYERS + 4) * BYTES * 9 / 8);
}

static void layers(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    tsr_tensor *first;
    (void)n_out, (void)user;
    out[0] = deep(in.at[0], &first);
}

/* Two recomputed halves hold one half's activations at a time. */
static void test_pool__recompute_saves_memory(void **state)
{
    (void)state;
    size_t peaks[2];
    for (int recompute = 0; recompute < 2; recompute++) {
        tsr_tape *tape = tsr_tape_open();
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(FLOATS));
        tsr_require_grad(x, true);
        tsr_pool_peak_reset();
        size_t before = tsr_pool_stats_get().in_use;
        tsr_tensor *y = x;
        for (int part = 0; part < 4; part++) {
            tsr_tensor *in = y;
            if (recompute) tsr_recompute(layers, NULL, TSR_TENSORS(in), &y, 1);
            if (!recompute) layers(TSR_TENSORS(in), &y, 1, NULL);
        }
        tsr_backward(tape, tsr_sum_to(y, TSR_SHAPE_SCALAR), NULL);
        assert_ok();
        peaks[recompute] = tsr_pool_stats_get().peak - before;
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        tsr_tape_close(&tape);
    }
    assert_true(peaks[0] > (size_t)4 * LAYERS * BYTES);
    assert_true(peaks[1] < (size_t)(LAYERS + 16) * BYTES * 9 / 8);
}

/* ---- a training step ---- */

struct model {
    tsr_tensor *table, *weight, *bias;
};

static void block(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    const struct model *m = user;
    (void)n_out;
    out[0] = tsr_exp(tsr_add(tsr_mul(in.at[0], m->weight), m->bias));
}

/* Rows by index, a recomputed block, views, copies, a sum, backward, and descent in place. Shapes large enough for several
 * threads, and small ones. */
static void train(const struct model *m, tsr_tape *tape, int step)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *index = tsr_empty(TSR_DTYPE_I64, TSR_SHAPE(64)), *y = NULL, *parts[2];
    tsr_rng rng = tsr_rng_make(1, (uint32_t)step, 0, 0);
    int64_t *rows = tsr_tensor_data_mut(index);
    for (int64_t i = 0; i < tsr_tensor_numel(index); i++) rows[i] = tsr_rng_below(&rng, 100);
    tsr_tensor *x = tsr_gather_rows(m->table, index);
    tsr_recompute(block, (void *)m, TSR_TENSORS(x), &y, 1);
    tsr_split(tsr_dropout(y, 0.1, rng), 1, 2, parts);
    y = tsr_concat(TSR_TENSORS(tsr_contiguous(tsr_transpose(parts[1], 0, 1)),
                               tsr_transpose(tsr_mul(parts[0], parts[0]), 0, 1)),
                   0);
    tsr_backward(tape, tsr_sum_to(tsr_slice(y, 0, 1, 600, 1), TSR_SHAPE_SCALAR), NULL);
    tsr_tensor *const parameters[] = {m->table, m->weight, m->bias};
    for (int p = 0; tsr_status_get() == TSR_STATUS_OK && p < 3; p++) {
        float *w = tsr_tensor_data_mut(parameters[p]);
        const float *g = tsr_tensor_data(tsr_tensor_grad(parameters[p]));
        for (int64_t i = 0; i < tsr_tensor_numel(parameters[p]); i++) w[i] -= 1e-4f * g[i];
        tsr_tensor_set_grad(parameters[p], NULL);
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static struct model model_make(void)
{
    struct model m = {tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(100, 768)),
                      tsr_full(TSR_DTYPE_F32, TSR_SHAPE(1, 768), 0.5),
                      tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(768))};
    tsr_fill_normal(m.table, tsr_rng_make(1, 0, 0, 1), 0.0, 0.1);
    tsr_require_grad(m.table, true);
    tsr_require_grad(m.weight, true);
    tsr_require_grad(m.bias, true);
    return m;
}

/* LLVM's OpenMP itself allocates for every parallel region. */
#ifdef __clang__
enum { MOST_THREADS = 1 };
#else
enum { MOST_THREADS = 2 };
#endif

static void test_pool__a_steady_step_asks_nothing_of_the_system(void **state)
{
    (void)state;
    int before = tsr_threads();
    for (int threads = 1; threads <= MOST_THREADS; threads++) {
        tsr_threads_set(threads);
        struct model m = model_make();
        tsr_tape *tape = tsr_tape_open();
        for (int step = 0; step < 3; step++) train(&m, tape, step);
        assert_ok();
        int64_t pool_calls = tsr_pool_stats_get().system_calls;
        long calls = system_calls;
        for (int step = 3; step < 13; step++) train(&m, tape, step);
        calls = system_calls - calls;
        assert_ok();
        assert_int_equal(tsr_pool_stats_get().system_calls, pool_calls);
        assert_int_equal(calls, 0);
        tsr_tape_close(&tape);
    }
    tsr_threads_set(before);
    if (COUNTS_CALLS) assert_true(system_calls > 0); /* the counter counts */
}

/* Whichever allocation of a step fails, the step says so, nothing leaks, and the next one works. */
static void test_pool__any_allocation_of_a_step_may_fail(void **state)
{
    (void)state;
    struct model m = model_make();
    tsr_tape *tape = tsr_tape_open();
    train(&m, tape, 0);
    size_t before = tsr_pool_stats_get().in_use;
    for (int64_t n = 1;; n++) {
        tsr_pool__fail_at(n);
        train(&m, tape, 1);
        tsr_pool__fail_at(0);
        tsr_status status = tsr_status_get();
        if (status == TSR_STATUS_OK) {
            assert_in_range(n, 50, 5000);
            break;
        }
        assert_int_equal(status, TSR_STATUS_MEMORY);
        assert_non_null(strstr(tsr_message(), "no memory for"));
        tsr_status_clear();
        tsr_tape_reset(tape);
        tsr_tensor_set_grad(m.table, NULL);
        tsr_tensor_set_grad(m.weight, NULL);
        tsr_tensor_set_grad(m.bias, NULL);
        assert_int_equal(tsr_pool_stats_get().in_use, before);
    }
    tsr_tape_close(&tape);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_pool__memory_is_aligned_and_whole),
        tsr_test(test_pool__large_blocks_lie_on_huge_pages),
        tsr_test(test_pool__little_is_wasted),
        tsr_test(test_pool__freed_memory_is_used_again),
        tsr_test(test_pool__trim_gives_back_what_is_cached),
        tsr_test(test_pool__small_blocks_stay_together),
        tsr_test(test_pool__peak),
        tsr_test(test_pool__impossible_sizes),
        tsr_test(test_pool__threads),
        tsr_test(test_pool__backward_gives_storage_back_as_it_goes),
        tsr_test(test_pool__inference_keeps_nothing),
        tsr_test(test_pool__recompute_saves_memory),
        tsr_test(test_pool__a_steady_step_asks_nothing_of_the_system),
        tsr_test(test_pool__any_allocation_of_a_step_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
