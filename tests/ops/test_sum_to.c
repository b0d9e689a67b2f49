#include "tests/ops/reductions.h"

/* Shapes from and to; which dimensions of `from` that sums over. */
static const struct case_to {
    tsr_shape from, to;
    int n, dims[3];
} cases[] = {
    {{2, {129, 517}}, {2, {1, 517}}, 1, {0}},    {{2, {129, 517}}, {1, {517}}, 1, {0}},
    {{2, {129, 517}}, {2, {129, 1}}, 1, {1}},    {{2, {129, 517}}, {0}, 2, {0, 1}},
    {{2, {129, 517}}, {1, {1}}, 2, {0, 1}},      {{3, {5, 7, 3}}, {3, {1, 7, 1}}, 2, {0, 2}},
    {{3, {5, 7, 3}}, {2, {7, 1}}, 2, {0, 2}},    {{3, {5, 1, 3}}, {3, {5, 1, 1}}, 1, {2}},
    {{4, {2, 3, 1, 4}}, {2, {1, 4}}, 2, {0, 1}}, {{2, {0, 5}}, {1, {5}}, 1, {0}},
    {{2, {3, 0}}, {2, {1, 0}}, 1, {0}},
};

static void test_sum_to__values(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4 * sizeof cases / sizeof cases[0]; i++) {
        const struct case_to *c = &cases[i / 4];
        tsr_dtype dtype = i % 2 == 0 ? TSR_DTYPE_F32 : TSR_DTYPE_F64;
        tsr_tensor *x = reduction_input(dtype, c->from, (int)(i / 2 % 2));
        tsr_tensor *sum = reduction_reference(x, NULL, reduction_plain, c->dims, c->n, true);
        tsr_tensor *y = tsr_sum_to(x, c->to);
        assert_int_equal(tsr_tensor_dtype(y), dtype);
        assert_close(y, tsr_reshape(sum, c->to), reduction_tolerance(dtype));
    }
}

static void test_sum_to__its_own_shape_is_itself(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_ptr_equal(tsr_sum_to(x, TSR_SHAPE(2, 3)), x);
}

/* <sum_to(x), y> = <x, expand(y)>: it is the transpose of broadcasting. */
static void test_sum_to__is_the_transpose_of_expand(void **state)
{
    (void)state;
    tsr_tensor *x = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(4, 6, 5), 1);
    tsr_tensor *y = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(6, 1), 2);
    tsr_tensor *left = tsr_mul(tsr_sum_to(x, TSR_SHAPE(6, 1)), y);
    tsr_tensor *right = tsr_mul(x, tsr_expand(y, TSR_SHAPE(4, 6, 5)));
    assert_close(tsr_sum(left, NULL, 0, false), tsr_sum(right, NULL, 0, false), 1e-12);
}

static void test_sum_to__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_null(tsr_sum_to(x, TSR_SHAPE(2)));
    assert_failed(TSR_STATUS_SHAPE, "sum_to: x has shape [2, 3], to which [2] does not stretch");
    assert_null(tsr_sum_to(x, TSR_SHAPE(1, 2, 3)));
    assert_failed(TSR_STATUS_SHAPE, "to which [1, 2, 3] does not stretch");
    assert_null(tsr_sum_to(tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(2)), TSR_SHAPE_SCALAR));
    assert_failed(TSR_STATUS_DTYPE, "sum_to: x is i64, expected f32, f64 or bf16");
    assert_null(tsr_sum_to(NULL, TSR_SHAPE(2)));
    assert_ok();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_sum_to__values),
        tsr_test(test_sum_to__its_own_shape_is_itself),
        tsr_test(test_sum_to__is_the_transpose_of_expand),
        tsr_test(test_sum_to__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
