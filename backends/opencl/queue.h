// A queue: commands go to the driver as they are recorded; a marker's event is a point. Mapped
// memory through which the host's bytes travel, and scratch.
#ifndef SKIM_OPENCL_QUEUE_H
#define SKIM_OPENCL_QUEUE_H

#include "backends/gpu/staging.h"
#include "backends/opencl/opencl.h"

// A point, and the event that tells when it is reached.
typedef struct skim_opencl_point {
    uint64_t point;
    cl_event event;
} skim_opencl_point;

// A kernel object: arguments are set on it, so each queue has its own.
typedef struct skim_opencl_function {
    skim_opencl_kernel kernel;
    skim_opencl_constants constants;
    cl_kernel handle;
    bool ran; // it was launched once, with nothing to do
} skim_opencl_function;

typedef struct skim_opencl_mark {
    skim_opencl_point now;
    skim_opencl_point previous; // before what is recorded and not submitted
} skim_opencl_mark;

typedef struct skim_opencl_queue {
    skim_backend_queue *base;
    skim_opencl_device *device;
    cl_command_queue handle;
    bool recorded;                 // something since the last submission
    cl_event last, next;           // of a queue out of order: the last command's, the next one's
    uint64_t submitted, completed; // points
    uint64_t failed;           // the first point whose work failed, until a wait has told; 0: none
    skim_opencl_point *points; // submitted and not known to be completed, in their order
    uint32_t point_count, point_capacity;
    skim_opencl_function *functions;
    uint32_t function_count, function_capacity;
    skim_opencl_mark marks[SKIM_GPU_MARKS];
    skim_gpu_staging staging;
    cl_mem scratch;
    uint64_t scratch_size;
} skim_opencl_queue;

static inline skim_opencl_queue *skim_opencl_queue_of(const skim_backend_queue *base)
{
    return base->impl;
}

skim_status skim_opencl_queue_create(skim_backend_queue *queue);
void skim_opencl_queue_destroy(skim_backend_queue *queue);
uint64_t skim_opencl_scratch_size(const skim_device *device, const skim_shape *shape);
skim_status skim_opencl_queue_prepare(skim_backend_queue *queue, const skim_shape *shape);
skim_status skim_opencl_queue_submit(skim_backend_queue *queue, bool will_wait, uint64_t *point);
skim_status skim_opencl_queue_wait(skim_backend_queue *queue, uint64_t point, uint64_t timeout_ns);
void skim_opencl_queue_discard(skim_backend_queue *queue);
skim_status skim_opencl_record_mark(skim_backend_queue *queue, uint32_t index);
skim_status skim_opencl_queue_mark_time(skim_backend_queue *queue, uint32_t index,
                                        uint64_t *nanoseconds);

// Transfers (transfer.c).
skim_status skim_opencl_record_upload(skim_backend_queue *queue, skim_buffer *buffer,
                                      uint64_t offset, const void *data, uint64_t size);
skim_status skim_opencl_record_download(skim_backend_queue *queue, skim_buffer *buffer,
                                        uint64_t offset, void *data, uint64_t size);
skim_status skim_opencl_record_copy(skim_backend_queue *queue, skim_buffer *source,
                                    uint64_t source_offset, skim_buffer *destination,
                                    uint64_t destination_offset, uint64_t size);
skim_status skim_opencl_record_zero(skim_backend_queue *queue, skim_buffer *buffer, uint64_t offset,
                                    uint64_t size);
extern const skim_gpu_memory skim_opencl_staging;

// What a command is enqueued with: on a queue out of order it waits for the one before it, and
// gives an event for the next one. skim_opencl_enqueued after every success.
typedef struct skim_opencl_order {
    cl_uint count;
    const cl_event *events;
    cl_event *event;
} skim_opencl_order;

skim_opencl_order skim_opencl_order_of(skim_opencl_queue *queue);
void skim_opencl_enqueued(skim_opencl_queue *queue);
// A marker after all that was recorded, and its event, for the caller to release.
skim_status skim_opencl_record_marker(skim_opencl_queue *queue, cl_event *event);

// Looks how far the device is.
void skim_opencl_note_completed(skim_opencl_queue *queue);

// ---- launches (launch.c)

// What attend, merge and prefill are told: the shape does not fit in the fields.
typedef struct skim_opencl_attend_push {
    skim_gpu_attend_push fields;
    uint32_t shape;
} skim_opencl_attend_push;

// Words that a kernel takes after what it is pushed.
static inline uint32_t skim_opencl_word_count(skim_opencl_kernel kernel)
{
    switch (kernel) {
    case SKIM_OPENCL_SELECT: // rows, heads of a list
    case SKIM_OPENCL_MERGE:  // rows, most parts
    case SKIM_OPENCL_PREFILL:
        return 2;
    case SKIM_OPENCL_ATTEND: // rows, most parts, heads of a list
        return 3;
    default:
        return 1;
    }
}

// What a launch reads and writes, as its kernel's first arguments, and the words after them.
typedef struct skim_opencl_launch {
    skim_opencl_kernel kernel;
    skim_opencl_constants constants;
    cl_mem memories[SKIM_GPU_OPERANDS_MAX * SKIM_OPENCL_PIECES_MAX];
    uint32_t memory_count;
    const void *push;
    size_t push_size;
    uint32_t words[3]; // row_count first
    uint32_t word_count;
    uint32_t first, groups[3]; // first: of groups[0]
} skim_opencl_launch;

// Fills the memories and the addresses with which push begins: bytes of a memory, SKIM_ABSENT
// (UINT64_MAX) where there is none, 0 of scratch. Sets chunk_shift if a buffer is in several
// pieces. SKIM_UNSUPPORTED if another operand lies across two.
skim_status skim_opencl_locate_operands(skim_opencl_queue *queue, const skim_gpu_operand *operands,
                                        uint32_t count, skim_opencl_launch *launch, void *push);
skim_status skim_opencl_record_launch(skim_opencl_queue *queue, const skim_opencl_launch *launch);
// Builds the kernel if need be and launches it once with nothing to do: what drivers put off until
// the first launch is not put off until a step.
skim_status skim_opencl_warm_up(skim_opencl_queue *queue, skim_opencl_kernel kernel,
                                const skim_opencl_constants *constants);

#endif
