#include "tests/ops/fused.h"

struct operands {
    tsr_tensor *a, *b;
};

/* The element of a stretched operand that stands at ix (leading dimensions of the result, then row and column). */
static double stretched(tsr_tensor *t, const int64_t *leading, int n_leading, int64_t row,
                        int64_t column)
{
    int64_t ix[TSR_MAX_DIMS];
    int n = tsr_tensor_ndim(t) - 2;
    for (int d = 0; d < n; d++) {
        ix[d] = tsr_tensor_size(t, d) == 1 ? 0 : leading[n_leading - n + d];
    }
    ix[n] = row;
    ix[n + 1] = column;
    return reference_get(t, ix);
}

struct arguments {
    struct operands o;
    int leading; /* dimensions of the result before the last two */
};

static double product(const int64_t *ix, const void *args)
{
    const struct arguments *s = args;
    double sum = 0.0;
    for (int64_t k = 0; k < tsr_tensor_size(s->o.a, -1); k++) {
        sum += stretched(s->o.a, ix, s->leading, ix[s->leading], k) *
               stretched(s->o.b, ix, s->leading, k, ix[s->leading + 1]);
    }
    return sum;
}

static void check(tsr_shape sa, tsr_shape sb, tsr_shape wanted)
{
    FUSED_EACH_REAL(dtype)
    {
        for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
            tsr_tensor *a = reference_empty(dtype, sa, layout);
            tsr_tensor *b = reference_empty(dtype, sb, layout);
            tsr_tensor_copy(a, reference_normal(dtype, sa, 1));
            tsr_tensor_copy(b, reference_normal(dtype, sb, 2));
            struct arguments s = {{a, b}, wanted.ndim - 2};
            assert_elements_close(tsr_matmul(a, b), wanted, product, &s, fused_tolerance(dtype));
        }
    }
}

static void test_matmul__multiplies_every_shape(void **state)
{
    (void)state;
    check(TSR_SHAPE(3, 5), TSR_SHAPE(5, 4), TSR_SHAPE(3, 4));
    check(TSR_SHAPE(1, 1), TSR_SHAPE(1, 1), TSR_SHAPE(1, 1));
    check(TSR_SHAPE(37, 61), TSR_SHAPE(61, 29), TSR_SHAPE(37, 29));
    check(TSR_SHAPE(2, 3, 4), TSR_SHAPE(2, 4, 5), TSR_SHAPE(2, 3, 5));
    check(TSR_SHAPE(2, 7, 3, 4), TSR_SHAPE(4, 5), TSR_SHAPE(2, 7, 3, 5));
    check(TSR_SHAPE(3, 4), TSR_SHAPE(2, 4, 5), TSR_SHAPE(2, 3, 5));
    check(TSR_SHAPE(2, 1, 3, 4), TSR_SHAPE(5, 4, 2), TSR_SHAPE(2, 5, 3, 2));
    check(TSR_SHAPE(5, 1, 4), TSR_SHAPE(5, 4, 3), TSR_SHAPE(5, 1, 3));
    check(TSR_SHAPE(5, 1, 4), TSR_SHAPE(4, 3), TSR_SHAPE(5, 1, 3));
    check(TSR_SHAPE(20, 17, 19), TSR_SHAPE(20, 19, 23), TSR_SHAPE(20, 17, 23));
}

static void test_matmul__sizes_of_nothing(void **state)
{
    (void)state;
    check(TSR_SHAPE(0, 5), TSR_SHAPE(5, 4), TSR_SHAPE(0, 4));
    check(TSR_SHAPE(3, 0), TSR_SHAPE(0, 4), TSR_SHAPE(3, 4));
    check(TSR_SHAPE(3, 5), TSR_SHAPE(5, 0), TSR_SHAPE(3, 0));
    check(TSR_SHAPE(0, 3, 5), TSR_SHAPE(5, 4), TSR_SHAPE(0, 3, 4));
}

static void test_matmul__reads_nothing_of_the_old_result(void **state)
{
    (void)state;
    /* New storage may hold NaN: an empty sum must still be 0. */
    tsr_scope scope = tsr_scope_open();
    tsr_full(TSR_DTYPE_F32, TSR_SHAPE(3, 4), NAN);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    tsr_tensor *r = tsr_matmul(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3, 0)),
                               tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(0, 4)));
    assert_same(r, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3, 4)));
}

static void test_matmul__same_bits_for_any_threads(void **state)
{
    (void)state;
    int before = tsr_threads();
    static const int64_t sizes[][4] = {{1, 301, 203, 157}, {40, 50, 64, 50}, {3, 200, 100, 90}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const int64_t *n = sizes[i];
        tsr_tensor *a = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(n[0], n[1], n[2]), 3);
        tsr_tensor *b = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(n[0], n[2], n[3]), 4),
                   *one = NULL;
        for (int threads = 1; threads <= 4; threads++) {
            tsr_threads_set(threads);
            tsr_tensor *r = tsr_matmul(a, b);
            if (one != NULL) assert_same(r, one);
            one = r;
        }
    }
    tsr_threads_set(before);
}

static void test_matmul__errors(void **state)
{
    (void)state;
    tsr_tensor *a = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3, 4));
    assert_null(tsr_matmul(a, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3, 4))));
    assert_failed(TSR_STATUS_SHAPE, "matmul: a has shape [2, 3, 4] and b [3, 4]: a's columns must");
    assert_null(tsr_matmul(a, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(5, 4, 4))));
    assert_failed(TSR_STATUS_SHAPE, "whose leading dimensions do not broadcast");
    assert_null(tsr_matmul(a, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4))));
    assert_failed(TSR_STATUS_SHAPE, "expected matrices");
    assert_null(tsr_matmul(a, tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(4, 4))));
    assert_failed(TSR_STATUS_DTYPE, "matmul: b is f64 and a is f32");
    tsr_tensor *i = tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(4, 4));
    assert_null(tsr_matmul(i, i));
    assert_failed(TSR_STATUS_DTYPE, "matmul: a is i64, expected f32, f64 or bf16");
}

FUSED_MAIN(tsr_test(test_matmul__multiplies_every_shape), tsr_test(test_matmul__sizes_of_nothing),
           tsr_test(test_matmul__reads_nothing_of_the_old_result),
           tsr_test(test_matmul__same_bits_for_any_threads), tsr_test(test_matmul__errors))
