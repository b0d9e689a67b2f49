/*
 * Products by our own kernels (ops/kernels/product.h). Both factors are packed, all threads
 * together, and the threads share blocks of C.
 *
 * A block of C takes as many rows of A as half of a core's second cache holds; panels of B stream
 * past it. A factor A that lies in rows of a fitting length is used where it lies.
 *
 * Each element of C is one sum over k in order, or, of f32 results, one for each chunk of k;
 * neither depends on which thread makes it, nor on how C is cut into blocks.
 */
#include "ops/gemm.h"
#include "ops/kernels/product.h"

enum {
    WIDTH = TSR_PRODUCT_WIDTH,
    LINE = TSR_PRODUCT_LINE,
    CHUNK = 1024,            /* most of k at a time, where C is f32 and can be added to */
    BLOCK_BYTES = 384 << 10, /* of A in a block of C: half of the second cache */
    MOST_BLOCK_ROWS = 480,
    BLOCKS = 32,           /* of C for each thread, at least: the last to finish are soon done */
    SLAB_BYTES = 16 << 20, /* of each factor, about, that are packed at once */
    PACKED_ROWS = 192,     /* of A that a thread packs at a time */
    PACKED_PANELS = 2,     /* of B: what lies side by side in its rows goes to one core */
    PAGE = 4096,
};

struct job {
    /* Of the whole product. */
    const tsr_product_kernel *kernel;
    int threads;
    int64_t size;          /* of an operand's element */
    bool in_place;         /* A is read from where it lies */
    int64_t chunk;         /* of k, for all chunks but the last, which may be shorter */
    int64_t depth;         /* of a panel of B: a chunk in whole lines */
    int64_t lda;           /* from row to row of A, as multiply reads it */
    int64_t rows, columns; /* of C in a slab: as many as are packed at once */
    char *packed_a, *packed_b;
    /* Of the slab and the chunk at hand. */
    int64_t m, n, k;
    const char *a; /* rows, lda apart */
    tsr_product c;
    int64_t block, panels; /* a block of C: rows, panels */
};

/* May multiply read A's rows from where they lie? Rows that are whole pages apart push each other
 * out of the cache. */
static bool lies_packed(const tsr_product_kernel *kernel, tsr_factor a, int64_t k)
{
    return a.dtype == kernel->dtype && a.column == 1 && k % kernel->step == 0 &&
           a.row * (int64_t)tsr_dtype_size(a.dtype) % PAGE != 0;
}

/* How the product is cut up and where packed elements lie: all but room for them. */
static struct job cut(const tsr_product_kernel *kernel, int64_t m, int64_t n, int64_t k,
                      tsr_factor a, tsr_dtype of_c)
{
    struct job t = {.kernel = kernel,
                    .threads = tsr__gemm_threads(2.0 * (double)m * (double)n * (double)k),
                    .size = (int64_t)tsr_dtype_size(kernel->dtype),
                    .in_place = lies_packed(kernel, a, k),
                    .chunk = k};
    int64_t line = LINE / t.size;
    if (of_c == TSR_DTYPE_F32 && k > CHUNK) {
        t.chunk = tsr__gemm_rounded_up(tsr__gemm_pieces(k, tsr__gemm_pieces(k, CHUNK)), line);
    }
    t.depth = tsr__gemm_rounded_up(t.chunk, line);
    /* An odd number of lines: rows an even number apart share fewer sets of the cache. */
    t.lda = t.in_place ? a.row : t.depth + (t.depth / line % 2 == 0 ? line : 0);
    int64_t lines = SLAB_BYTES / (t.depth * t.size + LINE) + 1;
    t.rows = t.in_place ? m : tsr__gemm_lesser(m, tsr__gemm_rounded_up(lines, PACKED_ROWS));
    t.columns = tsr__gemm_lesser(n, tsr__gemm_rounded_up(lines, WIDTH));
    return t;
}

static void multiply_block(const struct job *t, int64_t row, int64_t first_panel)
{
    const tsr_product_kernel *p = t->kernel;
    int64_t k = tsr__gemm_rounded_up(t->k, p->step);
    int64_t last_row = tsr__gemm_lesser(row + t->block, t->m);
    int64_t last_panel = tsr__gemm_lesser(first_panel + t->panels, tsr__gemm_pieces(t->n, WIDTH));
    size_t size = tsr_dtype_size(t->c.dtype);
    /* The first panel finds the block of A outside the core's caches. To be fetched ahead its rows
     * must lie together. */
    bool new_rows = t->lda <= t->depth + LINE / t->size;
    if (p->begin != NULL) p->begin();
    for (int64_t panel = first_panel; panel < last_panel; panel++) {
        int64_t j = panel * WIDTH, columns = tsr__gemm_lesser(WIDTH, t->n - j);
        const char *panel_b = t->packed_b + j * t->depth * t->size;
        for (int64_t i = row; i < last_row; i += p->most_rows) {
            int64_t rows = tsr__gemm_lesser(p->most_rows, last_row - i);
            char *c = (char *)t->c.data + (size_t)(i * t->c.row + j) * size;
            for (int64_t r = 0; r < rows; r++) {
                /* Results are on their way while they are computed. */
                const char *line = c + (size_t)(r * t->c.row) * size;
                for (size_t at = 0; at < WIDTH * size; at += LINE) {
                    __builtin_prefetch(line + at, 0, 2);
                }
            }
            const char *rows_a = t->a + i * t->lda * t->size, *next = panel_b;
            if (new_rows && panel == first_panel) next = rows_a + p->most_rows * t->lda * t->size;
            tsr_product_store s = {.c = c,
                                   .bias = t->c.bias != NULL ? t->c.bias + j : NULL,
                                   .ld = t->c.row,
                                   .is_f32 = t->c.dtype == TSR_DTYPE_F32,
                                   .add = t->c.add};
            p->multiply(&s, rows_a, t->lda, rows, panel_b, k, columns, next);
        }
    }
    if (p->end != NULL) p->end();
}

/* The slab at hand, of packed factors: the threads share blocks of C. */
static void multiply(struct job *t)
{
    int64_t unit = t->kernel->most_rows, all_panels = tsr__gemm_pieces(t->n, WIDTH);
    int64_t row_bytes = t->size * (t->depth > 0 ? t->depth : 1);
    int64_t most = tsr__gemm_lesser(BLOCK_BYTES / row_bytes, MOST_BLOCK_ROWS);
    int64_t down = tsr__gemm_pieces(t->m, most > unit ? most / unit * unit : unit);
    t->block = tsr__gemm_rounded_up(tsr__gemm_pieces(t->m, down), unit);
    down = tsr__gemm_pieces(t->m, t->block);
    int64_t across = t->threads > 1 ? tsr__gemm_pieces(BLOCKS * t->threads, down) : 1;
    t->panels = tsr__gemm_pieces(all_panels, across);
    across = tsr__gemm_pieces(all_panels, t->panels);
    TSR__GEMM_SHARE(i, down * across, t->threads,
                    multiply_block(t, i / across * t->block, i % across * t->panels));
}

static void pack_rows(const struct job *t, tsr_factor a, int64_t i)
{
    t->kernel->packing->rows(t->packed_a + i * t->lda * t->size, t->lda, tsr__gemm_element(a, i, 0),
                             a.row, a.column, a.dtype == TSR_DTYPE_F32,
                             tsr__gemm_lesser(PACKED_ROWS, t->m - i), t->k);
}

static void pack_panels(const struct job *t, tsr_factor b, int64_t first)
{
    int64_t end = tsr__gemm_lesser(first + PACKED_PANELS * WIDTH, t->n);
    for (int64_t j = first; j < end; j += WIDTH) {
        t->kernel->packing->panel(t->packed_b + j * t->depth * t->size, tsr__gemm_element(b, 0, j),
                                  b.row, b.column, b.dtype == TSR_DTYPE_F32, t->k,
                                  tsr__gemm_lesser(WIDTH, t->n - j));
    }
}

/* C (+)= A B of one slab and one chunk, whose factors begin at a and b. b_packed: B is, for the
 * slab above. */
static void multiply_slab(struct job *t, tsr_factor a, tsr_factor b, bool b_packed)
{
    t->a = t->in_place ? a.data : t->packed_a;
    int64_t bands = t->in_place ? 0 : tsr__gemm_pieces(t->m, PACKED_ROWS);
    int64_t lots = b_packed ? 0 : tsr__gemm_pieces(t->n, PACKED_PANELS * WIDTH);
    TSR__GEMM_SHARE(i, bands + lots, t->threads, {
        if (i < bands) {
            pack_rows(t, a, i * PACKED_ROWS);
        } else {
            pack_panels(t, b, (i - bands) * PACKED_PANELS * WIDTH);
        }
    });
    multiply(t);
}

bool tsr__gemm_packed(const tsr_product_kernel *kernel, int64_t m, int64_t n, int64_t k,
                      tsr_factor a, tsr_factor b, tsr_product c)
{
    struct job t = cut(kernel, m, n, k, a, c.dtype);
    int64_t of_b = tsr__gemm_rounded_up(t.columns, WIDTH) * t.depth * t.size;
    int64_t of_a = t.in_place ? 0 : t.rows * t.lda * t.size;
    char *room = tsr_alloc((size_t)(of_b + of_a));
    if (room == NULL) return false;
    t.packed_b = room;
    t.packed_a = room + of_b;
    for (int64_t j = 0; j < n; j += t.columns) {
        t.n = tsr__gemm_lesser(t.columns, n - j);
        int64_t first = 0;
        do { /* also where k is 0: C is set to the bias, or 0 */
            t.k = tsr__gemm_lesser(t.chunk, k - first);
            for (int64_t i = 0; i < m; i += t.rows) {
                t.m = tsr__gemm_lesser(t.rows, m - i);
                t.c = c;
                t.c.data = (char *)c.data + (i * c.row + j) * (int64_t)tsr_dtype_size(c.dtype);
                t.c.bias = c.bias != NULL && first == 0 ? c.bias + j : NULL;
                t.c.add = c.add || first > 0;
                tsr_factor from_a = a, from_b = b;
                from_a.data = tsr__gemm_element(a, i, first);
                from_b.data = tsr__gemm_element(b, first, j);
                multiply_slab(&t, from_a, from_b, i > 0);
            }
            first += t.chunk;
        } while (first < k);
    }
    tsr_free(room);
    return true;
}
