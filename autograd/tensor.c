/* Tensors: a handle on a block of the pool, with a shape, strides and, on a tape, a history. */
#include "autograd/internal.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

static void block_unref(tsr_block *block)
{
    if (atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) == 1)
        tsr_block__free(block);
}

void tsr_tensor__unref(tsr_tensor *t)
{
    if (t == NULL) return;
    int before = atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel);
    assert(before >= 1);
    if (before != 1) return;
    tsr_tensor__unref(t->grad);
    while (t->hooks != NULL) {
        tsr_hook *next = t->hooks->next;
        tsr_free(t->hooks);
        t->hooks = next;
    }
    if (t->block != &t->own) block_unref(t->block);
    tsr_block__bury(&t->own);
    block_unref(&t->own);
}

tsr_tensor *tsr_tensor_hold(tsr_tensor *t)
{
    if (t != NULL) atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

void tsr_tensor_release(tsr_tensor **t)
{
    if (t == NULL) return;
    tsr_tensor__unref(*t);
    *t = NULL;
}

tsr_tensor *tsr_tensor_borrow(tsr_tensor *t)
{
    return t == NULL ? NULL : tsr_scope__add(tsr_tensor_hold(t));
}

static int64_t *strides_of(tsr_tensor *t)
{
    return t->sizes + t->ndim;
}

/* A handle with room for so many bytes of data; sizes and strides are not set. NULL without a message. */
static tsr_tensor *allocate(tsr_dtype dtype, int ndim, int64_t numel, size_t bytes)
{
    size_t header = sizeof(tsr_tensor) + 2 * (size_t)ndim * sizeof(int64_t);
    tsr_tensor *t = (tsr_tensor *)tsr_block__alloc(header, bytes);
    if (t == NULL) return NULL;
    atomic_init(&t->refs, 1);
    t->slot = -1;
    t->dtype = dtype;
    t->ndim = (int8_t)ndim;
    t->leaf_grad = false;
    t->numel = numel;
    t->generation = 0;
    t->block = &t->own;
    t->data = tsr_block__data(&t->own);
    t->grad = NULL;
    t->hooks = NULL;
    return t;
}

static tsr_tensor *empty(tsr_dtype dtype, int ndim, const int64_t *sizes, int64_t numel)
{
    size_t bytes = (size_t)numel * tsr_dtype_size(dtype);
    tsr_tensor *t = allocate(dtype, ndim, numel, bytes);
    if (t == NULL) {
        char text[TSR_SHAPE_TEXT];
        tsr_shape shape = {.ndim = ndim};
        if (ndim > 0) memcpy(shape.size, sizes, (size_t)ndim * sizeof *sizes);
        tsr_fail(TSR_STATUS_MEMORY, "empty: no memory for %s %s (%zu MiB)", tsr_dtype_name(dtype),
                 tsr_shape_text(shape, text), bytes >> 20);
        return NULL;
    }
    int64_t *strides = strides_of(t), stride = 1;
    for (int d = ndim - 1; d >= 0; d--) {
        t->sizes[d] = sizes[d];
        strides[d] = stride;
        stride *= sizes[d];
    }
    t->contiguous = true;
    return tsr_scope__add(t);
}

tsr_tensor *tsr_empty(tsr_dtype dtype, tsr_shape shape)
{
    int64_t numel = tsr_shape_numel(shape);
    if (tsr_dtype_size(dtype) == 0) {
        tsr_fail(TSR_STATUS_DTYPE, "empty: %d is not a type", (int)dtype);
        return NULL;
    }
    if (numel < 0 || numel > INT64_MAX / 16) {
        char text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE,
                 "empty: %s is not a shape: sizes must be 0 or more, their product "
                 "below 2^59, at most %d dimensions",
                 tsr_shape_text(shape, text), TSR_MAX_DIMS);
        return NULL;
    }
    return empty(dtype, shape.ndim, shape.size, numel);
}

tsr_tensor *tsr_empty_like(const tsr_tensor *t)
{
    return t == NULL ? NULL : empty(t->dtype, t->ndim, t->sizes, t->numel);
}

tsr_tensor *tsr_full(tsr_dtype dtype, tsr_shape shape, double value)
{
    tsr_tensor *t = tsr_empty(dtype, shape);
    if (t != NULL) tsr_tensor_fill(t, value);
    return t;
}

tsr_tensor *tsr_zeros(tsr_dtype dtype, tsr_shape shape)
{
    return tsr_full(dtype, shape, 0.0);
}

tsr_tensor *tsr_scalar(tsr_dtype dtype, double value)
{
    return tsr_full(dtype, TSR_SHAPE_SCALAR, value);
}

tsr_tensor *tsr_from(tsr_dtype dtype, tsr_shape shape, const void *data)
{
    tsr_tensor *t = tsr_empty(dtype, shape);
    if (t != NULL && t->numel > 0) memcpy(t->data, data, (size_t)t->numel * tsr_dtype_size(dtype));
    return t;
}

tsr_dtype tsr_tensor_dtype(const tsr_tensor *t)
{
    return t != NULL ? t->dtype : TSR_DTYPE_F32;
}

tsr_shape tsr_tensor_shape(const tsr_tensor *t)
{
    tsr_shape shape = TSR_SHAPE_SCALAR;
    if (t == NULL) return shape;
    shape.ndim = t->ndim;
    for (int d = 0; d < t->ndim; d++) shape.size[d] = t->sizes[d];
    return shape;
}

bool tsr_tensor_same_shape(const tsr_tensor *a, const tsr_tensor *b)
{
    int ndim = tsr_tensor_ndim(a);
    bool same = ndim == tsr_tensor_ndim(b);
    for (int d = 0; same && d < ndim; d++) same = a->sizes[d] == b->sizes[d];
    return same;
}

bool tsr_tensor__has_shape(const tsr_tensor *t, const tsr_shape *shape)
{
    bool same = t->ndim == shape->ndim;
    for (int d = 0; same && d < t->ndim; d++) same = t->sizes[d] == shape->size[d];
    return same;
}

int tsr_tensor_ndim(const tsr_tensor *t)
{
    return t != NULL ? t->ndim : 0;
}

int64_t tsr_tensor_size(const tsr_tensor *t, int dim)
{
    if (t == NULL) return 0;
    if (dim < 0) dim += t->ndim;
    return dim >= 0 && dim < t->ndim ? t->sizes[dim] : 0;
}

int64_t tsr_tensor_numel(const tsr_tensor *t)
{
    return t != NULL ? t->numel : 0;
}

const int64_t *tsr_tensor_strides(const tsr_tensor *t)
{
    static const int64_t none[TSR_MAX_DIMS];
    return t != NULL ? t->sizes + t->ndim : none;
}

bool tsr_tensor_is_contiguous(const tsr_tensor *t)
{
    return t == NULL || t->contiguous;
}

const void *tsr_tensor_data(const tsr_tensor *t)
{
    return t != NULL ? t->data : NULL;
}

void *tsr_tensor_data_mut(tsr_tensor *t)
{
    if (t == NULL) return NULL;
    t->block->version++;
    return t->data;
}

double tsr_tensor_item(const tsr_tensor *t)
{
    if (t != NULL && t->numel != 1) {
        char text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE, "item: tensor has shape %s, expected one element",
                 tsr_shape_text(tsr_tensor_shape(t), text));
        return (double)NAN;
    }
    return tsr_tensor_get(t, 0);
}

static bool is_contiguous(tsr_tensor *t)
{
    int64_t expected = 1;
    if (t->numel == 0) return true;
    for (int d = t->ndim - 1; d >= 0; d--) {
        if (t->sizes[d] != 1 && strides_of(t)[d] != expected) return false;
        expected *= t->sizes[d];
    }
    return true;
}

tsr_tensor *tsr_tensor_view(tsr_tensor *t, tsr_shape shape, const int64_t *strides, int64_t offset)
{
    if (t == NULL) return NULL;
    int64_t numel = tsr_shape_numel(shape), size = (int64_t)tsr_dtype_size(t->dtype);
    int64_t lowest = 0, highest = 0;
    bool fits = numel >= 0;
    for (int d = 0; fits && numel > 0 && d < shape.ndim; d++) {
        int64_t reach;
        fits = !__builtin_mul_overflow(shape.size[d] - 1, strides[d], &reach) &&
               !__builtin_add_overflow(reach < 0 ? lowest : highest, reach,
                                       reach < 0 ? &lowest : &highest);
    }
    int64_t first = ((char *)t->data - (char *)tsr_block__data(t->block)) / size;
    int64_t room = (int64_t)t->block->bytes / size;
    fits = fits && !__builtin_add_overflow(first, offset, &first) &&
           !__builtin_add_overflow(first, lowest, &lowest) &&
           !__builtin_add_overflow(first, highest, &highest);
    if (!fits || (numel > 0 && (lowest < 0 || highest >= room))) {
        char text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE, "view: %s at offset %" PRId64 " reaches beyond the storage",
                 tsr_shape_text(shape, text), offset);
        return NULL;
    }
    tsr_tensor *view = allocate(t->dtype, shape.ndim, numel, 0);
    if (view == NULL) {
        tsr_fail(TSR_STATUS_MEMORY, "view: no memory for its handle");
        return NULL;
    }
    for (int d = 0; d < shape.ndim; d++) {
        view->sizes[d] = shape.size[d];
        strides_of(view)[d] = strides[d];
    }
    view->contiguous = is_contiguous(view);
    atomic_fetch_add_explicit(&t->block->refs, 1, memory_order_relaxed);
    view->block = t->block;
    view->data = (char *)t->data + (numel > 0 ? offset * size : 0);
    return tsr_scope__add(view);
}

tsr_tensor *tsr_tensor_packed(tsr_tensor *t)
{
    if (t == NULL || t->contiguous) return t;
    tsr_tensor *copy = tsr_empty_like(t);
    return copy != NULL && tsr_tensor_copy(copy, t) == TSR_STATUS_OK ? copy : NULL;
}

tsr_tensor *tsr_tensor_converted(tsr_tensor *t, tsr_dtype dtype)
{
    if (t == NULL || t->dtype == dtype) return t;
    tsr_shape shape = tsr_tensor_shape(t), memory = shape;
    const int64_t *from = strides_of(t);
    int order[TSR_MAX_DIMS];
    for (int i = 0; i < shape.ndim; i++) {
        int j = i;
        for (; j > 0 && from[order[j - 1]] < from[i]; j--) order[j] = order[j - 1];
        order[j] = i;
    }
    int64_t strides[TSR_MAX_DIMS], stride = 1;
    for (int i = shape.ndim - 1; i >= 0; i--) {
        memory.size[i] = shape.size[order[i]];
        strides[order[i]] = stride;
        stride *= memory.size[i];
    }
    tsr_tensor *copy = tsr_tensor_view(tsr_empty(dtype, memory), shape, strides, 0);
    return copy != NULL && tsr_tensor_copy(copy, t) == TSR_STATUS_OK ? copy : NULL;
}

tsr_tensor *tsr_detach(tsr_tensor *t)
{
    return t == NULL ? NULL : tsr_tensor_view(t, tsr_tensor_shape(t), strides_of(t), 0);
}

tsr_tensor *tsr_require_grad(tsr_tensor *t, bool on)
{
    if (t == NULL) return NULL;
    if (on && !tsr_dtype_is_float(t->dtype)) {
        tsr_fail(TSR_STATUS_DTYPE, "require_grad: tensor is %s, expected a floating type",
                 tsr_dtype_name(t->dtype));
        return NULL;
    }
    if (t->slot >= 0) {
        tsr_fail(TSR_STATUS_STATE, "require_grad: tensor was computed on a tape, not a leaf: "
                                   "tsr_detach() it first");
        return NULL;
    }
    t->leaf_grad = on;
    return t;
}

bool tsr_requires_grad(const tsr_tensor *t)
{
    return t != NULL && (t->leaf_grad || t->slot >= 0);
}

tsr_tensor *tsr_tensor_grad(const tsr_tensor *t)
{
    return t != NULL ? t->grad : NULL;
}

tsr_status tsr_tensor_set_grad(tsr_tensor *t, tsr_tensor *grad)
{
    if (t == NULL) return tsr_fail(TSR_STATUS_ARGUMENT, "set_grad: tensor is NULL");
    if (grad != NULL && (grad->dtype != t->dtype || !tsr_tensor_same_shape(grad, t))) {
        char got[TSR_SHAPE_TEXT], wanted[TSR_SHAPE_TEXT];
        return tsr_fail(TSR_STATUS_SHAPE, "set_grad: gradient is %s %s, expected %s %s",
                        tsr_dtype_name(grad->dtype), tsr_shape_text(tsr_tensor_shape(grad), got),
                        tsr_dtype_name(t->dtype), tsr_shape_text(tsr_tensor_shape(t), wanted));
    }
    tsr_tensor_hold(grad);
    tsr_tensor__unref(t->grad);
    t->grad = grad;
    return TSR_STATUS_OK;
}
