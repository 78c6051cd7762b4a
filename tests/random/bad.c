// Calls that must be refused and change nothing.
#include "random.h"

#include <math.h>

typedef struct bad_target {
    sequence_model *any;    // alive; never NULL
    sequence_model *member; // of the open step, or NULL
} bad_target;

// Calls on the cache and a sequence.
static bool bad_begin(world *w, cache_model *c, const bad_target *t)
{
    skim_step *step = NULL;
    uint32_t which = below(w, 5);
    const skim_step_entry one = {which == 0 ? NULL : t->any->handle, which == 1 ? 0 : 1};
    const skim_step_entry entries[] = {one, one};
    uint64_t hash = pool_hash(c);
    skim_status status = skim_step_begin(c->ctx.cache, which == 2 ? NULL : entries,
                                         which == 3   ? 0
                                         : which == 4 ? 2
                                                      : 1,
                                         &step);
    skim_status expected = c->step.handle ? SKIM_STATE : SKIM_INVALID;
    // The first of a sequence named twice may not fit by itself, in a cache that can have two.
    if (which == 4 && !c->step.handle && c->max_sequences > 1 &&
        t->any->length == c->max_sequence_tokens)
        expected = SKIM_NO_SLOTS;
    return refused(w, c, status, expected, hash, "a wrong skim_step_begin") &&
           check(&c->ctx, step == NULL, "a step was handed out by a begin that failed");
}

static bool bad_sequence(world *w, cache_model *c, const bad_target *t)
{
    uint64_t hash = pool_hash(c);
    skim_status busy = t->any->in_step ? SKIM_STATE : SKIM_INVALID;
    skim_sequence_info info = {.size_of = 3};
    switch (below(w, 5)) {
    case 0:
        return refused(w, c, skim_sequence_truncate(t->any->handle, t->any->length + 1), busy, hash,
                       "skim_sequence_truncate to more");
    case 1:
        return refused(w, c, skim_sequence_reserve(t->any->handle, UINT64_MAX), busy, hash,
                       "skim_sequence_reserve of too much");
    case 2:
        return refused(w, c, skim_sequence_fork(t->any->handle, NULL), busy, hash,
                       "skim_sequence_fork to NULL");
    case 3:
        return refused(w, c, skim_sequence_create(c->ctx.cache, NULL), SKIM_INVALID, hash,
                       "skim_sequence_create to NULL");
    default:
        return refused(w, c, skim_sequence_get_info(t->any->handle, &info), SKIM_INVALID, hash,
                       "skim_sequence_get_info of a wrong size");
    }
}

static bool bad_policy(world *w, cache_model *c, const bad_target *t)
{
    (void)t;
    skim_policy policy = random_policy(w, c);
    uint32_t layer = SKIM_ALL_LAYERS;
    switch (below(w, 5)) {
    case 0:
        policy.budget = 0;
        policy.budget_fraction = 0.0;
        break;
    case 1:
        policy.spread = NAN;
        break;
    case 2:
        layer = w->layer_count;
        break;
    case 3:
        policy.size_of--;
        break;
    default:
        policy.budget_fraction = 1.5;
        break;
    }
    skim_status status = skim_cache_set_policy(c->ctx.cache, layer, &policy);
    skim_status expected = c->step.handle && layer != w->layer_count ? SKIM_STATE : SKIM_INVALID;
    return refused(w, c, status, expected, pool_hash(c), "a wrong skim_cache_set_policy");
}

// Calls on an open step.
static bool bad_append(world *w, cache_model *c, const bad_target *t)
{
    (void)t;
    uint32_t layer = below(w, w->layer_count);
    float nothing[1] = {0};
    const skim_tensor wrong = skim_tensor_host(nothing, SKIM_U32);
    uint64_t hash = pool_hash(c);
    skim_status status;
    if (c->step.appended[layer])
        status = skim_step_append(c->step.handle, layer, &wrong, &wrong);
    else
        status = once_in(w, 2) ? skim_step_append(c->step.handle, layer, NULL, &wrong)
                               : skim_step_append(c->step.handle, layer, &wrong, &wrong);
    return refused(w, c, status, c->step.appended[layer] ? SKIM_STATE : SKIM_INVALID, hash,
                   "a wrong skim_step_append");
}

static bool bad_attend(world *w, cache_model *c, const bad_target *t)
{
    (void)t;
    uint32_t layer = below(w, w->layer_count);
    float nothing[1] = {0};
    skim_step_attend_args args = {.size_of = sizeof args - once_in(w, 2),
                                  .q = skim_tensor_host(nothing, SKIM_U32),
                                  .out = skim_tensor_host(nothing, SKIM_F32)};
    bool early = args.size_of == sizeof args && !c->step.appended[layer];
    return refused(w, c, skim_step_attend(c->step.handle, layer, &args),
                   early ? SKIM_STATE : SKIM_INVALID, pool_hash(c), "a wrong skim_step_attend");
}

static bool bad_end(world *w, cache_model *c, const bad_target *t)
{
    (void)t;
    uint32_t page, count;
    uint64_t hash = pool_hash(c);
    for (uint32_t i = 0; i < w->layer_count; i++) {
        if (!c->step.appended[i])
            return refused(w, c, skim_step_end(c->step.handle, NULL), SKIM_STATE, hash,
                           "an early skim_step_end");
    }
    return refused(w, c, skim_step_pages(c->step.handle, c->step.count, 0, &page, 1, &count),
                   c->step.attended ? SKIM_INVALID : SKIM_STATE, hash, "a wrong skim_step_pages");
}

static bool bad_member(world *w, cache_model *c, const bad_target *t)
{
    skim_sequence *fork = NULL;
    uint64_t hash = pool_hash(c);
    switch (below(w, 4)) {
    case 0:
        return refused(w, c, skim_sequence_destroy(t->member->handle), SKIM_STATE, hash,
                       "skim_sequence_destroy within a step");
    case 1:
        return refused(w, c, skim_sequence_fork(t->member->handle, &fork), SKIM_STATE, hash,
                       "skim_sequence_fork within a step");
    case 2:
        return refused(w, c, skim_sequence_truncate(t->member->handle, 0), SKIM_STATE, hash,
                       "skim_sequence_truncate within a step");
    default:
        return refused(w, c, skim_sequence_reserve(t->member->handle, 0), SKIM_STATE, hash,
                       "skim_sequence_reserve within a step");
    }
}

bool bad_call(world *w, cache_model *c)
{
    static bool (*const calls[])(world *, cache_model *, const bad_target *) = {
        bad_begin, bad_sequence, bad_policy, bad_append, bad_attend, bad_end, bad_member};
    bad_target target = {.any = random_sequence(w, c)};
    if (c->step.handle)
        target.member = &c->sequences[c->step.members[below(w, c->step.count)].sequence];
    uint32_t which = below(w, target.member ? (uint32_t)COUNT_OF(calls) : 3);
    trace(w, "bad call %u", which);
    return calls[which](w, c, &target);
}
