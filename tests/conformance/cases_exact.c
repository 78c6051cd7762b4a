// Answers known exactly: needles, ties, and results that must not change by a bit.
#include "model.h"
#include "rig.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

// --- needles

// How often each class is among the tokens that a query attends to, against out * count.
static bool check_classes(rig *r, uint32_t i, uint32_t j, uint32_t head, uint32_t *tokens,
                          uint32_t *classes)
{
    const rig_row *row = &r->rows[i];
    attention a = {.page_size = r->p->page, .position = row->length - row->queries + j};
    if (rig_is_sparse(row)) {
        a.list = rig_list(r, i, head);
        a.list_count = row->plan.select_count;
    }
    uint32_t count = list_tokens(&a, tokens);
    memset(classes, 0, r->p->dim * sizeof *classes);
    for (uint32_t n = 0; n < count; n++) {
        classes[token_class(tokens[n], r->p->dim)]++;
    }
    for (uint32_t d = 0; d < r->p->dim; d++) {
        double got = (double)box_get(&r->out, row->query_start + j, head, d) * count;
        if (!(fabs(got - classes[d]) < 0.45)) {
            return fail(r->ctx,
                        "row %u, token %u, head %u: %.4f tokens of class %u, should be %u of %u", i,
                        a.position, head, got, d, classes[d], count);
        }
    }
    return true;
}

static void run_uniform(context *ctx, const params *p)
{
    rig r;
    if (!rig_init(ctx, &r, p) || !rig_run(&r)) {
        return;
    }
    uint32_t *classes = take(ctx, p->dim, sizeof *classes);
    for (uint32_t i = 0; i < r.row_count; i++) {
        uint32_t *tokens = take(ctx, r.rows[i].length + p->page, sizeof *tokens);
        for (uint32_t j = 0; j < r.rows[i].queries; j++) {
            for (uint32_t head = 0; head < r.q_heads; head++) {
                if (!check_classes(&r, i, j, head, tokens, classes)) {
                    return;
                }
            }
        }
    }
}

static bool check_needle(rig *r, uint32_t token, uint32_t head, uint32_t target)
{
    const float *value = history_value(&r->rows[0].h, target, head / r->p->group);
    for (uint32_t d = 0; d < r->p->dim; d++) {
        float got = box_get(&r->out, token, head, d);
        if (!(fabsf(got - value[d]) < 0.25f)) {
            return fail(r->ctx, "token %u, head %u, channel %u: %g, the needle (token %u) holds %g",
                        token, head, d, (double)got, target, (double)value[d]);
        }
    }
    return true;
}

// Every query matches the key of one token of its past; dense attention must return that token's
// number.
static void run_needle(context *ctx, const params *p)
{
    rig r;
    if (!rig_init(ctx, &r, p) || !rig_append(&r)) {
        return;
    }
    uint32_t *targets = take(ctx, (size_t)p->queries * r.q_heads, sizeof *targets);
    size_t per_token = (size_t)r.q_heads * p->dim;
    for (uint32_t j = 0; j < p->queries; j++) {
        make_query(ctx, &r.rows[0].h, p->length - p->queries + j, p->q, r.queries + j * per_token,
                   targets + j * r.q_heads);
        box_set(&r.q, j, r.queries + j * per_token);
    }
    if (!rig_attend(&r) || !box_receive(ctx, &r.out, "out")) {
        return;
    }
    for (uint32_t j = 0; j < p->queries; j++) {
        for (uint32_t head = 0; head < r.q_heads; head++) {
            if (!check_needle(&r, j, head, targets[j * r.q_heads + head])) {
                return;
            }
        }
    }
}

// --- rounding

// Values around the ties of the narrower type, its largest, its subnormals; or every f16 in turn.
static float edge_value(context *ctx, const params *p, uint32_t index)
{
    if (p->kv == SKIM_F16) {
        uint16_t bits = (uint16_t)(index * 7u);
        return (bits & 0x7c00u) == 0x7c00u ? 1.0f : reference_f16_to_f32(bits);
    }
    int exponent = (int)random_below(ctx, 44) - 27;
    double mantissa =
        1.0 + (double)random_below(ctx, 4096) / 4096.0; // many are ties of f16 and bf16
    double nudge = ((double)random_below(ctx, 3) - 1.0) * 0x1p-22;
    double value = ldexp(mantissa + nudge, exponent) * (random_below(ctx, 2) ? 1.0 : -1.0);
    return reference_round((float)value, p->kv);
}

// Over one token the softmax is 1, and the result is the value itself, rounded once.
static void run_rounding(context *ctx, const params *p)
{
    rig r;
    if (!rig_init(ctx, &r, p)) {
        return;
    }
    uint32_t index = 0;
    for (uint32_t i = 0; i < r.row_count; i++) {
        for (uint32_t n = 0; n < p->kv_heads * p->dim; n++) {
            history_value(&r.rows[i].h, 0, 0)[n] = edge_value(ctx, p, index++);
        }
    }
    if (!rig_append(&r) || !rig_attend(&r) || !box_receive(ctx, &r.out, "out")) {
        return;
    }
    for (uint32_t i = 0; i < r.row_count; i++) {
        for (uint32_t n = 0; r.rows[i].queries && n < r.q_heads * p->dim; n++) {
            uint32_t head = n / p->dim;
            float value = history_value(&r.rows[i].h, 0, head / p->group)[n % p->dim];
            float expected = reference_round(value, p->out);
            float got = box_get(&r.out, r.rows[i].query_start, head, n % p->dim);
            if (!(got <= expected && got >= expected)) {
                fail(ctx, "%.9g came out as %.9g, should be %.9g", (double)value, (double)got,
                     (double)expected);
                return;
            }
        }
    }
}

// --- ties

// Pages that repeat every third, or differ from their twins by the smallest step of the stored type
// in one channel; all scores are exact.
static void make_twins(rig *r, bool near)
{
    const params *p = r->p;
    float step = p->kv == SKIM_BF16 ? 0x1p-7f : p->kv == SKIM_F16 ? 0x1p-10f : 0x1p-13f;
    for (uint32_t i = 0; i < r->row_count; i++) {
        history *h = &r->rows[i].h;
        for (uint32_t token = 0; token < h->length; token++) {
            uint32_t page = token / p->page;
            uint32_t twin = page % 3 * p->page + token % p->page;
            for (uint32_t head = 0; head < p->kv_heads; head++) {
                float *key = history_key(h, token, head);
                memcpy(key, history_key(h, min_u32(twin, token), head), p->dim * sizeof *key);
                key[0] = near ? 1.0f + (float)(page * 7 % 2) * step : 1.0f;
            }
        }
    }
    for (uint32_t token = 0; token < r->token_count; token++) {
        float *q = r->queries + (size_t)token * r->q_heads * p->dim;
        for (uint32_t head = 0; head < r->q_heads; head++) {
            q[(size_t)head * p->dim] = 1.0f;
        }
        box_set(&r->q, token, q);
    }
}

static void run_ties(context *ctx, const params *p)
{
    rig r;
    if (!rig_init(ctx, &r, p)) {
        return;
    }
    make_twins(&r, p->variant % 2);
    bool done = rig_must_be_sparse(&r) && rig_run(&r);
    (void)done;
}

// --- the same bits

typedef struct kept {
    box out, lse;
    uint8_t *scores, *lists;
} kept;

static bool keep_results(rig *r, kept *k)
{
    if (!box_receive(r->ctx, &r->out, "out") || !box_receive(r->ctx, &r->lse, "lse") ||
        !region_fetch(r->ctx, &r->scores) || !region_fetch(r->ctx, &r->lists)) {
        return false;
    }
    k->out = r->out;
    k->lse = r->lse;
    k->scores = take(r->ctx, r->scores.total, 1);
    k->lists = take(r->ctx, r->lists.total, 1);
    memcpy(k->scores, r->scores.copy, r->scores.total);
    memcpy(k->lists, r->lists.copy, r->lists.total);
    // Later results go elsewhere, so that these stay.
    return box_init(r->ctx, &r->out, r->p->place, r->p->out, r->token_count, r->q_heads,
                    r->p->dim) &&
           box_init(r->ctx, &r->lse, r->p->place, SKIM_F32, r->token_count, r->q_heads, 1) &&
           box_send(r->ctx, &r->out) && box_send(r->ctx, &r->lse);
}

static bool same_row(rig *r, const kept *k, uint32_t i, uint32_t head, const char *what)
{
    for (uint32_t j = 0; j < r->rows[i].queries; j++) {
        uint32_t token = r->rows[i].query_start + j;
        if (!box_same(r->ctx, &k->out, &r->out, token, head, what) ||
            !box_same(r->ctx, &k->lse, &r->lse, token, head, what)) {
            return false;
        }
    }
    return true;
}

static bool decode_all(rig *r)
{
    skim_row rows[RIG_ROWS_MAX];
    for (uint32_t i = 0; i < r->row_count; i++) {
        rows[i] = rig_skim_row(r, i);
    }
    return rig_decode_rows(r, rows, r->row_count);
}

static bool receive(rig *r)
{
    return box_receive(r->ctx, &r->out, "out") && box_receive(r->ctx, &r->lse, "lse") &&
           region_fetch(r->ctx, &r->scores) && region_fetch(r->ctx, &r->lists);
}

static void run_twice(context *ctx, const params *p)
{
    rig r;
    kept k;
    if (!rig_init(ctx, &r, p) || !rig_append(&r) || !decode_all(&r) || !keep_results(&r, &k) ||
        !decode_all(&r) || !receive(&r) ||
        !check(ctx, memcmp(k.scores, r.scores.copy, r.scores.total) == 0, "the scores differ") ||
        !check(ctx, memcmp(k.lists, r.lists.copy, r.lists.total) == 0, "the lists differ")) {
        return;
    }
    for (uint32_t i = 0; i < r.row_count; i++) {
        for (uint32_t head = 0; head < r.q_heads; head++) {
            if (!same_row(&r, &k, i, head, "the second run differs")) {
                return;
            }
        }
    }
}

// Each row by itself gives what it gave in the batch.
static void run_alone(context *ctx, const params *p)
{
    rig r;
    kept k;
    if (!rig_init(ctx, &r, p) || !rig_append(&r) || !decode_all(&r) || !keep_results(&r, &k)) {
        return;
    }
    for (uint32_t i = 0; i < r.row_count; i++) {
        skim_row row = rig_skim_row(&r, i);
        if (r.rows[i].queries == 0) {
            continue;
        }
        if (!rig_decode_rows(&r, &row, 1) || !receive(&r)) {
            return;
        }
        for (uint32_t head = 0; head < r.q_heads; head++) {
            if (!same_row(&r, &k, i, head, "alone and in the batch")) {
                return;
            }
        }
    }
}

// --- harm in one kv head

typedef enum harm {
    HARM_KEY_NAN,
    HARM_KEY_INF,
    HARM_VALUE_NAN,
    HARM_VALUE_INF,
    HARM_QUERY_NAN,
    HARM_QUERY_INF,
    HARM_KEY_MIXED,
    HARM_KINDS
} harm;

static void harm_history(rig *r, harm kind, uint32_t head)
{
    for (uint32_t i = 0; i < r->row_count; i++) {
        history *h = &r->rows[i].h;
        for (uint32_t token = i % 2; token < h->length; token += 1 + token % 5) {
            uint32_t d = token * 13 % h->dim;
            float *k = history_key(h, token, head) + d;
            float *v = history_value(h, token, head) + d;
            *k = kind == HARM_KEY_NAN     ? NAN
                 : kind == HARM_KEY_INF   ? INFINITY
                 : kind == HARM_KEY_MIXED ? (token % 3 ? -INFINITY : NAN)
                                          : *k;
            *v = kind == HARM_VALUE_NAN ? NAN : kind == HARM_VALUE_INF ? -INFINITY : *v;
        }
    }
}

static void harm_queries(rig *r, harm kind, uint32_t kv_head)
{
    for (uint32_t token = 0; token < r->token_count; token++) {
        float *q = r->queries + (size_t)token * r->q_heads * r->p->dim;
        for (uint32_t h = 0; h < r->p->group; h += 2) {
            float *at = q + (size_t)(kv_head * r->p->group + h) * r->p->dim + token % r->p->dim;
            *at = kind == HARM_QUERY_NAN ? NAN : kind == HARM_QUERY_INF ? INFINITY : *at;
        }
        box_set(&r->q, token, q);
    }
}

static bool lists_valid(rig *r)
{
    for (uint32_t i = 0; i < r->row_count; i++) {
        for (uint32_t head = 0; rig_is_sparse(&r->rows[i]) && head < r->q_heads; head++) {
            char what[48];
            snprintf(what, sizeof what, "list: row %u, head %u", i, head);
            const reference_plan *plan = &r->rows[i].plan;
            if (!verify_list_form(r->ctx, what, plan, rig_list(r, i, head), plan->select_count)) {
                return false;
            }
        }
    }
    return true;
}

static void run_harm(context *ctx, const params *p)
{
    rig r;
    kept k;
    if (!rig_init(ctx, &r, p) || !rig_append(&r) || !decode_all(&r) || !keep_results(&r, &k)) {
        return;
    }
    uint32_t victim = p->variant % p->kv_heads;
    harm kind = (harm)(p->variant % HARM_KINDS);
    harm_history(&r, kind, victim);
    harm_queries(&r, kind, victim);
    if (!rig_append(&r) || !decode_all(&r) || !receive(&r) || !rig_check_pools(&r) ||
        !lists_valid(&r)) {
        return;
    }
    for (uint32_t i = 0; i < r.row_count; i++) {
        for (uint32_t head = 0; head < r.q_heads; head++) {
            if (head / p->group != victim &&
                !same_row(&r, &k, i, head, "harm in another kv head")) {
                return;
            }
        }
    }
}

// --- merging by lse

typedef struct part {
    double *out; // [q_heads][dim]
    double *lse;
} part;

static bool attend_part(rig *r, uint32_t pages, part *result)
{
    skim_row row = rig_skim_row(r, 0);
    row.select_count = pages;
    row.forced_first = 0;
    row.flags = 0;
    if (!region_upload(r->ctx, &r->lists) || !rig_attend_rows(r, &row, 1, true) ||
        !box_receive(r->ctx, &r->out, "out") || !box_receive(r->ctx, &r->lse, "lse")) {
        return false;
    }
    result->out = take(r->ctx, (size_t)r->q_heads * r->p->dim, sizeof *result->out);
    result->lse = take(r->ctx, r->q_heads, sizeof *result->lse);
    for (uint32_t head = 0; head < r->q_heads; head++) {
        result->lse[head] = (double)box_get(&r->lse, 0, head, 0);
        for (uint32_t d = 0; d < r->p->dim; d++) {
            result->out[(size_t)head * r->p->dim + d] = (double)box_get(&r->out, 0, head, d);
        }
    }
    return true;
}

// Deals the pages of every list into a part of the given size and its complement.
static void deal_pages(rig *r, uint32_t size, uint32_t *first, uint32_t *second)
{
    uint32_t pages = r->rows[0].plan.page_count;
    uint32_t *order = take(r->ctx, pages, sizeof *order);
    for (uint32_t list = 0; list < r->lists_per_row; list++) {
        bool *chosen = take(r->ctx, pages, sizeof *chosen);
        for (uint32_t page = 0; page < pages; page++) {
            order[page] = page;
        }
        shuffle(r->ctx, order, pages);
        for (uint32_t i = 0; i < size; i++) {
            chosen[order[i]] = true;
        }
        uint32_t *one = first + (size_t)list * r->list_stride;
        uint32_t *two = second + (size_t)list * r->list_stride;
        for (uint32_t page = 0; page < pages; page++) {
            *(chosen[page] ? one++ : two++) = page;
        }
    }
}

static bool check_merged(rig *r, const part *merged)
{
    const rig_row *row = &r->rows[0];
    uint32_t *tokens = take(r->ctx, row->length + r->p->page, sizeof *tokens);
    double *weights = take(r->ctx, row->length, sizeof *weights);
    double *expected = take(r->ctx, r->p->dim, sizeof *expected);
    attention all = {.page_size = r->p->page, .position = row->length - 1};
    uint32_t count = list_tokens(&all, tokens);
    for (uint32_t head = 0; head < r->q_heads; head++) {
        reference_attend_args args = {.q = rig_query(r, 0, 0, head),
                                      .keys = history_key(&row->h, 0, head / r->p->group),
                                      .values = history_value(&row->h, 0, head / r->p->group),
                                      .stride = history_stride(&row->h),
                                      .dim = r->p->dim,
                                      .scale = rig_scale(r),
                                      .tokens = tokens,
                                      .count = count};
        double lse, largest, error = 0.0, energy = 0.0;
        reference_attend(&args, weights, expected, &lse, &largest);
        for (uint32_t d = 0; d < r->p->dim; d++) {
            double difference = merged->out[(size_t)head * r->p->dim + d] - expected[d];
            error += difference * difference;
            energy += expected[d] * expected[d];
        }
        double limit = fmax(1e-9, 64.0 * pow(EPSILON32 * largest, 2));
        if (!(error <= limit * energy) || !(fabs(merged->lse[head] - lse) < 1e-4)) {
            return fail(r->ctx, "head %u: merged NMSE %.3g, lse %.9g, should be %.9g", head,
                        error / energy, merged->lse[head], lse);
        }
    }
    return true;
}

static bool check_empty(rig *r, const part *empty)
{
    for (uint32_t i = 0; i < r->q_heads; i++) {
        bool nothing = isinf(empty->lse[i]) && empty->lse[i] < 0.0;
        for (uint32_t d = 0; nothing && d < r->p->dim; d++) {
            double got = empty->out[(size_t)i * r->p->dim + d];
            nothing = got <= 0.0 && got >= 0.0;
        }
        if (!nothing) {
            return fail(r->ctx, "head %u: an empty list gives lse %g, should be -inf, and out 0", i,
                        empty->lse[i]);
        }
    }
    return true;
}

static void run_merge(context *ctx, const params *p)
{
    rig r;
    part one, two, none;
    if (!rig_init(ctx, &r, p)) {
        return;
    }
    uint32_t pages = r.rows[0].plan.page_count;
    r.list_stride = pages;
    uint64_t bytes = (uint64_t)r.lists_per_row * pages * 4;
    if (!rig_append(&r) || !region_init(ctx, &r.lists, bytes, 16, SKIM_U32)) {
        return;
    }
    uint32_t size = 1 + random_below(ctx, pages - 1);
    uint32_t *second = take(ctx, bytes, 1);
    deal_pages(&r, size, (uint32_t *)(void *)region_bytes(&r.lists), second);
    if (!attend_part(&r, size, &one)) {
        return;
    }
    memcpy(region_bytes(&r.lists), second, bytes);
    if (!attend_part(&r, pages - size, &two) || !attend_part(&r, 0, &none) ||
        !check_empty(&r, &none)) {
        return;
    }
    for (uint32_t head = 0; head < r.q_heads; head++) {
        size_t at = (size_t)head * p->dim;
        reference_merge(p->dim, none.out + at, &none.lse[head], one.out + at, one.lse[head]);
        reference_merge(p->dim, none.out + at, &none.lse[head], two.out + at, two.lse[head]);
    }
    check_merged(&r, &none);
}

// --- dense and sparse over all pages

static void run_same(context *ctx, const params *p)
{
    model m;
    model_options options = {.longest = p->length + 3};
    if (!model_init(ctx, &m, p, &options) || !model_create(&m, 0) ||
        !model_fill(&m, 0, p->length, 0)) {
        return;
    }
    skim_policy policies[4] = {m.policies[0], m.policies[0], m.policies[0], m.policies[0]};
    policies[0].dense_layers = 1;
    policies[1].budget = ceil_div(p->length + 1, p->page) * p->page;
    policies[1].budget_fraction = 0.0;
    policies[2].sink_pages = UINT32_MAX;
    policies[3].dense_below = p->length + 2;
    model_same(&m, 0, policies, 4);
}

// --- the table

static params varied(uint32_t i)
{
    params p = default_params();
    p.kv = PICK(all_types, i);
    p.q = PICK(all_types, i / 2);
    p.out = PICK(all_types, i / 3 + 2);
    p.dim = min_u32(PICK(all_dims, i), 136);
    p.page = PICK(all_pages, i / 2);
    p.group = PICK(all_groups, i);
    p.kv_heads = min_u32(PICK(all_kv_heads, i / 2), 3);
    p.select = (skim_select_mode)(i % 3);
    p.combine = PICK(all_combines, i / 3);
    p.bounds = i / 3 % 2 ? SKIM_BOUNDS_MEANSTD : SKIM_BOUNDS_MINMAX;
    p.data = PICK(real_data, i);
    p.layout = (pool_layout)(i % 4);
    p.place = (placement)(i / 3 % 4);
    p.length = 5 * p.page + i * 23 % (5 * p.page);
    p.budget = (2 + i % 3) * p.page;
    p.sinks = i % 5 == 3;
    p.variant = i;
    return p;
}

static void add_uniform(case_table *table, uint32_t *i)
{
    for (uint32_t n = 0; n < 72; n++, ++*i) {
        params p = varied(*i);
        p.data = DATA_UNIFORM;
        p.bounds = SKIM_BOUNDS_MINMAX;
        p.combine = n % 2 ? SKIM_COMBINE_MAX : p.combine;
        p.batch = n % 4 < 2 ? BATCH_ONE : (batch_kind)(n / 4 % 4);
        p.queries = n % 3 == 1 && p.batch == BATCH_ONE ? p.page + 1 + n : 1;
        p.variant = n % 6;
        if (n % 12 == 7) {
            p.length = 2000 + n;
            p.queries = 1;
            p.budget = 640;
            p.batch = BATCH_ONE;
        }
        add_case(table, "exact/uniform", n % 8 == 0 || n == 4, run_uniform, &p);
    }
}

static void add_needles(case_table *table, uint32_t *i)
{
    for (uint32_t n = 0; n < 48; n++, ++*i) {
        params p = varied(*i);
        p.data = DATA_NEEDLE;
        p.budget = 1u << 20;
        p.dim = max_u32(p.dim, 64);
        p.length = n % 6 == 5 ? 1500 : p.length;
        p.queries = n % 2 ? min_u32(p.length, 5 * p.page) : 1;
        p.scale = 0.0f;
        p.variant = 0;
        add_case(table, "exact/needle", n % 8 == 1, run_needle, &p);
    }
}

typedef struct exact_kind {
    const char *name;
    case_run *run;
    uint32_t count, quick;
} exact_kind;

static void add_bits(case_table *table, uint32_t *i)
{
    static const exact_kind kinds[] = {
        {"exact/twice", run_twice, 48, 4},
        {"exact/alone", run_alone, 48, 5},
        {"exact/harm", run_harm, 70, 7},
    };
    for (size_t kind = 0; kind < COUNT_OF(kinds); kind++) {
        for (uint32_t n = 0; n < kinds[kind].count; n++, ++*i) {
            params p = varied(*i);
            p.batch = kind == 1 ? (batch_kind)(1 + n % 3) : (batch_kind)(n % 3);
            p.kv_heads = kind == 2 ? 2 + n % 3 : p.kv_heads;
            p.variant = kind == 2 ? n : n % 6;
            if (kind == 1 && n % 8 == 7) {
                p.batch = BATCH_MANY;
                p.length = 1300;
                p.budget = n % 16 == 7 ? 640 : p.page;
                p.dim = 32;
                p.kv_heads = 1;
            }
            if (kind != 2 && n % 10 == 9) {
                p.length = 1111 + n;
                p.budget = 160;
            }
            bool quick = n < kinds[kind].quick || (kind == 1 && n == 7);
            add_case(table, kinds[kind].name, quick, kinds[kind].run, &p);
        }
    }
}

static void add_rounding(case_table *table, uint32_t *i)
{
    for (uint32_t n = 0; n < 18; n++, ++*i) {
        params p = varied(*i);
        p.kv = n % 9 < 3 ? SKIM_F32 : n % 9 < 6 ? SKIM_F16 : SKIM_BF16;
        p.out = PICK(all_types, n);
        p.length = 1;
        p.batch = BATCH_MANY;
        p.dim = n < 9 ? 256 : 200 + 8 * (n % 5);
        p.kv_heads = 1 + n % 8;
        p.variant = 0;
        add_case(table, "exact/rounding", n < 9, run_rounding, &p);
    }
}

static void add_ties(case_table *table, uint32_t *i)
{
    for (uint32_t n = 0; n < 48; n++, ++*i) {
        params p = varied(*i);
        p.data = DATA_INTEGER;
        p.bounds = SKIM_BOUNDS_MINMAX;
        p.variant = n % 6;
        p.batch = n % 5 == 4 ? BATCH_DECODE : BATCH_ONE;
        p.length = (6 + n % 9) * p.page + n % p.page;
        p.budget = (3 + n % 4) * p.page;
        add_case(table, "exact/ties", n < 6, run_ties, &p);
    }
}

void add_exact_cases(case_table *table)
{
    uint32_t i = 0;
    add_uniform(table, &i);
    add_needles(table, &i);
    add_ties(table, &i);
    add_rounding(table, &i);
    add_bits(table, &i);
    for (uint32_t n = 0; n < 36; n++, i++) {
        params p = varied(i);
        p.out = SKIM_F32;
        p.sinks = 0;
        p.variant = 0;
        add_case(table, "exact/merge", n < 4, run_merge, &p);
    }
    for (uint32_t n = 0; n < 36; n++, i++) {
        params p = varied(i);
        p.layout = LAYOUT_SKIM;
        p.variant = 0;
        add_case(table, "exact/all-pages", n < 4, run_same, &p);
    }
}
