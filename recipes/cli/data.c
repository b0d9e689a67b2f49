/* tessera data: what a data set is, and what a recipe makes of its images. */
#include "recipes/cli/cli.h"
#include "recipes/cli/sheet.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { VIEWS = 8, CLASSES_SHOWN = 20 };

static void describe(const tsr_dataset *data, const char *folder)
{
    int64_t classes = tsr_dataset_classes(data);
    printf("%s: %s, %" PRId64 " images, ", folder, tsr_dataset_kind(data), tsr_dataset_count(data));
    if (classes == 0) {
        printf("no labels\n");
        return;
    }
    printf("%" PRId64 " classes:", classes);
    for (int64_t c = 0; c < classes && c < CLASSES_SHOWN; c++) {
        printf("%s %s", c > 0 ? "," : "", tsr_dataset_class_name(data, c));
    }
    printf("%s\n", classes > CLASSES_SHOWN ? ", ..." : "");
}

/* Reads every image, and lists those that have a problem. */
static tsr_status check(tsr_dataset *data)
{
    tsr_image image = {0};
    tsr_progress progress = {.what = "reading"};
    int64_t count = tsr_dataset_count(data);
    for (int64_t i = 0; i < count; i++) {
        if (tsr_dataset_load(data, i, 0, &image, NULL) != TSR_STATUS_OK) break;
        tsr_progress__show(&progress, i + 1, count);
    }
    tsr_progress__end(&progress);
    tsr_image_free(&image);
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    enum { SHOWN = 100 };
    tsr_dataset_problem problems[SHOWN];
    int64_t skipped, n = tsr_dataset_problems(data, problems, SHOWN, &skipped);
    for (int64_t i = 0; i < n && i < SHOWN; i++) {
        printf("%s: %s\n", problems[i].skipped ? "unreadable" : "damaged", problems[i].text);
    }
    printf("all images were read: %" PRId64 " unreadable, %" PRId64 " damaged\n", skipped,
           n - skipped);
    return TSR_STATUS_OK;
}

/* The bytes that were normalized to x [3, size, size]; masked cells at a quarter of their light. */
static void picture(const float *x, const tsr_view_spec *spec, const uint8_t *mask, tsr_image *tile)
{
    const float *mean = tsr_view_mean(spec), *std = tsr_view_std(spec);
    int size = spec->size, cells = mask != NULL ? size / spec->mask.patch : 0;
    for (int i = 0; i < size * size; i++) {
        int row = cells > 0 ? i / size / spec->mask.patch : 0,
            column = cells > 0 ? i % size / spec->mask.patch : 0;
        bool masked = row < cells && column < cells && mask[row * cells + column] != 0;
        for (int c = 0; c < 3; c++) {
            float value = x[c * size * size + i] * std[c] + mean[c];
            value = 255.0f * fminf(1.0f, fmaxf(0.0f, value));
            tile->pixels[3 * i + c] = (uint8_t)(value * (masked ? 0.25f : 1.0f) + 0.5f);
        }
    }
}

struct sheet {
    tsr_image image, tile;
    const tsr_views *views;
    int zoom;
    int64_t pitch; /* from row to row */
};

static int copies_of(const tsr_view_spec *spec)
{
    return spec->copies > 0 ? spec->copies : 1;
}

/* Which copy of its field a spec's first one is. */
static int first_copy(const tsr_views *views, int v)
{
    int first = 0;
    for (int i = 0; i < v; i++) {
        if (strcmp(views->at[i].name, views->at[v].name) == 0) first += copies_of(&views->at[i]);
    }
    return first;
}

static bool has_field(const tsr_batch *batch, const char *name)
{
    for (int i = 0; i < tsr_batch_field_count(batch); i++) {
        if (strcmp(tsr_batch_field_name(batch, i), name) == 0) return true;
    }
    return false;
}

/* One spec's views of all images, from column `left` on; returns where the next begins. */
static int64_t paste_views(struct sheet *s, const tsr_batch *batch, int v, int64_t left)
{
    const tsr_view_spec *spec = &s->views->at[v];
    char mask_name[96];
    snprintf(mask_name, sizeof mask_name, "%.80s.mask", spec->name);
    int64_t pixels = 3 * (int64_t)spec->size * spec->size, cells = 0;
    const float *x = tsr_tensor_data(tsr_batch_tensor(batch, spec->name));
    const uint8_t *mask = NULL;
    if (spec->mask.kind != TSR_MASK_NONE && has_field(batch, mask_name)) {
        mask = tsr_tensor_data(tsr_batch_tensor(batch, mask_name));
        cells = spec->size / spec->mask.patch;
    }
    if (x == NULL || tsr_image_resize_storage(&s->tile, spec->size, spec->size) != TSR_STATUS_OK)
        return left;
    for (int c = 0; c < copies_of(spec); c++) {
        for (int64_t i = 0; i < batch->n; i++) {
            int64_t row = (first_copy(s->views, v) + c) * batch->n + i;
            picture(x + row * pixels, spec, mask != NULL ? mask + row * cells * cells : NULL,
                    &s->tile);
            tsr_sheet__paste(&s->image, (int)(i * s->pitch) + TSR_SHEET_GAP, (int)left, &s->tile,
                             s->zoom);
        }
        left += (int64_t)spec->size * s->zoom + TSR_SHEET_GAP;
    }
    return left;
}

/* A row for each image: itself, then its views. */
static tsr_status draw(tsr_dataset *data, const tsr_views *views, const tsr_batch *batch,
                       const char *out)
{
    int size = 1;
    int64_t width = TSR_SHEET_GAP;
    for (int v = 0; v < views->n; v++) size = views->at[v].size > size ? views->at[v].size : size;
    struct sheet s = {.views = views, .zoom = tsr_sheet__zoom(size)};
    s.pitch = (int64_t)size * s.zoom + TSR_SHEET_GAP;
    for (int v = 0; v < views->n; v++) {
        width += ((int64_t)views->at[v].size * s.zoom + TSR_SHEET_GAP) * copies_of(&views->at[v]);
    }
    if (tsr_sheet__open(&s.image, batch->n * s.pitch + TSR_SHEET_GAP, width + s.pitch) ==
        TSR_STATUS_OK) {
        tsr_view_spec whole = tsr_view_eval(size);
        tsr_image loaded = {0};
        tsr_tensor *index = tsr_batch_tensor(batch, "index");
        for (int64_t i = 0; i < batch->n && tsr_status_get() == TSR_STATUS_OK; i++) {
            tsr_rng rng = tsr_rng_make(0, 0, 0, 0);
            tsr_dataset_load(data, (int64_t)tsr_tensor_get(index, i), 0, &loaded, NULL);
            if (tsr_view_image(&whole, &loaded, &rng, &s.tile) != TSR_STATUS_OK) break;
            tsr_sheet__paste(&s.image, (int)(i * s.pitch) + TSR_SHEET_GAP, TSR_SHEET_GAP, &s.tile,
                             s.zoom);
        }
        tsr_image_free(&loaded);
        int64_t left = TSR_SHEET_GAP + s.pitch;
        for (int v = 0; v < views->n; v++) left = paste_views(&s, batch, v, left);
    }
    if (tsr_status_get() == TSR_STATUS_OK) tsr_jpeg_write(out, &s.image, 90);
    if (tsr_status_get() == TSR_STATUS_OK) {
        printf("%s: %" PRId64
               " images; each, then its views as the recipe's network sees them, masked patches "
               "dark\n",
               out, batch->n);
    }
    tsr_image_free(&s.image);
    tsr_image_free(&s.tile);
    return tsr_status_get();
}

struct sheet_options {
    const char *out;
    int64_t images, epoch, seed;
};

static tsr_status make_sheet(const tsr_recipe_arguments *r, tsr_dataset *data,
                             const struct sheet_options *o)
{
    tsr_build build = {.train = &r->train, .options = r->options, .seed = (uint64_t)o->seed};
    tsr_view_spec specs[VIEWS];
    tsr_views views = {specs, r->recipe->views(&build, specs, VIEWS)};
    if (views.n < 0) return tsr_status_get();
    int64_t count = tsr_dataset_count(data);
    tsr_loader_options options = {.batch = o->images < count ? o->images : count,
                                  .seed = build.seed,
                                  .prefetch = 1,
                                  .epoch = o->epoch,
                                  .min_short_side = tsr_views_min_short_side(&views)};
    tsr_loader *loader = tsr_loader_open_views(data, &views, &options);
    const tsr_batch *batch = loader != NULL ? tsr_loader_next(loader) : NULL;
    if (batch != NULL) draw(data, &views, batch, o->out);
    tsr_loader_close(&loader);
    return tsr_status_get();
}

static int run(tsr_recipe_arguments *r, int argc, char **argv)
{
    const char *folder = NULL, *split = NULL;
    bool all = false;
    struct sheet_options sheet = {.images = 8};
    const tsr_flag flags[] = {
        {"data", TSR_FLAG_TEXT, &folder, "DIR",
         "images: class folders, a flat folder, shards (*.tar), IDX or CIFAR files"},
        {"split", TSR_FLAG_TEXT, &split, "NAME",
         "train, val or test; default: train where there is one, else all"},
        {"out", TSR_FLAG_TEXT, &sheet.out, "FILE",
         "the JPEG to write; without it nothing is drawn"},
        {"images", TSR_FLAG_INT, &sheet.images, "N", "rows of the sheet; default 8", 1, 1000},
        {"epoch", TSR_FLAG_INT, &sheet.epoch, "N", "whose views; default 0, the first", 0, 1e9},
        {"check", TSR_FLAG_SWITCH, &all, NULL, "read every image, and list those that are damaged"},
        TSR_PRESET_FLAG(*r),
        {"seed", TSR_FLAG_INT, &sheet.seed, "N", "of a run; default 0"},
    };
    char usage[128], example[128];
    snprintf(usage, sizeof usage, "data %s --data DIR [--out FILE] [options]", r->recipe->name);
    snprintf(example, sizeof example, "data %s --data IMAGES --out sheet.jpg", r->recipe->name);
    tsr_arguments arguments = {
        .usage = usage,
        .example = example,
        .description = tsr_recipe_arguments__describe(
            r,
            "Says what a data set is, and draws the first images of a run with this seed and all their\n"
            "views. Options are those of tessera pretrain; some have no influence here."),
        .flags = flags,
        .n_flags = sizeof flags / sizeof flags[0],
        .tables = r->tables,
        .n_tables = 2};
    int status = tsr_arguments__parse(&arguments, argc, argv);
    if (status >= 0) return status;
    if (folder == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "--data is needed");
        return tsr_arguments__refuse(&arguments);
    }
    tsr_scope scope = tsr_scope_open();
    tsr_dataset *data = tsr_dataset_open(folder, split);
    if (data != NULL) {
        describe(data, folder);
        if (all && check(data) != TSR_STATUS_OK) sheet.out = NULL;
        if (sheet.out != NULL) make_sheet(r, data, &sheet);
    }
    tsr_dataset_close(&data);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_program__report();
}

int tsr_command__data(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "pack") == 0) return tsr_command__data_pack(argc - 1, argv + 1);
    tsr_recipe_arguments r;
    int status = tsr_recipe_arguments__open(&r, "data", argc, argv);
    if (status >= 0) return status;
    status = run(&r, argc - 1, argv + 1);
    tsr_recipe_arguments__close(&r);
    return status;
}
