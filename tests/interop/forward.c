/* forward CHECKPOINT IMAGES OUT: "images" f32 [B, 3, H, W] of a safetensors file through the checkpoint's backbone, to
 * "tokens" [B, 1 + N, D] of another. */
#include "recipes/recipes.h"
#include "recipes/eval/features.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    if (argc != 4) return 2;
    tsr_scope scope = tsr_scope_open();
    tsr_recording_set(false);
    tsr_checkpoint *c = tsr_checkpoint_open(argv[1]);
    tsr_backbone *m = c != NULL ? tsr_backbone_load(c, NULL) : NULL;
    tsr_safetensors *in = tsr_safetensors_open(argv[2]);
    tsr_tensor *tokens = NULL;
    if (m != NULL) tokens = tsr_backbone_forward(m, tsr_safetensors_tensor(in, "images"), NULL);
    if (tokens != NULL)
        tsr_safetensors_write(argv[3], &(tsr_named_tensor){"tokens", tokens}, 1, NULL, 0);
    tsr_safetensors_close(&in);
    tsr_module_free(&m);
    tsr_checkpoint_close(&c);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    if (tsr_status_get() != TSR_STATUS_OK) fprintf(stderr, "%s\n", tsr_message());
    return tsr_status_get() != TSR_STATUS_OK;
}
