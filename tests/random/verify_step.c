// One attend against the oracle: the report, the list, the result.
#include "random.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static reference_plan plan_of(const cache_model *c, uint32_t layer, uint32_t entry,
                              const skim_policy *policy)
{
    const member_model *m = &c->step.members[entry];
    return reference_resolve(policy, layer, c->page_size,
                             c->sequences[m->sequence].length + m->tokens, m->tokens);
}

static bool is_group(const world *w, uint32_t layer, const skim_policy *policy)
{
    return policy->select == SKIM_SELECT_GROUP ||
           (policy->select == SKIM_SELECT_AUTO && w->layers[layer].group > 1);
}

bool verify_report(world *w, cache_model *c, uint32_t layer, const skim_policy *policy)
{
    context *ctx = &c->ctx;
    skim_step_report report = {.size_of = sizeof report};
    if (!ok(ctx, skim_step_get_report(c->step.handle, layer, &report), "skim_step_get_report"))
        return false;
    const params *p = &w->layers[layer];
    uint32_t lists = is_group(w, layer, policy) ? p->kv_heads : p->group * p->kv_heads;
    uint64_t total = 0, read = 0;
    uint32_t sparse = 0;
    for (uint32_t i = 0; i < c->step.count; i++) {
        reference_plan plan = plan_of(c, layer, i, policy);
        total += (uint64_t)lists * plan.page_count;
        read += (uint64_t)lists * (plan.dense ? plan.page_count : plan.select_count);
        sparse += !plan.dense;
    }
    w->counts.sparse += sparse;
    return check(ctx,
                 report.sparse_sequences == sparse &&
                     report.dense_sequences == c->step.count - sparse && report.lists == lists &&
                     report.pages_total == total && report.pages_read == read,
                 "report of layer %u: %u sparse, %u lists, %" PRIu64 " of %" PRIu64
                 " pages; should be %u, %u, %" PRIu64 " of %" PRIu64,
                 layer, report.sparse_sequences, report.lists, report.pages_read,
                 report.pages_total, sparse, lists, read, total);
}

// A list against the reference's scores.
static bool verify_scores(world *w, cache_model *c, uint32_t layer, const skim_policy *policy,
                          const history *h, uint32_t head, const float *q,
                          const reference_plan *plan, const uint32_t *list, uint32_t count)
{
    context *ctx = &c->ctx;
    params own = w->layers[layer];
    own.bounds = c->bounds;
    own.spread = policy->spread;
    page_bounds bounds;
    known_centre centre;
    if (!read_centre(w, c, layer, &centre))
        return false;
    if (isinf(centre.slack)) // then the form alone is known
        return verify_list_form(ctx, "list", plan, list, count);
    bounds_around(ctx, &bounds, h, c->page_size, c->bounds, &centre);
    bool group = is_group(w, layer, policy);
    uint32_t heads = group ? own.group : 1;
    uint32_t first = head / heads * heads;
    skim_combine combine = group ? policy->combine : SKIM_COMBINE_MAX;
    double scale = default_scale(&own), worst = 0.0;
    double *scores = take(ctx, (size_t)heads * plan->page_count, sizeof *scores);
    double *combined = take(ctx, plan->page_count, sizeof *combined);
    for (uint32_t i = 0; i < heads * plan->page_count; i++) {
        uint32_t page = i % plan->page_count;
        double tolerance;
        scores[i] =
            expected_score(&own, &bounds, page, head / own.group,
                           q + (size_t)(first + i / plan->page_count) * own.dim, &tolerance);
        worst = !reference_forced(plan, page) && tolerance > worst ? tolerance : worst;
    }
    bool logarithms = combine != SKIM_COMBINE_MAX && combine != SKIM_COMBINE_MEAN;
    reference_combine(plan, combine, scale, scores, plan->page_count, heads, combined);
    double tolerance = combine_tolerance(plan, combine, scale, scores, plan->page_count, heads) +
                       2.0 * worst * (logarithms ? scale : 1.0);
    char what[80];
    snprintf(what, sizeof what, "list of layer %u, %u tokens, head %u", layer, h->length, head);
    return verify_list(ctx, what, plan, combined, tolerance, list, count);
}

// What stays of a head's keys and values, for the oracle to look at when the result is there.
static history *keep_head(context *ctx, const history *h, uint32_t kv_head, uint32_t tokens)
{
    history *kept = take(ctx, 1, sizeof *kept);
    *kept = (history){.kv_heads = 1,
                      .dim = h->dim,
                      .group = UINT32_MAX,
                      .type = h->type,
                      .length = tokens,
                      .capacity = tokens};
    kept->k = take(ctx, (size_t)tokens * h->dim, sizeof *kept->k);
    kept->v = take(ctx, (size_t)tokens * h->dim, sizeof *kept->v);
    for (uint32_t t = 0; t < tokens; t++) {
        memcpy(history_key(kept, t, 0), history_key(h, t, kv_head), h->dim * sizeof *kept->k);
        memcpy(history_value(kept, t, 0), history_value(h, t, kv_head), h->dim * sizeof *kept->v);
    }
    return kept;
}

static bool sample_list(world *w, cache_model *c, uint32_t layer, uint32_t entry,
                        const skim_policy *policy, const float *queries, attention *a)
{
    context *ctx = &c->ctx;
    const params *p = &w->layers[layer];
    const member_model *m = &c->step.members[entry];
    const history *h = &c->sequences[m->sequence].layers[layer];
    reference_plan plan = plan_of(c, layer, entry, policy);
    uint32_t *list = take(ctx, plan.page_count, sizeof *list);
    if (!ok(ctx,
            skim_step_pages(c->step.handle, entry, a->q_head, list, plan.page_count,
                            &a->list_count),
            "skim_step_pages"))
        return false;
    a->list = list;
    // NaN and Inf choose any pages, but the form of their lists is right.
    if (c->sequences[m->sequence].harmful != UINT32_MAX)
        return verify_list_form(ctx, "list", &plan, list, a->list_count);
    const float *q = queries + (size_t)a->token * p->group * p->kv_heads * p->dim;
    return verify_scores(w, c, layer, policy, h, a->q_head, q, &plan, list, a->list_count);
}

bool sample_attend(world *w, cache_model *c, uint32_t layer, const skim_policy *policy,
                   const float *queries, pending_attend *pending)
{
    const params *p = &w->layers[layer];
    uint32_t entry = below(w, c->step.count);
    const member_model *m = &c->step.members[entry];
    const history *h = &c->sequences[m->sequence].layers[layer];
    uint32_t q_heads = p->group * p->kv_heads;
    uint32_t head = below(w, q_heads);
    uint32_t token = once_in(w, 2) ? m->tokens - 1 : below(w, m->tokens);
    attention a = {.page_size = c->page_size,
                   .scale = default_scale(p),
                   .position = h->length - m->tokens + token,
                   .q_head = head,
                   .token = m->start + token};
    a.q = queries + ((size_t)a.token * q_heads + head) * p->dim;
    a.h = keep_head(&c->ctx, h, head / p->group, a.position + 1);
    if (!plan_of(c, layer, entry, policy).dense &&
        !sample_list(w, c, layer, entry, policy, queries, &a))
        return false;
    // Results that read NaN or Inf are not specified.
    if (c->sequences[m->sequence].harmful == UINT32_MAX)
        pending->samples[pending->count++] = a;
    return true;
}
