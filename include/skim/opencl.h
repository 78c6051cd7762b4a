// The OpenCL backend beside the application's own OpenCL: its context, device and queue, its
// buffers and its events.
//
// The header declares the few handles itself, so that it needs no OpenCL header and goes with any,
// included before it or after it: cl_context is struct _cl_context *, and so on, so that they are
// passed as they are. They must come from the system's OpenCL loader.
//
// In a build of Skim without OpenCL all functions are there; opening a device answers
// SKIM_NO_DEVICE.
#ifndef SKIM_OPENCL_H
#define SKIM_OPENCL_H

#include "skim/base.h"

#ifdef __cplusplus
extern "C" {
#endif

struct _cl_context;
struct _cl_device_id;
struct _cl_command_queue;
struct _cl_mem;
struct _cl_event;

// ---- devices

typedef struct skim_opencl_options {
    size_t size_of;
    uint64_t disable; // fast paths not to use, as in skim_device_options

    // Bytes of the largest piece of device memory, at least 65536; 0: what the driver says
    // (CL_DEVICE_MAX_MEM_ALLOC_SIZE). Rounded down to a power of two. A larger buffer lies in up to
    // eight pieces (SKIM_NO_MEMORY if it does not fit). Keys, values and bounds may lie
    // anywhere; any other tensor of a call must lie within one piece, counted from the start of its
    // buffer, or the call is SKIM_UNSUPPORTED. What the library keeps beside those is not limited
    // by it: staging, scratch, a cache's tables, scores and lists.
    uint64_t allocation_max;

    // Without a context of the host's: which device to open, "opencl", "opencl:1" or a UUID. NULL:
    // "opencl".
    const char *selector;

    // The host's: context and device, or none. Skim retains them while the device is open.
    struct _cl_context *context;
    struct _cl_device_id *device; // of the context, with OpenCL 1.2 or later
    // Of both, or NULL: every queue of Skim's has a command queue of its own. Otherwise all of them
    // share this one, in order with what the host enqueues there. It may be out of order: then the
    // commands of each of Skim's queues follow each other all the same, but events alone order them
    // with the host's. Without CL_QUEUE_PROFILING_ENABLE there are no marks (limits.timestamps is
    // 0).
    struct _cl_command_queue *queue;
} skim_opencl_options;

// Opens a device of Skim's own (selector), or uses the host's. Everything else as skim_device_open.
//   options  copied; may be NULL for the defaults
//   device   receives the device; close it with skim_device_close
// skim_device_info.selector is empty if the host's device is none of those that were found by UUID.
// Blocks while the driver initialises. Thread-safe.
// Errors: SKIM_INVALID (only one of context and device, or a queue without them; handles that do
// not belong together; a selector beside them; allocation_max below 65536; a selector of no OpenCL
// device), SKIM_NO_DEVICE (without a context of the host's: none that is usable, see the runtime's
// error), SKIM_UNSUPPORTED (the host's device lacks something: the error on the runtime names it),
// SKIM_NO_MEMORY, SKIM_FAILED.
SKIM_API skim_status skim_opencl_device_open(skim_runtime *runtime,
                                             const skim_opencl_options *options,
                                             skim_device **device);

// ---- buffers

// Makes a buffer of Skim's of a cl_mem of the host's, for use with all calls that take one.
//   memory  a buffer object of the context that the device uses, not a sub-buffer that begins at an
//           address the device cannot align to 16 bytes; retained until the buffer is destroyed,
//           which zeroes nothing
//   size    bytes of it to use, from its start, at most what it was created with
//   buffer  receives the buffer; destroy it with skim_buffer_destroy
// Whatever the host does to it elsewhere is ordered with Skim's work by a common queue, by events
// (below), or by waiting. Thread-safe.
// Errors: SKIM_INVALID, SKIM_UNSUPPORTED (the device is not an OpenCL device), SKIM_NO_MEMORY (of
// the host), SKIM_DEVICE_LOST.
SKIM_API skim_status skim_opencl_buffer_wrap(skim_device *device, struct _cl_mem *memory,
                                             uint64_t size, skim_buffer **buffer);

// ---- events

// What is recorded after this call runs after the event of the host's is complete, and sees what
// was done before. Counts as recorded work, so that a submission of nothing else has a point.
//   event  of the context that the device uses; the driver keeps it until then
// Does not block; but from then on, whatever blocks for this queue's work waits for the host as
// well. If the event ends with an error, so does the work that waits for it (SKIM_FAILED from a
// wait). Errors: SKIM_INVALID, SKIM_UNSUPPORTED (not an OpenCL device), SKIM_FAILED,
// SKIM_DEVICE_LOST.
SKIM_API skim_status skim_opencl_queue_wait_event(skim_queue *queue, struct _cl_event *event);

// Gives an event that is complete when all work recorded so far is done. Counts as recorded work.
//   event  receives it; the host releases it with clReleaseEvent
// A host that waits for it on another queue submits first (skim_queue_submit): what was not
// submitted need not begin. Does not block. Errors: as above.
SKIM_API skim_status skim_opencl_queue_get_event(skim_queue *queue, struct _cl_event **event);

#ifdef __cplusplus
}
#endif
#endif
