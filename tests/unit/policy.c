#include "tests/unit/fixture.h"

#include <math.h>

static skim_row resolve(const skim_policy *policy, uint32_t layer, uint32_t page_size,
                        uint32_t length, uint32_t queries)
{
    skim_row row = {.length = length, .query_count = queries, .table_start = 7, .query_start = 3};
    assert_int_equal(skim_policy_resolve(policy, layer, page_size, &row), SKIM_OK);
    assert_int_equal(row.table_start, 7);
    assert_int_equal(row.query_start, 3);
    return row;
}

static skim_policy sparse(uint32_t budget)
{
    skim_policy policy = skim_policy_defaults();
    policy.budget = budget;
    policy.dense_layers = 0;
    return policy;
}

static void k_is_the_budget_in_whole_pages_and_at_least_one(void **state)
{
    (void)state;
    const struct {
        uint32_t budget, page_size, k;
    } cases[] = {{1, 16, 1},  {15, 16, 1}, {16, 16, 1},    {17, 16, 1},    {31, 16, 1},
                 {32, 16, 2}, {64, 8, 8},  {1000, 64, 15}, {1024, 64, 16}, {2048, 16, 128}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        skim_policy policy = sparse(cases[i].budget);
        skim_row row = resolve(&policy, 0, cases[i].page_size, 100000, 1);
        assert_int_equal(row.select_count, cases[i].k);
        assert_int_equal(row.flags, 0);
    }
}

static void forced_pages_raise_k_and_count_in_it(void **state)
{
    (void)state;
    skim_policy policy = sparse(64);
    policy.sink_pages = 1;
    policy.recent_pages = 2;
    skim_row row = resolve(&policy, 0, 16, 1600, 1);
    assert_int_equal(row.select_count, 4);
    assert_int_equal(row.forced_first, 1);
    assert_int_equal(row.forced_last, 2);
    policy.sink_pages = 5;
    row = resolve(&policy, 0, 16, 1600, 1);
    assert_int_equal(row.select_count, 7);
}

static void the_last_page_is_forced_even_with_no_recent_pages(void **state)
{
    (void)state;
    skim_policy policy = sparse(64);
    policy.recent_pages = 0;
    assert_int_equal(resolve(&policy, 0, 16, 1600, 1).forced_last, 1);
}

static void more_forced_pages_than_there_are_mean_dense(void **state)
{
    (void)state;
    skim_policy policy = sparse(16);
    policy.sink_pages = UINT32_MAX;
    policy.recent_pages = UINT32_MAX;
    skim_row row = resolve(&policy, 0, 16, 161, 1);
    assert_int_equal(row.page_count, 11);
    assert_int_equal(row.forced_first + row.forced_last, 11);
    assert_int_equal(row.flags, SKIM_ROW_DENSE);
}

static void pages_that_all_fit_mean_dense(void **state)
{
    (void)state;
    skim_policy policy = sparse(64);
    assert_int_equal(resolve(&policy, 0, 16, 64, 1).flags, SKIM_ROW_DENSE);
    assert_int_equal(resolve(&policy, 0, 16, 65, 1).flags, 0);
}

static void first_layers_short_sequences_and_prefill_are_dense(void **state)
{
    (void)state;
    skim_policy policy = sparse(64);
    policy.dense_layers = 2;
    policy.dense_below = 1000;
    assert_int_equal(resolve(&policy, 1, 16, 5000, 1).flags, SKIM_ROW_DENSE);
    assert_int_equal(resolve(&policy, 2, 16, 5000, 1).flags, 0);
    assert_int_equal(resolve(&policy, 2, 16, 5000, 2).flags, SKIM_ROW_DENSE);
    assert_int_equal(resolve(&policy, 2, 16, 999, 1).flags, SKIM_ROW_DENSE);
    assert_int_equal(resolve(&policy, 2, 16, 1000, 1).flags, 0);
}

static void a_fraction_of_the_length_replaces_the_budget(void **state)
{
    (void)state;
    skim_policy policy = sparse(16);
    policy.budget_fraction = 0.25;
    assert_int_equal(resolve(&policy, 0, 16, 6400, 1).select_count, 100);
    assert_int_equal(resolve(&policy, 0, 16, 6399, 1).select_count, 99);
    policy.budget_fraction = 1.0;
    assert_int_equal(resolve(&policy, 0, 16, 6400, 1).flags, SKIM_ROW_DENSE);
}

static void the_longest_length_does_not_overflow(void **state)
{
    (void)state;
    skim_policy policy = sparse(UINT32_MAX);
    skim_row row = resolve(&policy, 0, 8, UINT32_MAX, 1);
    assert_int_equal(row.page_count, 536870912u);
    policy.budget_fraction = 1.0;
    assert_int_equal(resolve(&policy, 0, 8, UINT32_MAX, 1).select_count, 536870911u);
}

static void refuses(skim_policy policy, uint32_t page_size, uint32_t length, uint32_t queries)
{
    skim_row row = {.length = length, .query_count = queries, .select_count = 77};
    skim_row before = row;
    assert_int_equal(skim_policy_resolve(&policy, 0, page_size, &row), SKIM_INVALID);
    assert_memory_equal(&row, &before, sizeof row);
}

static void what_is_out_of_range_is_refused(void **state)
{
    (void)state;
    const skim_policy good = sparse(64);
    skim_policy bad = good;
    bad.budget = 0;
    refuses(bad, 16, 100, 1);
    bad = good;
    bad.size_of = 4;
    refuses(bad, 16, 100, 1);
    const double fractions[] = {-0.1, 1.1, NAN, INFINITY};
    for (int i = 0; i < 4; i++) {
        bad = good;
        bad.budget_fraction = fractions[i];
        refuses(bad, 16, 100, 1);
    }
    const float spreads[] = {-1.0f, NAN, INFINITY};
    for (int i = 0; i < 3; i++) {
        bad = good;
        bad.spread = spreads[i];
        refuses(bad, 16, 100, 1);
    }
    bad = good;
    bad.select = (skim_select_mode)3;
    refuses(bad, 16, 100, 1);
    bad = good;
    bad.combine = (skim_combine)-1;
    refuses(bad, 16, 100, 1);
    refuses(good, 7, 100, 1);
    refuses(good, 128, 100, 1);
    refuses(good, 0, 100, 1);
    refuses(good, 16, 0, 0);
    refuses(good, 16, 100, 101);
    skim_row row = {.length = 1};
    assert_int_equal(skim_policy_resolve(NULL, 0, 16, &row), SKIM_INVALID);
    assert_int_equal(skim_policy_resolve(&good, 0, 16, NULL), SKIM_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(k_is_the_budget_in_whole_pages_and_at_least_one),
        cmocka_unit_test(forced_pages_raise_k_and_count_in_it),
        cmocka_unit_test(the_last_page_is_forced_even_with_no_recent_pages),
        cmocka_unit_test(more_forced_pages_than_there_are_mean_dense),
        cmocka_unit_test(pages_that_all_fit_mean_dense),
        cmocka_unit_test(first_layers_short_sequences_and_prefill_are_dense),
        cmocka_unit_test(a_fraction_of_the_length_replaces_the_budget),
        cmocka_unit_test(the_longest_length_does_not_overflow),
        cmocka_unit_test(what_is_out_of_range_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
