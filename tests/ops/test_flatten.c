#include "tests/ops/reference.h"

static double in_order(const int64_t *ix, const void *args)
{
    tsr_tensor *const *xy = args;
    int64_t i = 0;
    for (int d = 0; d < tsr_tensor_ndim(xy[1]); d++) i = i * tsr_tensor_size(xy[1], d) + ix[d];
    return tsr_tensor_get(xy[0], i);
}

static void test_flatten__every_range(void **state)
{
    (void)state;
    static const tsr_shape shapes[3][3] = {
        {{3, {2, 3, 5}}, {2, {6, 5}}, {1, {30}}},
        {{0}, {3, {2, 3, 5}}, {2, {2, 15}}},
        {{0}, {0}, {3, {2, 3, 5}}},
    };
    for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
        for (int start = 0; start < 3; start++) {
            for (int end = start; end < 3; end++) {
                tsr_tensor *x = reference_input(TSR_DTYPE_F64, TSR_SHAPE(2, 3, 5), layout);
                tsr_tensor *y = tsr_flatten(x, start, end - 3);
                assert_elements(y, shapes[start][end], in_order, ((tsr_tensor *[]){x, y}));
                if (layout == REFERENCE_CONTIGUOUS) assert_view_of(y, x);
            }
        }
    }
}

static void test_flatten__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_null(tsr_flatten(x, 1, 0));
    assert_failed(TSR_STATUS_ARGUMENT, "flatten: start 1 lies behind end 0");
    assert_null(tsr_flatten(x, 0, 2));
    assert_failed(TSR_STATUS_ARGUMENT, "flatten: end is 2, expected -2 to 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_flatten__every_range),
        tsr_test(test_flatten__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
