/* What the tests of the elementwise ops share: values against a function of doubles, over types, sizes and layouts. */
#ifndef TSR_TESTS_OPS_ELEMENTWISE_H
#define TSR_TESTS_OPS_ELEMENTWISE_H

#include "tests/ops/reference.h"

typedef tsr_tensor *unary_op(tsr_tensor *x);
typedef double unary_reference(double x);
typedef tsr_tensor *binary_op(tsr_tensor *a, tsr_tensor *b);
typedef double binary_reference(double x, double y);

static const tsr_dtype elementwise_types[] = {TSR_DTYPE_F32, TSR_DTYPE_F64};

/* Relative, and absolute below the smallest normal numbers: a few units in the last place. */
static inline bool elementwise_near(tsr_dtype dtype, double got, double wanted, double ulps)
{
    if (got == wanted || (isnan(got) && isnan(wanted))) return true;
    double unit = dtype == TSR_DTYPE_F32 ? 0x1p-23 : 0x1p-52;
    double smallest = dtype == TSR_DTYPE_F32 ? 0x1p-126 : 0x1p-1022;
    return fabs(got - wanted) <= ulps * unit * fmax(fabs(wanted), smallest);
}

/* Uniform numbers in [lo, hi) in the layout. */
static inline tsr_tensor *elementwise_input(tsr_dtype dtype, tsr_shape shape, int layout, double lo,
                                            double hi, uint64_t seed)
{
    tsr_tensor *values = tsr_empty(dtype, shape), *x = reference_empty(dtype, shape, layout);
    tsr_fill_uniform(values, tsr_rng_make(seed, 0, 0, 0), lo, hi);
    tsr_tensor_copy(x, values);
    assert_ok();
    return x;
}

#define assert_unary(f, reference, lo, hi, ulps)                                                   \
    elementwise_unary(f, reference, lo, hi, ulps, __FILE__, __LINE__)
#define assert_binary(f, reference, lo, hi, ulps)                                                  \
    elementwise_binary(f, reference, lo, hi, ulps, __FILE__, __LINE__)

/* f against the reference on [lo, hi), which both types hold. */
static inline void elementwise_unary(unary_op *f, unary_reference *reference, double lo, double hi,
                                     double ulps, const char *file, int line)
{
    const tsr_shape shapes[] = {TSR_SHAPE_SCALAR,    TSR_SHAPE(0),       TSR_SHAPE(1),
                                TSR_SHAPE(3, 0),     TSR_SHAPE(17),      TSR_SHAPE(3, 5, 7),
                                TSR_SHAPE(101, 997), TSR_SHAPE(2, 40009)};
    for (size_t k = 0; k < 2 * sizeof shapes / sizeof shapes[0]; k++) {
        tsr_dtype dtype = elementwise_types[k % 2];
        for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
            tsr_scope scope = tsr_scope_open();
            tsr_tensor *x = elementwise_input(dtype, shapes[k / 2], layout, lo, hi, k), *y = f(x);
            assert_ok();
            assert_int_equal(tsr_tensor_dtype(y), dtype);
            assert_true(tsr_shape_equal(tsr_tensor_shape(y), shapes[k / 2]));
            for (int64_t i = 0; i < tsr_tensor_numel(y); i++) {
                double v = tsr_tensor_get(x, i), got = tsr_tensor_get(y, i), wanted = reference(v);
                if (elementwise_near(dtype, got, wanted, ulps)) continue;
                print_error("%s: at %.17g: %.17g, expected %.17g\n", tsr_dtype_name(dtype), v, got,
                            wanted);
                _fail(file, line);
            }
            tsr_scope_close(&scope, TSR_NO_TENSORS);
        }
    }
}

/* Element i of the broadcast shape, in x. */
static inline double elementwise_at(tsr_tensor *x, tsr_shape shape, int64_t i)
{
    int64_t ix[TSR_MAX_DIMS] = {0};
    int lead = shape.ndim - tsr_tensor_ndim(x);
    reference_unravel(shape, i, ix);
    for (int d = 0; d < tsr_tensor_ndim(x); d++) {
        ix[d] = tsr_tensor_size(x, d) == 1 ? 0 : ix[d + lead];
    }
    return reference_get(x, ix);
}

/* f against the reference, a in [-hi, hi), b in [lo, hi), broadcast in several ways. */
static inline void elementwise_binary(binary_op *f, binary_reference *reference, double lo,
                                      double hi, double ulps, const char *file, int line)
{
    const tsr_shape shapes[][3] = {
        {TSR_SHAPE(101, 997), TSR_SHAPE(101, 997), TSR_SHAPE(101, 997)},
        {TSR_SHAPE(101, 997), TSR_SHAPE(997), TSR_SHAPE(101, 997)},
        {TSR_SHAPE(101, 1), TSR_SHAPE(101, 997), TSR_SHAPE(101, 997)},
        {TSR_SHAPE(101, 997), TSR_SHAPE(101, 1), TSR_SHAPE(101, 997)},
        {TSR_SHAPE(5, 1, 3), TSR_SHAPE(7, 1), TSR_SHAPE(5, 7, 3)},
        {TSR_SHAPE_SCALAR, TSR_SHAPE(2, 3), TSR_SHAPE(2, 3)},
        {TSR_SHAPE(13), TSR_SHAPE_SCALAR, TSR_SHAPE(13)},
        {TSR_SHAPE_SCALAR, TSR_SHAPE_SCALAR, TSR_SHAPE_SCALAR},
        {TSR_SHAPE(0, 3), TSR_SHAPE(1, 3), TSR_SHAPE(0, 3)},
        {TSR_SHAPE(1), TSR_SHAPE(0), TSR_SHAPE(0)},
    };
    for (size_t k = 0; k < 2 * sizeof shapes / sizeof shapes[0]; k++) {
        tsr_dtype dtype = elementwise_types[k % 2];
        tsr_shape shape = shapes[k / 2][2];
        for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
            tsr_scope scope = tsr_scope_open();
            tsr_tensor *a = elementwise_input(dtype, shapes[k / 2][0], layout, -hi, hi, k);
            tsr_tensor *b = elementwise_input(dtype, shapes[k / 2][1], 0, lo, hi, k + 100);
            tsr_tensor *r = f(a, b);
            assert_ok();
            assert_true(tsr_shape_equal(tsr_tensor_shape(r), shape));
            for (int64_t i = 0; i < tsr_tensor_numel(r); i++) {
                double x = elementwise_at(a, shape, i), y = elementwise_at(b, shape, i);
                double got = tsr_tensor_get(r, i), wanted = reference(x, y);
                if (elementwise_near(dtype, got, wanted, ulps)) continue;
                print_error("%s: at %.17g, %.17g: %.17g, expected %.17g\n", tsr_dtype_name(dtype),
                            x, y, got, wanted);
                _fail(file, line);
            }
            tsr_scope_close(&scope, TSR_NO_TENSORS);
        }
    }
}

/* f at single points, in both types: where a function has corners, poles or NaN. */
#define assert_points(f, n, ...) elementwise_points(f, n, (const double[][2]){__VA_ARGS__})

static inline void elementwise_points(unary_op *f, int n, const double (*at)[2])
{
    for (int i = 0; i < 2 * n; i++) {
        tsr_dtype dtype = elementwise_types[i % 2];
        double x = at[i / 2][0], wanted = at[i / 2][1];
        double got = tsr_tensor_item(f(tsr_scalar(dtype, x)));
        assert_ok();
        if (elementwise_near(dtype, got, wanted, 4.0)) continue;
        fail_msg("%s: at %g: %.17g, expected %.17g", tsr_dtype_name(dtype), x, got, wanted);
    }
}

/* f' at single points. */
#define assert_slopes(f, n, ...) elementwise_slopes(f, n, (const double[][2]){__VA_ARGS__})

static inline void elementwise_slopes(unary_op *f, int n, const double (*at)[2])
{
    for (int i = 0; i < 2 * n; i++) {
        tsr_dtype dtype = elementwise_types[i % 2];
        double wanted = at[i / 2][1];
        tsr_tape *tape = tsr_tape_open();
        tsr_tensor *x = tsr_require_grad(tsr_scalar(dtype, at[i / 2][0]), true);
        double got = tsr_tensor_item(
            reference_gradient(tape, f(x), tsr_full(dtype, TSR_SHAPE_SCALAR, 1.0), x));
        tsr_tape_close(&tape);
        if (elementwise_near(dtype, got, wanted, 4.0)) continue;
        fail_msg("%s: slope at %g: %.17g, expected %.17g", tsr_dtype_name(dtype), at[i / 2][0], got,
                 wanted);
    }
}

/* The gradients of a binary op at a point. */
static inline void elementwise_gradients(binary_op *f, double x, double y, double *dx, double *dy)
{
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *a = tsr_require_grad(tsr_scalar(TSR_DTYPE_F64, x), true);
    tsr_tensor *b = tsr_require_grad(tsr_scalar(TSR_DTYPE_F64, y), true);
    tsr_tensor *r = f(a, b), *one = tsr_scalar(TSR_DTYPE_F64, 1.0), *g[2];
    tsr_grad(tape, TSR_TENSORS(r), TSR_TENSORS(one), TSR_TENSORS(a, b), g, NULL);
    assert_ok();
    *dx = tsr_tensor_item(g[0]);
    *dy = tsr_tensor_item(g[1]);
    tsr_tape_close(&tape);
}

/* Types that elementwise ops do not take. */
static inline void elementwise_refused(const char *op, unary_op *f)
{
    char text[64];
    snprintf(text, sizeof text, "%s: x is i64, expected f32", op);
    assert_null(f(tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(3))));
    assert_failed(TSR_STATUS_DTYPE, text);
    assert_null(f(NULL));
    assert_ok();
}

static inline void elementwise_binary_refused(const char *op, binary_op *f)
{
    char text[96];
    tsr_tensor *a = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    snprintf(text, sizeof text, "%s: a has shape [2, 3] and b [2], which do not broadcast", op);
    assert_null(f(a, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2))));
    assert_failed(TSR_STATUS_SHAPE, text);
    snprintf(text, sizeof text, "%s: a is f32 and b is f64: cast one of them", op);
    assert_null(f(a, tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(2, 3))));
    assert_failed(TSR_STATUS_DTYPE, text);
    tsr_tensor *i = tsr_zeros(TSR_DTYPE_I32, TSR_SHAPE(2));
    snprintf(text, sizeof text, "%s: a is i32, expected f32", op);
    assert_null(f(i, i));
    assert_failed(TSR_STATUS_DTYPE, text);
    assert_null(f(a, NULL));
    assert_null(f(NULL, a));
    assert_ok();
}

#endif
