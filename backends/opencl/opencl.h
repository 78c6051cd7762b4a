// The OpenCL backend's own objects, shared by its files.
#ifndef SKIM_OPENCL_OPENCL_H
#define SKIM_OPENCL_OPENCL_H

#include "backends/gpu/launch.h"
#include "backends/opencl/loader.h"
#include "runtime/backend.h"
#include "runtime/memory.h"

extern const skim_backend skim_backend_opencl;

enum {
    SKIM_OPENCL_DEVICES_MAX = 32,
    SKIM_OPENCL_PIECES_MAX = 8,      // of a buffer: a kernel takes each as an argument
    SKIM_OPENCL_THREADS = 64,        // of a work-group, but on a CPU
    SKIM_OPENCL_PREFILL_QUERIES = 8, // that a work-group takes at once
    SKIM_OPENCL_NEAR_KEYS = 4096     // pages whose keys of order select keeps in local memory
};

// ---- programs

typedef enum skim_opencl_kernel {
    SKIM_OPENCL_APPEND,
    SKIM_OPENCL_CENTRE,
    SKIM_OPENCL_ESTIMATE,
    SKIM_OPENCL_SELECT,
    SKIM_OPENCL_ATTEND,
    SKIM_OPENCL_MERGE,
    SKIM_OPENCL_PREFILL,
    SKIM_OPENCL_KERNELS
} skim_opencl_kernel;

// What a kernel is built for; 0 in all that it does not look at.
typedef struct skim_opencl_constants {
    uint32_t type, dim, bounds, bounds_type;
    uint32_t heads;       // query heads, or queries of prefill, that a group serves at once
    uint32_t keys;        // select: pages whose keys lie in local memory; 1: none
    uint32_t chunk_shift; // log2 of the bytes of a buffer's piece; 0: all in one
} skim_opencl_constants;

// A program of one kernel, as the device keeps it.
typedef struct skim_opencl_program {
    skim_opencl_kernel kernel;
    skim_opencl_constants constants;
    cl_program handle;
    bool saved; // in the store, or from it
} skim_opencl_program;

typedef struct skim_opencl_programs {
    skim_mutex mutex; // of all below
    skim_opencl_program *items;
    uint32_t count, capacity;
} skim_opencl_programs;

// ---- the device

typedef struct skim_opencl_device {
    skim_device *base;
    void *library;
    skim_opencl_functions cl;
    cl_device_id handle;
    cl_context context;
    cl_command_queue service; // that touches and wipes memory
    cl_mem nothing;           // an argument where a kernel is given none
    cl_command_queue shared;  // the host's, of all queues; or NULL
    bool unordered;           // shared is out of order
    bool profiles;            // queues tell when commands ended
    skim_mutex service_mutex;
    uint32_t threads; // of a work-group; 1: kernels of the shape for a CPU
    uint32_t compute_units;
    uint64_t allocation_max; // bytes of the driver's largest allocation
    uint32_t chunk_shift;    // log2 of the bytes of a piece of a buffer
    atomic_ullong held;      // bytes of device memory
    skim_opencl_programs programs;
} skim_opencl_device;

static inline skim_opencl_device *skim_opencl_device_of(const skim_device *device)
{
    return device->impl;
}

// A result of OpenCL's that is no success, as a status with a sentence. Notes a lost device.
skim_status skim_opencl_fail(skim_device *device, skim_error *error, cl_int result,
                             const char *call);

// Finds a program, or builds it: from the store's binary, else from source.
skim_status skim_opencl_program_get(skim_opencl_device *device, skim_opencl_kernel kernel,
                                    const skim_opencl_constants *constants, skim_error *error,
                                    cl_program *program);
// Keeps what was built from source in the host's store. After the kernels ran once: some drivers
// compile only then.
void skim_opencl_programs_save(skim_opencl_device *device);
void skim_opencl_programs_deinit(skim_opencl_device *device);
const char *skim_opencl_kernel_name(skim_opencl_kernel kernel);

// The constants of a kernel that follow from a shape and how pages are selected.
skim_opencl_constants skim_opencl_constants_of(const skim_opencl_device *device,
                                               const skim_shape *shape, skim_opencl_kernel kernel,
                                               skim_select_mode select);

// ---- memory

// A buffer's memory: one piece, or several of 2^chunk_shift bytes (the last may be smaller).
typedef struct skim_opencl_buffer {
    uint32_t count;
    bool wrapped; // the host's
    cl_mem pieces[SKIM_OPENCL_PIECES_MAX];
    uint64_t sizes[SKIM_OPENCL_PIECES_MAX];
} skim_opencl_buffer;

static inline const skim_opencl_buffer *skim_opencl_buffer_of(const skim_buffer *buffer)
{
    return buffer->impl;
}

uint64_t skim_opencl_memory_available(const skim_device *device);
// Device memory in one piece, which the driver has really allocated.
skim_status skim_opencl_piece_create(skim_device *device, uint64_t size, skim_error *error,
                                     cl_mem *piece);
void skim_opencl_piece_destroy(skim_opencl_device *device, cl_mem piece, uint64_t size);
skim_status skim_opencl_buffer_create(skim_buffer *buffer);
void skim_opencl_buffer_destroy(skim_buffer *buffer);

// ---- the host's own objects (interop.c)

// Takes the host's context, device and queue.
skim_status skim_opencl_import(skim_opencl_device *device, const skim_opencl_options *options,
                               skim_error *error);
skim_status skim_opencl_buffer_wrap_handle(skim_buffer *buffer, uint64_t handle);
skim_status skim_opencl_queue_wait_for(skim_backend_queue *queue, uint64_t handle, uint64_t value,
                                       bool signals);
skim_status skim_opencl_queue_event(skim_backend_queue *queue, uint64_t *handle);

// ---- verbs

// Most parts that a list is attended in: no more than keep the device busy (wanted, whatever the
// rows), and no more than fit.
uint32_t skim_opencl_parts_wanted(const skim_opencl_device *device, const skim_shape *shape);
uint32_t skim_opencl_parts(const skim_opencl_device *device, const skim_shape *shape);

skim_status skim_opencl_append(skim_backend_queue *queue, const skim_append_args *args);
skim_status skim_opencl_estimate(skim_backend_queue *queue, const skim_estimate_args *args);
skim_status skim_opencl_select(skim_backend_queue *queue, const skim_select_args *args);
skim_status skim_opencl_attend(skim_backend_queue *queue, const skim_attend_args *args);

#endif
