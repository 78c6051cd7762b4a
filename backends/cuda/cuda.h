// The CUDA backend's own objects, shared by its files.
#ifndef SKIM_CUDA_CUDA_H
#define SKIM_CUDA_CUDA_H

#include "backends/cuda/loader.h"
#include "backends/gpu/launch.h"
#include "runtime/backend.h"
#include "runtime/memory.h"
#include "shaders/cuda/launch.h"

extern const skim_backend skim_backend_cuda;

// ---- kernels

typedef enum skim_cuda_verb {
    SKIM_CUDA_APPEND,
    SKIM_CUDA_CENTRE,
    SKIM_CUDA_ESTIMATE,
    SKIM_CUDA_SELECT,
    SKIM_CUDA_ATTEND,
    SKIM_CUDA_PREFILL,
    SKIM_CUDA_PREFILL_TENSOR,
} skim_cuda_verb;

// Which launch of select (shaders/cuda/kernels.h).
typedef enum skim_cuda_select_kernel {
#define SKIM_CUDA_SELECT_ENUM(name) SKIM_CUDA_SELECT_##name,
    SKIM_CUDA_SELECT_KERNELS(SKIM_CUDA_SELECT_ENUM)
#undef SKIM_CUDA_SELECT_ENUM
} skim_cuda_select_kernel;

// What a kernel is built for; what its verb does not care about is 0.
typedef struct skim_cuda_kernel {
    skim_cuda_verb verb;
    uint32_t type;  // skim_type; of estimate the columns', 4 for int8; of select its launch
    uint32_t dim;   // 0: a general kernel
    uint32_t heads; // at once; of append 2 * skim_bounds_type + skim_bounds
} skim_cuda_kernel;

typedef struct skim_cuda_kernels {
    CUmodule module;
    skim_mutex mutex;      // of functions
    CUfunction *functions; // by their place in the list of kernels; NULL: not yet looked up
} skim_cuda_kernels;

// ---- the device

typedef struct skim_cuda_device {
    skim_device *base;
    skim_cuda_functions cuda;
    CUdevice device;
    CUcontext context; // the primary one, retained, or the host's
    bool retained;
    skim_cuda_kernels kernels;
} skim_cuda_device;

static inline skim_cuda_device *skim_cuda_device_of(const skim_device *device)
{
    return device->impl;
}

// Makes the device's context the thread's, and the one that was the thread's again. What lies
// between may not fail without leaving.
skim_status skim_cuda_enter(skim_cuda_device *device, skim_error *error);
void skim_cuda_leave(skim_cuda_device *device);

// A result of CUDA's that is no success, as a status with a sentence. Notes a lost device: after
// most errors of a kernel its context is of no use any more.
skim_status skim_cuda_fail(skim_cuda_device *device, skim_error *error, CUresult result,
                           const char *call);
bool skim_cuda_is_lost(CUresult result);

// Within the context.
skim_status skim_cuda_kernels_init(skim_cuda_device *device, skim_error *error);
void skim_cuda_kernels_deinit(skim_cuda_device *device);
// Finds a kernel in the module, or looks it up and has it loaded.
skim_status skim_cuda_kernel_get(skim_cuda_device *device, const skim_cuda_kernel *kernel,
                                 skim_error *error, CUfunction *function);

// What a shape takes.
skim_cuda_kernel skim_cuda_append_kernel(const skim_shape *shape);
skim_cuda_kernel skim_cuda_centre_kernel(const skim_shape *shape);
skim_cuda_kernel skim_cuda_estimate_kernel(const skim_cuda_device *device, const skim_shape *shape);
skim_cuda_kernel skim_cuda_attend_kernel(const skim_cuda_device *device, const skim_shape *shape,
                                         skim_select_mode select);
skim_cuda_kernel skim_cuda_prefill_kernel(const skim_cuda_device *device, const skim_shape *shape);
// Prefill on tensor cores: whether a shape can have it. A call can if its queries have the shape's
// type, and its results that type or bf16.
bool skim_cuda_has_tensor_kernel(const skim_cuda_device *device, const skim_shape *shape);
skim_cuda_kernel skim_cuda_tensor_kernel(const skim_shape *shape);
static inline skim_cuda_kernel skim_cuda_select_kernel_of(skim_cuda_select_kernel launch)
{
    return (skim_cuda_kernel){.verb = SKIM_CUDA_SELECT, .type = launch};
}

// ---- memory

// Memory of the device.
typedef struct skim_cuda_memory {
    CUdeviceptr address; // 0: none
    uint64_t size;
    bool wrapped; // the host's
} skim_cuda_memory;

uint64_t skim_cuda_memory_available(const skim_device *device);
// Within the context. One that fails leaves nothing.
skim_status skim_cuda_memory_create(skim_cuda_device *device, uint64_t size, skim_error *error,
                                    skim_cuda_memory *memory);
void skim_cuda_memory_destroy(skim_cuda_device *device, skim_cuda_memory *memory);
skim_status skim_cuda_buffer_create(skim_buffer *buffer);
void skim_cuda_buffer_destroy(skim_buffer *buffer);

// Where a byte of a buffer is; 0 without a buffer.
static inline CUdeviceptr skim_cuda_address(const skim_buffer *buffer, uint64_t offset)
{
    return buffer ? ((const skim_cuda_memory *)buffer->impl)->address + offset : 0;
}

// ---- the host's own objects (interop.c)

skim_status skim_cuda_buffer_wrap_address(skim_buffer *buffer, uint64_t address);
uint64_t skim_cuda_buffer_begin(const skim_buffer *buffer);
skim_status skim_cuda_queue_event(skim_backend_queue *queue, uint64_t handle, uint64_t value,
                                  bool records);

// ---- verbs

uint64_t skim_cuda_scratch_size(const skim_device *device, const skim_shape *shape);

// How a list of many pages is cut into segments of candidates; one segment: it is not.
typedef struct skim_cuda_segments {
    uint32_t count, length;
} skim_cuda_segments;

skim_cuda_segments skim_cuda_segments_of(const skim_shape *shape);

// Where, in a queue's scratch, the launches of select keep what they tell each other.
typedef struct skim_cuda_select_places {
    uint64_t keys, sums, counts, states, ranks, end; // bytes from its start
} skim_cuda_select_places;

skim_cuda_select_places skim_cuda_select_places_of(const skim_shape *shape);

skim_status skim_cuda_append(skim_backend_queue *queue, const skim_append_args *args);
skim_status skim_cuda_estimate(skim_backend_queue *queue, const skim_estimate_args *args);
skim_status skim_cuda_select(skim_backend_queue *queue, const skim_select_args *args);
skim_status skim_cuda_attend(skim_backend_queue *queue, const skim_attend_args *args);

#endif
