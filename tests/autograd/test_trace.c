/* A trace has all that ran: what needs no gradient, what was not recorded, what has no derivative. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "autograd/autograd.h"

#include <string.h>

struct block {
    int dims[2];
    int64_t n;
    double scale;
    bool on;
    tsr_shape shape;
};

static const tsr_field fields[] = {
    TSR_FIELD(struct block, "dims", dims),   TSR_FIELD(struct block, "n", n),
    TSR_FIELD(struct block, "scale", scale), TSR_FIELD(struct block, "on", on),
    TSR_FIELD(struct block, "shape", shape), {0}};
/* No backward: the tape never sees it. */
static const tsr_op op = {.name = "copy", .block_size = sizeof(struct block), .fields = fields};

static tsr_tensor *copy(tsr_tensor *x)
{
    struct block b = {{3, -4}, INT64_C(1) << 40, 0.5, true, {2, {5, 6}}};
    tsr_tensor *y = tsr_empty(tsr_tensor_dtype(x), tsr_tensor_shape(x));
    tsr_tensor_copy(y, x);
    return tsr_record(&op, &b, TSR_TENSORS(x, NULL), TSR_TENSORS(x), TSR_TENSORS(y));
}

static void test_trace__has_what_ran_without_recording(void **state)
{
    (void)state;
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *x = tsr_full(TSR_DTYPE_F32, TSR_SHAPE(2), 1.0);
    copy(x);
    tsr_trace *outer = tsr_trace_open();
    bool was = tsr_recording_set(false);
    tsr_tensor *y = copy(x);
    tsr_recording_set(was);
    tsr_trace *inner = tsr_trace_open();
    copy(y);
    copy(y);
    tsr_trace_end(inner);
    copy(y);
    tsr_trace_end(outer);
    copy(y);
    assert_int_equal(tsr_trace_length(outer), 2);
    assert_int_equal(tsr_trace_length(inner), 2);
    const tsr_trace_step *s = tsr_trace_at(outer, 0);
    assert_ptr_equal(s->op, &op);
    assert_int_equal(s->inputs.n, 2);
    assert_ptr_equal(s->inputs.at[0], x);
    assert_null(s->inputs.at[1]);
    assert_ptr_equal(s->saved.at[0], x);
    assert_ptr_equal(s->outputs.at[0], y);
    assert_null(tsr_trace_at(outer, 2));
    /* The tensors outlive their scope. */
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    assert_true(tsr_tensor_get(tsr_trace_at(outer, 0)->outputs.at[0], 1) == 1.0);
    tsr_trace_close(&inner);
    tsr_trace_close(&outer);
    assert_null(outer);
}

static void test_trace__fields_are_read_by_name_and_kind(void **state)
{
    (void)state;
    tsr_scope scope = tsr_scope_open();
    tsr_trace *trace = tsr_trace_open();
    copy(tsr_full(TSR_DTYPE_F32, TSR_SHAPE(2), 1.0));
    tsr_trace_end(trace);
    const tsr_trace_step *s = tsr_trace_at(trace, 0);
    assert_int_equal(tsr_trace_step_int(s, "dims", 0), 3);
    assert_int_equal(tsr_trace_step_int(s, "dims", 1), -4);
    assert_true(tsr_trace_step_int(s, "n", 0) == INT64_C(1) << 40);
    assert_int_equal(tsr_trace_step_int(s, "on", 0), 1);
    assert_true(tsr_trace_step_double(s, "scale", 0) == 0.5);
    assert_true(tsr_shape_equal(tsr_trace_step_shape(s, "shape"), TSR_SHAPE(5, 6)));
    assert_int_equal(tsr_trace_step_int(s, "dims", 2), 0);
    assert_string_equal(tsr_message(), "copy: the operator has no field \"dims\" [2]");
    tsr_status_clear();
    tsr_trace_step_int(s, "scale", 0);
    assert_string_equal(tsr_message(), "copy: field \"scale\" is not an integer");
    tsr_status_clear();
    tsr_trace_step_double(s, "eps", 0);
    assert_string_equal(tsr_message(), "copy: the operator has no field \"eps\" [0]");
    tsr_status_clear();
    tsr_trace_close(&trace);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trace__has_what_ran_without_recording),
        cmocka_unit_test(test_trace__fields_are_read_by_name_and_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
