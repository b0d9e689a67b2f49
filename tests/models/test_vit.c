#include "tests/models/golden.h"

#include "ops/gemm.h"

static tsr_vit_config small_config(tsr_dtype dtype)
{
    return (tsr_vit_config){.image_size = 32,
                            .patch_size = 8,
                            .dim = 48,
                            .depth = 3,
                            .heads = 3,
                            .qkv_bias = true,
                            .masked = true,
                            .dtype = dtype};
}

static void compare_vit(const char *name, double layer_scale, tsr_dtype dtype)
{
    tsr_safetensors *file = golden_open(name);
    double tolerance = tolerance_of(dtype);
    tsr_vit_config config = small_config(dtype);
    config.layer_scale = layer_scale;
    tsr_vit *vit = tsr_vit_new(&config);
    assert_ok();
    golden_load(&vit->module, file, true);

    tsr_tensor *images = golden(file, "in.images", dtype);
    tsr_backbone_options masked = {.mask = golden(file, "in.mask", dtype)};
    tsr_tensor *tokens = tsr_vit_forward(vit, images, &masked);
    assert_near(tokens, golden(file, "out.masked_tokens", dtype), tolerance, "masked_tokens");

    /* grad.* is the gradient of the small images' tokens: in the file grad.pos_embed is
     * grad_small.pos_embed, and grad.masked_embed is 0. That of masked tokens is checked by
     * differences, below. */
    tsr_tape *tape = tsr_tape_open();
    tokens = tsr_vit_forward(vit, golden(file, "in.images_small", dtype), NULL);
    assert_near(tokens, golden(file, "out.tokens_small", dtype), tolerance, "tokens_small");
    tsr_backward(tape, probe(tokens, golden(file, "in.probe_small", dtype)), NULL);
    assert_ok();
    tsr_tape_close(&tape);
    golden_gradients(&vit->module, file, "grad.", tolerance);

    tokens = tsr_vit_forward(vit, images, NULL);
    assert_near(tokens, golden(file, "out.tokens", dtype), tolerance, "tokens");
    assert_near(tsr_tokens_class(tokens), golden(file, "out.cls", dtype), tolerance, "cls");
    tokens = tsr_vit_forward(vit, golden(file, "in.images_rect", dtype), NULL);
    assert_near(tokens, golden(file, "out.tokens_rect", dtype), tolerance, "tokens_rect");
    tsr_tensor *last[2];
    tsr_vit_intermediate(vit, images, 2, NULL, last);
    assert_near(last[0], golden(file, "out.intermediate.0", dtype), tolerance, "intermediate.0");
    assert_near(last[1], golden(file, "out.intermediate.1", dtype), tolerance, "intermediate.1");
    assert_near(tsr_vit_last_attention(vit, images), golden(file, "out.last_attention", dtype),
                tolerance, "last_attention");
    tsr_module_free(&vit);
    assert_null(vit);
    tsr_safetensors_close(&file);
}

/* The loss of masked images that the next test differentiates. */
static tsr_tensor *masked_loss(const tsr_vit *vit, tsr_safetensors *file)
{
    tsr_backbone_options masked = {.mask = golden(file, "in.mask", TSR_DTYPE_F64)};
    tsr_tensor *tokens = tsr_vit_forward(vit, golden(file, "in.images", TSR_DTYPE_F64), &masked);
    return probe(tokens, golden(file, "in.probe", TSR_DTYPE_F64));
}

/* t += step * direction, and the loss there. */
static double loss_at(const tsr_vit *vit, tsr_safetensors *file, tsr_tensor *t,
                      const double *direction, double step)
{
    tsr_scope scope = tsr_scope_open();
    double *data = tsr_tensor_data_mut(t);
    for (int64_t i = 0; i < tsr_tensor_numel(t); i++) data[i] += step * direction[i];
    double loss = tsr_tensor_item(masked_loss(vit, file));
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return loss;
}

static void test_vit__gradients_of_masked_images_are_differences(void **state)
{
    (void)state;
    tsr_safetensors *file = golden_open("vit_layerscale");
    tsr_vit_config config = small_config(TSR_DTYPE_F64);
    config.layer_scale = 0.1;
    tsr_vit *vit = tsr_vit_new(&config);
    golden_load(&vit->module, file, true);
    tsr_tape *tape = tsr_tape_open();
    tsr_backward(tape, masked_loss(vit, file), NULL);
    assert_ok();
    tsr_tape_close(&tape);
    int threads = tsr_threads();
    tsr_threads_set(1); /* many small passes */
    tsr_module_list *parameters = tsr_module_parameters(&vit->module);
    for (int64_t k = 0; k < parameters->n; k++) {
        tsr_tensor *t = parameters->at[k].tensor, *grad = tsr_tensor_grad(t);
        assert_non_null(grad);
        tsr_tensor *direction = tsr_empty(TSR_DTYPE_F64, tsr_tensor_shape(t));
        tsr_fill_normal(direction, tsr_rng_make(1, 0, 0, (uint32_t)k), 0.0, 1.0);
        const double *d = tsr_tensor_data(direction);
        double slope = 0.0, size = 0.0, step = 1e-5;
        for (int64_t i = 0; i < tsr_tensor_numel(t); i++) {
            double g = tsr_tensor_get(grad, i);
            slope += g * d[i];
            size += g * g;
        }
        double ahead = loss_at(vit, file, t, d, step), behind = loss_at(vit, file, t, d, -2 * step);
        loss_at(vit, file, t, d, step);
        double difference = (ahead - behind) / (2 * step);
        if (!(fabs(difference - slope) <= 1e-6 * sqrt(size))) {
            fail_msg("%s: slope %.10g, by differences %.10g", parameters->at[k].name, slope,
                     difference);
        }
    }
    tsr_threads_set(threads);
    tsr_module_list_free(&parameters);
    tsr_module_free(&vit);
    tsr_safetensors_close(&file);
}

static void test_vit__agrees_with_the_authors(void **state)
{
    (void)state;
    compare_vit("vit", 0.0, TSR_DTYPE_F32);
    compare_vit("vit", 0.0, TSR_DTYPE_F64);
}

static void test_vit__agrees_with_the_authors_with_layer_scale(void **state)
{
    (void)state;
    compare_vit("vit_layerscale", 0.1, TSR_DTYPE_F32);
    compare_vit("vit_layerscale", 0.1, TSR_DTYPE_F64);
}

static void test_vit__agrees_with_the_authors_with_mean_pooling(void **state)
{
    (void)state;
    for (tsr_dtype dtype = TSR_DTYPE_F32; dtype <= TSR_DTYPE_F64; dtype++) {
        tsr_safetensors *file = golden_open("vit_meanpool");
        tsr_vit_config config = small_config(dtype);
        config.masked = false;
        config.mean_pooling = true;
        tsr_vit *vit = tsr_vit_new(&config);
        assert_ok();
        golden_load(&vit->module, file, true);
        tsr_tensor *tokens = tsr_vit_forward(vit, golden(file, "in.images", dtype), NULL);
        assert_near(tsr_tokens_class(tokens), golden(file, "out.cls", dtype), tolerance_of(dtype),
                    "cls");
        tsr_module_free(&vit);
        tsr_safetensors_close(&file);
    }
}

static void test_vit__has_the_published_number_of_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t count;
    } published[] = {{"vit_tiny", 5524416},
                     {"vit_small", 21665664},
                     {"vit_base", 85798656},
                     {"vit_large", 303301632}};
    for (int i = 0; i < 4; i++) {
        tsr_vit_config config;
        tsr_vit_config_find(published[i].name, &config);
        tsr_vit *vit = tsr_vit_new(&config);
        assert_ok();
        assert_int_equal(tsr_module_count(&vit->module), published[i].count);
        tsr_module_free(&vit);
    }
}

static void test_vit__has_the_names_of_the_authors(void **state)
{
    (void)state;
    tsr_vit_config config;
    tsr_vit_config_find("vit_tiny", &config);
    config.masked = true;
    tsr_vit *vit = tsr_vit_new(&config);
    compare_names("vit", &vit->module);
    tsr_module_free(&vit);
    tsr_head *head = tsr_head_new(&(tsr_head_config){.dim = 192, .out_dim = 64});
    compare_names("ibot_head_shared", &head->module);
    tsr_module_free(&head);
}

static double deviation(tsr_tensor *t)
{
    double sum = 0.0, squares = 0.0, n = (double)tsr_tensor_numel(t);
    for (int64_t i = 0; i < tsr_tensor_numel(t); i++) {
        double x = tsr_tensor_get(t, i);
        sum += x;
        squares += x * x;
    }
    return sqrt(squares / n - (sum / n) * (sum / n));
}

static void test_vit__starts_as_the_authors_do(void **state)
{
    (void)state;
    tsr_vit_config config = small_config(TSR_DTYPE_F32);
    tsr_vit *vit = tsr_vit_new(&config);
    tsr_module_initialize(&vit->module, 1);
    assert_ok();
    assert_true(fabs(deviation(vit->blocks[1]->mlp->fc1->weight) - 0.02) < 0.001);
    assert_true(fabs(deviation(vit->pos_embed) - 0.02) < 0.002);
    assert_close(vit->masked_embed, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(1, 48)), 0.0);
    assert_close(vit->blocks[2]->attn->qkv->bias, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(144)), 0.0);
    assert_close(vit->norm->weight, tsr_full(TSR_DTYPE_F32, TSR_SHAPE(48), 1.0), 0.0);
    double bound = 1.0 / sqrt(3.0 * 64.0), largest = 0.0;
    tsr_tensor *w = vit->patch_embed->weight;
    for (int64_t i = 0; i < tsr_tensor_numel(w); i++) {
        largest = fmax(largest, fabs(tsr_tensor_get(w, i)));
    }
    assert_true(largest <= bound && largest > 0.99 * bound);
    assert_true(fabs(deviation(w) - bound / sqrt(3.0)) < 0.001);
    tsr_module_free(&vit);
}

/* By size, a grid of 2 x 2 is the 4 x 4 one sampled at 0.5 and 2.5: where two cells' weights are
 * -3/32, 19/32, 19/32, -3/32. */
static void test_vit__fits_positions_by_size(void **state)
{
    (void)state;
    tsr_vit_config config = small_config(TSR_DTYPE_F64);
    config.position = TSR_POSITION_SIZE;
    tsr_vit *vit = tsr_vit_new(&config);
    /* All but the positions is 0: the tokens come out of the blocks as they went in. */
    tsr_module_list *list = tsr_module_state(&vit->module);
    for (int64_t i = 0; i < list->n; i++) tsr_tensor_fill(list->at[i].tensor, 0.0);
    tsr_module_list_free(&list);
    tsr_fill_normal(vit->pos_embed, tsr_rng_make(3, 0, 0, 0), 0.0, 1.0);
    tsr_tensor_fill(vit->norm->weight, 1.0);
    tsr_tensor *images = tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(1, 3, 16, 16));
    tsr_tensor *tokens = tsr_vit_forward(vit, images, NULL);
    assert_ok();

    /* The outermost cell stands for those beyond the border: it has -3/32 + 19/32. */
    static const double weights[2][4] = {{16 / 32.0, 19 / 32.0, -3 / 32.0, 0.0},
                                         {0.0, -3 / 32.0, 19 / 32.0, 16 / 32.0}};
    tsr_tensor *expected = tsr_zeros(TSR_DTYPE_F64, TSR_SHAPE(1, 5, 48));
    double *e = tsr_tensor_data_mut(expected);
    for (int64_t d = 0; d < 48; d++) {
        e[d] = tsr_tensor_get(vit->pos_embed, d);
        for (int y = 0; y < 2; y++) {
            for (int x = 0; x < 2; x++) {
                double sum = 0.0;
                for (int i = 0; i < 4; i++) {
                    for (int j = 0; j < 4; j++) {
                        sum += weights[y][i] * weights[x][j] *
                               tsr_tensor_get(vit->pos_embed, (1 + 4 * i + j) * 48 + d);
                    }
                }
                e[(1 + 2 * y + x) * 48 + d] = sum;
            }
        }
    }
    expected = tsr_layer_norm(expected, NULL, NULL, 1e-6);
    assert_close(tokens, expected, 1e-12);
    tsr_module_free(&vit);
}

static void test_vit__drops_by_sample_alone(void **state)
{
    (void)state;
    tsr_vit_config config = small_config(TSR_DTYPE_F64);
    config.drop_path = 0.5;
    config.drop = 0.1;
    config.attn_drop = 0.2;
    tsr_vit *vit = tsr_vit_new(&config);
    tsr_module_initialize(&vit->module, 1);
    tsr_tensor *images = tsr_empty(TSR_DTYPE_F64, TSR_SHAPE(6, 3, 32, 32));
    tsr_fill_normal(images, tsr_rng_make(2, 0, 0, 0), 0.0, 1.0);
    tsr_backbone_options options = {.rng = tsr_rng_make(5, 7, 100, tsr_rng_purpose("student"))};
    tsr_tensor *all = tsr_vit_forward(vit, images, &options);
    options.rng.sample += 2;
    tsr_tensor *some = tsr_vit_forward(vit, tsr_slice(images, 0, 2, 6, 1), &options);
    assert_close(some, tsr_slice(all, 0, 2, 6, 1), 1e-12);

    tsr_module_train(&vit->module, false);
    tsr_tensor *evaluated = tsr_vit_forward(vit, images, NULL);
    assert_ok();
    int differ = 0;
    for (int64_t b = 0; b < 6; b++) {
        int64_t i = b * 17 * 48;
        differ += fabs(tsr_tensor_get(all, i) - tsr_tensor_get(evaluated, i)) > 1e-9;
    }
    assert_true(differ >= 3);
    tsr_module_train(&vit->module, true);
    assert_null(tsr_vit_forward(vit, images, NULL));
    assert_failed(TSR_STATUS_STATE, "pos_drop: a rate of 0.1 in training wants an rng");
    tsr_module_free(&vit);
}

/* drop_rate: of the embedded tokens, of each attention's result, twice in each MLP. attn_drop_rate: of the weights. */
static tsr_tensor *dropped_by_hand(const tsr_vit *vit, tsr_tensor *images, tsr_rng rng)
{
    const tsr_vit_config *c = &vit->config;
    int64_t batch = tsr_tensor_size(images, 0), head = c->dim / c->heads;
    tsr_rng at = rng;
    tsr_tensor *x = tsr_patch_embed(images, vit->patch_embed->weight, vit->patch_embed->bias);
    x = tsr_permute(tsr_reshape(x, TSR_SHAPE(batch, c->dim, 16)), (const int[]){0, 2, 1});
    tsr_tensor *cls = tsr_expand(vit->cls_token, TSR_SHAPE(batch, 1, c->dim));
    x = tsr_add(tsr_concat(TSR_TENSORS(cls, x), 1), vit->pos_embed);
    at.purpose = rng.purpose + (uint32_t)c->depth * TSR_BLOCK_PLACES;
    x = tsr_dropout(x, c->drop, at);
    for (int64_t i = 0; i < c->depth; i++) {
        const tsr_transformer_block *b = vit->blocks[i];
        uint32_t first = rng.purpose + (uint32_t)i * TSR_BLOCK_PLACES;
        tsr_tensor *y = tsr_layer_norm(x, b->norm1->weight, b->norm1->bias, 1e-6), *qkv[3];
        tsr_split(tsr_linear(y, b->attn->qkv->weight, b->attn->qkv->bias), -1, 3, qkv);
        for (int k = 0; k < 3; k++) {
            qkv[k] = tsr_reshape(qkv[k], TSR_SHAPE(batch, 17, c->heads, head));
            qkv[k] = tsr_transpose(qkv[k], 1, 2);
        }
        y = tsr_matmul(qkv[0], tsr_transpose(qkv[1], 2, 3));
        y = tsr_softmax(tsr_affine(y, 1.0 / sqrt((double)head), 0.0), -1);
        at.purpose = first + 2;
        y = tsr_matmul(tsr_dropout(y, c->attn_drop, at), qkv[2]);
        y = tsr_reshape(tsr_transpose(y, 1, 2), TSR_SHAPE(batch, 17, c->dim));
        y = tsr_linear(y, b->attn->proj->weight, b->attn->proj->bias);
        at.purpose = first + 3;
        x = tsr_add(x, tsr_dropout(y, c->drop, at));
        y = tsr_layer_norm(x, b->norm2->weight, b->norm2->bias, 1e-6);
        y = tsr_gelu(tsr_linear(y, b->mlp->fc1->weight, b->mlp->fc1->bias), false);
        at.purpose = first + 4;
        y = tsr_linear(tsr_dropout(y, c->drop, at), b->mlp->fc2->weight, b->mlp->fc2->bias);
        at.purpose = first + 5;
        x = tsr_add(x, tsr_dropout(y, c->drop, at));
    }
    return tsr_layer_norm(x, vit->norm->weight, vit->norm->bias, 1e-6);
}

static void test_vit__drops_where_the_authors_do(void **state)
{
    (void)state;
    tsr_vit_config config = small_config(TSR_DTYPE_F64);
    config.drop = 0.2;
    config.attn_drop = 0.3;
    tsr_vit *vit = tsr_vit_new(&config);
    tsr_module_initialize(&vit->module, 1);
    tsr_tensor *images = tsr_empty(TSR_DTYPE_F64, TSR_SHAPE(3, 3, 32, 32));
    tsr_fill_normal(images, tsr_rng_make(2, 0, 0, 0), 0.0, 1.0);
    tsr_backbone_options options = {.rng = tsr_rng_make(5, 7, 100, tsr_rng_purpose("student"))};
    assert_close(tsr_vit_forward(vit, images, &options), dropped_by_hand(vit, images, options.rng),
                 1e-12);
    tsr_module_free(&vit);
}

static tsr_tensor *heads_of(tsr_tensor *x, int64_t heads)
{
    tsr_shape s = tsr_tensor_shape(x);
    x = tsr_reshape(x, TSR_SHAPE(s.size[0], s.size[1], heads, s.size[2] / heads));
    return tsr_transpose(x, 1, 2);
}

/* One block of DINOv2 with all its tokens: SwiGLU, LayerScale. weights receives the attention's. */
static tsr_tensor *gated_by_hand(const tsr_vit *vit, tsr_tensor *x, tsr_tensor **weights)
{
    const tsr_transformer_block *b = vit->blocks[0];
    tsr_tensor *y = tsr_layer_norm(x, b->norm1->weight, b->norm1->bias, 1e-6), *part[3];
    tsr_split(tsr_linear(y, b->attn->qkv->weight, b->attn->qkv->bias), -1, 3, part);
    for (int k = 0; k < 3; k++) part[k] = heads_of(part[k], vit->config.heads);
    y = tsr_matmul(part[0], tsr_transpose(part[1], 2, 3));
    *weights = tsr_softmax(tsr_affine(y, 0.25, 0.0), -1); /* 1 / sqrt(48 / 3) */
    y = tsr_transpose(tsr_matmul(*weights, part[2]), 1, 2);
    y = tsr_linear(tsr_reshape(y, tsr_tensor_shape(x)), b->attn->proj->weight, b->attn->proj->bias);
    x = tsr_add(x, tsr_mul(y, b->gamma_1));
    y = tsr_layer_norm(x, b->norm2->weight, b->norm2->bias, 1e-6);
    tsr_tensor *w12 = tsr_module_find(&b->module, "mlp.w12.weight");
    tsr_tensor *w3 = tsr_module_find(&b->module, "mlp.w3.weight");
    tsr_split(tsr_linear(y, w12, tsr_module_find(&b->module, "mlp.w12.bias")), -1, 2, part);
    y = tsr_mul(tsr_mul(part[0], tsr_sigmoid(part[0])), part[1]);
    y = tsr_linear(y, w3, tsr_module_find(&b->module, "mlp.w3.bias"));
    return tsr_add(x, tsr_mul(y, b->gamma_2));
}

/* Two registers behind the class token, which get no position and come out nowhere. */
static void test_vit__registers_and_gates_are_those_of_dinov2(void **state)
{
    (void)state;
    tsr_vit_config config = small_config(TSR_DTYPE_F64);
    config.depth = 1;
    config.registers = 2;
    config.gated = true;
    config.mlp_ratio = 1.5;
    config.layer_scale = 1.0;
    tsr_vit *vit = tsr_vit_new(&config);
    assert_ok();
    tsr_module_list *list = tsr_module_state(&vit->module);
    for (int64_t i = 0; i < list->n; i++) {
        tsr_fill_normal(tsr_detach(list->at[i].tensor), tsr_rng_make(3, (uint32_t)i, 0, 0), 0.0,
                        0.3);
    }
    tsr_module_list_free(&list);
    assert_true(
        tsr_shape_equal(tsr_tensor_shape(vit->blocks[0]->mlp->fc1->weight), TSR_SHAPE(144, 48)));
    tsr_tensor *images = tsr_empty(TSR_DTYPE_F64, TSR_SHAPE(2, 3, 32, 32));
    tsr_fill_normal(images, tsr_rng_make(2, 0, 0, 0), 0.0, 1.0);

    tsr_tensor *x = tsr_patch_embed(images, vit->patch_embed->weight, vit->patch_embed->bias);
    x = tsr_permute(tsr_reshape(x, TSR_SHAPE(2, 48, 16)), (const int[]){0, 2, 1});
    x = tsr_add(x, tsr_slice(vit->pos_embed, 1, 1, 17, 1));
    tsr_tensor *cls = tsr_add(vit->cls_token, tsr_slice(vit->pos_embed, 1, 0, 1, 1)), *weights;
    x = tsr_concat(TSR_TENSORS(tsr_expand(cls, TSR_SHAPE(2, 1, 48)),
                               tsr_expand(vit->register_tokens, TSR_SHAPE(2, 2, 48)), x),
                   1);
    x = gated_by_hand(vit, x, &weights);
    x = tsr_concat(TSR_TENSORS(tsr_slice(x, 1, 0, 1, 1), tsr_slice(x, 1, 3, 19, 1)), 1);
    tsr_tensor *last;
    tsr_backbone_options raw = {.no_norm = true};
    assert_int_equal(tsr_vit_intermediate(vit, images, 1, &raw, &last), TSR_STATUS_OK);
    assert_close(last, x, 1e-12);
    x = tsr_layer_norm(x, vit->norm->weight, vit->norm->bias, 1e-6);
    assert_close(tsr_vit_forward(vit, images, NULL), x, 1e-12);
    /* The class token's attention to the last patch. */
    tsr_tensor *attention = tsr_vit_last_attention(vit, images);
    assert_true(tsr_shape_equal(tsr_tensor_shape(attention), TSR_SHAPE(2, 3, 17, 17)));
    assert_true(fabs(tsr_tensor_get(attention, 16) - tsr_tensor_get(weights, 18)) < 1e-12);
    tsr_module_free(&vit);

    config.registers = 1025;
    assert_null(tsr_vit_new(&config));
    assert_failed(TSR_STATUS_ARGUMENT, "registers is 1025, expected 0 to 1024");
}

/* One block by hand with a bias, and the names of BEiT; recomputed blocks give the same gradients. */
static void test_vit__takes_relative_positions(void **state)
{
    (void)state;
    static const char *const names[] = {"", "blocks.0.attn.relative_position_bias_table",
                                        "rel_pos_bias.relative_position_bias_table"};
    for (int kind = TSR_VIT_RELATIVE_BLOCKS; kind <= TSR_VIT_RELATIVE_SHARED; kind++) {
        tsr_vit_config config = small_config(TSR_DTYPE_F64);
        config.depth = 2;
        config.relative = (tsr_vit_relative)kind;
        config.no_position = true;
        tsr_vit *vit = tsr_vit_new(&config);
        assert_ok();
        assert_null(vit->pos_embed);
        tsr_module_initialize(&vit->module, 1);
        tsr_tensor *table = tsr_module_find(&vit->module, names[kind]), *grads[2];
        assert_true(tsr_shape_equal(tsr_tensor_shape(table), TSR_SHAPE(7 * 7 + 3, 3)));
        tsr_fill_normal(tsr_detach(table), tsr_rng_make(4, 0, 0, 0), 0.0, 1.0);
        tsr_tensor *images = tsr_empty(TSR_DTYPE_F64, TSR_SHAPE(2, 3, 32, 32)), *x, *b;
        tsr_fill_normal(images, tsr_rng_make(2, 0, 0, 0), 0.0, 1.0);

        x = tsr_patch_embed(images, vit->patch_embed->weight, vit->patch_embed->bias);
        x = tsr_permute(tsr_reshape(x, TSR_SHAPE(2, 48, 16)), (const int[]){0, 2, 1});
        x = tsr_concat(TSR_TENSORS(tsr_expand(vit->cls_token, TSR_SHAPE(2, 1, 48)), x), 1);
        for (int i = 0; i < 2; i++) {
            const tsr_relative_position *p = vit->rel_pos_bias != NULL
                                                 ? &vit->rel_pos_bias->position
                                                 : &vit->blocks[i]->attn->position;
            b = tsr_relative_position_bias(p, 4, 4);
            x = tsr_transformer_block_forward(vit->blocks[i], x, b, NULL, NULL);
        }
        tsr_tensor *plain = tsr_norm_forward(vit->norm, x);
        assert_close(tsr_vit_forward(vit, images, NULL), plain, 1e-12);
        assert_non_null(tsr_vit_forward(vit, tsr_slice(images, 2, 0, 16, 1), NULL));
        assert_non_null(tsr_vit_last_attention(vit, images));
        for (int recompute = 0; recompute < 2; recompute++) {
            tsr_backbone_recompute(&vit->backbone, recompute == 1);
            tsr_tape *tape = tsr_tape_open();
            x = tsr_exp(tsr_vit_forward(vit, images, NULL));
            tsr_backward(tape, tsr_sum(x, NULL, 0, false), NULL);
            tsr_tape_close(&tape);
            assert_ok();
            grads[recompute] = tsr_tensor_hold(tsr_tensor_grad(table));
            assert_non_null(grads[recompute]);
            tsr_tensor_set_grad(table, NULL);
            tsr_module_list *list = tsr_module_parameters(&vit->module);
            for (int64_t i = 0; i < list->n; i++) tsr_tensor_set_grad(list->at[i].tensor, NULL);
            tsr_module_list_free(&list);
        }
        assert_same(grads[0], grads[1]);
        assert_true(largest_of(grads[0]) > 1e-6);
        for (int k = 0; k < 2; k++) tsr_tensor_release(&grads[k]);
        tsr_module_free(&vit);
    }
    tsr_vit_config config = small_config(TSR_DTYPE_F64);
    config.relative = TSR_VIT_RELATIVE_SHARED;
    config.registers = 1;
    assert_null(tsr_vit_new(&config));
    assert_failed(TSR_STATUS_ARGUMENT, "registers have no relative positions");
}

static void test_vit__fits_positions_with_antialias(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_empty(TSR_DTYPE_F64, TSR_SHAPE(1, 17, 5));
    tsr_fill_normal(x, tsr_rng_make(2, 0, 0, 0), 0.0, 1.0);
    tsr_tensor *grid = tsr_permute(tsr_reshape(tsr_slice(x, 1, 1, 17, 1), TSR_SHAPE(1, 4, 4, 5)),
                                   (const int[]){0, 3, 1, 2});
    tsr_interpolate_options options = {.mode = TSR_INTERPOLATION_BICUBIC, .antialias = true};
    grid = tsr_permute(tsr_interpolate(grid, 2, 3, &options), (const int[]){0, 2, 3, 1});
    tsr_tensor *wanted =
        tsr_concat(TSR_TENSORS(tsr_slice(x, 1, 0, 1, 1), tsr_reshape(grid, TSR_SHAPE(1, 6, 5))), 1);
    assert_close(tsr_vit_resize_position(x, 4, 2, 3, TSR_POSITION_ANTIALIAS), wanted, 1e-14);
}

static void test_vit__refuses_what_does_not_fit(void **state)
{
    (void)state;
    tsr_vit_config config = small_config(TSR_DTYPE_F32);
    config.masked = false;
    config.attn_drop = 1.0;
    assert_null(tsr_vit_new(&config));
    assert_failed(TSR_STATUS_ARGUMENT, "dropout: p is 1, expected 0 or more, below 1");
    config.attn_drop = 0.0;
    tsr_vit *vit = tsr_vit_new(&config);
    tsr_module_initialize(&vit->module, 1);
    tsr_tensor *images = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3, 32, 32));
    tsr_tensor *mask = tsr_zeros(TSR_DTYPE_U8, TSR_SHAPE(2, 4, 4));
    assert_null(tsr_vit_forward(vit, images, &(tsr_backbone_options){.mask = mask}));
    assert_failed(TSR_STATUS_ARGUMENT, "vit: got a mask, but was built without masked_embed");
    assert_null(tsr_vit_forward(vit, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 1, 32, 32)), NULL));
    assert_failed(TSR_STATUS_SHAPE, "vit: images have shape [2, 1, 32, 32], expected [B, 3, H, W]");
    assert_null(tsr_vit_forward(vit, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3, 32, 7)), NULL));
    assert_failed(TSR_STATUS_SHAPE, "at least 8");
    tsr_tensor *out[4];
    tsr_vit_intermediate(vit, images, 4, NULL, out);
    assert_failed(TSR_STATUS_ARGUMENT, "n is 4, expected 1 to 3");
    tsr_module_free(&vit);

    config.masked = true;
    vit = tsr_vit_new(&config);
    mask = tsr_zeros(TSR_DTYPE_U8, TSR_SHAPE(2, 4, 2));
    assert_null(tsr_vit_forward(vit, images, &(tsr_backbone_options){.mask = mask}));
    assert_failed(TSR_STATUS_SHAPE, "mask has shape [2, 4, 2], expected [2, 4, 4]");
    tsr_module_free(&vit);

    config.heads = 5;
    assert_null(tsr_vit_new(&config));
    assert_failed(TSR_STATUS_ARGUMENT, "heads must divide dim");
    config.heads = 3;
    config.dtype = TSR_DTYPE_BF16;
    assert_null(tsr_vit_new(&config));
    assert_failed(TSR_STATUS_DTYPE, "dtype is bf16, expected f32 or f64");
    tsr_vit_config_find("vit_huge", &config);
    assert_failed(TSR_STATUS_ARGUMENT, "there is no \"vit_huge\"");
}

/* Without a tape, nothing of the first blocks is alive when the last one runs: depth costs no
 * memory. */
static void test_vit__holds_one_block_at_a_time(void **state)
{
    (void)state;
    size_t peak[2];
    for (int i = 0; i < 2; i++) {
        tsr_vit_config config = small_config(TSR_DTYPE_F32);
        config.depth = i == 0 ? 2 : 8;
        tsr_vit *vit = tsr_vit_new(&config);
        tsr_module_initialize(&vit->module, 1);
        tsr_module_freeze(&vit->module);
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *images = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(8, 3, 32, 32));
        size_t before = tsr_pool_stats_get().in_use;
        tsr_pool_peak_reset();
        tsr_vit_forward(vit, images, NULL);
        peak[i] = tsr_pool_stats_get().peak - before;
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        assert_ok();
        tsr_module_free(&vit);
    }
    assert_true(peak[1] <= peak[0] + 4096);
}

/* Gradients of two forwards' sum, by parameter, held; the bytes of the step at its peak. */
static size_t gradients(tsr_vit *vit, bool recompute, tsr_tensor **grads)
{
    tsr_module_list *list = tsr_module_parameters(&vit->module);
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *images = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(6, 3, 32, 32));
    tsr_fill_normal(images, tsr_rng_make(2, 0, 0, 0), 0.0, 1.0);
    tsr_tensor *mask = tsr_zeros(TSR_DTYPE_U8, TSR_SHAPE(6, 4, 4));
    tsr_tensor_fill(tsr_slice(mask, 1, 0, 2, 1), 1.0);
    tsr_backbone_options options = {.mask = mask, .rng = tsr_rng_make(5, 7, 100, 3)};
    assert_int_equal(tsr_backbone_recompute(&vit->backbone, recompute), TSR_STATUS_OK);
    size_t before = tsr_pool_stats_get().in_use;
    tsr_pool_peak_reset();
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *a = tsr_vit_forward(vit, images, &options);
    options.mask = NULL;
    options.rng.sample += 6;
    tsr_tensor *b = tsr_vit_forward(vit, tsr_slice(images, 2, 0, 16, 1), &options);
    tsr_tensor *loss =
        tsr_add(tsr_mean(tsr_mul(a, a), NULL, 0, false), tsr_mean(tsr_exp(b), NULL, 0, false));
    tsr_backward(tape, loss, NULL);
    tsr_tape_close(&tape);
    size_t peak = tsr_pool_stats_get().peak - before;
    assert_ok();
    for (int64_t i = 0; i < list->n; i++) {
        grads[i] = tsr_tensor_hold(tsr_tensor_grad(list->at[i].tensor));
        assert_non_null(grads[i]);
        tsr_tensor_set_grad(list->at[i].tensor, NULL);
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    tsr_module_list_free(&list);
    return peak;
}

/* With everything that is drawn at random, and two batches of different sizes through one network. */
static void test_vit__recomputed_blocks_give_the_same_bits_in_less_memory(void **state)
{
    (void)state;
    enum { PARAMETERS = 256 };
    tsr_vit_config config = small_config(TSR_DTYPE_F32);
    config.depth = 8;
    config.layer_scale = 0.1;
    config.drop_path = 0.5;
    config.drop = 0.1;
    config.attn_drop = 0.2;
    tsr_vit *vit = tsr_vit_new(&config);
    tsr_module_initialize(&vit->module, 1);
    tsr_tensor *kept[PARAMETERS] = {0}, *recomputed[PARAMETERS] = {0};
    size_t plain = gradients(vit, false, kept), less = gradients(vit, true, recomputed);
    int n = 0;
    for (; kept[n] != NULL; n++) {
        assert_same(kept[n], recomputed[n]);
        tsr_tensor_release(&kept[n]);
        tsr_tensor_release(&recomputed[n]);
    }
    assert_true(n > 8 * 14);
    assert_true(less < plain / 2);
    tsr_module_free(&vit);
}

/* Gradients of f32 parameters, within what bf16 activations leave of them: relative to the largest of each, 3 %. */
static void test_vit__bf16_gives_the_gradients_of_f32_in_less_memory(void **state)
{
    (void)state;
    enum { PARAMETERS = 256 };
    tsr_vit_config config = small_config(TSR_DTYPE_F32);
    config.depth = 8;
    config.layer_scale = 0.1;
    config.drop_path = 0.1;
    config.drop = 0.1;
    tsr_vit *vit = tsr_vit_new(&config);
    tsr_module_initialize(&vit->module, 1);
    tsr_tensor *full[PARAMETERS] = {0}, *half[PARAMETERS] = {0}, *again[PARAMETERS] = {0};
    size_t plain = gradients(vit, false, full);
    assert_int_equal(tsr_module_compute_in(&vit->module, TSR_DTYPE_BF16), TSR_STATUS_OK);
    size_t less = gradients(vit, false, half), least = gradients(vit, true, again);
    double worst = 0.0;
    for (int n = 0; full[n] != NULL; n++) {
        assert_int_equal(tsr_tensor_dtype(half[n]), TSR_DTYPE_F32);
        assert_same(half[n], again[n]);
        double largest = 1e-6, off = 0.0;
        for (int64_t i = 0; i < tsr_tensor_numel(full[n]); i++) {
            double x = tsr_tensor_get(full[n], i);
            largest = fmax(largest, fabs(x));
            off = fmax(off, fabs(tsr_tensor_get(half[n], i) - x));
        }
        worst = fmax(worst, off / largest);
        tsr_tensor_release(&full[n]);
        tsr_tensor_release(&half[n]);
        tsr_tensor_release(&again[n]);
    }
    assert_true(worst > 0.0 && worst < 0.03);
    assert_true((double)less < 0.75 * (double)plain && least < less);
    assert_int_equal(tsr_module_compute_in(&vit->module, TSR_DTYPE_F64), TSR_STATUS_DTYPE);
    assert_failed(TSR_STATUS_DTYPE, "compute_in: got f64 for vit of f32, expected f32 or bf16");
    tsr_module_free(&vit);
}

/* ---- some tokens alone ---- */

/* A loss of the tokens at rows, by tsr_vit_rows() or taken out of all; gradients by parameter, held. */
static tsr_tensor *loss_of_rows(tsr_vit *vit, bool alone, tsr_tensor *rows, tsr_tensor **grads)
{
    tsr_dtype dtype = vit->config.dtype;
    tsr_tensor *images = tsr_empty(dtype, TSR_SHAPE(3, 3, 32, 32));
    tsr_fill_normal(images, tsr_rng_make(2, 0, 0, 0), 0.0, 1.0);
    tsr_tensor *mask = tsr_zeros(TSR_DTYPE_U8, TSR_SHAPE(3, 4, 4));
    tsr_tensor_fill(tsr_slice(mask, 1, 0, 2, 1), 1.0);
    tsr_backbone_options options = {.mask = mask, .rng = tsr_rng_make(5, 7, 100, 3)};
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = alone ? tsr_backbone_rows(&vit->backbone, images, rows, &options)
                          : tsr_tokens_rows(tsr_vit_forward(vit, images, &options), rows);
    tsr_tensor *probe = tsr_empty(dtype, tsr_tensor_shape(x));
    tsr_fill_normal(probe, tsr_rng_make(3, 0, 0, 0), 0.0, 1.0);
    tsr_backward(tape, tsr_sum(tsr_mul(x, probe), NULL, 0, false), NULL);
    tsr_tape_close(&tape);
    assert_ok();
    tsr_module_list *list = tsr_module_parameters(&vit->module);
    for (int64_t i = 0; i < list->n; i++) {
        grads[i] = tsr_tensor_hold(tsr_tensor_grad(list->at[i].tensor));
        tsr_tensor_set_grad(list->at[i].tensor, NULL);
    }
    tsr_module_list_free(&list);
    return x;
}

/* A network of the same weights in f64. */
static tsr_vit *in_f64(const tsr_vit *vit)
{
    tsr_vit_config config = vit->config;
    config.dtype = TSR_DTYPE_F64;
    tsr_vit *wide = tsr_vit_new(&config);
    tsr_module_list *from = tsr_module_parameters(&vit->module);
    tsr_module_list *to = tsr_module_parameters(&wide->module);
    assert_int_equal(from->n, to->n);
    for (int64_t i = 0; i < to->n; i++) {
        tsr_tensor_copy(to->at[i].tensor, tsr_tensor_converted(from->at[i].tensor, TSR_DTYPE_F64));
    }
    tsr_module_list_free(&from);
    tsr_module_list_free(&to);
    return wide;
}

static double distance(tsr_tensor *a, tsr_tensor *b)
{
    double worst = 0.0;
    assert_true(tsr_tensor_same_shape(a, b));
    for (int64_t i = 0; i < tsr_tensor_numel(b); i++) {
        double off = fabs(tsr_tensor_get(a, i) - tsr_tensor_get(b, i));
        if (isnan(off)) return off;
        worst = fmax(worst, off);
    }
    return worst;
}

/*
 * f64: alone equals all to 1e-12 of the largest element. f32: alone is as near to the f64 result as 1e-6 of its largest
 * element, or as twice the distance of all, whose rounding is more in sums that cancel (a table of relative positions).
 */
static void compare(tsr_tensor *alone, tsr_tensor *all, tsr_tensor *truth, const char *what)
{
    if (truth == NULL) {
        assert_near(alone, all, 1e-12, what);
        return;
    }
    double limit = fmax(1e-6 * largest_of(truth), 2.0 * distance(all, truth));
    if (!(distance(alone, truth) <= limit)) {
        fail_msg("%s in f32 is %g from f64's, at most %g expected", what, distance(alone, truth),
                 limit);
    }
}

static void compare_rows(const tsr_vit_config *config, bool recompute, tsr_tensor *rows)
{
    enum { PARAMETERS = 128 };
    tsr_vit *vit = tsr_vit_new(config), *wide = NULL;
    tsr_module_initialize(&vit->module, 1);
    tsr_module_train(&vit->module, true);
    tsr_backbone_recompute(&vit->backbone, recompute);
    tsr_tensor *grads[PARAMETERS] = {0}, *wanted[PARAMETERS] = {0}, *true_grads[PARAMETERS] = {0};
    tsr_tensor *all = loss_of_rows(vit, false, rows, wanted), *truth = NULL;
    if (config->dtype == TSR_DTYPE_F32) {
        wide = in_f64(vit);
        tsr_module_train(&wide->module, true);
        truth = loss_of_rows(wide, false, rows, true_grads);
    }
    compare(loss_of_rows(vit, true, rows, grads), all, truth, "rows");
    int n = 0;
    for (; wanted[n] != NULL; n++) {
        assert_non_null(grads[n]);
        compare(grads[n], wanted[n], true_grads[n], "a gradient");
        tsr_tensor_release(&grads[n]);
        tsr_tensor_release(&wanted[n]);
        tsr_tensor_release(&true_grads[n]);
    }
    assert_true(n > 3 * 12);
    tsr_module_free(&vit);
    tsr_module_free(&wide);
}

/* The class tokens, or rows in any order, some twice: what the whole last block gives. */
static void test_vit__rows_are_those_of_all_tokens(void **state)
{
    (void)state;
    const int64_t numbers[] = {0, 50, 17, 3, 34, 3, 20, 5};
    tsr_tensor *rows[] = {NULL, tsr_from(TSR_DTYPE_I64, TSR_SHAPE(8), numbers),
                          tsr_empty(TSR_DTYPE_I64, TSR_SHAPE(0))};
    for (int i = 0; i < 3; i++) {
        for (int f32 = 0; f32 < 2; f32++) {
            tsr_vit_config config = small_config(f32 ? TSR_DTYPE_F32 : TSR_DTYPE_F64);
            config.drop_path = 0.5;
            compare_rows(&config, false, rows[i]);
            config.layer_scale = 0.1;
            compare_rows(&config, true, rows[i]);
            config.registers = 2;
            compare_rows(&config, false, rows[i]);
            config.registers = 0;
            config.relative = TSR_VIT_RELATIVE_SHARED;
            compare_rows(&config, false, rows[i]);
            config.drop = config.attn_drop = 0.2;
            compare_rows(&config, false, rows[i]);
            config = small_config(config.dtype);
            config.mean_pooling = true;
            compare_rows(&config, false, rows[i]);
        }
    }
}

/* A class token alone leaves out of the last block all but the keys and values: 10 of 12 D^2 a patch, and attention. */
static void test_vit__rows_cost_less(void **state)
{
    (void)state;
    tsr_vit_config config = small_config(TSR_DTYPE_F32);
    config.depth = 1;
    tsr_vit *vit = tsr_vit_new(&config);
    tsr_module_initialize(&vit->module, 1);
    tsr_tensor *images = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3, 32, 32));
    int64_t start = tsr__gemm_count();
    tsr_vit_forward(vit, images, NULL);
    int64_t all = tsr__gemm_count() - start;
    tsr_vit_rows(vit, images, NULL, NULL);
    int64_t class_alone = tsr__gemm_count() - start - all, d = config.dim, patches = 2 * 16;
    /* Attention's scores and sums: 2 T D of each token's own, in blocks that may hold more. */
    assert_true(all - class_alone >= patches * (10 * d * d + 2 * 17 * d));
    tsr_module_free(&vit);
}

static void test_vit__rows_out_of_range(void **state)
{
    (void)state;
    tsr_vit_config config = small_config(TSR_DTYPE_F32);
    tsr_vit *vit = tsr_vit_new(&config);
    tsr_module_initialize(&vit->module, 1);
    tsr_tensor *images = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3, 32, 32));
    assert_null(tsr_vit_rows(vit, images, tsr_full(TSR_DTYPE_I64, TSR_SHAPE(1), 34.0), NULL));
    assert_failed(TSR_STATUS_SHAPE, "vit: rows[0] is 34, expected 0 to 33");
    assert_null(tsr_vit_rows(vit, images, tsr_full(TSR_DTYPE_F32, TSR_SHAPE(1), 0.0), NULL));
    assert_failed(TSR_STATUS_SHAPE, "vit: rows is f32 [1], expected i64 [R]");
    tsr_module_free(&vit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_vit__bf16_gives_the_gradients_of_f32_in_less_memory),
        tsr_test(test_vit__rows_are_those_of_all_tokens),
        tsr_test(test_vit__rows_cost_less),
        tsr_test(test_vit__rows_out_of_range),
        tsr_test(test_vit__agrees_with_the_authors),
        tsr_test(test_vit__agrees_with_the_authors_with_layer_scale),
        tsr_test(test_vit__agrees_with_the_authors_with_mean_pooling),
        tsr_test(test_vit__gradients_of_masked_images_are_differences),
        tsr_test(test_vit__has_the_published_number_of_parameters),
        tsr_test(test_vit__has_the_names_of_the_authors),
        tsr_test(test_vit__starts_as_the_authors_do),
        tsr_test(test_vit__fits_positions_by_size),
        tsr_test(test_vit__drops_by_sample_alone),
        tsr_test(test_vit__drops_where_the_authors_do),
        tsr_test(test_vit__registers_and_gates_are_those_of_dinov2),
        tsr_test(test_vit__fits_positions_with_antialias),
        tsr_test(test_vit__takes_relative_positions),
        tsr_test(test_vit__refuses_what_does_not_fit),
        tsr_test(test_vit__holds_one_block_at_a_time),
        tsr_test(test_vit__recomputed_blocks_give_the_same_bits_in_less_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
