#include "tests/ops/reference.h"

static double same(const int64_t *ix, const void *args)
{
    return reference_get((tsr_tensor *)args, ix);
}

/* Numbers that all types hold survive every pair of casts. */
static void test_cast__between_all_types(void **state)
{
    (void)state;
    TSR_EACH_DTYPE(from)
    {
        TSR_EACH_DTYPE(to)
        {
            for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
                bool boolean = from == TSR_DTYPE_BOOL || to == TSR_DTYPE_BOOL;
                tsr_tensor *x =
                    reference_input(boolean ? TSR_DTYPE_BOOL : from, TSR_SHAPE(13, 11), layout);
                tsr_tensor *y = tsr_cast(tsr_cast(x, from), to);
                assert_int_equal(tsr_tensor_dtype(y), to);
                assert_elements(y, TSR_SHAPE(13, 11), same, x);
            }
        }
    }
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3));
    assert_ptr_equal(tsr_cast(x, TSR_DTYPE_F32), x);
}

static void test_cast__rounds_and_saturates(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(6),
                             (const double[]){1.0 + 0x1p-30, -2.75, 300.0, 1e300, -1e300, NAN});
    tsr_tensor *f32 = tsr_cast(x, TSR_DTYPE_F32), *i32 = tsr_cast(x, TSR_DTYPE_I32);
    tsr_tensor *i64 = tsr_cast(x, TSR_DTYPE_I64), *u8 = tsr_cast(x, TSR_DTYPE_U8);
    tsr_tensor *b = tsr_cast(x, TSR_DTYPE_BOOL);
    assert_ok();
    static const double as_f32[] = {1.0, -2.75, 300.0, INFINITY, -INFINITY, NAN};
    static const double as_i32[] = {1, -2, 300, INT32_MAX, INT32_MIN, 0};
    static const double as_u8[] = {1, 0, 255, 255, 0, 0};
    for (int i = 0; i < 6; i++) {
        assert_true(tsr_tensor_get(f32, i) == as_f32[i] ||
                    (i == 5 && isnan(tsr_tensor_get(f32, i))));
        assert_true(tsr_tensor_get(i32, i) == as_i32[i]);
        assert_true(tsr_tensor_get(u8, i) == as_u8[i]);
        assert_true(tsr_tensor_get(b, i) == 1.0);
    }
    assert_true(((const int64_t *)tsr_tensor_data(i64))[4] == INT64_MIN);
    assert_true(((const int64_t *)tsr_tensor_data(i64))[3] > INT64_C(9223372036854774000));
}

/* The gradient comes back in x's own type. */
static void test_cast__gradients_of_floating_pairs(void **state)
{
    (void)state;
    static const tsr_dtype floats[] = {TSR_DTYPE_F32, TSR_DTYPE_F64, TSR_DTYPE_BF16};
    for (int i = 0; i < 9; i++) {
        tsr_dtype from = floats[i / 3], to = floats[i % 3];
        if (from == to) continue;
        tsr_tape *tape = tsr_tape_open();
        tsr_tensor *x = tsr_require_grad(tsr_full(from, TSR_SHAPE(2), 1.5), true);
        tsr_tensor *v = tsr_zeros(to, TSR_SHAPE(2));
        tsr_tensor_copy(v, tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2), (const double[]){0.25, -3.0}));
        tsr_tensor *g = reference_gradient(tape, tsr_cast(x, to), v, x);
        assert_int_equal(tsr_tensor_dtype(g), from);
        assert_true(tsr_tensor_get(g, 0) == 0.25 && tsr_tensor_get(g, 1) == -3.0);
        tsr_tape_close(&tape);
    }
}

static void test_cast__to_an_integer_is_not_recorded(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = tsr_require_grad(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2)), true);
    tsr_tensor *y = tsr_cast(x, TSR_DTYPE_I64);
    assert_false(tsr_requires_grad(y));
    assert_int_equal(tsr_tape_length(tape), 0);
    tsr_tape_close(&tape);
}

static void test_cast__errors(void **state)
{
    (void)state;
    assert_null(tsr_cast(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2)), TSR_DTYPE_COUNT));
    assert_failed(TSR_STATUS_DTYPE, "is not a type");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_cast__between_all_types),
        tsr_test(test_cast__rounds_and_saturates),
        tsr_test(test_cast__gradients_of_floating_pairs),
        tsr_test(test_cast__to_an_integer_is_not_recorded),
        tsr_test(test_cast__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
