#include "tests/ops/reference.h"

static bool less(double a, double b)
{
    return a < b || (isnan(b) && !isnan(a));
}

/* lane[0 .. n) by insertion, which keeps equals in their order; indices too. */
static void insertion_sort(double *lane, int64_t *index, int64_t n, bool descending)
{
    for (int64_t i = 0; i < n; i++) {
        double x = lane[i];
        int64_t at = i;
        for (; at > 0 && (descending ? less(lane[at - 1], x) : less(x, lane[at - 1])); at--) {
            lane[at] = lane[at - 1];
            index[at] = index[at - 1];
        }
        lane[at] = x;
        index[at] = i;
    }
}

/* x [A, N, B] sorted along dimension 1, against insertion sort. */
static void check(tsr_tensor *x, bool descending)
{
    enum { MOST = 2000 };
    tsr_tensor *indices, *y = tsr_sort(x, 1, descending, &indices);
    assert_ok();
    assert_true(tsr_shape_equal(tsr_tensor_shape(y), tsr_tensor_shape(x)));
    assert_int_equal(tsr_tensor_dtype(indices), TSR_DTYPE_I64);
    int64_t n = tsr_tensor_size(x, 1);
    double lane[MOST];
    int64_t index[MOST];
    for (int64_t a = 0; a < tsr_tensor_size(x, 0); a++) {
        for (int64_t b = 0; b < tsr_tensor_size(x, 2); b++) {
            for (int64_t i = 0; i < n; i++) lane[i] = reference_get(x, (int64_t[]){a, i, b});
            insertion_sort(lane, index, n, descending);
            for (int64_t i = 0; i < n; i++) {
                double got = reference_get(y, (int64_t[]){a, i, b});
                assert_true(got == lane[i] || (isnan(got) && isnan(lane[i])));
                assert_true(reference_get(indices, (int64_t[]){a, i, b}) == (double)index[i]);
            }
        }
    }
}

static void test_sort__against_insertion_sort(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0, 1, 2, 3, 7, 8, 64, 101, 1009};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int descending = 0; descending < 2; descending++) {
            check(reference_normal(TSR_DTYPE_F64, TSR_SHAPE(2, sizes[i], 3), 1), descending);
            check(reference_normal(TSR_DTYPE_F32, TSR_SHAPE(2, sizes[i], 3), 1), descending);
            /* Many equals. */
            tsr_tensor *few =
                tsr_cast(reference_indices(TSR_SHAPE(2, sizes[i], 3), 3, 2), TSR_DTYPE_F32);
            check(few, descending);
            check(tsr_transpose(few, 0, 2), descending);
        }
    }
}

static void test_sort__nan_is_largest(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_from(TSR_DTYPE_F32, TSR_SHAPE(1, 7, 1),
                             (const float[]){1, NAN, -INFINITY, INFINITY, NAN, -0.0f, 0.0f});
    check(x, false);
    check(x, true);
    tsr_tensor *y = tsr_sort(x, 1, true, NULL);
    assert_true(isnan(tsr_tensor_get(y, 0)) && isnan(tsr_tensor_get(y, 1)));
    assert_true(tsr_tensor_get(y, 2) == (double)INFINITY);
}

static void test_sort__errors(void **state)
{
    (void)state;
    tsr_tensor *indices = tsr_scalar(TSR_DTYPE_F32, 0.0);
    assert_null(tsr_sort(tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(2)), 0, false, &indices));
    assert_null(indices);
    assert_failed(TSR_STATUS_DTYPE, "sort: x is i64, expected f32 or f64");
    assert_null(tsr_sort(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2)), 1, false, NULL));
    assert_failed(TSR_STATUS_ARGUMENT, "sort: dim is 1, expected -1 to 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_sort__against_insertion_sort),
        tsr_test(test_sort__nan_is_largest),
        tsr_test(test_sort__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
