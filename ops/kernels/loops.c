/*
 * The kernels of kernels.h. Compiled once for each instruction set and type: TSR_REAL is the type, TSR_KERNELS the name of
 * the table. `omp simd reduction` lets the compiler keep a sum in as many lanes as it likes; for one build of a kernel the
 * order is fixed.
 */
#include "ops/kernels/kernels.h"
#include "ops/kernels/math.h"

#include <math.h>

typedef TSR_REAL real;

#define IS_F32 (sizeof(real) == sizeof(float))

static inline real exponential(real x)
{
    return IS_F32 ? (real)tsr_math__expf((float)x) : (real)exp((double)x);
}

/* Of x <= 0, as a softmax's always is. */
static inline real exponential_nonpositive(real x)
{
    return IS_F32 ? (real)tsr_math__expf_nonpositive((float)x) : (real)exp((double)x);
}

/* ---- rows ---- */

static void fill_rows(void *y_, const void *v_, int64_t rows, int64_t d)
{
    real *restrict y = y_;
    const real *restrict v = v_;
    for (int64_t r = 0; r < rows; r++, y += d) {
        for (int64_t j = 0; j < d; j++) y[j] = v[j];
    }
}

/* Four rows at a time: the sums are loaded and stored once for all four. */
static void column_sums(void *sums_, const void *x_, int64_t rows, int64_t d)
{
    real *restrict sums = sums_;
    const real *restrict x = x_;
    for (int64_t j = 0; j < d; j++) sums[j] = 0;
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4, x += 4 * d) {
        for (int64_t j = 0; j < d; j++) {
            sums[j] += (x[j] + x[d + j]) + (x[2 * d + j] + x[3 * d + j]);
        }
    }
    for (; r < rows; r++, x += d) {
        for (int64_t j = 0; j < d; j++) sums[j] += x[j];
    }
}

static void add_to(void *y_, const void *x_, int64_t n)
{
    real *restrict y = y_;
    const real *restrict x = x_;
    for (int64_t i = 0; i < n; i++) y[i] += x[i];
}

static void add_scaled(void *z_, const void *x_, const void *y_, const void *gamma_, double scale_,
                       int64_t rows, int64_t d)
{
    real *restrict z = z_;
    const real *restrict x = x_, *restrict y = y_, *restrict gamma = gamma_;
    const real scale = (real)scale_;
    for (int64_t r = 0; r < rows; r++, z += d, x += d, y += d) {
        if (scale == 0) {
            for (int64_t j = 0; j < d; j++) z[j] = x[j];
        } else if (gamma != NULL) {
            for (int64_t j = 0; j < d; j++) z[j] = x[j] + scale * (y[j] * gamma[j]);
        } else {
            for (int64_t j = 0; j < d; j++) z[j] = x[j] + scale * y[j];
        }
    }
}

static void add_scaled_backward(void *dy_, void *dgamma_, const void *g_, const void *y_,
                                const void *gamma_, double scale_, int64_t rows, int64_t d)
{
    real *restrict dy = dy_, *restrict dgamma = dgamma_;
    const real *restrict g = g_, *restrict y = y_, *restrict gamma = gamma_;
    const real scale = (real)scale_;
    for (int64_t r = 0; r < rows; r++, g += d) {
        if (dgamma != NULL && scale != 0) {
            for (int64_t j = 0; j < d; j++) dgamma[j] += scale * (y[r * d + j] * g[j]);
        }
        if (dy == NULL) continue;
        if (gamma != NULL) {
            for (int64_t j = 0; j < d; j++) dy[r * d + j] = scale * (g[j] * gamma[j]);
        } else {
            for (int64_t j = 0; j < d; j++) dy[r * d + j] = scale * g[j];
        }
    }
}

/* ---- gelu ---- */

/*
 * Phi(x), the normal distribution's function, and its density at x. In f32: the tail Q(a) = e^(-a^2 / 2) h(a), a = |x|,
 * where h(a) = erfcx(a / sqrt 2) / 2 is a polynomial of degree 8 in 1 / (1 + 0.3 a), fitted for the smallest relative error
 * on [0, 14] (6e-8 before rounding).
 */
static inline real normal(real x, real *density)
{
    if (!IS_F32) {
        *density = (real)(0.398942280401432677940 * exp(-0.5 * (double)(x * x)));
        return (real)(0.5 * erfc(-0.707106781186547524401 * (double)x));
    }
    float a = fabsf((float)x), e = tsr_math__expf(-0.5f * a * a), t = 1.0f / (1.0f + 0.3f * a);
    float h = 3.83782811e-2f;
    h = h * t - 1.69166073e-1f;
    h = h * t + 2.28660006e-1f;
    h = h * t - 7.65063975e-2f;
    h = h * t + 1.42535474e-1f;
    h = h * t + 9.46835425e-2f;
    h = h * t + 1.21920338e-1f;
    h = h * t + 1.19487689e-1f;
    h = h * t + 7.16884815e-6f;
    *density = (real)(0.398942280f * e);
    float q = h * e;
    return (real)(x < 0 ? q : 1.0f - q);
}

/* (1 + tanh u) / 2 = 1 / (1 + e^(-2u)) with u = sqrt(2 / pi) (x + 0.044715 x^3). */
static inline real gate(real x)
{
    const real two_u = (real)1.59576912160573071176 * (x + (real)0.044715 * x * x * x);
    return 1 / (1 + exponential(-two_u));
}

static void gelu(void *y_, const void *x_, int64_t n, bool tanh)
{
    real *y = y_;
    const real *x = x_;
    if (tanh) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) y[i] = x[i] * gate(x[i]);
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        real density;
        y[i] = x[i] * normal(x[i], &density);
    }
}

static void gelu_backward(void *dx_, const void *x_, const void *g_, int64_t n, bool tanh)
{
    real *restrict dx = dx_;
    const real *restrict x = x_, *restrict g = g_;
    if (tanh) {
        for (int64_t i = 0; i < n; i++) {
            const real s = gate(x[i]);
            const real slope = (real)1.59576912160573071176 * (1 + (real)0.134145 * x[i] * x[i]);
            dx[i] = g[i] * (s + x[i] * s * (1 - s) * slope);
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        real density, phi = normal(x[i], &density);
        dx[i] = g[i] * (phi + x[i] * density);
    }
}

/* ---- layer_norm ---- */

static void layer_norm(void *y_, void *stats_, const void *x_, const void *w_, const void *b_,
                       int64_t rows, int64_t d, double eps)
{
    real *restrict y = y_, *restrict stats = stats_;
    const real *restrict x = x_, *restrict w = w_, *restrict b = b_;
    for (int64_t r = 0; r < rows; r++, x += d, y += d) {
        real sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < d; j++) sum += x[j];
        const real mean = sum / (real)d;
#pragma omp simd reduction(+ : squares)
        for (int64_t j = 0; j < d; j++) squares += (x[j] - mean) * (x[j] - mean);
        const real scale = (real)(1.0 / sqrt((double)squares / (double)d + eps));
        stats[2 * r] = mean;
        stats[2 * r + 1] = scale;
        if (w != NULL && b != NULL) {
            for (int64_t j = 0; j < d; j++) y[j] = (x[j] - mean) * scale * w[j] + b[j];
        } else if (w != NULL) {
            for (int64_t j = 0; j < d; j++) y[j] = (x[j] - mean) * scale * w[j];
        } else {
            for (int64_t j = 0; j < d; j++) y[j] = (x[j] - mean) * scale;
            for (int64_t j = 0; b != NULL && j < d; j++) y[j] += b[j];
        }
    }
}

/* One row: the sums of wg and wg xhat; then dx, dz added. w NULL stands for ones, dz for zeros. */
static inline void layer_norm_row(real *restrict dx, const real *restrict g, const real *restrict x,
                                  const real *restrict w, const real *restrict dz, real mean,
                                  real scale, int64_t d)
{
    real a = 0, b = 0;
    if (w != NULL) {
#pragma omp simd reduction(+ : a, b)
        for (int64_t j = 0; j < d; j++) {
            const real wg = w[j] * g[j];
            a += wg;
            b += wg * ((x[j] - mean) * scale);
        }
    } else {
#pragma omp simd reduction(+ : a, b)
        for (int64_t j = 0; j < d; j++) {
            a += g[j];
            b += g[j] * ((x[j] - mean) * scale);
        }
    }
    a /= (real)d;
    b /= (real)d;
    if (w != NULL && dz != NULL) {
        for (int64_t j = 0; j < d; j++) {
            dx[j] = dz[j] + scale * (w[j] * g[j] - a - (x[j] - mean) * scale * b);
        }
    } else if (w != NULL) {
        for (int64_t j = 0; j < d; j++) {
            dx[j] = scale * (w[j] * g[j] - a - (x[j] - mean) * scale * b);
        }
    } else {
        for (int64_t j = 0; j < d; j++) dx[j] = scale * (g[j] - a - (x[j] - mean) * scale * b);
        for (int64_t j = 0; dz != NULL && j < d; j++) dx[j] += dz[j];
    }
}

static void layer_norm_backward(void *dx_, void *dw_, void *db_, const void *g_, const void *x_,
                                const void *w_, const void *stats_, const void *dz_, int64_t rows,
                                int64_t d)
{
    real *restrict dx = dx_, *restrict dw = dw_, *restrict db = db_;
    const real *restrict g = g_, *restrict x = x_, *restrict stats = stats_, *restrict dz = dz_;
    for (int64_t r = 0; r < rows; r++, x += d, g += d) {
        const real mean = stats[2 * r], scale = stats[2 * r + 1];
        if (dx != NULL) {
            layer_norm_row(dx + r * d, g, x, w_, dz != NULL ? dz + r * d : NULL, mean, scale, d);
        }
        if (dw != NULL && db != NULL) {
            for (int64_t j = 0; j < d; j++) {
                dw[j] += g[j] * ((x[j] - mean) * scale);
                db[j] += g[j];
            }
        } else if (dw != NULL) {
            for (int64_t j = 0; j < d; j++) dw[j] += g[j] * ((x[j] - mean) * scale);
        } else if (db != NULL) {
            for (int64_t j = 0; j < d; j++) db[j] += g[j];
        }
    }
}

/* ---- softmax ---- */

/* The maximum; NaN where there is one is of no matter: it comes out of the sum. */
static inline real row_maximum(const real *restrict x, int64_t d)
{
    real m = -(real)INFINITY;
#pragma omp simd reduction(max : m)
    for (int64_t j = 0; j < d; j++) m = x[j] > m ? x[j] : m;
    return m;
}

static void softmax(void *y_, void *stats_, const void *x_, int64_t rows, int64_t d, bool logarithm)
{
    real *restrict y = y_, *restrict stats = stats_;
    const real *restrict x = x_;
    for (int64_t r = 0; r < rows; r++, x += d, y += d) {
        const real m = row_maximum(x, d);
        real s = 0;
        if (logarithm) {
#pragma omp simd reduction(+ : s)
            for (int64_t j = 0; j < d; j++) s += exponential_nonpositive(x[j] - m);
            const real l = (real)log((double)s);
            for (int64_t j = 0; j < d; j++) y[j] = (x[j] - m) - l;
        } else {
#pragma omp simd reduction(+ : s)
            for (int64_t j = 0; j < d; j++) {
                const real e = exponential_nonpositive(x[j] - m);
                y[j] = e;
                s += e;
            }
            const real inverse = 1 / s;
            for (int64_t j = 0; j < d; j++) y[j] *= inverse;
        }
        stats[2 * r] = m;
        stats[2 * r + 1] = s;
    }
}

static void softmax_backward(void *dx_, const void *g_, const void *x_, const void *stats_,
                             int64_t rows, int64_t d, bool logarithm)
{
    real *restrict dx = dx_;
    const real *restrict g = g_, *restrict x = x_, *restrict stats = stats_;
    for (int64_t r = 0; r < rows; r++, x += d, g += d, dx += d) {
        const real m = stats[2 * r], inverse = 1 / stats[2 * r + 1];
        real sum = 0;
        if (logarithm) {
#pragma omp simd reduction(+ : sum)
            for (int64_t j = 0; j < d; j++) sum += g[j];
            sum *= inverse;
            for (int64_t j = 0; j < d; j++) dx[j] = g[j] - sum * exponential_nonpositive(x[j] - m);
        } else {
#pragma omp simd reduction(+ : sum)
            for (int64_t j = 0; j < d; j++) {
                const real y = exponential_nonpositive(x[j] - m) * inverse;
                dx[j] = y;
                sum += y * g[j];
            }
            for (int64_t j = 0; j < d; j++) dx[j] *= g[j] - sum;
        }
    }
}

/* ---- cross entropy ---- */

/* stats[0] = m, the maximum, stats[1] = sum e^(x - m). */
static inline void row_statistics(real *restrict stats, const real *restrict x, int64_t d)
{
    const real m = row_maximum(x, d);
    real s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t j = 0; j < d; j++) s += exponential_nonpositive(x[j] - m);
    stats[0] = m;
    stats[1] = s;
}

static void cross_entropy(void *loss_, void *stats_, const void *x_, const int64_t *target,
                          int64_t ignore, int64_t rows, int64_t d)
{
    real *restrict loss = loss_, *restrict stats = stats_;
    const real *restrict x = x_;
    for (int64_t r = 0; r < rows; r++, x += d, stats += 2) {
        loss[r] = 0;
        if (target[r] == ignore) continue;
        row_statistics(stats, x, d);
        loss[r] = (real)(log((double)stats[1]) - (double)(x[target[r]] - stats[0]));
    }
}

static void cross_entropy_backward(void *dx_, const void *g_, const void *x_, const int64_t *target,
                                   int64_t ignore, const void *stats_, int64_t rows, int64_t d)
{
    real *restrict dx = dx_;
    const real *restrict g = g_, *restrict x = x_, *restrict stats = stats_;
    for (int64_t r = 0; r < rows; r++, x += d, dx += d, stats += 2) {
        if (target[r] == ignore) {
            for (int64_t j = 0; j < d; j++) dx[j] = 0;
            continue;
        }
        const real m = stats[0], scale = g[r] / stats[1];
        for (int64_t j = 0; j < d; j++) dx[j] = scale * exponential_nonpositive(x[j] - m);
        dx[target[r]] -= g[r];
    }
}

static void cross_entropy_soft(void *loss_, void *stats_, const void *x_, const void *t_,
                               int64_t rows, int64_t d, double scale_)
{
    real *restrict loss = loss_, *restrict stats = stats_;
    const real *restrict x = x_, *restrict t = t_;
    const real scale = (real)scale_;
    for (int64_t r = 0; r < rows; r++, x += d, t += d, stats += 3) {
        const real m = row_maximum(x, d);
        real sum = 0, total = 0, product = 0;
#pragma omp simd reduction(+ : sum, total, product)
        for (int64_t j = 0; j < d; j++) {
            const real u = scale * (x[j] - m);
            sum += exponential_nonpositive(u);
            total += t[j];
            product += t[j] * u;
        }
        stats[0] = m;
        stats[1] = sum;
        stats[2] = total;
        loss[r] = (real)((double)total * log((double)sum) - (double)product);
    }
}

static void cross_entropy_soft_backward(void *dx_, void *dt_, const void *g_, const void *x_,
                                        const void *t_, const void *stats_, int64_t rows, int64_t d,
                                        double scale_)
{
    real *restrict dx = dx_, *restrict dt = dt_;
    const real *restrict g = g_, *restrict x = x_, *restrict t = t_, *restrict stats = stats_;
    const real scale = (real)scale_;
    for (int64_t r = 0; r < rows; r++, x += d, t += d, stats += 3) {
        const real m = stats[0], gr = scale * g[r], gp = gr * stats[2] / stats[1];
        if (dx != NULL) {
            for (int64_t j = 0; j < d; j++) {
                dx[r * d + j] = gp * exponential_nonpositive(scale * (x[j] - m)) - gr * t[j];
            }
        }
        if (dt != NULL) {
            const real l = (real)log((double)stats[1]);
            for (int64_t j = 0; j < d; j++) dt[r * d + j] = g[r] * (l - scale * (x[j] - m));
        }
    }
}

static void centered_softmax(void *y_, void *stats_, const void *x_, const void *c_, int64_t rows,
                             int64_t d, double scale_)
{
    real *restrict y = y_, *restrict stats = stats_;
    const real *restrict x = x_, *restrict c = c_;
    const real scale = (real)scale_;
    for (int64_t r = 0; r < rows; r++, x += d, y += d) {
        real m = -(real)INFINITY, s = 0;
#pragma omp simd reduction(max : m)
        for (int64_t j = 0; j < d; j++) m = x[j] - c[j] > m ? x[j] - c[j] : m;
#pragma omp simd reduction(+ : s)
        for (int64_t j = 0; j < d; j++) {
            const real e = exponential_nonpositive(scale * (x[j] - c[j] - m));
            y[j] = e;
            s += e;
        }
        const real inverse = 1 / s;
        for (int64_t j = 0; j < d; j++) y[j] *= inverse;
        stats[2 * r] = m;
        stats[2 * r + 1] = s;
    }
}

static void centered_softmax_again(void *y_, const void *x_, const void *c_, const void *stats_,
                                   int64_t rows, int64_t d, double scale_, bool add)
{
    real *restrict y = y_;
    const real *restrict x = x_, *restrict c = c_, *restrict stats = stats_;
    const real scale = (real)scale_;
    for (int64_t r = 0; r < rows; r++, x += d, y += d) {
        const real m = stats[2 * r], inverse = 1 / stats[2 * r + 1];
        if (add) {
            for (int64_t j = 0; j < d; j++) {
                y[j] += exponential_nonpositive(scale * (x[j] - c[j] - m)) * inverse;
            }
        } else {
            for (int64_t j = 0; j < d; j++) {
                y[j] = exponential_nonpositive(scale * (x[j] - c[j] - m)) * inverse;
            }
        }
    }
}

/* ---- rows of length one ---- */

static void normalize(void *y_, void *norms_, const void *x_, const void *gain_, int64_t rows,
                      int64_t d, double eps)
{
    real *restrict y = y_, *restrict norms = norms_;
    const real *restrict x = x_, *restrict gain = gain_;
    for (int64_t r = 0; r < rows; r++, x += d, y += d) {
        real sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < d; j++) sum += x[j] * x[j];
        norms[r] = (real)sqrt((double)sum);
        const real divisor = norms[r] > (real)eps ? norms[r] : (real)eps;
        const real scale = (gain != NULL ? gain[r] : 1) / divisor;
        for (int64_t j = 0; j < d; j++) y[j] = scale * x[j];
    }
}

static void normalize_backward(void *dx_, void *dgain_, const void *g_, const void *x_,
                               const void *gain_, const void *norms_, int64_t rows, int64_t d,
                               double eps)
{
    real *restrict dx = dx_, *restrict dgain = dgain_;
    const real *restrict g = g_, *restrict x = x_, *restrict gain = gain_, *restrict norms = norms_;
    for (int64_t r = 0; r < rows; r++, x += d, g += d) {
        const bool small = norms[r] <= (real)eps; /* then the divisor is eps, a constant */
        const real inverse = 1 / (small ? (real)eps : norms[r]);
        real along = 0;
#pragma omp simd reduction(+ : along)
        for (int64_t j = 0; j < d; j++) along += g[j] * x[j];
        along *= inverse;
        if (dgain != NULL) dgain[r] = along;
        if (dx == NULL) continue;
        const real scale = (gain != NULL ? gain[r] : 1) * inverse, k = small ? 0 : along * inverse;
        for (int64_t j = 0; j < d; j++) dx[r * d + j] = scale * (g[j] - k * x[j]);
    }
}

/* ---- channels ---- */

static void channel_statistics(void *stats_, void *variance_, const void *x_, const tsr_channels *n,
                               int64_t first, int64_t end, double eps)
{
    real *restrict stats = stats_, *restrict variance = variance_;
    const real *restrict x = x_;
    const double count = (double)(n->b * n->s);
    for (int64_t j = first; j < end; j++) {
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < n->b; i++) {
            const real *xs = x + (i * n->c + j) * n->s;
#pragma omp simd reduction(+ : sum)
            for (int64_t k = 0; k < n->s; k++) sum += (double)xs[k];
        }
        const double mean = sum / count;
        for (int64_t i = 0; i < n->b; i++) {
            const real *xs = x + (i * n->c + j) * n->s;
#pragma omp simd reduction(+ : squares)
            for (int64_t k = 0; k < n->s; k++) {
                squares += ((double)xs[k] - mean) * ((double)xs[k] - mean);
            }
        }
        variance[j] = (real)(squares / count);
        stats[2 * j] = (real)mean;
        stats[2 * j + 1] = (real)(1.0 / sqrt(squares / count + eps));
    }
}

static void channel_normalize(void *y_, const void *x_, const void *stats_, const void *w_,
                              const void *bias_, const tsr_channels *n, int64_t first, int64_t end)
{
    real *restrict y = y_;
    const real *restrict x = x_, *restrict stats = stats_, *restrict w = w_, *restrict bias = bias_;
    for (int64_t i = 0; i < n->b; i++) {
        for (int64_t j = first; j < end; j++) {
            const int64_t at = (i * n->c + j) * n->s, pair = 2 * (i * n->stride + j / n->size);
            const real mean = stats != NULL ? stats[pair] : 0;
            const real scale = (stats != NULL ? stats[pair + 1] : 1) * (w != NULL ? w[j] : 1);
            const real shift = bias != NULL ? bias[j] : 0;
            for (int64_t k = 0; k < n->s; k++) y[at + k] = (x[at + k] - mean) * scale + shift;
        }
    }
}

static void channel_sums(void *sums_, void *products_, const void *g_, const void *x_,
                         const void *stats_, const tsr_channels *n, int64_t first, int64_t end)
{
    real *restrict sums = sums_, *restrict products = products_;
    const real *restrict g = g_, *restrict x = x_, *restrict stats = stats_;
    for (int64_t j = first; j < end; j++) {
        double sum = 0, product = 0;
        for (int64_t i = 0; i < n->b; i++) {
            const int64_t at = (i * n->c + j) * n->s, pair = 2 * (i * n->stride + j / n->size);
            const real mean = stats[pair];
            double s = 0, p = 0;
#pragma omp simd reduction(+ : s, p)
            for (int64_t k = 0; k < n->s; k++) {
                s += (double)g[at + k];
                p += (double)(g[at + k] * (x[at + k] - mean));
            }
            sum += s;
            product += p * (double)stats[pair + 1];
        }
        sums[j] = (real)sum;
        products[j] = (real)product;
    }
}

static void channel_backward(void *dx_, const void *g_, const void *x_, const void *stats_,
                             const void *w_, const void *sums_, const void *products_,
                             const tsr_channels *n, int64_t first, int64_t end)
{
    real *restrict dx = dx_;
    const real *restrict g = g_, *restrict x = x_, *restrict stats = stats_, *restrict w = w_;
    const real *restrict sums = sums_, *restrict products = products_;
    const real count = (real)(n->b * n->s);
    for (int64_t i = 0; i < n->b; i++) {
        for (int64_t j = first; j < end; j++) {
            const int64_t at = (i * n->c + j) * n->s, pair = 2 * (i * n->stride + j / n->size);
            const real mean = stats[pair], r = stats[pair + 1];
            const real scale = r * (w != NULL ? w[j] : 1);
            const real a = sums != NULL ? sums[j] / count : 0;
            const real b = products != NULL ? products[j] / count * r : 0;
            for (int64_t k = 0; k < n->s; k++) {
                dx[at + k] = scale * (g[at + k] - a - (x[at + k] - mean) * b);
            }
        }
    }
}

/* ---- product ---- */

/* The sums of a tile, TILE_ROWS by two vectors, fill three quarters of the registers. */
#if defined(__AVX512F__)
enum { VECTOR_BYTES = 64, TILE_ROWS = 12 };
#elif defined(__AVX2__)
enum { VECTOR_BYTES = 32, TILE_ROWS = 6 };
#else
enum { VECTOR_BYTES = 16, TILE_ROWS = 6 };
#endif
typedef real vector __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
enum { LANES = sizeof(vector) / sizeof(real) };

/* The compiler makes a function of each number of rows and vectors, with the sums in registers. */
static inline __attribute__((always_inline)) void tile(real *c, int64_t c_row, const real *a,
                                                       int64_t a_row, int64_t a_column,
                                                       const real *b, int64_t b_row, int64_t k,
                                                       bool add, int rows, int vectors)
{
    vector sums[TILE_ROWS][2];
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < vectors; j++) sums[i][j] = (vector){0};
    }
    for (int64_t p = 0; p < k; p++, a += a_column, b += b_row) {
        for (int i = 0; i < rows; i++) {
            for (int j = 0; j < vectors; j++) {
                sums[i][j] += a[i * a_row] * *(const vector *)(b + j * LANES);
            }
        }
    }
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < vectors; j++) {
            vector *to = (vector *)(c + i * c_row + j * LANES);
            if (add) sums[i][j] += *to;
            *to = sums[i][j];
        }
    }
}

static void product(void *c_, int64_t c_row, const void *a_, int64_t a_row, int64_t a_column,
                    const void *b_, int64_t b_row, int64_t m, int64_t n, int64_t k, bool add)
{
    const real *a = a_;
    real *c = c_;
    /* Tiles of nearly the same number of rows. */
    int64_t tiles = (m + TILE_ROWS - 1) / TILE_ROWS;
    for (int64_t t = 0, i = 0; t < tiles; t++) {
        int64_t end = (t + 1) * m / tiles;
        for (int64_t j = 0; j < n; j += 2 * LANES) {
            const real *b = (const real *)b_ + j;
#define TILE(rows)                                                                                 \
    case rows:                                                                                     \
        if (n - j >= 2 * LANES) {                                                                  \
            tile(c + j, c_row, a, a_row, a_column, b, b_row, k, add, rows, 2);                     \
        } else {                                                                                   \
            tile(c + j, c_row, a, a_row, a_column, b, b_row, k, add, rows, 1);                     \
        }                                                                                          \
        break
            switch (end - i) {
                TILE(1);
                TILE(2);
                TILE(3);
                TILE(4);
                TILE(5);
                TILE(6);
#if defined(__AVX512F__)
                TILE(7);
                TILE(8);
                TILE(9);
                TILE(10);
                TILE(11);
                TILE(12);
#endif
            }
#undef TILE
        }
        a += (end - i) * a_row;
        c += (end - i) * c_row;
        i = end;
    }
}

/* ---- attention ---- */

typedef real eight __attribute__((vector_size(8 * sizeof(real)), aligned(sizeof(real)), may_alias));

/* Three rounds that interleave rows i and i + 4 take each bit of a row's number to its place among the columns. */
static inline void transpose_8x8(real *y, int64_t ld, const real *x, int64_t row)
{
    eight r[8], s[8];
    for (int i = 0; i < 8; i++) r[i] = *(const eight *)(x + i * row);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++) {
            s[2 * i] = __builtin_shufflevector(r[i], r[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
            s[2 * i + 1] = __builtin_shufflevector(r[i], r[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
        }
        for (int i = 0; i < 8; i++) r[i] = s[i];
    }
    for (int i = 0; i < 8; i++) *(eight *)(y + i * ld) = r[i];
}

static void transpose(void *y_, int64_t ld, const void *x_, int64_t row, int64_t column,
                      int64_t rows, int64_t columns)
{
    real *restrict y = y_;
    const real *restrict x = x_;
    int64_t whole_rows = rows & ~(int64_t)7, squares = column == 1 ? columns & ~(int64_t)7 : 0;
    for (int64_t j = 0; j < squares; j += 8) {
        for (int64_t i = 0; i < whole_rows; i += 8) {
            transpose_8x8(y + j * ld + i, ld, x + i * row + j, row);
        }
    }
    for (int64_t j = 0; j < columns; j++) {
        for (int64_t i = j < squares ? whole_rows : 0; i < ld; i++) {
            y[j * ld + i] = i < rows ? x[i * row + j * column] : 0;
        }
    }
}

static void attention_weights(void *w_, int64_t ld, void *stats_, const void *bias_,
                              int64_t bias_row, int64_t rows, int64_t n, double scale_, bool again)
{
    real *restrict w = w_, *restrict stats = stats_;
    const real *restrict bias = bias_;
    const real scale = (real)scale_;
    for (int64_t r = 0; r < rows; r++, w += ld) {
        real m = -(real)INFINITY;
        if (bias != NULL) {
#pragma omp simd reduction(max : m)
            for (int64_t j = 0; j < n; j++) {
                w[j] = scale * w[j] + bias[r * bias_row + j];
                m = w[j] > m ? w[j] : m;
            }
        } else {
#pragma omp simd reduction(max : m)
            for (int64_t j = 0; j < n; j++) {
                w[j] *= scale;
                m = w[j] > m ? w[j] : m;
            }
        }
        /* Exponentials of whole vectors: the columns beyond n become 0. */
        for (int64_t j = n; j < ld; j++) w[j] = -(real)INFINITY;
        real s = 0;
        if (again) {
            m = stats[2 * r];
            s = stats[2 * r + 1];
            for (int64_t j = 0; j < ld; j++) w[j] = exponential_nonpositive(w[j] - m);
        } else {
#pragma omp simd reduction(+ : s)
            for (int64_t j = 0; j < ld; j++) {
                const real e = exponential_nonpositive(w[j] - m);
                w[j] = e;
                s += e;
            }
            stats[2 * r] = m;
            stats[2 * r + 1] = s;
        }
        const real inverse = 1 / s;
        for (int64_t j = 0; j < ld; j++) w[j] *= inverse;
    }
}

static void attention_backward(void *dw_, void *dbias_, const void *w_, int64_t ld, int64_t rows,
                               int64_t n, double scale_)
{
    real *restrict dw = dw_, *restrict dbias = dbias_;
    const real *restrict w = w_;
    const real scale = (real)scale_;
    for (int64_t r = 0; r < rows; r++, dw += ld, w += ld) {
        real sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < n; j++) sum += w[j] * dw[j];
        if (dbias != NULL) {
            for (int64_t j = 0; j < n; j++) dbias[r * n + j] = w[j] * (dw[j] - sum);
        }
        for (int64_t j = 0; j < n; j++) dw[j] = scale * (w[j] * (dw[j] - sum));
    }
}

extern const tsr_kernels TSR_KERNELS;
const tsr_kernels TSR_KERNELS = {
    .fill_rows = fill_rows,
    .column_sums = column_sums,
    .add_to = add_to,
    .add_scaled = add_scaled,
    .add_scaled_backward = add_scaled_backward,
    .gelu = gelu,
    .gelu_backward = gelu_backward,
    .layer_norm = layer_norm,
    .layer_norm_backward = layer_norm_backward,
    .softmax = softmax,
    .softmax_backward = softmax_backward,
    .cross_entropy = cross_entropy,
    .cross_entropy_backward = cross_entropy_backward,
    .cross_entropy_soft = cross_entropy_soft,
    .cross_entropy_soft_backward = cross_entropy_soft_backward,
    .centered_softmax = centered_softmax,
    .centered_softmax_again = centered_softmax_again,
    .normalize = normalize,
    .normalize_backward = normalize_backward,
    .channel_statistics = channel_statistics,
    .channel_normalize = channel_normalize,
    .channel_sums = channel_sums,
    .channel_backward = channel_backward,
    .product = product,
    .transpose = transpose,
    .attention_weights = attention_weights,
    .attention_backward = attention_backward,
};
