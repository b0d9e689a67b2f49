/*
 * The hot loops of the operators, written once (loops.c) and compiled for each type and instruction
 * set. The table for this CPU is chosen once. A kernel runs on the calling thread over contiguous
 * rows; its caller cuts the work into pieces whose size depends on shapes alone. Every version
 * gives results within rounding of the portable one, not the same bits. Not installed.
 */
#ifndef TSR_OPS_KERNELS_KERNELS_H
#define TSR_OPS_KERNELS_KERNELS_H

#include "autograd/autograd.h"
#include "ops/kernels/cpu.h"

enum { TSR_PRODUCT_COLUMNS = 16 };

/*
 * x [b, c, s] by channels. Statistics lie in pairs (mean, 1 / sqrt(variance + eps)), of a channel
 * (stride 0, size 1) or of a sample's group of channels: those of (i, j) are pair i * stride + j /
 * size.
 */
typedef struct tsr_channels {
    int64_t b, c, s;
    int64_t stride, size;
} tsr_channels;

/* All pointers are to elements of the table's type, except where a type is given. x [rows, d], y, g
 * and dx likewise; vectors [d]; stats as each says. Outputs that a comment calls optional may be
 * NULL. */
typedef struct tsr_kernels {
    /* y[r] = v for each row. */
    void (*fill_rows)(void *y, const void *v, int64_t rows, int64_t d);
    /* sums[j] = sum_r x[r, j]. */
    void (*column_sums)(void *sums, const void *x, int64_t rows, int64_t d);
    /* y += x, n elements. */
    void (*add_to)(void *y, const void *x, int64_t n);

    /* z = x + scale gamma y, and its transpose: dy = scale gamma g, and dgamma += sum_r scale y g.
     * gamma [d] optional (ones); dy and dgamma optional. scale 0 takes y as 0, also where it is not
     * finite. */
    void (*add_scaled)(void *z, const void *x, const void *y, const void *gamma, double scale,
                       int64_t rows, int64_t d);
    void (*add_scaled_backward)(void *dy, void *dgamma, const void *g, const void *y,
                                const void *gamma, double scale, int64_t rows, int64_t d);

    /* y = x Phi(x), or its tanh approximation, y may be x; dx = g y'. n elements. */
    void (*gelu)(void *y, const void *x, int64_t n, bool tanh);
    void (*gelu_backward)(void *dx, const void *x, const void *g, int64_t n, bool tanh);

    /* stats [rows, 2]: mean and 1 / sqrt(variance + eps). w and b optional. */
    void (*layer_norm)(void *y, void *stats, const void *x, const void *w, const void *b,
                       int64_t rows, int64_t d, double eps);
    /* dx optional, with what else arrived at x, dz [rows, d], optional, added; dw and db optional
     * and added to. */
    void (*layer_norm_backward)(void *dx, void *dw, void *db, const void *g, const void *x,
                                const void *w, const void *stats, const void *dz, int64_t rows,
                                int64_t d);

    /* stats [rows, 2]: the row's maximum m and s = sum e^(x - m). y = e^(x - m) / s, or x - m - log
     * s. */
    void (*softmax)(void *y, void *stats, const void *x, int64_t rows, int64_t d, bool logarithm);
    /* The gradient of either, recomputed from x and stats. */
    void (*softmax_backward)(void *dx, const void *g, const void *x, const void *stats,
                             int64_t rows, int64_t d, bool logarithm);

    /* Losses of rows, with stats [rows, 2] as softmax's. loss[r] = -log softmax(x[r])[target[r]]; 0
     * where target[r] is ignore. dx from g [rows]. */
    void (*cross_entropy)(void *loss, void *stats, const void *x, const int64_t *target,
                          int64_t ignore, int64_t rows, int64_t d);
    void (*cross_entropy_backward)(void *dx, const void *g, const void *x, const int64_t *target,
                                   int64_t ignore, const void *stats, int64_t rows, int64_t d);
    /* loss[r] = -sum_j t[r, j] log softmax(scale x[r])[j], with stats [rows, 3]: the row's maximum
     * m, s = sum e^(scale (x - m)) and the sum of t[r]. dx, dt optional. */
    void (*cross_entropy_soft)(void *loss, void *stats, const void *x, const void *t, int64_t rows,
                               int64_t d, double scale);
    void (*cross_entropy_soft_backward)(void *dx, void *dt, const void *g, const void *x,
                                        const void *t, const void *stats, int64_t rows, int64_t d,
                                        double scale);
    /* y = softmax(scale (x - c)), c [d], with stats [rows, 2]: the maximum m of x - c and s = sum
     * e^(scale (x - c - m)). Again: with the stats that are there, added to y where `add`. */
    void (*centered_softmax)(void *y, void *stats, const void *x, const void *c, int64_t rows,
                             int64_t d, double scale);
    void (*centered_softmax_again)(void *y, const void *x, const void *c, const void *stats,
                                   int64_t rows, int64_t d, double scale, bool add);

    /* y[r] = gain[r] x[r] / max(|x[r]|, eps); norms [rows] = |x[r]|; gain optional. */
    void (*normalize)(void *y, void *norms, const void *x, const void *gain, int64_t rows,
                      int64_t d, double eps);
    /* dx and dgain [rows] optional. */
    void (*normalize_backward)(void *dx, void *dgain, const void *g, const void *x,
                               const void *gain, const void *norms, int64_t rows, int64_t d,
                               double eps);

    /* For channels first <= j < end of all samples. stats and the biased variance [c] of x, each
     * channel alone. */
    void (*channel_statistics)(void *stats, void *variance, const void *x, const tsr_channels *n,
                               int64_t first, int64_t end, double eps);
    /* y = xhat w[j] + bias[j]; xhat is x where stats is NULL; w and bias optional. */
    void (*channel_normalize)(void *y, const void *x, const void *stats, const void *w,
                              const void *bias, const tsr_channels *n, int64_t first, int64_t end);
    /* sums[j] of g and products[j] of g xhat. */
    void (*channel_sums)(void *sums, void *products, const void *g, const void *x,
                         const void *stats, const tsr_channels *n, int64_t first, int64_t end);
    /* dx = w r (g - sums[j] / (b s) - xhat products[j] / (b s)), r the second of stats; sums and
     * products NULL: dx = w r g; w optional. */
    void (*channel_backward)(void *dx, const void *g, const void *x, const void *stats,
                             const void *w, const void *sums, const void *products,
                             const tsr_channels *n, int64_t first, int64_t end);

    /* c [m, n] = a [m, k] b [k, n], added to c where `add`; rows of b and c lie together, n is a
     * multiple of TSR_PRODUCT_COLUMNS. For products so small that packing would cost more than they
     * do. */
    void (*product)(void *c, int64_t c_row, const void *a, int64_t a_row, int64_t a_column,
                    const void *b, int64_t b_row, int64_t m, int64_t n, int64_t k, bool add);

    /* y [columns, ld] = the transpose of x [rows, columns], whose element (i, j) is at x[i * row +
     * j * column]; 0 from column `rows` of y on. */
    void (*transpose)(void *y, int64_t ld, const void *x, int64_t row, int64_t column, int64_t rows,
                      int64_t columns);
    /* In place, scores w [rows, n], rows ld elements apart, to weights softmax(scale w + bias), 0
     * from column n to ld, with stats [rows, 2] as softmax's; again: with the stats that an earlier
     * call left. bias optional, its rows bias_row elements apart. */
    void (*attention_weights)(void *w, int64_t ld, void *stats, const void *bias, int64_t bias_row,
                              int64_t rows, int64_t n, double scale, bool again);
    /* In place, d weights dw to d scores, rows of both ld elements apart; dbias [rows, n]
     * optional. */
    void (*attention_backward)(void *dw, void *dbias, const void *w, int64_t ld, int64_t rows,
                               int64_t n, double scale);
} tsr_kernels;

/* The table of this type (f32 or f64) for the level of tsr_cpu__level(). */
const tsr_kernels *tsr_kernels__get(tsr_dtype dtype);
/* The table of one level; NULL where it was not built. For the kernels' own test and benchmark. */
const tsr_kernels *tsr_kernels__at(tsr_cpu level, tsr_dtype dtype);

#endif
