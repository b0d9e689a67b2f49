#include "tests/ops/reference.h"

static double sum_of_rows(const int64_t *ix, const void *args)
{
    tsr_tensor *const *a = args;
    int64_t source[TSR_MAX_DIMS];
    memcpy(source, ix, sizeof source);
    double sum = 0.0;
    for (source[0] = 0; source[0] < tsr_tensor_size(a[0], 0); source[0]++) {
        if ((int64_t)tsr_tensor_get(a[1], source[0]) == ix[0]) sum += reference_get(a[0], source);
    }
    return sum;
}

static void test_scatter_rows__sums_what_arrives(void **state)
{
    (void)state;
    for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
        tsr_tensor *x = reference_input(TSR_DTYPE_F64, TSR_SHAPE(11, 3, 5), layout);
        tsr_tensor *index = reference_indices(TSR_SHAPE(11), 4, 1);
        assert_elements(tsr_scatter_rows(x, index, 6), TSR_SHAPE(6, 3, 5), sum_of_rows,
                        ((tsr_tensor *[]){x, index}));
    }
    tsr_tensor *x = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(97, 397), 1);
    tsr_tensor *index = reference_indices(TSR_SHAPE(97), 7, 1);
    assert_elements_close(tsr_scatter_rows(x, index, 7), TSR_SHAPE(7, 397), sum_of_rows,
                          ((tsr_tensor *[]){x, index}), 1e-5);
}

static void test_scatter_rows__same_bits_at_any_thread_count(void **state)
{
    (void)state;
    int before = tsr_threads();
    tsr_tensor *x = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(503, 197), 1), *first = NULL;
    tsr_tensor *index = reference_indices(TSR_SHAPE(503), 5, 1);
    for (int threads = 1; threads <= 4; threads++) {
        tsr_threads_set(threads);
        tsr_tensor *y = tsr_scatter_rows(x, index, 5);
        if (first == NULL) first = y;
        assert_same(y, first);
    }
    tsr_threads_set(before);
}

static void test_scatter_rows__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_null(tsr_scatter_rows(x, reference_index(TSR_SHAPE(3), 0, 1, 2), 3));
    assert_failed(TSR_STATUS_SHAPE, "scatter_rows: index has shape [3], expected [2]");
    assert_null(tsr_scatter_rows(x, reference_index(TSR_SHAPE(2), 0, 3), 3));
    assert_failed(TSR_STATUS_ARGUMENT, "scatter_rows: element 1 of index is 3, expected 0 to 2");
    assert_null(tsr_scatter_rows(tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(1)),
                                 reference_index(TSR_SHAPE(1), 0), 1));
    assert_failed(TSR_STATUS_DTYPE, "scatter_rows: x is i64, expected f32, f64 or bf16");
    assert_null(tsr_scatter_rows(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(0, 3)),
                                 tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(0)), -1));
    assert_failed(TSR_STATUS_SHAPE, "is not a shape");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_scatter_rows__sums_what_arrives),
        tsr_test(test_scatter_rows__same_bits_at_any_thread_count),
        tsr_test(test_scatter_rows__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
