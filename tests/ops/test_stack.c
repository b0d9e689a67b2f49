#include "tests/ops/reference.h"

struct arguments {
    tsr_tensors parts;
    int dim;
};

static double stacked(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    int64_t source[TSR_MAX_DIMS];
    for (int d = 0; d < tsr_tensor_ndim(a->parts.at[0]); d++) source[d] = ix[d + (d >= a->dim)];
    return reference_get(a->parts.at[ix[a->dim]], source);
}

static void test_stack__every_dimension(void **state)
{
    (void)state;
    static const tsr_shape shapes[] = {{3, {2, 3, 5}}, {3, {3, 2, 5}}, {3, {3, 5, 2}}};
    TSR_EACH_DTYPE(dtype)
    {
        for (int dim = 0; dim < 3; dim++) {
            tsr_tensor *a = reference_input(dtype, TSR_SHAPE(3, 5), REFERENCE_CONTIGUOUS);
            tsr_tensor *b =
                tsr_transpose(reference_input(dtype, TSR_SHAPE(5, 3), REFERENCE_REVERSED), 0, 1);
            struct arguments s = {TSR_TENSORS(a, b), dim};
            assert_elements(tsr_stack(s.parts, dim), shapes[dim], stacked, &s);
            assert_elements(tsr_stack(s.parts, dim - 3), shapes[dim], stacked, &s);
        }
    }
}

static void test_stack__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_null(tsr_stack(TSR_TENSORS(x, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3, 2))), 0));
    assert_failed(TSR_STATUS_SHAPE, "stack: part 1 has shape [3, 2], expected [2, 3]");
    assert_null(tsr_stack(TSR_NO_TENSORS, 0));
    assert_failed(TSR_STATUS_ARGUMENT, "stack: no parts");
    assert_null(tsr_stack(TSR_TENSORS(x, x), 3));
    assert_failed(TSR_STATUS_ARGUMENT, "dim is 3, expected -3 to 2");
    assert_null(tsr_stack(TSR_TENSORS(NULL, x), 0));
    assert_ok();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_stack__every_dimension),
        tsr_test(test_stack__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
