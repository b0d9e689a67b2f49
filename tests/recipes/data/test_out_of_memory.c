/* The n-th allocation from the pool fails, for every n: opening and loading end in an error or
 * without one, and give back all that they took. */
#include "tests/recipes/data/files.h"

#include "autograd/internal.h"

/* Opens the folder, makes three batches, closes. */
static void use(void)
{
    tsr_view_spec specs[] = {tsr_view_ibot_global1(8), tsr_view_ibot_local(4, 1), tsr_view_eval(8)};
    specs[0].mask = (tsr_mask_spec){TSR_MASK_BLOCK, 2, 1, {0.3}, {0.0}, 0};
    tsr_views views = {specs, 3};
    tsr_dataset *data = tsr_dataset_open(test_folder, NULL);
    tsr_loader *loader = tsr_loader_open_views(
        data, &views, &(tsr_loader_options){.batch = 2, .workers = 2, .prefetch = 1});
    for (int i = 0; i < 3; i++) tsr_batch_tensor(tsr_loader_next(loader), "global");
    tsr_loader_close(&loader);
    tsr_dataset_close(&data);
}

/* Walks n upward until a run asks for fewer than n. Threads may share the allocations out
 * differently each time. */
static void walk(void)
{
    int failures = 0;
    use(); /* what a thread keeps for good is not lost */
    assert_ok();
    for (int64_t n = 1;; n++) {
        size_t before = tsr_pool_stats_get().in_use;
        int64_t count = tsr_pool__allocations();
        tsr_pool__fail_at(n);
        tsr_scope scope = tsr_scope_open();
        use();
        tsr_scope_close(&scope, TSR_NO_TENSORS);
        tsr_pool__fail_at(0);
        if (tsr_pool_stats_get().in_use != before) {
            fail_msg("allocation %lld failed, and %zu bytes stay in use; %s", (long long)n,
                     tsr_pool_stats_get().in_use - before, tsr_message());
        }
        if (tsr_status_get() != TSR_STATUS_OK) {
            assert_int_equal(tsr_status_get(), TSR_STATUS_MEMORY);
            failures++;
        }
        tsr_status_clear();
        if (tsr_pool__allocations() - count < n) break;
        assert_true(n < 5000);
    }
    assert_true(failures > 10);
}

static void test_out_of_memory__folders(void **state)
{
    (void)state;
    make_folder("a"), make_folder("b");
    write_jpeg("a/1.jpg", 12, 12, 10);
    write_jpeg("a/2.jpg", 12, 12, 10);
    write_jpeg("b/1.jpg", 12, 12, 10);
    write_file("b/2.jpg", "not one", 7);
    walk();
}

static void test_out_of_memory__idx(void **state)
{
    (void)state;
    write_idx("train", 5, 2);
    walk();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        files_test(test_out_of_memory__folders),
        files_test(test_out_of_memory__idx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
