#include "tests/ops/reference.h"

static double row_of(const int64_t *ix, const void *args)
{
    tsr_tensor *const *a = args;
    int n = tsr_tensor_ndim(a[1]);
    return reference_get(a[0], (int64_t[]){(int64_t)reference_get(a[1], ix), ix[n]});
}

static void test_embedding__looks_rows_up(void **state)
{
    (void)state;
    tsr_tensor *weight = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(50, 7), 1);
    tsr_tensor *index = tsr_transpose(reference_indices(TSR_SHAPE(5, 3), 50, 1), 0, 1);
    assert_elements(tsr_embedding(weight, index), TSR_SHAPE(3, 5, 7), row_of,
                    ((tsr_tensor *[]){weight, index}));
    tsr_tensor *one = reference_index(TSR_SHAPE_SCALAR, 49);
    assert_elements(tsr_embedding(weight, one), TSR_SHAPE(7), row_of,
                    ((tsr_tensor *[]){weight, one}));
}

static void test_embedding__errors(void **state)
{
    (void)state;
    tsr_tensor *weight = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4, 2));
    assert_null(tsr_embedding(weight, reference_index(TSR_SHAPE(2, 1), 3, 4)));
    assert_failed(TSR_STATUS_ARGUMENT, "embedding: element 1 of index is 4, expected 0 to 3");
    assert_null(
        tsr_embedding(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4)), reference_index(TSR_SHAPE(1), 0)));
    assert_failed(TSR_STATUS_SHAPE,
                  "embedding: weight has shape [4] and index [1], expected [V, D]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_embedding__looks_rows_up),
        tsr_test(test_embedding__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
