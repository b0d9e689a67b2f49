/*
 * BEiT: BERT pre-training of image transformers. Bao, Dong, Piao, Wei, ICLR 2022, arXiv 2106.08254; authors' code
 * microsoft/unilm, beit (modeling_pretrain.py, datasets.py, engine_for_pretraining.py). docs/beit.md maps sections to
 * functions and lists what differs.
 *
 * Shapes: B images of h x w = N patches; R of all patches are masked; V tokens.
 */
#include "ops/ops.h"
#include "recipes/tokenizer.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct options {
    tsr_tokenizer_options tokenizer;
    double mask_ratio;
    tsr_list scale;
    double drop_path, layer_scale;
    int relative_position; /* tsr_vit_relative */
    bool absolute_position;
};

#define AT(field) offsetof(struct options, field)

static const tsr_option option_table[] = {
    TSR_TOKENIZER_OPTIONS,
    {"mask-ratio", TSR_OPTION_DOUBLE, AT(mask_ratio), "0.3827", 0.01, 0.99, NULL,
     "share of the patches that is masked, in blocks: at most so many of each image",
     "README: 75 of 196; paper, algorithm 1"},
    {"scale", TSR_OPTION_LIST, AT(scale), "0.08,1", 0, 1, NULL,
     "share of the image that the crop covers, from,to", "datasets.py"},
    {"drop-path", TSR_OPTION_DOUBLE, AT(drop_path), "0.1", 0, 0.99, NULL,
     "rate of stochastic depth in the last block", "paper, table 10"},
    {"layer-scale", TSR_OPTION_DOUBLE, AT(layer_scale), "0.1", 0, 10, NULL,
     "what LayerScale starts from; 0: none. 1e-5 for large models",
     "run_beit_pretraining.py --layer_scale_init_value"},
    {"relative-position", TSR_OPTION_CHOICE, AT(relative_position), "shared", 0, 0,
     "none blocks shared",
     "what attention adds for the way from token to token: nothing, a table in each block, or one "
     "that all blocks share. Of a vit; a swin has its own",
     "run_beit_pretraining.py --rel_pos_bias"},
    {"absolute-position", TSR_OPTION_BOOL, AT(absolute_position), "false", 0, 0, NULL,
     "a position embedding is added to the tokens of a vit",
     "run_beit_pretraining.py --abs_pos_emb"},
};

static const tsr_default defaults[] = {
    {"epochs", "800", "paper, table 10"},
    {"batch", "2048", "paper, table 10"},
    {"lr", "1.5e-3", "paper, table 10"},
    {"scale-lr", "false", "run_beit_pretraining.py"},
    {"min-lr", "1e-5", "paper, table 10"},
    {"warmup-epochs", "10", "paper, table 10"},
    {"beta2", "0.98", "README --opt_betas"},
    {"weight-decay", "0.05", "paper, table 10"},
    {"weight-decay-end", "0.05", "paper, table 10: constant"},
    {"clip", "3", "README --clip_grad"},
    {"clip-global", "true", "torch.nn.utils.clip_grad_norm_"},
};

#define QUICKSTART                                                                                 \
    "image-size=28 patch-size=7 dim=96 depth=4 heads=3 scale=0.5,1 drop-path=0 batch=32 "          \
    "warmup-epochs=0.2 lr=4e-3 "

static const tsr_preset presets[] = {
    {"vit-b", "the published ViT-B/16 run: 800 epochs, batch 2048, on ImageNet-1k",
     "model=vit_base"},
    {"quickstart", "Fashion-MNIST, with the arithmetic of ibot's quickstart; tokens of k-means",
     QUICKSTART "epochs=4 tokenizer=kmeans tokens=512"},
    {"quickstart-color", "the same with mean colours as tokens",
     QUICKSTART "epochs=4 tokenizer=color"},
    {"quickstart-dvae", "the same with the words of a run of dvae (--tokenizer-checkpoint)",
     QUICKSTART "epochs=4 tokenizer=dvae"},
    {"quickstart-prototypes",
     "the same with the prototypes of a run of ibot or dino (--tokenizer-checkpoint)",
     QUICKSTART "epochs=3 tokenizer=prototypes"},
};

/* What the optimizer trains: a ViT and a softmax over tokens. */
struct beit {
    tsr_module module;
    tsr_backbone *backbone;
    tsr_linear_layer *lm_head;
    tsr_tokenizer *tokenizer;
    tsr_view_spec view; /* of the tokenizer, on its own */
};

/* ---- views: datasets.py, DataAugmentationForBEiT ---- */

static int64_t side_of(const tsr_train_options *train)
{
    int64_t cell = tsr_train_token_size(train);
    return cell > 0 ? train->image_size / cell : 0;
}

static int views(const tsr_build *build, tsr_view_spec *specs, int max)
{
    const struct options *o = build->options;
    int64_t side = side_of(build->train), masked = llrint(o->mask_ratio * (double)(side * side));
    (void)max;
    if (side < 1) return -1;
    if (!tsr_train_is_swin(build->train) && o->relative_position == TSR_VIT_RELATIVE_NONE &&
        !o->absolute_position) {
        tsr_fail(TSR_STATUS_ARGUMENT, "beit: --relative-position none leaves a vit without "
                                      "positions: add --absolute-position true");
        return -1;
    }
    if (masked < 1) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "beit: --mask-ratio %g must mask one of %" PRId64 " patches or more",
                 o->mask_ratio, side * side);
        return -1;
    }
    specs[0] =
        (tsr_view_spec){.name = "global", .size = (int)build->train->image_size, .flip_p = 0.5};
    if (!tsr_recipe_set_scale(&specs[0], &o->scale)) return -1;
    /* What the tokenizer sees: the same crop. */
    specs[1] = specs[0];
    specs[1].name = "tokenizer";
    specs[1].paired = true;
    /* A share that is `masked` patches, whatever it is rounded to. */
    specs[0].mask = (tsr_mask_spec){.kind = TSR_MASK_BLOCK,
                                    .patch = (int)(build->train->image_size / side),
                                    .n_ratios = 1,
                                    .ratio = {((double)masked + 1e-6) / (double)(side * side)}};
    return tsr_tokenizer__view(&o->tokenizer, side, &specs[1]) == TSR_STATUS_OK ? 2 : -1;
}

/* ---- networks: modeling_pretrain.py ---- */

static struct beit *make_network(const tsr_build *build, int64_t tokens)
{
    const struct options *o = build->options;
    tsr_train_backbone_options backbone = {.masked = true,
                                           .drop_path = o->drop_path,
                                           .layer_scale = o->layer_scale,
                                           .relative = (tsr_vit_relative)o->relative_position,
                                           .no_position = !o->absolute_position,
                                           .dtype = build->dtype};
    struct beit *m = tsr_module_new(sizeof *m, "beit", build->dtype);
    if (m == NULL) return NULL;
    m->backbone =
        tsr_module_child(&m->module, "backbone", tsr_train_backbone(build->train, &backbone));
    if (m->backbone != NULL) {
        m->lm_head = tsr_module_child(&m->module, "lm_head",
                                      tsr_linear_new(m->backbone->dim, tokens, true, build->dtype));
    }
    return tsr_module_finish(&m->module);
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), e = strlen(end);
    return n >= e && strcmp(name + n - e, end) == 0;
}

/* The number of the block that a parameter is in; -1: none. */
static int block_of(const char *name)
{
    int i;
    const char *blocks = strstr(name, "blocks.");
    return blocks != NULL && sscanf(blocks, "blocks.%d.", &i) == 1 ? i : -1;
}

/* _init_weights: matrices, tokens and positions from N(0, 0.02^2) cut at one deviation, biases 0; fix_init_weight: what a
 * block adds is smaller the deeper it lies. */
static tsr_status initialize(tsr_module *m, uint64_t seed)
{
    tsr_scope scope = tsr_scope_open();
    tsr_module_initialize(m, seed);
    tsr_module_list *list = tsr_module_parameters(m);
    for (int64_t i = 0; list != NULL && i < list->n; i++) {
        const char *name = list->at[i].name;
        tsr_tensor *t = list->at[i].tensor;
        bool matrix = ends_with(name, ".weight") && tsr_tensor_ndim(t) > 1;
        if (ends_with(name, ".bias")) tsr_tensor_fill(t, 0.0);
        if (matrix || ends_with(name, "_token") || ends_with(name, "_embed")) {
            tsr_rng rng = tsr_rng_make(seed, 0, 0, tsr_rng_purpose(name));
            tsr_fill_trunc_normal(t, rng, 0.0, 0.02, -0.02, 0.02);
        }
        if (ends_with(name, ".attn.proj.weight") || ends_with(name, ".mlp.fc2.weight")) {
            double scale = 1.0 / sqrt(2.0 * (double)(block_of(name) + 1));
            tsr_tensor_copy(t, tsr_affine(tsr_detach(t), scale, 0.0));
        }
    }
    tsr_module_list_free(&list);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_status_get();
}

static tsr_status build(const tsr_build *b, tsr_networks *n)
{
    const struct options *o = b->options;
    tsr_view_spec specs[2];
    if (views(b, specs, 2) < 0) return tsr_status_get();
    tsr_tokenizer *tokenizer = tsr_tokenizer__new(b, &o->tokenizer, side_of(b->train));
    if (tokenizer == NULL) return tsr_status_get();
    struct beit *m = make_network(b, tsr_tokenizer__tokens(tokenizer));
    *n = (tsr_networks){
        .state = tsr_tokenizer__state(tokenizer), .feature = "student.backbone", .self = m};
    if (m == NULL) {
        tsr_tokenizer__free(&tokenizer);
        return tsr_status_get();
    }
    n->student = &m->module;
    m->tokenizer = tokenizer;
    m->view = specs[1];
    m->view.paired = false;
    return initialize(n->student, b->seed);
}

static tsr_status start(const tsr_networks *n, const tsr_build *build, tsr_dataset *images)
{
    const struct beit *m = n->self;
    return tsr_tokenizer__train(m->tokenizer, build, &m->view, images);
}

static void release(tsr_networks *n)
{
    struct beit *m = n->self;
    if (m != NULL) tsr_tokenizer__free(&m->tokenizer);
    n->self = NULL;
}

/* no_weight_decay() */
static void group(const tsr_networks *n, tsr_optimizer_parameter *parameter)
{
    (void)n;
    if (ends_with(parameter->name, "pos_embed") || ends_with(parameter->name, "cls_token")) {
        parameter->decays = false;
    }
}

/* ---- the loss: paper, section 2.3, equation 1 ---- */

/* The masked patches of [B, h, w]: their rows among all patches, I64 [R]. */
static tsr_tensor *masked_rows(tsr_tensor *mask)
{
    mask = tsr_tensor_packed(mask);
    const uint8_t *m = tsr_tensor_data(mask);
    int64_t all = tsr_tensor_numel(mask), count = 0;
    for (int64_t i = 0; m != NULL && i < all; i++) count += m[i] != 0;
    tsr_tensor *rows = tsr_empty(TSR_DTYPE_I64, TSR_SHAPE(count));
    int64_t *r = tsr_tensor_data_mut(rows);
    for (int64_t i = 0; r != NULL && i < all; i++) {
        if (m[i] != 0) *r++ = i;
    }
    return rows;
}

/* The loss is a mean over the masked patches of the whole batch, and images have more or fewer of them: how many there are
 * is told to its parts. "masked" f64 [B]: masked patches an image, on average. */
static int prepare(const tsr_networks *n, tsr_step *step, tsr_input *inputs, int count, int max)
{
    (void)n;
    tsr_tensor *mask = tsr_step_input(step, "global.mask");
    int64_t batch = tsr_tensor_size(mask, 0);
    double masked = (double)tsr_tensor_numel(masked_rows(mask)) / (double)(batch > 0 ? batch : 1);
    if (count == max) {
        tsr_fail(TSR_STATUS_ARGUMENT, "beit: the batch has more than %d fields", max - 1);
        return count;
    }
    /* Where nothing is masked the sum is 0, whatever it is divided by. */
    tsr_tensor *x = tsr_full(TSR_DTYPE_F64, TSR_SHAPE(batch), masked > 0.0 ? masked : 1.0);
    inputs[count] = (tsr_input){"masked", x};
    return count + 1;
}

static tsr_tensor *loss(const tsr_networks *n, tsr_step *step)
{
    const struct beit *m = n->self;
    tsr_tensor *images = tsr_step_input(step, "global");
    tsr_tensor *mask = tsr_step_input(step, "global.mask");
    tsr_tensor *rows = masked_rows(mask);
    tsr_tensor *tokens = tsr_tokenizer__encode(m->tokenizer, tsr_step_input(step, "tokenizer"));
    tokens = tsr_gather_rows(tsr_flatten(tokens, 0, 1), rows);

    tsr_backbone_options options = {.mask = mask, .rng = tsr_step_rng(step)};
    tsr_tensor *x = tsr_backbone_forward(m->backbone, images, &options);
    tsr_tensor *patches = tsr_gather_rows(tsr_flatten(tsr_tokens_patches(x), 0, 1), rows);
    tsr_tensor *logits = tsr_linear_forward(m->lm_head, patches);
    double masked = tsr_tensor_get(tsr_step_input(step, "masked"), 0);
    double share = 1.0 / (masked * (double)tsr_tensor_size(images, 0));
    tsr_tensor *sum = tsr_sum(tsr_cross_entropy(logits, tokens, -1), NULL, 0, false);

    bool was = tsr_recording_set(false);
    tsr_tensor *right = tsr_eq(tsr_argmax(logits, 1, false), tokens);
    right = tsr_sum(tsr_cast(right, tsr_tensor_dtype(images)), NULL, 0, false);
    tsr_step_log(step, "accuracy", tsr_affine(right, share, 0.0));
    tsr_monitor *monitor = tsr_step_monitor(step);
    if (monitor != NULL) {
        tsr_monitor_features(monitor, tsr_tokens_class(x));
        tsr_monitor_distribution(monitor, "token", tsr_softmax(logits, 1));
    }
    tsr_recording_set(was);
    return tsr_affine(sum, share, 0.0);
}

const tsr_recipe tsr_recipe__beit = {
    .name = "beit",
    .title = "masked patches say which token a frozen tokenizer gives them",
    .paper = "Bao et al., BEiT: BERT Pre-Training of Image Transformers, ICLR 2022, arXiv "
             "2106.08254",
    .options = option_table,
    .n_options = sizeof option_table / sizeof option_table[0],
    .options_size = sizeof(struct options),
    .defaults = defaults,
    .n_defaults = sizeof defaults / sizeof defaults[0],
    .presets = presets,
    .n_presets = sizeof presets / sizeof presets[0],
    .views = views,
    .build = build,
    .start = start,
    .group = group,
    .prepare = prepare,
    .loss = loss,
    .release = release,
};
