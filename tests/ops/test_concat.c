#include "tests/ops/reference.h"

struct arguments {
    tsr_tensors parts;
    int dim;
};

static double concatenated(const int64_t *ix, const void *args)
{
    const struct arguments *a = args;
    int64_t source[TSR_MAX_DIMS];
    memcpy(source, ix, sizeof source);
    int i = 0;
    while (source[a->dim] >= tsr_tensor_size(a->parts.at[i], a->dim)) {
        source[a->dim] -= tsr_tensor_size(a->parts.at[i++], a->dim);
    }
    return reference_get(a->parts.at[i], source);
}

static void test_concat__every_type_and_dimension(void **state)
{
    (void)state;
    TSR_EACH_DTYPE(dtype)
    {
        for (int dim = 0; dim < 3; dim++) {
            tsr_shape shape = TSR_SHAPE(3, 4, 5), whole = shape;
            tsr_tensor *parts[4];
            whole.size[dim] = 0;
            for (int i = 0; i < 4; i++) {
                shape.size[dim] = 2 * i % 5; /* 0, 2, 4, 1 */
                whole.size[dim] += shape.size[dim];
                parts[i] = reference_input(dtype, shape, i % REFERENCE_LAYOUTS);
            }
            struct arguments a = {{parts, 4}, dim};
            assert_elements(tsr_concat(a.parts, dim), whole, concatenated, &a);
            assert_elements(tsr_concat(a.parts, dim - 3), whole, concatenated, &a);
        }
    }
}

static void test_concat__the_same_tensor_twice(void **state)
{
    (void)state;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = tsr_require_grad(reference_normal(TSR_DTYPE_F64, TSR_SHAPE(2), 1), true);
    tsr_tensor *y = tsr_concat(TSR_TENSORS(x, x), 0);
    tsr_tensor *v = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(4), (const double[]){1, 2, 4, 8});
    tsr_tensor *wanted = tsr_from(TSR_DTYPE_F64, TSR_SHAPE(2), (const double[]){5, 10});
    assert_same(reference_gradient(tape, y, v, x), wanted);
    tsr_tape_close(&tape);
}

static void test_concat__many_parts(void **state)
{
    (void)state;
    enum { PARTS = 100 };
    tsr_tensor *parts[PARTS];
    for (int i = 0; i < PARTS; i++) parts[i] = tsr_full(TSR_DTYPE_F32, TSR_SHAPE(1, 700), i);
    tsr_tensor *y = tsr_concat((tsr_tensors){parts, PARTS}, 0);
    assert_ok();
    for (int64_t i = 0; i < PARTS * 700; i++) {
        assert_true(tsr_tensor_get(y, i) == (double)(i / 700));
    }
}

static void test_concat__errors(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    assert_null(tsr_concat(TSR_TENSORS(x, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3, 3))), 1));
    assert_failed(
        TSR_STATUS_SHAPE,
        "concat: part 1 has shape [3, 3], which differs from [2, 3] in more than dimension 1");
    assert_null(tsr_concat(TSR_TENSORS(x, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2))), 1));
    assert_failed(TSR_STATUS_SHAPE, "concat: part 1 has shape [2]");
    assert_null(tsr_concat(TSR_TENSORS(x, tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(2, 3))), 1));
    assert_failed(TSR_STATUS_DTYPE, "concat: part 1 is f64, expected f32");
    assert_null(tsr_concat(TSR_NO_TENSORS, 0));
    assert_failed(TSR_STATUS_ARGUMENT, "concat: no parts");
    assert_null(tsr_concat(TSR_TENSORS(x), 2));
    assert_failed(TSR_STATUS_ARGUMENT, "concat: dim is 2, expected -2 to 1");
    assert_null(tsr_concat(TSR_TENSORS(x, NULL), 0));
    assert_ok();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_concat__every_type_and_dimension),
        tsr_test(test_concat__the_same_tensor_twice),
        tsr_test(test_concat__many_parts),
        tsr_test(test_concat__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
