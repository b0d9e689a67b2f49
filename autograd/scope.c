/* Scopes: a stack of handles per thread; an open scope is a mark in it. */
#include "autograd/internal.h"

#include <assert.h>
#include <string.h>

static _Thread_local struct {
    tsr_tensor **handles;
    size_t n, capacity;
    int depth;
} stack;

tsr_scope tsr_scope_open(void)
{
    stack.depth++;
    return (tsr_scope){.mark = stack.n, .depth = stack.depth};
}

static bool is_listed(tsr_tensors list, const tsr_tensor *t)
{
    for (int i = 0; i < list.n; i++) {
        if (list.at[i] == t) return true;
    }
    return false;
}

void tsr_scope_close(tsr_scope *scope, tsr_tensors keep)
{
    assert(scope->depth == stack.depth && "scopes close in the reverse order of their opening");
    size_t kept = scope->mark;
    bool outermost = stack.depth == 1;
    for (size_t i = scope->mark; i < stack.n; i++) {
        tsr_tensor *t = stack.handles[i];
        if (!outermost && is_listed(keep, t)) {
            stack.handles[kept++] = t;
        } else {
            tsr_tensor__unref(t);
        }
    }
    stack.n = kept;
    stack.depth--;
    scope->depth = 0;
    if (outermost) {
        tsr_free(stack.handles);
        stack.handles = NULL;
        stack.capacity = 0;
    }
}

tsr_tensor *tsr_scope_return(tsr_scope *scope, tsr_tensor *result)
{
    if (stack.depth == 1) {
        tsr_fail(TSR_STATUS_STATE, "scope_return: there is no outer scope for the result");
        result = NULL;
    }
    tsr_scope_close(scope, TSR_TENSORS(result));
    return result;
}

tsr_tensor *tsr_scope__add(tsr_tensor *t)
{
    if (stack.depth == 0) {
        tsr_fail(TSR_STATUS_STATE, "no scope is open on this thread: call tsr_scope_open() first");
        tsr_tensor__unref(t);
        return NULL;
    }
    if (stack.n == stack.capacity) {
        size_t capacity = stack.capacity == 0 ? 512 : 2 * stack.capacity;
        tsr_tensor **grown = tsr_alloc(capacity * sizeof *grown);
        if (grown == NULL) {
            tsr_tensor__unref(t);
            return NULL;
        }
        if (stack.n > 0) memcpy(grown, stack.handles, stack.n * sizeof *grown);
        tsr_free(stack.handles);
        stack.handles = grown;
        stack.capacity = capacity;
    }
    stack.handles[stack.n++] = t;
    return t;
}
