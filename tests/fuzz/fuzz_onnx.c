/* Any bytes as an ONNX model: an error of one line, or a graph that runs on ones, within a limit on its tensors. */
#include "serialization/serialization.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SIDE = 4, SHAPES = 5, INPUTS = 8, OUTPUTS = 64 };

static void check_message(void)
{
    if (tsr_message()[0] == '\0' || strchr(tsr_message(), '\n') != NULL) __builtin_trap();
    tsr_status_clear();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const tsr_shape shapes[SHAPES] = {
        {4, {2, 3, 2 * SIDE, 2 * SIDE}}, {3, {2, 3, SIDE}}, {2, {3, SIDE}}, {1, {SIDE}}, {0, {0}}};
    tsr_scope scope = tsr_scope_open();
    tsr_onnx *m = tsr_onnx_open_memory(data, size);
    if (m == NULL) check_message();
    tsr_onnx_limit(m, 1 << 14);
    int n = tsr_onnx_input_count(m);
    for (int s = 0; m != NULL && n <= INPUTS && tsr_onnx_output_count(m) <= OUTPUTS; s++) {
        if (s == SHAPES) break;
        tsr_scope inner = tsr_scope_open();
        tsr_tensor *in[INPUTS], *out[OUTPUTS];
        for (int i = 0; i < n; i++) in[i] = tsr_full(TSR_DTYPE_F32, shapes[s], 1.0);
        if (tsr_onnx_run(m, (tsr_tensors){in, n}, out) != TSR_STATUS_OK) check_message();
        tsr_scope_close(&inner, TSR_NO_TENSORS);
    }
    tsr_onnx_close(&m);
    tsr_status_clear();
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    tsr_pool_trim();
    return 0;
}
