#include "reference.h"

#include <math.h>

reference_plan reference_resolve(const skim_policy *policy, uint32_t layer, uint32_t page_size,
                                 uint32_t length, uint32_t query_count)
{
    double budget = policy->budget;
    if (policy->budget_fraction > 0.0) {
        budget = floor(policy->budget_fraction * (double)length);
    }
    uint64_t pages = ((uint64_t)length + page_size - 1) / page_size;
    uint64_t first = policy->sink_pages;
    uint64_t last = policy->recent_pages > 1 ? policy->recent_pages : 1;
    last = last < pages ? last : pages;
    first = first < pages - last ? first : pages - last;
    uint64_t count = (uint64_t)floor(budget / page_size);
    if (count < 1) {
        count = 1;
    }
    if (count < first + last) {
        count = first + last;
    }
    bool fits = pages <= count;
    return (reference_plan){
        .page_count = (uint32_t)pages,
        .select_count = (uint32_t)(fits ? pages : count),
        .forced_first = (uint32_t)first,
        .forced_last = (uint32_t)last,
        .dense =
            fits || query_count > 1 || layer < policy->dense_layers || length < policy->dense_below,
    };
}

// logsumexp of scale * score over the pages that are not forced.
static double normaliser(const reference_plan *plan, double scale, const double *scores)
{
    double largest = -INFINITY;
    for (uint32_t page = 0; page < plan->page_count; page++) {
        if (!reference_forced(plan, page) && scale * scores[page] > largest) {
            largest = scale * scores[page];
        }
    }
    double sum = 0.0;
    for (uint32_t page = 0; page < plan->page_count; page++) {
        if (!reference_forced(plan, page)) {
            sum += exp(scale * scores[page] - largest);
        }
    }
    return largest + log(sum);
}

static double combine_page(skim_combine combine, const double *values, uint32_t heads)
{
    double largest = values[0];
    double sum = 0.0;
    for (uint32_t h = 0; h < heads; h++) {
        largest = values[h] > largest ? values[h] : largest;
        sum += values[h];
    }
    if (combine == SKIM_COMBINE_MAX || combine == SKIM_COMBINE_SOFTMAX_MAX ||
        combine == SKIM_COMBINE_DEFAULT) {
        return largest;
    }
    if (combine == SKIM_COMBINE_MEAN) {
        return sum / heads;
    }
    double exponentials = 0.0;
    for (uint32_t h = 0; h < heads; h++) {
        exponentials += exp(values[h] - largest);
    }
    return largest + log(exponentials / heads);
}

void reference_combine(const reference_plan *plan, skim_combine combine, double scale,
                       const double *scores, size_t stride, uint32_t heads, double *combined)
{
    bool softmax = combine != SKIM_COMBINE_MAX && combine != SKIM_COMBINE_MEAN;
    double norms[256] = {0};
    for (uint32_t h = 0; softmax && h < heads; h++) {
        norms[h] = normaliser(plan, scale, scores + h * stride);
    }
    for (uint32_t page = 0; page < plan->page_count; page++) {
        combined[page] = 0.0;
        if (reference_forced(plan, page)) {
            continue;
        }
        double values[256] = {0};
        for (uint32_t h = 0; h < heads; h++) {
            double score = scores[h * stride + page];
            values[h] = softmax ? scale * score - norms[h] : score;
        }
        combined[page] = combine_page(combine, values, heads);
    }
}

// A page is chosen when fewer than the free places are taken by pages that come before it.
static bool is_chosen(const reference_plan *plan, const double *combined, uint32_t page)
{
    uint32_t before = 0;
    uint32_t places = plan->select_count - plan->forced_first - plan->forced_last;
    for (uint32_t other = plan->forced_first; other < plan->page_count - plan->forced_last;
         other++) {
        if (combined[other] > combined[page] ||
            (combined[other] == combined[page] && other < page)) {
            before++;
        }
    }
    return before < places;
}

uint32_t reference_select(const reference_plan *plan, const double *combined, uint32_t *list)
{
    uint32_t count = 0;
    for (uint32_t page = 0; page < plan->page_count; page++) {
        if (reference_forced(plan, page) || is_chosen(plan, combined, page)) {
            list[count++] = page;
        }
    }
    return count;
}
