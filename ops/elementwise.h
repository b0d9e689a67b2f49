/*
 * Loops of the elementwise ops, written once and compiled for each type. Not installed.
 *
 * TSR_UNARY and TSR_BINARY define a function that fills a contiguous output from strided inputs by an expression, one for
 * f32 and one for f64; bf16 is computed in f32.
 */
#ifndef TSR_OPS_ELEMENTWISE_H
#define TSR_OPS_ELEMENTWISE_H

#include "autograd/autograd.h"
#include "autograd/loop.h"

/* True where x is f32, f64 or bf16; else false and a message. */
bool tsr_elementwise__takes(const char *op, const char *argument, const tsr_tensor *x);
/* Output of a unary op: x's shape and type; NULL unless x is f32, f64 or bf16. */
tsr_tensor *tsr_elementwise__like(const char *op, tsr_tensor *x);
/* Output of a binary op: the broadcast shape; NULL with a message where shapes or types do not fit. dtype: of the output;
 * with TSR_DTYPE_COUNT the operands' own, which must then be f32, f64 or bf16. */
tsr_tensor *tsr_elementwise__broadcast(const char *op, tsr_tensor *a, tsr_tensor *b,
                                       tsr_dtype dtype);

/* How the loops read and write elements of a type S in which they do not compute. */
#define TSR_ELEMENT_AS_IS(x) (x)

/* The loops proper, over elements of type S, in arithmetic of type T: the inner one for unit strides is a copy of its own,
 * which the compiler vectorizes. */
#define TSR_UNARY_BODY(T, S, read, write, expression)                                              \
    {                                                                                              \
        S *yp = (S *)yd + at[0];                                                                   \
        const S *xp = (const S *)xd + at[1];                                                       \
        if (sy == 1 && sx == 1) {                                                                  \
            for (int64_t i = 0; i < n; i++) {                                                      \
                const T x = read(xp[i]);                                                           \
                yp[i] = write((T)(expression));                                                    \
            }                                                                                      \
        } else {                                                                                   \
            for (int64_t i = 0; i < n; i++) {                                                      \
                const T x = read(xp[i * sx]);                                                      \
                yp[i * sy] = write((T)(expression));                                               \
            }                                                                                      \
        }                                                                                          \
    }

/* The body of such a function: fills y from x_. */
#define TSR_UNARY_LOOP(y, x_, expression32, expression64)                                          \
    {                                                                                              \
        tsr_loop loop = tsr_loop__over(2, (const tsr_tensor *[]){y, x_});                          \
        int64_t numel = tsr_tensor_numel(y), pieces = numel > 0 ? tsr_loop__pieces(&loop) : 0;     \
        void *yd = tsr_tensor_data_mut(y);                                                         \
        const void *xd = tsr_tensor_data(x_);                                                      \
        tsr_dtype dtype = tsr_tensor_dtype(y);                                                     \
        TSR_PARALLEL_FOR(p, pieces, numel, {                                                       \
            int64_t at[TSR_LOOP_OPERANDS] = {0}, n = tsr_loop__piece(&loop, p, at);                \
            int64_t sy = loop.stride[0][loop.ndim - 1], sx = loop.stride[1][loop.ndim - 1];        \
            if (dtype == TSR_DTYPE_F32)                                                            \
                TSR_UNARY_BODY(float, float, TSR_ELEMENT_AS_IS, TSR_ELEMENT_AS_IS, expression32)   \
            else if (dtype == TSR_DTYPE_F64)                                                       \
                TSR_UNARY_BODY(double, double, TSR_ELEMENT_AS_IS, TSR_ELEMENT_AS_IS, expression64) \
            else                                                                                   \
                TSR_UNARY_BODY(float, tsr_bf16, tsr_bf16_to_f32, tsr_bf16_from_f32, expression32)  \
        });                                                                                        \
    }

/* static void name(tsr_tensor *y, tsr_tensor *x): f32 and bf16 by expression32, f64 by expression64. */
#define TSR_UNARY(name, expression32, expression64)                                                \
    static void name(tsr_tensor *y, tsr_tensor *x_)                                                \
        TSR_UNARY_LOOP(y, x_, expression32, expression64)

#define TSR_BINARY_BODY(T, S, read, write, expression)                                             \
    {                                                                                              \
        S *rp = (S *)rd + at[0];                                                                   \
        const S *xp = (const S *)xd + at[1], *yp = (const S *)yd + at[2];                          \
        if (sr == 1 && sx == 1 && sy == 1) {                                                       \
            for (int64_t i = 0; i < n; i++) {                                                      \
                const T x = read(xp[i]), y = read(yp[i]);                                          \
                rp[i] = write((T)(expression));                                                    \
            }                                                                                      \
        } else if (sr == 1 && sx == 1 && sy == 0) {                                                \
            const T y = read(yp[0]);                                                               \
            for (int64_t i = 0; i < n; i++) {                                                      \
                const T x = read(xp[i]);                                                           \
                rp[i] = write((T)(expression));                                                    \
            }                                                                                      \
        } else {                                                                                   \
            for (int64_t i = 0; i < n; i++) {                                                      \
                const T x = read(xp[i * sx]), y = read(yp[i * sy]);                                \
                rp[i * sr] = write((T)(expression));                                               \
            }                                                                                      \
        }                                                                                          \
    }

/* static void name(tsr_tensor *result, tsr_tensor *x, tsr_tensor *y), broadcast. */
#define TSR_BINARY(name, expression32, expression64)                                               \
    static void name(tsr_tensor *result, tsr_tensor *x_, tsr_tensor *y_)                           \
    {                                                                                              \
        tsr_loop loop = tsr_loop__over(3, (const tsr_tensor *[]){result, x_, y_});                 \
        int64_t numel = tsr_tensor_numel(result);                                                  \
        int64_t pieces = numel > 0 ? tsr_loop__pieces(&loop) : 0;                                  \
        void *rd = tsr_tensor_data_mut(result);                                                    \
        const void *xd = tsr_tensor_data(x_), *yd = tsr_tensor_data(y_);                           \
        tsr_dtype dtype = tsr_tensor_dtype(result);                                                \
        TSR_PARALLEL_FOR(p, pieces, numel, {                                                       \
            int64_t at[TSR_LOOP_OPERANDS] = {0}, n = tsr_loop__piece(&loop, p, at);                \
            int64_t sr = loop.stride[0][loop.ndim - 1], sx = loop.stride[1][loop.ndim - 1];        \
            int64_t sy = loop.stride[2][loop.ndim - 1];                                            \
            if (dtype == TSR_DTYPE_F32)                                                            \
                TSR_BINARY_BODY(float, float, TSR_ELEMENT_AS_IS, TSR_ELEMENT_AS_IS, expression32)  \
            else if (dtype == TSR_DTYPE_F64)                                                       \
                TSR_BINARY_BODY(double, double, TSR_ELEMENT_AS_IS, TSR_ELEMENT_AS_IS,              \
                                expression64)                                                      \
            else                                                                                   \
                TSR_BINARY_BODY(float, tsr_bf16, tsr_bf16_to_f32, tsr_bf16_from_f32, expression32) \
        });                                                                                        \
    }

#endif
