/*
 * Optimizers, and what is done to gradients before a step.
 *
 *   tsr_optimizer *o = tsr_optimizer_make(parameters, n, &(tsr_optimizer_options){.kind = TSR_OPTIMIZER_ADAMW});
 *   ...
 *   tsr_backward(tape, loss, NULL);
 *   tsr_optimizer_clip(o, TSR_CLIP_EACH, 3.0, &norms);
 *   tsr_optimizer_step(o, lr, weight_decay);
 *   tsr_optimizer_zero_grad(o);
 *
 * All of it gives the same bits at any number of threads.
 */
#ifndef TSR_RECIPES_TRAIN_OPTIMIZER_H
#define TSR_RECIPES_TRAIN_OPTIMIZER_H

#include "autograd/autograd.h"
#include "serialization/serialization.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The rules, for a parameter p with gradient g, learning rate l and weight decay w (0 for a parameter that does not decay):
 *
 * ADAMW (Loshchilov & Hutter 2019, algorithm 2, in the order of PyTorch's AdamW), at the parameter's own step t = 1, 2, ...:
 *     p <- p (1 - l w);  m <- m + (1 - beta1) (g - m);  v <- beta2 v + (1 - beta2) g^2
 *     p <- p - l / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
 * SGD (PyTorch's, dampening 0):
 *     b <- momentum b + g + w p;  p <- p - l b
 * LARS (You et al. 2017, as in iBOT's utils.py): SGD with d = g + w p in place of g, where d is scaled by
 *     eta |p| / |d| if both norms are positive. Parameters of one dimension are neither decayed nor scaled.
 */
typedef enum tsr_optimizer_kind {
    TSR_OPTIMIZER_ADAMW = 0,
    TSR_OPTIMIZER_SGD,
    TSR_OPTIMIZER_LARS,
} tsr_optimizer_kind;

/* A leaf to optimize, f32 or f64, contiguous. */
typedef struct tsr_optimizer_parameter {
    const char *name; /* of its state in checkpoints; copied */
    tsr_tensor *tensor;
    bool decays;         /* takes part in weight decay */
    double lr_scale;     /* its learning rate is this times that of the step (layer decay); 0: 1 */
    tsr_tensor *average; /* its moving average, of its type and shape, contiguous; NULL: none */
} tsr_optimizer_parameter;

/* Zero means the default. */
typedef struct tsr_optimizer_options {
    tsr_optimizer_kind kind;
    double beta1, beta2; /* ADAMW: 0.9 and 0.999 */
    double eps;          /* ADAMW: 1e-8 */
    double momentum;     /* SGD, LARS: 0.9 */
    double eta;          /* LARS: 0.001 */
} tsr_optimizer_options;

typedef struct tsr_optimizer tsr_optimizer;

/* Holds the parameters and averages and makes their state, all zero. NULL options: all zero. NULL on failure: ARGUMENT (no or repeated
 * name, a tensor that is NULL, repeated or not contiguous, an option out of range), DTYPE, MEMORY. */
TSR_API tsr_optimizer *tsr_optimizer_make(const tsr_optimizer_parameter *parameters, int n,
                                          const tsr_optimizer_options *options);
TSR_API void tsr_optimizer_free(tsr_optimizer **optimizer);

/* One step from the parameters' gradients. A parameter without one is skipped: it does not decay and, with ADAMW, its own
 * count of steps stays. Nothing is changed when the thread's status is not OK. ARGUMENT: lr or weight_decay is negative or
 * not finite. */
TSR_API tsr_status tsr_optimizer_step(tsr_optimizer *optimizer, double lr, double weight_decay);
/* The same, and in the same pass over memory a <- momentum a + (1 - momentum) p for every average a, with p after the step
 * (also where p was skipped). ARGUMENT too: momentum is outside 0 .. 1. */
TSR_API tsr_status tsr_optimizer_step_average(tsr_optimizer *optimizer, double lr,
                                              double weight_decay, double momentum);
/* Drops the gradients of all parameters, and what clipping has found. */
TSR_API tsr_status tsr_optimizer_zero_grad(tsr_optimizer *optimizer);

typedef enum tsr_clip {
    TSR_CLIP_NONE = 0, /* gradients are only measured */
    TSR_CLIP_EACH,     /* iBOT's utils.py: every gradient on its own */
    TSR_CLIP_GLOBAL, /* all gradients as one vector: Pascanu et al. 2013, PyTorch's clip_grad_norm_ */
} tsr_clip;

/* L2 norms before clipping. */
typedef struct tsr_gradient_norms {
    double global; /* of all gradients as one vector */
    double sum;    /* of the parameters' own norms */
} tsr_gradient_norms;

/* Measures gradients, and makes the next step scale them by c = max_norm / (norm + 1e-6) where c < 1; the tensors themselves
 * stay as they are, which saves a pass over them. Call it when they are complete. Parameters without a gradient do not count. norms may be
 * NULL. A norm that is not finite is reported as it is; what it scales is then not finite either. ARGUMENT: max_norm is not
 * positive (and the mode is not NONE). */
TSR_API tsr_status tsr_optimizer_clip(tsr_optimizer *optimizer, tsr_clip mode, double max_norm,
                                      tsr_gradient_norms *norms);

/* The state, for checkpoints: put each, and load into them to resume. *n tensors, owned by the optimizer, valid as long as
 * it lives. ADAMW: "exp_avg/<name>", "exp_avg_sq/<name>" (the parameter's type and shape) and "step/<name>" (I64 scalar);
 * SGD and LARS: "momentum/<name>". */
TSR_API const tsr_named_tensor *tsr_optimizer_state(const tsr_optimizer *optimizer, int64_t *n);

#ifdef __cplusplus
}
#endif

#endif
