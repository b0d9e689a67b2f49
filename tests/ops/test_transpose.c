#include "tests/ops/reference.h"

struct arguments {
    tsr_tensor *x;
    int a, b;
};

static double transposed(const int64_t *ix, const void *args)
{
    const struct arguments *s = args;
    int64_t source[TSR_MAX_DIMS];
    memcpy(source, ix, sizeof source);
    source[s->a] = ix[s->b];
    source[s->b] = ix[s->a];
    return reference_get(s->x, source);
}

static void test_transpose__exchanges_two_dimensions(void **state)
{
    (void)state;
    for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
        for (int a = 0; a < 3; a++) {
            for (int b = 0; b < 3; b++) {
                tsr_tensor *x = reference_input(TSR_DTYPE_F32, TSR_SHAPE(2, 3, 5), layout);
                tsr_shape shape = tsr_tensor_shape(x);
                shape.size[a] = tsr_tensor_size(x, b);
                shape.size[b] = tsr_tensor_size(x, a);
                tsr_tensor *y = tsr_transpose(x, a, b - 3);
                assert_elements(y, shape, transposed, (&(struct arguments){x, a, b}));
                assert_view_of(y, x);
            }
        }
    }
}

static void test_transpose__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_null(tsr_transpose(x, 2, 0));
    assert_failed(TSR_STATUS_ARGUMENT, "transpose: dim0 is 2, expected -2 to 1");
    assert_null(tsr_transpose(x, 0, -3));
    assert_failed(TSR_STATUS_ARGUMENT, "transpose: dim1 is -3, expected -2 to 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_transpose__exchanges_two_dimensions),
        tsr_test(test_transpose__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
