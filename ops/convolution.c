/*
 * A sample's windows are made in stripes of whole output rows, so that the columns stay in the cache and memory for them
 * is bounded. Stripes are shared among threads where there are enough of them; else the threads share each product. Either
 * way an element's sum runs in one order.
 */
#include "ops/convolution.h"
#include "autograd/loop.h"
#include "ops/gemm.h"

#include <inttypes.h>
#include <omp.h>

/* Bytes of columns that a thread makes at a time. */
enum { COLUMNS_BYTES = 4 << 20 };

typedef struct plan {
    size_t size;               /* bytes of an element */
    int64_t channels, filters; /* of one group */
    int64_t cells;             /* rows of the columns: channels KH KW */
    int64_t rows, stripes;     /* output rows in a stripe; stripes of a sample */
    int64_t in, out;           /* elements of a channel of x, of y */
    bool direct;               /* a window is one cell, and x its own columns */
    size_t columns;            /* bytes of a stripe's columns */
} plan;

static plan make_plan(const tsr_convolution *c)
{
    const tsr_windows *w = &c->windows;
    plan p = {.size = tsr_dtype_size(c->dtype),
              .channels = c->channels / c->groups,
              .filters = c->filters / c->groups,
              .in = w->in[0] * w->in[1],
              .out = w->out[0] * w->out[1]};
    p.cells = p.channels * w->kernel[0] * w->kernel[1];
    p.direct = p.cells == p.channels && w->stride[0] == 1 && w->stride[1] == 1 &&
               w->padding[0] == 0 && w->padding[1] == 0;
    int64_t row_bytes = p.cells * w->out[1] * (int64_t)p.size;
    p.rows = p.direct || row_bytes == 0 ? w->out[0] : COLUMNS_BYTES / row_bytes;
    if (p.rows < 1) p.rows = 1;
    if (p.rows > w->out[0]) p.rows = w->out[0];
    p.stripes = (w->out[0] + p.rows - 1) / p.rows;
    p.columns = p.direct ? 0 : (size_t)(row_bytes * p.rows);
    return p;
}

/* Columns for each of the threads; not NULL where none are needed, so that NULL means no memory. */
static char *columns_alloc(const plan *p, int threads)
{
    return tsr_alloc(p->columns * (size_t)threads + 1);
}

/* Elementary operations to share among threads by `tasks` products; 0, so that one thread goes through them all, where
 * they are too few. */
static int64_t outer_work(const tsr_convolution *c, const plan *p, int64_t tasks)
{
    int64_t work = c->batch * c->filters * p->out * p->cells;
    return tasks >= tsr_loop__threads(work) ? work : 0;
}

static tsr_matrix matrix(const void *base, size_t size, int64_t at, int64_t row, int64_t column)
{
    return (tsr_matrix){(char *)base + at * (int64_t)size, row, column};
}

static void fill_plane(tsr_dtype dtype, int64_t plane, int64_t channels, int64_t n,
                       const void *bias, void *x)
{
    if (dtype == TSR_DTYPE_F32) {
        float value = bias != NULL ? ((const float *)bias)[plane % channels] : 0.0f;
        float *at = (float *)x + plane * n;
        for (int64_t i = 0; i < n; i++) at[i] = value;
    } else {
        double value = bias != NULL ? ((const double *)bias)[plane % channels] : 0.0;
        double *at = (double *)x + plane * n;
        for (int64_t i = 0; i < n; i++) at[i] = value;
    }
}

/* x [batch, channels, n] = bias, or 0. */
static void fill(tsr_dtype dtype, int64_t batch, int64_t channels, int64_t n, const void *bias,
                 void *x)
{
    TSR_PARALLEL_FOR(plane, batch * channels, batch * channels * n,
                     fill_plane(dtype, plane, channels, n, bias, x));
}

/* What the stripes of a call share. `inside`: threads share the work within a stripe. */
typedef struct call {
    const tsr_convolution *c;
    plan p;
    const void *weight, *bias;
    char *columns;
    bool inside;
} call;

/* Stripe t, counted through all samples and groups. */
static void apply_stripe(const call *s, int64_t t, const void *x, void *y)
{
    const tsr_convolution *c = s->c;
    const tsr_windows *w = &c->windows;
    const plan *p = &s->p;
    int64_t part = t / p->stripes, group = part % c->groups; /* part: sample and group */
    int64_t first = t % p->stripes * p->rows;
    int64_t n = first + p->rows < w->out[0] ? p->rows : w->out[0] - first;
    const void *image = (const char *)x + (size_t)(part * p->channels * p->in) * p->size;
    const void *columns = image;
    if (!p->direct) {
        void *mine = s->columns + (size_t)omp_get_thread_num() * p->columns;
        tsr_windows__columns(w, c->dtype, p->channels, image, first, n, mine, s->inside);
        columns = mine;
    }
    tsr__gemm(c->dtype, p->filters, n * w->out[1], p->cells,
              matrix(s->weight, p->size, group * p->filters * p->cells, p->cells, 1),
              matrix(columns, p->size, 0, n * w->out[1], 1), s->bias != NULL ? 1.0 : 0.0,
              matrix(y, p->size, part * p->filters * p->out + first * w->out[1], p->out, 1));
}

bool tsr_convolution__apply(const tsr_convolution *c, const void *x, const void *weight,
                            const void *bias, void *y)
{
    call s = {c, make_plan(c), weight, bias, NULL, false};
    int64_t tasks = c->batch * c->groups * s.p.stripes, work = outer_work(c, &s.p, tasks);
    int threads = tsr_loop__threads(work);
    s.inside = threads == 1;
    s.columns = columns_alloc(&s.p, threads);
    if (s.columns == NULL) return false;
    if (bias != NULL) fill(c->dtype, c->batch, c->filters, s.p.out, bias, y);
    TSR_PARALLEL_FOR(t, tasks, work, apply_stripe(&s, t, x, y));
    tsr_free(s.columns);
    return true;
}

/* One group of one sample. Its stripes overlap: a thread has all of them. */
static void transpose_part(const call *s, int64_t part, const void *y, void *x)
{
    const tsr_convolution *c = s->c;
    const tsr_windows *w = &c->windows;
    const plan *p = &s->p;
    void *image = (char *)x + (size_t)(part * p->channels * p->in) * p->size;
    void *mine = s->columns + (size_t)omp_get_thread_num() * p->columns;
    tsr_matrix transposed =
        matrix(s->weight, p->size, part % c->groups * p->filters * p->cells, 1, p->cells);
    for (int64_t first = 0; first < w->out[0]; first += p->rows) {
        int64_t n = first + p->rows < w->out[0] ? p->rows : w->out[0] - first;
        tsr__gemm(c->dtype, p->cells, n * w->out[1], p->filters, transposed,
                  matrix(y, p->size, part * p->filters * p->out + first * w->out[1], p->out, 1),
                  p->direct ? 1.0 : 0.0,
                  matrix(p->direct ? image : mine, p->size, 0, n * w->out[1], 1));
        if (p->direct) continue;
        tsr_windows__add_columns(w, c->dtype, p->channels, mine, first, n, image, s->inside);
    }
}

bool tsr_convolution__transpose(const tsr_convolution *c, const void *y, const void *weight,
                                const void *bias, void *x)
{
    call s = {c, make_plan(c), weight, bias, NULL, false};
    int64_t tasks = c->batch * c->groups, work = outer_work(c, &s.p, tasks);
    int threads = tsr_loop__threads(work);
    s.inside = threads == 1;
    s.columns = columns_alloc(&s.p, threads);
    if (s.columns == NULL) return false;
    fill(c->dtype, c->batch, c->channels, s.p.in, bias, x);
    TSR_PARALLEL_FOR(part, tasks, work, transpose_part(&s, part, y, x));
    tsr_free(s.columns);
    return true;
}

bool tsr_convolution__weight(const tsr_convolution *c, const void *x, const void *dy, void *dweight)
{
    plan p = make_plan(c);
    const tsr_windows *w = &c->windows;
    char *columns = columns_alloc(&p, 1);
    if (columns == NULL) return false;
    fill(c->dtype, 1, 1, c->filters * p.cells, NULL, dweight);
    /* All samples add to the same sums: one after the other, the threads inside each product. */
    for (int64_t part = 0; part < c->batch * c->groups; part++) {
        int64_t group = part % c->groups;
        const void *image = (const char *)x + (size_t)(part * p.channels * p.in) * p.size;
        for (int64_t first = 0; first < w->out[0]; first += p.rows) {
            int64_t n = first + p.rows < w->out[0] ? p.rows : w->out[0] - first;
            if (!p.direct) {
                tsr_windows__columns(w, c->dtype, p.channels, image, first, n, columns, true);
            }
            tsr__gemm(c->dtype, p.filters, p.cells, n * w->out[1],
                      matrix(dy, p.size, part * p.filters * p.out + first * w->out[1], p.out, 1),
                      matrix(p.direct ? image : columns, p.size, 0, 1, n * w->out[1]), 1.0,
                      matrix(dweight, p.size, group * p.filters * p.cells, p.cells, 1));
        }
    }
    tsr_free(columns);
    return true;
}

bool tsr_convolution__shape(const char *op, const tsr_tensor *x, const tsr_tensor *weight,
                            const tsr_tensor *bias, const tsr_conv_options *options,
                            bool transposed, tsr_convolution *c)
{
    if (!tsr_windows__is_images(op, "x", x) || !tsr_windows__is_images(op, "weight", weight)) {
        return false;
    }
    c->dtype = tsr_tensor_dtype(x);
    if (tsr_tensor_dtype(weight) != c->dtype ||
        (bias != NULL && tsr_tensor_dtype(bias) != c->dtype)) {
        tsr_fail(TSR_STATUS_DTYPE, "%s: %s is %s and x is %s: cast one of them", op,
                 tsr_tensor_dtype(weight) != c->dtype ? "weight" : "bias",
                 tsr_dtype_name(tsr_tensor_dtype(weight) != c->dtype ? tsr_tensor_dtype(weight)
                                                                     : tsr_tensor_dtype(bias)),
                 tsr_dtype_name(c->dtype));
        return false;
    }
    c->batch = tsr_tensor_size(x, 0);
    c->groups = options != NULL && options->groups != 0 ? options->groups : 1;
    int64_t channels = tsr_tensor_size(x, 1), filters = tsr_tensor_size(weight, 0);
    /* Weight's second size counts the channels (transposed: the results) of one group. */
    int64_t second = tsr_tensor_size(weight, 1);
    char got[TSR_SHAPE_TEXT], other[TSR_SHAPE_TEXT];
    if (c->groups < 1 || channels % c->groups != 0 || filters % c->groups != 0) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "%s: groups is %" PRId64 ", expected a divisor of x's channels %" PRId64
                 " and of weight's first size %" PRId64,
                 op, c->groups, channels, filters);
        return false;
    }
    if (transposed ? filters != channels : second != channels / c->groups) {
        tsr_fail(TSR_STATUS_SHAPE,
                 "%s: weight has shape %s, expected %" PRId64 " as its %s size (x is %s, groups "
                 "%" PRId64 ")",
                 op, tsr_shape_text(tsr_tensor_shape(weight), got),
                 transposed ? channels : channels / c->groups, transposed ? "first" : "second",
                 tsr_shape_text(tsr_tensor_shape(x), other), c->groups);
        return false;
    }
    c->filters = filters;
    c->channels = second * c->groups;
    int64_t results = transposed ? c->channels : c->filters;
    if (bias != NULL && !tsr_shape_equal(tsr_tensor_shape(bias), TSR_SHAPE(results))) {
        tsr_fail(TSR_STATUS_SHAPE, "%s: bias has shape %s, expected [%" PRId64 "]", op,
                 tsr_shape_text(tsr_tensor_shape(bias), got), results);
        return false;
    }
    return true;
}
