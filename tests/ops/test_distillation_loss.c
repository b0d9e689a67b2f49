#include "tests/ops/fused.h"

enum { CLASSES = 2053 };

struct arguments {
    tsr_tensor *student, *teacher, *center, *pairs;
    double student_temp, teacher_temp;
};

/* log softmax of row (i, r) of (x - c) / temp, element k. */
static double log_p(tsr_tensor *x, tsr_tensor *c, const int64_t *row, int64_t k, double temp)
{
    int64_t at[TSR_MAX_DIMS] = {row[0], row[1], 0}, n = tsr_tensor_size(x, 2);
    double sum = 0.0, largest = -INFINITY, mine = 0.0;
    for (int pass = 0; pass < 2; pass++) {
        for (at[2] = 0; at[2] < n; at[2]++) {
            double z = (reference_get(x, at) - (c != NULL ? tsr_tensor_get(c, at[2]) : 0.0)) / temp;
            if (pass == 0) largest = fmax(largest, z);
            if (pass == 1) sum += exp(z - largest);
            if (at[2] == k) mine = z;
        }
    }
    return mine - largest - log(sum);
}

static double loss(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    double total = 0.0;
    for (int64_t v = 0; v < tsr_tensor_size(a->teacher, 0); v++) {
        int64_t pair[TSR_MAX_DIMS] = {ix[0], v}, row[TSR_MAX_DIMS] = {v, ix[1]};
        if (a->pairs != NULL && reference_get(a->pairs, pair) == 0.0) continue;
        for (int64_t k = 0; k < tsr_tensor_size(a->student, 2); k++) {
            total -= exp(log_p(a->teacher, a->center, row, k, a->teacher_temp)) *
                     log_p(a->student, NULL, ix, k, a->student_temp);
        }
    }
    return total;
}

static void run(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const double *temps = user;
    out[0] = tsr_distillation_loss(in.at[0], in.at[1], in.at[2], in.at[3], temps[0], temps[1]);
}

/* Views as DINO pairs them: each answers all of the teacher's but its own. */
static tsr_tensor *others(int64_t students, int64_t teachers)
{
    tsr_tensor *pairs = tsr_full(TSR_DTYPE_BOOL, TSR_SHAPE(students, teachers), 1.0);
    uint8_t *at = tsr_tensor_data_mut(pairs);
    for (int64_t v = 0; v < teachers && v < students; v++) at[v * teachers + v] = 0;
    return pairs;
}

static void check(int64_t students, int64_t teachers, int64_t rows, int64_t d, bool own)
{
    double temps[] = {0.5, 0.25};
    FUSED_EACH_REAL(dtype)
    {
        tsr_tensor *student = fused_leaf(dtype, TSR_SHAPE(students, rows, d), 1);
        tsr_tensor *teacher = fused_leaf(dtype, TSR_SHAPE(teachers, rows, d), 2);
        tsr_tensor *center = fused_leaf(dtype, TSR_SHAPE(d), 3);
        tsr_tensor *pairs = own ? NULL : others(students, teachers);
        struct arguments a = {student, teacher, center, pairs, temps[0], temps[1]};
        tsr_tensor *y = tsr_distillation_loss(student, teacher, center, pairs, temps[0], temps[1]);
        assert_elements_close(y, TSR_SHAPE(students, rows), loss, &a, fused_tolerance(dtype));
        assert_definition(run, temps, TSR_TENSORS(student, teacher, center, pairs),
                          5.0 * fused_tolerance(dtype));
    }
}

static void test_distillation_loss__of_every_shape(void **state)
{
    (void)state;
    check(5, 2, 3, 7, false);
    check(4, 3, 2, 16, true);
    check(1, 1, 9, 5, true);
    check(2, 2, 1, 1, false);
    check(3, 2, 0, 4, false);
    check(4, 2, 5, 197, false);
}

/* A target of its own for each row is cross_entropy_soft. */
static void test_distillation_loss__is_cross_entropy_with_the_teachers_softmax(void **state)
{
    (void)state;
    tsr_shape shape = TSR_SHAPE(1, 6, CLASSES);
    tsr_tensor *student = reference_normal(TSR_DTYPE_F64, shape, 1),
               *teacher = reference_normal(TSR_DTYPE_F64, shape, 2),
               *center = reference_normal(TSR_DTYPE_F64, TSR_SHAPE(CLASSES), 3);
    tsr_tensor *target = tsr_softmax(tsr_affine(tsr_sub(teacher, center), 25.0, 0.0), -1);
    assert_close(tsr_distillation_loss(student, teacher, center, NULL, 0.1, 0.04),
                 tsr_cross_entropy_soft(tsr_affine(student, 10.0, 0.0), target), 1e-11);
}

/* Logits far from 0, and temperatures that make of them what f32 cannot raise e to. */
static void test_distillation_loss__sharp_temperatures(void **state)
{
    (void)state;
    tsr_tensor *student =
        tsr_affine(reference_normal(TSR_DTYPE_F32, TSR_SHAPE(2, 3, 64), 1), 30.0, 500.0);
    tsr_tensor *teacher =
        tsr_affine(reference_normal(TSR_DTYPE_F32, TSR_SHAPE(2, 3, 64), 2), 30.0, -500.0);
    tsr_tensor *center = reference_normal(TSR_DTYPE_F32, TSR_SHAPE(64), 3);
    struct arguments a = {student, teacher, center, NULL, 0.01, 0.005};
    assert_elements_close(tsr_distillation_loss(student, teacher, center, NULL, 0.01, 0.005),
                          TSR_SHAPE(2, 3), loss, &a, 2e-5);
}

static void test_distillation_loss__same_bits_for_any_threads(void **state)
{
    (void)state;
    int before = tsr_threads();
    double temps[] = {0.1, 0.04};
    tsr_tensor *student = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(6, 5, CLASSES), 1);
    tsr_tensor *teacher = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(2, 5, CLASSES), 2);
    tsr_tensor *center = fused_leaf(TSR_DTYPE_F32, TSR_SHAPE(CLASSES), 3), *pairs = others(6, 2);
    tsr_tensors in = TSR_TENSORS(student, teacher, center, pairs);
    tsr_tensor *one[FUSED_INPUTS] = {0}, *grads[FUSED_INPUTS] = {0}, *y1, *y;
    tsr_threads_set(1);
    run(in, &y1, 1, temps);
    fused_gradients(run, temps, in, false, one);
    for (int threads = 2; threads <= 4; threads++) {
        tsr_threads_set(threads);
        run(in, &y, 1, temps);
        assert_same(y, y1);
        fused_gradients(run, temps, in, false, grads);
        for (int i = 0; i < 3; i++) assert_same(grads[i], one[i]);
    }
    tsr_threads_set(before);
}

static void test_distillation_loss__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4, 3, 8)),
               *t = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3, 8)),
               *c = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(8));
    assert_null(tsr_distillation_loss(c, t, c, NULL, 0.1, 0.1));
    assert_failed(TSR_STATUS_SHAPE, "distillation_loss: student has shape [8], expected [S, R, K]");
    assert_null(tsr_distillation_loss(x, c, c, NULL, 0.1, 0.1));
    assert_failed(TSR_STATUS_SHAPE, "distillation_loss: teacher has shape [8], expected [V, R, K]");
    assert_null(tsr_distillation_loss(x, tsr_slice(t, 1, 0, 2, 1), c, NULL, 0.1, 0.1));
    assert_failed(TSR_STATUS_SHAPE,
                  "distillation_loss: teacher has shape [2, 2, 8], expected [2, 3, 8]");
    assert_null(tsr_distillation_loss(x, t, t, NULL, 0.1, 0.1));
    assert_failed(TSR_STATUS_SHAPE, "distillation_loss: center has shape [2, 3, 8], expected [8]");
    assert_null(
        tsr_distillation_loss(x, t, tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(8)), NULL, 0.1, 0.1));
    assert_failed(TSR_STATUS_DTYPE, "distillation_loss: center is f64 and student is f32");
    assert_null(tsr_distillation_loss(x, tsr_cast(t, TSR_DTYPE_F64), c, NULL, 0.1, 0.1));
    assert_failed(TSR_STATUS_DTYPE, "distillation_loss: teacher is f64 and student is f32");
    assert_null(tsr_distillation_loss(x, t, c, others(3, 2), 0.1, 0.1));
    assert_failed(TSR_STATUS_SHAPE, "distillation_loss: pairs has shape [3, 2], expected [4, 2]");
    assert_null(
        tsr_distillation_loss(x, t, c, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4, 2)), 0.1, 0.1));
    assert_failed(TSR_STATUS_DTYPE, "distillation_loss: pairs is f32, expected bool");
    assert_null(tsr_distillation_loss(x, t, c, NULL, 0.0, 0.1));
    assert_failed(TSR_STATUS_ARGUMENT, "distillation_loss: student_temp is 0, expected above 0");
    assert_null(tsr_distillation_loss(x, t, c, NULL, 0.1, NAN));
    assert_failed(TSR_STATUS_ARGUMENT, "distillation_loss: teacher_temp is nan, expected above 0");
}

FUSED_MAIN(tsr_test(test_distillation_loss__of_every_shape),
           tsr_test(test_distillation_loss__is_cross_entropy_with_the_teachers_softmax),
           tsr_test(test_distillation_loss__sharp_temperatures),
           tsr_test(test_distillation_loss__same_bits_for_any_threads),
           tsr_test(test_distillation_loss__errors))
