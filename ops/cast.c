/*
 * y = x in another type, rounded to nearest. dx = dy in x's type. Between types of which one is not floating nothing is
 * differentiable, and nothing is recorded.
 */
#include "autograd/loop.h"
#include "ops/kernels/bf16.h"
#include "ops/ops.h"
#include "ops/samples.h"

struct cast {
    tsr_dtype from;
};

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct cast *s = tsr_node_block(node);
    grad_inputs[0] = tsr_cast(grad_outputs[0], s->from);
}

/* Between f32 and bf16, where both are contiguous. */
static bool copy_by_kernel(tsr_tensor *y, tsr_tensor *x)
{
    enum { PIECE = 16384 };
    bool narrows = tsr_tensor_dtype(y) == TSR_DTYPE_BF16 && tsr_tensor_dtype(x) == TSR_DTYPE_F32;
    bool widens = tsr_tensor_dtype(y) == TSR_DTYPE_F32 && tsr_tensor_dtype(x) == TSR_DTYPE_BF16;
    if ((!narrows && !widens) || !tsr_tensor_is_contiguous(x)) return false;
    const tsr_bf16_kernels *k = tsr_bf16_kernels__get();
    int64_t numel = tsr_tensor_numel(x);
    void *yd = tsr_tensor_data_mut(y);
    const void *xd = tsr_tensor_data(x);
    TSR_PARALLEL_FOR(piece, (numel + PIECE - 1) / PIECE, numel, {
        int64_t at = piece * PIECE, n = numel - at < PIECE ? numel - at : PIECE;
        if (narrows) {
            k->narrow((tsr_bf16 *)yd + at, (const float *)xd + at, n);
        } else {
            k->widen((float *)yd + at, (const tsr_bf16 *)xd + at, n);
        }
    });
    return true;
}

static const tsr_op op = {.name = "cast", .block_size = sizeof(struct cast), .backward = backward};

tsr_tensor *tsr_cast(tsr_tensor *x, tsr_dtype dtype)
{
    if (x == NULL) return NULL;
    struct cast s = {tsr_tensor_dtype(x)};
    if (s.from == dtype) return x;
    tsr_tensor *y = tsr_empty(dtype, tsr_tensor_shape(x));
    if (y == NULL) return NULL;
    if (!copy_by_kernel(y, x) && tsr_tensor_copy(y, x) != TSR_STATUS_OK) return NULL;
    if (!tsr_dtype_is_float(s.from) || !tsr_dtype_is_float(dtype)) return y;
    return tsr_record(&op, &s, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(y));
}

/* f32 to f64 and back. The gradient checks are made in f64, where this is x itself: a rounding has no numeric derivative.
 * tests/ops/test_cast.c has the gradients of every pair of types. */
static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_cast(tsr_cast(in.at[0], TSR_DTYPE_F64), tsr_tensor_dtype(in.at[0]));
}

static const tsr_sample samples[] = {
    {"matrix", 1, 1, {{{2, {3, 5}}}}, call},
    {"scalar", 1, 1, {{{0}}}, call},
    {"empty", 1, 1, {{{2, {0, 5}}}}, call},
};
TSR_SAMPLES(cast, samples);
