/* Fits a two-layer network to y = sin(3 x). */
#include "models/models.h"

#include <stdio.h>

int main(void)
{
    tsr_scope program = tsr_scope_open();
    tsr_mlp *mlp = tsr_mlp_new(1, 64, TSR_DTYPE_F32);
    tsr_module_initialize(&mlp->module, 1);
    tsr_tensor *weight = mlp->fc1->weight, *bias = mlp->fc1->bias;
    tsr_fill_uniform(weight, tsr_rng_make(1, 0, 0, 1), -3.0, 3.0);
    tsr_fill_uniform(bias, tsr_rng_make(1, 0, 0, 2), -3.0, 3.0);
    tsr_module_list *parameters = tsr_module_parameters(&mlp->module);
    tsr_tensor *x = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(256, 1));
    tsr_fill_uniform(x, tsr_rng_make(1, 0, 0, 3), -1.0, 1.0);
    tsr_tensor *y = tsr_sin(tsr_affine(x, 3.0, 0.0));
    tsr_tape *tape = tsr_tape_open();
    double loss_value = 0.0;
    for (int step = 0; step < 500; step++) {
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *loss = tsr_mean(tsr_mse(tsr_mlp_forward(mlp, x), y), NULL, 0, false);
        loss_value = tsr_tensor_item(loss);
        tsr_backward(tape, loss, NULL);
        bool was = tsr_recording_set(false);
        for (int i = 0; i < parameters->n; i++) {
            tsr_tensor *p = parameters->at[i].tensor;
            tsr_tensor_copy(p, tsr_sub(p, tsr_affine(tsr_tensor_grad(p), 0.05, 0.0)));
            tsr_tensor_set_grad(p, NULL);
        }
        tsr_recording_set(was);
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
    if (tsr_status_get() != TSR_STATUS_OK) printf("%s\n", tsr_message());
    printf("loss %.4f\n", loss_value);
    tsr_tape_close(&tape);
    tsr_module_list_free(&parameters);
    tsr_module_free(&mlp);
    tsr_scope_close(&program, TSR_NO_TENSORS);
    return loss_value < 0.01 ? 0 : 1;
}
