#include "runtime/rows.h"

#include "runtime/mutant.h"
#include "runtime/validate.h"

#include <string.h>

skim_sequence *skim_sequence_take(skim_cache *cache)
{
    uint32_t index = 0;
    while (index < cache->max_sequences && cache->sequences[index].alive)
        index++;
    if (index == cache->max_sequences) {
        skim_fail(&cache->error, SKIM_STATE,
                  "max_sequences (%u) are alive; destroy one, or make a cache for more",
                  cache->max_sequences);
        return NULL;
    }
    skim_sequence *taken = &cache->sequences[index];
    *taken = (skim_sequence){.cache = cache, .index = index, .alive = true, .slots = taken->slots};
    cache->sequence_count++;
    return taken;
}

skim_status skim_sequence_create(skim_cache *cache, skim_sequence **sequence)
{
    if (!cache)
        return SKIM_INVALID;
    if (!sequence)
        return skim_fail(&cache->error, SKIM_INVALID, "sequence must not be NULL");
    skim_sequence *made = skim_sequence_take(cache);
    if (!made)
        return SKIM_STATE;
    *sequence = made;
    return SKIM_OK;
}

// SKIM_OK if the sequence is alive and in no open step.
static skim_status check_idle(skim_sequence *sequence)
{
    if (!sequence)
        return SKIM_INVALID;
    if (!sequence->alive)
        return skim_fail(&sequence->cache->error, SKIM_INVALID,
                         "the sequence was destroyed already");
    if (sequence->in_step)
        return skim_fail(&sequence->cache->error, SKIM_STATE,
                         "the sequence is in an open step; end or cancel it first");
    return SKIM_OK;
}

// As check_idle, and not broken.
static skim_status check_sound(skim_sequence *sequence)
{
    skim_status status = check_idle(sequence);
    if (status == SKIM_OK && sequence->broken)
        return skim_fail(&sequence->cache->error, SKIM_STATE,
                         "the sequence is broken: work that stored its tokens failed; truncate it "
                         "to %u or destroy it",
                         sequence->sound_length);
    return status;
}

skim_status skim_sequence_destroy(skim_sequence *sequence)
{
    if (!sequence)
        return SKIM_OK;
    skim_status status = check_idle(sequence);
    if (status != SKIM_OK)
        return status;
    skim_cache *cache = sequence->cache;
    skim_pool_give_back(&cache->pool, sequence->slots, sequence->page_count);
    sequence->alive = false;
    sequence->length = 0;
    sequence->page_count = 0;
    cache->sequence_count--;
    return SKIM_OK;
}

skim_status skim_sequence_fork(skim_sequence *source, skim_sequence **fork)
{
    skim_status status = check_sound(source);
    if (status != SKIM_OK)
        return status;
    skim_cache *cache = source->cache;
    if (!fork)
        return skim_fail(&cache->error, SKIM_INVALID, "fork must not be NULL");
    skim_sequence *made = skim_sequence_take(cache);
    if (!made)
        return SKIM_STATE;
    made->length = source->length;
    made->sound_length = source->sound_length;
    made->last_point = source->last_point;
    made->dirty_tail = source->dirty_tail;
    made->page_count = skim_cache_pages(cache, source->length);
    if (!SKIM_MUTANT(pool_fork_takes_no_reference))
        skim_pool_share(&cache->pool, source->slots, made->page_count);
    memcpy(made->slots, source->slots, made->page_count * sizeof *made->slots);
    *fork = made;
    return SKIM_OK;
}

// --- truncate and reserve

// Gives back what is past the end and not reserved, and shared slots past the end in any case:
// they are not this sequence's to write.
static void trim(skim_sequence *sequence)
{
    skim_cache *cache = sequence->cache;
    uint32_t used = skim_cache_pages(cache, sequence->length);
    uint32_t end = used, same = used; // entries before `same` stay where they are
    for (uint32_t i = used; i < sequence->page_count; i++) {
        uint32_t slot = sequence->slots[i];
        if (end < sequence->reserved && !skim_pool_is_shared(&cache->pool, slot)) {
            // Kept ones move to the front, the others to the back.
            sequence->slots[i] = sequence->slots[end];
            sequence->slots[end++] = slot;
            same += i == same;
        }
    }
    skim_pool_give_back(&cache->pool, sequence->slots + end, sequence->page_count - end);
    if (sequence->uploaded > same && !SKIM_MUTANT(pool_truncate_keeps_table))
        sequence->uploaded = same;
    sequence->page_count = end;
}

skim_status skim_sequence_truncate(skim_sequence *sequence, uint64_t length)
{
    skim_status status = check_idle(sequence);
    if (status != SKIM_OK)
        return status;
    skim_cache *cache = sequence->cache;
    if (sequence->broken && length > sequence->sound_length)
        return skim_fail(
            &cache->error, SKIM_INVALID,
            "the sequence is broken and sound up to a length of %u; it cannot keep %llu",
            sequence->sound_length, (unsigned long long)length);
    if (length > sequence->length)
        return skim_fail(&cache->error, SKIM_INVALID,
                         "the sequence's length is %u; truncate cannot make it %llu",
                         sequence->length, (unsigned long long)length);
    if (sequence->broken) {
        sequence->broken = false;
        sequence->last_point = 0;
    }
    // Bounds of a page that is not full are computed again by the append that adds to it, before
    // anything reads them; those of full pages are right. So nothing is recorded here.
    if (length < sequence->length)
        sequence->dirty_tail = length % cache->page_size != 0;
    sequence->length = (uint32_t)length;
    if (sequence->sound_length > length)
        sequence->sound_length = (uint32_t)length;
    if (!SKIM_MUTANT(pool_truncate_keeps_slots))
        trim(sequence);
    return SKIM_OK;
}

bool skim_sequence_must_copy(const skim_sequence *sequence)
{
    const skim_cache *cache = sequence->cache;
    uint32_t page = sequence->length / cache->page_size;
    return sequence->length % cache->page_size != 0 &&
           skim_pool_is_shared(&cache->pool, sequence->slots[page]);
}

void skim_sequence_settle(skim_sequence *sequence)
{
    if (sequence->last_point <= sequence->cache->queue->reached)
        sequence->sound_length = sequence->length;
}

// Gives the sequence a last page of its own.
static skim_status copy_last_page(skim_sequence *sequence)
{
    skim_cache *cache = sequence->cache;
    uint32_t page = sequence->length / cache->page_size;
    uint32_t slot;
    skim_pool_take(&cache->pool, &slot, 1);
    skim_status status = skim_cache_copy_slot(cache, sequence->slots[page], slot);
    if (status != SKIM_OK) {
        skim_pool_give_back(&cache->pool, &slot, 1);
        return status;
    }
    skim_pool_give_back(&cache->pool, &sequence->slots[page], 1);
    sequence->slots[page] = slot;
    if (sequence->uploaded > page)
        sequence->uploaded = page;
    sequence->dirty_tail = true; // the others may have gone on in that page
    // Should the copy fail, that page is lost.
    skim_sequence_settle(sequence);
    if (sequence->sound_length > page * cache->page_size)
        sequence->sound_length = page * cache->page_size;
    sequence->last_point = cache->queue->submitted + 1;
    return SKIM_OK;
}

skim_status skim_sequence_reserve(skim_sequence *sequence, uint64_t tokens)
{
    skim_status status = check_sound(sequence);
    if (status != SKIM_OK)
        return status;
    skim_cache *cache = sequence->cache;
    if (tokens > cache->max_sequence_tokens)
        return skim_fail(&cache->error, SKIM_INVALID,
                         "%llu tokens exceed the %llu that one sequence of this cache can hold",
                         (unsigned long long)tokens,
                         (unsigned long long)cache->max_sequence_tokens);
    uint32_t wanted = skim_cache_pages(cache, tokens);
    uint32_t more = wanted > sequence->page_count ? wanted - sequence->page_count : 0;
    bool copies = tokens > sequence->length && skim_sequence_must_copy(sequence);
    if (more + copies > cache->pool.free_count)
        return skim_fail(&cache->error, SKIM_NO_SLOTS,
                         "too few free slots (%u) for the reservation, which needs %u",
                         cache->pool.free_count, more + copies);
    status = skim_cache_fail(cache, skim_queue_usable(cache->queue));
    if (status == SKIM_OK && copies)
        status = copy_last_page(sequence);
    if (status != SKIM_OK)
        return status;
    skim_pool_take(&cache->pool, sequence->slots + sequence->page_count, more);
    sequence->page_count += more;
    sequence->reserved = wanted;
    trim(sequence);
    return SKIM_OK;
}

// --- inspection

uint64_t skim_sequence_length(const skim_sequence *sequence)
{
    return sequence ? sequence->length : 0;
}

skim_status skim_sequence_get_info(const skim_sequence *sequence, skim_sequence_info *info)
{
    if (!sequence)
        return SKIM_INVALID;
    const skim_cache *cache = sequence->cache;
    skim_sequence_info filled = {
        .length = sequence->length,
        .broken = sequence->broken,
        .sound_length = sequence->broken ? sequence->sound_length : sequence->length,
        .reserved = (uint64_t)sequence->reserved * cache->page_size,
        .slots = sequence->page_count,
    };
    for (uint32_t i = 0; i < sequence->page_count; i++)
        filled.slots_shared += skim_pool_is_shared(&cache->pool, sequence->slots[i]);
    if (!skim_give(info, &filled, sizeof filled))
        return skim_fail(&((skim_sequence *)sequence)->cache->error, SKIM_INVALID,
                         "info is NULL or its size_of is wrong");
    return SKIM_OK;
}
