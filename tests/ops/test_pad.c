#include "tests/ops/reference.h"

struct arguments {
    tsr_tensor *x;
    int64_t before[TSR_MAX_DIMS];
    double value;
};

static double padded(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    int64_t source[TSR_MAX_DIMS];
    for (int d = 0; d < tsr_tensor_ndim(a->x); d++) {
        source[d] = ix[d] - a->before[d];
        if (source[d] < 0 || source[d] >= tsr_tensor_size(a->x, d)) return a->value;
    }
    return reference_get(a->x, source);
}

static void test_pad__pads_and_cuts(void **state)
{
    (void)state;
    TSR_EACH_DTYPE(dtype)
    {
        for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
            tsr_tensor *x = reference_input(dtype, TSR_SHAPE(4, 5), layout);
            for (int64_t b = -3; b <= 3; b++) {
                for (int64_t a = -1; a <= 2; a++) {
                    struct arguments s = {x, {b, a}, 1.0};
                    tsr_tensor *y = tsr_pad(x, s.before, (const int64_t[]){a, b < -2 ? 0 : b}, 1.0);
                    tsr_shape shape = TSR_SHAPE(4 + b + a, 5 + a + (b < -2 ? 0 : b));
                    assert_elements(y, shape, padded, &s);
                }
            }
        }
    }
}

static void test_pad__with_infinity(void **state)
{
    (void)state;
    tsr_tensor *x = reference_input(TSR_DTYPE_F32, TSR_SHAPE(3), REFERENCE_CONTIGUOUS);
    struct arguments s = {x, {1}, -(double)INFINITY};
    assert_elements(tsr_pad(x, s.before, s.before, s.value), TSR_SHAPE(5), padded, &s);
}

static void test_pad__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3));
    assert_null(tsr_pad(x, (const int64_t[]){-2}, (const int64_t[]){-2}, 0.0));
    assert_failed(TSR_STATUS_SHAPE, "pad: more than all of dimension 0 of x [3] is cut away");
    /* All of x and one of the padding: an element that never was. */
    assert_null(tsr_pad(x, (const int64_t[]){-4}, (const int64_t[]){2}, 0.0));
    assert_failed(TSR_STATUS_SHAPE, "pad: more than all");
    assert_null(tsr_pad(x, (const int64_t[]){INT64_MAX}, (const int64_t[]){1}, 0.0));
    assert_failed(TSR_STATUS_SHAPE, "pad: ");
    assert_null(tsr_pad(x, (const int64_t[]){INT64_MIN}, (const int64_t[]){INT64_MIN}, 0.0));
    assert_failed(TSR_STATUS_SHAPE, "pad: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_pad__pads_and_cuts),
        tsr_test(test_pad__with_infinity),
        tsr_test(test_pad__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
