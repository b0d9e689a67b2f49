/* One face for the files that weights come in. */
#include "serialization/import.h"
#include "serialization/onnx.h"
#include "serialization/pth.h"
#include "serialization/serialization.h"
#include "serialization/source.h"

#include <stdlib.h>
#include <string.h>

struct tsr_weights {
    tsr_pth *pth; /* one of the four is there */
    tsr_safetensors *safetensors;
    tsr_checkpoint *checkpoint;
    tsr_onnx *onnx;
};

/* Takes the source. path NULL: it is memory. */
static tsr_weights *open_source(tsr_source source, const char *path)
{
    tsr_weights *w = calloc(1, sizeof *w);
    if (w == NULL) {
        tsr_source__close(&source);
        tsr_fail(TSR_STATUS_MEMORY, "weights: out of memory");
        return NULL;
    }
    const char *looks = tsr_source__looks_like(&source);
    if (looks != NULL && strcmp(looks, "a safetensors file") == 0) {
        w->safetensors = path != NULL
                             ? tsr_safetensors_open(path)
                             : tsr_safetensors_open_memory(source.memory, (size_t)source.size);
    } else if (looks != NULL && strcmp(looks, "a Tessera checkpoint") == 0) {
        w->checkpoint = path != NULL
                            ? tsr_checkpoint_open(path)
                            : tsr_checkpoint_open_memory(source.memory, (size_t)source.size);
    } else if (looks != NULL &&
               (strncmp(looks, "a zip", 5) == 0 || strncmp(looks, "a Py", 4) == 0)) {
        w->pth = tsr_pth__open(source);
        source = (tsr_source){.fd = -1};
    } else if (looks != NULL && strcmp(looks, "an ONNX model") == 0) {
        w->onnx = tsr_onnx__open_weights(&source);
    } else {
        tsr_fail(TSR_STATUS_FORMAT,
                 "weights: '%s' is neither a PyTorch file nor safetensors nor a Tessera "
                 "checkpoint nor ONNX%s%s",
                 source.name, looks != NULL ? "; it looks like " : "", looks != NULL ? looks : "");
    }
    tsr_source__close(&source);
    if (w->pth == NULL && w->safetensors == NULL && w->checkpoint == NULL && w->onnx == NULL) {
        tsr_weights_close(&w);
    }
    return w;
}

tsr_weights *tsr_weights_open(const char *path)
{
    tsr_source source;
    return tsr_source__open(&source, "weights", path) == TSR_STATUS_OK ? open_source(source, path)
                                                                       : NULL;
}

tsr_weights *tsr_weights_open_memory(const void *data, size_t bytes)
{
    tsr_source source;
    return tsr_source__open_memory(&source, "weights", data, bytes) == TSR_STATUS_OK
               ? open_source(source, NULL)
               : NULL;
}

void tsr_weights_close(tsr_weights **weights)
{
    if (weights == NULL || *weights == NULL) return;
    tsr_weights *w = *weights;
    tsr_pth__close(&w->pth);
    tsr_safetensors_close(&w->safetensors);
    tsr_checkpoint_close(&w->checkpoint);
    tsr_onnx_close(&w->onnx);
    free(w);
    *weights = NULL;
}

const char *tsr_weights_format(const tsr_weights *w)
{
    return w->pth != NULL           ? "PyTorch"
           : w->safetensors != NULL ? "safetensors"
           : w->checkpoint != NULL  ? "Tessera checkpoint"
                                    : "ONNX";
}

const tsr_checkpoint *tsr_weights__checkpoint(const tsr_weights *w)
{
    return w->checkpoint;
}

int64_t tsr_weights_count(const tsr_weights *w)
{
    if (w == NULL) return 0;
    if (w->pth != NULL) return tsr_pth__count(w->pth);
    if (w->safetensors != NULL) return tsr_safetensors_count(w->safetensors);
    if (w->onnx != NULL) return tsr_onnx__weights_count(w->onnx);
    return tsr_checkpoint_count(w->checkpoint);
}

const char *tsr_weights_name(const tsr_weights *w, int64_t i)
{
    if (i < 0 || i >= tsr_weights_count(w)) return NULL;
    if (w->pth != NULL) return tsr_pth__name(w->pth, i);
    if (w->safetensors != NULL) return tsr_safetensors_name(w->safetensors, i);
    if (w->onnx != NULL) return tsr_onnx__weights_name(w->onnx, i);
    return tsr_checkpoint_at(w->checkpoint, i)->name;
}

tsr_shape tsr_weights_shape(const tsr_weights *w, int64_t i)
{
    if (i < 0 || i >= tsr_weights_count(w)) return TSR_SHAPE_SCALAR;
    if (w->pth != NULL) return tsr_pth__shape(w->pth, i);
    if (w->safetensors != NULL) return tsr_safetensors_shape(w->safetensors, i);
    if (w->onnx != NULL) return tsr_onnx__weights_shape(w->onnx, i);
    return tsr_checkpoint_at(w->checkpoint, i)->shape;
}

tsr_tensor *tsr_weights_tensor(tsr_weights *w, int64_t i)
{
    const char *name = tsr_weights_name(w, i);
    if (name == NULL) {
        tsr_fail(TSR_STATUS_ARGUMENT, "weights: tensor %lld, there are %lld", (long long)i,
                 (long long)tsr_weights_count(w));
        return NULL;
    }
    if (w->pth != NULL) return tsr_pth__tensor(w->pth, i);
    if (w->safetensors != NULL) return tsr_safetensors_tensor(w->safetensors, name);
    if (w->onnx != NULL) return tsr_onnx__weights_tensor(w->onnx, i);
    return tsr_checkpoint_tensor(w->checkpoint, name);
}
