/*
 * loss[s, r] = sum over v with pairs[s, v] of -sum_k q_k log softmax(x)_k, x = student[s, r] / T_s, q = softmax(z) with
 * z = (teacher[v, r] - center) / T_t. Student [S, R, K], teacher [V, R, K], center [K], pairs [S, V].
 *
 * The cross entropy is linear in its target: with t the sum of the q that s answers it is that of cross_entropy_soft, and
 * d student = g (T p - t) / T_s, p = softmax(x), T = sum_k t_k. No target is stored: forward and backward walk over the
 * rows of one r after the other and make t in a scratch row that stays in the cache, anew where r or the row of pairs
 * changes; what forward leaves is the maximum and the sum of each row of x and z.
 *
 * A teacher is rarely trained, so its gradient is left to operators. u = -sum over s of pairs[s, v] g log p is d q, hence
 * d teacher = q (u - sum_k q_k u_k) / T_t, and d center is the negative sum of d teacher over v and r.
 */
#include "ops/elementwise.h"
#include "ops/half.h"
#include "ops/kernels/kernels.h"
#include "ops/ops.h"
#include "ops/rows.h"
#include "ops/samples.h"

#include <omp.h>
#include <string.h>

static const char name[] = "distillation_loss";

struct distillation_loss {
    double student_temp, teacher_temp;
};

static bool is_temperature(const char *argument, double temp)
{
    if (temp > 0.0 && temp <= 1e6) return true;
    tsr_fail(TSR_STATUS_ARGUMENT, "%s: %s is %g, expected above 0, to 1e6", name, argument, temp);
    return false;
}

static bool has_shape(const char *argument, tsr_tensor *t, tsr_shape wanted)
{
    if (tsr_shape_equal(tsr_tensor_shape(t), wanted)) return true;
    char a[TSR_SHAPE_TEXT], b[TSR_SHAPE_TEXT];
    tsr_fail(TSR_STATUS_SHAPE, "%s: %s has shape %s, expected %s", name, argument,
             tsr_shape_text(tsr_tensor_shape(t), a), tsr_shape_text(wanted, b));
    return false;
}

static bool shape_rule(tsr_tensor *student, tsr_tensor *teacher, tsr_tensor *center,
                       tsr_tensor *pairs, const struct distillation_loss *b)
{
    tsr_dtype dtype = tsr_tensor_dtype(student);
    if (!tsr_elementwise__takes(name, "student", student) ||
        !tsr_rows__dtype_fits(name, "teacher", teacher, "student", dtype)) {
        return false;
    }
    if (tsr_tensor_ndim(student) != 3 || tsr_tensor_ndim(teacher) != 3) {
        bool is_student = tsr_tensor_ndim(student) != 3;
        char text[TSR_SHAPE_TEXT];
        tsr_fail(TSR_STATUS_SHAPE, "%s: %s has shape %s, expected [%c, R, K]", name,
                 is_student ? "student" : "teacher",
                 tsr_shape_text(tsr_tensor_shape(is_student ? student : teacher), text),
                 is_student ? 'S' : 'V');
        return false;
    }
    tsr_shape wanted = tsr_tensor_shape(student);
    int64_t students = wanted.size[0], teachers = wanted.size[0] = tsr_tensor_size(teacher, 0);
    if (!has_shape("teacher", teacher, wanted) ||
        !has_shape("center", center, TSR_SHAPE(wanted.size[2])) ||
        !tsr_rows__parameter_fits(name, "center", center, "student", dtype)) {
        return false;
    }
    if (pairs != NULL && tsr_tensor_dtype(pairs) != TSR_DTYPE_BOOL) {
        tsr_fail(TSR_STATUS_DTYPE, "%s: pairs is %s, expected bool", name,
                 tsr_dtype_name(tsr_tensor_dtype(pairs)));
        return false;
    }
    return (pairs == NULL || has_shape("pairs", pairs, TSR_SHAPE(students, teachers))) &&
           is_temperature("student_temp", b->student_temp) &&
           is_temperature("teacher_temp", b->teacher_temp);
}

/* ---- rows ---- */

/* What a thread has at hand: the target of row `held` of the student follows, HEADER bytes on. */
struct scratch {
    int64_t held; /* -1: none yet */
};

enum { HEADER = 64 };

struct run {
    const tsr_kernels *k;
    int64_t students, teachers, rows, d;
    double student_scale, teacher_scale;
    size_t size, line; /* bytes of an element, of a row */
    const char *student, *teacher, *center;
    char *teacher_stats;
    bool again; /* these are there */
    const uint8_t *pairs;
    int64_t work;
    int threads;
    char *scratch; /* each thread's */
    size_t scratch_bytes;
};

/* False on failure. */
static bool run_open(struct run *t, tsr_tensor *student, tsr_tensor *teacher, tsr_tensor *center,
                     tsr_tensor *pairs, const struct distillation_loss *b)
{
    bool ok = true;
    student = tsr_rows__packed(student, &ok);
    teacher = tsr_rows__packed(teacher, &ok);
    center = tsr_rows__packed(center, &ok);
    pairs = tsr_rows__packed(pairs, &ok);
    if (!ok || student == NULL || teacher == NULL || center == NULL) return false;
    tsr_dtype dtype = tsr_tensor_dtype(student);
    *t = (struct run){
        .k = tsr_kernels__get(dtype),
        .students = tsr_tensor_size(student, 0),
        .teachers = tsr_tensor_size(teacher, 0),
        .rows = tsr_tensor_size(student, 1),
        .d = tsr_tensor_size(student, 2),
        .student_scale = 1.0 / b->student_temp,
        .teacher_scale = 1.0 / b->teacher_temp,
        .size = tsr_dtype_size(dtype),
        .student = tsr_tensor_data(student),
        .teacher = tsr_tensor_data(teacher),
        .center = tsr_tensor_data(center),
        .pairs = tsr_tensor_data(pairs),
        .work = tsr_tensor_numel(student),
    };
    t->line = (size_t)t->d * t->size;
    t->scratch_bytes = HEADER + (t->line + HEADER - 1) / HEADER * HEADER;
    t->threads = tsr_loop__threads(t->work);
    t->scratch = tsr_alloc((size_t)t->threads * t->scratch_bytes);
    if (t->scratch == NULL) return false;
    for (int i = 0; i < t->threads; i++) {
        ((struct scratch *)(void *)(t->scratch + (size_t)i * t->scratch_bytes))->held = -1;
    }
    return true;
}

/* Rows are walked r by r, so that those that answer the same rows of the teacher follow on each other: the i-th is that of
 * student i % students. Where it lies in memory: */
static size_t row_of(const struct run *t, int64_t i)
{
    return (size_t)(i % t->students * t->rows + i / t->students);
}

static const uint8_t *pairs_of(const struct run *t, int64_t i)
{
    return t->pairs != NULL ? t->pairs + i % t->students * t->teachers : NULL;
}

static bool is_same_target(const struct run *t, int64_t i, int64_t other)
{
    if (other < 0 || i / t->students != other / t->students) return false;
    return t->pairs == NULL || memcmp(pairs_of(t, i), pairs_of(t, other), (size_t)t->teachers) == 0;
}

/* This thread's. */
static struct scratch *scratch_of(const struct run *t)
{
    size_t thread = t->threads > 1 ? (size_t)omp_get_thread_num() : 0;
    return (void *)(t->scratch + thread * t->scratch_bytes);
}

/* Row `row` of the teacher's softmax, to y; its statistics, where they are not there. */
static void target_row(const struct run *t, char *y, size_t row, bool add)
{
    const char *x = t->teacher + row * t->line;
    char *stats = t->teacher_stats + 2 * row * t->size;
    if (t->again) {
        t->k->centered_softmax_again(y, x, t->center, stats, 1, t->d, t->teacher_scale, add);
    } else {
        t->k->centered_softmax(y, stats, x, t->center, 1, t->d, t->teacher_scale);
    }
}

/* The i-th row's target. */
static const char *target_of(const struct run *t, int64_t i)
{
    struct scratch *scratch = scratch_of(t);
    char *target = (char *)scratch + HEADER;
    if (is_same_target(t, i, scratch->held)) return target;
    const uint8_t *pairs = pairs_of(t, i);
    bool add = false;
    for (int64_t v = 0; v < t->teachers; v++) {
        if (pairs != NULL && pairs[v] == 0) continue;
        target_row(t, target, (size_t)(v * t->rows + i / t->students), add);
        add = true;
    }
    if (!add) memset(target, 0, t->line);
    scratch->held = i;
    return target;
}

/* ---- forward and backward ---- */

/* stats: of the student's rows [S, R, 3] and the teacher's [V, R, 2]. */
static tsr_tensor *forward(tsr_tensor *student, tsr_tensor *teacher, tsr_tensor *center,
                           tsr_tensor *pairs, const struct distillation_loss *b,
                           tsr_tensor *stats[2])
{
    struct run t;
    if (!run_open(&t, student, teacher, center, pairs, b)) return NULL;
    tsr_dtype dtype = tsr_tensor_dtype(student);
    tsr_tensor *loss = tsr_empty(dtype, TSR_SHAPE(t.students, t.rows));
    stats[0] = tsr_empty(dtype, TSR_SHAPE(t.students, t.rows, 3));
    stats[1] = tsr_empty(dtype, TSR_SHAPE(t.teachers, t.rows, 2));
    if (loss != NULL && stats[0] != NULL && stats[1] != NULL) {
        char *ld = tsr_tensor_data_mut(loss), *sd = tsr_tensor_data_mut(stats[0]);
        t.teacher_stats = tsr_tensor_data_mut(stats[1]);
        /* Where a row of the teacher has one answer, its statistics come with its softmax. */
        if (t.students > 1 || t.teachers > 1) {
            TSR_PARALLEL_FOR(i, t.teachers * t.rows, t.work, {
                target_row(&t, (char *)scratch_of(&t) + HEADER, (size_t)i, false);
            });
            t.again = true;
        }
        TSR_PARALLEL_FOR(i, t.students * t.rows, t.work, {
            size_t row = row_of(&t, i);
            t.k->cross_entropy_soft(ld + row * t.size, sd + 3 * row * t.size,
                                    t.student + row * t.line, target_of(&t, i), 1, t.d,
                                    t.student_scale);
        });
    }
    tsr_free(t.scratch);
    return loss;
}

static tsr_tensor *student_gradient(tsr_tensor *const in[4], const tsr_node *node, tsr_tensor *g)
{
    struct run t;
    if (!run_open(&t, in[0], in[1], in[2], in[3], tsr_node_block(node))) return NULL;
    tsr_tensor *d = tsr_empty(tsr_tensor_dtype(in[0]), tsr_tensor_shape(in[0])),
               *stats = tsr_node_saved(node, 0);
    g = tsr_tensor_packed(g);
    if (d != NULL && g != NULL) {
        char *dd = tsr_tensor_data_mut(d);
        const char *gd = tsr_tensor_data(g), *sd = tsr_tensor_data(stats);
        t.teacher_stats = (char *)tsr_tensor_data(tsr_node_saved(node, 1));
        t.again = true;
        TSR_PARALLEL_FOR(i, t.students * t.rows, t.work, {
            size_t row = row_of(&t, i);
            t.k->cross_entropy_soft_backward(dd + row * t.line, NULL, gd + row * t.size,
                                             t.student + row * t.line, target_of(&t, i),
                                             sd + 3 * row * t.size, 1, t.d, t.student_scale);
        });
    }
    tsr_free(t.scratch);
    return d;
}

/* sum over n of pairs[m, n] x[n, R, K]: [m, R, K], or where pairs is NULL, the same for each m, [1, R, K]. */
static tsr_tensor *paired(tsr_tensor *x, tsr_tensor *pairs)
{
    if (x == NULL) return NULL;
    if (pairs == NULL) return tsr_sum(x, (const int[]){0}, 1, true);
    tsr_shape shape = tsr_tensor_shape(x);
    tsr_tensor *flat = tsr_reshape(x, TSR_SHAPE(shape.size[0], shape.size[1] * shape.size[2]));
    tsr_dtype dtype = tsr_tensor_dtype(x);
    tsr_tensor *counts = tsr_where(pairs, tsr_scalar(dtype, 1.0), tsr_scalar(dtype, 0.0));
    shape.size[0] = tsr_tensor_size(pairs, 0);
    return tsr_reshape(tsr_matmul(counts, flat), shape);
}

/* q and log p */
static tsr_tensor *teacher_softmax(tsr_tensor *teacher, tsr_tensor *center,
                                   const struct distillation_loss *b)
{
    return tsr_softmax(tsr_affine(tsr_sub(teacher, center), 1.0 / b->teacher_temp, 0.0), -1);
}

static tsr_tensor *student_log_softmax(tsr_tensor *student, const struct distillation_loss *b)
{
    return tsr_log_softmax(tsr_affine(student, 1.0 / b->student_temp, 0.0), -1);
}

static tsr_tensor *teacher_gradient(tsr_tensor *const in[4], const struct distillation_loss *b,
                                    tsr_tensor *g)
{
    const int last[] = {-1};
    tsr_tensor *q = teacher_softmax(in[1], in[2], b), *log_p = student_log_softmax(in[0], b);
    tsr_tensor *u = paired(tsr_neg(tsr_mul(tsr_unsqueeze(g, -1), log_p)),
                           in[3] != NULL ? tsr_transpose(in[3], 0, 1) : NULL);
    tsr_tensor *d = tsr_mul(q, tsr_sub(u, tsr_sum(tsr_mul(q, u), last, 1, true)));
    return tsr_affine(d, 1.0 / b->teacher_temp, 0.0);
}

static void backward(const tsr_node *node, tsr_tensor *const *grad_outputs,
                     tsr_tensor **grad_inputs)
{
    tsr_tensor *in[4];
    for (int i = 0; i < 4; i++) in[i] = tsr_node_input(node, i);
    if (in[0] == NULL || in[1] == NULL || in[2] == NULL) return;
    if (tsr_node_wants(node, 0)) grad_inputs[0] = student_gradient(in, node, grad_outputs[0]);
    if (!tsr_node_wants(node, 1) && !tsr_node_wants(node, 2)) return;
    grad_inputs[1] = teacher_gradient(in, tsr_node_block(node), grad_outputs[0]);
    grad_inputs[2] = tsr_neg(tsr_sum(grad_inputs[1], (const int[]){0, 1}, 2, false));
}

static void definition(const void *block, tsr_tensors in, tsr_tensor **outputs)
{
    tsr_tensor *q = teacher_softmax(tsr_half__cast(in.at[1]), tsr_half__cast(in.at[2]), block);
    tsr_tensor *log_p = student_log_softmax(tsr_half__cast(in.at[0]), block);
    tsr_tensor *product = tsr_mul(paired(q, in.at[3]), log_p);
    outputs[0] = tsr_neg(tsr_sum(product, (const int[]){-1}, 1, false));
}

static const tsr_op op = {.name = name,
                          .block_size = sizeof(struct distillation_loss),
                          .backward = backward,
                          .definition = definition,
                          .widens = true};

tsr_tensor *tsr_distillation_loss(tsr_tensor *student, tsr_tensor *teacher, tsr_tensor *center,
                                  tsr_tensor *pairs, double student_temp, double teacher_temp)
{
    struct distillation_loss b = {student_temp, teacher_temp};
    if (student == NULL || teacher == NULL || center == NULL ||
        !shape_rule(student, teacher, center, pairs, &b)) {
        return NULL;
    }
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *stats[2] = {0}, *loss = NULL;
    loss = forward(tsr_half__widened(student), tsr_half__widened(teacher),
                   tsr_half__widened(center), pairs, &b, stats);
    loss = tsr_record(&op, &b, TSR_TENSORS(student, teacher, center, pairs),
                      TSR_TENSORS(stats[0], stats[1]), TSR_TENSORS(loss));
    return tsr_scope_return(&scope, loss);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out, (void)user;
    out[0] = tsr_distillation_loss(in.at[0], in.at[1], in.at[2], in.at[3], 0.7, 0.4);
}

static const tsr_sample samples[] = {
    {"views",
     4,
     1,
     {{{3, {5, 3, 7}}}, {{3, {2, 3, 7}}}, {{1, {7}}}, {.shape = {2, {5, 2}}, .mask = true}},
     call},
    {"all pairs", 4, 1, {{{3, {3, 2, 5}}}, {{3, {2, 2, 5}}}, {{1, {5}}}, {.absent = true}}, call},
    {"row by row", 4, 1, {{{3, {1, 6, 8}}}, {{3, {1, 6, 8}}}, {{1, {8}}}, {.absent = true}}, call},
    {"constant teacher",
     4,
     1,
     {{{3, {4, 2, 5}}},
      {{3, {2, 2, 5}}, .constant = true},
      {{1, {5}}, .constant = true},
      {.shape = {2, {4, 2}}, .mask = true}},
     call},
    {"no rows", 4, 1, {{{3, {2, 0, 5}}}, {{3, {2, 0, 5}}}, {{1, {5}}}, {.absent = true}}, call},
    {"no teacher", 4, 1, {{{3, {2, 3, 5}}}, {{3, {0, 3, 5}}}, {{1, {5}}}, {.absent = true}}, call},
};
TSR_SAMPLES_BF16(distillation_loss, samples);
