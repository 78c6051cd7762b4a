#include "runtime/cache.h"

skim_status skim_sequence_create(skim_cache *cache, skim_sequence **sequence)
{
    if (!cache)
        return SKIM_INVALID;
    if (!sequence)
        return skim_fail(&cache->error, SKIM_INVALID, "sequence must not be NULL");
    uint32_t index = 0;
    while (index < cache->max_sequences && cache->sequences[index].alive)
        index++;
    if (index == cache->max_sequences)
        return skim_fail(&cache->error, SKIM_STATE,
                         "all %u sequences are alive; destroy one or raise max_sequences",
                         cache->max_sequences);
    skim_sequence *made = &cache->sequences[index];
    made->alive = true;
    made->length = 0;
    made->page_count = 0;
    cache->sequence_count++;
    *sequence = made;
    return SKIM_OK;
}

skim_status skim_sequence_destroy(skim_sequence *sequence)
{
    if (!sequence)
        return SKIM_OK;
    skim_cache *cache = sequence->cache;
    if (sequence->in_step)
        return skim_fail(&cache->error, SKIM_STATE,
                         "the sequence is in an open step; end or cancel it first");
    if (!sequence->alive)
        return skim_fail(&cache->error, SKIM_INVALID, "the sequence was destroyed already");
    skim_pool_give_back(&cache->pool, sequence->slots, sequence->page_count);
    sequence->alive = false;
    sequence->length = 0;
    sequence->page_count = 0;
    cache->sequence_count--;
    return SKIM_OK;
}

uint64_t skim_sequence_length(const skim_sequence *sequence)
{
    return sequence ? sequence->length : 0;
}
