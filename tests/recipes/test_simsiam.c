/* SimSiam: the loss of given features, its gradients and the running statistics, against an independent implementation. */
#include "tests/test.h"

/* The recipe's parts are private to it. */
#include "recipes/simsiam.c"

#include <stdlib.h>

static tsr_tensor *get(tsr_safetensors *file, const char *prefix, const char *name)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    return tsr_safetensors_tensor(file, full);
}

static void make_options(tsr_train_options *train, struct options *o)
{
    tsr_recipe_defaults(&tsr_recipe__simsiam, train, o);
    train->image_size = 16;
    train->patch_size = 4;
    train->dim = 8;
    train->depth = 1;
    train->heads = 2;
    train->batch = 4;
    o->out_dim = 10;
    o->hidden = 12;
    o->predictor_hidden = 6;
}

static void test_simsiam__loss_and_gradients_equal_an_independent_implementation(void **state)
{
    (void)state;
    char path[1024];
    snprintf(path, sizeof path, "%s/simsiam.safetensors", getenv("TSR_GOLDEN"));
    tsr_safetensors *file = tsr_safetensors_open(path);
    tsr_train_options train;
    struct options o;
    make_options(&train, &o);
    tsr_build b = {.train = &train, .options = &o, .dtype = TSR_DTYPE_F64};
    tsr_networks n;
    build(&b, &n);
    assert_ok();
    const struct simsiam *m = n.self;
    tsr_module_list *list = tsr_module_state(n.student);
    for (int64_t i = 0; i < list->n; i++) {
        if (!tsr_requires_grad(list->at[i].tensor)) continue;
        if (strncmp(list->at[i].name, "backbone.", 9) == 0) continue;
        tsr_tensor_copy(list->at[i].tensor, get(file, "param.", list->at[i].name));
    }
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x[2] = {get(file, "in.", "0"), get(file, "in.", "1")}, *z[2];
    for (int v = 0; v < 2; v++) z[v] = project(m, tsr_require_grad(x[v], true));
    tsr_tensor *value = symmetric(m, z);
    assert_close(tsr_reshape(value, TSR_SHAPE(1)), get(file, "out.", "loss"), 1e-12);
    tsr_backward(tape, value, NULL);
    assert_close(tsr_tensor_grad(x[0]), get(file, "grad.", "0"), 1e-10);
    assert_close(tsr_tensor_grad(x[1]), get(file, "grad.", "1"), 1e-10);
    int compared = 0;
    for (int64_t i = 0; i < list->n; i++) {
        const char *name = list->at[i].name;
        if (strncmp(name, "backbone.", 9) == 0) continue;
        if (tsr_requires_grad(list->at[i].tensor)) {
            assert_close(tsr_tensor_grad(list->at[i].tensor), get(file, "grad.", name), 1e-10);
            compared++;
        } else if (strstr(name, "running") != NULL) {
            assert_close(list->at[i].tensor, get(file, "after.", name), 1e-12);
            compared++;
        }
    }
    assert_int_equal(compared, 12 + 8);
    tsr_tape_close(&tape);
    tsr_module_list_free(&list);
    tsr_module_free(&n.student);
    tsr_safetensors_close(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_simsiam__loss_and_gradients_equal_an_independent_implementation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
