/* The table of all ops' samples, and their inputs. */
#include "ops/samples.h"

#define OP(name) extern const tsr_op_samples tsr_samples__##name;
#include "ops_list.inc"
#undef OP

static const tsr_op_samples *const all[] = {
#define OP(name) &tsr_samples__##name,
#include "ops_list.inc"
#undef OP
};

const tsr_op_samples *const *tsr_samples__all(int *n)
{
    *n = (int)(sizeof all / sizeof all[0]);
    return all;
}

static tsr_tensor *make_input(const tsr_sample_input *in, tsr_dtype dtype, tsr_rng rng)
{
    if (in->below > 0) {
        tsr_tensor *t = tsr_empty(TSR_DTYPE_I64, in->shape);
        int64_t *data = tsr_tensor_data_mut(t);
        for (int64_t i = 0; i < tsr_tensor_numel(t); i++) data[i] = tsr_rng_below(&rng, in->below);
        return t;
    }
    if (in->mask) {
        tsr_tensor *t = tsr_empty(TSR_DTYPE_BOOL, in->shape);
        tsr_fill_bernoulli(t, rng, 0.5);
        return t;
    }
    bool unset = in->lo == 0.0 && in->hi == 0.0;
    tsr_tensor *t = tsr_empty(dtype, in->shape);
    tsr_fill_uniform(t, rng, unset ? -2.0 : in->lo, unset ? 2.0 : in->hi);
    return in->constant ? t : tsr_require_grad(t, true);
}

bool tsr_samples__inputs(const tsr_sample *sample, tsr_dtype dtype, uint64_t seed,
                         tsr_tensor *inputs[TSR_SAMPLE_INPUTS])
{
    for (int i = 0; i < sample->n_inputs; i++) {
        tsr_rng rng = tsr_rng_make(seed, 0, (uint32_t)i, tsr_rng_purpose("sample"));
        inputs[i] = NULL;
        if (sample->inputs[i].absent) continue;
        inputs[i] = make_input(&sample->inputs[i], dtype, rng);
        if (inputs[i] == NULL) return false;
    }
    return true;
}
