/* Geometry of sliding windows, and the copies between images and columns. */
#include "ops/windows.h"
#include "autograd/loop.h"

#include <inttypes.h>

bool tsr_windows__has_four_dims(const char *op, const char *argument, const tsr_tensor *x)
{
    if (tsr_tensor_ndim(x) == 4) return true;
    char got[TSR_SHAPE_TEXT];
    tsr_fail(TSR_STATUS_SHAPE, "%s: %s has shape %s, expected four dimensions", op, argument,
             tsr_shape_text(tsr_tensor_shape(x), got));
    return false;
}

bool tsr_windows__is_images(const char *op, const char *argument, const tsr_tensor *x)
{
    tsr_dtype dtype = tsr_tensor_dtype(x);
    if (dtype != TSR_DTYPE_F32 && dtype != TSR_DTYPE_F64) {
        tsr_fail(TSR_STATUS_DTYPE, "%s: %s is %s, expected f32 or f64", op, argument,
                 tsr_dtype_name(dtype));
        return false;
    }
    return tsr_windows__has_four_dims(op, argument, x);
}

/* Sizes are kept below this, so that no index computation overflows. */
#define MOST INT32_MAX

static bool pair_is_in_range(const char *op, const char *argument, const int64_t pair[2],
                             int64_t least)
{
    for (int d = 0; d < 2; d++) {
        if (pair[d] >= least && pair[d] <= MOST) continue;
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "%s: %s is [%" PRId64 ", %" PRId64 "], expected %" PRId64 " or more", op, argument,
                 pair[0], pair[1], least);
        return false;
    }
    return true;
}

bool tsr_windows__attributes(const char *op, int64_t kh, int64_t kw,
                             const tsr_conv_options *options, tsr_windows *windows)
{
    *windows = (tsr_windows){.kernel = {kh, kw}, .stride = {1, 1}, .dilation = {1, 1}};
    for (int d = 0; options != NULL && d < 2; d++) {
        windows->padding[d] = options->padding[d];
        if (options->stride[d] != 0) windows->stride[d] = options->stride[d];
        if (options->dilation[d] != 0) windows->dilation[d] = options->dilation[d];
    }
    return pair_is_in_range(op, "kernel", windows->kernel, 1) &&
           pair_is_in_range(op, "stride", windows->stride, 1) &&
           pair_is_in_range(op, "padding", windows->padding, 0) &&
           pair_is_in_range(op, "dilation", windows->dilation, 1);
}

bool tsr_windows__pool(const char *op, const tsr_pool_options *options, int64_t h, int64_t w,
                       tsr_windows *windows)
{
    if (options == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "%s: options is NULL, expected at least a kernel", op);
        return false;
    }
    tsr_conv_options conv = {.padding = {options->padding[0], options->padding[1]}};
    for (int d = 0; d < 2; d++) {
        conv.stride[d] = options->stride[d] != 0 ? options->stride[d] : options->kernel[d];
    }
    if (!tsr_windows__attributes(op, options->kernel[0], options->kernel[1], &conv, windows)) {
        return false;
    }
    for (int d = 0; d < 2; d++) {
        /* Then every window has a cell inside. */
        if (conv.padding[d] <= options->kernel[d] / 2) continue;
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "%s: padding is [%" PRId64 ", %" PRId64
                 "], expected at most half the kernel [%" PRId64 ", %" PRId64 "]",
                 op, conv.padding[0], conv.padding[1], options->kernel[0], options->kernel[1]);
        return false;
    }
    return tsr_windows__place(op, h, w, windows);
}

bool tsr_windows__place(const char *op, int64_t h, int64_t w, tsr_windows *windows)
{
    windows->in[0] = h;
    windows->in[1] = w;
    for (int d = 0; d < 2; d++) {
        int64_t span = windows->dilation[d] * (windows->kernel[d] - 1) + 1;
        int64_t room = windows->in[d] + 2 * windows->padding[d];
        if (room < span || windows->in[d] < 1) {
            tsr_fail(TSR_STATUS_SHAPE,
                     "%s: image is %" PRId64 " x %" PRId64 " with padding [%" PRId64 ", %" PRId64
                     "], smaller than a window of %" PRId64 " x %" PRId64,
                     op, h, w, windows->padding[0], windows->padding[1],
                     windows->dilation[0] * (windows->kernel[0] - 1) + 1,
                     windows->dilation[1] * (windows->kernel[1] - 1) + 1);
            return false;
        }
        windows->out[d] = (room - span) / windows->stride[d] + 1;
    }
    return true;
}

tsr_conv_options tsr_windows__options(const tsr_windows *windows)
{
    tsr_conv_options options = {0};
    for (int d = 0; d < 2; d++) {
        options.stride[d] = windows->stride[d];
        options.padding[d] = windows->padding[d];
        options.dilation[d] = windows->dilation[d];
    }
    return options;
}

/* The windows lo .. hi - 1 of a row whose cell at offset (window 0's place) lies inside 0 .. in - 1. */
static void inside(int64_t offset, int64_t stride, int64_t in, int64_t out, int64_t *lo,
                   int64_t *hi)
{
    *lo = offset >= 0 ? 0 : (-offset + stride - 1) / stride;
    *hi = offset >= in ? 0 : (in - offset + stride - 1) / stride;
    if (*hi > out) *hi = out;
    if (*lo > *hi) *lo = *hi;
}

/* static void gather(...): one row of columns from a row of an image. static void add(...): the transpose. */
#define ROW_LOOPS(T, gather, add)                                                                  \
    static void gather(T *restrict column, const T *restrict x, int64_t lo, int64_t hi,            \
                       int64_t stride, int64_t out)                                                \
    {                                                                                              \
        for (int64_t j = 0; j < lo; j++) column[j] = 0;                                            \
        if (stride == 1) {                                                                         \
            for (int64_t j = lo; j < hi; j++) column[j] = x[j - lo];                               \
        } else {                                                                                   \
            for (int64_t j = lo; j < hi; j++) column[j] = x[(j - lo) * stride];                    \
        }                                                                                          \
        for (int64_t j = hi; j < out; j++) column[j] = 0;                                          \
    }                                                                                              \
    static void add(const T *restrict column, T *restrict x, int64_t lo, int64_t hi,               \
                    int64_t stride)                                                                \
    {                                                                                              \
        if (stride == 1) {                                                                         \
            for (int64_t j = lo; j < hi; j++) x[j - lo] += column[j];                              \
        } else {                                                                                   \
            for (int64_t j = lo; j < hi; j++) x[(j - lo) * stride] += column[j];                   \
        }                                                                                          \
    }

ROW_LOOPS(float, gather32, add32)
ROW_LOOPS(double, gather64, add64)

/* Cell (kh, kw) of the windows in output row i, of one channel: where its row of columns and its row of the image lie. */
typedef struct cell_row {
    int64_t column; /* index of the row's first element in columns */
    int64_t x;      /* of the image's element that window lo holds */
    int64_t lo, hi; /* windows whose cell is inside */
} cell_row;

static cell_row find_row(const tsr_windows *w, int64_t row, int64_t i, int64_t first, int64_t n)
{
    int64_t cells = w->kernel[0] * w->kernel[1], channel = row / cells, cell = row % cells;
    int64_t y = i * w->stride[0] - w->padding[0] + cell / w->kernel[1] * w->dilation[0];
    int64_t offset = cell % w->kernel[1] * w->dilation[1] - w->padding[1];
    cell_row r = {.column = (row * n + i - first) * w->out[1]};
    if (y >= 0 && y < w->in[0]) inside(offset, w->stride[1], w->in[1], w->out[1], &r.lo, &r.hi);
    if (r.lo < r.hi) r.x = (channel * w->in[0] + y) * w->in[1] + offset + r.lo * w->stride[1];
    return r;
}

/* One row of columns: of a cell of the windows, of a channel. */
static void gather_row(const tsr_windows *w, tsr_dtype dtype, int64_t row, const void *x,
                       int64_t first, int64_t n, void *columns)
{
    for (int64_t i = first; i < first + n; i++) {
        cell_row r = find_row(w, row, i, first, n);
        if (dtype == TSR_DTYPE_F32) {
            gather32((float *)columns + r.column, (const float *)x + r.x, r.lo, r.hi, w->stride[1],
                     w->out[1]);
        } else {
            gather64((double *)columns + r.column, (const double *)x + r.x, r.lo, r.hi,
                     w->stride[1], w->out[1]);
        }
    }
}

static void add_row(const tsr_windows *w, tsr_dtype dtype, int64_t row, const void *columns,
                    int64_t first, int64_t n, void *x)
{
    for (int64_t i = first; i < first + n; i++) {
        cell_row r = find_row(w, row, i, first, n);
        if (dtype == TSR_DTYPE_F32) {
            add32((const float *)columns + r.column, (float *)x + r.x, r.lo, r.hi, w->stride[1]);
        } else {
            add64((const double *)columns + r.column, (double *)x + r.x, r.lo, r.hi, w->stride[1]);
        }
    }
}

void tsr_windows__columns(const tsr_windows *w, tsr_dtype dtype, int64_t channels, const void *x,
                          int64_t first, int64_t n, void *columns, bool parallel)
{
    int64_t rows = channels * w->kernel[0] * w->kernel[1];
    TSR_PARALLEL_FOR(row, rows, parallel ? rows * n * w->out[1] : 0,
                     gather_row(w, dtype, row, x, first, n, columns));
}

void tsr_windows__add_columns(const tsr_windows *w, tsr_dtype dtype, int64_t channels,
                              const void *columns, int64_t first, int64_t n, void *x, bool parallel)
{
    int64_t cells = w->kernel[0] * w->kernel[1];
    /* Windows overlap inside a channel only: a thread has whole channels, and goes through them in one order. */
    TSR_PARALLEL_FOR(channel, channels, parallel ? channels * cells * n * w->out[1] : 0,
                     for (int64_t cell = 0; cell < cells; cell++)
                         add_row(w, dtype, channel * cells + cell, columns, first, n, x));
}
