#include "tests/ops/reference.h"

struct arguments {
    tsr_tensor *x;
    int dim;
};

static double reversed(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    int64_t source[TSR_MAX_DIMS];
    memcpy(source, ix, sizeof source);
    source[a->dim] = tsr_tensor_size(a->x, a->dim) - 1 - ix[a->dim];
    return reference_get(a->x, source);
}

static void test_flip__every_dimension(void **state)
{
    (void)state;
    TSR_EACH_DTYPE(dtype)
    {
        for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
            for (int dim = 0; dim < 3; dim++) {
                tsr_tensor *x = reference_input(dtype, TSR_SHAPE(2, 3, 5), layout);
                tsr_tensor *y = tsr_flip(x, dim);
                struct arguments a = {x, dim};
                assert_elements(y, TSR_SHAPE(2, 3, 5), reversed, &a);
                assert_true(tsr_tensor_is_contiguous(y));
                assert_same(tsr_flip(y, dim - 3), x);
            }
        }
    }
}

static void test_flip__errors(void **state)
{
    (void)state;
    assert_null(tsr_flip(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4)), -2));
    assert_failed(TSR_STATUS_ARGUMENT, "flip: dim is -2, expected -1 to 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_flip__every_dimension),
        tsr_test(test_flip__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
