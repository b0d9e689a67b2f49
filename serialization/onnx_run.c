/*
 * ONNX's operators (set 17) by ours: what tsr_onnx_export() writes, and no more. Attributes and shapes come from files: what
 * ours do not check is checked here, before anything is made of it.
 */
#include "serialization/onnx.h"
#include "serialization/source.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- what a node says ---- */

static tsr_tensor *fail(const tsr_onnx_work *w, const char *what)
{
    tsr_fail(TSR_STATUS_FORMAT, "onnx: %s \"%.100s\": %s", w->op->name, w->node->output[0], what);
    return NULL;
}

static const Onnx__AttributeProto *find(const tsr_onnx_work *w, const char *name)
{
    for (size_t i = 0; i < w->node->n_attribute; i++) {
        if (strcmp(w->node->attribute[i]->name, name) == 0) return w->node->attribute[i];
    }
    return NULL;
}

static int64_t int_of(const tsr_onnx_work *w, const char *name, int64_t otherwise)
{
    const Onnx__AttributeProto *a = find(w, name);
    return a != NULL ? a->i : otherwise;
}

static double float_of(const tsr_onnx_work *w, const char *name, double otherwise)
{
    const Onnx__AttributeProto *a = find(w, name);
    return a != NULL ? (double)a->f : otherwise;
}

static bool text_is(const tsr_onnx_work *w, const char *name, const char *value,
                    const char *otherwise)
{
    const Onnx__AttributeProto *a = find(w, name);
    if (a == NULL) return strcmp(otherwise, value) == 0;
    return a->s.len == strlen(value) && memcmp(a->s.data, value, a->s.len) == 0;
}

/* Exactly n integers; where the attribute is absent all are `otherwise`. */
static bool ints_of(const tsr_onnx_work *w, const char *name, int64_t otherwise, int n,
                    int64_t *values)
{
    const Onnx__AttributeProto *a = find(w, name);
    for (int i = 0; i < n; i++) values[i] = otherwise;
    if (a == NULL) return true;
    if (a->n_ints == (size_t)n) {
        if (n > 0) memcpy(values, a->ints, (size_t)n * sizeof *values);
        return true;
    }
    fail(w, "an attribute has another number of integers than expected");
    return false;
}

/* An input that is I64 [n], n up to most: n, or -1. */
static int int_input(const tsr_onnx_work *w, int i, int most, int64_t *values)
{
    tsr_tensor *t = i < w->n_in ? w->in[i] : NULL;
    if (t == NULL || tsr_tensor_dtype(t) != TSR_DTYPE_I64 || tsr_tensor_ndim(t) > 1 ||
        tsr_tensor_numel(t) > most) {
        fail(w, "an input is not a short list of integers");
        return -1;
    }
    tsr_tensor *packed = tsr_tensor_packed(t);
    if (packed == NULL) return -1;
    int n = (int)tsr_tensor_numel(t);
    if (n > 0) memcpy(values, tsr_tensor_data(packed), (size_t)n * sizeof *values);
    return n;
}

static bool index_of(const tsr_onnx_work *w, int64_t axis, int ndim, int *dim)
{
    if (axis < -ndim || axis >= ndim) {
        fail(w, "an axis that its input does not have");
        return false;
    }
    *dim = (int)(axis < 0 ? axis + ndim : axis);
    return true;
}

static bool is_affordable(const tsr_onnx_work *w, tsr_shape shape)
{
    int64_t n = tsr_shape_numel(shape);
    if (n >= 0 && n <= w->most) return true;
    fail(w, "its result has too many elements");
    return false;
}

static bool is_float(const tsr_tensor *t)
{
    return tsr_tensor_dtype(t) == TSR_DTYPE_F32 || tsr_tensor_dtype(t) == TSR_DTYPE_F64;
}

/* ---- elementwise ---- */

static tsr_tensor *unary(const tsr_onnx_work *w)
{
    return w->op->unary(w->in[0]);
}

static tsr_tensor *binary(const tsr_onnx_work *w)
{
    tsr_shape shape;
    if (tsr_shape_broadcast(tsr_tensor_shape(w->in[0]), tsr_tensor_shape(w->in[1]), &shape) &&
        !is_affordable(w, shape)) {
        return NULL;
    }
    return w->op->binary(w->in[0], w->in[1]);
}

/* Sizes are multiplied as integers. */
static tsr_tensor *mul(const tsr_onnx_work *w)
{
    int64_t a[TSR_MAX_DIMS], b[TSR_MAX_DIMS];
    if (tsr_tensor_dtype(w->in[0]) != TSR_DTYPE_I64) return binary(w);
    int n = int_input(w, 0, TSR_MAX_DIMS, a);
    if (n < 0 || int_input(w, 1, TSR_MAX_DIMS, b) < 0) return NULL;
    if (tsr_tensor_numel(w->in[1]) != n || tsr_tensor_ndim(w->in[0]) != 1) {
        return fail(w, "sizes of different numbers");
    }
    for (int i = 0; i < n; i++) {
        if (__builtin_mul_overflow(a[i], b[i], &a[i])) return fail(w, "a size out of range");
    }
    return tsr_from(TSR_DTYPE_I64, TSR_SHAPE(n), a);
}

static tsr_tensor *reciprocal(const tsr_onnx_work *w)
{
    return tsr_div(tsr_scalar(tsr_tensor_dtype(w->in[0]), 1.0), w->in[0]);
}

static tsr_tensor *identity(const tsr_onnx_work *w)
{
    return tsr_detach(w->in[0]);
}

static tsr_tensor * not(const tsr_onnx_work *w)
{
    tsr_tensor *x = w->in[0];
    if (tsr_tensor_dtype(x) != TSR_DTYPE_BOOL) return fail(w, "its input is not bool");
    return tsr_eq(x, tsr_zeros(TSR_DTYPE_BOOL, TSR_SHAPE_SCALAR));
}

static tsr_tensor *clip(const tsr_onnx_work *w)
{
    if (tsr_tensor_numel(w->in[1]) != 1 || tsr_tensor_numel(w->in[2]) != 1) {
        return fail(w, "bounds that are not scalars");
    }
    return tsr_clamp(w->in[0], tsr_tensor_item(w->in[1]), tsr_tensor_item(w->in[2]));
}

static tsr_tensor *cast(const tsr_onnx_work *w)
{
    tsr_dtype to = tsr_onnx__dtype(int_of(w, "to", 0));
    if (to == TSR_DTYPE_COUNT) return fail(w, "to a type that is not read");
    return tsr_cast(w->in[0], to);
}

static tsr_tensor *where(const tsr_onnx_work *w)
{
    tsr_shape s;
    if (tsr_shape_broadcast(tsr_tensor_shape(w->in[0]), tsr_tensor_shape(w->in[1]), &s) &&
        tsr_shape_broadcast(s, tsr_tensor_shape(w->in[2]), &s) && !is_affordable(w, s)) {
        return NULL;
    }
    return tsr_where(w->in[0], w->in[1], w->in[2]);
}

/* ---- shapes ---- */

static tsr_tensor *shape(const tsr_onnx_work *w)
{
    tsr_shape s = tsr_tensor_shape(w->in[0]);
    int64_t start = int_of(w, "start", 0), end = int_of(w, "end", s.ndim);
    start = start < 0 ? start + s.ndim : start;
    end = end < 0 ? end + s.ndim : end;
    if (start < 0 || end < start || end > s.ndim) return fail(w, "start and end do not fit");
    return tsr_from(TSR_DTYPE_I64, TSR_SHAPE(end - start), s.size + start);
}

static tsr_tensor *reshape(const tsr_onnx_work *w)
{
    tsr_shape s = TSR_SHAPE_SCALAR, from = tsr_tensor_shape(w->in[0]);
    s.ndim = int_input(w, 1, TSR_MAX_DIMS, s.size);
    if (s.ndim < 0) return NULL;
    bool zero = int_of(w, "allowzero", 0) != 0;
    for (int d = 0; d < s.ndim; d++) {
        if (s.size[d] != 0 || zero) continue;
        if (d >= from.ndim) return fail(w, "it copies a size that its input does not have");
        s.size[d] = from.size[d];
    }
    return tsr_reshape(w->in[0], s);
}

static tsr_tensor *transpose(const tsr_onnx_work *w)
{
    int64_t perm[TSR_MAX_DIMS];
    int n = tsr_tensor_ndim(w->in[0]), dims[TSR_MAX_DIMS];
    if (find(w, "perm") == NULL) return fail(w, "it has no perm");
    if (!ints_of(w, "perm", 0, n, perm)) return NULL;
    for (int d = 0; d < n; d++) {
        if (!index_of(w, perm[d], n, &dims[d])) return NULL;
    }
    return tsr_permute(w->in[0], dims);
}

static tsr_tensor *expand(const tsr_onnx_work *w)
{
    tsr_shape to = TSR_SHAPE_SCALAR, both;
    to.ndim = int_input(w, 1, TSR_MAX_DIMS, to.size);
    if (to.ndim < 0) return NULL;
    if (!tsr_shape_broadcast(tsr_tensor_shape(w->in[0]), to, &both)) {
        return fail(w, "shapes that do not broadcast");
    }
    return is_affordable(w, both) ? tsr_expand(w->in[0], both) : NULL;
}

/* x[start], x[start + step], ... before end, along one dimension; the bounds are cut to what x has. */
static tsr_tensor *slice_along(const tsr_onnx_work *w, tsr_tensor *x, int dim, int64_t start,
                               int64_t end, int64_t step)
{
    int64_t n = tsr_tensor_size(x, dim);
    if (step == 0 || step == INT64_MIN) return fail(w, "a step of 0, or out of range");
    if (start < 0) start = start < -n ? -1 : start + n;
    if (end < 0) end = end < -n ? -1 : end + n;
    if (step > 0) {
        start = start < 0 ? 0 : start > n ? n : start;
        end = end < start ? start : end > n ? n : end;
        return tsr_slice(x, dim, start, end, step);
    }
    /* Backwards from start is forwards in the flipped tensor. */
    start = start > n - 1 ? n - 1 : start;
    end = end > start ? start : end;
    return tsr_slice(tsr_flip(x, dim), dim, n - 1 - start, n - 1 - end, -step);
}

static tsr_tensor *slice(const tsr_onnx_work *w)
{
    int64_t bounds[4][TSR_MAX_DIMS];
    int n = -1;
    for (int i = 0; i < 4; i++) {
        int k = int_input(w, 1 + i, TSR_MAX_DIMS, bounds[i]);
        if (k < 0) return NULL;
        if (n >= 0 && k != n) return fail(w, "starts, ends, axes and steps of different lengths");
        n = k;
    }
    tsr_tensor *x = w->in[0];
    for (int i = 0; x != NULL && i < n; i++) {
        int dim;
        if (!index_of(w, bounds[2][i], tsr_tensor_ndim(x), &dim)) return NULL;
        x = slice_along(w, x, dim, bounds[0][i], bounds[1][i], bounds[3][i]);
    }
    return tsr_detach(x);
}

static tsr_tensor *concat(const tsr_onnx_work *w)
{
    int dim;
    int64_t total = 0;
    if (!index_of(w, int_of(w, "axis", 0), tsr_tensor_ndim(w->in[0]), &dim)) return NULL;
    for (int i = 0; i < w->n_in; i++) total += tsr_tensor_numel(w->in[i]);
    if (total > w->most) return fail(w, "its result has too many elements");
    return tsr_concat((tsr_tensors){w->in, w->n_in}, dim);
}

static tsr_tensor *pad(const tsr_onnx_work *w)
{
    int64_t pads[2 * TSR_MAX_DIMS];
    tsr_shape to = tsr_tensor_shape(w->in[0]);
    int n = int_input(w, 1, 2 * TSR_MAX_DIMS, pads);
    if (n < 0) return NULL;
    if (n != 2 * to.ndim || tsr_tensor_numel(w->in[2]) != 1) {
        return fail(w, "pads for another number of dimensions");
    }
    for (int d = 0; d < to.ndim; d++) {
        int64_t before = pads[d], after = pads[to.ndim + d];
        if (before > w->most || after > w->most || before < -w->most || after < -w->most) {
            return fail(w, "pads out of range");
        }
        to.size[d] += before + after;
        if (to.size[d] < 0) return fail(w, "pads that cut away more than there is");
    }
    if (!is_affordable(w, to)) return NULL;
    return tsr_pad(w->in[0], pads, pads + to.ndim, tsr_tensor_item(w->in[2]));
}

/* ---- reductions ---- */

static tsr_tensor *over_axes(const tsr_onnx_work *w, const int64_t *axes, int n)
{
    int dims[TSR_MAX_DIMS];
    bool keep = int_of(w, "keepdims", 1) != 0;
    if (n < 1) return fail(w, "it has no axes");
    for (int i = 0; i < n; i++) {
        if (!index_of(w, axes[i], tsr_tensor_ndim(w->in[0]), &dims[i])) return NULL;
    }
    const char *name = w->op->name;
    if (strcmp(name, "ReduceSum") == 0) return tsr_sum(w->in[0], dims, n, keep);
    if (strcmp(name, "ReduceMean") == 0) return tsr_mean(w->in[0], dims, n, keep);
    if (n > 1) return fail(w, "more than one axis");
    if (strcmp(name, "ReduceMax") == 0) return tsr_max(w->in[0], dims[0], keep);
    if (strcmp(name, "ReduceMin") == 0) return tsr_min(w->in[0], dims[0], keep);
    return tsr_logsumexp(w->in[0], dims[0], keep);
}

static tsr_tensor *reduce(const tsr_onnx_work *w)
{
    const Onnx__AttributeProto *a = find(w, "axes");
    if (a == NULL || a->n_ints > TSR_MAX_DIMS) return fail(w, "it has no axes, or too many");
    return over_axes(w, a->ints, (int)a->n_ints);
}

static tsr_tensor *reduce_sum(const tsr_onnx_work *w)
{
    int64_t axes[TSR_MAX_DIMS];
    int n = int_input(w, 1, TSR_MAX_DIMS, axes);
    return n < 0 ? NULL : over_axes(w, axes, n);
}

static tsr_tensor *arg(const tsr_onnx_work *w)
{
    int dim;
    bool keep = int_of(w, "keepdims", 1) != 0;
    if (!index_of(w, int_of(w, "axis", 0), tsr_tensor_ndim(w->in[0]), &dim)) return NULL;
    return strcmp(w->op->name, "ArgMax") == 0 ? tsr_argmax(w->in[0], dim, keep)
                                              : tsr_argmin(w->in[0], dim, keep);
}

static tsr_tensor *cumsum(const tsr_onnx_work *w)
{
    int64_t axis;
    int dim;
    if (int_input(w, 1, 1, &axis) < 1) return fail(w, "its axis is no integer");
    if (!index_of(w, axis, tsr_tensor_ndim(w->in[0]), &dim)) return NULL;
    if (int_of(w, "reverse", 0) == 0) return tsr_cumsum(w->in[0], dim);
    return tsr_flip(tsr_cumsum(tsr_flip(w->in[0], dim), dim), dim);
}

/* ---- indices ---- */

static tsr_tensor *gather(const tsr_onnx_work *w)
{
    int dim;
    tsr_tensor *x = w->in[0], *index = w->in[1];
    if (tsr_tensor_ndim(x) < 1) return fail(w, "of a scalar");
    if (!index_of(w, int_of(w, "axis", 0), tsr_tensor_ndim(x), &dim)) return NULL;
    if (dim != 0 || tsr_tensor_ndim(index) != 1) return fail(w, "other than rows by a list");
    tsr_shape to = tsr_tensor_shape(x);
    to.size[0] = tsr_tensor_numel(index);
    return is_affordable(w, to) ? tsr_gather_rows(x, index) : NULL;
}

static tsr_tensor *gather_elements(const tsr_onnx_work *w)
{
    int dim;
    if (!index_of(w, int_of(w, "axis", 0), tsr_tensor_ndim(w->in[0]), &dim)) return NULL;
    return tsr_gather(w->in[0], dim, w->in[1]);
}

static tsr_tensor *one_hot(const tsr_onnx_work *w)
{
    int64_t depth;
    tsr_tensor *values = w->in[2];
    if (int_input(w, 1, 1, &depth) < 1) return NULL;
    if (depth < 1 || depth > w->most || tsr_tensor_numel(values) != 2 || !is_float(values) ||
        tsr_tensor_get(values, 0) != 0.0 || tsr_tensor_get(values, 1) != 1.0 ||
        tsr_tensor_numel(w->in[0]) > w->most / depth) {
        return fail(w, "depth or values out of range");
    }
    return tsr_one_hot(w->in[0], depth, tsr_tensor_dtype(values));
}

/* ---- products, normalization ---- */

static tsr_tensor *matmul(const tsr_onnx_work *w)
{
    tsr_tensor *a = w->in[0], *b = w->in[1];
    int na = tsr_tensor_ndim(a), nb = tsr_tensor_ndim(b);
    if (na < 1 || nb < 2) return fail(w, "operands that are no matrices");
    tsr_shape from = tsr_tensor_shape(a), other = tsr_tensor_shape(b), to;
    tsr_tensor *left = na == 1 ? tsr_reshape(a, TSR_SHAPE(1, from.size[0])) : a;
    from.ndim = na == 1 ? 0 : na - 2;
    other.ndim = nb - 2;
    if (!tsr_shape_broadcast(from, other, &to)) return fail(w, "batches that do not broadcast");
    to.size[to.ndim++] = tsr_tensor_size(left, -2);
    to.size[to.ndim++] = tsr_tensor_size(b, -1);
    if (to.ndim > TSR_MAX_DIMS || !is_affordable(w, to)) return NULL;
    tsr_tensor *y = tsr_matmul(left, b);
    if (na > 1) return y;
    to.size[to.ndim - 2] = to.size[to.ndim - 1]; /* without the row that was put in */
    to.ndim--;
    return tsr_reshape(y, to);
}

static tsr_tensor *gemm(const tsr_onnx_work *w)
{
    if (int_of(w, "transB", 0) != 1 || int_of(w, "transA", 0) != 0 ||
        float_of(w, "alpha", 1.0) != 1.0 || float_of(w, "beta", 1.0) != 1.0) {
        return fail(w, "other than x W^T + b");
    }
    tsr_tensor *bias = w->n_in > 2 ? w->in[2] : NULL;
    if (tsr_tensor_ndim(w->in[0]) != 2 || tsr_tensor_ndim(w->in[1]) != 2) {
        return fail(w, "operands that are no matrices");
    }
    tsr_shape to = TSR_SHAPE(tsr_tensor_size(w->in[0], 0), tsr_tensor_size(w->in[1], 0));
    return is_affordable(w, to) ? tsr_linear(w->in[0], w->in[1], bias) : NULL;
}

static tsr_tensor *softmax(const tsr_onnx_work *w)
{
    int dim;
    if (!index_of(w, int_of(w, "axis", -1), tsr_tensor_ndim(w->in[0]), &dim)) return NULL;
    return strcmp(w->op->name, "Softmax") == 0 ? tsr_softmax(w->in[0], dim)
                                               : tsr_log_softmax(w->in[0], dim);
}

static tsr_tensor *layer_norm(const tsr_onnx_work *w)
{
    int dim, n = tsr_tensor_ndim(w->in[0]);
    if (!index_of(w, int_of(w, "axis", -1), n, &dim)) return NULL;
    if (dim != n - 1) return fail(w, "over more than the last axis");
    return tsr_layer_norm(w->in[0], w->in[1], w->n_in > 2 ? w->in[2] : NULL,
                          float_of(w, "epsilon", 1e-5));
}

/* ---- images ---- */

/* A pair of attributes within reason. */
static bool pair(const tsr_onnx_work *w, const char *name, int64_t otherwise, int64_t *values)
{
    if (!ints_of(w, name, otherwise, 2, values)) return false;
    for (int d = 0; d < 2; d++) {
        if (values[d] >= 0 && values[d] <= 65536) continue;
        fail(w, "an attribute out of range");
        return false;
    }
    return true;
}

/* Pads that are the same on both sides. */
static bool padding(const tsr_onnx_work *w, int64_t *values)
{
    int64_t pads[4];
    if (!ints_of(w, "pads", 0, 4, pads)) return false;
    if (pads[0] != pads[2] || pads[1] != pads[3] || pads[0] < 0 || pads[1] < 0 || pads[0] > 65536 ||
        pads[1] > 65536) {
        fail(w, "pads that differ from side to side, or out of range");
        return false;
    }
    memcpy(values, pads, 2 * sizeof *values);
    return true;
}

static bool conv_options(const tsr_onnx_work *w, tsr_conv_options *o)
{
    *o = (tsr_conv_options){.groups = int_of(w, "group", 1)};
    if (o->groups < 1) return fail(w, "a group out of range") != NULL;
    return pair(w, "strides", 1, o->stride) && pair(w, "dilations", 1, o->dilation) &&
           pair(w, "output_padding", 0, o->output_padding) && padding(w, o->padding);
}

/* Cells of a result (and of what a product needs on the way) that a window makes of an image. */
static bool images_are_affordable(const tsr_onnx_work *w, const tsr_conv_options *o)
{
    tsr_tensor *x = w->in[0], *k = w->in[1];
    if (tsr_tensor_ndim(x) != 4 || tsr_tensor_ndim(k) != 4) {
        return fail(w, "operands that are no images") != NULL;
    }
    bool transposed = strcmp(w->op->name, "ConvTranspose") == 0;
    double cells = (double)tsr_tensor_size(x, 0);
    for (int d = 0; d < 2; d++) {
        double in = (double)tsr_tensor_size(x, 2 + d), kernel = (double)tsr_tensor_size(k, 2 + d);
        double reach = (double)(o->dilation[d] > 0 ? o->dilation[d] : 1) * kernel;
        cells *= transposed ? in * (double)(o->stride[d] > 0 ? o->stride[d] : 1) + reach
                            : in + 2.0 * (double)o->padding[d];
    }
    double filters =
        (double)tsr_tensor_size(k, transposed ? 1 : 0) * (transposed ? (double)o->groups : 1.0);
    double columns = (double)tsr_tensor_numel(k) / fmax((double)tsr_tensor_size(k, 0), 1.0);
    if (cells * fmax(filters, transposed ? 1.0 : columns) <= 16.0 * (double)w->most) return true;
    return fail(w, "its result has too many elements") != NULL;
}

static tsr_tensor *conv(const tsr_onnx_work *w)
{
    tsr_conv_options o;
    tsr_tensor *bias = w->n_in > 2 ? w->in[2] : NULL;
    if (!conv_options(w, &o) || !images_are_affordable(w, &o)) return NULL;
    if (strcmp(w->op->name, "Conv") != 0) {
        return tsr_conv_transpose2d(w->in[0], w->in[1], bias, &o);
    }
    return tsr_conv2d(w->in[0], w->in[1], bias, &o);
}

static tsr_tensor *pool(const tsr_onnx_work *w)
{
    tsr_pool_options o = {.exclude_padding = int_of(w, "count_include_pad", 0) == 0};
    if (find(w, "kernel_shape") == NULL) return fail(w, "it has no kernel_shape");
    if (!pair(w, "kernel_shape", 0, o.kernel) || !pair(w, "strides", 1, o.stride) ||
        !padding(w, o.padding)) {
        return NULL;
    }
    tsr_shape x = tsr_tensor_shape(w->in[0]);
    if (x.ndim != 4) return fail(w, "its input is no images");
    for (int d = 0; d < 2; d++) x.size[2 + d] += 2 * o.padding[d];
    if (!is_affordable(w, x)) return NULL;
    return strcmp(w->op->name, "MaxPool") == 0 ? tsr_max_pool2d(w->in[0], &o)
                                               : tsr_avg_pool2d(w->in[0], &o);
}

static tsr_tensor *global_pool(const tsr_onnx_work *w)
{
    return tsr_adaptive_avg_pool2d(w->in[0], 1, 1);
}

static tsr_tensor *resize(const tsr_onnx_work *w)
{
    tsr_shape from = tsr_tensor_shape(w->in[0]), to = from;
    tsr_tensor *factors = w->n_in > 2 ? w->in[2] : NULL;
    tsr_interpolate_options o = {.mode = TSR_INTERPOLATION_BILINEAR};
    o.align_corners = text_is(w, "coordinate_transformation_mode", "align_corners", "half_pixel");
    if (text_is(w, "mode", "cubic", "nearest")) o.mode = TSR_INTERPOLATION_BICUBIC;
    if (from.ndim != 4 ||
        (o.mode == TSR_INTERPOLATION_BILINEAR && !text_is(w, "mode", "linear", "nearest"))) {
        return fail(w, "other than linear or cubic, of images");
    }
    if (w->n_in > 3 && w->in[3] != NULL) {
        if (int_input(w, 3, 4, to.size) != 4) return fail(w, "sizes that are not four");
    } else if (factors != NULL && tsr_tensor_numel(factors) == 4) {
        for (int d = 0; d < 4; d++) {
            double factor = tsr_tensor_get(factors, d), size = (double)from.size[d] * factor;
            if (!(size >= 0.0 && size <= (double)w->most)) return fail(w, "factors out of range");
            to.size[d] = (int64_t)floorf((float)size);
            if (d >= 2) o.scale[d - 2] = factor;
        }
    } else {
        return fail(w, "neither sizes nor four factors");
    }
    if (to.size[0] != from.size[0] || to.size[1] != from.size[1]) {
        return fail(w, "along the first two axes");
    }
    return is_affordable(w, to) ? tsr_interpolate(w->in[0], to.size[2], to.size[3], &o) : NULL;
}

/* ---- the table ---- */

#define UNARY(name, f)                                                                             \
    {                                                                                              \
        name, 1, 1, unary, .unary = f                                                              \
    }
#define BINARY(name, f)                                                                            \
    {                                                                                              \
        name, 2, 2, binary, .binary = f                                                            \
    }

static const tsr_onnx_operator operators[] = {
    UNARY("Abs", tsr_abs),
    BINARY("Add", tsr_add),
    {"ArgMax", 1, 1, arg},
    {"ArgMin", 1, 1, arg},
    {"AveragePool", 1, 1, pool},
    {"Cast", 1, 1, cast},
    {"Clip", 3, 3, clip},
    {"Concat", 1, TSR_ONNX_INPUTS, concat},
    {"Conv", 2, 3, conv},
    {"ConvTranspose", 2, 3, conv},
    UNARY("Cos", tsr_cos),
    {"CumSum", 2, 2, cumsum},
    BINARY("Div", tsr_div),
    BINARY("Equal", tsr_eq),
    UNARY("Erf", tsr_erf),
    UNARY("Exp", tsr_exp),
    {"Expand", 2, 2, expand},
    {"Gather", 2, 2, gather},
    {"GatherElements", 2, 2, gather_elements},
    {"Gemm", 2, 3, gemm},
    {"GlobalAveragePool", 1, 1, global_pool},
    BINARY("Greater", tsr_gt),
    BINARY("GreaterOrEqual", tsr_ge),
    {"Identity", 1, 1, identity},
    {"LayerNormalization", 2, 3, layer_norm},
    BINARY("Less", tsr_lt),
    BINARY("LessOrEqual", tsr_le),
    UNARY("Log", tsr_log),
    {"LogSoftmax", 1, 1, softmax},
    {"MatMul", 2, 2, matmul},
    BINARY("Max", tsr_maximum),
    {"MaxPool", 1, 1, pool},
    BINARY("Min", tsr_minimum),
    {"Mul", 2, 2, mul, .binary = tsr_mul},
    UNARY("Neg", tsr_neg),
    {"Not", 1, 1, not },
    {"OneHot", 3, 3, one_hot},
    {"Pad", 3, 3, pad},
    BINARY("Pow", tsr_pow),
    {"Reciprocal", 1, 1, reciprocal},
    {"ReduceLogSumExp", 1, 1, reduce},
    {"ReduceMax", 1, 1, reduce},
    {"ReduceMean", 1, 1, reduce},
    {"ReduceMin", 1, 1, reduce},
    {"ReduceSum", 2, 2, reduce_sum},
    UNARY("Relu", tsr_relu),
    {"Reshape", 2, 2, reshape},
    {"Resize", 1, 4, resize},
    {"Shape", 1, 1, shape},
    UNARY("Sigmoid", tsr_sigmoid),
    UNARY("Sin", tsr_sin),
    {"Slice", 5, 5, slice},
    {"Softmax", 1, 1, softmax},
    UNARY("Softplus", tsr_softplus),
    UNARY("Sqrt", tsr_sqrt),
    BINARY("Sub", tsr_sub),
    UNARY("Tanh", tsr_tanh),
    {"Transpose", 1, 1, transpose},
    {"Where", 3, 3, where},
};

const tsr_onnx_operator *tsr_onnx__operator(const char *name)
{
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (strcmp(operators[i].name, name) == 0) return &operators[i];
    }
    return NULL;
}

tsr_tensor *tsr_onnx__run_node(const tsr_onnx_work *w)
{
    tsr_tensor *y = w->op->run(w);
    if (y == NULL && tsr_status_get() == TSR_STATUS_OK) fail(w, "it has no result");
    return y;
}
