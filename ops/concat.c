/*
 * y = the parts one after the other along one dimension; their other sizes agree. The gradient of a part is the slice of
 * dy where it went.
 */
#include "ops/dims.h"
#include "ops/ops.h"
#include "ops/samples.h"

#include <inttypes.h>

struct concat {
    int dim;
};

static bool result_shape(tsr_tensors parts, int dim, tsr_shape *shape, int *at)
{
    if (parts.n < 1) {
        tsr_fail(TSR_STATUS_ARGUMENT, "concat: no parts, expected 1 or more");
        return false;
    }
    tsr_dtype dtype = tsr_tensor_dtype(parts.at[0]);
    *shape = tsr_tensor_shape(parts.at[0]);
    *at = tsr_dims__index("concat", "dim", dim, shape->ndim);
    if (*at < 0) return false;
    for (int i = 1; i < parts.n; i++) {
        tsr_shape part = tsr_tensor_shape(parts.at[i]), same = part;
        if (tsr_tensor_dtype(parts.at[i]) != dtype) {
            tsr_fail(TSR_STATUS_DTYPE, "concat: part %d is %s, expected %s", i,
                     tsr_dtype_name(tsr_tensor_dtype(parts.at[i])), tsr_dtype_name(dtype));
            return false;
        }
        same.size[*at] = shape->size[*at];
        if (part.ndim != shape->ndim || !tsr_shape_equal(same, *shape)) {
            char got[TSR_SHAPE_TEXT], wanted[TSR_SHAPE_TEXT];
            tsr_fail(TSR_STATUS_SHAPE,
                     "concat: part %d has shape %s, which differs from %s in more than "
                     "dimension %d",
                     i, tsr_shape_text(part, got), tsr_shape_text(*shape, wanted), *at);
            return false;
        }
        shape->size[*at] += part.size[*at];
    }
    return true;
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    const struct concat *s = tsr_node_block(node);
    const int64_t *sizes = tsr_tensor_data(tsr_node_saved(node, 0));
    int64_t at = 0;
    for (int i = 0; i < tsr_tensor_numel(tsr_node_saved(node, 0)); i++) {
        if (tsr_node_wants(node, i)) {
            grad_inputs[i] = tsr_slice(grad_outputs[0], s->dim, at, at + sizes[i], 1);
        }
        at += sizes[i];
    }
}

static const tsr_field fields[] = {TSR_FIELD(struct concat, "dim", dim), {0}};

static const tsr_op op = {
    .name = "concat", .block_size = sizeof(struct concat), .backward = backward, .fields = fields};

tsr_tensor *tsr_concat(tsr_tensors parts, int dim)
{
    for (int i = 0; i < parts.n; i++) {
        if (parts.at[i] == NULL) return NULL;
    }
    tsr_shape shape;
    struct concat s;
    if (!result_shape(parts, dim, &shape, &s.dim)) return NULL;
    tsr_tensor *y = tsr_empty(tsr_tensor_dtype(parts.at[0]), shape);
    tsr_tensor *sizes = tsr_empty(TSR_DTYPE_I64, TSR_SHAPE(parts.n));
    if (y == NULL || sizes == NULL) return NULL;
    int64_t at = 0, *size = tsr_tensor_data_mut(sizes);
    for (int i = 0; i < parts.n; i++) {
        size[i] = tsr_tensor_size(parts.at[i], s.dim);
        tsr_tensor *to = tsr_tensor_view(y, tsr_tensor_shape(parts.at[i]), tsr_tensor_strides(y),
                                         at * tsr_tensor_strides(y)[s.dim]);
        if (to == NULL || tsr_tensor_copy(to, parts.at[i]) != TSR_STATUS_OK) return NULL;
        at += size[i];
    }
    return tsr_record(&op, &s, parts, TSR_TENSORS(sizes), TSR_TENSORS(y));
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    out[0] = tsr_concat(in, *(const int *)((const tsr_sample *)user)->args);
}

static const tsr_sample samples[] = {
    {"tokens", 2, 1, {{{3, {2, 1, 5}}}, {{3, {2, 3, 5}}}}, call, &(const int){1}},
    {"rows of three", 3, 1, {{{2, {2, 3}}}, {{2, {1, 3}}}, {{2, {4, 3}}}}, call, &(const int){0}},
    {"an empty part", 2, 1, {{{2, {2, 0}}}, {{2, {2, 3}}}}, call, &(const int){-1}},
    {"one part", 1, 1, {{{1, {5}}}}, call, &(const int){0}},
    {"constant part",
     2,
     1,
     {{{1, {5}}}, {.shape = {1, {3}}, .constant = true}},
     call,
     &(const int){0}},
};
TSR_SAMPLES_BF16(concat, samples);
