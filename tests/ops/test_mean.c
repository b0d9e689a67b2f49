#include "tests/ops/reductions.h"

static void test_mean__values(void **state)
{
    (void)state;
    for (int i = 0; i < 4 * REDUCTION_CASES; i++) {
        const struct reduction_case *c = &reduction_cases[i / 4];
        tsr_dtype dtype = i % 2 == 0 ? TSR_DTYPE_F32 : TSR_DTYPE_F64;
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *x = reduction_input(dtype, c->shape, i / 2 % 2);
        for (int keepdim = 0; keepdim < 2; keepdim++) {
            tsr_tensor *sum =
                reduction_reference(x, NULL, reduction_plain, c->dims, c->n, keepdim != 0);
            double n = (double)tsr_tensor_numel(x) / (double)tsr_tensor_numel(sum);
            tsr_tensor *y = tsr_mean(x, c->dims, c->n, keepdim != 0);
            assert_int_equal(tsr_tensor_dtype(y), dtype);
            assert_close(y, tsr_affine(sum, 1.0 / n, 0.0), dtype == TSR_DTYPE_F64 ? 1e-14 : 2e-7);
        }
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
}

static void test_mean__of_nothing_is_nan(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 0));
    assert_close(tsr_mean(x, (const int[]){1}, 1, false),
                 tsr_full(TSR_DTYPE_F32, TSR_SHAPE(2), (double)NAN), 0.0);
}

static void test_mean__gradient(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = tsr_require_grad(tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(2, 4)), true);
    tsr_tensor *v = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2), (const double[]){4, 8});
    tsr_tensor *g = reference_gradient(tape, tsr_mean(x, (const int[]){1}, 1, false), v, x);
    const double wanted[] = {1, 1, 1, 1, 2, 2, 2, 2};
    assert_close(g, tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2, 4), wanted), 0.0);
    tsr_tape_close(&tape);
}

static void test_mean__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_null(tsr_mean(x, (const int[]){-3}, 1, false));
    assert_failed(TSR_STATUS_ARGUMENT, "mean: dims[0] is -3, expected -2 to 1");
    assert_null(tsr_mean(tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(2)), NULL, 0, false));
    assert_failed(TSR_STATUS_DTYPE, "mean: x is i64, expected f32, f64 or bf16");
    assert_null(tsr_mean(NULL, NULL, 0, false));
    assert_ok();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_mean__values),
        tsr_test(test_mean__of_nothing_is_nan),
        tsr_test(test_mean__gradient),
        tsr_test(test_mean__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
