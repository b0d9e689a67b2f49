/* Schedules against the authors' tables (tests/golden/constants.json, made by their cosine_scheduler) and numpy's. */
#include "../../test.h"
#include "recipes/train/schedule.h"

#include <stdlib.h>

/* The golden file's text; the caller frees. */
static char *read_constants(void)
{
    char path[4096];
    const char *folder = getenv("TSR_GOLDEN");
    assert_non_null(folder);
    snprintf(path, sizeof path, "%s/constants.json", folder);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    static char text[1 << 16];
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = '\0';
    return text;
}

static double number(const char *json, const char *key)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = strstr(json, quoted);
    assert_non_null(at);
    return strtod(at + strlen(quoted), NULL);
}

static void test_schedule__cosine_is_the_authors(void **state)
{
    (void)state;
    const char *at = read_constants();
    const char *end = strstr(at, "\"parameters\"");
    int tables = 0, values = 0;
    for (at = strstr(at, "\"base\""); at != NULL && at < end; at = strstr(at + 1, "\"base\"")) {
        double per_epoch = number(at, "iters");
        tsr_schedule_cosine schedule = {
            .base = number(at, "base"),
            .final = number(at, "final"),
            .warmup = (int64_t)(number(at, "warmup_epochs") * per_epoch),
            .steps = (int64_t)(number(at, "epochs") * per_epoch),
        };
        char *next = strchr(strstr(at, "\"values\""), '[');
        int64_t i = 0;
        for (; *next != ']'; i++) {
            double wanted = strtod(next + 1, &next);
            next += strspn(next, " \n\t");
            assert_true(fabs(tsr_schedule_cosine_at(&schedule, i) - wanted) <= 1e-12);
            values++;
        }
        assert_int_equal(i, schedule.steps);
        tables++;
    }
    assert_int_equal(tables, 3);
    assert_int_equal(values, 67);
}

static void test_schedule__cosine_keeps_its_ends(void **state)
{
    (void)state;
    tsr_schedule_cosine s = {.start = 0.1, .base = 0.7, .final = 0.2, .warmup = 4, .steps = 10};
    assert_true(tsr_schedule_cosine_at(&s, -1) == 0.1);
    assert_true(tsr_schedule_cosine_at(&s, 0) == 0.1);
    assert_true(tsr_schedule_cosine_at(&s, 3) == 0.7);
    assert_true(tsr_schedule_cosine_at(&s, 4) == 0.7);
    assert_true(fabs(tsr_schedule_cosine_at(&s, 7) - 0.45) < 1e-15);
    assert_true(tsr_schedule_cosine_at(&s, 9) > 0.2);
    assert_true(tsr_schedule_cosine_at(&s, 10) == 0.2);
    assert_true(tsr_schedule_cosine_at(&s, INT64_MAX) == 0.2);
    s.warmup = 1; /* numpy.linspace(a, b, 1) is [a] */
    assert_true(tsr_schedule_cosine_at(&s, 0) == 0.1);
    assert_true(tsr_schedule_cosine_at(&s, 1) == 0.7);
    s = (tsr_schedule_cosine){.base = 0.9, .final = 0.9, .steps = 5};
    for (int64_t i = 0; i < 7; i++) assert_true(tsr_schedule_cosine_at(&s, i) == 0.9);
}

/* numpy.concatenate of what iBOTLoss.__init__ puts together for 8 epochs. */
static void test_schedule__warmup_is_the_authors(void **state)
{
    (void)state;
    static const double plain[] = {0.04, 0.05, 0.06, 0.07, 0.07, 0.07, 0.07, 0.07};
    static const double late[] = {0.04, 0.04, 0.04, 0.05, 0.06, 0.07, 0.07, 0.07};
    tsr_schedule_warmup s = {.start = 0.04, .base = 0.07, .warmup = 4};
    for (int64_t i = 0; i < 8; i++) {
        assert_true(fabs(tsr_schedule_warmup_at(&s, i) - plain[i]) <= 1e-15);
    }
    s.delay = 2;
    for (int64_t i = 0; i < 8; i++) {
        assert_true(fabs(tsr_schedule_warmup_at(&s, i) - late[i]) <= 1e-15);
    }
    assert_true(tsr_schedule_warmup_at(&s, 5) == 0.07);
    s = (tsr_schedule_warmup){.start = 0.04, .base = 0.07};
    assert_true(tsr_schedule_warmup_at(&s, 0) == 0.07);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_schedule__cosine_is_the_authors),
        tsr_test(test_schedule__cosine_keeps_its_ends),
        tsr_test(test_schedule__warmup_is_the_authors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
