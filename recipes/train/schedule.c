/* Schedules as functions of a counter. */
#include "recipes/train/schedule.h"

#include <math.h>

/* The i-th of n values from a to b, both included (numpy.linspace): the last is b itself, a single one is a. */
static double line(double a, double b, int64_t i, int64_t n)
{
    if (n == 1) return a;
    if (i == n - 1) return b;
    return a + (double)i * ((b - a) / (double)(n - 1));
}

double tsr_schedule_cosine_at(const tsr_schedule_cosine *s, int64_t i)
{
    if (i < 0) i = 0;
    if (i < s->warmup) return line(s->start, s->base, i, s->warmup);
    if (i >= s->steps) return s->final;
    double turn = M_PI * (double)(i - s->warmup) / (double)(s->steps - s->warmup);
    return s->final + 0.5 * (s->base - s->final) * (1.0 + cos(turn));
}

double tsr_schedule_warmup_at(const tsr_schedule_warmup *s, int64_t i)
{
    if (i < s->delay) return s->start;
    i -= s->delay > 0 ? s->delay : 0;
    return i < s->warmup ? line(s->start, s->base, i < 0 ? 0 : i, s->warmup) : s->base;
}
