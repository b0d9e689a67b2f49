/*
 * recipes/data: images, augmentations, masks, data sets and the loader (docs/data.md).
 *
 *   tsr_dataset *data = tsr_dataset_open("/usr/share/datasets/fashion-mnist", "train");
 *   tsr_view_spec specs[] = {tsr_view_ibot_global1(28), tsr_view_ibot_global2(28),
 *                            tsr_view_ibot_local(12, 4)};
 *   tsr_views views = {specs, 3};
 *   tsr_loader *loader = tsr_loader_open_views(data, &views, &(tsr_loader_options){.batch = 64});
 *   const tsr_batch *batch;
 *   while ((batch = tsr_loader_next(loader)) != NULL) {
 *       tsr_tensor *global = tsr_batch_tensor(batch, "global"); // f32 [2 * 64, 3, 28, 28]
 *       ...
 *   }
 *   tsr_loader_close(&loader);
 *   tsr_dataset_close(&data);
 */
#ifndef TSR_RECIPES_DATA_H
#define TSR_RECIPES_DATA_H

#include "autograd/autograd.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -------------------- images ------------------------------------------------------------------ */

/* An image of bytes, rows from the top, pixels as red, green, blue. {0} is an empty image.
 * Functions that write to an image reuse its storage where it is large enough; tsr_image_free()
 * gives it back. After a failure the contents of an output image are not defined. */
typedef struct tsr_image {
    int height, width; /* pixels */
    uint8_t *pixels;   /* [height, width, 3] */
    size_t capacity;   /* bytes at pixels */
    bool grey; /* the channels are known to be equal: hue and saturation have nothing to do */
} tsr_image;

/* Sets the size, and makes room; the pixels are not defined. ARGUMENT: a side outside 1..65500,
 * more than TSR_IMAGE_MAX_PIXELS pixels; MEMORY. */
enum { TSR_IMAGE_MAX_SIDE = 65500, TSR_IMAGE_MAX_PIXELS = 178000000 };
TSR_API tsr_status tsr_image_resize_storage(tsr_image *image, int height, int width);
TSR_API tsr_status tsr_image_copy(const tsr_image *image, tsr_image *out);
TSR_API void tsr_image_free(tsr_image *image);

/* NULL options: all zero. */
typedef struct tsr_jpeg_options {
    const char *name; /* of the file, for messages; NULL: "image" */
    /* 0: full size. Otherwise the decoder may shrink by 2, 4 or 8 (in the DCT, which is fast) as
     * long as the short side keeps at least this many pixels. Shrunk pixels differ from those of a
     * resize of the full picture. */
    int min_short_side;
} tsr_jpeg_options;

typedef struct tsr_jpeg_info {
    int height, width;   /* of the picture as stored, before orientation and shrinking */
    int orientation;     /* of its EXIF block, 1 to 8; 1 when there is none */
    int shrink;          /* 1, 2, 4 or 8 */
    const char *warning; /* NULL; "truncated": the rest of the picture is grey; "corrupt data" */
} tsr_jpeg_info;

/*
 * Decodes a JPEG in memory: grey, YCbCr, RGB, CMYK and YCCK (with Adobe's inverted inks); the EXIF
 * orientation is applied. A file that ends too early gives what is there, and a warning. info may
 * be NULL. FORMAT: not a JPEG (the message says what it seems to be), dimensions outside
 * tsr_image's bounds, more pixels than the bytes can hold (4096 a byte), more than 500 scans, no
 * decodable data; MEMORY.
 */
TSR_API tsr_status tsr_jpeg_decode(const void *data, size_t bytes, const tsr_jpeg_options *options,
                                   tsr_image *image, tsr_jpeg_info *info);
/* Reads and decodes a file of at most 1 GiB. Also IO. options->name is ignored: messages hold the
 * path. */
TSR_API tsr_status tsr_jpeg_read(const char *path, const tsr_jpeg_options *options,
                                 tsr_image *image, tsr_jpeg_info *info);
/* Encodes with quality 1 to 100, chroma at half resolution. *data is from tsr_alloc(); the caller
 * tsr_free()s it. */
TSR_API tsr_status tsr_jpeg_encode(const tsr_image *image, int quality, void **data, size_t *bytes);
TSR_API tsr_status tsr_jpeg_write(const char *path, const tsr_image *image, int quality);

/* -------------------- transforms -------------------------------------------------------------- */

/*
 * These give the bytes that Pillow 9.4 gives for what torchvision 0.14 asks of it, except where
 * docs/data.md states a difference. src and out must be different images.
 */
typedef enum tsr_resample {
    TSR_RESAMPLE_BICUBIC = 0, /* Keys' cubic with a = -0.5 */
    TSR_RESAMPLE_BILINEAR,
    TSR_RESAMPLE_LANCZOS, /* sinc(x) sinc(x / 3), |x| < 3 */
} tsr_resample;

typedef struct tsr_box {
    int top, left, height, width; /* pixels */
} tsr_box;

/* Crops box, then resizes it to [height, width], with antialiasing when it shrinks: two passes,
 * horizontal first, in fixed point with 22 bits. ARGUMENT: a box that is empty or not inside src.
 */
TSR_API tsr_status tsr_image_resized_crop(const tsr_image *src, tsr_box box, int height, int width,
                                          tsr_resample interpolation, tsr_image *out);
/* Resizes so that the short side is `size`; the long one becomes floor(size * long / short). */
TSR_API tsr_status tsr_image_resize_short(const tsr_image *src, int size,
                                          tsr_resample interpolation, tsr_image *out);
/* The middle [height, width]; black where src is smaller. */
TSR_API tsr_status tsr_image_center_crop(const tsr_image *src, int height, int width,
                                         tsr_image *out);

/* In place. */
TSR_API void tsr_image_hflip(tsr_image *image);
TSR_API void tsr_image_grayscale(tsr_image *image); /* luma of ITU-R 601-2 in all three channels */
/* factor 1 changes nothing, 0 gives black, the mean grey of the picture, its grey version. */
TSR_API void tsr_image_brightness(tsr_image *image, double factor);
TSR_API void tsr_image_contrast(tsr_image *image, double factor);
TSR_API void tsr_image_saturation(tsr_image *image, double factor);
TSR_API void tsr_image_hue(tsr_image *image, double shift);       /* in turns, -0.5 to 0.5 */
TSR_API void tsr_image_solarize(tsr_image *image, int threshold); /* inverts bytes >= threshold */
/* Three extended box blurs each way (Gwosdek et al., SSVM 2011). sigma in pixels, not negative. */
TSR_API tsr_status tsr_image_gaussian_blur(tsr_image *image, double sigma);
/* Each channel stretched to 0 .. 255; each channel's histogram made even. */
TSR_API void tsr_image_autocontrast(tsr_image *image);
TSR_API void tsr_image_equalize(tsr_image *image);
TSR_API void tsr_image_posterize(tsr_image *image, int bits); /* keeps the highest bits, 0 to 8 */
/* Adds to bytes below the threshold, up to 255. */
TSR_API void tsr_image_solarize_add(tsr_image *image, int add, int threshold);
/* factor 0 gives a 3 x 3 smoothed picture, 1 changes nothing. */
TSR_API tsr_status tsr_image_sharpness(tsr_image *image, double factor);
/* The pixel at (x, y) becomes what lies at (m0 x + m1 y + m2, m3 x + m4 y + m5), by bicubic
 * interpolation with a = -1, as Pillow has it here; fill where that is outside. Coordinates are
 * those of pixels' centres, the first at 0.5. */
TSR_API tsr_status tsr_image_affine(tsr_image *image, const double map[6], const uint8_t fill[3]);
/* Counterclockwise about the centre. */
TSR_API tsr_status tsr_image_rotate(tsr_image *image, double degrees, const uint8_t fill[3]);
/*
 * RandAugment (Cubuk et al. 2020, arXiv 1909.13719) as timm defines "rand-m9-mstd0.5-inc1": so many
 * layers; in each one of 15 operations, with probability 1/2, at a strength from
 * N(magnitude, deviation^2) cut at 0 and 10.
 */
TSR_API tsr_status tsr_image_randaugment(tsr_image *image, int layers, double magnitude,
                                         double deviation, const uint8_t fill[3], tsr_rng *rng);
/* out f32 [3, height, width] = (byte / 255 - mean) / std */
TSR_API void tsr_image_normalize(const tsr_image *image, const float mean[3], const float std[3],
                                 float *out);

/* -------------------- masks ------------------------------------------------------------------- */

typedef enum tsr_mask_kind {
    TSR_MASK_NONE = 0,
    TSR_MASK_BLOCK, /* rectangles: algorithm 1 of BEiT (arXiv 2106.08254), as iBOT's loader.py */
    TSR_MASK_RAND,  /* cells one by one */
} tsr_mask_kind;

enum { TSR_MASK_MAX_RATIOS = 4 };

/* Which share of the cells to mask: one of the n_ratios entries, each equally likely; then, where
 * its var is positive, uniform in ratio - var .. ratio + var. */
typedef struct tsr_mask_spec {
    tsr_mask_kind kind;
    int patch; /* pixels a side of a cell */
    int n_ratios;
    double ratio[TSR_MASK_MAX_RATIOS], var[TSR_MASK_MAX_RATIOS];
    int start_epoch; /* in earlier epochs nothing is masked */
} tsr_mask_spec;

/* mask u8 [rows, columns]: 1 = masked. Returns how many are. */
TSR_API int64_t tsr_mask_draw(const tsr_mask_spec *spec, int64_t epoch, int rows, int columns,
                              tsr_rng *rng, uint8_t *mask);
/* OK, or ARGUMENT with what is wrong with spec for pictures of size x size. */
TSR_API tsr_status tsr_mask_check(const tsr_mask_spec *spec, int size);

/* -------------------- views ------------------------------------------------------------------- */

/*
 * One random view of an image: crop, flip, RandAugment, colour jitter, grey, blur, solarize,
 * normalize, erase, in this order, each with its own probability. Draws follow torchvision's
 * definitions, those of RandAugment and erasing timm's. The comments give what zero means.
 */
typedef struct tsr_view_spec {
    const char *name; /* of the batch's tensor; specs of one name are stacked and have one size */
    int size;         /* pixels a side of the result */
    int copies;       /* how many of this view an image; 0: one */
    /* Drawn by the random numbers of the spec before it, whose crop and flip it must share: the
     * same part of the image at another size, or with other settings of what comes after the flip. */
    bool paired;

    /* 0: random resized crop. Else without chance: short side resized to this, centre cropped. */
    int resize_short;
    double scale_lo, scale_hi; /* share of the image's area; 0, 0: 0.08, 1 */
    double ratio_lo, ratio_hi; /* width / height; 0, 0: 3/4, 4/3 */
    tsr_resample interpolation;

    double flip_p;   /* left-right */
    int rand_layers; /* of RandAugment; 0: none */
    double rand_magnitude, rand_deviation;
    double jitter_p, brightness, contrast, saturation, hue;
    double gray_p;
    double blur_p, blur_lo, blur_hi; /* standard deviation in pixels of the result */
    double solarize_p;
    int solarize_threshold; /* 0: 128 */
    double erase_p;         /* tsr_view_erase() */

    float mean[3], std[3]; /* std all zero: ImageNet's mean .485 .456 .406, std .229 .224 .225 */
    tsr_mask_spec mask;    /* of the same grid as the patches of a model */
} tsr_view_spec;

/* What its pixels are normalized by, [3]: its own or ImageNet's. */
TSR_API const float *tsr_view_mean(const tsr_view_spec *spec);
TSR_API const float *tsr_view_std(const tsr_view_spec *spec);

/* iBOT's three pipelines (loader.py's DataAugmentationiBOT in the authors' code): named "global",
 * "global", "local". Scales are the published recipes' (.25, 1) and (.05, .25); no masks. */
TSR_API tsr_view_spec tsr_view_ibot_global1(int size);
TSR_API tsr_view_spec tsr_view_ibot_global2(int size);
TSR_API tsr_view_spec tsr_view_ibot_local(int size, int copies);
/* Frozen-feature evaluation: short side to size * 256 / 224, bicubic, centre crop; at size 224
 * these are 256 and 224. Below 64 pixels the whole short side is kept. Named "image". */
TSR_API tsr_view_spec tsr_view_eval(int size);
/* Linear probe: bilinear random resized crop (.08, 1) and flip. Named "image". */
TSR_API tsr_view_spec tsr_view_linear(int size);

/* Fine-tuning, as timm's create_transform() with "rand-m9-mstd0.5-inc1" and erasing of 0.25:
 * bicubic random resized crop (.08, 1), flip, RandAugment, random erasing. Named "image". */
TSR_API tsr_view_spec tsr_view_finetune(int size);

/* Random erasing (Zhong et al. 2020, arXiv 1708.04896) as timm's mode "pixel": image f32 [channels,
 * size, size]; a rectangle of 2 to 33 % of the area, aspect 0.3 to 1 / 0.3, becomes noise N(0, 1).
 * False after ten tries that did not fit. */
TSR_API bool tsr_view_erase(float *image, int channels, int size, tsr_rng *rng);
/* The box of torchvision's RandomResizedCrop: ten tries, then the centre. */
TSR_API tsr_box tsr_view_crop(const tsr_view_spec *spec, int height, int width, tsr_rng *rng);
/* The view as an image of bytes [size, size, 3], before normalizing. */
TSR_API tsr_status tsr_view_image(const tsr_view_spec *spec, const tsr_image *image, tsr_rng *rng,
                                  tsr_image *out);
/* out f32 [3, size, size] */
TSR_API tsr_status tsr_view_apply(const tsr_view_spec *spec, const tsr_image *image, tsr_rng *rng,
                                  float *out);

typedef struct tsr_views {
    const tsr_view_spec *at;
    int n;
} tsr_views;

/* OK, or ARGUMENT with what is wrong. */
TSR_API tsr_status tsr_views_check(const tsr_views *views);
/* The tsr_jpeg_options.min_short_side that never leaves a crop smaller than what it is resized to,
 * whatever is drawn. */
TSR_API int tsr_views_min_short_side(const tsr_views *views);

/* -------------------- data sets --------------------------------------------------------------- */

/* Images with names and perhaps labels. Several threads may load from one data set at once. */
typedef struct tsr_dataset tsr_dataset;

/*
 * Opens what lies at path: IDX pairs (train-images-idx3-ubyte, plain or .gz, ...: MNIST and its
 * kin), CIFAR-10 and CIFAR-100 binaries, WebDataset shards (a folder of .tar files, or their names
 * as a pattern: "train-{000..146}.tar", "*.tar"), a folder with a folder of JPEGs for each class, or
 * a flat folder of JPEGs without labels. split is "train", "val", "test" or NULL (train where there is
 * one, else all). A folder with children named after splits is searched there. NULL on failure: IO,
 * ARGUMENT (no such split), FORMAT; the message says what was found.
 */
TSR_API tsr_dataset *tsr_dataset_open(const char *path, const char *split);
TSR_API void tsr_dataset_close(tsr_dataset **data);

/* "image folder", "flat folder", "shards", "IDX", "CIFAR-10", "CIFAR-100" or that of a vtable. */
TSR_API const char *tsr_dataset_kind(const tsr_dataset *data);
/* The three channels of every image are known to be equal, without reading it; false says nothing. */
TSR_API bool tsr_dataset_is_grey(const tsr_dataset *data);
TSR_API int64_t tsr_dataset_count(const tsr_dataset *data);
TSR_API int64_t tsr_dataset_classes(const tsr_dataset *data); /* 0: no labels */
/* NULL when c is out of range. */
TSR_API const char *tsr_dataset_class_name(const tsr_dataset *data, int64_t c);
TSR_API int64_t tsr_dataset_label(const tsr_dataset *data, int64_t i); /* -1: none */
/* Path below the data set's folder, or "file[i]" for sets that are one file; into buffer, which it
 * returns. */
enum { TSR_DATASET_NAME = 512 };
TSR_API const char *tsr_dataset_name(const tsr_dataset *data, int64_t i,
                                     char buffer[TSR_DATASET_NAME]);

/*
 * Loads image i. Where it cannot be read it is noted among the problems and the next one that can
 * (i + 1, i + 2, ..., from the front again after the last) takes its place: *loaded is the index of
 * what was loaded (may be NULL). min_short_side as in tsr_jpeg_options. FORMAT: not one image can
 * be read; MEMORY.
 */
TSR_API tsr_status tsr_dataset_load(tsr_dataset *data, int64_t i, int min_short_side,
                                    tsr_image *image, int64_t *loaded);

typedef struct tsr_dataset_problem {
    int64_t index;
    bool skipped;     /* replaced by another image; false: used as far as it goes */
    const char *text; /* lives as long as the data set */
} tsr_dataset_problem;

/* What loading has met so far: returns how many images had a problem, and copies up to max of them,
 * sorted by index. *skipped (may be NULL) is how many of them were replaced. All are counted; the
 * texts of the first thousand are kept. */
TSR_API int64_t tsr_dataset_problems(tsr_dataset *data, tsr_dataset_problem *out, int64_t max,
                                     int64_t *skipped);

/* A data set of your own. self belongs to the data set from the call on, even when it fails; close
 * may be NULL. load is called by several threads at once; it fails with IO or FORMAT for an image
 * to be skipped, and may set *warning to a string constant. */
typedef struct tsr_dataset_vtable {
    const char *kind;
    bool grey; /* all images are known to be: tsr_dataset_is_grey() */
    int64_t (*count)(const void *self);
    int64_t (*classes)(const void *self);
    const char *(*class_name)(const void *self, int64_t c);
    int64_t (*label)(const void *self, int64_t i);
    void (*name)(const void *self, int64_t i, char *buffer, size_t bytes);
    tsr_status (*load)(const void *self, int64_t i, int min_short_side, tsr_image *image,
                       const char **warning);
    /* The JPEG file of image i, from tsr_alloc(); NULL: images are not files. */
    tsr_status (*file)(const void *self, int64_t i, void **data, size_t *bytes);
    void (*close)(void *self);
} tsr_dataset_vtable;

TSR_API tsr_dataset *tsr_dataset_make(const tsr_dataset_vtable *vtable, void *self);

/* Images of `whole`, which must outlive the result: those of the indices [n], n 1 or more, in this
 * order. An image that cannot be read is replaced by another of them. ARGUMENT. */
TSR_API tsr_dataset *tsr_dataset_subset(tsr_dataset *whole, const int64_t *indices, int64_t n);
/* The share `fraction` (0 to 1) of each class, rounded, and at least one image: a function of the
 * seed and of the images of the class alone. ARGUMENT: no labels. */
TSR_API tsr_dataset *tsr_dataset_label_fraction(tsr_dataset *whole, double fraction, uint64_t seed);
/* Those that a text file names, a line each: as tsr_dataset_name() gives it, or its last part alone
 * ("n01440764_10026.JPEG", as the lists of SimCLR v2). IO, FORMAT, ARGUMENT: a name that no image
 * has, or several. */
TSR_API tsr_dataset *tsr_dataset_label_list(tsr_dataset *whole, const char *path);

/* -------------------- loader ------------------------------------------------------------------ */

/*
 * Threads load images and turn each into its part of a batch, ahead of the consumer. What a batch
 * holds is a function of (seed, epoch, step) and the data set alone, not of the number of workers;
 * a loader may start anywhere.
 */
typedef struct tsr_loader tsr_loader;

/* One tensor of a batch of n samples: [copies * n, shape...], copy-major: row c * n + s is copy c
 * of sample s. */
typedef struct tsr_loader_field {
    const char *name;
    tsr_dtype dtype;
    int copies; /* 0: one */
    tsr_shape shape;
} tsr_loader_field;

/* One sample of a batch, for a sample function. */
typedef struct tsr_loader_sample {
    const tsr_image *image;
    int64_t index; /* of the image in the data set */
    int64_t label; /* -1: none */
    int64_t epoch;
    /* Of (seed, epoch, the index that was asked for), with purpose 0: set purpose before use. */
    tsr_rng rng;
    int64_t position, n; /* this sample of the n in the batch */
    void *const *fields; /* the tensors' data; use tsr_sample_at() */
    const size_t *row_bytes;
} tsr_loader_sample;

/* Where copy c of a field goes for this sample. */
static inline void *tsr_sample_at(const tsr_loader_sample *sample, int field, int copy)
{
    size_t row = (size_t)(copy * sample->n + sample->position);
    return (char *)sample->fields[field] + row * sample->row_bytes[field];
}

/* Fills every field of one sample. Called by several threads at once; user must not change. On
 * failure: tsr_fail(), and its status. */
typedef tsr_status tsr_sample_function(const tsr_loader_sample *sample, void *user);

/* NULL options: all zero. */
typedef struct tsr_loader_options {
    int64_t batch; /* samples; 0: 64 */
    int workers;   /* threads; 0: tsr_threads() */
    int prefetch;  /* batches made ahead; 0: 2 */
    uint64_t seed;
    bool in_order;       /* as the data set has it, instead of a new permutation each epoch */
    bool keep_last;      /* also the last, smaller batch of an epoch; by default it is dropped */
    int64_t epoch, step; /* the first batch */
    int64_t end_epoch;   /* stop before this epoch; 0: never */
    int min_short_side;  /* see tsr_jpeg_options */
} tsr_loader_options;

/* data and user must outlive the loader. NULL on failure: ARGUMENT, MEMORY, STATE (no thread could
 * be started). */
TSR_API tsr_loader *tsr_loader_open(tsr_dataset *data, const tsr_loader_field *fields, int n_fields,
                                    tsr_sample_function *function, void *user,
                                    const tsr_loader_options *options);
/*
 * The loader of a recipe's views. Fields: for each name N of the specs "N" f32 [3, size, size] with
 * all its copies, spec by spec; "N.mask" u8 [size / patch, size / patch] where its specs have masks
 * (zeros for those that have none, when another of the same name has); "label" i64 and "index" i64.
 * views must outlive the loader.
 */
TSR_API tsr_loader *tsr_loader_open_views(tsr_dataset *data, const tsr_views *views,
                                          const tsr_loader_options *options);
/* At any time: workers finish their sample and end. */
TSR_API void tsr_loader_close(tsr_loader **loader);
TSR_API int64_t tsr_loader_steps(const tsr_loader *loader); /* batches an epoch */

typedef struct tsr_batch {
    int64_t epoch, step;
    int64_t n; /* samples */
    const struct tsr_batch_fields *fields;
} tsr_batch;

/* The next batch, valid until the next call. NULL after the last one, or on failure: the first
 * failing sample's status and message. */
TSR_API const tsr_batch *tsr_loader_next(tsr_loader *loader);
/* A field's tensor, lent to the innermost scope; the next tsr_loader_next() gives its
 * storage to another batch. ARGUMENT: no such field. */
TSR_API tsr_tensor *tsr_batch_tensor(const tsr_batch *batch, const char *name);
/* All fields, in the order of opening. name NULL and copies 0 when i is out of range. */
TSR_API int tsr_batch_field_count(const tsr_batch *batch);
TSR_API const char *tsr_batch_field_name(const tsr_batch *batch, int i);
TSR_API int tsr_batch_field_copies(const tsr_batch *batch, int i);

#ifdef __cplusplus
}
#endif

#endif
