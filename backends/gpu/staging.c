#include "backends/gpu/staging.h"

#include <string.h>

enum { FIRST_STAGING = 256 * 1024, STAGING_BLOCKS = 2, STAGING_ALIGNMENT = 64 };

// ---- blocks

// Makes a block the newest.
static skim_status add_block(skim_gpu_staging *staging, uint64_t size)
{
    skim_gpu_block *block = NULL;
    skim_status status = staging->memory->create(staging->queue, size, &block);
    if (status != SKIM_OK)
        return status;
    block->next = staging->blocks;
    staging->blocks = block;
    return SKIM_OK;
}

// What tokens left in it is zeroed.
static void release_block(skim_gpu_staging *staging, skim_gpu_block *block)
{
    memset(block->bytes, 0, block->size);
    staging->memory->destroy(staging->queue, block);
}

skim_status skim_gpu_staging_init(skim_gpu_staging *staging, const skim_gpu_memory *memory,
                                  skim_backend_queue *base, void *queue, const uint64_t *submitted,
                                  const uint64_t *completed)
{
    *staging = (skim_gpu_staging){.memory = memory,
                                  .base = base,
                                  .queue = queue,
                                  .submitted = submitted,
                                  .completed = completed};
    skim_status status = SKIM_OK;
    for (int i = 0; i < STAGING_BLOCKS && status == SKIM_OK; i++)
        status = add_block(staging, FIRST_STAGING);
    return status;
}

void skim_gpu_staging_deinit(skim_gpu_staging *staging)
{
    while (staging->blocks) {
        skim_gpu_block *block = staging->blocks;
        staging->blocks = block->next;
        release_block(staging, block);
    }
    if (staging->base)
        skim_release(staging->base->device->host, staging->landings,
                     staging->landing_capacity * sizeof *staging->landings);
    *staging = (skim_gpu_staging){0};
}

static skim_gpu_block *find_room(const skim_gpu_staging *staging, uint64_t size)
{
    for (skim_gpu_block *block = staging->blocks; block; block = block->next) {
        if (block->last <= *staging->completed)
            block->used = 0;
        if (block->size - block->used >= size)
            return block;
    }
    return NULL;
}

static void release_unused(skim_gpu_staging *staging)
{
    for (skim_gpu_block **link = &staging->blocks->next; *link;) {
        skim_gpu_block *block = *link;
        if (block->used > 0) {
            link = &block->next;
            continue;
        }
        *link = block->next;
        release_block(staging, block);
    }
}

// A block with size bytes free. Blocks whose work is done are empty again; when one must be added,
// those have proved too small and go.
static skim_status find_block(skim_gpu_staging *staging, uint64_t size, skim_gpu_block **block)
{
    *block = find_room(staging, size);
    if (*block)
        return SKIM_OK;
    staging->memory->note_completed(staging->queue);
    *block = find_room(staging, size);
    if (*block)
        return SKIM_OK;
    if (atomic_load(&staging->base->device->lost))
        return skim_fail(&staging->base->error, SKIM_DEVICE_LOST, "the device is lost");
    uint64_t largest = FIRST_STAGING;
    for (const skim_gpu_block *one = staging->blocks; one; one = one->next)
        largest = one->size > largest ? one->size : largest;
    const uint64_t wanted = size > 2 * largest ? size : 2 * largest;
    skim_status status = add_block(staging, wanted);
    if (status == SKIM_NO_MEMORY && wanted > size)
        status = add_block(staging, size);
    if (status != SKIM_OK)
        return status;
    *block = staging->blocks;
    release_unused(staging);
    return SKIM_OK;
}

skim_status skim_gpu_stage(skim_gpu_staging *staging, uint64_t size, skim_gpu_block **block,
                           uint64_t *offset)
{
    size = skim_round_up(size, STAGING_ALIGNMENT);
    skim_status status = find_block(staging, size, block);
    if (status != SKIM_OK)
        return status;
    *offset = (*block)->used;
    (*block)->used += size;
    (*block)->last = *staging->submitted + 1;
    return SKIM_OK;
}

void skim_gpu_unstage(skim_gpu_staging *staging)
{
    for (skim_gpu_block *block = staging->blocks; block; block = block->next)
        block->last = block->last < *staging->submitted ? block->last : *staging->submitted;
}

// ---- landings

skim_status skim_gpu_reserve_landing(skim_gpu_staging *staging)
{
    skim_gpu_landing *landings =
        skim_gpu_grow(staging->base->device->host, staging->landings, staging->landing_count,
                      &staging->landing_capacity, sizeof *landings);
    if (!landings)
        return skim_fail(&staging->base->error, SKIM_NO_MEMORY, "no host memory for a download");
    staging->landings = landings;
    return SKIM_OK;
}

void skim_gpu_add_landing(skim_gpu_staging *staging, const char *from, void *to, uint64_t size)
{
    staging->landings[staging->landing_count++] =
        (skim_gpu_landing){.from = from, .to = to, .size = size, .point = *staging->submitted + 1};
}

void skim_gpu_land(skim_gpu_staging *staging)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < staging->landing_count; i++) {
        const skim_gpu_landing landing = staging->landings[i];
        if (landing.point <= *staging->completed)
            memcpy(landing.to, landing.from, landing.size);
        else
            staging->landings[kept++] = landing;
    }
    staging->landing_count = kept;
}

void skim_gpu_forget_landings(skim_gpu_staging *staging)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < staging->landing_count; i++)
        if (staging->landings[i].point <= *staging->submitted)
            staging->landings[kept++] = staging->landings[i];
    staging->landing_count = kept;
}
