/*
 * serialization: Tessera's checkpoints, safetensors files (docs/checkpoints.md), and weights of other programs
 * (docs/weights.md).
 *
 * Readers treat files as hostile: every length is checked against the file before anything is allocated. Writers write
 * under a temporary name, sync and rename: after a failure what was there before is untouched.
 */
#ifndef TSR_SERIALIZATION_H
#define TSR_SERIALIZATION_H

#include "models/models.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Names are 1 to 1024 bytes of UTF-8 without control characters. */
typedef struct tsr_named_tensor {
    const char *name;
    tsr_tensor *tensor;
} tsr_named_tensor;

/* ------------------------------------------------------------------ safetensors ------------------------------------- */

/* An open safetensors file (format: github.com/huggingface/safetensors, "Format"). */
typedef struct tsr_safetensors tsr_safetensors;

/*
 * Opens a file and reads its header. NULL on failure: IO, or FORMAT where the header is larger than 100 MB or not JSON, a
 * tensor has more than TSR_MAX_DIMS dimensions or a size that is not that of its shape and type, or the tensors do not
 * cover the data exactly, without overlap.
 */
TSR_API tsr_safetensors *tsr_safetensors_open(const char *path);
/* The same from memory, which must outlive the result. */
TSR_API tsr_safetensors *tsr_safetensors_open_memory(const void *data, size_t bytes);
TSR_API void tsr_safetensors_close(tsr_safetensors **file);

/* Tensors in order of their names (bytes compared). */
TSR_API int64_t tsr_safetensors_count(const tsr_safetensors *file);
TSR_API const char *tsr_safetensors_name(const tsr_safetensors *file,
                                         int64_t i); /* NULL when out of range */
TSR_API int64_t tsr_safetensors_find(const tsr_safetensors *file, const char *name); /* -1: none */
/* The i-th one's shape; a scalar's when out of range. */
TSR_API tsr_shape tsr_safetensors_shape(const tsr_safetensors *file, int64_t i);
/* The value of a key of __metadata__; NULL if there is none. */
TSR_API const char *tsr_safetensors_metadata(const tsr_safetensors *file, const char *key);

/*
 * Reads one tensor, in its own type: F32, F64, BF16, I32, I64, U8 and BOOL; F16 becomes f32. The handle belongs to the
 * innermost scope. NULL on failure: ARGUMENT (no such name; the message gives names that are there), DTYPE (I8, U16, ...),
 * FORMAT (a BOOL that is neither 0 nor 1), IO. NULL file gives NULL.
 */
TSR_API tsr_tensor *tsr_safetensors_tensor(tsr_safetensors *file, const char *name);

typedef struct tsr_safetensors_pair {
    const char *key, *value;
} tsr_safetensors_pair;

/*
 * Writes n tensors (any strides) and n_metadata pairs. Larger elements come first, then names in order, so that all data
 * is aligned and the same content gives the same bytes. ARGUMENT: a bad or repeated name, a NULL tensor; IO.
 */
TSR_API tsr_status tsr_safetensors_write(const char *path, const tsr_named_tensor *tensors,
                                         int64_t n, const tsr_safetensors_pair *metadata,
                                         int64_t n_metadata);

/* ------------------------------------------------------------------ checkpoints ------------------------------------- */

/*
 * A checkpoint holds named tensors ("student/blocks.0.attn.qkv.weight": what stands before the first '/' is the section),
 * named values (options, counters, random state) and histories. The format is serialization/checkpoint.proto. The same
 * content, put in the same order, gives the same bytes.
 *
 * Writing: create, put, commit. A failed put is kept: later puts do nothing and commit reports it, so that only commit needs
 * a check. Each name may be put once. Data is copied out during the call.
 */
typedef struct tsr_checkpoint_writer tsr_checkpoint_writer;

TSR_API tsr_checkpoint_writer *tsr_checkpoint_create(const char *path);
TSR_API tsr_status tsr_checkpoint_put_tensor(tsr_checkpoint_writer *w, const char *name,
                                             tsr_tensor *t); /* any strides */
TSR_API tsr_status tsr_checkpoint_put_int(tsr_checkpoint_writer *w, const char *key, int64_t value);
TSR_API tsr_status tsr_checkpoint_put_uint(tsr_checkpoint_writer *w, const char *key,
                                           uint64_t value);
TSR_API tsr_status tsr_checkpoint_put_double(tsr_checkpoint_writer *w, const char *key,
                                             double value);
TSR_API tsr_status tsr_checkpoint_put_bool(tsr_checkpoint_writer *w, const char *key, bool value);
TSR_API tsr_status tsr_checkpoint_put_string(tsr_checkpoint_writer *w, const char *key,
                                             const char *utf8);
TSR_API tsr_status tsr_checkpoint_put_bytes(tsr_checkpoint_writer *w, const char *key,
                                            const void *data, size_t bytes);

/* What was measured while training: row r was taken at steps[r] and has values[r * n_columns .. + n_columns], NaN where
 * nothing was measured. */
typedef struct tsr_history {
    const char *name;
    const char *const *columns;
    int64_t n_columns;
    const int64_t *steps;
    const double *values;
    int64_t n_rows;
} tsr_history;

TSR_API tsr_status tsr_checkpoint_put_history(tsr_checkpoint_writer *w, const tsr_history *history);

/*
 * Ends the file, syncs it, gives it its name and syncs the directory. *w is NULL afterwards. On failure nothing is left but
 * what was there before; IO says what to do (disk full, no directory, ...).
 */
TSR_API tsr_status tsr_checkpoint_commit(tsr_checkpoint_writer **w);
/* Drops what was put; NULL is fine. */
TSR_API void tsr_checkpoint_abandon(tsr_checkpoint_writer **w);

/*
 * Reading. Opening walks over the records: values and histories are read and checked, the data of tensors is skipped and
 * checked when it is read. NULL on failure: IO, or FORMAT with one of: truncated at byte N; checksum mismatch in record K;
 * written by a newer version; not a Tessera checkpoint (and what it looks like).
 */
typedef struct tsr_checkpoint tsr_checkpoint;

TSR_API tsr_checkpoint *tsr_checkpoint_open(const char *path);
TSR_API tsr_checkpoint *tsr_checkpoint_open_memory(const void *data,
                                                   size_t bytes); /* data must outlive the result */
TSR_API void tsr_checkpoint_close(tsr_checkpoint **c);

/* Reads and checks the data of every tensor. */
TSR_API tsr_status tsr_checkpoint_verify(tsr_checkpoint *c);

typedef struct tsr_checkpoint_entry {
    const char *name;
    tsr_dtype dtype;
    tsr_shape shape;
    uint64_t offset; /* of its first chunk's record in the file */
    uint64_t bytes;  /* of data */
} tsr_checkpoint_entry;

/* Tensors in the file's order; NULL when out of range or there is none of this name. Owned by c. */
TSR_API int64_t tsr_checkpoint_count(const tsr_checkpoint *c);
TSR_API const tsr_checkpoint_entry *tsr_checkpoint_at(const tsr_checkpoint *c, int64_t i);
TSR_API const tsr_checkpoint_entry *tsr_checkpoint_find(const tsr_checkpoint *c, const char *name);

/* One tensor, of its own type and shape, in the innermost scope. NULL on failure: ARGUMENT (no such name), FORMAT, IO. */
TSR_API tsr_tensor *tsr_checkpoint_tensor(tsr_checkpoint *c, const char *name);

/*
 * Fills n tensors from those named prefix + targets[i].name, and reads nothing else. Strict: each target must be there with
 * its type and shape, and each tensor of the file whose name begins with prefix must be a target; else ARGUMENT, and the
 * message counts and lists what is missing, unexpected and mismatched. Data is checked before the first target is written:
 * on failure (also FORMAT, IO) all are as before. prefix "": the whole file.
 */
TSR_API tsr_status tsr_checkpoint_load(tsr_checkpoint *c, const char *prefix,
                                       const tsr_named_tensor *targets, int64_t n);

typedef enum tsr_value_kind {
    TSR_VALUE_KIND_INT = 0,
    TSR_VALUE_KIND_UINT,
    TSR_VALUE_KIND_DOUBLE,
    TSR_VALUE_KIND_BOOL,
    TSR_VALUE_KIND_STRING,
    TSR_VALUE_KIND_BYTES,
} tsr_value_kind;

typedef struct tsr_checkpoint_value {
    const char *key;
    tsr_value_kind kind;
    union {
        int64_t as_int;
        uint64_t as_uint;
        double as_double;
        bool as_bool;
        const char *as_string;
        const void *as_bytes;
    } u;
    size_t bytes; /* of as_bytes */
} tsr_checkpoint_value;

/* Values in the file's order; NULL when out of range or there is none of this key. Owned by c. */
TSR_API int64_t tsr_checkpoint_value_count(const tsr_checkpoint *c);
TSR_API const tsr_checkpoint_value *tsr_checkpoint_value_at(const tsr_checkpoint *c, int64_t i);
TSR_API const tsr_checkpoint_value *tsr_checkpoint_value_find(const tsr_checkpoint *c,
                                                              const char *key);

/* The value of a key that must be there (else ARGUMENT) and of this kind (else DTYPE). Strings and bytes are owned by c. */
TSR_API tsr_status tsr_checkpoint_get_int(const tsr_checkpoint *c, const char *key, int64_t *value);
TSR_API tsr_status tsr_checkpoint_get_uint(const tsr_checkpoint *c, const char *key,
                                           uint64_t *value);
TSR_API tsr_status tsr_checkpoint_get_double(const tsr_checkpoint *c, const char *key,
                                             double *value);
TSR_API tsr_status tsr_checkpoint_get_bool(const tsr_checkpoint *c, const char *key, bool *value);
TSR_API tsr_status tsr_checkpoint_get_string(const tsr_checkpoint *c, const char *key,
                                             const char **utf8);
TSR_API tsr_status tsr_checkpoint_get_bytes(const tsr_checkpoint *c, const char *key,
                                            const void **data, size_t *bytes);

/* Histories in the file's order; NULL when out of range or there is none of this name. Owned by c. */
TSR_API int64_t tsr_checkpoint_history_count(const tsr_checkpoint *c);
TSR_API const tsr_history *tsr_checkpoint_history_at(const tsr_checkpoint *c, int64_t i);
TSR_API const tsr_history *tsr_checkpoint_history_find(const tsr_checkpoint *c, const char *name);

/*
 * A directory of numbered checkpoints: "checkpoint-00000120.tsr" is step 120. Since a checkpoint gets its name when it is
 * complete, the one with the highest number is the newest and whole, whenever the process was stopped.
 */
enum { TSR_CHECKPOINT_PATH = 4096 };

/* Writes the path for a step (0 or more) and returns it. NULL: ARGUMENT (a negative step, a path too long). */
TSR_API const char *tsr_checkpoint_path(const char *directory, int64_t step,
                                        char path[TSR_CHECKPOINT_PATH]);
/* The highest step; -1 when there is no checkpoint or no such directory. */
TSR_API tsr_status tsr_checkpoint_latest(const char *directory, int64_t *step);
/* Removes all but the keep (1 or more) newest, and what interrupted writes left. Only one process may write there. */
TSR_API tsr_status tsr_checkpoint_prune(const char *directory, int keep);

/* ------------------------------------------------------------------ weights from anywhere --------------------------- */

/*
 * Named tensors of a PyTorch file (.pth, .pt: what torch.save() writes, also before 1.6), a safetensors file, a Tessera
 * checkpoint, or the initializers of an ONNX model: which one, the content says. docs/weights.md tells what is read of
 * PyTorch's pickles and what is refused.
 */
typedef struct tsr_weights tsr_weights;

/* NULL on failure: IO, MEMORY, FORMAT. */
TSR_API tsr_weights *tsr_weights_open(const char *path);
TSR_API tsr_weights *tsr_weights_open_memory(const void *data,
                                             size_t bytes); /* data must outlive the result */
TSR_API void tsr_weights_close(tsr_weights **w);

/* "PyTorch", "safetensors", "Tessera checkpoint" or "ONNX". */
TSR_API const char *tsr_weights_format(const tsr_weights *w);
TSR_API int64_t tsr_weights_count(const tsr_weights *w);
/* Names; those of containers in a PyTorch file joined by dots: "teacher.backbone.norm.weight". NULL when out of range. */
TSR_API const char *tsr_weights_name(const tsr_weights *w, int64_t i);
TSR_API tsr_shape tsr_weights_shape(const tsr_weights *w, int64_t i);
/* One tensor, row-major, in the innermost scope; only its bytes are read. f16 becomes f32; i8 and i16 become i32. NULL on
 * failure: ARGUMENT (out of range), DTYPE, FORMAT, IO. */
TSR_API tsr_tensor *tsr_weights_tensor(tsr_weights *w, int64_t i);

/* ------------------------------------------------------------------ other programs' names --------------------------- */

/*
 * How another program calls the parameters of a backbone. '#' in both names is the number of a block. part 0: the same
 * tensor; else theirs is part 1 .. of of our rows (query, key, value). theirs NULL: they have none, and it counts as zeros.
 * ours NULL: we have none, since the network's shape says it. A name of ours may have several rules: one of each part, or
 * one for each version of the program.
 */
typedef struct tsr_name_rule {
    const char *ours, *theirs;
    int part, of;
} tsr_name_rule;

typedef struct tsr_name_map {
    const char *name;      /* "timm" */
    const char *about;     /* "PyTorch Image Models: ViT, DeiT" */
    const char *network;   /* "vit" or "swin": whose parameters; the name of such a module */
    double eps;            /* of its layer norms */
    tsr_position position; /* of a vit without registers */
    const tsr_name_rule *rules;
    int n;
} tsr_name_map;

/* All of them: ibot, timm, huggingface-vit, ... */
TSR_API const tsr_name_map *tsr_name_maps(int *n);
/* NULL, without a message, where there is none of this name. */
TSR_API const tsr_name_map *tsr_name_map_find(const char *name);
enum { TSR_NAME_BYTES = 128 };
/* The rule for a name of theirs (without the prefix), and ours into name. NULL: there is none. */
TSR_API const tsr_name_rule *tsr_name_to_ours(const tsr_name_map *map, const char *theirs,
                                              char name[TSR_NAME_BYTES]);
/* The k-th rule (from 0) for a name of ours, and theirs into name ("" where they have none). NULL: there are no more. */
TSR_API const tsr_name_rule *tsr_name_to_theirs(const tsr_name_map *map, const char *ours, int k,
                                                char name[TSR_NAME_BYTES]);

/* A network's state under a program's names (map NULL: ours); views of it. NULL on failure: ARGUMENT where the map is for
 * another network, a tensor has no name there, or the program leaves out one that is not 0. masked_embed, which only training
 * needs, and relative_position_index, which follows from the shape, are left out where they have none. Hold it no longer
 * than the network. */
typedef struct tsr_named_list {
    tsr_named_tensor *at;
    int64_t n;
} tsr_named_list;

TSR_API tsr_named_list *tsr_name_map_export(const tsr_name_map *map, const tsr_module *m);
TSR_API void tsr_named_list_free(tsr_named_list **list);
/* For transformers' names: the config.json that goes with them, to be freed; else NULL. m is what the map is for. */
TSR_API char *tsr_name_map_config(const tsr_name_map *map, const tsr_backbone *m);

/*
 * Writes n tensors (any strides) as PyTorch's torch.save() of an OrderedDict does: torch.load() reads it, with weights_only
 * too. The same content gives the same bytes. ARGUMENT: a bad or repeated name, a NULL tensor; IO, MEMORY.
 */
TSR_API tsr_status tsr_pth_write(const char *path, const tsr_named_tensor *tensors, int64_t n);

/* ------------------------------------------------------------------ importing --------------------------------------- */

typedef struct tsr_import_options {
    const char
        *prefix;     /* of the network's names in the file; NULL: found, teacher's before others */
    const char *map; /* a tsr_name_map's name; NULL: the one that fits best */
    int64_t heads;   /* 0: what tables of relative positions say; without any dim / 64 */
    int64_t image_size; /* positions are resized to it; 0: as it is */
    /* The file's network takes pictures of colours scale x + shift, where x is what the backbone is to take: that goes into the
     * patch embedding. Scales of 0: as it is. */
    double scale[3], shift[3];
} tsr_import_options;

typedef enum tsr_import_kind {
    TSR_IMPORT_LOADED = 0,
    TSR_IMPORT_RESIZED,
    TSR_IMPORT_UNUSED, /* under the prefix in the file, and not in the network */
    TSR_IMPORT_MISSING, /* in the network, and not in the file: it is as tsr_module_initialize() with seed 0 leaves it */
} tsr_import_kind;

typedef struct tsr_import_line {
    tsr_import_kind kind;
    char ours[TSR_NAME_BYTES]; /* "" where unused */
    char *theirs;              /* the first of its parts; NULL where missing */
    tsr_shape from, to;
} tsr_import_line;

typedef struct tsr_import {
    tsr_backbone *backbone; /* a tsr_vit or a tsr_swin: map->network */
    const tsr_name_map *map;
    const char *prefix;
    int64_t grid;      /* a vit: patches a side of the file's positions */
    int64_t elsewhere; /* tensors of the file that are not under the prefix */
    tsr_import_line *lines;
    int64_t n;
    int64_t counts[4]; /* lines of each kind */
    struct tsr_import_reader *reader;
} tsr_import;

/*
 * What vision transformer or Swin the tensors of a file are, and what becomes of each: size, depth, patches, pictures, windows,
 * registers, LayerScale, biases, relative positions, pooling and whether MLPs are gated are what the tensors say. A Swin's
 * pictures, unless masks of shifted windows tell their size, are such that its last stage is one window.
 * relative_position_index has no line where it is missing. The backbone has no values yet; w must live as long as they are
 * read. NULL on failure: ARGUMENT: no such network in it, several (the message lists their prefixes), one that cannot be run
 * here (distillation tokens, Swin V2, ...), or a tensor of another shape.
 */
TSR_API tsr_import *tsr_import_open(tsr_weights *w, const tsr_import_options *options);
/*
 * The value of what tsr_module_state() of the backbone lists, in the innermost scope: from the file, resized, or as in a new
 * network. So a network can be copied that has no room in memory. NULL on failure: DTYPE: it is not floating point; ARGUMENT: a
 * relative_position_index is not what the network's shape says; and what tsr_weights_tensor() says.
 */
TSR_API tsr_tensor *tsr_import_tensor(const tsr_import *import, const tsr_module_entry *entry);
/* All of them into the backbone. */
TSR_API tsr_status tsr_import_load(tsr_import *import);
/* What a checkpoint says of its backbone besides tensors and options: the epsilon of its norms, and how its positions are fitted.
 * Each is left as it is where the file says nothing. FORMAT: it says what cannot be. */
TSR_API tsr_status tsr_checkpoint_backbone(const tsr_checkpoint *c, double *eps,
                                           tsr_position *position);
TSR_API void tsr_import_free(tsr_import **import);

/* ------------------------------------------------------------------ ONNX -------------------------------------------- */

/* An input of the file. Sizes are those of the example, but where `dynamic` names one: such a size is any that the function
 * takes. It is tried at its own value and at `step` more (0: 1), so that both must be sizes that occur. */
typedef struct tsr_onnx_input {
    const char *name;
    tsr_tensor *example; /* values that occur; f32, f64, I32, I64, U8 or BOOL */
    struct {
        const char *name; /* "batch"; NULL: the size is fixed. Sizes of one name change together */
        int64_t step;
    } dynamic[TSR_MAX_DIMS];
} tsr_onnx_input;

/* All zero: the default. */
typedef struct tsr_onnx_options {
    const tsr_module *module; /* initializers get the names of its parameters and buffers */
    const tsr_safetensors_pair *metadata;
    int64_t n_metadata;
    bool external;              /* weights beside the model in path + ".data", */
    uint64_t single_file_bytes; /* as in any case where they are more than this; 0: 2 GB */
    double tolerance; /* on the largest difference, as a part of the largest value; 0: 1e-4 */
} tsr_onnx_options;

typedef struct tsr_onnx_report {
    int nodes, initializers, runs;
    uint64_t weight_bytes;
    bool external;
    double difference; /* the largest of any output, as a part of its largest value */
} tsr_onnx_report;

/*
 * Writes f as an ONNX model (operator set 17, IR version 8) for inference: one node or a few for each operator that ran,
 * fused ones without a counterpart in ONNX by their definition. Tensors that are no inputs become initializers; what depends
 * on none but constants is computed here. f runs for each set of sizes and must call the same operators; a number that
 * differs between the runs becomes a size of a tensor, and where none fits, or where values were computed outside operators,
 * that is an ARGUMENT. The graph is then run, by tsr_onnx_run's operators, on all those inputs and compared with f: NUMERIC
 * beyond the tolerance, and nothing is written. f must be deterministic: a network in evaluation. IO, MEMORY. report may be
 * NULL.
 */
TSR_API tsr_status tsr_onnx_export(const char *path, tsr_function *f, void *user,
                                   const tsr_onnx_input *inputs, int n_inputs,
                                   const char *const *output_names, int n_outputs,
                                   const tsr_onnx_options *options, tsr_onnx_report *report);

/*
 * A model that was read: what tsr_onnx_export() writes, and what else keeps to its operators and attributes. Initializers
 * are raw_data, or lie in a file beside the model. NULL: IO, MEMORY, FORMAT (truncated; an operator, a type or a version that
 * is not known; a name that nothing defines; data of another size than its shape).
 */
typedef struct tsr_onnx tsr_onnx;

TSR_API tsr_onnx *tsr_onnx_open(const char *path);
TSR_API tsr_onnx *tsr_onnx_open_memory(const void *data, size_t bytes);
TSR_API void tsr_onnx_close(tsr_onnx **model);
TSR_API int tsr_onnx_input_count(const tsr_onnx *model);
TSR_API int tsr_onnx_output_count(const tsr_onnx *model);
TSR_API const char *tsr_onnx_input_name(const tsr_onnx *model, int i); /* NULL when out of range */
TSR_API const char *tsr_onnx_output_name(const tsr_onnx *model, int i);
/* The value of a key of metadata_props; NULL if there is none. */
TSR_API const char *tsr_onnx_metadata(const tsr_onnx *model, const char *key);
/* No tensor of a run may have more elements (1 to 2^31, which is the default): for files of unknown origin. */
TSR_API void tsr_onnx_limit(tsr_onnx *model, int64_t elements);
/*
 * outputs[0 .. outputs of the model), in the innermost scope; all NULL on failure. inputs: one of the type and shape that the
 * model states for each of its inputs, in order (SHAPE, DTYPE). FORMAT: shapes do not fit each other, attributes out of
 * range, a tensor beyond the limit.
 */
TSR_API tsr_status tsr_onnx_run(tsr_onnx *model, tsr_tensors inputs, tsr_tensor **outputs);

#ifdef __cplusplus
}
#endif

#endif
