/* How many threads loops and products use. */
#include "autograd/autograd.h"

#include <omp.h>
#include <stdatomic.h>

static atomic_int threads;

void tsr_threads_set(int n)
{
    atomic_store_explicit(&threads, n > 0 ? n : 0, memory_order_relaxed);
}

int tsr_threads(void)
{
    if (omp_in_parallel()) return 1; /* never nested */
    int n = atomic_load_explicit(&threads, memory_order_relaxed);
    if (n == 0) {
        n = omp_get_max_threads();
        atomic_store_explicit(&threads, n, memory_order_relaxed);
    }
    int limit = omp_get_thread_limit();
    return n < limit ? n : limit;
}
