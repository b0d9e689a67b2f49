/*
 * ops: the operators. Each is one file, with its derivation; each records itself on the tape of its thread.
 *
 * For all of them: tensors are f32 or f64 unless said otherwise, both operands of one type; inputs may be strided views;
 * docs/precision.md lists those that take bf16 too, and what they then compute in;
 * NULL in gives NULL out; a failure sets the sticky status with a message that names operator, argument, got and wanted.
 * Shapes are written with letters, `...` for any leading dimensions. dim -1 is the last dimension. Names and meanings
 * are PyTorch's where PyTorch has the operator.
 */
#ifndef TSR_OPS_H
#define TSR_OPS_H

#include "autograd/autograd.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Elementwise, with NumPy's broadcasting: a [...], b [...] -> [...]. */
TSR_API tsr_tensor *tsr_add(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_sub(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_mul(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_div(tsr_tensor *a, tsr_tensor *b);
/* a ^ b. The gradient of b is 0 where a is 0. */
TSR_API tsr_tensor *tsr_pow(tsr_tensor *a, tsr_tensor *b);
/* The larger or smaller; where equal, the gradient is shared half and half. */
TSR_API tsr_tensor *tsr_maximum(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_minimum(tsr_tensor *a, tsr_tensor *b);
/* x * scale + shift with constants. */
TSR_API tsr_tensor *tsr_affine(tsr_tensor *x, double scale, double shift);

/* Comparisons, any type, broadcast: BOOL results, no gradient. */
TSR_API tsr_tensor *tsr_eq(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_ne(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_lt(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_le(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_gt(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_ge(tsr_tensor *a, tsr_tensor *b);
/* condition (BOOL or U8) ? a : b, all three broadcast. */
TSR_API tsr_tensor *tsr_where(tsr_tensor *condition, tsr_tensor *a, tsr_tensor *b);
/* x with value where mask (BOOL or U8, broadcast to x's shape) is set; no gradient flows there. */
TSR_API tsr_tensor *tsr_masked_fill(tsr_tensor *x, tsr_tensor *mask, double value);

/* Elementwise functions of one tensor. */
TSR_API tsr_tensor *tsr_neg(tsr_tensor *x);
TSR_API tsr_tensor *tsr_exp(tsr_tensor *x);
TSR_API tsr_tensor *tsr_log(tsr_tensor *x);
TSR_API tsr_tensor *tsr_sqrt(tsr_tensor *x);
TSR_API tsr_tensor *tsr_rsqrt(tsr_tensor *x); /* 1 / sqrt(x) */
TSR_API tsr_tensor *tsr_abs(tsr_tensor *x);   /* gradient 0 at 0 */
TSR_API tsr_tensor *tsr_sin(tsr_tensor *x);
TSR_API tsr_tensor *tsr_cos(tsr_tensor *x);
TSR_API tsr_tensor *tsr_tanh(tsr_tensor *x);
TSR_API tsr_tensor *tsr_erf(tsr_tensor *x);
TSR_API tsr_tensor *tsr_sigmoid(tsr_tensor *x);
TSR_API tsr_tensor *tsr_relu(tsr_tensor *x); /* gradient 0 at 0 */
/* x Phi(x) (Hendrycks & Gimpel 2016); tanh: their approximation 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). Fused. */
TSR_API tsr_tensor *tsr_gelu(tsr_tensor *x, bool tanh);
TSR_API tsr_tensor *tsr_silu(tsr_tensor *x);     /* x sigmoid(x). Fused. */
TSR_API tsr_tensor *tsr_softplus(tsr_tensor *x); /* log(1 + e^x) */
/* min(max(x, lo), hi); the gradient passes where lo <= x <= hi. */
TSR_API tsr_tensor *tsr_clamp(tsr_tensor *x, double lo, double hi);

/* Reductions over dims[0 .. n_dims) (n_dims 0: over all). keepdim keeps them with size 1. */
TSR_API tsr_tensor *tsr_sum(tsr_tensor *x, const int *dims, int n_dims, bool keepdim);
TSR_API tsr_tensor *tsr_mean(tsr_tensor *x, const int *dims, int n_dims, bool keepdim);
/* sum (x - mean)^2 / (n - correction): correction 1 is the unbiased estimate. Fused. */
TSR_API tsr_tensor *tsr_var(tsr_tensor *x, const int *dims, int n_dims, int correction,
                            bool keepdim);
/* Over one dimension. max and min: equal extrema share the gradient evenly. */
TSR_API tsr_tensor *tsr_max(tsr_tensor *x, int dim, bool keepdim);
TSR_API tsr_tensor *tsr_min(tsr_tensor *x, int dim, bool keepdim);
TSR_API tsr_tensor *tsr_argmax(tsr_tensor *x, int dim,
                               bool keepdim); /* I64, the first of equals; no gradient */
TSR_API tsr_tensor *tsr_argmin(tsr_tensor *x, int dim, bool keepdim);
TSR_API tsr_tensor *tsr_logsumexp(tsr_tensor *x, int dim, bool keepdim); /* Fused. */
TSR_API tsr_tensor *tsr_cumsum(tsr_tensor *x, int dim);
/* x summed down to a shape that broadcasts to x's: the transpose of broadcasting. */
TSR_API tsr_tensor *tsr_sum_to(tsr_tensor *x, tsr_shape shape);

/* Views: no copy unless said. Any type. They share x's storage: writing to one writes to the other. */
/* One size may be -1: what is left. Copies where the strides do not allow a view. */
TSR_API tsr_tensor *tsr_reshape(tsr_tensor *x, tsr_shape shape);
TSR_API tsr_tensor *tsr_permute(tsr_tensor *x,
                                const int *dims); /* output dimension d is x's dims[d] */
TSR_API tsr_tensor *tsr_transpose(tsr_tensor *x, int dim0, int dim1);
TSR_API tsr_tensor *tsr_slice(tsr_tensor *x, int dim, int64_t start, int64_t end,
                              int64_t step); /* [start, end), negative: from the back; step >= 1 */
TSR_API tsr_tensor *tsr_select(tsr_tensor *x, int dim, int64_t index); /* drops dim */
TSR_API tsr_tensor *tsr_expand(tsr_tensor *x, tsr_shape shape); /* sizes 1 (or missing) stretch */
TSR_API tsr_tensor *tsr_squeeze(tsr_tensor *x, int dim);
TSR_API tsr_tensor *tsr_unsqueeze(tsr_tensor *x, int dim);
TSR_API tsr_tensor *tsr_flatten(tsr_tensor *x, int start, int end); /* dims start..end become one */
/* n equal views along dim; the size must be a multiple of n. */
TSR_API tsr_status tsr_split(tsr_tensor *x, int dim, int n, tsr_tensor **parts);

/* Copies. Any type. */
TSR_API tsr_tensor *tsr_contiguous(tsr_tensor *x); /* x itself where it is contiguous */
/* To nearest; integers saturate, NaN becomes 0 in them. x itself where it has the type. Gradient between floating types. */
TSR_API tsr_tensor *tsr_cast(tsr_tensor *x, tsr_dtype dtype);
/* Parts of one type. concat: sizes agree but along dim; stack: all agree, dim is the new dimension's. */
TSR_API tsr_tensor *tsr_concat(tsr_tensors parts, int dim);
TSR_API tsr_tensor *tsr_stack(tsr_tensors parts, int dim);
/* before[d], after[d] elements of value around each dimension; negative: cut away. */
TSR_API tsr_tensor *tsr_pad(tsr_tensor *x, const int64_t *before, const int64_t *after,
                            double value);
TSR_API tsr_tensor *tsr_roll(tsr_tensor *x, int dim, int64_t shift);
TSR_API tsr_tensor *tsr_flip(tsr_tensor *x, int dim);

/* Indexing. index is I64; out of range is an error, and so is a negative one. Reading takes any type; sums, where indices
 * meet, are f32 or f64 and made in the order of the index. */
TSR_API tsr_tensor *tsr_index_select(tsr_tensor *x, int dim, tsr_tensor *index /* [n] */);
/* y[i] = x[index[i]] and its transpose, y [n, ...] with y[index[i]] += x[i]: rows of dimension 0; index [m]. */
TSR_API tsr_tensor *tsr_gather_rows(tsr_tensor *x, tsr_tensor *index);
TSR_API tsr_tensor *tsr_scatter_rows(tsr_tensor *x, tsr_tensor *index, int64_t n);
/* Along dim, j: y[i, j] = x[i, index[i, j]], index of x's shape but along dim. The transpose: y[i, index[i, j]] += x[i, j]
 * into size n along dim, index of x's shape. */
TSR_API tsr_tensor *tsr_gather(tsr_tensor *x, int dim, tsr_tensor *index);
TSR_API tsr_tensor *tsr_scatter_add(tsr_tensor *x, int dim, tsr_tensor *index, int64_t n);
TSR_API tsr_tensor *tsr_one_hot(tsr_tensor *index, int64_t n,
                                tsr_dtype dtype); /* [...] -> [..., n] */
/* weight [V, D], index [...] -> [..., D]. */
TSR_API tsr_tensor *tsr_embedding(tsr_tensor *weight, tsr_tensor *index);
/* The k largest along dim in falling order (ties: lower index first; NaN is largest), and their indices (may be NULL). */
TSR_API tsr_tensor *tsr_topk(tsr_tensor *x, int64_t k, int dim, tsr_tensor **indices);
/* Sorted along dim (stable; NaN is largest), and the indices (may be NULL). */
TSR_API tsr_tensor *tsr_sort(tsr_tensor *x, int dim, bool descending, tsr_tensor **indices);

/* Products. a [..., M, K] b [..., K, N] -> [..., M, N], leading dimensions broadcast; transposed views cost no copy. */
TSR_API tsr_tensor *tsr_matmul(tsr_tensor *a, tsr_tensor *b);
/* x [..., I], weight [O, I], bias [O] or NULL -> [..., O]: x weight^T + bias. Fused. */
TSR_API tsr_tensor *tsr_linear(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias);
/* tsr_gelu(tsr_linear(x, weight, bias), tanh), bit for bit, in one buffer where nothing is recorded. Fused. */
TSR_API tsr_tensor *tsr_linear_gelu(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias, bool tanh);

/* Softmax over dim. Fused. */
TSR_API tsr_tensor *tsr_softmax(tsr_tensor *x, int dim);
TSR_API tsr_tensor *tsr_log_softmax(tsr_tensor *x, int dim);
/* Rows of losses, not yet averaged. logits [..., K]; Fused. */
/* target I64 [...] (ignore_index: loss 0, no gradient) -> [...]: -log softmax(logits)[target]. */
TSR_API tsr_tensor *tsr_cross_entropy(tsr_tensor *logits, tsr_tensor *target, int64_t ignore_index);
/* target [..., K] of weights -> [...]: -sum target log softmax(logits). */
TSR_API tsr_tensor *tsr_cross_entropy_soft(tsr_tensor *logits, tsr_tensor *target);
/* Self-distillation (Caron et al. 2021, equations 1 to 3): student [S, R, K] and teacher [V, R, K] logits, center [K] (f32 where
 * these are bf16), temperatures above 0; pairs BOOL [S, V], NULL: all set. -> [S, R], f32 of bf16: the sum over each v with
 * pairs[s, v] of -sum_k softmax((teacher[v] - center) / teacher_temp)_k log softmax(student[s] / student_temp)_k. */
TSR_API tsr_tensor *tsr_distillation_loss(tsr_tensor *student, tsr_tensor *teacher,
                                          tsr_tensor *center, tsr_tensor *pairs,
                                          double student_temp, double teacher_temp);
/* Elementwise losses, same shapes; no reduction. logits with targets in [0, 1]; x, y; log-probabilities and probabilities. */
TSR_API tsr_tensor *tsr_binary_cross_entropy(tsr_tensor *logits, tsr_tensor *target);
TSR_API tsr_tensor *tsr_mse(tsr_tensor *x, tsr_tensor *y);
TSR_API tsr_tensor *tsr_smooth_l1(tsr_tensor *x, tsr_tensor *y, double beta);
TSR_API tsr_tensor *
tsr_kl_div(tsr_tensor *log_p,
           tsr_tensor *target); /* target (log target - log_p), 0 where target is 0 */

/* Normalization. */
/* x [..., D], weight [D], bias [D] (either may be NULL); biased variance. Fused. */
TSR_API tsr_tensor *tsr_layer_norm(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias, double eps);
/* tsr_cast(tsr_layer_norm(...), dtype) in one pass; dtype is that of x, or bf16 with an f32 x (else DTYPE). Fused. */
TSR_API tsr_tensor *tsr_layer_norm_cast(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias,
                                        double eps, tsr_dtype dtype);
/* x [B, C, ...]. running_mean and running_var [C], or NULL: in training, batch statistics are used and the running ones
 * become (1 - momentum) old + momentum new (variance unbiased); else the running ones are used. Fused. */
TSR_API tsr_tensor *tsr_batch_norm(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias,
                                   tsr_tensor *running_mean, tsr_tensor *running_var, bool training,
                                   double momentum, double eps);
TSR_API tsr_tensor *tsr_group_norm(tsr_tensor *x, int64_t groups, tsr_tensor *weight,
                                   tsr_tensor *bias, double eps);
/* x / max(|x|_2, eps) over dim. Fused. */
TSR_API tsr_tensor *tsr_l2_normalize(tsr_tensor *x, int dim, double eps);
/* v [O, I], g [O, 1] -> g v / |v| by rows (Salimans & Kingma 2016). Fused. */
TSR_API tsr_tensor *tsr_weight_norm(tsr_tensor *v, tsr_tensor *g);

/* Zeroes elements with probability p, scales the rest by 1 / (1 - p). p 0: x itself. x [B, ...]: which elements is a
 * function of tsr_rng_row(rng, row) and of the place in the row, so that the parts of a batch drop what the batch does. */
TSR_API tsr_tensor *tsr_dropout(tsr_tensor *x, double p, tsr_rng rng);
/* The same for whole samples: x [B, ...], x / keep * floor(keep + u), u of tsr_rng_row(rng, row). timm's drop_path. */
TSR_API tsr_tensor *tsr_drop_path(tsr_tensor *x, double p, tsr_rng rng);

typedef struct tsr_residual_norm_options {
    double eps; /* layer_norm's */
    double p;   /* drop_path's, and its rng */
    tsr_rng rng;
    bool narrow; /* the norm in bf16; x is f32 */
} tsr_residual_norm_options;
/* A residual branch and the norm that reads it: *sum = x + tsr_drop_path(y gamma, p, rng); returns tsr_layer_norm(*sum, weight,
 * bias, eps). x and y [B, ..., D], of one type or y bf16 with an f32 x; gamma, weight, bias [D], each may be NULL. NULL and *sum
 * NULL on failure. Fused. */
TSR_API tsr_tensor *tsr_residual_layer_norm(tsr_tensor *x, tsr_tensor *y, tsr_tensor *gamma,
                                            tsr_tensor *weight, tsr_tensor *bias,
                                            const tsr_residual_norm_options *options,
                                            tsr_tensor **sum);

/* Images: x [B, C, H, W]. */
typedef struct tsr_conv_options {
    int64_t stride[2], padding[2], dilation[2]; /* (rows, columns); stride and dilation 0 mean 1 */
    int64_t output_padding[2];                  /* conv_transpose2d only */
    int64_t groups;                             /* 0 means 1 */
} tsr_conv_options;
/* weight [O, C / groups, KH, KW], bias [O] or NULL. Fused. */
TSR_API tsr_tensor *tsr_conv2d(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias,
                               const tsr_conv_options *options);
/* Its transpose: weight [C, O / groups, KH, KW], output_padding below the stride;
 * rows (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1. Fused. */
TSR_API tsr_tensor *tsr_conv_transpose2d(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias,
                                         const tsr_conv_options *options);
/* A convolution whose stride is its kernel: weight [D, C, P, Q] -> [B, D, H / P, W / Q] (rest cut), in memory token by
 * token: flattened and transposed to [B, N, D] it is contiguous. Fused. */
TSR_API tsr_tensor *tsr_patch_embed(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias);
/* The windows as columns [B, C KH KW, L], L = OH OW of them; cells outside x are 0. */
TSR_API tsr_tensor *tsr_unfold(tsr_tensor *x, int64_t kh, int64_t kw,
                               const tsr_conv_options *options);
/* Its transpose: such columns added up in images [B, C, h, w]. */
TSR_API tsr_tensor *tsr_fold(tsr_tensor *x, int64_t h, int64_t w, int64_t kh, int64_t kw,
                             const tsr_conv_options *options);
typedef struct tsr_pool_options {
    int64_t kernel[2], stride[2], padding[2]; /* stride 0 means the kernel */
    bool exclude_padding; /* average: divide by the cells inside (count_include_pad false) */
} tsr_pool_options;
/* Padding is at most half the kernel. max: the first of equals, and NaN where there is one. avg: Fused. */
TSR_API tsr_tensor *tsr_max_pool2d(tsr_tensor *x, const tsr_pool_options *options);
TSR_API tsr_tensor *tsr_avg_pool2d(tsr_tensor *x, const tsr_pool_options *options);
/* Means over h x w rectangles that cover x: rows floor(i H / h) .. ceil((i + 1) H / h) - 1. Fused. */
TSR_API tsr_tensor *tsr_adaptive_avg_pool2d(tsr_tensor *x, int64_t h, int64_t w);
typedef enum tsr_interpolation {
    TSR_INTERPOLATION_NEAREST = 0,
    TSR_INTERPOLATION_BILINEAR,
    TSR_INTERPOLATION_BICUBIC, /* a = -0.75, with antialias -0.5: as PyTorch */
} tsr_interpolation;
typedef struct tsr_interpolate_options {
    tsr_interpolation mode;
    bool align_corners, antialias;
    double scale
        [2]; /* 0: out / in. Given: used for coordinates as it is (PyTorch's recompute_scale_factor false) */
} tsr_interpolate_options;
/* To h x w. Fused. */
TSR_API tsr_tensor *tsr_interpolate(tsr_tensor *x, int64_t h, int64_t w,
                                    const tsr_interpolate_options *options);

typedef struct tsr_attention_options {
    double scale;   /* 0: 1 / sqrt(D) */
    double dropout; /* of the attention weights */
    tsr_rng rng;    /* of the dropout */
} tsr_attention_options;
/* softmax(scale q k^T + bias) v: q [..., M, D], k [..., N, D], v [..., N, E] -> [..., M, E]; bias (broadcast to
 * [..., M, N]) or NULL; a mask is a bias of -INFINITY. weights, if not NULL, receives softmax's result [..., M, N] (without
 * gradient). Fused. */
TSR_API tsr_tensor *tsr_scaled_dot_product_attention(tsr_tensor *q, tsr_tensor *k, tsr_tensor *v,
                                                     tsr_tensor *bias,
                                                     const tsr_attention_options *options,
                                                     tsr_tensor **weights);

#ifdef __cplusplus
}
#endif

#endif
