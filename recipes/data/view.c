/* Views as data: what one random augmentation is, and how it is drawn. */
#include "recipes/data/data.h"

#include <math.h>
#include <string.h>

static const float imagenet_mean[3] = {0.485f, 0.456f, 0.406f};
static const float imagenet_std[3] = {0.229f, 0.224f, 0.225f};

/* What iBOT's three pipelines share. */
static tsr_view_spec ibot_view(const char *name, int size)
{
    return (tsr_view_spec){
        .name = name,
        .size = size,
        .copies = 1,
        .flip_p = 0.5,
        .jitter_p = 0.8,
        .brightness = 0.4,
        .contrast = 0.4,
        .saturation = 0.2,
        .hue = 0.1,
        .gray_p = 0.2,
        .blur_lo = 0.1,
        .blur_hi = 2.0,
    };
}

tsr_view_spec tsr_view_ibot_global1(int size)
{
    tsr_view_spec spec = ibot_view("global", size);
    spec.scale_lo = 0.25, spec.scale_hi = 1.0;
    spec.blur_p = 1.0;
    return spec;
}

tsr_view_spec tsr_view_ibot_global2(int size)
{
    tsr_view_spec spec = ibot_view("global", size);
    spec.scale_lo = 0.25, spec.scale_hi = 1.0;
    spec.blur_p = 0.1;
    spec.solarize_p = 0.2;
    return spec;
}

tsr_view_spec tsr_view_ibot_local(int size, int copies)
{
    tsr_view_spec spec = ibot_view("local", size);
    spec.copies = copies;
    spec.scale_lo = 0.05, spec.scale_hi = 0.25;
    spec.blur_p = 0.5;
    return spec;
}

tsr_view_spec tsr_view_eval(int size)
{
    int resize = size < 64 ? size : (int)rint(size * (256.0 / 224.0));
    return (tsr_view_spec){.name = "image", .size = size, .copies = 1, .resize_short = resize};
}

tsr_view_spec tsr_view_linear(int size)
{
    return (tsr_view_spec){.name = "image",
                           .size = size,
                           .copies = 1,
                           .interpolation = TSR_RESAMPLE_BILINEAR,
                           .flip_p = 0.5};
}

tsr_view_spec tsr_view_finetune(int size)
{
    return (tsr_view_spec){.name = "image",
                           .size = size,
                           .copies = 1,
                           .flip_p = 0.5,
                           .rand_layers = 2,
                           .rand_magnitude = 9.0,
                           .rand_deviation = 0.5,
                           .erase_p = 0.25};
}

static void crop_limits(const tsr_view_spec *spec, double scale[2], double ratio[2])
{
    bool no_scale = spec->scale_lo == 0.0 && spec->scale_hi == 0.0;
    bool no_ratio = spec->ratio_lo == 0.0 && spec->ratio_hi == 0.0;
    scale[0] = no_scale ? 0.08 : spec->scale_lo;
    scale[1] = no_scale ? 1.0 : spec->scale_hi;
    ratio[0] = no_ratio ? 3.0 / 4.0 : spec->ratio_lo;
    ratio[1] = no_ratio ? 4.0 / 3.0 : spec->ratio_hi;
}

tsr_box tsr_view_crop(const tsr_view_spec *spec, int height, int width, tsr_rng *rng)
{
    double scale[2], ratio[2];
    crop_limits(spec, scale, ratio);
    for (int tries = 0; tries < 10; tries++) {
        double area = (double)height * width * tsr_rng_range(rng, scale[0], scale[1]);
        double aspect = exp(tsr_rng_range(rng, log(ratio[0]), log(ratio[1])));
        double w = rint(sqrt(area * aspect)), h = rint(sqrt(area / aspect));
        if (w > 0 && w <= width && h > 0 && h <= height) {
            tsr_box box = {.height = (int)h, .width = (int)w};
            box.top = (int)tsr_rng_below(rng, height - box.height + 1);
            box.left = (int)tsr_rng_below(rng, width - box.width + 1);
            return box;
        }
    }
    tsr_box box = {.height = height, .width = width};
    double whole = (double)width / height;
    if (whole < ratio[0]) box.height = (int)rint(width / ratio[0]);
    if (whole > ratio[1]) box.width = (int)rint(height * ratio[1]);
    /* A ratio far from 1 on an image of a few pixels rounds to nothing. */
    if (box.height < 1) box.height = 1;
    if (box.width < 1) box.width = 1;
    box.top = (height - box.height) / 2;
    box.left = (width - box.width) / 2;
    return box;
}

static double jitter_factor(double strength, tsr_rng *rng)
{
    return tsr_rng_range(rng, strength < 1.0 ? 1.0 - strength : 0.0, 1.0 + strength);
}

static void jitter(const tsr_view_spec *spec, tsr_image *image, tsr_rng *rng)
{
    int64_t order[4];
    tsr_rng_permutation(rng, 4, order);
    double brightness = jitter_factor(spec->brightness, rng);
    double contrast = jitter_factor(spec->contrast, rng);
    double saturation = jitter_factor(spec->saturation, rng);
    double hue = tsr_rng_range(rng, -spec->hue, spec->hue);
    for (int i = 0; i < 4; i++) {
        switch (order[i]) {
        case 0:
            if (spec->brightness > 0.0) tsr_image_brightness(image, brightness);
            break;
        case 1:
            if (spec->contrast > 0.0) tsr_image_contrast(image, contrast);
            break;
        case 2:
            if (spec->saturation > 0.0) tsr_image_saturation(image, saturation);
            break;
        default:
            if (spec->hue > 0.0) tsr_image_hue(image, hue);
            break;
        }
    }
}

static tsr_status resize_and_center(const tsr_view_spec *spec, const tsr_image *image,
                                    tsr_image *out)
{
    tsr_image whole = {0};
    tsr_status status =
        tsr_image_resize_short(image, spec->resize_short, spec->interpolation, &whole);
    if (status == TSR_STATUS_OK) {
        status = tsr_image_center_crop(&whole, spec->size, spec->size, out);
    }
    tsr_image_free(&whole);
    return status;
}

static bool happens(double p, tsr_rng *rng)
{
    return p > 0.0 && tsr_rng_uniform(rng) < p;
}

static bool is_imagenet(const tsr_view_spec *spec)
{
    return spec->std[0] == 0.0f && spec->std[1] == 0.0f && spec->std[2] == 0.0f;
}

const float *tsr_view_mean(const tsr_view_spec *spec)
{
    return is_imagenet(spec) ? imagenet_mean : spec->mean;
}

const float *tsr_view_std(const tsr_view_spec *spec)
{
    return is_imagenet(spec) ? imagenet_std : spec->std;
}

tsr_status tsr_view_image(const tsr_view_spec *spec, const tsr_image *image, tsr_rng *rng,
                          tsr_image *out)
{
    tsr_status status;
    if (spec->resize_short > 0) {
        status = resize_and_center(spec, image, out);
    } else {
        tsr_box box = tsr_view_crop(spec, image->height, image->width, rng);
        status =
            tsr_image_resized_crop(image, box, spec->size, spec->size, spec->interpolation, out);
    }
    if (status != TSR_STATUS_OK) return status;
    if (happens(spec->flip_p, rng)) tsr_image_hflip(out);
    if (spec->rand_layers > 0) {
        const float *mean = tsr_view_mean(spec);
        uint8_t fill[3];
        for (int c = 0; c < 3; c++) fill[c] = (uint8_t)fminf(255.0f, rintf(255.0f * mean[c]));
        status = tsr_image_randaugment(out, spec->rand_layers, spec->rand_magnitude,
                                       spec->rand_deviation, fill, rng);
        if (status != TSR_STATUS_OK) return status;
    }
    if (happens(spec->jitter_p, rng)) jitter(spec, out, rng);
    if (happens(spec->gray_p, rng)) tsr_image_grayscale(out);
    if (happens(spec->blur_p, rng)) {
        status = tsr_image_gaussian_blur(out, tsr_rng_range(rng, spec->blur_lo, spec->blur_hi));
    }
    if (happens(spec->solarize_p, rng)) {
        tsr_image_solarize(out, spec->solarize_threshold > 0 ? spec->solarize_threshold : 128);
    }
    return status;
}

tsr_status tsr_view_apply(const tsr_view_spec *spec, const tsr_image *image, tsr_rng *rng,
                          float *out)
{
    tsr_image view = {0};
    tsr_status status = tsr_view_image(spec, image, rng, &view);
    if (status == TSR_STATUS_OK) {
        tsr_image_normalize(&view, tsr_view_mean(spec), tsr_view_std(spec), out);
        if (happens(spec->erase_p, rng)) tsr_view_erase(out, 3, spec->size, rng);
    }
    tsr_image_free(&view);
    return status;
}

static bool is_probability(double p)
{
    return p >= 0.0 && p <= 1.0;
}

static tsr_status check_spec(const tsr_view_spec *spec)
{
    const char *name = spec->name;
    if (name == NULL || name[0] == '\0' || strlen(name) > 100) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "view: the name must have 1 to 100 characters");
    }
    if (spec->size < 1 || spec->size > 8192 || spec->copies < 0 || spec->copies > 1000) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "view %s: size %d, %d copies; expected 1 to 8192 and 0 to 1000", name,
                        spec->size, spec->copies);
    }
    if (spec->resize_short < 0 || spec->resize_short > 16384) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "view %s: resize_short is %d, expected 0 to 16384",
                        name, spec->resize_short);
    }
    double scale[2], ratio[2];
    crop_limits(spec, scale, ratio);
    if (!(scale[0] > 0.0 && scale[0] <= scale[1] && scale[1] <= 1.0)) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "view %s: scale %g to %g, expected 0 < lo <= hi <= 1",
                        name, scale[0], scale[1]);
    }
    if (!(ratio[0] > 0.0 && ratio[0] <= ratio[1] && ratio[1] <= 1e6)) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "view %s: ratio %g to %g, expected 0 < lo <= hi", name,
                        ratio[0], ratio[1]);
    }
    if (!is_probability(spec->flip_p) || !is_probability(spec->jitter_p) ||
        !is_probability(spec->gray_p) || !is_probability(spec->blur_p) ||
        !is_probability(spec->solarize_p) || !is_probability(spec->erase_p)) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "view %s: a probability is not in 0 to 1", name);
    }
    if (spec->rand_layers < 0 || spec->rand_layers > 100 ||
        !(spec->rand_magnitude >= 0.0 && spec->rand_magnitude <= 10.0 &&
          spec->rand_deviation >= 0.0 && spec->rand_deviation <= 100.0)) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "view %s: %d layers of RandAugment, magnitude %g, deviation %g; expected 0 "
                        "to 100, 0 to 10 and 0 to 100",
                        name, spec->rand_layers, spec->rand_magnitude, spec->rand_deviation);
    }
    if (!(spec->brightness >= 0.0 && spec->contrast >= 0.0 && spec->saturation >= 0.0 &&
          spec->hue >= 0.0 && spec->hue <= 0.5)) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "view %s: jitter strengths must not be negative, hue at most 0.5", name);
    }
    if (!(spec->blur_lo >= 0.0 && spec->blur_lo <= spec->blur_hi && spec->blur_hi <= 10000.0)) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "view %s: blur %g to %g, expected 0 <= lo <= hi", name,
                        spec->blur_lo, spec->blur_hi);
    }
    return tsr_mask_check(&spec->mask, spec->size);
}

/* What decides which part of an image is seen, and whether it is flipped. */
static bool same_crop(const tsr_view_spec *a, const tsr_view_spec *b)
{
    double sa[2], ra[2], sb[2], rb[2];
    crop_limits(a, sa, ra);
    crop_limits(b, sb, rb);
    return a->resize_short == 0 && b->resize_short == 0 && a->copies == b->copies &&
           sa[0] == sb[0] && sa[1] == sb[1] && ra[0] == rb[0] && ra[1] == rb[1] &&
           a->flip_p == b->flip_p;
}

tsr_status tsr_views_check(const tsr_views *views)
{
    if (views == NULL || views->at == NULL || views->n < 1) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "views: none given");
    }
    for (int i = 0; i < views->n; i++) {
        const tsr_view_spec *spec = &views->at[i];
        tsr_status status = check_spec(spec);
        if (status != TSR_STATUS_OK) return status;
        if (spec->paired && (i == 0 || !same_crop(spec, &views->at[i - 1]))) {
            return tsr_fail(TSR_STATUS_ARGUMENT,
                            "view %s: paired, but the view before it has not its copies, scale, "
                            "ratio and flip, or is no random crop",
                            spec->name);
        }
        for (int j = 0; j < i; j++) {
            const tsr_view_spec *other = &views->at[j];
            if (strcmp(spec->name, other->name) != 0) continue;
            if (spec->size != other->size) {
                return tsr_fail(TSR_STATUS_ARGUMENT,
                                "view %s: sizes %d and %d; views of one name are stacked",
                                spec->name, other->size, spec->size);
            }
            if (spec->mask.kind != TSR_MASK_NONE && other->mask.kind != TSR_MASK_NONE &&
                spec->mask.patch != other->mask.patch) {
                return tsr_fail(TSR_STATUS_ARGUMENT, "view %s: masks of patch %d and %d",
                                spec->name, other->mask.patch, spec->mask.patch);
            }
        }
    }
    return TSR_STATUS_OK;
}

int tsr_views_min_short_side(const tsr_views *views)
{
    double need = 1.0;
    for (int i = 0; i < views->n; i++) {
        const tsr_view_spec *spec = &views->at[i];
        double scale[2], ratio[2];
        crop_limits(spec, scale, ratio);
        /* A crop has the area scale * height * width >= scale * short^2; its short side is
         * sqrt(area * r), r the ratio or its inverse, whichever is smaller. */
        double r = ratio[0] < 1.0 / ratio[1] ? ratio[0] : 1.0 / ratio[1];
        double side = spec->resize_short > 0 ? spec->resize_short
                                             : spec->size / sqrt(scale[0] * (r < 1.0 ? r : 1.0));
        if (side > need) need = side;
    }
    return need < TSR_IMAGE_MAX_SIDE ? (int)ceil(need) : TSR_IMAGE_MAX_SIDE;
}
