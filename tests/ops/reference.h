/* What the tests of the ops share: inputs of every type and layout, and comparison with a reference element by element. */
#ifndef TSR_TESTS_OPS_REFERENCE_H
#define TSR_TESTS_OPS_REFERENCE_H

#include "tests/test.h"

#include "ops/ops.h"

/* x's element at ix. */
static inline double reference_get(tsr_tensor *x, const int64_t *ix)
{
    int64_t i = 0;
    for (int d = 0; d < tsr_tensor_ndim(x); d++) i = i * tsr_tensor_size(x, d) + ix[d];
    return tsr_tensor_get(x, i);
}

/* The indices of element i in row-major order. */
static inline void reference_unravel(tsr_shape shape, int64_t i, int64_t *ix)
{
    for (int d = shape.ndim - 1; d >= 0; d--) {
        ix[d] = i % shape.size[d];
        i /= shape.size[d];
    }
}

/* Layouts of a tensor in memory. */
enum { REFERENCE_CONTIGUOUS, REFERENCE_REVERSED, REFERENCE_LAYOUTS };

/* A tensor of the layout: contiguous, or with the dimensions' order in memory reversed and a gap after the first. */
static inline tsr_tensor *reference_empty(tsr_dtype dtype, tsr_shape shape, int layout)
{
    if (layout == REFERENCE_CONTIGUOUS || shape.ndim == 0) return tsr_empty(dtype, shape);
    int64_t strides[TSR_MAX_DIMS], stride = 1;
    for (int d = 0; d < shape.ndim; d++) {
        strides[d] = stride;
        stride *= shape.size[d] + (d == 0);
    }
    return tsr_tensor_view(tsr_zeros(dtype, TSR_SHAPE(stride)), shape, strides, 0);
}

/* Small different numbers that every type holds (bool: 0 and 1), in the layout. */
static inline tsr_tensor *reference_input(tsr_dtype dtype, tsr_shape shape, int layout)
{
    tsr_tensor *values = tsr_empty(TSR_DTYPE_F64, shape);
    tsr_tensor *x = reference_empty(dtype, shape, layout);
    assert_non_null(values);
    assert_non_null(x);
    double *v = tsr_tensor_data_mut(values);
    int64_t n = tsr_tensor_numel(values);
    for (int64_t i = 0; i < n; i++) {
        int64_t mixed = (i * 37 + 11) % 127;
        v[i] = dtype == TSR_DTYPE_BOOL ? (double)(mixed % 2) : (double)mixed;
    }
    tsr_tensor_copy(x, values);
    assert_ok();
    return x;
}

/* Normal numbers. */
static inline tsr_tensor *reference_normal(tsr_dtype dtype, tsr_shape shape, uint64_t seed)
{
    tsr_tensor *x = tsr_empty(dtype, shape);
    tsr_fill_normal(x, tsr_rng_make(seed, 0, 0, 0), 0.0, 1.0);
    assert_ok();
    return x;
}

/* An I64 tensor of these numbers: reference_index(TSR_SHAPE(3), 2, 0, 2). */
#define reference_index(shape, ...) tsr_from(TSR_DTYPE_I64, shape, (const int64_t[]){__VA_ARGS__})

/* I64 numbers in [0, below). */
static inline tsr_tensor *reference_indices(tsr_shape shape, int64_t below, uint64_t seed)
{
    tsr_tensor *t = tsr_empty(TSR_DTYPE_I64, shape);
    int64_t *data = tsr_tensor_data_mut(t);
    tsr_rng rng = tsr_rng_make(seed, 0, 0, 1);
    for (int64_t i = 0; i < tsr_tensor_numel(t); i++) data[i] = tsr_rng_below(&rng, below);
    return t;
}

/* The reference: what y has at ix. */
typedef double reference_at(const int64_t *ix, const void *args);

#define assert_elements(y, shape, at, args)                                                        \
    reference_compare(y, shape, at, args, 0.0, __FILE__, __LINE__)
#define assert_elements_close(y, shape, at, args, tolerance)                                       \
    reference_compare(y, shape, at, args, tolerance, __FILE__, __LINE__)

static inline void reference_compare(tsr_tensor *y, tsr_shape shape, reference_at *at,
                                     const void *args, double tolerance, const char *file, int line)
{
    char got[TSR_SHAPE_TEXT], wanted[TSR_SHAPE_TEXT];
    if (tsr_status_get() != TSR_STATUS_OK || y == NULL) {
        print_error("%s\n", tsr_message());
        _fail(file, line);
    }
    if (!tsr_shape_equal(tsr_tensor_shape(y), shape)) {
        print_error("shape %s, expected %s\n", tsr_shape_text(tsr_tensor_shape(y), got),
                    tsr_shape_text(shape, wanted));
        _fail(file, line);
    }
    for (int64_t i = 0; i < tsr_tensor_numel(y); i++) {
        int64_t ix[TSR_MAX_DIMS] = {0};
        reference_unravel(shape, i, ix);
        double x = tsr_tensor_get(y, i), r = at(ix, args);
        if (x == r || (isnan(x) && isnan(r))) continue;
        if (!(fabs(x - r) <= tolerance * fmax(1.0, fabs(r)))) {
            print_error("element %lld: %.17g, expected %.17g (tolerance %g)\n", (long long)i, x, r,
                        tolerance);
            _fail(file, line);
        }
    }
}

/* y's storage is x's: a view, not a copy. y must not be empty. */
#define assert_view_of(y, x) assert_true(reference_is_view(y, x))

static inline bool reference_is_view(tsr_tensor *y, tsr_tensor *x)
{
    int64_t reach = 1;
    for (int d = 0; d < tsr_tensor_ndim(x); d++) {
        reach += (tsr_tensor_size(x, d) - 1) * tsr_tensor_strides(x)[d];
    }
    const char *begin = tsr_tensor_data(x), *at = tsr_tensor_data(y);
    return at >= begin && at < begin + (size_t)reach * tsr_dtype_size(tsr_tensor_dtype(x));
}

/* The gradient of x for the cotangent v of y = f(x), which `tape` recorded. */
static inline tsr_tensor *reference_gradient(tsr_tape *tape, tsr_tensor *y, tsr_tensor *v,
                                             tsr_tensor *x)
{
    tsr_tensor *g = NULL;
    tsr_grad(tape, TSR_TENSORS(y), TSR_TENSORS(v), TSR_TENSORS(x), &g,
             &(tsr_backward_options){.retain_graph = true});
    assert_ok();
    return g;
}

#define TSR_EACH_DTYPE(dtype)                                                                      \
    for (tsr_dtype dtype = (tsr_dtype)0; dtype < TSR_DTYPE_COUNT; dtype = (tsr_dtype)(dtype + 1))

#endif
