/* What the tests of fused ops share: the kernels' gradients against those of the definition. */
#ifndef TSR_TESTS_OPS_FUSED_H
#define TSR_TESTS_OPS_FUSED_H

#include "tests/ops/reference.h"

enum { FUSED_INPUTS = 8 };

/* Gradients of y = f(inputs) for normal cotangents, of the inputs that require one; by the op's backward, or through its
 * definition (create_graph). */
static inline void fused_gradients(tsr_function *f, void *user, tsr_tensors inputs, bool definition,
                                   tsr_tensor **grads)
{
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *y = NULL, *wanted[FUSED_INPUTS];
    int n = 0;
    f(inputs, &y, 1, user);
    assert_ok();
    for (int i = 0; i < inputs.n; i++) {
        if (tsr_requires_grad(inputs.at[i])) wanted[n++] = inputs.at[i];
    }
    tsr_tensor *v = reference_normal(tsr_tensor_dtype(y), tsr_tensor_shape(y), 77);
    tsr_grad(tape, TSR_TENSORS(y), TSR_TENSORS(v), (tsr_tensors){wanted, n}, grads,
             &(tsr_backward_options){.create_graph = definition});
    for (int i = 0; i < n; i++) grads[i] = tsr_detach(grads[i]);
    assert_ok();
    tsr_tape_close(&tape);
}

/* The kernels of an op and its definition have the same gradients. */
#define assert_definition(f, user, inputs, tolerance)                                              \
    do {                                                                                           \
        tsr_tensor *fused_a[FUSED_INPUTS] = {0}, *fused_b[FUSED_INPUTS] = {0};                     \
        fused_gradients(f, user, inputs, false, fused_a);                                          \
        fused_gradients(f, user, inputs, true, fused_b);                                           \
        for (int fused_i = 0; fused_i < FUSED_INPUTS && fused_a[fused_i] != NULL; fused_i++) {     \
            assert_close(fused_a[fused_i], fused_b[fused_i], tolerance);                           \
        }                                                                                          \
    } while (0)

/* A leaf of normal numbers. */
static inline tsr_tensor *fused_leaf(tsr_dtype dtype, tsr_shape shape, uint64_t seed)
{
    return tsr_require_grad(reference_normal(dtype, shape, seed), true);
}

/* The tolerance of a comparison with a reference in f64. */
static inline double fused_tolerance(tsr_dtype dtype)
{
    return dtype == TSR_DTYPE_F64 ? 1e-12 : 2e-5;
}

#define FUSED_EACH_REAL(dtype)                                                                     \
    for (tsr_dtype dtype = TSR_DTYPE_F32; dtype <= TSR_DTYPE_F64; dtype = (tsr_dtype)(dtype + 1))

#define FUSED_MAIN(...)                                                                            \
    int main(void)                                                                                 \
    {                                                                                              \
        const struct CMUnitTest tests[] = {__VA_ARGS__};                                           \
        return cmocka_run_group_tests(tests, NULL, NULL);                                          \
    }

#endif
