#include "tests/ops/reference.h"

struct arguments {
    tsr_tensor *x;
    const int *dims;
};

static double permuted(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    int64_t source[TSR_MAX_DIMS];
    int n = tsr_tensor_ndim(a->x);
    for (int d = 0; d < n; d++) source[(a->dims[d] + n) % n] = ix[d];
    return reference_get(a->x, source);
}

static void test_permute__moves_dimensions(void **state)
{
    (void)state;
    static const int orders[][3] = {{0, 1, 2}, {2, 0, 1}, {1, 0, 2}, {-1, -2, -3}};
    TSR_EACH_DTYPE(dtype)
    {
        for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
            for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
                tsr_tensor *x = reference_input(dtype, TSR_SHAPE(3, 5, 7), layout);
                tsr_tensor *y = tsr_permute(x, orders[i]);
                tsr_shape shape = {.ndim = 3};
                for (int d = 0; d < 3; d++) shape.size[d] = tsr_tensor_size(x, orders[i][d]);
                assert_elements(y, shape, permuted, (&(struct arguments){x, orders[i]}));
                assert_view_of(y, x);
            }
        }
    }
}

static void test_permute__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_null(tsr_permute(x, (const int[]){1, 1}));
    assert_failed(TSR_STATUS_ARGUMENT, "permute: dims names dimension 1 twice");
    assert_null(tsr_permute(x, (const int[]){0, 2}));
    assert_failed(TSR_STATUS_ARGUMENT, "permute: an entry of dims is 2, expected -2 to 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_permute__moves_dimensions),
        tsr_test(test_permute__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
