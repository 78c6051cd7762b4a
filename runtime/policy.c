// Source of the rule: docs/algorithm.md, "Select" (Quest, section 3.3, with forced pages counted in
// K).
#include "runtime/policy.h"

#include "runtime/mutant.h"
#include "runtime/validate.h"

#include <math.h>

skim_policy skim_policy_defaults(void)
{
    return (skim_policy){
        .size_of = sizeof(skim_policy),
        .budget = 1024,
        .dense_layers = 2,
        .spread = 1.0f,
        .recent_pages = 1,
    };
}

skim_status skim_policy_check(const skim_policy *policy, skim_policy *taken, skim_error *error)
{
    if (!skim_take(taken, sizeof *taken, policy))
        return skim_fail(error, SKIM_INVALID, "skim_policy.size_of is wrong");
    if (taken->budget == 0 && !(taken->budget_fraction > 0.0))
        return skim_fail(error, SKIM_INVALID, "a budget of 0 tokens reads nothing; use at least 1");
    if (!(taken->budget_fraction >= 0.0 && taken->budget_fraction <= 1.0))
        return skim_fail(error, SKIM_INVALID, "budget_fraction must lie between 0 and 1");
    if ((unsigned)taken->select > SKIM_SELECT_GROUP)
        return skim_fail(error, SKIM_INVALID, "unknown skim_select_mode %d", (int)taken->select);
    if ((unsigned)taken->combine > SKIM_COMBINE_SOFTMAX_MEAN)
        return skim_fail(error, SKIM_INVALID, "unknown skim_combine %d", (int)taken->combine);
    if (!(taken->spread >= 0.0f) || isinf(taken->spread))
        return skim_fail(error, SKIM_INVALID, "spread must be finite and not negative");
    return SKIM_OK;
}

bool skim_policy_equal(const skim_policy *a, const skim_policy *b)
{
    return a->budget == b->budget && a->budget_fraction == b->budget_fraction &&
           a->dense_layers == b->dense_layers && a->dense_below == b->dense_below &&
           a->select == b->select && a->combine == b->combine && a->spread == b->spread &&
           a->sink_pages == b->sink_pages && a->recent_pages == b->recent_pages;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

void skim_policy_row(const skim_policy *policy, bool dense_layer, uint32_t page_size, skim_row *row)
{
    uint32_t pages = row->length / page_size + (row->length % page_size != 0);
    uint32_t budget = policy->budget;
    if (policy->budget_fraction > 0.0)
        budget = (uint32_t)(policy->budget_fraction * row->length);
    uint32_t count = budget / page_size;
    if (SKIM_MUTANT(core_budget_rounds_up))
        count += budget % page_size != 0;
    if (count == 0)
        count = 1;

    uint32_t last = smaller(policy->recent_pages > 0 ? policy->recent_pages : 1, pages);
    uint32_t first = smaller(policy->sink_pages, pages - last);
    if (count < first + last)
        count = first + last;

    row->page_count = pages;
    row->select_count = count;
    row->forced_first = first;
    row->forced_last = last;
    bool dense =
        dense_layer || row->query_count > 1 || row->length < policy->dense_below || pages <= count;
    row->flags = (row->flags & ~SKIM_ROW_DENSE) | (dense ? SKIM_ROW_DENSE : 0);
}

skim_status skim_policy_resolve(const skim_policy *policy, uint32_t layer, uint32_t page_size,
                                skim_row *row)
{
    skim_policy taken;
    if (!row || skim_policy_check(policy, &taken, NULL) != SKIM_OK)
        return SKIM_INVALID;
    if (!skim_page_size_valid(page_size) || row->length == 0 || row->query_count > row->length)
        return SKIM_INVALID;
    skim_policy_row(&taken, layer < taken.dense_layers, page_size, row);
    return SKIM_OK;
}
