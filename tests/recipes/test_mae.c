/* MAE: the loss and all gradients against an independent implementation; what is drawn, and what stays fixed. */
#include "tests/test.h"

/* The recipe's parts are private to it. */
#include "recipes/mae.c"

#include <stdlib.h>

static tsr_tensor *get(tsr_safetensors *file, const char *prefix, const char *name)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    return tsr_safetensors_tensor(file, full);
}

/* The golden file's configuration. */
static void make_options(tsr_train_options *train, struct options *o)
{
    tsr_recipe_defaults(&tsr_recipe__mae, train, o);
    train->image_size = 16;
    train->patch_size = 4;
    train->dim = 24;
    train->depth = 2;
    train->heads = 2;
    train->batch = 2;
    o->decoder_dim = 16;
    o->decoder_depth = 1;
    o->decoder_heads = 2;
}

static tsr_tensor *loss_of(const struct mae *m, tsr_tensor *images, tsr_tensor *mask)
{
    tsr_tensor *visible = patches_where(mask, 0), *masked = patches_where(mask, 1);
    tsr_tensor *said = decode(m, encode(m->encoder, images, visible), mask, visible, masked);
    return tsr_mean(tsr_mse(said, target(images, 4, masked, true)), NULL, 0, false);
}

static void test_mae__loss_and_gradients_equal_an_independent_implementation(void **state)
{
    (void)state;
    char path[1024];
    snprintf(path, sizeof path, "%s/mae.safetensors", getenv("TSR_GOLDEN"));
    tsr_safetensors *file = tsr_safetensors_open(path);
    tsr_train_options train;
    struct options o;
    make_options(&train, &o);
    tsr_build b = {.train = &train, .options = &o, .dtype = TSR_DTYPE_F64, .seed = 3};
    tsr_networks n;
    build(&b, &n);
    assert_ok();
    const struct mae *m = n.self;
    /* Fixed, not drawn. */
    assert_close(m->encoder->pos_embed, get(file, "param.backbone.", "pos_embed"), 1e-12);
    assert_close(m->decoder_pos_embed, get(file, "param.", "decoder_pos_embed"), 1e-12);
    tsr_module_list *list = tsr_module_parameters(n.student);
    for (int64_t i = 0; i < list->n; i++) {
        tsr_tensor_copy(list->at[i].tensor, get(file, "param.", list->at[i].name));
    }
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *value = loss_of(m, get(file, "in.", "images"), get(file, "in.", "mask"));
    assert_close(tsr_reshape(value, TSR_SHAPE(1)), get(file, "out.", "loss"), 1e-12);
    tsr_backward(tape, value, NULL);
    assert_ok();
    for (int64_t i = 0; i < list->n; i++) {
        const char *name = list->at[i].name;
        tsr_tensor *grad = tsr_tensor_grad(list->at[i].tensor);
        if (strcmp(name, "backbone.pos_embed") == 0) {
            assert_null(grad);
        } else {
            assert_close(grad, get(file, "grad.", name), 1e-10);
        }
    }
    tsr_tape_close(&tape);
    tsr_module_list_free(&list);
    tsr_module_free(&n.student);
    tsr_safetensors_close(&file);
}

/* main_pretrain.py keeps int(N (1 - ratio)) patches: 12 of 49. */
static void test_mae__masks_as_many_patches_of_each_image(void **state)
{
    (void)state;
    tsr_train_options train;
    struct options o;
    make_options(&train, &o);
    train.image_size = 28;
    tsr_build b = {.train = &train, .options = &o, .dtype = TSR_DTYPE_F32};
    tsr_view_spec spec;
    assert_int_equal(views(&b, &spec, 1), 1);
    assert_int_equal(tsr_mask_check(&spec.mask, 28), TSR_STATUS_OK);
    uint8_t first[49], mask[49];
    int same = 0;
    for (uint32_t i = 0; i < 50; i++) {
        tsr_rng rng = tsr_rng_make(0, 0, i, 0);
        assert_int_equal(tsr_mask_draw(&spec.mask, 0, 7, 7, &rng, i == 0 ? first : mask), 37);
        same += i > 0 && memcmp(first, mask, sizeof mask) == 0;
    }
    assert_int_equal(same, 0);
    o.mask_ratio = 0.99; /* of 49 patches none would stay */
    assert_int_equal(views(&b, &spec, 1), -1);
    assert_failed(TSR_STATUS_ARGUMENT, "--mask-ratio 0.99");
}

/* The weights of the attention of a new network lie within Xavier's bound, and reach it nearly. */
static void test_mae__starts_as_the_authors_do(void **state)
{
    (void)state;
    tsr_train_options train;
    struct options o;
    make_options(&train, &o);
    tsr_build b = {.train = &train, .options = &o, .dtype = TSR_DTYPE_F32};
    tsr_networks n;
    build(&b, &n);
    assert_ok();
    static const struct {
        const char *name;
        double in, out;
    } weights[] = {{"backbone.patch_embed.proj.weight", 48, 24},
                   {"backbone.blocks.1.attn.qkv.weight", 24, 72},
                   {"decoder_embed.weight", 24, 16}};
    for (int k = 0; k < 3; k++) {
        double bound = sqrt(6.0 / (weights[k].in + weights[k].out)), largest = 0.0;
        tsr_tensor *w = tsr_module_find(n.student, weights[k].name);
        for (int64_t i = 0; i < tsr_tensor_numel(w); i++)
            largest = fmax(largest, fabs(tsr_tensor_get(w, i)));
        assert_true(largest <= bound && largest > 0.95 * bound);
    }
    tsr_module_free(&n.student);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_mae__loss_and_gradients_equal_an_independent_implementation),
        tsr_test(test_mae__masks_as_many_patches_of_each_image),
        tsr_test(test_mae__starts_as_the_authors_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
