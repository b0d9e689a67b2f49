/*
 * What a training step does after backward, for a ViT-B and its teacher: clipping of every gradient, AdamW, moving average.
 * The bytes are those that it cannot do without: parameters, gradients, both moments and the teacher read once, all but
 * the gradients written, and the gradients read once more before, for their norms. Beside it the machine's own copy.
 */
#include "bench.h"
#include "models/models.h"
#include "recipes/train/optimizer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { COPY = 256 << 20 };

static char *from, *to;

/* Both halves at once where there are two threads. */
static void copy(int threads)
{
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int i = 0; i < threads; i++) {
        size_t part = COPY / (size_t)threads;
        memcpy(to + part * (size_t)i, from + part * (size_t)i, part);
    }
}

static tsr_optimizer *make_optimizer(const tsr_module_list *p, const tsr_module_list *t)
{
    tsr_optimizer_parameter *list = calloc((size_t)p->n, sizeof *list);
    for (int64_t i = 0; list != NULL && i < p->n; i++) {
        const tsr_module_entry *e = &p->at[i];
        list[i] = (tsr_optimizer_parameter){.name = e->name,
                                            .tensor = e->tensor,
                                            .decays = tsr_module_decays(e),
                                            .average = t->at[i].tensor};
        tsr_tensor *g = tsr_empty(TSR_DTYPE_F32, tsr_tensor_shape(e->tensor));
        tsr_fill_normal(g, tsr_rng_make(0, 0, (uint32_t)i, 1), 0.0, 1.0);
        tsr_tensor_set_grad(e->tensor, g);
    }
    tsr_optimizer *o = tsr_optimizer_make(list, (int)p->n, NULL);
    free(list);
    return o;
}

static void update(tsr_optimizer *o)
{
    tsr_optimizer_clip(o, TSR_CLIP_EACH, 3.0, NULL);
    tsr_optimizer_step_average(o, 1e-4, 0.04, 0.996);
}

int main(void)
{
    tsr_vit_config config;
    tsr_vit_config_find("vit_base", &config);
    tsr_vit *student = tsr_vit_new(&config), *teacher = tsr_vit_new(&config);
    tsr_scope scope = tsr_scope_open();
    if (student != NULL) tsr_module_initialize(&student->module, 0);
    if (teacher != NULL) tsr_module_initialize(&teacher->module, 0);
    tsr_module_list *p = student != NULL ? tsr_module_parameters(&student->module) : NULL;
    tsr_module_list *t = teacher != NULL ? tsr_module_parameters(&teacher->module) : NULL;
    tsr_optimizer *o = p != NULL && t != NULL ? make_optimizer(p, t) : NULL;
    from = aligned_alloc(2 << 20, COPY);
    to = aligned_alloc(2 << 20, COPY);
    if (o == NULL || from == NULL || to == NULL) {
        fprintf(stderr, "%s\n", tsr_message());
        return 1;
    }
    memset(from, 1, COPY);
    memset(to, 2, COPY);
    double n = (double)tsr_module_count(&student->module), bytes = 10.0 * 4.0 * n;
    int most = tsr_threads();
    printf("clip, AdamW and teacher of %.1f M parameters: %.2f GB\n", n / 1e6, bytes / 1e9);
    for (int threads = 1; threads <= most; threads++) {
        double copying, updating;
        tsr_threads_set(threads);
        BENCH(copying, 0.5, copy(threads));
        BENCH(updating, 2.0, update(o));
        printf("%d thread%s  copy %5.2f GB/s  update %6.1f ms, %5.2f GB/s, %.2f of copy\n", threads,
               threads > 1 ? "s" : " ", 2.0 * COPY / copying / 1e9, updating * 1e3,
               bytes / updating / 1e9, bytes / updating / (2.0 * COPY / copying));
    }
    tsr_optimizer_free(&o);
    tsr_module_list_free(&p);
    tsr_module_list_free(&t);
    tsr_module_free(&student);
    tsr_module_free(&teacher);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    free(from);
    free(to);
    return tsr_status_get() == TSR_STATUS_OK ? 0 : 1;
}
