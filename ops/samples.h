/*
 * Samples of each op: what the generic checks (tests/ops/test_generic.c) and `tessera gradcheck` run on. They stand at the
 * end of the op's own file; the build's list of ops makes the table, and an op without samples does not link.
 * Not installed.
 */
#ifndef TSR_OPS_SAMPLES_H
#define TSR_OPS_SAMPLES_H

#include "autograd/autograd.h"

enum { TSR_SAMPLE_INPUTS = 6 };

typedef struct tsr_sample_input {
    tsr_shape shape;
    double lo, hi; /* uniform in [lo, hi); both 0: [-2, 2) */
    int64_t below; /* > 0: I64 in [0, below), never differentiated */
    bool mask;     /* BOOL, half of them set */
    bool absent;   /* NULL: an optional input left out */
    bool constant; /* a floating input that is not differentiated */
} tsr_sample_input;

typedef struct tsr_sample {
    const char *name; /* what is particular: "broadcast row", "empty", "bias NULL" */
    int n_inputs;
    int n_outputs; /* 0 means 1 */
    tsr_sample_input inputs[TSR_SAMPLE_INPUTS];
    tsr_function *call; /* runs the op; user is this sample */
    const void *args;   /* attributes, for call to read */
    bool (*kink)(tsr_tensors inputs, int input, int64_t element,
                 void *user); /* as tsr_gradcheck_options */
    bool no_gradient;         /* comparisons, argmax, ...: values only */
} tsr_sample;

typedef struct tsr_op_samples {
    const char *op;
    const tsr_sample *at;
    int n;
    bool bf16; /* it takes bf16 tensors too */
} tsr_op_samples;

#define TSR_SAMPLES(op_name, table)      TSR_SAMPLES_OF(op_name, table, false)
#define TSR_SAMPLES_BF16(op_name, table) TSR_SAMPLES_OF(op_name, table, true)

#define TSR_SAMPLES_OF(op_name, table, takes_bf16)                                                 \
    extern const tsr_op_samples tsr_samples__##op_name;                                            \
    const tsr_op_samples tsr_samples__##op_name = {                                                \
        #op_name, table, (int)(sizeof(table) / sizeof((table)[0])), takes_bf16}

/* The samples of every op, in the order of the build's list. */
TSR_API const tsr_op_samples *const *tsr_samples__all(int *n);
/* Makes a sample's inputs in dtype (f32, f64 or bf16) in the open scope; the same values for a seed. Differentiable ones
 * require a gradient. */
TSR_API bool tsr_samples__inputs(const tsr_sample *sample, tsr_dtype dtype, uint64_t seed,
                                 tsr_tensor *inputs[TSR_SAMPLE_INPUTS]);

#endif
