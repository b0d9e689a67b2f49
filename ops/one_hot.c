/* y[..., k] = 1 where k = index[...], else 0: index [...] I64 -> [..., n]. Not differentiable. */
#include "ops/index.h"
#include "ops/ops.h"
#include "ops/samples.h"

static const tsr_op op = {.name = "one_hot"};

#define SET(T, one)                                                                                \
    for (int64_t i = 0; i < tsr_tensor_numel(checked); i++) ((T *)yd)[i * n + at[i]] = (one)

tsr_tensor *tsr_one_hot(tsr_tensor *index, int64_t n, tsr_dtype dtype)
{
    if (index == NULL) return NULL;
    tsr_shape shape = tsr_tensor_shape(index);
    if (shape.ndim == TSR_MAX_DIMS) {
        tsr_fail(TSR_STATUS_SHAPE, "one_hot: index has %d dimensions, expected less", shape.ndim);
        return NULL;
    }
    shape.size[shape.ndim++] = n;
    tsr_tensor *checked = tsr_index__checked("one_hot", index, n);
    if (checked == NULL) return NULL;
    tsr_tensor *y = tsr_zeros(dtype, shape);
    if (y == NULL) return NULL;
    const int64_t *at = tsr_tensor_data(checked);
    void *yd = tsr_tensor_data_mut(y);
    switch (dtype) {
    case TSR_DTYPE_F32:
        SET(float, 1.0f);
        break;
    case TSR_DTYPE_F64:
        SET(double, 1.0);
        break;
    case TSR_DTYPE_BF16:
        SET(tsr_bf16, tsr_bf16_from_f32(1.0f));
        break;
    case TSR_DTYPE_I32:
        SET(int32_t, 1);
        break;
    case TSR_DTYPE_I64:
        SET(int64_t, 1);
        break;
    default:
        SET(uint8_t, 1);
        break;
    }
    return tsr_record(&op, NULL, TSR_TENSORS(index), TSR_NO_TENSORS, TSR_TENSORS(y));
}

struct arguments {
    int64_t n;
    tsr_dtype dtype;
};

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const struct arguments *a = ((const tsr_sample *)user)->args;
    out[0] = tsr_one_hot(in.at[0], a->n, a->dtype);
}

static const tsr_sample samples[] = {
    {"labels",
     1,
     1,
     {{.shape = {1, {7}}, .below = 5}},
     call,
     &(const struct arguments){5, TSR_DTYPE_F32},
     .no_gradient = true},
    {"scalar",
     1,
     1,
     {{.shape = {0}, .below = 3}},
     call,
     &(const struct arguments){4, TSR_DTYPE_F64},
     .no_gradient = true},
    {"empty",
     1,
     1,
     {{.shape = {2, {0, 3}}, .below = 3}},
     call,
     &(const struct arguments){3, TSR_DTYPE_I64},
     .no_gradient = true},
};
TSR_SAMPLES(one_hot, samples);
