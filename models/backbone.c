/* What can be asked of any backbone, answered by its methods; views of tokens. */
#include "models/models.h"

#include <inttypes.h>

tsr_tensor *tsr_backbone_forward(const tsr_backbone *m, tsr_tensor *images,
                                 const tsr_backbone_options *options)
{
    return m == NULL || images == NULL ? NULL : m->methods->forward(m, images, options);
}

tsr_tensor *tsr_backbone_rows(const tsr_backbone *m, tsr_tensor *images, tsr_tensor *rows,
                              const tsr_backbone_options *options)
{
    if (m == NULL || images == NULL) return NULL;
    if (m->methods->rows != NULL) return m->methods->rows(m, images, rows, options);
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *tokens = m->methods->forward(m, images, options);
    return tsr_scope_return(&scope, tsr_tokens_rows(tokens, rows));
}

tsr_status tsr_backbone_intermediate(const tsr_backbone *m, tsr_tensor *images, int n,
                                     const tsr_backbone_options *options, tsr_tensor **outputs)
{
    for (int i = 0; i < n; i++) outputs[i] = NULL;
    if (m == NULL || images == NULL) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "intermediate: the model or images are NULL");
    }
    if (n < 1 || n > m->depth) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "intermediate: n is %d, expected 1 to %" PRId64 " (the depth)", n,
                        m->depth);
    }
    return m->methods->intermediate(m, images, n, options, outputs);
}

tsr_tensor *tsr_backbone_last_attention(const tsr_backbone *m, tsr_tensor *images)
{
    if (m == NULL || images == NULL) return NULL;
    if (m->methods->last_attention == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "last_attention: a %s has no attention of a class token over the image to show; "
                 "a vit has",
                 m->module.name);
        return NULL;
    }
    return m->methods->last_attention(m, images);
}

tsr_token_grid tsr_backbone_grid(const tsr_backbone *m, int64_t block, int64_t height,
                                 int64_t width)
{
    return m->methods->grid(m, block, height, width);
}

tsr_backbone *tsr_backbone_like(const tsr_backbone *m)
{
    return m == NULL ? NULL : m->methods->like(m);
}

tsr_status tsr_backbone_recompute(tsr_backbone *m, bool on)
{
    if (on && !m->methods->recomputes) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "%s: its blocks cannot be recomputed in backward",
                        m->module.name);
    }
    m->recompute = on;
    return TSR_STATUS_OK;
}

void tsr_backbone_describe(const tsr_backbone *m, char text[TSR_BACKBONE_TEXT])
{
    m->methods->describe(m, text);
}

tsr_tensor *tsr_tokens_class(tsr_tensor *tokens)
{
    return tsr_select(tokens, 1, 0);
}

tsr_tensor *tsr_tokens_rows(tsr_tensor *tokens, tsr_tensor *rows)
{
    if (rows == NULL) return tsr_tokens_class(tokens);
    return tsr_gather_rows(tsr_flatten(tokens, 0, 1), rows);
}

tsr_tensor *tsr_tokens_patches(tsr_tensor *tokens)
{
    return tsr_slice(tokens, 1, 1, tsr_tensor_size(tokens, 1), 1);
}
