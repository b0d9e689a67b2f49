/*
 * y = P v with P = softmax(S) over its rows, S = scale q k^T + bias: q [..., M, D], k [..., N, D], v [..., N, E], y [..., M, E].
 * With dropout, y = Z P v elementwise in P, Z being 0 or 1 / (1 - dropout).
 *
 * With g = dy: dv = (Z P)^T g; dP = Z g v^T; dS = P (dP - rowsum(P dP)), the gradient of softmax; then dbias = dS summed down
 * to bias, dq = scale dS k, dk = scale dS^T q.
 *
 * Both ways work on blocks of rows of q, whose scores [block, N] stay in the cache: no M x N matrix is kept. Backward computes
 * P again from the maximum and the sum of each row (together its log-sum-exp; apart they give the bits of forward). A matrix
 * of the batch belongs to one thread, its blocks run in order. Results lie in memory as q, k and v do, so that heads split off
 * by a permuted view are put together again without a copy.
 *
 * With bf16 the factors of each product are bf16 numbers, P and dS rounded as they are packed; scores, softmax and sums are
 * f32.
 */
#include "autograd/loop.h"
#include "ops/elementwise.h"
#include "ops/gemm.h"
#include "ops/half.h"
#include "ops/kernels/kernels.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

#include <math.h>
#include <omp.h>
#include <string.h>

static const char name[] = "scaled_dot_product_attention";

struct attention {
    double scale, dropout;
    tsr_rng rng;
};

/* One operand: matrices [rows, columns] along the leading dimensions. */
struct operand {
    char *data;
    tsr_dtype dtype;
    int64_t stride[TSR_MAX_DIMS], row, column;
};

struct problem {
    tsr_dtype dtype, wide; /* of q, k, v and y; of scores: f32 where that is bf16 */
    size_t size;           /* of a score */
    tsr_shape leading;
    int64_t batch, m, n, d, e;
    int64_t block; /* rows of q in a block */
    int64_t ld;    /* from row to row of a block's scores: n rounded up to whole vectors */
};

/* ---- shapes ---- */

static tsr_shape matrix_shape(const struct problem *p, int64_t rows, int64_t columns)
{
    tsr_shape shape = p->leading;
    shape.size[shape.ndim++] = rows;
    shape.size[shape.ndim++] = columns;
    return shape;
}

static bool check_operand(const char *argument, tsr_tensor *t, const struct problem *p,
                          int64_t rows, int64_t columns)
{
    tsr_shape wanted = matrix_shape(p, rows, columns);
    if (!tsr_rows__dtype_fits(name, argument, t, "q", p->dtype)) return false;
    if (tsr_shape_equal(tsr_tensor_shape(t), wanted)) return true;
    char got[TSR_SHAPE_TEXT], text[TSR_SHAPE_TEXT];
    tsr_fail(TSR_STATUS_SHAPE, "%s: %s has shape %s, expected %s", name, argument,
             tsr_shape_text(tsr_tensor_shape(t), got), tsr_shape_text(wanted, text));
    return false;
}

static bool check_bias(tsr_tensor *bias, const struct problem *p)
{
    if (bias == NULL) return true;
    tsr_shape wanted = matrix_shape(p, p->m, p->n), both;
    if (!tsr_rows__parameter_fits(name, "bias", bias, "q", p->dtype)) return false;
    if (tsr_shape_broadcast(tsr_tensor_shape(bias), wanted, &both) &&
        tsr_shape_equal(both, wanted)) {
        return true;
    }
    char got[TSR_SHAPE_TEXT], text[TSR_SHAPE_TEXT];
    tsr_fail(TSR_STATUS_SHAPE, "%s: bias has shape %s, which does not stretch to %s", name,
             tsr_shape_text(tsr_tensor_shape(bias), got), tsr_shape_text(wanted, text));
    return false;
}

static bool shape_rule(tsr_tensor *q, tsr_tensor *k, tsr_tensor *v, tsr_tensor *bias,
                       struct problem *p)
{
    /* Scores of one block: 64 Ki elements, which a core's cache holds. */
    enum { BLOCK_SCORES = 65536, LEAST_ROWS = 16 };
    if (!tsr_elementwise__takes(name, "q", q)) return false;
    if (tsr_tensor_ndim(q) < 2) {
        char got[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE, "%s: q has shape %s, expected [..., M, D]", name,
                 tsr_shape_text(tsr_tensor_shape(q), got));
        return false;
    }
    *p = (struct problem){.dtype = tsr_tensor_dtype(q), .leading = tsr_tensor_shape(q)};
    p->wide = p->dtype == TSR_DTYPE_BF16 ? TSR_DTYPE_F32 : p->dtype;
    p->size = tsr_dtype_size(p->wide);
    p->leading.ndim -= 2;
    p->batch = tsr_shape_numel(p->leading);
    p->m = tsr_tensor_size(q, -2);
    p->d = tsr_tensor_size(q, -1);
    p->n = tsr_tensor_size(k, -2);
    p->e = tsr_tensor_size(v, -1);
    p->ld = (p->n + 15) & ~(int64_t)15;
    int64_t most = BLOCK_SCORES / (p->n > 0 ? p->n : 1);
    if (most < LEAST_ROWS) most = LEAST_ROWS;
    int64_t blocks = p->m > 0 ? (p->m + most - 1) / most : 1;
    p->block = (p->m + blocks - 1) / blocks;
    return check_operand("k", k, p, p->n, p->d) && check_operand("v", v, p, p->n, p->e) &&
           check_bias(bias, p);
}

static int64_t rows_from(const struct problem *p, int64_t row)
{
    return p->m - row < p->block ? p->m - row : p->block;
}

/* ---- operands ---- */

/* t's own memory where products take its strides, else a packed copy's. */
static bool make_operand(tsr_tensor *t, struct operand *o)
{
    if (t == NULL) return false;
    int n = tsr_tensor_ndim(t);
    const int64_t *strides = tsr_tensor_strides(t);
    if (strides[n - 1] != 1 && strides[n - 2] != 1) {
        t = tsr_tensor_packed(t);
        if (t == NULL) return false;
        strides = tsr_tensor_strides(t);
    }
    for (int d = 0; d < n - 2; d++) o->stride[d] = strides[d];
    o->dtype = tsr_tensor_dtype(t);
    o->row = strides[n - 2];
    o->column = strides[n - 1];
    o->data = (char *)tsr_tensor_data(t);
    return true;
}

/* The bias as an operand with rows of n adjacent elements; data NULL where there is none. */
static bool make_bias(tsr_tensor *bias, const struct problem *p, struct operand *o)
{
    o->data = NULL;
    if (bias == NULL) return true;
    bias = tsr_tensor_converted(bias, p->wide);
    if (bias == NULL) return false;
    tsr_shape shape = tsr_tensor_shape(bias), full = matrix_shape(p, p->m, p->n);
    int64_t strides[TSR_MAX_DIMS], last = shape.ndim - 1;
    for (int d = 0; d <= last; d++) strides[d] = tsr_tensor_strides(bias)[d];
    if (last < 0) {
        shape.ndim = 1;
        last = 0;
        shape.size[0] = 1;
    }
    if (shape.size[last] != p->n) {
        shape.size[last] = p->n;
        strides[last] = 0;
    }
    bias = tsr_tensor_view(bias, shape, strides, 0);
    if (bias != NULL && p->n > 1 && strides[last] != 1) bias = tsr_tensor_packed(bias);
    if (bias == NULL) return false;
    tsr_loop__broadcast(shape, tsr_tensor_strides(bias), full, o->stride);
    o->dtype = p->wide;
    o->row = o->stride[full.ndim - 2];
    o->column = 1;
    o->data = (char *)tsr_tensor_data(bias);
    return true;
}

/* Rows from `row` on of matrix `h` of the batch. */
static tsr_factor at(const struct operand *o, const struct problem *p, int64_t h, int64_t row)
{
    int64_t offset = row * o->row;
    for (int d = p->leading.ndim - 1; d >= 0; d--) {
        offset += h % p->leading.size[d] * o->stride[d];
        h /= p->leading.size[d];
    }
    size_t size = tsr_dtype_size(o->dtype);
    return (tsr_factor){o->data + offset * (int64_t)size, o->row, o->column, o->dtype};
}

/* A new [..., rows, columns] whose dimensions lie in memory in the order of like's, the columns innermost. */
static tsr_tensor *empty_like(tsr_tensor *like, tsr_dtype dtype, const struct problem *p,
                              int64_t rows, int64_t columns, struct operand *o)
{
    tsr_shape shape = matrix_shape(p, rows, columns), memory = shape;
    int order[TSR_MAX_DIMS], last = shape.ndim - 1;
    const int64_t *of_like = tsr_tensor_strides(like);
    for (int i = 0; i < last; i++) {
        int j = i;
        for (; j > 0 && of_like[order[j - 1]] < of_like[i]; j--) order[j] = order[j - 1];
        order[j] = i;
    }
    for (int i = 0; i < last; i++) memory.size[i] = shape.size[order[i]];
    int64_t strides[TSR_MAX_DIMS], stride = columns;
    strides[last] = 1;
    for (int i = last - 1; i >= 0; i--) {
        strides[order[i]] = stride;
        stride *= memory.size[i];
    }
    tsr_tensor *t = tsr_empty(dtype, memory);
    if (t == NULL) return NULL;
    char *data = tsr_tensor_data_mut(t);
    t = tsr_tensor_view(t, shape, strides, 0);
    *o = (struct operand){data, dtype, {0}, strides[last - 1], 1};
    memcpy(o->stride, strides, sizeof o->stride);
    return t;
}

/* Elementary operations for threads to share; 0, for one thread to do, where there is one matrix. */
static int64_t work_of(const struct problem *p)
{
    return p->batch > 1 ? p->batch * (p->m + p->n) * (p->d + p->e) : 0;
}

/* Room for that many rows of ld elements, in whole cache lines. */
static size_t scratch_bytes(const struct problem *p, int64_t rows)
{
    return ((size_t)(rows * p->ld) * p->size + 64) & ~(size_t)63;
}

/* Which of that many threads this is. */
static size_t thread_index(size_t threads)
{
    return threads > 1 ? (size_t)omp_get_thread_num() : 0;
}

/* ---- dropout ---- */

/* Drops what tsr_dropout would drop of the whole [..., M, N], in rows row .. row + rows - 1 of matrix h. */
static void drop(const struct attention *s, const struct problem *p, int64_t h, int64_t row,
                 int64_t rows, char *w)
{
    int64_t numel = p->batch * p->m * p->n;
    if (numel == 0) return;
    int64_t first = p->leading.ndim > 0 ? p->leading.size[0] : p->m, width = numel / first;
    double scale = 1.0 / (1.0 - s->dropout), threshold = s->dropout * 0x1p32;
    for (int64_t r = 0; r < rows; r++) {
        int64_t element = (h * p->m + row + r) * p->n, place = element % width;
        tsr_rng rng = tsr_rng_row(s->rng, element / width);
        rng.index += (uint32_t)(place / 4);
        for (int64_t skip = place % 4; skip > 0; skip--) tsr_rng_u32(&rng);
        for (int64_t j = r * p->ld; j < r * p->ld + p->n; j++) {
            double factor = (double)tsr_rng_u32(&rng) >= threshold ? scale : 0.0;
            if (p->wide == TSR_DTYPE_F32) {
                ((float *)w)[j] *= (float)factor;
            } else {
                ((double *)w)[j] *= factor;
            }
        }
    }
}

/* ---- forward ---- */

struct run {
    const struct attention *s;
    struct problem p;
    struct operand q, k, v, bias, y;
    char *stats;
};

/* C (+)= A B, into a c with rows of adjacent elements. */
static void multiply(const struct problem *p, int64_t m, int64_t n, int64_t k, tsr_factor a,
                     tsr_factor b, bool add, tsr_factor c)
{
    if (p->dtype == TSR_DTYPE_BF16) {
        tsr__gemm_bf16(m, n, k, a, b, (tsr_product){(void *)c.data, c.row, c.dtype, add, NULL});
    } else {
        tsr__gemm(p->dtype, m, n, k, (tsr_matrix){(void *)a.data, a.row, a.column},
                  (tsr_matrix){(void *)b.data, b.row, b.column}, add ? 1.0 : 0.0,
                  (tsr_matrix){(void *)c.data, c.row, c.column});
    }
}

/* Rows of scores in scratch. */
static tsr_factor scores_at(const struct problem *p, char *w)
{
    return (tsr_factor){w, p->ld, 1, p->wide};
}

/* The transpose of matrix h, for BLIS copied into t [columns, ld]: it is a half faster on rows than on columns, where the
 * inner size is as small as a head's. */
static tsr_factor transpose(const struct problem *p, const struct operand *o, int64_t h,
                            int64_t columns, char *t)
{
    tsr_factor m = at(o, p, h, 0);
    if (p->dtype == TSR_DTYPE_BF16) return tsr__gemm_transposed(m);
    tsr_kernels__get(p->dtype)->transpose(t, p->ld, m.data, m.row, m.column, p->n, columns);
    return (tsr_factor){t, p->ld, 1, p->dtype};
}

/* Columns of a product with such a transpose: what lies beyond n is 0 in the copy. */
static int64_t score_columns(const struct problem *p)
{
    return p->dtype == TSR_DTYPE_BF16 ? p->n : p->ld;
}

/* Weights of a block, before dropout, into w [rows, ld]; kt is k^T. */
static void block_weights(const struct run *t, int64_t h, int64_t row, int64_t rows, tsr_factor kt,
                          char *w, bool again)
{
    const struct problem *p = &t->p;
    multiply(p, rows, score_columns(p), p->d, at(&t->q, p, h, row), kt, false, scores_at(p, w));
    char *stats = t->stats + (size_t)(h * p->m + row) * 2 * p->size;
    const void *bias = t->bias.data != NULL ? at(&t->bias, p, h, row).data : NULL;
    tsr_kernels__get(p->wide)->attention_weights(w, p->ld, stats, bias, t->bias.row, rows, p->n,
                                                 t->s->scale, again);
}

/* Matrix h; scratch holds k^T and a block's weights. */
static void forward_matrix(const struct run *t, int64_t h, char *scratch, char *weights)
{
    const struct problem *p = &t->p;
    size_t line = (size_t)p->ld * p->size, kept = (size_t)p->n * p->size;
    char *w = scratch + (size_t)p->d * line;
    tsr_factor kt = transpose(p, &t->k, h, p->d, scratch);
    for (int64_t row = 0; row < p->m; row += p->block) {
        int64_t rows = rows_from(p, row);
        block_weights(t, h, row, rows, kt, w, false);
        for (int64_t r = 0; weights != NULL && r < rows; r++) {
            memcpy(weights + (size_t)(h * p->m + row + r) * kept, w + (size_t)r * line, kept);
        }
        if (t->s->dropout > 0.0) drop(t->s, p, h, row, rows, w);
        multiply(p, rows, p->e, p->n, scores_at(p, w), at(&t->v, p, h, 0), false,
                 at(&t->y, p, h, row));
    }
}

static tsr_tensor *forward(tsr_tensors in, const struct attention *s, const struct problem *p,
                           tsr_tensor **stats, tsr_tensor *weights)
{
    struct run t = {.s = s, .p = *p};
    tsr_tensor *y = empty_like(in.at[0], p->dtype, p, p->m, p->e, &t.y);
    *stats = tsr_empty(p->wide, TSR_SHAPE(p->batch, p->m, 2));
    if (y == NULL || *stats == NULL || !make_operand(in.at[0], &t.q) ||
        !make_operand(in.at[1], &t.k) || !make_operand(in.at[2], &t.v) ||
        !make_bias(in.at[3], p, &t.bias)) {
        return NULL;
    }
    t.stats = tsr_tensor_data_mut(*stats);
    char *weights_data = tsr_tensor_data_mut(weights);
    int64_t work = work_of(p);
    size_t threads = (size_t)tsr_loop__threads(work);
    size_t bytes = scratch_bytes(p, p->d + p->block);
    char *scratch = tsr_alloc(threads * bytes);
    if (scratch == NULL) return NULL;
    TSR_PARALLEL_FOR(h, p->batch, work, {
        forward_matrix(&t, h, scratch + thread_index(threads) * bytes, weights_data);
    });
    tsr_free(scratch);
    return y;
}

/* ---- backward ---- */

struct backward_run {
    struct run run;
    struct operand g, dq, dk, dv;
    char *dbias; /* [..., M, N] */
    bool wants[4];
};

/* Rows `row` on of matrix h; scratch holds the weights, their gradient and, with dropout, what it leaves of the weights. */
static void backward_block(const struct backward_run *t, int64_t h, int64_t row, tsr_factor kt,
                           tsr_factor vt, char *scratch)
{
    const struct problem *p = &t->run.p;
    const struct attention *s = t->run.s;
    int64_t rows = rows_from(p, row);
    size_t bytes = (size_t)(p->block * p->ld) * p->size;
    char *w = scratch, *dw = scratch + bytes, *dropped = w;
    bool add = row > 0;
    tsr_factor g = at(&t->g, p, h, row), ds = scores_at(p, dw);
    block_weights(&t->run, h, row, rows, kt, w, true);
    if (t->wants[2]) {
        if (s->dropout > 0.0) {
            dropped = scratch + 2 * bytes;
            memcpy(dropped, w, (size_t)(rows * p->ld) * p->size);
            drop(s, p, h, row, rows, dropped);
        }
        multiply(p, p->n, p->e, rows, tsr__gemm_transposed(scores_at(p, dropped)), g, add,
                 at(&t->dv, p, h, 0));
    }
    if (!t->wants[0] && !t->wants[1] && !t->wants[3]) return;
    multiply(p, rows, score_columns(p), p->e, g, vt, false, ds);
    if (s->dropout > 0.0) drop(s, p, h, row, rows, dw);
    size_t line = (size_t)p->n * p->size;
    char *dbias = t->dbias != NULL ? t->dbias + (size_t)(h * p->m + row) * line : NULL;
    tsr_kernels__get(p->wide)->attention_backward(dw, dbias, w, p->ld, rows, p->n, s->scale);
    if (t->wants[0]) {
        multiply(p, rows, p->d, p->n, ds, at(&t->run.k, p, h, 0), false, at(&t->dq, p, h, row));
    }
    if (t->wants[1]) {
        multiply(p, p->n, p->d, rows, tsr__gemm_transposed(ds), at(&t->run.q, p, h, row), add,
                 at(&t->dk, p, h, 0));
    }
}

/* Matrix h; scratch holds k^T, v^T and what a block needs. */
static void backward_matrix(const struct backward_run *t, int64_t h, char *scratch)
{
    const struct problem *p = &t->run.p;
    size_t line = (size_t)p->ld * p->size;
    char *v_at = scratch + (size_t)p->d * line, *block_at = v_at + (size_t)p->e * line;
    tsr_factor kt = transpose(p, &t->run.k, h, p->d, scratch);
    tsr_factor vt = transpose(p, &t->run.v, h, p->e, v_at);
    for (int64_t row = 0; row < p->m; row += p->block) {
        backward_block(t, h, row, kt, vt, block_at);
    }
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    tsr_tensor *in[4], *grads[4] = {0};
    struct backward_run t = {.run.s = tsr_node_block(node)};
    for (int i = 0; i < 4; i++) {
        in[i] = tsr_node_input(node, i);
        t.wants[i] = tsr_node_wants(node, i);
    }
    if (!shape_rule(in[0], in[1], in[2], in[3], &t.run.p)) return;
    const struct problem *p = &t.run.p;
    if (!make_operand(in[0], &t.run.q) || !make_operand(in[1], &t.run.k) ||
        !make_operand(in[2], &t.run.v) || !make_bias(in[3], p, &t.run.bias) ||
        !make_operand(grad_outputs[0], &t.g)) {
        return;
    }
    t.run.stats = (char *)tsr_tensor_data(tsr_node_saved(node, 0));
    /* What blocks add up is not rounded between them. */
    tsr_dtype sums = p->m > p->block ? p->wide : p->dtype;
    if (t.wants[0]) grads[0] = empty_like(in[0], p->dtype, p, p->m, p->d, &t.dq);
    if (t.wants[1]) grads[1] = empty_like(in[1], sums, p, p->n, p->d, &t.dk);
    if (t.wants[2]) grads[2] = empty_like(in[2], sums, p, p->n, p->e, &t.dv);
    if (t.wants[3]) grads[3] = tsr_empty(p->wide, matrix_shape(p, p->m, p->n));
    if (tsr_status_get() != TSR_STATUS_OK) return;
    t.dbias = tsr_tensor_data_mut(grads[3]);
    for (int i = 1; i < 3; i++) {
        if (p->m == 0 && grads[i] != NULL) tsr_tensor_fill(grads[i], 0.0);
    }
    int64_t work = work_of(p), matrices = t.run.s->dropout > 0.0 ? 3 : 2;
    size_t threads = (size_t)tsr_loop__threads(work);
    size_t bytes = scratch_bytes(p, p->d + p->e + matrices * p->block);
    char *scratch = tsr_alloc(threads * bytes);
    if (scratch == NULL) return;
    TSR_PARALLEL_FOR(h, p->batch, work,
                     { backward_matrix(&t, h, scratch + thread_index(threads) * bytes); });
    tsr_free(scratch);
    for (int i = 0; i < 3; i++) grad_inputs[i] = tsr_tensor_converted(grads[i], p->dtype);
    if (t.wants[3]) {
        tsr_tensor *dbias = tsr_sum_to(grads[3], tsr_tensor_shape(in[3]));
        grad_inputs[3] = tsr_tensor_converted(dbias, tsr_tensor_dtype(in[3]));
    }
}

static tsr_tensor *scores(const struct attention *s, tsr_tensors in)
{
    tsr_tensor *k = tsr_transpose(tsr_half__cast(in.at[1]), -2, -1);
    tsr_tensor *y = tsr_matmul(tsr_half__cast(in.at[0]), k);
    y = tsr_affine(y, s->scale, 0.0);
    return in.at[3] != NULL ? tsr_add(y, tsr_half__cast(in.at[3])) : y;
}

static void definition(const void *block, tsr_tensors in, tsr_tensor **outputs)
{
    const struct attention *s = block;
    tsr_tensor *weights = tsr_dropout(tsr_softmax(scores(s, in), -1), s->dropout, s->rng);
    tsr_tensor *y = tsr_matmul(weights, tsr_half__cast(in.at[2]));
    outputs[0] = tsr_cast(y, tsr_tensor_dtype(in.at[0]));
}

static const tsr_op op = {.name = name,
                          .block_size = sizeof(struct attention),
                          .backward = backward,
                          .definition = definition};

/* softmax(S), handed out without gradient: an op of its own for those who read what ran. */
static void weights_definition(const void *block, tsr_tensors in, tsr_tensor **outputs)
{
    outputs[0] = tsr_cast(tsr_softmax(scores(block, in), -1), tsr_tensor_dtype(in.at[0]));
}

static const tsr_op weights_op = {.name = "attention_weights",
                                  .block_size = sizeof(struct attention),
                                  .definition = weights_definition};

tsr_tensor *tsr_scaled_dot_product_attention(tsr_tensor *q, tsr_tensor *k, tsr_tensor *v,
                                             tsr_tensor *bias, const tsr_attention_options *options,
                                             tsr_tensor **weights)
{
    struct problem p;
    if (q == NULL || k == NULL || v == NULL || !shape_rule(q, k, v, bias, &p)) return NULL;
    struct attention s = {0};
    if (options != NULL) s = (struct attention){options->scale, options->dropout, options->rng};
    if (s.scale == 0.0) s.scale = 1.0 / sqrt((double)p.d);
    if (!(s.dropout >= 0.0 && s.dropout < 1.0)) {
        tsr_fail(TSR_STATUS_ARGUMENT, "%s: dropout is %g, expected 0 to below 1", name, s.dropout);
        return NULL;
    }
    tsr_scope scope = tsr_scope_open();
    tsr_tensors in = TSR_TENSORS(q, k, v, bias);
    tsr_tensor *stats = NULL, *y = NULL, *w = NULL;
    if (weights != NULL) w = tsr_empty(p.wide, matrix_shape(&p, p.m, p.n));
    if (weights == NULL || w != NULL) y = forward(in, &s, &p, &stats, w);
    w = tsr_tensor_converted(w, p.dtype);
    y = tsr_record(&op, &s, in, TSR_TENSORS(stats), TSR_TENSORS(y));
    if (w != NULL) w = tsr_record(&weights_op, &s, in, TSR_NO_TENSORS, TSR_TENSORS(w));
    tsr_scope_close(&scope, TSR_TENSORS(y, w));
    if (weights != NULL && y != NULL) *weights = w;
    return y;
}

struct call {
    tsr_attention_options options;
    bool heads; /* q, k and v are [B, tokens, heads, D] and are permuted */
};

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const struct call *c = ((const tsr_sample *)user)->args;
    tsr_attention_options options = c->options;
    options.rng = tsr_rng_make(5, 1, 0, tsr_rng_purpose("attention"));
    tsr_tensor *x[3];
    for (int i = 0; i < 3; i++) {
        x[i] = c->heads ? tsr_permute(in.at[i], (const int[]){0, 2, 1, 3}) : in.at[i];
    }
    out[0] = tsr_scaled_dot_product_attention(x[0], x[1], x[2], in.at[3], &options, NULL);
}

#define ABSENT                                                                                     \
    {                                                                                              \
        .absent = true                                                                             \
    }

static const struct call plain = {0}, scaled = {.options = {.scale = 0.7}}, heads = {.heads = true},
                         dropped = {.options = {.dropout = 0.3}};

static const tsr_sample samples[] = {
    {"one matrix", 4, 1, {{{2, {3, 4}}}, {{2, {5, 4}}}, {{2, {5, 2}}}, ABSENT}, call, &plain},
    {"batch", 4, 1, {{{3, {2, 3, 4}}}, {{3, {2, 3, 4}}}, {{3, {2, 3, 4}}}, ABSENT}, call, &scaled},
    {"heads",
     4,
     1,
     {{{4, {2, 3, 2, 4}}}, {{4, {2, 5, 2, 4}}}, {{4, {2, 5, 2, 3}}}, ABSENT},
     call,
     &heads},
    {"bias of heads",
     4,
     1,
     {{{4, {2, 3, 2, 4}}}, {{4, {2, 5, 2, 4}}}, {{4, {2, 5, 2, 3}}}, {{3, {2, 3, 5}}}},
     call,
     &heads},
    {"bias column",
     4,
     1,
     {{{3, {2, 3, 4}}}, {{3, {2, 3, 4}}}, {{3, {2, 3, 4}}}, {{2, {3, 1}}}},
     call,
     &plain},
    {"dropout",
     4,
     1,
     {{{3, {2, 3, 4}}}, {{3, {2, 5, 4}}}, {{3, {2, 5, 2}}}, {{1, {5}}}},
     call,
     &dropped},
    {"dropout without batch",
     4,
     1,
     {{{2, {3, 4}}}, {{2, {5, 4}}}, {{2, {5, 2}}}, ABSENT},
     call,
     &dropped},
    {"no rows", 4, 1, {{{2, {0, 4}}}, {{2, {5, 4}}}, {{2, {5, 2}}}, ABSENT}, call, &plain},
    {"empty batch",
     4,
     1,
     {{{3, {0, 3, 4}}}, {{3, {0, 5, 4}}}, {{3, {0, 5, 2}}}, ABSENT},
     call,
     &plain},
};
TSR_SAMPLES_BF16(scaled_dot_product_attention, samples);
