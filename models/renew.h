/* Between the blocks of a backbone. */
#ifndef TSR_MODELS_RENEW_H
#define TSR_MODELS_RENEW_H

#include "models/models.h"

/* Ends a scope of which only x goes on, in a new one. */
static inline tsr_tensor *tsr_scope__renew(tsr_scope *scope, tsr_tensor *x)
{
    tsr_tensor *held = tsr_tensor_hold(x);
    tsr_scope_close(scope, TSR_NO_TENSORS);
    *scope = tsr_scope_open();
    x = tsr_tensor_borrow(held);
    tsr_tensor_release(&held);
    return x;
}

#endif
