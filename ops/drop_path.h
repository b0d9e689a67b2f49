/* Which rows stochastic depth keeps. Not installed. */
#ifndef TSR_OPS_DROP_PATH_H
#define TSR_OPS_DROP_PATH_H

#include "autograd/autograd.h"

static inline bool tsr_drop_path__keeps(tsr_rng rng, double p, int64_t row)
{
    rng = tsr_rng_row(rng, row);
    return tsr_rng_uniform(&rng) + (1.0 - p) >= 1.0;
}

#endif
