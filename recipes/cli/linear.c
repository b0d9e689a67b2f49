/* tessera linear: a linear classifier on frozen features, by SGD or by logistic regression. */
#include "recipes/cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct linear {
    bool logistic, augment;
    double rates[TSR_LINEAR_MAX_RATES], penalties[TSR_LOGISTIC_MAX_PENALTIES];
    tsr_linear_options sgd;
    tsr_logistic_options regression;
};

/* "0.1,1": positive numbers with commas, into values; -1 with a message otherwise */
static int parse_numbers(const char *name, const char *text, double *values, int max)
{
    const char *p = text;
    int n = 0;
    for (;; p++) {
        char *end;
        double x = strtod(p, &end);
        if (end == p || !(x > 0.0 && x < 1e9) || n == max) break;
        values[n++] = x;
        p = end;
        if (*p == '\0') return n;
        if (*p != ',') break;
    }
    tsr_fail(TSR_STATUS_ARGUMENT,
             "--%s: got \"%.60s\", expected up to %d positive numbers with commas", name, text,
             max);
    return -1;
}

static void head(void *user)
{
    const struct linear *l = user;
    printf("%-20s %7s %7s %9s %9s\n", "accuracy, %", "top-1", "top-5",
           l->logistic ? "penalty" : "rate", "time");
}

static void print_row(const tsr_evaluation_row *r, double top1, double top5, double setting)
{
    char time[TSR_SCREEN_DURATION];
    printf("%-20s %7.2f %7.2f %9.4g %9s\n", r->method, 100.0 * top1, 100.0 * top5, setting,
           tsr_screen__duration(tsr_screen__now() - r->start, time));
}

/* Fresh crops of the training images for each epoch. */
static tsr_tensor *augmented(int64_t epoch, void *user)
{
    const tsr_evaluation_row *r = user;
    tsr_extract_options o = r->extract;
    tsr_features features = {0};
    char what[64];
    snprintf(what, sizeof what, "%s, images of epoch %" PRId64, r->method, epoch + 1);
    tsr_progress progress = {.what = what};
    o.augment = true;
    o.epoch = epoch;
    o.progress = tsr_progress__of;
    o.user = &progress;
    tsr_features_extract(r->backbone, r->train, &o, &features);
    tsr_progress__end(&progress);
    return features.x;
}

static tsr_status row(const tsr_evaluation_row *r, void *user)
{
    const struct linear *l = user;
    char what[64];
    snprintf(what, sizeof what, "%s, %s", r->method,
             l->logistic ? "iterations, fewer if it converges" : "steps");
    tsr_progress progress = {.what = what};
    if (l->logistic) {
        tsr_logistic_options o = l->regression;
        tsr_logistic_result result;
        o.progress = tsr_progress__of;
        o.user = &progress;
        tsr_logistic_evaluate(&r->train_features, &r->test_features, &o, &result);
        tsr_progress__end(&progress);
        if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
        const tsr_logistic_score *best = &result.scores[result.best];
        print_row(r, best->top1, best->top5, best->penalty);
        return TSR_STATUS_OK;
    }
    tsr_linear_options o = l->sgd;
    tsr_linear_result result;
    if (l->augment) {
        o.epoch_features = augmented;
        o.user = (void *)(uintptr_t)r;
    } else {
        o.progress = tsr_progress__of;
        o.user = &progress;
    }
    tsr_linear_evaluate(&r->train_features, &r->test_features, &o, &result);
    tsr_progress__end(&progress);
    if (tsr_status_get() != TSR_STATUS_OK) return tsr_status_get();
    const tsr_linear_score *best = &result.scores[result.best];
    print_row(r, best->top1, best->top5, best->rate);
    return TSR_STATUS_OK;
}

int tsr_command__linear(int argc, char **argv)
{
    struct linear l = {0};
    const char *classifier = "sgd", *rates = NULL, *penalties = NULL;
    tsr_evaluation e = TSR_EVALUATION_DEFAULT;
    int64_t seed = 0;
    const tsr_flag flags[] = {
        TSR_EVALUATION_FLAGS(e),
        {"classifier", TSR_FLAG_TEXT, &classifier, "KIND",
         "sgd, or logistic for regression by L-BFGS; default sgd"},
        {"epochs", TSR_FLAG_INT, &l.sgd.epochs, "N", "sgd: passes over the features; default 100",
         1, 1e6},
        {"sgd-batch", TSR_FLAG_INT, &l.sgd.batch, "N", "sgd: images in a step; default 1024", 1,
         1e6},
        {"rates", TSR_FLAG_TEXT, &rates, "R,...",
         "sgd: learning rates for a batch of 256, trained at once; default 1 to 9 times 1e-4 to 1"},
        {"augment", TSR_FLAG_SWITCH, &l.augment, NULL,
         "sgd: fresh random crops in each epoch, as the authors do; a pass of the network each"},
        {"penalties", TSR_FLAG_TEXT, &penalties, "L,...",
         "logistic: weights of |W|^2; default 0.01,0.1,1"},
        {"iterations", TSR_FLAG_INT, &l.regression.iterations, "N",
         "logistic: at most, for each penalty; default 300", 1, 1e6},
        TSR_WEIGHTS_FLAGS(e.frozen),
        TSR_FEATURE_FLAGS(e.frozen),
        {"seed", TSR_FLAG_INT, &seed, "N", "of first weights, shuffles and crops; default 0"},
    };
    tsr_arguments arguments = {
        .usage = "linear CHECKPOINT --data DIR [options]",
        .example = "linear RUN --data IMAGES",
        .description =
            "Trains linear classifiers on the features of a checkpoint, which stay as they are, one for\n"
            "each learning rate at once, and reports the best on the test images with its rate (iBOT's\n"
            "eval_linear_multi.py). Features: class tokens of the last 4 blocks; from dim 768 on, class\n"
            "token and mean patch token of the last. CHECKPOINT is a file, or the directory of a run.",
        .flags = flags,
        .n_flags = sizeof flags / sizeof flags[0],
        .min_positional = 1,
        .max_positional = 1};
    int status = tsr_arguments__parse(&arguments, argc, argv);
    if (status >= 0) return status;
    l.logistic = strcmp(classifier, "logistic") == 0;
    if (!l.logistic && strcmp(classifier, "sgd") != 0) {
        tsr_fail(TSR_STATUS_ARGUMENT, "--classifier: got \"%.40s\", expected sgd or logistic",
                 classifier);
    }
    if (l.logistic && l.augment) {
        tsr_fail(TSR_STATUS_ARGUMENT,
                 "--augment: logistic regression sees the same features throughout");
    }
    if (rates != NULL) {
        l.sgd.rates = l.rates;
        l.sgd.n_rates = parse_numbers("rates", rates, l.rates, TSR_LINEAR_MAX_RATES);
    }
    if (penalties != NULL) {
        l.regression.penalties = l.penalties;
        l.regression.n_penalties =
            parse_numbers("penalties", penalties, l.penalties, TSR_LOGISTIC_MAX_PENALTIES);
    }
    if (tsr_status_get() != TSR_STATUS_OK) {
        tsr_program__report();
        return TSR_EXIT_USAGE;
    }
    l.sgd.seed = e.seed = (uint64_t)seed;
    e.small_4_large_both = true;
    e.head = head;
    e.row = row;
    e.user = &l;
    return tsr_evaluation__run(&e, arguments.positional[0]);
}
