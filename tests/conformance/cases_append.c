// append: the pools hold every token and nothing else changed; the bounds of every page are right,
// seen through estimate with one-hot queries.
#include "rig.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PROBE_ROWS 32u
#define PROBE_SPREAD 0x1p30f // so large that the mean vanishes beside the deviation

// One-hot queries: query head g of token i asks for channel (i * group + g) / 2, by sign of its
// parity.
typedef struct probe {
    rig *r;
    const rig_row *row;
    page_bounds bounds;
    float spread;
    uint32_t pages; // under test; the table has one more
    uint32_t *table;
} probe;

static uint32_t probe_channel(const probe *it, uint32_t token, uint32_t q_head)
{
    return (token * it->r->p->group + q_head % it->r->p->group) / 2;
}

static float probe_sign(const probe *it, uint32_t token, uint32_t q_head)
{
    return (token * it->r->p->group + q_head % it->r->p->group) % 2 ? -1.0f : 1.0f;
}

static void probe_query(const probe *it, uint32_t token, float *q)
{
    const params *p = it->r->p;
    memset(q, 0, (size_t)it->r->q_heads * p->dim * sizeof *q);
    for (uint32_t head = 0; head < it->r->q_heads; head++) {
        uint32_t channel = probe_channel(it, token, head);
        if (channel < p->dim) {
            q[(size_t)head * p->dim + channel] = probe_sign(it, token, head);
        }
    }
}

// How far a deviation or mean may be from the exact one: an ulp of the stored type, and what
// summing in f32 in token order may lose.
static double bound_tolerance(const params *p, double value, double mean)
{
    double summing = p->page * EPSILON32 * (fabs(value) + fabs(mean));
    return reference_ulp(value, p->kv) + summing;
}

// The score itself is held against the oracle: one bound of int8, or with a spread both.
static bool probe_i8_value(const probe *it, uint32_t page, uint32_t head, uint32_t token,
                           double got)
{
    params p = *it->r->p;
    p.spread = it->spread;
    float q[256] = {0};
    q[probe_channel(it, token, head)] = probe_sign(it, token, head);
    double tolerance;
    double expected = expected_score(&p, &it->bounds, page, head / p.group, q, &tolerance);
    return check(it->r->ctx, fabs(got - expected) <= tolerance,
                 "i8 bounds: page %u, kv head %u, channel %u (%c): %.9g, should be %.9g +- %.2g",
                 page, head / p.group, probe_channel(it, token, head),
                 probe_sign(it, token, head) < 0.0f ? '-' : '+', got, expected, tolerance);
}

static bool probe_value(const probe *it, uint32_t page, uint32_t head, uint32_t token, double got)
{
    const params *p = it->r->p;
    if (p->bounds_type == SKIM_BOUNDS_I8) {
        return probe_i8_value(it, page, head, token, got);
    }
    uint32_t channel = probe_channel(it, token, head);
    bool negative = probe_sign(it, token, head) < 0.0f;
    double b0 = bounds_of(&it->bounds, page, head / p->group, 0)[channel];
    double b1 = bounds_of(&it->bounds, page, head / p->group, 1)[channel];
    if (p->bounds == SKIM_BOUNDS_MINMAX) {
        double expected = negative ? -b1 : b0;
        return check(it->r->ctx, got >= expected && got <= expected,
                     "%s: page %u, kv head %u, channel %u is %.9g, should be %.9g",
                     negative ? "minimum" : "maximum", page, head / p->group, channel,
                     negative ? -got : got, negative ? -expected : expected);
    }
    double spread = (double)it->spread;
    double expected = (negative ? -b0 : b0) + spread * b1;
    double tolerance = bound_tolerance(p, b0, b0) + spread * bound_tolerance(p, b1, b0) +
                       2.0 * EPSILON32 * spread * b1;
    return check(it->r->ctx, fabs(got - expected) <= tolerance,
                 "%s: page %u, kv head %u, channel %u: %.9g, should be %.9g +- %.2g",
                 spread > 0.0 ? "deviation" : "mean", page, head / p->group, channel,
                 spread > 0.0 ? got / spread : got, spread > 0.0 ? expected / spread : expected,
                 spread > 0.0 ? tolerance / spread : tolerance);
}

static bool probe_scores(const probe *it, const region *scores, uint32_t first, uint32_t count)
{
    const rig *r = it->r;
    const float *values = (const float *)(const void *)region_copy(scores);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t head = 0; head < r->q_heads; head++) {
            if (probe_channel(it, first + i, head) >= r->p->dim) {
                continue;
            }
            for (uint32_t page = 0; page < it->pages; page++) {
                size_t at = ((size_t)i * r->q_heads + head) * r->shape.max_pages + page;
                if (!probe_value(it, page, head, first + i, (double)values[at])) {
                    return false;
                }
            }
        }
    }
    return true;
}

// Rows that all look at the same pages, each with a query of its own.
static bool probe_rows(const probe *it, uint32_t count, box *sent)
{
    skim_row rows[PROBE_ROWS];
    for (uint32_t i = 0; i < count; i++) {
        rows[i] = (skim_row){
            .length = (it->pages + 1) * it->r->p->page,
            .query_start = i,
            .query_count = 1,
            .page_count = it->pages + 1,
            .select_count = 1,
            .forced_last = 1,
        };
    }
    return rig_send_rows(it->r, rows, count, sent);
}

static bool probe_some(const probe *it, uint32_t first, uint32_t count)
{
    rig *r = it->r;
    context *ctx = r->ctx;
    box rows, q;
    region scores;
    float *query = take(ctx, (size_t)r->q_heads * r->p->dim, sizeof *query);
    uint64_t bytes = (uint64_t)count * r->q_heads * r->shape.max_pages * 4;
    if (!probe_rows(it, count, &rows) || !region_init(ctx, &scores, bytes, 16, SKIM_F32) ||
        !region_upload(ctx, &scores) ||
        !box_init(ctx, &q, r->p->place, r->p->q, count, r->q_heads, r->p->dim)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        probe_query(it, first + i, query);
        box_set(&q, i, query);
    }
    skim_estimate_args args = {
        .size_of = sizeof args,
        .shape = &r->shape,
        .rows = rows.tensor,
        .row_count = count,
        .token_count = count,
        .table = skim_tensor_host(it->table, SKIM_U32),
        .table_count = it->pages + 1,
        .q = q.tensor,
        .bounds = r->bounds.buffer,
        .bounds_offset = r->bounds.offset,
        .centre = r->centre.buffer,
        .centre_offset = r->centre.offset,
        .spread = it->spread,
        .scores = scores.buffer,
        .scores_offset = scores.offset,
        .score_stride = r->shape.max_pages,
    };
    return box_send(ctx, &q) && ok(ctx, skim_estimate(ctx->queue, &args), "skim_estimate") &&
           region_fetch(ctx, &scores) && region_guards(ctx, &scores, "scores") &&
           probe_scores(it, &scores, first, count);
}

static bool probe_row(rig *r, uint32_t row, float spread)
{
    probe it = {
        .r = r, .row = &r->rows[row], .spread = spread, .pages = r->rows[row].plan.page_count};
    if (!rig_bounds(r, row, &it.bounds)) {
        return false;
    }
    it.table = take(r->ctx, it.pages + 1, sizeof *it.table);
    memcpy(it.table, it.row->slots, it.pages * sizeof *it.table);
    it.table[it.pages] = it.row->slots[0];
    uint32_t tokens = ceil_div(2 * r->p->dim, r->p->group);
    for (uint32_t first = 0; first < tokens; first += PROBE_ROWS) {
        if (!probe_some(&it, first, min_u32(PROBE_ROWS, tokens - first))) {
            return false;
        }
    }
    return true;
}

static bool probe_all(rig *r)
{
    for (uint32_t row = 0; row < r->row_count; row++) {
        bool good = r->p->bounds == SKIM_BOUNDS_MINMAX
                        ? probe_row(r, row, 1.0f)
                        : probe_row(r, row, 0.0f) && probe_row(r, row, PROBE_SPREAD);
        if (!good) {
            return false;
        }
    }
    return true;
}

static void run_append(context *ctx, const params *p)
{
    rig r;
    bool done = rig_init_for(ctx, &r, p, PROBE_ROWS, PROBE_ROWS) && rig_append(&r) &&
                rig_check_pools(&r) && probe_all(&r);
    (void)done;
}

// Bounds lost, then recomputed page by page from the keys in the pool: rows without new tokens.
static void run_recompute(context *ctx, const params *p)
{
    rig r;
    if (!rig_init_for(ctx, &r, p, PROBE_ROWS, PROBE_ROWS) || !rig_append(&r) ||
        !region_upload(ctx, &r.bounds)) {
        return;
    }
    skim_row it = rig_skim_row(&r, 0);
    it.query_count = it.length;
    it.flags = SKIM_ROW_DENSE;
    if (!rig_recompute_bounds(&r, &it, 1)) {
        return;
    }
    bool done = rig_check_pools(&r) && probe_all(&r);
    (void)done;
}

// What lies past a row's length in its last page, in the image of one pool.
static void clear_image(rig *r, uint32_t row, region *pool, const skim_paged *at)
{
    const rig_row *it = &r->rows[row];
    const params *p = r->p;
    size_t width = skim_type_size(p->kv);
    for (uint32_t token = it->length % p->page; token > 0 && token < p->page; token++) {
        for (uint32_t head = 0; head < p->kv_heads; head++) {
            uint64_t element = it->slots[it->plan.page_count - 1] * at->page_stride +
                               head * at->head_stride + token * at->token_stride;
            memset(pool->image + at->offset + element * width, 0, p->dim * width);
        }
    }
}

// Every other row asks for what is past its end to be zeroed: that and nothing else is. The poison
// that append left there before is what the other rows must keep.
static void run_clear(context *ctx, const params *p)
{
    rig r;
    if (!rig_init_for(ctx, &r, p, PROBE_ROWS, PROBE_ROWS) || !rig_append(&r) ||
        !rig_check_pools(&r)) {
        return;
    }
    skim_row rows[RIG_ROWS_MAX];
    uint32_t which[RIG_ROWS_MAX];
    for (uint32_t i = 0; i < r.row_count; i++) {
        which[i] = i;
        rows[i] = rig_skim_row(&r, i);
        // An idle row has nothing to append, and is skipped.
        if (i % 2 == 0 && rows[i].query_count > 0) {
            rows[i].flags |= SKIM_ROW_CLEAR;
            clear_image(&r, i, &r.keys, &r.keys_at);
            clear_image(&r, i, r.one_pool ? &r.keys : &r.values, &r.values_at);
        }
    }
    bool done = (p->variant ? rig_recompute_bounds(&r, rows, r.row_count)
                            : rig_append_rows(&r, rows, r.row_count, which)) &&
                rig_check_pools(&r) && probe_all(&r);
    (void)done;
}

static params varied(uint32_t i)
{
    params p = default_params();
    p.kv = PICK(all_types, i);
    p.dim = PICK(all_dims, i / 3 + i);
    p.page = PICK(all_pages, i);
    p.group = PICK(all_groups, i / 2);
    p.kv_heads = PICK(all_kv_heads, i / 3);
    p.bounds = i % 2 ? SKIM_BOUNDS_MEANSTD : SKIM_BOUNDS_MINMAX;
    p.data = PICK(real_data, i / 5);
    p.layout = (pool_layout)(i % 4);
    p.place = (placement)(i / 2 % 4);
    p.length = 2 * p.page + 1 + i * 7 % (3 * p.page);
    return p;
}

void add_append_cases(case_table *table)
{
    const size_t first = table->count;
    static const skim_bounds kinds[] = {SKIM_BOUNDS_MINMAX, SKIM_BOUNDS_MEANSTD};
    uint32_t i = 0;
    for (size_t d = 0; d < COUNT_OF(all_dims); d++) {
        for (size_t t = 0; t < COUNT_OF(all_types); t++) {
            for (size_t b = 0; b < COUNT_OF(kinds); b++, i++) {
                params p = varied(i);
                p.dim = all_dims[d];
                p.kv = all_types[t];
                p.bounds = kinds[b];
                p.chunk = i % 5 == 0 ? p.page - 3 : i % 5 == 1 ? p.page + 1 : 0;
                add_case(table, "append", i % 8 == 0, run_append, &p);
            }
        }
    }
    for (size_t g = 0; g < COUNT_OF(all_pages); g++) {
        uint32_t page = all_pages[g];
        const uint32_t lengths[] = {1,        page - 1,    page, page + 1, 2 * page - 1,
                                    2 * page, 2 * page + 1};
        for (size_t n = 0; n < COUNT_OF(lengths); n++) {
            for (uint32_t c = 0; c < 2; c++, i++) {
                params p = varied(i);
                p.page = page;
                p.length = lengths[n];
                p.chunk = c ? 1 + n % 3 : 0;
                add_case(table, "append", i % 7 == 0, run_append, &p);
            }
        }
    }
    for (uint32_t batch = BATCH_DECODE; batch <= BATCH_SHARED; batch++) {
        for (uint32_t n = 0; n < 8; n++, i++) {
            params p = varied(i);
            p.batch = (batch_kind)batch;
            p.chunk = n % 3 * 11;
            add_case(table, "append", n == 0, run_append, &p);
        }
    }
    static const uint32_t kv_heads[] = {9, 12, 16, 17, 32};
    for (uint32_t n = 0; n < 2 * COUNT_OF(kv_heads); n++, i++) {
        params p = varied(i);
        p.kv_heads = PICK(kv_heads, n);
        p.group = 1 + n % 2;
        add_case(table, "append", n < 2, run_append, &p);
    }
    for (uint32_t n = 0; n < 12; n++, i++) {
        params p = varied(i);
        add_case(table, "append/recompute", n < 2, run_recompute, &p);
    }
    for (uint32_t n = 0; n < 24; n++, i++) {
        params p = varied(i);
        p.layout = (pool_layout)(n % 4);
        p.batch = n % 3 == 2 ? BATCH_MIXED : BATCH_ONE;
        p.variant = n / 4 % 2;
        add_case(table, "append/clear", n < 6, run_clear, &p);
    }
    add_i8_twins(table, first, 1);
}
