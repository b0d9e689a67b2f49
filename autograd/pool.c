/*
 * The storage pool: blocks by size class, eight classes to an octave, so that at most an eighth is unused. Freed blocks
 * wait in their class's list; nothing goes back to the system before tsr_pool_trim().
 *
 * Small blocks are cut from slabs, each with a list of its own (as in mimalloc; Leijen et al., ISMM 2019): however many
 * come and go and in whatever order, those that are made one after another stay neighbours.
 */
#include "autograd/internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define TSR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TSR_ASAN 1
#endif
#endif
#ifdef TSR_ASAN
#include <sanitizer/asan_interface.h>
enum { SLAB_BYTES = 0 }; /* each block is the system's own, with red zones */
#else
enum { SLAB_BYTES = 64 << 10 };
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum {
    CLASSES_PER_OCTAVE = 8,
    SMALLEST_SHIFT = 7, /* 128 bytes: a header and 64 */
    PLAIN_HEADER = 64,  /* of what is no tensor */
    CLASSES = CLASSES_PER_OCTAVE * (48 - SMALLEST_SHIFT),
    HUGE_PAGE = 2 << 20,
    SMALL = SLAB_BYTES / 16, /* the largest block that is cut from a slab */
    SLAB_HEADER = 64,
};

/* Blocks of one class, from SLAB_HEADER bytes on. */
typedef struct tsr_slab {
    struct tsr_slab *next; /* of those with room */
    tsr_block *free_list;
    int used;  /* blocks that are not free */
    int uncut; /* offset of what was never used */
} tsr_slab;

static struct {
    pthread_mutex_t lock;
    tsr_block *free_list[CLASSES]; /* of large blocks */
    tsr_slab *slabs[CLASSES];      /* of small ones; with room */
    size_t in_use, peak, reserved;
    int64_t system_calls, allocations, fail_at;
    bool env_read;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Class c holds (8 + c % 8) << (4 + c / 8) bytes: 128, 144, ..., 240, 256, 288, ... rounded up to 64. */
static size_t class_bytes(int c)
{
    size_t bytes = (size_t)(CLASSES_PER_OCTAVE + c % CLASSES_PER_OCTAVE)
                   << (SMALLEST_SHIFT - 3 + c / CLASSES_PER_OCTAVE);
    return (bytes + 63) & ~(size_t)63;
}

static int class_of(size_t bytes)
{
    if (bytes <= (size_t)1 << SMALLEST_SHIFT) return 0;
    int top =
        63 - __builtin_clzll((unsigned long long)(bytes - 1)); /* 2^top < bytes <= 2^(top+1) */
    int step = (int)((bytes - 1) >> (top - 3)) - CLASSES_PER_OCTAVE + 1; /* 1 .. 8 */
    return (top - SMALLEST_SHIFT) * CLASSES_PER_OCTAVE + step;
}

/* What a free block held may not be touched. Its header may: LeakSanitizer follows the lists. */
static void poison(tsr_block *block)
{
    ASAN_POISON_MEMORY_REGION(block + 1, class_bytes(block->size_class) - sizeof *block);
}

static void unpoison(tsr_block *block)
{
    ASAN_UNPOISON_MEMORY_REGION(block + 1, class_bytes(block->size_class) - sizeof *block);
}

static void *system_alloc(size_t bytes)
{
    if (bytes < HUGE_PAGE) return aligned_alloc(64, bytes);
    void *p = NULL;
    if (posix_memalign(&p, HUGE_PAGE, bytes) != 0) return NULL;
    /* A wish; refusal is no error. Not for what is left beyond whole pages: it would take one. */
    madvise(p, bytes & ~(size_t)(HUGE_PAGE - 1), MADV_HUGEPAGE);
    return p;
}

static void *take_from_system(size_t bytes)
{
    void *p = system_alloc(bytes);
    pool.system_calls++;
    if (p != NULL) pool.reserved += bytes;
    return p;
}

static bool has_room(const tsr_slab *slab, size_t size)
{
    return slab->free_list != NULL || (size_t)slab->uncut + size <= SLAB_BYTES;
}

static tsr_block *pop(tsr_block **list)
{
    tsr_block *block = *list;
    if (block == NULL) return NULL;
    unpoison(block);
    *list = block->next_free;
    __builtin_prefetch(*list, 1);
    return block;
}

/* Blocks of class c; NULL when memory is out. */
static tsr_block *take_large(int c, size_t size)
{
    tsr_block *block = pop(&pool.free_list[c]);
    if (block == NULL) block = take_from_system(size);
    if (block != NULL) block->slab = NULL;
    return block;
}

static tsr_block *take_small(int c, size_t size)
{
    tsr_slab *slab = pool.slabs[c];
    if (slab == NULL) {
        slab = take_from_system(SLAB_BYTES);
        if (slab == NULL) return NULL;
        *slab = (tsr_slab){.uncut = SLAB_HEADER};
        pool.slabs[c] = slab;
    }
    tsr_block *block = pop(&slab->free_list);
    if (block == NULL) {
        block = (tsr_block *)(void *)((char *)slab + slab->uncut);
        slab->uncut += (int)size;
    }
    slab->used++;
    if (!has_room(slab, size)) pool.slabs[c] = slab->next;
    block->slab = slab;
    return block;
}

tsr_block *tsr_block__alloc(size_t header, size_t bytes)
{
    if (bytes > (size_t)1 << 46) return NULL;
    header = (header + 63) & ~(size_t)63;
    int c = class_of(header + bytes);
    size_t size = class_bytes(c);
    pthread_mutex_lock(&pool.lock);
    if (!pool.env_read) {
        pool.env_read = true;
        const char *n = getenv("TSR_FAIL_ALLOC");
        if (n != NULL) pool.fail_at = atoll(n);
    }
    tsr_block *block = NULL;
    pool.allocations++;
    bool fail = pool.fail_at > 0 && --pool.fail_at == 0;
    if (!fail) block = size <= SMALL ? take_small(c, size) : take_large(c, size);
    if (block != NULL) {
        pool.in_use += size;
        if (pool.in_use > pool.peak) pool.peak = pool.in_use;
    }
    pthread_mutex_unlock(&pool.lock);
    if (block == NULL) return NULL;
    atomic_init(&block->refs, 1);
    block->size_class = (int16_t)c;
    block->offset = (uint16_t)header;
    block->version = 0;
    block->bytes = bytes;
    return block;
}

void tsr_block__free(tsr_block *block)
{
    if (block == NULL) return;
    int c = block->size_class;
    size_t size = class_bytes(c);
#ifndef NDEBUG
    /* All ones is a NaN in every floating type. */
    ASAN_UNPOISON_MEMORY_REGION(block + 1, block->offset - sizeof *block); /* it may be buried */
    memset(block + 1, 0xff, size - sizeof *block);
#endif
    pthread_mutex_lock(&pool.lock);
    pool.in_use -= size;
    tsr_slab *slab = block->slab;
    tsr_block **list = slab != NULL ? &slab->free_list : &pool.free_list[c];
    if (slab != NULL && !has_room(slab, size)) {
        slab->next = pool.slabs[c];
        pool.slabs[c] = slab;
    }
    if (slab != NULL) slab->used--;
    block->next_free = *list;
    *list = block;
    poison(block);
    pthread_mutex_unlock(&pool.lock);
}

void tsr_block__bury(tsr_block *block)
{
    ASAN_POISON_MEMORY_REGION(block + 1, block->offset - sizeof *block);
}

void tsr_pool__fail_at(int64_t n)
{
    pthread_mutex_lock(&pool.lock);
    pool.env_read = true;
    pool.fail_at = n;
    pthread_mutex_unlock(&pool.lock);
}

int64_t tsr_pool__allocations(void)
{
    pthread_mutex_lock(&pool.lock);
    int64_t n = pool.allocations;
    pthread_mutex_unlock(&pool.lock);
    return n;
}

tsr_pool_stats tsr_pool_stats_get(void)
{
    pthread_mutex_lock(&pool.lock);
    tsr_pool_stats stats = {pool.in_use, pool.peak, pool.reserved, pool.system_calls};
    pthread_mutex_unlock(&pool.lock);
    return stats;
}

void tsr_pool_peak_reset(void)
{
    pthread_mutex_lock(&pool.lock);
    pool.peak = pool.in_use;
    pthread_mutex_unlock(&pool.lock);
}

static void give_back(void *p, size_t bytes)
{
    pool.reserved -= bytes;
    pool.system_calls++;
    free(p);
}

void tsr_pool_trim(void)
{
    pthread_mutex_lock(&pool.lock);
    for (int c = 0; c < CLASSES; c++) {
        size_t size = class_bytes(c);
        while (pool.free_list[c] != NULL) {
            tsr_block *block = pool.free_list[c];
            unpoison(block);
            pool.free_list[c] = block->next_free;
            give_back(block, size);
        }
        for (tsr_slab **at = &pool.slabs[c]; *at != NULL;) {
            tsr_slab *slab = *at;
            if (slab->used > 0) {
                at = &slab->next;
                continue;
            }
            *at = slab->next;
            give_back(slab, SLAB_BYTES);
        }
    }
    pthread_mutex_unlock(&pool.lock);
}

void *tsr_alloc(size_t bytes)
{
    tsr_block *block = tsr_block__alloc(PLAIN_HEADER, bytes);
    if (block == NULL) {
        tsr_fail(TSR_STATUS_MEMORY, "alloc: no memory for %zu bytes", bytes);
        return NULL;
    }
    return tsr_block__data(block);
}

void tsr_free(void *p)
{
    if (p != NULL) tsr_block__free((tsr_block *)(void *)((char *)p - PLAIN_HEADER));
}
