#include "runtime/pool.h"

#include <assert.h>

uint64_t skim_pool_host_size(uint32_t slots)
{
    return (uint64_t)slots * 2 * sizeof(uint32_t);
}

skim_status skim_pool_init(const skim_host *host, skim_pool *pool, uint32_t slots)
{
    size_t size = (size_t)skim_pool_host_size(slots);
    uint32_t *words = skim_allocate(host, size);
    if (!words)
        return SKIM_NO_MEMORY;
    *pool = (skim_pool){
        .slots = slots, .free_count = slots, .free_slots = words, .references = words + slots};
    for (uint32_t i = 0; i < slots; i++)
        pool->free_slots[i] = slots - 1 - i;
    return SKIM_OK;
}

void skim_pool_deinit(const skim_host *host, skim_pool *pool)
{
    skim_release(host, pool->free_slots, (size_t)skim_pool_host_size(pool->slots));
    *pool = (skim_pool){0};
}

bool skim_pool_take(skim_pool *pool, uint32_t *slots, uint32_t count)
{
    if (count > pool->free_count)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = pool->free_slots[--pool->free_count];
        assert(pool->references[slot] == 0);
        pool->references[slot] = 1;
        slots[i] = slot;
        if (slot >= pool->used)
            pool->used = slot + 1;
    }
    return true;
}

void skim_pool_share(skim_pool *pool, const uint32_t *slots, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        assert(pool->references[slots[i]] > 0);
        pool->shared_count += ++pool->references[slots[i]] == 2;
    }
}

void skim_pool_give_back(skim_pool *pool, const uint32_t *slots, uint32_t count)
{
    for (uint32_t i = count; i-- > 0;) {
        uint32_t slot = slots[i];
        assert(pool->references[slot] > 0);
        uint32_t left = --pool->references[slot];
        pool->shared_count -= left == 1;
        if (left == 0)
            pool->free_slots[pool->free_count++] = slot;
    }
}
