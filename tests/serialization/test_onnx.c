/* What is exported runs in the reader as the function does, at sizes that were not tried too; what cannot be, is said. */
#include "ops/samples.h"
#include "serialization/serialization.h"
#include "tests/serialization/files.h"

#include <math.h>

static void assert_close(tsr_tensor *got, tsr_tensor *wanted, double tolerance)
{
    assert_non_null(got);
    assert_non_null(wanted);
    assert_true(tsr_shape_equal(tsr_tensor_shape(got), tsr_tensor_shape(wanted)));
    for (int64_t i = 0; i < tsr_tensor_numel(wanted); i++) {
        double a = tsr_tensor_get(got, i), b = tsr_tensor_get(wanted, i);
        if (fabs(a - b) > tolerance * fmax(1.0, fabs(b))) fail_msg("%g, expected %g", a, b);
    }
}

static void assert_message(const char *wanted)
{
    if (strstr(tsr_message(), wanted) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", wanted, tsr_message());
    }
    assert_null(strchr(tsr_message(), '\n'));
    tsr_status_clear();
}

/* ---- every operator ---- */

struct sample_run {
    const tsr_sample *sample;
    bool absent[TSR_SAMPLE_INPUTS];
};

/* The sample's call on the inputs that are there. */
static void run_sample(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    const struct sample_run *r = user;
    tsr_tensor *all[TSR_SAMPLE_INPUTS] = {NULL};
    int n = 0;
    for (int i = 0; i < r->sample->n_inputs; i++) {
        if (!r->absent[i]) all[i] = in.at[n++];
    }
    r->sample->call((tsr_tensors){all, r->sample->n_inputs}, out, n_out, (void *)r->sample);
}

/* Why samples of an operator may be refused. */
static const char *refusal(const char *op)
{
    static const struct {
        const char *op, *why;
    } refused[] = {
        {"binary_cross_entropy", "neither a translation nor a definition"},
        {"cross_entropy", "no operator computed it"},
        {"drop_path", "it is random"},
        {"dropout", "it is random"},
        {"fold", "neither a translation nor a definition"},
        {"one_hot", "neither a translation nor a definition"}, /* of integers */
        {"residual_layer_norm", "it is random"},               /* with p above 0 */
        {"scaled_dot_product_attention", "it is random"},      /* with dropout */
        {"scatter_add", "neither a translation nor a definition"},
        {"scatter_rows", "neither a translation nor a definition"},
        {"sort", "no operator computed it"},
        {"topk", "no operator computed it"},
        {"unfold", "neither a translation nor a definition"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (strcmp(op, refused[i].op) == 0) return refused[i].why;
    }
    return NULL;
}

static void test_onnx__every_operator_runs_as_it_did_or_is_refused(void **state)
{
    int n_ops, exported = 0, refused = 0;
    const tsr_op_samples *const *ops = tsr_samples__all(&n_ops);
    const char *path = in_directory(state, "sample.onnx");
    for (int k = 0; k < n_ops; k++) {
        for (int s = 0; s < ops[k]->n; s++) {
            const tsr_sample *sample = &ops[k]->at[s];
            tsr_scope scope = tsr_scope_open();
            tsr_tensor *inputs[TSR_SAMPLE_INPUTS];
            assert_true(tsr_samples__inputs(sample, TSR_DTYPE_F32, 7, inputs));
            struct sample_run run = {.sample = sample};
            tsr_onnx_input in[TSR_SAMPLE_INPUTS];
            static const char *const in_names[] = {"a", "b", "c", "d", "e", "f"};
            static const char *const out_names[] = {"y0", "y1", "y2", "y3", "y4", "y5"};
            int n = 0, n_out = sample->n_outputs > 0 ? sample->n_outputs : 1;
            for (int i = 0; i < sample->n_inputs; i++) {
                run.absent[i] = inputs[i] == NULL;
                if (inputs[i] == NULL) continue;
                in[n] = (tsr_onnx_input){.name = in_names[n], .example = inputs[i]};
                n++;
            }
            tsr_status status =
                tsr_onnx_export(path, run_sample, &run, in, n, out_names, n_out, NULL, NULL);
            const char *why = refusal(ops[k]->op);
            if (status == TSR_STATUS_OK) {
                exported++;
                tsr_onnx *m = tsr_onnx_open(path);
                if (m == NULL) fail_msg("%s, %s: %s", ops[k]->op, sample->name, tsr_message());
                tsr_onnx_close(&m);
            } else if (why != NULL && strstr(tsr_message(), why) != NULL) {
                refused++;
            } else {
                fail_msg("%s, %s: %s", ops[k]->op, sample->name, tsr_message());
            }
            tsr_status_clear();
            tsr_scope_close(&scope, TSR_NO_TENSORS);
        }
    }
    assert_true(exported > 200);
    assert_true(refused >= 12 && refused < 100);
}

/* ---- networks ---- */

static tsr_vit *small_vit(int64_t depth)
{
    tsr_vit_config c = {.image_size = 32,
                        .patch_size = 8,
                        .dim = 24,
                        .depth = depth,
                        .heads = 3,
                        .qkv_bias = true,
                        .layer_scale = 0.1};
    tsr_vit *vit = tsr_vit_new(&c);
    assert_non_null(vit);
    tsr_module_initialize(&vit->module, 3);
    tsr_module_train(&vit->module, false);
    return vit;
}

static tsr_tensor *images(int64_t n, int64_t h, int64_t w)
{
    tsr_tensor *x = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(n, 3, h, w));
    tsr_fill_normal(x, tsr_rng_make(1, (uint32_t)n, (uint32_t)h, (uint32_t)w), 0.0, 1.0);
    return x;
}

static void tokens_of(tsr_tensors in, tsr_tensor **out, int n, void *user)
{
    out[0] = tsr_vit_forward(user, in.at[0], NULL);
    if (n > 1) out[1] = tsr_tokens_class(out[0]);
}

static const char *const two_outputs[] = {"tokens", "class"};

static void check_run(tsr_onnx *m, tsr_vit *vit, int64_t n, int64_t h, int64_t w)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *x = images(n, h, w), *out[2];
    if (tsr_onnx_run(m, TSR_TENSORS(x), out) != TSR_STATUS_OK) fail_msg("%s", tsr_message());
    tsr_tensor *tokens = tsr_vit_forward(vit, x, NULL);
    assert_close(out[0], tokens, 1e-5);
    assert_close(out[1], tsr_tokens_class(tokens), 1e-5);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static bool holds_text(const char *path, const char *text)
{
    size_t bytes;
    uint8_t *data = read_file(path, &bytes);
    bool found = memmem(data, bytes, text, strlen(text)) != NULL;
    free(data);
    return found;
}

static void test_onnx__a_vit_takes_any_batch(void **state)
{
    tsr_scope scope = tsr_scope_open();
    tsr_vit *vit = small_vit(2);
    const char *path = in_directory(state, "vit.onnx");
    tsr_onnx_input in = {.name = "images", .example = images(2, 32, 32), .dynamic = {{"batch", 0}}};
    tsr_safetensors_pair pair = {"size", "32"};
    tsr_onnx_options o = {.module = &vit->module, .metadata = &pair, .n_metadata = 1};
    tsr_onnx_report report;
    tsr_onnx_export(path, tokens_of, vit, &in, 1, two_outputs, 2, &o, &report);
    if (tsr_status_get() != TSR_STATUS_OK) fail_msg("%s", tsr_message());
    assert_int_equal(report.runs, 2);
    assert_true(report.difference < 1e-5);
    assert_false(report.external);
    assert_true(holds_text(path, "blocks.1.attn.qkv.weight"));
    tsr_onnx *m = tsr_onnx_open(path);
    if (m == NULL) fail_msg("%s", tsr_message());
    assert_string_equal(tsr_onnx_input_name(m, 0), "images");
    assert_string_equal(tsr_onnx_output_name(m, 1), "class");
    assert_null(tsr_onnx_output_name(m, 2));
    assert_string_equal(tsr_onnx_metadata(m, "size"), "32");
    check_run(m, vit, 1, 32, 32);
    check_run(m, vit, 5, 32, 32);
    tsr_tensor *out[2];
    tsr_onnx_run(m, TSR_TENSORS(images(1, 32, 40)), out);
    assert_null(out[0]);
    assert_message("input \"images\" has shape [1, 3, 32, 40], expected [-1, 3, 32, 32]");
    tsr_onnx_close(&m);
    tsr_module_free(&vit);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void backbone_tokens(tsr_tensors in, tsr_tensor **out, int n, void *user)
{
    (void)n;
    out[0] = tsr_backbone_forward(user, in.at[0], NULL);
}

/* A Swin, whose maps are padded to whole windows and shifted, and a ViT with relative positions, at its size and another. */
static void test_onnx__relative_positions_are_written(void **state)
{
    tsr_scope scope = tsr_scope_open();
    tsr_swin *swin = tsr_swin_new(&(tsr_swin_config){.image_size = 48,
                                                     .patch_size = 4,
                                                     .dim = 8,
                                                     .stages = 2,
                                                     .depths = {2, 2},
                                                     .heads = {1, 2},
                                                     .window = 4,
                                                     .mlp_ratio = 2,
                                                     .qkv_bias = true});
    tsr_vit *vit = tsr_vit_new(&(tsr_vit_config){.image_size = 32,
                                                 .patch_size = 8,
                                                 .dim = 24,
                                                 .depth = 2,
                                                 .heads = 3,
                                                 .qkv_bias = true,
                                                 .no_position = true,
                                                 .mean_pooling = true,
                                                 .relative = TSR_VIT_RELATIVE_BLOCKS});
    assert_non_null(swin);
    assert_non_null(vit);
    tsr_backbone *const networks[] = {&swin->backbone, &swin->backbone, &vit->backbone,
                                      &vit->backbone};
    const int64_t sizes[][2] = {{48, 48}, {40, 56}, {32, 32}, {40, 24}};
    for (int i = 0; i < 4; i++) {
        tsr_backbone *m = networks[i];
        tsr_module_list *all = tsr_module_state(&m->module);
        for (int64_t k = 0; k < all->n; k++) {
            if (all->at[k].init.kind == TSR_INIT_NOT) continue;
            tsr_fill_normal(tsr_detach(all->at[k].tensor), tsr_rng_make(5, (uint32_t)k, 0, 1), 0,
                            0.3);
        }
        tsr_module_list_free(&all);
        tsr_module_train(&m->module, false);
        const char *path = in_directory(state, "m.onnx"), *const name = "tokens";
        int64_t h = sizes[i][0], w = sizes[i][1];
        tsr_onnx_input in = {
            .name = "images", .example = images(2, h, w), .dynamic = {{"batch", 0}}};
        tsr_onnx_options o = {.module = &m->module};
        tsr_onnx_export(path, backbone_tokens, m, &in, 1, &name, 1, &o, NULL);
        if (tsr_status_get() != TSR_STATUS_OK) fail_msg("%d: %s", i, tsr_message());
        tsr_onnx *graph = tsr_onnx_open(path);
        tsr_tensor *x = images(5, h, w), *out;
        tsr_onnx_run(graph, TSR_TENSORS(x), &out);
        assert_close(out, tsr_backbone_forward(m, x, NULL), 1e-5);
        tsr_onnx_close(&graph);
    }
    tsr_module_free(&swin);
    tsr_module_free(&vit);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_onnx__a_vit_takes_any_image_size(void **state)
{
    static const tsr_position rules[] = {TSR_POSITION_OFFSET, TSR_POSITION_SIZE,
                                         TSR_POSITION_ANTIALIAS};
    for (int i = 0; i < 3; i++) {
        tsr_scope scope = tsr_scope_open();
        tsr_vit *vit = small_vit(1);
        vit->config.position = rules[i];
        const char *path = in_directory(state, "vit.onnx");
        tsr_onnx_input in = {.name = "images",
                             .example = images(2, 40, 48),
                             .dynamic = {{"batch", 0}, {NULL, 0}, {"height", 8}, {"width", 8}}};
        tsr_onnx_options o = {.module = &vit->module};
        tsr_onnx_export(path, tokens_of, vit, &in, 1, two_outputs, 2, &o, NULL);
        if (tsr_status_get() != TSR_STATUS_OK) fail_msg("%s", tsr_message());
        tsr_onnx *m = tsr_onnx_open(path);
        check_run(m, vit, 1, 40, 40);
        check_run(m, vit, 3, 16, 72); /* fewer patches than in training, and more */
        if (rules[i] != TSR_POSITION_OFFSET) check_run(m, vit, 1, 32, 32);
        tsr_onnx_close(&m);
        tsr_module_free(&vit);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
}

static void last_attention(tsr_tensors in, tsr_tensor **out, int n, void *user)
{
    (void)n;
    out[0] = tsr_vit_last_attention(user, in.at[0]);
}

static void test_onnx__attention_is_an_output_too(void **state)
{
    tsr_scope scope = tsr_scope_open();
    tsr_vit *vit = small_vit(2);
    const char *path = in_directory(state, "attention.onnx"), *const name = "attention";
    tsr_onnx_input in = {.name = "images", .example = images(2, 32, 32), .dynamic = {{"batch", 0}}};
    tsr_onnx_export(path, last_attention, vit, &in, 1, &name, 1, NULL, NULL);
    if (tsr_status_get() != TSR_STATUS_OK) fail_msg("%s", tsr_message());
    tsr_onnx *m = tsr_onnx_open(path);
    tsr_tensor *x = images(3, 32, 32), *out;
    tsr_onnx_run(m, TSR_TENSORS(x), &out);
    assert_close(out, tsr_vit_last_attention(vit, x), 1e-5);
    tsr_onnx_close(&m);
    tsr_module_free(&vit);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

static void test_onnx__weights_lie_beside_the_model(void **state)
{
    tsr_scope scope = tsr_scope_open();
    tsr_vit *vit = small_vit(1);
    tsr_onnx_input in = {.name = "images", .example = images(2, 32, 32), .dynamic = {{"batch", 0}}};
    tsr_onnx_options o = {.module = &vit->module, .external = true};
    tsr_onnx_report report;
    const char *path = in_directory(state, "vit.onnx");
    tsr_onnx_export(path, tokens_of, vit, &in, 1, two_outputs, 2, &o, &report);
    if (tsr_status_get() != TSR_STATUS_OK) fail_msg("%s", tsr_message());
    assert_true(report.external);
    /* So it is where one file would be too large. */
    o = (tsr_onnx_options){.module = &vit->module, .single_file_bytes = report.weight_bytes};
    tsr_onnx_export(path, tokens_of, vit, &in, 1, two_outputs, 2, &o, &report);
    assert_false(report.external);
    o.single_file_bytes--;
    tsr_onnx_export(path, tokens_of, vit, &in, 1, two_outputs, 2, &o, &report);
    assert_true(report.external);
    tsr_onnx *m = tsr_onnx_open(path);
    if (m == NULL) fail_msg("%s", tsr_message());
    check_run(m, vit, 3, 32, 32);
    tsr_onnx_close(&m);
    char copy[512];
    snprintf(copy, sizeof copy, "%s", path);
    const char *data = in_directory(state, "vit.onnx.data");
    assert_int_equal(truncate(data, 1000), 0);
    assert_null(tsr_onnx_open(copy));
    assert_message("the file of the data ends before that of");
    remove(data);
    assert_null(tsr_onnx_open(copy));
    assert_message("vit.onnx.data");
    /* From memory there is nothing beside. */
    size_t bytes;
    uint8_t *whole = read_file(copy, &bytes);
    assert_null(tsr_onnx_open_memory(whole, bytes));
    assert_message("expected a file beside it");
    free(whole);
    tsr_module_free(&vit);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* ---- what cannot be written ---- */

static tsr_status export_one(void **state, tsr_function *f, void *user, tsr_tensor *x, bool dynamic)
{
    const char *const name = "y";
    tsr_onnx_input in = {.name = "x", .example = x};
    if (dynamic) in.dynamic[0].name = "n";
    const char *path = in_directory(state, "one.onnx");
    tsr_status status = tsr_onnx_export(path, f, user, &in, 1, &name, 1, NULL, NULL);
    assert_int_equal(access(path, F_OK) == 0, status == TSR_STATUS_OK);
    return status;
}

static void by_a_loop(tsr_tensors in, tsr_tensor **out, int n, void *user)
{
    (void)n, (void)user;
    tsr_tensor *y = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE_SCALAR);
    *(float *)tsr_tensor_data_mut(y) = (float)tsr_tensor_get(in.at[0], 0);
    out[0] = tsr_add(in.at[0], y);
}

static void by_size(tsr_tensors in, tsr_tensor **out, int n, void *user)
{
    (void)n, (void)user;
    out[0] = tsr_tensor_size(in.at[0], 0) > 3 ? tsr_exp(in.at[0]) : tsr_neg(in.at[0]);
}

static void by_an_odd_number(tsr_tensors in, tsr_tensor **out, int n, void *user)
{
    (void)n, (void)user;
    int64_t size = tsr_tensor_size(in.at[0], 0);
    out[0] = tsr_expand(tsr_sum(in.at[0], NULL, 0, false), TSR_SHAPE(size * size + 1));
}

static void mean_of_rows(tsr_tensors in, tsr_tensor **out, int n, void *user)
{
    (void)n, (void)user;
    out[0] = tsr_affine(tsr_sum(in.at[0], NULL, 0, false), 1.0 / (double)tsr_tensor_numel(in.at[0]),
                        0.0);
}

static void dropped(tsr_tensors in, tsr_tensor **out, int n, void *user)
{
    (void)n, (void)user;
    out[0] = tsr_dropout(in.at[0], 0.5, tsr_rng_make(1, 2, 3, 4));
}

static void test_onnx__what_no_operator_computed_is_an_error(void **state)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *x = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(3, 5));
    tsr_fill_normal(x, tsr_rng_make(1, 1, 1, 1), 0.0, 1.0);
    assert_int_equal(export_one(state, by_a_loop, NULL, x, false), TSR_STATUS_ARGUMENT);
    assert_message("input 1 of add changes from run to run, but no operator computed it");
    assert_int_equal(export_one(state, by_size, NULL, x, true), TSR_STATUS_ARGUMENT);
    assert_message("operator 0 is neg for one size of the inputs and exp for another");
    assert_int_equal(export_one(state, by_an_odd_number, NULL, x, true), TSR_STATUS_ARGUMENT);
    assert_message("expand: a number is 10 for one size of the inputs and 17 for another");
    assert_int_equal(export_one(state, mean_of_rows, NULL, x, true), TSR_STATUS_ARGUMENT);
    assert_message("affine: scale is 0.0666667 for one size of the inputs and 0.05 for another");
    assert_int_equal(export_one(state, dropped, NULL, x, false), TSR_STATUS_ARGUMENT);
    assert_message("dropout cannot be written in ONNX: it is random");
    /* With the size fixed the same functions are fine. */
    assert_int_equal(export_one(state, by_an_odd_number, NULL, x, false), TSR_STATUS_OK);
    remove(in_directory(state, "one.onnx"));
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* ---- operators of a user's own ---- */

static void square_backward(const tsr_node *node, tsr_tensor *const *g, tsr_tensor **dx)
{
    (void)node;
    dx[0] = g[0];
}

static void square_definition(const void *block, tsr_tensors in, tsr_tensor **out)
{
    out[0] = tsr_affine(tsr_mul(in.at[0], in.at[0]), *(const double *)block, 0.0);
}

/* factor x^2, by loops; with a definition where user is set. */
static void square(tsr_tensors in, tsr_tensor **out, int n, void *user)
{
    (void)n;
    static const tsr_op fused = {.name = "square",
                                 .block_size = sizeof(double),
                                 .backward = square_backward,
                                 .definition = square_definition};
    static const tsr_op primitive = {
        .name = "square", .block_size = sizeof(double), .backward = square_backward};
    double factor = 3.0;
    tsr_tensor *x = tsr_tensor_packed(in.at[0]);
    tsr_tensor *y = tsr_empty(TSR_DTYPE_F32, tsr_tensor_shape(x));
    const float *from = tsr_tensor_data(x);
    float *to = tsr_tensor_data_mut(y);
    for (int64_t i = 0; i < tsr_tensor_numel(x); i++) to[i] = 3.0f * from[i] * from[i];
    out[0] = tsr_record(user != NULL ? &fused : &primitive, &factor, TSR_TENSORS(in.at[0]),
                        TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void wrong_definition(const void *block, tsr_tensors in, tsr_tensor **out)
{
    (void)block;
    out[0] = tsr_affine(in.at[0], 1.01, 0.0);
}

static void wrong(tsr_tensors in, tsr_tensor **out, int n, void *user)
{
    (void)n, (void)user;
    static const tsr_op op = {
        .name = "wrong", .backward = square_backward, .definition = wrong_definition};
    tsr_tensor *y = tsr_zeros(TSR_DTYPE_F32, tsr_tensor_shape(in.at[0]));
    tsr_tensor_copy(y, in.at[0]);
    out[0] = tsr_record(&op, NULL, TSR_TENSORS(in.at[0]), TSR_NO_TENSORS, TSR_TENSORS(y));
}

static void test_onnx__a_users_operator_is_written_by_its_definition(void **state)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *x = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(3, 5)), *y;
    tsr_fill_normal(x, tsr_rng_make(1, 1, 1, 1), 0.0, 1.0);
    assert_int_equal(export_one(state, square, state, x, true), TSR_STATUS_OK);
    tsr_onnx *m = tsr_onnx_open(in_directory(state, "one.onnx"));
    assert_non_null(m);
    tsr_onnx_run(m, TSR_TENSORS(tsr_full(TSR_DTYPE_F32, TSR_SHAPE(7, 5), 2.0)), &y);
    assert_close(y, tsr_full(TSR_DTYPE_F32, TSR_SHAPE(7, 5), 12.0), 1e-6);
    tsr_onnx_close(&m);
    remove(in_directory(state, "one.onnx"));
    assert_int_equal(export_one(state, square, NULL, x, true), TSR_STATUS_ARGUMENT);
    assert_message(
        "square cannot be written in ONNX (it has neither a translation nor a definition)");
    /* A graph that computes something else is not written. */
    assert_int_equal(export_one(state, wrong, NULL, x, true), TSR_STATUS_NUMERIC);
    assert_message("output y [3, 5] of the graph differs from the function's by 0.01");
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

/* ---- hostile files ---- */

static void padded_norm(tsr_tensors in, tsr_tensor **out, int n, void *user)
{
    (void)n, (void)user;
    const float weight[] = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f};
    tsr_tensor *w = tsr_from(TSR_DTYPE_F32, TSR_SHAPE(5), weight);
    tsr_tensor *y = tsr_layer_norm(in.at[0], w, NULL, 1e-6);
    out[0] = tsr_pad(y, (const int64_t[]){1, 0}, (const int64_t[]){0, 2}, 0.5);
}

/* The file with the first `from` replaced by `to`, of the same length; NULL to: cut off before it. */
static tsr_onnx *open_changed(void **state, const void *from, const void *to, size_t bytes)
{
    size_t size;
    uint8_t *data = read_file(in_directory(state, "one.onnx"), &size);
    uint8_t *at = memmem(data, size, from, bytes);
    if (at == NULL) fail_msg("\"%.*s\" is not in the file", (int)bytes, (const char *)from);
    if (to != NULL) {
        memcpy(at, to, bytes);
    } else {
        size = (size_t)(at - data);
    }
    tsr_onnx *m = tsr_onnx_open_memory(data, size);
    free(data);
    return m;
}

static void assert_refused(void **state, const char *from, const char *to, const char *message)
{
    assert_null(open_changed(state, from, to, strlen(from)));
    assert_int_equal(tsr_status_get(), TSR_STATUS_FORMAT);
    assert_message(message);
}

static void assert_fails(void **state, const void *from, const void *to, size_t bytes,
                         int64_t limit, const char *message)
{
    tsr_onnx *m = open_changed(state, from, to, bytes);
    if (m == NULL) fail_msg("%s", tsr_message());
    tsr_onnx_limit(m, limit);
    tsr_tensor *y;
    assert_int_not_equal(
        tsr_onnx_run(m, TSR_TENSORS(tsr_full(TSR_DTYPE_F32, TSR_SHAPE(3, 5), 1.0)), &y),
        TSR_STATUS_OK);
    assert_null(y);
    assert_message(message);
    tsr_onnx_close(&m);
}

static void test_onnx__hostile_files_are_refused(void **state)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *x = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(3, 5));
    tsr_fill_normal(x, tsr_rng_make(1, 1, 1, 1), 0.0, 1.0);
    assert_int_equal(export_one(state, padded_norm, NULL, x, true), TSR_STATUS_OK);
    assert_null(tsr_onnx_open_memory("not a model", 11));
    assert_message("truncated, or not an ONNX model");
    assert_null(tsr_onnx_open_memory("", 0));
    assert_message("no graph: not an ONNX model");
    assert_null(tsr_onnx_open(in_directory(state, "absent.onnx")));
    assert_message("absent.onnx");
    assert_refused(state, "epsilon", NULL, "truncated, or not an ONNX model");
    assert_refused(state, "LayerNormalization", "LayerNormalizatiom",
                   "there is no operator \"LayerNormalizatiom\"");
    assert_refused(state, "LayerNormalization", "Layer\nNormalizatio", "there is no operator \"\"");
    assert_refused(state, "constant_2", "constant_9",
                   "nothing before its use defines \"constant_9\"");
    assert_refused(state, "layer_norm_1", "layer_norm_7",
                   "nothing before its use defines \"layer_norm_1\"");
    /* The model's operator set: field 8, 4 bytes: no domain, version 17. */
    assert_refused(state, "\x10\x11", "\x10\x12", "operator set 18, expected 17");
    /* The weight [5] as [6]. */
    assert_refused(state, "\x08\x05\x10\x01\x42", "\x08\x06\x10\x01\x42",
                   "has 20 bytes of data, expected 24 (f32 [6])");
    assert_refused(state, "\x08\x05\x10\x01\x42", "\x08\x05\x10\x0a\x42",
                   "a type that is not read in \"constant_2\"");
    assert_fails(state, "Pad", "Pad", 3, 17, "Pad \"pad_3\": its result has too many elements");
    const int64_t pads[] = {1, 0, 0, 2}, below[] = {-9, 0, 0, 2}, above[] = {1, 0, 0, INT64_MAX};
    assert_fails(state, pads, below, sizeof pads, 1000, "pads that cut away more than there is");
    assert_fails(state, pads, above, sizeof pads, 1000, "Pad \"pad_3\": pads out of range");
    /* axis -1 as axis 1: the same; as axis 2: there is none. */
    const char axis[] = "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    assert_fails(state, axis, "\x18\x82\x80\x80\x80\x80\x80\x80\x80\x80\x00", 11, 1000,
                 "LayerNormalization \"layer_norm_1\": an axis that its input does not have");
    remove(in_directory(state, "one.onnx"));
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_directory, close_directory)
        TEST(test_onnx__every_operator_runs_as_it_did_or_is_refused),
        TEST(test_onnx__a_vit_takes_any_batch),
        TEST(test_onnx__relative_positions_are_written),
        TEST(test_onnx__a_vit_takes_any_image_size),
        TEST(test_onnx__attention_is_an_output_too),
        TEST(test_onnx__weights_lie_beside_the_model),
        TEST(test_onnx__what_no_operator_computed_is_an_error),
        TEST(test_onnx__a_users_operator_is_written_by_its_definition),
        TEST(test_onnx__hostile_files_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, trim_pool);
}
