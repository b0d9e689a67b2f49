/* tessera import: a checkpoint of weights that another program trained. */
#include "recipes/cli/cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct import_flags {
    const char *out, *names, *prefix, *allow, *mean, *std;
    int64_t heads, image_size;
};

static const char *const kinds[] = {"loaded", "resized", "unused", "missing"};

/* Which kinds of lines besides loaded and resized may be there. */
static tsr_status parse_allow(const char *text, bool allowed[4])
{
    allowed[TSR_IMPORT_LOADED] = allowed[TSR_IMPORT_RESIZED] = true;
    for (const char *p = text; p != NULL && *p != '\0';) {
        size_t word = strcspn(p, ",");
        int k = TSR_IMPORT_UNUSED;
        while (k < 4 && (strlen(kinds[k]) != word || strncmp(kinds[k], p, word) != 0)) k++;
        if (k == 4) {
            return tsr_fail(TSR_STATUS_ARGUMENT,
                            "--allow: got \"%.60s\", expected unused, missing or unused,missing",
                            text);
        }
        allowed[k] = true;
        p += word;
        p += *p == ',';
    }
    return TSR_STATUS_OK;
}

/* One number for all colours, or three. */
static bool parse_colours(const char *text, double v[3])
{
    char *end = NULL;
    int n = 0;
    for (const char *p = text; n < 3; p = end + 1) {
        v[n] = strtod(p, &end);
        if (end == p || !(fabs(v[n]) <= 1.0)) return false;
        n++;
        if (*end != ',') break;
    }
    if (n == 1) v[1] = v[2] = v[0];
    return *end == '\0' && n != 2;
}

/* From pictures as all commands here normalize them to those that the file's network takes. */
static tsr_status set_colours(const struct import_flags *f, tsr_import_options *o)
{
    double mean[3], std[3];
    if (f->mean == NULL && f->std == NULL) return TSR_STATUS_OK;
    bool sound = f->mean != NULL && f->std != NULL && parse_colours(f->mean, mean) &&
                 parse_colours(f->std, std);
    for (int c = 0; sound && c < 3; c++) sound = mean[c] >= 0.0 && std[c] > 0.0;
    if (!sound) {
        return tsr_fail(
            TSR_STATUS_ARGUMENT,
            "--mean, --std: got \"%.40s\" and \"%.40s\", expected both, of values from 0 "
            "to 1: one number, or three with commas for red, green and blue",
            f->mean != NULL ? f->mean : "", f->std != NULL ? f->std : "");
    }
    tsr_view_spec view = tsr_view_eval(1);
    for (int c = 0; c < 3; c++) {
        o->scale[c] = (double)tsr_view_std(&view)[c] / std[c];
        o->shift[c] = ((double)tsr_view_mean(&view)[c] - mean[c]) / std[c];
    }
    return TSR_STATUS_OK;
}

static void print_line(const tsr_import *m, const tsr_import_line *line)
{
    char from[TSR_SHAPE_TEXT], to[TSR_SHAPE_TEXT];
    printf("  %-8s %s", kinds[line->kind],
           line->kind == TSR_IMPORT_MISSING ? line->ours : line->theirs);
    switch (line->kind) {
    case TSR_IMPORT_RESIZED:
        printf(" %s -> %s", tsr_shape_text(line->from, from), tsr_shape_text(line->to, to));
        if (m->grid > 0) {
            int64_t side = m->backbone->image_size / m->backbone->token_size;
            printf(" (%" PRId64 "x%" PRId64 " patches to %" PRId64 "x%" PRId64 ")", m->grid,
                   m->grid, side, side);
        }
        printf("\n");
        break;
    case TSR_IMPORT_UNUSED:
        printf(" %s\n", tsr_shape_text(line->from, from));
        break;
    case TSR_IMPORT_LOADED:
    case TSR_IMPORT_MISSING:
        printf(" %s\n", tsr_shape_text(line->to, to));
        break;
    }
}

static const char *const positions[] = {"by scale with an offset", "by size",
                                        "by size with antialias"};
static const char *const relative[] = {"none", "of each block", "shared"};

static bool is_swin(const tsr_import *m)
{
    return strcmp(m->map->network, "swin") == 0;
}

/* What one line does not say. */
static void print_network(const tsr_import *m)
{
    char text[TSR_BACKBONE_TEXT];
    tsr_backbone_describe(m->backbone, text);
    printf("%s: %s, %.1f M parameters\n", m->map->network, text,
           (double)tsr_module_count(&m->backbone->module) / 1e6);
    if (is_swin(m)) {
        const tsr_swin_config *c = &((const tsr_swin *)m->backbone)->config;
        printf("MLP ratio: %g, qkv bias: %s, mask token: %s, eps %g\n", c->mlp_ratio,
               c->qkv_bias ? "yes" : "no", c->masked ? "yes" : "no", c->eps);
        return;
    }
    const tsr_vit_config *c = &((const tsr_vit *)m->backbone)->config;
    printf("MLP ratio: %g%s, registers: %" PRId64
           ", qkv bias: %s, LayerScale: %s, pooling: %s, mask token: %s, eps %g\n"
           "positions: %s, relative positions: %s\n",
           c->mlp_ratio, c->gated ? " (SwiGLU)" : "", c->registers, c->qkv_bias ? "yes" : "no",
           c->layer_scale > 0.0 ? "yes" : "no", c->mean_pooling ? "mean" : "class token",
           c->masked ? "yes" : "no", c->eps, c->no_position ? "none" : positions[c->position],
           relative[c->relative]);
}

static void print_report(const tsr_import *m, const char *file, const tsr_weights *w,
                         const struct import_flags *f)
{
    printf("%s: %s, %" PRId64 " tensors, names of %s\n", file, tsr_weights_format(w),
           tsr_weights_count(w), m->map->about);
    if (m->elsewhere > 0) {
        printf("of them under \"%s\"; left out: %" PRId64 " others\n", m->prefix, m->elsewhere);
    }
    print_network(m);
    if (f->mean == NULL) {
        printf("pictures: normalized by ImageNet's mean and deviation (--mean, --std)\n");
    } else {
        printf("pictures: normalized by mean %s and deviation %s: into the patch embedding\n",
               f->mean, f->std);
    }
    for (int64_t i = 0; i < m->n; i++) print_line(m, &m->lines[i]);
    for (int k = 0; k < 4; k++) printf("%s%s %" PRId64, k > 0 ? ", " : "", kinds[k], m->counts[k]);
    printf("\n");
    fflush(stdout);
}

static tsr_status check_counts(const tsr_import *m, const bool allowed[4])
{
    for (int k = TSR_IMPORT_UNUSED; k < 4; k++) {
        if (m->counts[k] == 0 || allowed[k]) continue;
        return tsr_fail(
            TSR_STATUS_ARGUMENT,
            "import: %" PRId64 " tensors are %s, and nothing was written; if that is as "
            "it should be, say --allow %s%s",
            m->counts[k], kinds[k], kinds[k],
            k == TSR_IMPORT_UNUSED && m->counts[TSR_IMPORT_MISSING] > 0 ? ",missing" : "");
    }
    return TSR_STATUS_OK;
}

/* The options of a run that say what network it is. */
static tsr_status set_swin(const tsr_swin_config *c, const tsr_option *model,
                           tsr_train_options *train)
{
    bool plain = c->stages == 4 && c->depths[0] == 2 && c->depths[1] == 2 && c->depths[3] == 2;
    for (int s = 1; s < c->stages && plain; s++) plain = c->heads[s] == c->heads[0] << s;
    if (!plain) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "import: a Swin whose stages are not of 2, 2, n and 2 blocks with h, 2 h, "
                        "4 h and 8 h heads");
    }
    train->window = c->window;
    train->dim = c->dim;
    train->depth = c->depths[2] + 6;
    train->heads = c->heads[0];
    train->mlp_ratio = c->mlp_ratio;
    return tsr_option_set(model, train, "swin_tiny");
}

static tsr_status set_network(const tsr_import *m, const tsr_option *model,
                              tsr_train_options *train)
{
    if (is_swin(m)) {
        const tsr_swin_config *c = &((const tsr_swin *)m->backbone)->config;
        train->image_size = c->image_size;
        train->patch_size = c->patch_size;
        return set_swin(c, model, train);
    }
    const tsr_vit_config *c = &((const tsr_vit *)m->backbone)->config;
    train->image_size = c->image_size;
    train->patch_size = c->patch_size;
    train->dim = c->dim;
    train->depth = c->depth;
    train->heads = c->heads;
    train->mlp_ratio = c->mlp_ratio;
    return TSR_STATUS_OK;
}

/* As a run's checkpoint with a teacher's backbone alone: its options are what the commands look for. Tensors go from one file to
 * the other, so that the disk reads and writes at the same time. */
static tsr_status write_checkpoint(const tsr_import *m, const char *file, const char *out)
{
    int n;
    const tsr_option *table = tsr_train_option_table(&n);
    tsr_train_options train;
    if (tsr_options_default(table, n, &train) != TSR_STATUS_OK ||
        set_network(m, tsr_option_find(table, n, "model"), &train) != TSR_STATUS_OK) {
        return tsr_status_get();
    }
    static const char *const recorded[] = {"model", "image-size", "patch-size", "window",
                                           "dim",   "depth",      "heads",      "mlp-ratio"};
    tsr_checkpoint_writer *w = tsr_checkpoint_create(out);
    tsr_checkpoint_put_string(w, "recipe", "import");
    tsr_checkpoint_put_string(w, "feature", "teacher.backbone");
    tsr_checkpoint_put_string(w, "import.file", file);
    tsr_checkpoint_put_string(w, "import.names", m->map->name);
    tsr_checkpoint_put_double(w, "backbone.eps",
                              is_swin(m) ? ((const tsr_swin *)m->backbone)->config.eps
                                         : ((const tsr_vit *)m->backbone)->config.eps);
    if (!is_swin(m)) {
        tsr_checkpoint_put_int(w, "backbone.position",
                               ((const tsr_vit *)m->backbone)->config.position);
    }
    for (size_t i = 0; i < sizeof recorded / sizeof *recorded; i++) {
        const tsr_option *o = tsr_option_find(table, n, recorded[i]);
        tsr_train_options read = train;
        char key[96], text[TSR_OPTION_TEXT];
        tsr_option_text(o, &train, text);
        if (tsr_option_set(o, &read, text) != TSR_STATUS_OK) break; /* out of bounds */
        snprintf(key, sizeof key, "option.%s", o->name);
        tsr_checkpoint_put_string(w, key, text);
    }
    tsr_module_list *state = tsr_module_state(&m->backbone->module);
    for (int64_t i = 0; state != NULL && i < state->n; i++) {
        char name[256];
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *t = tsr_import_tensor(m, &state->at[i]);
        snprintf(name, sizeof name, "teacher/backbone.%s", state->at[i].name);
        if (t != NULL) tsr_checkpoint_put_tensor(w, name, t);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        if (tsr_status_get() != TSR_STATUS_OK) break;
    }
    tsr_module_list_free(&state);
    if (tsr_status_get() != TSR_STATUS_OK) {
        tsr_checkpoint_abandon(&w);
        return tsr_status_get();
    }
    return tsr_checkpoint_commit(&w);
}

static tsr_status run(const char *file, const struct import_flags *f,
                      const tsr_import_options *options, const bool allowed[4])
{
    tsr_weights *w = tsr_weights_open(file);
    tsr_import *m = w != NULL ? tsr_import_open(w, options) : NULL;
    if (m != NULL) {
        print_report(m, file, w, f);
        if (check_counts(m, allowed) == TSR_STATUS_OK &&
            write_checkpoint(m, file, f->out) == TSR_STATUS_OK) {
            printf("wrote %s\n", f->out);
        }
    }
    tsr_import_free(&m);
    tsr_weights_close(&w);
    return tsr_status_get();
}

static void describe(char *text, size_t bytes)
{
    int n;
    const tsr_name_map *maps = tsr_name_maps(&n);
    size_t used = (size_t)snprintf(
        text, bytes,
        "Makes a checkpoint of a vision transformer or Swin that another program trained, for knn,\n"
        "linear, features, attention and inspect. FILE is a PyTorch file (.pth, .pt), a safetensors\n"
        "file, a checkpoint or an ONNX model; its content says which. What network it is, the\n"
        "tensors say. All tensors are listed; those left over or lacking are an error unless --allow\n"
        "names them. Nothing in FILE is executed (docs/weights.md). Names that are known:\n");
    for (int i = 0; i < n && used < bytes; i++) {
        used += (size_t)snprintf(text + used, bytes - used, "  %-22s %s%s", maps[i].name,
                                 maps[i].about, i + 1 < n ? "\n" : "");
    }
}

int tsr_command__import(int argc, char **argv)
{
    struct import_flags f = {0};
    const tsr_flag flags[] = {
        {"out", TSR_FLAG_TEXT, &f.out, "CKPT", "the checkpoint to write"},
        {"allow", TSR_FLAG_TEXT, &f.allow, "KINDS", "unused, missing or both with a comma"},
        {"prefix", TSR_FLAG_TEXT, &f.prefix, "TEXT",
         "which network: how its names begin; default: the only one, or the teacher's"},
        {"names", TSR_FLAG_TEXT, &f.names, "MAP", "one of the above; default: what fits best"},
        {"heads", TSR_FLAG_INT, &f.heads, "N",
         "attention heads of a vit; default: as its relative positions have, or dim / 64", 1, 256},
        {"image-size", TSR_FLAG_INT, &f.image_size, "PIXELS",
         "resize positions to pictures of this side", 8, 4096},
        {"mean", TSR_FLAG_TEXT, &f.mean, "R,G,B",
         "what the network's pictures (0 to 1) are normalized by; default: ImageNet's, 0.485,0.456,0.406"},
        {"std", TSR_FLAG_TEXT, &f.std, "R,G,B", "the same; default: ImageNet's, 0.229,0.224,0.225"},
    };
    char description[2048];
    describe(description, sizeof description);
    tsr_arguments arguments = {.usage = "import FILE --out CKPT [options]",
                               .example = "import dino_deitsmall16_pretrain.pth --out CKPT.tsr",
                               .description = description,
                               .flags = flags,
                               .n_flags = sizeof flags / sizeof flags[0],
                               .min_positional = 1,
                               .max_positional = 1};
    int status = tsr_arguments__parse(&arguments, argc, argv);
    if (status >= 0) return status;
    bool allowed[4] = {false};
    if (f.out == NULL) tsr_fail(TSR_STATUS_ARGUMENT, "--out is needed");
    tsr_import_options options = {
        .prefix = f.prefix, .map = f.names, .heads = f.heads, .image_size = f.image_size};
    if (f.out == NULL || parse_allow(f.allow, allowed) != TSR_STATUS_OK ||
        set_colours(&f, &options) != TSR_STATUS_OK) {
        return tsr_arguments__refuse(&arguments);
    }
    tsr_scope scope = tsr_scope_open();
    run(arguments.positional[0], &f, &options, allowed);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_program__report();
}
