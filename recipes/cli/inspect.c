/* tessera inspect: what is in a checkpoint, and whether it is whole. */
#include "recipes/cli/cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static void print_values(const tsr_checkpoint *c)
{
    int64_t n = tsr_checkpoint_value_count(c);
    printf("values: %" PRId64 "\n", n);
    for (int64_t i = 0; i < n; i++) {
        const tsr_checkpoint_value *v = tsr_checkpoint_value_at(c, i);
        printf("  %-36s ", v->key);
        switch (v->kind) {
        case TSR_VALUE_KIND_INT:
            printf("%" PRId64 "\n", v->u.as_int);
            break;
        case TSR_VALUE_KIND_UINT:
            printf("%" PRIu64 "\n", v->u.as_uint);
            break;
        case TSR_VALUE_KIND_DOUBLE:
            printf("%.15g\n", v->u.as_double);
            break;
        case TSR_VALUE_KIND_BOOL:
            printf("%s\n", v->u.as_bool ? "true" : "false");
            break;
        case TSR_VALUE_KIND_STRING:
            printf("%.200s\n", v->u.as_string);
            break;
        case TSR_VALUE_KIND_BYTES:
            printf("%zu bytes\n", v->bytes);
            break;
        }
    }
}

/* The last row that has a number in this column. */
static double last_value(const tsr_history *h, int64_t column)
{
    for (int64_t r = h->n_rows; r-- > 0;) {
        double x = h->values[r * h->n_columns + column];
        if (!isnan(x)) return x;
    }
    return NAN;
}

static void print_histories(const tsr_checkpoint *c)
{
    for (int64_t i = 0; i < tsr_checkpoint_history_count(c); i++) {
        const tsr_history *h = tsr_checkpoint_history_at(c, i);
        printf("history %s: %" PRId64 " rows", h->name, h->n_rows);
        if (h->n_rows > 0)
            printf(", steps %" PRId64 " to %" PRId64 "; last:", h->steps[0],
                   h->steps[h->n_rows - 1]);
        printf("\n");
        for (int64_t k = 0; k < h->n_columns && h->n_rows > 0; k++) {
            printf("  %-36s %.6g\n", h->columns[k], last_value(h, k));
        }
    }
}

struct statistics {
    double mean, std, min, max;
    int64_t not_finite;
};

static struct statistics measure(const tsr_tensor *t)
{
    struct statistics s = {.min = INFINITY, .max = -INFINITY};
    int64_t n = tsr_tensor_numel(t), finite = 0;
    double sum = 0.0, squares = 0.0;
    for (int64_t i = 0; i < n; i++) {
        double x = tsr_tensor_get(t, i);
        if (!isfinite(x)) continue;
        finite++;
        double before = sum / (double)(finite > 1 ? finite - 1 : 1);
        sum += x;
        squares += (x - before) * (x - sum / (double)finite); /* Welford 1962 */
        s.min = fmin(s.min, x);
        s.max = fmax(s.max, x);
    }
    s.not_finite = n - finite;
    s.mean = sum / (double)finite;
    s.std = sqrt(squares / (double)finite);
    return s;
}

/* Reads each tensor, which checks its data. */
static tsr_status print_tensors(tsr_checkpoint *c)
{
    int64_t n = tsr_checkpoint_count(c), elements = 0, broken = 0;
    uint64_t bytes = 0;
    printf("tensors: %" PRId64 "\n  %-52s %-5s %-20s %10s %10s %10s %10s\n", n, "name", "type",
           "shape", "mean", "std", "min", "max");
    for (int64_t i = 0; i < n; i++) {
        const tsr_checkpoint_entry *e = tsr_checkpoint_at(c, i);
        char shape[TSR_SHAPE_TEXT];
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *t = tsr_checkpoint_tensor(c, e->name);
        struct statistics s = measure(t);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        if (t == NULL) return tsr_status_get();
        printf("  %-52s %-5s %-20s", e->name, tsr_dtype_name(e->dtype),
               tsr_shape_text(e->shape, shape));
        if (tsr_shape_numel(e->shape) > s.not_finite) {
            printf(" %10.3g %10.3g %10.3g %10.3g", s.mean, s.std, s.min, s.max);
        }
        if (s.not_finite > 0) printf("  %" PRId64 " NOT FINITE", s.not_finite);
        printf("\n");
        broken += s.not_finite > 0;
        elements += tsr_shape_numel(e->shape);
        bytes += e->bytes;
    }
    printf("verified: %" PRId64 " tensors, %" PRId64 " elements, %.1f MB\n", n, elements,
           (double)bytes / 1e6);
    if (broken == 0) return TSR_STATUS_OK;
    return tsr_fail(TSR_STATUS_NUMERIC, "%" PRId64 " tensors have NaN or infinity in them", broken);
}

int tsr_command__inspect(int argc, char **argv)
{
    tsr_arguments arguments = {
        .usage = "inspect CHECKPOINT",
        .example = "inspect RUN",
        .description =
            "Lists what is in a checkpoint (a file, or the directory of a run: its newest): options and\n"
            "other values, histories, tensors with their statistics. All data is read and checked\n"
            "against its checksums: exit status 1 when it is damaged, or has NaN or infinity in it.",
        .min_positional = 1,
        .max_positional = 1};
    int status = tsr_arguments__parse(&arguments, argc, argv);
    if (status >= 0) return status;
    char path[TSR_CHECKPOINT_PATH];
    tsr_checkpoint *c = tsr_checkpoint_open_run(arguments.positional[0], path);
    if (c != NULL) {
        printf("%s\n", path);
        print_values(c);
        print_histories(c);
        print_tensors(c);
    }
    tsr_checkpoint_close(&c);
    fflush(stdout);
    return tsr_program__report();
}
