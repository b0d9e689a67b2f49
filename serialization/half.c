#include "serialization/half.h"

#include <stdint.h>
#include <string.h>

static float half_to_f32(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v;
    uint32_t exponent = (h >> 10) & 0x1fu, mantissa = h & 0x3ffu;
    if (exponent == 0) { /* zero, subnormal: mantissa * 2^-24 */
        v.f = (float)mantissa * 0x1p-24f;
    } else {
        v.u = (exponent == 31 ? 0xffu : exponent + 112) << 23 | mantissa << 13;
    }
    v.u |= (uint32_t)(h & 0x8000u) << 16;
    return v.f;
}

/* From the lower end: float k ends where half k + 1 begins, or before it. */
void tsr_half__widen(void *data, size_t n)
{
    uint8_t *to = data;
    const uint8_t *from = to + 2 * n;
    for (size_t k = 0; k < n; k++) {
        uint16_t h;
        memcpy(&h, from + 2 * k, sizeof h);
        float f = half_to_f32(h);
        memcpy(to + 4 * k, &f, sizeof f);
    }
}
