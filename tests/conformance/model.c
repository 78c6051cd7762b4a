#include "model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

// One step while it is open.
typedef struct open_step {
    model *m;
    skim_step *step;
    const model_entry *entries;
    uint32_t count, tokens;
    const skim_policy *policy; // of the calls, or NULL
    int flags;
    bool frozen[MODEL_LAYERS_MAX]; // the centre, by this step
} open_step;

// What one attend gave and should have given.
typedef struct attend_call {
    box q, out, lse;
    float *queries; // [token][q_heads][dim]
} attend_call;

// --- the cache

static params layer_params(const params *p, uint32_t layer)
{
    params own = *p;
    if (layer > 0) {
        own.dim = PICK(all_dims, layer + p->dim / 8);
        own.group = PICK(all_groups, layer + p->group);
        own.kv_heads = PICK(all_kv_heads, layer + p->kv_heads);
        own.kv = PICK(all_types, layer + (uint32_t)p->kv);
        own.scale = layer % 2 ? 0.17f : 0.0f;
    }
    return own;
}

static bool create_cache(model *m, const model_options *options, const skim_policy *policy)
{
    context *ctx = m->ctx;
    uint32_t sequences = max_u32(options->sequences, 1);
    skim_layer layers[MODEL_LAYERS_MAX];
    for (uint32_t i = 0; i < m->layer_count; i++) {
        const params *own = &m->layers[i];
        layers[i] = (skim_layer){.size_of = sizeof layers[i],
                                 .q_heads = own->group * own->kv_heads,
                                 .kv_heads = own->kv_heads,
                                 .key_dim = own->dim,
                                 .type = own->kv,
                                 .scale = own->scale};
    }
    uint32_t pages = options->capacity_pages ? options->capacity_pages
                                             : sequences * ceil_div(m->longest, m->p->page);
    skim_cache_options create = {
        .size_of = sizeof create,
        .layers = layers,
        .layer_count = m->layer_count,
        .page_size = m->p->page,
        .capacity = (uint64_t)pages * m->p->page,
        .max_sequences = sequences,
        .max_step_tokens = options->step_tokens ? options->step_tokens : m->longest,
        .max_sequence_tokens = m->longest,
        .bounds = m->p->bounds,
        .bounds_type = m->p->bounds_type,
        .policy = policy,
    };
    return ok(ctx, skim_cache_create(ctx->queue, &create, &ctx->cache), "skim_cache_create") &&
           ok(ctx, skim_cache_prepare(ctx->cache, NULL), "skim_cache_prepare");
}

static skim_policy policy_from(const params *p)
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

static bool beyond_limits(const context *ctx, const params *p)
{
    const skim_limits *l = &ctx->limits;
    return p->dim < l->head_dim_min || p->dim > l->head_dim_max || p->dim % l->head_dim_multiple ||
           !(l->kv_types & 1u << p->kv) || !(l->bounds_types & 1u << p->bounds_type) ||
           !(l->page_sizes & p->page) || p->group * p->kv_heads > l->heads_max;
}

bool model_init(context *ctx, model *m, const params *p, const model_options *options)
{
    *m = (model){.ctx = ctx,
                 .p = p,
                 .layer_count = max_u32(options->layers, 1),
                 .longest = options->longest};
    skim_policy policy = policy_from(p);
    policy.dense_layers = options->dense_layers;
    for (uint32_t i = 0; i < m->layer_count; i++) {
        m->layers[i] = layer_params(p, i);
        m->policies[i] = policy;
        if (beyond_limits(ctx, &m->layers[i])) {
            return skip(ctx, "beyond the device's limits");
        }
    }
    return create_cache(m, options, &policy);
}

bool model_create(model *m, uint32_t sequence)
{
    model_sequence *it = &m->sequences[sequence];
    *it = (model_sequence){0};
    for (uint32_t i = 0; i < m->layer_count; i++) {
        history_init(m->ctx, &it->layers[i], &m->layers[i], m->longest);
    }
    return ok(m->ctx, skim_sequence_create(m->ctx->cache, &it->handle), "skim_sequence_create");
}

bool model_destroy(model *m, uint32_t sequence)
{
    skim_sequence *handle = m->sequences[sequence].handle;
    m->sequences[sequence].handle = NULL;
    return ok(m->ctx, skim_sequence_destroy(handle), "skim_sequence_destroy");
}

bool model_set_policy(model *m, uint32_t layer, const skim_policy *policy)
{
    for (uint32_t i = 0; i < m->layer_count; i++) {
        if (layer == SKIM_ALL_LAYERS || layer == i) {
            m->policies[i] = *policy;
        }
    }
    return ok(m->ctx, skim_cache_set_policy(m->ctx->cache, layer, policy), "skim_cache_set_policy");
}

// --- a step's inputs

static void extend_histories(open_step *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        model_sequence *it = &s->m->sequences[s->entries[i].sequence];
        for (uint32_t layer = 0; layer < s->m->layer_count; layer++) {
            history_extend(s->m->ctx, &it->layers[layer], s->entries[i].tokens);
        }
    }
}

static void truncate_histories(open_step *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        model_sequence *it = &s->m->sequences[s->entries[i].sequence];
        for (uint32_t layer = 0; layer < s->m->layer_count; layer++) {
            history_truncate(&it->layers[layer], it->length);
        }
    }
}

// What a layer's first append makes the centre of its int8 bounds. With harmful keys it is not
// known, and lists are held to their form alone.
static void freeze_centre(open_step *s, uint32_t layer)
{
    model *m = s->m;
    if (m->p->bounds_type != SKIM_BOUNDS_I8 || m->centres[layer].values) {
        return;
    }
    centre_sum sum;
    const history *first = &m->sequences[s->entries[0].sequence].layers[layer];
    centre_sum_init(m->ctx, &sum, first);
    for (uint32_t i = 0; i < s->count; i++) {
        const model_sequence *it = &m->sequences[s->entries[i].sequence];
        centre_sum_add(&sum, &it->layers[layer], it->length, s->entries[i].tokens);
    }
    m->centres[layer] = centre_sum_mean(m->ctx, &sum, first);
    if (s->flags & MODEL_HARMFUL) {
        m->centres[layer].slack = INFINITY;
    }
    s->frozen[layer] = true;
}

// A packed input box whose content is harmful as it is made.
static bool input_box(open_step *s, box *b, skim_type type, uint32_t heads, uint32_t dim)
{
    return box_init(s->m->ctx, b, s->m->p->place, type, s->tokens, heads, dim);
}

static bool append_layer(open_step *s, uint32_t layer)
{
    model *m = s->m;
    const params *own = &m->layers[layer];
    box k, v;
    freeze_centre(s, layer);
    if (!input_box(s, &k, own->kv, own->kv_heads, own->dim) ||
        !input_box(s, &v, own->kv, own->kv_heads, own->dim)) {
        return false;
    }
    uint32_t at = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        const model_sequence *it = &m->sequences[s->entries[i].sequence];
        for (uint32_t j = 0; j < s->entries[i].tokens; j++, at++) {
            if (!(s->flags & MODEL_HARMFUL)) {
                box_set(&k, at, history_key(&it->layers[layer], it->length + j, 0));
                box_set(&v, at, history_value(&it->layers[layer], it->length + j, 0));
            }
        }
    }
    bool done =
        box_send(m->ctx, &k) && box_send(m->ctx, &v) &&
        ok(m->ctx, skim_step_append(s->step, layer, &k.tensor, &v.tensor), "skim_step_append");
    box_consumed(&k);
    box_consumed(&v);
    return done;
}

static void fill_queries(open_step *s, uint32_t layer, attend_call *call)
{
    const params *own = &s->m->layers[layer];
    size_t per_token = (size_t)own->group * own->kv_heads * own->dim;
    uint32_t at = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        const model_sequence *it = &s->m->sequences[s->entries[i].sequence];
        for (uint32_t j = 0; j < s->entries[i].tokens; j++, at++) {
            float *q = call->queries + at * per_token;
            make_query(s->m->ctx, &it->layers[layer], it->length + j, s->m->p->q, q, NULL);
            if (!(s->flags & MODEL_HARMFUL)) {
                box_set(&call->q, at, q);
            }
        }
    }
}

static bool attend_layer(open_step *s, uint32_t layer, attend_call *call)
{
    model *m = s->m;
    context *ctx = m->ctx;
    const params *own = &m->layers[layer];
    uint32_t q_heads = own->group * own->kv_heads;
    call->queries = take(ctx, (size_t)s->tokens * q_heads * own->dim, sizeof(float));
    if (!input_box(s, &call->q, m->p->q, q_heads, own->dim) ||
        !input_box(s, &call->out, m->p->out, q_heads, own->dim) ||
        !input_box(s, &call->lse, SKIM_F32, q_heads, 1)) {
        return false;
    }
    fill_queries(s, layer, call);
    skim_step_attend_args args = {
        .size_of = sizeof args, .q = call->q.tensor, .out = call->out.tensor, .policy = s->policy};
    if (m->p->lse) {
        args.lse = call->lse.tensor;
    }
    bool done = box_send(ctx, &call->q) && box_send(ctx, &call->out) && box_send(ctx, &call->lse) &&
                ok(ctx, skim_step_attend(s->step, layer, &args), "skim_step_attend");
    box_consumed(&call->q);
    return done;
}

// --- verdicts

static const skim_policy *policy_of_layer(const open_step *s, uint32_t layer)
{
    return s->policy ? s->policy : &s->m->policies[layer];
}

static reference_plan plan_of(const open_step *s, uint32_t layer, uint32_t entry)
{
    const model_sequence *it = &s->m->sequences[s->entries[entry].sequence];
    uint32_t tokens = s->entries[entry].tokens;
    return reference_resolve(policy_of_layer(s, layer), layer, s->m->p->page, it->length + tokens,
                             tokens);
}

static bool is_group(const open_step *s, uint32_t layer)
{
    skim_select_mode select = policy_of_layer(s, layer)->select;
    return select == SKIM_SELECT_GROUP ||
           (select == SKIM_SELECT_AUTO && s->m->layers[layer].group > 1);
}

static bool check_report(const open_step *s, uint32_t layer)
{
    context *ctx = s->m->ctx;
    skim_step_report report = {.size_of = sizeof report};
    if (!ok(ctx, skim_step_get_report(s->step, layer, &report), "skim_step_get_report")) {
        return false;
    }
    const params *own = &s->m->layers[layer];
    uint64_t lists = is_group(s, layer) ? own->kv_heads : own->group * own->kv_heads;
    uint64_t total = 0;
    uint64_t read = 0;
    uint64_t bounds = 0;
    uint32_t sparse = 0;
    bool i8 = s->m->p->bounds_type == SKIM_BOUNDS_I8;
    uint64_t vector = i8 ? own->dim + 4 : own->dim * skim_type_size(own->kv);
    for (uint32_t i = 0; i < s->count; i++) {
        reference_plan plan = plan_of(s, layer, i);
        bounds += plan.dense ? 0 : 2ull * own->kv_heads * plan.page_count * vector;
        bounds += plan.dense || !i8 ? 0 : 4ull * own->kv_heads * own->dim;
        total += lists * plan.page_count;
        read += lists * (plan.dense ? plan.page_count : plan.select_count);
        sparse += !plan.dense;
    }
    return check(ctx, report.bounds_bytes == bounds,
                 "report: layer %u: %llu bytes of bounds, should be %llu", layer,
                 (unsigned long long)report.bounds_bytes, (unsigned long long)bounds) &&
           check(ctx,
                 report.sparse_sequences == sparse && report.dense_sequences == s->count - sparse,
                 "report: layer %u: %u sparse and %u dense, should be %u and %u", layer,
                 report.sparse_sequences, report.dense_sequences, sparse, s->count - sparse) &&
           check(ctx, report.pages_total == total && report.pages_read == read,
                 "report: layer %u: %llu of %llu pages, should be %llu of %llu", layer,
                 (unsigned long long)report.pages_read, (unsigned long long)report.pages_total,
                 (unsigned long long)read, (unsigned long long)total);
}

// One list of a sparse sequence against scores of the reference.
static bool check_list(const open_step *s, uint32_t layer, uint32_t entry, uint32_t first_head,
                       const float *q, const page_bounds *bounds, const uint32_t *list,
                       uint32_t count)
{
    context *ctx = s->m->ctx;
    params own = s->m->layers[layer];
    const skim_policy *policy = policy_of_layer(s, layer);
    own.spread = policy->spread;
    reference_plan plan = plan_of(s, layer, entry);
    bool group = is_group(s, layer);
    if (isinf(bounds->centre.slack)) {
        return verify_list_form(ctx, "list around an unknown centre", &plan, list, count);
    }
    uint32_t heads = group ? own.group : 1;
    skim_combine combine = group ? policy->combine : SKIM_COMBINE_MAX;
    double scale = default_scale(&own);
    double *scores = take(ctx, (size_t)heads * plan.page_count, sizeof *scores);
    double *combined = take(ctx, plan.page_count, sizeof *combined);
    double worst = 0.0;
    for (uint32_t h = 0; h < heads; h++) {
        for (uint32_t page = 0; page < plan.page_count; page++) {
            double tolerance;
            scores[h * plan.page_count + page] =
                expected_score(&own, bounds, page, first_head / own.group,
                               q + (size_t)(first_head + h) * own.dim, &tolerance);
            worst = !reference_forced(&plan, page) && tolerance > worst ? tolerance : worst;
        }
    }
    bool logarithms = combine != SKIM_COMBINE_MAX && combine != SKIM_COMBINE_MEAN;
    reference_combine(&plan, combine, scale, scores, plan.page_count, heads, combined);
    double tolerance = combine_tolerance(&plan, combine, scale, scores, plan.page_count, heads) +
                       2.0 * worst * (logarithms ? scale : 1.0);
    char what[64];
    snprintf(what, sizeof what, "list: layer %u, entry %u, head %u", layer, entry, first_head);
    bool exact =
        worst > 0.0 || verify_ties(ctx, what, &plan, scores, plan.page_count, heads, list, count);
    return verify_list(ctx, what, &plan, combined, tolerance, list, count) && exact;
}

static bool check_dense_list(const open_step *s, uint32_t pages, const uint32_t *list,
                             uint32_t count)
{
    bool all = count == pages;
    for (uint32_t i = 0; all && i < count; i++) {
        all = list[i] == i;
    }
    return check(s->m->ctx, all, "skim_step_pages: a dense sequence did not list all pages");
}

typedef struct listed {
    uint32_t *pages; // [q_heads][room]
    uint32_t count, room;
    reference_plan plan;
} listed;

static bool fetch_lists(const open_step *s, uint32_t layer, uint32_t entry, listed *l)
{
    context *ctx = s->m->ctx;
    const params *own = &s->m->layers[layer];
    uint32_t q_heads = own->group * own->kv_heads;
    l->plan = plan_of(s, layer, entry);
    l->room = l->plan.page_count;
    l->pages = take(ctx, (size_t)q_heads * l->room, sizeof *l->pages);
    for (uint32_t head = 0; head < q_heads; head++) {
        uint32_t *pages = l->pages + (size_t)head * l->room;
        if (!ok(ctx, skim_step_pages(s->step, entry, head, pages, l->room, &l->count),
                "skim_step_pages")) {
            return false;
        }
        if (l->plan.dense && !check_dense_list(s, l->plan.page_count, pages, l->count)) {
            return false;
        }
    }
    return true;
}

static bool check_lists(const open_step *s, uint32_t layer, uint32_t entry, const float *q,
                        const listed *l)
{
    const params *own = &s->m->layers[layer];
    const history *h = &s->m->sequences[s->entries[entry].sequence].layers[layer];
    page_bounds bounds;
    bounds_around(s->m->ctx, &bounds, h, s->m->p->page, s->m->p->bounds, &s->m->centres[layer]);
    bool group = is_group(s, layer);
    for (uint32_t head = 0; head < own->group * own->kv_heads; head++) {
        const uint32_t *pages = l->pages + (size_t)head * l->room;
        bool leads = !group || head % own->group == 0;
        if (leads && !check_list(s, layer, entry, head, q, &bounds, pages, l->count)) {
            return false;
        }
        if (!leads && memcmp(pages, pages - l->room, l->count * sizeof *pages) != 0) {
            return fail(s->m->ctx, "list: heads %u and %u of a group differ", head - 1, head);
        }
    }
    return true;
}

// The lists as they must be where scores and their combination are exact.
static void reference_lists(const open_step *s, uint32_t layer, uint32_t entry, const float *q,
                            listed *l)
{
    context *ctx = s->m->ctx;
    params own = s->m->layers[layer];
    const history *h = &s->m->sequences[s->entries[entry].sequence].layers[layer];
    uint32_t heads = is_group(s, layer) ? own.group : 1;
    page_bounds bounds;
    bounds_around(ctx, &bounds, h, s->m->p->page, s->m->p->bounds, &s->m->centres[layer]);
    l->plan = plan_of(s, layer, entry);
    l->room = l->plan.page_count;
    l->pages = take(ctx, (size_t)own.group * own.kv_heads * l->room, sizeof *l->pages);
    double *scores = take(ctx, (size_t)heads * l->room, sizeof *scores);
    double *combined = take(ctx, l->room, sizeof *combined);
    for (uint32_t head = 0; head < own.group * own.kv_heads; head++) {
        uint32_t first = head / heads * heads;
        for (uint32_t i = 0; i < heads * l->room; i++) {
            double unused;
            scores[i] = expected_score(&own, &bounds, i % l->room, head / own.group,
                                       q + (size_t)(first + i / l->room) * own.dim, &unused);
        }
        reference_combine(&l->plan, SKIM_COMBINE_MAX, 1.0, scores, l->room, heads, combined);
        l->count = reference_select(&l->plan, combined, l->pages + (size_t)head * l->room);
    }
}

// Results of an entry over the given lists.
static bool check_results(const open_step *s, uint32_t layer, uint32_t entry, uint32_t start,
                          const attend_call *call, const listed *l)
{
    const params *own = &s->m->layers[layer];
    uint32_t q_heads = own->group * own->kv_heads;
    const model_sequence *it = &s->m->sequences[s->entries[entry].sequence];
    double spent = 0.0;
    double budget = ORACLE_BUDGET / 8.0 / (s->count * s->m->layer_count);
    for (uint32_t n = 0; n < s->entries[entry].tokens; n++) {
        uint32_t j = s->entries[entry].tokens - 1 - n;
        if (!verify_finite(s->m->ctx, &call->out, start + j)) {
            return false;
        }
        for (uint32_t i = 0; i < q_heads && spent < budget; i++) {
            uint32_t head = (i + n) % q_heads;
            attention a = {
                .h = &it->layers[layer],
                .page_size = s->m->p->page,
                .scale = default_scale(own),
                .position = it->length + j,
                .q_head = head,
                .q = call->queries + ((size_t)(start + j) * q_heads + head) * own->dim,
                .list = l->plan.dense ? NULL : l->pages + (size_t)head * l->room,
                .list_count = l->count,
                .out = &call->out,
                .lse = s->m->p->lse ? &call->lse : NULL,
                .token = start + j,
            };
            spent += attention_cost(&a);
            if (!verify_attention(s->m->ctx, &a)) {
                return false;
            }
        }
    }
    return true;
}

static bool check_entry(const open_step *s, uint32_t layer, uint32_t entry, uint32_t start,
                        const attend_call *call)
{
    const params *own = &s->m->layers[layer];
    const float *q = call->queries + (size_t)start * own->group * own->kv_heads * own->dim;
    listed l;
    if (s->flags & MODEL_DEFERRED) {
        reference_lists(s, layer, entry, q, &l);
    } else if (!fetch_lists(s, layer, entry, &l)) {
        return false;
    }
    bool listed_right =
        l.plan.dense || s->flags & MODEL_DEFERRED || check_lists(s, layer, entry, q, &l);
    return listed_right && check_results(s, layer, entry, start, call, &l);
}

static bool check_layer(const open_step *s, uint32_t layer, attend_call *call)
{
    context *ctx = s->m->ctx;
    if ((!(s->flags & MODEL_DEFERRED) && !check_report(s, layer)) ||
        !box_receive(ctx, &call->out, "out") || !box_receive(ctx, &call->lse, "lse")) {
        return false;
    }
    uint32_t start = 0;
    for (uint32_t entry = 0; entry < s->count; entry++) {
        if (!check_entry(s, layer, entry, start, call)) {
            return false;
        }
        start += s->entries[entry].tokens;
    }
    return true;
}

// --- the step

static bool run_layers(open_step *s, attend_call *calls)
{
    for (uint32_t i = 0; i < s->m->layer_count; i++) {
        uint32_t layer = s->flags & MODEL_BACKWARDS ? s->m->layer_count - 1 - i : i;
        if (!append_layer(s, layer)) {
            return false;
        }
        if (s->flags & MODEL_NO_ATTEND) {
            continue;
        }
        if (!attend_layer(s, layer, &calls[layer])) {
            return false;
        }
        if (!(s->flags & (MODEL_HARMFUL | MODEL_DEFERRED)) &&
            !check_layer(s, layer, &calls[layer])) {
            return false;
        }
    }
    return true;
}

static bool end_step(open_step *s, attend_call *calls)
{
    context *ctx = s->m->ctx;
    uint64_t point = 0;
    if (!ok(ctx, skim_step_end(s->step, &point), "skim_step_end") ||
        !ok(ctx, skim_queue_wait(ctx->queue, point, SKIM_WAIT_FOREVER), "skim_queue_wait")) {
        return false;
    }
    bool look = s->flags & MODEL_DEFERRED && !(s->flags & MODEL_HARMFUL);
    for (uint32_t layer = 0; look && layer < s->m->layer_count; layer++) {
        if (!check_layer(s, layer, &calls[layer])) {
            return false;
        }
    }
    for (uint32_t i = 0; i < s->count; i++) {
        s->m->sequences[s->entries[i].sequence].length += s->entries[i].tokens;
    }
    return true;
}

static bool check_lengths(const open_step *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        const model_sequence *it = &s->m->sequences[s->entries[i].sequence];
        uint64_t length = skim_sequence_length(it->handle);
        if (length != it->length) {
            return fail(s->m->ctx, "sequence %u has %llu tokens, should have %u",
                        s->entries[i].sequence, (unsigned long long)length, it->length);
        }
    }
    return true;
}

bool model_step(model *m, const model_entry *entries, uint32_t count, const skim_policy *policy,
                int flags)
{
    context *ctx = m->ctx;
    open_step s = {.m = m, .entries = entries, .count = count, .policy = policy, .flags = flags};
    skim_step_entry given[MODEL_SEQUENCES_MAX];
    for (uint32_t i = 0; i < count; i++) {
        given[i] = (skim_step_entry){m->sequences[entries[i].sequence].handle, entries[i].tokens};
        s.tokens += entries[i].tokens;
    }
    extend_histories(&s);
    attend_call *calls = take(ctx, MODEL_LAYERS_MAX, sizeof *calls);
    if (!ok(ctx, skim_step_begin(ctx->cache, given, count, &s.step), "skim_step_begin") ||
        !run_layers(&s, calls)) {
        return false;
    }
    m->out = &calls[0].out;
    m->lse = &calls[0].lse;
    bool done = true;
    if (flags & MODEL_CANCEL) {
        skim_step_cancel(s.step);
        truncate_histories(&s);
        for (uint32_t layer = 0; layer < m->layer_count; layer++) {
            m->centres[layer].values = s.frozen[layer] ? NULL : m->centres[layer].values;
        }
        done = ok(ctx, skim_queue_finish(ctx->queue), "skim_queue_finish");
    } else {
        done = end_step(&s, calls);
    }
    return done && check_lengths(&s);
}

bool model_fill(model *m, uint32_t sequence, uint32_t tokens, uint32_t chunk)
{
    while (tokens > 0) {
        model_entry entry = {sequence, chunk ? min_u32(chunk, tokens) : tokens};
        if (!model_step(m, &entry, 1, NULL, 0)) {
            return false;
        }
        tokens -= entry.tokens;
    }
    return true;
}

static bool attend_each(open_step *s, attend_call *calls, const skim_policy *policies,
                        uint32_t count)
{
    context *ctx = s->m->ctx;
    const params *own = &s->m->layers[0];
    uint64_t random = ctx->random;
    for (uint32_t i = 0; i < count; i++) {
        ctx->random = random; // the same queries again
        s->policy = &policies[i];
        if (!attend_layer(s, 0, &calls[i]) || !check_layer(s, 0, &calls[i])) {
            return false;
        }
        for (uint32_t head = 0; head < own->group * own->kv_heads; head++) {
            if (!box_same(ctx, &calls[0].out, &calls[i].out, 0, head, "out under two policies") ||
                !box_same(ctx, &calls[0].lse, &calls[i].lse, 0, head, "lse under two policies")) {
                return false;
            }
        }
    }
    return true;
}

bool model_same(model *m, uint32_t sequence, const skim_policy *policies, uint32_t count)
{
    context *ctx = m->ctx;
    const model_entry entry = {sequence, 1};
    open_step s = {.m = m, .entries = &entry, .count = 1, .tokens = 1};
    const skim_step_entry given = {m->sequences[sequence].handle, 1};
    attend_call *calls = take(ctx, count, sizeof *calls);
    extend_histories(&s);
    return ok(ctx, skim_step_begin(ctx->cache, &given, 1, &s.step), "skim_step_begin") &&
           append_layer(&s, 0) && attend_each(&s, calls, policies, count) && end_step(&s, calls);
}
