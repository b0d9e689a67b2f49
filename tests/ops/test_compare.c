#include "tests/ops/elementwise.h"

static const struct comparison {
    const char *name;
    binary_op *f;
    bool below, equal, above, nan; /* what it answers */
} comparisons[] = {
    {"eq", tsr_eq, false, true, false, false}, {"ne", tsr_ne, true, false, true, true},
    {"lt", tsr_lt, true, false, false, false}, {"le", tsr_le, true, true, false, false},
    {"gt", tsr_gt, false, false, true, false}, {"ge", tsr_ge, false, true, true, false},
};

enum { COMPARISONS = sizeof comparisons / sizeof comparisons[0] };

static double answer(const struct comparison *c, double x, double y)
{
    return isnan(x) || isnan(y) ? c->nan : x < y ? c->below : x > y ? c->above : c->equal;
}

/* Every comparison, type and layout; few different numbers, so that many are equal. */
static void test_compare__values(void **state)
{
    (void)state;
    const tsr_shape shapes[][3] = {
        {TSR_SHAPE(127, 31), TSR_SHAPE(127, 31), TSR_SHAPE(127, 31)},
        {TSR_SHAPE(7), TSR_SHAPE(3, 1), TSR_SHAPE(3, 7)},
        {TSR_SHAPE_SCALAR, TSR_SHAPE(127), TSR_SHAPE(127)},
        {TSR_SHAPE(0, 3), TSR_SHAPE(3), TSR_SHAPE(0, 3)},
    };
    for (int k = 0; k < COMPARISONS; k++) {
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
            TSR_EACH_DTYPE(dtype)
            {
                tsr_tensor *a = reference_input(dtype, shapes[s][0], 0);
                tsr_tensor *b = reference_input(dtype, shapes[s][1], 1);
                tsr_tensor *r = comparisons[k].f(a, b);
                assert_ok();
                assert_int_equal(tsr_tensor_dtype(r), TSR_DTYPE_BOOL);
                assert_true(tsr_shape_equal(tsr_tensor_shape(r), shapes[s][2]));
                for (int64_t i = 0; i < tsr_tensor_numel(r); i++) {
                    double x = elementwise_at(a, shapes[s][2], i);
                    double y = elementwise_at(b, shapes[s][2], i);
                    assert_true(tsr_tensor_get(r, i) == answer(&comparisons[k], x, y));
                }
            }
        }
    }
}

static void test_compare__below_equal_above_and_nan(void **state)
{
    (void)state;
    const double x[] = {1, 2, 3, (double)NAN, -INFINITY, 0.0},
                 y[] = {2, 2, 2, (double)NAN, INFINITY, -0.0};
    for (int k = 0; k < 2 * COMPARISONS; k++) {
        const struct comparison *c = &comparisons[k / 2];
        for (int i = 0; i < 6; i++) {
            tsr_tensor *a = tsr_scalar(elementwise_types[k % 2], x[i]);
            tsr_tensor *b = tsr_scalar(elementwise_types[k % 2], y[i]);
            assert_true(tsr_tensor_item(c->f(a, b)) == answer(c, x[i], y[i]));
        }
    }
    /* As f64 these I64 would be equal. */
    tsr_tensor *a = tsr_from(TSR_DTYPE_I64, TSR_SHAPE(1), (const int64_t[]){INT64_MAX});
    tsr_tensor *b = tsr_from(TSR_DTYPE_I64, TSR_SHAPE(1), (const int64_t[]){INT64_MAX - 1});
    assert_true(tsr_tensor_item(tsr_gt(a, b)) == 1.0);
    assert_true(tsr_tensor_item(tsr_eq(a, b)) == 0.0);
}

static void test_compare__errors(void **state)
{
    (void)state;
    char text[96];
    tsr_tensor *a = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    for (int k = 0; k < COMPARISONS; k++) {
        const struct comparison *c = &comparisons[k];
        assert_null(c->f(a, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2))));
        snprintf(text, sizeof text, "%s: a has shape [2, 3] and b [2], which do not broadcast",
                 c->name);
        assert_failed(TSR_STATUS_SHAPE, text);
        assert_null(c->f(a, tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(3))));
        snprintf(text, sizeof text, "%s: a is f32 and b is i64: cast one of them", c->name);
        assert_failed(TSR_STATUS_DTYPE, text);
        assert_null(c->f(a, NULL));
        assert_null(c->f(NULL, a));
        assert_ok();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_compare__values),
        tsr_test(test_compare__below_equal_above_and_nan),
        tsr_test(test_compare__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
