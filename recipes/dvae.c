/*
 * dVAE: a discrete variational autoencoder, which makes a picture into a few words of a learnt vocabulary and back. Ramesh,
 * Pavlov, Goh, Gray, Voss, Radford, Chen, Sutskever, Zero-Shot Text-to-Image Generation, ICML 2021, arXiv 2102.12092,
 * section 2.1 and appendix A; the published networks openai/DALL-E (encoder.py, decoder.py). docs/beit.md maps sections to
 * functions and lists what differs.
 *
 * Shapes: B images of H x W pixels; h x w tokens of each, h = H / f; K words.
 */
#include "recipes/dvae.h"

#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { LAPLACE = 0, MSE };

struct options {
    int64_t tokens, groups, blocks, hidden, embedding;
    int reconstruction;
    double kl_weight, temperature, temperature_end;
    int64_t kl_steps, temperature_steps;
    tsr_list scale;
};

#define AT(field) offsetof(struct options, field)

static const tsr_option option_table[] = {
    {"tokens", TSR_OPTION_INT, AT(tokens), "8192", 2, 65536, NULL, "K: words of the vocabulary",
     "paper, section 2.1"},
    {"groups", TSR_OPTION_INT, AT(groups), "4", 1, TSR_DVAE_GROUPS, NULL,
     "groups of blocks; a token stands for 2^(groups - 1) pixels a side", "encoder.py group_count"},
    {"blocks", TSR_OPTION_INT, AT(blocks), "2", 1, TSR_DVAE_BLOCKS, NULL, "blocks of a group",
     "encoder.py n_blk_per_group"},
    {"hidden", TSR_OPTION_INT, AT(hidden), "256", 4, 1024, NULL,
     "channels of the first group, doubled with each; a multiple of 4", "encoder.py n_hid"},
    {"embedding", TSR_OPTION_INT, AT(embedding), "128", 1, 8192, NULL,
     "width of a word where the decoder begins", "decoder.py n_init"},
    {"reconstruction", TSR_OPTION_CHOICE, AT(reconstruction), "laplace", 0, 0, "laplace mse",
     "what a rebuilt pixel costs: its negative log-likelihood under a logit-Laplace "
     "distribution, or the squared difference",
     "paper, appendix A.3"},
    {"kl-weight", TSR_OPTION_DOUBLE, AT(kl_weight), "6.6", 0, 1e6, NULL,
     "beta: weight of the divergence of the words from the uniform distribution, relative to that "
     "of the 3 f^2 values that a word stands for",
     "paper, appendix A.2"},
    {"kl-steps", TSR_OPTION_INT, AT(kl_steps), "5000", 0, 1e9, NULL,
     "steps over which beta rises from 0, by a cosine", "paper, appendix A.2"},
    {"temperature", TSR_OPTION_DOUBLE, AT(temperature), "1", 1e-3, 100, NULL,
     "of the relaxed words at the start", "paper, appendix A.2"},
    {"temperature-end", TSR_OPTION_DOUBLE, AT(temperature_end), "0.0625", 1e-3, 100, NULL,
     "and at the end", "paper, appendix A.2"},
    {"temperature-steps", TSR_OPTION_INT, AT(temperature_steps), "150000", 0, 1e9, NULL,
     "steps from one to the other, by a cosine", "paper, appendix A.2"},
    {"scale", TSR_OPTION_LIST, AT(scale), "0.08,1", 0, 1, NULL,
     "share of the image that the crop covers, from,to", "as BEiT's crops"},
};

static const tsr_default defaults[] = {
    {"image-size", "256", "paper, section 2.1"},
    {"batch", "512", "paper, appendix A.2"},
    {"lr", "1e-4", "paper, appendix A.2"},
    {"scale-lr", "false", "paper, appendix A.2"},
    {"min-lr", "1.25e-6", "paper, appendix A.2"},
    {"warmup-epochs", "0", "paper, appendix A.2: none"},
    {"weight-decay", "1e-4", "paper, appendix A.2"},
    {"weight-decay-end", "1e-4", "paper, appendix A.2: constant"},
    {"momentum-teacher", "0.999", "paper, appendix A.2: averaged weights"},
    {"momentum-teacher-end", "0.999", "paper, appendix A.2: constant"},
    {"clip", "0", "paper, appendix A.2: none"},
};

static const tsr_preset presets[] = {
    {"quickstart", "a vocabulary of 512 for beit's quickstart-dvae on Fashion-MNIST",
     "image-size=16 groups=3 blocks=1 hidden=16 embedding=32 tokens=512 reconstruction=mse "
     "kl-weight=0.005 kl-steps=100 temperature-steps=700 scale=0.5,1 batch=64 epochs=1 lr=2e-3 "
     "min-lr=1e-4 momentum-teacher=0.99 momentum-teacher-end=0.99"},
};

/* ---- networks: encoder.py, decoder.py ---- */

/* id(x) + gain conv4(relu(conv3(relu(conv2(relu(conv1(relu(x)))))))); id is 1 x 1 where the width changes. */
struct tsr_dvae_block {
    tsr_module module;
    double gain;
    tsr_conv_layer *id, *conv[4];
};

/* A convolution that keeps the size of the picture. */
static tsr_conv_layer *conv_new(int64_t in, int64_t out, int64_t kernel, tsr_dtype dtype)
{
    tsr_conv_options o = {.padding = {kernel / 2, kernel / 2}};
    return tsr_conv_new(in, out, kernel, true, &o, dtype);
}

static tsr_dvae_block *block_new(int64_t in, int64_t out, const int64_t kernels[4], int64_t layers,
                                 tsr_dtype dtype)
{
    static const char *const names[] = {"res_path.conv_1", "res_path.conv_2", "res_path.conv_3",
                                        "res_path.conv_4"};
    tsr_dvae_block *m = tsr_module_new(sizeof *m, "dvae_block", dtype);
    if (m == NULL) return NULL;
    m->gain = 1.0 / (double)(layers * layers);
    if (in != out) m->id = tsr_module_child(&m->module, "id_path", conv_new(in, out, 1, dtype));
    for (int i = 0; i < 4; i++) {
        int64_t from = i == 0 ? in : out / 4, to = i == 3 ? out : out / 4;
        m->conv[i] = tsr_module_child(&m->module, names[i], conv_new(from, to, kernels[i], dtype));
    }
    return tsr_module_finish(&m->module);
}

static tsr_tensor *block_forward(const tsr_dvae_block *m, tsr_tensor *x)
{
    if (m == NULL) return NULL;
    tsr_scope scope = tsr_module_enter(&m->module);
    tsr_tensor *y = x;
    for (int i = 0; i < 4; i++) y = tsr_conv_forward(m->conv[i], tsr_relu(y));
    if (m->id != NULL) x = tsr_conv_forward(m->id, x);
    return tsr_module_leave(&scope, tsr_add(x, tsr_affine(y, m->gain, 0.0)));
}

/* Groups of blocks with in channels at first and width[g] in group g. */
static void make_groups(tsr_module *parent, const tsr_dvae_config *c, int64_t in,
                        const int64_t *width, const int64_t kernels[4],
                        tsr_dvae_block *blocks[][TSR_DVAE_BLOCKS])
{
    for (int64_t g = 0; g < c->groups; g++) {
        for (int64_t b = 0; b < c->blocks && !parent->failed; b++) {
            char name[TSR_MODULE_NAME];
            snprintf(name, sizeof name, "group_%d.block_%d", (int)g + 1, (int)b + 1);
            blocks[g][b] = tsr_module_child(
                parent, name, block_new(in, width[g], kernels, c->groups * c->blocks, c->dtype));
            in = width[g];
        }
    }
}

int64_t tsr_dvae__token_size(const tsr_dvae_config *config)
{
    return (int64_t)1 << (config->groups - 1);
}

tsr_dvae_encoder *tsr_dvae__encoder_new(const tsr_dvae_config *c)
{
    static const int64_t kernels[4] = {3, 3, 3, 1};
    if (c->hidden % 4 != 0) {
        tsr_fail(TSR_STATUS_ARGUMENT, "dvae: --hidden %" PRId64 " is no multiple of 4", c->hidden);
        return NULL;
    }
    tsr_dvae_encoder *m = tsr_module_new(sizeof *m, "dvae_encoder", c->dtype);
    if (m == NULL) return NULL;
    int64_t width[TSR_DVAE_GROUPS];
    for (int64_t g = 0; g < c->groups; g++) width[g] = c->hidden << g;
    m->config = *c;
    m->input = tsr_module_child(&m->module, "input", conv_new(3, c->hidden, 7, c->dtype));
    make_groups(&m->module, c, c->hidden, width, kernels, m->blocks);
    m->output = tsr_module_child(&m->module, "output",
                                 conv_new(width[c->groups - 1], c->tokens, 1, c->dtype));
    return tsr_module_finish(&m->module);
}

/* Appendix A.3: x in 0 .. 1 to 0.1 .. 0.9, away from where the logit is infinite; and back. */
static tsr_tensor *map_pixels(tsr_tensor *x)
{
    return tsr_affine(x, 0.8, 0.1);
}

static tsr_tensor *unmap_pixels(tsr_tensor *x)
{
    return tsr_clamp(tsr_affine(x, 1.25, -0.125), 0.0, 1.0);
}

tsr_tensor *tsr_dvae__encode(const tsr_dvae_encoder *m, tsr_tensor *pixels)
{
    if (m == NULL || pixels == NULL) return NULL;
    const tsr_pool_options halve = {.kernel = {2, 2}};
    tsr_scope scope = tsr_module_enter(&m->module);
    tsr_tensor *x = tsr_conv_forward(m->input, map_pixels(pixels));
    for (int64_t g = 0; g < m->config.groups; g++) {
        for (int64_t b = 0; b < m->config.blocks; b++) x = block_forward(m->blocks[g][b], x);
        if (g + 1 < m->config.groups) x = tsr_max_pool2d(x, &halve);
    }
    return tsr_module_leave(&scope, tsr_conv_forward(m->output, tsr_relu(x)));
}

/* Words to pixels; its groups mirror the encoder's. */
struct decoder {
    tsr_module module;
    tsr_dvae_config config;
    tsr_conv_layer *input, *output;
    tsr_dvae_block *blocks[TSR_DVAE_GROUPS][TSR_DVAE_BLOCKS];
};

static struct decoder *decoder_new(const tsr_dvae_config *c, int64_t embedding, int64_t channels)
{
    static const int64_t kernels[4] = {1, 3, 3, 3};
    struct decoder *m = tsr_module_new(sizeof *m, "dvae_decoder", c->dtype);
    if (m == NULL) return NULL;
    int64_t width[TSR_DVAE_GROUPS];
    for (int64_t g = 0; g < c->groups; g++) width[g] = c->hidden << (c->groups - 1 - g);
    m->config = *c;
    m->input = tsr_module_child(&m->module, "input", conv_new(c->tokens, embedding, 1, c->dtype));
    make_groups(&m->module, c, embedding, width, kernels, m->blocks);
    m->output = tsr_module_child(&m->module, "output", conv_new(c->hidden, channels, 1, c->dtype));
    return tsr_module_finish(&m->module);
}

/* Relaxed words [B, K, h, w] -> what is said of the pixels [B, 3 or 6, H, W]. */
static tsr_tensor *decode(const struct decoder *m, tsr_tensor *words)
{
    const tsr_interpolate_options nearest = {.mode = TSR_INTERPOLATION_NEAREST};
    tsr_scope scope = tsr_module_enter(&m->module);
    tsr_tensor *x = tsr_conv_forward(m->input, words);
    for (int64_t g = 0; g < m->config.groups; g++) {
        for (int64_t b = 0; b < m->config.blocks; b++) x = block_forward(m->blocks[g][b], x);
        if (g + 1 == m->config.groups) break;
        x = tsr_interpolate(x, 2 * tsr_tensor_size(x, 2), 2 * tsr_tensor_size(x, 3), &nearest);
    }
    return tsr_module_leave(&scope, tsr_conv_forward(m->output, tsr_relu(x)));
}

struct dvae {
    tsr_module module;
    const struct options *o;
    tsr_dvae_encoder *encoder;
    struct decoder *decoder;
};

static struct dvae *dvae_new(const tsr_build *b)
{
    const struct options *o = b->options;
    tsr_dvae_config c = {.tokens = o->tokens,
                         .groups = o->groups,
                         .blocks = o->blocks,
                         .hidden = o->hidden,
                         .dtype = b->dtype};
    struct dvae *m = tsr_module_new(sizeof *m, "dvae", b->dtype);
    if (m == NULL) return NULL;
    m->o = o;
    m->encoder = tsr_module_child(&m->module, "encoder", tsr_dvae__encoder_new(&c));
    int64_t channels = o->reconstruction == LAPLACE ? 6 : 3;
    m->decoder = tsr_module_child(&m->module, "decoder", decoder_new(&c, o->embedding, channels));
    return tsr_module_finish(&m->module);
}

/* utils.py Conv2d: weights from N(0, 1 / fan in), biases 0. */
static void initialize(tsr_module *m, uint64_t seed)
{
    tsr_module_list *list = tsr_module_parameters(m);
    for (int64_t i = 0; list != NULL && i < list->n; i++) {
        tsr_tensor *t = list->at[i].tensor;
        if (tsr_tensor_ndim(t) == 1) {
            tsr_tensor_fill(t, 0.0);
            continue;
        }
        double fan_in = (double)(tsr_tensor_numel(t) / tsr_tensor_size(t, 0));
        tsr_rng rng = tsr_rng_make(seed, 0, 0, tsr_rng_purpose(list->at[i].name));
        tsr_fill_normal(t, rng, 0.0, sqrt(1.0 / fan_in));
    }
    tsr_module_list_free(&list);
}

static tsr_status build(const tsr_build *b, tsr_networks *n)
{
    struct dvae *student = dvae_new(b), *teacher = dvae_new(b);
    *n = (tsr_networks){.feature = "teacher.encoder", .self = student};
    if (student != NULL) n->student = &student->module;
    if (teacher != NULL) n->teacher = &teacher->module;
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    initialize(n->student, b->seed);
    tsr_module_copy(n->teacher, n->student, TSR_MATCH_STRICT);
    tsr_module_freeze(n->teacher);
    return tsr_status_get();
}

/* ---- views: pixels in 0 .. 1 ---- */

static int views(const tsr_build *build, tsr_view_spec *specs, int max)
{
    const struct options *o = build->options;
    int64_t f = tsr_dvae__token_size(&(tsr_dvae_config){.groups = o->groups});
    (void)max;
    if (build->train->image_size % f != 0) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "dvae: --image-size must be a multiple of the %" PRId64
                 " pixels that a token stands for",
                 f);
        return -1;
    }
    specs[0] = (tsr_view_spec){.name = "global",
                               .size = (int)build->train->image_size,
                               .flip_p = 0.5,
                               .std = {1.0f, 1.0f, 1.0f}};
    return tsr_recipe_set_scale(&specs[0], &o->scale) ? 1 : -1;
}

/* ---- the loss: equation 1, with the relaxation of section 2.1 ---- */

/* Gumbel noise [B, K, h, w], row by row: -log(-log u). */
static tsr_tensor *gumbel(tsr_tensor *like, tsr_rng rng)
{
    tsr_scope scope = tsr_scope_open();
    bool was = tsr_recording_set(false);
    tsr_tensor *u = tsr_empty_like(like);
    rng.purpose = tsr_rng_purpose("gumbel");
    for (int64_t b = 0; b < tsr_tensor_size(u, 0); b++) {
        tsr_fill_uniform(tsr_slice(u, 0, b, b + 1, 1), tsr_rng_row(rng, b), 1e-7, 1.0 - 1e-7);
    }
    tsr_tensor *g = tsr_neg(tsr_log(tsr_neg(tsr_log(u))));
    tsr_recording_set(was);
    return tsr_scope_return(&scope, g);
}

/* Jang et al. 2017, Maddison et al. 2017: softmax((logits + g) / temperature) over the words. */
static tsr_tensor *relax(tsr_tensor *logits, tsr_tensor *noise, double temperature)
{
    return tsr_softmax(tsr_affine(tsr_add(logits, noise), 1.0 / temperature, 0.0), 1);
}

/*
 * Appendix A.3, the negative logarithm of the logit-Laplace density of x in 0 .. 1, averaged over values:
 *     log(2 b x (1 - x)) + |logit x - mu| / b,    mu and log b said by the decoder: said [B, 6, H, W].
 * b is kept above exp(-5), a third of what a step of a byte is in the logit: a picture's flat parts would drive it to 0.
 */
static tsr_tensor *laplace(tsr_tensor *said, tsr_tensor *pixels)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *mu = tsr_slice(said, 1, 0, 3, 1), *raw = tsr_slice(said, 1, 3, 6, 1);
    tsr_tensor *log_b = tsr_affine(tsr_softplus(tsr_affine(raw, 1.0, 5.0)), 1.0, -5.0);
    tsr_tensor *x = map_pixels(pixels), *rest = tsr_affine(x, -1.0, 1.0);
    tsr_tensor *logit = tsr_sub(tsr_log(x), tsr_log(rest));
    tsr_tensor *scaled = tsr_mul(tsr_abs(tsr_sub(logit, mu)), tsr_exp(tsr_neg(log_b)));
    tsr_tensor *log_density = tsr_add(log_b, tsr_log(tsr_affine(tsr_mul(x, rest), 2.0, 0.0)));
    return tsr_scope_return(&scope, tsr_mean(tsr_add(scaled, log_density), NULL, 0, false));
}

/* What the decoder thinks the pixels are, in 0 .. 1. */
static tsr_tensor *rebuilt(const struct options *o, tsr_tensor *said)
{
    if (o->reconstruction == MSE) return said;
    return unmap_pixels(tsr_sigmoid(tsr_slice(said, 1, 0, 3, 1)));
}

static tsr_tensor *squared_error(tsr_tensor *x, tsr_tensor *pixels)
{
    return tsr_mean(tsr_mse(x, pixels), NULL, 0, false);
}

/* KL(q || uniform) = log K + sum q log q, averaged over the tokens. */
static tsr_tensor *divergence(tsr_tensor *logits)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *log_q = tsr_log_softmax(logits, 1);
    tsr_tensor *negative = tsr_sum(tsr_mul(tsr_exp(log_q), log_q), (const int[]){1}, 1, false);
    double log_k = log((double)tsr_tensor_size(logits, 1));
    return tsr_scope_return(&scope, tsr_affine(tsr_mean(negative, NULL, 0, false), 1.0, log_k));
}

struct terms {
    tsr_tensor *reconstruction, *kl, *total, *said, *logits;
};

/* The evidence lower bound over all values of a picture, divided by their number (appendix A.2): a token's divergence is
 * shared by the 3 f^2 values that it stands for. */
static struct terms terms_of(const struct dvae *m, tsr_tensor *pixels, tsr_rng rng,
                             double temperature, double kl_weight)
{
    struct terms t = {.logits = tsr_dvae__encode(m->encoder, pixels)};
    tsr_tensor *words = relax(t.logits, gumbel(t.logits, rng), temperature);
    t.said = decode(m->decoder, words);
    t.reconstruction =
        m->o->reconstruction == LAPLACE ? laplace(t.said, pixels) : squared_error(t.said, pixels);
    t.kl = divergence(t.logits);
    double f = (double)tsr_dvae__token_size(&m->encoder->config);
    t.total = tsr_add(t.reconstruction, tsr_affine(t.kl, kl_weight / (3.0 * f * f), 0.0));
    return t;
}

static tsr_tensor *loss(const tsr_networks *n, tsr_step *step)
{
    const struct dvae *m = n->self;
    const struct options *o = m->o;
    int64_t i = tsr_step_index(step);
    tsr_schedule_cosine temperature = {
        .base = o->temperature, .final = o->temperature_end, .steps = o->temperature_steps};
    tsr_schedule_cosine kl_weight = {.final = o->kl_weight, .steps = o->kl_steps};
    tsr_tensor *pixels = tsr_step_input(step, "global");
    struct terms t =
        terms_of(m, pixels, tsr_step_rng(step), tsr_schedule_cosine_at(&temperature, i),
                 tsr_schedule_cosine_at(&kl_weight, i));
    tsr_step_log(step, "reconstruction", t.reconstruction);
    tsr_step_log(step, "kl", t.kl);
    bool was = tsr_recording_set(false);
    if (o->reconstruction == LAPLACE) {
        tsr_step_log(step, "mse", squared_error(rebuilt(o, t.said), pixels));
    }
    tsr_monitor *monitor = tsr_step_monitor(step);
    if (monitor != NULL) {
        tsr_tensor *rows = tsr_permute(tsr_softmax(t.logits, 1), (const int[]){0, 2, 3, 1});
        tsr_monitor_distribution(monitor, "token", rows);
    }
    tsr_recording_set(was);
    return t.total;
}

/* ---- for BEiT ---- */

tsr_status tsr_dvae__config_of(const tsr_checkpoint *c, tsr_dvae_config *config)
{
    const char *recipe = "unknown";
    if (tsr_checkpoint_value_find(c, "recipe") != NULL) {
        tsr_checkpoint_get_string(c, "recipe", &recipe);
    }
    if (strcmp(recipe, tsr_recipe__dvae.name) != 0) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "the checkpoint is of a run of %.40s, expected one of dvae", recipe);
    }
    struct options o;
    int n = tsr_recipe__dvae.n_options;
    if (tsr_options_default(option_table, n, &o) != TSR_STATUS_OK) return tsr_status_get();
    for (int i = 0; i < n; i++) {
        char key[96];
        const char *text;
        snprintf(key, sizeof key, "option.%s", option_table[i].name);
        if (tsr_checkpoint_get_string(c, key, &text) != TSR_STATUS_OK ||
            tsr_option_set(&option_table[i], &o, text) != TSR_STATUS_OK) {
            return tsr_status_get();
        }
    }
    *config = (tsr_dvae_config){
        .tokens = o.tokens, .groups = o.groups, .blocks = o.blocks, .hidden = o.hidden};
    return TSR_STATUS_OK;
}

const tsr_recipe tsr_recipe__dvae = {
    .name = "dvae",
    .title = "a discrete autoencoder: pictures to words of a learnt vocabulary, for beit",
    .paper = "Ramesh et al., Zero-Shot Text-to-Image Generation, ICML 2021, arXiv 2102.12092",
    .options = option_table,
    .n_options = sizeof option_table / sizeof option_table[0],
    .options_size = sizeof(struct options),
    .defaults = defaults,
    .n_defaults = sizeof defaults / sizeof defaults[0],
    .presets = presets,
    .n_presets = sizeof presets / sizeof presets[0],
    .views = views,
    .build = build,
    .loss = loss,
};
