/* tessera export: a checkpoint's backbone for other programs. */
#include "recipes/cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct request {
    tsr_frozen frozen;
    const char *format, *out, *names, *output, *image;
    bool any_size, external;
} request;

static bool is(const char *text, const char *word)
{
    return strcmp(text, word) == 0;
}

/* ---- ONNX ---- */

struct graph {
    const tsr_backbone *backbone;
    const char *output;
};

static void forward(tsr_tensors in, tsr_tensor **out, int n, void *user)
{
    (void)n;
    const struct graph *g = user;
    if (is(g->output, "attention")) {
        out[0] = tsr_backbone_last_attention(g->backbone, in.at[0]);
        return;
    }
    tsr_tensor *tokens = tsr_backbone_forward(g->backbone, in.at[0], NULL);
    out[0] = is(g->output, "class") ? tsr_tokens_class(tokens) : tokens;
}

/* Two images, of noise or, where there is a file, the second of that. */
static tsr_tensor *example(const request *r, int64_t height, int64_t width)
{
    tsr_tensor *x = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(2, 3, height, width));
    if (x == NULL) return NULL;
    tsr_fill_normal(x, tsr_rng_make(0, 0, 0, tsr_rng_purpose("export")), 0.0, 1.0);
    if (r->image == NULL) return x;
    int size = (int)(width > height ? width : height);
    tsr_image image = {0};
    tsr_view_spec view = tsr_view_eval(size);
    tsr_rng rng = tsr_rng_make(0, 0, 0, 0); /* the view draws nothing */
    tsr_tensor *pixels = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(3, size, size));
    if (pixels != NULL && tsr_jpeg_read(r->image, NULL, &image, NULL) == TSR_STATUS_OK &&
        tsr_view_apply(&view, &image, &rng, tsr_tensor_data_mut(pixels)) == TSR_STATUS_OK) {
        pixels = tsr_slice(tsr_slice(pixels, 1, 0, height, 1), 2, 0, width, 1);
        tsr_tensor_copy(tsr_select(x, 0, 1), pixels);
    }
    tsr_image_free(&image);
    return x;
}

/* How to make of a picture what the network takes: tsr_view_eval(). */
enum { PAIRS = 12 };
static int64_t describe(const request *r, int size, tsr_safetensors_pair pairs[PAIRS],
                        char texts[PAIRS][160])
{
    tsr_view_spec view = tsr_view_eval(size);
    const float *mean = tsr_view_mean(&view), *std = tsr_view_std(&view);
    char network[TSR_BACKBONE_TEXT];
    tsr_backbone_describe(r->frozen.backbone, network);
    int64_t n = 0;
#define PAIR(name, ...)                                                                            \
    (snprintf(texts[n], sizeof texts[n], __VA_ARGS__), pairs[n].key = (name),                      \
     pairs[n].value = texts[n], n++)
    PAIR("network", "%.150s", network);
    PAIR("output", "%.60s", r->output);
    PAIR("preprocessing.image_size", "%d", size);
    PAIR("preprocessing.resize_short_side", "%d", view.resize_short);
    PAIR("preprocessing.crop", "center");
    PAIR("preprocessing.interpolation", "bicubic");
    PAIR("preprocessing.layout", "NCHW, RGB, (x / 255 - mean) / std");
    PAIR("preprocessing.mean", "%.6g %.6g %.6g", (double)mean[0], (double)mean[1], (double)mean[2]);
    PAIR("preprocessing.std", "%.6g %.6g %.6g", (double)std[0], (double)std[1], (double)std[2]);
#undef PAIR
    return n;
}

/* Relative positions are constants of the graph, made for the places of one size. */
static bool takes_any_size(const tsr_backbone *m)
{
    return is(m->module.name, "vit") &&
           ((const tsr_vit *)m)->config.relative == TSR_VIT_RELATIVE_NONE;
}

static tsr_status export_onnx(const request *r)
{
    const tsr_backbone *m = r->frozen.backbone;
    if (r->any_size && !takes_any_size(m)) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "--dynamic-size: this network has relative positions, which a graph holds "
                        "for one size; leave it out and give --size");
    }
    int64_t size = r->frozen.size > 0 ? r->frozen.size : m->image_size, step = m->token_size;
    tsr_onnx_input in = {.name = "images", .dynamic = {{"batch", 0}}};
    if (r->any_size) {
        /* Not the size that it was made for: there the position embedding is used as it is. */
        in.example = example(r, size + step, size + 2 * step);
        in.dynamic[2].name = "height";
        in.dynamic[3].name = "width";
        in.dynamic[2].step = in.dynamic[3].step = step;
    } else {
        in.example = example(r, size, size);
    }
    if (in.example == NULL || tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    tsr_safetensors_pair pairs[PAIRS];
    char texts[PAIRS][160];
    tsr_onnx_options o = {.module = &m->module, .metadata = pairs, .external = r->external};
    o.n_metadata = describe(r, (int)size, pairs, texts);
    struct graph g = {m, r->output};
    tsr_onnx_report report;
    if (tsr_onnx_export(r->out, forward, &g, &in, 1, &r->output, 1, &o, &report) != TSR_STATUS_OK) {
        return tsr_status_get();
    }
    printf("%s: \"images\" [batch, 3, %s] -> \"%s\"; %d nodes, %d initializers, %.1f MB%s\n"
           "verified: run on %d batches%s, largest difference %.2g of the largest value\n",
           r->out, r->any_size ? "height, width" : "size, size", r->output, report.nodes,
           report.initializers, (double)report.weight_bytes / 1e6,
           report.external ? " beside it (.data)" : "", report.runs,
           r->image != NULL ? ", the image among them" : " of noise", report.difference);
    return TSR_STATUS_OK;
}

/* ---- weights ---- */

/* config.json in the folder of the file. */
static tsr_status write_config(const char *file, const char *text)
{
    char path[TSR_CHECKPOINT_PATH];
    const char *slash = strrchr(file, '/');
    snprintf(path, sizeof path, "%.*sconfig.json", slash != NULL ? (int)(slash - file) + 1 : 0,
             file);
    FILE *f = fopen(path, "w");
    bool written = f != NULL && fputs(text, f) >= 0 && fputc('\n', f) != EOF;
    if (f != NULL && fclose(f) != 0) written = false;
    if (!written) return tsr_fail(TSR_STATUS_IO, "export: cannot write %s", path);
    printf("%s: for transformers' from_pretrained()\n", path);
    return TSR_STATUS_OK;
}

static tsr_status export_weights(const request *r)
{
    const tsr_backbone *m = r->frozen.backbone;
    const tsr_name_map *map = tsr_name_map_find(r->names);
    if (r->names != NULL && map == NULL) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "--names: got \"%.60s\"; tessera export --help lists what there is",
                        r->names);
    }
    tsr_named_list *list = tsr_name_map_export(map, &m->module);
    tsr_status status = tsr_status_get();
    if (list != NULL) {
        tsr_safetensors_pair pair = {"format", "pt"}; /* without which transformers refuses it */
        status = is(r->format, "pth") ? tsr_pth_write(r->out, list->at, list->n)
                                      : tsr_safetensors_write(r->out, list->at, list->n, &pair, 1);
    }
    if (status == TSR_STATUS_OK) {
        printf("%s: %" PRId64 " tensors, names of %s\n", r->out, list->n,
               map != NULL ? map->about : "Tessera, which are the iBOT authors'");
    }
    tsr_named_list_free(&list);
    char *config = status == TSR_STATUS_OK && map != NULL ? tsr_name_map_config(map, m) : NULL;
    if (config != NULL) status = write_config(r->out, config);
    free(config);
    return status != TSR_STATUS_OK ? status : tsr_status_get();
}

static tsr_status run(request *r, const char *checkpoint)
{
    if (tsr_frozen__open(&r->frozen, checkpoint) == TSR_STATUS_OK) {
        tsr_frozen__describe(&r->frozen);
        if (is(r->format, "onnx")) {
            export_onnx(r);
        } else {
            export_weights(r);
        }
    }
    tsr_frozen__close(&r->frozen);
    return tsr_status_get();
}

static void list_names(char *text, size_t bytes)
{
    int n;
    const tsr_name_map *maps = tsr_name_maps(&n);
    size_t used = (size_t)snprintf(
        text, bytes,
        "Writes the backbone of a checkpoint for other programs (docs/export.md). onnx: a graph of\n"
        "its forward pass, which takes batches of any size, run and compared before it is written:\n"
        "class [batch, D], tokens [batch, 1 + N, D] or attention [batch, heads, 1 + N, 1 + N];\n"
        "safetensors, pth: its weights. CHECKPOINT is a file, or the directory of a run.\n"
        "Whose names weights can have (--names; default: the authors', as in the checkpoint):\n");
    for (int i = 0; i < n && used < bytes; i++) {
        used += (size_t)snprintf(text + used, bytes - used, "  %-22s %s%s", maps[i].name,
                                 maps[i].about, i + 1 < n ? "\n" : "");
    }
}

static tsr_status check(const request *r)
{
    bool onnx = r->format != NULL && is(r->format, "onnx");
    if (r->format == NULL || r->out == NULL) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "--format and --out are needed");
    }
    if (!onnx && !is(r->format, "safetensors") && !is(r->format, "pth")) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "--format: got \"%.60s\", expected onnx, safetensors or pth", r->format);
    }
    if (!is(r->output, "class") && !is(r->output, "tokens") && !is(r->output, "attention")) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "--output: got \"%.60s\", expected class, tokens or attention", r->output);
    }
    if (onnx && r->names != NULL) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "--names is for safetensors and pth");
    }
    return TSR_STATUS_OK;
}

int tsr_command__export(int argc, char **argv)
{
    request r = {.frozen = TSR_FROZEN_DEFAULT, .output = "class"};
    const tsr_flag flags[] = {
        {"format", TSR_FLAG_TEXT, &r.format, "NAME", "onnx, safetensors or pth"},
        {"out", TSR_FLAG_TEXT, &r.out, "FILE", "the file to write"},
        {"names", TSR_FLAG_TEXT, &r.names, "MAP", "of weights: one of the above"},
        {"output", TSR_FLAG_TEXT, &r.output, "WHAT",
         "of the graph: class (default), tokens, or attention of the last block"},
        {"dynamic-size", TSR_FLAG_SWITCH, &r.any_size, NULL,
         "the graph takes pictures of any size"},
        {"external-data", TSR_FLAG_SWITCH, &r.external, NULL,
         "the graph's weights in FILE.data, as beyond 2 GB in any case"},
        {"image", TSR_FLAG_TEXT, &r.image, "FILE", "a JPEG on which to verify the graph too"},
        TSR_WEIGHTS_FLAGS(r.frozen),
    };
    char description[2048];
    list_names(description, sizeof description);
    tsr_arguments arguments = {.usage = "export CHECKPOINT --format NAME --out FILE [options]",
                               .example = "export RUN --format onnx --out vit.onnx",
                               .description = description,
                               .flags = flags,
                               .n_flags = sizeof flags / sizeof flags[0],
                               .min_positional = 1,
                               .max_positional = 1};
    int status = tsr_arguments__parse(&arguments, argc, argv);
    if (status >= 0) return status;
    if (check(&r) != TSR_STATUS_OK) return tsr_arguments__refuse(&arguments);
    tsr_scope scope = tsr_scope_open();
    run(&r, arguments.positional[0]);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_program__report();
}
