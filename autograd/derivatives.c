/* Derivatives of whole functions: vjp, jvp, Jacobian, Hessian-vector product, each from walks over a tape of its own. */
#include "autograd/internal.h"

#include <inttypes.h>
#include <string.h>

enum { MOST = 32 };

struct leaves {
    tsr_tensor *at[MOST];
    int n;
};

static bool leaves_make(struct leaves *leaves, tsr_tensors inputs, const char *what)
{
    if (inputs.n < 1 || inputs.n > MOST) {
        tsr_fail(TSR_STATUS_ARGUMENT, "%s: %d tensors, expected 1 to %d", what, inputs.n, MOST);
        return false;
    }
    leaves->n = inputs.n;
    for (int i = 0; i < inputs.n; i++) {
        leaves->at[i] = tsr_require_grad(tsr_detach(inputs.at[i]), true);
        if (leaves->at[i] == NULL) {
            tsr_fail(TSR_STATUS_ARGUMENT, "%s: input %d is NULL", what, i);
            return false;
        }
    }
    return true;
}

tsr_status tsr_vjp(tsr_function *f, void *user, tsr_tensors inputs, tsr_tensors v,
                   tsr_tensor **outputs, tsr_tensor **results)
{
    for (int i = 0; i < inputs.n; i++) results[i] = NULL;
    tsr_scope scope = tsr_scope_open();
    tsr_tape *tape = tsr_tape_open();
    bool was = tsr_recording_set(true);
    struct leaves x;
    tsr_tensor *y[MOST] = {0};
    bool ok = tape != NULL && leaves_make(&x, inputs, "vjp");
    if (ok && (v.n < 1 || v.n > MOST)) {
        ok = false;
        tsr_fail(TSR_STATUS_ARGUMENT, "vjp: %d cotangents, expected 1 to %d", v.n, MOST);
    }
    if (ok) f((tsr_tensors){x.at, x.n}, y, v.n, user);
    ok = ok && tsr_grad(tape, (tsr_tensors){y, v.n}, v, (tsr_tensors){x.at, x.n}, results, NULL) ==
                   TSR_STATUS_OK;
    tsr_tensor *kept[2 * MOST];
    int n = 0;
    for (int i = 0; ok && i < inputs.n; i++) kept[n++] = results[i];
    for (int o = 0; outputs != NULL && o < v.n && o < MOST; o++) {
        kept[n++] = outputs[o] = ok ? tsr_detach(y[o]) : NULL;
    }
    tsr_recording_set(was);
    tsr_tape_close(&tape);
    tsr_scope_close(&scope, (tsr_tensors){kept, n});
    return tsr_status_get();
}

/* J v: g(u) = J^T u is linear in u, and the derivative of v . g(u) by u is J v. */
tsr_status tsr_jvp(tsr_function *f, void *user, tsr_tensors inputs, tsr_tensors v, int n_outputs,
                   tsr_tensor **outputs, tsr_tensor **results)
{
    for (int o = 0; o < n_outputs; o++) results[o] = NULL;
    tsr_scope scope = tsr_scope_open();
    tsr_tape *tape = tsr_tape_open();
    bool was = tsr_recording_set(true);
    struct leaves x;
    tsr_tensor *y[MOST] = {0}, *u[MOST] = {0}, *g[MOST] = {0};
    bool ok = tape != NULL && leaves_make(&x, inputs, "jvp");
    if (ok && (n_outputs < 1 || n_outputs > MOST || v.n != inputs.n)) {
        ok = false;
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "jvp: %d outputs and %d tangents, expected 1 to %d outputs and %d "
                 "tangents",
                 n_outputs, v.n, MOST, inputs.n);
    }
    if (ok) f((tsr_tensors){x.at, x.n}, y, n_outputs, user);
    for (int o = 0; ok && o < n_outputs; o++) {
        u[o] = tsr_require_grad(tsr_zeros(tsr_tensor_dtype(y[o]), tsr_tensor_shape(y[o])), true);
        ok = y[o] != NULL && u[o] != NULL;
    }
    tsr_backward_options create = {.create_graph = true};
    tsr_tensors xs = {ok ? x.at : NULL, ok ? x.n : 0}, us = {u, n_outputs};
    ok = ok && tsr_grad(tape, (tsr_tensors){y, n_outputs}, us, xs, g, &create) == TSR_STATUS_OK;
    ok = ok && tsr_grad(tape, (tsr_tensors){g, xs.n}, v, us, results, NULL) == TSR_STATUS_OK;
    tsr_tensor *kept[2 * MOST];
    int n = 0;
    for (int o = 0; ok && o < n_outputs; o++) kept[n++] = results[o];
    for (int o = 0; outputs != NULL && o < n_outputs && o < MOST; o++) {
        kept[n++] = outputs[o] = ok ? tsr_detach(y[o]) : NULL;
    }
    tsr_recording_set(was);
    tsr_tape_close(&tape);
    tsr_scope_close(&scope, (tsr_tensors){kept, n});
    return tsr_status_get();
}

static bool jacobian_rows(tsr_tape *tape, tsr_tensor *y, tsr_tensor *x, tsr_tensor *jacobian)
{
    int64_t rows = tsr_tensor_numel(y), columns = tsr_tensor_numel(x);
    size_t row_bytes = (size_t)columns * tsr_dtype_size(tsr_tensor_dtype(x));
    tsr_tensor *v = tsr_zeros(tsr_tensor_dtype(y), tsr_tensor_shape(y));
    tsr_tensor *flat = v == NULL ? NULL : tsr_tensor_view(v, TSR_SHAPE(rows), (int64_t[]){1}, 0);
    char *out = tsr_tensor_data_mut(jacobian);
    for (int64_t r = 0; flat != NULL && r < rows; r++) {
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *one = tsr_tensor_view(flat, TSR_SHAPE_SCALAR, NULL, r), *g = NULL;
        tsr_tensor_fill(one, 1.0);
        tsr_backward_options retain = {.retain_graph = true};
        tsr_grad(tape, TSR_TENSORS(y), TSR_TENSORS(v), TSR_TENSORS(x), &g, &retain);
        tsr_tensor_fill(one, 0.0);
        g = tsr_tensor_packed(g);
        if (g != NULL) memcpy(out + (size_t)r * row_bytes, tsr_tensor_data(g), row_bytes);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
    return tsr_status_get() == TSR_STATUS_OK;
}

tsr_tensor *tsr_jacobian(tsr_function *f, void *user, tsr_tensor *x)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tape *tape = tsr_tape_open();
    bool was = tsr_recording_set(true);
    tsr_tensor *leaf = tsr_require_grad(tsr_detach(x), true), *y = NULL, *jacobian = NULL;
    if (leaf != NULL) f(TSR_TENSORS(leaf), &y, 1, user);
    if (y != NULL) {
        tsr_shape shape = TSR_SHAPE(tsr_tensor_numel(y), tsr_tensor_numel(leaf));
        jacobian = tsr_empty(tsr_tensor_dtype(leaf), shape);
    }
    if (jacobian != NULL && !jacobian_rows(tape, y, leaf, jacobian)) jacobian = NULL;
    tsr_recording_set(was);
    tsr_tape_close(&tape);
    return tsr_scope_return(&scope, jacobian);
}

/* H v = d (g(x) . v) / dx with g the gradient. */
tsr_tensor *tsr_hvp(tsr_function *f, void *user, tsr_tensor *x, tsr_tensor *v)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tape *tape = tsr_tape_open();
    bool was = tsr_recording_set(true);
    tsr_tensor *leaf = tsr_require_grad(tsr_detach(x), true), *y = NULL, *g = NULL, *result = NULL;
    if (leaf != NULL) f(TSR_TENSORS(leaf), &y, 1, user);
    tsr_backward_options create = {.create_graph = true};
    if (y != NULL) {
        tsr_grad(tape, TSR_TENSORS(y), TSR_NO_TENSORS, TSR_TENSORS(leaf), &g, &create);
    }
    if (g != NULL) {
        tsr_grad(tape, TSR_TENSORS(g), TSR_TENSORS(v), TSR_TENSORS(leaf), &result, NULL);
    }
    tsr_recording_set(was);
    tsr_tape_close(&tape);
    return tsr_scope_return(&scope, result);
}
