#include "tests/ops/reference.h"

struct arguments {
    tsr_tensor *x;
    int dim;
    int64_t index;
};

static double selected(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    int64_t source[TSR_MAX_DIMS];
    for (int d = 0, k = 0; d < tsr_tensor_ndim(a->x); d++) {
        source[d] = d == a->dim ? a->index : ix[k++];
    }
    return reference_get(a->x, source);
}

static void test_select__every_index(void **state)
{
    (void)state;
    static const tsr_shape left[] = {{2, {3, 5}}, {2, {2, 5}}, {2, {2, 3}}};
    for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
        tsr_tensor *x = reference_input(TSR_DTYPE_I64, TSR_SHAPE(2, 3, 5), layout);
        for (int dim = 0; dim < 3; dim++) {
            int64_t n = tsr_tensor_size(x, dim);
            for (int64_t i = 0; i < n; i++) {
                struct arguments a = {x, dim, i};
                assert_elements(tsr_select(x, dim, i), left[dim], selected, &a);
                assert_elements(tsr_select(x, dim - 3, i - n), left[dim], selected, &a);
                assert_view_of(tsr_select(x, dim, i), x);
            }
        }
    }
}

static void test_select__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 5));
    assert_null(tsr_select(x, 1, 5));
    assert_failed(TSR_STATUS_ARGUMENT, "select: index is 5, dimension 1 has 5 elements");
    assert_null(tsr_select(x, 1, -6));
    assert_failed(TSR_STATUS_ARGUMENT, "select: index is -6, dimension 1 has 5 elements");
    assert_null(tsr_select(tsr_scalar(TSR_DTYPE_F32, 1.0), 0, 0));
    assert_failed(TSR_STATUS_ARGUMENT, "select: dim is 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_select__every_index),
        tsr_test(test_select__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
