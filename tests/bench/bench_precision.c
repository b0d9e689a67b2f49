/*
 * What bf16 saves: the most memory that one forward and backward of a ViT-S/16 take beyond parameters and images, in both
 * precisions. Arguments: images (default 4), pixels a side (default 224).
 */
#include "models/models.h"

#include <stdio.h>
#include <stdlib.h>

static void measure(tsr_vit *vit, tsr_dtype dtype, int64_t batch, int64_t side)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *images = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(batch, 3, side, side));
    tsr_fill_normal(images, tsr_rng_make(1, 0, 0, 0), 0.0, 1.0);
    tsr_module_compute_in(&vit->module, dtype);
    tsr_pool_peak_reset();
    size_t before = tsr_pool_stats_get().in_use;
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *y = tsr_vit_forward(vit, images, NULL);
    tsr_tensor *loss = tsr_mean(tsr_mul(y, y), NULL, 0, false);
    size_t kept = tsr_pool_stats_get().in_use - before;
    tsr_backward(tape, loss, NULL);
    size_t peak = tsr_pool_stats_get().peak - before;
    tsr_tape_close(&tape);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    printf("%s: %.1f MB kept for backward, %.1f MB at the peak\n", tsr_dtype_name(dtype),
           (double)kept / 1e6, (double)peak / 1e6);
    tsr_module_list *list = tsr_module_parameters(&vit->module);
    for (int64_t i = 0; list != NULL && i < list->n; i++) {
        tsr_tensor_set_grad(list->at[i].tensor, NULL);
    }
    tsr_module_list_free(&list);
}

int main(int argc, char **argv)
{
    int64_t batch = argc > 1 ? atoll(argv[1]) : 4, side = argc > 2 ? atoll(argv[2]) : 224;
    tsr_vit_config config;
    tsr_vit_config_find("vit_small", &config);
    tsr_vit *vit = tsr_vit_new(&config);
    tsr_module_initialize(&vit->module, 1);
    measure(vit, TSR_DTYPE_F32, batch, side);
    measure(vit, TSR_DTYPE_BF16, batch, side);
    tsr_module_free(&vit);
    if (tsr_status_get() == TSR_STATUS_OK) return 0;
    fprintf(stderr, "%s\n", tsr_message());
    return 1;
}
