/*
 * GELU of bf16 numbers by tables of all 65,536 of them, which the f64 kernels fill at their first use: two loads and a store
 * an element take less than half the time of the arithmetic in f32, and the result is rounded once. A network's activations
 * meet a few thousand entries, which stay in the first cache.
 */
#include "ops/kernels/bf16.h"
#include "ops/kernels/kernels.h"

#include <pthread.h>
#include <string.h>

enum { NUMBERS = 1 << 16, PIECE = 1024 };

struct table {
    pthread_once_t once;
    tsr_bf16 value[NUMBERS];
    float slope[NUMBERS];
};

static struct table by_erf = {.once = PTHREAD_ONCE_INIT}, by_tanh = {.once = PTHREAD_ONCE_INIT};

static void fill(struct table *t, bool tanh)
{
    const tsr_kernels *k = tsr_kernels__at(TSR_CPU_PORTABLE, TSR_DTYPE_F64);
    double x[PIECE], one[PIECE], y[PIECE], slope[PIECE];
    for (int first = 0; first < NUMBERS; first += PIECE) {
        for (int i = 0; i < PIECE; i++) {
            x[i] = (double)tsr_bf16_to_f32((tsr_bf16){(uint16_t)(first + i)});
            one[i] = 1.0;
        }
        k->gelu(y, x, PIECE, tanh);
        k->gelu_backward(slope, x, one, PIECE, tanh);
        for (int i = 0; i < PIECE; i++) {
            t->value[first + i] = tsr_bf16_from_f32((float)y[i]);
            t->slope[first + i] = (float)slope[i];
        }
    }
}

static void fill_by_erf(void)
{
    fill(&by_erf, false);
}

static void fill_by_tanh(void)
{
    fill(&by_tanh, true);
}

static const struct table *table(bool tanh)
{
    if (tanh) {
        pthread_once(&by_tanh.once, fill_by_tanh);
        return &by_tanh;
    }
    pthread_once(&by_erf.once, fill_by_erf);
    return &by_erf;
}

/* Four numbers are loaded and stored at a time: loads and stores are what this takes. */
void tsr_bf16__gelu(tsr_bf16 *y, const tsr_bf16 *x, int64_t n, bool tanh)
{
    const tsr_bf16 *value = table(tanh)->value;
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        uint64_t from, to = 0;
        memcpy(&from, x + i, sizeof from);
        for (int shift = 0; shift < 64; shift += 16) {
            to |= (uint64_t)value[from >> shift & 0xffff].bits << shift;
        }
        memcpy(y + i, &to, sizeof to);
    }
    for (; i < n; i++) y[i] = value[x[i].bits];
}

void tsr_bf16__gelu_backward(tsr_bf16 *dx, const tsr_bf16 *x, const tsr_bf16 *g, int64_t n,
                             bool tanh)
{
    const float *slope = table(tanh)->slope;
    const tsr_bf16_kernels *k = tsr_bf16_kernels__get();
    float wide[PIECE];
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t length = n - at < PIECE ? n - at : PIECE;
        k->widen(wide, g + at, length);
        for (int64_t i = 0; i < length; i++) wide[i] *= slope[x[at + i].bits];
        k->narrow(dx + at, wide, length);
    }
}
