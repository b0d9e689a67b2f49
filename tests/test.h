/* What all tests share: CMocka with its headers, an open scope a test, and comparisons. */
#ifndef TSR_TESTS_TEST_H
#define TSR_TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above first. */
#include <cmocka.h>

#include "autograd/autograd.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Fails with the message of the sticky status unless it is OK. */
#define assert_ok()                                                                                \
    do {                                                                                           \
        if (tsr_status_get() != TSR_STATUS_OK) fail_msg("%s", tsr_message());                      \
    } while (0)

/* The sticky status is this one and its message contains text; clears it. */
#define assert_failed(status, text)                                                                \
    do {                                                                                           \
        if (strstr(tsr_message(), text) == NULL) {                                                 \
            fail_msg("message \"%s\" lacks \"%s\"", tsr_message(), text);                          \
        }                                                                                          \
        assert_int_equal(tsr_status_get(), status);                                                \
        tsr_status_clear();                                                                        \
    } while (0)

/* |a - b| <= tolerance * max(1, |b|) for all elements; shapes must be equal. */
#define assert_close(a, b, tolerance) tsr_test_close(a, b, tolerance, __FILE__, __LINE__)
/* The same bits. */
#define assert_same(a, b) tsr_test_same(a, b, __FILE__, __LINE__)

static inline void tsr_test_close(tsr_tensor *a, tsr_tensor *b, double tolerance, const char *file,
                                  int line)
{
    char ta[TSR_SHAPE_TEXT], tb[TSR_SHAPE_TEXT];
    if (tsr_status_get() != TSR_STATUS_OK || a == NULL || b == NULL) {
        print_error("%s\n", tsr_message());
        _fail(file, line);
    }
    if (!tsr_shape_equal(tsr_tensor_shape(a), tsr_tensor_shape(b))) {
        print_error("shapes %s and %s\n", tsr_shape_text(tsr_tensor_shape(a), ta),
                    tsr_shape_text(tsr_tensor_shape(b), tb));
        _fail(file, line);
    }
    for (int64_t i = 0; i < tsr_tensor_numel(a); i++) {
        double x = tsr_tensor_get(a, i), y = tsr_tensor_get(b, i);
        if (x == y || (isnan(x) && isnan(y))) continue;
        if (!(fabs(x - y) <= tolerance * fmax(1.0, fabs(y)))) {
            print_error("element %lld: %.17g, expected %.17g (tolerance %g)\n", (long long)i, x, y,
                        tolerance);
            _fail(file, line);
        }
    }
}

static inline void tsr_test_same(tsr_tensor *a, tsr_tensor *b, const char *file, int line)
{
    a = tsr_tensor_packed(a);
    b = tsr_tensor_packed(b);
    if (a == NULL || b == NULL || tsr_tensor_dtype(a) != tsr_tensor_dtype(b) ||
        !tsr_shape_equal(tsr_tensor_shape(a), tsr_tensor_shape(b))) {
        print_error("not of one type and shape; %s\n", tsr_message());
        _fail(file, line);
    }
    size_t bytes = (size_t)tsr_tensor_numel(a) * tsr_dtype_size(tsr_tensor_dtype(a));
    if (bytes > 0 && memcmp(tsr_tensor_data(a), tsr_tensor_data(b), bytes) != 0) {
        print_error("the bits differ\n");
        _fail(file, line);
    }
}

/* Setup and teardown of every test: a clean status and a scope. */
static inline int tsr_test_setup(void **state)
{
    static tsr_scope scope;
    tsr_status_clear();
    scope = tsr_scope_open();
    *state = &scope;
    return 0;
}

static inline int tsr_test_teardown(void **state)
{
    tsr_scope_close(*state, TSR_NO_TENSORS);
    return 0;
}

#define tsr_test(f) cmocka_unit_test_setup_teardown(f, tsr_test_setup, tsr_test_teardown)

#endif
