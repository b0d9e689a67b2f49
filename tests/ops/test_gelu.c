#include "tests/ops/fused.h"

static double exact(const int64_t *ix, const void *args)
{
    double x = reference_get((tsr_tensor *)(void *)args, ix);
    return 0.5 * x * erfc(-x * sqrt(0.5));
}

static double approximate(const int64_t *ix, const void *args)
{
    double x = reference_get((tsr_tensor *)(void *)args, ix);
    return 0.5 * x * (1.0 + tanh(sqrt(2.0 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

static void run(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    out[0] = tsr_gelu(in.at[0], user != NULL);
}

static void check(tsr_shape shape)
{
    FUSED_EACH_REAL(dtype)
    {
        for (int layout = 0; layout < REFERENCE_LAYOUTS; layout++) {
            tsr_tensor *x = reference_empty(dtype, shape, layout);
            tsr_tensor *values = reference_normal(dtype, shape, 1);
            tsr_tensor_copy(x, tsr_affine(values, 3.0, 0.0));
            tsr_require_grad(x, true);
            double tolerance = dtype == TSR_DTYPE_F64 ? 1e-14 : 1e-6;
            assert_elements_close(tsr_gelu(x, false), shape, exact, x, tolerance);
            assert_elements_close(tsr_gelu(x, true), shape, approximate, x, tolerance);
            assert_definition(run, NULL, TSR_TENSORS(x), fused_tolerance(dtype));
            assert_definition(run, "tanh", TSR_TENSORS(x), fused_tolerance(dtype));
        }
    }
}

static void test_gelu__of_every_shape(void **state)
{
    (void)state;
    check(TSR_SHAPE(3, 7));
    check(TSR_SHAPE_SCALAR);
    check(TSR_SHAPE(0, 3));
    check(TSR_SHAPE(3, 131, 127));
}

/* The left tail keeps its relative precision, which 1 + erf would lose. */
static void test_gelu__tail(void **state)
{
    (void)state;
    for (double x = -9.0; x < 0.0; x += 0.03125) {
        double y = tsr_tensor_item(tsr_gelu(tsr_scalar(TSR_DTYPE_F32, x), false));
        double wanted = 0.5 * x * erfc(-x * sqrt(0.5));
        assert_true(fabs(y - wanted) <= 1e-5 * fabs(wanted));
    }
}

static void test_gelu__extremes(void **state)
{
    (void)state;
    const float x[] = {0.0f, 30.0f, -30.0f, 3e38f, -3e38f, INFINITY, NAN};
    for (int tanh_form = 0; tanh_form < 2; tanh_form++) {
        tsr_tensor *y = tsr_gelu(tsr_from(TSR_DTYPE_F32, TSR_SHAPE(7), x), tanh_form != 0);
        assert_true(tsr_tensor_get(y, 0) == 0.0);
        assert_true(tsr_tensor_get(y, 1) == 30.0);
        assert_true(fabs(tsr_tensor_get(y, 2)) < 1e-30);
        assert_true(tsr_tensor_get(y, 3) == (double)x[3]);
        assert_true(tsr_tensor_get(y, 4) == 0.0);
        assert_true(isinf(tsr_tensor_get(y, 5)));
        assert_true(isnan(tsr_tensor_get(y, 6)));
    }
}

static void assert_rounded(double got, double wanted)
{
    enum { DIGITS = 8, LEAST = -133 /* the exponent of the smallest unit */ };
    int exponent;
    frexp(wanted, &exponent);
    double unit = ldexp(1.0, exponent - DIGITS > LEAST ? exponent - DIGITS : LEAST);
    if (fabs(got - wanted) <= (0.5 + 0x1p-16) * unit) return;
    fail_msg("got %.9g, wanted %.9g", got, wanted);
}

/* Of every bf16 number, against f64: the value within half a unit of its last place, the gradient (of g = 1) too. What cannot
 * be half a unit off are numbers that f32 has rounded onto a half before: 2^-16 of a unit are allowed for that. */
static void test_gelu__of_every_bf16(void **state)
{
    (void)state;
    enum { N = 1 << 16 };
    tsr_tensor *x = tsr_empty(TSR_DTYPE_BF16, TSR_SHAPE(N));
    tsr_bf16 *xd = tsr_tensor_data_mut(x);
    for (int i = 0; i < N; i++) xd[i].bits = (uint16_t)i;
    tsr_tensor *wide = tsr_tensor_converted(x, TSR_DTYPE_F64);
    tsr_tensor *g = tsr_full(TSR_DTYPE_BF16, TSR_SHAPE(N), 1.0);
    tsr_require_grad(x, true);
    for (int tanh_form = 0; tanh_form < 2; tanh_form++) {
        tsr_tape *tape = tsr_tape_open();
        tsr_tensor *y = tsr_gelu(x, tanh_form != 0), *dx;
        tsr_grad(tape, TSR_TENSORS(y), TSR_TENSORS(g), TSR_TENSORS(x), &dx, NULL);
        tsr_tape_close(&tape);
        for (int64_t i = 0; i < N; i++) {
            double at = tsr_tensor_get(wide, i);
            if (isnan(at) || isinf(at)) continue;
            double u = sqrt(2.0 / acos(-1.0)) * (at + 0.044715 * at * at * at);
            double slope = sqrt(2.0 / acos(-1.0)) * (1.0 + 3.0 * 0.044715 * at * at);
            double gate = tanh_form ? 1.0 / (1.0 + exp(-2.0 * u)) : 0.5 * erfc(-at * sqrt(0.5));
            double density = tanh_form ? 2.0 * gate / (1.0 + exp(2.0 * u)) * slope
                                       : exp(-0.5 * at * at) / sqrt(2.0 * acos(-1.0));
            if (gate == 0.0) density = 0.0; /* where the slope may be infinite */
            assert_rounded(tsr_tensor_get(y, i), at * gate);
            assert_rounded(tsr_tensor_get(dx, i), gate + at * density);
        }
    }
}

static void test_gelu__errors(void **state)
{
    (void)state;
    assert_null(tsr_gelu(tsr_zeros(TSR_DTYPE_I32, TSR_SHAPE(3)), false));
    assert_failed(TSR_STATUS_DTYPE, "gelu: x is i32, expected f32, f64 or bf16");
}

FUSED_MAIN(tsr_test(test_gelu__of_every_shape), tsr_test(test_gelu__tail),
           tsr_test(test_gelu__extremes), tsr_test(test_gelu__of_every_bf16),
           tsr_test(test_gelu__errors))
