// Tier 1: one cache of one sequence, prefilled and then decoded token by token, under every policy.
#include "model.h"

static void run_step(context *ctx, const params *p)
{
    model m;
    model_options options = {.longest = p->length + p->page + 3};
    if (!model_init(ctx, &m, p, &options) || !model_create(&m, 0) ||
        !model_fill(&m, 0, p->length - p->queries, p->chunk)) {
        return;
    }
    // Through the next page boundary, so that every phase of a page is decoded.
    uint32_t decodes = p->length > 400 ? 3 : p->page + 1;
    for (uint32_t i = 0; i < decodes; i++) {
        const model_entry entry = {0, i == 0 ? p->queries : 1};
        if (m.sequences[0].length + entry.tokens > options.longest ||
            !model_step(&m, &entry, 1, NULL, 0)) {
            return;
        }
    }
}

static params varied(uint32_t i)
{
    static const uint32_t forced[][2] = {{0, 1}, {1, 1}, {2, 2}, {0, 3}, {1, 0}, {3, 5}};
    params p = default_params();
    p.kv = PICK(all_types, i);
    p.q = PICK(all_types, i / 2);
    p.out = PICK(all_types, i / 3 + 2);
    p.dim = PICK(all_dims, i / 2);
    p.page = PICK(all_pages, i / 2);
    p.group = PICK(all_groups, i);
    p.kv_heads = PICK(all_kv_heads, i / 2);
    p.bounds = i / 2 % 2 ? SKIM_BOUNDS_MEANSTD : SKIM_BOUNDS_MINMAX;
    p.combine = PICK(all_combines, i / 3);
    p.select = (skim_select_mode)(i % 3);
    p.sinks = PICK(forced, i % 19)[0];
    p.recent = PICK(forced, i % 19)[1];
    p.data = i % 5 == 2 ? DATA_INTEGER : PICK(real_data, i / 4);
    p.place = (placement)(i % 4);
    p.length = 3 * p.page + i * 29 % (3 * p.page);
    p.budget = i % 4 == 1 ? p.page - 1 : i % 4 == 3 ? 3 * p.page + 1 : 2 * p.page;
    p.fraction = i % 9 == 4 ? 0.35 : 0.0;
    p.chunk = i % 3 == 1 ? p.page - 1 : i % 3 == 2 ? 2 * p.page + 1 : 0;
    p.queries = i % 7 == 3 ? 2 : 1;
    p.lse = i % 5 != 1;
    p.scale = i % 8 == 5 ? 0.2f : 0.0f;
    return p;
}

static void add_policies(case_table *table, uint32_t *i)
{
    for (uint32_t n = 0; n < 3 * 4 * 2 * 6; n++, ++*i) {
        params p = varied(*i);
        p.select = (skim_select_mode)(n % 3);
        p.combine = PICK(all_combines, n / 3);
        p.bounds = (skim_bounds)(n / 12 % 2);
        p.dim = min_u32(p.dim, 136);
        p.kv_heads = min_u32(p.kv_heads, 3);
        add_case(table, "step", n % 9 == 0, run_step, &p);
    }
}

static void add_dims(case_table *table, uint32_t *i)
{
    for (size_t d = 0; d < COUNT_OF(all_dims); d++) {
        for (size_t t = 0; t < COUNT_OF(all_types); t++, ++*i) {
            params p = varied(*i);
            p.dim = all_dims[d];
            p.kv = all_types[t];
            p.kv_heads = min_u32(p.kv_heads, 2);
            add_case(table, "step", *i % 9 == 0, run_step, &p);
        }
    }
}

// The budget and the length around K pages: where dense ends and sparse begins.
static void add_edges(case_table *table, uint32_t *i)
{
    for (size_t g = 0; g < COUNT_OF(all_pages); g++) {
        for (uint32_t n = 0; n < 9; n++, ++*i) {
            params p = varied(*i);
            p.page = all_pages[g];
            p.length = 3 * p.page + n / 3 - 1;
            p.budget = 3 * p.page + n % 3 - 1;
            p.fraction = 0.0;
            p.sinks = 0;
            p.recent = 1;
            p.dim = min_u32(p.dim, 80);
            add_case(table, "step", n == 4, run_step, &p);
        }
    }
}

static void add_short(case_table *table, uint32_t *i)
{
    for (uint32_t n = 0; n < 12; n++, ++*i) {
        params p = varied(*i);
        p.length = 1 + n % 4;
        p.queries = 1;
        p.dim = min_u32(p.dim, 80);
        add_case(table, "step", n < 2, run_step, &p);
    }
}

static void add_long(case_table *table, uint32_t *i)
{
    static const uint32_t lengths[] = {500, 1023, 1024, 1500, 3000};
    for (uint32_t n = 0; n < 3 * COUNT_OF(lengths); n++, ++*i) {
        params p = varied(*i);
        p.length = PICK(lengths, n);
        p.dim = n % 2 ? 64 : 128;
        p.kv_heads = 1 + n % 2;
        p.group = PICK(all_groups, n);
        p.budget = 256;
        p.chunk = 512;
        add_case(table, "step", n == 0, run_step, &p);
    }
}

void add_step_cases(case_table *table)
{
    uint32_t i = 0;
    add_policies(table, &i);
    add_dims(table, &i);
    add_edges(table, &i);
    add_short(table, &i);
    add_long(table, &i);
}
