/*
 * The tape: nodes in the order in which they ran. Tensors know their variable's number (slot) on it; the tape knows no
 * tensor but those that nodes saved, and the leaves. Nodes lie in an arena that is kept from step to step.
 */
#include "autograd/internal.h"

#include <assert.h>
#include <string.h>

enum { CHUNK_BYTES = 256 << 10 };

struct tsr_arena_chunk {
    tsr_arena_chunk *next;
    size_t used, size;
};

enum { CHUNK_HEADER = 64 };

static _Thread_local tsr_tape *current_tape;
static _Thread_local bool recording_off, anomaly;
static _Thread_local struct {
    const char *names[32];
    int depth; /* may go beyond what is kept */
} origin;

static uint64_t next_generation(void)
{
    static atomic_uint_fast64_t last;
    return atomic_fetch_add(&last, 1) + 1;
}

/* ---- arena ---- */

void *tsr_tape__alloc(tsr_tape *tape, size_t bytes)
{
    bytes = (bytes + 15) & ~(size_t)15;
    tsr_arena_chunk *chunk = tape->current, **end = &tape->chunks;
    while (chunk != NULL && chunk->size - chunk->used < bytes) {
        end = &chunk->next;
        chunk = chunk->next;
    }
    if (chunk == NULL) {
        size_t size = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        chunk = tsr_alloc(size + CHUNK_HEADER);
        if (chunk == NULL) return NULL;
        *chunk = (tsr_arena_chunk){.size = size};
        *end = chunk;
    }
    tape->current = chunk;
    void *p = (char *)chunk + CHUNK_HEADER + chunk->used;
    chunk->used += bytes;
    return p;
}

static void arena_reset(tsr_tape *tape)
{
    for (tsr_arena_chunk *c = tape->chunks; c != NULL; c = c->next) c->used = 0;
    tape->current = tape->chunks;
}

/* ---- opening, resetting, closing ---- */

tsr_tape *tsr_tape_open(void)
{
    tsr_tape *tape = tsr_alloc(sizeof *tape);
    if (tape == NULL) return NULL;
    *tape = (tsr_tape){.generation = next_generation(), .outer = current_tape};
    current_tape = tape;
    return tape;
}

void tsr_node__release(tsr_node *node)
{
    for (int i = 0; i < node->n_kept + node->n_saved; i++) tsr_tensor_release(&node->kept[i]);
}

void tsr_tape__truncate(tsr_tape *tape, int64_t n)
{
    while (tape->n_nodes > n) tsr_node__release(tape->nodes[--tape->n_nodes]);
}

void tsr_tape_reset(tsr_tape *tape)
{
    if (tape == NULL) return;
    tsr_tape__truncate(tape, 0);
    for (int32_t v = 0; v < tape->n_variables; v++) tsr_tensor_release(&tape->variables[v].leaf);
    tape->n_variables = 0;
    tape->n_leaves = 0;
    if (tape->leaf_table != NULL) {
        memset(tape->leaf_table, 0, (size_t)tape->leaf_table_size * sizeof *tape->leaf_table);
    }
    arena_reset(tape);
    tape->generation = next_generation();
}

void tsr_tape_close(tsr_tape **tape)
{
    if (tape == NULL || *tape == NULL) return;
    tsr_tape *t = *tape;
    tsr_tape_reset(t);
    for (tsr_tape **at = &current_tape; *at != NULL; at = &(*at)->outer) {
        if (*at != t) continue;
        *at = t->outer;
        break;
    }
    for (tsr_arena_chunk *c = t->chunks; c != NULL;) {
        tsr_arena_chunk *next = c->next;
        tsr_free(c);
        c = next;
    }
    tsr_free(t->nodes);
    tsr_free(t->variables);
    tsr_free(t->leaf_table);
    tsr_free(t);
    *tape = NULL;
}

int64_t tsr_tape_length(const tsr_tape *tape)
{
    return tape != NULL ? tape->n_nodes : 0;
}

tsr_tape *tsr_tape_current(void)
{
    return recording_off ? NULL : current_tape;
}

bool tsr_recording_set(bool on)
{
    bool was = !recording_off;
    recording_off = !on;
    return was;
}

bool tsr_needs_grad(tsr_tensors inputs)
{
    if (tsr_tape_current() == NULL) return false;
    for (int i = 0; i < inputs.n; i++) {
        if (tsr_requires_grad(inputs.at[i])) return true;
    }
    return false;
}

bool tsr_anomaly_set(bool on)
{
    bool was = anomaly;
    anomaly = on;
    return was;
}

bool tsr_anomaly__on(void)
{
    return anomaly;
}

void tsr_origin_push(const char *name)
{
    int kept = (int)(sizeof origin.names / sizeof origin.names[0]);
    if (origin.depth < kept) origin.names[origin.depth] = name;
    origin.depth++;
}

void tsr_origin_pop(void)
{
    assert(origin.depth > 0);
    origin.depth--;
}

/* "blocks.3.attn" in the tape's arena; "" outside all origins. */
static const char *origin_path(tsr_tape *tape)
{
    int kept = (int)(sizeof origin.names / sizeof origin.names[0]);
    int n = origin.depth < kept ? origin.depth : kept;
    size_t bytes = 1;
    for (int i = 0; i < n; i++) bytes += strlen(origin.names[i]) + 1;
    char *path = tsr_tape__alloc(tape, bytes), *at = path;
    if (path == NULL) return "";
    for (int i = 0; i < n; i++) {
        if (i > 0) *at++ = '.';
        size_t length = strlen(origin.names[i]);
        memcpy(at, origin.names[i], length);
        at += length;
    }
    *at = '\0';
    return path;
}

/* ---- variables ---- */

/* Doubles an array that the pool holds. */
static bool grow(void **array, size_t element, size_t n, size_t capacity)
{
    void *grown = tsr_alloc(capacity * element);
    if (grown == NULL) return false;
    if (n > 0) memcpy(grown, *array, n * element);
    tsr_free(*array);
    *array = grown;
    return true;
}

static const tsr_form *form_of(tsr_tape *tape, const tsr_tensor *t)
{
    if (tape->n_variables > 0) {
        const tsr_form *last = tape->variables[tape->n_variables - 1].form;
        if (last->dtype == t->dtype && tsr_tensor__has_shape(t, &last->shape)) return last;
    }
    tsr_form *form = tsr_tape__alloc(tape, sizeof *form);
    if (form != NULL) *form = (tsr_form){t->dtype, tsr_tensor_shape(t)};
    return form;
}

static int32_t new_variable(tsr_tape *tape, const tsr_tensor *t, tsr_tensor *leaf)
{
    if (tape->n_variables == tape->variables_capacity) {
        int32_t capacity = tape->variables_capacity == 0 ? 1024 : 2 * tape->variables_capacity;
        void *array = tape->variables;
        if (!grow(&array, sizeof *tape->variables, (size_t)tape->n_variables, (size_t)capacity)) {
            return -1;
        }
        tape->variables = array;
        tape->variables_capacity = capacity;
    }
    const tsr_form *form = form_of(tape, t);
    if (form == NULL) return -1;
    tape->variables[tape->n_variables] =
        (tsr_variable){.form = form, .leaf = tsr_tensor_hold(leaf)};
    return tape->n_variables++;
}

static uint32_t leaf_hash(const tsr_tensor *t, int32_t size)
{
    uint64_t h = ((uint64_t)(uintptr_t)t >> 6) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> 32) & (uint32_t)(size - 1);
}

static int32_t *leaf_entry(tsr_tape *tape, const tsr_tensor *t)
{
    uint32_t at = leaf_hash(t, tape->leaf_table_size);
    while (tape->leaf_table[at] != 0 && tape->variables[tape->leaf_table[at] - 1].leaf != t) {
        at = (at + 1) & (uint32_t)(tape->leaf_table_size - 1);
    }
    return &tape->leaf_table[at];
}

static bool leaf_table_grow(tsr_tape *tape)
{
    int32_t size = tape->leaf_table_size == 0 ? 1024 : 2 * tape->leaf_table_size;
    int32_t *table = tsr_alloc((size_t)size * sizeof *table);
    if (table == NULL) return false;
    memset(table, 0, (size_t)size * sizeof *table);
    tsr_free(tape->leaf_table);
    tape->leaf_table = table;
    tape->leaf_table_size = size;
    for (int32_t v = 0; v < tape->n_variables; v++) {
        if (tape->variables[v].leaf != NULL) *leaf_entry(tape, tape->variables[v].leaf) = v + 1;
    }
    return true;
}

static int32_t leaf_slot(tsr_tape *tape, tsr_tensor *t)
{
    if (2 * (tape->n_leaves + 1) > tape->leaf_table_size && !leaf_table_grow(tape)) return -1;
    int32_t *entry = leaf_entry(tape, t);
    if (*entry != 0) return *entry - 1;
    int32_t slot = new_variable(tape, t, t);
    if (slot < 0) return -1;
    *entry = slot + 1;
    tape->n_leaves++;
    return slot;
}

int32_t tsr_tape__slot(tsr_tape *tape, tsr_tensor *t, bool *ok)
{
    if (t == NULL) return -1;
    if (t->slot >= 0) {
        if (t->generation == tape->generation) return t->slot;
        tsr_fail(TSR_STATUS_STATE,
                 "tape: a tensor's history is gone (its tape was reset, walked or "
                 "is another one): tsr_detach() it, or walk with retain_graph");
        *ok = false;
        return -1;
    }
    if (!t->leaf_grad) return -1;
    int32_t slot = leaf_slot(tape, t);
    if (slot < 0) *ok = false;
    return slot;
}

tsr_status tsr_grad_hook_add(tsr_tensor *t, tsr_grad_hook *hook, void *user)
{
    if (t == NULL) return tsr_fail(TSR_STATUS_ARGUMENT, "grad_hook_add: tensor is NULL");
    if (t->slot < 0 && t->leaf_grad) {
        tsr_hook *h = tsr_alloc(sizeof *h);
        if (h == NULL) return tsr_status_get();
        tsr_hook **end = &t->hooks;
        while (*end != NULL) end = &(*end)->next;
        *h = (tsr_hook){.call = hook, .user = user};
        *end = h;
        return TSR_STATUS_OK;
    }
    if (t->slot < 0 || current_tape == NULL || t->generation != current_tape->generation) {
        return tsr_fail(TSR_STATUS_STATE, "grad_hook_add: tensor needs no gradient on this tape");
    }
    tsr_hook *h = tsr_tape__alloc(current_tape, sizeof *h);
    if (h == NULL) return tsr_status_get();
    tsr_hook **end = &current_tape->variables[t->slot].hooks;
    while (*end != NULL) end = &(*end)->next;
    *h = (tsr_hook){.call = hook, .user = user};
    *end = h;
    return TSR_STATUS_OK;
}

/* ---- recording ---- */

static tsr_node *new_node(tsr_tape *tape, const tsr_op *op, const void *block, tsr_tensors inputs,
                          tsr_tensors saved, tsr_tensors outputs)
{
    if (tape->n_nodes == tape->nodes_capacity) {
        int64_t capacity = tape->nodes_capacity == 0 ? 1024 : 2 * tape->nodes_capacity;
        void *array = tape->nodes;
        if (!grow(&array, sizeof *tape->nodes, (size_t)tape->n_nodes, (size_t)capacity))
            return NULL;
        tape->nodes = array;
        tape->nodes_capacity = capacity;
    }
    size_t n_saved = (size_t)saved.n;
    size_t n_kept = op->definition != NULL && !op->records ? (size_t)inputs.n : 0;
    size_t slots = (size_t)inputs.n + (size_t)outputs.n;
    size_t bytes = sizeof(tsr_node) + n_kept * sizeof(tsr_node *) + slots * sizeof(int32_t) +
                   (n_kept + n_saved) * (sizeof(tsr_tensor *) + sizeof(uint64_t));
    tsr_node *node = tsr_tape__alloc(tape, ((bytes + 15) & ~(size_t)15) + op->block_size);
    if (node == NULL) return NULL;
    *node = (tsr_node){.op = op,
                       .n_inputs = inputs.n,
                       .n_outputs = outputs.n,
                       .n_saved = saved.n,
                       .n_kept = (int)n_kept};
    for (size_t i = 0; i < n_kept + n_saved; i++) {
        tsr_tensor *t = i < n_kept ? inputs.at[i] : saved.at[i - n_kept];
        node->kept[i] = tsr_tensor_hold(t);
        tsr_node__versions(node)[i] = t != NULL ? t->block->version : 0;
        if (i < n_kept) tsr_node__makers(node)[i] = NULL;
    }
    if (op->block_size > 0) memcpy(tsr_node__block(node), block, op->block_size);
    return node;
}

static bool is_among(tsr_tensors list, const tsr_tensor *t)
{
    for (int i = 0; i < list.n; i++) {
        if (list.at[i] == t) return true;
    }
    return false;
}

/* Lets go of the inputs that other nodes can compute again. */
static void drop_remakable(const tsr_tape *tape, tsr_node *node)
{
    for (int i = 0; i < node->n_kept; i++) {
        int32_t slot = tsr_node__inputs(node)[i];
        if (slot < 0 || tape->variables[slot].maker == NULL) continue;
        tsr_node__makers(node)[i] = tape->variables[slot].maker;
        tsr_tensor_release(&node->kept[i]);
    }
}

static bool outputs_are_finite(tsr_tape *tape, const tsr_op *op, tsr_tensors outputs)
{
    for (int i = 0; i < outputs.n; i++) {
        if (tsr_tensor_is_finite(outputs.at[i])) continue;
        const char *path = tape != NULL ? origin_path(tape) : "";
        tsr_fail(TSR_STATUS_NUMERIC, "anomaly: forward of %s%s%s gave NaN or infinity", op->name,
                 path[0] != '\0' ? " in " : "", path);
        return false;
    }
    return true;
}

static tsr_tensor *record(const tsr_op *op, const void *block, tsr_tensors inputs,
                          tsr_tensors saved, tsr_tensors outputs, bool always)
{
    for (int i = 0; i < outputs.n; i++) {
        if (outputs.at[i] == NULL) return NULL;
    }
    if (anomaly && !outputs_are_finite(current_tape, op, outputs)) return NULL;
    if (!tsr_trace__add(op, block, inputs, saved, outputs)) return NULL;
    tsr_tape *tape = tsr_tape_current();
    if (tape == NULL || op->backward == NULL) return outputs.at[0];
    if (!always && !tsr_needs_grad(inputs)) return outputs.at[0];
    tsr_node *node = new_node(tape, op, block, inputs, saved, outputs);
    if (node == NULL) return NULL;
    bool ok = true;
    for (int i = 0; i < inputs.n; i++)
        tsr_node__inputs(node)[i] = tsr_tape__slot(tape, inputs.at[i], &ok);
    for (int i = 0; i < outputs.n; i++) {
        tsr_tensor *y = outputs.at[i];
        tsr_node__outputs(node)[i] = -1;
        if (!ok || !tsr_dtype_is_float(y->dtype)) continue;
        assert(y->slot < 0 && !y->leaf_grad && "an op returns new handles");
        y->slot = tsr_node__outputs(node)[i] = new_variable(tape, y, NULL);
        y->generation = tape->generation;
        ok = y->slot >= 0;
        if (ok && op->again != NULL && !is_among(saved, y)) tape->variables[y->slot].maker = node;
    }
    if (!ok) {
        tsr_node__release(node);
        return NULL;
    }
    drop_remakable(tape, node);
    if (anomaly) node->origin = origin_path(tape);
    tape->nodes[tape->n_nodes++] = node;
    return outputs.at[0];
}

tsr_tensor *tsr_record(const tsr_op *op, const void *block, tsr_tensors inputs, tsr_tensors saved,
                       tsr_tensors outputs)
{
    return record(op, block, inputs, saved, outputs, false);
}

tsr_tensor *tsr_tape__record_always(const tsr_op *op, const void *block, tsr_tensors inputs,
                                    tsr_tensors saved, tsr_tensors outputs)
{
    return record(op, block, inputs, saved, outputs, true);
}

const void *tsr_node_block(const tsr_node *node)
{
    return tsr_node__block(node);
}

tsr_tensor *tsr_node__widened(const tsr_node *node, tsr_tensor *t)
{
    bool widens = node->op->widens && t != NULL && t->dtype == TSR_DTYPE_BF16;
    return widens ? tsr_tensor_converted(t, TSR_DTYPE_F32) : t;
}

tsr_tensor *tsr_node_saved(const tsr_node *node, int i)
{
    assert(i >= 0 && i < node->n_saved);
    return tsr_node__widened(node, tsr_node__saved(node)[i]);
}

tsr_tensor *tsr_node_input(const tsr_node *node, int i)
{
    assert(i >= 0 && i < node->n_kept && "only a fused op's node keeps its inputs");
    return tsr_node__widened(node, node->kept[i]);
}

bool tsr_node_wants(const tsr_node *node, int i)
{
    assert(i >= 0 && i < node->n_inputs);
    return tsr_walk__needs(node->walk, tsr_node__inputs(node)[i]);
}
