/* tessera attention: where the class token of the last block looks. */
#include "recipes/cli/cli.h"
#include "recipes/cli/sheet.h"

#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { COLUMNS = 4 };

/* 0 black, then red, yellow, 1 white */
static void heat(double x, uint8_t pixel[3])
{
    for (int c = 0; c < 3; c++)
        pixel[c] = (uint8_t)(255.0 * fmin(1.0, fmax(0.0, 3.0 * x - c)) + 0.5);
}

/* values [side, side] of patches, scaled from the smallest to the largest */
static void draw_map(const float *values, int patch, int side, tsr_image *tile)
{
    float least = values[0], largest = values[0];
    for (int i = 0; i < side * side; i++) {
        least = fminf(least, values[i]);
        largest = fmaxf(largest, values[i]);
    }
    float range = largest > least ? largest - least : 1.0f;
    for (int y = 0; y < side * patch; y++) {
        for (int x = 0; x < side * patch; x++) {
            float share = (values[y / patch * side + x / patch] - least) / range;
            heat(share, tile->pixels + ((int64_t)y * tile->width + x) * 3);
        }
    }
}

/* weights [1, heads, 1 + N, 1 + N] -> [1 + heads, N]: what the class token gives to the patches, first the mean */
static tsr_tensor *class_maps(tsr_tensor *weights)
{
    int64_t tokens = tsr_tensor_size(weights, -1);
    tsr_tensor *heads = tsr_select(tsr_select(weights, 0, 0), 1, 0);
    heads = tsr_slice(heads, 1, 1, tokens, 1);
    tsr_tensor *mean = tsr_mean(heads, (const int[]){0}, 1, true);
    return tsr_concat(TSR_TENSORS(mean, heads), 0);
}

/* Side by side: the image [S, S], then each row of maps */
static tsr_status draw(tsr_tensor *maps, const tsr_image *image, int patch, tsr_image *sheet)
{
    int size = image->width, zoom = tsr_sheet__zoom(size), side = size / patch;
    int64_t tiles = 1 + tsr_tensor_size(maps, 0), columns = tiles < COLUMNS ? tiles : COLUMNS;
    int64_t rows = (tiles + columns - 1) / columns, pitch = (int64_t)size * zoom + TSR_SHEET_GAP;
    const float *values = tsr_tensor_data(maps);
    tsr_image tile = {0};
    if (values == NULL ||
        tsr_sheet__open(sheet, rows * pitch + TSR_SHEET_GAP, columns * pitch + TSR_SHEET_GAP) !=
            TSR_STATUS_OK ||
        tsr_image_resize_storage(&tile, size, size) != TSR_STATUS_OK) {
        return tsr_status_get();
    }
    memset(tile.pixels, 255, (size_t)size * (size_t)size * 3); /* what no patch covers */
    for (int64_t i = 0; i < tiles; i++) {
        if (i > 0) draw_map(values + (i - 1) * side * side, patch, side, &tile);
        tsr_sheet__paste(sheet, (int)(i / columns * pitch) + TSR_SHEET_GAP,
                         (int)(i % columns * pitch) + TSR_SHEET_GAP, i == 0 ? image : &tile, zoom);
    }
    tsr_image_free(&tile);
    return TSR_STATUS_OK;
}

static tsr_status load(const char *file, const char *folder, int64_t index, tsr_image *image)
{
    if (file != NULL) return tsr_jpeg_read(file, NULL, image, NULL);
    tsr_dataset *data = tsr_dataset_open(folder, NULL);
    int64_t loaded;
    if (data != NULL && tsr_dataset_load(data, index, 0, image, &loaded) == TSR_STATUS_OK &&
        loaded != index) {
        tsr_fail(TSR_STATUS_FORMAT, "image %" PRId64 " of %s cannot be read", index, folder);
    }
    tsr_dataset_close(&data);
    return tsr_status_get();
}

static tsr_status run(tsr_frozen *f, const char *checkpoint, const tsr_image *loaded,
                      const char *out)
{
    if (tsr_frozen__open(f, checkpoint) != TSR_STATUS_OK) return tsr_status_get();
    int size = (int)(f->size > 0 ? f->size : f->backbone->image_size);
    tsr_image image = {0}, sheet = {0};
    tsr_view_spec view = tsr_view_eval(size);
    tsr_rng rng = tsr_rng_make(0, 0, 0, 0); /* the view draws nothing */
    float *pixels = tsr_alloc((size_t)size * (size_t)size * 3 * sizeof *pixels);
    if (pixels != NULL && tsr_view_image(&view, loaded, &rng, &image) == TSR_STATUS_OK &&
        tsr_view_apply(&view, loaded, &rng, pixels) == TSR_STATUS_OK) {
        tsr_tensor *x = tsr_from(TSR_DTYPE_F32, TSR_SHAPE(1, 3, size, size), pixels);
        tsr_tensor *maps = class_maps(tsr_backbone_last_attention(f->backbone, x));
        if (maps != NULL &&
            draw(maps, &image, (int)f->backbone->token_size, &sheet) == TSR_STATUS_OK &&
            tsr_jpeg_write(out, &sheet, 95) == TSR_STATUS_OK) {
            tsr_frozen__describe(f);
            printf("%s: the image, the mean of the heads, then each of %" PRId64
                   " heads; the class token of the "
                   "last block over %d x %d patches, each from its least to its largest\n",
                   out, tsr_tensor_size(maps, 0) - 1, size / (int)f->backbone->token_size,
                   size / (int)f->backbone->token_size);
        }
    }
    tsr_free(pixels);
    tsr_image_free(&image);
    tsr_image_free(&sheet);
    return tsr_status_get();
}

int tsr_command__attention(int argc, char **argv)
{
    tsr_frozen frozen = TSR_FROZEN_DEFAULT;
    const char *file = NULL, *data = NULL, *out = NULL;
    int64_t index = 0;
    const tsr_flag flags[] = {
        {"image", TSR_FLAG_TEXT, &file, "FILE", "a JPEG"},
        {"data", TSR_FLAG_TEXT, &data, "DIR", "or a data set, of which --index picks one"},
        {"index", TSR_FLAG_INT, &index, "N", "of the image in the data set; default 0", 0, 1e12},
        {"out", TSR_FLAG_TEXT, &out, "FILE", "the JPEG to write"},
        TSR_WEIGHTS_FLAGS(frozen),
    };
    tsr_arguments arguments = {
        .usage = "attention CHECKPOINT --image FILE --out FILE [options]",
        .example = "attention RUN --image cat.jpg --out heads.jpg --size 480",
        .description =
            "Draws where the class token of the last block looks in an image, one tile for each\n"
            "attention head: objects stand out when features are good. A larger --size than trained\n"
            "gives finer maps. CHECKPOINT is a file, or the directory of a run.",
        .flags = flags,
        .n_flags = sizeof flags / sizeof flags[0],
        .min_positional = 1,
        .max_positional = 1};
    int status = tsr_arguments__parse(&arguments, argc, argv);
    if (status >= 0) return status;
    if (out == NULL || (file == NULL) == (data == NULL)) {
        tsr_fail(TSR_STATUS_ARGUMENT, "--out and one of --image and --data are needed");
        return tsr_arguments__refuse(&arguments);
    }
    tsr_scope scope = tsr_scope_open();
    tsr_image image = {0};
    if (load(file, data, index, &image) == TSR_STATUS_OK)
        run(&frozen, arguments.positional[0], &image, out);
    tsr_image_free(&image);
    tsr_frozen__close(&frozen);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_program__report();
}
