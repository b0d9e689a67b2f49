/* What the tests of the ops along one dimension share: every lane of many tensors, in f64. */
#ifndef TSR_TESTS_OPS_LANES_H
#define TSR_TESTS_OPS_LANES_H

#include "tests/ops/reference.h"

static const struct lane_case {
    tsr_shape shape;
    int dim;
} lane_cases[] = {
    {{1, {1}}, 0},           {{1, {40009}}, -1},     {{2, {3, 5}}, 0},
    {{2, {3, 5}}, 1},        {{2, {127, 401}}, 0},   {{2, {401, 127}}, 1},
    {{3, {7, 1, 3}}, 1},     {{3, {5, 67, 129}}, 1}, {{3, {5, 67, 129}}, -1},
    {{3, {33, 65, 16}}, -3}, {{4, {2, 3, 4, 5}}, 2}, {{2, {0, 3}}, 1},
    {{2, {3, 0}}, 0},        {{3, {2, 31, 64}}, 1},
};

enum { LANE_CASES = sizeof lane_cases / sizeof lane_cases[0] };

/* Called with each lane x [n] of the tensor, and where its first element is in the result (dim kept with size 1). */
typedef void lane_check(const double *x, int64_t n, int64_t lane, tsr_tensor *y, void *user);

static inline void lane_walk(tsr_tensor *x, int dim, tsr_tensor *y, lane_check *check, void *user)
{
    tsr_shape shape = tsr_tensor_shape(x);
    int d = dim < 0 ? dim + shape.ndim : dim;
    int64_t outer = 1, inner = 1, n = shape.size[d];
    for (int k = 0; k < d; k++) outer *= shape.size[k];
    for (int k = d + 1; k < shape.ndim; k++) inner *= shape.size[k];
    double *lane = tsr_alloc((size_t)(n + 1) * sizeof *lane);
    assert_non_null(lane);
    for (int64_t o = 0; o < outer; o++) {
        for (int64_t c = 0; c < inner; c++) {
            for (int64_t i = 0; i < n; i++) lane[i] = tsr_tensor_get(x, (o * n + i) * inner + c);
            check(lane, n, o * inner + c, y, user);
        }
    }
    tsr_free(lane);
}

static inline tsr_shape lane_shape(tsr_shape shape, int dim, bool keepdim)
{
    tsr_shape out = {0};
    for (int d = 0; d < shape.ndim; d++) {
        bool reduced = d == dim || d == dim + shape.ndim;
        if (!reduced || keepdim) out.size[out.ndim++] = reduced ? 1 : shape.size[d];
    }
    return out;
}

typedef tsr_tensor *lane_op(tsr_tensor *x, int dim, bool keepdim);

/* A reduction of each lane. `few`: of a few different numbers, so that there are ties. */
static inline void lane_reductions(lane_op *f, lane_check *check, bool few)
{
    for (int i = 0; i < 8 * LANE_CASES; i++) {
        const struct lane_case *c = &lane_cases[i / 8];
        tsr_dtype dtype = i % 2 == 0 ? TSR_DTYPE_F32 : TSR_DTYPE_F64;
        int layout = i / 2 % 2;
        bool keepdim = i / 4 % 2 == 0;
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *x = reference_empty(dtype, c->shape, layout);
        tsr_tensor_copy(x, few ? tsr_cast(reference_indices(c->shape, 5, 1), dtype)
                               : reference_normal(dtype, c->shape, 1));
        tsr_tensor *y = f(x, c->dim, keepdim);
        assert_ok();
        assert_true(tsr_shape_equal(tsr_tensor_shape(y), lane_shape(c->shape, c->dim, keepdim)));
        if (tsr_tensor_numel(y) > 0) lane_walk(x, c->dim, y, check, &dtype);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
}

/* The messages that such an op gives. */
static inline void lane_refused(const char *op, lane_op *f)
{
    char text[160];
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 0));
    assert_null(f(x, 2, false));
    snprintf(text, sizeof text, "%s: dim is 2, expected -2 to 1 (x has 2 dimensions)", op);
    assert_failed(TSR_STATUS_ARGUMENT, text);
    assert_null(f(x, 1, false));
    snprintf(text, sizeof text, "%s: x has shape [2, 0], expected elements along dimension 1", op);
    assert_failed(TSR_STATUS_SHAPE, text);
    assert_null(f(tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(2)), 0, false));
    snprintf(text, sizeof text, "%s: x is i64, expected f32 or f64", op);
    assert_failed(TSR_STATUS_DTYPE, text);
    assert_null(f(NULL, 0, false));
    assert_ok();
}

#endif
