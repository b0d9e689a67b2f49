/* Every version of every kernel that this CPU can run, against the portable one. */
#include "tests/test.h"

#include "tests/ops/kernel_cases.h"

#include <stdlib.h>

enum { STATS = 3 };

static tsr_tensor *input(tsr_dtype dtype, tsr_shape shape, uint32_t seed, double lo, double hi)
{
    tsr_tensor *t = tsr_empty(dtype, shape);
    tsr_fill_uniform(t, tsr_rng_make(9, 0, seed, 0), lo, hi);
    assert_ok();
    return t;
}

/* What one version of a kernel wrote. */
struct result {
    tsr_tensor *y, *stats, *sums, *more;
};

static struct result run(const kernel_case *c, const tsr_kernels *kernels, tsr_dtype dtype,
                         int64_t rows, int64_t d)
{
    tsr_shape matrix = TSR_SHAPE(rows, d), vector = TSR_SHAPE(d), sums = TSR_SHAPE(rows + d);
    tsr_tensor *x = input(dtype, matrix, 1, -4.0, 4.0);
    struct result r = {tsr_empty(dtype, matrix), tsr_zeros(dtype, TSR_SHAPE(rows, STATS)),
                       tsr_zeros(dtype, sums), tsr_zeros(dtype, sums)};
    int64_t *target = tsr_alloc((size_t)(rows + 1) * sizeof *target);
    assert_non_null(target);
    for (int64_t i = 0; i < rows; i++) target[i] = i % 5 == 3 ? -1 : i * 7 % d;
    assert_int_equal(tsr_tensor_copy(r.y, x), TSR_STATUS_OK);
    kernel_data data = {
        .rows = rows,
        .d = d,
        .x = tsr_tensor_data(x),
        .g = tsr_tensor_data(input(dtype, matrix, 2, -1.0, 1.0)),
        .t = tsr_tensor_data(input(dtype, matrix, 3, 0.0, 1.0)),
        .w = tsr_tensor_data(input(dtype, vector, 4, -1.0, 1.0)),
        .b = tsr_tensor_data(input(dtype, vector, 5, -1.0, 1.0)),
        .c = tsr_tensor_data(input(dtype, TSR_SHAPE(rows), 6, -1.0, 1.0)),
        .target = target,
        .y = tsr_tensor_data_mut(r.y),
        .stats = tsr_tensor_data_mut(r.stats),
        .sums = tsr_tensor_data_mut(r.sums),
        .more = tsr_tensor_data_mut(r.more),
    };
    if (c->prepare != NULL) {
        c->prepare(tsr_kernels__at(TSR_CPU_PORTABLE, dtype), &data);
        assert_int_equal(tsr_tensor_copy(r.y, x), TSR_STATUS_OK);
    }
    c->call(kernels, &data);
    tsr_free(target);
    return r;
}

static void compare(const kernel_case *c, tsr_cpu level, tsr_dtype dtype)
{
    static const int64_t sizes[][2] = {{0, 5}, {1, 1},  {3, 1},   {2, 2},    {5, 7},
                                       {4, 8}, {7, 64}, {6, 197}, {9, 1023}, {33, 384}};
    double tolerance = dtype == TSR_DTYPE_F32 ? 2e-5 : 1e-13;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        tsr_scope scope = tsr_scope_open();
        int64_t rows = sizes[i][0], d = sizes[i][1];
        struct result want = run(c, tsr_kernels__at(TSR_CPU_PORTABLE, dtype), dtype, rows, d);
        struct result got = run(c, tsr_kernels__at(level, dtype), dtype, rows, d);
        assert_close(got.y, want.y, tolerance);
        assert_close(got.stats, want.stats, tolerance);
        assert_close(got.sums, want.sums, tolerance);
        assert_close(got.more, want.more, tolerance);
        assert_true(rows == 0 || tsr_tensor_is_finite(want.y));
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
}

struct one {
    const kernel_case *c;
    tsr_cpu level;
    tsr_dtype dtype;
    char name[128];
};

static void test_kernels__agree_with_portable(void **state)
{
    const struct one *t = *state;
    tsr_status_clear();
    compare(t->c, t->level, t->dtype);
}

static void test_kernels__every_entry_has_a_case(void **state)
{
    (void)state;
    /* The cases name the kernel they call first; flags and variants follow after a space or a comma. */
    int named = 0;
    for (int i = 0; i < KERNEL_CASES; i++) {
        size_t n = strcspn(kernel_cases[i].name, " ,");
        bool first = true;
        for (int j = 0; j < i; j++) {
            if (strcspn(kernel_cases[j].name, " ,") == n &&
                strncmp(kernel_cases[j].name, kernel_cases[i].name, n) == 0) {
                first = false;
            }
        }
        named += first;
    }
    assert_int_equal(named, sizeof(tsr_kernels) / sizeof(void (*)(void)));
}

static void test_kernels__level_in_use_is_listed(void **state)
{
    (void)state;
    tsr_cpu level = tsr_cpu__level();
    assert_true(level < TSR_CPU_COUNT);
    assert_ptr_equal(tsr_kernels__get(TSR_DTYPE_F32), tsr_kernels__at(level, TSR_DTYPE_F32));
    assert_non_null(tsr_kernels__at(TSR_CPU_PORTABLE, TSR_DTYPE_F64));
    print_message("kernels in use: %s\n", tsr_cpu__name(level));
}

int main(void)
{
    enum { MOST = KERNEL_CASES * TSR_CPU_COUNT * 2 + 2 };
    static struct CMUnitTest tests[MOST];
    static struct one ones[MOST];
    size_t n = 0;
    tests[n++] = (struct CMUnitTest)tsr_test(test_kernels__every_entry_has_a_case);
    tests[n++] = (struct CMUnitTest)tsr_test(test_kernels__level_in_use_is_listed);
    for (int l = 0; l <= (int)tsr_cpu__level(); l++) {
        for (int i = 0; i < 2 * KERNEL_CASES; i++) {
            struct one *t = &ones[n];
            *t = (struct one){.c = &kernel_cases[i / 2],
                              .level = (tsr_cpu)l,
                              .dtype = i % 2 == 0 ? TSR_DTYPE_F32 : TSR_DTYPE_F64};
            snprintf(t->name, sizeof t->name, "test_kernels__agree_with_portable (%s, %s, %s)",
                     t->c->name, tsr_cpu__name(t->level), tsr_dtype_name(t->dtype));
            tests[n++] =
                (struct CMUnitTest){t->name, test_kernels__agree_with_portable, NULL, NULL, t};
        }
    }
    return _cmocka_run_group_tests("kernels", tests, n, NULL, NULL);
}
