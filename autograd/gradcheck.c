/*
 * Gradient checks. J is compared through v^T J with random cotangents v: a sum of outputs would be blind to a backward
 * that returns zeros for a softmax. The numeric side is (v . f(x + h e) - v . f(x - h e)) / 2h.
 */
#include "autograd/internal.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

struct check {
    tsr_function *f;
    void *user;
    int n_outputs;
    tsr_gradcheck_options options;
    tsr_gradcheck_report report;
};

static tsr_tensor **tensor_array(int n)
{
    size_t bytes = (size_t)(n > 0 ? n : 1) * sizeof(tsr_tensor *);
    tsr_tensor **array = tsr_alloc(bytes);
    if (array != NULL) memset(array, 0, bytes);
    return array;
}

static bool call(const struct check *c, tsr_tensors inputs, tsr_tensor **outputs)
{
    for (int o = 0; o < c->n_outputs; o++) outputs[o] = NULL;
    c->f(inputs, outputs, c->n_outputs, c->user);
    for (int o = 0; o < c->n_outputs; o++) {
        if (outputs[o] == NULL) {
            tsr_fail(TSR_STATUS_ARGUMENT, "gradcheck: output %d is NULL", o);
            return false;
        }
    }
    return tsr_status_get() == TSR_STATUS_OK;
}

/* v . f(x) with compensated summation, so that the difference of two such sums keeps its digits. */
static bool projection(const struct check *c, tsr_tensors inputs, tsr_tensors v, double *out)
{
    tsr_tensor **outputs = tensor_array(c->n_outputs);
    if (outputs == NULL) return false;
    tsr_scope scope = tsr_scope_open();
    bool ok = call(c, inputs, outputs);
    double sum = 0.0, lost = 0.0;
    for (int o = 0; ok && o < c->n_outputs; o++) {
        if (!tsr_dtype_is_float(tsr_tensor_dtype(outputs[o]))) continue;
        int64_t n = tsr_tensor_numel(outputs[o]);
        for (int64_t i = 0; i < n; i++) {
            double term = tsr_tensor_get(v.at[o], i) * tsr_tensor_get(outputs[o], i) - lost;
            double next = sum + term;
            lost = (next - sum) - term;
            sum = next;
        }
    }
    *out = sum;
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    tsr_free(outputs);
    return ok;
}

static void compare(struct check *c, int input, int64_t element, double analytic, double numeric)
{
    tsr_gradcheck_report *r = &c->report;
    double error = fabs(analytic - numeric) / fmax(1.0, fabs(numeric));
    if (isnan(error)) error = (double)INFINITY;
    if (r->compared++ == 0 || error > r->worst_error) {
        r->worst_error = error;
        r->worst_input = input;
        r->worst_element = element;
        r->analytic = analytic;
        r->numeric = numeric;
    }
}

/* Central differences at every element of one input, in place (and put back). */
static bool check_input(struct check *c, tsr_tensors inputs, tsr_tensors v, int input,
                        const tsr_tensor *analytic)
{
    tsr_tensor *x = inputs.at[input];
    double *data = tsr_tensor_data_mut(x);
    for (int64_t i = 0; i < tsr_tensor_numel(x); i++) {
        if (c->options.kink != NULL && c->options.kink(inputs, input, i, c->user)) continue;
        double keep = data[i], plus, minus;
        double step = c->options.step * fmax(1.0, fabs(keep));
        data[i] = keep + step;
        double above = data[i];
        bool ok = projection(c, inputs, v, &plus);
        data[i] = keep - step;
        double below = data[i];
        ok = ok && projection(c, inputs, v, &minus);
        data[i] = keep;
        if (!ok) return false;
        compare(c, input, i, tsr_tensor_get(analytic, i), (plus - minus) / (above - below));
    }
    return true;
}

/* The inputs' values in leaves of our own: the caller's are not touched. */
static bool copy_inputs(tsr_tensors inputs, tsr_tensor **copies)
{
    for (int i = 0; i < inputs.n; i++) {
        tsr_tensor *x = inputs.at[i];
        copies[i] = NULL;
        if (x == NULL) continue;
        bool checked = tsr_requires_grad(x);
        if (checked && tsr_tensor_dtype(x) != TSR_DTYPE_F64) {
            tsr_fail(TSR_STATUS_DTYPE, "gradcheck: input %d is %s, expected f64", i,
                     tsr_dtype_name(tsr_tensor_dtype(x)));
            return false;
        }
        copies[i] = tsr_empty(tsr_tensor_dtype(x), tsr_tensor_shape(x));
        if (copies[i] == NULL || tsr_tensor_copy(copies[i], x) != TSR_STATUS_OK) return false;
        if (checked) tsr_require_grad(copies[i], true);
    }
    return true;
}

/* Cotangents v for every floating output (NULL elsewhere), and v^T J for every checked input. */
static bool analytic_gradients(struct check *c, tsr_tensors x, tsr_tensor **v, tsr_tensor **grads)
{
    tsr_tensor **outputs = tensor_array(3 * c->n_outputs), **wanted = tensor_array(2 * x.n);
    tsr_tape *tape = tsr_tape_open();
    bool was = tsr_recording_set(true);
    bool ok = outputs != NULL && wanted != NULL && tape != NULL && call(c, x, outputs);
    tsr_tensor **recorded = outputs + c->n_outputs, **cotangents = recorded + c->n_outputs;
    tsr_tensor **results = wanted + x.n;
    tsr_rng rng = tsr_rng_make(c->options.seed, 0, 0, tsr_rng_purpose("gradcheck"));
    int n_recorded = 0, n_wanted = 0;
    for (int o = 0; ok && o < c->n_outputs; o++) {
        tsr_tensor *y = outputs[o];
        if (!tsr_dtype_is_float(tsr_tensor_dtype(y))) continue; /* indices and the like */
        rng.sample++;
        v[o] = tsr_empty(tsr_tensor_dtype(y), tsr_tensor_shape(y));
        ok = v[o] != NULL && tsr_fill_normal(v[o], rng, 0.0, 1.0) == TSR_STATUS_OK;
        if (!tsr_requires_grad(y)) continue;
        recorded[n_recorded] = y;
        cotangents[n_recorded++] = v[o];
    }
    for (int i = 0; ok && i < x.n; i++) {
        if (tsr_requires_grad(x.at[i])) wanted[n_wanted++] = x.at[i];
    }
    if (ok && n_wanted == 0) {
        ok = false;
        tsr_fail(TSR_STATUS_ARGUMENT, "gradcheck: no input requires a gradient");
    }
    ok = ok &&
         tsr_grad(tape, (tsr_tensors){recorded, n_recorded}, (tsr_tensors){cotangents, n_recorded},
                  (tsr_tensors){wanted, n_wanted}, results, NULL) == TSR_STATUS_OK;
    for (int i = 0, k = 0; ok && i < x.n; i++) {
        if (tsr_requires_grad(x.at[i])) grads[i] = results[k++];
    }
    tsr_recording_set(was);
    tsr_tape_close(&tape);
    tsr_free(outputs);
    tsr_free(wanted);
    return ok;
}

static bool check_all(struct check *c, tsr_tensors inputs)
{
    tsr_tensor **copies = tensor_array(inputs.n), **grads = tensor_array(inputs.n);
    tsr_tensor **v = tensor_array(c->n_outputs);
    bool ok = copies != NULL && grads != NULL && v != NULL && copy_inputs(inputs, copies);
    tsr_tensors x = {copies, inputs.n};
    ok = ok && analytic_gradients(c, x, v, grads);
    bool was = tsr_recording_set(false);
    for (int i = 0; ok && i < x.n; i++) {
        if (grads[i] != NULL) ok = check_input(c, x, (tsr_tensors){v, c->n_outputs}, i, grads[i]);
    }
    tsr_recording_set(was);
    tsr_free(copies);
    tsr_free(grads);
    tsr_free(v);
    return ok;
}

static tsr_status check(struct check *c, const char *name, tsr_tensors inputs,
                        tsr_gradcheck_report *report)
{
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    if (c->options.step == 0.0) c->options.step = 1e-5;
    if (c->options.tolerance == 0.0) c->options.tolerance = 1e-6;
    tsr_scope scope = tsr_scope_open();
    bool ok = check_all(c, inputs);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    const tsr_gradcheck_report *r = &c->report;
    if (report != NULL) *report = *r;
    if (!ok) return tsr_status_get();
    if (r->compared == 0) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "%s: nothing was compared: every element is empty or a kink", name);
    }
    if (r->worst_error > c->options.tolerance) {
        return tsr_fail(TSR_STATUS_NUMERIC,
                        "%s: input %d, element %" PRId64
                        ": analytic %.10g, numeric %.10g, error %.3g "
                        "above %.3g",
                        name, r->worst_input, r->worst_element, r->analytic, r->numeric,
                        r->worst_error, c->options.tolerance);
    }
    return TSR_STATUS_OK;
}

tsr_status tsr_gradcheck(tsr_function *f, void *user, tsr_tensors inputs, int n_outputs,
                         const tsr_gradcheck_options *options, tsr_gradcheck_report *report)
{
    struct check c = {.f = f, .user = user, .n_outputs = n_outputs};
    if (options != NULL) c.options = *options;
    return check(&c, "gradcheck", inputs, report);
}

/* ---- second order: the same check of (inputs, cotangents) -> gradients ---- */

struct second {
    const struct check *first;
    int n_inputs;
    bool wanted[64]; /* which inputs of the first function have a gradient */
};

/* inputs: those of f, then one cotangent an output of f (NULL where that is not recorded). */
static void gradient_function(tsr_tensors inputs, tsr_tensor **outputs, int n_outputs, void *user)
{
    const struct second *s = user;
    const struct check *c = s->first;
    tsr_tensor **work = tensor_array(3 * c->n_outputs + s->n_inputs);
    /* Called with recording off for the numeric side: the first derivative needs a tape all the same. */
    tsr_tape *own = tsr_tape_current() == NULL ? tsr_tape_open() : NULL;
    bool was = tsr_recording_set(true);
    tsr_tape *tape = tsr_tape_current();
    if (work != NULL && tape != NULL && call(c, (tsr_tensors){inputs.at, s->n_inputs}, work)) {
        tsr_tensor **recorded = work + c->n_outputs, **v = recorded + c->n_outputs;
        tsr_tensor **wanted = v + c->n_outputs;
        int n = 0, n_wanted = 0;
        for (int o = 0; o < c->n_outputs; o++) {
            if (!tsr_requires_grad(work[o])) continue;
            recorded[n] = work[o];
            v[n++] = inputs.at[s->n_inputs + o];
        }
        for (int i = 0; i < s->n_inputs; i++) {
            if (s->wanted[i]) wanted[n_wanted++] = inputs.at[i];
        }
        /* The numeric side differentiates what training runs: a fused op's kernel, not its definition. */
        tsr_backward_options options = {.create_graph = own == NULL};
        tsr_grad(tape, (tsr_tensors){recorded, n}, (tsr_tensors){v, n},
                 (tsr_tensors){wanted, n_wanted}, outputs, &options);
    }
    (void)n_outputs;
    tsr_recording_set(was);
    for (int i = 0; own != NULL && i < n_outputs; i++) {
        if (outputs[i] != NULL) outputs[i] = tsr_detach(outputs[i]);
    }
    tsr_tape_close(&own);
    tsr_free(work);
}

static bool second_kink(tsr_tensors inputs, int input, int64_t element, void *user)
{
    const struct second *s = user;
    if (input >= s->n_inputs) return false; /* linear in the cotangents */
    return s->first->options.kink((tsr_tensors){inputs.at, s->n_inputs}, input, element,
                                  s->first->user);
}

/* f's outputs show which cotangents there are; appended to the inputs. */
static bool append_cotangents(const struct check *c, tsr_tensors inputs, tsr_tensor **all)
{
    tsr_tensor **outputs = tensor_array(c->n_outputs);
    if (outputs == NULL) return false;
    for (int i = 0; i < inputs.n; i++) all[i] = inputs.at[i];
    bool was = tsr_recording_set(false);
    bool ok = call(c, inputs, outputs);
    tsr_recording_set(was);
    for (int o = 0; ok && o < c->n_outputs; o++) {
        tsr_tensor *y = outputs[o], **v = &all[inputs.n + o];
        if (!tsr_dtype_is_float(tsr_tensor_dtype(y))) continue;
        *v = tsr_empty(tsr_tensor_dtype(y), tsr_tensor_shape(y));
        tsr_rng rng =
            tsr_rng_make(c->options.seed, 1, (uint32_t)o, tsr_rng_purpose("gradgradcheck"));
        ok = *v != NULL && tsr_fill_normal(*v, rng, 0.0, 1.0) == TSR_STATUS_OK &&
             tsr_require_grad(*v, true) != NULL;
    }
    tsr_free(outputs);
    return ok;
}

tsr_status tsr_gradgradcheck(tsr_function *f, void *user, tsr_tensors inputs, int n_outputs,
                             const tsr_gradcheck_options *options, tsr_gradcheck_report *report)
{
    struct check first = {.f = f, .user = user, .n_outputs = n_outputs};
    if (options != NULL) first.options = *options;
    struct second s = {.first = &first, .n_inputs = inputs.n};
    if (inputs.n > (int)(sizeof s.wanted / sizeof s.wanted[0])) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "gradgradcheck: %d inputs, expected at most 64",
                        inputs.n);
    }
    struct check c = {.f = gradient_function, .user = &s, .options = first.options};
    if (first.options.kink != NULL) c.options.kink = second_kink;
    for (int i = 0; i < inputs.n; i++) {
        s.wanted[i] = tsr_requires_grad(inputs.at[i]);
        c.n_outputs += s.wanted[i];
    }
    tsr_scope scope = tsr_scope_open();
    tsr_tensor **all = tensor_array(inputs.n + n_outputs);
    tsr_status status = tsr_status_get();
    if (all != NULL && append_cotangents(&first, inputs, all)) {
        status = check(&c, "gradgradcheck", (tsr_tensors){all, inputs.n + n_outputs}, report);
    }
    tsr_free(all);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return status != TSR_STATUS_OK ? status : tsr_status_get();
}
