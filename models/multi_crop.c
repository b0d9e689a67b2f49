/* Views of several sizes through one backbone and one head: the authors' MultiCropWrapper
 * (utils.py). */
#include "models/models.h"

#include <inttypes.h>

tsr_multi_crop *tsr_multi_crop_new(void *backbone, tsr_head *head)
{
    tsr_multi_crop *m = backbone == NULL || head == NULL
                            ? NULL
                            : tsr_module_new(sizeof *m, "multi_crop", head->module.dtype);
    if (m == NULL) {
        tsr_module_free(&backbone);
        tsr_module_free(&head);
        tsr_fail(TSR_STATUS_ARGUMENT, "multi_crop: the backbone or the head is NULL");
        return NULL;
    }
    m->backbone = tsr_module_child(&m->module, "backbone", backbone);
    m->head = tsr_module_child(&m->module, "head", head);
    return tsr_module_finish(&m->module);
}

/* How many crops from the first on have its channels, height and width. */
static int group_size(tsr_tensors crops)
{
    int n = 1;
    for (; n < crops.n; n++) {
        for (int d = 1; d < 4; d++) {
            if (tsr_tensor_size(crops.at[n], d) != tsr_tensor_size(crops.at[0], d)) return n;
        }
    }
    return n;
}

/* The patches of tokens [B, 1 + N, D] as rows: all [B N, D], or those of the given numbers. */
static tsr_tensor *patch_rows(tsr_tensor *tokens, tsr_tensor *rows)
{
    int64_t batch = tsr_tensor_size(tokens, 0), n = tsr_tensor_size(tokens, 1) - 1,
            dim = tsr_tensor_size(tokens, 2);
    if (rows == NULL) return tsr_reshape(tsr_tokens_patches(tokens), TSR_SHAPE(batch * n, dim));
    if (tsr_tensor_dtype(rows) != TSR_DTYPE_I64 || tsr_tensor_ndim(rows) != 1) {
        char text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_ARGUMENT, "multi_crop: rows is %s %s, expected i64 [R]",
                 tsr_dtype_name(tsr_tensor_dtype(rows)),
                 tsr_shape_text(tsr_tensor_shape(rows), text));
        return NULL;
    }
    /* Numbers among all tokens, so that the patches need no copy: before the patches of image i
     * come i + 1 class tokens. */
    tsr_tensor *among_tokens = tsr_empty(TSR_DTYPE_I64, tsr_tensor_shape(rows));
    const int64_t *from = tsr_tensor_data(tsr_tensor_packed(rows));
    int64_t *to = tsr_tensor_data_mut(among_tokens);
    for (int64_t i = 0; from != NULL && to != NULL && i < tsr_tensor_numel(rows); i++) {
        if (from[i] < 0 || from[i] >= batch * n) {
            tsr_fail(TSR_STATUS_ARGUMENT,
                     "multi_crop: rows[%" PRId64 "] is %" PRId64 ", expected 0 to %" PRId64, i,
                     from[i], batch * n - 1);
            return NULL;
        }
        to[i] = from[i] + from[i] / n + 1;
    }
    return tsr_gather_rows(tsr_reshape(tokens, TSR_SHAPE(batch * (1 + n), dim)), among_tokens);
}

/* Class tokens of all crops and the first group's tokens. parts has room for one tensor a crop. */
static tsr_tensor *backbone_forward(const tsr_multi_crop *m, tsr_tensors crops,
                                    const tsr_multi_crop_options *o, tsr_tensor **parts,
                                    tsr_tensor **first_tokens)
{
    int groups = 0;
    tsr_backbone_options options = {.mask = o->mask, .rng = o->rng};
    for (int begin = 0, end; begin < crops.n; begin = end) {
        tsr_tensors group = {crops.at + begin, crops.n - begin};
        group.n = group_size(group);
        end = begin + group.n;
        tsr_tensor *images = group.n == 1 ? group.at[0] : tsr_concat(group, 0);
        tsr_tensor *tokens = tsr_backbone_forward(m->backbone, images, &options);
        if (groups == 0) *first_tokens = tokens;
        parts[groups++] = tsr_tokens_class(tokens);
        options.mask = NULL;
        options.rng = tsr_rng_row(options.rng, tsr_tensor_size(images, 0));
    }
    return groups == 1 ? parts[0] : tsr_concat((tsr_tensors){parts, groups}, 0);
}

tsr_multi_crop_output tsr_multi_crop_forward(const tsr_multi_crop *m, tsr_tensors crops,
                                             const tsr_multi_crop_options *options)
{
    tsr_multi_crop_output out = {0};
    if (m == NULL || crops.n < 1) {
        tsr_fail(TSR_STATUS_ARGUMENT, "multi_crop: the model is NULL or there is no crop");
        return out;
    }
    tsr_multi_crop_options o = {0};
    if (options != NULL) o = *options;
    tsr_tensor **parts = tsr_alloc((size_t)crops.n * sizeof *parts);
    if (parts == NULL) return out;
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *x = backbone_forward(m, crops, &o, parts, &out.tokens);
    tsr_free(parts);
    if (!o.patches) {
        out.cls = tsr_head_class_logits(m->head, tsr_head_project(m->head, x));
    } else {
        int64_t n_cls = tsr_tensor_size(x, 0);
        x = tsr_concat(TSR_TENSORS(x, patch_rows(out.tokens, o.rows)), 0);
        tsr_tensor *z = tsr_head_project(m->head, x);
        int64_t n_all = tsr_tensor_size(z, 0);
        tsr_head_weights w = tsr_head_weights_make(m->head);
        out.cls = tsr_linear(tsr_slice(z, 0, 0, n_cls, 1), w.cls, NULL);
        out.patch = tsr_linear(tsr_slice(z, 0, n_cls, n_all, 1), w.patch, NULL);
        if (o.rows == NULL) {
            int64_t batch = tsr_tensor_size(out.tokens, 0), n = tsr_tensor_size(out.tokens, 1) - 1;
            tsr_shape shape = TSR_SHAPE(batch, n, m->head->config.patch_out_dim);
            out.patch = tsr_reshape(out.patch, shape);
        }
        if (out.patch == NULL) out.cls = NULL;
    }
    if (out.cls == NULL) out = (tsr_multi_crop_output){0};
    tsr_scope_close(&scope, TSR_TENSORS(out.cls, out.patch, out.tokens));
    return out;
}
