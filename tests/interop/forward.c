/* forward CHECKPOINT IMAGES OUT: "images" f32 [B, 3, H, W] of a safetensors file through the checkpoint's backbone, to another:
 * "tokens" [B, 1 + N, D], and "block.0", ... of that shape, each block's without the final norm. */
#include "recipes/recipes.h"
#include "recipes/eval/features.h"

#include <stdio.h>

enum { DEPTH = 64 };

static void run(const tsr_backbone *m, tsr_tensor *images, const char *out)
{
    char names[DEPTH][16];
    tsr_tensor *tokens[DEPTH];
    tsr_named_tensor list[DEPTH + 1];
    int depth = m->depth < DEPTH ? (int)m->depth : DEPTH;
    tsr_backbone_options raw = {.no_norm = true};
    if (tsr_backbone_intermediate(m, images, depth, &raw, tokens) != TSR_STATUS_OK) return;
    for (int i = 0; i < depth; i++) {
        snprintf(names[i], sizeof names[i], "block.%d", i);
        list[i] = (tsr_named_tensor){names[i], tokens[i]};
    }
    list[depth] = (tsr_named_tensor){"tokens", tsr_backbone_forward(m, images, NULL)};
    tsr_safetensors_write(out, list, depth + 1, NULL, 0);
}

int main(int argc, char **argv)
{
    if (argc != 4) return 2;
    tsr_scope scope = tsr_scope_open();
    tsr_recording_set(false);
    tsr_checkpoint *c = tsr_checkpoint_open(argv[1]);
    tsr_backbone *m = c != NULL ? tsr_backbone_load(c, NULL) : NULL;
    tsr_safetensors *in = tsr_safetensors_open(argv[2]);
    tsr_tensor *images = in != NULL ? tsr_safetensors_tensor(in, "images") : NULL;
    if (m != NULL && images != NULL) run(m, images, argv[3]);
    tsr_safetensors_close(&in);
    tsr_module_free(&m);
    tsr_checkpoint_close(&c);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    if (tsr_status_get() != TSR_STATUS_OK) fprintf(stderr, "%s\n", tsr_message());
    return tsr_status_get() != TSR_STATUS_OK;
}
