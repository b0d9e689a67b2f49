/*
 * The engine under the sums (ops/reduce.h): the same bits at any number of threads, whatever path a shape takes, and errors
 * that do not grow with the number of terms as those of one running sum would.
 */
#include "tests/ops/reductions.h"

static tsr_tensor *sum(tsr_tensor *x, const struct reduction_case *c)
{
    return tsr_sum(x, c->dims, c->n, false);
}

static tsr_tensor *variance(tsr_tensor *x, const struct reduction_case *c)
{
    return tsr_var(x, c->dims, c->n, 0, false);
}

static void test_reduce__same_bits_at_any_number_of_threads(void **state)
{
    (void)state;
    int before = tsr_threads();
    for (int i = 0; i < 8 * REDUCTION_CASES; i++) {
        const struct reduction_case *c = &reduction_cases[i / 8];
        if (tsr_shape_numel(c->shape) == 0) continue;
        tsr_tensor *(*const f)(tsr_tensor *, const struct reduction_case *) =
            i % 2 == 0 ? sum : variance;
        tsr_dtype dtype = i / 2 % 2 == 0 ? TSR_DTYPE_F32 : TSR_DTYPE_F64;
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *x = reduction_input(dtype, c->shape, i / 4 % 2);
        tsr_threads_set(1);
        tsr_tensor *one = f(x, c);
        for (int threads = 2; threads <= 7; threads++) {
            tsr_threads_set(threads);
            assert_same(f(x, c), one);
        }
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
    tsr_threads_set(before);
}

/* A million terms of one size. A running sum in f32 would be off by some hundredths. */
static void test_reduce__errors_do_not_grow_with_the_terms(void **state)
{
    (void)state;
    const struct {
        tsr_shape shape;
        int dim;
    } long_ones[] = {{{1, {1 << 20}}, 0}, {{2, {1 << 20, 2}}, 0}, {{2, {2, 1 << 20}}, 1}};
    for (size_t i = 0; i < sizeof long_ones / sizeof long_ones[0]; i++) {
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *x = tsr_full(TSR_DTYPE_F32, long_ones[i].shape, 0.1);
        double wanted = (double)0.1f * (1 << 20);
        tsr_tensor *y = tsr_sum(x, &long_ones[i].dim, 1, false);
        for (int64_t k = 0; k < tsr_tensor_numel(y); k++) {
            assert_true(fabs(tsr_tensor_get(y, k) - wanted) < 1e-5 * wanted);
        }
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
}

/* Random shapes, dimensions to reduce, orders of the dimensions in memory and gaps between them. */
static void test_reduce__any_layout(void **state)
{
    (void)state;
    tsr_rng rng = tsr_rng_make(7, 0, 0, 0);
    for (int round = 0; round < 300; round++) {
        tsr_scope scope = tsr_scope_open();
        tsr_shape shape = {.ndim = 1 + (int)tsr_rng_below(&rng, 5)};
        int64_t order[TSR_MAX_DIMS], strides[TSR_MAX_DIMS], reach = 1;
        struct reduction_case c = {0};
        for (int d = 0; d < shape.ndim; d++) shape.size[d] = 1 + tsr_rng_below(&rng, 9);
        tsr_rng_permutation(&rng, shape.ndim, order);
        for (int k = 0; k < shape.ndim; k++) {
            strides[order[k]] = tsr_rng_below(&rng, 8) == 0 ? 0 : reach;
            reach = reach * shape.size[order[k]] + tsr_rng_below(&rng, 2);
        }
        for (int d = 0; d < shape.ndim && c.n < 4; d++) {
            if (tsr_rng_below(&rng, 2) == 0) c.dims[c.n++] = d;
        }
        tsr_tensor *x = tsr_tensor_view(reference_normal(TSR_DTYPE_F64, TSR_SHAPE(reach), 1), shape,
                                        strides, 0);
        assert_ok();
        assert_close(sum(x, &c), reduction_reference(x, NULL, reduction_plain, c.dims, c.n, false),
                     1e-12);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_reduce__same_bits_at_any_number_of_threads),
        tsr_test(test_reduce__errors_do_not_grow_with_the_terms),
        tsr_test(test_reduce__any_layout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
