#include "tests/test.h"

/* Bytes in use, but for what the stack of handles itself may take. */
static size_t in_use(void)
{
    return tsr_pool_stats_get().in_use;
}

static tsr_tensor *make(double value)
{
    tsr_tensor *t = tsr_full(TSR_DTYPE_F32, TSR_SHAPE(1000), value);
    assert_ok();
    return t;
}

static void test_scope__handles_die_with_it(void **state)
{
    (void)state;
    make(0.0); /* the stack of handles exists from here on */
    size_t before = in_use();
    tsr_scope scope = tsr_scope_open();
    for (int i = 0; i < 10; i++) make(i);
    assert_true(in_use() >= before + 10 * 4000);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    assert_int_equal(in_use(), before);
}

static void test_scope__kept_handles_move_out_one_scope(void **state)
{
    (void)state;
    make(0.0);
    size_t before = in_use();
    tsr_scope outer = tsr_scope_open();
    tsr_scope inner = tsr_scope_open();
    tsr_tensor *a = make(1.0), *b = make(2.0);
    make(3.0);
    tsr_scope_close(&inner, TSR_TENSORS(b, NULL, a));
    make(4.0); /* would reuse the storage of a or b if it had been freed */
    assert_true(tsr_tensor_get(a, 0) == 1.0 && tsr_tensor_get(b, 999) == 2.0);
    tsr_scope_close(&outer, TSR_NO_TENSORS);
    assert_int_equal(in_use(), before);
}

static void test_scope__a_handle_from_outside_stays_where_it_is(void **state)
{
    (void)state;
    size_t before;
    tsr_scope outer = tsr_scope_open();
    tsr_tensor *t = make(5.0);
    before = in_use();
    tsr_scope middle = tsr_scope_open();
    tsr_scope inner = tsr_scope_open();
    assert_ptr_equal(tsr_scope_return(&inner, t), t);
    tsr_scope_close(&middle, TSR_NO_TENSORS);
    assert_true(tsr_tensor_get(t, 0) == 5.0);
    assert_int_equal(in_use(), before);
    tsr_scope_close(&outer, TSR_NO_TENSORS);
    assert_true(in_use() < before);
}

static void test_scope__a_handle_kept_twice_dies_once(void **state)
{
    (void)state;
    make(0.0);
    size_t before = in_use();
    tsr_scope outer = tsr_scope_open(), inner = tsr_scope_open();
    tsr_tensor *t = make(1.0);
    tsr_tensor_borrow(t); /* twice in the same scope */
    tsr_scope_close(&inner, TSR_TENSORS(t, t));
    assert_true(tsr_tensor_get(t, 0) == 1.0);
    tsr_scope_close(&outer, TSR_NO_TENSORS);
    assert_int_equal(in_use(), before);
}

static void test_scope__held_tensors_outlive_scopes(void **state)
{
    (void)state;
    make(0.0);
    size_t before = in_use();
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *t = make(6.0), *held = tsr_tensor_hold(t);
    assert_ptr_equal(held, t);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    make(7.0);
    assert_true(tsr_tensor_get(held, 500) == 6.0);
    /* Lent to a scope, it survives its owner. */
    scope = tsr_scope_open();
    tsr_tensor *lent = tsr_tensor_borrow(held);
    tsr_tensor_release(&held);
    assert_null(held);
    assert_true(tsr_tensor_get(lent, 500) == 6.0);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    tsr_tensor_release(&held);                        /* NULL is fine */
    assert_true(in_use() < before + 2 * 4000 + 2000); /* only the 7.0 is left */
}

static void test_scope__without_one_nothing_can_be_made(void **state)
{
    tsr_scope_close(*state, TSR_NO_TENSORS);
    assert_null(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2)));
    assert_failed(TSR_STATUS_STATE, "no scope is open on this thread: call tsr_scope_open() first");
    size_t before = in_use();
    assert_null(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2)));
    tsr_status_clear();
    assert_int_equal(in_use(), before);
    *(tsr_scope *)*state = tsr_scope_open();
}

static void test_scope__the_outermost_returns_nothing(void **state)
{
    tsr_scope_close(*state, TSR_NO_TENSORS);
    tsr_scope scope = tsr_scope_open();
    assert_null(tsr_scope_return(&scope, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2))));
    assert_failed(TSR_STATUS_STATE, "scope_return: there is no outer scope for the result");
    scope = tsr_scope_open();
    tsr_tensor *t = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2));
    tsr_scope_close(&scope, TSR_TENSORS(t)); /* nowhere to go: it dies */
    *(tsr_scope *)*state = tsr_scope_open();
}

static void test_scope__the_outermost_leaves_nothing_behind(void **state)
{
    tsr_scope_close(*state, TSR_NO_TENSORS);
    size_t before = in_use();
    for (int n = 1; n < 5000; n *= 7) {
        tsr_scope scope = tsr_scope_open();
        for (int i = 0; i < n; i++) tsr_scalar(TSR_DTYPE_F64, i);
        assert_ok();
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        assert_int_equal(in_use(), before);
    }
    *(tsr_scope *)*state = tsr_scope_open();
}

static void test_scope__many_nested(void **state)
{
    (void)state;
    enum { DEPTH = 100 };
    tsr_scope scopes[DEPTH];
    tsr_tensor *t = NULL;
    for (int i = 0; i < DEPTH; i++) scopes[i] = tsr_scope_open();
    t = make(8.0);
    for (int i = DEPTH - 1; i > 0; i--) t = tsr_scope_return(&scopes[i], t);
    assert_true(tsr_tensor_get(t, 0) == 8.0);
    tsr_scope_close(&scopes[0], TSR_NO_TENSORS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_scope__handles_die_with_it),
        tsr_test(test_scope__kept_handles_move_out_one_scope),
        tsr_test(test_scope__a_handle_from_outside_stays_where_it_is),
        tsr_test(test_scope__a_handle_kept_twice_dies_once),
        tsr_test(test_scope__held_tensors_outlive_scopes),
        tsr_test(test_scope__without_one_nothing_can_be_made),
        tsr_test(test_scope__the_outermost_returns_nothing),
        tsr_test(test_scope__the_outermost_leaves_nothing_behind),
        tsr_test(test_scope__many_nested),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
