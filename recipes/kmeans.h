/*
 * k-means over whitened rows that are too many to keep: a vocabulary of patches. Lloyd, Least squares quantization in PCM,
 * 1982; Arthur and Vassilvitskii, k-means++, SODA 2007; whitening as Coates and Ng, Learning Feature Representations with
 * K-means, 2012. Not installed.
 *
 * Shapes: rows [R, D]; K centres. Everything is a function of the rows, their order and the seed, not of threads.
 */
#ifndef TSR_KMEANS_H
#define TSR_KMEANS_H

#include "recipes/recipes.h"

/* A walk over all rows, always the same: calls visit with parts [R, D], f32, of any sizes. */
typedef tsr_status tsr_kmeans_visit(tsr_tensor *rows, void *user);
typedef struct tsr_kmeans_source {
    tsr_status (*walk)(const struct tsr_kmeans_source *source, tsr_kmeans_visit *visit, void *user);
    void *user;
} tsr_kmeans_source;

typedef struct tsr_kmeans_options {
    int64_t iterations; /* of Lloyd; fewer when no centre moves any more */
    double
        whitening; /* added to the covariance's diagonal, times the mean variance: large is none */
    uint64_t seed;
} tsr_kmeans_options;

/*
 * Fills mean [D], whitening [D, D] = W and centers [K, D] of any floating type: W (x - mean) has covariance 1 but for what
 * is added, and lies nearest to one of the centers. W is the inverse of the Cholesky factor; any other whitening differs
 * from it by a rotation, so that distances and clusters are the same. A center that no row is nearest to begins
 * again at a row far from all others. ARGUMENT: fewer rows than K that differ, or all rows equal.
 */
tsr_status tsr_kmeans__train(const tsr_kmeans_source *source, const tsr_kmeans_options *options,
                             tsr_tensor *mean, tsr_tensor *whitening, tsr_tensor *centers);
/* W (x - mean), [R, D]. */
tsr_tensor *tsr_kmeans__whiten(tsr_tensor *rows, tsr_tensor *mean, tsr_tensor *whitening);
/* The nearest center of whitened rows, I64 [R]; of equally near ones the first. */
tsr_tensor *tsr_kmeans__assign(tsr_tensor *whitened, tsr_tensor *centers);

#endif
