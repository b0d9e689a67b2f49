/* Any bytes as weights, of which PyTorch's files are the ones to fear: an error or tensors, within memory in proportion to
 * the input. The checksums of archives are checked when data is read, so that a fuzzer gets past them to all else. Then the network that they are of. */
#include "serialization/serialization.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tsr_scope scope = tsr_scope_open();
    tsr_weights *w = tsr_weights_open_memory(data, size);
    if (w == NULL && (tsr_message()[0] == '\0' || strchr(tsr_message(), '\n') != NULL))
        __builtin_trap();
    for (int64_t i = 0; i < tsr_weights_count(w); i++) {
        tsr_shape shape = tsr_weights_shape(w, i);
        tsr_status_clear();
        tsr_scope inner = tsr_scope_open();
        tsr_tensor *t = tsr_weights_tensor(w, i);
        if (t == NULL ? tsr_status_get() == TSR_STATUS_OK
                      : !tsr_shape_equal(tsr_tensor_shape(t), shape)) {
            __builtin_trap();
        }
        tsr_scope_close(&inner, TSR_NO_TENSORS);
    }
    if (tsr_weights_count(w) > 0) {
        tsr_status_clear();
        tsr_import *m = tsr_import_open(w, &(tsr_import_options){.heads = 1});
        if ((m == NULL || tsr_import_load(m) != TSR_STATUS_OK) &&
            (tsr_message()[0] == '\0' || strchr(tsr_message(), '\n') != NULL)) {
            __builtin_trap();
        }
        tsr_import_free(&m);
    }
    tsr_weights_close(&w);
    tsr_status_clear();
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    tsr_pool_trim();
    return 0;
}
