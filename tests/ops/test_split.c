#include "tests/ops/reference.h"

struct arguments {
    tsr_tensor *x;
    int dim;
    int64_t start;
};

static double shifted(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    int64_t source[TSR_MAX_DIMS];
    memcpy(source, ix, sizeof source);
    source[a->dim] += a->start;
    return reference_get(a->x, source);
}

static void test_split__gives_equal_views(void **state)
{
    (void)state;
    for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
        for (int dim = 0; dim < 2; dim++) {
            tsr_tensor *x = reference_input(TSR_DTYPE_F32, TSR_SHAPE(6, 12), layout), *parts[6];
            for (int n = 1; n <= 6; n++) {
                int64_t size = tsr_tensor_size(x, dim);
                if (size % n != 0) continue;
                assert_int_equal(tsr_split(x, dim - 2, n, parts), TSR_STATUS_OK);
                for (int i = 0; i < n; i++) {
                    tsr_shape shape = tsr_tensor_shape(x);
                    shape.size[dim] = size / n;
                    struct arguments a = {x, dim, i * (size / n)};
                    assert_elements(parts[i], shape, shifted, &a);
                    assert_view_of(parts[i], x);
                }
            }
        }
    }
}

/* A part that nothing uses has a gradient of zeros. */
static void test_split__gradient_of_one_part(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = tsr_require_grad(tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(6)), true), *parts[3];
    tsr_split(x, 0, 3, parts);
    tsr_tensor *v = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2), (const double[]){1, 2});
    tsr_tensor *wanted = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(6), (const double[]){0, 0, 1, 2, 0, 0});
    assert_same(reference_gradient(tape, parts[1], v, x), wanted);
    tsr_tape_close(&tape);
}

static void test_split__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 5)), *parts[2] = {x, x};
    assert_int_equal(tsr_split(x, 1, 2, parts), TSR_STATUS_ARGUMENT);
    assert_null(parts[0]);
    assert_null(parts[1]);
    assert_failed(TSR_STATUS_ARGUMENT,
                  "split: n is 2, which does not divide the 5 elements of dimension 1");
    tsr_split(x, 1, 0, parts);
    assert_failed(TSR_STATUS_ARGUMENT, "split: n is 0");
    tsr_split(x, 2, 1, parts);
    assert_failed(TSR_STATUS_ARGUMENT, "split: dim is 2, expected -2 to 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_split__gives_equal_views),
        tsr_test(test_split__gradient_of_one_part),
        tsr_test(test_split__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
