// The operations on sequences, and which comes next.
#include "random.h"

#include <inttypes.h>
#include <stdio.h>

// --- sequences

bool sequence_create(world *w, cache_model *c)
{
    sequence_model *vacant = model_vacant(c);
    uint64_t hash = pool_hash(c);
    skim_sequence *made = NULL;
    skim_status status = skim_sequence_create(c->ctx.cache, &made);
    if (!vacant)
        return refused(w, c, status, SKIM_STATE, hash, "skim_sequence_create");
    if (!ok(&c->ctx, status, "skim_sequence_create"))
        return false;
    vacant->handle = made;
    vacant->length = vacant->reserved = vacant->page_count = 0;
    vacant->dirty = vacant->in_step = false;
    vacant->harmful = UINT32_MAX;
    set_history_length(w, vacant, 0);
    trace(w, "create sequence %d", (int)(vacant - c->sequences));
    return true;
}

bool sequence_destroy(world *w, cache_model *c)
{
    sequence_model *s = random_sequence(w, c);
    trace(w, "destroy sequence %d", (int)(s - c->sequences));
    uint64_t hash = pool_hash(c);
    skim_status status = skim_sequence_destroy(s->handle);
    if (s->in_step)
        return refused(w, c, status, SKIM_STATE, hash, "skim_sequence_destroy");
    model_drop(c, s->pages, s->page_count);
    s->handle = NULL;
    return ok(&c->ctx, status, "skim_sequence_destroy");
}

bool sequence_fork(world *w, cache_model *c)
{
    sequence_model *s = random_sequence(w, c);
    sequence_model *vacant = model_vacant(c);
    trace(w, "fork sequence %d of %u", (int)(s - c->sequences), s->length);
    uint64_t hash = pool_hash(c);
    skim_sequence *made = NULL;
    skim_status status = skim_sequence_fork(s->handle, &made);
    if (s->in_step || !vacant)
        return refused(w, c, status, SKIM_STATE, hash, "skim_sequence_fork");
    if (!ok(&c->ctx, status, "skim_sequence_fork"))
        return false;
    w->counts.forks++;
    vacant->handle = made;
    model_fork(c, s, vacant);
    return true;
}

// To a length near the end, at the start of a page, or any.
static uint32_t shorter(world *w, const cache_model *c, uint32_t length)
{
    if (!once_in(w, 3))
        return length - below(w, (length < 4 ? length : 4) + 1);
    uint32_t any = below(w, length + 1);
    return once_in(w, 4) ? any / c->page_size * c->page_size : any;
}

bool sequence_truncate(world *w, cache_model *c)
{
    sequence_model *s = random_sequence(w, c);
    uint32_t length = shorter(w, c, s->length);
    trace(w, "truncate sequence %d of %u to %u", (int)(s - c->sequences), s->length, length);
    uint64_t hash = pool_hash(c);
    skim_status status = skim_sequence_truncate(s->handle, length);
    if (s->in_step)
        return refused(w, c, status, SKIM_STATE, hash, "skim_sequence_truncate");
    if (!ok(&c->ctx, status, "skim_sequence_truncate"))
        return false;
    w->counts.truncates++;
    if (length < s->length)
        s->dirty = length % c->page_size != 0;
    s->length = length;
    set_history_length(w, s, length);
    model_trim(c, s);
    return true;
}

static skim_status expected_of_reserve(const cache_model *c, const sequence_model *s,
                                       uint32_t tokens)
{
    if (s->in_step)
        return SKIM_STATE;
    if (tokens > c->max_sequence_tokens)
        return SKIM_INVALID;
    uint32_t pages = pages_of(c, tokens);
    uint32_t wanted = pages > s->page_count ? pages - s->page_count : 0;
    wanted += tokens > s->length && model_must_copy(c, s);
    return wanted > model_free(c) ? SKIM_NO_SLOTS : SKIM_OK;
}

bool sequence_reserve(world *w, cache_model *c)
{
    sequence_model *s = random_sequence(w, c);
    uint32_t tokens =
        once_in(w, 3) ? 0 : below(w, once_in(w, 4) ? c->max_sequence_tokens + 9 : s->length + 40);
    trace(w, "reserve %u for sequence %d of %u", tokens, (int)(s - c->sequences), s->length);
    skim_status expected = expected_of_reserve(c, s, tokens);
    uint64_t hash = pool_hash(c);
    skim_status status = skim_sequence_reserve(s->handle, tokens);
    if (expected != SKIM_OK)
        return refused(w, c, status, expected, hash, "skim_sequence_reserve");
    if (!ok(&c->ctx, status, "skim_sequence_reserve"))
        return false;
    w->counts.reserves++;
    if (tokens > s->length && model_must_copy(c, s)) {
        uint32_t *page = &s->pages[s->length / c->page_size];
        model_drop(c, page, 1);
        *page = model_take(c);
        s->dirty = true;
        w->counts.copies++;
    }
    while (s->page_count < pages_of(c, tokens))
        s->pages[s->page_count++] = model_take(c);
    s->reserved = pages_of(c, tokens);
    model_trim(c, s);
    return true;
}

// --- policies and the queue

bool change_policy(world *w, cache_model *c)
{
    uint32_t layer = once_in(w, 3) ? SKIM_ALL_LAYERS : below(w, w->layer_count);
    skim_policy policy = random_policy(w, c);
    bool drop = layer != SKIM_ALL_LAYERS && once_in(w, 3);
    trace(w, "%s policy of layer %d", drop ? "drop" : "set", (int)layer);
    uint64_t hash = pool_hash(c);
    skim_status status = skim_cache_set_policy(c->ctx.cache, layer, drop ? NULL : &policy);
    if (c->step.handle)
        return refused(w, c, status, SKIM_STATE, hash, "skim_cache_set_policy");
    if (layer == SKIM_ALL_LAYERS) {
        c->policy = policy;
        for (uint32_t i = 0; i < w->layer_count; i++)
            c->has_policy[i] = false;
    } else {
        c->layer_policies[layer] = policy;
        c->has_policy[layer] = !drop;
    }
    return ok(&c->ctx, status, "skim_cache_set_policy");
}

bool run_queue(world *w, cache_model *c)
{
    uint64_t point = 0;
    uint32_t which = below(w, 4);
    trace(w, which == 0 ? "finish" : "submit");
    if (which == 0)
        return ok(&c->ctx, skim_queue_finish(c->ctx.queue), "skim_queue_finish");
    if (!ok(&c->ctx, skim_queue_submit(c->ctx.queue, &point), "skim_queue_submit") || which == 1)
        return !c->ctx.failed;
    skim_status status = skim_queue_wait(c->ctx.queue, point, which == 2 ? 0 : SKIM_WAIT_FOREVER);
    return check(&c->ctx, status == SKIM_OK || (which == 2 && status == SKIM_TIMEOUT),
                 "skim_queue_wait gave '%s'", skim_status_name(status));
}

// --- what comes next

typedef struct operation {
    bool (*run)(world *w, cache_model *c);
    uint32_t closed, open; // weights while no step is open, and while one is
} operation;

static const operation operations[] = {
    {sequence_create, 4, 1},   {sequence_destroy, 5, 1}, {sequence_fork, 10, 3},
    {sequence_truncate, 7, 2}, {sequence_reserve, 5, 1}, {change_policy, 2, 1},
    {run_queue, 3, 4},         {settle, 4, 3},           {bad_call, 3, 2},
    {snapshot_save, 2, 1},     {snapshot_load, 8, 1},    {snapshot_piece, 4, 4},
    {step_begin, 40, 0},
};

static bool all_appended(const world *w, const cache_model *c)
{
    for (uint32_t i = 0; i < w->layer_count; i++) {
        if (!c->step.appended[i])
            return false;
    }
    return true;
}

// What a step is there for: appends and attends in any order, until it ends.
static bool go_on_with_step(world *w, cache_model *c)
{
    if (once_in(w, 20))
        return step_cancel(w, c);
    bool complete = all_appended(w, c);
    uint32_t dice = below(w, 10);
    if (!complete && dice < 6)
        return step_append(w, c);
    if (complete && dice < 4)
        return step_end(w, c);
    return step_attend(w, c);
}

static bool choose_and_run(world *w, cache_model *c)
{
    bool open = c->step.handle != NULL;
    if (model_alive(c) == 0)
        return sequence_create(w, c);
    if (open && !once_in(w, 4))
        return go_on_with_step(w, c);
    uint32_t sum = 0;
    for (size_t i = 0; i < COUNT_OF(operations); i++)
        sum += open ? operations[i].open : operations[i].closed;
    uint32_t left = below(w, sum);
    for (size_t i = 0;; i++) {
        uint32_t weight = open ? operations[i].open : operations[i].closed;
        if (left < weight)
            return operations[i].run(w, c);
        left -= weight;
    }
}

bool operate(world *w, char *detail, size_t size)
{
    uint32_t which = once_in(w, 4);
    cache_model *c = &w->caches[which];
    trace(w, "%" PRIu64 ": cache %u", w->counts.operations, which);
    bool good =
        choose_and_run(w, c) && check_pool(w, &w->caches[0]) && check_pool(w, &w->caches[1]);
    // What results wait for takes memory.
    if (good && c->ctx.block_count > 300)
        good = settle(w, c);
    w->counts.operations++;
    for (uint32_t i = 0; i < CACHES && !good; i++) {
        if (w->caches[i].ctx.failed)
            snprintf(detail, size, "cache %u: %s", i, w->caches[i].ctx.detail);
    }
    return good;
}
