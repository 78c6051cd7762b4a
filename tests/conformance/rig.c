// Planning and memory of the rig.
#include "rig.h"

#include <string.h>

skim_policy policy_of(const params *p)
{
    return (skim_policy){
        .size_of = sizeof(skim_policy),
        .budget = p->budget,
        .budget_fraction = p->fraction,
        .select = p->select,
        .combine = p->combine,
        .spread = p->spread,
        .sink_pages = p->sinks,
        .recent_pages = p->recent,
    };
}

double rig_scale(const rig *r)
{
    return default_scale(r->p);
}

bool rig_is_sparse(const rig_row *row)
{
    return !row->plan.dense && row->queries == 1;
}

static void add_row(rig *r, uint32_t length, uint32_t queries)
{
    r->rows[r->row_count++] = (rig_row){.length = length, .queries = queries};
}

// Lengths and new tokens of the batch around the case's own.
static void plan_batch(rig *r)
{
    const params *p = r->p;
    uint32_t n = p->length;
    uint32_t page = p->page;
    add_row(r, n, p->queries);
    if (p->batch == BATCH_DECODE) {
        const uint32_t lengths[] = {page, page + 1, 1, n + 1, n > 1 ? n - 1 : 1, 2 * page - 1};
        for (size_t i = 0; i < COUNT_OF(lengths); i++) {
            add_row(r, lengths[i], 1);
        }
    } else if (p->batch == BATCH_MIXED) {
        add_row(r, n / 2 + 2 * page + 3, 2 * page + 3); // prefill of a chunk
        add_row(r, 1, 1);
        add_row(r, n, 0);               // idle
        add_row(r, page + 5, page + 5); // prefill from nothing
        add_row(r, n + page, 1);
        add_row(r, n + 3, 2);
    } else if (p->batch == BATCH_MANY) {
        for (uint32_t i = 1; i < 37; i++) {
            add_row(r, max_u32(1, n - min_u32(n, 11 * i)), i % 9 != 5);
        }
    } else if (p->batch == BATCH_SHARED) {
        uint32_t shared = n > 1 ? (n - 1) / page : 0;
        for (uint32_t i = 1; i <= 3; i++) {
            add_row(r, shared * page + 1 + (i * 5) % page, 1);
            r->rows[i].shared_pages = shared;
        }
    }
}

static void fill_histories(rig *r)
{
    for (uint32_t i = 0; i < r->row_count; i++) {
        rig_row *row = &r->rows[i];
        history_init(r->ctx, &row->h, r->p, row->length);
        if (row->shared_pages) {
            history_share(&row->h, &r->rows[0].h, row->shared_pages * r->p->page);
        }
        history_extend(r->ctx, &row->h, row->length - row->h.length);
        row->plan = reference_resolve(&r->policy, 0, r->p->page, row->length, row->queries);
    }
}

// Query tokens in another order than the rows, with a token of nobody between.
static void place_queries(rig *r)
{
    uint32_t gap = r->p->batch == BATCH_ONE ? 0 : 1;
    uint32_t at = gap;
    for (uint32_t i = r->row_count; i-- > 0;) {
        r->rows[i].query_start = at;
        at += r->rows[i].queries + (i == 1 ? gap : 0);
    }
    r->token_count = at + gap;
    size_t per_token = (size_t)r->q_heads * r->p->dim;
    r->queries = take(r->ctx, r->token_count * per_token, sizeof(float));
    for (uint32_t i = 0; i < r->row_count; i++) {
        const rig_row *row = &r->rows[i];
        for (uint32_t j = 0; j < row->queries; j++) {
            make_query(r->ctx, &row->h, row->length - row->queries + j, r->p->q,
                       r->queries + (row->query_start + j) * per_token, NULL);
        }
    }
}

// Slots in random order, with unused ones among them; page tables with entries of nobody between.
static void place_pages(rig *r)
{
    uint32_t used = 0;
    uint32_t entries = 0;
    for (uint32_t i = 0; i < r->row_count; i++) {
        used += r->rows[i].plan.page_count - r->rows[i].shared_pages;
        entries += r->rows[i].plan.page_count + 2;
    }
    uint32_t slots = used + used / 4 + 3;
    uint32_t *order = take(r->ctx, slots, sizeof *order);
    for (uint32_t i = 0; i < slots; i++) {
        order[i] = i;
    }
    shuffle(r->ctx, order, slots);
    r->shape.slots = slots;
    r->table = take(r->ctx, entries + 1, sizeof *r->table);
    uint32_t next = 0;
    uint32_t at = 0;
    for (uint32_t i = 0; i < r->row_count; i++) {
        rig_row *row = &r->rows[i];
        r->table[at++] = order[slots - 1];
        row->table_start = at;
        row->slots = r->table + at;
        for (uint32_t page = 0; page < row->plan.page_count; page++) {
            bool shared = page < row->shared_pages;
            r->table[at++] = shared ? r->rows[0].slots[page] : order[next++];
        }
        r->table[at++] = order[slots - 2];
    }
    r->table_count = at;
}

static void shape_rows(rig *r)
{
    uint32_t pages = 1;
    for (uint32_t i = 0; i < r->row_count; i++) {
        pages = max_u32(pages, r->rows[i].plan.page_count);
    }
    const params *p = r->p;
    uint32_t tokens = r->token_count;
    for (uint32_t i = 0; i < r->row_count; i++) {
        tokens += p->chunk ? min_u32(p->chunk, r->rows[i].length) : r->rows[i].length;
    }
    r->shape = (skim_shape){
        .size_of = sizeof(skim_shape),
        .q_heads = r->q_heads,
        .kv_heads = p->kv_heads,
        .key_dim = p->dim,
        .page_size = p->page,
        .type = p->kv,
        .bounds = p->bounds,
        .bounds_type = p->bounds_type,
        .slots = r->shape.slots,
        .max_rows = r->row_count + 1,
        .max_tokens = tokens,
        .max_pages = pages + 2,
    };
}

// Strides of one pool and where V starts, in elements.
static void lay_out(rig *r, uint64_t *pool, uint64_t *values_start)
{
    const params *p = r->p;
    uint64_t dim = p->dim;
    uint64_t heads = p->kv_heads;
    skim_paged at = {0};
    *values_start = 0;
    switch (p->layout) {
    case LAYOUT_TOKENS:
        at = (skim_paged){
            .page_stride = p->page * heads * dim, .head_stride = dim, .token_stride = heads * dim};
        break;
    case LAYOUT_PADDED:
        at.token_stride = dim + 8;
        at.head_stride = p->page * at.token_stride + 16;
        at.page_stride = heads * at.head_stride + 40;
        break;
    case LAYOUT_MIXED:
        at = (skim_paged){.page_stride = 2 * p->page * heads * dim,
                          .head_stride = 2 * dim,
                          .token_stride = 2 * heads * dim};
        *values_start = dim;
        break;
    case LAYOUT_SKIM:
    default:
        at = (skim_paged){.page_stride = 2 * p->page * heads * dim,
                          .head_stride = 2 * p->page * dim,
                          .token_stride = dim};
        *values_start = p->page * dim;
    }
    r->one_pool = *values_start != 0;
    *pool = r->shape.slots * at.page_stride;
    r->keys_at = at;
    r->values_at = at;
}

static bool make_pools(rig *r)
{
    uint64_t elements;
    uint64_t start;
    lay_out(r, &elements, &start);
    size_t width = skim_type_size(r->p->kv);
    if (!region_init(r->ctx, &r->keys, elements * width, 16, r->p->kv)) {
        return false;
    }
    if (!r->one_pool && !region_init(r->ctx, &r->values, elements * width, 16, r->p->kv)) {
        return false;
    }
    const region *values = r->one_pool ? &r->keys : &r->values;
    r->keys_at.buffer = r->keys.buffer;
    r->keys_at.offset = r->keys.offset;
    r->values_at.buffer = values->buffer;
    r->values_at.offset = values->offset + start * width;
    return region_upload(r->ctx, &r->keys) && (r->one_pool || region_upload(r->ctx, &r->values));
}

static bool make_results(rig *r)
{
    context *ctx = r->ctx;
    const params *p = r->p;
    uint64_t size;
    uint32_t longest = 1;
    for (uint32_t i = 0; i < r->row_count; i++) {
        longest = max_u32(longest, r->rows[i].plan.select_count);
    }
    r->score_stride = r->shape.max_pages + p->variant % 3;
    r->list_stride = longest + p->variant % 2;
    r->lists_per_row = r->select == SKIM_SELECT_HEAD ? r->q_heads : p->kv_heads;
    uint64_t scores = (uint64_t)r->row_count * r->q_heads * r->score_stride * 4;
    uint64_t lists = (uint64_t)r->row_count * r->lists_per_row * r->list_stride * 4;
    if (p->bounds_type == SKIM_BOUNDS_I8) {
        uint64_t centre = (uint64_t)p->kv_heads * p->dim * sizeof(float);
        centre_sum_init(ctx, &r->frozen_keys, &r->rows[0].h);
        if (!region_init(ctx, &r->centre, centre, 64, SKIM_F32) ||
            !region_upload(ctx, &r->centre)) {
            return false;
        }
    }
    return ok(ctx, skim_bounds_size(ctx->device, &r->shape, &size), "skim_bounds_size") &&
           region_init(ctx, &r->bounds, size, 64, p->kv) && region_upload(ctx, &r->bounds) &&
           region_init(ctx, &r->scores, scores, 16, SKIM_F32) && region_upload(ctx, &r->scores) &&
           region_init(ctx, &r->lists, lists, 16, SKIM_U32) && region_upload(ctx, &r->lists);
}

static bool make_tensors(rig *r)
{
    context *ctx = r->ctx;
    const params *p = r->p;
    if (!box_init(ctx, &r->q, p->place, p->q, r->token_count, r->q_heads, p->dim) ||
        !box_init(ctx, &r->out, p->place, p->out, r->token_count, r->q_heads, p->dim) ||
        !box_init(ctx, &r->lse, p->place, SKIM_F32, r->token_count, r->q_heads, 1)) {
        return false;
    }
    for (uint32_t token = 0; token < r->token_count; token++) {
        box_set(&r->q, token, r->queries + (size_t)token * r->q_heads * p->dim);
    }
    return box_send(ctx, &r->out) && box_send(ctx, &r->lse);
}

static bool fits_limits(context *ctx, const skim_shape *s)
{
    const skim_limits *l = &ctx->limits;
    if (s->key_dim < l->head_dim_min || s->key_dim > l->head_dim_max ||
        s->key_dim % l->head_dim_multiple || !(l->kv_types & 1u << s->type) ||
        !(l->page_sizes & s->page_size) || !(l->bounds_types & 1u << s->bounds_type) ||
        s->q_heads > l->heads_max || s->max_rows > l->rows_max || s->max_pages > l->pages_max ||
        s->slots > l->slots_max) {
        return skip(ctx, "beyond the device's limits");
    }
    return true;
}

bool rig_init(context *ctx, rig *r, const params *p)
{
    return rig_init_for(ctx, r, p, 0, 0);
}

bool rig_init_for(context *ctx, rig *r, const params *p, uint32_t rows, uint32_t tokens)
{
    *r = (rig){.ctx = ctx, .p = p, .policy = policy_of(p), .select = p->select};
    r->q_heads = p->group * p->kv_heads;
    if (r->select == SKIM_SELECT_AUTO) {
        r->select = p->group > 1 ? SKIM_SELECT_GROUP : SKIM_SELECT_HEAD;
    }
    plan_batch(r);
    fill_histories(r);
    place_queries(r);
    place_pages(r);
    shape_rows(r);
    r->shape.max_rows = max_u32(r->shape.max_rows, rows);
    r->shape.max_tokens = max_u32(r->shape.max_tokens, tokens);
    return fits_limits(ctx, &r->shape) &&
           ok(ctx, skim_queue_prepare(ctx->queue, &r->shape), "skim_queue_prepare") &&
           make_pools(r) && make_results(r) && make_tensors(r);
}
