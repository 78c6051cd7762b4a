// estimate: every page's score, from bounds that append made.
#include "rig.h"

static void run_estimate(context *ctx, const params *p)
{
    rig r;
    bool done = rig_init(ctx, &r, p) && rig_must_be_sparse(&r) && rig_append(&r) &&
                rig_estimate(&r) && rig_check_scores(&r);
    (void)done;
}

// Figure 5 of the Quest paper: two pages of two keys each (their minimum and maximum) and a query
// of 8 channels, whose scores are 39 and 35 (the paper misprints 32). The other channels are 0.
static void run_figure(context *ctx, const params *p)
{
    static const float q[8] = {-1, 1, 3, 0, 1, 0, -3, 2};
    static const float keys[4][8] = {{-3, -4, -1, -1, -1, -4, -4, -4},
                                     {4, 3, 4, 3, 3, 2, 1, 3},
                                     {-4, -3, -3, -3, -3, 2, -3, -2},
                                     {2, 2, 3, 3, 3, 3, 0, 4}};
    rig r;
    if (!rig_init(ctx, &r, p)) {
        return;
    }
    for (uint32_t token = 0; token < p->length; token++) {
        float *key = history_key(&r.rows[0].h, token, 0);
        for (uint32_t d = 0; d < p->dim; d++) {
            key[d] = d < 8 ? keys[token / p->page % 2 * 2 + token % 2][d] : 0.0f;
        }
    }
    float *query = take(ctx, p->dim, sizeof *query);
    for (uint32_t d = 0; d < 8; d++) {
        query[d] = q[d];
    }
    box_set(&r.q, 0, query);
    if (!rig_append(&r) || !rig_estimate(&r) || !region_fetch(ctx, &r.scores)) {
        return;
    }
    const float *scores = (const float *)(const void *)region_copy(&r.scores);
    check(ctx, (int)scores[0] == 39, "page 0 scores %g, the paper says 39", (double)scores[0]);
    check(ctx, (int)scores[1] == 35, "page 1 scores %g, should be 35", (double)scores[1]);
}

static params varied(uint32_t i)
{
    params p = default_params();
    p.kv = PICK(all_types, i);
    p.q = PICK(all_types, i / 3);
    p.dim = PICK(all_dims, i / 2 + i);
    p.page = PICK(all_pages, i / 2);
    p.group = PICK(all_groups, i);
    p.kv_heads = PICK(all_kv_heads, i / 2);
    p.bounds = i % 2 ? SKIM_BOUNDS_MEANSTD : SKIM_BOUNDS_MINMAX;
    p.spread = i % 12 == 5 ? 0.0f : i % 12 == 9 ? 2.5f : 1.0f;
    p.data = i % 7 == 3 ? DATA_INTEGER : PICK(real_data, i / 4);
    p.layout = (pool_layout)(i / 3 % 4);
    p.place = (placement)(i % 4);
    p.budget = p.page;
    p.length = 5 * p.page + i * 37 % (6 * p.page);
    p.variant = i % 3;
    return p;
}

static void add_figure(case_table *table)
{
    for (size_t t = 0; t < COUNT_OF(all_types); t++) {
        params p = default_params();
        p.kv = all_types[t];
        p.dim = 32;
        p.group = 1;
        p.kv_heads = 1;
        p.page = 8;
        p.length = 24;
        p.budget = 8;
        add_case(table, "estimate/figure-5", true, run_figure, &p);
    }
}

void add_estimate_cases(case_table *table)
{
    add_figure(table);
    const size_t first = table->count;
    uint32_t i = 0;
    for (size_t d = 0; d < COUNT_OF(all_dims); d++) {
        for (size_t t = 0; t < COUNT_OF(all_types); t++) {
            for (uint32_t b = 0; b < 2; b++, i++) {
                params p = varied(i);
                p.dim = all_dims[d];
                p.kv = all_types[t];
                p.bounds = (skim_bounds)b;
                add_case(table, "estimate", i % 8 == 1, run_estimate, &p);
            }
        }
    }
    for (size_t g = 0; g < COUNT_OF(all_groups); g++) {
        for (size_t h = 0; h < COUNT_OF(all_kv_heads); h++, i++) {
            params p = varied(i);
            p.group = all_groups[g];
            p.kv_heads = all_kv_heads[h];
            add_case(table, "estimate", i % 8 == 1, run_estimate, &p);
        }
    }
    for (uint32_t pages = 2; pages <= 40; pages++, i++) {
        params p = varied(i);
        p.dim = min_u32(p.dim, 96);
        p.length = pages * p.page - i % p.page;
        add_case(table, "estimate", pages == 2, run_estimate, &p);
    }
    for (uint32_t n = 0; n < 24; n++, i++) {
        params p = varied(i);
        p.batch = (batch_kind)(1 + n % 3);
        add_case(table, "estimate", n < 3, run_estimate, &p);
    }
    static const uint32_t lengths[] = {1000, 2047, 2049, 4097, 4104};
    for (size_t n = 0; n < COUNT_OF(lengths); n++, i++) {
        params p = varied(i);
        p.length = lengths[n];
        p.page = 8;
        p.budget = 8;
        p.dim = 64;
        p.kv_heads = 1;
        add_case(table, "estimate", n == 3, run_estimate, &p);
    }
    static const uint32_t heads[][2] = {{1, 17}, {12, 1}, {32, 1}, {71, 1}, {3, 9}};
    for (size_t n = 0; n < COUNT_OF(heads); n++, i++) {
        params p = varied(i);
        p.group = heads[n][0];
        p.kv_heads = heads[n][1];
        add_case(table, "estimate", n < 2, run_estimate, &p);
    }
    for (uint32_t n = 0; n < 4; n++, i++) {
        params p = varied(i);
        p.batch = BATCH_MANY;
        p.kv_heads = 2;
        p.dim = 32;
        p.length = 600 + n;
        add_case(table, "estimate", n == 0, run_estimate, &p);
    }
    add_i8_twins(table, first, 1);
}
