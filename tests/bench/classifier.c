#include "tests/bench/classifier.h"

#include <stdlib.h>

enum { CLASSES = 1000, SIDE = 224 };

static classifier *make_modules(const char *model)
{
    tsr_vit_config config;
    classifier *m = tsr_module_new(sizeof *m, "classifier", TSR_DTYPE_F32);
    if (m == NULL) return NULL;
    if (tsr_vit_config_find(model, &config) == TSR_STATUS_OK) {
        m->vit = tsr_module_child(&m->module, "vit", tsr_vit_new(&config));
        tsr_linear_layer *head = tsr_linear_new(config.dim, CLASSES, true, TSR_DTYPE_F32);
        m->head = tsr_module_child(&m->module, "head", head);
    }
    return tsr_module_finish(&m->module);
}

static tsr_optimizer *make_optimizer(const classifier *m)
{
    tsr_module_list *parameters = tsr_module_parameters(&m->module);
    if (parameters == NULL) return NULL;
    tsr_optimizer_parameter *list = calloc((size_t)parameters->n, sizeof *list);
    for (int64_t i = 0; list != NULL && i < parameters->n; i++) {
        const tsr_module_entry *e = &parameters->at[i];
        list[i] = (tsr_optimizer_parameter){e->name, e->tensor, tsr_module_decays(e), 0.0};
    }
    tsr_optimizer *o = tsr_optimizer_make(list, (int)parameters->n, NULL);
    free(list);
    tsr_module_list_free(&parameters);
    return o;
}

classifier *classifier_make(const char *model, int64_t batch)
{
    classifier *m = make_modules(model);
    if (m == NULL) return NULL;
    tsr_module_initialize(&m->module, 1);
    m->optimizer = make_optimizer(m);
    m->images = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(batch, 3, SIDE, SIDE));
    m->labels = tsr_zeros(TSR_DTYPE_I64, TSR_SHAPE(batch));
    tsr_fill_normal(m->images, tsr_rng_make(1, 0, 0, 0), 0.0, 1.0);
    if (tsr_status_get() != TSR_STATUS_OK) classifier_free(&m);
    return m;
}

void classifier_free(classifier **m)
{
    if (*m == NULL) return;
    tsr_optimizer_free(&(*m)->optimizer);
    tsr_module_free(m);
}

void classifier_step(classifier *m)
{
    tsr_scope scope = tsr_scope_open();
    tsr_tape *tape = tsr_tape_open();
    tsr_tensor *x = tsr_vit_rows(m->vit, m->images, NULL, NULL);
    tsr_tensor *rows = tsr_cross_entropy(tsr_linear_forward(m->head, x), m->labels, -100);
    tsr_backward(tape, tsr_mean(rows, NULL, 0, false), NULL);
    tsr_optimizer_step(m->optimizer, 1e-4, 0.05);
    tsr_optimizer_zero_grad(m->optimizer);
    tsr_tape_close(&tape);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}

void classifier_infer(classifier *m)
{
    tsr_scope scope = tsr_scope_open();
    bool was = tsr_recording_set(false);
    tsr_vit_rows(m->vit, m->images, NULL, NULL);
    tsr_recording_set(was);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
}
