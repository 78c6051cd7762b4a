// The one interface that a backend implements, and the objects it shares with the core.
//
// The core has validated every argument before a backend sees it: a backend asserts. A backend sees
// devices, buffers, shapes, rows and the four verbs; it knows no sequences, no page allocation and
// no policy. docs/architecture.md says how each entry maps to CUDA, Vulkan and OpenCL.
//
// Every entry that can fail returns a status and leaves a sentence with skim_fail on the object's
// error.
#ifndef SKIM_BACKEND_H
#define SKIM_BACKEND_H

#include "runtime/error.h"
#include "runtime/memory.h"
#include "skim/cpu.h"
#include "skim/cuda.h"
#include "skim/opencl.h"
#include "skim/skim.h"
#include "skim/vulkan.h"

#include <stdatomic.h>
#include <stdbool.h>

typedef struct skim_backend skim_backend;

// What a backend uses of the host's: made once per runtime, lives as long as it.
typedef struct skim_host {
    skim_allocator allocator; // always complete; use skim_allocate and skim_release (memory.h)
    skim_log log;             // use skim_log_write (error.h)
    skim_store store;         // use skim_store_load and skim_store_save (store.h)
} skim_host;

struct skim_device {
    const skim_backend *backend;
    skim_runtime *runtime;
    const skim_host *host;
    skim_device_info info; // filled by open; memory_available is refreshed by memory_available
    skim_limits limits;    // filled by open, size_of included
    skim_error error;
    atomic_bool lost;    // sticky; set by the backend, every public call looks
    atomic_uint objects; // queues and buffers alive
    void *impl;          // the backend's own
};

struct skim_buffer {
    skim_device *device;
    uint64_t size;
    void *host;    // where the host can address it directly, or NULL
    uint64_t wipe; // bytes from its start that buffer_destroy sets to zero before it releases them
    bool whole;    // in one piece: all that is no keys, values or bounds, which alone may be split
    void *impl;
};

// As skim_buffer_create, of a buffer in one piece, or in several if the backend likes; or, with a
// handle, of one that wraps memory of the host's.
skim_status skim_buffer_make(skim_device *device, uint64_t size, bool whole, uint64_t handle,
                             skim_buffer **buffer);

// Destroys a buffer of the core's, whose first `used` bytes may hold what a model was told. NULL is
// ignored.
void skim_buffer_wipe(skim_buffer *buffer, uint64_t used);

// The part of a queue that backends see; the core's queue (runtime/queue.h) starts with it.
typedef struct skim_backend_queue {
    skim_device *device;
    skim_error error;
    skim_queue_counts counts; // a GPU backend counts
    void *stream; // the host's own (a CUstream) to record on; NULL: one of the backend's
    void *impl;
} skim_backend_queue;

// How a device is opened beyond its index. cpu, cuda, vulkan and opencl may be NULL. With a device
// of the host's in vulkan or opencl, or a context of its in cuda (whose options were checked), the
// index means nothing.
typedef struct skim_open_options {
    uint64_t disable;
    uint32_t threads;
    const skim_cpu_options *cpu;
    const skim_cuda_options *cuda;
    const skim_vulkan_options *vulkan;
    const skim_opencl_options *opencl;
} skim_open_options;

// In the args that reach a backend, every field is resolved: strides and scale are never 0, select
// and combine never AUTO or DEFAULT, shape->value_dim is set, and every tensor has a buffer, except
// that out and lse may have data instead when limits.unified_memory is set. Shapes, rows and tables
// were checked. args and shape live only for the call.
struct skim_backend {
    const char *name;

    // Devices. enumerate fills at most capacity infos (selector, backend, name, driver, type, uuid,
    // memory_total) and returns how many there are; with none it writes to reason why. It must not
    // fail hard on a missing driver.
    uint32_t (*enumerate)(const skim_host *host, skim_device_info *infos, uint32_t capacity,
                          char *reason, size_t reason_size);
    skim_status (*open)(skim_device *device, uint32_t index, const skim_open_options *options,
                        skim_error *error);
    void (*close)(skim_device *device);
    uint64_t (*memory_available)(const skim_device *device); // bytes, 0 if unknown; thread-safe

    // Memory. create has size set and fills impl and host. Thread-safe.
    skim_status (*buffer_create)(skim_buffer *buffer);
    void (*buffer_destroy)(skim_buffer *buffer);
    // Optional: as create, of memory that is and stays the host's (a VkBuffer, a CUdeviceptr, a
    // cl_mem).
    skim_status (*buffer_wrap)(skim_buffer *buffer, uint64_t handle);
    // Optional: where a buffer begins, as the host's own kernels see it (a CUdeviceptr).
    uint64_t (*buffer_address)(const skim_buffer *buffer);

    // Queues. destroy waits for submitted work.
    skim_status (*queue_create)(skim_backend_queue *queue);
    void (*queue_destroy)(skim_backend_queue *queue);

    // Sizes: pure functions of the shape and the device.
    uint64_t (*bounds_size)(const skim_device *device, const skim_shape *shape);
    uint64_t (*scratch_size)(const skim_device *device, const skim_shape *shape);
    // Builds kernels and grows the queue's scratch. Called with no work in flight.
    skim_status (*prepare)(skim_backend_queue *queue, const skim_shape *shape);

    // Recording. Data given to upload is consumed before it returns; a download's destination is
    // written by the time its submission is done.
    skim_status (*upload)(skim_backend_queue *queue, skim_buffer *buffer, uint64_t offset,
                          const void *data, uint64_t size);
    skim_status (*download)(skim_backend_queue *queue, skim_buffer *buffer, uint64_t offset,
                            void *data, uint64_t size);
    skim_status (*copy)(skim_backend_queue *queue, skim_buffer *source, uint64_t source_offset,
                        skim_buffer *destination, uint64_t destination_offset, uint64_t size);
    skim_status (*zero)(skim_backend_queue *queue, skim_buffer *buffer, uint64_t offset,
                        uint64_t size);
    skim_status (*mark)(skim_backend_queue *queue, uint32_t index);
    skim_status (*append)(skim_backend_queue *queue, const skim_append_args *args);
    skim_status (*estimate)(skim_backend_queue *queue, const skim_estimate_args *args);
    skim_status (*select)(skim_backend_queue *queue, const skim_select_args *args);
    skim_status (*attend)(skim_backend_queue *queue, const skim_attend_args *args);
    // Optional (NULL: the core records the three): estimate, select and attend of one call as one,
    // with the same results. The three args agree on shape, rows, table and buffers.
    skim_status (*decode)(skim_backend_queue *queue, const skim_estimate_args *estimate,
                          const skim_select_args *select, const skim_attend_args *attend);

    // Running. submit starts what was recorded and gives the point at which it is done; points
    // count up from 1. will_wait says that the caller waits next. wait: SKIM_TIMEOUT when the time
    // is up; SKIM_FAILED if work up to the point failed and the queue goes on (the core marks what
    // depended on it); SKIM_DEVICE_LOST, with lost set, if nothing can. mark_time: SKIM_STATE if
    // the mark was not reached. discard drops what was recorded since the last submission: it never
    // runs, or has run when discard returns.
    skim_status (*submit)(skim_backend_queue *queue, bool will_wait, uint64_t *point);
    skim_status (*wait)(skim_backend_queue *queue, uint64_t point, uint64_t timeout_ns);
    void (*discard)(skim_backend_queue *queue);
    skim_status (*mark_time)(skim_backend_queue *queue, uint32_t index, uint64_t *nanoseconds);
    // Optional: the next submission waits for, or signals, a semaphore of the host's. One that
    // holds nothing else has a point, too. discard drops it. (CUDA: an event, whose value means
    // nothing and which takes its place among what was recorded. OpenCL: waits for an event.)
    skim_status (*semaphore)(skim_backend_queue *queue, uint64_t handle, uint64_t value,
                             bool signals);
    // Optional: an event of the driver's, the host's to release, for what was recorded so far.
    skim_status (*event)(skim_backend_queue *queue, uint64_t *handle);
};

#endif
