/* What the tests of models share: golden files made with the iBOT authors' code (tests/golden). */
#ifndef TSR_TESTS_MODELS_GOLDEN_H
#define TSR_TESTS_MODELS_GOLDEN_H

#include "models/models.h"
#include "serialization/serialization.h"
#include "tests/test.h"

#include <stdlib.h>

static inline tsr_safetensors *golden_open(const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.safetensors", getenv("TSR_GOLDEN"), name);
    tsr_safetensors *file = tsr_safetensors_open(path);
    assert_ok();
    return file;
}

/* A tensor of the file; floating ones as dtype. */
static inline tsr_tensor *golden(tsr_safetensors *file, const char *name, tsr_dtype dtype)
{
    tsr_tensor *t = tsr_safetensors_tensor(file, name);
    assert_ok();
    if (!tsr_dtype_is_float(tsr_tensor_dtype(t))) return t;
    tsr_tensor *converted = tsr_empty(dtype, tsr_tensor_shape(t));
    tsr_tensor_copy(converted, t);
    assert_ok();
    return converted;
}

/* Fills m from param.*: both have the same names. With buffers false those of m are left alone. */
static inline void golden_load(tsr_module *m, tsr_safetensors *file, bool buffers)
{
    tsr_module_list *state = tsr_module_state(m);
    int64_t wanted = 0;
    for (int64_t i = 0; i < tsr_safetensors_count(file); i++) {
        wanted += strncmp(tsr_safetensors_name(file, i), "param.", 6) == 0;
    }
    assert_int_equal(state->n, wanted);
    for (int64_t i = 0; i < state->n; i++) {
        char name[256];
        snprintf(name, sizeof name, "param.%s", state->at[i].name);
        tsr_tensor *value = golden(file, name, m->dtype);
        if (buffers || !state->at[i].is_buffer) tsr_tensor_copy(state->at[i].tensor, value);
        assert_ok();
    }
    tsr_module_list_free(&state);
}

static inline double largest_of(tsr_tensor *t)
{
    double largest = 0.0;
    for (int64_t i = 0; i < tsr_tensor_numel(t); i++) {
        largest = fmax(largest, fabs(tsr_tensor_get(t, i)));
    }
    return largest;
}

/* |a - b| <= tolerance * scale for all elements. */
static inline void assert_near_scale(tsr_tensor *a, tsr_tensor *b, double tolerance, double scale,
                                     const char *what)
{
    assert_ok();
    if (a == NULL || !tsr_shape_equal(tsr_tensor_shape(a), tsr_tensor_shape(b))) {
        fail_msg("%s is missing or has another shape", what);
    }
    double worst = 0.0;
    for (int64_t i = 0; i < tsr_tensor_numel(b); i++) {
        double x = tsr_tensor_get(a, i), y = tsr_tensor_get(b, i);
        if (isnan(x - y)) fail_msg("%s is NaN at element %lld", what, (long long)i);
        worst = fmax(worst, fabs(x - y));
    }
    if (getenv("TSR_TEST_PRINT") != NULL) print_message("%s: %.2g\n", what, worst / scale);
    if (!(worst <= tolerance * scale)) {
        fail_msg("%s differs by %g, of at most %g (tolerance %g)", what, worst, scale, tolerance);
    }
}

/* |a - b| <= tolerance * max |b| for all elements. */
static inline void assert_near(tsr_tensor *a, tsr_tensor *b, double tolerance, const char *what)
{
    assert_near_scale(a, b, tolerance, largest_of(b), what);
}

/*
 * Compares every gradient of m with prefix + name; a parameter without one in the file must have
 * none here. A gradient that is 0 but for rounding (a bias before batch norm) is compared at the
 * scale of the largest of all gradients.
 */
static inline void golden_gradients(const tsr_module *m, tsr_safetensors *file, const char *prefix,
                                    double tolerance)
{
    double largest = 0.0;
    for (int64_t i = 0; i < tsr_safetensors_count(file); i++) {
        const char *name = tsr_safetensors_name(file, i);
        if (strncmp(name, prefix, strlen(prefix)) != 0) continue;
        largest = fmax(largest, largest_of(golden(file, name, m->dtype)));
    }
    tsr_module_list *parameters = tsr_module_parameters(m);
    for (int64_t i = 0; i < parameters->n; i++) {
        char name[256];
        snprintf(name, sizeof name, "%s%s", prefix, parameters->at[i].name);
        tsr_tensor *t = parameters->at[i].tensor, *grad = tsr_tensor_grad(t);
        if (tsr_safetensors_find(file, name) < 0) {
            assert_null(grad);
            continue;
        }
        /* PyTorch's zero_grad of then left zeros. */
        if (grad == NULL) grad = tsr_zeros(m->dtype, tsr_tensor_shape(t));
        tsr_tensor *expected = golden(file, name, m->dtype);
        double scale = largest_of(expected);
        if (scale < 1e-6 * largest) scale = largest;
        assert_near_scale(grad, expected, tolerance, scale, name);
    }
    assert_true(largest > 0.0);
    tsr_module_list_free(&parameters);
}

/* The strings of the array "key": [...] in constants.json, each looked up in state. */
static inline void compare_names(const char *key, const tsr_module *m)
{
    char path[1024], quoted[64], *text = NULL;
    snprintf(path, sizeof path, "%s/constants.json", getenv("TSR_GOLDEN"));
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t room = 0;
    assert_true(getdelim(&text, &room, '\0', f) > 0);
    fclose(f);
    snprintf(quoted, sizeof quoted, "\"%s\": [", key);
    char *at = strstr(strstr(text, "\"state_dict_names\""), quoted);
    assert_non_null(at);
    char *end = strchr(at, ']');
    int64_t n = 0;
    for (at = strchr(at + strlen(key) + 2, '"'); at != NULL && at < end; at = strchr(at + 1, '"')) {
        char *close = strchr(at + 1, '"');
        *close = '\0';
        assert_non_null(tsr_module_find(m, at + 1));
        at = close;
        n++;
    }
    free(text);
    tsr_module_list *state = tsr_module_state(m);
    assert_int_equal(state->n, n);
    tsr_module_list_free(&state);
}

/* sum x * probe */
static inline tsr_tensor *probe(tsr_tensor *x, tsr_tensor *by)
{
    return tsr_sum(tsr_mul(x, by), NULL, 0, false);
}

/* The authors' values are f32; so is the error of f64 runs against them. */
static inline double tolerance_of(tsr_dtype dtype)
{
    return dtype == TSR_DTYPE_F32 ? 1e-5 : 2e-6;
}

#endif
