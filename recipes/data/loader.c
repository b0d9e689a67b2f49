/*
 * The loader: a ring of batches. Workers take samples in order from the oldest batch that still has
 * some; the consumer waits for the oldest batch to be complete, and gives its place back with the
 * next call. Which samples make up a batch is settled when its place is opened, so threads decide
 * only when things happen, not what.
 */
#include "recipes/data/internal.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

enum { MAX_FIELDS = 64, MAX_WORKERS = 256, MAX_PREFETCH = 1024, NAME = 128, MESSAGE = 512 };

struct tsr_batch_fields {
    int n;
    char name[MAX_FIELDS][NAME];
    int copies[MAX_FIELDS];
    tsr_tensor *tensor[MAX_FIELDS]; /* held; with room for a full batch */
    void *data[MAX_FIELDS];         /* where the workers write */
};

/* One place of the ring. */
struct place {
    struct tsr_batch_fields fields;
    tsr_batch batch;
    int64_t *order;      /* [n]: indices in the data set */
    int64_t taken, done; /* samples handed to workers; finished */
    int64_t failed_at;   /* position of the first sample that failed; n: none */
    tsr_status status;
    char message[MESSAGE];
};

struct tsr_loader {
    tsr_dataset *data;
    tsr_sample_function *function;
    void *user;
    tsr_loader_options options;
    size_t row_bytes[MAX_FIELDS];
    int64_t steps; /* an epoch */

    int64_t *order; /* of the whole epoch order_epoch; only the consumer's thread touches it */
    int64_t order_epoch;

    /* Batches are numbered from 0 for the first one asked for. */
    int64_t end; /* batches there are; INT64_MAX: without end */
    int n_places;
    struct place *places;

    pthread_mutex_t lock; /* of what follows and of the places' counters */
    pthread_cond_t work, ready;
    int64_t opened;   /* batches whose place is set up */
    int64_t working;  /* the oldest batch that may still have samples to hand out */
    int64_t consumed; /* batches given to the consumer */
    bool stop;
    int n_threads;
    pthread_t threads[MAX_WORKERS];

    /* The views that a loader of tsr_loader_open_views() makes. */
    struct view_plan *plan;
};

static void plan_free(struct view_plan *plan);

/* -------------------- workers ----------------------------------------------------------------- */

static tsr_status make_sample(tsr_loader *loader, struct place *place, int64_t position,
                              tsr_image *image)
{
    int64_t asked = place->order[position], index;
    tsr_status status =
        tsr_dataset_load(loader->data, asked, loader->options.min_short_side, image, &index);
    if (status != TSR_STATUS_OK) return status;
    tsr_loader_sample sample = {
        .image = image,
        .index = index,
        .label = tsr_dataset_label(loader->data, index),
        .epoch = place->batch.epoch,
        .rng = tsr_rng_make(loader->options.seed, (uint32_t)place->batch.epoch, (uint32_t)asked, 0),
        .position = position,
        .n = place->batch.n,
        .fields = place->fields.data,
        .row_bytes = loader->row_bytes,
    };
    return loader->function(&sample, loader->user);
}

/* The next sample to make, with the lock held; NULL when there is none now. */
static struct place *take(tsr_loader *loader, int64_t *position)
{
    for (; loader->working < loader->opened; loader->working++) {
        struct place *place = &loader->places[loader->working % loader->n_places];
        if (place->taken < place->batch.n) {
            *position = place->taken++;
            return place;
        }
    }
    return NULL;
}

static void *worker(void *argument)
{
    tsr_loader *loader = argument;
    tsr_image image = {0};
    pthread_mutex_lock(&loader->lock);
    while (!loader->stop) {
        int64_t position;
        struct place *place = take(loader, &position);
        if (place == NULL) {
            pthread_cond_wait(&loader->work, &loader->lock);
            continue;
        }
        pthread_mutex_unlock(&loader->lock);
        tsr_status status = make_sample(loader, place, position, &image);
        pthread_mutex_lock(&loader->lock);
        if (status != TSR_STATUS_OK) {
            if (position < place->failed_at) {
                place->failed_at = position;
                place->status = status;
                strncpy(place->message, tsr_message(), MESSAGE - 1);
            }
            tsr_status_clear();
        }
        if (++place->done == place->batch.n) pthread_cond_signal(&loader->ready);
    }
    pthread_mutex_unlock(&loader->lock);
    tsr_image_free(&image);
    return NULL;
}

/* -------------------- the consumer's side ----------------------------------------------------- */

static void set_order(tsr_loader *loader, int64_t epoch)
{
    if (loader->order_epoch == epoch) return;
    int64_t n = tsr_dataset_count(loader->data);
    if (loader->options.in_order) {
        for (int64_t i = 0; i < n; i++) loader->order[i] = i;
    } else {
        tsr_rng rng = tsr_rng_make(loader->options.seed, (uint32_t)epoch, 0,
                                   tsr_rng_purpose("order of an epoch"));
        tsr_rng_permutation(&rng, n, loader->order);
    }
    loader->order_epoch = epoch;
}

/* Sets up the place of the next batch; the workers do not look at it yet. */
static void open_next(tsr_loader *loader)
{
    int64_t number = loader->opened; /* only this thread writes it */
    if (number >= loader->end) return;
    struct place *place = &loader->places[number % loader->n_places];
    int64_t total = loader->options.epoch * loader->steps + loader->options.step + number;
    int64_t epoch = total / loader->steps, step = total % loader->steps;
    int64_t size = loader->options.batch, left = tsr_dataset_count(loader->data) - step * size;
    set_order(loader, epoch);
    place->batch = (tsr_batch){epoch, step, left < size ? left : size, &place->fields};
    memcpy(place->order, loader->order + step * size,
           (size_t)place->batch.n * sizeof *place->order);
    /* Tells tapes that saved the old values that they are gone. */
    for (int f = 0; f < place->fields.n; f++) {
        place->fields.data[f] = tsr_tensor_data_mut(place->fields.tensor[f]);
    }
    place->taken = place->done = 0;
    place->failed_at = place->batch.n;
    place->status = TSR_STATUS_OK;
    place->message[0] = '\0';

    pthread_mutex_lock(&loader->lock);
    loader->opened++;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
}

const tsr_batch *tsr_loader_next(tsr_loader *loader)
{
    if (loader == NULL || tsr_status_get() != TSR_STATUS_OK) return NULL;
    /* In the place of the batch given last. */
    if (loader->opened - loader->consumed < loader->n_places) open_next(loader);
    if (loader->consumed >= loader->end) return NULL;
    struct place *place = &loader->places[loader->consumed % loader->n_places];
    pthread_mutex_lock(&loader->lock);
    while (place->done < place->batch.n) pthread_cond_wait(&loader->ready, &loader->lock);
    pthread_mutex_unlock(&loader->lock);
    if (place->status != TSR_STATUS_OK) {
        /* This batch again, if the caller clears the status and asks once more. */
        tsr_fail(place->status, "%s", place->message);
        return NULL;
    }
    loader->consumed++;
    return &place->batch;
}

tsr_tensor *tsr_batch_tensor(const tsr_batch *batch, const char *name)
{
    if (batch == NULL) return NULL;
    const struct tsr_batch_fields *fields = batch->fields;
    for (int f = 0; f < fields->n; f++) {
        if (strcmp(fields->name[f], name) != 0) continue;
        tsr_tensor *tensor = tsr_tensor_borrow(fields->tensor[f]);
        tsr_shape shape = tsr_tensor_shape(tensor);
        int64_t rows = batch->n * fields->copies[f];
        if (tensor == NULL || shape.size[0] == rows) return tensor;
        shape.size[0] = rows;
        return tsr_tensor_view(tensor, shape, tsr_tensor_strides(tensor), 0);
    }
    char names[256] = "";
    for (int f = 0; f < fields->n; f++) {
        size_t at = strlen(names);
        snprintf(names + at, sizeof names - at, "%s%s", f > 0 ? ", " : "", fields->name[f]);
    }
    tsr_fail(TSR_STATUS_ARGUMENT, "batch: no field '%s'; there are %s", name, names);
    return NULL;
}

int tsr_batch_field_count(const tsr_batch *batch)
{
    return batch->fields->n;
}

const char *tsr_batch_field_name(const tsr_batch *batch, int i)
{
    return i >= 0 && i < batch->fields->n ? batch->fields->name[i] : NULL;
}

int tsr_batch_field_copies(const tsr_batch *batch, int i)
{
    return i >= 0 && i < batch->fields->n ? batch->fields->copies[i] : 0;
}

int64_t tsr_loader_steps(const tsr_loader *loader)
{
    return loader->steps;
}

/* -------------------- opening and closing ----------------------------------------------------- */

void tsr_loader_close(tsr_loader **loader)
{
    if (loader == NULL || *loader == NULL) return;
    tsr_loader *l = *loader;
    *loader = NULL;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->n_threads; i++) pthread_join(l->threads[i], NULL);
    for (int p = 0; l->places != NULL && p < l->n_places; p++) {
        struct place *place = &l->places[p];
        for (int f = 0; f < place->fields.n; f++) tsr_tensor_release(&place->fields.tensor[f]);
        tsr_free(place->order);
    }
    tsr_free(l->places);
    tsr_free(l->order);
    plan_free(l->plan);
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->lock);
    tsr_free(l);
}

static tsr_status check_options(const tsr_loader_options *o)
{
    if (o->batch < 1 || o->batch > 1 << 24 || o->workers < 1 || o->workers > MAX_WORKERS ||
        o->prefetch < 1 || o->prefetch > MAX_PREFETCH || o->epoch < 0 || o->step < 0 ||
        o->epoch > 1 << 30 || o->end_epoch < 0 || o->end_epoch > 1 << 30 || o->min_short_side < 0) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "loader: batch %lld, %d workers (at most %d), prefetch %d (at most %d), "
                        "epoch %lld, step %lld: a value is out of range",
                        (long long)o->batch, o->workers, MAX_WORKERS, o->prefetch, MAX_PREFETCH,
                        (long long)o->epoch, (long long)o->step);
    }
    return TSR_STATUS_OK;
}

static tsr_status set_steps(tsr_loader *loader)
{
    tsr_loader_options *o = &loader->options;
    int64_t count = tsr_dataset_count(loader->data);
    if (count < 1 || count > UINT32_MAX) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "loader: the data set has %lld images",
                        (long long)count);
    }
    loader->steps = (o->keep_last ? count + o->batch - 1 : count) / o->batch;
    if (loader->steps == 0) {
        return tsr_fail(
            TSR_STATUS_ARGUMENT,
            "loader: %lld images do not fill one batch of %lld; use a smaller batch, or "
            "keep the last one",
            (long long)count, (long long)o->batch);
    }
    if (o->step > loader->steps) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "loader: step %lld of an epoch of %lld",
                        (long long)o->step, (long long)loader->steps);
    }
    int64_t first = o->epoch * loader->steps + o->step, last = o->end_epoch * loader->steps;
    loader->end = o->end_epoch == 0 ? INT64_MAX : last > first ? last - first : 0;
    return TSR_STATUS_OK;
}

/* Checks a field and adds it to the place, with a tensor of its own. */
static tsr_status add_field(tsr_loader *loader, struct place *place, const tsr_loader_field *field)
{
    struct tsr_batch_fields *fields = &place->fields;
    int copies = field->copies > 0 ? field->copies : 1;
    tsr_shape shape = {.ndim = field->shape.ndim + 1};
    if (shape.ndim > TSR_MAX_DIMS || field->name == NULL || strlen(field->name) >= NAME) {
        return tsr_fail(
            TSR_STATUS_ARGUMENT,
            "loader: a field needs a name of less than %d bytes and at most %d dimensions", NAME,
            TSR_MAX_DIMS - 1);
    }
    for (int f = 0; f < fields->n; f++) {
        if (strcmp(fields->name[f], field->name) == 0) {
            return tsr_fail(TSR_STATUS_ARGUMENT, "loader: two fields are named '%s'", field->name);
        }
    }
    shape.size[0] = copies * loader->options.batch;
    memcpy(shape.size + 1, field->shape.size, (size_t)field->shape.ndim * sizeof *shape.size);
    tsr_tensor *tensor = tsr_tensor_hold(tsr_empty(field->dtype, shape));
    if (tensor == NULL) return tsr_status_get();
    int f = fields->n++;
    strcpy(fields->name[f], field->name);
    fields->copies[f] = copies;
    fields->tensor[f] = tensor;
    loader->row_bytes[f] = (size_t)tsr_shape_numel(field->shape) * tsr_dtype_size(field->dtype);
    return TSR_STATUS_OK;
}

static tsr_status make_places(tsr_loader *loader, const tsr_loader_field *fields, int n_fields)
{
    loader->n_places = loader->options.prefetch + 1;
    loader->order = tsr_alloc((size_t)tsr_dataset_count(loader->data) * sizeof *loader->order);
    loader->places = tsr_alloc((size_t)loader->n_places * sizeof *loader->places);
    if (loader->places == NULL) return tsr_status_get();
    memset(loader->places, 0, (size_t)loader->n_places * sizeof *loader->places);
    if (loader->order == NULL) return tsr_status_get();
    for (int p = 0; p < loader->n_places; p++) {
        struct place *place = &loader->places[p];
        place->order = tsr_alloc((size_t)loader->options.batch * sizeof *place->order);
        if (place->order == NULL) return tsr_status_get();
        for (int f = 0; f < n_fields; f++) {
            tsr_status status = add_field(loader, place, &fields[f]);
            if (status != TSR_STATUS_OK) return status;
        }
    }
    return TSR_STATUS_OK;
}

static tsr_status start_workers(tsr_loader *loader)
{
    /* Signals are for the program's own threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (loader->n_threads < loader->options.workers) {
        if (pthread_create(&loader->threads[loader->n_threads], NULL, worker, loader) != 0) break;
        loader->n_threads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (loader->n_threads > 0) return TSR_STATUS_OK; /* fewer are slower, not different */
    return tsr_fail(TSR_STATUS_STATE, "loader: the system starts no thread");
}

tsr_loader *tsr_loader_open(tsr_dataset *data, const tsr_loader_field *fields, int n_fields,
                            tsr_sample_function *function, void *user,
                            const tsr_loader_options *options)
{
    if (tsr_status_get() != TSR_STATUS_OK) return NULL;
    if (data == NULL || function == NULL || n_fields < 1 || n_fields > MAX_FIELDS) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "loader: needs a data set, a sample function and 1 to %d fields", MAX_FIELDS);
        return NULL;
    }
    tsr_loader *loader = tsr_alloc(sizeof *loader);
    if (loader == NULL) return NULL;
    *loader = (tsr_loader){.data = data, .function = function, .user = user, .order_epoch = -1};
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->work, NULL);
    pthread_cond_init(&loader->ready, NULL);
    if (options != NULL) loader->options = *options;
    tsr_loader_options *o = &loader->options;
    if (o->batch == 0) o->batch = 64;
    if (o->workers == 0) o->workers = tsr_threads() < MAX_WORKERS ? tsr_threads() : MAX_WORKERS;
    if (o->prefetch == 0) o->prefetch = 2;

    tsr_scope scope = tsr_scope_open();
    tsr_status status = check_options(o);
    if (status == TSR_STATUS_OK) status = set_steps(loader);
    if (status == TSR_STATUS_OK) status = make_places(loader, fields, n_fields);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    for (int p = 0; status == TSR_STATUS_OK && p < loader->n_places; p++) open_next(loader);
    if (status == TSR_STATUS_OK) status = start_workers(loader);
    if (status != TSR_STATUS_OK) tsr_loader_close(&loader);
    return loader;
}

/* -------------------- views ------------------------------------------------------------------- */

/* Where each spec's copies go. */
struct view_plan {
    const tsr_views *views;
    int *image_field, *mask_field; /* [views->n]; mask -1: none */
    int *first_copy;               /* [views->n]: how many copies of the same name come before */
    int label_field, index_field;
};

static void plan_free(struct view_plan *plan)
{
    tsr_free(plan);
}

static int spec_copies(const tsr_view_spec *spec)
{
    return spec->copies > 0 ? spec->copies : 1;
}

static tsr_status make_views(const tsr_loader_sample *sample, void *user)
{
    const struct view_plan *plan = user;
    const uint32_t view_purpose = tsr_rng_purpose("view"), mask_purpose = tsr_rng_purpose("mask");
    for (int v = 0, drawn = 0; v < plan->views->n; v++) {
        const tsr_view_spec *spec = &plan->views->at[v];
        if (!spec->paired) drawn = v;
        for (int c = 0; c < spec_copies(spec); c++) {
            int copy = plan->first_copy[v] + c;
            uint32_t number = (uint32_t)drawn << 12 | (uint32_t)c;
            tsr_rng rng = sample->rng;
            rng.purpose = view_purpose + number;
            tsr_status status = tsr_view_apply(spec, sample->image, &rng,
                                               tsr_sample_at(sample, plan->image_field[v], copy));
            if (status != TSR_STATUS_OK) return status;
            if (plan->mask_field[v] < 0) continue;
            uint8_t *mask = tsr_sample_at(sample, plan->mask_field[v], copy);
            size_t cells = sample->row_bytes[plan->mask_field[v]];
            rng = sample->rng;
            rng.purpose = mask_purpose + number;
            if (spec->mask.kind == TSR_MASK_NONE) {
                memset(mask, 0, cells);
            } else {
                int side = spec->size / spec->mask.patch;
                tsr_mask_draw(&spec->mask, sample->epoch, side, side, &rng, mask);
            }
        }
    }
    memcpy(tsr_sample_at(sample, plan->label_field, 0), &sample->label, sizeof sample->label);
    memcpy(tsr_sample_at(sample, plan->index_field, 0), &sample->index, sizeof sample->index);
    return TSR_STATUS_OK;
}

/* The patch of the masks of all specs of this name; 0: none has masks. */
static int mask_patch(const tsr_views *views, const char *name)
{
    for (int v = 0; v < views->n; v++) {
        const tsr_view_spec *spec = &views->at[v];
        if (strcmp(spec->name, name) == 0 && spec->mask.kind != TSR_MASK_NONE) {
            return spec->mask.patch;
        }
    }
    return 0;
}

tsr_loader *tsr_loader_open_views(tsr_dataset *data, const tsr_views *views,
                                  const tsr_loader_options *options)
{
    if (tsr_views_check(views) != TSR_STATUS_OK) return NULL;
    if (views->n > (MAX_FIELDS - 2) / 2) {
        tsr_fail(TSR_STATUS_ARGUMENT, "views: %d, expected at most %d", views->n,
                 (MAX_FIELDS - 2) / 2);
        return NULL;
    }
    size_t ints = (size_t)views->n * sizeof(int);
    struct view_plan *plan = tsr_alloc(sizeof *plan + 3 * ints);
    if (plan == NULL) return NULL;
    plan->views = views;
    plan->image_field = (int *)(void *)(plan + 1);
    plan->mask_field = plan->image_field + views->n;
    plan->first_copy = plan->mask_field + views->n;

    tsr_loader_field fields[MAX_FIELDS];
    char mask_names[MAX_FIELDS][NAME];
    int n = 0;
    for (int v = 0; v < views->n; v++) {
        const tsr_view_spec *spec = &views->at[v];
        int same = 0; /* an earlier spec of this name */
        while (strcmp(views->at[same].name, spec->name) != 0) same++;
        if (same < v) {
            int image = plan->image_field[same], mask = plan->mask_field[same];
            plan->image_field[v] = image;
            plan->mask_field[v] = mask;
            plan->first_copy[v] = fields[image].copies;
            fields[image].copies += spec_copies(spec);
            if (mask >= 0) fields[mask].copies += spec_copies(spec);
            continue;
        }
        plan->first_copy[v] = 0;
        plan->image_field[v] = n;
        fields[n++] = (tsr_loader_field){spec->name, TSR_DTYPE_F32, spec_copies(spec),
                                         TSR_SHAPE(3, spec->size, spec->size)};
        int patch = mask_patch(views, spec->name);
        plan->mask_field[v] = patch > 0 ? n : -1;
        if (patch > 0) {
            snprintf(mask_names[n], NAME, "%s.mask", spec->name);
            fields[n] = (tsr_loader_field){mask_names[n], TSR_DTYPE_U8, spec_copies(spec),
                                           TSR_SHAPE(spec->size / patch, spec->size / patch)};
            n++;
        }
    }
    plan->label_field = n;
    fields[n++] = (tsr_loader_field){"label", TSR_DTYPE_I64, 1, TSR_SHAPE_SCALAR};
    plan->index_field = n;
    fields[n++] = (tsr_loader_field){"index", TSR_DTYPE_I64, 1, TSR_SHAPE_SCALAR};
    tsr_loader *loader = tsr_loader_open(data, fields, n, make_views, plan, options);
    if (loader == NULL) {
        plan_free(plan);
        return NULL;
    }
    loader->plan = plan;
    return loader;
}
