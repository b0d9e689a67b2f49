#include "models/models.h"
#include <stdio.h>

/* Fits a two-layer network to y = sin(3 x) by gradient descent. */
int main(void)
{
    tsr_scope program = tsr_scope_open();
    tsr_mlp *mlp = tsr_mlp_new(1, 64, 0.0, TSR_DTYPE_F32);
    tsr_module_initialize(&mlp->module, 1);
    tsr_fill_uniform(mlp->fc1->weight, tsr_rng_make(1, 0, 0, 1), -3.0, 3.0);
    tsr_fill_uniform(mlp->fc1->bias, tsr_rng_make(1, 0, 0, 2), -3.0, 3.0);
    tsr_module_list *parameters = tsr_module_parameters(&mlp->module);
    tsr_tensor *x = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(256, 1));
    tsr_fill_uniform(x, tsr_rng_make(1, 0, 0, 3), -1.0, 1.0);
    tsr_tensor *y = tsr_sin(tsr_affine(x, 3.0, 0.0));
    tsr_tape *tape = tsr_tape_open();
    double error = 1.0;
    for (int step = 0; step < 500; step++) {
        tsr_scope scope = tsr_scope_open();
        tsr_tensor *loss = tsr_mean(tsr_mse(tsr_mlp_forward(mlp, x, NULL), y), NULL, 0, false);
        error = tsr_tensor_item(loss);
        tsr_backward(tape, loss, NULL);
        for (int i = 0; i < parameters->n; i++) {
            tsr_tensor *p = parameters->at[i].tensor, *before = tsr_detach(p);
            tsr_tensor_copy(p, tsr_sub(before, tsr_affine(tsr_tensor_grad(p), 0.05, 0.0)));
            tsr_tensor_set_grad(p, NULL);
        }
        tsr_scope_close(&scope, TSR_NO_TENSORS);
    }
    printf("mean squared error %.4f %s\n", error, tsr_message());
    tsr_tape_close(&tape);
    tsr_module_list_free(&parameters);
    tsr_module_free(&mlp);
    tsr_scope_close(&program, TSR_NO_TENSORS);
    return error < 0.02 ? 0 : 1;
}
