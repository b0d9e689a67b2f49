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

/* Of all tokens [B (1 + N), D] of a group the class tokens, then the patches that o->rows names. NULL on failure. */
static tsr_tensor *wanted_rows(int64_t batch, int64_t n, tsr_tensor *rows)
{
    if (tsr_tensor_dtype(rows) != TSR_DTYPE_I64 || tsr_tensor_ndim(rows) != 1) {
        char text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_ARGUMENT, "multi_crop: rows is %s %s, expected i64 [R]",
                 tsr_dtype_name(tsr_tensor_dtype(rows)),
                 tsr_shape_text(tsr_tensor_shape(rows), text));
        return NULL;
    }
    int64_t chosen = tsr_tensor_numel(rows);
    tsr_tensor *wanted = tsr_empty(TSR_DTYPE_I64, TSR_SHAPE(batch + chosen));
    const int64_t *from = tsr_tensor_data(tsr_tensor_packed(rows));
    int64_t *to = tsr_tensor_data_mut(wanted);
    if (from == NULL || to == NULL) return NULL;
    for (int64_t b = 0; b < batch; b++) to[b] = b * (1 + n);
    for (int64_t i = 0; i < chosen; i++) {
        if (from[i] < 0 || from[i] >= batch * n) {
            tsr_fail(TSR_STATUS_ARGUMENT,
                     "multi_crop: rows[%" PRId64 "] is %" PRId64 ", expected 0 to %" PRId64, i,
                     from[i], batch * n - 1);
            return NULL;
        }
        /* Before the patches of image b come b + 1 class tokens. */
        to[batch + i] = from[i] + from[i] / n + 1;
    }
    return wanted;
}

/* The class tokens of a group [B, D]; with `patches`, their rows too, [R, D]: all, or those of o->rows. */
static tsr_tensor *group_forward(const tsr_multi_crop *m, tsr_tensor *images,
                                 const tsr_multi_crop_options *o,
                                 const tsr_backbone_options *options, tsr_tensor **patches)
{
    if (patches == NULL) return tsr_backbone_rows(m->backbone, images, NULL, options);
    int64_t batch = tsr_tensor_size(images, 0);
    if (o->rows == NULL) {
        tsr_tensor *tokens = tsr_backbone_forward(m->backbone, images, options);
        *patches = tsr_flatten(tsr_tokens_patches(tokens), 0, 1);
        return tsr_tokens_class(tokens);
    }
    tsr_token_grid grid = tsr_backbone_grid(m->backbone, m->backbone->depth - 1,
                                            tsr_tensor_size(images, 2), tsr_tensor_size(images, 3));
    tsr_tensor *rows = wanted_rows(batch, grid.rows * grid.columns, o->rows);
    if (rows == NULL) return NULL;
    tsr_tensor *x = tsr_backbone_rows(m->backbone, images, rows, options);
    *patches = tsr_slice(x, 0, batch, tsr_tensor_size(x, 0), 1);
    return tsr_slice(x, 0, 0, batch, 1);
}

/* Class tokens of all crops, and *patches of the first group where o asks for them. parts has room for one tensor a crop. */
static tsr_tensor *backbone_forward(const tsr_multi_crop *m, tsr_tensors crops,
                                    const tsr_multi_crop_options *o, tsr_tensor **parts,
                                    tsr_tensor **patches)
{
    int groups = 0;
    tsr_backbone_options options = {.mask = o->mask, .rng = o->rng};
    for (int begin = 0, end; begin < crops.n; begin = end) {
        tsr_tensors group = {crops.at + begin, crops.n - begin};
        group.n = group_size(group);
        end = begin + group.n;
        tsr_tensor *images = group.n == 1 ? group.at[0] : tsr_concat(group, 0);
        bool asked = o->patches && groups == 0;
        parts[groups++] = group_forward(m, images, o, &options, asked ? patches : NULL);
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
    tsr_tensor *patches = NULL, *x = backbone_forward(m, crops, &o, parts, &patches);
    tsr_free(parts);
    out.features = x;
    if (!o.patches) {
        out.cls = tsr_head_class_logits(m->head, tsr_head_project(m->head, x));
    } else {
        int64_t n_cls = tsr_tensor_size(x, 0);
        x = tsr_concat(TSR_TENSORS(x, patches), 0);
        tsr_tensor *z = tsr_head_project(m->head, x);
        int64_t n_all = tsr_tensor_size(z, 0);
        tsr_head_weights w = tsr_head_weights_make(m->head);
        out.cls = tsr_linear(tsr_slice(z, 0, 0, n_cls, 1), w.cls, NULL);
        out.patch = tsr_linear(tsr_slice(z, 0, n_cls, n_all, 1), w.patch, NULL);
        if (o.rows == NULL) {
            int64_t batch = tsr_tensor_size(crops.at[0], 0) * group_size(crops);
            out.patch = tsr_reshape(out.patch, TSR_SHAPE(batch, -1, m->head->config.patch_out_dim));
        }
        if (out.patch == NULL) out.cls = NULL;
    }
    if (out.cls == NULL) out = (tsr_multi_crop_output){0};
    tsr_scope_close(&scope, TSR_TENSORS(out.cls, out.patch, out.features));
    return out;
}
