/*
 * Products by our own kernels (ops/kernels/product.h). Both factors are packed, all threads together, and the threads share
 * blocks of C.
 *
 * A block of C takes as many rows of A as half of a core's second cache holds; panels of B stream past it. A factor A that
 * lies in rows of a fitting length is used where it lies.
 *
 * Each element of C is one sum over k in order, or, of f32 results, one for each chunk of k; neither depends on which
 * thread makes it, nor on how C is cut into blocks.
 */
#include "ops/gemm.h"
#include "ops/kernels/product.h"

enum {
    WIDTH = TSR_PRODUCT_WIDTH,
    LINE = TSR_PRODUCT_LINE,
    CHUNK = 1024,            /* of k, where C is f32 */
    BLOCK_BYTES = 384 << 10, /* of A in a block */
    MOST_BLOCK_ROWS = 480,   /* in a block */
    PACKED_ROWS = 192,       /* that a thread packs at a time */
    PACKED_PANELS = 2,       /* too: what lies side by side goes to one core */
    SLAB_BYTES = 16 << 20,   /* of each factor that are packed at once */
    PAGE = 4096,
    TASKS = 32, /* for each thread, at least */
};

struct job {
    const tsr_product_kernel *kernel;
    int64_t size;       /* of an operand's element */
    int64_t m, n, k;    /* k: of the chunk */
    const char *a;      /* rows lda elements apart */
    int64_t lda, depth; /* depth: k in whole lines */
    int64_t summed;     /* of k, in whole steps of the kernel */
    const char *b;      /* panels */
    int64_t block;      /* rows of C in a block */
    int64_t panels;     /* of a block */
    tsr_product c;
};

/* May multiply read A's rows from where they lie? Rows that are whole pages apart push each other out of the cache. */
static bool lies_packed(const tsr_product_kernel *kernel, tsr_factor a, int64_t k)
{
    return a.dtype == kernel->dtype && a.column == 1 && k % kernel->step == 0 &&
           a.row * (int64_t)tsr_dtype_size(a.dtype) % PAGE != 0;
}

static void multiply_block(const struct job *t, int64_t row, int64_t first_panel)
{
    const tsr_product_kernel *p = t->kernel;
    int64_t last_row = tsr__gemm_lesser(row + t->block, t->m);
    int64_t last_panel = tsr__gemm_lesser(first_panel + t->panels, tsr__gemm_pieces(t->n, WIDTH));
    size_t size = tsr_dtype_size(t->c.dtype);
    /* The first panel finds the block of A outside the core's caches. To be fetched ahead its rows must lie together. */
    bool new_rows = t->lda <= t->depth + LINE;
    if (p->begin != NULL) p->begin();
    for (int64_t panel = first_panel; panel < last_panel; panel++) {
        int64_t j = panel * WIDTH, columns = tsr__gemm_lesser(WIDTH, t->n - j);
        const char *panel_b = t->b + j * t->depth * t->size;
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
            p->multiply(&s, rows_a, t->lda, rows, panel_b, t->summed, columns, next);
        }
    }
    if (p->end != NULL) p->end();
}

static void multiply(struct job *t, int threads)
{
    int64_t unit = t->kernel->most_rows, all_panels = tsr__gemm_pieces(t->n, WIDTH);
    int64_t row_bytes = t->size * (t->depth > 0 ? t->depth : 1);
    int64_t most = tsr__gemm_lesser(BLOCK_BYTES / row_bytes, MOST_BLOCK_ROWS);
    int64_t blocks = tsr__gemm_pieces(t->m, most > unit ? most / unit * unit : unit);
    t->block = tsr__gemm_rounded_up(tsr__gemm_pieces(t->m, blocks), unit);
    int64_t pieces = threads > 1 ? tsr__gemm_pieces(TASKS * threads, blocks) : 1;
    t->panels = tsr__gemm_pieces(all_panels, pieces);
    blocks = tsr__gemm_pieces(t->m, t->block);
    int64_t across = tsr__gemm_pieces(all_panels, t->panels);
    TSR__GEMM_SHARE(i, blocks * across, threads,
                    multiply_block(t, i / across * t->block, i % across * t->panels));
}

/* Elements first .. first + t->k - 1 of k; room holds what is packed. */
static void multiply_chunk(struct job *t, tsr_factor a, tsr_factor b, int64_t first, char *room,
                           int threads)
{
    const tsr_packing *packing = t->kernel->packing;
    int64_t n = t->n, k = t->k, depth = t->depth, size = t->size, line = LINE / size;
    int64_t panels = tsr__gemm_pieces(n, WIDTH);
    char *packed_b = room, *packed_a = room + panels * WIDTH * depth * size;
    a.data = tsr__gemm_element(a, 0, first);
    b.data = tsr__gemm_element(b, first, 0);
    t->b = packed_b;
    t->a = a.data;
    t->lda = a.row;
    int64_t bands = 0;
    if (!lies_packed(t->kernel, a, k)) {
        /* Whole cache lines, an odd number of them. */
        t->lda = depth + (depth / line % 2 == 0 ? line : 0);
        t->a = packed_a;
        bands = tsr__gemm_pieces(t->m, PACKED_ROWS);
    }
    int64_t lda = t->lda, m = t->m;
    int64_t lots = tsr__gemm_pieces(panels, PACKED_PANELS);
    TSR__GEMM_SHARE(piece, bands + lots, threads, {
        if (piece < bands) {
            int64_t i = piece * PACKED_ROWS;
            packing->rows(packed_a + i * lda * size, lda, tsr__gemm_element(a, i, 0), a.row,
                          a.column, a.dtype == TSR_DTYPE_F32, tsr__gemm_lesser(PACKED_ROWS, m - i),
                          k);
        } else {
            int64_t first_panel = (piece - bands) * PACKED_PANELS;
            int64_t end = tsr__gemm_lesser(first_panel + PACKED_PANELS, panels);
            for (int64_t j = first_panel * WIDTH; j < end * WIDTH; j += WIDTH) {
                packing->panel(packed_b + j * depth * size, tsr__gemm_element(b, 0, j), b.row,
                               b.column, b.dtype == TSR_DTYPE_F32, k,
                               tsr__gemm_lesser(WIDTH, n - j));
            }
        }
    });
    multiply(t, threads);
}

/* Of k, for one chunk. */
static int64_t chunk_length(int64_t k, tsr_dtype of_c, int64_t line)
{
    if (of_c != TSR_DTYPE_F32 || k <= CHUNK) return k;
    return tsr__gemm_rounded_up(tsr__gemm_pieces(k, tsr__gemm_pieces(k, CHUNK)), line);
}

/* As many rows and columns as are packed at once. */
static bool multiply_slab(const tsr_product_kernel *kernel, int64_t m, int64_t n, int64_t k,
                          tsr_factor a, tsr_factor b, tsr_product c, int threads)
{
    int64_t size = (int64_t)tsr_dtype_size(kernel->dtype), line = LINE / size;
    int64_t chunk = chunk_length(k, c.dtype, line), depth = tsr__gemm_rounded_up(chunk, line);
    int64_t elements = tsr__gemm_rounded_up(n, WIDTH) * depth +
                       (lies_packed(kernel, a, k) ? 0 : m * (depth + line));
    char *room = tsr_alloc((size_t)(elements * size));
    if (room == NULL) return false;
    int64_t first = 0;
    do {
        struct job t = {.kernel = kernel,
                        .size = size,
                        .m = m,
                        .n = n,
                        .k = tsr__gemm_lesser(chunk, k - first),
                        .c = c};
        t.depth = tsr__gemm_rounded_up(t.k, line);
        t.summed = tsr__gemm_rounded_up(t.k, kernel->step);
        multiply_chunk(&t, a, b, first, room, threads);
        c.add = true;
        c.bias = NULL;
        first += chunk;
    } while (first < k);
    tsr_free(room);
    return true;
}

bool tsr__gemm_packed(const tsr_product_kernel *kernel, int64_t m, int64_t n, int64_t k,
                      tsr_factor a, tsr_factor b, tsr_product c)
{
    int threads = tsr__gemm_threads(2.0 * (double)m * (double)n * (double)k);
    int64_t size = (int64_t)tsr_dtype_size(kernel->dtype);
    int64_t line_bytes = chunk_length(k, c.dtype, LINE / size) * size + LINE;
    int64_t lines = SLAB_BYTES / line_bytes;
    int64_t rows = lies_packed(kernel, a, k) ? m : tsr__gemm_rounded_up(lines + 1, PACKED_ROWS);
    int64_t columns = tsr__gemm_rounded_up(lines + 1, WIDTH);
    int64_t of_c = (int64_t)tsr_dtype_size(c.dtype);
    for (int64_t j = 0; j < n; j += columns) {
        for (int64_t i = 0; i < m; i += rows) {
            tsr_factor slab_a = a, slab_b = b;
            tsr_product slab_c = c;
            slab_a.data = tsr__gemm_element(a, i, 0);
            slab_b.data = tsr__gemm_element(b, 0, j);
            slab_c.data = (char *)c.data + (i * c.row + j) * of_c;
            if (c.bias != NULL) slab_c.bias = c.bias + j;
            if (!multiply_slab(kernel, tsr__gemm_lesser(rows, m - i),
                               tsr__gemm_lesser(columns, n - j), k, slab_a, slab_b, slab_c,
                               threads)) {
                return false;
            }
        }
    }
    return true;
}
