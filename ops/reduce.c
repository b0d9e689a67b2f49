/*
 * Sums over dimensions of a strided x, without copying it. Its dimensions are sorted by stride and merged, those that are
 * kept and those that are reduced apart, so that the innermost loop runs along memory:
 *
 *   rows      the innermost dimension is reduced. A result is added up in chunks of about PART elements, a chunk in LANES
 *             running sums.
 *   columns   the innermost dimension is kept. A block of BLOCK neighbouring results is added up in chunks of ROWS rows.
 *
 * Chunks are cut by shape and strides alone, and their sums are added in order, in f64: the number of threads changes
 * nothing.
 */
#include "ops/reduce.h"
#include "autograd/loop.h"
#include "ops/elementwise.h"
#include "ops/half.h"
#include "ops/rows.h"

#include <assert.h>

enum { LANES = 16, PART = 4096, BLOCK = 512, ROWS = 128 };

bool tsr_reduce__dims(const char *op, const tsr_tensor *x, const int *dims, int n_dims,
                      unsigned *set)
{
    int ndim = tsr_tensor_ndim(x);
    *set = n_dims == 0 ? (1u << ndim) - 1u : 0u;
    for (int i = 0; i < n_dims; i++) {
        int d = dims[i] < 0 ? dims[i] + ndim : dims[i];
        if (d < 0 || d >= ndim || (*set & (1u << d)) != 0) {
            tsr_fail(TSR_STATUS_ARGUMENT,
                     "%s: dims[%d] is %d, expected %d to %d (x has %d dimensions), each once", op,
                     i, dims[i], -ndim, ndim - 1, ndim);
            return false;
        }
        *set |= 1u << d;
    }
    return true;
}

tsr_shape tsr_reduce__shape(const tsr_tensor *x, unsigned set, bool keepdim)
{
    tsr_shape shape = tsr_tensor_shape(x), out = {0};
    for (int d = 0; d < shape.ndim; d++) {
        bool reduced = (set & (1u << d)) != 0;
        if (reduced && !keepdim) continue;
        out.size[out.ndim++] = reduced ? 1 : shape.size[d];
    }
    return out;
}

int64_t tsr_reduce__count(const tsr_tensor *x, unsigned set)
{
    int64_t n = 1;
    for (int d = 0; d < tsr_tensor_ndim(x); d++) {
        if ((set & (1u << d)) != 0) n *= tsr_tensor_size(x, d);
    }
    return n;
}

/* ---- the plan ---- */

/* A nest of loops: outer ones, counted together, and the innermost. stride[0] is x's, stride[1] the result's. */
struct nest {
    int n; /* 1 or more; the innermost is n - 1 */
    int64_t size[TSR_MAX_DIMS], stride[2][TSR_MAX_DIMS];
    int64_t outer, inner;
};

struct plan {
    struct nest kept, reduced;
    bool columns;
    int64_t chunks; /* of each result */
    int64_t runs;   /* rows: innermost loops in a chunk, or, where parts > 1, one part of one */
    int64_t parts;  /* rows: pieces of PART elements that an innermost loop is cut into */
};

static void insert(struct nest *nest, int64_t size, int64_t x, int64_t y)
{
    int at = nest->n++;
    for (; at > 0 && nest->stride[0][at - 1] < x; at--) {
        nest->size[at] = nest->size[at - 1];
        nest->stride[0][at] = nest->stride[0][at - 1];
        nest->stride[1][at] = nest->stride[1][at - 1];
    }
    nest->size[at] = size;
    nest->stride[0][at] = x;
    nest->stride[1][at] = y;
}

static void merge(struct nest *nest)
{
    int n = 0;
    for (int d = 0; d < nest->n; d++) {
        int64_t size = nest->size[d], x = nest->stride[0][d], y = nest->stride[1][d];
        bool merges =
            n > 0 && nest->stride[0][n - 1] == x * size && nest->stride[1][n - 1] == y * size;
        if (!merges) nest->size[n++] = 1;
        nest->size[n - 1] *= size;
        nest->stride[0][n - 1] = x;
        nest->stride[1][n - 1] = y;
    }
    if (n == 0) nest->size[n++] = 1;
    nest->n = n;
    nest->inner = nest->size[n - 1];
    nest->outer = 1;
    for (int d = 0; d < n - 1; d++) nest->outer *= nest->size[d];
}

/* Where the i-th innermost loop starts, in x (which 0) or in the result (1). */
static int64_t start_of(const struct nest *nest, int64_t i, int which)
{
    int64_t offset = 0;
    for (int d = nest->n - 2; d >= 0 && i > 0; d--) {
        offset += i % nest->size[d] * nest->stride[which][d];
        i /= nest->size[d];
    }
    return offset;
}

static struct plan make_plan(const tsr_tensor *x, unsigned set)
{
    struct plan plan = {0};
    tsr_shape shape = tsr_tensor_shape(x);
    const int64_t *strides = tsr_tensor_strides(x);
    int64_t result = 1; /* stride of the result, which is contiguous */
    for (int d = shape.ndim - 1; d >= 0; d--) {
        if (shape.size[d] == 1) continue;
        if ((set & (1u << d)) != 0) {
            insert(&plan.reduced, shape.size[d], strides[d], 0);
        } else {
            insert(&plan.kept, shape.size[d], strides[d], result);
            result *= shape.size[d];
        }
    }
    bool any_kept = plan.kept.n > 0, any_reduced = plan.reduced.n > 0;
    merge(&plan.kept);
    merge(&plan.reduced);
    int64_t kept_stride = plan.kept.stride[0][plan.kept.n - 1];
    plan.columns =
        any_kept && (!any_reduced || kept_stride < plan.reduced.stride[0][plan.reduced.n - 1]);
    int64_t length = plan.reduced.inner;
    plan.parts = (length + PART - 1) / PART;
    plan.runs = length < PART ? PART / length : 1;
    if (plan.columns) {
        plan.chunks = (plan.reduced.outer * length + ROWS - 1) / ROWS;
    } else if (plan.parts > 1) {
        plan.chunks = plan.reduced.outer * plan.parts;
    } else {
        plan.chunks = (plan.reduced.outer + plan.runs - 1) / plan.runs;
    }
    return plan;
}

/* Where row r of the columns starts in x, all reduced dimensions counted together. */
static int64_t row_start(const struct nest *reduced, int64_t r)
{
    return start_of(reduced, r / reduced->inner, 0) +
           r % reduced->inner * reduced->stride[0][reduced->n - 1];
}

/* ---- the loops, for each type ---- */

/* TERM adds to a running sum: of x itself, or of its squared distance to a center m. */
#define PLAIN(sum, v, m)                                                                           \
    do {                                                                                           \
        (void)(m);                                                                                 \
        (sum) += (v);                                                                              \
    } while (0)
#define SQUARE(sum, v, m) (sum) += ((v) - (m)) * ((v) - (m))

#define DEFINE_LOOPS(T, name, TERM)                                                                \
    static double run_##name(const T *x, int64_t n, int64_t stride, T m)                           \
    {                                                                                              \
        if (n < LANES) {                                                                           \
            T few = 0;                                                                             \
            for (int64_t i = 0; i < n; i++) TERM(few, x[i * stride], m);                           \
            return (double)few;                                                                    \
        }                                                                                          \
        T lane[LANES] = {0};                                                                       \
        int64_t i = 0;                                                                             \
        if (stride == 1) {                                                                         \
            for (; i + LANES <= n; i += LANES) {                                                   \
                for (int k = 0; k < LANES; k++) TERM(lane[k], x[i + k], m);                        \
            }                                                                                      \
        }                                                                                          \
        for (int k = 0; i < n; i++, k = (k + 1) % LANES) TERM(lane[k], x[i * stride], m);          \
        double sum = 0.0;                                                                          \
        for (int k = 0; k < LANES; k++) sum += (double)lane[k];                                    \
        return sum;                                                                                \
    }                                                                                              \
                                                                                                   \
    /* Chunk c of one result; x and m are already that result's. */                                \
    static double chunk_##name(const struct plan *plan, const T *x, int64_t c, T m)                \
    {                                                                                              \
        const struct nest *r = &plan->reduced;                                                     \
        int64_t stride = r->stride[0][r->n - 1];                                                   \
        if (plan->parts > 1) {                                                                     \
            int64_t first = c % plan->parts * PART, left = r->inner - first;                       \
            x += start_of(r, c / plan->parts, 0) + first * stride;                                 \
            return run_##name(x, left < PART ? left : PART, stride, m);                            \
        }                                                                                          \
        double sum = 0.0;                                                                          \
        int64_t end = (c + 1) * plan->runs < r->outer ? (c + 1) * plan->runs : r->outer;           \
        for (int64_t i = c * plan->runs; i < end; i++) {                                           \
            sum += run_##name(x + start_of(r, i, 0), r->inner, stride, m);                         \
        }                                                                                          \
        return sum;                                                                                \
    }                                                                                              \
                                                                                                   \
    /* Rows first to end of n <= BLOCK columns, summed into sum. Four rows at once save loads. */  \
    static void block_##name(const struct plan *plan, const T *x, int64_t first, int64_t end,      \
                             int64_t n, const T *m, T *restrict sum)                               \
    {                                                                                              \
        const struct nest *reduced = &plan->reduced;                                               \
        int64_t stride = plan->kept.stride[0][plan->kept.n - 1];                                   \
        for (int64_t i = 0; i < n; i++) sum[i] = 0;                                                \
        int64_t r = first;                                                                         \
        for (; stride == 1 && r + 4 <= end; r += 4) {                                              \
            const T *x0 = x + row_start(reduced, r), *x1 = x + row_start(reduced, r + 1);          \
            const T *x2 = x + row_start(reduced, r + 2), *x3 = x + row_start(reduced, r + 3);      \
            for (int64_t i = 0; i < n; i++) {                                                      \
                T a = 0, b = 0;                                                                    \
                TERM(a, x0[i], m[i]);                                                              \
                TERM(a, x1[i], m[i]);                                                              \
                TERM(b, x2[i], m[i]);                                                              \
                TERM(b, x3[i], m[i]);                                                              \
                sum[i] += a + b;                                                                   \
            }                                                                                      \
        }                                                                                          \
        for (; r < end; r++) {                                                                     \
            const T *row = x + row_start(reduced, r);                                              \
            for (int64_t i = 0; i < n; i++) TERM(sum[i], row[i * stride], m[i]);                   \
        }                                                                                          \
    }

#define DEFINE(T, type)                                                                            \
    DEFINE_LOOPS(T, sum_##type, PLAIN)                                                             \
    DEFINE_LOOPS(T, squares_##type, SQUARE)                                                        \
                                                                                                   \
    static void rows_##type(const struct plan *plan, const T *x, const T *center, T *y,            \
                            double scale, double *parts)                                           \
    {                                                                                              \
        const struct nest *kept = &plan->kept;                                                     \
        int64_t results = kept->outer * kept->inner, chunks = plan->chunks;                        \
        int64_t count = plan->reduced.outer * plan->reduced.inner;                                 \
        int64_t group = count < PART ? PART / count : 1; /* neighbouring results of a task */      \
        int64_t groups = (kept->inner + group - 1) / group;                                        \
        int64_t sx = kept->stride[0][kept->n - 1], sy = kept->stride[1][kept->n - 1];              \
        TSR_PARALLEL_FOR(p, kept->outer *groups *chunks, results *count, {                         \
            int64_t c = p % chunks, first = p / chunks % groups * group;                           \
            int64_t outer = p / chunks / groups;                                                   \
            int64_t end = first + group < kept->inner ? first + group : kept->inner;               \
            const T *from = x + start_of(kept, outer, 0);                                          \
            int64_t to = start_of(kept, outer, 1);                                                 \
            for (int64_t i = first; i < end; i++) {                                                \
                const T *xi = from + i * sx;                                                       \
                double sum = center != NULL                                                        \
                                 ? chunk_squares_##type(plan, xi, c, center[to + i * sy])          \
                                 : chunk_sum_##type(plan, xi, c, 0);                               \
                if (chunks == 1) {                                                                 \
                    y[to + i * sy] = (T)(sum * scale);                                             \
                } else {                                                                           \
                    parts[(to + i * sy) * chunks + c] = sum;                                       \
                }                                                                                  \
            }                                                                                      \
        });                                                                                        \
        for (int64_t o = 0; chunks > 1 && o < results; o++) {                                      \
            double sum = 0.0;                                                                      \
            for (int64_t c = 0; c < chunks; c++) sum += parts[o * chunks + c];                     \
            y[o] = (T)(sum * scale);                                                               \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    static void columns_##type(const struct plan *plan, const T *x, const T *center, T *y,         \
                               double scale, T *parts)                                             \
    {                                                                                              \
        const struct nest *kept = &plan->kept;                                                     \
        int64_t n = kept->inner, blocks = (n + BLOCK - 1) / BLOCK, chunks = plan->chunks;          \
        int64_t rows = plan->reduced.outer * plan->reduced.inner, work = kept->outer * n * rows;   \
        int64_t sx = kept->stride[0][kept->n - 1], sy = kept->stride[1][kept->n - 1];              \
        TSR_PARALLEL_FOR(p, kept->outer *chunks *blocks, work, {                                   \
            int64_t o = p / blocks / chunks, c = p / blocks % chunks, b = p % blocks;              \
            int64_t width = n - b * BLOCK < BLOCK ? n - b * BLOCK : BLOCK;                         \
            int64_t end = (c + 1) * ROWS < rows ? (c + 1) * ROWS : rows;                           \
            T *sum = parts + (o * chunks + c) * n + b * BLOCK;                                     \
            const T *from = x + start_of(kept, o, 0) + b * BLOCK * sx;                             \
            T m[BLOCK] = {0};                                                                      \
            int64_t to = start_of(kept, o, 1) + b * BLOCK * sy;                                    \
            for (int64_t i = 0; center != NULL && i < width; i++) m[i] = center[to + i * sy];      \
            if (center != NULL) {                                                                  \
                block_squares_##type(plan, from, c *ROWS, end, width, m, sum);                     \
            } else {                                                                               \
                block_sum_##type(plan, from, c *ROWS, end, width, m, sum);                         \
            }                                                                                      \
        });                                                                                        \
        int64_t adding = kept->outer * chunks * n;                                                 \
        TSR_PARALLEL_FOR(p, kept->outer *blocks, adding, {                                         \
            int64_t o = p / blocks, first = p % blocks * BLOCK;                                    \
            int64_t width = n - first < BLOCK ? n - first : BLOCK;                                 \
            double sum[BLOCK] = {0};                                                               \
            for (int64_t c = 0; c < chunks; c++) {                                                 \
                const T *part = parts + (o * chunks + c) * n + first;                              \
                for (int64_t i = 0; i < width; i++) sum[i] += (double)part[i];                     \
            }                                                                                      \
            T *to = y + start_of(kept, o, 1) + first * sy;                                         \
            for (int64_t i = 0; i < width; i++) to[i * sy] = (T)(sum[i] * scale);                  \
        });                                                                                        \
    }

DEFINE(float, f32)
DEFINE(double, f64)

/* ---- */

/* Of an x that is f32 or f64. */
static tsr_tensor *reduce(tsr_tensor *x, tsr_tensor *center, unsigned set, bool keepdim,
                          double scale)
{
    if (x == NULL) return NULL;
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_tensor *y = tsr_empty(dtype, tsr_reduce__shape(x, set, keepdim));
    if (y == NULL) return NULL;
    int64_t results = tsr_tensor_numel(y);
    if (results == 0) return y;
    if (tsr_tensor_numel(x) == 0) { /* sums of nothing; a mean of nothing is 0 times infinity */
        return tsr_tensor_fill(y, 0.0 * scale) == TSR_STATUS_OK ? y : NULL;
    }
    struct plan plan = make_plan(x, set);
    assert(plan.kept.outer * plan.kept.inner == results);
    void *parts = NULL;
    if (plan.columns || plan.chunks > 1) {
        size_t size = plan.columns ? tsr_dtype_size(dtype) : sizeof(double);
        parts = tsr_alloc((size_t)(results * plan.chunks) * size);
        if (parts == NULL) return NULL;
    }
    const void *xd = tsr_tensor_data(x), *cd = center != NULL ? tsr_tensor_data(center) : NULL;
    void *yd = tsr_tensor_data_mut(y);
    if (dtype == TSR_DTYPE_F32) {
        if (plan.columns) {
            columns_f32(&plan, xd, cd, yd, scale, parts);
        } else {
            rows_f32(&plan, xd, cd, yd, scale, parts);
        }
    } else if (plan.columns) {
        columns_f64(&plan, xd, cd, yd, scale, parts);
    } else {
        rows_f64(&plan, xd, cd, yd, scale, parts);
    }
    tsr_free(parts);
    return y;
}

tsr_tensor *tsr_reduce__sum(const char *op, tsr_tensor *x, unsigned set, bool keepdim, double scale)
{
    if (x == NULL || !tsr_elementwise__takes(op, "x", x)) return NULL;
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *y = reduce(tsr_half__widened(x), NULL, set, keepdim, scale);
    return tsr_scope_return(&scope, tsr_tensor_converted(y, tsr_tensor_dtype(x)));
}

tsr_tensor *tsr_reduce__squares(const char *op, tsr_tensor *x, tsr_tensor *center, unsigned set,
                                bool keepdim, double scale)
{
    if (x == NULL || center == NULL || !tsr_rows__is_real(op, "x", x)) return NULL;
    return reduce(x, center, set, keepdim, scale);
}
