/* tessera plan, and pretrain --dry-run: what a run will take, from a step of it. */
#include "recipes/cli/cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

enum { TRIAL = 2 };

/* ---- images of noise, in place of a data set ---- */

struct noise {
    int64_t count;
    int side;
};

static int64_t noise_count(const void *self)
{
    return ((const struct noise *)self)->count;
}

enum { NOISE_CLASSES = 1000 }; /* as many as ImageNet-1k has */

static int64_t noise_classes(const void *self)
{
    (void)self;
    return NOISE_CLASSES;
}

static int64_t noise_label(const void *self, int64_t i)
{
    (void)self;
    return i % NOISE_CLASSES;
}

static void noise_name(const void *self, int64_t i, char *buffer, size_t bytes)
{
    (void)self;
    snprintf(buffer, bytes, "noise[%" PRId64 "]", i);
}

static tsr_status noise_load(const void *self, int64_t i, int min_short_side, tsr_image *image,
                             const char **warning)
{
    const struct noise *noise = self;
    (void)min_short_side;
    (void)warning;
    if (tsr_image_resize_storage(image, noise->side, noise->side) != TSR_STATUS_OK)
        return tsr_status_get();
    image->grey = false;
    tsr_rng rng = tsr_rng_make(0, 0, (uint32_t)i, tsr_rng_purpose("noise"));
    for (int k = 0; k < noise->side * noise->side * 3; k++)
        image->pixels[k] = (uint8_t)tsr_rng_u32(&rng);
    return TSR_STATUS_OK;
}

static const tsr_dataset_vtable noise_vtable = {.kind = "noise",
                                                .count = noise_count,
                                                .classes = noise_classes,
                                                .label = noise_label,
                                                .name = noise_name,
                                                .load = noise_load,
                                                .close = tsr_free};

static tsr_dataset *make_noise(int64_t count, int side)
{
    struct noise *noise = tsr_alloc(sizeof *noise);
    if (noise == NULL) return NULL;
    *noise = (struct noise){count, side};
    return tsr_dataset_make(&noise_vtable, noise);
}

/* ---- one trial ---- */

struct trial {
    int64_t batch, micro; /* images */
    tsr_trial of;
};

/* Steps of t->batch images. */
static tsr_status run_trial(const tsr_trial_run *run, tsr_train_options train, struct trial *t)
{
    train.batch = t->batch;
    train.micro_batch = t->micro < t->batch ? t->micro : 0;
    return tsr_trial__run(run, &train, true, &t->of);
}

/* ---- the estimate ---- */

static double available_bytes(void)
{
    double bytes = (double)sysconf(_SC_AVPHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    FILE *file = fopen("/proc/meminfo", "r"); /* counts what the page cache would give back too */
    char line[128];
    long long kb;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "MemAvailable: %lld kB", &kb) == 1) bytes = 1024.0 * (double)kb;
    }
    if (file != NULL) fclose(file);
    return bytes;
}

static void print_time(const struct trial *t, int64_t images, int64_t epochs)
{
    int64_t steps = images / t->batch;
    char epoch[TSR_SCREEN_DURATION], run[TSR_SCREEN_DURATION];
    double of_epoch = (double)steps * t->of.seconds;
    printf("time        %.3g s a step of %" PRId64 ", %.3g images/s; an epoch of %" PRId64
           " steps %s, the run of %" PRId64 " epochs %s\n",
           t->of.seconds, t->batch, (double)t->batch / t->of.seconds, steps,
           tsr_screen__duration(of_epoch, epoch), epochs,
           tsr_screen__duration(of_epoch * (double)epochs, run));
}

static void print_plan(const struct trial *t, int64_t images, int64_t epochs, bool measured)
{
    double gb = 1e9, flops = 2.0 * t->of.products / (double)t->batch;
    printf("parameters  %.2f M trained, %.2f M in the teacher\n", (double)t->of.student / 1e6,
           (double)t->of.teacher / 1e6);
    printf("arithmetic  %.3g GFLOP of matrix products an image; %.3g GFLOP/s\n", flops / 1e9,
           flops * (double)t->batch / t->of.seconds / 1e9);
    printf(
        "memory      %.3g GB: parameters, gradients, moments and teacher %.3g, activations and batches %.3g; "
        "%.3g are free\n",
        t->of.bytes / gb, t->of.state / gb, (t->of.bytes - t->of.state) / gb,
        available_bytes() / gb);
    print_time(t, images, epochs);
    printf(
        "            %s\n",
        measured
            ? "measured, with these options"
            : "extrapolated from a smaller batch: this one does not fit; --micro-batch makes it smaller");
}

tsr_status tsr_plan__print(const tsr_trial_run *run, tsr_train_options *train, int64_t images)
{
    if (train->memory_budget > 0.0) {
        tsr_trial fit;
        if (tsr_trial__fit(run, train, &fit) != TSR_STATUS_OK) return tsr_status_get();
        printf("budget      micro-batch %" PRId64 ", blocks %s: %.3g GiB of %g\n",
               train->micro_batch > 0 ? train->micro_batch : train->batch,
               train->recompute_blocks ? "recomputed" : "kept", fit.reserved / 1073741824.0,
               train->memory_budget);
    }
    int64_t micro = train->micro_batch > 0 ? train->micro_batch : train->batch;
    if (train->batch > images) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "--batch: %" PRId64 " is more than the images there are (%" PRId64 ")",
                        train->batch, images);
    }
    if (train->batch % micro != 0) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "--micro-batch: %" PRId64 " does not divide --batch %" PRId64, micro,
                        train->batch);
    }
    struct trial small = {.batch = TRIAL < micro ? TRIAL : micro};
    small.micro = small.batch;
    if (run_trial(run, *train, &small) != TSR_STATUS_OK) return tsr_status_get();
    /* What grows with the batch, and what it would come to. */
    struct trial whole = small;
    whole.batch = train->batch;
    whole.micro = micro;
    double scale = (double)whole.batch / (double)small.batch;
    whole.of.bytes =
        small.of.state + (small.of.bytes - small.of.state) * (double)micro / (double)small.batch;
    whole.of.seconds *= scale;
    whole.of.products *= scale;
    char time[TSR_SCREEN_DURATION];
    bool fits = whole.of.bytes < 0.9 * available_bytes();
    if (fits && isatty(STDERR_FILENO)) {
        fprintf(stderr, "trying steps of %" PRId64 " images; this takes about %s\n", whole.batch,
                tsr_screen__duration(whole.of.seconds * 2.0, time));
    }
    if (fits && run_trial(run, *train, &whole) != TSR_STATUS_OK) return tsr_status_get();
    print_plan(&whole, images, train->epochs, fits);
    return TSR_STATUS_OK;
}

static int run(tsr_recipe_arguments *r, int argc, char **argv)
{
    tsr_trial_run plan = {.recipe = r->recipe};
    const char *folder = NULL;
    int64_t images = 1281167, seed = 0;
    const tsr_flag flags[] = {
        {"data", TSR_FLAG_TEXT, &folder, "DIR", "the images of the run"},
        {"images", TSR_FLAG_INT, &images, "N",
         "or how many there will be (noise is used); default 1281167, ImageNet-1k", 1, 1e12},
        TSR_PRESET_FLAG(*r),
        {"seed", TSR_FLAG_INT, &seed, "N", "of a run; default 0"},
        {"workers", TSR_FLAG_INT, &plan.workers, "N",
         "loader threads; default: as many as --threads", 0, 256},
    };
    char usage[128], example[128];
    snprintf(usage, sizeof usage, "plan %s [--data DIR] [options]", r->recipe->name);
    snprintf(example, sizeof example, "plan %s --images 100000 --epochs 100", r->recipe->name);
    tsr_arguments arguments = {
        .usage = usage,
        .example = example,
        .description = tsr_recipe_arguments__describe(
            r,
            "Takes a few steps of a run, writes nothing, and says how much memory, arithmetic and time all\n"
            "of it will take here. Options are those of tessera pretrain."),
        .flags = flags,
        .n_flags = sizeof flags / sizeof flags[0],
        .tables = r->tables,
        .n_tables = 2};
    int status = tsr_arguments__parse(&arguments, argc, argv);
    if (status >= 0) return status;
    plan.build = (tsr_build){.options = r->options, .dtype = TSR_DTYPE_F32, .seed = (uint64_t)seed};
    tsr_scope scope = tsr_scope_open();
    int side = (int)(r->train.image_size * 8 / 7);
    plan.data = folder != NULL ? tsr_dataset_open(folder, NULL) : make_noise(r->train.batch, side);
    if (plan.data != NULL) {
        plan.build.classes = tsr_dataset_classes(plan.data);
        tsr_plan__print(&plan, &r->train, folder != NULL ? tsr_dataset_count(plan.data) : images);
    }
    tsr_dataset_close(&plan.data);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_program__report();
}

int tsr_command__plan(int argc, char **argv)
{
    tsr_recipe_arguments r;
    int status = tsr_recipe_arguments__open(&r, "plan", argc, argv);
    if (status >= 0) return status;
    status = run(&r, argc - 1, argv + 1);
    tsr_recipe_arguments__close(&r);
    return status;
}
