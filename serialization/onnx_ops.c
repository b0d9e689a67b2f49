/* What each operator is in ONNX (operator set 17). One that is not in the table is written as its definition. */
#include "serialization/onnx.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

typedef struct translation translation;

struct translation {
    const char *op;                                                  /* ours */
    bool (*write)(const tsr_onnx_call *c, const translation *entry); /* false: by the definition */
    const char *onnx;
};

/* ---- asking the traces ---- */

static tsr_tensor *input(const tsr_onnx_call *c, int i)
{
    return c->step[0]->inputs.at[i];
}

static tsr_dtype dtype(const tsr_onnx_call *c)
{
    return tsr_tensor_dtype(input(c, 0));
}

static int ndim(const tsr_onnx_call *c)
{
    return tsr_tensor_ndim(input(c, 0));
}

static tsr_onnx_int in_size(const tsr_onnx_call *c, int i, int dim)
{
    tsr_onnx_int v = {{0}};
    for (int t = 0; t < c->n_traces; t++) {
        v.at[t] = tsr_tensor_size(c->step[t]->inputs.at[i], dim);
    }
    return v;
}

static tsr_onnx_int out_size(const tsr_onnx_call *c, int dim)
{
    tsr_onnx_int v = {{0}};
    for (int t = 0; t < c->n_traces; t++) {
        v.at[t] = tsr_tensor_size(c->step[t]->outputs.at[0], dim);
    }
    return v;
}

static tsr_onnx_int field(const tsr_onnx_call *c, const char *name, int i)
{
    tsr_onnx_int v = {{0}};
    for (int t = 0; t < c->n_traces; t++) v.at[t] = tsr_trace_step_int(c->step[t], name, i);
    return v;
}

/* A field that must be a constant of the graph. */
static int64_t fixed(const tsr_onnx_call *c, const char *name, int i)
{
    tsr_onnx_int v = field(c, name, i);
    if (!tsr_onnx__is_fixed(c, v)) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "onnx: %s: %s is %" PRId64 " for one size of the inputs and %" PRId64
                 " for another",
                 c->step[0]->op->name, name, v.at[0], v.at[1] != v.at[0] ? v.at[1] : v.at[2]);
    }
    return v.at[0];
}

static double fixed_double(const tsr_onnx_call *c, const char *name)
{
    double v = tsr_trace_step_double(c->step[0], name, 0);
    for (int t = 1; t < c->n_traces; t++) {
        if (tsr_trace_step_double(c->step[t], name, 0) == v) continue;
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "onnx: %s: %s is %g for one size of the inputs and %g for another",
                 c->step[0]->op->name, name, v, tsr_trace_step_double(c->step[t], name, 0));
    }
    return v;
}

/* ---- elementwise ---- */

/* As many inputs as ours has, no attributes. */
static bool same(const tsr_onnx_call *c, const translation *entry)
{
    tsr_onnx__node(c, entry->onnx, c->out[0], c->in, c->step[0]->inputs.n);
    return true;
}

static bool not_equal(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    TSR_ONNX_NODE(c, "Not", c->out[0], TSR_ONNX_VALUE(c, "Equal", c->in[0], c->in[1]));
    return true;
}

static bool rsqrt(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    TSR_ONNX_NODE(c, "Reciprocal", c->out[0], TSR_ONNX_VALUE(c, "Sqrt", c->in[0]));
    return true;
}

static bool mse(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    const char *d = TSR_ONNX_VALUE(c, "Sub", c->in[0], c->in[1]);
    TSR_ONNX_NODE(c, "Mul", c->out[0], d, d);
    return true;
}

static bool affine(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    double scale = fixed_double(c, "scale"), shift = fixed_double(c, "shift");
    const char *x = c->in[0];
    if (shift == 0.0 || scale != 1.0) {
        const char *factor = tsr_onnx__constant_scalar(c, dtype(c), scale);
        x = TSR_ONNX_NODE(c, "Mul", shift == 0.0 ? c->out[0] : NULL, x, factor)->output[0];
    }
    if (shift != 0.0) {
        TSR_ONNX_NODE(c, "Add", c->out[0], x, tsr_onnx__constant_scalar(c, dtype(c), shift));
    }
    return true;
}

static bool clamp(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    const char *lo = tsr_onnx__constant_scalar(c, dtype(c), fixed_double(c, "lo"));
    const char *hi = tsr_onnx__constant_scalar(c, dtype(c), fixed_double(c, "hi"));
    TSR_ONNX_NODE(c, "Clip", c->out[0], c->in[0], lo, hi);
    return true;
}

static const char *cast_to(const tsr_onnx_call *c, const char *x, tsr_dtype to, const char *out)
{
    Onnx__NodeProto *node = TSR_ONNX_NODE(c, "Cast", out, x);
    tsr_onnx__attribute_int(c, node, "to", tsr_onnx__type(to));
    return node->output[0];
}

static bool cast(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    tsr_dtype to = tsr_tensor_dtype(c->step[0]->outputs.at[0]);
    if (tsr_onnx__type(to) == 0) return false;
    cast_to(c, c->in[0], to, c->out[0]);
    return true;
}

static bool where(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    const char *condition = c->in[0];
    if (dtype(c) != TSR_DTYPE_BOOL) condition = cast_to(c, condition, TSR_DTYPE_BOOL, NULL);
    TSR_ONNX_NODE(c, "Where", c->out[0], condition, c->in[1], c->in[2]);
    return true;
}

/* ---- shapes ---- */

static void reshape_to_output(const tsr_onnx_call *c, const char *x)
{
    tsr_onnx_int v[TSR_MAX_DIMS];
    int n = tsr_tensor_ndim(c->step[0]->outputs.at[0]), open = 0;
    for (int d = 0; d < n; d++) v[d] = out_size(c, d);
    bool copies[TSR_MAX_DIMS] = {false}, empty = false;
    for (int d = 0; d < n; d++) {
        open += !tsr_onnx__is_fixed(c, v[d]);
        empty = empty || v[d].at[0] == 0;
    }
    for (int d = 0; open > 1 && d < n; d++) { /* 0: as x has it there */
        tsr_onnx_int of_x = in_size(c, 0, d);
        copies[d] =
            !tsr_onnx__is_fixed(c, v[d]) && d < ndim(c) && memcmp(&of_x, &v[d], sizeof of_x) == 0;
        open -= copies[d];
    }
    if (open <= 1 && !empty) {
        for (int d = 0; d < n; d++) {
            bool rest = !tsr_onnx__is_fixed(c, v[d]);
            for (int t = 0; rest && t < c->n_traces; t++) v[d].at[t] = copies[d] ? 0 : -1;
        }
    }
    Onnx__NodeProto *node = TSR_ONNX_NODE(c, "Reshape", c->out[0], x, tsr_onnx__ints(c, v, n));
    if (empty) tsr_onnx__attribute_int(c, node, "allowzero", 1);
}

static bool reshape(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    reshape_to_output(c, c->in[0]);
    return true;
}

static bool permute(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    int64_t perm[TSR_MAX_DIMS];
    for (int d = 0; d < ndim(c); d++) perm[fixed(c, "inverse", d)] = d;
    Onnx__NodeProto *node = TSR_ONNX_NODE(c, "Transpose", c->out[0], c->in[0]);
    tsr_onnx__attribute_ints(c, node, "perm", perm, ndim(c));
    return true;
}

static bool expand(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    tsr_onnx_int v[TSR_MAX_DIMS];
    int n = tsr_tensor_ndim(c->step[0]->outputs.at[0]);
    for (int d = 0; d < n; d++) v[d] = out_size(c, d);
    TSR_ONNX_NODE(c, "Expand", c->out[0], c->in[0], tsr_onnx__ints(c, v, n));
    return true;
}

static tsr_onnx_int constant(int64_t value)
{
    tsr_onnx_int v;
    for (int t = 0; t < TSR_ONNX_TRACES; t++) v.at[t] = value;
    return v;
}

/* [start, end) of x along dim. */
static const char *cut(const tsr_onnx_call *c, const char *out, const char *x, int dim,
                       tsr_onnx_int start, tsr_onnx_int end, int64_t step)
{
    const char *starts = tsr_onnx__dim(c, start), *ends = tsr_onnx__dim(c, end);
    const char *axes = tsr_onnx__constant_ints(c, &(int64_t){dim}, 1);
    const char *steps = tsr_onnx__constant_ints(c, &step, 1);
    return TSR_ONNX_NODE(c, "Slice", out, x, starts, ends, axes, steps)->output[0];
}

static bool slice(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    int dim = (int)fixed(c, "dim", 0);
    int64_t step = fixed(c, "step", 0);
    tsr_onnx_int start = field(c, "start", 0), size = in_size(c, 0, dim), n = out_size(c, dim);
    tsr_onnx_int end = start;
    bool to_the_end = true;
    for (int t = 0; t < c->n_traces; t++) {
        end.at[t] += n.at[t] > 0 ? (n.at[t] - 1) * step + 1 : 0;
        to_the_end = to_the_end && n.at[t] > 0 && end.at[t] + step > size.at[t];
    }
    if (to_the_end) end = constant(INT64_MAX);
    cut(c, c->out[0], c->in[0], dim, start, end, step);
    return true;
}

static bool split(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    int dim = (int)fixed(c, "dim", 0), parts = c->step[0]->outputs.n;
    tsr_onnx_int part = out_size(c, dim), start, end;
    for (int i = 0; i < parts; i++) {
        for (int t = 0; t < TSR_ONNX_TRACES; t++) {
            start.at[t] = i * part.at[t];
            end.at[t] = (i + 1) * part.at[t];
        }
        cut(c, c->out[i], c->in[0], dim, start, i + 1 < parts ? end : constant(INT64_MAX), 1);
    }
    return true;
}

static bool flip(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    /* From the last element to the one before the first. */
    cut(c, c->out[0], c->in[0], (int)fixed(c, "dim", 0), constant(-1), constant(-INT64_MAX), -1);
    return true;
}

static Onnx__NodeProto *concat_node(const tsr_onnx_call *c, int64_t dim, const char *const *in,
                                    int n)
{
    Onnx__NodeProto *node = tsr_onnx__node(c, "Concat", c->out[0], in, n);
    tsr_onnx__attribute_int(c, node, "axis", dim);
    return node;
}

static bool concat(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    concat_node(c, fixed(c, "dim", 0), c->in, c->step[0]->inputs.n);
    return true;
}

static bool roll(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    int dim = (int)fixed(c, "dim", 0);
    tsr_onnx_int back = field(c, "back", 0);
    const char *parts[] = {cut(c, NULL, c->in[0], dim, back, constant(INT64_MAX), 1),
                           cut(c, NULL, c->in[0], dim, constant(0), back, 1)};
    concat_node(c, dim, parts, 2);
    return true;
}

static bool pad(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    int n = ndim(c);
    tsr_onnx_int pads[2 * TSR_MAX_DIMS];
    for (int d = 0; d < n; d++) {
        pads[d] = field(c, "cut_before", d);
        pads[n + d] = field(c, "cut_after", d);
    }
    for (int i = 0; i < 2 * n; i++) {
        for (int t = 0; t < TSR_ONNX_TRACES; t++) pads[i].at[t] = -pads[i].at[t];
    }
    const char *value = tsr_onnx__constant_scalar(c, dtype(c), fixed_double(c, "value"));
    TSR_ONNX_NODE(c, "Pad", c->out[0], c->in[0], tsr_onnx__ints(c, pads, 2 * n), value);
    return true;
}

/* ---- reductions ---- */

/* Sums and means, over the dimensions in which a size becomes 1. */
static bool reduce(const tsr_onnx_call *c, const translation *entry)
{
    int n = ndim(c), n_out = tsr_tensor_ndim(c->step[0]->outputs.at[0]), n_axes = 0;
    int64_t axes[TSR_MAX_DIMS];
    bool sum = strcmp(entry->onnx, "ReduceSum") == 0;
    bool to = strcmp(entry->op, "sum_to") == 0;
    for (int d = 0; d < n; d++) {
        bool goes = false;
        for (int t = 0; t < c->n_traces; t++) {
            int64_t kept =
                to ? (d < n - n_out ? 1
                                    : tsr_tensor_size(c->step[t]->outputs.at[0], d - (n - n_out)))
                   : tsr_trace_step_shape(c->step[t], "keepdim").size[d];
            goes = goes || kept != tsr_tensor_size(c->step[t]->inputs.at[0], d);
        }
        if (goes) axes[n_axes++] = d;
    }
    const char *out = n == n_out ? c->out[0] : NULL, *y = c->in[0];
    if (n_axes == 0) {
        if (out != NULL) TSR_ONNX_NODE(c, "Identity", out, y);
    } else if (sum) {
        y = TSR_ONNX_NODE(c, entry->onnx, out, y, tsr_onnx__constant_ints(c, axes, n_axes))
                ->output[0];
    } else {
        Onnx__NodeProto *node = TSR_ONNX_NODE(c, entry->onnx, out, y);
        tsr_onnx__attribute_ints(c, node, "axes", axes, n_axes);
        y = node->output[0];
    }
    if (out == NULL) reshape_to_output(c, y);
    return true;
}

static bool extremum(const tsr_onnx_call *c, const translation *entry)
{
    int64_t dim = fixed(c, "dim", 0);
    bool keep = tsr_tensor_ndim(c->step[0]->outputs.at[0]) == ndim(c);
    Onnx__NodeProto *node = TSR_ONNX_NODE(c, entry->onnx, c->out[0], c->in[0]);
    if (strncmp(entry->onnx, "Arg", 3) == 0) {
        tsr_onnx__attribute_int(c, node, "axis", dim);
    } else {
        tsr_onnx__attribute_ints(c, node, "axes", &dim, 1);
    }
    tsr_onnx__attribute_int(c, node, "keepdims", keep);
    return true;
}

static bool cumsum(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    const char *axis = tsr_onnx__constant_ints(c, &(int64_t){fixed(c, "dim", 0)}, 1);
    Onnx__NodeProto *node = TSR_ONNX_NODE(c, "CumSum", c->out[0], c->in[0], axis);
    tsr_onnx__attribute_int(c, node, "reverse", fixed(c, "reverse", 0));
    return true;
}

/* ---- indices ---- */

static bool gather(const tsr_onnx_call *c, const translation *entry)
{
    bool rows = strcmp(entry->op, "gather_rows") == 0;
    Onnx__NodeProto *node =
        TSR_ONNX_NODE(c, entry->onnx, c->out[0], c->in[0], tsr_onnx__saved(c, 0));
    tsr_onnx__attribute_int(c, node, "axis", rows ? 0 : fixed(c, "dim", 0));
    return true;
}

static bool one_hot(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    tsr_dtype type = tsr_tensor_dtype(c->step[0]->outputs.at[0]);
    if (type != TSR_DTYPE_F32 && type != TSR_DTYPE_F64) return false;
    tsr_onnx_int depth = out_size(c, -1);
    tsr_tensor *values = tsr_zeros(type, TSR_SHAPE(2));
    if (values == NULL) return true;
    if (type == TSR_DTYPE_F32) {
        ((float *)tsr_tensor_data_mut(values))[1] = 1.0f;
    } else {
        ((double *)tsr_tensor_data_mut(values))[1] = 1.0;
    }
    TSR_ONNX_NODE(c, "OneHot", c->out[0], c->in[0], tsr_onnx__dim(c, depth),
                  tsr_onnx__constant(c, values));
    return true;
}

/* ---- products, normalization ---- */

static bool linear(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    bool bias = c->in[2][0] != '\0';
    if (ndim(c) == 2) {
        Onnx__NodeProto *node = tsr_onnx__node(c, "Gemm", c->out[0], c->in, bias ? 3 : 2);
        tsr_onnx__attribute_int(c, node, "transB", 1);
        return true;
    }
    Onnx__NodeProto *turn = TSR_ONNX_NODE(c, "Transpose", NULL, c->in[1]);
    tsr_onnx__attribute_ints(c, turn, "perm", (const int64_t[]){1, 0}, 2);
    const char *y =
        TSR_ONNX_NODE(c, "MatMul", bias ? NULL : c->out[0], c->in[0], turn->output[0])->output[0];
    if (bias) TSR_ONNX_NODE(c, "Add", c->out[0], y, c->in[2]);
    return true;
}

static bool softmax(const tsr_onnx_call *c, const translation *entry)
{
    Onnx__NodeProto *node = TSR_ONNX_NODE(c, entry->onnx, c->out[0], c->in[0]);
    tsr_onnx__attribute_int(c, node, "axis", fixed(c, "dim", 0));
    return true;
}

static bool layer_norm(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    const char *in[] = {c->in[0], c->in[1], c->in[2]};
    if (in[1][0] == '\0') { /* ONNX wants a scale */
        in[1] = tsr_onnx__constant(
            c, tsr_full(dtype(c), TSR_SHAPE(tsr_tensor_size(input(c, 0), -1)), 1.0));
    }
    Onnx__NodeProto *node =
        tsr_onnx__node(c, "LayerNormalization", c->out[0], in, in[2][0] != '\0' ? 3 : 2);
    tsr_onnx__attribute_int(c, node, "axis", -1);
    tsr_onnx__attribute_float(c, node, "epsilon", fixed_double(c, "eps"));
    return true;
}

/* ---- images ---- */

static void pair(const tsr_onnx_call *c, Onnx__NodeProto *node, const char *name,
                 const char *field_name)
{
    int64_t v[] = {fixed(c, field_name, 0), fixed(c, field_name, 1)};
    tsr_onnx__attribute_ints(c, node, name, v, 2);
}

static void windows(const tsr_onnx_call *c, Onnx__NodeProto *node)
{
    pair(c, node, "kernel_shape", "kernel");
    pair(c, node, "strides", "stride");
    int64_t p[] = {fixed(c, "padding", 0), fixed(c, "padding", 1)};
    tsr_onnx__attribute_ints(c, node, "pads", (const int64_t[]){p[0], p[1], p[0], p[1]}, 4);
}

static bool convolution(const tsr_onnx_call *c, const translation *entry)
{
    bool bias = c->in[2][0] != '\0', transposed = strcmp(entry->onnx, "ConvTranspose") == 0;
    Onnx__NodeProto *node = tsr_onnx__node(c, entry->onnx, c->out[0], c->in, bias ? 3 : 2);
    windows(c, node);
    pair(c, node, "dilations", "dilation");
    tsr_onnx__attribute_int(c, node, "group", fixed(c, "groups", 0));
    if (!transposed) return true;
    int64_t extra[2];
    for (int d = 0; d < 2; d++) {
        int64_t least = (in_size(c, 0, 2 + d).at[0] - 1) * fixed(c, "stride", d) -
                        2 * fixed(c, "padding", d) +
                        fixed(c, "dilation", d) * (fixed(c, "kernel", d) - 1) + 1;
        extra[d] = out_size(c, 2 + d).at[0] - least;
    }
    tsr_onnx__attribute_ints(c, node, "output_padding", extra, 2);
    return true;
}

static bool patch_embed(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    bool bias = c->in[2][0] != '\0';
    Onnx__NodeProto *node = tsr_onnx__node(c, "Conv", c->out[0], c->in, bias ? 3 : 2);
    int64_t kernel[] = {tsr_tensor_size(input(c, 1), 2), tsr_tensor_size(input(c, 1), 3)};
    tsr_onnx__attribute_ints(c, node, "kernel_shape", kernel, 2);
    tsr_onnx__attribute_ints(c, node, "strides", kernel, 2);
    return true;
}

static bool pool(const tsr_onnx_call *c, const translation *entry)
{
    Onnx__NodeProto *node = TSR_ONNX_NODE(c, entry->onnx, c->out[0], c->in[0]);
    windows(c, node);
    if (strcmp(entry->onnx, "AveragePool") == 0) {
        bool exclude = fixed(c, "exclude_padding", 0) != 0;
        tsr_onnx__attribute_int(c, node, "count_include_pad", !exclude);
    }
    return true;
}

static bool adaptive_pool(const tsr_onnx_call *c, const translation *entry)
{
    tsr_onnx_int h = out_size(c, 2), w = out_size(c, 3);
    for (int t = 0; t < c->n_traces; t++) {
        if (h.at[t] != 1 || w.at[t] != 1) return false;
    }
    return same(c, entry);
}

/* How Resize is told the size: by sizes, or by factors that were given; each for all four dimensions. */
struct resize_axis {
    bool by_factor, fixed_factor;
    double factor, rest; /* factor in = out + rest */
};

/* False where Resize would not compute what ours does. */
static bool resize_axis(const tsr_onnx_call *c, int d, struct resize_axis *a)
{
    bool bicubic = fixed(c, "mode", 0) == TSR_INTERPOLATION_BICUBIC;
    tsr_onnx_int in = in_size(c, 0, 2 + d), out = out_size(c, 2 + d);
    *a = (struct resize_axis){.fixed_factor = true};
    for (int t = 0; t < c->n_traces; t++) {
        double factor = tsr_trace_step_double(c->step[t], "scale", d);
        bool given = factor != 0.0 && !(out.at[t] == in.at[t] && !bicubic);
        double rest = factor * (double)in.at[t] - (double)out.at[t];
        if (t == 0) *a = (struct resize_axis){given, true, factor, rest};
        if (given != a->by_factor) return false;
        if (!given) continue;
        if ((int64_t)floorf((float)in.at[t] * (float)factor) != out.at[t]) return false;
        if (factor != a->factor) a->fixed_factor = false;
        if (fabs(rest - a->rest) > 1e-9) return false;
    }
    return a->fixed_factor || tsr_onnx__is_fixed(c, in);
}

/* The factors of the four dimensions: (out + rest) / in where it varies. */
static const char *resize_factors(const tsr_onnx_call *c, const struct resize_axis axes[2])
{
    const char *parts[4];
    for (int d = 0; d < 4; d++) {
        tsr_tensor *one = tsr_full(TSR_DTYPE_F32, TSR_SHAPE(1), d < 2 ? 1.0 : axes[d - 2].factor);
        if (d < 2 || axes[d - 2].fixed_factor) {
            parts[d] = tsr_onnx__constant(c, one);
            continue;
        }
        const struct resize_axis *a = &axes[d - 2];
        const char *out = cast_to(c, tsr_onnx__dim(c, out_size(c, d)), TSR_DTYPE_F32, NULL);
        const char *rest = tsr_onnx__constant_scalar(c, TSR_DTYPE_F32, a->rest);
        const char *in =
            tsr_onnx__constant_scalar(c, TSR_DTYPE_F32, (double)in_size(c, 0, d).at[0]);
        parts[d] = TSR_ONNX_VALUE(c, "Div", TSR_ONNX_VALUE(c, "Add", out, rest), in);
    }
    Onnx__NodeProto *node = tsr_onnx__node(c, "Concat", NULL, parts, 4);
    tsr_onnx__attribute_int(c, node, "axis", 0);
    return node->output[0];
}

static const char *number(const tsr_onnx_call *c, double v)
{
    return tsr_onnx__constant_scalar(c, dtype(c), v);
}

/* Keys' kernel with a = -1/2 of x >= 0. */
static const char *keys(const tsr_onnx_call *c, const char *x)
{
    const char *near = TSR_ONNX_VALUE(c, "Mul", x, number(c, 1.5));
    near = TSR_ONNX_VALUE(c, "Mul", TSR_ONNX_VALUE(c, "Sub", near, number(c, 2.5)), x);
    near = TSR_ONNX_VALUE(c, "Add", TSR_ONNX_VALUE(c, "Mul", near, x), number(c, 1.0));
    const char *z = TSR_ONNX_VALUE(c, "Clip", x, number(c, 0.0), number(c, 2.0)); /* 0 there */
    const char *far = TSR_ONNX_VALUE(c, "Mul", TSR_ONNX_VALUE(c, "Sub", z, number(c, 5.0)), z);
    far = TSR_ONNX_VALUE(c, "Mul", TSR_ONNX_VALUE(c, "Add", far, number(c, 8.0)), z);
    far = TSR_ONNX_VALUE(c, "Mul", TSR_ONNX_VALUE(c, "Sub", far, number(c, 4.0)), number(c, -0.5));
    return TSR_ONNX_VALUE(c, "Where", TSR_ONNX_VALUE(c, "Less", x, number(c, 1.0)), near, far);
}

/* Bicubic weights [out, in] of an axis whose new size is known when the graph runs: antialiased() in ops/interpolate.c. */
static const char *antialias_weights(const tsr_onnx_call *c, int d)
{
    int64_t in = in_size(c, 0, d).at[0];
    const char *out = tsr_onnx__dim(c, out_size(c, d)), *one = number(c, 1.0);
    const char *step =
        TSR_ONNX_VALUE(c, "Div", number(c, (double)in), cast_to(c, out, dtype(c), NULL));
    const char *first = tsr_onnx__constant_scalar(c, TSR_DTYPE_I64, 0.0);
    const char *i = TSR_ONNX_VALUE(c, "CumSum", TSR_ONNX_VALUE(c, "Expand", one, out), first);
    const char *centre =
        TSR_ONNX_VALUE(c, "Mul", TSR_ONNX_VALUE(c, "Sub", i, number(c, 0.5)), step);
    const char *column = tsr_onnx__constant_ints(c, (const int64_t[]){-1, 1}, 2);
    centre = TSR_ONNX_VALUE(c, "Reshape", centre, column);
    tsr_tensor *j = tsr_cumsum(tsr_full(dtype(c), TSR_SHAPE(in), 1.0), 0);
    const char *x =
        TSR_ONNX_VALUE(c, "Sub", tsr_onnx__constant(c, tsr_affine(j, 1.0, -0.5)), centre);
    x = TSR_ONNX_VALUE(c, "Div", TSR_ONNX_VALUE(c, "Abs", x), TSR_ONNX_VALUE(c, "Max", step, one));
    const char *w = keys(c, x);
    const char *rows = tsr_onnx__constant_ints(c, (const int64_t[]){1}, 1);
    return TSR_ONNX_VALUE(c, "Div", w, TSR_ONNX_VALUE(c, "ReduceSum", w, rows));
}

/* Resize has no antialias in operator set 17. Where all sizes are fixed the definition does it. */
static bool antialias(const tsr_onnx_call *c)
{
    bool varies = false;
    for (int d = 2; d < 4; d++) {
        if (!tsr_onnx__is_fixed(c, in_size(c, 0, d))) return false;
        varies = varies || !tsr_onnx__is_fixed(c, out_size(c, d));
        for (int t = 0; t < c->n_traces; t++) {
            if (tsr_trace_step_double(c->step[t], "scale", d - 2) != 0.0) return false;
        }
    }
    if (!varies) return false;
    const char *rows = antialias_weights(c, 2), *columns = antialias_weights(c, 3);
    Onnx__NodeProto *turned = TSR_ONNX_NODE(c, "Transpose", NULL, columns);
    tsr_onnx__attribute_ints(c, turned, "perm", (const int64_t[]){1, 0}, 2);
    const char *y = TSR_ONNX_VALUE(c, "MatMul", c->in[0], turned->output[0]);
    TSR_ONNX_NODE(c, "MatMul", c->out[0], rows, y);
    return true;
}

static bool interpolate(const tsr_onnx_call *c, const translation *entry)
{
    (void)entry;
    int64_t mode = fixed(c, "mode", 0);
    if (mode == TSR_INTERPOLATION_NEAREST) return false; /* may differ by rounding */
    if (fixed(c, "antialias", 0) != 0) return mode == TSR_INTERPOLATION_BICUBIC && antialias(c);
    struct resize_axis axes[2];
    if (!resize_axis(c, 0, &axes[0]) || !resize_axis(c, 1, &axes[1])) return false;
    if (axes[0].by_factor != axes[1].by_factor) return false;
    bool corners = fixed(c, "align_corners", 0) != 0, by_factor = axes[0].by_factor && !corners;
    const char *factors = "", *sizes = "";
    if (by_factor) {
        factors = resize_factors(c, axes);
    } else {
        tsr_onnx_int v[4];
        for (int d = 0; d < 4; d++) v[d] = out_size(c, d);
        sizes = tsr_onnx__ints(c, v, 4);
    }
    const char *in[] = {c->in[0], "", factors, sizes};
    Onnx__NodeProto *node = tsr_onnx__node(c, "Resize", c->out[0], in, by_factor ? 3 : 4);
    bool bicubic = mode == TSR_INTERPOLATION_BICUBIC;
    tsr_onnx__attribute_text(c, node, "mode", bicubic ? "cubic" : "linear");
    tsr_onnx__attribute_text(c, node, "coordinate_transformation_mode",
                             corners ? "align_corners" : "half_pixel");
    if (bicubic) tsr_onnx__attribute_float(c, node, "cubic_coeff_a", -0.75);
    return true;
}

/* ---- the table ---- */

static const translation table[] = {
    {"abs", same, "Abs"},
    {"adaptive_avg_pool2d", adaptive_pool, "GlobalAveragePool"},
    {"add", same, "Add"},
    {"affine", affine, NULL},
    {"argmax", extremum, "ArgMax"},
    {"argmin", extremum, "ArgMin"},
    {"avg_pool2d", pool, "AveragePool"},
    {"cast", cast, NULL},
    {"clamp", clamp, NULL},
    {"concat", concat, NULL},
    {"contiguous", same, "Identity"},
    {"conv2d", convolution, "Conv"},
    {"conv_transpose2d", convolution, "ConvTranspose"},
    {"cos", same, "Cos"},
    {"cumsum", cumsum, NULL},
    {"div", same, "Div"},
    {"eq", same, "Equal"},
    {"erf", same, "Erf"},
    {"exp", same, "Exp"},
    {"expand", expand, NULL},
    {"flip", flip, NULL},
    {"gather", gather, "GatherElements"},
    {"gather_rows", gather, "Gather"},
    {"ge", same, "GreaterOrEqual"},
    {"gt", same, "Greater"},
    {"interpolate", interpolate, NULL},
    {"layer_norm", layer_norm, NULL},
    {"le", same, "LessOrEqual"},
    {"linear", linear, NULL},
    {"log", same, "Log"},
    {"log_softmax", softmax, "LogSoftmax"},
    {"logsumexp", extremum, "ReduceLogSumExp"},
    {"lt", same, "Less"},
    {"matmul", same, "MatMul"},
    {"max", extremum, "ReduceMax"},
    {"max_pool2d", pool, "MaxPool"},
    {"maximum", same, "Max"},
    {"mean", reduce, "ReduceMean"},
    {"min", extremum, "ReduceMin"},
    {"minimum", same, "Min"},
    {"mse", mse, NULL},
    {"mul", same, "Mul"},
    {"ne", not_equal, NULL},
    {"neg", same, "Neg"},
    {"one_hot", one_hot, NULL},
    {"pad", pad, NULL},
    {"patch_embed", patch_embed, NULL},
    {"permute", permute, NULL},
    {"pow", same, "Pow"},
    {"relu", same, "Relu"},
    {"reshape", reshape, NULL},
    {"roll", roll, NULL},
    {"rsqrt", rsqrt, NULL},
    {"sigmoid", same, "Sigmoid"},
    {"sin", same, "Sin"},
    {"slice", slice, NULL},
    {"softmax", softmax, "Softmax"},
    {"softplus", same, "Softplus"},
    {"split", split, NULL},
    {"sqrt", same, "Sqrt"},
    {"sub", same, "Sub"},
    {"sum", reduce, "ReduceSum"},
    {"sum_to", reduce, "ReduceSum"},
    {"tanh", same, "Tanh"},
    {"where", where, NULL},
};

bool tsr_onnx__translate(const tsr_onnx_call *c)
{
    const char *name = c->step[0]->op->name;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(table[i].op, name) == 0) return table[i].write(c, &table[i]);
    }
    return false;
}
