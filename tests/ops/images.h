/* What the tests of the ops on images share: convolutions, and gradients by both ways. */
#ifndef TSR_TESTS_OPS_IMAGES_H
#define TSR_TESTS_OPS_IMAGES_H

#include "tests/ops/reference.h"

/* x[b, c, h, w], 0 outside. */
static inline double image_get(tsr_tensor *x, int64_t b, int64_t c, int64_t h, int64_t w)
{
    if (h < 0 || h >= tsr_tensor_size(x, 2) || w < 0 || w >= tsr_tensor_size(x, 3)) return 0.0;
    return reference_get(x, (const int64_t[]){b, c, h, w});
}

struct convolution {
    tsr_tensor *x, *weight, *bias;
    tsr_conv_options options; /* no zeros where they mean 1 */
};

/* conv2d's element at ix. */
static inline double convolution_at(const int64_t *ix, const void *args)
{
    const struct convolution *a = args;
    const tsr_conv_options *o = &a->options;
    int64_t channels = tsr_tensor_size(a->weight, 1);
    int64_t group = ix[1] / (tsr_tensor_size(a->weight, 0) / o->groups);
    double sum = a->bias != NULL ? tsr_tensor_get(a->bias, ix[1]) : 0.0;
    for (int64_t c = 0; c < channels; c++) {
        for (int64_t i = 0; i < tsr_tensor_size(a->weight, 2); i++) {
            for (int64_t j = 0; j < tsr_tensor_size(a->weight, 3); j++) {
                int64_t h = ix[2] * o->stride[0] - o->padding[0] + i * o->dilation[0];
                int64_t w = ix[3] * o->stride[1] - o->padding[1] + j * o->dilation[1];
                sum += reference_get(a->weight, (const int64_t[]){ix[1], c, i, j}) *
                       image_get(a->x, ix[0], group * channels + c, h, w);
            }
        }
    }
    return sum;
}

/* Windows of a kernel along an axis of n elements; less than 1 where none fits. */
static inline int64_t window_count(int64_t n, int64_t kernel, int64_t stride, int64_t padding,
                                   int64_t dilation)
{
    int64_t room = n + 2 * padding - dilation * (kernel - 1) - 1;
    return room < 0 ? 0 : room / stride + 1;
}

/* Gradients of y = f(inputs), all of which require one: by the op's kernel, and with create_graph by its definition. */
static inline void assert_gradients_agree(tsr_tape *tape, tsr_tensor *y, tsr_tensors inputs,
                                          double tolerance)
{
    tsr_tensor *v = reference_normal(tsr_tensor_dtype(y), tsr_tensor_shape(y), 99);
    tsr_tensor *kernel[4], *definition[4];
    assert_true(inputs.n <= 4);
    tsr_grad(tape, TSR_TENSORS(y), TSR_TENSORS(v), inputs, definition,
             &(tsr_backward_options){.create_graph = true});
    tsr_grad(tape, TSR_TENSORS(y), TSR_TENSORS(v), inputs, kernel,
             &(tsr_backward_options){.retain_graph = true});
    assert_ok();
    for (int i = 0; i < inputs.n; i++) assert_close(kernel[i], definition[i], tolerance);
}

#endif
