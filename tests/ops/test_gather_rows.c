#include "tests/ops/reference.h"

static double row_of(const int64_t *ix, const void *args)
{
    tsr_tensor *const *a = args;
    int64_t source[TSR_MAX_DIMS];
    memcpy(source, ix, sizeof source);
    source[0] = (int64_t)tsr_tensor_get(a[1], ix[0]);
    return reference_get(a[0], source);
}

static void test_gather_rows__of_every_type_and_layout(void **state)
{
    (void)state;
    TSR_EACH_DTYPE(dtype)
    {
        for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
            tsr_tensor *x = reference_input(dtype, TSR_SHAPE(5, 3, 7), layout);
            tsr_tensor *index = reference_index(TSR_SHAPE(6), 4, 0, 2, 2, 4, 1);
            assert_elements(tsr_gather_rows(x, index), TSR_SHAPE(6, 3, 7), row_of,
                            ((tsr_tensor *[]){x, index}));
        }
    }
}

static void test_gather_rows__large(void **state)
{
    (void)state;
    tsr_tensor *x = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(101, 257), 1);
    tsr_tensor *index = reference_indices(TSR_SHAPE(397), 101, 2);
    assert_elements(tsr_gather_rows(x, index), TSR_SHAPE(397, 257), row_of,
                    ((tsr_tensor *[]){x, index}));
    tsr_tensor *half = tsr_slice(x, 1, 0, 257, 2); /* strided rows */
    assert_elements(tsr_gather_rows(half, index), TSR_SHAPE(397, 129), row_of,
                    ((tsr_tensor *[]){half, index}));
}

/* Rows that are read several times collect several gradients, with the same bits at any thread count. */
static void test_gather_rows__gradient_of_repeated_rows(void **state)
{
    (void)state;
    int before = tsr_threads();
    tsr_tensor *x = tsr_require_grad(reference_normal(TSR_DTYPE_F32, TSR_SHAPE(3, 700), 1), true);
    tsr_tensor *index = reference_indices(TSR_SHAPE(500), 3, 2), *first = NULL;
    tsr_tensor *v = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(500, 700), 3);
    for (int threads = 1; threads <= 4; threads++) {
        tsr_threads_set(threads);
        tsr_tape *tape = tsr_tape_open();
        tsr_tensor *g = reference_gradient(tape, tsr_gather_rows(x, index), v, x);
        if (first == NULL) first = g;
        assert_same(g, first);
        tsr_tape_close(&tape);
    }
    tsr_threads_set(before);
    float sum = 0.0f;
    for (int64_t i = 0; i < 500; i++) {
        if (tsr_tensor_get(index, i) == 1.0) sum += (float)tsr_tensor_get(v, i * 700 + 9);
    }
    assert_true((float)tsr_tensor_get(first, 709) == sum);
}

static void test_gather_rows__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4, 2));
    assert_null(tsr_gather_rows(x, reference_index(TSR_SHAPE(3), 0, 4, 1)));
    assert_failed(TSR_STATUS_ARGUMENT, "gather_rows: element 1 of index is 4, expected 0 to 3");
    assert_null(tsr_gather_rows(x, reference_index(TSR_SHAPE(1), -1)));
    assert_failed(TSR_STATUS_ARGUMENT, "element 0 of index is -1");
    assert_null(tsr_gather_rows(x, tsr_zeros(TSR_DTYPE_I32, TSR_SHAPE(1))));
    assert_failed(TSR_STATUS_DTYPE, "gather_rows: index is i32, expected i64");
    assert_null(tsr_gather_rows(x, reference_index(TSR_SHAPE(1, 1), 0)));
    assert_failed(TSR_STATUS_SHAPE, "gather_rows: index has shape [1, 1], expected [n]");
    assert_null(tsr_gather_rows(tsr_scalar(TSR_DTYPE_F32, 0.0), reference_index(TSR_SHAPE(1), 0)));
    assert_failed(TSR_STATUS_SHAPE, "gather_rows: x has shape []");
    assert_null(tsr_gather_rows(x, NULL));
    assert_ok();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_gather_rows__of_every_type_and_layout),
        tsr_test(test_gather_rows__large),
        tsr_test(test_gather_rows__gradient_of_repeated_rows),
        tsr_test(test_gather_rows__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
