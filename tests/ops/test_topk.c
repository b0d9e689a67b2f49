#include "tests/ops/reference.h"

/* The head of the sorted lanes: sort has a test of its own. */
static void check(tsr_tensor *x, int dim)
{
    tsr_tensor *order, *sorted = tsr_sort(x, dim, true, &order);
    int64_t n = tsr_tensor_size(x, dim);
    for (int64_t k = 0; k <= n; k += 1 + k) {
        tsr_tensor *indices, *y = tsr_topk(x, k, dim, &indices);
        assert_same(y, tsr_slice(sorted, dim, 0, k, 1));
        assert_same(indices, tsr_slice(order, dim, 0, k, 1));
    }
}

static void test_topk__is_the_head_of_the_sorted_lane(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0, 1, 2, 5, 64, 1009};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int dim = -2; dim < 2; dim++) {
            tsr_shape shape = dim % 2 == 0 ? TSR_SHAPE(sizes[i], 5) : TSR_SHAPE(5, sizes[i]);
            check(reference_normal(TSR_DTYPE_F64, shape, 1), dim);
            check(reference_normal(TSR_DTYPE_F32, shape, 1), dim);
            check(tsr_cast(reference_indices(shape, 4, 2), TSR_DTYPE_F32), dim);
        }
    }
}

static void test_topk__ties_and_nan(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_from(TSR_DTYPE_F32, TSR_SHAPE(6), (const float[]){2, 7, NAN, 7, NAN, 2});
    tsr_tensor *indices;
    tsr_topk(x, 5, 0, &indices);
    assert_same(indices, reference_index(TSR_SHAPE(5), 2, 4, 1, 3, 0));
}

/* The gradient goes to the chosen elements, of equals to the one chosen. */
static void test_topk__gradient(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(5), (const double[]){1, 9, 3, 9, 4});
    tsr_require_grad(x, true);
    tsr_tensor *v = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(1), (const double[]){2.5});
    tsr_tensor *wanted = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(5), (const double[]){0, 2.5, 0, 0, 0});
    assert_same(reference_gradient(tape, tsr_topk(x, 1, 0, NULL), v, x), wanted);
    tsr_tape_close(&tape);
}

static void test_topk__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3)), *indices = x;
    assert_null(tsr_topk(x, 4, 1, &indices));
    assert_null(indices);
    assert_failed(TSR_STATUS_ARGUMENT, "topk: k is 4, expected 0 to 3");
    assert_null(tsr_topk(x, -1, 1, NULL));
    assert_failed(TSR_STATUS_ARGUMENT, "topk: k is -1, expected 0 to 3");
    assert_null(tsr_topk(x, 1, 2, NULL));
    assert_failed(TSR_STATUS_ARGUMENT, "topk: dim is 2, expected -2 to 1");
    assert_null(tsr_topk(tsr_zeros(TSR_DTYPE_U8, TSR_SHAPE(2)), 1, 0, NULL));
    assert_failed(TSR_STATUS_DTYPE, "topk: x is u8, expected f32 or f64");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_topk__is_the_head_of_the_sorted_lane),
        tsr_test(test_topk__ties_and_nan),
        tsr_test(test_topk__gradient),
        tsr_test(test_topk__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
