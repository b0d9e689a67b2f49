/* What the tests of the reductions share: sums over any set of dimensions, by plain loops in f64. */
#ifndef TSR_TESTS_OPS_REDUCTIONS_H
#define TSR_TESTS_OPS_REDUCTIONS_H

#include "tests/ops/reference.h"

/* Is dimension d one of these? n 0: all are. */
static inline bool reduction_has(const int *dims, int n, int ndim, int d)
{
    bool any = n == 0;
    for (int i = 0; i < n; i++) any = any || dims[i] == d || dims[i] + ndim == d;
    return any;
}

static inline tsr_shape reduction_shape(tsr_shape shape, const int *dims, int n, bool keepdim)
{
    tsr_shape out = {0};
    for (int d = 0; d < shape.ndim; d++) {
        bool reduced = reduction_has(dims, n, shape.ndim, d);
        if (!reduced || keepdim) out.size[out.ndim++] = reduced ? 1 : shape.size[d];
    }
    return out;
}

/* sum f(x element, y element) over the reduced dimensions, in f64; center (same shape, f64) may be NULL. */
typedef double reduction_term(double x, double center);

static inline double reduction_plain(double x, double center)
{
    (void)center;
    return x;
}

static inline double reduction_square(double x, double center)
{
    return (x - center) * (x - center);
}

static inline tsr_tensor *reduction_reference(tsr_tensor *x, tsr_tensor *center,
                                              reduction_term *term, const int *dims, int n,
                                              bool keepdim)
{
    tsr_shape shape = tsr_tensor_shape(x), out = reduction_shape(shape, dims, n, keepdim);
    tsr_tensor *y = tsr_zeros(TSR_DTYPE_F64, out);
    assert_non_null(y);
    double *yd = tsr_tensor_data_mut(y);
    for (int64_t i = 0; i < tsr_tensor_numel(x); i++) {
        int64_t ix[TSR_MAX_DIMS] = {0}, at = 0;
        reference_unravel(shape, i, ix);
        for (int d = 0; d < shape.ndim; d++) {
            if (!reduction_has(dims, n, shape.ndim, d)) at = at * shape.size[d] + ix[d];
        }
        yd[at] += term(reference_get(x, ix), center != NULL ? tsr_tensor_get(center, at) : 0.0);
    }
    return y;
}

/* Shapes and dimensions: every path and edge of the loops (rows and columns, one chunk and many, parts of a long row). */
static const struct reduction_case {
    tsr_shape shape;
    int n, dims[4];
} reduction_cases[] = {
    {{0}, 0, {0}},
    {{1, {1}}, 0, {0}},
    {{1, {7}}, 1, {0}},
    {{1, {4097}}, 0, {0}},
    {{1, {100003}}, 1, {-1}},
    {{2, {3, 5}}, 1, {0}},
    {{2, {3, 5}}, 1, {1}},
    {{2, {1, 5}}, 1, {0}},
    {{2, {5, 1}}, 1, {0}},
    {{2, {129, 517}}, 1, {0}},
    {{2, {517, 129}}, 1, {1}},
    {{2, {3, 12289}}, 1, {1}},
    {{2, {12289, 3}}, 1, {0}},
    {{2, {12289, 3}}, 1, {1}},
    {{2, {255, 301}}, 0, {0}},
    {{3, {5, 131, 67}}, 1, {1}},
    {{3, {5, 131, 67}}, 2, {0, 2}},
    {{3, {5, 131, 67}}, 2, {1, -1}},
    {{3, {5, 131, 67}}, 2, {1, 0}},
    {{3, {700, 2, 3}}, 2, {0, 1}},
    {{4, {3, 2, 5, 4}}, 2, {0, 2}},
    {{4, {3, 2, 5, 4}}, 2, {-1, 1}},
    {{4, {9, 1, 33, 17}}, 3, {0, 1, 3}},
    {{2, {0, 3}}, 1, {1}},
    {{3, {2, 0, 3}}, 1, {0}},
};

enum { REDUCTION_CASES = sizeof reduction_cases / sizeof reduction_cases[0] };

/* A sum of n numbers around 1 in chunks: far nearer than n units, relative to the largest partial sum. */
static inline double reduction_tolerance(tsr_dtype dtype)
{
    return dtype == TSR_DTYPE_F64 ? 1e-12 : 2e-5;
}

/* Normal numbers in one of the layouts. */
static inline tsr_tensor *reduction_input(tsr_dtype dtype, tsr_shape shape, int layout)
{
    tsr_tensor *x = reference_empty(dtype, shape, layout);
    tsr_tensor_copy(x, reference_normal(dtype, shape, 3));
    assert_ok();
    return x;
}

#endif
