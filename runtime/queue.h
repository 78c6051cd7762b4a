// The core's queue: a backend's queue, what it was prepared for, and the staging memory through
// which host tensors travel.
#ifndef SKIM_QUEUE_PRIVATE_H
#define SKIM_QUEUE_PRIVATE_H

#include "runtime/validate.h"

#define SKIM_STAGING_MARKS 32

// A ring in a device buffer. head and tail only grow; the place of byte x is x % size.
typedef struct skim_staging {
    skim_buffer *buffer;
    uint64_t size;
    uint64_t head;
    uint64_t tail;
    uint32_t mark_count;
    struct {
        uint64_t point; // when it is reached ...
        uint64_t head;  // ... everything before this is free
    } marks[SKIM_STAGING_MARKS];
} skim_staging;

struct skim_queue {
    skim_backend_queue base;
    skim_staging staging;
    skim_shape *shapes; // prepared
    uint32_t shape_count;
    uint32_t shape_capacity;
    uint64_t submitted;   // the last point
    uint64_t reached;     // the last point known to be done, or given up
    uint64_t failed_from; // points failed_from .. failed_to failed; 0: none did
    uint64_t failed_to;
    bool recorded;      // something since the last point
    skim_cache *caches; // that use it
};

// As skim_queue_create; stream may be the host's own, of a device that can use it.
skim_status skim_queue_make(skim_device *device, void *stream, skim_queue **queue);

// SKIM_OK, or why nothing can be recorded.
skim_status skim_queue_usable(skim_queue *queue);

// As skim_queue_finish, before buffers are destroyed: afterwards nothing that was recorded or
// submitted uses them, whatever failed. What cannot be submitted is dropped, and counts as failed.
skim_status skim_queue_drain(skim_queue *queue);

// Whether the queue was prepared for a shape at least as large.
bool skim_queue_is_prepared(const skim_queue *queue, const skim_shape *shape);

// Grows the staging ring to at least size bytes. No work may be in flight.
skim_status skim_queue_reserve_staging(skim_queue *queue, uint64_t size);

// Bytes of staging that work of this shape wants, and that one token of it takes.
uint64_t skim_shape_staging(const skim_shape *shape);
uint64_t skim_shape_token_bytes(const skim_shape *shape);

// A tensor of a checked extent that a verb reads or writes.
typedef struct skim_stage_item {
    skim_extent extent;
    skim_tensor *tensor; // replaced by its place in staging
    bool output;
    bool partial;     // an output of which the verb may leave elements as they were
    skim_tensor host; // set by skim_queue_stage: where a staged tensor was; start with zero
} skim_stage_item;

// Moves all of a verb's host tensors into staging, packed, in one piece; leaves those in buffers,
// and outputs that the device can write in host memory, alone. May wait for earlier work. Whatever
// reads them must be recorded before anything else is staged.
skim_status skim_queue_stage(skim_queue *queue, skim_stage_item *items, uint32_t count);

// Records the way back of the outputs that were staged.
skim_status skim_queue_unstage(skim_queue *queue, const skim_stage_item *items, uint32_t count);

#endif
