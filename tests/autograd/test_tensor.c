#include "tests/test.h"

#define EACH_DTYPE(dtype)                                                                          \
    for (tsr_dtype dtype = (tsr_dtype)0; dtype < TSR_DTYPE_COUNT; dtype = (tsr_dtype)(dtype + 1))

/* ---- status ---- */

static void test_tensor__the_first_failure_is_kept(void **state)
{
    (void)state;
    assert_int_equal(tsr_status_get(), TSR_STATUS_OK);
    assert_string_equal(tsr_message(), "");
    assert_int_equal(tsr_fail(TSR_STATUS_IO, "open %s: %d", "a\nb\tc", 7), TSR_STATUS_IO);
    assert_int_equal(tsr_fail(TSR_STATUS_SHAPE, "later"), TSR_STATUS_IO);
    assert_int_equal(tsr_status_get(), TSR_STATUS_IO);
    assert_string_equal(tsr_message(), "open a b c: 7"); /* one line, whatever came in */
    tsr_status_clear();
    assert_int_equal(tsr_status_get(), TSR_STATUS_OK);
    assert_string_equal(tsr_message(), "");
}

static void test_tensor__a_long_message_is_cut(void **state)
{
    (void)state;
    char text[4000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    tsr_fail(TSR_STATUS_FORMAT, "%s", text);
    assert_in_range(strlen(tsr_message()), 200, 1000);
    tsr_status_clear();
}

static void test_tensor__every_status_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(tsr_status_name(TSR_STATUS_OK), "ok");
    assert_string_equal(tsr_status_name(TSR_STATUS_MEMORY), "memory");
    for (int s = TSR_STATUS_OK; s <= TSR_STATUS_INTERRUPTED; s++) {
        assert_string_not_equal(tsr_status_name((tsr_status)s), "unknown");
    }
    assert_string_equal(tsr_status_name((tsr_status)99), "unknown");
}

/* ---- shapes ---- */

static void test_tensor__shape_numel_refuses_nonsense(void **state)
{
    (void)state;
    assert_int_equal(tsr_shape_numel(TSR_SHAPE_SCALAR), 1);
    assert_int_equal(tsr_shape_numel(TSR_SHAPE(2, 3, 4)), 24);
    assert_int_equal(tsr_shape_numel(TSR_SHAPE(2, 0, 4)), 0);
    assert_int_equal(tsr_shape_numel(TSR_SHAPE(2, -1)), -1);
    assert_int_equal(tsr_shape_numel(TSR_SHAPE(INT64_C(1) << 40, INT64_C(1) << 40)), -1);
    assert_int_equal(tsr_shape_numel((tsr_shape){.ndim = 9}), -1);
    assert_int_equal(tsr_shape_numel((tsr_shape){.ndim = -1}), -1);
}

static void test_tensor__shape_broadcast(void **state)
{
    (void)state;
    static const struct {
        tsr_shape a, b, both;
        bool fits;
    } rules[] = {
        {{2, {3, 1}}, {2, {1, 4}}, {2, {3, 4}}, true},
        {{0}, {2, {3, 4}}, {2, {3, 4}}, true},
        {{1, {4}}, {3, {2, 3, 4}}, {3, {2, 3, 4}}, true},
        {{2, {0, 1}}, {1, {5}}, {2, {0, 5}}, true},
        {{1, {1}}, {1, {0}}, {1, {0}}, true},
        {{1, {3}}, {1, {4}}, {0}, false},
        {{2, {3, 4}}, {1, {3}}, {0}, false},
        {{1, {0}}, {1, {2}}, {0}, false},
    };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        for (int swap = 0; swap < 2; swap++) {
            tsr_shape out = {.ndim = 77};
            bool fits = tsr_shape_broadcast(swap ? rules[i].b : rules[i].a,
                                            swap ? rules[i].a : rules[i].b, &out);
            assert_int_equal(fits, rules[i].fits);
            if (fits) assert_true(tsr_shape_equal(out, rules[i].both));
            if (!fits) assert_int_equal(out.ndim, 77); /* unchanged on failure */
        }
    }
}

static void test_tensor__shape_text(void **state)
{
    (void)state;
    char text[TSR_SHAPE_TEXT];
    assert_string_equal(tsr_shape_text(TSR_SHAPE(64, 197, 384), text), "[64, 197, 384]");
    assert_string_equal(tsr_shape_text(TSR_SHAPE_SCALAR, text), "[]");
    tsr_shape longest = {.ndim = TSR_MAX_DIMS};
    for (int d = 0; d < TSR_MAX_DIMS; d++) longest.size[d] = INT64_MIN;
    tsr_shape_text(longest, text);
    assert_int_equal(text[strlen(text) - 1], ']');
}

/* ---- making and reading ---- */

static void test_tensor__new_tensors_are_contiguous_and_aligned(void **state)
{
    (void)state;
    EACH_DTYPE(dtype)
    {
        tsr_tensor *t = tsr_full(dtype, TSR_SHAPE(2, 3, 5), 1.0);
        assert_ok();
        assert_int_equal(tsr_tensor_dtype(t), dtype);
        assert_int_equal((uintptr_t)tsr_tensor_data(t) % 64, 0);
        assert_true(tsr_tensor_is_contiguous(t));
        assert_int_equal(tsr_tensor_numel(t), 30);
        assert_int_equal(tsr_tensor_ndim(t), 3);
        assert_int_equal(tsr_tensor_size(t, 1), 3);
        assert_int_equal(tsr_tensor_size(t, -1), 5);
        assert_int_equal(tsr_tensor_size(t, 3), 0);
        assert_int_equal(tsr_tensor_strides(t)[0], 15);
        for (int64_t i = 0; i < 30; i++) assert_true(tsr_tensor_get(t, i) == 1.0);
        assert_true(isnan(tsr_tensor_get(t, 30)) && isnan(tsr_tensor_get(t, -1)));
        tsr_tensor *zeros = tsr_zeros(dtype, TSR_SHAPE(7));
        for (int64_t i = 0; i < 7; i++) assert_true(tsr_tensor_get(zeros, i) == 0.0);
        assert_true(tsr_tensor_item(tsr_scalar(dtype, 1.0)) == 1.0);
        assert_int_equal(tsr_tensor_numel(tsr_empty(dtype, TSR_SHAPE(3, 0))), 0);
    }
    tsr_tensor *t = tsr_from(TSR_DTYPE_I32, TSR_SHAPE(2), (const int32_t[]){-5, 9});
    assert_true(tsr_tensor_get(t, 0) == -5.0 && tsr_tensor_get(t, 1) == 9.0);
}

static void test_tensor__empty_like_is_contiguous_whatever_its_model_is(void **state)
{
    (void)state;
    tsr_tensor *t = tsr_empty(TSR_DTYPE_BF16, TSR_SHAPE(4, 5, 6));
    tsr_tensor *view = tsr_tensor_view(t, TSR_SHAPE(5, 1, 3), (int64_t[]){6, 30, 2}, 0);
    tsr_tensor *like = tsr_empty_like(view);
    assert_ok();
    assert_int_equal(tsr_tensor_dtype(like), TSR_DTYPE_BF16);
    assert_true(tsr_tensor_same_shape(like, view));
    assert_true(tsr_tensor_is_contiguous(like) && !tsr_tensor_is_contiguous(view));
    const int64_t *packed = tsr_tensor_strides(like), *strided = tsr_tensor_strides(view);
    assert_true(packed[0] == 3 && packed[1] == 3 && packed[2] == 1);
    assert_true(strided[0] == 6 && strided[1] == 30 && strided[2] == 2);
}

static void test_tensor__same_shape(void **state)
{
    (void)state;
    const tsr_shape shapes[] = {TSR_SHAPE_SCALAR, TSR_SHAPE(1), TSR_SHAPE(2, 3),
                                TSR_SHAPE(3, 2),  TSR_SHAPE(2), TSR_SHAPE(1, 1, 1, 1, 1, 1, 1, 9)};
    for (int i = 0; i < 6; i++) {
        for (int j = 0; j < 6; j++) {
            tsr_tensor *a = tsr_empty(TSR_DTYPE_F32, shapes[i]);
            tsr_tensor *b = tsr_empty(TSR_DTYPE_U8, shapes[j]);
            assert_int_equal(tsr_tensor_same_shape(a, b), i == j);
            assert_true(tsr_shape_equal(tsr_tensor_shape(b), shapes[j]));
        }
    }
}

static void test_tensor__impossible_tensors(void **state)
{
    (void)state;
    assert_null(tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(2, -3)));
    assert_failed(TSR_STATUS_SHAPE, "empty: [2, -3] is not a shape");
    assert_null(tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(INT64_MAX, 2)));
    assert_failed(TSR_STATUS_SHAPE, "is not a shape");
    assert_null(tsr_empty(TSR_DTYPE_F64, TSR_SHAPE(INT64_C(1) << 58)));
    assert_failed(TSR_STATUS_MEMORY, "empty: no memory for f64 [288230376151711744]");
    assert_null(tsr_empty(TSR_DTYPE_COUNT, TSR_SHAPE(1)));
    assert_failed(TSR_STATUS_DTYPE, "is not a type");
    assert_true(isnan(tsr_tensor_item(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2)))));
    assert_failed(TSR_STATUS_SHAPE, "item: tensor has shape [2], expected one element");
}

static void test_tensor__null_may_be_asked(void **state)
{
    (void)state;
    assert_int_equal(tsr_tensor_ndim(NULL), 0);
    assert_int_equal(tsr_tensor_size(NULL, 0), 0);
    assert_int_equal(tsr_tensor_numel(NULL), 0);
    assert_true(tsr_shape_equal(tsr_tensor_shape(NULL), TSR_SHAPE_SCALAR));
    assert_non_null(tsr_tensor_strides(NULL));
    assert_null(tsr_empty_like(NULL));
    assert_true(tsr_tensor_same_shape(NULL, NULL));
    assert_false(tsr_tensor_same_shape(NULL, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(1))));
    assert_null(tsr_tensor_data(NULL));
    assert_null(tsr_tensor_data_mut(NULL));
    assert_true(isnan(tsr_tensor_item(NULL)));
    assert_true(tsr_tensor_is_finite(NULL));
    assert_false(tsr_requires_grad(NULL));
    assert_null(tsr_tensor_grad(NULL));
    assert_null(tsr_detach(NULL));
    assert_null(tsr_tensor_packed(NULL));
    assert_null(tsr_require_grad(NULL, true));
    assert_null(tsr_tensor_hold(NULL));
    assert_null(tsr_tensor_borrow(NULL));
    tsr_tensor_release(NULL);
    assert_null(tsr_tensor_view(NULL, TSR_SHAPE(1), (int64_t[]){1}, 0));
    assert_ok();
    assert_int_equal(tsr_tensor_copy(NULL, NULL), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "copy: tensor is NULL");
    assert_int_equal(tsr_tensor_fill(NULL, 0.0), TSR_STATUS_ARGUMENT);
    assert_failed(TSR_STATUS_ARGUMENT, "fill: tensor is NULL");
}

static void test_tensor__is_finite_in_every_type_and_layout(void **state)
{
    (void)state;
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    static const tsr_dtype floats[] = {TSR_DTYPE_F32, TSR_DTYPE_F64, TSR_DTYPE_BF16};
    for (int d = 0; d < 3; d++) {
        for (int b = 0; b < 3; b++) {
            tsr_tensor *t = tsr_full(floats[d], TSR_SHAPE(3, 20000), 1.5);
            assert_true(tsr_tensor_is_finite(t));
            tsr_tensor *one = tsr_tensor_view(t, TSR_SHAPE_SCALAR, NULL, 59998);
            tsr_tensor_fill(one, bad[b]);
            assert_false(tsr_tensor_is_finite(t));
            /* The odd columns do not contain it. */
            tsr_tensor *odd = tsr_tensor_view(t, TSR_SHAPE(3, 10000), (int64_t[]){20000, 2}, 1);
            assert_true(tsr_tensor_is_finite(odd));
        }
    }
    assert_true(tsr_tensor_is_finite(tsr_full(TSR_DTYPE_F32, TSR_SHAPE(64), 3.4e38)));
}

/* ---- views ---- */

static void test_tensor__views_share_storage(void **state)
{
    (void)state;
    tsr_tensor *t = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3, 4));
    tsr_tensor *column = tsr_tensor_view(t, TSR_SHAPE(3), (int64_t[]){4}, 1);
    assert_false(tsr_tensor_is_contiguous(column));
    tsr_tensor_fill(column, 7.0);
    for (int64_t i = 0; i < 12; i++) {
        assert_true(tsr_tensor_get(t, i) == (i % 4 == 1 ? 7.0 : 0.0));
    }
    /* A view of a view counts from the view's first element, and may walk backwards. */
    tsr_tensor *up = tsr_tensor_view(column, TSR_SHAPE(3), (int64_t[]){-4}, 8);
    ((float *)tsr_tensor_data_mut(t))[9] = 1.0f;
    assert_true(tsr_tensor_get(up, 0) == 1.0 && tsr_tensor_get(up, 1) == 7.0);
    tsr_tensor *packed = tsr_tensor_packed(up);
    assert_ptr_not_equal(packed, up);
    assert_same(packed, up);
    assert_ptr_equal(tsr_tensor_packed(t), t);
}

static void test_tensor__view_bounds(void **state)
{
    (void)state;
    tsr_tensor *t = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(12));
    static const struct {
        tsr_shape shape;
        int64_t strides[3], offset;
        bool fits;
    } views[] = {
        {{1, {12}}, {1}, 0, true},
        {{1, {13}}, {1}, 0, false},
        {{1, {12}}, {1}, 1, false},
        {{1, {4}}, {3}, 2, true},
        {{1, {4}}, {3}, 3, false},
        {{1, {12}}, {-1}, 11, true},
        {{1, {12}}, {-1}, 10, false},
        {{2, {3, 4}}, {4, 1}, 0, true},
        {{2, {3, 5}}, {4, 1}, 0, false},
        {{2, {2, 2}}, {-4, 4}, 4, true},
        {{2, {2, 2}}, {-5, 4}, 4, false},
        {{1, {1000}}, {0}, 11, true},
        {{0}, {0}, 11, true},
        {{0}, {0}, 12, false},
        {{0}, {0}, -1, false},
        {{1, {0}}, {1}, 99, true}, /* nothing lies nowhere */
        {{1, {-1}}, {1}, 0, false},
        {{2, {3, 3}}, {INT64_MAX, 1}, 0, false},
        {{2, {2, 2}}, {INT64_MAX, INT64_MAX}, 0, false},
        {{2, {2, 2}}, {INT64_MIN, INT64_MIN}, 0, false},
        {{1, {2}}, {1}, INT64_MAX, false},
        {{1, {2}}, {1}, INT64_MIN, false},
    };
    for (size_t i = 0; i < sizeof views / sizeof views[0]; i++) {
        tsr_tensor *v = tsr_tensor_view(t, views[i].shape, views[i].strides, views[i].offset);
        if (views[i].fits != (v != NULL)) fail_msg("view %zu: %s", i, tsr_message());
        if (v == NULL) assert_failed(TSR_STATUS_SHAPE, "reaches beyond the storage");
    }
}

/* A view keeps its storage alive when the tensor it came from is gone. */
static void test_tensor__a_view_outlives_its_tensor(void **state)
{
    (void)state;
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *t = tsr_full(TSR_DTYPE_F64, TSR_SHAPE(100), 3.0);
    tsr_tensor *view =
        tsr_scope_return(&scope, tsr_tensor_view(t, TSR_SHAPE(2), (int64_t[]){1}, 5));
    for (int i = 0; i < 10; i++) tsr_full(TSR_DTYPE_F64, TSR_SHAPE(100), 4.0);
    assert_true(tsr_tensor_get(view, 0) == 3.0 && tsr_tensor_get(view, 1) == 3.0);
}

/* ---- copies ---- */

/* What a conversion must give, in the words of the header. */
static double converted(double x, tsr_dtype to)
{
    static const double lo[] = {[TSR_DTYPE_I32] = INT32_MIN, [TSR_DTYPE_I64] = -0x1p63};
    static const double hi[] = {
        [TSR_DTYPE_I32] = INT32_MAX, [TSR_DTYPE_I64] = 0x1p63, [TSR_DTYPE_U8] = 255};
    switch (to) {
    case TSR_DTYPE_F32:
        return (double)(float)x;
    case TSR_DTYPE_F64:
        return x;
    case TSR_DTYPE_BF16:
        return (double)tsr_bf16_to_f32(tsr_bf16_from_f32((float)x));
    case TSR_DTYPE_BOOL:
        return x != 0.0 ? 1.0 : 0.0;
    default:
        return isnan(x) ? 0.0 : fmin(fmax(trunc(x), to == TSR_DTYPE_U8 ? 0.0 : lo[to]), hi[to]);
    }
}

static void test_tensor__copies_between_all_types(void **state)
{
    (void)state;
    static const double values[] = {
        0,    1,     -1,       2.5, -2.5,     127.9,     255,      256,        3e9,       -3e9,
        1e30, -1e30, 0x1.01p0, NAN, INFINITY, -INFINITY, 0x1.03p0, 16777217.0, 0x1.008p0, 1e-40};
    enum { N = sizeof values / sizeof values[0] };
    tsr_tensor *wide = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(N), values);
    EACH_DTYPE(from)
    {
        tsr_tensor *source = tsr_empty(from, TSR_SHAPE(N));
        assert_int_equal(tsr_tensor_copy(source, wide), TSR_STATUS_OK);
        for (int64_t i = 0; i < N; i++) {
            double got = tsr_tensor_get(source, i), wanted = converted(values[i], from);
            if (!(got == wanted || (isnan(got) && isnan(wanted)))) {
                fail_msg("f64 %g to %s: %g, expected %g", values[i], tsr_dtype_name(from), got,
                         wanted);
            }
        }
        EACH_DTYPE(to)
        {
            tsr_tensor *target = tsr_empty(to, TSR_SHAPE(N));
            assert_int_equal(tsr_tensor_copy(target, source), TSR_STATUS_OK);
            for (int64_t i = 0; i < N; i++) {
                double x = tsr_tensor_get(source, i), got = tsr_tensor_get(target, i);
                double wanted = converted(x, to);
                if (!(got == wanted || (isnan(got) && isnan(wanted)))) {
                    fail_msg("%s %g to %s: %g, expected %g", tsr_dtype_name(from), x,
                             tsr_dtype_name(to), got, wanted);
                }
            }
        }
    }
}

static void test_tensor__copies_keep_all_bits_of_one_type(void **state)
{
    (void)state;
    static const int64_t large[] = {INT64_MAX, INT64_MIN, (INT64_C(1) << 53) + 1};
    tsr_tensor *a = tsr_from(TSR_DTYPE_I64, TSR_SHAPE(3), large);
    tsr_tensor *b = tsr_empty(TSR_DTYPE_I64, TSR_SHAPE(3));
    tsr_tensor_copy(b, a);
    assert_memory_equal(tsr_tensor_data(b), large, sizeof large);
}

static void test_tensor__bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    static const struct {
        uint32_t f32;
        uint16_t bf16;
    } pairs[] = {
        {0x3f800000u, 0x3f80u}, {0x3f808000u, 0x3f80u}, {0x3f808001u, 0x3f81u},
        {0x3f818000u, 0x3f82u}, {0x3f817fffu, 0x3f81u}, {0x7f7fffffu, 0x7f80u},
        {0x7f800000u, 0x7f80u}, {0xff800000u, 0xff80u}, {0x80000000u, 0x8000u},
        {0x7f800001u, 0x7fc0u}, {0xffffffffu, 0xffffu},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        float x;
        memcpy(&x, &pairs[i].f32, sizeof x);
        assert_int_equal(tsr_bf16_from_f32(x).bits, pairs[i].bf16);
    }
}

static void test_tensor__copies_strided_to_strided(void **state)
{
    (void)state;
    enum { R = 150, C = 333 }; /* enough for several threads */
    EACH_DTYPE(from)
    {
        EACH_DTYPE(to)
        {
            tsr_tensor *a = tsr_empty(from, TSR_SHAPE(C, R)),
                       *b = tsr_zeros(to, TSR_SHAPE(R, 2 * C));
            tsr_fill_bernoulli(a, tsr_rng_make(1, 0, 0, 0), 0.5);
            tsr_tensor *at = tsr_tensor_view(a, TSR_SHAPE(R, C), (int64_t[]){1, R}, 0);
            tsr_tensor *bt = tsr_tensor_view(b, TSR_SHAPE(R, C), (int64_t[]){2 * C, 2}, 1);
            assert_int_equal(tsr_tensor_copy(bt, at), TSR_STATUS_OK);
            for (int64_t i = 0; i < R * C; i += 7) {
                assert_true(tsr_tensor_get(bt, i) == tsr_tensor_get(at, i));
            }
            /* What lies between stays. */
            for (int64_t i = 0; i < R * 2 * C; i += 2) assert_true(tsr_tensor_get(b, i) == 0.0);
        }
    }
}

static void test_tensor__copy_wants_equal_shapes(void **state)
{
    (void)state;
    tsr_tensor *a = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_int_equal(tsr_tensor_copy(a, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(6))), TSR_STATUS_SHAPE);
    assert_failed(TSR_STATUS_SHAPE, "copy: source has shape [6], expected [2, 3]");
}

static void test_tensor__fill_follows_strides(void **state)
{
    (void)state;
    EACH_DTYPE(dtype)
    {
        tsr_tensor *t = tsr_zeros(dtype, TSR_SHAPE(6));
        tsr_tensor_fill(tsr_tensor_view(t, TSR_SHAPE(3), (int64_t[]){2}, 0), 1.0);
        for (int64_t i = 0; i < 6; i++) assert_true(tsr_tensor_get(t, i) == (i % 2 == 0));
    }
    tsr_tensor *minus = tsr_full(TSR_DTYPE_F32, TSR_SHAPE(1), -0.0);
    assert_true(signbit(tsr_tensor_get(minus, 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_tensor__the_first_failure_is_kept),
        tsr_test(test_tensor__a_long_message_is_cut),
        tsr_test(test_tensor__every_status_has_a_name),
        tsr_test(test_tensor__shape_numel_refuses_nonsense),
        tsr_test(test_tensor__shape_broadcast),
        tsr_test(test_tensor__shape_text),
        tsr_test(test_tensor__new_tensors_are_contiguous_and_aligned),
        tsr_test(test_tensor__empty_like_is_contiguous_whatever_its_model_is),
        tsr_test(test_tensor__same_shape),
        tsr_test(test_tensor__impossible_tensors),
        tsr_test(test_tensor__null_may_be_asked),
        tsr_test(test_tensor__is_finite_in_every_type_and_layout),
        tsr_test(test_tensor__views_share_storage),
        tsr_test(test_tensor__view_bounds),
        tsr_test(test_tensor__a_view_outlives_its_tensor),
        tsr_test(test_tensor__copies_between_all_types),
        tsr_test(test_tensor__copies_keep_all_bits_of_one_type),
        tsr_test(test_tensor__bf16_rounds_to_nearest_even),
        tsr_test(test_tensor__copies_strided_to_strided),
        tsr_test(test_tensor__copy_wants_equal_shapes),
        tsr_test(test_tensor__fill_follows_strides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
