// How the host's bytes travel to and from a device: through blocks of memory that both reach. A
// part of a block is taken until the point of the next submission; what was downloaded there lands
// where the host wants it once that point is known to be reached. A queue has one of these.
#ifndef SKIM_GPU_STAGING_H
#define SKIM_GPU_STAGING_H

#include "backends/gpu/plan.h"

// A block; a backend's own begins with this.
typedef struct skim_gpu_block {
    struct skim_gpu_block *next;
    char *bytes; // where the host has it
    uint64_t size;
    uint64_t used;
    uint64_t last; // point of the last submission that uses it
} skim_gpu_block;

typedef struct skim_gpu_landing {
    const char *from;
    void *to;
    uint64_t size;
    uint64_t point;
} skim_gpu_landing;

// What a backend does for it; queue is the backend's own.
typedef struct skim_gpu_memory {
    // A block, with bytes and size filled. One that fails leaves a sentence on the queue's error,
    // and nothing else.
    skim_status (*create)(void *queue, uint64_t size, skim_gpu_block **block);
    void (*destroy)(void *queue, skim_gpu_block *block); // it is zeroed already
    void (*note_completed)(void *queue); // looks how far the device is, and calls land
} skim_gpu_memory;

typedef struct skim_gpu_staging {
    const skim_gpu_memory *memory;
    skim_backend_queue *base;
    void *queue;
    const uint64_t *submitted, *completed; // the queue's points
    skim_gpu_block *blocks;                // the newest first
    skim_gpu_landing *landings;
    uint32_t landing_count, landing_capacity;
} skim_gpu_staging;

// Two blocks to begin with. deinit after a failure, too.
skim_status skim_gpu_staging_init(skim_gpu_staging *staging, const skim_gpu_memory *memory,
                                  skim_backend_queue *base, void *queue, const uint64_t *submitted,
                                  const uint64_t *completed);
// Nothing may be in flight.
void skim_gpu_staging_deinit(skim_gpu_staging *staging);

// Takes size bytes, from block->bytes + offset on. May allocate, and then releases the blocks that
// have proved too small.
skim_status skim_gpu_stage(skim_gpu_staging *staging, uint64_t size, skim_gpu_block **block,
                           uint64_t *offset);
// What was taken since the last submission is free: nothing uses it any more.
void skim_gpu_unstage(skim_gpu_staging *staging);

// Room for one more landing, so that adding it cannot fail.
skim_status skim_gpu_reserve_landing(skim_gpu_staging *staging);
void skim_gpu_add_landing(skim_gpu_staging *staging, const char *from, void *to, uint64_t size);
// Copies what reached the host to where it was wanted; forgets what was never submitted.
void skim_gpu_land(skim_gpu_staging *staging);
void skim_gpu_forget_landings(skim_gpu_staging *staging);

#endif
