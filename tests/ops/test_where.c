#include "tests/ops/reference.h"

/* The element of one of the three operands at ix of the result. */
static double at(tsr_tensor *x, int ndim, const int64_t *ix)
{
    int64_t own[TSR_MAX_DIMS];
    int lead = ndim - tsr_tensor_ndim(x);
    for (int d = 0; d < tsr_tensor_ndim(x); d++) {
        own[d] = tsr_tensor_size(x, d) == 1 ? 0 : ix[d + lead];
    }
    return reference_get(x, own);
}

struct operands {
    tsr_tensor *c, *a, *b;
    int ndim;
};

static double chosen(const int64_t *ix, const void *args)
{
    const struct operands *o = args;
    return at(at(o->c, o->ndim, ix) != 0.0 ? o->a : o->b, o->ndim, ix);
}

static void test_where__chooses(void **state)
{
    (void)state;
    const tsr_shape shapes[][4] = {
        {TSR_SHAPE(3, 5), TSR_SHAPE(3, 5), TSR_SHAPE(3, 5), TSR_SHAPE(3, 5)},
        {TSR_SHAPE(7), TSR_SHAPE(3, 1), TSR_SHAPE_SCALAR, TSR_SHAPE(3, 7)},
        {TSR_SHAPE(4, 3), TSR_SHAPE(3), TSR_SHAPE_SCALAR, TSR_SHAPE(4, 3)},
        {TSR_SHAPE(101, 1), TSR_SHAPE(101, 997), TSR_SHAPE(1, 997), TSR_SHAPE(101, 997)},
        {TSR_SHAPE_SCALAR, TSR_SHAPE(0, 3), TSR_SHAPE(3), TSR_SHAPE(0, 3)},
        {TSR_SHAPE_SCALAR, TSR_SHAPE_SCALAR, TSR_SHAPE_SCALAR, TSR_SHAPE_SCALAR},
    };
    for (size_t i = 0; i < 2 * sizeof shapes / sizeof shapes[0]; i++) {
        const tsr_shape *s = shapes[i / 2];
        tsr_dtype dtype = i % 2 == 0 ? TSR_DTYPE_F32 : TSR_DTYPE_F64;
        for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
            struct operands o = {
                reference_input(i % 3 == 0 ? TSR_DTYPE_U8 : TSR_DTYPE_BOOL, s[0], layout),
                reference_input(dtype, s[1], layout), reference_normal(dtype, s[2], 1), s[3].ndim};
            assert_elements(tsr_where(o.c, o.a, o.b), s[3], chosen, &o);
        }
    }
}

/* What is not chosen may be NaN or infinite, and gets a gradient of exactly 0. */
static void test_where__ignores_the_other_side(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *c = tsr_from(TSR_DTYPE_BOOL, TSR_SHAPE(2), (const uint8_t[]){1, 0});
    tsr_tensor *a = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2), (const double[]){1, (double)NAN});
    tsr_tensor *b = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2), (const double[]){(double)INFINITY, 2});
    tsr_require_grad(a, true);
    tsr_require_grad(b, true);
    tsr_tensor *y = tsr_where(c, a, b);
    assert_close(y, tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2), (const double[]){1, 2}), 0.0);
    tsr_tensor *v = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2), (const double[]){5, 7});
    assert_close(reference_gradient(tape, y, v, a),
                 tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2), (const double[]){5, 0}), 0.0);
    assert_close(reference_gradient(tape, y, v, b),
                 tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2), (const double[]){0, 7}), 0.0);
    tsr_tape_close(&tape);
}

static void test_where__errors(void **state)
{
    (void)state;
    tsr_tensor *c = tsr_zeros(TSR_DTYPE_BOOL, TSR_SHAPE(2)),
               *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2));
    assert_null(tsr_where(x, x, x));
    assert_failed(TSR_STATUS_DTYPE, "where: condition is f32, expected bool or u8");
    assert_null(tsr_where(c, x, tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(2))));
    assert_failed(TSR_STATUS_DTYPE, "where: a is f32 and b is f64: cast one of them");
    assert_null(tsr_where(c, c, c));
    assert_failed(TSR_STATUS_DTYPE, "where: a is bool, expected f32, f64 or bf16");
    assert_null(tsr_where(c, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3)), x));
    assert_failed(TSR_STATUS_SHAPE,
                  "where: condition has shape [2], a [3] and b [2], which do not broadcast");
    assert_null(tsr_where(NULL, x, x));
    assert_null(tsr_where(c, NULL, x));
    assert_null(tsr_where(c, x, NULL));
    assert_ok();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_where__chooses),
        tsr_test(test_where__ignores_the_other_side),
        tsr_test(test_where__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
