#include "tests/ops/elementwise.h"

static void test_pow__values(void **state)
{
    (void)state;
    assert_binary(tsr_pow, pow, -2.0, 2.0, 2.0);
}

static void test_pow__gradients_at_zero(void **state)
{
    (void)state;
    /* x, y, dx, dy */
    const double at[][4] = {{0.0, 0.0, 0.0, 0.0},   {0.0, 1.0, 1.0, 0.0},
                            {0.0, 2.0, 0.0, 0.0},   {0.0, 3.0, 0.0, 0.0},
                            {2.0, 0.0, 0.0, M_LN2}, {-2.0, 2.0, -4.0, (double)NAN}};
    for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
        double dx, dy;
        elementwise_gradients(tsr_pow, at[i][0], at[i][1], &dx, &dy);
        assert_true(elementwise_near(TSR_DTYPE_F64, dx, at[i][2], 2.0));
        assert_true(elementwise_near(TSR_DTYPE_F64, dy, at[i][3], 2.0));
    }
}

static void test_pow__second_derivative_at_zero(void **state)
{
    (void)state;
    /* x^2 at 0: 2, and x^3: 0, not NaN. */
    for (int n = 2; n <= 3; n++) {
        tsr_tape *tape = tsr_tape_open();
        tsr_tensor *x = tsr_require_grad(tsr_scalar(TSR_DTYPE_F64, 0.0), true), *dx, *ddx;
        tsr_tensor *y = tsr_pow(x, tsr_scalar(TSR_DTYPE_F64, n));
        tsr_grad(tape, TSR_TENSORS(y), TSR_NO_TENSORS, TSR_TENSORS(x), &dx,
                 &(tsr_backward_options){.create_graph = true});
        tsr_grad(tape, TSR_TENSORS(dx), TSR_NO_TENSORS, TSR_TENSORS(x), &ddx, NULL);
        assert_ok();
        assert_true(tsr_tensor_item(ddx) == (n == 2 ? 2.0 : 0.0));
        tsr_tape_close(&tape);
    }
}

static void test_pow__errors(void **state)
{
    (void)state;
    elementwise_binary_refused("pow", tsr_pow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_pow__values),
        tsr_test(test_pow__gradients_at_zero),
        tsr_test(test_pow__second_derivative_at_zero),
        tsr_test(test_pow__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
