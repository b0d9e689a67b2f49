/*
 * How a supervised step of ViT-S/16 grows with the batch, the image and the threads, f32: the best step of two seconds' and of
 * two at least, and microseconds a token. Attention's part grows with the square of the tokens of an image; the rest is linear
 * in all tokens.
 */
#include "tests/bench/bench.h"
#include "tests/bench/classifier.h"

#include <stdio.h>

static double best_step(int threads, int64_t batch, int64_t side)
{
    tsr_scope scope = tsr_scope_open();
    tsr_threads_set(threads);
    classifier *m = classifier_make("vit_small", batch);
    double best = 0.0;
    if (m != NULL) {
        m->images = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(batch, 3, side, side));
        tsr_fill_normal(m->images, tsr_rng_make(1, 0, 0, 0), 0.0, 1.0);
        classifier_step(m);
        double begin = bench_seconds();
        for (int i = 0; i < 2 || bench_seconds() - begin < 2.0; i++) {
            double start = bench_seconds();
            classifier_step(m);
            double seconds = bench_seconds() - start;
            if (i == 0 || seconds < best) best = seconds;
        }
    }
    classifier_free(&m);
    tsr_scope_close(&scope, TSR_NO_TENSORS);
    return best;
}

static void line(int64_t batch, int64_t side, bool both)
{
    int most = tsr_threads();
    double all = best_step(most, batch, side);
    int64_t tokens = batch * (side / 16 * (side / 16) + 1);
    printf("batch %3lld, %3lld px: %8.1f ms, %6.1f us a token", (long long)batch, (long long)side,
           1e3 * all, 1e6 * all / (double)tokens);
    if (both) printf(", %d threads %.2f times one", most, best_step(1, batch, side) / all);
    printf("\n");
    fflush(stdout);
    tsr_threads_set(most);
}

int main(void)
{
    static const int64_t batches[] = {1, 4, 16, 64}, sides[] = {96, 160, 384, 512};
    for (int i = 0; i < 4; i++) line(batches[i], 224, batches[i] <= 16);
    for (int i = 0; i < 4; i++) line(4, sides[i], true);
    if (tsr_status_get() == TSR_STATUS_OK) return 0;
    fprintf(stderr, "bench_growth: %s\n", tsr_message());
    return 1;
}
