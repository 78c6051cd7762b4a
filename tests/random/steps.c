// The operations of a step: begin, append, attend, end, cancel.
#include "random.h"

#include <stdlib.h>
#include <string.h>

// --- begin

// Decodes mostly; some entries prefill.
static uint32_t random_token_count(world *w, const cache_model *c)
{
    if (!once_in(w, 3))
        return 1;
    return between(w, 1, once_in(w, 3) ? c->max_step_tokens : 2 * c->page_size);
}

static void choose_entries(world *w, cache_model *c, skim_step_entry *entries)
{
    uint32_t alive[SEQUENCES_MAX];
    uint32_t alive_count = 0;
    for (uint32_t i = 0; i < c->max_sequences; i++) {
        if (c->sequences[i].handle)
            alive[alive_count++] = i;
    }
    shuffle(&w->dice, alive, alive_count);
    step_model *step = &c->step;
    *step = (step_model){.count = between(w, 1, alive_count)};
    for (uint32_t i = 0; i < step->count; i++) {
        member_model *m = &step->members[i];
        *m = (member_model){
            .sequence = alive[i], .tokens = random_token_count(w, c), .start = step->tokens};
        step->tokens += m->tokens;
        entries[i] = (skim_step_entry){c->sequences[alive[i]].handle, m->tokens};
    }
}

static skim_status expected_of_begin(cache_model *c)
{
    uint32_t wanted = 0;
    model_choose_copies(c);
    for (uint32_t i = 0; i < c->step.count; i++) {
        const member_model *m = &c->step.members[i];
        const sequence_model *s = &c->sequences[m->sequence];
        if (s->length + m->tokens > c->max_sequence_tokens)
            return SKIM_NO_SLOTS;
        uint32_t pages = pages_of(c, s->length + m->tokens);
        wanted += pages > s->page_count ? pages - s->page_count : 0;
        wanted += m->copied;
    }
    if (c->step.tokens > c->max_step_tokens)
        return SKIM_INVALID;
    return wanted > model_free(c) ? SKIM_NO_SLOTS : SKIM_OK;
}

bool step_begin(world *w, cache_model *c)
{
    skim_step_entry entries[SEQUENCES_MAX];
    choose_entries(w, c, entries);
    uint32_t count = c->step.count;
    for (uint32_t i = 0; i < count; i++)
        trace(w, "  entry %u: %u tokens for sequence %u of %u", i, entries[i].tokens,
              c->step.members[i].sequence, c->sequences[c->step.members[i].sequence].length);
    skim_status expected = expected_of_begin(c);
    uint64_t hash = pool_hash(c);
    skim_step *step = NULL;
    skim_status status = skim_step_begin(c->ctx.cache, entries, count, &step);
    if (expected != SKIM_OK) {
        c->step = (step_model){.handle = NULL};
        w->counts.no_slots += expected == SKIM_NO_SLOTS;
        return refused(w, c, status, expected, hash, "skim_step_begin");
    }
    if (!ok(&c->ctx, status, "skim_step_begin"))
        return false;
    c->step.handle = step;
    model_begin(c);
    for (uint32_t i = 0; i < count; i++) {
        w->counts.copies += c->step.members[i].copied;
        random_tokens(w, &c->sequences[c->step.members[i].sequence], entries[i].tokens);
    }
    w->counts.steps++;
    w->counts.tokens += c->step.tokens;
    return true;
}

// --- append

static placement random_place(world *w)
{
    return once_in(w, 6) ? (placement)below(w, 4) : PLACE_HOST;
}

static bool fill_box(cache_model *c, uint32_t layer, box *b, bool keys)
{
    for (uint32_t i = 0; i < c->step.count; i++) {
        const member_model *m = &c->step.members[i];
        const sequence_model *s = &c->sequences[m->sequence];
        const history *h = &s->layers[layer];
        for (uint32_t t = 0; t < m->tokens; t++)
            box_set(b, m->start + t,
                    keys ? history_key(h, s->length + t, 0) : history_value(h, s->length + t, 0));
    }
    return box_send(&c->ctx, b);
}

bool step_append(world *w, cache_model *c)
{
    context *ctx = &c->ctx;
    uint32_t layer = below(w, w->layer_count);
    while (c->step.appended[layer])
        layer = (layer + 1) % w->layer_count;
    const params *p = &w->layers[layer];
    placement place = random_place(w);
    box k, v;
    trace(w, "append layer %u", layer);
    if (!box_init(ctx, &k, place, p->kv, c->step.tokens, p->kv_heads, p->dim) ||
        !box_init(ctx, &v, place, p->kv, c->step.tokens, p->kv_heads, p->dim) ||
        !fill_box(c, layer, &k, true) || !fill_box(c, layer, &v, false) ||
        !ok(ctx, skim_step_append(c->step.handle, layer, &k.tensor, &v.tensor), "skim_step_append"))
        return false;
    box_consumed(&k);
    box_consumed(&v);
    c->step.appended[layer] = true;
    return true;
}

// --- attend

static float *random_queries(world *w, cache_model *c, uint32_t layer, box *q)
{
    const params *p = &w->layers[layer];
    size_t per_token = (size_t)p->group * p->kv_heads * p->dim;
    float *queries = take(&c->ctx, c->step.tokens * per_token, sizeof *queries);
    for (size_t i = 0; i < c->step.tokens * per_token; i += 4) {
        uint32_t bits = random_u32(&w->dice);
        for (size_t j = 0; j < 4; j++, bits >>= 8)
            queries[i + j] = (float)((int)(bits & 0xff) - 128) / 64.0f;
    }
    for (uint32_t t = 0; t < c->step.tokens; t++)
        box_set(q, t, queries + t * per_token);
    return queries;
}

static int go_on(void *user, uint64_t done, uint64_t total)
{
    uint64_t *reports = user;
    ++*reports;
    return done > total;
}

static int stop(void *user, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    uint64_t *reports = user;
    ++*reports;
    return 1;
}

// Calls attend, by pieces or cancelled at times.
static bool call_attend(world *w, cache_model *c, uint32_t layer, skim_step_attend_args *args,
                        bool *cancelled)
{
    uint64_t reports = 0;
    skim_progress progress = {once_in(w, 4) ? stop : go_on, &reports};
    if (once_in(w, 5))
        args->progress = &progress;
    *cancelled = args->progress && progress.report == stop;
    skim_status status = skim_step_attend(c->step.handle, layer, args);
    if (args->progress && !check(&c->ctx, reports > 0, "attend reported no progress"))
        return false;
    if (*cancelled)
        return check(&c->ctx, status == SKIM_CANCELLED, "a cancelled attend gave '%s'",
                     skim_status_name(status));
    return ok(&c->ctx, status, "skim_step_attend");
}

static uint32_t appended_layer(world *w, const cache_model *c)
{
    uint32_t layer = below(w, w->layer_count);
    for (uint32_t i = 0; i < w->layer_count && !c->step.appended[layer]; i++)
        layer = (layer + 1) % w->layer_count;
    return layer;
}

bool step_attend(world *w, cache_model *c)
{
    context *ctx = &c->ctx;
    uint32_t layer = appended_layer(w, c);
    if (!c->step.appended[layer])
        return step_append(w, c);
    if (c->pending_count == PENDING_MAX && !settle(w, c))
        return false;
    const params *p = &w->layers[layer];
    uint32_t q_heads = p->group * p->kv_heads;
    placement place = random_place(w);
    skim_policy policy = random_policy(w, c);
    bool own_policy = once_in(w, 4);
    pending_attend *pending = &c->pending[c->pending_count];
    *pending = (pending_attend){.count = 0};
    box q;
    if (!box_init(ctx, &q, place, p->q, c->step.tokens, q_heads, p->dim) ||
        !box_init(ctx, &pending->out, place, p->out, c->step.tokens, q_heads, p->dim) ||
        !box_init(ctx, &pending->lse, place, SKIM_F32, c->step.tokens, q_heads, 1))
        return false;
    const float *queries = random_queries(w, c, layer, &q);
    bool with_lse = once_in(w, 2), cancelled = false;
    skim_step_attend_args args = {.size_of = sizeof args,
                                  .q = q.tensor,
                                  .out = pending->out.tensor,
                                  .policy = own_policy ? &policy : NULL};
    if (with_lse)
        args.lse = pending->lse.tensor;
    trace(w, "attend layer %u%s", layer, own_policy ? " with a policy of its own" : "");
    w->counts.attends++;
    if (!box_send(ctx, &q) || !box_send(ctx, &pending->out) || !box_send(ctx, &pending->lse) ||
        !call_attend(w, c, layer, &args, &cancelled))
        return false;
    box_consumed(&q);
    if (cancelled)
        return true; // its work is done, and its results are undefined
    c->step.attended = true;
    const skim_policy *used = own_policy ? &policy : policy_in_force(c, layer);
    if (!verify_report(w, c, layer, used))
        return false;
    for (uint32_t i = 0; i < SAMPLES_MAX; i++) {
        if (!sample_attend(w, c, layer, used, queries, pending))
            return false;
    }
    for (uint32_t i = 0; i < pending->count; i++) {
        pending->samples[i].out = &pending->out;
        pending->samples[i].lse = with_lse ? &pending->lse : NULL;
    }
    c->pending_count++;
    return true;
}

void release_blocks(context *ctx)
{
    while (ctx->block_count > 0)
        free(ctx->blocks[--ctx->block_count]);
}

bool settle(world *w, cache_model *c)
{
    context *ctx = &c->ctx;
    if (!ok(ctx, skim_queue_finish(ctx->queue), "skim_queue_finish"))
        return false;
    for (uint32_t i = 0; i < c->pending_count; i++) {
        pending_attend *pending = &c->pending[i];
        if (!box_receive(ctx, &pending->out, "out") || !box_receive(ctx, &pending->lse, "lse"))
            return false;
        for (uint32_t s = 0; s < pending->count; s++) {
            w->counts.oracle++;
            if (!verify_attention(ctx, &pending->samples[s]))
                return false;
        }
    }
    c->pending_count = 0;
    while (ctx->buffer_count > 0)
        skim_buffer_destroy(ctx->buffers[--ctx->buffer_count]);
    release_blocks(ctx);
    return check_memory(w, c);
}

// --- end and cancel

bool step_end(world *w, cache_model *c)
{
    uint64_t point = 0;
    trace(w, "end");
    if (!ok(&c->ctx, skim_step_end(c->step.handle, once_in(w, 3) ? NULL : &point), "skim_step_end"))
        return false;
    model_end(c);
    if (point > 0 && once_in(w, 3))
        return ok(&c->ctx, skim_queue_wait(c->ctx.queue, point, SKIM_WAIT_FOREVER),
                  "skim_queue_wait");
    return true;
}

bool step_cancel(world *w, cache_model *c)
{
    trace(w, "cancel");
    w->counts.cancels++;
    skim_step_cancel(c->step.handle);
    model_cancel(w, c);
    return true;
}
