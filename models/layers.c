/* Layers of one operator: its parameters, how they start, and the call. */
#include "models/models.h"

#include <math.h>

tsr_linear_layer *tsr_linear_new(int64_t in, int64_t out, bool bias, tsr_dtype dtype)
{
    tsr_linear_layer *m = tsr_module_new(sizeof *m, "linear", dtype);
    if (m == NULL) return NULL;
    m->weight =
        tsr_module_parameter(&m->module, "weight", TSR_SHAPE(out, in), TSR_INIT_TRUNC_NORMAL(0.02));
    if (bias) {
        m->bias = tsr_module_parameter(&m->module, "bias", TSR_SHAPE(out), TSR_INIT_CONSTANT(0.0));
    }
    return tsr_module_finish(&m->module);
}

tsr_tensor *tsr_linear_forward(const tsr_linear_layer *m, tsr_tensor *x)
{
    if (m == NULL) return NULL;
    tsr_scope scope = tsr_module_enter(&m->module);
    return tsr_module_leave(&scope, tsr_linear(x, m->weight, m->bias));
}

tsr_tensor *tsr_linear_gelu_forward(const tsr_linear_layer *m, tsr_tensor *x)
{
    if (m == NULL) return NULL;
    tsr_scope scope = tsr_module_enter(&m->module);
    return tsr_module_leave(&scope, tsr_linear_gelu(x, m->weight, m->bias, false));
}

tsr_weight_norm_layer *tsr_weight_norm_new(int64_t in, int64_t out, bool frozen, tsr_dtype dtype)
{
    tsr_weight_norm_layer *m = tsr_module_new(sizeof *m, "weight_norm", dtype);
    if (m == NULL) return NULL;
    m->g = tsr_module_parameter(&m->module, "weight_g", TSR_SHAPE(out, 1), TSR_INIT_CONSTANT(1.0));
    m->v = tsr_module_parameter(&m->module, "weight_v", TSR_SHAPE(out, in),
                                TSR_INIT_UNIFORM(1.0 / sqrt((double)in)));
    if (frozen && m->g != NULL) tsr_require_grad(m->g, false);
    return tsr_module_finish(&m->module);
}

tsr_tensor *tsr_weight_norm_weight(const tsr_weight_norm_layer *m)
{
    if (m == NULL) return NULL;
    tsr_scope scope = tsr_module_enter(&m->module);
    return tsr_module_leave(&scope, tsr_weight_norm(m->v, m->g));
}

tsr_tensor *tsr_weight_norm_forward(const tsr_weight_norm_layer *m, tsr_tensor *x)
{
    if (m == NULL) return NULL;
    tsr_scope scope = tsr_module_enter(&m->module);
    return tsr_module_leave(&scope, tsr_linear(x, tsr_weight_norm(m->v, m->g), NULL));
}

tsr_norm_layer *tsr_norm_new(tsr_norm norm, int64_t dim, double eps, tsr_dtype dtype)
{
    if (norm != TSR_NORM_LAYER && norm != TSR_NORM_BATCH) {
        tsr_fail(TSR_STATUS_ARGUMENT, "norm: kind is %d, expected layer or batch", (int)norm);
        return NULL;
    }
    tsr_norm_layer *m = tsr_module_new(sizeof *m, "norm", dtype);
    if (m == NULL) return NULL;
    tsr_module *base = &m->module;
    m->norm = norm;
    m->eps = eps;
    m->weight = tsr_module_parameter(base, "weight", TSR_SHAPE(dim), TSR_INIT_CONSTANT(1.0));
    m->bias = tsr_module_parameter(base, "bias", TSR_SHAPE(dim), TSR_INIT_CONSTANT(0.0));
    if (norm == TSR_NORM_BATCH) {
        m->running_mean = tsr_module_buffer(base, "running_mean", dtype, TSR_SHAPE(dim), 0.0);
        m->running_var = tsr_module_buffer(base, "running_var", dtype, TSR_SHAPE(dim), 1.0);
        m->num_batches_tracked =
            tsr_module_buffer(base, "num_batches_tracked", TSR_DTYPE_I64, TSR_SHAPE_SCALAR, 0.0);
    }
    return tsr_module_finish(base);
}

tsr_tensor *tsr_norm_forward(const tsr_norm_layer *m, tsr_tensor *x)
{
    if (m == NULL || x == NULL) return NULL;
    tsr_scope scope = tsr_module_enter(&m->module);
    if (m->norm == TSR_NORM_LAYER) {
        x = tsr_layer_norm(x, m->weight, m->bias, m->eps);
    } else {
        tsr_shape shape = tsr_tensor_shape(x);
        x = tsr_reshape(x, TSR_SHAPE(-1, tsr_tensor_size(x, -1)));
        x = tsr_batch_norm(x, m->weight, m->bias, m->running_mean, m->running_var,
                           m->module.training, 0.1, m->eps);
        x = tsr_reshape(x, shape);
        if (m->module.training && x != NULL) {
            *(int64_t *)tsr_tensor_data_mut(m->num_batches_tracked) += 1;
        }
    }
    return tsr_module_leave(&scope, x);
}

tsr_tensor *tsr_norm_narrow(const tsr_norm_layer *m, tsr_tensor *x)
{
    if (m == NULL || x == NULL) return NULL;
    if (m->norm != TSR_NORM_LAYER) return tsr_module_narrow(&m->module, tsr_norm_forward(m, x));
    tsr_scope scope = tsr_module_enter(&m->module);
    x = tsr_layer_norm_cast(x, m->weight, m->bias, m->eps, m->module.compute);
    return tsr_module_leave(&scope, x);
}

tsr_conv_layer *tsr_conv_new(int64_t in, int64_t out, int64_t kernel, bool bias,
                             const tsr_conv_options *options, tsr_dtype dtype)
{
    tsr_conv_layer *m = tsr_module_new(sizeof *m, "conv", dtype);
    if (m == NULL) return NULL;
    if (options != NULL) m->options = *options;
    int64_t groups = m->options.groups > 0 ? m->options.groups : 1;
    int64_t fan_in = in / groups * kernel * kernel;
    if (in < 1 || out < 1 || kernel < 1 || in % groups != 0 || out % groups != 0 || fan_in < 1) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "conv: %lld -> %lld channels, kernel %lld, groups %lld; expected 1 or more, and "
                 "groups that divide the channels",
                 (long long)in, (long long)out, (long long)kernel, (long long)groups);
        m->module.failed = true;
        return tsr_module_finish(&m->module);
    }
    /* Kaiming-uniform, a = sqrt 5: b = sqrt(2 / (1 + 5)) sqrt(3 / fan in) = 1 / sqrt(fan in). */
    tsr_init init = TSR_INIT_UNIFORM(1.0 / sqrt((double)fan_in));
    m->weight = tsr_module_parameter(&m->module, "weight",
                                     TSR_SHAPE(out, in / groups, kernel, kernel), init);
    if (bias) m->bias = tsr_module_parameter(&m->module, "bias", TSR_SHAPE(out), init);
    return tsr_module_finish(&m->module);
}

tsr_tensor *tsr_conv_forward(const tsr_conv_layer *m, tsr_tensor *x)
{
    if (m == NULL) return NULL;
    tsr_scope scope = tsr_module_enter(&m->module);
    return tsr_module_leave(&scope, tsr_conv2d(x, m->weight, m->bias, &m->options));
}

tsr_embedding_layer *tsr_embedding_new(int64_t n, int64_t dim, tsr_dtype dtype)
{
    tsr_embedding_layer *m = tsr_module_new(sizeof *m, "embedding", dtype);
    if (m == NULL) return NULL;
    m->weight =
        tsr_module_parameter(&m->module, "weight", TSR_SHAPE(n, dim), TSR_INIT_TRUNC_NORMAL(0.02));
    return tsr_module_finish(&m->module);
}

tsr_tensor *tsr_embedding_forward(const tsr_embedding_layer *m, tsr_tensor *index)
{
    if (m == NULL) return NULL;
    tsr_scope scope = tsr_module_enter(&m->module);
    return tsr_module_leave(&scope, tsr_embedding(m->weight, index));
}

static bool is_rate(const char *name, double p)
{
    if (p >= 0.0 && p < 1.0) return true;
    tsr_fail(TSR_STATUS_ARGUMENT, "%s: p is %g, expected 0 or more, below 1", name, p);
    return false;
}

/* Is anything dropped now? *x becomes NULL where there are no random numbers for it. */
static bool draws(const tsr_module *m, double p, const tsr_rng *rng, tsr_tensor **x)
{
    if (!m->training || p == 0.0) return false;
    if (rng != NULL) return true;
    tsr_fail(TSR_STATUS_STATE, "%s: a rate of %g in training wants an rng", m->name, p);
    *x = NULL;
    return false;
}

tsr_dropout_layer *tsr_dropout_new(double p, tsr_dtype dtype)
{
    tsr_dropout_layer *m =
        is_rate("dropout", p) ? tsr_module_new(sizeof *m, "dropout", dtype) : NULL;
    if (m != NULL) m->p = p;
    return m;
}

tsr_tensor *tsr_dropout_forward(const tsr_dropout_layer *m, tsr_tensor *x, const tsr_rng *rng)
{
    if (m == NULL) return NULL;
    return draws(&m->module, m->p, rng, &x) ? tsr_dropout(x, m->p, *rng) : x;
}

tsr_drop_path_layer *tsr_drop_path_new(double p, tsr_dtype dtype)
{
    tsr_drop_path_layer *m =
        is_rate("drop_path", p) ? tsr_module_new(sizeof *m, "drop_path", dtype) : NULL;
    if (m != NULL) m->p = p;
    return m;
}

tsr_tensor *tsr_drop_path_forward(const tsr_drop_path_layer *m, tsr_tensor *x, const tsr_rng *rng)
{
    if (m == NULL) return NULL;
    return draws(&m->module, m->p, rng, &x) ? tsr_drop_path(x, m->p, *rng) : x;
}

tsr_tensor *tsr_norm_residual(const tsr_norm_layer *m, const tsr_drop_path_layer *drop_path,
                              tsr_tensor *x, tsr_tensor *y, tsr_tensor *gamma, const tsr_rng *rng,
                              tsr_tensor **sum)
{
    *sum = NULL;
    if (m == NULL || drop_path == NULL) return NULL;
    tsr_residual_norm_options o = {.eps = m->eps, .narrow = m->module.compute != m->module.dtype};
    if (draws(&drop_path->module, drop_path->p, rng, &x)) {
        o.p = drop_path->p;
        o.rng = *rng;
    }
    tsr_scope scope = tsr_module_enter(&m->module);
    tsr_tensor *norm = tsr_residual_layer_norm(x, y, gamma, m->weight, m->bias, &o, sum);
    tsr_module_leave_many(&scope, TSR_TENSORS(norm, *sum));
    return norm;
}
