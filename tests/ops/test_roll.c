#include "tests/ops/reference.h"

struct arguments {
    tsr_tensor *x;
    int dim;
    int64_t shift;
};

static double rolled(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    int64_t source[TSR_MAX_DIMS], n = tsr_tensor_size(a->x, a->dim);
    memcpy(source, ix, sizeof source);
    source[a->dim] = ((ix[a->dim] - a->shift) % n + n) % n;
    return reference_get(a->x, source);
}

static void test_roll__every_shift(void **state)
{
    (void)state;
    TSR_EACH_DTYPE(dtype)
    {
        for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
            for (int dim = 0; dim < 3; dim++) {
                tsr_tensor *x = reference_input(dtype, TSR_SHAPE(2, 3, 5), layout);
                for (int64_t shift = -11; shift <= 11; shift++) {
                    struct arguments a = {x, dim, shift};
                    assert_elements(tsr_roll(x, dim - 3, shift), TSR_SHAPE(2, 3, 5), rolled, &a);
                }
            }
        }
    }
}

static void test_roll__extreme_shifts_and_errors(void **state)
{
    (void)state;
    tsr_tensor *x = reference_input(TSR_DTYPE_F32, TSR_SHAPE(4), REFERENCE_CONTIGUOUS);
    assert_same(tsr_roll(x, 0, INT64_MIN), x); /* multiples of four */
    assert_same(tsr_roll(x, 0, INT64_MAX), tsr_roll(x, 0, -1));
    assert_null(tsr_roll(x, 1, 1));
    assert_failed(TSR_STATUS_ARGUMENT, "roll: dim is 1, expected -1 to 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_roll__every_shift),
        tsr_test(test_roll__extreme_shifts_and_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
