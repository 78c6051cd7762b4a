// skim_policy_resolve against the oracle's own resolver.
#include "suite.h"

// Numbers that lie at the edges of everything: pages, budgets, the type.
static uint32_t edge_number(context *ctx, uint32_t page)
{
    static const uint32_t huge[] = {1u << 20, 1u << 31, UINT32_MAX - 63, UINT32_MAX};
    uint32_t pages = random_below(ctx, 70);
    switch (random_below(ctx, 6)) {
    case 0:
        return random_below(ctx, 4);
    case 1:
        return pages * page;
    case 2:
        return pages * page + 1;
    case 3:
        return pages * page + page - 1;
    case 4:
        return random_below(ctx, 3000);
    default:
        return random_below(ctx, 8) ? random_below(ctx, 200) : PICK(huge, random_u32(ctx));
    }
}

static skim_policy random_policy(context *ctx, uint32_t page)
{
    static const double fractions[] = {0.0, 0.0, 0.1, 0.25, 0.5, 1.0, 0.33, 1e-6};
    return (skim_policy){
        .size_of = sizeof(skim_policy),
        .budget = max_u32(1, edge_number(ctx, page)),
        .budget_fraction = PICK(fractions, random_u32(ctx)),
        .dense_layers = random_below(ctx, 4),
        .dense_below = random_below(ctx, 2) ? 0 : edge_number(ctx, page),
        .spread = 1.0f,
        .sink_pages = random_below(ctx, 2) ? 0 : edge_number(ctx, page),
        .recent_pages = random_below(ctx, 2) ? 1 : edge_number(ctx, page),
    };
}

// Forced pages as sets: counts may overlap when they cover everything.
static bool same_forced(const reference_plan *plan, const skim_row *row)
{
    uint64_t forced = (uint64_t)row->forced_first + row->forced_last;
    if (plan->forced_first + plan->forced_last == plan->page_count) {
        return forced >= plan->page_count;
    }
    return row->forced_first == plan->forced_first && row->forced_last == plan->forced_last;
}

static bool check_policy(context *ctx, const skim_policy *policy, uint32_t page)
{
    uint32_t layer = random_below(ctx, 5);
    skim_row row = {
        .length = max_u32(1, edge_number(ctx, page)), .query_start = 3, .table_start = 5};
    row.query_count = random_below(ctx, 3) ? 1 : min_u32(row.length, random_below(ctx, 5));
    reference_plan plan = reference_resolve(policy, layer, page, row.length, row.query_count);
    if (!ok(ctx, skim_policy_resolve(policy, layer, page, &row), "skim_policy_resolve")) {
        return false;
    }
    bool dense = row.flags & SKIM_ROW_DENSE;
    bool same = row.page_count == plan.page_count && dense == plan.dense &&
                min_u32(row.select_count, row.page_count) == plan.select_count &&
                same_forced(&plan, &row) && row.query_start == 3 && row.table_start == 5;
    return check(ctx, same,
                 "length %u, %u new, layer %u, budget %u, fraction %g, sinks %u, recent %u, "
                 "dense_layers %u, dense_below %u: "
                 "K %u of %u, forced %u + %u, dense %d; should be %u of %u, %u + %u, %d",
                 row.length, row.query_count, layer, policy->budget, policy->budget_fraction,
                 policy->sink_pages, policy->recent_pages, policy->dense_layers,
                 policy->dense_below, row.select_count, row.page_count, row.forced_first,
                 row.forced_last, dense, plan.select_count, plan.page_count, plan.forced_first,
                 plan.forced_last, plan.dense);
}

static void run_policy(context *ctx, const params *p)
{
    for (uint32_t i = 0; i < 2000; i++) {
        skim_policy policy = random_policy(ctx, p->page);
        if (!check_policy(ctx, &policy, p->page)) {
            return;
        }
    }
}

void add_policy_cases(case_table *table)
{
    for (size_t g = 0; g < COUNT_OF(all_pages); g++) {
        for (uint32_t n = 0; n < 4; n++) {
            params p = default_params();
            p.page = all_pages[g];
            p.variant = n;
            add_case(table, "policy", n == 0, run_policy, &p);
        }
    }
}
