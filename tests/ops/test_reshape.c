#include "tests/ops/reference.h"

static double in_order(const int64_t *ix, const void *args)
{
    tsr_tensor *const *xy = args;
    int64_t i = 0;
    for (int d = 0; d < tsr_tensor_ndim(xy[1]); d++) i = i * tsr_tensor_size(xy[1], d) + ix[d];
    return tsr_tensor_get(xy[0], i);
}

static void test_reshape__keeps_the_row_major_order(void **state)
{
    (void)state;
    static const tsr_shape shapes[][2] = {
        {{3, {2, 3, 4}}, {2, {6, 4}}},
        {{3, {2, 3, 4}}, {2, {3, 8}}},
        {{2, {6, 4}}, {4, {2, 3, 2, 2}}},
        {{1, {1}}, {0}},
        {{0}, {3, {1, 1, 1}}},
        {{3, {5, 1, 7}}, {2, {5, 7}}},
        {{2, {0, 5}}, {3, {3, 0, 2}}},
        {{3, {13, 1, 11}}, {4, {1, 143, 1, 1}}},
    };
    TSR_EACH_DTYPE(dtype)
    {
        for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
            for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
                tsr_tensor *x = reference_input(dtype, shapes[i][0], layout);
                tsr_tensor *y = tsr_reshape(x, shapes[i][1]);
                assert_elements(y, shapes[i][1], in_order, ((tsr_tensor *[]){x, y}));
            }
        }
    }
}

static void test_reshape__views_where_the_strides_allow(void **state)
{
    (void)state;
    tsr_tensor *x = reference_input(TSR_DTYPE_F32, TSR_SHAPE(4, 6, 10), REFERENCE_CONTIGUOUS);
    assert_view_of(tsr_reshape(x, TSR_SHAPE(24, 10)), x);
    /* Columns 2 .. 7 of the last dimension: the first two still merge, and the last one can be cut. */
    tsr_tensor *columns = tsr_slice(x, -1, 2, 8, 1);
    tsr_tensor *y = tsr_reshape(columns, TSR_SHAPE(24, 2, 3));
    assert_view_of(y, x);
    assert_elements(y, TSR_SHAPE(24, 2, 3), in_order, ((tsr_tensor *[]){columns, y}));
    /* Merged with its neighbour it cannot: a copy. */
    y = tsr_reshape(columns, TSR_SHAPE(4, 36));
    assert_false(reference_is_view(y, x));
    assert_elements(y, TSR_SHAPE(4, 36), in_order, ((tsr_tensor *[]){columns, y}));
    /* A transposed matrix, split along either dimension. */
    tsr_tensor *t = tsr_transpose(tsr_select(x, 0, 0), 0, 1);
    y = tsr_reshape(t, TSR_SHAPE(5, 2, 3, 2));
    assert_view_of(y, x);
    assert_elements(y, TSR_SHAPE(5, 2, 3, 2), in_order, ((tsr_tensor *[]){t, y}));
    /* Stretched rows (stride 0). */
    tsr_tensor *rows = tsr_expand(tsr_reshape(t, TSR_SHAPE(60)), TSR_SHAPE(3, 60));
    y = tsr_reshape(rows, TSR_SHAPE(3, 6, 10));
    assert_view_of(y, rows);
    assert_elements(y, TSR_SHAPE(3, 6, 10), in_order, ((tsr_tensor *[]){rows, y}));
    assert_ptr_equal(tsr_reshape(x, TSR_SHAPE(4, 6, 10)), x);
}

static void test_reshape__fills_in_what_is_left(void **state)
{
    (void)state;
    tsr_tensor *x = reference_input(TSR_DTYPE_I32, TSR_SHAPE(4, 6), REFERENCE_CONTIGUOUS);
    assert_true(tsr_shape_equal(tsr_tensor_shape(tsr_reshape(x, TSR_SHAPE(-1))), TSR_SHAPE(24)));
    assert_true(
        tsr_shape_equal(tsr_tensor_shape(tsr_reshape(x, TSR_SHAPE(3, -1, 2))), TSR_SHAPE(3, 4, 2)));
    assert_ok();
}

static void test_reshape__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4, 6));
    const char *text = "reshape: x has shape [4, 6] (24 elements), which is not [5, 5]";
    assert_null(tsr_reshape(x, TSR_SHAPE(5, 5)));
    assert_failed(TSR_STATUS_SHAPE, text);
    assert_null(tsr_reshape(x, TSR_SHAPE(7, -1)));
    assert_failed(TSR_STATUS_SHAPE, "which is not [7, -1]");
    assert_null(tsr_reshape(x, TSR_SHAPE(-1, -1)));
    assert_failed(TSR_STATUS_SHAPE, "which is not [-1, -1]");
    assert_null(tsr_reshape(x, TSR_SHAPE(-4, -6)));
    assert_failed(TSR_STATUS_SHAPE, "reshape: x");
    assert_null(tsr_reshape(x, TSR_SHAPE(INT64_C(1) << 62, INT64_C(1) << 62)));
    assert_failed(TSR_STATUS_SHAPE, "reshape: x");
    /* With no elements any size would do. */
    assert_null(tsr_reshape(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(0)), TSR_SHAPE(0, -1)));
    assert_failed(TSR_STATUS_SHAPE, "which is not [0, -1]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_reshape__keeps_the_row_major_order),
        tsr_test(test_reshape__views_where_the_strides_allow),
        tsr_test(test_reshape__fills_in_what_is_left),
        tsr_test(test_reshape__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
