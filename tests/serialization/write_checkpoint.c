/* Writes the checkpoint that test_python_reader.py reads: one of everything. */
#include "serialization/serialization.h"

#include <math.h>
#include <stdio.h>

enum { ROWS = 5000, LONG = 3 << 20 };

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    static int64_t steps[ROWS];
    static double values[ROWS][2];
    for (int i = 0; i < ROWS; i++) {
        steps[i] = 10 * i;
        values[i][0] = i + 0.25;
        values[i][1] = i % 2 == 0 ? -1.0 * i : (double)NAN;
    }
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *bf16 = tsr_empty(TSR_DTYPE_BF16, TSR_SHAPE(3));
    tsr_bf16 *b = tsr_tensor_data_mut(bf16);
    for (int i = 0; i < 3; i++) b[i] = tsr_bf16_from_f32((float)i - 1.5f);
    tsr_tensor *large = tsr_empty(TSR_DTYPE_I32, TSR_SHAPE(LONG)); /* twelve chunks */
    int32_t *l = tsr_tensor_data_mut(large);
    for (int i = 0; i < LONG; i++) l[i] = i;

    tsr_checkpoint_writer *w = tsr_checkpoint_create(argv[1]);
    tsr_checkpoint_put_int(w, "int", -5);
    tsr_checkpoint_put_uint(w, "uint", UINT64_MAX);
    tsr_checkpoint_put_double(w, "double", 0.1);
    tsr_checkpoint_put_bool(w, "bool", true);
    tsr_checkpoint_put_string(w, "string", "\xe2\x82\xac");
    tsr_checkpoint_put_bytes(w, "bytes", "\0\xff", 2);
    tsr_checkpoint_put_tensor(
        w, "student/f32", tsr_from(TSR_DTYPE_F32, TSR_SHAPE(2, 3), (float[]){0, 1, 2, 3, 4, 5.5f}));
    tsr_checkpoint_put_tensor(w, "student/f64", tsr_scalar(TSR_DTYPE_F64, 0.1));
    tsr_checkpoint_put_tensor(w, "student/bf16", bf16);
    tsr_checkpoint_put_tensor(w, "student/i64", tsr_full(TSR_DTYPE_I64, TSR_SHAPE(1), -7));
    tsr_checkpoint_put_tensor(w, "student/u8", tsr_full(TSR_DTYPE_U8, TSR_SHAPE(2), 200));
    tsr_checkpoint_put_tensor(w, "student/bool", tsr_from(TSR_DTYPE_BOOL, TSR_SHAPE(2), "\0\1"));
    tsr_checkpoint_put_tensor(w, "student/empty", tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 0)));
    tsr_checkpoint_put_tensor(w, "teacher/large", large);
    static const char *const columns[] = {"loss", "lr"};
    tsr_checkpoint_put_history(w, &(tsr_history){"train", columns, 2, steps, values[0], ROWS});
    tsr_status status = tsr_checkpoint_commit(&w);
    if (status != TSR_STATUS_OK) fprintf(stderr, "%s\n", tsr_message());
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    tsr_pool_trim();
    return status == TSR_STATUS_OK ? 0 : 1;
}
