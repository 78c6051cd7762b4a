// A queue: command buffers that are recorded and submitted, the timeline that its points are, the
// mapped memory through which the host's bytes travel, and scratch.
#ifndef SKIM_VULKAN_QUEUE_H
#define SKIM_VULKAN_QUEUE_H

#include "backends/gpu/staging.h"
#include "backends/vulkan/vulkan.h"

enum { SKIM_VULKAN_RANGES = 16, SKIM_VULKAN_SEMAPHORES = 16 };

// A command buffer, and the point whose submission holds it; 0: free.
typedef struct skim_vulkan_commands {
    VkCommandBuffer handle;
    uint64_t point;
} skim_vulkan_commands;

// Mapped memory that transfers go through, and that kernels may read.
typedef struct skim_vulkan_block {
    skim_gpu_block base;
    skim_vulkan_mapping mapping;
} skim_vulkan_block;

typedef struct skim_vulkan_mark {
    uint64_t point;    // of the submission that holds it last; 0: never recorded
    uint64_t previous; // before what is recorded and not submitted
} skim_vulkan_mark;

// A range of a buffer that a transfer wrote or read since the last barrier.
typedef struct skim_vulkan_range {
    VkBuffer buffer; // its first piece: the host may have wrapped it twice
    uint64_t begin, end;
} skim_vulkan_range;

// Points on the host's timelines; room for one of the queue's own.
typedef struct skim_vulkan_points {
    uint32_t count;
    VkSemaphore semaphores[SKIM_VULKAN_SEMAPHORES + 1];
    uint64_t values[SKIM_VULKAN_SEMAPHORES + 1];
} skim_vulkan_points;

typedef struct skim_vulkan_queue {
    skim_backend_queue *base;
    skim_vulkan_device *device;
    VkCommandPool pool;
    skim_vulkan_commands *commands;
    uint32_t command_count, command_capacity;
    VkCommandBuffer recording; // NULL: none is open
    VkCommandBuffer *closed;   // ended, to be submitted in this order
    uint32_t closed_count, closed_capacity;
    bool flushed;    // some of what is recorded runs already
    bool broken;     // some of what was recorded is lost, and so none of it is submitted
    uint64_t failed; // the point that stands for such work, until a wait has told; 0: none
    VkSemaphore timeline;
    uint64_t submitted, completed;     // points
    double work;                       // multiplications recorded since the last submission
    skim_vulkan_points waits, signals; // of the next submission

    // Since the last barrier: what ran, and what transfers touched.
    bool computed, transferred;
    skim_vulkan_range ranges[SKIM_VULKAN_RANGES];
    uint32_t range_count;

    VkQueryPool queries;
    skim_vulkan_mark marks[SKIM_GPU_MARKS];
    skim_gpu_staging staging;
    skim_vulkan_chunk scratch; // scores' keys and partial results: what a cache's tokens gave
    uint64_t scratch_size;
} skim_vulkan_queue;

static inline skim_vulkan_queue *skim_vulkan_queue_of(const skim_backend_queue *base)
{
    return base->impl;
}

skim_status skim_vulkan_queue_create(skim_backend_queue *queue);
void skim_vulkan_queue_destroy(skim_backend_queue *queue);
skim_status skim_vulkan_queue_prepare(skim_backend_queue *queue, const skim_shape *shape);
skim_status skim_vulkan_queue_submit(skim_backend_queue *queue, bool will_wait, uint64_t *point);
skim_status skim_vulkan_queue_wait(skim_backend_queue *queue, uint64_t point, uint64_t timeout_ns);
void skim_vulkan_queue_discard(skim_backend_queue *queue);
skim_status skim_vulkan_record_mark(skim_backend_queue *queue, uint32_t index);
skim_status skim_vulkan_queue_mark_time(skim_backend_queue *queue, uint32_t index,
                                        uint64_t *nanoseconds);

// Transfers (transfer.c).
skim_status skim_vulkan_record_upload(skim_backend_queue *queue, skim_buffer *buffer,
                                      uint64_t offset, const void *data, uint64_t size);
skim_status skim_vulkan_record_download(skim_backend_queue *queue, skim_buffer *buffer,
                                        uint64_t offset, void *data, uint64_t size);
skim_status skim_vulkan_record_copy(skim_backend_queue *queue, skim_buffer *source,
                                    uint64_t source_offset, skim_buffer *destination,
                                    uint64_t destination_offset, uint64_t size);
skim_status skim_vulkan_record_zero(skim_backend_queue *queue, skim_buffer *buffer, uint64_t offset,
                                    uint64_t size);
// Size bytes of staging for kernels to read, until the point of the next submission is reached.
skim_status skim_vulkan_stage_words(skim_vulkan_queue *queue, uint64_t size, char **bytes,
                                    uint64_t *address);
extern const skim_gpu_memory skim_vulkan_staging;

// Releases scratch, zeroed, once nothing uses it any more.
void skim_vulkan_scratch_deinit(skim_vulkan_queue *queue);

// Looks how far the device is.
void skim_vulkan_note_completed(skim_vulkan_queue *queue);
// Opens a command buffer if none is.
skim_status skim_vulkan_begin(skim_vulkan_queue *queue);
// Everything recorded before is done, and seen, before what follows.
void skim_vulkan_barrier(skim_vulkan_queue *queue);

// ---- dispatches

// A call's push constants and the grid that it is for.
typedef struct skim_vulkan_dispatch {
    skim_vulkan_kernel kernel;
    const skim_vulkan_constants *constants;
    const void *push;
    uint32_t push_size;
    uint32_t first, groups[3]; // first: of groups[0]
} skim_vulkan_dispatch;

// Records a dispatch, after a barrier if something ran since the last one and follows is set.
skim_status skim_vulkan_record_dispatch(skim_vulkan_queue *queue,
                                        const skim_vulkan_dispatch *dispatch, bool follows);
// Submits what was recorded, without a point, if it has become too much work for one submission.
skim_status skim_vulkan_add_work(skim_vulkan_queue *queue, double work);

// The address of bytes of a buffer that lie in one piece. SKIM_UNSUPPORTED if they do not.
skim_status skim_vulkan_locate(skim_vulkan_queue *queue, const char *name,
                               const skim_buffer *buffer, uint64_t offset, uint64_t bytes,
                               uint64_t *address);
// What a kernel with or without SKIM_SPEC_CHUNK_SHIFT takes for keys, values or bounds.
skim_status skim_vulkan_locate_units(skim_vulkan_queue *queue, const skim_buffer *buffer,
                                     uint64_t offset, bool split, uint64_t *address);
// Writes the addresses of a launch's operands, with which what it is pushed begins; 0 where there
// is none. Sets SKIM_SPEC_CHUNK_SHIFT if a buffer is in several pieces.
skim_status skim_vulkan_locate_operands(skim_vulkan_queue *queue, const skim_gpu_operand *operands,
                                        uint32_t count, skim_vulkan_constants *constants,
                                        void *push);

#endif
