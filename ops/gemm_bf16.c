/*
 * Products of bf16 numbers. Where the CPU multiplies bf16 (ops/kernels/bf16.h), both factors are packed, all threads
 * together, and the threads share blocks of C. Elsewhere BLIS multiplies f32 copies of pieces of the factors.
 *
 * A block of C takes as many rows of A as half of a core's second cache holds; panels of B stream past it. A factor A that
 * lies in rows of a fitting length is used where it lies.
 *
 * Each element of C is one sum over k in order, or, of f32 results, one for each chunk of k; neither depends on which
 * thread makes it, nor on how C is cut into blocks.
 */
#include "ops/gemm.h"
#include "ops/kernels/bf16.h"

enum {
    DEPTH = TSR_BF16_DEPTH,
    WIDTH = TSR_BF16_WIDTH,
    CHUNK = 1024,            /* of k, where C is f32 */
    BLOCK_BYTES = 384 << 10, /* of A in a block */
    MOST_BLOCK_ROWS = 480,   /* in a block */
    PACKED_ROWS = 96,        /* that a thread packs at a time */
    LINE = 64,
    PAGE = 4096,
};

/* Pieces of uneven cost: the next free thread takes the next. Without other threads no region is opened, which may lie in
 * another's. */
#define SHARE(i, n, threads, ...)                                                                  \
    do {                                                                                           \
        const int64_t share_n = (n);                                                               \
        if ((threads) > 1) {                                                                       \
            _Pragma("omp parallel for schedule(dynamic) num_threads(threads)") for (int64_t i = 0; \
                                                                                    i < share_n;   \
                                                                                    i++)           \
            {                                                                                      \
                __VA_ARGS__;                                                                       \
            }                                                                                      \
        } else {                                                                                   \
            for (int64_t i = 0; i < share_n; i++) {                                                \
                __VA_ARGS__;                                                                       \
            }                                                                                      \
        }                                                                                          \
    } while (0)

static int64_t rounded_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static int64_t pieces(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit;
}

static const void *element(tsr_factor f, int64_t i, int64_t j)
{
    return (const char *)f.data + (i * f.row + j * f.column) * (int64_t)tsr_dtype_size(f.dtype);
}

/* ---- with bf16 instructions ---- */

struct job {
    const tsr_bf16_product *product;
    int64_t m, n, k;    /* k: of the chunk */
    const tsr_bf16 *a;  /* rows lda apart */
    int64_t lda, depth; /* depth: k in whole DEPTHs */
    int64_t summed;     /* of k, in whole steps of the product */
    const tsr_bf16 *b;  /* panels */
    int64_t block;      /* rows of C in a block */
    int64_t panels;     /* of a block */
    tsr_product c;
};

/* May multiply read A's rows from where they lie? Rows that are whole pages apart push each other out of the cache. */
static bool lies_packed(const tsr_bf16_product *product, tsr_factor a, int64_t k)
{
    return a.dtype == TSR_DTYPE_BF16 && a.column == 1 && k % product->step == 0 &&
           a.row * 2 % PAGE != 0;
}

static void multiply_block(const struct job *t, int64_t row, int64_t first_panel)
{
    const tsr_bf16_product *p = t->product;
    _Alignas(64) float sums[TSR_BF16_MOST_ROWS * WIDTH];
    int64_t last_row = tsr__gemm_lesser(row + t->block, t->m);
    int64_t last_panel = tsr__gemm_lesser(first_panel + t->panels, pieces(t->n, WIDTH));
    size_t size = tsr_dtype_size(t->c.dtype);
    if (p->begin != NULL) p->begin();
    for (int64_t panel = first_panel; panel < last_panel; panel++) {
        int64_t j = panel * WIDTH, columns = tsr__gemm_lesser(WIDTH, t->n - j);
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
            p->multiply(sums, t->a + i * t->lda, t->lda, rows, t->b + j * t->depth, t->summed,
                        columns);
            tsr_bf16_store s = {.c = c,
                                .bias = t->c.bias != NULL ? t->c.bias + j : NULL,
                                .ld = t->c.row,
                                .is_f32 = t->c.dtype == TSR_DTYPE_F32,
                                .add = t->c.add};
            p->packing->store(&s, sums, rows, columns);
        }
    }
    if (p->end != NULL) p->end();
}

static void multiply(struct job *t, int threads)
{
    int64_t unit = t->product->most_rows, all_panels = pieces(t->n, WIDTH);
    int64_t most =
        tsr__gemm_lesser(BLOCK_BYTES / (2 * (t->depth > 0 ? t->depth : 1)), MOST_BLOCK_ROWS);
    int64_t fair = pieces(t->m, 4 * threads), tasks = 4 * threads;
    t->block = rounded_up(threads > 1 ? tsr__gemm_lesser(most, fair) : most, unit);
    if (t->block < unit) t->block = unit;
    int64_t blocks = pieces(t->m, t->block);
    t->panels =
        threads > 1 && blocks < tasks ? pieces(all_panels, pieces(tasks, blocks)) : all_panels;
    int64_t across = pieces(all_panels, t->panels);
    SHARE(i, blocks * across, threads,
          multiply_block(t, i / across * t->block, i % across * t->panels));
}

/* Elements first .. first + t->k - 1 of k; room holds what is packed. */
static void multiply_chunk(struct job *t, tsr_factor a, tsr_factor b, int64_t first, tsr_bf16 *room,
                           int threads)
{
    const tsr_bf16_packing *packing = t->product->packing;
    int64_t n = t->n, k = t->k, depth = t->depth, panels = pieces(n, WIDTH);
    tsr_bf16 *packed_b = room, *packed_a = room + panels * WIDTH * depth;
    a.data = element(a, 0, first);
    b.data = element(b, first, 0);
    t->b = packed_b;
    SHARE(p, panels, threads, {
        packing->panel(packed_b + p * WIDTH * depth, element(b, 0, p * WIDTH), b.row, b.column,
                       b.dtype == TSR_DTYPE_F32, k, tsr__gemm_lesser(WIDTH, n - p * WIDTH));
    });
    t->a = a.data;
    t->lda = a.row;
    if (!lies_packed(t->product, a, k)) {
        /* Whole cache lines, an odd number of them. */
        t->lda = depth + (depth / DEPTH % 2 == 0 ? DEPTH : 0);
        t->a = packed_a;
        int64_t lda = t->lda, m = t->m;
        SHARE(i, pieces(m, PACKED_ROWS), threads, {
            packing->rows(packed_a + i * PACKED_ROWS * lda, lda, element(a, i * PACKED_ROWS, 0),
                          a.row, a.column, a.dtype == TSR_DTYPE_F32,
                          tsr__gemm_lesser(PACKED_ROWS, m - i * PACKED_ROWS), k);
        });
    }
    multiply(t, threads);
}

static bool with_instructions(const tsr_bf16_product *product, int64_t m, int64_t n, int64_t k,
                              tsr_factor a, tsr_factor b, tsr_product c, int threads)
{
    int64_t chunk = k;
    if (c.dtype == TSR_DTYPE_F32 && k > CHUNK)
        chunk = rounded_up(pieces(k, pieces(k, CHUNK)), DEPTH);
    int64_t depth = rounded_up(chunk, DEPTH);
    int64_t elements =
        rounded_up(n, WIDTH) * depth + (lies_packed(product, a, k) ? 0 : m * (depth + DEPTH));
    tsr_bf16 *room = tsr_alloc((size_t)elements * sizeof *room);
    if (room == NULL) return false;
    int64_t first = 0;
    do {
        struct job t = {
            .product = product, .m = m, .n = n, .k = tsr__gemm_lesser(chunk, k - first), .c = c};
        t.depth = rounded_up(t.k, DEPTH);
        t.summed = rounded_up(t.k, product->step);
        multiply_chunk(&t, a, b, first, room, threads);
        c.add = true;
        c.bias = NULL;
        first += chunk;
    } while (first < k);
    tsr_free(room);
    return true;
}

/* ---- with BLIS ---- */

/* x [rows, columns] in f32 in `to`, with unit strides where x has them. */
static tsr_matrix widened(tsr_factor x, int64_t rows, int64_t columns, float *to, int threads)
{
    bool by_rows = x.column == 1;
    int64_t lines = by_rows ? rows : columns, length = by_rows ? columns : rows;
    const tsr_bf16_kernels *k = tsr_bf16_kernels__get();
    SHARE(i, lines, threads, {
        const void *line = by_rows ? element(x, i, 0) : element(x, 0, i);
        float *y = to + i * length;
        if (x.dtype == TSR_DTYPE_BF16) {
            k->widen(y, line, length);
        } else {
            enum { PIECE = 256 };
            tsr_bf16 rounded[PIECE];
            for (int64_t at = 0; at < length; at += PIECE) {
                int64_t n_piece = tsr__gemm_lesser(PIECE, length - at);
                k->narrow(rounded, (const float *)line + at, n_piece);
                k->widen(y + at, rounded, n_piece);
            }
        }
    });
    return by_rows ? (tsr_matrix){to, columns, 1} : (tsr_matrix){to, 1, rows};
}

static void finish_row(const tsr_product *c, int64_t i, float *sums, int64_t n)
{
    for (int64_t j = 0; c->bias != NULL && j < n; j++) sums[j] += c->bias[j];
    if (c->dtype == TSR_DTYPE_BF16) {
        tsr_bf16_kernels__get()->narrow((tsr_bf16 *)c->data + i * c->row, sums, n);
    }
}

static bool with_blis(int64_t m, int64_t n, int64_t k, tsr_factor a, tsr_factor b, tsr_product c,
                      int threads)
{
    enum { BLAS_CHUNK = 2048, BLAS_ROWS = 512 };
    bool is_f32 = c.dtype == TSR_DTYPE_F32;
    int64_t chunk = is_f32 ? tsr__gemm_lesser(k, BLAS_CHUNK) : k,
            rows = tsr__gemm_lesser(m, BLAS_ROWS);
    float *room = tsr_alloc((size_t)(chunk * n + rows * chunk + rows * n) * sizeof *room);
    if (room == NULL) return false;
    float *wide_a = room + chunk * n, *sums = wide_a + rows * chunk;
    int64_t first = 0;
    do {
        int64_t depth = tsr__gemm_lesser(chunk, k - first);
        tsr_factor part = b;
        part.data = element(b, first, 0);
        tsr_matrix mb = widened(part, depth, n, room, threads);
        for (int64_t i = 0; i < m; i += rows) {
            int64_t height = tsr__gemm_lesser(rows, m - i);
            part = a;
            part.data = element(a, i, first);
            tsr_matrix ma = widened(part, height, depth, wide_a, threads);
            tsr_matrix mc = {sums, n, 1};
            if (is_f32) mc = (tsr_matrix){(float *)c.data + i * c.row, c.row, 1};
            tsr__gemm(TSR_DTYPE_F32, height, n, depth, ma, mb, is_f32 && c.add ? 1.0 : 0.0, mc);
            if (is_f32 && c.bias == NULL) continue;
            SHARE(r, height, threads, finish_row(&c, i + r, (float *)mc.data + r * mc.row, n));
        }
        c.add = true;
        c.bias = NULL;
        first += chunk;
    } while (first < k);
    tsr_free(room);
    return true;
}

bool tsr__gemm_bf16_by(const tsr_bf16_product *product, int64_t m, int64_t n, int64_t k,
                       tsr_factor a, tsr_factor b, tsr_product c)
{
    if (m == 0 || n == 0) return true;
    int threads = tsr__gemm_threads(2.0 * (double)m * (double)n * (double)k);
    if (product == NULL) return with_blis(m, n, k, a, b, c, threads);
    tsr__gemm_add_count(m * n * k);
    return with_instructions(product, m, n, k, a, b, c, threads);
}

bool tsr__gemm_bf16(int64_t m, int64_t n, int64_t k, tsr_factor a, tsr_factor b, tsr_product c)
{
    return tsr__gemm_bf16_by(tsr_bf16_product__get(), m, n, k, a, b, c);
}
