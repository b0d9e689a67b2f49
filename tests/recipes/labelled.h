/* Small runs of the recipes that train with labels: images as IDX files in a folder of their own, options by name. */
#ifndef TESTS_LABELLED_H
#define TESTS_LABELLED_H

#include "tests/test.h"

#include "recipes/recipes.h"

#include <stdlib.h>
#include <unistd.h>

static char folder[256];

enum { LABELLED_SIDE = 16, LABELLED_CLASSES = 4, LABELLED_MAX = 80 };

static inline void write_file(const char *name, const void *data, size_t n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

/* The two IDX files of a part ("train", "fashion/t10k"): images [n, side, side], labels [n]. */
static inline void write_idx_part(const char *part, const uint8_t *images, const uint8_t *labels,
                                  int n, int side)
{
    size_t pixels = (size_t)n * (size_t)side * (size_t)side;
    uint8_t head[16] = {0, 0, 8, 3, 0, 0, (uint8_t)(n >> 8), (uint8_t)n};
    head[11] = head[15] = (uint8_t)side;
    uint8_t *file = malloc(16 + pixels);
    char name[64];
    memcpy(file, head, 16);
    memcpy(file + 16, images, pixels);
    snprintf(name, sizeof name, "%s-images-idx3-ubyte", part);
    write_file(name, file, 16 + pixels);
    file[3] = 1;
    memcpy(file + 8, labels, (size_t)n);
    snprintf(name, sizeof name, "%s-labels-idx1-ubyte", part);
    write_file(name, file, 8 + (size_t)n);
    free(file);
}

/* n noisy grey images, whose brightness is the class. */
static inline void write_part(const char *part, int n, uint64_t seed)
{
    enum { PIXELS = LABELLED_SIDE * LABELLED_SIDE };
    static uint8_t images[LABELLED_MAX * PIXELS], labels[LABELLED_MAX];
    tsr_rng rng = tsr_rng_make(seed, 0, 0, 0);
    for (int i = 0; i < n; i++) {
        int class = i % LABELLED_CLASSES;
        labels[i] = (uint8_t) class;
        for (int p = 0; p < PIXELS; p++)
            images[i * PIXELS + p] = (uint8_t)(20 + 60 * class + tsr_rng_below(&rng, 40));
    }
    write_idx_part(part, images, labels, n, LABELLED_SIDE);
}

static inline int make_folder(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/tessera-labelled-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(folder) == NULL) return -1;
    write_part("train", LABELLED_MAX, 1);
    write_part("t10k", 22, 2); /* not a multiple of any batch here */
    return 0;
}

static inline int remove_folder(void **state)
{
    (void)state;
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

/* A recipe with options for these images, then those of text: "epochs=3 batch=8". */
typedef struct labelled {
    const tsr_recipe *recipe;
    tsr_train_options train;
    void *options;
    tsr_run_options run;
    char out[512];
    double first, last; /* what validation measured first and last under the name of watched */
    const char *watched;
    int evaluations;
    char warning[512];
} labelled;

static inline void labelled_set(labelled *l, const char *text)
{
    char option[64], value[256];
    int used, n;
    const tsr_option *table = tsr_train_option_table(&n);
    for (; sscanf(text, " %63[^=]=%255s%n", option, value, &used) == 2; text += used) {
        const tsr_option *o = tsr_option_find(table, n, option);
        if (o != NULL) {
            tsr_option_set(o, &l->train, value);
            continue;
        }
        o = tsr_option_find(l->recipe->options, l->recipe->n_options, option);
        if (o == NULL) fail_msg("%s has no option %s", l->recipe->name, option);
        tsr_option_set(o, l->options, value);
    }
    assert_ok();
}

static inline void labelled_open(labelled *l, const char *recipe, const char *out, const char *text)
{
    *l = (labelled){.recipe = tsr_recipe_find(recipe), .watched = "accuracy", .evaluations = 0};
    assert_ok();
    l->options = calloc(1, l->recipe->options_size);
    tsr_recipe_defaults(l->recipe, &l->train, l->options);
    labelled_set(l, "image-size=16 patch-size=4 dim=24 depth=2 heads=2 epochs=3 batch=8 "
                    "warmup-epochs=1 scale-lr=false lr=2e-3 monitor-every=0");
    labelled_set(l, text);
    snprintf(l->out, sizeof l->out, "%s/%s", folder, out);
    l->run = (tsr_run_options){.data = folder, .out = l->out, .seed = 3, .workers = 1};
}

static inline void labelled_evaluated(const tsr_step_result *r, void *user)
{
    labelled *l = user;
    for (int i = 0; i < r->n_numbers; i++) {
        if (strcmp(r->numbers[i].name, l->watched) != 0) continue;
        l->last = r->numbers[i].value;
        if (l->evaluations++ == 0) l->first = l->last;
    }
}

static inline void labelled_warning(const char *text, void *user)
{
    snprintf(((labelled *)user)->warning, sizeof((labelled *)user)->warning, "%s", text);
}

static inline tsr_status labelled_run(labelled *l)
{
    const tsr_run_events events = {
        .user = l, .evaluated = labelled_evaluated, .warning = labelled_warning};
    return tsr_run(l->recipe, &l->train, l->options, &l->run, &events);
}

static inline void labelled_close(labelled *l)
{
    free(l->options);
}

/* The newest checkpoint's bytes; the caller frees them. */
static inline char *labelled_bytes(const labelled *l, size_t *bytes)
{
    char path[TSR_CHECKPOINT_PATH];
    int64_t step;
    tsr_checkpoint_latest(l->out, &step);
    FILE *f = fopen(tsr_checkpoint_path(l->out, step, path), "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *bytes = (size_t)ftell(f);
    char *data = malloc(*bytes);
    rewind(f);
    assert_int_equal(fread(data, 1, *bytes, f), *bytes);
    fclose(f);
    return data;
}

static inline void assert_same_runs(const labelled *a, const labelled *b)
{
    size_t na, nb;
    char *da = labelled_bytes(a, &na), *db = labelled_bytes(b, &nb);
    assert_int_equal(na, nb);
    assert_memory_equal(da, db, na);
    free(da);
    free(db);
}

/* Does a line of the run's log have this text? */
static inline bool labelled_logged(const labelled *l, const char *text)
{
    char path[600], line[4096];
    snprintf(path, sizeof path, "%s/log.jsonl", l->out);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    bool found = false;
    while (fgets(line, sizeof line, f) != NULL) found |= strstr(line, text) != NULL;
    fclose(f);
    return found;
}

#endif
