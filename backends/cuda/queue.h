// A queue: a stream, the events that its points are, the pinned memory through which the host's
// bytes travel, and scratch. What is recorded is on its way already; submit records the event.
#ifndef SKIM_CUDA_QUEUE_H
#define SKIM_CUDA_QUEUE_H

#include "backends/cuda/cuda.h"
#include "backends/gpu/staging.h"

// An event, and the submission that recorded it; 0: free.
typedef struct skim_cuda_point {
    CUevent event;
    uint64_t point;
} skim_cuda_point;

typedef struct skim_cuda_mark {
    CUevent event;
    uint64_t point; // of the submission that holds it; 0: never recorded
    uint64_t order; // of all recordings of marks
    bool known;     // nanoseconds is its time
    double nanoseconds;
} skim_cuda_mark;

typedef struct skim_cuda_queue {
    skim_backend_queue *base;
    skim_cuda_device *device;
    CUstream stream;
    bool foreign; // the stream is the host's, who may be capturing it
    skim_cuda_point *points;
    uint32_t point_count, point_capacity;
    uint64_t submitted, completed;
    skim_gpu_staging staging;
    skim_cuda_mark marks[SKIM_GPU_MARKS];
    uint64_t mark_order;   // of the last mark
    CUevent anchor;        // of a mark whose time is known: others are measured from it
    uint64_t anchor_order; // 0: there was no mark yet
    double anchor_time;
    skim_cuda_memory scratch;
    skim_cuda_memory counters; // zero between launches
} skim_cuda_queue;

static inline skim_cuda_queue *skim_cuda_queue_of(const skim_backend_queue *base)
{
    return base->impl;
}

skim_status skim_cuda_queue_open(skim_backend_queue *queue);
void skim_cuda_queue_close(skim_backend_queue *queue);
skim_status skim_cuda_queue_prepare(skim_backend_queue *queue, const skim_shape *shape);
skim_status skim_cuda_queue_submit(skim_backend_queue *queue, bool will_wait, uint64_t *point);
skim_status skim_cuda_queue_wait(skim_backend_queue *queue, uint64_t point, uint64_t timeout_ns);
void skim_cuda_queue_discard(skim_backend_queue *queue);
skim_status skim_cuda_record_mark(skim_backend_queue *queue, uint32_t index);
skim_status skim_cuda_queue_mark_time(skim_backend_queue *queue, uint32_t index,
                                      uint64_t *nanoseconds);

// Transfers (transfer.c).
skim_status skim_cuda_record_upload(skim_backend_queue *queue, skim_buffer *buffer, uint64_t offset,
                                    const void *data, uint64_t size);
skim_status skim_cuda_record_download(skim_backend_queue *queue, skim_buffer *buffer,
                                      uint64_t offset, void *data, uint64_t size);
skim_status skim_cuda_record_copy(skim_backend_queue *queue, skim_buffer *source,
                                  uint64_t source_offset, skim_buffer *destination,
                                  uint64_t destination_offset, uint64_t size);
skim_status skim_cuda_record_zero(skim_backend_queue *queue, skim_buffer *buffer, uint64_t offset,
                                  uint64_t size);
// Within the context.
extern const skim_gpu_memory skim_cuda_staging;

// SKIM_OK unless the stream is being captured, where this cannot be recorded. Within the context.
skim_status skim_cuda_check_capture(skim_cuda_queue *queue, skim_status status, const char *what);
// Looks how far the device is. Within the context.
void skim_cuda_note_completed(skim_cuda_queue *queue);

// ---- launches

// One kernel over a grid; argument is its launch struct.
typedef struct skim_cuda_launch {
    skim_cuda_kernel kernel;
    uint32_t threads, shared; // of a block; bytes of dynamic shared memory
    uint32_t groups[3];
    void *argument;
} skim_cuda_launch;

skim_status skim_cuda_record_launch(skim_cuda_queue *queue, const skim_cuda_launch *launch);

// Writes the addresses of a description's operands, which what a kernel is told begins with.
void skim_cuda_locate_operands(const skim_gpu_operand *operands, uint32_t count, void *argument);

#endif
