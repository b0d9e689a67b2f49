#include "tests/ops/reductions.h"

static void test_sum__values(void **state)
{
    (void)state;
    for (int i = 0; i < 4 * REDUCTION_CASES; i++) {
        const struct reduction_case *c = &reduction_cases[i / 4];
        tsr_dtype dtype = i % 2 == 0 ? TSR_DTYPE_F32 : TSR_DTYPE_F64;
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *x = reduction_input(dtype, c->shape, i / 2 % 2);
        for (int keepdim = 0; keepdim < 2; keepdim++) {
            tsr_tensor *wanted =
                reduction_reference(x, NULL, reduction_plain, c->dims, c->n, keepdim != 0);
            tsr_tensor *y = tsr_sum(x, c->dims, c->n, keepdim != 0);
            assert_int_equal(tsr_tensor_dtype(y), dtype);
            assert_close(y, wanted, reduction_tolerance(dtype));
        }
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
}

/* Sums of nothing are 0. */
static void test_sum__of_nothing(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 0, 3));
    assert_close(tsr_sum(x, (const int[]){1}, 1, false), tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3)),
                 0.0);
    assert_close(tsr_sum(x, NULL, 0, false), tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE_SCALAR), 0.0);
}

/* A view that repeats its elements, along the reduced dimension and along the other one. */
static void test_sum__of_a_stretched_view(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_from(TSR_DTYPE_F32, TSR_SHAPE(3, 1), (const float[]){1, 2, 3});
    tsr_tensor *wide = tsr_expand(x, TSR_SHAPE(3, 50));
    assert_close(tsr_sum(wide, (const int[]){1}, 1, true),
                 tsr_from(TSR_DTYPE_F32, TSR_SHAPE(3, 1), (const float[]){50, 100, 150}), 0.0);
    assert_close(tsr_sum(wide, (const int[]){0}, 1, false),
                 tsr_full(TSR_DTYPE_F32, TSR_SHAPE(50), 6.0), 0.0);
}

static void test_sum__nan_and_infinity_pass(void **state)
{
    (void)state;
    const float values[] = {1, INFINITY, 1, NAN, INFINITY, -INFINITY};
    tsr_tensor *x = tsr_from(TSR_DTYPE_F32, TSR_SHAPE(3, 2), values);
    const float wanted[] = {INFINITY, NAN, NAN};
    assert_close(tsr_sum(x, (const int[]){1}, 1, false),
                 tsr_from(TSR_DTYPE_F32, TSR_SHAPE(3), wanted), 0.0);
}

static void test_sum__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_null(tsr_sum(x, (const int[]){0, 2}, 2, false));
    assert_failed(TSR_STATUS_ARGUMENT,
                  "sum: dims[1] is 2, expected -2 to 1 (x has 2 dimensions), each once");
    assert_null(tsr_sum(x, (const int[]){1, -1}, 2, false));
    assert_failed(TSR_STATUS_ARGUMENT, "sum: dims[1] is -1, expected -2 to 1");
    assert_null(tsr_sum(tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(2)), NULL, 0, false));
    assert_failed(TSR_STATUS_DTYPE, "sum: x is i64, expected f32, f64 or bf16");
    assert_null(tsr_sum(NULL, NULL, 0, false));
    assert_ok();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_sum__values),
        tsr_test(test_sum__of_nothing),
        tsr_test(test_sum__of_a_stretched_view),
        tsr_test(test_sum__nan_and_infinity_pass),
        tsr_test(test_sum__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
