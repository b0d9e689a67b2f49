#include "tests/ops/reference.h"

struct arguments {
    tsr_tensor *x, *index;
    int dim;
};

static double entry_of(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    int64_t source[TSR_MAX_DIMS];
    memcpy(source, ix, sizeof source);
    source[a->dim] = (int64_t)tsr_tensor_get(a->index, ix[a->dim]);
    return reference_get(a->x, source);
}

static void test_index_select__every_dimension(void **state)
{
    (void)state;
    TSR_EACH_DTYPE(dtype)
    {
        for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
            for (int dim = 0; dim < 3; dim++) {
                tsr_tensor *x = reference_input(dtype, TSR_SHAPE(4, 5, 6), layout);
                tsr_tensor *index = reference_index(TSR_SHAPE(5), 3, 0, 3, 1, 2);
                tsr_shape shape = tsr_tensor_shape(x);
                shape.size[dim] = 5;
                struct arguments a = {x, index, dim};
                assert_elements(tsr_index_select(x, dim, index), shape, entry_of, &a);
                assert_elements(tsr_index_select(x, dim - 3, index), shape, entry_of, &a);
            }
        }
    }
}

static void test_index_select__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4, 2));
    assert_null(tsr_index_select(x, 1, reference_index(TSR_SHAPE(1), 2)));
    assert_failed(TSR_STATUS_ARGUMENT, "index_select: element 0 of index is 2, expected 0 to 1");
    assert_null(tsr_index_select(x, 2, reference_index(TSR_SHAPE(1), 0)));
    assert_failed(TSR_STATUS_ARGUMENT, "index_select: dim is 2, expected -2 to 1");
    assert_null(tsr_index_select(x, 0, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(1))));
    assert_failed(TSR_STATUS_DTYPE, "index_select: index is f32, expected i64");
    assert_null(tsr_index_select(x, 0, reference_index(TSR_SHAPE_SCALAR, 0)));
    assert_failed(TSR_STATUS_SHAPE, "index_select: index has shape [], expected [n]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_index_select__every_dimension),
        tsr_test(test_index_select__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
