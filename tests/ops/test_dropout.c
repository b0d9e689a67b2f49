#include "tests/ops/reference.h"

static tsr_rng rng_of(uint32_t sample)
{
    return tsr_rng_make(11, 2, sample, tsr_rng_purpose("dropout"));
}

/* The elements dropped are those whose number of Philox's stream of their row lies below p. */
static void test_dropout__is_a_function_of_row_and_place(void **state)
{
    (void)state;
    enum { ROWS = 3, WIDTH = 9001 }; /* beyond one part, and not a multiple of four */
    static const double ps[] = {0.1, 0.5, 0.9};
    for (int k = 0; k < 3; k++) {
        tsr_tensor *x = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(ROWS, WIDTH), 1);
        tsr_tensor *y = tsr_dropout(x, ps[k], rng_of(5));
        assert_ok();
        float scale = (float)(1.0 / (1.0 - ps[k]));
        for (int64_t r = 0; r < ROWS; r++) {
            tsr_rng rng = rng_of(5 + (uint32_t)r);
            for (int64_t i = 0; i < WIDTH; i++) {
                bool kept = (double)tsr_rng_u32(&rng) * 0x1p-32 >= ps[k];
                float in = (float)tsr_tensor_get(x, r * WIDTH + i);
                float wanted = kept ? in * scale : 0.0f;
                assert_true((float)tsr_tensor_get(y, r * WIDTH + i) == wanted);
            }
        }
    }
}

static void test_dropout__does_not_depend_on_how_the_batch_is_cut(void **state)
{
    (void)state;
    tsr_tensor *x = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(8, 7, 5), 1);
    tsr_tensor *whole = tsr_dropout(x, 0.3, rng_of(0));
    tsr_tensor *first = tsr_dropout(tsr_slice(x, 0, 0, 3, 1), 0.3, rng_of(0));
    tsr_tensor *second = tsr_dropout(tsr_slice(x, 0, 3, 8, 1), 0.3, rng_of(3));
    assert_same(tsr_concat(TSR_TENSORS(first, second), 0), whole);
}

/* Two copies of a batch of 6, and the same of its samples 2 and 3. */
static void test_dropout__of_a_part_is_that_of_the_batch(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_full(TSR_DTYPE_F32, TSR_SHAPE(2, 6, 31), 1.0);
    tsr_tensor *whole = tsr_dropout(tsr_reshape(x, TSR_SHAPE(12, 31)), 0.4, rng_of(7));
    tsr_rng rng = rng_of(7 + 2);
    rng.part = 2;
    rng.batch = 6;
    tsr_tensor *part = tsr_slice(x, 1, 2, 4, 1);
    part = tsr_dropout(tsr_reshape(part, TSR_SHAPE(4, 31)), 0.4, rng);
    whole = tsr_slice(tsr_reshape(whole, TSR_SHAPE(2, 6, 31)), 1, 2, 4, 1);
    assert_same(tsr_reshape(part, TSR_SHAPE(2, 2, 31)), whole);
}

static void test_dropout__does_not_depend_on_threads(void **state)
{
    (void)state;
    int before = tsr_threads();
    tsr_tensor *x = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(64, 997), 1);
    tsr_threads_set(1);
    tsr_tensor *y1 = tsr_dropout(x, 0.3, rng_of(0));
    tsr_threads_set(4);
    assert_same(tsr_dropout(x, 0.3, rng_of(0)), y1);
    tsr_threads_set(before);
}

/* Within five deviations of p n dropped, and a mean that stays. */
static void test_dropout__drops_p_of_the_elements(void **state)
{
    (void)state;
    enum { N = 100000 };
    for (int i = 1; i < 10; i++) {
        double p = i / 10.0, sum = 0.0, dropped = 0.0;
        tsr_tensor *y =
            tsr_dropout(tsr_full(TSR_DTYPE_F64, TSR_SHAPE(10, N / 10), 1.0), p, rng_of(0));
        assert_ok();
        for (int64_t k = 0; k < N; k++) {
            sum += tsr_tensor_get(y, k);
            dropped += tsr_tensor_get(y, k) == 0.0;
        }
        double deviation = sqrt(p * (1.0 - p) / N);
        assert_true(fabs(dropped / N - p) < 5.0 * deviation);
        assert_true(fabs(sum / N - 1.0) < 5.0 * deviation / (1.0 - p));
    }
}

static void test_dropout__extremes_and_errors(void **state)
{
    (void)state;
    tsr_tensor *x = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(7), 1);
    assert_ptr_equal(tsr_dropout(x, 0.0, rng_of(0)), x);
    assert_same(tsr_dropout(x, 1.0, rng_of(0)), tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(7)));
    /* What is dropped is 0, also where x is not finite. */
    tsr_tensor *bad = tsr_full(TSR_DTYPE_F32, TSR_SHAPE(7), (double)NAN);
    assert_same(tsr_dropout(bad, 1.0, rng_of(0)), tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(7)));
    assert_null(tsr_dropout(x, 1.5, rng_of(0)));
    assert_failed(TSR_STATUS_ARGUMENT, "dropout: p is 1.5, expected 0 to 1");
    assert_null(tsr_dropout(x, (double)NAN, rng_of(0)));
    assert_failed(TSR_STATUS_ARGUMENT, "dropout: p is");
    assert_null(tsr_dropout(tsr_zeros(TSR_DTYPE_I32, TSR_SHAPE(2)), 0.5, rng_of(0)));
    assert_failed(TSR_STATUS_DTYPE, "dropout: x is i32, expected f32, f64 or bf16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_dropout__is_a_function_of_row_and_place),
        tsr_test(test_dropout__does_not_depend_on_how_the_batch_is_cut),
        tsr_test(test_dropout__of_a_part_is_that_of_the_batch),
        tsr_test(test_dropout__does_not_depend_on_threads),
        tsr_test(test_dropout__drops_p_of_the_elements),
        tsr_test(test_dropout__extremes_and_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
