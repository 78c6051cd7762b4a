// Queues: where work is recorded and submitted, and the points that tell when it is done.
//
// Verbs and steps record; skim_queue_submit starts what was recorded and returns a point, a number
// that grows with every submission. Work on one queue runs in the order in which it was recorded.
#ifndef SKIM_QUEUE_H
#define SKIM_QUEUE_H

#include "skim/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SKIM_WAIT_FOREVER UINT64_MAX

// Creates a queue on the device. Destroy it with skim_queue_destroy. Thread-safe on the device.
// Errors: SKIM_INVALID, SKIM_NO_MEMORY, SKIM_FAILED, SKIM_DEVICE_LOST.
SKIM_API skim_status skim_queue_create(skim_device *device, skim_queue **queue);

// Waits for submitted work, drops what was recorded and not submitted, and destroys the queue. Its
// caches must have been destroyed. NULL is ignored.
SKIM_API void skim_queue_destroy(skim_queue *queue);

// Returns the queue's device; NULL for NULL.
SKIM_API skim_device *skim_queue_device(const skim_queue *queue);

// As skim_runtime_error, for calls on this queue, the verbs included.
SKIM_API size_t skim_queue_error(const skim_queue *queue, char *text, size_t size);

// Starts what was recorded since the last submission.
//   point  receives the point at which it is done (the last one's if nothing was recorded); may be
//   NULL
// Does not block. Errors: SKIM_INVALID, SKIM_NO_MEMORY, SKIM_FAILED, SKIM_DEVICE_LOST.
SKIM_API skim_status skim_queue_submit(skim_queue *queue, uint64_t *point);

// Blocks until the point is reached or the time is up (SKIM_TIMEOUT). timeout_ns may be 0 to ask
// only. Errors: SKIM_INVALID (a point not yet submitted), SKIM_FAILED or SKIM_DEVICE_LOST
// (submitted work failed). After SKIM_FAILED all work since the last point that was waited for is
// lost: it blocks until what was submitted has ended, and drops what was only recorded.
SKIM_API skim_status skim_queue_wait(skim_queue *queue, uint64_t point, uint64_t timeout_ns);

// Submits what was recorded and blocks until all work is done. On the CPU the calling thread
// computes, so this is faster than a submit and a wait. Errors: as both.
SKIM_API skim_status skim_queue_finish(skim_queue *queue);

// Records a copy of size > 0 bytes of host memory into a buffer; data is consumed before the call
// returns. Errors: SKIM_INVALID (range outside the buffer), SKIM_NO_MEMORY, SKIM_DEVICE_LOST.
SKIM_API skim_status skim_queue_upload(skim_queue *queue, skim_buffer *buffer, uint64_t offset,
                                       const void *data, uint64_t size);

// Records a copy of size > 0 bytes of a buffer into host memory, which is written when the
// submission's point is reached. Errors: as skim_queue_upload.
SKIM_API skim_status skim_queue_download(skim_queue *queue, skim_buffer *buffer, uint64_t offset,
                                         void *data, uint64_t size);

// Records a copy of size > 0 bytes between two buffers of the device, or within one if the ranges
// do not overlap. Errors: as skim_queue_upload.
SKIM_API skim_status skim_queue_copy(skim_queue *queue, skim_buffer *source, uint64_t source_offset,
                                     skim_buffer *destination, uint64_t destination_offset,
                                     uint64_t size);

// Records the setting of size > 0 bytes of a buffer to zero. Errors: as skim_queue_upload.
SKIM_API skim_status skim_queue_zero(skim_queue *queue, skim_buffer *buffer, uint64_t offset,
                                     uint64_t size);

// Records that the device's clock is written to mark index < skim_limits.timestamps.
// Errors: SKIM_INVALID, SKIM_UNSUPPORTED.
SKIM_API skim_status skim_queue_mark(skim_queue *queue, uint32_t index);

// Reads a mark whose submission is done: nanoseconds on a clock of the device's own, good for
// differences. Errors: SKIM_INVALID, SKIM_STATE (not reached yet), SKIM_UNSUPPORTED.
SKIM_API skim_status skim_queue_mark_time(skim_queue *queue, uint32_t index, uint64_t *nanoseconds);

// What was recorded and submitted on a queue of a GPU since it was created; all zero on the CPU,
// which has nothing of the kind. The difference over a step says what the step costs besides its
// arithmetic. Made for tests and for `skim bench`.
typedef struct skim_queue_counts {
    size_t size_of;
    uint64_t submissions; // given to the driver
    uint64_t dispatches;  // kernel launches
    uint64_t workgroups;  // of all dispatches, those that leave at once included
    uint64_t barriers;    // between dispatches and transfers
    uint64_t transfers;   // copies and fills
    uint64_t upload_bytes;
    uint64_t download_bytes;
} skim_queue_counts;

// Fills counts (size_of set). Does not block. Errors: SKIM_INVALID.
SKIM_API skim_status skim_queue_get_counts(const skim_queue *queue, skim_queue_counts *counts);

#ifdef __cplusplus
}
#endif
#endif
