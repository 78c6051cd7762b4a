// The rig's four verbs and their verdicts.
#include "rig.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static placement packed(const rig *r)
{
    bool buffer = r->p->place == PLACE_BUFFER || r->p->place == PLACE_BUFFER_STRIDED;
    return buffer ? PLACE_BUFFER : PLACE_HOST;
}

const float *rig_query(const rig *r, uint32_t row, uint32_t index, uint32_t head)
{
    size_t token = r->rows[row].query_start + index;
    return r->queries + (token * r->q_heads + head) * r->p->dim;
}

const uint32_t *rig_list(const rig *r, uint32_t row, uint32_t q_head)
{
    uint32_t list = r->select == SKIM_SELECT_HEAD ? q_head : q_head / r->p->group;
    const uint32_t *lists = (const uint32_t *)(const void *)region_copy(&r->lists);
    return lists + ((size_t)row * r->lists_per_row + list) * r->list_stride;
}

static const float *scores_of(const rig *r, uint32_t row, uint32_t q_head)
{
    const float *scores = (const float *)(const void *)region_copy(&r->scores);
    return scores + ((size_t)row * r->q_heads + q_head) * r->score_stride;
}

static skim_row make_row(const reference_plan *plan, uint32_t length, uint32_t queries,
                         uint32_t query_start, uint32_t table_start)
{
    return (skim_row){
        .length = length,
        .query_start = query_start,
        .query_count = queries,
        .table_start = table_start,
        .page_count = plan->page_count,
        .select_count = plan->select_count,
        .forced_first = plan->forced_first,
        .forced_last = plan->forced_last,
        .flags = plan->dense ? SKIM_ROW_DENSE : 0,
    };
}

skim_row rig_skim_row(const rig *r, uint32_t row)
{
    const rig_row *it = &r->rows[row];
    return make_row(&it->plan, it->length, it->queries, it->query_start, it->table_start);
}

bool rig_send_rows(rig *r, const skim_row *rows, uint32_t count, box *sent)
{
    if (!box_init(r->ctx, sent, packed(r), SKIM_U32, count, 1, 12)) {
        return false;
    }
    memcpy(sent->image, rows, count * sizeof *rows);
    return box_send(r->ctx, sent);
}

bool rig_send_table(rig *r, box *sent)
{
    if (!box_init(r->ctx, sent, packed(r), SKIM_U32, r->table_count, 1, 1)) {
        return false;
    }
    memcpy(sent->image, r->table, r->table_count * sizeof *r->table);
    return box_send(r->ctx, sent);
}

// --- append

static void store_token(rig *r, const rig_row *row, uint32_t token)
{
    const params *p = r->p;
    const region *values = r->one_pool ? &r->keys : &r->values;
    size_t width = skim_type_size(p->kv);
    for (uint32_t head = 0; head < p->kv_heads; head++) {
        uint64_t at = row->slots[token / p->page] * r->keys_at.page_stride +
                      head * r->keys_at.head_stride + token % p->page * r->keys_at.token_stride;
        uint8_t *k = r->keys.image + r->keys_at.offset + at * width;
        uint8_t *v = values->image + r->values_at.offset + at * width;
        for (uint32_t d = 0; d < p->dim; d++) {
            reference_store(k, d, p->kv, history_key(&row->h, token, head)[d]);
            reference_store(v, d, p->kv, history_value(&row->h, token, head)[d]);
        }
    }
}

void rig_store(rig *r, uint32_t row, uint32_t first, uint32_t count)
{
    for (uint32_t token = first; token < first + count; token++) {
        store_token(r, &r->rows[row], token);
    }
}

static bool send_new_tokens(rig *r, const skim_row *rows, uint32_t count, const uint32_t *which,
                            uint32_t tokens, box *k, box *v)
{
    const params *p = r->p;
    if (!box_init(r->ctx, k, p->place, p->kv, tokens, p->kv_heads, p->dim) ||
        !box_init(r->ctx, v, p->place, p->kv, tokens, p->kv_heads, p->dim)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        const history *h = &r->rows[which[i]].h;
        for (uint32_t j = 0; j < rows[i].query_count; j++) {
            uint32_t token = rows[i].length - rows[i].query_count + j;
            box_set(k, rows[i].query_start + j, history_key(h, token, 0));
            box_set(v, rows[i].query_start + j, history_value(h, token, 0));
        }
    }
    return box_send(r->ctx, k) && box_send(r->ctx, v);
}

// The first append freezes the centre.
static void with_centre(rig *r, skim_append_args *args)
{
    if (r->p->bounds_type == SKIM_BOUNDS_I8) {
        args->centre = r->centre.buffer;
        args->centre_offset = r->centre.offset;
        args->freeze = !r->frozen;
        r->frozen = true;
    }
}

bool rig_recompute_bounds(rig *r, const skim_row *rows, uint32_t count)
{
    box sent, table;
    if (!rig_send_rows(r, rows, count, &sent) || !rig_send_table(r, &table))
        return false;
    skim_append_args args = {
        .size_of = sizeof args,
        .shape = &r->shape,
        .rows = sent.tensor,
        .row_count = count,
        .table = table.tensor,
        .table_count = r->table_count,
        .keys = r->keys_at,
        .values = r->values_at,
        .bounds = r->bounds.buffer,
        .bounds_offset = r->bounds.offset,
    };
    with_centre(r, &args);
    bool done = ok(r->ctx, skim_append(r->ctx->queue, &args), "skim_append");
    box_consumed(&sent);
    box_consumed(&table);
    return done;
}

// Appends the rows' new tokens; which[i] is the rig's row that rows[i] speaks of.
bool rig_append_rows(rig *r, const skim_row *rows, uint32_t count, const uint32_t *which)
{
    uint32_t tokens = 0;
    for (uint32_t i = 0; i < count; i++) {
        tokens = max_u32(tokens, rows[i].query_start + rows[i].query_count);
        if (r->p->bounds_type == SKIM_BOUNDS_I8 && !r->frozen) {
            centre_sum_add(&r->frozen_keys, &r->rows[which[i]].h,
                           rows[i].length - rows[i].query_count, rows[i].query_count);
        }
        rig_store(r, which[i], rows[i].length - rows[i].query_count, rows[i].query_count);
    }
    box sent, table, k, v;
    if (!rig_send_rows(r, rows, count, &sent) || !rig_send_table(r, &table) ||
        !send_new_tokens(r, rows, count, which, tokens, &k, &v)) {
        return false;
    }
    skim_append_args args = {
        .size_of = sizeof args,
        .shape = &r->shape,
        .rows = sent.tensor,
        .row_count = count,
        .token_count = tokens,
        .table = table.tensor,
        .table_count = r->table_count,
        .k = k.tensor,
        .v = v.tensor,
        .keys = r->keys_at,
        .values = r->values_at,
        .bounds = r->bounds.buffer,
        .bounds_offset = r->bounds.offset,
    };
    with_centre(r, &args);
    bool done = ok(r->ctx, skim_append(r->ctx->queue, &args), "skim_append");
    box_consumed(&sent);
    box_consumed(&table);
    box_consumed(&k);
    box_consumed(&v);
    return done;
}

// One chunk of some rows: each goes from done[i] to at most its length less the last call's tokens.
static bool append_chunk(rig *r, uint32_t first, uint32_t end, uint32_t *done, bool *any)
{
    skim_row rows[RIG_ROWS_MAX];
    uint32_t which[RIG_ROWS_MAX];
    uint32_t count = 0;
    uint32_t start = 0;
    *any = false;
    for (uint32_t i = first; i < end; i++) {
        const rig_row *row = &r->rows[i];
        uint32_t left = row->length - row->queries - done[i];
        uint32_t take_now = r->p->chunk ? min_u32(left, r->p->chunk) : left;
        done[i] += take_now;
        if (done[i] == 0) {
            continue;
        }
        reference_plan plan = reference_resolve(&r->policy, 0, r->p->page, done[i], take_now);
        which[count] = i;
        rows[count++] = make_row(&plan, done[i], take_now, start, row->table_start);
        start += take_now;
        *any |= take_now > 0;
    }
    return !*any || rig_append_rows(r, rows, count, which);
}

static bool append_history(rig *r, uint32_t first, uint32_t end, uint32_t *done)
{
    bool any = first < end;
    while (any) {
        if (!append_chunk(r, first, end, done, &any)) {
            return false;
        }
    }
    return true;
}

bool rig_append(rig *r)
{
    uint32_t done[RIG_ROWS_MAX] = {0};
    skim_row rows[RIG_ROWS_MAX];
    uint32_t which[RIG_ROWS_MAX];
    for (uint32_t i = 0; i < r->row_count; i++) {
        done[i] = r->rows[i].shared_pages * r->p->page;
        rows[i] = rig_skim_row(r, i);
        which[i] = i;
    }
    // Row 0 first: the others may share its pages.
    return append_history(r, 0, 1, done) && append_history(r, 1, r->row_count, done) &&
           rig_append_rows(r, rows, r->row_count, which);
}

static bool check_centre(rig *r)
{
    context *ctx = r->ctx;
    if (r->p->bounds_type != SKIM_BOUNDS_I8) {
        return true;
    }
    if (!region_fetch(ctx, &r->centre) || !region_guards(ctx, &r->centre, "centre")) {
        return false;
    }
    const uint32_t channels = r->p->kv_heads * r->p->dim;
    const float *got = (const float *)(const void *)region_copy(&r->centre);
    known_centre mean = centre_sum_mean(ctx, &r->frozen_keys, &r->rows[0].h);
    r->centre_values = (known_centre){.values = take(ctx, channels, sizeof(double))};
    for (uint32_t i = 0; i < channels; i++) {
        r->centre_values.values[i] = (double)got[i];
        if (!check(ctx, fabs((double)got[i] - mean.values[i]) <= mean.slack,
                   "centre: kv head %u, channel %u is %.9g, should be %.9g +- %.2g", i / r->p->dim,
                   i % r->p->dim, (double)got[i], mean.values[i], mean.slack)) {
            return false;
        }
    }
    return true;
}

bool rig_bounds(rig *r, uint32_t row, page_bounds *b)
{
    if (!check_centre(r)) {
        return false;
    }
    bounds_around(r->ctx, b, &r->rows[row].h, r->p->page, r->p->bounds, &r->centre_values);
    return true;
}

bool rig_check_pools(rig *r)
{
    context *ctx = r->ctx;
    if (!region_fetch(ctx, &r->keys) || !region_guards(ctx, &r->keys, "keys") ||
        !region_same(ctx, &r->keys, "keys", 0, r->keys.size)) {
        return false;
    }
    if (!r->one_pool &&
        (!region_fetch(ctx, &r->values) || !region_guards(ctx, &r->values, "values") ||
         !region_same(ctx, &r->values, "values", 0, r->values.size))) {
        return false;
    }
    return region_fetch(ctx, &r->bounds) && region_guards(ctx, &r->bounds, "bounds") &&
           check_centre(r);
}

// --- estimate

bool rig_estimate_rows(rig *r, const skim_row *rows, uint32_t count)
{
    box sent, table;
    if (!rig_send_rows(r, rows, count, &sent) || !rig_send_table(r, &table) ||
        !box_send(r->ctx, &r->q)) {
        return false;
    }
    skim_estimate_args args = {
        .size_of = sizeof args,
        .shape = &r->shape,
        .rows = sent.tensor,
        .row_count = count,
        .token_count = r->token_count,
        .table = table.tensor,
        .table_count = r->table_count,
        .q = r->q.tensor,
        .bounds = r->bounds.buffer,
        .bounds_offset = r->bounds.offset,
        .centre = r->centre.buffer,
        .centre_offset = r->centre.offset,
        .spread = r->p->spread,
        .scores = r->scores.buffer,
        .scores_offset = r->scores.offset,
        .score_stride = r->score_stride,
    };
    bool done = ok(r->ctx, skim_estimate(r->ctx->queue, &args), "skim_estimate");
    box_consumed(&sent);
    box_consumed(&table);
    box_consumed(&r->q);
    return done;
}

static void all_rows(const rig *r, skim_row *rows)
{
    for (uint32_t i = 0; i < r->row_count; i++) {
        rows[i] = rig_skim_row(r, i);
    }
}

bool rig_estimate(rig *r)
{
    skim_row rows[RIG_ROWS_MAX];
    all_rows(r, rows);
    return rig_estimate_rows(r, rows, r->row_count);
}

bool rig_check_score_row(rig *r, uint32_t i, uint32_t head)
{
    rig_row *row = &r->rows[i];
    const float *scores = scores_of(r, i, head);
    for (uint32_t page = 0; page < row->plan.page_count; page++) {
        if (reference_forced(&row->plan, page)) {
            continue;
        }
        double tolerance;
        double expected = expected_score(r->p, &row->bounds, page, head / r->p->group,
                                         rig_query(r, i, 0, head), &tolerance);
        double got = (double)scores[page];
        if (!(got - expected <= tolerance && expected - got <= tolerance)) {
            return fail(r->ctx, "score: row %u, head %u, page %u is %.9g, should be %.9g +- %.2g",
                        i, head, page, got, expected, tolerance);
        }
    }
    uint64_t start = ((uint64_t)i * r->q_heads + head) * r->score_stride + r->shape.max_pages;
    return region_same(r->ctx, &r->scores, "the padding of the scores", start * 4,
                       (r->score_stride - r->shape.max_pages) * 4ull);
}

static bool any_list(const rig *r)
{
    for (uint32_t i = 0; i < r->row_count; i++) {
        if (rig_is_sparse(&r->rows[i])) {
            return true;
        }
    }
    return false;
}

bool rig_must_be_sparse(rig *r)
{
    return check(r->ctx, any_list(r), "no row is sparse: the case tests nothing");
}

bool rig_check_scores(rig *r)
{
    if (!region_fetch(r->ctx, &r->scores) || !region_guards(r->ctx, &r->scores, "scores")) {
        return false;
    }
    for (uint32_t i = 0; i < r->row_count; i++) {
        if (!rig_is_sparse(&r->rows[i])) {
            continue;
        }
        if (!rig_bounds(r, i, &r->rows[i].bounds)) {
            return false;
        }
        for (uint32_t head = 0; head < r->q_heads; head++) {
            if (!rig_check_score_row(r, i, head)) {
                return false;
            }
        }
    }
    return true;
}

// --- select

bool rig_select_rows(rig *r, const skim_row *rows, uint32_t count)
{
    box sent;
    if (!rig_send_rows(r, rows, count, &sent)) {
        return false;
    }
    skim_select_args args = {
        .size_of = sizeof args,
        .shape = &r->shape,
        .rows = sent.tensor,
        .row_count = count,
        .scores = r->scores.buffer,
        .scores_offset = r->scores.offset,
        .score_stride = r->score_stride,
        .select = r->p->select,
        .combine = r->p->combine,
        .scale = r->p->scale,
        .lists = r->lists.buffer,
        .lists_offset = r->lists.offset,
        .list_stride = r->list_stride,
    };
    bool done = ok(r->ctx, skim_select(r->ctx->queue, &args), "skim_select");
    box_consumed(&sent);
    return done;
}

bool rig_select(rig *r)
{
    skim_row rows[RIG_ROWS_MAX];
    all_rows(r, rows);
    return rig_select_rows(r, rows, r->row_count);
}

// A list against the scores that the device itself computed.
static bool check_list(rig *r, uint32_t i, uint32_t list)
{
    const reference_plan *plan = &r->rows[i].plan;
    bool alone = r->select == SKIM_SELECT_HEAD;
    uint32_t heads = alone ? 1 : r->p->group;
    skim_combine combine = alone ? SKIM_COMBINE_MAX : r->p->combine;
    double *scores = take(r->ctx, (size_t)heads * plan->page_count, sizeof *scores);
    double *combined = take(r->ctx, plan->page_count, sizeof *combined);
    for (uint32_t h = 0; h < heads; h++) {
        const float *from = scores_of(r, i, list * heads + h);
        for (uint32_t page = 0; page < plan->page_count; page++) {
            scores[h * plan->page_count + page] = (double)from[page];
        }
    }
    reference_combine(plan, combine, rig_scale(r), scores, plan->page_count, heads, combined);
    double tolerance =
        combine_tolerance(plan, combine, rig_scale(r), scores, plan->page_count, heads);
    char what[48];
    snprintf(what, sizeof what, "list: row %u, list %u", i, list);
    const uint32_t *got = rig_list(r, i, alone ? list : list * heads);
    uint64_t end = ((uint64_t)i * r->lists_per_row + list) * r->list_stride + plan->select_count;
    return verify_list(r->ctx, what, plan, combined, tolerance, got, plan->select_count) &&
           verify_ties(r->ctx, what, plan, scores, plan->page_count, heads, got,
                       plan->select_count) &&
           region_same(r->ctx, &r->lists, "the padding of the lists", end * 4,
                       (r->list_stride - plan->select_count) * 4ull);
}

bool rig_check_lists(rig *r)
{
    if (!region_fetch(r->ctx, &r->scores) || !region_fetch(r->ctx, &r->lists) ||
        !region_guards(r->ctx, &r->lists, "lists")) {
        return false;
    }
    for (uint32_t i = 0; i < r->row_count; i++) {
        for (uint32_t list = 0; rig_is_sparse(&r->rows[i]) && list < r->lists_per_row; list++) {
            if (!check_list(r, i, list)) {
                return false;
            }
        }
    }
    return true;
}

// --- attend

bool rig_attend_rows(rig *r, const skim_row *rows, uint32_t count, bool lists)
{
    box sent, table;
    if (!rig_send_rows(r, rows, count, &sent) || !rig_send_table(r, &table) ||
        !box_send(r->ctx, &r->q)) {
        return false;
    }
    skim_attend_args args = {
        .size_of = sizeof args,
        .shape = &r->shape,
        .rows = sent.tensor,
        .row_count = count,
        .token_count = r->token_count,
        .table = table.tensor,
        .table_count = r->table_count,
        .q = r->q.tensor,
        .keys = r->keys_at,
        .values = r->values_at,
        .select = r->p->select,
        .lists = lists ? r->lists.buffer : NULL,
        .lists_offset = lists ? r->lists.offset : 0,
        .list_stride = lists ? r->list_stride : 0,
        .scale = r->p->scale,
        .out = r->out.tensor,
    };
    if (r->p->lse) {
        args.lse = r->lse.tensor;
    }
    bool done = ok(r->ctx, skim_attend(r->ctx->queue, &args), "skim_attend");
    box_consumed(&sent);
    box_consumed(&table);
    box_consumed(&r->q);
    return done;
}

static bool any_sparse(const rig *r)
{
    for (uint32_t i = 0; i < r->row_count; i++) {
        if (!r->rows[i].plan.dense) {
            return true;
        }
    }
    return false;
}

bool rig_decode_rows(rig *r, const skim_row *rows, uint32_t count)
{
    return rig_estimate_rows(r, rows, count) && rig_select_rows(r, rows, count) &&
           rig_attend_rows(r, rows, count, true);
}

bool rig_attend(rig *r)
{
    skim_row rows[RIG_ROWS_MAX];
    all_rows(r, rows);
    return rig_attend_rows(r, rows, r->row_count, any_sparse(r));
}

static attention make_attention(const rig *r, uint32_t i, uint32_t j, uint32_t head)
{
    const rig_row *row = &r->rows[i];
    return (attention){
        .h = &row->h,
        .page_size = r->p->page,
        .scale = rig_scale(r),
        .position = row->length - row->queries + j,
        .q_head = head,
        .q = rig_query(r, i, j, head),
        .list = rig_is_sparse(row) ? rig_list(r, i, head) : NULL,
        .list_count = row->plan.select_count,
        .out = &r->out,
        .lse = r->p->lse ? &r->lse : NULL,
        .token = row->query_start + j,
    };
}

// The queries of a row: the ends and the page boundaries first, the rest in random order.
static uint32_t *query_order(const rig *r, uint32_t i)
{
    const rig_row *row = &r->rows[i];
    uint32_t *order = take(r->ctx, row->queries + 1, sizeof *order);
    for (uint32_t j = 0; j < row->queries; j++) {
        order[j] = j;
    }
    shuffle(r->ctx, order, row->queries);
    uint32_t front = 0;
    for (uint32_t j = 0; j < row->queries; j++) {
        uint32_t position = row->length - row->queries + order[j];
        bool special = order[j] == 0 || order[j] + 1 == row->queries || position % r->p->page == 0;
        if (special) {
            uint32_t other = order[front];
            order[front++] = order[j];
            order[j] = other;
        }
    }
    return order;
}

static bool check_row(rig *r, uint32_t i)
{
    const rig_row *row = &r->rows[i];
    const uint32_t *order = query_order(r, i);
    double spent = 0.0;
    for (uint32_t n = 0; n < row->queries; n++) {
        if (!verify_finite(r->ctx, &r->out, row->query_start + order[n])) {
            return false;
        }
        for (uint32_t h = 0; h < r->q_heads && spent < ORACLE_BUDGET / r->row_count; h++) {
            attention a = make_attention(r, i, order[n], (h + n) % r->q_heads);
            spent += attention_cost(&a);
            if (!verify_attention(r->ctx, &a)) {
                return false;
            }
        }
    }
    return true;
}

static bool check_nobody(rig *r)
{
    bool *used = take(r->ctx, r->token_count, sizeof *used);
    for (uint32_t i = 0; i < r->row_count; i++) {
        for (uint32_t j = 0; j < r->rows[i].queries; j++) {
            used[r->rows[i].query_start + j] = true;
        }
    }
    for (uint32_t token = 0; token < r->token_count; token++) {
        for (uint32_t head = 0; !used[token] && head < r->q_heads; head++) {
            for (uint32_t d = 0; d < r->p->dim; d++) {
                if (!box_untouched(&r->out, token, head, d)) {
                    return fail(r->ctx, "out: token %u, which is of no row, was written", token);
                }
            }
        }
    }
    return true;
}

bool rig_check_attend(rig *r)
{
    context *ctx = r->ctx;
    if (!box_receive(ctx, &r->out, "out") || !box_receive(ctx, &r->lse, "lse")) {
        return false;
    }
    if (any_sparse(r) && !region_fetch(ctx, &r->lists)) {
        return false;
    }
    for (uint32_t i = 0; i < r->row_count; i++) {
        if (!check_row(r, i)) {
            return false;
        }
    }
    return check_nobody(r);
}

bool rig_run(rig *r)
{
    return rig_append(r) && rig_check_pools(r) && rig_estimate(r) && rig_check_scores(r) &&
           rig_select(r) && rig_check_lists(r) && rig_attend(r) && rig_check_attend(r) &&
           rig_check_pools(r);
}
