#include "tests/ops/fused.h"
#include "tests/ops/reductions.h"

static void test_var__values(void **state)
{
    (void)state;
    for (int i = 0; i < 4 * REDUCTION_CASES; i++) {
        const struct reduction_case *c = &reduction_cases[i / 4];
        tsr_dtype dtype = i % 2 == 0 ? TSR_DTYPE_F32 : TSR_DTYPE_F64;
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *x = reduction_input(dtype, c->shape, i / 2 % 2);
        tsr_tensor *sum = reduction_reference(x, NULL, reduction_plain, c->dims, c->n, false);
        int64_t n = tsr_tensor_numel(sum) > 0 ? tsr_tensor_numel(x) / tsr_tensor_numel(sum) : 2;
        tsr_tensor *mean = tsr_affine(sum, 1.0 / (double)n, 0.0);
        for (int correction = 0; correction < 2 && n > correction; correction++) {
            tsr_tensor *squares =
                reduction_reference(x, mean, reduction_square, c->dims, c->n, correction != 0);
            tsr_tensor *y = tsr_var(x, c->dims, c->n, correction, correction != 0);
            assert_int_equal(tsr_tensor_dtype(y), dtype);
            assert_close(y, tsr_affine(squares, 1.0 / (double)(n - correction), 0.0),
                         dtype == TSR_DTYPE_F64 ? 1e-13 : 2e-6);
        }
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
}

/* A mean far above the spread costs no digits: the squares are taken around it. */
static void test_var__of_shifted_numbers(void **state)
{
    (void)state;
    tsr_tensor *x = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(64, 300), 1);
    for (int dim = 0; dim < 2; dim++) {
        tsr_tensor *near = tsr_var(x, &dim, 1, 1, false);
        tsr_tensor *far = tsr_var(tsr_affine(x, 1.0, 1e6), &dim, 1, 1, false);
        assert_close(far, near, 1e-8);
    }
}

static void call(tsr_tensors in, tsr_tensor **out, int n, void *user)
{
    (void)n;
    out[0] = tsr_var(in.at[0], user, 1, 1, false);
}

static void test_var__backward_is_the_definitions(void **state)
{
    (void)state;
    FUSED_EACH_REAL(dtype)
    {
        for (int dim = 0; dim < 3; dim++) {
            tsr_tensor *x = fused_leaf(dtype, TSR_SHAPE(23, 37, 41), 5);
            assert_definition(call, &dim, TSR_TENSORS(x), fused_tolerance(dtype));
        }
    }
}

static void test_var__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 1));
    assert_null(tsr_var(x, (const int[]){1}, 1, 1, false));
    assert_failed(TSR_STATUS_ARGUMENT, "var: correction is 1, expected less than the 1 elements "
                                       "that each variance of x [2, 1] has");
    assert_null(tsr_var(x, (const int[]){2}, 1, 0, false));
    assert_failed(TSR_STATUS_ARGUMENT, "var: dims[0] is 2, expected -2 to 1");
    assert_null(tsr_var(tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(2)), NULL, 0, 0, false));
    assert_failed(TSR_STATUS_DTYPE, "var: x is i64, expected f32 or f64");
    assert_null(tsr_var(NULL, NULL, 0, 0, false));
    assert_ok();
}

FUSED_MAIN(tsr_test(test_var__values), tsr_test(test_var__of_shifted_numbers),
           tsr_test(test_var__backward_is_the_definitions), tsr_test(test_var__errors))
