/* What commands say of time, progress and broken images. */
#include "recipes/cli/cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

double tsr_screen__now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

const char *tsr_screen__duration(double seconds, char text[TSR_SCREEN_DURATION])
{
    int64_t s = isfinite(seconds) && seconds > 0 && seconds < 1e12 ? (int64_t)(seconds + 0.5) : 0;
    if (s >= 48 * 3600) {
        snprintf(text, TSR_SCREEN_DURATION, "%" PRId64 "d%02" PRId64 "h", s / 86400, s / 3600 % 24);
    } else if (s >= 3600) {
        snprintf(text, TSR_SCREEN_DURATION, "%" PRId64 "h%02" PRId64 "m", s / 3600, s / 60 % 60);
    } else {
        snprintf(text, TSR_SCREEN_DURATION, "%" PRId64 "m%02" PRId64 "s", s / 60, s % 60);
    }
    return text;
}

void tsr_progress__show(tsr_progress *p, int64_t done, int64_t of)
{
    if (!isatty(STDERR_FILENO)) return;
    double t = tsr_screen__now();
    if (p->start == 0.0) p->start = p->last = t;
    if (t - p->last < 0.2 || done == 0) return;
    p->last = t;
    char left[TSR_SCREEN_DURATION];
    double seconds = (t - p->start) * (double)(of - done) / (double)done;
    fprintf(stderr, "\r\033[K%s: %" PRId64 " of %" PRId64 " ETA %s", p->what, done, of,
            tsr_screen__duration(seconds, left));
}

void tsr_progress__of(int64_t done, int64_t of, void *user)
{
    tsr_progress__show(user, done, of);
}

void tsr_progress__end(tsr_progress *p)
{
    if (isatty(STDERR_FILENO)) fprintf(stderr, "\r\033[K");
    p->start = p->last = 0.0;
}

void tsr_dataset__report(tsr_dataset *data)
{
    tsr_dataset_problem first;
    int64_t skipped, n = tsr_dataset_problems(data, &first, 1, &skipped);
    if (n == 0) return;
    fprintf(stderr,
            "warning: %" PRId64 " images are damaged, %" PRId64
            " of them were replaced by others; the "
            "first: %s\n",
            n, skipped, first.text);
}
