#include "tests/ops/reference.h"

static double without_dim(const int64_t *ix, const void *args)
{
    tsr_tensor *const *a = args;
    int dim = (int)tsr_tensor_item(a[1]);
    int64_t source[TSR_MAX_DIMS];
    for (int d = 0; d < tsr_tensor_ndim(a[0]); d++) source[d] = ix[d < dim ? d : d + 1];
    return reference_get(a[0], source);
}

static void test_unsqueeze__every_place(void **state)
{
    (void)state;
    static const tsr_shape shapes[] = {{3, {1, 3, 5}}, {3, {3, 1, 5}}, {3, {3, 5, 1}}};
    for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
        for (int dim = 0; dim < 3; dim++) {
            tsr_tensor *x = reference_input(TSR_DTYPE_U8, TSR_SHAPE(3, 5), layout);
            tsr_tensor *args[] = {x, tsr_scalar(TSR_DTYPE_I32, dim)};
            assert_elements(tsr_unsqueeze(x, dim), shapes[dim], without_dim, args);
            assert_elements(tsr_unsqueeze(x, dim - 3), shapes[dim], without_dim, args);
            assert_view_of(tsr_unsqueeze(x, dim), x);
        }
    }
}

static void test_unsqueeze__errors(void **state)
{
    (void)state;
    assert_null(tsr_unsqueeze(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2)), 2));
    assert_failed(TSR_STATUS_ARGUMENT, "unsqueeze: dim is 2, expected -2 to 1");
    assert_null(tsr_unsqueeze(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(1, 1, 1, 1, 1, 1, 1, 1)), 0));
    assert_failed(TSR_STATUS_ARGUMENT, "at most 8 dimensions");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_unsqueeze__every_place),
        tsr_test(test_unsqueeze__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
