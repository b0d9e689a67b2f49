#include "tests/ops/reference.h"

/* y's element is x's at the same place, or at 0 where x was stretched. */
static double stretched(const int64_t *ix, const void *args)
{
    tsr_tensor *x = ((tsr_tensor *const *)args)[0], *y = ((tsr_tensor *const *)args)[1];
    int64_t at[TSR_MAX_DIMS];
    int lead = tsr_tensor_ndim(y) - tsr_tensor_ndim(x);
    for (int d = 0; d < tsr_tensor_ndim(x); d++) {
        at[d] = tsr_tensor_size(x, d) == 1 ? 0 : ix[d + lead];
    }
    return reference_get(x, at);
}

static void test_expand__repeats_without_a_copy(void **state)
{
    (void)state;
    const tsr_shape shapes[][2] = {
        {TSR_SHAPE(1, 5), TSR_SHAPE(3, 5)},       {TSR_SHAPE(3, 1), TSR_SHAPE(2, 3, 4)},
        {TSR_SHAPE_SCALAR, TSR_SHAPE(2, 3)},      {TSR_SHAPE(4), TSR_SHAPE(4)},
        {TSR_SHAPE(2, 1, 3), TSR_SHAPE(2, 7, 3)}, {TSR_SHAPE(1), TSR_SHAPE(1, 1, 1)},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        TSR_EACH_DTYPE(dtype)
        {
            tsr_tensor *x = reference_input(dtype, shapes[i][0], (int)i % 2);
            tsr_tensor *y = tsr_expand(x, shapes[i][1]), *both[] = {x, y};
            assert_elements(y, shapes[i][1], stretched, both);
            assert_view_of(y, x);
        }
    }
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(1, 3));
    assert_int_equal(tsr_tensor_numel(tsr_expand(x, TSR_SHAPE(0, 3))), 0);
    assert_ok();
}

static void test_expand__gradient_sums_what_was_repeated(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = tsr_require_grad(tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(2, 1)), true);
    const double cotangent[] = {1, 2, 3, 10, 20, 30}, wanted[] = {6, 60};
    tsr_tensor *v = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2, 3), cotangent);
    tsr_tensor *g = reference_gradient(tape, tsr_expand(x, TSR_SHAPE(2, 3)), v, x);
    assert_close(g, tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2, 1), wanted), 0.0);
    tsr_tape_close(&tape);
}

static void test_expand__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_null(tsr_expand(x, TSR_SHAPE(4, 3)));
    assert_failed(TSR_STATUS_SHAPE, "expand: x has shape [2, 3], which does not stretch to [4, 3]");
    assert_null(tsr_expand(x, TSR_SHAPE(3)));
    assert_failed(TSR_STATUS_SHAPE, "which does not stretch to [3]");
    assert_null(tsr_expand(NULL, TSR_SHAPE(3)));
    assert_ok();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_expand__repeats_without_a_copy),
        tsr_test(test_expand__gradient_sums_what_was_repeated),
        tsr_test(test_expand__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
