/*
 * y [B, C, OH, OW] = x [B, C, H, W] resampled, along the columns and then along the rows, with weights that depend on
 * nothing but the sizes: Y = R X C^T, so dX = R^T dY C (ops/resample.h).
 *
 * Where output i lies on the axis, with s = in / out or 1 / scale (align_corners: (in - 1) / (out - 1)), and its weights:
 *   nearest    floor(s i), in single precision as PyTorch computes it
 *   bilinear   p = s (i + 1/2) - 1/2 (align_corners: s i), not below 0; 1 - t and t of its neighbours
 *   bicubic    the same p; Keys' kernel (1981) with a = -3/4 of four neighbours, the border repeated
 *   antialias  the triangle, or Keys' kernel with a = -1/2, stretched by s where that is above 1, centred at s (i + 1/2),
 *              cut at the border and scaled to a sum of 1 (as Pillow)
 * Where out = in (but for plain bicubic), or out = 2 in (nearest), a given scale does not count: as in PyTorch's forward.
 */
#include "ops/ops.h"
#include "ops/resample.h"
#include "ops/samples.h"
#include "ops/windows.h"

#include <inttypes.h>
#include <math.h>

struct interpolate {
    int64_t in[2], out[2];
    tsr_interpolate_options options;
};

/* Output i's weight of input j, which may lie outside and then counts for the border. */
static void add_tap(tsr_taps *taps, int64_t i, int64_t j, double weight)
{
    tsr_taps__add(taps, i, j < 0 ? 0 : j > taps->in - 1 ? taps->in - 1 : j, weight);
}

static double cubic(double x, double a)
{
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

static double triangle(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* The input positions that an antialiased output reaches to each side. */
static double reach(bool bicubic, double step)
{
    return (bicubic ? 2.0 : 1.0) * fmax(step, 1.0);
}

static void antialiased(tsr_taps *taps, int64_t i, bool bicubic, double step)
{
    double centre = step * ((double)i + 0.5), shrink = 1.0 / fmax(step, 1.0), sum = 0.0;
    double support = reach(bicubic, step);
    int64_t first = (int64_t)fmax(centre - support + 0.5, 0.0);
    int64_t last = (int64_t)fmin(centre + support + 0.5, (double)taps->in);
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t j = first; j < last; j++) {
            double at = ((double)j - centre + 0.5) * shrink;
            double weight = bicubic ? cubic(at, -0.5) : triangle(at);
            if (pass == 0) {
                sum += weight;
            } else {
                add_tap(taps, i, j, sum != 0.0 ? weight / sum : weight);
            }
        }
    }
}

static bool make(const void *block, int d, tsr_taps *taps)
{
    const struct interpolate *s = block;
    const tsr_interpolate_options *o = &s->options;
    int64_t in = s->in[d], out = s->out[d];
    bool bicubic = o->mode == TSR_INTERPOLATION_BICUBIC;
    bool nearest = o->mode == TSR_INTERPOLATION_NEAREST;
    bool shortcut = out == in ? !bicubic || o->antialias : nearest && out == 2 * in;
    double step = o->scale[d] > 0.0 && !shortcut ? 1.0 / o->scale[d] : (double)in / (double)out;
    if (o->align_corners) step = out > 1 ? (double)(in - 1) / (double)(out - 1) : 0.0;
    double most = o->antialias ? fmin(2.0 * ceil(reach(bicubic, step)) + 1.0, (double)in) : 4.0;
    if (!tsr_taps__open(in, out, (int64_t)most, taps)) return false;
    for (int64_t i = 0; i < out; i++) {
        if (nearest) {
            add_tap(taps, i, (int64_t)fminf(floorf((float)i * (float)step), (float)in), 1.0);
            continue;
        }
        if (o->antialias) {
            antialiased(taps, i, bicubic, step);
            continue;
        }
        double p = o->align_corners ? step * (double)i : step * ((double)i + 0.5) - 0.5;
        if (!bicubic) p = fmax(p, 0.0);
        p = fmin(p, (double)in + 1.0); /* a scale that was given may point far outside */
        int64_t j = (int64_t)floor(p);
        double t = p - (double)j;
        if (bicubic) {
            for (int k = -1; k <= 2; k++) add_tap(taps, i, j + k, cubic((double)k - t, -0.75));
        } else {
            add_tap(taps, i, j, 1.0 - t);
            add_tap(taps, i, j + 1, t);
        }
    }
    return true;
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    grad_inputs[0] = tsr_resample__transpose(make, tsr_node_block(node), grad_outputs[0]);
}

static void definition(const void *block, tsr_tensors inputs, tsr_tensor **outputs)
{
    outputs[0] = tsr_resample__definition(make, block, inputs.at[0]);
}

static const tsr_field fields[] = {
    TSR_FIELD(struct interpolate, "mode", options.mode),
    TSR_FIELD(struct interpolate, "align_corners", options.align_corners),
    TSR_FIELD(struct interpolate, "antialias", options.antialias),
    TSR_FIELD(struct interpolate, "scale", options.scale),
    {0}};

static const tsr_op op = {.name = "interpolate",
                          .block_size = sizeof(struct interpolate),
                          .backward = backward,
                          .definition = definition,
                          .fields = fields};

static bool options_are_sound(const struct interpolate *s)
{
    const tsr_interpolate_options *o = &s->options;
    for (int d = 0; d < 2; d++) {
        if (s->in[d] < 1 || s->in[d] > INT32_MAX || s->out[d] < 1 || s->out[d] > INT32_MAX) {
            tsr_fail(TSR_STATUS_SHAPE,
                     "%s: from %" PRId64 " x %" PRId64 " to %" PRId64 " x %" PRId64
                     ", expected sizes of 1 or more",
                     op.name, s->in[0], s->in[1], s->out[0], s->out[1]);
            return false;
        }
        if (o->scale[d] != 0.0 && !(o->scale[d] >= 0x1p-31 && o->scale[d] <= 0x1p31)) {
            tsr_fail(TSR_STATUS_ARGUMENT, "%s: scale is %g, expected 0 or a factor above 0",
                     op.name, o->scale[d]);
            return false;
        }
    }
    if ((int)o->mode < 0 || o->mode > TSR_INTERPOLATION_BICUBIC) {
        tsr_fail(TSR_STATUS_ARGUMENT, "%s: mode is %d, expected a tsr_interpolation", op.name,
                 (int)o->mode);
        return false;
    }
    if (o->mode == TSR_INTERPOLATION_NEAREST && (o->align_corners || o->antialias)) {
        tsr_fail(TSR_STATUS_ARGUMENT, "%s: %s goes with bilinear or bicubic, not with nearest",
                 op.name, o->align_corners ? "align_corners" : "antialias");
        return false;
    }
    return true;
}

tsr_tensor *tsr_interpolate(tsr_tensor *x, int64_t h, int64_t w,
                            const tsr_interpolate_options *options)
{
    if (x == NULL || !tsr_windows__is_images(op.name, "x", x)) return NULL;
    struct interpolate s = {{tsr_tensor_size(x, 2), tsr_tensor_size(x, 3)}, {h, w}, {0}};
    if (options != NULL) s.options = *options;
    if (!options_are_sound(&s)) return NULL;
    tsr_tensor *y = tsr_resample__apply(make, &s, x);
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

struct args {
    int64_t h, w;
    tsr_interpolate_options options;
};

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    const struct args *a = ((const tsr_sample *)user)->args;
    out[0] = tsr_interpolate(in.at[0], a->h, a->w, &a->options);
}

#define SAMPLE(name, h, w, oh, ow, ...)                                                            \
    {                                                                                              \
        name, 1, 1, {{{4, {2, 2, h, w}}}}, call, &(const struct args)                              \
        {                                                                                          \
            oh, ow,                                                                                \
            {                                                                                      \
                __VA_ARGS__                                                                        \
            }                                                                                      \
        }                                                                                          \
    }

static const tsr_sample samples[] = {
    SAMPLE("nearest", 3, 5, 5, 3, TSR_INTERPOLATION_NEAREST),
    SAMPLE("bilinear up", 3, 4, 5, 7, TSR_INTERPOLATION_BILINEAR),
    SAMPLE("bilinear down, corners", 5, 6, 3, 4, TSR_INTERPOLATION_BILINEAR, .align_corners = true),
    SAMPLE("bilinear, antialias", 7, 5, 3, 8, TSR_INTERPOLATION_BILINEAR, .antialias = true),
    SAMPLE("bicubic, scale given", 4, 4, 6, 5, TSR_INTERPOLATION_BICUBIC, .scale = {1.525, 1.275}),
    SAMPLE("bicubic, corners", 4, 3, 2, 5, TSR_INTERPOLATION_BICUBIC, .align_corners = true),
    SAMPLE("bicubic, antialias", 9, 6, 4, 7, TSR_INTERPOLATION_BICUBIC, .antialias = true),
    SAMPLE("one cell", 1, 1, 2, 3, TSR_INTERPOLATION_BICUBIC),
    {"no samples",
     1,
     1,
     {{{4, {0, 3, 4, 5}}}},
     call,
     &(const struct args){2, 3, {TSR_INTERPOLATION_BILINEAR}}},
};
TSR_SAMPLES(interpolate, samples);
