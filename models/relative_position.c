/*
 * Relative position bias: Liu et al. 2021, "Swin Transformer", section 3.2; the class token's entries as in the BEiT
 * authors' modeling_finetune.py.
 */
#include "models/models.h"

#include <inttypes.h>

enum { MAX_SIDE = 64 };

/* Rows of the table that are of two tokens in the window. */
static int64_t distances(int64_t rows, int64_t columns)
{
    return (2 * rows - 1) * (2 * columns - 1);
}

/* Of tokens i and j the row (y_i - y_j + rows - 1) (2 columns - 1) + (x_i - x_j + columns - 1). */
static tsr_tensor *make_index(int64_t rows, int64_t columns, bool class_token)
{
    int64_t first = class_token ? 1 : 0, n = first + rows * columns, all = distances(rows, columns);
    tsr_tensor *index = tsr_empty(TSR_DTYPE_I64, TSR_SHAPE(n, n));
    int64_t *at = tsr_tensor_data_mut(index);
    if (at == NULL) return NULL;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j++, at++) {
            int64_t a = i - first, b = j - first;
            if (a < 0) {
                *at = b < 0 ? all + 2 : all;
            } else if (b < 0) {
                *at = all + 1;
            } else {
                int64_t y = a / columns - b / columns, x = a % columns - b % columns;
                *at = (y + rows - 1) * (2 * columns - 1) + x + columns - 1;
            }
        }
    }
    return index;
}

tsr_relative_position tsr_relative_position_new(tsr_module *owner, tsr_relative_grid grid,
                                                int64_t heads, tsr_init init)
{
    tsr_relative_position p = {.grid = grid};
    if (grid.rows < 1 || grid.rows > MAX_SIDE || grid.columns < 1 || grid.columns > MAX_SIDE) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "%s: relative positions in a window of %" PRId64 " x %" PRId64
                 " tokens, expected 1 to %d a side",
                 owner->name, grid.rows, grid.columns, MAX_SIDE);
        owner->failed = true;
        return p;
    }
    int64_t n = distances(grid.rows, grid.columns) + (grid.class_token ? 3 : 0);
    p.table =
        tsr_module_parameter(owner, "relative_position_bias_table", TSR_SHAPE(n, heads), init);
    tsr_scope scope = tsr_scope_open();
    p.index = tsr_module_constant(owner, "relative_position_index",
                                  make_index(grid.rows, grid.columns, grid.class_token));
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return p;
}

/* The first h w rows of a table become rows x columns, bilinearly; those after them stay. */
static tsr_tensor *resize(tsr_tensor *table, int64_t h, int64_t w, int64_t rows, int64_t columns)
{
    int64_t all = tsr_tensor_size(table, 0), heads = tsr_tensor_size(table, 1), n = h * w;
    tsr_interpolate_options options = {.mode = TSR_INTERPOLATION_BILINEAR};
    tsr_tensor *t = tsr_reshape(tsr_slice(table, 0, 0, n, 1), TSR_SHAPE(1, h, w, heads));
    t = tsr_permute(t, (const int[]){0, 3, 1, 2});
    t = tsr_interpolate(t, rows, columns, &options);
    t = tsr_permute(t, (const int[]){0, 2, 3, 1});
    t = tsr_reshape(t, TSR_SHAPE(rows * columns, heads));
    return all == n ? t : tsr_concat(TSR_TENSORS(t, tsr_slice(table, 0, n, all, 1)), 0);
}

/* 2 n - 1 of a table of (2 n - 1)^2 + extra rows; 0: it is none. */
static int64_t side_of(int64_t table_rows, int64_t extra)
{
    int64_t side = 1;
    while (side < 2 * MAX_SIDE - 1 && side * side + extra < table_rows) side += 2;
    return side * side + extra == table_rows ? side : 0;
}

tsr_tensor *tsr_relative_position_resize(tsr_tensor *table, tsr_shape wanted)
{
    tsr_shape shape = tsr_tensor_shape(table);
    if (shape.ndim != 2 || wanted.ndim != 2 || shape.size[1] != wanted.size[1]) return NULL;
    for (int64_t extra = 0; extra <= 3; extra += 3) {
        int64_t from = side_of(shape.size[0], extra), to = side_of(wanted.size[0], extra);
        if (from > 0 && to > 0) return resize(table, from, from, to, to);
    }
    return NULL;
}

tsr_tensor *tsr_relative_position_bias(const tsr_relative_position *p, int64_t rows,
                                       int64_t columns)
{
    if (p->table == NULL) return NULL;
    tsr_scope scope = tsr_scope_open();
    tsr_tensor *table = p->table, *index = p->index;
    if (rows != p->grid.rows || columns != p->grid.columns) {
        table = resize(table, 2 * p->grid.rows - 1, 2 * p->grid.columns - 1, 2 * rows - 1,
                       2 * columns - 1);
        index = make_index(rows, columns, p->grid.class_token);
    }
    tsr_tensor *bias = tsr_permute(tsr_embedding(table, index), (const int[]){2, 0, 1});
    return tsr_scope_return(&scope, tsr_contiguous(bias));
}
