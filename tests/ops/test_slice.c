#include "tests/ops/reference.h"

struct arguments {
    tsr_tensor *x;
    int dim;
    int64_t start, step;
};

static double sliced(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    int64_t source[TSR_MAX_DIMS];
    memcpy(source, ix, sizeof source);
    source[a->dim] = a->start + ix[a->dim] * a->step;
    return reference_get(a->x, source);
}

static void test_slice__every_start_end_and_step(void **state)
{
    (void)state;
    enum { SIZE = 7 };
    for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
        tsr_tensor *x = reference_input(TSR_DTYPE_F32, TSR_SHAPE(3, SIZE, 2), layout);
        for (int64_t start = 0; start <= SIZE; start++) {
            for (int64_t end = start; end <= SIZE; end++) {
                for (int64_t step = 1; step <= SIZE + 1; step++) {
                    int64_t n = 0;
                    for (int64_t i = start; i < end; i += step) n++;
                    tsr_tensor *y = tsr_slice(x, 1, start, end, step);
                    struct arguments a = {x, 1, start, step};
                    assert_elements(y, TSR_SHAPE(3, n, 2), sliced, &a);
                    if (n > 0) assert_view_of(y, x);
                    if (start == SIZE || end == SIZE || start == end) continue;
                    tsr_tensor *back = tsr_slice(x, -2, start - SIZE, end - SIZE, step);
                    assert_elements(back, TSR_SHAPE(3, n, 2), sliced, &a);
                }
            }
        }
    }
}

static void test_slice__any_type(void **state)
{
    (void)state;
    TSR_EACH_DTYPE(dtype)
    {
        tsr_tensor *x = reference_input(dtype, TSR_SHAPE(9, 5), REFERENCE_CONTIGUOUS);
        struct arguments a = {x, 0, 1, 3};
        assert_elements(tsr_slice(x, 0, 1, 9, 3), TSR_SHAPE(3, 5), sliced, &a);
    }
}

/* Two slices that overlap: their gradients add up where both look. */
static void test_slice__gradient_of_overlapping_slices(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = tsr_require_grad(tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(6)), true);
    tsr_tensor *y = tsr_add(tsr_slice(x, 0, 0, 4, 1), tsr_slice(x, 0, 1, 5, 1));
    tsr_tensor *v = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(4), (const double[]){1, 2, 4, 8});
    tsr_tensor *wanted = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(6), (const double[]){1, 3, 6, 12, 8, 0});
    assert_same(reference_gradient(tape, y, v, x), wanted);
    tsr_tape_close(&tape);
}

static void test_slice__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 5));
    assert_null(tsr_slice(x, 1, 0, 6, 1));
    assert_failed(TSR_STATUS_ARGUMENT,
                  "slice: [0, 6) by 1 does not lie in dimension 1, which has 5 elements");
    assert_null(tsr_slice(x, 1, -6, 5, 1));
    assert_failed(TSR_STATUS_ARGUMENT, "slice: [-6, 5) by 1");
    assert_null(tsr_slice(x, 1, 3, 2, 1));
    assert_failed(TSR_STATUS_ARGUMENT, "slice: [3, 2) by 1");
    assert_null(tsr_slice(x, 1, 0, 5, 0));
    assert_failed(TSR_STATUS_ARGUMENT, "slice: [0, 5) by 0");
    assert_null(tsr_slice(x, 2, 0, 1, 1));
    assert_failed(TSR_STATUS_ARGUMENT, "slice: dim is 2, expected -2 to 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_slice__every_start_end_and_step),
        tsr_test(test_slice__any_type),
        tsr_test(test_slice__gradient_of_overlapping_slices),
        tsr_test(test_slice__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
