/* tessera knn: weighted nearest neighbours on frozen features. */
#include "recipes/cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct knn {
    tsr_knn_options options;
    int64_t k[TSR_KNN_MAX_COUNTS];
};

/* "10,20": whole numbers with commas */
static tsr_status parse_counts(const char *text, struct knn *knn)
{
    knn->options.k = knn->k;
    for (const char *p = text;; p++) {
        char *end;
        long long k = strtoll(p, &end, 10);
        if (end == p || k < 1 || k > TSR_KNN_MAX_K || knn->options.n_k == TSR_KNN_MAX_COUNTS) break;
        knn->k[knn->options.n_k++] = k;
        p = end;
        if (*p == '\0') return TSR_STATUS_OK;
        if (*p != ',') break;
    }
    return tsr_fail(TSR_STATUS_ARGUMENT,
                    "--k: got \"%.60s\", expected up to %d whole numbers from 1 to %d with commas",
                    text, TSR_KNN_MAX_COUNTS, TSR_KNN_MAX_K);
}

static void head(void *user)
{
    const struct knn *knn = user;
    printf("%-20s", "top-1 accuracy, %");
    for (int i = 0; i < knn->options.n_k; i++) {
        char text[32];
        snprintf(text, sizeof text, "k=%" PRId64, knn->k[i]);
        printf(" %7s", text);
    }
    printf(" %9s\n", "time");
}

static tsr_status row(const tsr_evaluation_row *r, void *user)
{
    const struct knn *knn = user;
    char what[64];
    snprintf(what, sizeof what, "%s, neighbours of test images", r->method);
    tsr_progress progress = {.what = what};
    tsr_knn_options o = knn->options;
    tsr_knn_result result;
    o.progress = tsr_progress__of;
    o.user = &progress;
    tsr_knn_evaluate(&r->train_features, &r->test_features, &o, &result);
    tsr_progress__end(&progress);
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    char time[TSR_SCREEN_DURATION];
    printf("%-20s", r->method);
    for (int i = 0; i < result.n; i++) printf(" %7.2f", 100.0 * result.scores[i].top1);
    printf(" %9s\n", tsr_screen__duration(tsr_screen__now() - r->start, time));
    if (r->classes <= 10) return TSR_STATUS_OK;
    printf("%-20s", "  top-5");
    for (int i = 0; i < result.n; i++) printf(" %7.2f", 100.0 * result.scores[i].top5);
    printf("\n");
    return TSR_STATUS_OK;
}

int tsr_command__knn(int argc, char **argv)
{
    struct knn knn = {.options = {.temperature = 0.07}};
    const char *counts = "10,20,100,200";
    tsr_evaluation e = TSR_EVALUATION_DEFAULT;
    int64_t seed = 0;
    const tsr_flag flags[] = {
        TSR_EVALUATION_FLAGS(e),
        {"k", TSR_FLAG_TEXT, &counts, "K,...", "numbers of neighbours; default 10,20,100,200"},
        {"temperature", TSR_FLAG_DOUBLE, &knn.options.temperature, "T",
         "of the votes; default 0.07", 1e-3, 100},
        TSR_WEIGHTS_FLAGS(e.frozen),
        TSR_FEATURE_FLAGS(e.frozen),
        {"seed", TSR_FLAG_INT, &seed, "N", "of the untrained network; default 0"},
    };
    tsr_arguments arguments = {
        .usage = "knn CHECKPOINT --data DIR [options]",
        .example = "knn RUN --data IMAGES --k 10,20",
        .description =
            "Classifies test images by their nearest training images, with the features of the\n"
            "checkpoint as they are: the quickest measure of what was learnt. The class token of the\n"
            "last block, cosine similarity, votes weighted by exp(similarity / T) (Wu et al. 2018;\n"
            "iBOT's eval_knn.py). CHECKPOINT is a file, or the directory of a run.",
        .flags = flags,
        .n_flags = sizeof flags / sizeof flags[0],
        .min_positional = 1,
        .max_positional = 1};
    int status = tsr_arguments__parse(&arguments, argc, argv);
    if (status >= 0) return status;
    if (parse_counts(counts, &knn) != TSR_STATUS_OK) {
        tsr_program__report();
        return TSR_EXIT_USAGE;
    }
    e.seed = (uint64_t)seed;
    e.last_blocks = 1;
    e.head = head;
    e.row = row;
    e.user = &knn;
    return tsr_evaluation__run(&e, arguments.positional[0]);
}
