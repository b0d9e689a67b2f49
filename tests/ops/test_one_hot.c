#include "tests/ops/reference.h"

static double hot(const int64_t *ix, const void *args)
{
    tsr_tensor *index = (tsr_tensor *)args;
    return (double)(ix[tsr_tensor_ndim(index)] == (int64_t)reference_get(index, ix));
}

static void test_one_hot__of_every_type(void **state)
{
    (void)state;
    TSR_EACH_DTYPE(dtype)
    {
        tsr_tensor *index = reference_indices(TSR_SHAPE(5, 3), 7, 1);
        tsr_tensor *y = tsr_one_hot(index, 7, dtype);
        assert_int_equal(tsr_tensor_dtype(y), dtype);
        assert_elements(y, TSR_SHAPE(5, 3, 7), hot, index);
        tsr_tensor *transposed = tsr_transpose(index, 0, 1);
        assert_elements(tsr_one_hot(transposed, 9, dtype), TSR_SHAPE(3, 5, 9), hot, transposed);
    }
}

static void test_one_hot__errors(void **state)
{
    (void)state;
    assert_null(tsr_one_hot(reference_index(TSR_SHAPE(2), 0, 3), 3, TSR_DTYPE_F32));
    assert_failed(TSR_STATUS_ARGUMENT, "one_hot: element 1 of index is 3, expected 0 to 2");
    assert_null(tsr_one_hot(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2)), 3, TSR_DTYPE_F32));
    assert_failed(TSR_STATUS_DTYPE, "one_hot: index is f32, expected i64");
    assert_null(tsr_one_hot(tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(0)), -1, TSR_DTYPE_F32));
    assert_failed(TSR_STATUS_SHAPE, "is not a shape");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_one_hot__of_every_type),
        tsr_test(test_one_hot__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
