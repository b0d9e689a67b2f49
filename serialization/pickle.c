/*
 * A machine for the opcodes of protocols 2 to 5 (Python's Lib/pickletools.py) with a stack, marks and a memo. It builds
 * values and does nothing else: REDUCE, NEWOBJ and BUILD look at which entry of the list below they are given.
 *
 * Bounds: values take at most 64 bytes for each byte of the pickle; memo indices and lengths must be smaller than the bytes
 * read or left; nesting is not followed here, so its depth costs nothing.
 */
#include "serialization/pickle.h"

#include <stdlib.h>
#include <string.h>

typedef tsr_pickle_value value;

/* ---- what may be named ---- */

enum action {
    OPAQUE, /* calling it, or making an object of it, gives an opaque value */
    MAKE_DICT,
    MAKE_LIST,
    REBUILD_TENSOR,
    REBUILD_PARAMETER,
    STORAGE,
};

typedef struct tsr_pickle_global {
    const char *module, *name;
    enum action action;
    tsr_pickle_type type;
} global;

static const global globals[] = {
    {"torch._utils", "_rebuild_tensor", REBUILD_TENSOR},
    {"torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR},
    {"torch._utils", "_rebuild_parameter", REBUILD_PARAMETER},
    {"torch", "FloatStorage", STORAGE, {"FloatStorage", 4, TSR_DTYPE_F32}},
    {"torch", "DoubleStorage", STORAGE, {"DoubleStorage", 8, TSR_DTYPE_F64}},
    {"torch", "HalfStorage", STORAGE, {"HalfStorage", 2, TSR_DTYPE_F32}},
    {"torch", "BFloat16Storage", STORAGE, {"BFloat16Storage", 2, TSR_DTYPE_BF16}},
    {"torch", "LongStorage", STORAGE, {"LongStorage", 8, TSR_DTYPE_I64}},
    {"torch", "IntStorage", STORAGE, {"IntStorage", 4, TSR_DTYPE_I32}},
    {"torch", "ShortStorage", STORAGE, {"ShortStorage", 2, TSR_DTYPE_I32}},
    {"torch", "CharStorage", STORAGE, {"CharStorage", 1, TSR_DTYPE_I32}},
    {"torch", "ByteStorage", STORAGE, {"ByteStorage", 1, TSR_DTYPE_U8}},
    {"torch", "BoolStorage", STORAGE, {"BoolStorage", 1, TSR_DTYPE_BOOL}},
    {"collections", "OrderedDict", MAKE_DICT},
    {"collections", "defaultdict", MAKE_DICT},
    {"torch", "Size", MAKE_LIST},
    /* Options and counters that training scripts leave beside the weights. */
    {"argparse", "Namespace", OPAQUE},
    {"collections", "Counter", OPAQUE},
    {"__builtin__", "set", OPAQUE},
    {"builtins", "set", OPAQUE},
    {"__builtin__", "int", OPAQUE},
    {"builtins", "int", OPAQUE},
    {"pathlib", "PosixPath", OPAQUE},
    {"torch", "device", OPAQUE},
    {"torch", "float32", OPAQUE},
    {"torch", "float16", OPAQUE},
    {"torch", "bfloat16", OPAQUE},
    {"_codecs", "encode", OPAQUE},
    {"numpy", "dtype", OPAQUE},
    {"numpy.core.multiarray", "scalar", OPAQUE},
    {"numpy._core.multiarray", "scalar", OPAQUE},
};

/* ---- memory ---- */

struct block {
    struct block *next;
};

struct tsr_pickle {
    const char *name;
    const uint8_t *data;
    size_t bytes, at;
    struct block *blocks; /* all that values need: freed together */
    uint8_t *free;        /* in the newest block */
    size_t left, budget;
    bool failed;
    value *root, *opaque;
    value **stack, **memo;
    size_t n_stack, stack_room, n_memo;
    size_t *marks; /* heights of the stack */
    size_t n_marks, marks_room;
};

static tsr_status fail_format(tsr_pickle *p, const char *problem)
{
    p->failed = true;
    return tsr_fail(TSR_STATUS_FORMAT, "pth: '%s': at byte %zu of its pickle: %s", p->name, p->at,
                    problem);
}

static void *fail_memory(tsr_pickle *p)
{
    p->failed = true;
    tsr_fail(TSR_STATUS_MEMORY, "pth: out of memory");
    return NULL;
}

static void *allocate(tsr_pickle *p, size_t bytes)
{
    enum { BLOCK = 16 << 10 };
    bytes = (bytes + 15) / 16 * 16;
    if (bytes > p->left) {
        size_t size = bytes > BLOCK ? bytes : BLOCK;
        if (size > p->budget) {
            fail_format(p, "its values take more memory than such a pickle needs");
            return NULL;
        }
        p->budget -= size;
        struct block *b = malloc(16 + size);
        if (b == NULL) return fail_memory(p);
        b->next = p->blocks;
        p->blocks = b;
        p->free = (uint8_t *)b + 16;
        p->left = size;
    }
    void *result = p->free;
    p->free += bytes;
    p->left -= bytes;
    return result;
}

static value *make(tsr_pickle *p, tsr_pickle_kind kind)
{
    value *v = allocate(p, sizeof *v);
    if (v != NULL) *v = (value){.kind = kind};
    return v;
}

static void add_item(tsr_pickle *p, value *to, value *item)
{
    if (to->u.items.n == to->u.items.room) {
        size_t room = to->u.items.room > 0 ? 2 * to->u.items.room : 2;
        value **at = allocate(p, room * sizeof *at);
        if (at == NULL) return;
        if (to->u.items.n > 0) memcpy(at, to->u.items.at, to->u.items.n * sizeof *at);
        to->u.items.at = at;
        to->u.items.room = room;
    }
    to->u.items.at[to->u.items.n++] = item;
}

static void *grow(tsr_pickle *p, void *array, size_t *room, size_t item)
{
    size_t wanted = *room > 0 ? 2 * *room : 64;
    void *grown = realloc(array, wanted * item);
    if (grown == NULL) return fail_memory(p);
    *room = wanted;
    return grown;
}

/* ---- the stack ---- */

static void push(tsr_pickle *p, value *v)
{
    if (v == NULL) return;
    if (p->n_stack == p->stack_room) {
        value **grown = grow(p, p->stack, &p->stack_room, sizeof *grown);
        if (grown == NULL) return;
        p->stack = grown;
    }
    p->stack[p->n_stack++] = v;
}

/* What lies above the last mark may be popped. */
static size_t floor_of(const tsr_pickle *p)
{
    return p->n_marks > 0 ? p->marks[p->n_marks - 1] : 0;
}

static value *pop(tsr_pickle *p)
{
    if (p->n_stack > floor_of(p)) return p->stack[--p->n_stack];
    fail_format(p, "the stack is empty");
    return NULL;
}

static value *top(tsr_pickle *p)
{
    if (p->n_stack > floor_of(p)) return p->stack[p->n_stack - 1];
    fail_format(p, "the stack is empty");
    return NULL;
}

static void push_mark(tsr_pickle *p)
{
    if (p->n_marks == p->marks_room) {
        size_t *grown = grow(p, p->marks, &p->marks_room, sizeof *grown);
        if (grown == NULL) return;
        p->marks = grown;
    }
    p->marks[p->n_marks++] = p->n_stack;
}

/* The values above the last mark, which goes: *n of them, valid until something is pushed. */
static value **pop_mark(tsr_pickle *p, size_t *n)
{
    *n = 0;
    if (p->n_marks == 0) {
        fail_format(p, "there is no mark");
        return NULL;
    }
    size_t begin = p->marks[--p->n_marks];
    *n = p->n_stack - begin;
    p->n_stack = begin;
    return p->stack == NULL ? NULL : p->stack + begin;
}

/* ---- bytes ---- */

static const uint8_t *take(tsr_pickle *p, uint64_t bytes)
{
    if (bytes > p->bytes - p->at) {
        fail_format(p, "it is cut off");
        return NULL;
    }
    const uint8_t *at = p->data + p->at;
    p->at += (size_t)bytes;
    return at;
}

static uint64_t take_unsigned(tsr_pickle *p, unsigned bytes)
{
    const uint8_t *at = take(p, bytes);
    uint64_t x = 0;
    for (unsigned k = 0; at != NULL && k < bytes; k++) x |= (uint64_t)at[k] << (8 * k);
    return x;
}

static value *make_int(tsr_pickle *p, int64_t x)
{
    value *v = make(p, TSR_PICKLE_KIND_INT);
    if (v != NULL) v->u.integer = x;
    return v;
}

/* Two's complement, little-endian; what does not fit in 64 bits is opaque. */
static value *take_long(tsr_pickle *p, uint64_t bytes)
{
    const uint8_t *at = take(p, bytes);
    if (at == NULL) return NULL;
    if (bytes > 8) return p->opaque;
    uint64_t x = bytes > 0 && (at[bytes - 1] & 0x80) != 0 ? UINT64_MAX : 0;
    for (uint64_t k = bytes; k-- > 0;) x = x << 8 | at[k];
    return make_int(p, (int64_t)x);
}

static value *take_text(tsr_pickle *p, unsigned length_bytes)
{
    uint64_t bytes = take_unsigned(p, length_bytes);
    const uint8_t *at = p->failed ? NULL : take(p, bytes);
    value *v = at != NULL ? make(p, TSR_PICKLE_KIND_STR) : NULL;
    if (v == NULL) return NULL;
    v->u.text.at = (const char *)at;
    v->u.text.bytes = (size_t)bytes;
    return v;
}

/* ---- globals ---- */

static bool is_python_name(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        bool fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '_' || c == '.';
        if (!fits) return false;
    }
    return bytes > 0 && bytes <= 100;
}

static value *make_global(tsr_pickle *p, const char *module, size_t module_bytes, const char *name,
                          size_t name_bytes)
{
    if (!is_python_name(module, module_bytes) || !is_python_name(name, name_bytes)) {
        fail_format(p, "a class has no proper name");
        return NULL;
    }
    for (size_t k = 0; k < sizeof globals / sizeof *globals; k++) {
        const global *g = &globals[k];
        if (strlen(g->module) != module_bytes || memcmp(g->module, module, module_bytes) != 0 ||
            strlen(g->name) != name_bytes || memcmp(g->name, name, name_bytes) != 0) {
            continue;
        }
        value *v = make(p, TSR_PICKLE_KIND_GLOBAL);
        if (v != NULL) v->u.global = g;
        return v;
    }
    p->failed = true;
    tsr_fail(TSR_STATUS_FORMAT,
             "pth: '%s' asks for %.*s.%.*s, which is neither a tensor nor a plain container; in "
             "Python, save the model's state_dict() alone",
             p->name, (int)module_bytes, module, (int)name_bytes, name);
    return NULL;
}

static value *take_global(tsr_pickle *p)
{
    const char *part[2];
    size_t bytes[2];
    for (int k = 0; k < 2; k++) {
        const uint8_t *begin = p->data + p->at, *end = memchr(begin, '\n', p->bytes - p->at);
        if (end == NULL) {
            fail_format(p, "it is cut off");
            return NULL;
        }
        part[k] = (const char *)begin;
        bytes[k] = (size_t)(end - begin);
        p->at += bytes[k] + 1;
    }
    return make_global(p, part[0], bytes[0], part[1], bytes[1]);
}

static value *pop_global(tsr_pickle *p)
{
    value *name = pop(p), *module = p->failed ? NULL : pop(p);
    if (module == NULL) return NULL;
    if (name->kind != TSR_PICKLE_KIND_STR || module->kind != TSR_PICKLE_KIND_STR) {
        fail_format(p, "a class has no proper name");
        return NULL;
    }
    return make_global(p, module->u.text.at, module->u.text.bytes, name->u.text.at,
                       name->u.text.bytes);
}

/* ---- tensors ---- */

static value *item(const value *list, size_t i, tsr_pickle_kind kind)
{
    if (i >= list->u.items.n || list->u.items.at[i]->kind != kind) return NULL;
    return list->u.items.at[i];
}

/* The persistent id ("storage", class, key, device, number of elements[, None]). */
static value *make_storage(tsr_pickle *p, const value *id)
{
    if (id->kind != TSR_PICKLE_KIND_LIST || id->u.items.n < 5 || id->u.items.n > 6 ||
        !tsr_pickle__is_text(id->u.items.at[0], "storage")) {
        fail_format(p, "a persistent id is not that of a storage");
        return NULL;
    }
    const value *class = item(id, 1, TSR_PICKLE_KIND_GLOBAL);
    const value *key = item(id, 2, TSR_PICKLE_KIND_STR), *numel = item(id, 4, TSR_PICKLE_KIND_INT);
    if (class == NULL || class->u.global->action != STORAGE || key == NULL || numel == NULL ||
        numel->u.integer < 0 ||
        (id->u.items.n == 6 && id->u.items.at[5]->kind != TSR_PICKLE_KIND_OPAQUE)) {
        fail_format(p, "a storage has no class, key or size, or is a view of another");
        return NULL;
    }
    value *v = make(p, TSR_PICKLE_KIND_STORAGE);
    if (v == NULL) return NULL;
    v->u.storage.type = &class->u.global->type;
    v->u.storage.key = key;
    v->u.storage.numel = numel->u.integer;
    return v;
}

/* Do two indices share an element? By strides in order, each must step over all that the smaller ones reach: this refuses
 * a few layouts that would do, which no tensor has that PyTorch made by transposing and slicing. */
static bool overlaps_itself(const tsr_pickle_tensor *t)
{
    int order[TSR_MAX_DIMS], n = 0;
    for (int d = 0; d < t->shape.ndim; d++) {
        if (t->shape.size[d] < 2) continue;
        int k = n++;
        for (; k > 0 && t->strides[order[k - 1]] > t->strides[d]; k--) order[k] = order[k - 1];
        order[k] = d;
    }
    int64_t reach = 0; /* does not overflow: all of it lies inside the storage */
    for (int k = 0; k < n; k++) {
        if (t->strides[order[k]] <= reach) return true;
        reach += (t->shape.size[order[k]] - 1) * t->strides[order[k]];
    }
    return false;
}

/* Does all that it reaches lie inside the storage? */
static bool is_inside(const tsr_pickle_tensor *t)
{
    int64_t numel = tsr_shape_numel(t->shape), last = t->offset;
    if (numel < 0) return false;
    if (numel == 0) return t->offset <= t->storage->u.storage.numel;
    for (int d = 0; d < t->shape.ndim; d++) {
        int64_t reach;
        if (__builtin_mul_overflow(t->shape.size[d] - 1, t->strides[d], &reach) ||
            __builtin_add_overflow(last, reach, &last)) {
            return false;
        }
    }
    return last < t->storage->u.storage.numel;
}

/* _rebuild_tensor(storage, offset, size, strides), and _v2 with arguments that do not matter here. */
static value *rebuild_tensor(tsr_pickle *p, const value *arguments)
{
    const value *storage = item(arguments, 0, TSR_PICKLE_KIND_STORAGE);
    const value *offset = item(arguments, 1, TSR_PICKLE_KIND_INT);
    const value *size = item(arguments, 2, TSR_PICKLE_KIND_LIST);
    const value *strides = item(arguments, 3, TSR_PICKLE_KIND_LIST);
    if (storage == NULL || offset == NULL || size == NULL || strides == NULL ||
        size->u.items.n != strides->u.items.n) {
        fail_format(p, "a tensor wants a storage, an offset, a size and strides");
        return NULL;
    }
    if (size->u.items.n > TSR_MAX_DIMS) {
        fail_format(p, "a tensor has more than 8 dimensions");
        return NULL;
    }
    tsr_pickle_tensor t = {
        .storage = storage, .offset = offset->u.integer, .shape = {.ndim = (int)size->u.items.n}};
    bool counts = t.offset >= 0;
    for (int d = 0; d < t.shape.ndim && counts; d++) {
        const value *s = item(size, (size_t)d, TSR_PICKLE_KIND_INT);
        const value *step = item(strides, (size_t)d, TSR_PICKLE_KIND_INT);
        counts = s != NULL && step != NULL && s->u.integer >= 0 && step->u.integer >= 0;
        if (!counts) break;
        t.shape.size[d] = s->u.integer;
        t.strides[d] = step->u.integer;
    }
    if (!counts || !is_inside(&t)) {
        fail_format(p, "a tensor reaches beyond its storage");
        return NULL;
    }
    if (tsr_shape_numel(t.shape) > 0 && overlaps_itself(&t)) {
        fail_format(p, "a tensor overlaps itself (expanded? save a contiguous copy)");
        return NULL;
    }
    value *v = make(p, TSR_PICKLE_KIND_TENSOR);
    if (v == NULL || (v->u.tensor = allocate(p, sizeof t)) == NULL) return NULL;
    *v->u.tensor = t;
    return v;
}

/* ---- calls ---- */

/* OrderedDict([[key, value], ...]), as Python 2 wrote it. */
static value *dict_of_pairs(tsr_pickle *p, const value *arguments)
{
    value *dict = make(p, TSR_PICKLE_KIND_DICT);
    const value *pairs = item(arguments, 0, TSR_PICKLE_KIND_LIST);
    for (size_t i = 0; dict != NULL && pairs != NULL && i < pairs->u.items.n; i++) {
        const value *pair = item(pairs, i, TSR_PICKLE_KIND_LIST);
        if (pair == NULL || pair->u.items.n != 2) {
            fail_format(p, "a dict is not made of pairs");
            return NULL;
        }
        add_item(p, dict, pair->u.items.at[0]);
        add_item(p, dict, pair->u.items.at[1]);
    }
    return dict;
}

static value *call(tsr_pickle *p, const value *function, value *arguments)
{
    if (function->kind != TSR_PICKLE_KIND_GLOBAL || arguments->kind != TSR_PICKLE_KIND_LIST) {
        fail_format(p, "a call of what is no function, or without arguments");
        return NULL;
    }
    value *first;
    switch (function->u.global->action) {
    case OPAQUE:
        return p->opaque;
    case MAKE_DICT:
        return dict_of_pairs(p, arguments);
    case MAKE_LIST:
        first = item(arguments, 0, TSR_PICKLE_KIND_LIST);
        return first != NULL ? first : arguments;
    case REBUILD_TENSOR:
        return rebuild_tensor(p, arguments);
    case REBUILD_PARAMETER:
        first = item(arguments, 0, TSR_PICKLE_KIND_TENSOR);
        if (first == NULL) fail_format(p, "a parameter has no tensor");
        return first;
    case STORAGE:
        break;
    }
    fail_format(p, "a storage class is called");
    return NULL;
}

/* Items for a list, a dict, or (they are dropped) an opaque value. */
static void add_items(tsr_pickle *p, value *to, tsr_pickle_kind kind, value *const *items, size_t n)
{
    if (to == NULL || to->kind == TSR_PICKLE_KIND_OPAQUE) return;
    if (to->kind != kind || (kind == TSR_PICKLE_KIND_DICT && n % 2 != 0)) {
        fail_format(p, "items are put into what is not their container");
        return;
    }
    for (size_t i = 0; i < n && !p->failed; i++) add_item(p, to, items[i]);
}

static value *make_list(tsr_pickle *p, value *const *items, size_t n)
{
    value *list = make(p, TSR_PICKLE_KIND_LIST);
    if (list != NULL) add_items(p, list, TSR_PICKLE_KIND_LIST, items, n);
    return list;
}

/* ---- the memo ---- */

static void memorize(tsr_pickle *p, uint64_t index)
{
    value *v = p->failed ? NULL : top(p);
    if (v == NULL) return;
    if (index > p->at) { /* a pickler counts from 0 or 1 */
        fail_format(p, "a memo's index is out of range");
        return;
    }
    if (index >= p->n_memo) {
        size_t wanted = index < 32 ? 64 : 2 * (size_t)index;
        value **grown = realloc(p->memo, wanted * sizeof *grown);
        if (grown == NULL) {
            fail_memory(p);
            return;
        }
        memset(grown + p->n_memo, 0, (wanted - p->n_memo) * sizeof *grown);
        p->memo = grown;
        p->n_memo = wanted;
    }
    p->memo[index] = v;
}

static void recall(tsr_pickle *p, uint64_t index)
{
    if (p->failed) return;
    if (index < p->n_memo && p->memo[index] != NULL) {
        push(p, p->memo[index]);
    } else {
        fail_format(p, "a memo's index is out of range");
    }
}

/* ---- the machine ---- */

static void make_tuple(tsr_pickle *p, size_t n)
{
    if (p->n_stack < floor_of(p) + n) {
        fail_format(p, "the stack is empty");
        return;
    }
    p->n_stack -= n;
    push(p, make_list(p, p->stack + p->n_stack, n));
}

/* One opcode; true after STOP. */
static bool step(tsr_pickle *p, uint64_t *memorized)
{
    const uint8_t *code = take(p, 1);
    if (code == NULL) return false;
    value *a, *b, **items, *pair[2];
    size_t n;
    switch (*code) {
    case 0x80: /* PROTO */
        if (take_unsigned(p, 1) > 5) fail_format(p, "its protocol is newer than 5");
        break;
    case 0x95: /* FRAME */
        take(p, 8);
        break;
    case '.': /* STOP */
        p->root = pop(p);
        return true;
    case '(': /* MARK */
        push_mark(p);
        break;
    case '0': /* POP: a mark too */
        if (p->n_marks > 0 && p->n_stack == floor_of(p)) {
            p->n_marks--;
        } else {
            pop(p);
        }
        break;
    case '1': /* POP_MARK */
        pop_mark(p, &n);
        break;
    case '2': /* DUP */
        push(p, top(p));
        break;
    case 'N': /* NONE */
        push(p, p->opaque);
        break;
    case 0x88: /* NEWTRUE */
    case 0x89: /* NEWFALSE */
        push(p, make_int(p, *code == 0x88));
        break;
    case 'K': /* BININT1 */
        push(p, make_int(p, (int64_t)take_unsigned(p, 1)));
        break;
    case 'M': /* BININT2 */
        push(p, make_int(p, (int64_t)take_unsigned(p, 2)));
        break;
    case 'J': /* BININT */
        push(p, make_int(p, (int32_t)(uint32_t)take_unsigned(p, 4)));
        break;
    case 0x8a: /* LONG1 */
        push(p, take_long(p, take_unsigned(p, 1)));
        break;
    case 0x8b: /* LONG4 */
        push(p, take_long(p, take_unsigned(p, 4)));
        break;
    case 'G': /* BINFLOAT */
        take(p, 8);
        push(p, p->opaque);
        break;
    case 0x8c: /* SHORT_BINUNICODE */
    case 'U':  /* SHORT_BINSTRING */
    case 'C':  /* SHORT_BINBYTES */
        push(p, take_text(p, 1));
        break;
    case 'X': /* BINUNICODE */
    case 'T': /* BINSTRING */
    case 'B': /* BINBYTES */
        push(p, take_text(p, 4));
        break;
    case 0x8d: /* BINUNICODE8 */
    case 0x8e: /* BINBYTES8 */
        push(p, take_text(p, 8));
        break;
    case ']': /* EMPTY_LIST */
    case ')': /* EMPTY_TUPLE */
        push(p, make(p, TSR_PICKLE_KIND_LIST));
        break;
    case '}': /* EMPTY_DICT */
        push(p, make(p, TSR_PICKLE_KIND_DICT));
        break;
    case 0x8f: /* EMPTY_SET */
        push(p, p->opaque);
        break;
    case 'l': /* LIST */
    case 't': /* TUPLE */
        items = pop_mark(p, &n);
        if (!p->failed) push(p, make_list(p, items, n));
        break;
    case 0x91: /* FROZENSET */
        pop_mark(p, &n);
        if (!p->failed) push(p, p->opaque);
        break;
    case 0x85: /* TUPLE1 */
    case 0x86: /* TUPLE2 */
    case 0x87: /* TUPLE3 */
        make_tuple(p, (size_t)*code - 0x84);
        break;
    case 'd': /* DICT */
        items = pop_mark(p, &n);
        a = p->failed ? NULL : make(p, TSR_PICKLE_KIND_DICT);
        add_items(p, a, TSR_PICKLE_KIND_DICT, items, n);
        push(p, a);
        break;
    case 'a': /* APPEND */
        a = pop(p);
        if (a != NULL) add_items(p, top(p), TSR_PICKLE_KIND_LIST, &a, 1);
        break;
    case 'e':  /* APPENDS */
    case 0x90: /* ADDITEMS */
        items = pop_mark(p, &n);
        if (!p->failed) add_items(p, top(p), TSR_PICKLE_KIND_LIST, items, n);
        break;
    case 's': /* SETITEM */
        pair[1] = pop(p);
        pair[0] = p->failed ? NULL : pop(p);
        if (pair[0] != NULL) add_items(p, top(p), TSR_PICKLE_KIND_DICT, pair, 2);
        break;
    case 'u': /* SETITEMS */
        items = pop_mark(p, &n);
        if (!p->failed) add_items(p, top(p), TSR_PICKLE_KIND_DICT, items, n);
        break;
    case 'c': /* GLOBAL */
        push(p, take_global(p));
        break;
    case 0x93: /* STACK_GLOBAL */
        push(p, pop_global(p));
        break;
    case 0x92:  /* NEWOBJ_EX */
        pop(p); /* keyword arguments */
        if (p->failed) break;
        /* fall through */
    case 'R':  /* REDUCE */
    case 0x81: /* NEWOBJ */
        b = pop(p);
        a = p->failed ? NULL : pop(p);
        if (a != NULL) push(p, call(p, a, b));
        break;
    case 'b': /* BUILD: the state of an object, here dropped */
        pop(p);
        if (!p->failed) top(p);
        break;
    case 'Q': /* BINPERSID */
        a = pop(p);
        if (a != NULL) push(p, make_storage(p, a));
        break;
    case 'q': /* BINPUT */
        memorize(p, take_unsigned(p, 1));
        break;
    case 'r': /* LONG_BINPUT */
        memorize(p, take_unsigned(p, 4));
        break;
    case 0x94: /* MEMOIZE */
        memorize(p, (*memorized)++);
        break;
    case 'h': /* BINGET */
        recall(p, take_unsigned(p, 1));
        break;
    case 'j': /* LONG_BINGET */
        recall(p, take_unsigned(p, 4));
        break;
    default:
        p->failed = true;
        tsr_fail(TSR_STATUS_FORMAT,
                 "pth: '%s': at byte %zu of its pickle: opcode 0x%02x is not one that torch.save() "
                 "writes",
                 p->name, p->at - 1, *code);
    }
    return false;
}

tsr_pickle *tsr_pickle__read(const char *name, const void *data, size_t bytes, size_t *used)
{
    tsr_pickle *p = calloc(1, sizeof *p);
    if (p == NULL) {
        tsr_fail(TSR_STATUS_MEMORY, "pth: out of memory");
        return NULL;
    }
    p->name = name;
    p->data = data;
    p->bytes = bytes;
    p->budget = 64 * bytes + (64 << 10);
    p->opaque = make(p, TSR_PICKLE_KIND_OPAQUE);
    uint64_t memorized = 0;
    while (!p->failed && !step(p, &memorized)) continue;
    *used = p->at;
    free(p->stack);
    free(p->marks);
    free(p->memo);
    p->stack = p->memo = NULL;
    p->marks = NULL;
    if (p->failed) tsr_pickle__free(&p);
    return p;
}

void tsr_pickle__free(tsr_pickle **pickle)
{
    tsr_pickle *p = *pickle;
    if (p == NULL) return;
    while (p->blocks != NULL) {
        struct block *b = p->blocks;
        p->blocks = b->next;
        free(b);
    }
    free(p);
    *pickle = NULL;
}

tsr_pickle_value *tsr_pickle__root(const tsr_pickle *p)
{
    return p->root;
}

const tsr_pickle_value *tsr_pickle__get(const tsr_pickle_value *dict, const char *key)
{
    if (dict->kind != TSR_PICKLE_KIND_DICT) return NULL;
    for (size_t i = 0; i + 1 < dict->u.items.n; i += 2) {
        if (tsr_pickle__is_text(dict->u.items.at[i], key)) return dict->u.items.at[i + 1];
    }
    return NULL;
}

bool tsr_pickle__is_text(const tsr_pickle_value *v, const char *text)
{
    return v->kind == TSR_PICKLE_KIND_STR && v->u.text.bytes == strlen(text) &&
           memcmp(v->u.text.at, text, v->u.text.bytes) == 0;
}
