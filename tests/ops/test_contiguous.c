#include "tests/ops/reference.h"

static double same(const int64_t *ix, const void *args)
{
    return reference_get((tsr_tensor *)args, ix);
}

static void test_contiguous__copies_only_what_is_strided(void **state)
{
    (void)state;
    TSR_EACH_DTYPE(dtype)
    {
        tsr_tensor *x = reference_input(dtype, TSR_SHAPE(3, 5, 7), REFERENCE_CONTIGUOUS);
        assert_ptr_equal(tsr_contiguous(x), x);
        tsr_tensor *t = reference_input(dtype, TSR_SHAPE(3, 5, 7), REFERENCE_REVERSED);
        assert_false(tsr_tensor_is_contiguous(t));
        tsr_tensor *y = tsr_contiguous(t);
        assert_true(tsr_tensor_is_contiguous(y));
        assert_elements(y, TSR_SHAPE(3, 5, 7), same, t);
        assert_false(reference_is_view(y, t));
    }
}

static void test_contiguous__of_a_large_transposed_matrix(void **state)
{
    (void)state;
    tsr_tensor *x = reference_input(TSR_DTYPE_F32, TSR_SHAPE(211, 307), REFERENCE_REVERSED);
    assert_elements(tsr_contiguous(x), TSR_SHAPE(211, 307), same, x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_contiguous__copies_only_what_is_strided),
        tsr_test(test_contiguous__of_a_large_transposed_matrix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
