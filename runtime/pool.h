// The page pool: which slots are free, and how many sequences hold each.
#ifndef SKIM_POOL_H
#define SKIM_POOL_H

#include "runtime/backend.h"

typedef struct skim_pool {
    uint32_t slots;
    uint32_t free_count;
    uint32_t shared_count; // slots with more than one reference
    uint32_t used;         // slots below this may have been taken; none above ever was
    uint32_t *free_slots;  // a stack; the lowest slots come out first of a fresh pool
    uint32_t *references;
    uint32_t *notes; // per slot; only step.c knows what they say
} skim_pool;

// Bytes of host memory that a pool of so many slots keeps.
uint64_t skim_pool_host_size(uint32_t slots);

skim_status skim_pool_init(const skim_host *host, skim_pool *pool, uint32_t slots);
void skim_pool_deinit(const skim_host *host, skim_pool *pool);

// Takes count free slots with one reference each. False, and nothing taken, if there are too few.
bool skim_pool_take(skim_pool *pool, uint32_t *slots, uint32_t count);

// Adds a reference to each slot.
void skim_pool_share(skim_pool *pool, const uint32_t *slots, uint32_t count);

static inline bool skim_pool_is_shared(const skim_pool *pool, uint32_t slot)
{
    return pool->references[slot] > 1;
}

// Drops a reference of each slot; those without any are free, and come out again in the order
// given.
void skim_pool_give_back(skim_pool *pool, const uint32_t *slots, uint32_t count);

#endif
