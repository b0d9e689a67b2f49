/* Reading and writing options by their tables; the table of every training run. */
#include "recipes/train/options.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *field(const tsr_option *option, void *options)
{
    return (char *)options + option->offset;
}

static bool names_equal(const char *a, const char *b)
{
    for (; *a != '\0' && *b != '\0'; a++, b++) {
        char x = *a == '_' ? '-' : *a, y = *b == '_' ? '-' : *b;
        if (x != y) return false;
    }
    return *a == *b;
}

const tsr_option *tsr_option_find(const tsr_option *table, int n, const char *name)
{
    for (int i = 0; i < n; i++) {
        if (names_equal(table[i].name, name)) return &table[i];
    }
    return NULL;
}

tsr_status tsr_options_default(const tsr_option *table, int n, void *options)
{
    tsr_status status = TSR_STATUS_OK;
    for (int i = 0; i < n && status == TSR_STATUS_OK; i++) {
        status = tsr_option_set(&table[i], options, table[i].value);
    }
    return status;
}

static bool is_bounded(const tsr_option *option)
{
    return option->lo != 0.0 || option->hi != 0.0;
}

static tsr_status refuse(const tsr_option *option, const char *text, const char *wanted)
{
    return tsr_fail(TSR_STATUS_ARGUMENT, "--%s: got \"%.60s\", expected %s", option->name, text,
                    wanted);
}

static tsr_status refuse_number(const tsr_option *option, const char *text, const char *kind)
{
    char wanted[120];
    if (is_bounded(option)) {
        snprintf(wanted, sizeof wanted, "%s from %.15g to %.15g", kind, option->lo, option->hi);
    } else {
        snprintf(wanted, sizeof wanted, "%s", kind);
    }
    return refuse(option, text, wanted);
}

/* A finite number up to end; true where it is one and within bounds. */
static bool parse_number(const tsr_option *option, const char *text, const char **end, double *out)
{
    char *stop;
    double x = strtod(text, &stop);
    *end = stop;
    if (stop == text || !isfinite(x)) return false;
    if (is_bounded(option) && (x < option->lo || x > option->hi)) return false;
    *out = x;
    return true;
}

static tsr_status set_int(const tsr_option *option, void *at, const char *text)
{
    char *stop;
    errno = 0;
    long long x = strtoll(text, &stop, 10);
    bool outside = is_bounded(option) && ((double)x < option->lo || (double)x > option->hi);
    if (stop == text || *stop != '\0' || errno == ERANGE || outside) {
        return refuse_number(option, text, "a whole number");
    }
    *(int64_t *)at = x;
    return TSR_STATUS_OK;
}

static tsr_status set_list(const tsr_option *option, void *at, const char *text)
{
    tsr_list list = {0};
    const char *p = text;
    for (;;) {
        if (list.n == TSR_LIST_MAX || !parse_number(option, p, &p, &list.at[list.n])) break;
        list.n++;
        if (*p != ',') break;
        p++;
    }
    if (*p != '\0' || list.n == 0)
        return refuse_number(option, text, "up to four numbers with commas");
    *(tsr_list *)at = list;
    return TSR_STATUS_OK;
}

static tsr_status set_choice(const tsr_option *option, void *at, const char *text)
{
    size_t length = strlen(text);
    const char *p = option->choices;
    for (int i = 0; *p != '\0'; i++) {
        size_t word = strcspn(p, " ");
        if (word == length && strncmp(p, text, word) == 0) {
            *(int *)at = i;
            return TSR_STATUS_OK;
        }
        p += word;
        p += strspn(p, " ");
    }
    char wanted[120];
    snprintf(wanted, sizeof wanted, "one of: %s", option->choices);
    return refuse(option, text, wanted);
}

tsr_status tsr_option_set(const tsr_option *option, void *options, const char *text)
{
    void *at = field(option, options);
    const char *end;
    switch (option->type) {
    case TSR_OPTION_INT:
        return set_int(option, at, text);
    case TSR_OPTION_DOUBLE:
        if (parse_number(option, text, &end, at) && *end == '\0') return TSR_STATUS_OK;
        return refuse_number(option, text, "a number");
    case TSR_OPTION_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
            return refuse(option, text, "true or false");
        }
        *(bool *)at = text[0] == 't';
        return TSR_STATUS_OK;
    case TSR_OPTION_CHOICE:
        return set_choice(option, at, text);
    case TSR_OPTION_LIST:
        return set_list(option, at, text);
    case TSR_OPTION_PATH:
        if (strlen(text) >= TSR_OPTION_TEXT) {
            return tsr_fail(TSR_STATUS_ARGUMENT, "--%s: the path is longer than %d bytes",
                            option->name, TSR_OPTION_TEXT - 1);
        }
        snprintf(at, TSR_OPTION_TEXT, "%s", text);
        return TSR_STATUS_OK;
    }
    return tsr_fail(TSR_STATUS_ARGUMENT, "--%s: unknown type", option->name);
}

const char *tsr_option_text(const tsr_option *option, const void *options,
                            char buffer[TSR_OPTION_TEXT])
{
    const void *at = (const char *)options + option->offset;
    buffer[0] = '\0';
    switch (option->type) {
    case TSR_OPTION_INT:
        snprintf(buffer, TSR_OPTION_TEXT, "%" PRId64, *(const int64_t *)at);
        break;
    case TSR_OPTION_DOUBLE: {
        /* The shortest text that reads back as the same number. */
        double x = *(const double *)at;
        for (int digits = 1; digits <= 17; digits++) {
            snprintf(buffer, TSR_OPTION_TEXT, "%.*g", digits, x);
            if (strtod(buffer, NULL) == x) break;
        }
        if (x == trunc(x) && fabs(x) < 1e15) snprintf(buffer, TSR_OPTION_TEXT, "%.0f", x);
        break;
    }
    case TSR_OPTION_BOOL:
        snprintf(buffer, TSR_OPTION_TEXT, "%s", *(const bool *)at ? "true" : "false");
        break;
    case TSR_OPTION_CHOICE: {
        const char *p = option->choices;
        for (int i = *(const int *)at; i > 0; i--) {
            p += strcspn(p, " ");
            p += strspn(p, " ");
        }
        snprintf(buffer, TSR_OPTION_TEXT, "%.*s", (int)strcspn(p, " "), p);
        break;
    }
    case TSR_OPTION_LIST: {
        const tsr_list *list = at;
        size_t used = 0;
        for (int i = 0; i < list->n; i++) {
            tsr_option one = {.type = TSR_OPTION_DOUBLE};
            char number[TSR_OPTION_TEXT];
            tsr_option_text(&one, &list->at[i], number);
            used += (size_t)snprintf(buffer + used, TSR_OPTION_TEXT - used, "%s%.30s",
                                     i > 0 ? "," : "", number);
        }
        break;
    }
    case TSR_OPTION_PATH:
        snprintf(buffer, TSR_OPTION_TEXT, "%s", (const char *)at);
        break;
    }
    return buffer;
}

#define AT(field) offsetof(tsr_train_options, field)

static const tsr_option train_table[] = {
    {"model", TSR_OPTION_CHOICE, AT(model), "vit_small", 0, 0,
     "vit_tiny vit_small vit_base vit_large swin_tiny swin_small swin_base swin_large",
     "vit_tiny (5.5 M parameters), vit_small (21.7 M), vit_base (85.8 M), vit_large (303 M), "
     "swin_tiny (27.5 M), swin_small (48.8 M), swin_base (86.7 M) or swin_large (195 M)",
     "main_ibot.py --arch"},
    {"image-size", TSR_OPTION_INT, AT(image_size), "224", 8, 4096, NULL,
     "pixels a side of the global crops", "loader.py DataAugmentationiBOT"},
    {"patch-size", TSR_OPTION_INT, AT(patch_size), "0", 0, 256, NULL,
     "pixels a side of a patch; 0: the model's, 16 of vit, 4 of swin (whose tokens, and masks' "
     "cells, are of 8 patches a side)",
     "main_ibot.py --patch_size"},
    {"window", TSR_OPTION_INT, AT(window), "7", 1, 32, NULL,
     "swin: tokens a side of a window of attention; 7 or 14", "main_ibot.py --window_size"},
    {"dim", TSR_OPTION_INT, AT(dim), "0", 0, 8192, NULL,
     "width of the tokens, of swin in its first stage; 0: the model's", NULL},
    {"depth", TSR_OPTION_INT, AT(depth), "0", 0, 256, NULL,
     "number of blocks; 0: the model's. swin has 2, 2, depth - 6 and 2", NULL},
    {"heads", TSR_OPTION_INT, AT(heads), "0", 0, 256, NULL,
     "attention heads, of swin in its first stage; 0: the model's", NULL},
    {"mlp-ratio", TSR_OPTION_DOUBLE, AT(mlp_ratio), "4", 0.1, 64, NULL,
     "hidden width of a block's MLP, relative to dim", "vision_transformer.py"},
    {"epochs", TSR_OPTION_INT, AT(epochs), "100", 1, 1e6, NULL, "passes over the images",
     "main_ibot.py --epochs"},
    {"batch", TSR_OPTION_INT, AT(batch), "64", 1, 1e6, NULL,
     "images in one optimizer step; learning rates scale with it", NULL},
    {"micro-batch", TSR_OPTION_INT, AT(micro_batch), "0", 0, 1e6, NULL,
     "images in memory at once; must divide batch; 0: all of them. The result is the same", NULL},
    {"precision", TSR_OPTION_CHOICE, AT(precision), "f32", 0, 0, "f32 bf16",
     "f32, or bf16 for the activations and products inside blocks and heads: less memory. "
     "Parameters, norms, losses and the optimizer stay f32",
     NULL},
    {"recompute-blocks", TSR_OPTION_BOOL, AT(recompute_blocks), "false", 0, 0, NULL,
     "keep only the inputs of transformer blocks, and run these again in backward: less memory, "
     "about a quarter more time, the same bits",
     "arXiv 1604.06174"},
    {"memory-budget", TSR_OPTION_DOUBLE, AT(memory_budget), "0", 0, 1e6, NULL,
     "GiB that the run may take: micro-batch and recompute-blocks are chosen for it; 0: no limit",
     NULL},
    {"optimizer", TSR_OPTION_CHOICE, AT(optimizer), "adamw", 0, 0, "adamw sgd lars",
     "adamw, sgd (momentum .9) or lars", "main_ibot.py --optimizer"},
    {"beta1", TSR_OPTION_DOUBLE, AT(beta1), "0.9", 1e-6, 0.999999, NULL,
     "adamw: moving average of the gradient", "torch.optim.AdamW"},
    {"beta2", TSR_OPTION_DOUBLE, AT(beta2), "0.999", 1e-6, 0.999999, NULL,
     "adamw: moving average of its square", "torch.optim.AdamW"},
    {"lr", TSR_OPTION_DOUBLE, AT(lr), "0.0005", 0, 1e3, NULL,
     "learning rate at the end of the warm-up, for a batch of 256", "main_ibot.py --lr"},
    {"scale-lr", TSR_OPTION_BOOL, AT(scale_lr), "true", 0, 0, NULL, "multiply lr by batch / 256",
     "main_ibot.py train_ibot"},
    {"min-lr", TSR_OPTION_DOUBLE, AT(min_lr), "1e-6", 0, 1e3, NULL, "learning rate at the end",
     "main_ibot.py --min_lr"},
    {"warmup-epochs", TSR_OPTION_DOUBLE, AT(warmup_epochs), "10", 0, 1e6, NULL,
     "epochs over which the learning rate rises from 0", "main_ibot.py --warmup_epochs"},
    {"weight-decay", TSR_OPTION_DOUBLE, AT(weight_decay), "0.04", 0, 1e3, NULL,
     "weight decay at the start (not on biases and 1-d parameters)", "main_ibot.py --weight_decay"},
    {"weight-decay-end", TSR_OPTION_DOUBLE, AT(weight_decay_end), "0.4", 0, 1e3, NULL,
     "weight decay at the end, by a cosine", "main_ibot.py --weight_decay_end"},
    {"momentum-teacher", TSR_OPTION_DOUBLE, AT(momentum_teacher), "0.996", 0, 1, NULL,
     "moving average of the teacher at the start; nearer to 1 for small batches",
     "main_ibot.py --momentum_teacher"},
    {"momentum-teacher-end", TSR_OPTION_DOUBLE, AT(momentum_teacher_end), "1", 0, 1, NULL,
     "moving average of the teacher at the end, by a cosine", "main_ibot.py train_ibot"},
    {"clip", TSR_OPTION_DOUBLE, AT(clip), "3", 0, 1e9, NULL,
     "largest L2 norm of a gradient; 0: no clipping. Smaller (0.3 to 1) steadies large models",
     "main_ibot.py --clip_grad"},
    {"clip-global", TSR_OPTION_BOOL, AT(clip_global), "false", 0, 0, NULL,
     "clip the norm of all gradients together instead of each tensor's", "utils.py clip_gradients"},
    {"monitor-every", TSR_OPTION_INT, AT(monitor_every), "20", 0, 1e9, NULL,
     "steps between two looks of the health monitor; 0: never", NULL},
};

const tsr_option *tsr_train_option_table(int *n)
{
    *n = (int)(sizeof train_table / sizeof train_table[0]);
    return train_table;
}

tsr_status tsr_train_whole_batch(const tsr_train_options *train, const char *what)
{
    if (train->micro_batch == 0 || train->micro_batch == train->batch) return TSR_STATUS_OK;
    return tsr_fail(TSR_STATUS_ARGUMENT,
                    "--micro-batch %" PRId64 ": %s takes statistics over the whole batch, which "
                    "cannot be cut; leave --micro-batch out, or make --batch smaller",
                    train->micro_batch, what);
}

static const char *model_of(const tsr_train_options *train, char model[TSR_OPTION_TEXT])
{
    int n = (int)(sizeof train_table / sizeof train_table[0]);
    return tsr_option_text(tsr_option_find(train_table, n, "model"), train, model);
}

bool tsr_train_is_swin(const tsr_train_options *train)
{
    char model[TSR_OPTION_TEXT];
    return strncmp(model_of(train, model), "swin_", 5) == 0;
}

tsr_status tsr_train_swin_config(const tsr_train_options *train, tsr_swin_config *config)
{
    char model[TSR_OPTION_TEXT];
    tsr_swin_config c;
    if (tsr_swin_config_find(model_of(train, model), &c) != TSR_STATUS_OK) return tsr_status_get();
    c.image_size = train->image_size;
    c.patch_size = train->patch_size > 0 ? train->patch_size : 4;
    c.window = train->window;
    c.mlp_ratio = train->mlp_ratio;
    if (train->dim > 0) c.dim = train->dim;
    if (train->depth > 0) c.depths[2] = train->depth - 6;
    for (int s = 0; train->heads > 0 && s < c.stages; s++) c.heads[s] = train->heads << s;
    int64_t token = c.patch_size << (c.stages - 1);
    if (c.depths[2] < 1) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "--depth: got %" PRId64 ", expected 7 or more for %s",
                        train->depth, model);
    }
    if (c.dim % c.heads[0] != 0) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "--heads: %" PRId64 " does not divide --dim %" PRId64,
                        c.heads[0], c.dim);
    }
    if (c.image_size % token != 0) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "--image-size: %" PRId64 " is no multiple of %" PRId64
                        ", the pixels of a token of %s with --patch-size %" PRId64,
                        c.image_size, token, model, c.patch_size);
    }
    *config = c;
    return TSR_STATUS_OK;
}

tsr_status tsr_train_vit_config(const tsr_train_options *train, tsr_vit_config *config)
{
    char model[TSR_OPTION_TEXT];
    model_of(train, model);
    if (tsr_train_is_swin(train)) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "--model %s: this wants a vit", model);
    }
    tsr_vit_config c;
    if (tsr_vit_config_find(model, &c) != TSR_STATUS_OK) return tsr_status_get();
    c.image_size = train->image_size;
    c.patch_size = train->patch_size > 0 ? train->patch_size : 16;
    c.mlp_ratio = train->mlp_ratio;
    if (train->dim > 0) c.dim = train->dim;
    if (train->depth > 0) c.depth = train->depth;
    if (train->heads > 0) c.heads = train->heads;
    if (c.dim % c.heads != 0) {
        return tsr_fail(TSR_STATUS_ARGUMENT, "--heads: %" PRId64 " does not divide --dim %" PRId64,
                        c.heads, c.dim);
    }
    if (c.image_size < c.patch_size) {
        return tsr_fail(TSR_STATUS_ARGUMENT,
                        "--patch-size: %" PRId64 " is larger than --image-size %" PRId64,
                        c.patch_size, c.image_size);
    }
    *config = c;
    return TSR_STATUS_OK;
}
