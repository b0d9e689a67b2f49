/*
 * Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3.
 * The 128-bit counter is (index, step, sample, purpose), the key is the seed.
 */
#include "autograd/autograd.h"
#include "autograd/loop.h"

#include <math.h>
#include <string.h>

static void philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

tsr_rng tsr_rng_make(uint64_t seed, uint32_t step, uint32_t sample, uint32_t purpose)
{
    return (tsr_rng){.key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
                     .step = step,
                     .sample = sample,
                     .purpose = purpose};
}

uint32_t tsr_rng_purpose(const char *label)
{
    uint32_t h = 2166136261u;
    for (; *label != '\0'; label++) h = (h ^ (unsigned char)*label) * 16777619u;
    return h;
}

tsr_rng tsr_rng_row(tsr_rng rng, int64_t row)
{
    int64_t sample = row;
    if (rng.part > 0) sample = row / rng.part * rng.batch + row % rng.part;
    rng.sample += (uint32_t)sample;
    rng.left = 0;
    return rng;
}

uint32_t tsr_rng_u32(tsr_rng *rng)
{
    if (rng->left == 0) {
        uint32_t counter[4] = {rng->index++, rng->step, rng->sample, rng->purpose};
        philox(rng->key, counter, rng->block);
        rng->left = 4;
    }
    return rng->block[4 - rng->left--];
}

static double to_unit(uint32_t hi, uint32_t lo)
{
    return (double)((((uint64_t)hi << 32) | lo) >> 11) * 0x1p-53;
}

double tsr_rng_uniform(tsr_rng *rng)
{
    uint32_t hi = tsr_rng_u32(rng);
    return to_unit(hi, tsr_rng_u32(rng));
}

double tsr_rng_range(tsr_rng *rng, double lo, double hi)
{
    return lo + (hi - lo) * tsr_rng_uniform(rng);
}

int64_t tsr_rng_below(tsr_rng *rng, int64_t n)
{
    if (n < 1) return 0;
    /* Rejects the incomplete last interval, so that every value is equally likely. */
    uint64_t range = (uint64_t)n, limit = UINT64_MAX - UINT64_MAX % range;
    for (;;) {
        uint64_t hi = tsr_rng_u32(rng), x = (hi << 32) | tsr_rng_u32(rng);
        if (x < limit) return (int64_t)(x % range);
    }
}

static double normal_from(double u1, double u2)
{
    /* 1 - u1 lies in (0, 1], so the logarithm is finite. */
    return sqrt(-2.0 * log1p(-u1)) * cos(6.283185307179586476925 * u2);
}

double tsr_rng_normal(tsr_rng *rng)
{
    double u1 = tsr_rng_uniform(rng);
    return normal_from(u1, tsr_rng_uniform(rng));
}

void tsr_rng_permutation(tsr_rng *rng, int64_t n, int64_t *out)
{
    for (int64_t i = 0; i < n; i++) out[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = tsr_rng_below(rng, i + 1), t = out[i];
        out[i] = out[j];
        out[j] = t;
    }
}

/* The generator of element i alone: i goes where the sample was, the sample into the key. */
static tsr_rng element_rng(const tsr_rng *rng, int64_t i)
{
    tsr_rng r = *rng;
    r.key[0] ^= (uint32_t)((uint64_t)i >> 32) * 0x9E3779B1u;
    r.key[1] += rng->sample * 0x85EBCA77u;
    r.sample = (uint32_t)i;
    r.left = 0;
    return r;
}

struct fill {
    enum { UNIFORM, NORMAL, TRUNC_NORMAL, BERNOULLI } kind;
    double a, b, lo, hi;
};

static double draw(const struct fill *f, tsr_rng *rng)
{
    double x;
    switch (f->kind) {
    case UNIFORM:
        return tsr_rng_range(rng, f->a, f->b);
    case NORMAL:
        return f->a + f->b * tsr_rng_normal(rng);
    case TRUNC_NORMAL:
        do {
            x = f->a + f->b * tsr_rng_normal(rng);
        } while (x < f->lo || x > f->hi);
        return x;
    case BERNOULLI:
        return tsr_rng_uniform(rng) < f->a ? 1.0 : 0.0;
    }
    return 0.0;
}

static void store(tsr_dtype dtype, void *data, int64_t i, double x)
{
    switch (dtype) {
    case TSR_DTYPE_F32:
        ((float *)data)[i] = (float)x;
        break;
    case TSR_DTYPE_F64:
        ((double *)data)[i] = x;
        break;
    case TSR_DTYPE_BF16:
        ((tsr_bf16 *)data)[i] = tsr_bf16_from_f32((float)x);
        break;
    case TSR_DTYPE_I32:
        ((int32_t *)data)[i] = (int32_t)x;
        break;
    case TSR_DTYPE_I64:
        ((int64_t *)data)[i] = (int64_t)x;
        break;
    default:
        ((uint8_t *)data)[i] = (uint8_t)x;
        break;
    }
}

enum {
    BLOCK = 4096,
    COST = 32
}; /* elements a thread takes at once; elementary operations of one */

static tsr_status fill(tsr_tensor *t, tsr_rng rng, struct fill f, const char *name)
{
    if (t == NULL) return tsr_fail(TSR_STATUS_ARGUMENT, "%s: tensor is NULL", name);
    tsr_dtype dtype = tsr_tensor_dtype(t);
    if (f.kind != BERNOULLI && !tsr_dtype_is_float(dtype)) {
        return tsr_fail(TSR_STATUS_DTYPE, "%s: tensor is %s, expected a floating type", name,
                        tsr_dtype_name(dtype));
    }
    if (!tsr_tensor_is_contiguous(t)) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "%s: tensor is not contiguous", name);
    }
    void *data = tsr_tensor_data_mut(t);
    int64_t n = tsr_tensor_numel(t);
    TSR_PARALLEL_FOR(b, (n + BLOCK - 1) / BLOCK, COST * n, {
        int64_t end = b * BLOCK + BLOCK < n ? b * BLOCK + BLOCK : n;
        for (int64_t i = b * BLOCK; i < end; i++) {
            tsr_rng r = element_rng(&rng, i);
            store(dtype, data, i, draw(&f, &r));
        }
    });
    return TSR_STATUS_OK;
}

tsr_status tsr_fill_uniform(tsr_tensor *t, tsr_rng rng, double lo, double hi)
{
    return fill(t, rng, (struct fill){.kind = UNIFORM, .a = lo, .b = hi}, "fill_uniform");
}

tsr_status tsr_fill_normal(tsr_tensor *t, tsr_rng rng, double mean, double std)
{
    return fill(t, rng, (struct fill){.kind = NORMAL, .a = mean, .b = std}, "fill_normal");
}

tsr_status tsr_fill_trunc_normal(tsr_tensor *t, tsr_rng rng, double mean, double std, double lo,
                                 double hi)
{
    /* Redrawing must end: the interval has to hold a fair share of the distribution. */
    double share = 0.5 * (erf((hi - mean) / std * 0.70710678118654752440) -
                          erf((lo - mean) / std * 0.70710678118654752440));
    if (!(std > 0.0) || !(share > 1e-3)) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "fill_trunc_normal: [%g, %g] holds less than a thousandth of N(%g, %g)", lo,
                        hi, mean, std);
    }
    struct fill f = {.kind = TRUNC_NORMAL, .a = mean, .b = std, .lo = lo, .hi = hi};
    return fill(t, rng, f, "fill_trunc_normal");
}

tsr_status tsr_fill_bernoulli(tsr_tensor *t, tsr_rng rng, double p)
{
    return fill(t, rng, (struct fill){.kind = BERNOULLI, .a = p}, "fill_bernoulli");
}
