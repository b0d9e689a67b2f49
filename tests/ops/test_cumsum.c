#include "tests/ops/reference.h"

static const struct {
    tsr_shape shape;
    int dim;
} cases[] = {
    {{1, {1}}, 0},       {{1, {40009}}, -1},     {{2, {401, 127}}, 0}, {{2, {127, 401}}, 1},
    {{3, {5, 7, 3}}, 1}, {{3, {3, 129, 65}}, 1}, {{2, {0, 3}}, 0},     {{2, {3, 0}}, 0},
};

/* The running sum at ix: of x along the dimension, from its front or from its back. */
struct lane {
    tsr_tensor *x;
    int dim;
    bool from_the_back;
};

static double running_sum(const int64_t *ix, const void *args)
{
    const struct lane *l = args;
    int64_t at[TSR_MAX_DIMS];
    memcpy(at, ix, sizeof at);
    double sum = 0.0;
    int64_t first = l->from_the_back ? ix[l->dim] : 0;
    int64_t last = l->from_the_back ? tsr_tensor_size(l->x, l->dim) - 1 : ix[l->dim];
    for (int64_t i = first; i <= last; i++) {
        at[l->dim] = i;
        sum += reference_get(l->x, at);
    }
    return sum;
}

static void test_cumsum__values(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4 * sizeof cases / sizeof cases[0]; i++) {
        tsr_shape shape = cases[i / 4].shape;
        if (shape.ndim == 1 && shape.size[0] > 1000) continue; /* see the next test */
        tsr_dtype dtype = i % 2 == 0 ? TSR_DTYPE_F32 : TSR_DTYPE_F64;
        tsr_tensor *x = reference_input(dtype, shape, (int)(i / 2 % 2));
        struct lane l = {x, cases[i / 4].dim, false};
        assert_elements(tsr_cumsum(x, l.dim), shape, running_sum, &l);
    }
}

/* Sums are kept in f64: whole numbers beyond 2^24 still come out as near as f32 can hold them. */
static void test_cumsum__of_a_long_row(void **state)
{
    (void)state;
    enum { N = 40009 };
    tsr_tensor *y = tsr_cumsum(tsr_full(TSR_DTYPE_F32, TSR_SHAPE(N), 1001.0), -1);
    for (int64_t i = 0; i < N; i++) {
        assert_true(tsr_tensor_get(y, i) == (double)(float)(1001.0 * (double)(i + 1)));
    }
}

static void test_cumsum__gradient_runs_from_the_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tsr_shape shape = cases[i].shape;
        if (tsr_shape_numel(shape) == 0 || shape.ndim == 1) continue;
        tsr_tape *tape = tsr_tape_open();
        tsr_tensor *x = tsr_require_grad(tsr_zeros(TSR_DTYPE_F64, shape), true);
        struct lane l = {reference_input(TSR_DTYPE_F64, shape, 1), cases[i].dim, true};
        tsr_tensor *g = reference_gradient(tape, tsr_cumsum(x, l.dim), l.x, x);
        assert_elements(g, shape, running_sum, &l);
        tsr_tape_close(&tape);
    }
}

static void test_cumsum__errors(void **state)
{
    (void)state;
    assert_null(tsr_cumsum(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2)), 1));
    assert_failed(TSR_STATUS_ARGUMENT, "cumsum: dim is 1, expected -1 to 0 (x has 1 dimensions)");
    assert_null(tsr_cumsum(tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(2)), 0));
    assert_failed(TSR_STATUS_DTYPE, "cumsum: x is i64, expected f32 or f64");
    assert_null(tsr_cumsum(NULL, 0));
    assert_ok();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_cumsum__values),
        tsr_test(test_cumsum__of_a_long_row),
        tsr_test(test_cumsum__gradient_runs_from_the_back),
        tsr_test(test_cumsum__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
