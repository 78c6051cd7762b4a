#include "runtime/step.h"

#include "runtime/layer.h"
#include "runtime/mutant.h"
#include "runtime/verbs.h"

// --- begin

static skim_status check_entry(skim_cache *cache, const skim_step_entry *entries, uint32_t index)
{
    skim_error *error = &cache->error;
    skim_sequence *sequence = entries[index].sequence;
    if (!sequence || sequence->cache != cache || !sequence->alive)
        return skim_fail(error, SKIM_INVALID, "entry %u: no living sequence of this cache", index);
    if (entries[index].tokens == 0)
        return skim_fail(error, SKIM_INVALID, "entry %u: 0 new tokens", index);
    if (sequence->begin_count == cache->begin_count)
        return skim_fail(error, SKIM_INVALID, "entry %u: this sequence is in the step already",
                         index);
    sequence->begin_count = cache->begin_count;
    if (sequence->broken)
        return skim_fail(error, SKIM_STATE,
                         "entry %u: the sequence is broken: work that stored its tokens failed; "
                         "truncate it to %u or destroy it",
                         index, sequence->sound_length);
    if ((uint64_t)sequence->length + entries[index].tokens > cache->max_sequence_tokens)
        return skim_fail(
            error, SKIM_NO_SLOTS,
            "entry %u: a length of %u + %u exceeds the %llu that one sequence of this cache can hold",
            index, sequence->length, entries[index].tokens,
            (unsigned long long)cache->max_sequence_tokens);
    return SKIM_OK;
}

static uint32_t pages_after(const skim_cache *cache, const skim_step_member *member)
{
    return skim_cache_pages(cache, (uint64_t)member->sequence->length + member->tokens);
}

static skim_status check_entries(skim_cache *cache, const skim_step_entry *entries, uint32_t count)
{
    skim_error *error = &cache->error;
    cache->begin_count++;
    if (!entries)
        return skim_fail(error, SKIM_INVALID, "entries must not be NULL");
    if (count == 0 || count > cache->max_sequences)
        return skim_fail(error, SKIM_INVALID, "entries: 1 to %u in a step (max_sequences), not %u",
                         cache->max_sequences, count);
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < count; i++) {
        skim_status status = check_entry(cache, entries, i);
        if (status != SKIM_OK)
            return status;
        tokens += entries[i].tokens;
    }
    if (tokens > cache->max_step_tokens)
        return skim_fail(error, SKIM_INVALID, "%llu new tokens; max_step_tokens is %u",
                         (unsigned long long)tokens, cache->max_step_tokens);
    return SKIM_OK;
}

static void fill_members(skim_cache *cache, const skim_step_entry *entries, uint32_t count)
{
    skim_step *step = &cache->step;
    step->count = count;
    step->token_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        step->members[i] = (skim_step_member){.sequence = entries[i].sequence,
                                              .tokens = entries[i].tokens,
                                              .query_start = step->token_count,
                                              .old_pages = entries[i].sequence->page_count};
        step->token_count += entries[i].tokens;
    }
}

// Adds a member that shares its last page to those before it that have the same page.
static void join_sharers(skim_cache *cache, uint32_t index)
{
    skim_step_member *members = cache->step.members;
    const skim_sequence *sequence = members[index].sequence;
    uint32_t slot = sequence->slots[sequence->length / cache->page_size];
    members[index].copied = true;
    members[index].old_slot = slot;
    uint32_t *first = &cache->pool.notes[slot]; // left over from another step, maybe
    if (*first >= index || !members[*first].copied || members[*first].old_slot != slot) {
        *first = index;
        members[index].longest = index;
    }
    skim_step_member *group = &members[*first];
    group->sharers++;
    if (sequence->length > members[group->longest].sequence->length)
        group->longest = index;
}

// Who shares its last page gets a copy. Only if all who hold the page are in this step, the longest
// of them stays in it: what that one adds is past the end of every other, so cancel can bring them
// back.
static void choose_copies(skim_cache *cache)
{
    skim_step_member *members = cache->step.members;
    uint32_t count = cache->step.count;
    for (uint32_t i = 0; i < count; i++) {
        if (skim_sequence_must_copy(members[i].sequence))
            join_sharers(cache, i);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t sharers = members[i].sharers;
        if (sharers == 0)
            continue;
        if (sharers == cache->pool.references[members[i].old_slot] ||
            SKIM_MUTANT(pool_stays_with_others))
            members[SKIM_MUTANT(pool_shorter_stays) ? i : members[i].longest].copied = false;
    }
}

static skim_status check_slots(skim_cache *cache)
{
    const skim_step *step = &cache->step;
    uint64_t slots = 0;
    for (uint32_t i = 0; i < step->count; i++) {
        uint32_t pages = pages_after(cache, &step->members[i]);
        uint32_t held = step->members[i].old_pages;
        slots += (pages > held ? pages - held : 0) + step->members[i].copied;
    }
    if (slots > cache->pool.free_count)
        return skim_fail(&cache->error, SKIM_NO_SLOTS,
                         "too few free slots (%u) for the step, which needs %llu",
                         cache->pool.free_count, (unsigned long long)slots);
    return SKIM_OK;
}

// The old slot of a shared page stays held until the step ends, so that cancel can go back to it.
static void take_member(skim_cache *cache, skim_step_member *member)
{
    skim_sequence *sequence = member->sequence;
    uint32_t pages = pages_after(cache, member);
    uint32_t page = sequence->length / cache->page_size;
    bool begins = pages > skim_cache_pages(cache, sequence->length);
    member->clear = !cache->keep_freed && (begins || member->copied || sequence->dirty_tail);
    if (member->copied) {
        skim_pool_take(&cache->pool, &sequence->slots[page], 1);
        if (SKIM_MUTANT(pool_copy_drops_old_slot))
            skim_pool_give_back(&cache->pool, &member->old_slot, 1);
        if (sequence->uploaded > page && !SKIM_MUTANT(pool_copy_keeps_table))
            sequence->uploaded = page;
    }
    if (pages > sequence->page_count) {
        skim_pool_take(&cache->pool, sequence->slots + sequence->page_count,
                       pages - sequence->page_count);
        sequence->page_count = pages;
    }
    sequence->in_step = true;
}

// Gives back what the members took, in the opposite order, so that the pool is as it was.
static void return_slots(skim_cache *cache)
{
    skim_step *step = &cache->step;
    for (uint32_t i = step->count; i-- > 0;) {
        const skim_step_member *member = &step->members[i];
        skim_sequence *sequence = member->sequence;
        uint32_t old = member->old_pages;
        uint32_t page = sequence->length / cache->page_size;
        if (!SKIM_MUTANT(pool_cancel_keeps_slots))
            skim_pool_give_back(&cache->pool, sequence->slots + old, sequence->page_count - old);
        sequence->page_count = old;
        if (member->copied) {
            skim_pool_give_back(&cache->pool, &sequence->slots[page], 1);
            sequence->slots[page] = member->old_slot;
        }
        uint32_t kept = member->copied ? page : old;
        if (sequence->uploaded > kept)
            sequence->uploaded = kept;
        sequence->in_step = false;
    }
}

static skim_status upload_step(skim_cache *cache)
{
    const skim_step *step = &cache->step;
    skim_status status = SKIM_OK;
    for (uint32_t i = 0; i < step->count && status == SKIM_OK; i++) {
        const skim_step_member *member = &step->members[i];
        const skim_sequence *sequence = member->sequence;
        if (member->copied && !SKIM_MUTANT(core_fork_without_copy))
            status = skim_cache_copy_slot(cache, member->old_slot,
                                          sequence->slots[sequence->length / cache->page_size]);
    }
    for (uint32_t i = 0; i < step->count && status == SKIM_OK; i++)
        status = skim_table_upload(step->members[i].sequence);
    for (uint32_t c = 0; c < cache->class_count; c++)
        skim_rows_fill(cache, c, &cache->classes[c].policy, cache->classes[c].dense);
    if (status == SKIM_OK)
        status = skim_rows_upload(cache, 0, cache->class_count);
    return skim_cache_fail(cache, status);
}

skim_status skim_step_begin(skim_cache *cache, const skim_step_entry *entries, uint32_t count,
                            skim_step **step)
{
    if (!cache)
        return SKIM_INVALID;
    if (!step)
        return skim_fail(&cache->error, SKIM_INVALID, "step must not be NULL");
    if (cache->step.open)
        return skim_fail(&cache->error, SKIM_STATE, "a step is open; end or cancel it first");
    skim_status status = check_entries(cache, entries, count);
    if (status != SKIM_OK)
        return status;
    fill_members(cache, entries, count);
    choose_copies(cache);
    status = check_slots(cache);
    if (status == SKIM_OK)
        status = skim_cache_fail(cache, skim_queue_usable(cache->queue));
    if (status == SKIM_OK)
        status = skim_cache_prepare(cache, NULL);
    if (status != SKIM_OK)
        return status;

    for (uint32_t i = 0; i < count; i++)
        take_member(cache, &cache->step.members[i]);
    status = upload_step(cache);
    if (status != SKIM_OK) {
        return_slots(cache);
        return status;
    }
    for (uint32_t i = 0; i < cache->layer_count; i++) {
        skim_cache_layer *own = &cache->layers[i];
        own->appended = own->attended = own->frozen_in_step = false;
    }
    cache->step.last = NULL;
    cache->step.failed = false;
    cache->step.open = true;
    *step = &cache->step;
    return SKIM_OK;
}

// --- append

skim_status skim_step_layer(skim_step *step, uint32_t layer, skim_cache_layer **own)
{
    if (!step)
        return SKIM_INVALID;
    skim_cache *cache = step->cache;
    if (!step->open)
        return skim_fail(&cache->error, SKIM_STATE, "the step was ended or cancelled");
    if (step->failed)
        return skim_fail(&cache->error, SKIM_FAILED,
                         "work submitted while the step was open failed; cancel the step");
    if (layer >= cache->layer_count)
        return skim_fail(&cache->error, SKIM_INVALID, "layer %u of %u", layer, cache->layer_count);
    *own = &cache->layers[layer];
    return SKIM_OK;
}

skim_append_args skim_cache_append_args(const skim_cache *cache, const skim_cache_layer *own,
                                        uint32_t policy_class, uint32_t row_count)
{
    skim_append_args args = {
        .size_of = sizeof args,
        .shape = &own->shape,
        .rows = skim_rows_tensor(cache, policy_class),
        .row_count = row_count,
        .table = skim_table_tensor(cache),
        .table_count = skim_table_count(cache),
        .bounds = own->bounds,
        .centre = own->centre,
        .freeze = own->centre && !own->frozen,
    };
    skim_layer_paged(&own->shape, own->pages, &args.keys, &args.values);
    return args;
}

skim_status skim_step_append(skim_step *step, uint32_t layer, const skim_tensor *k,
                             const skim_tensor *v)
{
    skim_cache_layer *own = NULL;
    skim_status status = skim_step_layer(step, layer, &own);
    if (status != SKIM_OK)
        return status;
    skim_cache *cache = step->cache;
    if (!k || !v)
        return skim_fail(&cache->error, SKIM_INVALID, "k and v must not be NULL");
    if (own->appended)
        return skim_fail(&cache->error, SKIM_STATE, "layer %u was appended in this step already",
                         layer);
    skim_append_args args = skim_cache_append_args(cache, own, own->policy_class, step->count);
    args.token_count = step->token_count;
    args.k = *k;
    args.v = *v;
    status = skim_append(cache->queue, &args);
    if (status != SKIM_OK)
        return skim_cache_fail(cache, status);
    own->appended = true;
    own->frozen_in_step = args.freeze;
    own->frozen = own->centre != NULL;
    return SKIM_OK;
}

// --- end and cancel

static void commit_member(skim_cache *cache, const skim_step_member *member, uint64_t done)
{
    skim_sequence *sequence = member->sequence;
    // Steps in flight fail together: what is known to be stored is what was there before them.
    skim_sequence_settle(sequence);
    if (member->copied) {
        uint32_t page_start = sequence->length / cache->page_size * cache->page_size;
        if (sequence->sound_length > page_start)
            sequence->sound_length = page_start;
        skim_pool_give_back(&cache->pool, &member->old_slot, 1);
    }
    sequence->length += member->tokens;
    sequence->last_point = done;
    sequence->dirty_tail = sequence->dirty_tail && !member->clear;
    sequence->in_step = false;
}

skim_status skim_step_end(skim_step *step, uint64_t *point)
{
    skim_cache_layer *own = NULL;
    skim_status status = skim_step_layer(step, 0, &own);
    if (status != SKIM_OK)
        return status;
    skim_cache *cache = step->cache;
    for (uint32_t i = 0; i < cache->layer_count; i++) {
        if (!cache->layers[i].appended)
            return skim_fail(&cache->error, SKIM_STATE,
                             "layer %u was not appended; append it or cancel the step", i);
    }
    uint64_t done;
    status = skim_queue_submit(cache->queue, &done);
    if (status != SKIM_OK)
        return skim_cache_fail(cache, status);
    for (uint32_t i = 0; i < cache->layer_count; i++) {
        if (cache->layers[i].frozen_in_step)
            cache->layers[i].freeze_point = done;
    }
    for (uint32_t i = 0; i < step->count; i++)
        commit_member(cache, &step->members[i], done);
    step->open = false;
    if (point)
        *point = done;
    return SKIM_OK;
}

void skim_step_cancel(skim_step *step)
{
    if (!step || !step->open)
        return;
    skim_cache *cache = step->cache;
    for (uint32_t i = 0; i < step->count; i++) {
        skim_sequence *sequence = step->members[i].sequence;
        // A page that others had copied may have been written by the one that stayed in it.
        if (sequence->length % cache->page_size != 0)
            sequence->dirty_tail = !SKIM_MUTANT(pool_cancel_keeps_tail);
        if (SKIM_MUTANT(pool_cancel_keeps_length))
            sequence->length += step->members[i].tokens;
    }
    return_slots(cache);
    // Bounds of a page that is not full are computed again by the append that adds to it.
    for (uint32_t i = 0; i < cache->layer_count; i++) {
        if (cache->layers[i].frozen_in_step)
            cache->layers[i].frozen = false;
    }
    step->open = false;
}
