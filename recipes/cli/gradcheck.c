/* tessera gradcheck: every operator's derivatives against central differences. */
#include "recipes/cli/cli.h"

#include "ops/samples.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The larger of a worst error so far and one more; a NaN stays. */
static double worse(double a, double b)
{
    return isnan(a) || a > b ? a : b;
}

/* Is there an element to differentiate by? */
static bool has_gradient(const tsr_sample *sample)
{
    for (int i = 0; i < sample->n_inputs && !sample->no_gradient; i++) {
        const tsr_sample_input *in = &sample->inputs[i];
        bool differentiable = in->below == 0 && !in->mask && !in->absent && !in->constant;
        if (differentiable && tsr_shape_numel(in->shape) > 0) return true;
    }
    return false;
}

static bool check_sample(const tsr_sample *sample, uint64_t seed, double *first, double *second)
{
    tsr_tensor *inputs[TSR_SAMPLE_INPUTS] = {NULL};
    tsr_scope scope = tsr_scope_open();
    tsr_gradcheck_options options = {.seed = seed, .kink = sample->kink};
    int outputs = sample->n_outputs > 0 ? sample->n_outputs : 1;
    void *user = (void *)(uintptr_t)sample;
    tsr_gradcheck_report report = {0};
    if (tsr_samples__inputs(sample, TSR_DTYPE_F64, seed, inputs)) {
        tsr_tensors list = {inputs, sample->n_inputs};
        bool ok =
            tsr_gradcheck(sample->call, user, list, outputs, &options, &report) == TSR_STATUS_OK;
        *first = worse(*first, report.worst_error);
        report = (tsr_gradcheck_report){0};
        if (ok) {
            tsr_gradgradcheck(sample->call, user, list, outputs, &options, &report);
            *second = worse(*second, report.worst_error);
        }
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return tsr_status_get() == TSR_STATUS_OK;
}

/* False when a sample fails; the reason is printed and cleared. */
static bool check_op(const tsr_op_samples *op, uint64_t seed)
{
    double first = 0.0, second = 0.0;
    int checked = 0;
    bool ok = true;
    char reason[512] = "";
    for (int i = 0; i < op->n; i++) {
        if (!has_gradient(&op->at[i])) continue;
        checked++;
        if (check_sample(&op->at[i], seed, &first, &second)) continue;
        if (ok)
            snprintf(reason, sizeof reason, "    sample \"%s\": %s\n", op->at[i].name,
                     tsr_message());
        ok = false;
        tsr_status_clear();
    }
    if (checked == 0) {
        printf("%-32s %7d %12s %12s   no gradient\n", op->op, op->n, "", "");
    } else {
        printf("%-32s %7d %12.2e %12.2e   %s\n%s", op->op, checked, first, second,
               ok ? "ok" : "FAILED", reason);
    }
    fflush(stdout);
    return ok;
}

static bool is_asked(const tsr_arguments *a, const char *op)
{
    for (int i = 0; i < a->n_positional; i++) {
        if (strcmp(a->positional[i], op) == 0) return true;
    }
    return a->n_positional == 0;
}

static bool is_known(const tsr_op_samples *const *all, int n, const char *op)
{
    for (int i = 0; i < n; i++) {
        if (strcmp(all[i]->op, op) == 0) return true;
    }
    fprintf(stderr, "tessera: there is no op \"%.60s\"; tessera gradcheck lists them\n", op);
    return false;
}

int tsr_command__gradcheck(int argc, char **argv)
{
    int64_t seed = 1;
    const tsr_flag flags[] = {
        {"seed", TSR_FLAG_INT, &seed, "N", "of inputs and cotangents; default 1"}};
    tsr_arguments arguments = {
        .usage = "gradcheck [OP ...]",
        .example = "gradcheck softmax layer_norm",
        .description =
            "Compares the derivatives of all operators, or of those named, with central differences in\n"
            "f64: the worst error of the first and the second order over each one's samples. Passes\n"
            "below 1e-6. Exit status 1 when one fails.",
        .flags = flags,
        .n_flags = 1,
        .max_positional = sizeof arguments.positional / sizeof arguments.positional[0]};
    int status = tsr_arguments__parse(&arguments, argc, argv);
    if (status >= 0) return status;
    int n, checked = 0, failed = 0;
    const tsr_op_samples *const *all = tsr_samples__all(&n);
    for (int i = 0; i < arguments.n_positional; i++) {
        if (!is_known(all, n, arguments.positional[i])) return TSR_EXIT_USAGE;
    }
    printf("%-32s %7s %12s %12s\n", "op", "samples", "first order", "second order");
    for (int i = 0; i < n; i++) {
        if (!is_asked(&arguments, all[i]->op)) continue;
        checked++;
        failed += !check_op(all[i], (uint64_t)seed);
    }
    printf("%d ops, %d failed\n", checked, failed);
    return failed > 0 ? TSR_EXIT_FAILED : TSR_EXIT_OK;
}
