#include "tests/ops/reference.h"

static void test_squeeze__is_the_inverse_of_unsqueeze(void **state)
{
    (void)state;
    for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
        for (int dim = 0; dim < 3; dim++) {
            tsr_tensor *x = reference_input(TSR_DTYPE_I32, TSR_SHAPE(3, 5), layout);
            tsr_tensor *y = tsr_squeeze(tsr_unsqueeze(x, dim), dim - 3);
            assert_same(y, x);
            assert_view_of(y, x);
        }
    }
}

static void test_squeeze__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(1, 3));
    assert_null(tsr_squeeze(x, 1));
    assert_failed(TSR_STATUS_SHAPE, "squeeze: x has shape [1, 3], expected size 1 in dimension 1");
    assert_null(tsr_squeeze(x, 2));
    assert_failed(TSR_STATUS_ARGUMENT, "squeeze: dim is 2, expected -2 to 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_squeeze__is_the_inverse_of_unsqueeze),
        tsr_test(test_squeeze__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
