/*
 * models: modules (named trees of parameters), the layers of vision transformers, backbones (ViT,
 * Swin), projection heads.
 *
 *   tsr_vit_config config;
 *   tsr_vit_config_find("vit_small", &config);
 *   config.masked = true;
 *   tsr_head_config head = {.dim = config.dim, .out_dim = 8192};
 *   tsr_multi_crop *student = tsr_multi_crop_new(tsr_vit_new(&config), tsr_head_new(&head));
 *   if (student == NULL) puts(tsr_message());
 *   tsr_module_initialize(&student->module, seed);
 *   ...
 *   tsr_module_free(&student);
 *
 * Shapes: B images, T = 1 + N tokens (the class token, then N = h w patches in rows), D their
 * size. Names of parameters are those of PyTorch's state_dict of the iBOT authors' code. A model
 * is f32 or f64.
 */
#ifndef TSR_MODELS_H
#define TSR_MODELS_H

#include "ops/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ modules ------------------- */

enum { TSR_MODULE_NAME = 64 };

/*
 * A node of the tree: parameters and buffers of its own, and children. Every layer is a struct
 * whose first member is its tsr_module; a parent owns its children, so that only the root is
 * freed. Read the fields, leave writing to the functions.
 */
typedef struct tsr_module {
    char
        name[TSR_MODULE_NAME]; /* the first in its parent, "blocks.3"; for a root its kind, "vit" */
    tsr_dtype dtype;           /* of its parameters */
    tsr_dtype compute;         /* of what it computes between them: dtype, or bf16 */
    bool training;             /* true at first */
    bool failed;               /* while it was built */
    int owners;                /* names under which it is registered */
    int n_items, capacity;
    struct tsr_module_item *items;
} tsr_module;

/* How a parameter starts. */
typedef struct tsr_init {
    enum { TSR_INIT_CONSTANT = 0, TSR_INIT_UNIFORM, TSR_INIT_TRUNC_NORMAL, TSR_INIT_NOT } kind;
    double value; /* the constant, b of U(-b, b), or the deviation s of N(0, s^2) cut at +-2. NOT: a
                     buffer that keeps the values that it was made with */
} tsr_init;

#define TSR_INIT_CONSTANT(v)     ((tsr_init){TSR_INIT_CONSTANT, v})
#define TSR_INIT_UNIFORM(bound)  ((tsr_init){TSR_INIT_UNIFORM, bound})
#define TSR_INIT_TRUNC_NORMAL(s) ((tsr_init){TSR_INIT_TRUNC_NORMAL, s})

/*
 * Writing a module: a constructor needs no checks but the first.
 *
 *   tsr_mlp *m = tsr_module_new(sizeof *m, "mlp", dtype);
 *   if (m == NULL) return NULL;
 *   m->fc1 = tsr_module_child(&m->module, "fc1", tsr_linear_new(dim, hidden, true, dtype));
 *   m->fc2 = tsr_module_child(&m->module, "fc2", tsr_linear_new(hidden, dim, true, dtype));
 *   return tsr_module_finish(&m->module);
 *
 * Order is PyTorch's: own parameters, own buffers, then children, each as they were registered.
 */

/* A zeroed struct of size bytes, whose first member is a tsr_module. dtype: f32 or f64. */
TSR_API void *tsr_module_new(size_t size, const char *kind, tsr_dtype dtype);
/* A leaf that requires a gradient, of the module's dtype, which the module holds. Its values are
 * not set until tsr_module_initialize(), tsr_module_copy() or a file sets them. NULL on failure,
 * which the module remembers (also below). Names have less than TSR_MODULE_NAME bytes. */
TSR_API tsr_tensor *tsr_module_parameter(tsr_module *m, const char *name, tsr_shape shape,
                                         tsr_init init);
/* State without gradient, filled with value now and by tsr_module_initialize(). */
TSR_API tsr_tensor *tsr_module_buffer(tsr_module *m, const char *name, tsr_dtype dtype,
                                      tsr_shape shape, double value);
/* State that follows from the module's shape, as an index into a table: tsr_module_initialize()
 * leaves it alone. The module holds value, which it returns. */
TSR_API tsr_tensor *tsr_module_constant(tsr_module *m, const char *name, tsr_tensor *value);
/* Holds t, which is no state (in no list, no file) and can be made again, for later calls. */
TSR_API void tsr_module_keep(tsr_module *m, const char *name, tsr_tensor *t);
TSR_API tsr_tensor *tsr_module_kept(const tsr_module *m, const char *name); /* NULL: is not */
/* Gives child (a struct that begins with a tsr_module) to m, and returns it. One child may have
 * several names: its parameters then count once, under the first. A name may have dots in it. On
 * failure child is freed unless it has another owner. */
TSR_API void *tsr_module_child(tsr_module *m, const char *name, void *child);
/* m, or NULL (and m is freed) if anything failed since tsr_module_new(). */
TSR_API void *tsr_module_finish(tsr_module *m);
/* tsr_module_free(&m): frees the tree under m, whatever its struct, and sets m to NULL. NULL is
 * fine. */
#define tsr_module_free(m) (tsr_module_destroy((void *)*(m)), (void)(*(m) = NULL))
TSR_API void tsr_module_destroy(void *m);

/*
 * Around a forward function: opens a scope and names the module in anomaly messages; leave closes
 * it and returns result.
 *
 *   tsr_scope scope = tsr_module_enter(&m->module);
 *   x = tsr_linear_gelu_forward(m->fc1, x);
 *   x = tsr_linear_forward(m->fc2, x);
 *   return tsr_module_leave(&scope, x);
 */
TSR_API tsr_scope tsr_module_enter(const tsr_module *m);
TSR_API tsr_tensor *tsr_module_leave(tsr_scope *scope, tsr_tensor *result);
TSR_API void tsr_module_leave_many(tsr_scope *scope, tsr_tensors results);

/* What a module holds, in order. */
typedef struct tsr_module_entry {
    const char *name;   /* "blocks.0.attn.qkv.weight"; the list owns it */
    tsr_tensor *tensor; /* the module owns it */
    bool is_buffer;
    tsr_init init;
} tsr_module_entry;

typedef struct tsr_module_list {
    int64_t n;
    tsr_module_entry *at;
} tsr_module_list;

/* All parameters and buffers under all their names, as state_dict(). NULL on failure (MEMORY) or
 * for NULL. */
TSR_API tsr_module_list *tsr_module_state(const tsr_module *m);
/* All parameters, frozen ones too, each once, as named_parameters(): for optimizers. */
TSR_API tsr_module_list *tsr_module_parameters(const tsr_module *m);
TSR_API void tsr_module_list_free(tsr_module_list **list);
/* The parameter or buffer of this name; NULL and ARGUMENT if there is none. */
TSR_API tsr_tensor *tsr_module_find(const tsr_module *m, const char *name);
/* Elements of all parameters, each counted once. */
TSR_API int64_t tsr_module_count(const tsr_module *m);

/* The authors' parameter groups (utils.get_params_groups): is weight decay applied to it? Not
 * where ndim is 1 or the name ends in ".bias". */
TSR_API bool tsr_module_decays(const tsr_module_entry *parameter);

/* Fills every parameter by its init. Each has its own random stream, keyed by its full name under
 * m: the same seed gives the same weights whatever else there is. */
TSR_API tsr_status tsr_module_initialize(tsr_module *m, uint64_t seed);
/* The same for one of what tsr_module_state() lists. */
TSR_API void tsr_module_entry_initialize(const tsr_module_entry *entry, uint64_t seed);
/* Training or evaluation, for the whole tree: what drop path and batch norm ask. */
TSR_API void tsr_module_train(tsr_module *m, bool on);
/*
 * The type in which a tree computes: that of its parameters, or bf16 for f32 parameters (mixed precision). With bf16,
 * attention, the MLPs of transformer blocks, patch embeddings and the MLPs of heads keep their activations and multiply in
 * bf16, with sums in f32; what enters and leaves these, norms, residual sums, parameters, their gradients and a head's last
 * layer stay f32. DTYPE: any other type.
 */
TSR_API tsr_status tsr_module_compute_in(tsr_module *m, tsr_dtype dtype);
/* For forwards that compute in that type: x cast to it, and back to the type of the parameters. x where these are one. */
TSR_API tsr_tensor *tsr_module_narrow(const tsr_module *m, tsr_tensor *x);
TSR_API tsr_tensor *tsr_module_widen(const tsr_module *m, tsr_tensor *x);
/* No parameter of the tree requires a gradient any more. */
TSR_API void tsr_module_freeze(tsr_module *m);

typedef enum tsr_match {
    TSR_MATCH_STRICT = 0, /* both have the same names */
    TSR_MATCH_COMMON,     /* names of one alone are left as they are (strict=False) */
} tsr_match;

/* Copies state from one tree to another by name, converting types. ARGUMENT where names (strict)
 * or shapes differ: the message lists them, and `to` is as it was. */
TSR_API tsr_status tsr_module_copy(tsr_module *to, const tsr_module *from, tsr_match match);

/* teacher = momentum teacher + (1 - momentum) student, over the parameters whose names both have,
 * of one type and shape (else ARGUMENT and nothing is changed). Mean teacher: Tarvainen & Valpola
 * 2017, section 2. */
TSR_API tsr_status tsr_module_ema(tsr_module *teacher, const tsr_module *student, double momentum);

/* ------------------------------------------------------------------ layers -------------------- */

/* x W^T + b. weight [O, I] from N(0, 0.02^2) cut at +-2, bias [O] 0 (the authors' rule for
 * transformers). */
typedef struct tsr_linear_layer {
    tsr_module module;
    tsr_tensor *weight, *bias; /* bias: NULL without */
} tsr_linear_layer;
TSR_API tsr_linear_layer *tsr_linear_new(int64_t in, int64_t out, bool bias, tsr_dtype dtype);
TSR_API tsr_tensor *tsr_linear_forward(const tsr_linear_layer *m, tsr_tensor *x /* [..., I] */);
/* tsr_gelu() of it: tsr_linear_gelu(). */
TSR_API tsr_tensor *tsr_linear_gelu_forward(const tsr_linear_layer *m, tsr_tensor *x);

/* x W^T with W = g v / |v| by rows (Salimans & Kingma 2016): weight_g [O, 1] 1, weight_v [O, I]
 * from U(+-1 / sqrt(I)), nn.Linear's default. frozen: g gets no gradient. */
typedef struct tsr_weight_norm_layer {
    tsr_module module;
    tsr_tensor *g, *v;
} tsr_weight_norm_layer;
TSR_API tsr_weight_norm_layer *tsr_weight_norm_new(int64_t in, int64_t out, bool frozen,
                                                   tsr_dtype dtype);
TSR_API tsr_tensor *tsr_weight_norm_weight(const tsr_weight_norm_layer *m); /* [out, in] */
TSR_API tsr_tensor *tsr_weight_norm_forward(const tsr_weight_norm_layer *m, tsr_tensor *x);

typedef enum tsr_norm {
    TSR_NORM_NONE = 0,
    TSR_NORM_LAYER,
    TSR_NORM_BATCH, /* over all rows; momentum 0.1, in training with the statistics of the batch */
} tsr_norm;
/* weight [D] 1, bias [D] 0; batch norm also the buffers running_mean 0, running_var 1,
 * num_batches_tracked 0. */
typedef struct tsr_norm_layer {
    tsr_module module;
    tsr_norm norm;
    double eps;
    tsr_tensor *weight, *bias, *running_mean, *running_var, *num_batches_tracked;
} tsr_norm_layer;
TSR_API tsr_norm_layer *tsr_norm_new(tsr_norm norm, int64_t dim, double eps, tsr_dtype dtype);
TSR_API tsr_tensor *tsr_norm_forward(const tsr_norm_layer *m, tsr_tensor *x /* [..., D] */);
/* tsr_module_narrow() of it, in one pass. */
TSR_API tsr_tensor *tsr_norm_narrow(const tsr_norm_layer *m, tsr_tensor *x);

/* weight [O, I / groups, k, k] and bias from U(+-1 / sqrt(fan in)), nn.Conv2d's default
 * (kaiming-uniform, a = sqrt 5). */
typedef struct tsr_conv_layer {
    tsr_module module;
    tsr_conv_options options;
    tsr_tensor *weight, *bias;
} tsr_conv_layer;
TSR_API tsr_conv_layer *tsr_conv_new(int64_t in, int64_t out, int64_t kernel, bool bias,
                                     const tsr_conv_options *options, tsr_dtype dtype);
TSR_API tsr_tensor *tsr_conv_forward(const tsr_conv_layer *m, tsr_tensor *x /* [B, I, H, W] */);

/* weight [V, D] from N(0, 0.02^2) cut at +-2. */
typedef struct tsr_embedding_layer {
    tsr_module module;
    tsr_tensor *weight;
} tsr_embedding_layer;
TSR_API tsr_embedding_layer *tsr_embedding_new(int64_t n, int64_t dim, tsr_dtype dtype);
TSR_API tsr_tensor *tsr_embedding_forward(const tsr_embedding_layer *m,
                                          tsr_tensor *index /* [...] */);

/*
 * Random numbers of a forward: `rng` says which (seed, step, first sample, purpose). What a layer
 * drops in row b depends on tsr_rng_row(rng, b) and the layer's place alone; places are counted
 * from rng.purpose. rng may be NULL where nothing is drawn: in evaluation, and with rates of 0.
 */

/* tsr_dropout() of x [B, ...] in training, x itself in evaluation. 0 <= p < 1. One place. */
typedef struct tsr_dropout_layer {
    tsr_module module;
    double p;
} tsr_dropout_layer;
TSR_API tsr_dropout_layer *tsr_dropout_new(double p, tsr_dtype dtype);
TSR_API tsr_tensor *tsr_dropout_forward(const tsr_dropout_layer *m, tsr_tensor *x,
                                        const tsr_rng *rng);

/* The same with tsr_drop_path(): whole rows (Huang et al. 2016). */
typedef struct tsr_drop_path_layer {
    tsr_module module;
    double p;
} tsr_drop_path_layer;
TSR_API tsr_drop_path_layer *tsr_drop_path_new(double p, tsr_dtype dtype);
TSR_API tsr_tensor *tsr_drop_path_forward(const tsr_drop_path_layer *m, tsr_tensor *x,
                                          const tsr_rng *rng);
/* tsr_norm_narrow() of *sum = x + tsr_drop_path_forward(gamma y), in one pass; m is a layer norm, gamma [D] or NULL. */
TSR_API tsr_tensor *tsr_norm_residual(const tsr_norm_layer *m, const tsr_drop_path_layer *drop_path,
                                      tsr_tensor *x, tsr_tensor *y, tsr_tensor *gamma,
                                      const tsr_rng *rng, tsr_tensor **sum);

/* ------------------------------------------------------------------ transformer --------------- */

/* d(fc2(d(GELU(fc1(x))))), d dropout of rate `drop`; children fc1, fc2, drop. Two places. */
typedef struct tsr_mlp {
    tsr_module module;
    bool gated;
    tsr_linear_layer *fc1, *fc2; /* gated: w12, w3 */
    tsr_dropout_layer *drop;
} tsr_mlp;
TSR_API tsr_mlp *tsr_mlp_new(int64_t dim, int64_t hidden, double drop, tsr_dtype dtype);
/* SwiGLU (Shazeer 2020, equation 6, with biases): d(w3(d(SiLU(a) b))), [a, b] = w12(x), each of
 * size hidden; children w12, w3, drop, as DINOv2 names them. */
TSR_API tsr_mlp *tsr_mlp_new_gated(int64_t dim, int64_t hidden, double drop, tsr_dtype dtype);
TSR_API tsr_tensor *tsr_mlp_forward(const tsr_mlp *m, tsr_tensor *x, const tsr_rng *rng);

/*
 * Relative position bias (Shaw et al. 2018; Liu et al. 2021, equation 4; Bao et al. 2022, appendix D):
 * what a head adds to q k^T of two tokens depends on the rows and columns between them. The tokens
 * are those of a window of rows x columns, with class_token after one that has no place: T in all.
 */
typedef struct tsr_relative_grid {
    int64_t rows, columns; /* 0: there is no bias */
    bool class_token;
} tsr_relative_grid;

/* Registered in a module: relative_position_bias_table [(2 rows - 1) (2 columns - 1), heads], with
 * class_token 3 rows more: from the class token, to it, to itself; relative_position_index I64
 * [T, T], the row of the table for each two tokens. */
typedef struct tsr_relative_position {
    tsr_relative_grid grid;
    tsr_tensor *table, *index;
} tsr_relative_position;
/* Both NULL, and owner has failed, where grid is not of 1 to 64 rows and columns. */
TSR_API tsr_relative_position tsr_relative_position_new(tsr_module *owner, tsr_relative_grid grid,
                                                        int64_t heads, tsr_init init);
/* A table of a square grid, [(2 n - 1)^2, heads] or, with a class token, 3 rows more, for another square grid: bilinear, as
 * transformers does for BEiT. NULL, without a message, where the shapes are not of such tables. */
TSR_API tsr_tensor *tsr_relative_position_resize(tsr_tensor *table, tsr_shape wanted);
/* The bias [heads, T, T] for tokens of rows x columns: where these are not its own, the table is
 * resized bilinearly (as transformers does for BEiT). NULL where p has no table. */
TSR_API tsr_tensor *tsr_relative_position_bias(const tsr_relative_position *p, int64_t rows,
                                               int64_t columns);

/* Multi-head self-attention (Vaswani et al. 2017, section 3.2.2) with dropout of the attention's
 * weights and of the result; children qkv, proj, attn_drop, proj_drop. Two places. */
typedef struct tsr_attention {
    tsr_module module;
    int64_t heads;
    tsr_relative_position position; /* tables NULL without; a caller makes the bias of it */
    tsr_linear_layer *qkv, *proj;
    tsr_dropout_layer *attn_drop, *proj_drop;
} tsr_attention;
TSR_API tsr_attention *tsr_attention_new(int64_t dim, int64_t heads, bool qkv_bias,
                                         double attn_drop, double proj_drop, tsr_dtype dtype);
/* x [..., T, D] -> [..., T, D], in the type that the module computes in. bias, added to q k^T / sqrt(D / heads), stretches to [..., heads, T,
 * T]; NULL: none. weights, if not NULL, receives softmax of the sum, [..., heads, T, T], before
 * dropout and without gradient. */
TSR_API tsr_tensor *tsr_attention_forward(const tsr_attention *m, tsr_tensor *x, tsr_tensor *bias,
                                          const tsr_rng *rng, tsr_tensor **weights);

/*
 * x + d(gamma_1 attn(norm1(x))), then x + d(gamma_2 mlp(norm2(x))) (Dosovitskiy et al. 2021,
 * equations 2 and 3); d is drop path (Huang et al. 2016), gamma LayerScale (Touvron et al. 2021,
 * equation 10). Children norm1, attn, norm2, mlp, drop_path. TSR_BLOCK_PLACES places.
 */
enum { TSR_BLOCK_PLACES = 6 };
typedef struct tsr_transformer_block {
    tsr_module module;
    tsr_tensor *gamma_1, *gamma_2; /* NULL without LayerScale */
    tsr_norm_layer *norm1, *norm2;
    tsr_attention *attn;
    tsr_mlp *mlp;
    tsr_drop_path_layer *drop_path;
} tsr_transformer_block;

typedef struct tsr_transformer_block_config {
    int64_t dim, heads, hidden; /* hidden: of the MLP */
    bool gated;                 /* the MLP is tsr_mlp_new_gated() */
    bool qkv_bias;
    double drop_path;           /* probability that a sample skips a branch in training */
    double drop;                /* dropout in the MLP and of the attention's result */
    double attn_drop;           /* dropout of the attention's weights */
    double layer_scale;         /* initial gamma; 0: none */
    double eps;                 /* of the layer norms; 0: 1e-6 */
    tsr_relative_grid relative; /* attn has a position of this grid */
    tsr_init relative_init;
    tsr_dtype dtype;
} tsr_transformer_block_config;
TSR_API tsr_transformer_block *
tsr_transformer_block_new(const tsr_transformer_block_config *config);
/* x [B, T, D] -> [B, T, D]. bias and weights as above, may be NULL. */
TSR_API tsr_tensor *tsr_transformer_block_forward(const tsr_transformer_block *m, tsr_tensor *x,
                                                  tsr_tensor *bias, const tsr_rng *rng,
                                                  tsr_tensor **weights);
/* The same, keeping of it for backward x and bias alone: the block runs again there (Chen et al.
 * 2016, arXiv 1604.06174). Values and gradients have the same bits. */
TSR_API tsr_tensor *tsr_transformer_block_recomputed(const tsr_transformer_block *m, tsr_tensor *x,
                                                     tsr_tensor *bias, const tsr_rng *rng);
/* What it makes of some tokens, [R, D]: those at rows I64 [R] of x as [B T, D], or with NULL the first of each sample. Only
 * attention's keys and values are computed for the others. Not in training with dropout of single elements. */
TSR_API tsr_tensor *tsr_transformer_block_rows(const tsr_transformer_block *m, tsr_tensor *x,
                                               tsr_tensor *bias, const tsr_rng *rng,
                                               tsr_tensor *rows);

/* ------------------------------------------------------------------ backbones ----------------- */

/*
 * What recipes, evaluation and the program ask of a network that makes tokens of images, so that
 * none of them asks which it is. ViT and Swin are backbones: their structs begin with one. Tokens
 * are [B, 1 + N, D]: the class feature, then N = h w patch tokens in rows.
 */
typedef struct tsr_backbone tsr_backbone;

typedef struct tsr_backbone_options {
    tsr_tensor *mask; /* [B, h, w] BOOL or U8, set: masked, a cell for each patch token that comes
                         out; NULL: none */
    tsr_rng rng;      /* of dropout and drop path */
    bool no_norm;     /* tsr_backbone_intermediate() alone: without the final norm */
} tsr_backbone_options;

/* Patch tokens of one image: rows x columns, each of size dim. */
typedef struct tsr_token_grid {
    int64_t dim, rows, columns;
} tsr_token_grid;

enum { TSR_BACKBONE_TEXT = 160 };

/* What a new backbone brings; the functions below say what each does. */
typedef struct tsr_backbone_methods {
    tsr_tensor *(*forward)(const tsr_backbone *m, tsr_tensor *images,
                           const tsr_backbone_options *options);
    tsr_tensor *(*rows)(const tsr_backbone *m, tsr_tensor *images, tsr_tensor *rows,
                        const tsr_backbone_options *options); /* NULL: taken out of forward's */
    /* n is within the depth */
    tsr_status (*intermediate)(const tsr_backbone *m, tsr_tensor *images, int n,
                               const tsr_backbone_options *options, tsr_tensor **outputs);
    tsr_tensor *(*last_attention)(const tsr_backbone *m, tsr_tensor *images); /* NULL: has none */
    tsr_token_grid (*grid)(const tsr_backbone *m, int64_t block, int64_t height, int64_t width);
    tsr_backbone *(*like)(const tsr_backbone *m);
    void (*describe)(const tsr_backbone *m, char text[TSR_BACKBONE_TEXT]);
    bool recomputes; /* forward and intermediate heed tsr_backbone.recompute */
} tsr_backbone_methods;

struct tsr_backbone {
    tsr_module module;
    const tsr_backbone_methods *methods;
    int64_t dim, depth; /* D of the tokens; blocks */
    int64_t image_size; /* pixels a side that it was made for; it takes others */
    int64_t token_size; /* pixels a side that a patch token, and a mask's cell, stands for */
    bool class_token;   /* false: the class feature is the mean of the patch tokens */
    bool recompute;     /* tsr_backbone_recompute() */
};

/* images [B, C, H, W] of any size -> tokens [B, 1 + N, D]. options may be NULL unless drop path is
 * drawn. */
TSR_API tsr_tensor *tsr_backbone_forward(const tsr_backbone *m, tsr_tensor *images,
                                         const tsr_backbone_options *options);
/* Some of these tokens, [R, D]: those at rows I64 [R] of all [B (1 + N), D], or with NULL the class features [B, D]. The
 * last block of a ViT is then computed for them alone, as far as it can be. SHAPE: a row is out of range. */
TSR_API tsr_tensor *tsr_backbone_rows(const tsr_backbone *m, tsr_tensor *images, tsr_tensor *rows,
                                      const tsr_backbone_options *options);
/* outputs[0 .. n): of the last n blocks, [B, 1 + N, D] with N and D of tsr_backbone_grid(), through
 * the final norm where it fits unless no_norm (the authors' get_intermediate_layers). ARGUMENT: n
 * is not 1 .. depth. */
TSR_API tsr_status tsr_backbone_intermediate(const tsr_backbone *m, tsr_tensor *images, int n,
                                             const tsr_backbone_options *options,
                                             tsr_tensor **outputs);
/* The attention of the last block, [B, heads, 1 + N, 1 + N], without gradient, in evaluation
 * (get_last_selfattention). ARGUMENT where no block sees the whole image. */
TSR_API tsr_tensor *tsr_backbone_last_attention(const tsr_backbone *m, tsr_tensor *images);
/* What block 0 .. depth - 1 makes of an image of height x width pixels. The last block's is the
 * grid of the tokens and of a mask. */
TSR_API tsr_token_grid tsr_backbone_grid(const tsr_backbone *m, int64_t block, int64_t height,
                                         int64_t width);
/* A new backbone of the same shape. */
TSR_API tsr_backbone *tsr_backbone_like(const tsr_backbone *m);
/* In training blocks keep their inputs alone for backward, and run again there: the memory of one
 * block's activations instead of all blocks', for the time of another forward. Values and gradients
 * have the same bits. ARGUMENT: this backbone cannot. */
TSR_API tsr_status tsr_backbone_recompute(tsr_backbone *m, bool on);
/* "dim 384, depth 12, heads 6, patches of 16 in 224 pixels" */
TSR_API void tsr_backbone_describe(const tsr_backbone *m, char text[TSR_BACKBONE_TEXT]);
/* Views of tokens [B, 1 + N, D]: the class feature [B, D], the patches [B, N, D]. */
TSR_API tsr_tensor *tsr_tokens_class(tsr_tensor *tokens);
TSR_API tsr_tensor *tsr_tokens_patches(tsr_tensor *tokens);
/* The tokens at rows I64 [R] of all [B (1 + N), D], a copy; NULL: the class features. */
TSR_API tsr_tensor *tsr_tokens_rows(tsr_tensor *tokens, tsr_tensor *rows);

/* ------------------------------------------------------------------ ViT ----------------------- */

/* How position embeddings of h0 x h0 patches are fitted to h x w, all bicubic. */
typedef enum tsr_position {
    TSR_POSITION_OFFSET = 0, /* by the scale (h + 0.1) / h0: DINO and iBOT */
    TSR_POSITION_SIZE,       /* by the sizes: BEiT's fine-tuning, transformers */
    TSR_POSITION_ANTIALIAS,  /* by the sizes, with antialias: DINOv2 with registers, timm */
} tsr_position;

/* Relative positions of a ViT (BEiT): tables of zeros at first, for the tokens of image_size. */
typedef enum tsr_vit_relative {
    TSR_VIT_RELATIVE_NONE = 0,
    TSR_VIT_RELATIVE_BLOCKS, /* a table in each block, "blocks.i.attn.relative_position_bias_table" */
    TSR_VIT_RELATIVE_SHARED, /* one for all of them, "rel_pos_bias.relative_position_bias_table" */
} tsr_vit_relative;

typedef struct tsr_vit_config {
    int64_t image_size; /* of the position embedding's square grid, pixels; 0: 224 */
    int64_t patch_size; /* 0: 16 */
    int64_t channels;   /* 0: 3 */
    int64_t dim, depth, heads;
    double mlp_ratio;  /* 0: 4 */
    bool gated;        /* MLPs are SwiGLU: tsr_mlp_new_gated(dim, dim * mlp_ratio) */
    int64_t registers; /* tokens behind the class token that hold no patch (Darcet et al. 2024) */
    bool qkv_bias;
    double drop_path;   /* of the last block; the others rise to it linearly from 0 */
    double drop;        /* dropout after the position embedding and in blocks (drop_rate) */
    double attn_drop;   /* dropout of the attention's weights (attn_drop_rate) */
    double layer_scale; /* 0: none */
    bool mean_pooling;  /* the class token becomes fc_norm(mean of patch tokens); no final norm */
    bool masked;        /* has masked_embed, and takes masks */
    tsr_position position;
    bool no_position;          /* no pos_embed */
    tsr_vit_relative relative; /* not with registers */
    double eps;                /* of the layer norms; 0: 1e-6 */
    tsr_dtype dtype;
} tsr_vit_config;

/* "vit_tiny", "vit_small", "vit_base", "vit_large": patch 16, 224 pixels, qkv bias, the rest 0.
 * ARGUMENT for others. */
TSR_API tsr_status tsr_vit_config_find(const char *name, tsr_vit_config *config);

/* A position embedding [1, 1 + grid^2, D] (the class token's first) fitted to h x w patches:
 * [1, 1 + h w, D]. */
TSR_API tsr_tensor *tsr_vit_resize_position(tsr_tensor *embedding, int64_t grid, int64_t h,
                                            int64_t w, tsr_position rule);

/* A relative position bias that stands alone. */
typedef struct tsr_relative_position_layer {
    tsr_module module;
    tsr_relative_position position;
} tsr_relative_position_layer;

/* Parameters cls_token [1, 1, D], pos_embed [1, 1 + N0, D], masked_embed [1, D], register_tokens
 * [1, R, D]; children patch_embed.proj, pos_drop, rel_pos_bias, blocks.i, norm (or fc_norm). TSR_BLOCK_PLACES
 * places a block, one more for pos_drop. Registers have no position, and are in no output. */
typedef struct tsr_vit {
    union {
        tsr_module module;
        tsr_backbone backbone;
    };
    tsr_vit_config config; /* with its defaults filled in */
    tsr_tensor *cls_token, *pos_embed, *masked_embed, *register_tokens;
    tsr_conv_layer *patch_embed;
    tsr_dropout_layer *pos_drop;
    tsr_relative_position_layer *rel_pos_bias; /* NULL unless shared */
    tsr_norm_layer *norm, *fc_norm;
    tsr_transformer_block *blocks[]; /* [depth] */
} tsr_vit;

TSR_API tsr_vit *tsr_vit_new(const tsr_vit_config *config);

/*
 * images [B, C, H, W] of any size -> all tokens [B, 1 + h w, D], h = H / patch, w = W / patch
 * (what is left over is cut). Masked patches become masked_embed before the position embedding is
 * added. options may be NULL where nothing is drawn.
 */
TSR_API tsr_tensor *tsr_vit_forward(const tsr_vit *m, tsr_tensor *images,
                                    const tsr_backbone_options *options);
/* tsr_backbone_rows() */
TSR_API tsr_tensor *tsr_vit_rows(const tsr_vit *m, tsr_tensor *images, tsr_tensor *rows,
                                 const tsr_backbone_options *options);
/* outputs[0 .. n): of the last n blocks, each through the final norm unless no_norm, [B, 1 + N, D]
 * (get_intermediate_layers). */
TSR_API tsr_status tsr_vit_intermediate(const tsr_vit *m, tsr_tensor *images, int n,
                                        const tsr_backbone_options *options, tsr_tensor **outputs);
/* The attention of the last block, [B, heads, 1 + N, 1 + N], without gradient, in evaluation
 * (get_last_selfattention). */
TSR_API tsr_tensor *tsr_vit_last_attention(const tsr_vit *m, tsr_tensor *images);

/* ------------------------------------------------------------------ Swin ---------------------- */

enum { TSR_SWIN_STAGES = 8 };

typedef struct tsr_swin_config {
    int64_t image_size; /* pixels a side; sets the windows' sizes and shifts; 0: 224 */
    int64_t patch_size; /* 0: 4 */
    int64_t channels;   /* 0: 3 */
    int64_t dim;        /* of the first stage; each has twice that of the one before */
    int stages;
    int64_t depths[TSR_SWIN_STAGES], heads[TSR_SWIN_STAGES];
    int64_t window;   /* tokens a side; 0: 7 */
    double mlp_ratio; /* 0: 4 */
    bool qkv_bias;
    double drop_path; /* of the last block; the others rise to it linearly from 0 */
    bool masked;      /* has masked_embed, and takes masks */
    double eps;       /* of the layer norms; 0: 1e-6 */
    tsr_dtype dtype;
} tsr_swin_config;

/* "swin_tiny", "swin_small", "swin_base", "swin_large": patch 4, 224 pixels, window 7, qkv bias.
 * ARGUMENT for others. */
TSR_API tsr_status tsr_swin_config_find(const char *name, tsr_swin_config *config);

/*
 * Shifted-window transformer (Liu et al. 2021, arXiv 2103.14030, with the masking of the iBOT
 * authors' models/swin_transformer.py). A stage whose side at image_size is not above the window
 * has windows of that side, unshifted; other maps are padded to whole windows. Parameters
 * masked_embed [1, dim]; children patch_embed.proj, .norm, layers.s.blocks.j, layers.s.downsample.
 * reduction, .norm, norm. TSR_BLOCK_PLACES places a block.
 *
 * As a backbone: tokens are those of the last stage, D = dim 2^(stages - 1), the class feature
 * their mean. A cell of a mask is such a token: the patches under it become masked_embed, after
 * patch_embed.norm. tsr_backbone_intermediate() norms the blocks of the last stage.
 */
typedef struct tsr_swin {
    union {
        tsr_module module;
        tsr_backbone backbone;
    };
    tsr_swin_config config;                                  /* with its defaults filled in */
    int64_t window[TSR_SWIN_STAGES], shift[TSR_SWIN_STAGES]; /* shift: of every second block */
    tsr_tensor *masked_embed;
    tsr_conv_layer *patch_embed;
    tsr_norm_layer *patch_norm, *norm;
    tsr_linear_layer *reduction[TSR_SWIN_STAGES]; /* after the stage; NULL after the last one */
    tsr_norm_layer *reduction_norm[TSR_SWIN_STAGES];
    tsr_module *masks; /* keeps the shifted windows' masks, one a size of map */
    tsr_transformer_block *blocks[];
} tsr_swin;

TSR_API tsr_swin *tsr_swin_new(const tsr_swin_config *config);

/* ------------------------------------------------------------------ heads --------------------- */

/* What projects patch tokens. */
typedef enum tsr_patch_layer {
    TSR_PATCH_LAYER_SHARED = 0, /* last_layer2 is last_layer (shared_head true) */
    TSR_PATCH_LAYER_SEPARATE,   /* a last_layer2 of its own (shared_head false) */
    TSR_PATCH_LAYER_NONE,       /* DINO: class tokens only */
} tsr_patch_layer;

typedef struct tsr_head_config {
    int64_t dim;           /* D of the tokens */
    int64_t out_dim;       /* K */
    int64_t patch_out_dim; /* P, with a separate layer; 0: K */
    int64_t layers;        /* of the MLP; 0: 3 */
    int64_t hidden;        /* 0: 2048 */
    int64_t bottleneck;    /* 0: 256 */
    tsr_norm norm;         /* of the hidden layers, which share it */
    tsr_patch_layer patch_layer;
    bool norm_last_layer; /* g stays 1: no gradient */
    tsr_dtype dtype;
} tsr_head_config;

/* The projection head of DINO and iBOT (iBOT, section 3.2 and the authors' models/head.py): an
 * MLP with GELU, L2 normalization, a weight-normed layer. Children mlp.{0,2,4}, last_layer,
 * last_layer2; with a norm mlp.{0,1,3,4,6}, where 1 and 4 are one module: the authors' hidden
 * layers share it. */
typedef struct tsr_head {
    tsr_module module;
    tsr_head_config config; /* with its defaults filled in */
    tsr_norm_layer *norm;   /* NULL without */
    tsr_weight_norm_layer *last_layer, *last_layer2;
    tsr_linear_layer *mlp[]; /* [layers] */
} tsr_head;

TSR_API tsr_head *tsr_head_new(const tsr_head_config *config);
/* tokens [B, 1 + N, D] -> cls [B, K], patch [B, N, P]. */
TSR_API tsr_status tsr_head_forward(const tsr_head *m, tsr_tensor *tokens, tsr_tensor **cls,
                                    tsr_tensor **patch);
/* In steps, for rows x [..., D] of any choice: unit vectors [..., bottleneck], and the logits of
 * class or patch tokens from them. */
TSR_API tsr_tensor *tsr_head_project(const tsr_head *m, tsr_tensor *x);
TSR_API tsr_tensor *tsr_head_class_logits(const tsr_head *m, tsr_tensor *z); /* [..., K] */
TSR_API tsr_tensor *tsr_head_patch_logits(const tsr_head *m, tsr_tensor *z); /* [..., P] */

/* The normed weights of both last layers, made once for those who want several logits: those of
 * class tokens are tsr_linear(z, weights.cls, NULL), of patch tokens alike. Fails where the head was
 * built without a layer for patches. */
typedef struct tsr_head_weights {
    tsr_tensor *cls;   /* [K, bottleneck] */
    tsr_tensor *patch; /* [P, bottleneck]: cls where the layer is shared */
} tsr_head_weights;
TSR_API tsr_head_weights tsr_head_weights_make(const tsr_head *m);

/* A backbone with its head, for views of several sizes (the authors' MultiCropWrapper); children
 * backbone, head. */
typedef struct tsr_multi_crop {
    tsr_module module;
    tsr_backbone *backbone;
    tsr_head *head;
} tsr_multi_crop;

/* backbone: a struct that begins with a tsr_backbone. Owns both; NULL in: NULL out, and the other
 * is freed. */
TSR_API tsr_multi_crop *tsr_multi_crop_new(void *backbone, tsr_head *head);

typedef struct tsr_multi_crop_options {
    tsr_tensor *mask; /* [B1, h, w] for the first group; NULL: none */
    bool patches;     /* the logits of the first group's patches too */
    tsr_tensor *rows; /* I64 [R]: only of these rows of the patches [B1 N, D]; NULL: of all */
    tsr_rng rng;      /* of dropout and drop path */
} tsr_multi_crop_options;

typedef struct tsr_multi_crop_output {
    tsr_tensor *cls;      /* [sum of the crops' batches, K], in the order of the crops */
    tsr_tensor *patch;    /* [B1, N, P], or with rows [R, P]; NULL unless asked for */
    tsr_tensor *features; /* the class features that cls is of, [sum of the batches, D] */
} tsr_multi_crop_output;

/*
 * crops: [B, C, H, W] each. Neighbours of one size form a group, which runs through the backbone
 * as one batch (global crops come first); then the head runs once over all class tokens and the
 * chosen patches. options may be NULL. On failure all outputs are NULL.
 */
TSR_API tsr_multi_crop_output tsr_multi_crop_forward(const tsr_multi_crop *m, tsr_tensors crops,
                                                     const tsr_multi_crop_options *options);

#ifdef __cplusplus
}
#endif

#endif
