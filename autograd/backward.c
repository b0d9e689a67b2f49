/*
 * Walks over the tape in reverse. A walk covers a range of nodes and holds the gradients of the variables in it; a walk
 * inside another one (a fused op through its definition, a recomputed function) hands what leaves its range to the outer.
 */
#include "autograd/internal.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

struct tsr_walk {
    tsr_tape *tape;
    tsr_walk *outer;
    int32_t base, n; /* variables base .. base + n - 1 are this walk's */
    tsr_tensor **grads;
    bool *needed, *asked, *hooked; /* asked: the caller wants to read this gradient */
    bool all_leaves; /* tsr_backward: every leaf is needed, also one met for the first time */
    bool create_graph, release;
};

/* ---- sums of gradients ---- */

static void accumulate_backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                                tsr_tensor **grad_inputs)
{
    for (int i = 0; i < 2; i++) {
        if (tsr_node_wants(node, i)) grad_inputs[i] = grad_outputs[0];
    }
}

static const tsr_op accumulate_op = {.name = "accumulate", .backward = accumulate_backward};

/* a + b, of one shape and type. */
static tsr_tensor *accumulate(tsr_tensor *a, tsr_tensor *b)
{
    tsr_tensor *y = tsr_empty_like(a);
    if (y == NULL || tsr_tensor_copy(y, a) != TSR_STATUS_OK) return NULL;
    tsr_tensor__add_in_place(y, b);
    return tsr_record(&accumulate_op, NULL, TSR_TENSORS(a, b), TSR_NO_TENSORS, TSR_TENSORS(y));
}

/* y = x under a new variable: where a walk over a function of x has to stop. */
static void alias_backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                           tsr_tensor **grad_inputs)
{
    (void)node;
    grad_inputs[0] = grad_outputs[0];
}

static const tsr_op alias_op = {.name = "alias", .backward = alias_backward};

static tsr_tensor *alias(tsr_tensor *x)
{
    return tsr_record(&alias_op, NULL, TSR_TENSORS(x), TSR_NO_TENSORS, TSR_TENSORS(tsr_detach(x)));
}

static bool is_exclusive(const tsr_tensor *t)
{
    return t->contiguous && atomic_load_explicit(&t->refs, memory_order_relaxed) == 1 &&
           atomic_load_explicit(&t->block->refs, memory_order_relaxed) == 1;
}

/* ---- the walk's tables ---- */

static bool walk_open(tsr_walk *walk, tsr_tape *tape, int32_t base)
{
    walk->tape = tape;
    walk->base = base;
    walk->n = tape->n_variables - base;
    size_t n = (size_t)walk->n;
    walk->grads = tsr_alloc(n * sizeof *walk->grads);
    if (walk->grads != NULL) memset(walk->grads, 0, n * sizeof *walk->grads);
    walk->needed = tsr_alloc(3 * n * sizeof *walk->needed);
    if (walk->grads == NULL || walk->needed == NULL) return false;
    walk->asked = walk->needed + n;
    walk->hooked = walk->asked + n;
    memset(walk->needed, 0, 3 * n * sizeof *walk->needed);
    return true;
}

static void walk_close(tsr_walk *walk)
{
    if (walk->grads != NULL) {
        for (int32_t i = 0; i < walk->n; i++) tsr_tensor_release(&walk->grads[i]);
    }
    tsr_free(walk->grads);
    tsr_free(walk->needed);
}

/* Room for variables that a recomputed function added (leaves met there for the first time). */
static bool walk_grow(tsr_walk *walk, int32_t n)
{
    tsr_walk grown = *walk;
    if (!walk_open(&grown, walk->tape, walk->base)) {
        tsr_free(grown.grads);
        tsr_free(grown.needed);
        return false;
    }
    assert(grown.n >= n);
    (void)n;
    memcpy(grown.grads, walk->grads, (size_t)walk->n * sizeof *walk->grads);
    memcpy(grown.needed, walk->needed, (size_t)walk->n * sizeof *walk->needed);
    memcpy(grown.asked, walk->asked, (size_t)walk->n * sizeof *walk->asked);
    memcpy(grown.hooked, walk->hooked, (size_t)walk->n * sizeof *walk->hooked);
    for (int32_t i = walk->n; i < grown.n; i++) grown.needed[i] = walk->all_leaves;
    tsr_free(walk->grads);
    tsr_free(walk->needed);
    *walk = grown;
    return true;
}

bool tsr_walk__needs(const tsr_walk *walk, int32_t slot)
{
    if (slot < 0) return false;
    if (slot < walk->base) return walk->outer != NULL && tsr_walk__needs(walk->outer, slot);
    return slot - walk->base < walk->n ? walk->needed[slot - walk->base] : walk->all_leaves;
}

tsr_shape tsr_node_input_shape(const tsr_node *node, int i)
{
    assert(tsr_node_wants(node, i));
    return node->walk->tape->variables[tsr_node__inputs(node)[i]].form->shape;
}

static void mark_needed(tsr_walk *walk, int64_t first, int64_t last);
static bool walk_range(tsr_walk *walk, int64_t first, int64_t last);

static bool gradient_fits(const tsr_form *form, const tsr_tensor *g, const tsr_op *op, int input)
{
    if (g->dtype == form->dtype && tsr_tensor__has_shape(g, &form->shape)) return true;
    char got[TSR_SHAPE_TEXT], wanted[TSR_SHAPE_TEXT];
    tsr_fail(TSR_STATUS_SHAPE, "%s: backward gave input %d a gradient of %s %s, expected %s %s",
             op->name, input, tsr_dtype_name(g->dtype), tsr_shape_text(tsr_tensor_shape(g), got),
             tsr_dtype_name(form->dtype), tsr_shape_text(form->shape, wanted));
    return false;
}

/* grads[slot] += g. */
static bool deposit(tsr_walk *walk, int32_t slot, tsr_tensor *g)
{
    if (slot < walk->base) return deposit(walk->outer, slot, g);
    if (slot - walk->base >= walk->n && !walk_grow(walk, slot - walk->base + 1)) return false;
    tsr_tensor **sum = &walk->grads[slot - walk->base];
    if (*sum == NULL) {
        *sum = tsr_tensor_hold(g);
        return true;
    }
    if (!walk->create_graph && is_exclusive(*sum)) {
        tsr_tensor__add_in_place(*sum, g);
        return true;
    }
    tsr_tensor *total = accumulate(*sum, g);
    if (total == NULL) return false;
    tsr_tensor_release(sum);
    *sum = tsr_tensor_hold(total);
    return true;
}

/* Runs the hooks of a variable whose gradient is complete, once. */
static bool run_hooks(tsr_walk *walk, int32_t slot)
{
    const tsr_variable *v = &walk->tape->variables[slot];
    tsr_hook *hook = v->leaf != NULL ? v->leaf->hooks : v->hooks;
    int32_t i = slot - walk->base;
    if (hook == NULL || walk->hooked[i] || walk->grads[i] == NULL) return true;
    walk->hooked[i] = true;
    for (; hook != NULL; hook = hook->next) {
        tsr_tensor *g = hook->call(walk->grads[i], hook->user);
        if (tsr_status_get() != TSR_STATUS_OK) return false;
        if (g == NULL) continue;
        if (!gradient_fits(v->form, g, &(tsr_op){.name = "grad hook"}, 0)) return false;
        tsr_tensor_hold(g);
        tsr_tensor_release(&walk->grads[i]);
        walk->grads[i] = g;
    }
    return true;
}

/* ---- one node ---- */

/* d outputs / d inputs of what f recorded since the tape had `first` nodes; inputs have slots from walk->base on. */
static bool differentiate_inside(tsr_walk *outer, int64_t first, int32_t base, tsr_tensors inputs,
                                 tsr_tensors outputs, tsr_tensor *const *grad_outputs,
                                 tsr_tensor **grad_inputs)
{
    tsr_tape *tape = outer->tape;
    tsr_walk walk = {.outer = outer,
                     .all_leaves = outer->all_leaves,
                     .create_graph = outer->create_graph,
                     .release = !outer->create_graph};
    bool ok = walk_open(&walk, tape, base);
    for (int32_t v = base; ok && v < tape->n_variables; v++) {
        /* Leaves that were met here for the first time. */
        walk.needed[v - base] = outer->all_leaves && tape->variables[v].leaf != NULL;
    }
    for (int i = 0; ok && i < inputs.n; i++) {
        if (inputs.at[i] != NULL && inputs.at[i]->slot >= base) {
            walk.needed[inputs.at[i]->slot - base] = true;
        }
    }
    int64_t last = tape->n_nodes;
    for (int o = 0; ok && o < outputs.n; o++) {
        if (outputs.at[o] == NULL) ok = false;
        if (!ok || grad_outputs[o] == NULL || outputs.at[o]->slot < 0) continue;
        ok = deposit(&walk, outputs.at[o]->slot, grad_outputs[o]);
    }
    if (ok) {
        mark_needed(&walk, first, last);
        ok = walk_range(&walk, first, last);
    }
    for (int i = 0; ok && i < inputs.n; i++) {
        if (inputs.at[i] == NULL || inputs.at[i]->slot < base) continue;
        grad_inputs[i] = tsr_tensor_borrow(walk.grads[inputs.at[i]->slot - base]);
    }
    for (int32_t i = 0; ok && i < walk.n; i++) {
        const tsr_variable *v = &tape->variables[base + i];
        if (v->leaf != NULL && walk.grads[i] != NULL) ok = deposit(outer, base + i, walk.grads[i]);
    }
    walk_close(&walk);
    return ok;
}

/* Stand-ins for the inputs of a function that is to be run again: gradients stop at them. */
static bool make_aliases(const tsr_node *node, tsr_tensor *const *inputs, tsr_tensor **aliases)
{
    for (int i = 0; i < node->n_inputs; i++) {
        tsr_tensor *x = inputs[i];
        aliases[i] = x == NULL ? NULL : tsr_node__inputs(node)[i] >= 0 ? alias(x) : tsr_detach(x);
        if (x != NULL && aliases[i] == NULL) return false;
    }
    return true;
}

static void backward_through_definition(tsr_walk *walk, const tsr_node *node,
                                        tsr_tensor *const *grad_outputs, tsr_tensor **grad_inputs)
{
    tsr_tape *tape = walk->tape;
    size_t n_in = (size_t)node->n_inputs, n_out = (size_t)node->n_outputs;
    tsr_tensor **aliases = tsr_alloc((n_in + n_out) * sizeof *aliases), **outputs = aliases + n_in;
    if (aliases == NULL) return;
    memset(aliases, 0, (n_in + n_out) * sizeof *aliases);
    int32_t base = tape->n_variables;
    if (make_aliases(node, node->kept, aliases)) {
        int64_t first = tape->n_nodes;
        tsr_tensors inputs = {aliases, node->n_inputs};
        node->op->definition(tsr_node__block(node), inputs, outputs);
        tsr_tensors out = {outputs, node->n_outputs};
        differentiate_inside(walk, first, base, inputs, out, grad_outputs, grad_inputs);
    }
    tsr_free(aliases);
}

struct recompute_block {
    tsr_function *f;
    void *user;
};

static void recompute_backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                               tsr_tensor **grad_inputs)
{
    const struct recompute_block *b = tsr_node__block(node);
    tsr_walk *walk = (tsr_walk *)node->walk;
    tsr_tape *tape = walk->tape;
    size_t n_in = (size_t)node->n_inputs, n_out = (size_t)node->n_outputs;
    tsr_tensor **aliases = tsr_alloc((n_in + n_out) * sizeof *aliases), **outputs = aliases + n_in;
    if (aliases == NULL) return;
    memset(aliases, 0, (n_in + n_out) * sizeof *aliases);
    int32_t base = tape->n_variables;
    int64_t before = tape->n_nodes;
    bool was = tsr_recording_set(true);
    if (make_aliases(node, tsr_node__saved(node), aliases)) {
        int64_t first = tape->n_nodes;
        tsr_tensors inputs = {aliases, node->n_inputs};
        b->f(inputs, outputs, node->n_outputs, b->user);
        tsr_recording_set(walk->create_graph);
        tsr_tensors out = {outputs, node->n_outputs};
        differentiate_inside(walk, first, base, inputs, out, grad_outputs, grad_inputs);
    }
    tsr_recording_set(was);
    if (!walk->create_graph) tsr_tape__truncate(tape, before);
    tsr_free(aliases);
}

static const tsr_op recompute_op = {.name = "recompute",
                                    .block_size = sizeof(struct recompute_block),
                                    .backward = recompute_backward};

tsr_status tsr_recompute(tsr_function *f, void *user, tsr_tensors inputs, tsr_tensor **outputs,
                         int n_outputs)
{
    for (int i = 0; i < n_outputs; i++) outputs[i] = NULL;
    tsr_scope scope = tsr_scope_open();
    bool was = tsr_recording_set(false);
    f(inputs, outputs, n_outputs, user);
    tsr_recording_set(was);
    bool ok = tsr_status_get() == TSR_STATUS_OK;
    for (int i = 0; ok && i < n_outputs; i++) {
        /* A new handle each: f may return one of its inputs. */
        outputs[i] = tsr_detach(outputs[i]);
        ok = outputs[i] != NULL;
    }
    struct recompute_block block = {f, user};
    tsr_tensors out = {outputs, n_outputs};
    if (ok) {
        ok = tsr_tape__record_always(&recompute_op, &block, inputs, inputs, out) != NULL;
    }
    tsr_scope_close(&scope, ok ? out : TSR_NO_TENSORS);
    for (int i = 0; !ok && i < n_outputs; i++) outputs[i] = NULL;
    return tsr_status_get();
}

static bool leads_to_needed(const tsr_walk *walk, const tsr_node *node)
{
    if (node->op == &recompute_op) return true; /* may reach any leaf */
    for (int i = 0; i < node->n_inputs; i++) {
        if (tsr_walk__needs(walk, tsr_node__inputs(node)[i])) return true;
    }
    return false;
}

static void mark_needed(tsr_walk *walk, int64_t first, int64_t last)
{
    for (int64_t k = first; k < last; k++) {
        const tsr_node *node = walk->tape->nodes[k];
        if (!leads_to_needed(walk, node)) continue;
        for (int o = 0; o < node->n_outputs; o++) {
            int32_t slot = tsr_node__outputs(node)[o];
            if (slot >= walk->base) walk->needed[slot - walk->base] = true;
        }
    }
}

static bool saved_are_unmodified(const tsr_node *node)
{
    for (int i = 0; i < node->n_kept + node->n_saved; i++) {
        const tsr_tensor *t = node->kept[i];
        if (t == NULL || t->block->version == tsr_node__versions(node)[i]) continue;
        char text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_STATE, "%s: a tensor %s that its backward needs was modified since%s%s",
                 node->op->name, tsr_shape_text(tsr_tensor_shape(t), text),
                 node->origin != NULL && node->origin[0] != '\0' ? ", in " : "",
                 node->origin != NULL ? node->origin : "");
        return false;
    }
    return true;
}

/* The op's own backward, of bf16 tensors in f32 where it asks for that. grad_outputs is the caller's to change. */
static void plain_backward(const tsr_walk *walk, const tsr_node *node, tsr_tensor **grad_outputs,
                           tsr_tensor **grad_inputs)
{
    for (int o = 0; o < node->n_outputs; o++) {
        tsr_tensor *g = grad_outputs[o];
        grad_outputs[o] = tsr_node__widened(node, g);
        if (g != NULL && grad_outputs[o] == NULL) return;
    }
    node->op->backward(node, grad_outputs, grad_inputs);
    for (int i = 0; node->op->widens && i < node->n_inputs; i++) {
        if (grad_inputs[i] == NULL || !tsr_walk__needs(walk, tsr_node__inputs(node)[i])) continue;
        tsr_dtype dtype = walk->tape->variables[tsr_node__inputs(node)[i]].form->dtype;
        if (dtype != TSR_DTYPE_BF16) continue;
        grad_inputs[i] = tsr_tensor_converted(grad_inputs[i], dtype);
    }
}

/* Forgets what make_kept computed; the open scope has it. */
static void drop_made(tsr_node *node)
{
    for (int i = 0; i < node->n_kept; i++) {
        if (tsr_node__makers(node)[i] != NULL) node->kept[i] = NULL;
    }
}

/* Computes again, in the open scope, the inputs that were not kept, as the variables they were. */
static bool make_kept(const tsr_tape *tape, tsr_node *node)
{
    if (!saved_are_unmodified(node)) return false;
    for (int i = 0; i < node->n_kept; i++) {
        tsr_node *maker = tsr_node__makers(node)[i];
        if (maker == NULL) continue;
        int o = 0;
        while (tsr_node__outputs(maker)[o] != tsr_node__inputs(node)[i]) o++;
        tsr_tensor *t = make_kept(tape, maker) ? maker->op->again(maker, o) : NULL;
        drop_made(maker);
        if (t == NULL) return false;
        t->slot = tsr_node__inputs(node)[i];
        t->generation = tape->generation;
        node->kept[i] = t;
    }
    return true;
}

static bool call_backward(tsr_walk *walk, tsr_node *node, tsr_tensor **grad_outputs,
                          tsr_tensor **grad_inputs)
{
    if (!make_kept(walk->tape, node)) {
        drop_made(node);
        return false;
    }
    node->walk = walk;
    if (walk->create_graph && node->op->definition != NULL && !node->op->records) {
        backward_through_definition(walk, node, grad_outputs, grad_inputs);
    } else {
        plain_backward(walk, node, grad_outputs, grad_inputs);
    }
    node->walk = NULL;
    drop_made(node);
    if (tsr_status_get() != TSR_STATUS_OK) return false;
    for (int i = 0; i < node->n_inputs; i++) {
        int32_t slot = tsr_node__inputs(node)[i];
        if (grad_inputs[i] == NULL || !tsr_walk__needs(walk, slot)) continue;
        if (tsr_anomaly__on() && !tsr_tensor_is_finite(grad_inputs[i])) {
            bool named = node->origin != NULL && node->origin[0] != '\0';
            tsr_fail(TSR_STATUS_NUMERIC,
                     "anomaly: backward of %s%s%s gave NaN or infinity for input %d",
                     node->op->name, named ? " in " : "", named ? node->origin : "", i);
            return false;
        }
        if (!gradient_fits(walk->tape->variables[slot].form, grad_inputs[i], node->op, i))
            return false;
        if (!deposit(walk, slot, grad_inputs[i])) return false;
    }
    return true;
}

static bool walk_node(tsr_walk *walk, tsr_node *node)
{
    bool any = false, ok = true;
    for (int o = 0; o < node->n_outputs; o++) {
        int32_t slot = tsr_node__outputs(node)[o];
        if (slot < 0 || walk->grads[slot - walk->base] == NULL) continue;
        any = true;
        ok = ok && run_hooks(walk, slot);
    }
    if (!ok || !any || !leads_to_needed(walk, node)) return ok;
    enum { FEW = 16 };
    tsr_tensor *few[FEW] = {0}, **gradients = few;
    size_t n = (size_t)node->n_outputs + (size_t)node->n_inputs;
    if (n > FEW) {
        gradients = tsr_alloc(n * sizeof *gradients);
        if (gradients == NULL) return false;
        memset(gradients, 0, n * sizeof *gradients);
    }
    for (int o = 0; o < node->n_outputs; o++) {
        int32_t slot = tsr_node__outputs(node)[o];
        if (slot >= 0) gradients[o] = walk->grads[slot - walk->base];
    }
    tsr_scope scope = tsr_scope_open();
    ok = call_backward(walk, node, gradients, gradients + node->n_outputs);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    if (gradients != few) tsr_free(gradients);
    return ok;
}

static bool walk_range(tsr_walk *walk, int64_t first, int64_t last)
{
    /* A long tape is in no cache any more: nodes, and then their tensors, are asked for some steps before. */
    enum { NODE_AHEAD = 8, TENSORS_AHEAD = 4 };
    for (int64_t k = last - 1; k >= first; k--) {
        tsr_node *const *at = &walk->tape->nodes[k], *node = *at;
        if (k - NODE_AHEAD >= first) __builtin_prefetch(at[-NODE_AHEAD]);
        if (k - TENSORS_AHEAD >= first) {
            const tsr_node *soon = at[-TENSORS_AHEAD];
            int n = soon->n_kept + soon->n_saved;
            for (int i = 0; i < n; i++) __builtin_prefetch(soon->kept[i]);
        }
        if (!walk_node(walk, node)) return false;
        if (walk->release) tsr_node__release(node);
        for (int o = 0; o < node->n_outputs; o++) {
            int32_t i = tsr_node__outputs(node)[o] - walk->base;
            if (i >= 0 && !walk->asked[i]) tsr_tensor_release(&walk->grads[i]);
        }
    }
    return true;
}

/* ---- the public walks ---- */

static bool walk_is_allowed(tsr_tape *tape, const char *what)
{
    if (tsr_status_get() != TSR_STATUS_OK) return false;
    bool was = tsr_recording_set(true);
    bool current = tape != NULL && tsr_tape_current() == tape;
    tsr_recording_set(was);
    if (!current) {
        tsr_fail(TSR_STATUS_STATE, "%s: the tape is not the one this thread opened last", what);
    } else if (tape->walking) {
        tsr_fail(TSR_STATUS_STATE, "%s: called from a backward function or a hook", what);
        current = false;
    }
    return current;
}

static bool leaf_deposit(tsr_walk *walk, tsr_tensor *leaf, tsr_tensor *g)
{
    if (leaf->grad == NULL) {
        tsr_tensor *own = g;
        if (!walk->create_graph && !is_exclusive(g)) {
            own = tsr_empty_like(g);
            if (own == NULL || tsr_tensor_copy(own, g) != TSR_STATUS_OK) return false;
        }
        leaf->grad = tsr_tensor_hold(own);
        return true;
    }
    if (!walk->create_graph && leaf->grad->contiguous) {
        tsr_tensor__add_in_place(leaf->grad, g);
        return true;
    }
    tsr_tensor *sum = accumulate(leaf->grad, g);
    return sum != NULL && tsr_tensor_set_grad(leaf, sum) == TSR_STATUS_OK;
}

/* Seeds the outputs, walks the whole tape, and runs what hooks are left. */
static bool walk_tape(tsr_walk *walk, tsr_tensors outputs, tsr_tensors cotangents)
{
    tsr_tape *tape = walk->tape;
    char got[TSR_SHAPE_TEXT], wanted[TSR_SHAPE_TEXT];
    for (int o = 0; o < outputs.n; o++) {
        tsr_tensor *y = outputs.at[o], *v = o < cotangents.n ? cotangents.at[o] : NULL;
        if (v == NULL && y->numel != 1) {
            tsr_fail(TSR_STATUS_SHAPE,
                     "backward: output %d has shape %s, expected one element (or give "
                     "a cotangent)",
                     o, tsr_shape_text(tsr_tensor_shape(y), got));
            return false;
        }
        if (v == NULL) v = tsr_full(y->dtype, tsr_tensor_shape(y), 1.0);
        if (v == NULL) return false;
        if (v->dtype != y->dtype || !tsr_tensor_same_shape(v, y)) {
            tsr_fail(TSR_STATUS_SHAPE, "backward: cotangent %d is %s %s, expected %s %s", o,
                     tsr_dtype_name(v->dtype), tsr_shape_text(tsr_tensor_shape(v), got),
                     tsr_dtype_name(y->dtype), tsr_shape_text(tsr_tensor_shape(y), wanted));
            return false;
        }
        bool ok = true;
        int32_t slot = tsr_tape__slot(tape, y, &ok);
        if (!ok || (slot >= 0 && !deposit(walk, slot, v))) return false;
    }
    mark_needed(walk, 0, tape->n_nodes);
    if (!walk_range(walk, 0, tape->n_nodes)) return false;
    for (int32_t v = 0; v < walk->n; v++) {
        if ((tape->variables[v].leaf != NULL || walk->asked[v]) && !run_hooks(walk, v))
            return false;
    }
    return true;
}

static tsr_walk walk_begin(tsr_tape *tape, const tsr_backward_options *options, bool *was_recording)
{
    bool create = options != NULL && options->create_graph;
    bool retain = create || (options != NULL && options->retain_graph);
    *was_recording = tsr_recording_set(create);
    tape->walking = true;
    return (tsr_walk){.create_graph = create, .release = !retain};
}

static void walk_end(tsr_walk *walk, tsr_tape *tape, bool was_recording)
{
    walk_close(walk);
    tape->walking = false;
    tsr_recording_set(was_recording);
    if (walk->release) tsr_tape_reset(tape);
}

tsr_status tsr_backward(tsr_tape *tape, tsr_tensor *loss, const tsr_backward_options *options)
{
    if (!walk_is_allowed(tape, "backward")) return tsr_status_get();
    if (loss == NULL) return tsr_fail(TSR_STATUS_ARGUMENT, "backward: loss is NULL");
    if (loss->slot < 0) {
        return tsr_fail(TSR_STATUS_STATE,
                        "backward: loss was not recorded: no leaf requires a gradient, "
                        "or recording was off");
    }
    bool was;
    tsr_walk walk = walk_begin(tape, options, &was);
    walk.all_leaves = true;
    tsr_scope scope = tsr_scope_open();
    bool ok = walk_open(&walk, tape, 0);
    for (int32_t v = 0; ok && v < walk.n; v++) walk.needed[v] = tape->variables[v].leaf != NULL;
    ok = ok && walk_tape(&walk, TSR_TENSORS(loss), TSR_NO_TENSORS);
    for (int32_t v = 0; ok && v < walk.n; v++) {
        tsr_tensor *leaf = tape->variables[v].leaf;
        if (leaf != NULL && walk.grads[v] != NULL) ok = leaf_deposit(&walk, leaf, walk.grads[v]);
    }
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    walk_end(&walk, tape, was);
    return tsr_status_get();
}

tsr_status tsr_grad(tsr_tape *tape, tsr_tensors outputs, tsr_tensors cotangents, tsr_tensors inputs,
                    tsr_tensor **grads, const tsr_backward_options *options)
{
    for (int i = 0; i < inputs.n; i++) grads[i] = NULL;
    if (!walk_is_allowed(tape, "grad")) return tsr_status_get();
    for (int o = 0; o < outputs.n; o++) {
        if (outputs.at[o] == NULL)
            return tsr_fail(TSR_STATUS_ARGUMENT, "grad: output %d is NULL", o);
    }
    for (int i = 0; i < inputs.n; i++) {
        bool ok = true;
        if (tsr_tape__slot(tape, inputs.at[i], &ok) >= 0) continue;
        return tsr_fail(TSR_STATUS_ARGUMENT, "grad: input %d requires no gradient", i);
    }
    bool was, ok, slot_ok = true;
    tsr_walk walk = walk_begin(tape, options, &was);
    tsr_scope scope = tsr_scope_open();
    ok = walk_open(&walk, tape, 0);
    for (int i = 0; ok && i < inputs.n; i++) {
        int32_t slot = tsr_tape__slot(tape, inputs.at[i], &slot_ok);
        walk.needed[slot] = walk.asked[slot] = true;
    }
    ok = ok && walk_tape(&walk, outputs, cotangents);
    for (int i = 0; ok && i < inputs.n; i++) {
        tsr_tensor *g = walk.grads[tsr_tape__slot(tape, inputs.at[i], &slot_ok)];
        grads[i] = g != NULL ? tsr_tensor_borrow(g)
                             : tsr_zeros(inputs.at[i]->dtype, tsr_tensor_shape(inputs.at[i]));
        ok = grads[i] != NULL;
    }
    for (int i = 0; !ok && i < inputs.n; i++) grads[i] = NULL;
    tsr_scope_close(&scope, (tsr_tensors){grads, inputs.n});
    walk_end(&walk, tape, was);
    return tsr_status_get();
}
