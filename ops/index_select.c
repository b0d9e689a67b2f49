/*
 * y = x with the entries index [n] of one dimension, in that order. With that dimension brought to the front and back
 * (views) it is gather_rows.
 */
#include "ops/dims.h"
#include "ops/index.h"
#include "ops/ops.h"
#include "ops/samples.h"

tsr_tensor *tsr_index_select(tsr_tensor *x, int dim, tsr_tensor *index)
{
    if (x == NULL || index == NULL) return NULL;
    int d = tsr_dims__index("index_select", "dim", dim, tsr_tensor_ndim(x));
    if (d < 0) return NULL;
    tsr_tensor *rows = tsr_index__rows("index_select", index, -1, tsr_tensor_size(x, d));
    if (d == 0) return tsr_gather_rows(x, rows);
    return tsr_transpose(tsr_gather_rows(tsr_transpose(x, 0, d), rows), 0, d);
}

static void call(tsr_tensors in, tsr_tensor **out, int n_out, void *user)
{
    (void)n_out;
    out[0] = tsr_index_select(in.at[0], *(const int *)((const tsr_sample *)user)->args, in.at[1]);
}

static const tsr_sample samples[] = {
    {"rows", 2, 1, {{{2, {4, 3}}}, {.shape = {1, {5}}, .below = 4}}, call, &(const int){0}},
    {"tokens", 2, 1, {{{3, {2, 5, 3}}}, {.shape = {1, {7}}, .below = 5}}, call, &(const int){1}},
    {"channels", 2, 1, {{{3, {2, 3, 5}}}, {.shape = {1, {2}}, .below = 5}}, call, &(const int){-1}},
    {"none", 2, 1, {{{2, {2, 3}}}, {.shape = {1, {0}}, .below = 1}}, call, &(const int){1}},
};
TSR_SAMPLES(index_select, samples);
