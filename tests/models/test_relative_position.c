#include "models/models.h"
#include "tests/test.h"

enum { ROWS = 3, COLUMNS = 2, HEADS = 2 };

struct owner {
    tsr_module module;
    tsr_relative_position position;
};

static struct owner *new_owner(bool class_token)
{
    struct owner *m = tsr_module_new(sizeof *m, "owner", TSR_DTYPE_F64);
    m->position =
        tsr_relative_position_new(&m->module, (tsr_relative_grid){ROWS, COLUMNS, class_token},
                                  HEADS, TSR_INIT_TRUNC_NORMAL(0.02));
    m = tsr_module_finish(&m->module);
    assert_non_null(m);
    tsr_module_initialize(&m->module, 1);
    assert_ok();
    return m;
}

/* The bias of two tokens by their places: with a class token it is token 0. */
static double plain(tsr_tensor *table, int head, int i, int j, bool class_token)
{
    int all = (2 * ROWS - 1) * (2 * COLUMNS - 1), row;
    if (class_token && (i == 0 || j == 0)) {
        row = i == 0 && j == 0 ? all + 2 : i == 0 ? all : all + 1;
    } else {
        int a = i - class_token, b = j - class_token;
        int down = a / COLUMNS - b / COLUMNS, right = a % COLUMNS - b % COLUMNS;
        row = (down + ROWS - 1) * (2 * COLUMNS - 1) + right + COLUMNS - 1;
    }
    return tsr_tensor_get(table, (int64_t)row * HEADS + head);
}

static void test_relative_position__is_by_rows_and_columns_between(void **state)
{
    (void)state;
    for (int class_token = 0; class_token < 2; class_token++) {
        struct owner *m = new_owner(class_token);
        int n = ROWS * COLUMNS + class_token;
        tsr_tensor *bias = tsr_relative_position_bias(&m->position, ROWS, COLUMNS);
        assert_true(tsr_shape_equal(tsr_tensor_shape(bias), TSR_SHAPE(HEADS, n, n)));
        for (int h = 0, k = 0; h < HEADS; h++) {
            for (int i = 0; i < n; i++) {
                for (int j = 0; j < n; j++, k++) {
                    assert_true(tsr_tensor_get(bias, k) ==
                                plain(m->position.table, h, i, j, class_token));
                }
            }
        }
        tsr_module_free(&m);
    }
}

static void bias_of(tsr_tensors inputs, tsr_tensor **outputs, int n_outputs, void *user)
{
    (void)n_outputs;
    tsr_relative_position p = *(tsr_relative_position *)user;
    p.table = inputs.at[0];
    tsr_tensor *own = tsr_relative_position_bias(&p, ROWS, COLUMNS);
    tsr_tensor *other = tsr_relative_position_bias(&p, ROWS - 1, COLUMNS + 2);
    outputs[0] = own;
    outputs[1] = other;
}

static void test_relative_position__gradients_are_differences(void **state)
{
    (void)state;
    struct owner *m = new_owner(true);
    tsr_tensor *table = tsr_empty(TSR_DTYPE_F64, tsr_tensor_shape(m->position.table));
    tsr_fill_normal(table, tsr_rng_make(2, 0, 0, 0), 0.0, 1.0);
    tsr_require_grad(table, true);
    if (tsr_gradcheck(bias_of, &m->position, TSR_TENSORS(table), 2, NULL, NULL) != TSR_STATUS_OK)
        fail_msg("%s", tsr_message());
    tsr_module_free(&m);
}

/* A resized table is what the bias for that size is made of. */
static void test_relative_position__tables_are_resized(void **state)
{
    (void)state;
    for (int class_token = 0; class_token < 2; class_token++) {
        struct owner *m = tsr_module_new(sizeof *m, "owner", TSR_DTYPE_F64);
        m->position = tsr_relative_position_new(&m->module, (tsr_relative_grid){3, 3, class_token},
                                                HEADS, TSR_INIT_TRUNC_NORMAL(0.02));
        m = tsr_module_finish(&m->module);
        tsr_module_initialize(&m->module, 1);
        tsr_shape wanted = TSR_SHAPE(9 * 9 + 3 * class_token, HEADS);
        tsr_tensor *table = tsr_relative_position_resize(m->position.table, wanted);
        assert_non_null(table);
        assert_true(tsr_shape_equal(tsr_tensor_shape(table), wanted));
        tsr_tensor *bias = tsr_relative_position_bias(&m->position, 5, 5);
        int64_t n = 25 + class_token, first = class_token;
        assert_true(tsr_tensor_get(bias, (first + 24) * n + first) == /* 4 down, 4 right */
                    tsr_tensor_get(table, HEADS * (9 * 9 - 1)));
        assert_true(tsr_tensor_get(bias, first * n + first + 7) == /* 1 up, 2 left */
                    tsr_tensor_get(table, HEADS * (3 * 9 + 2)));
        if (class_token) {
            assert_true(tsr_tensor_get(bias, 0) ==
                        tsr_tensor_get(m->position.table, HEADS * (5 * 5 + 2)));
        }
        assert_null(tsr_relative_position_resize(table, TSR_SHAPE(82 + 3 * class_token, HEADS)));
        assert_null(tsr_relative_position_resize(table, TSR_SHAPE(49, HEADS + 1)));
        tsr_module_free(&m);
        assert_ok();
    }
}

/* softmax(q k^T / sqrt(d) + bias) v by hand, and its gradient for the table. */
static void test_relative_position__enters_attention(void **state)
{
    (void)state;
    struct owner *m = new_owner(true);
    enum { T = 1 + ROWS * COLUMNS, DIM = 8 };
    tsr_attention *a = tsr_attention_new(DIM, HEADS, true, 0.0, 0.0, TSR_DTYPE_F64);
    tsr_module_initialize(&a->module, 1);
    tsr_fill_normal(tsr_detach(a->qkv->weight), tsr_rng_make(4, 0, 0, 0), 0.0, 0.5);
    tsr_tensor *x = tsr_empty(TSR_DTYPE_F64, TSR_SHAPE(2, T, DIM)), *part[3], *weights;
    tsr_fill_normal(x, tsr_rng_make(5, 0, 0, 0), 0.0, 1.0);
    tsr_tensor *bias = tsr_relative_position_bias(&m->position, ROWS, COLUMNS);
    tsr_tensor *y = tsr_attention_forward(a, x, bias, NULL, &weights);
    tsr_split(tsr_linear(x, a->qkv->weight, a->qkv->bias), -1, 3, part);
    for (int k = 0; k < 3; k++) {
        part[k] = tsr_transpose(tsr_reshape(part[k], TSR_SHAPE(2, T, HEADS, DIM / HEADS)), 1, 2);
    }
    tsr_tensor *p = tsr_affine(tsr_matmul(part[0], tsr_transpose(part[1], 2, 3)), 0.5, 0.0);
    p = tsr_softmax(tsr_add(p, bias), -1);
    assert_close(weights, p, 1e-12);
    p = tsr_reshape(tsr_transpose(tsr_matmul(p, part[2]), 1, 2), TSR_SHAPE(2, T, DIM));
    assert_close(y, tsr_linear(p, a->proj->weight, a->proj->bias), 1e-12);
    tsr_module_free(&a);
    tsr_module_free(&m);
}

static void test_relative_position__refuses_a_window_without_tokens(void **state)
{
    (void)state;
    struct owner *m = tsr_module_new(sizeof *m, "owner", TSR_DTYPE_F64);
    tsr_relative_position_new(&m->module, (tsr_relative_grid){0, 3, false}, HEADS,
                              TSR_INIT_CONSTANT(0.0));
    assert_null(tsr_module_finish(&m->module));
    assert_failed(TSR_STATUS_ARGUMENT, "a window of 0 x 3 tokens, expected 1 to 64 a side");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_relative_position__is_by_rows_and_columns_between),
        tsr_test(test_relative_position__gradients_are_differences),
        tsr_test(test_relative_position__tables_are_resized),
        tsr_test(test_relative_position__enters_attention),
        tsr_test(test_relative_position__refuses_a_window_without_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
