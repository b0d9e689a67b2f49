/* One call of each kernel of ops/kernels/kernels.h: what its test compares and its benchmark times. */
#ifndef TSR_TESTS_OPS_KERNEL_CASES_H
#define TSR_TESTS_OPS_KERNEL_CASES_H

#include "ops/kernels/kernels.h"

#include <stddef.h>

/* Inputs x, g [rows, d]; t [rows, d] in [0, 1); w, b [d]; c [rows]; target [rows], some of them -1. Outputs y [rows, d], which
 * starts as a copy of x, stats [rows, 3], sums and more [rows + d], which start as 0. */
typedef struct kernel_data {
    int64_t rows, d;
    const void *x, *g, *t, *w, *b, *c;
    const int64_t *target;
    void *y, *stats, *sums, *more;
} kernel_data;

typedef struct kernel_case {
    const char *name;
    void (*prepare)(const tsr_kernels *k, const kernel_data *a); /* fills stats; may be NULL */
    void (*call)(const tsr_kernels *k, const kernel_data *a);
    int passes; /* over [rows, d] in memory, read or written */
} kernel_case;

#define KERNEL(name, ...)                                                                          \
    static void case_##name(const tsr_kernels *k, const kernel_data *a)                            \
    {                                                                                              \
        __VA_ARGS__;                                                                               \
    }

#define LESSER(x, y) ((x) < (y) ? (x) : (y))

KERNEL(fill_rows, k->fill_rows(a->y, a->b, a->rows, a->d))
KERNEL(column_sums, k->column_sums(a->sums, a->x, a->rows, a->d))
KERNEL(add_to, k->add_to(a->y, a->g, a->rows * a->d))
KERNEL(add_scaled, k->add_scaled(a->y, a->x, a->g, a->w, 1.25, a->rows, a->d))
KERNEL(add_scaled_plain, k->add_scaled(a->y, a->x, a->g, NULL, 1.25, a->rows, a->d))
KERNEL(add_scaled_backward,
       k->add_scaled_backward(a->y, a->sums, a->g, a->x, a->w, 1.25, a->rows, a->d))
KERNEL(add_scaled_plain_backward,
       k->add_scaled_backward(a->y, NULL, a->g, NULL, NULL, 1.25, a->rows, a->d))
KERNEL(gelu, k->gelu(a->y, a->x, a->rows * a->d, false))
KERNEL(gelu_tanh, k->gelu(a->y, a->x, a->rows * a->d, true))
KERNEL(gelu_backward, k->gelu_backward(a->y, a->x, a->g, a->rows * a->d, false))
KERNEL(gelu_tanh_backward, k->gelu_backward(a->y, a->x, a->g, a->rows * a->d, true))
KERNEL(layer_norm, k->layer_norm(a->y, a->stats, a->x, a->w, a->b, a->rows, a->d, 1e-6))
KERNEL(layer_norm_plain, k->layer_norm(a->y, a->stats, a->x, NULL, NULL, a->rows, a->d, 1e-6))
KERNEL(layer_norm_backward, k->layer_norm_backward(a->y, a->sums, a->more, a->g, a->x, a->w,
                                                   a->stats, NULL, a->rows, a->d))
KERNEL(layer_norm_residual_backward, k->layer_norm_backward(a->y, a->sums, a->more, a->g, a->x,
                                                            a->w, a->stats, a->t, a->rows, a->d))
KERNEL(layer_norm_plain_backward,
       k->layer_norm_backward(a->y, NULL, NULL, a->g, a->x, NULL, a->stats, a->t, a->rows, a->d))
KERNEL(softmax, k->softmax(a->y, a->stats, a->x, a->rows, a->d, false))
KERNEL(log_softmax, k->softmax(a->y, a->stats, a->x, a->rows, a->d, true))
KERNEL(softmax_backward, k->softmax_backward(a->y, a->g, a->x, a->stats, a->rows, a->d, false))
KERNEL(log_softmax_backward, k->softmax_backward(a->y, a->g, a->x, a->stats, a->rows, a->d, true))
KERNEL(cross_entropy, k->cross_entropy(a->y, a->stats, a->x, a->target, -1, a->rows, a->d))
KERNEL(cross_entropy_backward,
       k->cross_entropy_backward(a->y, a->c, a->x, a->target, -1, a->stats, a->rows, a->d))
KERNEL(cross_entropy_soft, k->cross_entropy_soft(a->y, a->stats, a->x, a->t, a->rows, a->d, 1.25))
KERNEL(cross_entropy_soft_backward,
       k->cross_entropy_soft_backward(a->y, NULL, a->c, a->x, a->t, a->stats, a->rows, a->d, 1.25))
KERNEL(cross_entropy_soft_target,
       k->cross_entropy_soft_backward(NULL, a->y, a->c, a->x, a->t, a->stats, a->rows, a->d, 1.25))
KERNEL(centered_softmax, k->centered_softmax(a->y, a->stats, a->x, a->b, a->rows, a->d, 1.5))
KERNEL(centered_softmax_again,
       k->centered_softmax_again(a->y, a->x, a->b, a->stats, a->rows, a->d, 1.5, false))
KERNEL(centered_softmax_added,
       k->centered_softmax_again(a->y, a->x, a->b, a->stats, a->rows, a->d, 1.5, true))
KERNEL(normalize, k->normalize(a->y, a->stats, a->x, a->c, a->rows, a->d, 1e-12))
KERNEL(normalize_backward,
       k->normalize_backward(a->y, NULL, a->g, a->x, a->c, a->stats, a->rows, a->d, 1e-12))

/* x as samples of one channel group each: [rows, d] is [1, rows, d]. */
#define CHANNELS(a) (&(tsr_channels){1, (a)->rows, (a)->d, 0, 1})

KERNEL(channel_statistics,
       k->channel_statistics(a->stats, a->y, a->x, CHANNELS(a), 0, a->rows, 1e-5))
KERNEL(channel_normalize,
       k->channel_normalize(a->y, a->x, a->stats, a->c, a->c, CHANNELS(a), 0, a->rows))
KERNEL(channel_sums,
       k->channel_sums(a->sums, a->more, a->g, a->x, a->stats, CHANNELS(a), 0, a->rows))
KERNEL(channel_backward,
       k->channel_backward(a->y, a->g, a->x, a->stats, a->c, a->c, a->c, CHANNELS(a), 0, a->rows))
/* x^T t, and x by t read as [d, rows]. */
KERNEL(product, k->product(a->y, a->d, a->x, 1, a->d, a->t, a->d, LESSER(a->rows, a->d),
                           a->d / TSR_PRODUCT_COLUMNS * TSR_PRODUCT_COLUMNS, a->rows, false))
KERNEL(product_added,
       k->product(a->y, a->d, a->x, a->d, 1, a->t, a->rows, a->rows,
                  LESSER(a->rows, a->d) / TSR_PRODUCT_COLUMNS * TSR_PRODUCT_COLUMNS, a->d, true))
KERNEL(transpose, k->transpose(a->y, a->rows, a->x, a->d, 1, a->rows, a->d))
KERNEL(attention_weights,
       k->attention_weights(a->y, a->d, a->stats, a->g, a->d, a->rows, a->d, 0.125, false))
KERNEL(attention_weights_again,
       k->attention_weights(a->y, a->d, a->stats, a->g, a->d, a->rows, a->d, 0.125, true))
KERNEL(attention_backward, k->attention_backward(a->y, NULL, a->t, a->d, a->rows, a->d, 0.125))

static const kernel_case kernel_cases[] = {
    {"fill_rows", NULL, case_fill_rows, 1},
    {"column_sums", NULL, case_column_sums, 1},
    {"add_to", NULL, case_add_to, 3},
    {"add_scaled", NULL, case_add_scaled, 3},
    {"add_scaled, no gamma", NULL, case_add_scaled_plain, 3},
    {"add_scaled_backward", NULL, case_add_scaled_backward, 3},
    {"add_scaled_backward, no gamma", NULL, case_add_scaled_plain_backward, 2},
    {"gelu", NULL, case_gelu, 2},
    {"gelu tanh", NULL, case_gelu_tanh, 2},
    {"gelu_backward", NULL, case_gelu_backward, 3},
    {"gelu_backward tanh", NULL, case_gelu_tanh_backward, 3},
    {"layer_norm", NULL, case_layer_norm, 2},
    {"layer_norm, no weight", NULL, case_layer_norm_plain, 2},
    {"layer_norm_backward", case_layer_norm, case_layer_norm_backward, 3},
    {"layer_norm_backward, residual", case_layer_norm, case_layer_norm_residual_backward, 4},
    {"layer_norm_backward, no weight", case_layer_norm, case_layer_norm_plain_backward, 3},
    {"softmax", NULL, case_softmax, 2},
    {"softmax log", NULL, case_log_softmax, 2},
    {"softmax_backward", case_softmax, case_softmax_backward, 3},
    {"softmax_backward log", case_softmax, case_log_softmax_backward, 3},
    {"cross_entropy", NULL, case_cross_entropy, 1},
    {"cross_entropy_backward", case_cross_entropy, case_cross_entropy_backward, 2},
    {"cross_entropy_soft", NULL, case_cross_entropy_soft, 2},
    {"cross_entropy_soft_backward", case_cross_entropy_soft, case_cross_entropy_soft_backward, 3},
    {"cross_entropy_soft_backward, dt", case_cross_entropy_soft, case_cross_entropy_soft_target, 2},
    {"centered_softmax", NULL, case_centered_softmax, 2},
    {"centered_softmax_again", case_centered_softmax, case_centered_softmax_again, 2},
    {"centered_softmax_again added", case_centered_softmax, case_centered_softmax_added, 3},
    {"normalize", NULL, case_normalize, 2},
    {"normalize_backward", case_normalize, case_normalize_backward, 3},
    {"channel_statistics", NULL, case_channel_statistics, 2},
    {"channel_normalize", case_layer_norm, case_channel_normalize, 2},
    {"channel_sums", case_layer_norm, case_channel_sums, 2},
    {"channel_backward", case_layer_norm, case_channel_backward, 3},
    {"product", NULL, case_product, 3},
    {"product added", NULL, case_product_added, 3},
    {"transpose", NULL, case_transpose, 2},
    {"attention_weights", NULL, case_attention_weights, 3},
    {"attention_weights again", case_attention_weights, case_attention_weights_again, 3},
    {"attention_backward", NULL, case_attention_backward, 3},
};

enum { KERNEL_CASES = sizeof kernel_cases / sizeof kernel_cases[0] };

#endif
