// The four verbs after each other on one foreign cache, under every policy.
#include "rig.h"

static void run_pipeline(context *ctx, const params *p)
{
    rig r;
    bool done = rig_init(ctx, &r, p) && rig_run(&r);
    (void)done;
}

static params varied(uint32_t i)
{
    static const uint32_t forced[][2] = {{0, 1}, {1, 1}, {2, 2}, {0, 3}, {1, 0}, {4, 4}, {99, 99}};
    params p = default_params();
    p.kv = PICK(all_types, i);
    p.q = PICK(all_types, i / 2);
    p.out = PICK(all_types, i / 3 + 2);
    p.dim = PICK(all_dims, i / 2);
    p.page = PICK(all_pages, i / 3);
    p.group = PICK(all_groups, i);
    p.kv_heads = PICK(all_kv_heads, i / 2);
    p.bounds = i % 2 ? SKIM_BOUNDS_MEANSTD : SKIM_BOUNDS_MINMAX;
    p.combine = PICK(all_combines, i / 2);
    p.select = (skim_select_mode)(i % 3);
    p.sinks = PICK(forced, i % 29)[0];
    p.recent = PICK(forced, i % 29)[1];
    p.data = i % 5 == 2 ? DATA_INTEGER : PICK(real_data, i / 4);
    p.layout = (pool_layout)(i % 4);
    p.place = (placement)(i / 2 % 4);
    p.length = 4 * p.page + i * 41 % (7 * p.page);
    uint32_t pages = ceil_div(p.length, p.page);
    const uint32_t budgets[] = {pages / 2 * p.page, p.page - 1, p.page, 3 * p.page + 1,
                                (pages - 1) * p.page};
    p.budget = PICK(budgets, i);
    p.fraction = i % 11 == 7 ? 0.4 : 0.0;
    p.chunk = i % 6 == 1 ? p.page + 3 : 0;
    p.variant = i % 6;
    return p;
}

static void add_policies(case_table *table, uint32_t *i)
{
    for (uint32_t n = 0; n < 3 * 4 * 2 * 8; n++, ++*i) {
        params p = varied(*i);
        p.select = (skim_select_mode)(n % 3);
        p.combine = PICK(all_combines, n / 3);
        p.bounds = (skim_bounds)(n / 12 % 2);
        add_case(table, "pipeline", *i % 7 == 0, run_pipeline, &p);
    }
}

// K pages and one more or less, and the budget around a whole page.
static void add_edges(case_table *table, uint32_t *i)
{
    for (uint32_t n = 0; n < 5 * 5; n++, ++*i) {
        params p = varied(*i);
        p.budget = 4 * p.page + n % 5 - 2;
        p.length = 4 * p.page + n / 5 - 2;
        p.fraction = 0.0;
        p.sinks = 0;
        p.recent = 1;
        add_case(table, "pipeline", *i % 8 == 0, run_pipeline, &p);
    }
}

static void add_batches(case_table *table, uint32_t *i)
{
    for (uint32_t n = 0; n < 60; n++, ++*i) {
        params p = varied(*i);
        p.batch = (batch_kind)(1 + n % 3);
        p.dim = min_u32(p.dim, 104);
        p.kv_heads = min_u32(p.kv_heads, 3);
        p.fraction = n % 4 == 1 ? 0.3 : 0.0;
        add_case(table, "pipeline", n < 6, run_pipeline, &p);
    }
}

static void add_many(case_table *table, uint32_t *i)
{
    for (uint32_t n = 0; n < 8; n++, ++*i) {
        params p = varied(*i);
        p.batch = BATCH_MANY;
        p.kv_heads = 1 + n % 2;
        p.group = 1 + n % 4;
        p.dim = 32;
        p.length = 1200 + n;
        p.budget = 600;
        p.chunk = 0;
        add_case(table, "pipeline", n == 0, run_pipeline, &p);
    }
}

static void add_long(case_table *table, uint32_t *i)
{
    static const uint32_t lengths[] = {1000, 1537, 2048, 4100};
    for (uint32_t n = 0; n < 4 * COUNT_OF(lengths); n++, ++*i) {
        params p = varied(*i);
        p.length = PICK(lengths, n);
        p.budget = 256;
        p.dim = n % 2 ? 64 : 128;
        p.kv_heads = 1 + n % 2;
        p.group = 1 + n % 5;
        p.chunk = 0;
        add_case(table, "pipeline", n == 1, run_pipeline, &p);
    }
}

void add_pipeline_cases(case_table *table)
{
    const size_t first = table->count;
    uint32_t i = 0;
    add_policies(table, &i);
    add_edges(table, &i);
    add_batches(table, &i);
    add_long(table, &i);
    add_many(table, &i);
    add_i8_twins(table, first, 3);
}
