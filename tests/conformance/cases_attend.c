// attend: on pools and lists that the suite writes itself, so that no other verb takes part.
#include "rig.h"

#include <string.h>

// A random list of each sparse row's length that holds the forced pages.
static void write_list(rig *r, const reference_plan *plan, uint32_t *list)
{
    uint32_t *order = take(r->ctx, plan->page_count, sizeof *order);
    bool *chosen = take(r->ctx, plan->page_count, sizeof *chosen);
    uint32_t free_pages = 0;
    for (uint32_t page = 0; page < plan->page_count; page++) {
        chosen[page] = reference_forced(plan, page);
        if (!chosen[page]) {
            order[free_pages++] = page;
        }
    }
    shuffle(r->ctx, order, free_pages);
    for (uint32_t i = 0; i < plan->select_count - plan->forced_first - plan->forced_last; i++) {
        chosen[order[i]] = true;
    }
    uint32_t count = 0;
    for (uint32_t page = 0; page < plan->page_count; page++) {
        if (chosen[page]) {
            list[count++] = page;
        }
    }
}

static void write_lists(rig *r)
{
    uint32_t *lists = (uint32_t *)(void *)region_bytes(&r->lists);
    for (uint32_t i = 0; i < r->row_count; i++) {
        for (uint32_t list = 0; rig_is_sparse(&r->rows[i]) && list < r->lists_per_row; list++) {
            uint32_t *to = lists + ((size_t)i * r->lists_per_row + list) * r->list_stride;
            write_list(r, &r->rows[i].plan, to);
        }
    }
}

static bool write_pools(rig *r)
{
    for (uint32_t i = 0; i < r->row_count; i++) {
        rig_store(r, i, 0, r->rows[i].length);
    }
    return region_upload(r->ctx, &r->keys) && (r->one_pool || region_upload(r->ctx, &r->values));
}

static void run_attend(context *ctx, const params *p)
{
    rig r;
    if (!rig_init(ctx, &r, p)) {
        return;
    }
    write_lists(&r);
    bool done = write_pools(&r) && region_upload(ctx, &r.lists) && rig_attend(&r) &&
                rig_check_attend(&r) && rig_check_pools(&r);
    (void)done;
}

// One token decoded sparsely, the same densely, or a prefill.
typedef enum attend_kind { ATTEND_SPARSE, ATTEND_DENSE, ATTEND_PREFILL, ATTEND_KINDS } attend_kind;

static void set_kind(params *p, attend_kind kind, uint32_t i)
{
    uint32_t pages = ceil_div(p->length, p->page);
    const uint32_t chosen[] = {pages / 2, pages / 4, 1, pages - 1, 3};
    p->budget = kind == ATTEND_SPARSE ? max_u32(1, PICK(chosen, i)) * p->page : 1u << 20;
    const uint32_t queries[] = {p->length, p->length / 2 + 1, p->page + 1, 2};
    p->queries = kind == ATTEND_PREFILL ? min_u32(p->length, PICK(queries, i)) : 1;
}

static params varied(uint32_t i)
{
    params p = default_params();
    p.kv = PICK(all_types, i);
    p.q = PICK(all_types, i / 3);
    p.out = PICK(all_types, i / 2 + 2);
    p.dim = PICK(all_dims, i / 2);
    p.page = PICK(all_pages, i);
    p.group = PICK(all_groups, i);
    p.kv_heads = PICK(all_kv_heads, i / 3);
    p.select = i % 3 ? SKIM_SELECT_AUTO : SKIM_SELECT_HEAD;
    p.data = PICK(real_data, i / 4);
    p.layout = (pool_layout)(i / 3 % 4);
    p.place = (placement)(i / 2 % 4);
    p.sinks = i % 4 == 1 ? 1 : 0;
    p.recent = 1 + i % 3 / 2;
    p.scale = i % 8 == 5 ? 0.3f : 0.0f;
    p.lse = i % 5 != 3;
    p.length = 3 * p.page + i * 31 % (5 * p.page);
    p.variant = i % 2;
    set_kind(&p, (attend_kind)(i % ATTEND_KINDS), i);
    return p;
}

static void add_types(case_table *table, uint32_t *i)
{
    for (size_t n = 0; n < 27; n++) {
        for (uint32_t kind = 0; kind < ATTEND_KINDS; kind++, ++*i) {
            params p = varied(*i);
            p.kv = all_types[n % 3];
            p.q = all_types[n / 3 % 3];
            p.out = all_types[n / 9];
            set_kind(&p, (attend_kind)kind, *i);
            add_case(table, "attend", *i % 6 == 0, run_attend, &p);
        }
    }
}

static void add_dims(case_table *table, uint32_t *i)
{
    for (size_t d = 0; d < COUNT_OF(all_dims); d++) {
        for (uint32_t kind = 0; kind < ATTEND_KINDS; kind++) {
            for (size_t t = 0; t < COUNT_OF(all_types); t++, ++*i) {
                params p = varied(*i);
                p.dim = all_dims[d];
                p.kv = all_types[t];
                set_kind(&p, (attend_kind)kind, *i);
                add_case(table, "attend", *i % 10 == 0, run_attend, &p);
            }
        }
    }
}

static void add_heads(case_table *table, uint32_t *i)
{
    for (size_t g = 0; g < COUNT_OF(all_groups); g++) {
        for (size_t h = 0; h < COUNT_OF(all_kv_heads); h++, ++*i) {
            params p = varied(*i);
            p.group = all_groups[g];
            p.kv_heads = all_kv_heads[h];
            p.dim = min_u32(p.dim, 128);
            add_case(table, "attend", *i % 6 == 0, run_attend, &p);
        }
    }
}

static void add_lengths(case_table *table, uint32_t *i)
{
    for (size_t g = 0; g < COUNT_OF(all_pages); g++) {
        uint32_t page = all_pages[g];
        const uint32_t lengths[] = {1,
                                    2,
                                    page - 1,
                                    page,
                                    page + 1,
                                    2 * page,
                                    2 * page + 1,
                                    5 * page,
                                    5 * page + 1,
                                    9 * page - 1};
        for (size_t n = 0; n < COUNT_OF(lengths); n++) {
            for (uint32_t kind = 0; kind < ATTEND_KINDS; kind++, ++*i) {
                params p = varied(*i);
                p.page = page;
                p.length = lengths[n];
                p.dim = min_u32(p.dim, 128);
                set_kind(&p, (attend_kind)kind, *i);
                add_case(table, "attend", *i % 10 == 0, run_attend, &p);
            }
        }
    }
}

static void add_batches(case_table *table, uint32_t *i)
{
    for (uint32_t n = 0; n < 48; n++, ++*i) {
        params p = varied(*i);
        p.batch = (batch_kind)(1 + n % 3);
        p.layout = (pool_layout)(n / 3 % 4);
        p.dim = min_u32(p.dim, 96);
        p.kv_heads = min_u32(p.kv_heads, 3);
        set_kind(&p, n % 2 ? ATTEND_SPARSE : ATTEND_DENSE, *i);
        if (n % 4 == 2 && p.batch != BATCH_SHARED) {
            set_kind(&p, ATTEND_PREFILL, *i);
        }
        add_case(table, "attend", n < 4, run_attend, &p);
    }
}

static void add_long(case_table *table, uint32_t *i)
{
    static const uint32_t lengths[] = {511, 513, 1024, 2049, 4095};
    for (uint32_t n = 0; n < 3 * COUNT_OF(lengths); n++, ++*i) {
        params p = varied(*i);
        p.length = PICK(lengths, n);
        p.dim = n % 2 ? 64 : 128;
        p.kv_heads = 1 + n % 2;
        p.group = 1 + n % 4;
        set_kind(&p, n % 3 == 2 ? ATTEND_PREFILL : (attend_kind)(n % 3), *i);
        if (p.queries > 600) {
            p.queries = 70;
        }
        add_case(table, "attend", n == 0, run_attend, &p);
    }
    // Lists long enough to be divided among threads, one per query head.
    for (uint32_t n = 0; n < 8; n++, ++*i) {
        params p = varied(*i);
        p.length = 2000 + 13 * n;
        p.dim = n % 2 ? 32 : 64;
        p.kv_heads = 1 + n % 2;
        p.group = 2 + n % 3;
        p.select = n % 4 == 3 ? SKIM_SELECT_GROUP : SKIM_SELECT_HEAD;
        p.budget = n % 3 ? 1024 : 640;
        p.queries = 1;
        add_case(table, "attend", n < 2, run_attend, &p);
    }
}

// More of everything than backends are likely to take at once: rows, kv heads, query heads of a
// group.
static void add_large(case_table *table, uint32_t *i)
{
    static const uint32_t heads[][2] = {{1, 17}, {2, 9},  {12, 1}, {32, 1},
                                        {71, 1}, {24, 2}, {1, 32}, {9, 12}};
    for (uint32_t n = 0; n < 3 * COUNT_OF(heads); n++, ++*i) {
        params p = varied(*i);
        p.group = PICK(heads, n)[0];
        p.kv_heads = PICK(heads, n)[1];
        p.dim = min_u32(p.dim, 96);
        set_kind(&p, (attend_kind)(n % 3), *i);
        add_case(table, "attend", n % 5 == 0, run_attend, &p);
    }
    for (uint32_t n = 0; n < 12; n++, ++*i) {
        params p = varied(*i);
        p.batch = BATCH_MANY;
        p.kv_heads = 1 + n % 2;
        p.group = 1 + n % 3;
        p.dim = n % 4 == 3 ? 64 : 32;
        p.length = 1400 + 11 * n;
        p.budget = n % 2 ? 640 : 1u << 20;
        p.queries = 1;
        add_case(table, "attend", n < 2, run_attend, &p);
    }
}

void add_attend_cases(case_table *table)
{
    uint32_t i = 0;
    add_types(table, &i);
    add_dims(table, &i);
    add_heads(table, &i);
    add_lengths(table, &i);
    add_batches(table, &i);
    add_long(table, &i);
    add_large(table, &i);
}
