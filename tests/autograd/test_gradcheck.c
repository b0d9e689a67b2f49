/* The checker is checked: it must refuse wrong backwards of the usual kinds, and pass right ones. */
#include "tests/test.h"

#include "ops/ops.h"

#define vector(...)                                                                                \
    tsr_from(TSR_DTYPE_F64, TSR_SHAPE(sizeof((double[]){__VA_ARGS__}) / sizeof(double)),           \
             (const double[]){__VA_ARGS__})
#define leaf(...) tsr_require_grad(vector(__VA_ARGS__), true)

static tsr_tensor *scaled(tsr_tensor *x, double factor)
{
    return tsr_mul(x, tsr_scalar(TSR_DTYPE_F64, factor));
}

/* ---- y = x^2 w, with faults to choose from ---- */

enum fault {
    RIGHT,
    ZERO,         /* no gradient for x */
    DROPPED_TERM, /* x w dy: one of the two factors' */
    WRONG_SCALE,
    SLIGHT_SCALE, /* by a hundred-thousandth */
    WRONG_SIGN,
    NOT_A_NUMBER,
    ONE_ELEMENT, /* element 2 of w's alone */
    NEIGHBOURS,  /* rolled by one */
    NOT_RECORDED /* the right values, by arithmetic that no tape sees */
};

struct square {
    enum fault fault;
};

static tsr_tensor *spoilt(tsr_tensor *g, enum fault fault, bool of_w)
{
    double factors[] = {[WRONG_SCALE] = 0.5, [SLIGHT_SCALE] = 1.00001, [WRONG_SIGN] = -1.0};
    tsr_tensor *copy;
    switch (fault) {
    case WRONG_SCALE:
    case SLIGHT_SCALE:
    case WRONG_SIGN:
        return scaled(g, factors[fault]);
    case NOT_A_NUMBER:
        return scaled(g, (double)NAN);
    case ONE_ELEMENT:
        if (!of_w) return g;
        copy = tsr_zeros(TSR_DTYPE_F64, tsr_tensor_shape(g));
        ((double *)tsr_tensor_data_mut(copy))[2] = 1.0;
        return tsr_add(g, copy);
    case NEIGHBOURS:
        return tsr_roll(g, 0, 1);
    default:
        return g;
    }
}

static void square_backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                            tsr_tensor **grad_inputs)
{
    const struct square *s = tsr_node_block(node);
    tsr_tensor *x = tsr_node_saved(node, 0), *w = tsr_node_saved(node, 1), *dy = grad_outputs[0];
    if (s->fault == NOT_RECORDED) {
        x = tsr_detach(x);
        w = tsr_detach(w);
    }
    if (tsr_node_wants(node, 0) && s->fault != ZERO) {
        tsr_tensor *dx = tsr_mul(tsr_mul(x, w), dy);
        if (s->fault != DROPPED_TERM) dx = tsr_add(dx, dx);
        grad_inputs[0] = spoilt(dx, s->fault, false);
    }
    if (tsr_node_wants(node, 1)) {
        grad_inputs[1] = spoilt(tsr_mul(tsr_mul(x, x), dy), s->fault, true);
    }
}

static const tsr_op square_op = {
    .name = "square", .block_size = sizeof(struct square), .backward = square_backward};

static void square(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    tsr_tensor *x = in.at[0], *w = in.at[1];
    bool was = tsr_recording_set(false);
    tsr_tensor *y = tsr_mul(tsr_mul(x, x), w);
    tsr_recording_set(was);
    out[0] = tsr_record(&square_op, user, in, TSR_TENSORS(x, w), TSR_TENSORS(y));
}

static tsr_status check_square(enum fault fault, tsr_gradcheck_report *report)
{
    struct square s = {fault};
    return tsr_gradcheck(square, &s, TSR_TENSORS(leaf(0.5, -1.5, 2.0, 0.7), leaf(1, 2, -3, 0.1)), 1,
                         NULL, report);
}

static void test_gradcheck__passes_the_right_gradient(void **state)
{
    (void)state;
    tsr_gradcheck_report report;
    assert_int_equal(check_square(RIGHT, &report), TSR_STATUS_OK);
    assert_ok();
    assert_int_equal(report.compared, 8);
    assert_true(report.worst_error < 1e-8);
}

static void test_gradcheck__refuses_wrong_gradients(void **state)
{
    (void)state;
    for (enum fault fault = ZERO; fault <= NEIGHBOURS; fault++) {
        tsr_gradcheck_report report = {0};
        if (check_square(fault, &report) != TSR_STATUS_NUMERIC) fail_msg("fault %d passed", fault);
        assert_true(report.worst_error > 1e-6);
        assert_failed(TSR_STATUS_NUMERIC, "gradcheck: input ");
    }
}

static void test_gradcheck__names_the_worst_element(void **state)
{
    (void)state;
    tsr_gradcheck_report report;
    check_square(ONE_ELEMENT, &report);
    assert_failed(TSR_STATUS_NUMERIC, "gradcheck: input 1, element 2: analytic ");
    assert_int_equal(report.worst_input, 1);
    assert_int_equal(report.worst_element, 2);
    assert_true(fabs(report.analytic - report.numeric - 1.0) < 1e-6);
    assert_int_equal(report.compared, 8);
}

/* y = [x, x]: the gradient of x has two terms, and an assignment keeps the last one alone. */
static void twice_backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                           tsr_tensor **grad_inputs)
{
    bool assigns = *(const bool *)tsr_node_block(node);
    int64_t n = tsr_tensor_size(grad_outputs[0], 0) / 2;
    tsr_tensor *first = tsr_slice(grad_outputs[0], 0, 0, n, 1);
    tsr_tensor *second = tsr_slice(grad_outputs[0], 0, n, 2 * n, 1);
    grad_inputs[0] = assigns ? second : tsr_add(first, second);
}

static const tsr_op twice_op = {
    .name = "twice", .block_size = sizeof(bool), .backward = twice_backward};

static void twice(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    tsr_tensor *x = tsr_detach(in.at[0]);
    out[0] = tsr_record(&twice_op, user, in, TSR_NO_TENSORS,
                        TSR_TENSORS(tsr_concat(TSR_TENSORS(x, x), 0)));
}

static void test_gradcheck__refuses_assignment_for_addition(void **state)
{
    (void)state;
    bool assigns = false;
    assert_int_equal(tsr_gradcheck(twice, &assigns, TSR_TENSORS(leaf(1, 2)), 1, NULL, NULL),
                     TSR_STATUS_OK);
    assigns = true;
    assert_int_equal(tsr_gradcheck(twice, &assigns, TSR_TENSORS(leaf(1, 2)), 1, NULL, NULL),
                     TSR_STATUS_NUMERIC);
    tsr_status_clear();
}

/* e^x / sum e^x, whose gradient is 0 for a cotangent of ones: a check by the sum of outputs passes a backward of zeros. */
static void zero_backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                          tsr_tensor **grad_inputs)
{
    (void)node;
    grad_inputs[0] = scaled(grad_outputs[0], 0.0);
}

static void blind(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    static const tsr_op op = {.name = "blind", .backward = zero_backward};
    (void)n_out, (void)user;
    tsr_tensor *y = tsr_zeros(TSR_DTYPE_F64, tsr_tensor_shape(in.at[0]));
    double sum = 0.0, *data = tsr_tensor_data_mut(y);
    int64_t n = tsr_tensor_numel(y);
    for (int64_t i = 0; i < n; i++) sum += exp(tsr_tensor_get(in.at[0], i));
    for (int64_t i = 0; i < n; i++) data[i] = exp(tsr_tensor_get(in.at[0], i)) / sum;
    out[0] = tsr_record(&op, NULL, in, TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void test_gradcheck__is_not_blind_where_outputs_sum_to_one(void **state)
{
    (void)state;
    assert_int_equal(tsr_gradcheck(blind, NULL, TSR_TENSORS(leaf(0.1, 0.5, -1)), 1, NULL, NULL),
                     TSR_STATUS_NUMERIC);
    tsr_status_clear();
}

static void test_gradcheck__refuses_wrong_second_derivatives(void **state)
{
    (void)state;
    struct square s = {RIGHT};
    tsr_tensor *x = leaf(0.5, -1.5), *w = leaf(1, 2);
    tsr_gradcheck_report report;
    assert_int_equal(tsr_gradgradcheck(square, &s, TSR_TENSORS(x, w), 1, NULL, &report),
                     TSR_STATUS_OK);
    assert_int_equal(report.compared, 6); /* x, w and the cotangent */
    s.fault = NOT_RECORDED;
    assert_int_equal(tsr_gradcheck(square, &s, TSR_TENSORS(x, w), 1, NULL, NULL), TSR_STATUS_OK);
    assert_int_equal(tsr_gradgradcheck(square, &s, TSR_TENSORS(x, w), 1, NULL, NULL),
                     TSR_STATUS_NUMERIC);
    assert_failed(TSR_STATUS_NUMERIC, "gradgradcheck: input ");
}

/* A fused op's second derivative comes from its definition: x^3 defined as x^2 must be found out. */
static void cube_backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                          tsr_tensor **grad_inputs)
{
    tsr_tensor *x = tsr_node_input(node, 0);
    grad_inputs[0] = scaled(tsr_mul(tsr_mul(x, x), grad_outputs[0]), 3.0);
}

static void cube_definition(const void *block, tsr_tensors in, tsr_tensor **out)
{
    (void)block;
    out[0] = tsr_mul(tsr_mul(in.at[0], in.at[0]), in.at[0]);
}

static void square_definition(const void *block, tsr_tensors in, tsr_tensor **out)
{
    (void)block;
    out[0] = tsr_mul(in.at[0], in.at[0]);
}

static const tsr_op cube_op = {
    .name = "cube", .backward = cube_backward, .definition = cube_definition};
static const tsr_op lying_op = {
    .name = "cube", .backward = cube_backward, .definition = square_definition};

static void cube(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    tsr_tensor *x = tsr_detach(in.at[0]);
    out[0] = tsr_record(user, NULL, in, TSR_NO_TENSORS, TSR_TENSORS(tsr_mul(tsr_mul(x, x), x)));
}

static void test_gradcheck__refuses_wrong_definitions(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(0.5, -1.5);
    tsr_gradgradcheck(cube, (void *)&cube_op, TSR_TENSORS(x), 1, NULL, NULL);
    assert_ok();
    tsr_gradcheck(cube, (void *)&lying_op, TSR_TENSORS(x), 1, NULL, NULL);
    assert_ok();
    assert_int_equal(tsr_gradgradcheck(cube, (void *)&lying_op, TSR_TENSORS(x), 1, NULL, NULL),
                     TSR_STATUS_NUMERIC);
    tsr_status_clear();
}

/* ---- options and edges ---- */

/* |x|, with the derivative 1 at 0. */
static void magnitude_backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                               tsr_tensor **grad_inputs)
{
    grad_inputs[0] = tsr_mul(grad_outputs[0], tsr_node_saved(node, 0));
}

static void magnitude(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    static const tsr_op op = {.name = "magnitude", .backward = magnitude_backward};
    (void)n_out, (void)user;
    tsr_shape shape = tsr_tensor_shape(in.at[0]);
    tsr_tensor *y = tsr_empty(TSR_DTYPE_F64, shape), *sign = tsr_empty(TSR_DTYPE_F64, shape);
    for (int64_t i = 0; i < tsr_tensor_numel(y); i++) {
        double x = tsr_tensor_get(in.at[0], i);
        ((double *)tsr_tensor_data_mut(y))[i] = fabs(x);
        ((double *)tsr_tensor_data_mut(sign))[i] = x < 0.0 ? -1.0 : 1.0;
    }
    out[0] = tsr_record(&op, NULL, in, TSR_TENSORS(sign), TSR_TENSORS(y));
}

static bool near_zero(tsr_tensors in, int input, int64_t element, void *user)
{
    (void)user;
    return fabs(tsr_tensor_get(in.at[input], element)) < 1e-3;
}

static void test_gradcheck__kinks_are_left_out(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(1, 0, -2);
    tsr_gradcheck_options options = {.kink = near_zero};
    tsr_gradcheck_report report;
    assert_int_equal(tsr_gradcheck(magnitude, NULL, TSR_TENSORS(x), 1, NULL, NULL),
                     TSR_STATUS_NUMERIC);
    tsr_status_clear();
    tsr_gradcheck(magnitude, NULL, TSR_TENSORS(x), 1, &options, &report);
    assert_ok();
    assert_int_equal(report.compared, 2);
    tsr_gradcheck(magnitude, NULL, TSR_TENSORS(leaf(0, 0)), 1, &options, NULL);
    assert_failed(TSR_STATUS_ARGUMENT, "gradcheck: nothing was compared");
}

static void test_gradcheck__tolerance_and_step(void **state)
{
    (void)state;
    struct square s = {SLIGHT_SCALE};
    tsr_gradcheck_options loose = {.tolerance = 1e-3}, coarse = {.step = 0.1};
    tsr_tensor *x = leaf(0.5, 3), *w = leaf(1, 2);
    tsr_gradcheck(square, &s, TSR_TENSORS(x, w), 1, &loose, NULL);
    assert_ok();
    /* A quadratic has no error of the step; a cube has: (3 x^2 + h^2). */
    tsr_gradcheck(cube, (void *)&cube_op, TSR_TENSORS(x), 1, NULL, NULL);
    assert_ok();
    assert_int_equal(tsr_gradcheck(cube, (void *)&cube_op, TSR_TENSORS(x), 1, &coarse, NULL),
                     TSR_STATUS_NUMERIC);
    tsr_status_clear();
}

static void mixed(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)user;
    assert_int_equal(n_out, 3);
    out[0] = tsr_mul(in.at[0], in.at[0]);
    out[1] = tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(2)); /* indices have no gradient */
    out[2] = tsr_mul(in.at[0], in.at[2]);
}

static void test_gradcheck__the_callers_tensors_are_not_touched(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(1, 2), *constant = vector(3, 4);
    tsr_tape *tape = tsr_tape_open();
    tsr_gradcheck_report report;
    tsr_gradcheck(mixed, NULL, TSR_TENSORS(x, NULL, constant), 3, NULL, &report);
    assert_ok();
    assert_int_equal(report.compared, 2); /* x alone requires a gradient */
    tsr_gradgradcheck(mixed, NULL, TSR_TENSORS(x, NULL, constant), 3, NULL, NULL);
    assert_ok();
    assert_int_equal(tsr_tape_length(tape), 0);
    assert_null(tsr_tensor_grad(x));
    assert_same(x, vector(1, 2));
    assert_ptr_equal(tsr_tape_current(), tape);
    tsr_tape_close(&tape);
}

static void failing(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_mul(in.at[0], vector(1, 2, 3));
}

static void silent(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)in, (void)out, (void)n_out, (void)user;
}

static void test_gradcheck__errors(void **state)
{
    (void)state;
    tsr_tensor *x = leaf(1, 2);
    tsr_gradcheck(failing, NULL, TSR_TENSORS(x), 1, NULL, NULL);
    assert_failed(TSR_STATUS_SHAPE, "mul: a has shape [2] and b [3]");
    tsr_gradcheck(silent, NULL, TSR_TENSORS(x), 1, NULL, NULL);
    assert_failed(TSR_STATUS_ARGUMENT, "gradcheck: output 0 is NULL");
    tsr_tensor *f32 = tsr_require_grad(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2)), true);
    tsr_gradcheck(cube, (void *)&cube_op, TSR_TENSORS(f32), 1, NULL, NULL);
    assert_failed(TSR_STATUS_DTYPE, "gradcheck: input 0 is f32, expected f64");
    tsr_gradcheck(cube, (void *)&cube_op, TSR_TENSORS(vector(1)), 1, NULL, NULL);
    assert_failed(TSR_STATUS_ARGUMENT, "gradcheck: no input requires a gradient");
    tsr_gradgradcheck(failing, NULL, TSR_TENSORS(x), 1, NULL, NULL);
    assert_failed(TSR_STATUS_SHAPE, "mul: a has shape [2] and b [3]");
}

/* ---- derivatives of whole functions ---- */

static tsr_tensor *part(tsr_tensor *x, int64_t i)
{
    return tsr_slice(x, 0, i, i + 1, 1);
}

/* f(x) = (x0 x1, x0^2 x1, e^x1), f' = [[x1, x0], [2 x0 x1, x0^2], [0, e^x1]] */
static void f(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    tsr_tensor *a = part(in.at[0], 0), *b = part(in.at[0], 1), *ab = tsr_mul(a, b);
    out[0] = tsr_concat(TSR_TENSORS(ab, tsr_mul(a, ab), tsr_exp(b)), 0);
}

static const double x0 = 1.5, x1 = -0.25;

static void test_gradcheck__jacobian(void **state)
{
    (void)state;
    tsr_tensor *j = tsr_jacobian(f, NULL, vector(x0, x1));
    tsr_tensor *wanted = vector(x1, x0, 2 * x0 * x1, x0 * x0, 0, exp(x1));
    assert_close(j, tsr_reshape(wanted, TSR_SHAPE(3, 2)), 1e-15);
    /* In f32 too, and of a matrix. */
    tsr_tensor *x = tsr_full(TSR_DTYPE_F32, TSR_SHAPE(1, 2), 3.0);
    j = tsr_jacobian(cube, (void *)&cube_op, tsr_cast(x, TSR_DTYPE_F64));
    wanted = vector(27, 0, 0, 27);
    assert_close(j, tsr_reshape(wanted, TSR_SHAPE(2, 2)), 1e-15);
}

static void test_gradcheck__vjp(void **state)
{
    (void)state;
    tsr_tensor *y, *g, *v = vector(2, 3, 5), *x = vector(x0, x1);
    assert_int_equal(tsr_vjp(f, NULL, TSR_TENSORS(x), TSR_TENSORS(v), &y, &g), TSR_STATUS_OK);
    tsr_tensor *wanted = vector(2 * x1 + 3 * 2 * x0 * x1, 2 * x0 + 3 * x0 * x0 + 5 * exp(x1));
    assert_close(g, wanted, 1e-15);
    wanted = vector(x0 * x1, x0 * x0 * x1, exp(x1));
    assert_close(y, wanted, 1e-15);
    assert_false(tsr_requires_grad(y));
}

static void test_gradcheck__jvp(void **state)
{
    (void)state;
    tsr_tensor *y, *d, *v = vector(2, -3), *x = vector(x0, x1);
    assert_int_equal(tsr_jvp(f, NULL, TSR_TENSORS(x), TSR_TENSORS(v), 1, &y, &d), TSR_STATUS_OK);
    tsr_tensor *wanted = vector(2 * x1 - 3 * x0, 4 * x0 * x1 - 3 * x0 * x0, -3 * exp(x1));
    assert_close(d, wanted, 1e-15);
    wanted = vector(x0 * x1, x0 * x0 * x1, exp(x1));
    assert_close(y, wanted, 1e-15);
}

/* (a, b) -> (a b, a^2): two inputs, two outputs. */
static void pair(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_mul(in.at[0], in.at[1]);
    out[1] = tsr_mul(in.at[0], in.at[0]);
}

static void test_gradcheck__several_inputs_and_outputs(void **state)
{
    (void)state;
    tsr_tensor *a = vector(3), *b = vector(4), *u = vector(10), *v = vector(100), *r[2];
    tsr_vjp(pair, NULL, TSR_TENSORS(a, b), TSR_TENSORS(u, v), NULL, r);
    assert_same(r[0], vector(4 * 10 + 6 * 100));
    assert_same(r[1], vector(3 * 10));
    tsr_jvp(pair, NULL, TSR_TENSORS(a, b), TSR_TENSORS(u, v), 2, NULL, r);
    assert_same(r[0], vector(4 * 10 + 3 * 100));
    assert_same(r[1], vector(6 * 10));
}

/* h(x) = x0^3 x1 + e^(x0 x1) */
static void h(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    tsr_tensor *a = part(in.at[0], 0), *b = part(in.at[0], 1), *ab = tsr_mul(a, b);
    tsr_tensor *y = tsr_add(tsr_mul(tsr_mul(a, a), ab), tsr_exp(ab));
    out[0] = tsr_reshape(y, TSR_SHAPE_SCALAR);
}

static void test_gradcheck__hvp(void **state)
{
    (void)state;
    double e = exp(x0 * x1), h00 = 6 * x0 * x1 + x1 * x1 * e;
    double h01 = 3 * x0 * x0 + (1 + x0 * x1) * e, h11 = x0 * x0 * e;
    tsr_tensor *x = vector(x0, x1), *v = vector(0.5, -2);
    tsr_tensor *wanted = vector(0.5 * h00 - 2 * h01, 0.5 * h01 - 2 * h11);
    assert_close(tsr_hvp(h, NULL, x, v), wanted, 1e-14);
}

static void linear(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_sum_to(scaled(in.at[0], 3.0), TSR_SHAPE_SCALAR);
}

static void constant(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)in, (void)n_out, (void)user;
    out[0] = tsr_scalar(TSR_DTYPE_F64, 7.0);
}

static void test_gradcheck__linear_and_constant_functions(void **state)
{
    (void)state;
    tsr_tensor *x = vector(1, 2), *v = vector(5, 7), *r;
    assert_same(tsr_hvp(linear, NULL, x, v), vector(0, 0));
    tsr_jvp(linear, NULL, TSR_TENSORS(x), TSR_TENSORS(v), 1, NULL, &r);
    assert_same(r, tsr_scalar(TSR_DTYPE_F64, 36));
    assert_same(tsr_hvp(constant, NULL, x, v), vector(0, 0));
    tsr_jvp(constant, NULL, TSR_TENSORS(x), TSR_TENSORS(v), 1, NULL, &r);
    assert_same(r, tsr_scalar(TSR_DTYPE_F64, 0));
    assert_same(tsr_jacobian(constant, NULL, x), tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(1, 2)));
}

static void test_gradcheck__derivative_errors(void **state)
{
    (void)state;
    tsr_tensor *x = vector(1, 2), *r = x, *y = x;
    assert_null(tsr_jacobian(failing, NULL, x));
    assert_failed(TSR_STATUS_SHAPE, "mul: a has shape [2] and b [3]");
    assert_null(tsr_hvp(failing, NULL, x, x));
    assert_failed(TSR_STATUS_SHAPE, "mul: a has shape [2] and b [3]");
    tsr_vjp(failing, NULL, TSR_TENSORS(x), TSR_TENSORS(x), &y, &r);
    assert_null(r);
    assert_failed(TSR_STATUS_SHAPE, "mul: a has shape [2] and b [3]");
    r = x;
    tsr_jvp(f, NULL, TSR_TENSORS(x), TSR_TENSORS(x, x), 1, NULL, &r);
    assert_null(r);
    assert_failed(TSR_STATUS_ARGUMENT, "jvp: 1 outputs and 2 tangents");
    tsr_jvp(f, NULL, TSR_TENSORS(x), TSR_TENSORS(vector(1, 2, 3)), 1, NULL, &r);
    assert_failed(TSR_STATUS_SHAPE, "cotangent 0 is f64 [3], expected f64 [2]");
    tsr_vjp(f, NULL, TSR_TENSORS(NULL), TSR_TENSORS(x), NULL, &r);
    assert_failed(TSR_STATUS_ARGUMENT, "vjp: input 0 is NULL");
    assert_null(tsr_jacobian(f, NULL, NULL));
    assert_null(tsr_hvp(f, NULL, NULL, NULL));
    tsr_status_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_gradcheck__passes_the_right_gradient),
        tsr_test(test_gradcheck__refuses_wrong_gradients),
        tsr_test(test_gradcheck__names_the_worst_element),
        tsr_test(test_gradcheck__refuses_assignment_for_addition),
        tsr_test(test_gradcheck__is_not_blind_where_outputs_sum_to_one),
        tsr_test(test_gradcheck__refuses_wrong_second_derivatives),
        tsr_test(test_gradcheck__refuses_wrong_definitions),
        tsr_test(test_gradcheck__kinks_are_left_out),
        tsr_test(test_gradcheck__tolerance_and_step),
        tsr_test(test_gradcheck__the_callers_tensors_are_not_touched),
        tsr_test(test_gradcheck__errors),
        tsr_test(test_gradcheck__jacobian),
        tsr_test(test_gradcheck__vjp),
        tsr_test(test_gradcheck__jvp),
        tsr_test(test_gradcheck__several_inputs_and_outputs),
        tsr_test(test_gradcheck__hvp),
        tsr_test(test_gradcheck__linear_and_constant_functions),
        tsr_test(test_gradcheck__derivative_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
