/* Any bytes as a safetensors file: an error or tensors, within memory in proportion to the input. */
#include "serialization/serialization.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tsr_scope scope = tsr_scope_open();
    tsr_safetensors *f = tsr_safetensors_open_memory(data, size);
    for (int64_t i = 0; i < tsr_safetensors_count(f); i++) {
        const char *name = tsr_safetensors_name(f, i);
        if (tsr_safetensors_find(f, name) != i) __builtin_trap();
        tsr_status_clear();
        tsr_safetensors_tensor(f, name);
    }
    if (f == NULL && tsr_status_get() == TSR_STATUS_OK) __builtin_trap();
    tsr_safetensors_metadata(f, "format");
    tsr_safetensors_close(&f);
    tsr_status_clear();
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    tsr_pool_trim();
    return 0;
}
