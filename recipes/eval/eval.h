/*
 * recipes/eval: what frozen features are worth (docs/evaluation.md). Weighted k-NN, a linear probe, logistic regression; clusters.
 *
 * Features come from outside: any network's, or raw pixels. All give the same bits at any number of threads.
 */
#ifndef TSR_RECIPES_EVAL_H
#define TSR_RECIPES_EVAL_H

#include "autograd/autograd.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Features of N images: x f32 [N, D], finite; labels I64 [N], from 0. N and D are 1 or more. There are as many classes as
 * the largest label of the training images says; a test image of a class beyond them is never recognised. */
typedef struct tsr_features {
    tsr_tensor *x, *labels;
} tsr_features;

/* Accuracies are fractions of the test images. top5 asks whether the label is among the first min(5, classes). */

/* ------------------------------------------------------------------ k-NN -------------------------------------------- */

enum { TSR_KNN_MAX_COUNTS = 16, TSR_KNN_MAX_K = 4096 };

/* NULL options: all zero, the protocol of Wu et al. 2018 as in iBOT's eval_knn.py. */
typedef struct tsr_knn_options {
    const int64_t *k;   /* neighbours, each 1 .. TSR_KNN_MAX_K; NULL: 10, 20, 100, 200 */
    int n_k;            /* at most TSR_KNN_MAX_COUNTS */
    double temperature; /* 0: 0.07 */
    void (*progress)(int64_t done, int64_t of, void *user); /* in test images; may be NULL */
    void *user;
} tsr_knn_options;

typedef struct tsr_knn_score {
    int64_t k;    /* asked for */
    int64_t used; /* min(k, N of the training images) */
    double top1, top5;
} tsr_knn_score;

typedef struct tsr_knn_result {
    tsr_knn_score scores[TSR_KNN_MAX_COUNTS]; /* in the order of the options */
    int n;
    int best; /* of the highest top1, the first of equals */
} tsr_knn_result;

/*
 * Each test image asks its k nearest training images by cosine similarity s (the first of equals); each votes for its class
 * with exp(s / temperature). Classes are ranked by votes, equal ones by label; a class without a vote is not ranked, and
 * top5 looks at no more than k. Memory beside the features: a few tens of MB. ARGUMENT, SHAPE, DTYPE, NUMERIC.
 */
TSR_API tsr_status tsr_knn_evaluate(const tsr_features *train, const tsr_features *test,
                                    const tsr_knn_options *options, tsr_knn_result *result);

/* ------------------------------------------------------------------ linear probe ------------------------------------ */

enum { TSR_LINEAR_MAX_RATES = 64 };

/* NULL options: all zero, iBOT's eval_linear_multi.py (its sweep of learning rates alone) on cached features. */
typedef struct tsr_linear_options {
    const double *
        rates; /* learning rates for 256 images a step; NULL: 1 .. 9 times 1e-4, 1e-3, 1e-2, 1e-1, 1 */
    int n_rates;    /* at most TSR_LINEAR_MAX_RATES */
    int64_t epochs; /* 0: 100 */
    int64_t batch;  /* images a step; 0: 1024; at most N */
    uint64_t seed;  /* of first weights and shuffles */
    /* Training features of each epoch, [N, D] in the order of the labels (of freshly augmented images, say); NULL: always
     * those given. */
    tsr_tensor *(*epoch_features)(int64_t epoch, void *user);
    void (*progress)(int64_t done, int64_t of, void *user); /* in steps; may be NULL */
    void *user;
} tsr_linear_options;

typedef struct tsr_linear_score {
    double rate, top1, top5;
} tsr_linear_score;

typedef struct tsr_linear_result {
    tsr_linear_score
        scores[TSR_LINEAR_MAX_RATES]; /* in the order of the options, after the last epoch */
    int n;
    int best; /* of the highest top1, the first of equals */
    tsr_tensor *weight,
        *bias; /* of the best: f32 [classes, D], [classes]; in the innermost scope */
} tsr_linear_result;

/*
 * Trains one linear classifier for each rate, all in one pass and one product: softmax cross-entropy, SGD with momentum 0.9,
 * no weight decay, rate r * batch / 256 falling to 0 by a cosine over the epochs, weights from N(0, 0.01^2) and biases 0 at
 * the start, the same for all rates. A rate that diverges recognises nothing. The best rate is the best on the test images:
 * that is the authors' protocol, and slightly optimistic. ARGUMENT, SHAPE, DTYPE, NUMERIC, MEMORY.
 */
TSR_API tsr_status tsr_linear_evaluate(const tsr_features *train, const tsr_features *test,
                                       const tsr_linear_options *options,
                                       tsr_linear_result *result);

/* ------------------------------------------------------------------ logistic regression ----------------------------- */

enum { TSR_LOGISTIC_MAX_PENALTIES = 16 };

/* NULL options: all zero. */
typedef struct tsr_logistic_options {
    const double *penalties; /* lambda, positive; NULL: 0.01, 0.1, 1 */
    int n_penalties;         /* at most TSR_LOGISTIC_MAX_PENALTIES */
    bool keep_norms; /* features as they are; otherwise each is scaled to length 1, as iBOT does */
    int64_t iterations; /* at most; 0: 300 */
    double tolerance;   /* 0: 1e-5 */
    /* In iterations of all penalties, of which most end before `of`; may be NULL. */
    void (*progress)(int64_t done, int64_t of, void *user);
    void *user;
} tsr_logistic_options;

typedef struct tsr_logistic_score {
    double penalty, top1, top5;
    double objective; /* F */
    double gradient;  /* the largest |dF / dW| */
    int64_t iterations;
    bool converged; /* gradient <= tolerance */
} tsr_logistic_score;

typedef struct tsr_logistic_result {
    tsr_logistic_score scores[TSR_LOGISTIC_MAX_PENALTIES]; /* in the order of the options */
    int n;
    int best; /* of the highest top1, the first of equals */
    tsr_tensor *
        weight; /* of the best: f32 [classes, D], for features of any length; in the innermost scope */
} tsr_logistic_result;

/*
 * Minimises over W [classes, D], without intercept,
 *
 *     F(W) = 1/n sum_i cross_entropy(W x_i, y_i) + lambda / (2 n) |W|^2
 *
 * by L-BFGS (Nocedal & Wright 2006, algorithm 7.4, ten pairs) in f64, with a line search by bisection for the weak Wolfe
 * conditions (Lewis & Overton 2013); each penalty starts where the one before ended. It ends when the largest |dF / dW| is
 * at most the tolerance. ARGUMENT, SHAPE, DTYPE, NUMERIC, MEMORY.
 */
TSR_API tsr_status tsr_logistic_evaluate(const tsr_features *train, const tsr_features *test,
                                         const tsr_logistic_options *options,
                                         tsr_logistic_result *result);

/* ------------------------------------------------------------------ unsupervised classification --------------------- */

/* How well clusters, found without labels, agree with labels. All are 1 where they are the same but for their names. */
typedef struct tsr_cluster_result {
    int64_t clusters, classes; /* that occur */
    /* The share of images in the class of their cluster, for the best assignment of clusters to classes, one to one; found
     * exactly (Kuhn 1955). Images of clusters beyond the number of classes are wrong. */
    double accuracy;
    double ari; /* adjusted Rand index (Hubert & Arabie 1985): 0 is what chance gives */
    double
        nmi; /* mutual information over the mean of the two entropies (Vinh et al. 2010, NMI_sum) */
    double
        fmi; /* Fowlkes & Mallows 1983: pairs in both, over the geometric mean of those in either */
} tsr_cluster_result;

/* clusters, labels: I64 [N], from 0, N 1 or more. As scikit-learn's metrics of these names. Work: min(K, C)^2 max(K, C) of K
 * clusters and C classes that occur, beside the N images. SHAPE, ARGUMENT, MEMORY. */
TSR_API tsr_status tsr_cluster_evaluate(tsr_tensor *clusters, tsr_tensor *labels,
                                        tsr_cluster_result *result);

#ifdef __cplusplus
}
#endif

#endif
