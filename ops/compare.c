/* r = x == y, and so on: BOOL, broadcast, of any one type. No gradient. NaN is unequal to all and in no order. */
#include "ops/elementwise.h"
#include "ops/ops.h"
#include "ops/samples.h"

#define COMPARE_LOOP(T, load, operator)                                                            \
    {                                                                                              \
        const T *xp = (const T *)xd + at[1], *yp = (const T *)yd + at[2];                          \
        for (int64_t i = 0; i < n; i++) rp[i * sr] = load(xp[i * sx]) operator load(yp[i * sy]);   \
    }                                                                                              \
    break

#define AS_IT_IS(x) (x)

/* One comparison for all types. */
#define COMPARE(name, operator)                                                                    \
    static void name##_loop(tsr_tensor *r, tsr_tensor *a, tsr_tensor *b)                           \
    {                                                                                              \
        tsr_loop loop = tsr_loop__over(3, (const tsr_tensor *[]){r, a, b});                        \
        int64_t numel = tsr_tensor_numel(r), pieces = numel > 0 ? tsr_loop__pieces(&loop) : 0;     \
        uint8_t *rd = tsr_tensor_data_mut(r);                                                      \
        const void *xd = tsr_tensor_data(a), *yd = tsr_tensor_data(b);                             \
        tsr_dtype dtype = tsr_tensor_dtype(a);                                                     \
        TSR_PARALLEL_FOR(p, pieces, numel, {                                                       \
            int64_t at[TSR_LOOP_OPERANDS], n = tsr_loop__piece(&loop, p, at);                      \
            int64_t sr = loop.stride[0][loop.ndim - 1], sx = loop.stride[1][loop.ndim - 1];        \
            int64_t sy = loop.stride[2][loop.ndim - 1];                                            \
            uint8_t *rp = rd + at[0];                                                              \
            switch (dtype) {                                                                       \
            case TSR_DTYPE_F32:                                                                    \
                COMPARE_LOOP(float, AS_IT_IS, operator);                                           \
            case TSR_DTYPE_F64:                                                                    \
                COMPARE_LOOP(double, AS_IT_IS, operator);                                          \
            case TSR_DTYPE_BF16:                                                                   \
                COMPARE_LOOP(tsr_bf16, tsr_bf16_to_f32, operator);                                 \
            case TSR_DTYPE_I32:                                                                    \
                COMPARE_LOOP(int32_t, AS_IT_IS, operator);                                         \
            case TSR_DTYPE_I64:                                                                    \
                COMPARE_LOOP(int64_t, AS_IT_IS, operator);                                         \
            default:                                                                               \
                COMPARE_LOOP(uint8_t, AS_IT_IS, operator);                                         \
            }                                                                                      \
        });                                                                                        \
    }                                                                                              \
    tsr_tensor *tsr_##name(tsr_tensor *a, tsr_tensor *b)                                           \
    {                                                                                              \
        static const tsr_op op = {#name, 0, NULL, NULL};                                           \
        tsr_tensor *r = tsr_elementwise__broadcast(#name, a, b, TSR_DTYPE_BOOL);                   \
        if (r == NULL) return NULL;                                                                \
        name##_loop(r, a, b);                                                                      \
        return tsr_record(&op, NULL, TSR_TENSORS(a, b), TSR_NO_TENSORS, TSR_TENSORS(r));           \
    }

COMPARE(eq, ==)
COMPARE(ne, !=)
COMPARE(lt, <)
COMPARE(le, <=)
COMPARE(gt, >)
COMPARE(ge, >=)

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)user;
    tsr_tensor *(*const all[])(tsr_tensor *, tsr_tensor *) = {tsr_eq, tsr_ne, tsr_lt,
                                                              tsr_le, tsr_gt, tsr_ge};
    for (int i = 0; i < n_out; i++) out[i] = all[i](in.at[0], in.at[1]);
}

static const tsr_sample samples[] = {
    {"same shape", 2, 6, {{{2, {3, 5}}}, {{2, {3, 5}}}}, call, .no_gradient = true},
    {"row and column", 2, 6, {{{2, {1, 7}}}, {{2, {3, 1}}}}, call, .no_gradient = true},
    {"integers", 2, 6, {{{1, {9}}, .below = 3}, {{1, {9}}, .below = 3}}, call, .no_gradient = true},
    {"empty", 2, 6, {{{2, {0, 3}}}, {{1, {3}}}}, call, .no_gradient = true},
};
TSR_SAMPLES(compare, samples);
