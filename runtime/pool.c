#include "runtime/pool.h"

#include <assert.h>

uint64_t skim_pool_host_size(uint32_t slots)
{
    return (uint64_t)slots * 3 * sizeof(uint32_t);
}

skim_status skim_pool_init(const skim_host *host, skim_pool *pool, uint32_t slots)
{
    size_t size = (size_t)skim_pool_host_size(slots);
    uint32_t *words = skim_allocate(host, size);
    if (!words)
        return SKIM_NO_MEMORY;
    *pool = (skim_pool){.slots = slots,
                        .free_count = slots,
                        .free_slots = words,
                        .references = words + slots,
                        .notes = words + 2 * (size_t)slots};
    for (uint32_t i = 0; i < slots; i++) {
        pool->free_slots[i] = slots - 1 - i;
        pool->notes[i] = 0;
    }
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

static bool are_consecutive(const uint32_t *slots, uint32_t count)
{
    uint32_t differ = 0;
    for (uint32_t i = 0; i < count; i++)
        differ |= (slots[i] - slots[0]) ^ i;
    return differ == 0;
}

void skim_pool_share(skim_pool *pool, const uint32_t *slots, uint32_t count)
{
    // A prompt's slots are mostly consecutive: blocks of those become vector instructions.
    enum { BLOCK = 64 };
    uint32_t shared = 0;
    for (uint32_t i = 0; i < count; i += BLOCK) {
        uint32_t block = count - i < BLOCK ? count - i : BLOCK;
        uint32_t *references = pool->references;
        if (are_consecutive(slots + i, block)) {
            references += slots[i];
            for (uint32_t j = 0; j < block; j++)
                shared += ++references[j] == 2;
        } else {
            for (uint32_t j = 0; j < block; j++)
                shared += ++references[slots[i + j]] == 2;
        }
    }
    pool->shared_count += shared;
}

void skim_pool_give_back(skim_pool *pool, const uint32_t *slots, uint32_t count)
{
    uint32_t *references = pool->references;
    uint32_t *free_slots = pool->free_slots;
    uint32_t free_count = pool->free_count, unshared = 0;
    for (uint32_t i = count; i-- > 0;) {
        uint32_t slot = slots[i];
        assert(references[slot] > 0);
        uint32_t left = --references[slot];
        unshared += left == 1;
        if (left == 0)
            free_slots[free_count++] = slot;
    }
    pool->free_count = free_count;
    pool->shared_count -= unshared;
}
