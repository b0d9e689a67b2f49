#include "tests/ops/reference.h"

/* y by the definition, in f64: one pass over x. */
static tsr_tensor *expected(tsr_tensor *x, int dim, tsr_tensor *index, int64_t n)
{
    tsr_shape shape = tsr_tensor_shape(x), out = shape;
    out.size[dim] = n;
    tsr_tensor *y = tsr_zeros(TSR_DTYPE_F64, out);
    double *data = tsr_tensor_data_mut(y);
    for (int64_t i = 0; i < tsr_tensor_numel(x); i++) {
        int64_t ix[TSR_MAX_DIMS], at = 0;
        reference_unravel(shape, i, ix);
        ix[dim] = (int64_t)tsr_tensor_get(index, i);
        for (int d = 0; d < out.ndim; d++) at = at * out.size[d] + ix[d];
        data[at] += tsr_tensor_get(x, i);
    }
    return y;
}

static void test_scatter_add__every_dimension(void **state)
{
    (void)state;
    for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
        for (int dim = 0; dim < 3; dim++) {
            for (int64_t n = 1; n < 9; n += 3) {
                tsr_tensor *x = reference_input(TSR_DTYPE_F64, TSR_SHAPE(3, 5, 4), layout);
                tsr_tensor *index = reference_indices(TSR_SHAPE(3, 5, 4), n, 1);
                assert_same(tsr_scatter_add(x, dim, index, n), expected(x, dim, index, n));
                assert_same(tsr_scatter_add(x, dim - 3, index, n), expected(x, dim, index, n));
            }
        }
    }
}

static void test_scatter_add__same_bits_at_any_thread_count(void **state)
{
    (void)state;
    int before = tsr_threads();
    for (int dim = 0; dim < 3; dim++) {
        tsr_tensor *x = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(29, 31, 101), 1), *first = NULL;
        tsr_tensor *index = reference_indices(TSR_SHAPE(29, 31, 101), 3, 1);
        for (int threads = 1; threads <= 4; threads++) {
            tsr_threads_set(threads);
            tsr_tensor *y = tsr_scatter_add(x, dim, index, 3);
            if (first == NULL) first = y;
            assert_same(y, first);
        }
        assert_close(first, expected(x, dim, index, 3), 1e-5);
    }
    tsr_threads_set(before);
}

static void test_scatter_add__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_null(tsr_scatter_add(x, 1, tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(2, 2)), 3));
    assert_failed(TSR_STATUS_SHAPE,
                  "scatter_add: index has shape [2, 2], expected that of x, [2, 3]");
    assert_null(tsr_scatter_add(x, 1, reference_index(TSR_SHAPE(2, 3), 0, 0, 0, 0, 0, 5), 5));
    assert_failed(TSR_STATUS_ARGUMENT, "scatter_add: element 5 of index is 5, expected 0 to 4");
    assert_null(tsr_scatter_add(tsr_zeros(TSR_DTYPE_BF16, TSR_SHAPE(1)), 0,
                                reference_index(TSR_SHAPE(1), 0), 1));
    assert_failed(TSR_STATUS_DTYPE, "scatter_add: x is bf16, expected f32 or f64");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_scatter_add__every_dimension),
        tsr_test(test_scatter_add__same_bits_at_any_thread_count),
        tsr_test(test_scatter_add__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
