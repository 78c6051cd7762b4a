// select: lists from scores that the suite writes itself, with ties, near-ties and harmful values.
#include "rig.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef enum score_pattern {
    SCORES_NORMAL,
    SCORES_INTEGER, // few values, many ties
    SCORES_EQUAL,   // nothing but ties
    SCORES_ULP,     // neighbours in f32
    SCORES_RISING,
    SCORES_FALLING,
    SCORES_ZERO,   // +0 and -0, which are equal
    SCORES_HUGE,   // up to 1e30, both signs
    SCORES_TINY,   // subnormal
    SCORES_LEVELS, // two plateaus, the edge of the list between or inside them
    SCORES_POISON, // one head has NaN and Inf
    SCORES_PATTERNS
} score_pattern;

static float pattern_score(context *ctx, score_pattern pattern, uint32_t page, uint32_t pages)
{
    switch (pattern) {
    case SCORES_INTEGER:
        return (float)random_below(ctx, 7) - 3.0f;
    case SCORES_EQUAL:
        return -2.5f;
    case SCORES_ULP:
        return nextafterf(17.0f, random_below(ctx, 2) ? 18.0f : 17.0f);
    case SCORES_RISING:
        return (float)page * 0.25f - 7.0f;
    case SCORES_FALLING:
        return 7.0f - (float)page * 0.25f;
    case SCORES_ZERO:
        return random_below(ctx, 2) ? 0.0f : -0.0f;
    case SCORES_HUGE:
        return (float)(random_normal(ctx) * pow(10.0, random_unit(ctx) * 30.0));
    case SCORES_TINY:
        return (float)((random_unit(ctx) - 0.5) * 1e-39);
    case SCORES_LEVELS:
        return page * 2 < pages ? 3.0f : 3.5f;
    case SCORES_NORMAL:
    case SCORES_POISON:
    case SCORES_PATTERNS:
    default:
        return (float)(8.0 * random_normal(ctx));
    }
}

// The forced pages' scores stay poisoned: select must not use them.
static void write_scores(rig *r, score_pattern pattern)
{
    float *scores = (float *)(void *)region_bytes(&r->scores);
    for (uint32_t i = 0; i < r->row_count; i++) {
        const reference_plan *plan = &r->rows[i].plan;
        for (uint32_t head = 0; head < r->q_heads; head++) {
            float *row = scores + ((size_t)i * r->q_heads + head) * r->score_stride;
            for (uint32_t page = 0; page < plan->page_count; page++) {
                if (!reference_forced(plan, page)) {
                    row[page] = pattern_score(r->ctx, pattern, page, plan->page_count);
                }
            }
        }
    }
}

// Rows of several lengths and budgets, one of them dense and one without a query.
static void plan_rows(rig *r, const params *p)
{
    const uint32_t lengths[] = {p->length, p->length + 3 * p->page, p->page, p->length,
                                p->length / 2 + 1};
    const uint32_t queries[] = {1, 1, 1, 0, 1};
    uint32_t count = p->batch == BATCH_ONE ? 1 : COUNT_OF(lengths);
    for (uint32_t i = 0; i < count; i++) {
        r->rows[i].length = lengths[i];
        r->rows[i].queries = queries[i];
        r->rows[i].query_start = i;
        r->rows[i].plan = reference_resolve(&r->policy, 0, p->page, lengths[i], queries[i]);
    }
    r->row_count = count;
    r->token_count = count;
}

static bool make_select_rig(context *ctx, rig *r, const params *p)
{
    *r = (rig){.ctx = ctx, .p = p, .policy = policy_of(p), .select = p->select};
    r->q_heads = p->group * p->kv_heads;
    plan_rows(r, p);
    uint32_t pages = ceil_div(p->length, p->page) + 3;
    r->shape = (skim_shape){
        .size_of = sizeof(skim_shape),
        .q_heads = r->q_heads,
        .kv_heads = p->kv_heads,
        .key_dim = p->dim,
        .page_size = p->page,
        .type = p->kv,
        .slots = 1,
        .max_rows = r->row_count,
        .max_tokens = r->row_count,
        .max_pages = pages,
    };
    r->score_stride = pages + p->variant % 2;
    r->list_stride = pages;
    r->lists_per_row = r->select == SKIM_SELECT_HEAD ? r->q_heads : p->kv_heads;
    uint64_t scores = (uint64_t)r->row_count * r->q_heads * r->score_stride * 4;
    uint64_t lists = (uint64_t)r->row_count * r->lists_per_row * r->list_stride * 4;
    return ok(ctx, skim_queue_prepare(ctx->queue, &r->shape), "skim_queue_prepare") &&
           region_init(ctx, &r->scores, scores, 16, SKIM_F32) &&
           region_init(ctx, &r->lists, lists, 16, SKIM_U32) && region_upload(ctx, &r->lists);
}

// Rows that are dense or have no query get no list.
static bool check_skipped_rows(rig *r)
{
    for (uint32_t i = 0; i < r->row_count; i++) {
        uint64_t size = (uint64_t)r->lists_per_row * r->list_stride * 4;
        if (!rig_is_sparse(&r->rows[i]) &&
            !region_same(r->ctx, &r->lists, "the lists of a row without any", i * size, size)) {
            return false;
        }
    }
    return true;
}

// Harmful scores in the first query head: its own lists are valid, all others are right.
static bool check_poisoned(rig *r)
{
    if (!region_fetch(r->ctx, &r->lists) || !region_guards(r->ctx, &r->lists, "lists")) {
        return false;
    }
    for (uint32_t i = 0; i < r->row_count; i++) {
        for (uint32_t list = 0; rig_is_sparse(&r->rows[i]) && list < r->lists_per_row; list++) {
            char what[48];
            snprintf(what, sizeof what, "list: row %u, list %u", i, list);
            uint32_t head = r->select == SKIM_SELECT_HEAD ? list : list * r->p->group;
            if (!verify_list_form(r->ctx, what, &r->rows[i].plan, rig_list(r, i, head),
                                  r->rows[i].plan.select_count)) {
                return false;
            }
        }
    }
    return true;
}

static void poison_scores(rig *r)
{
    static const uint32_t harmful[] = {0x7fc00000, 0x7f800000, 0xff800000, 0xffffffff,
                                       0x7fffffff, 0xffc00000, 0x7f800001, 0xff800001};
    float *scores = (float *)(void *)region_bytes(&r->scores);
    for (uint32_t i = 0; i < r->row_count; i++) {
        float *row = scores + (size_t)i * r->q_heads * r->score_stride;
        for (uint32_t page = i % 2; page < r->rows[i].plan.page_count; page += 1 + i % 3) {
            // Quiet, signalling and all-ones NaN of both signs among the infinities.
            memcpy(&row[page], &PICK(harmful, page), sizeof row[page]);
        }
    }
}

// The lists that the poison cannot reach are those of a clean run.
static bool check_others(rig *r)
{
    uint32_t *before = take(r->ctx, r->lists.size / 4, 4);
    memcpy(before, region_copy(&r->lists), r->lists.size);
    poison_scores(r);
    if (!region_upload(r->ctx, &r->scores) || !rig_select(r) || !check_poisoned(r)) {
        return false;
    }
    const uint32_t *after = (const uint32_t *)(const void *)region_copy(&r->lists);
    for (uint32_t i = 0; i < r->row_count; i++) {
        for (uint32_t list = 1; list < r->lists_per_row; list++) {
            size_t at = ((size_t)i * r->lists_per_row + list) * r->list_stride;
            if (memcmp(before + at, after + at, r->list_stride * 4ull) != 0) {
                return fail(r->ctx, "list: row %u, list %u changed with another head's scores", i,
                            list);
            }
        }
    }
    return true;
}

static void run_select(context *ctx, const params *p)
{
    rig r;
    score_pattern pattern = (score_pattern)(p->variant / 2);
    if (!make_select_rig(ctx, &r, p)) {
        return;
    }
    write_scores(&r, pattern);
    bool done = rig_must_be_sparse(&r) && region_upload(ctx, &r.scores) && rig_select(&r) &&
                rig_check_lists(&r) && check_skipped_rows(&r) &&
                (pattern != SCORES_POISON || check_others(&r));
    (void)done;
}

static params varied(uint32_t i)
{
    static const uint32_t pages[] = {9, 2, 3, 31, 33, 64, 65, 16, 100, 127, 129, 257, 8, 40};
    static const uint32_t forced[][2] = {{0, 1}, {1, 1}, {2, 3}, {0, 4}, {4, 1}, {0, 0}, {1, 2}};
    params p = default_params();
    p.dim = PICK(all_dims, i);
    p.page = PICK(all_pages, i / 3);
    p.length = PICK(pages, i) * p.page - i % p.page;
    uint32_t count = ceil_div(p.length, p.page);
    const uint32_t chosen[] = {count / 2, 1, count - 1, 2, count / 3 + 1, count - 2, 5};
    p.budget = max_u32(1, PICK(chosen, i / 2)) * p.page;
    p.sinks = PICK(forced, i / 2)[0];
    p.recent = PICK(forced, i / 2)[1];
    p.scale = i % 6 == 4 ? 0.5f : 0.0f;
    p.batch = i % 3 == 2 ? BATCH_DECODE : BATCH_ONE;
    return p;
}

static void add_mode(case_table *table, uint32_t *i, uint32_t pattern, uint32_t group,
                     skim_select_mode mode, skim_combine combine)
{
    params p = varied(*i);
    p.group = group;
    p.kv_heads = PICK(all_kv_heads, *i / 2);
    p.select = mode;
    p.combine = combine;
    p.variant = 2 * pattern + *i % 2;
    add_case(table, "select", *i % 9 == 0, run_select, &p);
    ++*i;
}

static void add_large(case_table *table, uint32_t *i)
{
    static const uint32_t pages[] = {512, 1000, 1025, 2048, 2049, 3000};
    for (uint32_t n = 0; n < 3 * COUNT_OF(pages); n++, ++*i) {
        params p = varied(*i);
        p.page = 8;
        p.length = PICK(pages, n) * 8;
        p.budget = (n % 2 ? 100 : PICK(pages, n) / 2) * 8;
        p.group = 1 + n % 4;
        p.kv_heads = 1 + n % 2;
        p.select = n % 3 ? SKIM_SELECT_GROUP : SKIM_SELECT_HEAD;
        p.combine = PICK(all_combines, n);
        p.variant = 2 * (n % SCORES_POISON);
        add_case(table, "select", n < 2, run_select, &p);
    }
}

void add_select_cases(case_table *table)
{
    const size_t first = table->count;
    uint32_t i = 0;
    for (uint32_t pattern = 0; pattern < SCORES_PATTERNS; pattern++) {
        for (size_t g = 0; g < COUNT_OF(all_groups); g++) {
            add_mode(table, &i, pattern, all_groups[g], SKIM_SELECT_HEAD, SKIM_COMBINE_DEFAULT);
            for (size_t c = 0; c < COUNT_OF(all_combines); c++) {
                add_mode(table, &i, pattern, all_groups[g], SKIM_SELECT_GROUP, all_combines[c]);
            }
        }
        add_mode(table, &i, pattern, 4, SKIM_SELECT_AUTO, SKIM_COMBINE_DEFAULT);
        add_mode(table, &i, pattern, 1, SKIM_SELECT_AUTO, SKIM_COMBINE_DEFAULT);
    }
    add_large(table, &i);
    add_i8_twins(table, first, 3);
}
