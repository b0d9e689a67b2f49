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
    source[a->dim] = (int64_t)reference_get(a->index, ix);
    return reference_get(a->x, source);
}

static void test_gather__every_type_and_dimension(void **state)
{
    (void)state;
    TSR_EACH_DTYPE(dtype)
    {
        for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
            for (int dim = 0; dim < 3; dim++) {
                for (int64_t n = 1; n < 9; n += 3) {
                    tsr_tensor *x = reference_input(dtype, TSR_SHAPE(3, 5, 4), layout);
                    tsr_shape shape = tsr_tensor_shape(x);
                    shape.size[dim] = n;
                    tsr_tensor *index = reference_indices(shape, tsr_tensor_size(x, dim), 1);
                    struct arguments a = {x, index, dim};
                    assert_elements(tsr_gather(x, dim, index), shape, entry_of, &a);
                    assert_elements(tsr_gather(x, dim - 3, index), shape, entry_of, &a);
                }
            }
        }
    }
}

static void test_gather__large(void **state)
{
    (void)state;
    tsr_tensor *x = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(13, 101, 37), 1);
    tsr_tensor *index = reference_indices(TSR_SHAPE(13, 89, 37), 101, 1);
    struct arguments a = {x, index, 1};
    assert_elements(tsr_gather(x, 1, index), TSR_SHAPE(13, 89, 37), entry_of, &a);
}

static void test_gather__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_null(tsr_gather(x, 1, tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(3, 3))));
    assert_failed(TSR_STATUS_SHAPE, "gather: index has shape [3, 3], expected that of x, [2, 3], "
                                    "except in dimension 1");
    assert_null(tsr_gather(x, 1, tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(2))));
    assert_failed(TSR_STATUS_SHAPE, "gather: index has shape [2]");
    assert_null(tsr_gather(x, 0, reference_index(TSR_SHAPE(1, 3), 0, 2, 0)));
    assert_failed(TSR_STATUS_ARGUMENT, "gather: element 1 of index is 2, expected 0 to 1");
    assert_null(tsr_gather(x, 2, reference_index(TSR_SHAPE(1, 3), 0, 0, 0)));
    assert_failed(TSR_STATUS_ARGUMENT, "gather: dim is 2, expected -2 to 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_gather__every_type_and_dimension),
        tsr_test(test_gather__large),
        tsr_test(test_gather__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
