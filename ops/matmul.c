/*
 * r[..., i, j] = sum_k a[..., i, k] b[..., k, j], leading dimensions broadcast. With g = dr: da = g b^T and db = a^T g, each
 * summed over the dimensions along which its operand was stretched. Where b is one matrix for all of a's batch that sum is
 * itself a product, over the rows of the whole batch.
 *
 * Operands go to BLIS with their strides, so transposed views cost no copy. Where b is stretched over a's batch and a's rows
 * lie evenly, the batch is one tall matrix. Small products of a batch run side by side, one to a thread, large ones in turn
 * with all threads; sizes alone decide, and the bits are the same either way.
 */
#include "autograd/loop.h"
#include "ops/elementwise.h"
#include "ops/gemm.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

#include <math.h>

static tsr_shape leading(const tsr_tensor *t)
{
    tsr_shape shape = tsr_tensor_shape(t);
    shape.ndim -= 2;
    return shape;
}

/* The shape of the result, or false with a message. */
static bool shape_rule(tsr_tensor *a, tsr_tensor *b, tsr_shape *out)
{
    char sa[TSR_SHAPE_TEXT], sb[TSR_SHAPE_TEXT];
    tsr_shape_text(tsr_tensor_shape(a), sa);
    tsr_shape_text(tsr_tensor_shape(b), sb);
    if (!tsr_elementwise__takes("matmul", "a", a) ||
        !tsr_rows__dtype_fits("matmul", "b", b, "a", tsr_tensor_dtype(a))) {
        return false;
    }
    if (tsr_tensor_ndim(a) < 2 || tsr_tensor_ndim(b) < 2) {
        tsr_fail(TSR_STATUS_SHAPE, "matmul: a has shape %s and b %s, expected matrices", sa, sb);
        return false;
    }
    if (tsr_tensor_size(a, -1) != tsr_tensor_size(b, -2)) {
        tsr_fail(TSR_STATUS_SHAPE, "matmul: a has shape %s and b %s: a's columns must be b's rows",
                 sa, sb);
        return false;
    }
    if (!tsr_shape_broadcast(leading(a), leading(b), out)) {
        tsr_fail(TSR_STATUS_SHAPE,
                 "matmul: a has shape %s and b %s, whose leading dimensions do not broadcast", sa,
                 sb);
        return false;
    }
    if (out->ndim > TSR_MAX_DIMS - 2) {
        tsr_fail(TSR_STATUS_SHAPE, "matmul: a has shape %s and b %s: too many dimensions", sa, sb);
        return false;
    }
    out->size[out->ndim++] = tsr_tensor_size(a, -2);
    out->size[out->ndim++] = tsr_tensor_size(b, -1);
    return true;
}

static void multiply_one(tsr_dtype dtype, int64_t m, int64_t n, int64_t k, tsr_factor a,
                         tsr_factor b, void *c)
{
    if (dtype == TSR_DTYPE_BF16) {
        tsr__gemm_bf16(m, n, k, a, b, (tsr_product){c, n, dtype, false, NULL});
    } else {
        tsr__gemm(dtype, m, n, k, (tsr_matrix){(void *)a.data, a.row, a.column},
                  (tsr_matrix){(void *)b.data, b.row, b.column}, 0.0, (tsr_matrix){c, n, 1});
    }
}

/* bf16 is packed from rows or columns of adjacent elements. */
static tsr_tensor *packable(tsr_tensor *t)
{
    int n = tsr_tensor_ndim(t);
    const int64_t *strides = tsr_tensor_strides(t);
    bool fits = strides[n - 1] == 1 || strides[n - 2] == 1;
    return fits || tsr_tensor_dtype(t) != TSR_DTYPE_BF16 ? t : tsr_tensor_packed(t);
}

static void multiply(tsr_tensor *r, tsr_tensor *a, tsr_tensor *b)
{
    if (tsr_tensor_numel(r) == 0) return;
    int ra = tsr_tensor_ndim(a), rb = tsr_tensor_ndim(b);
    const int64_t *ta = tsr_tensor_strides(a), *tb = tsr_tensor_strides(b);
    int64_t k = tsr_tensor_size(a, -1), n = tsr_tensor_size(b, -1), sa[TSR_MAX_DIMS],
            sb[TSR_MAX_DIMS];
    /* A loop over (leading..., row of a): what merges into its last dimension is one product. */
    tsr_shape shape = leading(r);
    tsr_loop__broadcast(leading(a), ta, shape, sa);
    tsr_loop__broadcast(leading(b), tb, shape, sb);
    sa[shape.ndim] = ta[ra - 2];
    sb[shape.ndim] = 0;
    shape.size[shape.ndim++] = tsr_tensor_size(a, -2);
    tsr_loop loop = tsr_loop__make(shape, 2, (const int64_t *[]){sa, sb});
    int last = loop.ndim - 1;
    /* One row a matrix: the last dimension is of the batch. */
    bool row = loop.stride[1][last] != 0;
    int64_t m = row ? 1 : loop.length, batch = row ? loop.rows * loop.length : loop.rows;
    int64_t row_stride = row ? 1 : loop.stride[0][last];
    tsr_dtype dtype = tsr_tensor_dtype(r);
    size_t size = tsr_dtype_size(dtype);
    const char *ad = tsr_tensor_data(a), *bd = tsr_tensor_data(b);
    char *rd = tsr_tensor_data_mut(r);
    double flops = (double)m * (double)n * (double)(k + 1);
    bool side_by_side = batch >= 16 || flops < 2e6;
    int64_t work = side_by_side ? (int64_t)fmin(flops * (double)batch / 4.0, 1e9) : 0;
    TSR_PARALLEL_FOR(p, batch, work, {
        int64_t left = p, at_a = 0, at_b = 0;
        for (int d = row ? last : last - 1; d >= 0; d--) {
            int64_t i = left % loop.size[d];
            left /= loop.size[d];
            at_a += i * loop.stride[0][d];
            at_b += i * loop.stride[1][d];
        }
        void *c = rd + (size_t)(p * m * n) * size;
        tsr_factor fa = {ad + at_a * (int64_t)size, row_stride, ta[ra - 1], dtype};
        tsr_factor fb = {bd + at_b * (int64_t)size, tb[rb - 2], tb[rb - 1], dtype};
        multiply_one(dtype, m, n, k, fa, fb, c);
    });
}

/* [..., A, B] -> [rows, B]. */
static tsr_tensor *as_rows(tsr_tensor *t)
{
    return tsr_reshape(t, TSR_SHAPE(-1, tsr_tensor_size(t, -1)));
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    tsr_tensor *a = tsr_node_saved(node, 0), *b = tsr_node_saved(node, 1), *g = grad_outputs[0];
    if (tsr_node_wants(node, 0)) {
        grad_inputs[0] = tsr_sum_to(tsr_matmul(g, tsr_transpose(b, -2, -1)), tsr_tensor_shape(a));
    }
    if (!tsr_node_wants(node, 1)) return;
    bool tall = tsr_tensor_ndim(b) == 2 && tsr_tensor_ndim(a) > 2 && tsr_tensor_numel(a) > 0 &&
                tsr_tensor_numel(g) > 0;
    if (tall) {
        grad_inputs[1] = tsr_matmul(tsr_transpose(as_rows(a), 0, 1), as_rows(g));
    } else {
        grad_inputs[1] = tsr_sum_to(tsr_matmul(tsr_transpose(a, -2, -1), g), tsr_tensor_shape(b));
    }
}

static const tsr_op op = {.name = "matmul", .backward = backward};

tsr_tensor *tsr_matmul(tsr_tensor *a, tsr_tensor *b)
{
    if (a == NULL || b == NULL) return NULL;
    tsr_shape shape;
    if (!shape_rule(a, b, &shape)) return NULL;
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *factors[2] = {packable(a), packable(b)}, *r = NULL;
    if (factors[0] != NULL && factors[1] != NULL) r = tsr_empty(tsr_tensor_dtype(a), shape);
    if (r != NULL) multiply(r, factors[0], factors[1]);
    r = tsr_record(&op, NULL, TSR_TENSORS(a, b), TSR_TENSORS(a, b), TSR_TENSORS(r));
    return tsr_scope_return(&scope, r);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_matmul(in.at[0], in.at[1]);
}

static void call_transposed(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_matmul(tsr_transpose(in.at[0], -2, -1), tsr_transpose(in.at[1], -2, -1));
}

static const tsr_sample samples[] = {
    {"matrices", 2, 1, {{{2, {3, 5}}}, {{2, {5, 4}}}}, call},
    {"batch", 2, 1, {{{3, {2, 3, 5}}}, {{3, {2, 5, 4}}}}, call},
    {"one matrix for the batch", 2, 1, {{{4, {2, 2, 3, 4}}}, {{2, {4, 5}}}}, call},
    {"broadcast", 2, 1, {{{4, {2, 1, 3, 4}}}, {{3, {3, 4, 2}}}}, call},
    {"rows", 2, 1, {{{3, {3, 1, 4}}}, {{3, {3, 4, 2}}}}, call},
    {"transposed views", 2, 1, {{{3, {2, 5, 3}}}, {{3, {2, 4, 5}}}}, call_transposed},
    {"inner size 1", 2, 1, {{{2, {3, 1}}}, {{2, {1, 4}}}}, call},
    {"inner size 0", 2, 1, {{{2, {3, 0}}}, {{2, {0, 4}}}}, call},
    {"empty batch", 2, 1, {{{3, {0, 3, 5}}}, {{2, {5, 4}}}}, call},
    {"no rows", 2, 1, {{{2, {0, 5}}}, {{2, {5, 4}}}}, call},
};
TSR_SAMPLES_BF16(matmul, samples);
